//! Several servers as one, over Valkey or Redis: the store orders and remembers, the servers, here
//! called nodes, mirror and deliver (feature `cluster`, contract §17).
//!
//! Owns what a node knows of the cluster: its connection to the store, the commands under way, and the
//! rooms that it mirrors. Must not open a socket or read a file or a clock, and must not know HTTP,
//! JSON or a rule of the chat: the functions of the store decide. The invariant: *the byte stream from
//! the store is the order of everything*. A reply comes after all pushes that were sent before its
//! command ran, so a mirrored room is as new as the last reply.
//!
//! | file | what it owns |
//! |---|---|
//! | `functions.lua` | the rules: functions, each of which is one atomic step in the store |
//! | `library` | the functions' source, and their names |
//! | `uplink` | the connection: greeting, calls without a reply, deadlines |
//! | `resp` | packing commands; replies and pushes as values |
//! | `record` | the form in which messages and rooms lie in the store |
//! | `identity` | the names by which the store knows sessions, people and addresses |
//! | `args` | the arguments of a function |
//! | `backlog` | first calls, which wait for their turn |
//! | `deferred` | calls that wait until there is capacity for them |
//! | `state` | [`Cluster`], and how functions are called |
//! | `node` | replies and pushes on their way to what they are for |
//! | `plan`, `advance` | what waits for a reply, and goes on with it |
//! | `rest` | a request's command as a sequence of calls |
//! | `ending` | the end of a session |
//! | `entering`, `leaving` | a connection's way into a room, and its way out |
//! | `posting` | what a connection in a room sends |
//! | `rooms` | the mirrored rooms |
//! | `beat` | leases, deadlines, and what is left by nodes that have died |
//! | `status`, `refusal` | the words that replies begin with, and what they mean for a client |
//! | `recovery` | catching up after the store was away |
//! | `settled` | outcomes, until the event loop answers |

mod advance;
mod args;
mod backlog;
mod beat;
mod deferred;
mod ending;
mod entering;
mod identity;
mod leaving;
pub mod library;
mod node;
mod plan;
mod posting;
pub mod record;
mod recovery;
mod refusal;
mod resp;
mod rest;
mod rooms;
mod settled;
mod state;
mod status;
mod uplink;

#[cfg(test)]
mod tests;

pub use args::Args;
pub use entering::EntryRequest;
pub use identity::terms;
pub use resp::{
    BadReply, REPLY_BYTES_MAX, Reply, ReplyReader, StoreError, StoreErrorKind, StoreEvent, pack,
};
pub use settled::Settled;
pub use state::{Cluster, ClusterSettings, Lent, NodeAnswer};
pub use uplink::{
    CALL_BYTES_MAX, CALLS_MAX, CallFailure, Login, StartProblem, StoreCall, Unavailable, Uplink,
    UplinkConfig, UplinkEvent,
};
