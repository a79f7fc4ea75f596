//! A connection's way out of a room.
//!
//! Owns the calls that give back what the store counts for a connection. Must not know why the
//! connection has ended. The invariant: a call that cannot be made now is kept in
//! [`Cluster::leaving`], in `deferred` or among the undeclared, and made later.

use super::args::Args;
use super::identity::new_tail;
use super::library::Function;
use super::record::SessionHash;
use super::state::{Cluster, Lent, Token};
use crate::chat::{CloseReason, Departure, MirrorExit, RoomId, UserId};
use crate::clock::Mono;

impl Cluster {
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

    /// A connection of the session has ended.
    pub(super) fn detach(&mut self, now: Mono, session: SessionHash) {
        self.detach_as(now, session, false);
    }

    /// `was_refused`: the connection was never let in, so it is no use of its session.
    pub(super) fn detach_as(&mut self, now: Mono, session: SessionHash, was_refused: bool) {
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
