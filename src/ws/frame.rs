//! (to be written)

/// The longest header of an unmasked frame whose payload is under 64 KiB.
pub const HEADER_BYTES_MAX: usize = 4;

/// Appends one unmasked, final text frame (RFC 6455 §5.2) whose payload `write` appends, and returns the payload's start in `out`.
/// The payload must stay under 64 KiB.
pub fn encode_text_in_place(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    let _ = (out, write);
    todo!()
}
