//! RFC 6455 without I/O, on tungstenite's context.
//!
//! Owns the opening handshake, frames and closes. Must not know a socket or the chat: text and
//! binary messages are delivered alike. The invariant: a violation is reported once, and the bytes
//! that the peer sends after it are discarded unread.
//!
//! | file | what it owns |
//! |---|---|
//! | `handshake` | the checks of an upgrade, and the 101 response |
//! | `context` | the state of one connection: messages in, control frames out |
//! | `fragments` | a message that arrives in several frames |
//! | `partial` | the frame that is arriving, and the limits on its size |
//! | `text` | the shortcut of a whole text frame |
//! | `frame` | the encoding of text frames |
//! | `close` | close codes, reasons, and the violations that lead to some of them |

pub mod close;
mod context;
mod fragments;
mod frame;
pub mod handshake;
mod partial;
mod text;

pub use close::Violation;
pub use context::{Context, FrameReader, Incoming};
pub use frame::{encode_text, frame_end, is_control, payloads};
pub use partial::WsLimits;
