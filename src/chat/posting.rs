//! Posting: messages and typing events, and the order of all messages.
//!
//! Owns the rules for messages and typing events. Must not know which connections receive them:
//! `feed` delivers. The invariant: a message gets its id and its time, and with them its position
//! in the order, in one function, [`Chat::accept`], and nowhere else.

use std::time::Duration;

use super::envelope::is_envelope;
use super::error::Refusal;
use super::event::{Event, Message, MessageKind};
use super::id::{RoomId, UserId};
use super::kept::MessageCopies;
use super::keys::{AttachmentKey, MemberKey, RoomKey, SessionKey, ShareKey};
use super::limits::{MESSAGE_CHARS_MAX, NONCE_BYTES_MAX};
use super::sink::Sink;
use super::state::{Chat, Member, Room};
use super::store::Place;
use super::visible::has_visible;
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
        let draft = Draft::restored(text, nonce)?;
        if has_visible(draft.text) { Ok(draft) } else { Err(Refusal::EmptyMessage) }
    }

    /// The same for a message of a state file, whose text may have no visible character: the first
    /// edition of the contract allowed it.
    #[inline(always)]
    pub(super) fn restored(text: &'a str, nonce: Option<&'a str>) -> Result<Draft<'a>, Refusal> {
        if nonce.is_some_and(|nonce| !is_nonce(nonce)) {
            return Err(Refusal::BadNonce);
        }
        let text = trim(text);
        if text.is_empty() {
            return Err(Refusal::EmptyMessage);
        }
        // Characters are counted only in a long text: no text has more characters than bytes.
        if text.len() > MESSAGE_CHARS_MAX && text.chars().nth(MESSAGE_CHARS_MAX).is_some() {
            return Err(Refusal::TooLong);
        }
        Ok(Draft { text, nonce })
    }

    /// A draft for a room in which all chats are envelopes, with nonces. The text is not trimmed.
    pub fn envelope(text: &'a str, nonce: Option<&'a str>) -> Result<Draft<'a>, Refusal> {
        if !nonce.is_some_and(is_nonce) {
            return Err(Refusal::BadNonce);
        }
        if is_envelope(text) { Ok(Draft { text, nonce }) } else { Err(Refusal::NotEncrypted) }
    }

    /// The text, trimmed.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The sender's own identifier for the message.
    #[cfg(feature = "cluster")]
    pub fn nonce(&self) -> Option<&'a str> {
        self.nonce
    }
}

/// Without white space (Unicode) at both ends. Most texts begin and end with a printable character of
/// ASCII, which is seen without decoding characters.
fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => text.trim(),
    }
}

/// Whether a person may signal typing now, not before `due`: see [`Member::typing_due`].
pub(super) fn pace_typing(due: &mut u32, now: Now) -> bool {
    let wait = due.wrapping_sub(now.mono.micros() as u32);
    let may_type = !(1..=TYPING_INTERVAL.as_micros() as u32).contains(&wait);
    if may_type {
        *due = now.mono.after(TYPING_INTERVAL).micros() as u32;
    }
    may_type
}

/// Whether a text can be a nonce: 1 to [`NONCE_BYTES_MAX`] bytes.
pub fn is_nonce(text: &str) -> bool {
    (1..=NONCE_BYTES_MAX).contains(&text.len())
}

/// The session in whose name a message is accepted, and the room, which has not ended.
pub(super) struct Author {
    /// The session need not be a member.
    pub member: Option<MemberKey>,
    pub session: SessionKey,
    pub room: RoomKey,
    pub room_id: RoomId,
    /// Its user id in the room.
    pub user_id: UserId,
    /// The share in which its last message counts, if it is known.
    pub share: Option<ShareKey>,
}

/// The outcome of posting a draft.
enum Posted {
    /// It is a new message.
    New,
    /// The history has an earlier message of the member with the same nonce.
    Known(Place),
}

impl Member {
    fn author(&self, key: MemberKey, room: &Room) -> Author {
        Author {
            member: Some(key),
            session: self.session,
            room: self.room,
            room_id: room.id,
            user_id: self.user_id,
            share: self.share,
        }
    }
}

impl Room {
    /// Checks a message by the rules of the room: an envelope if it is encrypted.
    fn draft<'a>(&self, text: &'a str, nonce: Option<&'a str>) -> Result<Draft<'a>, Refusal> {
        match self.rules.as_ref().is_some_and(|rules| rules.is_encrypted) {
            true => Draft::envelope(text, nonce),
            false => Draft::new(text, nonce),
        }
    }
}

