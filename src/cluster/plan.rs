//! What waits for something of the store.
//!
//! Owns the kinds of plans, and what each of them keeps from step to step. Must not know what a step
//! does. The invariant: a plan waits for exactly one thing, a reply, a room or a time, and ends with
//! at most one answer to each connection.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::identity::ClusterIdentity;
use super::record::SessionHash;
use super::resp::Reply;
use crate::chat::{
    Address, AttachmentKey, CloseReason, ConnKey, MessageCopies, MessageId, Name, OwnedRoom,
    RoomChanges, RoomId, RoomOptions, SessionCommand, SessionId, Start, UserId,
};
use crate::clock::Mono;
use crate::ledger::allocation;
use crate::slots::{Key, Slots};

/// The kind of the plans' keys.
pub(super) enum PlanTag {}

pub(super) type PlanKey = Key<PlanTag>;

/// When a plan goes on that waits for a time, and below that the index of its key, by which
/// [`Plans::of_timer`] finds it: a plan that ends has no timer.
pub(super) type PlanTimer = u128;

/// All plans, and the heap that they hold.
#[derive(Default)]
pub(super) struct Plans {
    /// `None`: the plan takes a step.
    slots: Slots<Option<Box<Plan>>, PlanTag>,
    bytes: usize,
}

impl Plans {
    /// A place for a plan that is about to begin.
    pub fn reserve(&mut self) -> PlanKey {
        self.slots.insert(None)
    }

    /// The plan waits. False: it has no place.
    pub fn put(&mut self, key: PlanKey, plan: Box<Plan>) -> bool {
        let Some(place) = self.slots.get_mut(key) else { return false };
        self.bytes += plan.heap_bytes();
        *place = Some(plan);
        true
    }

    /// Takes a plan out, for a step.
    pub fn take(&mut self, key: PlanKey) -> Option<Box<Plan>> {
        let plan = self.slots.get_mut(key)?.take()?;
        self.bytes -= plan.heap_bytes();
        Some(plan)
    }

    /// Ends a plan.
    pub fn remove(&mut self, key: PlanKey) -> Option<Box<Plan>> {
        let plan = self.take(key);
        self.slots.remove(key);
        plan
    }

    /// A plan that takes no step.
    pub fn get(&self, key: PlanKey) -> Option<&Plan> {
        self.slots.get(key)?.as_deref()
    }

    /// The plan of a timer, and its time.
    pub fn of_timer(&self, timer: PlanTimer) -> (Mono, Option<PlanKey>) {
        (Mono::from_micros((timer >> 64) as u64), self.slots.key_at(timer as u64 as usize))
    }

    /// Whether the plan has not ended.
    pub fn contains(&self, key: PlanKey) -> bool {
        self.slots.get(key).is_some()
    }

    /// The plans of the connections on their way into a room for which this holds.
    pub fn entering(&self, is_meant: &dyn Fn(&Entering) -> bool) -> Vec<PlanKey> {
        let meant = self.iter().filter(|(_, plan)| match plan {
            Plan::Entering(entering) => is_meant(entering),
            _ => false,
        });
        meant.map(|(key, _)| key).collect()
    }

    /// The plans that take no step.
    pub fn iter(&self) -> impl Iterator<Item = (PlanKey, &Plan)> {
        self.slots.iter().filter_map(|(key, plan)| Some((key, plan.as_deref()?)))
    }

    pub fn heap_bytes(&self) -> usize {
        self.slots.bytes() + self.bytes
    }
}

/// A sequence of calls.
pub(super) enum Plan {
    /// A request's command.
    Request(RequestPlan),
    /// A connection's way into a room.
    Entering(Entering),
    /// The same for a room that cannot exist: only the session is asked.
    Nowhere(ConnKey),
    /// The end of a session.
    Ending(SessionEnding),
    /// A person here that the store has forgotten.
    Returning(Returning),
}

/// What a plan waits for has come.
pub(super) enum Awaited<'a> {
    Reply(&'a Reply),
    /// The room is mirrored and complete.
    Room,
    /// The message that was posted, found in the history.
    Posted(MessageCopies),
    /// The room has ended, or cannot be mirrored.
    NoRoom(CloseReason),
    /// The time has come, or what was waited for until then.
    Time,
}

/// A person with connections here, on the way back into a room.
pub(super) struct Returning {
    pub room: RoomId,
    pub user_id: UserId,
    /// It is known whether the person is a member, and the room has been asked.
    pub has_asked: bool,
}

impl Plan {
    /// Bytes of heap held, with the plan itself, approximately: without names and titles.
    fn heap_bytes(&self) -> usize {
        allocation(size_of::<Plan>())
            + match self {
                Plan::Request(request) => {
                    allocation(request.to.capacity() * size_of::<ConnKey>())
                        + allocation(size_of::<KnownSession>())
                        + request.step.heap_bytes()
                }
                Plan::Entering(Entering { step: EntryStep::Loading { events, .. }, .. }) => {
                    events.iter().map(Reply::heap_bytes).sum()
                }
                _ => 0,
            }
    }

