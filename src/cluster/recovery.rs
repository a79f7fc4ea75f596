//! The store was away: what this node has is compared with what the store has.
//!
//! Owns the order of catching up, and what connections are told if the store has lost something. Must
//! not know why the store was away. The invariant: nothing is sent again before it is known what an
//! earlier connection has done: the store refuses what earlier connections sent (see `uplink`), so what
//! is read now is final.
//!
//! 1. The store is asked which sessions and rooms it counts for this node. A store that has lost its newest
//!    data counts connections and people that have left: those sessions are declared to have no connections,
//!    and those people leave.
//! 2. Each session with connections here, or on their way, is declared, with their number, so that
//!    connections that came or went meanwhile are counted right.
//! 3. Each mirrored room is asked for what the mirror lacks, and which of this node's people it has.
//! 4. People that a room does not have enter again, and those that are no longer here leave.
//! 5. Calls that the answers have settled are answered; the others are sent again.

use std::collections::BTreeSet;

use super::args::Args;
use super::identity::{ClusterIdentity, new_tail};
use super::library::Function;
use super::plan::{Awaited, Plan, PlanKey, Progress, Returning};
use super::record::{self, SessionHash};
use super::refusal::refused_entry;
use super::resp::Reply;
use super::state::{Cluster, Counted, Lent, Missing, Token};
use super::status::Status;
use super::uplink::{StoreCall, Unavailable};
use crate::chat::{CloseReason, MessageCopies, Refusal, RoomId, UserId};
use crate::clock::Mono;

/// Most calls of catching up under way. One reply may have hundreds of kilobytes, and a store closes
/// connections for which it has to keep too much (`client-output-buffer-limit pubsub`, 8 MB).
const CATCHING_UP_MAX: usize = 32;

impl Cluster {
    /// The store knows this connection. Nothing but catching up is sent until it is over.
    pub(super) fn on_store_reached(&mut self, lent: &mut Lent<'_>, is_fresh: bool, secret: &[u8]) {
        let now = lent.now.mono;
        let secret = self.secret.as_deref().unwrap_or(secret);
        if self.identity.is_none() {
            self.identity = Some(ClusterIdentity::new(secret, self.partitions));
        }
        self.is_fresh = is_fresh;
        self.has_faulted = false;
        self.begin_beats(now, self.partitions);
        self.catching_up = 0;
        let left = std::mem::take(&mut self.to_catch_up).into_iter();
        self.undeclared.extend(left.filter_map(|missing| match missing {
            Missing::Session { session, .. } => Some(session.bits()),
            _ => None,
        }));
        let entering: Vec<_> = self.entering().map(|entering| entering.hash).collect();
        let here = entering.iter().chain(self.sessions.keys()).copied();
        let all = here.chain(self.deferred.begin_anew());
        self.undeclared.extend(all.map(SessionHash::bits));
        for partition in 0..self.partitions {
            self.to_catch_up.extend([Missing::Sessions(partition), Missing::Rooms(partition)]);
        }
        // Whether a session has ended is told before whether its rooms have.
        self.declare(lent);
        for (_, room) in lent.chat.mirrored_rooms() {
            let Some(mirrored) = self.rooms.get_mut(&room) else { continue };
            mirrored.is_loading = true;
            self.to_catch_up.push_back(Missing::Room(room));
        }
        self.catching_up = 0;
        self.on_caught_up_some(lent, 0);
    }

    /// The connections for which the store counts, or has yet to give back what it counts: those that
    /// are in their rooms, and those on their way of which it has said so. It counts the others when
    /// what they wait for is sent again.
    fn connections_counted(&self, lent: &Lent<'_>, session: SessionHash) -> usize {
        let inside = self.sessions.get(&session);
        let entering = self.entering().filter(|one| one.hash == session && one.is_attached);
        inside.map_or(0, |id| lent.chat.connections_of(*id).len()) + entering.count()
    }

    /// The store is to be told how many connections sessions have here at this moment. What comes and
    /// goes later is sent after that.
    fn declare(&mut self, lent: &Lent<'_>) {
        // What was counted down and not sent is part of the number.
        let detached = self.uplink.settle(&mut |token, _| matches!(token, Token::Detach(_)));
        self.undeclared.extend(detached.into_iter().filter_map(|token| match token {
            Token::Detach(session) => Some(session.bits()),
            _ => None,
        }));
        for bits in std::mem::take(&mut self.undeclared) {
            let session = SessionHash::from_bits(bits);
            let connections = self.connections_counted(lent, session);
            self.to_catch_up.push_back(Missing::Session { session, connections });
        }
    }

