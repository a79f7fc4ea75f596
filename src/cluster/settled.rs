//! What a command has led to, kept until the event loop answers.
//!
//! Owns the outcomes of commands that the store has carried out, as far as a [`chat::Outcome`] could
//! not be kept: it reads from the mirror, or borrows a text. Must not know how an answer looks. The
//! invariant: an outcome that reads a room names it by its key in the mirror, and is told in the tick
//! in which it was made, so that the room is as it was.
//!
//! [`chat::Outcome`]: Outcome

use super::record;
use super::resp::Reply;
use crate::chat::{Chat, MessageId, Name, Outcome, OwnedRoom, Refusal, RoomId, RoomKey, SessionId};

/// An outcome, or what makes one.
pub enum Settled {
    /// One that borrows nothing.
    Whole(Outcome<'static>),
    /// [`Outcome::Listing`].
    Listing,
    /// [`Outcome::Room`].
    Room(OwnedRoom),
    /// [`Outcome::SessionShown`].
    SessionShown {
        /// The session.
        id: SessionId,
        /// Its name.
        name: Name,
        /// The rooms that it has joined.
        rooms: Vec<RoomId>,
    },
    /// [`Outcome::Messages`]. `after` and `limit`: as in the command.
    Messages {
        /// The room in the mirror.
        room: RoomKey,
        /// The message to begin after.
        after: Option<Option<MessageId>>,
        /// Most messages.
        limit: usize,
    },
    /// [`Outcome::People`].
    People(RoomKey),
    /// [`Outcome::Bans`], as the store has listed them.
    Bans(Vec<Reply>),
    /// All rooms, for the operator: what is known of each, its messages and its bytes. It has a form of
    /// its own.
    Usage(Vec<(OwnedRoom, usize, usize)>),
}

impl Settled {
    /// The outcome, as the domain of a single server would give it. It is taken out, so it is there once.
    /// `chat`: the mirror.
    pub fn outcome<'a>(&'a mut self, chat: &'a Chat) -> Result<Outcome<'a>, Refusal> {
        Ok(match self {
            Settled::Whole(outcome) => std::mem::replace(outcome, Outcome::Session),
            Settled::Listing => Outcome::Listing(chat),
            Settled::Room(room) => Outcome::Room(room.info()),
            Settled::SessionShown { id, name, rooms } => {
                let rooms = std::mem::take(rooms);
                Outcome::SessionShown { id: *id, name: name.as_str(), rooms }
            }
            Settled::Messages { room, after, limit } => {
                chat.room_info(*room).ok_or(Refusal::RoomNotFound)?;
                let reading = match after {
                    None => chat.history(*room, *limit),
                    Some(id) => chat.history_after(*room, *id, *limit),
                };
                Outcome::Messages { chat, reading }
            }
            Settled::People(room) => {
                chat.room_info(*room).ok_or(Refusal::RoomNotFound)?;
                Outcome::People(chat.users(*room))
            }
            Settled::Bans(bans) => Outcome::Bans(record::bans(bans).collect()),
            Settled::Usage(_) => return Err(Refusal::RoomNotFound),
        })
    }
}
