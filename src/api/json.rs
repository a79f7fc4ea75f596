//! JSON on its way out.
//!
//! Owns the shapes of events and what every JSON answer has in common. Must never know who gets
//! them. The invariant: an event is written once, with the contract's fields in the contract's
//! order; a history hands out those same bytes again.

use std::fmt;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::chat::{Event, Kind, Message, MessageId, RoomId, UserId};
use crate::clock::Wall;
use crate::http::Response;

/// Appends an event as everyone in the room gets it (contract, section 1, The socket).
pub fn event(out: &mut Vec<u8>, event: &Event<'_>) {
    match event {
        Event::Message(message) => {
            let kind = match message.kind {
                Kind::Chat(_) => "chat",
                Kind::UserJoined => "user_joined",
                Kind::UserLeft => "user_left",
            };
            let shape = MessageShape {
                id: Shown(message.id),
                kind,
                user: message.user,
                user_id: Shown(message.user_id),
                message: Said(message),
                timestamp: Time(message.wall),
                room_id: Shown(message.room_id),
            };
            write(out, &shape);
        }
        Event::Typing { user, user_id, room_id } => {
            let (user_id, room_id) = (Shown(*user_id), Shown(*room_id));
            write(out, &TypingShape { kind: "typing", user, user_id, room_id });
        }
    }
}

#[derive(Serialize)]
struct MessageShape<'a> {
    id: Shown<MessageId>,
    #[serde(rename = "type")]
    kind: &'static str,
    user: &'a str,
    user_id: Shown<UserId>,
    message: Said<'a>,
    timestamp: Time,
    room_id: Shown<RoomId>,
}

#[derive(Serialize)]
struct TypingShape<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    user: &'a str,
    user_id: Shown<UserId>,
    room_id: Shown<RoomId>,
}

/// A message's text: what was said, or a sentence about what happened.
struct Said<'a>(&'a Message<'a>);

impl Serialize for Said<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let user = self.0.user;
        match self.0.kind {
            Kind::Chat(text) => serializer.serialize_str(text),
            Kind::UserJoined => serializer.collect_str(&format_args!("{user} has joined")),
            Kind::UserLeft => serializer.collect_str(&format_args!("{user} has left")),
        }
    }
}

/// A point in civil time, in the contract's form.
struct Time(Wall);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.rfc3339())
    }
}

/// Written as its `Display` says, without a string in between.
#[derive(Clone, Copy)]
pub struct Shown<T>(pub T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Appends `value`.
pub fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("a Vec takes all, and our keys are strings");
}

/// A response with `body` as its content.
pub fn response(status: u16, body: &impl Serialize) -> Response {
    let mut out = Vec::with_capacity(128);
    write(&mut out, body);
    response_of(status, vec![out.into()])
}

/// A list whose items are JSON already: `head`, the items, `]}`. None of their bytes is copied.
pub fn response_of_items(head: &'static str, items: impl Iterator<Item = Bytes>) -> Response {
    let mut pieces = vec![Bytes::from_static(head.as_bytes())];
    for (n, item) in items.enumerate() {
        if n > 0 {
            pieces.push(Bytes::from_static(b","));
        }
        pieces.push(item);
    }
    pieces.push(Bytes::from_static(b"]}"));
    response_of(200, pieces)
}

/// Whatever we answer is about this moment, and much of it is for one pair of eyes: `no-store`.
fn response_of(status: u16, body: Vec<Bytes>) -> Response {
    let mut response = Response::new(status)
        .with("Content-Type", "application/json")
        .with("Cache-Control", "no-store");
    response.body = body;
    response
}
