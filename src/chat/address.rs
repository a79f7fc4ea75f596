//! Client addresses, and how much each of them uses.
//!
//! Owns each address's count of connections and its rate meters. Must not know the limits, which
//! `quota` applies. The invariant: [`Addresses::review`] removes an address that has no connections
//! and only idle meters, so that the table does not grow with every address ever seen.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::heap::{map_bytes, shrink};
use crate::clock::Mono;
use crate::rate::Meter;

/// The unit to which per-address limits apply: an IPv4 address, or a /64 network of IPv6, because
/// one subscriber controls at least such a network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address(IpAddr);

impl Address {
    /// The unit that `ip` belongs to. IPv4-mapped addresses count as IPv4.
    pub fn of(ip: IpAddr) -> Address {
        Address(match ip.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !0 << 64)),
        })
    }
}

/// The number of an address's connections, compared with its limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quota {
    /// Not over the limit.
    Within,
    /// Over the limit: the connection is refused with an answer.
    Over,
    /// So far over the limit that the connection is dropped without an answer.
    FarOver,
}

/// What one address uses.
#[derive(Clone, Copy, Default)]
pub(super) struct Usage {
    pub connections: u32,
    pub sessions: Meter,
    pub rooms: Meter,
    /// Whether a timer is armed for the entry's review.
    pub timed: bool,
}

/// Usage by address.
#[derive(Default)]
pub(super) struct Addresses(HashMap<Address, Usage>);

impl Addresses {
    /// The address's usage. Adds an entry if there is none.
    pub fn entry(&mut self, address: Address) -> &mut Usage {
        self.0.entry(address).or_default()
    }

    /// Removes the entry if it has no connections and its meters are idle. Returns whether the
    /// caller must arm a timer for the next review. An entry with connections needs none: it is
    /// reviewed when a connection ends.
    pub fn review(&mut self, address: Address, now: Mono) -> bool {
        let Some(usage) = self.0.get_mut(&address) else { return false };
        let is_metered = !usage.sessions.is_idle(now) || !usage.rooms.is_idle(now);
        if usage.connections == 0 && !is_metered {
            self.0.remove(&address);
            shrink(&mut self.0);
            return false;
        }
        usage.timed = usage.connections == 0;
        usage.timed
    }

    /// The number of entries with an armed timer.
    pub fn timed(&self) -> usize {
        self.0.values().filter(|usage| usage.timed).count()
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        map_bytes::<Address, Usage>(self.0.capacity())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rate::Pace;

    // contract §12.18
    #[test]
    fn all_addresses_of_an_ipv6_network_count_as_one() {
        let of = |text: &str| Address::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.2"), of("192.0.2.1"));
    }

    #[test]
    fn a_review_removes_an_address_without_connections_and_with_idle_meters() {
        let at = |millis: u64| Mono::from_micros(millis * 1000);
        let pace = Pace::new(1, Duration::from_secs(1), 1);
        let mut addresses = Addresses::default();
        let address = Address::of(IpAddr::from([192, 0, 2, 1]));
        pace.take(&mut addresses.entry(address).sessions, at(0)).unwrap();
        addresses.entry(address).connections = 1;
        assert!(!addresses.review(address, at(0)), "it is reviewed when the connection ends");
        addresses.entry(address).connections = 0;
        assert!(addresses.review(address, at(999)), "its meter is not idle");
        assert!(!addresses.review(address, at(1000)));
        assert_eq!((addresses.0.len(), addresses.bytes()), (0, 0));
    }
}
