//! Chaos over real sockets: everybody's line breaks again and again, and nothing is lost or said twice.
//!
//! Exact in its result only: threads and the network decide what happens when. The seed decides who breaks
//! where and how; `CHAOS_SEED` sets another.

use std::collections::VecDeque;
use std::thread;

use serde_json::{Value, json};

use crate::client::{
    CLOSE, FIN, Frame, Http, PING, PONG, Stream, Ws, chat_with, event_of, frame, get, history_of,
    post, upgrade,
};
use crate::server::Server;

const READERS: usize = 20;
const WRITERS: usize = 5;
const EACH: usize = 400;
const SEED: u64 = 20_250_819;

/// How often everybody's line breaks: thirty times under `SLOW_TESTS=1`.
fn breaks() -> usize {
    if std::env::var_os("SLOW_TESTS").is_some() { 30 } else { 12 }
}

/// SplitMix64: small, and good enough to be unfair.
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

    /// That many moments within `0..bound`, in order; some coincide.
    fn moments(&mut self, count: usize, bound: usize) -> VecDeque<usize> {
        let mut moments: Vec<usize> = (0..count).map(|_| self.below(bound)).collect();
        moments.sort_unstable();
        moments.into()
    }
}

fn id(message: &Value) -> &str {
    message["id"].as_str().expect("an id")
}

/// A person whose lines break.
struct Person<'a> {
    server: &'a Server,
    room: &'a str,
    session: String,
    random: Random,
    /// When the line is to break.
    moments: VecDeque<usize>,
    /// Lines that are broken, though their sockets are still open.
    silent: VecDeque<Stream>,
}

/// What a line brings.
enum Told {
    History {
        messages: Vec<Value>,
        complete: Option<bool>,
    },
    Event(Value),
    /// The server has given this line up: it looked broken from there.
    Dropped,
}

impl Person<'_> {
    fn target(&self, after: &str) -> String {
        format!("/ws/{}?session_id={}&after={after}", self.room, self.session)
    }

    fn connect(&self, after: &str) -> Ws {
        self.server.upgrade(upgrade(&self.target(after)))
    }

    /// A line that breaks before anybody can read from it.
    fn connect_in_vain(&mut self, after: &str) {
        let mut http: Http = self.server.http();
        http.send_request(&upgrade(&self.target(after)));
        self.break_line(http.into_stream());
    }

    /// By a reset, by the end of the stream, or by silence.
    fn break_line(&mut self, stream: Stream) {
        match self.random.below(3) {
            0 => return stream.reset(),
            1 => stream.finish(),
            _ => {}
        }
        self.silent.push_back(stream);
        if self.silent.len() > 6 {
            self.silent.pop_front();
        }
    }

    fn is_due(&self, progress: usize) -> bool {
        self.moments.front().is_some_and(|moment| *moment <= progress)
    }
}

/// The next of what the line brings; pings are answered.
fn listen(line: &mut Ws) -> Told {
    loop {
        let Ok(Some(next)) = line.try_frame() else {
            return Told::Dropped;
        };
        match next {
            Frame { opcode: PING, payload } => {
                let _ = line.try_send(frame(FIN | PONG, payload));
            }
            Frame { opcode: PONG, .. } => {}
            Frame { opcode: CLOSE, payload } => {
                let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                assert_eq!(code, Some(1013), "only who is slow is closed");
                return Told::Dropped;
            }
            next => {
                let event = event_of(next.clone());
                if event["type"] != "history" {
                    return Told::Event(event);
                }
                let mut history = history_of(&next);
                let complete = history["complete"].as_bool();
                let messages =
                    std::mem::take(history["messages"].as_array_mut().expect("messages"));
                return Told::History { messages, complete };
            }
        }
    }
}

