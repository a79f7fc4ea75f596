//! Bytes and sockets.
//!
//! Owns listeners, streams and the queues in front of them. Must never know what is spoken. The
//! invariant: nothing here blocks, and nothing stops before the kernel says that it would.
//!
//! | file | what it owns |
//! |---|---|
//! | `listener` | accepting: how sockets are made and what they inherit |
//! | `link` | one accepted stream and what is queued for it |
//! | `outbox` | the queue itself |
//! | `proxy` | the header that a balancer puts before a connection's own bytes |
//! | `tls` | what lies between the kernel's bytes and those that are meant (feature `tls`) |

mod link;
mod listener;
mod outbox;
pub mod proxy;
#[cfg(feature = "tls")]
mod tls;

pub use link::{Link, Received, Stream};
pub use listener::{Accepted, Listener, Socket};
pub use outbox::{Flushed, Outbox, Piece};
#[cfg(feature = "tls")]
pub use tls::{Identity, IdentityError, TlsStream};

/// Without the feature `tls` there is none.
#[cfg(not(feature = "tls"))]
pub enum Identity {}
