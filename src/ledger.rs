//! The count of the bytes that the server keeps for clients, and the ceiling for this count.
//!
//! Owns the totals, and the order in which the server saves memory as they approach the ceiling
//! ([`Pressure`]). Must not know what the bytes are used for, nor how resident memory is read. The
//! invariant: when a [`Tally`] is dropped, it subtracts everything that it has added, so that freed
//! memory is not counted.
//!
//! The stages look at the larger of two numbers: the count, and an estimate of what is resident
//! ([`Residency`]). The count is exact and immediate, but blind to the allocator's losses: memory
//! that is free but lies between pieces that are not. The kernel's figure includes them, but is at
//! most a second old. So the estimate is the last reading, less what the program itself and
//! ordinary losses may take, plus what the count has grown since.
//!
//! The table shows the memory of one of 10,000 idle sockets, in bytes on a 64-bit machine. Each
//! socket has its own session and has sent one message; ten sockets share a room. The sizes of
//! types are asserted beside the types; the other figures include the allocator's rounding.
//!
//! | what | bytes |
//! |---|---|
//! | `server`: the slot of a `Connection` (152), which includes its timer | 160 |
//! | `chat`: the slot of a `Session` (144), its place in the index of ids | 152 + 15 |
//! | the slots of a `Member` (64) and an `Attachment` (48) | 72 + 56 |
//! | a tenth of a `Feed` with its `Room` (312), of its lists and of its entries in maps | 32 + 52 |
//! | the records of two messages, a join and a chat message, in blocks that are nine tenths full | 260 |
//! | sum | 799 |
//!
//! `cargo bench --bench load -- --only idle` measures 815, which include the allocator's losses. An
//! idle socket has no buffer, no queue and no tungstenite state, and a name of up to 21 bytes is in
//! the session's slot. A socket with TLS takes 7,400 more, which `net::tls` reports.
//!
//! The totals are atomics behind an `Arc`, although there is no second thread: [`Ledger::charge`]
//! puts a tally into a `Bytes`, and `Bytes::from_owner` requires `Send`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// The purpose for which bytes are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Account {
    /// Connections: their slots, and what each has while it is idle.
    Connections,
    /// Burdens of connections: input under way, and output that is not read, without frames.
    Burdens,
    /// Sessions, the usage of each address, and the domain's timers.
    Sessions,
    /// Rooms, their members, and the buffers in which their batches begin.
    Rooms,
    /// The messages in the histories of rooms.
    Histories,
    /// Encoded frames and listings on their way to connections. A frame in many outboxes is counted
    /// once.
    Frames,
    /// What is under way to the store of a cluster and from it, and what waits for it.
    #[cfg(feature = "cluster")]
    Store,
}

impl Account {
    /// All accounts.
    pub const ALL: [Account; 6 + cfg!(feature = "cluster") as usize] = [
        Account::Connections,
        Account::Burdens,
        Account::Sessions,
        Account::Rooms,
        Account::Histories,
        Account::Frames,
        #[cfg(feature = "cluster")]
        Account::Store,
    ];

    /// The account's name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Account::Connections => "connections",
            Account::Burdens => "burdens",
            Account::Sessions => "sessions",
            Account::Rooms => "rooms",
            Account::Histories => "histories",
            Account::Frames => "frames",
            #[cfg(feature = "cluster")]
            Account::Store => "store",
        }
    }
}

/// The stages of saving memory, which begin in this order as the bytes in use ([`Ledger::used`])
/// approach the ceiling (`--max-memory`).
///
/// The bounds of two stages are so far apart that one tick cannot cross both before the next check.
/// The bound at which a stage ends is lower, so that small changes do not switch it on and off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// The server drops the oldest messages of the rooms that have been silent longest.
    Histories,
    /// The server opens no rooms and no sessions: 503 `server_full`.
    Creations,
    /// The server refuses new connections, upgrades and joins: 503.
    Connections,
    /// The server closes the connections with the largest burdens: 1013 `server full`, or 503.
    /// Until it has done so it reads no input.
    Readers,
}

impl Pressure {
    /// All stages, in the order in which they begin.
    pub const ALL: [Pressure; 4] =
        [Pressure::Histories, Pressure::Creations, Pressure::Connections, Pressure::Readers];

