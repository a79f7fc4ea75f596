//! The loop of step 3 for any protocol, as steps 4 and 5 use it.
//!
//! Owns the sockets, their queues, the deadlines and the time. Must not know what the bytes mean: a
//! [`Protocol`] is given them as a slice, and returns what is to be done as values. The invariant: a
//! connection that may have more to read, or has new bytes to send, is in `ready`.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::time::Duration;

use disposable_chat::clock::{Clock, Now};
use disposable_chat::net::{Link, Listener, Piece, Received, Socket};
use disposable_chat::timers::{Timer, TimerKey, Timers};
use mio::{Events, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
const READS_PER_TURN: usize = 4;
/// A connection is not read while the queue for it takes more memory than this, in bytes.
const PAUSE_BYTES: usize = 64 * 1024;
/// A connection is closed when more than this is queued for it, in bytes, and it does not read.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// What a protocol does for its connections, each of which has a key.
pub trait Protocol {
    fn on_bytes(&mut self, key: usize, bytes: &[u8], now: Now, out: &mut Vec<Action>);
    /// The timeout has passed. The connection is closed, unless an action rearms it.
    fn on_timeout(&mut self, _key: usize, _out: &mut Vec<Action>) {}
    /// The connection has ended. A later connection may get the same key.
    fn on_end(&mut self, key: usize, out: &mut Vec<Action>);
}

/// What the loop is to do for the connection with this key.
pub enum Action {
    Send(usize, Piece),
    /// Restart its timeout.
    Rearm(usize),
    /// Close it once its queue is written. Its input is discarded.
    Finish(usize),
}

pub struct EventLoop<P> {
    poll: Poll,
    pub listener: Listener,
    may_accept: bool,
    connections: Slab<Connection>,
    ready: BTreeSet<usize>,
    timers: Timers<Timeout>,
    scratch: Vec<u8>,
    protocol: P,
}

struct Connection {
    link: Link<Socket>,
    timer: TimerKey,
    is_finishing: bool,
    is_too_slow: bool, // Its queue is full.
}

#[derive(Clone, Copy)]
struct Timeout(usize); // Of the connection with this key.

impl Timer for Timeout {
    type Config = Duration;
    fn class(self, timeout: &Duration) -> (usize, Duration) {
        (0, *timeout)
    }
}

enum Turn {
    Blocked,
    Unfinished,
    Ended,
}

impl<P: Protocol> EventLoop<P> {
    pub fn bind(address: std::net::SocketAddr, timeout: Duration, protocol: P) -> io::Result<Self> {
        let (poll, mut listener) = (Poll::new()?, Listener::bind_tcp(address)?);
        listener.register(poll.registry(), LISTENER)?;
        Ok(EventLoop {
            poll,
            listener,
            may_accept: false,
            connections: Slab::new(),
            ready: BTreeSet::new(),
            timers: Timers::new(timeout),
            scratch: vec![0; 16 * 1024],
            protocol,
        })
    }

    pub fn run(&mut self) -> io::Result<std::convert::Infallible> {
        let (clock, mut events) = (Clock::new(), Events::with_capacity(256));
        loop {
            let now = clock.read().mono;
            let timeout = self.timers.next_deadline().map(|deadline| deadline.since(now));
            let timeout = if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => self.tick(&events, clock.read()),
            }
        }
    }

    fn tick(&mut self, events: &Events, now: Now) {
        for event in events {
            match event.token() {
                LISTENER => self.may_accept = true,
                Token(key) => self.ready.extend([key]),
            }
        }
        for key in std::mem::take(&mut self.ready) {
            match self.give_turn(key, now) {
                Ok(Turn::Blocked) => {}
                Ok(Turn::Unfinished) => self.ready.extend([key]),
                Ok(Turn::Ended) | Err(_) => self.end(key, now),
            }
        }
        while let Some(Timeout(key)) = self.timers.pop_due(now.mono) {
            self.tell(now, |protocol, out| protocol.on_timeout(key, out));
            let timer = self.connections.get(key).map(|connection| connection.timer);
            if timer.is_some_and(|timer| self.timers.get(timer).is_none()) {
                self.end(key, now);
            }
        }
        while self.may_accept {
            match self.listener.accept().map_err(|error| error.kind()) {
                Ok(accepted) => self.insert(accepted.socket, now),
                Err(ErrorKind::WouldBlock) => self.may_accept = false,
                Err(ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(_) => return, // No descriptor is free. Retry in the next tick.
            }
        }
    }

    fn give_turn(&mut self, key: usize, now: Now) -> io::Result<Turn> {
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.connections.get_mut(key) else { return Ok(Turn::Blocked) };
            connection.link.flush(usize::MAX)?;
            let is_flushed = connection.link.is_flushed();
            if connection.is_too_slow {
                return Ok(Turn::Ended);
            }
            if connection.is_finishing && is_flushed {
                // RFC 9112 §9.6: to close with unread input resets the connection, and the peer may lose
                // the last response. So only this direction ends, and the peer's end is awaited.
                connection.link.shutdown_write()?;
            }
            if connection.link.outbox().load() > PAUSE_BYTES {
                return Ok(Turn::Blocked);
            }
            match connection.link.read_into(&mut self.scratch)? {
                Received::End if is_flushed => return Ok(Turn::Ended),
                Received::End | Received::Blocked => return Ok(Turn::Blocked),
                Received::Bytes(_) if connection.is_finishing => {}
                Received::Bytes(count) => {
                    let bytes = self.scratch[..count].to_vec();
                    self.tell(now, |protocol, out| protocol.on_bytes(key, &bytes, now, out));
                }
            }
        }
        Ok(Turn::Unfinished)
    }

    /// Calls the protocol, and does what it returns.
    fn tell(&mut self, now: Now, call: impl FnOnce(&mut P, &mut Vec<Action>)) {
        let mut actions = Vec::new();
        call(&mut self.protocol, &mut actions);
        for action in actions {
            let (Action::Send(key, _) | Action::Rearm(key) | Action::Finish(key)) = action;
            let Some(connection) = self.connections.get_mut(key) else { continue };
            match action {
                Action::Send(_, piece) => {
                    connection.is_too_slow |= !connection.link.push(piece, OUTBOX_BYTES_MAX);
                }
                Action::Rearm(_) if self.timers.rearm(connection.timer, now.mono) => {}
                Action::Rearm(_) => connection.timer = self.timers.arm(Timeout(key), now.mono),
                Action::Finish(_) => connection.is_finishing = true,
            }
            self.ready.insert(key);
        }
    }

    fn end(&mut self, key: usize, now: Now) {
        if let Some(connection) = self.connections.try_remove(key) {
            self.timers.cancel(connection.timer);
            self.tell(now, |protocol, out| protocol.on_end(key, out));
        }
    }

    fn insert(&mut self, mut socket: Socket, now: Now) {
        let entry = self.connections.vacant_entry();
        if socket.register(self.poll.registry(), Token(entry.key())).is_ok() {
            let timer = self.timers.arm(Timeout(entry.key()), now.mono);
            let link = Link::new(socket);
            entry.insert(Connection { link, timer, is_finishing: false, is_too_slow: false });
        }
    }
}
