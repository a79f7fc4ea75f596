//! A paged slab with generation-checked keys, and linked lists through its entries.
//!
//! Owns the mapping from [`Key`] to value. Must not know what the values are. The invariant: a key
//! leads only to the entry it was made for. `slab` reuses a freed index at once, so that without the
//! generation a stale key would lead to another entry.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU32;

use slab::Slab;

/// A handle on one entry of [`Slots`]. Leads to nothing once the entry is removed.
///
/// `K` is the kind of key: keys of different kinds are different types. A key takes eight bytes, and
/// so does `Option<Key<K>>`.
pub struct Key<K> {
    index: u32,
    generation: NonZeroU32,
    kind: PhantomData<fn() -> K>,
}

impl<K> Key<K> {
    /// Fills memory that is to have known bytes. It is not used as a key.
    pub const BLANK: Key<K> =
        Key { index: u32::MAX, generation: NonZeroU32::MIN, kind: PhantomData };

    /// The index, for mio's `Token` and for tables parallel to the slots.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

// By hand: `derive` would require the same traits of `K`.
impl<K> Clone for Key<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Key<K> {}
impl<K> PartialEq for Key<K> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}
impl<K> Eq for Key<K> {}
/// For ordered maps; the order says nothing about the entries.
impl<K> Ord for Key<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}
impl<K> PartialOrd for Key<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Hash for Key<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (u64::from(self.index) << 32 | u64::from(self.generation.get())).hash(state);
    }
}
impl<K> fmt::Debug for Key<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

struct SlotEntry<T> {
    generation: NonZeroU32,
    value: T,
}

/// How many entries a page has.
const PAGE: usize = 32;

/// Has the layout of `slab`'s private entry: vacant with the index of the next vacant one, or
/// occupied. The tag takes no space, because the compiler stores it in the generation, which is
/// never zero.
#[allow(dead_code, reason = "only its size is used")]
enum SlabEntry<T> {
    Vacant(usize),
    Occupied(SlotEntry<T>),
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(
    size_of::<SlabEntry<[u64; 2]>>() == size_of::<SlotEntry<[u64; 2]>>()
        && size_of::<SlotEntry<[u64; 2]>>() == 24
);

/// Entries of type `T` behind keys of kind `K`.
///
/// Entries are stored in pages. One slab for all entries would have to be moved when it grows: with
/// a hundred thousand entries, that takes milliseconds and, for a moment, three times the memory. A
/// single entry at its end would also keep all of its memory allocated.
pub struct Slots<T, K> {
    /// An empty page holds no memory.
    pages: Vec<Slab<SlotEntry<T>>>,
    /// Pages that are not full, each once. The first is filled first, so that later ones can empty.
    vacant: BinaryHeap<Reverse<u32>>,
    /// The number of entries.
    len: usize,
    /// Pages that hold memory.
    allocated: usize,
    /// The generation of the next entry. It wraps after 2³² − 1 insertions (zero is skipped), so a
    /// key that is exactly that old could lead to a newer entry at its index.
    next_generation: NonZeroU32,
    keys: PhantomData<fn() -> K>,
}

impl<T, K> Slots<T, K> {
    /// Stores a value and returns its key.
    pub fn insert(&mut self, value: T) -> Key<K> {
        let generation = self.next_generation;
        self.next_generation = generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let number = self.vacant_page();
        let page = &mut self.pages[number as usize];
        let index = number * PAGE as u32 + page.insert(SlotEntry { generation, value }) as u32;
        if page.len() == PAGE {
            self.vacant.pop();
        }
        self.len += 1;
        Key { index, generation, kind: PhantomData }
    }

    /// The first page that is not full.
    fn vacant_page(&mut self) -> u32 {
        let number = match self.vacant.peek() {
            Some(Reverse(number)) => *number,
            None => {
                let number = u32::try_from(self.pages.len()).ok();
                let fits = number.filter(|number| *number < u32::MAX / PAGE as u32);
                let number = fits.expect("limits keep entry counts far below 2^32");
                self.pages.push(Slab::new());
                self.vacant.push(Reverse(number));
                number
            }
        };
        let page = &mut self.pages[number as usize];
        if page.is_empty() {
            *page = Slab::with_capacity(PAGE);
            self.allocated += 1;
        }
        number
    }

    /// The entry, unless it was removed.
    #[inline(never)]
    pub fn get(&self, key: Key<K>) -> Option<&T> {
        match self.pages.get(key.index() / PAGE)?.get(key.index() % PAGE) {
            Some(entry) if entry.generation == key.generation => Some(&entry.value),
            _ => None,
        }
    }

