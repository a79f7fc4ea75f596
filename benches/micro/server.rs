//! The server's core over streams in memory that cost almost nothing, with a simulated clock. Unlike
//! the streams of the simulation these never fail and accept every write in full.

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

/// The limit on sockets per session.
pub const SESSION_SOCKETS: usize = chat::SESSION_CONNECTIONS_MAX;

/// Longer than any benchmark.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The time between two ticks.
const TICK: Duration = Duration::from_micros(100);

const UNLIMITED: Rate = Rate { per_second: 0, burst: 1 };

pub struct Server {
    core: Core<MemoryStream>,
    now: Now,
    sessions: usize,
}

/// The client's end of a connection.
pub struct Client {
    key: ConnectionKey,
    stream: MemoryStream,
}

/// The server's end of a connection.
#[derive(Clone, Default)]
pub struct MemoryStream(Rc<RefCell<Buffers>>);

#[derive(Default)]
struct Buffers {
    /// Bytes sent to the server, and how many of them it has read.
    unread: Vec<u8>,
    read: usize,
    /// The client has shut down its direction.
    is_half_closed: bool,
    /// The server's output, if `is_recording`; `output_bytes` is its length in any case.
    output: Vec<u8>,
    is_recording: bool,
    output_bytes: usize,
}

impl Server {
    /// A server without connections, with limits and timers that no benchmark reaches.
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

    /// Runs ticks until there is nothing to do.
    pub fn run(&mut self) {
        loop {
            self.now = self.now.after(TICK);
            self.core.begin(self.now);
            self.core.tick();
            if !self.core.has_work() {
                break;
            }
        }
    }

    pub fn connect(&mut self) -> Client {
        let stream = MemoryStream::default();
        stream.0.borrow_mut().is_recording = true;
        // As from a Unix socket, where limits per address do not apply.
        let key = self.core.accept(stream.clone(), None, Purpose::Chat);
        Client { key: key.expect("the server has capacity"), stream }
    }

    pub fn send(&mut self, client: &Client, bytes: &[u8]) {
        client.stream.0.borrow_mut().unread.extend_from_slice(bytes);
        self.core.on_readable(client.key, false);
    }

    /// Shuts down the client's direction and waits until the server has freed the connection.
    pub fn end(&mut self, client: Client) {
        client.stream.0.borrow_mut().is_half_closed = true;
        self.core.on_readable(client.key, true);
        self.run();
        assert!(Rc::strong_count(&client.stream.0) == 1, "the server has not freed it");
    }

    pub fn ask(&mut self, client: &Client, request: &[u8]) -> Response {
        self.send(client, request);
        self.run();
        let mut buffers = client.stream.0.borrow_mut();
        wire::take_response(&mut buffers.output, false).expect("an answer")
    }

    /// The id of a new session with a unique name.
    pub fn session(&mut self) -> String {
        self.sessions += 1;
        let name = format!(r#"{{"username":"member {}"}}"#, self.sessions);
        let client = self.connect();
        let session = self.ask(&client, &wire::request("POST", "/sessions", None, &name));
        self.end(client);
        session.field("session_id")
    }

    /// A new session, its new room, and a connection for more requests.
    pub fn room(&mut self) -> (String, String, Client) {
        let session = self.session();
        let client = self.connect();
        let room = self.ask(&client, &wire::request("POST", "/rooms", Some(&session), ""));
        (session, room.field("room_id"), client)
    }

    /// Creates public rooms, with as many per session as possible.
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

    /// A WebSocket in the room, whose output is counted but not recorded. `query` is appended to the
    /// parameters.
    pub fn enter(&mut self, room: &str, session: &str, query: &str) -> Client {
        let client = self.connect();
        client.stream.0.borrow_mut().is_recording = false;
        self.send(&client, &wire::upgrade(room, &format!("{session}{query}"), ""));
        self.run();
        assert!(client.received() > 0, "no answer");
        client
    }
}

impl Client {
    /// The number of bytes that the server has sent.
    pub fn received(&self) -> usize {
        self.stream.0.borrow().output_bytes
    }

    /// Discards the recorded output and returns its length.
    pub fn clear(&self) -> usize {
        let mut buffers = self.stream.0.borrow_mut();
        let bytes = buffers.output.len();
        buffers.output.clear();
        bytes
    }
}

impl Response {
    /// A string field in the JSON of the body.
    pub fn field(&self, name: &str) -> String {
        let body = std::str::from_utf8(&self.body).expect("JSON is UTF-8");
        let start = format!("\"{name}\":\"");
        let (_, rest) = body.split_once(&start).expect("it has the field");
        rest.split('"').next().unwrap_or_default().to_owned()
    }
}

impl Read for MemoryStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffers = self.0.borrow_mut();
        let unread = &buffers.unread[buffers.read..];
        let count = unread.len().min(buffer.len());
        if count == 0 {
            return if buffers.is_half_closed { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        buffer[..count].copy_from_slice(&unread[..count]);
        buffers.read += count;
        if buffers.read == buffers.unread.len() {
            buffers.unread.clear();
            buffers.read = 0;
        }
        Ok(count)
    }
}

impl Write for MemoryStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut buffers = self.0.borrow_mut();
        let mut count = 0;
        for slice in slices {
            count += slice.len();
            if buffers.is_recording {
                buffers.output.extend_from_slice(slice);
            }
        }
        buffers.output_bytes += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for MemoryStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}
