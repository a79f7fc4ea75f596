//! Queries.
//!
//! Owns the read-only view of sessions, rooms, present members and histories. Must not change the
//! domain. The invariant: [`Chat::public_rooms`] gives the same listing as long as
//! [`Chat::listing_revision`] does not change.

use super::history::HistoryEntry;
use super::id::{MessageId, RoomId, SessionId, UserId};
use super::keys::{AttachmentKey, MemberTag, RoomKey, SessionKey, SessionTag};
use super::limits::ROOMS_LISTED_MAX;
use super::name::Name;
use super::sink::Sink;
use super::state::{Chat, Member, Room, Session};
use crate::clock::Wall;
use crate::slots::Slots;

/// The facts about a room that every client with its id may learn.
#[derive(Clone, Copy, Debug)]
pub struct RoomInfo<'a> {
    /// The id.
    pub id: RoomId,
    /// The title, if the room has one.
    pub title: Option<&'a str>,
    /// Whether the room is left out of listings.
    pub is_private: bool,
    /// Whether joining requires a password.
    pub has_password: bool,
    /// The number of present members.
    pub user_count: usize,
    /// When the room was opened.
    pub created: Wall,
}

impl Chat {
    /// The session with this id.
    pub fn session(&self, id: SessionId) -> Option<SessionKey> {
        self.session_ids.get(&id).copied()
    }

    /// The session's name.
    pub fn name(&self, session: SessionKey) -> Option<&Name> {
        self.sessions.get(session).map(|session| &session.name)
    }

    /// The rooms of which the session is a member, in the order of joining.
    pub fn rooms_of(&self, session: SessionKey) -> impl Iterator<Item = RoomId> + Clone {
        let rooms = self.sessions.get(session).map_or(&[][..], |session| &session.rooms);
        rooms.iter().filter_map(|(room, _)| Some(self.feeds.room(*room)?.id))
    }

    /// The room with this id.
    pub fn room(&self, id: RoomId) -> Option<RoomKey> {
        self.room_ids.get(&id).copied()
    }

    /// The id of a room that exists.
    pub fn room_id(&self, room: RoomKey) -> Option<RoomId> {
        self.feeds.room(room).map(|room| room.id)
    }

    /// The newest [`ROOMS_LISTED_MAX`] public rooms, newest first.
    pub fn public_rooms(&self) -> impl Iterator<Item = RoomInfo<'_>> + Clone {
        let newest = self.public_rooms.values().rev().take(ROOMS_LISTED_MAX);
        newest.filter_map(|room| self.room_info(*room))
    }

    /// Changes whenever [`Chat::public_rooms`] may have changed.
    pub fn listing_revision(&self) -> u64 {
        self.listing_revision
    }

    /// The facts about a room that every client with its id may learn.
    pub fn room_info(&self, room: RoomKey) -> Option<RoomInfo<'_>> {
        let room = self.feeds.room(room)?;
        Some(RoomInfo {
            id: room.id,
            title: room.title(),
            is_private: room.id.is_private(),
            has_password: room.lock.is_some(),
            user_count: room.present.len(),
            created: room.created,
        })
    }

    /// The present members, in the order of their arrival.
    pub fn users(&self, room: RoomKey) -> impl Iterator<Item = (UserId, &str)> {
        let room = self.feeds.room(room).into_iter();
        room.flat_map(|room| users(room, &self.members, &self.sessions))
    }

    /// The room in which the connection is, or which it waits to enter.
    pub fn room_of(&self, attachment: AttachmentKey) -> Option<RoomKey> {
        self.feeds.attachments.get(attachment).map(|attachment| attachment.room)
    }

    /// The number of connections that receive the room's events.
    pub fn connection_count(&self, room: RoomKey) -> usize {
        self.feeds.recipients(room).len()
    }

    /// The last `count` messages of a room, oldest first. Seals the room's batch, so that the
    /// frames can be read.
    pub fn history<'a>(
        &'a self,
        room: RoomKey,
        count: usize,
        sink: &mut dyn Sink,
    ) -> impl Iterator<Item = &'a HistoryEntry> + use<'a> {
        self.feeds.seal(room, sink);
        self.feeds.history(room).into_iter().flat_map(move |history| history.last(count))
    }

    /// If `id` is in the history: the messages after it, oldest first, and true. Otherwise, or if
    /// the client's id is malformed (`None`): all kept messages, and false. Seals the room's batch.
    pub fn history_after<'a>(
        &'a self,
        room: RoomKey,
        id: Option<MessageId>,
        sink: &mut dyn Sink,
    ) -> (impl Iterator<Item = &'a HistoryEntry> + use<'a>, bool) {
        self.feeds.seal(room, sink);
        let history = self.feeds.history(room);
        let known = id.filter(|id| history.is_some_and(|history| history.get(*id).is_some()));
        (history.into_iter().flat_map(move |history| history.after(known)), known.is_some())
    }

    /// The number of sessions.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The number of rooms.
    pub fn room_count(&self) -> usize {
        self.feeds.room_count()
    }

    /// The number of members of all rooms together.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// The number of armed timers.
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }
}

/// The present members of a room, in the order of their arrival.
pub(super) fn users<'a>(
    room: &Room,
    members: &'a Slots<Member, MemberTag>,
    sessions: &'a Slots<Session, SessionTag>,
) -> impl Iterator<Item = (UserId, &'a str)> {
    room.present.values().filter_map(|member| {
        let member = members.get(*member)?;
        Some((member.user_id, sessions.get(member.session)?.name.as_str()))
    })
}
