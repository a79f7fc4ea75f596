//! The domain's configuration.
//!
//! Owns the values that flags set. Must not know the flags: `server` translates them. The invariant:
//! the configuration does not change while the process runs.

use std::time::Duration;

use crate::rate::Pace;

/// The domain's configuration. `--help` explains each value.
#[derive(Clone, Copy, Debug)]
pub struct ChatConfig {
    /// A session without connections ends this long after its last use.
    pub session_ttl: Duration,
    /// A room ends this long after its last connection.
    pub room_ttl: Duration,
    /// A new room ends after this time if it has had no connection.
    pub new_room_ttl: Duration,
    /// A member whose last connection broke stays present for this time.
    pub leave_grace: Duration,
    /// A member must respond to a probe within this time.
    pub probe_timeout: Duration,
    /// Messages kept per room.
    pub history_messages_max: usize,
    /// Chat messages of one session.
    pub message_pace: Pace,
    /// Sessions opened from one address.
    pub session_pace: Pace,
    /// Rooms opened from one address.
    pub room_pace: Pace,
    /// Wrong passwords for one room from one address.
    pub guess_pace: Pace,
    /// Connections from one address; `None`: no limit.
    pub address_connections_max: Option<usize>,
    /// Sessions at one time.
    pub sessions_max: usize,
    /// Rooms at one time.
    pub rooms_max: usize,
}
