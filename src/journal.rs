//! The log: one line on stderr per record, as journald likes it.
//!
//! Owns the form of a line. Must never let through a record of anybody but this crate:
//! tungstenite logs the texts of messages, mio what it polls. The invariant: a record is exactly
//! one line, written by one call.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Makes this the process's logger, for records up to `level`. To be called once, by `main`.
pub fn install(level: LevelFilter) {
    let style = if stderr_is_journal() { Style::Journald } else { Style::Plain };
    log::set_boxed_logger(Box::new(Journal { style })).expect("nobody else sets a logger");
    log::set_max_level(level);
}

/// Writes one line to stderr, whatever the level. Unlike `eprintln!`, a stderr that is gone is
/// nothing to panic about.
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
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = line(self.style, record.level(), &record.args().to_string());
            // There is nobody to tell that there is nobody to tell.
            let _ = io::stderr().write_all(line.as_bytes());
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
#[cfg(unix)]
fn stderr_identity() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let stderr = std::fs::metadata("/dev/stderr").ok()?;
    Some(format!("{}:{}", stderr.dev(), stderr.ino()))
}

#[cfg(not(unix))]
fn stderr_identity() -> Option<String> {
    None
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
    fn only_our_own_records_count() {
        for target in ["disposable_chat", "disposable_chat::server::shutdown"] {
            assert!(is_ours(target), "{target}");
        }
        for target in ["", "tungstenite::protocol", "mio::poll", "disposable_chatter"] {
            assert!(!is_ours(target), "{target}");
        }
    }
}
