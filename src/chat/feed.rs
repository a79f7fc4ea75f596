//! The delivering half of the domain: which connections receive a room's events, and its history.
//!
//! Owns the connections and the history of each room. Must not know the rules of the chat: the part
//! of a room that belongs to the deciding half (`posting`, `presence`, `membership`, `lifecycle`) is
//! the type parameter `R`, which this file cannot look into. The invariant: all connections of a
//! room receive the same messages in the same order, and the history has that order too.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::address::Address;
use super::catch_up::{CatchUp, Start};
use super::error::CloseReason;
use super::event::{Event, Message};
use super::heap::list_bytes;
use super::history::{Archive, History};
use super::id::{MessageId, RoomId};
use super::kept::MessageCopies;
use super::keys::{
    AttachmentKey, AttachmentTag, ConnKey, MemberKey, RoomKey, RoomTag, SessionKey, ShareKey,
};
use super::shares::Shares;
use super::sink::{LastPage, Sink};
use super::sort::sort_by_key;
use super::store::{Place, Store};
use crate::ledger::{Account, Ledger, Pressure, Tally};
use crate::slots::Slots;

/// [`Feeds::forget`] stops after it has looked at about this many messages: one or two milliseconds
/// of work.
const FORGOTTEN_MAX: usize = 8192;

/// The fewest messages that [`Feeds::forget`] drops between two checks of the ledger.
const FORGOTTEN_AT_ONCE: usize = 16;

/// The connections and histories of all rooms.
pub(super) struct Feeds<R> {
    rooms: Slots<Feed<R>, RoomTag>,
    /// Entries are removed only by [`Feeds::detach`].
    pub attachments: Slots<Attachment, AttachmentTag>,
    archive: Archive,
    history_messages_max: usize,
    /// What the feeds hold on the heap, without `R` and without the archive.
    heap_tally: Tally,
    /// The heap of the archive; it counts its blocks itself.
    archive_tally: Tally,
    /// [`Archive::extent`] when the tally was last set.
    counted_extent: (usize, [usize; 3]),
}

/// One room's connections and history.
pub(super) struct Feed<R> {
    room: R,
    /// In arbitrary order; each attachment stores its index.
    connections: SmallVec<[ConnKey; 2]>,
    /// Parallel to `connections`.
    attachments: SmallVec<[AttachmentKey; 2]>,
    history: History,
    /// The share in which the newest message counts.
    last_share: Option<ShareKey>,
    /// Bytes of heap last reported to the ledger.
    counted: usize,
}

/// A connection in a room, or waiting to be admitted.
pub(super) struct Attachment {
    pub conn: ConnKey,
    pub session: SessionKey,
    pub room: RoomKey,
    pub state: AttachmentState,
}

/// How a connection enters its room.
#[derive(Default)]
pub(super) struct Entrance {
    /// Where it will begin.
    pub start: Start,
    /// The address that it comes from; `None`: exempt.
    pub from: Option<Address>,
}

/// Whether a connection receives its room's events.
pub(super) enum AttachmentState {
    /// It receives none: it waits for a name, or is being admitted or refused.
    Waiting {
        /// The member that holds the name, and whose probe lists this connection; `None` while the
        /// connection is being admitted or refused.
        holder: Option<MemberKey>,
        /// `None`: the default.
        entrance: Option<Box<Entrance>>,
    },
    /// It receives them: it is in the room.
    Present {
        member: MemberKey,
        /// Its index in [`Feed::connections`].
        place: u32,
        /// `None` once the connection has caught up. The ledger does not count the box: it has
        /// about fifty bytes, and most connections have caught up after the first page.
        catch_up: Option<Box<CatchUp>>,
    },
}

// The table in `ledger` contains this size.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Attachment>() == 48);

impl<R> Feed<R> {
    fn heap_bytes(&self) -> usize {
        list_bytes(&self.connections) + list_bytes(&self.attachments) + self.history.heap_bytes()
    }

    /// Reports the heap to the ledger after a change.
    fn recount(&mut self, tally: &mut Tally) {
        let bytes = self.heap_bytes();
        tally.change(self.counted, bytes);
        self.counted = bytes;
    }
}

