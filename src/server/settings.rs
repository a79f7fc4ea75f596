//! The flags, sorted by the modules that they are for.
//!
//! Owns the translation, and the contract's fixed limits on requests and frames. Must not parse a
//! flag. The invariant: `http`, `ws` and `chat` get plain values, and none of them knows `Config`.

use std::time::Duration;

use crate::chat::{self, Pace};
use crate::config::{Config, Rate};
use crate::{http, ws};

/// Limits of a request (contract §4.4, §4.5, §4.6).
const HTTP: http::HttpLimits = http::HttpLimits {
    head_bytes_max: 16 * 1024,
    fields_max: 100,
    target_bytes_max: 8 * 1024,
    body_bytes_max: 64 * 1024,
};

/// Limits of what a WebSocket peer sends (contract §7.6).
const WS: ws::WsLimits = ws::WsLimits { frame_bytes_max: 64 * 1024, message_bytes_max: 64 * 1024 };

/// Most connections over a limit at a time; with few connections, a quarter of those.
const OVER_LIMIT_CONNECTIONS_MAX: usize = 32;

/// How many connections a number of descriptors allows, beside those that are over the limit.
pub(super) fn connections_allowed(descriptors: usize) -> usize {
    (descriptors - OVER_LIMIT_CONNECTIONS_MAX.min(descriptors / 5)).max(1)
}

/// The limits and timeouts of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionConfig {
    pub http: http::HttpLimits,
    pub ws: ws::WsLimits,
    pub outbox_bytes_max: usize,
    /// Beyond this number, a connection is over the limit and is refused.
    pub connections_max: usize,
    /// When so many connections are being refused, the next wait in the kernel's queue.
    pub over_limit_connections_max: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub linger_timeout: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
}

impl ConnectionConfig {
    /// From the flags, and how many connections the machine can carry.
    pub fn new(config: &Config, connections_max: usize) -> ConnectionConfig {
        ConnectionConfig {
            http: HTTP,
            ws: WS,
            outbox_bytes_max: config.outbox_bytes_max,
            connections_max,
            over_limit_connections_max: OVER_LIMIT_CONNECTIONS_MAX.min(connections_max / 4).max(1),
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            idle_timeout: config.idle_timeout,
            linger_timeout: config.linger_timeout,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
        }
    }
}

/// Wrong guesses of a room's password that may come at once (contract §12.17).
const GUESS_BURST: u32 = 5;

/// The limits and timeouts of the domain.
pub(super) fn chat_config(config: &Config) -> chat::ChatConfig {
    const SECOND: Duration = Duration::from_secs(1);
    let pace = |rate: Rate| Pace::new(rate.per_second, SECOND, rate.burst);
    chat::ChatConfig {
        session_ttl: config.session_ttl,
        room_ttl: config.room_ttl,
        new_room_ttl: config.new_room_ttl,
        leave_grace: config.leave_grace,
        probe_timeout: config.probe_timeout,
        history_messages_max: config.history_messages_max,
        message_pace: pace(config.message_rate),
        session_pace: pace(config.session_rate),
        room_pace: pace(config.room_rate),
        guess_pace: Pace::new(config.guess_rate, 60 * SECOND, GUESS_BURST),
        address_connections_max: config.address_connections_max,
        sessions_max: config.sessions_max,
        rooms_max: config.rooms_max,
    }
}
