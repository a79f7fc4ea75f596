//! A connection's way into a room.
//!
//! Owns the steps of an entry. Must not know whether a connection is a WebSocket or an event
//! stream. The invariant: what the store counts for a connection is given back when it ends, and in
//! the order in which it was taken: a connection that ends while it is entering enters first, and
//! then leaves.

use std::collections::HashMap;
use std::time::Duration;

use super::args::Args;
use super::identity::new_tail;
use super::library::Function;
use super::plan::{Awaited, Entering, EntryStep, Plan, PlanKey, Progress};
use super::record;
use super::refusal::refused_entry;
use super::resp::Reply;
use super::state::{Cluster, Lent, NodeAnswer, Token};
use super::status::Status;
use crate::chat::{
    Address, CloseReason, ConnKey, MessageKind, MirrorAdmission, Name, RoomId,
    SESSION_CONNECTIONS_MAX, SESSION_ROOMS_MAX, SessionId, Start, UserId,
};
use crate::clock::Mono;

/// A connection that asks to enter a room.
pub struct EntryRequest {
    pub conn: ConnKey,
    /// `None`: the credentials are malformed.
    pub session: Option<SessionId>,
    /// `None`: no room can have the id.
    pub room: Option<RoomId>,
    /// The connection's address is over its limit of connections.
    pub share_exceeded: bool,
    /// The address; `None`: exempt.
    pub from: Option<Address>,
    /// Where the connection begins to receive.
    pub start: Start,
}

impl Cluster {
    /// Lets a connection enter a room. [`NodeAnswer::Entered`] or [`NodeAnswer::TurnedAway`] follows.
    pub fn enter(&mut self, lent: &mut Lent<'_>, request: EntryRequest) -> Result<(), CloseReason> {
        let EntryRequest { conn, session, room, share_exceeded, from, start } = request;
        let session = session.ok_or(CloseReason::InvalidSession)?;
        let begun = self.begin(lent, |cluster, lent, key| {
            let hash = cluster.identity()?.session(session);
            let partition = cluster.identity()?.partition_of_session(hash);
            let ttl = cluster.config.session_ttl;
            let now = lent.now.mono;
            let Some(room) = room else {
                // A refused connection is no use of its session.
                let args = Args::new().session(hash).time(ttl).text("-");
                cluster.call_first(now, partition, Function::Touch, args, key)?;
                return Ok(Plan::Nowhere(conn));
            };
            let user_id = cluster.identity()?.user_id(hash, room);
            let args = Args::new()
                .session(hash)
                .room(room)
                .time(ttl)
                .number(SESSION_CONNECTIONS_MAX as u64)
                .number(SESSION_ROOMS_MAX as u64)
                .pace(cluster.config.join_pace);
            cluster.call_first(now, partition, Function::Attach, args, key)?;
            Ok(Plan::Entering(Entering {
                conn,
                session,
                hash,
                room,
                user_id,
                from,
                start,
                over: share_exceeded.then_some(CloseReason::TooManyConnections),
                ends: None,
                is_attached: false,
                is_inside: false,
                name: None,
                holder: None,
                join_wait: 0,
                step: EntryStep::Attaching,
            }))
        });
        begun.map(|_| ()).map_err(|_| CloseReason::Unavailable)
    }

    pub(super) fn on_entering(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        mut entering: Entering,
        awaited: Awaited<'_>,
    ) -> Progress {
        let step = std::mem::replace(&mut entering.step, EntryStep::Asking);
        let stepped = match (step, awaited) {
            (EntryStep::Attaching, Awaited::Reply(reply)) => {
                self.on_attached(lent, key, &mut entering, reply)
            }
            (EntryStep::Asking, Awaited::Reply(reply)) => {
                self.on_entry_answer(lent, key, &mut entering, reply)
            }
            (EntryStep::Probing { timer }, Awaited::Time) => {
                self.timers.remove(&timer);
                self.conns.entry(entering.conn).or_default().waits = None;
                self.ask_to_enter(lent, key, &entering, "later").map(|()| Some(EntryStep::Asking))
            }
            (EntryStep::Loading { events, inherits }, Awaited::Room) => {
                self.let_in(lent, &entering, &events, inherits);
                return Progress::Done;
            }
            (_, Awaited::NoRoom(reason)) => Err(reason),
            _ => Err(CloseReason::Unavailable),
        };
        match stepped {
            Ok(Some(step)) => {
                entering.step = step;
                Progress::waits(Plan::Entering(entering))
            }
            Ok(None) => Progress::Done,
            Err(reason) => {
                self.turn_away(lent, entering, reason);
                Progress::Done
            }
        }
    }

