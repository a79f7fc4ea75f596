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
const CONNECTIONS: usize = 64;

/// Three requests, sent in turn: open a session, look up a room, and the health.
pub fn mix(server: &Server) -> Result<Vec<Vec<u8>>> {
    let mut http = Http::connect(server.address)?;
    let session = http::field(&http.ask(&http::open_session("ana"))?, "session_id")?;
    let room = http::field(&http.ask(&http::post("/rooms", Some(&session), ""))?, "room_id")?;
    let look = http::get(&format!("/rooms/{room}"), None);
    Ok(vec![http::open_session("somebody"), look, http::get("/health", None)])
}

/// Responses per second, and the processor time for them.
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
    /// The number of requests so far, which selects the next one.
    next: usize,
    answer: Vec<u8>,
}

impl Asker {
    fn ask(&mut self, requests: &[Vec<u8>]) -> Result<()> {
        let request = &requests[self.next % requests.len()];
        self.next += 1;
        Ok(self.stream.write_all(request)?) // The socket's buffer is empty, so this can't block.
    }

    /// True if this completed a response.
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
