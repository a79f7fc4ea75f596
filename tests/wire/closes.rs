//! Close codes: each code of the contract's table, and what other members see of it.

use serde_json::json;

use crate::client::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, TEXT, Ws, chat, close_payload, frame, frame_header,
    get, text,
};
use crate::server::Server;

/// Asserts that `bytes` from ana close her socket with `code`, and that bob receives only her `user_left`, at
/// once.
#[track_caller]
fn closes(server: &Server, code: u16, bytes: impl AsRef<[u8]>) {
    let (_, mut ana, mut bob) = server.room_of_two();
    ana.send(bytes);
    ana.expect_close_code(code);
    bob.expect_left("ana");
    bob.chat("never mind");
    bob.expect_chat("bob", "never mind");
}

fn patient_server() -> Server {
    Server::start(&["--leave-grace", "1h"])
}

// contract §6.10 §7.3
#[test]
fn a_protocol_error_is_1002() {
    let server = patient_server();
    let unmasked = [&[0x81, 0x05][..], b"Hello"].concat();
    let violations = [
        unmasked,
        frame(FIN | 0x40 | TEXT, "rsv1, as if compressed"),
        frame(FIN | 0x20 | TEXT, "rsv2"),
        frame(FIN | 0x10 | TEXT, "rsv3"),
        frame(FIN | 0x3, "reserved opcode"),
        frame(FIN | 0x7, "reserved opcode"),
        frame(FIN | 0xB, "reserved control opcode"),
        frame(FIN | 0xF, ""),
        frame(PING, "a control frame in fragments"),
        frame(FIN | PING, "x".repeat(126)),
        frame(FIN | CONTINUATION, "of nothing"),
        frame(CONTINUATION, "of nothing"),
        [frame(TEXT, "one"), frame(FIN | TEXT, "another inside it")].concat(),
        frame(FIN | CLOSE, [3]),
        frame(FIN | CLOSE, close_payload(999, "")),
        frame(FIN | CLOSE, close_payload(1005, "")),
        frame(FIN | CLOSE, close_payload(1006, "")),
        frame(FIN | CLOSE, close_payload(1015, "")),
        frame(FIN | CLOSE, close_payload(2999, "")),
    ];
    for bytes in violations {
        closes(&server, 1002, bytes);
    }
}

