//! The server's core over lines in memory that cost next to nothing, with a time that is moved by
//! hand. Unlike the simulation's they have no manners of a kernel: what is written is taken.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use disposable_chat::chat::{self, Chat, RoomId, RoomKey};
use disposable_chat::clock::{Now, SeededEntropy, Wall};
use disposable_chat::config::{Config, Rate};
use disposable_chat::ledger::Ledger;
use disposable_chat::net::Stream;
use disposable_chat::server::{ConnectionKey, Core, Purpose};

use crate::wire::{self, Response};

/// Sockets that one session may have.
pub const SESSION_SOCKETS: usize = chat::SESSION_CONNECTIONS_MAX;

/// Longer than any benchmark.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What passes between two turns of the loop.
const TURN: Duration = Duration::from_micros(100);

const UNLIMITED: Rate = Rate { per_second: 0, burst: 1 };

pub struct Server {
    core: Core<Line>,
    now: Now,
    sessions: usize,
}

/// The peer's end of a line.
pub struct Client {
    key: ConnectionKey<Line>,
    line: Line,
}

/// The server's end.
#[derive(Clone, Default)]
pub struct Line(Rc<RefCell<Wires>>);

#[derive(Default)]
struct Wires {
    /// On its way to the server, and how much of it was read.
    unread: Vec<u8>,
    read: usize,
    /// The peer has ended its direction.
    is_over: bool,
    /// What the server has said, unless nobody listens; and how many bytes it was.
    said: Vec<u8>,
    is_listening: bool,
    heard: usize,
}

impl Server {
    /// Nobody there, no limit near, no timer due.
    pub fn new() -> Server {
        let config = Config {
            session_ttl: FOREVER,
            room_ttl: FOREVER,
            new_room_ttl: FOREVER,
            idle_timeout: FOREVER,
            ping_interval: FOREVER,
            history_messages_max: 1_000_000,
            message_rate: UNLIMITED,
            session_rate: UNLIMITED,
            room_rate: UNLIMITED,
            sessions_max: 1_000_000,
            rooms_max: 1_000_000,
            ..Config::default()
        };
        let core = Core::new(&config, 100_000, Box::new(SeededEntropy::new(1)), &Ledger::new());
        let now = Now { wall: Wall::from_micros(1_755_611_100_000_000), ..Now::default() };
        Server { core, now, sessions: 0 }
    }

    pub fn chat(&self) -> &Chat {
        self.core.chat()
    }

    pub fn room_key(&self, room: &str) -> (RoomKey, RoomId) {
        let id = RoomId::parse(room).expect("an id");
        (self.chat().room(id).expect("a room"), id)
    }

    /// Turns the loop until there is nothing to do.
    pub fn run(&mut self) {
        loop {
            self.now = self.now.after(TURN);
            self.core.begin(self.now);
            self.core.tick();
            if !self.core.has_work() {
                break;
            }
        }
    }

    pub fn connect(&mut self) -> Client {
        let line = Line::default();
        line.0.borrow_mut().is_listening = true;
        // From a Unix socket: no limit of an address holds.
        let key = self.core.accept(line.clone(), None, Purpose::Chat);
        Client { key: key.expect("there is room"), line }
    }

    pub fn send(&mut self, client: &Client, bytes: &[u8]) {
        client.line.0.borrow_mut().unread.extend_from_slice(bytes);
        self.core.on_readable(client.key, false);
    }

    /// The peer ends its direction, and the line is over.
    pub fn end(&mut self, client: Client) {
        client.line.0.borrow_mut().is_over = true;
        self.core.on_readable(client.key, true);
        self.run();
        assert!(Rc::strong_count(&client.line.0) == 1, "the server holds on to it");
    }

    pub fn ask(&mut self, client: &Client, request: &[u8]) -> Response {
        self.send(client, request);
        self.run();
        let mut wires = client.line.0.borrow_mut();
        wire::take_response(&mut wires.said, false).expect("an answer")
    }

    /// The id of a new session, whose name nobody else has.
    pub fn session(&mut self) -> String {
        self.sessions += 1;
        let name = format!(r#"{{"username":"member {}"}}"#, self.sessions);
        let client = self.connect();
        let session = self.ask(&client, &wire::request("POST", "/sessions", None, &name));
        self.end(client);
        session.field("session_id")
    }

    /// A new session, a room of its own, and a line to say more on.
    pub fn room(&mut self) -> (String, String, Client) {
        let session = self.session();
        let client = self.connect();
        let room = self.ask(&client, &wire::request("POST", "/rooms", Some(&session), ""));
        (session, room.field("room_id"), client)
    }

    /// Public rooms, as many to a session as it may have.
    pub fn open_rooms(&mut self, count: usize) {
        let client = self.connect();
        let mut session = String::new();
        for n in 0..count {
            if n % chat::SESSION_ROOMS_MAX == 0 {
                session = self.session();
            }
            let opened = self.ask(&client, &wire::request("POST", "/rooms", Some(&session), ""));
            assert_eq!(opened.status, 201);
        }
    }

    /// A socket in the room, to which nobody listens. `query`: and what follows in it.
    pub fn enter(&mut self, room: &str, session: &str, query: &str) -> Client {
        let client = self.connect();
        client.line.0.borrow_mut().is_listening = false;
        self.send(&client, &wire::upgrade(room, &format!("{session}{query}"), ""));
        self.run();
        assert!(client.heard() > 0, "no answer");
        client
    }
}

impl Client {
    /// Bytes that the server has said.
    pub fn heard(&self) -> usize {
        self.line.0.borrow().heard
    }

    /// Forgets what was said; returns how many bytes it was.
    pub fn clear(&self) -> usize {
        let mut wires = self.line.0.borrow_mut();
        let bytes = wires.said.len();
        wires.said.clear();
        bytes
    }
}

impl Response {
    /// A text in the JSON of the body.
    pub fn field(&self, name: &str) -> String {
        let body = std::str::from_utf8(&self.body).expect("JSON is UTF-8");
        let start = format!("\"{name}\":\"");
        let (_, rest) = body.split_once(&start).expect("it has the field");
        rest.split('"').next().unwrap_or_default().to_owned()
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wires = self.0.borrow_mut();
        let unread = &wires.unread[wires.read..];
        let count = unread.len().min(buffer.len());
        if count == 0 {
            return if wires.is_over { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        buffer[..count].copy_from_slice(&unread[..count]);
        wires.read += count;
        if wires.read == wires.unread.len() {
            wires.unread.clear();
            wires.read = 0;
        }
        Ok(count)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wires = self.0.borrow_mut();
        let mut count = 0;
        for slice in slices {
            count += slice.len();
            if wires.is_listening {
                wires.said.extend_from_slice(slice);
            }
        }
        wires.heard += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Line {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}
