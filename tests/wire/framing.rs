//! Framing: HTTP/1.1 messages and WebSocket frames, valid and invalid, whole and in pieces.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{
    CONTINUATION, FIN, Http, PING, PONG, TEXT, chat, frame, get, post, request, text, upgrade,
};
use crate::server::{DEADLINE, Server, wait_until};

fn create(name: &str) -> crate::client::Request {
    post("/sessions").json(&json!({"username": name}))
}

/// Sends each byte in a write of its own, which is one segment as far as the kernel allows.
fn drip(http: &mut Http, bytes: &[u8]) {
    for byte in bytes {
        http.send([*byte]);
    }
}

// Persistent connections.

#[test]
fn a_connection_persists_until_a_request_says_close() {
    let server = Server::start(&[]);
    let mut http = server.http();
    for _ in 0..5 {
        http.ask(&get("/health")).expect(200);
        http.ask(&get("/nope")).refused(404, "not_found");
        http.ask(&post("/sessions").body("nope")).refused(422, "bad_body");
    }
    let last = http.ask(&get("/health").field("Connection", "close")).expect(200);
    assert!(last.lists("Connection", "close"), "{last:?}");
    http.expect_end();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let names: Vec<String> = (0..50).map(|number| format!("ana {number}")).collect();
    let requests: Vec<_> = names.iter().map(|name| create(name)).collect();
    let answers = server.http().pipeline(&requests);
    for (name, answer) in names.iter().zip(answers) {
        assert_eq!(answer.expect(201).json()["username"], *name);
    }
    let statuses: Vec<u16> = server
        .http()
        .pipeline(&[
            get("/health"),
            get("/nope"),
            request("HEAD", "/ping"),
            create("x"),
            get("/rooms"),
        ])
        .iter()
        .map(|answer| answer.status)
        .collect();
    assert_eq!(statuses, [200, 404, 200, 400, 401]);
}

#[test]
fn requests_after_connection_close_are_ignored() {
    let server = Server::start(&[]);
    let mut http = server.http();
    http.send_request(&get("/health").field("Connection", "close"));
    let _ = http.try_send(create("ana").bytes("a"));
    http.answer().expect(200);
    http.expect_end();
    assert_eq!(server.health()["sessions"], 0);
}

#[test]
fn http_1_0_closes_unless_keep_alive_is_asked_for() {
    let server = Server::start(&[]);
    let mut http = server.http();
    http.send("GET /health HTTP/1.0\r\n\r\n");
    http.answer().expect(200);
    http.expect_end();
    let mut http = server.http();
    for _ in 0..2 {
        http.send("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = http.answer().expect(200);
        assert!(answer.lists("Connection", "keep-alive"), "{answer:?}");
    }
    let mut http = server.http();
    http.send("POST /sessions HTTP/1.0\r\nContent-Length: 18\r\n\r\n{\"username\":\"ana\"}");
    http.answer().expect(201);
    http.expect_end();
}

#[test]
fn an_upgrade_over_http_1_0_is_426() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let bytes = upgrade(&format!("/ws/{room}?session_id={ana}")).bytes("a");
    let bytes = String::from_utf8(bytes).expect("text").replace("HTTP/1.1", "HTTP/1.0");
    let mut http = server.http();
    http.send(bytes);
    http.answer().refused(426, "upgrade_required");
}

// Bodies.

const CHUNKED: &str = "POST /sessions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";

#[test]
fn a_body_may_come_in_chunks() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let bodies = [
        "12\r\n{\"username\":\"ana\"}\r\n0\r\n\r\n",
        "1\r\n{\r\n00011\r\n\"username\":\"ana\"}\r\n000\r\n\r\n",
        "a;name=value\r\n{\"username\r\n8 ; x=\"y;z\"\r\n\":\"ana\"}\r\n0;last\r\n\r\n",
        "12\r\n{\"username\":\"ana\"}\r\n0\r\nChecksum: 1\r\nX-Other: 2\r\n\r\n",
    ];
    for body in bodies {
        http.send(format!("{CHUNKED}\r\n{body}"));
        assert_eq!(http.answer().expect(201).json()["username"], "ana", "{body:?}");
        drip(&mut http, format!("{CHUNKED}\r\n{body}").as_bytes());
        assert_eq!(http.answer().expect(201).json()["username"], "ana", "{body:?}");
    }
    http.send(format!("{CHUNKED}Content-Type: application/json\r\n\r\n0\r\n\r\n"));
    http.answer().refused(422, "bad_body");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = Server::start(&[]);
    let mut http = server.http();
    for _ in 0..2 {
        drip(&mut http, &create("ana").bytes("a"));
        http.answer().expect(201);
    }
}

