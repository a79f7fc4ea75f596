//! Listeners behind a load balancer that speaks the PROXY protocol: the address in the header counts.

use serde_json::json;

use crate::client::{Http, Stream, get, post, upgrade};
use crate::server::{Server, run, socket_path};

/// A server with a plain listener and a listener for the PROXY protocol.
fn balanced(flags: &[&'static str]) -> Server {
    let mut command = crate::server::command(&["--listen", "127.0.0.1:0"], &[]);
    command.args(["--listen", "proxy:127.0.0.1:0"]).args(flags);
    Server::spawn(command, 2)
}

const TRUSTED: [&str; 2] = ["--trusted-proxy", "127.0.0.0/8"];

/// A header of version 1.
fn header(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 198.51.100.1 56324 443\r\n").into_bytes()
}

/// A header of version 2.
fn header_v2(address: [u8; 4]) -> Vec<u8> {
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&head[..], &address, &[198, 51, 100, 1, 0xDC, 4, 1, 0xBB]].concat()
}

/// A connection that begins with `header`.
fn begin(server: &Server, header: impl AsRef<[u8]>) -> Http {
    let mut http = Http::connect(&server.addresses[1]);
    http.send(header);
    http
}

#[test]
fn rest_and_sockets_work_after_the_header() {
    let server = balanced(&TRUSTED);
    for header in
        [header("203.0.113.7"), header_v2([203, 0, 113, 8]), b"PROXY UNKNOWN\r\n".to_vec()]
    {
        let mut http = begin(&server, &header);
        let ana = http.ask(&post("/sessions").json(&json!({"username": "ana"}))).expect(201);
        let ana = ana.string("session_id");
        let room = http.ask(&post("/rooms").session(&ana)).expect(201).json();
        let room = room["room_id"].as_str().unwrap();
        let mut ws = http.upgrade(&upgrade(&format!("/ws/{room}?session_id={ana}")));
        ws.expect_join("ana");
        ws.chat("hello");
        ws.expect_chat("ana", "hello");
        ws.close();
    }
    server.ask(get("/health")).expect(200);
}

#[test]
fn a_header_may_come_byte_by_byte_and_with_the_first_request() {
    let server = balanced(&TRUSTED);
    for header in [header("203.0.113.7"), header_v2([203, 0, 113, 8])] {
        let request = get("/ping").bytes("a");
        let mut http = begin(&server, [&header[..], &request].concat());
        http.answer().expect(200);
        let mut http = begin(&server, "");
        for byte in [&header[..], &request].concat() {
            http.send([byte]);
        }
        http.answer().expect(200);
    }
}

/// Tries to open 65 sessions from the address in `header` and returns how many were opened.
fn opened(server: &Server, header: &[u8]) -> usize {
    let mut http = begin(server, header);
    let open = post("/sessions").json(&json!({"username": "ana"}));
    let answers = http.pipeline(&vec![open; 65]);
    let refused = answers.iter().filter(|answer| answer.status != 201);
    refused.for_each(|answer| _ = answer.clone().refused(429, "rate_limited"));
    answers.iter().filter(|answer| answer.status == 201).count()
}

#[test]
fn the_address_in_a_header_from_a_trusted_balancer_counts() {
    let server = balanced(&[&TRUSTED[..], &["--session-rate", "1"]].concat());
    assert!((60..65).contains(&opened(&server, &header("203.0.113.7"))));
    assert!(opened(&server, &header_v2([203, 0, 113, 7])) < 5, "the same address in version 2");
    assert!((60..65).contains(&opened(&server, &header("203.0.113.8"))), "another address");
    assert_eq!(opened(&server, b"PROXY UNKNOWN\r\n"), 65, "the balancer itself is not limited");
}

#[test]
fn the_address_in_a_header_from_an_untrusted_peer_is_ignored() {
    let server = balanced(&["--session-rate", "1", "--trusted-proxy", "10.0.0.0/8"]);
    assert_eq!(opened(&server, &header("203.0.113.7")), 65, "loopback is exempt");
}