impl<R> Feeds<R> {
    pub fn new(history_messages_max: usize, ledger: &Ledger) -> Feeds<R> {
        Feeds {
            rooms: Slots::default(),
            attachments: Slots::default(),
            archive: Archive { store: Store::new(ledger), shares: Shares::default() },
            history_messages_max,
            heap_tally: ledger.tally(Account::Rooms),
            archive_tally: ledger.tally(Account::Histories),
            counted_extent: Default::default(),
        }
    }

    /// Adds a room without connections or history.
    pub fn insert_room(&mut self, room: R) -> RoomKey {
        self.rooms.insert(Feed {
            room,
            connections: SmallVec::new(),
            attachments: SmallVec::new(),
            history: History::default(),
            last_share: None,
            counted: 0,
        })
    }

    /// Removes a room that has no connections and no history.
    pub fn remove_room(&mut self, key: RoomKey) -> Option<R> {
        let feed = self.rooms.remove(key)?;
        debug_assert!(feed.connections.is_empty() && feed.history.is_empty());
        self.heap_tally.change(feed.counted, 0);
        Some(feed.room)
    }

    /// Drops the history of a room that has ended.
    pub fn clear_history(&mut self, key: RoomKey) {
        let Some(feed) = self.rooms.get_mut(key) else { return };
        feed.history.clear(&mut self.archive);
        feed.recount(&mut self.heap_tally);
        self.recount_archive();
    }

    pub fn room(&self, key: RoomKey) -> Option<&R> {
        self.rooms.get(key).map(|feed| &feed.room)
    }

    pub fn room_mut(&mut self, key: RoomKey) -> Option<&mut R> {
        self.rooms.get_mut(key).map(|feed| &mut feed.room)
    }

    pub fn rooms(&self) -> impl Iterator<Item = (RoomKey, &R)> {
        self.rooms.iter().map(|(key, feed)| (key, &feed.room))
    }

    /// The room in a slot.
    pub fn key_at(&self, index: usize) -> Option<RoomKey> {
        self.rooms.key_at(index)
    }

    /// All rooms have lower indices.
    pub fn end(&self) -> usize {
        self.rooms.end()
    }

    /// How many messages of a room are kept, and the bytes that they and the room's connections take.
    pub fn usage(&self, room: RoomKey) -> (usize, usize) {
        self.rooms.get(room).map_or((0, 0), |feed| {
            let history = &feed.history;
            (history.len(), history.queue().block_bytes() + feed.heap_bytes())
        })
    }

    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    pub fn history(&self, room: RoomKey) -> Option<&History> {
        self.rooms.get(room).map(|feed| &feed.history)
    }

    /// The connections that receive the room's events.
    pub fn recipients(&self, room: RoomKey) -> &[ConnKey] {
        self.rooms.get(room).map_or(&[], |feed| &feed.connections)
    }

