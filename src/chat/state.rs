//! The state of the domain: everything that it remembers, and no rules.
//!
//! Owns [`Chat`], its sessions, rooms and members, and their accounting. Must not know the rules:
//! each file of the deciding half adds its methods to [`Chat`]. The invariant: whenever a public
//! method returns, the ledger has been told what every collection and entry holds, and nothing
//! refers to an entry that has been removed.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use smallvec::SmallVec;

use super::address::Addresses;
use super::config::ChatConfig;
use super::feed::{Feed, Feeds};
use super::heap::{list_bytes, map_bytes, tree_bytes, vec_bytes};
use super::id::{MessageIds, RoomId, SessionId, UserId};
use super::keys::{AttachmentKey, MemberKey, MemberTag, RoomKey, SessionKey, SessionTag};
use super::name::{Name, Title};
use super::password::Lock;
use super::sink::Sink;
use super::timer::ChatTimer;
use crate::clock::{Entropy, Mono, Now, Wall};
use crate::ledger::{Account, Ledger, Pressure, Tally, allocation};
use crate::rate::Meter;
use crate::slots::Slots;
use crate::timers::{TimerKey, Timers};

/// All sessions and rooms, and everything that can happen to them.
pub struct Chat {
    pub(super) config: ChatConfig,
    pub(super) entropy: Box<dyn Entropy>,
    /// The key of the hash that makes user ids.
    pub(super) user_id_secret: [u8; 16],
    pub(super) message_ids: MessageIds,
    pub(super) sessions: Slots<Session, SessionTag>,
    pub(super) session_ids: HashMap<Rc<SessionId>, SessionKey>,
    pub(super) feeds: Feeds<Room>,
    pub(super) room_ids: HashMap<RoomId, RoomKey>,
    /// By number, so that the newest is last.
    pub(super) public_rooms: BTreeMap<u64, RoomKey>,
    /// Changes whenever a public room, or its number of present members, may have changed.
    pub(super) listing_revision: u64,
    /// Rooms that were ever opened.
    pub(super) rooms_opened: u64,
    pub(super) members: Slots<Member, MemberTag>,
    /// How often a member has become present, in any room.
    pub(super) arrivals: u64,
    pub(super) addresses: Addresses,
    pub(super) timers: Timers<ChatTimer>,
    pub(super) ledger: Ledger,
    /// What each session holds on the heap.
    pub(super) session_heap_tally: Tally,
    /// What each room holds on the heap, without its feed.
    pub(super) room_heap_tally: Tally,
    /// What the collections of sessions hold.
    session_slots_tally: Tally,
    /// What the collections of rooms hold.
    room_slots_tally: Tally,
}

/// An identity: a name, and the rooms and connections that go with it.
pub(super) struct Session {
    /// Shared with the map of all ids: a map keeps the bytes of removed keys, and freed memory is
    /// zeroed.
    pub id: Rc<SessionId>,
    pub name: Name,
    /// In the order of joining; at most `SESSION_ROOMS_MAX`.
    pub rooms: SmallVec<[(RoomKey, MemberKey); 1]>,
    /// At most `SESSION_CONNECTIONS_MAX`, including those that wait to be admitted.
    pub attachments: SmallVec<[AttachmentKey; 2]>,
    /// Rooms that the session may delete, in arbitrary order; each room knows its place. Not bounded
    /// by `SESSION_ROOMS_MAX`: an owner that leaves a room still owns it.
    pub owned: Vec<RoomKey>,
    /// Armed while there is no attachment.
    pub timer: Option<TimerKey>,
    /// Counts chat messages.
    pub messages: Meter,
    /// Bytes of heap reported so far.
    pub counted: usize,
}

/// A chat room: its identity, its members, and those of them that are present.
pub(super) struct Room {
    pub id: RoomId,
    pub title: Option<Title>,
    pub created: Wall,
    pub lock: Option<Box<Lock>>,
    /// The session that may delete the room, and the room's index in [`Session::owned`]. `None` once
    /// the owner has ended while no member was present.
    pub owner: Option<(SessionKey, usize)>,
    /// The room is being deleted: it gets no further messages.
    pub is_closing: bool,
    /// How many rooms were opened before it.
    pub number: u64,
    /// In arbitrary order; each member knows its place.
    pub members: Vec<MemberKey>,
    /// The members that are present, by arrival.
    pub present: BTreeMap<u64, MemberKey>,
    /// The same members, by folded name. No two have the same name.
    pub names: HashMap<Rc<str>, MemberKey>,
    /// Armed while the room has no connection.
    pub timer: Option<TimerKey>,
    /// Bytes of heap reported so far.
    pub counted: usize,
}

