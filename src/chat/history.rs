//! A room's history.
//!
//! Owns the queue of messages, its bound, and the nonces of the messages in it. Must not know the
//! form in which clients receive a message. The invariant: ids increase from front to back, so that
//! a message is found by halving; and each message in the queue counts in one share.

use std::collections::HashMap;

use super::address::Address;
use super::event::Message;
use super::heap::{map_bytes, shrink};
use super::id::{MessageId, UserId};
use super::kept::{
    HEADER_BYTES, Header, MessageCopies, deleted_part, head, nonce_hash, parts, record_nonce,
    record_nonce_hash,
};
use super::keys::{RoomKey, ShareKey};
use super::shares::Shares;
use super::store::{KEY_BYTES, Place, RecordQueue, Store};
use crate::ledger::allocation;

/// The kept messages of one room.
#[derive(Default)]
pub(super) struct History {
    queue: RecordQueue,
    /// Where the messages with a nonce are, by [`nonce_hash`]. `None`: no message has one.
    #[allow(
        clippy::box_collection,
        reason = "`None` takes one word, and most rooms have no nonce"
    )]
    nonces: Option<Box<HashMap<u64, Place>>>,
    /// The newest message that was added.
    newest: Option<MessageId>,
    /// The newest message that was dropped as the oldest one. All kept messages are newer.
    floor: Option<MessageId>,
    /// The newest message that was dropped at all.
    dropped: Option<MessageId>,
    /// How often messages were dropped although older ones were kept.
    gaps: u32,
}

/// The memory that all histories share.
pub(super) struct Archive {
    pub store: Store,
    pub shares: Shares,
}

impl Archive {
    /// Changes whenever the archive's heap may have changed, without its blocks.
    pub fn extent(&self) -> (usize, [usize; 3]) {
        (self.store.segment_count(), self.shares.extent())
    }
}

impl History {
    /// Drops the oldest messages until there are at most `count`.
    pub fn truncate(&mut self, archive: &mut Archive, count: usize) {
        while self.queue.len() > count {
            self.drop_oldest(archive);
        }
    }

    /// Appends a message, which is newer than all others. `event_bytes`: the length of the encoded
    /// event.
    pub fn push(
        &mut self,
        archive: &mut Archive,
        room: RoomKey,
        share: ShareKey,
        message: &Message<'_>,
        event_bytes: usize,
    ) {
        debug_assert!(self.newest < Some(message.id));
        let head = head(message, Some(share), event_bytes);
        let parts = parts(message, &head);
        let place = archive.store.push(room.index() as u32, &mut self.queue, &parts);
        archive.shares.add(share, parts.iter().map(|part| part.len()).sum());
        self.newest = Some(message.id);
        if let Some(nonce) = message.nonce {
            let nonces = self.nonces.get_or_insert_default();
            nonces.insert(nonce_hash(message.user_id, nonce), place);
        }
    }

    /// A message that is not kept was published.
    pub fn skip(&mut self, id: MessageId) {
        (self.newest, self.floor, self.dropped) = (Some(id), Some(id), Some(id));
    }

    /// Drops up to `count` messages of one share, the oldest first, and returns how many, and how
    /// many messages had to be looked at. If older messages of other shares are kept, the queue is
    /// copied to its own end.
    pub fn drop_some(
        &mut self,
        archive: &mut Archive,
        room: RoomKey,
        share: ShareKey,
        count: usize,
    ) -> (usize, usize) {
        let share = share.index() as u32;
        let mut dropped = 0;
        while let Some(first) = archive.store.first(&self.queue).filter(|_| dropped < count) {
            if self.header(&archive.store, first).share != share {
                let (more, looked_at) = self.drop_between(archive, room, share, count - dropped);
                return (dropped + more, dropped + looked_at);
            }
            self.drop_oldest(archive);
            dropped += 1;
        }
        (dropped, dropped)
    }

    fn drop_between(
        &mut self,
        archive: &mut Archive,
        room: RoomKey,
        share: u32,
        count: usize,
    ) -> (usize, usize) {
        let (len, mut dropped, mut record) = (self.queue.len(), 0, Vec::new());
        for _ in 0..len {
            let Some(first) = archive.store.first(&self.queue) else { break };
            let (key, header) =
                (archive.store.key(&self.queue, first), self.header(&archive.store, first));
            let is_kept = header.share != share || dropped == count;
            record.clear();
            archive.store.read(&self.queue, first, &mut record);
            let hash = record_nonce_hash(&header, &record);
            self.forget_nonce(hash, first);
            archive.store.pop(&mut self.queue);
            if is_kept {
                let place = archive.store.push(room.index() as u32, &mut self.queue, &[&record]);
                if let (Some(hash), Some(nonces)) = (hash, &mut self.nonces) {
                    nonces.insert(hash, place);
                }
            } else {
                dropped += 1;
                self.dropped = self.dropped.max(Some(MessageId::from_bytes(key)));
                archive.shares.subtract(share, record.len());
            }
        }
        self.gaps = self.gaps.wrapping_add(1);
        self.shrink_nonces();
        (dropped, len)
    }

