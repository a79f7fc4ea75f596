//! Fairness: a connection that sends a little is served soon, however much others send.
//!
//! The tests measure how much of a flood the server handles before a small request, never time. The server is
//! stopped (SIGSTOP) while the flood and then the request are written, so that both are there when it continues.
//!
//! Each test sends its flood twice. At first all connections are in the interactive lane, and each may have one
//! short turn before the request. Then the first flood has cost so much that its connections are in the background
//! lane, and the request comes before all of them.
#![cfg(target_os = "linux")]

use std::io::Write;

use serde_json::json;

use crate::client::{Http, Request, Stream, Ws, chat, get, post, text, typing};
use crate::server::{Server, metric_in, wait_until};

/// Connections that send a flood.
const FLOODERS: usize = 16;

/// What one connection sends at once: many times what an interactive connection may send in one turn, and enough
/// that the connection exceeds its allowance for several seconds.
const FLOOD_BYTES: usize = 64 * 1024;

/// The same for small events, which cost more per byte.
const SMALL_EVENTS_BYTES: usize = 24 * 1024;

/// Input of one turn of an interactive connection. The bounds below allow twice the number of turns that are
/// needed, since background turns may come between.
const TURN_BYTES: usize = 1024;

/// The length of a chat that takes one turn.
const CHAT_LEN: usize = 900;

/// A server without limits on messages, and with outboxes for peers that do not read.
fn start() -> Server {
    let flags = ["--message-rate", "0", "--outbox", "64M", "--history", "10000"];
    Server::start_with_metrics(&flags)
}

/// Sockets in one room, each of a session of its own.
fn members(server: &Server, room: &str, count: usize) -> Vec<Stream> {
    let enter = |n: usize| server.socket(room, &server.session(&format!("flooder {n}")));
    (0..count).map(enter).map(Ws::into_stream).collect()
}

/// `unit` as often as it fits into `bytes_max`.
fn repeat(unit: &[u8], bytes_max: usize) -> Vec<u8> {
    unit.repeat(bytes_max / unit.len())
}

fn received(server: &Server) -> usize {
    server.metric("chat_bytes_received_total") as usize
}

/// Writes `flood` to all streams and then calls `send`, while the server is stopped.
fn flood(server: &Server, streams: &mut [Stream], flood: &[u8], send: impl FnOnce()) {
    server.while_stopped(|| {
        streams.iter_mut().for_each(|stream| stream.write_all(flood).expect("it is buffered"));
        send();
    });
}

/// Waits until the server has handled all that was written since it had received `before` bytes.
fn wait_for_flood(server: &Server, before: usize, streams: &[Stream], flood: &[u8]) {
    wait_until("all of the flood is handled", || {
        received(server) >= before + streams.len() * flood.len()
    });
}

/// How many bytes of each of two floods are handled before a request for the metrics.
fn bytes_before_a_request(server: &Server, streams: &mut [Stream], bytes: &[u8]) -> [usize; 2] {
    [(); 2].map(|()| {
        let mut http = Http::connect(&server.addresses[1]);
        let request = get("/metrics");
        http.ask(&request).expect(200);
        let before = received(server);
        flood(server, streams, bytes, || http.send_request(&request));
        let answer = http.answer().expect(200).text();
        let handled = metric_in(&answer, "chat_bytes_received_total") as usize - before;
        wait_for_flood(server, before, streams, bytes);
        handled
    })
}

/// Asserts that at most `turns` turns of the first flood come before the request, and no turn of the second flood.
#[track_caller]
fn expect_soon([first, second]: [usize; 2], turns: usize) {
    assert!(first <= turns * TURN_BYTES, "{first} bytes of the first flood came before");
    // The request itself is counted.
    assert!(second < 100, "{second} bytes of the second flood came before");
}

// Sockets and requests alternate, so that a request waits for the turn of one socket.

#[test]
fn a_flood_of_typing_events_delays_no_request() {
    let server = start();
    let room = server.room(&server.session("owner"));
    let mut streams = members(&server, &room, FLOODERS);
    expect_soon(
        bytes_before_a_request(&server, &mut streams, &repeat(&typing(), SMALL_EVENTS_BYTES)),
        2,
    );
}

