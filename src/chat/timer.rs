//! The domain's timers.
//!
//! Owns the kinds of timers and their durations. Must not know what happens when one expires:
//! `Chat::sweep` decides that. The invariant: a timer carries the key of its entry, so that a
//! session's timer cannot be armed for a room.

use std::time::Duration;

use super::config::ChatConfig;
use super::keys::{AddressKey, MemberKey, RoomKey, SessionKey};
use crate::timers::Timer;

/// Time between two reviews of an address that holds nothing.
const ADDRESS_REVIEW_INTERVAL: Duration = Duration::from_secs(30);

/// A kind of timer. Each variant states why the timer is armed, and what happens when it expires.
#[derive(Clone, Copy)]
pub(super) enum ChatTimer {
    /// The session is not used and has no connection: it ends.
    SessionUnused(SessionKey),
    /// The room has lost its last connection: it ends.
    RoomEmpty(RoomKey),
    /// The room is new and has had no connection: it ends.
    RoomNew(RoomKey),
    /// The member's last connection broke: the member leaves.
    LeaveGrace(MemberKey),
    /// The member did not answer a ping: its connections are dead.
    Probe(MemberKey),
    /// The address holds nothing: its entry is removed if its meters are idle.
    Address(AddressKey),
    /// The first of the wrong guesses can be forgotten: all of that age are.
    Guesses,
}

/// The class of [`ChatTimer::Probe`].
pub(super) const PROBES: usize = 4;

impl Timer for ChatTimer {
    type Config = ChatConfig;
    fn class(self, config: &ChatConfig) -> (usize, Duration) {
        match self {
            ChatTimer::SessionUnused(_) => (0, config.session_ttl),
            ChatTimer::RoomEmpty(_) => (1, config.room_ttl),
            ChatTimer::RoomNew(_) => (2, config.new_room_ttl),
            ChatTimer::LeaveGrace(_) => (3, config.leave_grace),
            ChatTimer::Probe(_) => (PROBES, config.probe_timeout),
            ChatTimer::Address(_) => (5, ADDRESS_REVIEW_INTERVAL),
            ChatTimer::Guesses => (6, config.guess_paces.address.idle_after()),
        }
    }
}
