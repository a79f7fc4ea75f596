//! The table of flags: each flag once, with its default, its range and its help text.
//!
//! Owns [`FLAGS`], from which the flags, the environment variables, `--help` and the manual page
//! are made. Must not know whether a value came from a flag or a variable. The invariant: each
//! default is valid as a value of its own flag.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::error::ValueError;
use super::value::{Listen, count, duration, level, origin, path, size};
use super::{Config, ConfigError};

/// One setting of the command line and the environment.
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// The value if neither the flag nor its variable is given.
    pub default: &'static str,
    /// Which values it takes, and the field that it sets.
    pub kind: FlagKind,
    /// One or more sentences, without the final full stop.
    pub help: &'static str,
}

/// Which values a flag takes, their range, and the setter of its field.
pub enum FlagKind {
    /// A number of seconds, or of the unit that follows it; may be a fraction.
    Duration(RangeInclusive<Duration>, fn(&mut Config, Duration)),
    /// A number of bytes, or of the unit that follows it, a power of 1024; may be a fraction.
    Size(RangeInclusive<usize>, fn(&mut Config, usize)),
    /// A whole number.
    Count(RangeInclusive<u32>, fn(&mut Config, u32)),
    /// A list of addresses to accept connections on.
    Listen,
    /// A list of addresses to answer metrics on, or `none`.
    MetricsListen,
    /// A list of addresses and ranges of addresses, or `none`.
    Proxies,
    /// A list of origins; `*` anywhere in it allows all.
    Origins,
    /// A file, or `none`.
    File(fn(&mut Config, Option<PathBuf>)),
    /// A log level.
    Level,
}

/// Ten years: adding it to any time of the clock cannot overflow.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
const DURATION: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST;
const COUNT: RangeInclusive<u32> = 1..=10_000_000;
const COUNT_OR_ZERO: RangeInclusive<u32> = 0..=10_000_000;
/// 1 TiB, or on 32-bit machines half of the address space.
const MEMORY_MAX: usize = 1 << if usize::BITS < 64 { 31 } else { 40 };
/// Burst of `--session-rate` and `--room-rate` (contract §12.16).
pub(super) const CREATION_BURST: u32 = 60;

