//! The WebSocket state of one connection: the frame or message that is arriving, and which side has closed.
//!
//! Owns the message that is arriving, and the closing handshake. Must not know a socket: bytes come
//! in as a slice and go out in a buffer. The invariant: each read by tungstenite gets exactly one
//! complete frame, which is a whole message or a control frame. So the size of a frame is checked
//! before memory is reserved for it, the bytes after it stay in the caller's input, and a
//! tungstenite context has no state between two reads: one serves all connections.

use std::io::{self, Cursor, ErrorKind, Read, Write};

use bytes::Bytes;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, Utf8Bytes};

use super::close::{Close, Violation, is_sendable};
use super::fragments::{Fragments, is_fragment};
use super::partial::{PartialFrame, WsLimits};
use super::text;
use crate::ledger::allocation;

/// A complete message, fragment or control frame.
///
/// Payloads are views of tungstenite's buffer. Drop them before the next [`Context::feed`], or that
/// call has to allocate another buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A fragment of a message that is not its last.
    Fragment,
    /// A ping. The pong is already in `out`.
    Ping,
    Pong(Bytes),
    /// A close frame, and its code, if any. If it had to be answered, the answer is already in `out`.
    /// Later input is discarded.
    Closed(Option<u16>),
}

/// The WebSocket state of one connection (server role).
pub struct Context {
    /// `Some` exactly while a frame or a message is incomplete.
    under_way: Option<Box<UnderWay>>,
    state: WsState,
}

// Each of tens of thousands of connections has one, and most of them are idle.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Context>() == 16);

/// What has arrived of an incomplete frame or message.
#[derive(Default)]
struct UnderWay {
    partial: PartialFrame,
    /// `Some` after the first fragment of an incomplete message.
    message: Option<Fragments>,
}

/// Reads whole messages and control frames, by a tungstenite context that all connections share.
///
/// Between two reads the context's input has been consumed and its answers have been written, so it
/// behaves like a new one. Creating one for each message would account for most of a message's
/// allocations.
pub struct FrameReader {
    limits: WsLimits,
    inner: Option<WebSocketContext>,
}

impl FrameReader {
    /// Reads within these limits.
    pub fn new(limits: WsLimits) -> FrameReader {
        FrameReader { limits, inner: None }
    }

    /// Frees the buffer, which still contains the text of the last message.
    pub fn clear(&mut self) {
        self.inner = None;
    }
}

/// Initial size of tungstenite's buffer, and of the pieces in which it reads. Most frames fit.
const READ_BUFFER_BYTES: usize = 256;

/// The states of RFC 6455 §7, by what each side may still send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WsState {
    Open,
    /// Our close has been sent. Data is ignored until the peer's close arrives.
    Closing,
    /// The peer violated the protocol, and our close has not been sent. Input is discarded.
    Failed,
    /// Nothing more is sent, and input is discarded.
    Closed,
}

impl Context {
    /// The state right after the opening handshake.
    pub fn new() -> Context {
        Context { under_way: None, state: WsState::Open }
    }

    /// Takes bytes from the front of `input` until a message, fragment or control frame is complete,
    /// or no bytes are left (`None`). Appends answers to control frames to `out`.
    ///
    /// A violation is returned once. No close has been sent for it: the caller must call
    /// [`Context::close`]. After a violation or [`Incoming::Closed`] all input is discarded.
    pub fn feed(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        reader: &mut FrameReader,
    ) -> Result<Option<Incoming>, Violation> {
        while !input.is_empty() {
            if matches!(self.state, WsState::Failed | WsState::Closed) {
                *input = &[];
                break;
            }
            match self.read(input, out, reader) {
                Ok(None) => {}
                Ok(incoming) => return Ok(incoming),
                Err(violation) => {
                    let is_close_sent = self.state == WsState::Closing;
                    self.state = if is_close_sent { WsState::Closed } else { WsState::Failed };
                    return Err(violation);
                }
            }
        }
        Ok(None)
    }

