//! Where histories keep their bytes: queues of records, in blocks of one size.
//!
//! Owns the memory of all records. Must not know what a record contains, except that it begins with
//! a key of [`KEY_BYTES`] bytes, and that the keys of a queue increase. The invariant: a block
//! belongs to at most one queue, and its header names that queue, so that a block can be moved.
//!
//! All blocks have the same size, so a block that one record has left fits any other record: however
//! messages of different sizes come and go, no gaps remain that are too small to be used. A general
//! allocator cannot promise this. (J. M. Robson, "Worst case fragmentation of first fit and best fit
//! storage allocation strategies", 1977: an allocator that does not move memory can need several
//! times the memory that is in use.) Blocks lie in segments of 4 KiB. A segment without used blocks
//! is freed, and [`Store::compact`] moves blocks out of sparsely used segments, so that memory that
//! histories no longer need can be used for other purposes.
//!
//! The kernel maps segments. What is unmapped is given back at once, whereas an allocator keeps most
//! of what is freed: when the state is written to a file system that is memory, the file takes the
//! place of the histories. But while the heap has free memory, which sessions and rooms have left,
//! segments come from there; otherwise, after a flood of sessions, resident memory would become the
//! sum of both peaks.
//!
//! ```text
//! queue   [7, 3, 12]
//!          │  │   └─────────────────────────────┐
//!          │  └───────────────┐                 │
//! block 7  ▼         block 3  ▼       block 12  ▼
//! ┌──────┬──────────────────┐ ┌──────┬────────┐ ┌──────┬────────────────┐
//! │header│ free │ record 1 ─┼─┼header│┼ rec. 2─┼─┼header│┼ rec. 3 │ free │
//! └──────┴──────────────────┘ └──────┴────────┘ └──────┴────────────────┘
//! ```

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;
use smallvec::SmallVec;

use super::heap::{list_bytes, vec_bytes};
use crate::ledger::{Account, Ledger, Tally};

/// Bytes of a block. A smaller block wastes less at the ends of a queue, a larger one has fewer
/// headers. With 256, a room of two with a few short messages takes one block.
const BLOCK_BYTES: usize = 256;

/// Bytes of a block's header: the queue's owner, the block's ordinal in the queue, and where the
/// first record begins.
const HEADER_BYTES: usize = 4 + 4 + 1;

/// Bytes of records in a block.
const PAYLOAD_BYTES: usize = BLOCK_BYTES - HEADER_BYTES;

/// Blocks of a segment. A segment has about the size of a page of `Slots`, so that each fits where
/// the other was.
const SEGMENT_BLOCKS: u32 = 16;

/// Most mapped segments: 240 MiB. Linux allows a process 65,530 mappings. (It merges neighbours, but
/// a segment that is unmapped between two others divides one mapping into two.)
///
/// None where pages may be larger than a segment: each segment would take a whole page.
const MAPPED_MAX: usize = if cfg!(target_arch = "x86_64") { 60_000 } else { 0 };

/// Unused blocks that the store may keep: these, and a part of the used blocks.
const SPARE_BLOCKS_MAX: usize = 8 * SEGMENT_BLOCKS as usize;
const SPARE_PARTS: usize = 32;

/// Blocks that one call of [`Store::compact`] moves: a tenth of a millisecond.
const MOVED_BLOCKS_MAX: usize = 1024;

/// Bytes of the length before each record.
const LENGTH_BYTES: usize = 2;

/// Bytes of the key with which each record begins.
pub const KEY_BYTES: usize = 16;

/// Most bytes of a record.
pub const RECORD_BYTES_MAX: usize = u16::MAX as usize;

/// Reads as "no record begins in this block".
const NO_RECORD: u8 = u8::MAX;
const _: () = assert!(PAYLOAD_BYTES < NO_RECORD as usize);

/// The index of a block among all blocks.
type BlockIndex = u32;

