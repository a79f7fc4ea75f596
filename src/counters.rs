//! What the loop has counted since it started, for `/health` and the metrics.
//!
//! Owns plain numbers. Must never decide anything. The invariant: counters only grow; gauges
//! are of what exists now.

use std::time::Duration;

/// Codes that refusals are counted by: room for all of the contract's, of which `api` knows
/// which is which.
pub const CODES_MAX: usize = 32;

/// Close codes that closes are counted by, sorted.
pub const CLOSE_CODES: [u16; 14] =
    [1000, 1001, 1002, 1003, 1007, 1009, 1011, 1013, 4401, 4403, 4404, 4409, 4410, 4429];

/// Plain counters and gauges, incremented by the loop, rendered by `api`.
#[derive(Clone, Default, Debug)]
pub struct Counters {
    /// Gauge: accepted connections that have not been reaped.
    pub connections: u64,
    /// Gauge: those of them that speak WebSocket.
    pub websockets: u64,
    /// Gauge: bytes queued for connections, shared ones once for each.
    pub outbox_bytes: u64,
    /// The most that `outbox_bytes` has been.
    pub outbox_bytes_max: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Requests answered, upgrades included.
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
    pub refused: [u64; CODES_MAX],
    /// WebSockets closed by us, parallel to [`CLOSE_CODES`].
    pub closed: [u64; CLOSE_CODES.len()],
    /// Connections closed because their outbox overflowed.
    pub too_slow: u64,
    /// Messages forgotten because memory was short.
    pub forgotten: u64,
    /// Connections closed because memory was short.
    pub shed: u64,
    /// Connections that ended by an error of the network.
    pub broken: u64,
    /// Panics caught while handling one connection's input. Each is a bug.
    pub panics: u64,
    /// Times accepting was paused for want of descriptors.
    pub accept_pauses: u64,
    /// How long ticks took, without the poll.
    pub ticks: Histogram,
}

impl Counters {
    /// A connection's outbox held `before` bytes and now holds `after`.
    pub fn on_outbox_change(&mut self, before: usize, after: usize) {
        self.outbox_bytes = (self.outbox_bytes + after as u64).saturating_sub(before as u64);
        self.outbox_bytes_max = self.outbox_bytes_max.max(self.outbox_bytes);
    }

    /// A request or an event was refused with the code of that index.
    pub fn on_refused(&mut self, code: usize) {
        if let Some(count) = self.refused.get_mut(code) {
            *count += 1;
        }
    }

    /// We have closed a WebSocket.
    pub fn on_closed(&mut self, code: u16) {
        let place = CLOSE_CODES.binary_search(&code);
        debug_assert!(place.is_ok(), "{code} is not in the table");
        if let Some(count) = place.ok().and_then(|place| self.closed.get_mut(place)) {
            *count += 1;
        }
    }
}

/// How many durations were how long.
#[derive(Clone, Copy, Default, Debug)]
pub struct Histogram {
    /// Parallel to [`Histogram::BOUNDS_MICROS`], and one more for what is longer than all.
    pub counts: [u64; Histogram::BOUNDS_MICROS.len() + 1],
    /// All durations together, in microseconds.
    pub sum_micros: u64,
}

impl Histogram {
    /// The longest duration that counts for each place, in microseconds.
    pub const BOUNDS_MICROS: [u64; 13] =
        [25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 1_000_000];

    /// Counts one duration.
    pub fn observe(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let place = Histogram::BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_for_the_first_bound_that_it_does_not_exceed() {
        let mut ticks = Histogram::default();
        for micros in [0, 25, 26, 1_000_000, 1_000_001] {
            ticks.observe(Duration::from_micros(micros));
        }
        let place = |micros| Histogram::BOUNDS_MICROS.iter().position(|bound| *bound == micros);
        assert_eq!((ticks.counts[0], ticks.counts[1]), (2, 1));
        assert_eq!(place(1_000_000).map(|place| ticks.counts[place]), Some(1));
        assert_eq!(ticks.counts.last(), Some(&1));
        assert_eq!(ticks.sum_micros, 2_000_052);
    }

    #[test]
    fn high_water_stays() {
        let mut counters = Counters::default();
        counters.on_outbox_change(0, 10);
        counters.on_outbox_change(0, 5);
        counters.on_outbox_change(10, 0);
        assert_eq!((counters.outbox_bytes, counters.outbox_bytes_max), (5, 15));
    }

    #[test]
    fn closes_are_counted_by_code() {
        assert!(CLOSE_CODES.is_sorted());
        let mut counters = Counters::default();
        for code in CLOSE_CODES.into_iter().chain([4404]) {
            counters.on_closed(code);
        }
        let expected = CLOSE_CODES.map(|code| if code == 4404 { 2 } else { 1 });
        assert_eq!(counters.closed, expected);
    }
}
