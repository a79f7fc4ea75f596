//! Deadlines: a slab of timers, threaded into one list for each class of timeout.
//!
//! Owns the deadlines. Must not know what happens when a timer expires: the caller gets it back as
//! a value. The invariant: every list is in deadline order. It holds because a class has one
//! timeout for the life of the process and the monotonic clock does not go back, so that the timer
//! armed last expires last. (`Timers::arm_within` has a shorter timeout, and raises its deadline to
//! the last of the list.) Therefore arming, re-arming and cancelling cost O(1), and the cost of a
//! sweep is proportional to the number of expired timers.

use std::time::Duration;

use crate::clock::Mono;
use crate::slots::{Key, Linked, Links, List, Slots};

/// Deadlines are rounded up to a multiple of this, so that neighbours expire in one wake-up.
pub const GRAIN: Duration = Duration::from_millis(50);

/// The value of a timer: why something waits, and the key of what waits, as an enum or a pair.
///
/// An enum with the keys in its variants lets the compiler tie each reason to its kind of key.
pub trait Timer: Copy {
    /// Where the timeouts are configured.
    type Config;
    /// The number of the timer's class, from 0, and the timeout of all timers of that class.
    fn class(self, config: &Self::Config) -> (usize, Duration);
}

/// Tags the type of timer keys, so that the type of the entries stays private.
pub enum Armed {}

/// A handle on an armed timer. Stale once the timer has expired or was cancelled.
pub type TimerKey = Key<Armed>;

struct TimerEntry<T> {
    deadline: Mono,
    timer: T,
    links: Links<Armed>,
}

impl<T> Linked<Armed> for TimerEntry<T> {
    fn links(&self) -> &Links<Armed> {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links<Armed> {
        &mut self.links
    }
}

// The table of bytes in `ledger` rests on this size. A connection's timer is a byte and a key.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<TimerEntry<(TimerKey, u8)>>() == 40);

/// The armed timers of kind `T`.
pub struct Timers<T: Timer> {
    config: T::Config,
    slots: Slots<TimerEntry<T>, Armed>,
    /// The list of each class, at the index that is the class's number.
    lists: Vec<List<Armed>>,
}

impl<T: Timer> Timers<T> {
    /// No timers. `config` is where [`Timer::class`] finds the timeouts.
    pub fn new(config: T::Config) -> Self {
        Timers { config, slots: Slots::default(), lists: Vec::new() }
    }

    /// Arms a timer: [`Timers::pop_due`] returns it once its class's timeout has passed.
    pub fn arm(&mut self, timer: T, now: Mono) -> TimerKey {
        let (class, timeout) = timer.class(&self.config);
        self.insert(timer, class, deadline(now, timeout))
    }

    /// Arms a timer that expires after `remaining` instead, but at most after its class's timeout.
    ///
    /// For timers carried over from another process. To keep the order, a timer does not expire
    /// before those of its class that were armed before it: carry over the earliest deadline first.
    pub fn arm_within(&mut self, timer: T, now: Mono, remaining: Duration) -> TimerKey {
        let (class, timeout) = timer.class(&self.config);
        let deadline = deadline(now, remaining.min(timeout)).max(self.last_deadline(class));
        self.insert(timer, class, deadline)
    }

    fn insert(&mut self, timer: T, class: usize, deadline: Mono) -> TimerKey {
        debug_assert!(self.last_deadline(class) <= deadline, "the monotonic clock went back");
        let key = self.slots.insert(TimerEntry { deadline, timer, links: Links::default() });
        if self.lists.len() <= class {
            self.lists.resize_with(class + 1, List::default);
        }
        self.lists[class].push_back(&mut self.slots, key);
        key
    }

    /// An armed timer and its deadline.
    pub fn get(&self, key: TimerKey) -> Option<(T, Mono)> {
        self.slots.get(key).map(|entry| (entry.timer, entry.deadline))
    }

    /// Restarts an armed timer. False if it has expired or was cancelled.
    pub fn rearm(&mut self, key: TimerKey, now: Mono) -> bool {
        let Some(entry) = self.slots.get_mut(key) else {
            return false;
        };
        let (class, timeout) = entry.timer.class(&self.config);
        let deadline = deadline(now, timeout);
        if entry.deadline == deadline && entry.links.is_last() {
            return true; // Armed within the same grain: the usual case of a busy connection.
        }
        entry.deadline = deadline;
        let list = &mut self.lists[class];
        list.remove(&mut self.slots, key);
        list.push_back(&mut self.slots, key);
        true
    }

    /// Disarms a timer. False if it has expired or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> bool {
        self.take(key).is_some()
    }

    /// The earliest deadline; `None` if no timer is armed.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.heads().map(|(deadline, _)| deadline).min()
    }

    /// Removes one timer whose deadline has come, the most overdue first.
    pub fn pop_due(&mut self, now: Mono) -> Option<T> {
        let (deadline, key) = self.heads().min_by_key(|(deadline, _)| *deadline)?;
        if deadline > now { None } else { self.take(key) }
    }

    /// The number of armed timers.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True if no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
    }

    /// The first timer of each class that has one.
    fn heads(&self) -> impl Iterator<Item = (Mono, TimerKey)> {
        self.lists.iter().filter_map(|list| {
            let key = list.first()?;
            Some((self.slots.get(key)?.deadline, key))
        })
    }

    fn take(&mut self, key: TimerKey) -> Option<T> {
        let (class, _) = self.slots.get(key)?.timer.class(&self.config);
        self.lists[class].remove(&mut self.slots, key);
        self.slots.remove(key).map(|entry| entry.timer)
    }

    fn last_deadline(&self, class: usize) -> Mono {
        let last = self.lists.get(class).and_then(List::last).and_then(|last| self.slots.get(last));
        last.map(|entry| entry.deadline).unwrap_or_default()
    }
}

