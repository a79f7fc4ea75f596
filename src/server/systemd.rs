//! What systemd, or whoever else speaks as it does, hands over and wants to be told.
//!
//! Owns the variables `LISTEN_*`, `NOTIFY_SOCKET` and `WATCHDOG_*`, as sd_listen_fds(3), sd_notify(3)
//! and sd_watchdog_enabled(3) have them; nowhere but on Linux are they read. Must never know what a
//! connection is. The invariant: nothing in those variables keeps the server from starting, and a
//! supervisor that doesn't read doesn't hold the loop.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use super::{Acceptor, Purpose};
use crate::clock::Mono;
use crate::config::whole;
use crate::net::Listener;

/// The first descriptor that is handed over.
const FIRST: u64 = 3;

/// More sockets than anybody hands over.
const SOCKETS_MAX: u64 = 64;

/// The name of sockets for the metrics, as a socket unit's `FileDescriptorName=` gives it.
const METRICS: &str = "metrics";

/// For the first word, before the loop turns.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// However short the watchdog's patience is.
const WATCHDOG_PACE_MIN: Duration = Duration::from_millis(5);

/// What is handed over. To be called once, and before anything is opened: what is
/// a socket by then is nobody else's.
#[cfg(target_os = "linux")]
pub(super) fn acceptors() -> Vec<Acceptor> {
    let mut acceptors = Vec::new();
    if !are_handed_over(variable) {
        return acceptors;
    }
    for (place, (name, socket)) in (FIRST..).zip(sd_listen_fds::get().unwrap_or_default()) {
        let is_metrics = name.is_some_and(|name| name == METRICS);
        let purpose = if is_metrics { Purpose::Metrics } else { Purpose::Chat };
        match Listener::take_over(socket.into_std()) {
            Ok(listener) => acceptors.push(Acceptor::new(listener, purpose)),
            Err(error) => {
                warn("LISTEN_FDS", format_args!("descriptor {place} is no listener: {error}"));
            }
        }
    }
    acceptors
}

#[cfg(not(target_os = "linux"))]
pub(super) fn acceptors() -> Vec<Acceptor> {
    Vec::new()
}

/// Whether there are sockets for this process, and nothing but sockets.
fn are_handed_over(env: fn(&str) -> Option<OsString>) -> bool {
    let (pid, count) = (number(env, "LISTEN_PID"), number(env, "LISTEN_FDS"));
    let (Some(pid), Some(count)) = (pid, count) else { return false };
    if pid != u64::from(process::id()) {
        return false; // They were our parent's.
    }
    if count > SOCKETS_MAX {
        warn("LISTEN_FDS", format_args!("{count} sockets are too many"));
        return false;
    }
    // Who takes over a descriptor that isn't open closes the next that is. Without /proc there is
    // no telling, and whoever set the variables is believed.
    let can_tell = fs::metadata("/proc/self/fd").is_ok();
    if let Some(place) = (FIRST..FIRST + count).find(|place| can_tell && !is_socket(*place)) {
        warn("LISTEN_FDS", format_args!("descriptor {place} is no socket"));
        return false;
    }
    true
}

fn is_socket(place: u64) -> bool {
    let opened = fs::metadata(format!("/proc/self/fd/{place}"));
    opened.is_ok_and(|opened| opened.file_type().is_socket())
}

/// Whoever has started the server and wants to know how it is; or nobody.
pub(super) struct Supervisor {
    to: Option<UnixDatagram>,
    /// How often it wants to hear that the loop turns: twice as often as it would lose patience.
    pace: Option<Duration>,
    /// When it is to hear so next.
    due: Option<Mono>,
}

impl Supervisor {
    /// Says that the server listens, if anybody wants to know.
    pub fn ready(now: Mono) -> Supervisor {
        let nobody = Supervisor { to: None, pace: None, due: None };
        let Some(path) = variable("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return nobody;
        };
        let said = address(&path).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            socket.set_write_timeout(Some(READY_TIMEOUT))?;
            socket.send(b"READY=1")?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        match said {
            Ok(to) => {
                let pace = pace(variable);
                let due = pace.map(|pace| now.after(pace));
                Supervisor { to: Some(to), pace, due }
            }
            Err(error) => {
                warn("NOTIFY_SOCKET", format_args!("{path:?}: {error}"));
                nobody
            }
        }
    }

