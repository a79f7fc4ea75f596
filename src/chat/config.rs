//! The domain's configuration.
//!
//! Owns the values that flags set. Must not know the flags: `server` translates them. The
//! invariant: the configuration does not change while the process runs. The timers rely on constant
//! durations.

use std::time::Duration;

use crate::rate::Pace;

/// The domain's configuration. `--help` explains each value.
#[derive(Clone, Copy, Debug)]
pub struct ChatConfig {
    /// A session without connections ends this long after its last use.
    pub session_ttl: Duration,
    /// A room ends this long after its last connection or, if later, the last post from outside.
    pub room_ttl: Duration,
    /// A room that has never had a connection ends this long after it was opened, or after the last
    /// post from outside.
    pub new_room_ttl: Duration,
    /// A member whose last connection broke stays present this long.
    pub leave_grace: Duration,
    /// A member must respond to a probe within this time.
    pub probe_timeout: Duration,
    /// Most messages in one room's history.
    pub history_messages_max: usize,
    /// The rate of one session's chat messages.
    pub message_pace: Pace,
    /// The rate of one session's announced joins.
    pub join_pace: Pace,
    /// The rate at which one address may open sessions.
    pub session_pace: Pace,
    /// The rate at which one address may open rooms.
    pub room_pace: Pace,
    /// The rates of wrong passwords for one room.
    pub guess_paces: GuessPaces,
    /// Most connections from one address; `None`: no limit.
    pub address_connections_max: Option<usize>,
    /// Most living sessions, and most living rooms, created from one address; `None`: no limit.
    pub address_sessions_max: Option<usize>,
    /// Most sessions at a time.
    pub sessions_max: usize,
    /// Most rooms at a time.
    pub rooms_max: usize,
}

/// The limits on wrong passwords for one room.
#[derive(Clone, Copy, Debug)]
pub struct GuessPaces {
    /// The limit for each address.
    pub address: Pace,
    /// The limit for all addresses together.
    pub room: Pace,
}
