//! The server as it speaks TLS by itself, built with the feature `tls`: `wss` without a proxy.
//!
//! `peer` makes a throw-away authority, certificates and rustls clients that believe in them; the rest is what
//! `tests/wire` starts and speaks with. What is said inside is the wire tests' business; here it is how it gets there,
//! and what happens when it doesn't. `programs` has curl and openssl say the same.

// What the wire tests start and speak with; these need only some of it.
#[allow(dead_code)]
#[path = "../wire/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../clients/program.rs"]
mod program;
#[allow(dead_code)]
#[path = "../wire/server.rs"]
mod server;

mod peer;

mod certificate;
mod ends;
mod handshake;
mod programs;
mod talk;
