//! Shedding: which connections are closed when dropping messages early was not enough.
//!
//! Owns the choice: the connections that make the server hold most, in unread output or unfinished
//! input. Must not decide when memory is short; the ledger does. The invariant: a connection with
//! nothing queued, buffered or unfinished is never shed.

use std::cmp::Reverse;

use super::connection::{ConnectionKey, Protocol};
use super::core::Core;
use crate::api;
use crate::chat::Departure;
use crate::ledger::Pressure;
use crate::net::Stream;
use crate::ws::close::Close;

impl<S: Stream> Core<S> {
    /// Closes the connections that hold most, one by one, while memory is this short. To be called
    /// after *flush*, when output that is still queued belongs to slow readers or to deferred
    /// flushes.
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
            // Part of a response was sent. An early end of the connection shows the peer that the
            // response is incomplete.
            Protocol::Http(_) | Protocol::Closing => self.table.end(key, Departure::Closed),
        }
    }
}
