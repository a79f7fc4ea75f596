//! How long people's messages take while a hundred addresses flood three servers with requests.
//!
//! Owns the floods, and their rate. Must not know how a message travels, which `traffic` measures. The
//! invariant: every request of a flood is answered, by what it asks for or by 503, or the benchmark fails.
//!
//! Each attacker has a connection of its own to one of the servers, with the field by which a balancer passes
//! an address on: a balancer would need more of the processor than the servers. Servers, store and generator
//! share all cores, so the rate is bounded: a flood without a bound would measure how the kernel shares them.
//! An attacker with too many requests without an answer misses its turn.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::http::{self, Http};
use crate::server::Server;

/// Hostile addresses.
const ADDRESSES: usize = 100;

/// Most requests of an attacker without an answer.
const UNANSWERED_MAX: usize = 20;

/// How often requests that are due are sent.
const GAP: Duration = Duration::from_millis(1);

/// What attackers ask for.
#[derive(Clone, Copy)]
pub enum Attack {
    /// `GET /rooms/{id}`, every other one of a room that does not exist.
    Rooms,
    /// Sessions that do not exist.
    WrongSessions,
    /// To join and to leave, in turn.
    Joins,
    /// Pages of a hundred messages.
    Pages,
}

/// Attackers with a session each, and the rooms that they ask for.
pub struct Attackers {
    servers: Vec<SocketAddr>,
    sessions: Vec<String>,
    rooms: Vec<String>,
}

/// What a flood has been answered.
#[derive(Clone, Copy, Default)]
pub struct Flooded {
    pub per_second: f64,
    /// The share of the answers that were 503.
    pub refused: f64,
}

impl Attackers {
    pub fn prepare(servers: &[Server]) -> Result<Attackers> {
        let first = servers.first().ok_or("there is no server")?;
        let mut http = Http::connect(first.address)?;
        let sessions = first.sessions(&mut http, ADDRESSES)?;
        let mut rooms = Vec::new();
        for owner in &sessions[..4] {
            let room = http::field(&http.ask(&http::post("/rooms", Some(owner), ""))?, "room_id")?;
            let target = format!("/rooms/{room}/messages");
            let text = format!(r#"{{"message":"{:.<100}"}}"#, "");
            let posts = (0..100).map(|_| http::post(&target, Some(owner), &text));
            http.ask_all(posts, |_| Ok(()))?;
            rooms.push(room);
        }
        let servers = servers.iter().map(|server| server.address).collect();
        Ok(Attackers { servers, sessions, rooms })
    }

    /// Floods the servers while `run` runs.
    pub fn flood<T>(
        &self,
        attack: Attack,
        run: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Flooded)> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let flooded =
                    Flood::connect(self, attack).and_then(|mut flood| flood.run(&is_over));
                flooded.map_err(|error| error.to_string())
            });
            let result = run();
            is_over.store(true, Ordering::Relaxed);
            let flooded = flood.join().map_err(|_| "the flood has panicked")??;
            Ok((result?, flooded))
        })
    }

    /// The request of this number, of this attacker.
    fn request(&self, attack: Attack, number: usize, attacker: usize) -> Vec<u8> {
        let session = Some(self.sessions[attacker].as_str());
        let room = &self.rooms[number / 2 % self.rooms.len()];
        let unique = number * ADDRESSES + attacker;
        let wrong = format!("{unique:08x}-0000-4000-8000-000000000000");
        let request = match attack {
            Attack::Rooms if number % 2 == 0 => http::get(&format!("/rooms/{room}"), None),
            Attack::Rooms => http::get(&format!("/rooms/{unique:010x}"), None),
            Attack::WrongSessions => http::get("/sessions/me", Some(&wrong)),
            Attack::Joins if number % 2 == 0 => {
                http::post(&format!("/rooms/{room}/join"), session, "")
            }
            Attack::Joins => {
                http::delete(&format!("/rooms/{room}/leave"), &self.sessions[attacker])
            }
            Attack::Pages => http::get(&format!("/rooms/{room}/messages?limit=100"), session),
        };
        http::forwarded(request, &format!("10.0.0.{attacker}"))
    }
}

