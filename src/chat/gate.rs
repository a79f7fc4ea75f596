//! The gate: who may go through which door of a room.
//!
//! Owns the one decision that every way to enter, read or post asks for. Must never know by which
//! route or socket somebody came. The invariant: a wrong id and a room that is over take the same
//! path, so that nobody learns from an answer whether there is a room they have no id of.

use super::limits::Address;
use super::room::RoomKey;
use super::session::SessionKey;
use super::{Chat, Refusal};
use crate::clock::Now;

/// A way into a room.
#[derive(Clone, Copy)]
pub enum Access<'a> {
    /// Becoming a member.
    Join {
        /// As given, if one was.
        password: Option<&'a str>,
        /// Whose wrong guesses it counts against; all exempt peers are one.
        from: Option<Address>,
    },
    /// Looking on: the socket, messages, users.
    Read,
    /// Saying something without a connection in the room.
    Post,
}

impl Chat {
    /// Whether a session may go through a door of a room. `room`: what the id led to, if anything.
    pub fn gate(
        &mut self,
        now: Now,
        session: SessionKey,
        room: Option<RoomKey>,
        access: Access<'_>,
    ) -> Result<RoomKey, Refusal> {
        let key = room.ok_or(Refusal::RoomNotFound)?;
        let room = self.rooms.get_mut(key).ok_or(Refusal::RoomNotFound)?;
        if self.sessions.get(session).is_some_and(|session| session.member_in(key).is_some()) {
            return Ok(key); // Never asked again.
        }
        match (access, &mut room.lock) {
            (Access::Post, _) | (Access::Read, Some(_)) => Err(Refusal::NotAMember),
            (Access::Read | Access::Join { .. }, None) => Ok(key),
            (Access::Join { password: None, .. }, Some(_)) => Err(Refusal::BadPassword),
            (Access::Join { password: Some(password), from }, Some(lock)) => {
                let pace = self.settings.guess_pace;
                let opened = lock.try_open(now.mono, password, from, pace);
                self.recount_room(key);
                opened.map(|()| key)
            }
        }
    }
}
