//! Real, unmodified clients against the real server: curl, the Python package `websockets`, and the
//! `fetch` and `WebSocket` of Chromium. Each goes the whole way: session, room, socket, chat, typing,
//! history, leaving, and every way of being turned away that a client can run into. `tour` gives the
//! README's tour to bash and zsh in a terminal.
//!
//! `tests/wire` knows every byte and would go along with a misreading of the standards that is also ours;
//! these clients were written by others. A test whose client the machine lacks says so and passes; with
//! `REQUIRE_ALL=1` it fails.

// What the wire tests start and speak with; these need only some of it.
#[allow(dead_code)]
#[path = "../wire/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../wire/server.rs"]
mod server;

mod program;

mod browser;
mod curl;
mod proxies;
mod python;
mod tour;
