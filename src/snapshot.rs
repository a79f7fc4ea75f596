//! The file in which sessions, rooms and histories survive a restart (`--state`).
//!
//! Owns the file: its format, its permissions, and when it exists. Must not know what the records
//! mean. The invariant: the file exists only between the end of one process and the start of the
//! next; it is complete, and only its owner can read it. A file of other origin is never overwritten.
//!
//! The format: a line with the version; the records, each preceded by its length; a line with a
//! checksum of everything before it. A number has as many bytes as it needs, a text begins with its
//! length, and an id is in binary form. So a message takes about as many bytes as in memory, which
//! matters in a file system that is memory. An optional value begins with a byte: 1 if the value
//! follows, 0 if nothing does.
//!
//! Version 1, which is still read, has numbers of 64 bits, ids as text, and messages as the JSON that
//! clients received. It does not have the addresses that created sessions and rooms.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::fstatvfs;
#[cfg(target_os = "linux")]
use rustix::fs::{FallocateFlags, fallocate, fstatfs};
#[cfg(target_os = "linux")]
use rustix::io::Errno;
use siphasher::sip::SipHasher24;

use crate::chat::{InvalidRecord, LockRecord, Record, RecordedKind};
use crate::clock::Wall;

/// The first line. A change of the records' format must change the number.
const HEAD: &[u8] = b"disposable-chat state 2\n";
/// The first line of the previous version.
const HEAD_1: &[u8; HEAD.len()] = b"disposable-chat state 1\n";
/// The beginning of the first line in all versions.
const ANY_HEAD: &[u8] = b"disposable-chat state ";
/// The beginning of the last line. Sixteen hex digits and a line feed follow.
const FOOT: &str = "sum ";
const FOOT_BYTES: usize = FOOT.len() + 16 + 1;

/// Why a state file was refused.
#[derive(Debug)]
pub enum SnapshotError {
    /// The file cannot be read.
    Io(io::Error),
    /// The file is not a state file.
    Foreign,
    /// The file has another version of the format.
    Version,
    /// The checksum is wrong, or a record is invalid.
    Damaged,
}

/// What [`write()`] asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pass {
    /// The records are counted, and must stay.
    Count,
    /// No records are needed now. The oldest messages are to be dropped, until what is left makes a
    /// file that is so many bytes shorter. (Fewer or more will do: the records are counted again.)
    Shrink(u64),
    /// The records are written. What they are made of may be freed, one after the other.
    Write,
}

/// Checks that a state file can be written at `path`, by making and removing `PATH.new`. This also
/// removes the `PATH.new` of a process that did not live to rename it.
///
/// A directory, or a named pipe, is no place for a state file: the former cannot be replaced by
/// one, and the latter should not.
pub fn check_path(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if !found.is_file() => return Err(io::Error::other("not a regular file")),
        Ok(_) => {}
    }
    let new = beside(path, ".new");
    create(&new)?;
    fs::remove_file(new)
}

/// Writes a state file and replaces any file at `path`. `keep` is called for each [`Pass`], and
/// calls its argument with each record. The records that are written must have the lengths of those
/// that were counted last.
///
/// `memory_left`: how much memory the process's control group may still take. If the file would
/// take more, because its file system is memory, the oldest messages are left out; otherwise the
/// kernel would kill the process. The space for the whole file is reserved before the last pass
/// begins. Of the file, only one record and a few kilobytes are in memory at a time.
///
/// If this fails, a file at `path` stays as it was.
pub fn write(
    path: &Path,
    memory_left: Option<u64>,
    keep: impl FnMut(Pass, &mut dyn FnMut(Record<'_>) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<()> {
    let new = beside(path, ".new");
    let written = write_new(&new, memory_left, keep).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new); // It may not exist.
    }
    written
}