    /// Closes a connection that is not let in, and gives back what the session and the room count for it.
    pub(super) fn turn_away(
        &mut self,
        lent: &mut Lent<'_>,
        entering: Entering,
        reason: CloseReason,
    ) {
        if entering.is_inside {
            self.end_stay(lent, entering.room, entering.user_id);
        }
        if entering.is_attached {
            // A socket that was not let in, and did not wait for a name, is no use of its session.
            let was_refused = !entering.is_inside && entering.holder.is_none();
            self.detach_as(lent.now.mono, entering.hash, was_refused);
        }
        self.stop_seeking(lent.now.mono, &entering);
        self.answers.push(NodeAnswer::TurnedAway { to: entering.conn, reason });
    }

    /// A connection does not want its name any more: it has it, or was turned away. After the last one
    /// here, the store need not wait for the holder on behalf of this node.
    fn stop_seeking(&mut self, now: Mono, entering: &Entering) {
        let Some(name) = &entering.name else { return };
        let wanted = (entering.room, name.folded().into());
        let Some(seekers) = self.seekers.get_mut(&wanted) else { return };
        seekers.count -= 1;
        if seekers.count > 0 {
            return;
        }
        let last = self.seekers.remove(&wanted);
        if self.seekers.is_empty() {
            self.seekers = HashMap::new(); // Many may have come at once.
        }
        if last.is_some_and(|seekers| seekers.are_probing) {
            let args = Args::new().room(entering.room).text(name.folded());
            // If the store is away, the probe ends by itself.
            let _ = self.call_room(now, entering.room, Function::Unask, args, Token::Nothing);
        }
    }

    /// A connection has ended that may have waited for a name.
    pub fn on_gone(&mut self, lent: &mut Lent<'_>, conn: ConnKey) {
        let waiting = self.conns.get(&conn).and_then(|conn| conn.waits);
        if let Some(entering) = waiting.and_then(|key| self.end_wait(key)) {
            self.turn_away(lent, entering, CloseReason::Silent);
        }
    }

    /// Ends a plan, if it waits for a name.
    fn end_wait(&mut self, key: PlanKey) -> Option<Entering> {
        match self.plans.get(key) {
            Some(Plan::Entering(Entering { step: EntryStep::Probing { timer }, conn, .. })) => {
                self.timers.remove(timer);
                self.conns.entry(*conn).or_default().waits = None;
            }
            _ => return None,
        }
        match *self.plans.remove(key)? {
            Plan::Entering(entering) => Some(entering),
            _ => None,
        }
    }

    /// Closes connections that are entering. Those that the store has been asked for follow when it has
    /// answered.
    pub(super) fn close_entering(
        &mut self,
        lent: &mut Lent<'_>,
        is_meant: &dyn Fn(&Entering) -> bool,
        reason: CloseReason,
    ) {
        for key in self.plans.entering(is_meant) {
            if let Some(entering) = self.end_wait(key) {
                self.turn_away(lent, entering, reason);
            } else if let Some(mut plan) = self.plans.take(key) {
                if let Plan::Entering(entering) = &mut *plan {
                    entering.ends = Some(reason);
                }
                self.plans.put(key, plan);
            }
        }
    }

    /// The person who has the wanted name answered, so the connections that wait for it are refused.
    pub(super) fn on_holder_alive(&mut self, lent: &mut Lent<'_>, room: RoomId, holder: UserId) {
        self.end_waiting(lent, &|one| one.room == room && one.holder == Some(holder));
    }

    /// The probe of a name is over, or the name is free.
    pub(super) fn on_name_free(&mut self, lent: &mut Lent<'_>, room: RoomId, folded: &str) {
        self.end_waiting(lent, &|one| {
            one.room == room && one.name.as_ref().is_some_and(|name| name.folded() == folded)
        });
    }

    /// Connections that wait for a name ask again.
    fn end_waiting(&mut self, lent: &mut Lent<'_>, is_meant: &dyn Fn(&Entering) -> bool) {
        let is_waiting = |one: &Entering| matches!(one.step, EntryStep::Probing { .. });
        for key in self.plans.entering(&|one| is_waiting(one) && is_meant(one)) {
            self.advance(lent, key, Awaited::Time);
        }
    }

