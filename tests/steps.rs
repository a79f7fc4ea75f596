//! The five steps of the guide, `src/guide/step_by_step`, over real sockets.
//!
//! Each example is compiled into this test, and its server runs on a thread or is driven tick by tick.
//! So `cargo test --test steps` needs no other target. A server ends with the process.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use disposable_chat::clock::Mono;

#[allow(dead_code, reason = "the example's main")]
#[path = "../src/guide/step_by_step/step1_echo.rs"]
mod step1_echo;
#[allow(dead_code, reason = "the example's main")]
#[path = "../src/guide/step_by_step/step2_backpressure.rs"]
mod step2_backpressure;
#[allow(dead_code, reason = "the example's main")]
#[path = "../src/guide/step_by_step/step3_timers.rs"]
mod step3_timers;

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

/// Starts a step's server on a thread. The macro is a function over the steps' types, which share no
/// trait.
macro_rules! start {
    ($step:ident, $server:ident => $port:expr) => {{
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            // A server stays on the thread that it was made on: its outboxes share bytes by `Rc`.
            let mut $server = $step::Server::bind(any_port()).expect("a free port");
            sender.send($port).expect("the test waits");
            $server.run().map(|never| match never {})
        });
        receiver.recv().expect("the server starts")
    }};
}

fn step1() -> u16 {
    start!(step1_echo, server => server.listener.local_addr().expect("bound").port())
}

fn step2() -> u16 {
    start!(step2_backpressure, server => server.listener.local_addr().expect("bound").port())
}

fn step3() -> u16 {
    start!(step3_timers, server => server.listener.port())
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
/// page's next block. Skipped without the program, unless `REQUIRE_ALL=1`.
fn try_page(step: &str, language: &str, program: &str, arguments: &[&str], port: u16) {
    let page = fs::read_to_string(format!("src/guide/step_by_step/{step}.md")).expect("a page");
    let (_, block) = page.split_once(&format!("```{language}\n")).expect("a block");
    let (block, rest) = block.split_once("```\n").expect("its end");
    let (_, expected) = rest.split_once("```text\n").expect("what it prints");
    let (expected, _) = expected.split_once("```").expect("its end");
    let mut command = Command::new(program);
    command.args(arguments).arg(block.replace("8001", &port.to_string())).stdin(Stdio::null());
    for name in ["http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    match command.output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{step}: {errors}");
        }
        Err(error) => {
            assert!(std::env::var_os("REQUIRE_ALL").is_none(), "{step} needs {program}: {error}");
            let _ = writeln!(io::stderr(), "skipped: needs {program} ({step})");
        }
    }
}

/// The interpreter that has the packages of `.ci/install`, if there is one.
fn python() -> String {
    std::env::var("CLIENTS_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

#[test]
fn the_pages_of_the_echo_print_what_they_say() {
    try_page("step1_echo", "python", &python(), &["-c"], step1());
    try_page("step2_backpressure", "python", &python(), &["-c"], step2());
}

// ---- Step 1

const ECHOES: [fn() -> u16; 3] = [step1, step2, step3];

#[test]
fn every_connection_has_its_own_echo() {
    for start in ECHOES {
        let port = start();
        let [mut one, mut other] = [connect(port), connect(port)];
        for round in 0..3_u8 {
            check_echo(&mut one, &[round, 1]);
            check_echo(&mut other, &[round, 2, 3]);
        }
        drop(one);
        check_echo(&mut other, b"still here");
        check_echo(&mut connect(port), b"in the place of the first");
    }
}

/// With one read for each edge, the rest would stay in the kernel: no edge announces it again.
#[test]
fn input_of_many_reads_is_echoed_after_a_single_edge() {
    for start in ECHOES {
        let mut peer = connect(start());
        check_echo(&mut peer, &pattern(60_000));
    }
}

#[test]
fn what_was_sent_before_the_end_is_echoed() {
    for start in ECHOES {
        let mut peer = connect(start());
        peer.write_all(b"last words").expect("the server reads");
        peer.shutdown(Shutdown::Write).expect("connected");
        let mut echo = Vec::new();
        peer.read_to_end(&mut echo).expect("the server closes in order");
        assert_eq!(echo, b"last words");
    }
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

#[test]
fn a_peer_that_does_not_read_loses_its_connection_in_step_1() {
    let port = step1();
    let [mut slow, mut other] = [connect(port), connect(port)];
    let (_, error) = flood(&mut slow, FLOOD_BYTES_MAX);
    assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    check_echo(&mut other, b"still here");
}

// ---- Step 2

#[test]
fn a_peer_that_does_not_read_is_paused_and_loses_nothing() {
    for start in [step2, step3] {
        let port = start();
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
}

// ---- Step 3

/// A server that is driven tick by tick, on this thread.
struct Ticking(step3_timers::Server);

impl Ticking {
    fn new() -> Ticking {
        Ticking(step3_timers::Server::bind(any_port()).expect("a free port"))
    }

    /// Waits for an event, and handles it at `seconds` by a clock that only the test moves.
    fn tick(&mut self, seconds: u64) {
        self.0.wait(Some(PATIENCE)).expect("a poll");
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
        while peer.read(&mut [0]).is_err() {
            self.tick(seconds);
        }
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
    let mut greedy = server.connect(0);
    greedy.set_nonblocking(true).expect("an option");
    let bytes = pattern(4 * TURN_BYTES_MAX);
    let sent = greedy.write(&bytes).expect("an empty buffer");
    assert!(sent > 2 * TURN_BYTES_MAX, "{sent}");
    let mut echo = Vec::new();
    server.tick(0);
    let _ = greedy.read_to_end(&mut echo); // Until it would block.
    assert!(echo.len() <= TURN_BYTES_MAX, "{}", echo.len());
    while echo.len() < sent {
        server.tick(0);
        let _ = greedy.read_to_end(&mut echo);
    }
    assert!(echo == bytes[..sent], "the echo differs");
}
