//! Disposable Chat: anonymous, temporary chat rooms over REST and WebSockets, from one thread.
//!
//! In one sentence: **bytes, the time and randomness come in at the loop, are passed down as plain
//! values, and only bytes come out.** This page is the map. The modules are public for the tests
//! and benchmarks; they are not an API that anyone promises to keep.
//!
//! # The rooms
//!
//! | room | what it owns | what it must never know |
//! |---|---|---|
//! | [`clock`] | the time and the OS's randomness | what anyone does with them |
//! | [`slots`], [`timers`] | generation-checked keys; deadlines | what the values are, what a deadline is for |
//! | [`ledger`], [`counters`] | bytes kept for clients, and what gives way first; what has happened | why |
//! | [`config`], [`journal`] | flags and variables; the form of a log line | how the server works |
//! | [`net`] | sockets, and the queues in front of them | any protocol |
//! | [`http`] | HTTP/1.1 without I/O (RFC 9110, 9112) | a socket, the time, the chat |
//! | [`ws`] | WebSockets without I/O (RFC 6455) | a socket, the chat |
//! | [`chat`] | the domain: sessions, rooms, presence, history | JSON, HTTP, a clock of its own |
//! | [`snapshot`] | the file in which sessions, rooms and histories outlive a restart | what is in them |
//! | [`web`] | files for browsers: the chat's page, the API's documents and theirs | a request |
//! | [`api`] | the contract: routes, JSON, errors, CORS | a socket |
//! | [`server`] | the loop, which brings them together | what is in a message |
//!
//! `tests/architecture.rs` lists which module may import which, and fails on a breach.
//!
//! # The tick
//!
//! One turn of the loop has six phases, and each may leave work only for the later ones:
//!
//! 1. **accept**: take in new connections ([`net::Listener::accept`], [`server::Core::accept`]).
//! 2. **read**: the connections that are ready have a turn each, and then some of the greedy, who
//!    cost more than people do, had more to say than a turn takes, or go; their bytes go through
//!    [`http::Codec::feed`] or [`ws::Context::feed`] into the domain.
//! 3. **sweep**: some of what is due fires ([`timers::Timers::pop_due`], [`chat::Chat::sweep`]).
//! 4. **settle**: the domain is told whose connection has ended ([`chat::Chat::exit`]); if memory
//!    is short, old messages are forgotten ([`chat::Chat::forget`]).
//! 5. **flush**: one write for each connection that has something queued ([`net::Link::flush`]);
//!    as many as there is time for, of those who are told what a crowd is.
//! 6. **reap**: what is over is freed, and only here, so no handle dangles within a tick.
//!
//! Then the loop polls until there is something to read or write, or the next deadline. With
//! nobody talking and no timer due it sleeps; there is no heartbeat.
//!
//! # A message's way
//!
//! [`api::socket::parse`] → [`chat::Chat::post`], which decides whether and in which order →
//! [`chat::Sink::publish`]: encoded once, appended to its room's batch → at the end of the tick one
//! shared buffer is queued for each connection in the room, and the history keeps ranges of the
//! same buffer. A message is serialised once in its life, and lies in memory once. What only the
//! greedy have said gathers for some ticks more, and leaves in one piece.

#![forbid(unsafe_code)]

/// Two views of one fact agree, or the process can't be trusted any more. A debug build says what
/// they are; to print values everywhere would make the release larger by a fiftieth.
macro_rules! agree {
    ($one:expr, $other:expr $(, $why:literal)? $(,)?) => {
        if cfg!(debug_assertions) {
            assert_eq!($one, $other $(, $why)?);
        } else {
            assert!($one == $other $(, $why)?);
        }
    };
}

pub mod api;
pub mod chat;
pub mod clock;
pub mod config;
pub mod counters;
pub mod guide;
pub mod http;
pub mod journal;
pub mod ledger;
pub mod net;
pub mod process;
pub mod server;
pub mod slots;
pub mod snapshot;
pub mod timers;
pub mod web;
pub mod ws;
