//! Step 1 of 5: an echo server for many connections on one thread. See `step1_echo.md`.
//!
//! Owns the poll, the listener and the connections. Must not know what the bytes mean, nor make a
//! call that blocks. The invariant: a turn ends when the kernel reports `WouldBlock`. The poll is
//! edge-triggered: it reports the arrival of input once, so input that is left unread may never be
//! reported again.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// The token of a connection is its index in the slab, which never becomes this large.
const LISTENER: Token = Token(usize::MAX);

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
    connections: Slab<TcpStream>,
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
            // The only place where the program sleeps: until any of the sockets has an event.
            match self.poll.poll(&mut events, None) {
                // A signal ends the wait early, and is no reason to stop.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.may_accept = true,
                    Token(index) => self.give_turn(index),
                }
            }
            // After the turns: a new connection may get an index that was freed in this tick, and no
            // event of the old connection may be taken for one of the new connection.
            self.accept();
        }
    }

    /// Lets one connection read and write. An error ends this connection only.
    fn give_turn(&mut self, index: usize) {
        // An earlier event of this tick may have ended the connection.
        let Some(stream) = self.connections.get_mut(index) else { return };
        match echo(stream, &mut self.scratch) {
            Ok(Turn::Blocked) => {}
            // Dropping the stream closes it, and the poll forgets it.
            Ok(Turn::Ended) | Err(_) => drop(self.connections.remove(index)),
        }
    }

    /// Accepts until the backlog is empty, because the listener is edge-triggered, too.
    fn accept(&mut self) {
        while self.may_accept {
            match self.listener.accept() {
                Ok((stream, _)) => self.insert(stream),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.may_accept = false,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    // No descriptor is free. Retry in the next tick, when a connection may have ended.
                    _ => return,
                },
            }
        }
    }

    fn insert(&mut self, mut stream: TcpStream) {
        let entry = self.connections.vacant_entry();
        let token = Token(entry.key());
        // Input that has arrived before the registration is reported as well.
        if self.poll.registry().register(&mut stream, token, Interest::READABLE).is_ok() {
            entry.insert(stream);
        }
    }
}

/// The result of a turn.
enum Turn {
    /// The kernel has no more input. An edge will follow.
    Blocked,
    /// The peer has ended its direction.
    Ended,
}

/// Reads what has arrived and sends it back.
///
/// # Errors
///
/// An error of the network, which ends the connection.
fn echo(stream: &mut TcpStream, scratch: &mut [u8]) -> io::Result<Turn> {
    loop {
        match stream.read(scratch) {
            Ok(0) => return Ok(Turn::Ended),
            // The stream does not block, so this fails with `WouldBlock` as soon as the peer lags
            // behind and the kernel's send buffer is full. It ends the connection until step 2.
            Ok(count) => stream.write_all(&scratch[..count])?,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return Ok(Turn::Blocked),
                ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}
