//! Counters and gauges for `/health` and the metrics.
//!
//! Owns plain numbers. Must not influence decisions: only `/health` and the metrics read them. The
//! invariant: a counter only grows, and a gauge is the current value.

use std::time::Duration;

/// Number of counters for refusals; at least the number of error codes in the contract. `api`
/// defines the index of each code.
pub const CODES_MAX: usize = 40;

/// The close codes by which closed WebSockets are counted, in ascending order.
pub const CLOSE_CODES: [u16; 16] = [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1013, 4401, 4403, 4404, 4409, 4410, 4411, 4429,
];

/// A counter for each error code.
#[derive(Clone, Debug)]
pub struct RefusedCounts(pub [u64; CODES_MAX]);

/// By hand: the standard library has `Default` for arrays of up to 32 elements.
impl Default for RefusedCounts {
    fn default() -> RefusedCounts {
        RefusedCounts([0; CODES_MAX])
    }
}

/// Counters since the start, and gauges. The server updates them, `api` renders them.
#[derive(Clone, Default, Debug)]
pub struct Counters {
    /// Gauge: accepted connections that have not been freed.
    pub connections: u64,
    /// Gauge: connections that have become WebSockets.
    pub websockets: u64,
    /// Gauge: bytes queued for connections; shared bytes count once for each connection.
    pub outbox_bytes: u64,
    /// Highest value of `outbox_bytes` so far.
    pub outbox_bytes_max: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Complete requests received, upgrades included.
    pub requests: u64,
    /// Text messages received over WebSockets.
    pub received: u64,
    /// Batches queued for connections.
    pub deliveries: u64,
    /// Bytes read from peers.
    pub bytes_in: u64,
    /// Bytes written to peers.
    pub bytes_out: u64,
    /// Requests and events refused, by the index of their code.
    pub refused: RefusedCounts,
    /// WebSockets closed by the server, parallel to [`CLOSE_CODES`].
    pub closed: [u64; CLOSE_CODES.len()],
    /// Connections closed because their outbox overflowed.
    pub too_slow: u64,
    /// Messages dropped from histories because memory was short.
    pub forgotten: u64,
    /// Connections closed because memory was short.
    pub shed: u64,
    /// Connections that ended with a network error.
    pub broken: u64,
    /// Panics caught while handling the input of one connection. Each is a bug.
    pub panics: u64,
    /// How often accepting paused because descriptors or memory had run out.
    pub accept_pauses: u64,
    /// Durations of ticks, without the poll.
    pub ticks: Histogram,
}

impl Counters {
    /// An outbox has changed from `before` to `after` queued bytes.
    pub fn on_outbox_change(&mut self, before: usize, after: usize) {
        self.outbox_bytes = (self.outbox_bytes + after as u64).saturating_sub(before as u64);
        self.outbox_bytes_max = self.outbox_bytes_max.max(self.outbox_bytes);
    }

    /// A request or event was refused with the error code of this index.
    pub fn on_refused(&mut self, code: usize) {
        if let Some(count) = self.refused.0.get_mut(code) {
            *count += 1;
        }
    }

    /// The server has closed a WebSocket with this code, one of [`CLOSE_CODES`].
    pub fn on_closed(&mut self, code: u16) {
        let index = CLOSE_CODES.binary_search(&code);
        debug_assert!(index.is_ok(), "{code} is not in CLOSE_CODES");
        if let Some(count) = index.ok().and_then(|index| self.closed.get_mut(index)) {
            *count += 1;
        }
    }
}

/// Counters and gauges of a server's connection to the store of its cluster.
#[cfg(feature = "cluster")]
#[derive(Clone, Copy, Default, Debug)]
pub struct StoreCounters {
    /// Gauge: whether the store answers this server.
    pub is_up: bool,
    /// Gauge: calls and commands without a reply.
    pub in_flight: u64,
    /// Connections that the store has welcomed.
    pub connected: u64,
    /// How often replies began to be slow.
    pub slow: u64,
    /// Connections that the store has given up.
    pub fenced: u64,
    /// How often the store has given up this server, and with it its people.
    pub leases_lost: u64,
    /// Messages that came without the one before them.
    pub gaps: u64,
    /// Mirrors that were brought up to date, after the store was away or after a gap.
    pub resyncs: u64,
    /// Mirrors that could not be brought up to date.
    pub resyncs_failed: u64,
    /// How long replies took.
    pub latency: Histogram,
}

/// A histogram of durations.
#[derive(Clone, Copy, Default, Debug)]
pub struct Histogram {
    /// Number of durations in the range up to each of [`Histogram::BOUNDS_MICROS`], and last the
    /// number of longer durations.
    pub counts: [u64; Histogram::BOUNDS_MICROS.len() + 1],
    /// Sum of all durations, in microseconds.
    pub sum_micros: u64,
}

impl Histogram {
    /// Upper bounds of the ranges, inclusive, in microseconds.
    pub const BOUNDS_MICROS: [u64; 13] =
        [25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 1_000_000];

    /// Counts one duration.
    pub fn observe(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let index = Histogram::BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_range_that_includes_it() {
        let mut ticks = Histogram::default();
        for micros in [0, 25, 26, 1_000_000, 1_000_001] {
            ticks.observe(Duration::from_micros(micros));
        }
        let index = |micros| Histogram::BOUNDS_MICROS.iter().position(|bound| *bound == micros);
        assert_eq!((ticks.counts[0], ticks.counts[1]), (2, 1));
        assert_eq!(index(1_000_000).map(|index| ticks.counts[index]), Some(1));
        assert_eq!(ticks.counts.last(), Some(&1));
        assert_eq!(ticks.sum_micros, 2_000_052);
    }

    #[test]
    fn the_highest_outbox_total_is_kept() {
        let mut counters = Counters::default();
        counters.on_outbox_change(0, 10);
        counters.on_outbox_change(0, 5);
        counters.on_outbox_change(10, 0);
        assert_eq!((counters.outbox_bytes, counters.outbox_bytes_max), (5, 15));
    }

    #[test]
    fn closed_websockets_are_counted_by_code() {
        assert!(CLOSE_CODES.is_sorted());
        let mut counters = Counters::default();
        for code in CLOSE_CODES.into_iter().chain([4404]) {
            counters.on_closed(code);
        }
        let expected = CLOSE_CODES.map(|code| if code == 4404 { 2 } else { 1 });
        assert_eq!(counters.closed, expected);
    }
}
