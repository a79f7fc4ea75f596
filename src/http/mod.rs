//! HTTP/1.1 without I/O: bytes in, requests out; responses in, bytes out.
//!
//! Owns the grammar and framing of RFC 9112. Must never know a socket, the time or the chat;
//! the caller hands it the `Date` field's text. The invariant: a request is handed out only
//! when its framing is beyond doubt, since whatever two parsers could read differently is how
//! requests are smuggled.

mod body;
mod codec;
mod request;
mod response;

pub use codec::{Codec, Fed, Limits, Phase, Reject};
pub use request::{Method, Request, Version, percent_decode};
pub use response::{CONTINUE, Framing, Response};