/// The bytes of all queues.
pub struct Store {
    /// The last one has memory.
    segments: Vec<Segment>,
    /// For each segment a bit: whether it has an unused block, or no memory. New records go to the
    /// first of these segments, so that the last ones empty.
    vacant: Vec<u64>,
    /// All words of `vacant` before this one are 0.
    vacant_from: usize,
    /// Segments with memory, and those of them that are mapped.
    allocated: usize,
    mapped: usize,
    /// Blocks in use.
    used: usize,
    /// Counts the blocks in use. The few other blocks are left out, because dropping messages would
    /// not free them.
    tally: Tally,
    /// Knows whether the heap has free memory.
    ledger: Ledger,
}

#[derive(Default)]
struct Segment {
    /// `None` if no block is in use.
    bytes: Option<Memory>,
    /// A set bit marks a block in use.
    used: u16,
}

type SegmentBytes = [u8; SEGMENT_BLOCKS as usize * BLOCK_BYTES];

/// The memory of a segment.
enum Memory {
    Mapped(MmapMut),
    Heap(Box<SegmentBytes>),
}

impl Memory {
    fn new(is_mapped: bool) -> Memory {
        let mapped = is_mapped.then(|| MmapMut::map_anon(size_of::<SegmentBytes>()).ok()).flatten();
        let on_heap = || Memory::Heap(Box::new([0; size_of::<SegmentBytes>()]));
        mapped.map_or_else(on_heap, Memory::Mapped)
    }

    fn is_mapped(&self) -> bool {
        matches!(self, Memory::Mapped(_))
    }
}

impl Deref for Memory {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Memory::Mapped(bytes) => bytes,
            Memory::Heap(bytes) => &bytes[..],
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Mapped(bytes) => bytes,
            Memory::Heap(bytes) => &mut bytes[..],
        }
    }
}

/// A queue of records. Its memory belongs to a [`Store`], so it must be cleared before it is dropped.
#[derive(Default)]
pub struct RecordQueue {
    /// The blocks, in order. The first `skipped` are no longer part of the queue: removing each from
    /// the list would take a time proportional to its length.
    blocks: SmallVec<[BlockIndex; 4]>,
    skipped: u32,
    /// The ordinal of the first block that is part of the queue. Wraps around.
    base: u32,
    /// Where the first record begins in the first block, and where the last record ends in the last
    /// block.
    head: u8,
    tail: u8,
    /// The number of records.
    len: u32,
}

/// The new index of a block that [`Store::compact`] has moved.
#[derive(Clone, Copy)]
pub struct Moved {
    ordinal: u32,
    to: BlockIndex,
}

/// The position of a record in a queue. Stays valid until the record is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    ordinal: u32,
    offset: u8,
}

impl Store {
    /// A store without segments.
    pub fn new(ledger: &Ledger) -> Store {
        Store {
            segments: Vec::new(),
            vacant: Vec::new(),
            vacant_from: 0,
            allocated: 0,
            mapped: 0,
            used: 0,
            ledger: ledger.clone(),
            tally: ledger.tally(Account::Histories),
        }
    }

    /// Appends a record to a queue. Its parts together have at least [`KEY_BYTES`] and at most
    /// [`RECORD_BYTES_MAX`] bytes. `owner` is passed to the argument of [`Store::compact`].
    pub fn push(&mut self, owner: u32, queue: &mut RecordQueue, parts: &[&[u8]]) -> Place {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        debug_assert!((KEY_BYTES..=RECORD_BYTES_MAX).contains(&length));
        if queue.block_count() == 0 || usize::from(queue.tail) == PAYLOAD_BYTES {
            self.grow(owner, queue);
        }
        let place = Place { ordinal: queue.last_ordinal(), offset: queue.tail };
        if queue.len == 0 {
            queue.head = place.offset;
        }
        queue.len += 1;
        let mut block = self.block_mut(queue.last_block());
        if block[HEADER_BYTES - 1] == NO_RECORD {
            block[HEADER_BYTES - 1] = place.offset;
        }
        let (length, mut tail) = ((length as u16).to_le_bytes(), usize::from(queue.tail));
        for mut part in [&length[..]].into_iter().chain(parts.iter().copied()) {
            loop {
                let free = &mut block[HEADER_BYTES + tail..];
                let (now, later) = part.split_at(part.len().min(free.len()));
                free[..now.len()].copy_from_slice(now);
                tail += now.len();
                if later.is_empty() {
                    break;
                }
                self.grow(owner, queue);
                block = self.block_mut(queue.last_block());
                (part, tail) = (later, 0);
            }
        }
        queue.tail = tail as u8;
        place
    }

