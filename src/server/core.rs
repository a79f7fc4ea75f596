//! The phases of a tick, over any stream.
//!
//! Owns the domain and the connections, and calls one phase after the other. Must not know where
//! streams come from, what polls them, or what time it is. The invariant: the phases run in the
//! order *accept*, *read*, *sweep*, *settle*, *flush*, *reap*, and each passes work only to later
//! phases of the same tick; work for an earlier phase waits for the next tick. *settle* reports to
//! the domain which connections *read* and *sweep* have ended; *flush* writes what the domain
//! sends; *reap* frees what has closed.

use std::net::IpAddr;
use std::time::Duration;

use log::debug;

use super::connection::{Connection, ConnectionKey, OverLimit, Protocol, Purpose};
#[cfg(debug_assertions)]
use super::delay::Delay;
#[cfg(feature = "cluster")]
use super::held_replies::HeldReplies;
use super::listening::Listening;
use super::schedule::{self, Coalesce, FanOut, Lane, Work};
use super::settings::{self, ConnectionConfig};
use super::table::Table;
use crate::api::{self, Api};
use crate::chat::{Chat, Departure, InvalidRecord, Record, Restoring, RoomKey};
use crate::clock::{Entropy, Mono, Now, Wall};
#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
use crate::config::Config;
use crate::counters::Counters;
use crate::http::Phase;
#[cfg(feature = "cluster")]
use crate::ledger::{Account, Tally};
use crate::ledger::{Ledger, Pressure, Residency};
use crate::net::Stream;
use crate::snapshot::Pass;
use crate::ws::FrameReader;
use crate::ws::close::Close;

/// How much of the stack is overwritten after requests: what their calls take.
const STACK_KILOBYTES: usize = if cfg!(debug_assertions) { 64 } else { 8 };

/// The server without its poll: sessions, rooms, connections and their timers.
pub struct Core<S> {
    pub(super) api: Api,
    pub(super) chat: Chat,
    pub(super) table: Table<S>,
    pub(super) config: ConnectionConfig,
    pub(super) is_shutting_down: bool,
    pub(super) listening: Listening,
    pub(super) ledger: Ledger,
    residency: Residency,
    /// Bytes resident at the last reading; `None` before it.
    pub(super) resident_bytes: Option<usize>,
    /// The time of the start.
    pub(super) started: Wall,
    /// The value of the `Date` field, and the second it was made in.
    pub(super) date: (u64, String),
    /// Control frames on their way from a context to an outbox.
    pub(super) control: Vec<u8>,
    /// Reads the frames of all WebSocket connections.
    pub(super) frames: FrameReader,
    /// Whether the connection whose turn it is may have input beyond what it was given.
    pub(super) has_more_input: bool,
    /// The one read buffer.
    pub(super) scratch: Vec<u8>,
    /// Requests were read in this tick that may have contained a session's id, a name or a password.
    pub(super) has_read_secrets: bool,
    /// The part in a cluster, if this server is a node.
    #[cfg(feature = "cluster")]
    pub(super) cluster: Option<Box<Cluster>>,
    #[cfg(feature = "cluster")]
    pub(super) held: HeldReplies,
    #[cfg(feature = "cluster")]
    pub(super) store_tally: Tally,
    /// For tests: handling this word panics. Debug builds only.
    #[cfg(debug_assertions)]
    pub(super) fault: Option<String>,
    /// For tests. Debug builds only.
    #[cfg(debug_assertions)]
    pub(super) delay: Delay,
}

/// The domain. In a cluster, a mirror of what the store decides.
fn new_chat(config: &Config, entropy: Box<dyn Entropy>, ledger: &Ledger) -> Chat {
    let chat_config = settings::chat_config(config);
    #[cfg(feature = "cluster")]
    if config.cluster.is_some() {
        return Chat::mirror(chat_config, entropy, ledger, api::json::event_bytes);
    }
    Chat::new(chat_config, entropy, ledger)
}

