//! Time and randomness, the inputs that differ from run to run.
//!
//! Owns the crate's only code that asks the operating system for either, which
//! `tests/architecture.rs` checks. (rustls has its own, see `net::tls`.) Must not know what time
//! and randomness are used for. The invariant: within one process [`Mono`] does not go backwards.
//! [`Wall`] does, when the system's clock is set back, so nothing may depend on its order: deadlines
//! are [`Mono`], and message ids have a counter of their own.

use std::fmt;
use std::io::{self, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point on the monotonic clock: microseconds since the [`Clock`] was created.
///
/// All deadlines are of this type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mono(u64);

impl Mono {
    /// The time at which the clock was created.
    pub const ZERO: Mono = Mono(0);

    /// The point `micros` microseconds after [`Mono::ZERO`].
    pub const fn from_micros(micros: u64) -> Mono {
        Mono(micros)
    }

    /// Microseconds since [`Mono::ZERO`].
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// The point `timeout` later, or the last point that can be represented.
    pub fn after(self, timeout: Duration) -> Mono {
        Mono(self.0.saturating_add(micros_of(timeout)))
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A point in civil time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Wall(u64);

impl Wall {
    /// The point `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Wall {
        Wall(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, the unit of a UUID v7 (RFC 9562 §5.7).
    pub const fn millis(self) -> u64 {
        self.0 / 1000
    }

    /// Whole seconds since the Unix epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The point `timeout` later, or the last point that can be represented.
    pub fn after(self, timeout: Duration) -> Wall {
        Wall(self.0.saturating_add(micros_of(timeout)))
    }

    /// RFC 3339 in UTC with six fractional digits, as in contract §1.16:
    /// `2025-08-19T13:45:00.123456Z`.
    pub fn rfc3339(self) -> impl fmt::Display {
        humantime::format_rfc3339_micros(self.system_time())
    }

    /// The time with this text, as [`Wall::rfc3339`] gives it; `None` for anything else.
    pub fn parse(text: &str) -> Option<Wall> {
        let time = humantime::parse_rfc3339(text).ok()?;
        Some(Wall(micros_of(time.duration_since(UNIX_EPOCH).ok()?)))
    }

    /// The IMF-fixdate of RFC 9110 §5.6.7, for the `Date` field.
    pub fn http_date(self) -> impl fmt::Display {
        httpdate::HttpDate::from(self.system_time())
    }

    fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.min(LAST).0)
    }
}

/// Both formats end with the year 9999, and httpdate panics beyond it. A clock that is set wrong must
/// not end the process.
const LAST: Wall = Wall(253_402_300_799_999_999);

/// Formats times as in contract §1.16. Caches the last result, because all messages of a tick have
/// the same time, and those of a second differ in six digits only.
#[derive(Default)]
pub struct Stamps {
    /// `None`: `text` is not a time yet.
    wall: Option<Wall>,
    text: [u8; Stamps::LEN],
}

impl Stamps {
    /// Bytes of a time as text.
    pub const LEN: usize = "2025-08-19T13:45:00.123456Z".len();

    /// The same text as [`Wall::rfc3339`].
    pub fn of(&mut self, wall: Wall) -> &[u8; Stamps::LEN] {
        let wall = wall.min(LAST);
        let before = self.wall.replace(wall);
        if before.map(Wall::seconds) != Some(wall.seconds()) {
            let written = write!(&mut self.text[..], "{}", wall.rfc3339());
            debug_assert!(written.is_ok(), "all times have this length");
        } else if before != Some(wall) {
            let mut micros = wall.micros() % 1_000_000;
            for digit in self.text[20..26].iter_mut().rev() {
                *digit = b'0' + (micros % 10) as u8;
                micros /= 10;
            }
        }
        &self.text
    }
}

fn micros_of(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX)
}

/// The time of a tick. The clock is read once, and the whole tick uses this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For deadlines.
    pub mono: Mono,
    /// For timestamps and message ids.
    pub wall: Wall,
}

impl Now {
    /// The time `timeout` later, on both clocks, if neither is set meanwhile.
    pub fn after(self, timeout: Duration) -> Now {
        Now { mono: self.mono.after(timeout), wall: self.wall.after(timeout) }
    }
}

/// The system's two clocks. The event loop owns it and passes the time down.
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose [`Mono::ZERO`] is now.
    #[allow(clippy::new_without_default, reason = "reading the time is not a default value")]
    pub fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Reads both clocks.
    pub fn read(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Mono(micros_of(self.start.elapsed())), wall: Wall(micros_of(since_epoch)) }
    }
}

