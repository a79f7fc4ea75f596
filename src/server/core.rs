//! Every phase of the tick but the polling, over any stream.
//!
//! Owns the domain and the connections, and brings them together. Must never know where streams
//! come from, what polls them, or what time it is. The invariant: the phases run in this order,
//! because each may leave work for the later ones and only for those: what *read* and *sweep*
//! end, *settle* tells the domain; what that says, *flush* writes; what is over then, *reap*
//! frees.

use std::net::IpAddr;
use std::time::Duration;

use log::debug;

use super::connection::{
    Connection, ConnectionKey, ConnectionTimer, Excess, Protocol, Purpose, TimeoutKind,
};
use super::connections::{CROWD_MIN, Connections};
use super::settings::{self, ConnectionConfig};
use crate::api::Api;
use crate::chat::{Address, Chat, Departure, InvalidRecord, Quota, Record, Restoring, RoomKey};
use crate::clock::{Entropy, Mono, Now, Wall};
use crate::config::Config;
use crate::counters::Counters;
use crate::http::Phase;
use crate::ledger::{Ledger, Pressure};
use crate::net::{Received, Stream};
use crate::ws::Spare;
use crate::ws::close::Close;

/// The loop's one read buffer, and what one of the greedy may send in one turn: a flood of tiny
/// frames is a fifth of a millisecond's work then, and reading larger ones is no work.
const SCRATCH_BYTES: usize = 8 * 1024;

/// What one of the modest may send in one turn: ten lines. Whoever has more to say goes on when the
/// others have had their turn: of five hundred who burst at once, nobody waits for more than this.
const TURN_BYTES_MAX: usize = 1024;

/// What a turn costs even if nothing is said in it: a system call and, as a rule, an end. A byte
/// costs about ten nanoseconds.
const TURN_COST_MIN: usize = 512;

/// What a request, and what an event costs beside its bytes.
const REQUEST_COST: usize = 192;
const EVENT_COST: usize = 64;

/// What the turns of the modest may cost in one tick, all together, before timers and flushing
/// have a turn.
const TICK_COST_MAX: usize = 32 * 1024;

/// The same for the greedy. Whoever else has something to say meanwhile does not wait longer.
const GREEDY_COST_MAX: usize = 8 * 1024;

/// Timers of connections, and of the domain, that fire in one tick; the rest are overdue in the
/// next. Ten thousand connections that were accepted at once time out at once, too.
const SWEPT_MAX: usize = 16;

/// For how long what the greedy have said may gather before it leaves, and what their turns may
/// cost meanwhile.
const GATHERED_TIME_MAX: Duration = Duration::from_millis(10);
const GATHERED_COST_MAX: usize = 1024 * 1024;

/// Content that is made for an answer, or told to everybody in a room, costs less than what is
/// read, byte for byte.
const WRITTEN_BYTES_PER_COST: usize = 8;

/// Ticks in which the greedy have no turn because what was said before has not left yet: a tenth
/// of a second or two. Without an end to it they would starve.
const PASSED_OVER_MAX: u32 = 256;

/// The server without its poll: sessions, rooms, connections and their timers.
pub struct Core<S> {
    pub(super) api: Api,
    pub(super) chat: Chat,
    pub(super) connections: Connections<S>,
    pub(super) settings: ConnectionConfig,
    pub(super) shutting_down: bool,
    pub(super) ledger: Ledger,
    /// The first tick's time.
    pub(super) started: Wall,
    /// The `Date` field's text and the second that it is of.
    pub(super) date: (u64, String),
    /// Frames for one connection on their way to its outbox.
    pub(super) control: Vec<u8>,
    /// What one whole message leaves to the next of the tick.
    pub(super) spare: Spare,
    /// Bytes of content made for answers in this turn, sent or not.
    pub(super) made: usize,
    scratch: Vec<u8>,
    /// Ticks in a row in which the greedy had no turn.
    passed_over: u32,
    /// What the turns of the greedy have cost since all that they had said has left.
    gathered: usize,
    /// When that was.
    gathering_since: Mono,
    /// Where tests have planted a panic; never in a release.
    #[cfg(debug_assertions)]
    pub(super) fault: Option<String>,
}

