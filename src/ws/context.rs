//! (to be written)

use bytes::Bytes;
use tungstenite::Utf8Bytes;

use super::close::Close;

/// What one connection may use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Payload of one frame.
    pub frame_bytes_max: usize,
    /// Payload of one message, all fragments together.
    pub message_bytes_max: usize,
}

/// Something whole that arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A ping; its pong is already in `out`.
    Ping,
    Pong(Bytes),
    /// The peer closed; the answering close, if one was due, is already in `out`. Nothing is to be read after it.
    Closed,
}

/// The peer broke RFC 6455 or a limit. `close` says how to tell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    Protocol,
    NotUtf8,
    TooBig,
}

/// One connection's WebSocket state (server role).
pub struct Context {}

impl Context {
    pub fn new(limits: Limits) -> Context {
        let _ = limits;
        todo!()
    }

    /// Takes bytes from the front of `input` until something whole has arrived, or none are left (`None`).
    /// Control frames that are due in answer are appended to `out`.
    pub fn feed(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Incoming>, Violation> {
        let _ = (input, out);
        todo!()
    }

    /// Appends a ping without payload.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }

    /// Appends a close frame, once: nothing when one was sent before.
    pub fn close(&mut self, close: Close, out: &mut Vec<u8>) {
        let _ = (close, out);
        todo!()
    }

    /// Whether data frames may still be sent (no close has been).
    pub fn can_write(&self) -> bool {
        todo!()
    }

    /// Bytes of heap held for what has arrived and is not complete.
    pub fn bytes(&self) -> usize {
        todo!()
    }
}
