//! What is told to clients, and the ids by which it is told.
//!
//! Owns the shape of events and ids. Must never know how they are written down; JSON is the
//! contract's business, not the domain's. The invariant: message ids strictly increase within a
//! process, whatever the clock does.

use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::{Entropy, Wall};

/// The secret by which a session is known: a UUID v4.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    pub(super) fn new(entropy: &mut dyn Entropy) -> SessionId {
        SessionId(uuid::Builder::from_random_bytes(entropy.bytes()).into_uuid())
    }

    /// Reads the hyphenated form; `None` for anything else.
    pub fn parse(text: &str) -> Option<SessionId> {
        parse_hyphenated(text).map(SessionId)
    }

    /// The id's bytes, for what is derived from it.
    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

/// `uuid` knows other forms of the same id, which here would be other names of one thing.
fn parse_hyphenated(text: &str) -> Option<Uuid> {
    const HYPHENATED: usize = 36;
    if text.len() == HYPHENATED { Uuid::try_parse(text).ok() } else { None }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IdText::hyphenated(self.0).fmt(f)
    }
}

/// Shows nothing: a secret does not belong in a log, not even by accident.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// A room's public handle: 10 lower-case hex digits, or 32 for a private room.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoomId {
    bytes: [u8; 16],
    /// 5 or 16; the rest of `bytes` is zero.
    len: u8,
}

impl RoomId {
    const PUBLIC_BYTES: usize = 5;

