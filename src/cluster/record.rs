//! The form in which messages, rooms and pushes lie in the store.
//!
//! Owns encoding and decoding. Must not know which call or key a text belongs to. The invariant: the
//! length of each part precedes it, or the part is the last, so no text that a client sends can end
//! its field; and nothing that the store sends causes a panic. What is decoded is not checked against
//! the rules of the chat: a server encoded it, and checked it before.
//!
//! | text | form |
//! |---|---|
//! | body | kind (1) tail (16) user (16) length (2) name length (2) nonce text |
//! | record | stamp (16) body |
//! | facts | flags slow owner created expires count title |
//! | entry | list: place of the message before, place, record |
//! | snapshot | list: facts, people (list: user, name) |
//!
//! Lengths, tails and users are in hex digits; stamps and times in microseconds since the Unix epoch.

use std::fmt;
use std::io::Write as _;

use super::resp::{Reply, digits};
use crate::chat::{
    Appended, BanInfo, CloseReason, Message, MessageId, MessageKind, MessagePlace, RoomFacts,
    RoomId, RoomInfo, RoomSnapshot, UserId, UserName, read_hex, write_hex,
};
use crate::clock::Wall;

/// A text of the store that does not have the form of this file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRecord;

/// What a server tells of a message before the store gives it its place and its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageBody<'a> {
    /// What happened.
    pub kind: MessageKind<'a>,
    /// The random half of the message's id.
    pub tail: [u8; 8],
    /// The member's user id.
    pub user_id: UserId,
    /// The member's name; at most 255 bytes.
    pub user: UserName<'a>,
    /// The sender's own identifier for the message; at most 255 bytes.
    pub nonce: Option<&'a str>,
}

/// Digits of a stamp. They last until the year 2286.
const STAMP_DIGITS: usize = 16;

impl<'a> MessageBody<'a> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let target;
        let (kind, text) = match self.kind {
            MessageKind::Chat(text) => (b'C', text.as_bytes()),
            MessageKind::UserJoined => (b'J', &b""[..]),
            MessageKind::UserLeft => (b'L', &b""[..]),
            MessageKind::UserRemoved => (b'R', &b""[..]),
            MessageKind::ChatDeleted => (b'D', &b""[..]),
            MessageKind::MessageDeleted(id) => {
                target = id.chars();
                (b'X', &target[..])
            }
        };
        out.push(kind);
        out.extend_from_slice(&tail_digits(self.tail));
        out.extend_from_slice(&self.user_id.chars());
        for part in [self.user.as_bytes(), self.nonce.unwrap_or_default().as_bytes()] {
            // A longer part would not be what its length says.
            debug_assert!(part.len() <= 0xFF);
            let part = &part[..part.len().min(0xFF)];
            put(out, format_args!("{:02x}", part.len()));
            out.extend_from_slice(part);
        }
        out.extend_from_slice(text);
    }

    /// Reads a body.
    pub fn decode(body: &'a [u8]) -> Result<MessageBody<'a>, BadRecord> {
        let mut rest = body;
        let [kind] = *take(&mut rest, 1)? else { return Err(BadRecord) };
        let tail = hex(take(&mut rest, 16)?)?.to_be_bytes();
        let user_id = user(take(&mut rest, 16)?)?;
        let mut part = || {
            let length = hex(take(&mut rest, 2)?)?;
            utf8(take(&mut rest, length as usize)?)
        };
        let (name, nonce) = (part()?, part()?);
        let kind = match kind {
            b'C' => MessageKind::Chat(utf8(rest)?),
            b'J' => MessageKind::UserJoined,
            b'L' => MessageKind::UserLeft,
            b'R' => MessageKind::UserRemoved,
            b'D' => MessageKind::ChatDeleted,
            b'X' => MessageKind::MessageDeleted(MessageId::parse(utf8(rest)?).ok_or(BadRecord)?),
            _ => return Err(BadRecord),
        };
        let nonce = (!nonce.is_empty()).then_some(nonce);
        Ok(MessageBody { kind, tail, user_id, user: name.into(), nonce })
    }
}

