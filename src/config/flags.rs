//! The table of flags: each flag once, with its default, its range and its help text.
//!
//! Owns [`FLAGS`], from which the flags, the environment variables, `--help` and the manual page
//! are generated. Must not know whether a value came from a flag or a variable. The invariant: each
//! default is valid as a value of its own flag.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::error::ValueError;
#[cfg(feature = "cluster")]
use super::store_url::redacted;
use super::value::{Listen, count, duration, file, level, origin, size, word};
use super::{Config, ConfigError};
use FlagKind::{
    AdminListen, Count, File, Level, MetricsListen, Origins, Proxies, Size, Time, Word,
};

/// One setting, as a command-line flag and an environment variable.
pub struct Flag {
    /// The name without the dashes.
    pub name: &'static str,
    /// The value if neither the flag nor its variable is given.
    pub default: &'static str,
    /// The values that the flag takes, and the field that it sets.
    pub kind: FlagKind,
    /// One or more sentences, without the final full stop.
    pub help: &'static str,
}

/// Flags that follow one another in [`FLAGS`], under one heading of `--help`.
pub struct FlagGroup {
    /// The name of its first flag.
    pub first: &'static str,
    pub title: &'static str,
    /// Command lines, without the program's name.
    pub examples: &'static [&'static str],
}

/// The groups, in the order of `--help`. The first begins with the first flag.
pub static FLAG_GROUPS: &[FlagGroup] = &[
    FlagGroup {
        first: "listen",
        title: "Addresses",
        examples: &[
            "--listen 0.0.0.0:8000 --cors-origin https://chat.example",
            "--listen unix:/run/chat.sock --metrics-listen 127.0.0.1:9100",
            "--trusted-proxy 127.0.0.1 --admin-listen unix:/run/chat-admin.sock",
        ],
    },
    FlagGroup {
        first: "session-ttl",
        title: "Lifetimes and timeouts",
        examples: &["--room-ttl 10m --leave-grace 5s"],
    },
    FlagGroup {
        first: "history",
        title: "Limits",
        examples: &["--max-memory 1G --history 200", "--message-rate 2 --message-burst 10"],
    },
    FlagGroup {
        first: "cluster",
        title: "Several servers on one Valkey or Redis",
        examples: &["--cluster redis://127.0.0.1:6379", "--cluster @/etc/chat/store"],
    },
    FlagGroup {
        first: "state",
        title: "State and log",
        examples: &["--state /run/chat/state --log warn"],
    },
];

/// The values that a flag takes, their range, and the setter of its field.
pub enum FlagKind {
    /// A number of seconds, or of the unit that follows it; may be a fraction.
    Time(RangeInclusive<Duration>, fn(&mut Config, Duration)),
    /// A number of bytes, or of the unit that follows it, a power of 1024; may be a fraction.
    Size(RangeInclusive<usize>, fn(&mut Config, usize)),
    /// A whole number.
    Count(RangeInclusive<u32>, fn(&mut Config, u32)),
    /// A list of addresses to accept connections on.
    Listen,
    /// A list of addresses to serve metrics on, or `none`.
    MetricsListen,
    /// A list of addresses for the operator, which only this machine reaches, or `none`.
    AdminListen,
    /// A list of addresses and ranges of addresses, or `none`.
    Proxies,
    /// A list of origins; `*` anywhere in it allows all.
    Origins,
    /// A file, or `none`.
    File(fn(&mut Config, Option<PathBuf>)),
    /// Where the store of a cluster is, or `none`.
    Store,
    /// A word of letters, digits, hyphens, underscores and colons.
    Word(fn(&mut Config, String)),
    /// A log level.
    Level,
}

/// Ten years. Added to a time of the clock, it cannot overflow.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
const DURATION: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST;
/// The shortest ttl of a room (contract §10.14).
const ROOM_LIFE_MIN: Duration = Duration::from_secs(60);
const POSITIVE: RangeInclusive<u32> = 1..=10_000_000;
const COUNT: RangeInclusive<u32> = 0..=10_000_000;
const PARTITIONS: RangeInclusive<u32> = 1..=256;
/// 1 TiB, or on 32-bit machines half of the address space.
const MEMORY_MAX: usize = 1 << if usize::BITS < 64 { 31 } else { 40 };
/// Burst of `--session-rate` and `--room-rate` (contract §12.16).
pub(super) const CREATION_BURST: u32 = 60;

const fn flag(name: &'static str, default: &'static str, kind: FlagKind) -> Flag {
    Flag { name, default, kind, help: "" }
}

