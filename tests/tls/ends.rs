//! How it ends: close_notify from either side, a line that breaks, SIGTERM.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use serde_json::json;

use crate::client::{Stream, get, post, upgrade};
use crate::peer::{Peer, World, shake_hands};
use crate::server::wait_until;

/// Timeouts that are not under test take longer than any test.
const PATIENT: &[&str] = &[
    "--header-timeout",
    "1h",
    "--linger-timeout",
    "1h",
    "--idle-timeout",
    "1h",
    "--leave-grace",
    "0",
];

/// Says what is queued, and that nothing follows; TCP stays open.
fn notify(peer: &mut Peer) {
    peer.conn.send_close_notify();
    while peer.conn.wants_write() {
        peer.conn.write_tls(&mut peer.sock).expect("it takes it");
    }
}

fn metric(world: &World, name: &str) -> u64 {
    let metrics =
        crate::client::Http::connect(&world.server.addresses[2]).ask(&get("/metrics")).text();
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).expect("such a line")
}

/// Connections that broke so far.
fn broken(world: &World) -> u64 {
    metric(world, "chat_broken_total")
}

fn with_metrics() -> World {
    let mut flags = PATIENT.to_vec();
    flags.extend(["--metrics-listen", "127.0.0.1:0"]);
    World::start(&flags)
}

#[test]
fn the_last_answer_is_followed_by_a_close_notify() {
    let world = World::start(PATIENT);
    let mut http = world.http();
    http.ask(&get("/ping").field("Connection", "close")).expect(200);
    http.expect_end(); // An end of TCP alone would be an error to rustls.
    let mut http = world.http();
    http.send("nonsense\r\n\r\n");
    http.answer().expect(400);
    http.expect_end();
}

#[test]
fn who_waits_too_long_is_left_with_a_close_notify() {
    let world = World::start(&["--idle-timeout", "100ms"]);
    let mut http = world.http();
    http.ask(&get("/ping")).expect(200);
    http.expect_end();
}

#[test]
fn a_close_notify_is_the_end_of_the_stream_though_tcp_goes_on() {
    let world = with_metrics();
    let mut peer = world.peer(&world.believer);
    shake_hands(&mut peer).unwrap();
    notify(&mut peer);
    assert_eq!(peer.read(&mut [0; 64]).expect("a close_notify in return"), 0);
    assert_eq!(peer.sock.read(&mut [0; 64]).expect("and FIN"), 0);

    // What was asked before is answered, however close the end is behind it: in one packet, an end that came with the
    // last bytes was once not read.
    for count in [1, 30] {
        let mut peer = world.peer(&world.believer);
        shake_hands(&mut peer).unwrap();
        let requests = get("/docs.js").bytes("localhost").repeat(count);
        let mut bytes = Vec::new();
        peer.conn.writer().write_all(&requests).expect("it is buffered");
        peer.conn.send_close_notify();
        while peer.conn.wants_write() {
            peer.conn.write_tls(&mut bytes).expect("a vector takes all");
        }
        peer.sock.write_all(&bytes).expect("it takes it");
        let mut answers = String::new();
        peer.read_to_string(&mut answers).expect("a clean end");
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), count);
    }
    assert_eq!(broken(&world), 0);
}

/// Of some of these the kernel takes all, of others not, and of a few what waits may lie in the stream alone: it must
/// not go with the connection.
#[test]
fn who_ends_first_and_reads_later_gets_the_last_answer_whole() {
    let world = with_metrics();
    let request = get("/docs.css").bytes("localhost");
    let length = world.ask(get("/docs.css")).expect(200).body.len();
    let peers: Vec<_> = (1..=400_000 / length)
        .map(|count| {
            let Stream::Tcp(narrow) = Stream::connect_narrow(world.address()) else {
                panic!("only TCP has windows")
            };
            let mut peer = rustls::StreamOwned::new(crate::peer::session(&world.believer), narrow);
            shake_hands(&mut peer).unwrap();
            peer.conn.writer().write_all(&request.repeat(count)).expect("it is buffered");
            notify(&mut peer);
            (count, peer)
        })
        .collect();
    // Until each has been answered as far as the kernel takes it.
    let mut before = 0;
    wait_until("nobody is answered any more", || {
        let requests = metric(&world, "chat_requests_total");
        std::mem::replace(&mut before, requests) + 1 >= requests // Ours is one.
    });
    for (count, mut peer) in peers {
        let mut answers = Vec::new();
        peer.read_to_end(&mut answers).unwrap_or_else(|error| panic!("{error}, of {count}"));
        assert!(answers.len() > count * length, "of {count}");
    }
}

#[test]
fn an_end_without_a_close_notify_is_a_broken_line() {
    let world = with_metrics();
    let mut peer = world.peer(&world.believer);
    shake_hands(&mut peer).unwrap();
    assert_eq!(broken(&world), 0);
    peer.sock.shutdown(Shutdown::Write).expect("a shutdown");
    wait_until("it breaks", || broken(&world) == 1);

    let room = world.server.room(&world.server.session("ana"));
    let mut ana = world.enter(&room, "ana 2");
    let bob = world.enter(&room, "bob");
    ana.expect_join("bob");
    bob.stream().finish();
    ana.expect_left("bob");
    assert_eq!(broken(&world), 2);
}

#[test]
fn a_socket_that_closes_as_it_should_ends_as_it_should() {
    let world = World::start(PATIENT);
    let session = world.server.session("ana");
    let room = world.server.room(&session);
    let mut bob = world.enter(&room, "bob");
    let mut ana = world.http().upgrade(&upgrade(&format!("/ws/{room}?session_id={session}")));
    ana.expect_join("ana");
    bob.expect_join("ana");
    world.ask(crate::client::delete("/sessions/me").session(&session)).expect(200);
    ana.expect_close(4401, "invalid or expired session");
    bob.expect_left("ana");
    bob.close();
}

#[test]
fn a_body_too_large_is_refused_and_the_refusal_arrives() {
    let world = World::start(PATIENT);
    let mut peer = world.peer(&world.believer);
    let body = vec![b'x'; 300_000];
    let request = post("/sessions").field("Content-Type", "application/json").body(body);
    let _ = peer.write_all(&request.bytes("localhost"));
    let mut answer = [0; 12];
    peer.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[test]
fn garbage_inside_a_session_is_a_broken_line_and_nobody_elses_business() {
    let world = with_metrics();
    let mut peer = world.peer(&world.believer);
    shake_hands(&mut peer).unwrap();
    peer.sock.write_all(&[23, 3, 3, 0, 32]).expect("it takes it");
    peer.sock.write_all(&[7; 32]).expect("it takes it");
    let error = peer.read(&mut [0; 64]).expect_err("an alert");
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    wait_until("it breaks", || broken(&world) == 1);
    world.ask(post("/sessions").json(&json!({"username": "ana"}))).expect(201);
}

#[test]
fn sigterm_tells_everybody_over_tls_too() {
    let mut world = World::start(&[]);
    let room = world.server.room(&world.server.session("ana"));
    let bob = world.enter(&room, "bob");
    let mut idle = world.http();
    idle.ask(&get("/ping")).expect(200);
    let mut half = world.peer(&world.believer);
    half.conn.write_tls(&mut half.sock).expect("it takes it");
    world.server.terminate();
    bob.expect_close(1001, "server shutting down");
    idle.expect_end();
    drop(half);
    assert_eq!(world.server.wait().code(), Some(0));
}