/// Everything a reader sees, from the room's first message to "end" at least.
fn read_on(mut reader: Person<'_>) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    loop {
        let after = seen.last().map_or("nothing", id).to_owned();
        if reader.is_due(seen.len()) {
            reader.moments.pop_front();
            match reader.random.below(3) {
                0 => reader.connect_in_vain(&after),
                _ => {
                    let line = reader.connect(&after);
                    reader.break_line(line.into_stream());
                }
            }
            continue;
        }
        let mut line = reader.connect(&after);
        while !reader.is_due(seen.len()) {
            match listen(&mut line) {
                Told::History { messages, complete } => {
                    // Lost is only what came before the beginning.
                    assert!(complete.is_none_or(|complete| complete == (after != "nothing")));
                    seen.extend(messages);
                }
                Told::Event(event) => seen.push(event),
                Told::Dropped => break,
            }
            let over = seen.iter().rev().take(500).any(|message| message["message"] == "end");
            if over && reader.moments.is_empty() {
                return seen;
            }
        }
        if reader.is_due(seen.len()) {
            reader.moments.pop_front();
            reader.break_line(line.into_stream());
        }
    }
}

/// Says four hundred things, each until it is sure to have been heard.
fn write_on(mut writer: Person<'_>, number: usize) {
    let (mut said, mut last) = (0, "nothing".to_owned());
    let mut unsure: VecDeque<usize> = VecDeque::new();
    let nonce = |message: usize| format!("{number}/{message}");
    let text = |message: usize| format!("writer {number} says {message}");
    let hear = |unsure: &mut VecDeque<usize>, last: &mut String, message: &Value| {
        if id(message) > last.as_str() || last == "nothing" {
            *last = id(message).to_owned();
        }
        unsure.retain(|one| message["nonce"] != json!(nonce(*one)));
    };
    loop {
        let mut line = writer.connect(&last);
        let again = unsure.iter().flat_map(|one| chat_with(&nonce(*one), &text(*one)));
        let mut alive = line.try_send(again.collect::<Vec<u8>>()).is_ok();
        let window = 1 + writer.random.below(20);
        while alive && !writer.is_due(said) {
            if said < EACH && unsure.len() < window {
                alive = line.try_send(chat_with(&nonce(said), &text(said))).is_ok();
                unsure.push_back(said);
                said += 1;
                continue;
            }
            if unsure.is_empty() {
                line.close();
                return;
            }
            match listen(&mut line) {
                Told::History { messages, .. } => {
                    messages.iter().for_each(|message| hear(&mut unsure, &mut last, message));
                }
                Told::Event(event) => {
                    assert_ne!(event["type"], "refused", "{event}");
                    hear(&mut unsure, &mut last, &event);
                }
                Told::Dropped => alive = false,
            }
        }
        if writer.is_due(said) {
            writer.moments.pop_front();
            writer.break_line(line.into_stream());
        }
    }
}

/// The whole history by REST, page by page.
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
fn everybody_sees_everything_once_however_lines_break() {
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
    let mut person = |name: String, bound: usize| {
        let mut random = Random(random.next());
        let moments = random.moments(breaks(), bound);
        let session = server.session(&name);
        let (server, room, silent) = (&server, room.as_str(), VecDeque::new());
        Person { server, room, session, random, moments, silent }
    };
    let readers: Vec<_> =
        (0..READERS).map(|n| person(format!("reader {n}"), WRITERS * EACH)).collect();
    let writers: Vec<_> = (0..WRITERS).map(|n| person(format!("writer {n}"), EACH)).collect();
    let seen: Vec<Vec<Value>> = thread::scope(|scope| {
        let readers: Vec<_> =
            readers.into_iter().map(|reader| scope.spawn(|| read_on(reader))).collect();
        let writers: Vec<_> = writers
            .into_iter()
            .enumerate()
            .map(|(number, writer)| scope.spawn(move || write_on(writer, number)))
            .collect();
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        // Said in any case, so that a writer's failure is not the readers' as well.
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
    // Each message was said exactly once, and everybody's own are in the order they were written in.
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
