//! Shedding: who gives way when forgetting was not enough.
//!
//! Owns whom it hits: whoever has us keep most, be it unread or half sent. Must never decide when
//! memory is short; that is the ledger's. The invariant: nobody is shed who has us keep no more
//! than any idle connection does.

use std::cmp::Reverse;

use super::connection::{ConnectionKey, Protocol};
use super::core::Core;
use crate::api;
use crate::chat::Departure;
use crate::ledger::Pressure;
use crate::net::Stream;
use crate::ws::close::Close;

impl<S: Stream> Core<S> {
    /// If memory is so short, closes connections until it no longer is. Due after flushing, when
    /// whoever still has something queued is slow.
    pub(super) fn shed(&mut self) {
        if !self.ledger.is_at(Pressure::Readers) {
            return;
        }
        let burdens = self.connections.slots.iter().filter(|(_, connection)| !connection.over);
        let burdens = burdens.map(|(key, connection)| (connection.burden(), key));
        let mut burdens: Vec<_> = burdens.filter(|(burden, _)| *burden > 0).collect();
        burdens.sort_unstable_by_key(|(burden, _)| Reverse(*burden));
        for (_, key) in burdens {
            if !self.ledger.is_at(Pressure::Readers) {
                break;
            }
            self.connections.counters.shed += 1;
            self.shed_one(key);
            self.connections.recount(key);
        }
    }

    fn shed_one(&mut self, key: ConnectionKey<S>) {
        let Some(connection) = self.connections.slots.get_mut(key) else { return };
        match &connection.protocol {
            Protocol::Ws(_) => {
                connection.link.truncate();
                self.connections.close(key, Close::SERVER_FULL);
            }
            Protocol::Http(_) if connection.link.outbox().is_empty() => {
                self.reject(key, None, api::error::server_full());
            }
            // Half an answer says that something went wrong.
            Protocol::Http(_) | Protocol::Closing => self.connections.end(key, Departure::Closed),
        }
    }
}