    /// Adds an empty block at the end of a queue.
    fn grow(&mut self, owner: u32, queue: &mut RecordQueue) {
        let index = self.take_block();
        let ordinal = queue.base.wrapping_add(queue.block_count() as u32);
        let block = self.block_mut(index);
        block[..4].copy_from_slice(&owner.to_le_bytes());
        block[4..8].copy_from_slice(&ordinal.to_le_bytes());
        block[8] = NO_RECORD;
        queue.blocks.push(index);
        queue.tail = 0;
    }

    /// The first record, if there is one.
    pub fn first(&self, queue: &RecordQueue) -> Option<Place> {
        (queue.len > 0).then_some(Place { ordinal: queue.base, offset: queue.head })
    }

    /// The record after the one at `place`.
    pub fn next(&self, queue: &RecordQueue, place: Place) -> Option<Place> {
        let after = self.end_of(queue, place);
        let is_end = after.ordinal == queue.last_ordinal() && after.offset >= queue.tail
            || after.ordinal == queue.last_ordinal().wrapping_add(1);
        (!is_end).then_some(after)
    }

    /// Where the record at `place` ends, which is where the next one begins.
    fn end_of(&self, queue: &RecordQueue, place: Place) -> Place {
        advance(place, LENGTH_BYTES + self.length(queue, place))
    }

    /// Bytes of the record at `place`.
    pub fn length(&self, queue: &RecordQueue, place: Place) -> usize {
        let mut length = [0; LENGTH_BYTES];
        self.copy_from(queue, place, &mut length);
        usize::from(u16::from_le_bytes(length))
    }

