//! A million timers: what a server with a million sessions has.

use std::time::Duration;

use disposable_chat::clock::{Mono, SeededEntropy};
use disposable_chat::timers::{GRAIN, Timer, TimerKey, Timers};
use divan::Bencher;
use divan::counter::ItemsCount;

const COUNT: u32 = 1_000_000;

#[derive(Clone, Copy)]
#[expect(dead_code, reason = "as large as a key, which nothing here looks up")]
enum Lease {
    Short(u32),
    Long(u32),
}

impl Timer for Lease {
    type Config = [Duration; 2];
    const CLASSES: usize = 2;
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

/// A million of the long class, armed within some minutes.
fn armed() -> (Timers<Lease>, Vec<TimerKey>, Mono) {
    let (mut timers, mut now) = (timers(), Mono::ZERO);
    let arm = |owner| {
        now = now.after(Duration::from_micros(200));
        timers.arm(Lease::Long(owner), now)
    };
    let keys = (0..COUNT).map(arm).collect();
    (timers, keys, now)
}

/// From none to a million, growth included.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn arm_a_million(bencher: Bencher) {
    bencher.counter(ItemsCount::new(COUNT)).bench_local(|| {
        let (timers, keys, _) = armed();
        assert_eq!(timers.len(), keys.len());
        timers
    });
}

/// One more beside a million, and away again.
#[divan::bench]
fn arm_and_cancel(bencher: Bencher) {
    let (mut timers, _, now) = armed();
    timers.arm(Lease::Short(0), now); // Else its page of slots would come and go with it.
    bencher.bench_local(|| {
        let key = timers.arm(Lease::Short(1), now);
        assert!(timers.cancel(key), "it is armed");
    });
    assert_eq!(timers.len(), COUNT as usize + 1);
}

/// Any of a million, never within the grain of the last time: three entries of a slab that no
/// cache holds.
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

/// A busy connection's: again within one grain.
#[divan::bench]
fn rearm_the_same(bencher: Bencher) {
    let (mut timers, keys, now) = armed();
    let last = *keys.last().expect("a million");
    bencher.bench_local(|| assert!(timers.rearm(last, now), "it is armed"));
}

/// What every tick does: the next deadline, and nothing is due.
#[divan::bench]
fn sweep_nothing(bencher: Bencher) {
    let (mut timers, _, now) = armed();
    bencher.bench_local(|| {
        assert!(timers.pop_due(now).is_none());
        timers.next_deadline()
    });
}

/// All of a million in one tick: the worst that can be due.
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
