//! Forgetting: the oldest messages are dropped when memory is short.
//!
//! Owns the order in which rooms lose messages. Must not know how much memory there is: the ledger
//! says when it is short. The invariant: every room with a history is on [`Chat::silent`] once, and
//! the room whose newest message is oldest comes first, so that finding it costs O(1).

use super::Chat;
use super::room::RoomKey;
use crate::ledger::Pressure;

/// Messages dropped in one tick: one or two milliseconds of work.
const FORGOTTEN_MAX: usize = 8192;

/// Messages dropped before the ledger is asked again.
const FORGOTTEN_AT_ONCE: usize = 16;

impl Chat {
    /// The room has a new message in its history: it is the last to lose messages.
    pub(super) fn note_activity(&mut self, key: RoomKey) {
        if self.silent.last() != Some(key) {
            self.silent.remove(&mut self.rooms, key);
            self.silent.push_back(&mut self.rooms, key);
        }
    }

    /// If memory is short, drops the oldest messages of the rooms that have been silent longest.
    /// Returns how many. To be called at the end of a tick, when all batches are sealed.
    pub fn forget(&mut self) -> usize {
        let mut forgotten = 0;
        while forgotten < FORGOTTEN_MAX && self.ledger.is_at(Pressure::Histories) {
            let Some(key) = self.silent.first() else { break };
            let Some(room) = self.rooms.get_mut(key) else { break };
            forgotten += room.history.drop_some(FORGOTTEN_AT_ONCE);
            if room.history.is_empty() {
                self.silent.remove(&mut self.rooms, key);
            }
            self.recount_room(key);
        }
        forgotten
    }
}

pub(super) fn check(chat: &Chat) {
    chat.silent.check(&chat.rooms);
    let with_history = chat.rooms.iter().filter(|(_, room)| !room.history.is_empty());
    let listed = chat.silent.iter(&chat.rooms).count();
    agree!(listed, with_history.count(), "every history can be forgotten");
}