    /// The bounds at which the stage begins and ends, in percent of the ceiling.
    pub const fn bounds(self) -> (usize, usize) {
        match self {
            Pressure::Histories => (80, 78),
            Pressure::Creations => (85, 82),
            Pressure::Connections => (90, 87),
            Pressure::Readers => (95, 92),
        }
    }
}

/// The bounds on all burdens together, in percent of the ceiling: beyond the first, connections are
/// closed until the second is reached. So burdens give way before any history does, unless other
/// things have filled the memory.
///
/// The bounds are apart so that connections are searched once for every twentieth of the ceiling
/// that is sent or requested, and not in every tick.
const BURDENS_BOUNDS: (usize, usize) = (25, 20);

/// A handle on the totals. Clones are cheap and share the totals.
#[derive(Clone)]
pub struct Ledger(Arc<Totals>);

struct Totals {
    accounts: [AtomicUsize; Account::ALL.len()],
    ceiling: usize,
    /// For each stage, whether it has begun and not ended.
    begun: [AtomicBool; Pressure::ALL.len()],
    /// Whether burdens have exceeded their first bound and not come down to the second.
    is_burdened: AtomicBool,
    /// What was resident beyond the count and the allowances at the last reading.
    uncounted: AtomicUsize,
    /// Counted bytes that the kernel has mapped for histories, outside the heap.
    mapped: AtomicUsize,
    /// What was resident at the last reading, without these bytes.
    heap: AtomicUsize,
    /// The part of `uncounted` for which no message is dropped.
    excused: AtomicUsize,
}

impl Ledger {
    /// A ledger without a ceiling.
    pub fn new() -> Ledger {
        Ledger::with_ceiling(usize::MAX)
    }

    /// A ledger with a ceiling.
    pub fn with_ceiling(bytes: usize) -> Ledger {
        Ledger(Arc::new(Totals {
            accounts: Default::default(),
            ceiling: bytes,
            begun: Default::default(),
            is_burdened: AtomicBool::new(false),
            uncounted: AtomicUsize::new(0),
            mapped: AtomicUsize::new(0),
            heap: AtomicUsize::new(0),
            excused: AtomicUsize::new(0),
        }))
    }

    /// A tally for `account`, at zero.
    pub fn tally(&self, account: Account) -> Tally {
        Tally { ledger: self.clone(), account, bytes: 0 }
    }

