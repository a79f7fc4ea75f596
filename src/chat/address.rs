//! Client addresses, and how much each of them uses.
//!
//! Owns each address's count of connections, its rate meters, and its counts of living sessions and
//! rooms. Must not know the limits, which `quota` applies. The invariant: [`Addresses::review`]
//! removes an address as soon as it holds nothing and its meters are idle, so that the table does
//! not grow with every address ever seen. Until then its key is valid, so the creator of a living
//! session or room can be stored as a key.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::heap::{map_bytes, shrink};
use super::keys::{AddressKey, AddressTag};
use crate::clock::Mono;
use crate::rate::Meter;
use crate::slots::Slots;

/// The unit to which per-address limits apply: an IPv4 address, or a /64 network of IPv6, because
/// one subscriber controls at least such a network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address(IpAddr);

impl Address {
    /// The unit that `ip` belongs to. IPv4-mapped addresses count as IPv4.
    pub fn of(ip: IpAddr) -> Address {
        Address(match ip.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !0 << 64)),
        })
    }

    /// An IP address for which [`Address::of`] returns this address.
    pub fn ip(self) -> IpAddr {
        self.0
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
pub(super) struct Usage {
    pub address: Address,
    pub connections: u32,
    pub session_meter: Meter,
    pub room_meter: Meter,
    /// Living sessions that the address has created.
    pub sessions: u32,
    /// Living rooms that the address has created, whoever owns them now.
    pub rooms: u32,
    /// Whether a timer is armed for the entry's review.
    pub timed: bool,
}

impl Usage {
    fn new(address: Address) -> Usage {
        Usage {
            address,
            connections: 0,
            session_meter: Meter::default(),
            room_meter: Meter::default(),
            sessions: 0,
            rooms: 0,
            timed: false,
        }
    }

    /// Whether the address has something whose end causes the next review, so that the entry needs
    /// no timer.
    fn is_held(&self) -> bool {
        self.connections > 0 || self.sessions > 0 || self.rooms > 0
    }
}

/// Usage by address.
#[derive(Default)]
pub(super) struct Addresses {
    entries: Slots<Usage, AddressTag>,
    keys: HashMap<Address, AddressKey>,
}

impl Addresses {
    /// The key of the address's entry. Adds an entry if there is none; the caller must review it
    /// unless it makes the entry count something.
    pub fn key(&mut self, address: Address) -> AddressKey {
        let entries = &mut self.entries;
        *self.keys.entry(address).or_insert_with(|| entries.insert(Usage::new(address)))
    }

    pub fn get(&self, key: AddressKey) -> Option<&Usage> {
        self.entries.get(key)
    }

    pub fn get_mut(&mut self, key: AddressKey) -> Option<&mut Usage> {
        self.entries.get_mut(key)
    }

    /// Removes the entry if nothing holds it and its meters are idle. Returns whether the caller
    /// must arm a timer for the next review.
    pub fn review(&mut self, key: AddressKey, now: Mono) -> bool {
        let Some(usage) = self.entries.get_mut(key) else { return false };
        let is_metered = !usage.session_meter.is_idle(now) || !usage.room_meter.is_idle(now);
        usage.timed = is_metered && !usage.is_held();
        if !is_metered && !usage.is_held() {
            self.keys.remove(&usage.address);
            shrink(&mut self.keys);
            self.entries.remove(key);
            return false;
        }
        usage.timed
    }

    pub fn iter(&self) -> impl Iterator<Item = (AddressKey, &Usage)> {
        self.entries.iter()
    }

    /// The number of entries with an armed timer.
    pub fn timed(&self) -> usize {
        self.entries.iter().filter(|(_, usage)| usage.timed).count()
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        self.entries.bytes() + map_bytes::<Address, AddressKey>(self.keys.capacity())
    }

    pub fn check(&self) {
        agree!(self.entries.len(), self.keys.len());
        for (key, usage) in self.entries.iter() {
            agree!(self.keys.get(&usage.address), Some(&key));
        }
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
    fn a_review_removes_an_address_that_holds_nothing_and_has_idle_meters() {
        let at = |millis: u64| Mono::from_micros(millis * 1000);
        let pace = Pace::new(1, Duration::from_secs(1), 1);
        let mut addresses = Addresses::default();
        let key = addresses.key(Address::of(IpAddr::from([192, 0, 2, 1])));
        let usage = addresses.get_mut(key).unwrap();
        pace.take(&mut usage.session_meter, at(0)).unwrap();
        usage.connections = 1;
        assert!(!addresses.review(key, at(0)), "it is reviewed when the connection ends");
        addresses.get_mut(key).unwrap().connections = 0;
        assert!(addresses.review(key, at(999)), "its meter is not idle");
        assert!(!addresses.review(key, at(1000)));
        assert_eq!((addresses.keys.len(), addresses.bytes()), (0, 0));
    }
}
