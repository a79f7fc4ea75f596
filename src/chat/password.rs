//! Room passwords.
//!
//! Owns a room's lock and the meters of wrong guesses. Must not keep, show or log a password. The
//! invariant: the rate limit is checked before the password is hashed, so that guessing costs the
//! server no more than the rate allows.

use std::collections::HashMap;

use ctutils::CtEq;
use pbkdf2::pbkdf2_hmac_array;
use sha1::{Digest, Sha1};

use super::address::Address;
use super::error::Refusal;
use super::heap::map_bytes;
use crate::clock::{Entropy, Mono};
use crate::rate::{Meter, Pace};

/// Rounds of PBKDF2 (RFC 8018 §5.2): about 50 µs without SHA instructions, 200 µs on a small board.
/// More would delay the event loop. Few are enough, because the hash leaves the process only in a
/// state file.
///
/// The function is HMAC-SHA-1, the default of that RFC: the WebSocket handshake needs SHA-1 anyway,
/// and SHA-256 would add 12 KB to the binary. The known attacks on SHA-1 find collisions: two
/// inputs of the attacker's choice with the same hash. They would give the creator of a room a
/// second password for that room, which is of no use.
const ROUNDS: u32 = 100;

/// Most addresses with wrong guesses that one room remembers. Passwords from further addresses are
/// refused until a meter is idle, which takes less than a minute at the default rate.
const GUESSERS_MAX: usize = 256;

/// A room's hashed password, and the wrong guesses.
pub(super) struct Lock {
    /// The part that survives a restart; the guesses do not.
    pub record: LockRecord,
    /// The meter of wrong guesses of each address. Exempt peers share the entry `None`.
    guesses: HashMap<Option<Address>, Meter>,
}

/// The part of a lock that survives a restart.
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy)]
pub struct LockRecord {
    pub salt: [u8; 16],
    pub hash: [u8; 20],
}

impl Lock {
    pub fn new(password: &str, entropy: &mut dyn Entropy) -> Lock {
        let salt = entropy.bytes();
        Lock::restored(LockRecord { salt, hash: stretch(password, &salt) })
    }

    /// A lock without wrong guesses.
    pub fn restored(record: LockRecord) -> Lock {
        Lock { record, guesses: HashMap::new() }
    }

    /// Checks a password. Refuses even the right one after too many wrong guesses from the address.
    pub fn try_open(
        &mut self,
        now: Mono,
        password: &str,
        from: Option<Address>,
        pace: Pace,
    ) -> Result<(), Refusal> {
        if self.guesses.len() >= GUESSERS_MAX && !self.guesses.contains_key(&from) {
            self.guesses.retain(|_, meter| !meter.is_idle(now));
            if self.guesses.len() >= GUESSERS_MAX {
                return Err(Refusal::RateLimited(pace.interval()));
            }
        }
        let mut meter = self.guesses.get(&from).copied().unwrap_or_default();
        pace.take(&mut meter, now).map_err(Refusal::RateLimited)?;
        let LockRecord { salt, hash } = &self.record;
        let given = stretch(password, salt);
        if given.as_slice().ct_eq(hash.as_slice()).to_bool() {
            return Ok(()); // The meter is not stored: only wrong guesses count.
        }
        if !meter.is_idle(now) {
            self.guesses.insert(from, meter);
        }
        Err(Refusal::BadPassword)
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        map_bytes::<Option<Address>, Meter>(self.guesses.capacity())
    }
}

fn stretch(password: &str, salt: &[u8; 16]) -> [u8; 20] {
    // HMAC pads short keys with zero bytes (RFC 2104 §2). If the password were the key, the same
    // password with zero bytes appended would open the room too. So the key is its digest.
    pbkdf2_hmac_array::<Sha1, 20>(&Sha1::digest(password), salt, ROUNDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SeededEntropy;
    use std::net::IpAddr;
    use std::time::Duration;

    const PACE: Pace = Pace::new(6, Duration::from_secs(60), 5);

    fn lock() -> Lock {
        Lock::new("open sesame", &mut SeededEntropy::new(1))
    }

    fn at(seconds: u64) -> Mono {
        Mono::from_micros(seconds * 1_000_000)
    }

    // contract §10.6
    #[test]
    fn only_the_right_password_opens_a_lock_and_each_lock_has_its_own_salt() {
        let mut lock = lock();
        assert_eq!(lock.try_open(at(0), "open sesame", None, PACE), Ok(()));
        for wrong in ["", "open", "open sesame ", "Open sesame", "open sesame\0"] {
            let tried = lock.try_open(at(0), wrong, None, Pace::UNLIMITED);
            assert_eq!(tried, Err(Refusal::BadPassword), "{wrong:?}");
        }
        let other = Lock::new("open sesame", &mut SeededEntropy::new(2));
        assert_ne!(lock.record.hash, other.record.hash);
    }

    // contract §10.7 §10.8 §12.17
    #[test]
    fn after_five_wrong_guesses_even_the_right_one_is_refused_for_a_while() {
        let mut lock = lock();
        for _ in 0..5 {
            assert_eq!(lock.try_open(at(0), "wrong", None, PACE), Err(Refusal::BadPassword));
        }
        let limited = Err(Refusal::RateLimited(Duration::from_secs(10)));
        assert_eq!(lock.try_open(at(0), "wrong", None, PACE), limited);
        assert_eq!(lock.try_open(at(0), "open sesame", None, PACE), limited);
        let other = Some(Address::of(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(lock.try_open(at(0), "open sesame", other, PACE), Ok(()));
        assert_eq!(lock.try_open(at(10), "open sesame", None, PACE), Ok(()));
        assert_eq!(lock.try_open(at(10), "wrong", None, PACE), Err(Refusal::BadPassword));
        assert_eq!(lock.try_open(at(10), "wrong", None, PACE), limited);
    }

    #[test]
    fn the_number_of_guessing_addresses_is_bounded() {
        let mut lock = lock();
        let guess = |lock: &mut Lock, number: usize, now| {
            let address = Address::of(IpAddr::from((number as u32).to_be_bytes()));
            lock.try_open(now, "wrong", Some(address), PACE)
        };
        for number in 0..GUESSERS_MAX {
            assert_eq!(guess(&mut lock, number, at(0)), Err(Refusal::BadPassword));
        }
        let limited = Err(Refusal::RateLimited(Duration::from_secs(10)));
        assert_eq!(guess(&mut lock, 1000, at(0)), limited);
        assert_eq!(
            guess(&mut lock, 0, at(0)),
            Err(Refusal::BadPassword),
            "the address is remembered already"
        );
        assert_eq!(guess(&mut lock, 1000, at(20)), Err(Refusal::BadPassword));
        assert_eq!(lock.guesses.len(), 1);
    }

    /// Takes the fastest of many runs, so that other work on the machine does not matter.
    // contract §10.6
    #[cfg(not(target_arch = "arm"))] // These tests run in an emulator there.
    #[test]
    fn a_hash_takes_less_than_a_millisecond() {
        let times = (0..50).map(|_| {
            let start = std::time::Instant::now();
            std::hint::black_box(stretch("open sesame", &[0; 16]));
            start.elapsed()
        });
        let fastest = times.min();
        assert!(fastest < Some(Duration::from_millis(1)), "{fastest:?}");
    }
}
