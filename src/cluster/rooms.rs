//! The mirrored rooms.
//!
//! Owns which rooms the node mirrors, up to which message, and what waits for one. Must not know why a
//! room is wanted. The invariant: a mirrored room that is not being loaded has every message that the
//! store had when it sent its last reply. While it is being loaded, pushed messages are ignored,
//! because the store gives them with the history, too.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::args::Args;
use super::library::Function;
use super::plan::{Awaited, PlanKey};
use super::record;
use super::resp::Reply;
use super::state::{Cluster, Lent, Mirrored, RoomWaiter, Token};
use super::status::Status;
use crate::chat::{
    Appended, CloseReason, Message, MessagePlace, OwnedRoom, Refusal, RoomFacts, RoomId, UserId,
    UserName,
};
use crate::clock::Mono;
use crate::rate::Pace;

/// Messages in one part of a history, besides deleted ones: at most about two megabytes.
const PART_MESSAGES: u64 = 128;

/// Changes of a room that wait until its history is loaded. Of more, the last are told: each says all that
/// the room is like.
const CHANGES_MAX: usize = 64;

/// How long after its last use a room is mirrored that has no connections here.
const IDLE_ROOM_KEPT: Duration = Duration::from_secs(30);

/// How often a node asks for the listing of public rooms, which takes the store a millisecond.
const LISTING_PACE: Pace = Pace::new(4, Duration::from_secs(1), 5);

impl Cluster {
    /// The room is needed. Whether its mirror is complete; `None`: there is none.
    pub(super) fn use_room(&mut self, now: Mono, room: RoomId) -> Option<bool> {
        let mirrored = self.rooms.get_mut(&room)?;
        mirrored.used = now;
        Some(!mirrored.is_loading)
    }

    /// Whether the mirror of a room is complete, after the room has answered `look`. `None`: there is
    /// no mirror, and the reply has no snapshot.
    pub(super) fn is_mirrored(
        &mut self,
        lent: &mut Lent<'_>,
        room: RoomId,
        reply: &Reply,
    ) -> Option<bool> {
        if let Some(is_complete) = self.use_room(lent.now.mono, room) {
            return Some(is_complete);
        }
        let last = record::place(reply.bytes(2)).ok()?;
        self.adopt(lent, room, last, reply.items().get(3)?)
    }

    /// Begins to mirror a room. `last`: its last message. Returns whether the mirror is complete;
    /// `None`: there is no snapshot.
    pub(super) fn adopt(
        &mut self,
        lent: &mut Lent<'_>,
        room: RoomId,
        last: MessagePlace,
        snapshot: &Reply,
    ) -> Option<bool> {
        let facts = record::facts(room, snapshot.bytes(0)).ok()?;
        let people = record::people(snapshot.list(1)).filter_map(Result::ok);
        lent.chat.adopt(&facts, people);
        let is_complete = last == MessagePlace::default();
        let mirrored = Mirrored {
            newest: MessagePlace::default(),
            base: last,
            is_loading: !is_complete,
            waiting: Vec::new(),
            facts: VecDeque::new(),
            used: lent.now.mono,
        };
        self.rooms.insert(room, mirrored);
        if !is_complete {
            self.load_more(lent.now.mono, room);
        }
        Some(is_complete)
    }

    /// The plan goes on when the room is loaded.
    pub(super) fn await_room(&mut self, room: RoomId, key: PlanKey) {
        if let Some(mirrored) = self.rooms.get_mut(&room) {
            mirrored.waiting.push(RoomWaiter::Request(key));
        }
    }

    /// The connection is let in as soon as the room is loaded up to `last`. True: it is.
    pub(super) fn await_entry(&mut self, room: RoomId, key: PlanKey, last: MessagePlace) -> bool {
        let Some(mirrored) = self.rooms.get_mut(&room) else { return false };
        if !mirrored.is_loading || mirrored.newest >= last {
            return true;
        }
        mirrored.waiting.push(RoomWaiter::Entering(key, last));
        false
    }

    pub(super) fn load_more(&mut self, now: Mono, room: RoomId) {
        let Some(mirrored) = self.rooms.get(&room) else { return };
        let newest = mirrored.newest.to_string();
        let Ok(partition) = self.identity().map(|identity| identity.partition_of_room(room)) else {
            return;
        };
        let args = Args::new().room(room).text(newest).number(PART_MESSAGES);
        let token = Token::History(room);
        if self.call_catching_up(now, partition, Function::History, args, token).is_err() {
            self.deferred.rooms.insert(room);
        }
    }

