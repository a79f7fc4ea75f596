//! The events that the domain sends to clients.
//!
//! Owns the events, and [`Frame`], the domain's handle on an encoded event. Must not encode events:
//! `api` does. The invariant: a [`Frame`] is read only after its batch has been sealed.

use std::cell::OnceCell;
use std::rc::Rc;

use bytes::Bytes;

use super::id::{MessageId, RoomId, UserId};
use crate::clock::Wall;

/// Anything sent to everyone in a room.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Has an id and is kept in the history.
    Message(Message<'a>),
    /// A member is typing. Not kept.
    Typing {
        /// The member's name.
        user: &'a str,
        /// The member's user id.
        user_id: UserId,
        /// The room.
        room_id: RoomId,
    },
}

/// An event with an id, which is kept in the history.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The id, by which messages are ordered.
    pub id: MessageId,
    /// What happened.
    pub kind: MessageKind<'a>,
    /// The member's name.
    pub user: &'a str,
    /// The user id of the member that wrote, came or left.
    pub user_id: UserId,
    /// When the domain accepted the message.
    pub wall: Wall,
    /// The room.
    pub room_id: RoomId,
    /// The sender's own identifier for the message.
    pub nonce: Option<&'a str>,
}

/// What a message reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageKind<'a> {
    /// The member wrote this text.
    Chat(&'a str),
    /// The member has become present.
    UserJoined,
    /// The member is no longer present.
    UserLeft,
}

/// A page of history, for one connection that is catching up.
pub struct Page<'a> {
    /// The room.
    pub room_id: RoomId,
    /// The messages' payloads, oldest first.
    pub messages: &'a [Bytes],
    /// Only in the last page.
    pub last: Option<LastPage<'a>>,
}

/// The fields that only the last page has: the room at the time when the page is built.
pub struct LastPage<'a> {
    /// False if the client asked to resume after a message that was not in the history, so that
    /// messages may be missing.
    pub complete: bool,
    /// The receiving session, as others in the room see it.
    pub you: UserId,
    /// Whether the receiving session owns the room.
    pub owner: bool,
    /// The members that are present, by arrival.
    pub users: Vec<(UserId, &'a str)>,
}

/// The size, in bytes, at which a room's batch is sealed. Even if the longest message (4000
/// characters, six bytes each when escaped) is the one that reaches it, the batch fits the smallest
/// outbox, 64 KiB. A larger batch could overflow the outbox of a peer that reads at full speed.
pub const BATCH_BYTES_FULL: u32 = 32 * 1024;

/// An event's encoded bytes: a range of its batch.
///
/// The domain keeps frames and passes them on; it does not look into them. The bytes exist once the
/// batch is sealed, so every reader of a history seals the room's batch first.
#[derive(Clone)]
pub struct Frame {
    batch: Rc<OnceCell<Bytes>>,
    start: u32,
    payload: u32,
    end: u32,
}

// A history holds a thousand of these by default.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Frame>() == 24);

impl Frame {
    /// The frame at `start..end` of the bytes that `batch` will hold. Its payload begins at
    /// `payload`.
    pub fn new(batch: Rc<OnceCell<Bytes>>, start: u32, payload: u32, end: u32) -> Frame {
        debug_assert!(start <= payload && payload <= end);
        Frame { batch, start, payload, end }
    }

    /// Whether the batch has reached [`BATCH_BYTES_FULL`] with this frame.
    pub(super) fn fills_batch(&self) -> bool {
        self.end >= BATCH_BYTES_FULL
    }

    /// Bytes of header and payload.
    pub fn len_bytes(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Header and payload: a complete WebSocket frame.
    pub fn bytes(&self) -> Bytes {
        self.slice(self.start)
    }

    /// The payload: the event as JSON.
    pub fn payload(&self) -> Bytes {
        self.slice(self.payload)
    }

    fn slice(&self, start: u32) -> Bytes {
        let batch = self.batch.get().expect("a batch is sealed before its frames are read");
        batch.slice(start as usize..self.end as usize)
    }
}