/// A source of random bytes. It is a trait because tests need reproducible bytes.
pub trait Entropy {
    /// Fills `out` completely.
    fn fill(&mut self, out: &mut [u8]);
}

impl dyn Entropy + '_ {
    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }
}

/// The operating system's generator, asked for 1 KiB at a time, so that a hundred ids need one system
/// call.
pub struct OsEntropy {
    stock: [u8; 1024],
    /// The first `left` bytes of `stock` are unused.
    left: usize,
}

impl OsEntropy {
    /// Asks the system for the first bytes. Fails if the system has no generator, so that the
    /// process ends at start instead of at the first id.
    pub fn new() -> io::Result<OsEntropy> {
        let mut stock = [0; 1024];
        getrandom::fill(&mut stock).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(OsEntropy { left: stock.len(), stock })
    }
}

impl Entropy for OsEntropy {
    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.left == 0 {
                // A generator that worked at start does not fail later (getrandom(2)), and
                // predictable ids would be worse than a panic.
                getrandom::fill(&mut self.stock).expect("the generator worked at start");
                self.left = self.stock.len();
            }
            let (now, later) = out.split_at_mut(out.len().min(self.left));
            let start = self.left - now.len();
            let taken = &mut self.stock[start..self.left];
            now.copy_from_slice(taken);
            // Bytes that are handed out are erased, because session ids are secrets.
            taken.fill(0);
            (self.left, out) = (start, later);
        }
    }
}

/// Entropy for tests and simulations: the same seed gives the same bytes (SplitMix64).
/// Predictable, so it must never be used in a server.
pub struct SeededEntropy(u64);

impl SeededEntropy {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> SeededEntropy {
        SeededEntropy(seed)
    }

    /// The sequence's next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // contract §1.16
    #[test]
    fn times_are_formatted_as_in_the_contract() {
        let wall = Wall::from_micros(1_755_611_100_123_456);
        assert_eq!(wall.rfc3339().to_string(), "2025-08-19T13:45:00.123456Z");
        assert_eq!(wall.http_date().to_string(), "Tue, 19 Aug 2025 13:45:00 GMT");
        assert_eq!(Wall::parse("2025-08-19T13:45:00.123456Z"), Some(wall));
        assert_eq!(Wall::parse("2025-08-19"), None);
        assert_eq!(Wall::from_micros(0).rfc3339().to_string(), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn a_cached_timestamp_is_of_its_own_time() {
        let mut stamps = Stamps::default();
        let second = 1_755_611_100_000_000;
        let times = [0, 0, 1, second + 123_456, second, second + 999_999, second + 1_000_000, 0];
        for micros in times.into_iter().chain(LAST.0 - 1..LAST.0 + 3).chain([u64::MAX]) {
            let wall = Wall::from_micros(micros);
            assert_eq!(stamps.of(wall), wall.rfc3339().to_string().as_bytes());
        }
    }

    #[test]
    fn a_time_after_the_year_9999_is_formatted_as_its_last_moment() {
        let wall = Wall::from_micros(u64::MAX);
        assert_eq!(wall.rfc3339().to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(wall.http_date().to_string(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn deadlines_saturate() {
        assert_eq!(Mono(5).after(Duration::MAX), Mono(u64::MAX));
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
        assert_eq!(Mono(9).since(Mono(5)), Duration::from_micros(4));
    }

    /// A clock keeps nothing of the wall clock, so it follows one that is set back.
    // contract §1.16
    #[test]
    fn a_clock_reads_the_systems() {
        let clock = Clock::new();
        let system = || Wall(micros_of(SystemTime::now().duration_since(UNIX_EPOCH).unwrap()));
        let (before, first, after, second) = (system(), clock.read(), system(), clock.read());
        assert!(before <= first.wall && first.wall <= after);
        assert!(first.mono <= second.mono);
        assert_eq!(size_of::<Clock>(), size_of::<Instant>());
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let draw = |seed| (&mut SeededEntropy::new(seed) as &mut dyn Entropy).bytes::<20>();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn the_systems_entropy_refills_its_buffer() {
        let mut entropy = OsEntropy::new().unwrap();
        let entropy: &mut dyn Entropy = &mut entropy;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            assert!(seen.insert(entropy.bytes::<15>()), "fifteen bytes came twice");
        }
        // A request can take the rest of one stock and the beginning of the next.
        assert!(seen.iter().all(|bytes| bytes.iter().filter(|byte| **byte == 0).count() < 8));
    }
}
