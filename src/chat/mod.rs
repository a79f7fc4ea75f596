//! The domain: sessions, rooms, who is where, and what was said.
//!
//! Owns the rules of the chat. Must never know JSON, HTTP, a socket or what time it is: commands
//! come in as calls with [`Now`] first, answers go back as values, and everything anybody is told
//! goes out through a [`Sink`]. The invariant: everyone in a room is told the same messages in the
//! same order, and the history has that order too. [`Chat::check_invariants`] spells out the rest.
//!
//! | file | what it owns |
//! |---|---|
//! | `session` | identities: opening, using, ending them |
//! | `room` | rooms: opening, joining, leaving, owning, their end |
//! | `gate`, `password` | who may go through which door of a room |
//! | `presence` | who is in a room right now: connections coming and going, names, probes |
//! | `posting` | what is said, and in which order |
//! | `history` | a room's bounded queue of messages, and their nonces |
//! | `catch_up` | connections that are sent what was said before they came |
//! | `forgetting` | which history gives way when memory is short |
//! | `event` | what is told, and by which ids |
//! | `timer` | what it waits for, and how long |
//! | `records` | what a restart is not to lose |
//! | `name`, `limits` | what a name may be; rates and shares |

mod catch_up;
mod event;
mod forgetting;
mod gate;
mod history;
pub mod limits;
mod name;
mod password;
mod posting;
mod presence;
mod records;
mod room;
mod session;
#[cfg(test)]
mod tests;
mod timer;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

pub use catch_up::{LastPage, Page, Start};
pub use event::{
    BATCH_BYTES_FULL, Event, Frame, Message, MessageId, MessageKind, RoomId, SessionId, UserId,
};
pub use gate::Access;
pub use history::{History, HistoryEntry};
pub use limits::{Address, Pace, Quota};
pub use name::{
    BadName, NAME_CHARS_MAX, NAME_CHARS_MIN, Name, TITLE_CHARS_MAX, TITLE_CHARS_MIN, Title,
};
pub use password::{LockRecord, PASSWORD_BYTES_MAX};
pub use posting::{Draft, MESSAGE_CHARS_MAX, NONCE_BYTES_MAX, is_nonce};
pub use presence::{Admission, AttachmentKey, Departure, JoinRequest};
pub use records::{InvalidRecord, Record, Restoring};
pub use room::{ROOMS_LISTED_MAX, RoomInfo, RoomKey, RoomOptions};
pub use session::{SESSION_CONNECTIONS_MAX, SESSION_ROOMS_MAX, SessionKey};

use crate::clock::{Entropy, Mono, Now};
use crate::ledger::{Account, Ledger, Pressure, Tally, allocation};
use crate::slots::{Key, List, Slots};
use crate::timers::Timers;
use event::MessageIds;
use limits::Addresses;
use presence::Attachment;
use room::{Member, Room};
use session::Session;
use timer::ChatTimer;

/// A connection as the domain sees it: something that can be told things.
pub enum Conn {}

/// A handle on a connection, opaque to the domain.
pub type ConnKey = Key<Conn>;