impl<S: Stream> Core<S> {
    /// Nobody connected, nothing said. `connections_max`: how many the machine can carry.
    pub fn new(
        config: &Config,
        connections_max: usize,
        entropy: Box<dyn Entropy>,
        ledger: &Ledger,
    ) -> Core<S> {
        let settings = ConnectionConfig::new(config, connections_max);
        Core {
            api: Api::new(config, ledger),
            chat: Chat::new(settings::of_chat(config), entropy, ledger),
            connections: Connections::new(settings, ledger),
            settings,
            shutting_down: false,
            ledger: ledger.clone(),
            started: Wall::default(),
            date: (u64::MAX, String::new()),
            control: Vec::new(),
            spare: Spare::default(),
            made: 0,
            scratch: vec![0; SCRATCH_BYTES],
            passed_over: 0,
            gathered: 0,
            gathering_since: Mono::ZERO,
            #[cfg(debug_assertions)]
            fault: None,
        }
    }

    /// Plants a panic where somebody asks for a path or says a text that is this word.
    #[cfg(debug_assertions)]
    pub fn plant_fault(&mut self, word: String) {
        self.fault = Some(word);
    }

    /// A tick begins: this is its time.
    pub fn begin(&mut self, now: Now) {
        self.connections.now = now;
        if self.started == Wall::default() {
            self.started = now.wall;
        }
        if self.date.0 != now.wall.seconds() {
            self.date = (now.wall.seconds(), now.wall.http_date().to_string());
        }
    }

    /// Takes in a stream that was accepted. `None`: its address is so far over its share that it
    /// was dropped.
    pub fn accept(
        &mut self,
        stream: S,
        peer: Option<IpAddr>,
        purpose: Purpose,
    ) -> Option<ConnectionKey<S>> {
        let counted = if purpose == Purpose::Metrics { None } else { peer };
        let (share, mut excess) = self.count_in(counted)?;
        let is_full = self.connections.slots.len() >= self.settings.connections_max;
        let is_full = is_full || self.ledger.is_at(Pressure::Connections);
        if is_full && purpose != Purpose::Metrics {
            excess = Some(Excess::Full);
        }
        let key = self.connections.insert(stream, peer, share, excess, purpose);
        match peer {
            Some(peer) => debug!("connection {key:?} from {peer}"),
            None => debug!("connection {key:?} from a Unix socket"),
        }
        Some(key)
    }

    /// Counts a connection from `peer` against its address. `None`: that is far over its share.
    pub(super) fn count_in(
        &mut self,
        peer: Option<IpAddr>,
    ) -> Option<(Option<Address>, Option<Excess>)> {
        let Some(address) = self.api.client_at_accept(peer) else { return Some((None, None)) };
        match self.chat.on_arrival(address) {
            Quota::Within => Some((Some(address), None)),
            Quota::Over => Some((Some(address), Some(Excess::Quota))),
            Quota::FarOver => {
                self.chat.on_departure(self.connections.now, address);
                None
            }
        }
    }

    /// Whether there is room for another connection, if only to tell it that there is none.
    pub fn has_room(&self, purpose: Purpose) -> bool {
        if purpose == Purpose::Metrics {
            return true; // The operator's own, on an address that strangers don't reach.
        }
        let ConnectionConfig { connections_max, excess_connections_max, .. } = self.settings;
        if self.ledger.is_at(Pressure::Connections)
            && self.connections.excess >= excess_connections_max
        {
            return false;
        }
        self.connections.slots.len() < connections_max.saturating_add(excess_connections_max)
    }

    /// The stream of a connection, for whoever polls it.
    pub fn stream_mut(&mut self, key: ConnectionKey<S>) -> Option<&mut S> {
        self.connections.slots.get_mut(key).map(|connection| connection.link.stream_mut())
    }

    /// The connection in a slot. Slots are freed in *reap* only, after all events of the tick
    /// have been handled, so an event's bare index cannot name a stranger.
    pub fn key_at(&self, index: usize) -> Option<ConnectionKey<S>> {
        self.connections.slots.key_at(index)
    }

