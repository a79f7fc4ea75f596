//! The figures that a change to the server is judged by.
//!
//! Owns which they are, how each is taken, and what is wished for. A trial is one round of one or
//! two of them: the server, and what it is held against right before or after.

use std::fs;
use std::time::Duration;

use crate::Result;
use crate::machine::{Cores, Effort};
use crate::options::Options;
use crate::server::Server;
use crate::table::{Goal, Sample, Table};
use crate::talk::{self, Heard, Load, Pace, Span};
use crate::{idle, rest};

/// Where measuring takes place.
pub struct Lab {
    pub options: Options,
    pub cores: Option<Cores>,
    pub span: Span,
    round: usize,
}

/// What two have come to, and how much the one that was disturbed more had to wait.
struct Both<T> {
    server: T,
    other: T,
    disturbance: f64,
}

/// Who waits for a core for less than this share of the time that it has it, is not disturbed.
const CALM: f64 = 0.05;

/// How often to measure at most until nobody disturbs.
const ATTEMPTS: usize = 3;

/// A name, and what takes its figures.
type Trial = (&'static str, fn(&Lab) -> Result<Vec<Sample>>);

const TRIALS: &[Trial] = &[
    ("1x100", |lab| lab.cpu(["1x100: CPU a delivery", "1x100: at once"], 1, 100, 16, 1.0)),
    ("1x1000", |lab| lab.cpu(["1x1000: CPU a delivery", "1x1000: at once"], 1, 1000, 16, 1.0)),
    ("100x10", |lab| lab.cpu(["100x10: CPU a delivery", "100x10: at once"], 100, 10, 16, 1.15)),
    ("1000x2", |lab| lab.cpu(["1000x2: CPU a delivery", "1000x2: at once"], 1000, 2, 2, 1.15)),
    ("flood", Lab::flood),
    ("latency", Lab::latency),
    ("rest", Lab::rest),
    ("idle", Lab::idle),
    ("empty", Lab::empty),
    ("size", Lab::size),
    ("quiet", Lab::quiet),
];

pub fn measure(options: &Options) -> Result<()> {
    options.check_names(&TRIALS.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
    if options.against.is_some() && options.process.is_none() {
        eprintln!("without --pid: no figures for processor and memory");
    }
    let mut lab = Lab::open(options)?;
    let mut table = Table::default();
    for round in 0..options.rounds {
        lab.round = round;
        for (name, take) in TRIALS.iter().filter(|(name, _)| options.wants(name)) {
            eprintln!("round {} of {}: {name}", round + 1, options.rounds);
            let samples = take(&lab).map_err(|error| format!("{name}: {error}"))?;
            samples.into_iter().for_each(|sample| table.add(sample));
        }
    }
    print!("{table}");
    Ok(())
}

impl Lab {
    pub fn open(options: &Options) -> Result<Lab> {
        let cores = Cores::choose()?;
        match cores {
            Some(cores) => cores.pin_this_process()?,
            None => eprintln!("one core for both: the generator takes the server's time"),
        }
        let warm_up = options.measured.min(Duration::from_secs(1)) / 2;
        Ok(Lab {
            options: options.clone(),
            cores,
            span: Span { warm_up, measured: options.measured },
            round: 0,
        })
    }

    /// Ours, or what ours is to be replaced by.
    fn server(&self) -> Result<Server> {
        match &self.options.against {
            Some(url) => Server::of_somebody_else(url, self.options.process),
            None => self.release(&[]),
        }
    }

    /// A fresh server with these flags besides the usual ones.
    pub fn release(&self, flags: &[&str]) -> Result<Server> {
        Server::release(&self.options.binary, self.cores, flags)
    }

    pub fn yardstick(&self, coalesce: bool) -> Result<Server> {
        Server::yardstick(self.cores, coalesce)
    }

    /// Two, one after the other; who is first changes from round to round.
    fn both<T>(
        &self,
        server: impl Fn() -> Result<(T, Effort)>,
        other: impl Fn() -> Result<(T, Effort)>,
    ) -> Result<Both<T>> {
        let (server, other) = if self.round % 2 == 0 {
            let server = self.calmly(server)?;
            (server, self.calmly(other)?)
        } else {
            let other = self.calmly(other)?;
            (self.calmly(server)?, other)
        };
        let disturbance = server.1.max(other.1);
        Ok(Both { server: server.0, other: other.0, disturbance })
    }

    /// Measures again if somebody else had the core meanwhile, and keeps the calmest.
    fn calmly<T>(&self, take: impl Fn() -> Result<(T, Effort)>) -> Result<(T, f64)> {
        let with_disturbance = |(value, effort): (T, Effort)| (value, effort.disturbance());
        let mut calmest = with_disturbance(take()?);
        let again = if self.options.short { 0 } else { ATTEMPTS - 1 };
        for _ in 0..again {
            if calmest.1 <= CALM {
                break;
            }
            let next = with_disturbance(take()?);
            if next.1 < calmest.1 {
                calmest = next;
            }
        }
        Ok(calmest)
    }

    fn talk(&self, load: Load, coalesce: bool) -> Result<Both<Heard>> {
        let measure = |server: Server| {
            let heard = talk::measure(&server, load, self.span)?;
            let effort = heard.effort;
            Ok((heard, effort))
        };
        self.both(|| measure(self.server()?), || measure(self.yardstick(coalesce)?))
    }

    fn cpu(
        &self,
        [figure, at_once]: [&'static str; 2],
        rooms: usize,
        members: usize,
        window: usize,
        ratio_max: f64,
    ) -> Result<Vec<Sample>> {
        let load = Load { rooms, members, pace: Pace::Window(window) };
        let Both { server, other, disturbance } = self.talk(load, true)?;
        let at_once = Sample {
            figure: at_once,
            unit: "deliveries a read",
            server: server.deliveries_per_read(),
            other: Some(other.deliveries_per_read()),
            goal: Goal::None,
            disturbance: Some(disturbance),
        };
        let Some(micros) = server.cpu_micros_per_delivery() else { return Ok(vec![at_once]) };
        let cpu = Sample {
            figure,
            unit: "µs",
            server: micros,
            other: other.cpu_micros_per_delivery(),
            goal: Goal::RatioAtMost(ratio_max),
            disturbance: Some(disturbance),
        };
        Ok(vec![cpu, at_once])
    }

    fn flood(&self) -> Result<Vec<Sample>> {
        let load = Load { rooms: 1, members: 100, pace: Pace::Window(64) };
        let Both { server, other, disturbance } = self.talk(load, true)?;
        Ok(vec![Sample {
            figure: "flood, 1x100, window 64",
            unit: "deliveries/s",
            server: server.per_second(),
            other: Some(other.per_second()),
            goal: Goal::RatioAtLeast(0.95),
            disturbance: Some(disturbance),
        }])
    }

    fn latency(&self) -> Result<Vec<Sample>> {
        let load = Load { rooms: 1, members: 100, pace: Pace::PerSecond(200) };
        let Both { server, other, disturbance } = self.talk(load, false)?;
        let sample = |figure, share| Sample {
            figure,
            unit: "µs",
            server: server.latency_micros(share),
            other: Some(other.latency_micros(share)),
            goal: Goal::RatioAtMost(1.15),
            disturbance: Some(disturbance),
        };
        Ok(vec![
            sample("1x100, 200 messages/s: latency, p50", 0.50),
            sample("1x100, 200 messages/s: latency, p99", 0.99),
        ])
    }

    /// A mix, against the health alone of the same server.
    fn rest(&self) -> Result<Vec<Sample>> {
        let server = self.server()?;
        let mix = rest::mix(&server)?;
        let health = mix.get(2..).ok_or("the health is last")?;
        let Both { server, other, disturbance } = self.both(
            || rest::per_second(&server, &mix, self.span),
            || rest::per_second(&server, health, self.span),
        )?;
        Ok(vec![Sample {
            figure: "REST mix, against /health alone",
            unit: "answers/s",
            server,
            other: Some(other),
            goal: Goal::RatioAtLeast(0.85),
            disturbance: Some(disturbance),
        }])
    }

    fn sockets(&self) -> usize {
        if self.options.short { 500 } else { 10_000 }
    }

    fn idle(&self) -> Result<Vec<Sample>> {
        if self.options.against.is_some() && self.options.process.is_none() {
            return Ok(Vec::new());
        }
        // One crowd at a time: two would need more descriptors than many a process is allowed.
        let bytes =
            |server: Server| Result::Ok(idle::gather(&server, self.sockets())?.bytes_per_socket);
        let (server, other) = (bytes(self.server()?)?, bytes(self.yardstick(true)?)?);
        Ok(vec![Sample {
            figure: "an idle socket, used, all included",
            unit: "bytes",
            server,
            other: Some(other),
            goal: Goal::AtMost(1000.0),
            disturbance: None,
        }])
    }

    fn empty(&self) -> Result<Vec<Sample>> {
        if self.options.against.is_some() {
            return Ok(Vec::new());
        }
        Ok(vec![Sample {
            figure: "an empty server",
            unit: "KiB resident",
            server: self.server()?.resident()? as f64 / 1024.0,
            other: Some(self.yardstick(true)?.resident()? as f64 / 1024.0),
            goal: Goal::AtMost(2560.0),
            disturbance: None,
        }])
    }

    /// No change from round to round, so once.
    fn size(&self) -> Result<Vec<Sample>> {
        if self.round > 0 || self.options.against.is_some() {
            return Ok(Vec::new());
        }
        Ok(vec![Sample {
            figure: "the binary",
            unit: "KiB",
            server: fs::metadata(&self.options.binary)?.len() as f64 / 1024.0,
            other: None,
            goal: Goal::AtMost(800.0),
            disturbance: None,
        }])
    }

    /// A minute of silence, once.
    fn quiet(&self) -> Result<Vec<Sample>> {
        if self.round > 0 || self.options.against.is_some() {
            return Ok(Vec::new());
        }
        let server = self.release(&["--ping-interval", "1h"])?;
        let _idle = idle::gather(&server, self.sockets())?;
        let (figure, seconds) = match self.options.short {
            true => ("500 idle sockets, 1 s", 1),
            false => ("10,000 idle sockets, 60 s", 60),
        };
        let length = Duration::from_secs(seconds);
        Ok(vec![Sample {
            figure,
            unit: "context switches",
            server: idle::context_switches(&server, length)? as f64,
            other: None,
            goal: Goal::AtMost(0.0),
            disturbance: None,
        }])
    }
}
