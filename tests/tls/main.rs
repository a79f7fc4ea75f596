//! TLS in the server itself (feature `tls`): `https` and `wss` without a proxy.
//!
//! These tests cover handshakes, certificates, and how connections end; `tests/wire` covers what is sent inside. `peer`
//! creates a certificate authority and rustls clients that trust it. `programs` runs curl, OpenSSL and Python as
//! clients.

// These tests use only a part of each.
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
mod traffic;
