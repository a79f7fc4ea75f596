//! All connections, and what is to be done with them before the tick is over.
//!
//! Owns the slots, the lists of the ready, dirty, ended and over, the connections' timers, and
//! everything that queues bytes. Must never decide what is said. The invariant: a connection with
//! something queued is dirty or waits for its writable edge, and one that stopped reading early
//! is ready; whoever breaks this strands bytes.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use log::debug;

use super::batch::Batches;
use super::connection::{
    Connection, ConnectionKey, ConnectionTimer, Excess, Http, Protocol, Purpose, TimeoutKind, Ws,
};
use super::settings::ConnectionConfig;
use crate::chat::{Address, AttachmentKey, Departure};
use crate::clock::{Mono, Now, Stamps};
use crate::counters::Counters;
use crate::http;
use crate::ledger::{Account, Ledger, Tally};
use crate::net::{Flushed, Link, Piece, Stream};
use crate::slots::Slots;
use crate::timers::Timers;
use crate::ws::close::Close;

/// What one connection is sent in one tick. A peer that reads as fast as we write could otherwise
/// have megabytes of history written to it while everybody else waits.
const FLUSH_BYTES_MAX: usize = 64 * 1024;

/// How many are flushed in one tick of those who are sent what a crowd is told, or a lot: a quarter of a
/// millisecond's work, after which the others have their turn.
const BULKY_FLUSHES_MAX: usize = 32;

/// What they are sent in one tick, all together.
const BULKY_BYTES_MAX: usize = 128 * 1024;

/// Whoever takes an answer more slowly, on the whole, is cut off: a slow modem is twice as fast.
const SLOWEST_BYTES_PER_SECOND: usize = 4 * 1024;

/// With so many connections, a room is a crowd: what it says must not hold up what others say.
pub(super) const CROWD_MIN: usize = 32;

/// What a connection may cost at an even pace, in bytes a second, and at once: more than
/// people who type or paste thirty lines, and little enough that hundreds can do it without end.
/// Who goes beyond is served after everybody else.
const MODEST_BYTES_PER_SECOND: u64 = 16 * 1024;
const MODEST_BYTES_AT_ONCE: u64 = 8 * 1024;

/// The time in which a modest connection may cost so many bytes.
fn micros_of(bytes: u64) -> u64 {
    bytes.saturating_mul(1_000_000) / MODEST_BYTES_PER_SECOND
}

/// Places on a list that are not worth giving back.
const LIST_MIN: usize = 64;

/// Who has left a room by an end of its connection, and how.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub attachment: AttachmentKey,
    pub departure: Departure,
}

/// The connections of one [`super::Core`].
pub(super) struct Connections<S> {
    pub slots: Slots<Connection<S>>,
    pub batches: Batches,
    pub stamps: Stamps,
    pub counters: Counters,
    pub now: Now,
    /// Sockets to be read from, in turn. Never taken away, so that a panic in between loses nobody.
    pub talking: VecDeque<ConnectionKey<S>>,
    /// The same, of those who ask over HTTP. They and the talking have their turns alternately:
    /// however many want long answers at once, whoever says something waits for one of them.
    pub asking: VecDeque<ConnectionKey<S>>,
    /// Whether the last turn was one of the talking's.
    last_talked: bool,
    /// The same, of those who cost more than people do: each of them has a turn after all others
    /// have had theirs.
    pub greedy: VecDeque<ConnectionKey<S>>,
    /// Catching up, and out of what they were sent before: to be sent more in this tick.
    pub hungry: VecDeque<ConnectionKey<S>>,
    /// Bytes of history queued since this was last reset.
    pub paged: usize,
    /// To be told to the domain in this tick.
    pub ended: Vec<Ended>,
    /// How many are one too many.
    pub excess: usize,
    settings: ConnectionConfig,
    timers: Timers<ConnectionTimer<S>>,
    /// To be flushed in this tick.
    dirty: Vec<ConnectionKey<S>>,
    /// To be flushed in turn, as far as a tick's budget goes.
    bulky: VecDeque<ConnectionKey<S>>,
    /// To be freed in this tick.
    over: Vec<ConnectionKey<S>>,
    /// Control frames on their way from a context to an outbox.
    control: Vec<u8>,
    slots_tally: Tally,
    heap_tally: Tally,
}

