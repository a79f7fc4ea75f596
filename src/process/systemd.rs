//! systemd's protocols: inherited sockets, readiness and the watchdog.
//!
//! Owns the variables `LISTEN_*`, `NOTIFY_SOCKET` and `WATCHDOG_*`, as sd_listen_fds(3),
//! sd_notify(3) and sd_watchdog_enabled(3) describe them; they are read on Linux only. Must not know
//! what a connection is. The invariant: nothing in those variables keeps the server from starting,
//! and a supervisor that does not read does not block the loop.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use crate::clock::Mono;
use crate::config::whole;

/// The first inherited descriptor.
const FIRST: u64 = 3;

/// Bound on `LISTEN_FDS`. No unit has so many sockets: if the number is larger, it is a mistake, and
/// none is taken over.
const SOCKETS_MAX: u64 = 64;

/// The name of sockets for the metrics: `FileDescriptorName=` in a socket unit.
const METRICS: &str = "metrics";

/// How long sending `READY=1` may block. The loop has not begun yet.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// Shortest interval between two messages to the watchdog, however short its timeout is.
const WATCHDOG_INTERVAL_MIN: Duration = Duration::from_millis(5);

/// A socket that a supervisor has opened for this process.
pub struct Inherited {
    /// The socket, which need not be a listening one.
    pub socket: OwnedFd,
    /// Its number, for messages.
    pub descriptor: u64,
    /// Whether it is for the metrics.
    pub is_metrics: bool,
}

/// The inherited sockets. To be called once, before this process opens a descriptor: until then,
/// every open socket was inherited.
#[cfg(target_os = "linux")]
pub fn inherited() -> Vec<Inherited> {
    if !is_for_us(variable) {
        return Vec::new();
    }
    let sockets = sd_listen_fds::get().unwrap_or_default();
    let inherited = (FIRST..).zip(sockets).map(|(descriptor, (name, socket))| Inherited {
        socket: socket.into_std(),
        descriptor,
        is_metrics: name.is_some_and(|name| name == METRICS),
    });
    inherited.collect()
}

#[cfg(not(target_os = "linux"))]
pub fn inherited() -> Vec<Inherited> {
    Vec::new()
}

/// Whether the variables name sockets for this process, and the descriptors are sockets.
fn is_for_us(env: fn(&str) -> Option<OsString>) -> bool {
    let (pid, count) = (number(env, "LISTEN_PID"), number(env, "LISTEN_FDS"));
    let (Some(pid), Some(count)) = (pid, count) else { return false };
    if pid != u64::from(process::id()) {
        return false; // They are meant for another process.
    }
    if count > SOCKETS_MAX {
        warn("LISTEN_FDS", format_args!("{count} sockets are too many"));
        return false;
    }
    // Taking over a descriptor that is not open would close the next file that gets its number.
    // Without /proc this cannot be checked, and the variables are believed.
    let can_check = fs::metadata("/proc/self/fd").is_ok();
    if let Some(place) = (FIRST..FIRST + count).find(|place| can_check && !is_socket(*place)) {
        warn("LISTEN_FDS", format_args!("descriptor {place} is no socket"));
        return false;
    }
    true
}

fn is_socket(descriptor: u64) -> bool {
    let opened = fs::metadata(format!("/proc/self/fd/{descriptor}"));
    opened.is_ok_and(|opened| opened.file_type().is_socket())
}

/// The supervisor that has started the server, if there is one.
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    /// Interval of messages to the watchdog: half of its timeout.
    interval: Option<Duration>,
    /// When the next message is due.
    due: Option<Mono>,
}

