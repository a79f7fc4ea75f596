//! The event loop, which ties the other modules together.
//!
//! Owns the poll, the listeners and the signals, and turns what they report into calls on [`Core`].
//! Must not handle a byte itself. The invariant: a read or an accept that stops before `WouldBlock`
//! is remembered, because an edge-triggered poll reports readiness once; and the poll does not wait
//! while remembered work can proceed. (Accepting cannot proceed during a pause or at capacity, and
//! reading cannot while the connection's input is paused or buffered.)
//!
//! | file | what it owns |
//! |---|---|
//! | [`core`] | the phases of a tick, over any stream |
//! | [`schedule`] | the order of turns, and how much a turn may cost |
//! | [`table`], [`connection`] | all connections, and what is kept of each |
//! | [`admission`] | which connections are let in, and how the others are refused |
//! | [`input`] | one connection's turn: reading, and what a panic costs |
//! | [`leftovers`] | messages queued for connections outside their room |
//! | [`silence`] | what an expired timer means, and which peer is silent |
//! | [`listening`] | whether all that has arrived was read |
//! | [`streaming`] | responses whose content is made while the peer reads it |
//! | [`http`], [`ws`] | one connection's input through its protocol into the domain |
//! | [`domain`] | what decides: the domain of this server, or the store of a cluster |
//! | `held_replies` | replies behind messages that the store has not accepted yet (feature `cluster`) |
//! | [`parked`], [`delay`] | requests that wait for an outcome of later |
//! | [`operators`] | the listeners for operators, and sending announcements |
//! | [`announcements`] | announcements on their way to all connections |
//! | [`sink`], [`coalesce`] | the domain's output on its way to connections; room batches |
//! | [`event_stream`] | events as the content of a response |
//! | [`outgoing`], [`flush`] | what is queued and not written yet; writing it |
//! | [`shedding`] | which connections are closed when memory is short |
//! | [`settings`] | the flags, translated for each module |
//! | [`listeners`], [`error`] | listeners, and why the server cannot start |
//! | [`node`] | this server's part in a cluster, from its settings (feature `cluster`) |
//! | [`store`] | the stream to the cluster's store (feature `cluster`) |
//! | [`shutdown`] | when the process ends after a signal, and its exit code |
//!
//! [`core`]: ../../src/disposable_chat/server/core.rs.html
//! [`schedule`]: ../../src/disposable_chat/server/schedule.rs.html
//! [`table`]: ../../src/disposable_chat/server/table.rs.html
//! [`connection`]: ../../src/disposable_chat/server/connection.rs.html
//! [`admission`]: ../../src/disposable_chat/server/admission.rs.html
//! [`input`]: ../../src/disposable_chat/server/input.rs.html
//! [`http`]: ../../src/disposable_chat/server/http.rs.html
//! [`leftovers`]: ../../src/disposable_chat/server/leftovers.rs.html
//! [`streaming`]: ../../src/disposable_chat/server/streaming.rs.html
//! [`ws`]: ../../src/disposable_chat/server/ws.rs.html
//! [`sink`]: ../../src/disposable_chat/server/sink.rs.html
//! [`coalesce`]: ../../src/disposable_chat/server/coalesce.rs.html
//! [`event_stream`]: ../../src/disposable_chat/server/event_stream.rs.html
//! [`announcements`]: ../../src/disposable_chat/server/announcements.rs.html
//! [`parked`]: ../../src/disposable_chat/server/parked.rs.html
//! [`domain`]: ../../src/disposable_chat/server/domain.rs.html
//! [`delay`]: ../../src/disposable_chat/server/delay.rs.html
//! [`operators`]: ../../src/disposable_chat/server/operators.rs.html
//! [`outgoing`]: ../../src/disposable_chat/server/outgoing.rs.html
//! [`flush`]: ../../src/disposable_chat/server/flush.rs.html
//! [`shedding`]: ../../src/disposable_chat/server/shedding.rs.html
//! [`settings`]: ../../src/disposable_chat/server/settings.rs.html
//! [`listening`]: ../../src/disposable_chat/server/listening.rs.html
//! [`listeners`]: ../../src/disposable_chat/server/listeners.rs.html
//! [`error`]: ../../src/disposable_chat/server/error.rs.html
//! [`silence`]: ../../src/disposable_chat/server/silence.rs.html
//! [`node`]: ../../src/disposable_chat/server/node.rs.html
//! [`store`]: ../../src/disposable_chat/server/store.rs.html
//! [`shutdown`]: ../../src/disposable_chat/server/shutdown.rs.html

