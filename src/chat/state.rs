//! The state of the domain, without its rules.
//!
//! Owns [`Chat`], its sessions, rooms and members, and their accounting. Must not know the rules:
//! each file of the deciding half adds its methods to [`Chat`]. The invariant: whenever a public
//! method returns, the ledger counts the heap of all collections and entries (without a few small
//! boxes), and no key refers to a removed entry, except in [`Probe::waiting`].

use std::collections::{BTreeSet, HashMap};

use smallvec::SmallVec;

use super::address::Addresses;
use super::bans::{Bans, HashedAddress};
use super::config::ChatConfig;
#[cfg(feature = "cluster")]
use super::error::{CloseReason, Departure};
#[cfg(feature = "cluster")]
use super::event::{Message, OwnedRoom};
use super::feed::Feeds;
use super::guesses::Guesses;
use super::heap::{list_bytes, map_bytes, tree_bytes, vec_bytes};
use super::id::{MessageIds, RoomId, SessionId, UserId};
use super::keys::{
    AddressKey, AttachmentKey, IdleKey, MemberKey, MemberTag, RoomKey, SessionKey, SessionTag,
    ShareKey,
};
use super::name::{Name, Title};
use super::password::Lock;
use super::roster::{Arrival, PresentFacts, Roster};
use super::session_index::SessionIndex;
use super::sink::Sink;
use super::timer::ChatTimer;
use crate::clock::{Entropy, Mono, Now, Wall};
use crate::ledger::{Account, Ledger, Pressure, Tally, allocation};
use crate::rate::Meter;
use crate::slots::{Key, Slots};
use crate::timers::{TimerKey, Timers};

/// The domain: all sessions, rooms and members. Its methods are the domain's commands and queries.
pub struct Chat {
    pub(super) config: ChatConfig,
    pub(super) entropy: Box<dyn Entropy>,
    /// The key of the hash that makes user ids.
    pub(super) user_id_secret: [u8; 16],
    pub(super) message_ids: MessageIds,
    pub(super) sessions: Slots<Session, SessionTag>,
    pub(super) session_index: SessionIndex,
    pub(super) feeds: Feeds<Room>,
    pub(super) room_ids: HashMap<RoomId, RoomKey>,
    /// The public rooms, each as its [`Room::ordered_entry`] by number, so that the newest is last.
    pub(super) public_rooms: BTreeSet<u128>,
    /// Changes whenever a public room, or its number of present members, may have changed.
    pub(super) listing_revision: u64,
    /// The rooms that have a ttl, each as its [`Room::ordered_entry`] by deadline. The durations
    /// differ, so they cannot be a class of timers.
    pub(super) expiries: BTreeSet<u128>,
    /// The rooms that have ended and may have members.
    pub(super) ending: Vec<RoomKey>,
    /// The number of rooms ever opened, and thus the next [`Room::number`].
    pub(super) rooms_opened: u64,
    pub(super) members: Slots<Member, MemberTag>,
    /// How often a member has become present, in any room, and thus the next [`Member::arrival`].
    pub(super) arrivals: u64,
    pub(super) addresses: Addresses,
    pub(super) guesses: Guesses,
    pub(super) timers: Timers<ChatTimer>,
    /// The server ends, and no message is accepted.
    pub(super) is_silent: bool,
    pub(super) ledger: Ledger,
    /// The heap that the sessions hold.
    pub(super) session_heap_tally: Tally,
    /// The heap that the rooms hold, without their feeds.
    pub(super) room_heap_tally: Tally,
    /// The heap of the collections of sessions, addresses, guesses and timers.
    session_slots_tally: Tally,
    /// The heap of the collections of rooms, attachments and members.
    room_slots_tally: Tally,
    /// `Some`: the rooms are decided elsewhere. See [`mirror`](super::mirror).
    #[cfg(feature = "cluster")]
    pub(super) mirror: Option<Box<Mirror>>,
}

