//! Generation-checked storage: `slab` with keys that notice when their entry is gone.
//!
//! Owns the mapping from [`Key`] to value. Must never know what the values are. The invariant:
//! a key is honoured only by the entry it was made for. `slab` hands a freed index out again at
//! once, so a key kept a moment too long would otherwise name a stranger.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU32;

use slab::Slab;

/// A handle on one entry of a [`Slots<T>`]; reads as absent once the entry is removed.
///
/// Eight bytes, and `Option<Key<T>>` as well.
pub struct Key<T> {
    index: u32,
    generation: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The bare index, for mio's `Token` and for tables that run parallel to the slots.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The same handle seen from a room that must not know what it points at.
    pub fn cast<U>(self) -> Key<U> {
        Key { index: self.index, generation: self.generation, of: PhantomData }
    }
}

// By hand, because the derives would ask the same of `T`.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}
impl<T> Eq for Key<T> {}
impl<T> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (u64::from(self.index) << 32 | u64::from(self.generation.get())).hash(state);
    }
}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

struct Entry<T> {
    generation: NonZeroU32,
    value: T,
}

/// A slab of `T` whose keys are checked.
pub struct Slots<T> {
    entries: Slab<Entry<T>>,
    /// Stamped on the next entry. Wraps after 2³² insertions; a stale key would then have to
    /// have been kept for exactly that many.
    next_generation: NonZeroU32,
    /// With no more entries than this, what is beyond the last of them is given back. 0: never.
    shrink_below: usize,
}

/// Slots for fewer than this are not worth giving back.
const SHRUNK_MIN: usize = 64;

impl<T> Slots<T> {
    /// No entries, no memory.
    pub const fn new() -> Slots<T> {
        Slots { entries: Slab::new(), next_generation: NonZeroU32::MIN, shrink_below: 0 }
    }

    /// Stores `value`, whose construction may need its own key.
    pub fn insert_with(&mut self, value: impl FnOnce(Key<T>) -> T) -> Key<T> {
        let generation = self.next_generation;
        self.next_generation = generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let vacant = self.entries.vacant_entry();
        let index = u32::try_from(vacant.key()).expect("limits keep entry counts far below 2^32");
        let key = Key { index, generation, of: PhantomData };
        vacant.insert(Entry { generation, value: value(key) });
        self.shrink_below = self.shrink_below.max(self.entries.len() / 4);
        key
    }

    /// Stores `value`.
    pub fn insert(&mut self, value: T) -> Key<T> {
        self.insert_with(|_| value)
    }

    /// The entry, unless it is gone.
    pub fn get(&self, key: Key<T>) -> Option<&T> {
        match self.entries.get(key.index()) {
            Some(entry) if entry.generation == key.generation => Some(&entry.value),
            _ => None,
        }
    }

    /// The entry, unless it is gone.
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        match self.entries.get_mut(key.index()) {
            Some(entry) if entry.generation == key.generation => Some(&mut entry.value),
            _ => None,
        }
    }

    /// Takes the entry out, unless it is gone already.
    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        self.get(key)?;
        let value = self.entries.remove(key.index()).value;
        if self.entries.is_empty() {
            // A slab never shrinks by itself; one that has emptied gives its memory back.
            self.entries = Slab::new();
            self.shrink_below = 0;
        } else if self.entries.len() <= self.shrink_below {
            self.shrink();
        }
        Some(value)
    }

    /// A crowd has gone. Looks at every slot, so the next time is when half of the rest have gone,
    /// too: whoever stayed may sit in the last of them.
    fn shrink(&mut self) {
        self.shrink_below = self.entries.len() / 2;
        if self.entries.capacity() > SHRUNK_MIN {
            self.entries.shrink_to_fit();
        }
    }

    /// The key of whatever lives at `index` now. Only for indices that cannot be stale.
    pub fn key_at(&self, index: usize) -> Option<Key<T>> {
        let entry = self.entries.get(index)?;
        let index = u32::try_from(index).ok()?;
        Some(Key { index, generation: entry.generation, of: PhantomData })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of heap held for entries, used or not; what the values own is not counted.
    pub fn bytes(&self) -> usize {
        // One word more per entry than `Entry<T>`: slab's own tag, padded.
        self.entries.capacity() * (size_of::<Entry<T>>() + size_of::<usize>())
    }

    /// All entries in index order, which means nothing to clients.
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.entries.iter().map(|(index, entry)| {
            let index = u32::try_from(index).expect("checked on insertion");
            (Key { index, generation: entry.generation, of: PhantomData }, &entry.value)
        })
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots::new()
    }
}

const _: () = assert!(size_of::<Option<Key<()>>>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_name_the_next_tenant() {
        let mut slots = Slots::new();
        let keep = slots.insert("keep");
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(first.index(), second.index(), "slab reuses the index");
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"second"));
        assert_eq!(slots.get(keep), Some(&"keep"));
        assert_eq!(slots.key_at(second.index()), Some(second));
    }

    #[test]
    fn generations_wrap_past_zero() {
        let mut slots = Slots::new();
        slots.next_generation = NonZeroU32::MAX;
        let last = slots.insert(1);
        let first = slots.insert(2);
        assert_eq!((slots.get(last), slots.get(first)), (Some(&1), Some(&2)));
    }

    #[test]
    fn slots_that_have_nearly_emptied_give_back_what_lies_beyond_the_last() {
        let mut slots = Slots::new();
        let keys: Vec<_> = (0..1000).map(|n| slots.insert(n)).collect();
        let full = slots.bytes();
        let (last, others) = keys.split_last().unwrap();
        for key in &others[10..] {
            slots.remove(*key);
        }
        assert!(slots.bytes() >= full / 2, "the last holds its place");
        slots.remove(*last);
        for key in &others[..8] {
            slots.remove(*key);
        }
        assert!(slots.bytes() < full / 10, "{} of {full}", slots.bytes());
        assert_eq!(slots.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [8, 9]);
        let new = slots.insert(99);
        assert_eq!(slots.get(new), Some(&99));
        assert_eq!(slots.get(others[0]), None);
    }

    #[test]
    fn emptied_slots_give_their_memory_back() {
        let mut slots = Slots::new();
        let keys: Vec<_> = (0..1000).map(|n| slots.insert(n)).collect();
        assert!(slots.bytes() >= 1000 * size_of::<i32>());
        for key in keys {
            slots.remove(key);
        }
        assert_eq!((slots.len(), slots.bytes()), (0, 0));
    }
}
