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
use crate::ledger::allocation;

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

/// The smallest step by which a buffer for a frame or a message grows, unless that is all that it can
/// still take.
const GROWTH_BYTES_MIN: usize = 64;

/// The bytes of a frame that is not complete, behind the payload of the fragments before it.
///
/// Both are in one buffer. Two buffers that grow in turns leave holes in the heap that neither fits
/// into: a tenth of the memory, measured with 600 such connections.
#[derive(Default)]
pub(super) struct PartialFrame {
    bytes: Vec<u8>,
    /// Where the frame begins: the payload of the fragments before it ends there.
    start: usize,
    /// The length of the frame, header and payload; 0 until the header is complete.
    declared: usize,
}

impl PartialFrame {
    /// Whether no byte of a frame is buffered.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == self.start
    }

    /// Bytes of heap in use.
    pub(super) fn bytes(&self) -> usize {
        allocation(self.bytes.capacity())
    }

    /// The payload of the fragments before the frame.
    pub(super) fn fragments(&self) -> &[u8] {
        &self.bytes[..self.start]
    }

    /// Takes the payload of the fragments, after the last of them.
    pub(super) fn take_fragments(&mut self) -> Vec<u8> {
        self.start = 0;
        mem::take(&mut self.bytes)
    }

    /// Appends the payload of a fragment that was complete. `mask`: RFC 6455 §5.3.
    pub(super) fn append(&mut self, payload: &[u8], mask: [u8; 4], limits: WsLimits) {
        debug_assert!(self.is_empty(), "the fragment was taken");
        let left = limits.message_bytes_max.saturating_sub(self.start);
        reserve(&mut self.bytes, payload.len(), left);
        self.bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.start = self.bytes.len();
    }

    /// Takes bytes from the front of `input` up to the end of the frame. Returns the frame when it is
    /// complete, borrowed if all of it is in `input`.
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        limits: WsLimits,
    ) -> Result<Option<Cow<'a, [u8]>>, Violation> {
        if self.is_empty() {
            let declared = declared_length(input, limits, self.start)?;
            if let Some(frame) = declared.and_then(|declared| take(input, declared)) {
                return Ok(Some(Cow::Borrowed(frame)));
            }
            self.declared = declared.unwrap_or_default();
        }
        // The header is taken byte by byte, so that no byte of the next frame is taken.
        while self.declared == 0 {
            let Some(byte) = take(input, 1) else { return Ok(None) };
            self.extend(byte, HEAD_BYTES_MAX);
            let declared = declared_length(&self.bytes[self.start..], limits, self.start)?;
            self.declared = declared.unwrap_or_default();
        }
        let left = self.declared - (self.bytes.len() - self.start);
        let more = take(input, left.min(input.len())).unwrap_or_default();
        self.extend(more, left);
        if more.len() < left {
            return Ok(None);
        }
        self.declared = 0;
        let frame = match self.start {
            0 => mem::take(&mut self.bytes),
            start => self.bytes.split_off(start),
        };
        Ok(Some(Cow::Owned(frame)))
    }

    /// Appends `more`; at most `left` bytes follow, these included.
    fn extend(&mut self, more: &[u8], left: usize) {
        reserve(&mut self.bytes, more.len(), left);
        self.bytes.extend_from_slice(more);
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

/// Makes capacity for `more` bytes, and for at most `left`, which is at least `more`.
///
/// A buffer that has to grow grows by a quarter. So at most a fifth of it is unused, and bytes that
/// arrive one by one are copied five times on average. Doubling would copy them twice, and keep up
/// to half of the buffer unused for as long as the peer takes to send the rest.
fn reserve(bytes: &mut Vec<u8>, more: usize, left: usize) {
    if bytes.capacity() - bytes.len() < more {
        bytes.reserve_exact(more.max((bytes.len() / 4).max(GROWTH_BYTES_MIN).min(left)));
    }
}

/// Takes `count` bytes from the front of `input`; `None` if it has fewer.
fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(front)
}
