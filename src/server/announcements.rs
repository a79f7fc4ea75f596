//! Announcements of the operator on their way to all connections.
//!
//! Owns how far each has come. Must not know a connection. The invariant: every connection that is
//! there when an announcement begins, and stays, is named once for it, in the order of the
//! announcements.

use crate::net::Piece;

/// Most announcements that are on their way at a time.
const WAITING_MAX: usize = 16;

/// Announcements on their way.
#[derive(Default)]
pub(super) struct Announcements {
    /// As frames, the oldest first.
    waiting: Vec<Piece>,
    /// The connections with lower indices have been sent the oldest.
    next: usize,
}

impl Announcements {
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn push(&mut self, frame: Piece) {
        self.waiting.push(frame);
    }

    /// The oldest, and the next index. `end`: all connections have lower indices. `None`: the oldest
    /// has been sent to all, and is no longer here, or there was none.
    pub fn next(&mut self, end: usize) -> Option<(Piece, usize)> {
        let frame = self.waiting.first()?;
        if self.next < end {
            self.next += 1;
            return Some((frame.clone(), self.next - 1));
        }
        self.waiting.remove(0);
        self.next = 0;
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        None
    }

    /// Bytes of heap held, without the frames.
    pub fn bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<Piece>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_announcement_names_every_index_once_and_in_order() {
        let mut announcements = Announcements::default();
        assert!(announcements.next(2).is_none());
        for text in ["one", "two"] {
            announcements.push(Piece::private(text));
        }
        for text in ["one", "two"] {
            for index in 0..3 {
                let (frame, next) = announcements.next(3).unwrap();
                assert_eq!((frame.bytes(), next), (text.as_bytes(), index));
            }
            assert!(announcements.next(3).is_none());
        }
        assert!(announcements.is_empty() && announcements.bytes() == 0);
        (0..WAITING_MAX).for_each(|_| announcements.push(Piece::private("x")));
        assert!(announcements.is_full());
    }
}
