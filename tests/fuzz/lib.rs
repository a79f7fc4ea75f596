//! What the targets share: an input that is cut into pieces, and a server without sockets.
//!
//! Owns neither the checks, which the targets own, nor the streams and the bytes of a peer, which
//! are those of `tests/sim`. The invariant: the same input gives the same run, so that libFuzzer
//! can reduce an input that fails.

#[path = "../sim/pipe.rs"]
#[allow(clippy::should_implement_trait, reason = "`Dice::next` is not an iterator's")]
pub mod pipe;
#[path = "../sim/wire.rs"]
pub mod wire;
pub mod world;

use std::fmt::Debug;

use disposable_chat::http::HttpLimits;

/// The server's default limits.
pub const LIMITS: HttpLimits = HttpLimits {
    head_bytes_max: 16 << 10,
    fields_max: 100,
    target_bytes_max: 8 << 10,
    body_bytes_max: 64 << 10,
};

/// The bytes that a peer sends, and the pieces in which they arrive.
///
/// The lowest three bits of an input's first byte are the number of piece lengths that follow, one
/// byte each. Its highest bit selects the limits. The rest are the bytes that the peer sends; they
/// are cut into pieces of these lengths, again and again. So a file of the corpus stays readable:
/// it is `0` and the bytes themselves.
pub struct Cut<'a> {
    pub bytes: &'a [u8],
    /// The limits are so small that a short input exceeds them.
    pub small: bool,
    lengths: &'a [u8],
}

impl<'a> Cut<'a> {
    /// `None` if the input is shorter than its header.
    pub fn of(data: &'a [u8]) -> Option<Cut<'a>> {
        let (&first, rest) = data.split_first()?;
        let (lengths, bytes) = rest.split_at_checked(usize::from(first & 7))?;
        Some(Cut { bytes, small: first & 0x80 != 0, lengths })
    }

    /// The pieces, of which none is empty. Without lengths there is one piece.
    pub fn pieces(&self) -> Vec<&'a [u8]> {
        let mut lengths = self.lengths.iter().cycle();
        let (mut pieces, mut rest) = (Vec::new(), self.bytes);
        while !rest.is_empty() {
            let length = lengths.next().map_or(rest.len(), |length| usize::from(*length).max(1));
            let (piece, beyond) = rest.split_at(length.min(rest.len()));
            pieces.push(piece);
            rest = beyond;
        }
        pieces
    }

    /// The result of `run`, which must not depend on the pieces.
    pub fn in_any_pieces<T: PartialEq + Debug>(&self, run: impl Fn(&[&[u8]]) -> T) -> T {
        let whole = run(&[self.bytes]);
        assert_eq!(run(&self.pieces()), whole, "the result depends on the pieces");
        assert_eq!(run(&self.bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
        whole
    }
}
