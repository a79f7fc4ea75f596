//! Step 5 of 5: a chat server. All members of a room hear what one says. See `step5_rooms.md`.
//!
//! Owns the rooms, and the way of a connection from its first request into one. Must not know a
//! socket. The invariant: a connection is in a room exactly while it is a `Member`, and all members
//! hear everything in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use disposable_chat::clock::Now;
use disposable_chat::http::{Codec, Fed, Framing, HttpLimits, Method, Request, Response, Version};
use disposable_chat::net::Piece;
use disposable_chat::ws::{self, Context, FrameReader, Incoming, WsLimits, handshake};

use event_loop::{Action, EventLoop, Protocol};

pub mod event_loop;

/// How long a request may take, and how often each member is pinged. See `on_timeout`.
pub const SILENCE: Duration = Duration::from_secs(30);

const PAGE: &str = include_str!("step5_rooms.html");

/// Bytes of a member's name, which has letters and digits only, and of a message.
pub const NAME_BYTES_MAX: usize = 32;
pub const MESSAGE_BYTES_MAX: usize = 4096;

const HTTP_LIMITS: HttpLimits =
    HttpLimits { head_bytes_max: 8192, fields_max: 64, target_bytes_max: 1024, body_bytes_max: 0 };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1);
    let address = argument.as_deref().unwrap_or("127.0.0.1:8001").parse()?;
    let mut server = EventLoop::bind(address, SILENCE, Chat::default())?;
    println!("listening on {}", server.listener.address()?);
    match server.run()? {}
}

#[derive(Default)]
pub struct Chat {
    connections: BTreeMap<usize, Connection>,
    /// The room of each member. The members of a room are neighbours.
    members: BTreeSet<(String, usize)>,
}

struct Connection {
    was_heard: bool, // Since the last timeout.
    state: State,
}

enum State {
    /// Until the upgrade.
    Http(Codec),
    Member(Context, Name),
    /// Nothing more is read or sent.
    Over,
}

#[derive(Clone)]
struct Name {
    name: String,
    room: String,
}

/// What a request or a frame means to the chat.
enum Event {
    Nothing,
    Joined(Name),
    Said(String),
    Over,
}

impl Default for Connection {
    fn default() -> Connection {
        Connection { was_heard: false, state: State::Http(Codec::new(HTTP_LIMITS)) }
    }
}

impl Chat {
    fn on_event(&mut self, key: usize, event: Event, out: &mut Vec<Action>) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        match (event, &connection.state) {
            (Event::Joined(name), State::Http(_)) => {
                connection.state = State::Member(Context::new(), name.clone());
                self.members.insert((name.room.clone(), key));
                broadcast(&self.members, &name.room, &format!("* {} joins", name.name), out);
            }
            (Event::Said(text), State::Member(_, name)) => {
                broadcast(&self.members, &name.room, &format!("{}: {text}", name.name), out);
            }
            (Event::Over, State::Member(_, name)) => {
                let name = name.clone();
                connection.state = State::Over;
                self.members.remove(&(name.room.clone(), key));
                broadcast(&self.members, &name.room, &format!("* {} leaves", name.name), out);
            }
            (Event::Over, _) => connection.state = State::Over,
            _ => {}
        }
    }
}

/// Sends a text to all members of a room. It is encoded once, and all queues share its bytes.
fn broadcast(members: &BTreeSet<(String, usize)>, room: &str, text: &str, out: &mut Vec<Action>) {
    let mut frame = Vec::new();
    ws::encode_text(&mut frame, |frame| frame.extend_from_slice(text.as_bytes()));
    let piece = Piece::shared(Bytes::from(frame));
    let members = members.range((room.to_owned(), 0)..=(room.to_owned(), usize::MAX));
    out.extend(members.map(|(_, key)| Action::Send(*key, piece.clone())));
}

