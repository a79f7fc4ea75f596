//! Joining a room: the password first, then the room.
//!
//! Owns the calls for a password and for membership. Must not know how a lock is made. The invariant: a
//! password is compared here only after the store has counted the guess, and the store lets in only
//! with the lock that it was compared with, so a change of the password in between is noticed.

use super::{Cluster, Stepped, done};
use crate::chat::{Outcome, Refusal};
use crate::cluster::args::Args;
use crate::cluster::library::Function;
use crate::cluster::plan::{Joining, RequestStep};
use crate::cluster::refusal::{accept, away};
use crate::cluster::resp::Reply;
use crate::cluster::status::Status;

impl Cluster {
    pub(super) fn guess(&mut self, joining: Joining) -> Stepped {
        let Joining { person, room, from, .. } = &joining;
        let (room, paces) = (*room, self.config.guess_paces);
        let args = Args::new()
            .room(room)
            .user(self.user_id(person.hash, room)?)
            .text(self.identity()?.address_in(*from, room))
            .pace(paces.address)
            .pace(paces.room);
        self.ask_room(room, Function::Guess, args, RequestStep::Guessing(joining))
    }

    pub(super) fn on_guessed(&mut self, joining: Joining, reply: &Reply) -> Stepped {
        let lock = match Status::of(reply) {
            Status::In => None,
            Status::Lock => Some(reply.text(1)),
            _ => return Err(accept(reply).err().unwrap_or_else(away)),
        };
        if let (Some(lock), Some(password)) = (lock, &joining.password) {
            if !self.identity()?.opens(lock, password) {
                return Err(Refusal::BadPassword);
            }
        }
        self.join(joining, lock)
    }

    /// `lock`: the lock that the password has opened, as the room has it.
    pub(super) fn join(&mut self, joining: Joining, lock: Option<&str>) -> Stepped {
        let Joining { person, room, from, is_over, .. } = &joining;
        let (room, paces) = (*room, self.config.guess_paces);
        let address = self.identity()?.address_in(*from, room);
        let args = Args::new()
            .room(room)
            .user(self.user_id(person.hash, room)?)
            .text(person.name.as_str())
            .text(person.name.folded())
            .text(&address)
            .flag(*is_over)
            .text(lock.unwrap_or_default())
            .text(if lock.is_some() { &address } else { "-" })
            .time(paces.address.interval())
            .time(paces.room.interval());
        self.ask_room(room, Function::Join, args, RequestStep::Joining(joining))
    }

    pub(super) fn on_joined(&mut self, joining: Joining, reply: &Reply) -> Stepped {
        match (Status::of(reply), &joining.password) {
            (Status::Again, None) => Err(Refusal::BadPassword),
            (Status::Again, Some(_)) => self.guess(joining),
            _ => {
                accept(reply)?;
                let user_id = self.user_id(joining.person.hash, joining.room)?;
                done(Outcome::Joined { user_id: Some(user_id) })
            }
        }
    }
}
