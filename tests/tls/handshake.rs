//! How it begins: protocols, resumption, handshakes that drip, never end, or are none.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind};

use crate::client::{Http, Stream, get, upgrade};
use crate::peer::{World, believer, session, shake_hands};
use crate::server::DEADLINE;

/// Timeouts that are not under test take longer than any test.
const PATIENT: &[&str] = &["--header-timeout", "1h", "--linger-timeout", "1h"];

#[test]
fn http_1_1_is_what_is_agreed_on_and_nothing_else() {
    let world = World::start(&[]);
    let both = TLS_BOTH;
    let agreed = |protocols: &[&[u8]]| {
        let mut peer = world.peer(&believer(&world.authority, both, protocols));
        shake_hands(&mut peer).map(|()| peer.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(agreed(&[b"http/1.1"]).unwrap(), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(&[b"h2", b"http/1.1"]).unwrap(), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(&[]).unwrap(), None, "who doesn't ask isn't told");
    let refused = agreed(&[b"h2", b"http/1.0"]).unwrap_err();
    let alert = refused.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let expected = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(alert, Some(&expected), "{refused}");
}

const TLS_BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

#[test]
fn who_comes_back_resumes() {
    let world = World::start(&[]);
    for version in [&TLS12, &TLS13] {
        let config = believer(&world.authority, &[version], &[b"http/1.1"]);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let mut peer = world.peer(&config);
            // In 1.3 the ticket comes behind the handshake, with the answer at the latest.
            peer.write_all(&get("/ping").field("Connection", "close").bytes("localhost")).unwrap();
            let mut answer = String::new();
            peer.read_to_string(&mut answer).expect("a clean end");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            kinds.push(peer.conn.handshake_kind());
        }
        let expected = [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed];
        assert_eq!(kinds, expected.map(Some), "{version:?}");
    }
}

/// Sends everything byte by byte, each in a packet of its own.
#[test]
fn a_handshake_and_a_request_may_drip() {
    let world = World::start(PATIENT);
    for version in [&TLS12, &TLS13] {
        let mut tls = session(&believer(&world.authority, &[version], &[b"http/1.1"]));
        let mut tcp = world.tcp();
        tls.writer()
            .write_all(&get("/ping").field("Connection", "close").bytes("localhost"))
            .unwrap();
        let mut answer = Vec::new();
        loop {
            while tls.wants_write() {
                let mut bytes = Vec::new();
                tls.write_tls(&mut bytes).unwrap();
                for byte in bytes {
                    tcp.write_all(&[byte]).expect("it listens");
                }
            }
            tls.read_tls(&mut tcp).expect("an answer in time");
            tls.process_new_packets().expect("good TLS");
            match tls.reader().read_to_end(&mut answer) {
                Ok(_) => break, // A close_notify.
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
    }
}

/// Reads until the end, however it comes.
fn read_to_the_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("no end: {error}"),
        _ => bytes,
    }
}

/// The first thing a client says.
fn hello(world: &World) -> Vec<u8> {
    let mut bytes = Vec::new();
    session(&world.believer).write_tls(&mut bytes).expect("a vector takes all");
    bytes
}

#[test]
fn a_handshake_that_never_ends_is_cut_off_like_a_head_that_never_does() {
    let world = World::start(&["--header-timeout", "200ms", "--linger-timeout", "1h"]);
    let hello = hello(&world);
    // Nothing; a byte; all but one; all, and no answer to the answer; another protocol's beginning.
    for said in [&b""[..], &hello[..1], &hello[..hello.len() - 1], &hello, b"GET / HTTP/1.1\r\n"] {
        let mut stream = world.tcp();
        stream.write_all(said).expect("it listens");
        read_to_the_end(&mut stream);
    }
    world.ask(get("/ping")).expect(200);
}

#[test]
fn a_request_that_never_ends_is_told_so_over_tls() {
    let world = World::start(&["--header-timeout", "200ms"]);
    let mut http = world.http();
    http.send("GET / HTTP/1.1\r\n");
    http.answer().refused(408, "timeout");
    http.expect_end();
}

#[test]
fn who_speaks_http_to_the_tls_port_is_told_so() {
    let world = World::start(PATIENT);
    let room = world.server.room(&world.server.session("ana"));
    let mut member = world.enter(&room, "bob");
    let long = "x".repeat(100_000);
    for said in [get("/ping"), upgrade("/ws/x"), get("/").field("X-Long", &long)] {
        let mut stream = world.tcp();
        // It may have had enough before we have.
        let _ = stream.write_all(&said.bytes("localhost"));
        let answer = String::from_utf8(read_to_the_end(&mut stream)).expect("text");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.ends_with("This port speaks TLS: ask for https:// or wss://\n"), "{answer}");
    }
    member.chat("nobody else notices");
    member.expect_chat("bob", "nobody else notices");
}

#[test]
fn what_is_neither_gets_an_alert_and_an_end() {
    let world = World::start(PATIENT);
    for said in
        [&b"\x16\x03\x01\xff\xff"[..], b"\x80\x2e\x01\x03\x01", b"\0\0\0\0\0\0", b"ssh-2.0\r\n"]
    {
        let mut stream = world.tcp();
        stream.write_all(said).expect("it listens");
        let answer = read_to_the_end(&mut stream);
        assert_eq!(answer.first(), Some(&21), "an alert, not {answer:?}");
    }
    world.ask(get("/ping")).expect(200);
}

#[test]
fn who_speaks_tls_to_the_plain_port_gets_the_usual_answer() {
    let world = World::start(PATIENT);
    let Stream::Tcp(mut stream) = Stream::connect(world.server.address()) else { panic!("TCP") };
    stream.write_all(&hello(&world)).expect("it listens");
    let mut http = Http::over(Stream::Tcp(stream), world.server.address());
    assert_eq!(http.answer().status, 400);
}
