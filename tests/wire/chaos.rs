//! Chaos over real sockets: all connections break again and again, and no message is lost or repeated.
//!
//! A seed decides which connection breaks after how many messages and in which way; `CHAOS_SEED` sets another.
//! Runs with the same seed still differ, since threads and the network decide the order of events.

use std::collections::VecDeque;
use std::thread;

use serde_json::{Value, json};

use crate::client::{
    CLOSE, FIN, Frame, Http, PING, PONG, Stream, Ws, chat_with, event_of, frame, get, history_of,
    post, upgrade,
};
use crate::server::{Server, is_slow};

const READERS: usize = 20;
const WRITERS: usize = 5;
const EACH: usize = 400;
const SEED: u64 = 20_250_819;

/// How often the connection of each client breaks: thirty times under `SLOW_TESTS=1`.
fn breaks() -> usize {
    if is_slow() { 30 } else { 12 }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// `count` moments within `0..bound`, in order. Some may be equal.
    fn moments(&mut self, count: usize, bound: usize) -> VecDeque<usize> {
        let mut moments: Vec<usize> = (0..count).map(|_| self.below(bound)).collect();
        moments.sort_unstable();
        moments.into()
    }
}

fn id(message: &Value) -> &str {
    message["id"].as_str().expect("an id")
}

/// A client whose connections break.
struct Client<'a> {
    server: &'a Server,
    room: &'a str,
    session: String,
    random: Random,
    /// After how many messages its connection breaks.
    moments: VecDeque<usize>,
    /// Connections that it no longer uses but has not closed.
    abandoned: VecDeque<Stream>,
}

/// Input from a connection.
enum Received {
    History {
        messages: Vec<Value>,
        complete: Option<bool>,
    },
    Event(Value),
    /// The server has closed the connection.
    Closed,
}

impl Client<'_> {
    fn target(&self, after: &str) -> String {
        format!("/ws/{}?session_id={}&after={after}", self.room, self.session)
    }

    fn connect(&self, after: &str) -> Ws {
        self.server.upgrade(upgrade(&self.target(after)))
    }

    /// Opens a socket and breaks its connection before reading anything.
    fn connect_and_break(&mut self, after: &str) {
        let mut http: Http = self.server.http();
        http.send_request(&upgrade(&self.target(after)));
        self.break_connection(http.into_stream());
    }

    /// Resets the connection, ends the stream, or abandons it.
    fn break_connection(&mut self, stream: Stream) {
        match self.random.below(3) {
            0 => return stream.reset(),
            1 => stream.finish(),
            _ => {}
        }
        self.abandoned.push_back(stream);
        if self.abandoned.len() > 6 {
            self.abandoned.pop_front();
        }
    }

    fn is_due(&self, progress: usize) -> bool {
        self.moments.front().is_some_and(|moment| *moment <= progress)
    }
}

/// Reads the next history frame or event, and answers pings.
fn receive(socket: &mut Ws) -> Received {
    loop {
        let Ok(Some(next)) = socket.try_frame() else {
            return Received::Closed;
        };
        match next {
            Frame { opcode: PING, payload } => {
                let _ = socket.try_send(frame(FIN | PONG, payload));
            }
            Frame { opcode: PONG, .. } => {}
            Frame { opcode: CLOSE, payload } => {
                let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                assert_eq!(code, Some(1013), "only slow readers are closed");
                return Received::Closed;
            }
            next => {
                let event = event_of(next.clone());
                if event["type"] != "history" {
                    return Received::Event(event);
                }
                let mut history = history_of(&next);
                let complete = history["complete"].as_bool();
                let messages =
                    std::mem::take(history["messages"].as_array_mut().expect("messages"));
                return Received::History { messages, complete };
            }
        }
    }
}

/// Reads everything from the room's first message to "end".
fn read_all(mut reader: Client<'_>) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    loop {
        let after = seen.last().map_or("nothing", id).to_owned();
        if reader.is_due(seen.len()) {
            reader.moments.pop_front();
            match reader.random.below(3) {
                0 => reader.connect_and_break(&after),
                _ => {
                    let socket = reader.connect(&after);
                    reader.break_connection(socket.into_stream());
                }
            }
            continue;
        }
        let mut socket = reader.connect(&after);
        while !reader.is_due(seen.len()) {
            match receive(&mut socket) {
                Received::History { messages, complete } => {
                    // Only the first history is incomplete, since its `after` names no message.
                    assert!(complete.is_none_or(|complete| complete == (after != "nothing")));
                    seen.extend(messages);
                }
                Received::Event(event) => seen.push(event),
                Received::Closed => break,
            }
            let over = seen.iter().rev().take(500).any(|message| message["message"] == "end");
            if over && reader.moments.is_empty() {
                return seen;
            }
        }
        if reader.is_due(seen.len()) {
            reader.moments.pop_front();
            reader.break_connection(socket.into_stream());
        }
    }
}

