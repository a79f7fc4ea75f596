//! Slow readers: a socket that does not keep up is closed with 1013, and other sockets lose no message by it.

use std::io;

use serde_json::json;

use crate::client::{CLOSE, Frame, TEXT, Ws, close_payload, get, post, upgrade};
use crate::server::{Server, wait_until};

/// The socket of a new session, with a small receive buffer.
fn enter_narrow(server: &Server, room: &str, name: &str) -> Ws {
    let session = server.session(name);
    let http = server.http_narrow();
    http.upgrade(&upgrade(&format!("/ws/{room}?session_id={session}")))
}

/// What the messages to a slow reader are filled with.
fn padding() -> String {
    "x".repeat(3900)
}

/// Chats until both members have seen the reader called "slow" leave, and returns the number of messages. The members
/// lose none of them.
fn overflow(ana: &mut Ws, bob: &mut Ws) -> usize {
    let padding = padding();
    let (mut sent, mut left) = (0, [false, false]);
    while left != [true, true] {
        assert!(sent < 20_000, "the slow reader is never closed");
        let text = format!("{sent} {padding}");
        sent += 1;
        ana.chat(&text);
        for (number, socket) in [&mut *ana, &mut *bob].into_iter().enumerate() {
            let mut event = socket.event();
            if event["type"] == "user_left" {
                assert_eq!(event["user"], "slow");
                left[number] = true;
                event = socket.event();
            }
            assert_eq!((&event["type"], &event["message"]), (&json!("chat"), &json!(text)));
        }
    }
    sent
}

/// Reads the messages of [`overflow`], in order, until something else comes: its number, and that.
fn drain(slow: &mut Ws) -> (usize, io::Result<Option<Frame>>) {
    slow.expect_join("slow");
    let padding = padding();
    let mut received = 0;
    loop {
        match slow.try_frame() {
            Ok(Some(frame)) if frame.opcode == TEXT => {
                let event: serde_json::Value =
                    serde_json::from_slice(&frame.payload).expect("an event");
                assert_eq!(event["message"], format!("{received} {padding}"));
                received += 1;
            }
            other => return (received, other),
        }
    }
}

// contract §7.8 §12.23
#[test]
fn a_reader_that_never_reads_is_closed_with_1013_and_others_lose_nothing() {
    let flags = ["--message-rate", "0", "--outbox", "64K", "--linger-timeout", "1m"];
    let server = Server::start(&flags);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut slow = enter_narrow(&server, &room, "slow");
    ana.expect_join("slow");
    bob.expect_join("slow");
    let sent = overflow(&mut ana, &mut bob);
    // The slow reader receives all events up to some point, in order, and then the close frame.
    let (received, last) = drain(&mut slow);
    assert!(received < sent);
    let last = last.expect("no error").expect("a frame");
    assert_eq!((last.opcode, last.payload), (CLOSE, close_payload(1013, "too slow")));
    bob.expect_nothing();
}

// contract §7.8 §12.12
#[test]
fn a_reader_that_does_not_read_on_in_time_sees_a_broken_connection() {
    // More than the kernel takes over for a reader that does not read: usually at most 4 MiB (tcp_wmem).
    let flags = ["--message-rate", "0", "--outbox", "6M", "--linger-timeout", "200ms"];
    let server = Server::start_with_metrics(&flags);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut slow = enter_narrow(&server, &room, "slow");
    ana.expect_join("slow");
    bob.expect_join("slow");
    let sent = overflow(&mut ana, &mut bob);
    // Two members, and the one that asks.
    wait_until("its connection is gone", || server.health()["connections"] == 3);
    // What the kernel has taken over may still arrive, but no close frame.
    let (received, last) = drain(&mut slow);
    assert!(received < sent);
    assert!(!matches!(last, Ok(Some(_))), "a frame after the events: {last:?}");
}

// contract §12.23
#[test]
fn a_reader_that_is_late_but_within_its_outbox_loses_nothing() {
    let server = Server::start(&["--message-rate", "0"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut late = enter_narrow(&server, &room, "late");
    ana.expect_join("late");
    bob.expect_join("late");
    let text = |number: usize| format!("{number} {}", "x".repeat(3900));
    for number in 0..40 {
        ana.chat(&text(number));
        bob.expect_chat("ana", &text(number));
    }
    late.expect_join("late");
    for number in 0..40 {
        late.expect_chat("ana", &text(number));
    }
    late.expect_nothing();
}

#[test]
fn a_peer_that_reads_no_responses_does_not_delay_others() {
    let server = Server::start(&["--message-rate", "0"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    for number in 0..50 {
        let text = format!("{number} {}", "x".repeat(3900));
        ana.chat(&text);
        ana.expect_chat("ana", &text);
        bob.expect_chat("ana", &text);
    }
    let mut unread = server.http();
    let target = format!("/rooms/{room}/messages?limit=1000");
    let requests = 20;
    for _ in 0..requests {
        unread.send_request(&get(&target).session(&ana.session));
    }
    // Twenty responses of 200 KB are due to the peer that does not read. The others chat on.
    for number in 0..20 {
        bob.chat(&format!("still {number}"));
        ana.expect_chat("bob", &format!("still {number}"));
    }
    server.ask(post("/rooms").session(&ana.session)).expect(201);
    for _ in 0..requests {
        let answer = unread.answer().expect(200).json();
        assert!(answer["messages"].as_array().is_some_and(|all| all.len() >= 52));
    }
}

/// Regression: a place in a queue took 40 bytes, and each reader had one for each batch. When ten thousand people had
/// entered one room and left it, 180 MB stayed resident while 5 were counted.
#[cfg(target_os = "linux")]
#[test]
fn readers_that_lag_behind_in_one_room_share_what_they_have_not_read() {
    use crate::memory::{PATIENT, counted};
    use crate::server::alone_if_slow;

    const READERS: usize = 150;
    const MESSAGES: usize = 2000;
    /// A place of 40 bytes for each message that does not fit into the kernel's buffers would take 10 MB.
    const GROWTH_BYTES_MAX: u64 = 3 * 1024 * 1024;
    let _alone = alone_if_slow();
    let flags = [&PATIENT[..], &["--outbox", "8M", "--history", "10"]].concat();
    let server = Server::start_with_metrics(&flags);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut readers = Vec::new();
    for n in 0..READERS / 20 {
        let session = server.session(&format!("reader {n}"));
        let target = format!("/ws/{room}?session_id={session}");
        readers.extend((0..20).map(|_| server.http_narrow().upgrade(&upgrade(&target))));
    }
    server.wait_until_idle();
    let (counted_before, before) = (counted(&server), server.resident_kib() * 1024);
    let mut http = server.http();
    for n in 0..MESSAGES {
        let message = json!({"message": format!("{n} {}", "x".repeat(100))});
        let say = post(&format!("/rooms/{room}/messages")).session(&ana).json(&message);
        http.ask(&say).expect(201);
    }
    server.wait_until_idle();
    let (counted, resident) = (counted(&server), server.resident_kib() * 1024);
    let (counted, resident) = (counted - counted_before, resident - before);
    println!("{READERS} lag behind by {MESSAGES} messages: counted {counted}, resident {resident}");
    assert!(server.metric("chat_outbox_bytes") > (READERS * 300_000) as u64, "they lag behind");
    assert!(counted <= GROWTH_BYTES_MAX, "{counted} bytes counted");
    assert!(resident <= GROWTH_BYTES_MAX + GROWTH_BYTES_MAX / 10, "{resident} bytes resident");
    drop(readers);
}