    /// Asks for as much as may be under way.
    fn ask_for_more(&mut self, now: Mono) {
        while self.catching_up < CATCHING_UP_MAX {
            let Some(missing) = self.to_catch_up.pop_front() else { return };
            let Some(identity) = &self.identity else { return };
            let asked = match missing {
                Missing::Session { session, connections } => {
                    let args = Args::new().session(session).number(connections as u64);
                    let args = args.time(self.config.session_ttl);
                    let partition = identity.partition_of_session(session);
                    let token = Token::Declared(session);
                    self.call_catching_up(now, partition, Function::Declare, args, token)
                }
                Missing::Room(room) => {
                    let Some(mirrored) = self.rooms.get(&room) else { continue };
                    let newest = mirrored.newest.to_string();
                    let args = Args::new().room(room).text(newest);
                    let partition = identity.partition_of_room(room);
                    self.call_catching_up(
                        now,
                        partition,
                        Function::Resync,
                        args,
                        Token::Missed(room),
                    )
                }
                Missing::Sessions(partition) => self.list_counted(
                    now,
                    self.uplink.node_key(partition, "sat"),
                    Counted::Sessions,
                ),
                Missing::Rooms(partition) => {
                    self.list_counted(now, self.uplink.node_key(partition, "at"), Counted::Rooms)
                }
                Missing::People(room) => {
                    let partition = identity.partition_of_room(room);
                    let key = self.uplink.node_key(partition, &format!("y:{room}"));
                    self.list_counted(now, key, Counted::People(room))
                }
                Missing::Stay(room, user_id) => {
                    let partition = identity.partition_of_room(room);
                    let args = self.exit_args(room, user_id, true);
                    let token = Token::Counted(Counted::Nothing);
                    self.reap_after_exit(now, room);
                    self.call_catching_up(now, partition, Function::Exit, args, token)
                }
                Missing::Interest(room) => {
                    let partition = identity.partition_of_room(room);
                    let args = Args::new().room(room);
                    let token = Token::Counted(Counted::Nothing);
                    self.call_catching_up(now, partition, Function::Unwatch, args, token)
                }
            };
            // If it fails, the connection is lost, and catching up begins again.
            if asked.is_ok() {
                self.catching_up += 1;
            } else if let Missing::Session { session, .. } = missing {
                self.undeclared.insert(session.bits());
            }
        }
    }

    /// Calls a function, also while catching up. The call is not sent again.
    pub(super) fn call_catching_up(
        &mut self,
        now: Mono,
        partition: u16,
        function: Function,
        args: Args,
        token: Token,
    ) -> Result<(), Unavailable> {
        let call = StoreCall { partition, function, args, is_lasting: false };
        self.uplink.call_once(now, call, token)
    }

    /// Asks for the members of a set of what the store counts for this node.
    fn list_counted(&mut self, now: Mono, key: String, what: Counted) -> Result<(), Unavailable> {
        self.uplink.command(now, &[b"SMEMBERS", key.as_bytes()], Token::Counted(what))
    }

    /// What the store counts for this node; `None`: it does not say.
    pub(super) fn on_counted(&mut self, lent: &mut Lent<'_>, what: Counted, reply: Option<&Reply>) {
        let members = reply.map(Reply::items).unwrap_or_default().iter();
        match what {
            Counted::Sessions => {
                let mut here = BTreeSet::new();
                here.extend(self.entering().map(|entering| entering.hash.bits()));
                here.extend(self.sessions.keys().map(|session| session.bits()));
                let counted = members.filter_map(|one| SessionHash::parse(one.as_bytes()).ok());
                // They are declared as soon as all others have been.
                let gone = counted.map(SessionHash::bits).filter(|one| !here.contains(one));
                self.undeclared.extend(gone);
            }
            Counted::Rooms => {
                let rooms = members.filter_map(|room| RoomId::parse(room.as_str()));
                let rooms = rooms.filter(|room| !self.rooms.contains_key(room));
                self.to_catch_up.extend(rooms.map(Missing::People));
            }
            Counted::People(room) => {
                let people = members.filter_map(|user_id| UserId::parse(user_id.as_str()));
                let gone = people.filter(|user_id| !self.is_here(lent, room, *user_id));
                let gone: Vec<_> = gone.map(|user_id| Missing::Stay(room, user_id)).collect();
                self.to_catch_up.extend(gone);
                self.to_catch_up.push_back(Missing::Interest(room));
            }
            Counted::Nothing => {}
        }
        self.on_caught_up_some(lent, 1);
    }

    /// A session was declared.
    pub(super) fn on_declared(
        &mut self,
        lent: &mut Lent<'_>,
        session: SessionHash,
        reply: Option<&Reply>,
    ) {
        if reply.is_some_and(|reply| Status::of(reply) == Status::NoSession) {
            self.close_session(lent, session);
        }
        self.on_caught_up_some(lent, 1);
    }

