//! A node's state.
//!
//! Owns [`Cluster`] and what it consists of, and how functions are called. Must not know what a call
//! leads to: the other files have that as methods of [`Cluster`]. The invariant: a call's token says
//! what to do with the reply, so no reply is lost.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::args::Args;
use super::backlog::Backlog;
use super::identity::ClusterIdentity;
use super::library::{Function, Library};
use super::plan::{NameSeekers, PlanKey, PlanTimer, Plans, Posting};
use super::record::SessionHash;
use super::refusal::away;
use super::settled::Settled;
use super::uplink::{StartProblem, StoreCall, Uplink, UplinkConfig, UplinkEvent};
use crate::chat::{
    AttachmentKey, Chat, ChatConfig, CloseReason, ConnKey, MessagePlace, OwnedRoom, Refusal,
    RoomId, SessionId, Sink, UserId,
};
use crate::clock::{Entropy, Mono, Now};
use crate::ledger::allocation;
use crate::rate::Meter;

/// What the event loop lends for a call.
pub struct Lent<'a> {
    /// The time of the tick.
    pub now: Now,
    /// The mirror.
    pub chat: &'a mut Chat,
    /// The connections.
    pub sink: &'a mut dyn Sink,
}

/// What has become of a request or a connection.
pub enum NodeAnswer {
    /// The outcome of a request's command.
    Outcome {
        /// The connection of the request.
        to: ConnKey,
        /// The outcome.
        outcome: Result<Settled, Refusal>,
    },
    /// The connection is in its room.
    Entered {
        /// The connection.
        to: ConnKey,
        /// Its attachment to the room.
        attachment: AttachmentKey,
    },
    /// The connection is not let into its room.
    TurnedAway {
        /// The connection.
        to: ConnKey,
        /// Why.
        reason: CloseReason,
    },
    /// The connection waits for a name.
    Waits {
        /// The connection.
        to: ConnKey,
    },
    /// So many of the connection's messages have been answered, in this run of messages under way.
    Answered {
        /// The connection.
        to: ConnKey,
        /// How many.
        count: u64,
    },
    /// A connection's message was refused.
    Refused {
        /// The connection.
        to: ConnKey,
        /// Its attachment to its room.
        attachment: AttachmentKey,
        /// Why.
        why: Refusal,
        /// The message's nonce.
        nonce: Option<Box<str>>,
    },
}

/// What a reply is for.
pub(super) enum Token {
    /// The next step of a plan.
    Plan(PlanKey),
    /// The same for the first call of a plan.
    First(PlanKey),
    /// A message of a connection.
    Post(Box<Posting>),
    /// An event of the room may come with the reply.
    Event(RoomId),
    /// A part of a room's history.
    History(RoomId),
    /// What a mirrored room has missed.
    Resync(RoomId),
    /// A partition's part of the listing.
    Listing(u16),
    /// How much memory the store has in use.
    Memory,
    Beat(u16),
    Reap(u16),
    /// A connection of the session is no longer counted.
    Detach(SessionHash),
    /// Catching up: the session's connections are declared.
    Declared(SessionHash),
    /// Catching up: what a mirrored room has missed.
    Missed(RoomId),
    /// Catching up: what the store counts for this node.
    Counted(Counted),
    /// No one waits for it.
    Nothing,
}

impl Token {
    /// Whether a function replies. The others are commands of the store's own, without a status.
    pub fn is_of_function(&self) -> bool {
        !matches!(self, Token::Memory | Token::Counted(_))
    }
}

/// What the store counts for this node.
#[derive(Clone, Copy)]
pub(super) enum Counted {
    /// The sessions that have connections here.
    Sessions,
    /// The rooms that are mirrored here.
    Rooms,
    /// The people of a room that have connections here.
    People(RoomId),
    /// What is counted no longer.
    Nothing,
}

/// An entry of [`Cluster::seekers`], with a name of ordinary length.
const SEEKERS_BYTES: usize = size_of::<((RoomId, Box<str>), NameSeekers)>() + allocation(20);

/// What found the queue of calls full, besides [`Cluster::leaving`] and [`Cluster::returning`]. It is
/// bounded by the connections and rooms that are here: while calls wait here no connection is let in,
/// because first calls have less capacity than those that end something.
#[derive(Default)]
pub(super) struct Deferred {
    /// Sessions, once for each connection that is no longer counted.
    pub detaches: Vec<SessionHash>,
    /// Rooms that are being loaded.
    pub rooms: Once<RoomId>,
}

impl Deferred {
    /// Catching up begins: it asks for all rooms. Returns the sessions that it has to declare.
    pub fn begin_anew(&mut self) -> Vec<SessionHash> {
        self.rooms.take();
        std::mem::take(&mut self.detaches)
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.detaches.capacity() * size_of::<SessionHash>() + self.rooms.heap_bytes()
    }
}

