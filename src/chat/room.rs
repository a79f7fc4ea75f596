//! Rooms: opening, joining, leaving, owning, and their end.
//!
//! Owns a room's members and what is known of it. Must never know who is present, beyond handing
//! [`super::presence`] its lists. The invariant: a room that is over is nobody's: no member, owner
//! or timer is left of it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::rc::Rc;

use siphasher::sip::SipHasher24;

use super::event::{RoomId, UserId};
use super::history::History;
use super::limits::Address;
use super::name::Title;
use super::password::Lock;
use super::presence::{AttachmentKey, Probe};
use super::session::{SESSION_ROOMS_MAX, SessionKey};
use super::timer::ChatTimer;
use super::{Chat, CloseReason, ConnKey, Refusal, Sink};
use super::{map_bytes, shrink, tree_bytes, vec_bytes};
use crate::clock::{Mono, Now, Wall};
use crate::ledger::{Pressure, allocation};
use crate::slots::{Key, Linked, Links};
use crate::timers::{TimerKey, Timers};

/// Most rooms a listing shows (contract §2.6).
pub const ROOMS_LISTED_MAX: usize = 1000;

/// A handle on a room.
pub type RoomKey = Key<Room>;
/// A handle on a session's membership in one room.
pub(super) type MemberKey = Key<Member>;

/// What the one who opens a room may wish for.
#[derive(Default)]
pub struct RoomOptions<'a> {
    /// Shown to whoever knows the id.
    pub title: Option<Title>,
    /// In no listing, with an id that can't be guessed.
    pub private: bool,
    /// To be given by whoever joins. 1 to [`super::PASSWORD_BYTES_MAX`] bytes, which the caller
    /// has seen to. Makes the room private.
    pub password: Option<&'a str>,
}

/// What a room tells whoever knows its id.
#[derive(Clone, Copy, Debug)]
pub struct RoomInfo<'a> {
    /// Its id.
    pub id: RoomId,
    /// Its title, if it has one.
    pub title: Option<&'a str>,
    /// Whether it is in no listing.
    pub is_private: bool,
    /// Whether joining takes a password.
    pub has_password: bool,
    /// How many people are present.
    pub user_count: usize,
    /// When it was opened.
    pub created: Wall,
}

/// A place where people talk.
pub struct Room {
    pub(super) id: RoomId,
    title: Option<Title>,
    created: Wall,
    pub(super) lock: Option<Box<Lock>>,
    /// Who may end it, and its place among all that they own; `None` once nobody was there to
    /// inherit it.
    owner: Option<(SessionKey, usize)>,
    /// Being deleted: nothing is said in it any more.
    pub(super) is_over: bool,
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
    pub(super) history: History,
    /// Its place in [`Chat::silent`].
    pub(super) links: Links<Room>,
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

// See the account in `ledger`.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Room>() == 368 && size_of::<Member>() == 80);

impl Linked for Room {
    fn links(&self) -> &Links<Room> {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links<Room> {
        &mut self.links
    }
}

impl Room {
    pub(super) fn title(&self) -> Option<&str> {
        self.title.as_ref().map(Title::as_str)
    }

    pub(super) fn created(&self) -> Wall {
        self.created
    }

    pub(super) fn owner(&self) -> Option<SessionKey> {
        self.owner.map(|(owner, _)| owner)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_owned_by(&self, session: SessionKey) -> bool {
        self.owner.is_some_and(|(owner, _)| owner == session)
    }

    fn heap_bytes(&self) -> usize {
        vec_bytes::<MemberKey>(self.members.capacity())
            + tree_bytes::<u64, MemberKey>(self.present.len())
            + map_bytes::<Rc<str>, MemberKey>(self.names.capacity())
            + vec_bytes::<ConnKey>(self.connections.capacity())
            + vec_bytes::<AttachmentKey>(self.attachments.capacity())
            + self.history.bytes()
            + self.title.as_ref().map_or(0, |title| allocation(title.as_str().len()))
            + self.lock.as_ref().map_or(0, |lock| allocation(size_of::<Lock>()) + lock.bytes())
    }

    fn is_private(&self) -> bool {
        self.id.is_private()
    }
}

impl Chat {
    /// Opens a room, which `session` has then joined. `from`: whose share of openings it counts
    /// against, if anyone's.
    pub fn open_room(
        &mut self,
        now: Now,
        session: SessionKey,
        options: RoomOptions<'_>,
        from: Option<Address>,
    ) -> Result<RoomId, Refusal> {
        if self.sessions.get(session).is_some_and(|s| s.rooms.len() >= SESSION_ROOMS_MAX) {
            return Err(Refusal::TooManyRooms);
        }
        // First of all, lest something new be remembered of an address.
        if self.rooms.len() >= self.settings.rooms_max || self.is_full() {
            return Err(Refusal::ServerFull);
        }
        if let Some(address) = from {
            let meter = &mut self.addresses.entry(address).rooms;
            let paced = self.settings.room_pace.take(meter, now.mono);
            self.remember(now, address);
            paced.map_err(Refusal::RateLimited)?;
        }
        let entropy = &mut *self.entropy;
        let is_private = options.private || options.password.is_some();
        let make = if is_private { RoomId::new_private } else { RoomId::new_public };
        let mut id = make(entropy);
        while self.room_keys.contains_key(&id) {
            id = make(entropy);
        }
        let lock = options.password.map(|password| Box::new(Lock::new(password, entropy)));
        let number = self.rooms_opened;
        self.rooms_opened += 1;
        let key = self.insert_room(id, options.title, now.wall, lock, number, |timers, key| {
            timers.arm(ChatTimer::RoomNew(key), now.mono)
        });
        self.give(key, session);
        self.insert_member(session, key);
        self.recount();
        Ok(id)
    }

