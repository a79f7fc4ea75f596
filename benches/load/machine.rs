//! What the kernel reports about a process, and the core that it runs on.
//!
//! Owns the access to `/proc` and the system calls of the measurements. Must not know what a process
//! serves. The invariant: figures are processor time, which does not grow when other processes are
//! busy. What does grow then is `waited`, so it is reported too.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{self, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::Result;

/// What a process has used since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time, in its own code and in the kernel.
    pub cpu: Duration,
    /// The time it was ready to run but had no core; almost zero on a quiet machine.
    pub waited: Duration,
}

impl Usage {
    /// The usage of a process with all its threads, in nanoseconds (`/proc/PID/stat` has hundredths
    /// of a second). A running thread is counted up to the kernel's last tick, at most 4 ms ago, so
    /// a measurement should last a second.
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

    /// The time waited for a core, relative to the processor time.
    fn disturbance(self) -> f64 {
        self.waited.as_secs_f64() / self.cpu.as_secs_f64()
    }

    fn since(self, before: Usage) -> Usage {
        let cpu = self.cpu.saturating_sub(before.cpu);
        Usage { cpu, waited: self.waited.saturating_sub(before.waited) }
    }

    fn plus(self, other: Usage) -> Usage {
        Usage { cpu: self.cpu + other.cpu, waited: self.waited + other.waited }
    }
}

/// Reads the usage of server and generator at the start and at the end of a measurement.
pub struct Meter {
    from: Instant,
    process: Option<u32>,
    server: Option<Usage>,
    generator: Usage,
}

impl Meter {
    /// Without a process, the usage of the server is unknown.
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

/// The time that a measurement took.
#[derive(Clone, Copy)]
pub struct Effort {
    pub took: Duration,
    pub server: Option<Usage>,
    pub generator: Usage,
}

impl Effort {
    pub fn plus(self, other: Effort) -> Effort {
        Effort {
            took: self.took + other.took,
            server: self.server.zip(other.server).map(|(one, other)| one.plus(other)),
            generator: self.generator.plus(other.generator),
        }
    }

    /// The disturbance of the server or the generator, whichever is larger.
    pub fn disturbance(&self) -> f64 {
        self.server_disturbance().max(self.generator.disturbance())
    }

    pub fn server_disturbance(&self) -> f64 {
        self.server.map_or(0.0, Usage::disturbance)
    }
}

/// The resident memory of a process in bytes. `VmRSS` in `/proc/PID/status` is faster to read but may
/// be wrong by a quarter of a megabyte.
pub fn resident(process: u32) -> Result<u64> {
    let kib = value(&format!("/proc/{process}/smaps_rollup"), "Rss:")?;
    Ok(kib * 1024)
}

/// The voluntary and involuntary context switches of a process.
pub fn context_switches(process: u32) -> Result<u64> {
    let status = format!("/proc/{process}/status");
    Ok(wake_ups(process)? + value(&status, "nonvoluntary_ctxt_switches:")?)
}

/// The voluntary context switches of a process: how often it has waited for something.
pub fn wake_ups(process: u32) -> Result<u64> {
    value(&format!("/proc/{process}/status"), "voluntary_ctxt_switches:")
}

fn value(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    Ok(word.ok_or_else(|| format!("{path} has no {name}"))?.parse()?)
}

/// One core for the server and another for the generator, so that they do not disturb each other.
#[derive(Clone, Copy)]
pub struct Cores {
    server: usize,
    generator: usize,
}

impl Cores {
    /// The first and the last core that this process may use; `None` if there is only one.
    pub fn choose() -> Result<Option<Cores>> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let (server, generator) = (cores.next(), cores.next_back());
        Ok(server.zip(generator).map(|(server, generator)| Cores { server, generator }))
    }

    /// The same cores in the other roles, for servers that are not measured.
    pub fn swapped(self) -> Cores {
        Cores { server: self.generator, generator: self.server }
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

/// Real-time priority for this process and for those that it starts meanwhile, until this is dropped.
/// On a machine with other work, latencies would otherwise measure the kernel's scheduler. Only for a
/// load that leaves both cores mostly idle.
pub struct RealTime(());

impl RealTime {
    /// `other` is one more process. `None`, with a warning, without the right to it.
    pub fn begin(other: Option<u32>) -> Option<RealTime> {
        let is_set = [Some(process::id()), other]
            .into_iter()
            .flatten()
            .all(|process| set_policy(&["--fifo", "--pid", "1"], process));
        if !is_set {
            eprintln!("warning: no real-time priority (chrt, as root): other work delays messages");
        }
        is_set.then_some(RealTime(()))
    }
}

impl Drop for RealTime {
    fn drop(&mut self) {
        set_policy(&["--other", "--pid", "0"], process::id());
    }
}

/// By a program of util-linux, because no safe crate has this system call.
fn set_policy(arguments: &[&str], process: u32) -> bool {
    let done = Command::new("chrt").args(arguments).arg(process.to_string()).output();
    done.is_ok_and(|done| done.status.success())
}

/// Raises the limit on descriptors to the maximum. Child processes inherit it.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// A descriptor that becomes readable once per `gap`. The timeout of poll has only milliseconds.
pub fn ticker(gap: Duration) -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    let seconds = i64::try_from(gap.as_secs()).map_err(io::Error::other)?;
    let gap = Timespec { tv_sec: seconds, tv_nsec: gap.subsec_nanos().into() };
    let spec = Itimerspec { it_interval: gap, it_value: gap };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
    Ok(timer)
}
