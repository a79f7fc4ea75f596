//! Signals as events of the poll.
//!
//! Owns which signals the process listens for, and what each asks for. Must not know how that is done.
//! The invariant: a signal only wakes the poll; no code of this crate runs in a signal handler.
//! (signal-hook's handler writes to a pipe.)

use std::io::{self, IsTerminal};

use mio::{Interest, Registry, Token, event::Source};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignalAction {
    /// Ends the server.
    End,
    /// Reads the certificate again.
    Reload,
    /// Nothing. Without a handler the signal would end the process at once.
    Ignore,
}

/// The signals that have a handler.
pub struct Signals {
    source: signal_hook_mio::v1_0::Signals,
    on_hangup: SignalAction,
}

impl Signals {
    /// Registers the signals with a poll. `has_certificate`: SIGHUP reads it again.
    pub fn new(registry: &Registry, token: Token, has_certificate: bool) -> io::Result<Signals> {
        let signals = [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2];
        let mut source = signal_hook_mio::v1_0::Signals::new(signals)?;
        source.register(registry, token, Interest::READABLE)?;
        // Once the terminal is closed, stderr no longer counts as one.
        let on_hangup = on_hangup(has_certificate, io::stderr().is_terminal());
        Ok(Signals { source, on_hangup })
    }

    /// The signals that have arrived since the last call, by their numbers.
    pub fn pending(&mut self) -> Vec<(i32, SignalAction)> {
        let on_hangup = self.on_hangup;
        self.source.pending().map(|signal| (signal, action(signal, on_hangup))).collect()
    }
}

fn action(signal: i32, on_hangup: SignalAction) -> SignalAction {
    match signal {
        SIGHUP => on_hangup,
        SIGUSR1 | SIGUSR2 => SignalAction::Ignore,
        _ => SignalAction::End,
    }
}

/// SIGHUP has two meanings: a daemon is to read its configuration again, or the terminal that the
/// program was started in has been closed.
fn on_hangup(has_certificate: bool, has_terminal: bool) -> SignalAction {
    match (has_certificate, has_terminal) {
        (true, _) => SignalAction::Reload,
        (false, true) => SignalAction::End,
        (false, false) => SignalAction::Ignore,
    }
}

/// The name of a signal that ends the server.
pub fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "SIGINT",
        SIGQUIT => "SIGQUIT",
        SIGHUP => "SIGHUP",
        _ => "SIGTERM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // contract §12.33
    #[test]
    fn a_hangup_reloads_ends_or_does_nothing() {
        assert_eq!(on_hangup(true, true), SignalAction::Reload);
        assert_eq!(on_hangup(true, false), SignalAction::Reload);
        assert_eq!(on_hangup(false, true), SignalAction::End);
        assert_eq!(on_hangup(false, false), SignalAction::Ignore);
        for (signal, expected) in [
            (SIGTERM, SignalAction::End),
            (SIGINT, SignalAction::End),
            (SIGQUIT, SignalAction::End),
            (SIGHUP, SignalAction::Reload),
            (SIGUSR1, SignalAction::Ignore),
            (SIGUSR2, SignalAction::Ignore),
        ] {
            assert_eq!(action(signal, SignalAction::Reload), expected, "{signal}");
        }
    }
}