    /// The entry, unless it was removed.
    #[inline(never)]
    pub fn get_mut(&mut self, key: Key<K>) -> Option<&mut T> {
        match self.pages.get_mut(key.index() / PAGE)?.get_mut(key.index() % PAGE) {
            Some(entry) if entry.generation == key.generation => Some(&mut entry.value),
            _ => None,
        }
    }

    /// Removes the entry and returns it, unless it was removed before.
    pub fn remove(&mut self, key: Key<K>) -> Option<T> {
        self.get(key)?;
        let number = key.index() / PAGE;
        let page = self.pages.get_mut(number)?;
        if page.len() == PAGE {
            self.vacant.push(Reverse(number as u32));
        }
        let value = page.remove(key.index() % PAGE).value;
        self.len -= 1;
        if page.is_empty() {
            *page = Slab::new();
            self.allocated -= 1;
            self.shrink();
        }
        Some(value)
    }

    /// Drops empty pages at the end if most of all pages are empty.
    fn shrink(&mut self) {
        if self.allocated > self.pages.len() / 4 {
            return;
        }
        let before = self.pages.len();
        while self.pages.last().is_some_and(Slab::is_empty) {
            self.pages.pop();
        }
        let count = self.pages.len();
        if count < before {
            self.vacant.retain(|Reverse(number)| (*number as usize) < count);
            self.vacant.shrink_to_fit();
            self.pages.shrink_to_fit();
        }
    }

    /// The key of the entry that is at `index` now. The generation is not checked, so this is only
    /// for an index that cannot be stale.
    pub fn key_at(&self, index: usize) -> Option<Key<K>> {
        let entry = self.pages.get(index / PAGE)?.get(index % PAGE)?;
        let index = u32::try_from(index).ok()?;
        Some(Key { index, generation: entry.generation, kind: PhantomData })
    }

    /// All entries have lower indices.
    pub fn end(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of heap held, used or not, without what the values own.
    pub fn bytes(&self) -> usize {
        // Two words more for each page: the allocator's header.
        self.allocated * (PAGE * size_of::<SlabEntry<T>>() + 2 * size_of::<usize>())
            + self.pages.capacity() * size_of::<Slab<SlotEntry<T>>>()
            + self.vacant.capacity() * size_of::<u32>()
    }

    /// All entries in the order of their indices, which are reused.
    pub fn iter(&self) -> impl Iterator<Item = (Key<K>, &T)> {
        (0..self.end()).filter_map(|index| {
            let key = self.key_at(index)?;
            Some((key, self.get(key)?))
        })
    }
}

impl<T, K> Default for Slots<T, K> {
    fn default() -> Self {
        Slots {
            pages: Vec::new(),
            vacant: BinaryHeap::new(),
            len: 0,
            allocated: 0,
            next_generation: NonZeroU32::MIN,
            keys: PhantomData,
        }
    }
}

/// A doubly linked list through the entries of one [`Slots`], in the order in which they were
/// pushed. Pushing and removing cost O(1) and allocate nothing.
///
/// An entry is on at most one list. It must be removed from the list before it is removed from the
/// slots.
pub struct List<K> {
    first: Option<Key<K>>,
    last: Option<Key<K>>,
}

/// An entry's neighbours on its [`List`].
pub struct Links<K> {
    before: Option<Key<K>>,
    after: Option<Key<K>>,
}

/// An entry that can be on a [`List`].
pub trait Linked<K>: Sized {
    /// The entry's neighbours. [`Links::default`] until a list changes them.
    fn links(&self) -> &Links<K>;
    /// The same, for the list to change.
    fn links_mut(&mut self) -> &mut Links<K>;
}

impl<K> Links<K> {
    /// Whether no entry follows on the list.
    pub fn is_last(&self) -> bool {
        self.after.is_none()
    }
}

impl<K> List<K> {
    /// The entry that was pushed before all others.
    pub fn first(&self) -> Option<Key<K>> {
        self.first
    }

    /// The entry that was pushed after all others.
    pub fn last(&self) -> Option<Key<K>> {
        self.last
    }

    /// Appends an entry that is on no list.
    pub fn push_back<T: Linked<K>>(&mut self, slots: &mut Slots<T, K>, key: Key<K>) {
        let Some(entry) = slots.get_mut(key) else { return };
        *entry.links_mut() = Links { before: self.last, after: None };
        match self.last.replace(key).and_then(|last| slots.get_mut(last)) {
            Some(last) => last.links_mut().after = Some(key),
            None => self.first = Some(key),
        }
    }

