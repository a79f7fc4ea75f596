//! The domain's timers.
//!
//! Owns the reasons for which the domain waits, and how long for each. Must not know what happens
//! when one expires: `Chat::sweep` decides that. The invariant: a timer carries the key of what it
//! is for, so that a session's timer cannot be armed for a room.

use std::time::Duration;

use super::address::Address;
use super::config::ChatConfig;
use super::keys::{MemberKey, RoomKey, SessionKey};
use crate::timers::Timer;

/// The interval at which an address without connections is checked for being forgotten.
const ADDRESS_REVIEW_INTERVAL: Duration = Duration::from_secs(30);

/// What the domain does after a time.
#[derive(Clone, Copy)]
pub(super) enum ChatTimer {
    /// The session has no connection and is not used: it ends.
    SessionUnused(SessionKey),
    /// The room has lost its last connection: it ends.
    RoomEmpty(RoomKey),
    /// The room is new and has had no connection: it ends.
    RoomNew(RoomKey),
    /// The member's last connection broke: the member leaves.
    LeaveGrace(MemberKey),
    /// The member did not answer a ping: its connections are dead.
    Probe(MemberKey),
    /// The address is forgotten if its limits no longer need it.
    Address(Address),
}

impl Timer for ChatTimer {
    type Config = ChatConfig;
    const CLASSES: usize = 6;
    fn class(self, config: &ChatConfig) -> (usize, Duration) {
        match self {
            ChatTimer::SessionUnused(_) => (0, config.session_ttl),
            ChatTimer::RoomEmpty(_) => (1, config.room_ttl),
            ChatTimer::RoomNew(_) => (2, config.new_room_ttl),
            ChatTimer::LeaveGrace(_) => (3, config.leave_grace),
            ChatTimer::Probe(_) => (4, config.probe_timeout),
            ChatTimer::Address(_) => (5, ADDRESS_REVIEW_INTERVAL),
        }
    }
}