    /// Drops the oldest message.
    pub fn drop_oldest(&mut self, archive: &mut Archive) {
        let Some(first) = archive.store.first(&self.queue) else { return };
        let id = MessageId::from_bytes(archive.store.key(&self.queue, first));
        let header = self.header(&archive.store, first);
        if header.nonce_bytes > 0 {
            let mut record = Vec::new();
            archive.store.read(&self.queue, first, &mut record);
            self.forget_nonce(record_nonce_hash(&header, &record), first);
            self.shrink_nonces();
        }
        archive.shares.subtract(header.share, archive.store.length(&self.queue, first));
        archive.store.pop(&mut self.queue);
        self.floor = Some(id);
        self.dropped = self.dropped.max(self.floor);
    }

    /// Removes the nonce of the message at `place`, unless a later message has taken its entry.
    fn forget_nonce(&mut self, hash: Option<u64>, place: Place) {
        if let (Some(hash), Some(nonces)) = (hash, &mut self.nonces) {
            if nonces.get(&hash) == Some(&place) {
                nonces.remove(&hash);
            }
        }
    }

    fn shrink_nonces(&mut self) {
        self.nonces = self.nonces.take().filter(|nonces| !nonces.is_empty());
        self.nonces.as_deref_mut().map(shrink);
    }

    /// Drops all messages, because the room has ended.
    pub fn clear(&mut self, archive: &mut Archive) {
        let mut place = archive.store.first(&self.queue);
        while let Some(at) = place {
            let share = self.header(&archive.store, at).share;
            archive.shares.subtract(share, archive.store.length(&self.queue, at));
            place = archive.store.next(&self.queue, at);
        }
        archive.store.clear(&mut self.queue);
        self.nonces = None;
    }

    /// The header of the message at a place.
    pub fn header(&self, store: &Store, place: Place) -> Header {
        let mut header = [0; HEADER_BYTES];
        store.copy(&self.queue, place, KEY_BYTES, &mut header);
        Header::decode(header)
    }

    /// The message with this nonce from this user, if it is kept.
    pub fn find(&self, store: &Store, user_id: UserId, nonce: &str) -> Option<Place> {
        let place = *self.nonces.as_deref()?.get(&nonce_hash(user_id, nonce))?;
        let mut record = Vec::new();
        store.read(&self.queue, place, &mut record);
        let header = self.header(store, place);
        let is_same =
            header.user_id == user_id && record_nonce(&header, &record) == Some(nonce.as_bytes());
        is_same.then_some(place)
    }

    /// The id of the message at a place.
    pub fn id(&self, store: &Store, place: Place) -> MessageId {
        MessageId::from_bytes(store.key(&self.queue, place))
    }

    /// Whether the message is kept.
    pub fn has(&self, store: &Store, id: MessageId) -> bool {
        self.place_of(store, id).is_some()
    }

    /// Where the message is, if it is kept.
    pub fn place_of(&self, store: &Store, id: MessageId) -> Option<Place> {
        let found = store.partition(&self.queue, |key| MessageId::from_bytes(key) < id);
        found.filter(|place| self.id(store, *place) == id)
    }

    /// Overwrites the text of a chat message. Its share goes on counting the bytes: the record keeps
    /// its length. `event_bytes`: the length of the event without the text.
    pub fn delete_text(&mut self, store: &mut Store, place: Place, event_bytes: usize) {
        let start = self.header(store, place).text_start();
        let text_bytes = self.text_bytes(store, place).unwrap_or_default();
        store.overwrite(&self.queue, place, start, &vec![0; text_bytes]);
        let (start, part) = deleted_part(event_bytes);
        store.overwrite(&self.queue, place, start, &part);
    }

    /// The first message newer than `id`, whether or not `id` is kept. `None`: the first of all.
    pub fn after(&self, store: &Store, id: Option<MessageId>) -> Option<Place> {
        match id {
            None => store.first(&self.queue),
            id => store.partition(&self.queue, |key| Some(MessageId::from_bytes(key)) <= id),
        }
    }

