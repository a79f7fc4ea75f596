//! How much the real server costs, over real sockets, beside a yardstick that does nothing but move
//! bytes.
//!
//! ```sh
//! cargo bench --bench load                    # the table: five rounds, some five minutes
//! cargo bench --bench load -- --growth        # what more of everything costs
//! cargo bench --bench load -- --instructions  # what one message costs, counted by callgrind
//! cargo bench --bench load -- --help
//! ```
//!
//! # How to measure
//!
//! 1. **Measure what people run**: the release, in a process of its own. `server` starts it.
//! 2. **Count time on a core, not time that passed.** A machine does other things too, and a server
//!    does not get dearer by waiting for its turn. `machine` reads it from the kernel.
//! 3. **Hold it against the least that is possible**, measured in the same minute: `yardstick`. A
//!    ratio means the same on another machine; microseconds don't.
//! 4. **Interleave, repeat, take medians**: `table`. Who goes first changes from round to round.
//! 5. **Don't let the generator be the limit**: it has a core of its own, one thread, one buffer,
//!    and looks at each message once: `crowd`. Where it is busy to the full, that is said.
//! 6. **Believe nothing that was not heard**: each message must reach each member once and in
//!    order, or there is no figure: `room`.
//!
//! `talk` is the load on sockets, `rest` that of requests, `idle` that of nobody doing anything;
//! `trials` says which of them make the table, `growth` which make those of `--growth`.

use std::env;
use std::error::Error;
use std::process::ExitCode;

use options::{HELP, Options};

mod crowd;
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
mod table;
mod talk;
mod trials;
mod yardstick;

#[cfg(not(target_os = "linux"))]
compile_error!("what a process costs is read from Linux's /proc");

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

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
        (true, true) => Err("--growth or --instructions, not both".into()),
        (true, false) => growth::measure(options),
        (false, true) => instructions::measure(options),
        (false, false) => trials::measure(options),
    }
}
