//! Timers: a slab of them, threaded into one list per class of timeout.
//!
//! Owns who waits for which deadline. Must never know what happens when one fires. The
//! invariant: every list is in deadline order. It holds because a class has one timeout for its
//! whole life and time does not go back, so the newest timer is always the last to be due; that
//! makes arming, re-arming and cancelling O(1) and a sweep proportional to what is due.

use std::time::Duration;

use crate::clock::Mono;
use crate::slots::{Key, Slots};

/// Deadlines are rounded up to this, so that neighbours fire in one wake-up.
pub const GRAIN: Duration = Duration::from_millis(50);

/// A fixed set of timeouts. An enum with one variant per reason to wait.
pub trait Class: Copy {
    /// How many classes there are.
    const COUNT: usize;
    /// This class's place, below `COUNT`.
    fn index(self) -> usize;
}

/// What a [`TimerKey`] points at, seen from outside.
pub enum Timer {}

/// A handle on an armed timer. Stale once the timer has fired or was cancelled.
pub type TimerKey = Key<Timer>;

struct Entry<C, O> {
    deadline: Mono,
    class: C,
    owner: O,
    before: Option<Key<Entry<C, O>>>,
    after: Option<Key<Entry<C, O>>>,
}

// See the account in `ledger`: a connection's, one byte of class and eight of owner.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Entry<u8, TimerKey>>() == 40);

struct List<C, O> {
    timeout: Duration,
    first: Option<Key<Entry<C, O>>>,
    last: Option<Key<Entry<C, O>>>,
}

/// Armed timers of the classes `C`, each with an owner `O` to be told of.
pub struct Timers<C, O> {
    slots: Slots<Entry<C, O>>,
    /// By `Class::index`.
    lists: Vec<List<C, O>>,
}

impl<C: Class, O: Copy> Timers<C, O> {
    /// No timers yet; `timeout` says how long each class waits, from first to last.
    pub fn new(timeouts: &[(C, Duration)]) -> Self {
        let list = |(index, (class, timeout)): (usize, &(C, Duration))| {
            assert_eq!(class.index(), index, "one timeout for each class, in order");
            List { timeout: *timeout, first: None, last: None }
        };
        assert_eq!(timeouts.len(), C::COUNT, "one timeout for each class");
        Timers { slots: Slots::new(), lists: timeouts.iter().enumerate().map(list).collect() }
    }

    /// Starts a timer: `owner` comes out of [`Timers::pop_due`] once the class's timeout is over.
    pub fn arm(&mut self, class: C, owner: O, now: Mono) -> TimerKey {
        let deadline = deadline(now, self.lists[class.index()].timeout);
        let key = self.slots.insert(Entry { deadline, class, owner, before: None, after: None });
        self.link_last(key);
        key.cast()
    }

    /// The same with less time than the class's, as it may have had when it was armed elsewhere. For
    /// times when all others of its class were armed so, too, those that are due first before.
    pub fn arm_within(&mut self, class: C, owner: O, now: Mono, left: Duration) -> TimerKey {
        let list = &self.lists[class.index()];
        let last = list.last.and_then(|key| self.slots.get(key)).map(|entry| entry.deadline);
        let due = deadline(now, left.min(list.timeout)).max(last.unwrap_or_default());
        let key =
            self.slots.insert(Entry { deadline: due, class, owner, before: None, after: None });
        self.link_last(key);
        key.cast()
    }

    /// What an armed timer is for, and when it is due.
    pub fn get(&self, key: TimerKey) -> Option<(C, Mono)> {
        self.slots.get(key.cast()).map(|entry| (entry.class, entry.deadline))
    }

    /// Starts an armed timer anew. False if it has fired or was cancelled.
    pub fn rearm(&mut self, key: TimerKey, now: Mono) -> bool {
        let key = key.cast();
        let Some(entry) = self.slots.get(key) else {
            return false;
        };
        let deadline = deadline(now, self.lists[entry.class.index()].timeout);
        if entry.deadline == deadline && entry.after.is_none() {
            return true; // Within one grain of the last time: a busy connection's usual case.
        }
        self.unlink(key);
        if let Some(entry) = self.slots.get_mut(key) {
            entry.deadline = deadline;
        }
        self.link_last(key);
        true
    }

    /// Stops a timer. False if it has fired or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> bool {
        self.take(key.cast()).is_some()
    }

    /// When the next timer is due; `None` when nothing is armed.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.heads().map(|(deadline, _)| deadline).min()
    }

    /// Takes out one timer whose deadline has come, the most overdue first.
    pub fn pop_due(&mut self, now: Mono) -> Option<(C, O)> {
        let (deadline, key) = self.heads().min_by_key(|(deadline, _)| *deadline)?;
        if deadline > now { None } else { self.take(key) }
    }

    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True when none is armed.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
    }

    fn heads(&self) -> impl Iterator<Item = (Mono, Key<Entry<C, O>>)> {
        self.lists.iter().filter_map(|list| {
            let key = list.first?;
            Some((self.slots.get(key)?.deadline, key))
        })
    }

    fn take(&mut self, key: Key<Entry<C, O>>) -> Option<(C, O)> {
        self.unlink(key);
        let entry = self.slots.remove(key)?;
        Some((entry.class, entry.owner))
    }

    fn link_last(&mut self, key: Key<Entry<C, O>>) {
        let Some(entry) = self.slots.get(key) else {
            return;
        };
        let (class, deadline) = (entry.class.index(), entry.deadline);
        let last = self.lists[class].last.replace(key);
        if let Some(entry) = self.slots.get_mut(key) {
            entry.before = last;
            entry.after = None;
        }
        match last.and_then(|last| self.slots.get_mut(last)) {
            Some(entry) => {
                debug_assert!(entry.deadline <= deadline, "time went back");
                entry.after = Some(key);
            }
            None => self.lists[class].first = Some(key),
        }
    }

    fn unlink(&mut self, key: Key<Entry<C, O>>) {
        let Some(entry) = self.slots.get(key) else {
            return;
        };
        let (class, before, after) = (entry.class.index(), entry.before, entry.after);
        match before.and_then(|before| self.slots.get_mut(before)) {
            Some(entry) => entry.after = after,
            None => self.lists[class].first = after,
        }
        match after.and_then(|after| self.slots.get_mut(after)) {
            Some(entry) => entry.before = before,
            None => self.lists[class].last = before,
        }
    }
}