impl<S: Stream> Core<S> {
    /// No connections, no sessions. `connections_max`: beyond this many, connections are refused.
    pub fn new(
        config: &Config,
        connections_max: usize,
        entropy: Box<dyn Entropy>,
        ledger: &Ledger,
    ) -> Core<S> {
        let connection_config = ConnectionConfig::new(config, connections_max);
        Core {
            api: Api::new(config, ledger),
            chat: new_chat(config, entropy, ledger),
            table: Table::new(connection_config, ledger),
            config: connection_config,
            is_shutting_down: false,
            listening: Listening::default(),
            ledger: ledger.clone(),
            residency: Residency::new(ledger),
            resident_bytes: None,
            started: Wall::default(),
            date: (u64::MAX, String::new()),
            control: Vec::new(),
            frames: FrameReader::new(connection_config.ws),
            has_more_input: false,
            scratch: vec![0; schedule::BACKGROUND_TURN_BYTES_MAX],
            has_read_secrets: false,
            #[cfg(feature = "cluster")]
            cluster: None,
            #[cfg(feature = "cluster")]
            held: HeldReplies::default(),
            #[cfg(feature = "cluster")]
            store_tally: ledger.tally(Account::Store),
            #[cfg(debug_assertions)]
            fault: None,
            #[cfg(debug_assertions)]
            delay: Delay::default(),
        }
    }

    // ---- The tick

    /// Begins a tick, at this time.
    pub fn begin(&mut self, now: Now) {
        self.listening.on_tick(now.mono.since(self.table.now.mono));
        self.table.now = now;
        self.table.over_limit.on_tick();
        #[cfg(debug_assertions)]
        {
            self.table.steps = 0;
        }
        if self.started == Wall::default() {
            self.started = now.wall;
        }
        if self.date.0 != now.wall.seconds() {
            self.date = (now.wall.seconds(), now.wall.http_date().to_string());
        }
    }

    /// *accept*: inserts an accepted stream. `None`: its address is far over its quota, and the
    /// stream was dropped without an answer.
    pub fn accept(
        &mut self,
        stream: S,
        peer: Option<IpAddr>,
        purpose: Purpose,
    ) -> Option<ConnectionKey> {
        // A connection that the server has no capacity for does not count against its address.
        let (quota_address, over_limit) = match purpose {
            _ if purpose.is_for_operators() => (None, None),
            _ if self.is_full() => (None, Some(OverLimit::Server)),
            _ => self.count_in(peer)?,
        };
        self.listening.on_input();
        let key = self.table.insert(stream, peer, quota_address, over_limit, purpose);
        self.make_way(purpose);
        match peer {
            Some(peer) => debug!("connection {key:?} from {peer}"),
            None => debug!("connection {key:?} from a Unix socket"),
        }
        Some(key)
    }

    /// The five phases after *accept*.
    pub fn tick(&mut self) {
        self.read();
        self.sweep();
        self.settle();
        self.flush();
        self.reap();
        // From here, because each phase has a stack frame of its own.
        if std::mem::take(&mut self.has_read_secrets) {
            clear_stack(STACK_KILOBYTES);
        }
    }

    /// *read*: connections with input have their turns, as the schedule orders them.
    #[inline(never)]
    fn read(&mut self) {
        #[cfg(debug_assertions)]
        self.decide_parked();
        let mut scratch = std::mem::take(&mut self.scratch);
        for lane in [Lane::Interactive, Lane::Background] {
            self.table.batches.is_background = lane == Lane::Background;
            self.table.schedule.begin(lane, self.table.output());
            while let Some(key) = self.table.next_turn() {
                if lane == Lane::Interactive && self.must_wait(key) {
                    self.table.schedule_in_background(key);
                    continue;
                }
                self.turn(key, &mut scratch[..lane.turn_bytes_max()]);
                if self.table.is_full() {
                    break;
                }
            }
        }
        self.table.batches.is_background = false;
        self.table.outgoing.reset_paged();
        self.scratch = scratch;
        self.frames.clear();
    }

    /// *settle*: the next pages of history are queued, the connections that have ended are reported
    /// to the domain, and batches are sealed.
    #[inline(never)]
    fn settle(&mut self) {
        self.shut_down_some();
        let steps = self.chat.end_members(self.table.now, schedule::ENDS_MAX, &mut self.table);
        self.table.on_steps(steps);
        self.send_due_pages();
        self.table.announce_some();
        // Reporting one end publishes an event. The event can overflow another outbox, which ends
        // that connection, too.
        let mut ends_left = schedule::ENDS_MAX;
        loop {
            let count = self.table.ended.len().min(ends_left);
            ends_left -= count;
            self.table.on_steps(count);
            for _ in 0..count {
                let Some(ended) = self.table.ended.pop_front() else { break };
                let now = self.table.now;
                self.chat.exit(now, ended.attachment, ended.departure, &mut self.table);
            }
            self.seal_batches();
            if self.table.ended.is_empty() || ends_left == 0 {
                break;
            }
        }
        #[cfg(feature = "cluster")]
        self.settle_cluster();
        self.answer_refused();
        self.table.batches.on_tick_over(self.chat.room_count());
        self.api.on_tick_end(&self.chat);
    }

