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
//! Version 1, which is still read, has numbers of 64 bits, ids as text, and messages as JSON. It does not
//! have the addresses that created sessions and rooms.
//!
//! | file | what it owns |
//! |---|---|
//! | [`format`] | the records as bytes |
//! | [`first`] | messages of version 1 |
//!
//! [`format`]: ../../src/disposable_chat/snapshot/format.rs.html
//! [`first`]: ../../src/disposable_chat/snapshot/first.rs.html

mod first;
mod format;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::fstatvfs;
#[cfg(target_os = "linux")]
use rustix::fs::{FallocateFlags, fallocate, fstatfs};
#[cfg(target_os = "linux")]
use rustix::io::Errno;
use siphasher::sip::SipHasher24;

pub use first::ReadObject;

use crate::chat::{InvalidRecord, Record};
use format::{Decoder, Encoder, decode, encode};

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
        let record = decode(&bytes, version, |from| first::message(from, read_object));
        let record = record.ok_or(SnapshotError::Damaged)?;
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
mod tests;