/// What only a chat has whose rooms are decided elsewhere.
#[cfg(feature = "cluster")]
pub(super) struct Mirror {
    /// The length of a message's event.
    pub event_bytes: fn(&Message<'_>) -> usize,
    /// The persons in all rooms: user ids, each with the index of a member.
    pub people: BTreeSet<u128>,
    /// The persons that have connections here: the hashes of their sessions' ids, each with the index
    /// of a session.
    pub here: BTreeSet<u128>,
    /// The owners of rooms. They need not be present, and so have no session here.
    pub owners: HashMap<RoomKey, UserId>,
    /// Why rooms have ended that still have members.
    pub endings: Vec<(RoomKey, CloseReason)>,
    /// Persons whose connections have been pinged because another session wants their name, and
    /// that have not sent anything since.
    pub probed: Vec<MemberKey>,
    /// Persons that were in `probed` and have sent something.
    pub alive: Vec<(RoomId, UserId)>,
    /// Connections that have ended. Not bounded, because each had a connection's memory before.
    pub exits: Vec<MirrorExit>,
    /// The newest public rooms of all servers, newest first.
    pub listing: Vec<OwnedRoom>,
    /// See [`Chat::listing_revision`].
    pub listing_revision: u64,
    /// [`Member::typing_due`] of persons that are not present, by the lowest bits of their user ids. If
    /// two of them have the same, an event may be lost.
    pub typing_due: [u32; 256],
}

/// The end of a connection in a room that is decided elsewhere.
#[cfg(feature = "cluster")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MirrorExit {
    /// The room.
    pub room: RoomId,
    /// The person.
    pub user_id: UserId,
    /// The person's session.
    pub session: SessionId,
    /// How the connection ended.
    pub departure: Departure,
    /// The person has no other connection in the room here.
    pub is_last_of_person: bool,
    /// The room has no other connection here.
    pub is_last_of_room: bool,
    /// The decision was made elsewhere, where the person's connections in the room no longer count. The
    /// person may have come back since, so that telling the end there would be wrong.
    pub is_decided: bool,
}

/// A user's identity: a name, with its rooms and connections.
pub(super) struct Session {
    /// A secret. It is overwritten before the slot is vacated, and so is the name: the allocator zeroes
    /// freed memory, but a slot keeps its bytes until it is used again.
    pub id: SessionId,
    pub name: Name,
    /// In the order of joining; at most `SESSION_ROOMS_MAX`.
    pub rooms: SmallVec<[(RoomKey, MemberKey); 1]>,
    /// At most `SESSION_CONNECTIONS_MAX`, including connections that wait to be admitted.
    pub attachments: SmallVec<[AttachmentKey; 2]>,
    /// Rooms that the session may delete, in arbitrary order; each room stores its index. Not
    /// bounded by `SESSION_ROOMS_MAX`: an owner that leaves a room still owns it.
    pub owned: Option<Box<SmallVec<[RoomKey; 2]>>>,
    /// The address that opened the session; `None`: exempt from limits per address.
    pub creator: Option<AddressKey>,
    /// `Some` while there is a creator and no attachment.
    pub idle: Option<IdleKey>,
    /// Armed while there is no attachment.
    pub timer: Option<TimerKey>,
    /// The meter of the rate of chat messages.
    pub messages: Meter,
    /// The meter of the rate of announced joins.
    pub joins: Meter,
    /// Bytes of heap last reported to the ledger.
    pub counted: usize,
}

/// A chat room: its identity, its members, and which of them are present.
pub(super) struct Room {
    pub id: RoomId,
    pub title: Option<Title>,
    pub created: Wall,
    /// `Some` once any of the rules has been set. In a box, because few rooms have any.
    pub rules: Option<Box<Rules>>,
    /// The session that may delete and change the room, and the room's index in
    /// [`Session::owned`]. `None` if the owner's session has ended while no member was present.
    pub owner: Option<(SessionKey, u32)>,
    /// The room has ended: it gets no further messages.
    pub is_closing: bool,
    /// How often the room has been announced. A connection that is catching up compares it.
    pub changes: u16,
    /// The address that opened the room, also after a hand-over; `None`: exempt from limits per
    /// address.
    pub creator: Option<AddressKey>,
    /// `Some` while there is a creator and no connection.
    pub idle: Option<IdleKey>,
    /// The number of rooms that were opened earlier.
    pub number: u64,
    pub roster: Roster,
    /// Armed while the room has no connection.
    pub timer: Option<TimerKey>,
    /// Bytes of heap last reported to the ledger.
    pub counted: usize,
}

