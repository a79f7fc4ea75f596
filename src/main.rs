//! The program: flags in, an exit code out.
//!
//! Owns what only a process has: arguments, environment, the allocator, stdout and exit codes.
//! Must never know how the server works. The invariant: 2 means that flags or variables were
//! wrong, and then nothing was started.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use disposable_chat::config::{Command, Config};
use disposable_chat::journal;
use disposable_chat::server::{self, Server};
use zeroizing_alloc::ZeroAlloc;

/// Zeroes whatever is freed, by us or by any library: what was said does not outlive its room in
/// memory that nobody has used again. What is never freed is for its owners to wipe.
#[global_allocator]
static HEAP: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let config = match Config::parse(env::args_os().skip(1), |name| env::var_os(name)) {
        Ok(Command::Serve(config)) => config,
        Ok(Command::Check(config, settings)) => {
            return print(&(settings + "\n" + &server::report(&config)));
        }
        Ok(Command::Help(text)) => return print(&text),
        Ok(Command::Version) => {
            return print(concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Err(error) => {
            journal::say(&error.to_string());
            return ExitCode::from(2);
        }
    };
    journal::install(config.log);
    journal::log_panics();
    serve(&config)
}

fn serve(config: &Config) -> ExitCode {
    let ended = Server::new(config).map_err(|error| error.to_string());
    match ended.and_then(|server| server.run().map_err(|error| error.to_string())) {
        Ok(ending) => ExitCode::from(ending.exit_code()),
        Err(error) => {
            journal::say(&error);
            ExitCode::FAILURE
        }
    }
}

/// Unlike `print!`, does not panic when the reader has gone (`--help | head -1`).
fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
