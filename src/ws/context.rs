//! The WebSocket state of one connection: a tungstenite context that reads one frame at a time.
//!
//! Owns the message that is arriving, and the closing handshake. Must not know a socket: bytes come
//! in as a slice and go out in a buffer. The invariant: each read by tungstenite gets exactly one
//! complete frame. So the size of a frame is checked before memory is reserved for it, the bytes
//! after it stay in the caller's input, and an idle connection needs no tungstenite context.

use std::io::{self, Cursor, ErrorKind, Read, Write};

use bytes::Bytes;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, Utf8Bytes};

use super::close::{Close, Violation};
use super::partial::{CONTROL_BYTES_MAX, PartialFrame, WsLimits};

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
    /// The peer's close, or its answer to our close. If the peer's close needed an answer, that is
    /// already in `out`. Later input is discarded.
    Closed,
}

/// The WebSocket state of one connection (server role).
pub struct Context {
    limits: WsLimits,
    /// `Some` while a frame or a message is incomplete, and from our close to the peer's.
    active: Option<Box<ActiveContext>>,
    state: WsState,
}

// Each of tens of thousands of connections has one, and most of them are idle.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Context>() <= 32);

/// The state that only a connection with an incomplete message needs.
struct ActiveContext {
    inner: WebSocketContext,
    frame: PartialFrame,
    /// Payload bytes in the complete fragments of an incomplete message, possibly 0; `None` between
    /// messages. ≤ `message_bytes_max`, checked by [`PartialFrame::next`].
    fragment_bytes: Option<usize>,
    /// Length of the largest frame that `inner` has read. The buffer of `inner` never shrinks.
    largest: usize,
}

/// A tungstenite context that is between two messages, kept for the next message of any connection.
///
/// Between messages its input has been consumed and its answers have been written, so it behaves
/// like a new one. Creating one per message would account for most of a message's allocations. Its
/// buffer still contains the last message's text, so it is dropped at the end of the tick.
#[derive(Default)]
pub struct RecycledContext(Option<Box<ActiveContext>>);

/// Initial size of tungstenite's buffer, and of the pieces in which it reads. Most frames fit.
const READ_BUFFER_BYTES: usize = 256;

