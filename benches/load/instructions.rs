//! How many instructions the server executes for one chat message, counted by callgrind.
//!
//! Owns the loads and the arithmetic. Must not read a clock: a count is the same on a busy machine,
//! so two builds can be compared to within a percent, which times do not allow.
//!
//! The invariant: the server does the same work in every run. It coalesces the messages that it
//! finds in its sockets in one tick, so it is stopped (SIGSTOP) while each round is written and
//! continued when the whole round is in its sockets. Two runs differ only in the number of rounds,
//! and the difference of their counts is the cost of the additional messages: starting, connecting
//! and stopping cancel out. Instructions in the kernel are not counted.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::options::Options;
use crate::server::{Server, VALGRIND};
use crate::traffic::{Load, Pace, Traffic};

struct Case {
    name: &'static str,
    load: Load,
    /// Messages that each room is sent in a round.
    at_once: usize,
    /// Rounds of the shorter and of the longer run.
    rounds: [usize; 2],
}

const CASES: &[Case] = &[
    Case { name: "100x10", load: load(100, 10), at_once: 1, rounds: [20, 220] },
    Case { name: "100x10, 16 at once", load: load(100, 10), at_once: 16, rounds: [5, 20] },
    Case { name: "1000x2", load: load(1000, 2), at_once: 1, rounds: [5, 45] },
];

/// With `--short`, the number of rooms and of rounds is divided by this.
const SHORT: usize = 5;

const fn load(rooms: usize, members: usize) -> Load {
    Load { rooms, members, pace: Pace::Window(1) }
}

pub fn measure(options: &Options) -> Result<()> {
    options.check_names(&CASES.iter().map(|case| case.name).collect::<Vec<_>>())?;
    if Command::new(VALGRIND).arg("--version").output().is_err() {
        eprintln!("skipped: instructions are counted by valgrind, which is not installed");
        return Ok(());
    }
    println!("| rooms x members | messages | instructions per message | per delivery |");
    println!("|---|---|---|---|");
    for case in CASES.iter().filter(|case| options.wants(case.name)) {
        let Case { name, mut load, at_once, mut rounds } = *case;
        if options.short {
            load.rooms /= SHORT;
            rounds = rounds.map(|rounds| rounds / SHORT);
        }
        let [few, many] = rounds;
        let run = |rounds| {
            run(&options.binary, load, at_once, rounds).map_err(|error| format!("{name}: {error}"))
        };
        let instructions = run(many)? - run(few)?;
        let messages = ((many - few) * at_once * load.rooms) as f64;
        let each = instructions as f64 / messages;
        let members = load.members as f64;
        println!("| {name} | {messages} | {each:.0} | {:.0} |", each / members);
    }
    Ok(())
}

/// The instructions of a whole run: start, connect, `rounds`, stop.
fn run(binary: &Path, load: Load, at_once: usize, rounds: usize) -> Result<u64> {
    let server = Server::under_callgrind(binary)?;
    let (mut clients, mut traffic) = Traffic::connect_one_by_one(&server, load)?;
    for _ in 0..rounds {
        server.pause()?;
        for room in 0..load.rooms * at_once {
            traffic.send(&mut clients, room % load.rooms)?;
        }
        server.resume()?;
        traffic.wait_for_deliveries(&mut clients)?;
    }
    // The clients stay connected, because the cost of disconnecting them varies with their order.
    let output = server.stop()?;
    collected(&output).ok_or_else(|| format!("callgrind has not reported a count: {output}").into())
}

/// From callgrind's last lines, `==PID== Collected : COUNT`.
fn collected(output: &str) -> Option<u64> {
    let line = output.lines().rev().find(|line| line.contains("Collected"))?;
    line.rsplit(' ').next()?.parse().ok()
}
