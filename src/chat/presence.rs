//! Who is in a room right now: connections that come and go, and the names they bear.
//!
//! Owns attachments (a connection in a room), presences (a member with at least one of them, or
//! whose line broke a moment ago) and probes. Must never know why a connection ended beyond
//! [`Departure`]. The invariant: in a room, no two people present bear the same name, and each is
//! announced once when they come and once when they go.

use super::catch_up::{CatchUp, Start};
use super::event::MessageKind;
use super::gate::Access;
use super::room::{MemberKey, RoomKey};
use super::session::{SESSION_CONNECTIONS_MAX, SESSION_ROOMS_MAX, SessionKey};
use super::timer::ChatTimer;
use super::{Chat, CloseReason, ConnKey, Refusal, Sink};
use crate::clock::Now;
use crate::slots::Key;
use crate::timers::TimerKey;

/// A handle on a connection's place in a room.
pub type AttachmentKey = Key<Attachment>;

/// A connection in a room, or waiting to be let in.
pub struct Attachment {
    pub(super) conn: ConnKey,
    pub(super) session: SessionKey,
    pub(super) room: RoomKey,
    state: State,
    /// Where it wants to begin to listen, until it is let in; `None`: with what comes.
    start: Option<Box<Start>>,
    /// Until it has been sent what it has missed; the sink holds it as long. In a box that the
    /// ledger doesn't count: fifty bytes, and seldom for longer than a page takes.
    pub(super) catch_up: Option<Box<CatchUp>>,
}

// See the account in `ledger`.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Attachment>() == 56);

/// A connection that wants into a room.
#[derive(Clone, Copy)]
pub struct JoinRequest {
    /// Itself.
    pub conn: ConnKey,
    /// Whose it is, if its credentials are anyone's.
    pub session: Option<SessionKey>,
    /// Where it wants to, if there is such a room.
    pub room: Option<RoomKey>,
    /// Its address has too many connections.
    pub share_exceeded: bool,
    /// Where it wants to begin to listen.
    pub start: Start,
}

#[derive(Clone, Copy)]
enum State {
    /// Wants the name that `holder` bears, and stands in its probe; `None` for a moment on the
    /// way in or out.
    Waiting { holder: Option<MemberKey> },
    /// In the room; `place` is the one in its list of connections.
    Present { member: MemberKey, place: usize },
}

/// A name's holder is asked for a sign of life.
pub(super) struct Probe {
    /// In the order of coming. Who has given up stays listed, by a key that is stale: looking
    /// for it would make a crowd's end quadratic, and a probe is short.
    waiting: Vec<AttachmentKey>,
    /// How many of them have not given up, at least 1.
    patient: usize,
    timer: TimerKey,
}

/// How a connection came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is in the room.
    Admitted,
    /// It waits for a name; [`Sink::admit`] or [`Sink::close`] will follow. What it sends is not
    /// to be handled before.
    Waiting,
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// With a close, the peer's or ours: the person has left at once.
    Closed,
    /// The line broke: the person may be back in a moment.
    Broken,
}

impl Probe {
    /// Who waits, in the order of coming; some may have given up.
    pub fn waiting(&self) -> impl Iterator<Item = AttachmentKey> + '_ {
        self.waiting.iter().copied()
    }
}