/// Where the domain's events go.
///
/// A trait because tests listen at this seam. An implementation must never call back into the
/// domain: a push that overflows an outbox only marks the connection, and the domain is told of
/// its end later.
pub trait Sink {
    /// Encodes `event` once, appends it to the room's batch, and returns where it lies.
    fn publish(&mut self, room: RoomKey, event: &Event<'_>) -> Frame;
    /// Ends the room's batch, if one is open, and queues it for each of `to`.
    fn seal(&mut self, room: RoomKey, to: &[ConnKey]);
    /// Queues a frame for one connection alone, whether or not it is held.
    fn push(&mut self, to: ConnKey, frame: &Frame);
    /// Queues a frame that a connection which is held has missed.
    fn push_missed(&mut self, to: ConnKey, frame: &Frame);
    /// Queues a page of history for a connection that is held.
    fn push_page(&mut self, to: ConnKey, page: &Page<'_>);
    /// From now on [`Sink::seal`] passes this connection over: it is sent pages instead, and
    /// whenever they have mostly left, [`Chat::catch_up`] is due.
    fn hold(&mut self, to: ConnKey);
    /// The connection has caught up: it is passed over no longer.
    fn release(&mut self, to: ConnKey);
    /// Asks for a sign of life.
    fn ping(&mut self, to: ConnKey);
    /// The connection that was kept waiting is in: what it sends may be handled from now on.
    fn admit(&mut self, to: ConnKey);
    /// Ends the connection. It is the domain's no longer; nothing more will be said of it.
    fn close(&mut self, to: ConnKey, close: CloseReason);
}

/// Why the domain ends a connection, or doesn't let it in (contract §7.1 and on).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The session left the room by REST.
    LeftRoom,
    /// The session is unknown, or has ended.
    InvalidSession,
    /// No such room.
    RoomNotFound,
    /// Somebody present bears the name.
    NameTaken,
    /// The room has a password, and the session has not joined.
    NotAMember,
    /// The room's owner has ended it.
    RoomDeleted,
    /// What it was to be sent is not kept any more.
    TooSlow,
    /// Over the session's or the address's share of connections.
    TooManyConnections,
    /// The session is in as many rooms as it may be.
    TooManyRooms,
    /// The line is dead; nobody is there to be told.
    Silent,
}

/// The domain says no.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No such room, or it is over.
    RoomNotFound,
    /// The session is in [`SESSION_ROOMS_MAX`] rooms.
    TooManyRooms,
    /// Too often; possible again after this long.
    RateLimited(Duration),
    /// The server holds as many sessions or rooms as it may.
    ServerFull,
    /// The room has a password, and this isn't it.
    BadPassword,
    /// The session has not joined the room.
    NotAMember,
    /// The room is not the session's to end.
    NotTheOwner,
    /// Somebody present bears the name.
    NameTaken,
    /// A nonce that is empty or longer than [`NONCE_BYTES_MAX`].
    BadNonce,
    /// A message without a character but white space.
    EmptyMessage,
    /// A message of more than [`MESSAGE_CHARS_MAX`] characters.
    TooLong,
}

/// What the domain is set to. Durations and limits as `--help` explains them.
#[derive(Clone, Copy, Debug)]
pub struct ChatConfig {
    /// A session's life after its last use.
    pub session_ttl: Duration,
    /// A room's life after its last connection.
    pub room_ttl: Duration,
    /// A room's life if nobody comes.
    pub new_room_ttl: Duration,
    /// How long somebody whose line broke still counts as present.
    pub leave_grace: Duration,
    /// How long a name's holder has to show a sign of life.
    pub probe_timeout: Duration,
    /// Messages kept per room.
    pub history_messages_max: usize,
    /// Chats of one session.
    pub message_pace: Pace,
    /// Sessions opened from one address.
    pub session_pace: Pace,
    /// Rooms opened from one address.
    pub room_pace: Pace,
    /// Wrong passwords for one room from one address.
    pub guess_pace: Pace,
    /// Connections of one address; `None`: no bound.
    pub address_connections_max: Option<usize>,
    /// Sessions at one time.
    pub sessions_max: usize,
    /// Rooms at one time.
    pub rooms_max: usize,
}

/// Connections beyond its share that an address is told about, at one time.
const TOLD_MAX: usize = 16;

/// All sessions and rooms, and everything that can happen to them.
pub struct Chat {
    settings: ChatConfig,
    entropy: Box<dyn Entropy>,
    /// Keys the hash that makes user ids.
    user_id_secret: [u8; 16],
    message_ids: MessageIds,
    sessions: Slots<Session>,
    /// Behind an `Rc`, as in [`Session`]: a map keeps the bytes of keys that were removed from it,
    /// and freed memory is zeroed.
    session_keys: HashMap<Rc<SessionId>, SessionKey>,
    rooms: Slots<Room>,
    room_keys: HashMap<RoomId, RoomKey>,
    /// By number, so that a listing has the newest last.
    public_rooms: BTreeMap<u64, RoomKey>,
    listing_revision: u64,
    rooms_opened: u64,
    members: Slots<Member>,
    arrivals: u64,
    attachments: Slots<Attachment>,
    addresses: Addresses,
    /// The rooms with a history, in the order of their newest messages.
    silent: List<Room>,
    timers: Timers<ChatTimer>,
    ledger: Ledger,
    /// What the collections of sessions hold, and what each session holds on the heap.
    session_slots_tally: Tally,
    session_heap_tally: Tally,
    /// The same for rooms.
    room_slots_tally: Tally,
    room_heap_tally: Tally,
}