/// The random half of the id that a message with this body has.
pub fn tail_of(body: &[u8]) -> Option<[u8; 8]> {
    Some(hex(body.get(1..17)?).ok()?.to_be_bytes())
}

/// The 16 hex digits of the random half of a message's id.
pub fn tail_digits(tail: [u8; 8]) -> [u8; 16] {
    UserId::from_bits(u64::from_be_bytes(tail)).chars()
}

/// Reads a record: the body of a message after the time at which the store has accepted it.
pub fn message(room: RoomId, place: MessagePlace, record: &[u8]) -> Result<Message<'_>, BadRecord> {
    let mut rest = record;
    let stamp = digits(take(&mut rest, STAMP_DIGITS)?).ok_or(BadRecord)?;
    let MessageBody { kind, tail, user_id, user, nonce } = MessageBody::decode(rest)?;
    let (id, wall) = (MessageId::at(place, tail), Wall::from_micros(stamp));
    Ok(Message { id, kind, user, user_id, wall, room_id: room, nonce })
}

/// Appends a message as a record.
pub fn encode_message(message: &Message<'_>, out: &mut Vec<u8>) {
    put(out, format_args!("{:0STAMP_DIGITS$}", message.wall.micros()));
    let Message { id, kind, user, user_id, nonce, .. } = *message;
    MessageBody { kind, tail: id.tail(), user_id, user, nonce }.encode(out);
}

/// Reads a place, `milliseconds-counter`, as streams have it.
pub fn place(text: &[u8]) -> Result<MessagePlace, BadRecord> {
    let at = text.iter().position(|byte| *byte == b'-').ok_or(BadRecord)?;
    let (millis, counter) = (&text[..at], &text[at + 1..]);
    let (millis, counter) = (digits(millis).ok_or(BadRecord)?, digits(counter).ok_or(BadRecord)?);
    match u16::try_from(counter) {
        Ok(counter) if counter <= 0xFFF && millis < 1 << 48 => Ok(MessagePlace { millis, counter }),
        _ => Err(BadRecord),
    }
}

/// Reads an entry, which a function has appended.
pub fn entry(room: RoomId, entry: &Reply) -> Result<Appended<'_>, BadRecord> {
    let after = place(entry.bytes(0))?;
    Ok(Appended { after, message: message(room, place(entry.bytes(1))?, entry.bytes(2))? })
}

/// Reads a flat list of places and records, as `resync` replies with.
pub fn messages(
    room: RoomId,
    list: &[Reply],
) -> impl Iterator<Item = Result<Message<'_>, BadRecord>> {
    pairs(list).map(move |pair| {
        let (at, record) = pair?;
        message(room, place(at)?, record)
    })
}

/// Reads the facts about a room.
pub fn facts(room: RoomId, facts: &[u8]) -> Result<RoomFacts<'_>, BadRecord> {
    let mut words = utf8(facts)?.splitn(7, ' ');
    let mut next = || words.next().ok_or(BadRecord);
    let (flags, slow, owner, created, expires) = (next()?, next()?, next()?, next()?, next()?);
    let (count, title) = (next()?, next()?);
    let number = |word: &str| digits(word.as_bytes()).ok_or(BadRecord);
    let optional = |word| if word == "-" { Ok(None) } else { number(word).map(Some) };
    let has = |flag: char| flags.contains(flag);
    Ok(RoomFacts {
        room: RoomInfo {
            id: room,
            title: (!title.is_empty()).then_some(title),
            is_private: has('p'),
            has_password: has('l'),
            is_locked: has('k'),
            slow_mode: u16::try_from(number(slow)?).map_err(|_| BadRecord)?,
            is_encrypted: has('e'),
            user_count: usize::try_from(number(count)?).map_err(|_| BadRecord)?,
            created: Wall::from_micros(number(created)?),
            expires: optional(expires)?.map(Wall::from_micros),
        },
        owner: if owner == "-" { None } else { Some(user(owner.as_bytes())?) },
    })
}

