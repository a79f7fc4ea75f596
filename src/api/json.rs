//! JSON output.
//!
//! Owns the form of events, and the parts that JSON answers share. Must not know which connections
//! get an event. The invariant: an event has exactly the fields of the contract, in the contract's
//! order. The same event is always encoded in the same bytes, when it is
//! new and from the history.

use std::fmt;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::chat::{Event, MessageCopies, MessageKind, Page, UserId};
use crate::clock::{Stamps, Wall};
use crate::http::Response;

/// Appends an event in the form that everyone in the room gets (contract §6.5).
///
/// Written without serde, because it runs for every message and only names, texts and nonces can
/// need an escape. Ids and times are written into templates: every part that is appended by itself
/// costs forty instructions.
pub fn event(out: &mut Vec<u8>, event: &Event<'_>, stamps: &mut Stamps) {
    match event {
        Event::Message(message) => {
            let mut head = *b"{\"id\":\"00000000-0000-0000-0000-000000000000\",\"type\":\"";
            head[7..43].copy_from_slice(&message.id.chars());
            out.extend_from_slice(&head);
            let (kind, text, what) = match message.kind {
                MessageKind::Chat(text) => ("chat\",\"user\":\"", text, ""),
                MessageKind::UserJoined => {
                    ("user_joined\",\"user\":\"", message.user, " has joined")
                }
                MessageKind::UserLeft => ("user_left\",\"user\":\"", message.user, " has left"),
            };
            out.extend_from_slice(kind.as_bytes());
            characters(out, message.user);
            let mut middle = *b"\",\"user_id\":\"0000000000000000\",\"message\":\"";
            middle[13..29].copy_from_slice(&message.user_id.chars());
            out.extend_from_slice(&middle);
            characters(out, text);
            out.extend_from_slice(what.as_bytes());
            let mut tail = *b"\",\"timestamp\":\"0000-00-00T00:00:00.000000Z\",\"room_id\":\"";
            tail[15..15 + Stamps::LEN].copy_from_slice(stamps.of(message.wall));
            out.extend_from_slice(&tail);
            out.extend_from_slice(message.room_id.text().as_bytes());
            if let Some(nonce) = message.nonce {
                out.extend_from_slice(b"\",\"nonce\":\"");
                characters(out, nonce);
            }
        }
        Event::Typing { user, user_id, room_id } => {
            out.extend_from_slice(b"{\"type\":\"typing\",\"user\":\"");
            characters(out, user);
            out.extend_from_slice(b"\",\"user_id\":\"");
            out.extend_from_slice(&user_id.chars());
            out.extend_from_slice(b"\",\"room_id\":\"");
            out.extend_from_slice(room_id.text().as_bytes());
        }
    }
    out.extend_from_slice(b"\"}");
}

/// Appends the characters of a JSON string, without its second quotation mark. The first is in `out`
/// already.
fn characters(out: &mut Vec<u8>, value: &str) {
    // Most values need no escapes, and checking for that costs a fraction of escaping.
    if plain_bytes(value) == value.len() {
        return out.extend_from_slice(value.as_bytes());
    }
    out.pop(); // serde_json writes both.
    write(out, &value);
    out.pop();
}

/// How many bytes of `text` come before the first character that a JSON string must escape (RFC 8259
/// §7): a control character, quotation mark or backslash.
///
/// Looks at eight bytes at once. Subtracting a bound from each byte sets the high bit of every byte
/// below the bound; bytes whose high bit was set before are masked out. A borrow can set the high
/// bit of the next byte too, but only if this byte is below the bound, so the lowest bit is right.
/// A byte equals another if their exclusive or is 0, that is, below 1.
pub(super) fn plain_bytes(text: &str) -> usize {
    const EACH: u64 = u64::MAX / 0xFF;
    let below = |word: u64, bound: u8| word.wrapping_sub(EACH * u64::from(bound)) & !word;
    let equal = |word: u64, byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    let escaped = |bytes: [u8; 8]| {
        let word = u64::from_le_bytes(bytes);
        (below(word, b' ') | equal(word, b'"') | equal(word, b'\\')) & (EACH * 0x80)
    };
    let (mut rest, mut found) = (text.as_bytes(), 0);
    while let Some((word, later)) = rest.split_first_chunk() {
        found = escaped(*word);
        if found != 0 {
            break;
        }
        rest = later;
    }
    if found == 0 {
        let mut last = [b' '; 8];
        last[..rest.len()].copy_from_slice(rest);
        found = escaped(last);
    }
    match found {
        0 => text.len(),
        found => text.len() - rest.len() + found.trailing_zeros() as usize / 8,
    }
}

/// Appends messages of a history, separated by commas.
pub fn messages(out: &mut Vec<u8>, messages: &MessageCopies, stamps: &mut Stamps) {
    for (n, message) in messages.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        event(out, &Event::Message(message), stamps);
    }
}

/// Appends a history frame (contract §8.1, §8.2).
pub fn page(out: &mut Vec<u8>, page: &Page<'_>, stamps: &mut Stamps) {
    out.extend_from_slice(b"{\"type\":\"history\",\"room_id\":");
    write(out, &Displayed(page.room_id));
    out.extend_from_slice(b",\"messages\":[");
    messages(out, page.messages, stamps);
    match &page.last {
        None => out.extend_from_slice(b"],\"more\":true}"),
        Some(last) => {
            out.extend_from_slice(b"],\"more\":false,\"complete\":");
            write(out, &last.complete);
            out.extend_from_slice(b",\"you\":");
            write(out, &Displayed(last.you));
            out.extend_from_slice(b",\"owner\":");
            write(out, &last.owner);
            out.extend_from_slice(b",\"users\":");
            write(out, &people(last.users.iter().copied()));
            out.push(b'}');
        }
    }
}