impl Chat {
    /// No sessions, no rooms.
    pub fn new(settings: ChatConfig, mut entropy: Box<dyn Entropy>, ledger: &Ledger) -> Chat {
        Chat {
            timers: Timers::new(settings),
            settings,
            user_id_secret: entropy.bytes(),
            entropy,
            message_ids: MessageIds::default(),
            sessions: Slots::new(),
            session_keys: HashMap::new(),
            rooms: Slots::new(),
            room_keys: HashMap::new(),
            public_rooms: BTreeMap::new(),
            listing_revision: 0,
            rooms_opened: 0,
            members: Slots::new(),
            arrivals: 0,
            attachments: Slots::new(),
            addresses: Addresses::default(),
            silent: List::default(),
            ledger: ledger.clone(),
            session_slots_tally: ledger.tally(Account::Sessions),
            session_heap_tally: ledger.tally(Account::Sessions),
            room_slots_tally: ledger.tally(Account::Rooms),
            room_heap_tally: ledger.tally(Account::Rooms),
        }
    }

    /// When [`Chat::sweep`] next has something to do.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.next_deadline()
    }

    /// Does what is due, at most so many things of it.
    pub fn sweep(&mut self, now: Now, most: usize, sink: &mut dyn Sink) {
        for _ in 0..most {
            let Some(timer) = self.timers.pop_due(now.mono) else { break };
            match timer {
                ChatTimer::SessionUnused(session) => self.remove_session(now, session, sink),
                ChatTimer::RoomEmpty(room) | ChatTimer::RoomNew(room) => {
                    self.remove_room(room, sink)
                }
                ChatTimer::LeaveGrace(member) => self.on_grace_over(now, member, sink),
                ChatTimer::Probe(member) => self.on_probe_over(now, member, sink),
                ChatTimer::Address(address) => self.review_address(now, address),
            }
        }
        self.recount();
    }

    /// The id of a room that lives.
    pub fn room_id(&self, room: RoomKey) -> Option<RoomId> {
        self.rooms.get(room).map(|room| room.id)
    }

    /// Sessions that have not ended.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Rooms that have not ended.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// Memberships: sessions that have joined a room, once for each room.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Timers that are armed.
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// A connection from `address` has come. Counts it, whatever the answer.
    pub fn on_arrival(&mut self, address: Address) -> Quota {
        let usage = self.addresses.entry(address);
        usage.connections += 1;
        let connections = usage.connections as usize;
        self.recount();
        match self.settings.address_connections_max {
            Some(max) if connections > max.saturating_add(TOLD_MAX) => Quota::FarOver,
            Some(max) if connections > max => Quota::Over,
            _ => Quota::Within,
        }
    }

    /// A connection counted by [`Chat::on_arrival`] is gone.
    pub fn on_departure(&mut self, now: Now, address: Address) {
        let usage = self.addresses.entry(address);
        usage.connections = usage.connections.saturating_sub(1);
        self.remember(now, address);
    }

    /// Sees to it that the address is forgotten in time.
    fn remember(&mut self, now: Now, address: Address) {
        if !self.addresses.entry(address).timed {
            self.review_address(now, address);
        }
    }

    fn review_address(&mut self, now: Now, address: Address) {
        if self.addresses.forget_if_idle(address, now.mono) {
            self.timers.arm(ChatTimer::Address(address), now.mono);
        }
        self.recount();
    }

    /// Whether memory is so short that no rooms and sessions are opened.
    fn is_full(&self) -> bool {
        self.ledger.is_at(Pressure::Creations)
    }

    /// Reports what the collections themselves hold; entries report their own heap as it changes.
    fn recount(&mut self) {
        let (sessions, rooms) = self.slots_bytes();
        self.session_slots_tally.set(sessions);
        self.room_slots_tally.set(rooms);
    }

    /// What the collections of sessions and rooms hold.
    fn slots_bytes(&self) -> (usize, usize) {
        let sessions = self.sessions.bytes()
            + map_bytes::<Rc<SessionId>, SessionKey>(self.session_keys.capacity())
            + self.addresses.bytes()
            + self.timers.bytes();
        let rooms = self.rooms.bytes()
            + self.members.bytes()
            + self.attachments.bytes()
            + map_bytes::<RoomId, RoomKey>(self.room_keys.capacity())
            + tree_bytes::<u64, RoomKey>(self.public_rooms.len());
        (sessions, rooms)
    }

    /// Panics if what the domain believes contradicts itself. For tests, and after a caught panic.
    pub fn check_invariants(&self) {
        session::check(self);
        room::check(self);
        presence::check(self);
        catch_up::check(self);
        forgetting::check(self);
        let of_session = |session: &Session| usize::from(session.timer.is_some());
        let of_room = |room: &Room| usize::from(room.timer.is_some());
        let of_member = |member: &Member| {
            usize::from(member.grace.is_some()) + usize::from(member.probe.is_some())
        };
        let owned = self.sessions.iter().map(|(_, session)| of_session(session)).sum::<usize>()
            + self.rooms.iter().map(|(_, room)| of_room(room)).sum::<usize>()
            + self.members.iter().map(|(_, member)| of_member(member)).sum::<usize>()
            + self.addresses.timed();
        agree!(owned, self.timers.len(), "every armed timer has its owner");
        let counted = (self.session_slots_tally.bytes(), self.room_slots_tally.bytes());
        agree!(counted, self.slots_bytes(), "the ledger has all collections");
    }
}