/// What its owner has decided about a room, apart from its title. The default is a room without any
/// rules.
#[derive(Default)]
pub(super) struct Rules {
    pub password: Option<Lock>,
    pub bans: Bans,
    /// Sessions that are neither members nor the owner have no access.
    pub is_locked: bool,
    /// The room has had a password since it was opened: it is left out of listings for good.
    pub is_unlisted: bool,
    /// All chats are envelopes that only clients can open.
    pub is_encrypted: bool,
    /// Each member but the owner may chat once in so many seconds; 0: at any time.
    pub slow_mode: u16,
    /// The last chats of persons, each as its user id and its time (microseconds), so far as they
    /// still make the person wait. Kept by person and not by membership, which is quickly ended and
    /// begun again.
    pub chats: BTreeSet<u128>,
    /// When `chats` was last cleared of those that count no more.
    pub chats_forgotten: Mono,
    /// When the room ends at the latest.
    pub expiry: Option<Now>,
    /// The room has ended because of it.
    pub has_expired: bool,
}

/// A session's membership in a room.
pub(super) struct Member {
    pub session: SessionKey,
    pub room: RoomKey,
    pub user_id: UserId,
    /// The index in [`Roster::members`].
    pub place: u32,
    /// The number of connections in the room, at most `SESSION_CONNECTIONS_MAX`. A present member
    /// without a connection is in its grace.
    pub connections: u8,
    /// The address of its last join or connection.
    pub address: HashedAddress,
    /// Its place in the order of all arrivals; `None`: the member is not present.
    pub arrival: Option<Arrival>,
    /// What the member waits for. In a box, because few members wait at a time. The ledger does not
    /// count it: the end of a connection, with which a grace begins, frees more.
    pub pending: Option<Box<Pending>>,
    /// The share in which its last message counts. It may have ended.
    pub share: Option<ShareKey>,
    /// Typing events in the second before this time are not published. In microseconds, modulo 2³²: a
    /// member that has not typed for an hour may lose an event by mistake, one time in four thousand.
    pub typing_due: u32,
}

/// What a present member waits for.
pub(super) enum Pending {
    /// It has no connection, and departs when the timer expires.
    Grace(TimerKey),
    /// It has a connection, and connections of other sessions wait for its name.
    Probe(Probe),
}

impl Member {
    /// `Some` while the member is present without a connection.
    pub fn grace(&self) -> Option<TimerKey> {
        match self.pending.as_deref()? {
            Pending::Grace(timer) => Some(*timer),
            Pending::Probe(_) => None,
        }
    }

    /// `Some` while connections of other sessions wait for the member's name.
    pub fn probe(&self) -> Option<&Probe> {
        match self.pending.as_deref()? {
            Pending::Grace(_) => None,
            Pending::Probe(probe) => Some(probe),
        }
    }

    pub fn probe_mut(&mut self) -> Option<&mut Probe> {
        match self.pending.as_deref_mut()? {
            Pending::Grace(_) => None,
            Pending::Probe(probe) => Some(probe),
        }
    }

    /// Ends the grace, if there is one.
    pub fn take_grace(&mut self) -> Option<TimerKey> {
        let grace = self.grace()?;
        self.pending = None;
        Some(grace)
    }

    /// Ends the probe, if there is one.
    pub fn take_probe(&mut self) -> Option<Probe> {
        self.probe()?;
        match *self.pending.take()? {
            Pending::Grace(_) => None,
            Pending::Probe(probe) => Some(probe),
        }
    }
}

/// A probe: the member's connections were pinged, because connections of other sessions wait for
/// its name.
pub(super) struct Probe {
    /// The waiting connections, in the order in which they asked. The key of a connection that has
    /// ended stays in the list: removing it would take a search, and many ends would take quadratic
    /// time. A probe is short, so stale keys do not accumulate.
    pub waiting: Vec<AttachmentKey>,
    /// The number of keys in `waiting` that are not stale, at least 1.
    pub live: usize,
    pub timer: TimerKey,
}