impl Attack {
    /// Requests per second of all attackers together. A page has 30 kB.
    fn rate(self) -> u32 {
        match self {
            Attack::Rooms | Attack::WrongSessions | Attack::Joins => 5000,
            Attack::Pages => 1000,
        }
    }

    /// Whether an answer with this status is what was asked for.
    fn expects(self, status: &[u8]) -> bool {
        match self {
            Attack::Rooms => matches!(status, b"200" | b"404"),
            Attack::WrongSessions => status == b"401",
            Attack::Joins | Attack::Pages => status == b"200",
        }
    }
}

/// All connections of a flood.
struct Flood<'a> {
    attackers: &'a Attackers,
    attack: Attack,
    poll: Poll,
    all: Vec<Attacker>,
    answers: u64,
    refused: u64,
}

struct Attacker {
    stream: TcpStream,
    asked: usize,
    unanswered: usize,
    unsent: Vec<u8>,
    unread: Vec<u8>,
}

impl Flood<'_> {
    fn connect(attackers: &Attackers, attack: Attack) -> Result<Flood<'_>> {
        let poll = Poll::new()?;
        let mut all = Vec::new();
        for number in 0..ADDRESSES {
            let server = attackers.servers[number % attackers.servers.len()];
            let stream = std::net::TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(number), interest)?;
            let (unsent, unread) = (Vec::new(), Vec::new());
            all.push(Attacker { stream, asked: 0, unanswered: 0, unsent, unread });
        }
        Ok(Flood { attackers, attack, poll, all, answers: 0, refused: 0 })
    }

    fn run(&mut self, is_over: &AtomicBool) -> Result<Flooded> {
        let began = Instant::now();
        let mut events = Events::with_capacity(2 * ADDRESSES);
        let (mut passed, mut turn) = (0, 0);
        while !is_over.load(Ordering::Relaxed) {
            let due = (began.elapsed().as_secs_f64() * f64::from(self.attack.rate())) as u64;
            for _ in passed..due {
                self.ask(turn % ADDRESSES)?;
                turn += 1;
            }
            passed = due;
            self.poll.poll(&mut events, Some(GAP))?;
            for event in &events {
                let Token(number) = event.token();
                self.all[number].flush()?;
                self.listen(number)?;
            }
        }
        let answers = self.answers as f64;
        let per_second = answers / began.elapsed().as_secs_f64();
        Ok(Flooded { per_second, refused: self.refused as f64 / answers.max(1.0) })
    }

    /// The next request of an attacker, unless too many have no answer.
    fn ask(&mut self, number: usize) -> Result<()> {
        let attacker = &mut self.all[number];
        if attacker.unanswered < UNANSWERED_MAX {
            let request = self.attackers.request(self.attack, attacker.asked, number);
            attacker.unsent.extend(request);
            attacker.asked += 1;
            attacker.unanswered += 1;
        }
        attacker.flush()
    }

    fn listen(&mut self, number: usize) -> Result<()> {
        let attacker = &mut self.all[number];
        attacker.receive()?;
        let mut taken = 0;
        while let Some(answer) = http::answer(&attacker.unread[taken..])? {
            let status = &attacker.unread[taken + 9..taken + 12];
            let is_refused = status == b"503";
            if !is_refused && !self.attack.expects(status) {
                return Err(String::from_utf8_lossy(&attacker.unread[taken..]).into());
            }
            self.answers += 1;
            self.refused += u64::from(is_refused);
            attacker.unanswered -= 1;
            taken += answer.end;
        }
        attacker.unread.drain(..taken);
        Ok(())
    }
}

impl Attacker {
    fn flush(&mut self) -> Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(some) => sent += some,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let mut scratch = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => return Err("the server has ended an attacker's connection".into()),
                Ok(got) => self.unread.extend_from_slice(&scratch[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
