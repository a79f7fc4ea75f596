//! Silence: what ten thousand sockets cost that say nothing.

use crate::client::{Http, Ws, post, upgrade};
use crate::server::Server;
use serde_json::json;

const SOCKETS: usize = 10_000;
const ROOM: usize = 10;
/// Resident memory that one of them may cost.
const BYTES_MAX: u64 = 2048;

/// Under `SLOW_TESTS=1`: a minute of silence with pings an hour apart is a minute without a single
/// wake-up. Prints what a socket weighs.
#[cfg(target_os = "linux")]
#[test]
fn nothing_wakes_up_for_ten_thousand_silent_sockets() {
    if std::env::var_os("SLOW_TESTS").is_none() {
        eprintln!("skipped: set SLOW_TESTS=1 for a minute of silence");
        return;
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    assert!(
        limit.is_none_or(|limit| limit as usize > SOCKETS + 500),
        "the descriptor limit {limit:?} is too low for {SOCKETS} sockets"
    );
    let server = Server::start(&["--ping-interval", "1h", "--idle-timeout", "1s"]);
    let before = server.resident_kib();
    let mut http = server.http();
    let mut sockets: Vec<Ws> = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS / ROOM {
        let sessions: Vec<String> = (0..ROOM).map(|n| session(&mut http, n)).collect();
        let room = http.ask(&post("/rooms").session(&sessions[0])).expect(201).json()["room_id"]
            .as_str()
            .expect("an id")
            .to_owned();
        let target = |session: &String| format!("/ws/{room}?session_id={session}");
        sockets.extend(sessions.iter().map(|session| server.upgrade(upgrade(&target(session)))));
    }
    http.expect_end(); // Idle for a second: the last timer that is due within the hour.
    let switches = server.context_switches();
    // The one test that sleeps: it is about a time in which nothing happens.
    std::thread::sleep(std::time::Duration::from_secs(60));
    assert_eq!(server.context_switches(), switches, "somebody woke the server up");
    let bytes = (server.resident_kib() - before) * 1024 / SOCKETS as u64;
    eprintln!("{SOCKETS} silent sockets: {bytes} bytes of resident memory each");
    assert!(bytes <= BYTES_MAX, "{bytes}");
    assert_eq!(server.health()["connections"], json!(SOCKETS + 1));
}

fn session(http: &mut Http, number: usize) -> String {
    let answer = http.ask(&post("/sessions").json(&json!({"username": format!("name {number}")})));
    answer.expect(201).json()["session_id"].as_str().expect("an id").to_owned()
}
