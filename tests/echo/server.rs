//! An echo server: what a peer says over a WebSocket, it is told.
//!
//! Owns a loop of its own on three rooms, and is the shortest way to see what each is for: `net`
//! moves bytes and knows no protocol, `http` turns bytes into a request, `ws` turns them into
//! messages, and neither of the two knows a socket. Must never use `api`, `chat` or `server`.
//! The invariant: a connection that stops before the kernel says `WouldBlock` is in `ready` or
//! has a full send buffer, since poll reports each edge once.
//!
//! Left out is whatever takes a clock, which the real server has: no peer is ever too slow, too
//! silent or too long about leaving, so one that never ends its side keeps its slot. Nor does
//! anything bound how many there are. To be run where its peers are friends, as the Autobahn
//! test suite is (`.ci/autobahn`).

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use disposable_chat::clock::Clock;
use disposable_chat::http::{self, Codec, Fed, Framing, Reject, Response, Version};
use disposable_chat::net::{Link, Listener, Piece, Received, Socket};
use disposable_chat::ws::handshake::{self, NotAccepted};
use disposable_chat::ws::{self, Context, Incoming, RecycledContext};
use mio::{Events, Poll, Token};
use slab::Slab;

/// Read at once. Larger than the real server's: nobody here waits long for a turn.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Reads in one turn, so that one who never pauses doesn't keep the others waiting.
const READS_PER_TURN: usize = 16;

/// Autobahn's largest message, in one frame or many.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// With more queued than this the peer isn't read from: it gets its echo at the pace at which it
/// takes it, and TCP tells it to wait. (The real server must not let one reader slow a room
/// down, so it closes instead.)
const PAUSE_BYTES: usize = 1024 * 1024;

/// What can be queued at most. A read begins with `PAUSE_BYTES` or less and brings `SCRATCH_BYTES`
/// or less; the one message it may complete was allowed to be large, all else in it is small
/// frames, whose answers are shorter than they are, and one close or response.
const OUTBOX_BYTES_MAX: usize = PAUSE_BYTES + MESSAGE_BYTES_MAX + 2 * SCRATCH_BYTES;

/// Whoever wants to send content is in the wrong place.
const HTTP_LIMITS: http::HttpLimits = http::HttpLimits {
    head_bytes_max: 16 * 1024,
    fields_max: 64,
    target_bytes_max: 8 * 1024,
    body_bytes_max: 0,
};

const WS_LIMITS: ws::WsLimits =
    ws::WsLimits { frame_bytes_max: MESSAGE_BYTES_MAX, message_bytes_max: MESSAGE_BYTES_MAX };

/// A connection's token is its index in the slab; this is far above any.
const LISTENER: Token = Token(usize::MAX);

fn main() -> ExitCode {
    let listen = match listen_flag() {
        Ok(listen) => listen,
        Err(error) => {
            eprintln!("{error}\nusage: echo [--listen ADDR]");
            return ExitCode::from(2);
        }
    };
    let Err(error) = serve(listen);
    eprintln!("{error}");
    ExitCode::FAILURE
}

/// Until a signal ends the process, or an error of the poll's.
fn serve(listen: SocketAddr) -> io::Result<Infallible> {
    let mut echo = Echo::new(listen)?;
    eprintln!("listening on {}", echo.listener.address()?);
    echo.run()
}

