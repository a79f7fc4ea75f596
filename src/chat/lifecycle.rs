//! The beginning and end of sessions and rooms.
//!
//! Owns the rules for opening and ending sessions and rooms, and the list of rooms that a session owns.
//! Must not know by which route a request arrived. The invariant: a session that has ended leaves
//! no connection, member or ownership behind. A room that has ended keeps its connections and
//! members until [`Chat::end_members`] has removed them; meanwhile no request finds it, and no event
//! is published in it.

use std::borrow::Cow;
use std::time::Duration;

use super::address::{Address, Created, ShareKind};
use super::error::{CloseReason, Refusal};
use super::heap::shrink;
use super::id::{RoomId, SessionId};
use super::keys::{AddressKey, AttachmentKey, MemberKey, RoomKey, SessionKey};
use super::limits::{SESSION_CONNECTIONS_MAX, SESSION_ROOMS_MAX};
use super::name::{Name, Title};
use super::password::Lock;
use super::sink::Sink;
use super::state::{Chat, Room, Rules, Session};
use super::timer::ChatTimer;
use crate::clock::Now;

/// The options of a new room.
#[derive(Default)]
pub struct RoomOptions<'a> {
    /// Visible to every client that knows the room's id.
    pub title: Option<Title>,
    /// The room is not listed, and its id cannot be guessed.
    pub private: bool,
    /// Required for joining; makes the room private. The caller has checked the length: 1 to
    /// [`PASSWORD_BYTES_MAX`] bytes.
    ///
    /// [`PASSWORD_BYTES_MAX`]: super::limits::PASSWORD_BYTES_MAX
    pub password: Option<Cow<'a, str>>,
    /// The room ends after this time at the latest; `None`: only the other lifetimes apply.
    pub ttl: Option<Duration>,
    /// Each member but the owner may chat once in so many seconds; 0: at any time.
    pub slow_mode: u16,
    /// Only clients can read the chats; makes the room private.
    pub encrypted: bool,
}

impl RoomOptions<'_> {
    /// Whether the room's id is a secret, and the room is in no listing.
    pub fn is_private(&self) -> bool {
        self.private || self.encrypted || self.password.is_some()
    }
}

impl Chat {
    /// Opens a session. `from`: the address whose rate and share it counts against; `None`: exempt.
    /// A session of the address gives way to it if the share is used up.
    pub fn open_session(
        &mut self,
        now: Now,
        name: Name,
        from: Option<Address>,
        sink: &mut dyn Sink,
    ) -> Result<SessionId, Refusal> {
        // Checked before `pace_address`, which would add an entry for the address.
        if self.sessions.len() >= self.config.sessions_max || self.is_full() {
            return Err(Refusal::ServerFull);
        }
        // Before the rate is charged, so that a refusal costs nothing.
        let first = self.share(now, from, ShareKind::Sessions)?;
        let pace = self.config.session_pace;
        let creator = self.pace_address(now, from, pace, |usage| &mut usage.session_meter)?;
        let mut id = SessionId::new(&mut *self.entropy);
        while self.session_index.is_taken(id) {
            id = SessionId::new(&mut *self.entropy);
        }
        self.insert_session(id, name, creator, now, Duration::MAX);
        // Last: the address keeps its entry because it has something to count at any time.
        self.give_way(now, first, sink);
        self.recount();
        Ok(id)
    }

    /// Adds a session. Its timer expires after `remaining`, or after [`ChatConfig::session_ttl`] if
    /// that is shorter.
    ///
    /// [`ChatConfig::session_ttl`]: super::config::ChatConfig::session_ttl
    pub(super) fn insert_session(
        &mut self,
        id: SessionId,
        name: Name,
        creator: Option<AddressKey>,
        now: Now,
        remaining: Duration,
    ) -> SessionKey {
        let key = self.sessions.insert(Session { creator, ..Session::new(id, name) });
        if let Some(session) = self.sessions.get_mut(key) {
            session.idle = self.addresses.add(creator, Created::Session(key), now.mono);
            let timer = ChatTimer::SessionUnused(key);
            session.timer = Some(self.timers.arm_within(timer, now.mono, remaining));
            session.recount(&mut self.session_heap_tally);
        }
        self.session_index.insert(id, key);
        key
    }