    /// A room without an owner.
    pub(super) fn insert_room(
        &mut self,
        id: RoomId,
        title: Option<Title>,
        created: Wall,
        lock: Option<Box<Lock>>,
        number: u64,
        arm: impl FnOnce(&mut Timers<ChatTimer>, RoomKey) -> TimerKey,
    ) -> RoomKey {
        let key = self.rooms.insert_with(|key| Room {
            id,
            title,
            created,
            lock,
            owner: None,
            is_over: false,
            number,
            members: Vec::new(),
            present: BTreeMap::new(),
            names: HashMap::new(),
            connections: Vec::new(),
            attachments: Vec::new(),
            history: History::default(),
            links: Links::default(),
            timer: Some(arm(&mut self.timers, key)),
            counted: 0,
        });
        self.room_keys.insert(id, key);
        if !id.is_private() {
            self.public_rooms.insert(number, key);
            self.listing_revision += 1;
        }
        self.recount_room(key);
        key
    }

    /// The room with that id, if it lives.
    pub fn room(&self, id: RoomId) -> Option<RoomKey> {
        self.room_keys.get(&id).copied()
    }

    /// The public rooms, newest first, at most [`ROOMS_LISTED_MAX`].
    pub fn public_rooms(&self) -> impl Iterator<Item = RoomInfo<'_>> + Clone {
        let newest = self.public_rooms.values().rev().take(ROOMS_LISTED_MAX);
        newest.filter_map(|room| self.room_info(*room))
    }

    /// Changes whenever the public rooms do, or how many are present in one.
    pub fn listing_revision(&self) -> u64 {
        self.listing_revision
    }

    /// What the room tells whoever knows its id.
    pub fn room_info(&self, room: RoomKey) -> Option<RoomInfo<'_>> {
        let room = self.rooms.get(room)?;
        Some(RoomInfo {
            id: room.id,
            title: room.title.as_ref().map(Title::as_str),
            is_private: room.is_private(),
            has_password: room.lock.is_some(),
            user_count: room.present.len(),
            created: room.created,
        })
    }

    /// How many people are present.
    pub fn user_count(&self, room: RoomKey) -> usize {
        self.rooms.get(room).map_or(0, |room| room.present.len())
    }

    /// How many connections hear what is said in the room.
    pub fn connection_count(&self, room: RoomKey) -> usize {
        self.rooms.get(room).map_or(0, |room| room.connections.len())
    }

    /// Who is present, in the order of arrival.
    pub fn users(&self, room: RoomKey) -> impl Iterator<Item = (UserId, &str)> {
        let present = self.rooms.get(room).into_iter().flat_map(|room| room.present.values());
        present.filter_map(|member| {
            let member = self.members.get(*member)?;
            Some((member.user_id, self.sessions.get(member.session)?.name.as_str()))
        })
    }