    /// A part of a room's history.
    pub(super) fn on_history(&mut self, lent: &mut Lent<'_>, room: RoomId, reply: &Reply) {
        if Status::of(reply) != Status::Ok {
            return self.on_out_of_date(lent, room);
        }
        for message in record::messages(room, reply.list(1)).filter_map(Result::ok) {
            self.load_one(lent, &message);
        }
        match reply.bytes(2).is_empty() {
            true => self.on_loaded(lent, room),
            false => self.load_more(lent.now.mono, room),
        }
    }

    /// A message, in its order.
    pub(super) fn load_one(&mut self, lent: &mut Lent<'_>, message: &Message<'_>) {
        let (room, place) = (message.room_id, message.id.place());
        self.admit_waiting(lent, room);
        let (Some(mirrored), Some(key)) = (self.rooms.get_mut(&room), lent.chat.room(room)) else {
            return;
        };
        if place <= mirrored.newest {
            return;
        }
        let is_old = place <= mirrored.base;
        mirrored.newest = place;
        match is_old {
            true => lent.chat.load(key, message),
            false => lent.chat.apply(key, message, lent.sink),
        };
    }

    /// Lets in what waits for the parts that have been loaded, before the next message.
    fn admit_waiting(&mut self, lent: &mut Lent<'_>, room: RoomId) {
        let Some(mirrored) = self.rooms.get_mut(&room) else { return };
        let newest = mirrored.newest;
        let is_due =
            |one: &RoomWaiter| matches!(one, RoomWaiter::Entering(_, last) if *last <= newest);
        if !mirrored.waiting.iter().any(is_due) {
            return;
        }
        let (due, rest) = std::mem::take(&mut mirrored.waiting).into_iter().partition(is_due);
        mirrored.waiting = rest;
        self.go_on(lent, due);
    }

    /// The store has given all that it had.
    pub(super) fn on_loaded(&mut self, lent: &mut Lent<'_>, room: RoomId) {
        let Some(mirrored) = self.rooms.get_mut(&room) else { return };
        mirrored.is_loading = false;
        // With `--history 0` the last message is not there to be loaded.
        mirrored.newest = mirrored.newest.max(mirrored.base);
        let waiting = std::mem::take(&mut mirrored.waiting);
        let facts = std::mem::take(&mut mirrored.facts);
        self.go_on(lent, waiting);
        for (about, owner) in facts {
            self.on_changed_to(lent, &RoomFacts { room: about.info(), owner });
        }
    }

    fn go_on(&mut self, lent: &mut Lent<'_>, waiting: Vec<RoomWaiter>) {
        for one in waiting {
            self.advance(lent, one.key(), Awaited::Room);
        }
    }

    // ---- What is told of a room

    /// An event that a function has appended, at this place of a reply, if it has.
    pub(super) fn on_entry_at(
        &mut self,
        lent: &mut Lent<'_>,
        room: RoomId,
        reply: &Reply,
        place: usize,
    ) {
        if let Some(entry) = reply.items().get(place) {
            self.on_entry(lent, room, entry);
        }
    }

    /// An event that a function has appended.
    pub(super) fn on_entry(&mut self, lent: &mut Lent<'_>, room: RoomId, entry: &Reply) {
        if let Ok(appended) = record::entry(room, entry) {
            self.on_said(lent, appended);
        }
    }

    /// The next message of a room.
    pub(super) fn on_said(&mut self, lent: &mut Lent<'_>, appended: Appended<'_>) {
        let Appended { after, message } = appended;
        let (room, place) = (message.room_id, message.id.place());
        let (Some(mirrored), Some(key)) = (self.rooms.get_mut(&room), lent.chat.room(room)) else {
            return;
        };
        if mirrored.is_loading || place <= mirrored.newest {
            return;
        }
        if after != mirrored.newest && self.config.history_messages_max > 0 {
            self.beats.gaps += 1;
            return self.resync(lent.now.mono, room);
        }
        mirrored.newest = place;
        lent.chat.apply(key, &message, lent.sink);
    }

    /// A message of this node has been appended, and perhaps the departure of somebody before it.
    pub(super) fn on_own_message(
        &mut self,
        lent: &mut Lent<'_>,
        reply: &Reply,
        message: Message<'_>,
    ) {
        self.on_entry_at(lent, message.room_id, reply, 4);
        if let Ok(after) = record::place(reply.bytes(1)) {
            self.on_said(lent, Appended { after, message });
        }
    }

