//! How many instructions the server executes for each message, each coming and going, and each
//! request, counted by callgrind.
//!
//! Owns the whole paths that are counted. Must not read a clock: a count is the same on a busy
//! machine, so two builds can be compared to within a percent, which times do not allow.
//!
//! The invariant: the server does the same work in every run. It serves in one tick what it finds
//! in its sockets, so it is stopped (SIGSTOP) while each round is written, and continued when the
//! whole round is there. A member sends at most a dozen messages, because one that sends more than a
//! person moves to the background lane, at a time that depends on the clock. Two runs differ only in the number of rounds, and the difference of their
//! counts is the cost of the additional rounds: starting, connecting and stopping cancel out.
//! Instructions in the kernel are not counted.

use crate::counts::{self, Keeping, can_count, collected};
use crate::options::Options;
use crate::server::{BINARY, Server};
use crate::traffic::{Load, Pace, Traffic};
use crate::{Result, churn, http, rest};

/// A path through the whole server.
struct Path {
    name: &'static str,
    /// How often a round takes it.
    per_round: usize,
    /// Rounds of the shorter and of the longer run.
    rounds: [usize; 2],
    run: fn(&Server, usize) -> Result<()>,
}

const PATHS: &[Path] = &[
    Path {
        name: "message in 100x10",
        per_round: 100,
        rounds: [10, 110],
        run: |server, rounds| messages(server, [100, 10], rounds),
    },
    Path {
        name: "message in 1000x2",
        per_round: 1000,
        rounds: [2, 12],
        run: |server, rounds| messages(server, [1000, 2], rounds),
    },
    Path {
        name: "connect, join, one message, close",
        per_round: churn::SLOTS,
        rounds: [5, 35],
        run: churn::run_in_rounds,
    },
    Path {
        name: "GET /health",
        per_round: rest::CONNECTIONS,
        rounds: [5, 105],
        run: |server, rounds| rest::run_in_rounds(server, &[http::get("/health", None)], rounds),
    },
];

pub fn measure(options: &Options) -> Result<()> {
    options.check_names(&PATHS.iter().map(|path| path.name).collect::<Vec<_>>())?;
    if options.keeping != Keeping::Ignore && options.binary != std::path::Path::new(BINARY) {
        return Err("--check and --update are for the server built here, not for --server".into());
    }
    if !can_count(options.keeping)? {
        return Ok(());
    }
    let mut measured = Vec::new();
    for path in PATHS.iter().filter(|path| options.wants(path.name)) {
        let run = |rounds| {
            let server = Server::under_callgrind(&options.binary)?;
            (path.run)(&server, rounds)?;
            // Clients stay connected until here, because the cost of disconnecting varies with their order.
            collected(&server.stop()?)
        };
        let of_round = counts::per_repetition(path.rounds, run)
            .map_err(|error| format!("{}: {error}", path.name))?;
        measured.push((format!("load: {}", path.name), of_round / path.per_round as f64));
    }
    counts::settle("load", &measured, options.only.is_empty(), options.keeping)
}

/// Messages in each of some rooms with some members, so many at once in a room.
fn messages(server: &Server, [rooms, members]: [usize; 2], rounds: usize) -> Result<()> {
    let load = Load { rooms, members, pace: Pace::Window(1) };
    let (mut clients, mut traffic) = Traffic::connect_one_by_one(server, load)?;
    for _ in 0..rounds {
        server.pause()?;
        for room in 0..rooms {
            traffic.send(&mut clients, room)?;
        }
        server.resume()?;
        traffic.wait_for_deliveries(&mut clients)?;
    }
    Ok(())
}
