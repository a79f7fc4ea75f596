//! The cost of turns including the kernel: the figures behind the prices of the server's schedule.
//!
//! The core runs over socket pairs. Each benchmark times whole ticks, including the write of the
//! response, but not the peer's part.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use disposable_chat::clock::{Now, SeededEntropy, Wall};
use disposable_chat::config::{Config, Rate};
use disposable_chat::ledger::Ledger;
use disposable_chat::net::Stream;
use disposable_chat::server::{ConnectionKey, Core, Purpose};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

use crate::wire;

/// Longer than any benchmark.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Long enough that the allowance of each connection recovers between two ticks.
const TICK: Duration = Duration::from_secs(1);

/// One end of a socket pair.
struct End(UnixStream);

struct World {
    core: Core<End>,
    now: Now,
}

impl World {
    fn new() -> World {
        let unlimited = Rate { per_second: 0, burst: 1 };
        let config = Config {
            session_ttl: FOREVER,
            room_ttl: FOREVER,
            new_room_ttl: FOREVER,
            idle_timeout: FOREVER,
            header_timeout: FOREVER,
            ping_interval: FOREVER,
            message_rate: unlimited,
            ..Config::default()
        };
        let entropy = Box::new(SeededEntropy::new(1));
        let core = Core::new(&config, 100_000, entropy, &Ledger::new());
        let wall = Wall::from_micros(1_755_611_100_000_000);
        World { core, now: Now { wall, ..Now::default() } }
    }

    fn connect(&mut self) -> (ConnectionKey, UnixStream) {
        let (ours, peer) = UnixStream::pair().expect("a socket pair");
        ours.set_nonblocking(true).expect("a socket can be non-blocking");
        peer.set_nonblocking(true).expect("a socket can be non-blocking");
        let key = self.core.accept(End(ours), None, Purpose::Chat);
        (key.expect("the server has capacity"), peer)
    }

    fn tick(&mut self) {
        self.now = self.now.after(TICK);
        self.core.begin(self.now);
        self.core.tick();
    }

    /// Sends bytes and runs a tick. Returns the server's response.
    fn ask(&mut self, (key, peer): &mut (ConnectionKey, UnixStream), bytes: &[u8]) -> Vec<u8> {
        peer.write_all(bytes).expect("the kernel takes it");
        self.core.on_readable(*key, false);
        self.tick();
        take(peer)
    }

    /// The only member of a new room, by WebSocket.
    fn member(&mut self) -> (ConnectionKey, UnixStream) {
        let mut rest = self.connect();
        let session =
            self.ask(&mut rest, &wire::request("POST", "/sessions", None, r#"{"username":"ana"}"#));
        let session = id(&session, "session_id");
        let room = self.ask(&mut rest, &wire::request("POST", "/rooms", Some(&session), ""));
        let room = id(&room, "room_id");
        let mut socket = self.connect();
        let answer = self.ask(&mut socket, &wire::upgrade(&room, &session, ""));
        assert!(answer.starts_with(b"HTTP/1.1 101"), "not upgraded");
        socket
    }
}

fn id(answer: &[u8], field: &str) -> String {
    let answer = String::from_utf8_lossy(answer);
    let (_, rest) = answer.split_once(&format!("\"{field}\":\"")).expect("it has the field");
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// What the peer has received.
fn take(peer: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = peer.read_to_end(&mut bytes); // Until it would block.
    bytes
}

/// Times the ticks that handle `input`, which has `count` items.
fn bench(
    bencher: Bencher,
    mut world: World,
    connection: (ConnectionKey, UnixStream),
    input: &[u8],
    count: usize,
) {
    let (key, peer) = connection;
    let world = std::cell::RefCell::new(&mut world);
    let peer = std::cell::RefCell::new(peer);
    bencher
        .counter(ItemsCount::new(count))
        .counter(BytesCount::new(input.len()))
        .with_inputs(|| {
            let mut peer = peer.borrow_mut();
            take(&mut peer);
            peer.write_all(input).expect("the kernel takes it");
            world.borrow_mut().core.on_readable(key, false);
        })
        .bench_local_values(|()| {
            let mut world = world.borrow_mut();
            world.tick();
            while world.core.has_work() {
                world.tick();
            }
        });
}

/// A tick without input, which every other figure here contains.
#[divan::bench]
fn a_tick_of_nothing(bencher: Bencher) {
    let mut world = World::new();
    bencher.bench_local(|| world.tick());
}

/// A turn that finds nothing to read.
#[divan::bench]
fn nothing_to_read(bencher: Bencher) {
    let mut world = World::new();
    let (key, _peer) = world.connect();
    bencher.bench_local(|| {
        world.core.on_readable(key, false);
        world.tick();
    });
}

/// A turn that reads the peer's end, after which the connection is freed.
#[divan::bench]
fn a_hang_up(bencher: Bencher) {
    let world = std::cell::RefCell::new(World::new());
    bencher
        .with_inputs(|| {
            let mut world = world.borrow_mut();
            let (key, peer) = world.connect();
            drop(peer);
            world.core.on_readable(key, true);
        })
        .bench_local_values(|()| {
            let mut world = world.borrow_mut();
            world.tick();
            assert_eq!(world.core.connection_count(), 0);
        });
}

/// The smallest request and its response.
#[divan::bench]
fn a_request(bencher: Bencher) {
    let mut world = World::new();
    let connection = world.connect();
    bench(bencher, world, connection, &wire::request("GET", "/ping", None, ""), 1);
}

/// Events that their rate limit drops: the cost of an event apart from its bytes.
#[divan::bench(args = [1, 30, 300])]
fn typing(bencher: Bencher, count: usize) {
    let mut world = World::new();
    let member = world.member();
    let frame = wire::frame(wire::TEXT, br#"{"type":"typing"}"#, 0x1234_5678);
    bench(bencher, world, member, &frame.repeat(count), count);
}

/// A chat message with its sender as the only recipient.
#[divan::bench(args = [100, 1000, 4000])]
fn a_chat(bencher: Bencher, bytes: usize) {
    let mut world = World::new();
    let member = world.member();
    let text = format!(r#"{{"type":"chat","message":"{}"}}"#, "x".repeat(bytes));
    bench(bencher, world, member, &wire::frame(wire::TEXT, text.as_bytes(), 0x1234_5678), 1);
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for End {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}
