//! Measures what the real server costs over real sockets, and compares it with a yardstick that does
//! nothing but move bytes.
//!
//! ```sh
//! cargo bench --bench load                    # the table of figures: five rounds, five minutes
//! cargo bench --bench load -- --growth        # how costs grow with the number of everything
//! cargo bench --bench load -- --instructions  # instructions of whole paths, by callgrind
//! cargo bench --features cluster --bench load -- --cluster  # several servers on one store
//! cargo bench --bench load -- --help
//! ```
//!
//! # How to measure
//!
//! 1. **Measure what people run**: the release build, in a separate process. `server` starts it.
//! 2. **Count processor time, not elapsed time.** The machine has other work too, and waiting for a
//!    core is not a cost of the server. `machine` reads the time from the kernel.
//! 3. **Compare with the least possible work**, measured in the same minute: `yardstick`. A ratio
//!    holds on another machine; microseconds don't.
//! 4. **Alternate, repeat, and take medians**: `table`. The order changes from round to round.
//! 5. **Don't let the generator be the limit**: `clients` has its own core, one thread and one
//!    buffer, and reads each message once. If it is busy all the time, it prints a warning.
//! 6. **Check each delivery**: each message must reach each member once and in order, or the
//!    benchmark fails: `room`.
//!
//! `traffic` is the load of messages, `rest` of requests, `churn` of coming and going, `idle` of
//! silent sockets, `attacks` of floods. `trials` lists the figures of the table, `growth` those of `--growth`, `cluster` those
//! of `--cluster`, and `instructions` the counts, which `benches/counts.txt` keeps.

use std::env;
use std::process::ExitCode;

use options::{HELP, Options};

mod attacks;
mod churn;
mod clients;
mod cluster;
#[path = "../counts.rs"]
mod counts;
mod frame;
mod growth;
mod http;
mod idle;
mod instructions;
mod machine;
mod options;
mod rest;
mod room;
mod server;
mod store;
mod table;
mod traffic;
mod trials;
mod yardstick;

#[cfg(not(target_os = "linux"))]
compile_error!("the cost of a process is read from Linux's /proc");

pub use counts::Result;

fn main() -> ExitCode {
    let mode = env::args().nth(1).unwrap_or_default();
    let done = match mode.as_str() {
        yardstick::PLAIN => yardstick::serve(false),
        yardstick::COALESCING => yardstick::serve(true),
        _ => Options::parse(env::args_os().skip(1)).and_then(|options| measure(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    if options.help {
        print!("{HELP}");
        return Ok(());
    }
    room::prove()?;
    machine::raise_descriptor_limit()?;
    match (options.growth, options.instructions) {
        (true, _) => growth::measure(options),
        (false, true) => instructions::measure(options),
        (false, false) if options.cluster => cluster::measure(options),
        (false, false) => trials::measure(options),
    }
}
