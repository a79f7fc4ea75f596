//! The file in which sessions, rooms and histories survive a restart (`--state`).
//!
//! Owns the file: its format, its permissions, and when it exists. Must not know what the records
//! mean. The invariant: the file exists only between the end of one process and the start of the
//! next; it is complete, and only its owner can read it. A file of other origin is never overwritten.
//!
//! The format: a line with the version; the records, each preceded by its length; a line with a
//! checksum of everything before it. A number has 64 bits, little endian. A text begins with its
//! length. An optional value begins with a byte: 1 if the value follows, 0 if nothing does. An IP
//! address is 16 bytes; IPv4 is mapped into IPv6.
//!
//! Version 1, which is still read, does not have the addresses that created sessions and rooms.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rustix::fs::fstatvfs;
#[cfg(target_os = "linux")]
use rustix::fs::{FallocateFlags, fallocate, fstatfs};
#[cfg(target_os = "linux")]
use rustix::io::Errno;
use serde::Deserialize;
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

/// The two times that [`write`] asks for all records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pass {
    /// The records are counted, and must stay.
    Count,
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
/// calls its argument with each record. The records of both passes must have the same lengths.
///
/// The space for the whole file is reserved before the second pass begins. Of the file, only one
/// record and a few kilobytes are in memory at a time.
///
/// If this fails, a file at `path` stays as it was.
pub fn write(
    path: &Path,
    keep: impl FnMut(Pass, &mut dyn FnMut(Record<'_>) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<()> {
    let new = beside(path, ".new");
    let written = write_new(&new, keep).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new); // It may not exist.
    }
    written
}

