//! Simulation: the server's whole core over in-memory streams, with a plain model beside it.
//!
//! | file | what it owns |
//! |---|---|
//! | `pipe` | a socket's stand-in: bounded buffers, edges, faults of the network |
//! | `wire` | the bytes that a peer sends, and the parsing of what it receives |
//! | `world` | the core, its peers and the clocks |
//! | `world::checks` | each peer compares what it receives with what it must receive |
//! | `model` | the log of a room, of which each reader receives one unbroken part |
//! | `seeds` | many peers act at the same time |
//! | `town` | one action at a time, so that a model predicts every response |
//! | `town::model` | what a chat server does, with lists that are searched from front to back |
//! | `squeeze` | peers that fill the memory, beside others that must not be affected |
//! | `chaos` | connections that break again and again, with nothing lost |
//! | `waves` | many users that come and go over days, and leave nothing behind |
//! | `pauses` | a server that did not run for a while |
//! | `under_way` | messages that are begun and finished late or never |
//! | `crowd` | rooms of more than a thousand connections, and what one tick does for them |
//! | `scenarios` | single situations, and the bugs that were found |
//! | `cluster` | several servers over one model store (feature `cluster`) |
//!
//! This module runs each simulation with several seeds. The seed decides everything that happens, so
//! a run that is repeated gives the same bytes; a test that used a clock, a hash map's order or
//! another source of chance would break that. `SIM_SEED=7 cargo test --test sim model_predicts`
//! replays one seed of one test; a failure prints such a command. `SLOW_TESTS=1` runs up to a
//! thousand seeds. `.ci/mutations` plants bugs to show that the simulation finds them.

mod chaos;
#[cfg(feature = "cluster")]
mod cluster;
mod crowd;
mod model;
mod pauses;
mod pipe;
mod scenarios;
mod seeds;
mod squeeze;
#[cfg(feature = "cluster")]
#[path = "../store/mod.rs"]
mod store;
mod town;
mod under_way;
mod waves;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Prints how to replay a seed, if its run panics.
struct ReplayHint(&'static str, u64);

impl Drop for ReplayHint {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let ReplayHint(test, seed) = self;
            eprintln!("seed {seed}: replay with  SIM_SEED={seed} cargo test --test sim {test}");
        }
    }
}

fn is_slow() -> bool {
    std::env::var_os("SLOW_TESTS").is_some()
}

/// How many seeds of a test run: by default, and under `SLOW_TESTS=1` if the time allows it.
struct Seeds {
    quick: u64,
    slow: u64,
    /// Seeds that have found a fault. They always run, before the others.
    pinned: &'static [u64],
}

const SLOW_TIME_MAX: Duration = Duration::from_secs(25);

/// Runs the seeds of a test, or only the one that `SIM_SEED` names. Some are run twice, to show
/// that the seed decides everything. Returns the results, and whether there are enough of them that
/// rare events must be among them.
fn run<T: PartialEq + Debug>(
    test: &'static str,
    seeds: Seeds,
    run: impl Fn(u64) -> T,
) -> (Vec<T>, bool) {
    let run = |seed| {
        let _hint = ReplayHint(test, seed);
        run(seed)
    };
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let seed = seed.parse().expect("SIM_SEED is a number");
        let facts = run(seed);
        assert_eq!(facts, run(seed), "the same seed gives the same bytes");
        return (vec![facts], false);
    }
    let count = if is_slow() { seeds.slow } else { seeds.quick };
    let start = Instant::now();
    let mut all = Vec::new();
    let others = (0..count).filter(|seed| !seeds.pinned.contains(seed));
    for seed in seeds.pinned.iter().copied().chain(others) {
        let facts = run(seed);
        if seed % 16 == 3 {
            assert_eq!(facts, run(seed), "seed {seed} of {test} gives the same bytes");
        }
        all.push(facts);
        if is_slow() && all.len() >= seeds.pinned.len() && start.elapsed() > SLOW_TIME_MAX {
            break;
        }
    }
    eprintln!("{test}: {} seeds in {:?}", all.len(), start.elapsed());
    let are_enough = all.len() as u64 >= seeds.quick;
    (all, are_enough)
}

