//! Micro benchmarks: what each piece of a message's way costs by itself, without a kernel.
//!
//! | file | what it measures |
//! |---|---|
//! | `http` | heads and bodies on their way in |
//! | `events` | what clients say and what they are told, as JSON and as frames |
//! | `context` | WebSocket frames on their way in, however they are cut |
//! | `fan_out` | one message to 1, 100 and 10,000 outboxes |
//! | `timers` | a million timers |
//! | `rooms` | resuming, and the listing of all rooms |
//! | `turns` | turns of the server's schedule, with the kernel's part |
//! | `server` | measures nothing: the core over lines in memory |
//!
//! `cargo bench --bench micro` prints a table, `cargo bench --bench micro -- fan_out` a part of it.
//! With `-- --test` each runs once and nothing is timed. Every benchmark asserts that it did what
//! it says, none how fast.

mod context;
mod events;
mod fan_out;
mod http;
mod rooms;
mod server;
mod timers;
mod turns;
#[path = "../../tests/sim/wire.rs"]
#[expect(dead_code, reason = "a client's bytes are the simulation's, which needs more of them")]
mod wire;

use std::alloc::System;

use zeroizing_alloc::ZeroAlloc;

/// The server's own: to free costs more with it.
#[global_allocator]
static HEAP: ZeroAlloc<System> = ZeroAlloc(System);

fn main() {
    divan::main();
}
