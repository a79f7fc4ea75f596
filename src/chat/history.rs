//! A room's history: the messages that are kept, oldest first.
//!
//! Owns the queue and its bound. Must never know what a message says. The invariant: ids
//! increase from front to back, and there are never more entries than the bound.

use std::collections::VecDeque;

use super::event::{Frame, MessageId};

/// One kept message.
pub struct Entry {
    /// The message's id.
    pub id: MessageId,
    /// Its encoded bytes, shared with the outboxes.
    pub frame: Frame,
}

// A room's history is a thousand of these.
const _: () = assert!(size_of::<Entry>() == 40);

/// The messages a room keeps.
pub struct History {
    entries: VecDeque<Entry>,
}

impl History {
    /// Nothing kept.
    pub const EMPTY: History = History { entries: VecDeque::new() };

    /// Appends a message; the oldest goes when there are more than `messages_max`.
    pub(super) fn push(&mut self, entry: Entry, messages_max: usize) {
        debug_assert!(self.entries.back().is_none_or(|last| last.id < entry.id));
        if messages_max == 0 {
            return;
        }
        while self.entries.len() >= messages_max {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// The last `count` messages, oldest first.
    pub fn last(&self, count: usize) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.range(self.entries.len().saturating_sub(count)..)
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
        self.entries.capacity() * size_of::<Entry>()
    }
}
