//! RFC 6455 as tungstenite does it, lent bytes instead of a stream.
//!
//! Owns the opening handshake's fields, frames and closes. Must never know a socket or the chat;
//! text and binary are delivered alike. The invariant: after a violation the peer's bytes mean
//! nothing any more. It is told once, and whatever else it sends is thrown away unread.

pub mod close;
mod context;
mod frame;
pub mod handshake;

pub use close::Violation;
pub use context::{Context, Incoming, RecycledContext, WsLimits};
pub use frame::{HEADER_BYTES_MAX, encode_text};
