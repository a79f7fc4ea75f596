//! REST requests on many persistent connections, one at a time on each.
//!
//! Owns the count of responses per second. `GET /health` is the cheapest request; the additional
//! cost of others is the work that the server does for them.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::clients::PATIENCE;
use crate::http::{self, Http};
use crate::machine::{Effort, Meter};
use crate::server::Server;
use crate::traffic::Span;

/// The number of connections, and so of concurrent requests.
pub const CONNECTIONS: usize = 64;

/// Three requests, sent in turn: open a session, look up a room, and the health.
pub fn mix(server: &Server) -> Result<Vec<Vec<u8>>> {
    let mut http = Http::connect(server.address)?;
    let session = http::field(&http.ask(&http::open_session("ana"))?, "session_id")?;
    let room = http::field(&http.ask(&http::post("/rooms", Some(&session), ""))?, "room_id")?;
    let look = http::get(&format!("/rooms/{room}"), None);
    Ok(vec![http::open_session("somebody"), look, http::get("/health", None)])
}

/// Responses, and the time that they took.
pub struct Answered {
    answers: u32,
    pub effort: Effort,
}

impl Answered {
    pub fn cpu_micros_per_answer(&self) -> Option<f64> {
        let cpu = self.effort.server?.cpu;
        Some(cpu.as_secs_f64() * 1e6 / f64::from(self.answers))
    }
}

/// Sends requests in turn, at full speed.
pub fn measure(server: &Server, requests: &[Vec<u8>], span: Span) -> Result<Answered> {
    let mut askers = Askers::connect(server)?;
    for number in 0..CONNECTIONS {
        askers.ask(number, requests)?;
    }
    let mut answers_until = |end: Instant| {
        let mut answers = 0_u32;
        while Instant::now() < end {
            for number in askers.listen()? {
                answers += 1;
                askers.ask(number, requests)?;
            }
        }
        Result::Ok(answers)
    };
    answers_until(Instant::now() + span.warm_up)?;
    let meter = Meter::start(server.process)?;
    let answers = answers_until(Instant::now() + span.measured)?;
    Ok(Answered { answers, effort: meter.stop()? })
}

/// Counts requests on all connections at once. The server finds all of them together.
pub fn count(server: &Server, requests: &[Vec<u8>], rounds: usize) -> Result<()> {
    let mut askers = Askers::connect(server)?;
    let mut run = |rounds| {
        for _ in 0..rounds {
            server.pause()?;
            for number in 0..CONNECTIONS {
                askers.ask(number, requests)?;
            }
            server.resume()?;
            let mut waiting = CONNECTIONS;
            while waiting > 0 {
                waiting -= askers.listen()?.len();
            }
        }
        Ok(())
    };
    run(WARM_UP)?;
    server.count(|| run(rounds))
}

/// Rounds that are not counted.
const WARM_UP: usize = 5;

/// All connections.
struct Askers {
    poll: Poll,
    events: Events,
    all: Vec<Asker>,
}

struct Asker {
    stream: TcpStream,
    /// The number of requests so far, which selects the next one.
    next: usize,
    answer: Vec<u8>,
}

impl Askers {
    fn connect(server: &Server) -> Result<Askers> {
        let poll = Poll::new()?;
        let mut all = Vec::new();
        for number in 0..CONNECTIONS {
            let stream = std::net::TcpStream::connect(server.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            all.push(Asker { stream, next: number, answer: Vec::new() });
        }
        Ok(Askers { poll, events: Events::with_capacity(CONNECTIONS), all })
    }

    fn ask(&mut self, number: usize, requests: &[Vec<u8>]) -> Result<()> {
        let asker = &mut self.all[number];
        let request = &requests[asker.next % requests.len()];
        asker.next += 1;
        Ok(asker.stream.write_all(request)?) // The socket's buffer is empty, so this can't block.
    }

    /// Waits for events. Returns the connections with a complete response.
    fn listen(&mut self) -> Result<Vec<usize>> {
        self.poll.poll(&mut self.events, Some(PATIENCE))?;
        if self.events.is_empty() {
            return Err("the server does not answer".into());
        }
        let mut complete = Vec::new();
        for event in &self.events {
            let Token(number) = event.token();
            if self.all[number].on_readable()? {
                complete.push(number);
            }
        }
        Ok(complete)
    }
}

impl Asker {
    /// True if this completed a response.
    fn on_readable(&mut self) -> Result<bool> {
        let mut scratch = [0; 4096];
        match self.stream.read(&mut scratch) {
            Ok(0) => return Err("the server has ended a connection".into()),
            Ok(got) => self.answer.extend_from_slice(&scratch[..got]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let Some(answer) = http::answer(&self.answer)? else { return Ok(false) };
        if !answer.is_success || answer.end < self.answer.len() {
            return Err(String::from_utf8_lossy(&self.answer).into());
        }
        self.answer.clear();
        Ok(true)
    }
}
