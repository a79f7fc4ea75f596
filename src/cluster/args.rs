//! The arguments of a function of the store.
//!
//! Owns their text form. Must not know a function. The invariant: an argument is one string, whatever
//! bytes a client has put into it, so that no argument can become two.

use std::time::Duration;

use crate::ledger::allocation;
use crate::rate::Pace;

/// Arguments, one after the other.
#[derive(Default)]
pub(super) struct Args {
    bytes: Vec<u8>,
    /// Where each argument ends.
    ends: Vec<u32>,
}

impl Args {
    pub fn new() -> Args {
        Args::default()
    }

    pub fn text(mut self, text: impl AsRef<[u8]>) -> Args {
        self.bytes.extend_from_slice(text.as_ref());
        self.end()
    }

    pub fn number(self, number: u64) -> Args {
        self.text(number.to_string())
    }

    /// In microseconds.
    pub fn time(self, time: Duration) -> Args {
        self.number(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    pub fn flag(self, flag: bool) -> Args {
        self.text(if flag { "1" } else { "" })
    }

    /// The interval of a rate, 0 if it is unlimited, and its bursts.
    pub fn pace(self, pace: Pace) -> Args {
        self.time(pace.interval()).number(u64::from(pace.burst()))
    }

    /// The number of sessions or rooms that an address may have; empty: any number.
    pub fn share(self, share: Option<usize>) -> Args {
        match share {
            Some(share) => self.number(share as u64),
            None => self.text(""),
        }
    }

    fn end(mut self) -> Args {
        self.ends.push(self.bytes.len() as u32);
        self
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        allocation(self.bytes.capacity()) + allocation(self.ends.capacity() * size_of::<u32>())
    }

    /// The arguments.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|n| {
            let start = n.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
            self.bytes.get(start..self.ends[n] as usize).unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_kept_apart_whatever_they_contain() {
        let args = Args::new()
            .text("")
            .text("a\r\n$5\r\n")
            .number(7)
            .time(Duration::from_millis(3))
            .flag(true)
            .flag(false)
            .pace(Pace::new(2, Duration::from_secs(1), 60))
            .share(None)
            .share(Some(5))
            .text([0xFF, 0]);
        let expected: [&[u8]; 11] =
            [b"", b"a\r\n$5\r\n", b"7", b"3000", b"1", b"", b"500000", b"60", b"", b"5", b"\xFF\0"];
        assert!(args.iter().eq(expected));
    }
}
