//! What requests ask of the domain, and the outcome, as values.
//!
//! Owns [`Command`], [`Outcome`] and [`Chat::run`]. Must not contain a rule: each command is one
//! method of the domain. The invariant: a command names sessions, rooms and people by their ids,
//! never by a key, so that it can be carried out later or elsewhere.

use std::borrow::Cow;

use super::address::Address;
use super::error::Refusal;
use super::event::{Message, RoomInfo};
use super::id::{MessageId, RoomId, SessionId, UserId};
use super::kept::MessageCopies;
use super::keys::{RoomKey, SessionKey};
use super::lifecycle::RoomOptions;
use super::lookup::Reading;
use super::membership::Access;
use super::moderation::{BanInfo, BanRequest};
use super::name::Name;
use super::posting::Draft;
use super::ruling::RoomChanges;
use super::sink::Sink;
use super::state::Chat;
use crate::clock::Now;

/// A request to the domain. `from`: the address that it counts against; `None`: an exempt peer. A
/// room of `None` is one that no room's id can name.
pub enum Command<'a> {
    /// Counts sessions and rooms: [`Outcome::Counts`].
    Count,
    /// [`Outcome::Listing`].
    ListRooms,
    /// [`Outcome::Room`].
    ShowRoom { room: Option<RoomId> },
    /// [`Outcome::SessionOpened`].
    OpenSession { name: Name, from: Option<Address> },
    /// [`Outcome::SessionEnded`], also if there is no such session.
    EndSession(SessionId),
    /// The operator lists all rooms, of a cluster.
    #[cfg(feature = "cluster")]
    ListAllRooms,
    /// The operator deletes a room: [`Outcome::RoomDeleted`].
    DeleteAnyRoom { room: Option<RoomId> },
    /// The operator removes a person: [`Outcome::Removed`].
    RemoveAnyUser { room: Option<RoomId>, user_id: Option<UserId>, ban: Option<BanRequest> },
    /// A command of a session, whose ttl begins anew. [`Refusal::NoSession`] if there is none.
    Of(SessionId, SessionCommand<'a>),
}

