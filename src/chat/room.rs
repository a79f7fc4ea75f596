//! Rooms: opening, joining, leaving, posting, and their end.
//!
//! Owns a room's members, its history and the order of its messages. Must never know who is
//! present, beyond handing [`super::presence`] its lists. The invariant: a message gets its id,
//! its time and its place in one function, [`Chat::accept`], and nowhere else.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::rc::Rc;

use siphasher::sip::SipHasher24;

use super::event::{Event, Kind, Message, RoomId, UserId};
use super::history::{Entry, History};
use super::limits::Address;
use super::presence::{AttachmentKey, Probe};
use super::session::{SESSION_ROOMS_MAX, SessionKey};
use super::{Chat, Close, ConnKey, Refusal, Sink, Wait, Waiter, map_bytes, tree_bytes};
use crate::clock::{Mono, Now};
use crate::slots::Key;
use crate::timers::TimerKey;

/// Most characters (Unicode scalar values) of a chat after trimming.
pub const MESSAGE_CHARS_MAX: usize = 4000;
/// Most rooms a listing shows.
pub const ROOMS_LISTED_MAX: usize = 1000;

/// A handle on a room.
pub type RoomKey = Key<Room>;
/// A handle on a session's membership in one room.
pub(super) type MemberKey = Key<Member>;

/// A place where people talk.
pub struct Room {
    pub(super) id: RoomId,
    /// How many rooms were opened before it.
    number: u64,
    /// In no order that means anything; each member knows its place.
    members: Vec<MemberKey>,
    /// Who is present, by arrival.
    pub(super) present: BTreeMap<u64, MemberKey>,
    /// Who is present, by folded name.
    pub(super) names: HashMap<Rc<str>, MemberKey>,
    /// Everybody's connections, for the sink; each attachment knows its place.
    pub(super) connections: Vec<ConnKey>,
    /// Runs parallel to `connections`.
    pub(super) attachments: Vec<AttachmentKey>,
    history: History,
    /// Armed while there is no connection.
    pub(super) timer: Option<TimerKey>,
    /// Bytes of heap reported for it so far.
    counted: usize,
}

/// A session that has joined a room.
pub(super) struct Member {
    pub session: SessionKey,
    pub room: RoomKey,
    pub user_id: UserId,
    /// Place in `Room::members`.
    place: usize,
    /// Place in `Room::present` while present.
    pub arrival: Option<u64>,
    /// Connections in the room. Present with none: the line broke a moment ago.
    pub connections: usize,
    /// Armed while present without a connection.
    pub grace: Option<TimerKey>,
    /// Somebody else wants the name and waits for a sign of life.
    pub probe: Option<Box<Probe>>,
    /// When the next typing is passed on.
    pub typing_due: Mono,
}

impl Room {
    fn heap_bytes(&self) -> usize {
        self.members.capacity() * size_of::<MemberKey>()
            + tree_bytes::<u64, MemberKey>(self.present.len())
            + map_bytes::<Rc<str>, MemberKey>(self.names.capacity())
            + self.connections.capacity() * size_of::<ConnKey>()
            + self.attachments.capacity() * size_of::<AttachmentKey>()
            + self.history.bytes()
    }
}

impl Chat {
    /// Opens a room, which `session` has then joined. `from`: whose share of openings it counts
    /// against, if anyone's.
    pub fn open_room(
        &mut self,
        now: Now,
        session: SessionKey,
        from: Option<Address>,
    ) -> Result<RoomId, Refusal> {
        if self.sessions.get(session).is_some_and(|s| s.rooms.len() >= SESSION_ROOMS_MAX) {
            return Err(Refusal::TooManyRooms);
        }
        if let Some(address) = from {
            let meter = &mut self.addresses.entry(address).rooms;
            let paced = self.settings.room_pace.take(meter, now.mono);
            self.remember(now, address);
            paced.map_err(Refusal::RateLimited)?;
        }
        if self.rooms.len() >= self.settings.rooms_max {
            return Err(Refusal::ServerFull);
        }
        let mut id = RoomId::new_public(&mut *self.entropy);
        while self.room_keys.contains_key(&id) {
            id = RoomId::new_public(&mut *self.entropy);
        }
        let number = self.rooms_opened;
        self.rooms_opened += 1;
        let key = self.rooms.insert_with(|key| Room {
            id,
            number,
            members: Vec::new(),
            present: BTreeMap::new(),
            names: HashMap::new(),
            connections: Vec::new(),
            attachments: Vec::new(),
            history: History::EMPTY,
            timer: Some(self.timers.arm(Wait::RoomNew, Waiter::Room(key), now.mono)),
            counted: 0,
        });
        self.room_keys.insert(id, key);
        self.public_rooms.insert(number, id);
        self.insert_member(session, key);
        self.recount();
        Ok(id)
    }

