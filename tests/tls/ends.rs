//! The end of connections: close_notify from either side, an end without it, SIGTERM.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use serde_json::json;

use crate::client::{Http, Stream, get, post, uninterrupted, upgrade};
use crate::peer::{Peer, TlsServer, handshake};
use crate::server::{metric_in, wait_until};

/// Timeouts that do not fire during a test.
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

/// Sends what is queued, and a close_notify. TCP stays open.
fn close_notify(peer: &mut Peer) {
    peer.conn.send_close_notify();
    while peer.conn.wants_write() {
        peer.conn.write_tls(&mut peer.sock).expect("send");
    }
}

fn metric(tls_server: &TlsServer, name: &str) -> u64 {
    let mut http = Http::connect(&tls_server.server.addresses[2]);
    metric_in(&http.ask(&get("/metrics")).text(), name)
}

/// The number of connections that have broken so far.
fn broken(tls_server: &TlsServer) -> u64 {
    metric(tls_server, "chat_broken_total")
}

fn with_metrics() -> TlsServer {
    let mut flags = PATIENT.to_vec();
    flags.extend(["--metrics-listen", "127.0.0.1:0"]);
    TlsServer::start(&flags)
}

#[test]
fn the_last_response_is_followed_by_a_close_notify() {
    let tls_server = TlsServer::start(PATIENT);
    let mut http = tls_server.http();
    http.ask(&get("/ping").field("Connection", "close")).expect(200);
    http.expect_end(); // rustls reports an end of TCP without a close_notify as an error.
    let mut http = tls_server.http();
    http.send("nonsense\r\n\r\n");
    http.answer().expect(400);
    http.expect_end();
}

#[test]
fn an_idle_connection_ends_with_a_close_notify() {
    let tls_server = TlsServer::start(&["--idle-timeout", "100ms"]);
    let mut http = tls_server.http();
    http.ask(&get("/ping")).expect(200);
    http.expect_end();
}

#[test]
fn a_close_notify_ends_the_stream_while_tcp_stays_open() {
    let tls_server = with_metrics();
    let mut peer = tls_server.peer(&tls_server.client_config);
    handshake(&mut peer).unwrap();
    close_notify(&mut peer);
    assert_eq!(uninterrupted(|| peer.read(&mut [0; 64])).expect("a close_notify"), 0);
    assert_eq!(uninterrupted(|| peer.sock.read(&mut [0; 64])).expect("FIN"), 0);

    // Regression: a close_notify in the same packet as the last request was not read. All requests before it must be
    // answered.
    for count in [1, 30] {
        let mut peer = tls_server.peer(&tls_server.client_config);
        handshake(&mut peer).unwrap();
        let requests = get("/docs.js").bytes("localhost").repeat(count);
        let mut bytes = Vec::new();
        peer.conn.writer().write_all(&requests).expect("it is buffered");
        peer.conn.send_close_notify();
        while peer.conn.wants_write() {
            peer.conn.write_tls(&mut bytes).expect("a vector");
        }
        peer.sock.write_all(&bytes).expect("send");
        let mut answers = String::new();
        peer.read_to_string(&mut answers).expect("a clean end");
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), count);
    }
    assert_eq!(broken(&tls_server), 0);
}

