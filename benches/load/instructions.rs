//! How many instructions the server executes for each message, each coming and going, and each
//! request, counted by callgrind.
//!
//! Owns the whole paths that are counted. Must not read a clock: a count is the same on a busy
//! machine, so two builds can be compared to within a percent, which times do not allow.
//!
//! The invariant: the server does the same work in every run. It serves in one tick what it finds
//! in its sockets, so it is stopped (SIGSTOP) while each round is written, and continued when the
//! whole round is there. A member sends at most six messages, because one that sends more than a
//! person moves to the background lane, at a time that depends on the clock. Callgrind counts only
//! these rounds, and neither starting nor connecting. Instructions in the kernel are not counted.

use std::path::Path;

use crate::counts::{self, Keeping, can_count, collected};
use crate::options::Options;
use crate::server::{BINARY, Server};
use crate::traffic::{Load, Pace, Traffic};
use crate::{Result, churn, http, rest};

/// A path through the whole server.
struct Counted {
    name: &'static str,
    /// How often a round takes it.
    per_round: usize,
    rounds: usize,
    /// Connects, and has callgrind count so many rounds.
    count: fn(&Server, usize) -> Result<()>,
}

const PATHS: &[Counted] = &[
    Counted {
        name: "message in 100x10",
        per_round: 100,
        rounds: 50,
        count: |server, rounds| messages(server, [100, 10], rounds),
    },
    Counted {
        name: "message in 1000x2",
        per_round: 1000,
        rounds: 10,
        count: |server, rounds| messages(server, [1000, 2], rounds),
    },
    Counted {
        name: "connect, join, one message, close",
        per_round: churn::SLOTS,
        rounds: 30,
        count: churn::count,
    },
    Counted {
        name: "GET /health",
        per_round: rest::CONNECTIONS,
        rounds: 100,
        count: |server, rounds| rest::count(server, &[http::get("/health", None)], rounds),
    },
];

pub fn measure(options: &Options) -> Result<()> {
    options.check_names(&PATHS.iter().map(|path| path.name).collect::<Vec<_>>())?;
    if options.keeping != Keeping::Ignore && options.binary != Path::new(BINARY) {
        return Err("--check and --update are for the server built here, not for --server".into());
    }
    if !can_count(options.keeping)? {
        return Ok(());
    }
    let mut measured = Vec::new();
    for path in PATHS.iter().filter(|path| options.wants(path.name)) {
        let all = count(&options.binary, |server| (path.count)(server, path.rounds))
            .map_err(|error| format!("{}: {error}", path.name))?;
        let each = all / (path.rounds * path.per_round) as f64;
        measured.push((format!("load: {}", path.name), each));
    }
    counts::settle("load", &measured, options.only.is_empty(), options.keeping)
}

/// The runs of each path, of which the least count is taken. What the server does at intervals of
/// time, such as reading its memory, only adds to a count, and more of it on a busy machine.
const RUNS: usize = 3;

/// The instructions of what `run` passes to [`Server::count`].
fn count(binary: &Path, run: impl Fn(&Server) -> Result<()>) -> Result<f64> {
    let mut least = u64::MAX;
    for _ in 0..RUNS {
        let server = Server::under_callgrind(binary)?;
        run(&server)?;
        least = least.min(collected(&server.stop()?)?);
    }
    Ok(least as f64)
}

/// The instructions of a message in 100x10 on a server that `prepare` has connected to.
pub fn message_after<T>(binary: &Path, prepare: impl Fn(&Server) -> Result<T>) -> Result<f64> {
    const LOAD: [usize; 2] = [100, 10];
    const ROUNDS: usize = 50;
    let all = count(binary, |server| {
        let _prepared = prepare(server)?;
        messages(server, LOAD, ROUNDS)
    })?;
    Ok(all / (LOAD[0] * ROUNDS) as f64)
}

/// Messages in some rooms with some members.
fn messages(server: &Server, [rooms, members]: [usize; 2], rounds: usize) -> Result<()> {
    let load = Load { rooms, members, pace: Pace::Window(1) };
    let (mut clients, mut traffic) = Traffic::connect(server, load)?;
    traffic.run_in_rounds(&mut clients, server, WARM_UP)?;
    server.count(|| traffic.run_in_rounds(&mut clients, server, rounds))
}

/// Rounds that are not counted.
const WARM_UP: usize = 2;