/// Rounds up, so that no timer expires early.
fn deadline(now: Mono, timeout: Duration) -> Mono {
    let grain = GRAIN.as_micros() as u64;
    let due = now.after(timeout).micros();
    Mono::from_micros(due.checked_next_multiple_of(grain).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Test {
        Short(u32),
        Long(u32),
    }

    impl Timer for Test {
        type Config = [Duration; 2];
        fn class(self, [short, long]: &[Duration; 2]) -> (usize, Duration) {
            match self {
                Test::Short(_) => (0, *short),
                Test::Long(_) => (1, *long),
            }
        }
    }

    fn timers() -> Timers<Test> {
        Timers::new([SECOND, MINUTE])
    }

    fn at(millis: u64) -> Mono {
        Mono::from_micros(millis * 1000)
    }

    fn due(timers: &mut Timers<Test>, now: Mono) -> Vec<u32> {
        let due = std::iter::from_fn(|| timers.pop_due(now));
        due.map(|(Test::Short(owner) | Test::Long(owner))| owner).collect()
    }

    #[test]
    fn a_timer_carried_over_has_its_remaining_time_and_at_most_its_timeout() {
        let mut timers = timers();
        let millis = [400, 300, 500, 9000];
        let armed = millis.map(|left| {
            let timer = Test::Short(left);
            let key = timers.arm_within(timer, at(0), Duration::from_millis(left.into()));
            timers.get(key).map(|(_, deadline)| deadline)
        });
        // The second is out of order and expires with the first; the last has one second at most.
        assert_eq!(armed, [400, 400, 500, 1000].map(|millis| Some(at(millis))));
        timers.arm(Test::Short(1), at(0));
        assert!(due(&mut timers, at(399)).is_empty());
        assert_eq!(due(&mut timers, at(1000)), [400, 300, 500, 9000, 1]);
    }

    #[test]
    fn timers_expire_in_deadline_order_across_classes_and_never_early() {
        let mut timers = timers();
        timers.arm(Test::Long(1), at(0));
        timers.arm(Test::Short(2), at(10));
        timers.arm(Test::Short(3), at(59_500));
        assert_eq!(timers.next_deadline(), Some(at(1050)), "rounded up to the grain");
        assert!(due(&mut timers, at(1049)).is_empty());
        assert_eq!(due(&mut timers, at(1050)), [2]);
        assert_eq!(due(&mut timers, at(70_000)), [1, 3]);
        assert_eq!((timers.next_deadline(), timers.len()), (None, 0));
    }

    #[test]
    fn a_rearmed_timer_expires_last() {
        let mut timers = timers();
        let first = timers.arm(Test::Short(1), at(0));
        timers.arm(Test::Short(2), at(100));
        assert!(timers.rearm(first, at(200)));
        assert_eq!(due(&mut timers, at(1100)), [2]);
        assert!(due(&mut timers, at(1150)).is_empty());
        assert_eq!(due(&mut timers, at(1200)), [1]);
    }

    #[test]
    fn an_expired_timer_can_be_neither_rearmed_nor_cancelled() {
        let mut timers = timers();
        let old = timers.arm(Test::Short(1), at(0));
        assert_eq!(due(&mut timers, at(1000)), [1]);
        let new = timers.arm(Test::Short(2), at(1000));
        assert_eq!(old.index(), new.index());
        assert!(!timers.rearm(old, at(1500)) && !timers.cancel(old));
        assert_eq!(due(&mut timers, at(2000)), [2]);
    }

    #[test]
    fn cancelling_at_either_end_and_in_the_middle_keeps_the_others() {
        for cancelled in 0..3 {
            let mut timers = timers();
            let keys: Vec<_> = (0..3).map(|n| timers.arm(Test::Short(n), at(0))).collect();
            assert!(timers.cancel(keys[cancelled as usize]));
            timers.lists[0].check(&timers.slots);
            let others: Vec<_> = (0..3).filter(|n| *n != cancelled).collect();
            assert_eq!(due(&mut timers, at(1000)), others);
        }
    }

    #[test]
    fn a_hundred_thousand_timers_leave_no_memory_behind() {
        let mut timers = timers();
        let keys: Vec<_> = (0..100_000).map(|n| timers.arm(Test::Long(n), at(0))).collect();
        for key in &keys {
            assert!(timers.rearm(*key, at(500)));
        }
        assert_eq!(due(&mut timers, at(60_400)).len(), 0);
        assert_eq!(due(&mut timers, at(60_500)).len(), 100_000);
        assert_eq!(timers.bytes(), 0);
    }

    #[test]
    fn a_timeout_beyond_the_end_of_time_is_the_end_of_time() {
        let mut timers = Timers::new([Duration::MAX; 2]);
        timers.arm(Test::Short(1), at(1));
        timers.arm(Test::Short(2), at(2));
        assert_eq!(timers.next_deadline(), Some(Mono::from_micros(u64::MAX)));
    }
}