// contract §7.4
#[test]
fn a_binary_frame_is_1003() {
    let server = patient_server();
    closes(&server, 1003, frame(FIN | BINARY, [0, 1, 2, 255]));
    closes(&server, 1003, frame(FIN | BINARY, r#"{"type":"chat","message":"x"}"#));
}

// contract §7.5
#[test]
fn text_that_is_not_utf_8_is_1007() {
    let server = patient_server();
    let bad: [&[u8]; 6] =
        [b"\xff", b"x\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok \xce\xba\x80"];
    for payload in bad {
        closes(&server, 1007, text(payload));
        let first = frame(TEXT, &payload[..1]);
        closes(&server, 1007, [first, frame(FIN | CONTINUATION, &payload[1..])].concat());
    }
}

// contract §7.6
#[test]
fn a_frame_over_64_kib_is_1009_as_soon_as_its_header_says_so() {
    let server = patient_server();
    let mask = [1, 2, 3, 4];
    for length in [65_537, 1 << 20, 1 << 40] {
        closes(&server, 1009, [&frame_header(FIN | TEXT, length)[..], &mask].concat());
    }
}

// contract §7.6
#[test]
fn a_message_over_64_kib_is_1009_however_it_is_fragmented() {
    let server = patient_server();
    let half = "x".repeat(40_000);
    closes(&server, 1009, [frame(TEXT, &half), frame(FIN | CONTINUATION, &half)].concat());
    let crumbs = frame(CONTINUATION, "x".repeat(1000)).repeat(70);
    closes(&server, 1009, [frame(TEXT, ""), crumbs].concat());
}

// contract §7.6
#[test]
fn a_message_of_exactly_64_kib_is_accepted() {
    let server = patient_server();
    let (_, mut ana, mut bob) = server.room_of_two();
    let event = r#"{"type":"chat","message":"just so"}"#;
    let padded = event.to_owned() + &" ".repeat(65_536 - event.len());
    ana.text(&padded);
    bob.expect_chat("ana", "just so");
    let (first, second) = padded.split_at(30_000);
    ana.send([frame(TEXT, first), frame(FIN | CONTINUATION, second)].concat());
    bob.expect_chat("ana", "just so");
}

#[test]
fn a_close_frame_arrives_although_the_peer_keeps_sending_after_its_violation() {
    let server = Server::start(&["--linger-timeout", "1h"]);
    let (_, mut ana, mut bob) = server.room_of_two();
    ana.send([frame_header(FIN | TEXT, 500_000), vec![1, 2, 3, 4]].concat());
    for _ in 0..50 {
        ana.send([b'x'; 10_000]);
    }
    ana.send(chat("unheard"));
    ana.expect_close_code(1009);
    bob.expect_left("ana");
    bob.expect_nothing();
}

#[test]
fn events_before_a_violation_are_delivered() {
    let server = patient_server();
    let (_, mut ana, mut bob) = server.room_of_two();
    ana.send([chat("last words"), frame(FIN | BINARY, "x"), chat("unheard")].concat());
    ana.expect_chat("ana", "last words");
    ana.expect_close_code(1003);
    bob.expect_chat("ana", "last words");
    bob.expect_left("ana");
    bob.expect_nothing();
}

// A close frame from the peer.

fn closed_by_peer(server: &Server, payload: &[u8]) -> (u16, String) {
    let (_, mut ana, mut bob) = server.room_of_two();
    ana.send([frame(FIN | CLOSE, payload), chat("unheard")].concat());
    let closed = ana.closed();
    bob.expect_left("ana");
    bob.expect_nothing();
    closed
}

// contract §6.10
#[test]
fn a_close_is_answered_with_its_code_and_ends_the_stream() {
    let server = patient_server();
    for code in [1000, 3000, 3002, 4999] {
        assert_eq!(closed_by_peer(&server, &close_payload(code, "bye")).0, code);
    }
}

// contract §6.10
#[test]
fn a_close_without_a_code_is_answered_too() {
    closed_by_peer(&patient_server(), b"");
}

// 500 and 1011, by a panic that debug builds cause on request.

#[cfg(debug_assertions)]
fn faulty_server() -> Server {
    let flags = ["--leave-grace", "1h"];
    Server::start_with_env(&flags, &[("CHAT_TEST_FAULT", "kaboom")])
}

// contract §1.3 §1.5
#[cfg(debug_assertions)]
#[test]
fn a_panic_in_a_request_answers_500_and_ends_one_connection() {
    let server = faulty_server();
    let (_, mut ana, mut bob) = server.room_of_two();
    let mut beside = server.http();
    beside.ask(&get("/health")).expect(200);
    let mut http = server.http();
    for target in ["/kaboom", "/kaboom?x=y"] {
        let mut unlucky = server.http();
        unlucky.ask(&get(target)).refused(500, "internal_error");
        unlucky.expect_end();
    }
    http.ask(&get("/nope/kaboom")).refused(404, "not_found");
    beside.ask(&get("/health")).expect(200);
    ana.chat("what was that?");
    bob.expect_chat("ana", "what was that?");
}

// contract §7.7
#[cfg(debug_assertions)]
#[test]
fn a_panic_in_an_event_closes_one_socket_with_1011() {
    let server = faulty_server();
    let (room, mut ana, mut bob) = server.room_of_two();
    ana.chat("fine");
    bob.expect_chat("ana", "fine");
    ana.expect_chat("ana", "fine");
    ana.chat("kaboom");
    let session = ana.session.clone();
    ana.expect_close(1011, "internal error");
    bob.expect_left("ana");
    bob.expect_nothing();
    assert_eq!(server.user_count(&room), Some(1));
    let mut back: Ws = server.enter_as(&room, "ana", &session);
    bob.expect_join("ana");
    back.chat("kaboom?");
    bob.expect_event(&json!({"type": "chat", "message": "kaboom?"}));
}