// The table in `ledger` contains these sizes.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(
    size_of::<Session>() == 144
        && size_of::<super::feed::Feed<Room>>() == 312
        && size_of::<Member>() == 64
);

impl Session {
    /// Overwrites what must not stay in memory, before the slot is vacated: the slot keeps its bytes until
    /// it is used again. An optimizing compiler would leave the stores out, because nobody reads them.
    pub fn blank(&mut self) {
        self.id = SessionId::BLANK;
        self.name = Name::BLANK;
        std::hint::black_box(self);
    }

    /// A session without rooms, connections, creator or timer. The unused parts of its lists are set, too:
    /// otherwise they would have what the stack has, such as the name, and keep it.
    pub fn new(id: SessionId, name: Name) -> Session {
        Session {
            id,
            name,
            rooms: SmallVec::from_buf_and_len([(Key::BLANK, Key::BLANK); 1], 0),
            attachments: SmallVec::from_buf_and_len([Key::BLANK; 2], 0),
            owned: None,
            creator: None,
            idle: None,
            timer: None,
            messages: Meter::default(),
            joins: Meter::default(),
            counted: 0,
        }
    }

    /// The session's membership in a room.
    pub fn member_in(&self, room: RoomKey) -> Option<MemberKey> {
        self.rooms.iter().find(|(joined, _)| *joined == room).map(|(_, member)| *member)
    }

    /// The rooms that the session may delete.
    pub fn owned(&self) -> &[RoomKey] {
        self.owned.as_deref().map_or(&[], |owned| owned)
    }

    pub fn heap_bytes(&self) -> usize {
        self.name.bytes()
            + list_bytes(&self.rooms)
            + list_bytes(&self.attachments)
            + self.owned.as_deref().map_or(0, |owned| {
                allocation(size_of::<SmallVec<[RoomKey; 2]>>()) + list_bytes(owned)
            })
    }
    /// Reports the heap to the ledger after a change.
    pub fn recount(&mut self, tally: &mut Tally) {
        let bytes = self.heap_bytes();
        tally.change(self.counted, bytes);
        self.counted = bytes;
    }
}

impl Room {
    /// A room without a title, rules, members, owner, creator or timer.
    pub fn new(id: RoomId, number: u64, created: Wall) -> Room {
        Room {
            id,
            title: None,
            created,
            rules: None,
            owner: None,
            is_closing: false,
            changes: 0,
            creator: None,
            idle: None,
            number,
            roster: Roster::default(),
            timer: None,
            counted: 0,
        }
    }

    /// Orders rooms by number. The lowest 32 bits are the room's index.
    pub fn ordered_entry(number: u64, index: usize) -> u128 {
        u128::from(number) << 32 | index as u128
    }

    pub fn title(&self) -> Option<&str> {
        self.title.as_ref().map(Title::as_str)
    }

    /// The lock of the room's password.
    pub fn password(&self) -> Option<&Lock> {
        self.rules.as_ref()?.password.as_ref()
    }

    pub fn is_locked(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.is_locked)
    }

    pub fn slow_mode(&self) -> u16 {
        self.rules.as_ref().map_or(0, |rules| rules.slow_mode)
    }

    pub fn rules_mut(&mut self) -> &mut Rules {
        self.rules.get_or_insert_default()
    }

    /// Whether the room is in listings.
    pub fn is_listed(&self) -> bool {
        !self.id.is_private() && self.rules.as_ref().is_none_or(|rules| !rules.is_unlisted)
    }

    pub fn is_owned_by(&self, session: SessionKey) -> bool {
        self.owner.is_some_and(|(owner, _)| owner == session)
    }

    pub fn heap_bytes(&self) -> usize {
        self.roster.bytes()
            + self.title.as_ref().map_or(0, |title| allocation(title.as_str().len()))
            + self.rules.as_ref().map_or(0, |rules| {
                let chats = tree_bytes::<u128, ()>(rules.chats.len());
                allocation(size_of::<Rules>()) + chats + rules.bans.heap_bytes()
            })
    }

    /// Reports the heap to the ledger after a change.
    pub fn recount(&mut self, tally: &mut Tally) {
        let bytes = self.heap_bytes();
        tally.change(self.counted, bytes);
        self.counted = bytes;
    }
}