impl Flag {
    const fn help(self, help: &'static str) -> Flag {
        Flag { help, ..self }
    }
}

fn unlimited_if_zero(count: u32) -> Option<usize> {
    (count > 0).then_some(count as usize)
}

/// Every flag, in the order of `--help`, by groups ([`FLAG_GROUPS`]).
pub static FLAGS: &[Flag] = &[
    flag("listen", "127.0.0.1:8000", FlagKind::Listen).help(
        "Address to accept connections on; repeatable: an IP address or localhost with a \
         port ([::1]:8000), or unix:/path; localhost means 127.0.0.1 and [::1]. Port 0 picks a free port. With the prefix tls: \
         (tls:[::]:443) connections use TLS, in a build with the feature tls. With the \
         prefix proxy: each connection must begin with a PROXY header (version 1 or 2). \
         The client address in it is believed if the peer is a --trusted-proxy or the \
         listener is a Unix socket. Without this flag and its variable, PORT=9000 in the \
         environment means 0.0.0.0:9000",
    ),
    flag("tls-cert", "none", File(|config, file| config.tls_cert = file)).help(
        "Certificate chain for tls: addresses, in PEM, the server's own certificate first; \
         SIGHUP reloads it and the key",
    ),
    flag("tls-key", "none", File(|config, file| config.tls_key = file))
        .help("Private key of the certificate, in PEM (PKCS#8, PKCS#1 or SEC1)"),
    flag("trusted-proxy", "none", Proxies).help(
        "Address or range (10.0.0.0/8) of a proxy whose X-Forwarded-For, or else whose Forwarded, \
         is believed; repeatable",
    ),
    flag("cors-origin", "*", Origins).help(
        "Origin (https://chat.example) whose pages may call the API and open WebSockets, \
         or * for any; repeatable",
    ),
    flag("metrics-listen", "none", MetricsListen).help(
        "Address that answers GET /metrics, for Prometheus, and nothing else; in the forms \
         of --listen without proxy:; repeatable. A scraper must name it by its IP address or \
         as localhost",
    ),
    flag("admin-listen", "none", AdminListen).help(
        "Address for the operator: lists and deletes rooms, removes people, announces, and answers \
         GET /metrics. A Unix socket, made with mode 0600, or a loopback address: every process that \
         reaches it may do all of this; repeatable",
    ),
    flag("session-ttl", "24h", Time(DURATION, |config, time| config.session_ttl = time))
        .help("How long a session lives after its last use"),
    flag("room-ttl", "120s", Time(DURATION, |config, time| config.room_ttl = time))
        .help("How long a room and its messages are kept after its last WebSocket has closed"),
    flag("new-room-ttl", "10m", Time(DURATION, |config, time| config.new_room_ttl = time))
        .help("How long a new room waits for its first WebSocket before it is deleted"),
    flag(
        "room-life-max",
        "7d",
        Time(ROOM_LIFE_MIN..=LONGEST, |config, time| config.room_life_max = time),
    )
    .help("Longest ttl that a room may be given, after which it ends even if people are in it"),
    flag(
        "leave-grace",
        "3s",
        Time(Duration::ZERO..=LONGEST, |config, time| config.leave_grace = time),
    )
    .help(
        "How long a member whose connection broke still counts as present, so that a \
         reconnect goes unnoticed; 0 turns this off",
    ),
    flag("header-timeout", "10s", Time(DURATION, |config, time| config.header_timeout = time))
        .help("How long a request's head may take to arrive"),
    flag("body-timeout", "20s", Time(DURATION, |config, time| config.body_timeout = time))
        .help("How long a request's body may take after its head, or a WebSocket message in all"),
    flag("idle-timeout", "75s", Time(DURATION, |config, time| config.idle_timeout = time))
        .help(
            "How long a kept-alive connection may wait for its next request. Longer than the 60s of \
             common balancers, so that they close first",
        ),
    flag("linger-timeout", "2s", Time(DURATION, |config, time| config.linger_timeout = time))
        .help("How long a finished connection has to read the last bytes and to close"),
    flag("ping-interval", "20s", Time(DURATION, |config, time| config.ping_interval = time))
        .help("How long a WebSocket may be silent before the server pings it"),
    flag("ping-timeout", "20s", Time(DURATION, |config, time| config.ping_timeout = time))
        .help("How long a WebSocket may stay silent after a ping before it is dropped"),
    flag("probe-timeout", "3s", Time(DURATION, |config, time| config.probe_timeout = time)).help(
        "How long the holder of a name has to answer a ping when another session wants \
         that name",
    ),
    flag(
        "history",
        "1000",
        Count(0..=1_000_000, |config, n| config.history_messages_max = n as usize),
    )
    .help("Maximum number of messages kept per room"),
    flag("message-rate", "10", Count(COUNT, |config, n| config.message_rate.per_second = n))
        .help("Messages per second from one session; 0 means unlimited"),
    flag("message-burst", "40", Count(POSITIVE, |config, n| config.message_rate.burst = n))
        .help("Messages that a session may send at once, before its rate applies"),
    flag("session-rate", "2", Count(COUNT, |config, n| config.session_rate.per_second = n))
        .help("New sessions per second from one address, in bursts of up to 60; 0 means unlimited"),
    flag("room-rate", "2", Count(COUNT, |config, n| config.room_rate.per_second = n))
        .help("New rooms per second from one address, in bursts of up to 60; 0 means unlimited"),
    flag("guess-rate", "6", Count(COUNT, |config, n| config.guess_rate = n)).help(
        "Wrong passwords per minute for one room from one address, in bursts of up to 5; 0 \
         means unlimited",
    ),
    flag("room-guess-rate", "60", Count(COUNT, |config, n| config.room_guess_rate = n)).help(
        "Wrong passwords per minute for one room from all addresses together, in bursts of up to \
         60; 0 means unlimited",
    ),
    flag(
        "address-connections",
        "200",
        Count(COUNT, |config, n| config.address_connections_max = unlimited_if_zero(n)),
    )
    .help(
        "Maximum number of connections from one address (IPv6: from one /64 network); 0 \
         means unlimited",
    ),
    flag(
        "address-sessions",
        "2000",
        Count(COUNT, |config, n| config.address_sessions_max = unlimited_if_zero(n)),
    )
    .help(
        "Maximum number of living sessions, and of living rooms, created from one address \
         (IPv6: from one /64 network, and eight times as many from one /48 network); 0 \
         means unlimited",
    ),
    flag(
        "max-connections",
        "0",
        Count(COUNT, |config, n| config.connections_max = unlimited_if_zero(n)),
    )
    .help("Maximum number of connections; 0 means as many as the descriptor limit allows"),
    flag("max-sessions", "100000", Count(POSITIVE, |config, n| config.sessions_max = n as usize))
        .help("Maximum number of sessions"),
    flag("max-rooms", "100000", Count(POSITIVE, |config, n| config.rooms_max = n as usize))
        .help("Maximum number of rooms"),
    flag("max-memory", "256M", Size(1 << 20..=MEMORY_MAX, |config, n| config.memory_bytes_max = n))
        .help(
            "Bytes kept for all clients together. Near this limit the oldest messages of the \
             address that has most are dropped, in its longest idle room; then new sessions and rooms are refused, then new \
             connections; then the connections that hold the most memory are closed",
        ),
    flag("outbox", "256K", Size(64 << 10..=1 << 30, |config, n| config.outbox_bytes_max = n))
        .help("Bytes queued for a slow reader before its connection is closed"),
    flag("cluster", "none", FlagKind::Store).help(
        "Store that several servers share, so that they are one chat: \
         redis://[user:password@]ADDRESS[,ADDRESS][/database], unix:/path[?db=0&user=U&pass=P], or \
         @FILE, whose first line is one of these and is read before each attempt to connect; \
         rediss:// with ?ca=/path is TLS. ADDRESS is an IP address or localhost with a port. In a \
         build with the feature cluster. Not with --state",
    ),
    flag("cluster-secret", "none", File(|config, file| config.cluster_secret = file)).help(
        "File with at least 32 random bytes, the same on all servers. Without it the store keeps the \
         secret that the ids of sessions are hashed with",
    ),
    flag("cluster-prefix", "dc", Word(|config, word| config.cluster_prefix = word))
        .help("What the names of all keys and channels in the store begin with"),
    flag(
        "cluster-partitions",
        "1",
        Count(PARTITIONS, |config, n| config.cluster_partitions = n as u16),
    )
    .help("Parts into which rooms and sessions are divided; the same on all servers, for good"),
    flag("cluster-timeout", "5s", Time(DURATION, |config, time| config.cluster_timeout = time))
        .help("How long the store may take to answer before the connection to it is given up"),
    flag("cluster-lease", "10s", Time(DURATION, |config, time| config.cluster_lease = time))
        .help(
            "How long a server may be silent before the others let its people leave; longer than \
             --cluster-timeout",
        ),
    flag("cluster-patience", "30s", Time(DURATION, |config, time| config.cluster_patience = time))
        .help("How long the store may be away before WebSockets are closed"),
    flag("state", "none", File(|config, file| config.state = file)).help(
        "File that carries sessions, rooms and messages over a restart: written at the \
         end, read and removed at the start. Put it on a file system in memory \
         (/run/chat/state)",
    ),
    flag("log", "info", Level).help("What is logged on stderr: off, error, warn, info or debug"),
];

