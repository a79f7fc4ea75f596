//! Estimates of the heap that collections take.
//!
//! Owns the estimates for the ledger, and the rule for shrinking a map. Must not know what
//! is in a collection. The invariant: after [`shrink`], a map without entries holds no memory.

use std::collections::HashMap;
use std::hash::Hash;

use smallvec::SmallVec;

use crate::ledger::allocation;

/// Bytes of a `HashMap` with capacity for `capacity` pairs. At most 7/8 of its buckets are used;
/// each has a control byte, and the table has 16 more.
pub fn map_bytes<K, V>(capacity: usize) -> usize {
    match capacity {
        0 => 0,
        _ => allocation((capacity * 8 / 7 + 1) * (size_of::<(K, V)>() + 1) + 16),
    }
}

/// Bytes of a `Vec` or `VecDeque` with capacity for `capacity` elements.
pub fn vec_bytes<T>(capacity: usize) -> usize {
    allocation(capacity * size_of::<T>())
}

/// Bytes that a `SmallVec` holds on the heap.
pub fn list_bytes<A: smallvec::Array>(list: &SmallVec<A>) -> usize {
    if list.spilled() { vec_bytes::<A::Item>(list.capacity()) } else { 0 }
}

/// Bytes of a `BTreeMap` with `len` pairs, approximately: nodes of eleven pairs, two thirds full.
pub fn tree_bytes<K, V>(len: usize) -> usize {
    if len == 0 { 0 } else { len.div_ceil(7) * (11 * size_of::<(K, V)>() + 32) }
}

/// Frees most of a map's unused capacity. A map shrinks only when it is less than an eighth full,
/// so that shrinking is rare.
pub fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.is_empty() {
        *map = HashMap::new();
    } else if map.capacity() > 64 && map.len() < map.capacity() / 8 {
        map.shrink_to(2 * map.len());
    }
}
