//! What a connection in a room sends: messages, that its person is typing, and signs of life.
//!
//! Owns the count of a connection's messages that are under way. Must not know what the client is told.
//! The invariant: a connection's messages are called in the order in which they came, and at most
//! [`POSTING_MAX`] of them are unanswered.

use std::time::Duration;

use super::args::Args;
use super::identity::{draw_tail, new_tail};
use super::library::Function;
use super::plan::Posting;
use super::record::{self, MessageBody};
use super::refusal::{accept, away};
use super::resp::Reply;
use super::state::{Cluster, Lent, NodeAnswer, Token};
use super::status::Status;
use crate::chat::{AttachmentKey, ConnKey, Draft, MessageKind, Refusal, RoomId, UserId, UserName};
use crate::clock::Mono;

/// Messages of one connection that may be under way. Beyond, nothing is read from it.
const POSTING_MAX: u64 = 64;

impl Cluster {
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
    pub(super) fn on_signs_of_life(&mut self, lent: &mut Lent<'_>) {
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
}
