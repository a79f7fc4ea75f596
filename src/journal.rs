//! The log: one line on stderr per record, as journald likes it.
//!
//! Owns the form of a line. Must never let through a record of anybody but this crate:
//! tungstenite logs the texts of messages, mio what it polls. The invariant: a record is exactly
//! one line, written by one call, and only where stderr has room for it: a pipe that nobody reads
//! must not hold the loop. Lines that find no room are counted, and the next that does says so.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Makes this the process's logger, for records up to `level`. To be called once, by `main`.
pub fn install(level: LevelFilter) {
    let style = if stderr_is_journal() { Style::Journald } else { Style::Plain };
    let journal = Journal { style, dropped: AtomicU64::new(0) };
    log::set_boxed_logger(Box::new(journal)).expect("nobody else sets a logger");
    log::set_max_level(level);
}

/// Writes one line to stderr, whatever the level, and waits until it has left: for before the loop
/// begins and after it has ended. Unlike `eprintln!`, a stderr that is gone is nothing to panic
/// about.
pub fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Has panics logged as errors, with their place and nothing else: their text may quote what
/// somebody sent. To be called once, by `main`.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| match panic.location() {
        Some(place) => log::error!("a bug: panic at {}:{}", place.file(), place.line()),
        None => log::error!("a bug: panic"),
    }));
}

struct Journal {
    style: Style,
    /// Lines that stderr had no room for since the last that it took.
    dropped: AtomicU64,
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = line(self.style, record.level(), &record.args().to_string());
            let dropped = self.dropped.load(Relaxed);
            let is_taken = match dropped {
                0 => offer(&line),
                _ => offer(&(self::line(self.style, Level::Warn, &said_late(dropped)) + &line)),
            };
            self.dropped.store(if is_taken { 0 } else { dropped + 1 }, Relaxed);
        }
    }

    fn flush(&self) {}
}

/// How a line shows its level.
#[derive(Clone, Copy)]
enum Style {
    /// In words: `warn: text`.
    Plain,
    /// As the priority that sd-daemon(3) describes: `<4>text`.
    Journald,
}

/// Longest line: with another before it, it is still less than what a pipe takes in one piece
/// (PIPE_BUF) whenever it says that it takes anything.
const LINE_BYTES_MAX: usize = 1024;

fn said_late(dropped: u64) -> String {
    format!("{dropped} lines were dropped: nobody read them")
}

/// Writes to stderr if that does not have to be waited for. Whether it was so.
fn offer(text: &str) -> bool {
    let has_room = has_room();
    if has_room {
        // There is nobody to tell that there is nobody to tell.
        let _ = io::stderr().write_all(text.as_bytes());
    }
    has_room
}

fn has_room() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stderr = io::stderr();
    let mut asked = [PollFd::new(&stderr, PollFlags::OUT)];
    // A reader that is gone is an error, which is told at once.
    poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn is_ours(target: &str) -> bool {
    target
        .strip_prefix("disposable_chat")
        .is_some_and(|module| module.is_empty() || module.starts_with("::"))
}

/// The record as one line. Control characters are escaped, so no text can make a second one.
fn line(style: Style, level: Level, text: &str) -> String {
    let head = match (style, level) {
        (Style::Plain, Level::Error) => "error: ",
        (Style::Plain, Level::Warn) => "warn: ",
        (Style::Plain, Level::Info) => "info: ",
        (Style::Plain, Level::Debug | Level::Trace) => "debug: ",
        (Style::Journald, Level::Error) => "<3>",
        (Style::Journald, Level::Warn) => "<4>",
        (Style::Journald, Level::Info) => "<6>",
        (Style::Journald, Level::Debug | Level::Trace) => "<7>",
    };
    let mut line = String::with_capacity(head.len() + text.len() + 1);
    line.push_str(head);
    for c in text.chars() {
        if line.len() > LINE_BYTES_MAX {
            line.push('…');
            break;
        }
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// Whether `JOURNAL_STREAM` is set and names what stderr really is (systemd.exec(5)): the
/// variable alone is inherited by every terminal of a desktop session that systemd runs.
fn stderr_is_journal() -> bool {
    env::var("JOURNAL_STREAM").is_ok_and(|stream| stderr_identity().as_ref() == Some(&stream))
}

/// Device and inode, in the form of `JOURNAL_STREAM`.
fn stderr_identity() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let stderr = std::fs::metadata("/dev/stderr").ok()?;
    Some(format!("{}:{}", stderr.dev(), stderr.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        let check = |style, level, text, expected| assert_eq!(line(style, level, text), expected);
        check(Style::Plain, Level::Error, "it broke", "error: it broke\n");
        check(Style::Plain, Level::Warn, "out of files", "warn: out of files\n");
        check(Style::Plain, Level::Info, "", "info: \n");
        check(Style::Plain, Level::Debug, "grüße \\ \"x\"", "debug: grüße \\ \"x\"\n");
        check(Style::Journald, Level::Error, "a", "<3>a\n");
        check(Style::Journald, Level::Warn, "a", "<4>a\n");
        check(Style::Journald, Level::Info, "a", "<6>a\n");
        check(Style::Journald, Level::Debug, "a", "<7>a\n");
        check(Style::Plain, Level::Info, "a\r\n<3>b\t\0", "info: a\\r\\n<3>b\\t\\u{0}\n");
        check(
            Style::Journald,
            Level::Info,
            "\u{1b}[2J\u{7f}\u{85}",
            "<6>\\u{1b}[2J\\u{7f}\\u{85}\n",
        );
    }

    #[test]
    fn a_line_is_no_longer_than_a_pipe_takes_in_one_piece() {
        let long = line(Style::Plain, Level::Info, &"🦀\u{1}".repeat(10_000));
        assert!(long.ends_with("…\n") && long.len() < LINE_BYTES_MAX + 20, "{}", long.len());
        const { assert!(2 * (LINE_BYTES_MAX + 20) < 4096) };
    }

    #[test]
    fn only_our_own_records_count() {
        for target in ["disposable_chat", "disposable_chat::server::shutdown"] {
            assert!(is_ours(target), "{target}");
        }
        for target in ["", "tungstenite::protocol", "mio::poll", "disposable_chatter"] {
            assert!(!is_ours(target), "{target}");
        }
    }
}
