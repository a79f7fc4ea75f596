//! The figures by which a change to the server is judged.
//!
//! Owns the list of figures, how each is measured, and its goal. Must not know how the table is
//! printed. The invariant: a trial measures the server and the yardstick one right after the other,
//! so that both run under the same conditions.

use std::fs;
use std::time::Duration;

use crate::Result;
use crate::machine::{Cores, Effort, RealTime};
use crate::options::Options;
use crate::server::Server;
use crate::table::{Goal, Sample, Table};
use crate::traffic::{self, Delivered, Load, Pace, Span};
use crate::{churn, http, idle, rest};

/// The conditions of all measurements.
pub struct Lab {
    pub options: Options,
    pub cores: Option<Cores>,
    pub span: Span,
    round: usize,
}

/// Two results, and the larger disturbance of both (see [`Effort::disturbance`]).
pub struct Both<T> {
    pub server: T,
    pub other: T,
    pub disturbance: f64,
}

/// A measurement with a smaller disturbance (see [`Effort::disturbance`]) is not repeated.
const UNDISTURBED_MAX: f64 = 0.05;

/// At most this many measurements are made to find an undisturbed one.
const ATTEMPTS: usize = 3;

/// The name of a trial, and the function that runs it.
pub type Trial = (&'static str, fn(&Lab) -> Result<Vec<Sample>>);

const TRIALS: &[Trial] = &[
    ("1x100", |lab| lab.cpu(["1x100: CPU per delivery", "1x100: coalescing"], 1, 100, 16, 0.9)),
    ("1x1000", |lab| {
        lab.cpu(["1x1000: CPU per delivery", "1x1000: coalescing"], 1, 1000, 16, 0.95)
    }),
    ("100x10", |lab| {
        lab.cpu(["100x10: CPU per delivery", "100x10: coalescing"], 100, 10, 16, 1.06)
    }),
    ("1000x2", |lab| lab.cpu(["1000x2: CPU per delivery", "1000x2: coalescing"], 1000, 2, 2, 1.2)),
    ("flood", Lab::flood),
    ("latency 1x100", |lab| {
        let figures =
            ["1x100, 200 messages/s: latency, p50", "1x100, 200 messages/s: latency, p99"];
        lab.latency(figures, 1, 100, 200)
    }),
    ("latency 100x10", |lab| {
        let figures =
            ["100x10, 1000 messages/s: latency, p50", "100x10, 1000 messages/s: latency, p99"];
        lab.latency(figures, 100, 10, 1000)
    }),
    ("churn", Lab::churn),
    ("rest", |lab| lab.requests("REST mix: CPU per request", true)),
    ("health", |lab| lab.requests("GET /health: CPU per request", false)),
    ("idle", Lab::idle),
    ("empty", Lab::empty),
    ("size", Lab::size),
    ("quiet", Lab::quiet),
];

pub fn measure(options: &Options) -> Result<()> {
    if options.against.is_some() && options.process.is_none() {
        eprintln!("without --pid there are no figures for processor time and memory");
    }
    run(options, TRIALS)
}

/// Measures the figures in rounds, and prints the table.
pub fn run(options: &Options, trials: &[Trial]) -> Result<()> {
    options.check_names(&trials.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
    let mut lab = Lab::open(options)?;
    let mut table = Table::default();
    for round in 0..options.rounds {
        lab.round = round;
        for (name, take) in trials.iter().filter(|(name, _)| options.wants(name)) {
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
            None => eprintln!("warning: the generator shares the only core with the server"),
        }
        let warm_up = options.measured.min(Duration::from_secs(1)) / 2;
        Ok(Lab {
            options: options.clone(),
            cores,
            span: Span { warm_up, measured: options.measured },
            round: 0,
        })
    }

    /// The measured server: a fresh one, or the one of `--against`.
    fn server(&self) -> Result<Server> {
        match &self.options.against {
            Some(url) => Server::running(url, self.options.process),
            None => self.release(&[]),
        }
    }

    /// A fresh server, with additional flags.
    pub fn release(&self, flags: &[&str]) -> Result<Server> {
        Server::release(&self.options.binary, self.cores, flags)
    }

    pub fn yardstick(&self, coalesce: bool) -> Result<Server> {
        Server::yardstick(self.cores, coalesce)
    }

    /// Measures two, one after the other. The order changes from round to round.
    pub fn both<T>(
        &self,
        server: impl Fn() -> Result<(T, Effort)>,
        other: impl Fn() -> Result<(T, Effort)>,
    ) -> Result<Both<T>> {
        let (server, other) = if self.round % 2 == 0 {
            let server = self.undisturbed(server)?;
            (server, self.undisturbed(other)?)
        } else {
            let other = self.undisturbed(other)?;
            (self.undisturbed(server)?, other)
        };
        let disturbance = server.1.max(other.1);
        Ok(Both { server: server.0, other: other.0, disturbance })
    }

    /// Repeats a measurement that was disturbed, and keeps the least disturbed one.
    pub fn undisturbed<T>(&self, take: impl Fn() -> Result<(T, Effort)>) -> Result<(T, f64)> {
        let with_disturbance = |(value, effort): (T, Effort)| (value, effort.disturbance());
        let mut best = with_disturbance(take()?);
        let again = if self.options.short { 0 } else { ATTEMPTS - 1 };
        for _ in 0..again {
            if best.1 <= UNDISTURBED_MAX {
                break;
            }
            let next = with_disturbance(take()?);
            if next.1 < best.1 {
                best = next;
            }
        }
        Ok(best)
    }

    fn traffic(&self, load: Load, coalesce: bool) -> Result<Both<Delivered>> {
        let measure = |server: Server| {
            let delivered = traffic::measure(&server, load, self.span)?;
            let effort = delivered.effort;
            Ok((delivered, effort))
        };
        self.both(|| measure(self.server()?), || measure(self.yardstick(coalesce)?))
    }

    fn cpu(
        &self,
        [figure, coalescing]: [&'static str; 2],
        rooms: usize,
        members: usize,
        window: usize,
        ratio_max: f64,
    ) -> Result<Vec<Sample>> {
        let load = Load { rooms, members, pace: Pace::Window(window) };
        let Both { server, other, disturbance } = self.traffic(load, true)?;
        let coalescing = Sample {
            figure: coalescing,
            unit: "deliveries per read",
            server: server.deliveries_per_read(),
            other: Some(other.deliveries_per_read()),
            goal: Goal::None,
            disturbance: Some(disturbance),
        };
        let Some(micros) = server.cpu_micros_per_delivery() else { return Ok(vec![coalescing]) };
        let cpu = Sample {
            figure,
            unit: "µs",
            server: micros,
            other: other.cpu_micros_per_delivery(),
            goal: Goal::RatioAtMost(ratio_max),
            disturbance: Some(disturbance),
        };
        Ok(vec![cpu, coalescing])
    }

    fn flood(&self) -> Result<Vec<Sample>> {
        let load = Load { rooms: 1, members: 100, pace: Pace::Window(64) };
        let Both { server, other, disturbance } = self.traffic(load, true)?;
        Ok(vec![Sample {
            figure: "flood, 1x100, window 64",
            unit: "deliveries/s",
            server: server.per_second(),
            other: Some(other.per_second()),
            goal: Goal::RatioAtLeast(0.95),
            disturbance: Some(disturbance),
        }])
    }

    /// At a fixed rate, with real-time priority. All figures are compared with the form of the
    /// yardstick that writes each message at once.
    fn latency(
        &self,
        figures: [&'static str; 2],
        rooms: usize,
        members: usize,
        rate: u32,
    ) -> Result<Vec<Sample>> {
        let load = Load { rooms, members, pace: Pace::PerSecond(rate) };
        let _real_time = RealTime::begin(self.options.process);
        let Both { server, other, disturbance } = self.traffic(load, false)?;
        let sample = |figure, share, ratio_max| Sample {
            figure,
            unit: "µs",
            server: server.latency_micros(share),
            other: Some(other.latency_micros(share)),
            goal: Goal::RatioAtMost(ratio_max),
            disturbance: Some(disturbance),
        };
        let [median, high] = figures;
        Ok(vec![sample(median, 0.50, 1.1), sample(high, 0.99, 1.25)])
    }

    /// Coming and going; the goal is the largest ratio of processor time.
    fn churn(&self) -> Result<Vec<Sample>> {
        let Both { server, other, disturbance } = self.both(
            || churn::cpu_micros(&self.server()?, self.span),
            || churn::cpu_micros(&self.yardstick(true)?, self.span),
        )?;
        Ok(vec![Sample {
            figure: "connect, join, one message, close: CPU per cycle",
            unit: "µs",
            server,
            other: Some(other),
            goal: Goal::RatioAtMost(1.3),
            disturbance: Some(disturbance),
        }])
    }

    /// `GET /health`, or a mix of requests.
    fn requests(&self, figure: &'static str, is_mix: bool) -> Result<Vec<Sample>> {
        let measure = |server: Server| {
            let health = || Ok(vec![http::get("/health", None)]);
            let requests = if is_mix { rest::mix(&server) } else { health() }?;
            let answered = rest::measure(&server, &requests, self.span)?;
            let effort = answered.effort;
            Result::Ok((answered.cpu_micros_per_answer(), effort))
        };
        let Both { server, other, disturbance } =
            self.both(|| measure(self.server()?), || measure(self.yardstick(true)?))?;
        let Some(server) = server else { return Ok(Vec::new()) };
        let goal = Goal::None;
        let disturbance = Some(disturbance);
        Ok(vec![Sample { figure, unit: "µs", server, other, goal, disturbance }])
    }

    fn sockets(&self) -> usize {
        if self.options.short { 500 } else { 10_000 }
    }

    fn idle(&self) -> Result<Vec<Sample>> {
        if self.options.against.is_some() && self.options.process.is_none() {
            return Ok(Vec::new());
        }
        // One after the other: both together may exceed the limit on descriptors.
        let bytes =
            |server: Server| Result::Ok(idle::connect(&server, self.sockets())?.bytes_per_socket);
        let (server, other) = (bytes(self.server()?)?, bytes(self.yardstick(true)?)?);
        Ok(vec![Sample {
            figure: "memory per idle socket, all included",
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
            figure: "memory of an empty server",
            unit: "KiB resident",
            server: self.server()?.resident()? as f64 / 1024.0,
            other: Some(self.yardstick(true)?.resident()? as f64 / 1024.0),
            goal: Goal::AtMost(2560.0),
            disturbance: None,
        }])
    }

    /// Measured in the first round only, as it does not change.
    fn size(&self) -> Result<Vec<Sample>> {
        if self.round > 0 || self.options.against.is_some() {
            return Ok(Vec::new());
        }
        Ok(vec![Sample {
            figure: "size of the binary",
            unit: "KiB",
            server: fs::metadata(&self.options.binary)?.len() as f64 / 1024.0,
            other: None,
            goal: Goal::AtMost(800.0),
            disturbance: None,
        }])
    }

    /// One minute with idle sockets, in the first round only.
    fn quiet(&self) -> Result<Vec<Sample>> {
        if self.round > 0 || self.options.against.is_some() {
            return Ok(Vec::new());
        }
        let server = self.release(&["--ping-interval", "1h"])?;
        let _idle = idle::connect(&server, self.sockets())?;
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
