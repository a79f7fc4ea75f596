//! Bytes queued for one connection.
//!
//! Owns the queue and how far its front has been written. Must never know what the bytes mean,
//! nor copy them: what a thousand connections are told lies in memory once, and is counted once,
//! by whoever shares it out. The invariant: pieces leave in the order in which they came, each of
//! them whole or not at all.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};

use bytes::Bytes;

use crate::ledger::allocation;

/// Pieces handed to the kernel in one call. Linux takes at most 1024; a tick rarely queues more
/// than a few.
const PIECES_PER_WRITE_MAX: usize = 64;

/// What a piece costs beside its bytes: its place in the queue, which may have grown to twice
/// what it needs, and the least that an allocation takes. Counted against the bound, or a peer
/// that pings and reads nothing would have us keep 60 bytes for each of its two-byte pongs.
const PIECE_BYTES: usize = 2 * size_of::<Piece>() + allocation(1);

/// How a flush ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flushed {
    /// Nothing is queued any more.
    Done,
    /// The kernel takes no more for now; the writable edge will tell.
    Blocked,
    /// The budget is used up and the kernel may take more: no edge will tell.
    Paused,
}

/// A piece of what is queued.
pub struct Piece {
    bytes: Bytes,
    /// Somebody else holds it, too, and counts it.
    is_shared: bool,
}

impl Piece {
    /// Bytes that are in this queue alone.
    pub fn private(bytes: impl Into<Bytes>) -> Piece {
        Piece { bytes: bytes.into(), is_shared: false }
    }

    /// Bytes that lie elsewhere, and are counted there.
    pub fn shared(bytes: Bytes) -> Piece {
        Piece { bytes, is_shared: true }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What it takes beside its place in the queue.
    fn private_bytes(&self) -> usize {
        if self.is_shared { 0 } else { allocation(self.bytes.len()) }
    }
}

/// A queue of pieces. Holds no heap of its own for one piece, which is all that a tick queues as a
/// rule: else there were an allocation for everybody who hears something.
#[derive(Default)]
pub struct Outbox {
    first: Option<Piece>,
    /// What comes after the first; none without one.
    #[allow(clippy::box_collection, reason = "three words fewer for each that has none")]
    rest: Option<Box<VecDeque<Piece>>>,
    /// Bytes of the first piece that the kernel has taken already.
    written: usize,
    /// Bytes queued and not yet taken.
    queued: usize,
    /// What the private pieces take, as long as any of their bytes are left.
    private: usize,
}

impl Outbox {
    /// Queues a piece, unless it doesn't fit.
    #[must_use = "what does not fit is not queued"]
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

    /// Whether at most `bytes_max` would be queued with `piece`, counting some for the place of
    /// each piece that waits behind another.
    pub fn fits(&self, piece: &Piece, bytes_max: usize) -> bool {
        let count = self.first.iter().len() + self.rest.as_ref().map_or(0, |rest| rest.len());
        let pieces = count.saturating_mul(PIECE_BYTES);
        self.queued.saturating_add(pieces).saturating_add(piece.len()) <= bytes_max
    }

    /// Bytes queued and not yet taken by the kernel.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// True when nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Forgets what has not begun to leave. A piece of which the peer has a part stays, since the
    /// stream would make no sense without the rest.
    pub fn truncate(&mut self) {
        self.first = self.first.take().filter(|_| self.written > 0);
        self.rest = None;
        self.queued = self.first.as_ref().map_or(0, |piece| piece.len() - self.written);
        self.private = self.first.as_ref().map_or(0, Piece::private_bytes);
    }

    /// Writes until nothing is left, the kernel takes no more, or `budget` bytes have left.
    /// Errors are the stream's.
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

    /// Bytes of heap held, without those of shared pieces.
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

    /// Writes once, at most `bytes_max`.
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

    /// Takes `room` bytes, at most `step` in one call, then blocks.
    struct Pipe {
        taken: Vec<u8>,
        room: usize,
        step: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.step).min(self.room - self.taken.len());
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
    fn short_writes_anywhere_keep_the_order() {
        let pieces = ["one", "", "four", "sixteen", "x"];
        let whole = pieces.concat();
        for step in 1..=whole.len() {
            for room in 0..=whole.len() {
                let mut outbox = outbox(&pieces);
                let mut pipe = Pipe { taken: Vec::new(), room, step };
                let first = outbox.flush(&mut pipe, usize::MAX).unwrap();
                assert_eq!(first == Flushed::Done, room == whole.len());
                assert_eq!(outbox.queued(), whole.len() - room);
                pipe.room = whole.len();
                assert_eq!(outbox.flush(&mut pipe, usize::MAX).unwrap(), Flushed::Done);
                assert_eq!(pipe.taken, whole.as_bytes(), "step {step}, room {room}");
                assert_eq!((outbox.queued(), outbox.bytes()), (0, 0));
            }
        }
    }