mod admission;
mod announcements;
mod coalesce;
mod connection;
mod core;
#[cfg(debug_assertions)]
mod delay;
mod domain;
mod error;
mod event_stream;
mod flush;
#[cfg(feature = "cluster")]
mod held_replies;
mod http;
mod input;
mod leftovers;
mod listeners;
mod listening;
#[cfg(feature = "cluster")]
mod node;
mod operators;
mod outgoing;
#[cfg(any(debug_assertions, feature = "cluster"))]
mod parked;
mod schedule;
mod settings;
mod shedding;
mod shutdown;
mod silence;
mod sink;
#[cfg(feature = "cluster")]
mod store;
mod streaming;
mod table;
mod ws;

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use log::{error, info, warn};
use mio::{Events, Poll, Token};

pub use connection::{ConnectionKey, Purpose};
pub use core::Core;
pub use error::StartError;
#[cfg(feature = "cluster")]
pub use node::cluster_node;
pub use shutdown::Ending;

use crate::api;
use crate::clock::{Clock, Mono, Now, OsEntropy};
use crate::config::Config;
use crate::journal;
use crate::ledger::Ledger;
use crate::net::{Accepted, Socket};
#[cfg(feature = "tls")]
use crate::process::certificate;
use crate::process::machine;
use crate::process::resident::{Resident, ResidentGauge};
use crate::process::signals::{SignalAction, Signals};
use crate::process::systemd::{self, Supervisor};
use crate::snapshot::{self, Pass};
use listeners::Acceptor;
#[cfg(feature = "cluster")]
use store::StoreStream;

/// Events taken from one poll. More stay with the kernel for the next.
const EVENTS_MAX: usize = 1024;

/// How long accepting pauses when descriptors or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// A connection's token is the index of its slot. These tokens count down from the end of the range,
/// which no index reaches.
const SIGNALS: Token = Token(usize::MAX - 1);
#[cfg(feature = "cluster")]
const STORE: Token = Token(usize::MAX - 2);
const LISTENERS: usize = usize::MAX - 3;

/// The server.
pub struct Server {
    poll: Poll,
    clock: Clock,
    acceptors: Vec<Acceptor>,
    signals: Signals,
    supervisor: Supervisor,
    resident: ResidentGauge,
    core: Core<Socket>,
    /// Until when accepting pauses.
    accept_pause: Option<Mono>,
    /// Set while accepting fails, so that the warning is logged once and not after every pause.
    is_exhausted: bool,
    ending: Option<Ending>,
    /// The state file that this process writes at its end, if any.
    state: Option<PathBuf>,
    /// The stream to the store, if this server is part of a cluster.
    #[cfg(feature = "cluster")]
    store: Option<StoreStream>,
    /// Names the certificate's files.
    #[cfg(feature = "tls")]
    config: Config,
}

impl Server {
    /// Listens. When this returns, the kernel accepts connections.
    pub fn new(config: &Config) -> Result<Server, StartError> {
        // First, before this process opens a descriptor: every socket that exists now was
        // inherited.
        let inherited = systemd::inherited();
        machine::forbid_core_dumps();
        let clock = Clock::new();
        let now = clock.read();
        let poll = Poll::new().map_err(StartError::Poll)?;
        #[cfg(feature = "tls")]
        let identity = certificate::read(config).map_err(StartError::Tls)?;
        #[cfg(not(feature = "tls"))]
        let identity = None;
        let signals = Signals::new(poll.registry(), SIGNALS, identity.is_some());
        let signals = signals.map_err(StartError::Poll)?;
        let mut acceptors = listeners::open(config, inherited, identity.as_ref())?;
        let connections_max = connections_max(config, acceptors.len());
        for (place, acceptor) in acceptors.iter_mut().enumerate() {
            let registered = acceptor.listener.register(poll.registry(), Token(LISTENERS - place));
            registered.map_err(StartError::Poll)?;
        }
        // The last step that can fail, because reading the state file removes it. And after the
        // listeners: while another process has them, it may be writing the file.
        let core = restored(config, connections_max, now)?;
        for acceptor in &acceptors {
            // Whatever the log level: with port 0 there is no other way to learn the port.
            let address = acceptor.listener.address().unwrap_or_default();
            journal::say(&format!("listening on {address}"));
        }
        info!(
            "started: version {}, at most {connections_max} connections",
            env!("CARGO_PKG_VERSION")
        );
        Ok(Server {
            poll,
            clock,
            acceptors,
            signals,
            supervisor: Supervisor::ready(now.mono),
            resident: ResidentGauge::new(),
            core,
            accept_pause: None,
            is_exhausted: false,
            ending: None,
            state: config.state.clone(),
            #[cfg(feature = "cluster")]
            store: config.cluster.clone().map(StoreStream::new),
            #[cfg(feature = "tls")]
            config: config.clone(),
        })
    }

