//! Addresses that have guessed a room's password wrongly.
//!
//! Owns one table for all rooms: the meter of each address in each room. Must not know the
//! passwords or the limits, which `password` applies. The invariant: an entry is forgotten
//! [`Pace::idle_after`] after its last wrong guess, when its meter is idle, or with its room, and
//! the table has at most [`GUESSERS_MAX`] entries, so that clients cannot make it grow.

use std::collections::BTreeSet;

use super::address::Address;
use super::heap::tree_bytes;
use super::keys::RoomKey;
use crate::clock::Mono;
use crate::rate::{Meter, Pace};
use crate::slots::{Key, Linked, Links, List, Slots};
use crate::timers::TimerKey;

/// Most entries, in all rooms together. The table takes at most 600 KB.
///
/// In a full table, a new entry replaces the one whose last wrong guess is the longest ago. The
/// forgotten address may guess in that room again, which the room's own limit still bounds.
/// Refusing passwords from further addresses would let an attacker with many addresses lock every
/// room of the server.
pub(super) const GUESSERS_MAX: usize = 4096;

/// An address in a room. All exempt peers share `None`.
type Guesser = (RoomKey, Option<Address>);

/// The meters of wrong guesses.
#[derive(Default)]
pub(super) struct Guesses {
    entries: Slots<WrongGuesses, GuessTag>,
    /// The entries' [`set_key`]s, in the order of rooms, so that a room that ends finds its own.
    keys: BTreeSet<u128>,
    /// The entries in the order of their last wrong guesses, and thus of their deadlines.
    order: List<GuessTag>,
    /// Armed while there are entries, at the latest for the first deadline.
    pub timer: Option<TimerKey>,
}

/// The kind of the entries' keys.
enum GuessTag {}

/// The wrong guesses of one address in one room.
struct WrongGuesses {
    guesser: Guesser,
    meter: Meter,
    /// When the entry is forgotten.
    deadline: Mono,
    links: Links<GuessTag>,
}

/// The bits of an entry's index in its [`set_key`], and those of address and index together.
const INDEX_MAX: u128 = (1 << 30) - 1;
const ROOM_MAX: u128 = (1 << (30 + Address::RANK_BITS)) - 1;

/// Orders entries by room, then by address.
fn set_key((room, from): Guesser, index: usize) -> u128 {
    (room.index() as u128) << 96 | Address::rank(from) << 30 | index as u128
}

impl Linked<GuessTag> for WrongGuesses {
    fn links(&self) -> &Links<GuessTag> {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links<GuessTag> {
        &mut self.links
    }
}

impl Guesses {
    /// The meter of an address in a room; an idle one if the table has none.
    pub fn meter(&self, room: RoomKey, from: Option<Address>) -> Meter {
        let entry = self.find((room, from)).and_then(|key| self.entries.get(key));
        entry.map(|entry| entry.meter).unwrap_or_default()
    }

    /// Stores a meter that a wrong guess was charged to. Stores none that is idle: `pace` is
    /// unlimited then.
    pub fn remember(
        &mut self,
        room: RoomKey,
        from: Option<Address>,
        meter: Meter,
        pace: Pace,
        now: Mono,
    ) {
        if meter.is_idle(now) {
            return;
        }
        let (guesser, deadline) = ((room, from), now.after(pace.idle_after()));
        let known = self.find(guesser);
        if let Some((key, entry)) = known.and_then(|key| Some((key, self.entries.get_mut(key)?))) {
            (entry.meter, entry.deadline) = (meter, deadline);
            self.order.remove(&mut self.entries, key);
            self.order.push_back(&mut self.entries, key);
            return;
        }
        if self.keys.len() >= GUESSERS_MAX {
            self.forget_first();
        }
        let entry = WrongGuesses { guesser, meter, deadline, links: Links::default() };
        let key = self.entries.insert(entry);
        self.keys.insert(set_key(guesser, key.index()));
        self.order.push_back(&mut self.entries, key);
    }

    /// The first deadline; `None` if there are no entries.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.order.first().and_then(|key| self.entries.get(key)).map(|entry| entry.deadline)
    }

