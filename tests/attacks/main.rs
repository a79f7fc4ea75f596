//! Attacks on the real server, while members of two rooms chat.
//!
//! `trial` runs an attack and asserts: the members lose no message, all receive the same order without repeats, and
//! none is disconnected. After the attack, the numbers of connections, sessions, rooms, timers and descriptors are
//! as before it, and resident memory was at no time above the ceiling, a quarter more, and what the empty server
//! has. `bystanders` are those members. Attackers and members have addresses of their own, by `X-Forwarded-For`
//! through a trusted proxy (`proxied`).
//!
//! A report prints how long messages took before and under attack, and a bound on the longest tick of the server
//! meanwhile, which is the end of a bucket of its histogram. Time is never asserted:
//!
//! ```sh
//! ATTACK_REPORT=1 SLOW_TESTS=1 cargo test --release --test attacks
//! ```
//!
//! Without `SLOW_TESTS=1` the attacks are small. All connections go to 127.0.0.1.
#![cfg(target_os = "linux")]

// These tests use only a part of both.
#[allow(dead_code)]
#[path = "../wire/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../wire/server.rs"]
mod server;

mod bystanders;
mod proxied;
mod trial;

mod floods;
mod http;
mod large_rooms;
mod owners;
mod process;
mod sockets;