    /// Shares `bytes`, and counts them on `account` until the last clone is dropped. `beside`:
    /// other bytes to count, which are freed at the same time.
    pub fn charge(&self, account: Account, bytes: Box<[u8]>, beside: usize) -> Bytes {
        struct Charged(Box<[u8]>, #[allow(dead_code, reason = "counts until dropped")] Tally);
        impl AsRef<[u8]> for Charged {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        /// `Bytes` allocates the owner together with a counter and a function pointer (16 bytes).
        const OVERHEAD: usize = allocation(16 + size_of::<Charged>());
        let mut tally = self.tally(account);
        tally.set(allocation(bytes.len()) + OVERHEAD + beside);
        Bytes::from_owner(Charged(bytes, tally))
    }

    /// Bytes counted on one account.
    pub fn bytes(&self, account: Account) -> usize {
        self.0.accounts[account as usize].load(Relaxed)
    }

    /// Bytes counted on all accounts.
    pub fn total(&self) -> usize {
        self.0.accounts.iter().map(|total| total.load(Relaxed)).sum()
    }

    /// Bytes in use: the total, or the estimate of what is resident if that is more.
    pub fn used(&self) -> usize {
        self.total().saturating_add(self.0.uncounted.load(Relaxed))
    }

    /// Whether the heap has much free memory: at the last reading it was clearly larger than what is
    /// counted in it now. (It can only have grown since.)
    pub fn has_free_heap(&self) -> bool {
        let counted = self.total().saturating_sub(self.0.mapped.load(Relaxed));
        let free = self.0.heap.load(Relaxed).saturating_sub(counted.saturating_add(PROGRAM_BYTES));
        free > self.0.ceiling / 32
    }

    /// Reports that bytes which a tally counts were mapped outside the heap.
    pub fn on_mapped(&self, bytes: usize) {
        self.0.mapped.fetch_add(bytes, Relaxed);
    }

    /// Reports that such bytes were unmapped.
    pub fn on_unmapped(&self, bytes: usize) {
        self.0.mapped.fetch_sub(bytes, Relaxed);
    }

    /// The bound that the bytes in use should not exceed.
    pub fn ceiling(&self) -> usize {
        self.0.ceiling
    }

    fn percent(&self, percent: usize) -> usize {
        self.0.ceiling / 100 * percent
    }

    /// How many bytes can be added before the total exceeds the bound at which the stage ends.
    pub fn left(&self, stage: Pressure) -> usize {
        (self.0.ceiling / 100 * stage.bounds().1).saturating_sub(self.total())
    }

    /// Whether this stage has begun and not ended. Updates that state from the bytes in use.
    pub fn is_at(&self, stage: Pressure) -> bool {
        let excused = match stage {
            Pressure::Histories => self.0.excused.load(Relaxed),
            _ => 0,
        };
        let used = self.used().saturating_sub(excused);
        self.is_beyond(used, stage.bounds(), &self.0.begun[stage as usize])
    }

    /// Whether the burdens of connections exceed their share of the ceiling. Updates that state.
    /// Frames count with them: only outboxes keep frames, but for the current listings.
    pub fn is_burdened(&self) -> bool {
        let burdens = self.bytes(Account::Burdens) + self.bytes(Account::Frames);
        self.is_beyond(burdens, BURDENS_BOUNDS, &self.0.is_burdened)
    }

    /// How many bytes burdens can grow by before connections are closed for them.
    pub fn burdens_left(&self) -> usize {
        let burdens = self.bytes(Account::Burdens) + self.bytes(Account::Frames);
        self.percent(BURDENS_BOUNDS.1).saturating_sub(burdens)
    }

    /// Whether `bytes` are beyond the bound that applies: the first, or once that was exceeded the
    /// second.
    fn is_beyond(&self, bytes: usize, bounds: (usize, usize), exceeded: &AtomicBool) -> bool {
        let bound = if exceeded.load(Relaxed) { bounds.1 } else { bounds.0 };
        let is_beyond = bytes > self.percent(bound);
        exceeded.store(is_beyond, Relaxed);
        is_beyond
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

/// What may be resident without anything being kept for clients: the stack, static data, the read
/// buffer, and what the allocator holds in reserve. An empty server has 0.6 MiB of it.
const PROGRAM_BYTES: usize = 3 << 20;

/// The part of the ceiling that the allocator's losses may take before they count, as a divisor.
const LOSSES_DIVISOR: usize = 10;

/// The most that messages are dropped for between two readings because of what is resident, as a
/// divisor of the ceiling.
const ASKED_DIVISOR: usize = 20;

/// How much the count grows after a reading until an early one is made, as a divisor of the ceiling.
/// It is less than what lies between two stages.
const OUTGROWN_DIVISOR: usize = 64;

/// The most readings for which no message is dropped after dropping some was in vain.
const WAIT_MAX: u32 = 1024;

/// Readings of what is resident, and what follows from them.
///
/// Dropping messages lowers the count at once, and with it the estimate; so between two readings no
/// more is dropped than the last one calls for. Whether it lowers the next reading is another
/// question: the allocator returns to the kernel only what is free as a whole. If it does not,
/// dropping more would erase every history for nothing, while the free memory is used again by what
/// comes next. Therefore:
///
/// - Losses of up to a tenth of the ceiling do not count.
/// - For what a reading shows beyond the count, at most a twentieth of the ceiling is dropped until
///   the next.
/// - If more than half of that is still resident at the next reading, none is dropped for this
///   reason for one reading, then for two, four and so on. Growth of the count is made up for all
///   the while.
/// - Beyond the bound of the last stage there is no waiting. Everything resident then is at most
///   the ceiling and a tenth of it, and the allowance for the program.
///
/// The estimate adds what the count grows by after a reading. But what is new takes free memory of
/// the heap first, which the reading has already shown, so where much was free the estimate soon is
/// far too high. Before it closes connections for that, the server makes an early reading
/// ([`Residency::is_outgrown`]).
pub struct Residency {
    ledger: Ledger,
    /// The count at the last reading, regular or early.
    counted: usize,
    /// The part of the last reading for which messages were to be dropped.
    asked: usize,
    /// Readings left for which none is.
    wait: u32,
    /// How many readings were waited for the last time.
    waited: u32,
}

impl Residency {
    /// Nothing was read yet: the stages look at the count alone.
    pub fn new(ledger: &Ledger) -> Residency {
        Residency { ledger: ledger.clone(), counted: 0, asked: 0, wait: 0, waited: 0 }
    }

    /// The kernel reports so many resident bytes that no file backs. `group`: the limit of the
    /// process's control group, and what is left of it.
    ///
    /// What is left of the group counts as if it were left of the ceiling, in proportion if the
    /// group is smaller than the ceiling. So the stages begin in time, whatever takes the memory of
    /// the group: the kernel counts the buffers of sockets in it, and files that are in memory.
    pub fn on_reading(&mut self, anonymous: usize, group: Option<(usize, usize)>) {
        let uncounted = self.read(anonymous, group);
        let totals = &self.ledger.0;
        let grown = uncounted.saturating_sub(totals.uncounted.swap(uncounted, Relaxed));
        let was_in_vain = self.asked > 0 && grown > self.asked / 2;
        let used = self.ledger.used();
        let is_short = used > self.ledger.percent(Pressure::Histories.bounds().0);
        let is_urgent = used > self.ledger.percent(Pressure::Readers.bounds().0);
        if is_short && was_in_vain {
            self.waited = (self.waited * 2).clamp(1, WAIT_MAX);
            self.wait = self.waited;
        } else if !is_short || self.asked > 0 {
            (self.wait, self.waited) = (0, 0);
        }
        let (over, may_ask) = (self.over(), is_short && (self.wait == 0 || is_urgent));
        self.asked = if may_ask { over.min(totals.ceiling / ASKED_DIVISOR) } else { 0 };
        self.wait = self.wait.saturating_sub(1);
        totals.excused.store(over - self.asked, Relaxed);
    }

    /// Whether the count has grown so much since the last reading that a stage may begin for an
    /// estimate that is too high.
    pub fn is_outgrown(&self) -> bool {
        let (total, end) = (self.ledger.total(), Pressure::Histories.bounds().1);
        self.ledger.used() > total.max(self.ledger.percent(end))
            && total.saturating_sub(self.counted) > self.ledger.ceiling() / OUTGROWN_DIVISOR
    }

    /// An early reading. It only ever lowers the estimate: messages are dropped for regular readings,
    /// whose number the waiting is counted in.
    pub fn on_early_reading(&mut self, anonymous: usize, group: Option<(usize, usize)>) {
        let uncounted = self.read(anonymous, group);
        let totals = &self.ledger.0;
        totals.uncounted.fetch_min(uncounted, Relaxed);
        totals.excused.fetch_min(self.over(), Relaxed);
    }

    /// Notes a reading, and returns what it shows beyond the count and the allowances.
    fn read(&mut self, anonymous: usize, group: Option<(usize, usize)>) -> usize {
        let totals = &self.ledger.0;
        let (counted, ceiling) = (self.ledger.total(), totals.ceiling);
        self.counted = counted;
        totals.heap.store(anonymous.saturating_sub(totals.mapped.load(Relaxed)), Relaxed);
        let allowed = counted.saturating_add(PROGRAM_BYTES + ceiling / LOSSES_DIVISOR);
        let left = group.map_or(usize::MAX, |(max, left)| {
            let share = left / (max / 1024).max(1); // In parts of 1024.
            left.max((ceiling / 1024).saturating_mul(share))
        });
        let of_group = ceiling.saturating_sub(left).saturating_sub(counted);
        anonymous.saturating_sub(allowed).max(of_group)
    }

    /// What forgetting would have to free because of what is resident alone.
    fn over(&self) -> usize {
        let end = self.ledger.percent(Pressure::Histories.bounds().1);
        let uncounted = self.ledger.0.uncounted.load(Relaxed);
        self.ledger.used().saturating_sub(end).min(uncounted)
    }
}

/// The heap that an allocation of `bytes` takes. glibc adds one word and rounds up to a multiple of
/// two words, at least four words.
pub const fn allocation(bytes: usize) -> usize {
    const WORD: usize = size_of::<usize>();
    match bytes {
        0 => 0,
        _ if bytes <= 3 * WORD => 4 * WORD,
        _ => (bytes + WORD).next_multiple_of(2 * WORD),
    }
}

/// The part of an account that one holder has added.
pub struct Tally {
    ledger: Ledger,
    account: Account,
    bytes: usize,
}

impl Tally {
    /// Sets the number of counted bytes.
    pub fn set(&mut self, bytes: usize) {
        let total = &self.ledger.0.accounts[self.account as usize];
        if bytes >= self.bytes {
            total.fetch_add(bytes - self.bytes, Relaxed);
        } else {
            total.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
    }

    /// Counts `after` bytes instead of `before`, which are a part of the counted bytes.
    pub fn change(&mut self, before: usize, after: usize) {
        debug_assert!(self.bytes >= before, "subtracting more than was counted");
        self.set((self.bytes + after).saturating_sub(before));
    }

    /// The number of counted bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_tally_no_longer_counts() {
        let ledger = Ledger::new();
        let mut first = ledger.tally(Account::Rooms);
        let mut second = ledger.tally(Account::Rooms);
        let mut other = ledger.tally(Account::Frames);
        first.set(100);
        second.set(20);
        other.set(3);
        first.change(100, 50);
        assert_eq!((ledger.bytes(Account::Rooms), ledger.total()), (70, 73));
        drop(first);
        assert_eq!((ledger.bytes(Account::Rooms), ledger.total()), (20, 23));
        drop((second, other));
        assert_eq!(ledger.total(), 0);
    }

    #[test]
    fn a_stage_begins_above_its_bound_and_ends_at_a_lower_one() {
        let ledger = Ledger::with_ceiling(1000);
        let mut tally = ledger.tally(Account::Sessions);
        for (stage, (begin, end)) in Pressure::ALL.map(|stage| (stage, stage.bounds())) {
            assert!(end < begin);
            let steps = [(begin, false), (end + 1, false), (begin + 1, true), (begin, true)];
            for (percent, expected) in steps.into_iter().chain([(end + 1, true), (end, false)]) {
                tally.set(percent * 10);
                assert_eq!(ledger.is_at(stage), expected, "{stage:?} at {percent} %");
            }
        }
        assert!(
            Pressure::ALL.map(Pressure::bounds).is_sorted(),
            "the stages begin one after the other"
        );
    }

    #[test]
    fn burdens_are_beyond_their_share_until_they_are_well_below_it() {
        let ledger = Ledger::with_ceiling(1000);
        let mut burdens = ledger.tally(Account::Burdens);
        let mut frames = ledger.tally(Account::Frames);
        let mut others = ledger.tally(Account::Sessions);
        others.set(700);
        for (bytes, expected) in [(250, false), (251, true), (201, true), (200, false)] {
            burdens.set(100);
            frames.set(bytes - 100);
            assert_eq!(ledger.is_burdened(), expected, "{bytes}");
        }
        frames.set(150);
        assert!(!ledger.is_burdened());
    }

    /// Regression: sessions had ended since the last reading, and histories were mapped beside the free
    /// heap that they had left.
    #[test]
    fn free_heap_is_known_as_soon_as_the_count_falls() {
        const MIB: usize = 1 << 20;
        let ledger = Ledger::with_ceiling(64 * MIB);
        let mut sessions = ledger.tally(Account::Sessions);
        let mut histories = ledger.tally(Account::Histories);
        sessions.set(40 * MIB);
        Residency::new(&ledger).on_reading(42 * MIB, None);
        assert!(!ledger.has_free_heap());
        sessions.set(10 * MIB);
        assert!(ledger.has_free_heap());
        // What is mapped takes nothing of it; what is on the heap does.
        histories.set(20 * MIB);
        ledger.on_mapped(20 * MIB);
        assert!(ledger.has_free_heap());
        histories.set(50 * MIB);
        assert!(!ledger.has_free_heap());
        // When mapped histories go, the heap has no more than before.
        histories.set(30 * MIB);
        ledger.on_unmapped(20 * MIB);
        assert!(!ledger.has_free_heap());
    }

    #[test]
    fn without_a_ceiling_no_stage_begins() {
        let ledger = Ledger::new();
        let mut tally = ledger.tally(Account::Sessions);
        tally.set(usize::MAX / 2);
        assert!(!Pressure::ALL.into_iter().any(|stage| ledger.is_at(stage)));
        assert!(!ledger.is_burdened());
    }

    const CEILING: usize = 100 << 20;

    /// A ledger with this count, in percent of the ceiling, a tally for it, and readings of it.
    fn counted(percent: usize) -> (Ledger, Tally, Residency) {
        let ledger = Ledger::with_ceiling(CEILING);
        let mut tally = ledger.tally(Account::Frames);
        tally.set(CEILING / 100 * percent);
        let residency = Residency::new(&ledger);
        (ledger, tally, residency)
    }

    /// A reading at which, after the allowances, so many percent of the ceiling are in use.
    fn reading(percent: usize) -> usize {
        PROGRAM_BYTES + CEILING / LOSSES_DIVISOR + CEILING / 100 * percent
    }

    /// What `Feeds::forget` does, for a history of all that is counted. Returns the percentage of
    /// the ceiling that was dropped.
    fn forget(ledger: &Ledger, tally: &mut Tally) -> usize {
        let before = tally.bytes();
        while ledger.is_at(Pressure::Histories) && tally.bytes() > 0 {
            tally.set(tally.bytes().saturating_sub(1 << 10));
        }
        (before - tally.bytes()).div_ceil(CEILING / 100)
    }

    #[test]
    fn what_is_resident_begins_and_ends_the_stages_although_the_count_is_low() {
        let (ledger, mut tally, mut residency) = counted(10);
        for (stage, (begin, end)) in Pressure::ALL.map(|stage| (stage, stage.bounds())) {
            for (percent, expected) in [(begin, false), (begin + 1, true), (end, false)] {
                residency.on_reading(reading(percent), None);
                assert_eq!(ledger.is_at(stage), expected, "{stage:?} at {percent} %");
            }
        }
        // Between two readings the estimate follows the count.
        residency.on_reading(reading(84), None);
        assert!(!ledger.is_at(Pressure::Creations));
        tally.set(CEILING / 100 * 12);
        assert!(ledger.is_at(Pressure::Creations));
        tally.set(CEILING / 100 * 7);
        assert!(!ledger.is_at(Pressure::Creations));
    }

    #[test]
    fn what_is_left_of_the_control_group_counts_as_left_of_the_ceiling() {
        let (ledger, _tally, mut residency) = counted(10);
        let percent = CEILING / 100;
        // A group of more than the ceiling, and one that is smaller.
        for max in [135, 50] {
            for (left, used) in [(100, 10), (50, 50), (19, 81), (4, 96), (0, 100)] {
                let left = left * max.min(100) / 100 * percent;
                residency.on_reading(0, Some((max * percent, left)));
                let difference = ledger.used().abs_diff(used * percent);
                assert!(difference <= 2 * percent, "{} of {max}: {used}", ledger.used() / percent);
            }
        }
        assert!(ledger.is_at(Pressure::Readers));
    }

    #[test]
    fn a_reading_below_the_count_and_the_allowances_changes_nothing() {
        let (ledger, _tally, mut residency) = counted(50);
        for anonymous in [0, reading(50)] {
            residency.on_reading(anonymous, None);
            assert_eq!(ledger.used(), ledger.total());
        }
        residency.on_reading(usize::MAX, None);
        let mut unbounded = Residency::new(&Ledger::new());
        unbounded.on_reading(usize::MAX, Some((1000, 0)));
    }

    #[test]
    fn no_more_is_dropped_than_readings_call_for_if_they_fall_with_the_count() {
        let (ledger, mut tally, mut residency) = counted(60);
        let losses = 31; // Percent of the ceiling.
        let mut dropped = Vec::new();
        for _ in 0..5 {
            residency.on_reading(reading(tally.bytes() / (CEILING / 100) + losses), None);
            dropped.push(forget(&ledger, &mut tally));
        }
        assert_eq!(dropped, [5, 5, 3, 0, 0]);
    }

    #[test]
    fn readings_that_do_not_fall_do_not_erase_the_histories() {
        for (resident, after_a_minute) in [(82, 50), (90, 35)] {
            let (ledger, mut tally, mut residency) = counted(60);
            let mut seconds = Vec::new();
            for second in 0..60 {
                residency.on_reading(reading(resident), None);
                if forget(&ledger, &mut tally) > 0 {
                    seconds.push(second);
                }
            }
            assert_eq!(seconds, [0, 2, 5, 10, 19, 36], "each wait is twice as long");
            let left = tally.bytes() / (CEILING / 100);
            assert!(left >= after_a_minute - 21, "{left} % are left at {resident} %");
        }
    }

    #[test]
    fn while_it_waits_growth_is_made_up_for() {
        let (ledger, mut tally, mut residency) = counted(60);
        residency.on_reading(reading(90), None);
        forget(&ledger, &mut tally);
        residency.on_reading(reading(90), None);
        assert_eq!(forget(&ledger, &mut tally), 0, "dropping was in vain");
        let before = tally.bytes();
        for _ in 0..50 {
            tally.set(tally.bytes() + CEILING / 100);
            forget(&ledger, &mut tally);
        }
        assert!(tally.bytes() <= before + CEILING / 50, "new messages replace old ones");
    }

    #[test]
    fn beyond_the_last_bound_it_does_not_wait_but_drops_a_twentieth_for_each_reading() {
        let (ledger, mut tally, mut residency) = counted(60);
        let mut dropped = Vec::new();
        for _ in 0..6 {
            residency.on_reading(reading(96), None);
            dropped.push(forget(&ledger, &mut tally));
        }
        assert_eq!(dropped, [5; 6]);
    }

    /// Regression: memory that a flood had left free was used again within the second between two
    /// readings, and connections were closed as if it had been new.
    #[test]
    fn what_grows_into_free_memory_begins_no_stage_once_an_early_reading_shows_it() {
        let (ledger, mut tally, mut residency) = counted(40);
        residency.on_reading(reading(76), None);
        tally.set(CEILING / 100 * 41);
        assert!(!residency.is_outgrown(), "below every stage");
        tally.set(CEILING / 100 * 60);
        assert!(residency.is_outgrown() && ledger.is_at(Pressure::Readers), "96 % by the estimate");
        residency.on_early_reading(reading(77), None);
        assert_eq!(ledger.used().div_ceil(CEILING / 100), 77);
        assert!(!Pressure::ALL.into_iter().any(|stage| ledger.is_at(stage)));
        tally.set(CEILING / 100 * 62);
        assert!(residency.is_outgrown(), "the next one is measured from this one");
        residency.on_early_reading(reading(62), None);
        tally.set(CEILING / 100 * 90);
        assert!(!residency.is_outgrown(), "where the count is the estimate, no reading helps");
    }

    #[test]
    fn an_early_reading_neither_raises_the_estimate_nor_drops_messages() {
        let (ledger, mut tally, mut residency) = counted(60);
        residency.on_reading(reading(90), None);
        assert_eq!(forget(&ledger, &mut tally), 5);
        residency.on_reading(reading(90), None);
        for percent in [99, 90, 88] {
            tally.set(tally.bytes() + CEILING / OUTGROWN_DIVISOR + 1);
            assert!(residency.is_outgrown());
            let before = ledger.used();
            residency.on_early_reading(reading(percent), None);
            assert!(ledger.used() <= before);
            // The new messages make up for themselves, and no more is asked for.
            assert!(forget(&ledger, &mut tally) <= 2, "at {percent} %");
        }
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn small_allocations_take_more_than_requested() {
        let taken = [0, 1, 24, 25, 40, 41, 1000].map(allocation);
        assert_eq!(taken, [0, 32, 32, 48, 48, 64, 1008]);
    }
}
