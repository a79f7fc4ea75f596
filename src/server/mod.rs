//! The loop, the one room that knows all others.
//!
//! Owns the poll, the listeners and the signals, and turns what they report into calls on
//! [`Core`]. Must never handle a byte itself. The invariant: whoever stops before the kernel says
//! `WouldBlock` is remembered, because an edge comes once; and while anybody is remembered the
//! poll does not wait.
//!
//! | file | what it owns |
//! |---|---|
//! | `core` | the phases of a tick, over any stream |
//! | `dispatch` | one connection's input on its way to the domain |
//! | `connection`, `connections` | what is kept of each, and of all |
//! | `batch`, `sink` | what rooms say, on its way to connections |
//! | `paging` | history, on its way to those who catch up |
//! | `certificate` | when the certificate is read (feature `tls`) |
//! | `settings` | the flags, sorted by room |
//! | `machine` | what the system grants |
//! | `shedding` | who gives way when memory is short |
//! | `shutdown` | signals, and how it all ends |
//! | `systemd` | sockets that are handed over, and what a supervisor is told |

mod batch;
#[cfg(feature = "tls")]
mod certificate;
mod connection;
mod connections;
mod core;
mod dispatch;
mod machine;
mod paging;
mod settings;
mod shedding;
mod shutdown;
mod sink;
mod systemd;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use log::{info, warn};
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;

pub use connection::{ConnectionKey, Purpose};
pub use core::Core;
pub use machine::report;
pub use shutdown::Ending;

use crate::clock::{Clock, Mono, Now, OsEntropy};
use crate::config::{Config, Listen};
use crate::journal;
use crate::ledger::Ledger;
use crate::net::{Accepted, Identity, Listener, Socket};
use crate::snapshot::{self, SnapshotError};
use shutdown::Signals;
use systemd::Supervisor;

/// Events taken from one poll. More stay with the kernel for the next.
const EVENTS_MAX: usize = 1024;

/// Connections accepted from one listener in one tick.
const ACCEPTS_MAX: usize = 16;

/// How long accepting rests when descriptors or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// A connection's token is its slot's index; these are far above any.
const SIGNALS: Token = Token(usize::MAX - 1);
const LISTENERS: usize = usize::MAX - 2;

/// The server.
pub struct Server {
    poll: Poll,
    clock: Clock,
    listeners: Vec<Acceptor>,
    signals: Signals,
    supervisor: Supervisor,
    core: Core<Socket>,
    /// When accepting resumes that had to rest.
    accept_pause: Option<Mono>,
    /// Accepting had to rest the last time, which was logged.
    is_short: bool,
    ending: Option<Ending>,
    /// Where what a restart is not to lose is to lie.
    state: Option<PathBuf>,
    /// For what is read again.
    #[cfg(feature = "tls")]
    config: Config,
}

/// A listener and whether connections may be waiting in it.
struct Acceptor {
    listener: Listener,
    ready: bool,
    purpose: Purpose,
}

/// The machine won't have it.
#[derive(Debug)]
pub enum StartError {
    /// An address can't be listened on.
    Listen(Listen, io::Error),
    /// The certificate or its key is no good.
    #[cfg(feature = "tls")]
    Tls(crate::net::IdentityError),
    /// No poll, no signals.
    Poll(io::Error),
    /// No randomness.
    Entropy(io::Error),
}