    /// Says that the server is about to leave.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// When [`Self::on_time`] has something to do.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.due
    }

    /// Says that the loop turns, when it is time to.
    pub fn on_time(&mut self, now: Mono) {
        let (Some(pace), Some(_)) = (self.pace, self.due.filter(|due| *due <= now)) else { return };
        // What finds no room is said again before patience ends.
        let wait = if self.say("WATCHDOG=1") { pace } else { pace / 4 };
        self.due = Some(now.after(wait.max(WATCHDOG_PACE_MIN)));
    }

    fn say(&self, word: &str) -> bool {
        self.to.as_ref().is_some_and(|socket| socket.send(word.as_bytes()).is_ok())
    }
}

/// Half of the watchdog's patience, if it is ours.
fn pace(env: fn(&str) -> Option<OsString>) -> Option<Duration> {
    let micros = number(env, "WATCHDOG_USEC").filter(|micros| *micros > 0)?;
    if env("WATCHDOG_PID").is_some_and(|pid| !pid.is_empty()) {
        number(env, "WATCHDOG_PID").filter(|pid| *pid == u64::from(process::id()))?;
    }
    Some(Duration::from_micros(micros / 2).max(WATCHDOG_PACE_MIN))
}

/// A path, or `@` and a name that is in no file system.
fn address(text: &OsStr) -> io::Result<SocketAddr> {
    match text.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(text),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
        }
        _ => Err(ErrorKind::Unsupported.into()),
    }
}

fn variable(name: &str) -> Option<OsString> {
    if cfg!(target_os = "linux") { env::var_os(name) } else { None }
}

/// Digits and nothing else; an empty variable counts as not set.
fn number(env: fn(&str) -> Option<OsString>, name: &str) -> Option<u64> {
    let text = env(name).filter(|text| !text.is_empty())?;
    let number = text.to_str().and_then(whole);
    if number.is_none() {
        warn(name, format_args!("{text:?} is not a number"));
    }
    number
}

/// What can't be understood is left alone.
fn warn(name: &str, why: fmt::Arguments<'_>) {
    log::warn!("{name}: {why}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_told_twice_as_often_as_it_asks() {
        fn own(name: &str) -> Option<OsString> {
            match name {
                "WATCHDOG_USEC" => Some("30000000".into()),
                "WATCHDOG_PID" => Some(process::id().to_string().into()),
                _ => None,
            }
        }
        assert_eq!(pace(own), Some(Duration::from_secs(15)));
        let anybodys = |name: &str| own(name).filter(|_| name == "WATCHDOG_USEC");
        assert_eq!(pace(anybodys), Some(Duration::from_secs(15)));
        let of_others = |name: &str| match name {
            "WATCHDOG_PID" => Some("1".into()),
            _ => own(name),
        };
        assert_eq!(pace(of_others), None);
        let of_who_knows = |name: &str| match name {
            "WATCHDOG_PID" => Some("x".into()),
            _ => own(name),
        };
        assert_eq!(pace(of_who_knows), None);
        assert_eq!(pace(|_| Some("".into())), None);
        assert_eq!(pace(|name| (name == "WATCHDOG_USEC").then(|| "0".into())), None);
        let impatient = pace(|name| (name == "WATCHDOG_USEC").then(|| "1".into()));
        assert_eq!(impatient, Some(WATCHDOG_PACE_MIN));
    }

    #[test]
    fn numbers_are_digits() {
        let check = |env: fn(&str) -> Option<OsString>, expected| {
            assert_eq!(number(env, "N"), expected);
        };
        check(|_| Some("0".into()), Some(0));
        check(|_| Some("18446744073709551615".into()), Some(u64::MAX));
        check(|_| Some("18446744073709551616".into()), None);
        check(|_| Some("-1".into()), None);
        check(|_| Some("+1".into()), None);
        check(|_| Some("1 ".into()), None);
        check(|_| Some("".into()), None);
        check(|_| Some(OsStr::from_bytes(b"\xff").to_owned()), None);
        check(|_| None, None);
    }

    #[test]
    fn sockets_of_somebody_else_are_left_alone() {
        let sockets = |name: &str| match name {
            "LISTEN_PID" => Some("1".into()),
            "LISTEN_FDS" => Some("1".into()),
            _ => None,
        };
        assert!(!are_handed_over(sockets));
        assert!(!are_handed_over(|_| None));
    }
}
