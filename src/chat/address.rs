//! Client addresses, and how much each of them uses.
//!
//! Owns each address's count of connections, its rate meters, and its share: the living sessions and
//! rooms that it has created, counted, and those of them without a connection, in order. Must not
//! know the limits, which `quota` applies. The invariant: [`Addresses::review`] removes an address
//! as soon as it holds nothing and its meters are idle, so that the table does not grow with every
//! address ever seen. Until then its key is valid, so the creator of a living session or room can be
//! stored as a key.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::heap::{map_bytes, shrink};
use super::keys::{AddressKey, AddressTag, IdleKey, IdleTag, RoomKey, SessionKey};
use crate::clock::Mono;
use crate::rate::Meter;
use crate::slots::{Linked, Links, List, Slots};

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

    /// Stands for the /48 network of IPv6 that the address is in. One site may control such a network
    /// (RFC 6177), and with it 65,536 addresses in the sense of this type. No address is equal to
    /// it, because the last 64 bits of an address are zero.
    pub(crate) fn network(self) -> Option<Address> {
        match self.0 {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => {
                Some(Address(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !0 << 80 | 1))))
            }
        }
    }

    /// An IP address for which [`Address::of`] returns this address.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// A number of [`Address::RANK_BITS`] bits for each address, and 0 for `None`: a part of the keys
    /// of sorted sets, all of which are numbers, because each type of key is another 10 KB of code.
    pub fn rank(address: Option<Address>) -> u128 {
        match address.map(Address::ip) {
            None => 0,
            Some(IpAddr::V4(ip)) => 1 << 64 | u128::from(ip.to_bits()),
            Some(IpAddr::V6(ip)) => 2 << 64 | ip.to_bits() >> 64,
        }
    }

    /// The number of bits of [`Address::rank`].
    pub const RANK_BITS: u32 = 66;
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

/// The kinds of what an address creates and has a share of.
#[derive(Clone, Copy)]
pub(super) enum ShareKind {
    Sessions,
    Rooms,
}

/// A session or a room that an address has created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Created {
    Session(SessionKey),
    Room(RoomKey),
}

impl Created {
    pub fn kind(self) -> ShareKind {
        match self {
            Created::Session(_) => ShareKind::Sessions,
            Created::Room(_) => ShareKind::Rooms,
        }
    }
}

/// The living sessions, or the living rooms, that an address has created.
#[derive(Default)]
pub(super) struct Share {
    pub count: u32,
    /// Those without a connection: the session that has been unused longest first, and the room that
    /// has been empty longest.
    idle: List<IdleTag>,
}

/// A session or a room without a connection, in the list of the address that created it.
struct Idle {
    created: Created,
    /// When it lost its last connection or, if it never had one, when it was created.
    since: Mono,
    links: Links<IdleTag>,
}

impl Linked<IdleTag> for Idle {
    fn links(&self) -> &Links<IdleTag> {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links<IdleTag> {
        &mut self.links
    }
}

/// What one address uses.
pub(super) struct Usage {
    pub address: Address,
    /// Connections within the limit.
    pub connections: u32,
    /// Connections over the limit, which are being refused.
    pub refused: u32,
    pub session_meter: Meter,
    pub room_meter: Meter,
    /// By [`ShareKind`]. A room stays in the share of the address that created it when it gets a new owner.
    shares: [Share; 2],
    /// Whether a timer is armed for the entry's review.
    pub timed: bool,
}

impl Usage {
    fn new(address: Address) -> Usage {
        Usage {
            address,
            connections: 0,
            refused: 0,
            session_meter: Meter::default(),
            room_meter: Meter::default(),
            shares: Default::default(),
            timed: false,
        }
    }

    pub fn share(&self, kind: ShareKind) -> &Share {
        &self.shares[kind as usize]
    }

    /// Whether the address has something whose end causes the next review, so that the entry needs
    /// no timer.
    fn is_held(&self) -> bool {
        self.connections > 0 || self.refused > 0 || self.shares.iter().any(|share| share.count > 0)
    }
}

/// A map from an address to an index of slots; `None`: all exempt peers. One type for all such maps,
/// because the code of another would take 3 KB.
pub(super) type AddressMap = HashMap<Option<Address>, u32>;

/// Usage by address. A /48 network with a share has an entry of its own, in which only the shares are
/// counted.
#[derive(Default)]
pub(super) struct Addresses {
    entries: Slots<Usage, AddressTag>,
    places: AddressMap,
    /// The entries of all [`Share::idle`].
    idle: Slots<Idle, IdleTag>,
}

impl Addresses {
    /// The key of the address's entry. Adds an entry if there is none; the caller must review it
    /// unless it makes the entry count something.
    pub fn key(&mut self, address: Address) -> AddressKey {
        if let Some(key) = self.known(address) {
            return key;
        }
        let key = self.entries.insert(Usage::new(address));
        self.places.insert(Some(address), key.index() as u32);
        key
    }

