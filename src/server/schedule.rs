//! Whose turn it is, and how much a turn may cost.
//!
//! Owns the order in which connections are served and all constants of that policy. Must not know a
//! connection, a byte or a protocol: it handles keys of any type, and is told what a turn did as a
//! value. The invariant: every queued key gets a turn within a bounded number of ticks. (The caller
//! queues a key at most once.) A change that takes a key out of a queue without giving it a turn
//! leaves input unread for ever, because an edge-triggered poll does not report it again.
//!
//! # Lanes
//!
//! A connection is *interactive* as long as it causes no more work than a person who types or
//! pastes. Interactive connections have their turns first. Those that speak WebSocket and those
//! that speak HTTP wait in a queue each and alternate, so that long responses do not delay chat
//! messages.
//!
//! Everything else is in the *background*: connections that recently cost more than that, that have
//! more input than one turn takes, or that the peer has closed. They share a budget of their own,
//! and have no turns while output has to be written first, for a bounded number of ticks.
//!
//! # Cost
//!
//! There is one unit, [`Cost`], an estimate in nanoseconds. A turn reports its [`Work`]; the prices
//! in `PRICE_…` turn that into a cost. The cost is taken from the budget of the tick and from the
//! connection's own allowance, a [`Meter`] that the owner of the key keeps for it.
//!
//! # Coalescing
//!
//! What background connections post may wait a few ticks for more, because one large write per
//! recipient costs less than many small ones. [`Schedule::coalesce`] decides how long.

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::time::Duration;

use crate::clock::Mono;
use crate::rate::Meter;

/// Estimated work in nanoseconds, on the machine that the comment above the prices names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) struct Cost(u64);

impl Cost {
    pub const fn nanos(nanos: u64) -> Cost {
        Cost(nanos)
    }

    const fn times(self, count: usize) -> Cost {
        Cost(self.0.saturating_mul(count as u64))
    }

    /// The cost of `bytes` at a price for 1024 of them.
    const fn per_kib(self, bytes: usize) -> Cost {
        Cost(self.0.saturating_mul(bytes as u64) / 1024)
    }

    const fn saturating_sub(self, other: Cost) -> Cost {
        Cost(self.0.saturating_sub(other.0))
    }

    const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.0 = self.0.saturating_add(other.0);
    }
}

// ---- Prices: what work costs.
//
// Figures named "measured" are medians of `cargo bench --bench micro -- turns` on two shared cores
// of an x86-64 server, over socket pairs and with the kernel's part. Prices are those of the most
// expensive traffic, not of average traffic, because an attacker chooses the traffic.

/// A turn in which little or nothing is read. Measured: 0.3 µs if there is nothing, 1.2 µs for a
/// hang-up, 2.1 µs for the smallest request with its response. Over TCP, a request takes 6.6 µs
/// (`--bench load`, REST mix), of which the turn is the larger part.
const PRICE_TURN_MIN: Cost = Cost::nanos(5_120);

/// 1024 bytes of input. Measured: 9 ns a byte in 300 frames of 23 bytes, 0.6 ns a byte in one
/// message of 4,000.
const PRICE_READ_KIB: Cost = Cost::nanos(10_240);

/// One HTTP request, beside its bytes. Measured: 2.1 µs with its response.
const PRICE_REQUEST: Cost = Cost::nanos(1_920);

/// One event from a WebSocket peer, beside its bytes. Measured: 0.2 µs for an event that its rate
/// limit drops, and 1.9 µs for a chat that is delivered to one member.
const PRICE_EVENT: Cost = Cost::nanos(640);

/// 1024 bytes that are generated for one connection: a response, or a page of history. Measured:
/// 2.4 µs for a request with ten messages of history, 2.9 KiB (`--bench micro -- resume_by_rest`).
const PRICE_WRITTEN_KIB: Cost = Cost::nanos(1_280);

/// 1024 bytes of published events, for each recipient. Charged to the connection only.
const PRICE_FAN_OUT_KIB: Cost = Cost::nanos(1_280);

/// One recipient of a batch that is sealed in a turn, charged to the tick. Measured: 0.06 µs to
/// queue (`--bench micro -- fan_out`), twice that if nothing of the recipient is in the caches.
/// Writes have a budget of their own, [`DEFERRED_FLUSHES_MAX`].
const PRICE_RECIPIENT: Cost = Cost::nanos(100);

// ---- Budgets: how much may be done at a time.
//
// `tests/attacks` measures them (`ATTACK_REPORT=1 SLOW_TESTS=1`). It compares the latency of other
// connections, as the 99th percentile, during each attack and without one. During an attack it is
// 0.6 to 2.4 times as long with these budgets, and 0.3 to 2.3 times with budgets half as large.

