//! Commands that need a mirror of their room: to read from it, or to know what a post looks like.
//!
//! Owns the way to a complete mirror, and posting. Must not know how a mirror is loaded. The invariant:
//! what is read was asked for after the request came, because `look` is answered after every event
//! before it, mirrored or not.

use std::borrow::Cow;

use super::{After, Cluster, Stepped, Wait, done};
use crate::chat::{Draft, MessageCopies, Outcome, Refusal, RoomId};
use crate::cluster::args::Args;
use crate::cluster::library::Function;
use crate::cluster::plan::{KnownSession, ReachPurpose, RequestStep, RoomAct};
use crate::cluster::record;
use crate::cluster::refusal::{accept, away};
use crate::cluster::resp::Reply;
use crate::cluster::settled::Settled;
use crate::cluster::state::Lent;
use crate::cluster::status::Status;

impl Cluster {
    pub(super) fn reach_to_post(
        &mut self,
        lent: &mut Lent<'_>,
        person: Box<KnownSession>,
        room: Option<RoomId>,
        text: Cow<'static, str>,
        nonce: Option<Cow<'static, str>>,
    ) -> Stepped {
        let Some(room) = room else {
            // A bad message is refused before an unknown room.
            Draft::new(&text, nonce.as_deref())?;
            return Err(Refusal::RoomNotFound);
        };
        if self.use_room(lent.now.mono, room) == Some(true) {
            return self.ask_to_post(lent, &person, room, &text, nonce.as_deref());
        }
        self.reach(lent, person, room, ReachPurpose::Post { text, nonce })
    }

    /// Asks the room for access, and for a mirror of it if there is none.
    pub(super) fn reach(
        &mut self,
        lent: &mut Lent<'_>,
        person: Box<KnownSession>,
        room: RoomId,
        purpose: ReachPurpose,
    ) -> Stepped {
        let (access, from) = match &purpose {
            ReachPurpose::ReadMessages { from, .. } | ReachPurpose::ListPeople { from } => {
                ("read", *from)
            }
            // `post` itself asks whether the session is a member.
            ReachPurpose::Post { .. } => ("show", None),
        };
        let has_mirror = self.use_room(lent.now.mono, room).is_some();
        let args = Args::new()
            .room(room)
            .user(self.user_id(person.hash, room)?)
            .text(access)
            .text(self.identity()?.address_in(from, room))
            .flag(!has_mirror);
        self.ask_room(room, Function::Look, args, RequestStep::Reaching { person, room, purpose })
    }

    pub(super) fn on_looked(
        &mut self,
        lent: &mut Lent<'_>,
        person: Box<KnownSession>,
        room: RoomId,
        purpose: ReachPurpose,
        reply: &Reply,
    ) -> Stepped {
        if let (Err(_), ReachPurpose::Post { text, nonce }) = (accept(reply), &purpose) {
            // A bad message is refused before an unknown room.
            Draft::new(text, nonce.as_deref())?;
        }
        accept(reply)?;
        match self.is_mirrored(lent, room, reply) {
            Some(true) => self.on_reached(lent, &person, room, purpose),
            Some(false) => {
                Ok(After::Step(Wait::Room(room), RequestStep::Reaching { person, room, purpose }))
            }
            // The mirror was dropped meanwhile.
            None => self.reach(lent, person, room, purpose),
        }
    }

    /// The session has access, and the mirror is as new as the last reply.
    pub(super) fn on_reached(
        &mut self,
        lent: &mut Lent<'_>,
        person: &KnownSession,
        room: RoomId,
        purpose: ReachPurpose,
    ) -> Stepped {
        match purpose {
            ReachPurpose::ReadMessages { after, limit, .. } => {
                let room = lent.chat.room(room).ok_or(Refusal::RoomNotFound)?;
                Ok(After::Settled(Settled::Messages { room, after, limit }))
            }
            ReachPurpose::ListPeople { .. } => {
                let room = lent.chat.room(room).ok_or(Refusal::RoomNotFound)?;
                Ok(After::Settled(Settled::People(room)))
            }
            ReachPurpose::Post { text, nonce } => {
                self.ask_to_post(lent, person, room, &text, nonce.as_deref())
            }
        }
    }

    fn ask_to_post(
        &mut self,
        lent: &mut Lent<'_>,
        person: &KnownSession,
        room: RoomId,
        text: &str,
        nonce: Option<&str>,
    ) -> Stepped {
        let mirrored = lent.chat.room(room).ok_or(Refusal::RoomNotFound)?;
        let draft = lent.chat.draft(mirrored, text, nonce)?;
        let user_id = self.user_id(person.hash, room)?;
        let (body, args) =
            self.post_args((room, user_id), &draft, person.name.shown(), person.name.folded());
        self.act(room, Function::Post, args, RoomAct::Post { body })
    }

    /// `body`: of the message, if it is a new one.
    pub(super) fn on_posted(
        &mut self,
        lent: &mut Lent<'_>,
        room: RoomId,
        body: &[u8],
        reply: &Reply,
    ) -> Stepped {
        let key = lent.chat.room(room).ok_or(Refusal::RoomNotFound)?;
        let (is_new, id, record) = match Status::of(reply) {
            Status::Ok => (true, reply.bytes(2), [reply.bytes(3), body].concat()),
            Status::Dup => (false, reply.bytes(1), reply.bytes(2).to_vec()),
            _ => return Err(accept(reply).err().unwrap_or_else(away)),
        };
        let place = record::place(id).map_err(|_| away())?;
        let message = record::message(room, place, &record).map_err(|_| away())?;
        if is_new {
            self.on_own_message(lent, reply, message);
        }
        let message = MessageCopies::of_message(&message);
        done(Outcome::Posted { room: key, message, is_new })
    }
}
