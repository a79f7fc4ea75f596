//! The client side of the load: many WebSocket connections on one thread.
//!
//! Owns the connections, and the bytes that are partly read or written. Must not know what the
//! messages mean. The invariant: a lost connection fails the benchmark, because a server that drops
//! its clients would look fast.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::frame::{self, CLOSE, PING, PONG, TEXT};
use crate::{Result, machine};

/// The number of concurrent handshakes, which must fit into the backlog of any server.
const IN_FLIGHT: usize = 64;

/// The longest wait for data that must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

const TICKER: Token = Token(usize::MAX);

pub struct Clients {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// The number of upgrades without a response.
    opening: usize,
    /// The buffer for all reads, larger than any frame.
    scratch: Vec<u8>,
    ticker: Option<OwnedFd>,
    /// Reads that returned data.
    pub reads: u64,
}

struct Connection {
    stream: TcpStream,
    is_open: bool,
    /// The beginning of a frame, or of the response to the upgrade.
    unfinished: Vec<u8>,
    /// Bytes that the kernel has not accepted yet.
    unsent: Vec<u8>,
}

impl Clients {
    pub fn new() -> Result<Clients> {
        Ok(Clients {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            opening: 0,
            scratch: vec![0; 256 * 1024],
            ticker: None,
            reads: 0,
        })
    }

    /// Opens a connection for each path, numbered in this order.
    pub fn connect(address: SocketAddr, paths: &[String]) -> Result<Clients> {
        Clients::spread(|_| address, paths)
    }

    /// The same; `address` gives the server of each connection.
    pub fn spread(address: impl Fn(usize) -> SocketAddr, paths: &[String]) -> Result<Clients> {
        let mut clients = Clients::new()?;
        for (number, path) in paths.iter().enumerate() {
            clients.wait_for_upgrades(IN_FLIGHT - 1)?;
            clients.open(address(number), path)?;
        }
        clients.wait_for_upgrades(0)?;
        Ok(clients)
    }

    /// Opens one more connection. Its upgrade is completed by [`Clients::listen`].
    pub fn open(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(frame::upgrade(&address.to_string(), path).as_bytes())?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let token = Token(self.connections.len());
        self.poll.registry().register(
            &mut stream,
            token,
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let (unfinished, unsent) = (Vec::new(), Vec::new());
        self.connections.push(Connection { stream, is_open: false, unfinished, unsent });
        self.opening += 1;
        Ok(())
    }

    /// Listens until at most `remaining` upgrades are without a response.
    pub fn wait_for_upgrades(&mut self, remaining: usize) -> Result<()> {
        while self.opening > remaining {
            if !self.listen(PATIENCE, |_, _, _| Ok(()))? {
                return Err(format!("{} upgrades have no response", self.opening).into());
            }
        }
        Ok(())
    }

    /// From now on [`Clients::listen`] returns at least this often.
    pub fn wake_every(&mut self, gap: Duration) -> Result<()> {
        let timer = machine::ticker(gap)?;
        let descriptor = timer.as_raw_fd();
        let mut source = SourceFd(&descriptor);
        self.poll.registry().register(&mut source, TICKER, Interest::READABLE)?;
        self.ticker = Some(timer);
        Ok(())
    }

    pub fn send(&mut self, connection: usize, text: &[u8]) -> Result<()> {
        let connection =
            self.connections.get_mut(connection).ok_or("no connection has that number")?;
        frame::push_masked(&mut connection.unsent, TEXT, text);
        Ok(connection.flush()?)
    }

    /// Waits for events, at most `timeout`. Calls `on_text` for each text message, with its
    /// connection and the time of the read. Returns false if there was no event.
    pub fn listen(
        &mut self,
        timeout: Duration,
        mut on_text: impl FnMut(usize, &[u8], Instant) -> Result<()>,
    ) -> Result<bool> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            done => done?,
        }
        for event in &self.events {
            let Token(number) = event.token();
            let Some(connection) = self.connections.get_mut(number) else {
                let timer = self.ticker.as_ref().ok_or("an event of no connection")?;
                let _expirations = rustix::io::read(timer, &mut [0; 8]); // Clears the event.
                continue;
            };
            let was_open = connection.is_open;
            if event.is_writable() {
                connection.flush()?;
            }
            if event.is_readable() {
                self.reads += connection
                    .read(&mut self.scratch, |text, at| on_text(number, text, at))
                    .map_err(|error| format!("connection {number}: {error}"))?;
            }
            self.opening -= usize::from(connection.is_open && !was_open);
        }
        Ok(!self.events.is_empty())
    }

    /// Listens until nothing has come for this long, so that all joins have been announced.
    pub fn settle(&mut self, quiet: Duration) -> Result<()> {
        while self.listen(quiet, |_, _, _| Ok(()))? {}
        Ok(())
    }
}

impl Connection {
    /// Reads until the socket is empty. Returns the number of reads with data.
    fn read(
        &mut self,
        scratch: &mut [u8],
        mut on_text: impl FnMut(&[u8], Instant) -> Result<()>,
    ) -> Result<u64> {
        let mut reads = 0;
        loop {
            let kept = self.unfinished.len();
            scratch[..kept].copy_from_slice(&self.unfinished);
            let end = match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => return Err("the server has ended the connection".into()),
                Ok(got) => kept + got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(reads),
                Err(error) => return Err(error.into()),
            };
            reads += 1;
            let now = Instant::now();
            let used = self.take(&scratch[..end], |text| on_text(text, now))?;
            self.unfinished.clear();
            self.unfinished.extend_from_slice(&scratch[used..end]);
            // A short read has emptied the socket, so new data triggers a new edge (epoll(7)).
            if end < scratch.len() {
                return Ok(reads);
            }
        }
    }

    /// Handles the complete frames in these bytes. Returns their length.
    fn take(
        &mut self,
        bytes: &[u8],
        mut on_text: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut at = 0;
        if !self.is_open {
            let Some(end) = frame::end_of_head(bytes) else { return Ok(0) };
            if !frame::has_switched(&bytes[..end]) {
                return Err(String::from_utf8_lossy(&bytes[..end]).into());
            }
            (self.is_open, at) = (true, end);
        }
        while let Some(header) = frame::header(&bytes[at..]) {
            let Some(payload) = bytes[at..].get(header.start..header.end) else { break };
            match header.opcode {
                TEXT => on_text(payload)?,
                PING => {
                    frame::push_masked(&mut self.unsent, PONG, payload);
                    self.flush()?;
                }
                CLOSE => {
                    let why = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    return Err(format!("closed: {why}").into());
                }
                _ => {}
            }
            at += header.end;
        }
        Ok(at)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(some) => sent += some,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }
}
