//! Idle sockets: ten thousand of them do not wake the server and take little memory.

use crate::client::{Http, Ws, post, upgrade};
use crate::server::{Server, alone, is_slow, raise_descriptor_limit};
use serde_json::json;

const SOCKETS: usize = 10_000;
const ROOM: usize = 10;
/// Resident memory for one idle socket, in bytes.
const SOCKET_BYTES_MAX: u64 = 2048;

/// Under `SLOW_TESTS=1` only: it takes a minute. With pings an hour apart, the server does not run once in it.
#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_idle_sockets_cause_no_wake_up() {
    if !is_slow() {
        eprintln!("skipped: set SLOW_TESTS=1 for a test of a minute");
        return;
    }
    let _alone = alone();
    raise_descriptor_limit();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    assert!(
        limit.is_none_or(|limit| limit as usize > SOCKETS + 500),
        "the descriptor limit {limit:?} is too low for {SOCKETS} sockets"
    );
    let server = Server::start(&["--ping-interval", "1h", "--idle-timeout", "1h"]);
    let before = server.resident_kib();
    let mut http = server.http();
    let mut sockets: Vec<Ws> = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS / ROOM {
        let sessions: Vec<String> = (0..ROOM).map(|n| session(&mut http, n)).collect();
        let room = http.ask(&post("/rooms").session(&sessions[0])).expect(201).string("room_id");
        let target = |session: &String| format!("/ws/{room}?session_id={session}");
        sockets.extend(sessions.iter().map(|session| server.upgrade(upgrade(&target(session)))));
    }
    drop(http);
    server.wait_until_idle();
    let switches = server.context_switches();
    // This test has to sleep: it shows that nothing happens in that time.
    std::thread::sleep(std::time::Duration::from_secs(60));
    assert_eq!(server.context_switches(), switches, "the server woke up");
    let bytes = (server.resident_kib() - before) * 1024 / SOCKETS as u64;
    assert!(bytes <= SOCKET_BYTES_MAX, "{bytes} bytes of resident memory for each socket");
    assert_eq!(server.health()["connections"], json!(SOCKETS + 1));
}

fn session(http: &mut Http, number: usize) -> String {
    let answer = http.ask(&post("/sessions").json(&json!({"username": format!("name {number}")})));
    answer.expect(201).string("session_id")
}
