//! A room's history: the messages that are kept, oldest first.
//!
//! Owns the queue and its bound, and the nonces, which are known exactly as long as their
//! messages. Must never know what a message says. The invariant: ids increase from front to back,
//! so that a place in the history is found by binary search, wherever it is.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::event::{Frame, MessageId, UserId};
use super::{shrink, vec_bytes};
use crate::ledger::allocation;

/// One kept message.
pub struct HistoryEntry {
    /// The message's id.
    pub id: MessageId,
    /// Its encoded bytes, shared with the outboxes.
    pub frame: Frame,
    /// By what its sender knows it.
    pub(super) nonce: Option<Rc<Nonce>>,
}

// A room's history is a thousand of these.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<HistoryEntry>() == 48);

/// A sender's own name for a message. Two people's are different, whatever their text.
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

/// The messages a room keeps.
#[derive(Default)]
pub struct History {
    entries: VecDeque<HistoryEntry>,
    nonces: HashMap<Rc<Nonce>, MessageId>,
    /// Bytes of heap that the nonces hold.
    nonce_bytes: usize,
    /// The last message that is not kept any more.
    dropped: Option<MessageId>,
}

impl History {
    /// Appends a message; the oldest goes when there are more than `messages_max`.
    pub(super) fn push(&mut self, entry: HistoryEntry, messages_max: usize) {
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
            // Not twice as many: most rooms are small, and a history is most of what they are.
            self.entries.reserve_exact((self.entries.len() / 4).max(4));
        }
        self.entries.push_back(entry);
    }

    /// Forgets the oldest messages, at most `count`, and gives back the room they took. Returns
    /// how many there were.
    pub(super) fn drop_some(&mut self, count: usize) -> usize {
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

    /// The message that its sender knows by this nonce, if it is kept.
    pub(super) fn find(&self, nonce: &Nonce) -> Option<&HistoryEntry> {
        self.get(*self.nonces.get(nonce)?)
    }

    /// The message with that id, if it is kept. Costs the logarithm of the history's length.
    pub fn get(&self, id: MessageId) -> Option<&HistoryEntry> {
        let place = self.entries.binary_search_by(|entry| entry.id.cmp(&id)).ok()?;
        self.entries.get(place)
    }

    /// The messages after `id` (`None`: after none, so all), oldest first, whether or not that
    /// one is kept.
    pub fn after(&self, id: Option<MessageId>) -> impl ExactSizeIterator<Item = &HistoryEntry> {
        let place = id.map_or(0, |id| self.entries.partition_point(|entry| entry.id <= id));
        self.entries.range(place..)
    }

    /// The last `count` messages, oldest first.
    pub fn last(&self, count: usize) -> impl ExactSizeIterator<Item = &HistoryEntry> {
        self.entries.range(self.entries.len().saturating_sub(count)..)
    }

    /// The newest message that lies before the last `count`: where someone stands who is to be
    /// sent just those.
    pub(super) fn before_last(&self, count: usize) -> Option<MessageId> {
        let before = self.entries.len().checked_sub(count);
        match before.and_then(|before| before.checked_sub(1)) {
            Some(place) => self.entries.get(place).map(|entry| entry.id),
            None => self.dropped,
        }
    }

    /// The newest message of all, kept or not.
    pub(super) fn newest(&self) -> Option<MessageId> {
        self.entries.back().map(|entry| entry.id).or(self.dropped)
    }

    /// Whether a message after `id` is not kept any more.
    pub(super) fn has_dropped_after(&self, id: Option<MessageId>) -> bool {
        self.dropped > id
    }

    /// The last message that is not kept any more.
    pub(super) fn dropped(&self) -> Option<MessageId> {
        self.dropped
    }

    /// Before any message: the last one that was not kept any more.
    pub(super) fn restore_dropped(&mut self, id: MessageId) {
        self.dropped = Some(id);
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of heap held, without those of the frames.
    pub fn bytes(&self) -> usize {
        vec_bytes::<HistoryEntry>(self.entries.capacity())
            + super::map_bytes::<Rc<Nonce>, MessageId>(self.nonces.capacity())
            + self.nonce_bytes
    }

    /// For tests: panics if nonces and messages disagree.
    pub(super) fn check(&self) {
        let nonces =
            self.entries.iter().filter_map(|entry| Some((entry.nonce.as_ref()?, entry.id)));
        let mut bytes = 0;
        let count = nonces.inspect(|(nonce, _)| bytes += nonce.bytes());
        let count = count.map(|(nonce, id)| agree!(self.nonces.get(nonce), Some(&id))).count();
        agree!((count, bytes), (self.nonces.len(), self.nonce_bytes));
    }
}
