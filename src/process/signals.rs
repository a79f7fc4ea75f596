//! Signals as events of the poll.
//!
//! Owns which signals the process listens for. Must not know what they lead to. The invariant: a
//! signal only wakes the poll; no code of this crate runs in a signal handler. (signal-hook's
//! handler writes to a pipe.)

use std::io;

use mio::{Interest, Registry, Token, event::Source};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Asks for the certificate to be read again.
#[cfg(feature = "tls")]
pub const RELOAD: i32 = signal_hook::consts::SIGHUP;

/// SIGTERM and SIGINT, which end the server, and `RELOAD` where there is a certificate.
pub struct Signals(signal_hook_mio::v1_0::Signals);

impl Signals {
    /// Registers SIGTERM and SIGINT with a poll.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Signals> {
        let mut signals = signal_hook_mio::v1_0::Signals::new([SIGTERM, SIGINT])?;
        signals.register(registry, token, Interest::READABLE)?;
        Ok(Signals(signals))
    }

    /// Registers [`RELOAD`], too. Without this it ends the process, which is its default action.
    #[cfg(feature = "tls")]
    pub fn add_reload(&self) -> io::Result<()> {
        self.0.add_signal(RELOAD)
    }

    /// The signals that have arrived since the last call, by their numbers.
    pub fn pending(&mut self) -> Vec<i32> {
        self.0.pending().collect()
    }
}

/// The name of a signal that ends the server.
pub fn name(signal: i32) -> &'static str {
    if signal == SIGINT { "SIGINT" } else { "SIGTERM" }
}