    /// The key of the record at `place`.
    pub fn key(&self, queue: &RecordQueue, place: Place) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        self.copy(queue, place, 0, &mut key);
        key
    }

    /// Appends the bytes of the record at `place` to `out`.
    pub fn read(&self, queue: &RecordQueue, place: Place, out: &mut Vec<u8>) {
        let length = self.length(queue, place);
        self.pieces(queue, advance(place, LENGTH_BYTES), length, |piece| {
            out.extend_from_slice(piece);
        });
    }

    /// Copies the bytes that follow the first `skip` bytes of the record at `place`. The record must
    /// be long enough.
    pub fn copy(&self, queue: &RecordQueue, place: Place, skip: usize, out: &mut [u8]) {
        self.copy_from(queue, advance(place, LENGTH_BYTES + skip), out);
    }

    /// Overwrites bytes of the record at `place`, which begin after its first `skip` bytes. They must
    /// be within the record, and behind its key.
    pub fn overwrite(&mut self, queue: &RecordQueue, place: Place, skip: usize, bytes: &[u8]) {
        debug_assert!(skip >= KEY_BYTES && skip + bytes.len() <= self.length(queue, place));
        let Place { mut ordinal, offset } = advance(place, LENGTH_BYTES + skip);
        let (mut offset, mut rest) = (usize::from(offset), bytes);
        while !rest.is_empty() {
            let payload = &mut self.block_mut(queue.block(ordinal))[HEADER_BYTES + offset..];
            let (now, later) = rest.split_at(rest.len().min(payload.len()));
            payload[..now.len()].copy_from_slice(now);
            (ordinal, offset, rest) = (ordinal.wrapping_add(1), 0, later);
        }
    }

    fn copy_from(&self, queue: &RecordQueue, from: Place, out: &mut [u8]) {
        let mut at = 0;
        self.pieces(queue, from, out.len(), |piece| {
            out[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        });
    }

    /// Passes `length` bytes to `each`, in one piece for each block in which they are.
    fn pieces(
        &self,
        queue: &RecordQueue,
        from: Place,
        mut length: usize,
        mut each: impl FnMut(&[u8]),
    ) {
        let Place { mut ordinal, offset } = from;
        let mut offset = usize::from(offset);
        while length > 0 {
            let payload = &self.block(queue.block(ordinal))[HEADER_BYTES + offset..];
            let piece = &payload[..length.min(payload.len())];
            each(piece);
            length -= piece.len();
            (ordinal, offset) = (ordinal.wrapping_add(1), 0);
        }
    }

    /// The first record for whose key `is_before` is false; it must be true for all keys before that
    /// one, and false for all after. Costs O(log n) comparisons.
    pub fn partition(
        &self,
        queue: &RecordQueue,
        is_before: impl Fn([u8; KEY_BYTES]) -> bool,
    ) -> Option<Place> {
        let first = self.first(queue)?;
        let mut place = first;
        // The last block in which a record begins that is before the partition, by halving.
        let (mut low, mut high) = (0, queue.block_count() as u32);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            // In the blocks of a long record, none begins: the search goes on before them.
            let begins = (low + 1..=middle).rev().find_map(|block| self.begins(queue, block));
            match begins {
                Some(found) if is_before(self.key(queue, found)) => {
                    place = found;
                    low = middle;
                }
                Some(found) => high = found.ordinal.wrapping_sub(queue.base),
                None => low = middle,
            }
        }
        loop {
            if !is_before(self.key(queue, place)) {
                return Some(place);
            }
            place = self.next(queue, place)?;
        }
    }

    /// The first record that begins in the `block`th block of a queue, which is not its first block.
    fn begins(&self, queue: &RecordQueue, block: u32) -> Option<Place> {
        let ordinal = queue.base.wrapping_add(block);
        let offset = self.block(queue.block(ordinal))[HEADER_BYTES - 1];
        (offset != NO_RECORD).then_some(Place { ordinal, offset })
    }

    /// The first of the last `count` records, or the first of all if there are fewer. Costs O(count).
    pub fn last(&self, queue: &RecordQueue, count: usize) -> Option<Place> {
        let first = self.first(queue).filter(|_| count > 0)?;
        if count >= queue.len() {
            return Some(first);
        }
        let mut left = count;
        for block in (0..queue.block_count() as u32).rev() {
            let begins = if block == 0 { Some(first) } else { self.begins(queue, block) };
            let Some(begins) = begins else { continue };
            let in_block = |place: &Place| place.ordinal == begins.ordinal;
            let next = |place: &Place| self.next(queue, *place).filter(in_block);
            let mut places = std::iter::successors(Some(begins), next);
            let in_block = places.clone().count();
            if in_block >= left {
                return places.nth(in_block - left);
            }
            left -= in_block;
        }
        None
    }

    /// Removes the first record, and erases its bytes.
    pub fn pop(&mut self, queue: &mut RecordQueue) {
        let Some(first) = self.first(queue) else { return };
        let end = self.end_of(queue, first);
        queue.len -= 1;
        if queue.len == 0 {
            return self.clear(queue);
        }
        while queue.base != end.ordinal {
            self.free_block(queue.blocks[queue.skipped as usize]);
            queue.skipped += 1;
            queue.base = queue.base.wrapping_add(1);
        }
        queue.head = end.offset;
        let from = if first.ordinal == end.ordinal { usize::from(first.offset) } else { 0 };
        let erased = HEADER_BYTES + from..HEADER_BYTES + usize::from(end.offset);
        self.block_mut(queue.block(end.ordinal))[erased].fill(0);
        if queue.skipped as usize > queue.blocks.len() / 2 {
            queue.blocks.drain(..queue.skipped as usize);
            queue.skipped = 0;
            if queue.blocks.capacity() / 4 > queue.blocks.len() {
                queue.blocks.shrink_to_fit();
            }
        }
    }

    /// Removes all records, and erases their bytes.
    pub fn clear(&mut self, queue: &mut RecordQueue) {
        for index in &queue.blocks[queue.skipped as usize..] {
            self.free_block(*index);
        }
        *queue = RecordQueue::default();
    }

    // ---- Blocks

    fn block(&self, index: BlockIndex) -> &[u8] {
        let segment = &self.segments[(index / SEGMENT_BLOCKS) as usize];
        let bytes = segment.bytes.as_ref().expect("a segment with used blocks has memory");
        let start = (index % SEGMENT_BLOCKS) as usize * BLOCK_BYTES;
        &bytes[start..start + BLOCK_BYTES]
    }

    fn block_mut(&mut self, index: BlockIndex) -> &mut [u8] {
        let segment = &mut self.segments[(index / SEGMENT_BLOCKS) as usize];
        let bytes = segment.bytes.as_mut().expect("a segment with used blocks has memory");
        let start = (index % SEGMENT_BLOCKS) as usize * BLOCK_BYTES;
        &mut bytes[start..start + BLOCK_BYTES]
    }

    /// The first segment that is not full, or the number of the next new one.
    fn first_vacant(&mut self) -> usize {
        while self.vacant.get(self.vacant_from) == Some(&0) {
            self.vacant_from += 1;
        }
        match self.vacant.get(self.vacant_from) {
            Some(word) => self.vacant_from * 64 + word.trailing_zeros() as usize,
            None => self.segments.len(),
        }
    }

    fn set_vacant(&mut self, number: usize, is_vacant: bool) {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if self.vacant.len() <= word {
            self.vacant.resize(word + 1, 0);
        }
        if is_vacant {
            self.vacant[word] |= bit;
            self.vacant_from = self.vacant_from.min(word);
        } else {
            self.vacant[word] &= !bit;
        }
    }

    /// Takes an unused block of the first segment that has one.
    fn take_block(&mut self) -> BlockIndex {
        let number = self.first_vacant();
        if number == self.segments.len() {
            self.segments.push(Segment::default());
            self.set_vacant(number, true);
        }
        let segment = &mut self.segments[number];
        if segment.bytes.is_none() {
            let may_map = self.mapped < MAPPED_MAX && !self.ledger.has_free_heap();
            let memory = Memory::new(may_map);
            if memory.is_mapped() {
                self.mapped += 1;
                self.ledger.on_mapped(size_of::<SegmentBytes>());
            }
            segment.bytes = Some(memory);
            self.allocated += 1;
        }
        let block = segment.used.trailing_ones();
        segment.used |= 1 << block;
        if segment.used == u16::MAX {
            self.set_vacant(number, false);
        }
        self.used += 1;
        self.tally.set(self.used * BLOCK_BYTES);
        number as u32 * SEGMENT_BLOCKS + block
    }

    /// Erases a block and makes it available. Frees its segment if no other block of it is in use.
    fn free_block(&mut self, index: BlockIndex) {
        self.block_mut(index).fill(0);
        let number = (index / SEGMENT_BLOCKS) as usize;
        let segment = &mut self.segments[number];
        segment.used &= !(1 << (index % SEGMENT_BLOCKS));
        self.used -= 1;
        self.tally.set(self.used * BLOCK_BYTES);
        if segment.used == 0 {
            let freed = segment.bytes.take();
            if freed.is_some_and(|memory| memory.is_mapped()) {
                self.mapped -= 1;
                self.ledger.on_unmapped(size_of::<SegmentBytes>());
            }
            self.allocated -= 1;
        }
        self.set_vacant(number, true);
        self.drop_last();
    }

    /// Removes the segments without memory at the end of the list.
    fn drop_last(&mut self) {
        while self.segments.last().is_some_and(|last| last.bytes.is_none()) {
            self.segments.pop();
            self.set_vacant(self.segments.len(), false);
        }
        let count = self.segments.len();
        if count == 0 {
            (self.segments, self.vacant, self.vacant_from) = Default::default();
        } else if self.segments.capacity() / 4 > count {
            self.segments.shrink_to(2 * count);
            self.vacant.truncate(count.div_ceil(64));
            self.vacant.shrink_to_fit();
        }
    }

    /// Blocks that are not in use.
    fn spare(&self) -> usize {
        self.allocated * SEGMENT_BLOCKS as usize - self.used
    }

    /// Whether [`Store::compact`] has work.
    pub fn is_sparse(&self) -> bool {
        self.spare() > SPARE_BLOCKS_MAX + self.used / SPARE_PARTS
    }

    /// Moves blocks from the last segments to the first until few mapped blocks are unused, or until
    /// this call has moved enough. Calls `on_moved` for each block, with the owner of its queue, which
    /// must call [`RecordQueue::on_moved`].
    pub fn compact(&mut self, mut on_moved: impl FnMut(u32, Moved)) {
        for _ in 0..MOVED_BLOCKS_MAX {
            let last = self.segments.len().saturating_sub(1);
            if !self.is_sparse() || self.first_vacant() >= last {
                break;
            }
            let block = self.segments[last].used.trailing_zeros();
            let (from, to) = (last as u32 * SEGMENT_BLOCKS + block, self.take_block());
            let mut bytes = [0; BLOCK_BYTES];
            bytes.copy_from_slice(self.block(from));
            self.block_mut(to).copy_from_slice(&bytes);
            let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
            on_moved(number(0), Moved { ordinal: number(4), to });
            self.free_block(from);
        }
    }

    /// Bytes of the blocks in use.
    pub fn bytes(&self) -> usize {
        self.used * BLOCK_BYTES
    }

    /// The number of segments, with or without memory.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of heap that the lists of segments hold.
    pub fn heap_bytes(&self) -> usize {
        vec_bytes::<Segment>(self.segments.capacity()) + vec_bytes::<u64>(self.vacant.capacity())
    }

    /// Panics if the store contradicts itself or the given queues, which must be all that have
    /// records.
    pub fn check<'q>(&self, queues: impl Iterator<Item = (u32, &'q RecordQueue)>) {
        let mut used = 0;
        for (owner, queue) in queues {
            for (ordinal, index) in (queue.base..).zip(&queue.blocks[queue.skipped as usize..]) {
                let block = self.block(*index);
                holds!(block[..4] == owner.to_le_bytes(), "a block names its owner");
                holds!(block[4..8] == ordinal.to_le_bytes(), "a block has its ordinal");
                used += 1;
            }
            let places = std::iter::successors(self.first(queue), |at| self.next(queue, *at));
            let (mut last, mut len) = ([0; KEY_BYTES], 0);
            for key in places.map(|place| self.key(queue, place)) {
                holds!(last <= key, "keys increase");
                (last, len) = (key, len + 1);
            }
            agree!(len, queue.len());
        }
        agree!(used, self.used, "every used block belongs to a queue");
        let (mut allocated, mut mapped) = (0, 0);
        for (number, segment) in self.segments.iter().enumerate() {
            let is_vacant = self.vacant[number / 64] >> (number % 64) & 1 == 1;
            agree!(is_vacant, segment.used != u16::MAX);
            agree!(segment.bytes.is_some(), segment.used != 0);
            allocated += usize::from(segment.bytes.is_some());
            mapped += usize::from(segment.bytes.as_ref().is_some_and(Memory::is_mapped));
        }
        agree!((allocated, mapped), (self.allocated, self.mapped));
        let vacant: u32 = self.vacant.iter().map(|word| word.count_ones()).sum();
        holds!(vacant as usize <= self.segments.len());
        agree!(self.tally.bytes(), self.used * BLOCK_BYTES);
    }
}

