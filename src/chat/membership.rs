//! Access to rooms, and the beginning and end of membership.
//!
//! Owns [`Chat::gate`], the check before a session joins, reads or enters a room or posts to it
//! from outside. Must not know by which route or socket a request arrived. The invariant: a wrong
//! id and a room that has ended take the same path, so that an answer does not reveal whether a
//! room has existed.

use super::address::Address;
use super::bans::HashedAddress;
use super::error::{CloseReason, Refusal};
use super::id::{UserId, keyed_hash};
use super::keys::{MemberKey, RoomKey, SessionKey};
use super::limits::SESSION_ROOMS_MAX;
use super::sink::Sink;
use super::state::{Chat, Member, present_facts};
use super::timer::ChatTimer;
use crate::clock::Now;
use crate::ledger::Pressure;

/// The kind of access that a session requests.
#[derive(Clone, Copy)]
pub enum Access<'a> {
    /// Becoming a member.
    Join {
        /// The password, if one was given.
        password: Option<&'a str>,
    },
    /// Reading messages and users, or opening a socket.
    Read,
    /// Posting without a connection in the room.
    Post,
}

impl Chat {
    /// Checks whether a session has access to a room, as members always do: first the bans, then
    /// whether the room is locked, then the password. `room`: the room with the requested id; `None`:
    /// no room has it. `from`: the address of the peer, against which a wrong password counts; all
    /// exempt peers share `None`.
    pub fn gate(
        &mut self,
        now: Now,
        session: SessionKey,
        room: Option<RoomKey>,
        access: Access<'_>,
        from: Option<Address>,
    ) -> Result<RoomKey, Refusal> {
        let key = room.ok_or(Refusal::RoomNotFound)?;
        let room = self.feeds.room(key).ok_or(Refusal::RoomNotFound)?;
        if self.sessions.get(session).is_some_and(|session| session.member_in(key).is_some()) {
            return Ok(key);
        }
        if let Access::Post = access {
            return Err(Refusal::NotAMember);
        }
        if room.rules.is_some() {
            // Before the password, so that nothing can be guessed meanwhile.
            self.check_barriers(now, session, key, self.hashed(from, key))?;
        }
        let rules = self.feeds.room_mut(key).and_then(|room| room.rules.as_deref_mut());
        match (access, rules.and_then(|rules| rules.password.as_mut())) {
            (Access::Read, Some(_)) | (Access::Post, _) => Err(Refusal::NotAMember),
            (Access::Read | Access::Join { .. }, None) => Ok(key),
            (Access::Join { password: None }, Some(_)) => Err(Refusal::BadPassword),
            (Access::Join { password: Some(password) }, Some(lock)) => {
                let mut meter = self.guesses.meter(key, from);
                let opened = lock.try_open(now.mono, password, &mut meter, self.config.guess_paces);
                if opened == Err(Refusal::BadPassword) {
                    let pace = self.config.guess_paces.address;
                    self.guesses.remember(key, from, meter, pace, now.mono);
                    self.time_guesses(now);
                }
                opened.map(|()| key)
            }
        }
    }

    /// Whether the bans and the lock of a room let a session in that is no member.
    fn check_barriers(
        &self,
        now: Now,
        session: SessionKey,
        key: RoomKey,
        address: HashedAddress,
    ) -> Result<(), Refusal> {
        let room = self.feeds.room(key).ok_or(Refusal::RoomNotFound)?;
        let Some(rules) = room.rules.as_deref().filter(|_| !room.is_owned_by(session)) else {
            return Ok(());
        };
        let user_id = self.user_id(session, key);
        if user_id.is_some_and(|user_id| rules.bans.apply_to(user_id, address, now.mono)) {
            return Err(Refusal::Banned);
        }
        if rules.is_locked { Err(Refusal::RoomLocked) } else { Ok(()) }
    }

    /// Arms the timer of the guesses if there are any.
    fn time_guesses(&mut self, now: Now) {
        if let (None, Some(deadline)) = (self.guesses.timer, self.guesses.next_deadline()) {
            let remaining = deadline.since(now.mono);
            let timer = self.timers.arm_within(ChatTimer::Guesses, now.mono, remaining);
            self.guesses.timer = Some(timer);
        }
        self.recount();
    }

    /// Forgets the guesses whose time has come.
    pub(super) fn forget_guesses(&mut self, now: Now) {
        self.guesses.timer = None;
        self.guesses.forget(now.mono);
        self.time_guesses(now);
    }

    /// Forgets the guesses in a room that has ended.
    pub(super) fn forget_guesses_in(&mut self, room: RoomKey) {
        self.guesses.forget_room(room);
        if self.guesses.len() == 0 {
            self.guesses.timer.take().map(|timer| self.timers.cancel(timer));
        }
    }