/// The body of an answer that confirms an action: a sentence for people, and the room that was
/// joined.
#[derive(Serialize)]
pub struct Confirmation<'a> {
    pub message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<&'a str>,
}

/// One person in a list of those present.
#[derive(Serialize)]
pub struct Person<'a> {
    user_id: Displayed<UserId>,
    user: &'a str,
}

/// The people present, ready to be serialized.
pub fn people<'a>(users: impl Iterator<Item = (UserId, &'a str)>) -> Vec<Person<'a>> {
    users.map(|(user_id, user)| Person { user_id: Displayed(user_id), user }).collect()
}

/// A time, serialized in the form of contract §1.16.
pub struct Timestamp(pub Wall);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.rfc3339())
    }
}

/// Serialized as a string by its `Display`, without an intermediate `String`.
#[derive(Clone, Copy)]
pub struct Displayed<T>(pub T);

impl<T: fmt::Display> Serialize for Displayed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Appends `value` as JSON.
pub fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value)
        .expect("writing to a Vec cannot fail, and all keys are strings");
}

/// Serializes an iterator as an array, without an intermediate list.
pub fn sequence<S: Serializer>(
    all: &(impl Iterator<Item: Serialize> + Clone),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(all.clone())
}

/// A response with `body` as its JSON content.
pub fn response(status: u16, body: &impl Serialize) -> Response {
    response_of_text(status, bytes(body))
}

/// A response whose content is this JSON.
pub fn response_of_text(status: u16, text: Vec<u8>) -> Response {
    Response { text, ..response_of(status, Vec::new()) }
}

/// `body` as JSON.
pub fn bytes(body: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    write(&mut out, body);
    out
}

/// A response whose content is these pieces of JSON. Large content is not copied.
pub fn response_of(status: u16, pieces: Vec<Bytes>) -> Response {
    // `no-store`: an answer may be outdated at any moment, and many answers are for one session
    // only.
    let mut response = Response::new(status)
        .with("Content-Type", "application/json")
        .with("Cache-Control", "no-store");
    response.body = pieces;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, MessageId, RoomId};

    #[test]
    fn an_event_is_encoded_as_by_serde_json() {
        let id = MessageId::parse("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
        let wall = Wall::from_micros(1_755_611_100_123_456);
        let texts = ["", "ana", "\"q\" \\", "a\nb", "1234567", "Grüße, 世界 🦀"];
        let kinds = texts.map(MessageKind::Chat);
        let kinds = kinds.into_iter().chain([MessageKind::UserJoined, MessageKind::UserLeft]);
        for (kind, user) in kinds.flat_map(|kind| texts.map(|user| (kind, user))) {
            for nonce in texts.map(Some).into_iter().chain([None]) {
                let room_id = RoomId::parse("0123456789").unwrap();
                let user_id = UserId::from_bits(0x0123_4567_89ab_cdef);
                let message = Message { id, kind, user, user_id, wall, room_id, nonce };
                let mut out = b"before".to_vec();
                event(&mut out, &Event::Message(message), &mut Stamps::default());
                let (kind, text) = match kind {
                    MessageKind::Chat(text) => ("chat", text.to_owned()),
                    MessageKind::UserJoined => ("user_joined", format!("{user} has joined")),
                    MessageKind::UserLeft => ("user_left", format!("{user} has left")),
                };
                let json = |value: &str| serde_json::to_string(value).unwrap();
                let nonce = nonce.map(|nonce| format!(",\"nonce\":{}", json(nonce)));
                let expected = format!(
                    "before{{\"id\":\"{id}\",\"type\":\"{kind}\",\"user\":{},\
                     \"user_id\":\"0123456789abcdef\",\"message\":{},\
                     \"timestamp\":\"2025-08-19T13:45:00.123456Z\",\"room_id\":\"0123456789\"{}}}",
                    json(user),
                    json(&text),
                    nonce.unwrap_or_default(),
                );
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }

    /// Tries each character that needs an escape, its neighbours and some longer characters, at
    /// every index of a word and beside several kinds of bytes.
    #[test]
    fn a_string_is_escaped_as_by_serde_json() {
        let all =
            ('\0'..='\u{ff}').chain(['\u{7ff}', '\u{800}', '\u{2022}', '\u{22ff}', '\u{1f642}']);
        for odd in all {
            for length in (0..10).chain([15, 16]) {
                for index in 0..=length {
                    for filler in ['a', '!', '\u{5c00}'] {
                        let mut text: Vec<char> = vec![filler; length];
                        text.insert(index, odd);
                        let text: String = text.into_iter().collect();
                        let mut out = Vec::new();
                        out.push(b'"');
                        characters(&mut out, &text);
                        out.push(b'"');
                        assert_eq!(out, serde_json::to_vec(&text).unwrap(), "{text:?}");
                        let is_escaped =
                            |c: char| serde_json::to_vec(&c).unwrap().len() > c.len_utf8() + 2;
                        let plain = text.find(is_escaped).unwrap_or(text.len());
                        assert_eq!(plain_bytes(&text), plain, "{text:?}");
                    }
                }
            }
        }
    }
}