impl Chat {
    /// A domain without sessions and rooms.
    pub fn new(config: ChatConfig, mut entropy: Box<dyn Entropy>, ledger: &Ledger) -> Chat {
        let (user_id_secret, index_secret) = (entropy.bytes(), entropy.bytes());
        Chat {
            config,
            user_id_secret,
            entropy,
            message_ids: MessageIds::default(),
            sessions: Slots::default(),
            session_index: SessionIndex::new(index_secret),
            feeds: Feeds::new(config.history_messages_max, ledger),
            room_ids: HashMap::new(),
            public_rooms: BTreeSet::new(),
            listing_revision: 0,
            expiries: BTreeSet::new(),
            ending: Vec::new(),
            rooms_opened: 0,
            members: Slots::default(),
            arrivals: 0,
            addresses: Addresses::default(),
            guesses: Guesses::default(),
            timers: Timers::new(config),
            is_silent: false,
            ledger: ledger.clone(),
            session_heap_tally: ledger.tally(Account::Sessions),
            room_heap_tally: ledger.tally(Account::Rooms),
            session_slots_tally: ledger.tally(Account::Sessions),
            room_slots_tally: ledger.tally(Account::Rooms),
            #[cfg(feature = "cluster")]
            mirror: None,
        }
    }

    /// Whether the rooms are decided elsewhere. Always false without the feature `cluster`.
    #[inline(always)]
    pub fn is_mirror(&self) -> bool {
        #[cfg(feature = "cluster")]
        return self.mirror.is_some();
        #[cfg(not(feature = "cluster"))]
        false
    }

