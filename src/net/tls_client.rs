//! TLS on a connection that this server opens, on rustls.
//!
//! Owns the encrypted bytes between the kernel and the plaintext, and whom the server trusts. Must not
//! know what the plaintext means. The invariant: a read returns `WouldBlock` only when the kernel has
//! no more bytes, and a write takes plaintext only after the handshake, so that what is queued is
//! bounded.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Whom a server's certificate must come from. No other authority is trusted, and none of the
/// system's.
#[derive(Clone)]
pub struct Authority(Arc<ClientConfig>);

impl Authority {
    /// Reads the certificates of authorities, in PEM.
    pub fn read(path: &Path) -> io::Result<Authority> {
        let pem = fs::read(path)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| io::Error::other(error.to_string()))?;
            roots.add(certificate).map_err(io::Error::other)?;
        }
        if roots.is_empty() {
            return Err(io::Error::other("it has no certificate in PEM"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Authority(Arc::new(config)))
    }
}

/// A TCP stream with TLS, from the client's side.
pub struct TlsClientStream {
    stream: TcpStream,
    session: ClientConnection,
}

impl TlsClientStream {
    /// Adds TLS to a stream. The server's certificate must be valid for this address.
    pub fn new(
        stream: TcpStream,
        ip: IpAddr,
        authority: &Authority,
    ) -> io::Result<TlsClientStream> {
        let name = ServerName::IpAddress(ip.into());
        let session = ClientConnection::new(Arc::clone(&authority.0), name);
        Ok(TlsClientStream { stream, session: session.map_err(io::Error::other)? })
    }

    /// The TCP stream, to register it with a poll.
    pub fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Writes encrypted bytes; `WouldBlock` if the kernel does not take all of them.
    fn write_records(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for TlsClientStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            // At the end of the stream, the reader says so or that it was cut off.
            self.session.read_tls(&mut self.stream)?;
            let processed = self.session.process_new_packets();
            match self.write_records() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {} // A writable edge follows.
                written => written?,
            }
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }
}

impl Write for TlsClientStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_records()?;
        if self.session.is_handshaking() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.session.writer().write(bytes)?;
        match self.write_records() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(count),
            written => written.map(|()| count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_records()
    }
}
