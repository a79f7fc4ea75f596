//! Listeners: opening them, and what is kept of each.
//!
//! Owns the listening sockets and whether connections may be waiting in them. Must not know what
//! happens to a connection after it is accepted. The invariant: a listener whose connections were
//! not all accepted stays ready, because its edge does not come again.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use log::warn;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::umask;

use super::connection::Purpose;
use super::error::StartError;
use crate::config::{Config, Listen};
use crate::net::{Identity, Listener};
use crate::process::systemd::Inherited;

/// A listener and whether connections may be waiting in it.
pub(super) struct Acceptor {
    pub listener: Listener,
    pub is_ready: bool,
    pub purpose: Purpose,
}

impl Acceptor {
    fn new(listener: Listener, purpose: Purpose) -> Acceptor {
        Acceptor { listener, is_ready: false, purpose }
    }
}

/// Takes over the inherited listeners and opens the configured ones. The default address is used
/// only if none of them is for the chat.
///
/// `identity`: the certificate of listeners with TLS.
pub(super) fn open(
    config: &Config,
    inherited: Vec<Inherited>,
    identity: Option<&Identity>,
) -> Result<Vec<Acceptor>, StartError> {
    let mut acceptors = take_over(inherited);
    let is_told = acceptors.iter().any(|acceptor| acceptor.purpose == Purpose::Chat);
    let chat: &[Listen] = if config.listen_by_default && is_told { &[] } else { &config.listen };
    let chat = chat.iter().map(|listen| match listen {
        Listen::Proxied(_) => (listen, Purpose::Proxied),
        _ => (listen, Purpose::Chat),
    });
    let metrics = config.metrics_listen.iter().map(|listen| (listen, Purpose::Metrics));
    let admin = config.admin_listen.iter().map(|listen| (listen, Purpose::Admin));
    for (listen, purpose) in chat.chain(metrics).chain(admin) {
        // No other user may connect. The mask is set before the socket is made, because a mode that is
        // set afterwards leaves a moment between.
        let mask = (purpose == Purpose::Admin).then(|| umask(Mode::RWXG | Mode::RWXO | Mode::XUSR));
        let bound = bind(listen, identity);
        mask.map(umask);
        let bound =
            bound.map_err(|error| StartError::Listen(purpose.flag(), listen.clone(), error))?;
        acceptors.extend(bound.into_iter().map(|listener| Acceptor::new(listener, purpose)));
    }
    Ok(acceptors)
}

fn take_over(inherited: Vec<Inherited>) -> Vec<Acceptor> {
    let mut acceptors = Vec::new();
    for Inherited { socket, descriptor, is_metrics } in inherited {
        let purpose = if is_metrics { Purpose::Metrics } else { Purpose::Chat };
        match Listener::take_over(socket) {
            Ok(listener) => acceptors.push(Acceptor::new(listener, purpose)),
            Err(error) => warn!("LISTEN_FDS: descriptor {descriptor} is no listener: {error}"),
        }
    }
    acceptors
}

fn bind(listen: &Listen, identity: Option<&Identity>) -> io::Result<Vec<Listener>> {
    let tcp = |address| match identity.filter(|_| listen.has_tls()) {
        #[cfg(feature = "tls")]
        Some(identity) => Listener::bind_tls(address, identity.clone()),
        _ => Listener::bind_tcp(address),
    };
    Ok(vec![match listen {
        Listen::Tcp(address) => tcp(*address)?,
        #[cfg(feature = "tls")]
        Listen::Tls(address) => tcp(*address)?,
        Listen::Localhost { port, .. } => return bind_localhost(*port, &tcp),
        Listen::Unix(path) => Listener::bind_unix(path)?,
        Listen::Proxied(listen) => return bind(listen, identity),
    }])
}

/// How often another port is tried if `localhost:0` gets one that is in use on the other address.
const PORTS_MAX: usize = 16;

/// Binds both loopback addresses with one port. An address that the machine does not have is left
/// out.
fn bind_localhost(
    port: u16,
    bind: &dyn Fn(SocketAddr) -> io::Result<Listener>,
) -> io::Result<Vec<Listener>> {
    let mut ports_left = PORTS_MAX;
    loop {
        let first = bind((Ipv4Addr::LOCALHOST, port).into());
        let shared = first.as_ref().map_or(port, Listener::port);
        let second = bind((Ipv6Addr::LOCALHOST, shared).into());
        return match (first, second) {
            (first, Err(error)) if is_absent(&error) => Ok(vec![first?]),
            (Err(error), second) if is_absent(&error) => Ok(vec![second?]),
            (Ok(first), Ok(second)) => Ok(vec![first, second]),
            (Ok(_), Err(_)) if port == 0 && ports_left > 0 => {
                ports_left -= 1;
                continue;
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
    }
}

/// Whether the machine lacks the address, or its whole family.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
}

/// Logs why accepting pauses.
pub(super) fn warn_of_pause(error: &io::Error) {
    let errno = Errno::from_io_error(error);
    if errno == Some(Errno::MFILE) || errno == Some(Errno::NFILE) {
        warn!("accepting pauses: out of descriptors");
    } else {
        warn!("accepting pauses: {error}");
    }
}
