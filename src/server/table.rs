//! The connections: their slots, timers and lifecycle, from *accept* to *reap*.
//!
//! Owns every connection, and with it the lists that connections are on: the schedule, the outgoing
//! lists, the ended and the closed. Must not decide what a connection is sent, or which has its
//! turn next. The invariant: a connection with unread input is in the schedule, is paused until the
//! domain admits it, or has buffered input that waits for its responses to be written; and a
//! connection with output is on an outgoing list or waits for a writable edge. Breaking it strands
//! bytes.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use log::debug;

use super::announcements::Announcements;
use super::coalesce::Batches;
use super::connection::{
    Connection, ConnectionKey, Held, HeldTallies, Http, OverLimit, Protocol, Purpose, TimeoutKind,
};
use super::event_stream::Transcoder;
use super::leftovers::Leftovers;
use super::outgoing::Outgoing;
use super::schedule::{self, Output, Queue, Schedule, Work};
use super::settings::ConnectionConfig;
use crate::chat::{Address, AttachmentKey, ConnTag, Departure};
use crate::clock::{Mono, Now, Stamps};
use crate::counters::Counters;
use crate::http;
use crate::ledger::{Account, Ledger, Pressure, Tally};
use crate::net::{Piece, Stream};
use crate::slots::Slots;
use crate::timers::Deadlines;
use crate::ws::close::Close;

/// Minimum average rate at which a peer must read a response: 32 kbit/s, which GPRS reaches.
const RESPONSE_BYTES_PER_SECOND_MIN: usize = 4 * 1024;

/// An attachment whose connection has ended, and how.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub attachment: AttachmentKey,
    pub departure: Departure,
}

/// The connections over a limit, in the order in which they came to be.
#[derive(Default)]
pub(super) struct OverLimits {
    keys: Vec<ConnectionKey>,
    /// How many of them, the last, came in this tick.
    new: usize,
}

impl OverLimits {
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    fn iter(&self) -> impl Iterator<Item = ConnectionKey> {
        self.keys.iter().copied()
    }

    /// Those that came before this tick.
    fn earlier(&self) -> impl Iterator<Item = ConnectionKey> {
        self.iter().take(self.keys.len() - self.new)
    }

    /// A tick begins.
    pub fn on_tick(&mut self) {
        self.new = 0;
    }

    fn push(&mut self, key: ConnectionKey) {
        self.keys.push(key);
        self.new += 1;
    }

    fn remove(&mut self, key: ConnectionKey) {
        let Some(place) = self.keys.iter().position(|one| *one == key) else { return };
        self.new -= usize::from(place >= self.keys.len() - self.new);
        self.keys.remove(place);
        if self.keys.is_empty() {
            self.keys = Vec::new();
        }
    }

    fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<ConnectionKey>()
    }
}

/// The connections of one [`super::Core`].
pub(super) struct Table<S> {
    pub slots: Slots<Connection<S>, ConnTag>,
    pub schedule: Schedule<ConnectionKey>,
    pub outgoing: Outgoing<ConnectionKey>,
    pub batches: Batches,
    pub leftovers: Leftovers,
    pub announcements: Announcements,
    /// What the turn that is under way has done so far.
    pub work: Work,
    /// For tests: what this tick has done so far, in recipients, turns, flushes, ends and closes.
    /// Debug builds only.
    #[cfg(debug_assertions)]
    pub steps: usize,
    pub stamps: Stamps,
    pub counters: Counters,
    pub now: Now,
    pub ledger: Ledger,
    /// To be reported to the domain in *settle*.
    pub ended: VecDeque<Ended>,
    /// Event streams that cannot begin, each with the reason. *settle* answers them.
    pub refused: Vec<(ConnectionKey, Close)>,
    /// WebSockets and event streams that have ended without an attachment: *settle* tells the cluster.
    #[cfg(feature = "cluster")]
    pub gone: Vec<ConnectionKey>,
    pub transcoder: Transcoder,
    /// To be closed because the server ends.
    pub shutting_down: Vec<ConnectionKey>,
    pub over_limit: OverLimits,
    pub(super) config: ConnectionConfig,
    /// Fifteen sixteenths of the ping interval.
    ping_interval_min: Duration,
    deadlines: Deadlines<ConnTag>,
    /// To be freed at the end of this tick.
    closed: Vec<ConnectionKey>,
    /// Control frames on their way from a context to an outbox.
    control: Vec<u8>,
    slots_tally: Tally,
    pub(super) held: HeldTallies,
}

