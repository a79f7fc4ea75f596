//! Packages from PyPI: `websockets`, used by `flow.py`, and the parser of `prometheus_client`, used by `metrics.py`.

use std::path::PathBuf;

use crate::program::{PATIENT, command, find, needed, run};
use crate::server::{Server, wait_until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/flow.py");

/// The script needs version 15, from which on asyncio connections have a `close_code`.
const HAS_WEBSOCKETS: &str =
    "import sys, websockets; sys.exit(int(websockets.__version__.split('.')[0]) < 15)";

/// A Python in which the script `probe` succeeds: that of `CLIENTS_PYTHON`, or else `python3`.
fn python(probe: &str) -> Option<PathBuf> {
    let named = std::env::var_os("CLIENTS_PYTHON").map(PathBuf::from);
    let python = named.or_else(|| find(&["python3"]))?;
    let ended = run(command(&python).arg("-c").arg(probe));
    ended.status.success().then_some(python)
}

/// A Python with the package `websockets`.
pub fn with_websockets() -> Option<PathBuf> {
    needed("python3 with the package websockets, 15 or newer", python(HAS_WEBSOCKETS))
}

#[track_caller]
fn check(part: &str) {
    let Some(python) = with_websockets() else { return };
    let server = Server::start(PATIENT);
    let ended = run(command(python).arg("-B").arg(SCRIPT).arg(part).arg(server.host()));
    let ended = ended.expect_success();
    assert!(ended.stdout().ends_with("all held\n"), "{ended:?}");
    assert_eq!(ended.stderr, "");
    // The one that is left is the connection that asks.
    wait_until("the script's connections end", || server.health()["connections"] == 1);
}

#[test]
fn websockets_with_asyncio_can_use_all_of_the_contract() {
    check("asyncio");
}

#[test]
fn websockets_with_threads_can_chat_and_leave() {
    check("threads");
}

// contract §5.7 §7.4 §7.6 §7.10 §7.12 §7.13
#[test]
fn websockets_receives_every_close_code_and_reason() {
    check("refusals");
}

#[test]
fn the_parser_of_prometheus_reads_the_metrics() {
    let what = "python3 with the package prometheus_client";
    let Some(python) = needed(what, python("import prometheus_client.parser")) else { return };
    let server = Server::start_with_metrics(PATIENT);
    let (_room, mut ana, _bob) = server.room_of_two();
    ana.chat(" ");
    ana.expect_refused("empty_message");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/metrics.py");
    let ended = run(command(python).arg("-B").arg(script).arg(server.addresses[1].host()));
    let ended = ended.expect_success();
    assert!(ended.stdout().ends_with("all held\n"), "{ended:?}");
}
