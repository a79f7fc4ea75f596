//! The ids that clients use for sessions, rooms, people and messages.
//!
//! Owns how ids are generated, parsed and formatted. Must not know what they refer to. The
//! invariant: message ids strictly increase, even if the clock goes back.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use uuid::Uuid;

use crate::clock::{Entropy, Wall};

/// The secret with which a client authenticates as a session: a UUID v4.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    /// Takes the place of an id that must not stay in memory.
    pub(super) const BLANK: SessionId = SessionId(Uuid::nil());

    pub(crate) fn new(entropy: &mut dyn Entropy) -> SessionId {
        SessionId(uuid::Builder::from_random_bytes(entropy.bytes()).into_uuid())
    }

    /// Parses the hyphenated form, whose digits may be in capitals; `None` for anything else.
    pub fn parse(text: &str) -> Option<SessionId> {
        parse_hyphenated(text).map(SessionId)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

/// `uuid` parses other forms too. With them one session would have several ids.
fn parse_hyphenated(text: &str) -> Option<Uuid> {
    if text.len() == IdText::MAX { Uuid::try_parse(text).ok() } else { None }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IdText::hyphenated(self.0).fmt(f)
    }
}

/// Shows nothing, so that the secret cannot reach a log by accident.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// A room's id: 10 lower-case hex digits, or 32 for a private room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RoomId {
    bytes: [u8; 16],
    /// 5 or 16. The other `bytes` are zero.
    len: u8,
}

impl RoomId {
    const PUBLIC_BYTES: usize = 5;

