//! A connection's way into a room, its messages, and its way out.
//!
//! Owns the calls for connections. Must not know whether a connection is a WebSocket or an event
//! stream. The invariant: what the store counts for a connection is given back when it ends, and in
//! the order in which it was taken: a connection that ends while it is entering enters first, and
//! then leaves.

use std::collections::HashMap;
use std::time::Duration;

use super::args::Args;
use super::identity::{draw_tail, new_tail};
use super::library::Function;
use super::plan::{Awaited, Entering, EntryStep, Plan, PlanKey, Posting, Progress};
use super::record::{self, MessageBody, SessionHash};
use super::refusal::{accept, away, refused_entry};
use super::resp::Reply;
use super::state::{Cluster, Lent, NodeAnswer, Token};
use super::status::Status;
use crate::chat::{
    Address, AttachmentKey, CloseReason, ConnKey, Departure, Draft, MessageKind, MirrorAdmission,
    MirrorExit, Name, Refusal, RoomId, SESSION_CONNECTIONS_MAX, SESSION_ROOMS_MAX, SessionId,
    Start, UserId, UserName,
};
use crate::clock::Mono;

/// Messages of one connection that may be under way. Beyond, nothing is read from it.
const POSTING_MAX: u64 = 64;

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

    // ---- What a connection sends

    /// Posts a message of a connection. [`NodeAnswer::Refused`] may follow.
    pub fn post(
        &mut self,
        lent: &mut Lent<'_>,
        conn: ConnKey,
        attachment: AttachmentKey,
        text: &str,
        nonce: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some((person, draft)) = lent.chat.draft_for(attachment, text, nonce)? else {
            return Ok(()); // Its close is on its way.
        };
        let now = lent.now.mono;
        if let Some(one) = self.conns.get(&conn).filter(|one| one.limited_until > now) {
            return Err(Refusal::RateLimited(one.limited_until.since(now)));
        }
        let (room, user_id) = (person.room, person.user_id);
        let (body, args) = self.post_args((room, user_id), &draft, person.name.shown(), "");
        let nonce = nonce.map(Into::into);
        let posting = Box::new(Posting { conn, attachment, room, body, nonce });
        let bytes = posting.heap_bytes();
        self.call_room(now, room, Function::Post, args, Token::Post(posting))?;
        self.post_bytes += bytes;
        self.conns.entry(conn).or_default().begun += 1;
        Ok(())
    }

    /// A message's body, and the arguments of `post`. `folded`: the person's folded name if it may post
    /// without a connection in the room; empty if not.
    pub(super) fn post_args(
        &mut self,
        (room, user_id): (RoomId, UserId),
        draft: &Draft<'_>,
        user: UserName<'_>,
        folded: &str,
    ) -> (Vec<u8>, Args) {
        let (kind, tail) = (MessageKind::Chat(draft.text()), draw_tail(&mut *self.entropy));
        let mut body = Vec::new();
        MessageBody { kind, tail, user_id, user, nonce: draft.nonce() }.encode(&mut body);
        let config = &self.config;
        let args = Args::new()
            .room(room)
            .user(user_id)
            .pace(config.message_pace)
            .number(config.history_messages_max as u64)
            .text(draft.nonce().unwrap_or_default())
            .text(&body)
            .text(folded)
            .time(config.room_ttl)
            .time(config.new_room_ttl)
            .text(new_tail(&mut *self.entropy));
        (body, args)
    }

    /// The store has answered, or, with `Err`, has not.
    pub(super) fn on_post_answer(
        &mut self,
        lent: &mut Lent<'_>,
        posting: Posting,
        reply: Result<&Reply, Refusal>,
    ) {
        let (conn, bytes) = (posting.conn, posting.heap_bytes());
        self.answer_post(lent, posting, reply);
        self.on_post_settled(conn, bytes);
    }

    fn answer_post(
        &mut self,
        lent: &mut Lent<'_>,
        posting: Posting,
        reply: Result<&Reply, Refusal>,
    ) {
        let Posting { conn, attachment, room, body, nonce } = posting;
        let why = match reply {
            Ok(reply) if Status::of(reply) == Status::Ok => {
                let record = [reply.bytes(3), &body].concat();
                let place = record::place(reply.bytes(2));
                if let Ok(message) = place.and_then(|place| record::message(room, place, &record)) {
                    self.on_own_message(lent, reply, message);
                }
                return;
            }
            Ok(reply) if Status::of(reply) == Status::Dup => {
                let place = record::place(reply.bytes(1));
                let message = place.and_then(|place| record::message(room, place, reply.bytes(2)));
                if let Ok(message) = message {
                    lent.chat.repeat_mirrored(attachment, &message, lent.sink);
                }
                return;
            }
            Ok(reply) if Status::of(reply) == Status::Gone => return, // Its close is on its way.
            Ok(reply) => accept(reply).err().unwrap_or_else(away),
            Err(refusal) => refusal,
        };
        if let Refusal::RateLimited(wait) = why {
            // Until then the store would say the same, unless its owner ends a room's slow mode.
            let room = lent.chat.room(room).and_then(|key| lent.chat.room_info(key));
            if room.is_some_and(|room| room.slow_mode == 0) {
                self.conns.entry(conn).or_default().limited_until = lent.now.mono.after(wait);
            }
        }
        self.answers.push(NodeAnswer::Refused { to: conn, attachment, why, nonce });
    }

    /// Whether so many messages of the connection are under way that nothing more must be read from it.
    pub fn is_busy_with(&self, conn: ConnKey) -> bool {
        self.conns.get(&conn).is_some_and(|one| one.begun - one.answered >= POSTING_MAX)
    }

    /// The number of the connection's last message, if it has not been answered.
    pub fn last_under_way(&self, conn: ConnKey) -> Option<u64> {
        let posts = self.conns.get(&conn).filter(|one| one.begun > one.answered);
        posts.map(|one| one.begun)
    }

    /// One message more of the connection has been answered, of which so many bytes were kept.
    pub(super) fn on_post_settled(&mut self, conn: ConnKey, bytes: usize) {
        self.post_bytes = self.post_bytes.saturating_sub(bytes);
        let posts = self.conns.get_mut(&conn).filter(|one| one.begun > one.answered);
        let Some(posts) = posts else { return };
        posts.answered += 1;
        let count = posts.answered;
        if posts.answered == posts.begun {
            (posts.begun, posts.answered) = (0, 0);
        }
        self.answers.push(NodeAnswer::Answered { to: conn, count });
    }

    /// The connection's person is typing.
    pub fn typing(&mut self, lent: &mut Lent<'_>, attachment: AttachmentKey) {
        let Some(person) = lent.chat.person_of(attachment) else { return };
        let (room, user_id, name) = (person.room, person.user_id, person.name.clone());
        if self.on_typing(lent, room, user_id, name.shown(), Duration::ZERO) {
            let args = Args::new().room(room).user(user_id);
            let args = args.text("").text(name.as_str());
            let _ = self.call_room(lent.now.mono, room, Function::Typing, args, Token::Nothing);
        }
    }

    /// Tells the store which people have shown a sign of life after a probe.
    fn on_signs_of_life(&mut self, lent: &mut Lent<'_>) {
        for (room, user_id) in lent.chat.take_alive() {
            let args = Args::new().room(room).user(user_id);
            let _ = self.call_room(lent.now.mono, room, Function::Alive, args, Token::Nothing);
        }
    }

    /// Another session wants a person's name.
    pub(super) fn on_probe(&mut self, lent: &mut Lent<'_>, room: RoomId, user_id: UserId) {
        let Some(key) = lent.chat.room(room) else { return };
        if lent.chat.ping_person(key, user_id, lent.sink) {
            // Peers of event streams send nothing: shortly before the end it is asked whether they are
            // still there.
            let at = lent.now.mono.after(self.config.probe_timeout / 8 * 7);
            self.probes.retain(|one| (one.1, one.2) != (room, user_id));
            self.probes.push((at, room, user_id));
        }
    }

    /// Asks for people that are known to be alive without having sent anything.
    pub(super) fn end_probes(&mut self, lent: &mut Lent<'_>) {
        let now = lent.now.mono;
        let (due, rest) = self.probes.drain(..).partition(|(at, ..)| *at <= now);
        self.probes = rest;
        let due: Vec<(Mono, RoomId, UserId)> = due;
        for (_, room, user_id) in due {
            let key = lent.chat.room(room);
            if key.is_some_and(|key| lent.chat.is_person_alive(key, user_id, lent.sink)) {
                let args = Args::new().room(room).user(user_id);
                let _ = self.call_room(now, room, Function::Alive, args, Token::Nothing);
            }
        }
    }

    // ---- The way out

    /// Tells the store what has happened to connections: which have left, and which people have shown a
    /// sign of life.
    pub fn on_exits(&mut self, lent: &mut Lent<'_>) {
        self.on_signs_of_life(lent);
        if self.is_leaving {
            // `bye` has told the store that all people here are in their grace.
            lent.chat.take_exits();
            return;
        }
        for exit in lent.chat.take_exits() {
            self.on_exit(lent, exit);
        }
    }

    fn on_exit(&mut self, lent: &mut Lent<'_>, exit: MirrorExit) {
        let now = lent.now.mono;
        self.use_room(now, exit.room);
        let Ok(hash) = self.identity().map(|identity| identity.session(exit.session)) else {
            return;
        };
        if lent.chat.connections_of(exit.session).is_empty() {
            self.sessions.remove(&hash);
        }
        self.detach(now, hash);
        if exit.is_decided || !exit.is_last_of_person || self.is_entering(exit.room, exit.user_id) {
            return;
        }
        self.call_exit(now, exit.room, exit.user_id, exit.departure == Departure::Broken);
    }

    /// Tells the store that a person has no connection in a room here any more.
    pub(super) fn call_exit(&mut self, now: Mono, room: RoomId, user_id: UserId, is_broken: bool) {
        let args = self.exit_args(room, user_id, is_broken);
        if self.call_room(now, room, Function::Exit, args, Token::Event(room)).is_err() {
            self.leaving.insert((room, user_id)); // See `deferred`.
        }
        self.reap_after_exit(now, room);
    }

    pub(super) fn exit_args(&mut self, room: RoomId, user_id: UserId, is_broken: bool) -> Args {
        let config = &self.config;
        Args::new()
            .room(room)
            .user(user_id)
            .text(if is_broken { "broken" } else { "closed" })
            .time(config.leave_grace)
            .time(config.room_ttl)
            .number(config.history_messages_max as u64)
            .text(new_tail(&mut *self.entropy))
            .flag(false)
    }

    /// The grace of a person begins, and perhaps the time after which its empty room ends.
    pub(super) fn reap_after_exit(&mut self, now: Mono, room: RoomId) {
        if let Ok(partition) = self.identity().map(|one| one.partition_of_room(room)) {
            self.reap_within(now, partition, self.config.leave_grace);
            self.reap_within(now, partition, self.config.room_ttl);
        }
    }

    /// Tells the store that a person has no connection here, unless it has. What was asked for and not
    /// answered may still let it in, and that connection tells it then.
    pub(super) fn end_stay(&mut self, lent: &mut Lent<'_>, room: RoomId, user_id: UserId) {
        if !self.is_here(lent, room, user_id) {
            self.call_exit(lent.now.mono, room, user_id, true);
        }
    }

    /// Whether a person has a connection here that is in a room, or about to be let in.
    pub(super) fn is_here(&self, lent: &Lent<'_>, room: RoomId, user_id: UserId) -> bool {
        self.people_here(lent, room).contains(&user_id) || self.is_entering(room, user_id)
    }

    /// Whether another connection of the person is about to be let in.
    fn is_entering(&self, room: RoomId, user_id: UserId) -> bool {
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

    pub(super) fn detach(&mut self, now: Mono, session: SessionHash) {
        self.detach_as(now, session, false);
    }

    fn detach_as(&mut self, now: Mono, session: SessionHash, was_refused: bool) {
        let ttl = self.config.session_ttl;
        let args = Args::new().session(session).time(ttl).flag(was_refused);
        let token = Token::Detach(session);
        if self.call_session(now, session, Function::Detach, args, token).is_err() {
            match self.uplink.is_up() {
                true => self.deferred.detaches.push(session),
                false => _ = self.undeclared.insert(session.bits()),
            }
        }
        if let Ok(partition) = self.identity().map(|one| one.partition_of_session(session)) {
            self.reap_within(now, partition, ttl);
        }
    }

    /// Closes the connections of a session that has ended.
    pub(super) fn close_session(&mut self, lent: &mut Lent<'_>, session: SessionHash) {
        if let Some(id) = self.sessions.remove(&session) {
            lent.chat.close_session(lent.now, id, lent.sink);
        }
        self.close_entering(lent, &|one| one.hash == session, CloseReason::InvalidSession);
    }
}
