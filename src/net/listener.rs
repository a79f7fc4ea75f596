//! Listening sockets, and what is accepted from them.
//!
//! Owns how sockets are made. Must never know what connections are for. The invariant: an
//! accepted socket is non-blocking, unbuffered (TCP_NODELAY) and has a bounded send buffer; on
//! Linux it inherits all of it, so accepting is one system call.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::link::Stream;
#[cfg(feature = "tls")]
use super::tls::{Identity, TlsStream};

/// Connections the kernel completes before we accept them. mio's own `bind` has 128, which a
/// wave of reconnecting clients overruns.
const BACKLOG: i32 = 4096;

/// The kernel's send buffer for one connection. Left alone it grows to 4 MB for a peer that
/// doesn't read; the queue that counts is the outbox.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// What of it may not have been sent yet. Of a peer that doesn't read the kernel keeps 130 KB so,
/// not 560, and more than a fast line takes in a round trip of our loop is of no use there: what
/// waits in the outbox is shared, and counted.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

/// A listening socket.
pub enum Listener {
    /// On an address and port.
    Tcp(TcpListener),
    /// The same, with TLS on what is accepted.
    #[cfg(feature = "tls")]
    Tls(TcpListener, Identity),
    /// On a path, which is removed when the listener is dropped if we have made it.
    Unix(UnixListener, Option<PathBuf>),
}

/// An accepted socket.
pub enum Socket {
    /// From a TCP listener.
    Tcp(TcpStream),
    /// From a listener with TLS.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
    /// From a Unix-domain listener.
    Unix(UnixStream),
}

/// A socket and the address of its peer; Unix-domain peers have none.
pub struct Accepted {
    /// The socket.
    pub socket: Socket,
    /// Where it comes from.
    pub peer: Option<IpAddr>,
}

impl Listener {
    /// Binds an address. IPv6 sockets take IPv6 only, so that `[::]` and `0.0.0.0` can stand
    /// side by side and an address means one thing.
    pub fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
        tcp_listener(address).map(Listener::Tcp)
    }

    /// The same, with TLS on what is accepted.
    #[cfg(feature = "tls")]
    pub fn bind_tls(address: SocketAddr, identity: Identity) -> io::Result<Listener> {
        tcp_listener(address).map(|listener| Listener::Tls(listener, identity))
    }

    /// Whoever is accepted from now on sees this certificate.
    #[cfg(feature = "tls")]
    pub fn set_identity(&mut self, identity: &Identity) {
        if let Listener::Tls(_, old) = self {
            *old = identity.clone();
        }
    }

    /// Binds a path. A socket file that nobody listens on any more is replaced; anything else
    /// that is there is left alone, and an error.
    pub fn bind_unix(path: &Path) -> io::Result<Listener> {
        use std::os::unix::fs::FileTypeExt;
        let stale = || {
            let is_socket = std::fs::symlink_metadata(path)?.file_type().is_socket();
            let refused = std::os::unix::net::UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            io::Result::Ok(is_socket && refused)
        };
        if stale().unwrap_or(false) {
            std::fs::remove_file(path)?;
        }
        let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        let socket = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
        Ok(Listener::Unix(UnixListener::from_std(socket), Some(path.to_owned())))
    }

    /// Takes over a socket that somebody else has bound and listens on, and whose path, if it has
    /// one, stays theirs.
    #[cfg(target_os = "linux")]
    pub fn take_over(socket: std::os::fd::OwnedFd) -> io::Result<Listener> {
        let socket = RawSocket::from(socket);
        if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        socket.set_nonblocking(true)?;
        if socket.domain()? == Domain::UNIX {
            let socket = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
            return Ok(Listener::Unix(UnixListener::from_std(socket), None));
        }
        bound_buffers(&socket)?;
        Ok(Listener::Tcp(TcpListener::from_std(socket.into())))
    }

    /// What to connect to, as the log and the tests want it: `http://HOST:PORT`, the same
    /// with `https`, or `unix:/path`.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Listener::Tcp(listener) => Ok(format!("http://{}", listener.local_addr()?)),
            #[cfg(feature = "tls")]
            Listener::Tls(listener, _) => Ok(format!("https://{}", listener.local_addr()?)),
            Listener::Unix(listener, _) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().unwrap_or(Path::new(""));
                Ok(format!("unix:{}", path.display()))
            }
        }
    }

    /// Accepts one connection; `WouldBlock` when there is none.
    pub fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = accept_tcp(listener)?;
                Ok(Accepted { socket: Socket::Tcp(stream), peer })
            }
            #[cfg(feature = "tls")]
            Listener::Tls(listener, identity) => {
                let (stream, peer) = accept_tcp(listener)?;
                let stream = Box::new(TlsStream::new(stream, identity)?);
                Ok(Accepted { socket: Socket::Tls(stream), peer })
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                Ok(Accepted { socket: Socket::Unix(stream), peer: None })
            }
        }
    }
}

fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = RawSocket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted server must not wait for its predecessor's TIME_WAIT connections.
    socket.set_reuse_address(true)?;
    bound_buffers(&socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn accept_tcp(listener: &TcpListener) -> io::Result<(TcpStream, Option<IpAddr>)> {
    let (stream, address) = listener.accept()?;
    #[cfg(not(target_os = "linux"))]
    stream.set_nodelay(true)?;
    Ok((stream, Some(address.ip())))
}

/// What is accepted inherits it.
fn bound_buffers(socket: &RawSocket) -> io::Result<()> {
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_tcp_nodelay(true)
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, Some(path)) = self {
            let _ = std::fs::remove_file(path); // Gone already is as good.
        }
    }
}

/// Hands a call on to whichever kind it is.
macro_rules! each {
    ($kind:ident, $self:expr, $inner:ident => $call:expr) => {
        match $self {
            $kind::Tcp($inner, ..) => $call,
            #[cfg(feature = "tls")]
            $kind::Tls($inner, ..) => $call,
            $kind::Unix($inner, ..) => $call,
        }
    };
}

macro_rules! source {
    ($kind:ident) => {
        impl Source for $kind {
            fn register(
                &mut self,
                registry: &Registry,
                token: Token,
                interests: Interest,
            ) -> io::Result<()> {
                each!($kind, self, inner => inner.register(registry, token, interests))
            }

            fn reregister(
                &mut self,
                registry: &Registry,
                token: Token,
                interests: Interest,
            ) -> io::Result<()> {
                each!($kind, self, inner => inner.reregister(registry, token, interests))
            }

            fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
                each!($kind, self, inner => inner.deregister(registry))
            }
        }
    };
}

source!(Listener);
source!(Socket);

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(Socket, self, stream => stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        each!(Socket, self, stream => stream.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(Socket, self, stream => stream.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Socket::Tls(stream) = self {
            return stream.flush();
        }
        Ok(()) // Nothing is buffered on our side of the kernel.
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

#[cfg(feature = "tls")]
impl Socket {
    fn tls(&self) -> Option<&TlsStream> {
        match self {
            Socket::Tls(stream) => Some(stream),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    fn accept(listener: &Listener) -> Accepted {
        loop {
            match listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                accepted => return accepted.unwrap(),
            }
        }
    }

    #[test]
    fn what_is_accepted_is_nonblocking_unbuffered_and_bounded() {
        let listener = Listener::bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let _peer = std::net::TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
        let Accepted { socket: Socket::Tcp(mut stream), peer } = accept(&listener) else {
            panic!("a TCP listener accepts TCP")
        };
        assert_eq!(peer, Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(stream.nodelay().unwrap());
        // Linux reports twice what was asked for, to account for its own bookkeeping.
        assert!(SockRef::from(&stream).send_buffer_size().unwrap() <= 2 * SEND_BUFFER_BYTES);
        #[cfg(target_os = "linux")]
        assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_taken_over_is_as_what_is_bound() {
        let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = theirs.local_addr().unwrap();
        let listener = Listener::take_over(theirs.into()).unwrap();
        assert_eq!(listener.address().unwrap(), format!("http://{address}"));
        assert_eq!(listener.accept().err().unwrap().kind(), io::ErrorKind::WouldBlock);
        let peer = std::net::TcpStream::connect(address).unwrap();
        let Accepted { socket: Socket::Tcp(stream), .. } = accept(&listener) else {
            panic!("a TCP listener accepts TCP")
        };
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).send_buffer_size().unwrap() <= 2 * SEND_BUFFER_BYTES);
        // Neither what is connected nor what is only bound is a listener.
        assert!(Listener::take_over(peer.into()).is_err());
        let bound = RawSocket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        assert!(Listener::take_over(bound.into()).is_err());
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(Listener::take_over(datagrams.into()).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn of_a_peer_that_does_not_read_the_kernel_keeps_little() {
        let listener = Listener::bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address: SocketAddr =
            listener.address().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        let peer = RawSocket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        peer.set_recv_buffer_size(32 * 1024).unwrap();
        peer.connect(&address.into()).unwrap();
        let mut socket = accept(&listener).socket;
        let mut taken = 0;
        while let Ok(count) = socket.write(&[0; 1024]) {
            taken += count;
        }
        assert!(taken <= 192 * 1024, "{taken} bytes");
    }

    #[test]
    fn only_a_socket_file_that_nobody_listens_on_is_replaced() {
        let folder = std::env::temp_dir().join(format!("chat-listener-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // Leaves the file behind.
        let listener = Listener::bind_unix(&path).unwrap();
        let _peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(accept(&listener).peer, None);
        let second = Listener::bind_unix(&path).err().map(|error| error.kind());
        assert_eq!(second, Some(io::ErrorKind::AddrInUse), "somebody listens");
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "a file of somebody's").unwrap();
        assert!(Listener::bind_unix(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file of somebody's");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
