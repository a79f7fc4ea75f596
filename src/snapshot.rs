//! The file in which sessions, rooms and what was said there outlive a restart (`--state`).
//!
//! Owns the file: its form, its rights, and when it is there. Must never know what the records in it
//! mean. The invariant: it is there, whole and for nobody else to read, from the end of one process to
//! the beginning of the next, and at no other time.
//!
//! A line that says what it is; a record a line, in JSON; and at the end a sum over all of that, so that
//! nothing is taken of a file that is not as it was written.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher24;

use crate::chat::{Record, Unfit};

/// The first line. The number changes whenever a record's form does.
const HEAD: &[u8] = b"disposable-chat state 1\n";
/// What all versions' first lines begin with.
const ANY_HEAD: &[u8] = b"disposable-chat state ";
/// The last line: this word, sixteen hex digits, and its end.
const FOOT: &str = "sum ";
const FOOT_BYTES: usize = FOOT.len() + 16 + 1;

/// Why nothing was taken of a file.
#[derive(Debug)]
pub enum Refused {
    /// It can't be read.
    Io(io::Error),
    /// Something else lies there, which is left alone.
    Foreign,
    /// Another version has written it.
    Version,
    /// It is not as it was written, or makes no sense.
    Damaged,
}

/// Writes a file that is there as a whole or not at all. `keep` passes on all records.
///
/// What lies at `path` is replaced. Whatever fails, nothing is left half written.
pub fn write(
    path: &Path,
    keep: impl FnOnce(&mut dyn FnMut(Record<'_>) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<()> {
    let new = beside(path, ".new");
    let written = write_new(&new, keep).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new); // It may not be there.
    }
    written
}

fn write_new(
    path: &Path,
    keep: impl FnOnce(&mut dyn FnMut(Record<'_>) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    // New, so that it has our rights and is nobody's link to elsewhere.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = Summing { to: BufWriter::new(options.open(path)?), sum: SipHasher24::new() };
    out.write_all(HEAD)?;
    keep(&mut |record| {
        serde_json::to_writer(&mut out, &record)?;
        out.write_all(b"\n")
    })?;
    let sum = out.sum.finish();
    writeln!(out.to, "{FOOT}{sum:016x}")?;
    out.to.flush()
}

/// Reads a file and removes it, and passes on its records. False if there is none.
///
/// If it is refused, whatever was passed on is of no use, and the file is kept beside its place, as
/// `PATH.refused`; unless it is foreign.
pub fn read(
    path: &Path,
    take: impl FnMut(Record<'_>) -> Result<(), Unfit>,
) -> Result<bool, Refused> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(Refused::Io)?,
    };
    match read_records(file, take) {
        Ok(()) => fs::remove_file(path).map_err(Refused::Io)?,
        Err(Refused::Foreign) => return Err(Refused::Foreign),
        Err(refused) => {
            let _ = fs::rename(path, beside(path, ".refused"));
            return Err(refused);
        }
    }
    Ok(true)
}

fn read_records(
    file: File,
    mut take: impl FnMut(Record<'_>) -> Result<(), Unfit>,
) -> Result<(), Refused> {
    let length = file.metadata().map_err(Refused::Io)?.len();
    let mut file = BufReader::new(file);
    let mut head = [0; HEAD.len()];
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(Refused::Foreign),
        read => read.map_err(Refused::Io)?,
    }
    if head != HEAD {
        let is_ours = head.starts_with(ANY_HEAD);
        return Err(if is_ours { Refused::Version } else { Refused::Foreign });
    }
    let records = (HEAD.len() + FOOT_BYTES) as u64;
    let records = length.checked_sub(records).ok_or(Refused::Damaged)?;
    check_sum(&mut file, records)?;
    file.seek(io::SeekFrom::Start(HEAD.len() as u64)).map_err(Refused::Io)?;
    let mut lines = file.take(records);
    let mut line = Vec::new();
    // However long a line is, it is what we have written.
    while lines.read_until(b'\n', &mut line).map_err(Refused::Io)? > 0 {
        let record = serde_json::from_slice(&line).map_err(|_| Refused::Damaged)?;
        take(record).map_err(|Unfit| Refused::Damaged)?;
        line.fill(0);
        line.clear();
    }
    Ok(())
}

/// The sum over the head and so many bytes that follow must be what the last line says.
fn check_sum(file: &mut BufReader<File>, records: u64) -> Result<(), Refused> {
    let mut sum = Summing { to: io::sink(), sum: SipHasher24::new() };
    sum.write_all(HEAD).map_err(Refused::Io)?;
    io::copy(&mut file.take(records), &mut sum).map_err(Refused::Io)?;
    let mut foot = String::new();
    let read = file.take(FOOT_BYTES as u64 + 1).read_to_string(&mut foot);
    let expected = format!("{FOOT}{:016x}\n", sum.sum.finish());
    if read.is_ok() && foot == expected { Ok(()) } else { Err(Refused::Damaged) }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Sums up what it passes on. The key is no secret: this is against accidents.
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

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Io(error) => error.fmt(f),
            Refused::Foreign => f.write_str("it is no state of this server"),
            Refused::Version => f.write_str("another version has written it"),
            Refused::Damaged => f.write_str("it is damaged"),
        }
    }
}
