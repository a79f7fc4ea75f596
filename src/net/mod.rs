//! Sockets and byte queues.
//!
//! Owns listeners, streams and outboxes. Must not know which protocol the bytes belong to, except
//! for TLS and PROXY headers. The invariant: no call blocks. Readiness is edge-triggered, so no edge
//! follows a call that stops before the kernel would block. The result of such a call says so.
//!
//! | file | what it owns |
//! |---|---|
//! | `listener` | binding, inherited sockets, accepting |
//! | `socket` | an accepted socket, whatever its transport |
//! | `link` | a stream with its outbox, and the trait of streams |
//! | `outbox` | the queue of bytes to write |
//! | `proxy` | the header that a TCP balancer puts before a connection's own bytes |
//! | `stock` | pieces whose memory is used again |
//! | `identity` | certificates and private keys (feature `tls`) |
//! | `tls` | the TLS layer of a stream (feature `tls`) |
//! | `outbound` | a connection that this server opens (feature `cluster`) |
//! | `tls_client` | its TLS layer (features `cluster` and `tls`) |

#[cfg(feature = "tls")]
mod identity;
mod link;
mod listener;
#[cfg(feature = "cluster")]
mod outbound;
mod outbox;
pub mod proxy;
mod socket;
mod stock;
#[cfg(feature = "tls")]
mod tls;
#[cfg(all(feature = "cluster", feature = "tls"))]
mod tls_client;

#[cfg(feature = "tls")]
pub use identity::{Identity, IdentityError};
pub use link::{Link, Received, Stream};
pub use listener::Listener;
#[cfg(all(feature = "cluster", not(feature = "tls")))]
pub use outbound::Authority;
#[cfg(feature = "cluster")]
pub use outbound::OutboundSocket;
pub use outbox::{Cut, Flushed, Outbox, Piece};
pub use socket::{Accepted, Socket};
pub use stock::PieceStock;
#[cfg(feature = "tls")]
pub use tls::TlsStream;
#[cfg(all(feature = "cluster", feature = "tls"))]
pub use tls_client::Authority;

/// Without the feature `tls` no certificate can exist.
#[cfg(not(feature = "tls"))]
pub use std::convert::Infallible as Identity;