    pub(crate) fn new_public(entropy: &mut dyn Entropy) -> RoomId {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes[..Self::PUBLIC_BYTES]);
        RoomId { bytes, len: Self::PUBLIC_BYTES as u8 }
    }

    /// 128 random bits, because the id is all that protects a private room without a password.
    pub(crate) fn new_private(entropy: &mut dyn Entropy) -> RoomId {
        RoomId { bytes: entropy.bytes(), len: 16 }
    }

    /// Parses an id, whose digits may be in capitals; `None` if the text does not have the form of
    /// one.
    pub fn parse(text: &str) -> Option<RoomId> {
        let mut bytes = [0; 16];
        let len = match text.len() {
            10 => 5,
            32 => 16,
            _ => return None,
        };
        read_hex(text, &mut bytes[..len])?;
        Some(RoomId { bytes, len: len as u8 })
    }

    /// Whether the room is private.
    pub(super) fn is_private(&self) -> bool {
        usize::from(self.len) > Self::PUBLIC_BYTES
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Writes the characters of the id as text to the front of `out`, which has 32 bytes. Returns how
    /// many they are. What follows them is undefined.
    pub fn write(&self, out: &mut [u8]) -> usize {
        write_hex(&self.bytes[..usize::from(self.len).next_multiple_of(4)], out);
        2 * usize::from(self.len)
    }

    /// The id as text.
    pub fn text(&self) -> IdText {
        let mut text = [0; IdText::MAX];
        let len = self.write(&mut text) as u8;
        IdText { text, len }
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

/// SipHash-2-4 of two texts, one after the other. Without the key, a hash says nothing about them.
#[inline(never)] // It would be inlined three times.
pub(crate) fn keyed_hash(key: &[u8; 16], parts: [&[u8]; 2]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(key);
    parts.iter().for_each(|part| hasher.write(part));
    hasher.finish()
}

/// The id of a session within one room, as its messages there show it: 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserId(pub(super) u64);

impl UserId {
    /// The id with these 64 bits.
    #[cfg(any(test, feature = "cluster"))]
    pub const fn from_bits(bits: u64) -> UserId {
        UserId(bits)
    }

    /// The 64 bits.
    #[cfg(feature = "cluster")]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Parses an id, whose digits may be in capitals; `None` if the text does not have the form of
    /// one.
    pub fn parse(text: &str) -> Option<UserId> {
        let mut bytes = [0; 8];
        read_hex(text, &mut bytes)?;
        Some(UserId(u64::from_be_bytes(bytes)))
    }

    /// The characters of the id as text.
    pub fn chars(&self) -> [u8; 16] {
        let mut chars = [0; 16];
        write_hex(&self.0.to_be_bytes(), &mut chars);
        chars
    }

    /// The id as text.
    pub fn text(&self) -> IdText {
        let mut text = [0; IdText::MAX];
        write_hex(&self.0.to_be_bytes(), &mut text);
        IdText { text, len: 16 }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

/// An id as text: at most 36 ASCII characters.
///
/// It exists for speed: every message contains three ids, and formatting them with `fmt` costs
/// several times as much as copying characters.
pub struct IdText {
    text: [u8; IdText::MAX],
    len: u8,
}

impl IdText {
    /// Characters of the longest id.
    pub const MAX: usize = uuid::fmt::Hyphenated::LENGTH;

    fn hyphenated(id: Uuid) -> IdText {
        IdText { text: hyphenated(id), len: IdText::MAX as u8 }
    }

    /// The characters. None of them needs escaping in JSON.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The hyphenated form of RFC 9562 §4.
#[inline(never)] // It would be inlined five times.
fn hyphenated(id: Uuid) -> [u8; IdText::MAX] {
    let mut digits = [0; 32];
    write_hex(id.as_bytes(), &mut digits);
    let mut text = [b'-'; IdText::MAX];
    text[..8].copy_from_slice(&digits[..8]);
    text[9..13].copy_from_slice(&digits[8..12]);
    text[14..18].copy_from_slice(&digits[12..16]);
    text[19..23].copy_from_slice(&digits[16..20]);
    text[24..].copy_from_slice(&digits[20..]);
    text
}

/// Reads two hex digits for each of `bytes`; `None` if `text` is not as many hex digits.
#[inline(never)] // It would be inlined twice.
pub(crate) fn read_hex(text: &str, bytes: &mut [u8]) -> Option<()> {
    let mut digits = text.bytes().map(|digit| char::from(digit).to_digit(16));
    for byte in bytes {
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    digits.next().is_none().then_some(())
}

/// Writes the hex digits of `bytes`, whose length is a multiple of four, to the front of `out`.
///
/// Makes eight digits at once, one in each byte of a word: the half-bytes are moved apart, and then
/// those above 9 become letters.
pub(crate) fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const EACH: u64 = u64::MAX / 0xFF;
    for (four, eight) in bytes.chunks_exact(4).zip(out.chunks_exact_mut(8)) {
        let mut halves = u64::from(u32::from_be_bytes(four.try_into().unwrap_or_default()));
        halves = (halves << 16 | halves) & 0x0000_FFFF_0000_FFFF;
        halves = (halves << 8 | halves) & 0x00FF_00FF_00FF_00FF;
        halves = (halves << 4 | halves) & 0x0F0F_0F0F_0F0F_0F0F;
        let letters = (halves + EACH * 6) >> 4 & EACH;
        let digits = halves + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10);
        eight.copy_from_slice(&digits.to_be_bytes());
    }
}

impl fmt::Display for IdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

/// A message's place in the order of all messages of its room: the part of its id that increases from
/// each to the next. The default precedes every message.
#[cfg(feature = "cluster")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct MessagePlace {
    /// Milliseconds since the Unix epoch; at most 48 bits.
    pub millis: u64,
    /// Counts the messages within `millis`; at most 12 bits.
    pub counter: u16,
}

/// As the ids of a stream of Redis are written.
#[cfg(feature = "cluster")]
impl fmt::Display for MessagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.counter)
    }
}

/// A message's id, by which all messages are ordered: a UUID v7 (RFC 9562 §5.7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MessageId(Uuid);

impl MessageId {
    /// Parses the hyphenated form, whose digits may be in capitals; `None` for anything else.
    pub fn parse(text: &str) -> Option<MessageId> {
        parse_hyphenated(text).map(MessageId)
    }