    /// There is something to read. `hangup`: and the peer's end behind it.
    pub fn on_readable(&mut self, key: ConnectionKey<S>, hangup: bool) {
        if let Some(connection) = self.connections.slots.get_mut(key) {
            connection.hangup |= hangup;
        }
        // Who goes is in no hurry: a thousand that break off at once are nobody else's concern.
        match hangup {
            true => self.connections.make_greedy(key),
            false => self.connections.make_ready(key),
        }
    }

    /// The kernel takes bytes again.
    pub fn on_writable(&mut self, key: ConnectionKey<S>) {
        self.connections.on_writable(key);
    }

    /// The stream of a connection can't be polled: it is of no use.
    pub fn on_lost(&mut self, key: ConnectionKey<S>) {
        self.connections.on_broken(key);
    }

    /// Accepting has to rest.
    pub fn on_accept_pause(&mut self) {
        self.connections.counters.accept_pauses += 1;
    }

    /// All that is to be done in one turn of the loop, after accepting.
    pub fn tick(&mut self) {
        self.read();
        self.sweep();
        self.settle();
        self.flush();
        self.reap();
    }

    /// How long the tick took that is over.
    pub fn on_tick_over(&mut self, took: Duration) {
        self.connections.counters.ticks.observe(took);
    }

    /// Whether the next tick has work already, so that polling must not wait.
    pub fn has_work(&self) -> bool {
        let is_due = |deadline| deadline <= self.connections.now.mono;
        self.connections.has_work() || self.next_deadline().is_some_and(is_due)
    }

