//! One accepted stream and what is queued for it.
//!
//! Owns reading, flushing and the half-close. Must never know what the bytes mean. The
//! invariant: after the write half is shut down nothing is queued any more.

use std::io::{self, ErrorKind, Read, Write};

use super::outbox::{Flushed, Outbox, Piece};

/// A stream that can end in one direction. Sockets are; so are the pipes of the simulation.
pub trait Stream: Read + Write {
    /// Tells the peer that nothing more will come, while its bytes may still.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether there is more to read, though the last read gave less than it might, or nothing: no
    /// edge will tell.
    fn has_buffered_input(&self) -> bool {
        false
    }

    /// Whether some of what was written has not left: the writable edge will tell when it can, and
    /// `flush` goes on.
    fn has_buffered_output(&self) -> bool {
        false
    }

    /// Bytes of heap that it takes.
    fn heap_bytes(&self) -> usize {
        0
    }

    /// What reading has cost since this was last asked, beside the bytes that it gave.
    fn take_cost(&mut self) -> usize {
        0
    }
}

/// What a read came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing for now; the readable edge will tell.
    Blocked,
    /// The peer has ended its direction.
    End,
}

/// A stream with its outbox.
pub struct Link<S> {
    stream: S,
    outbox: Outbox,
    write_over: bool,
}

impl<S: Stream> Link<S> {
    /// Nothing read, nothing queued.
    pub fn new(stream: S) -> Link<S> {
        Link { stream, outbox: Outbox::default(), write_over: false }
    }

    /// The stream itself, for whoever polls it.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream itself, to look at.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// What is queued.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// True when all has left.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.stream.has_buffered_output()
    }

    /// Reads once. Errors end the connection.
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

    /// Queues a piece, unless more than `bytes_max` would then be queued even though the kernel
    /// was offered what there is. Nothing is queued after the write half is shut down.
    #[must_use = "what does not fit is not queued"]
    pub fn push(&mut self, piece: Piece, bytes_max: usize) -> bool {
        if self.write_over {
            return true; // Nobody will read it.
        }
        if !self.outbox.fits(&piece, bytes_max) {
            // One tick can say more than fits. Slow is only who doesn't take it; a broken line is
            // met again, and reported, by the flush at the tick's end.
            if self.outbox.flush(&mut self.stream, bytes_max).is_err() {
                return self.outbox.push(piece, usize::MAX);
            }
        }
        self.outbox.push(piece, bytes_max)
    }

    /// See [`Outbox::truncate`].
    pub fn truncate(&mut self) {
        self.outbox.truncate();
    }

    /// Writes what is queued, at most `budget` bytes of it. Errors end the connection.
    pub fn flush(&mut self, budget: usize) -> io::Result<Flushed> {
        match self.outbox.flush(&mut self.stream, budget)? {
            Flushed::Done => match self.stream.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Flushed::Blocked),
                flushed => flushed.map(|()| Flushed::Done),
            },
            other => Ok(other),
        }
    }

    /// Ends our direction, once; what is queued must have left.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.write_over, true) {
            return Ok(());
        }
        debug_assert!(self.outbox.is_empty());
        self.stream.shutdown_write()
    }
}