#[test]
fn expect_100_continue_is_answered_before_the_body() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
    for framing in ["Content-Length: 18\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"] {
        http.send(format!("{head}{framing}"));
        http.answer().expect(100);
        match framing.starts_with('C') {
            true => http.send("{\"username\":\"ana\"}"),
            false => http.send("12\r\n{\"username\":\"ana\"}\r\n0\r\n\r\n"),
        }
        http.answer().expect(201);
    }
    http.send(format!("{head}Content-Length: 65537\r\n\r\n"));
    http.answer().refused(413, "body_too_large");
    http.expect_end();
}

// Methods and targets.

// contract §4.3
#[test]
fn head_works_wherever_get_does() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let targets = [
        "/sessions/me",
        "/rooms",
        "/rooms/all",
        &format!("/rooms/{room}"),
        &format!("/rooms/{room}/messages"),
        &format!("/rooms/{room}/messages?limit=0"),
        "/health",
        "/ping",
        "/rooms/0000000000",
    ];
    let mut http = server.http();
    for target in targets {
        let whole = http.ask(&get(target).session(&ana));
        let head = http.ask(&request("HEAD", target).session(&ana)).expect(whole.status);
        assert_eq!(head.field("Content-Type"), whole.field("Content-Type"), "{target}");
        if target != "/health" {
            let length = head.field("Content-Length");
            assert!(length.is_none() || length == whole.field("Content-Length"), "{head:?}");
        }
    }
    http.ask(&get("/health")).expect(200);
}

// contract §1.25
#[test]
fn options_leaves_the_connection_as_it_was() {
    let server = Server::start(&[]);
    let mut http = server.http();
    for (target, allowed) in
        [("*", "GET, HEAD, POST, PATCH, DELETE, OPTIONS"), ("/rooms", "POST, GET, HEAD, OPTIONS")]
    {
        let answer = http.ask(&request("OPTIONS", target)).expect(204);
        assert_eq!(answer.field("Allow"), Some(allowed));
    }
    http.ask(&request("OPTIONS", "/nope")).refused(404, "not_found");
    http.ask(&get("/health")).expect(200);
}

#[test]
fn a_target_may_be_absolute_or_percent_encoded() {
    let server = Server::start(&[]);
    let room = server.room(&server.session("ana"));
    let host = server.host();
    let mut http = server.http();
    http.ask(&get(&format!("http://{host}/health"))).expect(200);
    http.ask(&get(&format!("HTTP://{host}/rooms/{room}?x=y"))).expect(200);
    http.ask(&get("http://other.example/nope")).refused(404, "not_found");
    http.ask(&get("/%68ealth")).expect(200);
    let encoded: String = room.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let found = http.ask(&get(&format!("/rooms/{encoded}"))).expect(200).json();
    assert_eq!(found["room_id"], json!(room));
    http.ask(&get("/rooms/%C3%A9?%")).refused(404, "room_not_found");
}

// Messages that two parsers could read differently (request smuggling).