impl Chat {
    /// A connection wants into a room. The checks come in the order of contract §5.7.
    pub fn enter(
        &mut self,
        now: Now,
        request: JoinRequest,
        sink: &mut dyn Sink,
    ) -> Result<(AttachmentKey, Admission), CloseReason> {
        let session_key = request.session.ok_or(CloseReason::InvalidSession)?;
        if self.sessions.get(session_key).is_none() {
            return Err(CloseReason::InvalidSession);
        }
        let gate = self.gate(now, session_key, request.room, Access::Read);
        let room_key = gate.map_err(|refusal| match refusal {
            Refusal::NotAMember => CloseReason::NotAMember,
            _ => CloseReason::RoomNotFound,
        })?;
        let session = self.sessions.get(session_key).ok_or(CloseReason::InvalidSession)?;
        if request.share_exceeded || session.attachments.len() >= SESSION_CONNECTIONS_MAX {
            return Err(CloseReason::TooManyConnections);
        }
        if session.rooms.len() >= SESSION_ROOMS_MAX && session.member_in(room_key).is_none() {
            return Err(CloseReason::TooManyRooms);
        }
        let holder = self.other_holder(session_key, room_key);
        let waiting = holder.and_then(|holder| self.contest(now, holder, sink));

        let key = self.attachments.insert(Attachment {
            conn: request.conn,
            session: session_key,
            room: room_key,
            state: State::Waiting { holder: None },
            start: (request.start != Start::Live).then(|| Box::new(request.start)),
            catch_up: None,
        });
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.attachments.push(key);
            session.timer.take().map(|timer| self.timers.cancel(timer));
        }
        self.recount_session(session_key);
        let admission = match waiting {
            Some(holder) => {
                self.wait(now, key, holder, sink);
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

    /// A connection has ended, or is about to with a close that is not the domain's.
    pub fn exit(
        &mut self,
        now: Now,
        attachment: AttachmentKey,
        departure: Departure,
        sink: &mut dyn Sink,
    ) {
        self.detach(now, attachment, departure, sink);
    }

    /// Something has arrived from the peer: if the name it bears is wanted, that was the answer.
    pub fn on_sign_of_life(&mut self, now: Now, attachment: AttachmentKey, sink: &mut dyn Sink) {
        if let Some(member) = self.member_of(attachment) {
            self.answer_probe(now, member, sink);
        }
    }

    /// The room that the connection is in, or waits to be let into.
    pub fn room_of(&self, attachment: AttachmentKey) -> Option<RoomKey> {
        self.attachments.get(attachment).map(|attachment| attachment.room)
    }

    pub(super) fn member_of(&self, attachment: AttachmentKey) -> Option<MemberKey> {
        match self.attachments.get(attachment)?.state {
            State::Present { member, .. } => Some(member),
            State::Waiting { .. } => None,
        }
    }

    /// Ends a connection that the domain has a reason to end.
    pub(super) fn close(
        &mut self,
        now: Now,
        key: AttachmentKey,
        close: CloseReason,
        sink: &mut dyn Sink,
    ) {
        let Some(attachment) = self.attachments.get(key) else { return };
        let conn = attachment.conn;
        self.seal(attachment.room, sink); // What was said before comes before the close.
        sink.close(conn, close);
        self.detach(now, key, Departure::Closed, sink);
    }

    /// Who is present no longer is. Does nothing for who wasn't.
    pub(super) fn depart(&mut self, now: Now, key: MemberKey, sink: &mut dyn Sink) {
        let Some(member) = self.members.get_mut(key) else { return };
        let Some(arrival) = member.arrival.take() else { return };
        member.grace.take().map(|timer| self.timers.cancel(timer));
        let probe = member.probe.take();
        let (room, session) = (member.room, member.session);
        let name = self.sessions.get(session).map(|session| session.name.folded().clone());
        if let (Some(room), Some(name)) = (self.rooms.get_mut(room), name) {
            room.present.remove(&arrival);
            self.listing_revision += 1;
            room.names.remove(&name);
            if room.names.is_empty() {
                room.names = Default::default();
            }
        }
        self.accept(now, key, MessageKind::UserLeft, None, sink);
        self.recount_room(room);
        probe.as_ref().map(|probe| self.timers.cancel(probe.timer));
        self.recount();
        let Some(probe) = probe else { return };
        for waiting in probe.waiting {
            // The first gets the name; the others only if they are the same person.
            let wanted = self.attachments.get(waiting).map(|one| (one.session, one.room));
            match wanted.and_then(|(session, room)| self.other_holder(session, room)) {
                Some(_) => self.refuse(now, waiting, sink),
                None => self.admit(now, waiting, sink),
            }
        }
    }

    /// A line that broke has not come back in time.
    pub(super) fn on_grace_over(&mut self, now: Now, key: MemberKey, sink: &mut dyn Sink) {
        if let Some(member) = self.members.get_mut(key) {
            member.grace = None;
        }
        self.depart(now, key, sink);
    }

    /// A name's holder has shown no sign of life: its lines are dead.
    pub(super) fn on_probe_over(&mut self, now: Now, key: MemberKey, sink: &mut dyn Sink) {
        for attachment in self.attachments_of(key) {
            // Departs with the last of them, and lets in who waits.
            self.close(now, attachment, CloseReason::Silent, sink);
        }
    }

    /// Whether a newcomer must wait for what becomes of the present holder of its name.
    fn contest(&mut self, now: Now, holder: MemberKey, sink: &mut dyn Sink) -> Option<MemberKey> {
        if self.is_connected(holder) {
            return Some(holder);
        }
        self.depart(now, holder, sink); // In its grace: gives way without a probe.
        None
    }

    fn wait(&mut self, now: Now, key: AttachmentKey, holder: MemberKey, sink: &mut dyn Sink) {
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.state = State::Waiting { holder: Some(holder) };
        }
        let Some(member) = self.members.get_mut(holder) else { return };
        if let Some(probe) = &mut member.probe {
            probe.waiting.push(key);
            probe.patient += 1;
            return;
        }
        let timer = self.timers.arm(ChatTimer::Probe(holder), now.mono);
        member.probe = Some(Box::new(Probe { waiting: vec![key], patient: 1, timer }));
        for attachment in self.attachments_of(holder) {
            if let Some(attachment) = self.attachments.get(attachment) {
                sink.ping(attachment.conn);
            }
        }
    }

    /// The holder lives: whoever wanted its name has to go.
    fn answer_probe(&mut self, now: Now, holder: MemberKey, sink: &mut dyn Sink) {
        let Some(member) = self.members.get_mut(holder) else { return };
        let Some(probe) = member.probe.take() else { return };
        self.timers.cancel(probe.timer);
        for waiting in probe.waiting {
            self.refuse(now, waiting, sink);
        }
    }

    fn refuse(&mut self, now: Now, waiting: AttachmentKey, sink: &mut dyn Sink) {
        if let Some(attachment) = self.attachments.get_mut(waiting) {
            attachment.state = State::Waiting { holder: None };
        }
        self.close(now, waiting, CloseReason::NameTaken, sink);
    }

    /// Lets a connection in whose name is free, or its own already.
    fn admit(&mut self, now: Now, key: AttachmentKey, sink: &mut dyn Sink) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let (conn, session, room) = (attachment.conn, attachment.session, attachment.room);
        let start = attachment.start.take().map_or(Start::Live, |start| *start);
        let waited = matches!(attachment.state, State::Waiting { holder: Some(_) });
        attachment.state = State::Waiting { holder: None };
        let rooms = self.sessions.get(session).map(|session| &session.rooms);
        if rooms.is_some_and(|rooms| {
            rooms.len() >= SESSION_ROOMS_MAX && rooms.iter().all(|(joined, _)| *joined != room)
        }) {
            return self.close(now, key, CloseReason::TooManyRooms, sink); // Joined others while waiting.
        }
        let Some(member) = self.member(session, room) else { return };
        self.seal(room, sink); // What was said before is not for the newcomer.
        self.place(key, conn, member);
        self.answer_probe(now, member, sink); // Another tab is a sign of life, too.
        if waited {
            sink.admit(conn);
        }
        let is_arrival = self.register(member);
        self.begin_catch_up(key, start, sink);
        self.catch_up(now, key, sink);
        if is_arrival {
            self.accept(now, member, MessageKind::UserJoined, None, sink);
        }
        self.recount_room(room);
    }

