//! Which connections are let in, and how the others are refused.
//!
//! Owns the limits on connections: the server's capacity, and the quota of an address, which the
//! domain counts. Must not know how a refusal is written. The invariant: connections beyond the
//! server's capacity are accepted only to be refused, a few at a time; the rest wait in the
//! kernel's queue. A few connections over an address's quota are refused with an answer. Of both, the
//! one that has been silent longest gives its place to the next.

use std::net::IpAddr;

use log::debug;

use super::connection::{ConnectionKey, OverLimit, Protocol, Purpose};
use super::core::Core;
use super::settings::ConnectionConfig;
use crate::api;
use crate::api::error::Error;
use crate::chat::{Address, Departure, Quota};
use crate::ledger::Pressure;
use crate::net::{Stream, proxy};

impl<S: Stream> Core<S> {
    /// Whether another connection can be accepted, if only to be refused. A connection over a limit
    /// gives way to it if need be (contract §12.34).
    pub fn can_accept(&self, purpose: Purpose) -> bool {
        self.has_capacity(purpose) || self.table.next_to_give_way(None).is_some()
    }

    /// Whether another connection can be accepted in this tick. If not, has one over a limit give way
    /// where possible, so that the next tick can.
    pub fn make_way(&mut self, purpose: Purpose) -> bool {
        let has_capacity = self.has_capacity(purpose);
        if !has_capacity && !self.table.is_giving_way() {
            self.table.give_way(None);
        }
        has_capacity
    }

    fn has_capacity(&self, purpose: Purpose) -> bool {
        if purpose.is_for_operators() {
            return true;
        }
        let ConnectionConfig { connections_max, over_limit_connections_max, .. } = self.config;
        if self.ledger.is_at(Pressure::Connections)
            && self.table.over_limit.len() >= over_limit_connections_max
        {
            return false;
        }
        self.connection_count() < connections_max.saturating_add(over_limit_connections_max)
    }

    /// Whether a new connection must be refused: `connections_max` is reached, or memory is short.
    /// Connections over a limit do not count, because they are about to end.
    pub(super) fn is_full(&self) -> bool {
        self.connection_count() - self.table.over_limit.len() >= self.config.connections_max
            || self.ledger.is_at(Pressure::Connections)
    }

    /// Counts a connection from `peer` against the quota of its address. `None`: it is so far over
    /// the quota that it is dropped without an answer, because all places for refusals are taken.
    pub(super) fn count_in(
        &mut self,
        peer: Option<IpAddr>,
    ) -> Option<(Option<Address>, Option<OverLimit>)> {
        let Some(address) = self.api.client_at_accept(peer) else { return Some((None, None)) };
        let quota = self.chat.on_arrival(address);
        if quota == Quota::FarOver && !self.table.give_way(Some(address)) {
            self.chat.on_departure(self.table.now, address, true);
            return None;
        }
        Some((Some(address), (quota != Quota::Within).then_some(OverLimit::Address)))
    }

    /// Takes the PROXY header off the front of `input`, if one is due. `None`: there is no input
    /// for the protocol yet (the header is incomplete), or there never will be (the header is
    /// malformed or its address far over its quota, and the connection has ended).
    pub(super) fn strip_proxy_header<'a>(
        &mut self,
        key: ConnectionKey,
        input: &'a [u8],
    ) -> Option<&'a [u8]> {
        let connection = self.table.slots.get_mut(key)?;
        let Protocol::Http(http) = &mut connection.protocol else { return Some(input) };
        let Some(before) = http.proxy_header.take() else { return Some(input) };
        let header = [&before, input].concat();
        match proxy::parse(&header) {
            Ok(Some(client)) => {
                self.believe(key, client.source)?;
                input.get(client.bytes - before.len()..)
            }
            Ok(None) => {
                http.proxy_header = Some(header);
                None
            }
            Err(proxy::Malformed) => {
                debug!("connection {key:?} does not begin with a PROXY header");
                self.table.end(key, Departure::Closed);
                None
            }
        }
    }

    /// Makes `source` the connection's address, if its peer is a trusted proxy. `None`: that
    /// address is far over its quota, and the connection has ended.
    fn believe(&mut self, key: ConnectionKey, source: Option<IpAddr>) -> Option<()> {
        let connection = self.table.slots.get(key)?;
        let Protocol::Http(http) = &connection.protocol else { return None };
        if source.is_none() || connection.over_limit.is_some() {
            return Some(());
        }
        if let Some(peer) = http.peer.filter(|peer| !self.api.is_proxy(Some(*peer))) {
            self.api.on_proxy_header(peer);
            return Some(());
        }
        let Some((quota_address, over_limit)) = self.count_in(source) else {
            self.table.end(key, Departure::Closed);
            return None;
        };
        let connection = self.table.slots.get_mut(key)?;
        connection.quota_address = quota_address;
        let Protocol::Http(http) = &mut connection.protocol else { return None };
        http.peer = source;
        if let Some(over_limit) = over_limit {
            self.table.set_over_limit(key, over_limit);
        }
        Some(())
    }
}

/// How a connection over a limit is refused.
pub(super) fn refusal(over_limit: OverLimit) -> Error {
    match over_limit {
        OverLimit::Address => api::error::too_many_connections(),
        OverLimit::Server => api::error::server_full(),
    }
}
