//! One connection's WebSocket state: tungstenite's, lent one whole frame at a time.
//!
//! Owns where in a frame the peer is, and the end of the conversation. Must never know a socket:
//! bytes come as a slice and leave in a buffer. The invariant: tungstenite is never lent less
//! than a frame, nor a byte beyond it. So a frame's size is judged before anything is kept for
//! it, what a peer declares and does not send reserves nothing, what follows a frame stays in the
//! caller's input, and between messages there is no state of tungstenite's to keep: of 10,000
//! idle connections none has any.

use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::mem;

use bytes::Bytes;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, Utf8Bytes};

use super::close::{Close, Violation};

/// What one connection may use up.
#[derive(Clone, Copy, Debug)]
pub struct WsLimits {
    /// Payload of one frame.
    pub frame_bytes_max: usize,
    /// Payload of one message, all fragments together.
    pub message_bytes_max: usize,
}

/// Something whole that arrived.
///
/// Payloads are views into tungstenite's buffer: drop them before the next [`Context::feed`],
/// or it has to allocate another.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A fragment of a message, and not its last.
    Fragment,
    /// A ping; its pong is already in `out`.
    Ping,
    Pong(Bytes),
    /// The peer closed, or confirmed our close; the answering close, if one was due, is already
    /// in `out`. Whatever the peer sends after it is swallowed.
    Closed,
}

/// One connection's WebSocket state (server role).
pub struct Context {
    limits: WsLimits,
    /// There while a frame or a message is incomplete or our close is not confirmed.
    active: Option<Box<ActiveContext>>,
    state: WsState,
}

/// 10,000s of them, most of them idle.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Context>() <= 32);

/// What is kept until it is complete.
struct ActiveContext {
    inner: WebSocketContext,
    /// What has arrived of a frame that is not whole.
    partial: Vec<u8>,
    /// What that frame will be, header and payload. Zero until the header is whole.
    declared: usize,
    /// Payload of the complete fragments of an incomplete message, be it empty so far. ≤
    /// `message_bytes_max`, checked in `admit`.
    fragments: Option<usize>,
    /// The largest frame lent to `inner`, whose buffer grows to hold a frame and never shrinks.
    largest: usize,
}

/// A tungstenite context that is between two messages, kept for the next message of any connection.
///
/// Between messages its input has been consumed and its answers have been written, so it behaves
/// like a new one. Creating one per message would account for most of a message's allocations.
/// Its buffer still contains the last message's text: drop it at the end of the tick.
#[derive(Default)]
pub struct RecycledContext(Option<Box<ActiveContext>>);

/// RFC 6455 §5.2: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;

/// RFC 6455 §5.5.
const CONTROL_BYTES_MAX: usize = 125;

/// tungstenite's first buffer, and the pieces it copies in: most frames are one.
const READ_BUFFER_BYTES: usize = 256;

/// Heap of what is under way: with tungstenite's state its buffer, that buffer's reference count,
/// and what the longest pong was encoded in.
const INNER_BYTES: usize =
    size_of::<ActiveContext>() + READ_BUFFER_BYTES + 40 + 2 + CONTROL_BYTES_MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WsState {
    /// Both sides may send.
    Open,
    /// We have sent a close. Only the peer's close is of interest.
    Closing,
    /// The peer broke the protocol and has not been told yet. Its bytes are swallowed.
    Failed,
    /// Nothing is sent any more, and what arrives is swallowed.
    Closed,
}

impl Context {
    /// Right after the opening handshake.
    pub fn new(limits: WsLimits) -> Context {
        Context { limits, active: None, state: WsState::Open }
    }

