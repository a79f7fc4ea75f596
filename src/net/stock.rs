//! Pieces for many queues whose memory is used again.
//!
//! Owns the pieces of a tick that may soon be in no queue any more. Must not know what their bytes
//! mean. The invariant: a piece is used again only when no queue has it, and its bytes are erased
//! before that.
//!
//! Nearly every batch of a room is written in the tick that makes it. Two allocations for each, which
//! `zeroizing-alloc` erases when they are freed, took as long as encoding its message.

use super::outbox::Piece;
use crate::ledger::Tally;

/// The most pieces of one tick that are used again: as many as it has interactive turns.
const PIECES_MAX: usize = 64;

/// The length of the longest of them, in bytes: a message of a few lines.
const PIECE_BYTES_MAX: usize = 1024;

/// Pieces for the next batches, counted by their own tallies.
#[derive(Default)]
pub struct PieceStock {
    /// Made since the last [`PieceStock::collect`], and probably in queues.
    made: Vec<Piece>,
    /// Erased, and in no queue.
    free: Vec<Piece>,
}

impl PieceStock {
    /// A piece with a copy of these bytes, counted by `tally` if its memory is new.
    pub fn piece(&mut self, bytes: &[u8], tally: impl FnOnce() -> Tally) -> Piece {
        let used = self.free.pop().and_then(|mut piece| piece.refill(bytes).then_some(piece));
        let piece = used.unwrap_or_else(|| Piece::for_many(bytes.into(), tally()));
        if self.made.len() < PIECES_MAX && bytes.len() <= PIECE_BYTES_MAX {
            self.made.push(piece.clone());
        }
        piece
    }

    /// The queues were flushed. Keeps pieces that are in none of them, at most as many as this tick has
    /// made: a server that falls idle holds little memory for them.
    pub fn collect(&mut self) {
        let made = self.made.len();
        while let Some(mut piece) = self.made.pop() {
            if piece.erase() {
                self.free.push(piece);
            }
        }
        self.free.truncate(made);
    }

    /// Frees all memory.
    #[inline(never)]
    pub fn clear(&mut self) {
        *self = PieceStock::default();
    }

    /// Bytes of heap held, without the pieces.
    pub fn bytes(&self) -> usize {
        (self.made.capacity() + self.free.capacity()) * size_of::<Piece>()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::ledger::{Account, Ledger};

    #[test]
    fn memory_is_used_again_once_no_queue_has_it_and_only_for_pieces_that_fit() {
        let (ledger, made) = (Ledger::new(), Cell::new(0));
        let mut stock = PieceStock::default();
        let make = |stock: &mut PieceStock, length: usize| {
            let text = vec![b'a'; length];
            let piece = stock.piece(&text, || {
                made.set(made.get() + 1);
                ledger.tally(Account::Frames)
            });
            assert_eq!((piece.bytes(), piece.len()), (&text[..], length));
            piece
        };
        let queued = make(&mut stock, 20);
        stock.collect();
        assert_eq!(queued.bytes(), [b'a'; 20], "a queue has it");
        drop(queued);
        for (length, count) in [(20, 2), (11, 2), (20, 2), (21, 3), (10, 3), (9, 4)] {
            make(&mut stock, length);
            stock.collect();
            assert_eq!(made.get(), count, "{length}");
            let free = stock.free.last().map(Piece::bytes);
            assert!(free.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0)));
        }
        assert!(ledger.total() > 0);
        stock.collect();
        assert_eq!(ledger.total(), 0, "a tick without pieces keeps none");
    }

    #[test]
    fn a_tick_leaves_a_bounded_number_of_small_pieces() {
        let ledger = Ledger::new();
        let mut stock = PieceStock::default();
        for length in [10, PIECE_BYTES_MAX + 1] {
            for _ in 0..2 * PIECES_MAX {
                stock.piece(&vec![b'a'; length], || ledger.tally(Account::Frames));
            }
        }
        stock.collect();
        assert_eq!(stock.free.len(), PIECES_MAX);
        for made in [10, 64, 3] {
            let tally = || ledger.tally(Account::Frames);
            let pieces: Vec<_> = (0..made).map(|_| stock.piece(b"batch", tally)).collect();
            drop(pieces);
            stock.collect();
            assert_eq!(stock.free.len(), made);
        }
        assert!(ledger.total() <= PIECES_MAX * 200, "{}", ledger.total());
    }
}
