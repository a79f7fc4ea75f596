//! The owner's rules for a room: its title, lock, password, slow mode and end, and who the owner is.
//!
//! Owns [`Chat::change_room`] and what depends on the rules without being access: slow mode and the
//! end of a room's time. Must not know by which route a request arrived; `membership` asks the rules
//! for access. The invariant: whenever what [`RoomInfo`](super::RoomInfo) says about a room changes,
//! or its owner, everyone in the room is sent it as it is then, once for each command.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use super::error::{CloseReason, Refusal};
use super::event::Event;
use super::id::UserId;
use super::keys::{AttachmentKey, RoomKey, SessionKey};
use super::lookup;
use super::name::Title;
use super::password::Lock;
use super::sink::Sink;
use super::state::{Chat, Room, Rules};
use crate::clock::{Mono, Now};

/// What an owner changes in a room. `None`: it stays as it is.
#[derive(Default)]
pub struct RoomChanges<'a> {
    /// The inner `None`: no title.
    pub title: Option<Option<Title>>,
    /// Whether sessions that are neither members nor the owner have no access.
    pub locked: Option<bool>,
    /// Each member but the owner may chat once in so many seconds; 0: at any time.
    pub slow_mode: Option<u16>,
    /// The inner `None`: no password. The caller has checked the length, as for
    /// [`RoomOptions`](super::RoomOptions).
    pub password: Option<Option<Cow<'a, str>>>,
    /// The person that owns the room from now on. The inner `None`: a value that is no user id.
    pub owner: Option<Option<UserId>>,
}

impl Chat {
    /// Changes a room for its owner, and tells everyone in it unless nothing changes.
    pub fn change_room(
        &mut self,
        now: Now,
        session: SessionKey,
        room: Option<RoomKey>,
        changes: RoomChanges<'_>,
        sink: &mut dyn Sink,
    ) -> Result<RoomKey, Refusal> {
        let key = self.owned_room(session, room)?;
        let heir = match changes.owner {
            None => None,
            Some(user_id) => {
                let heir = self.present_session(key, user_id, sink);
                Some(heir.ok_or(Refusal::UserNotFound)?)
            }
        };
        self.pace_command(now, session)?;
        let Some(room) = self.feeds.room_mut(key) else { return Err(Refusal::RoomNotFound) };
        let mut is_changed = false;
        if let Some(title) = changes.title.filter(|title| *title != room.title) {
            room.title = title;
            is_changed = true;
        }
        if let Some(is_locked) = changes.locked.filter(|locked| room.is_locked() != *locked) {
            room.rules_mut().is_locked = is_locked;
            is_changed = true;
        }
        if let Some(slow_mode) = changes.slow_mode.filter(|seconds| room.slow_mode() != *seconds) {
            room.rules_mut().set_slow_mode(slow_mode, now.mono);
            is_changed = true;
        }
        if let Some(password) = changes.password {
            is_changed |= self.set_password(key, password.as_deref());
        }
        if let Some(heir) = heir.filter(|heir| *heir != session) {
            self.give_up_room(key);
            self.make_owner(key, heir);
            is_changed = true;
        }
        if is_changed {
            self.recount_room(key);
            self.announce_room(key, sink);
        }
        self.recount();
        Ok(key)
    }

    /// The room, if the session owns it.
    pub(super) fn owned_room(
        &self,
        session: SessionKey,
        room: Option<RoomKey>,
    ) -> Result<RoomKey, Refusal> {
        let key = room.ok_or(Refusal::RoomNotFound)?;
        let room = self.feeds.room(key).ok_or(Refusal::RoomNotFound)?;
        if room.is_owned_by(session) { Ok(key) } else { Err(Refusal::NotTheOwner) }
    }

