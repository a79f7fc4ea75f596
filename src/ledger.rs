//! The one count of bytes that clients make us keep, held against the ceiling.
//!
//! Owns the totals. Must never know what the bytes are for. The invariant: what a [`Tally`] has
//! added it takes back when it is dropped, so whatever frees memory also un-counts it.
//!
//! The totals are atomics behind an `Arc`, though no second thread exists: a frame's bytes are
//! shared by a history and many outboxes, and are freed wherever the last of them lets go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

/// A handle on the totals. Cheap to clone; all clones count together.
#[derive(Clone, Default)]
pub struct Ledger(Arc<[AtomicUsize; Account::ALL.len()]>);

impl Ledger {
    /// Nothing counted yet.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// A tally of zero on `account`.
    pub fn tally(&self, account: Account) -> Tally {
        Tally { ledger: self.clone(), account, bytes: 0 }
    }

    /// Bytes counted on one account.
    pub fn bytes(&self, account: Account) -> usize {
        self.0[account as usize].load(Relaxed)
    }

    /// Bytes counted on all accounts.
    pub fn total(&self) -> usize {
        self.0.iter().map(|total| total.load(Relaxed)).sum()
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
        let total = &self.ledger.0[self.account as usize];
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
    fn a_dropped_tally_takes_its_bytes_back() {
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
}