/// Input read in one interactive turn, in bytes: about ten chat messages. When hundreds of
/// connections send at once, each waits for at most this much from each of the others.
const INTERACTIVE_TURN_BYTES_MAX: usize = 1024;

/// Input read in one background turn, in bytes. Larger reads do not make reading cheaper.
pub(super) const BACKGROUND_TURN_BYTES_MAX: usize = 8 * 1024;

/// Bytes generated for one connection in one turn, beyond which its next request or event has to
/// wait for another turn. A few small responses fit into one turn. The content that a response to
/// HEAD omits counts, too, because it was generated.
pub(super) const ANSWERED_BYTES_MAX: usize = 16 * 1024;

/// All interactive turns of one tick, before timers and writes.
const INTERACTIVE_TICK: Cost = Cost::nanos(327_680);

/// All background turns of one tick. They add about this much to the wait of an interactive
/// connection that becomes ready meanwhile. (The last turn may exceed the budget.)
const BACKGROUND_TICK: Cost = Cost::nanos(81_920);

/// What a connection may cost in a second and stay interactive: 16 KiB of input, more than a person
/// types or pastes, and little enough that hundreds of connections can keep it up.
const ALLOWANCE_PER_SECOND: Cost = Cost::nanos(163_840);

/// What a connection may cost at once: 8 KiB of input, thirty pasted messages with their delivery.
const ALLOWANCE_BURST: Cost = Cost::nanos(81_920);

/// Consecutive ticks in which background connections get no turn because output has to be written
/// first. At a millisecond a tick this is a quarter of a second. Without a bound they would starve.
const BACKGROUND_SKIPS_MAX: u32 = 256;

/// A room is large from this many connections on. Its output is deferred, and while there is a
/// backlog its members are served in the background lane.
const FAN_OUT_LARGE: usize = 32;

/// A room is huge from this many connections on: writing to all of them takes ten milliseconds and
/// more. Large rooms do not wait for its output.
const FAN_OUT_HUGE: usize = 512;

/// The longest time for which events of background connections are coalesced. Measured: a third
/// less CPU for each delivery in a hundred busy rooms of ten (`--bench load`).
const COALESCE_TIME_MAX: Duration = Duration::from_millis(10);

/// What background turns may cost while events are coalesced.
const COALESCE_COST_MAX: Cost = Cost::nanos(10_485_760);

/// The most connection timers, and the most domain timers, that fire in one tick; the rest fire in
/// the next ticks. Connections that were accepted together time out together, perhaps ten thousand
/// of them. Measured: 64 of them took up to a millisecond.
pub(super) const TIMERS_MAX: usize = 16;

/// Steps of endings in one tick, of each kind: ends that are reported to the domain, members and
/// connections of rooms that have ended, connections that are closed because the server ends, and
/// connections that are freed. Measured: 7 µs for a close, most of it in the kernel.
pub(super) const ENDS_MAX: usize = 128;

/// Connections accepted from one listener in one tick.
pub(super) const ACCEPTS_MAX: usize = 16;

/// Most places of connections that one tick visits for an announcement.
pub(super) const ANNOUNCED_PLACES_MAX: usize = 4096;

/// How many connections over a limit are searched for one that can give way to a newcomer.
pub(super) const GIVE_WAY_SEARCH_MAX: usize = 512;

/// Bytes written to one connection in one tick. Without a bound, a peer that reads as fast as the
/// server writes receives megabytes of history while the others wait. Measured: beside eight such
/// peers the 99th percentile of others falls from 11.9 to 0.6 ms.
pub(super) const FLUSH_BYTES_MAX: usize = 64 * 1024;

/// Deferred flushes in one tick: about a quarter of a millisecond.
pub(super) const DEFERRED_FLUSHES_MAX: usize = 32;

/// Bytes written by the deferred flushes of one tick.
pub(super) const DEFERRED_BYTES_MAX: usize = 128 * 1024;

/// Bytes of history queued in one phase of a tick for all connections that are catching up,
/// including the user lists of the final pages: about half a millisecond. When a thousand
/// connections resume at once, they are served in turns, and other connections between them.
pub(super) const PAGED_BYTES_MAX: usize = 512 * 1024;

/// What one person in a list of users costs, as bytes that are generated and, against
/// [`PAGED_BYTES_MAX`], queued. Measured: 0.5 µs in a room of 6,000, four fifths of it for memory
/// that is in no cache.
pub(super) const LISTED_BYTES: usize = 512;

/// A page of history has mostly been written, and the next page is due, when at most this many
/// bytes are queued.
pub(super) const PAGE_LEFT_BYTES_MAX: usize = 16 * 1024;

