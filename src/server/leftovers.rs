//! Messages that are still queued for connections outside their room: responses that are being read,
//! and sockets that have left the room with output unread.
//!
//! Owns the list of these connections by room, so that they are ended with the room (contract
//! §10.10). Must not know the connections inside a room: the domain closes these. The invariant: after
//! each flush, a connection outside a room that has messages of that room queued is on the list.

use std::collections::{BTreeMap, BTreeSet};

use super::connection::ConnectionKey;
use crate::chat::RoomKey;

/// The connections, by room.
#[derive(Default)]
pub(super) struct Leftovers {
    /// The room's index, and in the lowest 64 bits the connection's.
    entries: BTreeSet<u128>,
    /// For connections, by index, that have messages of several rooms queued: the rooms before
    /// `Connection::carries`. Only a peer that sends requests without waiting for responses causes
    /// this.
    earlier: BTreeMap<usize, Vec<RoomKey>>,
}

fn entry(room: RoomKey, connection: usize) -> u128 {
    (room.index() as u128) << 64 | connection as u128
}

impl Leftovers {
    /// Puts a connection on the list of a room.
    pub fn insert(&mut self, room: RoomKey, key: ConnectionKey) {
        self.entries.insert(entry(room, key.index()));
    }

    /// The same for a connection that is sent messages of another room from now on.
    pub fn insert_earlier(&mut self, room: RoomKey, key: ConnectionKey) {
        self.insert(room, key);
        self.earlier.entry(key.index()).or_default().push(room);
    }

    /// The index of a connection on the list of this room.
    pub fn any_of(&self, room: RoomKey) -> Option<usize> {
        let range = entry(room, 0)..=entry(room, usize::MAX);
        self.entries.range(range).next().map(|entry| *entry as u64 as usize)
    }

    /// Takes a connection off all lists. `last`: the room whose messages it was sent last.
    pub fn remove(&mut self, last: Option<RoomKey>, key: ConnectionKey) {
        for room in self.earlier.remove(&key.index()).into_iter().flatten().chain(last) {
            self.entries.remove(&entry(room, key.index()));
        }
    }

    /// Bytes of heap held, approximately.
    pub fn bytes(&self) -> usize {
        let rooms: usize = self.earlier.values().map(Vec::capacity).sum();
        (self.entries.len() + self.earlier.len()) * 2 * size_of::<u128>()
            + rooms * size_of::<RoomKey>()
    }

    /// Panics unless exactly these connections are on the list.
    pub fn check(&self, mut left_over: impl Iterator<Item = ConnectionKey>) {
        let mut connections: BTreeSet<_> =
            self.entries.iter().map(|entry| *entry as u64 as usize).collect();
        assert!(left_over.all(|key| connections.remove(&key.index())));
        assert!(connections.is_empty());
    }
}
