//! Room passwords: what is kept of one, and who may try another.
//!
//! Owns the lock of a room and the count of wrong guesses. Must never keep, show or log a
//! password. The invariant: a guess is counted before it is looked at, so that whoever guesses
//! all day costs no more than whoever guesses six times a minute.

use std::collections::HashMap;

use ctutils::CtEq;
use pbkdf2::pbkdf2_hmac_array;
use sha1::{Digest, Sha1};

use super::Refusal;
use super::limits::{Address, Meter, Pace};
use crate::clock::{Entropy, Mono};

/// Most bytes of a password; the least is 1 (contract §10.5).
pub const PASSWORD_BYTES_MAX: usize = 128;

/// Rounds of PBKDF2 (RFC 8018 §5.2): some 50 µs without special instructions, a fifth of a
/// millisecond on a small board. More would hold the loop, and the hash never leaves memory.
///
/// Its function is HMAC-SHA-1, that RFC's default: the handshake needs SHA-1 anyway, and SHA-256
/// beside it is 12 KB. What is known against SHA-1 are collisions, two inputs that one person
/// makes to be alike; whoever sets a password gains nothing by another one that fits as well.
const ROUNDS: u32 = 100;

/// Addresses whose wrong guesses are remembered for one room. One more waits for another to be
/// forgotten, which takes no longer than a minute of silence.
const GUESSERS_MAX: usize = 256;

/// What a room keeps of its password.
pub(super) struct Lock {
    salt: [u8; 16],
    hash: [u8; 20],
    /// Wrong guesses by address; all exempt peers are one.
    guesses: HashMap<Option<Address>, Meter>,
}

/// What is kept of a lock over a restart: salt and hash.
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct LockRecord {
    pub salt: [u8; 16],
    pub hash: [u8; 20],
}

impl Lock {
    pub fn record(&self) -> LockRecord {
        LockRecord { salt: self.salt, hash: self.hash }
    }

    /// Nobody has guessed yet.
    pub fn restored(LockRecord { salt, hash }: LockRecord) -> Lock {
        Lock { salt, hash, guesses: HashMap::new() }
    }

    pub fn new(password: &str, entropy: &mut dyn Entropy) -> Lock {
        let salt = entropy.bytes();
        Lock { salt, hash: stretch(password, &salt), guesses: HashMap::new() }
    }

    /// Whether the password is right. Too many wrong guesses from that address are refused
    /// before it is looked at.
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
        let hash = stretch(password, &self.salt);
        if hash.as_slice().ct_eq(self.hash.as_slice()).to_bool() {
            return Ok(()); // The right one was no wrong guess.
        }
        if !meter.is_idle(now) {
            self.guesses.insert(from, meter);
        }
        Err(Refusal::BadPassword)
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        super::map_bytes::<Option<Address>, Meter>(self.guesses.capacity())
    }
}

fn stretch(password: &str, salt: &[u8; 16]) -> [u8; 20] {
    // HMAC fills short keys up with zeros (RFC 2104 §2): without a hash first, a password would
    // be the same with zeros behind it.
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
    fn only_the_password_opens_and_two_rooms_keep_it_differently() {
        let mut lock = lock();
        assert_eq!(lock.try_open(at(0), "open sesame", None, PACE), Ok(()));
        for wrong in ["", "open", "open sesame ", "Open sesame", "open sesame\0"] {
            let tried = lock.try_open(at(0), wrong, None, Pace::UNLIMITED);
            assert_eq!(tried, Err(Refusal::BadPassword), "{wrong:?}");
        }
        let other = Lock::new("open sesame", &mut SeededEntropy::new(2));
        assert_ne!(lock.hash, other.hash);
    }

    // contract §10.7 §10.8 §12.17
    #[test]
    fn the_sixth_wrong_guess_waits_and_so_does_a_right_one_after_it() {
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
    fn a_crowd_of_guessers_is_bounded() {
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
        assert_eq!(guess(&mut lock, 0, at(0)), Err(Refusal::BadPassword), "one already known");
        assert_eq!(guess(&mut lock, 1000, at(20)), Err(Refusal::BadPassword));
        assert_eq!(lock.guesses.len(), 1);
    }

    /// The fastest of many, so that other work on the machine does not count.
    // contract §10.6
    #[cfg(not(target_arch = "arm"))] // An emulator runs these tests for it.
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
