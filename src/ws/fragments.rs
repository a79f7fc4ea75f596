//! A message that arrives in fragments (RFC 6455 §5.4).
//!
//! Owns the checks that tungstenite would make of each fragment. It is not asked to, because it
//! would keep a context and two buffers for each such message, of sizes that it does not tell. Must
//! not know a frame that is not complete, nor where the payload is kept. The invariant: the payload
//! is at most `message_bytes_max`, which [`PartialFrame::next`] checks.

use std::io::Cursor;
use std::str;

use tungstenite::Message;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::close::Violation;
use super::partial::{PartialFrame, WsLimits};

/// An incomplete message. Its payload so far is [`PartialFrame::fragments`].
pub(super) struct Fragments {
    is_text: bool,
    /// The bytes at the front of the payload that are known to be UTF-8, if it is text. What follows
    /// them can be the beginning of a code point.
    valid: usize,
}

/// Whether a complete frame is a data frame, and not a message by itself.
pub(super) fn is_fragment(frame: &[u8]) -> bool {
    const FIN: u8 = 0x80;
    const CONTROL: u8 = 0x08;
    let first = frame.first().copied().unwrap_or_default();
    let opcode = first & 0x0F;
    opcode & CONTROL == 0 && (first & FIN == 0 || opcode == 0)
}

impl Fragments {
    /// Adds the payload of a complete frame, which begins a message if there is `None`, to
    /// `partial`. Returns whether it is the last of its message.
    pub(super) fn add(
        message: &mut Option<Fragments>,
        frame: &[u8],
        partial: &mut PartialFrame,
        limits: WsLimits,
    ) -> Result<bool, Violation> {
        let mut rest = Cursor::new(frame);
        let parsed = FrameHeader::parse(&mut rest).map_err(|_| Violation::Protocol)?;
        let (header, _) = parsed.ok_or(Violation::Protocol)?;
        // RFC 6455 §5.2: a bit that no extension has given a meaning.
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::Protocol);
        }
        // RFC 6455 §5.1: a server closes upon a frame that is not masked.
        let mask = header.mask.ok_or(Violation::Protocol)?;
        let message = match (header.opcode, message) {
            (OpCode::Data(Data::Continue), Some(message)) => message,
            (OpCode::Data(kind @ (Data::Text | Data::Binary)), none @ None) => {
                none.insert(Fragments { is_text: kind == Data::Text, valid: 0 })
            }
            _ => return Err(Violation::Protocol),
        };
        let payload = frame.get(rest.position() as usize..).unwrap_or_default();
        partial.append(payload, mask, limits);
        message.check(partial.fragments())?;
        Ok(header.is_final)
    }

    fn check(&mut self, payload: &[u8]) -> Result<(), Violation> {
        if self.is_text {
            self.valid += match str::from_utf8(&payload[self.valid..]) {
                Ok(text) => text.len(),
                Err(why) if why.error_len().is_none() => why.valid_up_to(),
                Err(_) => return Err(Violation::NotUtf8),
            };
        }
        Ok(())
    }

    /// The message, after its last fragment.
    pub(super) fn complete(self, payload: Vec<u8>) -> Result<Message, Violation> {
        match self.is_text {
            true => {
                let text = String::from_utf8(payload).map_err(|_| Violation::NotUtf8)?;
                Ok(Message::text(text))
            }
            false => Ok(Message::binary(payload)),
        }
    }
}
