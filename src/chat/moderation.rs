//! Moderation: removing and banning people, and deleting the texts of messages.
//!
//! Owns the rules for what may be removed, banned or deleted, and by which session. Must not know how a
//! message is kept; `membership` asks for the bans when it decides about access. The invariant:
//! everyone in a room is told of a removal or a deletion, by a message that is history too, so that
//! a client that resumes learns of it.

use std::time::Duration;

use super::address::Address;
use super::bans::{Ban, HashedAddress};
use super::error::{CloseReason, Refusal};
use super::event::{Message, MessageKind};
use super::id::{MessageId, RoomId, UserId};
use super::kept::MessageCopies;
use super::keys::{MemberKey, RoomKey, SessionKey};
use super::posting::Author;
use super::sink::Sink;
use super::state::Chat;
use super::store::Place;
use crate::clock::{Now, Wall};

/// The ban that comes with a removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BanRequest {
    /// How long the person has no access.
    pub duration: Duration,
    /// Whether other sessions from the person's address that have not joined have none either.
    pub address: bool,
}

/// A ban, as the owner sees it.
#[derive(Debug)]
pub struct BanInfo<'a> {
    /// The person.
    pub user_id: UserId,
    /// Its name when it was banned.
    pub user: &'a str,
    /// When the ban ends, if the clock is not set meanwhile.
    pub until: Wall,
    /// Whether the ban includes an address.
    pub has_address: bool,
}

impl Chat {
    /// Removes a person from a room: closes its connections there, ends its membership and, if it was
    /// present, announces that it has left. `by`: the owner; `None`: the operator, who may remove the
    /// owner too. Returns whether the person's address is banned.
    pub fn remove_user(
        &mut self,
        now: Now,
        by: Option<SessionKey>,
        room: Option<RoomKey>,
        user_id: Option<UserId>,
        ban: Option<BanRequest>,
        sink: &mut dyn Sink,
    ) -> Result<bool, Refusal> {
        let key = match by {
            Some(session) => self.owned_room(session, room)?,
            None => room.ok_or(Refusal::RoomNotFound)?,
        };
        let member_key = self.member_with(key, user_id, sink).ok_or(Refusal::UserNotFound)?;
        let member = self.members.get(member_key).ok_or(Refusal::UserNotFound)?;
        let (session, user_id, address) = (member.session, member.user_id, member.address);
        if let Some(by) = by {
            self.pace_command(now, by)?;
        }
        let mut has_address = false;
        if let Some(BanRequest { duration, address: with_address }) = ban {
            if self.is_full() {
                return Err(Refusal::ServerFull);
            }
            let name = self.sessions.get(session).map(|session| session.name.clone());
            let user = name.ok_or(Refusal::UserNotFound)?;
            let address = address.known().filter(|_| with_address);
            has_address = address.is_some();
            let until = now.after(duration);
            if let Some(room) = self.feeds.room_mut(key) {
                let ban = Ban { user_id, user, until, address };
                room.rules_mut().bans.add(ban, now.mono);
            }
            self.recount_room(key);
        }
        // Selected by room: some may wait for the name.
        for attachment in self.attachments_of(member_key) {
            self.close(now, attachment, CloseReason::Removed, sink);
        }
        self.depart_as(now, member_key, MessageKind::UserRemoved, sink); // From its grace.
        self.remove_member(now, member_key, sink);
        if self.feeds.room(key).is_some_and(|room| room.is_owned_by(session)) {
            self.give_up_room(key);
            self.pass_on(key, sink);
        }
        self.recount();
        Ok(has_address)
    }

    /// The member of a room with this user id. The search costs as much as a list, and a refusal costs
    /// no rate.
    pub(super) fn member_with(
        &self,
        room: RoomKey,
        user_id: Option<UserId>,
        sink: &mut dyn Sink,
    ) -> Option<MemberKey> {
        let user_id = user_id?;
        let members = self.feeds.room(room)?.roster.members();
        sink.on_listed(members.len());
        let has_id = |key: &MemberKey| {
            self.members.get(*key).is_some_and(|member| member.user_id == user_id)
        };
        members.iter().copied().find(has_id)
    }

    /// The bans of a room, the oldest first, for its owner.
    pub fn bans(
        &self,
        now: Now,
        session: SessionKey,
        room: Option<RoomKey>,
    ) -> Result<Vec<BanInfo<'_>>, Refusal> {
        let key = self.owned_room(session, room)?;
        let rules = self.feeds.room(key).and_then(|room| room.rules.as_deref());
        let Some(rules) = rules else { return Ok(Vec::new()) };
        let bans = rules.bans.iter(now.mono).map(|ban| BanInfo {
            user_id: ban.user_id,
            user: ban.user.as_str(),
            until: ban.until.wall,
            has_address: ban.address.is_some(),
        });
        Ok(bans.collect())
    }

    /// Lifts the ban of a person, if there is one, for the room's owner.
    pub fn lift_ban(
        &mut self,
        now: Now,
        session: SessionKey,
        room: Option<RoomKey>,
        user_id: Option<UserId>,
    ) -> Result<(), Refusal> {
        let key = self.owned_room(session, room)?;
        let rules = self.feeds.room_mut(key).and_then(|room| room.rules.as_deref_mut());
        if let (Some(rules), Some(user_id)) = (rules, user_id) {
            rules.bans.lift(user_id, now.mono);
            self.recount_room(key);
        }
        Ok(())
    }

    /// The hash of an address in a room.
    pub(super) fn hashed(&self, from: Option<Address>, room: RoomKey) -> HashedAddress {
        let id = self.feeds.room(room).map(|room| room.id);
        id.map_or_else(HashedAddress::default, |id| {
            HashedAddress::of(from, id, &self.user_id_secret)
        })
    }

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
        let room = self.feeds.room(key).filter(|room| !room.is_closing);
        let room = room.ok_or(Refusal::RoomNotFound)?;
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
        let room_id = room.id;
        if let Some(session) = self.sessions.get_mut(session) {
            let taken = self.config.message_pace.take(&mut session.messages, now.mono);
            taken.map_err(Refusal::RateLimited)?;
        }
        if header.is_deleted() {
            return Ok(());
        }
        self.wipe_text(key, room_id, place, event_bytes);
        let author = Author { member: None, session, room: key, room_id, user_id, share: None };
        let kind = MessageKind::MessageDeleted(id);
        self.accept(now, author, kind, None, &mut |_| (), sink);
        Ok(())
    }

    /// Deletes the text of the chat message at `place` in a room's history.
    pub(super) fn wipe_text(
        &mut self,
        key: RoomKey,
        room_id: RoomId,
        place: Place,
        event_bytes: fn(&Message<'_>) -> usize,
    ) {
        let mut copy = MessageCopies::of(room_id);
        if let Some(history) = self.feeds.history(key) {
            history.copy(&self.feeds.archive().store, place, &mut copy);
        }
        for message in copy.iter() {
            let deleted = Message { kind: MessageKind::ChatDeleted, ..message };
            self.feeds.delete_text(key, place, event_bytes(&deleted));
        }
    }
}
