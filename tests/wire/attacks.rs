//! Regressions: attacks that once worked. Each test opens with what went wrong.

use serde_json::json;

use crate::client::{CLOSE, FIN, PING, PONG, chat_with, close_payload, frame, post, upgrade};
use crate::server::Server;

/// Regression: a socket that pinged and never read was dropped without a close frame.
// contract §7.8 §12.23
#[test]
fn a_socket_that_pings_and_never_reads_is_closed_with_1013() {
    let flags = ["--outbox", "64K", "--linger-timeout", "1m", "--ping-interval", "1h"];
    let server = Server::start(&flags);
    let (room, _ana, mut bob) = server.room_of_two();
    let session = server.session("carl");
    let http = server.http_narrow();
    let mut ws = http.upgrade(&upgrade(&format!("/ws/{room}?session_id={session}")));
    ws.expect_join("carl");
    bob.expect_join("carl");
    let pings = frame(FIN | PING, [b'x'; 125]).repeat(100);
    for _ in 0..300 {
        ws.send(&pings);
    }
    bob.expect_left("carl");
    let close = loop {
        let frame = ws.frame();
        match frame.opcode {
            PONG => {}
            CLOSE => break frame.payload,
            other => panic!("opcode {other}"),
        }
    };
    assert_eq!(close, close_payload(1013, "too slow"));
}

/// Regression: a socket that was catching up got an answer to every repeated nonce, without a bound. If it never
/// read, its outbox grew for as long as it sent.
#[test]
fn a_socket_that_repeats_a_nonce_while_catching_up_is_closed_with_1013() {
    let flags = ["--outbox", "64K", "--message-rate", "0", "--ping-interval", "1h"];
    let server = Server::start(&[&flags[..], &["--linger-timeout", "1m"]].concat());
    let (room, mut ana, mut bob) = server.room_of_two();
    let session = server.session("carl");
    server.ask(post(&format!("/rooms/{room}/join")).session(&session)).expect(200);
    let known = json!({"message": "once", "nonce": "1"});
    let path = format!("/rooms/{room}/messages");
    server.ask(post(&path).session(&session).json(&known)).expect(201);
    for socket in [&mut ana, &mut bob] {
        socket.expect_chat("carl", "once");
    }
    let longest = "\u{1f642}".repeat(4000);
    for _ in 0..100 {
        ana.chat(&longest);
        ana.expect_chat("ana", &longest);
        bob.expect_chat("ana", &longest);
    }
    let http = server.http_narrow();
    let mut ws = http.upgrade(&upgrade(&format!("/ws/{room}?session_id={session}&history=1000")));
    bob.expect_join("carl");
    for _ in 0..100 {
        ws.send(chat_with("1", "once").repeat(100));
    }
    bob.expect_left("carl");
    assert_eq!(ws.until_end(), Some((1013, "too slow".to_owned())));
}
