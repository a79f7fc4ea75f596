//! Step 2 of 5: a write may be short, and a peer may not read. See `step2_backpressure.md`.
//!
//! Owns the event loop of step 1, and for each connection the bytes that the kernel does not take
//! yet. Must not know what the bytes mean, nor keep an unbounded number of them. The invariant: when
//! a turn ends, the kernel has reported `WouldBlock`, for a read or for a write, and so an edge
//! follows. While `out` is full the connection is not read: the kernel's receive buffer fills, TCP
//! tells the peer to stop, and a peer that does not read cannot send either.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// The token of a connection is its index in the slab, which never becomes this large.
const LISTENER: Token = Token(usize::MAX);

/// The bound on the bytes queued for one peer.
const OUT_BYTES_MAX: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1);
    let mut server = Server::bind(argument.as_deref().unwrap_or("127.0.0.1:8001").parse()?)?;
    println!("listening on {}", server.listener.local_addr()?);
    match server.run()? {}
}

/// The event loop and its connections.
pub struct Server {
    poll: Poll,
    pub listener: TcpListener,
    /// Whether connections may wait in the listener's backlog.
    may_accept: bool,
    connections: Slab<Connection>,
    /// One buffer for all connections, since only one is read at a time.
    scratch: Vec<u8>,
}

impl Server {
    /// Listens on `address`; port 0 takes any free port.
    pub fn bind(address: SocketAddr) -> io::Result<Server> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Server {
            poll,
            listener,
            may_accept: false,
            connections: Slab::new(),
            scratch: vec![0; 16 * 1024],
        })
    }

    /// Runs until the poll fails. Each pass of the loop is a tick.
    pub fn run(&mut self) -> io::Result<Infallible> {
        let mut events = Events::with_capacity(256);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.may_accept = true,
                    // Whether the edge is readable or writable does not matter: a turn tries both.
                    Token(index) => self.give_turn(index),
                }
            }
            self.accept(); // After the turns, as in step 1.
        }
    }

    /// Lets one connection read and write. An error ends this connection only.
    fn give_turn(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        match connection.turn(&mut self.scratch) {
            Ok(Turn::Blocked) => {}
            Ok(Turn::Ended) | Err(_) => drop(self.connections.remove(index)),
        }
    }

    fn accept(&mut self) {
        while self.may_accept {
            match self.listener.accept() {
                Ok((stream, _)) => self.insert(stream),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.may_accept = false,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return, // No descriptor is free. Retry in the next tick.
                },
            }
        }
    }

    fn insert(&mut self, mut stream: TcpStream) {
        let entry = self.connections.vacant_entry();
        // Registered once for both. A writable edge comes only when a send buffer that was full has
        // space again, so an idle connection causes no events. (With level triggering it would cause
        // them without end, and the interest would have to be changed whenever `out` fills or empties.)
        let both = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, Token(entry.key()), both).is_ok() {
            entry.insert(Connection { stream, out: VecDeque::new() });
        }
    }
}

/// The result of a turn.
enum Turn {
    /// The kernel has blocked reading or writing. An edge will follow.
    Blocked,
    /// All is read and all is written.
    Ended,
}

/// A stream, and the bytes to write to it.
struct Connection {
    stream: TcpStream,
    /// At most `OUT_BYTES_MAX`.
    out: VecDeque<u8>,
}

impl Connection {
    /// Writes and reads until the kernel blocks one of them.
    ///
    /// # Errors
    ///
    /// An error of the network, which ends the connection.
    fn turn(&mut self, scratch: &mut [u8]) -> io::Result<Turn> {
        loop {
            self.flush()?;
            let capacity = OUT_BYTES_MAX.saturating_sub(self.out.len()).min(scratch.len());
            if capacity == 0 {
                // Input is paused. The flush has left bytes, so it has blocked: when the peer reads,
                // the writable edge gives the next turn, which also reads.
                return Ok(Turn::Blocked);
            }
            match self.stream.read(&mut scratch[..capacity]) {
                Ok(0) if self.out.is_empty() => return Ok(Turn::Ended),
                // The peer may still read. After the flush, the next read returns 0 again.
                Ok(0) => return Ok(Turn::Blocked),
                Ok(count) => self.out.extend(&scratch[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(Turn::Blocked),
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Writes until `out` is empty or the kernel takes no more.
    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            // A ring buffer has its bytes in two parts. The second becomes the first.
            match self.stream.write(self.out.as_slices().0) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                // Often fewer than were offered: the rest stays in the queue.
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(()),
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}
