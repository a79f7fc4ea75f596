//! Limits per client address.
//!
//! Owns the rules: how many connections an address may have, and how fast it may open sessions and
//! rooms. `address` stores the counts. Must not know how a client's address is determined. The
//! invariant: an address with an entry has a connection, a living session, a living room or an
//! armed timer, so that every entry is removed eventually.

use std::collections::HashMap;

use super::address::{Address, Quota, Usage};
use super::error::Refusal;
use super::keys::AddressKey;
use super::state::Chat;
use super::timer::ChatTimer;
use crate::clock::Now;
use crate::rate::{Meter, Pace};

/// Most connections that one address may have open in addition to its limit. Each of them is
/// refused with an answer. Further ones are dropped without an answer.
pub(super) const REFUSED_CONNECTIONS_MAX: usize = 16;

impl Chat {
    /// A connection from `address` has been accepted. Counts it until [`Chat::on_departure`], even
    /// if it is over the limit.
    pub fn on_arrival(&mut self, address: Address) -> Quota {
        let key = self.addresses.key(address);
        let connections = self.addresses.get_mut(key).map_or(0, |usage| {
            usage.connections += 1;
            usage.connections as usize
        });
        self.recount();
        match self.config.address_connections_max {
            Some(max) if connections > max.saturating_add(REFUSED_CONNECTIONS_MAX) => {
                Quota::FarOver
            }
            Some(max) if connections > max => Quota::Over,
            _ => Quota::Within,
        }
    }

    /// A connection that [`Chat::on_arrival`] counted has ended.
    pub fn on_departure(&mut self, now: Now, address: Address) {
        let key = self.addresses.key(address);
        self.release(now, Some(key), |usage| &mut usage.connections);
    }

    /// Counts one use against the rate of an address, and returns the address's key; `None`:
    /// exempt. If this succeeds, the caller must count what it creates at the address.
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

    /// Counts one more of what an address holds.
    pub(super) fn hold(
        &mut self,
        address: Option<AddressKey>,
        count: impl FnOnce(&mut Usage) -> &mut u32,
    ) {
        if let Some(usage) = address.and_then(|key| self.addresses.get_mut(key)) {
            *count(usage) += 1;
        }
    }

    /// Counts one less of what an address holds.
    pub(super) fn release(
        &mut self,
        now: Now,
        address: Option<AddressKey>,
        count: impl FnOnce(&mut Usage) -> &mut u32,
    ) {
        let Some(key) = address else { return };
        if let Some(usage) = self.addresses.get_mut(key) {
            let count = count(usage);
            *count = count.saturating_sub(1);
        }
        self.keep_reviewed(now, key);
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

    pub(super) fn check_shares(&self) {
        self.addresses.check();
        let mut held: HashMap<AddressKey, (u32, u32)> = HashMap::new();
        for key in self.sessions.iter().filter_map(|(_, session)| session.creator) {
            held.entry(key).or_default().0 += 1;
        }
        for key in self.feeds.rooms().filter_map(|(_, room)| room.creator) {
            held.entry(key).or_default().1 += 1;
        }
        for (key, usage) in self.addresses.iter() {
            let held = held.remove(&key).unwrap_or_default();
            agree!((usage.sessions, usage.rooms), held, "an address counts what it has created");
        }
        assert!(held.is_empty(), "the address that created something has an entry");
    }
}