    /// The id as text.
    pub fn text(&self) -> IdText {
        IdText::hyphenated(self.0)
    }

    /// The characters of the id as text.
    pub fn chars(&self) -> [u8; IdText::MAX] {
        hyphenated(self.0)
    }

    /// The id whose bytes these are.
    pub(super) fn from_bytes(bytes: [u8; 16]) -> MessageId {
        MessageId(Uuid::from_bytes(bytes))
    }

    /// The id's bytes. They have the same order as the ids.
    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with this place in the order of all messages of its room. Of `tail`, the two highest
    /// bits are those of the variant (RFC 9562 §4.1); what they are is overwritten.
    #[cfg(feature = "cluster")]
    pub fn at(place: MessagePlace, tail: [u8; 8]) -> MessageId {
        let mut random = [0; 10];
        random[..2].copy_from_slice(&place.counter.to_be_bytes());
        random[2..].copy_from_slice(&tail);
        MessageId(uuid::Builder::from_unix_timestamp_millis(place.millis, &random).into_uuid())
    }

    /// The id's place in the order of all messages of its room.
    #[cfg(feature = "cluster")]
    pub fn place(self) -> MessagePlace {
        let order = self.order();
        MessagePlace { millis: order >> 16, counter: (order & 0xFFF) as u16 }
    }

    /// The random half of the id, with the variant.
    #[cfg(feature = "cluster")]
    pub fn tail(self) -> [u8; 8] {
        self.0.as_u64_pair().1.to_be_bytes()
    }

