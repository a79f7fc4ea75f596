//! Messages of version 1, which is still read: the JSON that clients received.
//!
//! Owns their form. Must not know how the current version writes them. The invariant:
//! `tests/wire/state-version-1`, a file of the first edition, is read.

use std::borrow::Cow;

use super::format::Decoder;
use crate::chat::{Record, RecordedKind};
use crate::clock::Wall;

/// Reads the fields `names` of a JSON object that are strings; `None` if it is no object.
pub type ReadObject = for<'a> fn(&'a str, [&str; 5]) -> Option<[Cow<'a, str>; 5]>;

/// A message's event as clients received it, and the sender's user id beside its nonce.
pub(super) fn message<'a>(from: &mut Decoder<'a>, read_object: ReadObject) -> Option<Record<'a>> {
    let (room, id, event) = (from.small()?, from.text()?, from.text()?);
    let nonce = from.option(|from| Some((from.number()?, from.text()?)))?;
    let names = ["type", "user", "user_id", "message", "timestamp"];
    let [kind, user, user_id, text, timestamp] = read_object(&event, names)?;
    let (kind, text) = match &*kind {
        "chat" => (RecordedKind::Chat, text.into_owned()),
        "user_joined" => (RecordedKind::UserJoined, String::new()),
        "user_left" => (RecordedKind::UserLeft, String::new()),
        _ => return None,
    };
    Some(Record::Message {
        room,
        id,
        kind,
        user: user.into_owned().into(),
        user_id: u64::from_str_radix(&user_id, 16).ok()?,
        wall: Wall::parse(&timestamp)?.micros(),
        text: text.into(),
        nonce: nonce.map(|(_, nonce)| nonce),
        from: None,
    })
}