/// Sends `EACH` messages, and each of them again until it has come back.
fn write_all(mut writer: Client<'_>, number: usize) {
    let (mut sent, mut last) = (0, "nothing".to_owned());
    let mut unsure: VecDeque<usize> = VecDeque::new();
    let nonce = |message: usize| format!("{number}/{message}");
    let text = |message: usize| format!("writer {number} says {message}");
    let on_message = |unsure: &mut VecDeque<usize>, last: &mut String, message: &Value| {
        if id(message) > last.as_str() || last == "nothing" {
            *last = id(message).to_owned();
        }
        unsure.retain(|one| message["nonce"] != json!(nonce(*one)));
    };
    loop {
        let mut socket = writer.connect(&last);
        let again = unsure.iter().flat_map(|one| chat_with(&nonce(*one), &text(*one)));
        let mut alive = socket.try_send(again.collect::<Vec<u8>>()).is_ok();
        let window = 1 + writer.random.below(20);
        while alive && !writer.is_due(sent) {
            if sent < EACH && unsure.len() < window {
                alive = socket.try_send(chat_with(&nonce(sent), &text(sent))).is_ok();
                unsure.push_back(sent);
                sent += 1;
                continue;
            }
            if unsure.is_empty() {
                socket.close();
                return;
            }
            match receive(&mut socket) {
                Received::History { messages, .. } => {
                    messages.iter().for_each(|message| on_message(&mut unsure, &mut last, message));
                }
                Received::Event(event) => {
                    assert_ne!(event["type"], "refused", "{event}");
                    on_message(&mut unsure, &mut last, &event);
                }
                Received::Closed => alive = false,
            }
        }
        if writer.is_due(sent) {
            writer.moments.pop_front();
            writer.break_connection(socket.into_stream());
        }
    }
}

/// Reads the whole history by REST, page by page.
fn history_of_room(server: &Server, room: &str, session: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().map_or("nothing", id);
        let target = format!("/rooms/{room}/messages?limit=1000&after={after}");
        let page = server.ask(get(&target).session(session)).expect(200).json();
        assert_eq!(page["complete"], json!(!all.is_empty()));
        let messages = page["messages"].as_array().expect("messages");
        if messages.is_empty() {
            return all;
        }
        all.extend(messages.iter().cloned());
    }
}

#[track_caller]
fn end_of(messages: &[Value]) -> usize {
    messages.iter().position(|message| message["message"] == "end").expect("the end")
}

// contract §6.7 §8.4 §8.10
#[test]
fn every_client_receives_every_message_once_however_connections_break() {
    let seed = std::env::var("CHAOS_SEED").ok().map_or(SEED, |seed| seed.parse().expect("a seed"));
    eprintln!("CHAOS_SEED={seed}");
    let server = Server::start(&[
        "--message-rate",
        "0",
        "--history",
        "5000",
        "--ping-interval",
        "1s",
        "--ping-timeout",
        "1s",
        "--leave-grace",
        "1h",
    ]);
    let owner = server.session("owner");
    let room = server.room(&owner);
    let mut random = Random(seed);
    let mut client = |name: String, bound: usize| {
        let mut random = Random(random.next());
        let moments = random.moments(breaks(), bound);
        let session = server.session(&name);
        let (server, room, abandoned) = (&server, room.as_str(), VecDeque::new());
        Client { server, room, session, random, moments, abandoned }
    };
    let readers: Vec<_> =
        (0..READERS).map(|n| client(format!("reader {n}"), WRITERS * EACH)).collect();
    let writers: Vec<_> = (0..WRITERS).map(|n| client(format!("writer {n}"), EACH)).collect();
    let seen: Vec<Vec<Value>> = thread::scope(|scope| {
        let readers: Vec<_> =
            readers.into_iter().map(|reader| scope.spawn(|| read_all(reader))).collect();
        let writers: Vec<_> = writers
            .into_iter()
            .enumerate()
            .map(|(number, writer)| scope.spawn(move || write_all(writer, number)))
            .collect();
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        // Sent in any case, so that readers end even if a writer fails.
        let end = post(&format!("/rooms/{room}/messages")).session(&owner);
        server.ask(end.json(&json!({"message": "end"}))).expect(201);
        let seen = readers.into_iter().map(|reader| reader.join().expect("a reader")).collect();
        assert!(written.into_iter().all(|writer| writer.is_ok()), "a writer failed");
        seen
    });
    let all = history_of_room(&server, &room, &owner);
    let all = &all[..=end_of(&all)];
    for (number, seen) in seen.iter().enumerate() {
        let seen = &seen[..=end_of(seen)];
        let differ = seen.iter().zip(all).position(|(one, other)| one != other);
        assert!(differ.is_none(), "reader {number} differs at {differ:?}");
        assert_eq!(seen.len(), all.len(), "reader {number}");
    }
    // Each message is there exactly once, and the messages of each writer are in the order in which it sent them.
    assert!(all.windows(2).all(|pair| id(&pair[0]) < id(&pair[1])));
    for number in 0..WRITERS {
        let own = json!(format!("writer {number}"));
        let own = all.iter().filter(|m| m["type"] == "chat" && m["user"] == own);
        let texts: Vec<&str> = own.filter_map(|message| message["message"].as_str()).collect();
        let written: Vec<String> =
            (0..EACH).map(|message| format!("writer {number} says {message}")).collect();
        assert!(texts == written, "writer {number}");
    }
    let chats = all.iter().filter(|message| message["type"] == "chat").count();
    assert_eq!(chats, WRITERS * EACH + 1);
}
