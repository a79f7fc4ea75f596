//! What the machine allows.
//!
//! Owns the limits on descriptors and core dumps, and what is known of memory. Must never know a
//! connection. The invariant: what the system doesn't grant, or doesn't say, is no reason not to
//! start.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::settings::connections_allowed;
use crate::config::Config;

/// Descriptors kept for what isn't a connection: the standard streams, the poll, the signals'
/// pipes, the supervisor's socket.
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

/// As many as were asked for, or as the descriptor limit allows beside so many listeners.
pub(super) fn connections_max(config: &Config, listeners: usize) -> usize {
    let allowed = connections_possible(listeners);
    if let Some(warning) = excess(config, allowed) {
        warn!("{warning}");
    }
    config.connections_max.unwrap_or(allowed)
}

/// As many descriptors as the system grants, less those that are needed for other things.
fn connections_possible(listeners: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // Not granted is not tragic: the limit that stands is read again.
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    let descriptors = limit.current.map_or(usize::MAX, |limit| limit as usize);
    connections_allowed(descriptors.saturating_sub(DESCRIPTORS_RESERVED + listeners))
}

fn excess(config: &Config, allowed: usize) -> Option<String> {
    let max = config.connections_max.filter(|max| *max > allowed)?;
    Some(format!("--max-connections {max}: the descriptor limit allows {allowed}"))
}

/// What `check` says of the machine, line by line.
pub fn report(config: &Config) -> String {
    // Before it is raised, as the server does, too.
    let limit = getrlimit(Resource::Nofile);
    let allowed = connections_possible(config.listen.len() + config.metrics_listen.len());
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |max| max.to_string());
    let mut text = format!(
        "descriptors: {} soft, {} hard: {allowed} connections\n",
        shown(limit.current),
        shown(limit.maximum)
    );
    if let Some(warning) = excess(config, allowed) {
        text.push_str(&format!("warning: {warning}\n"));
    }
    let physical = fs::read_to_string("/proc/meminfo").ok();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let cgroup = cgroup_bytes_max(Path::new("/sys/fs/cgroup"), &own);
    text.push_str(&memory(config, physical.and_then(|info| physical_bytes(&info)), cgroup));
    text
}

/// The memory there is, and whether the ceiling fits into it.
fn memory(config: &Config, physical: Option<u64>, cgroup: Option<u64>) -> String {
    const MIB: u64 = 1 << 20;
    let mut text = match physical {
        Some(bytes) => format!("memory: {} MiB", bytes / MIB),
        None => "memory: unknown".to_owned(),
    };
    if let Some(bytes) = cgroup {
        let _ = write!(text, ", {} MiB for this cgroup", bytes / MIB);
    }
    text.push('\n');
    // The ceiling is for what clients make us keep; beside it there are the program, what the
    // allocator can't use, and what the kernel keeps for sockets.
    let ceiling = config.memory_bytes_max as u64;
    let needed = ceiling.saturating_add(ceiling / 4);
    let least = physical.into_iter().chain(cgroup).min();
    if least.is_some_and(|least| least < needed) {
        let needed = needed.div_ceil(MIB);
        let _ = writeln!(text, "warning: --max-memory and a quarter more, {needed} MiB, don't fit");
    }
    text
}

/// From the text of `/proc/meminfo`.
fn physical_bytes(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The least `memory.max` of the control group (version 2) that `own`, the text of
/// `/proc/self/cgroup`, names, and of those around it.
fn cgroup_bytes_max(root: &Path, own: &str) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let max = |group: &Path| {
        let text = fs::read_to_string(root.join(group).join("memory.max")).ok()?;
        text.trim().parse::<u64>().ok() // Or "max".
    };
    Path::new(path).ancestors().filter_map(max).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_that_does_not_fit_is_warned_of() {
        let config = Config { memory_bytes_max: 64 << 20, ..Config::default() };
        let check = |physical: Option<u64>, cgroup: Option<u64>, expected: &str| {
            let bytes = |mib| mib << 20;
            assert_eq!(memory(&config, physical.map(bytes), cgroup.map(bytes)), expected);
        };
        let warning = "warning: --max-memory and a quarter more, 80 MiB, don't fit\n";
        check(None, None, "memory: unknown\n");
        check(Some(80), None, "memory: 80 MiB\n");
        check(Some(79), None, &format!("memory: 79 MiB\n{warning}"));
        check(Some(512), Some(80), "memory: 512 MiB, 80 MiB for this cgroup\n");
        check(Some(512), Some(16), &format!("memory: 512 MiB, 16 MiB for this cgroup\n{warning}"));
        check(Some(16), Some(512), &format!("memory: 16 MiB, 512 MiB for this cgroup\n{warning}"));
        check(None, Some(79), &format!("memory: unknown, 79 MiB for this cgroup\n{warning}"));
    }

    #[test]
    fn physical_memory_is_a_line_of_meminfo() {
        let check = |info: &str, expected| assert_eq!(physical_bytes(info), expected, "{info:?}");
        check("MemTotal:        2048 kB\nMemFree:         12 kB\n", Some(2 << 20));
        check("MemFree: 1 kB\nMemTotal: 1 kB\n", Some(1024));
        for bad in ["", "MemTotal:", "MemTotal: x kB", "MemTotal: 18446744073709551615 kB"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_limit_around_the_own_cgroup_counts_too() {
        let root = std::env::temp_dir().join(format!("chat-cgroup-{}", std::process::id()));
        let inner = root.join("system.slice/chat.service");
        fs::create_dir_all(&inner).unwrap();
        let check = |own: &str, expected| assert_eq!(cgroup_bytes_max(&root, own), expected);
        check("0::/system.slice/chat.service\n", None);
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        check("0::/system.slice/chat.service\n", None);
        fs::write(root.join("system.slice/memory.max"), "1048576\n").unwrap();
        check("0::/system.slice/chat.service\n", Some(1 << 20));
        fs::write(inner.join("memory.max"), "65536\n").unwrap();
        check("4:memory:/\n0::/system.slice/chat.service\n", Some(65536));
        check("0::/system.slice\n", Some(1 << 20));
        check("0::/\n", None);
        check("4:memory:/system.slice\n", None);
        check("", None);
        fs::remove_dir_all(&root).unwrap();
    }
}