    /// Makes the session a member of a room whose gate it has passed; it may be one already.
    pub fn join(&mut self, session: SessionKey, room: RoomKey) -> Result<(), Refusal> {
        if self.rooms.get(room).is_none() {
            return Err(Refusal::RoomNotFound);
        }
        let Some(joining) = self.sessions.get(session) else { return Ok(()) };
        if joining.member_in(room).is_some() {
            return Ok(());
        }
        if joining.rooms.len() >= SESSION_ROOMS_MAX {
            return Err(Refusal::TooManyRooms);
        }
        if self.ledger.is_at(Pressure::Connections) {
            return Err(Refusal::ServerFull);
        }
        self.insert_member(session, room);
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
                self.close(now, attachment, CloseReason::LeftRoom, sink);
            }
        }
        if let Some(member) = self.sessions.get(session).and_then(|s| s.member_in(room)) {
            self.remove_member(now, member, sink);
        }
        self.recount();
    }

    /// Ends a room at its owner's wish: everybody's connection is closed, and nobody is told of
    /// the others' leaving.
    pub fn delete_room(
        &mut self,
        now: Now,
        session: SessionKey,
        room: Option<RoomKey>,
        sink: &mut dyn Sink,
    ) -> Result<(), Refusal> {
        let key = room.ok_or(Refusal::RoomNotFound)?;
        let room = self.rooms.get_mut(key).ok_or(Refusal::RoomNotFound)?;
        if !room.is_owned_by(session) {
            return Err(Refusal::NotTheOwner);
        }
        room.is_over = true;
        let members = room.members.iter().filter_map(|member| self.members.get(*member));
        let probes = members.filter_map(|member| member.probe.as_deref());
        // Who waits for a name goes first: the holder's end would let them in.
        let mut attachments: Vec<_> = probes.flat_map(Probe::waiting).collect();
        attachments.extend(&room.attachments);
        for attachment in attachments {
            self.close(now, attachment, CloseReason::RoomDeleted, sink);
        }
        if let Some(timer) = self.rooms.get_mut(key).and_then(|room| room.timer.take()) {
            self.timers.cancel(timer);
        }
        self.remove_room(key, sink);
        Ok(())
    }

    /// A session has ended that owned the room: it belongs to whoever has been present longest.
    pub(super) fn inherit(&mut self, key: RoomKey) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.owner = None;
        let heir = room.present.values().next().and_then(|member| self.members.get(*member));
        if let Some(heir) = heir.map(|member| member.session) {
            self.give(key, heir);
        }
    }

    /// Makes a session the owner of a room that has none.
    pub(super) fn give(&mut self, key: RoomKey, session: SessionKey) {
        let (Some(room), Some(owner)) = (self.rooms.get_mut(key), self.sessions.get_mut(session))
        else {
            return;
        };
        room.owner = Some((session, owner.owned.len()));
        owner.owned.push(key);
        self.recount_session(session);
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
        self.silent.remove(&mut self.rooms, key);
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
        shrink(&mut self.room_keys);
        self.public_rooms.remove(&room.number);
        self.listing_revision += 1;
        if let Some((owner, place)) = room.owner {
            self.disown(owner, place);
        }
        self.room_heap_tally.change(room.counted, 0);
        self.recount();
    }

    /// Takes a room that is over off its owner's list.
    fn disown(&mut self, owner: SessionKey, place: usize) {
        let Some(owner) = self.sessions.get_mut(owner) else { return };
        owner.owned.swap_remove(place);
        let moved = owner.owned.get(place).and_then(|moved| self.rooms.get_mut(*moved));
        if let Some((_, moved)) = moved.and_then(|room| room.owner.as_mut()) {
            *moved = place;
        }
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

pub(super) fn check(chat: &Chat) {
    agree!(chat.rooms.len(), chat.room_keys.len());
    assert!(chat.public_rooms.len() <= chat.rooms.len());
    let (mut heap, mut members, mut owned) = (0, 0, 0);
    for (key, room) in chat.rooms.iter() {
        agree!(chat.room_keys.get(&room.id), Some(&key));
        agree!(room.timer.is_none(), !room.connections.is_empty(), "a timer iff empty");
        assert!(room.history.len() <= chat.settings.history_messages_max);
        room.history.check();
        assert!(!room.is_over, "a deleted room is gone");
        if let Some((owner, place)) = room.owner {
            let owner = chat.sessions.get(owner).expect("an owner lives");
            agree!(owner.owned.get(place), Some(&key));
            owned += 1;
        }
        for (place, member) in room.members.iter().enumerate() {
            let member = chat.members.get(*member).expect("a room's members live");
            agree!((member.room, member.place), (key, place));
            assert!(chat.sessions.get(member.session).is_some(), "a member's session lives");
        }
        members += room.members.len();
        agree!(room.counted, room.heap_bytes());
        heap += room.counted;
    }
    agree!(members, chat.members.len(), "no member without a room");
    let all = chat.sessions.iter().map(|(_, session)| session.owned.len());
    agree!(owned, all.sum::<usize>(), "nobody owns a room that is over");
    agree!(heap, chat.room_heap_tally.bytes(), "the ledger has every room's heap");
}