    /// Takes the text frame at the front of `input`, if it is a whole message and nothing is under way.
    /// Otherwise `None`: [`Context::feed`] reads what there is.
    ///
    /// A shortcut, which may be left out: `feed` delivers the same texts and violations.
    pub fn take_text<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        reader: &FrameReader,
    ) -> Result<Option<&'a str>, Violation> {
        if self.is_under_way() || self.state != WsState::Open {
            return Ok(None);
        }
        let Some(payload) = text::take(input, reader.limits) else { return Ok(None) };
        let text = std::str::from_utf8(payload).map_err(|_| {
            self.state = WsState::Failed;
            Violation::NotUtf8
        });
        text.map(Some)
    }

    /// Appends a ping without payload, unless data frames may not be sent any more.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        if self.can_write() {
            let ping = Message::Ping(Bytes::new());
            let sent = writer().write(&mut FrameStream::write_to(out), ping);
            debug_assert!(sent.is_ok(), "a ping is written to memory: {sent:?}");
        }
    }

    /// Appends a close frame, unless one has been sent.
    pub fn close(&mut self, close: Close, out: &mut Vec<u8>) {
        self.state = match self.state {
            WsState::Open => WsState::Closing,
            // RFC 6455 §7.1.7: a failed connection does not wait for the peer's close.
            WsState::Failed => WsState::Closed,
            WsState::Closing | WsState::Closed => return,
        };
        let reason = Utf8Bytes::from_static(close.reason);
        let frame = CloseFrame { code: CloseCode::from(close.code), reason };
        let sent = writer().close(&mut FrameStream::write_to(out), Some(frame));
        debug_assert!(sent.is_ok(), "a close is written to memory: {sent:?}");
    }

    /// Whether data frames may be sent: no close has been sent, and none is due for a violation.
    pub fn can_write(&self) -> bool {
        self.state == WsState::Open
    }

    /// Whether a frame or a message has begun and is not complete.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Bytes of heap in use.
    pub fn bytes(&self) -> usize {
        let bytes = |one: &UnderWay| allocation(size_of::<UnderWay>()) + one.partial.bytes();
        self.under_way.as_deref().map_or(0, bytes)
    }

    /// Reads the next frame, if it is complete.
    fn read(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        reader: &mut FrameReader,
    ) -> Result<Option<Incoming>, Violation> {
        // Most frames arrive whole, and need no heap.
        let (mut kept, mut new) = (self.under_way.take(), UnderWay::default());
        let under_way = kept.as_deref_mut().unwrap_or(&mut new);
        let incoming = match under_way.partial.next(input, reader.limits)? {
            None => None,
            Some(frame) if is_fragment(&frame) => Some(under_way.add(&frame, reader.limits)?),
            Some(frame) => Some(self.on_frame(&frame, under_way.message.is_some(), out, reader)?),
        };
        if self.state != WsState::Closed && !under_way.is_over() {
            self.under_way = kept.or_else(|| Some(Box::new(new)));
        }
        // After our close, messages that the peer sent before it saw the close are ignored.
        let is_open = self.state == WsState::Open;
        Ok(incoming.filter(|incoming| is_open || matches!(incoming, Incoming::Closed(_))))
    }

    /// Lets tungstenite read one complete frame.
    #[inline(never)] // Inlined, it makes the binary 2 KB larger.
    fn on_frame(
        &mut self,
        frame: &[u8],
        is_message_under_way: bool,
        out: &mut Vec<u8>,
        reader: &mut FrameReader,
    ) -> Result<Incoming, Violation> {
        let limits = reader.limits;
        let inner = reader.inner.get_or_insert_with(|| new_context(limits, READ_BUFFER_BYTES));
        let mut stream = FrameStream { frame, out };
        let message = inner.read(&mut stream);
        debug_assert!(stream.frame.is_empty() || message.is_err(), "the frame is read to its end");
        let incoming = match message {
            // RFC 6455 §5.4: the fragments of one message are not mixed with another message.
            Ok(Message::Text(_) | Message::Binary(_)) if is_message_under_way => {
                Err(Violation::Protocol)
            }
            Ok(Message::Text(text)) => return Ok(Incoming::Text(text)),
            Ok(Message::Binary(payload)) => return Ok(Incoming::Binary(payload)),
            Ok(Message::Pong(payload)) => return Ok(Incoming::Pong(payload)),
            // RFC 6455 §5.5.2: tungstenite queues the pong until its next call.
            Ok(Message::Ping(_)) if self.state == WsState::Open => {
                flush(inner, stream.out);
                return Ok(Incoming::Ping);
            }
            Ok(Message::Ping(_)) => Ok(Incoming::Ping), // Not answered after our close.
            // tungstenite's own answer is dropped with it: its list of codes lacks 1014.
            Ok(Message::Close(_)) => self.on_close(frame, stream.out),
            // Neither is the result of reading a complete frame.
            Ok(Message::Frame(_)) | Err(Error::Io(_)) => Err(Violation::Protocol),
            Err(why) => Err(violation(&why)),
        };
        // It is closed or has an answer queued, or must not be read again after an error.
        reader.clear();
        incoming
    }
}

