//! What this machine says of a process, and which core it runs on.
//!
//! Owns every look into `/proc` and the few system calls that measuring needs. Must never know what
//! a process serves. Time on a core is what to trust on a machine that does other things too: it
//! does not grow because somebody else was busy. What grows then is `waited`, so it is reported
//! beside.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::Result;

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// On a core, in its own code and in the kernel.
    pub cpu: Duration,
    /// Ready to run while somebody else had the core: on a quiet machine, next to nothing.
    pub waited: Duration,
}

impl Usage {
    /// Of a process and all its threads. Nanoseconds, where `/proc/PID/stat` has hundredths of a
    /// second; who runs at the moment is counted up to the kernel's last tick, four milliseconds
    /// ago at most. So a tenth of a second is enough to see that it works, and a second to measure.
    pub fn of(process: u32) -> Result<Usage> {
        let mut sum = Usage::default();
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let mut nanos = text.split_whitespace().map(str::parse);
            sum.cpu += Duration::from_nanos(nanos.next().ok_or("no time on a core")??);
            sum.waited += Duration::from_nanos(nanos.next().ok_or("no time waited")??);
        }
        Ok(sum)
    }

    fn since(self, before: Usage) -> Usage {
        let cpu = self.cpu.saturating_sub(before.cpu);
        Usage { cpu, waited: self.waited.saturating_sub(before.waited) }
    }
}

/// Reads both clocks when what counts begins, and again when it ends.
pub struct Meter {
    from: Instant,
    process: Option<u32>,
    server: Option<Usage>,
    generator: Usage,
}

impl Meter {
    /// The server's process, if it is known.
    pub fn start(process: Option<u32>) -> Result<Meter> {
        let server = process.map(Usage::of).transpose()?;
        let generator = Usage::of(process::id())?;
        Ok(Meter { from: Instant::now(), process, server, generator })
    }

    pub fn stop(self) -> Result<Effort> {
        let took = self.from.elapsed();
        let server = self.process.map(Usage::of).transpose()?;
        let server = server.zip(self.server).map(|(after, before)| after.since(before));
        let generator = Usage::of(process::id())?.since(self.generator);
        Ok(Effort { took, server, generator })
    }
}

/// What a measurement took.
#[derive(Clone, Copy)]
pub struct Effort {
    pub took: Duration,
    pub server: Option<Usage>,
    pub generator: Usage,
}

impl Effort {
    /// How long whoever was disturbed more had to wait for its core, against how long it had it.
    pub fn disturbance(&self) -> f64 {
        let share = |usage: Usage| usage.waited.as_secs_f64() / usage.cpu.as_secs_f64();
        self.server.map_or(0.0, share).max(share(self.generator))
    }
}

/// Bytes of memory that a process has. `VmRSS` in `/proc/PID/status` is quicker to read, and may be
/// off by as much as a quarter of a megabyte.
pub fn resident(process: u32) -> Result<u64> {
    let kib = value(&format!("/proc/{process}/smaps_rollup"), "Rss:")?;
    Ok(kib * 1024)
}

/// How often a process has begun to run or ceased to, whether it wanted or not.
pub fn context_switches(process: u32) -> Result<u64> {
    let status = format!("/proc/{process}/status");
    Ok(value(&status, "voluntary_ctxt_switches:")? + value(&status, "nonvoluntary_ctxt_switches:")?)
}

fn value(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    Ok(word.ok_or_else(|| format!("{path} has no {name}"))?.parse()?)
}

/// A core for the server and another for the generator: neither is moved about, and neither takes
/// the other's time.
#[derive(Clone, Copy)]
pub struct Cores {
    server: usize,
    generator: usize,
}

impl Cores {
    /// The first and the last that this process may use; none if there is only one.
    pub fn choose() -> Result<Option<Cores>> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let (server, generator) = (cores.next(), cores.next_back());
        Ok(server.zip(generator).map(|(server, generator)| Cores { server, generator }))
    }

    pub fn pin_this_process(self) -> io::Result<()> {
        pin(None, self.generator)
    }

    pub fn pin_server(self, process: u32) -> io::Result<()> {
        pin(i32::try_from(process).ok().and_then(Pid::from_raw), self.server)
    }
}

fn pin(process: Option<Pid>, core: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(core);
    Ok(sched_setaffinity(process, &only)?)
}

/// As many descriptors as are allowed; the servers inherit it.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// A descriptor that is readable once per `gap`: poll's own timeout knows milliseconds only.
pub fn metronome(gap: Duration) -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    let seconds = i64::try_from(gap.as_secs()).map_err(io::Error::other)?;
    let gap = Timespec { tv_sec: seconds, tv_nsec: gap.subsec_nanos().into() };
    let spec = Itimerspec { it_interval: gap, it_value: gap };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
    Ok(timer)
}
