//! Shedding: which connections are closed when forgetting messages was not enough.
//!
//! Owns the choice: the connections that make the server hold most, be it unread output or
//! unfinished input. Must not decide when memory is short; the ledger does. The invariant: a
//! connection that holds no more than any idle one is never shed.

use std::cmp::Reverse;

use super::connection::{ConnectionKey, Protocol};
use super::core::Core;
use crate::api;
use crate::chat::Departure;
use crate::ledger::Pressure;
use crate::net::Stream;
use crate::ws::close::Close;

impl<S: Stream> Core<S> {
    /// Closes connections while memory is so short. To be called after flushing, when output that
    /// is still queued belongs to slow readers.
    pub(super) fn shed(&mut self) {
        if !self.ledger.is_at(Pressure::Readers) {
            return;
        }
        let connections = self.table.slots.iter().filter(|(_, connection)| !connection.is_closed);
        let burdens = connections.map(|(key, connection)| (connection.burden_bytes(), key));
        let mut burdens: Vec<_> = burdens.filter(|(burden, _)| *burden > 0).collect();
        burdens.sort_unstable_by_key(|(burden, _)| Reverse(*burden));
        for (_, key) in burdens {
            if !self.ledger.is_at(Pressure::Readers) {
                break;
            }
            self.table.counters.shed += 1;
            self.shed_one(key);
            self.table.recount(key);
        }
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
            // Part of a response was sent; a cut says that it is incomplete.
            Protocol::Http(_) | Protocol::Closing => self.table.end(key, Departure::Closed),
        }
    }
}
