//! JSON output.
//!
//! Owns the form of events, and the parts that JSON answers share. Must not know which connections
//! get an event. The invariant: an event has exactly the fields of the contract, in the contract's
//! order. The same event is always encoded in the same bytes, when it is
//! new and from the history.

use std::fmt;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::chat::{Event, Message, MessageCopies, MessageKind, Page, RoomId, RoomInfo, UserId};
use crate::clock::{Stamps, Wall};
use crate::http::Response;

/// A message of this kind up to its user's name. The id is in the bytes from 7 to 43, and a target in
/// those from 80 to 116.
macro_rules! head {
    ($kind:literal) => {
        concat!(r#"{"id":"00000000-0000-0000-0000-000000000000","type":""#, $kind, r#"","user":""#)
    };
}
const DELETION: &str = head!(r#"message_deleted","target":"00000000-0000-0000-0000-000000000000"#);

/// Appends an event in the form that everyone in the room gets (contract §6.5).
///
/// Written without serde, because it runs for every message and only names, texts and nonces can
/// need an escape. Ids and times are written into templates: every part that is appended by itself
/// costs forty instructions.
pub fn event(out: &mut Vec<u8>, event: &Event<'_>, stamps: &mut Stamps) {
    match event {
        Event::Message(message) => {
            let user = message.user.as_bytes();
            // The last value: how many quotation marks after `what` are in it already.
            let (head, text, what, marks) = match message.kind {
                MessageKind::Chat(text) => (head!("chat"), text.as_bytes(), "", 0),
                MessageKind::UserJoined => (head!("user_joined"), user, " has joined", 0),
                MessageKind::UserLeft => (head!("user_left"), user, " has left", 0),
                MessageKind::UserRemoved => {
                    (head!("user_left"), user, r#" has left","removed":true"#, 1)
                }
                MessageKind::ChatDeleted => (head!("chat"), &b""[..], r#"","deleted":true"#, 1),
                MessageKind::MessageDeleted(_) => (DELETION, user, " has deleted a message", 0),
            };
            let start = out.len();
            out.extend_from_slice(head.as_bytes());
            out[start + 7..start + 43].copy_from_slice(&message.id.chars());
            if let MessageKind::MessageDeleted(target) = message.kind {
                out[start + 80..start + 116].copy_from_slice(&target.chars());
            }
            characters(out, user);
            let mut middle = *br#"","user_id":"0000000000000000","message":""#;
            middle[13..29].copy_from_slice(&message.user_id.chars());
            out.extend_from_slice(&middle);
            characters(out, text);
            if !what.is_empty() {
                out.extend_from_slice(what.as_bytes());
            }
            // The room's id has up to 32 digits. The end of a message without nonce follows them.
            let mut tail = *br#"","timestamp":"0000-00-00T00:00:00.000000Z","room_id":"00000000000000000000000000000000"}"#;
            tail[15..15 + Stamps::LEN].copy_from_slice(stamps.of(message.wall));
            let end = 55 + message.room_id.write(&mut tail[55..87]);
            match message.nonce {
                None => {
                    tail[end..end + 2].copy_from_slice(b"\"}");
                    return out.extend_from_slice(&tail[marks..end + 2]);
                }
                Some(nonce) => {
                    out.extend_from_slice(&tail[marks..end]);
                    out.extend_from_slice(br#"","nonce":""#);
                    characters(out, nonce.as_bytes());
                }
            }
        }
        Event::Typing { user, user_id, room_id } => {
            out.extend_from_slice(br#"{"type":"typing","user":""#);
            characters(out, user.as_bytes());
            out.extend_from_slice(br#"","user_id":""#);
            out.extend_from_slice(&user_id.chars());
            out.extend_from_slice(br#"","room_id":""#);
            out.extend_from_slice(room_id.text().as_bytes());
        }
        Event::RoomChanged { room, owner } => return room_changed(out, room, *owner),
    }
    out.extend_from_slice(b"\"}");
}

#[inline(never)] // It would slow down messages, which are a thousand times as frequent.
fn room_changed(out: &mut Vec<u8>, info: &RoomInfo<'_>, owner: Option<UserId>) {
    out.extend_from_slice(br#"{"type":"room_changed","room_id":""#);
    out.extend_from_slice(info.id.text().as_bytes());
    out.extend_from_slice(br#"","room":"#);
    room(out, info, RoomForm::Inside { owner });
    out.push(b'}');
}

/// Bytes of a message's event.
pub fn event_bytes(message: &Message<'_>) -> usize {
    let mut out = Vec::new();
    event(&mut out, &Event::Message(*message), &mut Stamps::default());
    out.len()
}

/// Appends the characters of a JSON string, without its second quotation mark. The first is in `out`
/// already. `value` is UTF-8.
fn characters(out: &mut Vec<u8>, value: &[u8]) {
    // Most values need no escapes, and checking for that costs a fraction of escaping.
    if plain_bytes(value) == value.len() {
        return out.extend_from_slice(value);
    }
    out.pop(); // serde_json writes both.
    write(out, &std::str::from_utf8(value).unwrap_or_default());
    out.pop();
}

/// How many bytes of `text` come before the first character that a JSON string must escape (RFC 8259
/// §7): a control character, quotation mark or backslash.
///
/// Looks at eight bytes at once. Subtracting a bound from each byte sets the high bit of every byte
/// below the bound; bytes whose high bit was set before are masked out. A borrow can set the high
/// bit of the next byte too, but only if this byte is below the bound, so the lowest bit is right.
/// The exclusive or with 2 exchanges the quotation mark with the space, and moves no control
/// character beyond them, so one bound serves both. The exclusive or with a backslash is 0 for a
/// backslash only.
///
/// Long texts are searched four words at once, which takes ten instructions for a word instead of 16.
pub(super) fn plain_bytes(text: &[u8]) -> usize {
    let mut rest = text;
    while let Some((four, later)) = rest.split_first_chunk::<32>() {
        let word = |at: usize| escaped(four[at..at + 8].try_into().unwrap_or_default());
        if (word(0) | word(8) | word(16) | word(24)) & HIGH_BITS != 0 {
            break;
        }
        rest = later;
    }
    let mut found = 0;
    while let Some((word, later)) = rest.split_first_chunk() {
        found = escaped(*word) & HIGH_BITS;
        if found != 0 {
            break;
        }
        rest = later;
    }
    if found == 0 && !rest.is_empty() {
        // The last eight bytes, of which the first have been searched: copying the rest into a word
        // takes longer.
        let last = text.last_chunk().copied().unwrap_or_else(|| {
            let mut last = [b' '; 8];
            last[..rest.len()].copy_from_slice(rest);
            last
        });
        found = escaped(last) & HIGH_BITS;
        rest = &text[text.len().saturating_sub(8)..];
    }
    match found {
        0 => text.len(),
        found => text.len() - rest.len() + found.trailing_zeros() as usize / 8,
    }
}

/// The high bit of each byte of a word.
const HIGH_BITS: u64 = u64::MAX / 0xFF * 0x80;

/// Sets the high bit of the first byte that is escaped, and perhaps of later ones. The other bits are
/// meaningless.
#[inline(always)]
fn escaped(bytes: [u8; 8]) -> u64 {
    const fn all(byte: u8) -> u64 {
        u64::MAX / 0xFF * byte as u64
    }
    let word = u64::from_le_bytes(bytes);
    let low = (word ^ const { all(b'"' ^ b' ') }).wrapping_sub(const { all(b' ' + 1) });
    let backslash = (word ^ const { all(b'\\') }).wrapping_sub(const { all(1) });
    (low | backslash) & !word
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

/// In a frame with a list of users, the last of them begins before this byte. With the longest name
/// and the fields after the list, the frame stays under 64 KiB.
const LIST_BYTES_MAX: usize = 62 * 1024;

/// Appends a history frame (contract §8.1, §8.2). Returns how many of the users fit into it; the others
/// follow in frames that [`users`] makes.
pub fn page(out: &mut Vec<u8>, page: &Page<'_>, stamps: &mut Stamps) -> usize {
    let start = out.len();
    let mut listed = 0;
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
            write(out, &last.is_owner);
            out.extend_from_slice(b",\"room\":");
            room(out, &last.room, RoomForm::Inside { owner: last.owner });
            out.extend_from_slice(b",\"users\":");
            listed = list(out, start + LIST_BYTES_MAX, &last.users);
            let is_whole = listed == last.users.len();
            out.extend_from_slice(if is_whole { b"}" } else { b",\"users_more\":true}" });
        }
    }
    listed
}

/// Appends a frame with the first of `users`, and returns how many they are (contract §8.15).
pub fn users(out: &mut Vec<u8>, room_id: RoomId, users: &[(UserId, &str)]) -> usize {
    let start = out.len();
    out.extend_from_slice(b"{\"type\":\"users\",\"room_id\":");
    write(out, &Displayed(room_id));
    out.extend_from_slice(b",\"users\":");
    let listed = list(out, start + LIST_BYTES_MAX, users);
    out.extend_from_slice(b",\"more\":");
    write(out, &(listed < users.len()));
    out.push(b'}');
    listed
}

/// Appends a list of users, whose last begins before `out` has `end` bytes. Returns how many are in it.
pub fn list(out: &mut Vec<u8>, end: usize, users: &[(UserId, &str)]) -> usize {
    out.push(b'[');
    let mut listed = 0;
    for (user_id, user) in users {
        if out.len() >= end {
            break;
        }
        if listed > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"user_id\":\"");
        out.extend_from_slice(&user_id.chars());
        out.extend_from_slice(b"\",\"user\":\"");
        characters(out, user.as_bytes());
        out.extend_from_slice(b"\"}");
        listed += 1;
    }
    out.push(b']');
    listed
}

/// Appends the first event of a connection that asked for it instead of history (contract §8.16).
pub fn welcome(out: &mut Vec<u8>, room_id: RoomId, you: UserId) {
    out.extend_from_slice(b"{\"type\":\"welcome\",\"room_id\":");
    write(out, &Displayed(room_id));
    out.extend_from_slice(b",\"you\":");
    write(out, &Displayed(you));
    out.push(b'}');
}

/// The event that the operator announces (contract §16.8).
pub fn announcement(message: &str, at: Wall) -> Vec<u8> {
    let mut out = b"{\"type\":\"announcement\",\"message\":\"".to_vec();
    characters(&mut out, message.as_bytes());
    out.extend_from_slice(b"\",\"timestamp\":");
    write(&mut out, &Timestamp(at));
    out.push(b'}');
    out
}

/// Where a room is described.
#[derive(Clone, Copy)]
pub enum RoomForm {
    /// To everyone in the room (contract §13.1).
    Inside { owner: Option<UserId> },
    /// To every client that knows its id (contract §2.7, §10.3).
    Outside,
}

/// Appends the description of a room.
pub fn room(out: &mut Vec<u8>, info: &RoomInfo<'_>, form: RoomForm) {
    #[derive(Serialize)]
    struct RoomDetails<'a> {
        room_id: Displayed<RoomId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exists: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_count: Option<usize>,
        title: Option<&'a str>,
        private: bool,
        password: bool,
        locked: bool,
        slow_mode: u16,
        encrypted: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        owner: Option<Option<Displayed<UserId>>>,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
    }
    let is_outside = matches!(form, RoomForm::Outside);
    let details = RoomDetails {
        room_id: Displayed(info.id),
        exists: is_outside.then_some(true),
        user_count: is_outside.then_some(info.user_count),
        title: info.title,
        private: info.is_private,
        password: info.has_password,
        locked: info.is_locked,
        slow_mode: info.slow_mode,
        encrypted: info.is_encrypted,
        owner: match form {
            RoomForm::Inside { owner } => Some(owner.map(Displayed)),
            RoomForm::Outside => None,
        },
        created_at: Timestamp(info.created),
        expires_at: info.expires.map(Timestamp),
    };
    write(out, &details);
}

/// The body of an answer that confirms an action.
#[derive(Serialize, Default)]
pub struct Confirmation<'a> {
    /// A sentence for people.
    pub message: &'a str,
    /// The room that was joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<&'a str>,
    /// The caller's user id in that room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Displayed<UserId>>,
    /// Whether an address is banned, if the request asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<bool>,
}

/// A response that confirms an action with a sentence for people alone.
pub fn confirmation(message: &str) -> Response {
    response(200, &Confirmation { message, ..Confirmation::default() })
}

/// Appends a list of rooms.
pub fn rooms(out: &mut Vec<u8>, rooms: &[RoomId]) {
    out.push(b'[');
    for (n, room) in rooms.iter().enumerate() {
        out.extend_from_slice(if n > 0 { b",\"" } else { b"\"" });
        out.extend_from_slice(room.text().as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

/// A time, serialized in the form of contract §1.16.
pub struct Timestamp(pub Wall);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        collect(serializer, format_args!("{}", self.0.rfc3339()))
    }
}

/// Serialized as a string by its `Display`, without an intermediate `String`.
#[derive(Clone, Copy)]
pub struct Displayed<T>(pub T);

impl<T: fmt::Display> Serialize for Displayed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        collect(serializer, format_args!("{}", self.0))
    }
}

/// Takes `Arguments`, so that the code is compiled once and not for each type of a value.
fn collect<S: Serializer>(serializer: S, text: fmt::Arguments<'_>) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&text)
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
    use crate::chat::{MessageId, RoomId};

    #[test]
    fn an_event_is_encoded_as_by_serde_json() {
        let id = MessageId::parse("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
        let wall = Wall::from_micros(1_755_611_100_123_456);
        let texts = ["", "ana", "\"q\" \\", "a\nb", "1234567", "Grüße, 世界 🦀"];
        let kinds = texts.map(MessageKind::Chat);
        let target = MessageId::parse("01890a5d-ac96-774b-bcce-b302099a8058").unwrap();
        let others = [
            MessageKind::UserJoined,
            MessageKind::UserLeft,
            MessageKind::UserRemoved,
            MessageKind::ChatDeleted,
            MessageKind::MessageDeleted(target),
        ];
        let kinds = kinds.into_iter().chain(others);
        for (kind, user) in kinds.flat_map(|kind| texts.map(|user| (kind, user))) {
            for nonce in texts.map(Some).into_iter().chain([None]) {
                let room_id = RoomId::parse("0123456789").unwrap();
                let user_id = UserId::from_bits(0x0123_4567_89ab_cdef);
                let message =
                    Message { id, kind, user: user.into(), user_id, wall, room_id, nonce };
                let mut out = b"before".to_vec();
                event(&mut out, &Event::Message(message), &mut Stamps::default());
                assert_eq!(event_bytes(&message), out.len() - 6);
                let left = || format!("{user} has left");
                let (name, text) = match kind {
                    MessageKind::Chat(text) => ("chat", text.to_owned()),
                    MessageKind::ChatDeleted => ("chat", String::new()),
                    MessageKind::UserJoined => ("user_joined", format!("{user} has joined")),
                    MessageKind::UserLeft | MessageKind::UserRemoved => ("user_left", left()),
                    MessageKind::MessageDeleted(_) => {
                        ("message_deleted", format!("{user} has deleted a message"))
                    }
                };
                let (target, more) = match kind {
                    MessageKind::UserRemoved => (String::new(), ",\"removed\":true"),
                    MessageKind::ChatDeleted => (String::new(), ",\"deleted\":true"),
                    MessageKind::MessageDeleted(id) => (format!("\"target\":\"{id}\","), ""),
                    _ => (String::new(), ""),
                };
                let json = |value: &str| serde_json::to_string(value).unwrap();
                let nonce = nonce.map(|nonce| format!(",\"nonce\":{}", json(nonce)));
                let expected = format!(
                    "before{{\"id\":\"{id}\",\"type\":\"{name}\",{target}\"user\":{},\
                     \"user_id\":\"0123456789abcdef\",\"message\":{}{more},\
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
            for length in (0..10).chain([15, 16, 31, 32, 70]) {
                for index in 0..=length {
                    for filler in ['!', '\u{5c00}'] {
                        let mut text: Vec<char> = vec![filler; length];
                        text.insert(index, odd);
                        let text: String = text.into_iter().collect();
                        let mut out = Vec::new();
                        out.push(b'"');
                        characters(&mut out, text.as_bytes());
                        out.push(b'"');
                        assert_eq!(out, serde_json::to_vec(&text).unwrap(), "{text:?}");
                        let is_escaped =
                            |c: char| serde_json::to_vec(&c).unwrap().len() > c.len_utf8() + 2;
                        let plain = text.find(is_escaped).unwrap_or(text.len());
                        assert_eq!(plain_bytes(text.as_bytes()), plain, "{text:?}");
                    }
                }
            }
        }
    }
}
