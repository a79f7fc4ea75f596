//! (to be written)

/// A close: what the peer is told, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// Status code (RFC 6455 §7.4).
    pub code: u16,
    /// At most 123 bytes.
    pub reason: &'static str,
}
