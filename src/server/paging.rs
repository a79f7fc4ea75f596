//! Connections that are sent history, page by page.
//!
//! Owns what is queued for them, and whose turn it is. Must never keep history: pages are made by
//! the domain, each when the last has mostly left. The invariant: a connection that is catching up
//! and has taken what it was sent is on the list of the hungry, or it would wait for ever.

use super::connection::{Connection, ConnectionKey, Protocol};
use super::connections::Connections;
use crate::net::{Piece, Stream};

/// A page has mostly left when no more than this is queued.
const PAGE_LEFT_BYTES: usize = 16 * 1024;

/// History queued in one phase of a tick, for all connections together, and the lists of who is
/// present that end it: a thousand that come back at once are served in turns, and others have
/// theirs between. Half a millisecond's work.
const PAGED_BYTES_MAX: usize = 512 * 1024;

impl<S: Stream> Connections<S> {
    /// Queues what a room says to everybody, unless the connection is catching up and is sent it
    /// later, out of the history.
    pub fn push_live(&mut self, key: ConnectionKey<S>, frames: Piece, may_wait: bool) {
        if self.hears(key, |ws| !ws.waiting && !ws.catching_up) {
            self.counters.deliveries += 1;
            self.queue_or_close(key, frames, may_wait);
        }
    }

    /// Queues what a connection that is catching up has missed. The outbox's limit does not bound
    /// it: the next is made when it has mostly left.
    pub fn push_history(&mut self, key: ConnectionKey<S>, frames: Piece) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let Protocol::Ws(ws) = &mut connection.protocol else { return };
        debug_assert!(ws.catching_up, "history is for those who catch up");
        self.paged += frames.len();
        let _ = connection.link.push(frames, usize::MAX);
        ws.paged = connection.link.outbox().queued();
        self.make_dirty(key);
    }

    /// Whether so much history was queued that the rest has to wait.
    pub fn is_paged_out(&self) -> bool {
        self.paged >= PAGED_BYTES_MAX
    }

    /// Somebody who is to be sent their next page.
    pub fn next_hungry(&mut self) -> Option<ConnectionKey<S>> {
        let key = self.hungry.pop_front()?;
        if let Some(ws) = self.slots.get_mut(key).and_then(Connection::ws) {
            ws.hungry = false;
        }
        Some(key)
    }

    /// After a flush: a connection that is catching up gets its next page if the last has mostly
    /// left.
    pub fn note_hunger(&mut self, key: ConnectionKey<S>) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let queued = connection.link.outbox().queued();
        if let Protocol::Ws(ws) = &mut connection.protocol {
            ws.paged = ws.paged.min(queued);
            let wants_more = ws.catching_up && queued <= PAGE_LEFT_BYTES;
            if wants_more && !std::mem::replace(&mut ws.hungry, true) {
                self.hungry.push_back(key);
            }
        }
    }
}
