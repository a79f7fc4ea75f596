//! How much memory the process has, as the kernel counts it.
//!
//! Owns the files that tell it and how often they are read. Must not know what the memory is used
//! for. The invariant: a reading allocates nothing and never fails the caller; without `/proc`
//! there is none.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::machine;
use crate::clock::Mono;

/// The time between two readings. One takes about 20 µs.
const INTERVAL: Duration = Duration::from_secs(1);

/// One reading, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resident {
    /// All that is resident (`VmRSS`).
    pub all: usize,
    /// The part that no file backs (`RssAnon`): heap, stack and data. The rest is mostly the
    /// program's text, which the kernel can drop.
    pub anonymous: usize,
    /// What the control group may still take, if it has a limit.
    pub group: Option<GroupMemory>,
}

/// The memory of the process's control group. The kernel counts in it what is not resident: the
/// buffers of sockets, and files in a file system that is memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupMemory {
    /// The limit, beyond which the kernel kills the process.
    pub max: usize,
    /// What is left below it, if the kernel drops its cache of files.
    pub left: usize,
}

/// Reads how much is resident.
pub struct ResidentGauge {
    status: Option<File>,
    /// `memory.current` and `memory.stat` of the control group, and its limit.
    group: Option<(File, File, usize)>,
    next: Mono,
}

impl ResidentGauge {
    /// Opens the files. `/proc/self/status` is longer than `statm`, but it is in KiB: `statm` is in
    /// pages, and the size of a page would take another system call and differs between machines.
    pub fn new() -> ResidentGauge {
        let group = machine::own_group().and_then(|(path, max)| {
            let open = |name| File::open(format!("{path}/{name}")).ok();
            Some((open("memory.current")?, open("memory.stat")?, usize::try_from(max).ok()?))
        });
        ResidentGauge { status: File::open("/proc/self/status").ok(), group, next: Mono::ZERO }
    }

    /// A new reading, if the last one was at least a second ago.
    pub fn poll(&mut self, now: Mono) -> Option<Resident> {
        if now < self.next {
            return None;
        }
        self.next = now.after(INTERVAL);
        self.read()
    }

    /// A new reading.
    pub fn read(&self) -> Option<Resident> {
        let mut text = [0; 4096];
        let status = read(self.status.as_ref()?, &mut text)?;
        let [all, anonymous] = [b"VmRSS:" as &[u8], b"RssAnon:"].map(|name| field(status, name));
        let group = self.group.as_ref().and_then(|(current, stat, max)| {
            let taken = field(read(current, &mut text)?, b"")?;
            let stat = read(stat, &mut text)?;
            let cached = field(stat, b"inactive_file")? + field(stat, b"active_file")?;
            let left = max.saturating_sub(taken.saturating_sub(cached));
            Some(GroupMemory { max: *max, left })
        });
        Some(Resident { all: all? * 1024, anonymous: anonymous? * 1024, group })
    }
}

impl Default for ResidentGauge {
    fn default() -> ResidentGauge {
        ResidentGauge::new()
    }
}

fn read<'a>(file: &File, text: &'a mut [u8]) -> Option<&'a [u8]> {
    let bytes = file.read_at(text, 0).ok()?;
    text.get(..bytes)
}

/// The number on the line that begins with `name`, without its unit: `RssAnon:      116 kB`.
fn field(text: &[u8], name: &[u8]) -> Option<usize> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name))?.trim_ascii();
    let digits = value.split(|byte| *byte == b' ').next()?;
    // At most 2⁵⁴, so that a factor of 1024 or a sum cannot overflow.
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= usize::MAX >> 10).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A gauge that reads files of the test.
    fn gauge(name: &str, files: [&str; 3], max: usize) -> ResidentGauge {
        let root = std::env::temp_dir().join(format!("chat-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let [status, current, stat] = [0, 1, 2].map(|place: usize| {
            fs::write(root.join(place.to_string()), files[place]).unwrap();
            File::open(root.join(place.to_string())).unwrap()
        });
        fs::remove_dir_all(&root).unwrap();
        ResidentGauge { status: Some(status), group: Some((current, stat, max)), next: Mono::ZERO }
    }

    const STATUS: &str = "Name:\tRssAnon:\nVmHWM:\t    9999 kB\nVmRSS:\t    1728 kB\n\
        RssAnon:\t     116 kB\nRssFile:\t    1612 kB\n";

    #[test]
    fn the_numbers_are_found_among_the_other_lines() {
        let stat = "anon 9\nfile 700\ninactive_anon 5\ninactive_file 100\nactive_file 50\n";
        let read = |files| gauge("gauge", files, 1000).poll(Mono::ZERO);
        let group = Some(GroupMemory { max: 1000, left: 450 });
        let whole = Resident { all: 1728 * 1024, anonymous: 116 * 1024, group };
        assert_eq!(read([STATUS, "700\n", stat]), Some(whole));
        for (current, stat) in [("max\n", stat), ("700\n", "anon 9\n"), ("", "")] {
            assert_eq!(read([STATUS, current, stat]), Some(Resident { group: None, ..whole }));
        }
        let overcommitted = read([STATUS, "2000\n", stat]).unwrap().group;
        assert_eq!(overcommitted, Some(GroupMemory { max: 1000, left: 0 }));
        for status in ["", "VmRSS:\t1728 kB\n", "VmRSS:\t1 kB\nRssAnon:\t99999999999999999 kB\n"] {
            assert_eq!(read([status, "700\n", stat]), None, "{status}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_reading_shows_what_is_resident_at_most_once_a_second() {
        let mut gauge = ResidentGauge::new();
        let at = |millis: u64| Mono::from_micros(millis * 1000);
        let before = gauge.poll(at(5)).expect("Linux has /proc");
        assert!(0 < before.anonymous && before.anonymous < before.all, "{before:?}");
        let kept = std::hint::black_box(vec![1_u8; 32 << 20]);
        assert_eq!(gauge.poll(at(1004)), None);
        let after = gauge.poll(at(1005)).expect("a second has passed");
        // Tests in other threads free memory meanwhile, though not that much.
        assert!(after.anonymous >= before.anonymous + (16 << 20), "{before:?} {after:?}");
        drop(kept);
    }

    #[test]
    fn without_the_file_there_is_no_reading() {
        let mut gauge = ResidentGauge { status: None, group: None, next: Mono::ZERO };
        assert_eq!(gauge.poll(Mono::ZERO), None);
    }
}
