//! The one count of bytes that clients make us keep, held against the ceiling.
//!
//! Owns the totals, and the order in which things give way when they near the ceiling ([`Pressure`]).
//! Must never know what the bytes are for. The invariant: what a [`Tally`] has
//! added it takes back when it is dropped, so whatever frees memory also un-counts it.
//!
//! What one of 10,000 idle sockets costs, in bytes on a 64-bit machine: each with a session of its
//! own, ten in a room, where each has come in and said one thing. What is a type's is held by an
//! assertion beside the type; the rest is what its allocations take.
//!
//! | what | bytes |
//! |---|---|
//! | `server`: the slot of a `Connection` (216), its `Ws` (56), the timer that will ping | 232 + 64 + 56 |
//! | `chat`: the slot of a `Session` (136), its id, its name, its place in the map of ids | 144 + 48 + 48 + 28 |
//! | the slots of a `Member` (80) and an `Attachment` (56) | 96 + 72 |
//! | a tenth of a `Room` (368), of its lists and of its place in the maps | 38 + 150 |
//! | two places in the history (`Entry`, 48), with room for a fifth more | 115 |
//! | two messages as they were sent: 235 of a join, 275 of a chat | 510 |
//! | what is beside them: two counts, an owner, and what an allocation takes | 250 |
//! | together | 1,850 |
//!
//! Measured are some 1,770: messages of one tick share what is beside them. While it is idle it has
//! no buffer, no queue and none of tungstenite's state. With TLS on its line it takes 7,400 more,
//! for which `net::tls` accounts.
//!
//! The totals are atomics behind an `Arc`, though no second thread exists: a frame's bytes are
//! shared by a history and many outboxes, and are freed wherever the last of them lets go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// What bytes are kept for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Account {
    /// Connections: their slots, what they have received and not yet used, their queues.
    Connections,
    /// Sessions, and what is remembered per address.
    Sessions,
    /// Rooms, their members, the index of their histories.
    Rooms,
    /// Encoded frames, in a history or an outbox, each counted once.
    Frames,
}

impl Account {
    /// All accounts.
    pub const ALL: [Account; 4] =
        [Account::Connections, Account::Sessions, Account::Rooms, Account::Frames];

    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Account::Connections => "connections",
            Account::Sessions => "sessions",
            Account::Rooms => "rooms",
            Account::Frames => "frames",
        }
    }
}

/// What gives way when the total nears the ceiling (`--max-memory`), in this order.
///
/// Between a stage's beginning and the next one's lies what a tick can add before anybody looks
/// again; between its beginning and its end what keeps it from beginning anew with every byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// The oldest messages of the rooms that have been silent longest are forgotten.
    Histories,
    /// No rooms and sessions are opened: 503 `server_full`.
    Creations,
    /// No connections are taken in, nor upgraded, and nobody joins another room: 503.
    Connections,
    /// Whoever has us keep most, unread or half sent, is closed: 1013 `server full`, or 503. And
    /// nothing is read before that is done.
    Readers,
}

impl Pressure {
    /// All of them, in their order.
    pub const ALL: [Pressure; 4] =
        [Pressure::Histories, Pressure::Creations, Pressure::Connections, Pressure::Readers];

    /// Where it begins and where it ends, in hundredths of the ceiling.
    const fn bounds(self) -> (usize, usize) {
        match self {
            Pressure::Histories => (80, 78),
            Pressure::Creations => (85, 82),
            Pressure::Connections => (90, 87),
            Pressure::Readers => (95, 92),
        }
    }
}

/// A handle on the totals. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Ledger(Arc<Totals>);

struct Totals {
    accounts: [AtomicUsize; Account::ALL.len()],
    ceiling: usize,
    /// Which stages have begun and not ended.
    begun: [AtomicBool; Pressure::ALL.len()],
}

impl Ledger {
    /// Nothing counted yet, and no ceiling.
    pub fn new() -> Ledger {
        Ledger::with_ceiling(usize::MAX)
    }

    /// Nothing counted yet.
    pub fn with_ceiling(bytes: usize) -> Ledger {
        let totals =
            Totals { accounts: Default::default(), ceiling: bytes, begun: Default::default() };
        Ledger(Arc::new(totals))
    }

    /// A tally of zero on `account`.
    pub fn tally(&self, account: Account) -> Tally {
        Tally { ledger: self.clone(), account, bytes: 0 }
    }

