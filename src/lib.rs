//! Disposable Chat: anonymous, temporary chat rooms over REST and WebSockets, on one thread.
//!
//! The crate is a server and the library that its program, its tests and its benchmarks are made of.
//! Its modules are public for them; none is an API with a promise of stability. What is promised is
//! the wire: [`guide::contract`].
//!
//! One sentence explains the structure: **bytes, the time and randomness come in at the event loop,
//! are passed down as plain values, and only bytes come out.** So each module can be read, tested
//! and fuzzed without a socket and without a clock, except those that own one.
//!
//! # The guide
//!
//! | page | for |
//! |---|---|
//! | [`guide::contract`] | what clients may rely on, in numbered clauses |
//! | [`guide::operating`] | running the server |
//! | [`guide::security`] | promises against strangers, and the limits behind them |
//! | [`guide::performance`] | measuring it, and what was measured |
//! | [`guide::changing`] | building, testing and changing it |
//!
//! # The modules
//!
//! | module | what it owns | what it must not know |
//! |---|---|---|
//! | [`clock`] | the time and the system's randomness | what they are used for |
//! | [`slots`], [`timers`] | slabs with generation-checked keys; deadlines | what the values are, what a deadline is for |
//! | [`rate`] | rate limits (GCRA) | what is limited |
//! | [`ledger`], [`counters`] | bytes kept for clients, and what gives way first; counts of events | the reason |
//! | [`config`], [`journal`] | flags and variables; the form of a log line | how the server works |
//! | [`net`] | sockets, TLS, and the output queues in front of them | any protocol |
//! | [`http`] | HTTP/1.1 without I/O (RFC 9110, RFC 9112) | a socket, the time, the chat |
//! | [`ws`] | WebSocket without I/O (RFC 6455) | a socket, the chat |
//! | [`chat`] | the domain: sessions, rooms, presence, history | JSON, HTTP, a clock |
//! | [`snapshot`] | the file that carries the domain over a restart | what its records mean |
//! | [`web`] | the files for browsers: the page, the API's documents | a request |
//! | [`api`] | the contract: routes, JSON, errors, CORS | a socket |
//! | [`process`] | signals, systemd, certificates, the machine's limits | a connection |
//! | [`server`] | the event loop, which brings them together | what is in a message |
//!
//! `tests/architecture.rs` holds the list of which module may import which, and fails on a breach.
//!
//! # Reading order
//!
//! 1. [`slots`] and [`timers`]: how things are named and how deadlines are kept. Small, and used
//!    everywhere.
//! 2. [`net::Link`] and [`net::Outbox`]: reading and writing without blocking, on edge-triggered
//!    readiness.
//! 3. [`http::Codec`] and [`ws::Context`]: bytes in, requests or messages out.
//! 4. [`chat::Chat`]: the rules, and `src/chat/feed.rs`, which delivers without any.
//!    [`chat::Sink`] is all that both know of the outside.
//! 5. [`api::routes`] and [`api::socket`]: how a request or a frame becomes a call of the domain.
//! 6. [`server::Core`]: the phases below; then `src/server/schedule.rs`, which decides whose turn it
//!    is, and [`server::Server`], which polls.
//!
//! For an introduction, read `tests/echo/server.rs` first: a whole server on [`net`], [`http`] and
//! [`ws`] alone.
//!
//! # A tick
//!
//! A tick is one pass of the event loop, from one poll to the next. It has six phases. Each may
//! leave work for later phases only.
//!
//! 1. **accept**: new connections are accepted, up to a budget ([`server::Core::accept`]). A
//!    connection over a limit is kept just long enough to be refused.
//! 2. **read**: each connection with input has a turn, in the order that `src/server/schedule.rs`
//!    decides: first the interactive lane, whose connections cost no more than a person does, then
//!    what the budget allows of the background lane. A turn reads once, and the bytes go through
//!    [`http::Codec::feed`] or [`ws::Context::feed`] into the domain.
//! 3. **sweep**: due timers fire, up to a budget ([`timers::Timers::pop_due`],
//!    [`chat::Chat::sweep`]).
//! 4. **settle**: the domain is told which connections have ended ([`chat::Chat::exit`]), room
//!    batches are sealed, and old messages are dropped if memory is short ([`chat::Chat::forget`]).
//! 5. **flush**: queued output is written, as a rule by one system call for each connection
//!    ([`net::Link::flush`]). Output for large rooms and output from the background lane may be
//!    deferred to later ticks.
//! 6. **reap**: ended connections are freed. Nothing is freed in any other phase, so a key or a poll
//!    token cannot refer to the wrong connection within a tick.
//!
//! Then the loop polls: until the next deadline, or not at all while a connection still has input,
//! output or a due timer to be served. With nothing to do the process sleeps; there is no heartbeat.
//!
//! # A message's way
//!
//! 1. [`ws::Context::feed`] yields the text of a frame, and [`api::socket::parse`] makes an event of
//!    it. (A message by REST comes through [`http::Codec::feed`] and a route.)
//! 2. [`chat::Chat::post`] decides: membership, rate, nonce, id, time, and thereby the order. The
//!    order of calls is the order that every client sees.
//! 3. `src/chat/feed.rs` delivers. [`chat::Sink::publish`] encodes the message once and appends it to
//!    its room's batch, and the room's history keeps a range of that batch.
//! 4. In *settle*, or before any member is told something personal, the batch is sealed: it becomes
//!    one shared buffer, queued for every recipient. A batch of background messages may first wait a
//!    few ticks for more.
//! 5. *flush* writes it to each recipient. A recipient that reads too slowly fills its outbox and is
//!    closed with 1013.
//!
//! So a message is serialised once and lies in memory once, whatever the number of recipients, and
//! the bytes that a client receives live are the bytes that the history returns.

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
pub mod rate;
pub mod server;
pub mod slots;
pub mod snapshot;
pub mod timers;
pub mod web;
pub mod ws;