    fn on_attached(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        entering: &mut Entering,
        reply: &Reply,
    ) -> Result<Option<EntryStep>, CloseReason> {
        if Status::of(reply) != Status::Ok {
            return Err(CloseReason::InvalidSession);
        }
        let over = match reply.text(2) {
            "" => None,
            "rooms" => Some(CloseReason::TooManyRooms),
            _ => Some(CloseReason::TooManyConnections),
        };
        entering.is_attached = over.is_none();
        entering.over = entering.over.or(over);
        entering.join_wait = reply.number(3);
        let name = Name::parse(reply.text(1)).map_err(|_| CloseReason::InvalidSession)?;
        self.seekers.entry((entering.room, name.folded().into())).or_default().count += 1;
        entering.name = Some(name);
        self.ask_to_enter(lent, key, entering, "first")?;
        Ok(Some(EntryStep::Asking))
    }

    fn ask_to_enter(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        entering: &Entering,
        mode: &str,
    ) -> Result<(), CloseReason> {
        let now = lent.now.mono;
        if !lent.sink.is_open(entering.conn) {
            return Err(CloseReason::Silent);
        }
        let unavailable = |_| CloseReason::Unavailable;
        let name = entering.name.as_ref().ok_or(CloseReason::InvalidSession)?;
        let has_mirror = self.use_room(now, entering.room).is_some();
        let identity = self.identity.as_ref().ok_or(CloseReason::Unavailable)?;
        let args = Args::new()
            .room(entering.room)
            .user(entering.user_id)
            .text(name.folded())
            .text(name.as_str())
            .text(identity.address_in(entering.from, entering.room))
            .flag(has_mirror)
            .flag(entering.over.is_some())
            .number(entering.join_wait)
            .text(mode)
            .time(self.config.probe_timeout)
            .text(new_tail(&mut *self.entropy))
            .text(new_tail(&mut *self.entropy))
            .number(self.config.history_messages_max as u64);
        self.call_room(now, entering.room, Function::Enter, args, Token::Plan(key))
            .map_err(unavailable)
    }

    fn on_entry_answer(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        entering: &mut Entering,
        reply: &Reply,
    ) -> Result<Option<EntryStep>, CloseReason> {
        let now = lent.now.mono;
        match Status::of(reply) {
            Status::In => {}
            Status::Probe => {
                let wanted = entering.name.as_ref().map(|name| name.folded().into());
                let seekers = wanted.and_then(|name| self.seekers.get_mut(&(entering.room, name)));
                if let Some(seekers) = seekers {
                    seekers.are_probing = true;
                }
                // What would have ended the wait has come before it began.
                if let Some(reason) = entering.ends {
                    return Err(reason);
                }
                if !lent.sink.is_open(entering.conn) {
                    return Err(CloseReason::Silent);
                }
                let wait = Duration::from_micros(reply.number(1));
                entering.holder = UserId::parse(reply.text(2));
                self.conns.entry(entering.conn).or_default().waits = Some(key);
                self.answers.push(NodeAnswer::Waits { to: entering.conn });
                return Ok(Some(EntryStep::Probing { timer: self.arm(now.after(wait), key) }));
            }
            Status::Over => return Err(entering.over.unwrap_or(CloseReason::TooManyConnections)),
            status => return Err(refused_entry(status)),
        }
        let room = entering.room;
        entering.is_inside = true;
        let last = record::place(reply.bytes(1)).map_err(|_| CloseReason::Unavailable)?;
        if !self.rooms.contains_key(&room) {
            if reply.list(4).is_empty() {
                // The mirror that there was at the time of the call has been given up.
                self.ask_to_enter(lent, key, entering, "later")?;
                return Ok(Some(EntryStep::Asking));
            }
            let snapshot = reply.items().get(4).ok_or(CloseReason::Unavailable)?;
            self.adopt(lent, room, last, snapshot).ok_or(CloseReason::Unavailable)?;
        }
        if let Some(evicted) = UserId::parse(reply.text(5)) {
            self.close_person(lent, room, evicted, CloseReason::Silent);
        }
        let (events, facts) = (reply.list(2), reply.bytes(3));
        let inherits = !facts.is_empty();
        let arrival = events.iter().find_map(|event| {
            let event = record::entry(room, event).ok()?;
            let is_own = event.message.user_id == entering.user_id
                && event.message.kind == MessageKind::UserJoined;
            is_own.then_some(event.after)
        });
        if arrival.is_some() && !self.config.join_pace.interval().is_zero() {
            let args = Args::new().session(entering.hash).time(self.config.join_pace.interval());
            let _ =
                self.call_session(now, entering.hash, Function::ChargeJoin, args, Token::Nothing);
        }
        // The history ends before the person's arrival (contract §8.3).
        let is_earlier = |event: &&Reply| {
            let place = record::entry(room, event).map(|event| event.message.id.place());
            arrival.is_none_or(|arrival| place.is_ok_and(|place| place <= arrival))
        };
        let earlier = events.iter().take_while(is_earlier).count();
        let ends = earlier
            .checked_sub(1)
            .and_then(|last| events.get(last))
            .and_then(|event| record::entry(room, event).ok());
        let last = ends.map_or(last, |event| event.message.id.place());
        let (earlier, later) = events.split_at(earlier);
        for event in earlier {
            self.on_entry(lent, room, event);
        }
        if self.await_entry(room, key, last) {
            self.let_in(lent, entering, later, inherits);
            self.on_facts(lent, room, facts);
            return Ok(None);
        }
        self.on_facts(lent, room, facts); // They are told when the arrival has been.
        Ok(Some(EntryStep::Loading { events: later.to_vec(), inherits }))
    }