impl Server {
    /// Listens. When this returns, connections are accepted by the kernel.
    pub fn new(config: &Config) -> Result<Server, StartError> {
        // First of all: until something is opened, what lies where sockets are handed over is one.
        let mut acceptors = systemd::acceptors();
        machine::forbid_core_dumps();
        let mut clock = Clock::new();
        let now = clock.read();
        let poll = Poll::new().map_err(StartError::Poll)?;
        let signals = Signals::new(poll.registry(), SIGNALS).map_err(StartError::Poll)?;
        #[cfg(feature = "tls")]
        let identity = certificate::read(config)?;
        #[cfg(feature = "tls")]
        if identity.is_some() {
            signals.add_hangup().map_err(StartError::Poll)?;
        }
        #[cfg(not(feature = "tls"))]
        let identity = None;
        listen(config, identity.as_ref(), &mut acceptors)?;
        let connections_max = machine::connections_max(config, acceptors.len());
        for (place, acceptor) in acceptors.iter_mut().enumerate() {
            let (listener, token) = (&mut acceptor.listener, Token(LISTENERS - place));
            let registered = poll.registry().register(listener, token, Interest::READABLE);
            registered.map_err(StartError::Poll)?;
        }
        // When nothing can go wrong any more: with the file goes what is in it.
        let (core, state) = restored(config, connections_max, now)?;
        for acceptor in &acceptors {
            // Said whatever the log's level: with port 0 nobody else knows.
            journal::say(&format!(
                "listening on {}",
                acceptor.listener.address().unwrap_or_default()
            ));
        }
        info!(
            "started: version {}, at most {connections_max} connections",
            env!("CARGO_PKG_VERSION")
        );
        Ok(Server {
            poll,
            clock,
            listeners: acceptors,
            signals,
            supervisor: Supervisor::ready(now.mono),
            core,
            accept_pause: None,
            is_short: false,
            ending: None,
            state,
            #[cfg(feature = "tls")]
            config: config.clone(),
        })
    }

    /// Turns the loop until a signal, or an error of the poll, ends it.
    pub fn run(mut self) -> io::Result<Ending> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut now = self.clock.read();
        loop {
            if let Some(ending) = self.poll_ending(now.mono) {
                info!("stopped: {ending}");
                return Ok(ending);
            }
            match self.poll.poll(&mut events, self.timeout(now.mono)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                polled => polled?,
            }
            now = self.clock.read();
            self.supervisor.on_time(now.mono);
            self.tick(now, &events);
            let end = self.clock.read().mono;
            self.core.on_tick_over(end.since(now.mono));
        }
    }

    fn tick(&mut self, now: Now, events: &Events) {
        self.core.begin(now);
        for event in events {
            let Token(token) = event.token();
            if event.token() == SIGNALS {
                self.on_signals(now.mono);
            } else if let Some(acceptor) = self.listeners.get_mut(LISTENERS - token) {
                acceptor.ready = true;
            } else if let Some(key) = self.core.key_at(token) {
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.core.on_readable(key, event.is_read_closed() || event.is_error());
                }
                if event.is_writable() {
                    self.core.on_writable(key);
                }
            }
        }
        self.accept(now.mono);
        self.core.tick();
    }

    #[inline(never)]
    fn accept(&mut self, now: Mono) {
        if self.accept_pause.is_some_and(|resume| resume <= now) {
            self.accept_pause = None;
        }
        for acceptor in &mut self.listeners {
            let mut budget = ACCEPTS_MAX;
            while acceptor.ready
                && budget > 0
                && self.accept_pause.is_none()
                && self.core.has_room(acceptor.purpose)
            {
                budget -= 1;
                match acceptor.listener.accept() {
                    Ok(Accepted { socket, peer }) => {
                        self.is_short = false;
                        let accepted = self.core.accept(socket, peer, acceptor.purpose);
                        let Some(key) = accepted else { continue };
                        let token = Token(key.index());
                        let Some(socket) = self.core.stream_mut(key) else { continue };
                        // Once for both: no further call however often it changes its mind.
                        let interest = Interest::READABLE | Interest::WRITABLE;
                        if self.poll.registry().register(socket, token, interest).is_err() {
                            self.core.on_lost(key);
                        }
                    }
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => acceptor.ready = false,
                        // Gone before we came to it.
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                        _ => {
                            self.accept_pause = Some(now.after(ACCEPT_PAUSE));
                            self.core.on_accept_pause();
                            if !std::mem::replace(&mut self.is_short, true) {
                                warn_of_pause(&error);
                            }
                        }
                    },
                }
            }
        }
    }

    /// How long the poll may wait: until the next deadline, or not at all.
    fn timeout(&self, now: Mono) -> Option<Duration> {
        let mut acceptable = self.listeners.iter().filter(|one| self.core.has_room(one.purpose));
        let accepting = self.accept_pause.is_none() && acceptable.any(|one| one.ready);
        if self.core.has_work() || accepting {
            return Some(Duration::ZERO);
        }
        let ending = self.ending.and_then(|ending| ending.deadline);
        let watchdog = self.supervisor.next_deadline();
        let deadlines = [self.core.next_deadline(), self.accept_pause, ending, watchdog];
        deadlines.into_iter().flatten().min().map(|deadline| deadline.since(now))
    }
}