/// What one turn did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Work {
    /// Bytes read, or the equivalent in bytes of other work (a TLS handshake).
    pub bytes_in: usize,
    /// HTTP requests answered.
    pub requests: usize,
    /// Events from a WebSocket peer.
    pub events: usize,
    /// Bytes generated for this connection: responses, pages of history.
    pub bytes_out: usize,
    /// Connections to which batches were queued.
    pub recipients: usize,
    /// Bytes of its events, times the recipients of each.
    pub fan_out_bytes: usize,
}

impl Work {
    /// One event of `bytes` was published to `recipients` connections.
    pub fn on_published(&mut self, bytes: usize, recipients: usize) {
        self.fan_out_bytes = self.fan_out_bytes.saturating_add(bytes.saturating_mul(recipients));
    }

    /// The connection's own input and output, without the fan-out of its events.
    fn cost(&self) -> Cost {
        let mut cost = PRICE_READ_KIB.per_kib(self.bytes_in);
        cost += PRICE_REQUEST.times(self.requests);
        cost += PRICE_EVENT.times(self.events);
        cost += PRICE_WRITTEN_KIB.per_kib(self.bytes_out);
        cost
    }

    /// What the tick is charged.
    fn tick_cost(&self) -> Cost {
        let mut cost = self.cost().max(PRICE_TURN_MIN);
        cost += PRICE_RECIPIENT.times(self.recipients);
        cost
    }

    /// What the connection is charged.
    fn connection_cost(&self) -> Cost {
        let mut cost = self.cost();
        cost += PRICE_FAN_OUT_KIB.per_kib(self.fan_out_bytes);
        cost
    }
}

/// Whether a connection has cost more than an interactive one may.
fn is_exceeded(allowance: Meter, now: Mono) -> bool {
    !allowance.overrun(time_for(ALLOWANCE_BURST), now).is_zero()
}

/// The time in which the allowance of a connection grows by this cost.
fn time_for(cost: Cost) -> Duration {
    let micros = cost.0.saturating_mul(1_000_000) / ALLOWANCE_PER_SECOND.0;
    Duration::from_micros(micros)
}

/// Where a connection waits for its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// Served first.
    Interactive,
    /// Served afterwards, within a budget of its own.
    Background,
}

impl Lane {
    /// Input read in one turn, in bytes.
    pub fn turn_bytes_max(self) -> usize {
        match self {
            Lane::Interactive => INTERACTIVE_TURN_BYTES_MAX,
            Lane::Background => BACKGROUND_TURN_BYTES_MAX,
        }
    }
}

/// The two queues of the interactive lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Queue {
    /// Connections that speak WebSocket.
    Messages,
    /// Connections that speak HTTP, or are closing.
    Requests,
}

/// Which output is pending.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Output {
    /// A flush is deferred.
    pub has_backlog: bool,
    /// A batch is full, or the page budget is, or memory is short: output must be written before
    /// more is read.
    pub is_full: bool,
}

/// Whether batches that only background connections have written to are sealed in this tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coalesce {
    /// They are.
    Now,
    /// They may stay open for more events, until then at the latest.
    Until(Mono),
}

/// Keys in the order of their turns.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    messages: VecDeque<K>,
    requests: VecDeque<K>,
    background: VecDeque<K>,
    /// The interactive queue that had the last turn.
    last: Queue,
    /// The lane that has its turns now, and the turns and the budget that it has left in this tick.
    lane: Lane,
    turns_left: usize,
    budget: Cost,
    /// Consecutive ticks without a background turn.
    skips: u32,
    /// When all batches were last sealed, and what background turns have cost since.
    coalescing_since: Mono,
    coalescing_cost: Cost,
}

impl<K: Copy> Schedule<K> {
    /// Nothing queued.
    pub fn new() -> Schedule<K> {
        Schedule {
            messages: VecDeque::new(),
            requests: VecDeque::new(),
            background: VecDeque::new(),
            last: Queue::Requests,
            lane: Lane::Interactive,
            turns_left: 0,
            budget: Cost::default(),
            skips: 0,
            coalescing_since: Mono::ZERO,
            coalescing_cost: Cost::default(),
        }
    }

    /// Queues a key for a turn: in `queue`, unless its allowance is exceeded. The caller keeps a
    /// key from being queued twice.
    pub fn push(&mut self, key: K, allowance: Meter, queue: Queue, now: Mono) {
        match queue {
            _ if is_exceeded(allowance, now) => self.background.push_back(key),
            Queue::Messages => self.messages.push_back(key),
            Queue::Requests => self.requests.push_back(key),
        }
    }

    /// Queues a key for a turn in the background, whatever its allowance.
    pub fn push_background(&mut self, key: K) {
        self.background.push_back(key);
    }