// contract §1.5
#[test]
fn ambiguous_requests_are_400_and_end_the_connection() {
    let server = Server::start(&[]);
    let bodies = |fields: &str, body: &str| {
        format!("POST /sessions HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
    };
    let chunks = |body: &str| bodies("Transfer-Encoding: chunked\r\n", body);
    let heads = |lines: &str| format!("GET /health HTTP/1.1\r\n{lines}\r\n");
    let tricks = [
        // RFC 9112 §6.3: at most one length.
        bodies("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
        bodies("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        bodies("Content-Length: 5, 5\r\n", "hello"),
        bodies("Content-Length: +5\r\n", "hello"),
        bodies("Content-Length: -5\r\n", "hello"),
        bodies("Content-Length: 0x5\r\n", "hello"),
        bodies("Content-Length: 5 5\r\n", "hello"),
        bodies("Content-Length:\r\n", "hello"),
        bodies("Content-Length: five\r\n", "hello"),
        bodies("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        bodies("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        // §6.1, §7: `chunked` at the end, and once.
        bodies("Transfer-Encoding: identity\r\n", ""),
        bodies("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        bodies("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        bodies("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        bodies("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        bodies("Transfer-Encoding:\r\n", "0\r\n\r\n"),
        bodies("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        "POST /sessions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        // §7.1: chunk sizes.
        chunks("x\r\n"),
        chunks("0x5\r\nhello\r\n0\r\n\r\n"),
        chunks("+5\r\nhello\r\n0\r\n\r\n"),
        chunks("-1\r\nhello\r\n0\r\n\r\n"),
        chunks("\r\nhello\r\n0\r\n\r\n"),
        chunks("ffffffffffffffff1\r\nhello\r\n0\r\n\r\n"),
        chunks("5\nhello\r\n0\r\n\r\n"),
        chunks("5\r\nhelloXX0\r\n\r\n"),
        chunks("5\r\nhello0\r\n\r\n"),
        chunks("5\r\nhello world\r\n0\r\n\r\n"),
        // §2.2: line ends.
        "GET /health HTTP/1.1\nHost: a\n\n".to_owned(),
        "GET /health HTTP/1.1\r\nHost: a\nX: y\r\n\r\n".to_owned(),
        heads("Host: a\r\nX: y\rz\r\n"),
        "GET /health HTTP/1.1\rHost: a\r\n\r\n".to_owned(),
        // §5: fields.
        heads("Host: a\r\nContent-Length : 5\r\n"),
        heads("Host: a\r\nTransfer-Encoding : chunked\r\n"),
        heads("Host: a\r\nX: y\r\n folded\r\n"),
        heads("Host: a\r\nX: y\r\n\tfolded\r\n"),
        heads(" Host: a\r\n"),
        heads("Host: a\r\nno colon\r\n"),
        heads("Host: a\r\n: no name\r\n"),
        heads("Host: a\r\nX Y: z\r\n"),
        heads("Host: a\r\nX: a\0b\r\n"),
        heads("Host: a\r\nX\u{1}: b\r\n"),
        // §3.2: one Host in HTTP/1.1.
        heads(""),
        heads("Host: a\r\nHost: a\r\n"),
        heads("Host: a\r\nHost: b\r\n"),
        // §3: the request line.
        "GET  /health HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /health  HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /health\r\nHost: a\r\n\r\n".to_owned(),
        "GET /he alth HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "/health HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /health HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(),
        "GET /health http/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "G@T /health HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET health HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        // The first bytes of a TLS handshake.
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n".to_owned(),
    ];
    for trick in tricks {
        let mut http = server.http();
        // The smuggled request, which must not be answered.
        let smuggled = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\n{\"username\":\"eve\"}";
        http.send(format!("{trick}{smuggled}"));
        let answer = http.try_answer_to("GET");
        let Ok(Some(answer)) = answer else { panic!("{answer:?} to {trick:?}") };
        assert_eq!(answer.status, 400, "{trick:?}: {}", answer.text());
        let answer = answer.refused(400, "bad_request");
        assert!(answer.lists("Connection", "close"), "{answer:?}");
        http.expect_end();
    }
    assert_eq!(server.health()["sessions"], 0);
}

#[test]
fn a_refusal_reaches_a_peer_that_keeps_sending() {
    let server = Server::start(&["--linger-timeout", "1m"]);
    let refused = [
        (413, "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"),
        (400, "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
        (431, &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(17 * 1024))),
    ];
    for (status, head) in refused {
        let mut http = server.http();
        http.send(head);
        for _ in 0..100 {
            http.send([b'x'; 10_000]);
        }
        http.answer().expect(status);
        http.expect_end();
    }
}

// contract §12.12
#[test]
fn a_peer_that_keeps_sending_after_a_refusal_is_dropped_after_linger_timeout() {
    let server = Server::start(&["--linger-timeout", "200ms"]);
    let mut http = server.http();
    http.send("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    http.answer().refused(413, "body_too_large");
    let deadline = Instant::now() + DEADLINE;
    while http.try_send("x").is_ok() {
        assert!(Instant::now() < deadline, "the connection is still open");
        std::thread::sleep(Duration::from_millis(10));
    }
}

// Sizes.

// contract §4.4
#[test]
fn a_body_over_64_kib_is_413() {
    let server = Server::start(&[]);
    let padded = |len: usize| {
        let body = r#"{"username":"ana"}"#;
        body.to_owned() + &" ".repeat(len - body.len())
    };
    server.ask(post("/sessions").body(padded(65_536))).expect(201);
    let mut http = server.http();
    http.send("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n");
    http.answer().refused(413, "body_too_large");
    http.expect_end();
    let chunked = |len: usize| {
        let body = padded(len);
        let (first, second) = body.split_at(40_000);
        let (one, two) = (first.len(), second.len());
        format!("{CHUNKED}\r\n{one:x}\r\n{first}\r\n{two:x}\r\n{second}\r\n0\r\n\r\n")
    };
    let mut http = server.http();
    http.send(chunked(65_536));
    http.answer().expect(201);
    http.send(chunked(65_537));
    http.answer().refused(413, "body_too_large");
    http.expect_end();
}

// contract §4.6
#[test]
fn a_target_over_8_kib_is_414() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let target = |len: usize| format!("/{}", "x".repeat(len - 1));
    http.ask(&get(&target(8192))).refused(404, "not_found");
    http.ask(&get(&target(8193))).refused(414, "target_too_long");
    http.expect_end();
    let mut http = server.http();
    http.ask(&get(&format!("/health?{}", "x".repeat(8192)))).refused(414, "target_too_long");
}

// contract §4.5
#[test]
fn a_header_block_over_16_kib_or_100_fields_is_431() {
    let server = Server::start(&[]);
    let mut http = server.http();
    http.ask(&get("/health").field("X", &"x".repeat(15 * 1024))).expect(200);
    http.ask(&get("/health").field("X", &"x".repeat(16 * 1024))).refused(431, "headers_too_large");
    http.expect_end();
    let with_fields = |count: usize| {
        // `Host` is one of them.
        (1..count).fold(get("/health"), |request, number| request.field(&format!("X{number}"), "y"))
    };
    let mut http = server.http();
    http.ask(&with_fields(100)).expect(200);
    http.ask(&with_fields(101)).refused(431, "headers_too_large");
    http.expect_end();
}

// Timeouts.

/// Sends `bytes` again and again, a byte at a time, until there is something to read.
fn drip_until_answered(http: &mut Http, bytes: &[u8]) {
    let deadline = Instant::now() + DEADLINE;
    for byte in bytes.iter().cycle() {
        if http.try_send([*byte]).is_err() || http.readable_within(Duration::from_millis(50)) {
            return;
        }
        assert!(Instant::now() < deadline, "the timeout starts anew with each byte");
    }
}

// contract §4.7 §12.12
#[test]
fn a_head_that_takes_longer_than_header_timeout_is_408() {
    let server = Server::start(&["--header-timeout", "400ms"]);
    let mut http = server.http();
    http.send("GET /health HTTP/1.1\r\nHost: a\r\n");
    http.answer().refused(408, "timeout");
    http.expect_end();
    let mut http = server.http();
    http.send("GET /health HTTP/1.1\r\nHost: a\r\n");
    drip_until_answered(&mut http, b"X: y\r\n");
    http.answer().refused(408, "timeout");
    http.expect_end();
    // The same for a later request on the connection.
    let mut http = server.http();
    http.ask(&get("/health")).expect(200);
    http.send("GET");
    http.answer().refused(408, "timeout");
    http.expect_end();
}

// contract §4.8 §12.12
#[test]
fn a_body_that_takes_longer_than_body_timeout_is_408() {
    let server = Server::start(&["--body-timeout", "400ms"]);
    let mut http = server.http();
    http.send("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{");
    http.answer().refused(408, "timeout");
    http.expect_end();
    let mut http = server.http();
    http.send("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    drip_until_answered(&mut http, b" ");
    http.answer().refused(408, "timeout");
    http.expect_end();
    let mut http = server.http();
    http.send(format!("{CHUNKED}\r\n"));
    drip_until_answered(&mut http, b"1\r\nx\r\n");
    http.answer().refused(408, "timeout");
    http.expect_end();
}

// contract §4.9 §12.12
#[test]
fn an_idle_connection_is_closed_without_a_response() {
    let server = Server::start(&["--idle-timeout", "200ms"]);
    let mut http = server.http();
    http.ask(&get("/health")).expect(200);
    http.expect_end();
}

// contract §4.9
#[test]
fn a_connection_that_sends_nothing_is_closed_without_a_response() {
    let server = Server::start(&["--header-timeout", "200ms"]);
    server.http().expect_end();
}

#[test]
fn http_timeouts_do_not_apply_to_sockets() {
    let flags = ["--header-timeout", "300ms", "--body-timeout", "300ms", "--idle-timeout", "300ms"];
    let server = Server::start(&flags);
    let (_, mut ana, mut bob) = server.room_of_two();
    let mut idle = server.http();
    idle.ask(&get("/health")).expect(200);
    idle.expect_end();
    server.http().expect_end();
    ana.chat("still here");
    bob.expect_chat("ana", "still here");
}

// WebSocket frames.

#[test]
fn frames_may_come_byte_by_byte() {
    let server = Server::start(&[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let long = "x".repeat(300);
    for message in ["hi", long.as_str()] {
        for byte in chat(message) {
            ana.send([byte]);
        }
        bob.expect_chat("ana", message);
    }
}

// contract §12.15
#[test]
fn a_hundred_frames_may_come_in_one_segment() {
    let server = Server::start(&["--message-rate", "0"]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let frames: Vec<u8> = (0..100).flat_map(|number| chat(&number.to_string())).collect();
    ana.send(frames);
    for number in 0..100 {
        ana.expect_chat("ana", &number.to_string());
        bob.expect_chat("ana", &number.to_string());
    }
}

#[test]
fn frames_may_come_in_the_segment_of_the_upgrade() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut bytes = upgrade(&format!("/ws/{room}?session_id={ana}")).bytes("a");
    bytes.extend([chat("one"), chat("two"), text("nope")].concat());
    let partial = chat("three");
    bytes.extend(&partial[..5]);
    let mut http = server.http();
    http.send(bytes);
    let mut socket = http.upgraded();
    socket.expect_join("ana");
    socket.expect_chat("ana", "one");
    socket.expect_chat("ana", "two");
    socket.expect_refused("bad_json");
    socket.send(&partial[5..]);
    socket.expect_chat("ana", "three");
}

#[test]
fn an_upgrade_may_come_byte_by_byte_and_after_other_requests() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut http = server.http();
    http.ask(&get("/health")).expect(200);
    drip(&mut http, &upgrade(&format!("/ws/{room}?session_id={ana}")).bytes("a"));
    http.upgraded().expect_join("ana");
}

#[test]
fn fragments_make_one_message_and_pings_may_come_between() {
    let server = Server::start(&[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let payload = r#"{"type":"chat","message":"in pieces: é"}"#.as_bytes();
    // One cut is within the é.
    let cuts = [0, 1, 12, payload.len() - 3, payload.len()];
    for (number, pair) in cuts.windows(2).enumerate() {
        let opcode = if number == 0 { TEXT } else { CONTINUATION };
        let fin = if pair[1] == payload.len() { FIN } else { 0 };
        ana.send(frame(fin | opcode, &payload[pair[0]..pair[1]]));
        if fin == 0 {
            ana.send(frame(FIN | PING, [number as u8]));
            let pong = ana.frame();
            assert_eq!((pong.opcode, pong.payload), (PONG, vec![number as u8]));
        }
    }
    ana.expect_chat("ana", "in pieces: é");
    bob.expect_chat("ana", "in pieces: é");
    // Empty fragments are allowed.
    let pieces = [
        frame(TEXT, ""),
        frame(CONTINUATION, r#"{"type":"chat","#),
        frame(CONTINUATION, ""),
        frame(CONTINUATION, r#""message":"again"}"#),
        frame(FIN | CONTINUATION, ""),
    ];
    ana.send(pieces.concat());
    bob.expect_chat("ana", "again");
}

#[test]
fn a_message_may_have_a_thousand_fragments() {
    let server = Server::start(&[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let payload = format!(r#"{{"type":"chat","message":"{}"}}"#, "x".repeat(1000));
    let mut bytes = frame(TEXT, "");
    for byte in payload.bytes() {
        bytes.extend(frame(CONTINUATION, [byte]));
    }
    bytes.extend(frame(FIN | CONTINUATION, ""));
    ana.send(bytes);
    bob.expect_chat("ana", &"x".repeat(1000));
}

#[test]
fn a_closed_connection_no_longer_counts() {
    let server = Server::start(&[]);
    let mut asking = server.http();
    let mut connections =
        || asking.ask(&get("/health")).json()["connections"].as_u64().expect("a count");
    let before = connections();
    let http = server.http();
    wait_until("the connection is accepted", || connections() == before + 1);
    drop(http);
    wait_until("the connection is freed", || connections() == before);
}
