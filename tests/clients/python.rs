//! The package `websockets` from PyPI, as its users use it; `flow.py` is such a user.

use std::path::PathBuf;

use crate::program::{PATIENT, command, find, needed, run};
use crate::server::{Server, wait_until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/flow.py");

/// A Python that has the package: the one named by `CLIENTS_PYTHON`, else whatever `python3` is.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("CLIENTS_PYTHON").map(PathBuf::from);
    let python = named.or_else(|| find(&["python3"]))?;
    // 15 is the oldest that the script runs with: asyncio connections know their `close_code`.
    let probe = "import sys, websockets; sys.exit(int(websockets.__version__.split('.')[0]) < 15)";
    let ended = run(command(&python).arg("-c").arg(probe));
    ended.status.success().then_some(python)
}

#[track_caller]
fn check(part: &str) {
    let what = "python3 with the package websockets, 15 or newer";
    let Some(python) = needed(what, python()) else { return };
    let server = Server::start(PATIENT);
    let ended = run(command(python).arg("-B").arg(SCRIPT).arg(part).arg(server.host()));
    let ended = ended.expect_success();
    assert!(ended.stdout().ends_with("all held\n"), "{ended:?}");
    assert_eq!(ended.stderr, "");
    // Only the connection that asks.
    wait_until("the script's connections end", || server.health()["connections"] == 1);
}

#[test]
fn websockets_for_asyncio_goes_the_whole_way() {
    check("asyncio");
}

#[test]
fn websockets_for_threads_goes_the_whole_way() {
    check("threads");
}

#[test]
fn websockets_is_told_why_it_may_not_stay() {
    check("refusals");
}