/// What has an id.
pub(super) trait Numbered: Copy {
    /// The id as a number. No two things have the same.
    fn number(self) -> u128;
}

impl Numbered for RoomId {
    fn number(self) -> u128 {
        self.as_bytes().iter().fold(0, |bits, byte| bits << 8 | u128::from(*byte))
    }
}

/// A person in a room. One half of the number are the last bytes of the room's id, the other is the
/// person's id, which is a keyed hash of the session and the room.
impl Numbered for (RoomId, UserId) {
    fn number(self) -> u128 {
        self.0.number() << 64 | u128::from(self.1.bits())
    }
}

/// A list that has each thing once: each attempt to catch up finds the same again.
pub(super) struct Once<T> {
    list: Vec<T>,
    /// The numbers of those in the list.
    numbers: BTreeSet<u128>,
}

impl<T> Default for Once<T> {
    fn default() -> Once<T> {
        Once { list: Vec::new(), numbers: BTreeSet::new() }
    }
}

impl<T: Numbered> Once<T> {
    /// Adds this to the end, if it is not in the list.
    pub fn insert(&mut self, one: T) {
        if self.numbers.insert(one.number()) {
            self.list.push(one);
        }
    }

    /// Takes out what was added last.
    pub fn pop(&mut self) -> Option<T> {
        let one = self.list.pop()?;
        self.numbers.remove(&one.number());
        Some(one)
    }

    /// Takes out all, in the order in which they were added.
    pub fn take(&mut self) -> Vec<T> {
        self.numbers.clear();
        std::mem::take(&mut self.list)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.list.capacity() * size_of::<T>() + self.numbers.len() * size_of::<u128>() * 2
    }
}

/// The settings of a node's part in the cluster.
pub struct ClusterSettings {
    /// The limits that the store's functions apply.
    pub chat: ChatConfig,
    /// How long a node may be silent before the store takes it for dead.
    pub lease: Duration,
    /// How long connections stay open while the store is away.
    pub patience: Duration,
    /// What nodes must have in common to be one cluster; `None`: the store keeps it.
    pub secret: Option<Vec<u8>>,
}

/// What the node knows of a mirrored room, besides what the mirror has.
pub(super) struct Mirrored {
    /// The last message that was applied.
    pub newest: MessagePlace,
    /// The last message before the snapshot. Up to it messages change nobody's presence.
    pub base: MessagePlace,
    pub is_loading: bool,
    pub waiting: Vec<RoomWaiter>,
    /// What the room was like, as it was told while messages before that were still to be loaded.
    pub facts: VecDeque<(OwnedRoom, Option<UserId>)>,
    /// The last use.
    pub used: Mono,
}

/// What waits for a room that is being loaded.
pub(super) enum RoomWaiter {
    /// A request, until all is loaded.
    Request(PlanKey),
    /// A connection, until this message is loaded and before the next one is.
    Entering(PlanKey, MessagePlace),
}

impl RoomWaiter {
    /// The plan.
    pub fn key(&self) -> PlanKey {
        match self {
            RoomWaiter::Request(key) | RoomWaiter::Entering(key, _) => *key,
        }
    }
}

/// What has to be asked for after the store was away.
pub(super) enum Missing {
    /// A session, with the number of its connections here, which the store has not been told.
    Session {
        session: SessionHash,
        connections: usize,
    },
    /// What a mirrored room lacks.
    Room(RoomId),
    /// The sessions that the store counts in a partition for this node, and the rooms.
    Sessions(u16),
    Rooms(u16),
    /// The people that it counts in a room that is not mirrored.
    People(RoomId),
    /// One of them has no connection here.
    Stay(RoomId, UserId),
    /// The room is not mirrored.
    Interest(RoomId),
}

/// The listing of public rooms, and what waits for it.
#[derive(Default)]
pub(super) struct Listing {
    /// By partition: the store's revision, and the rooms, newest first.
    pub parts: Vec<(u64, Vec<OwnedRoom>)>,
    /// Replies that the fetch under way still waits for.
    pub left: u16,
    /// They asked before the fetch under way began.
    pub waiting: Vec<PlanKey>,
    /// They asked later, and wait for the next one.
    pub next: Vec<PlanKey>,
    pub is_changed: bool,
    /// A part of the fetch under way has not come.
    pub has_failed: bool,
    /// Bytes of heap that `parts` holds.
    pub bytes: usize,
    pub revision: u64,
    pub meter: Meter,
}

