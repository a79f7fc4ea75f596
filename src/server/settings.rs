//! The flags, translated for the modules that they are for.
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

/// Connections accepted beyond `connections_max`, only to be refused: this many, or a quarter of
/// `connections_max` if that is less, but at least two: one that is refused, and one that takes its
/// place. (It does not bound connections over their address's quota.)
const OVER_LIMIT_CONNECTIONS_MAX: usize = 32;

/// How many connections a number of descriptors allows, when some are kept for connections that are
/// refused.
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
    /// How many connections are accepted beyond `connections_max`, to be refused. Further ones wait
    /// in the kernel's queue. While memory is short, it bounds the connections that are being
    /// refused.
    pub over_limit_connections_max: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub linger_timeout: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// In which the peer of an event stream must acknowledge a ping if its name is wanted.
    pub probe_timeout: Duration,
}

impl ConnectionConfig {
    /// From the flags. `connections_max`: `--max-connections`, or what the machine allows.
    pub fn new(config: &Config, connections_max: usize) -> ConnectionConfig {
        ConnectionConfig {
            http: HTTP,
            ws: WS,
            outbox_bytes_max: config.outbox_bytes_max,
            connections_max,
            over_limit_connections_max: OVER_LIMIT_CONNECTIONS_MAX.min(connections_max / 4).max(2),
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            idle_timeout: config.idle_timeout,
            linger_timeout: config.linger_timeout,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            probe_timeout: config.probe_timeout,
        }
    }
}

/// The least burst of announced joins of a session (contract §6.17). A join and the leave that
/// follows are two messages, so the rate is half of that of chat messages.
const JOIN_BURST_MIN: u32 = 20;
/// Burst of wrong passwords for a room from one address, in guesses (contract §12.17).
const GUESS_BURST: u32 = 5;
/// Burst of wrong passwords for a room from all addresses together.
const ROOM_GUESS_BURST: u32 = 60;

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
        join_pace: Pace::new(
            config.message_rate.per_second,
            2 * SECOND,
            (config.message_rate.burst / 2).max(JOIN_BURST_MIN),
        ),
        session_pace: pace(config.session_rate),
        room_pace: pace(config.room_rate),
        guess_paces: chat::GuessPaces {
            address: Pace::new(config.guess_rate, 60 * SECOND, GUESS_BURST),
            room: Pace::new(config.room_guess_rate, 60 * SECOND, ROOM_GUESS_BURST),
        },
        address_connections_max: config.address_connections_max,
        address_sessions_max: config.address_sessions_max,
        sessions_max: config.sessions_max,
        rooms_max: config.rooms_max,
    }
}