    /// The room and the body of a message that a request has posted.
    pub fn posted(&self) -> Option<(RoomId, &[u8])> {
        let Plan::Request(request) = self else { return None };
        match &request.step {
            RequestStep::Acting { room, act: RoomAct::Post { body } } => Some((*room, body)),
            _ => None,
        }
    }
}

/// How a step ends.
pub(super) enum Progress {
    /// The plan waits for the next thing.
    Waits(Box<Plan>),
    Done,
}

impl Progress {
    pub fn waits(plan: Plan) -> Progress {
        Progress::Waits(Box::new(plan))
    }
}

// ---- Requests

/// A request's command that is under way.
pub(super) struct RequestPlan {
    /// The connections that asked. There may be several only for requests for what a room is like.
    pub to: Vec<ConnKey>,
    pub step: RequestStep,
    pub attempts: u8,
}

/// A session whose end is under way.
pub(super) struct SessionEnding {
    pub to: Option<ConnKey>,
    pub session: SessionHash,
    /// Rooms that it has still to leave; `None`: not known yet.
    pub left: Option<usize>,
}

/// A session that exists. It is passed from step to step in a box, because a copy of the name and the
/// digest at each of them would take more of the program than the rest of the step.
pub(super) struct KnownSession {
    pub id: SessionId,
    pub hash: SessionHash,
    pub name: Name,
}

