//! A connection that this server opens.
//!
//! Owns connecting without blocking, and the dispatch to a transport: TCP, TLS over TCP, or Unix. Must
//! not know what the bytes mean. The invariant: no call blocks; a writable edge says that a connection
//! is established or has failed, and [`OutboundSocket::finish_connecting`] tells which.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

#[cfg(feature = "tls")]
use super::tls_client::{Authority, TlsClientStream};

/// Without the feature `tls` no authority can exist.
#[cfg(not(feature = "tls"))]
pub use std::convert::Infallible as Authority;

/// A socket to a server.
pub enum OutboundSocket {
    /// Over TCP.
    Tcp(TcpStream),
    /// The same with TLS.
    #[cfg(feature = "tls")]
    Tls(Box<TlsClientStream>),
    /// To a path.
    Unix(UnixStream),
}

impl OutboundSocket {
    /// Begins to connect to an address; with TLS if there is an authority.
    pub fn connect_tcp(
        address: SocketAddr,
        authority: Option<&Authority>,
    ) -> io::Result<OutboundSocket> {
        let stream = TcpStream::connect(address)?;
        match authority {
            #[cfg(feature = "tls")]
            Some(authority) => {
                let stream = TlsClientStream::new(stream, address.ip(), authority)?;
                Ok(OutboundSocket::Tls(Box::new(stream)))
            }
            #[cfg(not(feature = "tls"))]
            Some(never) => match *never {},
            None => Ok(OutboundSocket::Tcp(stream)),
        }
    }

    /// Begins to connect to a path.
    pub fn connect_unix(path: &Path) -> io::Result<OutboundSocket> {
        UnixStream::connect(path).map(OutboundSocket::Unix)
    }

    /// Registers the socket with a poll, for reading and writing.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            OutboundSocket::Tcp(stream) => registry.register(stream, token, both),
            #[cfg(feature = "tls")]
            OutboundSocket::Tls(stream) => registry.register(stream.tcp_mut(), token, both),
            OutboundSocket::Unix(stream) => registry.register(stream, token, both),
        }
    }

    /// Whether events tell that a Unix socket can be written to. Otherwise its peer causes one whenever
    /// it has read something. TCP has no such events unless a write has failed.
    pub fn set_writable_events(
        &mut self,
        registry: &Registry,
        token: Token,
        is_on: bool,
    ) -> io::Result<()> {
        let OutboundSocket::Unix(stream) = self else { return Ok(()) };
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.reregister(stream, token, if is_on { both } else { Interest::READABLE })
    }

    /// Whether the connection is established: the address of the peer is known then (connect(2)). An
    /// error: it has failed.
    pub fn finish_connecting(&mut self) -> io::Result<bool> {
        let (error, peer) = match self {
            OutboundSocket::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            #[cfg(feature = "tls")]
            OutboundSocket::Tls(stream) => {
                let stream = stream.tcp_mut();
                (stream.take_error()?, stream.peer_addr().map(drop))
            }
            OutboundSocket::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
        };
        if let Some(error) = error {
            return Err(error);
        }
        match peer {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(error),
        }
        match self {
            // A command must not wait for the acknowledgement of the one before.
            OutboundSocket::Tcp(stream) => stream.set_nodelay(true)?,
            #[cfg(feature = "tls")]
            OutboundSocket::Tls(stream) => stream.tcp_mut().set_nodelay(true)?,
            OutboundSocket::Unix(_) => {}
        }
        Ok(true)
    }
}

impl Read for OutboundSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            OutboundSocket::Tcp(stream) => stream.read(buffer),
            #[cfg(feature = "tls")]
            OutboundSocket::Tls(stream) => stream.read(buffer),
            OutboundSocket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for OutboundSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            OutboundSocket::Tcp(stream) => stream.write(bytes),
            #[cfg(feature = "tls")]
            OutboundSocket::Tls(stream) => stream.write(bytes),
            OutboundSocket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            OutboundSocket::Tcp(stream) => stream.flush(),
            #[cfg(feature = "tls")]
            OutboundSocket::Tls(stream) => stream.flush(),
            OutboundSocket::Unix(stream) => stream.flush(),
        }
    }
}
