//! The queue of bytes to write to one connection.
//!
//! Owns the queue and the write position in its first piece. Must not know what the bytes mean, nor
//! copy them: an event for a thousand connections is in memory once, and its owner counts it once.
//! The invariant: pieces are written in the order in which they were queued. Once a byte of a piece
//! is written, the rest of the piece follows, unless the stream fails.
//!
//! Readers that lag behind in one room have the same pieces in their queues. Therefore a piece for
//! many queues knows the piece that follows it, and a queue stores a run of such pieces as its ends
//! and its length. One place for each piece in each queue would be memory by the square: ten
//! thousand people who entered one room took 180 MB of places.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem;
use std::rc::Rc;

use bytes::Bytes;

use crate::ledger::{Tally, allocation};

/// Pieces in one `writev`. Linux takes at most 1024; a tick rarely queues more than a few.
const PIECES_PER_WRITE_MAX: usize = 64;

/// Memory of a run in addition to its bytes: its place in the queue, and the smallest piece. The
/// bound of the outbox includes it. Otherwise a peer that pings and does not read could claim 150
/// bytes of memory for each two-byte pong.
const RUN_BYTES: usize = size_of::<Run>() * 5 / 4 + Piece::HEAP_BYTES + allocation(1);

/// The result of a flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flushed {
    /// The queue is empty.
    Done,
    /// The kernel takes no more. A writable edge follows.
    Blocked,
    /// The budget is used up. The kernel may take more, so no edge follows: the caller must
    /// schedule the next flush.
    Paused,
}

/// What [`Outbox::cut`] drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Nothing: without the rest the stream would be corrupt.
    Nothing,
    /// What follows the first piece.
    AfterFirst,
    /// All pieces, also a partly written one.
    All,
}

/// Bytes that are queued as one unit, such as a frame or a batch of frames. A clone shares them.
#[derive(Clone)]
pub struct Piece(Rc<PieceBytes>);

struct PieceBytes {
    content: Content,
    /// The number of bytes of the piece. It is asked for several times for each recipient.
    len: usize,
    /// The piece that followed in the first queue that had both. Only between pieces for many
    /// queues. A queue therefore keeps later pieces alive, even those that it will not send, until
    /// it is truncated or its connection ends.
    next: OnceCell<Piece>,
}

/// The bytes of a piece, and what counts their memory.
enum Content {
    /// Counted by the queue.
    Private(Bytes),
    /// Counted by another owner. The queue counts [`Piece::HEAP_BYTES`].
    Shared(Bytes),
    /// Counted by the tally, once for all queues. The memory may be longer than the piece.
    ForMany(Box<[u8]>, #[allow(dead_code, reason = "counts until dropped")] Tally),
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Content::Private(bytes) | Content::Shared(bytes) => bytes,
            Content::ForMany(bytes, _) => bytes,
        }
    }
}

impl Piece {
    /// Heap that a piece takes in addition to its bytes.
    pub const HEAP_BYTES: usize = allocation(2 * size_of::<usize>() + size_of::<PieceBytes>());

    /// Bytes whose memory this queue owns and counts.
    pub fn private(bytes: impl Into<Bytes>) -> Piece {
        Piece::new(Content::Private(bytes.into()))
    }

    /// Bytes whose memory another owner counts.
    pub fn shared(bytes: Bytes) -> Piece {
        Piece::new(Content::Shared(bytes))
    }

    /// Bytes for many queues, each of which gets a clone. `tally` counts them until the last clone
    /// is dropped.
    pub fn for_many(bytes: Box<[u8]>, mut tally: Tally) -> Piece {
        tally.set(allocation(bytes.len()) + Piece::HEAP_BYTES);
        Piece::new(Content::ForMany(bytes, tally))
    }

    /// If no queue has this piece for many queues: erases its bytes, and returns true.
    pub(super) fn erase(&mut self) -> bool {
        let Some(own) = Rc::get_mut(&mut self.0) else { return false };
        let Content::ForMany(memory, _) = &mut own.content else { return false };
        memory[..own.len].fill(0);
        own.next.take();
        true
    }

