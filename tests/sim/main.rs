//! The whole core over in-memory streams, with a seed for everything and a model beside it.
//!
//! | file | what it owns |
//! |---|---|
//! | `pipe` | a socket's stand-in: edges, bounded buffers, faults |
//! | `wire` | a client's bytes |
//! | `world` | the core, its peers, the time |
//! | `world::hearing` | every peer holds what it hears against what it is owed |
//! | `model` | what a room is: one log, of which each reader has a piece |
//! | `seeds` | what happens under a seed, all at once |
//! | `town` | what happens one by one, and every answer foretold |
//! | `town::model` | what a server of chats is, in lists |
//! | `squeeze` | strangers who want all memory there is, and people who don't |
//! | `chaos` | lines that break again and again, with nothing lost |
//! | `waves` | crowds that come and go, days that pass, and nothing that is left |
//! | `scenarios` | stories with a name, and bugs |
//!
//! `SIM_SEED=123 cargo test --test sim` replays one seed of every story, and whoever fails says
//! which. `SLOW_TESTS=1` runs a thousand. `.ci/mutations` shows that they find something.

mod chaos;
mod model;
mod pipe;
mod scenarios;
mod seeds;
mod squeeze;
mod town;
mod waves;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Names the story and the seed when its run panics.
struct Named(&'static str, u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Named(story, seed) = self;
            eprintln!("seed {seed}: replay with  SIM_SEED={seed} cargo test --test sim {story}");
        }
    }
}

fn is_slow() -> bool {
    std::env::var_os("SLOW_TESTS").is_some()
}

/// Runs the seed that is asked for; or so many, or as many as so many seconds allow, those for
/// slow if that is asked for. Some are run again and must come to the same, to the byte. Returns
/// also whether they are so many that all that there is must have been met.
fn run<T: PartialEq + std::fmt::Debug>(
    story: &'static str,
    [few, many]: [(u64, u64); 2],
    run: impl Fn(u64) -> T,
) -> (Vec<T>, bool) {
    let run = |seed| {
        let _named = Named(story, seed);
        run(seed)
    };
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let seed = seed.parse().expect("SIM_SEED is a number");
        let facts = run(seed);
        assert_eq!(facts, run(seed), "the same seed gives the same bytes");
        return (vec![facts], false);
    }
    let (count, seconds) = if is_slow() { many } else { few };
    let start = Instant::now();
    let mut all = Vec::new();
    for seed in 0..count {
        let facts = run(seed);
        if seed % 8 == 7 {
            assert_eq!(facts, run(seed), "seed {seed} of {story} gives the same bytes");
        }
        all.push(facts);
        if start.elapsed() > Duration::from_secs(seconds) {
            break;
        }
    }
    eprintln!("{story}: {} seeds in {:?}", all.len(), start.elapsed());
    let are_many = all.len() as u64 >= few.0;
    (all, are_many)
}

#[test]
fn seeds() {
    run("seeds", [(40, 60), (1000, 120)], seeds::run);
}

/// Every answer is foretold by a plain model, while all limits are near.
#[test]
fn town() {
    let (all, are_many) = run("town", [(50, 60), (1000, 60)], town::run);
    let mut told = BTreeMap::new();
    for (answer, times) in all.iter().flat_map(|facts| &facts.told) {
        *told.entry(*answer).or_insert(0) += times;
    }
    eprintln!("{told:?}");
    assert!(!are_many || told.keys().eq(&town::TOLD), "not everything was met");
    assert!(!are_many || all.iter().any(|facts| facts.deadlines > 0));
}

/// No more is kept than the ceiling allows, and nobody suffers who has not deserved it.
#[test]
fn squeeze() {
    let (all, are_many) = run("squeeze", [(10, 60), (100, 60)], squeeze::run);
    let sum = |of: fn(&squeeze::Facts) -> u64| all.iter().map(of).sum::<u64>();
    let (forgotten, shed) = (sum(|facts| facts.forgotten), sum(|facts| facts.shed));
    eprintln!("{forgotten} messages forgotten, {shed} connections shed");
    assert!(!are_many || forgotten > 0 && shed > 0, "memory was not short");
}

/// 20 readers and 5 writers break their lines 30 times each while 2000 messages are said.
#[test]
fn chaos() {
    for facts in run("chaos", [(1, 60), (20, 60)], |seed| chaos::run(seed, 5000)).0 {
        assert_eq!((facts.breaks, facts.twice), (25 * 30, 0));
        assert!(facts.paged > 0 && facts.resent > 0, "that was no chaos: {facts:?}");
    }
}

/// The same where less is kept than is missed: who lost something is told so, and nobody else.
#[test]
fn chaos_with_a_short_history() {
    let story = "chaos_with_a_short_history";
    for facts in run(story, [(1, 60), (20, 60)], |seed| chaos::run(seed, 60)).0 {
        assert_eq!(facts.breaks, 25 * 30);
        assert!(facts.incomplete > 0 && facts.resent > 0, "that was no chaos: {facts:?}");
    }
}

#[test]
fn a_hundred_thousand_sessions_come_and_go_and_nothing_is_left() {
    let (sessions, crowd) = if is_slow() { (100_000, 2000) } else { (2000, 500) };
    let start = Instant::now();
    waves::come_and_go(7, sessions, crowd);
    eprintln!("{sessions} sessions in {:?}", start.elapsed());
    assert_eq!(waves::come_and_go(8, 500, 100), waves::come_and_go(8, 500, 100));
}

#[test]
fn twenty_thousand_sessions_and_rooms_leave_what_there_was() {
    let count = if is_slow() { 20_000 } else { 1000 };
    let start = Instant::now();
    let peaks = waves::at_once(9, count, 3);
    assert!(peaks.iter().all(|peak| *peak == peaks[0]), "one wave is like the other: {peaks:?}");
    eprintln!("3 times {count} sessions and rooms, {} bytes, in {:?}", peaks[0], start.elapsed());
}

#[test]
fn a_day_ends_with_everything_empty() {
    let hours = if is_slow() { 24 * 7 } else { 24 };
    let start = Instant::now();
    let asked = waves::day(10, hours);
    eprintln!("{hours} hours in {:?}, {asked} pings", start.elapsed());
    assert!(asked > 0);
}
