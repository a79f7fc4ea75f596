//! Room passwords.
//!
//! Owns a room's lock and its meter of wrong guesses. Must not keep, show or log a password. The
//! invariant: the rate limits are checked before the password is hashed, so that guessing costs the
//! server no more than the rates allow.

use ctutils::CtEq;
use pbkdf2::pbkdf2_hmac_array;
use sha1::{Digest, Sha1};

use super::config::GuessPaces;
use super::error::Refusal;
use crate::clock::{Entropy, Mono};
use crate::rate::Meter;

/// Rounds of PBKDF2 (RFC 8018 §5.2): about 50 µs without SHA instructions, 200 µs on a small board.
/// More would delay the event loop. Few are enough, because the hash leaves the process only in a
/// state file.
///
/// The function is HMAC-SHA-1, the default of that RFC: the WebSocket handshake needs SHA-1 anyway,
/// and SHA-256 would add 12 KB to the binary. The known attacks on SHA-1 find collisions: two
/// inputs of the attacker's choice with the same hash. They would give the creator of a room a
/// second password for that room, which is of no use.
const ROUNDS: u32 = 100;

/// A room's hashed password, and its wrong guesses.
pub(super) struct Lock {
    /// The part that survives a restart; the guesses do not.
    pub record: LockRecord,
    /// The meter of wrong guesses from all addresses together.
    guesses: Meter,
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
        Lock { record, guesses: Meter::default() }
    }

    /// The lock of a room that is decided elsewhere. No password opens it: this hash is none that could
    /// be found.
    #[cfg(feature = "cluster")]
    pub fn elsewhere() -> Lock {
        Lock::restored(LockRecord { salt: [0; 16], hash: [0; 20] })
    }

    /// Sets another password. The wrong guesses stay counted.
    pub fn change(&mut self, password: &str, entropy: &mut dyn Entropy) {
        self.record = Lock::new(password, entropy).record;
    }

    /// Whether this is the password. Counts no guess: only the owner's requests ask.
    pub fn opens(&self, password: &str) -> bool {
        let LockRecord { salt, hash } = &self.record;
        stretch(password, salt).as_slice().ct_eq(hash.as_slice()).to_bool()
    }

    /// Checks a password. `guesser`: the meter of the address that it comes from. A wrong password
    /// is charged to both meters. After too many, even the right one is refused.
    pub fn try_open(
        &mut self,
        now: Mono,
        password: &str,
        guesser: &mut Meter,
        paces: GuessPaces,
    ) -> Result<(), Refusal> {
        let (mut by_address, mut by_all) = (*guesser, self.guesses);
        let waits = [
            paces.address.take(&mut by_address, now).err(),
            paces.room.take(&mut by_all, now).err(),
        ];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(Refusal::RateLimited(wait));
        }
        if self.opens(password) {
            return Ok(()); // The meters are not stored: only wrong guesses count.
        }
        (*guesser, self.guesses) = (by_address, by_all);
        Err(Refusal::BadPassword)
    }
}

/// Locks of a cluster. Its secret is not where the locks are, if the operator keeps it in a file.
#[cfg(feature = "cluster")]
impl LockRecord {
    /// The lock of a password.
    pub(crate) fn with_secret(
        password: &str,
        secret: &[u8],
        entropy: &mut dyn Entropy,
    ) -> LockRecord {
        let salt = entropy.bytes();
        LockRecord { salt, hash: stretch(&keyed(password, secret), &salt) }
    }

    /// Whether this is the password.
    pub(crate) fn opens_with_secret(&self, password: &str, secret: &[u8]) -> bool {
        let hash = stretch(&keyed(password, secret), &self.salt);
        hash.as_slice().ct_eq(self.hash.as_slice()).to_bool()
    }
}

