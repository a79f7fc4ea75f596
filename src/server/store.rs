//! The stream to the store of a cluster.
//!
//! Owns opening the stream, and moving bytes between it and the core. Must not know what the bytes
//! mean, nor when to connect: the uplink says so. The invariant: no call blocks, except for reading the
//! two small files that the settings may name; and a stream that the uplink has given up is closed
//! before anything else is read from it.

use std::io::{self, ErrorKind, Read, Write};
use std::{fmt, fs};

use log::info;
use mio::event::Event;
use mio::{Registry, Token};

use super::core::Core;
use crate::cluster::Login;
use crate::config::{StoreAddress, StoreSource, StoreUrl};
use crate::net::{Authority, OutboundSocket, Stream};

/// Most bytes read from the store in one tick. A thousand messages to deliver take a millisecond, so
/// clients wait no longer than that for their turns.
const TICK_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// Most bytes of the file that names the store.
const FILE_BYTES_MAX: u64 = 4096;

/// The stream to the store, and the bytes that wait for it.
pub(super) struct StoreStream {
    source: StoreSource,
    /// Which of the addresses is tried, modulo their number.
    candidate: usize,
    attempt: Option<Attempt>,
    /// Bytes that the kernel has not taken yet: `unsent` from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    scratch: Vec<u8>,
}

/// A stream, which may still be connecting.
struct Attempt {
    socket: OutboundSocket,
    url: StoreUrl,
    address: StoreAddress,
    is_open: bool,
    is_readable: bool,
    is_writable: bool,
    /// Whether the poll reports that it has become writable.
    awaits_writable: bool,
    /// The store has welcomed this connection, so that its address is worth another attempt.
    was_welcome: bool,
}

impl StoreStream {
    pub fn new(source: StoreSource) -> StoreStream {
        StoreStream {
            source,
            candidate: 0,
            attempt: None,
            unsent: Vec::new(),
            sent: 0,
            scratch: vec![0; READ_BYTES],
        }
    }