fn listen_flag() -> Result<SocketAddr, lexopt::Error> {
    use lexopt::ValueExt;
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 9001));
    let mut flags = lexopt::Parser::from_env();
    while let Some(flag) = flags.next()? {
        match flag {
            lexopt::Arg::Long("listen") => listen = flags.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    Ok(listen)
}

/// The loop and all that it turns over.
struct Echo {
    poll: Poll,
    listener: Listener,
    /// Connections may be waiting in the listener.
    arrivals: bool,
    connections: Slab<Connection>,
    /// Who has a turn in this tick.
    ready: BTreeSet<usize>,
    clock: Clock,
    /// Every read goes here first. What must outlive its turn is copied by whoever keeps it.
    scratch: Vec<u8>,
}

impl Echo {
    fn new(listen: SocketAddr) -> io::Result<Echo> {
        let poll = Poll::new()?;
        let mut listener = Listener::bind_tcp(listen)?;
        listener.register(poll.registry(), LISTENER)?;
        Ok(Echo {
            poll,
            listener,
            arrivals: false,
            connections: Slab::new(),
            ready: BTreeSet::new(),
            clock: Clock::new(),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    fn run(&mut self) -> io::Result<Infallible> {
        let mut events = Events::with_capacity(256);
        loop {
            // Whoever has had its turn before it was done is waited for by nobody.
            let timeout = (!self.ready.is_empty()).then_some(Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            // Which edge it was doesn't matter: a turn tries both directions.
            for event in &events {
                match event.token() {
                    LISTENER => self.arrivals = true,
                    Token(index) => self.ready.extend([index]),
                }
            }
            self.give_turns();
            // After the turns: an index freed in this tick may be given away now that no event
            // is left that means its former owner.
            self.accept()?;
        }
    }

    fn give_turns(&mut self) {
        let date = self.clock.read().wall.http_date().to_string();
        for index in std::mem::take(&mut self.ready) {
            let Some(connection) = self.connections.get_mut(index) else { continue };
            match connection.turn(&mut self.scratch, &date) {
                Ok(Turn::Waits) => {}
                Ok(Turn::Unfinished) => self.ready.extend([index]),
                // Dropping a socket closes it, and poll forgets it.
                Ok(Turn::Over) | Err(_) => drop(self.connections.remove(index)),
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while self.arrivals {
            let mut socket = match self.listener.accept() {
                Ok(accepted) => accepted.socket,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => continue,
                    kind => {
                        // Out of descriptors, say, if it isn't the end of the queue. Tried again
                        // in the next tick and not before: somebody's end must free one first.
                        self.arrivals = kind != ErrorKind::WouldBlock;
                        return Ok(());
                    }
                },
            };
            let entry = self.connections.vacant_entry();
            // The poll reports at once that the socket is writable, which is the first turn of
            // the connection.
            socket.register(self.poll.registry(), Token(entry.key()))?;
            entry.insert(Connection {
                link: Link::new(socket),
                protocol: Protocol::Http(Codec::new(HTTP_LIMITS)),
                read_over: false,
            });
        }
        Ok(())
    }
}

/// A link and what is spoken over it.
struct Connection {
    link: Link<Socket>,
    protocol: Protocol,
    /// The peer has ended its direction.
    read_over: bool,
}

enum Protocol {
    /// Until the upgrade.
    Http(Codec),
    /// After it.
    Ws(Context),
    /// What is queued leaves, what arrives means nothing.
    Closing,
}

/// How a connection's turn ended.
enum Turn {
    /// The kernel has no more for it, or takes no more from it: an edge will tell.
    Waits,
    /// There may be more to read.
    Unfinished,
    /// There is nothing left to do for it.
    Over,
}

impl Connection {
    /// Writes and reads until the kernel blocks or the turn is up. An error is the network's,
    /// and ends the connection.
    fn turn(&mut self, scratch: &mut [u8], date: &str) -> io::Result<Turn> {
        for _ in 0..READS_PER_TURN {
            self.link.flush(usize::MAX)?;
            let queued = self.link.outbox().queued();
            match self.protocol {
                Protocol::Closing if queued == 0 && self.read_over => return Ok(Turn::Over),
                // RFC 9112 §9.6: dropped now, with input unread, the socket would send a reset,
                // and that can destroy what the peer hasn't read yet. So end our direction and
                // read on until the peer has ended its own.
                Protocol::Closing if queued == 0 => self.link.shutdown_write()?,
                Protocol::Closing => {}
                // The flush was blocked, so the writable edge brings us back here.
                _ if queued > PAUSE_BYTES => return Ok(Turn::Waits),
                _ => {}
            }
            if self.read_over {
                return Ok(Turn::Waits); // For what is queued to leave.
            }
            match self.link.read_into(scratch)? {
                Received::Bytes(count) => self.on_bytes(&scratch[..count], date)?,
                Received::Blocked => return Ok(Turn::Waits),
                Received::End => (self.protocol, self.read_over) = (Protocol::Closing, true),
            }
        }
        Ok(Turn::Unfinished)
    }

    /// Hands input to the protocol of the moment, which may change in the middle of it: the
    /// first frame can come in one segment with the request.
    fn on_bytes(&mut self, mut input: &[u8], date: &str) -> io::Result<()> {
        let mut out = Vec::new();
        while !input.is_empty() {
            let next = match &mut self.protocol {
                Protocol::Http(codec) => on_http_bytes(codec, &mut input, date, &mut out),
                Protocol::Ws(context) => on_ws_bytes(context, &mut input, &mut out),
                Protocol::Closing => break,
            };
            if let Some(protocol) = next {
                self.protocol = protocol;
            }
        }
        if self.link.push(Piece::private(out), OUTBOX_BYTES_MAX) {
            return Ok(());
        }
        debug_assert!(false, "OUTBOX_BYTES_MAX is miscounted");
        Err(ErrorKind::OutOfMemory.into()) // Rather end it than leave out a message.
    }
}

/// Bytes to requests, by [`Codec`]. Each is the last: it becomes a WebSocket or is refused.
fn on_http_bytes(
    codec: &mut Codec,
    input: &mut &[u8],
    date: &str,
    out: &mut Vec<u8>,
) -> Option<Protocol> {
    let response = match codec.feed(input) {
        Ok(Fed::Partial) => return None,
        Ok(Fed::Request(request)) => match handshake::check(&request) {
            Ok(key) => {
                out.extend(handshake::accept(&key, None, date, &[]));
                return Some(Protocol::Ws(Context::new(WS_LIMITS)));
            }
            Err(NotAccepted::NotAnUpgrade | NotAccepted::OtherVersion) => upgrade_required(),
            Err(NotAccepted::BadKey) => Response::new(400),
        },
        // Who has content to send has not come to upgrade.
        Ok(Fed::Continue) | Err(Reject::BodyTooLarge) => upgrade_required(),
        Err(_) => Response::new(400),
    };
    let framing = Framing { date, head: false, version: Version::Http11, keep_alive: false };
    response.encode(framing, |piece| out.extend_from_slice(&piece));
    Some(Protocol::Closing)
}

/// RFC 9110 §15.5.22, RFC 6455 §4.4: says what it would take.
fn upgrade_required() -> Response {
    Response::new(426)
        .with("Upgrade", "websocket")
        .with("Connection", "Upgrade")
        .with("Sec-WebSocket-Version", "13")
}

/// The first byte of a final frame (RFC 6455 §5.2).
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

/// Appends one frame. `ws` encodes text alone, because the chat sends nothing else: the two kinds of
/// frame differ in their first byte.
fn encode(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    ws::encode_text(out, |out| out.extend_from_slice(payload));
    out[start] = first;
}

/// Bytes to messages, by [`Context`], which also answers pings and closes; messages to frames.
fn on_ws_bytes(context: &mut Context, input: &mut &[u8], out: &mut Vec<u8>) -> Option<Protocol> {
    match context.feed(input, out, &mut RecycledContext::default()) {
        Ok(Some(Incoming::Text(text))) => encode(TEXT, text.as_bytes(), out),
        Ok(Some(Incoming::Binary(payload))) => encode(BINARY, &payload, out),
        Ok(Some(Incoming::Fragment | Incoming::Ping | Incoming::Pong(_)) | None) => {}
        Ok(Some(Incoming::Closed)) => return Some(Protocol::Closing),
        Err(violation) => {
            context.close(violation.close(), out);
            return Some(Protocol::Closing);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    const UPGRADE: &[u8] = b"GET /any HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    /// A peer of a server of its own, which ends with the process.
    fn connect() -> TcpStream {
        let mut echo = Echo::new(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = echo.listener.address().unwrap();
        std::thread::spawn(move || echo.run().unwrap());
        let peer = TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        peer
    }

    /// Sends the request and `rest` in one segment, and reads the response's head.
    fn upgrade(rest: &[u8]) -> TcpStream {
        let mut peer = connect();
        peer.write_all(&[UPGRADE, rest].concat()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(read(&mut peer, 1));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        peer
    }

    fn read(peer: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        peer.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn fragments_come_back_as_one_message_and_the_ping_between_them_before_it() {
        // A mask of zeros is one like any other (RFC 6455 §5.3), and easily read.
        let mut peer = upgrade(b"\x01\x83\0\0\0\0one\x89\x81\0\0\0\0?");
        assert_eq!(read(&mut peer, 3), b"\x8A\x01?");
        peer.write_all(b"\x80\x83\0\0\0\0two\x82\x81\0\0\0\0\xFF").unwrap();
        assert_eq!(read(&mut peer, 11), b"\x81\x06onetwo\x82\x01\xFF");
        peer.write_all(b"\x88\x82\0\0\0\0\x03\xE8").unwrap();
        assert_eq!(read(&mut peer, 4), b"\x88\x02\x03\xE8");
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "its direction ends after its close");
    }

    #[test]
    fn a_violation_is_answered_though_the_peer_talks_on() {
        let mut peer = upgrade(b"\x81\x01?"); // Not masked.
        peer.write_all(&vec![0x81; 1 << 20]).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let mut close = Vec::new();
        peer.read_to_end(&mut close).unwrap();
        assert_eq!(close, b"\x88\x10\x03\xEAprotocol error");
    }

    #[test]
    fn a_plain_request_is_told_what_it_would_take() {
        let mut peer = connect();
        peer.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        let mut response = String::new();
        peer.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{response}");
        assert!(response.contains("\r\nConnection: Upgrade, close\r\n"), "{response}");
    }

    #[test]
    fn who_does_not_read_is_not_read_from_until_it_does() {
        const MESSAGE_BYTES: usize = 1 << 20;
        let frame = [b"\x82\xFF\0\0\0\0\0\x10\0\0\0\0\0\0", &vec![7; MESSAGE_BYTES][..]].concat();
        let mut peer = upgrade(b"");
        peer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let (mut frames, mut sent) = (0, 0);
        while let Ok(count) = peer.write(&frame[sent..]) {
            sent += count;
            if sent == frame.len() {
                (frames, sent) = (frames + 1, 0);
            }
            assert!(frames < 64, "it takes whatever it is sent");
        }
        let check = |peer: &mut TcpStream| {
            assert_eq!(read(peer, 10), b"\x82\x7F\0\0\0\0\0\x10\0\0");
            assert!(read(peer, MESSAGE_BYTES).iter().all(|byte| *byte == 7));
        };
        (0..frames).for_each(|_| check(&mut peer));
        peer.write_all(&frame[sent..]).unwrap();
        check(&mut peer);
    }
}