    /// The connection is in the room, and what has happened there since follows.
    fn let_in(
        &mut self,
        lent: &mut Lent<'_>,
        entering: &Entering,
        events: &[Reply],
        inherits: bool,
    ) {
        self.admit(lent, entering, inherits);
        for event in events {
            self.on_entry(lent, entering.room, event);
        }
    }

    fn admit(&mut self, lent: &mut Lent<'_>, entering: &Entering, inherits: bool) {
        let Entering { conn, session, hash, room, user_id, start, ref name, .. } = *entering;
        self.stop_seeking(lent.now.mono, entering);
        if let Some(reason) = entering.ends {
            self.call_exit(lent.now.mono, room, user_id, false);
            self.detach(lent.now.mono, hash);
            self.answers.push(NodeAnswer::TurnedAway { to: conn, reason });
            return;
        }
        let (key, name) = (lent.chat.room(room), name.as_ref());
        let entered = key.zip(name).and_then(|(key, name)| {
            let user = name.shown();
            let admission = MirrorAdmission { conn, user_id, user, session, start, inherits };
            lent.chat.admit_mirrored(lent.now, key, admission, lent.sink)
        });
        match entered {
            Some(attachment) => {
                self.sessions.insert(hash, session);
                self.answers.push(NodeAnswer::Entered { to: conn, attachment });
            }
            None => {
                self.detach(lent.now.mono, hash);
                self.end_stay(lent, room, user_id);
                let reason = CloseReason::RoomNotFound;
                self.answers.push(NodeAnswer::TurnedAway { to: conn, reason });
            }
        }
    }

    pub(super) fn on_nowhere(&mut self, to: ConnKey, awaited: Awaited<'_>) -> Progress {
        let reason = match awaited {
            Awaited::Reply(reply) if Status::of(reply) == Status::NoSession => {
                CloseReason::InvalidSession
            }
            Awaited::Reply(_) => CloseReason::RoomNotFound,
            _ => CloseReason::Unavailable,
        };
        self.answers.push(NodeAnswer::TurnedAway { to, reason });
        Progress::Done
    }

    /// Whether another connection of the person is about to be let in.
    pub(super) fn is_entering(&self, room: RoomId, user_id: UserId) -> bool {
        self.entering().any(|one| {
            one.is_of(room, user_id)
                && matches!(one.step, EntryStep::Asking | EntryStep::Loading { .. })
        })
    }

    /// The connections that are on their way into a room.
    pub(super) fn entering(&self) -> impl Iterator<Item = &Entering> {
        self.plans.iter().filter_map(|(_, plan)| match plan {
            Plan::Entering(entering) => Some(entering),
            _ => None,
        })
    }

    /// The connection to the store is lost, and nobody knows how far the entry has come: whatever the
    /// store has of it is taken back when the store is there again.
    pub(super) fn give_up_entry(&mut self, lent: &mut Lent<'_>, entering: Entering) {
        match entering.step {
            EntryStep::Attaching => _ = self.undeclared.insert(entering.hash.bits()),
            _ => self.leaving.insert((entering.room, entering.user_id)),
        }
        self.turn_away(lent, entering, CloseReason::Unavailable);
    }
}