    pub(super) fn new_public(entropy: &mut dyn Entropy) -> RoomId {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes[..Self::PUBLIC_BYTES]);
        RoomId { bytes, len: Self::PUBLIC_BYTES as u8 }
    }

    /// 128 bits: whoever has a private room's id has the room.
    pub(super) fn new_private(entropy: &mut dyn Entropy) -> RoomId {
        RoomId { bytes: entropy.bytes(), len: 16 }
    }

    /// Reads an id; `None` for what is not shaped like one.
    pub fn parse(text: &str) -> Option<RoomId> {
        let len = match text.len() {
            10 => 5,
            32 => 16,
            _ => return None,
        };
        let digit = |c: &u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(&pair[0])? << 4 | digit(&pair[1])?;
        }
        Some(RoomId { bytes, len })
    }

    /// Whether it is a private room's.
    pub(super) fn is_private(&self) -> bool {
        usize::from(self.len) > Self::PUBLIC_BYTES
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// As it is written.
    pub fn text(&self) -> IdText {
        IdText::hex(self.as_bytes())
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A person in a room, the same for all of their messages there: 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UserId(pub(super) u64);

impl UserId {
    /// As it is written.
    pub fn text(&self) -> IdText {
        IdText::hex(&self.0.to_be_bytes())
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

/// An id as it is written: at most 36 ASCII characters.
///
/// Every message says three of them; what `fmt` does beside copying them is most of their cost.
pub struct IdText {
    text: [u8; IdText::MAX],
    len: u8,
}

impl IdText {
    const MAX: usize = uuid::fmt::Hyphenated::LENGTH;

    fn hyphenated(id: Uuid) -> IdText {
        let mut text = [0; IdText::MAX];
        id.hyphenated().encode_lower(&mut text);
        IdText { text, len: IdText::MAX as u8 }
    }

    /// `bytes`: at most 16.
    fn hex(bytes: &[u8]) -> IdText {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut text = [0; IdText::MAX];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xF)];
        }
        IdText { text, len: 2 * bytes.len() as u8 }
    }

    /// The characters, none of which JSON would escape.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for IdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

/// A message's place in the order of all messages: a UUID v7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MessageId(Uuid);

impl MessageId {
    /// Reads the hyphenated form; `None` for anything else.
    pub fn parse(text: &str) -> Option<MessageId> {
        parse_hyphenated(text).map(MessageId)
    }

    /// As it is written.
    pub fn text(&self) -> IdText {
        IdText::hyphenated(self.0)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

/// The one place where message ids are made.
#[derive(Default)]
pub(super) struct MessageIds {
    millis: u64,
    /// 12 bits: the place within `millis`.
    counter: u16,
}

impl MessageIds {
    /// The time and the place within it of the newest id.
    pub fn newest(&self) -> (u64, u16) {
        (self.millis, self.counter)
    }

    /// All that follow are greater than the one of that time and place.
    pub fn continue_after(&mut self, millis: u64, counter: u16) {
        (self.millis, self.counter) = (millis, counter.min(0xFFF));
    }

    /// Whether an id is no newer than the newest.
    pub fn is_made(&self, id: MessageId) -> bool {
        let bytes = id.0.as_bytes();
        let millis = bytes[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let counter = u16::from_be_bytes([bytes[6] & 0xF, bytes[7]]);
        (millis, counter) <= self.newest()
    }

    /// An id greater than all before it.
    pub fn next(&mut self, wall: Wall, entropy: &mut dyn Entropy) -> MessageId {
        // RFC 9562 §6.2, method 1: a counter in the 12 bits after the version; when it runs over,
        // the next millisecond is borrowed.
        if wall.millis() > self.millis {
            (self.millis, self.counter) = (wall.millis(), 0);
        } else if self.counter < 0xFFF {
            self.counter += 1;
        } else {
            (self.millis, self.counter) = (self.millis + 1, 0);
        }
        let mut tail: [u8; 10] = entropy.bytes();
        tail[..2].copy_from_slice(&self.counter.to_be_bytes());
        MessageId(uuid::Builder::from_unix_timestamp_millis(self.millis, &tail).into_uuid())
    }
}

/// Anything told to everyone in a room.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Has an id and is history.
    Message(Message<'a>),
    /// Somebody is typing; nobody keeps it.
    Typing {
        /// Who.
        user: &'a str,
        /// Who, whatever the name.
        user_id: UserId,
        /// Where.
        room_id: RoomId,
    },
}

/// What has an id and is history.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its place in the order.
    pub id: MessageId,
    /// What happened.
    pub kind: MessageKind<'a>,
    /// The name of the one it happened to.
    pub user: &'a str,
    /// Who, whatever the name.
    pub user_id: UserId,
    /// When.
    pub wall: Wall,
    /// Where.
    pub room_id: RoomId,
    /// By what its sender knows it.
    pub nonce: Option<&'a str>,
}

/// What a message is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageKind<'a> {
    /// Somebody said this.
    Chat(&'a str),
    /// Somebody's first connection in the room.
    UserJoined,
    /// Somebody's last connection in the room is over.
    UserLeft,
}

/// A room's batch is sealed once it is this large. With the longest message on top (4000
/// characters, six bytes each when escaped) it still fits the smallest outbox, 64 KiB: else a
/// reader would be too slow for one tick, however fast it reads.
pub const BATCH_BYTES_FULL: u32 = 32 * 1024;

/// An event's encoded bytes: a range of the batch that it was packed into.
///
/// Opaque to the domain, which only keeps frames and hands them back. 24 bytes. The bytes exist
/// once the batch is sealed, which whoever reads a history sees to first.
#[derive(Clone)]
pub struct Frame {
    batch: Rc<OnceCell<Bytes>>,
    start: u32,
    payload: u32,
    end: u32,
}

impl Frame {
    /// The frame at `start..end` of what `batch` will hold, its payload from `payload` on.
    pub fn new(batch: Rc<OnceCell<Bytes>>, start: u32, payload: u32, end: u32) -> Frame {
        debug_assert!(start <= payload && payload <= end);
        Frame { batch, start, payload, end }
    }

    /// Whether its batch has grown to [`BATCH_BYTES_FULL`] with it.
    pub(super) fn fills_batch(&self) -> bool {
        self.end >= BATCH_BYTES_FULL
    }

    /// Bytes of header and payload.
    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Header and payload, ready to be sent.
    pub fn bytes(&self) -> Bytes {
        self.slice(self.start)
    }

    /// The payload alone: the event as JSON.
    pub fn payload(&self) -> Bytes {
        self.slice(self.payload)
    }

    fn slice(&self, start: u32) -> Bytes {
        let batch = self.batch.get().expect("a batch is sealed before its frames are read");
        batch.slice(start as usize..self.end as usize)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}..{})", self.start, self.end)
    }
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Frame>() == 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SeededEntropy;

    // contract §1.14
    #[test]
    fn message_ids_increase_within_a_millisecond_past_its_end_and_against_the_clock() {
        let mut entropy = SeededEntropy::new(1);
        let mut ids = MessageIds::default();
        let walls = [5_000_000, 5_000_999, 4_000_000, 5_001_000, 9_000_000];
        let mut last = None;
        for wall in walls {
            for _ in 0..5000 {
                let id = ids.next(Wall::from_micros(wall), &mut entropy);
                assert!(Some(id) > last);
                assert!(Some(id.to_string()) > last.map(|id| id.to_string()), "as text, too");
                assert_eq!(id.0.get_version_num(), 7);
                last = Some(id);
            }
        }
    }

    // contract §1.13
    #[test]
    fn room_ids_read_back_and_nothing_else_does() {
        let id = RoomId::new_public(&mut SeededEntropy::new(3));
        assert_eq!(RoomId::parse(&id.to_string()), Some(id));
        let private = "0123456789abcdef0123456789abcdef";
        assert_eq!(RoomId::parse(private).unwrap().to_string(), private);
        for bad in ["", "a1b2c3d4e", "A1B2C3D4E5", "a1b2c3d4eg", "a1b2c3d4e5f6", "ééééé"] {
            assert_eq!(RoomId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn session_ids_are_version_4_and_never_debugged() {
        let id = SessionId::new(&mut SeededEntropy::new(3));
        assert_eq!(id.0.get_version_num(), 4);
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::parse(&id.0.simple().to_string()), None);
        assert_eq!(format!("{id:?}"), "SessionId(..)");
    }
}
