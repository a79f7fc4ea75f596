//! Shedding: which connections are closed when they make the server hold too much.
//!
//! Owns the choice: the connections with the largest burdens, which are unread output and input
//! under way, of the address whose connections have the largest together. Must not decide how much
//! is too much; the ledger does. The invariant: a connection with less than a kilobyte queued,
//! buffered or unfinished is never shed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::connection::{ConnectionKey, Protocol};
use super::core::Core;
use crate::api;
use crate::chat::{Address, Departure};
use crate::ledger::Ledger;
use crate::net::Stream;
use crate::ws::close::Close;

/// Connections closed in one tick. The search before that takes a few milliseconds in the worst
/// case, with every descriptor in use, and the closes about as long.
const SHED_MAX: usize = 1000;

/// A burden that is shed. What has filled the memory may be no burden at all, and then all who are
/// sent a message would be closed, one by one, for nothing. A connection itself takes as much.
const SHED_BYTES_MIN: usize = 1024;

impl<S: Stream> Core<S> {
    /// Closes the connections with the largest burdens, one by one, while the ledger demands it.
    pub(super) fn shed(&mut self, must_shed: fn(&Ledger) -> bool) {
        if !must_shed(&self.ledger) {
            return;
        }
        let mut burdens = self.burdens();
        for _ in 0..SHED_MAX {
            let Some(key) = burdens.pop() else { break };
            self.table.counters.shed += 1;
            self.shed_one(key);
            self.table.recount(key);
            if !must_shed(&self.ledger) {
                break;
            }
        }
    }

    fn burdens(&self) -> Burdens {
        let connections = self.table.slots.iter().filter(|(_, connection)| !connection.is_closed);
        let burdens = connections
            .map(|(key, connection)| (connection.quota_address, connection.burden_bytes(), key));
        Burdens::new(burdens.filter(|(_, bytes, _)| *bytes >= SHED_BYTES_MIN).collect())
    }

    fn shed_one(&mut self, key: ConnectionKey) {
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        match &connection.protocol {
            Protocol::Ws(_) => {
                connection.link.truncate();
                self.table.close(key, Close::SERVER_FULL);
            }
            Protocol::Http(_) if connection.link.outbox().is_empty() => {
                self.reject(key, None, api::error::server_full());
            }
            // Part of a response was sent. An early end of the connection shows the peer that the
            // response is incomplete.
            Protocol::Http(_) | Protocol::Closing(_) => self.table.end(key, Departure::Closed),
        }
    }
}

/// Burdens, in the order in which they are shed. Each address whose limits do not apply (loopback,
/// Unix sockets) counts as the same one.
struct Burdens<K = ConnectionKey> {
    /// By address, then by bytes.
    sorted: Vec<(Option<Address>, usize, K)>,
    /// For each address: the bytes of its burdens, and where these lie in `sorted`.
    addresses: BinaryHeap<(usize, Reverse<usize>, usize)>,
}

impl<K: Copy> Burdens<K> {
    fn new(mut burdens: Vec<(Option<Address>, usize, K)>) -> Burdens<K> {
        burdens.sort_by_key(|(address, bytes, _)| (address.map(Address::ip), *bytes));
        let (mut start, mut addresses) = (0, BinaryHeap::new());
        for of_one in burdens.chunk_by(|(one, ..), (other, ..)| one == other) {
            let bytes = of_one.iter().map(|(_, bytes, _)| bytes).sum();
            addresses.push((bytes, Reverse(start), start + of_one.len()));
            start += of_one.len();
        }
        Burdens { sorted: burdens, addresses }
    }

    /// Takes the largest burden of the address that has most left.
    fn pop(&mut self) -> Option<K> {
        let (sum, Reverse(start), end) = self.addresses.pop()?;
        let (_, bytes, key) = *self.sorted.get(start..end)?.last()?;
        if start < end - 1 {
            self.addresses.push((sum - bytes, Reverse(start), end - 1));
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_address_with_most_loses_its_largest_until_another_has_more() {
        let address = |last| Some(Address::of(Ipv4Addr::new(192, 0, 2, last).into()));
        let (ana, bob) = (address(1), address(2));
        let mut burdens = Burdens::new(vec![
            (bob, 50, "bob 50"),
            (ana, 30, "ana 30"),
            (None, 60, "exempt 60"),
            (ana, 40, "ana 40"),
            (ana, 5, "ana 5"),
            (bob, 1, "bob 1"),
        ]);
        let order: Vec<_> = std::iter::from_fn(|| burdens.pop()).collect();
        assert_eq!(order, ["ana 40", "exempt 60", "bob 50", "ana 30", "ana 5", "bob 1"]);
    }
}
