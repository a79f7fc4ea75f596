//! The five steps of the guide, `src/guide/step_by_step`, over real sockets.
//!
//! Each example is compiled into this test, and its server runs on a thread or is driven tick by tick.
//! So `cargo test --test steps` needs no other target. A server ends with the process.
//!
//! The tests of a step are in the module of its name: `cargo test --test steps step1` runs those. They
//! must pass whatever a right solution of the page's exercise adds.

#![allow(
    clippy::duplicate_mod,
    reason = "steps 4 and 5 are programs that share the file of their loop"
)]

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use disposable_chat::clock::{Mono, Now};

#[allow(dead_code, reason = "the example's main")]
#[path = "../src/guide/step_by_step/step1_echo.rs"]
mod step1_echo;
#[allow(dead_code, reason = "the example's main")]
#[path = "../src/guide/step_by_step/step2_backpressure.rs"]
mod step2_backpressure;
#[allow(dead_code, reason = "the example's main")]
#[path = "../src/guide/step_by_step/step3_timers.rs"]
mod step3_timers;
#[allow(dead_code, reason = "the example's main")]
#[path = "../src/guide/step_by_step/step4_http.rs"]
mod step4_http;
#[allow(dead_code, reason = "the example's main")]
#[path = "../src/guide/step_by_step/step5_rooms.rs"]
mod step5_rooms;

/// A test fails if nothing happens for this long. Generous, since other tests run at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn connect(port: u16) -> TcpStream {
    let peer = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    peer.set_read_timeout(Some(PATIENCE)).expect("an option");
    peer.set_write_timeout(Some(PATIENCE)).expect("an option");
    peer
}

/// Starts a step's server on a thread. A macro, because the steps' types share no trait.
macro_rules! start {
    ($bind:expr, $server:ident => $port:expr) => {{
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            // A server stays on the thread that it was made on: its outboxes share bytes by `Rc`.
            let mut $server = $bind.expect("a free port");
            sender.send($port).expect("the test waits");
            $server.run().map(|never| match never {})
        });
        receiver.recv().expect("the server starts")
    }};
}

fn read(peer: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.read_exact(&mut bytes).expect("more bytes");
    bytes
}

#[track_caller]
fn check_echo(peer: &mut TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).expect("the server reads");
    assert_eq!(read(peer, bytes.len()), bytes);
}

/// Bytes in which a piece that is lost, doubled or moved shows.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

// ---- What the pages tell to try

