//! Behind a balancer that speaks the PROXY protocol (guide, Operating): whom it names, counts.

use serde_json::json;

use crate::client::{Http, Stream, get, post, upgrade};
use crate::server::{Server, run};

/// A plain listener, and beside it one behind a balancer.
fn balanced(flags: &[&'static str]) -> Server {
    let mut command = crate::server::command(&["--listen", "127.0.0.1:0"], &[]);
    command.args(["--listen", "proxy:127.0.0.1:0"]).args(flags);
    Server::spawn(command, 2)
}

const TRUSTED: [&str; 2] = ["--trusted-proxy", "127.0.0.0/8"];

fn named(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 198.51.100.1 56324 443\r\n").into_bytes()
}

/// Version 2.
fn named_v2(address: [u8; 4]) -> Vec<u8> {
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
fn rest_and_sockets_are_spoken_after_the_header() {
    let server = balanced(&TRUSTED);
    for header in [named("203.0.113.7"), named_v2([203, 0, 113, 8]), b"PROXY UNKNOWN\r\n".to_vec()]
    {
        let mut http = begin(&server, &header);
        let ana = http.ask(&post("/sessions").json(&json!({"username": "ana"}))).expect(201);
        let ana = ana.json()["session_id"].as_str().unwrap().to_owned();
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
    for header in [named("203.0.113.7"), named_v2([203, 0, 113, 8])] {
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

/// Sessions from `header`'s address until one is refused; how many there were.
fn opened(server: &Server, header: &[u8]) -> usize {
    let mut http = begin(server, header);
    let open = post("/sessions").json(&json!({"username": "ana"}));
    let answers = http.pipeline(&vec![open; 65]);
    let refused = answers.iter().filter(|answer| answer.status != 201);
    refused.for_each(|answer| _ = answer.clone().refused(429, "rate_limited"));
    answers.iter().filter(|answer| answer.status == 201).count()
}

#[test]
fn who_is_named_by_a_trusted_balancer_counts() {
    let server = balanced(&[&TRUSTED[..], &["--session-rate", "1"]].concat());
    assert!((60..65).contains(&opened(&server, &named("203.0.113.7"))));
    assert!(opened(&server, &named_v2([203, 0, 113, 7])) < 5, "the same in the other version");
    assert!((60..65).contains(&opened(&server, &named("203.0.113.8"))), "another has its own");
    assert_eq!(opened(&server, b"PROXY UNKNOWN\r\n"), 65, "the balancer's own have none");
}

#[test]
fn whom_a_stranger_names_does_not_count() {
    let server = balanced(&["--session-rate", "1", "--trusted-proxy", "10.0.0.0/8"]);
    assert_eq!(opened(&server, &named("203.0.113.7")), 65, "loopback counts, and is exempt");
}

/// Behind another proxy, which is named and trusted, its field is believed as ever.
#[test]
fn a_forwarded_address_of_one_who_is_named_is_believed_if_that_is_a_proxy() {
    let server =
        balanced(&[&TRUSTED[..], &["--session-rate", "1", "--trusted-proxy", "10.0.0.1"]].concat());
    let open =
        post("/sessions").json(&json!({"username": "ana"})).field("X-Forwarded-For", "203.0.113.7");
    let count = |header: Vec<u8>| {
        let answers = begin(&server, header).pipeline(&vec![open.clone(); 65]);
        answers.iter().filter(|answer| answer.status == 201).count()
    };
    assert!((60..65).contains(&count(named("10.0.0.1"))));
    assert!(count(named("10.0.0.1")) < 5, "spent");
    assert!((60..65).contains(&count(named("203.0.113.9"))), "its own share, whatever it says");
}

/// Connections of an address count from the header on, not from their upgrade.
#[test]
fn an_address_has_only_so_many_connections() {
    let server = balanced(&[&TRUSTED[..], &["--address-connections", "2"]].concat());
    let mut kept: Vec<Http> = (0..2).map(|_| begin(&server, named("203.0.113.7"))).collect();
    for http in &mut kept {
        http.ask(&get("/ping")).expect(200);
    }
    let mut third = begin(&server, named("203.0.113.7"));
    third.send_request(&get("/ping"));
    third.answer().refused(429, "rate_limited");
    third.expect_end();
    begin(&server, named("203.0.113.8")).ask(&get("/ping")).expect(200);
    drop(kept);
    crate::server::wait_until("there is room again", || {
        begin(&server, named("203.0.113.7")).ask(&get("/ping")).status == 200
    });
}

#[test]
fn whoever_does_not_begin_with_a_header_is_cut_off() {
    let server = balanced(&TRUSTED);
    for bytes in [
        get("/ping").bytes("a"),
        vec![0xFF; 100],
        [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF"[..], &[0; 3000]].concat(),
    ] {
        let mut http = begin(&server, "");
        let _ = http.try_send(bytes);
        assert!(matches!(http.try_answer_to("GET"), Ok(None) | Err(_)), "nothing is said");
    }
    // Nobody else notices, and a connection without a word goes as every other does.
    server.ask(get("/ping")).expect(200);
    begin(&server, named("203.0.113.7")).ask(&get("/ping")).expect(200);
}

#[test]
fn a_header_that_never_ends_has_the_time_of_a_head() {
    let server = balanced(&["--header-timeout", "200ms"]);
    let mut http = begin(&server, "PROXY TCP4 203.0.113.7 ");
    http.expect_end();
}

#[test]
fn a_plain_listener_takes_no_header() {
    let server = balanced(&TRUSTED);
    let mut http = server.http();
    http.send(named("203.0.113.7"));
    http.answer().refused(400, "bad_request");
}

#[test]
fn a_unix_socket_may_be_behind_a_balancer_and_metrics_may_not() {
    let path = std::env::temp_dir().join(format!("balanced-{}.sock", std::process::id()));
    let mut command = crate::server::command(&["--session-rate", "1"], &[]);
    command.args(["--listen", &format!("proxy:unix:{}", path.display())]);
    let server = Server::spawn(command, 1);
    let mut http = Http::over(Stream::connect(server.address()), server.address());
    http.send(named("203.0.113.7"));
    let open = post("/sessions").json(&json!({"username": "ana"}));
    let answers = http.pipeline(&vec![open; 65]);
    let count = answers.iter().filter(|answer| answer.status == 201).count();
    assert!((60..65).contains(&count), "who comes through a Unix socket is believed");
    let ended = run(&["--metrics-listen", "proxy:127.0.0.1:0"], &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