impl Context {
    /// Answers the peer's close with the same code and reason (RFC 6455 §5.5.1). tungstenite has
    /// accepted the frame.
    fn on_close(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<Incoming, Violation> {
        let payload = unmasked(frame).ok_or(Violation::Protocol)?;
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        if self.state == WsState::Open {
            if code.is_some_and(|code| !is_sendable(code)) {
                return Err(Violation::Protocol);
            }
            const CLOSE: u8 = 0x88;
            out.extend_from_slice(&[CLOSE, payload.len() as u8]);
            out.extend_from_slice(&payload);
        }
        self.state = WsState::Closed;
        Ok(Incoming::Closed(code))
    }
}

/// The payload of a complete frame from a client.
fn unmasked(frame: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Cursor::new(frame);
    let (header, _) = FrameHeader::parse(&mut rest).ok()??;
    let payload = frame.get(rest.position() as usize..)?;
    let mask = header.mask?;
    Some(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect())
}

impl UnderWay {
    /// Adds a complete fragment to its message.
    #[inline(never)]
    fn add(&mut self, frame: &[u8], limits: WsLimits) -> Result<Incoming, Violation> {
        let is_last = Fragments::add(&mut self.message, frame, &mut self.partial, limits)?;
        match self.message.take_if(|_| is_last) {
            None => Ok(Incoming::Fragment),
            Some(message) => match message.complete(self.partial.take_fragments())? {
                Message::Binary(payload) => Ok(Incoming::Binary(payload)),
                message => Ok(Incoming::Text(message.into_text().map_err(|_| Violation::NotUtf8)?)),
            },
        }
    }

    /// Whether neither a frame nor a message is incomplete.
    fn is_over(&self) -> bool {
        self.message.is_none() && self.partial.is_empty()
    }
}

impl Default for Context {
    fn default() -> Context {
        Context::new()
    }
}

fn flush(inner: &mut WebSocketContext, out: &mut Vec<u8>) {
    // Returns `ConnectionClosed` after the answer to the peer's close is written.
    let flushed = inner.flush(&mut FrameStream::write_to(out));
    debug_assert!(matches!(flushed, Ok(()) | Err(Error::ConnectionClosed)), "{flushed:?}");
}

/// A tungstenite context that reads nothing.
fn writer() -> WebSocketContext {
    new_context(WsLimits { frame_bytes_max: 0, message_bytes_max: 0 }, 0)
}

fn new_context(limits: WsLimits, read_buffer_bytes: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(read_buffer_bytes)
        // Control frames reach `out` at once, in order with frames that bypass the context.
        .write_buffer_size(0)
        .max_frame_size(Some(limits.frame_bytes_max))
        .max_message_size(Some(limits.message_bytes_max));
    WebSocketContext::new(Role::Server, Some(config))
}

fn violation(error: &Error) -> Violation {
    match error {
        Error::Capacity(_) => Violation::TooBig,
        Error::Utf8(_) => Violation::NotUtf8,
        _ => Violation::Protocol,
    }
}

/// The stream that tungstenite gets for one call. tungstenite reads until a message is complete or
/// the stream returns `WouldBlock`, so the whole frame is read.
struct FrameStream<'a> {
    /// The rest of one complete frame.
    frame: &'a [u8],
    out: &'a mut Vec<u8>,
}

impl FrameStream<'_> {
    /// A stream for calls that only write.
    fn write_to(out: &mut Vec<u8>) -> FrameStream<'_> {
        FrameStream { frame: &[], out }
    }
}

impl Read for FrameStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.frame.read(buffer)? {
            // `Ok(0)` would be the end of the stream, which tungstenite reports as a broken close.
            0 => Err(ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for FrameStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
