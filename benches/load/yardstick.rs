//! The yardstick: a server that does only the work that no chat server can avoid.
//!
//! Owns a server of its own: one thread reads frames, unmasks them, and writes each to every member
//! of the room. Every other request gets the same response. Must not know JSON, ids, history, limits,
//! timers or routes. The invariant: nothing is added that a chat server can do without. The plain form writes once for each member and frame;
//! the coalescing form writes once for each member and wake-up. The additional cost of the real
//! server is the price of its features. Unlike a figure in a document, this comparison is made in
//! the same minute on the same machine.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;
use std::str;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::Result;
use crate::frame::{self, CLOSE, TEXT};

/// The arguments that make this program a yardstick.
pub const PLAIN: &str = "--yardstick";
pub const COALESCING: &str = "--yardstick-coalescing";

/// The JSON around a text, as long as the real server's, so that the kernel copies as much.
const ENVELOPE: &[u8] = concat!(
    r#"{"id":"0198c2a4-7d1e-7000-8000-000000000000","user":"member000000","#,
    r#""user_id":"0123456789abcdef","timestamp":"2025-08-19T13:45:00.123456Z","#,
    r#""room_id":"a1b2c3d4e5","#,
)
.as_bytes();

/// The response to every request that is no upgrade, as long as the real server's to `GET /health`.
/// Has the fields of a session and of a room that the generator looks for.
const ANSWER: &[u8] = concat!(
    "HTTP/1.1 200 OK\r\nDate: Tue, 19 Aug 2025 13:45:00 GMT\r\nContent-Length: 84\r\n",
    "Content-Type: application/json\r\nCache-Control: no-store\r\nVary: Origin\r\n\r\n",
    r#"{"session_id":"01234567-89ab-4cde-8f01-23456789abcd","room_id":"a1b2c3d4e5","up":12}"#,
)
.as_bytes();

/// The number of pieces in one `writev`.
const PIECES: usize = 64;

const LISTENER: Token = Token(usize::MAX);

struct Yardstick {
    coalesce: bool,
    connections: Slab<Connection>,
    /// The members of each room, and the rooms by path.
    rooms: Vec<Vec<usize>>,
    by_path: HashMap<String, usize>,
    /// The connections with queued frames in this wake-up.
    dirty: Vec<usize>,
}

struct Connection {
    stream: TcpStream,
    room: Option<usize>,
    /// The beginning of a frame or a handshake.
    unfinished: Vec<u8>,
    queued: Vec<Rc<[u8]>>,
    /// Bytes that the kernel has not accepted yet; written first.
    unsent: Vec<u8>,
}

/// Serves on a free port until the process is killed.
pub fn serve(coalesce: bool) -> Result<()> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut yardstick = Yardstick {
        coalesce,
        connections: Slab::new(),
        rooms: Vec::new(),
        by_path: HashMap::new(),
        dirty: Vec::new(),
    };
    let mut scratch = vec![0; 64 * 1024];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => yardstick.accept(&listener, &poll)?,
                Token(number) => {
                    if event.is_writable() {
                        yardstick.connections[number].on_writable();
                    }
                    if event.is_readable() {
                        yardstick.read(number, &mut scratch)?;
                    }
                }
            }
        }
        for number in yardstick.dirty.drain(..) {
            if let Some(connection) = yardstick.connections.get_mut(number) {
                connection.flush();
            }
        }
    }
}