    /// *flush*: output is written. Then, because output that is still queued belongs to slow readers
    /// or to deferred flushes, connections with large burdens are closed if burdens exceed their
    /// share; the oldest messages are dropped if memory is short; and connections are closed if it
    /// still is. Last, memory of histories that is no longer used is given back.
    #[inline(never)]
    fn flush(&mut self) {
        self.table.flush();
        self.shed(Ledger::is_burdened);
        self.table.counters.forgotten += self.chat.forget() as u64;
        self.shed(|ledger| ledger.is_at(Pressure::Readers));
        self.chat.compact();
    }

    /// *reap*: closed connections are freed.
    #[inline(never)]
    fn reap(&mut self) {
        let (now, chat) = (self.table.now, &mut self.chat);
        self.table.reap(|address, is_over| chat.on_departure(now, address, is_over));
    }

    /// The tick is over; `took` is its duration.
    pub fn on_tick_over(&mut self, took: Duration) {
        self.table.counters.ticks.observe(took);
    }

    // ---- Between poll and tick

    /// There is input. `has_hung_up`: the peer has also ended its direction (EPOLLRDHUP).
    pub fn on_readable(&mut self, key: ConnectionKey, has_hung_up: bool) {
        self.listening.on_input();
        if !has_hung_up {
            return self.table.schedule(key);
        }
        if let Some(connection) = self.table.slots.get_mut(key) {
            connection.has_hung_up = true;
        }
        // Hang-ups go to the background lane, so that a mass disconnect does not delay live
        // connections.
        self.table.schedule_in_background(key);
    }

    /// The kernel takes bytes again.
    pub fn on_writable(&mut self, key: ConnectionKey) {
        self.table.on_writable(key);
    }

    /// The connection's stream cannot be polled.
    pub fn on_poll_error(&mut self, key: ConnectionKey) {
        self.table.on_broken(key);
    }

    /// A reading of the process's resident memory: all of it, and the part that no file backs.
    /// `group`: the limit of its control group, and what is left of it.
    pub fn on_resident(&mut self, all: usize, anonymous: usize, group: Option<(usize, usize)>) {
        self.resident_bytes = Some(all);
        self.residency.on_reading(anonymous, group);
    }

    /// Whether a reading is wanted although the last one is recent.
    pub fn wants_early_reading(&self) -> bool {
        self.residency.is_outgrown()
    }

    /// That reading, of the part that no file backs, and of the control group.
    pub fn on_early_reading(&mut self, anonymous: usize, group: Option<(usize, usize)>) {
        self.residency.on_early_reading(anonymous, group);
    }

    /// Accepting pauses, for lack of descriptors or memory.
    pub fn on_accept_pause(&mut self) {
        self.table.counters.accept_pauses += 1;
    }

    /// The stream of a connection, for the poll.
    pub fn stream_mut(&mut self, key: ConnectionKey) -> Option<&mut S> {
        self.table.slots.get_mut(key).map(|connection| connection.link.stream_mut())
    }

    /// The connection in a slot. Slots are freed in *reap* only, after all events of the tick were
    /// handled, so the bare index in an event cannot name another connection.
    pub fn key_at(&self, index: usize) -> Option<ConnectionKey> {
        self.table.slots.key_at(index)
    }

    /// Whether the next tick has work already, so that the poll must not wait.
    pub fn has_work(&self) -> bool {
        let is_due = |deadline| deadline <= self.table.now.mono;
        #[cfg(debug_assertions)]
        if self.has_parked() {
            return true;
        }
        self.table.has_work()
            || self.chat.is_ending()
            || self.chat.is_sparse()
            || self.next_deadline().is_some_and(is_due)
    }

