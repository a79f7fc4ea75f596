//! What the machine allows.
//!
//! Owns the limits on descriptors and core dumps, and what is known of memory. Must never know a
//! connection. The invariant: what the system doesn't grant, or doesn't say, is no reason not to
//! start.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;

use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::settings::connections_allowed;
use crate::config::{Config, whole};

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
    let descriptors = limit.current.and_then(|limit| limit.try_into().ok()).unwrap_or(usize::MAX);
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
    // Linux knows no descriptors without limit.
    let soft = limit.current.unwrap_or(u64::MAX);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let mut text = format!("descriptors: {soft} soft, {hard} hard: {allowed} connections\n");
    if let Some(warning) = excess(config, allowed) {
        let _ = writeln!(text, "warning: {warning}");
    }
    let cgroup = cgroup_bytes_max("/sys/fs/cgroup", &beginning("/proc/self/cgroup"));
    memory(&mut text, config, physical_bytes(), cgroup);
    text
}

/// The memory there is, and whether the ceiling fits into it.
fn memory(text: &mut String, config: &Config, physical: Option<u64>, cgroup: Option<u64>) {
    const MIB: u64 = 1 << 20;
    text.push_str("memory: ");
    let _ = match physical {
        Some(bytes) => write!(text, "{} MiB", bytes / MIB),
        None => text.write_str("unknown"),
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
}

#[cfg(target_os = "linux")]
fn physical_bytes() -> Option<u64> {
    let machine = rustix::system::sysinfo();
    (machine.totalram as u64).checked_mul(machine.mem_unit.into())
}

#[cfg(not(target_os = "linux"))]
fn physical_bytes() -> Option<u64> {
    None
}

/// The least `memory.max` of the control group (version 2) that `own`, the text of
/// `/proc/self/cgroup`, names, and of those around it.
fn cgroup_bytes_max(root: &str, own: &str) -> Option<u64> {
    let (_, rest) = own.split_once("0::")?;
    let mut group = rest.split('\n').next()?;
    let mut least = None;
    loop {
        let max = whole(beginning(&format!("{root}{group}/memory.max")).trim_end()); // Or "max".
        least = least.into_iter().chain(max).min();
        match group.rfind('/') {
            Some(end) => group = &group[..end],
            None => return least,
        }
    }
}

/// As much of a file as a page holds; nothing of what can't be read.
fn beginning(path: &str) -> String {
    let mut bytes = [0; 4096];
    let read = File::open(path).and_then(|mut file| file.read(&mut bytes));
    String::from_utf8_lossy(&bytes[..read.unwrap_or(0)]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_ceiling_that_does_not_fit_is_warned_of() {
        let config = Config { memory_bytes_max: 64 << 20, ..Config::default() };
        let check = |physical: Option<u64>, cgroup: Option<u64>, expected: &str| {
            let bytes = |mib| mib << 20;
            let mut text = String::new();
            memory(&mut text, &config, physical.map(bytes), cgroup.map(bytes));
            assert_eq!(text, expected);
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
    fn a_limit_around_the_own_cgroup_counts_too() {
        let root = std::env::temp_dir().join(format!("chat-cgroup-{}", std::process::id()));
        let inner = root.join("system.slice/chat.service");
        fs::create_dir_all(&inner).unwrap();
        let text = root.to_str().unwrap();
        let check = |own: &str, expected| assert_eq!(cgroup_bytes_max(text, own), expected);
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