    /// Makes the session a member of a room; the caller has passed [`Chat::gate`]. For a session that is
    /// a member already, only its address changes.
    pub fn join(
        &mut self,
        session: SessionKey,
        room: RoomKey,
        from: Option<Address>,
    ) -> Result<(), Refusal> {
        if self.feeds.room(room).is_none() {
            return Err(Refusal::RoomNotFound);
        }
        let Some(joining) = self.sessions.get(session) else { return Ok(()) };
        if let Some(member) = joining.member_in(room) {
            self.set_address(member, self.hashed(from, room));
            return Ok(());
        }
        if self.joined(joining) >= SESSION_ROOMS_MAX {
            return Err(Refusal::TooManyRooms);
        }
        if self.ledger.is_at(Pressure::Connections) {
            return Err(Refusal::ServerFull);
        }
        if let Some(member) = self.member(session, room) {
            self.set_address(member, self.hashed(from, room));
        }
        self.recount();
        Ok(())
    }

    /// A member has joined or connected from this address.
    pub(super) fn set_address(&mut self, member: MemberKey, address: HashedAddress) {
        if let Some(member) = self.members.get_mut(member) {
            member.address = address;
        }
    }

    /// Ends the session's membership: closes its connections in the room and, if it was present,
    /// announces that it has left.
    pub fn leave(&mut self, now: Now, session: SessionKey, room: RoomKey, sink: &mut dyn Sink) {
        let Some(leaving) = self.sessions.get(session) else { return };
        // Selected by room, not by member: a waiting connection's session may not be a member yet.
        for attachment in leaving.attachments.clone() {
            if self.room_of(attachment) == Some(room) {
                self.close(now, attachment, CloseReason::LeftRoom, sink);
            }
        }
        if let Some(member) = self.sessions.get(session).and_then(|s| s.member_in(room)) {
            self.remove_member(now, member, sink);
        }
        self.recount();
    }

    /// The session's membership in the room. Adds one if there is none.
    pub(super) fn member(&mut self, session: SessionKey, room: RoomKey) -> Option<MemberKey> {
        if let Some(member) = self.sessions.get(session)?.member_in(room) {
            return Some(member);
        }
        let user_id = self.user_id(session, room)?;
        self.insert_member(session, room, user_id)
    }

    /// Adds a membership to a session that has none in the room.
    pub(super) fn insert_member(
        &mut self,
        session: SessionKey,
        room: RoomKey,
        user_id: UserId,
    ) -> Option<MemberKey> {
        let joined = self.feeds.room_mut(room)?;
        let member = self.members.insert(Member {
            session,
            room,
            user_id,
            place: 0,
            connections: 0,
            arrival: None,
            pending: None,
            share: None,
            typing_due: 0,
            address: HashedAddress::default(),
        });
        let (members, sessions) = (&self.members, &self.sessions);
        let place = joined.roster.join(member, |key| present_facts(members, sessions, key));
        self.members.get_mut(member)?.place = place;
        self.sessions.get_mut(session)?.rooms.push((room, member));
        self.recount_room(room);
        self.recount_session(session);
        Some(member)
    }

    /// Ends a membership. The caller has closed its connections.
    pub(super) fn remove_member(&mut self, now: Now, key: MemberKey, sink: &mut dyn Sink) {
        self.depart(now, key, sink);
        self.forget_member(key);
    }

    /// Removes a member that is neither present nor connected.
    pub(super) fn forget_member(&mut self, key: MemberKey) {
        let Some(member) = self.members.remove(key) else { return };
        if let Some(session) = self.sessions.get_mut(member.session) {
            session.rooms.retain(|(_, joined)| *joined != key);
        }
        if let Some(room) = self.feeds.room_mut(member.room) {
            let moved = room.roster.leave(member.place);
            if let Some(moved) = moved.and_then(|moved| self.members.get_mut(moved)) {
                moved.place = member.place;
            }
        }
        self.recount_room(member.room);
        self.recount_session(member.session);
        #[cfg(feature = "cluster")]
        self.forget_person(key, &member);
    }

    /// A session's user id in a room. It stays the same if the session leaves and joins again.
    /// Without the secret, a user id cannot be linked to the session or to the session's ids in
    /// other rooms.
    pub fn user_id(&self, session: SessionKey, room: RoomKey) -> Option<UserId> {
        let (session, room) = (self.sessions.get(session)?.id, self.feeds.room(room)?.id);
        Some(UserId(keyed_hash(&self.user_id_secret, [session.as_bytes(), room.as_bytes()])))
    }

    pub(super) fn check_members(&self) {
        let mut count = 0;
        for (key, room) in self.feeds.rooms() {
            count += room.roster.members().len();
            room.roster.check(|key| self.present_facts(key));
            for (place, member) in room.roster.members().iter().enumerate() {
                let member = self.members.get(*member).expect("a room's members exist");
                agree!((member.room, member.place as usize), (key, place));
                holds!(self.sessions.get(member.session).is_some(), "a member's session exists");
            }
        }
        agree!(count, self.members.len(), "every member is in a room's list");
        for (key, session) in self.sessions.iter() {
            for (room, member) in &session.rooms {
                let member = self.members.get(*member).expect("a session's memberships exist");
                agree!((member.session, member.room), (key, *room));
            }
            for attachment in &session.attachments {
                let attachment =
                    self.feeds.attachments.get(*attachment).expect("a session's attachments exist");
                agree!(attachment.session, key);
            }
        }
    }
}