    /// Takes an entry off this list. Does nothing if it is on no list.
    pub fn remove<T: Linked<K>>(&mut self, slots: &mut Slots<T, K>, key: Key<K>) {
        let Some(entry) = slots.get_mut(key) else { return };
        let Links { before, after } = std::mem::take(entry.links_mut());
        match before.and_then(|before| slots.get_mut(before)) {
            Some(before) => before.links_mut().after = after,
            None if self.first == Some(key) => self.first = after,
            None => return,
        }
        match after.and_then(|after| slots.get_mut(after)) {
            Some(after) => after.links_mut().before = before,
            None => self.last = before,
        }
    }

    /// The entries' keys, from the first to the last.
    pub fn iter<'a, T: Linked<K>>(
        &self,
        slots: &'a Slots<T, K>,
    ) -> impl Iterator<Item = Key<K>> + use<'a, T, K> {
        std::iter::successors(self.first, |key| slots.get(*key)?.links().after)
    }

    /// Panics unless every entry's neighbours point back at it.
    pub fn check<T: Linked<K>>(&self, slots: &Slots<T, K>) {
        let mut before = None;
        for key in self.iter(slots) {
            let entry = slots.get(key).expect("an entry leaves its list before its slot");
            holds!(entry.links().before == before, "{key:?} has another neighbour");
            before = Some(key);
        }
        holds!(before == self.last, "the list ends with another entry");
    }
}

// By hand: `derive` would require the same traits of `K`.
impl<K> Default for List<K> {
    fn default() -> Self {
        List { first: None, last: None }
    }
}
impl<K> Default for Links<K> {
    fn default() -> Self {
        Links { before: None, after: None }
    }
}

const _: () = assert!(size_of::<Option<Key<()>>>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    fn slots<T>() -> Slots<T, ()> {
        Slots::default()
    }

    #[test]
    fn a_key_does_not_refer_to_the_next_entry_of_its_slot() {
        let mut slots = slots();
        let keep = slots.insert("keep");
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(first.index(), second.index(), "the index is reused");
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"second"));
        assert_eq!(slots.get(keep), Some(&"keep"));
        assert_eq!(slots.key_at(second.index()), Some(second));
    }

    #[test]
    fn generations_wrap_past_zero() {
        let mut slots = slots();
        slots.next_generation = NonZeroU32::MAX;
        let last = slots.insert(1);
        let first = slots.insert(2);
        assert_eq!((slots.get(last), slots.get(first)), (Some(&1), Some(&2)));
    }

    #[test]
    fn a_remaining_entry_keeps_its_page_and_the_first_free_slots_are_reused_first() {
        let mut slots = slots();
        let keys: Vec<_> = (0..1000).map(|n| slots.insert(n)).collect();
        let (full, full_list) = (slots.bytes(), slots.vacant.capacity() * size_of::<u32>());
        let stay = [3, 500, 999];
        for (n, key) in keys.iter().enumerate().filter(|(n, _)| !stay.contains(n)) {
            assert_eq!(slots.remove(*key), Some(n));
        }
        assert!(slots.bytes() < full / 4, "{} of {full}", slots.bytes());
        assert_eq!(slots.iter().map(|(_, n)| *n).collect::<Vec<_>>(), stay);
        assert_eq!(slots.key_at(999), Some(keys[999]));
        let mut again: Vec<_> = (0..997).map(|n| slots.insert(n).index()).collect();
        let list = slots.vacant.capacity() * size_of::<u32>();
        assert_eq!((slots.len(), slots.bytes() - list), (1000, full - full_list));
        again.sort();
        assert_eq!(again, (0..1000).filter(|n| !stay.contains(n)).collect::<Vec<_>>());
        assert_eq!(slots.get(keys[0]), None);
        assert_eq!(slots.get(keys[500]), Some(&500));
    }

    #[test]
    fn one_more_entry_allocates_at_most_one_page() {
        let mut slots = slots();
        let page = PAGE * size_of::<SlotEntry<u64>>() + 2 * size_of::<usize>();
        for n in 0..100_000u64 {
            let before = slots.bytes();
            slots.insert(n);
            // The lists of pages may double.
            let list = slots.pages.capacity() * size_of::<Slab<SlotEntry<u64>>>() + 16;
            assert!(slots.bytes() <= before + page + list, "{n}");
        }
    }

    #[test]
    fn empty_slots_hold_no_memory() {
        let mut slots = slots();
        let keys: Vec<_> = (0..1000).map(|n| slots.insert(n)).collect();
        assert!(slots.bytes() >= 1000 * size_of::<i32>());
        for key in keys {
            slots.remove(key);
        }
        assert_eq!((slots.len(), slots.bytes()), (0, 0));
    }
}
