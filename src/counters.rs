//! What the loop has counted since it started, for `/health` and the metrics.
//!
//! Owns plain numbers. Must never decide anything. The invariant: counters only grow; gauges
//! are of what exists now.

/// Plain counters and gauges, incremented by the loop, rendered by `api`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    /// Gauge: accepted connections that have not been reaped.
    pub connections: u64,
    /// Gauge: those of them that speak WebSocket.
    pub websockets: u64,
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
    /// Connections closed because their outbox overflowed.
    pub too_slow: u64,
    /// Connections that ended by an error of the network.
    pub broken: u64,
    /// Panics caught while handling one connection's input. Each is a bug.
    pub panics: u64,
    /// Times accepting was paused for want of descriptors.
    pub accept_pauses: u64,
}
