//! What is said in a room, and in which order.
//!
//! Owns the rules for messages and the order of all that a room is told. Must never know who
//! hears it: that is the sink's list. The invariant: a message gets its id, its time and its place
//! in one function, [`Chat::accept`], and nowhere else.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::event::{Event, Frame, Message, MessageId, MessageKind};
use super::history::{HistoryEntry, Nonce};
use super::presence::AttachmentKey;
use super::room::{MemberKey, RoomKey};
use super::session::SessionKey;
use super::{Chat, Refusal, Sink};
use crate::clock::Now;

/// Most characters (Unicode scalar values) of a chat after trimming (contract §6.2).
pub const MESSAGE_CHARS_MAX: usize = 4000;
/// Most bytes of a nonce; the least is 1 (contract §8.9).
pub const NONCE_BYTES_MAX: usize = 64;
/// How often one person's typing is passed on (contract §6.3).
const TYPING_INTERVAL: Duration = Duration::from_secs(1);

/// Something to say, trimmed and within the rules.
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
        // No text has more characters than bytes.
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

/// What became of a draft: where the message lies, and whether it is told for the first time.
struct Said {
    id: MessageId,
    frame: Frame,
    is_new: bool,
}

impl Chat {
    /// Says something to everyone in the room of `attachment`. What its sender has said before,
    /// by the nonce, it alone is told again.
    pub fn post(
        &mut self,
        now: Now,
        attachment: AttachmentKey,
        draft: Draft<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Refusal> {
        let Some(member) = self.member_of(attachment) else { return Ok(()) };
        let said = self.say(now, member, draft, sink)?;
        if !said.is_new {
            self.tell_again(attachment, said.id, &said.frame, sink);
        }
        Ok(())
    }

    /// Says something to everyone in a room whose gate the session has passed, without a
    /// connection in it. Returns the message's payload and whether it is told for the first time.
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
        let said = self.say(now, member, draft, sink)?;
        if let Some(timer) = self.rooms.get(room).and_then(|room| room.timer) {
            self.timers.rearm(timer, now.mono);
        }
        self.seal(room, sink);
        Ok((said.frame.payload(), said.is_new))
    }

    /// Tells everyone in the room that somebody is typing, unless they were told a moment ago.
    pub fn typing(&mut self, now: Now, attachment: AttachmentKey, sink: &mut dyn Sink) {
        let Some(member) = self.member_of(attachment).and_then(|key| self.members.get_mut(key))
        else {
            return;
        };
        if now.mono < member.typing_due {
            return;
        }
        member.typing_due = now.mono.after(TYPING_INTERVAL);
        let (key, session, user_id) = (member.room, member.session, member.user_id);
        let (Some(room), Some(session)) = (self.rooms.get(key), self.sessions.get(session)) else {
            return;
        };
        let event = Event::Typing { user: session.name.as_str(), user_id, room_id: room.id };
        if sink.publish(key, &event).fills_batch() {
            self.seal(key, sink);
        }
    }

    /// The last `count` messages of a room, oldest first, in their final bytes.
    pub fn history<'a>(
        &'a self,
        room: RoomKey,
        count: usize,
        sink: &mut dyn Sink,
    ) -> impl Iterator<Item = &'a HistoryEntry> + use<'a> {
        self.seal(room, sink);
        self.rooms.get(room).into_iter().flat_map(move |room| room.history.last(count))
    }

    /// The messages after `id`, oldest first, in their final bytes, and whether none is missing.
    /// If that message is not kept (`None`: makes no sense), all that is kept.
    pub fn history_after<'a>(
        &'a self,
        room: RoomKey,
        id: Option<MessageId>,
        sink: &mut dyn Sink,
    ) -> (impl Iterator<Item = &'a HistoryEntry> + use<'a>, bool) {
        self.seal(room, sink);
        let history = self.rooms.get(room).map(|room| &room.history);
        let known = id.filter(|id| history.is_some_and(|history| history.get(*id).is_some()));
        (history.into_iter().flat_map(move |history| history.after(known)), known.is_some())
    }

    /// Queues what a room has said in this tick for everybody who is in it now. Due before anyone
    /// comes or goes or is told something personal, and at the tick's end.
    pub fn seal(&self, room: RoomKey, sink: &mut dyn Sink) {
        if let Some(entry) = self.rooms.get(room) {
            sink.seal(room, &entry.connections);
        }
    }

    fn say(
        &mut self,
        now: Now,
        key: MemberKey,
        draft: Draft<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Said, Refusal> {
        let member = self.members.get(key).ok_or(Refusal::NotAMember)?;
        if let Some(session) = self.sessions.get_mut(member.session) {
            let paced = self.settings.message_pace.take(&mut session.messages, now.mono);
            paced.map_err(Refusal::RateLimited)?;
        }
        let user_id = member.user_id;
        let nonce = draft.nonce.map(|text| Rc::new(Nonce { user_id, text: text.into() }));
        let history = self.rooms.get(member.room).map(|room| &room.history);
        if let Some(known) = nonce.as_ref().and_then(|nonce| history?.find(nonce)) {
            return Ok(Said { id: known.id, frame: known.frame.clone(), is_new: false });
        }
        if let Some(holder) = self.holder_in_the_way(key) {
            self.depart(now, holder, sink); // In its grace: gives way to what is really said.
        }
        let said = self.accept(now, key, MessageKind::Chat(draft.text), nonce, sink);
        let (id, frame) = said.ok_or(Refusal::RoomNotFound)?;
        Ok(Said { id, frame, is_new: true })
    }

    /// The one place where a message's order is decided: gives it id and time, has it delivered,
    /// and keeps it.
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
        let room = self.rooms.get_mut(member.room).filter(|room| !room.is_over)?;
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
        let frame = sink.publish(member.room, &Event::Message(message));
        let entry = HistoryEntry { id, frame: frame.clone(), nonce };
        room.history.push(entry, self.settings.history_messages_max);
        let (room, is_kept) = (member.room, !room.history.is_empty());
        if is_kept {
            self.note_activity(room);
        }
        self.recount_room(room);
        if frame.fills_batch() {
            self.seal(room, sink);
        }
        Some((id, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_trimmed_and_measured_and_its_nonce_comes_first() {
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