    /// What the room is like now; empty: as it was.
    pub(super) fn on_facts(&mut self, lent: &mut Lent<'_>, room: RoomId, text: &[u8]) {
        if let Ok(facts) = record::facts(room, text) {
            self.on_changed_to(lent, &facts);
        }
    }

    /// The room has changed, or its owner. What was said before that is told first.
    pub(super) fn on_changed_to(&mut self, lent: &mut Lent<'_>, facts: &RoomFacts<'_>) {
        let mirrored = self.rooms.get_mut(&facts.room.id);
        if let Some(mirrored) = mirrored.filter(|mirrored| mirrored.is_loading) {
            if mirrored.facts.len() == CHANGES_MAX {
                mirrored.facts.pop_front();
            }
            mirrored.facts.push_back((OwnedRoom::of(facts.room), facts.owner));
        } else if let Some(key) = lent.chat.room(facts.room.id) {
            lent.chat.change_mirrored(key, facts, lent.sink);
        }
    }

    /// What the room is like, after changes may have been missed.
    pub(super) fn refresh_facts(&mut self, lent: &mut Lent<'_>, room: RoomId, text: &[u8]) {
        // What was told meanwhile is older.
        if let Some(mirrored) = self.rooms.get_mut(&room) {
            mirrored.facts.clear();
        }
        if let (Some(key), Ok(facts)) = (lent.chat.room(room), record::facts(room, text)) {
            lent.chat.refresh_mirrored(key, &facts, lent.sink);
        }
    }

    /// A person types. Whether that was told.
    pub(super) fn on_typing(
        &mut self,
        lent: &mut Lent<'_>,
        room: RoomId,
        user_id: UserId,
        user: UserName<'_>,
        slack: Duration,
    ) -> bool {
        let key = lent.chat.room(room);
        key.is_some_and(|key| {
            let person = (user_id, user);
            lent.chat.typing_mirrored(lent.now, key, person, slack, lent.sink)
        })
    }

    /// Closes a person's connections in a room, and those that are entering.
    pub(super) fn close_person(
        &mut self,
        lent: &mut Lent<'_>,
        room: RoomId,
        user_id: UserId,
        reason: CloseReason,
    ) {
        if let Some(key) = lent.chat.room(room) {
            lent.chat.close_person(lent.now, key, user_id, reason, lent.sink);
        }
        self.close_entering(lent, &|entering| entering.is_of(room, user_id), reason);
    }

    /// The room has ended.
    pub(super) fn on_room_over(&mut self, lent: &mut Lent<'_>, room: RoomId, reason: CloseReason) {
        self.close_entering(lent, &|entering| entering.room == room, reason);
        let Some(mirrored) = self.rooms.remove(&room) else { return };
        if let Some(key) = lent.chat.room(room) {
            lent.chat.end_mirrored(lent.now, key, reason, lent.sink);
        }
        for one in mirrored.waiting {
            self.advance(lent, one.key(), Awaited::NoRoom(reason));
        }
    }

    // ---- After a gap, or after the store was away

    /// Asks for all that the mirror lacks.
    pub(super) fn resync(&mut self, now: Mono, room: RoomId) {
        let Some(mirrored) = self.rooms.get_mut(&room) else { return };
        mirrored.is_loading = true;
        let args = Args::new().room(room).text(mirrored.newest.to_string());
        if self.call_room(now, room, Function::Resync, args, Token::Resync(room)).is_err() {
            self.deferred.rooms.insert(room);
        }
    }

    pub(super) fn on_resynced(&mut self, lent: &mut Lent<'_>, room: RoomId, reply: &Reply) {
        match Status::of(reply) {
            Status::Ok => {
                for message in record::messages(room, reply.list(1)).filter_map(Result::ok) {
                    self.load_one(lent, &message);
                }
                match reply.bytes(2).is_empty() {
                    true => {
                        self.refresh_facts(lent, room, reply.bytes(3));
                        self.on_up_to_date(lent, room);
                    }
                    false => self.resync(lent.now.mono, room),
                }
            }
            Status::NoRoom => self.close_room(lent, room, CloseReason::RoomNotFound),
            _ => self.on_out_of_date(lent, room),
        }
    }

    /// The mirror has all that the store has.
    pub(super) fn on_up_to_date(&mut self, lent: &mut Lent<'_>, room: RoomId) {
        self.beats.resyncs += 1;
        self.on_loaded(lent, room);
    }

    /// The store has lost what these connections have seen, or has dropped what they lack.
    pub(super) fn on_out_of_date(&mut self, lent: &mut Lent<'_>, room: RoomId) {
        self.beats.resyncs_failed += 1;
        self.close_room(lent, room, CloseReason::Unavailable);
    }

