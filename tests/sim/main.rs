//! The whole core over in-memory streams, with a seed for everything and a model beside it.
//!
//! | file | what it owns |
//! |---|---|
//! | `pipe` | a socket's stand-in: edges, bounded buffers, faults |
//! | `wire` | a client's bytes |
//! | `world` | the core, its peers, the time |
//! | `world::hearing` | every peer holds what it hears against what it is owed |
//! | `model` | what a room is: one log, of which each reader has a piece |
//! | `seeds` | what happens under a seed |
//! | `scenarios` | stories with a name, and bugs |
//!
//! `SIM_SEED=123 cargo test --test sim` replays one seed.

mod model;
mod pipe;
mod scenarios;
mod seeds;
mod wire;
mod world;

use std::time::{Duration, Instant};

/// Names the seed when its run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {0}: replay with  SIM_SEED={0} cargo test --test sim", self.0);
        }
    }
}

fn run(seed: u64) -> u64 {
    let _named = Named(seed);
    seeds::run(seed)
}

#[test]
fn seeds() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let seed = seed.parse().expect("SIM_SEED is a number");
        assert_eq!(run(seed), run(seed), "the same seed gives the same bytes");
        return;
    }
    let slow = std::env::var_os("SLOW_TESTS").is_some();
    let (count, time) = if slow { (1000, 120) } else { (40, 4) };
    let start = Instant::now();
    let mut done = 0;
    for seed in 0..count {
        let hash = run(seed);
        if seed % 8 == 0 {
            assert_eq!(hash, run(seed), "seed {seed} gives the same bytes");
        }
        done += 1;
        if start.elapsed() > Duration::from_secs(time) {
            break;
        }
    }
    eprintln!("{done} seeds in {:?}", start.elapsed());
}
