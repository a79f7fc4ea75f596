//! When the next attempt to connect is made.
//!
//! Owns the pauses between attempts. Must not know why an attempt has failed. The invariant: however
//! attempts fail, a store that comes back is not met by all its nodes at once, nor by one of them more
//! often than the pauses allow.

use std::time::Duration;

use crate::clock::Mono;

/// The shortest and the longest pause between two attempts to connect, before jitter halves some.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// An attempt without a pause is made no sooner after the one before.
const AT_ONCE_INTERVAL: Duration = Duration::from_secs(1);

/// Attempts that have failed.
#[derive(Default)]
pub(super) struct ConnectAttempts {
    /// Random, for the next pause.
    jitter: u8,
    /// Pauses since the last success.
    pauses: u32,
    /// When the last attempt without a pause was allowed.
    at_once: Option<Mono>,
}

impl ConnectAttempts {
    /// An attempt begins. `jitter`: random, for the pause that may follow.
    pub fn on_attempt(&mut self, jitter: u8) {
        self.jitter = jitter;
    }

    /// The connection is in use.
    pub fn on_success(&mut self) {
        self.pauses = 0;
    }

    /// The time of the next attempt, if that is to follow at once.
    pub fn at_once(&mut self, now: Mono) -> Mono {
        if self.at_once.is_some_and(|at| now.since(at) < AT_ONCE_INTERVAL) {
            return self.after_pause(now);
        }
        self.at_once = Some(now);
        now
    }

    /// The time of the next attempt.
    pub fn after_pause(&mut self, now: Mono) -> Mono {
        now.after(self.pause())
    }

    /// Twice as long each time, and between half and all of that.
    fn pause(&mut self) -> Duration {
        let doubled = PAUSE_MIN.saturating_mul(1 << self.pauses.min(10)).min(PAUSE_MAX);
        self.pauses = self.pauses.saturating_add(1);
        doubled / 2 + doubled * u32::from(self.jitter) / 510
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_maximum() {
        let pauses = |jitter, count: usize| {
            let mut attempts = ConnectAttempts::default();
            attempts.on_attempt(jitter);
            (0..count).map(|_| attempts.pause().as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(0, 8), [25, 50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(pauses(255, 8), [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(pauses(255, 100).last(), Some(&2000));
    }
}
