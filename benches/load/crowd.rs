//! Many sockets on one thread: the clients' side of the load.
//!
//! Owns the connections and what is half read or half written on them. Must never know what is
//! said. The invariant: nobody may leave. A close, an end or an answer that isn't an upgrade fails
//! the benchmark, for a server that sheds its members would look fast.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::frame::{self, CLOSE, PING, PONG, TEXT};
use crate::{Result, machine};

/// How many handshakes are under way at a time: fewer than any server's backlog.
const IN_FLIGHT: usize = 64;

/// How long a server may say nothing when something must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

const METRONOME: Token = Token(usize::MAX);

pub struct Crowd {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// Upgrades that have not been answered.
    opening: usize,
    /// The one buffer that is read into; larger than any frame.
    scratch: Vec<u8>,
    metronome: Option<OwnedFd>,
    /// Reads that brought anything.
    pub reads: u64,
}

struct Connection {
    stream: TcpStream,
    is_open: bool,
    /// The beginning of a frame, or of the answer to the upgrade.
    unfinished: Vec<u8>,
    /// What the kernel had no room for.
    unsent: Vec<u8>,
}

impl Crowd {
    /// Nobody yet.
    pub fn new() -> Result<Crowd> {
        Ok(Crowd {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            opening: 0,
            scratch: vec![0; 256 * 1024],
            metronome: None,
            reads: 0,
        })
    }

    /// Opens a socket for each path; they are numbered in that order.
    pub fn connect(address: SocketAddr, paths: &[String]) -> Result<Crowd> {
        let mut crowd = Crowd::new()?;
        for path in paths {
            crowd.wait_for_upgrades(IN_FLIGHT - 1)?;
            crowd.open(address, path)?;
        }
        crowd.wait_for_upgrades(0)?;
        Ok(crowd)
    }

    /// One more, whose upgrade will be answered while the crowd listens.
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

    pub fn wait_for_upgrades(&mut self, but: usize) -> Result<()> {
        while self.opening > but {
            if !self.listen(PATIENCE, |_, _, _| Ok(()))? {
                return Err(format!("{} upgrades have no answer", self.opening).into());
            }
        }
        Ok(())
    }

    /// From now on [`Crowd::listen`] returns at least that often.
    pub fn wake_every(&mut self, gap: Duration) -> Result<()> {
        let timer = machine::metronome(gap)?;
        let descriptor = timer.as_raw_fd();
        let mut source = SourceFd(&descriptor);
        self.poll.registry().register(&mut source, METRONOME, Interest::READABLE)?;
        self.metronome = Some(timer);
        Ok(())
    }

    pub fn say(&mut self, connection: usize, text: &[u8]) -> Result<()> {
        let connection = self.connections.get_mut(connection).ok_or("nobody has that number")?;
        frame::push_masked(&mut connection.unsent, TEXT, text);
        Ok(connection.flush()?)
    }

    /// Waits at most that long for anything to happen, and hands over each text that came, with its
    /// connection and the moment it was read. False if nothing happened.
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
                let timer = self.metronome.as_ref().ok_or("an event of nobody's")?;
                let _missed = rustix::io::read(timer, &mut [0; 8]); // How many doesn't matter.
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

    /// Listens until nothing has come for that long: who came in has been announced to all.
    pub fn settle(&mut self, quiet: Duration) -> Result<()> {
        while self.listen(quiet, |_, _, _| Ok(()))? {}
        Ok(())
    }
}

impl Connection {
    /// Reads all there is, and says how often something was there.
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
                Ok(0) => return Err("the server has ended it".into()),
                Ok(got) => kept + got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(reads),
                Err(error) => return Err(error.into()),
            };
            reads += 1;
            let now = Instant::now();
            let used = self.take(&scratch[..end], |text| on_text(text, now))?;
            self.unfinished.clear();
            self.unfinished.extend_from_slice(&scratch[used..end]);
            // A read that leaves room has emptied the socket, so the next edge will be told:
            // epoll(7).
            if end < scratch.len() {
                return Ok(reads);
            }
        }
    }

    /// Takes what is there in full, and says how many bytes that were.
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