    /// Restarts the session's ttl. A session with a connection has no timer to restart.
    pub fn touch(&mut self, now: Now, session: SessionKey) {
        let Some(session) = self.sessions.get(session) else { return };
        if let Some(timer) = session.timer {
            self.timers.rearm(timer, now.mono);
            self.addresses.renew_idle(session.creator, ShareKind::Sessions, session.idle);
        }
    }

    /// Ends a session: closes its connections, ends its memberships and gives its rooms new owners.
    pub fn end_session(&mut self, now: Now, session: SessionKey, sink: &mut dyn Sink) {
        if let Some(timer) = self.sessions.get(session).and_then(|session| session.timer) {
            self.timers.cancel(timer);
        }
        self.remove_session(now, session, sink);
    }

    /// Like [`Chat::end_session`], for a session whose timer is no longer armed.
    pub(super) fn remove_session(&mut self, now: Now, key: SessionKey, sink: &mut dyn Sink) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.timer = None;
        let attachments = session.attachments.clone();
        for attachment in attachments {
            self.close(now, attachment, CloseReason::InvalidSession, sink);
        }
        while let Some(&(_, member)) = self.sessions.get(key).and_then(|s| s.rooms.first()) {
            self.remove_member(now, member, sink);
        }
        let owned = self.sessions.get_mut(key).map(|session| std::mem::take(&mut session.owned));
        for room in owned.flatten().into_iter().flat_map(|owned| *owned) {
            if let Some(room) = self.feeds.room_mut(room) {
                room.owner = None;
            }
            self.pass_on(room, sink);
        }
        if let Some(session) = self.sessions.get_mut(key) {
            self.session_index.remove(session.id, key);
            session.blank();
        }
        if let Some(session) = self.sessions.remove(key) {
            // Closing its last connection has armed a new timer.
            session.timer.map(|timer| self.timers.cancel(timer));
            self.session_heap_tally.change(session.counted, 0);
            let (creator, idle) = (session.creator, session.idle);
            self.subtract_from_share(now, creator, Created::Session(key), idle);
        }
        self.recount();
    }

    /// Opens a room and makes the session its owner and a member. `from`: the address whose rate and
    /// share it counts against; `None`: exempt. A room of the address gives way to it if the share
    /// is used up.
    pub fn open_room(
        &mut self,
        now: Now,
        session: SessionKey,
        options: RoomOptions<'_>,
        from: Option<Address>,
        sink: &mut dyn Sink,
    ) -> Result<RoomId, Refusal> {
        if self.sessions.get(session).is_some_and(|s| self.joined(s) >= SESSION_ROOMS_MAX) {
            return Err(Refusal::TooManyRooms);
        }
        // Checked before `pace_address`, which would add an entry for the address.
        if self.room_count() >= self.config.rooms_max || self.is_full() {
            return Err(Refusal::ServerFull);
        }
        let first = self.share(now, from, ShareKind::Rooms)?;
        let pace = self.config.room_pace;
        let creator = self.pace_address(now, from, pace, |usage| &mut usage.room_meter)?;
        let entropy = &mut *self.entropy;
        let make = if options.is_private() { RoomId::new_private } else { RoomId::new_public };
        let mut id = make(entropy);
        while self.room_ids.contains_key(&id) {
            id = make(entropy);
        }
        let RoomOptions { ttl, slow_mode, encrypted, .. } = options;
        let has_rules = options.password.is_some() || ttl.is_some() || slow_mode > 0 || encrypted;
        let rules = has_rules.then(|| {
            Box::new(Rules {
                password: options.password.map(|password| Lock::new(&password, entropy)),
                is_encrypted: encrypted,
                slow_mode,
                expiry: ttl.map(|ttl| now.after(ttl)),
                ..Rules::default()
            })
        });
        let number = self.rooms_opened;
        self.rooms_opened += 1;
        let title = options.title;
        let room = Room { title, rules, creator, ..Room::new(id, number, now.wall) };
        let key = self.insert_room(room, ChatTimer::RoomNew, now, Duration::MAX);
        self.make_owner(key, session);
        if let Some(member) = self.member(session, key) {
            self.set_address(member, self.hashed(from, key));
        }
        self.give_way(now, first, sink);
        self.recount();
        Ok(id)
    }

    /// Adds a room without an owner. Its timer expires after `remaining`, or after the duration of
    /// `timer` if that is shorter.
    pub(super) fn insert_room(
        &mut self,
        room: Room,
        timer: fn(RoomKey) -> ChatTimer,
        now: Now,
        remaining: Duration,
    ) -> RoomKey {
        let key = self.feeds.insert_room(room);
        if let Some(room) = self.feeds.room_mut(key) {
            room.idle = self.addresses.add(room.creator, Created::Room(key), now.mono);
            room.timer = Some(self.timers.arm_within(timer(key), now.mono, remaining));
            room.recount(&mut self.room_heap_tally);
            self.room_ids.insert(room.id, key);
            if room.is_listed() {
                self.public_rooms.insert(Room::ordered_entry(room.number, key.index()));
                self.listing_revision += 1;
            }
            self.expiries.extend(Chat::expiry_entry(room, key.index()));
        }
        key
    }

    /// Deletes a room for its owner. Closes its connections without announcing that members leave.
    pub fn delete_room(
        &mut self,
        now: Now,
        session: SessionKey,
        room: Option<RoomKey>,
        sink: &mut dyn Sink,
    ) -> Result<(), Refusal> {
        let key = self.owned_room(session, room)?;
        self.end_room(now, key, sink);
        Ok(())
    }

    /// Deletes a room for the operator.
    pub fn delete_any_room(
        &mut self,
        now: Now,
        room: Option<RoomKey>,
        sink: &mut dyn Sink,
    ) -> Result<(), Refusal> {
        let key = room.ok_or(Refusal::RoomNotFound)?;
        self.end_room(now, key, sink);
        Ok(())
    }

    /// Ends a room. From now on no request finds it, its history is gone, and nothing more is published
    /// in it. [`Chat::end_members`] does the rest.
    pub(super) fn end_room(&mut self, now: Now, key: RoomKey, sink: &mut dyn Sink) {
        let Some(room) = self.feeds.room_mut(key) else { return };
        room.is_closing = true;
        let (id, entry) = (room.id, Room::ordered_entry(room.number, key.index()));
        let expiry = Chat::expiry_entry(room, key.index());
        let (timer, has_lock) = (room.timer.take(), room.password().is_some());
        let (owner, creator, idle) = (room.owner.take(), room.creator.take(), room.idle.take());
        timer.map(|timer| self.timers.cancel(timer));
        self.feeds.clear_history(key);
        sink.end_room(key);
        self.room_ids.remove(&id);
        shrink(&mut self.room_ids);
        self.public_rooms.remove(&entry);
        expiry.map(|entry| self.expiries.remove(&entry));
        self.listing_revision += 1;
        if let Some((owner, place)) = owner {
            self.disown(owner, place);
        }
        self.subtract_from_share(now, creator, Created::Room(key), idle);
        if has_lock {
            self.forget_guesses_in(key);
        }
        self.ending.push(key);
        self.recount();
    }

    /// Like [`Chat::end_room`], for a room whose timer is no longer armed.
    pub(super) fn on_room_unused(&mut self, now: Now, key: RoomKey, sink: &mut dyn Sink) {
        if let Some(room) = self.feeds.room_mut(key) {
            room.timer = None;
        }
        self.end_room(now, key, sink);
    }

    /// Closes connections and removes members of rooms that have ended, at most `steps_max` together,
    /// and returns how many. The event loop calls this in each tick, because a room may have thousands
    /// of both.
    pub fn end_members(&mut self, now: Now, steps_max: usize, sink: &mut dyn Sink) -> usize {
        let mut steps = 0;
        while let Some(key) = self.ending.last().copied() {
            let room = self.feeds.room(key);
            match room.and_then(|room| room.roster.members().last().copied()) {
                Some(_) if steps == steps_max => break,
                Some(member) => self.end_member(now, key, member, sink),
                None => {
                    self.ending.pop();
                    self.free_room(key, sink);
                    continue;
                }
            }
            steps += 1;
        }
        if self.ending.capacity() > 0 {
            if self.ending.is_empty() {
                self.ending = Vec::new();
            }
            self.recount();
        }
        steps
    }

    /// One step: closes a connection of a member, or one that waits for its name, or else removes the
    /// member. Those that wait come first: closing the holder of their name would admit them.
    fn end_member(&mut self, now: Now, room: RoomKey, key: MemberKey, sink: &mut dyn Sink) {
        let Some(member) = self.members.get_mut(key) else { return };
        let waiting = member.probe_mut().and_then(|probe| probe.waiting.pop());
        match waiting.or_else(|| self.attachments_of(key).pop()) {
            Some(attachment) => self.close(now, attachment, self.end_reason(room), sink),
            None => self.remove_member(now, key, sink),
        }
    }

    /// Frees the place of a room that has ended and has no members.
    fn free_room(&mut self, key: RoomKey, sink: &mut dyn Sink) {
        if let Some(room) = self.feeds.remove_room(key) {
            self.room_heap_tally.change(room.counted, 0);
        }
        sink.free_room(key);
        #[cfg(feature = "cluster")]
        self.forget_mirrored_end(key);
        self.recount();
    }

    /// Whether rooms have ended and still have members.
    pub fn is_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Whether the room has ended.
    #[inline(never)]
    pub(super) fn has_ended(&self, room: RoomKey) -> bool {
        self.is_ending() && self.feeds.room(room).is_none_or(|room| room.is_closing)
    }

    /// The number of rooms of which the session is a member, without those that have ended.
    pub(super) fn joined(&self, session: &Session) -> usize {
        session.rooms.iter().filter(|(room, _)| !self.has_ended(*room)).count()
    }

    /// The number of the session's connections, without those in rooms that have ended.
    pub(super) fn connected(&self, session: &Session) -> usize {
        let has_ended = |key: &&AttachmentKey| {
            let attachment = self.feeds.attachments.get(**key);
            attachment.is_some_and(|attachment| self.has_ended(attachment.room))
        };
        session.attachments.len() - session.attachments.iter().filter(has_ended).count()
    }

    /// Makes a session the owner of a room that has none.
    pub(super) fn make_owner(&mut self, key: RoomKey, session: SessionKey) {
        let (Some(room), Some(owner)) = (self.feeds.room_mut(key), self.sessions.get_mut(session))
        else {
            return;
        };
        let owned = owner.owned.get_or_insert_default();
        room.owner = Some((session, owned.len() as u32));
        owned.push(key);
        self.recount_session(session);
    }

    /// Removes a room that has ended from its owner's list.
    pub(super) fn disown(&mut self, key: SessionKey, place: u32) {
        let Some(owner) = self.sessions.get_mut(key) else { return };
        if let Some(owned) = &mut owner.owned {
            owned.swap_remove(place as usize);
        }
        if owner.owned().is_empty() {
            owner.owned = None;
        }
        let moved = owner.owned().get(place as usize).and_then(|moved| self.feeds.room_mut(*moved));
        if let Some((_, moved)) = moved.and_then(|room| room.owner.as_mut()) {
            *moved = place;
        }
        self.recount_session(key);
    }

    pub(super) fn check_sessions(&self) {
        agree!(self.sessions.len(), self.session_index.len());
        for (key, session) in self.sessions.iter() {
            agree!(self.session(session.id), Some(key));
            let is_unused = session.attachments.is_empty();
            agree!(
                session.timer.is_some(),
                is_unused,
                "a session has a timer exactly while it has no connection"
            );
            holds!(self.joined(session) <= SESSION_ROOMS_MAX);
            holds!(self.connected(session) <= SESSION_CONNECTIONS_MAX);
        }
    }

    pub(super) fn check_rooms(&self) {
        agree!(self.feeds.room_count(), self.room_ids.len() + self.ending.len());
        holds!(self.public_rooms.len() <= self.room_ids.len());
        let (mut owned, mut expiring) = (0, 0);
        for (key, room) in self.feeds.rooms() {
            agree!(room.is_closing, self.ending.contains(&key));
            let is_listed = self.room_ids.get(&room.id) == Some(&key);
            agree!(is_listed, !room.is_closing);
            agree!(
                room.timer.is_none(),
                room.is_closing || !self.feeds.recipients(key).is_empty(),
                "a room has a timer exactly while it has no connection"
            );
            if let Some((owner, place)) = room.owner {
                let owner = self.sessions.get(owner).expect("an owner's session exists");
                agree!(owner.owned().get(place as usize), Some(&key));
                owned += 1;
            }
            if let Some(entry) = Chat::expiry_entry(room, key.index()) {
                agree!(self.expiries.contains(&entry), !room.is_closing);
                expiring += usize::from(!room.is_closing);
            }
        }
        agree!(expiring, self.expiries.len(), "every expiry belongs to a room");
        let all = self.sessions.iter().map(|(_, session)| session.owned().len());
        agree!(owned, all.sum::<usize>(), "every listed room has the session as its owner");
    }
}