impl Chat {
    /// Posts a message from a connection to its room. If the history has a message of the member
    /// with the same nonce, posts nothing and sends that message again, to this connection only.
    pub fn post(
        &mut self,
        now: Now,
        attachment: AttachmentKey,
        text: &str,
        nonce: Option<&str>,
        sink: &mut dyn Sink,
    ) -> Result<(), Refusal> {
        let Some(member) = self.member_of(attachment) else { return Ok(()) };
        let draft = |room: &Room| room.draft(text, nonce);
        if let Posted::Known(place) = self.post_as(now, member, draft, &mut |_| (), sink)? {
            if let Some(room_id) = self.room_of(attachment).and_then(|room| self.room_id(room)) {
                self.feeds.repeat(attachment, room_id, place, sink);
            }
        }
        Ok(())
    }

    /// Checks a message by the rules of its room, as a post from a connection is.
    pub fn draft<'a>(
        &self,
        room: RoomKey,
        text: &'a str,
        nonce: Option<&'a str>,
    ) -> Result<Draft<'a>, Refusal> {
        self.feeds.room(room).ok_or(Refusal::RoomNotFound)?.draft(text, nonce)
    }

    /// Posts a message for a member that need not have a connection in the room. Returns a
    /// copy of the message, and false if it is an earlier message with the same nonce.
    pub fn post_from_outside(
        &mut self,
        now: Now,
        session: SessionKey,
        room: RoomKey,
        draft: Draft<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(MessageCopies, bool), Refusal> {
        let member = self.sessions.get(session).and_then(|session| session.member_in(room));
        let member = member.ok_or(Refusal::NotAMember)?;
        if self.holder_in_the_way(member).is_some_and(|holder| self.is_connected(holder)) {
            return Err(Refusal::NameTaken);
        }
        let room_id = self.feeds.room(room).ok_or(Refusal::RoomNotFound)?.id;
        let mut copy = MessageCopies::of(room_id);
        let on_new = &mut |message: &Message<'_>| copy.push_new(message);
        let posted = self.post_as(now, member, |_| Ok(draft), on_new, sink)?;
        if let Some(timer) = self.feeds.room(room).and_then(|room| room.timer) {
            self.timers.rearm(timer, now.mono);
        }
        match (posted, self.feeds.history(room)) {
            (Posted::Known(place), Some(history)) => {
                history.copy(&self.feeds.archive().store, place, &mut copy);
                Ok((copy, false))
            }
            _ => Ok((copy, true)),
        }
    }

    /// Publishes that a member is typing, at most once in `TYPING_INTERVAL`.
    pub fn typing(&mut self, now: Now, attachment: AttachmentKey, sink: &mut dyn Sink) {
        if let Some(member) = self.member_of(attachment) {
            self.typing_as(now, member, sink);
        }
    }

    /// Returns whether the event is published.
    pub(super) fn typing_as(&mut self, now: Now, key: MemberKey, sink: &mut dyn Sink) -> bool {
        let Some(member) = self.members.get_mut(key) else { return false };
        if !pace_typing(&mut member.typing_due, now) {
            return false;
        }
        let (Some(room), Some(session)) =
            (self.feeds.room(member.room), self.sessions.get(member.session))
        else {
            return false;
        };
        let (user, user_id) = (session.name.as_str(), member.user_id);
        let event = Event::Typing { user, user_id, room_id: room.id };
        self.feeds.deliver_unkept(member.room, &event, sink);
        true
    }

    /// The same for a member that need not have a connection in the room.
    pub fn typing_from_outside(
        &mut self,
        now: Now,
        session: SessionKey,
        room: RoomKey,
        sink: &mut dyn Sink,
    ) -> Result<(), Refusal> {
        let member = self.sessions.get(session).and_then(|session| session.member_in(room));
        let member = member.ok_or(Refusal::NotAMember)?;
        if self.holder_in_the_way(member).is_some() {
            return Err(Refusal::NameTaken);
        }
        self.typing_as(now, member, sink);
        Ok(())
    }

    /// Ends the room's batch, if one is open, and queues it for the room's connections. The event
    /// loop decides when.
    pub fn seal(&self, room: RoomKey, sink: &mut dyn Sink) {
        self.feeds.seal(room, sink);
    }

    /// From now on no message is accepted: what is kept for a restart has been written.
    pub fn fall_silent(&mut self) {
        self.is_silent = true;
    }

    /// Calls `on_new` with the message if it is a new one.
    fn post_as<'a>(
        &mut self,
        now: Now,
        key: MemberKey,
        draft: impl FnOnce(&Room) -> Result<Draft<'a>, Refusal>,
        on_new: &mut dyn FnMut(&Message<'_>),
        sink: &mut dyn Sink,
    ) -> Result<Posted, Refusal> {
        let member = self.members.get(key).ok_or(Refusal::NotAMember)?;
        let room = self.feeds.room(member.room).filter(|room| !room.is_closing);
        let room = room.ok_or(Refusal::RoomNotFound)?;
        let (draft, mut author) = (draft(room)?, member.author(key, room));
        let (is_present, is_slow) = (member.arrival.is_some(), room.slow_mode() > 0);
        if let Some(session) = self.sessions.get_mut(author.session) {
            let taken = self.config.message_pace.take(&mut session.messages, now.mono);
            taken.map_err(Refusal::RateLimited)?;
        }
        if let (Some(nonce), Some(history)) = (draft.nonce, self.feeds.history(author.room)) {
            let store = &self.feeds.archive().store;
            if let Some(place) = history.find(store, author.user_id, nonce) {
                return Ok(Posted::Known(place));
            }
        }
        if is_slow {
            self.pace_slow_mode(now, author.room, author.session, author.user_id)?;
        }
        if let Some(holder) = if is_present { None } else { self.holder_in_the_way(key) } {
            self.depart(now, holder, sink); // A holder in its grace gives way to a post.
            author.share = self.members.get(key).and_then(|member| member.share);
        }
        let kind = MessageKind::Chat(draft.text);
        let accepted = self.accept(now, author, kind, draft.nonce, on_new, sink);
        accepted.ok_or(Refusal::RoomNotFound)?;
        Ok(Posted::New)
    }

    /// Tells the room that a member has arrived or left.
    pub(super) fn accept_presence(
        &mut self,
        now: Now,
        key: MemberKey,
        kind: MessageKind<'_>,
        sink: &mut dyn Sink,
    ) {
        let Some(member) = self.members.get(key) else { return };
        let Some(room) = self.feeds.room(member.room).filter(|room| !room.is_closing) else {
            return;
        };
        self.accept(now, member.author(key, room), kind, None, &mut |_| (), sink);
    }

    /// Assigns a message its id and its time, and with them its position in the order, and delivers
    /// it. `None`: the server ends.
    ///
    /// Inlined, because a call with so many arguments takes 1 % of a message's instructions.
    #[inline(always)]
    pub(super) fn accept(
        &mut self,
        now: Now,
        author: Author,
        kind: MessageKind<'_>,
        nonce: Option<&str>,
        on_new: &mut dyn FnMut(&Message<'_>),
        sink: &mut dyn Sink,
    ) -> Option<()> {
        debug_assert!(!self.is_mirror(), "a mirror decides nothing");
        let session = self.sessions.get(author.session)?;
        if self.is_silent {
            return None;
        }
        let id = self.message_ids.next(now.wall, &mut *self.entropy);
        let message = Message {
            id,
            kind,
            user: session.name.shown(),
            user_id: author.user_id,
            wall: now.wall,
            room_id: author.room_id,
            nonce,
        };
        on_new(&message);
        let from = session.creator.and_then(|key| Some(self.addresses.get(key)?.address));
        let share = self.feeds.deliver(author.room, &message, author.share, from, sink);
        if share != author.share {
            if let Some(member) = author.member.and_then(|key| self.members.get_mut(key)) {
                member.share = share;
            }
        }
        Some(())
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
        for (text, length) in [("a b", 3), ("a ", 1), (" a", 1), ("a\u{3000}", 1), ("é!", 3)] {
            assert_eq!(draft(text, None), Ok(length), "{text}");
        }
        assert_eq!(draft(&"🦀".repeat(4000), Some("x")), Ok(16_000));
        assert_eq!(draft(&"🦀".repeat(4001), Some("x")), Err(Refusal::TooLong));
        assert_eq!(draft(" \n", Some("x")), Err(Refusal::EmptyMessage));
        assert_eq!(draft("\u{200b}\u{2800} \u{e0041}", None), Err(Refusal::EmptyMessage));
        assert_eq!(draft("\u{200b}.", None), Ok(4));
        assert!(Draft::restored("\u{200b}", None).is_ok() && Draft::restored(" ", None).is_err());
        assert_eq!(draft(&"\u{200b}".repeat(4001), None), Err(Refusal::TooLong));
        assert_eq!(draft("", Some("")), Err(Refusal::BadNonce));
        assert_eq!(draft("a", Some(&"é".repeat(32))), Ok(1));
        assert_eq!(draft("a", Some(&"x".repeat(65))), Err(Refusal::BadNonce));
    }
}