#[test]
fn peers_that_act_at_the_same_time_receive_the_same_messages() {
    let test = "peers_that_act_at_the_same_time_receive_the_same_messages";
    run(test, Seeds { quick: 20, slow: 1000, pinned: &[] }, seeds::run);
}

#[test]
fn every_response_and_close_is_the_one_that_the_model_predicts() {
    let test = "every_response_and_close_is_the_one_that_the_model_predicts";
    let (all, are_enough) = run(test, Seeds { quick: 50, slow: 1000, pinned: &[] }, town::run);
    let mut outcomes = BTreeMap::new();
    for (outcome, times) in all.iter().flat_map(|facts| &facts.outcomes) {
        *outcomes.entry(*outcome).or_insert(0) += times;
    }
    eprintln!("{outcomes:?}");
    assert!(!are_enough || outcomes.keys().eq(&town::OUTCOMES), "an outcome has not occurred");
    assert!(!are_enough || all.iter().any(|facts| facts.deadlines > 0));
    assert!(!are_enough || all.iter().any(|facts| facts.expired > 0));
}

#[test]
fn memory_stays_below_its_ceiling_and_other_peers_are_not_affected() {
    let test = "memory_stays_below_its_ceiling_and_other_peers_are_not_affected";
    let (all, are_enough) = run(test, Seeds { quick: 5, slow: 100, pinned: &[] }, squeeze::run);
    let sum = |of: fn(&squeeze::Facts) -> u64| all.iter().map(of).sum::<u64>();
    let (forgotten, shed) = (sum(|facts| facts.forgotten), sum(|facts| facts.shed));
    eprintln!("{forgotten} messages forgotten, {shed} connections shed");
    assert!(!are_enough || forgotten > 0 && shed > 0, "the memory was never short");
}

/// How often each of the connections in `chaos` breaks, and how many messages are sent meanwhile.
fn chaos_size() -> (usize, usize) {
    if is_slow() { (30, 2000) } else { (10, 600) }
}

#[test]
fn nothing_is_lost_or_repeated_while_connections_keep_breaking() {
    let test = "nothing_is_lost_or_repeated_while_connections_keep_breaking";
    let (breaks, messages) = chaos_size();
    let run_seed = |seed| chaos::run(seed, breaks, messages, 5000);
    for facts in run(test, Seeds { quick: 1, slow: 20, pinned: &[] }, run_seed).0 {
        assert_eq!((facts.breaks, facts.repeated), (25 * breaks, 0));
        assert!(facts.paged > 0 && facts.resent > 0, "not enough happened: {facts:?}");
    }
}

#[test]
fn a_resume_from_before_a_short_history_reports_the_loss() {
    let test = "a_resume_from_before_a_short_history_reports_the_loss";
    let (breaks, messages) = chaos_size();
    let run_seed = |seed| chaos::run(seed, breaks, messages, 60);
    for facts in run(test, Seeds { quick: 1, slow: 20, pinned: &[] }, run_seed).0 {
        assert_eq!(facts.breaks, 25 * breaks);
        assert!(facts.incomplete > 0 && facts.resent > 0, "not enough happened: {facts:?}");
    }
}

#[test]
fn sessions_that_come_and_go_in_waves_leave_nothing_behind() {
    let (sessions, wave_max) = if is_slow() { (100_000, 2000) } else { (2000, 500) };
    let start = Instant::now();
    waves::come_and_go(7, sessions, wave_max);
    eprintln!("{sessions} sessions in {:?}", start.elapsed());
    assert_eq!(waves::come_and_go(8, 500, 100), waves::come_and_go(8, 500, 100));
}

#[test]
fn sessions_and_rooms_that_expire_give_back_their_memory() {
    let count = if is_slow() { 20_000 } else { 1000 };
    let start = Instant::now();
    let peaks = waves::at_once(9, count, 3);
    assert!(peaks.iter().all(|peak| *peak == peaks[0]), "each wave needs as much: {peaks:?}");
    eprintln!("3 times {count} sessions and rooms, {} bytes, in {:?}", peaks[0], start.elapsed());
}

#[test]
fn a_day_of_visitors_leaves_nothing_behind() {
    let hours = if is_slow() { 24 * 7 } else { 24 };
    let start = Instant::now();
    let pings = waves::day(10, hours);
    eprintln!("{hours} hours in {:?}, {pings} pings", start.elapsed());
    assert!(pings > 0);
}