    /// The part of the id that increases from each id to the next: the millisecond and the counter.
    pub(super) fn order(self) -> u64 {
        self.0.as_u64_pair().0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

/// The last millisecond of the year 9999. Ids do not follow a clock beyond it, and so always have
/// room to count on: their 48 bits reach the year 10,889.
const CLOCK_MILLIS_MAX: u64 = 253_402_300_799_999;

/// The source of message ids.
#[derive(Default)]
pub(super) struct MessageIds {
    millis: u64,
    /// 12 bits: counts the ids within `millis`.
    counter: u16,
}

impl MessageIds {
    /// The millisecond and the counter of the newest id.
    pub fn newest(&self) -> (u64, u16) {
        (self.millis, self.counter)
    }

    /// Makes all further ids greater than any with this millisecond and counter.
    pub fn continue_after(&mut self, millis: u64, counter: u16) {
        (self.millis, self.counter) = (millis, counter.min(0xFFF));
    }

    /// Whether `id` is at most the newest id, as every generated id is.
    pub fn may_have_issued(&self, id: MessageId) -> bool {
        let bytes = id.0.as_bytes();
        let millis = bytes[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let counter = u16::from_be_bytes([bytes[6] & 0xF, bytes[7]]);
        (millis, counter) <= self.newest()
    }

    /// Generates an id greater than all earlier ones.
    pub fn next(&mut self, wall: Wall, entropy: &mut dyn Entropy) -> MessageId {
        // RFC 9562 §6.2, method 1: a counter in the 12 bits after the version. When it overflows,
        // the ids run ahead of the clock by a millisecond. They are ahead by years once the clock
        // has been ahead by years.
        let millis = wall.millis().min(CLOCK_MILLIS_MAX);
        if millis > self.millis {
            (self.millis, self.counter) = (millis, 0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SeededEntropy;

    // contract §1.14
    #[test]
    fn message_ids_increase_even_if_the_counter_overflows_or_the_clock_goes_back() {
        let mut entropy = SeededEntropy::new(1);
        let mut ids = MessageIds::default();
        let year_9999 = 253_400_000_000_000_000;
        let walls =
            [5_000_000, 5_000_999, 4_000_000, 5_001_000, year_9999, 9_000_000, u64::MAX, 9_000_000];
        let mut last = None;
        for wall in walls {
            for _ in 0..5000 {
                let id = ids.next(Wall::from_micros(wall), &mut entropy);
                assert!(Some(id) > last);
                assert!(
                    Some(id.to_string()) > last.map(|id| id.to_string()),
                    "their texts increase too"
                );
                assert_eq!(id.0.get_version_num(), 7);
                last = Some(id);
            }
        }
    }

    // contract §1.13
    #[test]
    fn a_room_id_has_ten_or_thirty_two_digits() {
        let id = RoomId::new_public(&mut SeededEntropy::new(3));
        assert_eq!(RoomId::parse(&id.to_string()), Some(id));
        let private = "0123456789abcdef0123456789abcdef";
        assert_eq!(RoomId::parse(private).unwrap().to_string(), private);
        for bad in
            ["", "a1b2c3d4e", "a1b2c3d4eg", "+1b2c3d4e5", "a1b2c3d4e5f6", "ééééé", "0xa1b2c3d4"]
        {
            assert_eq!(RoomId::parse(bad), None, "{bad}");
        }
    }

    // contract §1.28
    #[test]
    fn ids_are_parsed_in_capitals_and_written_in_lower_case() {
        for text in ["a1b2c3d4ef", "0123456789abcdef0123456789abcdef"] {
            for text in [text.to_owned(), text.to_uppercase(), text.replace('a', "A")] {
                let id = RoomId::parse(&text).expect(&text);
                assert_eq!(id.to_string(), text.to_lowercase());
            }
        }
        let mut entropy = SeededEntropy::new(4);
        let session = SessionId::new(&mut entropy);
        assert_eq!(SessionId::parse(&session.to_string().to_uppercase()), Some(session));
        let message = MessageIds::default().next(Wall::from_micros(5), &mut entropy);
        assert_eq!(MessageId::parse(&message.to_string().to_uppercase()), Some(message));
        let user = UserId(0x0123_4567_89ab_cdef);
        assert_eq!(UserId::parse("0123456789ABCDEF"), Some(user));
        assert_eq!(UserId::parse(&user.to_string()), Some(user));
        for bad in
            ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", "+123456789abcdef"]
        {
            assert_eq!(UserId::parse(bad), None, "{bad}");
        }
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn a_message_id_consists_of_its_place_and_its_tail() {
        let mut ids = MessageIds::default();
        let id = ids.next(Wall::from_micros(1_755_611_100_123_456), &mut SeededEntropy::new(4));
        let place = MessagePlace { millis: 1_755_611_100_123, counter: 0 };
        assert_eq!((id.place(), MessageId::at(place, id.tail())), (place, id));
        let last = MessagePlace { millis: (1 << 48) - 1, counter: 0xFFF };
        let id = MessageId::at(last, [0xFF; 8]);
        assert_eq!(
            (id.place(), id.to_string().as_str()),
            (last, "ffffffff-ffff-7fff-bfff-ffffffffffff")
        );
    }

    #[test]
    fn ids_are_written_like_those_of_uuid() {
        let mut entropy = SeededEntropy::new(5);
        let ids = (0..=255).map(|byte| [byte; 16]).chain((0..1000).map(|_| {
            let entropy: &mut dyn Entropy = &mut entropy;
            entropy.bytes()
        }));
        for bytes in ids {
            let uuid = Uuid::from_bytes(bytes);
            assert_eq!(MessageId(uuid).to_string(), uuid.hyphenated().to_string());
            let room = RoomId { bytes, len: 16 };
            assert_eq!(room.to_string(), uuid.simple().to_string());
            let (user, simple) = (UserId(uuid.as_u64_pair().0), uuid.simple().to_string());
            assert_eq!(user.to_string(), simple[..16]);
            assert_eq!(user.chars(), simple.as_bytes()[..16]);
        }
    }

    #[test]
    fn session_ids_are_version_4_and_their_debug_output_is_redacted() {
        let id = SessionId::new(&mut SeededEntropy::new(3));
        assert_eq!(id.0.get_version_num(), 4);
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::parse(&id.0.simple().to_string()), None);
        assert_eq!(format!("{id:?}"), "SessionId(..)");
    }
}
