//! The program as the operating system sees it.
//!
//! Owns signals, systemd's protocols, the limits that the machine sets, and when the certificate is
//! read. Must not know a connection or the chat. The invariant: a missing limit or a malformed
//! variable of systemd does not keep the server from starting, and a supervisor cannot block the
//! loop. (`certificate` and `signals` return their errors, and those do keep it from starting.)
//!
//! | file | what it owns |
//! |---|---|
//! | `certificate` | the files of the certificate (feature `tls`) |
//! | `machine` | descriptor limits, core dumps, memory |
//! | `resident` | how much memory is resident |
//! | `signals` | signals as events of the poll |
//! | `systemd` | inherited sockets, readiness, the watchdog |

#[cfg(feature = "tls")]
pub mod certificate;
pub mod machine;
pub mod resident;
pub mod signals;
pub mod systemd;
