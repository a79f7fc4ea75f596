//! What a command has led to, kept until the event loop answers.
//!
//! Owns the outcomes of commands that the store has carried out. Must not know how an answer looks. The
//! invariant: an outcome that reads a room names it by its key in the mirror, and is told in the tick
//! in which it was made, so that the room is as it was.

use crate::chat::{
    BanInfo, Chat, MessageCopies, MessageId, Name, Outcome, OwnedRoom, Refusal, RoomId, RoomKey,
    SessionId, UserId,
};
use crate::clock::Wall;

/// See [`Outcome`], whose variants these are.
pub enum Settled {
    Counts {
        sessions: usize,
        rooms: usize,
    },
    /// The listing is in the mirror.
    Listing,
    Room(OwnedRoom),
    SessionOpened {
        id: SessionId,
        name: Name,
    },
    SessionEnded,
    Session,
    SessionShown {
        id: SessionId,
        name: Name,
        rooms: Vec<RoomId>,
    },
    Rooms(Vec<RoomId>),
    RoomOpened {
        room: RoomId,
        user_id: UserId,
    },
    RoomDeleted,
    Joined {
        user_id: UserId,
    },
    Left,
    /// All rooms, for the operator: what is known of each, its messages and its bytes.
    Usage(Vec<(OwnedRoom, usize, usize)>),
    /// To be read from the mirror.
    Messages {
        room: RoomKey,
        after: Option<Option<MessageId>>,
        limit: usize,
    },
    Posted {
        room: RoomKey,
        message: MessageCopies,
        is_new: bool,
    },
    MessageDeleted,
    People {
        room: RoomKey,
    },
    Typed,
    Removed {
        address: Option<bool>,
    },
    Bans(Vec<SettledBan>),
    BanLifted,
    Access {
        session: SessionId,
        room: RoomId,
    },
}

/// See [`BanInfo`].
pub struct SettledBan {
    pub(super) user_id: UserId,
    pub(super) user: Box<str>,
    pub(super) until: Wall,
    pub(super) has_address: bool,
}

impl Settled {
    /// The outcome, as the domain of a single server would give it. `chat`: the mirror.
    pub fn outcome<'a>(&'a mut self, chat: &'a Chat) -> Result<Outcome<'a>, Refusal> {
        Ok(match self {
            Settled::Counts { sessions, rooms } => {
                Outcome::Counts { sessions: *sessions, rooms: *rooms }
            }
            Settled::Listing => Outcome::Listing(chat),
            Settled::Room(room) => Outcome::Room(room.info()),
            Settled::SessionOpened { id, name } => {
                Outcome::SessionOpened { id: *id, name: name.clone() }
            }
            Settled::SessionEnded => Outcome::SessionEnded,
            Settled::Session => Outcome::Session,
            Settled::SessionShown { id, name, rooms } => {
                let rooms = std::mem::take(rooms);
                Outcome::SessionShown { id: *id, name: name.as_str(), rooms }
            }
            Settled::Rooms(rooms) => Outcome::Rooms(std::mem::take(rooms)),
            Settled::RoomOpened { room, user_id } => {
                Outcome::RoomOpened { room: *room, user_id: Some(*user_id) }
            }
            Settled::RoomDeleted => Outcome::RoomDeleted,
            Settled::Usage(_) => return Err(Refusal::RoomNotFound), // It has a form of its own.
            Settled::Joined { user_id } => Outcome::Joined { user_id: Some(*user_id) },
            Settled::Left => Outcome::Left,
            Settled::Messages { room, after, limit } => {
                chat.room_info(*room).ok_or(Refusal::RoomNotFound)?;
                let reading = match after {
                    None => chat.history(*room, *limit),
                    Some(id) => chat.history_after(*room, *id, *limit),
                };
                Outcome::Messages { chat, reading }
            }
            Settled::Posted { room, message, is_new } => {
                let message = message.take();
                Outcome::Posted { room: *room, message, is_new: *is_new }
            }
            Settled::MessageDeleted => Outcome::MessageDeleted,
            Settled::People { room } => {
                chat.room_info(*room).ok_or(Refusal::RoomNotFound)?;
                Outcome::People(chat.users(*room))
            }
            Settled::Typed => Outcome::Typed,
            Settled::Removed { address } => Outcome::Removed { address: *address },
            Settled::Bans(bans) => {
                let info = |ban: &'a SettledBan| BanInfo {
                    user_id: ban.user_id,
                    user: &ban.user,
                    until: ban.until,
                    has_address: ban.has_address,
                };
                Outcome::Bans(bans.iter().map(info).collect())
            }
            Settled::BanLifted => Outcome::BanLifted,
            Settled::Access { session, room } => Outcome::Access { session: *session, room: *room },
        })
    }
}
