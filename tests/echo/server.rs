//! An echo server: sends every WebSocket message back to its sender.
//!
//! Owns an event loop on three modules, and is a short introduction to them: `net` moves bytes and
//! knows no protocol, `http` turns bytes into a request, `ws` turns them into messages, and neither
//! of the two knows a socket. Must not use `api`, `chat` or `server`. The invariant: a connection
//! whose turn ends before the kernel reports `WouldBlock` is in `ready` or has a full send buffer,
//! since an edge-triggered poll reports each edge once.
//!
//! Unlike the real server it has no timeouts, so that a peer that never closes keeps its slot, and
//! no limit on connections. It is meant for trusted peers, such as the Autobahn test suite
//! (`.ci/autobahn`).

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
use disposable_chat::ws::{self, Context, FrameReader, Incoming};
use mio::{Events, Poll, Token};
use slab::Slab;

/// Bytes per read. More than in the real server, where many connections wait for their turns.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Reads in one turn. The bound keeps a peer that sends without a pause from delaying the others.
const READS_PER_TURN: usize = 16;

/// The largest message of Autobahn, in one frame or in many.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// With more bytes than this queued, input from the peer is paused, so that TCP applies
/// backpressure. (The real server closes slow readers instead, since a slow reader must not slow
/// its room down.)
const PAUSE_BYTES: usize = 1024 * 1024;

/// The bound on queued bytes. Before a read, at most `PAUSE_BYTES` are queued. The read brings at most
/// `SCRATCH_BYTES`, which may complete one large message. All other answers are to whole frames in
/// these bytes and not longer than the frames, except for one close frame or response.
const OUTBOX_BYTES_MAX: usize = PAUSE_BYTES + MESSAGE_BYTES_MAX + 2 * SCRATCH_BYTES;

/// Requests with content are refused.
const HTTP_LIMITS: http::HttpLimits = http::HttpLimits {
    head_bytes_max: 16 * 1024,
    fields_max: 64,
    target_bytes_max: 8 * 1024,
    body_bytes_max: 0,
};

const WS_LIMITS: ws::WsLimits =
    ws::WsLimits { frame_bytes_max: MESSAGE_BYTES_MAX, message_bytes_max: MESSAGE_BYTES_MAX };

/// The token of a connection is its index in the slab, which never becomes this large.
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

/// Runs until the poll fails.
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

