//! People that write and read in a room, and do what the contract tells them to do when something breaks.
//!
//! Owns the writers, who repeat a message with its nonce until it is answered, and the readers, who come back
//! with the last id that they have seen. Must not know what breaks. The invariant: a writer's list has what was
//! answered, and a reader's list what it was sent, in that order; a reader that is told that what it has is not
//! complete begins another list.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client;

/// Nobody may be without news or an answer for so long.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// How long a connection may be silent before its client gives it up.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// The text of the last message.
pub const END: &str = "end";

/// What goes wrong, and when.
pub struct Journal {
    begun: Instant,
    faults: Mutex<Vec<(Duration, String)>>,
}

impl Journal {
    pub fn begin() -> Journal {
        let first = (Duration::ZERO, "nothing".to_owned());
        Journal { begun: Instant::now(), faults: Mutex::new(vec![first]) }
    }

    pub fn note(&self, fault: &str) {
        let mut faults = self.faults.lock().unwrap();
        faults.push((self.begun.elapsed(), fault.to_owned()));
    }

    /// The number of the latest fault.
    pub fn latest(&self) -> usize {
        self.faults.lock().unwrap().len() - 1
    }

    pub fn fault(&self, number: usize) -> String {
        let (at, what) = &self.faults.lock().unwrap()[number];
        format!("{what} (at {:.1} s)", at.as_secs_f32())
    }

    pub fn now(&self) -> String {
        let elapsed = self.begun.elapsed().as_secs_f32();
        format!("at {elapsed:.1} s, after {}", self.fault(self.latest()))
    }
}

/// A message that was answered.
#[derive(Clone, Debug)]
pub struct Answered {
    pub id: String,
    pub text: String,
    /// The latest fault at the time of the answer.
    pub fault: usize,
}

/// What a reader was sent.
#[derive(Default)]
pub struct Seen {
    /// The ids and texts of the chats. Another list begins when it is told that one is not complete.
    pub runs: Vec<Vec<(String, String)>>,
    pub resumed: usize,
    /// Who was seen to leave, and when.
    pub left: Vec<String>,
    last: Option<String>,
    page: Vec<Value>,
    is_over: bool,
}

/// A room under way, and where it is reached.
pub struct Scene {
    pub address: SocketAddr,
    pub room: String,
    pub journal: Journal,
    /// Writers stop.
    pub is_over: AtomicBool,
    /// Writers hold it while a message is under way, so that the thread that holds it alone has stopped them.
    pub gate: RwLock<()>,
    /// How many marks each reader has seen.
    pub marks: Vec<AtomicUsize>,
}

/// By which way somebody reads.
#[derive(Clone, Copy)]
pub enum Way {
    Socket,
    Events,
}

/// What comes on a connection.
enum News {
    Event(Value),
    /// Nothing but a sign of life.
    Ping,
    /// The code of the close frame; 0: none.
    End(u16),
}

/// A connection that receives the room's events.
enum Line {
    Socket(BufReader<TcpStream>),
    Events(BufReader<TcpStream>),
}

impl Line {
    /// Opens one. `Err`: the status of the answer; 0: none.
    fn open(address: SocketAddr, head: &str, way: Way) -> Result<Line, u16> {
        let mut stream = connect(address).ok_or(0u16)?;
        stream.write_all(head.as_bytes()).map_err(|_| 0u16)?;
        let mut lines = BufReader::new(stream);
        let mut status = 0;
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap_or_default() == 0 {
                return Err(0);
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest.get(..3).and_then(|code| code.parse().ok()).unwrap_or_default();
            }
            if line == "\r\n" {
                break;
            }
        }
        match (way, status) {
            (Way::Socket, 101) => Ok(Line::Socket(lines)),
            (Way::Events, 200) => Ok(Line::Events(lines)),
            _ => Err(status),
        }
    }

    fn next(&mut self) -> News {
        match self {
            Line::Socket(stream) => next_frame(stream).unwrap_or(News::End(0)),
            Line::Events(lines) => {
                let mut line = String::new();
                if lines.read_line(&mut line).unwrap_or_default() == 0 {
                    return News::End(0);
                }
                let Ok(event) = serde_json::from_str::<Value>(&line) else { return News::End(0) };
                match event["type"].as_str() {
                    Some("ping") => News::Ping,
                    Some("close") => News::End(event["code"].as_u64().unwrap_or_default() as u16),
                    _ => News::Event(event),
                }
            }
        }
    }

    fn send(&mut self, event: &Value) -> Option<()> {
        let Line::Socket(stream) = self else { return None };
        stream.get_mut().write_all(&client::text(event.to_string())).ok()
    }
}

