//! The records as bytes.
//!
//! Owns the form of each record, apart from messages of version 1. Must not know the file. The
//! invariant: what is encoded is decoded to the same record, and nothing else is. A change of the form
//! needs another version in the file's first line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::chat::{LockRecord, Record, RecordedKind, RulesRecord};

pub(super) fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut out = Encoder(out);
    match record {
        Record::Chat {
            newest: (millis, counter),
            user_id_secret,
            rooms_opened,
            arrivals,
            history_bytes,
            wall,
        } => {
            out.bytes(b"C");
            out.number(*millis);
            out.number((*counter).into());
            out.bytes(user_id_secret);
            out.number(*rooms_opened);
            out.number(*arrivals);
            history_bytes.iter().for_each(|bytes| out.number(*bytes));
            out.number(*wall);
        }
        Record::Session { id, name, remaining, creator } => {
            out.bytes(b"S");
            out.digits(id);
            out.text(name);
            out.option(*remaining, Encoder::number);
            out.ip(*creator);
        }
        Record::Room {
            id,
            title,
            created,
            lock,
            owner,
            number,
            is_new,
            remaining,
            dropped,
            creator,
            rules,
        } => {
            out.bytes(b"R");
            out.number(id.len() as u64 / 2);
            out.digits(id);
            out.option(title.as_deref(), Encoder::text);
            out.number(*created);
            out.option(lock.as_ref(), |out, lock| {
                out.bytes(&lock.salt);
                out.bytes(&lock.hash);
            });
            out.option(owner.map(u64::from), Encoder::number);
            out.number(*number);
            out.bytes(&[u8::from(*is_new)]);
            out.option(*remaining, Encoder::number);
            out.option(dropped.as_deref(), Encoder::digits);
            out.ip(*creator);
            out.bytes(&[u8::from(rules.is_locked)
                | u8::from(rules.is_unlisted) << 1
                | u8::from(rules.is_encrypted) << 2]);
            out.number(rules.slow_mode.into());
            out.option(rules.expiry, |out, (wall, remaining)| {
                out.number(wall);
                out.number(remaining);
            });
        }
        Record::Ban { room, user_id, user, until, address } => {
            out.bytes(b"B");
            out.number((*room).into());
            out.bytes(&user_id.to_le_bytes());
            out.text(user);
            out.number(until.0);
            out.number(until.1);
            out.option(*address, |out, address| out.bytes(&address));
        }
        Record::Member { session, room, arrival, address } => {
            out.bytes(b"M");
            out.number((*session).into());
            out.number((*room).into());
            out.option(*arrival, Encoder::number);
            out.option(*address, |out, address| out.bytes(&address));
        }
        Record::Message { room, id, kind, user, user_id, wall, text, nonce, from } => {
            out.bytes(b"T");
            out.number((*room).into());
            out.digits(id);
            out.bytes(match kind {
                RecordedKind::Chat => b"c",
                RecordedKind::UserJoined => b"j",
                RecordedKind::UserLeft => b"l",
                RecordedKind::UserRemoved => b"r",
                RecordedKind::ChatDeleted => b"d",
                RecordedKind::MessageDeleted => b"x",
            });
            out.text(user);
            out.bytes(&user_id.to_le_bytes());
            out.number(*wall);
            out.text(text);
            out.option(nonce.as_deref(), Encoder::text);
            out.ip(*from);
        }
    }
}

/// `None` if the bytes are not one record as [`encode`] writes it, or as version 1 was, in which
/// `message_1` reads a message.
///
/// Not inlined, and neither are its parts: in one function with what restores the domain they take
/// 2 KB more.
#[inline(never)]
pub(super) fn decode<'a>(
    bytes: &'a [u8],
    version: u8,
    message_1: impl FnOnce(&mut Decoder<'a>) -> Option<Record<'a>>,
) -> Option<Record<'a>> {
    let mut from = Decoder { bytes, version };
    let record = match from.array()? {
        [b'C'] => Record::Chat {
            newest: (from.number()?, from.small()?),
            user_id_secret: from.array()?,
            rooms_opened: from.number()?,
            arrivals: from.number()?,
            history_bytes: if version < 2 {
                [0; 3]
            } else {
                [from.number()?, from.number()?, from.number()?]
            },
            wall: if version < 2 { 0 } else { from.number()? },
        },
        [b'S'] => Record::Session {
            id: from.id()?,
            name: from.text()?,
            remaining: from.option(Decoder::number)?,
            creator: from.ip()?,
        },
        [b'R'] => Record::Room {
            id: from.room_id()?,
            title: from.option(Decoder::text)?,
            created: from.number()?,
            lock: from
                .option(|from| Some(LockRecord { salt: from.array()?, hash: from.array()? }))?,
            owner: from.option(Decoder::small)?,
            number: from.number()?,
            is_new: from.array()? == [1],
            remaining: from.option(Decoder::number)?,
            dropped: from.option(Decoder::id)?,
            creator: from.ip()?,
            rules: if version < 2 { RulesRecord::default() } else { from.rules()? },
        },
        [b'M'] => Record::Member {
            session: from.small()?,
            room: from.small()?,
            arrival: from.option(Decoder::number)?,
            address: if version < 2 { None } else { from.option(Decoder::array)? },
        },
        [b'B'] => Record::Ban {
            room: from.small()?,
            user_id: u64::from_le_bytes(from.array()?),
            user: from.text()?,
            until: (from.number()?, from.number()?),
            address: from.option(Decoder::array)?,
        },
        [b'T'] if version < 2 => message_1(&mut from)?,
        [b'T'] => Record::Message {
            room: from.small()?,
            id: from.id()?,
            kind: match from.array()? {
                [b'c'] => RecordedKind::Chat,
                [b'j'] => RecordedKind::UserJoined,
                [b'l'] => RecordedKind::UserLeft,
                [b'r'] => RecordedKind::UserRemoved,
                [b'd'] => RecordedKind::ChatDeleted,
                [b'x'] => RecordedKind::MessageDeleted,
                _ => return None,
            },
            user: from.text()?,
            user_id: u64::from_le_bytes(from.array()?),
            wall: from.number()?,
            text: from.text()?,
            nonce: from.option(Decoder::text)?,
            from: from.ip()?,
        },
        _ => return None,
    };
    from.bytes.is_empty().then_some(record)
}

