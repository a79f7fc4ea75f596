//! A room's history.
//!
//! Owns the queue of messages, its bound, and the nonces of the messages in it. Must not know what
//! a message contains. The invariant: ids increase from front to back, so that binary search finds
//! a message.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::event::Frame;
use super::heap::{map_bytes, shrink, vec_bytes};
use super::id::{MessageId, UserId};
use crate::ledger::allocation;

/// One kept message.
pub struct HistoryEntry {
    /// The message's id.
    pub id: MessageId,
    /// The encoded message, shared with the outboxes.
    pub frame: Frame,
    /// The sender's own identifier for the message, if it gave one.
    pub(super) nonce: Option<Rc<Nonce>>,
}

// A history has a thousand of these by default.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<HistoryEntry>() == 48);

/// A sender's own identifier for a message. It includes the sender, so that two senders may use the
/// same text.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Nonce {
    pub user_id: UserId,
    pub text: Box<str>,
}

impl Nonce {
    fn bytes(&self) -> usize {
        allocation(2 * size_of::<usize>() + size_of::<Nonce>()) + allocation(self.text.len())
    }
}

/// The kept messages of one room.
#[derive(Default)]
pub(super) struct History {
    entries: VecDeque<HistoryEntry>,
    nonces: HashMap<Rc<Nonce>, MessageId>,
    /// Bytes of heap that the nonces hold.
    nonce_bytes: usize,
    /// The newest message that is no longer kept.
    pub dropped: Option<MessageId>,
}

impl History {
    /// Appends a message. Drops the oldest if there are `messages_max` already.
    pub fn push(&mut self, entry: HistoryEntry, messages_max: usize) {
        debug_assert!(self.entries.back().is_none_or(|last| last.id < entry.id));
        if messages_max == 0 {
            self.dropped = Some(entry.id);
            return;
        }
        while self.entries.len() >= messages_max {
            self.drop_oldest();
        }
        if let Some(nonce) = &entry.nonce {
            self.nonce_bytes += nonce.bytes();
            self.nonces.insert(nonce.clone(), entry.id);
        }
        if self.entries.len() == self.entries.capacity() {
            // Grows by a quarter instead of doubling, because this queue is most of a small room's
            // memory.
            self.entries.reserve_exact((self.entries.len() / 4).max(4));
        }
        self.entries.push_back(entry);
    }

    /// Drops up to `count` of the oldest messages and returns how many. Frees unused capacity.
    pub fn drop_some(&mut self, count: usize) -> usize {
        let count = count.min(self.entries.len());
        (0..count).for_each(|_| self.drop_oldest());
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(2 * self.entries.len());
        }
        count
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        self.dropped = Some(oldest.id);
        if let Some(nonce) = oldest.nonce {
            self.nonce_bytes -= nonce.bytes();
            self.nonces.remove(&nonce);
            shrink(&mut self.nonces);
        }
    }

    /// The message with this nonce, if it is kept.
    pub fn find(&self, nonce: &Nonce) -> Option<&HistoryEntry> {
        self.get(*self.nonces.get(nonce)?)
    }

    /// The message with this id, if it is kept. Costs O(log n).
    pub fn get(&self, id: MessageId) -> Option<&HistoryEntry> {
        let place = self.entries.binary_search_by(|entry| entry.id.cmp(&id)).ok()?;
        self.entries.get(place)
    }

    /// The messages newer than `id`, oldest first, whether or not `id` is kept. `None`: all.
    pub fn after(&self, id: Option<MessageId>) -> impl ExactSizeIterator<Item = &HistoryEntry> {
        let place = id.map_or(0, |id| self.entries.partition_point(|entry| entry.id <= id));
        self.entries.range(place..)
    }

    /// The last `count` messages, oldest first.
    pub fn last(&self, count: usize) -> impl ExactSizeIterator<Item = &HistoryEntry> {
        self.entries.range(self.entries.len().saturating_sub(count)..)
    }

    /// The message before the last `count`. A reader with this cursor is sent the last `count`.
    pub fn before_last(&self, count: usize) -> Option<MessageId> {
        let before = self.entries.len().checked_sub(count);
        match before.and_then(|before| before.checked_sub(1)) {
            Some(place) => self.entries.get(place).map(|entry| entry.id),
            None => self.dropped,
        }
    }

    /// The newest message, kept or not.
    pub fn newest(&self) -> Option<MessageId> {
        self.entries.back().map(|entry| entry.id).or(self.dropped)
    }

    /// Whether a message newer than `id` has been dropped.
    pub fn has_dropped_after(&self, id: Option<MessageId>) -> bool {
        self.dropped > id
    }

    /// The number of kept messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no message is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of heap held, without the encoded messages.
    pub fn bytes(&self) -> usize {
        vec_bytes::<HistoryEntry>(self.entries.capacity())
            + map_bytes::<Rc<Nonce>, MessageId>(self.nonces.capacity())
            + self.nonce_bytes
    }

    /// Panics if nonces and messages disagree.
    pub fn check(&self) {
        let nonces =
            self.entries.iter().filter_map(|entry| Some((entry.nonce.as_ref()?, entry.id)));
        let mut bytes = 0;
        let count = nonces.inspect(|(nonce, _)| bytes += nonce.bytes());
        let count = count.map(|(nonce, id)| agree!(self.nonces.get(nonce), Some(&id))).count();
        agree!((count, bytes), (self.nonces.len(), self.nonce_bytes));
    }
}