fn next_frame(stream: &mut BufReader<TcpStream>) -> Option<News> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut length = usize::from(head[1]);
    if length == 126 {
        let mut long = [0; 2];
        stream.read_exact(&mut long).ok()?;
        length = usize::from(u16::from_be_bytes(long));
    }
    assert!(length < 126 || length != 127, "no frame has 64 KiB");
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).ok()?;
    Some(match head[0] & 0xF {
        8 => News::End(payload.get(..2).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]))),
        9 => {
            stream.get_mut().write_all(&client::frame(0x8A, payload)).ok()?;
            News::Ping
        }
        1 => News::Event(serde_json::from_slice(&payload).expect("JSON")),
        _ => News::Ping,
    })
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(SILENCE_MAX)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

fn upgrade(room: &str, session: &str, query: &str) -> String {
    format!(
        "GET /ws/{room}?session_id={session}{query} HTTP/1.1\r\nHost: chat\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// What a client takes for a reason to try again. 409: its own earlier connection is not over yet.
fn is_passing(status: u16) -> bool {
    matches!(status, 0 | 409 | 429 | 502 | 503)
}

impl Seen {
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.runs.iter().flatten().map(|(_, text)| text.as_str())
    }

    fn is_done(&self) -> bool {
        self.is_over
            || self.runs.last().and_then(|run| run.last()).is_some_and(|(_, text)| text == END)
    }

    fn on_event(&mut self, scene: &Scene, number: usize, mut event: Value) {
        if event["type"] != "history" {
            return self.on_message(scene, number, &event);
        }
        self.page.append(event["messages"].as_array_mut().expect("messages"));
        if event["more"] == true {
            return;
        }
        if event["complete"] == false {
            self.runs.push(Vec::new());
            self.last = None;
        }
        for message in std::mem::take(&mut self.page) {
            self.on_message(scene, number, &message);
        }
    }

    fn on_message(&mut self, scene: &Scene, number: usize, message: &Value) {
        let Some(id) = message["id"].as_str() else { return };
        let last = self.last.replace(id.to_owned());
        let when = scene.journal.now();
        assert!(last.as_deref() < Some(id), "reader {number}: {id} after {last:?}, {when}");
        match message["type"].as_str() {
            Some("user_left") => {
                let user = message["user"].as_str().expect("a name");
                self.left.push(format!("{user} {when}"));
            }
            Some("chat") => {
                let text = message["message"].as_str().expect("a text");
                let text = text.split(' ').next().unwrap_or_default().to_owned();
                if text.starts_with("mark") {
                    scene.marks[number].fetch_add(1, Ordering::AcqRel);
                }
                self.runs.last_mut().expect("a list").push((id.to_owned(), text));
            }
            _ => {}
        }
    }
}

impl Scene {
    /// Reads until the end of the story, or of the session.
    pub fn read(&self, number: usize, session: &str, way: Way) -> Seen {
        let mut seen = Seen { runs: vec![Vec::new()], ..Seen::default() };
        let mut alive = Instant::now();
        let check = |alive: Instant, seen: &Seen, what: &str| {
            let (last, now) = (&seen.last, self.journal.now());
            assert!(alive.elapsed() < PATIENCE, "reader {number}: {what} since {last:?}; {now}");
        };
        while !seen.is_done() {
            let room = &self.room;
            let head = match (way, &seen.last) {
                (Way::Socket, None) => upgrade(room, session, "&history=1000"),
                (Way::Socket, Some(id)) => upgrade(room, session, &format!("&after={id}")),
                (Way::Events, last) => {
                    let last = last.as_ref().map(|id| format!("Last-Event-ID: {id}\r\n"));
                    format!(
                        "GET /rooms/{room}/events?history=1000 HTTP/1.0\r\nHost: chat\r\n\
                         Authorization: Bearer {session}\r\n{}\r\n",
                        last.unwrap_or_default()
                    )
                }
            };
            let mut line = match Line::open(self.address, &head, way) {
                Ok(line) => line,
                Err(401) => break,
                Err(status) => {
                    assert!(is_passing(status), "reader {number}: {status} {}", self.journal.now());
                    check(alive, &seen, &format!("status {status}"));
                    thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            seen.resumed += 1;
            seen.page.clear();
            while !seen.is_done() {
                match line.next() {
                    News::Event(event) => {
                        alive = Instant::now();
                        seen.on_event(self, number, event);
                    }
                    News::Ping => check(alive, &seen, "only pings"),
                    News::End(4401) => seen.is_over = true,
                    News::End(_) => break,
                }
            }
            check(alive, &seen, "connections that end");
        }
        seen
    }

    /// Writes by requests, until the story or the session is over.
    pub fn write(&self, number: usize, session: &str, padding: usize) -> Vec<Answered> {
        let mut answered = Vec::new();
        while !self.is_over.load(Ordering::Acquire) {
            let _gate = self.gate.read().unwrap();
            let text = format!("{number}-{}", answered.len());
            let Some(one) = self.say(session, &text, padding) else { break };
            answered.push(one);
            drop(_gate);
            thread::sleep(Duration::from_millis(8));
        }
        answered
    }

    /// Writes by a socket, until the story or the session is over.
    pub fn write_by_socket(&self, number: usize, session: &str) -> Vec<Answered> {
        let mut answered: Vec<Answered> = Vec::new();
        let mut line = None;
        while !self.is_over.load(Ordering::Acquire) {
            let gate = self.gate.read().unwrap();
            let text = format!("{number}-{}", answered.len());
            let chat = json!({"type": "chat", "message": text, "nonce": text});
            let begun = Instant::now();
            let id = loop {
                let now = self.journal.now();
                assert!(begun.elapsed() < PATIENCE, "writer {number}: {text} unanswered {now}");
                match self.say_by(&mut line, session, &chat) {
                    Ok(id) => break id,
                    Err(401) => return answered,
                    Err(status) => {
                        assert!(is_passing(status), "writer {number}: {text} {status} {now}");
                        thread::sleep(Duration::from_millis(30));
                    }
                }
            };
            answered.push(Answered { id, text, fault: self.journal.latest() });
            drop(gate);
            thread::sleep(Duration::from_millis(8));
        }
        answered
    }

    /// One attempt. `Err`: a status, or 0.
    fn say_by(&self, line: &mut Option<Line>, session: &str, chat: &Value) -> Result<String, u16> {
        let mut open = match line.take() {
            Some(open) => open,
            None => Line::open(self.address, &upgrade(&self.room, session, ""), Way::Socket)?,
        };
        open.send(chat).ok_or(0u16)?;
        loop {
            match open.next() {
                News::Event(event) if event["nonce"] == chat["nonce"] => {
                    *line = Some(open);
                    return match event["type"].as_str() {
                        Some("chat") => Ok(event["id"].as_str().expect("an id").to_owned()),
                        _ => Err(0),
                    };
                }
                News::Event(_) | News::Ping => {}
                News::End(4401) => return Err(401),
                News::End(_) => return Err(0),
            }
        }
    }

    /// Posts a message, as often as it takes. `None`: the session is over.
    pub fn say(&self, session: &str, text: &str, padding: usize) -> Option<Answered> {
        let begun = Instant::now();
        let message = match padding {
            0 => text.to_owned(),
            _ => format!("{text} {}", "x".repeat(padding)),
        };
        let body = json!({"message": message, "nonce": text}).to_string();
        let request = format!(
            "POST /rooms/{}/messages HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\
             Authorization: Bearer {session}\r\nContent-Length: {}\r\n\r\n{body}",
            self.room,
            body.len()
        );
        loop {
            let mut answer = String::new();
            if let Some(mut stream) = connect(self.address) {
                let _ = stream.write_all(request.as_bytes());
                let _ = stream.read_to_string(&mut answer);
            }
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
            let status = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_default();
            let message = serde_json::from_str::<Value>(body).unwrap_or_default();
            if let (200 | 201, Some(id)) = (status, message["id"].as_str()) {
                let (id, text) = (id.to_owned(), text.to_owned());
                return Some(Answered { id, text, fault: self.journal.latest() });
            }
            if status == 401 {
                return None;
            }
            let now = self.journal.now();
            assert!(is_passing(status) || status < 202, "{text}: {answer} {now}");
            assert!(begun.elapsed() < PATIENCE, "{text}: no answer but {answer:?} {now}");
            thread::sleep(Duration::from_millis(30));
        }
    }

    /// Says something that all readers have to see before this returns.
    pub fn mark(&self, session: &str) -> Answered {
        let seen = |reader: &AtomicUsize| reader.load(Ordering::Acquire);
        let wanted: Vec<usize> = self.marks.iter().map(|one| seen(one) + 1).collect();
        let text = format!("mark-{}", wanted[0]);
        let answered = self.say(session, &text, 0).expect("the session lives");
        let begun = Instant::now();
        while !self.marks.iter().zip(&wanted).all(|(one, wanted)| seen(one) >= *wanted) {
            let behind: Vec<usize> = self.marks.iter().map(seen).collect();
            let now = self.journal.now();
            assert!(begun.elapsed() < PATIENCE, "{text} was not read by all: {behind:?} {now}");
            thread::sleep(Duration::from_millis(5));
        }
        answered
    }
}