    /// Stops to mirror the rooms without connections that have not been used for some time.
    pub(super) fn drop_idle_rooms(&mut self, lent: &mut Lent<'_>) {
        let now = lent.now.mono;
        let is_idle = |mirrored: &Mirrored| {
            mirrored.used.after(IDLE_ROOM_KEPT) <= now && mirrored.waiting.is_empty()
        };
        let idle = lent.chat.mirrored_rooms().filter(|(key, room)| {
            self.rooms.get(room).is_some_and(is_idle) && lent.chat.connection_count(*key) == 0
        });
        let idle: Vec<_> = idle.collect();
        for (key, room) in idle {
            let args = Args::new().room(room);
            if self.call_room(now, room, Function::Unwatch, args, Token::Nothing).is_err() {
                return; // Later, when the store is there.
            }
            self.rooms.remove(&room);
            lent.chat.drop_mirrored(lent.now, key, lent.sink);
        }
    }

    // ---- The listing of public rooms

    /// The plan goes on with a listing that was fetched after this call.
    pub(super) fn want_listing(&mut self, now: Mono, key: PlanKey) -> Result<(), Refusal> {
        self.identity()?;
        self.listing.next.push(key);
        self.fetch_listing(now);
        Ok(())
    }

    fn fetch_listing(&mut self, now: Mono) {
        let listing = &mut self.listing;
        if listing.left > 0 || !listing.waiting.is_empty() || listing.next.is_empty() {
            return;
        }
        if let Err(wait) = LISTING_PACE.take(&mut listing.meter, now) {
            return self.beats.list_at(now.after(wait));
        }
        let Some(identity) = &self.identity else { return };
        let partitions = identity.partitions();
        listing.waiting = std::mem::take(&mut listing.next);
        listing.parts.resize_with(partitions.into(), Default::default);
        for partition in 0..partitions {
            let (revision, _) = self.listing.parts[usize::from(partition)];
            let args = Args::new().number(revision);
            match self.call(now, partition, Function::Listing, args, Token::Listing(partition)) {
                Ok(()) => self.listing.left += 1,
                Err(_) => self.listing.has_failed = true,
            }
        }
        if self.listing.left == 0 {
            // No reply will end it.
            self.beats.list_at(now);
        }
    }

    pub(super) fn on_listing_due(&mut self, lent: &mut Lent<'_>) {
        if self.listing.left == 0 {
            self.end_listing(lent);
        }
        self.fetch_listing(lent.now.mono);
    }

    /// A partition's part of the listing; `None`: the call has failed.
    pub(super) fn on_listing(
        &mut self,
        lent: &mut Lent<'_>,
        partition: u16,
        reply: Option<&Reply>,
    ) {
        let listing = &mut self.listing;
        listing.left = listing.left.saturating_sub(1);
        let part = listing.parts.get_mut(usize::from(partition));
        if let (Some(part), Some(reply)) = (part, reply.filter(|one| Status::of(one) == Status::Ok))
        {
            let rooms = record::rooms(reply.list(2)).filter_map(Result::ok);
            let rooms = rooms.map(|facts| OwnedRoom::of(facts.room)).collect();
            *part = (reply.number(1), rooms);
            listing.is_changed = true;
        }
        listing.has_failed |= reply.is_none();
        if listing.left == 0 {
            self.end_listing(lent);
            self.fetch_listing(lent.now.mono);
        }
    }

    fn end_listing(&mut self, lent: &mut Lent<'_>) {
        let listing = &mut self.listing;
        if std::mem::take(&mut listing.is_changed) {
            let rooms: Vec<_> = listing.parts.iter().flat_map(|(_, rooms)| rooms).collect();
            // The newest first. The set sorts: a sort of its own would take 4 KB of the program.
            let mut newest = BTreeSet::new();
            newest.extend(rooms.iter().enumerate().map(|(place, room)| {
                u128::from(!room.info().created.micros()) << 64 | place as u128
            }));
            listing.bytes = rooms.iter().map(|one| size_of::<OwnedRoom>() + one.heap_bytes()).sum();
            listing.revision += 1;
            let newest = newest.iter().filter_map(|place| rooms.get(*place as u64 as usize));
            lent.chat.list_mirrored(listing.revision, newest.map(|room| room.info()));
        }
        let has_failed = std::mem::take(&mut listing.has_failed);
        for key in std::mem::take(&mut listing.waiting) {
            let arrival = if has_failed { Awaited::Time } else { Awaited::Room };
            self.advance(lent, key, arrival);
        }
    }
}