/// Reads a snapshot of a room.
pub fn snapshot(room: RoomId, snapshot: &Reply) -> Result<RoomSnapshot<'_>, BadRecord> {
    Ok(RoomSnapshot {
        facts: facts(room, snapshot.bytes(0))?,
        people: people(snapshot.list(1)).collect::<Result<_, _>>()?,
    })
}

/// Reads a flat list of people: user id and name.
pub fn people(list: &[Reply]) -> impl Iterator<Item = Result<(UserId, UserName<'_>), BadRecord>> {
    pairs(list).map(|pair| {
        let (id, name) = pair?;
        Ok((user(id)?, utf8(name)?.into()))
    })
}

/// Reads a flat list of rooms and facts, as `listing` replies with.
pub fn rooms(list: &[Reply]) -> impl Iterator<Item = Result<RoomFacts<'_>, BadRecord>> {
    pairs(list).map(|pair| {
        let (id, text) = pair?;
        facts(room(id)?, text)
    })
}

/// The bans of a room: user id, end, name, and whether with an address. One that is not of this form is
/// left out.
pub fn bans(list: &[Reply]) -> impl Iterator<Item = BanInfo<'_>> {
    list.chunks_exact(4).filter_map(|ban| {
        Some(BanInfo {
            user_id: UserId::parse(ban[0].as_str())?,
            until: Wall::from_micros(ban[1].as_number()?),
            user: ban[2].as_str(),
            has_address: !ban[3].as_bytes().is_empty(),
        })
    })
}

/// The pairs of texts of a flat list. A last one without its second is an error.
pub fn pairs(list: &[Reply]) -> impl Iterator<Item = Result<(&[u8], &[u8]), BadRecord>> {
    list.chunks(2).map(|pair| match pair {
        [Reply::Text(one), Reply::Text(other)] => Ok((one.as_slice(), other.as_slice())),
        _ => Err(BadRecord),
    })
}

/// A session, as the store knows it. It does not reveal the session's id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionHash(pub [u8; 16]);

impl SessionHash {
    /// Reads 32 hex digits.
    pub fn parse(text: &[u8]) -> Result<SessionHash, BadRecord> {
        let mut bytes = [0; 16];
        read_hex(utf8(text)?, &mut bytes).ok_or(BadRecord)?;
        Ok(SessionHash(bytes))
    }

    /// The session with these 128 bits.
    pub const fn from_bits(bits: u128) -> SessionHash {
        SessionHash(bits.to_be_bytes())
    }

    /// The 128 bits.
    pub const fn bits(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// The 32 hex digits.
    pub fn chars(&self) -> [u8; 32] {
        let mut chars = [0; 32];
        write_hex(&self.0, &mut chars);
        chars
    }
}

impl fmt::Display for SessionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.chars()).unwrap_or_default())
    }
}