    /// When the next timer is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        #[cfg(feature = "cluster")]
        let of_cluster = self.cluster.as_ref().and_then(|cluster| cluster.next_deadline());
        #[cfg(not(feature = "cluster"))]
        let of_cluster = None;
        let deadlines = [self.chat.next_deadline(), self.table.next_deadline(), of_cluster];
        deadlines.into_iter().flatten().min()
    }

    /// Closes every WebSocket with 1001 and every idle HTTP connection. A request that has begun, or
    /// has arrived and was not read yet, is answered with 503. The caller drops the listeners.
    pub fn shut_down(&mut self) {
        self.is_shutting_down = true;
        self.seal_all(false);
        #[cfg(feature = "cluster")]
        self.leave_cluster();
        self.chat.fall_silent();
        self.table.shutting_down = self.table.slots.iter().map(|(key, _)| key).collect();
        self.shut_down_some();
    }

    /// Closes the next of the connections that [`Core::shut_down`] closes.
    fn shut_down_some(&mut self) {
        for _ in 0..schedule::ENDS_MAX {
            let Some(key) = self.table.shutting_down.pop() else {
                return self.table.shutting_down = Vec::new();
            };
            let Some(connection) = self.table.slots.get(key) else { continue };
            match &connection.protocol {
                Protocol::Ws(_) | Protocol::Stream(_) => {
                    self.table.close(key, Close::SHUTTING_DOWN);
                }
                Protocol::Http(http) if http.rest.is_some() => {
                    if let Some(rest) = self.table.response_rest(key) {
                        rest.keep_alive = false;
                    }
                }
                Protocol::Http(http) if http.codec.phase() == Phase::Idle => {
                    match connection.timeout.filter(|_| connection.link.is_flushed()) {
                        Some(timeout) => self.table.begin_last_turn(key, timeout),
                        None => self.table.finish(key, Departure::Closed),
                    }
                }
                Protocol::Http(_) | Protocol::Closing(_) => {}
            }
        }
    }

    // ---- Parts of phases

    /// One turn of one connection, charged for what it did.
    fn turn(&mut self, key: ConnectionKey, scratch: &mut [u8]) {
        self.table.work = Work::default();
        self.table.on_steps(1);
        self.take_turn(key, scratch);
        if self.table.end_turn(key) {
            self.on_silent(key);
        }
    }

    /// Whether earlier output of this WebSocket's room has to be written before it has a turn.
    fn must_wait(&mut self, key: ConnectionKey) -> bool {
        if !self.table.outgoing.has_backlog() {
            return false;
        }
        let ws = self.table.slots.get_mut(key).and_then(Connection::ws);
        let room = ws.and_then(|ws| ws.recipient.attachment).and_then(|key| self.chat.room_of(key));
        room.is_some_and(|room| self.is_behind(room))
    }

    /// Whether deferred output has to be written before there is more for this room.
    pub(super) fn is_behind(&self, room: RoomKey) -> bool {
        let fan_out = FanOut::of(self.chat.connection_count(room));
        self.table.outgoing.is_behind(fan_out)
    }

    /// Queues the next page of history, or the next part of a response, for connections that are due
    /// one.
    fn send_due_pages(&mut self) {
        while !self.table.outgoing.is_paged_out() {
            let Some(key) = self.table.next_page_due() else { break };
            let recipient = self.table.slots.get_mut(key).and_then(Connection::recipient);
            match recipient.and_then(|recipient| recipient.attachment) {
                Some(key) => self.chat.catch_up(self.table.now, key, &mut self.table),
                None => self.continue_response(key),
            }
        }
        self.table.outgoing.reset_paged();
    }

    /// Seals every batch, or, while events of background connections are being coalesced, only the
    /// batches that an interactive connection or a timer has written to. Those of rooms whose last
    /// batch is still being written stay open, so that a stream of joins, leaves or posts by REST
    /// does not visit all members of a large room in every tick.
    fn seal_batches(&mut self) {
        let may_hold = self.table.schedule.is_skipping() && !self.is_shutting_down;
        match self.table.schedule.coalesce(self.table.now.mono, self.table.output()) {
            Coalesce::Until(_) if !self.is_shutting_down => self.seal_urgent(may_hold),
            Coalesce::Until(_) | Coalesce::Now => self.seal_all(may_hold),
        }
    }

    fn seal_all(&mut self, may_hold: bool) {
        self.table.schedule.on_all_sealed(self.table.now.mono);
        self.seal_urgent(may_hold);
        // From the last on, because the last takes the place of one that is sealed.
        let mut place = self.table.batches.open_count();
        while let Some(room) =
            place.checked_sub(1).and_then(|last| self.table.batches.open_at(last))
        {
            place -= 1;
            if !(may_hold && self.is_held(room)) {
                self.seal_one(room);
            }
        }
    }

    fn seal_urgent(&mut self, may_hold: bool) {
        let mut urgent = self.table.batches.begin_urgent();
        urgent.retain(|room| {
            let is_held = may_hold && self.is_held(*room);
            if !is_held {
                self.seal_one(*room);
            }
            is_held
        });
        self.table.batches.end_urgent(urgent);
    }

    /// Whether the room's batch is open and has to wait.
    fn is_held(&self, room: RoomKey) -> bool {
        self.is_behind(room) && self.table.batches.is_open(room)
    }

    fn seal_one(&mut self, room: RoomKey) {
        self.chat.seal(room, &mut self.table);
        // `Chat::seal` does nothing for a room that has ended. Such a room was sealed before, so a
        // batch that is dropped here has no recipient.
        self.table.batches.seal(room);
    }

    // ---- State over a restart

    /// Gives `keep` every record that a restart must not lose. When they are written, messages
    /// are dropped as soon as `keep` has taken them.
    pub fn keep<E>(
        &mut self,
        pass: Pass,
        keep: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.chat.end_members(self.table.now, usize::MAX, &mut self.table);
        self.seal_all(false);
        match pass {
            Pass::Count => self.chat.keep(self.table.now, keep),
            Pass::Shrink(bytes) => {
                self.chat.drop_oldest(bytes);
                Ok(())
            }
            Pass::Write => self.chat.give_up(self.table.now, keep),
        }
    }

    /// Restores the records that `keep` has given; `read` feeds them in. The core must be new, and
    /// must be dropped if a record is invalid.
    pub fn restore<R>(
        &mut self,
        read: impl FnOnce(&mut dyn FnMut(Record<'_>) -> Result<(), InvalidRecord>) -> R,
    ) -> R {
        let mut restoring = Restoring::new(&mut self.chat, self.table.now);
        let read = read(&mut |record| restoring.take(record, api::json::event_bytes));
        restoring.finish();
        read
    }

    // ---- For operators and tests

    /// Connections that are not freed yet.
    pub fn connection_count(&self) -> usize {
        self.table.slots.len()
    }

    /// The domain, read-only.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.table.counters
    }

    /// Timers that are armed.
    pub fn timer_count(&self) -> usize {
        self.chat.timer_count() + self.table.timer_count()
    }

    /// Time since the clock began.
    pub(super) fn uptime(&self) -> Duration {
        self.table.now.mono.since(Mono::ZERO)
    }

    /// For tests: what this tick has done, in steps that each take well below ten microseconds: turns,
    /// recipients of batches, flushes, ends and closes.
    #[cfg(debug_assertions)]
    pub fn steps(&self) -> usize {
        self.table.steps
    }

    /// For tests: handling a request whose first path segment is `word`, or a message that equals
    /// `word`, panics.
    #[cfg(debug_assertions)]
    pub fn plant_fault(&mut self, word: String) {
        self.fault = Some(word);
    }

    /// For tests, and after a caught panic: panics if any state contradicts itself.
    pub fn check_invariants(&self) {
        self.chat.check_invariants();
        self.table.check_invariants();
    }

    /// For tests, between two ticks: panics if a recount of the connections differs from what the
    /// ledger holds. (`Chat::check_invariants` recounts the domain.)
    pub fn check_ledger(&self) {
        self.table.check_counted();
    }
}

/// Overwrites the part of the stack that the calls of a request have used. What they were passed by
/// value, the id of a session above all, would stay there until other calls happen to overwrite it.
///
/// One kilobyte at a time: that takes fifty instructions, where one call for all of it would take as many
/// as it has bytes.
#[inline(never)]
fn clear_stack(kilobytes: usize) {
    let mut space = [0u8; 1024];
    std::hint::black_box(&mut space);
    if let Some(rest) = kilobytes.checked_sub(1) {
        clear_stack(rest);
    }
    std::hint::black_box(&mut space);
}
