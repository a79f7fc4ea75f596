//! Shedding: which connections are closed when they make the server hold too much.
//!
//! Owns the choice: the connections with the largest burdens, which are unread output and input
//! under way, of the address whose connections have the largest together. Must not decide how much
//! is too much; the ledger does. The invariant: a connection with less than a kilobyte queued,
//! buffered or unfinished is never shed.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::connection::{ConnectionKey, Protocol};
use super::core::Core;
use crate::api;
use crate::chat::Departure;
use crate::ledger::Ledger;
use crate::net::Stream;
use crate::ws::close::Close;

/// Connections closed in one tick. The search before that takes up to two milliseconds, with ten
/// thousand connections, and the closes about as long. They free at least a quarter of a mebibyte,
/// more than a tick can read.
const SHED_MAX: usize = 256;

/// The smallest burden that is shed. If something other than burdens has filled the memory, shedding
/// smaller ones would close every connection that is sent a message, and free next to nothing.
const SHED_BYTES_MIN: usize = 1024;

impl<S: Stream> Core<S> {
    /// Closes the connections with the largest burdens, one by one, while the ledger demands it.
    pub(super) fn shed(&mut self, must_shed: fn(&Ledger) -> bool) {
        if !must_shed(&self.ledger) {
            return;
        }
        let mut burdens = self.burdens();
        for _ in 0..SHED_MAX {
            let Some(index) = burdens.pop() else { break };
            let Some(key) = self.table.slots.key_at(index) else { continue };
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
        let burdens = connections.map(|(key, connection)| {
            let place = connection.quota_address.and_then(|address| self.chat.place_of(address));
            let address = place.map_or(0, |place| place + 1);
            Burden { sum: 0, bytes: connection.burden_bytes(), address, index: key.index() }
        });
        Burdens::new(burdens.filter(|one| one.bytes >= SHED_BYTES_MIN).collect())
    }

    fn shed_one(&mut self, key: ConnectionKey) {
        let Some(connection) = self.table.slots.get(key) else { return };
        match &connection.protocol {
            Protocol::Ws(_) | Protocol::Stream(_) => {
                self.table.drop_unwritten(key, Close::SERVER_FULL);
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

/// One connection's burden. The order of the fields is the order of shedding, from the last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Burden {
    /// The burdens of its address together, or what they were shortly before.
    sum: usize,
    bytes: usize,
    /// Where `Burdens::sums` has the address. 0: no address with limits (loopback, Unix sockets).
    address: usize,
    /// The slot of the connection.
    index: usize,
}

/// Burdens, in the order in which they are shed.
///
/// A heap and lazy updates instead of a sorted list for each address: a generic sort would take
/// 4 KiB of the binary.
struct Burdens {
    heap: BinaryHeap<Burden>,
    /// What the burdens of each address are together.
    sums: Vec<usize>,
}

impl Burdens {
    fn new(mut burdens: Vec<Burden>) -> Burdens {
        let addresses = burdens.iter().map(|one| one.address + 1).max();
        let mut sums = vec![0; addresses.unwrap_or(0)];
        burdens.iter().for_each(|one| sums[one.address] += one.bytes);
        burdens.iter_mut().for_each(|one| one.sum = sums[one.address]);
        Burdens { heap: burdens.into(), sums }
    }

    /// Takes the largest burden of the address that has most left, and returns the slot of the
    /// connection. An address counts with what it had until it has lost an eighth of it, so that
    /// not every burden is looked at again whenever one is taken.
    fn pop(&mut self) -> Option<usize> {
        loop {
            let mut most = self.heap.peek_mut()?;
            let sum = self.sums.get_mut(most.address)?;
            if *sum < most.sum - most.sum / 8 {
                most.sum = *sum;
                continue;
            }
            let taken = PeekMut::pop(most);
            *sum = sum.saturating_sub(taken.bytes);
            return Some(taken.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_with_most_loses_its_largest_until_another_has_more() {
        let (exempt, ana, bob) = (0, 1, 5);
        let burdens = [(bob, 50), (ana, 30), (exempt, 60), (ana, 40), (ana, 5), (bob, 1)];
        let burden = |(index, (address, bytes))| Burden { sum: 0, bytes, address, index };
        let mut largest = Burdens::new(burdens.into_iter().enumerate().map(burden).collect());
        let order: Vec<_> = std::iter::from_fn(|| largest.pop()).map(|n| burdens[n]).collect();
        let expected = [(ana, 40), (exempt, 60), (bob, 50), (ana, 30), (ana, 5), (bob, 1)];
        assert_eq!(order, expected);
        assert_eq!(Burdens::new(Vec::new()).pop(), None);
    }

    #[test]
    fn many_burdens_of_one_address_are_taken_from_the_largest_on() {
        let burden = |index| Burden { sum: 0, bytes: 1 + index, address: 0, index };
        let mut largest = Burdens::new((0..10_000).map(burden).collect());
        let order: Vec<_> = std::iter::from_fn(|| largest.pop()).collect();
        assert_eq!(order.len(), 10_000);
        // The sum of all is exact to an eighth, and so is the order.
        assert!(order[..1000].iter().all(|index| *index >= 8000));
    }
}
