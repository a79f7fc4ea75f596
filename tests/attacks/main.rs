//! Hostile strangers against the real server, with innocent members chatting beside each attack.
//!
//! `trial` runs an attack and holds the server to what it owes: the members of two rooms lose nothing, see one
//! order and nothing twice, and none of them is disconnected; afterwards connections, sessions, rooms, timers
//! and descriptors are what they were, and resident memory never was above the ceiling, a quarter more, and what
//! the empty server has. `crowd` is those members. Attackers come from addresses of their own, by
//! `X-Forwarded-For` through a trusted proxy, as the members do.
//!
//! How long a message took, while all was calm and under attack, is printed and never judged:
//!
//! ```sh
//! ATTACK_REPORT=1 SLOW_TESTS=1 cargo test --release --test attacks
//! ```
//!
//! Without `SLOW_TESTS=1` the attacks are small. Nothing here connects to anything but 127.0.0.1.
#![cfg(target_os = "linux")]

// What the wire tests start and speak with; these need only some of it.
#[allow(dead_code)]
#[path = "../wire/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../wire/server.rs"]
mod server;

mod crowd;
mod strangers;
mod trial;

mod ends;
mod floods;
mod http;
mod sockets;
