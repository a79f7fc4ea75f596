//! The form in which messages, rooms and pushes lie in the store.
//!
//! Owns encoding and decoding. Must not know which call or key a text belongs to. The invariant: the
//! length of each part precedes it, or the part is the last, so no text that a client sends can end
//! its field; and no text that the store sends can cause a panic.

/// A text of the store that does not have the form of this file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRecord;
