//! Several servers on one store, Valkey or Redis (feature `cluster`).
//!
//! Owns what is said to the store, and what its replies mean. Must not open a socket or read a file or
//! a clock: bytes come in and go out, and so do the time and randomness. The invariant: the store's
//! byte stream is the order of everything; replies and pushes are applied as they come.
//!
//! | file | what it owns |
//! |---|---|
//! | `library` | the functions that decide in the store: their source, and their names |
//! | `uplink` | the connection: greeting, calls without a reply, deadlines |
//! | `resp` | packing commands; replies and pushes as values |
//! | `record` | the form in which messages and rooms lie in the store |

pub mod library;
pub mod record;
mod resp;
mod uplink;

pub use resp::{BadReply, Reply, ReplyReader, StoreError, StoreErrorKind, StoreEvent, pack};
pub use uplink::{
    CALL_BYTES_MAX, CALLS_MAX, CallFailure, Login, StartProblem, StoreCall, Unavailable, Uplink,
    UplinkConfig, UplinkCounters, UplinkEvent,
};
