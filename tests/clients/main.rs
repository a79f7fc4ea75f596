//! Unmodified clients against the real server: curl, the Python package `websockets`, and the `fetch` and
//! `WebSocket` of Chromium. Each does all that the contract offers: session, room, socket, chat, typing, history,
//! leaving, and every refusal. `proxies` runs nginx, Caddy and HAProxy in front of the server; `tour` pastes the
//! README's tour into bash and zsh.
//!
//! `tests/wire` and the server could misread a standard in the same way; these clients were written by others.
//! A test reports that it is skipped if its program is missing; with `REQUIRE_ALL=1` it fails instead.

// These tests use only a part of both.
#[allow(dead_code)]
#[path = "../wire/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../wire/server.rs"]
mod server;

mod program;
mod proxy;

mod browser;
mod curl;
mod module;
mod proxies;
mod python;
mod tour;