    /// The room with that id, if it lives.
    pub fn room(&self, id: RoomId) -> Option<RoomKey> {
        self.room_keys.get(&id).copied()
    }

    /// The public rooms, newest first, at most [`ROOMS_LISTED_MAX`].
    pub fn public_rooms(&self) -> impl Iterator<Item = RoomId> {
        self.public_rooms.values().rev().take(ROOMS_LISTED_MAX).copied()
    }

    /// How many people are present.
    pub fn user_count(&self, room: RoomKey) -> usize {
        self.rooms.get(room).map_or(0, |room| room.present.len())
    }

    /// Makes the session a member; it may be one already.
    pub fn join(&mut self, session: SessionKey, room: RoomKey) -> Result<(), Refusal> {
        let Some(joining) = self.sessions.get(session) else { return Ok(()) };
        if joining.member_in(room).is_some() {
            return Ok(());
        }
        if joining.rooms.len() >= SESSION_ROOMS_MAX {
            return Err(Refusal::TooManyRooms);
        }
        self.insert_member(session, room).ok_or(Refusal::RoomNotFound)?;
        self.recount();
        Ok(())
    }

    /// Ends the session's membership: its connections in the room are closed, and who was present
    /// has left.
    pub fn leave(&mut self, now: Now, session: SessionKey, room: RoomKey, sink: &mut dyn Sink) {
        let Some(leaving) = self.sessions.get(session) else { return };
        // By room and not by member: one that waits for admission is no member yet.
        for attachment in leaving.attachments.clone() {
            if self.attachments.get(attachment).is_some_and(|a| a.room == room) {
                self.close(now, attachment, Close::LeftRoom, sink);
            }
        }
        if let Some(member) = self.sessions.get(session).and_then(|s| s.member_in(room)) {
            self.remove_member(now, member, sink);
        }
        self.recount();
    }