    /// Copies other bytes to an erased piece. False: its memory is too small, or much too large.
    pub(super) fn refill(&mut self, bytes: &[u8]) -> bool {
        let Some(own) = Rc::get_mut(&mut self.0) else { return false };
        let Content::ForMany(memory, _) = &mut own.content else { return false };
        let is_too_large = memory.len() / 2 > bytes.len();
        match memory.get_mut(..bytes.len()).filter(|_| !is_too_large) {
            Some(place) => place.copy_from_slice(bytes),
            None => return false,
        }
        own.len = bytes.len();
        true
    }

    fn new(content: Content) -> Piece {
        let len = content.bytes().len();
        Piece(Rc::new(PieceBytes { content, len, next: OnceCell::new() }))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0.content.bytes()[..self.0.len]
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether the piece has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Memory that this queue owns for the piece, in addition to its place.
    fn private_bytes(&self) -> usize {
        match &self.0.content {
            Content::Private(bytes) => Piece::HEAP_BYTES + allocation(bytes.len()),
            Content::Shared(_) => Piece::HEAP_BYTES,
            Content::ForMany(..) => 0,
        }
    }

    /// Whether both are clones of one piece.
    pub fn is_same(&self, other: &Piece) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Whether it was made for many queues.
    pub fn is_for_many(&self) -> bool {
        matches!(self.0.content, Content::ForMany(..))
    }

    /// Whether `next` follows this piece in every queue that stores both as one run. Makes it so if
    /// possible.
    fn leads_to(&self, next: &Piece) -> bool {
        if !self.is_for_many() || !next.is_for_many() {
            return false;
        }
        // A piece that leads to another one is older, and could lead back here: no circles.
        let may_follow = next.0.next.get().is_none() && !Rc::ptr_eq(&self.0, &next.0);
        match self.0.next.get() {
            Some(known) => Rc::ptr_eq(&known.0, &next.0),
            None => may_follow && self.0.next.set(next.clone()).is_ok(),
        }
    }

    /// The bytes from `start` on, at most `bytes_max`.
    fn part(&self, start: usize, bytes_max: usize) -> &[u8] {
        &self.0.content.bytes()[start..self.0.len.min(start.saturating_add(bytes_max))]
    }
}

impl Drop for PieceBytes {
    /// Drops the pieces that follow one after the other. A call for each within the previous one
    /// could overflow the stack.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut piece) = next.and_then(|piece| Rc::into_inner(piece.0)) {
            next = piece.next.take();
        }
    }
}

/// A queue of pieces. A single piece is stored inline: most ticks queue only one, and a heap
/// allocation for each recipient would dominate the fan-out.
#[derive(Default)]
pub struct Outbox {
    queue: Queued,
    /// Bytes of the first piece that the kernel has taken; no piece has 4 GiB.
    written: u32,
    /// What is pushed from now on is dropped.
    is_closed: bool,
}

#[derive(Default)]
enum Queued {
    #[default]
    Empty,
    One(Piece),
    /// Two pieces or more.
    Many(Box<Pieces>),
}

#[derive(Default)]
struct Pieces {
    runs: VecDeque<Run>,
    /// Bytes of all pieces.
    bytes: usize,
    /// Memory of the private pieces; a piece counts in full until its last byte is written.
    private: usize,
}

/// Pieces of which each knows the next.
struct Run {
    first: Piece,
    last: Piece,
    count: usize,
}

impl Pieces {
    fn push(&mut self, piece: Piece) {
        self.bytes += piece.len();
        self.private += piece.private_bytes();
        match self.runs.back_mut() {
            Some(run) if run.last.leads_to(&piece) => {
                run.last = piece;
                run.count += 1;
            }
            _ => {
                if self.runs.len() == self.runs.capacity() {
                    self.runs.reserve_exact((self.runs.len() / 4).max(2));
                }
                self.runs.push_back(Run { first: piece.clone(), last: piece, count: 1 });
            }
        }
    }

