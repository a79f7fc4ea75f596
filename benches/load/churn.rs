//! Coming and going: connect, join, send one message, receive it, close, and again. Each connection
//! has its own session and room.
//!
//! Owns the steps of these connections. The invariant: a cycle counts only if the message came back
//! and the server has answered the close frame and ended the connection.

use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::clients::PATIENCE;
use crate::frame::{self, CLOSE, TEXT};
use crate::machine::{Effort, Meter};
use crate::server::Server;
use crate::traffic::Span;

/// The number of concurrent connections.
pub const SLOTS: usize = 32;

struct Churn {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    slots: Vec<Slot>,
}

struct Slot {
    path: String,
    stream: Option<TcpStream>,
    awaits: Awaits,
    /// Cycles begun.
    cycles: usize,
    unread: Vec<u8>,
}

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Upgrade,
    Message,
    Close,
    /// The end of the stream, after a close frame.
    End,
}

/// Processor time of the server for each cycle, in microseconds.
pub fn cpu_micros(server: &Server, span: Span) -> Result<(f64, Effort)> {
    let mut churn = Churn::new(server)?;
    for slot in 0..SLOTS {
        churn.advance(slot)?;
    }
    churn.cycles_until(Instant::now() + span.warm_up)?;
    let meter = Meter::start(server.process)?;
    let cycles = churn.cycles_until(Instant::now() + span.measured)?;
    let effort = meter.stop()?;
    let cpu = effort.server.ok_or("the server's process isn't known")?.cpu;
    Ok((cpu.as_secs_f64() * 1e6 / cycles as f64, effort))
}

/// Counts cycles on all slots at once. The server finds each step of all of them together.
pub fn count(server: &Server, rounds: usize) -> Result<()> {
    let mut churn = Churn::new(server)?;
    churn.run_in_rounds(server, WARM_UP)?;
    server.count(|| churn.run_in_rounds(server, rounds))
}

/// Rounds that are not counted: the first ones allocate what later ones use again.
const WARM_UP: usize = 5;

impl Churn {
    fn new(server: &Server) -> Result<Churn> {
        let slot =
            |path| Slot { path, stream: None, awaits: Awaits::End, cycles: 0, unread: Vec::new() };
        let slots = server.member_paths(SLOTS, 1)?.into_iter().map(slot).collect();
        let events = Events::with_capacity(SLOTS);
        Ok(Churn { address: server.address, poll: Poll::new()?, events, slots })
    }

    fn run_in_rounds(&mut self, server: &Server, rounds: usize) -> Result<()> {
        for _ in 0..rounds {
            for _step in [Awaits::Upgrade, Awaits::Message, Awaits::Close] {
                server.pause()?;
                for slot in 0..SLOTS {
                    self.advance(slot)?;
                }
                server.resume()?;
                let mut waiting = SLOTS;
                while waiting > 0 {
                    waiting -= self.listen()?.len();
                }
            }
        }
        Ok(())
    }

    /// Takes the next step of a slot that waits for nothing.
    fn advance(&mut self, number: usize) -> Result<()> {
        let slot = &mut self.slots[number];
        let mut bytes = Vec::new();
        slot.awaits = match slot.awaits {
            Awaits::End => {
                slot.cycles += 1;
                let stream = std::net::TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let mut stream = TcpStream::from_std(stream);
                self.poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
                slot.stream = Some(stream);
                bytes = frame::upgrade(&self.address.to_string(), &slot.path).into_bytes();
                Awaits::Upgrade
            }
            Awaits::Upgrade => {
                let event = format!(r#"{{"type":"chat","message":"{}"}}"#, slot.mark());
                frame::push_masked(&mut bytes, TEXT, event.as_bytes());
                Awaits::Message
            }
            Awaits::Message | Awaits::Close => {
                frame::push_masked(&mut bytes, CLOSE, &1000_u16.to_be_bytes());
                Awaits::Close
            }
        };
        let stream = slot.stream.as_mut().ok_or("a step without a connection")?;
        Ok(stream.write_all(&bytes)?) // Less than the socket's buffer, so this can't block.
    }

    /// Waits for events. Returns the slots that can take their next step.
    fn listen(&mut self) -> Result<Vec<usize>> {
        self.poll.poll(&mut self.events, Some(PATIENCE))?;
        if self.events.is_empty() {
            return Err("the server does not answer".into());
        }
        let mut ready = Vec::new();
        for event in &self.events {
            let Token(number) = event.token();
            let slot = &mut self.slots[number];
            if slot.on_readable().map_err(|error| format!("connection {number}: {error}"))? {
                ready.push(number);
            }
        }
        Ok(ready)
    }

    /// The cycles that end until then. Each slot begins the next at once.
    fn cycles_until(&mut self, end: Instant) -> Result<usize> {
        let mut cycles = 0;
        while Instant::now() < end {
            for slot in self.listen()? {
                cycles += usize::from(self.slots[slot].awaits == Awaits::End);
                self.advance(slot)?;
            }
        }
        Ok(cycles)
    }
}

impl Slot {
    /// As long as a message of 30 characters, and different in each cycle.
    fn mark(&self) -> String {
        format!("~{:029}", self.cycles)
    }

    /// True if what the slot waits for has come.
    fn on_readable(&mut self) -> Result<bool> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let mut scratch = [0; 16 * 1024];
        let has_ended = loop {
            match stream.read(&mut scratch) {
                Ok(0) => break true,
                Ok(got) => self.unread.extend_from_slice(&scratch[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) => return Err(error.into()),
            }
        };
        let mut is_ready = false;
        let mut unread = mem::take(&mut self.unread);
        let mut at = 0;
        if self.awaits == Awaits::Upgrade {
            if let Some(end) = frame::end_of_head(&unread) {
                if !frame::has_switched(&unread[..end]) {
                    return Err(String::from_utf8_lossy(&unread[..end]).into());
                }
                (is_ready, at) = (true, end);
            }
        }
        while let Some(header) =
            frame::header(&unread[at..]).filter(|_| self.awaits != Awaits::Upgrade || is_ready)
        {
            let Some(payload) = unread[at..].get(header.start..header.end) else { break };
            at += header.end;
            match (header.opcode, self.awaits) {
                (TEXT, Awaits::Message) => {
                    let mark = self.mark();
                    is_ready |= payload.windows(mark.len()).any(|some| some == mark.as_bytes());
                }
                (CLOSE, Awaits::Close) => self.awaits = Awaits::End,
                (CLOSE, _) => return Err("the server closes first".into()),
                _ => {}
            }
        }
        unread.drain(..at);
        self.unread = unread;
        if !has_ended {
            return Ok(is_ready);
        }
        match self.awaits {
            Awaits::End => self.stream = None,
            _ => return Err("the server has ended the connection".into()),
        }
        Ok(true)
    }
}
