//! Deadlines, threaded into one list for each class of timeout.
//!
//! Owns the order of the deadlines: [`Deadlines`] for entries that hold their own, and [`Timers`]
//! for those that do not. Must not know what happens when a timer expires: the caller gets it back
//! as a value. The invariant: every list is in deadline order. It holds because a class has one
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

impl<T> Waiting<Armed> for TimerEntry<T> {
    fn deadline(&self) -> Mono {
        self.deadline
    }

    fn set_deadline(&mut self, deadline: Mono) {
        self.deadline = deadline;
    }
}

/// An entry that holds a deadline, and is on a list of [`Deadlines`] until the deadline.
pub trait Waiting<K>: Linked<K> {
    /// The deadline.
    fn deadline(&self) -> Mono;
    /// The same, for [`Deadlines`] to change.
    fn set_deadline(&mut self, deadline: Mono);
}

/// The deadlines of the entries of one [`Slots`], each of which has at most one.
///
/// The caller keeps the class of each, and names it again to change or cancel the deadline.
pub struct Deadlines<K> {
    /// The list of each class, at the index that is the class's number.
    lists: Vec<List<K>>,
    /// The number of entries on the lists.
    len: usize,
}

impl<K> Deadlines<K> {
    /// Arms the deadline of an entry that has none, after the timeout of its class.
    pub fn arm<T: Waiting<K>>(
        &mut self,
        slots: &mut Slots<T, K>,
        key: Key<K>,
        class: (usize, Duration),
        now: Mono,
    ) {
        let (class, timeout) = class;
        self.insert(slots, key, class, deadline(now, timeout));
    }

    fn insert<T: Waiting<K>>(
        &mut self,
        slots: &mut Slots<T, K>,
        key: Key<K>,
        class: usize,
        deadline: Mono,
    ) {
        debug_assert!(self.last(slots, class) <= deadline, "the monotonic clock went back");
        let Some(entry) = slots.get_mut(key) else { return };
        entry.set_deadline(deadline);
        if self.lists.len() <= class {
            self.lists.resize_with(class + 1, List::default);
        }
        self.lists[class].push_back(slots, key);
        self.len += 1;
    }

    /// Restarts the timeout of an entry of this class, which is armed.
    pub fn rearm<T: Waiting<K>>(
        &mut self,
        slots: &mut Slots<T, K>,
        key: Key<K>,
        class: (usize, Duration),
        now: Mono,
    ) {
        let (class, timeout) = class;
        let deadline = deadline(now, timeout);
        let Some(entry) = slots.get_mut(key) else { return };
        if entry.deadline() == deadline && entry.links().is_last() {
            return; // Armed within the same grain: the usual case of a busy connection.
        }
        entry.set_deadline(deadline);
        let list = &mut self.lists[class];
        list.remove(slots, key);
        list.push_back(slots, key);
    }

    /// Cancels the deadline of an entry of this class, which is armed.
    pub fn cancel<T: Waiting<K>>(&mut self, slots: &mut Slots<T, K>, key: Key<K>, class: usize) {
        self.lists[class].remove(slots, key);
        self.len -= 1;
    }

    /// The earliest deadline.
    pub fn next<T: Waiting<K>>(&self, slots: &Slots<T, K>) -> Option<Mono> {
        self.heads(slots).map(|(deadline, ..)| deadline).min()
    }

    /// Takes one entry whose deadline has come off its list, the most overdue first.
    pub fn pop_due<T: Waiting<K>>(&mut self, slots: &mut Slots<T, K>, now: Mono) -> Option<Key<K>> {
        let (deadline, class, key) = self.heads(slots).min_by_key(|(deadline, ..)| *deadline)?;
        if deadline > now {
            return None;
        }
        self.cancel(slots, key, class);
        Some(key)
    }

    /// The number of deadlines to come.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first entry of each class that has one.
    fn heads<T: Waiting<K>>(
        &self,
        slots: &Slots<T, K>,
    ) -> impl Iterator<Item = (Mono, usize, Key<K>)> {
        self.lists.iter().enumerate().filter_map(|(class, list)| {
            let key = list.first()?;
            Some((slots.get(key)?.deadline(), class, key))
        })
    }

    /// The last deadline of a class.
    fn last<T: Waiting<K>>(&self, slots: &Slots<T, K>, class: usize) -> Mono {
        let last = self.lists.get(class).and_then(List::last).and_then(|last| slots.get(last));
        last.map(T::deadline).unwrap_or_default()
    }

    /// Panics unless every list is in order, with its entries of the class that `class_of` names.
    pub fn check<T: Waiting<K>>(
        &self,
        slots: &Slots<T, K>,
        class_of: impl Fn(&T) -> Option<usize>,
    ) {
        let mut count = 0;
        for (class, list) in self.lists.iter().enumerate() {
            list.check(slots);
            let mut before = Mono::ZERO;
            for entry in list.iter(slots).filter_map(|key| slots.get(key)) {
                holds!(before <= entry.deadline(), "a list is in deadline order");
                holds!(class_of(entry) == Some(class), "an entry is on the list of its class");
                before = entry.deadline();
                count += 1;
            }
        }
        agree!(count, self.len, "the number of deadlines");
    }
}

// By hand: `derive` would require the same traits of `K`.
impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines { lists: Vec::new(), len: 0 }
    }
}

/// The armed timers of kind `T`.
pub struct Timers<T: Timer> {
    config: T::Config,
    slots: Slots<TimerEntry<T>, Armed>,
    deadlines: Deadlines<Armed>,
}

impl<T: Timer> Timers<T> {
    /// No timers. `config` is where [`Timer::class`] finds the timeouts.
    pub fn new(config: T::Config) -> Self {
        Timers { config, slots: Slots::default(), deadlines: Deadlines::default() }
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
        let last = self.deadlines.last(&self.slots, class);
        self.insert(timer, class, deadline(now, remaining.min(timeout)).max(last))
    }

    fn insert(&mut self, timer: T, class: usize, deadline: Mono) -> TimerKey {
        let key = self.slots.insert(TimerEntry { deadline, timer, links: Links::default() });
        self.deadlines.insert(&mut self.slots, key, class, deadline);
        key
    }

    /// An armed timer and its deadline.
    pub fn get(&self, key: TimerKey) -> Option<(T, Mono)> {
        self.slots.get(key).map(|entry| (entry.timer, entry.deadline))
    }

    /// Restarts an armed timer. False if it has expired or was cancelled.
    pub fn rearm(&mut self, key: TimerKey, now: Mono) -> bool {
        let Some(entry) = self.slots.get(key) else {
            return false;
        };
        let class = entry.timer.class(&self.config);
        self.deadlines.rearm(&mut self.slots, key, class, now);
        true
    }

    /// Disarms a timer. False if it has expired or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> bool {
        let Some(entry) = self.slots.get(key) else {
            return false;
        };
        let (class, _) = entry.timer.class(&self.config);
        self.deadlines.cancel(&mut self.slots, key, class);
        self.slots.remove(key).is_some()
    }

    /// The earliest deadline; `None` if no timer is armed.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.next(&self.slots)
    }

    /// Removes one timer whose deadline has come, the most overdue first.
    pub fn pop_due(&mut self, now: Mono) -> Option<T> {
        let key = self.deadlines.pop_due(&mut self.slots, now)?;
        self.slots.remove(key).map(|entry| entry.timer)
    }

    /// Whether a timer of this class is armed.
    pub fn has(&self, class: usize) -> bool {
        self.deadlines.lists.get(class).is_some_and(|list| list.first().is_some())
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
            timers.deadlines.check(&timers.slots, |_| Some(0));
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