/// A command of a session that exists.
pub enum SessionCommand<'a> {
    /// Only restarts the ttl: [`Outcome::Session`].
    Touch,
    /// [`Outcome::SessionShown`].
    ShowSession,
    /// The rooms that the session has joined: [`Outcome::Rooms`].
    ListJoined,
    /// [`Outcome::RoomOpened`].
    OpenRoom { options: RoomOptions<'a>, from: Option<Address> },
    /// [`Outcome::Room`].
    ChangeRoom { room: Option<RoomId>, changes: RoomChanges<'a> },
    /// [`Outcome::RoomDeleted`].
    DeleteRoom { room: Option<RoomId> },
    /// [`Outcome::Joined`].
    Join { room: Option<RoomId>, password: Option<Cow<'a, str>>, from: Option<Address> },
    /// [`Outcome::Left`], also if the session is no member or there is no such room.
    Leave { room: Option<RoomId> },
    /// The last `limit` messages, or with `after` the first ones after it: [`Outcome::Messages`]. The
    /// inner `None`: an id that no message has.
    ReadMessages {
        room: Option<RoomId>,
        after: Option<Option<MessageId>>,
        limit: usize,
        from: Option<Address>,
    },
    /// [`Outcome::Posted`].
    Post { room: Option<RoomId>, text: Cow<'a, str>, nonce: Option<Cow<'a, str>> },
    /// [`Outcome::MessageDeleted`]. `event_bytes` gives the length of a message's event.
    DeleteMessage {
        room: Option<RoomId>,
        message: Option<MessageId>,
        event_bytes: fn(&Message<'_>) -> usize,
    },
    /// [`Outcome::People`].
    ListPeople { room: Option<RoomId>, from: Option<Address> },
    /// Tells the room that the session's member is typing: [`Outcome::Typed`].
    Type { room: Option<RoomId> },
    /// [`Outcome::Removed`].
    RemoveUser { room: Option<RoomId>, user_id: Option<UserId>, ban: Option<BanRequest> },
    /// [`Outcome::Bans`].
    ListBans { room: Option<RoomId> },
    /// [`Outcome::BanLifted`].
    LiftBan { room: Option<RoomId>, user_id: Option<UserId> },
    /// Asks for access to a room's events: [`Outcome::Access`].
    Watch { room: Option<RoomId>, from: Option<Address> },
}

#[cfg(feature = "cluster")]
impl SessionCommand<'_> {
    /// Bytes of the texts of a message.
    pub fn text_bytes(&self) -> usize {
        match self {
            SessionCommand::Post { text, nonce, .. } => {
                text.len() + nonce.as_ref().map_or(0, |nonce| nonce.len())
            }
            _ => 0,
        }
    }

    /// The command with texts of its own, for an outcome that comes later.
    pub fn into_owned(self) -> SessionCommand<'static> {
        fn own(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        match self {
            SessionCommand::Touch => SessionCommand::Touch,
            SessionCommand::ShowSession => SessionCommand::ShowSession,
            SessionCommand::ListJoined => SessionCommand::ListJoined,
            SessionCommand::OpenRoom { options, from } => {
                let password = options.password.map(own);
                let RoomOptions { title, private, ttl, slow_mode, encrypted, .. } = options;
                let options = RoomOptions { title, private, password, ttl, slow_mode, encrypted };
                SessionCommand::OpenRoom { options, from }
            }
            SessionCommand::ChangeRoom { room, changes } => {
                let password = changes.password.map(|password| password.map(own));
                let RoomChanges { title, locked, slow_mode, owner, .. } = changes;
                let changes = RoomChanges { title, locked, slow_mode, password, owner };
                SessionCommand::ChangeRoom { room, changes }
            }
            SessionCommand::DeleteRoom { room } => SessionCommand::DeleteRoom { room },
            SessionCommand::Join { room, password, from } => {
                SessionCommand::Join { room, password: password.map(own), from }
            }
            SessionCommand::Leave { room } => SessionCommand::Leave { room },
            SessionCommand::ReadMessages { room, after, limit, from } => {
                SessionCommand::ReadMessages { room, after, limit, from }
            }
            SessionCommand::Post { room, text, nonce } => {
                SessionCommand::Post { room, text: own(text), nonce: nonce.map(own) }
            }
            SessionCommand::DeleteMessage { room, message, event_bytes } => {
                SessionCommand::DeleteMessage { room, message, event_bytes }
            }
            SessionCommand::ListPeople { room, from } => SessionCommand::ListPeople { room, from },
            SessionCommand::Type { room } => SessionCommand::Type { room },
            SessionCommand::RemoveUser { room, user_id, ban } => {
                SessionCommand::RemoveUser { room, user_id, ban }
            }
            SessionCommand::ListBans { room } => SessionCommand::ListBans { room },
            SessionCommand::LiftBan { room, user_id } => SessionCommand::LiftBan { room, user_id },
            SessionCommand::Watch { room, from } => SessionCommand::Watch { room, from },
        }
    }
}

/// What a command led to.
pub enum Outcome<'a> {
    Counts {
        sessions: usize,
        rooms: usize,
    },
    /// The public rooms: [`Chat::public_rooms`].
    Listing(&'a Chat),
    Room(RoomInfo<'a>),
    SessionOpened {
        id: SessionId,
        name: Name,
    },
    SessionEnded,
    Session,
    SessionShown {
        id: SessionId,
        name: &'a str,
        rooms: Vec<RoomId>,
    },
    Rooms(Vec<RoomId>),
    RoomOpened {
        room: RoomId,
        user_id: Option<UserId>,
    },
    RoomDeleted,
    Joined {
        user_id: Option<UserId>,
    },
    Left,
    /// `reading` reads from `chat`.
    Messages {
        chat: &'a Chat,
        reading: Reading,
    },
    /// A copy of the message. It is an earlier one, with the same nonce, if it is not new.
    Posted {
        room: RoomKey,
        message: MessageCopies,
        is_new: bool,
    },
    MessageDeleted,
    People(Vec<(UserId, &'a str)>),
    Typed,
    /// Whether the person's address is banned, if the command asked for it.
    Removed {
        address: Option<bool>,
    },
    /// The oldest first.
    Bans(Vec<BanInfo<'a>>),
    BanLifted,
    Access {
        session: SessionId,
        room: RoomId,
    },
}

impl Chat {
    /// Carries out a command, at once.
    pub fn run(
        &mut self,
        now: Now,
        command: Command<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Outcome<'_>, Refusal> {
        Ok(match command {
            Command::Count => {
                Outcome::Counts { sessions: self.session_count(), rooms: self.room_count() }
            }
            Command::ListRooms => Outcome::Listing(self),
            Command::ShowRoom { room } => self.shown(self.named(&room))?,
            Command::OpenSession { name, from } => {
                let id = self.open_session(now, name.clone(), from, sink)?;
                Outcome::SessionOpened { id, name }
            }
            Command::EndSession(id) => {
                if let Some(session) = self.session(id) {
                    self.end_session(now, session, sink);
                }
                Outcome::SessionEnded
            }
            #[cfg(feature = "cluster")]
            Command::ListAllRooms => return Err(Refusal::RoomNotFound), // Read from the domain as it is.
            Command::DeleteAnyRoom { room } => {
                self.delete_any_room(now, self.named(&room), sink)?;
                Outcome::RoomDeleted
            }
            Command::RemoveAnyUser { room, user_id, ban } => {
                let room = self.named(&room);
                let has_address = self.remove_user(now, None, room, user_id, ban, sink)?;
                let asked = ban.is_some_and(|ban| ban.address);
                Outcome::Removed { address: asked.then_some(has_address) }
            }
            Command::Of(id, mut command) => {
                let session = self.session(id).ok_or(Refusal::NoSession)?;
                self.touch(now, session);
                return self.run_of(now, (id, session), &mut command, sink);
            }
        })
    }

    /// The command is passed by reference, so that its texts are dropped in one place.
    fn run_of(
        &mut self,
        now: Now,
        (id, session): (SessionId, SessionKey),
        command: &mut SessionCommand<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Outcome<'_>, Refusal> {
        Ok(match command {
            SessionCommand::Touch => Outcome::Session,
            SessionCommand::ShowSession => {
                let name = self.name(session).map_or("", Name::as_str);
                Outcome::SessionShown { id, name, rooms: self.rooms_of(session) }
            }
            SessionCommand::ListJoined => Outcome::Rooms(self.rooms_of(session)),
            SessionCommand::OpenRoom { options, from } => {
                let room = self.open_room(now, session, std::mem::take(options), *from, sink)?;
                let key = self.room(room);
                let user_id = key.and_then(|key| self.user_id(session, key));
                Outcome::RoomOpened { room, user_id }
            }
            SessionCommand::ChangeRoom { room, changes } => {
                let room = self.named(room);
                let room = self.change_room(now, session, room, std::mem::take(changes), sink)?;
                self.shown(Some(room))?
            }
            SessionCommand::DeleteRoom { room } => {
                self.delete_room(now, session, self.named(room), sink)?;
                Outcome::RoomDeleted
            }
            SessionCommand::Join { room, password, from } => {
                let access = Access::Join { password: password.as_deref() };
                let room = self.gate(now, session, self.named(room), access, *from)?;
                self.join(session, room, *from)?;
                Outcome::Joined { user_id: self.user_id(session, room) }
            }
            SessionCommand::Leave { room } => {
                if let Some(room) = self.named(room) {
                    self.leave(now, session, room, sink);
                }
                Outcome::Left
            }
            SessionCommand::ReadMessages { room, after, limit, from } => {
                let room = self.gate(now, session, self.named(room), Access::Read, *from)?;
                let reading = match after {
                    None => self.history(room, *limit),
                    Some(id) => self.history_after(room, *id, *limit),
                };
                Outcome::Messages { chat: self, reading }
            }
            SessionCommand::Post { room, text, nonce } => {
                let (room, nonce) = (self.named(room), nonce.as_deref());
                // A bad message is refused before an unknown room.
                let draft = match room {
                    Some(room) => self.draft(room, text, nonce)?,
                    None => Draft::new(text, nonce)?,
                };
                let room = self.gate(now, session, room, Access::Post, None)?;
                let (message, is_new) = self.post_from_outside(now, session, room, draft, sink)?;
                Outcome::Posted { room, message, is_new }
            }
            SessionCommand::DeleteMessage { room, message, event_bytes } => {
                self.delete_message(now, session, self.named(room), *message, *event_bytes, sink)?;
                Outcome::MessageDeleted
            }
            SessionCommand::ListPeople { room, from } => {
                let room = self.gate(now, session, self.named(room), Access::Read, *from)?;
                let people = self.users(room);
                sink.on_listed(people.len());
                Outcome::People(people)
            }
            SessionCommand::Type { room } => {
                let room = self.gate(now, session, self.named(room), Access::Post, None)?;
                self.typing_from_outside(now, session, room, sink)?;
                Outcome::Typed
            }
            SessionCommand::RemoveUser { room, user_id, ban } => {
                let room = self.named(room);
                let own = room.and_then(|room| self.user_id(session, room));
                if user_id.is_some() && own == *user_id {
                    return Err(Refusal::RemovesItself);
                }
                let by = Some(session);
                let has_address = self.remove_user(now, by, room, *user_id, *ban, sink)?;
                let asked = ban.is_some_and(|ban| ban.address);
                Outcome::Removed { address: asked.then_some(has_address) }
            }
            SessionCommand::ListBans { room } => {
                Outcome::Bans(self.bans(now, session, self.named(room))?)
            }
            SessionCommand::LiftBan { room, user_id } => {
                self.lift_ban(now, session, self.named(room), *user_id)?;
                Outcome::BanLifted
            }
            SessionCommand::Watch { room, from } => {
                self.gate(now, session, self.named(room), Access::Read, *from)?;
                Outcome::Access { session: id, room: room.ok_or(Refusal::RoomNotFound)? }
            }
        })
    }

    #[inline(never)] // It would be inlined fifteen times.
    fn named(&self, room: &Option<RoomId>) -> Option<RoomKey> {
        self.room((*room)?)
    }

    fn shown(&self, room: Option<RoomKey>) -> Result<Outcome<'_>, Refusal> {
        let info = room.and_then(|room| self.room_info(room));
        info.map(Outcome::Room).ok_or(Refusal::RoomNotFound)
    }
}
