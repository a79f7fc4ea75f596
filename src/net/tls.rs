//! TLS over a TCP stream, as rustls does it, without I/O of its own.
//!
//! Owns the certificate with its key, and what lies between the kernel's bytes and those that are
//! meant. Must never know what these say. The invariant: a read that gives less than it may has
//! emptied the kernel's buffer and rustls's own, or [`Stream::has_buffered_input`] says that it has not;
//! what was written and has not left waits for the writable edge, and [`Stream::has_buffered_output`]
//! says so. Whoever breaks this strands bytes.
//!
//! Time and randomness for handshakes and tickets rustls gets from the system itself.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{IoState, ServerConfig, ServerConnection};

use super::link::Stream;
use crate::ledger::allocation;

/// What may be encrypted and not have left: a record. More would be copies of what the outbox
/// shares with others.
const SEALED_BYTES_MAX: usize = 16 * 1024;

/// What a record adds to what it holds, at most: a header, a type, a tag and, before TLS 1.3, an
/// explicit nonce.
const RECORD_OVERHEAD: usize = 5 + 1 + 16 + 8;

/// Reads from the kernel for one read of ours. Most give something; but of records that hold
/// nothing there could be any number.
const READS_MAX: usize = 8;

/// What of a message that is not whole may have arrived: rustls gathers no longer ones, which only
/// a handshake has.
const PARTIAL_BYTES_MAX: usize = 64 * 1024;

/// What rustls keeps of a connection beside what is under way: its read buffer, which it never
/// gives back, and the keys and names of the session.
const SESSION_BYTES: usize = allocation(4096) + 2048;

/// What a handshake costs, in bytes read: half of the 150 microseconds that it takes with a key on
/// P-256, or whoever has just come would be greedy for it. With an RSA key it takes far longer.
const HANDSHAKE_COST: usize = 8 * 1024;

/// For whoever speaks HTTP where TLS is spoken.
const STRANGERS_ANSWER: &str = "HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 49\r\n\
    Connection: close\r\n\r\n\
    This port speaks TLS: ask for https:// or wss://\n";

/// A certificate with its key, for any number of connections. Cheap to clone.
#[derive(Clone)]
pub struct Identity(Arc<ServerConfig>);

/// Why a certificate can't be used.
#[derive(Debug)]
pub enum IdentityError {
    /// There is no such file, or not for us.
    Unreadable(PathBuf, io::Error),
    /// The file has no certificate in it.
    NoCertificate(PathBuf),
    /// The file has no key in it.
    NoKey(PathBuf),
    /// They don't belong together, or are of a kind that nobody speaks.
    Unfit(rustls::Error),
}

impl Identity {
    /// Reads a certificate, with those that lead to its authority, and its key. Both files are
    /// PEM, and may be the same.
    pub fn read(certificate: &Path, key: &Path) -> Result<Identity, IdentityError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| IdentityError::Unreadable(path.to_owned(), error))
        };
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<_, _>>();
        let chain: Vec<_> = chain.unwrap_or_default();
        if chain.is_empty() {
            return Err(IdentityError::NoCertificate(certificate.to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|_| IdentityError::NoKey(key.to_owned()))?;
        Identity::new(chain, key).map_err(IdentityError::Unfit)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Identity, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Who comes back brings all that is to be known in its ticket: nothing is kept here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Identity(Arc::new(config)))
    }
}

