//! Responses whose content is made while the peer reads it.
//!
//! Owns the next part: when it is made, and what follows the last. Must not know how the content is
//! encoded. The invariant: a connection with a rest handles no further request until the rest is
//! queued, so that responses keep the order of their requests.

use super::connection::{
    Connection, ConnectionKey, Protocol, ResponseContent, ResponseRest, TimeoutKind,
};
use super::core::Core;
use super::table::Table;
use crate::chat::Departure;
use crate::http;
use crate::net::{Piece, Stream};

impl<S: Stream> Core<S> {
    /// Queues the next part of a response, whose earlier parts have mostly been written.
    pub(super) fn continue_response(&mut self, key: ConnectionKey) {
        let Some(rest) = self.table.response_rest(key) else { return };
        let mut part = Vec::new();
        let keep_alive = rest.keep_alive;
        let is_last = match &mut rest.content {
            ResponseContent::Messages(list) => list.append(&self.chat, &mut part),
            ResponseContent::Rooms { list, is_chunked: false } => {
                Some(list.append(&self.chat, &mut part))
            }
            ResponseContent::Rooms { list, is_chunked: true } => {
                let mut content = Vec::new();
                let is_last = list.append(&self.chat, &mut content);
                http::push_chunk(&mut part, &content);
                if is_last {
                    http::push_chunk(&mut part, &[]);
                }
                Some(is_last)
            }
        };
        let has_length = matches!(rest.content, ResponseContent::Messages(_));
        match is_last {
            // The peer sees that the response is incomplete.
            None => return self.table.end(key, Departure::Closed),
            Some(true) => self.table.drop_response_rest(key),
            Some(false) => {}
        }
        if !has_length {
            self.table.extend_response_deadline(key, part.len());
        }
        self.table.outgoing.on_paged(part.len());
        self.table.push(key, Piece::private(part.into_boxed_slice()));
        if self.table.response_rest(key).is_none() {
            match keep_alive {
                true => self.table.set_timer(key, Some(TimeoutKind::Idle)),
                false => self.table.finish(key, Departure::Closed),
            }
        }
    }

    /// Queues the rest of every list of messages, because the messages are about to be dropped. A
    /// response whose rest exceeds the memory for output is cut later.
    pub(super) fn complete_responses(&mut self) {
        let has_rest = |one: &Connection<S>| match &one.protocol {
            Protocol::Http(http) => http.rest.as_ref().is_some_and(|rest| rest.left_bytes() > 0),
            _ => false,
        };
        let all = self.table.slots.iter().filter(|(_, one)| has_rest(one));
        let keys: Vec<_> = all.map(|(key, _)| key).collect();
        for key in keys {
            let rest = self.table.response_rest(key);
            let bytes = rest.map_or(0, |rest| rest.left_bytes());
            while bytes < self.ledger.burdens_left() && self.table.response_rest(key).is_some() {
                self.continue_response(key);
            }
            self.table.recount(key);
        }
    }
}

impl<S: Stream> Table<S> {
    /// The rest of the response that the connection is sent.
    pub(super) fn response_rest(&mut self, key: ConnectionKey) -> Option<&mut ResponseRest> {
        self.slots.get_mut(key).and_then(Connection::response_rest)
    }

    fn drop_response_rest(&mut self, key: ConnectionKey) {
        if let Some(Protocol::Http(http)) = self.slots.get_mut(key).map(|one| &mut one.protocol) {
            http.rest = None;
        }
    }
}