/// What the store tells a server without being asked: the outcome of another server's calls, or of
/// work that nobody asked for.
#[derive(Clone, Copy, Debug)]
pub enum StorePush<'a> {
    /// A message was appended to a room.
    Message(Appended<'a>),
    /// The room or its owner has changed.
    Facts(RoomFacts<'a>),
    /// A member is typing.
    Typing { room: RoomId, user_id: UserId, user: UserName<'a> },
    /// The member's connections are to be closed here, and those that are entering.
    /// [`CloseReason::Silent`]: it was evicted after a probe.
    Kicked { room: RoomId, user_id: UserId, reason: CloseReason },
    /// The room is no more. [`CloseReason::RoomNotFound`]: its ttl was over while it was empty.
    RoomOver { room: RoomId, reason: CloseReason },
    /// The session has ended.
    SessionEnded(SessionHash),
    /// The member's connections are to be probed here.
    Probe { room: RoomId, user_id: UserId },
    /// The probed member is alive.
    Alive { room: RoomId, user_id: UserId },
    /// The name (folded) is free, or its probe is over.
    NameFree { room: RoomId, folded: &'a str },
    /// The operator's announcement.
    Announcement(&'a str),
    /// Something that a newer version tells.
    Unknown,
}

impl<'a> StorePush<'a> {
    /// Reads a push: a letter and words, of which the last may contain spaces.
    pub fn decode(text: &'a [u8]) -> Result<StorePush<'a>, BadRecord> {
        let (letter, rest) = word(text);
        if let [b'N'] = letter {
            return Ok(StorePush::Announcement(utf8(rest)?));
        }
        if let [b'E'] = letter {
            return Ok(StorePush::SessionEnded(SessionHash::parse(rest)?));
        }
        let ([letter @ (b'M' | b'R' | b'T' | b'K' | b'D' | b'Q' | b'A' | b'F')], (id, rest)) =
            (letter, word(rest))
        else {
            return Ok(StorePush::Unknown);
        };
        let room = room(id)?;
        match letter {
            b'M' => {
                let (before, rest) = word(rest);
                let (at, record) = word(rest);
                let after = place(before)?;
                Ok(StorePush::Message(Appended {
                    after,
                    message: message(room, place(at)?, record)?,
                }))
            }
            b'R' => Ok(StorePush::Facts(facts(room, rest)?)),
            b'T' => {
                let (id, name) = word(rest);
                Ok(StorePush::Typing { room, user_id: user(id)?, user: utf8(name)?.into() })
            }
            b'K' => {
                let (id, why) = word(rest);
                let reason = match why {
                    b"left" => CloseReason::LeftRoom,
                    b"evicted" => CloseReason::Silent,
                    b"removed" => CloseReason::Removed,
                    b"ended" => CloseReason::InvalidSession,
                    _ => return Err(BadRecord),
                };
                Ok(StorePush::Kicked { room, user_id: user(id)?, reason })
            }
            b'D' => {
                let reason = match rest {
                    b"deleted" => CloseReason::RoomDeleted,
                    b"expired" => CloseReason::RoomExpired,
                    b"gone" => CloseReason::RoomNotFound,
                    _ => return Err(BadRecord),
                };
                Ok(StorePush::RoomOver { room, reason })
            }
            b'Q' => Ok(StorePush::Probe { room, user_id: user(rest)? }),
            b'A' => Ok(StorePush::Alive { room, user_id: user(rest)? }),
            _ => Ok(StorePush::NameFree { room, folded: utf8(rest)? }),
        }
    }
}

/// Up to the first space, and what follows it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b' ') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], BadRecord> {
    let (taken, behind) = rest.split_at_checked(count).ok_or(BadRecord)?;
    *rest = behind;
    Ok(taken)
}

/// The number with these hex digits, 16 at most.
fn hex(digits: &[u8]) -> Result<u64, BadRecord> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).ok_or(BadRecord);
    if digits.len() > 16 {
        return Err(BadRecord);
    }
    digits.iter().try_fold(0, |number, byte| Ok(number << 4 | u64::from(digit(byte)?)))
}

fn user(digits: &[u8]) -> Result<UserId, BadRecord> {
    if digits.len() == 16 { hex(digits).map(UserId::from_bits) } else { Err(BadRecord) }
}

fn room(digits: &[u8]) -> Result<RoomId, BadRecord> {
    RoomId::parse(utf8(digits)?).ok_or(BadRecord)
}

fn utf8(text: &[u8]) -> Result<&str, BadRecord> {
    std::str::from_utf8(text).map_err(|_| BadRecord)
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a vector takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: MessagePlace = MessagePlace { millis: 1_755_611_100_123, counter: 7 };

    fn room_id() -> RoomId {
        RoomId::parse("a1b2c3d4e5").unwrap()
    }

    fn body<'a>(kind: MessageKind<'a>, user: &'a str, nonce: Option<&'a str>) -> MessageBody<'a> {
        let user_id = UserId::from_bits(0x0123_4567_89ab_cdef);
        MessageBody { kind, tail: [0x80, 1, 2, 3, 4, 5, 6, 7], user_id, user: user.into(), nonce }
    }

    fn text(text: &[u8]) -> Reply {
        Reply::Text(text.to_vec())
    }

    /// The body is encoded so, and decoding gives the same body. What is cut off or damaged is an
    /// error, or another body, and never a panic.
    #[track_caller]
    fn check_body(body: MessageBody<'_>, expected: &str) {
        let mut out = Vec::new();
        body.encode(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
        assert_eq!(MessageBody::decode(&out), Ok(body));
        for end in 0..out.len() {
            let _ = MessageBody::decode(&out[..end]);
        }
        for place in 0..out.len() {
            for byte in [0, b'f', 0xFF] {
                let mut damaged = out.clone();
                damaged[place] = byte;
                let _ = MessageBody::decode(&damaged);
            }
        }
    }

    #[test]
    fn bodies_are_encoded_and_decoded() {
        let id = MessageId::at(PLACE, [0xFF; 8]);
        let head = "80010203040506070123456789abcdef";
        let chat = MessageKind::Chat("Grüße, 02an\n");
        check_body(body(chat, "ana", Some("n1")), &format!("C{head}03ana02n1Grüße, 02an\n"));
        check_body(body(MessageKind::Chat(""), "", None), &format!("C{head}0000"));
        check_body(body(MessageKind::UserJoined, "ana", None), &format!("J{head}03ana00"));
        check_body(body(MessageKind::UserLeft, "ü", None), &format!("L{head}02ü00"));
        check_body(body(MessageKind::UserRemoved, "bo", None), &format!("R{head}02bo00"));
        check_body(body(MessageKind::ChatDeleted, "bo", Some("x")), &format!("D{head}02bo01x"));
        let deleted = MessageKind::MessageDeleted(id);
        check_body(body(deleted, "bo", None), &format!("X{head}02bo00{id}"));
        let (name, nonce) = ("🦀".repeat(50), "n".repeat(64));
        let long = body(MessageKind::Chat("t"), &name, Some(&nonce));
        check_body(long, &format!("C{head}c8{name}40{nonce}t"));
    }

    #[test]
    fn a_body_that_lies_about_its_lengths_is_refused() {
        let head = "80010203040506070123456789abcdef";
        let bad = [
            String::new(),
            "C".to_owned(),
            format!("Z{head}02bo00"),
            format!("C{}02bo00t", &head[1..]),
            format!("C{head}ff"),
            format!("C{head}04bo00"),
            format!("C{head}02bo09nonce"),
            format!("C{head}-1bo00t"),
            format!("C{head}+1b00t"),
            format!("C{head}01ü00t"),
            format!("X{head}02bo00not an id"),
        ];
        for text in bad {
            assert_eq!(MessageBody::decode(text.as_bytes()), Err(BadRecord), "{text}");
        }
        assert_eq!(
            MessageBody::decode(b"C80010203040506070123456789abcdef0000\xFF"),
            Err(BadRecord)
        );
    }

    #[test]
    fn a_record_is_a_message_with_its_time() {
        let record = "1755611100123456C80010203040506070123456789abcdef03ana02n1Hello world!";
        let message = message(room_id(), PLACE, record.as_bytes()).unwrap();
        assert_eq!(message.id.place(), PLACE);
        assert_eq!(message.id.to_string(), "0198c293-73db-7007-8001-020304050607");
        assert_eq!(message.wall, Wall::from_micros(1_755_611_100_123_456));
        assert_eq!((message.user.as_str(), message.nonce), ("ana", Some("n1")));
        assert_eq!((message.kind, message.room_id), (MessageKind::Chat("Hello world!"), room_id()));
        let mut out = Vec::new();
        encode_message(&message, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), record);
        for bad in ["", "175561110012345", "17556111001234x6C", "1755611100123456"] {
            assert_eq!(super::message(room_id(), PLACE, bad.as_bytes()).err(), Some(BadRecord));
        }
    }

    #[test]
    fn places_are_those_of_streams() {
        for (text, millis, counter) in [
            ("0-0", 0, 0),
            ("1755611100123-7", 1_755_611_100_123, 7),
            ("281474976710655-4095", (1 << 48) - 1, 4095),
        ] {
            let expected = MessagePlace { millis, counter };
            assert_eq!(place(text.as_bytes()), Ok(expected), "{text}");
            assert_eq!(expected.to_string(), text);
        }
        let bad =
            ["", "-", "1", "1-", "-1", "1-4096", "1-70000", "281474976710656-0", "1-1-1", "1 -1"];
        for text in bad {
            assert_eq!(place(text.as_bytes()), Err(BadRecord), "{text}");
        }
    }

    #[track_caller]
    fn check_facts(text: &str, expected: Option<&str>) {
        let shown = facts(room_id(), text.as_bytes()).ok().map(|RoomFacts { room, owner }| {
            let flags = [room.is_private, room.has_password, room.is_locked, room.is_encrypted];
            let times = (room.created.micros(), room.expires.map(Wall::micros));
            let owner = owner.map(|id| id.to_string());
            format!(
                "{flags:?} {} {owner:?} {times:?} {} {:?}",
                room.slow_mode, room.user_count, room.title
            )
        });
        assert_eq!(shown.as_deref(), expected, "{text}");
    }

    #[test]
    fn facts_are_decoded() {
        check_facts("- 0 - 5 - 0 ", Some("[false, false, false, false] 0 None (5, None) 0 None"));
        check_facts(
            "plke 10 0123456789abcdef 1755611100123456 1755611100123457 12 A title, with spaces ",
            Some(
                "[true, true, true, true] 10 Some(\"0123456789abcdef\") \
                 (1755611100123456, Some(1755611100123457)) 12 Some(\"A title, with spaces \")",
            ),
        );
        for bad in [
            "",
            "- 0 - 5 - 0",
            "- 65536 - 5 - 0 ",
            "- 0 abc 5 - 0 ",
            "- 0 - - - 0 ",
            "- 0 - 5 - x ",
        ] {
            check_facts(bad, None);
        }
    }

    #[test]
    fn entries_snapshots_and_pages_are_decoded() {
        let record = b"1755611100123456L80010203040506070123456789abcdef03ana00";
        let entry_reply = Reply::List(vec![text(b"0-0"), text(b"1755611100123-7"), text(record)]);
        let appended = entry(room_id(), &entry_reply).unwrap();
        assert_eq!((appended.after, appended.message.id.place()), (MessagePlace::default(), PLACE));
        assert_eq!(entry(room_id(), &Reply::List(vec![])).err(), Some(BadRecord));

        let people = Reply::List(vec![text(b"0123456789abcdef"), text(b"ana")]);
        let list = Reply::List(vec![text(b"- 0 - 5 - 1 "), people]);
        let taken = snapshot(room_id(), &list).unwrap();
        assert_eq!((taken.people.len(), taken.people[0].1.as_str()), (1, "ana"));
        let odd =
            Reply::List(vec![text(b"- 0 - 5 - 1 "), Reply::List(vec![text(b"0123456789abcdef")])]);
        assert!(snapshot(room_id(), &odd).is_err());

        let page = [text(b"1755611100123-7"), text(record)];
        let mut page = messages(room_id(), &page);
        assert_eq!(page.next().unwrap().unwrap().id.place(), PLACE);
        assert!(page.next().is_none());
        assert!(rooms(&[text(b"a1b2c3d4e5"), text(b"- 0 - 5 - 0 x")]).all(|room| room.is_ok()));
    }

    #[track_caller]
    fn check_push(text: &str, expected: Option<&str>) {
        let shown = StorePush::decode(text.as_bytes()).ok().map(|push| match push {
            StorePush::Message(Appended { after, message }) => {
                format!("{after:?} {} {:?}", message.id, message.kind)
            }
            StorePush::Facts(facts) => format!("{} {:?}", facts.room.id, facts.room.title),
            StorePush::Typing { room, user_id, user } => format!("{room} {user_id} {user:?}"),
            StorePush::Kicked { room, user_id, reason } => format!("{room} {user_id} {reason:?}"),
            StorePush::RoomOver { room, reason } => format!("{room} {reason:?}"),
            StorePush::SessionEnded(session) => format!("ended {session}"),
            StorePush::Probe { room, user_id } => format!("probe {room} {user_id}"),
            StorePush::Alive { room, user_id } => format!("alive {room} {user_id}"),
            StorePush::NameFree { room, folded } => format!("free {room} {folded:?}"),
            StorePush::Announcement(text) => format!("announcement {text:?}"),
            StorePush::Unknown => "unknown".to_owned(),
        });
        assert_eq!(shown.as_deref(), expected, "{text}");
    }

    #[test]
    fn pushes_are_decoded() {
        let user = "0123456789abcdef";
        let at = |rest: &str| format!("a1b2c3d4e5 {rest}");
        check_push(
            &format!(
                "M a1b2c3d4e5 0-0 1755611100123-7 1755611100123456C8001020304050607{user}03ana00a b"
            ),
            Some(
                "MessagePlace { millis: 0, counter: 0 } 0198c293-73db-7007-8001-020304050607 Chat(\"a b\")",
            ),
        );
        check_push("R a1b2c3d4e5 - 0 - 5 - 0 A room", Some(&at("Some(\"A room\")")));
        check_push(&format!("T a1b2c3d4e5 {user} ana b"), Some(&at(&format!("{user} \"ana b\""))));
        for (why, reason) in [
            ("left", "LeftRoom"),
            ("evicted", "Silent"),
            ("removed", "Removed"),
            ("ended", "InvalidSession"),
        ] {
            check_push(
                &format!("K a1b2c3d4e5 {user} {why}"),
                Some(&at(&format!("{user} {reason}"))),
            );
        }
        for (why, reason) in
            [("deleted", "RoomDeleted"), ("expired", "RoomExpired"), ("gone", "RoomNotFound")]
        {
            check_push(&format!("D a1b2c3d4e5 {why}"), Some(&at(reason)));
        }
        let session = "00112233445566778899aabbccddeeff";
        check_push(&format!("E {session}"), Some(&format!("ended {session}")));
        check_push(&format!("Q a1b2c3d4e5 {user}"), Some(&format!("probe a1b2c3d4e5 {user}")));
        check_push(&format!("A a1b2c3d4e5 {user}"), Some(&format!("alive a1b2c3d4e5 {user}")));
        check_push("F a1b2c3d4e5 ana b", Some("free a1b2c3d4e5 \"ana b\""));
        check_push("N Back  soon ", Some("announcement \"Back  soon \""));
        for unknown in ["", "Z", "Z a1b2c3d4e5", "MM a1b2c3d4e5", " "] {
            check_push(unknown, Some("unknown"));
        }
        for bad in [
            "M",
            "M x",
            "M a1b2c3d4e5",
            "M a1b2c3d4e5 0-0 1-1 ",
            "R a1b2c3d4e5",
            "T a1b2c3d4e5 x ana",
            "K a1b2c3d4e5 0123456789abcdef",
            "K a1b2c3d4e5 0123456789abcdef x",
            "D a1b2c3d4e5",
            "E",
            "E 0011",
            "E 00112233445566778899aabbccddeeff0",
            "Q a1b2c3d4e5",
            "A a1b2c3d4e5 0",
            "F",
        ] {
            check_push(bad, None);
        }
    }
}
