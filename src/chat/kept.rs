//! The form in which a message is kept.
//!
//! Owns the record of a message: the id, then a header of fixed length, then the user's name, the
//! nonce and the text. Must not know where records are stored. The invariant: a message that is
//! decoded equals the one that was encoded, so that a reader of the history receives the bytes that
//! were sent when the message was new.
//!
//! A record takes about a fifth of the memory of the encoded event: ids and times are in binary
//! form, and the room is known from the history.
//!
//! If a chat's text is deleted, its record keeps its length: zero bytes take the place of the text,
//! so that nothing behind it has to be moved.

use super::event::{Message, MessageKind};
use super::id::{MessageId, RoomId, UserId, keyed_hash};
use super::keys::ShareKey;
use super::name::UserName;
use super::store::KEY_BYTES;
use crate::clock::Wall;

/// The part of a record between the id and the texts.
pub(super) struct Header {
    /// The index of the share in which the message counts.
    pub share: u32,
    /// Bytes of the encoded event.
    pub event_bytes: u16,
    kind: u8,
    wall: Wall,
    pub user_id: UserId,
    /// Bytes of the user's name and of the nonce; 0: no nonce.
    user_bytes: u8,
    pub nonce_bytes: u8,
}

/// Bytes of an encoded [`Header`].
pub(super) const HEADER_BYTES: usize = 4 + 2 + 1 + 8 + 8 + 1 + 1;

/// Values of [`Header::kind`].
const CHAT: u8 = 0;
const USER_JOINED: u8 = 1;
const USER_LEFT: u8 = 2;
const USER_REMOVED: u8 = 3;
const CHAT_DELETED: u8 = 4;
const MESSAGE_DELETED: u8 = 5;

impl Header {
    /// The header of a message that counts in a share. `event_bytes`: the length of its event.
    pub fn of(message: &Message<'_>, share: Option<ShareKey>, event_bytes: usize) -> Header {
        // Limits keep all lengths far below the largest value.
        Header {
            share: share.map_or(0, |share| share.index() as u32),
            event_bytes: u16::try_from(event_bytes).unwrap_or(u16::MAX),
            kind: match message.kind {
                MessageKind::Chat(_) => CHAT,
                MessageKind::UserJoined => USER_JOINED,
                MessageKind::UserLeft => USER_LEFT,
                MessageKind::UserRemoved => USER_REMOVED,
                MessageKind::ChatDeleted => CHAT_DELETED,
                MessageKind::MessageDeleted(_) => MESSAGE_DELETED,
            },
            wall: message.wall,
            user_id: message.user_id,
            user_bytes: message.user.as_bytes().len() as u8,
            nonce_bytes: message.nonce.map_or(0, str::len) as u8,
        }
    }

    /// Whether the record is that of a chat, deleted or not.
    pub fn is_chat(&self) -> bool {
        matches!(self.kind, CHAT | CHAT_DELETED)
    }

    /// Whether the text has been deleted.
    pub fn is_deleted(&self) -> bool {
        self.kind == CHAT_DELETED
    }

    /// Bytes of a record before its text.
    pub fn text_start(&self) -> usize {
        KEY_BYTES + HEADER_BYTES + usize::from(self.user_bytes) + usize::from(self.nonce_bytes)
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&self.share.to_le_bytes());
        out[4..6].copy_from_slice(&self.event_bytes.to_le_bytes());
        out[6] = self.kind;
        out[7..15].copy_from_slice(&self.wall.micros().to_le_bytes());
        out[15..23].copy_from_slice(&self.user_id.0.to_le_bytes());
        (out[23], out[24]) = (self.user_bytes, self.nonce_bytes);
        out
    }

    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Header {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
        Header {
            share: u32::from_le_bytes(std::array::from_fn(|n| bytes[n])),
            event_bytes: u16::from_le_bytes([bytes[4], bytes[5]]),
            kind: bytes[6],
            wall: Wall::from_micros(word(7)),
            user_id: UserId(word(15)),
            user_bytes: bytes[23],
            nonce_bytes: bytes[24],
        }
    }
}

/// Copies of kept messages, in their order.
pub struct MessageCopies {
    records: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
    room_id: RoomId,
}

impl MessageCopies {
    /// Copies of messages of this room, none so far.
    pub(super) fn of(room_id: RoomId) -> MessageCopies {
        MessageCopies { records: Vec::new(), ends: Vec::new(), room_id }
    }

    /// A copy of one message, which need not be kept.
    #[cfg(feature = "cluster")]
    pub fn of_message(message: &Message<'_>) -> MessageCopies {
        let mut copy = MessageCopies::of(message.room_id);
        copy.push_new(message);
        copy
    }

    /// The copies; none are left.
    #[cfg(feature = "cluster")]
    pub fn take(&mut self) -> MessageCopies {
        std::mem::replace(self, MessageCopies::of(self.room_id))
    }