pub(super) struct Encoder<'a>(pub &'a mut Vec<u8>);

impl Encoder<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// In groups of seven bits, the lowest first; the highest bit of a byte says that more follow.
    pub fn number(&mut self, mut number: u64) {
        while number > 0x7F {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    /// An id in hexadecimal digits, with or without hyphens.
    fn digits(&mut self, text: &str) {
        let mut digits = text.chars().filter_map(|c| c.to_digit(16));
        while let (Some(high), Some(low)) = (digits.next(), digits.next()) {
            self.0.push((high << 4 | low) as u8);
        }
    }

    /// The number of bytes first. Of an IPv6 address, limits apply to the first eight.
    fn ip(&mut self, ip: Option<IpAddr>) {
        let (v4, v6) = match ip {
            None => return self.0.push(0),
            Some(IpAddr::V4(ip)) => (ip.octets(), [0; 16]),
            Some(IpAddr::V6(ip)) => ([0; 4], ip.octets()),
        };
        let bytes = match ip {
            Some(IpAddr::V4(_)) => &v4[..],
            _ if v6[8..] == [0; 8] => &v6[..8],
            _ => &v6,
        };
        self.0.push(bytes.len() as u8);
        self.bytes(bytes);
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bytes(&[u8::from(value.is_some())]);
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Reads from the front of the bytes.
pub(super) struct Decoder<'a> {
    pub bytes: &'a [u8],
    pub version: u8,
}

impl<'a> Decoder<'a> {
    #[inline(never)]
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    #[inline(never)]
    pub fn number(&mut self) -> Option<u64> {
        if self.version < 2 {
            return self.array().map(u64::from_le_bytes);
        }
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.number()?.try_into().ok()
    }

    #[inline(never)]
    pub fn text(&mut self) -> Option<Cow<'a, str>> {
        let length = self.small()?;
        std::str::from_utf8(self.bytes(length)?).ok().map(Cow::Borrowed)
    }

    /// The id of a session or a message, in hyphenated form.
    #[inline(never)]
    fn id(&mut self) -> Option<Cow<'a, str>> {
        if self.version < 2 {
            return self.text();
        }
        let mut text = String::with_capacity(36);
        for (place, byte) in self.array::<16>()?.into_iter().enumerate() {
            let hyphen = if [4, 6, 8, 10].contains(&place) { "-" } else { "" };
            let _ = write!(text, "{hyphen}{byte:02x}");
        }
        Some(text.into())
    }

    #[inline(never)]
    fn room_id(&mut self) -> Option<Cow<'a, str>> {
        if self.version < 2 {
            return self.text();
        }
        let length = self.small()?;
        let mut text = String::new();
        for byte in self.bytes(length)? {
            let _ = write!(text, "{byte:02x}");
        }
        Some(text.into())
    }

    fn rules(&mut self) -> Option<RulesRecord> {
        let [flags] = self.array()?;
        Some(RulesRecord {
            is_locked: flags & 1 > 0,
            is_unlisted: flags & 2 > 0,
            is_encrypted: flags & 4 > 0,
            slow_mode: self.small()?,
            expiry: self.option(|from| Some((from.number()?, from.number()?)))?,
        })
        .filter(|_| flags < 8)
    }

    #[inline(never)]
    fn ip(&mut self) -> Option<Option<IpAddr>> {
        if self.version < 2 {
            return Some(None);
        }
        let [length] = self.array()?;
        let mut v6 = [0; 16];
        match length {
            0 => return Some(None),
            4 => return Some(Some(IpAddr::from(self.array::<4>()?))),
            8 | 16 => v6[..length.into()].copy_from_slice(self.bytes(length.into())?),
            _ => return None,
        }
        Some(Some(v6.into()))
    }

    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.array()? {
            [0] => Some(None),
            [1] => read(self).map(Some),
            _ => None,
        }
    }
}
