//! The beginning of connections: protocols, resumption, and handshakes that are slow, unfinished or invalid.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind};

use crate::client::{Http, Stream, get, upgrade};
use crate::peer::{TlsServer, client_config, handshake, session};
use crate::server::DEADLINE;

/// Timeouts that do not fire during a test.
const PATIENT: &[&str] = &["--header-timeout", "1h", "--linger-timeout", "1h"];

#[test]
fn alpn_selects_http_1_1_or_fails() {
    let tls_server = TlsServer::start(&[]);
    let both = TLS_BOTH;
    let agreed = |protocols: &[&[u8]]| {
        let mut peer = tls_server.peer(&client_config(&tls_server.authority, both, protocols));
        handshake(&mut peer).map(|()| peer.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(agreed(&[b"http/1.1"]).unwrap(), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(&[b"h2", b"http/1.1"]).unwrap(), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(&[]).unwrap(), None, "no ALPN without an offer");
    let refused = agreed(&[b"h2", b"http/1.0"]).unwrap_err();
    let alert = refused.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let expected = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(alert, Some(&expected), "{refused}");
}

const TLS_BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

#[test]
fn a_client_that_returns_resumes_its_session() {
    let tls_server = TlsServer::start(&[]);
    for version in [&TLS12, &TLS13] {
        let config = client_config(&tls_server.authority, &[version], &[b"http/1.1"]);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let mut peer = tls_server.peer(&config);
            // In TLS 1.3 the ticket follows the handshake, at the latest with the response.
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

/// Each byte is a write of its own.
#[test]
fn a_handshake_and_a_request_may_come_byte_by_byte() {
    let tls_server = TlsServer::start(PATIENT);
    for version in [&TLS12, &TLS13] {
        let mut tls = session(&client_config(&tls_server.authority, &[version], &[b"http/1.1"]));
        let mut tcp = tls_server.tcp();
        tls.writer()
            .write_all(&get("/ping").field("Connection", "close").bytes("localhost"))
            .unwrap();
        let mut answer = Vec::new();
        loop {
            while tls.wants_write() {
                let mut bytes = Vec::new();
                tls.write_tls(&mut bytes).unwrap();
                for byte in bytes {
                    tcp.write_all(&[byte]).expect("send");
                }
            }
            tls.read_tls(&mut tcp).expect("input");
            tls.process_new_packets().expect("valid TLS");
            match tls.reader().read_to_end(&mut answer) {
                Ok(_) => break, // A close_notify.
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
    }
}

/// Reads until the stream ends, by FIN or by reset.
fn read_to_the_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("no end: {error}"),
        _ => bytes,
    }
}

/// The first message of a client.
fn hello(tls_server: &TlsServer) -> Vec<u8> {
    let mut bytes = Vec::new();
    session(&tls_server.client_config).write_tls(&mut bytes).expect("a vector");
    bytes
}

#[test]
fn an_unfinished_handshake_is_dropped_after_header_timeout() {
    let tls_server = TlsServer::start(&["--header-timeout", "200ms", "--linger-timeout", "1h"]);
    let hello = hello(&tls_server);
    // Nothing, a byte, all but one byte, all without the next message, and the beginning of an HTTP request.
    for sent in [&b""[..], &hello[..1], &hello[..hello.len() - 1], &hello, b"GET / HTTP/1.1\r\n"] {
        let mut stream = tls_server.tcp();
        stream.write_all(sent).expect("send");
        read_to_the_end(&mut stream);
    }
    tls_server.ask(get("/ping")).expect(200);
}

#[test]
fn an_unfinished_request_over_tls_is_408() {
    let tls_server = TlsServer::start(&["--header-timeout", "200ms"]);
    let mut http = tls_server.http();
    http.send("GET / HTTP/1.1\r\n");
    http.answer().refused(408, "timeout");
    http.expect_end();
}

#[test]
fn plain_http_to_the_tls_port_is_answered_with_a_hint() {
    let tls_server = TlsServer::start(PATIENT);
    let room = tls_server.server.room(&tls_server.server.session("ana"));
    let mut member = tls_server.enter(&room, "bob");
    let long = "x".repeat(100_000);
    for sent in [get("/ping"), upgrade("/ws/x"), get("/").field("X-Long", &long)] {
        let mut stream = tls_server.tcp();
        // The server may close before all is sent.
        let _ = stream.write_all(&sent.bytes("localhost"));
        let answer = String::from_utf8(read_to_the_end(&mut stream)).expect("text");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.ends_with("This port speaks TLS: ask for https:// or wss://\n"), "{answer}");
    }
    member.chat("still here");
    member.expect_chat("bob", "still here");
}

#[test]
fn other_bytes_are_answered_with_an_alert() {
    let tls_server = TlsServer::start(PATIENT);
    for sent in
        [&b"\x16\x03\x01\xff\xff"[..], b"\x80\x2e\x01\x03\x01", b"\0\0\0\0\0\0", b"ssh-2.0\r\n"]
    {
        let mut stream = tls_server.tcp();
        stream.write_all(sent).expect("send");
        let answer = read_to_the_end(&mut stream);
        assert_eq!(answer.first(), Some(&21), "an alert, not {answer:?}");
    }
    tls_server.ask(get("/ping")).expect(200);
}

#[test]
fn tls_to_the_plain_port_is_a_bad_request() {
    let tls_server = TlsServer::start(PATIENT);
    let Stream::Tcp(mut stream) = Stream::connect(tls_server.server.address()) else {
        panic!("TCP")
    };
    stream.write_all(&hello(&tls_server)).expect("send");
    let mut http = Http::over(Stream::Tcp(stream), tls_server.server.address());
    assert_eq!(http.answer().status, 400);
}
