//! Every flag once, with its default, its range and a sentence about it.
//!
//! Owns [`FLAGS`], the one table from which the flags, the environment variables and `--help`
//! are made. Must never know where a value was given. The invariant: a default is a value that
//! could be given.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Fault;
use super::value::{Listen, count, duration, level, origin, path, size};
use super::{Config, ConfigError};

/// One setting as people see it. The variable's name follows from the flag's.
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// What holds if nothing is given: a value that could be given.
    pub default: &'static str,
    /// What values it takes and where they go.
    pub kind: FlagKind,
    /// One sentence, or a few, without the last full stop.
    pub help: &'static str,
}

/// The values that a flag takes, the range they must be in, and the field they set.
pub enum FlagKind {
    /// Seconds, or with a unit, in fractions too.
    Duration(RangeInclusive<Duration>, fn(&mut Config, Duration)),
    /// Bytes, or with a unit that is a power of 1024.
    Size(RangeInclusive<usize>, fn(&mut Config, usize)),
    /// A whole number.
    Count(RangeInclusive<u32>, fn(&mut Config, u32)),
    /// A list of addresses to accept connections on.
    Listen,
    /// A list of such addresses for the metrics, or `none`.
    MetricsListen,
    /// A list of addresses and ranges, or `none`.
    Proxies,
    /// A list of origins; any, as soon as `*` is among them.
    Origins,
    /// A file, or `none`.
    File(fn(&mut Config, Option<PathBuf>)),
    /// A log level.
    Level,
}

/// No later than that anything is due: far from where clocks overflow.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
const DURATION: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST;
const COUNT: RangeInclusive<u32> = 1..=10_000_000;
const COUNT_OR_ZERO: RangeInclusive<u32> = 0..=10_000_000;
/// Half of what a small machine can address, or a tebibyte.
const MEMORY_MAX: usize = 1 << if usize::BITS < 64 { 31 } else { 40 };
/// Sessions or rooms that one address may create at once before `Rate::per_second` counts
/// (contract §12.16).
pub(super) const CREATION_BURST: u32 = 60;

