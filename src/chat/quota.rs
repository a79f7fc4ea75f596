//! Limits per client address.
//!
//! Owns the rules: how many connections, living sessions and living rooms an address may have, what
//! gives way to a new session or room, and how fast it may open them. `address` stores the counts.
//! Must not know how a client's address is determined. The invariant: an address with an entry has a
//! connection, a living session, a living room or an armed timer, so that every entry is removed
//! eventually.

use std::collections::HashMap;
use std::time::Duration;

use super::address::{Address, Created, Quota, ShareKind, Usage};
use super::error::Refusal;
use super::keys::{AddressKey, IdleKey};
use super::sink::Sink;
use super::state::Chat;
use super::timer::ChatTimer;
use crate::clock::Now;
use crate::rate::{Meter, Pace};

/// A session or a room gives way if it has had no connection for this long (contract §3.13).
pub(crate) const GIVES_WAY_AFTER: Duration = Duration::from_secs(600);

/// How many times the share of one address a /48 network of IPv6 may have (contract §3.14).
const NETWORK_SHARES: usize = 8;

/// Most connections that one address may have open in addition to its limit. Each of them is
/// refused with an answer. Further ones are dropped without an answer.
pub(super) const REFUSED_CONNECTIONS_MAX: usize = 16;

impl Chat {
    /// A connection from `address` has been accepted. Counts it until [`Chat::on_departure`], even
    /// if it is over the limit. Those over it do not count against the limit, so that they keep no
    /// connection from a place that is free.
    pub fn on_arrival(&mut self, address: Address) -> Quota {
        let key = self.addresses.key(address);
        let max = self.config.address_connections_max.unwrap_or(usize::MAX);
        let quota = self.addresses.get_mut(key).map_or(Quota::Within, |usage| {
            if (usage.connections as usize) < max {
                usage.connections += 1;
                return Quota::Within;
            }
            usage.refused += 1;
            match usage.refused as usize > REFUSED_CONNECTIONS_MAX {
                true => Quota::FarOver,
                false => Quota::Over,
            }
        });
        self.recount();
        quota
    }

    /// A small number that no other address has as long as this one is in use.
    pub fn place_of(&self, address: Address) -> Option<usize> {
        self.addresses.place(address)
    }

    /// A connection that [`Chat::on_arrival`] counted has ended. `is_over`: over the limit.
    pub fn on_departure(&mut self, now: Now, address: Address, is_over: bool) {
        let key = self.addresses.key(address);
        if let Some(usage) = self.addresses.get_mut(key) {
            let count = if is_over { &mut usage.refused } else { &mut usage.connections };
            *count = count.saturating_sub(1);
        }
        self.keep_reviewed(now, key);
    }

    /// Counts one use against the rate of an address, and returns the address's key; `None`:
    /// exempt. If this succeeds, the caller must add what it creates to the share of the
    /// address.
    pub(super) fn pace_address(
        &mut self,
        now: Now,
        address: Option<Address>,
        pace: Pace,
        meter: impl FnOnce(&mut Usage) -> &mut Meter,
    ) -> Result<Option<AddressKey>, Refusal> {
        let Some(address) = address else { return Ok(None) };
        let key = self.addresses.key(address);
        let Some(usage) = self.addresses.get_mut(key) else { return Ok(None) };
        match pace.take(meter(usage), now.mono) {
            Ok(()) => Ok(Some(key)),
            Err(wait) => {
                self.keep_reviewed(now, key);
                Err(Refusal::RateLimited(wait))
            }
        }
    }

    /// What gives way if the address creates one more of this kind; `Ok(None)`: nothing, because the
    /// address is not at its bound. Changes nothing, so that a later check can still refuse.
    pub(super) fn share(
        &self,
        now: Now,
        from: Option<Address>,
        kind: ShareKind,
    ) -> Result<Option<Created>, Refusal> {
        let (Some(address), Some(max)) = (from, self.config.address_sessions_max) else {
            return Ok(None);
        };
        let (count, of_network) = self.addresses.counts(address, kind);
        if count < max && of_network < max.saturating_mul(NETWORK_SHARES) {
            return Ok(None);
        }
        match self.addresses.first_idle(address, kind) {
            Some((first, since)) if since.after(GIVES_WAY_AFTER) <= now.mono => Ok(Some(first)),
            _ => Err(match kind {
                ShareKind::Sessions => Refusal::AddressSessions,
                ShareKind::Rooms => Refusal::AddressRooms,
            }),
        }
    }

    /// Ends what [`Chat::share`] has returned, as if its ttl had run out.
    pub(super) fn give_way(&mut self, now: Now, first: Option<Created>, sink: &mut dyn Sink) {
        match first {
            Some(Created::Session(session)) => self.end_session(now, session, sink),
            Some(Created::Room(room)) => self.end_room(now, room, sink),
            None => {}
        }
    }

    /// Subtracts something that has ended from the share of the address that created it.
    pub(super) fn subtract_from_share(
        &mut self,
        now: Now,
        creator: Option<AddressKey>,
        created: Created,
        idle: Option<IdleKey>,
    ) {
        let Some(creator) = creator else { return };
        self.addresses.subtract(creator, created, idle, now.mono);
        self.keep_reviewed(now, creator);
    }

    /// Reviews the address now, unless a timer for a review is armed.
    fn keep_reviewed(&mut self, now: Now, key: AddressKey) {
        if self.addresses.get(key).is_some_and(|usage| !usage.timed) {
            self.review_address(now, key);
        }
    }

    pub(super) fn review_address(&mut self, now: Now, key: AddressKey) {
        if self.addresses.review(key, now.mono) {
            self.timers.arm(ChatTimer::Address(key), now.mono);
        }
        self.recount();
    }

    /// The entries of an address and of its network.
    fn counted_in(&self, creator: Option<AddressKey>) -> impl Iterator<Item = AddressKey> {
        let network = creator.and_then(|key| self.addresses.network_key(key));
        creator.into_iter().chain(network)
    }

    pub(super) fn check_shares(&self) {
        let mut created: HashMap<AddressKey, [u32; 2]> = HashMap::new();
        // Only debug builds count: the map's code would be 3 KB of a release build.
        let mut count = |creator, kind: ShareKind| {
            for key in self.counted_in(creator).filter(|_| cfg!(debug_assertions)) {
                created.entry(key).or_default()[kind as usize] += 1;
            }
        };
        for (_, session) in self.sessions.iter() {
            count(session.creator, ShareKind::Sessions);
            let is_idle = session.creator.is_some() && session.attachments.is_empty();
            agree!(session.idle.is_some(), is_idle);
        }
        for (key, room) in self.feeds.rooms() {
            count(room.creator, ShareKind::Rooms);
            let is_idle = room.creator.is_some() && self.feeds.recipients(key).is_empty();
            agree!(room.idle.is_some(), is_idle);
        }
        for (key, usage) in self.addresses.iter().filter(|_| cfg!(debug_assertions)) {
            let counts =
                [ShareKind::Sessions, ShareKind::Rooms].map(|kind| usage.share(kind).count);
            let created = created.remove(&key).unwrap_or_default();
            agree!(
                counts,
                created,
                "an address counts what it has created, and so does its network"
            );
        }
        holds!(created.is_empty(), "a creator's address has an entry");
        self.addresses.check(|created| match created {
            Created::Session(key) => self.sessions.get(key).map(|one| (one.creator, one.idle)),
            Created::Room(key) => self.feeds.room(key).map(|one| (one.creator, one.idle)),
        });
    }
}
