//! A room's members: which of them are present, the order of their arrivals, and the holders of names.
//!
//! Owns the order and the lookup by name. Must not know what a member is: the callers pass what they
//! know of each as functions, because the members and their names are in other tables. The
//! invariant: a roster has an index exactly as long as it is large, and the index lists the present
//! members.
//!
//! Most rooms are small. In a small room a search through the members costs less than a lookup in
//! two maps, and the maps would take 170 bytes for each person in a room of two. The index of a large
//! room is two sorted lists. Adding to one moves up to eight bytes for each member, which is far less
//! than the work for each member that follows, because an arrival is announced to all of them.

use std::cmp::Ordering;
use std::num::NonZeroU64;

use smallvec::SmallVec;

use super::heap::{list_bytes, vec_bytes};
use super::keys::MemberKey;
use crate::ledger::allocation;

/// A roster with more members has an index.
const SMALL_MAX: usize = 16;
/// The index is dropped when so few members are left.
const INDEXED_MIN: usize = SMALL_MAX / 2;

/// The members of one room.
#[derive(Default)]
pub(super) struct Roster {
    /// In arbitrary order; each member stores its index.
    members: SmallVec<[MemberKey; 2]>,
    /// The number of present members.
    present: u32,
    index: Option<Box<PresentIndex>>,
}

/// The present members of a large room.
#[derive(Default)]
struct PresentIndex {
    by_arrival: Vec<MemberKey>,
    by_name: Vec<MemberKey>,
}

/// A member's place in the order of all arrivals, in all rooms. `Option<Arrival>` takes eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Arrival(NonZeroU64);

impl Arrival {
    /// The arrival after so many earlier ones.
    pub fn after(earlier: u64) -> Arrival {
        Arrival(NonZeroU64::MIN.saturating_add(earlier))
    }

    /// The number of earlier arrivals.
    pub fn earlier(self) -> u64 {
        self.0.get() - 1
    }
}

/// What a roster has to know of a present member: its arrival, and its folded name.
pub(super) type PresentFacts<'a> = (Arrival, &'a str);

impl Roster {
    pub fn members(&self) -> &[MemberKey] {
        &self.members
    }

    pub fn present_count(&self) -> usize {
        self.present as usize
    }

    /// Adds a member that is not present, and returns its place. `facts`: of a present member;
    /// `None`: the member is not present.
    pub fn join<'a>(
        &mut self,
        key: MemberKey,
        facts: impl Fn(MemberKey) -> Option<PresentFacts<'a>>,
    ) -> u32 {
        let place = self.members.len() as u32;
        self.members.push(key);
        if self.index.is_none() && self.members.len() > SMALL_MAX {
            let mut index = Box::<PresentIndex>::default();
            self.members.iter().for_each(|member| index.insert(*member, &facts));
            self.index = Some(index);
        }
        place
    }

    /// Removes a member that is not present. Returns the member that has its place now.
    pub fn leave(&mut self, place: u32) -> Option<MemberKey> {
        self.members.swap_remove(place as usize);
        if self.members.len() <= INDEXED_MIN {
            self.index = None;
            if self.members.is_empty() {
                self.members = SmallVec::new();
            }
        }
        self.members.get(place as usize).copied()
    }

    /// A member is present now. `facts`: of the member and of the others.
    pub fn arrive<'a>(
        &mut self,
        key: MemberKey,
        facts: impl Fn(MemberKey) -> Option<PresentFacts<'a>>,
    ) {
        self.present += 1;
        if let Some(index) = &mut self.index {
            index.insert(key, &facts);
        }
    }

    /// A member will no longer be present. `facts`: of the member and of the others.
    pub fn depart<'a>(
        &mut self,
        key: MemberKey,
        facts: impl Fn(MemberKey) -> Option<PresentFacts<'a>>,
    ) {
        self.present -= 1;
        let (Some(index), Some((arrival, name))) = (&mut self.index, facts(key)) else { return };
        if let Ok(place) = index.search_arrival(arrival, &facts) {
            index.by_arrival.remove(place);
        }
        if let Ok(place) = index.search_name(name, &facts) {
            index.by_name.remove(place);
        }
    }

    /// The present members, in the order of arrival.
    pub fn present(
        &self,
        arrival_of: impl Fn(MemberKey) -> Option<Arrival>,
    ) -> impl Iterator<Item = MemberKey> {
        let mut found = SmallVec::<[(Arrival, MemberKey); SMALL_MAX]>::new();
        if self.index.is_none() {
            for key in &self.members {
                if let Some(arrival) = arrival_of(*key) {
                    let place = found.partition_point(|(other, _)| *other < arrival);
                    found.insert(place, (arrival, *key));
                }
            }
        }
        let indexed = self.index.iter().flat_map(|index| index.by_arrival.iter().copied());
        indexed.chain(found.into_iter().map(|(_, key)| key))
    }

    /// Whether a present member has this arrival.
    pub fn has_arrival<'a>(
        &self,
        arrival: Arrival,
        facts: impl Fn(MemberKey) -> Option<PresentFacts<'a>>,
    ) -> bool {
        match &self.index {
            Some(index) => index.search_arrival(arrival, &facts).is_ok(),
            None => {
                let mut members = self.members.iter();
                members.any(|key| facts(*key).is_some_and(|(other, _)| other == arrival))
            }
        }
    }

    /// The present member with this folded name.
    pub fn holder<'a>(
        &self,
        name: &str,
        facts: impl Fn(MemberKey) -> Option<PresentFacts<'a>>,
    ) -> Option<MemberKey> {
        match &self.index {
            Some(index) => {
                let place = index.search_name(name, &facts).ok()?;
                index.by_name.get(place).copied()
            }
            None => {
                let is_holder =
                    |key: &&MemberKey| facts(**key).is_some_and(|(_, other)| other == name);
                self.members.iter().find(is_holder).copied()
            }
        }
    }

    /// Bytes of heap held.
    pub fn bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| {
            allocation(size_of::<PresentIndex>())
                + vec_bytes::<MemberKey>(index.by_arrival.capacity())
                + vec_bytes::<MemberKey>(index.by_name.capacity())
        });
        list_bytes(&self.members) + index
    }

    /// Panics if the roster contradicts the facts.
    pub fn check<'a>(&self, facts: impl Fn(MemberKey) -> Option<PresentFacts<'a>>) {
        let count = self.members.len();
        let present: Vec<_> =
            self.members.iter().filter_map(|key| Some((*key, facts(*key)?))).collect();
        agree!(self.present_count(), present.len());
        holds!(if self.index.is_some() { count > INDEXED_MIN } else { count <= SMALL_MAX });
        let in_order: Vec<_> = self.present(|key| facts(key).map(|(arrival, _)| arrival)).collect();
        agree!(in_order.len(), present.len(), "every present member is listed once");
        holds!(in_order.is_sorted_by_key(|key| facts(*key).map(|(arrival, _)| arrival)));
        for (key, (_, name)) in present {
            agree!(self.holder(name, &facts), Some(key), "each present member holds its name");
        }
        if let Some(index) = &self.index {
            agree!(index.by_name.len(), self.present_count());
        }
    }
}