/// Every flag, in the order of `--help`.
pub static FLAGS: &[Flag] = &[
    Flag {
        name: "listen",
        default: "127.0.0.1:8000",
        kind: FlagKind::Listen,
        help: "Accept connections here: an IP address or localhost with a port, [::1]:8000, or \
               unix:/path; tls:[::]:443 with TLS, if built with the feature tls; repeatable. With \
               proxy: before an address without TLS, a PROXY header (version 1 or 2) must come \
               first on each connection; who it names is believed of a --trusted-proxy, and of a \
               Unix socket. Port 0 picks a free one. PORT=9000 in the environment, without this \
               flag and its variable, means 0.0.0.0:9000",
    },
    Flag {
        name: "tls-cert",
        default: "none",
        kind: FlagKind::File(|config, path| config.tls_cert = path),
        help: "The certificate for tls: addresses, in PEM, with those between it and its \
               authority; SIGHUP has it read again, and its key",
    },
    Flag {
        name: "tls-key",
        default: "none",
        kind: FlagKind::File(|config, path| config.tls_key = path),
        help: "Its private key, in PEM (PKCS#8, PKCS#1 or SEC1)",
    },
    Flag {
        name: "session-ttl",
        default: "24h",
        kind: FlagKind::Duration(DURATION, |config, value| config.session_ttl = value),
        help: "A session lives this long after its last use",
    },
    Flag {
        name: "room-ttl",
        default: "120s",
        kind: FlagKind::Duration(DURATION, |config, value| config.room_ttl = value),
        help: "A room is deleted, with its messages, this long after its last socket left",
    },
    Flag {
        name: "new-room-ttl",
        default: "10m",
        kind: FlagKind::Duration(DURATION, |config, value| config.new_room_ttl = value),
        help: "A room that nobody came to is deleted this long after it was created",
    },
    Flag {
        name: "leave-grace",
        default: "3s",
        kind: FlagKind::Duration(Duration::ZERO..=LONGEST, |config, value| {
            config.leave_grace = value
        }),
        help: "Somebody whose line broke has left only after this long; 0: at once",
    },
    Flag {
        name: "header-timeout",
        default: "10s",
        kind: FlagKind::Duration(DURATION, |config, value| config.header_timeout = value),
        help: "A request's head must be complete after this long",
    },
    Flag {
        name: "body-timeout",
        default: "20s",
        kind: FlagKind::Duration(DURATION, |config, value| config.body_timeout = value),
        help: "A request's body must be complete this long after its head",
    },
    Flag {
        name: "idle-timeout",
        default: "60s",
        kind: FlagKind::Duration(DURATION, |config, value| config.idle_timeout = value),
        help: "A connection may wait this long for its next request",
    },
    Flag {
        name: "linger-timeout",
        default: "2s",
        kind: FlagKind::Duration(DURATION, |config, value| config.linger_timeout = value),
        help: "A connection's last answer may take this long to drain",
    },
    Flag {
        name: "ping-interval",
        default: "20s",
        kind: FlagKind::Duration(DURATION, |config, value| config.ping_interval = value),
        help: "A socket that is silent for this long is pinged",
    },
    Flag {
        name: "ping-timeout",
        default: "20s",
        kind: FlagKind::Duration(DURATION, |config, value| config.ping_timeout = value),
        help: "A pinged socket that stays silent for this long is dropped",
    },
    Flag {
        name: "probe-timeout",
        default: "3s",
        kind: FlagKind::Duration(DURATION, |config, value| config.probe_timeout = value),
        help: "The holder of a name that somebody else wants is pinged and has this long to answer",
    },
    Flag {
        name: "history",
        default: "1000",
        kind: FlagKind::Count(0..=1_000_000, |config, value| {
            config.history_messages_max = value as usize;
        }),
        help: "Messages kept per room",
    },
    Flag {
        name: "message-rate",
        default: "10",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| {
            config.message_rate.per_second = value
        }),
        help: "Messages per second and session; 0: unlimited",
    },
    Flag {
        name: "message-burst",
        default: "40",
        kind: FlagKind::Count(COUNT, |config, value| config.message_rate.burst = value),
        help: "Messages of a session that may come at once",
    },
    Flag {
        name: "session-rate",
        default: "2",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| {
            config.session_rate.per_second = value
        }),
        help: "New sessions per second and address, 60 of them at once; 0: unlimited",
    },
    Flag {
        name: "room-rate",
        default: "2",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| config.room_rate.per_second = value),
        help: "New rooms per second and address, 60 of them at once; 0: unlimited",
    },
    Flag {
        name: "guess-rate",
        default: "6",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| config.guess_rate = value),
        help: "Wrong passwords per minute, room and address, 5 of them at once; 0: unlimited",
    },
    Flag {
        name: "address-connections",
        default: "200",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| {
            config.address_connections_max = (value > 0).then_some(value as usize);
        }),
        help: "Connections per address (IPv6: per /64); 0: unlimited",
    },
    Flag {
        name: "trusted-proxy",
        default: "none",
        kind: FlagKind::Proxies,
        help: "Believe the X-Forwarded-For of this address or range (10.0.0.0/8); repeatable",
    },
    Flag {
        name: "max-connections",
        default: "0",
        kind: FlagKind::Count(COUNT_OR_ZERO, |config, value| {
            config.connections_max = (value > 0).then_some(value as usize);
        }),
        help: "Connections at a time; 0: what the descriptor limit allows",
    },
    Flag {
        name: "max-sessions",
        default: "100000",
        kind: FlagKind::Count(COUNT, |config, value| config.sessions_max = value as usize),
        help: "Sessions at a time",
    },
    Flag {
        name: "max-rooms",
        default: "100000",
        kind: FlagKind::Count(COUNT, |config, value| config.rooms_max = value as usize),
        help: "Rooms at a time",
    },
    Flag {
        name: "max-memory",
        default: "256M",
        kind: FlagKind::Size(1 << 20..=MEMORY_MAX, |config, value| config.memory_bytes_max = value),
        help: "Bytes kept for all clients together. Near it the oldest messages of the idlest \
               rooms go first; then nothing new is taken in; then the slowest readers are closed",
    },
    Flag {
        name: "outbox",
        default: "256K",
        kind: FlagKind::Size(64 << 10..=1 << 30, |config, value| config.outbox_bytes_max = value),
        help: "Bytes queued for a slow reader before it is closed",
    },
    Flag {
        name: "cors-origin",
        default: "*",
        kind: FlagKind::Origins,
        help: "Let pages of this origin in (https://chat.example), or of any (*); repeatable",
    },
    Flag {
        name: "metrics-listen",
        default: "none",
        kind: FlagKind::MetricsListen,
        help: "Answer GET /metrics here, for Prometheus, and nothing else; an address like those \
               of --listen without proxy:, or none; repeatable",
    },
    Flag {
        name: "state",
        default: "none",
        kind: FlagKind::File(|config, value| config.state = value),
        help: "Keep sessions, rooms and histories in this file from one process's end to the next \
               one's beginning, for which it should lie in memory (/run/chat/state), or none",
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

    /// Sets the flag's field from all that `source` (a flag or a variable) gave.
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
                    Listen::Proxied(_) => Err(Fault::Form("an address without proxy:")),
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
            .map_err(|fault| ConfigError::bad_value(source, text, fault))?;
        }
        if config.cors_origins.iter().any(|origin| origin == "*") {
            config.cors_origins.clear();
        }
        Ok(())
    }
}

impl FlagKind {
    /// Whether the flag may be repeated, and its variable is a list with commas.
    pub fn is_list(&self) -> bool {
        matches!(
            self,
            FlagKind::Listen | FlagKind::MetricsListen | FlagKind::Proxies | FlagKind::Origins
        )
    }

    /// What stands for the value in `--help`.
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
