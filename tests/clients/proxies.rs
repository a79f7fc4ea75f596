//! nginx, Caddy and HAProxy in front of the server, with the configurations of the guide's page on operating.
//!
//! The tests take each configuration from that page and replace only addresses and timeouts: under `SLOW_TESTS=1`,
//! five seconds without messages stand for a minute and a half.

use std::env;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Http, get, post, upgrade};
use crate::proxy::{Front, Recipe};
use crate::server::{self, Server};

const OPERATING: &str = include_str!("../../src/guide/operating.md");

const FLAGS: [&str; 6] =
    ["--trusted-proxy", "127.0.0.1", "--ping-interval", "500ms", "--session-rate", "1"];

/// The configurations of that page, in front of the server at `back`.
fn guide(back: &str) -> Recipe<'_> {
    Recipe { page: OPERATING, backs: vec![("127.0.0.1:8000", back)] }
}

/// Asserts that REST, the page with its parts, sockets, and idle sockets work below `prefix`.
fn expect_all_to_work(front: &Front, prefix: &str) {
    let mut http = front.http();
    // A proxy that compresses a response may send it without a length, which the client does not support.
    let file = |path: &str| get(&format!("{prefix}/{path}")).field("Accept-Encoding", "identity");
    let page = http.ask(&file("")).expect(200);
    assert!(page.field("Content-Type").is_some_and(|kind| kind.starts_with("text/html")));
    let text = page.text();
    let parts: Vec<&str> =
        text.split("=\"page/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(parts.len() >= 2, "{text}");
    for part in parts {
        http.ask(&file(&format!("page/{part}"))).expect(200);
    }
    let open = |http: &mut Http, name: &str| {
        let answer =
            http.ask(&post(&format!("{prefix}/sessions")).json(&json!({"username": name})));
        answer.expect(201).string("session_id")
    };
    let (ana, bob) = (open(&mut http, "ana"), open(&mut http, "bob"));
    let room = http.ask(&post(&format!("{prefix}/rooms")).session(&ana)).expect(201).json();
    let room = room["room_id"].as_str().expect("an id");
    let enter = |session: &str| {
        front.http().upgrade(&upgrade(&format!("{prefix}/ws/{room}?session_id={session}")))
    };
    let mut first = enter(&ana);
    first.expect_join("ana");
    let mut second = enter(&bob);
    for ws in [&mut first, &mut second] {
        ws.expect_join("bob");
    }
    let idle = Duration::from_secs(if server::is_slow() { 5 } else { 0 });
    let began = Instant::now();
    while began.elapsed() < idle {
        for ws in [&mut first, &mut second] {
            let payload = ws.expect_ping();
            ws.pong(payload);
        }
    }
    first.chat("still there?");
    for ws in [&mut first, &mut second] {
        while ws.event_with_pongs()["message"] != "still there?" {}
    }
    second.close();
}

/// Asserts that the forwarded address counts. The proxy itself is on loopback, which has no rate.
fn expect_forwarded_address(front: &Front, prefix: &str) {
    let mut http = front.http();
    let open = post(&format!("{prefix}/sessions")).json(&json!({"username": "ana"}));
    let answers: Vec<_> = (0..70).map(|_| http.ask(&open).status).collect();
    assert!(answers.contains(&429), "{answers:?}");
}

#[test]
fn nginx_works_with_the_guides_configuration() {
    let server = Server::start(&FLAGS);
    let Some(front) = guide(&server.host()).nginx() else { return };
    expect_all_to_work(&front, "/chat");
    expect_forwarded_address(&front, "/chat");
}

#[test]
fn nginx_works_through_a_unix_socket() {
    let path = env::temp_dir().join(format!("behind-nginx-{}.sock", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let server =
        Server::spawn(server::command(&[&FLAGS[..], &["--listen", &listen]].concat(), &[]), 1);
    let Some(front) = guide(&format!("{listen}:")).nginx() else { return };
    expect_all_to_work(&front, "/chat");
    expect_forwarded_address(&front, "/chat");
    drop(server);
}

#[test]
fn caddy_works_with_the_guides_configuration() {
    let server = Server::start(&FLAGS);
    let Some(front) = guide(&server.host()).caddy() else { return };
    expect_all_to_work(&front, "/chat");
    expect_forwarded_address(&front, "/chat");
    let answer = front.http().ask(&get("/chat")).expect(302);
    assert_eq!(answer.field("Location"), Some("/chat/"));
}

#[test]
fn haproxy_works_with_the_guides_configuration() {
    let server = Server::start(&FLAGS);
    let Some(front) = guide(&server.host()).haproxy("haproxy") else { return };
    expect_all_to_work(&front, "/chat");
    expect_forwarded_address(&front, "/chat");
}

/// With the PROXY protocol. The client is on loopback here; `tests/wire/balanced.rs` tests other addresses.
#[test]
fn haproxy_works_as_a_tcp_balancer() {
    let listen = ["--listen", "proxy:127.0.0.1:0"];
    let server = Server::spawn(server::command(&[&FLAGS[..], &listen].concat(), &[]), 1);
    let Some(front) = guide(&server.host()).haproxy("haproxy-tcp") else { return };
    expect_all_to_work(&front, "");
}