    fn pop(&mut self) -> Option<Piece> {
        let run = self.runs.front_mut()?;
        let piece = match run.first.0.next.get().filter(|_| run.count > 1).cloned() {
            Some(next) => {
                run.count -= 1;
                mem::replace(&mut run.first, next)
            }
            None => self.runs.pop_front()?.first,
        };
        self.bytes -= piece.len();
        self.private -= piece.private_bytes();
        Some(piece)
    }

    /// Whether one piece is left, or none.
    fn is_short(&self) -> bool {
        self.runs.len() <= 1 && self.runs.front().is_none_or(|run| run.count == 1)
    }

    fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.runs.iter().flat_map(|run| {
            std::iter::successors(Some(&run.first), |piece| piece.0.next.get()).take(run.count)
        })
    }
}

impl Outbox {
    /// Queues a piece, or returns false if it does not fit (see [`Outbox::fits`]).
    #[must_use = "a piece that does not fit is not queued"]
    pub fn push(&mut self, piece: Piece, bytes_max: usize) -> bool {
        let fits = self.fits(&piece, bytes_max);
        if fits {
            self.put(piece);
        }
        fits
    }

    /// Queues a piece, whether or not it fits.
    #[inline(never)]
    pub(super) fn put(&mut self, piece: Piece) {
        if !piece.is_empty() && !self.is_closed {
            match &mut self.queue {
                Queued::Empty => self.queue = Queued::One(piece),
                Queued::Many(pieces) => pieces.push(piece),
                Queued::One(_) => self.push_second(piece),
            }
        }
    }

    #[inline(never)]
    fn push_second(&mut self, piece: Piece) {
        if let Queued::One(first) = mem::take(&mut self.queue) {
            let mut pieces = Box::<Pieces>::default();
            pieces.push(first);
            pieces.push(piece);
            self.queue = Queued::Many(pieces);
        }
    }

    /// Whether at most `bytes_max` bytes would be queued, `piece` included. Each run of pieces that
    /// is already queued counts `RUN_BYTES` in addition to its bytes.
    pub fn fits(&self, piece: &Piece, bytes_max: usize) -> bool {
        self.load().saturating_add(piece.len()) <= bytes_max
    }

    /// Bytes queued, and `RUN_BYTES` for each run of pieces.
    pub fn load(&self) -> usize {
        let runs = match &self.queue {
            Queued::Empty => 0,
            Queued::One(_) => 1,
            Queued::Many(pieces) => pieces.runs.len(),
        };
        self.queued().saturating_add(runs.saturating_mul(RUN_BYTES))
    }

    /// Bytes that the kernel has not taken.
    pub fn queued(&self) -> usize {
        let bytes = match &self.queue {
            Queued::Empty => 0,
            Queued::One(piece) => piece.len(),
            Queued::Many(pieces) => pieces.bytes,
        };
        bytes - self.written as usize
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        matches!(self.queue, Queued::Empty)
    }

    /// Whether [`Outbox::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Drops what is pushed from now on.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// The first piece, and how many bytes of it are written.
    pub fn first(&self) -> Option<(&[u8], usize)> {
        let first = match &self.queue {
            Queued::Empty => return None,
            Queued::One(piece) => Some(piece),
            Queued::Many(pieces) => pieces.iter().next(),
        };
        first.map(|first| (first.bytes(), self.written as usize))
    }

    /// Drops all but the first `end` bytes of the first piece. If a part of it is written, `end` must be
    /// where the bytes may end without corrupting the stream.
    pub fn truncate(&mut self, end: usize) {
        let first = match mem::take(&mut self.queue) {
            Queued::Empty => None,
            Queued::One(first) => Some(first),
            Queued::Many(mut pieces) => pieces.pop(),
        };
        let written = self.written as usize;
        match first.filter(|_| end > written) {
            Some(first) if first.is_for_many() || end < first.len() => {
                // A copy, so that the queue keeps nothing of what the room says from now on.
                let copy: Box<[u8]> = first.part(written, end - written).into();
                self.queue = Queued::One(Piece::private(copy));
                self.written = 0;
            }
            Some(first) => self.queue = Queued::One(first),
            None => self.written = 0,
        }
    }

