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
mod grammar;
mod head;
mod limits;
mod reject;
mod request;
mod response;
mod section;

pub use codec::{Codec, Fed, Phase};
pub use grammar::eq_ignore_case;
pub use limits::HttpLimits;
pub use reject::Reject;
pub use request::{BadEscape, Method, Request, Version, percent_decode};
pub use response::{CONTINUE, Framing, Response, ResponseField};
