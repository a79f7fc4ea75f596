//! The TLS layer of a TCP stream, on rustls.
//!
//! Owns the encrypted bytes between the kernel and the plaintext. Must not know what the plaintext
//! means. The invariant: after a short read, the buffers of the kernel and of rustls are empty, or
//! [`Stream::has_buffered_input`] is true. While encrypted bytes wait for a writable edge,
//! [`Stream::has_buffered_output`] is true. Otherwise bytes would never be read or written.
//!
//! rustls takes the time and randomness for handshakes and tickets from the operating system. This is
//! the one exception to the rule that both are passed down from the event loop.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{IoState, ServerConnection};

use super::identity::Identity;
use super::link::Stream;
use crate::ledger::allocation;

/// Encrypted bytes that may wait for the kernel: one record. They are private copies of bytes that
/// outboxes share, so a larger buffer would cost memory.
const ENCRYPTED_BYTES_MAX: usize = 16 * 1024;

/// Bytes that encryption adds to a record: header, content type, tag and, before TLS 1.3, an
/// explicit nonce.
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 16 + 8;

/// Most reads from the kernel in one read of plaintext. The bound limits the work for a peer that
/// sends many records without plaintext.
const READS_MAX: usize = 8;

/// The longest incomplete message that rustls buffers. Only handshake messages span records.
const INCOMPLETE_BYTES_MAX: usize = 64 * 1024;

/// Heap that rustls keeps for an idle connection: a read buffer, which it never frees, and the keys
/// and names of the session.
const SESSION_BYTES: usize = allocation(4096) + 2048;

/// The cost charged for a handshake, in input bytes. It stands for only half of the 150 µs that
/// a handshake with a P-256 key takes, so that a new connection stays in the interactive lane. An
/// RSA key takes far longer.
const HANDSHAKE_COST: usize = 8 * 1024;

/// The response to plain HTTP on a port with TLS.
const PLAIN_HTTP_RESPONSE: &str = "HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 49\r\n\
    Connection: close\r\n\r\n\
    This port speaks TLS: ask for https:// or wss://\n";

/// A TCP stream with TLS.
pub struct TlsStream {
    stream: TcpStream,
    session: ServerConnection,
    state: TlsState,
    /// See [`Stream::has_buffered_input`].
    has_buffered_input: bool,
    /// The peer has sent a close_notify. Earlier plaintext may still be unread.
    is_read_shut_down: bool,
    /// A close_notify was queued. The TCP stream is shut down once it has been sent.
    is_write_shut_down: bool,
    is_tcp_shut_down: bool,
    /// Encrypted bytes that wait for the kernel, approximately.
    encrypted_bytes: usize,
    /// Received bytes of an incomplete record or message, approximately.
    incomplete_bytes: usize,
    /// See [`Stream::take_cost`].
    cost: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsState {
    /// Nothing has been received.
    New,
    /// In the handshake, or past it.
    Active,
    /// The peer speaks plain HTTP, and a response was sent. Further input is discarded.
    PlainHttp,
    /// The peer has violated the protocol, and an alert was sent.
    Failed,
}

impl TlsStream {
    /// Adds TLS to a newly accepted stream.
    pub fn new(stream: TcpStream, identity: &Identity) -> io::Result<TlsStream> {
        let session = ServerConnection::new(Arc::clone(&identity.0)).map_err(io::Error::other)?;
        let mut stream = TlsStream {
            stream,
            session,
            state: TlsState::New,
            has_buffered_input: false,
            is_read_shut_down: false,
            is_write_shut_down: false,
            is_tcp_shut_down: false,
            encrypted_bytes: 0,
            incomplete_bytes: 0,
            cost: 0,
        };
        stream.session.set_buffer_limit(Some(ENCRYPTED_BYTES_MAX));
        Ok(stream)
    }

    /// The TCP stream, to register it with a poll.
    pub fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Peeks at the first byte: an HTTP method begins with a capital letter, a TLS record does not.
    fn detect_protocol(&mut self) -> io::Result<TlsState> {
        let mut first = [0];
        let count = self.stream.peek(&mut first)?;
        if count == 0 || !first[0].is_ascii_uppercase() {
            return Ok(TlsState::Active);
        }
        // The send buffer is empty, so it takes this response whole.
        let _ = self.stream.write(PLAIN_HTTP_RESPONSE.as_bytes());
        let _ = self.stream.shutdown(Shutdown::Write);
        Ok(TlsState::PlainHttp)
    }

    /// Discards input. Unread bytes at close would make the kernel send a reset, which can make the
    /// peer lose the response. The header timeout ends the connection.
    fn discard(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer)? {
            0 => Ok(0),
            count => {
                buffer[..count].fill(0);
                self.has_buffered_input = true;
                Err(ErrorKind::WouldBlock.into())
            }
        }
    }

