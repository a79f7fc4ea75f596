//! Micro benchmarks: the cost of each step that handles a message, without the kernel.
//!
//! | file | what it measures |
//! |---|---|
//! | `http` | parsing heads and bodies |
//! | `events` | parsing client events, and encoding server events as JSON and as frames |
//! | `context` | parsing WebSocket frames, in one piece and in several |
//! | `fan_out` | one message to 1, 100 and 10,000 outboxes |
//! | `timers` | a million timers |
//! | `rooms` | resuming with `after`, and the listing of all rooms |
//! | `turns` | turns of the server's schedule, including the kernel |
//! | `instructions` | which steps are counted |
//! | `server` | measures nothing: the server's core over streams in memory |
//!
//! `cargo bench --bench micro` prints a table, `cargo bench --bench micro -- fan_out` a part of it.
//! With `-- --test` each runs once and is not timed. Each benchmark asserts that its work was done,
//! never its speed. With `-- --instructions` callgrind counts the instructions of ten steps, which
//! `benches/counts.txt` keeps.

mod context;
#[path = "../counts.rs"]
mod counts;
mod events;
mod fan_out;
mod http;
mod instructions;
mod rooms;
mod server;
mod timers;
mod turns;
#[path = "../../tests/sim/wire.rs"]
#[expect(dead_code, reason = "shared with the simulation, which uses more of it")]
mod wire;

use std::alloc::System;
use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// The allocator of the server, which zeroes freed memory and so takes longer.
#[global_allocator]
static HEAP: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match instructions::run(&arguments) {
        None => divan::main(),
        Some(Ok(())) => {}
        Some(Err(error)) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Takes a step so many times, as a benchmark does but without a clock.
fn repeat<T>(times: usize, mut once: impl FnMut() -> T) {
    (0..times).for_each(|_| _ = black_box(once()));
}
