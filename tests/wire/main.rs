//! Black-box tests of the wire contract: the real binary, started on a free port, over real sockets.
//!
//! `server` starts and watches the process; `client` speaks HTTP and WebSocket to it, correctly or not. The
//! modules follow the order of the contract, and no test uses the server's code.
//!
//! Tests must pass on a busy machine. They wait for conditions, with a deadline, and do not sleep. To show that
//! an event does not come, a test sends something afterwards and asserts that the answer to that comes first.
//! Flags shorten the timeouts that must fire and set those that must not fire to hours.

mod client;
mod server;

mod conventions;
mod forms;
mod sessions;
mod visible;

mod rooms;

mod closes;
mod socket;

#[cfg(target_os = "linux")]
mod handover;
mod posting;
mod resident;
mod restarts;
mod resume;

mod event_streams;

mod listing;
mod presence;

mod access;
mod deleting;
mod forgetting;
mod moderation;
mod owners;
mod private;

mod metrics;

mod framing;
mod limits;
mod memory;
mod slow_readers;
mod under_way;

mod admin;
mod flags;
mod operator;
mod shutdown;
#[cfg(target_os = "linux")]
mod systemd;

mod attacks;
mod balanced;
mod ceiling;
mod chaos;
mod fairness;
mod idle;
#[cfg(feature = "cluster")]
mod nodes;
mod order;
#[cfg(target_os = "linux")]
mod pauses;
mod ugly;