    /// Runs the loop until a signal, or an error of the poll, ends it.
    pub fn run(mut self) -> io::Result<Ending> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut now = self.clock.read();
        loop {
            let connections = self.core.connection_count();
            if let Some(ending) = self.ending.filter(|one| one.is_due(now.mono, connections)) {
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
            #[cfg(feature = "cluster")]
            if let Some(problem) = self.core.store_problem() {
                return Err(io::Error::other(problem.to_string()));
            }
            let end = self.clock.read().mono;
            self.core.on_tick_over(end.since(now.mono));
        }
    }

    /// Reads how much is resident, if that is due or wanted.
    fn measure(&mut self, now: Now) {
        let of_group = |resident: &Resident| resident.group.map(|group| (group.max, group.left));
        if let Some(resident) = self.resident.poll(now.mono) {
            self.core.on_resident(resident.all, resident.anonymous, of_group(&resident));
        } else if self.core.wants_early_reading() {
            if let Some(resident) = self.resident.read() {
                self.core.on_early_reading(resident.anonymous, of_group(&resident));
            }
        }
    }

    fn tick(&mut self, now: Now, events: &Events) {
        self.core.begin(now);
        self.measure(now);
        for event in events {
            let Token(token) = event.token();
            #[cfg(feature = "cluster")]
            if let (STORE, Some(store)) = (event.token(), &mut self.store) {
                store.on_event(event);
                continue;
            }
            if event.token() == SIGNALS {
                self.on_signals(now.mono);
            } else if let Some(acceptor) = self.acceptors.get_mut(LISTENERS - token) {
                acceptor.is_ready = true;
            } else if let Some(key) = self.core.key_at(token) {
                let has_hung_up = event.is_read_closed() || event.is_error();
                if event.is_readable() || has_hung_up {
                    self.core.on_readable(key, has_hung_up);
                }
                if event.is_writable() {
                    self.core.on_writable(key);
                }
            }
        }
        #[cfg(feature = "cluster")]
        if let Some(store) = &mut self.store {
            store.read(&mut self.core);
        }
        self.accept(now.mono);
        self.core.tick();
        #[cfg(feature = "cluster")]
        if let Some(store) = &mut self.store {
            store.write(&mut self.core, self.poll.registry(), STORE);
        }
    }

    #[inline(never)]
    fn accept(&mut self, now: Mono) {
        if self.accept_pause.is_some_and(|resume| resume <= now) {
            self.accept_pause = None;
        }
        for place in 0..self.acceptors.len() {
            for _ in 0..schedule::ACCEPTS_MAX {
                if !self.accept_one(place, now) {
                    break;
                }
            }
        }
    }

