//! The people of mirrored rooms, and their connections here.
//!
//! Owns who is present in a mirrored room, which of them have connections here, and which of these are
//! being probed. Must not know why a connection is let in or ends: that was decided elsewhere. The
//! invariant: a person is kept while it is present or connected, as a session with one membership, and
//! each connection that ends is told to the store once, as a [`MirrorExit`].

use super::{MirrorAdmission, PersonHere, indexed, indices};
use crate::chat::catch_up::Start;
use crate::chat::error::{CloseReason, Departure, Refusal};
use crate::chat::event::Message;
use crate::chat::feed::{Attachment, AttachmentState};
use crate::chat::id::{RoomId, SessionId, UserId, keyed_hash};
use crate::chat::keys::{AttachmentKey, MemberKey, RoomKey, SessionKey};
use crate::chat::name::{Name, UserName};
use crate::chat::posting::Draft;
use crate::chat::roster::Arrival;
use crate::chat::sink::Sink;
use crate::chat::state::{Chat, Member, MirrorExit, Session};
use crate::clock::Now;

impl Chat {
    /// The member of a person, present or only connected.
    pub(super) fn person(&self, room: RoomKey, user_id: UserId) -> Option<MemberKey> {
        indices(&self.mirror.as_ref()?.people, user_id.0).find_map(|index| {
            let key = self.members.key_at(index)?;
            self.members.get(key).filter(|member| member.room == room)?;
            Some(key)
        })
    }

    fn add_person(
        &mut self,
        room: RoomKey,
        user_id: UserId,
        user: UserName<'_>,
    ) -> Option<MemberKey> {
        // The store has the names that a server of this version has taken.
        let name = Name::restored(user.as_str()).unwrap_or(Name::BLANK);
        let session = self.sessions.insert(Session::new(SessionId::BLANK, name));
        let key = self.insert_member(session, room, user_id)?;
        if let Some(mirror) = &mut self.mirror {
            mirror.people.insert(indexed(user_id.0, key.index()));
        }
        Some(key)
    }

    /// Makes a person present, if it is not.
    pub(super) fn arrive(&mut self, room: RoomKey, user_id: UserId, user: UserName<'_>) {
        let known = self.person(room, user_id);
        if let Some(key) = known.or_else(|| self.add_person(room, user_id, user)) {
            let is_arrival = self.register(key, Arrival::after(self.arrivals));
            self.arrivals += u64::from(is_arrival);
            self.recount();
        }
    }

    /// Ends a person's presence.
    pub(super) fn part(&mut self, room: RoomKey, user_id: UserId) {
        let Some(key) = self.person(room, user_id) else { return };
        if self.members.get(key).is_some_and(|member| member.arrival.is_some()) {
            self.unregister(key);
        }
        self.forget_absent(key);
        self.recount();
    }

    /// Removes a person that is neither present nor connected.
    fn forget_absent(&mut self, key: MemberKey) {
        let is_absent = |member: &Member| member.arrival.is_none() && member.connections == 0;
        if self.members.get(key).is_some_and(is_absent) {
            self.forget_member(key);
        }
    }

    /// Removes what a mirror has of a member that has been removed.
    pub(in crate::chat) fn forget_person(&mut self, key: MemberKey, member: &Member) {
        let Some(mirror) = &mut self.mirror else { return };
        mirror.people.remove(&indexed(member.user_id.0, key.index()));
        mirror.end_probe(key);
        self.set_session_id(member.session, None);
        if let Some(session) = self.sessions.get_mut(member.session) {
            session.blank();
        }
        if let Some(session) = self.sessions.remove(member.session) {
            self.session_heap_tally.change(session.counted, 0);
        }
    }