    /// The message after the one at `place`.
    pub fn next(&self, store: &Store, place: Place) -> Option<Place> {
        store.next(&self.queue, place)
    }

    /// Bytes of the encoded event of the message at `place`.
    pub fn event_bytes(&self, store: &Store, place: Place) -> usize {
        self.header(store, place).event_bytes.into()
    }

    /// Bytes of the text at `place`; `None`: the message has none that can be deleted.
    pub fn text_bytes(&self, store: &Store, place: Place) -> Option<usize> {
        let header = self.header(store, place);
        let is_deletable = header.is_chat() && !header.is_deleted();
        is_deletable.then(|| store.length(&self.queue, place).saturating_sub(header.text_start()))
    }

    /// The address that has sent the message at `place`.
    pub fn address(&self, archive: &Archive, place: Place) -> Option<Address> {
        archive.shares.address(self.header(&archive.store, place).share)
    }

    /// Appends a copy of the message at `place`.
    pub fn copy(&self, store: &Store, place: Place, to: &mut MessageCopies) {
        to.push(|out| store.read(&self.queue, place, out));
    }

    /// The message before the last `count`. A reader with this cursor is sent the last `count`.
    pub fn before_last(&self, store: &Store, count: usize) -> Option<MessageId> {
        if count >= self.queue.len() {
            return self.floor;
        }
        store.last(&self.queue, count + 1).map(|place| self.id(store, place))
    }

    /// Bytes of the record at `place`.
    pub fn record_bytes(&self, archive: &Archive, place: Place) -> usize {
        archive.store.length(&self.queue, place)
    }

    /// The newest message, kept or not.
    pub fn newest(&self) -> Option<MessageId> {
        self.newest.max(self.dropped)
    }

    /// The newest message that was added.
    pub fn newest_added(&self) -> Option<MessageId> {
        self.newest
    }

    /// The cursor of a reader that is to be sent all kept messages.
    pub fn floor(&self) -> Option<MessageId> {
        self.floor
    }

    /// The newest message that is no longer kept.
    pub fn dropped(&self) -> Option<MessageId> {
        self.dropped
    }

    /// Sets the newest message that is no longer kept, in a room that is being restored.
    pub fn restore_dropped(&mut self, id: MessageId) {
        self.dropped = Some(id);
    }

    /// Whether all messages after `id` that the room has had are kept.
    pub fn is_complete_after(&self, id: MessageId) -> bool {
        self.dropped <= Some(id)
    }

    /// How often messages were dropped although older ones were kept.
    pub fn gaps(&self) -> u32 {
        self.gaps
    }

    /// The number of kept messages.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message is kept.
    pub fn is_empty(&self) -> bool {
        self.queue.len() == 0
    }

    /// The queue, for [`Store::compact`] and for checks.
    pub fn queue_mut(&mut self) -> &mut RecordQueue {
        &mut self.queue
    }

    /// The queue, for checks.
    pub fn queue(&self) -> &RecordQueue {
        &self.queue
    }

    /// Changes whenever [`History::heap_bytes`] may have changed.
    pub fn extent(&self) -> (usize, Option<usize>) {
        (self.queue.capacity(), self.nonces.as_ref().map(|nonces| nonces.capacity()))
    }

    /// Bytes of heap held, without the records.
    pub fn heap_bytes(&self) -> usize {
        let nonces = self.nonces.as_ref().map_or(0, |nonces| {
            allocation(size_of::<HashMap<u64, Place>>())
                + map_bytes::<u64, Place>(nonces.capacity())
        });
        self.queue.heap_bytes() + nonces
    }

    /// Panics if nonces and messages disagree. Passes each message's share and bytes to `add`.
    pub fn check(&self, archive: &Archive, mut add: impl FnMut(u32, usize)) {
        let (mut nonces, mut record) = (0, Vec::new());
        let mut place = archive.store.first(&self.queue);
        while let Some(at) = place {
            record.clear();
            archive.store.read(&self.queue, at, &mut record);
            let header = self.header(&archive.store, at);
            add(header.share, record.len());
            if let Some(hash) = record_nonce_hash(&header, &record) {
                nonces += 1;
                agree!(self.nonces.as_ref().and_then(|nonces| nonces.get(&hash)), Some(&at));
            }
            let id = Some(self.id(&archive.store, at));
            holds!(id > self.floor && id <= self.newest);
            place = archive.store.next(&self.queue, at);
        }
        agree!(nonces, self.nonces.as_ref().map_or(0, |nonces| nonces.len()));
        holds!(self.floor <= self.dropped);
    }
}
