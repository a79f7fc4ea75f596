//! What the targets share: how an input is cut into pieces, and a server without sockets.
//!
//! Owns no question of its own: those are the targets'. The pipes and the client's bytes are the
//! simulation's.

#[path = "../sim/pipe.rs"]
#[allow(clippy::should_implement_trait, reason = "dice are no iterator, and nobody's API")]
pub mod pipe;
#[path = "../sim/wire.rs"]
pub mod wire;
pub mod world;

/// What a peer sends, and how the network cuts it up.
///
/// An input's first byte says by its lowest three bits how many lengths follow, and by its
/// highest which limits hold; what comes after the lengths is what the peer sends. It is cut into
/// pieces of these lengths, over and over. So a file of the corpus stays readable: `0` and the
/// bytes themselves.
pub struct Cut<'a> {
    pub bytes: &'a [u8],
    /// Not the usual limits but small ones, which a short input can pass.
    pub small: bool,
    lengths: &'a [u8],
}

impl<'a> Cut<'a> {
    /// `None` where there is nothing to cut.
    pub fn of(data: &'a [u8]) -> Option<Cut<'a>> {
        let (&first, rest) = data.split_first()?;
        let (lengths, bytes) = rest.split_at_checked(usize::from(first & 7))?;
        Some(Cut { bytes, small: first & 0x80 != 0, lengths })
    }

    /// The pieces, none of them empty; all in one if no length is given.
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
}