/// The peers request different amounts, so that some responses are completely in the kernel's buffer, others are partly
/// in the server's outbox, and a few are left only in the TLS stream. The server must not drop a connection before all
/// of it is written.
#[test]
fn a_peer_that_ends_first_and_reads_later_gets_all_responses() {
    let tls_server = with_metrics();
    let request = get("/docs.css").bytes("localhost");
    let length = tls_server.ask(get("/docs.css")).expect(200).body.len();
    let peers: Vec<_> = (1..=400_000 / length)
        .map(|count| {
            let Stream::Tcp(narrow) = Stream::connect_narrow(tls_server.address()) else {
                panic!("only TCP has a receive window")
            };
            let mut peer =
                rustls::StreamOwned::new(crate::peer::session(&tls_server.client_config), narrow);
            handshake(&mut peer).unwrap();
            peer.conn.writer().write_all(&request.repeat(count)).expect("it is buffered");
            close_notify(&mut peer);
            (count, peer)
        })
        .collect();
    // Waits until the server has answered as much as the kernel takes.
    let mut before = 0;
    wait_until("the server answers no more", || {
        let requests = metric(&tls_server, "chat_requests_total");
        std::mem::replace(&mut before, requests) + 1 >= requests // One is for the metrics.
    });
    for (count, mut peer) in peers {
        let mut answers = Vec::new();
        peer.read_to_end(&mut answers).unwrap_or_else(|error| panic!("{error}, of {count}"));
        assert!(answers.len() > count * length, "of {count}");
    }
}

#[test]
fn an_end_without_a_close_notify_counts_as_broken() {
    let tls_server = with_metrics();
    let mut peer = tls_server.peer(&tls_server.client_config);
    handshake(&mut peer).unwrap();
    assert_eq!(broken(&tls_server), 0);
    peer.sock.shutdown(Shutdown::Write).expect("a shutdown");
    wait_until("it counts as broken", || broken(&tls_server) == 1);

    let room = tls_server.server.room(&tls_server.server.session("ana"));
    let mut ana = tls_server.enter(&room, "ana 2");
    let bob = tls_server.enter(&room, "bob");
    ana.expect_join("bob");
    bob.stream().finish();
    ana.expect_left("bob");
    assert_eq!(broken(&tls_server), 2);
}

#[test]
fn the_close_handshake_of_a_socket_works_over_tls() {
    let tls_server = TlsServer::start(PATIENT);
    let session = tls_server.server.session("ana");
    let room = tls_server.server.room(&session);
    let mut bob = tls_server.enter(&room, "bob");
    let mut ana = tls_server.http().upgrade(&upgrade(&format!("/ws/{room}?session_id={session}")));
    ana.expect_join("ana");
    bob.expect_join("ana");
    tls_server.ask(crate::client::delete("/sessions/me").session(&session)).expect(200);
    ana.expect_close(4401, "invalid or expired session");
    bob.expect_left("ana");
    bob.close();
}

#[test]
fn a_refusal_arrives_although_the_peer_is_still_sending() {
    let tls_server = TlsServer::start(PATIENT);
    let mut peer = tls_server.peer(&tls_server.client_config);
    let body = vec![b'x'; 300_000];
    let request = post("/sessions").field("Content-Type", "application/json").body(body);
    let _ = peer.write_all(&request.bytes("localhost"));
    let mut answer = [0; 12];
    peer.read_exact(&mut answer).expect("a response");
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[test]
fn garbage_within_a_session_breaks_only_that_connection() {
    let tls_server = with_metrics();
    let mut peer = tls_server.peer(&tls_server.client_config);
    handshake(&mut peer).unwrap();
    peer.sock.write_all(&[23, 3, 3, 0, 32]).expect("send");
    peer.sock.write_all(&[7; 32]).expect("send");
    let error = uninterrupted(|| peer.read(&mut [0; 64])).expect_err("an alert");
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    wait_until("it counts as broken", || broken(&tls_server) == 1);
    tls_server.ask(post("/sessions").json(&json!({"username": "ana"}))).expect(201);
}

#[test]
fn sigterm_closes_sockets_over_tls() {
    let mut tls_server = TlsServer::start(&[]);
    let room = tls_server.server.room(&tls_server.server.session("ana"));
    let bob = tls_server.enter(&room, "bob");
    let mut idle = tls_server.http();
    idle.ask(&get("/ping")).expect(200);
    let mut half = tls_server.peer(&tls_server.client_config);
    half.conn.write_tls(&mut half.sock).expect("send");
    tls_server.server.terminate();
    bob.expect_close(1001, "server shutting down");
    idle.expect_end();
    drop(half);
    assert_eq!(tls_server.server.wait().code(), Some(0));
}
