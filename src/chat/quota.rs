//! Limits per client address.
//!
//! Owns the rules: how many connections an address may have, and how fast it may open sessions and
//! rooms. `address` stores the counts. Must not know how a client's address is determined. The
//! invariant: an address with an entry has a connection or an armed timer, so that every entry is
//! removed eventually.

use super::address::{Address, Quota, Usage};
use super::error::Refusal;
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
        let usage = self.addresses.entry(address);
        usage.connections += 1;
        let connections = usage.connections as usize;
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
        let usage = self.addresses.entry(address);
        usage.connections = usage.connections.saturating_sub(1);
        self.keep_reviewed(now, address);
    }

    /// Counts one use against the rate of an address; `None`: exempt.
    pub(super) fn pace_address(
        &mut self,
        now: Now,
        address: Option<Address>,
        pace: Pace,
        meter: impl FnOnce(&mut Usage) -> &mut Meter,
    ) -> Result<(), Refusal> {
        let Some(address) = address else { return Ok(()) };
        let taken = pace.take(meter(self.addresses.entry(address)), now.mono);
        self.keep_reviewed(now, address);
        taken.map_err(Refusal::RateLimited)
    }

    /// Reviews the address now, unless a timer for a review is armed.
    fn keep_reviewed(&mut self, now: Now, address: Address) {
        if !self.addresses.entry(address).timed {
            self.review_address(now, address);
        }
    }

    pub(super) fn review_address(&mut self, now: Now, address: Address) {
        if self.addresses.review(address, now.mono) {
            self.timers.arm(ChatTimer::Address(address), now.mono);
        }
        self.recount();
    }
}
