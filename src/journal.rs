//! The log: one line on stderr for each record, in the format of journald where journald reads it.
//!
//! Owns the form of a line. Must not write records of other crates: tungstenite logs the texts of
//! messages, and mio logs every poll. The invariant: a record is exactly one line, written by one
//! call that never blocks, because an unread pipe must not stop the event loop. Lines that stderr
//! does not take are dropped and counted, and their number is logged before the next line.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Installs the logger of the process, for records up to `level`. Only `main` calls this, once.
pub fn install(level: LevelFilter) {
    let style = if stderr_is_journal() { Style::Journald } else { Style::Plain };
    let journal = Journal { style, dropped: AtomicU64::new(0) };
    log::set_boxed_logger(Box::new(journal)).expect("no other logger is set");
    log::set_max_level(level);
}

/// Writes one line to stderr, whatever the log level. It blocks until stderr takes the line, so it
/// must only be called before and after the event loop. Unlike `eprintln!`, it does not panic if
/// stderr is closed.
pub fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Logs panics as errors, with their source location only: the text of a panic can contain client
/// input. Only `main` calls this, once.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| match panic.location() {
        Some(at) => log::error!("a bug: panic at {}:{}", at.file(), at.line()),
        None => log::error!("a bug: panic"),
    }));
}

struct Journal {
    style: Style,
    /// Lines dropped since the last one that stderr took.
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
                _ => offer(&(self::line(self.style, Level::Warn, &notice_of(dropped)) + &line)),
            };
            self.dropped.store(if is_taken { 0 } else { dropped + 1 }, Relaxed);
        }
    }

    fn flush(&self) {}
}

/// How a line begins.
#[derive(Clone, Copy)]
enum Style {
    /// With the level as a word: `warn: text`.
    Plain,
    /// With the level as a priority of sd-daemon(3): `<4>text`.
    Journald,
}

/// Length in bytes at which a line is cut off; the ellipsis and the line end follow. Two lines are
/// shorter than PIPE_BUF, which a pipe that is ready for writing takes in one piece (pipe(7)).
const LINE_BYTES_MAX: usize = 1024;

fn notice_of(dropped: u64) -> String {
    format!("{dropped} lines were dropped, because stderr was not read")
}

/// Writes to stderr. If that would block, writes nothing and returns false.
fn offer(text: &str) -> bool {
    let mut stderr = io::stderr();
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    // A closed stderr is ready as well: the write fails at once.
    let is_ready = poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
    if is_ready {
        let _ = stderr.write_all(text.as_bytes()); // An error cannot be logged.
    }
    is_ready
}

fn is_ours(target: &str) -> bool {
    target
        .strip_prefix("disposable_chat")
        .is_some_and(|module| module.is_empty() || module.starts_with("::"))
}

/// The record as one line. Control characters are escaped, so that no text can begin a second line.
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

/// Whether `JOURNAL_STREAM` identifies the file behind stderr (systemd.exec(5)). The variable alone
/// is not enough: every terminal of a desktop session inherits it.
fn stderr_is_journal() -> bool {
    env::var("JOURNAL_STREAM").is_ok_and(|stream| stderr_identity().as_ref() == Some(&stream))
}

/// Device and inode of stderr, in the form of `JOURNAL_STREAM`.
fn stderr_identity() -> Option<String> {
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
    fn two_lines_fit_into_one_write_to_a_pipe() {
        let long = line(Style::Plain, Level::Info, &"🦀\u{1}".repeat(10_000));
        assert!(long.ends_with("…\n") && long.len() < LINE_BYTES_MAX + 20, "{}", long.len());
        const { assert!(2 * (LINE_BYTES_MAX + 20) < 4096) };
    }

    #[test]
    fn only_records_of_this_crate_are_logged() {
        for target in ["disposable_chat", "disposable_chat::server::shutdown"] {
            assert!(is_ours(target), "{target}");
        }
        for target in ["", "tungstenite::protocol", "mio::poll", "disposable_chatter"] {
            assert!(!is_ours(target), "{target}");
        }
    }
}