/// Runs a page's block in `language` against a server on `port`, and compares what it prints with the
/// page's next block.
fn try_page(step: &str, language: &str, program: &str, port: u16) {
    let page = fs::read_to_string(format!("src/guide/step_by_step/{step}.md")).expect("a page");
    let (_, block) = page.split_once(&format!("```{language}\n")).expect("a block");
    let (block, rest) = block.split_once("```\n").expect("its end");
    let (_, expected) = rest.split_once("```text\n").expect("what it prints");
    let (expected, _) = expected.split_once("```").expect("its end");
    let mut command = Command::new(program);
    command.arg("-c").arg(block.replace("8001", &port.to_string())).stdin(Stdio::null());
    for name in ["http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let output = command.output().expect("it is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{step}: {errors}");
}

/// Whether a program is installed. If not, its test is skipped, or fails with `REQUIRE_ALL=1`.
fn has(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let is_there = command.status().is_ok_and(|status| status.success());
    let is_required = std::env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(is_there || !is_required, "needs {program} {arguments:?}");
    if !is_there {
        let _ = writeln!(io::stderr(), "skipped: needs {program} {arguments:?}");
    }
    is_there
}

/// The interpreter that has the packages of `.ci/install`, if there is one.
fn python() -> String {
    std::env::var("CLIENTS_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

// ---- What the echoes have in common

fn check_own_echoes(port: u16) {
    let [mut one, mut other] = [connect(port), connect(port)];
    for round in 0..3_u8 {
        check_echo(&mut one, &[round, 1]);
        check_echo(&mut other, &[round, 2, 3]);
    }
    drop(one);
    check_echo(&mut other, b"still here");
    check_echo(&mut connect(port), b"in the place of the first");
}

/// With one read for each edge, the rest would stay in the kernel: no edge announces it again.
fn check_many_reads(port: u16) {
    check_echo(&mut connect(port), &pattern(60_000));
}

fn check_last_words(port: u16) {
    let mut peer = connect(port);
    peer.write_all(b"last words").expect("the server reads");
    peer.shutdown(Shutdown::Write).expect("connected");
    let mut echo = Vec::new();
    peer.read_to_end(&mut echo).expect("the server closes in order");
    assert_eq!(echo, b"last words");
}

fn check_pause(port: u16) {
    let [mut slow, mut other] = [connect(port), connect(port)];
    // The server is not told that the peer stops. A slow machine makes it stop early, with less sent.
    slow.set_write_timeout(Some(Duration::from_millis(200))).expect("an option");
    let (sent, error) = flood(&mut slow, FLOOD_BYTES_MAX);
    assert!(matches!(error, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    check_echo(&mut other, b"not delayed");

    slow.shutdown(Shutdown::Write).expect("connected");
    let mut echo = Vec::new();
    slow.read_to_end(&mut echo).expect("the server closes in order");
    assert_eq!(echo.len(), sent);
    assert!(echo == pattern(sent), "the echo differs");
}

/// Sends until an error, and counts what the kernel and the server take. Reads nothing.
fn flood(peer: &mut TcpStream, bytes_max: usize) -> (usize, ErrorKind) {
    let mut sent = 0;
    let bytes = pattern(251 * 64);
    while sent < bytes_max {
        // Each write starts where the pattern is.
        match peer.write(&bytes[sent % 251..]) {
            Ok(count) => sent += count,
            Err(error) => return (sent, error.kind()),
        }
    }
    panic!("the server takes {sent} bytes from a peer that reads none")
}

/// Beyond what the kernel buffers for both directions.
const FLOOD_BYTES_MAX: usize = 64 << 20;

// ---- The steps

mod step1 {
    use super::*;

    fn start() -> u16 {
        start!(step1_echo::Server::bind(any_port()), server => server.listener.local_addr().expect("bound").port())
    }

    #[test]
    fn the_page_prints_what_it_says() {
        if has(&python(), &["--version"]) {
            try_page("step1_echo", "python", &python(), start());
        }
    }

    #[test]
    fn every_connection_has_its_own_echo() {
        check_own_echoes(start());
    }

    #[test]
    fn input_of_many_reads_is_echoed_after_a_single_edge() {
        check_many_reads(start());
    }

    #[test]
    fn what_was_sent_before_the_end_is_echoed() {
        check_last_words(start());
    }

    #[test]
    fn a_peer_that_does_not_read_loses_its_connection() {
        let port = start();
        let [mut slow, mut other] = [connect(port), connect(port)];
        let (_, error) = flood(&mut slow, FLOOD_BYTES_MAX);
        assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
        check_echo(&mut other, b"still here");
    }
}

mod step2 {
    use super::*;

    fn start() -> u16 {
        start!(step2_backpressure::Server::bind(any_port()), server => server.listener.local_addr().expect("bound").port())
    }

    #[test]
    fn the_page_prints_what_it_says() {
        if has(&python(), &["--version"]) {
            try_page("step2_backpressure", "python", &python(), start());
        }
    }

    #[test]
    fn every_connection_has_its_own_echo() {
        check_own_echoes(start());
    }

    #[test]
    fn input_of_many_reads_is_echoed_after_a_single_edge() {
        check_many_reads(start());
    }

    #[test]
    fn what_was_sent_before_the_end_is_echoed() {
        check_last_words(start());
    }

    #[test]
    fn a_peer_that_does_not_read_is_paused_and_loses_nothing() {
        check_pause(start());
    }
}

mod step3 {
    use super::*;

    fn start() -> u16 {
        start!(step3_timers::Server::bind(any_port()), server => server.listener.port())
    }

    #[test]
    fn every_connection_has_its_own_echo() {
        check_own_echoes(start());
    }

    #[test]
    fn input_of_many_reads_is_echoed_after_a_single_edge() {
        check_many_reads(start());
    }

    #[test]
    fn what_was_sent_before_the_end_is_echoed() {
        check_last_words(start());
    }

    #[test]
    fn a_peer_that_does_not_read_is_paused_and_loses_nothing() {
        check_pause(start());
    }

    /// A server that closes at the end of the peer's direction loses what it has queued. In step 3, because
    /// `net` bounds what the kernel buffers, so that a few sizes are enough.
    #[test]
    fn what_is_queued_at_the_end_of_the_peers_direction_is_sent() {
        let port = start();
        let mut other = connect(port);
        // Some of these fill what the kernel buffers, and a part of what the server queues.
        for bytes in (1..12).map(|count| pattern(count * 48 * 1024)) {
            let mut slow = connect(port);
            slow.set_write_timeout(Some(Duration::from_millis(100))).expect("an option");
            if slow.write_all(&bytes).is_err() {
                break; // Both are full.
            }
            slow.shutdown(Shutdown::Write).expect("connected");
            check_echo(&mut other, b"after the end that the server has seen");
            let mut echo = Vec::new();
            slow.read_to_end(&mut echo).expect("the server closes in order");
            assert!(echo == bytes, "{} of {} bytes", echo.len(), bytes.len());
        }
    }

    /// A server that is driven tick by tick, on this thread.
    struct Ticking(step3_timers::Server);

    impl Ticking {
        fn new() -> Ticking {
            Ticking(step3_timers::Server::bind(any_port()).expect("a free port"))
        }

        /// Waits for an event, and handles it at `seconds` by a clock that only the test moves.
        fn tick(&mut self, seconds: u64) {
            let start = Instant::now();
            self.0.wait(Some(PATIENCE)).expect("a poll");
            assert!(start.elapsed() < PATIENCE, "nothing happens any more");
            self.pass(seconds);
        }

        /// Lets time pass in which nothing happens.
        fn pass(&mut self, seconds: u64) {
            self.0.tick(Mono::from_micros(seconds * 1_000_000));
        }

        /// Connects a peer, and echoes its first byte.
        fn connect(&mut self, seconds: u64) -> TcpStream {
            let mut peer = connect(self.0.listener.port());
            self.tick(seconds);
            self.echo(&mut peer, seconds);
            peer
        }

        fn echo(&mut self, peer: &mut TcpStream, seconds: u64) {
            peer.write_all(b"x").expect("connected");
            peer.set_nonblocking(true).expect("an option");
            // The first tick can be the writable edge of a new connection.
            let mut echo = [0];
            while let Err(error) = peer.read_exact(&mut echo) {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                self.tick(seconds);
            }
            assert_eq!(echo, *b"x");
            peer.set_nonblocking(false).expect("an option");
        }
    }

    #[test]
    fn an_idle_connection_is_closed_and_one_that_speaks_is_not() {
        let timeout = step3_timers::IDLE_TIMEOUT.as_secs();
        let mut server = Ticking::new();
        let [mut idle, mut live] = [server.connect(0), server.connect(0)];
        server.echo(&mut live, timeout - 1);
        server.pass(timeout - 1);
        server.echo(&mut idle, timeout - 1);
        server.echo(&mut live, timeout);
        server.pass(2 * timeout - 2);
        server.echo(&mut live, 2 * timeout - 2);
        server.pass(2 * timeout - 1);
        assert_eq!(idle.read(&mut [0]).expect("closed in order"), 0);
        server.echo(&mut live, 2 * timeout - 1);
    }

    #[test]
    fn input_that_has_arrived_counts_even_if_the_loop_is_late() {
        let timeout = step3_timers::IDLE_TIMEOUT.as_secs();
        let mut server = Ticking::new();
        let mut peer = server.connect(0);
        server.echo(&mut peer, 3 * timeout);
    }

    #[test]
    fn one_turn_reads_a_bounded_number_of_bytes() {
        const TURN_BYTES_MAX: usize = 64 * 1024;
        let mut server = Ticking::new();
        let mut unread = server.connect(0);
        unread.set_nonblocking(true).expect("an option");
        let bytes = pattern(4 * TURN_BYTES_MAX);
        let mut sent = 0;
        while let Ok(count) = unread.write(&bytes[sent..]) {
            sent += count;
            if sent == bytes.len() {
                break;
            }
        }
        assert!(sent > TURN_BYTES_MAX, "the kernel takes more than a turn reads: {sent}");
        let mut echo = Vec::new();
        server.tick(0);
        let _ = unread.read_to_end(&mut echo); // Until it would block.
        assert!(echo.len() <= TURN_BYTES_MAX, "{}", echo.len());
        while echo.len() < sent {
            server.tick(0);
            let _ = unread.read_to_end(&mut echo);
        }
        assert!(echo == bytes[..sent], "the echo differs");
    }
}

mod step4 {
    use super::*;

    fn start(timeout: Duration) -> u16 {
        let http = step4_http::Http::default;
        let bind = move || step4_http::event_loop::EventLoop::bind(any_port(), timeout, http());
        start!(bind(), server => server.listener.port())
    }

    #[test]
    fn the_page_prints_what_it_says() {
        if has("curl", &["--version"]) {
            try_page("step4_http", "sh", "sh", start(PATIENCE));
        }
    }

    /// The responses to `input`, which ends with the peer's direction. Without the `Date` lines.
    #[track_caller]
    fn check_http(input: &[u8], expected: &[&str]) {
        let port = start(PATIENCE);
        // At once, and byte by byte in a second connection. The responses depend on the bytes alone.
        for piece_bytes in [input.len(), 1] {
            let mut peer = connect(port);
            peer.set_nodelay(true).expect("an option");
            for piece in input.chunks(piece_bytes) {
                peer.write_all(piece).expect("the server reads");
            }
            peer.shutdown(Shutdown::Write).expect("connected");
            let mut output = String::new();
            peer.read_to_string(&mut output).expect("the server closes in order");
            let lines = output.split_inclusive("\r\n").filter(|line| !line.starts_with("Date: "));
            assert_eq!(lines.collect::<String>(), expected.concat());
        }
    }

    const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";

    fn refusal(status: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let requests = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\
            POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n\
            GET /none HTTP/1.1\r\nhost: a\r\n\r\n\
            GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n\
            GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let echo = "HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        let none = "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nnot found\n";
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
        check_http(requests, &[HELLO, echo, none, last]);
    }

    #[test]
    fn a_refusal_is_the_last_response() {
        for (bad, status) in [
            ("G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
            ("GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "400 Bad Request"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                "400 Bad Request",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
                "413 Content Too Large",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "501 Not Implemented",
            ),
            ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "501 Not Implemented"),
        ] {
            let hello = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            check_http([hello, bad, hello].concat().as_bytes(), &[HELLO, &refusal(status)]);
        }
    }

    #[test]
    fn requests_at_a_limit_are_answered_and_past_it_refused() {
        use step4_http::{BODY_BYTES_MAX, FIELDS_MAX, HEAD_BYTES_MAX, parse};
        let with_head = |bytes: usize| {
            let rest = bytes - "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(rest))
        };
        let with_fields =
            |count| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
        let with_body = |bytes: usize| {
            let body = "x".repeat(bytes);
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{body}")
        };
        for (at, past, status) in [
            (with_head(HEAD_BYTES_MAX), with_head(HEAD_BYTES_MAX + 1), "431"),
            (with_fields(FIELDS_MAX), with_fields(FIELDS_MAX + 1), "431"),
            (with_body(BODY_BYTES_MAX), with_body(BODY_BYTES_MAX + 1), "413"),
        ] {
            let request = parse(at.as_bytes()).expect("at the limit").expect("complete");
            assert_eq!(request.bytes, at.len());
            let refused = parse(past.as_bytes()).expect_err("past the limit");
            assert!(refused.starts_with(status), "{refused}");
        }
    }

    #[test]
    fn only_a_complete_request_restarts_the_deadline() {
        use step4_http::event_loop::{Action, Protocol};
        let mut http = step4_http::Http::default();
        for byte in b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r" {
            let mut actions = Vec::new();
            http.on_bytes(7, &[*byte], Now::default(), &mut actions);
            assert!(actions.is_empty());
        }
        let mut actions = Vec::new();
        http.on_bytes(7, b"\n", Now::default(), &mut actions);
        assert!(matches!(actions[..], [Action::Send(7, _), Action::Rearm(7)]));
    }

    #[test]
    fn a_request_that_never_ends_is_cut_off() {
        let mut peer = connect(start(Duration::from_millis(1)));
        let _ = peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n"); // Unless it is closed already.
        match peer.read(&mut [0]) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

mod step5 {
    use super::*;

    fn start(silence: Duration) -> u16 {
        let chat = step5_rooms::Chat::default;
        let bind = move || step5_rooms::event_loop::EventLoop::bind(any_port(), silence, chat());
        start!(bind(), server => server.listener.port())
    }

    #[test]
    fn the_page_prints_what_it_says() {
        if has(&python(), &["-c", "import websockets.sync.client"]) {
            try_page("step5_rooms", "python", &python(), start(PATIENCE));
        }
    }

    /// A stock client, blocking: tungstenite's.
    struct Member {
        socket: tungstenite::WebSocket<TcpStream>,
        /// What its room heard before it entered. It may receive that, too: see the page's exercise.
        earlier: &'static [&'static str],
    }

    impl Member {
        fn join(port: u16, room: &str, name: &str) -> Member {
            let url = format!("ws://127.0.0.1:{port}/{room}?name={name}");
            let (socket, _) = tungstenite::client(url, connect(port)).expect("an upgrade");
            Member { socket, earlier: &[] }
        }

        fn after(self, earlier: &'static [&'static str]) -> Member {
            Member { earlier, ..self }
        }

        fn say(&mut self, text: &str) {
            self.socket.send(text.into()).expect("connected");
        }

        fn hear(&mut self) -> String {
            self.socket.read().expect("a message").to_text().expect("text").to_owned()
        }

        #[track_caller]
        fn check(&mut self, expected: &[&str]) {
            for line in expected {
                let mut heard = self.hear();
                while heard != *line && self.earlier.contains(&heard.as_str()) {
                    heard = self.hear();
                }
                assert_eq!(heard, *line);
            }
        }
    }

    #[test]
    fn members_of_a_room_hear_each_other_and_no_other_room() {
        let port = start(PATIENCE);
        let mut ann = Member::join(port, "lobby", "ann");
        ann.check(&["* ann joins"]);
        let mut eve = Member::join(port, "lobby2", "eve");
        eve.check(&["* eve joins"]);
        let mut bob = Member::join(port, "lobby", "bob").after(&["* ann joins"]);
        bob.check(&["* bob joins"]);
        eve.say("not for the lobby");
        ann.say("hello");
        bob.check(&["ann: hello"]);
        bob.say("two\nlines");
        bob.socket.close(None).expect("connected");
        ann.check(&["* bob joins", "ann: hello", "bob: two lines", "* bob leaves"]);
        drop(Member::join(port, "lobby", "carl")); // Breaks off without a close.
        ann.check(&["* carl joins", "* carl leaves"]);
        // Those that have left are in no room, whichever connection has their keys now.
        let dan = Member::join(port, "lobby2", "dan");
        let mut dan = dan.after(&["* eve joins", "eve: not for the lobby"]);
        ann.say("not for dan");
        ann.check(&["ann: not for dan"]);
        dan.say("hello");
        dan.check(&["* dan joins", "dan: hello"]);
        eve.check(&["eve: not for the lobby"]);
    }

    #[test]
    fn a_violation_ends_its_connection_with_the_reason() {
        let port = start(PATIENCE);
        let mut ann = Member::join(port, "lobby", "ann");
        let mut bob = Member::join(port, "lobby", "bob").after(&["* ann joins"]);
        bob.say(&"x".repeat(step5_rooms::MESSAGE_BYTES_MAX));
        bob.say(&"x".repeat(step5_rooms::MESSAGE_BYTES_MAX + 1));
        let longest = format!("bob: {}", "x".repeat(step5_rooms::MESSAGE_BYTES_MAX));
        ann.check(&["* ann joins", "* bob joins", &longest, "* bob leaves"]);
        bob.check(&["* bob joins", &longest]);
        let close = bob.socket.read().expect("a close frame");
        assert!(
            matches!(&close, tungstenite::Message::Close(Some(why)) if why.code == 1009.into())
        );
    }

    fn upgrade(target: &str) -> String {
        let fields = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        format!("GET {target} HTTP/1.1\r\n{fields}")
    }

    #[test]
    fn only_an_upgrade_with_a_name_enters() {
        let port = start(PATIENCE);
        let longest = "x".repeat(step5_rooms::NAME_BYTES_MAX);
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "200"),
            (upgrade(&format!("/lobby?name={longest}")), "101"),
            (upgrade(&format!("/lobby?name={longest}x")), "400"),
            (upgrade("/lobby?name=a%0Ab"), "400"),
            (upgrade("/lobby"), "400"),
            ("GET /lobby?name=ann HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "426"),
            ("nonsense\r\n\r\n".to_owned(), "400"),
        ] {
            let mut peer = connect(port);
            peer.write_all(request.as_bytes()).expect("the server reads");
            let head = String::from_utf8(read(&mut peer, 12)).expect("a status line");
            assert_eq!(head, format!("HTTP/1.1 {status}"), "{request}");
        }
    }

    /// The queue of a member that does not read is bounded, and the room does not wait for it.
    #[test]
    fn a_member_that_does_not_read_is_removed() {
        let port = start(PATIENCE);
        let mut ann = Member::join(port, "lobby", "ann");
        let _slow = Member::join(port, "lobby", "slow");
        ann.check(&["* ann joins", "* slow joins"]);
        let text = "x".repeat(4000);
        for _ in 0..4000 {
            ann.say(&text);
            if ann.hear() == "* slow leaves" {
                return;
            }
        }
        panic!("16 MB were queued for a member that does not read");
    }

    /// As in step 4, bytes alone do not extend the deadline of a request.
    #[test]
    fn a_request_that_never_ends_is_cut_off() {
        use step5_rooms::event_loop::Protocol;
        let mut chat = step5_rooms::Chat::default();
        let (mut pieces, mut actions) = (Vec::new(), Vec::new());
        chat.on_bytes(7, b"GET /lobby?name=ann HT", Now::default(), &mut pieces);
        chat.on_timeout(7, &mut actions);
        assert!(actions.is_empty(), "it is not rearmed, so the loop closes it");
    }

    /// A client that answers pings stays, and one that has gone without a close is removed.
    #[test]
    fn a_silent_member_is_pinged_and_then_removed() {
        use step5_rooms::event_loop::{Action, Protocol};
        const PONG: &[u8] = b"\x8A\x80\0\0\0\0";
        let mut chat = step5_rooms::Chat::default();
        let entry = upgrade("/lobby?name=ann");
        chat.on_bytes(7, entry.as_bytes(), Now::default(), &mut Vec::new());
        for _ in 0..3 {
            let mut actions = Vec::new();
            chat.on_timeout(7, &mut actions);
            let [Action::Send(7, ping), Action::Rearm(7)] = &actions[..] else { panic!("no ping") };
            assert_eq!(ping.bytes(), b"\x89\0");
            chat.on_bytes(7, PONG, Now::default(), &mut Vec::new());
        }
        chat.on_timeout(7, &mut Vec::new());
        let mut actions = Vec::new();
        chat.on_timeout(7, &mut actions);
        assert!(actions.is_empty(), "it is not rearmed, so the loop closes it");
    }
}
