//! Disposable Chat: anonymous, temporary chat rooms over REST and WebSockets, on one thread.
//!
//! The crate is the server as a library; the program, the tests and the benchmarks are thin layers
//! on it. The modules are public so that tests and benchmarks can reach them, and none of their
//! APIs is stable. What is promised is the wire: [`guide::contract`].
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
//! | [`guide::security`] | what the server promises under attack, and the limits behind it |
//! | [`guide::performance`] | measuring it, and what was measured |
//! | [`guide::step_by_step`] | learning how an event loop is written, by five programs |
//! | [`guide::changing`] | building, testing and changing it |
//!
//! # The modules
//!
//! | module | what it owns | what it must not know |
//! |---|---|---|
//! | [`clock`] | the time and the system's randomness | what they are used for |
//! | [`slots`], [`timers`] | slabs with generation-checked keys; deadlines | what the values are, what a deadline is for |
//! | [`rate`] | rate limits (GCRA) | what is limited |
//! | [`ledger`], [`counters`] | bytes kept for clients, and what gives way first; counts of events | why bytes are kept or events counted |
//! | [`config`], [`journal`] | flags and variables; the form of a log line | how the server works |
//! | [`net`] | sockets, TLS, and the output queues in front of them | any protocol |
//! | [`http`] | HTTP/1.1 without I/O (RFC 9110, RFC 9112) | a socket, the time, the chat |
//! | [`ws`] | WebSocket without I/O (RFC 6455) | a socket, the chat |
//! | [`chat`] | the domain: sessions, rooms, presence, history | JSON, HTTP, a clock |
//! | `cluster` (feature) | what is said to the store that several servers share | a socket, a file, a clock |
//! | [`snapshot`] | the file that carries the domain over a restart | what its records mean |
//! | [`packed`] | files that the build script has compressed | what is in them |
//! | [`web`] | the files for browsers: the page, the API's documents | a request |
//! | [`api`] | the contract: routes, JSON, errors, CORS | a socket |
//! | [`process`] | signals, systemd, certificates, the machine's limits | a connection |
//! | [`server`] | the event loop, which brings them together | what is in a message |
//!
//! `tests/architecture.rs` holds the list of which module may import which, and fails on a breach.
//!
//! Two modules are folders of many private files: [`server`] and [`chat`] open with a table of
//! them, and [the guide](guide::changing) says which file of `server` answers which question. Each
//! file opens with what it owns, what it must not know, and its invariant; to see these pages of
//! private modules, run `cargo doc --no-deps --document-private-items --open`.
//!
//! # Reading order
//!
//! 1. [`slots`] and [`timers`]: keys (handles on entries) and deadlines. Small, and used
//!    everywhere.
//! 2. [`net::Link`] and [`net::Outbox`]: reading and writing without blocking, on edge-triggered
//!    readiness.
//! 3. [`http::Codec`] and [`ws::Context`]: bytes in, requests or messages out.
//! 4. [`chat::Chat`]: the rules, whose files the table of [`chat`] lists; then
//!    [`src/chat/feed.rs`], which has no rules and only delivers, and [`src/chat/catch_up.rs`],
//!    which resumes. [`chat::Sink`] is all that these know of the outside.
//! 5. [`api::routes`] and [`api::socket`]: how a request or a frame becomes a call of the domain.
//! 6. [`server::Core`]: the phases below; then [`src/server/schedule.rs`], which orders the turns, and
//!    [`server::Server`], which polls. The table of [`server`] names the other files.
//!
//! For an introduction, read `tests/echo/server.rs` first: a whole server on [`net`], [`http`] and
//! [`ws`] alone.
//!
//! # A tick
//!
//! A tick is one pass of the event loop, from one poll to the next. It has six phases. Each passes
//! work only to later phases of the same tick; work for an earlier phase waits for the next tick.
//!
//! 1. **accept**: new connections are accepted, up to a budget ([`server::Core::accept`]). A
//!    connection over a limit is kept just long enough to be refused, and gives its place to the next
//!    while it is silent ([`src/server/admission.rs`]).
//! 2. **read**: connections with input have turns, in the order that [`src/server/schedule.rs`]
//!    decides: first the interactive lane (connections that cause no more work than a person who
//!    types), then the background lane, each within a budget of its own. A turn reads once, and the
//!    bytes go through [`http::Codec::feed`] or [`ws::Context::feed`] into the domain.
//! 3. **sweep**: due timers fire, up to a budget ([`timers::Timers::pop_due`],
//!    [`chat::Chat::sweep`]). What has arrived is read before a peer is called silent
//!    ([`src/server/silence.rs`]).
//! 4. **settle**: some members and connections of rooms that have ended are removed
//!    ([`chat::Chat::end_members`]), the next pages are queued for connections that are catching up
//!    ([`chat::Chat::catch_up`]), some of the connections that have ended are reported to the domain
//!    ([`chat::Chat::exit`]), and room batches are sealed.
//! 5. **flush**: queued output is written, usually by one system call for each connection
//!    ([`net::Link::flush`]). Output for large rooms and output from the background lane may be
//!    deferred to later ticks. Then, if memory is short, connections are closed
//!    ([`src/server/shedding.rs`]) and the oldest messages are dropped ([`chat::Chat::forget`]).
//! 6. **reap**: some ended connections are freed. No connection is freed in any other phase, so a poll
//!    token cannot refer to the wrong connection within a tick.
//!
//! Then the loop polls: until the next deadline, or without waiting while a connection is scheduled
//! for reading or flushing, a listener may have connections to accept, or a timer is due. (Output
//! that the kernel does not take waits for a writable edge.) With nothing to do the process sleeps;
//! there is no periodic tick, except for systemd's watchdog if one is configured.
//!
//! # The path of a message
//!
//! 1. [`ws::Context::feed`] yields the text of a frame, and [`api::socket::parse`] makes an event of
//!    it. (A message by REST comes through [`http::Codec::feed`] and a route.)
//! 2. [`chat::Chat::post`] (sockets) and [`chat::Chat::post_from_outside`] (REST) check membership,
//!    rate and nonce. Then `Chat::accept` in [`src/chat/posting.rs`] gives the message its id and
//!    its time. Joins and leaves pass through it, too. The order of these calls is the order that
//!    every client sees.
//! 3. [`src/chat/feed.rs`] delivers. [`chat::Sink::publish`] encodes the message once and appends it to
//!    its room's batch. The room's history keeps the message as a record ([`src/chat/kept.rs`]), a
//!    fifth of the size, in blocks that all histories share ([`src/chat/store.rs`]).
//! 4. In *settle* the batch is sealed: it becomes one shared buffer, queued for every recipient. A
//!    connection that is sent a reply of its own before that is sent the batch so far first, and the
//!    rest later; one that enters gets what follows. A batch that only background connections have written to may stay open for a few
//!    ticks.
//!    A recipient that reads an event stream is queued the same events in its format
//!    ([`src/server/event_stream.rs`]); this, too, is encoded once for all streams of the room.
//! 5. *flush* writes it to each recipient. A recipient that reads too slowly fills its outbox and
//!    is closed with 1013.
//!
//! A client that reconnects names the last message that it has seen. [`src/chat/catch_up.rs`] keeps
//! its place in the history ([`chat::Chat::catch_up`]): the messages after it are sent in pages,
//! live batches are withheld meanwhile, and live delivery begins once the newest message is
//! queued.
//!
//! So a message is serialised once for all recipients. A reader of the history causes another
//! encoding, by the same function, so the bytes are the same. Lists of messages and pages of history
//! are encoded while they are read ([`src/server/streaming.rs`]), so that a slow reader holds one part
//! of them.
//!
//! [`src/chat/kept.rs`]: ../src/disposable_chat/chat/kept.rs.html
//! [`src/chat/store.rs`]: ../src/disposable_chat/chat/store.rs.html
//! [`src/chat/catch_up.rs`]: ../src/disposable_chat/chat/catch_up.rs.html
//! [`src/chat/feed.rs`]: ../src/disposable_chat/chat/feed.rs.html
//! [`src/chat/posting.rs`]: ../src/disposable_chat/chat/posting.rs.html
//! [`src/server/admission.rs`]: ../src/disposable_chat/server/admission.rs.html
//! [`src/server/event_stream.rs`]: ../src/disposable_chat/server/event_stream.rs.html
//! [`src/server/schedule.rs`]: ../src/disposable_chat/server/schedule.rs.html
//! [`src/server/silence.rs`]: ../src/disposable_chat/server/silence.rs.html
//! [`src/server/streaming.rs`]: ../src/disposable_chat/server/streaming.rs.html
//! [`src/server/shedding.rs`]: ../src/disposable_chat/server/shedding.rs.html

#![forbid(unsafe_code)]

/// Asserts that two records of one fact agree.
macro_rules! agree {
    ($one:expr, $other:expr $(, $why:literal)? $(,)?) => {
        if cfg!(debug_assertions) {
            assert_eq!($one, $other $(, $why)?);
        } else {
            holds!($one == $other);
        }
    };
}

/// Asserts that what the code maintains holds. Only debug builds print more than the place: with the
/// values the release binary would be 2 % larger, and with the source text of each condition 1 %.
macro_rules! holds {
    ($fact:expr $(, $why:literal)? $(,)?) => {
        if cfg!(debug_assertions) {
            assert!($fact $(, $why)?);
        } else if !$fact {
            $crate::contradiction(file!(), line!());
        }
    };
}

#[cold]
#[inline(never)]
fn contradiction(file: &str, line: u32) -> ! {
    panic!("the state contradicts itself: {file}, line {line}")
}

pub mod api;
pub mod chat;
pub mod clock;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod config;
pub mod counters;
pub mod guide;
pub mod http;
pub mod journal;
pub mod ledger;
pub mod net;
pub mod packed;
pub mod process;
pub mod rate;
pub mod server;
pub mod slots;
pub mod snapshot;
pub mod timers;
pub mod web;
pub mod ws;
