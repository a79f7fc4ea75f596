//! (to be written)

use std::borrow::Cow;

use bytes::Bytes;

/// One response, not yet encoded.
#[derive(Debug)]
pub struct Response {
    /// Status code (RFC 9110 §15).
    pub status: u16,
    /// Fields besides those of [`Framing`]: `Date`, `Content-Length`, `Connection`.
    pub fields: Vec<(&'static str, Cow<'static, str>)>,
    /// The content, in pieces so that a message's bytes need not be copied.
    pub body: Vec<Bytes>,
}

/// What the connection, not the resource, decides about a response.
#[derive(Clone, Copy, Debug)]
pub struct Framing<'a> {
    /// The `Date` field's text (RFC 9110 §6.6.1).
    pub date: &'a str,
    /// The request was HEAD: same fields, no content.
    pub head: bool,
    /// The peer's version: HTTP/1.0 must be told of keep-alive, HTTP/1.1 of its end.
    pub version: super::Version,
    /// Whether another request may follow.
    pub keep_alive: bool,
}

impl Response {
    /// A response without content.
    pub fn new(status: u16) -> Response {
        Response { status, fields: Vec::new(), body: Vec::new() }
    }

    /// With one more field.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Response {
        self.fields.push((name, value.into()));
        self
    }

    /// Encodes head and content and hands out the pieces in order: one piece when the content is
    /// small, else the head and the body's own pieces.
    pub fn encode(self, framing: Framing<'_>, push: impl FnMut(Bytes)) {
        let _ = (framing, push);
        todo!()
    }
}