    /// Appends the record that `read` appends to its argument.
    pub(super) fn push(&mut self, read: impl FnOnce(&mut Vec<u8>)) {
        read(&mut self.records);
        self.ends.push(self.records.len());
    }

    /// Appends a message that is not a record.
    pub(super) fn push_new(&mut self, message: &Message<'_>) {
        let head = head(message, None, 0);
        let parts = parts(message, &head);
        self.push(|out| parts.iter().for_each(|part| out.extend_from_slice(part)));
    }

    /// The messages.
    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts
            .zip(&self.ends)
            .filter_map(|(start, end)| decode(self.records.get(*start..*end)?, self.room_id))
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Bytes of a message's record.
pub(super) fn record_bytes(message: &Message<'_>) -> usize {
    let texts = message.user.as_bytes().len() + message.nonce.map_or(0, str::len);
    KEY_BYTES + HEADER_BYTES + texts + text(message).len()
}

/// The text of a message, or the id of the message that it reports as deleted; empty if it has none.
fn text<'m>(message: &'m Message<'_>) -> &'m [u8] {
    match &message.kind {
        MessageKind::Chat(text) => text.as_bytes(),
        MessageKind::MessageDeleted(target) => target.as_bytes(),
        MessageKind::UserJoined
        | MessageKind::UserLeft
        | MessageKind::UserRemoved
        | MessageKind::ChatDeleted => &[],
    }
}

/// The id and the header of a record.
type Head = [u8; KEY_BYTES + HEADER_BYTES];

/// See [`Header::of`].
pub(super) fn head(message: &Message<'_>, share: Option<ShareKey>, event_bytes: usize) -> Head {
    let mut head = [0; KEY_BYTES + HEADER_BYTES];
    head[..KEY_BYTES].copy_from_slice(message.id.as_bytes());
    head[KEY_BYTES..].copy_from_slice(&Header::of(message, share, event_bytes).encode());
    head
}

/// The parts of a message's record, which begins with `head`.
pub(super) fn parts<'m>(message: &'m Message<'_>, head: &'m Head) -> [&'m [u8]; 4] {
    let nonce = message.nonce.unwrap_or_default();
    [head, message.user.as_bytes(), nonce.as_bytes(), text(message)]
}

/// `None` if the bytes are not a record.
fn decode(record: &[u8], room_id: RoomId) -> Option<Message<'_>> {
    let (id, rest) = record.split_first_chunk()?;
    let (header, texts) = rest.split_first_chunk()?;
    let Header { kind, wall, user_id, user_bytes, nonce_bytes, .. } = Header::decode(*header);
    let (user, texts) = texts.split_at_checked(user_bytes.into())?;
    let (nonce, text) = texts.split_at_checked(nonce_bytes.into())?;
    let kind = match kind {
        CHAT => MessageKind::Chat(std::str::from_utf8(text).ok()?),
        USER_JOINED => MessageKind::UserJoined,
        USER_LEFT => MessageKind::UserLeft,
        USER_REMOVED => MessageKind::UserRemoved,
        MESSAGE_DELETED => MessageKind::MessageDeleted(MessageId::from_bytes(*text.first_chunk()?)),
        CHAT_DELETED => MessageKind::ChatDeleted,
        _ => return None,
    };
    Some(Message {
        id: MessageId::from_bytes(*id),
        kind,
        user: UserName::of(user),
        user_id,
        wall,
        room_id,
        nonce: if nonce.is_empty() { None } else { std::str::from_utf8(nonce).ok() },
    })
}

/// The part of a header that changes when a message's text is deleted, and where it begins in a
/// record. `event_bytes`: the length of the new event.
pub(super) fn deleted_part(event_bytes: usize) -> (usize, [u8; 3]) {
    let [low, high] = u16::try_from(event_bytes).unwrap_or(u16::MAX).to_le_bytes();
    (KEY_BYTES + 4, [low, high, CHAT_DELETED])
}

/// The hash by which a nonce is found. It includes the sender, so that two senders may use the same
/// text. A match is confirmed by the message itself.
pub(super) fn nonce_hash(user_id: UserId, nonce: &str) -> u64 {
    keyed_hash(&[0; 16], [&user_id.0.to_le_bytes(), nonce.as_bytes()])
}

/// The nonce of a record, if it has one.
pub(super) fn record_nonce<'r>(header: &Header, record: &'r [u8]) -> Option<&'r [u8]> {
    let start = KEY_BYTES + HEADER_BYTES + usize::from(header.user_bytes);
    record.get(start..start + usize::from(header.nonce_bytes)).filter(|nonce| !nonce.is_empty())
}

/// [`nonce_hash`] of a record, if it has a nonce.
pub(super) fn record_nonce_hash(header: &Header, record: &[u8]) -> Option<u64> {
    let nonce = std::str::from_utf8(record_nonce(header, record)?).ok()?;
    Some(nonce_hash(header.user_id, nonce))
}
