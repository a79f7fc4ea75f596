//! The program: reads its arguments, runs the server, returns an exit code.
//!
//! Owns the arguments, the environment, the allocator, stdout and the exit codes. Must not know how
//! the server works. The invariant: exit code 2 means that a flag or variable was invalid, and that
//! nothing was started.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use disposable_chat::config::{Config, Task};
use disposable_chat::journal;
use disposable_chat::server::{self, Server};
use zeroizing_alloc::ZeroAlloc;

/// Zeroes all memory that is freed, in this crate and in every library, so that messages don't outlive
/// their room in unused memory. Buffers that are never freed are wiped by their owners.
#[global_allocator]
static HEAP: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let config = match Config::parse(env::args_os().skip(1), |name| env::var_os(name)) {
        Ok(Task::Serve(config)) => config,
        Ok(Task::Check(config, settings)) => {
            let warnings = warnings(&config).into_iter();
            let warnings = warnings.map(|warning| format!("warning: {warning}\n"));
            let machine = server::report(&config);
            return print(&(settings + "\n" + &machine + &warnings.collect::<String>()));
        }
        Ok(Task::Help(text)) => return print(&text),
        Ok(Task::Version) => {
            return print(concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Err(error) => {
            journal::say(&error.to_string());
            return ExitCode::from(2);
        }
    };
    journal::install(config.log);
    journal::log_panics();
    for warning in warnings(&config) {
        log::warn!("{warning}");
    }
    serve(&config)
}

fn warnings(config: &Config) -> Vec<String> {
    config.warnings(&mut env::vars_os().map(|(name, _)| name))
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

/// Unlike `print!`, does not panic if stdout is closed (`--help | head -1`).
fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