    /// What a mirrored room has missed.
    pub(super) fn on_missed(&mut self, lent: &mut Lent<'_>, room: RoomId, reply: Option<&Reply>) {
        match reply.map(|reply| (Status::of(reply), reply)) {
            Some((Status::Ok, reply)) => self.on_missed_part(lent, room, reply),
            Some((Status::NoRoom, _)) => self.close_room(lent, room, CloseReason::RoomNotFound),
            _ => {
                self.on_out_of_date(lent, room);
                // Its people here are closed, and there may be others that the store has again.
                self.to_catch_up.push_back(Missing::People(room));
            }
        }
        self.on_caught_up_some(lent, 1);
    }

    fn on_missed_part(&mut self, lent: &mut Lent<'_>, room: RoomId, reply: &Reply) {
        for message in record::messages(room, reply.list(1)).filter_map(Result::ok) {
            self.load_one(lent, &message);
        }
        if !reply.bytes(2).is_empty() {
            return self.to_catch_up.push_front(Missing::Room(room));
        }
        self.refresh_facts(lent, room, reply.bytes(3));
        let stays = reply.list(4).iter().filter_map(|user_id| UserId::parse(user_id.as_str()));
        let stays = ordered(stays);
        let here = ordered(self.people_here(lent, room));
        let person = |bits: &u128| (room, UserId::from_bits(*bits as u64));
        let returning = here.iter().filter(|one| !stays.contains(one)).map(person);
        returning.for_each(|person| self.returning.insert(person));
        let leaving = stays.iter().filter(|one| !here.contains(one)).map(person);
        leaving.for_each(|person| self.leaving.insert(person));
        self.on_up_to_date(lent, room);
    }

    pub(super) fn people_here(&self, lent: &Lent<'_>, room: RoomId) -> Vec<UserId> {
        let key = lent.chat.room(room).into_iter();
        key.flat_map(|key| lent.chat.people_here(key)).map(|person| person.user_id).collect()
    }

    /// So many calls of catching up have been answered.
    fn on_caught_up_some(&mut self, lent: &mut Lent<'_>, count: usize) {
        let now = lent.now.mono;
        self.catching_up = self.catching_up.saturating_sub(count);
        self.ask_for_more(now);
        if self.catching_up > 0 || self.uplink.is_up() {
            return;
        }
        self.settle_posts(lent);
        if !self.undeclared.is_empty() {
            // Connections have ended since they were declared. What is sent again must find the count.
            self.declare(lent);
            return self.ask_for_more(now);
        }
        self.lost = None;
        self.uplink.resume(now);
        for (room, user_id) in self.leaving.take() {
            self.end_stay(lent, room, user_id);
        }
        for (room, user_id) in self.returning.take() {
            self.enter_again(lent, room, user_id);
        }
    }

    /// Answers the posts that were executed before the connection was lost: their messages are in the
    /// mirror now.
    fn settle_posts(&mut self, lent: &mut Lent<'_>) {
        let chat = &*lent.chat;
        let find = |room: RoomId, body: &[u8]| {
            let tail = record::tail_of(body)?;
            let key = chat.room(room)?;
            chat.find_tail(key, tail)
        };
        let mut found: Vec<Option<MessageCopies>> = Vec::new();
        let plans = &self.plans;
        let settled = self.uplink.settle(&mut |token, may_have_run| {
            if !may_have_run {
                return false;
            }
            let message = match token {
                Token::Post(posting) => find(posting.room, &posting.body),
                Token::Plan(key) => {
                    plans.get(*key).and_then(Plan::posted).and_then(|(room, body)| find(room, body))
                }
                _ => None,
            };
            let is_found = message.is_some();
            if is_found {
                found.push(message);
            }
            is_found
        });
        for (token, message) in settled.into_iter().zip(found) {
            match token {
                Token::Post(posting) => {
                    self.on_post_settled(posting.conn, posting.heap_bytes());
                }
                Token::Plan(key) => {
                    if let Some(message) = message {
                        self.advance(lent, key, Awaited::Posted(message));
                    }
                }
                _ => {}
            }
        }
    }

    // ---- People that the store has forgotten

    pub(super) fn enter_again(&mut self, lent: &mut Lent<'_>, room: RoomId, user_id: UserId) {
        let begun = self.begin(lent, |cluster, lent, key| {
            let partition = cluster.identity()?.partition_of_room(room);
            let args = Args::new().room(room).user(user_id);
            let (now, token) = (lent.now.mono, Token::Plan(key));
            cluster.call(now, partition, Function::Members, args, token)?;
            Ok(Plan::Returning(Returning { room, user_id, has_asked: false }))
        });
        if begun.is_err() {
            self.returning.insert((room, user_id)); // With the next connection.
        }
    }