/// What a `HashMap` with room for `capacity` pairs takes: its buckets are kept at most 7/8 full,
/// with one control byte each, and sixteen more.
fn map_bytes<K, V>(capacity: usize) -> usize {
    match capacity {
        0 => 0,
        _ => allocation((capacity * 8 / 7 + 1) * (size_of::<(K, V)>() + 1) + 16),
    }
}

/// What a `Vec` with room for `capacity` takes.
fn vec_bytes<T>(capacity: usize) -> usize {
    allocation(capacity * size_of::<T>())
}

/// What such a list takes beyond its own place.
fn list_bytes<A: smallvec::Array>(list: &SmallVec<A>) -> usize {
    if list.spilled() { vec_bytes::<A::Item>(list.capacity()) } else { 0 }
}

/// Gives back what a map has room for beyond its needs: a crowd that has gone leaves no room
/// behind. Only a map that is nearly empty shrinks, so none does so often.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.is_empty() {
        *map = HashMap::new();
    } else if map.capacity() > 64 && map.len() < map.capacity() / 8 {
        map.shrink_to(2 * map.len());
    }
}

/// What a `BTreeMap` of `len` pairs takes, about: nodes of eleven pairs, two thirds full.
fn tree_bytes<K, V>(len: usize) -> usize {
    if len == 0 { 0 } else { len.div_ceil(7) * (11 * size_of::<(K, V)>() + 32) }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::RoomNotFound => f.write_str("There is no such room."),
            Refusal::TooManyRooms => {
                write!(f, "A session can be in at most {SESSION_ROOMS_MAX} rooms.")
            }
            Refusal::RateLimited(_) => f.write_str("Too many requests; please wait a moment."),
            Refusal::ServerFull => f.write_str("The server is full; please try again later."),
            Refusal::BadPassword => f.write_str("The room has a password, and this is not it."),
            Refusal::NotAMember => f.write_str("Please join the room first."),
            Refusal::NotTheOwner => f.write_str("Only the room's owner can delete it."),
            Refusal::NameTaken => f.write_str("Somebody in the room has that name."),
            Refusal::BadNonce => write!(f, "A nonce is a text of 1 to {NONCE_BYTES_MAX} bytes."),
            Refusal::EmptyMessage => f.write_str("The message is empty."),
            Refusal::TooLong => {
                write!(f, "A message has at most {MESSAGE_CHARS_MAX} characters.")
            }
        }
    }
}