/// Every flag, in the order of `--help`.
pub static FLAGS: &[Flag] = &[
    Flag {
        name: "listen",
        default: "127.0.0.1:8000",
        kind: FlagKind::Listen,
        help: "Address to accept connections on; repeatable: an IP address or localhost with a \
               port ([::1]:8000), or unix:/path. Port 0 picks a free port. With the prefix tls: \
               (tls:[::]:443) connections use TLS, in a build with the feature tls. With the \
               prefix proxy: each connection must begin with a PROXY header (version 1 or 2). \
               The client address in it is believed if the peer is a --trusted-proxy or the \
               listener is a Unix socket. Without this flag and its variable, PORT=9000 in the \
               environment means 0.0.0.0:9000",
    },
    Flag {
        name: "tls-cert",
        default: "none",
        kind: FlagKind::File(|config, path| config.tls_cert = path),
        help: "Certificate chain for tls: addresses, in PEM, the server's own certificate first; \
               SIGHUP reloads it and the key",
    },
    Flag {
        name: "tls-key",
        default: "none",
        kind: FlagKind::File(|config, path| config.tls_key = path),
        help: "Private key of the certificate, in PEM (PKCS#8, PKCS#1 or SEC1)",
    },
    Flag {
        name: "session-ttl",
        default: "24h",
        kind: FlagKind::Duration(DURATION, |config, value| config.session_ttl = value),
        help: "How long a session lives after its last use",
    },
    Flag {
        name: "room-ttl",
        default: "120s",
        kind: FlagKind::Duration(DURATION, |config, value| config.room_ttl = value),
        help: "How long a room and its messages are kept after its last WebSocket has closed",
    },
    Flag {
        name: "new-room-ttl",
        default: "10m",
        kind: FlagKind::Duration(DURATION, |config, value| config.new_room_ttl = value),
        help: "How long a new room waits for its first WebSocket before it is deleted",
    },
    Flag {
        name: "leave-grace",
        default: "3s",
        kind: FlagKind::Duration(Duration::ZERO..=LONGEST, |config, value| {
            config.leave_grace = value
        }),
        help: "How long a member whose connection broke still counts as present, so that a \
               reconnect goes unnoticed; 0 turns this off",
    },
    Flag {
        name: "header-timeout",
        default: "10s",
        kind: FlagKind::Duration(DURATION, |config, value| config.header_timeout = value),
        help: "How long a request's head may take to arrive",
    },
    Flag {
        name: "body-timeout",
        default: "20s",
        kind: FlagKind::Duration(DURATION, |config, value| config.body_timeout = value),
        help: "How long a request's body may take to arrive after the head",
    },
    Flag {
        name: "idle-timeout",
        default: "60s",
        kind: FlagKind::Duration(DURATION, |config, value| config.idle_timeout = value),
        help: "How long a kept-alive connection may wait for its next request",
    },
    Flag {
        name: "linger-timeout",
        default: "2s",
        kind: FlagKind::Duration(DURATION, |config, value| config.linger_timeout = value),
        help: "How long a finished connection has to read the last bytes and to close",
    },
    Flag {
        name: "ping-interval",
        default: "20s",
        kind: FlagKind::Duration(DURATION, |config, value| config.ping_interval = value),
        help: "How long a WebSocket may be silent before the server pings it",
    },
    Flag {
        name: "ping-timeout",
        default: "20s",
        kind: FlagKind::Duration(DURATION, |config, value| config.ping_timeout = value),
        help: "How long a WebSocket may stay silent after a ping before it is dropped",
    },
    Flag {
        name: "probe-timeout",
        default: "3s",
        kind: FlagKind::Duration(DURATION, |config, value| config.probe_timeout = value),
        help: "How long the holder of a name has to answer a ping when another session wants \
               that name",
    },
    Flag {
        name: "history",
        default: "1000",
        kind: FlagKind::Count(0..=1_000_000, |config, value| {
            config.history_messages_max = value as usize;
        }),
        help: "Maximum number of messages kept per room",
    },
    Flag {
        name: "message-rate",
        default: "10",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| {
            config.message_rate.per_second = value
        }),
        help: "Messages per second from one session; 0 means unlimited",
    },
    Flag {
        name: "message-burst",
        default: "40",
        kind: FlagKind::Count(COUNT, |config, value| config.message_rate.burst = value),
        help: "Messages that a session may send at once, before its rate applies",
    },
    Flag {
        name: "session-rate",
        default: "2",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| {
            config.session_rate.per_second = value
        }),
        help: "New sessions per second from one address, in bursts of up to 60; 0 means unlimited",
    },
    Flag {
        name: "room-rate",
        default: "2",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| config.room_rate.per_second = value),
        help: "New rooms per second from one address, in bursts of up to 60; 0 means unlimited",
    },
    Flag {
        name: "guess-rate",
        default: "6",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| config.guess_rate = value),
        help: "Wrong passwords per minute for one room from one address, in bursts of up to 5; 0 \
               means unlimited",
    },
    Flag {
        name: "address-connections",
        default: "200",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| {
            config.address_connections_max = (value > 0).then_some(value as usize);
        }),
        help: "Maximum number of connections from one address (IPv6: from one /64 network); 0 \
               means unlimited",
    },
    Flag {
        name: "trusted-proxy",
        default: "none",
        kind: FlagKind::Proxies,
        help: "Address or range (10.0.0.0/8) of a proxy whose X-Forwarded-For is believed; \
               repeatable",
    },
    Flag {
        name: "max-connections",
        default: "0",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| {
            config.connections_max = (value > 0).then_some(value as usize);
        }),
        help: "Maximum number of connections; 0 means as many as the descriptor limit allows",
    },
    Flag {
        name: "max-sessions",
        default: "100000",
        kind: FlagKind::Count(COUNT, |config, value| config.sessions_max = value as usize),
        help: "Maximum number of sessions",
    },
    Flag {
        name: "max-rooms",
        default: "100000",
        kind: FlagKind::Count(COUNT, |config, value| config.rooms_max = value as usize),
        help: "Maximum number of rooms",
    },
    Flag {
        name: "max-memory",
        default: "256M",
        kind: FlagKind::Size(1 << 20..=MEMORY_MAX, |config, value| config.memory_bytes_max = value),
        help: "Bytes kept for all clients together. Near this limit the oldest messages of the \
               longest idle rooms are dropped; then new sessions and rooms are refused, then new \
               connections; then the connections that hold the most memory are closed",
    },
    Flag {
        name: "outbox",
        default: "256K",
        kind: FlagKind::Size(64 << 10..=1 << 30, |config, value| config.outbox_bytes_max = value),
        help: "Bytes queued for a slow reader before its connection is closed",
    },
    Flag {
        name: "cors-origin",
        default: "*",
        kind: FlagKind::Origins,
        help: "Origin (https://chat.example) whose pages may call the API and open WebSockets, \
               or * for any; repeatable",
    },
    Flag {
        name: "metrics-listen",
        default: "none",
        kind: FlagKind::MetricsListen,
        help: "Address that answers GET /metrics, for Prometheus, and nothing else; in the forms \
               of --listen without proxy:; repeatable",
    },
    Flag {
        name: "state",
        default: "none",
        kind: FlagKind::File(|config, value| config.state = value),
        help: "File that carries sessions, rooms and messages over a restart: written at the \
               end, read and removed at the start. Put it on a file system in memory \
               (/run/chat/state)",
    },
    Flag {
        name: "log",
        default: "info",
        kind: FlagKind::Level,
        help: "What is logged on stderr: off, error, warn, info or debug",
    },
];