    /// Takes bytes from the front of `input` until something whole has arrived, or none are left
    /// (`None`). Control frames that are due in answer are appended to `out`.
    ///
    /// A violation is reported once, and nothing has been sent about it: [`Context::close`] does
    /// that. After it, or after [`Incoming::Closed`], all input is swallowed.
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
                    let told = self.state == WsState::Closing;
                    self.state = if told { WsState::Closed } else { WsState::Failed };
                    // Frees what the violation left behind, and makes sure of a rule of
                    // tungstenite's: after an error a context must not be read again.
                    self.active = None;
                    return Err(violation);
                }
            }
        }
        let is_idle =
            |active: &ActiveContext| active.fragments.is_none() && active.partial.is_empty();
        if self.state == WsState::Open && self.active.as_deref().is_some_and(is_idle) {
            recycled.0 = self.active.take();
        }
        Ok(None)
    }

    /// Appends a ping without payload, unless a close has been sent or is due.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        if self.can_write() {
            let sent = new_context(self.limits)
                .write(&mut FrameStream::write_to(out), Message::Ping(Bytes::new()));
            debug_assert!(sent.is_ok(), "a ping into memory: {sent:?}");
        }
    }

    /// Appends a close frame, once: nothing when one was sent before.
    pub fn close(&mut self, close: Close, out: &mut Vec<u8>) {
        self.state = match self.state {
            WsState::Open => WsState::Closing,
            // RFC 6455 §7.1.7: the connection has failed, so the peer's close is not waited for.
            WsState::Failed => WsState::Closed,
            WsState::Closing | WsState::Closed => return,
        };
        let reason = Utf8Bytes::from_static(close.reason);
        let frame = CloseFrame { code: CloseCode::from(close.code), reason };
        let sent = self.active().inner.close(&mut FrameStream::write_to(out), Some(frame));
        debug_assert!(sent.is_ok(), "a close into memory: {sent:?}");
        if self.state == WsState::Closed {
            self.active = None;
        }
    }

    /// Whether data frames may still be sent: no close has been, and none is due for a violation.
    pub fn can_write(&self) -> bool {
        self.state == WsState::Open
    }

    /// Bytes of heap held, and those that the frame under way declares.
    pub fn bytes(&self) -> usize {
        self.active.as_ref().map_or(0, |active| {
            INNER_BYTES
                + active.largest.saturating_sub(READ_BUFFER_BYTES)
                + active.fragments.unwrap_or_default()
                + active.partial.capacity().max(active.declared)
        })
    }

    fn active(&mut self) -> &mut ActiveContext {
        self.active.get_or_insert_with(|| {
            Box::new(ActiveContext {
                inner: new_context(self.limits),
                partial: Vec::new(),
                declared: 0,
                fragments: None,
                largest: 0,
            })
        })
    }

    /// Reads the next frame, or what there is of it.
    fn read(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Incoming>, Violation> {
        let limits = self.limits;
        let active = self.active();
        if active.partial.is_empty() {
            let declared = active.declared_by(input, limits)?;
            if let Some(frame) = declared.and_then(|declared| take(input, declared)) {
                return self.on_frame(frame, out);
            }
            active.declared = declared.unwrap_or_default();
        }
        if !active.complete(input, limits)? {
            return Ok(None);
        }
        active.declared = 0;
        let frame = mem::take(&mut active.partial);
        self.on_frame(&frame, out)
    }

    /// Has tungstenite read a whole frame.
    fn on_frame(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<Option<Incoming>, Violation> {
        let state = self.state;
        let active = self.active();
        active.largest = active.largest.max(frame.len());
        let mut stream = FrameStream { frame, out };
        let message = active.inner.read(&mut stream);
        debug_assert!(stream.frame.is_empty() || message.is_err(), "lent and not taken");
        match message {
            Ok(message) => Ok(self.deliver(message, out)),
            // RFC 6455 §5.4: a fragment that is not the last.
            Err(Error::Io(why)) if why.kind() == ErrorKind::WouldBlock => {
                let parsed = FrameHeader::parse(&mut Cursor::new(frame));
                let payload = parsed.ok().flatten().map_or(0, |(_, payload)| payload as usize);
                let before = active.fragments.unwrap_or_default();
                active.fragments = Some(before.saturating_add(payload));
                Ok((state == WsState::Open).then_some(Incoming::Fragment))
            }
            Err(why) => Err(violation(&why)),
        }
    }

    fn deliver(&mut self, message: Message, out: &mut Vec<u8>) -> Option<Incoming> {
        let incoming = match message {
            Message::Text(text) => {
                self.active().fragments = None;
                Incoming::Text(text)
            }
            Message::Binary(payload) => {
                self.active().fragments = None;
                Incoming::Binary(payload)
            }
            // RFC 6455 §5.5.2: the pong is queued, and would otherwise wait for the next read.
            Message::Ping(_) => {
                self.flush(out);
                Incoming::Ping
            }
            Message::Pong(payload) => Incoming::Pong(payload),
            // RFC 6455 §5.5.1: the answer to a close that came first is queued likewise.
            Message::Close(_) => {
                self.flush(out);
                self.state = WsState::Closed;
                self.active = None;
                return Some(Incoming::Closed);
            }
            Message::Frame(_) => return None, // tungstenite writes such, it never reads them.
        };
        // After our close it was sent before the peer saw that, and is too late to be acted upon.
        (self.state == WsState::Open).then_some(incoming)
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        // After the peer's close this says `ConnectionClosed`, once the answer is written.
        let flushed = self.active().inner.flush(&mut FrameStream::write_to(out));
        debug_assert!(matches!(flushed, Ok(()) | Err(Error::ConnectionClosed)), "{flushed:?}");
    }
}

impl ActiveContext {
    /// Moves what belongs to the frame under way from `input` to `partial`. True if it is whole.
    fn complete(&mut self, input: &mut &[u8], limits: WsLimits) -> Result<bool, Violation> {
        // Byte by byte, at most fourteen times: so none is taken that is beyond the frame.
        while self.declared == 0 {
            let Some(byte) = take(input, 1) else { return Ok(false) };
            self.partial.extend_from_slice(byte);
            self.declared = self.declared_by(&self.partial, limits)?.unwrap_or_default();
        }
        let (arrived, left) = (self.partial.len(), self.declared - self.partial.len());
        let more = take(input, left.min(input.len())).unwrap_or_default();
        if self.partial.capacity() - arrived < more.len() {
            // Twice what has come, as usual, but no more than will.
            let room = more.len().max(arrived).min(left);
            self.partial.reserve_exact(room);
        }
        self.partial.extend_from_slice(more);
        Ok(more.len() == left)
    }

    /// The length of the frame that `bytes` begin with, header and payload, if the header is whole.
    fn declared_by(&self, bytes: &[u8], limits: WsLimits) -> Result<Option<usize>, Violation> {
        let mut head = Cursor::new(bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes));
        // The only error here is a reserved opcode (RFC 6455 §5.2).
        let parsed = FrameHeader::parse(&mut head).map_err(|_| Violation::Protocol)?;
        let Some((header, payload)) = parsed else { return Ok(None) };
        let payload = self.admit(&header, payload, limits)?;
        Ok(Some(head.position() as usize + payload))
    }

    /// Judges a frame by the size it declares; everything else about it is tungstenite's to judge,
    /// when it is whole.
    fn admit(
        &self,
        header: &FrameHeader,
        payload: u64,
        limits: WsLimits,
    ) -> Result<usize, Violation> {
        // RFC 6455 §5.5: otherwise we would wait for all of it before refusing it.
        if matches!(header.opcode, OpCode::Control(_)) && payload > CONTROL_BYTES_MAX as u64 {
            return Err(Violation::Protocol);
        }
        // Control frames may come between fragments and are no part of the message.
        let continues = header.opcode == OpCode::Data(Data::Continue);
        let before = self.fragments.filter(|_| continues).unwrap_or_default();
        match usize::try_from(payload) {
            Ok(payload)
                if payload <= limits.frame_bytes_max
                    && payload.saturating_add(before) <= limits.message_bytes_max =>
            {
                Ok(payload)
            }
            // RFC 6455 §10.4. From 2^63 a length is malformed as well (§5.2), but too big first.
            _ => Err(Violation::TooBig),
        }
    }
}

/// The first bytes of `input`, which then begins after them; `None` if it has not so many.
fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(front)
}

fn new_context(limits: WsLimits) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        // Control frames reach `out` at once, in order with what goes round the context.
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

/// What tungstenite takes for its stream, for one call. It reads until it has a whole message
/// or is told `WouldBlock`, so a frame's bytes are always used up.
struct FrameStream<'a> {
    /// What is left of a whole frame.
    frame: &'a [u8],
    out: &'a mut Vec<u8>,
}

impl FrameStream<'_> {
    /// For calls that only write.
    fn write_to(out: &mut Vec<u8>) -> FrameStream<'_> {
        FrameStream { frame: &[], out }
    }
}

impl Read for FrameStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.frame.read(buffer)? {
            // `Ok(0)` would be the end of the stream, which tungstenite takes for a broken close.
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