#[test]
fn a_flood_of_refused_events_delays_no_request() {
    let server = start();
    let room = server.room(&server.session("owner"));
    let mut streams = members(&server, &room, FLOODERS);
    expect_soon(
        bytes_before_a_request(&server, &mut streams, &repeat(&text("{}"), SMALL_EVENTS_BYTES)),
        2,
    );
}

/// Every chat goes to a hundred connections, which costs more than reading it.
#[test]
fn a_flood_of_chats_in_a_large_room_delays_no_request() {
    let server = start();
    let room = server.room(&server.session("owner"));
    let mut streams = members(&server, &room, 100);
    let chats = chat(&"x".repeat(CHAT_LEN)).repeat(12);
    expect_soon(bytes_before_a_request(&server, &mut streams, &chats), 2);
}

// Connections of one kind have one turn each, and the request comes last.

#[test]
fn a_flood_of_requests_delays_no_request() {
    let server = start();
    let mut streams: Vec<Stream> = (0..FLOODERS).map(|_| server.http().into_stream()).collect();
    // Long requests, since the responses are not read.
    let request = get("/ping").field("X", &"x".repeat(CHAT_LEN)).bytes("a");
    expect_soon(
        bytes_before_a_request(&server, &mut streams, &repeat(&request, FLOOD_BYTES)),
        2 * FLOODERS,
    );
}

/// How many messages of each of two floods are in the room's order before a chat from ana.
fn messages_before_a_chat(
    server: &Server,
    [ana, bob]: [&mut Ws; 2],
    streams: &mut [Stream],
    bytes: &[u8],
) -> [usize; 2] {
    [(); 2].map(|()| {
        let before = received(server);
        flood(server, streams, bytes, || ana.chat("a word"));
        let mut count = 0;
        while bob.event()["user"] != "ana" {
            count += 1;
        }
        wait_for_flood(server, before, streams, bytes);
        // The rest of the flood.
        bob.chat("and now");
        while bob.event()["message"] != "and now" {}
        count
    })
}

#[test]
fn a_flood_of_chats_delays_no_chat_in_the_same_room() {
    let server = start();
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut streams = members(&server, &room, FLOODERS);
    (0..FLOODERS).for_each(|_| _ = bob.event());
    let bytes = repeat(&chat(&"x".repeat(CHAT_LEN)), FLOOD_BYTES);
    let [first, second] =
        messages_before_a_chat(&server, [&mut ana, &mut bob], &mut streams, &bytes);
    assert!(first <= 2 * FLOODERS, "{first} chats of the first flood came before");
    assert_eq!(second, 0, "chats of the second flood came before");
}

#[test]
fn a_flood_of_posts_delays_no_chat_in_the_same_room() {
    let server = start();
    let (room, mut ana, mut bob) = server.room_of_two();
    let poster = server.session("poster");
    server.join(&room, &poster);
    let request: Request = post(&format!("/rooms/{room}/messages")).session(&poster);
    let bytes = request.json(&json!({"message": "x".repeat(CHAT_LEN / 2)})).bytes("a");
    let bytes = repeat(&bytes, FLOOD_BYTES);
    let mut streams: Vec<Stream> = (0..FLOODERS).map(|_| server.http().into_stream()).collect();
    let [first, second] =
        messages_before_a_chat(&server, [&mut ana, &mut bob], &mut streams, &bytes);
    assert!(first <= 2, "{first} posts of the first flood came before");
    assert_eq!(second, 0, "posts of the second flood came before");
}

/// Connections that end are freed in the background.
#[test]
fn a_mass_disconnect_delays_no_request() {
    const COUNT: usize = 300;
    let server = start();
    let mut streams: Vec<Stream> = (0..COUNT).map(|_| server.http().into_stream()).collect();
    let connections = "chat_connections{protocol=\"http\"}";
    wait_until("all are accepted", || server.metric(connections) as usize >= COUNT);
    let mut http = Http::connect(&server.addresses[1]);
    http.ask(&get("/metrics")).expect(200);
    server.while_stopped(|| {
        streams.clear();
        http.send_request(&get("/metrics"));
    });
    let answer = http.answer().expect(200).text();
    let left = metric_in(&answer, connections) as usize;
    assert!(left >= COUNT, "{left} of {COUNT} connections are left");
}
