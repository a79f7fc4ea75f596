//! HTTP/1.1 without I/O: bytes become requests, responses become bytes.
//!
//! Owns the grammar and framing of RFC 9112. Must not know a socket, the time or the chat: the
//! caller supplies the text of the `Date` field. The invariant: a request is handed out only if its
//! framing is unambiguous. Requests are smuggled where two recipients could frame the same bytes
//! differently, so such requests are refused.
//!
//! | file | what it owns |
//! |---|---|
//! | `codec` | the state machine that turns a connection's bytes into requests |
//! | `section` | the end of a head or of a trailer section, found byte by byte |
//! | `head` | what a complete head means |
//! | `body` | how content is framed, and the decoding of it |
//! | `request`, `response` | one request to read, one response to encode |
//! | `coding` | `Accept-Encoding` |
//! | `grammar` | the grammar that several files read |
//! | `limits`, `reject` | what one request may use, and its refusals |

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
pub use grammar::{eq_ignore_case, is_token, list_members, percent_decode};
pub use limits::HttpLimits;
pub use reject::Reject;
pub use request::{BadEscape, Method, Request, Version};
pub use response::{CONTINUE, Framing, Response, ResponseField};