    /// When [`Chat::sweep`] is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        let expiry = self.expiries.first().map(|entry| Mono::from_micros((entry >> 32) as u64));
        self.timers.next_deadline().into_iter().chain(expiry).min()
    }

    /// Acts on at most `timers_max` timers and rooms that have expired.
    pub fn sweep(&mut self, now: Now, timers_max: usize, sink: &mut dyn Sink) {
        for _ in 0..timers_max {
            let Some(timer) = self.timers.pop_due(now.mono) else {
                match self.end_expired_room(now, sink) {
                    true => continue,
                    false => break,
                }
            };
            match timer {
                ChatTimer::SessionUnused(session) => self.remove_session(now, session, sink),
                ChatTimer::RoomEmpty(room) | ChatTimer::RoomNew(room) => {
                    self.on_room_unused(now, room, sink)
                }
                ChatTimer::LeaveGrace(member) => self.on_grace_expired(now, member, sink),
                ChatTimer::Probe(member) => self.on_probe_expired(now, member, sink),
                ChatTimer::Address(address) => self.review_address(now, address),
                ChatTimer::Guesses => self.forget_guesses(now),
            }
        }
        self.recount();
    }

    /// If memory is short, drops messages of the address that holds the most: the oldest ones in its
    /// room with the longest silence. Returns how many. The event loop calls this at the end of each
    /// tick.
    pub fn forget(&mut self) -> usize {
        self.feeds.forget(&self.ledger)
    }

    /// Moves the memory of histories together, if much of it is unused. The event loop calls this at
    /// the end of each tick.
    pub fn compact(&mut self) {
        self.feeds.compact();
    }

    /// Whether [`Chat::compact`] has work.
    pub fn is_sparse(&self) -> bool {
        self.feeds.is_sparse()
    }

    /// What a room's [`Roster`] has to know of a member; `None`: the member is not present.
    pub(super) fn present_facts(&self, key: MemberKey) -> Option<PresentFacts<'_>> {
        present_facts(&self.members, &self.sessions, key)
    }

    /// The member that a connection belongs to; `None`: the connection waits, or its room has ended.
    pub(super) fn member_of(&self, attachment: AttachmentKey) -> Option<MemberKey> {
        let attachment = self.feeds.attachments.get(attachment)?;
        attachment.member().filter(|_| !self.has_ended(attachment.room))
    }

    /// Whether memory is too short to open sessions and rooms.
    pub(super) fn is_full(&self) -> bool {
        self.ledger.is_at(Pressure::Creations)
    }

    /// Reports the heap of the collections to the ledger. Entries report their own heap when it
    /// changes.
    pub(super) fn recount(&mut self) {
        let (sessions, rooms) = self.slots_bytes();
        self.session_slots_tally.set(sessions);
        self.room_slots_tally.set(rooms);
    }

    /// Reports a session's heap to the ledger after a change.
    pub(super) fn recount_session(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.recount(&mut self.session_heap_tally);
        }
    }

    /// Reports a room's heap to the ledger after a change.
    pub(super) fn recount_room(&mut self, key: RoomKey) {
        if let Some(room) = self.feeds.room_mut(key) {
            room.recount(&mut self.room_heap_tally);
        }
    }

    /// Bytes of the collections, for the account of sessions and for the account of rooms.
    fn slots_bytes(&self) -> (usize, usize) {
        let sessions = self.sessions.bytes()
            + self.session_index.bytes()
            + self.addresses.bytes()
            + self.guesses.bytes()
            + self.timers.bytes();
        let rooms = self.feeds.slots_bytes()
            + self.members.bytes()
            + map_bytes::<RoomId, RoomKey>(self.room_ids.capacity())
            + tree_bytes::<u128, ()>(self.public_rooms.len())
            + tree_bytes::<u128, ()>(self.expiries.len())
            + vec_bytes::<RoomKey>(self.ending.capacity());
        #[cfg(feature = "cluster")]
        let rooms = rooms + self.mirror.as_ref().map_or(0, |mirror| mirror.heap_bytes());
        (sessions, rooms)
    }

    /// Panics if the domain contradicts itself or the ledger. For tests, and after a caught panic.
    pub fn check_invariants(&self) {
        self.feeds.check();
        self.check_members();
        self.check_shares();
        self.check_heaps();
        if !self.is_mirror() {
            self.check_sessions();
            self.check_rooms();
            self.check_presence();
        }
        #[cfg(feature = "cluster")]
        self.check_mirror();
        self.guesses
            .check(|room| self.feeds.room(room).is_some_and(|room| room.password().is_some()));
        let of_session = |session: &Session| usize::from(session.timer.is_some());
        let of_room = |room: &Room| usize::from(room.timer.is_some());
        let of_member = |member: &Member| usize::from(member.pending.is_some());
        let owned = self.sessions.iter().map(|(_, session)| of_session(session)).sum::<usize>()
            + self.feeds.rooms().map(|(_, room)| of_room(room)).sum::<usize>()
            + self.members.iter().map(|(_, member)| of_member(member)).sum::<usize>()
            + self.addresses.timed()
            + usize::from(self.guesses.timer.is_some());
        agree!(owned, self.timers.len(), "every armed timer belongs to an entry");
    }

    fn check_heaps(&self) {
        let (mut heap, mut rooms) = (0, 0);
        for (_, session) in self.sessions.iter() {
            agree!(session.counted, session.heap_bytes());
            heap += session.counted;
        }
        for (_, room) in self.feeds.rooms() {
            agree!(room.counted, room.heap_bytes());
            rooms += room.counted;
        }
        agree!(heap, self.session_heap_tally.bytes(), "the ledger counts every session's heap");
        agree!(rooms, self.room_heap_tally.bytes(), "the ledger counts every room's heap");
        let counted = (self.session_slots_tally.bytes(), self.room_slots_tally.bytes());
        agree!(counted, self.slots_bytes(), "the ledger counts all collections");
    }
}

/// [`Chat::present_facts`], for while another part of the domain is borrowed.
pub(super) fn present_facts<'a>(
    members: &'a Slots<Member, MemberTag>,
    sessions: &'a Slots<Session, SessionTag>,
    key: MemberKey,
) -> Option<PresentFacts<'a>> {
    let member = members.get(key)?;
    Some((member.arrival?, sessions.get(member.session)?.name.folded()))
}
