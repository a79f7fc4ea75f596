//! Presence: connections enter and leave rooms, and each present member holds a name in its room.
//!
//! Owns the rules for entering, for the grace after a broken connection and for probes. Must not
//! know more about the end of a connection than [`Departure`] says. The invariant: no two members
//! present in a room have the same name, and each arrival and each departure of a member is
//! announced once; the end of a room is not a departure.

use super::address::{Address, Created, ShareKind};
use super::catch_up::Start;
use super::error::{CloseReason, Departure, Refusal};
use super::event::MessageKind;
use super::feed::{Attachment, AttachmentState, Entrance};
use super::keys::{AttachmentKey, ConnKey, MemberKey, RoomKey, SessionKey};
use super::limits::{SESSION_CONNECTIONS_MAX, SESSION_ROOMS_MAX};
use super::lookup;
use super::membership::Access;
use super::roster::Arrival;
use super::sink::{LastPage, Sink};
use super::state::{Chat, Pending, Probe, present_facts};
use super::timer::{ChatTimer, PROBES};
use crate::clock::Now;

/// A connection that asks to enter a room.
#[derive(Clone, Copy)]
pub struct JoinRequest {
    /// The connection.
    pub conn: ConnKey,
    /// The session; `None`: the credentials are not valid.
    pub session: Option<SessionKey>,
    /// The room; `None`: it does not exist.
    pub room: Option<RoomKey>,
    /// The connection's address is over its limit of connections.
    pub share_exceeded: bool,
    /// The address; `None`: exempt.
    pub from: Option<Address>,
    /// Where the connection begins to receive.
    pub start: Start,
}

/// The result of entering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// The connection is in the room.
    Admitted,
    /// The connection waits for a name. [`Sink::admit`] or [`Sink::close`] will follow; its input
    /// must not be handled before.
    Waiting,
}

/// The close of a connection whose session has no access to the room.
fn without_access(refusal: Refusal) -> CloseReason {
    match refusal {
        Refusal::NotAMember => CloseReason::NotAMember,
        Refusal::RoomLocked => CloseReason::RoomLocked,
        Refusal::Banned => CloseReason::Banned,
        _ => CloseReason::RoomNotFound,
    }
}