    /// Drops what `decide` allows. It gets the first piece, and how many bytes of it are written.
    /// Returns whether something may be dropped.
    pub fn cut(&mut self, decide: impl FnOnce(&[u8], usize) -> Cut) -> bool {
        let Some((first, written)) = self.first() else { return true };
        let end = first.len();
        match decide(first, written) {
            Cut::Nothing => return false,
            Cut::AfterFirst => self.truncate(end),
            Cut::All => {
                self.queue = Queued::Empty;
                self.written = 0;
            }
        }
        true
    }

    /// Writes until the queue is empty, the kernel takes no more, or `budget` bytes are written.
    /// Errors are those of the stream.
    pub fn flush(&mut self, stream: &mut impl Write, mut budget: usize) -> io::Result<Flushed> {
        while !self.is_empty() {
            if budget == 0 {
                return Ok(Flushed::Paused);
            }
            match self.write_some(stream, budget) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    budget = budget.saturating_sub(count);
                    self.advance(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Flushed::Done)
    }

    /// Heap memory in bytes, without that of shared pieces.
    pub fn bytes(&self) -> usize {
        match &self.queue {
            Queued::Empty => 0,
            Queued::One(piece) => piece.private_bytes(),
            Queued::Many(pieces) => {
                allocation(size_of::<Pieces>())
                    + allocation(pieces.runs.capacity() * size_of::<Run>())
                    + pieces.private
            }
        }
    }

    /// Writes once, at most `bytes_max` bytes.
    fn write_some(&self, stream: &mut impl Write, bytes_max: usize) -> io::Result<usize> {
        let written = self.written as usize;
        let pieces = match &self.queue {
            Queued::Empty => return Ok(0),
            Queued::One(piece) => return stream.write(piece.part(written, bytes_max)),
            Queued::Many(pieces) => pieces.iter(),
        };
        let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE_MAX];
        let (mut start, mut left, mut count) = (written, bytes_max, 0);
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            let part = piece.part(mem::take(&mut start), left);
            if part.is_empty() {
                break;
            }
            *slice = IoSlice::new(part);
            left -= part.len();
            count += 1;
        }
        stream.write_vectored(&slices[..count])
    }

    fn advance(&mut self, count: usize) {
        let mut written = self.written as usize + count;
        match &mut self.queue {
            Queued::Empty => {}
            Queued::One(piece) => {
                if piece.len() <= written {
                    written -= piece.len();
                    self.queue = Queued::Empty;
                }
            }
            Queued::Many(pieces) => {
                while pieces.runs.front().is_some_and(|run| run.first.len() <= written) {
                    written -= pieces.pop().map_or(0, |piece| piece.len());
                }
                if pieces.is_short() {
                    self.queue = pieces.pop().map(Queued::One).unwrap_or_default();
                } else if pieces.runs.capacity() / 4 > pieces.runs.len() {
                    pieces.runs.shrink_to(2 * pieces.runs.len());
                }
            }
        }
        debug_assert!(written == 0 || !self.is_empty(), "more was written than was queued");
        self.written = written as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Account, Ledger};

    /// A stream that takes `capacity` bytes, at most `step` in one call, and then blocks.
    struct Pipe {
        taken: Vec<u8>,
        capacity: usize,
        step: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.step).min(self.capacity - self.taken.len());
            self.taken.extend_from_slice(&bytes[..count]);
            if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let whole: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.write(&whole)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn outbox(pieces: &[&'static str]) -> Outbox {
        let mut outbox = Outbox::default();
        let piece = |text: &&'static str| Piece::private(text.as_bytes());
        assert!(pieces.iter().all(|text| outbox.push(piece(text), usize::MAX)));
        outbox
    }

    #[test]
    fn short_writes_at_any_position_keep_the_order() {
        let pieces = ["one", "", "four", "sixteen", "x"];
        let whole = pieces.concat();
        for step in 1..=whole.len() {
            for capacity in 0..=whole.len() {
                let mut outbox = outbox(&pieces);
                let mut pipe = Pipe { taken: Vec::new(), capacity, step };
                let first = outbox.flush(&mut pipe, usize::MAX).unwrap();
                assert_eq!(first == Flushed::Done, capacity == whole.len());
                assert_eq!(outbox.queued(), whole.len() - capacity);
                pipe.capacity = whole.len();
                assert_eq!(outbox.flush(&mut pipe, usize::MAX).unwrap(), Flushed::Done);
                assert_eq!(pipe.taken, whole.as_bytes(), "step {step}, capacity {capacity}");
                assert_eq!((outbox.queued(), outbox.bytes()), (0, 0));
            }
        }
    }

    #[test]
    fn more_pieces_than_one_call_takes_are_all_written() {
        let pieces: Vec<_> = std::iter::repeat_n("ab", 3 * PIECES_PER_WRITE_MAX + 1).collect();
        let mut pipe = Pipe { taken: Vec::new(), capacity: usize::MAX, step: usize::MAX };
        assert_eq!(outbox(&pieces).flush(&mut pipe, usize::MAX).unwrap(), Flushed::Done);
        assert_eq!(pipe.taken, pieces.concat().as_bytes());
    }

    /// Regression: a peer that read as fast as the server wrote got a 16 MB response in one flush,
    /// and all other connections waited for it.
    #[test]
    fn a_flush_stops_at_its_budget_and_the_next_continues() {
        let pieces = ["one", "four", "sixteen", "x"];
        let whole = pieces.concat();
        for budget in 1..=whole.len() {
            let mut outbox = outbox(&pieces);
            let mut pipe = Pipe { taken: Vec::new(), capacity: usize::MAX, step: usize::MAX };
            let mut taken = 0;
            while outbox.flush(&mut pipe, budget).unwrap() == Flushed::Paused {
                taken += budget;
                assert_eq!((pipe.taken.len(), outbox.queued()), (taken, whole.len() - taken));
            }
            assert_eq!(pipe.taken, whole.as_bytes(), "budget {budget}");
        }
    }

    #[test]
    fn the_bound_is_exact_to_the_byte() {
        let mut outbox = Outbox::default();
        let max = RUN_BYTES + 8;
        assert!(outbox.push(Piece::private(&b"12345"[..]), max));
        assert!(!outbox.push(Piece::private(&b"6789"[..]), max));
        assert!(outbox.push(Piece::private(&b"678"[..]), max));
        assert_eq!(outbox.queued(), 8);
    }

    /// Regression: a two-byte pong counted as two bytes, so an outbox of 256 KiB could contain
    /// 131,072 pongs in 7.7 MB of memory.
    #[test]
    fn small_pieces_count_with_their_overhead() {
        let mut outbox = Outbox::default();
        while outbox.push(Piece::private(Bytes::copy_from_slice(b"\x8a\0")), 256 * 1024) {}
        assert!(outbox.bytes() <= 256 * 1024, "{}", outbox.bytes());
        assert!(outbox.queued() > 3000, "the overhead leaves capacity for many pieces");
    }

    #[test]
    fn a_single_piece_can_be_as_large_as_the_bound() {
        let mut outbox = Outbox::default();
        assert!(!outbox.push(Piece::private(&b"123456789"[..]), 8));
        assert!(outbox.push(Piece::private(&b"12345678"[..]), 8));
    }

    #[test]
    fn private_bytes_count_until_their_piece_is_freed() {
        let mut outbox = Outbox::default();
        let mut pipe = Pipe { taken: Vec::new(), capacity: 6, step: usize::MAX };
        let shared = Piece::shared(Bytes::from_static(b"shared"));
        assert!(outbox.push(shared, 999));
        assert_eq!(outbox.bytes(), Piece::HEAP_BYTES, "a single piece is stored inline");
        assert!(outbox.push(Piece::private("private"), 999));
        let Queued::Many(pieces) = &outbox.queue else { panic!("two pieces") };
        let queue =
            allocation(size_of::<Pieces>()) + allocation(pieces.runs.capacity() * size_of::<Run>());
        let private = Piece::HEAP_BYTES + allocation(7);
        assert_eq!(outbox.bytes(), queue + Piece::HEAP_BYTES + private);
        outbox.flush(&mut pipe, usize::MAX).unwrap();
        assert_eq!(outbox.bytes(), private);
        pipe.capacity = 12;
        outbox.flush(&mut pipe, usize::MAX).unwrap();
        assert_eq!(outbox.bytes(), private, "a piece is kept until its last byte is written");
        pipe.capacity = 13;
        outbox.flush(&mut pipe, usize::MAX).unwrap();
        assert_eq!(outbox.bytes(), 0);
    }

    fn batches(count: usize) -> Vec<Piece> {
        let piece = |n| {
            let tally = Ledger::new().tally(Account::Frames);
            Piece::for_many(format!("batch {n};").into_bytes().into(), tally)
        };
        (0..count).map(piece).collect()
    }

    fn text(pieces: &[Piece]) -> String {
        pieces.iter().map(|piece| String::from_utf8_lossy(piece.part(0, 99)).into_owned()).collect()
    }

    /// Regression: each of ten thousand readers that lagged behind in one room had 40 bytes for each
    /// batch, and the capacity of the longest queue until it had caught up.
    #[test]
    fn queues_share_the_places_of_the_batches_of_a_room() {
        let batches = batches(1000);
        let mut outboxes: Vec<_> = (0..10).map(|_| Outbox::default()).collect();
        for (n, batch) in batches.iter().enumerate() {
            // Some enter later, and one reads now and then.
            for outbox in &mut outboxes[..10.min(1 + n / 50)] {
                assert!(outbox.push(batch.clone(), usize::MAX));
            }
            if n % 7 == 0 {
                let mut pipe = Pipe { taken: Vec::new(), capacity: 10, step: 3 };
                outboxes[0].flush(&mut pipe, usize::MAX).unwrap();
            }
        }
        for outbox in &outboxes {
            let most = allocation(size_of::<Pieces>()) + allocation(2 * size_of::<Run>());
            assert!(outbox.bytes() <= most, "{}", outbox.bytes());
        }
        let whole = text(&batches);
        drop(batches);
        for (n, outbox) in outboxes.iter_mut().enumerate().skip(1) {
            let mut pipe = Pipe { taken: Vec::new(), capacity: usize::MAX, step: 77 };
            assert_eq!(outbox.flush(&mut pipe, usize::MAX).unwrap(), Flushed::Done);
            let start = whole.find(&format!("batch {};", n * 50)).unwrap();
            assert_eq!(pipe.taken, &whole.as_bytes()[start..]);
        }
    }

    #[test]
    fn other_pieces_between_batches_keep_their_place_in_each_queue() {
        let batches = batches(4);
        let mut outboxes: Vec<_> = (0..4).map(|_| Outbox::default()).collect();
        for (n, batch) in batches.iter().enumerate() {
            for (m, outbox) in outboxes.iter_mut().enumerate() {
                if n == m {
                    assert!(outbox.push(Piece::private("pong;"), usize::MAX));
                }
                // The last one misses a batch.
                if (n, m) != (1, 3) {
                    assert!(outbox.push(batch.clone(), usize::MAX));
                }
            }
        }
        let expected = [
            "pong;batch 0;batch 1;batch 2;batch 3;",
            "batch 0;pong;batch 1;batch 2;batch 3;",
            "batch 0;batch 1;pong;batch 2;batch 3;",
            "batch 0;batch 2;pong;batch 3;",
        ];
        for (outbox, expected) in outboxes.iter_mut().zip(expected) {
            for step in [1, 9, usize::MAX] {
                let mut pipe = Pipe { taken: Vec::new(), capacity: usize::MAX, step };
                let mut copy = Outbox::default();
                if let Queued::Many(pieces) = &outbox.queue {
                    pieces.iter().for_each(|piece| assert!(copy.push(piece.clone(), usize::MAX)));
                }
                assert_eq!(copy.flush(&mut pipe, usize::MAX).unwrap(), Flushed::Done);
                assert_eq!(String::from_utf8(pipe.taken).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_piece_that_is_queued_again_makes_no_circle() {
        let (one, two) = (batches(1).remove(0), batches(2).remove(1));
        let mut outbox = Outbox::default();
        for piece in [&one, &one, &two, &one, &two] {
            assert!(outbox.push(piece.clone(), usize::MAX));
        }
        let weak = [Rc::downgrade(&one.0), Rc::downgrade(&two.0)];
        drop((one, two));
        let mut pipe = Pipe { taken: Vec::new(), capacity: usize::MAX, step: 5 };
        assert_eq!(outbox.flush(&mut pipe, usize::MAX).unwrap(), Flushed::Done);
        assert_eq!(pipe.taken, b"batch 0;batch 0;batch 1;batch 0;batch 1;");
        assert!(weak.iter().all(|piece| piece.upgrade().is_none()), "freed");
    }

    #[test]
    fn a_queue_that_was_truncated_keeps_no_later_batches() {
        let batches = batches(3);
        let mut outboxes = [Outbox::default(), Outbox::default()];
        for outbox in &mut outboxes {
            assert!(batches[..2].iter().all(|batch| outbox.push(batch.clone(), usize::MAX)));
        }
        let mut pipe = Pipe { taken: Vec::new(), capacity: 3, step: 3 };
        outboxes[0].flush(&mut pipe, usize::MAX).unwrap();
        outboxes[0].truncate("batch 0;".len());
        assert!(outboxes[1].push(batches[2].clone(), usize::MAX));
        let later: Vec<_> = batches[1..].iter().map(|batch| Rc::downgrade(&batch.0)).collect();
        drop(batches);
        let [one, other] = outboxes;
        drop(other);
        assert!(later.iter().all(|piece| piece.upgrade().is_none()), "freed");
        assert_eq!(one.queued(), "ch 0;".len());
    }

    #[test]
    fn a_long_run_is_dropped_without_recursion() {
        let mut outbox = Outbox::default();
        for piece in batches(1_000_000) {
            assert!(outbox.push(piece, usize::MAX));
        }
        drop(outbox);
    }

    #[test]
    fn truncate_keeps_the_first_piece_up_to_the_end_of_what_is_partly_written() {
        for (capacity, end, left) in
            [(0, 0, ""), (1, 3, "ne"), (1, 2, "n"), (3, 0, ""), (5, 4, "ur"), (5, 3, "u")]
        {
            for is_for_many in [false, true] {
                let mut outbox = outbox(&["one", "four", "x"]);
                if is_for_many {
                    let tally = || Ledger::new().tally(Account::Frames);
                    let piece = |text: &str| Piece::for_many(text.as_bytes().into(), tally());
                    outbox = Outbox::default();
                    ["one", "four", "x"].iter().for_each(|text| outbox.put(piece(text)));
                }
                let mut pipe = Pipe { taken: Vec::new(), capacity, step: usize::MAX };
                outbox.flush(&mut pipe, usize::MAX).unwrap();
                outbox.truncate(end);
                assert_eq!(outbox.queued(), left.len());
                assert!(outbox.push(Piece::private(&b"!"[..]), 1000));
                pipe = Pipe { taken: Vec::new(), capacity: 99, step: usize::MAX };
                outbox.flush(&mut pipe, usize::MAX).unwrap();
                assert_eq!(pipe.taken, format!("{left}!").as_bytes());
            }
        }
    }
}
