//! Requests, one under way on each of many connections that stay open.
//!
//! Owns how many answers a second come back. `GET /health` is the least that a request can cost;
//! what others cost more is what the server does for them.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::crowd::PATIENCE;
use crate::http::{self, Http};
use crate::machine::{Effort, Meter};
use crate::server::Server;
use crate::talk::Span;

/// Connections, and so requests under way.
const CONNECTIONS: usize = 64;

/// Opening a session, looking at a room, and the health, in turn.
pub fn mix(server: &Server) -> Result<Vec<Vec<u8>>> {
    let mut http = Http::connect(server.address)?;
    let session = http::field(&http.ask(&http::open_session("ana"))?, "session_id")?;
    let room = http::field(&http.ask(&http::post("/rooms", Some(&session), ""))?, "room_id")?;
    let look = http::get(&format!("/rooms/{room}"), None);
    Ok(vec![http::open_session("somebody"), look, http::get("/health", None)])
}

/// Answers a second, and what they took.
pub fn per_second(server: &Server, requests: &[Vec<u8>], span: Span) -> Result<(f64, Effort)> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(CONNECTIONS));
    let mut askers = Vec::new();
    for number in 0..CONNECTIONS {
        let stream = std::net::TcpStream::connect(server.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        let mut asker = Asker { stream, next: number, answer: Vec::new() };
        asker.ask(requests)?;
        askers.push(asker);
    }
    let mut answers_until = |end: Instant| {
        let mut answers = 0_u32;
        while Instant::now() < end {
            poll.poll(&mut events, Some(PATIENCE))?;
            for event in &events {
                let Token(number) = event.token();
                answers += u32::from(askers[number].on_readable(requests)?);
            }
        }
        Result::Ok(answers)
    };
    answers_until(Instant::now() + span.warm_up)?;
    let meter = Meter::start(server.process)?;
    let answers = answers_until(Instant::now() + span.measured)?;
    let effort = meter.stop()?;
    Ok((f64::from(answers) / effort.took.as_secs_f64(), effort))
}

struct Asker {
    stream: TcpStream,
    /// Which request comes next, counted on and on.
    next: usize,
    answer: Vec<u8>,
}

impl Asker {
    fn ask(&mut self, requests: &[Vec<u8>]) -> Result<()> {
        let request = &requests[self.next % requests.len()];
        self.next += 1;
        Ok(self.stream.write_all(request)?) // It has room: nothing else is under way.
    }

    /// True if that was the rest of an answer.
    fn on_readable(&mut self, requests: &[Vec<u8>]) -> Result<bool> {
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
        self.ask(requests)?;
        Ok(true)
    }
}