impl<S: Stream> Table<S> {
    pub fn new(config: ConnectionConfig, ledger: &Ledger) -> Table<S> {
        Table {
            slots: Slots::default(),
            schedule: Schedule::new(),
            outgoing: Outgoing::new(),
            batches: Batches::new(ledger),
            leftovers: Leftovers::default(),
            announcements: Announcements::default(),
            work: Work::default(),
            #[cfg(debug_assertions)]
            steps: 0,
            stamps: Stamps::default(),
            counters: Counters::default(),
            now: Now::default(),
            ledger: ledger.clone(),
            ended: VecDeque::new(),
            refused: Vec::new(),
            #[cfg(feature = "cluster")]
            gone: Vec::new(),
            transcoder: Transcoder::default(),
            shutting_down: Vec::new(),
            over_limit: OverLimits::default(),
            deadlines: Deadlines::default(),
            ping_interval_min: config.ping_interval - config.ping_interval / 16,
            config,
            closed: Vec::new(),
            control: Vec::new(),
            slots_tally: ledger.tally(Account::Connections),
            held: HeldTallies::new(ledger),
        }
    }

    /// Counts steps for tests.
    pub fn on_steps(&mut self, count: usize) {
        #[cfg(debug_assertions)]
        {
            self.steps += count;
        }
        let _ = count;
    }

    // ---- Lifecycle

    /// Inserts an accepted stream.
    pub fn insert(
        &mut self,
        stream: S,
        peer: Option<IpAddr>,
        quota_address: Option<Address>,
        over_limit: Option<OverLimit>,
        purpose: Purpose,
    ) -> ConnectionKey {
        let http = Http {
            codec: http::Codec::new(self.config.http),
            purpose,
            peer,
            response_deadline: Mono::ZERO,
            proxy_header: (purpose == Purpose::Proxied).then(Vec::new),
            rest: None,
            is_parked: false,
        };
        let key = self.slots.insert(Connection::new(stream, http, quota_address));
        self.counters.accepted += 1;
        match over_limit {
            Some(over_limit) => self.set_over_limit(key, over_limit),
            None => self.set_timer(key, Some(TimeoutKind::Head)),
        }
        self.recount(key);
        key
    }