    #[test]
    fn more_pieces_than_one_call_takes_all_leave() {
        let pieces: Vec<_> = std::iter::repeat_n("ab", 3 * PIECES_PER_WRITE_MAX + 1).collect();
        let mut pipe = Pipe { taken: Vec::new(), room: usize::MAX, step: usize::MAX };
        assert_eq!(outbox(&pieces).flush(&mut pipe, usize::MAX).unwrap(), Flushed::Done);
        assert_eq!(pipe.taken, pieces.concat().as_bytes());
    }

    /// A reader as fast as our writing had a 16 MB answer written to it in one go, and everybody
    /// else waited.
    #[test]
    fn a_flush_stops_at_its_budget_and_the_next_goes_on() {
        let pieces = ["one", "four", "sixteen", "x"];
        let whole = pieces.concat();
        for budget in 1..=whole.len() {
            let mut outbox = outbox(&pieces);
            let mut pipe = Pipe { taken: Vec::new(), room: usize::MAX, step: usize::MAX };
            let mut taken = 0;
            while outbox.flush(&mut pipe, budget).unwrap() == Flushed::Paused {
                taken += budget;
                assert_eq!((pipe.taken.len(), outbox.queued()), (taken, whole.len() - taken));
            }
            assert_eq!(pipe.taken, whole.as_bytes(), "budget {budget}");
        }
    }

    #[test]
    fn the_bound_holds_to_the_byte() {
        let mut outbox = Outbox::default();
        let max = PIECE_BYTES + 8;
        assert!(outbox.push(Piece::private(&b"12345"[..]), max));
        assert!(!outbox.push(Piece::private(&b"6789"[..]), max));
        assert!(outbox.push(Piece::private(&b"678"[..]), max));
        assert_eq!(outbox.queued(), 8);
    }

    /// Pongs of two bytes were counted as two bytes each: an outbox of 256 KiB held 131,072 of
    /// them, and 7.7 MB.
    #[test]
    fn many_small_pieces_count_for_what_they_take() {
        let mut outbox = Outbox::default();
        while outbox.push(Piece::private(Bytes::copy_from_slice(b"\x8a\0")), 256 * 1024) {}
        assert!(outbox.bytes() <= 256 * 1024, "{}", outbox.bytes());
        assert!(outbox.queued() > 4000, "and yet many of them fit");
    }

    #[test]
    fn one_piece_alone_may_be_as_large_as_the_bound() {
        let mut outbox = Outbox::default();
        assert!(!outbox.push(Piece::private(&b"123456789"[..]), 8));
        assert!(outbox.push(Piece::private(&b"12345678"[..]), 8));
    }

    #[test]
    fn private_bytes_are_counted_as_long_as_they_are_held() {
        let mut outbox = Outbox::default();
        let mut pipe = Pipe { taken: Vec::new(), room: 6, step: usize::MAX };
        let shared = Piece::shared(Bytes::from_static(b"shared"));
        assert!(outbox.push(shared, 999));
        assert_eq!(outbox.bytes(), 0, "one piece takes no queue");
        assert!(outbox.push(Piece::private("private"), 999));
        let capacity = outbox.rest.as_ref().unwrap().capacity();
        let queue =
            allocation(size_of::<VecDeque<Piece>>()) + allocation(capacity * size_of::<Piece>());
        assert_eq!(outbox.bytes(), queue + allocation(7));
        outbox.flush(&mut pipe, usize::MAX).unwrap();
        assert_eq!(outbox.bytes(), allocation(7));
        pipe.room = 12;
        outbox.flush(&mut pipe, usize::MAX).unwrap();
        assert_eq!(outbox.bytes(), allocation(7), "a piece is kept until all of it has left");
        pipe.room = 13;
        outbox.flush(&mut pipe, usize::MAX).unwrap();
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn truncating_keeps_only_a_piece_that_is_half_sent() {
        for (room, left) in [(0, ""), (1, "ne"), (3, ""), (5, "ur")] {
            let mut outbox = outbox(&["one", "four", "x"]);
            let mut pipe = Pipe { taken: Vec::new(), room, step: usize::MAX };
            outbox.flush(&mut pipe, usize::MAX).unwrap();
            outbox.truncate();
            assert_eq!(outbox.queued(), left.len());
            assert!(outbox.push(Piece::private(&b"!"[..]), 1000));
            pipe = Pipe { taken: Vec::new(), room: 99, step: usize::MAX };
            outbox.flush(&mut pipe, usize::MAX).unwrap();
            assert_eq!(pipe.taken, format!("{left}!").as_bytes());
        }
    }
}