    /// Whether no key is queued.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.requests.is_empty() && self.background.is_empty()
    }

    /// Begins the turns of a lane in this tick. Interactive keys that are queued from now on wait
    /// for the next tick, so that each has one turn.
    pub fn begin(&mut self, lane: Lane, output: Output) {
        self.lane = lane;
        match lane {
            Lane::Interactive => {
                self.turns_left = self.messages.len() + self.requests.len();
                self.budget = INTERACTIVE_TICK;
            }
            Lane::Background => {
                let must_wait = output.has_backlog || output.is_full;
                let is_skipped = must_wait && self.skips < BACKGROUND_SKIPS_MAX;
                self.skips = if is_skipped { self.skips + 1 } else { 0 };
                self.turns_left = if is_skipped { 0 } else { usize::MAX };
                self.budget = BACKGROUND_TICK;
            }
        }
    }

    /// The key whose turn it is, in the lane that has begun; `None`: the lane's turns are over.
    pub fn next(&mut self) -> Option<K> {
        if self.turns_left == 0 || self.budget.is_zero() {
            return None;
        }
        self.turns_left -= 1;
        match self.lane {
            Lane::Interactive => self.next_interactive(),
            Lane::Background => self.background.pop_front(),
        }
    }

    fn next_interactive(&mut self) -> Option<K> {
        let (one, other) = match self.last {
            Queue::Messages => (Queue::Requests, Queue::Messages),
            Queue::Requests => (Queue::Messages, Queue::Requests),
        };
        self.last = if self.queue(one).is_empty() { other } else { one };
        self.queue(self.last).pop_front()
    }

    fn queue(&mut self, queue: Queue) -> &mut VecDeque<K> {
        match queue {
            Queue::Messages => &mut self.messages,
            Queue::Requests => &mut self.requests,
        }
    }

    /// Charges a turn to the tick, and to the connection unless that is gone.
    pub fn charge(&mut self, allowance: Option<&mut Meter>, work: &Work, now: Mono) {
        let cost = work.tick_cost();
        self.budget = self.budget.saturating_sub(cost);
        if self.lane == Lane::Background {
            self.coalescing_cost += cost;
        }
        if let Some(allowance) = allowance {
            allowance.charge(time_for(work.connection_cost()), now);
        }
    }

    /// Whether batches that only background connections have written to are sealed now. They stay
    /// open only while more background turns are queued and no other output is pending, and within
    /// [`COALESCE_TIME_MAX`] and [`COALESCE_COST_MAX`].
    pub fn coalesce(&self, now: Mono, output: Output) -> Coalesce {
        let deadline = self.coalescing_since.after(COALESCE_TIME_MAX);
        let may_wait = !self.background.is_empty()
            && self.coalescing_cost < COALESCE_COST_MAX
            && now < deadline
            && !output.has_backlog
            && !output.is_full;
        if may_wait { Coalesce::Until(deadline) } else { Coalesce::Now }
    }

    /// Whether background turns are being skipped because of pending output. Until they have a turn
    /// again, a batch for a room that has to wait may stay open.
    pub fn is_skipping(&self) -> bool {
        self.skips > 0
    }

    /// All batches were sealed. Their frames may still be in outboxes.
    pub fn on_all_sealed(&mut self, now: Mono) {
        (self.coalescing_since, self.coalescing_cost) = (now, Cost::default());
    }

    /// Shrinks the queues that have grown far beyond `keys`, the number of connections.
    pub fn shrink(&mut self, keys: usize) {
        for queue in [&mut self.messages, &mut self.requests, &mut self.background] {
            shrink(queue, keys);
        }
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        let queues = [&self.messages, &self.requests, &self.background];
        queues.map(VecDeque::capacity).into_iter().sum::<usize>() * size_of::<K>()
    }

    /// All queued keys, for checks.
    pub fn iter(&self) -> impl Iterator<Item = K> {
        self.messages.iter().chain(&self.requests).chain(&self.background).copied()
    }
}

/// The size of a room, as far as its output is concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum FanOut {
    /// Its output is written in the tick in which it is made.
    Small,
    /// Its output is deferred, and its members wait while there is a backlog, so that their events
    /// are coalesced.
    Large,
    /// The same, behind the output of large rooms.
    Huge,
}

impl FanOut {
    /// Of a room with `recipients` connections.
    pub fn of(recipients: usize) -> FanOut {
        match recipients {
            FAN_OUT_HUGE.. => FanOut::Huge,
            FAN_OUT_LARGE.. => FanOut::Large,
            _ => FanOut::Small,
        }
    }
}

/// Capacity that is not worth giving back.
const CAPACITY_MIN: usize = 64;

/// Shrinks a queue that has grown far beyond `keys`, the number of connections.
pub(super) fn shrink<K>(queue: &mut VecDeque<K>, keys: usize) {
    if keys == 0 {
        *queue = VecDeque::new();
    } else if queue.capacity() > CAPACITY_MIN && queue.capacity() / 4 > keys {
        queue.shrink_to(keys);
    }
}

#[cfg(test)]
mod tests;