/// A session's membership in a room.
pub(super) struct Member {
    pub session: SessionKey,
    pub room: RoomKey,
    pub user_id: UserId,
    /// The index in [`Room::members`].
    pub place: u32,
    /// Connections in the room. A member that is present without one is in its grace.
    pub connections: u32,
    /// While present: the key in [`Room::present`].
    pub arrival: Option<u64>,
    /// Armed while present without a connection.
    pub grace: Option<TimerKey>,
    /// While another session waits for the member's name.
    pub probe: Option<Box<Probe>>,
    /// When the next typing event is passed on.
    pub typing_due: Mono,
}

/// A probe: the member was pinged, because other sessions want its name.
pub(super) struct Probe {
    /// The waiting connections, the first to ask first. A connection that has ended stays listed
    /// under its stale key: searching for it would make the end of many quadratic, and a probe is
    /// short.
    pub waiting: Vec<AttachmentKey>,
    /// How many of `waiting` have not ended, at least 1.
    pub live: usize,
    pub timer: TimerKey,
}

// See the account in `ledger`.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(
    size_of::<Session>() == 136 && size_of::<Feed<Room>>() == 376 && size_of::<Member>() == 72
);

/// Bytes of an id on the heap, with the two counts of its `Rc`.
const ID_BYTES: usize = size_of::<SessionId>() + 2 * size_of::<usize>();

impl Session {
    /// The session's membership in a room.
    pub fn member_in(&self, room: RoomKey) -> Option<MemberKey> {
        self.rooms.iter().find(|(joined, _)| *joined == room).map(|(_, member)| *member)
    }

    pub fn heap_bytes(&self) -> usize {
        ID_BYTES
            + self.name.bytes()
            + list_bytes(&self.rooms)
            + list_bytes(&self.attachments)
            + vec_bytes::<RoomKey>(self.owned.capacity())
    }
    /// Reports the heap after a change.
    pub fn recount(&mut self, tally: &mut Tally) {
        let bytes = self.heap_bytes();
        tally.change(self.counted, bytes);
        self.counted = bytes;
    }
}

impl Room {
    /// A room without title, password, members, owner and timer.
    pub fn new(id: RoomId, number: u64, created: Wall) -> Room {
        Room {
            id,
            title: None,
            created,
            lock: None,
            owner: None,
            is_closing: false,
            number,
            members: Vec::new(),
            present: BTreeMap::new(),
            names: HashMap::new(),
            timer: None,
            counted: 0,
        }
    }

    pub fn title(&self) -> Option<&str> {
        self.title.as_ref().map(Title::as_str)
    }

    pub fn is_owned_by(&self, session: SessionKey) -> bool {
        self.owner.is_some_and(|(owner, _)| owner == session)
    }

    pub fn heap_bytes(&self) -> usize {
        vec_bytes::<MemberKey>(self.members.capacity())
            + tree_bytes::<u64, MemberKey>(self.present.len())
            + map_bytes::<Rc<str>, MemberKey>(self.names.capacity())
            + self.title.as_ref().map_or(0, |title| allocation(title.as_str().len()))
            + self.lock.as_ref().map_or(0, |lock| allocation(size_of::<Lock>()) + lock.bytes())
    }

    /// Reports the heap after a change.
    pub fn recount(&mut self, tally: &mut Tally) {
        let bytes = self.heap_bytes();
        tally.change(self.counted, bytes);
        self.counted = bytes;
    }
}