/// The event loop and its connections.
struct Echo {
    poll: Poll,
    listener: Listener,
    /// Whether connections may wait in the listener's backlog.
    may_accept: bool,
    connections: Slab<Connection>,
    /// Connections that have a turn in this tick.
    ready: BTreeSet<usize>,
    clock: Clock,
    /// The read buffer, shared by all turns.
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
            may_accept: false,
            connections: Slab::new(),
            ready: BTreeSet::new(),
            clock: Clock::new(),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    fn run(&mut self) -> io::Result<Infallible> {
        let mut events = Events::with_capacity(256);
        loop {
            // A connection that is still ready will not be reported again.
            let timeout = (!self.ready.is_empty()).then_some(Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            // The kind of edge does not matter: a turn reads and writes.
            for event in &events {
                match event.token() {
                    LISTENER => self.may_accept = true,
                    Token(index) => self.ready.extend([index]),
                }
            }
            self.give_turns();
            // After the turns: a new connection may get an index that was freed in this tick, and no
            // event of this tick may be taken for one of the new connection.
            self.accept()?;
        }
    }

    fn give_turns(&mut self) {
        let date = self.clock.read().wall.http_date().to_string();
        for index in std::mem::take(&mut self.ready) {
            let Some(connection) = self.connections.get_mut(index) else { continue };
            match connection.turn(&mut self.scratch, &date) {
                Ok(Turn::Blocked) => {}
                Ok(Turn::Unfinished) => self.ready.extend([index]),
                // Dropping a socket closes it, and poll forgets it.
                Ok(Turn::Closed) | Err(_) => drop(self.connections.remove(index)),
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while self.may_accept {
            let mut socket = match self.listener.accept() {
                Ok(accepted) => accepted.socket,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => continue,
                    kind => {
                        // The backlog is empty, or descriptors have run out. In the latter case it tries again in
                        // the next tick, when a connection may have ended.
                        self.may_accept = kind != ErrorKind::WouldBlock;
                        return Ok(());
                    }
                },
            };
            let entry = self.connections.vacant_entry();
            // The poll reports the new socket as writable, which leads to its first turn.
            socket.register(self.poll.registry(), Token(entry.key()))?;
            entry.insert(Connection {
                link: Link::new(socket),
                protocol: Protocol::Http(Codec::new(HTTP_LIMITS)),
                is_read_shut_down: false,
            });
        }
        Ok(())
    }
}

/// A link and the protocol that it speaks.
struct Connection {
    link: Link<Socket>,
    protocol: Protocol,
    /// The peer has ended its direction.
    is_read_shut_down: bool,
}

enum Protocol {
    /// Until the upgrade.
    Http(Codec),
    /// After it.
    Ws(Context),
    /// Queued bytes are still written. Input is discarded.
    Closing,
}

/// The result of a turn.
enum Turn {
    /// The kernel has blocked reading or writing, and will report an edge.
    Blocked,
    /// There may be more to read.
    Unfinished,
    /// The connection has ended.
    Closed,
}

impl Connection {
    /// Writes and reads until the kernel blocks or the turn is over.
    ///
    /// # Errors
    ///
    /// An error of the network, which ends the connection.
    fn turn(&mut self, scratch: &mut [u8], date: &str) -> io::Result<Turn> {
        for _ in 0..READS_PER_TURN {
            self.link.flush(usize::MAX)?;
            let queued = self.link.outbox().queued();
            match self.protocol {
                Protocol::Closing if queued == 0 && self.is_read_shut_down => {
                    return Ok(Turn::Closed);
                }
                // RFC 9112 §9.6: closing a socket with unread input sends a reset, which can make the
                // peer lose what it has not read yet. So shut down the write half and discard
                // input until the peer has closed.
                Protocol::Closing if queued == 0 => self.link.shutdown_write()?,
                Protocol::Closing => {}
                // The flush has blocked, so a writable edge will follow.
                _ if queued > PAUSE_BYTES => return Ok(Turn::Blocked),
                _ => {}
            }
            if self.is_read_shut_down {
                return Ok(Turn::Blocked); // Until the queued bytes are written.
            }
            match self.link.read_into(scratch)? {
                Received::Bytes(count) => self.on_bytes(&scratch[..count], date)?,
                Received::Blocked => return Ok(Turn::Blocked),
                Received::End => {
                    (self.protocol, self.is_read_shut_down) = (Protocol::Closing, true)
                }
            }
        }
        Ok(Turn::Unfinished)
    }

    /// Passes input to the current protocol. The protocol may change within the input: the first frame
    /// can come in the segment of the request.
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
        Err(ErrorKind::OutOfMemory.into()) // Ends the connection, since a message would be missing.
    }
}

/// Turns bytes into a request. The connection then becomes a WebSocket or is closed.
fn on_http_bytes(
    codec: &mut Codec,
    input: &mut &[u8],
    date: &str,
    out: &mut Vec<u8>,
) -> Option<Protocol> {
    let response = match codec.feed(input) {
        Ok(Fed::Partial) => return None,
        Ok(Fed::Request(request)) => match handshake::check(&request) {
            Ok(accept) => {
                let response = handshake::accept(accept, None);
                respond(response, date, true, out);
                return Some(Protocol::Ws(Context::new()));
            }
            Err(NotAccepted::NotAnUpgrade | NotAccepted::OtherVersion) => upgrade_required(),
            Err(NotAccepted::BadKey) => Response::new(400),
        },
        // A request with content is no upgrade.
        Ok(Fed::Continue) | Err(Reject::BodyTooLarge) => upgrade_required(),
        Err(_) => Response::new(400),
    };
    respond(response, date, false, out);
    Some(Protocol::Closing)
}

fn respond(response: Response, date: &str, keep_alive: bool, out: &mut Vec<u8>) {
    let framing = Framing { date, is_head: false, version: Version::Http11, keep_alive };
    response.encode(framing, |piece| out.extend_from_slice(&piece));
}

/// The response to a request that is no upgrade (RFC 9110 §15.5.22, RFC 6455 §4.4).
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

/// Turns bytes into messages and echoes each. [`Context`] answers pings and close frames.
fn on_ws_bytes(context: &mut Context, input: &mut &[u8], out: &mut Vec<u8>) -> Option<Protocol> {
    let mut reader = FrameReader::new(WS_LIMITS);
    // Only for the Autobahn cases, so that they test the shortcut of the chat server as well.
    let mut copy = input.to_vec();
    let mut rest = &mut copy[..];
    let read = match context.take_text(&mut rest, &reader) {
        Ok(Some(text)) => {
            *input = &input[input.len() - rest.len()..];
            Ok(Some(Incoming::Text(text.into())))
        }
        Ok(None) => context.feed(input, out, &mut reader),
        Err(violation) => Err(violation),
    };
    match read {
        Ok(Some(Incoming::Text(text))) => encode(TEXT, text.as_bytes(), out),
        Ok(Some(Incoming::Binary(payload))) => encode(BINARY, &payload, out),
        Ok(Some(Incoming::Fragment | Incoming::Ping | Incoming::Pong(_)) | None) => {}
        Ok(Some(Incoming::Closed(_))) => return Some(Protocol::Closing),
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

    /// Starts a server, which runs until the process ends, and connects to it.
    fn connect() -> TcpStream {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // A server stays on the thread that it was made on: its outboxes share bytes by `Rc`.
            let mut echo = Echo::new(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            sender.send(echo.listener.address().unwrap()).unwrap();
            echo.run().unwrap()
        });
        let address = receiver.recv().unwrap();
        let peer = TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        peer
    }

    /// Sends an upgrade and `rest` in one write, and reads the head of the response.
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
    fn fragments_return_as_one_message_after_the_pong_to_a_ping_between_them() {
        // A mask of zeros is valid (RFC 6455 §5.3) and leaves the payload readable.
        let mut peer = upgrade(b"\x01\x83\0\0\0\0one\x89\x81\0\0\0\0?");
        assert_eq!(read(&mut peer, 3), b"\x8A\x01?");
        peer.write_all(b"\x80\x83\0\0\0\0two\x82\x81\0\0\0\0\xFF").unwrap();
        assert_eq!(read(&mut peer, 11), b"\x81\x06onetwo\x82\x01\xFF");
        peer.write_all(b"\x88\x82\0\0\0\0\x03\xE8").unwrap();
        assert_eq!(read(&mut peer, 4), b"\x88\x02\x03\xE8");
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the stream ends after the close frame");
    }

    #[test]
    fn a_violation_is_answered_although_the_peer_keeps_sending() {
        let mut peer = upgrade(b"\x81\x01?"); // Not masked.
        peer.write_all(&vec![0x81; 1 << 20]).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let mut close = Vec::new();
        peer.read_to_end(&mut close).unwrap();
        assert_eq!(close, b"\x88\x10\x03\xEAprotocol error");
    }

    #[test]
    fn a_request_that_is_no_upgrade_is_426() {
        let mut peer = connect();
        peer.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        let mut response = String::new();
        peer.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{response}");
        assert!(response.contains("\r\nConnection: Upgrade, close\r\n"), "{response}");
    }

    #[test]
    fn input_from_a_peer_that_does_not_read_is_paused() {
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
            assert!(frames < 64, "input is not paused");
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
