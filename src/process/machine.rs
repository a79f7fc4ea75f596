//! What the machine grants: descriptors, memory, and no core dumps.
//!
//! Owns those limits and the report on them. Must not know a connection. The invariant: the server
//! starts even if a limit cannot be read or changed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;

use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Listen, whole};

/// Descriptors reserved for everything but connections: the standard streams, the poll, the pipe of
/// the signals, the supervisor's socket.
const DESCRIPTORS_RESERVED: usize = 16;

/// Forbids core dumps, so that not even a crash writes conversations to disk.
///
/// The limit is one byte instead of none: if core dumps are piped to a program, Linux ignores a
/// limit of zero, but does not start the program at a limit of one (core(5), `fs/coredump.c`).
pub fn forbid_core_dumps() {
    let limit = Rlimit { current: Some(1), maximum: Some(1) };
    if let Err(error) = setrlimit(Resource::Core, limit) {
        // A hard limit of zero cannot be raised to one. It forbids core files, though not dumps
        // that are piped to a program.
        if getrlimit(Resource::Core).current != Some(0) {
            warn!("core dumps stay on: {error}");
        }
    }
}

/// Raises the soft limit to the hard limit, and returns how many descriptors that leaves for
/// connections beside `listeners` listening sockets.
pub fn descriptors(listeners: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // If this is refused, the next line reads the old limit.
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    let descriptors = limit.current.and_then(|limit| limit.try_into().ok()).unwrap_or(usize::MAX);
    descriptors.saturating_sub(DESCRIPTORS_RESERVED + listeners)
}

/// The warning if `--max-connections` is more than the machine allows.
pub fn connections_warning(config: &Config, allowed: usize) -> Option<String> {
    let max = config.connections_max.filter(|max| *max > allowed)?;
    Some(format!("--max-connections {max}: the descriptor limit allows {allowed}"))
}

/// What `check` prints of the machine, line by line. `connections_allowed`: how many connections a
/// number of descriptors allows.
pub fn report(config: &Config, connections_allowed: fn(usize) -> usize) -> String {
    let limit = getrlimit(Resource::Nofile); // Before it is raised.
    let listeners = config.listeners().map(Listen::sockets_max).sum();
    let allowed = connections_allowed(descriptors(listeners));
    // Linux has no unlimited number of descriptors.
    let soft = limit.current.unwrap_or(u64::MAX);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let mut text = format!("descriptors: {soft} soft, {hard} hard: {allowed} connections\n");
    if let Some(warning) = connections_warning(config, allowed) {
        let _ = writeln!(text, "warning: {warning}");
    }
    report_memory(&mut text, config, physical_bytes(), own_group().map(|(_, max)| max));
    text
}

/// The control group that limits the memory of this process: its folder, and the limit in bytes.
pub fn own_group() -> Option<(String, u64)> {
    limiting_group("/sys/fs/cgroup", &read_start("/proc/self/cgroup"))
}

/// Appends how much memory there is, and a warning if the ceiling does not fit into it.
fn report_memory(text: &mut String, config: &Config, physical: Option<u64>, cgroup: Option<u64>) {
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
    // Resident memory stays below the ceiling, a tenth of it and 8 MiB. The kernel's buffers of
    // sockets and a state file in memory come on top.
    let ceiling = config.memory_bytes_max as u64;
    let needed = ceiling.saturating_add(ceiling / 3);
    let least = physical.into_iter().chain(cgroup).min();
    if least.is_some_and(|least| least < needed) {
        let needed = needed.div_ceil(MIB);
        let _ = writeln!(text, "warning: 4/3 of --max-memory is {needed} MiB, more than there is");
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

/// The one with the smallest `memory.max`, of a control group (version 2) and its ancestors. `own`:
/// the text of `/proc/self/cgroup`, which names the group.
fn limiting_group(root: &str, own: &str) -> Option<(String, u64)> {
    let mut group = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut least: Option<(String, u64)> = None;
    loop {
        let path = format!("{root}{group}");
        let max = whole(read_start(&format!("{path}/memory.max")).trim_end()); // Or "max".
        let max = max.filter(|max| least.as_ref().is_none_or(|(_, least)| max < least));
        least = max.map(|max| (path, max)).or(least);
        match group.rfind('/') {
            Some(end) => group = &group[..end],
            None => return least,
        }
    }
}

/// The first 4096 bytes of a file; empty if it cannot be read.
fn read_start(path: &str) -> String {
    let mut bytes = [0; 4096];
    let read = File::open(path).and_then(|mut file| file.read(&mut bytes));
    String::from_utf8_lossy(&bytes[..read.unwrap_or(0)]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_ceiling_that_exceeds_the_memory_is_warned_of() {
        let config = Config { memory_bytes_max: 64 << 20, ..Config::default() };
        let check = |physical: Option<u64>, cgroup: Option<u64>, expected: &str| {
            let bytes = |mib| mib << 20;
            let mut text = String::new();
            report_memory(&mut text, &config, physical.map(bytes), cgroup.map(bytes));
            assert_eq!(text, expected);
        };
        let warning = "warning: 4/3 of --max-memory is 86 MiB, more than there is\n";
        check(None, None, "memory: unknown\n");
        check(Some(86), None, "memory: 86 MiB\n");
        check(Some(85), None, &format!("memory: 85 MiB\n{warning}"));
        check(Some(512), Some(86), "memory: 512 MiB, 86 MiB for this cgroup\n");
        check(Some(512), Some(16), &format!("memory: 512 MiB, 16 MiB for this cgroup\n{warning}"));
        check(Some(16), Some(512), &format!("memory: 16 MiB, 512 MiB for this cgroup\n{warning}"));
        check(None, Some(85), &format!("memory: unknown, 85 MiB for this cgroup\n{warning}"));
    }

    #[test]
    fn the_limit_of_an_ancestor_cgroup_counts_too() {
        let root = std::env::temp_dir().join(format!("chat-cgroup-{}", std::process::id()));
        let inner = root.join("system.slice/chat.service");
        fs::create_dir_all(&inner).unwrap();
        let text = root.to_str().unwrap();
        let check = |own: &str, expected: Option<(&str, u64)>| {
            let expected = expected.map(|(group, max)| (format!("{text}{group}"), max));
            assert_eq!(limiting_group(text, own), expected);
        };
        check("0::/system.slice/chat.service\n", None);
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        check("0::/system.slice/chat.service\n", None);
        fs::write(root.join("system.slice/memory.max"), "1048576\n").unwrap();
        check("0::/system.slice/chat.service\n", Some(("/system.slice", 1 << 20)));
        fs::write(inner.join("memory.max"), "65536\n").unwrap();
        check(
            "4:memory:/\n0::/system.slice/chat.service\n",
            Some(("/system.slice/chat.service", 65536)),
        );
        check("0::/system.slice\n", Some(("/system.slice", 1 << 20)));
        check("0::/\n", None);
        check("4:memory:/system.slice\n", None);
        check("", None);
        fs::remove_dir_all(&root).unwrap();
    }
}