/// When what is due.
#[derive(Default)]
pub(super) struct Beats {
    pub next: Option<Mono>,
    /// By partition: the sessions and rooms there at the last beat.
    pub counts: Vec<(usize, usize)>,
    /// By partition: when something is due there.
    pub due: Vec<Option<Mono>>,
    pub listing: Option<Mono>,
    /// Messages that came without the one before them.
    pub gaps: u64,
    /// The store has little memory left.
    pub is_store_full: bool,
    /// Mirrors that were brought up to date, after the store was away or after a gap.
    pub resyncs: u64,
    /// Mirrors that could not be brought up to date.
    pub resyncs_failed: u64,
}

impl Beats {
    /// The listing is asked for again then.
    pub fn list_at(&mut self, at: Mono) {
        self.listing = Some(at);
    }

    /// How many of `max` may lie in this partition: those that did not lie in the others at the last beat.
    pub fn room_for(
        &self,
        partition: u16,
        max: usize,
        of: impl Fn(&(usize, usize)) -> usize,
    ) -> usize {
        let counts = self.counts.iter().enumerate();
        let others = counts.filter(|(other, _)| *other != usize::from(partition));
        max.saturating_sub(others.map(|(_, counts)| of(counts)).sum())
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        let due = self.due.iter().flatten().copied();
        due.chain(self.next).chain(self.listing).min()
    }
}

/// What the node knows of a connection, besides what the mirror has. It is dropped at the next beat once
/// there is nothing to know ([`ConnState::is_idle`]).
#[derive(Default)]
pub(super) struct ConnState {
    /// The connection waits for a name.
    pub waits: Option<PlanKey>,
    /// The store would refuse its messages until then, because it sends too often.
    pub limited_until: Mono,
    /// Its messages in one run, from the first that is under way until none is.
    pub begun: u64,
    pub answered: u64,
}

impl ConnState {
    pub fn is_idle(&self, now: Mono) -> bool {
        self.waits.is_none() && self.limited_until <= now && self.begun == self.answered
    }
}

/// A node's part in the cluster.
pub struct Cluster {
    pub(super) config: ChatConfig,
    pub(super) lease: Duration,
    pub(super) patience: Duration,
    pub(super) secret: Option<Vec<u8>>,
    pub(super) partitions: u16,
    pub(super) entropy: Box<dyn Entropy>,
    /// `None` until the store has been reached.
    pub(super) identity: Option<ClusterIdentity>,
    pub(super) uplink: Uplink<Token>,
    pub(super) problem: Option<StartProblem>,
    /// It has been logged, since the store was last reached, that a reply was not understood.
    pub(super) has_faulted: bool,
    pub(super) plans: Plans,
    pub(super) backlog: Backlog,
    pub(super) deferred: Deferred,
    /// When plans go on that wait for a time. Ordered sets have numbers as elsewhere in the crate: a
    /// kind of set of its own would take 5 KB of the program.
    pub(super) timers: BTreeSet<PlanTimer>,
    /// Those of [`Chat::mirrored_rooms`], which gives them in the same order for the same seed.
    pub(super) rooms: HashMap<RoomId, Mirrored>,
    /// Requests for what a room is like, which one call answers that has not left yet.
    pub(super) shown: HashMap<RoomId, PlanKey>,
    /// The sessions that have connections here.
    pub(super) sessions: HashMap<SessionHash, SessionId>,
    pub(super) conns: HashMap<ConnKey, ConnState>,
    /// By room and folded name: at most one for each connection on its way in.
    pub(super) seekers: HashMap<(RoomId, Box<str>), NameSeekers>,
    /// Bytes of the messages of connections that are under way, beside those of their calls.
    pub(super) post_bytes: usize,
    /// The people here whose names are wanted, and when it is asked whether they are still there. One
    /// time for each: a name is probed again only when its last probe is over.
    pub(super) probes: Vec<(Mono, RoomId, UserId)>,
    pub(super) listing: Listing,
    pub(super) beats: Beats,
    /// When the connection to the store was lost.
    pub(super) lost: Option<Mono>,
    /// The server is ending.
    pub(super) is_leaving: bool,
    /// The store knew nothing of this node when it was last reached.
    pub(super) is_fresh: bool,
    /// Calls of catching up without a reply.
    pub(super) catching_up: usize,
    /// What has still to be asked for before catching up is over.
    pub(super) to_catch_up: VecDeque<Missing>,
    /// Sessions whose connections have ended while the store was away ([`SessionHash::bits`]).
    pub(super) undeclared: BTreeSet<u128>,
    /// People here that the store has forgotten, and people that it has and that are not here.
    pub(super) returning: Once<(RoomId, UserId)>,
    pub(super) leaving: Once<(RoomId, UserId)>,
    pub(super) announcements: Vec<String>,
    /// What the store has sent and was not handled yet.
    pub(super) incoming: VecDeque<UplinkEvent<Token>>,
    pub(super) answers: Vec<NodeAnswer>,
}

