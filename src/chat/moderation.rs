//! Moderation: deleting the texts of messages.
//!
//! Owns the rules for what may be deleted, and by which session. Must not know how a message is kept.
//! The invariant: everyone in a room is told of a deletion, by a message that is history too, so that
//! a client that resumes learns of it.

use super::error::Refusal;
use super::event::{Message, MessageKind};
use super::id::MessageId;
use super::kept::MessageCopies;
use super::keys::{RoomKey, SessionKey};
use super::posting::Author;
use super::sink::Sink;
use super::state::Chat;
use crate::clock::Now;

impl Chat {
    /// Deletes the text of a chat message for its author or for the room's owner, who need not be
    /// members. The message's entry stays in the history, and its nonce stays known. Does nothing if
    /// the text has been deleted already. `event_bytes` gives the length of a message's event.
    pub fn delete_message(
        &mut self,
        now: Now,
        session: SessionKey,
        room: Option<RoomKey>,
        id: Option<MessageId>,
        event_bytes: fn(&Message<'_>) -> usize,
        sink: &mut dyn Sink,
    ) -> Result<(), Refusal> {
        let key = room.ok_or(Refusal::RoomNotFound)?;
        let room = self.feeds.room(key).ok_or(Refusal::RoomNotFound)?;
        let history = self.feeds.history(key).ok_or(Refusal::RoomNotFound)?;
        let store = &self.feeds.archive().store;
        let id = id.ok_or(Refusal::MessageNotFound)?;
        let place = history.place_of(store, id).ok_or(Refusal::MessageNotFound)?;
        let header = history.header(store, place);
        if !header.is_chat() {
            return Err(Refusal::MessageNotFound);
        }
        let user_id = self.user_id(session, key).ok_or(Refusal::NotTheAuthor)?;
        if header.user_id != user_id && !room.is_owned_by(session) {
            return Err(Refusal::NotTheAuthor);
        }
        if self.is_silent {
            return Err(Refusal::RoomNotFound); // The state file has been written.
        }
        let mut copy = MessageCopies::of(room.id);
        history.copy(store, place, &mut copy);
        if let Some(session) = self.sessions.get_mut(session) {
            let taken = self.config.message_pace.take(&mut session.messages, now.mono);
            taken.map_err(Refusal::RateLimited)?;
        }
        if header.is_deleted() {
            return Ok(());
        }
        for message in copy.iter() {
            let deleted = Message { kind: MessageKind::ChatDeleted, ..message };
            self.feeds.delete_text(key, place, event_bytes(&deleted));
        }
        let author = Author { session, room: key, user_id, share: None };
        let kind = MessageKind::MessageDeleted(id);
        self.accept_from(now, author, kind, None, &mut |_| (), sink);
        Ok(())
    }
}
