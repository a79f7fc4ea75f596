//! Accepted sockets.
//!
//! Owns the dispatch to a transport: TCP, TLS over TCP, or Unix. Must not know what the bytes mean.
//! The invariant: every transport behaves as [`Stream`] describes.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown};
#[cfg(target_os = "linux")]
use std::time::Duration;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
#[cfg(target_os = "linux")]
use socket2::SockRef;

use super::link::Stream;
#[cfg(feature = "tls")]
use super::tls::TlsStream;

/// A socket and the address of its peer.
pub struct Accepted {
    /// The socket.
    pub socket: Socket,
    /// The peer's IP address; `None` for a Unix socket.
    pub peer: Option<IpAddr>,
}

/// An accepted socket.
pub enum Socket {
    /// From a TCP listener.
    Tcp(TcpStream),
    /// From a listener with TLS.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
    /// From a listener on a path.
    Unix(UnixStream),
}

/// Calls a method on the stream inside, whichever type it has.
macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Socket::Tcp($stream) => $call,
            #[cfg(feature = "tls")]
            Socket::Tls($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// Registers the socket with a poll, for reading and writing. The registration never changes:
    /// events are edge-triggered, and the server ignores those that it does not need, which saves
    /// system calls.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Socket::Tcp(stream) => registry.register(stream, token, both),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => registry.register(stream.tcp_mut(), token, both),
            Socket::Unix(stream) => registry.register(stream, token, both),
        }
    }

    #[cfg(feature = "tls")]
    fn tls(&self) -> Option<&TlsStream> {
        match self {
            Socket::Tls(stream) => Some(stream),
            _ => None,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(self, stream => stream.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        each!(self, stream => stream.flush())
    }
}

impl Stream for Socket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.shutdown_write(),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    #[cfg(target_os = "linux")]
    fn set_ack_timeout(&mut self, timeout: Duration) {
        let tcp = match self {
            Socket::Tcp(stream) => &*stream,
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => &*stream.tcp_mut(),
            Socket::Unix(_) => return,
        };
        // Without it, the system gives up after a quarter of an hour.
        let _ = SockRef::from(tcp).set_tcp_user_timeout(Some(timeout));
    }

    #[cfg(feature = "tls")]
    fn has_buffered_input(&self) -> bool {
        self.tls().is_some_and(TlsStream::has_buffered_input)
    }

    #[cfg(feature = "tls")]
    fn has_buffered_output(&self) -> bool {
        self.tls().is_some_and(TlsStream::has_buffered_output)
    }

    #[cfg(feature = "tls")]
    fn heap_bytes(&self) -> usize {
        self.tls().map_or(0, TlsStream::heap_bytes)
    }

    #[cfg(feature = "tls")]
    fn take_cost(&mut self) -> usize {
        match self {
            Socket::Tls(stream) => stream.take_cost(),
            _ => 0,
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn an_ack_timeout_is_set_on_tcp() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut socket = Socket::Tcp(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        for seconds in [20, 2] {
            let timeout = Duration::from_secs(seconds);
            socket.set_ack_timeout(timeout);
            let Socket::Tcp(stream) = &socket else { panic!("it is TCP") };
            assert_eq!(SockRef::from(stream).tcp_user_timeout().unwrap(), Some(timeout));
        }
        let (one, _other) = UnixStream::pair().unwrap();
        Socket::Unix(one).set_ack_timeout(Duration::from_secs(1));
    }
}
