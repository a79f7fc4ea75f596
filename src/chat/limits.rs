//! Rates and shares: how much of the server one session or address may use.
//!
//! Owns the arithmetic and the table of addresses. Must never know what is being limited. The
//! invariant: an address without connections whose meters have run out is forgotten.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::clock::Mono;

/// A bound on how often something may happen: evenly in the long run, with bursts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Between two occurrences in the long run; zero: unlimited.
    interval: Duration,
    /// Occurrences that may come at once after a long silence, at least 1.
    burst: u32,
}

/// What is remembered of past occurrences: the time at which they would be evenly spread (the
/// "theoretical arrival time" of the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meter(Mono);

impl Pace {
    /// No bound.
    pub const UNLIMITED: Pace = Pace { interval: Duration::ZERO, burst: 1 };

    /// `count` per `period` in the long run (0: unlimited), at most `burst` at once.
    pub const fn new(count: u32, period: Duration, burst: u32) -> Pace {
        let interval = match period.checked_div(count) {
            Some(interval) => interval,
            None => Duration::ZERO,
        };
        Pace { interval, burst: if burst == 0 { 1 } else { burst } }
    }

    /// Time between two occurrences in the long run; zero: unlimited.
    pub fn interval(self) -> Duration {
        self.interval
    }

    /// Counts one occurrence, or says how long until one is possible and counts nothing.
    pub fn take(self, meter: &mut Meter, now: Mono) -> Result<(), Duration> {
        if self.interval.is_zero() {
            return Ok(());
        }
        let due = meter.0.max(now);
        let earliest = due.since(now.after(self.interval * (self.burst - 1)));
        if !earliest.is_zero() {
            return Err(earliest);
        }
        meter.0 = due.after(self.interval);
        Ok(())
    }
}

impl Meter {
    /// True when past occurrences no longer matter.
    pub fn is_idle(self, now: Mono) -> bool {
        self.0 <= now
    }
}

/// Whose share something counts against: an IPv4 address, or an IPv6 network of 64 bits, which
/// is what one subscriber gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address(IpAddr);

impl Address {
    /// The share that `ip` belongs to. IPv4-mapped addresses count as IPv4.
    pub fn of(ip: IpAddr) -> Address {
        Address(match ip.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !0 << 64)),
        })
    }
}

/// How an address stands to its share of connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quota {
    /// Within.
    Within,
    /// Over it: to be told so and closed.
    Over,
    /// So far over it that telling would be a share of its own.
    FarOver,
}

/// What is remembered of one address.
#[derive(Clone, Copy, Default)]
pub(super) struct Usage {
    pub connections: u32,
    pub sessions: Meter,
    pub rooms: Meter,
    /// Whether a timer is armed that will look at it again.
    pub timed: bool,
}

/// Usage by address.
#[derive(Default)]
pub(super) struct Addresses(HashMap<Address, Usage>);

impl Addresses {
    pub fn entry(&mut self, address: Address) -> &mut Usage {
        self.0.entry(address).or_default()
    }

    /// Forgets the address if nothing needs remembering; otherwise says whether time will change
    /// that.
    pub fn forget_if_idle(&mut self, address: Address, now: Mono) -> bool {
        let Some(usage) = self.0.get_mut(&address) else { return false };
        let metered = !usage.sessions.is_idle(now) || !usage.rooms.is_idle(now);
        if usage.connections == 0 && !metered {
            self.0.remove(&address);
            super::shrink(&mut self.0);
            return false;
        }
        usage.timed = usage.connections == 0;
        usage.timed
    }

    /// How many a timer is armed for.
    pub fn timed(&self) -> usize {
        self.0.values().filter(|usage| usage.timed).count()
    }

    pub fn bytes(&self) -> usize {
        super::map_bytes::<Address, Usage>(self.0.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Mono {
        Mono::from_micros(millis * 1000)
    }

    #[test]
    fn a_burst_then_an_even_pace() {
        let pace = Pace::new(10, SECOND, 3);
        let mut meter = Meter::default();
        let now = at(1000);
        for _ in 0..3 {
            assert_eq!(pace.take(&mut meter, now), Ok(()));
        }
        assert_eq!(pace.take(&mut meter, now), Err(Duration::from_millis(100)));
        assert_eq!(pace.take(&mut meter, at(1099)), Err(Duration::from_millis(1)));
        assert_eq!(pace.take(&mut meter, at(1100)), Ok(()));
        assert_eq!(pace.take(&mut meter, at(1100)), Err(Duration::from_millis(100)));
        assert!(!meter.is_idle(at(1399)) && meter.is_idle(at(1400)));
        for _ in 0..3 {
            assert_eq!(pace.take(&mut meter, at(9000)), Ok(()));
        }
        assert!(pace.take(&mut meter, at(9000)).is_err(), "silence earns one burst, not more");
    }

    #[test]
    fn rate_zero_is_unlimited() {
        let mut meter = Meter::default();
        assert!((0..1000).all(|_| Pace::new(0, SECOND, 1).take(&mut meter, at(0)).is_ok()));
        assert!(meter.is_idle(at(0)));
    }

    // contract §12.18
    #[test]
    fn an_ipv6_network_is_one_address() {
        let of = |text: &str| Address::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.2"), of("192.0.2.1"));
    }

    #[test]
    fn an_address_is_remembered_only_as_long_as_it_matters() {
        let mut addresses = Addresses::default();
        let address = Address::of(IpAddr::from([192, 0, 2, 1]));
        Pace::new(1, SECOND, 1).take(&mut addresses.entry(address).sessions, at(0)).unwrap();
        addresses.entry(address).connections = 1;
        assert!(!addresses.forget_if_idle(address, at(0)), "its end will be an occasion");
        addresses.entry(address).connections = 0;
        assert!(addresses.forget_if_idle(address, at(999)), "only time can tell");
        assert!(!addresses.forget_if_idle(address, at(1000)));
        assert_eq!((addresses.0.len(), addresses.bytes()), (0, 0));
    }
}