    /// The key of the address's entry, if it has one.
    fn known(&self, address: Address) -> Option<AddressKey> {
        self.entries.key_at(self.place(address)?)
    }

    /// The index of the address's entry, if it has one.
    pub fn place(&self, address: Address) -> Option<usize> {
        self.places.get(&Some(address)).map(|place| *place as usize)
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
            self.places.remove(&Some(usage.address));
            shrink(&mut self.places);
            self.entries.remove(key);
            return false;
        }
        usage.timed
    }

    /// Adds something that has no connection to the share of the address that created it. `None`:
    /// exempt.
    pub fn add(&mut self, by: Option<AddressKey>, created: Created, now: Mono) -> Option<IdleKey> {
        let network = self.entries.get(by?)?.address.network();
        let network = network.map(|network| self.key(network));
        for key in by.into_iter().chain(network) {
            if let Some(usage) = self.entries.get_mut(key) {
                usage.shares[created.kind() as usize].count += 1;
            }
        }
        self.push_idle(by, created, now)
    }

    /// Something has ended. The caller must review the address.
    pub fn subtract(&mut self, by: AddressKey, created: Created, idle: Option<IdleKey>, now: Mono) {
        self.remove_idle(Some(by), created.kind(), idle);
        let Some(usage) = self.entries.get(by) else { return };
        let network = usage.address.network().and_then(|network| self.known(network));
        for key in [by].into_iter().chain(network) {
            if let Some(usage) = self.entries.get_mut(key) {
                usage.shares[created.kind() as usize].count -= 1;
            }
        }
        if let Some(network) = network {
            self.review(network, now); // It has no meters, so it needs no timer.
        }
    }

    /// Something has lost its last connection.
    pub fn push_idle(
        &mut self,
        by: Option<AddressKey>,
        created: Created,
        now: Mono,
    ) -> Option<IdleKey> {
        let usage = self.entries.get_mut(by?)?;
        let key = self.idle.insert(Idle { created, since: now, links: Links::default() });
        usage.shares[created.kind() as usize].idle.push_back(&mut self.idle, key);
        Some(key)
    }

    /// Something has got a connection.
    pub fn remove_idle(&mut self, by: Option<AddressKey>, kind: ShareKind, key: Option<IdleKey>) {
        let (Some(by), Some(key)) = (by, key) else { return };
        let Some(usage) = self.entries.get_mut(by) else { return };
        usage.shares[kind as usize].idle.remove(&mut self.idle, key);
        self.idle.remove(key);
    }

    /// Something without a connection has been used: it becomes the last of its list.
    pub fn renew_idle(&mut self, by: Option<AddressKey>, kind: ShareKind, key: Option<IdleKey>) {
        let (Some(by), Some(key)) = (by, key) else { return };
        let Some(usage) = self.entries.get_mut(by) else { return };
        let list = &mut usage.shares[kind as usize].idle;
        list.remove(&mut self.idle, key);
        list.push_back(&mut self.idle, key);
    }

    /// The counts of the address and of its network.
    pub fn counts(&self, address: Address, kind: ShareKind) -> (usize, usize) {
        let count = |address| {
            let usage = self.known(address).and_then(|key| self.entries.get(key));
            usage.map_or(0, |usage| usage.share(kind).count as usize)
        };
        (count(address), address.network().map_or(0, count))
    }

    /// The first of the address's list, and since when it has had no connection.
    pub fn first_idle(&self, address: Address, kind: ShareKind) -> Option<(Created, Mono)> {
        let usage = self.entries.get(self.known(address)?)?;
        let idle = self.idle.get(usage.share(kind).idle.first()?)?;
        Some((idle.created, idle.since))
    }

    /// The entry in which the network of this address is counted.
    pub fn network_key(&self, key: AddressKey) -> Option<AddressKey> {
        let network = self.entries.get(key)?.address.network()?;
        self.known(network)
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
        self.entries.bytes()
            + map_bytes::<Option<Address>, u32>(self.places.capacity())
            + self.idle.bytes()
    }

    /// Panics if the table contradicts itself. `idle_of` returns the creator and the idle entry that
    /// something living has.
    pub fn check(
        &self,
        idle_of: impl Fn(Created) -> Option<(Option<AddressKey>, Option<IdleKey>)>,
    ) {
        agree!(self.entries.len(), self.places.len());
        let mut listed = 0;
        for (key, usage) in self.entries.iter() {
            agree!(self.place(usage.address), Some(key.index()));
            for (kind, share) in usage.shares.iter().enumerate() {
                share.idle.check(&self.idle);
                for idle in share.idle.iter(&self.idle) {
                    let created = self.idle.get(idle).expect("a listed entry exists").created;
                    agree!(created.kind() as usize, kind);
                    agree!(idle_of(created), Some((Some(key), Some(idle))));
                    listed += 1;
                }
            }
        }
        agree!(listed, self.idle.len(), "every idle entry is in the list of its address");
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
        assert_eq!((addresses.places.len(), addresses.bytes()), (0, 0));
    }
}