impl Protocol for Chat {
    fn on_bytes(&mut self, key: usize, mut bytes: &[u8], now: Now, out: &mut Vec<Action>) {
        // The state can change within the bytes: the first frame may come with the request.
        while !bytes.is_empty() {
            let connection = self.connections.entry(key).or_default();
            connection.was_heard = true;
            let mut reply = Vec::new();
            let event = match &mut connection.state {
                State::Http(codec) => on_http_bytes(codec, &mut bytes, now, &mut reply),
                State::Member(context, _) => on_ws_bytes(context, &mut bytes, &mut reply),
                State::Over => return,
            };
            let is_over = matches!(event, Event::Over);
            // The reply goes first: the 101 comes before the peer's own "joins".
            out.push(Action::Send(key, Piece::private(reply)));
            self.on_event(key, event, out);
            out.extend(is_over.then_some(Action::Finish(key)));
        }
    }

    fn on_timeout(&mut self, key: usize, out: &mut Vec<Action>) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let is_silent = !std::mem::take(&mut connection.was_heard);
        if is_silent || matches!(connection.state, State::Http(_)) {
            return; // It has not answered the last ping, or has not completed a request.
        }
        if let State::Member(context, _) = &mut connection.state {
            let mut ping = Vec::new();
            context.ping(&mut ping);
            out.push(Action::Send(key, Piece::private(ping)));
        }
        out.push(Action::Rearm(key));
    }

    fn on_end(&mut self, key: usize, out: &mut Vec<Action>) {
        self.on_event(key, Event::Over, out);
        self.connections.remove(&key);
    }
}

fn on_http_bytes(codec: &mut Codec, bytes: &mut &[u8], now: Now, reply: &mut Vec<u8>) -> Event {
    let (response, event) = match codec.feed(bytes) {
        Ok(Fed::Partial) => return Event::Nothing,
        Ok(Fed::Request(request)) => answer(&request),
        Ok(Fed::Continue) | Err(_) => (Response::new(400), Event::Over),
    };
    let keep_alive = matches!(event, Event::Joined(_));
    let date = &now.wall.http_date().to_string();
    let framing = Framing { date, is_head: false, version: Version::Http11, keep_alive };
    response.encode(framing, |piece| reply.extend_from_slice(&piece));
    event
}

/// `/` is the page, and an upgrade at `/ROOM?name=NAME` enters a room.
fn answer(request: &Request) -> (Response, Event) {
    if request.method() == Method::Get && request.path() == "/" {
        let page = Response::new(200).with("Content-Type", "text/html; charset=utf-8");
        return (Response { text: PAGE.into(), ..page }, Event::Over);
    }
    let name = request.query_value("name").ok().flatten().unwrap_or_default();
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len());
    let is_name = is_name && name.chars().all(char::is_alphanumeric);
    match handshake::check(request) {
        Ok(accept) if is_name => {
            let name = Name { name: name.into_owned(), room: request.path().to_owned() };
            (handshake::accept(accept, None), Event::Joined(name))
        }
        Ok(_) => (Response::new(400), Event::Over),
        Err(_) => (Response::new(426).with("Upgrade", "websocket"), Event::Over),
    }
}

/// Control frames are answered by `feed`, and binary messages are ignored.
fn on_ws_bytes(context: &mut Context, bytes: &mut &[u8], reply: &mut Vec<u8>) -> Event {
    let (frame_bytes_max, message_bytes_max) = (MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX);
    let mut reader = FrameReader::new(WsLimits { frame_bytes_max, message_bytes_max });
    match context.feed(bytes, reply, &mut reader) {
        // One line: a second one could pretend to be another member's.
        Ok(Some(Incoming::Text(text))) => Event::Said(text.replace(char::is_control, " ")),
        Ok(Some(Incoming::Closed(_))) => Event::Over,
        Ok(_) => Event::Nothing,
        Err(violation) => {
            context.close(violation.close(), reply);
            Event::Over
        }
    }
}