    /// Counts a command of an owner against the rate of its session's messages.
    pub(super) fn pace_command(&mut self, now: Now, session: SessionKey) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(session) else { return Ok(()) };
        let taken = self.config.message_pace.take(&mut session.messages, now.mono);
        taken.map_err(Refusal::RateLimited)
    }

    /// The session of a person that is present in a room.
    fn present_session(
        &self,
        room: RoomKey,
        user_id: Option<UserId>,
        sink: &mut dyn Sink,
    ) -> Option<SessionKey> {
        let member = self.members.get(self.member_with(room, user_id, sink)?)?;
        member.arrival.map(|_| member.session)
    }

    /// Gives a room a password or takes it away. False if it has this password already, or none.
    fn set_password(&mut self, key: RoomKey, password: Option<&str>) -> bool {
        let Some(room) = self.feeds.room_mut(key) else { return false };
        let Some(password) = password else {
            let before = room.rules.as_mut().and_then(|rules| rules.password.take());
            if before.is_some() {
                self.forget_guesses_in(key);
            }
            return before.is_some();
        };
        if room.password().is_some_and(|lock| lock.opens(password)) {
            return false;
        }
        if room.is_listed() {
            self.public_rooms.remove(&Room::ordered_entry(room.number, key.index()));
        }
        let rules = room.rules_mut();
        rules.is_unlisted = true;
        match &mut rules.password {
            Some(lock) => lock.change(password, &mut *self.entropy),
            None => rules.password = Some(Lock::new(password, &mut *self.entropy)),
        }
        true
    }

    /// Takes a room away from its owner.
    pub(super) fn give_up_room(&mut self, key: RoomKey) {
        let owner = self.feeds.room_mut(key).and_then(|room| room.owner.take());
        if let Some((owner, place)) = owner {
            self.disown(owner, place);
        }
    }

    /// Gives a room that has no owner to the member that has been present longest. If no member is
    /// present, the next that arrives will be the owner.
    pub(super) fn pass_on(&mut self, key: RoomKey, sink: &mut dyn Sink) {
        let Some(room) = self.feeds.room(key) else { return };
        let next = room.roster.present(|key| self.members.get(key)?.arrival).next();
        let next = next.and_then(|member| self.members.get(member));
        if let Some(next) = next.map(|member| member.session) {
            self.make_owner(key, next);
        }
        self.announce_room(key, sink);
    }

    /// Makes a session that arrives in a room its owner if there is none. The caller announces it.
    pub(super) fn inherit(&mut self, key: RoomKey, session: SessionKey) -> bool {
        let is_ownerless = self.feeds.room(key).is_some_and(|room| room.owner.is_none());
        if is_ownerless {
            self.make_owner(key, session);
        }
        is_ownerless
    }

    /// Tells everyone in a room what it is like now.
    pub(super) fn announce_room(&mut self, key: RoomKey, sink: &mut dyn Sink) {
        self.listing_revision += 1;
        let owner = self.owner(key);
        let Some(room) = self.feeds.room_mut(key).filter(|room| !room.is_closing) else { return };
        room.changes = room.changes.wrapping_add(1);
        // A session that ends may have owned thousands of empty rooms.
        let Some(room) = self.feeds.room(key).filter(|_| !self.feeds.recipients(key).is_empty())
        else {
            return;
        };
        let event = Event::RoomChanged { room: lookup::info(room), owner };
        self.feeds.deliver_unkept(key, &event, sink);
    }

    /// Tells one connection what its room is like now.
    pub(super) fn repeat_room(&self, key: AttachmentKey, sink: &mut dyn Sink) {
        let Some(attachment) = self.feeds.attachments.get(key) else { return };
        let Some(room) = self.feeds.room(attachment.room) else { return };
        let owner = self.owner(attachment.room);
        let event = Event::RoomChanged { room: lookup::info(room), owner };
        sink.push(attachment.conn, &event);
    }

    /// Counts a chat of a session in a room with slow mode.
    pub(super) fn pace_slow_mode(
        &mut self,
        now: Now,
        key: RoomKey,
        session: SessionKey,
        user_id: UserId,
    ) -> Result<(), Refusal> {
        let Some(room) = self.feeds.room_mut(key) else { return Ok(()) };
        if room.slow_mode() == 0 || room.is_owned_by(session) {
            return Ok(());
        }
        let paced = room.rules_mut().chat(user_id, now.mono);
        self.recount_room(key);
        paced.map_err(Refusal::RateLimited)
    }

    /// Ends a room whose time is over. False: there is none.
    pub(super) fn end_expired_room(&mut self, now: Now, sink: &mut dyn Sink) -> bool {
        let Some(entry) = self.expiries.first().copied() else { return false };
        if Mono::from_micros((entry >> 32) as u64) > now.mono {
            return false;
        }
        self.expiries.remove(&entry);
        if let Some(key) = self.feeds.key_at(entry as u32 as usize) {
            if let Some(room) = self.feeds.room_mut(key) {
                room.rules_mut().has_expired = true;
            }
            self.end_room(now, key, sink);
        }
        true
    }

    /// Why connections are closed that are in a room that has ended.
    pub(super) fn end_reason(&self, room: RoomKey) -> CloseReason {
        #[cfg(feature = "cluster")]
        if let Some(reason) = self.mirrored_end(room) {
            return reason;
        }
        let rules = self.feeds.room(room).and_then(|room| room.rules.as_deref());
        match rules.is_some_and(|rules| rules.has_expired) {
            true => CloseReason::RoomExpired,
            false => CloseReason::RoomDeleted,
        }
    }

    /// The entry in [`Chat::expiries`] of a room that has a ttl.
    pub(super) fn expiry_entry(room: &Room, index: usize) -> Option<u128> {
        let expiry = room.rules.as_ref()?.expiry?;
        Some(Room::ordered_entry(expiry.mono.micros(), index))
    }
}

impl Rules {
    /// A member that has to wait still has to, for the new time from its last chat on.
    fn set_slow_mode(&mut self, seconds: u16, now: Mono) {
        self.forget_chats(now);
        self.slow_mode = seconds;
        if seconds == 0 {
            self.chats = BTreeSet::new();
        }
    }

    /// Counts a chat, or returns how long the person has to wait.
    fn chat(&mut self, user_id: UserId, now: Mono) -> Result<(), Duration> {
        let pause = Duration::from_secs(self.slow_mode.into());
        let entry = |mono: Mono| u128::from(user_id.0) << 64 | u128::from(mono.micros());
        let last = self.chats.range(entry(Mono::ZERO)..=entry(now)).next().copied();
        if let Some(last) = last {
            let wait = Mono::from_micros(last as u64).after(pause).since(now);
            if !wait.is_zero() {
                return Err(wait);
            }
            self.chats.remove(&last);
        }
        if self.chats_forgotten.after(pause) <= now {
            self.forget_chats(now);
        }
        self.chats.insert(entry(now));
        Ok(())
    }

    /// Forgets the chats that are so long ago that they count no more.
    fn forget_chats(&mut self, now: Mono) {
        let pause = Duration::from_secs(self.slow_mode.into());
        for chat in std::mem::take(&mut self.chats) {
            if Mono::from_micros(chat as u64).after(pause) > now {
                self.chats.insert(chat);
            }
        }
        self.chats_forgotten = now;
    }
}