    /// Reads plaintext until the buffer is full, the kernel has no more bytes, or [`READS_MAX`] is
    /// reached.
    fn read_plaintext(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut count, mut was_short) = (0, false);
        for _ in 0..READS_MAX {
            match self.session.reader().read(&mut buffer[count..]) {
                Ok(more) if more > 0 => count += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                end => return self.deliver_first(count, end),
            }
            if count == buffer.len() {
                return self.deliver_first(count, Ok(0));
            }
            // A short read has emptied the kernel's buffer. If it yielded no plaintext, read again:
            // the end of the stream may follow, and the caller would not read again after
            // `WouldBlock`.
            if was_short && count > 0 {
                self.has_buffered_input = self.is_read_shut_down;
                return Ok(count);
            }
            match self.read_records() {
                Ok(is_short) => was_short = is_short,
                Err(error) if error.kind() == ErrorKind::WouldBlock && count > 0 => {
                    self.has_buffered_input = self.is_read_shut_down;
                    return Ok(count);
                }
                Err(error) => return self.deliver_first(count, Err(error)),
            }
        }
        self.has_buffered_input = true;
        if count > 0 { Ok(count) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    /// Returns `next` if `count` is 0. Otherwise returns `count`, and the next read produces `next`
    /// again.
    fn deliver_first(&mut self, count: usize, next: io::Result<usize>) -> io::Result<usize> {
        if count == 0 {
            return next;
        }
        self.has_buffered_input = true;
        Ok(count)
    }

    /// Reads once from the kernel, and writes the replies of TLS itself, such as those of a
    /// handshake. Returns true if the read was short.
    fn read_records(&mut self) -> io::Result<bool> {
        let mut source = ShortReadDetector { stream: &mut self.stream, was_short: false };
        let count = self.session.read_tls(&mut source)?;
        let was_short = source.was_short;
        let was_handshaking = self.session.is_handshaking();
        let processed = self.session.process_new_packets();
        self.is_read_shut_down = processed.as_ref().is_ok_and(IoState::peer_has_closed);
        match processed {
            Ok(state) if state.plaintext_bytes_to_read() + state.tls_bytes_to_write() > 0 => {
                self.incomplete_bytes = 0;
            }
            // Complete records without plaintext count as incomplete; the maximum bounds the error.
            Ok(_) => {
                self.incomplete_bytes = INCOMPLETE_BYTES_MAX.min(self.incomplete_bytes + count);
            }
            Err(error) => {
                self.state = TlsState::Failed;
                let _ = self.write_records(); // The alert.
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
        if was_handshaking && self.session.wants_write() {
            self.cost = HANDSHAKE_COST;
        }
        match self.write_records() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {} // A writable edge follows.
            written => written?,
        }
        Ok(was_short)
    }

    /// Writes encrypted bytes; `WouldBlock` if the kernel does not take all of them.
    fn write_records(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.encrypted_bytes = self.encrypted_bytes.saturating_sub(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.encrypted_bytes = 0;
        if self.is_write_shut_down && !std::mem::replace(&mut self.is_tcp_shut_down, true) {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Encrypts plaintext if all earlier records have been written. New records that the kernel does
    /// not take wait for a writable edge.
    fn write_plaintext(
        &mut self,
        encrypt: impl FnOnce(&mut ServerConnection) -> io::Result<usize>,
    ) -> io::Result<usize> {
        // The server writes only responses, and no request can arrive before the handshake ends.
        if self.state != TlsState::Active || self.session.is_handshaking() {
            return Err(ErrorKind::NotConnected.into());
        }
        self.write_records()?;
        let count = encrypt(&mut self.session)?;
        self.encrypted_bytes = count + RECORD_OVERHEAD_BYTES;
        match self.write_records() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(count),
            written => written.map(|()| count),
        }
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.has_buffered_input = false;
        if self.state == TlsState::New {
            self.state = self.detect_protocol()?;
        }
        match self.state {
            TlsState::PlainHttp => self.discard(buffer),
            TlsState::Failed => Err(ErrorKind::InvalidData.into()),
            TlsState::New | TlsState::Active => self.read_plaintext(buffer),
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_plaintext(|session| session.writer().write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_plaintext(|session| session.writer().write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_records()
    }
}

impl Stream for TlsStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.is_write_shut_down = true;
        match self.write_records() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()), // Sent after the rest.
            written => written,
        }
    }

    fn has_buffered_input(&self) -> bool {
        self.has_buffered_input
    }

    fn has_buffered_output(&self) -> bool {
        self.session.wants_write()
    }

    fn heap_bytes(&self) -> usize {
        let buffered = self.encrypted_bytes + self.incomplete_bytes;
        allocation(size_of::<TlsStream>()) + SESSION_BYTES + buffered
    }

    fn take_cost(&mut self) -> usize {
        std::mem::take(&mut self.cost)
    }
}

/// Sends a close_notify if none was sent, so that the peer can distinguish this close from a broken
/// connection.
impl Drop for TlsStream {
    fn drop(&mut self) {
        if self.state == TlsState::Active && !self.is_write_shut_down {
            let _ = self.shutdown_write();
        }
    }
}

/// Remembers whether a read was short: rustls does not report the size of the buffer it reads into.
struct ShortReadDetector<'a> {
    stream: &'a mut TcpStream,
    was_short: bool,
}

impl Read for ShortReadDetector<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(count) => {
                    self.was_short = count < buffer.len();
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_to_plain_http_is_as_long_as_it_declares() {
        let (head, body) = PLAIN_HTTP_RESPONSE.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