impl Cluster {
    /// A node that has not reached the store yet.
    pub fn new(
        settings: ClusterSettings,
        uplink: UplinkConfig,
        library: Library,
        entropy: Box<dyn Entropy>,
    ) -> Cluster {
        let ClusterSettings { chat, lease, patience, secret } = settings;
        Cluster {
            config: chat,
            lease,
            patience,
            secret,
            partitions: uplink.partitions,
            entropy,
            identity: None,
            uplink: Uplink::new(uplink, library),
            problem: None,
            has_faulted: false,
            plans: Plans::default(),
            backlog: Backlog::default(),
            deferred: Deferred::default(),
            timers: BTreeSet::new(),
            rooms: HashMap::new(),
            shown: HashMap::new(),
            sessions: HashMap::new(),
            conns: HashMap::new(),
            seekers: HashMap::new(),
            post_bytes: 0,
            probes: Vec::new(),
            listing: Listing::default(),
            beats: Beats::default(),
            lost: None,
            is_leaving: false,
            is_fresh: false,
            catching_up: 0,
            to_catch_up: VecDeque::new(),
            undeclared: BTreeSet::new(),
            returning: Once::default(),
            leaving: Once::default(),
            announcements: Vec::new(),
            incoming: VecDeque::new(),
            answers: Vec::new(),
        }
    }

    /// Whether commands can be carried out now.
    pub fn is_available(&self) -> bool {
        self.identity.is_some() && self.uplink.is_up()
    }

    /// Why the server should end: the store was reached and cannot be used.
    pub fn problem(&self) -> Option<&StartProblem> {
        self.problem.as_ref()
    }

    /// What has become of requests and connections since the last call.
    pub fn take_answers(&mut self) -> Vec<NodeAnswer> {
        std::mem::take(&mut self.answers)
    }

    /// Bytes of heap held, approximately, without what the mirror holds.
    pub fn heap_bytes(&self) -> usize {
        let rooms: usize = size_of::<(RoomId, Mirrored)>() * self.rooms.capacity();
        let maps = self.shown.capacity() * size_of::<(RoomId, PlanKey)>()
            + self.sessions.capacity() * size_of::<(SessionHash, SessionId)>()
            + self.conns.capacity() * size_of::<(ConnKey, ConnState)>()
            + self.seekers.capacity() * SEEKERS_BYTES
            + self.undeclared.len() * size_of::<SessionHash>()
            + self.timers.len() * size_of::<PlanTimer>() * 2;
        let lists = self.probes.capacity() * size_of::<(Mono, RoomId, UserId)>()
            + self.returning.heap_bytes()
            + self.leaving.heap_bytes()
            + self.to_catch_up.capacity() * size_of::<Missing>();
        self.uplink.heap_bytes()
            + self.plans.heap_bytes()
            + self.backlog.heap_bytes()
            + self.deferred.heap_bytes()
            + self.listing.bytes
            + self.post_bytes
            + (rooms + maps + lists)
    }

    // ---- Calls

    pub(super) fn identity(&self) -> Result<&ClusterIdentity, Refusal> {
        self.identity.as_ref().ok_or_else(away)
    }

    pub(super) fn call(
        &mut self,
        now: Mono,
        partition: u16,
        function: Function,
        args: Args,
        token: Token,
    ) -> Result<(), Refusal> {
        let is_lasting = function.ends_something();
        let call = StoreCall { partition, function, args, is_lasting };
        let called = match function {
            // A health check does not wait for another connection.
            Function::Count => self.uplink.call_once(now, call, token),
            _ => self.uplink.call(now, call, token),
        };
        called.map_err(|_| away())
    }

    pub(super) fn call_session(
        &mut self,
        now: Mono,
        session: SessionHash,
        function: Function,
        args: Args,
        token: Token,
    ) -> Result<(), Refusal> {
        let partition = self.identity()?.partition_of_session(session);
        self.call(now, partition, function, args, token)
    }

    pub(super) fn call_room(
        &mut self,
        now: Mono,
        room: RoomId,
        function: Function,
        args: Args,
        token: Token,
    ) -> Result<(), Refusal> {
        let partition = self.identity()?.partition_of_room(room);
        self.call(now, partition, function, args, token)
    }

    /// The plan goes on at this time.
    pub(super) fn arm(&mut self, at: Mono, key: PlanKey) -> PlanTimer {
        let timer = u128::from(at.micros()) << 64 | key.index() as u128;
        self.timers.insert(timer);
        timer
    }
}