impl Yardstick {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            let entry = self.connections.vacant_entry();
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(entry.key()), both)?;
            entry.insert(Connection {
                stream,
                room: None,
                unfinished: Vec::new(),
                queued: Vec::new(),
                unsent: Vec::new(),
            });
        }
    }

    fn read(&mut self, number: usize, scratch: &mut [u8]) -> Result<()> {
        let connection = &mut self.connections[number];
        let kept = connection.unfinished.len();
        scratch[..kept].copy_from_slice(&connection.unfinished);
        let end = match connection.stream.read(&mut scratch[kept..]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Ok(0) | Err(_) => {
                self.leave(number);
                return Ok(());
            }
            Ok(got) => kept + got,
        };
        let used = match connection.room {
            None => self.enter(number, &scratch[..end])?,
            Some(room) => self.echo(room, number, &mut scratch[..end]),
        };
        let Some(connection) = self.connections.get_mut(number) else { return Ok(()) };
        connection.unfinished.clear();
        connection.unfinished.extend_from_slice(&scratch[used..end]);
        // A short read has emptied the socket. After a full one there may be more, without a new edge.
        if end == scratch.len() { self.read(number, scratch) } else { Ok(()) }
    }

    /// The handshake, in which the path is the name of the room, or another request.
    fn enter(&mut self, number: usize, head: &[u8]) -> Result<usize> {
        let Some(end) = frame::end_of_head(head) else { return Ok(0) };
        let path = str::from_utf8(head)?.split(' ').nth(1).ok_or("no path")?;
        if !path.starts_with("/ws/") {
            self.connections[number].write(ANSWER);
            return Ok(head.len()); // The generator sends a request at once, with its body.
        }
        let room = *self.by_path.entry(path.to_owned()).or_insert_with(|| {
            self.rooms.push(Vec::new());
            self.rooms.len() - 1
        });
        self.rooms[room].push(number);
        let connection = &mut self.connections[number];
        connection.room = Some(room);
        connection.write(frame::switching().as_bytes());
        Ok(end)
    }

    /// Sends each complete frame to all members of the room. Answers a close frame and ends the
    /// connection.
    fn echo(&mut self, room: usize, number: usize, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while let Some(header) = frame::header(&bytes[at..]) {
            let Some(payload) = bytes[at..].get_mut(header.start..header.end) else { break };
            at += header.end;
            let Some(mask) = header.mask else { continue };
            frame::unmask(payload, mask);
            if header.opcode != TEXT {
                debug_assert_eq!(header.opcode, CLOSE, "the generator sends nothing else");
                let mut frame = Vec::new();
                frame::push_header(&mut frame, CLOSE, payload.len());
                frame.extend_from_slice(payload);
                let connection = &mut self.connections[number];
                connection.flush();
                connection.write(&frame);
                self.leave(number);
                break;
            }
            let text = &payload[1..]; // Without the brace, which the envelope has.
            let mut frame = Vec::with_capacity(4 + ENVELOPE.len() + text.len());
            frame::push_header(&mut frame, TEXT, ENVELOPE.len() + text.len());
            frame.extend_from_slice(ENVELOPE);
            frame.extend_from_slice(text);
            self.publish(room, &frame);
        }
        at
    }

    fn publish(&mut self, room: usize, frame: &[u8]) {
        if !self.coalesce {
            for member in &self.rooms[room] {
                self.connections[*member].write(frame);
            }
            return;
        }
        let frame: Rc<[u8]> = frame.into();
        for member in &self.rooms[room] {
            let connection = &mut self.connections[*member];
            if connection.queued.is_empty() {
                self.dirty.push(*member);
            }
            connection.queued.push(frame.clone());
        }
    }

    fn leave(&mut self, number: usize) {
        let connection = self.connections.remove(number);
        if let Some(room) = connection.room {
            self.rooms[room].retain(|member| *member != number);
        }
    }
}

impl Connection {
    fn write(&mut self, bytes: &[u8]) {
        let sent = if self.unsent.is_empty() { taken(self.stream.write(bytes)) } else { 0 };
        self.unsent.extend_from_slice(&bytes[sent..]);
    }

    /// Writes bytes that are left over. Queued frames wait for the end of the wake-up, because epoll
    /// reports almost every socket as writable with each event.
    fn on_writable(&mut self) {
        if !self.unsent.is_empty() {
            let sent = taken(self.stream.write(&self.unsent));
            self.unsent.drain(..sent);
        }
    }

    fn flush(&mut self) {
        for frames in self.queued.chunks(PIECES) {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            for (piece, frame) in pieces.iter_mut().zip(frames) {
                *piece = IoSlice::new(frame);
            }
            let pieces = &pieces[..frames.len()];
            let is_free = self.unsent.is_empty();
            let mut sent = if is_free { taken(self.stream.write_vectored(pieces)) } else { 0 };
            for frame in frames {
                let of_this = sent.min(frame.len());
                sent -= of_this;
                self.unsent.extend_from_slice(&frame[of_this..]);
            }
        }
        self.queued.clear();
    }
}

/// The number of bytes written. An error shows up again in the next read.
fn taken(written: io::Result<usize>) -> usize {
    written.unwrap_or(0)
}
