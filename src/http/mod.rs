//! HTTP/1.1 without I/O: bytes in, requests out; responses in, bytes out.
//!
//! Owns the grammar and framing of RFC 9112. Must never know a socket, the time or the chat;
//! the caller hands it the `Date` field's text. The invariant: a request is handed out only
//! when its framing is beyond doubt, since whatever two parsers could read differently is how
//! requests are smuggled.
//!
//! `codec` turns what arrives into requests. It lets `section` find where a head or a trailer
//! section ends, `head` judge what a head says, and `body` undo the content's framing. `coding`
//! reads in which form a peer would rather have its answer.

mod body;
mod codec;
mod coding;
mod head;
mod request;
mod response;
mod section;

pub use codec::{Codec, Fed, HttpLimits, Phase, Reject};
pub use request::{BadEscape, Method, Request, Version, percent_decode};
pub use response::{CONTINUE, Framing, Response};

/// Whether two names are one: those of fields, schemes, codings and hosts have no case (RFC 9110 §5.1).
#[inline(never)] // It is asked all over, and would be there each time.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.eq_ignore_ascii_case(other)
}
