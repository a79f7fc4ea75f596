//! From ids to sessions.
//!
//! Owns the lookup by id. Must not know the sessions, and keeps no id: an id is a secret, and a map
//! leaves the bytes of removed keys in place. The invariant: every session is among the candidates
//! for its id; the caller compares the ids.
//!
//! The map takes 15 bytes for each session, half of what keys with 64-bit hashes took. So among a
//! hundred thousand ids two may have the same hash. New ids are chosen so that they do not; restored
//! ones cannot be chosen.

use std::collections::HashMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::heap::{map_bytes, shrink, vec_bytes};
use super::id::SessionId;
use super::keys::SessionKey;

/// Where to look for each session.
pub(super) struct SessionIndex {
    /// The key of the hash. It changes with each process, so that no id can be found by its hash.
    secret: [u8; 16],
    /// From the hash of an id to the index of a session's slot.
    places: HashMap<u32, u32>,
    /// The indices of the slots of sessions whose hash another session has in `places`.
    doubles: Vec<u32>,
}

impl SessionIndex {
    pub fn new(secret: [u8; 16]) -> SessionIndex {
        SessionIndex { secret, places: HashMap::new(), doubles: Vec::new() }
    }

    /// The lower half of SipHash-2-4.
    fn hash(&self, id: SessionId) -> u32 {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(id.as_bytes());
        hasher.finish() as u32
    }

    /// The indices of the slots in which the session with this id may be.
    pub fn candidates(&self, id: SessionId) -> impl Iterator<Item = usize> {
        let first = self.places.get(&self.hash(id)).into_iter();
        first.chain(&self.doubles).map(|index| *index as usize)
    }

    /// Whether the hash of this id is in use.
    pub fn is_taken(&self, id: SessionId) -> bool {
        self.places.contains_key(&self.hash(id))
    }

    pub fn insert(&mut self, id: SessionId, key: SessionKey) {
        let index = key.index() as u32;
        match self.is_taken(id) {
            true => self.doubles.push(index),
            false => _ = self.places.insert(self.hash(id), index),
        }
    }

    pub fn remove(&mut self, id: SessionId, key: SessionKey) {
        let (hash, index) = (self.hash(id), key.index() as u32);
        if self.places.get(&hash) == Some(&index) {
            self.places.remove(&hash);
            shrink(&mut self.places);
        } else {
            self.doubles.retain(|other| *other != index);
            self.doubles.shrink_to_fit();
        }
    }

    /// The number of sessions.
    pub fn len(&self) -> usize {
        self.places.len() + self.doubles.len()
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        map_bytes::<u32, u32>(self.places.capacity()) + vec_bytes::<u32>(self.doubles.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SeededEntropy;
    use crate::slots::Slots;

    #[test]
    fn sessions_whose_ids_have_the_same_hash_are_all_candidates() {
        let mut entropy = SeededEntropy::new(1);
        let mut index = SessionIndex::new([7; 16]);
        let mut slots = Slots::<SessionId, super::super::keys::SessionTag>::default();
        let ids: Vec<_> = (0..3).map(|_| SessionId::new(&mut entropy)).collect();
        let keys: Vec<_> = ids.iter().map(|id| slots.insert(*id)).collect();
        index.insert(ids[0], keys[0]);
        // As if these had the hash of the first.
        index.doubles.extend(keys[1..].iter().map(|key| key.index() as u32));
        let is_found = |index: &SessionIndex, n: usize| {
            index.candidates(ids[n]).any(|place| place == keys[n].index())
        };
        assert!((0..3).all(|n| is_found(&index, n)));
        assert!(index.is_taken(ids[0]));
        index.remove(ids[0], keys[0]);
        index.remove(ids[1], keys[1]);
        assert_eq!([0, 1, 2].map(|n| is_found(&index, n)), [false, false, true]);
        index.remove(ids[2], keys[2]);
        assert_eq!((index.len(), index.bytes()), (0, 0));
    }
}
