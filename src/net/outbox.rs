//! The queue of bytes to write to one connection.
//!
//! Owns the queue and the write position in its first piece. Must not know what the bytes mean, nor
//! copy them: an event for a thousand connections is in memory once, and its owner counts it once.
//! The invariant: pieces are written in the order in which they were queued. Once a byte of a piece
//! is written, the rest of the piece follows, unless the stream fails.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};

use bytes::Bytes;

use crate::ledger::allocation;

/// Pieces in one `writev`. Linux takes at most 1024; a tick rarely queues more than a few.
const PIECES_PER_WRITE_MAX: usize = 64;

/// Memory of a piece in addition to its bytes: its slot in the queue, whose capacity can be twice
/// its length, and the smallest allocation. The bound of the outbox includes it. Otherwise a peer
/// that pings and does not read could claim 60 bytes of memory for each two-byte pong.
const PIECE_BYTES: usize = 2 * size_of::<Piece>() + allocation(1);

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

/// Bytes that are queued as one unit, such as a frame or a batch of frames.
pub struct Piece {
    bytes: Bytes,
    /// Whether another owner has the same bytes and counts their memory.
    is_shared: bool,
}

impl Piece {
    /// Bytes whose memory this queue owns and counts.
    pub fn private(bytes: impl Into<Bytes>) -> Piece {
        Piece { bytes: bytes.into(), is_shared: false }
    }

    /// Bytes whose memory another owner counts.
    pub fn shared(bytes: Bytes) -> Piece {
        Piece { bytes, is_shared: true }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the piece has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Memory that this queue owns for the piece, in addition to its slot.
    fn private_bytes(&self) -> usize {
        if self.is_shared { 0 } else { allocation(self.bytes.len()) }
    }
}

/// A queue of pieces. The first piece is stored inline: most ticks queue only one, and a heap
/// allocation for each recipient would dominate the fan-out.
#[derive(Default)]
pub struct Outbox {
    first: Option<Piece>,
    /// Further pieces; `None` if there is no first one.
    #[allow(clippy::box_collection, reason = "`None` takes one word instead of four")]
    rest: Option<Box<VecDeque<Piece>>>,
    /// Bytes of the first piece that the kernel has taken.
    written: usize,
    /// Bytes of all pieces that the kernel has not taken.
    queued: usize,
    /// Memory of the private pieces; a piece counts in full until its last byte is written.
    private: usize,
}

impl Outbox {
    /// Queues a piece, or returns false if it does not fit (see [`Outbox::fits`]).
    #[must_use = "a piece that does not fit is not queued"]
    pub fn push(&mut self, piece: Piece, bytes_max: usize) -> bool {
        if !self.fits(&piece, bytes_max) {
            return false;
        }
        if !piece.is_empty() {
            self.queued += piece.len();
            self.private += piece.private_bytes();
            match &self.first {
                None => self.first = Some(piece),
                Some(_) => self.rest.get_or_insert_default().push_back(piece),
            }
        }
        true
    }

    /// Whether at most `bytes_max` bytes would be queued, `piece` included. Each piece that is
    /// already queued counts `PIECE_BYTES` in addition to its bytes.
    pub fn fits(&self, piece: &Piece, bytes_max: usize) -> bool {
        let count = self.first.iter().len() + self.rest.as_ref().map_or(0, |rest| rest.len());
        let pieces = count.saturating_mul(PIECE_BYTES);
        self.queued.saturating_add(pieces).saturating_add(piece.len()) <= bytes_max
    }

    /// Bytes that the kernel has not taken.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Drops every piece of which no byte has been written. A partly written piece stays: without
    /// its rest the stream would be corrupt.
    pub fn truncate(&mut self) {
        self.first = self.first.take().filter(|_| self.written > 0);
        self.rest = None;
        self.queued = self.first.as_ref().map_or(0, |piece| piece.len() - self.written);
        self.private = self.first.as_ref().map_or(0, Piece::private_bytes);
    }

    /// Writes until the queue is empty, the kernel takes no more, or `budget` bytes are written.
    /// Errors are those of the stream.
    pub fn flush(&mut self, stream: &mut impl Write, mut budget: usize) -> io::Result<Flushed> {
        while self.queued > 0 {
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
        let rest = self.rest.as_ref().map_or(0, |rest| {
            allocation(size_of::<VecDeque<Piece>>())
                + allocation(rest.capacity() * size_of::<Piece>())
        });
        rest + self.private
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    /// Writes once, at most `bytes_max` bytes.
    fn write_some(&self, stream: &mut impl Write, bytes_max: usize) -> io::Result<usize> {
        let mut pieces = self.pieces();
        let first = pieces.next().map_or(&[][..], |piece| &piece.bytes[self.written..]);
        let first = &first[..first.len().min(bytes_max)];
        let mut left = bytes_max - first.len();
        if self.rest.is_none() || left == 0 {
            return stream.write(first);
        }
        let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE_MAX];
        slices[0] = IoSlice::new(first);
        let mut count = 1;
        for (slice, piece) in slices[1..].iter_mut().zip(pieces) {
            let piece = &piece.bytes[..piece.len().min(left)];
            if piece.is_empty() {
                break;
            }
            *slice = IoSlice::new(piece);
            left -= piece.len();
            count += 1;
        }
        stream.write_vectored(&slices[..count])
    }

    fn advance(&mut self, count: usize) {
        self.queued = self.queued.saturating_sub(count);
        self.written += count;
        while let Some(first) = self.first.as_ref().filter(|first| first.len() <= self.written) {
            self.written -= first.len();
            self.private -= first.private_bytes();
            self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
            self.rest = self.rest.take().filter(|rest| !rest.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let max = PIECE_BYTES + 8;
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
        assert!(outbox.queued() > 4000, "the overhead leaves capacity for many pieces");
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
        assert_eq!(outbox.bytes(), 0, "a single piece is stored inline");
        assert!(outbox.push(Piece::private("private"), 999));
        let capacity = outbox.rest.as_ref().unwrap().capacity();
        let queue =
            allocation(size_of::<VecDeque<Piece>>()) + allocation(capacity * size_of::<Piece>());
        assert_eq!(outbox.bytes(), queue + allocation(7));
        outbox.flush(&mut pipe, usize::MAX).unwrap();
        assert_eq!(outbox.bytes(), allocation(7));
        pipe.capacity = 12;
        outbox.flush(&mut pipe, usize::MAX).unwrap();
        assert_eq!(outbox.bytes(), allocation(7), "a piece is kept until its last byte is written");
        pipe.capacity = 13;
        outbox.flush(&mut pipe, usize::MAX).unwrap();
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn truncate_keeps_only_a_partly_written_piece() {
        for (capacity, left) in [(0, ""), (1, "ne"), (3, ""), (5, "ur")] {
            let mut outbox = outbox(&["one", "four", "x"]);
            let mut pipe = Pipe { taken: Vec::new(), capacity, step: usize::MAX };
            outbox.flush(&mut pipe, usize::MAX).unwrap();
            outbox.truncate();
            assert_eq!(outbox.queued(), left.len());
            assert!(outbox.push(Piece::private(&b"!"[..]), 1000));
            pipe = Pipe { taken: Vec::new(), capacity: 99, step: usize::MAX };
            outbox.flush(&mut pipe, usize::MAX).unwrap();
            assert_eq!(pipe.taken, format!("{left}!").as_bytes());
        }
    }
}