/// With one round, PBKDF2 is HMAC (RFC 8018 §5.2).
#[cfg(feature = "cluster")]
fn keyed(password: &str, secret: &[u8]) -> String {
    let hash = pbkdf2_hmac_array::<Sha1, 20>(secret, password.as_bytes(), 1);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn stretch(password: &str, salt: &[u8; 16]) -> [u8; 20] {
    // HMAC pads short keys with zero bytes (RFC 2104 §2). If the password were the key, the same
    // password with zero bytes appended would open the room too. So the key is its digest.
    pbkdf2_hmac_array::<Sha1, 20>(&Sha1::digest(password), salt, ROUNDS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::SeededEntropy;
    use crate::rate::Pace;

    const MINUTE: Duration = Duration::from_secs(60);
    const PACES: GuessPaces =
        GuessPaces { address: Pace::new(6, MINUTE, 5), room: Pace::new(60, MINUTE, 60) };
    const UNLIMITED: GuessPaces = GuessPaces { address: Pace::UNLIMITED, room: Pace::UNLIMITED };

    fn lock() -> Lock {
        Lock::new("open sesame", &mut SeededEntropy::new(1))
    }

    fn at(seconds: u64) -> Mono {
        Mono::from_micros(seconds * 1_000_000)
    }

    // contract §10.6
    #[test]
    fn only_the_right_password_opens_a_lock_and_each_lock_has_its_own_salt() {
        let (mut lock, mut meter) = (lock(), Meter::default());
        assert_eq!(lock.try_open(at(0), "open sesame", &mut meter, PACES), Ok(()));
        for wrong in ["", "open", "open sesame ", "Open sesame", "open sesame\0"] {
            let tried = lock.try_open(at(0), wrong, &mut meter, UNLIMITED);
            assert_eq!(tried, Err(Refusal::BadPassword), "{wrong:?}");
        }
        let other = Lock::new("open sesame", &mut SeededEntropy::new(2));
        assert_ne!(lock.record.hash, other.record.hash);
    }

    // contract §10.7 §10.8 §12.17
    #[test]
    fn after_five_wrong_guesses_even_the_right_one_is_refused_for_a_while() {
        let (mut lock, mut meter) = (lock(), Meter::default());
        let mut open = |seconds, password, meter: &mut Meter| {
            lock.try_open(at(seconds), password, meter, PACES)
        };
        for _ in 0..5 {
            assert_eq!(open(0, "wrong", &mut meter), Err(Refusal::BadPassword));
        }
        let limited = Err(Refusal::RateLimited(Duration::from_secs(10)));
        assert_eq!(open(0, "wrong", &mut meter), limited);
        assert_eq!(open(0, "open sesame", &mut meter), limited);
        assert_eq!(open(0, "open sesame", &mut Meter::default()), Ok(()), "another address");
        assert_eq!(open(10, "open sesame", &mut meter), Ok(()));
        assert_eq!(open(10, "wrong", &mut meter), Err(Refusal::BadPassword));
        assert_eq!(open(10, "wrong", &mut meter), limited);
    }

    // contract §10.7 §10.8 §12.17
    #[test]
    fn after_sixty_wrong_guesses_from_any_addresses_a_room_checks_one_a_second() {
        let mut lock = lock();
        let mut open =
            |seconds, password| lock.try_open(at(seconds), password, &mut Meter::default(), PACES);
        for _ in 0..60 {
            assert_eq!(open(0, "open sesame"), Ok(()), "the right password is not a guess");
            assert_eq!(open(0, "wrong"), Err(Refusal::BadPassword));
        }
        let limited = Err(Refusal::RateLimited(Duration::from_secs(1)));
        for _ in 0..100 {
            assert_eq!(open(0, "wrong"), limited, "a refused guess is not charged");
        }
        assert_eq!(open(0, "open sesame"), limited);
        assert_eq!(open(1, "open sesame"), Ok(()));
        assert_eq!(open(1, "wrong"), Err(Refusal::BadPassword));
        assert_eq!(open(1, "wrong"), limited);
        for _ in 0..60 {
            assert_eq!(open(61, "wrong"), Err(Refusal::BadPassword), "a burst is possible again");
        }
        assert_eq!(open(61, "wrong"), limited);
    }

    #[test]
    fn a_guess_over_one_limit_is_charged_to_neither_and_waits_for_both() {
        let slow = GuessPaces { address: Pace::new(1, MINUTE, 1), room: Pace::new(2, MINUTE, 1) };
        let (mut lock, mut meter) = (lock(), Meter::default());
        assert_eq!(lock.try_open(at(0), "wrong", &mut meter, slow), Err(Refusal::BadPassword));
        let before = (lock.guesses, meter);
        let wait = lock.try_open(at(0), "wrong", &mut meter, slow);
        assert_eq!(wait, Err(Refusal::RateLimited(MINUTE)), "the longer of both waits");
        let mut other = Meter::default();
        let wait = lock.try_open(at(0), "wrong", &mut other, slow);
        assert_eq!(wait, Err(Refusal::RateLimited(MINUTE / 2)));
        assert_eq!((lock.guesses, meter, other), (before.0, before.1, Meter::default()));
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