#[cfg(feature = "cluster")]
fn store(config: &mut Config, text: &str) -> Result<(), ValueError> {
    config.cluster = if text == "none" { None } else { Some(text.parse()?) };
    Ok(())
}

#[cfg(not(feature = "cluster"))]
fn store(_: &mut Config, text: &str) -> Result<(), ValueError> {
    if text == "none" { Ok(()) } else { Err(ValueError::Feature("cluster")) }
}

impl Flag {
    /// The feature without which no value but the default is accepted.
    pub(super) fn missing_feature(&self) -> Option<&'static str> {
        let is_of_cluster = self.name.split('-').next() == Some("cluster");
        (is_of_cluster && !cfg!(feature = "cluster")).then_some("cluster")
    }

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
            FlagKind::AdminListen => config.admin_listen.clear(),
            FlagKind::Proxies => config.trusted_proxies.clear(),
            FlagKind::Origins => config.cors_origins.clear(),
            _ => {}
        }
        for text in texts {
            match &self.kind {
                FlagKind::Time(range, set) => duration(text, range).map(|value| set(config, value)),
                FlagKind::Size(range, set) => size(text, range).map(|value| set(config, value)),
                FlagKind::Count(range, set) => count(text, range).map(|value| set(config, value)),
                FlagKind::Listen => text.parse().map(|listen| config.listen.push(listen)),
                AdminListen | FlagKind::MetricsListen | FlagKind::Proxies if text == "none" => {
                    Ok(())
                }
                FlagKind::MetricsListen => match text.parse() {
                    Ok(Listen::Proxied(_)) => {
                        Err(ValueError::Form("an address without `proxy:` before it"))
                    }
                    listen => listen.map(|listen| config.metrics_listen.push(listen)),
                },
                AdminListen => match text.parse() {
                    Ok(listen) if !Listen::is_local(&listen) => {
                        Err(ValueError::Form("a loopback address or unix:/path"))
                    }
                    listen => listen.map(|listen| config.admin_listen.push(listen)),
                },
                FlagKind::Proxies => text.parse().map(|cidr| config.trusted_proxies.push(cidr)),
                FlagKind::Origins => origin(text).map(|origin| config.cors_origins.push(origin)),
                FlagKind::File(set) => file(text).map(|file| set(config, file)),
                FlagKind::Store => store(config, text),
                FlagKind::Word(set) => word(text).map(|word| set(config, word)),
                FlagKind::Level => level(text).map(|level| config.log = level),
            }
            .map_err(|error| ConfigError::bad_value(source, &self.kind.shown(text), error))?;
        }
        if config.cors_origins.iter().any(|origin| origin == "*") {
            config.cors_origins.clear();
        }
        Ok(())
    }
}

