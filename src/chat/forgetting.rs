//! Forgetting: what was said gives way when memory is short.
//!
//! Owns the order in which rooms fell silent. Must never know how much memory there is; the ledger
//! says when it is short. The invariant: every room with a history is on the list, once, and
//! whoever has been silent longest is first, so that nobody is looked for.

use super::Chat;
use super::room::{Room, RoomKey};
use crate::ledger::Pressure;
use crate::slots::Slots;

/// Messages forgotten in one tick: a millisecond's work, or two.
const FORGOTTEN_MAX: usize = 8192;

/// Messages forgotten before memory is looked at again.
const FORGOTTEN_AT_ONCE: usize = 16;

/// The rooms that have a history, threaded into a list.
#[derive(Default)]
pub(super) struct Silence {
    first: Option<RoomKey>,
    last: Option<RoomKey>,
}

/// A room's place on that list.
#[derive(Clone, Copy, Default)]
pub(super) struct Turn {
    is_listed: bool,
    before: Option<RoomKey>,
    after: Option<RoomKey>,
}

impl Silence {
    /// The room has just said something that is kept: it is silent for the shortest time of all.
    pub fn on_said(&mut self, rooms: &mut Slots<Room>, key: RoomKey) {
        if self.last == Some(key) {
            return;
        }
        self.remove(rooms, key);
        if let Some(room) = rooms.get_mut(key) {
            room.turn = Turn { is_listed: true, before: self.last, after: None };
        }
        match self.last.replace(key).and_then(|last| rooms.get_mut(last)) {
            Some(last) => last.turn.after = Some(key),
            None => self.first = Some(key),
        }
    }

    /// The rooms, those that have been silent longest first.
    pub fn iter<'a>(&self, rooms: &'a Slots<Room>) -> impl Iterator<Item = RoomKey> + use<'a> {
        std::iter::successors(self.first, |key| rooms.get(*key)?.turn.after)
    }

    /// The room has nothing to forget any more.
    pub fn remove(&mut self, rooms: &mut Slots<Room>, key: RoomKey) {
        let Some(room) = rooms.get_mut(key) else { return };
        let Turn { is_listed, before, after } = std::mem::take(&mut room.turn);
        if !is_listed {
            return;
        }
        match before.and_then(|before| rooms.get_mut(before)) {
            Some(room) => room.turn.after = after,
            None => self.first = after,
        }
        match after.and_then(|after| rooms.get_mut(after)) {
            Some(room) => room.turn.before = before,
            None => self.last = before,
        }
    }
}

impl Chat {
    /// If memory is short, forgets the oldest messages of the rooms that have been silent
    /// longest. Returns how many. Due at the end of a tick, when all batches are sealed.
    pub fn forget(&mut self) -> usize {
        let mut forgotten = 0;
        while forgotten < FORGOTTEN_MAX && self.ledger.is_at(Pressure::Histories) {
            let Some(key) = self.silence.first else { break };
            let Some(room) = self.rooms.get_mut(key) else { break };
            forgotten += room.history.drop_some(FORGOTTEN_AT_ONCE);
            if room.history.is_empty() {
                self.silence.remove(&mut self.rooms, key);
            }
            self.recount_room(key);
        }
        forgotten
    }
}

pub(super) fn check(chat: &Chat) {
    let (mut listed, mut before, mut next) = (0, None, chat.silence.first);
    while let Some(key) = next {
        let room = chat.rooms.get(key).expect("a room that is over is off the list");
        assert!(room.turn.is_listed && room.turn.before == before, "{key:?} is out of place");
        (listed, before, next) = (listed + 1, Some(key), room.turn.after);
    }
    agree!(before, chat.silence.last);
    let with_history = chat.rooms.iter().filter(|(_, room)| !room.history.is_empty());
    agree!(listed, with_history.count(), "every history can be forgotten");
}