    /// The same bytes, counted on `account` until the last who shares them lets go. `beside`: what
    /// is allocated with them.
    pub fn charge(&self, account: Account, bytes: Box<[u8]>, beside: usize) -> Bytes {
        struct Charged(Box<[u8]>, #[allow(dead_code, reason = "counts until dropped")] Tally);
        impl AsRef<[u8]> for Charged {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        /// The shared counter and function that `Bytes` keeps beside an owner.
        const OVERHEAD: usize = allocation(16 + size_of::<Charged>());
        let mut tally = self.tally(account);
        tally.set(allocation(bytes.len()) + OVERHEAD + beside);
        Bytes::from_owner(Charged(bytes, tally))
    }

    /// Bytes counted on one account.
    pub fn bytes(&self, account: Account) -> usize {
        self.0.accounts[account as usize].load(Relaxed)
    }

    /// Bytes counted on all accounts.
    pub fn total(&self) -> usize {
        self.0.accounts.iter().map(|total| total.load(Relaxed)).sum()
    }

    /// What the total is held against.
    pub fn ceiling(&self) -> usize {
        self.0.ceiling
    }

    /// Whether the total is so near the ceiling that this has to give way.
    pub fn is_at(&self, stage: Pressure) -> bool {
        let (begin, end) = stage.bounds();
        let begun = &self.0.begun[stage as usize];
        let bound = if begun.load(Relaxed) { end } else { begin };
        let is_at = self.total() > self.0.ceiling / 100 * bound;
        begun.store(is_at, Relaxed);
        is_at
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

/// What an allocation of so many bytes takes of the heap: glibc's keeps a word beside each, hands
/// out multiples of two words, and at least four.
pub const fn allocation(bytes: usize) -> usize {
    const WORD: usize = size_of::<usize>();
    match bytes {
        0 => 0,
        _ if bytes <= 3 * WORD => 4 * WORD,
        _ => (bytes + WORD).next_multiple_of(2 * WORD),
    }
}

/// One holder's share of an account.
pub struct Tally {
    ledger: Ledger,
    account: Account,
    bytes: usize,
}

impl Tally {
    /// Counts `bytes` instead of what was counted before.
    pub fn set(&mut self, bytes: usize) {
        let total = &self.ledger.0.accounts[self.account as usize];
        if bytes >= self.bytes {
            total.fetch_add(bytes - self.bytes, Relaxed);
        } else {
            total.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
    }

    /// Counts `after` bytes where `before` were counted: one part's growth or shrinking.
    pub fn change(&mut self, before: usize, after: usize) {
        debug_assert!(self.bytes >= before, "taking back more than was counted");
        self.set((self.bytes + after).saturating_sub(before));
    }

    /// Bytes counted here.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_tally_no_longer_counts() {
        let ledger = Ledger::new();
        let mut first = ledger.tally(Account::Rooms);
        let mut second = ledger.tally(Account::Rooms);
        let mut other = ledger.tally(Account::Frames);
        first.set(100);
        second.set(20);
        other.set(3);
        first.change(100, 50);
        assert_eq!((ledger.bytes(Account::Rooms), ledger.total()), (70, 73));
        drop(first);
        assert_eq!((ledger.bytes(Account::Rooms), ledger.total()), (20, 23));
        drop((second, other));
        assert_eq!(ledger.total(), 0);
    }

    #[test]
    fn a_stage_begins_above_its_bound_and_ends_at_a_lower_one() {
        let ledger = Ledger::with_ceiling(1000);
        let mut tally = ledger.tally(Account::Sessions);
        for (stage, (begin, end)) in Pressure::ALL.map(|stage| (stage, stage.bounds())) {
            assert!(end < begin);
            let steps = [(begin, false), (end + 1, false), (begin + 1, true), (begin, true)];
            for (hundredths, expected) in steps.into_iter().chain([(end + 1, true), (end, false)]) {
                tally.set(hundredths * 10);
                assert_eq!(ledger.is_at(stage), expected, "{stage:?} at {hundredths} %");
            }
        }
        assert!(Pressure::ALL.map(Pressure::bounds).is_sorted(), "one after the other");
    }

    #[test]
    fn without_a_ceiling_no_stage_begins() {
        let ledger = Ledger::new();
        let mut tally = ledger.tally(Account::Frames);
        tally.set(usize::MAX / 2);
        assert!(!Pressure::ALL.into_iter().any(|stage| ledger.is_at(stage)));
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn small_allocations_take_more_than_was_asked_for() {
        let taken = [0, 1, 24, 25, 40, 41, 1000].map(allocation);
        assert_eq!(taken, [0, 32, 32, 48, 48, 64, 1008]);
    }
}
