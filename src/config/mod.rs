//! The server's configuration, from command-line flags and environment variables.
//!
//! Owns [`Config`], the table of flags and `--help`. Must not know what a setting is used for, nor
//! read a file or touch a socket: arguments and variables come in as plain values. The invariant: a
//! [`Config`] that exists is complete and within range, so no other module checks it again.
//!
//! | file | what it owns |
//! |---|---|
//! | `flags` | [`FLAGS`]: each flag once, with its default, its range and its help text |
//! | `command_line` | reading the command line and the environment into a [`Task`] |
//! | `help` | the layout of `--help` |
//! | `value` | parsing one value |
//! | `store_url` | parsing where a cluster's store is (feature `cluster`) |
//! | `error` | the error messages |
//! | `warnings` | settings that have no effect |

mod command_line;
mod error;
mod flags;
mod help;
#[cfg(feature = "cluster")]
mod store_url;
mod value;
mod warnings;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

pub use command_line::Task;
pub use error::{ConfigError, ValueError};
pub use flags::{FLAG_GROUPS, FLAGS, Flag, FlagGroup, FlagKind};
#[cfg(feature = "cluster")]
pub use store_url::{StoreAddress, StoreSource, StoreUrl};
pub use value::{Cidr, Listen, whole};

/// The server's settings. Durations are from 1 ms to ten years unless noted otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Addresses to accept connections on; at least one.
    pub listen: Vec<Listen>,
    /// True if neither a flag nor a variable sets `listen`. Then listeners inherited from systemd
    /// replace the default.
    pub listen_by_default: bool,
    /// Certificate file; always set if a listener uses TLS.
    pub tls_cert: Option<PathBuf>,
    /// Private key file; always set if a listener uses TLS.
    pub tls_key: Option<PathBuf>,
    /// How long a session outlives its last use.
    pub session_ttl: Duration,
    /// How long a room outlives its last connection.
    pub room_ttl: Duration,
    /// How long a new room waits for its first connection.
    pub new_room_ttl: Duration,
    /// The longest ttl of a room, at least 60 s.
    pub room_life_max: Duration,
    /// How long a member whose connection broke still counts as present; may be zero.
    pub leave_grace: Duration,
    /// From the first byte of a request head to its last byte.
    pub header_timeout: Duration,
    /// From the end of a request head to the end of the body, and from the first byte of a WebSocket
    /// message to its end.
    pub body_timeout: Duration,
    /// How long a kept-alive connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long input is read and discarded after the last response (RFC 9112 §9.6).
    pub linger_timeout: Duration,
    /// Silence on a WebSocket after which the server pings it.
    pub ping_interval: Duration,
    /// Further silence after which the server drops the connection.
    pub ping_timeout: Duration,
    /// How long the holder of a name has to answer a ping when another session wants the name.
    pub probe_timeout: Duration,
    /// Messages kept per room; 0 to 1,000,000.
    pub history_messages_max: usize,
    /// Limit on the messages from one session.
    pub message_rate: Rate,
    /// Limit on the sessions created from one address.
    pub session_rate: Rate,
    /// Limit on the rooms created from one address.
    pub room_rate: Rate,
    /// Wrong passwords per minute, room and address; 0 to 10,000,000, where 0 is unlimited.
    pub guess_rate: u32,
    /// Wrong passwords per minute and room from all addresses together; 0 to 10,000,000, where 0 is
    /// unlimited.
    pub room_guess_rate: u32,
    /// Connections from one address; `None` is unlimited.
    pub address_connections_max: Option<usize>,
    /// Living sessions, and living rooms, created from one address; `None` is unlimited.
    pub address_sessions_max: Option<usize>,
    /// Peers whose `X-Forwarded-For` and `Forwarded` are trusted.
    pub trusted_proxies: Vec<Cidr>,
    /// Open connections; `None`: as many as the descriptor limit allows.
    pub connections_max: Option<usize>,
    /// 1 to 10,000,000.
    pub sessions_max: usize,
    /// 1 to 10,000,000.
    pub rooms_max: usize,
    /// Bytes kept for all clients together; 1 MiB to 1 TiB.
    pub memory_bytes_max: usize,
    /// Bytes queued for one slow reader; 64 KiB (the largest frame) to 1 GiB.
    pub outbox_bytes_max: usize,
    /// Allowed origins in lower case, as a browser serializes them; empty allows any.
    pub cors_origins: Vec<String>,
    /// Addresses that answer requests for the metrics and nothing else.
    pub metrics_listen: Vec<Listen>,
    /// Addresses for the operator; only this machine reaches them.
    pub admin_listen: Vec<Listen>,
    /// File that carries state over a restart; `None`: state is not kept.
    pub state: Option<PathBuf>,
    /// The store that several servers share; `None`: this server is alone.
    #[cfg(feature = "cluster")]
    pub cluster: Option<StoreSource>,
    /// File with the secret of the cluster; `None`: the store keeps one.
    pub cluster_secret: Option<PathBuf>,
    /// What all names in the store begin with: 1 to 32 letters, digits, hyphens,
    /// underscores and colons.
    pub cluster_prefix: String,
    /// 1 to 256.
    pub cluster_partitions: u16,
    /// How long the store may take to answer.
    pub cluster_timeout: Duration,
    /// How long another server may be silent before its people have left; longer than
    /// `cluster_timeout`.
    pub cluster_lease: Duration,
    /// How long the store may be away before connections are closed.
    pub cluster_patience: Duration,
    /// Never `Trace`.
    pub log: LevelFilter,
}

impl Config {
    /// All addresses to accept connections on.
    pub fn listeners(&self) -> impl Iterator<Item = &Listen> {
        self.listen.iter().chain(&self.metrics_listen).chain(&self.admin_listen)
    }

    /// Whether a listener uses TLS.
    pub fn has_tls(&self) -> bool {
        self.listeners().any(Listen::has_tls)
    }
}

/// A rate limit that allows bursts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// 0 to 10,000,000. 0 is unlimited, and `burst` has no effect.
    pub per_second: u32,
    /// 1 to 10,000,000.
    pub burst: u32,
}