    /// Accepts from one listener; false: no more in this tick.
    fn accept_one(&mut self, place: usize, now: Mono) -> bool {
        let Some(acceptor) = self.acceptors.get_mut(place) else { return false };
        let is_open = acceptor.is_ready && self.accept_pause.is_none();
        if !is_open || !self.core.make_way(acceptor.purpose) {
            return false;
        }
        match acceptor.listener.accept() {
            Ok(Accepted { socket, peer }) => {
                self.is_exhausted = false;
                let Some(key) = self.core.accept(socket, peer, acceptor.purpose) else {
                    return true;
                };
                let Some(socket) = self.core.stream_mut(key) else { return true };
                if socket.register(self.poll.registry(), Token(key.index())).is_err() {
                    self.core.on_poll_error(key);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => acceptor.is_ready = false,
                // The peer was gone before it was accepted; the next may be waiting.
                ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                _ => {
                    self.accept_pause = Some(now.after(ACCEPT_PAUSE));
                    self.core.on_accept_pause();
                    if !std::mem::replace(&mut self.is_exhausted, true) {
                        listeners::warn_of_pause(&error);
                    }
                }
            },
        }
        true
    }

    /// How long the poll may wait: until the next deadline, or not at all.
    fn timeout(&self, now: Mono) -> Option<Duration> {
        let mut ready = self.acceptors.iter().filter(|one| one.is_ready);
        let can_accept =
            self.accept_pause.is_none() && ready.any(|one| self.core.can_accept(one.purpose));
        #[cfg(feature = "cluster")]
        let has_store_work = self.store.as_ref().is_some_and(StoreStream::has_work);
        #[cfg(not(feature = "cluster"))]
        let has_store_work = false;
        if self.core.has_work() || can_accept || has_store_work {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.core.next_deadline(),
            self.accept_pause,
            self.ending.map(|ending| ending.deadline),
            self.supervisor.next_deadline(),
        ];
        deadlines.into_iter().flatten().min().map(|deadline| deadline.since(now))
    }

    fn on_signals(&mut self, now: Mono) {
        for (signal, action) in self.signals.pending() {
            match (action, &mut self.ending) {
                (SignalAction::Ignore, _) => {}
                #[cfg(feature = "tls")]
                (SignalAction::Reload, _) => self.reload_certificate(),
                #[cfg(not(feature = "tls"))]
                (SignalAction::Reload, _) => {}
                (SignalAction::End, Some(ending)) => ending.is_forced = true,
                (SignalAction::End, None) => self.begin_ending(signal, now),
            }
        }
    }

    fn begin_ending(&mut self, signal: i32, now: Mono) {
        info!("stopping: closing {} connections", self.core.connection_count());
        self.supervisor.stopping();
        self.ending = Some(Ending::begin(signal, now));
        self.keep_state();
        // After the file is complete, because from now on a successor can listen on the port, and
        // reads the file at once.
        self.acceptors.clear();
        self.core.shut_down();
    }

    /// Writes the state file. The domain does not change between this and `Core::shut_down`, after
    /// which no request reaches it, so the file has all that clients are told.
    fn keep_state(&mut self) {
        let Some(path) = &self.state else { return };
        self.core.complete_responses();
        let group = self.resident.read().and_then(|resident| resident.group);
        let memory_left = group.map(|group| group.left.saturating_sub(group.max / 32) as u64);
        let mut left_out = 0;
        let written = snapshot::write(path, memory_left, |pass, keep| {
            if let Pass::Shrink(bytes) = pass {
                left_out += bytes;
            }
            self.core.keep(pass, keep)
        });
        if left_out > 0 {
            let path = path.display();
            warn!("--state {path}: the oldest {left_out} bytes would exceed the memory limit");
        }
        match written {
            Ok(()) => info!("sessions and rooms are kept in {}", path.display()),
            Err(error) => error!("--state {}: {error}; nothing is kept", path.display()),
        }
    }

    /// Reads the certificate's files again, for connections that are accepted from now on.
    #[cfg(feature = "tls")]
    fn reload_certificate(&mut self) {
        match certificate::read_files(&self.config) {
            Ok(identity) => {
                for acceptor in &mut self.acceptors {
                    acceptor.listener.set_identity(&identity);
                }
                info!("the certificate was read again");
            }
            Err(error) => error!("the old certificate stays: {error}"),
        }
    }
}

/// What `check` prints of the machine, line by line.
pub fn report(config: &Config) -> String {
    machine::report(config, settings::connections_allowed)
}

/// `--max-connections`, or else what the descriptor limit leaves beside the listeners.
fn connections_max(config: &Config, listeners: usize) -> usize {
    let allowed = settings::connections_allowed(machine::descriptors(listeners));
    if let Some(warning) = machine::connections_warning(config, allowed) {
        warn!("{warning}");
    }
    config.connections_max.unwrap_or(allowed)
}

/// A core without connections and sessions.
fn new_core(config: &Config, connections_max: usize, now: Now) -> Result<Core<Socket>, StartError> {
    let entropy = OsEntropy::new().map_err(StartError::Entropy)?;
    let ledger = Ledger::with_ceiling(config.memory_bytes_max);
    let mut core = Core::new(config, connections_max, Box::new(entropy), &ledger);
    core.begin(now);
    #[cfg(feature = "cluster")]
    if config.cluster.is_some() {
        core.join_cluster(node::join(config)?);
    }
    #[cfg(debug_assertions)]
    if let Ok(word) = std::env::var("CHAT_TEST_FAULT") {
        core.plant_fault(word);
    }
    Ok(core)
}

/// A core restored from the state file, if there is one.
fn restored(config: &Config, connections_max: usize, now: Now) -> Result<Core<Socket>, StartError> {
    let mut core = new_core(config, connections_max, now)?;
    let Some(path) = &config.state else { return Ok(core) };
    let cannot_write = |error| StartError::State(path.clone(), error);
    snapshot::check_path(path).map_err(cannot_write)?;
    match core.restore(|take| snapshot::read(path, api::texts, take)) {
        Ok(true) => info!("sessions and rooms are as they were"),
        Ok(false) => {}
        Err(refused) => {
            // If it could not be kept under another name, the end of this process would replace it.
            snapshot::set_aside(path).map_err(cannot_write)?;
            let path = path.display();
            warn!("--state {path}: {refused}; nothing of it is used, it is now {path}.refused");
            core = new_core(config, connections_max, now)?;
        }
    }
    Ok(core)
}
