//! Rooms that are decided elsewhere: the facts that a cluster's store tells about them.
//!
//! Owns the form of these facts, as borrowed values. Must not know the store, nor how it writes them:
//! `cluster` decodes. The invariant: a fact is applied as it is told; no rule of the chat is asked
//! again.

use super::event::{Message, RoomInfo};
use super::id::{MessagePlace, UserId};
use super::name::UserName;

/// A room as its members see it.
#[derive(Clone, Copy, Debug)]
pub struct RoomFacts<'a> {
    /// What every client with the room's id may learn.
    pub room: RoomInfo<'a>,
    /// Its owner.
    pub owner: Option<UserId>,
}

/// A message that has been appended to a room, with the place of the message before it. A mirror
/// whose newest message has another place has missed something.
#[derive(Clone, Copy, Debug)]
pub struct Appended<'a> {
    /// The place of the room's previous message; the default if this is the first.
    pub after: MessagePlace,
    /// The message.
    pub message: Message<'a>,
}

/// A room at one moment, without the messages that still have their text.
#[derive(Clone, Debug)]
pub struct RoomSnapshot<'a> {
    /// The room itself.
    pub facts: RoomFacts<'a>,
    /// Who is present, in order of arrival.
    pub people: Vec<(UserId, UserName<'a>)>,
    /// The messages that have been deleted ([`ChatDeleted`](super::MessageKind::ChatDeleted)), in
    /// their order.
    pub tombstones: Vec<Message<'a>>,
}
