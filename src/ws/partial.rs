//! The frame that is arriving: where it ends, and its bytes until it is complete.
//!
//! Owns the limits on frames and messages, and the size that a frame's header declares. Must not
//! check anything else about a frame: tungstenite does when the frame is complete. (The header
//! parser also refuses reserved opcodes.) The invariant: a frame over the limits is refused as soon
//! as its header is complete, and memory is reserved only for bytes that have arrived, whatever
//! length the header declares.

use std::borrow::Cow;
use std::io::Cursor;
use std::mem;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::close::Violation;

/// The limits on the frames and messages of one connection.
#[derive(Clone, Copy, Debug)]
pub struct WsLimits {
    /// Bytes of payload in one frame.
    pub frame_bytes_max: usize,
    /// Bytes of payload in one message, all fragments together.
    pub message_bytes_max: usize,
}

/// RFC 6455 §5.2: two bytes, eight of length, four of mask.
pub(super) const HEAD_BYTES_MAX: usize = 14;

/// RFC 6455 §5.5: the largest payload of a control frame.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// The bytes of a frame that is not complete.
#[derive(Default)]
pub(super) struct PartialFrame {
    bytes: Vec<u8>,
    /// The length of the frame, header and payload; 0 until the header is complete.
    declared: usize,
}

impl PartialFrame {
    /// Whether no byte of a frame is buffered.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Bytes of heap in use, or the declared length if that is more.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.capacity().max(self.declared)
    }

    /// Takes bytes from the front of `input` up to the end of the frame. Returns the frame when it is
    /// complete, borrowed if all of it is in `input`.
    ///
    /// `fragment_bytes` is the payload of the earlier fragments of an incomplete message.
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        limits: WsLimits,
        fragment_bytes: usize,
    ) -> Result<Option<Cow<'a, [u8]>>, Violation> {
        if self.bytes.is_empty() {
            let declared = declared_length(input, limits, fragment_bytes)?;
            if let Some(frame) = declared.and_then(|declared| take(input, declared)) {
                return Ok(Some(Cow::Borrowed(frame)));
            }
            self.declared = declared.unwrap_or_default();
        }
        // The header is taken byte by byte, so that no byte of the next frame is taken.
        while self.declared == 0 {
            let Some(byte) = take(input, 1) else { return Ok(None) };
            self.bytes.extend_from_slice(byte);
            let declared = declared_length(&self.bytes, limits, fragment_bytes)?;
            self.declared = declared.unwrap_or_default();
        }
        let (arrived, left) = (self.bytes.len(), self.declared - self.bytes.len());
        let more = take(input, left.min(input.len())).unwrap_or_default();
        if self.bytes.capacity() - arrived < more.len() {
            // The capacity doubles, but not beyond the frame's end.
            self.bytes.reserve_exact(more.len().max(arrived).min(left));
        }
        self.bytes.extend_from_slice(more);
        if more.len() < left {
            return Ok(None);
        }
        self.declared = 0;
        Ok(Some(Cow::Owned(mem::take(&mut self.bytes))))
    }
}

/// The length of the frame at the front of `bytes`, header and payload. `None` if its header is not
/// complete.
fn declared_length(
    bytes: &[u8],
    limits: WsLimits,
    fragment_bytes: usize,
) -> Result<Option<usize>, Violation> {
    let mut head = Cursor::new(bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes));
    // The only error is a reserved opcode (RFC 6455 §5.2).
    let parsed = FrameHeader::parse(&mut head).map_err(|_| Violation::Protocol)?;
    let Some((header, payload)) = parsed else { return Ok(None) };
    // RFC 6455 §5.5. tungstenite would refuse the frame only after all of it has arrived.
    if matches!(header.opcode, OpCode::Control(_)) && payload > CONTROL_BYTES_MAX as u64 {
        return Err(Violation::Protocol);
    }
    // A control frame between fragments is not a part of the message.
    let is_continuation = header.opcode == OpCode::Data(Data::Continue);
    let before = if is_continuation { fragment_bytes } else { 0 };
    match usize::try_from(payload) {
        Ok(payload)
            if payload <= limits.frame_bytes_max
                && payload.saturating_add(before) <= limits.message_bytes_max =>
        {
            Ok(Some(head.position() as usize + payload))
        }
        // RFC 6455 §10.4. Lengths from 2⁶³ are malformed, too (§5.2), but are reported as too big.
        _ => Err(Violation::TooBig),
    }
}

/// Takes `count` bytes from the front of `input`; `None` if it has fewer.
fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(front)
}