/// The balancer's peer may be a trusted proxy itself, whose `X-Forwarded-For` then counts.
#[test]
fn x_forwarded_for_counts_if_the_address_in_the_header_is_a_trusted_proxy() {
    let server =
        balanced(&[&TRUSTED[..], &["--session-rate", "1", "--trusted-proxy", "10.0.0.1"]].concat());
    let open =
        post("/sessions").json(&json!({"username": "ana"})).field("X-Forwarded-For", "203.0.113.7");
    let count = |header: Vec<u8>| {
        let answers = begin(&server, header).pipeline(&vec![open.clone(); 65]);
        answers.iter().filter(|answer| answer.status == 201).count()
    };
    assert!((60..65).contains(&count(header("10.0.0.1"))));
    assert!(count(header("10.0.0.1")) < 5, "the forwarded address is over its rate");
    assert!(
        (60..65).contains(&count(header("203.0.113.9"))),
        "an untrusted peer's field is ignored"
    );
}

/// Connections count from the header on, and not only from an upgrade.
#[test]
fn address_connections_limits_the_connections_of_the_address_in_the_header() {
    let server = balanced(&[&TRUSTED[..], &["--address-connections", "2"]].concat());
    let mut kept: Vec<Http> = (0..2).map(|_| begin(&server, header("203.0.113.7"))).collect();
    for http in &mut kept {
        http.ask(&get("/ping")).expect(200);
    }
    let mut third = begin(&server, header("203.0.113.7"));
    third.send_request(&get("/ping"));
    third.answer().refused(429, "rate_limited");
    third.expect_end();
    begin(&server, header("203.0.113.8")).ask(&get("/ping")).expect(200);
    drop(kept);
    crate::server::wait_until("the address may connect again", || {
        begin(&server, header("203.0.113.7")).ask(&get("/ping")).status == 200
    });
}

#[test]
fn a_connection_without_a_valid_header_is_closed_without_a_response() {
    let server = balanced(&TRUSTED);
    for bytes in [
        get("/ping").bytes("a"),
        vec![0xFF; 100],
        [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF"[..], &[0; 3000]].concat(),
    ] {
        let mut http = begin(&server, "");
        let _ = http.try_send(bytes);
        assert!(matches!(http.try_answer_to("GET"), Ok(None) | Err(_)), "unexpected response");
    }
    // Other connections are not affected.
    server.ask(get("/ping")).expect(200);
    begin(&server, header("203.0.113.7")).ask(&get("/ping")).expect(200);
}

#[test]
fn an_unfinished_header_is_dropped_after_header_timeout() {
    let server = balanced(&["--header-timeout", "200ms"]);
    let mut http = begin(&server, "PROXY TCP4 203.0.113.7 ");
    http.expect_end();
}

#[test]
fn a_plain_listener_refuses_a_header() {
    let server = balanced(&TRUSTED);
    let mut http = server.http();
    http.send(header("203.0.113.7"));
    http.answer().refused(400, "bad_request");
}

#[test]
fn a_unix_socket_may_take_headers_and_a_metrics_listener_may_not() {
    let path = socket_path("balanced");
    let mut command = crate::server::command(&["--session-rate", "1"], &[]);
    command.args(["--listen", &format!("proxy:unix:{}", path.display())]);
    let server = Server::spawn(command, 1);
    let mut http = Http::over(Stream::connect(server.address()), server.address());
    http.send(header("203.0.113.7"));
    let open = post("/sessions").json(&json!({"username": "ana"}));
    let answers = http.pipeline(&vec![open; 65]);
    let count = answers.iter().filter(|answer| answer.status == 201).count();
    assert!((60..65).contains(&count), "a Unix peer is a trusted balancer");
    let ended = run(&["--metrics-listen", "proxy:127.0.0.1:0"], &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
