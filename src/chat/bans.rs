//! The bans of one room.
//!
//! Owns the list, its bound, and the form in which an address is kept. Must not know who may ban. The
//! invariant: an address is kept only as a keyed hash, so that neither this list nor the state file
//! shows it. A ban that is over counts for nothing; it is removed when another is added or lifted.

use super::address::Address;
use super::heap::vec_bytes;
use super::id::{RoomId, UserId, keyed_hash};
use super::name::Name;
use crate::clock::{Mono, Now};

/// Most bans of a room (contract §13.23).
pub(super) const BANS_MAX: usize = 256;

/// The hash of an address in one room, or none. Seven bytes, so that a member has space for it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct HashedAddress(pub [u8; 7]);

impl HashedAddress {
    /// `None`: an exempt peer, which has no address. `secret`: without it, addresses could be tried
    /// one after the other.
    pub fn of(address: Option<Address>, room: RoomId, secret: &[u8; 16]) -> HashedAddress {
        let Some(address) = address else { return HashedAddress::default() };
        let address = Address::rank(Some(address)).to_le_bytes();
        let hash = keyed_hash(secret, [&address, room.as_bytes()]);
        let [hash @ .., _] = hash.max(1 << 8).to_be_bytes();
        HashedAddress(hash)
    }

    /// The hash; `None`: no address.
    pub fn known(self) -> Option<HashedAddress> {
        (self != HashedAddress::default()).then_some(self)
    }
}

/// A person that has no access to a room for some time, and perhaps an address too.
pub(super) struct Ban {
    pub user_id: UserId,
    /// The person's name when it was banned.
    pub user: Name,
    /// As it is measured, and as clients see it.
    pub until: Now,
    /// Sessions from this address that have not joined have no access either.
    pub address: Option<HashedAddress>,
}

/// The bans of a room, the oldest first.
#[derive(Default)]
pub(super) struct Bans(Vec<Ban>);

impl Bans {
    /// Adds a ban. It replaces an earlier one of the same person and, if there are [`BANS_MAX`], the
    /// oldest.
    pub fn add(&mut self, ban: Ban, now: Mono) {
        self.lift(ban.user_id, now);
        if self.0.len() == BANS_MAX {
            self.0.remove(0);
        }
        self.0.push(ban);
    }

    /// Lifts the ban of a person, and forgets those that are over.
    pub fn lift(&mut self, user_id: UserId, now: Mono) {
        self.0.retain(|ban| ban.until.mono > now && ban.user_id != user_id);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    /// Whether a person has no access, or whether a person at this address that has not joined has
    /// none.
    pub fn apply_to(&self, user_id: UserId, address: HashedAddress, now: Mono) -> bool {
        let address = address.known();
        self.iter(now).any(|ban| {
            ban.user_id == user_id || ban.address.is_some_and(|banned| Some(banned) == address)
        })
    }

    /// The bans that are not over, the oldest first.
    pub fn iter(&self, now: Mono) -> impl Iterator<Item = &Ban> {
        self.0.iter().filter(move |ban| ban.until.mono > now)
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        let names = self.0.iter().map(|ban| ban.user.bytes()).sum::<usize>();
        vec_bytes::<Ban>(self.0.capacity()) + names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SeededEntropy, Wall};

    fn ban(user_id: u64, until: u64, address: Option<HashedAddress>) -> Ban {
        let until = Now { mono: Mono::from_micros(until), wall: Wall::default() };
        Ban { user_id: UserId(user_id), user: Name::parse("ana").unwrap(), until, address }
    }

    fn users(bans: &Bans, now: u64) -> Vec<u64> {
        bans.iter(Mono::from_micros(now)).map(|ban| ban.user_id.0).collect()
    }

    #[test]
    fn a_ban_ends_at_its_time_and_the_oldest_gives_way() {
        let mut bans = Bans::default();
        let at = Mono::from_micros;
        for user in 0..BANS_MAX as u64 + 2 {
            bans.add(ban(user, 100 + user, None), at(5));
        }
        assert_eq!(users(&bans, 5), Vec::from_iter(2..BANS_MAX as u64 + 2));
        assert_eq!(users(&bans, 102)[..2], [3, 4]);
        let applies =
            |bans: &Bans, user, now| bans.apply_to(UserId(user), HashedAddress::default(), at(now));
        assert!(applies(&bans, 3, 102) && !applies(&bans, 3, 103) && !applies(&bans, 1, 5));
        bans.add(ban(7, 1000, None), at(150));
        assert_eq!(users(&bans, 150).last(), Some(&7));
        assert_eq!(bans.0.len(), BANS_MAX + 3 - 51, "those that are over are gone");
        (0..1000).for_each(|user| bans.lift(UserId(user), at(150)));
        assert_eq!(bans.heap_bytes(), 0);
    }

    #[test]
    fn an_address_is_banned_in_one_room_and_exempt_peers_have_none() {
        let of = |ip: &str, room, secret| {
            HashedAddress::of(Some(Address::of(ip.parse().unwrap())), room, secret)
        };
        let entropy = &mut SeededEntropy::new(1);
        let (room, other) = (RoomId::new_public(entropy), RoomId::new_public(entropy));
        let hash = of("192.0.2.1", room, &[1; 16]);
        assert_eq!(hash, of("::ffff:192.0.2.1", room, &[1; 16]));
        assert_eq!(of("2001:db8::1", room, &[1; 16]), of("2001:db8::2", room, &[1; 16]));
        for another in [
            of("192.0.2.2", room, &[1; 16]),
            of("192.0.2.1", other, &[1; 16]),
            of("192.0.2.1", room, &[2; 16]),
        ] {
            assert_ne!(hash, another);
        }
        let mut bans = Bans::default();
        let now = Mono::from_micros(1);
        bans.add(ban(1, 9, Some(hash)), now);
        bans.add(ban(2, 9, None), now);
        assert!(bans.apply_to(UserId(5), hash, now));
        let exempt = HashedAddress::of(None, room, &[1; 16]);
        assert!(!bans.apply_to(UserId(5), exempt, now) && exempt.known().is_none());
    }
}
