//! (to be written)

use super::Request;

/// What one request may use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Request line and fields together, line ends included. Beyond: [`Reject::HeadersTooLarge`].
    pub head_bytes_max: usize,
    /// Field lines. Beyond: [`Reject::HeadersTooLarge`].
    pub fields_max: usize,
    /// The request target. Beyond: [`Reject::TargetTooLong`].
    pub target_bytes_max: usize,
    /// Content after decoding. Beyond: [`Reject::BodyTooLarge`].
    pub body_bytes_max: usize,
}

/// Where in a request the codec is; each phase has its own deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Between requests: not one byte of the next has come.
    Idle,
    /// In the request line or the fields.
    Head,
    /// In the content, its chunk framing or its trailers.
    Body,
}

/// What the codec made of the bytes it was fed.
#[derive(Debug)]
pub enum Fed {
    /// All input is used up and the request is not complete.
    Partial,
    /// The peer waits for `100 Continue` before it sends the content (RFC 9110 §10.1.1). Said at most once a
    /// request, and only if no content has arrived yet; feed on afterwards.
    Continue,
    /// A whole request; the rest of the input belongs to the next one, or to another protocol.
    Request(Request),
}

/// The peer broke the protocol or a limit. The connection cannot be read on: answer and end it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reject {
    /// Malformed or ambiguous: 400.
    BadRequest(&'static str),
    /// 431.
    HeadersTooLarge,
    /// 414.
    TargetTooLong,
    /// 413.
    BodyTooLarge,
}

/// The state of one connection's requests.
pub struct Codec {}

impl Codec {
    /// At the start of a connection.
    pub fn new(limits: Limits) -> Codec {
        let _ = limits;
        todo!()
    }

    /// Takes bytes from the front of `input` until a request is complete, or none are left.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Fed, Reject> {
        let _ = input;
        todo!()
    }

    /// Where in a request the bytes so far end.
    pub fn phase(&self) -> Phase {
        todo!()
    }

    /// Bytes of heap held for the request under way.
    pub fn bytes(&self) -> usize {
        todo!()
    }
}