    /// Puts the connection on the room's list.
    fn place(&mut self, key: AttachmentKey, conn: ConnKey, member_key: MemberKey) {
        let Some(member) = self.members.get_mut(member_key) else { return };
        let Some(room) = self.rooms.get_mut(member.room) else { return };
        member.connections += 1;
        member.grace.take().map(|timer| self.timers.cancel(timer));
        room.timer.take().map(|timer| self.timers.cancel(timer));
        if let Some(attachment) = self.attachments.get_mut(key) {
            let place = room.connections.len();
            attachment.state = State::Present { member: member_key, place };
        }
        room.connections.push(conn);
        room.attachments.push(key);
    }

    /// Makes present who wasn't before, and says whether that was so.
    fn register(&mut self, key: MemberKey) -> bool {
        let Some(member) = self.members.get_mut(key) else { return false };
        let Some(session) = self.sessions.get(member.session) else { return false };
        let Some(room) = self.rooms.get_mut(member.room) else { return false };
        if member.arrival.is_some() {
            return false;
        }
        let arrival = self.arrivals;
        self.arrivals += 1;
        member.arrival = Some(arrival);
        room.present.insert(arrival, key);
        self.listing_revision += 1;
        room.names.insert(session.name.folded().clone(), key);
        true
    }

    fn detach(&mut self, now: Now, key: AttachmentKey, departure: Departure, sink: &mut dyn Sink) {
        let Some(attachment) = self.attachments.remove(key) else { return };
        if let Some(session) = self.sessions.get_mut(attachment.session) {
            session.attachments.retain(|other| *other != key);
            if session.attachments.is_empty() {
                let timer = ChatTimer::SessionUnused(attachment.session);
                session.timer = Some(self.timers.arm(timer, now.mono));
            }
        }
        match attachment.state {
            State::Waiting { holder: None } => {}
            State::Waiting { holder: Some(holder) } => self.stop_waiting(holder),
            State::Present { member, place } => {
                self.displace(now, attachment.room, place);
                self.on_connection_gone(now, member, departure, sink);
            }
        }
        self.recount();
    }

