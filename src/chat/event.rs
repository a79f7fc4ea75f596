//! The events that the domain sends to clients.
//!
//! Owns the events. Must not encode them: `api` does. The invariant: a [`Message`] has everything
//! that its encoding needs, so that a message from the history is encoded as it was when it was new.

use super::id::{MessageId, RoomId, UserId};
use super::name::UserName;
use crate::clock::Wall;
#[cfg(feature = "cluster")]
use crate::ledger::allocation;

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
    /// The room or its owner has changed. Not kept.
    RoomChanged {
        /// The room as it is now.
        room: RoomInfo<'a>,
        /// Its owner.
        owner: Option<UserId>,
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
    pub user: UserName<'a>,
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
    /// The member is no longer present, because it was removed.
    UserRemoved,
    /// The member wrote a text, which has been deleted.
    ChatDeleted,
    /// The member has deleted the text of this message.
    MessageDeleted(MessageId),
}

/// The facts about a room that every client with its id may learn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoomInfo<'a> {
    /// The id.
    pub id: RoomId,
    /// The title, if the room has one.
    pub title: Option<&'a str>,
    /// Whether the room is left out of listings.
    pub is_private: bool,
    /// Whether joining requires a password.
    pub has_password: bool,
    /// Whether only members and the owner have access.
    pub is_locked: bool,
    /// Each member but the owner may chat once in so many seconds; 0: at any time.
    pub slow_mode: u16,
    /// Whether only clients can read the chats.
    pub is_encrypted: bool,
    /// The number of present members.
    pub user_count: usize,
    /// When the room was opened.
    pub created: Wall,
    /// When the room ends at the latest.
    pub expires: Option<Wall>,
}

/// What clients may learn about a room, with a title of its own.
#[cfg(feature = "cluster")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedRoom {
    title: Option<Box<str>>,
    room: RoomInfo<'static>,
}

#[cfg(feature = "cluster")]
impl OwnedRoom {
    /// A copy.
    pub fn of(room: RoomInfo<'_>) -> OwnedRoom {
        OwnedRoom { title: room.title.map(Into::into), room: RoomInfo { title: None, ..room } }
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.title.as_ref().map_or(0, |title| allocation(title.len()))
    }

    /// The room.
    pub fn info(&self) -> RoomInfo<'_> {
        RoomInfo { title: self.title.as_deref(), ..self.room }
    }
}

/// The size, in bytes, at which a room's batch is sealed. Even if the longest message (4000
/// characters, six bytes each when escaped) is the one that reaches it, the batch fits the smallest
/// outbox, 64 KiB. A larger batch could overflow the outbox of a peer that reads at full speed.
pub const BATCH_BYTES_FULL: usize = 32 * 1024;
