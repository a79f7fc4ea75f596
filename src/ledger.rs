//! The count of the bytes that the server keeps for clients, and the ceiling for this count.
//!
//! Owns the totals, and the order in which the server saves memory as the total approaches the
//! ceiling ([`Pressure`]). Must not know what the bytes are used for. The invariant: when a
//! [`Tally`] is dropped, it subtracts everything that it has added, so that freed memory is not
//! counted.
//!
//! The table shows the memory of one of 10,000 idle sockets, in bytes on a 64-bit machine. Each
//! socket has its own session and has sent one message; ten sockets share a room. The sizes of
//! types are asserted beside the types; the other figures include the allocator's rounding.
//!
//! | what | bytes |
//! |---|---|
//! | `server`: the slot of a `Connection` (216), its `Ws` (56), the ping timer | 232 + 64 + 56 |
//! | `chat`: the slot of a `Session` (136), its id, its name, its entry in the map of ids | 144 + 48 + 48 + 28 |
//! | the slots of a `Member` (72) and an `Attachment` (48) | 88 + 64 |
//! | a tenth of a `Feed` with its `Room` (376), of its lists and of its entries in maps | 39 + 150 |
//! | two history entries (`HistoryEntry`, 48), with a fifth of spare capacity | 115 |
//! | the frames of two messages: a join (235) and a chat message (275) | 510 |
//! | the overhead of these frames: reference counts, their owners, the allocator | 250 |
//! | sum | 1,836 |
//!
//! The measured total is about 80 less, because messages of one tick share their overhead. An idle
//! socket has no buffer, no queue and no tungstenite state. A socket with TLS takes 7,400 more,
//! which `net::tls` reports.
//!
//! The totals are atomics behind an `Arc`, although there is no second thread: [`Ledger::charge`]
//! puts a tally into a `Bytes`, and `Bytes::from_owner` requires `Send`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// The purpose for which bytes are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Account {
    /// Connections: their slots, their unprocessed input and their queues.
    Connections,
    /// Sessions, the usage of each address, and the domain's timers.
    Sessions,
    /// Rooms, their members, their histories without the frames, and the cached listings.
    Rooms,
    /// Encoded frames. A frame in a history and in many outboxes is counted once.
    Frames,
}

impl Account {
    /// All accounts.
    pub const ALL: [Account; 4] =
        [Account::Connections, Account::Sessions, Account::Rooms, Account::Frames];

    /// The account's name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Account::Connections => "connections",
            Account::Sessions => "sessions",
            Account::Rooms => "rooms",
            Account::Frames => "frames",
        }
    }
}

/// The stages of saving memory, which begin in this order as the total approaches the ceiling
/// (`--max-memory`).
///
/// The bounds of two stages are so far apart that one tick cannot cross both before the next check.
/// The bound at which a stage ends is lower, so that small changes do not switch it on and off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// The server drops the oldest messages of the rooms that have been silent longest.
    Histories,
    /// The server opens no rooms and no sessions: 503 `server_full`.
    Creations,
    /// The server refuses new connections, upgrades and joins: 503.
    Connections,
    /// The server closes the connections with the most unsent output and unfinished input: 1013
    /// `server full`, or 503. Until it has done so it reads no input.
    Readers,
}

impl Pressure {
    /// All stages, in the order in which they begin.
    pub const ALL: [Pressure; 4] =
        [Pressure::Histories, Pressure::Creations, Pressure::Connections, Pressure::Readers];

    /// The bounds at which the stage begins and ends, in percent of the ceiling.
    const fn bounds(self) -> (usize, usize) {
        match self {
            Pressure::Histories => (80, 78),
            Pressure::Creations => (85, 82),
            Pressure::Connections => (90, 87),
            Pressure::Readers => (95, 92),
        }
    }
}

/// A handle on the totals. Clones are cheap and share the totals.
#[derive(Clone)]
pub struct Ledger(Arc<Totals>);

struct Totals {
    accounts: [AtomicUsize; Account::ALL.len()],
    ceiling: usize,
    /// For each stage, whether it has begun and not ended.
    begun: [AtomicBool; Pressure::ALL.len()],
}

impl Ledger {
    /// A ledger without a ceiling.
    pub fn new() -> Ledger {
        Ledger::with_ceiling(usize::MAX)
    }

    /// A ledger with a ceiling.
    pub fn with_ceiling(bytes: usize) -> Ledger {
        let totals =
            Totals { accounts: Default::default(), ceiling: bytes, begun: Default::default() };
        Ledger(Arc::new(totals))
    }

    /// A tally for `account`, at zero.
    pub fn tally(&self, account: Account) -> Tally {
        Tally { ledger: self.clone(), account, bytes: 0 }
    }

    /// Shares `bytes`, and counts them on `account` until the last clone is dropped. `beside`:
    /// other bytes to count, which are freed at the same time.
    pub fn charge(&self, account: Account, bytes: Box<[u8]>, beside: usize) -> Bytes {
        struct Charged(Box<[u8]>, #[allow(dead_code, reason = "counts until dropped")] Tally);
        impl AsRef<[u8]> for Charged {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        /// `Bytes` allocates the owner together with a counter and a function pointer (16 bytes).
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

    /// The bound that the total should not exceed.
    pub fn ceiling(&self) -> usize {
        self.0.ceiling
    }

    /// Whether this stage has begun and not ended. Updates that state from the total.
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

/// The heap that an allocation of `bytes` takes. glibc adds one word and rounds up to a multiple of
/// two words, at least four words.
pub const fn allocation(bytes: usize) -> usize {
    const WORD: usize = size_of::<usize>();
    match bytes {
        0 => 0,
        _ if bytes <= 3 * WORD => 4 * WORD,
        _ => (bytes + WORD).next_multiple_of(2 * WORD),
    }
}

/// The part of an account that one holder has added.
pub struct Tally {
    ledger: Ledger,
    account: Account,
    bytes: usize,
}

impl Tally {
    /// Sets the number of counted bytes.
    pub fn set(&mut self, bytes: usize) {
        let total = &self.ledger.0.accounts[self.account as usize];
        if bytes >= self.bytes {
            total.fetch_add(bytes - self.bytes, Relaxed);
        } else {
            total.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
    }

    /// Counts `after` bytes instead of `before`, which are a part of the counted bytes.
    pub fn change(&mut self, before: usize, after: usize) {
        debug_assert!(self.bytes >= before, "subtracting more than was counted");
        self.set((self.bytes + after).saturating_sub(before));
    }

    /// The number of counted bytes.
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
            for (percent, expected) in steps.into_iter().chain([(end + 1, true), (end, false)]) {
                tally.set(percent * 10);
                assert_eq!(ledger.is_at(stage), expected, "{stage:?} at {percent} %");
            }
        }
        assert!(
            Pressure::ALL.map(Pressure::bounds).is_sorted(),
            "the stages begin one after the other"
        );
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
    fn small_allocations_take_more_than_requested() {
        let taken = [0, 1, 24, 25, 40, 41, 1000].map(allocation);
        assert_eq!(taken, [0, 32, 32, 48, 48, 64, 1008]);
    }
}