impl<S: Stream> Connections<S> {
    pub fn new(settings: ConnectionConfig, ledger: &Ledger) -> Connections<S> {
        Connections {
            slots: Slots::new(),
            batches: Batches::new(ledger),
            stamps: Stamps::default(),
            counters: Counters::default(),
            now: Now::default(),
            talking: VecDeque::new(),
            asking: VecDeque::new(),
            last_talked: false,
            greedy: VecDeque::new(),
            hungry: VecDeque::new(),
            paged: 0,
            ended: Vec::new(),
            timers: Timers::new(settings),
            settings,
            excess: 0,
            dirty: Vec::new(),
            bulky: VecDeque::new(),
            over: Vec::new(),
            control: Vec::new(),
            slots_tally: ledger.tally(Account::Connections),
            heap_tally: ledger.tally(Account::Connections),
        }
    }

    /// Takes a stream in.
    pub fn insert(
        &mut self,
        stream: S,
        peer: Option<IpAddr>,
        share: Option<Address>,
        excess: Option<Excess>,
        purpose: Purpose,
    ) -> ConnectionKey<S> {
        let codec = http::Codec::new(self.settings.http);
        let introduction = (purpose == Purpose::Proxied).then(Vec::new);
        let key = self.slots.insert(Connection {
            link: Link::new(stream),
            protocol: Protocol::Http(Box::new(Http { codec, purpose, introduction })),
            peer,
            share,
            excess,
            timer: None,
            held: Vec::new(),
            ready: false,
            dirty: false,
            bulky: false,
            answer_due: Mono::ZERO,
            spent: Mono::ZERO,
            over: false,
            hangup: false,
            read_over: false,
            counted: 0,
            counted_outbox: 0,
        });
        self.counters.accepted += 1;
        self.excess += usize::from(excess.is_some());
        // One too many is there to be told so, and holds one of a few places meanwhile.
        self.set_timer(
            key,
            Some(if excess.is_some() { TimeoutKind::Linger } else { TimeoutKind::Head }),
        );
        self.recount(key);
        key
    }

