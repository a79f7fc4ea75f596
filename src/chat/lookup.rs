//! Queries.
//!
//! Owns the read-only view of sessions, rooms, present members and histories. Must not change the
//! domain. The invariant: [`Chat::public_rooms`] gives the same listing as long as
//! [`Chat::listing_revision`] does not change.

use super::event::RoomInfo;
use super::id::{MessageId, RoomId, SessionId, UserId};
use super::kept::MessageCopies;
use super::keys::{AttachmentKey, MemberTag, RoomKey, SessionKey, SessionTag};
use super::limits::ROOMS_LISTED_MAX;
use super::name::Name;
use super::state::{Chat, Member, Room, Session};
use super::store::Store;
use crate::slots::Slots;

/// A request for a part of a history, which is read in steps.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    room: RoomKey,
    /// Messages up to this one have been read, or precede the part.
    cursor: Option<MessageId>,
    /// The newest message when the reading began. Later ones are not part of it.
    until: Option<MessageId>,
    /// The most messages that are still to be read.
    left: usize,
    /// As in a connection that is catching up.
    gaps: u32,
    is_complete: bool,
}

impl Reading {
    /// Whether everything was read.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Whether nothing is missing after the message with which the client resumes.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The room.
    pub fn room(&self) -> RoomKey {
        self.room
    }
}

/// The extent of what a [`Reading`] has still to read.
#[derive(Clone, Copy, Default, Debug)]
pub struct Extent {
    /// The number of messages.
    pub messages: usize,
    /// Bytes of all their encoded events.
    pub event_bytes: usize,
    /// By how many bytes the events grow at most if texts are deleted before they are read.
    pub growth: usize,
}

impl Chat {
    /// The session with this id.
    pub fn session(&self, id: SessionId) -> Option<SessionKey> {
        self.session_index.candidates(id).find_map(|index| {
            let key = self.sessions.key_at(index)?;
            (self.sessions.get(key)?.id == id).then_some(key)
        })
    }

    /// The session's name.
    pub fn name(&self, session: SessionKey) -> Option<&Name> {
        self.sessions.get(session).map(|session| &session.name)
    }

    /// The rooms of which the session is a member, in the order of joining.
    pub fn rooms_of(&self, session: SessionKey) -> Vec<RoomId> {
        let rooms = self.sessions.get(session).map_or(&[][..], |session| &session.rooms);
        let rooms = rooms.iter().filter_map(|(room, _)| self.feeds.room(*room));
        rooms.filter(|room| !room.is_closing).map(|room| room.id).collect()
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
        let newest = self.public_rooms.iter().rev().take(ROOMS_LISTED_MAX);
        let newest =
            newest.filter_map(|entry| self.room_info(self.feeds.key_at(*entry as u32 as usize)?));
        #[cfg(feature = "cluster")]
        let newest = newest.chain(self.listed_elsewhere());
        newest
    }

    /// Changes whenever [`Chat::public_rooms`] may have changed.
    pub fn listing_revision(&self) -> u64 {
        #[cfg(feature = "cluster")]
        if let Some(mirror) = &self.mirror {
            return mirror.listing_revision;
        }
        self.listing_revision
    }

