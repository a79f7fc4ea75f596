//! What the machine allows.
//!
//! Owns the limits on descriptors and core dumps. Must never know a connection. The invariant:
//! what the system doesn't grant is no reason not to start.

use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::settings::connections_allowed;
use crate::config::Config;

/// Descriptors kept for what isn't a connection: the standard streams, the poll, the signals'
/// pipes, the listeners.
const DESCRIPTORS_RESERVED: usize = 16;

/// What people say is not written to disk, not even by a crash. One byte, not none: to a program
/// that core dumps are piped to the limit means nothing, but one is where Linux stops before it
/// (core(5) has the one half, `fs/coredump.c` the other).
pub(super) fn forbid_core_dumps() {
    let limit = Rlimit { current: Some(1), maximum: Some(1) };
    if let Err(error) = setrlimit(Resource::Core, limit) {
        // Whoever had set it to zero before doesn't let us raise it, and all is well.
        if getrlimit(Resource::Core).current != Some(0) {
            warn!("core dumps stay on: {error}");
        }
    }
}

/// As many descriptors as the system grants, less those that are needed for other things.
pub(super) fn connections_max(config: &Config) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // Not granted is not tragic: the limit that stands is read again.
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    let descriptors = limit.current.map_or(usize::MAX, |limit| limit as usize);
    let reserved = DESCRIPTORS_RESERVED + config.listen.len() + config.metrics_listen.len();
    let allowed = connections_allowed(descriptors.saturating_sub(reserved));
    match config.connections_max {
        Some(max) if max > allowed => {
            warn!("--max-connections {max}: the descriptor limit allows {allowed}");
            max
        }
        Some(max) => max,
        None => allowed,
    }
}
