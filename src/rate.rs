//! Rate limits, by the generic cell rate algorithm (GCRA, ITU-T I.371).
//!
//! Owns the arithmetic. Must not know what is limited, or whether use over the limit is
//! refused ([`Pace::take`]) or only delayed ([`Meter::overrun`]). The invariant: a request that is
//! refused changes nothing, so that a client that keeps asking does not wait longer.

use std::time::Duration;

use crate::clock::Mono;

/// A bound on how often something may happen: an average rate, and bursts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Average time between two occurrences; zero: unlimited.
    interval: Duration,
    /// Occurrences that may come at once after a pause, at least 1.
    burst: u32,
}

/// The state of one rate limit: the time by which the use so far is allowed at the average rate
/// (GCRA's "theoretical arrival time").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meter(Mono);

impl Pace {
    /// No bound.
    pub const UNLIMITED: Pace = Pace { interval: Duration::ZERO, burst: 1 };

    /// On average `count` per `period` (0: unlimited), and at most `burst` at once.
    pub const fn new(count: u32, period: Duration, burst: u32) -> Pace {
        let interval = match period.checked_div(count) {
            Some(interval) => interval,
            None => Duration::ZERO,
        };
        Pace { interval, burst: if burst == 0 { 1 } else { burst } }
    }

    /// Time between two occurrences on average; zero: unlimited.
    pub fn interval(self) -> Duration {
        self.interval
    }

    /// Occurrences that may come at once after a pause.
    #[cfg(feature = "cluster")]
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// How long a meter takes at most to become idle after its last occurrence.
    pub fn idle_after(self) -> Duration {
        self.interval * self.burst
    }

    /// Counts one occurrence. If it comes too early, counts nothing and returns the time until one
    /// is possible.
    pub fn take(self, meter: &mut Meter, now: Mono) -> Result<(), Duration> {
        if self.interval.is_zero() {
            return Ok(());
        }
        match meter.overrun(self.interval * (self.burst - 1), now) {
            Duration::ZERO => {
                meter.charge(self.interval, now);
                Ok(())
            }
            early => Err(early),
        }
    }
}

impl Meter {
    /// Charges a use. `time`: how long the use takes at the average rate.
    pub fn charge(&mut self, time: Duration, now: Mono) {
        self.0 = self.0.max(now).after(time);
    }

    /// How long until the use so far is at most `burst` ahead of the average rate; zero if it is
    /// now. `burst` is measured like a charge: as the time it takes at the average rate.
    pub fn overrun(self, burst: Duration, now: Mono) -> Duration {
        self.0.since(now.after(burst))
    }

    /// True once past occurrences no longer matter.
    pub fn is_idle(self, now: Mono) -> bool {
        self.0 <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Mono {
        Mono::from_micros(millis * 1000)
    }

    #[test]
    fn a_burst_is_followed_by_an_even_pace() {
        let pace = Pace::new(10, SECOND, 3);
        let mut meter = Meter::default();
        let now = at(1000);
        for _ in 0..3 {
            assert_eq!(pace.take(&mut meter, now), Ok(()));
        }
        assert_eq!(pace.take(&mut meter, now), Err(Duration::from_millis(100)));
        assert_eq!(pace.take(&mut meter, at(1099)), Err(Duration::from_millis(1)));
        assert_eq!(pace.take(&mut meter, at(1100)), Ok(()));
        assert_eq!(pace.take(&mut meter, at(1100)), Err(Duration::from_millis(100)));
        assert!(!meter.is_idle(at(1399)) && meter.is_idle(at(1100).after(pace.idle_after())));
        for _ in 0..3 {
            assert_eq!(pace.take(&mut meter, at(9000)), Ok(()));
        }
        assert!(pace.take(&mut meter, at(9000)).is_err(), "a pause allows one burst, not two");
    }

    #[test]
    fn rate_zero_is_unlimited() {
        let mut meter = Meter::default();
        assert!((0..1000).all(|_| Pace::new(0, SECOND, 1).take(&mut meter, at(0)).is_ok()));
        assert!(meter.is_idle(at(0)));
    }
}