    /// The facts about a room that every client with its id may learn.
    pub fn room_info(&self, room: RoomKey) -> Option<RoomInfo<'_>> {
        self.feeds.room(room).map(info)
    }

    /// All rooms have lower indices for [`Chat::room_usage`].
    pub fn room_index_end(&self) -> usize {
        self.feeds.end()
    }

    /// The room at an index, unless there is none: what is known of it, how many messages of it are
    /// kept, and the bytes that it and they take.
    pub fn room_usage(&self, index: usize) -> Option<(RoomInfo<'_>, usize, usize)> {
        let key = self.feeds.key_at(index)?;
        let room = self.feeds.room(key).filter(|room| !room.is_closing)?;
        let (messages, bytes) = self.feeds.usage(key);
        Some((info(room), messages, bytes + size_of::<Room>() + room.heap_bytes()))
    }

    /// The owner, as members see it. It need not be a member.
    pub fn owner(&self, room: RoomKey) -> Option<UserId> {
        #[cfg(feature = "cluster")]
        if let Some(mirror) = &self.mirror {
            return mirror.owners.get(&room).copied();
        }
        let (owner, _) = self.feeds.room(room)?.owner?;
        self.user_id(owner, room)
    }

    /// Whether all chats of a room are envelopes.
    pub fn is_encrypted(&self, room: RoomKey) -> bool {
        let rules = self.feeds.room(room).and_then(|room| room.rules.as_deref());
        rules.is_some_and(|rules| rules.is_encrypted)
    }

    /// The present members, in the order of their arrival.
    pub fn users(&self, room: RoomKey) -> Vec<(UserId, &str)> {
        let room = self.feeds.room(room);
        room.map_or_else(Vec::new, |room| users(room, &self.members, &self.sessions))
    }

    /// The room in which the connection is, or which it waits to enter, unless it has ended.
    pub fn room_of(&self, attachment: AttachmentKey) -> Option<RoomKey> {
        let room = self.feeds.attachments.get(attachment)?.room;
        (!self.has_ended(room)).then_some(room)
    }

    /// The number of connections that receive the room's events.
    pub fn connection_count(&self, room: RoomKey) -> usize {
        self.feeds.recipients(room).len()
    }

    /// The last `count` messages of a room, oldest first.
    pub fn history(&self, room: RoomKey, count: usize) -> Reading {
        let history = self.feeds.history(room);
        let cursor = history.and_then(|history| history.before_last(self.store(), count));
        self.reading(room, cursor, count, true)
    }

    /// If `id` is in the history: up to `count` messages after it, oldest first; complete if none
    /// after it was dropped. Otherwise, or if the client's id is malformed (`None`): from the oldest
    /// kept message on, and not complete.
    pub fn history_after(&self, room: RoomKey, id: Option<MessageId>, count: usize) -> Reading {
        let Some(history) = self.feeds.history(room) else {
            return self.reading(room, None, 0, false);
        };
        match id.filter(|id| history.has(self.store(), *id)) {
            Some(id) => self.reading(room, Some(id), count, history.is_complete_after(id)),
            None => self.reading(room, history.floor(), count, false),
        }
    }

    fn reading(
        &self,
        room: RoomKey,
        cursor: Option<MessageId>,
        count: usize,
        is_complete: bool,
    ) -> Reading {
        let history = self.feeds.history(room);
        let until = history.and_then(|history| history.newest());
        let gaps = history.map_or(0, |history| history.gaps());
        Reading { room, cursor, until, left: count, gaps, is_complete }
    }

    /// Copies the next messages of a reading, with about `bytes_max` bytes when encoded, but at least
    /// one. `None`: a message that has not been read yet is no longer kept.
    pub fn read_on(&self, reading: &mut Reading, bytes_max: usize) -> Option<MessageCopies> {
        let (history, store) = (self.feeds.history(reading.room)?, self.store());
        let room_id = self.feeds.room(reading.room).filter(|room| !room.is_closing)?.id;
        let has_gap = reading.gaps != history.gaps() && history.dropped() > reading.cursor;
        if has_gap || history.floor() > reading.cursor {
            return None;
        }
        reading.gaps = history.gaps();
        let (mut copies, mut bytes) = (MessageCopies::of(room_id), 0);
        let mut place = history.after(store, reading.cursor);
        while let Some(at) = place.filter(|_| reading.left > 0) {
            let id = Some(history.id(store, at));
            let event_bytes = history.event_bytes(store, at);
            if id > reading.until || !copies.is_empty() && bytes + event_bytes > bytes_max {
                break;
            }
            history.copy(store, at, &mut copies);
            (bytes, reading.cursor) = (bytes + event_bytes, id);
            reading.left -= 1;
            place = history.next(store, at);
        }
        let is_over = place.is_none_or(|at| Some(history.id(store, at)) > reading.until);
        if is_over {
            reading.left = 0;
        }
        Some(copies)
    }

    /// How much the reading will give, unless messages are dropped meanwhile. `deletion_bytes`: what an
    /// event has in addition if its text is deleted.
    pub fn extent(&self, reading: &Reading, deletion_bytes: usize) -> Extent {
        let (Some(history), store) = (self.feeds.history(reading.room), self.store()) else {
            return Extent::default();
        };
        let first = history.after(store, reading.cursor);
        let places = std::iter::successors(first, |place| history.next(store, *place));
        let mut extent = Extent::default();
        for place in places.take(reading.left) {
            extent.messages += 1;
            extent.event_bytes += history.event_bytes(store, place);
            let text_bytes = history.text_bytes(store, place);
            extent.growth += text_bytes.map_or(0, |bytes| deletion_bytes.saturating_sub(bytes));
        }
        extent
    }

    fn store(&self) -> &Store {
        &self.feeds.archive().store
    }

    /// The number of sessions.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The number of rooms.
    pub fn room_count(&self) -> usize {
        self.room_ids.len()
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

pub(super) fn info(room: &Room) -> RoomInfo<'_> {
    let rules = room.rules.as_deref();
    RoomInfo {
        id: room.id,
        title: room.title(),
        is_private: !room.is_listed(),
        has_password: room.password().is_some(),
        is_locked: room.is_locked(),
        slow_mode: room.slow_mode(),
        is_encrypted: rules.is_some_and(|rules| rules.is_encrypted),
        user_count: room.roster.present_count(),
        created: room.created,
        expires: rules.and_then(|rules| Some(rules.expiry?.wall)),
    }
}

/// The present members of a room, in the order of their arrival.
pub(super) fn users<'a>(
    room: &Room,
    members: &'a Slots<Member, MemberTag>,
    sessions: &'a Slots<Session, SessionTag>,
) -> Vec<(UserId, &'a str)> {
    let present = room.roster.present(|key| members.get(key)?.arrival);
    let present = present.filter_map(|member| {
        let member = members.get(member)?;
        Some((member.user_id, sessions.get(member.session)?.name.as_str()))
    });
    present.collect()
}