impl Supervisor {
    /// Tells the supervisor that the server listens.
    pub fn ready(now: Mono) -> Supervisor {
        let none = Supervisor { socket: None, interval: None, due: None };
        let Some(path) = variable("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return none;
        };
        let connected = address(&path).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            socket.set_write_timeout(Some(READY_TIMEOUT))?;
            socket.send(b"READY=1")?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => {
                let interval = watchdog_interval(variable);
                let due = interval.map(|interval| now.after(interval));
                Supervisor { socket: Some(socket), interval, due }
            }
            Err(error) => {
                warn("NOTIFY_SOCKET", format_args!("{path:?}: {error}"));
                none
            }
        }
    }

    /// Tells the supervisor that the server is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// When the next watchdog message is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.due
    }

    /// Tells the watchdog that the loop runs, if that is due.
    pub fn on_time(&mut self, now: Mono) {
        let (Some(interval), Some(_)) = (self.interval, self.due.filter(|due| *due <= now)) else {
            return;
        };
        // A message that the socket does not take is sent again before the watchdog's timeout.
        let wait = if self.send("WATCHDOG=1") { interval } else { interval / 4 };
        self.due = Some(now.after(wait.max(WATCHDOG_INTERVAL_MIN)));
    }

    fn send(&self, message: &str) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.send(message.as_bytes()).is_ok())
    }
}

/// Half of the watchdog's timeout, if the watchdog is for this process.
fn watchdog_interval(env: fn(&str) -> Option<OsString>) -> Option<Duration> {
    let micros = number(env, "WATCHDOG_USEC").filter(|micros| *micros > 0)?;
    if env("WATCHDOG_PID").is_some_and(|pid| !pid.is_empty()) {
        number(env, "WATCHDOG_PID").filter(|pid| *pid == u64::from(process::id()))?;
    }
    Some(Duration::from_micros(micros / 2).max(WATCHDOG_INTERVAL_MIN))
}

/// The address that a text names: a path, or `@` and the name of an abstract socket.
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

/// The value of a variable that holds digits and nothing else; an empty one counts as not set.
fn number(env: fn(&str) -> Option<OsString>, name: &str) -> Option<u64> {
    let text = env(name).filter(|text| !text.is_empty())?;
    let number = text.to_str().and_then(whole);
    if number.is_none() {
        warn(name, format_args!("{text:?} is not a number"));
    }
    number
}

/// A variable that is invalid is ignored, with this warning.
fn warn(name: &str, why: fmt::Arguments<'_>) {
    log::warn!("{name}: {why}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_gets_a_message_every_half_of_its_timeout() {
        fn own(name: &str) -> Option<OsString> {
            match name {
                "WATCHDOG_USEC" => Some("30000000".into()),
                "WATCHDOG_PID" => Some(process::id().to_string().into()),
                _ => None,
            }
        }
        assert_eq!(watchdog_interval(own), Some(Duration::from_secs(15)));
        let without_pid = |name: &str| own(name).filter(|_| name == "WATCHDOG_USEC");
        assert_eq!(watchdog_interval(without_pid), Some(Duration::from_secs(15)));
        let of_another_process = |name: &str| match name {
            "WATCHDOG_PID" => Some("1".into()),
            _ => own(name),
        };
        assert_eq!(watchdog_interval(of_another_process), None);
        let of_an_invalid_pid = |name: &str| match name {
            "WATCHDOG_PID" => Some("x".into()),
            _ => own(name),
        };
        assert_eq!(watchdog_interval(of_an_invalid_pid), None);
        assert_eq!(watchdog_interval(|_| Some("".into())), None);
        assert_eq!(watchdog_interval(|name| (name == "WATCHDOG_USEC").then(|| "0".into())), None);
        let shortest = watchdog_interval(|name| (name == "WATCHDOG_USEC").then(|| "1".into()));
        assert_eq!(shortest, Some(WATCHDOG_INTERVAL_MIN));
    }

    #[test]
    fn a_number_is_digits_only() {
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
    fn sockets_of_another_process_are_left_alone() {
        let sockets = |name: &str| match name {
            "LISTEN_PID" => Some("1".into()),
            "LISTEN_FDS" => Some("1".into()),
            _ => None,
        };
        assert!(!is_for_us(sockets));
        assert!(!is_for_us(|_| None));
    }
}
