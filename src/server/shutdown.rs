//! How the server ends.
//!
//! Owns when the process ends after the first signal, and its exit code. What is done meanwhile is
//! in `Server::begin_ending` and `Core::shut_down`. Must not know a connection. The invariant: from
//! the first signal on, the process ends within [`SHUTDOWN_TIMEOUT`].

use std::fmt;
use std::time::Duration;

use crate::clock::Mono;
use crate::process::signals;

/// How long connections may take to close after the first signal.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);

/// Why and how the server ended, or is about to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    signal: i32,
    /// A second signal came: connections that are left are cut off.
    pub is_forced: bool,
    /// When connections that are left are cut off.
    pub(super) deadline: Mono,
}

impl Ending {
    /// The first signal has come.
    pub(super) fn begin(signal: i32, now: Mono) -> Ending {
        Ending { signal, is_forced: false, deadline: now.after(SHUTDOWN_TIMEOUT) }
    }

    /// Whether the process is to end now.
    pub(super) fn is_due(&self, now: Mono, connections: usize) -> bool {
        self.is_forced || self.deadline <= now || connections == 0
    }

    /// The exit code: 0, or 128 + signal if a second signal forced the end.
    pub fn exit_code(self) -> u8 {
        if self.is_forced { 128 | self.signal as u8 } else { 0 }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(signals::name(self.signal))?;
        f.write_str(if self.is_forced { ", twice" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_due_without_connections_at_its_deadline_or_by_a_second_signal() {
        let begin = Mono::from_micros(1_000_000);
        let mut ending = Ending::begin(15, begin);
        assert!(!ending.is_due(begin, 1));
        assert!(ending.is_due(begin, 0));
        let deadline = begin.after(SHUTDOWN_TIMEOUT);
        assert!(!ending.is_due(Mono::from_micros(deadline.micros() - 1), 1));
        assert!(ending.is_due(deadline, 1));
        assert_eq!((ending.exit_code(), ending.to_string().as_str()), (0, "SIGTERM"));
        ending.is_forced = true;
        assert!(ending.is_due(begin, 1));
        assert_eq!((ending.exit_code(), ending.to_string().as_str()), (143, "SIGTERM, twice"));
    }
}