/// What is waited for: named after the function whose reply it is, where it is one.
pub(super) enum RequestStep {
    /// `count`, of so many partitions still.
    Counting { left: u16, sessions: usize, rooms: usize },
    /// The listing of public rooms.
    Listing,
    /// `look`, which shows a room to anybody.
    Showing { room: RoomId },
    /// `usage`: the rooms of this partition, after those that are known.
    ListingAll { partition: u16, rooms: Vec<(OwnedRoom, usize, usize)> },
    /// `open_session`.
    OpeningSession { id: SessionId, name: Name, from: Option<Address> },
    /// `touch`.
    Touching { id: SessionId, command: SessionCommand<'static> },
    /// `reserve`.
    Reserving { id: SessionId, reservation: Reservation },
    /// `members`: which rooms of the session still have it as a member.
    Filtering { person: Box<KnownSession>, purpose: FilterPurpose, filter: Filter },
    /// `look`, then the room itself.
    Reaching { person: Box<KnownSession>, room: RoomId, purpose: ReachPurpose },
    /// The function that carries out a command.
    Acting { room: RoomId, act: RoomAct },
    /// `guess`: whether a password may be tried.
    Guessing(Joining),
    /// `join`.
    Joining(Joining),
    /// `open_room`.
    Opening {
        person: Box<KnownSession>,
        room: RoomId,
        options: RoomOptions<'static>,
        from: Option<Address>,
    },
    /// `change`.
    Changing { person: Box<KnownSession>, room: RoomId, changes: RoomChanges<'static> },
}

/// A place among the rooms of a session.
pub(super) struct Reservation {
    pub room: RoomId,
    pub purpose: ReservedFor,
}

pub(super) enum ReservedFor {
    Join { password: Option<Cow<'static, str>>, from: Option<Address> },
    Open { options: RoomOptions<'static>, from: Option<Address> },
}

/// A command that one function of the room carries out, with what its outcome needs.
pub(super) enum RoomAct {
    Leave {
        person: Box<KnownSession>,
        /// Of the entry in the session's index that is then to be forgotten.
        version: u64,
    },
    Delete,
    DeleteMessage,
    Type {
        person: Box<KnownSession>,
    },
    /// The owner or the operator removes a person.
    Remove {
        target: Option<UserId>,
        bans_address: bool,
    },
    ListBans,
    LiftBan,
    Watch {
        session: SessionId,
    },
    Post {
        body: Vec<u8>,
    },
}

/// What a mirror of the room is wanted for.
pub(super) enum ReachPurpose {
    ReadMessages { after: Option<Option<MessageId>>, limit: usize, from: Option<Address> },
    ListPeople { from: Option<Address> },
    Post { text: Cow<'static, str>, nonce: Option<Cow<'static, str>> },
}

impl RequestStep {
    /// Whether the call is one that anybody may cause (see `backlog`).
    pub fn is_first(&self) -> bool {
        matches!(
            self,
            RequestStep::Showing { .. }
                | RequestStep::OpeningSession { .. }
                | RequestStep::Touching { .. }
                | RequestStep::Reserving { .. }
        )
    }

    fn heap_bytes(&self) -> usize {
        let text = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
        match self {
            RequestStep::ListingAll { rooms, .. } => {
                rooms.capacity() * size_of::<(OwnedRoom, usize, usize)>()
            }
            RequestStep::Touching { command, .. } => command.text_bytes(),
            RequestStep::Reaching { purpose: ReachPurpose::Post { text, .. }, .. } => text.len(),
            RequestStep::Acting { act: RoomAct::Post { body }, .. } => body.capacity(),
            RequestStep::Filtering { filter, .. } => {
                filter.rooms.capacity() * size_of::<(RoomId, u64)>()
                    + filter.alive.capacity() * size_of::<RoomId>()
            }
            RequestStep::Guessing(joining) | RequestStep::Joining(joining) => {
                text(&joining.password)
            }
            RequestStep::Opening { options, .. } => text(&options.password),
            _ => 0,
        }
    }

    /// Whether it is that of a health check.
    pub fn is_counting(&self) -> bool {
        matches!(self, RequestStep::Counting { .. })
    }

    /// Whether its reply is one of several, so that it is no new attempt.
    pub fn is_part(&self) -> bool {
        matches!(
            self,
            RequestStep::Counting { .. }
                | RequestStep::Filtering { .. }
                | RequestStep::ListingAll { .. }
        )
    }
}

/// What the rooms of a session are wanted for.
pub(super) enum FilterPurpose {
    Show,
    List,
    /// A place for one more.
    MakePlace(Reservation),
}

/// The rooms of a session, and those that the partitions have confirmed so far.
pub(super) struct Filter {
    /// In the order of joining, with the version of each entry of the index.
    pub rooms: Vec<(RoomId, u64)>,
    pub alive: Vec<RoomId>,
    /// The partitions that have been asked, in the order of their answers.
    pub asked: VecDeque<u16>,
}

/// A session that wants to be a member of a room.
pub(super) struct Joining {
    pub person: Box<KnownSession>,
    pub room: RoomId,
    pub password: Option<Cow<'static, str>>,
    pub from: Option<Address>,
    /// The session has no place for another room.
    pub is_over: bool,
}

impl Filter {
    pub fn rooms_in(
        &self,
        identity: &ClusterIdentity,
        partition: u16,
    ) -> impl Iterator<Item = RoomId> {
        let is_there = move |room: &RoomId| identity.partition_of_room(*room) == partition;
        self.rooms.iter().map(|(room, _)| *room).filter(is_there)
    }

    /// The next partition has answered.
    pub fn on_answer(&mut self, identity: &ClusterIdentity, answers: &[Reply]) {
        let Some(partition) = self.asked.pop_front() else { return };
        let rooms = self.rooms_in(identity, partition).zip(answers);
        let alive = rooms.filter(|(_, answer)| !answer.as_str().is_empty());
        let alive: Vec<_> = alive.map(|(room, _)| room).collect();
        self.alive.extend(alive);
    }
}

// ---- Connections

/// A connection on its way into a room.
pub(super) struct Entering {
    pub conn: ConnKey,
    pub session: SessionId,
    pub hash: SessionHash,
    pub room: RoomId,
    pub user_id: UserId,
    pub from: Option<Address>,
    pub start: Start,
    /// The limit that the connection is over.
    pub over: Option<CloseReason>,
    /// Why the connection is to be closed as soon as it is known whether it was let in: its session has
    /// ended meanwhile, or the person was removed.
    pub ends: Option<CloseReason>,
    /// The session counts the connection.
    pub is_attached: bool,
    /// The room counts the person, because of this connection or another one here.
    pub is_inside: bool,
    /// `None`: not known yet. From then on the plan is one of the [`NameSeekers`].
    pub name: Option<Name>,
    /// The person that has the name, while it is being probed.
    pub holder: Option<UserId>,
    /// How long the session's announced joins are over their rate, in microseconds.
    pub join_wait: u64,
    pub step: EntryStep,
}

/// What is waited for.
pub(super) enum EntryStep {
    /// The session's answer.
    Attaching,
    /// The room's answer.
    Asking,
    /// The end of a probe: the name is wanted, and its holder may not be there any more.
    Probing { timer: PlanTimer },
    /// The mirror of the room, up to the event before the person's arrival.
    Loading { events: Vec<Reply>, inherits: bool },
}

/// The connections here that want one name in one room, until they are let in or turned away.
#[derive(Default)]
pub(super) struct NameSeekers {
    pub count: usize,
    /// The store has this node among those that wait for the end of a probe of the name.
    pub are_probing: bool,
}

impl Posting {
    /// Bytes of heap held, with the value itself.
    pub fn heap_bytes(&self) -> usize {
        let nonce = self.nonce.as_ref().map_or(0, |nonce| nonce.len());
        allocation(size_of::<Posting>()) + allocation(self.body.capacity()) + allocation(nonce)
    }
}

impl Entering {
    pub fn is_of(&self, room: RoomId, user_id: UserId) -> bool {
        (self.room, self.user_id) == (room, user_id)
    }
}

/// A message of a connection that is under way.
pub(super) struct Posting {
    pub conn: ConnKey,
    pub attachment: AttachmentKey,
    pub room: RoomId,
    pub body: Vec<u8>,
    pub nonce: Option<Box<str>>,
}