impl FlagKind {
    /// Whether the flag may be repeated. If so, its variable is a list separated by commas.
    pub fn is_list(&self) -> bool {
        matches!(
            self,
            FlagKind::Listen
                | FlagKind::MetricsListen
                | FlagKind::AdminListen
                | FlagKind::Proxies
                | FlagKind::Origins
        )
    }

    /// A value, as it may be printed: without a password.
    pub(super) fn shown(&self, text: &str) -> String {
        match self {
            #[cfg(feature = "cluster")]
            FlagKind::Store => redacted(text),
            // What form it has is not known in this build.
            #[cfg(not(feature = "cluster"))]
            FlagKind::Store if text != "none" => "…".to_owned(),
            _ => text.to_owned(),
        }
    }

    /// The placeholder for the value in `--help`.
    pub fn placeholder(&self) -> &'static str {
        match self {
            FlagKind::Time(..) => "TIME",
            FlagKind::Size(..) => "SIZE",
            FlagKind::Count(..) => "COUNT",
            FlagKind::Listen
            | FlagKind::MetricsListen
            | FlagKind::AdminListen
            | FlagKind::Proxies => "ADDR",
            FlagKind::Origins => "ORIGIN",
            FlagKind::File(_) => "FILE",
            FlagKind::Store => "URL",
            FlagKind::Word(_) => "NAME",
            FlagKind::Level => "LEVEL",
        }
    }
}