fn write_new(
    path: &Path,
    memory_left: Option<u64>,
    mut keep: impl FnMut(Pass, &mut dyn FnMut(Record<'_>) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<()> {
    let file = create(path)?;
    let (mut length, mut bytes) = (Vec::new(), Vec::new());
    let most = memory_left.filter(|_| is_in_memory(&file)).unwrap_or(u64::MAX);
    let mut last = u64::MAX;
    let size = loop {
        let mut size = (HEAD.len() + FOOT_BYTES) as u64;
        keep(Pass::Count, &mut |record| {
            encode(&record, &mut bytes);
            Encoder(&mut length).number(bytes.len() as u64);
            size += (length.len() + bytes.len()) as u64;
            length.clear();
            bytes.clear();
            Ok(())
        })?;
        // It does not shrink if there are no messages; the rest is small.
        if size <= most || size == last {
            break size;
        }
        last = size;
        keep(Pass::Shrink(size - most), &mut |_| Ok(()))?;
    };
    reserve(&file, size)?;
    let mut out = Summing { to: BufWriter::new(file), sum: SipHasher24::new() };
    out.write_all(HEAD)?;
    keep(Pass::Write, &mut |record| {
        encode(&record, &mut bytes);
        length.clear();
        Encoder(&mut length).number(bytes.len() as u64);
        out.write_all(&length)?;
        out.write_all(&bytes)?;
        bytes.clear();
        Ok(())
    })?;
    let sum = out.sum.finish();
    writeln!(out.to, "{FOOT}{sum:016x}")?;
    out.to.flush()
}

/// Makes a file that only its owner can read, in place of any that is there.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    // `create_new`, because an existing file would keep its permissions, and a link would be
    // followed.
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes sure that the file system has `bytes` for the file. Reserves them, except in memory: there,
/// the pages would be taken at once, before any history is freed, and would count as the memory of
/// this process's control group.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if !is_in_memory(file) {
        let done = fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes);
        if !matches!(done, Err(Errno::OPNOTSUPP | Errno::NOSYS)) {
            return Ok(done?);
        }
    }
    let system = fstatvfs(file)?;
    // A file system without a size (ramfs, or tmpfs with `size=0`) has zero blocks.
    let is_full = system.f_blocks > 0 && system.f_bavail.saturating_mul(system.f_frsize) < bytes;
    if is_full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Whether the file is on tmpfs or ramfs (`include/uapi/linux/magic.h`).
#[cfg(target_os = "linux")]
fn is_in_memory(file: &File) -> bool {
    fstatfs(file).is_ok_and(|system| matches!(system.f_type as u32, 0x0102_1994 | 0x8584_58f6))
}

/// Other systems have no control groups.
#[cfg(not(target_os = "linux"))]
fn is_in_memory(_file: &File) -> bool {
    false
}

/// Reads the fields `names` of a JSON object that are strings; `None` if it is no object. Only files
/// of version 1 have JSON.
pub type ReadObject = for<'a> fn(&'a str, [&str; 5]) -> Option<[Cow<'a, str>; 5]>;

/// Passes a state file's records to `take`, then removes the file. False if there is no file.
///
/// If the file is refused, the caller must discard the records that `take` has received, and
/// [`set_aside`] the file. It has passed [`check_path`], so it is no named pipe, which would block.
pub fn read(
    path: &Path,
    read_object: ReadObject,
    take: impl FnMut(Record<'_>) -> Result<(), InvalidRecord>,
) -> Result<bool, SnapshotError> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => read_records(opened?, read_object, take)?,
    }
    fs::remove_file(path)?;
    Ok(true)
}

/// Renames a file that [`read`] has refused to `PATH.refused`.
pub fn set_aside(path: &Path) -> io::Result<()> {
    fs::rename(path, beside(path, ".refused"))
}

fn read_records(
    file: File,
    read_object: ReadObject,
    mut take: impl FnMut(Record<'_>) -> Result<(), InvalidRecord>,
) -> Result<(), SnapshotError> {
    let length = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let mut head = [0; HEAD.len()];
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(SnapshotError::Foreign);
        }
        read => read?,
    }
    let version = match &head[..] {
        HEAD => 2,
        head if head == HEAD_1 => 1,
        head if head.starts_with(ANY_HEAD) => return Err(SnapshotError::Version),
        _ => return Err(SnapshotError::Foreign),
    };
    let records = (HEAD.len() + FOOT_BYTES) as u64;
    let records = length.checked_sub(records).ok_or(SnapshotError::Damaged)?;
    check_sum(&mut file, &head, records)?;
    file.seek(io::SeekFrom::Start(HEAD.len() as u64))?;
    let mut records = file.take(records);
    let mut bytes = Vec::new();
    // The checksum is right, so the lengths need no check against a bound.
    while !records.fill_buf()?.is_empty() {
        let length = read_length(&mut records, version)?;
        (&mut records).take(length).read_to_end(&mut bytes)?;
        let record = decode(&bytes, version, read_object).ok_or(SnapshotError::Damaged)?;
        take(record).map_err(|InvalidRecord| SnapshotError::Damaged)?;
        bytes.fill(0);
        bytes.clear();
    }
    Ok(())
}