    /// Forgets the entries whose deadlines have come.
    pub fn forget(&mut self, now: Mono) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.forget_first();
        }
    }

    /// Forgets the entries of a room that has ended.
    pub fn forget_room(&mut self, room: RoomKey) {
        let first = set_key((room, None), 0);
        while let Some(found) = self.keys.range(first..=first | ROOM_MAX).next() {
            let Some(key) = self.entries.key_at((found & INDEX_MAX) as usize) else { break };
            self.remove(key);
        }
    }

    fn find(&self, guesser: Guesser) -> Option<Key<GuessTag>> {
        let first = set_key(guesser, 0);
        let found = self.keys.range(first..=first | INDEX_MAX);
        let mut found = found.filter_map(|key| self.entries.key_at((key & INDEX_MAX) as usize));
        // Another entry can have the index of an earlier room in its slot.
        found.find(|key| self.entries.get(*key).is_some_and(|entry| entry.guesser == guesser))
    }

    fn forget_first(&mut self) {
        if let Some(key) = self.order.first() {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: Key<GuessTag>) {
        self.order.remove(&mut self.entries, key);
        if let Some(entry) = self.entries.remove(key) {
            self.keys.remove(&set_key(entry.guesser, key.index()));
        }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        self.entries.bytes() + tree_bytes::<u128, ()>(self.keys.len())
    }

    /// Panics if the table contradicts itself, or has entries of a room without a lock.
    pub fn check(&self, is_locked: impl Fn(RoomKey) -> bool) {
        holds!(self.len() <= GUESSERS_MAX, "the table of guesses is bounded");
        agree!(self.entries.len(), self.len());
        self.order.check(&self.entries);
        let mut last = Mono::ZERO;
        let mut count = 0;
        for key in self.order.iter(&self.entries) {
            let entry = self.entries.get(key).expect("a listed entry exists");
            agree!(self.find(entry.guesser), Some(key));
            holds!(is_locked(entry.guesser.0), "guesses end with their room");
            holds!(last <= entry.deadline, "the guesses are in the order of their deadlines");
            (last, count) = (entry.deadline, count + 1);
        }
        agree!(count, self.len(), "every entry is on the list");
        agree!(self.timer.is_some(), count > 0, "a timer is armed while there are guesses");
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    const PACE: Pace = Pace::new(6, Duration::from_secs(60), 5);

    fn at(seconds: u64) -> Mono {
        Mono::from_micros(seconds * 1_000_000)
    }

    /// A wrong guess. Returns whether it was within the limit.
    fn guess(guesses: &mut Guesses, room: RoomKey, number: usize, now: Mono) -> bool {
        let from = Some(Address::of(IpAddr::from((number as u32).to_be_bytes())));
        let mut meter = guesses.meter(room, from);
        if PACE.take(&mut meter, now).is_err() {
            return false;
        }
        guesses.remember(room, from, meter, PACE, now);
        true
    }

    #[test]
    fn an_entry_is_forgotten_once_its_meter_is_certainly_idle() {
        let mut rooms = Slots::default();
        let (mut guesses, room) = (Guesses::default(), rooms.insert(()));
        assert!(guess(&mut guesses, room, 1, at(0)));
        assert!(guess(&mut guesses, room, 2, at(1)));
        (0..4).for_each(|_| assert!(guess(&mut guesses, room, 1, at(2))));
        assert!(!guess(&mut guesses, room, 1, at(2)), "refused guesses do not count");
        assert_eq!(guesses.next_deadline(), Some(at(51)), "the other address guessed earlier");
        guesses.forget(at(51));
        assert_eq!((guesses.len(), guesses.next_deadline()), (1, Some(at(52))));
        guesses.forget(at(52));
        assert_eq!((guesses.len(), guesses.bytes(), guesses.next_deadline()), (0, 0, None));
    }

    #[test]
    fn an_unlimited_rate_needs_no_entries() {
        let mut rooms = Slots::default();
        let (mut guesses, room) = (Guesses::default(), rooms.insert(()));
        guesses.remember(room, None, Meter::default(), Pace::UNLIMITED, at(1));
        assert_eq!((guesses.len(), guesses.bytes()), (0, 0));
    }

    #[test]
    fn a_full_table_forgets_the_address_that_has_not_guessed_for_longest() {
        let mut rooms = Slots::default();
        let (mut guesses, first) = (Guesses::default(), rooms.insert(()));
        (0..5).for_each(|_| assert!(guess(&mut guesses, first, 0, at(0))));
        (0..5).for_each(|_| assert!(guess(&mut guesses, first, 1, at(0))));
        let others: Vec<RoomKey> = (0..10).map(|_| rooms.insert(())).collect();
        let mut most = 0;
        for number in 2..20 * GUESSERS_MAX {
            assert!(guess(&mut guesses, others[number % 10], number, at(1)));
            assert!(guesses.len() <= GUESSERS_MAX);
            most = most.max(guesses.bytes());
            if number + 1 == GUESSERS_MAX {
                assert!(!guess(&mut guesses, first, 0, at(1)), "nothing was forgotten yet");
            }
        }
        assert!((300_000..600_000).contains(&most), "{most} bytes");
        assert!(guess(&mut guesses, first, 0, at(1)), "the entry was replaced");
        guesses.forget(at(51));
        assert_eq!((guesses.len(), guesses.bytes()), (0, 0));
    }

    #[test]
    fn a_room_that_ends_takes_its_own_entries_with_it() {
        let mut rooms = Slots::default();
        let mut guesses = Guesses::default();
        let ids: Vec<RoomKey> = (0..3).map(|_| rooms.insert(())).collect();
        for (place, room) in ids.iter().enumerate() {
            guesses.remember(*room, None, Meter::default(), PACE, at(0)); // Idle: not stored.
            (0..20 + place).for_each(|number| assert!(guess(&mut guesses, *room, number, at(0))));
        }
        guesses.forget_room(ids[1]);
        assert_eq!(guesses.len(), 20 + 22);
        guesses.forget_room(ids[1]);
        guesses.forget_room(ids[2]);
        assert_eq!((guesses.len(), guesses.next_deadline()), (20, Some(at(50))));
        guesses.forget_room(ids[0]);
        assert_eq!((guesses.len(), guesses.bytes(), guesses.next_deadline()), (0, 0, None));
    }

    #[test]
    fn a_room_in_the_slot_of_an_ended_one_has_no_guesses() {
        let mut rooms = Slots::default();
        let (mut guesses, ended) = (Guesses::default(), rooms.insert(()));
        (0..5).for_each(|_| assert!(guess(&mut guesses, ended, 1, at(0))));
        rooms.remove(ended);
        let next = rooms.insert(());
        assert_eq!(next.index(), ended.index());
        assert!(guess(&mut guesses, next, 1, at(0)));
    }
}
