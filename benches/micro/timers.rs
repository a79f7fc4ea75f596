//! A million timers, as on a server with a million sessions.

use std::time::Duration;

use disposable_chat::clock::{Mono, SeededEntropy};
use disposable_chat::timers::{GRAIN, Timer, TimerKey, Timers};
use divan::Bencher;
use divan::counter::ItemsCount;

use crate::repeat;

const COUNT: u32 = 1_000_000;

#[derive(Clone, Copy)]
#[expect(dead_code, reason = "the payload makes it as large as a real timer; nothing reads it")]
enum Lease {
    Short(u32),
    Long(u32),
}

impl Timer for Lease {
    type Config = [Duration; 2];
    fn class(self, [short, long]: &[Duration; 2]) -> (usize, Duration) {
        match self {
            Lease::Short(_) => (0, *short),
            Lease::Long(_) => (1, *long),
        }
    }
}

fn timers() -> Timers<Lease> {
    Timers::new([Duration::from_secs(20), Duration::from_secs(24 * 3600)])
}

/// A million timers of the long class, armed within minutes.
fn armed() -> (Timers<Lease>, Vec<TimerKey>, Mono) {
    armed_timers(COUNT)
}

fn armed_timers(count: u32) -> (Timers<Lease>, Vec<TimerKey>, Mono) {
    let (mut timers, mut now) = (timers(), Mono::ZERO);
    let arm = |owner| {
        now = now.after(Duration::from_micros(200));
        timers.arm(Lease::Long(owner), now)
    };
    let keys = (0..count).map(arm).collect();
    (timers, keys, now)
}

/// From none to a million, including the growth of the lists.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn arm_a_million(bencher: Bencher) {
    bencher.counter(ItemsCount::new(COUNT)).bench_local(|| {
        let (timers, keys, _) = armed();
        assert_eq!(timers.len(), keys.len());
        timers
    });
}

/// Arms and cancels one more.
#[divan::bench]
fn arm_and_cancel(bencher: Bencher) {
    let (mut timers, _, now) = armed();
    timers.arm(Lease::Short(0), now); // Keeps the last page of slots allocated.
    bencher.bench_local(|| {
        let key = timers.arm(Lease::Short(1), now);
        assert!(timers.cancel(key), "it is armed");
    });
    assert_eq!(timers.len(), COUNT as usize + 1);
}

/// Re-arms a random timer in a new grain, so that it moves to another place of its list. Touches
/// three entries of a slab that is larger than the caches.
#[divan::bench]
fn rearm_any(bencher: Bencher) {
    let (mut timers, keys, mut now) = armed();
    let mut dice = SeededEntropy::new(1);
    bencher.bench_local(|| {
        now = now.after(GRAIN);
        let key = keys[(dice.next_u64() % u64::from(COUNT)) as usize];
        assert!(timers.rearm(key, now), "it is armed");
    });
}

/// As [`rearm_any`], among a thousand.
pub fn count_rearm(times: usize) {
    let (mut timers, keys, mut now) = armed_timers(1000);
    let mut turn = 0;
    repeat(times, || {
        now = now.after(GRAIN);
        turn = (turn + 617) % keys.len();
        assert!(timers.rearm(keys[turn], now), "it is armed");
    });
}

/// Re-arms the same timer within one grain, as on a busy connection.
#[divan::bench]
fn rearm_the_same(bencher: Bencher) {
    let (mut timers, keys, now) = armed();
    let last = *keys.last().expect("a million");
    bencher.bench_local(|| assert!(timers.rearm(last, now), "it is armed"));
}

/// The work of every tick: looks up the next deadline when nothing is due.
#[divan::bench]
fn sweep_nothing(bencher: Bencher) {
    let (mut timers, _, now) = armed();
    bencher.bench_local(|| {
        assert!(timers.pop_due(now).is_none());
        timers.next_deadline()
    });
}

/// The worst case: a million timers are due in one tick.
#[divan::bench(sample_count = 10)]
fn sweep_a_million(bencher: Bencher) {
    bencher.counter(ItemsCount::new(COUNT)).with_inputs(|| armed().0).bench_local_values(
        |mut timers| {
            let due = Mono::from_micros(u64::MAX);
            let swept = std::iter::from_fn(|| timers.pop_due(due)).count();
            assert_eq!(swept, COUNT as usize);
            timers
        },
    );
}
