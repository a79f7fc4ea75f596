//! Signals, and how it all ends.
//!
//! Owns the way from a signal to the exit code. Must never end before everybody was told, unless
//! they take too long or the operator asks twice. The invariant: from the first signal on, the
//! process ends within [`SHUTDOWN_TIMEOUT`].

use std::fmt;
use std::io;
use std::time::Duration;

use mio::{Interest, Registry, Token, event::Source};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Server;
use crate::clock::Mono;
use crate::snapshot;

/// How long connections may take to end once everybody was told.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);

/// Why and how the loop ended, or is about to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    signal: i32,
    /// Asked twice: whoever is still connected is cut off.
    pub forced: bool,
    /// When whoever is still connected is cut off; `None` once that is so.
    pub(super) deadline: Option<Mono>,
}

impl Ending {
    /// The process's exit code: 0, or the shell's for a signal when the ending was forced.
    pub fn exit_code(self) -> u8 {
        if self.forced { 128 | self.signal as u8 } else { 0 }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.signal == SIGINT { "SIGINT" } else { "SIGTERM" })?;
        f.write_str(if self.forced { ", twice" } else { "" })
    }
}

/// SIGTERM and SIGINT as events of the poll, and SIGHUP if somebody has use for it.
pub(super) struct Signals(signal_hook_mio::v1_0::Signals);

impl Signals {
    pub fn new(registry: &Registry, token: Token) -> io::Result<Signals> {
        let mut signals = signal_hook_mio::v1_0::Signals::new([SIGTERM, SIGINT])?;
        signals.register(registry, token, Interest::READABLE)?;
        Ok(Signals(signals))
    }

    /// SIGHUP, too. Otherwise it ends the process, as it does with most.
    #[cfg(feature = "tls")]
    pub fn add_hangup(&self) -> io::Result<()> {
        self.0.add_signal(signal_hook::consts::SIGHUP)
    }
}

impl Server {
    pub(super) fn on_signals(&mut self, now: Mono) {
        for signal in self.signals.0.pending() {
            match &mut self.ending {
                #[cfg(feature = "tls")]
                _ if signal == signal_hook::consts::SIGHUP => self.read_again(),
                Some(ending) => ending.forced = true,
                None => {
                    log::info!("stopping: everybody is told");
                    self.supervisor.stopping();
                    let deadline = Some(now.after(SHUTDOWN_TIMEOUT));
                    self.ending = Some(Ending { signal, forced: false, deadline });
                    // The port is free for a successor from now on.
                    for acceptor in std::mem::take(&mut self.listeners) {
                        drop(acceptor);
                    }
                    self.keep();
                    self.core.shut_down();
                }
            }
        }
    }

    /// What a restart is not to lose, as everybody knows it: after this nothing more is said.
    fn keep(&mut self) {
        let Some(path) = &self.state else { return };
        match snapshot::write(path, |keep| self.core.keep(keep)) {
            Ok(()) => log::info!("sessions and rooms are kept in {}", path.display()),
            Err(error) => log::error!("--state {}: {error}; nothing is kept", path.display()),
        }
    }

    /// The ending, once it is time to leave.
    pub(super) fn poll_ending(&self, now: Mono) -> Option<Ending> {
        let ending = self.ending?;
        let overdue = ending.deadline.is_some_and(|deadline| deadline <= now);
        (ending.forced || overdue || self.core.connection_count() == 0).then_some(ending)
    }
}