    /// The connection turns out to be over a limit. It is kept only long enough to receive its
    /// refusal, because few such connections are accepted at a time.
    pub fn set_over_limit(&mut self, key: ConnectionKey, over_limit: OverLimit) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        if connection.over_limit.is_none() {
            connection.over_limit = Some(over_limit);
            self.over_limit.push(key);
            self.set_timer(key, Some(TimeoutKind::Linger));
        }
    }

    /// Closes a WebSocket or an event stream: the close frame or the last event is written, then the
    /// server's direction is shut down, then the peer has the linger timeout to end its own. An event
    /// stream that has not begun is refused in *settle* instead.
    pub fn close(&mut self, key: ConnectionKey, close: Close) {
        self.on_steps(1);
        #[cfg(feature = "cluster")]
        self.open(key);
        let mut control = self.take_control();
        match self.slots.get_mut(key).map(|connection| &mut connection.protocol) {
            Some(Protocol::Ws(ws)) => ws.context.close(close, &mut control),
            Some(Protocol::Stream(stream)) => match &mut stream.opening {
                Some(opening) => {
                    (opening.is_refused, stream.recipient.is_paused) = (true, true);
                    self.refused.push((key, close));
                    return self.control = control;
                }
                None => control.extend_from_slice(&stream.form.close(close)),
            },
            Some(Protocol::Http(_) | Protocol::Closing(_)) | None => {}
        }
        if !control.is_empty() {
            self.counters.on_closed(close.code);
            // Not bounded by the outbox's limit: it is the last piece, and small.
            self.push(key, Piece::private(control.clone()));
        }
        self.control = control;
        self.finish(key, Departure::Closed);
    }

    /// Sends the response to an upgrade that was withheld.
    #[cfg(feature = "cluster")]
    pub fn open(&mut self, key: ConnectionKey) {
        let ws = self.slots.get_mut(key).and_then(Connection::ws);
        if let Some(opening) = ws.and_then(|ws| ws.opening.take()) {
            self.push(key, *opening);
        }
    }

    /// Pings a WebSocket peer.
    pub fn ping(&mut self, key: ConnectionKey) {
        let mut control = self.take_control();
        if let Some(ws) = self.slots.get_mut(key).and_then(Connection::ws) {
            ws.context.ping(&mut control);
        }
        self.push_control(key, &control);
        self.control = control;
    }

    fn take_control(&mut self) -> Vec<u8> {
        let mut control = std::mem::take(&mut self.control);
        control.clear();
        control
    }

    /// Stops speaking the protocol, writes what is queued, and then closes. ([`Table::close`]
    /// queues a close frame first; [`Table::end`] writes nothing more.)
    pub fn finish(&mut self, key: ConnectionKey, departure: Departure) {
        let ended = self.end_protocol(key, departure);
        let Some(connection) = self.slots.get_mut(key) else { return };
        let was_paused = matches!(&ended, Some(Protocol::Ws(ws)) if ws.recipient.is_paused);
        let is_unread = !connection.buffered.take().is_empty() || was_paused;
        if connection.is_read_to_end && connection.link.is_flushed() {
            return self.mark_closed(key);
        }
        // A response may take long while its peer makes progress, under the idle timeout. A
        // WebSocket peer with output still queued is a slow reader and has only the linger timeout.
        let was_http = matches!(ended, Some(Protocol::Http(_)));
        let is_sending = was_http && !connection.link.is_flushed();
        let timeout = if is_sending { TimeoutKind::Idle } else { TimeoutKind::Linger };
        self.set_timer(key, Some(timeout));
        self.mark_dirty(key);
        if is_unread {
            self.schedule(key); // Its readable edge has passed.
        }
    }

    /// Ends the connection now; nothing more is written.
    pub fn end(&mut self, key: ConnectionKey, departure: Departure) {
        self.end_protocol(key, departure);
        self.set_timer(key, None);
        self.mark_closed(key);
    }

    /// The network has failed under the connection.
    pub fn on_broken(&mut self, key: ConnectionKey) {
        self.counters.broken += 1;
        self.end(key, Departure::Broken);
    }

    /// Makes the protocol `Closing`, and has *settle* report the end to the domain if there was an
    /// attachment. Returns the previous protocol.
    fn end_protocol(&mut self, key: ConnectionKey, departure: Departure) -> Option<Protocol> {
        let connection = self.slots.get_mut(key)?;
        let deadline = connection.response_deadline().map_or(Mono::ZERO, |deadline| *deadline);
        let ended = std::mem::replace(&mut connection.protocol, Protocol::Closing(deadline));
        let recipient = match &ended {
            Protocol::Ws(ws) => {
                self.counters.websockets -= 1;
                Some(&ws.recipient)
            }
            Protocol::Stream(stream) => Some(&stream.recipient),
            Protocol::Http(_) | Protocol::Closing(_) => None,
        };
        match recipient.map(|recipient| recipient.attachment) {
            Some(Some(attachment)) => self.ended.push_back(Ended { attachment, departure }),
            #[cfg(feature = "cluster")]
            Some(None) => self.gone.push(key),
            _ => {}
        }
        Some(ended)
    }

    /// Marks the connection to be freed in *reap*.
    fn mark_closed(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.slots.get_mut(key) {
            if !std::mem::replace(&mut connection.is_closed, true) {
                self.closed.push(key);
            }
        }
    }

    /// Frees the closed connections. Calls `on_departure` once for each freed connection that
    /// counted against the quota of an address.
    pub fn reap(&mut self, mut on_departure: impl FnMut(Address, bool)) {
        for _ in 0..schedule::ENDS_MAX {
            let Some(key) = self.closed.pop() else { break };
            self.on_steps(1);
            self.set_timer(key, None);
            self.forget_leftover(key);
            let Some(connection) = self.slots.remove(key) else { continue };
            debug!("connection {key:?} is closed");
            self.held.change(connection.counted, Held::default(), &mut self.counters);
            if connection.over_limit.is_some() {
                self.over_limit.remove(key);
            }
            if let Some(address) = connection.quota_address {
                on_departure(address, connection.over_limit.is_some());
            }
        }
        if self.closed.is_empty() {
            self.closed = Vec::new();
        }
        self.leftovers.on_tick_over();
        let connections = self.slots.len();
        self.schedule.shrink(connections);
        self.outgoing.shrink(connections);
        if connections == 0 {
            self.control = Vec::new();
        }
        self.recount_slots();
    }

    /// Ends the connection that has been over a limit longest, of those that are silent: nothing that
    /// has arrived is unread, and nothing is queued. `of`: only one that counts against this address.
    /// Connections of this tick do not give way, because the poll has not reported their input yet.
    pub fn give_way(&mut self, of: Option<Address>) -> bool {
        let Some(key) = self.next_to_give_way(of) else { return false };
        self.end(key, Departure::Closed);
        true
    }

    /// Whether a connection over a limit has ended, and its place is free after *reap*.
    pub fn is_giving_way(&self) -> bool {
        let mut over_limit = self.over_limit.iter().take(schedule::GIVE_WAY_SEARCH_MAX);
        over_limit.any(|key| self.slots.get(key).is_some_and(|one| one.is_closed))
    }

    /// The connection that [`Table::give_way`] ends.
    pub fn next_to_give_way(&self, of: Option<Address>) -> Option<ConnectionKey> {
        self.over_limit.earlier().take(schedule::GIVE_WAY_SEARCH_MAX).find(|key| {
            self.slots.get(*key).is_some_and(|one| {
                let is_silent = !one.is_queued && !one.is_closed && one.link.is_flushed();
                is_silent && of.is_none_or(|of| one.quota_address == Some(of))
            })
        })
    }

    // ---- Timers

    /// When a connection's timer is next due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.next(&self.slots)
    }

    /// A connection whose timer has expired, and what it was for.
    pub fn pop_due(&mut self) -> Option<(TimeoutKind, ConnectionKey)> {
        let key = self.deadlines.pop_due(&mut self.slots, self.now.mono)?;
        let timeout = self.slots.get_mut(key)?.timeout.take()?;
        Some((timeout, key))
    }

    /// Timers that are armed.
    pub fn timer_count(&self) -> usize {
        self.deadlines.len()
    }

    /// Re-arms the connection's one timer for `kind`, or disarms it.
    #[inline(never)] // Inlined, it makes the binary 0.7 KB larger.
    pub fn set_timer(&mut self, key: ConnectionKey, kind: Option<TimeoutKind>) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        connection.is_overdue = false;
        let before = std::mem::replace(&mut connection.timeout, kind);
        let now = self.now.mono;
        match (before, kind) {
            (Some(before), Some(kind)) if before == kind => {
                self.deadlines.rearm(&mut self.slots, key, kind.class(&self.config), now);
            }
            (before, kind) => {
                if let Some(before) = before {
                    let (class, _) = before.class(&self.config);
                    self.deadlines.cancel(&mut self.slots, key, class);
                }
                if let Some(kind) = kind {
                    self.deadlines.arm(&mut self.slots, key, kind.class(&self.config), now);
                }
            }
        }
    }

    /// Restarts the ping interval: on admission, and on input from the peer.
    ///
    /// An interval that began within the last sixteenth of it goes on, so that a busy connection does
    /// not change the list of deadlines with each message. A ping may be that much early (contract
    /// §6.12), and is never late.
    pub fn start_pinging(&mut self, key: ConnectionKey) {
        let from = self.next_ping_min();
        let connection = self.slots.get(key);
        if !connection.is_some_and(|connection| connection.is_pinged(from)) {
            self.set_timer(key, Some(TimeoutKind::Ping));
        }
    }

    /// A ping that is due then or later need not be put off.
    pub fn next_ping_min(&self) -> Mono {
        self.now.mono.after(self.ping_interval_min)
    }

    /// What the connection's timer is for.
    pub fn timeout(&self, key: ConnectionKey) -> Option<TimeoutKind> {
        self.slots.get(key)?.timeout
    }

    /// A response of `bytes` bytes is queued: its peer has more time to read, in proportion.
    pub fn extend_response_deadline(&mut self, key: ConnectionKey, bytes: usize) {
        let connection = self.slots.get_mut(key);
        if let Some(deadline) = connection.and_then(Connection::response_deadline) {
            let seconds = (bytes / RESPONSE_BYTES_PER_SECOND_MIN) as u64;
            *deadline = (*deadline).max(self.now.mono).after(Duration::from_secs(seconds));
        }
    }

    // ---- The schedule

    /// Queues the connection for a turn, in this tick or the next.
    pub fn schedule(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        if !std::mem::replace(&mut connection.is_queued, true) {
            let queue = match &connection.protocol {
                Protocol::Ws(_) => Queue::Messages,
                Protocol::Http(_) | Protocol::Stream(_) | Protocol::Closing(_) => Queue::Requests,
            };
            self.schedule.push(key, connection.allowance, queue, self.now.mono);
        }
    }

    /// Queues the connection for a turn in the background.
    pub fn schedule_in_background(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        if !std::mem::replace(&mut connection.is_queued, true) {
            self.schedule.push_background(key);
        }
    }

    /// The connection whose turn it is. Keys leave the queue one by one, so that a panic in one
    /// turn does not lose the others.
    pub fn next_turn(&mut self) -> Option<ConnectionKey> {
        let key = self.schedule.next()?;
        if let Some(connection) = self.slots.get_mut(key) {
            connection.is_queued = false;
        }
        Some(key)
    }

    /// The connection's turn is over: charges it for what it did. Returns whether it is overdue, and
    /// has no input of which the server knows.
    pub fn end_turn(&mut self, key: ConnectionKey) -> bool {
        let work = std::mem::take(&mut self.work);
        let mut connection = self.slots.get_mut(key);
        if let Some(connection) = &mut connection {
            connection.recount(&mut self.held, &mut self.counters);
        }
        let is_overdue = connection.as_ref().is_some_and(|one| one.is_overdue && !one.is_queued);
        let allowance = connection.map(|connection| &mut connection.allowance);
        self.schedule.charge(allowance, &work, self.now.mono);
        is_overdue
    }

    /// Which output is pending.
    pub fn output(&self) -> Output {
        Output { has_backlog: self.outgoing.has_backlog(), is_full: self.is_full() }
    }

    /// See [`Output::is_full`].
    pub fn is_full(&self) -> bool {
        self.batches.is_full()
            || self.outgoing.is_paged_out()
            || self.ledger.is_at(Pressure::Readers)
    }

    /// Whether any list is not empty, so that the poll must not wait.
    pub fn has_work(&self) -> bool {
        #[cfg(feature = "cluster")]
        if !self.gone.is_empty() {
            return true;
        }
        !(self.schedule.is_empty()
            && self.outgoing.is_empty()
            && !self.batches.has_urgent()
            && self.ended.is_empty()
            && self.refused.is_empty()
            && self.shutting_down.is_empty()
            && self.announcements.is_empty()
            && self.closed.is_empty())
    }

    // ---- Accounts

    /// Reports what a connection holds on the heap.
    pub fn recount(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.slots.get_mut(key) {
            connection.recount(&mut self.held, &mut self.counters);
        }
    }

    fn recount_slots(&mut self) {
        let lists = self.schedule.bytes()
            + self.leftovers.bytes()
            + self.announcements.bytes()
            + self.outgoing.bytes()
            + self.over_limit.bytes()
            + (self.closed.capacity() + self.shutting_down.capacity()) * size_of::<ConnectionKey>()
            + self.refused.capacity() * size_of::<(ConnectionKey, Close)>();
        #[cfg(feature = "cluster")]
        let lists = lists + self.gone.capacity() * size_of::<ConnectionKey>();
        let bytes = self.slots.bytes() + lists + self.control.capacity();
        self.slots_tally.set(bytes);
        self.counters.connections = self.slots.len() as u64;
    }

    /// Panics if the connections contradict the lists, the timers or the ledger.
    pub fn check_invariants(&self) {
        let (mut idle, mut burden, mut timers) = (0, 0, 0);
        let (mut queued, mut dirty, mut deferred, mut closed) = (0, 0, 0, 0);
        for (key, connection) in self.slots.iter() {
            idle += connection.counted.idle as usize;
            burden += connection.counted.burden as usize;
            timers += usize::from(connection.timeout.is_some());
            queued += usize::from(connection.is_queued);
            dirty += usize::from(connection.marks.is_dirty);
            deferred += usize::from(connection.marks.is_deferred);
            closed += usize::from(connection.is_closed);
            let timeout = connection.timeout;
            let fits = match &connection.protocol {
                _ if connection.is_closed => true,
                Protocol::Http(_) if connection.over_limit.is_some() => {
                    timeout == Some(TimeoutKind::Linger)
                }
                Protocol::Http(_) => {
                    use TimeoutKind::{Body, Head, Idle};
                    matches!(timeout, Some(Head | Body | Idle))
                }
                Protocol::Ws(ws) if ws.recipient.is_paused => timeout.is_none(),
                Protocol::Stream(stream) if stream.opening.is_some() => timeout.is_none(),
                Protocol::Stream(_) => timeout == Some(TimeoutKind::Ping),
                Protocol::Ws(ws) if ws.context.is_under_way() => {
                    timeout == Some(TimeoutKind::Message)
                }
                Protocol::Ws(_) => matches!(timeout, Some(TimeoutKind::Ping | TimeoutKind::Pong)),
                Protocol::Closing(_) => {
                    matches!(timeout, Some(TimeoutKind::Idle | TimeoutKind::Linger))
                }
            };
            agree!((fits, key, timeout), (true, key, timeout), "a timer fits the state");
            let is_judged = !matches!(timeout, None | Some(TimeoutKind::Ping));
            holds!(is_judged || !connection.is_overdue, "only silence is overdue");
        }
        let left_over = self.slots.iter().filter(|(_, connection)| connection.is_left_over);
        self.leftovers.check(left_over.map(|(key, _)| key));
        // A key on a list may be stale: its connection was freed meanwhile. That is harmless.
        let count = |keys: &mut dyn Iterator<Item = ConnectionKey>,
                     mark: fn(&Connection<S>) -> bool| {
            keys.filter(|key| self.slots.get(*key).is_some_and(mark)).count()
        };
        agree!(queued, count(&mut self.schedule.iter(), |one| one.is_queued));
        agree!(dirty, count(&mut self.outgoing.dirty(), |one| one.marks.is_dirty));
        agree!(deferred, count(&mut self.outgoing.deferred(), |one| one.marks.is_deferred));
        agree!(closed, count(&mut self.closed.iter().copied(), |one| one.is_closed));
        let over_limit =
            self.slots.iter().filter(|(_, connection)| connection.over_limit.is_some());
        agree!(over_limit.count(), self.over_limit.len());
        let is_listed = |key| self.slots.get(key).is_some_and(|one| one.over_limit.is_some());
        holds!(self.over_limit.iter().all(is_listed));
        agree!(timers, self.deadlines.len(), "every timer has its connection");
        let class_of = |connection: &Connection<S>| Some(connection.timeout?.class(&self.config).0);
        self.deadlines.check(&self.slots, class_of);
        agree!((idle, burden), self.held.bytes(), "the ledger has every connection's heap");
    }

    /// Between two ticks: panics if what was last reported of a connection is not what it holds.
    pub fn check_counted(&self) {
        for (key, connection) in self.slots.iter() {
            assert_eq!(connection.counted, connection.held(), "of {key:?}");
        }
    }
}