impl RecordQueue {
    /// The number of records.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// The number of blocks for which the queue has places.
    pub fn capacity(&self) -> usize {
        self.blocks.capacity()
    }

    /// Bytes of heap held, without the blocks.
    pub fn heap_bytes(&self) -> usize {
        list_bytes(&self.blocks)
    }

    /// Bytes of the blocks.
    pub fn block_bytes(&self) -> usize {
        self.block_count() * BLOCK_BYTES
    }

    fn block_count(&self) -> usize {
        self.blocks.len() - self.skipped as usize
    }

    fn last_ordinal(&self) -> u32 {
        self.base.wrapping_add(self.block_count() as u32).wrapping_sub(1)
    }

    fn last_block(&self) -> BlockIndex {
        self.blocks[self.blocks.len() - 1]
    }

    fn block(&self, ordinal: u32) -> BlockIndex {
        self.blocks[(self.skipped + ordinal.wrapping_sub(self.base)) as usize]
    }

    /// A block of the queue has been moved.
    pub fn on_moved(&mut self, moved: Moved) {
        let block = self.skipped + moved.ordinal.wrapping_sub(self.base);
        self.blocks[block as usize] = moved.to;
    }
}

/// The place `bytes` bytes after another.
fn advance(place: Place, bytes: usize) -> Place {
    let offset = usize::from(place.offset) + bytes;
    let ordinal = place.ordinal.wrapping_add((offset / PAYLOAD_BYTES) as u32);
    Place { ordinal, offset: (offset % PAYLOAD_BYTES) as u8 }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use super::*;
    use crate::clock::SeededEntropy;

    /// A store beside a plain model of it: for each owner a queue, and the records that it must have.
    struct Stored {
        store: Store,
        queues: HashMap<u32, (RecordQueue, VecDeque<Vec<u8>>)>,
        next_key: u128,
        ledger: Ledger,
    }

    impl Stored {
        fn new() -> Stored {
            let ledger = Ledger::new();
            Stored { store: Store::new(&ledger), queues: HashMap::new(), next_key: 0, ledger }
        }

        /// Appends a record with so many bytes after its key.
        fn push(&mut self, owner: u32, bytes: usize) {
            self.next_key += 2;
            let key = self.next_key.to_be_bytes();
            let rest: Vec<u8> = (0..bytes).map(|n| (n + self.next_key as usize) as u8).collect();
            let (queue, model) = self.queues.entry(owner).or_default();
            let place = self.store.push(owner, queue, &[&key, &rest]);
            assert_eq!(self.store.key(queue, place), key);
            model.push_back([&key[..], &rest].concat());
        }

        fn pop(&mut self, owner: u32) {
            let (queue, model) = self.queues.entry(owner).or_default();
            self.store.pop(queue);
            model.pop_front();
        }

        /// Overwrites the end of one of a queue's records.
        fn overwrite(&mut self, owner: u32, number: usize) {
            let (queue, model) = self.queues.entry(owner).or_default();
            let number = number % model.len().max(1);
            let Some(record) = model.get_mut(number) else { return };
            let first = self.store.first(queue);
            let next = |place: &Place| self.store.next(queue, *place);
            let place = std::iter::successors(first, next).nth(number).unwrap();
            let skip = KEY_BYTES + (record.len() - KEY_BYTES) / 3;
            let bytes: Vec<u8> = (skip..record.len()).map(|n| !(n as u8)).collect();
            record[skip..].copy_from_slice(&bytes);
            self.store.overwrite(queue, place, skip, &bytes);
        }

        fn compact(&mut self) {
            let moved =
                |owner, moved: Moved| self.queues.get_mut(&owner).unwrap().0.on_moved(moved);
            self.store.compact(moved);
        }

        /// Compares everything that the store gives with the model.
        fn check(&self) {
            for (queue, model) in self.queues.values() {
                let store = &self.store;
                let places =
                    std::iter::successors(store.first(queue), |place| store.next(queue, *place));
                let places: Vec<Place> = places.collect();
                let mut out = Vec::new();
                for (place, record) in places.iter().zip(model) {
                    out.clear();
                    store.read(queue, *place, &mut out);
                    assert_eq!(&out, record);
                    assert_eq!(store.length(queue, *place), record.len());
                }
                assert_eq!((places.len(), queue.len()), (model.len(), model.len()));
                for (n, place) in places.iter().enumerate() {
                    let key = store.key(queue, *place);
                    assert_eq!(store.partition(queue, |other| other < key), Some(*place));
                    let after = store.partition(queue, |other| other <= key);
                    assert_eq!(after, places.get(n + 1).copied());
                    assert_eq!(store.last(queue, places.len() - n), Some(*place));
                }
            }
            self.store.check(self.queues.iter().map(|(owner, (queue, _))| (*owner, queue)));
        }
    }

    #[test]
    fn records_of_every_length_come_back_in_order() {
        let mut stored = Stored::new();
        for bytes in (0..2 * PAYLOAD_BYTES + 3).chain([5000, RECORD_BYTES_MAX - KEY_BYTES]) {
            stored.push(1, bytes);
            if bytes % 3 == 0 {
                stored.push(2, bytes / 2);
            }
        }
        stored.check();
        for n in 0..300 {
            stored.pop(1);
            if n % 50 == 0 {
                stored.check();
            }
        }
        stored.check();
    }

    #[test]
    fn random_operations_agree_with_a_plain_model() {
        let mut dice = SeededEntropy::new(5);
        let mut stored = Stored::new();
        for round in 0..6000 {
            let owner = (dice.next_u64() % 7) as u32;
            match dice.next_u64() % 8 {
                0..=3 => stored.push(owner, (dice.next_u64() % 700) as usize),
                4 => stored.push(owner, (dice.next_u64() % 16_000) as usize),
                5 | 6 if round % 2 == 0 => stored.overwrite(owner, dice.next_u64() as usize),
                5 | 6 => (0..dice.next_u64() % 12).for_each(|_| stored.pop(owner)),
                _ => stored.compact(),
            }
            if round % 200 == 0 {
                stored.check();
            }
        }
        stored.check();
        for owner in 0..7 {
            while stored.queues[&owner].0.len() > 0 {
                stored.pop(owner);
            }
        }
        assert_eq!((stored.store.used, stored.store.segments.len()), (0, 0));
        assert_eq!(stored.ledger.total(), 0);
    }

    /// Robson's program: records of one size are kept or removed alternately, then larger ones come.
    #[test]
    fn sizes_that_grow_leave_no_gaps() {
        let mut stored = Stored::new();
        let mut owner = 0;
        for bytes in [100, 300, 700, 1500, 3000, 6000, 12_000] {
            for _ in 0..600_000 / bytes {
                stored.push(owner, bytes);
                stored.push(owner + 1, bytes);
            }
            while stored.queues[&owner].0.len() > 0 {
                stored.pop(owner);
            }
            while stored.store.is_sparse() {
                stored.compact();
            }
            let (used, spare) = (stored.store.used, stored.store.spare());
            assert!(spare <= SPARE_BLOCKS_MAX + used / SPARE_PARTS, "{bytes}: {spare} of {used}");
            owner += 2;
        }
        stored.store.check(stored.queues.iter().map(|(owner, (queue, _))| (*owner, queue)));
    }

    #[test]
    fn removed_records_are_erased() {
        let mut stored = Stored::new();
        let is_zero = |stored: &Stored, bytes: &[u8]| {
            let segments = stored.store.segments.iter().flat_map(|segment| &segment.bytes);
            !segments.flat_map(|one| one.windows(bytes.len())).any(|window| window == bytes)
        };
        for _ in 0..50 {
            stored.push(0, 90);
            stored.push(1, 90);
        }
        let removed = stored.queues[&0].1[0][KEY_BYTES..].to_vec();
        assert!(!is_zero(&stored, &removed));
        stored.pop(0);
        assert!(is_zero(&stored, &removed), "it shares its block with later records");
        let last = stored.queues[&0].1[48][KEY_BYTES..].to_vec();
        stored.store.clear(&mut stored.queues.get_mut(&0).unwrap().0);
        assert!(is_zero(&stored, &last));
    }
}
