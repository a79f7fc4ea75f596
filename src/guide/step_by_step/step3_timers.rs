//! Step 3 of 5: idle connections are closed, and no peer keeps its turn. See `step3_timers.md`.
//!
//! Owns the event loop and the deadlines; `net::Link` does what step 2's connection does. Must not
//! ask for the time, except in `run`, so that a test lets hours pass at once. The invariant: each
//! connection has one entry in `deadlines`, and is in `ready` if it may have more to read.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use disposable_chat::clock::{Clock, Mono};
use disposable_chat::net::{Link, Listener, Piece, Received, Socket};
use mio::{Events, Poll, Token};
use slab::Slab;

/// The token of a connection is its index in the slab, which never becomes this large.
const LISTENER: Token = Token(usize::MAX);

/// Input is paused while the queue for the peer takes more memory than this, in bytes.
const PAUSE_BYTES: usize = 64 * 1024;

/// Reads in one turn. The bound keeps a peer that sends without a pause from delaying the others.
const READS_PER_TURN: usize = 4;

/// A connection is closed when its peer has neither sent nor read for this long.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1);
    let address: SocketAddr = argument.as_deref().unwrap_or("127.0.0.1:8001").parse()?;
    let mut server = Server::bind(address)?;
    println!("listening on {}:{}", address.ip(), server.listener.port());
    match server.run()? {}
}

/// The event loop and its connections.
pub struct Server {
    poll: Poll,
    events: Events,
    pub listener: Listener,
    may_accept: bool,
    connections: Slab<Connection>,
    /// Connections that have a turn in the next tick.
    ready: BTreeSet<usize>,
    deadlines: Deadlines,
    scratch: Vec<u8>,
}

impl Server {
    pub fn bind(address: SocketAddr) -> io::Result<Server> {
        let poll = Poll::new()?;
        let mut listener = Listener::bind_tcp(address)?;
        listener.register(poll.registry(), LISTENER)?;
        Ok(Server {
            poll,
            events: Events::with_capacity(256),
            listener,
            may_accept: false,
            connections: Slab::new(),
            ready: BTreeSet::new(),
            deadlines: Deadlines::default(),
            scratch: vec![0; 16 * 1024],
        })
    }

    pub fn run(&mut self) -> io::Result<Infallible> {
        let clock = Clock::new();
        loop {
            self.wait(self.deadlines.timeout(clock.read().mono))?;
            self.tick(clock.read().mono); // Read once: all of a tick happens at the same time.
        }
    }

    /// Sleeps until a socket has an event, but not longer than `timeout`; `None` sets no limit.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // A connection that is ready will not be reported again.
        let timeout = if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            match event.token() {
                LISTENER => self.may_accept = true,
                Token(index) => self.ready.extend([index]),
            }
        }
        Ok(())
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Mono) {
        for index in std::mem::take(&mut self.ready) {
            self.give_turn(index, now);
        }
        // After the turns: a peer whose bytes have arrived is not idle, even if the loop is late.
        while let Some(index) = self.deadlines.pop_due(now) {
            self.connections.try_remove(index);
        }
        self.accept(now);
    }

    fn give_turn(&mut self, index: usize, now: Mono) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let turn = connection.turn(&mut self.scratch);
        self.deadlines.cancel(connection.deadline, index);
        match turn {
            Ok(Turn::Blocked) => {}
            Ok(Turn::Unfinished) => self.ready.extend([index]),
            Ok(Turn::Ended) | Err(_) => return drop(self.connections.remove(index)),
        }
        // A turn comes from an edge, and an edge from the peer: it has sent something, or has read.
        connection.deadline = self.deadlines.arm(index, now);
    }

    fn accept(&mut self, now: Mono) {
        while self.may_accept {
            match self.listener.accept() {
                Ok(accepted) => self.insert(accepted.socket, now),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.may_accept = false,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return, // No descriptor is free. Retry in the next tick.
                },
            }
        }
    }

    fn insert(&mut self, mut socket: Socket, now: Mono) {
        let entry = self.connections.vacant_entry();
        let index = entry.key();
        if socket.register(self.poll.registry(), Token(index)).is_ok() {
            let deadline = self.deadlines.arm(index, now);
            let link = Link::new(socket);
            entry.insert(Connection { link, deadline });
        }
    }
}

/// The deadlines of all connections in one ordered set: the first is the next to expire.
#[derive(Default)]
struct Deadlines(BTreeSet<(Mono, usize)>);

impl Deadlines {
    fn arm(&mut self, index: usize, now: Mono) -> Mono {
        let deadline = now.after(IDLE_TIMEOUT);
        self.0.insert((deadline, index));
        deadline
    }

    fn cancel(&mut self, deadline: Mono, index: usize) {
        self.0.remove(&(deadline, index));
    }

    fn timeout(&self, now: Mono) -> Option<Duration> {
        self.0.first().map(|(deadline, _)| deadline.since(now))
    }

    /// Takes out one connection whose deadline has come.
    fn pop_due(&mut self, now: Mono) -> Option<usize> {
        let (deadline, index) = *self.0.first()?;
        (deadline <= now && self.0.remove(&(deadline, index))).then_some(index)
    }
}

/// The result of a turn. After `Blocked` an edge follows, after `Unfinished` none does.
enum Turn {
    Blocked,
    Unfinished,
    Ended,
}

struct Connection {
    link: Link<Socket>,
    deadline: Mono,
}

impl Connection {
    fn turn(&mut self, scratch: &mut [u8]) -> io::Result<Turn> {
        for _ in 0..READS_PER_TURN {
            self.link.flush(usize::MAX)?;
            if self.link.outbox().load() > PAUSE_BYTES {
                return Ok(Turn::Blocked); // A writable edge follows, because the flush has blocked.
            }
            match self.link.read_into(scratch)? {
                Received::Blocked => return Ok(Turn::Blocked),
                Received::End if self.link.is_flushed() => return Ok(Turn::Ended),
                Received::End => return Ok(Turn::Blocked),
                Received::Bytes(count) => self.link.put(Piece::private(scratch[..count].to_vec())),
            }
        }
        Ok(Turn::Unfinished)
    }
}
