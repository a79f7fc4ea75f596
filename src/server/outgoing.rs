//! What is queued for connections and not written yet: which connection is flushed next, and which
//! is due another page of history.
//!
//! Owns the lists and what a tick may spend on each. Must not know a connection or its bytes: it
//! handles keys of any type, as the schedule does for input. The invariant: a key is on each list
//! at most once. Its [`FlushMarks`] record this for the dirty and the deferred list; for the
//! page-due list the owner of the key does (`Ws::is_page_due`). A key that is dropped from a list
//! while its mark stays set is never served from it again.

use std::collections::VecDeque;

use super::schedule::{self, FanOut};

/// Which of the lists `dirty` and `deferred` a key is on; kept by the owner of the key.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct FlushMarks {
    pub is_dirty: bool,
    pub is_deferred: bool,
    /// Its deferred output waits behind that of large rooms, because its own room is huge.
    pub is_huge: bool,
}

/// Keys with something to write.
#[derive(Debug)]
pub(super) struct Outgoing<K> {
    /// To be flushed at the end of this tick.
    dirty: Vec<K>,
    /// To be flushed in turn, as far as the budget of a tick goes: members of large rooms, and of
    /// huge ones. The two alternate, so that a huge room delays no other.
    deferred: [VecDeque<K>; 2],
    /// Catching up, with the previous page mostly written.
    page_due: VecDeque<K>,
    /// Bytes of history queued in this phase.
    paged_bytes: usize,
    /// Deferred flushes that this tick has left for each list and for both, and the bytes that
    /// they may write.
    turns_left: [usize; 2],
    flushes_left: usize,
    bytes_left: usize,
}

impl<K: Copy> Outgoing<K> {
    /// Nothing queued.
    pub fn new() -> Outgoing<K> {
        Outgoing {
            dirty: Vec::new(),
            deferred: [VecDeque::new(), VecDeque::new()],
            page_due: VecDeque::new(),
            paged_bytes: 0,
            turns_left: [0, 0],
            flushes_left: 0,
            bytes_left: 0,
        }
    }

    /// Puts the key on the dirty list, to be flushed in this tick.
    pub fn mark_dirty(&mut self, key: K, marks: &mut FlushMarks) {
        if !std::mem::replace(&mut marks.is_dirty, true) {
            self.dirty.push(key);
        }
    }

    /// Puts the key on the deferred list, unless it is dirty. It is flushed in this tick if the
    /// budget allows.
    pub fn mark_deferred(&mut self, key: K, marks: &mut FlushMarks) {
        if !marks.is_dirty && !std::mem::replace(&mut marks.is_deferred, true) {
            self.deferred[usize::from(marks.is_huge)].push_back(key);
        }
    }

    /// Puts the key on the page-due list.
    pub fn push_page_due(&mut self, key: K) {
        self.page_due.push_back(key);
    }

    /// Whether any flush is deferred.
    pub fn has_backlog(&self) -> bool {
        self.deferred.iter().any(|keys| !keys.is_empty())
    }

    /// Whether flushes are deferred for which a room of this size has to wait.
    pub fn is_behind(&self, room: FanOut) -> bool {
        let [large, huge] = self.deferred.each_ref().map(|keys| !keys.is_empty());
        match room {
            FanOut::Small => false,
            FanOut::Large => large,
            FanOut::Huge => large || huge,
        }
    }

    /// Whether all lists are empty.
    pub fn is_empty(&self) -> bool {
        self.dirty.is_empty() && !self.has_backlog() && self.page_due.is_empty()
    }

    /// Takes the dirty keys, to be flushed now. [`Outgoing::end_dirty`] gives the list back.
    pub fn begin_dirty(&mut self) -> Vec<K> {
        std::mem::take(&mut self.dirty)
    }

    /// The dirty keys were flushed. Keys that have become dirty meanwhile are for the next tick.
    pub fn end_dirty(&mut self, mut flushed: Vec<K>) {
        if self.dirty.is_empty() {
            flushed.clear();
            self.dirty = flushed;
        }
    }

    /// Begins the deferred flushes of this tick: within the budget, one for each key that is queued
    /// now.
    pub fn begin_deferred(&mut self) {
        self.turns_left = self.deferred.each_ref().map(VecDeque::len);
        self.flushes_left = schedule::DEFERRED_FLUSHES_MAX;
        self.bytes_left = schedule::DEFERRED_BYTES_MAX;
    }

    /// The key whose deferred output is flushed next, as far as the budget goes.
    pub fn next_deferred(&mut self) -> Option<K> {
        if self.flushes_left == 0 || self.bytes_left == 0 {
            return None;
        }
        let list = match self.turns_left {
            [0, 0] => return None,
            [_, 0] => 0,
            [0, _] => 1,
            _ => self.flushes_left % 2,
        };
        self.flushes_left -= 1;
        self.turns_left[list] -= 1;
        self.deferred[list].pop_front()
    }

