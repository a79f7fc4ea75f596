//! How much memory of the process is resident, as the kernel counts it.
//!
//! Owns the file that tells it and how often it is read. Must not know what the memory is used for.
//! The invariant: a reading allocates nothing and never fails the caller; without `/proc` there is
//! none.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::clock::Mono;

/// The time between two readings. One takes about 10 µs.
const INTERVAL: Duration = Duration::from_secs(1);

/// One reading, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resident {
    /// All that is resident (`VmRSS`).
    pub all: usize,
    /// The part that no file backs (`RssAnon`): heap, stack and data. The rest is mostly the
    /// program's text, which the kernel can drop.
    pub anonymous: usize,
}

/// Reads how much is resident.
pub struct ResidentGauge {
    file: Option<File>,
    next: Mono,
}

impl ResidentGauge {
    /// Opens the file. `/proc/self/status` is longer than `statm`, but it is in KiB: `statm` is in
    /// pages, and the size of a page would take another system call and differs between machines.
    pub fn new() -> ResidentGauge {
        ResidentGauge { file: File::open("/proc/self/status").ok(), next: Mono::ZERO }
    }

    /// A new reading, if the last one was at least a second ago.
    pub fn poll(&mut self, now: Mono) -> Option<Resident> {
        if now < self.next {
            return None;
        }
        self.next = now.after(INTERVAL);
        let mut text = [0; 4096];
        let bytes = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        parse(text.get(..bytes)?)
    }
}

impl Default for ResidentGauge {
    fn default() -> ResidentGauge {
        ResidentGauge::new()
    }
}

fn parse(status: &[u8]) -> Option<Resident> {
    Some(Resident { all: field(status, b"VmRSS:")?, anonymous: field(status, b"RssAnon:")? })
}

/// The bytes on the line that begins with `name`: `RssAnon:       116 kB`.
fn field(status: &[u8], name: &[u8]) -> Option<usize> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name))?;
    let digits = value.trim_ascii().strip_suffix(b" kB")?;
    std::str::from_utf8(digits).ok()?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_are_found_among_the_other_lines() {
        let text = b"Name:\tRssAnon:\nVmHWM:\t    9999 kB\nVmRSS:\t    1728 kB\n\
            RssAnon:\t     116 kB\nRssFile:\t    1612 kB\n";
        assert_eq!(parse(text), Some(Resident { all: 1728 * 1024, anonymous: 116 * 1024 }));
        for cut in 0..text.len() - 24 {
            let _ = parse(&text[..cut]);
        }
        assert_eq!(parse(b"VmRSS:\t1728 kB\n"), None, "a kernel before 4.5");
        assert_eq!(parse(b"VmRSS:\t1 kB\nRssAnon:\t99999999999999999999 kB\n"), None);
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
        let mut gauge = ResidentGauge { file: None, next: Mono::ZERO };
        assert_eq!(gauge.poll(Mono::ZERO), None);
    }
}
