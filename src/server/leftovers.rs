//! Messages that are still queued for connections outside their room: responses that are being read,
//! and sockets that have left the room with output unread.
//!
//! Owns the list of these connections by room, so that they are ended with the room (contract
//! §10.10). Must not know the connections inside a room: the domain closes these. The invariant: after
//! each flush, a connection outside a room that has messages of that room queued is on the list.

use std::collections::BTreeSet;

use super::connection::ConnectionKey;
use crate::chat::RoomKey;

/// The connections, by room.
#[derive(Default)]
pub(super) struct Leftovers {
    /// The room's index, and in the lowest 64 bits the connection's.
    entries: BTreeSet<u128>,
    /// For connections that have messages of several rooms queued, the rooms before
    /// `Connection::carries`: the connection's index, and in the lowest 64 bits the room's. Only a
    /// peer that sends requests without waiting for responses causes this.
    earlier: BTreeSet<u128>,
    /// The rooms that have ended, and whether all their connections are closed. Connections get on the
    /// list only after a flush, so what was queued earlier in the tick is found here, and what is
    /// queued for connections that wait for their close.
    ended: Vec<(RoomKey, bool)>,
}

/// An entry for a pair of indices. All entries with the same `first` follow each other.
fn entry(first: usize, second: usize) -> u128 {
    (first as u128) << 64 | second as u128
}

/// The second index of any entry with this first one.
fn any_with(entries: &BTreeSet<u128>, first: usize) -> Option<usize> {
    let range = entry(first, 0)..=entry(first, usize::MAX);
    entries.range(range).next().map(|entry| *entry as u64 as usize)
}

impl Leftovers {
    /// Puts a connection on the list of a room.
    pub fn insert(&mut self, room: RoomKey, key: ConnectionKey) {
        self.entries.insert(entry(room.index(), key.index()));
    }

    /// The same for a connection that is sent messages of another room from now on.
    pub fn insert_earlier(&mut self, room: RoomKey, key: ConnectionKey) {
        self.insert(room, key);
        self.earlier.insert(entry(key.index(), room.index()));
    }

    /// The room has ended.
    pub fn on_ended(&mut self, room: RoomKey) {
        self.ended.push((room, false));
    }

    /// All connections of a room that has ended are closed.
    pub fn on_freed(&mut self, room: RoomKey) {
        let ended = self.ended.iter_mut().find(|(ended, _)| *ended == room);
        ended.into_iter().for_each(|(_, is_freed)| *is_freed = true);
    }

    /// Whether the room has ended, in this tick or with connections that wait for their close.
    #[inline]
    pub fn has_ended(&self, room: Option<RoomKey>) -> bool {
        !self.ended.is_empty() && self.lists_ended(room) // Asked for every flush.
    }

    #[inline(never)]
    fn lists_ended(&self, room: Option<RoomKey>) -> bool {
        self.ended.iter().any(|(ended, _)| Some(*ended) == room)
    }

    /// The tick is over.
    pub fn on_tick_over(&mut self) {
        if !self.ended.is_empty() {
            self.ended.retain(|(_, is_freed)| !is_freed);
            self.ended.shrink_to_fit();
        }
    }

    /// The index of a connection on the list of this room.
    pub fn any_of(&self, room: RoomKey) -> Option<usize> {
        any_with(&self.entries, room.index())
    }

    /// Takes a connection off all lists. `last`: the room whose messages it was sent last.
    pub fn remove(&mut self, last: Option<RoomKey>, key: ConnectionKey) {
        let mut room = last.map(RoomKey::index);
        while let Some(index) = room {
            self.entries.remove(&entry(index, key.index()));
            self.earlier.remove(&entry(key.index(), index));
            room = any_with(&self.earlier, key.index());
        }
    }

    /// Bytes of heap held, approximately.
    pub fn bytes(&self) -> usize {
        let ended = self.ended.capacity() * size_of::<(RoomKey, bool)>();
        (self.entries.len() + self.earlier.len()) * 2 * size_of::<u128>() + ended
    }

    /// Panics unless exactly these connections are on the list.
    pub fn check(&self, mut left_over: impl Iterator<Item = ConnectionKey>) {
        if cfg!(debug_assertions) {
            let all = self.entries.iter().map(|entry| *entry as u64 as usize);
            let all: BTreeSet<_> = all.collect();
            holds!(left_over.all(|key| all.contains(&key.index())));
        }
    }
}