    /// It turns out to be one too many. Not if it was already.
    pub fn make_excess(&mut self, key: ConnectionKey<S>, excess: Excess) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        if connection.excess.is_none() {
            connection.excess = Some(excess);
            self.excess += 1;
            self.set_timer(key, Some(TimeoutKind::Linger));
        }
    }

    /// When a connection's timer is next due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.next_deadline()
    }

    /// A connection's timer that has expired.
    pub fn pop_due(&mut self) -> Option<ConnectionTimer<S>> {
        let timer = self.timers.pop_due(self.now.mono)?;
        if let Some(connection) = self.slots.get_mut(timer.key) {
            connection.timer = None;
        }
        Some(timer)
    }

    /// Timers that are armed.
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// Lets the connection wait for this, from now on, and for nothing else.
    pub fn set_timer(&mut self, key: ConnectionKey<S>, kind: Option<TimeoutKind>) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        match (connection.timer, kind) {
            (Some((before, timer)), Some(kind)) if before == kind => {
                self.timers.rearm(timer, self.now.mono);
            }
            (before, kind) => {
                before.map(|(_, timer)| self.timers.cancel(timer));
                let now = self.now.mono;
                let arm = |kind| (kind, self.timers.arm(ConnectionTimer { kind, key }, now));
                connection.timer = kind.map(arm);
            }
        }
    }

    /// A WebSocket peer has shown life: the silence begins anew.
    pub fn start_pinging(&mut self, key: ConnectionKey<S>) {
        self.set_timer(key, Some(TimeoutKind::Ping));
    }

    /// What the connection waits for.
    pub fn waits_for(&self, key: ConnectionKey<S>) -> Option<TimeoutKind> {
        self.slots.get(key)?.timer.map(|(kind, _)| kind)
    }

    /// Has the connection read from, in this tick or the next.
    pub fn make_ready(&mut self, key: ConnectionKey<S>) {
        if let Some(connection) = self.slots.get_mut(key) {
            if !std::mem::replace(&mut connection.ready, true) {
                let modest = Duration::from_micros(micros_of(MODEST_BYTES_AT_ONCE));
                let is_greedy = connection.spent > self.now.mono.after(modest);
                let list = match &connection.protocol {
                    _ if is_greedy => &mut self.greedy,
                    Protocol::Ws(_) => &mut self.talking,
                    Protocol::Http(_) | Protocol::Closing => &mut self.asking,
                };
                list.push_back(key);
            }
        }
    }

    /// Has the connection, whose turn it was, read from when the greedy are.
    pub fn make_greedy(&mut self, key: ConnectionKey<S>) {
        if let Some(connection) = self.slots.get_mut(key) {
            if !std::mem::replace(&mut connection.ready, true) {
                self.greedy.push_back(key);
            }
        }
    }

    /// What a connection's turn has cost, in bytes.
    pub fn spend(&mut self, key: ConnectionKey<S>, bytes: usize) {
        if let Some(connection) = self.slots.get_mut(key) {
            let spent = Duration::from_micros(micros_of(bytes as u64));
            connection.spent = connection.spent.max(self.now.mono).after(spent);
        }
    }

    /// How many of the modest are to be read from.
    pub fn ready_count(&self) -> usize {
        self.talking.len() + self.asking.len()
    }

    /// Whose turn to be read from it is, among the modest.
    pub fn next_ready(&mut self) -> Option<ConnectionKey<S>> {
        let is_talker = !self.talking.is_empty() && (self.asking.is_empty() || !self.last_talked);
        self.last_talked = is_talker;
        let list = if is_talker { &mut self.talking } else { &mut self.asking };
        let key = list.pop_front()?;
        self.take_turn(key)
    }

    /// Whose turn to be read from it is, among the greedy.
    pub fn next_greedy(&mut self) -> Option<ConnectionKey<S>> {
        let key = self.greedy.pop_front()?;
        self.take_turn(key)
    }

    fn take_turn(&mut self, key: ConnectionKey<S>) -> Option<ConnectionKey<S>> {
        if let Some(connection) = self.slots.get_mut(key) {
            connection.ready = false;
        }
        Some(key)
    }

    /// Has the connection flushed at the end of this tick.
    pub fn make_dirty(&mut self, key: ConnectionKey<S>) {
        self.queue_and_mark(key, None, false);
    }

    /// Has the connection flushed when there is time: in this tick as a rule.
    pub fn make_bulky(&mut self, key: ConnectionKey<S>) {
        self.queue_and_mark(key, None, true);
    }

    /// Queues a piece unless the outbox has no room, though what there is was written first. Then
    /// has the connection flushed: at the end of this tick, or if it `may_wait`, when there is
    /// time. One look at the connection, because this is done for everybody who hears something.
    fn queue_and_mark(
        &mut self,
        key: ConnectionKey<S>,
        piece: Option<Piece>,
        may_wait: bool,
    ) -> bool {
        let Some(connection) = self.slots.get_mut(key) else { return true };
        if let Some(piece) = piece {
            let paged = match &connection.protocol {
                Protocol::Ws(ws) => ws.paged,
                _ => 0,
            };
            let (before, bytes) = (connection.link.outbox().queued(), piece.len());
            let pushed = connection.link.push(piece, self.settings.outbox_bytes_max + paged);
            let offered = if pushed { before + bytes } else { before };
            let written = offered.saturating_sub(connection.link.outbox().queued());
            self.counters.bytes_out += written as u64;
            if !pushed {
                return false;
            }
        }
        if may_wait {
            if !connection.dirty && !std::mem::replace(&mut connection.bulky, true) {
                self.bulky.push_back(key);
            }
        } else if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(key);
        }
        true
    }

    /// Whether the last flush has left some for later.
    pub fn is_behind(&self) -> bool {
        !self.bulky.is_empty()
    }

    /// Has the connection freed at the end of this tick.
    fn make_over(&mut self, key: ConnectionKey<S>) {
        if let Some(connection) = self.slots.get_mut(key) {
            if !std::mem::replace(&mut connection.over, true) {
                self.over.push(key);
            }
        }
    }

    /// Whether a list is waiting for the next tick.
    pub fn has_work(&self) -> bool {
        !(self.talking.is_empty()
            && self.asking.is_empty()
            && self.greedy.is_empty()
            && self.bulky.is_empty()
            && self.ended.is_empty()
            && self.hungry.is_empty()
            && self.dirty.is_empty()
            && self.over.is_empty())
    }

    /// Queues bytes that may not be refused: a response, whose pieces are shared or small.
    pub fn push(&mut self, key: ConnectionKey<S>, piece: Piece) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let _ = connection.link.push(piece, usize::MAX);
        self.make_dirty(key);
    }

    /// Queues frames for a connection that speaks WebSocket and has not closed. One that has no
    /// room for them reads too slowly, and is closed.
    ///
    /// Its context is not asked: what was said before the peer's close, or before its violation,
    /// still precedes ours, and afterwards the protocol is `Closing`. `may_wait`: they may
    /// leave later than others, being for a crowd or from the greedy.
    pub fn push_frames(&mut self, key: ConnectionKey<S>, frames: Piece, may_wait: bool) {
        if self.hears(key, |ws| !ws.waiting) {
            self.counters.deliveries += 1;
            self.queue_or_close(key, frames, may_wait);
        }
    }

    /// Whether a connection speaks WebSocket, has not closed, and is in that state.
    pub fn hears(&self, key: ConnectionKey<S>, is_so: impl FnOnce(&Ws) -> bool) -> bool {
        let protocol = self.slots.get(key).map(|connection| &connection.protocol);
        matches!(protocol, Some(Protocol::Ws(ws)) if is_so(ws))
    }

    /// Queues frames, or closes who leaves no room for them. What has not begun to leave is
    /// forgotten then; pieces are whole frames, so the close can still be told apart.
    pub(super) fn queue_or_close(&mut self, key: ConnectionKey<S>, frames: Piece, may_wait: bool) {
        if self.queue_and_mark(key, Some(frames), may_wait) {
            return;
        }
        self.counters.too_slow += 1;
        if let Some(connection) = self.slots.get_mut(key) {
            connection.link.truncate();
        }
        self.close(key, Close::TOO_SLOW);
    }

    /// Queues control frames that a context has written in answer to something.
    pub fn push_control(&mut self, key: ConnectionKey<S>, control: &[u8]) {
        if !control.is_empty() {
            self.queue_or_close(key, Piece::private(control.to_vec()), false);
        }
    }

    /// Asks a WebSocket peer for a sign of life.
    pub fn ping(&mut self, key: ConnectionKey<S>) {
        let mut control = std::mem::take(&mut self.control);
        control.clear();
        if let Some(ws) = self.slots.get_mut(key).and_then(Connection::ws) {
            ws.context.ping(&mut control);
        }
        self.push_control(key, &control);
        self.control = control;
    }

    /// Closes a WebSocket connection in all politeness: the close frame leaves, then our
    /// direction ends, then the peer has the linger timeout to end its own.
    pub fn close(&mut self, key: ConnectionKey<S>, close: Close) {
        let mut control = std::mem::take(&mut self.control);
        control.clear();
        if let Some(ws) = self.slots.get_mut(key).and_then(Connection::ws) {
            ws.context.close(close, &mut control);
        }
        if !control.is_empty() {
            self.counters.on_closed(close.code);
            // Not bounded by the outbox's limit: it is the last piece, and small.
            self.push(key, Piece::private(control.clone()));
        }
        self.control = control;
        self.finish(key, Departure::Closed);
    }

    /// Nothing more is said or listened to: what is queued leaves, then the connection ends.
    pub fn finish(&mut self, key: ConnectionKey<S>, departure: Departure) {
        let spoken = self.fall_silent(key, departure);
        let Some(connection) = self.slots.get_mut(key) else { return };
        let waited = matches!(&spoken, Some(Protocol::Ws(ws)) if ws.waiting);
        let unread = !std::mem::take(&mut connection.held).is_empty() || waited;
        if connection.read_over && connection.link.is_flushed() {
            return self.make_over(key);
        }
        // A long answer may take its time as long as the peer takes some of it; a reader of
        // frames that was too slow already may not.
        let spoke_http = matches!(spoken, Some(Protocol::Http(_)));
        let sending = spoke_http && !connection.link.is_flushed();
        self.set_timer(key, Some(if sending { TimeoutKind::Idle } else { TimeoutKind::Linger }));
        self.make_dirty(key);
        if unread {
            self.make_ready(key); // It was not read from, and has had its readable edge.
        }
    }

    /// The line is of no more use: the connection ends now.
    pub fn end(&mut self, key: ConnectionKey<S>, departure: Departure) {
        self.fall_silent(key, departure);
        self.set_timer(key, None);
        self.make_over(key);
    }

    /// Nothing is spoken any more, and who was in a room has left it. Returns what was spoken.
    fn fall_silent(&mut self, key: ConnectionKey<S>, departure: Departure) -> Option<Protocol> {
        let connection = self.slots.get_mut(key)?;
        let spoken = std::mem::replace(&mut connection.protocol, Protocol::Closing);
        if let Protocol::Ws(ws) = &spoken {
            self.counters.websockets -= 1;
            let ended = ws.attachment.map(|attachment| Ended { attachment, departure });
            self.ended.extend(ended);
        }
        Some(spoken)
    }

    /// The kernel takes bytes again.
    pub fn on_writable(&mut self, key: ConnectionKey<S>) {
        if self.slots.get(key).is_some_and(|connection| !connection.link.is_flushed()) {
            self.make_bulky(key);
        }
    }

    /// Writes what this tick has queued: as a rule one system call a connection.
    pub fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            if let Some(connection) = self.slots.get_mut(key) {
                connection.dirty = false;
                self.flush_one(key);
            }
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
        let mut budget = BULKY_BYTES_MAX;
        for _ in 0..self.bulky.len().min(BULKY_FLUSHES_MAX) {
            if budget == 0 {
                break;
            }
            let Some(key) = self.bulky.pop_front() else { break };
            let Some(connection) = self.slots.get_mut(key) else { continue };
            connection.bulky = false;
            if !connection.link.is_flushed() {
                budget = budget.saturating_sub(self.flush_one(key));
            }
        }
    }

    /// Returns how many bytes were written.
    fn flush_one(&mut self, key: ConnectionKey<S>) -> usize {
        let Some(connection) = self.slots.get_mut(key).filter(|one| !one.over) else { return 0 };
        let queued = connection.link.outbox().queued();
        let flushed = connection.link.flush(FLUSH_BYTES_MAX);
        let written = queued - connection.link.outbox().queued();
        self.counters.bytes_out += written as u64;
        match (&flushed, &connection.protocol) {
            // Most of them, and nothing else is to be done.
            (Ok(Flushed::Done), Protocol::Ws(ws)) if !ws.catching_up && ws.paged == 0 => {
                connection.recount(&mut self.heap_tally, &mut self.counters);
                return written;
            }
            _ => {}
        }
        match flushed {
            Ok(Flushed::Done) => self.on_flushed(key),
            Ok(Flushed::Blocked) => self.on_flushed_partly(key, written),
            Ok(Flushed::Paused) => {
                self.on_flushed_partly(key, written);
                self.make_bulky(key); // A later tick goes on.
            }
            Err(_) => self.on_broken(key),
        }
        self.note_hunger(key);
        self.recount(key);
        written
    }

    fn on_flushed_partly(&mut self, key: ConnectionKey<S>, written: usize) {
        // As long as the peer takes some of its answer it isn't idle; but a byte a minute is no
        // way to take one.
        let now = self.now.mono;
        let is_overdue = self.slots.get(key).is_some_and(|connection| connection.answer_due <= now);
        if written > 0 && !is_overdue && self.waits_for(key) == Some(TimeoutKind::Idle) {
            self.set_timer(key, Some(TimeoutKind::Idle));
        }
    }

    /// An answer of so many bytes is queued: it gives its peer that much more time.
    pub fn give_time(&mut self, key: ConnectionKey<S>, bytes: usize) {
        if let Some(connection) = self.slots.get_mut(key) {
            let seconds = (bytes / SLOWEST_BYTES_PER_SECOND) as u64;
            let due = connection.answer_due.max(self.now.mono);
            connection.answer_due = due.after(Duration::from_secs(seconds));
        }
    }

    /// The network has failed under the connection.
    pub fn on_broken(&mut self, key: ConnectionKey<S>) {
        self.counters.broken += 1;
        self.end(key, Departure::Broken);
    }

    fn on_flushed(&mut self, key: ConnectionKey<S>) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        match &connection.protocol {
            Protocol::Closing => {
                // RFC 9112 §9.6: end our direction first and read on for a while, lest a reset
                // destroy what the peer has not read yet.
                let shut = connection.link.shutdown_write();
                if shut.is_err() || connection.read_over {
                    self.end(key, Departure::Broken);
                } else if self.waits_for(key) != Some(TimeoutKind::Linger) {
                    self.set_timer(key, Some(TimeoutKind::Linger));
                }
            }
            Protocol::Http(_) if !connection.held.is_empty() => self.make_ready(key),
            Protocol::Http(_) | Protocol::Ws(_) => {}
        }
    }

    /// Frees what is over. `departed` hears of each address that counted one of them.
    pub fn reap(&mut self, mut departed: impl FnMut(Address)) {
        for key in std::mem::take(&mut self.over) {
            self.set_timer(key, None);
            let Some(connection) = self.slots.remove(key) else { continue };
            debug!("connection {key:?} is over");
            self.heap_tally.change(connection.counted, 0);
            self.counters.on_outbox_change(connection.counted_outbox, 0);
            self.excess -= usize::from(connection.excess.is_some());
            connection.share.map(&mut departed);
        }
        self.give_back();
        self.recount_slots();
    }

    /// What a crowd has stretched goes back when most of it has gone.
    fn give_back(&mut self) {
        let enough = self.slots.len();
        let is_stretched = |capacity: usize| capacity > LIST_MIN && capacity / 4 > enough;
        let lists = [
            &mut self.talking,
            &mut self.asking,
            &mut self.greedy,
            &mut self.bulky,
            &mut self.hungry,
        ];
        for list in lists {
            if is_stretched(list.capacity()) {
                list.shrink_to(enough);
            }
            if enough == 0 {
                *list = VecDeque::new();
            }
        }
        if is_stretched(self.dirty.capacity()) {
            self.dirty.shrink_to(enough);
        }
        if enough == 0 {
            self.dirty = Vec::new();
            self.control = Vec::new();
        }
    }

    /// Reports what a connection holds on the heap.
    pub fn recount(&mut self, key: ConnectionKey<S>) {
        if let Some(connection) = self.slots.get_mut(key) {
            connection.recount(&mut self.heap_tally, &mut self.counters);
        }
    }

    fn recount_slots(&mut self) {
        let lists = [
            self.talking.capacity(),
            self.asking.capacity(),
            self.greedy.capacity(),
            self.bulky.capacity(),
            self.hungry.capacity(),
            self.dirty.capacity(),
            self.over.capacity(),
        ];
        let lists = lists.into_iter().sum::<usize>() * size_of::<ConnectionKey<S>>();
        let bytes = self.slots.bytes() + self.timers.bytes() + lists + self.control.capacity();
        self.slots_tally.set(bytes);
        self.counters.connections = self.slots.len() as u64;
    }

    /// Panics if what the connections believe contradicts itself.
    pub fn check_invariants(&self) {
        let (mut heap, mut timers) = (0, 0);
        let (mut ready, mut dirty, mut bulky, mut over) = (0, 0, 0, 0);
        for (key, connection) in self.slots.iter() {
            heap += connection.counted;
            timers += usize::from(connection.timer.is_some());
            ready += usize::from(connection.ready);
            dirty += usize::from(connection.dirty);
            bulky += usize::from(connection.bulky);
            over += usize::from(connection.over);
            let waits = connection.timer.map(|(wait, _)| wait);
            let sensible = match &connection.protocol {
                _ if connection.over => true,
                Protocol::Http(_) if connection.excess.is_some() => {
                    waits == Some(TimeoutKind::Linger)
                }
                Protocol::Http(_) => {
                    matches!(waits, Some(TimeoutKind::Head | TimeoutKind::Body | TimeoutKind::Idle))
                }
                Protocol::Ws(ws) if ws.waiting => waits.is_none(),
                Protocol::Ws(_) => matches!(waits, Some(TimeoutKind::Ping | TimeoutKind::Pong)),
                Protocol::Closing => matches!(waits, Some(TimeoutKind::Idle | TimeoutKind::Linger)),
            };
            agree!(
                (sensible, key, waits),
                (true, key, waits),
                "each waits for what fits its state"
            );
        }
        let marked = |key: &&ConnectionKey<S>, mark: fn(&Connection<S>) -> bool| {
            self.slots.get(**key).is_some_and(mark)
        };
        // A stale key on a list is one whose connection was freed meanwhile: harmless.
        let listed = self.talking.iter().chain(&self.asking).chain(&self.greedy);
        agree!(ready, listed.filter(|key| marked(key, |one| one.ready)).count());
        agree!(bulky, self.bulky.iter().filter(|key| marked(key, |one| one.bulky)).count());
        agree!(dirty, self.dirty.iter().filter(|key| marked(key, |one| one.dirty)).count());
        agree!(over, self.over.iter().filter(|key| marked(key, |one| one.over)).count());
        let excess = self.slots.iter().filter(|(_, connection)| connection.excess.is_some());
        agree!(excess.count(), self.excess);
        agree!(timers, self.timers.len(), "every timer has its connection");
        agree!(heap, self.heap_tally.bytes(), "the ledger has every connection's heap");
    }

    /// Between two ticks: panics if what was last reported of a connection is not what it holds.
    pub fn check_counted(&self) {
        // Who is not flushed for lack of time is reported with the flush, a few ticks later: the
        // frames are counted by then, and the places in the queue hardly matter.
        for (key, connection) in self.slots.iter().filter(|(_, connection)| !connection.bulky) {
            let held = (connection.heap_bytes(), connection.link.outbox().queued());
            assert_eq!((connection.counted, connection.counted_outbox), held, "of {key:?}");
        }
    }
}