    pub(super) fn on_returning(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        returning: Returning,
        awaited: Awaited<'_>,
    ) -> Progress {
        let Returning { room, user_id, has_asked } = returning;
        let Awaited::Reply(reply) = awaited else { return Progress::Done };
        if has_asked {
            self.on_returned(lent, room, user_id, reply);
            return Progress::Done;
        }
        let is_member = reply.list(1).first().is_some_and(|one| !one.as_bytes().is_empty());
        if !is_member && !self.is_fresh {
            self.close_person(lent, room, user_id, CloseReason::LeftRoom);
            return Progress::Done;
        }
        match self.ask_to_return(lent, key, room, user_id) {
            Ok(true) => {
                Progress::waits(Plan::Returning(Returning { room, user_id, has_asked: true }))
            }
            Ok(false) => Progress::Done, // Its connections have ended.
            Err(_) => {
                self.returning.insert((room, user_id));
                Progress::Done
            }
        }
    }

    fn ask_to_return(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        room: RoomId,
        user_id: UserId,
    ) -> Result<bool, Refusal> {
        let Some(mirrored) = lent.chat.room(room) else { return Ok(false) };
        let person = lent.chat.people_here(mirrored).find(|person| person.user_id == user_id);
        let Some(name) = person.map(|person| person.name.clone()) else { return Ok(false) };
        let args = Args::new()
            .room(room)
            .user(user_id)
            .text(name.folded())
            .text(name.as_str())
            .text("-") // The address that the room has.
            .flag(true)
            .flag(false)
            .number(0)
            .text("later")
            .time(self.config.probe_timeout)
            .text(new_tail(&mut *self.entropy))
            .text(new_tail(&mut *self.entropy))
            .number(self.config.history_messages_max as u64);
        self.call_room(lent.now.mono, room, Function::Enter, args, Token::Plan(key))?;
        Ok(true)
    }

    fn on_returned(&mut self, lent: &mut Lent<'_>, room: RoomId, user_id: UserId, reply: &Reply) {
        match Status::of(reply) {
            Status::In => {
                // Before the room knew this node again, messages may have passed it by.
                let is_new = self.rooms.get(&room).is_some_and(|mirrored| {
                    record::place(reply.bytes(1)).is_ok_and(|last| last == mirrored.newest)
                });
                if !is_new {
                    return self.resync(lent.now.mono, room);
                }
                for event in reply.list(2) {
                    self.on_entry(lent, room, event);
                }
                self.on_facts(lent, room, reply.bytes(3));
            }
            Status::NoRoom => self.close_room(lent, room, CloseReason::RoomNotFound),
            status => self.close_person(lent, room, user_id, refused_entry(status)),
        }
    }

    // ---- Giving up

    /// Closes all connections of a room, for a reason that is not its end, and forgets it.
    pub(super) fn close_room(&mut self, lent: &mut Lent<'_>, room: RoomId, reason: CloseReason) {
        for user_id in self.people_here(lent, room) {
            if reason == CloseReason::Unavailable {
                self.leaving.insert((room, user_id)); // The store may still have the person.
            }
            self.close_person(lent, room, user_id, reason);
        }
        let waiting = self.rooms.remove(&room).map(|mirrored| mirrored.waiting);
        if let Some(key) = lent.chat.room(room) {
            lent.chat.drop_mirrored(lent.now, key, lent.sink);
        }
        for one in waiting.into_iter().flatten() {
            self.advance(lent, one.key(), Awaited::NoRoom(reason));
        }
    }

    /// Closes all connections if the store has been away for too long.
    pub(super) fn lose_patience(&mut self, lent: &mut Lent<'_>) {
        let is_over = self.lost.is_some_and(|lost| lost.after(self.patience) <= lent.now.mono);
        if !is_over {
            return;
        }
        self.lost = None;
        let rooms: Vec<_> = lent.chat.mirrored_rooms().collect();
        for (_, room) in rooms {
            self.close_room(lent, room, CloseReason::Unavailable);
        }
        self.close_entering(lent, &|_| true, CloseReason::Unavailable);
    }

    /// When [`Cluster::lose_patience`] is due.
    pub(super) fn patience_ends(&self) -> Option<Mono> {
        self.lost.map(|lost| lost.after(self.patience))
    }
}

/// People in the order of their ids, as numbers (see [`Cluster::timers`]).
fn ordered(people: impl IntoIterator<Item = UserId>) -> BTreeSet<u128> {
    let mut ordered = BTreeSet::new();
    ordered.extend(people.into_iter().map(|user_id| u128::from(user_id.bits())));
    ordered
}
