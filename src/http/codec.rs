//! The state machine of one connection's requests: fed with bytes, it hands out requests.
//!
//! Owns where in a request the bytes so far end, and what has been kept of it. Must never know
//! where bytes come from or what becomes of a request. The invariant: what is handed out depends
//! on the bytes alone, never on how they were cut into pieces (only `Fed::Continue` does, as it
//! should), and what is held never exceeds [`HttpLimits`].

use super::body::{self, BodyDecoder};
use super::head;
use super::limits::HttpLimits;
use super::reject::Reject;
use super::request::Request;
use super::section::Section;

/// Where in a request the codec is; each phase has its own deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Between requests: not one byte of the next has come. Also after a [`Reject`].
    Idle,
    /// In the request line or the fields, or in ignored empty lines before them: a peer that
    /// sends those does not keep its connection any longer than one that sends half a head.
    Head,
    /// In the content, its chunk framing or its trailers.
    Body,
}

/// What the codec made of the bytes it was fed.
#[derive(Debug)]
pub enum Fed {
    /// All input is used up and the request is not complete.
    Partial,
    /// The peer waits for [`CONTINUE`](super::CONTINUE) before it sends the content (RFC 9110
    /// §10.1.1). Said at most once a request, only with the input used up and if no content has
    /// arrived yet; feed on afterwards.
    Continue,
    /// A whole request; the rest of the input belongs to the next one, or to another protocol.
    Request(Request),
}

/// The state of one connection's requests.
pub struct Codec {
    limits: HttpLimits,
    state: CodecState,
}

enum CodecState {
    /// Before the end of a head. Holds no heap until part of one has arrived.
    Head(Section),
    /// The head is parsed, the content is not complete.
    Body { request: Request, body: BodyDecoder },
    /// For good: whoever feeds on is told again.
    Rejected(Rejected),
}

/// Why, and which request it was, if that could be read.
struct Rejected {
    reject: Reject,
    request: Option<Request>,
}

impl From<Reject> for Rejected {
    fn from(reject: Reject) -> Rejected {
        Rejected { reject, request: None }
    }
}

impl Codec {
    /// At the start of a connection.
    pub fn new(limits: HttpLimits) -> Codec {
        Codec { limits: limits.capped(), state: CodecState::Head(Section::head()) }
    }

    /// Takes bytes from the front of `input` until a request is complete, or none are left.
    ///
    /// A [`Reject`] takes all input, since nothing after it can be understood, and comes again
    /// whenever the codec is fed on.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Fed, Reject> {
        self.advance(input).map_err(|rejected| {
            *input = &[];
            let reject = rejected.reject;
            self.state = CodecState::Rejected(rejected);
            reject
        })
    }

    /// Where in a request the bytes so far end.
    pub fn phase(&self) -> Phase {
        match &self.state {
            CodecState::Head(section) if section.is_idle() => Phase::Idle,
            CodecState::Head(_) => Phase::Head,
            CodecState::Body { .. } => Phase::Body,
            CodecState::Rejected(_) => Phase::Idle,
        }
    }

    /// The request under way once its head is complete, also after its content was refused: what
    /// an answer to it owes to its fields.
    pub fn request(&self) -> Option<&Request> {
        match &self.state {
            CodecState::Head(_) => None,
            CodecState::Body { request, .. } => Some(request),
            CodecState::Rejected(rejected) => rejected.request.as_ref(),
        }
    }

    /// Bytes of heap held for the request under way.
    pub fn bytes(&self) -> usize {
        match &self.state {
            CodecState::Head(section) => section.bytes(),
            CodecState::Body { request, body } => request.bytes() + body.bytes(),
            CodecState::Rejected(rejected) => rejected.request.as_ref().map_or(0, Request::bytes),
        }
    }

    /// Bytes that the request's length declares and that are not held yet. Nothing is reserved for
    /// them, but whoever plans ahead had better count them.
    pub fn promised(&self) -> usize {
        match &self.state {
            CodecState::Body { request, body: BodyDecoder::Length { left } } => {
                (request.body.len() + left).saturating_sub(request.body.capacity())
            }
            _ => 0,
        }
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Fed, Rejected> {
        match std::mem::replace(&mut self.state, CodecState::Head(Section::head())) {
            CodecState::Head(mut section) => {
                let Some(bytes) = section.feed(input, &self.limits)? else {
                    self.state = CodecState::Head(section);
                    return Ok(Fed::Partial);
                };
                let request = head::parse(bytes.into_owned())?;
                let body = match body::framing(&request, &self.limits) {
                    Ok(Some(body)) => body,
                    Ok(None) => return Ok(Fed::Request(request)),
                    Err(reject) => return Err(Rejected { reject, request: Some(request) }),
                };
                // RFC 9110 §10.1.1: who has begun to send is not waiting.
                if input.is_empty() && head::expects_continue(&request) {
                    self.state = CodecState::Body { request, body };
                    return Ok(Fed::Continue);
                }
                self.read_body(request, body, input)
            }
            CodecState::Body { request, body } => self.read_body(request, body, input),
            CodecState::Rejected(rejected) => Err(rejected),
        }
    }

    fn read_body(
        &mut self,
        mut request: Request,
        mut body: BodyDecoder,
        input: &mut &[u8],
    ) -> Result<Fed, Rejected> {
        match body.feed(input, &mut request.body, &self.limits) {
            Ok(true) => return Ok(Fed::Request(request)),
            Ok(false) => self.state = CodecState::Body { request, body },
            Err(reject) => {
                request.body = Vec::new();
                return Err(Rejected { reject, request: Some(request) });
            }
        }
        Ok(Fed::Partial)
    }
}

#[cfg(test)]
mod tests;