/// Heap of an [`ActiveContext`]: tungstenite's state, its buffer with a reference count, and the
/// buffer in which it encodes the longest pong.
const INNER_BYTES: usize =
    size_of::<ActiveContext>() + READ_BUFFER_BYTES + 40 + 2 + CONTROL_BYTES_MAX;

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
    pub fn new(limits: WsLimits) -> Context {
        Context { limits, active: None, state: WsState::Open }
    }

    /// Takes bytes from the front of `input` until a message, fragment or control frame is complete,
    /// or no bytes are left (`None`). Appends answers to control frames to `out`.
    ///
    /// A violation is returned once. No close has been sent for it: the caller must call
    /// [`Context::close`]. After a violation or [`Incoming::Closed`] all input is discarded.
    ///
    /// `recycled` is shared by contexts with the same limits.
    pub fn feed(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        recycled: &mut RecycledContext,
    ) -> Result<Option<Incoming>, Violation> {
        if self.active.is_none() && self.state == WsState::Open {
            self.active = recycled.0.take();
        }
        while !input.is_empty() {
            if matches!(self.state, WsState::Failed | WsState::Closed) {
                *input = &[];
                break;
            }
            match self.read(input, out) {
                Ok(None) => {}
                Ok(incoming) => return Ok(incoming),
                Err(violation) => {
                    let is_close_sent = self.state == WsState::Closing;
                    self.state = if is_close_sent { WsState::Closed } else { WsState::Failed };
                    // Also enforces a rule of tungstenite: after an error, do not read again.
                    self.active = None;
                    return Err(violation);
                }
            }
        }
        let is_idle =
            |active: &ActiveContext| active.fragment_bytes.is_none() && active.frame.is_empty();
        if self.state == WsState::Open && self.active.as_deref().is_some_and(is_idle) {
            recycled.0 = self.active.take();
        }
        Ok(None)
    }

    /// Appends a ping without payload, unless data frames may not be sent any more.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        if self.can_write() {
            let mut stream = FrameStream::write_to(out);
            let sent = new_context(self.limits).write(&mut stream, Message::Ping(Bytes::new()));
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
        let sent = self.active().inner.close(&mut FrameStream::write_to(out), Some(frame));
        debug_assert!(sent.is_ok(), "a close is written to memory: {sent:?}");
        if self.state == WsState::Closed {
            self.active = None;
        }
    }

    /// Whether data frames may be sent: no close has been sent, and none is due for a violation.
    pub fn can_write(&self) -> bool {
        self.state == WsState::Open
    }

    /// Bytes of heap in use, and bytes that the header of an incomplete frame declares.
    pub fn bytes(&self) -> usize {
        self.active.as_ref().map_or(0, |active| {
            INNER_BYTES
                + active.largest.saturating_sub(READ_BUFFER_BYTES)
                + active.fragment_bytes.unwrap_or_default()
                + active.frame.bytes()
        })
    }

    fn active(&mut self) -> &mut ActiveContext {
        self.active.get_or_insert_with(|| {
            Box::new(ActiveContext {
                inner: new_context(self.limits),
                frame: PartialFrame::default(),
                fragment_bytes: None,
                largest: 0,
            })
        })
    }

    /// Reads the next frame, if it is complete.
    fn read(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Incoming>, Violation> {
        let limits = self.limits;
        let active = self.active();
        let fragment_bytes = active.fragment_bytes.unwrap_or_default();
        match active.frame.next(input, limits, fragment_bytes)? {
            Some(frame) => self.on_frame(&frame, out),
            None => Ok(None),
        }
    }

    /// Lets tungstenite read one complete frame.
    #[inline(never)] // Inlined, it makes the binary 2 KB larger.
    fn on_frame(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<Option<Incoming>, Violation> {
        let state = self.state;
        let active = self.active();
        active.largest = active.largest.max(frame.len());
        let mut stream = FrameStream { frame, out };
        let message = active.inner.read(&mut stream);
        debug_assert!(stream.frame.is_empty() || message.is_err(), "the frame is read to its end");
        match message {
            Ok(message) => {
                if matches!(message, Message::Text(_) | Message::Binary(_)) {
                    active.fragment_bytes = None;
                }
                Ok(self.deliver(message, out))
            }
            // RFC 6455 §5.4: a fragment that is not the last of its message.
            Err(Error::Io(why)) if why.kind() == ErrorKind::WouldBlock => {
                let parsed = FrameHeader::parse(&mut Cursor::new(frame));
                let payload = parsed.ok().flatten().map_or(0, |(_, payload)| payload as usize);
                let before = active.fragment_bytes.unwrap_or_default();
                active.fragment_bytes = Some(before.saturating_add(payload));
                Ok((state == WsState::Open).then_some(Incoming::Fragment))
            }
            Err(why) => Err(violation(&why)),
        }
    }

    fn deliver(&mut self, message: Message, out: &mut Vec<u8>) -> Option<Incoming> {
        let incoming = match message {
            Message::Text(text) => Incoming::Text(text),
            Message::Binary(payload) => Incoming::Binary(payload),
            // RFC 6455 §5.5.2: tungstenite queues the pong until its next call.
            Message::Ping(_) => {
                self.flush(out);
                Incoming::Ping
            }
            Message::Pong(payload) => Incoming::Pong(payload),
            // RFC 6455 §5.5.1: tungstenite queues the answer to the peer's close, too.
            Message::Close(_) => {
                self.flush(out);
                self.state = WsState::Closed;
                self.active = None;
                return Some(Incoming::Closed);
            }
            Message::Frame(_) => return None, // Never the result of a read.
        };
        // After our close, messages that the peer sent before it saw the close are ignored.
        (self.state == WsState::Open).then_some(incoming)
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        // Returns `ConnectionClosed` after the answer to the peer's close is written.
        let flushed = self.active().inner.flush(&mut FrameStream::write_to(out));
        debug_assert!(matches!(flushed, Ok(()) | Err(Error::ConnectionClosed)), "{flushed:?}");
    }
}

fn new_context(limits: WsLimits) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
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
