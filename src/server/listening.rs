//! Whether all that has arrived was read since the loop last stood still.
//!
//! Owns the gap between two ticks. Must not know a connection, or what waits for the answer. The
//! invariant: after a gap the answer is no until a tick has come whose poll began after the gap and
//! found nothing to read. A gap is mostly a poll that had nothing to report, but can be a process
//! that was stopped or a machine that was suspended: the loop cannot tell them apart, and the price
//! is one tick.

use std::time::Duration;

/// Time between two ticks from which on input can have waited for long. A tick under load is far
/// shorter.
const GAP_MIN: Duration = Duration::from_millis(250);

/// The most ticks for which the domain's timers wait. Enough for a turn of 65,000 connections, of
/// which a tick serves 64; without a bound, peers that send without a pause would keep them from
/// firing.
const TICKS_MAX: u16 = 1024;

/// Whether all that has arrived was read since the last gap between ticks.
#[derive(Default)]
pub(super) struct Listening {
    /// 0: it was, or this took too many ticks.
    ticks_left: u16,
    /// This tick has had no input, and the poll before it began after the gap.
    is_quiet: bool,
}

impl Listening {
    /// A tick begins, this long after the last.
    pub fn on_tick(&mut self, gap: Duration) {
        self.is_quiet = gap < GAP_MIN;
        match self.is_quiet {
            true => self.ticks_left = self.ticks_left.saturating_sub(1),
            false => self.ticks_left = TICKS_MAX,
        }
    }

    /// This tick has accepted a connection, or a connection has input.
    pub fn on_input(&mut self) {
        self.is_quiet = false;
    }

    /// After the turns of a tick. `is_read`: no connection waits for another turn.
    pub fn is_over(&mut self, is_read: bool) -> bool {
        if self.is_quiet && is_read {
            self.ticks_left = 0;
        }
        self.ticks_left == 0
    }
}
