//! Members: sessions that have joined a room.
//!
//! Owns a member's data and the probe for its name. Must not know when a probe begins and how it
//! ends: `presence` decides that. The invariant: a member is present exactly while it has a
//! connection in the room or its grace timer is armed.

use super::id::UserId;
use super::keys::{AttachmentKey, RoomKey, SessionKey};
use crate::clock::Mono;
use crate::timers::TimerKey;

/// A session's membership in a room.
pub(super) struct Member {
    pub session: SessionKey,
    pub room: RoomKey,
    pub user_id: UserId,
    /// The index in [`Room::members`].
    ///
    /// [`Room::members`]: super::room::Room::members
    pub place: u32,
    /// Connections in the room. A member that is present without one is in its grace.
    pub connections: u32,
    /// While present: the key in [`Room::present`].
    ///
    /// [`Room::present`]: super::room::Room::present
    pub arrival: Option<u64>,
    /// Armed while present without a connection.
    pub grace: Option<TimerKey>,
    /// While another session waits for the member's name.
    pub probe: Option<Box<Probe>>,
    /// When the next typing event is passed on.
    pub typing_due: Mono,
}

// See the account in `ledger`.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Member>() == 72);

/// A probe: the member was pinged, because other sessions want its name.
pub(super) struct Probe {
    /// The waiting connections, the first to ask first. A connection that has ended stays listed
    /// under its stale key: searching for it would make the end of many quadratic, and a probe is
    /// short.
    pub waiting: Vec<AttachmentKey>,
    /// How many of `waiting` have not ended, at least 1.
    pub live: usize,
    pub timer: TimerKey,
}