impl Chat {
    /// No sessions, no rooms.
    pub fn new(config: ChatConfig, mut entropy: Box<dyn Entropy>, ledger: &Ledger) -> Chat {
        Chat {
            config,
            user_id_secret: entropy.bytes(),
            entropy,
            message_ids: MessageIds::default(),
            sessions: Slots::default(),
            session_ids: HashMap::new(),
            feeds: Feeds::new(config.history_messages_max, ledger),
            room_ids: HashMap::new(),
            public_rooms: BTreeMap::new(),
            listing_revision: 0,
            rooms_opened: 0,
            members: Slots::default(),
            arrivals: 0,
            addresses: Addresses::default(),
            timers: Timers::new(config),
            ledger: ledger.clone(),
            session_heap_tally: ledger.tally(Account::Sessions),
            room_heap_tally: ledger.tally(Account::Rooms),
            session_slots_tally: ledger.tally(Account::Sessions),
            room_slots_tally: ledger.tally(Account::Rooms),
        }
    }

    /// When [`Chat::sweep`] is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.next_deadline()
    }

    /// Acts on timers that have expired, at most `timers_max` of them.
    pub fn sweep(&mut self, now: Now, timers_max: usize, sink: &mut dyn Sink) {
        for _ in 0..timers_max {
            let Some(timer) = self.timers.pop_due(now.mono) else { break };
            match timer {
                ChatTimer::SessionUnused(session) => self.remove_session(now, session, sink),
                ChatTimer::RoomEmpty(room) | ChatTimer::RoomNew(room) => {
                    self.remove_room(room, sink)
                }
                ChatTimer::LeaveGrace(member) => self.on_grace_expired(now, member, sink),
                ChatTimer::Probe(member) => self.on_probe_expired(now, member, sink),
                ChatTimer::Address(address) => self.review_address(now, address),
            }
        }
        self.recount();
    }

    /// If memory is short, drops the oldest messages of the rooms that have been silent longest.
    /// Returns how many. Due at the end of a tick, when all batches are sealed.
    pub fn forget(&mut self) -> usize {
        self.feeds.forget(&self.ledger)
    }

    pub(super) fn member_of(&self, attachment: AttachmentKey) -> Option<MemberKey> {
        self.feeds.attachments.get(attachment)?.member()
    }

    /// Whether memory is so short that no sessions and rooms are opened.
    pub(super) fn is_full(&self) -> bool {
        self.ledger.is_at(Pressure::Creations)
    }

    /// Reports what the collections themselves hold; entries report their own heap as it changes.
    pub(super) fn recount(&mut self) {
        let (sessions, rooms) = self.slots_bytes();
        self.session_slots_tally.set(sessions);
        self.room_slots_tally.set(rooms);
    }

    /// Reports a session's heap after a change.
    pub(super) fn recount_session(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.recount(&mut self.session_heap_tally);
        }
    }

    /// Reports a room's heap after a change.
    pub(super) fn recount_room(&mut self, key: RoomKey) {
        if let Some(room) = self.feeds.room_mut(key) {
            room.recount(&mut self.room_heap_tally);
        }
    }

    /// What the collections of sessions and of rooms hold.
    fn slots_bytes(&self) -> (usize, usize) {
        let sessions = self.sessions.bytes()
            + map_bytes::<Rc<SessionId>, SessionKey>(self.session_ids.capacity())
            + self.addresses.bytes()
            + self.timers.bytes();
        let rooms = self.feeds.slots_bytes()
            + self.members.bytes()
            + map_bytes::<RoomId, RoomKey>(self.room_ids.capacity())
            + tree_bytes::<u64, RoomKey>(self.public_rooms.len());
        (sessions, rooms)
    }

    /// Panics if what the domain remembers contradicts itself. For tests, and after a caught panic.
    pub fn check_invariants(&self) {
        self.check_sessions();
        self.feeds.check();
        self.check_rooms();
        self.check_members();
        self.check_presence();
        let of_session = |session: &Session| usize::from(session.timer.is_some());
        let of_room = |room: &Room| usize::from(room.timer.is_some());
        let of_member = |member: &Member| {
            usize::from(member.grace.is_some()) + usize::from(member.probe.is_some())
        };
        let owned = self.sessions.iter().map(|(_, session)| of_session(session)).sum::<usize>()
            + self.feeds.rooms().map(|(_, room)| of_room(room)).sum::<usize>()
            + self.members.iter().map(|(_, member)| of_member(member)).sum::<usize>()
            + self.addresses.timed();
        agree!(owned, self.timers.len(), "every armed timer has its owner");
        let counted = (self.session_slots_tally.bytes(), self.room_slots_tally.bytes());
        agree!(counted, self.slots_bytes(), "the ledger has all collections");
    }
}