/// The length before a record.
fn read_length(records: &mut impl Read, version: u8) -> Result<u64, SnapshotError> {
    let mut bytes = [0; 10];
    for end in 1..=bytes.len() {
        records.read_exact(&mut bytes[end - 1..end])?;
        if let Some(length) = (Decoder { bytes: &bytes[..end], version }).number() {
            return Ok(length);
        }
    }
    Err(SnapshotError::Damaged)
}

/// Compares the last line with the checksum of the first line and of the `records` bytes after it.
fn check_sum(file: &mut BufReader<File>, head: &[u8], records: u64) -> Result<(), SnapshotError> {
    let mut sum = Summing { to: io::sink(), sum: SipHasher24::new() };
    sum.write_all(head)?;
    io::copy(&mut file.take(records), &mut sum)?;
    let mut foot = String::new();
    let read = file.take(FOOT_BYTES as u64 + 1).read_to_string(&mut foot);
    let expected = format!("{FOOT}{:016x}\n", sum.sum.finish());
    if read.is_ok() && foot == expected { Ok(()) } else { Err(SnapshotError::Damaged) }
}

fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut out = Encoder(out);
    match record {
        Record::Chat {
            newest: (millis, counter),
            user_id_secret,
            rooms_opened,
            arrivals,
            history_bytes,
        } => {
            out.bytes(b"C");
            out.number(*millis);
            out.number((*counter).into());
            out.bytes(user_id_secret);
            out.number(*rooms_opened);
            out.number(*arrivals);
            history_bytes.iter().for_each(|bytes| out.number(*bytes));
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
        }
        Record::Member { session, room, arrival } => {
            out.bytes(b"M");
            out.number((*session).into());
            out.number((*room).into());
            out.option(*arrival, Encoder::number);
        }
        Record::Message { room, id, kind, user, user_id, wall, text, nonce, from } => {
            out.bytes(b"T");
            out.number((*room).into());
            out.digits(id);
            out.bytes(match kind {
                RecordedKind::Chat => b"c",
                RecordedKind::UserJoined => b"j",
                RecordedKind::UserLeft => b"l",
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

/// `None` if the bytes are not one record as the version of [`encode`] writes it.
fn decode(bytes: &[u8], version: u8, read_object: ReadObject) -> Option<Record<'_>> {
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
        },
        [b'M'] => Record::Member {
            session: from.small()?,
            room: from.small()?,
            arrival: from.option(Decoder::number)?,
        },
        [b'T'] if version < 2 => message_1(&mut from, read_object)?,
        [b'T'] => Record::Message {
            room: from.small()?,
            id: from.id()?,
            kind: match from.array()? {
                [b'c'] => RecordedKind::Chat,
                [b'j'] => RecordedKind::UserJoined,
                [b'l'] => RecordedKind::UserLeft,
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

/// A message of version 1: its event as clients received it, and the sender's user id beside its
/// nonce.
fn message_1<'a>(from: &mut Decoder<'a>, read_object: ReadObject) -> Option<Record<'a>> {
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

struct Encoder<'a>(&'a mut Vec<u8>);

impl Encoder<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// In groups of seven bits, the lowest first; the highest bit of a byte says that more follow.
    fn number(&mut self, mut number: u64) {
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

struct Decoder<'a> {
    bytes: &'a [u8],
    version: u8,
}

impl<'a> Decoder<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
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

    fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.number()?.try_into().ok()
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        let length = self.small()?;
        std::str::from_utf8(self.bytes(length)?).ok().map(Cow::Borrowed)
    }

    /// The id of a session or a message, in hyphenated form.
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

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.array()? {
            [0] => Some(None),
            [1] => read(self).map(Some),
            _ => None,
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Writes to `to` and computes the checksum of the bytes. The checksum detects accidents, not
/// attacks: its key is not secret.
struct Summing<W> {
    to: W,
    sum: SipHasher24,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.sum.write(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> SnapshotError {
        SnapshotError::Io(error)
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io(error) => error.fmt(f),
            SnapshotError::Foreign => f.write_str("not a state file of this server"),
            SnapshotError::Version => f.write_str("written by another version"),
            SnapshotError::Damaged => f.write_str("damaged"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::texts;
    use crate::chat::{Chat, ChatConfig, GuessPaces, Pace, Restoring};
    use crate::clock::{Mono, Now, SeededEntropy};
    use crate::ledger::{Account, Ledger};

    const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn records() -> Vec<Record<'static>> {
        let room =
            |title: Option<&'static str>, lock, owner, remaining, dropped: Option<&'static str>| {
                Record::Room {
                    id: "0123456789".into(),
                    title: title.map(Cow::Borrowed),
                    created: 7,
                    lock,
                    owner,
                    number: u64::MAX,
                    is_new: title.is_some(),
                    remaining,
                    dropped: dropped.map(Cow::Borrowed),
                    creator: title.map(|_| IpAddr::from([192, 0, 2, 1])),
                }
            };
        let lock = LockRecord { salt: [1; 16], hash: [2; 20] };
        let message =
            |kind, text: &'static str, nonce: Option<&'static str>, from| Record::Message {
                room: 1,
                id: ID.into(),
                kind,
                user: "\u{1f642}".into(),
                user_id: 1 << 63,
                wall: 7,
                text: text.into(),
                nonce: nonce.map(Cow::Borrowed),
                from,
            };
        vec![
            Record::Chat {
                newest: (1 << 47, 0xFFF),
                user_id_secret: *b"0123456789abcdef",
                rooms_opened: 3,
                arrivals: 0,
                history_bytes: [1 << 30, 1 << 40, 0],
            },
            Record::Session {
                id: ID.into(),
                name: "\u{1f642}".into(),
                remaining: None,
                creator: Some("2001:db8::".parse().unwrap()),
            },
            Record::Session {
                id: ID.into(),
                name: "".into(),
                remaining: Some(u64::MAX),
                creator: None,
            },
            room(None, None, None, None, None),
            room(Some("tea"), Some(lock), Some(u32::MAX), Some(0), Some(ID)),
            Record::Member { session: 1, room: 2, arrival: None },
            Record::Member { session: u32::MAX, room: 0, arrival: Some(9) },
            message(RecordedKind::UserLeft, "", None, None),
            message(RecordedKind::UserJoined, "", None, Some("2001:db8::".parse().unwrap())),
            message(RecordedKind::Chat, "\n", Some("n"), Some([192, 0, 2, 1].into())),
        ]
    }

    /// A directory of one test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = format!("chat-snapshot-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(folder);
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir(&folder).unwrap();
            Folder(folder)
        }

        fn files(&self) -> Vec<OsString> {
            let mut files: Vec<_> =
                fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            files.sort();
            files
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_counted_size_is_the_size_of_the_file() {
        let folder = Folder::new("size");
        let path = folder.0.join("state");
        let mut passes = Vec::new();
        let written = write(&path, None, |pass, keep| {
            passes.push((pass, fs::metadata(folder.0.join("state.new")).unwrap().len()));
            records().into_iter().try_for_each(keep)
        });
        assert!(written.is_ok());
        assert_eq!(
            passes,
            [(Pass::Count, 0), (Pass::Write, 0)],
            "space is reserved beyond the end"
        );
        let mut bytes = Vec::new();
        records().iter().for_each(|record| encode(record, &mut bytes));
        let size = HEAD.len() + FOOT_BYTES + records().len() + bytes.len();
        assert_eq!(fs::metadata(&path).unwrap().len(), size as u64, "all records are short");
        let mut count = 0;
        let read = read(&path, texts, |_| {
            count += 1;
            Ok(())
        });
        assert!(read.is_ok_and(|is_there| is_there));
        assert_eq!((count, folder.files().len()), (records().len(), 0));
    }

    /// Where there is a file system in memory, on that too.
    #[test]
    fn no_file_has_room_for_a_pebibyte() {
        let folder = Folder::new("reserve");
        for path in [folder.0.join("file"), "/dev/shm".into()] {
            let path = if path.is_dir() {
                path.join(format!("chat-{}", std::process::id()))
            } else {
                path
            };
            let Ok(file) = create(&path) else { continue };
            assert!(reserve(&file, 1 << 50).is_err(), "{path:?}");
            assert!(reserve(&file, 10_000).is_ok(), "{path:?}");
            assert_eq!(file.metadata().unwrap().len(), 0);
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_failure_leaves_the_file_of_before_and_no_new_one() {
        let folder = Folder::new("failure");
        let path = folder.0.join("state");
        fs::write(&path, "before").unwrap();
        for failing in [Pass::Count, Pass::Write] {
            let written = write(&path, None, |pass, keep| {
                records().into_iter().try_for_each(keep)?;
                if pass == failing { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
            });
            assert_eq!(written.unwrap_err().kind(), ErrorKind::StorageFull);
            assert_eq!(folder.files(), ["state"], "{failing:?}");
            assert_eq!(fs::read(&path).unwrap(), b"before");
        }
    }

    #[test]
    fn a_path_is_checked_by_making_and_removing_the_new_file() {
        let folder = Folder::new("path");
        let path = folder.0.join("state");
        fs::write(folder.0.join("state.new"), "stale").unwrap();
        assert!(check_path(&path).is_ok());
        assert!(folder.files().is_empty(), "a stale file is removed");
        fs::write(&path, "before").unwrap();
        assert!(check_path(&path).is_ok());
        assert_eq!(folder.files(), ["state"]);
        assert!(check_path(&folder.0.join("nowhere/state")).is_err());
        assert!(check_path(&path.join("below a file")).is_err());
        assert!(check_path(&folder.0).is_err(), "a directory");
        fs::create_dir(folder.0.join("state.new")).unwrap();
        assert!(check_path(&path).is_err());
        assert_eq!(folder.files(), ["state", "state.new"]);
    }

    #[test]
    fn only_complete_encoded_records_are_decoded() {
        for record in records() {
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            let read = decode(&bytes, 2, texts).expect("an encoded record is decoded");
            let shown = |record: &Record<'_>| serde_json::to_string(record).unwrap();
            assert_eq!(shown(&read), shown(&record));
            for cut in 0..bytes.len() {
                assert!(
                    decode(&bytes[..cut], 2, texts).is_none(),
                    "{} cut at {cut}",
                    shown(&record)
                );
            }
            bytes.push(0);
            assert!(decode(&bytes, 2, texts).is_none());
        }
        assert!(decode(b"X", 2, texts).is_none());
    }

    /// A domain with 20 rooms of 400 short messages, each from an address of its own. The rooms' blocks are
    /// scattered.
    fn chat_with_histories(ledger: &Ledger) -> Chat {
        let (second, unlimited) = (Duration::from_secs(1), Pace::UNLIMITED);
        let config = ChatConfig {
            session_ttl: second,
            room_ttl: second,
            new_room_ttl: second,
            leave_grace: second,
            probe_timeout: second,
            history_messages_max: 1000,
            message_pace: unlimited,
            join_pace: unlimited,
            session_pace: unlimited,
            room_pace: unlimited,
            guess_paces: GuessPaces { address: unlimited, room: unlimited },
            address_connections_max: None,
            address_sessions_max: None,
            sessions_max: 100,
            rooms_max: 100,
        };
        let mut chat = Chat::new(config, Box::new(SeededEntropy::new(1)), ledger);
        let mut restoring =
            Restoring::new(&mut chat, Now { mono: Mono::ZERO, wall: Wall::default() });
        let mut take = |record| restoring.take(record, |_| 100).unwrap();
        take(Record::Chat {
            newest: (1 << 47, 0),
            user_id_secret: [0; 16],
            rooms_opened: 20,
            arrivals: 0,
            history_bytes: [0; 3],
        });
        for number in 0..20 {
            take(Record::Room {
                id: format!("{number:010x}").into(),
                title: None,
                created: 0,
                lock: None,
                owner: None,
                number,
                is_new: true,
                remaining: None,
                dropped: None,
                creator: None,
            });
        }
        for n in 0..8000u32 {
            take(Record::Message {
                room: n % 20,
                id: format!("00000000-{:04x}-7000-8000-000000000000", n).into(),
                kind: RecordedKind::Chat,
                user: "ana".into(),
                user_id: 7,
                wall: 1_755_611_100_123_456,
                text: "a short message".into(),
                nonce: None,
                from: Some([203, 0, 113, (n % 20) as u8].into()),
            });
        }
        restoring.finish();
        chat
    }

    #[test]
    fn writing_needs_no_more_memory_than_it_frees_even_if_the_file_is_memory() {
        let folder = Folder::new("memory");
        let (path, new) = (folder.0.join("state"), folder.0.join("state.new"));
        let ledger = Ledger::new();
        let mut chat = chat_with_histories(&ledger);
        let now = Now { mono: Mono::ZERO, wall: Wall::default() };
        let (before, mut messages) = (ledger.total(), 0);
        let written = write(&path, None, |pass, keep| match pass {
            Pass::Count => chat.keep(now, keep),
            Pass::Shrink(_) => unreachable!("there is no limit"),
            Pass::Write => chat.give_up(now, |record| {
                messages += usize::from(matches!(record, Record::Message { .. }));
                keep(record)?;
                let file = fs::metadata(&new)?.len() as usize;
                assert!(ledger.total() + file < before + 16_384, "after {messages} messages");
                Ok(())
            }),
        });
        assert!(written.is_ok());
        assert_eq!((messages, ledger.bytes(Account::Histories)), (8000, 0));
        assert!(!chat.is_sparse());
        chat.check_invariants();
        assert!(fs::metadata(&path).unwrap().len() > 400_000);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_in_memory_leaves_out_the_oldest_messages_rather_than_exceed_the_limit() {
        let path = Path::new("/dev/shm").join(format!("chat-limit-{}", std::process::id()));
        if !path.parent().is_some_and(Path::is_dir) {
            return println!("skipped: no /dev/shm");
        }
        let ledger = Ledger::new();
        let mut chat = chat_with_histories(&ledger);
        let now = Now { mono: Mono::ZERO, wall: Wall::default() };
        let mut shrunk = false;
        let written = write(&path, Some(200_000), |pass, keep| match pass {
            Pass::Count => chat.keep(now, keep),
            Pass::Shrink(bytes) => {
                shrunk = true;
                chat.drop_oldest(bytes);
                chat.check_invariants();
                Ok(())
            }
            Pass::Write => chat.give_up(now, keep),
        });
        assert!(written.is_ok() && shrunk);
        let size = fs::metadata(&path).unwrap().len();
        assert!((150_000..=200_000).contains(&size), "{size}");
        // The rooms that have been silent longest have lost their messages, and know it.
        let (mut rooms, mut dropped) = (Vec::new(), 0);
        let is_read = read(&path, texts, |record| {
            match record {
                Record::Room { dropped: Some(_), .. } => dropped += 1,
                Record::Message { room, .. } => rooms.push(room),
                _ => {}
            }
            Ok(())
        });
        assert!(is_read.is_ok_and(|is_there| is_there));
        rooms.dedup();
        assert!(rooms.len() < 12 && rooms.len() + dropped >= 20, "{rooms:?}, {dropped} dropped");
        assert_eq!(rooms.last(), Some(&19), "the newest are kept");
    }

    #[test]
    fn memory_that_written_messages_leave_is_given_back_at_once() {
        let ledger = Ledger::new();
        let mut chat = chat_with_histories(&ledger);
        let (all, mut messages) = (ledger.bytes(Account::Histories), 0);
        let now = Now { mono: Mono::ZERO, wall: Wall::default() };
        let failed = chat.give_up(now, |record| {
            messages += usize::from(matches!(record, Record::Message { .. }));
            if messages < 6000 { Ok(()) } else { Err(()) }
        });
        assert_eq!(failed, Err(()));
        let left = ledger.bytes(Account::Histories);
        assert!(left < all / 3, "{left} of {all}");
        assert!(!chat.is_sparse(), "their blocks are scattered");
        chat.check_invariants();
    }

    /// `tests/wire/restarts.rs` starts a server with the same file.
    #[test]
    fn a_file_of_version_1_is_read() {
        let folder = Folder::new("version-1");
        let path = folder.0.join("state");
        fs::write(&path, include_bytes!("../tests/wire/state-version-1")).unwrap();
        let mut shown = Vec::new();
        let taken = read(&path, texts, |record| {
            shown.push(serde_json::to_string(&record).unwrap());
            Ok(())
        });
        assert!(matches!(taken, Ok(true)) && !path.exists());
        assert_eq!(shown.len(), 15);
        assert!(shown[0].contains("\"history_bytes\":[0,0,0]"), "{}", shown[0]);
        let session = r#"{"Session":{"id":"a2e06815-acfa-4d9a-b2ad-d18362c9e397","name":"Ana","remaining":null,"creator":null}}"#;
        assert_eq!(shown[2], session);
        let message = r#"{"Message":{"room":0,"id":"01a22632-0e98-7000-b840-2f9eab55bb94","kind":"Chat","user":"Ana","user_id":3962523220279139535,"wall":1795937144472846,"text":"message 0 \"quoted\" 🙂","nonce":"n0","from":null}}"#;
        assert_eq!(shown[8], message);
    }

    #[test]
    fn a_number_has_as_many_bytes_as_it_needs() {
        for (number, length) in [(0, 1), (127, 1), (128, 2), (1 << 14, 3), (u64::MAX, 10)] {
            let mut bytes = Vec::new();
            Encoder(&mut bytes).number(number);
            assert_eq!(bytes.len(), length);
            assert_eq!(Decoder { bytes: &bytes, version: 2 }.number(), Some(number));
        }
        let endless = [0xFF; 11];
        assert_eq!(Decoder { bytes: &endless, version: 2 }.number(), None);
    }
}