/// Rounds up, so that no timer ever fires early.
fn deadline(now: Mono, timeout: Duration) -> Mono {
    let grain = GRAIN.as_micros() as u64;
    let due = now.after(timeout).micros();
    Mono::from_micros(due.checked_next_multiple_of(grain).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Wait {
        Short,
        Long,
    }

    impl Class for Wait {
        const COUNT: usize = 2;
        fn index(self) -> usize {
            self as usize
        }
    }

    fn timers() -> Timers<Wait, u32> {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        Timers::new(&[(Wait::Short, second), (Wait::Long, minute)])
    }

    fn at(millis: u64) -> Mono {
        Mono::from_micros(millis * 1000)
    }

    fn due(timers: &mut Timers<Wait, u32>, now: Mono) -> Vec<u32> {
        std::iter::from_fn(|| timers.pop_due(now)).map(|(_, owner)| owner).collect()
    }

    #[test]
    fn what_was_armed_elsewhere_has_what_it_had_left_and_no_more_than_its_class() {
        let mut timers = timers();
        let millis = [400, 300, 500, 9000];
        let armed = millis.map(|left| {
            let key =
                timers.arm_within(Wait::Short, left, at(0), Duration::from_millis(left.into()));
            timers.get(key)
        });
        // The second comes out of order, and waits for the first; the last has a second at most.
        assert_eq!(armed, [400, 400, 500, 1000].map(|millis| Some((Wait::Short, at(millis)))));
        timers.arm(Wait::Short, 1, at(0));
        assert!(due(&mut timers, at(399)).is_empty());
        assert_eq!(due(&mut timers, at(1000)), [400, 300, 500, 9000, 1]);
    }

    #[test]
    fn fires_in_deadline_order_across_classes_and_never_early() {
        let mut timers = timers();
        timers.arm(Wait::Long, 1, at(0));
        timers.arm(Wait::Short, 2, at(10));
        timers.arm(Wait::Short, 3, at(59_500));
        assert_eq!(timers.next_deadline(), Some(at(1050)), "rounded up to the grain");
        assert!(due(&mut timers, at(1049)).is_empty());
        assert_eq!(due(&mut timers, at(1050)), [2]);
        assert_eq!(due(&mut timers, at(70_000)), [1, 3]);
        assert_eq!((timers.next_deadline(), timers.len()), (None, 0));
    }

    #[test]
    fn rearming_moves_to_the_back() {
        let mut timers = timers();
        let first = timers.arm(Wait::Short, 1, at(0));
        timers.arm(Wait::Short, 2, at(100));
        assert!(timers.rearm(first, at(200)));
        assert_eq!(due(&mut timers, at(1100)), [2]);
        assert!(due(&mut timers, at(1150)).is_empty());
        assert_eq!(due(&mut timers, at(1200)), [1]);
    }

    #[test]
    fn rearming_or_cancelling_what_has_fired_does_nothing() {
        let mut timers = timers();
        let old = timers.arm(Wait::Short, 1, at(0));
        assert_eq!(due(&mut timers, at(1000)), [1]);
        let new = timers.arm(Wait::Short, 2, at(1000));
        assert_eq!(old.index(), new.index());
        assert!(!timers.rearm(old, at(1500)) && !timers.cancel(old));
        assert_eq!(due(&mut timers, at(2000)), [2]);
    }

    #[test]
    fn cancelling_at_either_end_and_in_the_middle_keeps_the_rest() {
        for gone in 0..3 {
            let mut timers = timers();
            let keys: Vec<_> = (0..3).map(|n| timers.arm(Wait::Short, n, at(0))).collect();
            assert!(timers.cancel(keys[gone as usize]));
            let rest: Vec<_> = (0..3).filter(|n| *n != gone).collect();
            assert_eq!(due(&mut timers, at(1000)), rest);
        }
    }

    #[test]
    fn a_million_timers_come_and_go_without_leaving_anything() {
        let mut timers = timers();
        let keys: Vec<_> = (0..1_000_000).map(|n| timers.arm(Wait::Long, n, at(0))).collect();
        for key in &keys {
            assert!(timers.rearm(*key, at(500)));
        }
        assert_eq!(due(&mut timers, at(60_400)).len(), 0);
        assert_eq!(due(&mut timers, at(60_500)).len(), 1_000_000);
        assert_eq!(timers.bytes(), 0);
    }

    #[test]
    fn a_timeout_beyond_the_end_of_time_is_the_end_of_time() {
        let mut timers = Timers::new(&[(Wait::Short, Duration::MAX), (Wait::Long, Duration::MAX)]);
        timers.arm(Wait::Short, 1, at(1));
        timers.arm(Wait::Short, 2, at(2));
        assert_eq!(timers.next_deadline(), Some(Mono::from_micros(u64::MAX)));
    }
}
