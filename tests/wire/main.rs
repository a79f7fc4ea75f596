//! Black-box tests: the real server on port 0, over real sockets, held to the wire contract.
//!
//! `server` starts and watches the process, `client` speaks HTTP and WebSocket to it, correctly or not.
//! The tests follow the contract's order and know nothing of the code behind it. They wait for conditions
//! with a deadline and never sleep to pass; that something does *not* come is proven by order: what is sent
//! afterwards arrives first. Timeouts that must fire are shortened by flags, those that must not are hours.

mod client;
mod server;

mod conventions;
mod sessions;

mod rooms;

mod closes;
mod socket;

mod posting;
mod resident;
mod restarts;
mod resume;

mod listing;
mod presence;

mod deleting;
mod doors;
mod forgetting;
mod private;

mod metrics;

mod framing;
mod limits;
mod memory;
mod slow_readers;

mod flags;
mod shutdown;
#[cfg(target_os = "linux")]
mod systemd;

mod attacks;
mod balanced;
mod chaos;
mod fairness;
mod idle;
mod order;
mod ugly;