    /// A deferred flush has written `bytes` bytes.
    pub fn on_deferred_written(&mut self, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    /// Takes the next key that is due a page of history.
    pub fn next_page_due(&mut self) -> Option<K> {
        self.page_due.pop_front()
    }

    /// Counts queued history against the budget of the phase.
    pub fn on_paged(&mut self, bytes: usize) {
        self.paged_bytes += bytes;
    }

    /// Whether so much history was queued in this phase that the rest has to wait.
    pub fn is_paged_out(&self) -> bool {
        self.paged_bytes >= schedule::PAGED_BYTES_MAX
    }

    /// Resets that budget at the end of a phase.
    pub fn reset_paged(&mut self) {
        self.paged_bytes = 0;
    }

    /// Shrinks the lists that have grown far beyond `keys`, the number of connections.
    pub fn shrink(&mut self, keys: usize) {
        self.deferred.iter_mut().for_each(|deferred| schedule::shrink(deferred, keys));
        schedule::shrink(&mut self.page_due, keys);
        if keys == 0 {
            self.dirty = Vec::new();
        } else if self.dirty.capacity() / 4 > keys {
            self.dirty.shrink_to(keys);
        }
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        let deferred = self.deferred.iter().map(VecDeque::capacity).sum::<usize>();
        (self.dirty.capacity() + deferred + self.page_due.capacity()) * size_of::<K>()
    }

    /// The dirty keys, for checks.
    pub fn dirty(&self) -> impl Iterator<Item = K> {
        self.dirty.iter().copied()
    }

    /// The deferred keys, for checks.
    pub fn deferred(&self) -> impl Iterator<Item = K> {
        self.deferred.iter().flatten().copied()
    }
}

/// Whether a connection that is catching up, with so many bytes in its outbox, is due a page.
pub(super) fn is_page_due(queued_bytes: usize) -> bool {
    queued_bytes <= schedule::PAGE_LEFT_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_on_a_list_once_and_dirty_precedes_deferred() {
        let mut outgoing = Outgoing::new();
        let mut marks = FlushMarks::default();
        for _ in 0..2 {
            outgoing.mark_dirty(1, &mut marks);
            outgoing.mark_deferred(1, &mut marks);
        }
        assert_eq!(outgoing.begin_dirty(), [1]);
        assert!(!outgoing.has_backlog(), "it is flushed in this tick anyway");
        marks.is_dirty = false;
        for _ in 0..2 {
            outgoing.mark_deferred(1, &mut marks);
        }
        assert_eq!(outgoing.deferred().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn deferred_flushes_end_with_their_number_their_bytes_or_the_queue() {
        let flushed = |keys: usize, bytes: usize| {
            let mut outgoing = Outgoing::new();
            let mut marks = vec![FlushMarks::default(); keys];
            for (key, marks) in marks.iter_mut().enumerate() {
                outgoing.mark_deferred(key, marks);
            }
            outgoing.begin_deferred();
            let mut flushed = Vec::new();
            while let Some(key) = outgoing.next_deferred() {
                outgoing.on_deferred_written(bytes);
                // The kernel took a part only: the key queues again, behind the others.
                marks[key].is_deferred = false;
                outgoing.mark_deferred(key, &mut marks[key]);
                flushed.push(key);
            }
            assert!(outgoing.has_backlog());
            flushed
        };
        assert_eq!(flushed(3, 1), [0, 1, 2], "each once");
        assert_eq!(flushed(1000, 1), (0..32).collect::<Vec<_>>());
        assert_eq!(flushed(1000, 64 * 1024), [0, 1]);
    }

    #[test]
    fn deferred_flushes_of_a_huge_room_alternate_with_those_of_others() {
        let mut outgoing = Outgoing::new();
        let mut mark = |key, is_huge| {
            outgoing.mark_deferred(key, &mut FlushMarks { is_huge, ..FlushMarks::default() });
        };
        (0..100).for_each(|key| mark(key, true));
        [100, 101, 102].into_iter().for_each(|key| mark(key, false));
        let rooms = [FanOut::Small, FanOut::Large, FanOut::Huge];
        assert_eq!(rooms.map(|room| outgoing.is_behind(room)), [false, true, true]);
        outgoing.begin_deferred();
        let flushed: Vec<_> = std::iter::from_fn(|| outgoing.next_deferred()).collect();
        assert_eq!(flushed[..7], [100, 0, 101, 1, 102, 2, 3]);
        assert_eq!(flushed.len(), 32);
        assert_eq!(rooms.map(|room| outgoing.is_behind(room)), [false, false, true]);
    }

    #[test]
    fn history_is_queued_up_to_its_budget_in_each_phase() {
        let mut outgoing = Outgoing::<u32>::new();
        outgoing.on_paged(512 * 1024 - 1);
        assert!(!outgoing.is_paged_out());
        outgoing.on_paged(1);
        assert!(outgoing.is_paged_out());
        outgoing.reset_paged();
        assert!(!outgoing.is_paged_out());
    }

    #[test]
    fn capacity_goes_back_with_the_keys() {
        let mut outgoing = Outgoing::new();
        let mut marks = vec![FlushMarks::default(); 1000];
        for (key, marks) in marks.iter_mut().enumerate() {
            outgoing.mark_deferred(key, marks);
            outgoing.push_page_due(key);
        }
        outgoing.mark_dirty(0, &mut marks[0]);
        let dirty = outgoing.begin_dirty();
        outgoing.end_dirty(dirty);
        outgoing.begin_deferred();
        outgoing.deferred[0].clear();
        while outgoing.next_page_due().is_some() {}
        let full = outgoing.bytes();
        outgoing.shrink(1000);
        assert_eq!(outgoing.bytes(), full);
        outgoing.shrink(10);
        assert!(outgoing.bytes() < full / 10);
        outgoing.shrink(0);
        assert_eq!(outgoing.bytes(), 0);
    }
}