impl Chat {
    /// Lets a connection enter a room. The checks come in the order of contract §5.7.
    pub fn enter(
        &mut self,
        now: Now,
        request: JoinRequest,
        sink: &mut dyn Sink,
    ) -> Result<(AttachmentKey, Admission), CloseReason> {
        debug_assert!(!self.is_mirror(), "a mirror decides nothing");
        let session_key = request.session.ok_or(CloseReason::InvalidSession)?;
        if self.sessions.get(session_key).is_none() {
            return Err(CloseReason::InvalidSession);
        }
        let gate = self.gate(now, session_key, request.room, Access::Read, request.from);
        let room_key = gate.map_err(without_access)?;
        let session = self.sessions.get(session_key).ok_or(CloseReason::InvalidSession)?;
        if request.share_exceeded || self.connected(session) >= SESSION_CONNECTIONS_MAX {
            return Err(CloseReason::TooManyConnections);
        }
        if self.joined(session) >= SESSION_ROOMS_MAX && session.member_in(room_key).is_none() {
            return Err(CloseReason::TooManyRooms);
        }
        let mut contested = self.other_holder(session_key, room_key);
        if contested.is_none_or(|holder| !self.is_connected(holder)) {
            self.pace_join(now, session_key, room_key)?;
            if let Some(holder) = contested.take() {
                self.depart(now, holder, sink); // A holder in its grace gives way without a probe.
            }
        }

        let JoinRequest { start, from, .. } = request;
        let is_plain = start == Start::Live && from.is_none();
        let entrance = (!is_plain).then(|| Box::new(Entrance { start, from }));
        let key = self.feeds.attachments.insert(Attachment {
            conn: request.conn,
            session: session_key,
            room: room_key,
            state: AttachmentState::Waiting { holder: None, entrance },
        });
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.attachments.push(key);
            session.timer.take().map(|timer| self.timers.cancel(timer));
            let idle = session.idle.take();
            self.addresses.remove_idle(session.creator, ShareKind::Sessions, idle);
        }
        self.recount_session(session_key);
        let admission = match contested {
            Some(holder) => {
                self.wait_for(now, key, holder, sink);
                Admission::Waiting
            }
            None => {
                self.admit(now, key, sink);
                Admission::Admitted
            }
        };
        self.recount();
        Ok((key, admission))
    }

    /// Whether any probe is under way.
    pub fn is_probing(&self) -> bool {
        #[cfg(feature = "cluster")]
        if self.is_mirror() {
            return self.is_probed_elsewhere();
        }
        self.timers.has(PROBES)
    }

    /// The peer has sent something. It answers the member's probe, if there is one.
    pub fn on_sign_of_life(&mut self, now: Now, attachment: AttachmentKey, sink: &mut dyn Sink) {
        if let Some(member) = self.member_of(attachment) {
            #[cfg(feature = "cluster")]
            self.note_sign_of_life(member);
            self.answer_probe(now, member, sink);
        }
    }

    /// Sends the next page or frames to a connection that is catching up. The event loop calls this
    /// when most of the connection's earlier output has been written.
    pub fn catch_up(&mut self, now: Now, key: AttachmentKey, sink: &mut dyn Sink) {
        let Some(attachment) = self.feeds.attachments.get(key) else { return };
        let Some(member) = attachment.member().and_then(|key| self.members.get(key)) else {
            return;
        };
        let room = self.feeds.room(attachment.room).filter(|room| !room.is_closing);
        let Some(room) = room else { return };
        let (you, owner) = (member.user_id, self.owner(attachment.room));
        let is_owner = owner == Some(you);
        let last = |room, complete| {
            let users = lookup::users(room, &self.members, &self.sessions);
            LastPage { complete, you, is_owner, room: lookup::info(room), owner, users }
        };
        match self.feeds.catch_up(key, (room.id, room.changes), last, sink) {
            Ok(false) => {}
            Ok(true) => self.repeat_room(key, sink),
            Err(reason) => self.close(now, key, reason, sink),
        }
    }

    /// Closes a connection. In a room that has ended, that is the reason.
    pub(super) fn close(
        &mut self,
        now: Now,
        key: AttachmentKey,
        reason: CloseReason,
        sink: &mut dyn Sink,
    ) {
        let Some(attachment) = self.feeds.attachments.get(key) else { return };
        let conn = attachment.conn;
        match self.has_ended(attachment.room) {
            true => sink.close(conn, self.end_reason(attachment.room)),
            false => {
                if attachment.member().is_some() {
                    sink.advance(attachment.room, conn); // Earlier events arrive before the close.
                }
                sink.close(conn, reason);
            }
        }
        let is_removal = reason == CloseReason::Removed;
        self.exit(now, key, if is_removal { Departure::Removed } else { Departure::Closed }, sink);
    }

    /// Ends a member's presence and announces it. Does nothing if the member is not present.
    pub(super) fn depart(&mut self, now: Now, key: MemberKey, sink: &mut dyn Sink) {
        self.depart_as(now, key, MessageKind::UserLeft, sink);
    }

    /// Like [`Chat::depart`], announced by a message of this kind.
    pub(super) fn depart_as(
        &mut self,
        now: Now,
        key: MemberKey,
        kind: MessageKind<'_>,
        sink: &mut dyn Sink,
    ) {
        let Some(member) = self.members.get_mut(key) else { return };
        if member.arrival.is_none() {
            return;
        }
        member.take_grace().map(|timer| self.timers.cancel(timer));
        let probe = member.take_probe();
        self.unregister(key);
        self.accept_presence(now, key, kind, sink);
        probe.as_ref().map(|probe| self.timers.cancel(probe.timer));
        self.recount();
        let Some(probe) = probe else { return };
        for waiting in probe.waiting {
            // The first gets the name. The others are admitted only if they have the same session.
            let wanted = self.feeds.attachments.get(waiting).map(|one| (one.session, one.room));
            match wanted.and_then(|(session, room)| self.other_holder(session, room)) {
                Some(_) => self.refuse(now, waiting, sink),
                None => self.admit(now, waiting, sink),
            }
        }
    }

    /// A member whose connection broke has not come back in time.
    pub(super) fn on_grace_expired(&mut self, now: Now, key: MemberKey, sink: &mut dyn Sink) {
        if let Some(member) = self.members.get_mut(key) {
            member.pending = None;
        }
        self.depart(now, key, sink);
    }

    /// A member has not answered the probe in time: its connections are dead, unless one of them has a
    /// peer that need not answer.
    pub(super) fn on_probe_expired(&mut self, now: Now, key: MemberKey, sink: &mut dyn Sink) {
        let attachments = self.attachments_of(key);
        let connections = attachments.iter().filter_map(|key| self.feeds.attachments.get(*key));
        if connections.map(|attachment| attachment.conn).any(|conn| sink.is_alive(conn)) {
            return self.answer_probe(now, key, sink);
        }
        for attachment in attachments {
            // Closing the last one ends the member's presence and admits the waiting connections.
            self.close(now, attachment, CloseReason::Silent, sink);
        }
    }

    /// Adds a waiting connection to the probe of the member that holds its name. Begins the probe
    /// if there is none.
    fn wait_for(&mut self, now: Now, key: AttachmentKey, holder: MemberKey, sink: &mut dyn Sink) {
        self.set_holder(key, Some(holder));
        let Some(member) = self.members.get_mut(holder) else { return };
        if let Some(probe) = member.probe_mut() {
            probe.waiting.push(key);
            probe.live += 1;
            return;
        }
        let timer = self.timers.arm(ChatTimer::Probe(holder), now.mono);
        let probe = Probe { waiting: vec![key], live: 1, timer };
        member.pending = Some(Box::new(Pending::Probe(probe)));
        for attachment in self.attachments_of(holder) {
            if let Some(attachment) = self.feeds.attachments.get(attachment) {
                sink.ping(attachment.conn);
            }
        }
    }

    /// Ends a probe because the member has responded: refuses the connections that want its name.
    fn answer_probe(&mut self, now: Now, holder: MemberKey, sink: &mut dyn Sink) {
        let Some(member) = self.members.get_mut(holder) else { return };
        let Some(probe) = member.take_probe() else { return };
        self.timers.cancel(probe.timer);
        for waiting in probe.waiting {
            self.refuse(now, waiting, sink);
        }
    }

    fn refuse(&mut self, now: Now, waiting: AttachmentKey, sink: &mut dyn Sink) {
        self.set_holder(waiting, None);
        self.close(now, waiting, CloseReason::NameTaken, sink);
    }

    fn set_holder(&mut self, waiting: AttachmentKey, to: Option<MemberKey>) {
        let state = self.feeds.attachments.get_mut(waiting).map(|attachment| &mut attachment.state);
        if let Some(AttachmentState::Waiting { holder, .. }) = state {
            *holder = to;
        }
    }

    /// Counts a join of a session that is not present in the room, and so will be announced (contract
    /// §6.17).
    fn pace_join(
        &mut self,
        now: Now,
        session: SessionKey,
        room: RoomKey,
    ) -> Result<(), CloseReason> {
        let Some(session) = self.sessions.get_mut(session) else { return Ok(()) };
        let member = session.member_in(room).and_then(|member| self.members.get(member));
        if member.is_some_and(|member| member.arrival.is_some()) {
            return Ok(());
        }
        let taken = self.config.join_pace.take(&mut session.joins, now.mono);
        taken.map_err(|_| CloseReason::RateLimited)
    }

    /// Puts a connection into the room. Its session's name must be free, or held by the session.
    fn admit(&mut self, now: Now, key: AttachmentKey, sink: &mut dyn Sink) {
        let Some(attachment) = self.feeds.attachments.get_mut(key) else { return };
        let (conn, session, room) = (attachment.conn, attachment.session, attachment.room);
        let AttachmentState::Waiting { holder, entrance } = &mut attachment.state else { return };
        let has_waited = holder.take().is_some();
        let Entrance { start, from } = entrance.take().map_or_else(Default::default, |it| *it);
        if self.has_ended(room) {
            return self.close(now, key, self.end_reason(room), sink); // Its holder has just left.
        }
        if has_waited {
            // The room may have been locked meanwhile, or have got a password, or the address is banned.
            if let Err(refusal) = self.gate(now, session, Some(room), Access::Read, from) {
                return self.close(now, key, without_access(refusal), sink);
            }
        }
        if self.sessions.get(session).is_some_and(|session| {
            self.joined(session) >= SESSION_ROOMS_MAX && session.member_in(room).is_none()
        }) {
            // The session has joined other rooms while the connection waited.
            return self.close(now, key, CloseReason::TooManyRooms, sink);
        }
        if has_waited {
            // Other connections were counted before they took their place.
            if let Err(reason) = self.pace_join(now, session, room) {
                return self.close(now, key, reason, sink);
            }
        }
        let Some(member) = self.member(session, room) else { return };
        self.set_address(member, self.hashed(from, room));
        self.place(key, member, sink);
        self.answer_probe(now, member, sink); // A new connection is a sign of life too.
        if has_waited {
            sink.admit(conn);
        }
        let is_arrival = self.register(member, Arrival::after(self.arrivals));
        self.arrivals += u64::from(is_arrival);
        let inherits = is_arrival && self.inherit(room, session);
        if start == Start::Welcome {
            self.welcome(member, conn, sink);
        }
        self.feeds.begin_catch_up(key, start, sink);
        self.catch_up(now, key, sink);
        if is_arrival {
            self.accept_presence(now, member, MessageKind::UserJoined, sink);
        }
        if inherits {
            self.announce_room(room, sink);
        }
    }

    fn welcome(&self, member: MemberKey, conn: ConnKey, sink: &mut dyn Sink) {
        let Some(member) = self.members.get(member) else { return };
        let Some(room_id) = self.room_id(member.room) else { return };
        sink.welcome(conn, room_id, member.user_id);
    }

    /// Lists the connection in its room, and cancels the timers that run while the room or the
    /// member has no connection.
    fn place(&mut self, key: AttachmentKey, member_key: MemberKey, sink: &mut dyn Sink) {
        let Some(member) = self.members.get_mut(member_key) else { return };
        let Some(room) = self.feeds.room_mut(member.room) else { return };
        member.connections += 1;
        member.take_grace().map(|timer| self.timers.cancel(timer));
        room.timer.take().map(|timer| self.timers.cancel(timer));
        self.addresses.remove_idle(room.creator, ShareKind::Rooms, room.idle.take());
        self.feeds.place(key, member_key, sink);
    }

    /// Makes a member present. False if it is present already.
    pub(super) fn register(&mut self, key: MemberKey, arrival: Arrival) -> bool {
        let Some(member) = self.members.get_mut(key) else { return false };
        let Some(room) = self.feeds.room_mut(member.room) else { return false };
        if member.arrival.is_some() {
            return false;
        }
        member.arrival = Some(arrival);
        let (members, sessions) = (&self.members, &self.sessions);
        room.roster.arrive(key, |key| present_facts(members, sessions, key));
        room.recount(&mut self.room_heap_tally);
        self.listing_revision += 1;
        true
    }

    /// Ends the presence of a member that is present. Announces nothing.
    pub(super) fn unregister(&mut self, key: MemberKey) {
        let Some(member) = self.members.get(key) else { return };
        let (members, sessions) = (&self.members, &self.sessions);
        if let Some(room) = self.feeds.room_mut(member.room) {
            room.roster.depart(key, |key| present_facts(members, sessions, key));
            room.recount(&mut self.room_heap_tally);
            self.listing_revision += 1;
        }
        if let Some(member) = self.members.get_mut(key) {
            member.arrival = None;
        }
    }

    /// A connection has ended, or its close has begun. It receives no further events.
    pub fn exit(
        &mut self,
        now: Now,
        key: AttachmentKey,
        departure: Departure,
        sink: &mut dyn Sink,
    ) {
        let Some(attachment) = self.feeds.detach(key) else { return };
        #[cfg(feature = "cluster")]
        if self.is_mirror() {
            return self.exit_mirrored(key, &attachment, departure);
        }
        if let Some(session) = self.sessions.get_mut(attachment.session) {
            session.attachments.retain(|other| *other != key);
            if session.attachments.is_empty() {
                let timer = ChatTimer::SessionUnused(attachment.session);
                session.timer = Some(self.timers.arm(timer, now.mono));
                let created = Created::Session(attachment.session);
                session.idle = self.addresses.push_idle(session.creator, created, now.mono);
            }
        }
        match attachment.state {
            AttachmentState::Waiting { holder: None, .. } => {}
            AttachmentState::Waiting { holder: Some(holder), .. } => self.stop_waiting(holder),
            AttachmentState::Present { member, .. } => {
                self.start_room_timer(now, attachment.room);
                self.on_connection_ended(now, member, departure, sink);
            }
        }
        self.recount();
    }

    /// A connection that wanted a member's name has ended.
    fn stop_waiting(&mut self, holder: MemberKey) {
        let Some(member) = self.members.get_mut(holder) else { return };
        let Some(probe) = member.probe_mut() else { return };
        probe.live -= 1;
        if probe.live == 0 {
            self.timers.cancel(probe.timer);
            member.pending = None;
        }
    }

    /// Arms the room's timer if the room has no connection.
    fn start_room_timer(&mut self, now: Now, key: RoomKey) {
        if self.feeds.recipients(key).is_empty() {
            if let Some(room) = self.feeds.room_mut(key).filter(|room| !room.is_closing) {
                room.timer = Some(self.timers.arm(ChatTimer::RoomEmpty(key), now.mono));
                room.idle = self.addresses.push_idle(room.creator, Created::Room(key), now.mono);
            }
        }
    }

    fn on_connection_ended(
        &mut self,
        now: Now,
        key: MemberKey,
        departure: Departure,
        sink: &mut dyn Sink,
    ) {
        let Some(member) = self.members.get_mut(key) else { return };
        member.connections -= 1;
        if member.connections > 0 {
            return;
        }
        let is_wanted = member.probe().is_some(); // If so, there is no grace: the name is free at once.
        let grace = self.config.leave_grace;
        if departure == Departure::Removed {
            self.depart_as(now, key, MessageKind::UserRemoved, sink);
        } else if departure == Departure::Closed || is_wanted || grace.is_zero() {
            self.depart(now, key, sink);
        } else {
            let grace = self.timers.arm(ChatTimer::LeaveGrace(key), now.mono);
            member.pending = Some(Box::new(Pending::Grace(grace)));
        }
    }

    /// The member of another session that holds this member's name. `None` if there is none, or if
    /// this member is present and thus holds the name itself.
    pub(super) fn holder_in_the_way(&self, key: MemberKey) -> Option<MemberKey> {
        let member = self.members.get(key)?;
        if member.arrival.is_some() { None } else { self.other_holder(member.session, member.room) }
    }

    /// Whether a member has a connection in the room.
    pub(super) fn is_connected(&self, key: MemberKey) -> bool {
        self.members.get(key).is_some_and(|member| member.connections > 0)
    }

    /// The present member of another session that holds this session's name in the room.
    fn other_holder(&self, session: SessionKey, room: RoomKey) -> Option<MemberKey> {
        let session = self.sessions.get(session)?;
        let roster = &self.feeds.room(room)?.roster;
        let holder = roster.holder(session.name.folded(), |key| self.present_facts(key))?;
        if Some(holder) == session.member_in(room) { None } else { Some(holder) }
    }

    /// The connections of a member's session in the member's room, waiting ones included.
    pub(super) fn attachments_of(&self, member: MemberKey) -> Vec<AttachmentKey> {
        let Some(member) = self.members.get(member) else { return Vec::new() };
        let Some(session) = self.sessions.get(member.session) else { return Vec::new() };
        let in_room = |key: &&AttachmentKey| {
            self.feeds.attachments.get(**key).is_some_and(|other| other.room == member.room)
        };
        session.attachments.iter().filter(in_room).copied().collect()
    }

    pub(super) fn check_presence(&self) {
        let (mut connected, mut waiting) = (0, 0);
        for (key, member) in self.members.iter() {
            let is_present = member.arrival.is_some();
            agree!(
                is_present,
                member.connections > 0 || member.grace().is_some(),
                "a present member is connected or in its grace"
            );
            holds!(member.connections == 0 || member.grace().is_none(), "no grace while connected");
            let own = self.attachments_of(key).into_iter();
            let own = own.filter_map(|key| self.feeds.attachments.get(key)?.member());
            let own = own.filter(|member| *member == key).count();
            agree!(member.connections as usize, own);
            connected += own;
            if let Some(probe) = member.probe() {
                holds!(
                    member.connections > 0 && probe.live > 0,
                    "a probe has a connected holder and a waiting connection"
                );
                waiting += probe.live;
                let live = probe.waiting.iter().filter_map(|key| self.feeds.attachments.get(*key));
                agree!(live.clone().count(), probe.live);
                for attachment in live {
                    agree!(attachment.room, member.room);
                    holds!(matches!(
                        attachment.state,
                        AttachmentState::Waiting { holder: Some(holder), .. } if holder == key
                    ));
                }
            }
        }
        let count = self.feeds.attachments.len();
        agree!(connected + waiting, count, "each attachment belongs to a member or to a probe");
    }
}
