//! A delay of tests between a request and its outcome.
//!
//! Owns which requests wait, and until when. Must not know what they ask. The invariant: they become
//! due in the order in which they came.

use std::collections::VecDeque;

use super::connection::ConnectionKey;

/// Commands that are carried out some ticks after their requests have come. Debug builds only.
#[derive(Default)]
pub(super) struct Delay {
    /// By how many ticks; 0: at once.
    pub ticks: u64,
    now: u64,
    /// In the order in which they are due.
    parked: VecDeque<(u64, ConnectionKey)>,
}

impl Delay {
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    pub fn push(&mut self, key: ConnectionKey) {
        self.parked.push_back((self.now + self.ticks, key));
    }

    /// A tick begins.
    pub fn on_tick(&mut self) {
        self.now += 1;
    }

    /// Takes the next one that is due.
    pub fn pop_due(&mut self) -> Option<ConnectionKey> {
        let (due, key) = *self.parked.front()?;
        (due <= self.now).then(|| self.parked.pop_front())?;
        Some(key)
    }
}
