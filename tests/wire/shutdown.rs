//! Shutdown: everybody is told, nothing is left, and it does not take long.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{CLOSE, close_payload, get};
use crate::server::{Address, Server, command, wait_until};

/// The contract's bound on leaving.
const LEAVE: Duration = Duration::from_secs(5);

fn tcp(server: &Server) -> std::net::SocketAddr {
    match server.address() {
        Address::Tcp(address) => *address,
        Address::Unix(_) => unreachable!("these tests listen on TCP"),
    }
}

fn everybody_is_told(signal: Signal, word: &str) {
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
    drop(idle); // Else the server would wait for it to hang up.
    let status = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < LEAVE, "{:?}", started.elapsed());
    let stderr = server.stderr_to_the_end();
    let last = stderr.last().expect("a line at the end").to_uppercase();
    assert!(last.contains(word), "it says why: {stderr:?}");
}

// contract §7.2 §12.9
#[test]
fn sigterm_tells_every_socket_and_leaves() {
    everybody_is_told(Signal::TERM, "SIGTERM");
}

// contract §7.2 §12.9
#[test]
fn sigint_tells_every_socket_and_leaves() {
    everybody_is_told(Signal::INT, "SIGINT");
}

#[test]
fn nobody_hears_of_leaves_while_the_server_goes() {
    let server = Server::start(&[]);
    let (_, ana, bob) = server.room_of_two();
    server.terminate();
    // `expect_close` would see a `user_left` before the close.
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
fn an_unresponsive_peer_does_not_keep_it() {
    let mut server = Server::start(&["--linger-timeout", "1h"]);
    let (_, ana, bob) = server.room_of_two();
    let mut half = server.http();
    half.send("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{");
    let started = Instant::now();
    server.terminate();
    // Nobody answers the close, nobody hangs up.
    assert_eq!(server.wait().code(), Some(0));
    assert!(started.elapsed() < LEAVE + Duration::from_secs(1), "{:?}", started.elapsed());
    drop((ana, bob, half));
}

// contract §12.9
#[test]
fn a_second_signal_leaves_at_once() {
    let mut server = Server::start(&["--linger-timeout", "1h"]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let started = Instant::now();
    server.terminate();
    for socket in [&mut ana, &mut bob] {
        let told = socket.frame();
        assert_eq!(told.opcode, CLOSE);
        assert_eq!(told.payload, close_payload(1001, "server shutting down"));
    }
    // It would wait for these two to hang up.
    server.terminate();
    server.wait();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn while_it_goes_nobody_new_is_let_in() {
    let server = Server::start(&["--linger-timeout", "1h"]);
    let address = tcp(&server);
    let mut kept = server.http();
    kept.ask(&get("/health")).expect(200);
    let (_, mut ana, _bob) = server.room_of_two();
    server.terminate();
    assert_eq!(ana.frame().opcode, CLOSE);
    // A connection that was idle has ended, or is told why nothing is done any more.
    let _ = kept.try_send(get("/health").bytes("a"));
    if let Ok(Some(answer)) = kept.try_answer_to("GET") {
        answer.refused(503, "shutting_down");
    }
    wait_until("nobody listens", || TcpStream::connect(address).is_err());
}

// contract §1.5
#[test]
fn a_request_under_way_is_refused_with_503_while_the_server_leaves() {
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