    /// Lists a connection in its room. From now on it receives the room's events.
    pub fn place(&mut self, key: AttachmentKey, member: MemberKey, sink: &mut dyn Sink) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let Some(feed) = self.rooms.get_mut(attachment.room) else { return };
        let place = feed.connections.len() as u32;
        attachment.state = AttachmentState::Present { member, place, catch_up: None };
        feed.connections.push(attachment.conn);
        feed.attachments.push(key);
        sink.skip(attachment.room, attachment.conn); // Earlier events are not for it.
        feed.recount(&mut self.heap_tally);
    }

    /// Removes a connection. It receives no further events.
    pub fn detach(&mut self, key: AttachmentKey) -> Option<Attachment> {
        let attachment = self.attachments.remove(key)?;
        if let AttachmentState::Present { place, .. } = attachment.state {
            self.displace(attachment.room, place);
        }
        Some(attachment)
    }

    fn displace(&mut self, room: RoomKey, place: u32) {
        let Some(feed) = self.rooms.get_mut(room) else { return };
        feed.connections.swap_remove(place as usize);
        feed.attachments.swap_remove(place as usize);
        let moved = feed.attachments.get(place as usize).copied();
        if feed.connections.is_empty() {
            (feed.connections, feed.attachments) = (SmallVec::new(), SmallVec::new());
        }
        feed.recount(&mut self.heap_tally);
        let moved = moved.and_then(|moved| self.attachments.get_mut(moved));
        if let Some(AttachmentState::Present { place: moved, .. }) = moved.map(|one| &mut one.state)
        {
            *moved = place;
        }
    }

    /// Publishes a message and keeps it in the history, where it counts for the address `from`.
    /// `share`: the result of the sender's last call for this room. `None` if the room does not
    /// exist.
    pub fn deliver(
        &mut self,
        room: RoomKey,
        message: &Message<'_>,
        share: Option<ShareKey>,
        from: Option<Address>,
        sink: &mut dyn Sink,
    ) -> Option<ShareKey> {
        let recipients = self.rooms.get(room)?.connections.len();
        let published = sink.publish(room, &Event::Message(*message), recipients);
        let share = self.keep(room, message, published.event_bytes, share, from);
        if published.is_batch_full {
            self.seal(room, sink);
        }
        share
    }

    /// Overwrites the text of a chat message in the history. See [`History::delete_text`].
    pub fn delete_text(&mut self, room: RoomKey, place: Place, event_bytes: usize) {
        if let Some(feed) = self.rooms.get_mut(room) {
            feed.history.delete_text(&mut self.archive.store, place, event_bytes);
        }
    }

    /// Publishes an event that is not kept in the history.
    pub fn deliver_unkept(&self, room: RoomKey, event: &Event<'_>, sink: &mut dyn Sink) {
        if sink.publish(room, event, self.recipients(room).len()).is_batch_full {
            self.seal(room, sink);
        }
    }

    /// Appends a message to the history. It must be newer than all messages there. `event_bytes`: the
    /// length of the encoded event.
    pub fn keep(
        &mut self,
        room: RoomKey,
        message: &Message<'_>,
        event_bytes: usize,
        share: Option<ShareKey>,
        from: Option<Address>,
    ) -> Option<ShareKey> {
        let feed = self.rooms.get_mut(room)?;
        let Some(others_max) = self.history_messages_max.checked_sub(1) else {
            feed.history.skip(message.id);
            return None;
        };
        let before = feed.history.extent();
        // First, because it can end the share in which the message would count.
        feed.history.truncate(&mut self.archive, others_max);
        let shares = &mut self.archive.shares;
        // All exempt peers, and all sessions of one address that talk to each other, have one share.
        let share = share.or_else(|| shares.find(feed.last_share?, room, from));
        let share = shares.open(share, room, from, message.id.order());
        feed.last_share = Some(share);
        feed.history.push(&mut self.archive, room, share, message, event_bytes);
        if feed.history.extent() != before {
            feed.recount(&mut self.heap_tally);
        }
        if self.archive.extent() != self.counted_extent {
            self.recount_archive();
        }
        Some(share)
    }

    /// A message of a room that is being restored is left out.
    pub fn skip(&mut self, room: RoomKey, id: MessageId) {
        if let Some(feed) = self.rooms.get_mut(room) {
            feed.history.skip(id);
        }
    }

    /// The oldest message of a room.
    pub fn first_message(&self, room: RoomKey) -> Option<Place> {
        self.rooms.get(room)?.history.after(&self.archive.store, None)
    }

    /// Drops the oldest message of a room.
    pub fn drop_first_message(&mut self, room: RoomKey) {
        let Some(feed) = self.rooms.get_mut(room) else { return };
        feed.history.drop_oldest(&mut self.archive);
        feed.recount(&mut self.heap_tally);
        self.recount_archive();
    }

    /// Sets [`History::dropped`] in a room that is being restored.
    pub fn restore_dropped(&mut self, room: RoomKey, id: MessageId) {
        if let Some(feed) = self.rooms.get_mut(room) {
            feed.history.restore_dropped(id);
        }
    }

    /// Ends the room's batch, if one is open, and queues it for the room's connections. The event
    /// loop decides when, unless the batch is full or the room ends.
    pub fn seal(&self, room: RoomKey, sink: &mut dyn Sink) {
        if let Some(feed) = self.rooms.get(room) {
            sink.seal(room, &feed.connections);
        }
    }

    /// Sets the position at which a connection that has just been placed begins to receive.
    pub fn begin_catch_up(&mut self, key: AttachmentKey, start: Start, sink: &mut dyn Sink) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let Some(feed) = self.rooms.get(attachment.room) else { return };
        let AttachmentState::Present { catch_up, .. } = &mut attachment.state else { return };
        if let Some(begun) = CatchUp::begin(start, &feed.history, &self.archive.store) {
            *catch_up = Some(Box::new(begun));
            sink.begin_catch_up(attachment.conn);
        }
    }

    /// Sends the next page or frames to a connection that is catching up. `room`: its id, and its
    /// [`changes`](super::state::Room::changes). Returns true if the connection has caught up and the
    /// room has changed since the last page. On an error the caller must close the connection for that
    /// reason.
    pub fn catch_up<'a>(
        &'a mut self,
        key: AttachmentKey,
        room: (RoomId, u16),
        last: impl Fn(&'a R, bool) -> LastPage<'a>,
        sink: &mut dyn Sink,
    ) -> Result<bool, CloseReason> {
        let Some(attachment) = self.attachments.get_mut(key) else { return Ok(false) };
        let AttachmentState::Present { catch_up, .. } = &mut attachment.state else {
            return Ok(false);
        };
        let Some(feed) = self.rooms.get(attachment.room) else { return Ok(false) };
        let Some(progress) = catch_up else { return Ok(false) };
        if progress.is_cut_off(&feed.history) {
            return Err(CloseReason::TooSlow);
        }
        let conn = attachment.conn;
        let last = |complete| last(&feed.room, complete);
        if !progress.send_next(conn, room, &last, &feed.history, &self.archive.store, sink) {
            return Ok(false);
        }
        let has_missed_change = progress.changes != room.1;
        *catch_up = None;
        sink.skip(attachment.room, conn); // Or what was sent now would come again.
        sink.end_catch_up(conn);
        Ok(has_missed_change)
    }

    /// [`Feeds::repeat_message`], for a message of the history.
    pub fn repeat(&self, key: AttachmentKey, room_id: RoomId, place: Place, sink: &mut dyn Sink) {
        let Some(attachment) = self.attachments.get(key) else { return };
        let Some(feed) = self.rooms.get(attachment.room) else { return };
        let mut copy = MessageCopies::of(room_id);
        feed.history.copy(&self.archive.store, place, &mut copy);
        copy.iter().for_each(|message| self.repeat_message(key, &message, sink));
    }

    /// Sends a message of its room to one connection again. Does nothing if the connection is catching
    /// up and has not received the message yet.
    pub fn repeat_message(&self, key: AttachmentKey, message: &Message<'_>, sink: &mut dyn Sink) {
        let Some(attachment) = self.attachments.get(key) else { return };
        if attachment.catch_up().is_some_and(|progress| progress.is_due(message.id)) {
            return;
        }
        sink.advance(attachment.room, attachment.conn);
        sink.push(attachment.conn, &Event::Message(*message));
    }

    /// If memory is short, drops messages of the address that holds the most: the oldest ones in its
    /// room with the longest silence. Returns how many.
    pub fn forget(&mut self, ledger: &Ledger) -> usize {
        let (mut forgotten, mut looked_at) = (0, 0);
        while looked_at < FORGOTTEN_MAX && ledger.is_at(Pressure::Histories) {
            let rooms = &self.rooms;
            let newest = |room| rooms.get(room).and_then(|feed| feed.history.newest());
            let newest = |room| newest(room).map_or(0, MessageId::order);
            let Some((share, room, kept)) = self.archive.shares.next_victim(newest) else { break };
            let Some(feed) = self.rooms.get_mut(room) else { break };
            let count = FORGOTTEN_AT_ONCE.max(kept / 4);
            let dropped = feed.history.drop_some(&mut self.archive, room, share, count);
            feed.recount(&mut self.heap_tally);
            forgotten += dropped.0;
            looked_at += dropped.1;
        }
        self.recount_archive();
        forgotten
    }

    fn recount_archive(&mut self) {
        let archive = &self.archive;
        self.counted_extent = archive.extent();
        self.archive_tally.set(archive.store.heap_bytes() + archive.shares.heap_bytes());
    }

    /// Moves some of the archive's blocks together, if many are unused.
    pub fn compact(&mut self) {
        let rooms = &mut self.rooms;
        self.archive.store.compact(|owner, moved| {
            let room = rooms.key_at(owner as usize).and_then(|key| rooms.get_mut(key));
            let feed = room.expect("a room removes its records before it ends");
            feed.history.queue_mut().on_moved(moved);
        });
        self.recount_archive();
    }

    /// Whether [`Feeds::compact`] has work.
    pub fn is_sparse(&self) -> bool {
        self.archive.store.is_sparse()
    }

    /// The rooms with a history, the one that has been silent longest first.
    pub fn rooms_with_history(&self) -> Vec<RoomKey> {
        let rooms = self.rooms.iter().filter(|(_, feed)| !feed.history.is_empty());
        let mut rooms: Vec<_> = rooms.map(|(key, _)| key).collect();
        sort_by_key(&mut rooms, |key| self.history(key).and_then(History::newest));
        rooms
    }

    /// The memory of all histories.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// See `Record::Chat`.
    pub fn history_bytes(&self) -> [u64; 3] {
        let lists = self.rooms.iter().map(|(_, feed)| feed.history.heap_bytes()).sum::<usize>();
        let took = self.archive.store.bytes() + lists;
        [self.archive.shares.bytes(), took, self.archive_tally.bytes()].map(|bytes| bytes as u64)
    }

    /// Bytes of the collections themselves, without the heap that their entries hold.
    pub fn slots_bytes(&self) -> usize {
        self.rooms.bytes() + self.attachments.bytes()
    }

    /// Panics if the feeds contradict themselves or the ledger.
    pub fn check(&self) {
        let (mut heap, mut placed) = (0, 0);
        let mut sums: HashMap<u32, (u32, usize)> = HashMap::new();
        let mut add = |share, bytes| {
            // Only debug builds compare the sums.
            if cfg!(debug_assertions) {
                let (records, sum) = sums.entry(share).or_default();
                (*records, *sum) = (*records + 1, *sum + bytes);
            }
        };
        for (key, feed) in self.rooms.iter() {
            agree!(feed.connections.len(), feed.attachments.len());
            for (place, listed) in feed.attachments.iter().enumerate() {
                let attachment = self.attachments.get(*listed).expect("a listed attachment exists");
                agree!((attachment.room, attachment.conn), (key, feed.connections[place]));
                holds!(matches!(
                    attachment.state,
                    AttachmentState::Present { place: own, .. } if own as usize == place
                ));
                if let Some(progress) = attachment.catch_up() {
                    progress.check(&feed.history);
                }
            }
            placed += feed.attachments.len();
            holds!(feed.history.len() <= self.history_messages_max);
            feed.history.check(&self.archive, &mut add);
            agree!(feed.counted, feed.heap_bytes());
            heap += feed.counted;
        }
        let present = self.attachments.iter();
        let present =
            present.filter(|(_, one)| matches!(one.state, AttachmentState::Present { .. }));
        agree!(placed, present.count(), "every present connection is listed in its room");
        if !cfg!(debug_assertions) {
            return; // The rest would make the release binary 2 % larger.
        }
        self.archive.shares.check(&sums);
        let queues = self.rooms.iter();
        let queues = queues.map(|(key, feed)| (key.index() as u32, feed.history.queue()));
        self.archive.store.check(queues);
        let heap_bytes = self.archive.store.heap_bytes() + self.archive.shares.heap_bytes();
        agree!(self.archive_tally.bytes(), heap_bytes);
        agree!(heap, self.heap_tally.bytes(), "the ledger counts every feed's heap");
    }
}

impl Attachment {
    /// The member, if the connection is present.
    pub fn member(&self) -> Option<MemberKey> {
        match self.state {
            AttachmentState::Present { member, .. } => Some(member),
            AttachmentState::Waiting { .. } => None,
        }
    }

    fn catch_up(&self) -> Option<&CatchUp> {
        match &self.state {
            AttachmentState::Present { catch_up, .. } => catch_up.as_deref(),
            AttachmentState::Waiting { .. } => None,
        }
    }
}
