//! Signals as events of the poll.
//!
//! Owns which signals the process listens for. Must not know what they lead to. The invariant: a
//! signal only wakes the poll; nothing runs in a signal handler.

use std::io;

use mio::{Interest, Registry, Token, event::Source};
#[cfg(feature = "tls")]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM};

/// SIGTERM and SIGINT, and SIGHUP where it has a meaning.
pub struct Signals(signal_hook_mio::v1_0::Signals);

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM or SIGINT, by its number: the server is to end.
    End(i32),
    /// SIGHUP: the certificate is to be read again.
    Reload,
}

impl Signals {
    /// Registers SIGTERM and SIGINT with a poll.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Signals> {
        let mut signals = signal_hook_mio::v1_0::Signals::new([SIGTERM, SIGINT])?;
        signals.register(registry, token, Interest::READABLE)?;
        Ok(Signals(signals))
    }

    /// Registers SIGHUP, too. Without this it ends the process, which is its default action.
    #[cfg(feature = "tls")]
    pub fn add_reload(&self) -> io::Result<()> {
        self.0.add_signal(SIGHUP)
    }

    /// Signals that have arrived since the last call.
    pub fn pending(&mut self) -> impl Iterator<Item = Signal> {
        self.0.pending().map(|signal| match signal {
            #[cfg(feature = "tls")]
            SIGHUP => Signal::Reload,
            signal => Signal::End(signal),
        })
    }
}

/// The name of a signal that ends the server.
pub fn name(signal: i32) -> &'static str {
    if signal == SIGINT { "SIGINT" } else { "SIGTERM" }
}
