//! The arguments of a function of the store.
//!
//! Owns their form. Must not know a function. The invariant: an argument is one string, whatever bytes
//! a client has put into it, so that no argument can become two.

use std::time::Duration;

use super::record::SessionHash;
use super::resp::pack_part;
use crate::chat::{RoomId, UserId};
use crate::ledger::allocation;
use crate::rate::Pace;

/// Most bytes that an argument takes besides its own.
const FRAME_BYTES: usize = 16;

/// Arguments, one after the other, packed as they are sent.
#[derive(Default)]
pub struct Args {
    packed: Vec<u8>,
    count: usize,
}

impl Args {
    /// No arguments yet.
    pub fn new() -> Args {
        Args::default()
    }

    /// A text, or any other bytes.
    pub fn text(self, text: impl AsRef<[u8]>) -> Args {
        self.part(text.as_ref())
    }

    #[inline(never)] // It would be inlined into each call of a function.
    fn part(mut self, part: &[u8]) -> Args {
        self.packed.reserve(part.len() + FRAME_BYTES); // Once, not for each piece of it.
        pack_part(&mut self.packed, part);
        self.count += 1;
        self
    }

    /// A number.
    #[inline(never)]
    pub fn number(self, number: u64) -> Args {
        self.text(number.to_string())
    }

    /// A number, or nothing.
    #[inline(never)]
    pub fn number_if(self, number: Option<u64>) -> Args {
        match number {
            Some(number) => self.number(number),
            None => self.part(b""),
        }
    }

    /// In microseconds.
    #[inline(never)]
    pub fn time(self, time: Duration) -> Args {
        self.number(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    /// The same, or nothing.
    #[inline(never)]
    pub fn time_if(self, time: Option<Duration>) -> Args {
        match time {
            Some(time) => self.time(time),
            None => self.part(b""),
        }
    }

    /// `1` or nothing.
    pub fn flag(self, flag: bool) -> Args {
        self.part(if flag { b"1" } else { b"" })
    }

    /// A room's id.
    #[inline(never)]
    pub fn room(self, room: RoomId) -> Args {
        self.part(room.text().as_bytes())
    }

    /// A person's id in a room.
    #[inline(never)]
    pub fn user(self, user_id: UserId) -> Args {
        self.part(&user_id.chars())
    }

    /// The same, or nothing.
    #[inline(never)]
    pub fn user_if(self, user_id: Option<UserId>) -> Args {
        match user_id {
            Some(user_id) => self.user(user_id),
            None => self.part(b""),
        }
    }

    /// A session.
    #[inline(never)]
    pub fn session(self, session: SessionHash) -> Args {
        self.part(&session.chars())
    }

    /// The interval of a rate, 0 if it is unlimited, and its bursts.
    #[inline(never)]
    pub fn pace(self, pace: Pace) -> Args {
        self.time(pace.interval()).number(u64::from(pace.burst()))
    }

    /// The number of sessions or rooms that an address may have; empty: any number.
    pub fn share(self, share: Option<usize>) -> Args {
        self.number_if(share.map(|share| share as u64))
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        allocation(self.packed.capacity())
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The arguments as they are sent.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::resp::pack_head;

    #[test]
    fn arguments_are_kept_apart_whatever_they_contain() {
        let room = RoomId::parse("0123456789").unwrap();
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
            .text([0xFF, 0])
            .room(room)
            .user(UserId::from_bits(0xA))
            .user_if(None)
            .time_if(None)
            .session(SessionHash([0xB; 16]));
        let expected: [&[u8]; 16] = [
            b"",
            b"a\r\n$5\r\n",
            b"7",
            b"3000",
            b"1",
            b"",
            b"500000",
            b"60",
            b"",
            b"5",
            b"\xFF\0",
            b"0123456789",
            b"000000000000000a",
            b"",
            b"",
            b"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        ];
        let (mut packed, mut sent) = (Vec::new(), Vec::new());
        crate::cluster::resp::pack(&mut packed, &expected);
        pack_head(&mut sent, args.count());
        sent.extend_from_slice(args.packed());
        assert_eq!(sent, packed);
    }
}