    /// Says something to everyone in the room of `attachment`.
    pub fn post(
        &mut self,
        now: Now,
        attachment: AttachmentKey,
        text: &str,
        sink: &mut dyn Sink,
    ) -> Result<(), Refusal> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Refusal::EmptyMessage);
        }
        if text.chars().nth(MESSAGE_CHARS_MAX).is_some() {
            return Err(Refusal::TooLong);
        }
        let Some(member) = self.member_of(attachment) else { return Ok(()) };
        let speaker = self.members.get(member).map(|member| member.session);
        if let Some(session) = speaker.and_then(|session| self.sessions.get_mut(session)) {
            let paced = self.settings.message_pace.take(&mut session.messages, now.mono);
            paced.map_err(Refusal::RateLimited)?;
        }
        self.accept(now, member, Kind::Chat(text), sink);
        Ok(())
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
    pub fn history(
        &self,
        room: RoomKey,
        count: usize,
        sink: &mut dyn Sink,
    ) -> impl Iterator<Item = &Entry> {
        self.seal(room, sink);
        self.rooms.get(room).into_iter().flat_map(move |room| room.history.last(count))
    }

    /// Queues what a room has said in this tick for everybody who is in it now. Due before anyone
    /// comes or goes or is told something personal, and at the tick's end.
    pub fn seal(&self, room: RoomKey, sink: &mut dyn Sink) {
        if let Some(entry) = self.rooms.get(room) {
            sink.seal(room, &entry.connections);
        }
    }

    /// The one place where a message's order is decided: gives it id and time, has it delivered,
    /// and keeps it.
    pub(super) fn accept(
        &mut self,
        now: Now,
        member: MemberKey,
        kind: Kind<'_>,
        sink: &mut dyn Sink,
    ) {
        let Some(member) = self.members.get(member) else { return };
        let Some(session) = self.sessions.get(member.session) else { return };
        let Some(room) = self.rooms.get_mut(member.room) else { return };
        let id = self.message_ids.next(now.wall, &mut *self.entropy);
        let message = Message {
            id,
            kind,
            user: session.name.as_str(),
            user_id: member.user_id,
            wall: now.wall,
            room_id: room.id,
        };
        let frame = sink.publish(member.room, &Event::Message(message));
        let is_full = frame.fills_batch();
        room.history.push(Entry { id, frame }, self.settings.history_messages_max);
        let room = member.room;
        self.recount_room(room);
        if is_full {
            self.seal(room, sink);
        }
    }

    fn insert_member(&mut self, session: SessionKey, room: RoomKey) -> Option<MemberKey> {
        let user_id = self.user_id(session, room)?;
        let entry = self.rooms.get_mut(room)?;
        let member = self.members.insert(Member {
            session,
            room,
            user_id,
            place: entry.members.len(),
            arrival: None,
            connections: 0,
            grace: None,
            probe: None,
            typing_due: Mono::ZERO,
        });
        entry.members.push(member);
        self.sessions.get_mut(session)?.rooms.push((room, member));
        self.recount_room(room);
        self.recount_session(session);
        Some(member)
    }

    /// The membership of a session in a room, which begins here if it hasn't before.
    pub(super) fn member(&mut self, session: SessionKey, room: RoomKey) -> Option<MemberKey> {
        match self.sessions.get(session)?.member_in(room) {
            Some(member) => Some(member),
            None => self.insert_member(session, room),
        }
    }

    /// Ends a membership whose connections are closed.
    pub(super) fn remove_member(&mut self, now: Now, key: MemberKey, sink: &mut dyn Sink) {
        self.depart(now, key, sink);
        let Some(member) = self.members.remove(key) else { return };
        if let Some(session) = self.sessions.get_mut(member.session) {
            session.rooms.retain(|(_, joined)| *joined != key);
        }
        if let Some(room) = self.rooms.get_mut(member.room) {
            room.members.swap_remove(member.place);
            let moved = room.members.get(member.place).copied();
            if let Some(moved) = moved.and_then(|moved| self.members.get_mut(moved)) {
                moved.place = member.place;
            }
        }
        self.recount_room(member.room);
        self.recount_session(member.session);
    }

    /// Ends a room that nobody is connected to, and with it what was said there.
    pub(super) fn remove_room(&mut self, key: RoomKey, sink: &mut dyn Sink) {
        self.seal(key, sink); // So that the sink forgets the room's batch.
        let Some(room) = self.rooms.remove(key) else { return };
        debug_assert!(room.connections.is_empty(), "a room with connections has no timer");
        for member in room.members {
            let Some(member) = self.members.remove(member) else { continue };
            member.grace.map(|timer| self.timers.cancel(timer));
            if let Some(session) = self.sessions.get_mut(member.session) {
                session.rooms.retain(|(joined, _)| *joined != key);
            }
            self.recount_session(member.session);
        }
        self.room_keys.remove(&room.id);
        if self.room_keys.is_empty() {
            self.room_keys = HashMap::new();
        }
        self.public_rooms.remove(&room.number);
        self.room_heap_tally.change(room.counted, 0);
        self.recount();
    }

    /// Reports a room's heap after a change.
    pub(super) fn recount_room(&mut self, key: RoomKey) {
        if let Some(room) = self.rooms.get_mut(key) {
            let bytes = room.heap_bytes();
            self.room_heap_tally.change(room.counted, bytes);
            room.counted = bytes;
        }
    }

    /// The same for the same session in the same room, however often it comes and goes; nobody
    /// without the secret can tell whose it is.
    fn user_id(&self, session: SessionKey, room: RoomKey) -> Option<UserId> {
        let mut hasher = SipHasher24::new_with_key(&self.user_id_secret);
        hasher.write(self.session_id(session)?.as_bytes());
        hasher.write(self.rooms.get(room)?.id.as_bytes());
        Some(UserId(hasher.finish()))
    }
}

/// How often one person's typing is passed on.
const TYPING_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) fn check(chat: &Chat) {
    assert_eq!(chat.rooms.len(), chat.room_keys.len());
    assert!(chat.public_rooms.len() <= chat.rooms.len());
    let (mut heap, mut members) = (0, 0);
    for (key, room) in chat.rooms.iter() {
        assert_eq!(chat.room_keys.get(&room.id), Some(&key));
        assert_eq!(room.timer.is_none(), !room.connections.is_empty(), "a timer iff empty");
        assert!(room.history.len() <= chat.settings.history_messages_max);
        for (place, member) in room.members.iter().enumerate() {
            let member = chat.members.get(*member).expect("a room's members live");
            assert_eq!((member.room, member.place), (key, place));
            assert!(chat.sessions.get(member.session).is_some(), "a member's session lives");
        }
        members += room.members.len();
        assert_eq!(room.counted, room.heap_bytes());
        heap += room.counted;
    }
    assert_eq!(members, chat.members.len(), "no member without a room");
    assert_eq!(heap, chat.room_heap_tally.bytes(), "the ledger has every room's heap");
}