impl Flag {
    /// `--room-ttl`
    pub fn option(&self) -> String {
        format!("--{}", self.name)
    }

    /// `CHAT_ROOM_TTL`
    pub fn variable(&self) -> String {
        format!("CHAT_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// Sets the flag's field to the values that `source` (a flag or a variable) gives.
    pub(super) fn apply(
        &self,
        config: &mut Config,
        source: &str,
        texts: &[String],
    ) -> Result<(), ConfigError> {
        match self.kind {
            FlagKind::Listen => {
                config.listen.clear();
                config.listen_by_default = false;
            }
            FlagKind::MetricsListen => config.metrics_listen.clear(),
            FlagKind::Proxies => config.trusted_proxies.clear(),
            FlagKind::Origins => config.cors_origins.clear(),
            FlagKind::Duration(..)
            | FlagKind::Size(..)
            | FlagKind::Count(..)
            | FlagKind::File(_)
            | FlagKind::Level => {}
        }
        for text in texts {
            match &self.kind {
                FlagKind::Duration(range, set) => {
                    duration(text, range).map(|value| set(config, value))
                }
                FlagKind::Size(range, set) => size(text, range).map(|value| set(config, value)),
                FlagKind::Count(range, set) => count(text, range).map(|value| set(config, value)),
                FlagKind::Listen => text.parse().map(|listen| config.listen.push(listen)),
                FlagKind::MetricsListen | FlagKind::Proxies if text == "none" => Ok(()),
                FlagKind::MetricsListen => text.parse().and_then(|listen| match listen {
                    Listen::Proxied(_) => Err(ValueError::Form("an address without proxy:")),
                    listen => {
                        config.metrics_listen.push(listen);
                        Ok(())
                    }
                }),
                FlagKind::Proxies => text.parse().map(|cidr| config.trusted_proxies.push(cidr)),
                FlagKind::Origins => origin(text).map(|origin| config.cors_origins.push(origin)),
                FlagKind::File(set) if text == "none" => {
                    set(config, None);
                    Ok(())
                }
                FlagKind::File(set) => path(text).map(|path| set(config, Some(path))),
                FlagKind::Level => level(text).map(|level| config.log = level),
            }
            .map_err(|error| ConfigError::bad_value(source, text, error))?;
        }
        if config.cors_origins.iter().any(|origin| origin == "*") {
            config.cors_origins.clear();
        }
        Ok(())
    }
}

impl FlagKind {
    /// The flag may be repeated, and its variable holds a list with commas.
    pub fn is_list(&self) -> bool {
        matches!(
            self,
            FlagKind::Listen | FlagKind::MetricsListen | FlagKind::Proxies | FlagKind::Origins
        )
    }

    /// Stands for the value in `--help`.
    pub fn placeholder(&self) -> &'static str {
        match self {
            FlagKind::Duration(..) => "TIME",
            FlagKind::Size(..) => "SIZE",
            FlagKind::Count(..) => "COUNT",
            FlagKind::Listen | FlagKind::MetricsListen | FlagKind::Proxies => "ADDR",
            FlagKind::Origins => "ORIGIN",
            FlagKind::File(_) => "FILE",
            FlagKind::Level => "LEVEL",
        }
    }
}