fn write_new(
    path: &Path,
    mut keep: impl FnMut(Pass, &mut dyn FnMut(Record<'_>) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<()> {
    let file = create(path)?;
    let mut bytes = Vec::new();
    let mut size = (HEAD.len() + FOOT_BYTES) as u64;
    keep(Pass::Count, &mut |record| {
        encode(&record, &mut bytes);
        size += (size_of::<u64>() + bytes.len()) as u64;
        bytes.clear();
        Ok(())
    })?;
    reserve(&file, size)?;
    let mut out = Summing { to: BufWriter::new(file), sum: SipHasher24::new() };
    out.write_all(HEAD)?;
    keep(Pass::Write, &mut |record| {
        encode(&record, &mut bytes);
        out.write_all(&(bytes.len() as u64).to_le_bytes())?;
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
    if !is_in_memory(file)? {
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
fn is_in_memory(file: &File) -> io::Result<bool> {
    Ok(matches!(fstatfs(file)?.f_type as u32, 0x0102_1994 | 0x8584_58f6))
}

/// Passes a state file's records to `take`, then removes the file. False if there is no file.
///
/// If the file is refused, the caller must discard the records that `take` has received, and
/// [`set_aside`] the file. It has passed [`check_path`], so it is no named pipe, which would block.
pub fn read(
    path: &Path,
    take: impl FnMut(Record<'_>) -> Result<(), InvalidRecord>,
) -> Result<bool, SnapshotError> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => read_records(opened?, take)?,
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
    let (mut length, mut bytes) = ([0; 8], Vec::new());
    // The checksum is right, so the lengths need no check against a bound.
    while !records.fill_buf()?.is_empty() {
        records.read_exact(&mut length)?;
        (&mut records).take(u64::from_le_bytes(length)).read_to_end(&mut bytes)?;
        let record = decode(&bytes, version).ok_or(SnapshotError::Damaged)?;
        take(record).map_err(|InvalidRecord| SnapshotError::Damaged)?;
        bytes.fill(0);
        bytes.clear();
    }
    Ok(())
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
        Record::Chat { newest: (millis, counter), user_id_secret, rooms_opened, arrivals } => {
            out.bytes(b"C");
            out.number(*millis);
            out.number((*counter).into());
            out.bytes(user_id_secret);
            out.number(*rooms_opened);
            out.number(*arrivals);
        }
        Record::Session { id, name, remaining, creator } => {
            out.bytes(b"S");
            out.text(id);
            out.text(name);
            out.option(*remaining, Encoder::number);
            out.option(*creator, Encoder::ip);
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
            out.text(id);
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
            out.option(dropped.as_deref(), Encoder::text);
            out.option(*creator, Encoder::ip);
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
            out.text(id);
            out.bytes(match kind {
                RecordedKind::Chat => b"c",
                RecordedKind::UserJoined => b"j",
                RecordedKind::UserLeft => b"l",
            });
            out.text(user);
            out.number(*user_id);
            out.number(*wall);
            out.text(text);
            out.option(nonce.as_deref(), Encoder::text);
            out.option(*from, Encoder::ip);
        }
    }
}

/// `None` if the bytes are not one record as the version of [`encode`] writes it.
fn decode(bytes: &[u8], version: u8) -> Option<Record<'_>> {
    let mut from = Decoder(bytes);
    let creator =
        |from: &mut Decoder<'_>| if version < 2 { Some(None) } else { from.option(Decoder::ip) };
    let record = match from.array()? {
        [b'C'] => Record::Chat {
            newest: (from.number()?, from.small()?),
            user_id_secret: from.array()?,
            rooms_opened: from.number()?,
            arrivals: from.number()?,
        },
        [b'S'] => Record::Session {
            id: from.text()?,
            name: from.text()?,
            remaining: from.option(Decoder::number)?,
            creator: creator(&mut from)?,
        },
        [b'R'] => Record::Room {
            id: from.text()?,
            title: from.option(Decoder::text)?,
            created: from.number()?,
            lock: from
                .option(|from| Some(LockRecord { salt: from.array()?, hash: from.array()? }))?,
            owner: from.option(Decoder::small)?,
            number: from.number()?,
            is_new: from.array()? == [1],
            remaining: from.option(Decoder::number)?,
            dropped: from.option(Decoder::text)?,
            creator: creator(&mut from)?,
        },
        [b'M'] => Record::Member {
            session: from.small()?,
            room: from.small()?,
            arrival: from.option(Decoder::number)?,
        },
        [b'T'] if version < 2 => message_1(&mut from)?,
        [b'T'] => Record::Message {
            room: from.small()?,
            id: from.text()?,
            kind: match from.array()? {
                [b'c'] => RecordedKind::Chat,
                [b'j'] => RecordedKind::UserJoined,
                [b'l'] => RecordedKind::UserLeft,
                _ => return None,
            },
            user: from.text()?,
            user_id: from.number()?,
            wall: from.number()?,
            text: from.text()?,
            nonce: from.option(Decoder::text)?,
            from: from.option(Decoder::ip)?,
        },
        _ => return None,
    };
    from.0.is_empty().then_some(record)
}

/// A message of version 1: its event as clients received it, and the sender's user id beside its
/// nonce.
fn message_1<'a>(from: &mut Decoder<'a>) -> Option<Record<'a>> {
    #[derive(Deserialize)]
    struct Recorded {
        r#type: String,
        user: String,
        user_id: String,
        message: String,
        timestamp: String,
    }
    let (room, id) = (from.small()?, from.text()?);
    let event: Recorded = serde_json::from_str(&from.text()?).ok()?;
    let nonce = from.option(|from| Some((from.number()?, from.text()?)))?;
    let (kind, text) = match &event.r#type[..] {
        "chat" => (RecordedKind::Chat, event.message),
        "user_joined" => (RecordedKind::UserJoined, String::new()),
        "user_left" => (RecordedKind::UserLeft, String::new()),
        _ => return None,
    };
    Some(Record::Message {
        room,
        id,
        kind,
        user: event.user.into(),
        user_id: u64::from_str_radix(&event.user_id, 16).ok()?,
        wall: Wall::parse(&event.timestamp)?.micros(),
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

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    fn ip(&mut self, ip: IpAddr) {
        self.bytes(&match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        });
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bytes(&[u8::from(value.is_some())]);
        if let Some(value) = value {
            write(self, value);
        }
    }
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.number()?.try_into().ok()
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        let length = self.small()?;
        std::str::from_utf8(self.bytes(length)?).ok().map(Cow::Borrowed)
    }

    fn ip(&mut self) -> Option<IpAddr> {
        Some(Ipv6Addr::from(self.array::<16>()?).to_canonical())
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
    use super::*;

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
                id: "an id".into(),
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
            },
            Record::Session {
                id: "an id".into(),
                name: "\u{1f642}".into(),
                remaining: None,
                creator: Some("2001:db8::".parse().unwrap()),
            },
            Record::Session {
                id: "".into(),
                name: "".into(),
                remaining: Some(u64::MAX),
                creator: None,
            },
            room(None, None, None, None, None),
            room(Some("tea"), Some(lock), Some(u32::MAX), Some(0), Some("an id")),
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
        let written = write(&path, |pass, keep| {
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
        let size = HEAD.len() + FOOT_BYTES + 8 * records().len() + bytes.len();
        assert_eq!(fs::metadata(&path).unwrap().len(), size as u64);
        let mut count = 0;
        let read = read(&path, |_| {
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
            let written = write(&path, |pass, keep| {
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
            let read = decode(&bytes, 2).expect("an encoded record is decoded");
            let shown = |record: &Record<'_>| serde_json::to_string(record).unwrap();
            assert_eq!(shown(&read), shown(&record));
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut], 2).is_none(), "{} cut at {cut}", shown(&record));
            }
            bytes.push(0);
            assert!(decode(&bytes, 2).is_none());
        }
        assert!(decode(b"X", 2).is_none());
    }

    #[test]
    fn a_file_of_version_1_is_read_without_creators() {
        let directory = std::env::temp_dir();
        let path = directory.join(format!("disposable-chat-version-1-{}", std::process::id()));
        let mut file = HEAD_1.to_vec();
        for record in records() {
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            match record {
                // Version 1 ends these records one optional value earlier.
                Record::Session { creator, .. } | Record::Room { creator, .. } => {
                    bytes.truncate(bytes.len() - creator.map_or(1, |_| 17));
                }
                Record::Message { .. } => {
                    bytes = b"T".to_vec();
                    let mut out = Encoder(&mut bytes);
                    out.number(1);
                    out.text("an id");
                    out.text(
                        r#"{"id":"an id","type":"chat","user":"ana","user_id":"00000000000000ff",
                        "message":"a \"word\"","timestamp":"2025-08-19T13:45:00.123456Z",
                        "room_id":"0123456789","nonce":"n"}"#,
                    );
                    out.option(Some(()), |out, ()| {
                        out.number(255);
                        out.text("n");
                    });
                }
                _ => {}
            }
            file.extend((bytes.len() as u64).to_le_bytes());
            file.extend(bytes);
        }
        let mut sum = SipHasher24::new();
        sum.write(&file);
        file.extend(format!("{FOOT}{:016x}\n", sum.finish()).bytes());
        fs::write(&path, file).unwrap();
        let mut count = 0;
        let taken = read(&path, |record| {
            count += 1;
            match record {
                Record::Session { creator: None, .. } | Record::Room { creator: None, .. } => {}
                Record::Session { .. } | Record::Room { .. } => return Err(InvalidRecord),
                Record::Message { kind, user_id, wall, text, nonce, from, .. } => {
                    assert_eq!((kind, user_id, from), (RecordedKind::Chat, 255, None));
                    assert_eq!((wall, &*text), (1_755_611_100_123_456, "a \"word\""));
                    assert_eq!(nonce.as_deref(), Some("n"));
                }
                _ => {}
            }
            Ok(())
        });
        assert!(matches!(taken, Ok(true)) && !path.exists());
        assert_eq!(count, records().len());
    }
}
