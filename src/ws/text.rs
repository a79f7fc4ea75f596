//! The shortcut of a whole text frame, which is unmasked where it has arrived.
//!
//! Owns one form of frame: a final text frame, masked, complete, within the limits, with its length in
//! the shortest form. Must not judge other frames: [`super::Context::feed`] reads all frames, also
//! those of this form, with the same result. The invariant: a frame of another form is left as it is.
//!
//! Almost all input has this form. tungstenite copies a frame twice and unmasks it byte by byte, which
//! the guide's page on performance compares with this.

use std::mem;

use super::partial::WsLimits;

/// RFC 6455 §5.2: FIN and the opcode of a text frame, without reserved bits.
const FINAL_TEXT: u8 = 0x81;

/// The largest length that the second byte contains.
const SHORT_MAX: usize = 125;

/// Takes the frame at the front of `input`, if it has the form above, and unmasks its payload.
pub(super) fn take<'a>(input: &mut &'a mut [u8], limits: WsLimits) -> Option<&'a [u8]> {
    let (start, length) = match **input {
        [FINAL_TEXT, second @ 0x80..=0xFD, ..] => (6, usize::from(second & 0x7F)),
        [FINAL_TEXT, 0xFE, high, low, ..] => (8, usize::from(u16::from_be_bytes([high, low]))),
        _ => return None,
    };
    let is_shortest = start == 6 || length > SHORT_MAX;
    let length_max = limits.frame_bytes_max.min(limits.message_bytes_max);
    if !is_shortest || length > length_max || input.len() < start + length {
        return None;
    }
    let (frame, rest) = mem::take(input).split_at_mut(start + length);
    *input = rest;
    let (head, payload) = frame.split_at_mut(start);
    unmask(payload, *head.last_chunk()?);
    Some(payload)
}

/// RFC 6455 §5.3, in words.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mask = u32::from_ne_bytes(mask);
    let word = u128::from(mask) * (u128::MAX / u128::from(u32::MAX));
    let unmask = |bytes: &mut [u8]| {
        if let Ok(bytes) = <&mut [u8; 16]>::try_from(bytes) {
            *bytes = (u128::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
        }
    };
    let mut chunks = payload.chunks_exact_mut(32);
    for chunk in &mut chunks {
        let (front, back) = chunk.split_at_mut(16);
        unmask(front);
        unmask(back);
    }
    let mut chunks = chunks.into_remainder().chunks_exact_mut(4);
    for chunk in chunks.by_ref().filter_map(|chunk| <&mut [u8; 4]>::try_from(chunk).ok()) {
        *chunk = (u32::from_ne_bytes(*chunk) ^ mask).to_ne_bytes();
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.to_ne_bytes()) {
        *byte ^= mask;
    }
}
