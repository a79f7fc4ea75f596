//! Listening sockets.
//!
//! Owns binding, socket options and accepting. Must not know what connections are for. The
//! invariant: an accepted socket is non-blocking, and a TCP socket has TCP_NODELAY and a bounded
//! send buffer. On Linux it inherits these two from its listener, so that accepting takes one
//! system call.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, TcpStream, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

#[cfg(feature = "tls")]
use super::identity::Identity;
use super::socket::{Accepted, Socket};
#[cfg(feature = "tls")]
use super::tls::TlsStream;

/// Completed connections that the kernel queues until they are accepted. mio's own `bind` sets 128,
/// which a wave of reconnecting clients exceeds.
const BACKLOG: i32 = 4096;

/// The kernel's send buffer of one connection. Without a bound it grows to 4 MB for a peer that does
/// not read, in addition to the outbox.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// The part of the send buffer that may hold bytes not sent yet (TCP_NOTSENT_LOWAT). It is more
/// than a fast connection takes in one tick. If a peer does not read, the kernel keeps 130 KB for it
/// instead of 560 KB. The other bytes stay in the outbox, where they are shared and counted.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

/// A listening socket.
pub enum Listener {
    /// On an IP address and port.
    Tcp(TcpListener),
    /// On an IP address and port, with TLS.
    #[cfg(feature = "tls")]
    Tls(TcpListener, Identity),
    /// On a path. A path that this process has bound is removed when the listener is dropped.
    Unix(UnixListener, Option<PathBuf>),
}

impl Listener {
    /// Binds an address. An IPv6 socket takes IPv6 only, so that `[::]` and `0.0.0.0` can be bound
    /// side by side on every system.
    pub fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
        tcp_listener(address).map(Listener::Tcp)
    }

    /// Like [`Listener::bind_tcp`], with TLS on each accepted connection.
    #[cfg(feature = "tls")]
    pub fn bind_tls(address: SocketAddr, identity: Identity) -> io::Result<Listener> {
        tcp_listener(address).map(|listener| Listener::Tls(listener, identity))
    }

    /// Sets the certificate of connections accepted from now on. No effect without TLS.
    #[cfg(feature = "tls")]
    pub fn set_identity(&mut self, identity: &Identity) {
        if let Listener::Tls(_, old) = self {
            *old = identity.clone();
        }
    }

    /// Binds a path. Replaces a socket file on which no process listens any more; any other file at
    /// that path is an error.
    pub fn bind_unix(path: &Path) -> io::Result<Listener> {
        match fs::symlink_metadata(path).map(|metadata| metadata.file_type()) {
            Ok(kind) if kind.is_socket() && is_stale_socket(path) => fs::remove_file(path)?,
            Ok(kind) if kind.is_socket() => {} // Binding fails with the right error.
            Ok(kind) => {
                let what = if kind.is_dir() { "a folder" } else { "a file that is no socket" };
                let error = format!("there is {what} at this path");
                return Err(io::Error::new(ErrorKind::AlreadyExists, error));
            }
            Err(_) => {}
        }
        let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        Ok(Listener::Unix(unix_listener(socket), Some(path.to_owned())))
    }

    /// Takes over a listening socket that another process has bound. The path of a Unix socket is
    /// not removed on drop, because that process owns it. Any other kind of socket is an error.
    #[cfg(target_os = "linux")]
    pub fn take_over(socket: OwnedFd) -> io::Result<Listener> {
        let socket = RawSocket::from(socket);
        if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
            return Err(ErrorKind::InvalidInput.into());
        }
        socket.set_nonblocking(true)?;
        if socket.domain()? == Domain::UNIX {
            return Ok(Listener::Unix(unix_listener(socket), None));
        }
        set_inherited_options(&socket)?;
        Ok(Listener::Tcp(TcpListener::from_std(socket.into())))
    }

    /// The address as the log shows it: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/path`.
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

    /// The port; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        let address = match self {
            Listener::Tcp(listener) => listener.local_addr(),
            #[cfg(feature = "tls")]
            Listener::Tls(listener, _) => listener.local_addr(),
            Listener::Unix(..) => return 0,
        };
        address.map_or(0, |address| address.port())
    }

    /// Accepts one connection; [`ErrorKind::WouldBlock`] when none is waiting.
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

    /// Registers the listener with a poll.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
            #[cfg(feature = "tls")]
            Listener::Tls(listener, _) => registry.register(listener, token, Interest::READABLE),
            Listener::Unix(listener, _) => registry.register(listener, token, Interest::READABLE),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, Some(path)) = self {
            let _ = fs::remove_file(path); // It may have been removed already.
        }
    }
}

fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = RawSocket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Without this a restarted server cannot bind while connections of the old one are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    set_inherited_options(&socket)?;
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

/// Sets the options of a listener that its accepted sockets inherit.
fn set_inherited_options(socket: &RawSocket) -> io::Result<()> {
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_tcp_nodelay(true)
}

fn unix_listener(socket: RawSocket) -> UnixListener {
    UnixListener::from_std(unix::UnixListener::from(OwnedFd::from(socket)))
}

fn is_stale_socket(path: &Path) -> bool {
    unix::UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use socket2::SockRef;

    use super::*;

    fn accept(listener: &Listener) -> Accepted {
        loop {
            match listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                accepted => return accepted.unwrap(),
            }
        }
    }

    #[test]
    fn an_accepted_socket_has_the_options_of_its_listener() {
        let listener = Listener::bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let _peer = std::net::TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
        let Accepted { socket: Socket::Tcp(mut stream), peer } = accept(&listener) else {
            panic!("a TCP listener accepts TCP")
        };
        assert_eq!(peer, Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(stream.nodelay().unwrap());
        // Linux doubles the requested size, to include its own bookkeeping.
        assert!(SockRef::from(&stream).send_buffer_size().unwrap() <= 2 * SEND_BUFFER_BYTES);
        #[cfg(target_os = "linux")]
        assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_inherited_listener_is_like_a_bound_one() {
        let inherited = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = inherited.local_addr().unwrap();
        let listener = Listener::take_over(inherited.into()).unwrap();
        assert_eq!(listener.address().unwrap(), format!("http://{address}"));
        assert_eq!(listener.accept().err().unwrap().kind(), io::ErrorKind::WouldBlock);
        let peer = std::net::TcpStream::connect(address).unwrap();
        let Accepted { socket: Socket::Tcp(stream), .. } = accept(&listener) else {
            panic!("a TCP listener accepts TCP")
        };
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).send_buffer_size().unwrap() <= 2 * SEND_BUFFER_BYTES);
        // Neither a connected socket, nor one that is only bound, nor a datagram socket is a
        // listener.
        assert!(Listener::take_over(peer.into()).is_err());
        let bound = RawSocket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        assert!(Listener::take_over(bound.into()).is_err());
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(Listener::take_over(datagrams.into()).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_buffers_little_for_a_peer_that_does_not_read() {
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
    fn only_a_stale_socket_file_is_replaced() {
        let folder = std::env::temp_dir().join(format!("chat-listener-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // Leaves the file behind.
        let listener = Listener::bind_unix(&path).unwrap();
        let _peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(accept(&listener).peer, None);
        let second = Listener::bind_unix(&path).err().map(|error| error.kind());
        assert_eq!(second, Some(io::ErrorKind::AddrInUse), "the first listener is still there");
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "another file").unwrap();
        let why = |path: &Path| Listener::bind_unix(path).err().unwrap().to_string();
        assert_eq!(why(&path), "there is a file that is no socket at this path");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another file");
        assert_eq!(why(&folder), "there is a folder at this path");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
