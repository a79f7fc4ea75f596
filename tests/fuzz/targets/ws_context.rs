//! The WebSocket context, which gives tungstenite one frame at a time. It delivers what tungstenite
//! delivers from the whole stream, however the bytes are cut into pieces; it reads nothing after a
//! violation; and it buffers no more than its limits allow.
//!
//! Owns these properties. Must not parse frames itself: tungstenite is the second opinion.
#![no_main]

use std::io::{self, Cursor, ErrorKind, Read, Write};

use disposable_chat::ws::close::Close;
use disposable_chat::ws::{Context, FrameReader, Incoming, Violation, WsLimits};
use disposable_chat_fuzz::Cut;
use libfuzzer_sys::fuzz_target;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

const USUAL: WsLimits = WsLimits { frame_bytes_max: 64 << 10, message_bytes_max: 64 << 10 };
const SMALL: WsLimits = WsLimits { frame_bytes_max: 300, message_bytes_max: 500 };

/// Bytes of tungstenite's state before it grows, and of a frame's header in it and in the context.
const INNER_BYTES_MAX: usize = 1024;

#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    delivered: Vec<String>,
    violation: Option<Violation>,
    /// Whether the peer's close was delivered.
    is_closed: bool,
    /// Pongs, and the reply to a close.
    answers: Vec<u8>,
}

fuzz_target!(|data: &[u8]| {
    let Some(cut) = Cut::of(data) else { return };
    let limits = if cut.small { SMALL } else { USUAL };
    let whole = cut.in_any_pieces(|pieces| run(limits, pieces, false));
    let short = cut.in_any_pieces(|pieces| run(limits, pieces, true));
    assert_eq!(short, whole, "the shortcut for text frames delivers something else");
    let (delivered, is_closed, failed) = second_opinion(limits, cut.bytes);
    assert_eq!(whole.delivered, delivered, "tungstenite delivers other messages");
    // A close with a bad code is a violation here, and a close to tungstenite.
    assert_eq!(is_closed, whole.is_closed || (is_closed && whole.violation.is_some()));
    // The converse does not hold: the context rejects some frames by their headers alone.
    assert!(!failed || whole.violation.is_some(), "tungstenite rejects the stream");
    server_closes_first(limits, &cut);
});

/// `is_short`: with the shortcut for whole text frames.
fn run(limits: WsLimits, pieces: &[&[u8]], is_short: bool) -> Outcome {
    let mut context = Context::new();
    let mut outcome =
        Outcome { delivered: Vec::new(), violation: None, is_closed: false, answers: Vec::new() };
    let mut is_closed = false;
    let mut reader = FrameReader::new(limits);
    for mut piece in pieces.iter().map(|piece| piece.to_vec()) {
        let mut piece = &mut piece[..];
        loop {
            let before = piece.len();
            let taken = if is_short { context.take_text(&mut piece, &reader) } else { Ok(None) };
            let read = match taken {
                Ok(Some(text)) => Ok(Some(Incoming::Text(text.into()))),
                Ok(None) => {
                    let mut rest = &*piece;
                    let read = context.feed(&mut rest, &mut outcome.answers, &mut reader);
                    let taken = piece.len() - rest.len();
                    piece = &mut std::mem::take(&mut piece)[taken..];
                    read
                }
                Err(violation) => Err(violation),
            };
            match read {
                Ok(None) => break,
                Ok(Some(Incoming::Fragment)) => {}
                Ok(Some(incoming)) => {
                    assert!(!is_closed, "{incoming:?} after the end");
                    assert!(piece.len() < before, "a message has no bytes");
                    is_closed = matches!(incoming, Incoming::Closed(_));
                    outcome.is_closed |= is_closed;
                    if !is_closed {
                        outcome.delivered.push(format!("{incoming:?}"));
                    }
                }
                Err(violation) => {
                    assert!(!is_closed && outcome.violation.is_none(), "two violations");
                    outcome.violation = Some(violation);
                    is_closed = true;
                    broken(&mut context, violation);
                }
            }
        }
        assert!(piece.is_empty(), "input is left unread");
        let max = INNER_BYTES_MAX + 2 * limits.frame_bytes_max + limits.message_bytes_max;
        assert!(context.bytes() <= max, "{} bytes buffered", context.bytes());
    }
    outcome
}

/// After a violation the context reads nothing, and writes one close at most.
fn broken(context: &mut Context, violation: Violation) {
    let mut out = Vec::new();
    assert!(!context.can_write());
    assert_eq!(context.bytes(), 0, "an incomplete message is kept");
    let mut more = &b"\x81\x80\0\0\0\0\x89\x80\0\0\0\0\x88\x80\0\0\0\0"[..];
    assert_eq!(context.feed(&mut more, &mut out, &mut FrameReader::new(SMALL)), Ok(None));
    context.ping(&mut out);
    assert!(more.is_empty() && out.is_empty());
    context.close(violation.close(), &mut out);
    assert_eq!(out.first(), Some(&0x88));
    assert_eq!(usize::from(out[1]) + 2, out.len(), "more than one close frame");
    let len = out.len();
    context.close(Close::LEFT_ROOM, &mut out);
    assert_eq!(out.len(), len, "a second close frame");
}

/// When the server closes first, only the peer's close is delivered after it.
fn server_closes_first(limits: WsLimits, cut: &Cut<'_>) {
    let mut context = Context::new();
    let (mut out, mut reader) = (Vec::new(), FrameReader::new(limits));
    for (at, mut piece) in cut.pieces().into_iter().enumerate() {
        let closed = at > 0;
        if at == 1 {
            out.clear();
            context.close(Close::LEFT_ROOM, &mut out);
        }
        let len = out.len();
        while let Ok(Some(incoming)) = context.feed(&mut piece, &mut out, &mut reader) {
            assert!(
                !closed || matches!(incoming, Incoming::Closed(_)),
                "{incoming:?} after the server's close"
            );
        }
        assert!(!closed || out.len() == len, "a frame after the server's close");
    }
}

/// The messages that tungstenite delivers from the whole stream, whether a close ends them, and
/// whether it rejects the stream.
fn second_opinion(limits: WsLimits, bytes: &[u8]) -> (Vec<String>, bool, bool) {
    struct Stream<'a>(Cursor<&'a [u8]>);
    impl Read for Stream<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        }
    }
    impl Write for Stream<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let config = WebSocketConfig::default()
        .max_frame_size(Some(limits.frame_bytes_max))
        .max_message_size(Some(limits.message_bytes_max));
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    let mut stream = Stream(Cursor::new(bytes));
    let mut delivered = Vec::new();
    loop {
        let incoming = match context.read(&mut stream) {
            Ok(Message::Text(text)) => Incoming::Text(text),
            Ok(Message::Binary(payload)) => Incoming::Binary(payload),
            Ok(Message::Ping(_)) => Incoming::Ping,
            Ok(Message::Pong(payload)) => Incoming::Pong(payload),
            Ok(Message::Close(_)) => return (delivered, true, false),
            Ok(Message::Frame(_)) => unreachable!("tungstenite reads no raw frames"),
            Err(Error::Io(_) | Error::ConnectionClosed) => return (delivered, false, false),
            Err(_) => return (delivered, false, true),
        };
        delivered.push(format!("{incoming:?}"));
    }
}
