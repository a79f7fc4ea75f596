//! The state machine that turns one connection's bytes into requests.
//!
//! Owns the position within the current request, and the part of the request that has arrived. Must
//! not know where bytes come from or how a request is answered. The invariant: the requests depend
//! on the bytes alone, not on how they were split into pieces (`Fed::Continue` is the intended
//! exception), and memory stays within [`HttpLimits`].

use super::body::{self, BodyDecoder};
use super::head;
use super::limits::HttpLimits;
use super::reject::Reject;
use super::request::Request;
use super::section::Section;

/// The part of a request that arrives next. Each phase has a deadline of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Between requests: no byte of the next one has arrived. Also after a [`Reject`].
    Idle,
    /// In the request line, the fields, or the empty lines ignored before them. Empty lines count
    /// as a head, so that they keep a connection open no longer than an incomplete head does.
    Head,
    /// In the content, its chunk framing or its trailers.
    Body,
}

/// The result of feeding bytes to a [`Codec`].
#[derive(Debug)]
pub enum Fed {
    /// The input is used up and the request is not complete.
    Partial,
    /// The peer waits for [`CONTINUE`](super::CONTINUE) before it sends the content (RFC 9110
    /// §10.1.1). The input is used up. Returned at most once per request, and only if no content
    /// has arrived yet. The caller continues to feed afterwards.
    Continue,
    /// A complete request. The rest of the input belongs to the next request, or to another
    /// protocol after an upgrade.
    Request(Request),
}

/// The HTTP state of one connection.
pub struct Codec {
    limits: HttpLimits,
    state: CodecState,
}

enum CodecState {
    /// The head is not complete. No heap is in use until a part of it has arrived.
    Head(Section),
    /// The head is parsed and the content is not complete.
    Body { request: Request, body: BodyDecoder },
    /// Final: every later call returns the same refusal.
    Rejected(Rejected),
}

/// A refusal, and the refused request if its head could be parsed.
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
    /// The state at the start of a connection.
    pub fn new(limits: HttpLimits) -> Codec {
        Codec { limits: limits.capped(), state: CodecState::Head(Section::head()) }
    }

    /// Takes bytes from the front of `input` until a request is complete or no bytes are left.
    ///
    /// A [`Reject`] discards all input, because the bytes after it cannot be interpreted. Later
    /// calls discard their input and return the same refusal.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Fed, Reject> {
        self.advance(input).map_err(|rejected| {
            *input = &[];
            let reject = rejected.reject;
            self.state = CodecState::Rejected(rejected);
            reject
        })
    }

    /// Takes back a request that [`Codec::feed`] has just handed out. The next call hands it out
    /// again, before it takes more input.
    pub fn put_back(&mut self, request: Request) {
        self.state = CodecState::Body { request, body: BodyDecoder::Length { left: 0 } };
    }

    /// Whether a request was put back.
    pub fn has_request(&self) -> bool {
        matches!(&self.state, CodecState::Body { body: BodyDecoder::Length { left: 0 }, .. })
    }

    /// The part of a request that arrives next.
    pub fn phase(&self) -> Phase {
        match &self.state {
            CodecState::Head(section) if section.is_idle() => Phase::Idle,
            CodecState::Head(_) => Phase::Head,
            CodecState::Body { .. } => Phase::Body,
            CodecState::Rejected(_) => Phase::Idle,
        }
    }

    /// The current request, from the end of its head on. It stays available after its content is
    /// refused, because the response to a refusal depends on its method, version and origin.
    pub fn request(&self) -> Option<&Request> {
        match &self.state {
            CodecState::Head(_) => None,
            CodecState::Body { request, .. } => Some(request),
            CodecState::Rejected(rejected) => rejected.request.as_ref(),
        }
    }

    /// Bytes of heap in use for the current request. What it declares and has not sent yet takes
    /// none.
    pub fn bytes(&self) -> usize {
        match &self.state {
            CodecState::Head(section) => section.bytes(),
            CodecState::Body { request, body } => request.bytes() + body.bytes(),
            CodecState::Rejected(rejected) => rejected.request.as_ref().map_or(0, Request::bytes),
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
                // RFC 9110 §10.1.1: no 100 if the peer has already begun to send the content.
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