impl fmt::Display for IdentityError {
    // `{:?}` on paths, so that the line stays one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Unreadable(path, error) => write!(f, "{path:?}: {error}"),
            IdentityError::NoCertificate(path) => write!(f, "{path:?} has no certificate in PEM"),
            IdentityError::NoKey(path) => write!(f, "{path:?} has no private key in PEM"),
            IdentityError::Unfit(rustls::Error::InconsistentKeys(_)) => {
                write!(f, "the key is not the certificate's")
            }
            IdentityError::Unfit(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for IdentityError {}

/// A TCP stream with TLS on it.
pub struct TlsStream {
    stream: TcpStream,
    session: ServerConnection,
    stage: Stage,
    /// More can be read, though no edge will tell.
    has_buffered_input: bool,
    /// The peer has ended its direction, by a close_notify; that may not have been read yet.
    read_over: bool,
    /// Our direction has ended, and the stream's does when all has left.
    write_over: bool,
    shut: bool,
    /// Bytes encrypted that have not left, about.
    sealed: usize,
    /// Bytes of a record or a message that is not whole, about.
    partial: usize,
    cost: usize,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing has been read yet.
    Fresh,
    /// Shaking hands, or past it.
    Tls,
    /// The peer doesn't speak TLS, and was told: whatever it says is thrown away.
    Stranger,
    /// The peer has broken the protocol, and was told.
    Broken,
}

impl TlsStream {
    /// On a stream that was just accepted.
    pub fn new(stream: TcpStream, identity: &Identity) -> io::Result<TlsStream> {
        let session = ServerConnection::new(Arc::clone(&identity.0)).map_err(io::Error::other)?;
        let mut stream = TlsStream {
            stream,
            session,
            stage: Stage::Fresh,
            has_buffered_input: false,
            read_over: false,
            write_over: false,
            shut: false,
            sealed: 0,
            partial: 0,
            cost: 0,
        };
        stream.session.set_buffer_limit(Some(SEALED_BYTES_MAX));
        Ok(stream)
    }

    /// Looks at the first byte. A method begins with a letter, a handshake never does.
    fn judge(&mut self) -> io::Result<Stage> {
        let mut first = [0];
        let count = self.stream.peek(&mut first)?;
        if count == 0 || !first[0].is_ascii_uppercase() {
            return Ok(Stage::Tls);
        }
        // Nothing was sent before: there is room for so little.
        let _ = self.stream.write(STRANGERS_ANSWER.as_bytes());
        let _ = self.stream.shutdown(Shutdown::Write);
        Ok(Stage::Stranger)
    }

    /// Throws away what a stranger goes on to say, lest a reset destroy our answer. The timer
    /// that waits for a request ends it.
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

    /// Reads what is meant, until the buffer is full or the kernel has no more.
    fn open(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut count, mut was_short) = (0, false);
        for _ in 0..READS_MAX {
            match self.session.reader().read(&mut buffer[count..]) {
                Ok(more) if more > 0 => count += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                end => return self.after(count, end),
            }
            if count == buffer.len() {
                return self.after(count, Ok(0));
            }
            // A short read has emptied the kernel's buffer, as everywhere; unless it brought
            // nothing, when nobody would come back for the end behind it.
            if was_short && count > 0 {
                self.has_buffered_input = self.read_over;
                return Ok(count);
            }
            match self.receive() {
                Ok(is_short) => was_short = is_short,
                Err(error) if error.kind() == ErrorKind::WouldBlock && count > 0 => {
                    self.has_buffered_input = self.read_over;
                    return Ok(count);
                }
                Err(error) => return self.after(count, Err(error)),
            }
        }
        self.has_buffered_input = true;
        if count > 0 { Ok(count) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    /// What comes after `count` bytes waits for the next read, if there are any.
    fn after(&mut self, count: usize, then: io::Result<usize>) -> io::Result<usize> {
        if count == 0 {
            return then;
        }
        self.has_buffered_input = true;
        Ok(count)
    }

    /// Reads once from the kernel, and answers what belongs to TLS itself. Whether the kernel had
    /// less than there was room for.
    fn receive(&mut self) -> io::Result<bool> {
        let mut gauge = Gauge { stream: &mut self.stream, was_short: false };
        let count = self.session.read_tls(&mut gauge)?;
        let was_short = gauge.was_short;
        let was_handshaking = self.session.is_handshaking();
        let processed = self.session.process_new_packets();
        self.read_over = processed.as_ref().is_ok_and(IoState::peer_has_closed);
        match processed {
            Ok(state) if state.plaintext_bytes_to_read() + state.tls_bytes_to_write() > 0 => {
                self.partial = 0;
            }
            // What is whole and says nothing is counted with it; there is an end to that.
            Ok(_) => self.partial = PARTIAL_BYTES_MAX.min(self.partial + count),
            Err(error) => {
                self.stage = Stage::Broken;
                let _ = self.send(); // Why, as an alert.
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
        if was_handshaking && self.session.wants_write() {
            self.cost = HANDSHAKE_COST;
        }
        match self.send() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {} // The writable edge will tell.
            sent => sent?,
        }
        Ok(was_short)
    }

    /// Writes what is encrypted; `WouldBlock` if some of it has to wait.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sealed = self.sealed.saturating_sub(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sealed = 0;
        if self.write_over && !std::mem::replace(&mut self.shut, true) {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Takes bytes in by `seal` if those taken in before have left. What the kernel does not take
    /// at once waits for the writable edge.
    fn write_by(
        &mut self,
        seal: impl FnOnce(&mut ServerConnection) -> io::Result<usize>,
    ) -> io::Result<usize> {
        // Nobody says anything before it was asked something, and no question comes before the
        // handshake is over.
        if self.stage != Stage::Tls || self.session.is_handshaking() {
            return Err(ErrorKind::NotConnected.into());
        }
        self.send()?;
        let count = seal(&mut self.session)?;
        self.sealed = count + RECORD_OVERHEAD;
        match self.send() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(count),
            sent => sent.map(|()| count),
        }
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.has_buffered_input = false;
        if self.stage == Stage::Fresh {
            self.stage = self.judge()?;
        }
        match self.stage {
            Stage::Stranger => self.discard(buffer),
            Stage::Broken => Err(ErrorKind::InvalidData.into()),
            Stage::Fresh | Stage::Tls => self.open(buffer),
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_by(|session| session.writer().write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_by(|session| session.writer().write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Stream for TlsStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.write_over = true;
        match self.send() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()), // It follows the rest.
            sent => sent,
        }
    }

    fn has_buffered_input(&self) -> bool {
        self.has_buffered_input
    }

    fn has_buffered_output(&self) -> bool {
        self.session.wants_write()
    }

    fn heap_bytes(&self) -> usize {
        allocation(size_of::<TlsStream>()) + SESSION_BYTES + self.sealed + self.partial
    }

    fn take_cost(&mut self) -> usize {
        std::mem::take(&mut self.cost)
    }
}

/// Whoever is dropped without having ended its direction is let go by us, not by a broken line.
impl Drop for TlsStream {
    fn drop(&mut self) {
        if self.stage == Stage::Tls && !self.write_over {
            let _ = self.shutdown_write();
        }
    }
}

impl Source for TlsStream {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.stream.register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.stream.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream.deregister(registry)
    }
}

/// Notes whether a read gave less than there was room for, since rustls doesn't say how much that is.
struct Gauge<'a> {
    stream: &'a mut TcpStream,
    was_short: bool,
}

impl Read for Gauge<'_> {
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
    fn the_answer_for_strangers_is_as_long_as_it_says() {
        let (head, body) = STRANGERS_ANSWER.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
