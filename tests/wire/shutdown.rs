//! Shutdown: every socket is closed with a reason, the process ends, and it does so in time.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{CLOSE, close_payload, get};
use crate::server::{Address, Server, command, wait_until};

/// The contract's bound on the duration of a shutdown.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

fn tcp(server: &Server) -> std::net::SocketAddr {
    match server.address() {
        Address::Tcp(address) => *address,
        Address::Unix(_) => unreachable!("these tests listen on TCP"),
    }
}

fn expect_shutdown(signal: Signal, word: &str) {
    let mut server = Server::start(&[]);
    let (_, ana, bob) = server.room_of_two();
    let (_, carl, dora) = server.room_of_two();
    let mut idle = server.http();
    idle.ask(&get("/health")).expect(200);
    let started = Instant::now();
    server.signal(signal);
    for socket in [ana, bob, carl, dora] {
        socket.expect_close(1001, "server shutting down");
    }
    idle.expect_end();
    drop(idle); // The server waits until its peers have closed.
    let status = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < SHUTDOWN_MAX, "{:?}", started.elapsed());
    let stderr = server.stderr_to_the_end();
    let last = stderr.last().expect("a line at the end").to_uppercase();
    assert!(last.contains(word), "no reason: {stderr:?}");
}

// contract §7.2 §12.9
#[test]
fn sigterm_closes_every_socket_and_ends_the_process() {
    expect_shutdown(Signal::TERM, "SIGTERM");
}

// contract §7.2 §12.9
#[test]
fn sigint_closes_every_socket_and_ends_the_process() {
    expect_shutdown(Signal::INT, "SIGINT");
}

// contract §7.2 §12.9
#[test]
fn sigquit_closes_every_socket_and_ends_the_process() {
    expect_shutdown(Signal::QUIT, "SIGQUIT");
}

#[test]
fn a_shutdown_announces_no_leaves() {
    let server = Server::start(&[]);
    let (_, ana, bob) = server.room_of_two();
    server.terminate();
    // `expect_close` fails if a `user_left` comes first.
    bob.expect_close(1001, "server shutting down");
    ana.expect_close(1001, "server shutting down");
}

#[test]
fn the_port_is_free_again() {
    let mut server = Server::start(&[]);
    let (_, ana, _bob) = server.room_of_two();
    let address = tcp(&server);
    server.terminate();
    assert!(server.wait().success());
    assert!(TcpStream::connect(address).is_err());
    let listen = address.to_string();
    let next = Server::spawn(command(&["--listen", &listen], &[]), 1);
    assert_eq!(tcp(&next), address);
    next.ask(get("/health")).expect(200);
    drop(ana);
}

// contract §12.9
#[test]
fn an_unresponsive_peer_does_not_delay_the_shutdown_beyond_its_bound() {
    let mut server = Server::start(&["--linger-timeout", "1h"]);
    let (_, ana, bob) = server.room_of_two();
    let mut half = server.http();
    half.send("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{");
    let started = Instant::now();
    server.terminate();
    // The peers neither answer the close nor close themselves.
    assert_eq!(server.wait().code(), Some(0));
    assert!(started.elapsed() < SHUTDOWN_MAX + Duration::from_secs(1), "{:?}", started.elapsed());
    drop((ana, bob, half));
}

// contract §12.9
#[test]
fn a_second_signal_ends_the_process_at_once() {
    let mut server = Server::start(&["--linger-timeout", "1h"]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let started = Instant::now();
    server.terminate();
    for socket in [&mut ana, &mut bob] {
        let close = socket.frame();
        assert_eq!(close.opcode, CLOSE);
        assert_eq!(close.payload, close_payload(1001, "server shutting down"));
    }
    // Otherwise it would wait for these two peers to close.
    server.terminate();
    server.wait();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_server_that_shuts_down_accepts_no_connections() {
    let server = Server::start(&["--linger-timeout", "1h"]);
    let address = tcp(&server);
    let mut kept = server.http();
    kept.ask(&get("/health")).expect(200);
    let (_, mut ana, _bob) = server.room_of_two();
    server.terminate();
    assert_eq!(ana.frame().opcode, CLOSE);
    // An idle connection has ended, or its request is refused.
    let _ = kept.try_send(get("/health").bytes("a"));
    if let Ok(Some(answer)) = kept.try_answer_to("GET") {
        answer.refused(503, "shutting_down");
    }
    wait_until("connecting fails", || TcpStream::connect(address).is_err());
}

// contract §1.5
#[test]
fn an_unfinished_request_is_refused_with_503_during_a_shutdown() {
    let server = Server::start(&["--linger-timeout", "1h"]);
    let mut http = server.http();
    let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 18";
    http.send(format!("{head}\r\n\r\n"));
    http.answer().expect(100);
    let (_, mut ana, _bob) = server.room_of_two();
    server.terminate();
    assert_eq!(ana.frame().opcode, CLOSE);
    http.send("{\"username\":\"ana\"}");
    http.answer().refused(503, "shutting_down");
    http.expect_end();
}
