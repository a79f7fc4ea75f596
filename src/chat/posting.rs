//! Posting: messages and typing events, and the order of all messages.
//!
//! Owns the rules for messages and typing events. Must not know which connections receive them:
//! `feed` delivers. The invariant: a message gets its id and its time, and with them its position
//! in the order, in one function, [`Chat::accept`], and nowhere else.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::error::Refusal;
use super::event::{Event, Frame, Message, MessageKind};
use super::history::Nonce;
use super::id::MessageId;
use super::keys::{AttachmentKey, MemberKey, RoomKey, SessionKey};
use super::limits::{MESSAGE_CHARS_MAX, NONCE_BYTES_MAX};
use super::sink::Sink;
use super::state::Chat;
use crate::clock::Now;

/// The shortest time between two published typing events of a member (contract §6.3).
const TYPING_INTERVAL: Duration = Duration::from_secs(1);

/// A chat message to be posted, trimmed and valid.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    text: &'a str,
    nonce: Option<&'a str>,
}

impl<'a> Draft<'a> {
    /// Checks the nonce, then trims and checks the text.
    pub fn new(text: &'a str, nonce: Option<&'a str>) -> Result<Draft<'a>, Refusal> {
        if nonce.is_some_and(|nonce| !is_nonce(nonce)) {
            return Err(Refusal::BadNonce);
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(Refusal::EmptyMessage);
        }
        // Characters are counted only in a long text: no text has more characters than bytes.
        if text.len() > MESSAGE_CHARS_MAX && text.chars().nth(MESSAGE_CHARS_MAX).is_some() {
            return Err(Refusal::TooLong);
        }
        Ok(Draft { text, nonce })
    }
}

/// Whether a text can be a nonce: 1 to [`NONCE_BYTES_MAX`] bytes.
pub fn is_nonce(text: &str) -> bool {
    (1..=NONCE_BYTES_MAX).contains(&text.len())
}

/// The message for a draft: a new one, or an earlier one with the same nonce.
struct Posted {
    id: MessageId,
    frame: Frame,
    is_new: bool,
}

impl Chat {
    /// Posts a message from a connection to its room. If the history has a message of the member
    /// with the same nonce, posts nothing and sends that message again, to this connection only.
    pub fn post(
        &mut self,
        now: Now,
        attachment: AttachmentKey,
        draft: Draft<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Refusal> {
        let Some(member) = self.member_of(attachment) else { return Ok(()) };
        let posted = self.post_as(now, member, draft, sink)?;
        if !posted.is_new {
            self.feeds.repeat(attachment, posted.id, &posted.frame, sink);
        }
        Ok(())
    }

    /// Posts a message for a member that need not have a connection in the room. Returns the
    /// message's payload, and false if it is an earlier message with the same nonce.
    pub fn post_from_outside(
        &mut self,
        now: Now,
        session: SessionKey,
        room: RoomKey,
        draft: Draft<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(Bytes, bool), Refusal> {
        let member = self.sessions.get(session).and_then(|session| session.member_in(room));
        let member = member.ok_or(Refusal::NotAMember)?;
        if self.holder_in_the_way(member).is_some_and(|holder| self.is_connected(holder)) {
            return Err(Refusal::NameTaken);
        }
        let posted = self.post_as(now, member, draft, sink)?;
        if let Some(timer) = self.feeds.room(room).and_then(|room| room.timer) {
            self.timers.rearm(timer, now.mono);
        }
        self.feeds.seal(room, sink); // Only sealed frames can be read.
        Ok((posted.frame.payload(), posted.is_new))
    }

    /// Publishes that a member is typing, at most once in `TYPING_INTERVAL`.
    pub fn typing(&mut self, now: Now, attachment: AttachmentKey, sink: &mut dyn Sink) {
        let Some(member) = self.member_of(attachment).and_then(|key| self.members.get_mut(key))
        else {
            return;
        };
        if now.mono < member.typing_due {
            return;
        }
        member.typing_due = now.mono.after(TYPING_INTERVAL);
        let (Some(room), Some(session)) =
            (self.feeds.room(member.room), self.sessions.get(member.session))
        else {
            return;
        };
        let (user, user_id) = (session.name.as_str(), member.user_id);
        let event = Event::Typing { user, user_id, room_id: room.id };
        self.feeds.deliver_unkept(member.room, &event, sink);
    }

    /// Ends the room's batch, if one is open, and queues it for the room's connections. Necessary
    /// before a connection of the room is sent something of its own; otherwise the event loop
    /// decides when.
    pub fn seal(&self, room: RoomKey, sink: &mut dyn Sink) {
        self.feeds.seal(room, sink);
    }

    fn post_as(
        &mut self,
        now: Now,
        key: MemberKey,
        draft: Draft<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Posted, Refusal> {
        let member = self.members.get(key).ok_or(Refusal::NotAMember)?;
        if let Some(session) = self.sessions.get_mut(member.session) {
            let taken = self.config.message_pace.take(&mut session.messages, now.mono);
            taken.map_err(Refusal::RateLimited)?;
        }
        let user_id = member.user_id;
        let nonce = draft.nonce.map(|text| Rc::new(Nonce { user_id, text: text.into() }));
        if let Some(nonce) = &nonce {
            let history = self.feeds.history(member.room);
            if let Some(known) = history.and_then(|history| history.find(nonce)) {
                return Ok(Posted { id: known.id, frame: known.frame.clone(), is_new: false });
            }
        }
        if let Some(holder) = self.holder_in_the_way(key) {
            self.depart(now, holder, sink); // A holder in its grace gives way to a post.
        }
        let accepted = self.accept(now, key, MessageKind::Chat(draft.text), nonce, sink);
        let (id, frame) = accepted.ok_or(Refusal::RoomNotFound)?;
        Ok(Posted { id, frame, is_new: true })
    }

    /// Assigns a message its id and its time, and with them its position in the order, and delivers
    /// it. `None`: the room is being deleted.
    pub(super) fn accept(
        &mut self,
        now: Now,
        member: MemberKey,
        kind: MessageKind<'_>,
        nonce: Option<Rc<Nonce>>,
        sink: &mut dyn Sink,
    ) -> Option<(MessageId, Frame)> {
        let member = self.members.get(member)?;
        let session = self.sessions.get(member.session)?;
        let room = self.feeds.room(member.room).filter(|room| !room.is_closing)?;
        let id = self.message_ids.next(now.wall, &mut *self.entropy);
        let message = Message {
            id,
            kind,
            user: session.name.as_str(),
            user_id: member.user_id,
            wall: now.wall,
            room_id: room.id,
            nonce: nonce.as_ref().map(|nonce| &*nonce.text),
        };
        let frame = self.feeds.deliver(member.room, message, nonce.as_ref(), sink)?;
        Some((id, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_refused_for_its_nonce_before_its_trimmed_text() {
        fn draft(text: &str, nonce: Option<&str>) -> Result<usize, Refusal> {
            Draft::new(text, nonce).map(|draft| draft.text.len())
        }
        assert_eq!(draft(" a\u{3000}", None), Ok(1));
        assert_eq!(draft(&"🦀".repeat(4000), Some("x")), Ok(16_000));
        assert_eq!(draft(&"🦀".repeat(4001), Some("x")), Err(Refusal::TooLong));
        assert_eq!(draft(" \n", Some("x")), Err(Refusal::EmptyMessage));
        assert_eq!(draft("", Some("")), Err(Refusal::BadNonce));
        assert_eq!(draft("a", Some(&"é".repeat(32))), Ok(1));
        assert_eq!(draft("a", Some(&"x".repeat(65))), Err(Refusal::BadNonce));
    }
}
