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
//! | [`guide::architecture`] | modules, a tick, the path of a message, a reading order, decisions |
//! | [`guide::traps`] | what goes wrong in such a server, with the test that shows it |
//! | [`guide::operating`] | running the server |
//! | [`guide::security`] | what the server promises under attack, and the limits behind it |
//! | [`guide::performance`] | measuring it, and what was measured |
//! | [`guide::step_by_step`] | learning how an event loop is written, by five programs |
//! | [`guide::changing`] | building, testing and changing it |
//!
//! # Where to begin
//!
//! [The architecture](guide::architecture) has the order in which to read ten files. Its first is
//! `tests/echo/server.rs`, a whole server on [`net`], [`http`] and [`ws`] alone. What a reader meets
//! then: [`slots`] and [`timers`], keys and deadlines; [`net::Link`] and [`net::Outbox`], reading and
//! writing without blocking; [`http::Codec`] and [`ws::Context`], bytes in, requests or messages out;
//! [`chat::Chat`], the rules, and [`chat::Sink`], all that these know of the outside;
//! [`api::routes`] and [`api::socket`], how a request or a frame becomes a call of the domain; and
//! [`server::Core`], the phases of a tick.
//!
//! Two modules are folders of many private files: [`server`] and [`chat`] open with a table of
//! them. Each file opens with what it owns, what it must not know, and its invariant; to see these
//! pages of private modules, run `cargo doc --no-deps --document-private-items --open`.

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