    /// Whether the next tick has something to do here without another event.
    pub fn has_work(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.is_open && attempt.is_readable)
    }

    /// The poll has an event for the stream.
    pub fn on_event(&mut self, event: &Event) {
        if let Some(attempt) = &mut self.attempt {
            let has_hung_up = event.is_read_closed() || event.is_error();
            attempt.is_readable |= event.is_readable() || has_hung_up;
            attempt.is_writable |= event.is_writable() || has_hung_up;
        }
    }

    /// Begins a tick: what the store has sent is handled first, because it answers requests that wait.
    pub fn read<S: Stream>(&mut self, core: &mut Core<S>) {
        if let Err(error) = self.try_read(core) {
            self.close();
            core.on_store_lost(&error);
        }
        self.close_if_down(core);
    }

    /// Ends a tick: opens a stream if one is wanted, and writes what the tick has for the store.
    pub fn write<S: Stream>(&mut self, core: &mut Core<S>, registry: &Registry, token: Token) {
        self.close_if_down(core);
        if core.poll_store_connect() {
            match self.connect(registry, token) {
                Ok(attempt) => self.attempt = Some(attempt),
                Err(error) => {
                    self.candidate = self.candidate.wrapping_add(1);
                    core.on_store_lost(&error);
                }
            }
        }
        if let Err(error) = self.try_write(core).and_then(|()| self.watch(registry, token)) {
            self.close();
            core.on_store_lost(&error);
        }
        core.recount_store(self.unsent.capacity());
    }

    fn try_read<S: Stream>(&mut self, core: &mut Core<S>) -> io::Result<()> {
        let Some(attempt) = &mut self.attempt else { return Ok(()) };
        if !attempt.is_open {
            // Any edge may say that it has failed.
            let is_due = std::mem::take(&mut attempt.is_writable) | attempt.is_readable;
            if !is_due || !attempt.socket.finish_connecting()? {
                return Ok(());
            }
            (attempt.is_open, attempt.is_writable) = (true, true);
            info!("the store is at {}", attempt.address);
            let StoreUrl { user, password, database, .. } = &attempt.url;
            let (user, password) = (user.as_deref(), password.as_deref());
            core.on_store_connected(Login { user, password, database: *database });
        }
        let mut budget = TICK_BYTES_MAX;
        while attempt.is_readable && budget > 0 && !core.is_store_down() {
            let room = budget.min(self.scratch.len());
            match attempt.socket.read(&mut self.scratch[..room]) {
                Ok(0) => return Err(io::Error::other("it has closed the connection")),
                Ok(count) => {
                    budget -= count;
                    core.on_store_bytes(&self.scratch[..count]);
                    self.scratch[..count].fill(0);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => attempt.is_readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        attempt.was_welcome |= core.is_store_connected();
        Ok(())
    }

    fn try_write<S: Stream>(&mut self, core: &mut Core<S>) -> io::Result<()> {
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.is_open) else {
            return Ok(());
        };
        if let Some(output) = core.store_output() {
            self.unsent.drain(..std::mem::take(&mut self.sent));
            if self.unsent.is_empty() {
                self.unsent = output;
            } else {
                self.unsent.extend_from_slice(&output);
            }
        }
        // With TLS a write may also wait for something to read, so each tick tries.
        while self.sent < self.unsent.len() {
            match attempt.socket.write(&self.unsent[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if !self.unsent.is_empty() {
            (self.unsent, self.sent) = (Vec::new(), 0);
        }
        match attempt.socket.flush() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            flushed => flushed,
        }
    }

    /// Waits for the stream to become writable only while it has to: a wake-up less for each write.
    fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.is_open) else {
            return Ok(());
        };
        let is_blocked = !self.unsent.is_empty();
        if std::mem::replace(&mut attempt.awaits_writable, is_blocked) != is_blocked {
            attempt.socket.set_writable_events(registry, token, is_blocked)?;
        }
        Ok(())
    }

    fn close_if_down<S: Stream>(&mut self, core: &Core<S>) {
        if core.is_store_down() {
            self.close();
        }
    }

    /// Closes the stream. The next attempt goes to the next address, unless this one was good.
    fn close(&mut self) {
        (self.unsent, self.sent) = (Vec::new(), 0);
        if self.attempt.take().is_some_and(|attempt| !attempt.was_welcome) {
            self.candidate = self.candidate.wrapping_add(1);
        }
    }

    fn connect(&mut self, registry: &Registry, token: Token) -> io::Result<Attempt> {
        self.close();
        let url = match &self.source {
            StoreSource::Url(url) => url.clone(),
            StoreSource::File(path) => {
                // Without the line itself, which has a password.
                let named = |error: &dyn fmt::Display| {
                    io::Error::other(format!("{}: {error}", path.display()))
                };
                let mut text = String::new();
                let read = |file: fs::File| file.take(FILE_BYTES_MAX).read_to_string(&mut text);
                fs::File::open(path).and_then(read).map_err(|error| named(&error))?;
                let line = text.lines().next().unwrap_or_default().trim();
                line.parse().map_err(|error| named(&error))?
            }
        };
        let candidates = url.addresses.len().max(1);
        let address = url.addresses.get(self.candidate % candidates).cloned();
        let address = address.ok_or(ErrorKind::AddrNotAvailable)?;
        let mut socket = match &address {
            StoreAddress::Tcp(tcp) => OutboundSocket::connect_tcp(*tcp, authority(&url)?.as_ref()),
            StoreAddress::Unix(path) => OutboundSocket::connect_unix(path),
        }
        .map_err(|error| io::Error::other(format!("{address}: {error}")))?;
        socket.register(registry, token)?;
        Ok(Attempt {
            socket,
            url,
            address,
            is_open: false,
            is_readable: false,
            is_writable: false,
            awaits_writable: true,
            was_welcome: false,
        })
    }
}

#[cfg(feature = "tls")]
fn authority(url: &StoreUrl) -> io::Result<Option<Authority>> {
    let read = |path: &std::path::PathBuf| {
        let named = |error| io::Error::other(format!("{}: {error}", path.display()));
        Authority::read(path).map_err(named)
    };
    url.ca.as_ref().map(read).transpose()
}

/// Without the feature `tls` no URL has an authority.
#[cfg(not(feature = "tls"))]
fn authority(_: &StoreUrl) -> io::Result<Option<Authority>> {
    Ok(None)
}