    fn stop_waiting(&mut self, holder: MemberKey) {
        let Some(member) = self.members.get_mut(holder) else { return };
        let Some(probe) = &mut member.probe else { return };
        probe.patient -= 1;
        if probe.patient == 0 {
            self.timers.cancel(probe.timer);
            member.probe = None;
        }
    }

    /// Takes a connection off the room's list.
    fn displace(&mut self, now: Now, key: RoomKey, place: usize) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.connections.swap_remove(place);
        room.attachments.swap_remove(place);
        let moved = room.attachments.get(place).and_then(|key| self.attachments.get_mut(*key));
        if let Some(State::Present { place: moved, .. }) = moved.map(|moved| &mut moved.state) {
            *moved = place;
        }
        if room.connections.is_empty() {
            room.connections = Vec::new();
            room.attachments = Vec::new();
            room.timer = Some(self.timers.arm(ChatTimer::RoomEmpty(key), now.mono));
        }
        self.recount_room(key);
    }

    fn on_connection_gone(
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
        let wanted = member.probe.is_some(); // In its grace a holder gives way.
        let grace = self.settings.leave_grace;
        if departure == Departure::Closed || wanted || grace.is_zero() {
            self.depart(now, key, sink);
        } else {
            member.grace = Some(self.timers.arm(ChatTimer::LeaveGrace(key), now.mono));
        }
    }

    /// Who bears the name of somebody who posts without being present.
    pub(super) fn holder_in_the_way(&self, key: MemberKey) -> Option<MemberKey> {
        let member = self.members.get(key)?;
        if member.arrival.is_some() { None } else { self.other_holder(member.session, member.room) }
    }

    /// Whether a member has a connection in the room.
    pub(super) fn is_connected(&self, key: MemberKey) -> bool {
        self.members.get(key).is_some_and(|member| member.connections > 0)
    }

    /// Somebody else present in the room who bears the session's name.
    fn other_holder(&self, session: SessionKey, room: RoomKey) -> Option<MemberKey> {
        let session = self.sessions.get(session)?;
        let holder = self.rooms.get(room)?.names.get(session.name.folded()).copied()?;
        if Some(holder) == session.member_in(room) { None } else { Some(holder) }
    }

    fn attachments_of(&self, member: MemberKey) -> Vec<AttachmentKey> {
        let Some(member) = self.members.get(member) else { return Vec::new() };
        let Some(session) = self.sessions.get(member.session) else { return Vec::new() };
        let in_room = |key: &&AttachmentKey| {
            self.attachments.get(**key).is_some_and(|other| other.room == member.room)
        };
        session.attachments.iter().filter(in_room).copied().collect()
    }
}

pub(super) fn check(chat: &Chat) {
    let mut placed = 0;
    for (key, room) in chat.rooms.iter() {
        agree!(room.present.len(), room.names.len(), "one name for each person present");
        agree!(room.connections.len(), room.attachments.len());
        placed += room.attachments.len();
        for (place, attachment) in room.attachments.iter().enumerate() {
            let attachment = chat.attachments.get(*attachment).expect("listed attachments live");
            agree!((attachment.room, attachment.conn), (key, room.connections[place]));
            assert!(matches!(attachment.state, State::Present { place: p, .. } if p == place));
        }
        for (arrival, member) in &room.present {
            let member = chat.members.get(*member).expect("who is present is a member");
            agree!((member.room, member.arrival), (key, Some(*arrival)));
            let session = chat.sessions.get(member.session).expect("a member's session lives");
            let bearer = room.names.get(session.name.folded());
            assert!(bearer.is_some_and(|bearer| room.present.get(arrival) == Some(bearer)));
        }
    }
    let mut waiting = 0;
    for (key, member) in chat.members.iter() {
        let present = member.arrival.is_some();
        agree!(present, member.connections > 0 || member.grace.is_some(), "present, or not");
        assert!(member.connections == 0 || member.grace.is_none(), "no grace while connected");
        agree!(
            member.connections,
            chat.attachments_of(key)
                .iter()
                .filter(|attachment| { chat.member_of(**attachment) == Some(key) })
                .count()
        );
        if let Some(probe) = &member.probe {
            assert!(member.connections > 0 && probe.patient > 0, "a probe has two sides");
            waiting += probe.patient;
            let live = probe.waiting.iter().filter_map(|key| chat.attachments.get(*key));
            agree!(live.clone().count(), probe.patient);
            for attachment in live {
                agree!(attachment.room, member.room);
                assert!(matches!(attachment.state, State::Waiting { holder: Some(h) } if h == key));
            }
        }
    }
    agree!(placed + waiting, chat.attachments.len(), "an attachment is in a room or waits");
}