impl PresentIndex {
    /// Adds the member if it is present.
    fn insert<'a>(
        &mut self,
        key: MemberKey,
        facts: &impl Fn(MemberKey) -> Option<PresentFacts<'a>>,
    ) {
        let Some((arrival, name)) = facts(key) else { return };
        let place = self.search_arrival(arrival, facts).unwrap_or_else(|place| place);
        self.by_arrival.insert(place, key);
        let place = self.search_name(name, facts).unwrap_or_else(|place| place);
        self.by_name.insert(place, key);
    }

    /// The member's place in `by_arrival`, or where it would be.
    fn search_arrival<'a>(
        &self,
        arrival: Arrival,
        facts: &impl Fn(MemberKey) -> Option<PresentFacts<'a>>,
    ) -> Result<usize, usize> {
        let compare = |key: &MemberKey| facts(*key).map(|(other, _)| other.cmp(&arrival));
        self.by_arrival.binary_search_by(|key| compare(key).unwrap_or(Ordering::Less))
    }

    /// The same in `by_name`.
    fn search_name<'a>(
        &self,
        name: &str,
        facts: &impl Fn(MemberKey) -> Option<PresentFacts<'a>>,
    ) -> Result<usize, usize> {
        let compare = |key: &MemberKey| facts(*key).map(|(_, other)| other.cmp(name));
        self.by_name.binary_search_by(|key| compare(key).unwrap_or(Ordering::Less))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;

    /// Members with their arrivals and names, in a table like the domain's.
    struct World {
        roster: Roster,
        members: Slots<(u32, Option<Arrival>, String), super::super::keys::MemberTag>,
    }

    impl World {
        fn join(&mut self, name: &str) -> MemberKey {
            let key = self.members.insert((0, None, name.to_owned()));
            let members = &self.members;
            let place = self.roster.join(key, |key| World::facts(members, key));
            self.members.get_mut(key).unwrap().0 = place;
            key
        }

        fn facts(
            members: &Slots<(u32, Option<Arrival>, String), super::super::keys::MemberTag>,
            key: MemberKey,
        ) -> Option<PresentFacts<'_>> {
            let (_, arrival, name) = members.get(key)?;
            Some(((*arrival)?, name))
        }

        fn arrive(&mut self, key: MemberKey, earlier: u64) {
            self.members.get_mut(key).unwrap().1 = Some(Arrival::after(earlier));
            self.roster.arrive(key, |key| World::facts(&self.members, key));
        }

        fn depart(&mut self, key: MemberKey) {
            if self.members.get(key).unwrap().1.is_some() {
                self.roster.depart(key, |key| World::facts(&self.members, key));
                self.members.get_mut(key).unwrap().1 = None;
            }
        }

        fn leave(&mut self, key: MemberKey) {
            self.depart(key);
            let (place, ..) = self.members.remove(key).unwrap();
            if let Some(moved) = self.roster.leave(place) {
                self.members.get_mut(moved).unwrap().0 = place;
            }
        }

        fn check(&self) {
            self.roster.check(|key| World::facts(&self.members, key));
        }
    }

    #[test]
    fn a_large_roster_has_an_index_which_agrees_with_a_search() {
        let mut world = World { roster: Roster::default(), members: Slots::default() };
        let mut keys: Vec<MemberKey> = Vec::new();
        for number in 0..50 {
            let key = world.join(&format!("name {number}"));
            assert_eq!(world.roster.index.is_some(), number >= SMALL_MAX);
            keys.push(key);
            if number % 3 > 0 {
                world.arrive(key, 100 - number as u64);
            }
            if number % 5 == 4 {
                world.depart(keys[number / 2]);
            }
            world.check();
        }
        while let Some(key) = keys.pop() {
            world.leave(key);
            world.check();
            assert_eq!(world.roster.index.is_some(), keys.len() > INDEXED_MIN);
        }
        assert_eq!(world.roster.bytes(), 0);
    }
}
