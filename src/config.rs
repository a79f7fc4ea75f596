//! (to be written) Every flag, limit and duration once, with unit, default and range.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where to accept connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A range of addresses: an address and how many of its leading bits count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    pub network: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    /// Whether `address` lies in the range. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let _ = address;
        todo!()
    }
}

/// So many a second, with bursts. `per_second` 0 means unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// The server's settings, complete and within range.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Vec<Listen>,
    pub session_ttl: Duration,
    pub room_ttl: Duration,
    pub new_room_ttl: Duration,
    pub leave_grace: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub linger_timeout: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    pub probe_timeout: Duration,
    pub history_messages_max: usize,
    pub message_rate: Rate,
    pub session_rate: Rate,
    pub room_rate: Rate,
    pub address_connections_max: Option<usize>,
    pub trusted_proxies: Vec<Cidr>,
    /// `None`: what the descriptor limit allows, which `server` finds out.
    pub connections_max: Option<usize>,
    pub sessions_max: usize,
    pub rooms_max: usize,
    pub outbox_bytes_max: usize,
    /// Origins as browsers send them; empty: any.
    pub cors_origins: Vec<String>,
    pub log: log::LevelFilter,
}
