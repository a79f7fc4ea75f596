//! HTTP/1.1 without I/O: bytes become requests, responses become bytes.
//!
//! Owns the grammar and framing of RFC 9112. Must not know a socket, the time or the chat: the
//! caller supplies the text of the `Date` field. The invariant: a request is handed out only if its
//! framing is unambiguous. If two recipients could frame the same bytes differently, one request
//! can be smuggled inside another, so such bytes are refused.
//!
//! | file | what it owns |
//! |---|---|
//! | `codec` | the state machine that turns a connection's bytes into requests |
//! | `section` | the end of a head or of a trailer section, found byte by byte |
//! | `head` | the meaning of a complete head |
//! | `body` | the framing of content, and its decoding |
//! | `request` | one request, and access to its parts |
//! | `response` | the encoding of a response |
//! | `coding` | `Accept-Encoding` and `Accept`: what the peer prefers |
//! | `grammar` | grammar that several files share: tokens, lists, authorities, numbers, percent-encoding |
//! | `limits`, `reject` | the limits on one request, and the reasons to refuse it |

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
pub use grammar::{
    eq_ignore_case, is_token, list_members, percent_decode, push_chunk, push_decimal,
};
pub use limits::HttpLimits;
pub use reject::Reject;
pub use request::{BadEscape, Method, QueryValue, Request, Version};
pub use response::{CONTINUE, Framing, Response, ResponseField};