/// Adds to what is handed over those that flags and variables name. The default is for when nobody
/// has said where to listen, in whichever way.
fn listen(
    config: &Config,
    identity: Option<&Identity>,
    acceptors: &mut Vec<Acceptor>,
) -> Result<(), StartError> {
    let is_told = acceptors.iter().any(|acceptor| acceptor.purpose == Purpose::Chat);
    let chat: &[Listen] = if config.listen_by_default && is_told { &[] } else { &config.listen };
    let chat = chat.iter().map(|listen| match listen {
        Listen::Proxied(_) => (listen, Purpose::Proxied),
        _ => (listen, Purpose::Chat),
    });
    let metrics = config.metrics_listen.iter().map(|listen| (listen, Purpose::Metrics));
    for (listen, purpose) in chat.chain(metrics) {
        let listener = bind(listen, identity);
        let listener = listener.map_err(|error| StartError::Listen(listen.clone(), error))?;
        acceptors.push(Acceptor::new(listener, purpose));
    }
    Ok(())
}

/// `identity`: what TLS shows, if anything does.
fn bind(listen: &Listen, identity: Option<&Identity>) -> io::Result<Listener> {
    match (listen, identity) {
        (Listen::Tcp(address), _) => Listener::bind_tcp(*address),
        #[cfg(feature = "tls")]
        (Listen::Tls(address), Some(identity)) => Listener::bind_tls(*address, identity.clone()),
        #[cfg(unix)]
        (Listen::Unix(path), _) => Listener::bind_unix(path),
        (Listen::Proxied(listen), _) => bind(listen, identity),
        #[cfg(any(feature = "tls", not(unix)))]
        _ => Err(ErrorKind::Unsupported.into()),
    }
}

impl Acceptor {
    fn new(listener: Listener, purpose: Purpose) -> Acceptor {
        Acceptor { listener, ready: false, purpose }
    }
}

/// Nobody connected, nothing said.
fn new_core(config: &Config, connections_max: usize, now: Now) -> Result<Core<Socket>, StartError> {
    let entropy = OsEntropy::new().map_err(StartError::Entropy)?;
    let ledger = Ledger::with_ceiling(config.memory_bytes_max);
    let mut core = Core::new(config, connections_max, Box::new(entropy), &ledger);
    core.begin(now);
    #[cfg(debug_assertions)]
    if let Ok(word) = std::env::var("CHAT_TEST_FAULT") {
        core.plant_fault(word);
    }
    Ok(core)
}

/// As another process has left it in `--state`; and where this one is to leave it.
fn restored(
    config: &Config,
    connections_max: usize,
    now: Now,
) -> Result<(Core<Socket>, Option<PathBuf>), StartError> {
    let mut core = new_core(config, connections_max, now)?;
    let Some(path) = &config.state else { return Ok((core, None)) };
    match core.restore(|take| snapshot::read(path, take)) {
        Ok(is_there) => {
            if is_there {
                info!("sessions and rooms are as they were");
            }
            Ok((core, Some(path.clone())))
        }
        Err(refused) => {
            warn!("--state {}: {refused}; nothing is kept of it", path.display());
            // Nor is what is somebody else's replaced.
            let is_ours = !matches!(refused, SnapshotError::Foreign);
            Ok((new_core(config, connections_max, now)?, is_ours.then(|| path.clone())))
        }
    }
}

fn warn_of_pause(error: &io::Error) {
    let errno = Errno::from_io_error(error);
    if errno == Some(Errno::MFILE) || errno == Some(Errno::NFILE) {
        warn!("accepting pauses: out of descriptors");
    } else {
        warn!("accepting pauses: {error}");
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(listen, error) => write!(f, "cannot listen on {listen}: {error}"),
            #[cfg(feature = "tls")]
            StartError::Tls(error) => write!(f, "cannot use the certificate: {error}"),
            StartError::Poll(error) => write!(f, "cannot poll: {error}"),
            StartError::Entropy(error) => write!(f, "the system has no randomness: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