    /// The persons with connections here in a room.
    pub fn people_here(&self, room: RoomKey) -> impl Iterator<Item = PersonHere<'_>> {
        let members = self.feeds.room(room).map_or(&[][..], |room| room.roster.members());
        let members = members.iter().filter_map(|key| self.members.get(*key));
        members.filter(|member| member.connections > 0).filter_map(|member| self.here(member))
    }

    /// The person that a connection belongs to.
    pub fn person_of(&self, attachment: AttachmentKey) -> Option<PersonHere<'_>> {
        self.here(self.members.get(self.member_of(attachment)?)?)
    }

    fn here(&self, member: &Member) -> Option<PersonHere<'_>> {
        let session = self.sessions.get(member.session)?;
        Some(PersonHere {
            room: self.room_id(member.room)?,
            user_id: member.user_id,
            name: &session.name,
            session: session.id,
            is_present: member.arrival.is_some(),
        })
    }

    // ---- Connections

    /// Puts a connection into a room that has let it in, and begins to send it what it is to receive.
    /// The person is present from now on; that it has arrived, if it has, is told by [`Chat::apply`],
    /// which has to follow. Earlier messages, such as the departure of an earlier holder of the name,
    /// have been applied. `None`: the room is not mirrored, or the person has too many connections.
    pub fn admit_mirrored(
        &mut self,
        now: Now,
        room: RoomKey,
        admission: MirrorAdmission<'_>,
        sink: &mut dyn Sink,
    ) -> Option<AttachmentKey> {
        let MirrorAdmission { conn, user_id, user, session, start, inherits } = admission;
        let room_id = self.room_id(room).filter(|_| self.is_open(room))?;
        let known = self.person(room, user_id).and_then(|key| self.members.get(key));
        if known.is_some_and(|member| member.connections == u8::MAX) {
            return None;
        }
        self.arrive(room, user_id, user);
        let member_key = self.person(room, user_id)?;
        let member = self.members.get_mut(member_key)?;
        member.connections += 1;
        let person = member.session;
        if let (Some(mirror), true) = (&mut self.mirror, inherits) {
            mirror.set_owner(room, Some(user_id));
        }
        self.set_session_id(person, Some(session));
        let state = AttachmentState::Waiting { holder: None, entrance: None };
        let key = self.feeds.attachments.insert(Attachment { conn, session: person, room, state });
        if let Some(session) = self.sessions.get_mut(person) {
            session.attachments.push(key);
        }
        self.recount_session(person);
        self.feeds.place(key, member_key, sink);
        self.note_sign_of_life(member_key);
        sink.admit(conn);
        if start == Start::Welcome {
            sink.welcome(conn, room_id, user_id);
        }
        self.feeds.begin_catch_up(key, start, sink);
        self.catch_up(now, key, sink);
        self.recount();
        Some(key)
    }

    /// Sets the id of a person's session; `None`: it has no connection here.
    fn set_session_id(&mut self, key: SessionKey, id: Option<SessionId>) {
        let hash = |id: SessionId| keyed_hash(&self.user_id_secret, [id.as_bytes(), &[]]);
        let (Some(session), Some(mirror)) = (self.sessions.get_mut(key), &mut self.mirror) else {
            return;
        };
        if session.id != SessionId::BLANK {
            mirror.here.remove(&indexed(hash(session.id), key.index()));
        }
        if let Some(id) = id {
            mirror.here.insert(indexed(hash(id), key.index()));
        }
        session.id = id.unwrap_or(SessionId::BLANK);
    }

    /// [`Chat::exit`] in a mirror. `attachment` has been detached.
    pub(in crate::chat) fn exit_mirrored(
        &mut self,
        key: AttachmentKey,
        attachment: &Attachment,
        departure: Departure,
    ) {
        if let Some(session) = self.sessions.get_mut(attachment.session) {
            session.attachments.retain(|other| *other != key);
        }
        self.recount_session(attachment.session);
        let Some(member_key) = attachment.member() else { return };
        let Some(member) = self.members.get_mut(member_key) else { return };
        member.connections -= 1;
        let (is_last_here, user_id) = (member.connections == 0, member.user_id);
        let (session, room) = (self.sessions.get(attachment.session), attachment.room);
        let ended = self.mirrored_end(room);
        let is_decided =
            ended.is_some_and(|reason| reason.is_end() || reason == CloseReason::RoomNotFound);
        let exit = session.zip(self.room_id(room)).map(|(session, room_id)| {
            // The room may be mirrored again while an earlier mirror of it ends.
            let again = self.room(room_id).filter(|again| *again != room);
            let is_back = |again| !self.attachments_in(again, user_id).is_empty();
            let is_used = |again| self.connection_count(again) > 0;
            MirrorExit {
                room: room_id,
                user_id,
                session: session.id,
                departure: if ended.is_some() && !is_decided {
                    Departure::Broken
                } else {
                    departure
                },
                is_last_of_person: is_last_here && !again.is_some_and(is_back),
                is_last_of_room: self.connection_count(room) == 0 && !again.is_some_and(is_used),
                is_decided,
            }
        });
        if let Some(mirror) = &mut self.mirror {
            mirror.exits.extend(exit);
            if is_last_here {
                mirror.end_probe(member_key);
            }
        }
        if is_last_here {
            self.set_session_id(attachment.session, None);
            self.forget_absent(member_key);
        }
        self.recount();
    }

    /// The connections that have ended since the last call, in the order of their ends.
    pub fn take_exits(&mut self) -> Vec<MirrorExit> {
        let exits = self.mirror.as_mut().map(|mirror| std::mem::take(&mut mirror.exits));
        let exits = exits.unwrap_or_default();
        if !exits.is_empty() {
            self.recount();
        }
        exits
    }

    /// Closes the connections of a person in a room, because that was decided elsewhere, and returns how
    /// many there were.
    pub fn close_person(
        &mut self,
        now: Now,
        room: RoomKey,
        user_id: UserId,
        reason: CloseReason,
        sink: &mut dyn Sink,
    ) -> usize {
        let attachments = self.attachments_in(room, user_id);
        self.close_decided(now, attachments, reason, sink)
    }

    /// The same for all connections of a session, which has ended.
    pub fn close_session(&mut self, now: Now, session: SessionId, sink: &mut dyn Sink) -> usize {
        let attachments = self.connections_of(session);
        self.close_decided(now, attachments, CloseReason::InvalidSession, sink)
    }

    fn close_decided(
        &mut self,
        now: Now,
        attachments: Vec<AttachmentKey>,
        reason: CloseReason,
        sink: &mut dyn Sink,
    ) -> usize {
        let earlier = self.mirror.as_ref().map_or(0, |mirror| mirror.exits.len());
        let count = attachments.len();
        attachments.into_iter().for_each(|key| self.close(now, key, reason, sink));
        let exits = self.mirror.as_mut().map(|mirror| mirror.exits.iter_mut().skip(earlier));
        exits.into_iter().flatten().for_each(|exit| exit.is_decided = true);
        count
    }

    /// The connections of a person in a room.
    pub fn attachments_in(&self, room: RoomKey, user_id: UserId) -> Vec<AttachmentKey> {
        self.person(room, user_id).map_or_else(Vec::new, |key| self.attachments_of(key))
    }

    /// The connections of a session, in all rooms.
    pub fn connections_of(&self, session: SessionId) -> Vec<AttachmentKey> {
        let hash = keyed_hash(&self.user_id_secret, [session.as_bytes(), &[]]);
        let here = self.mirror.iter().flat_map(|mirror| indices(&mirror.here, hash));
        let here = here.filter_map(|index| self.sessions.get(self.sessions.key_at(index)?));
        let here = here.filter(|person| person.id == session);
        here.flat_map(|person| person.attachments.iter().copied()).collect()
    }

    /// The sessions with connections here, and how many each has.
    pub fn sessions_here(&self) -> Vec<(SessionId, usize)> {
        let mut counts: Vec<(SessionId, usize)> = Vec::new();
        let here = self.mirror.iter().flat_map(|mirror| mirror.here.iter());
        for index in here.map(|entry| *entry as u32 as usize) {
            let person = self.sessions.key_at(index).and_then(|key| self.sessions.get(key));
            let Some(person) = person else { continue };
            // The entries of one session are in a row, because it has one hash.
            match counts.last_mut().filter(|(id, _)| *id == person.id) {
                Some((_, count)) => *count += person.attachments.len(),
                None => counts.push((person.id, person.attachments.len())),
            }
        }
        counts
    }

    /// Checks a message of a connection by the rules of its room, and returns it with the person that
    /// sends it. `None`: the connection is in no room any more.
    pub fn draft_for<'a>(
        &self,
        attachment: AttachmentKey,
        text: &'a str,
        nonce: Option<&'a str>,
    ) -> Result<Option<(PersonHere<'_>, Draft<'a>)>, Refusal> {
        let (Some(person), Some(room)) = (self.person_of(attachment), self.room_of(attachment))
        else {
            return Ok(None);
        };
        let draft = self.draft(room, text, nonce)?;
        if self.is_silent { Err(Refusal::RoomNotFound) } else { Ok(Some((person, draft))) }
    }

    /// Sends a message whose nonce is known to one connection again, unless the connection is catching
    /// up and will be sent it anyway. The message need not be kept here.
    pub fn repeat_mirrored(
        &self,
        attachment: AttachmentKey,
        message: &Message<'_>,
        sink: &mut dyn Sink,
    ) {
        if self.member_of(attachment).is_some() {
            self.feeds.repeat_message(attachment, message, sink);
        }
    }

    // ---- Probes

    /// Another session wants a person's name: pings the person's connections. When one of them sends
    /// something, [`Chat::take_alive`] has the person. False: it has no connection here.
    pub fn ping_person(&mut self, room: RoomKey, user_id: UserId, sink: &mut dyn Sink) -> bool {
        let Some(key) = self.person(room, user_id).filter(|_| self.is_open(room)) else {
            return false;
        };
        let attachments = self.attachments_of(key);
        for attachment in &attachments {
            if let Some(attachment) = self.feeds.attachments.get(*attachment) {
                sink.ping(attachment.conn);
            }
        }
        if let Some(mirror) = self.mirror.as_mut().filter(|_| !attachments.is_empty()) {
            if !mirror.probed.contains(&key) {
                mirror.probed.push(key);
            }
        }
        self.recount();
        !attachments.is_empty()
    }

    /// Whether a connection of the person counts as alive although its peer sends nothing: see
    /// [`Sink::is_alive`]. To be asked shortly before the probe ends.
    pub fn is_person_alive(&self, room: RoomKey, user_id: UserId, sink: &mut dyn Sink) -> bool {
        let attachments = self.attachments_in(room, user_id);
        let mut connections = attachments.iter().filter_map(|key| self.feeds.attachments.get(*key));
        connections.any(|attachment| sink.is_alive(attachment.conn))
    }

    /// The persons that were pinged and have sent something since the last call.
    pub fn take_alive(&mut self) -> Vec<(RoomId, UserId)> {
        let alive = self.mirror.as_mut().map(|mirror| std::mem::take(&mut mirror.alive));
        let alive = alive.unwrap_or_default();
        if !alive.is_empty() {
            self.recount();
        }
        alive
    }

    pub(in crate::chat) fn is_probed_elsewhere(&self) -> bool {
        self.mirror.as_ref().is_some_and(|mirror| !mirror.probed.is_empty())
    }

    pub(in crate::chat) fn note_sign_of_life(&mut self, key: MemberKey) {
        let Some(mirror) = self.mirror.as_mut().filter(|mirror| mirror.probed.contains(&key))
        else {
            return;
        };
        mirror.end_probe(key);
        let person = self.members.get(key).map(|member| (member.room, member.user_id));
        let person = person.and_then(|(room, user_id)| Some((self.room_id(room)?, user_id)));
        if let Some(mirror) = &mut self.mirror {
            mirror.alive.extend(person);
        }
        self.recount();
    }
}
