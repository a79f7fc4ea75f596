//! One accepted stream and the bytes queued for it.
//!
//! Owns reading, flushing and the half-close. Must not know what the bytes mean. The invariant:
//! nothing is queued once the write half is shut down.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use super::outbox::{Cut, Flushed, Outbox, Piece};

/// A byte stream whose write half can be shut down: a socket, or a pipe of the simulation.
///
/// Reads and writes never block. A layer between the kernel and the caller, such as TLS, can buffer
/// bytes in either direction. The kernel does not know of these bytes, so the stream reports them.
pub trait Stream: Read + Write {
    /// Shuts down the write half. The peer can still send.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// From now on the stream fails if the peer acknowledges nothing of what is sent to it for this
    /// long, where the system can tell. Streams other than TCP ignore it.
    fn set_ack_timeout(&mut self, _: Duration) {}

    /// Whether another read may return bytes although the last one was short or blocked. No edge
    /// announces these bytes, so the caller must schedule the connection again.
    fn has_buffered_input(&self) -> bool {
        false
    }

    /// Whether written bytes have not reached the kernel yet. A writable edge announces that
    /// `flush` can continue.
    fn has_buffered_output(&self) -> bool {
        false
    }

    /// Heap memory of a layer such as TLS, in bytes.
    fn heap_bytes(&self) -> usize {
        0
    }

    /// The extra work of reads since the last call, such as a TLS handshake, as the number of input
    /// bytes that take the same time. The bytes that the reads returned are not included.
    fn take_cost(&mut self) -> usize {
        0
    }
}

/// The result of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// The number of bytes read, at least one.
    Bytes(usize),
    /// Nothing to read. A readable edge follows unless [`Stream::has_buffered_input`] is true.
    Blocked,
    /// The peer has shut down its write half.
    End,
}

/// A stream with its outbox.
pub struct Link<S> {
    stream: S,
    /// Closed once the write half is shut down.
    outbox: Outbox,
}

impl<S: Stream> Link<S> {
    /// A link with an empty outbox.
    pub fn new(stream: S) -> Link<S> {
        Link { stream, outbox: Outbox::default() }
    }

    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream, to register it with a poll.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The queue of bytes to write.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Whether every queued byte has reached the kernel.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.stream.has_buffered_output()
    }

    /// Reads once. After an error the connection is unusable.
    pub fn read_into(&mut self, scratch: &mut [u8]) -> io::Result<Received> {
        loop {
            return match self.stream.read(scratch) {
                Ok(0) => Ok(Received::End),
                Ok(count) => Ok(Received::Bytes(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Queues a piece. Returns false if more than `bytes_max` bytes would be queued even after a
    /// flush. After [`Link::shutdown_write`] the piece is dropped, and the result is true.
    #[must_use = "a piece that does not fit is not queued"]
    pub fn push(&mut self, piece: Piece, bytes_max: usize) -> bool {
        if self.outbox.is_closed() {
            return true;
        }
        if !self.outbox.fits(&piece, bytes_max) {
            // One tick can queue more than fits. A peer is a slow reader only if the kernel takes
            // no more bytes either. A broken stream reports its error again when the tick flushes.
            let flushed = self.outbox.flush(&mut self.stream, bytes_max);
            if flushed.is_ok() && !self.outbox.fits(&piece, bytes_max) {
                return false;
            }
        }
        self.outbox.put(piece);
        true
    }

    /// Queues a piece, whether or not it fits. After [`Link::shutdown_write`] the piece is dropped.
    pub fn put(&mut self, piece: Piece) {
        self.outbox.put(piece);
    }

    /// See [`Outbox::truncate`].
    pub fn truncate(&mut self, end: usize) {
        self.outbox.truncate(end);
    }

    /// See [`Outbox::cut`].
    pub fn cut(&mut self, decide: impl FnOnce(&[u8], usize) -> Cut) -> bool {
        self.outbox.cut(decide)
    }

    /// Writes at most `budget` queued bytes. After an error the connection is unusable.
    pub fn flush(&mut self, budget: usize) -> io::Result<Flushed> {
        match self.outbox.flush(&mut self.stream, budget)? {
            Flushed::Done => match self.stream.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Flushed::Blocked),
                flushed => flushed.map(|()| Flushed::Done),
            },
            other => Ok(other),
        }
    }

    /// Shuts down the write half. Later calls have no effect. The outbox must be empty.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        if self.outbox.is_closed() {
            return Ok(());
        }
        self.outbox.close();
        debug_assert!(self.outbox.is_empty());
        self.stream.shutdown_write()
    }
}
