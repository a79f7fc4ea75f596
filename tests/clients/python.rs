//! Packages from PyPI as their users use them: `websockets` (`flow.py` is such a user), and the
//! parser of `prometheus_client`.

use std::path::PathBuf;

use crate::program::{PATIENT, command, find, needed, run};
use crate::server::{Server, wait_until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/flow.py");

/// 15 is the oldest that the script runs with: asyncio connections know their `close_code`.
const HAS_WEBSOCKETS: &str =
    "import sys, websockets; sys.exit(int(websockets.__version__.split('.')[0]) < 15)";

/// A Python that a probe succeeds in: the one named by `CLIENTS_PYTHON`, else whatever `python3` is.
fn python(probe: &str) -> Option<PathBuf> {
    let named = std::env::var_os("CLIENTS_PYTHON").map(PathBuf::from);
    let python = named.or_else(|| find(&["python3"]))?;
    let ended = run(command(&python).arg("-c").arg(probe));
    ended.status.success().then_some(python)
}

#[track_caller]
fn check(part: &str) {
    let what = "python3 with the package websockets, 15 or newer";
    let Some(python) = needed(what, python(HAS_WEBSOCKETS)) else { return };
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

// contract §5.7 §7.4 §7.6 §7.10 §7.12 §7.13
#[test]
fn websockets_is_told_why_it_may_not_stay() {
    check("refusals");
}

#[test]
fn prometheus_reads_the_metrics() {
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