    /// When the next timer is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        let deadlines = [self.chat.next_deadline(), self.connections.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Takes nobody in any more and tells everybody why; the connections end by themselves.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
        self.seal_all();
        let keys: Vec<_> = self.connections.slots.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(connection) = self.connections.slots.get(key) else { continue };
            match &connection.protocol {
                Protocol::Ws(_) => self.connections.close(key, Close::SHUTTING_DOWN),
                // A request under way is still answered; its answer will be the last.
                Protocol::Http(http) if http.codec.phase() == Phase::Idle => {
                    self.connections.finish(key, Departure::Closed);
                }
                Protocol::Http(_) | Protocol::Closing => {}
            }
        }
    }

    /// Passes on all that a restart is not to lose.
    pub fn keep<E>(&mut self, keep: impl FnMut(Record<'_>) -> Result<(), E>) -> Result<(), E> {
        self.seal_all();
        self.chat.keep(self.connections.now, keep)
    }

    /// `read` passes on what another core has kept. This one must be new, and is of no use if
    /// something did not fit.
    pub fn restore<R>(
        &mut self,
        read: impl FnOnce(&mut dyn FnMut(Record<'_>) -> Result<(), InvalidRecord>) -> R,
    ) -> R {
        let mut restoring = Restoring::new(&mut self.chat, self.connections.now);
        let batches = &self.connections.batches;
        let read = read(&mut |record| restoring.take(record, |event| batches.restored(event)));
        restoring.finish();
        read
    }

    /// Connections that are not freed yet.
    pub fn connection_count(&self) -> usize {
        self.connections.slots.len()
    }

    /// The domain, to look at.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.connections.counters
    }

    /// Timers that are armed.
    pub fn timer_count(&self) -> usize {
        self.chat.timer_count() + self.connections.timer_count()
    }

    /// Time since the clock began.
    pub(super) fn uptime(&self) -> Duration {
        self.connections.now.mono.since(Mono::ZERO)
    }

    #[inline(never)]
    fn read(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut budget = TICK_COST_MAX;
        // Each has one turn. Who gets none now comes, in the next tick, before those who had
        // one and want another.
        for _ in 0..self.connections.ready_count() {
            let Some(key) = self.connections.next_ready() else { break };
            // Who talks to a crowd waits until it has heard what was said before. Meanwhile what
            // others say gathers, and leaves in one piece.
            if self.connections.is_behind() && self.audience(key) >= CROWD_MIN {
                self.connections.make_greedy(key);
                continue;
            }
            budget = budget.saturating_sub(self.turn(key, &mut scratch[..TURN_BYTES_MAX]));
            if budget == 0 || self.must_flush_first() {
                break;
            }
        }
        let must_wait = self.connections.is_behind() || self.must_flush_first();
        let must_wait = must_wait && self.passed_over < PASSED_OVER_MAX;
        self.passed_over = if must_wait { self.passed_over + 1 } else { 0 };
        let mut budget = if must_wait { 0 } else { GREEDY_COST_MAX };
        self.connections.batches.greedy_speak = true;
        while budget > 0 {
            let Some(key) = self.connections.next_greedy() else { break };
            let cost = self.turn(key, &mut scratch);
            budget = budget.saturating_sub(cost);
            self.gathered += cost;
            if self.must_flush_first() {
                break;
            }
        }
        self.connections.batches.greedy_speak = false;
        self.connections.paged = 0;
        self.scratch = scratch;
        self.spare = Spare::default(); // What was read is nobody's business any more.
    }

    /// Whether so much has been said, or is kept, that it must leave before more is read.
    fn must_flush_first(&self) -> bool {
        self.connections.batches.is_full()
            || self.connections.is_paged_out()
            || self.ledger.is_at(Pressure::Readers)
    }

    /// One connection's turn. Returns what it has cost so far: what it has said will cost more,
    /// for each who hears it.
    fn turn(&mut self, key: ConnectionKey<S>, scratch: &mut [u8]) -> usize {
        self.made = 0;
        let (said, paged) = (self.connections.batches.appended(), self.connections.paged);
        let Counters { requests, received, .. } = self.connections.counters;
        let read = self.read_from(key, scratch);
        let requests = self.connections.counters.requests.saturating_sub(requests) as usize;
        let events = self.connections.counters.received.saturating_sub(received) as usize;
        let read = read + requests * REQUEST_COST + events * EVENT_COST;
        let said = self.connections.batches.appended().wrapping_sub(said);
        let told = said.saturating_mul(self.audience(key));
        let paged = self.connections.paged.saturating_sub(paged);
        let cost = read + (self.made + paged) / WRITTEN_BYTES_PER_COST;
        self.connections.spend(key, cost + told / WRITTEN_BYTES_PER_COST);
        cost.max(TURN_COST_MIN)
    }

    /// How many hear what the connection says. Of a request nobody knows where it was for: one.
    fn audience(&mut self, key: ConnectionKey<S>) -> usize {
        let ws = self.connections.slots.get_mut(key).and_then(Connection::ws);
        let room = ws.and_then(|ws| ws.attachment).and_then(|key| self.chat.room_of(key));
        room.map_or(1, |room| self.chat.connection_count(room))
    }

    /// Handles what a connection has sent, or reads once. Returns the bytes that it took.
    fn read_from(&mut self, key: ConnectionKey<S>, scratch: &mut [u8]) -> usize {
        let Some(connection) = self.connections.slots.get_mut(key) else { return 0 };
        if connection.over || matches!(&connection.protocol, Protocol::Ws(ws) if ws.waiting) {
            return 0;
        }
        if !connection.held.is_empty() {
            let held = std::mem::take(&mut connection.held);
            self.dispatch(key, &held);
            let connection = self.connections.slots.get(key);
            if connection.is_some_and(|connection| connection.held.is_empty()) {
                self.connections.make_ready(key); // More may have come meanwhile.
            }
            return held.len();
        }
        match connection.link.read_into(scratch) {
            Ok(Received::Bytes(count)) => {
                // A short read has emptied the kernel's buffer, and the next byte makes a new
                // edge; unless the peer's end lies behind it, which had its edge already.
                let more = count == scratch.len()
                    || connection.hangup
                    || connection.link.stream().has_buffered_input();
                self.connections.counters.bytes_in += count as u64;
                self.dispatch(key, &scratch[..count]);
                // It is never freed, and what was read is nobody's business any more.
                scratch[..count].fill(0);
                if more {
                    self.connections.make_greedy(key);
                }
                return count;
            }
            Ok(Received::Blocked) => {
                let stream = connection.link.stream_mut();
                let (more, cost) = (stream.has_buffered_input(), stream.take_cost());
                if more {
                    self.connections.make_greedy(key);
                }
                self.connections.recount(key);
                return cost;
            }
            Ok(Received::End) => self.on_end(key),
            Err(_) => self.connections.on_broken(key),
        }
        0
    }

    #[inline(never)]
    fn sweep(&mut self) {
        for _ in 0..SWEPT_MAX {
            let Some(ConnectionTimer { kind, key }) = self.connections.pop_due() else { break };
            match kind {
                TimeoutKind::Head | TimeoutKind::Body => self.on_request_overdue(key),
                TimeoutKind::Idle | TimeoutKind::Linger => {
                    self.connections.end(key, Departure::Closed)
                }
                TimeoutKind::Ping => {
                    // The timer first: an outbox without room for a ping ends in a close.
                    self.connections.set_timer(key, Some(TimeoutKind::Pong));
                    self.connections.ping(key);
                }
                TimeoutKind::Pong => self.connections.end(key, Departure::Broken),
            }
        }
        self.chat.sweep(self.connections.now, SWEPT_MAX, &mut self.connections);
    }

    #[inline(never)]
    fn settle(&mut self) {
        self.feed_hungry();
        // Telling of one end can overflow somebody's outbox, which is another.
        loop {
            for ended in std::mem::take(&mut self.connections.ended) {
                let (now, connections) = (self.connections.now, &mut self.connections);
                self.chat.exit(now, ended.attachment, ended.departure, connections);
            }
            match self.must_gather_on() {
                true => self.seal_urgent(),
                false => self.seal_all(),
            }
            if self.connections.ended.is_empty() {
                break;
            }
        }
        self.connections.batches.on_tick_over(self.chat.room_count());
        self.api.on_tick_over(&self.chat);
        self.connections.counters.forgotten += self.chat.forget() as u64;
    }

    /// Sends those who are catching up, and have mostly taken what they were sent, a page more.
    fn feed_hungry(&mut self) {
        while !self.connections.is_paged_out() {
            let Some(key) = self.connections.next_hungry() else { break };
            let ws = self.connections.slots.get_mut(key).and_then(Connection::ws);
            if let Some(attachment) = ws.and_then(|ws| ws.attachment) {
                self.chat.catch_up(self.connections.now, attachment, &mut self.connections);
            }
        }
        self.connections.paged = 0;
    }

    /// Whether the greedy have more to say, so that it can leave together with what they have
    /// said. Once some of that is leaving, all of it does.
    fn must_gather_on(&self) -> bool {
        !self.connections.greedy.is_empty()
            && self.gathered < GATHERED_COST_MAX
            && self.connections.now.mono.since(self.gathering_since) < GATHERED_TIME_MAX
            && !self.connections.is_behind()
            && !self.must_flush_first()
            && !self.shutting_down
    }

    fn seal_all(&mut self) {
        (self.gathered, self.gathering_since) = (0, self.connections.now.mono);
        while let Some(room) = self.connections.batches.any_open() {
            self.seal_one(room);
        }
        self.seal_urgent();
    }

    fn seal_urgent(&mut self) {
        while let Some(room) = self.connections.batches.next_urgent() {
            self.seal_one(room);
        }
    }

    fn seal_one(&mut self, room: RoomKey) {
        self.chat.seal(room, &mut self.connections);
        // Rooms seal before they end; a batch without a room is nobody's.
        self.connections.batches.seal(room);
    }

    #[inline(never)]
    fn flush(&mut self) {
        self.connections.flush();
        self.shed();
    }

    #[inline(never)]
    fn reap(&mut self) {
        let (now, chat) = (self.connections.now, &mut self.chat);
        self.connections.reap(|address| chat.on_departure(now, address));
    }

    /// For tests, and after a caught panic: panics if anything contradicts itself.
    pub fn check_invariants(&self) {
        self.chat.check_invariants();
        self.connections.check_invariants();
    }

    /// For tests, between two ticks: panics if anything that was reported to the ledger is not
    /// what a recount gives. (The domain's is part of its invariants.)
    pub fn check_ledger(&self) {
        self.connections.check_counted();
    }
}

/// Empties a buffer that is kept for the next use, and leaves nothing of this one in it.
pub(super) fn wipe(buffer: &mut Vec<u8>) {
    buffer.fill(0);
    buffer.clear();
}
