//! One connection's turn: input is read and passed to the protocol that the connection speaks.
//!
//! Owns reading, and what a panic costs. Must not know the protocols themselves. The invariant: a
//! panic while input is handled ends only the connection that sent it, unless the panic has damaged
//! shared state: then the process ends. [`Core::dispatch`] is the one place that recovers from a
//! panic. A panic in *accept*, *sweep*, *settle*, *flush* or *reap* ends the process.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use log::error;

use super::connection::{Buffered, ConnectionKey, Protocol};
use super::core::Core;
#[cfg(feature = "cluster")]
use super::domain::must_wait;
use crate::api;
use crate::chat::{AttachmentKey, Departure};
use crate::net::{Received, Stream};
use crate::ws::close::Close;

impl<S: Stream> Core<S> {
    /// Handles what a connection has kept, or reads once.
    pub(super) fn take_turn(&mut self, key: ConnectionKey, scratch: &mut [u8]) {
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        let is_paused = match &connection.protocol {
            Protocol::Http(http) => http.is_parked,
            _ => connection.recipient().is_some_and(|recipient| recipient.is_paused),
        };
        if connection.is_closed || is_paused {
            return;
        }
        #[cfg(feature = "cluster")]
        if must_wait(self.cluster.as_deref(), &self.held, key) || self.held.is_closing(key) {
            return;
        }
        if connection.has_input() {
            return self.handle_buffered(key);
        }
        match connection.link.read_into(scratch) {
            Ok(Received::Bytes(count)) => {
                // After a short read the kernel's buffer is empty, and the next byte makes a new
                // edge. The end of the peer's direction makes none: it was reported already.
                let has_more = count == scratch.len()
                    || connection.has_hung_up
                    || connection.link.stream().has_buffered_input();
                self.has_more_input = has_more;
                self.table.counters.bytes_in += count as u64;
                self.table.work.bytes_in += count;
                self.dispatch(key, &mut scratch[..count]);
                scratch[..count].fill(0); // The buffer lives as long as the process.
                if has_more {
                    self.table.schedule_in_background(key);
                }
            }
            Ok(Received::Blocked) => {
                let stream = connection.link.stream_mut();
                let (has_more, cost) = (stream.has_buffered_input(), stream.take_cost());
                if has_more {
                    self.table.schedule_in_background(key);
                }
                self.table.work.bytes_in += cost;
            }
            Ok(Received::End) => self.on_end(key),
            Err(_) => self.table.on_broken(key),
        }
    }

    fn handle_buffered(&mut self, key: ConnectionKey) {
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        let mut buffered = connection.buffered.take();
        self.table.work.bytes_in += buffered.len();
        self.has_more_input = true; // Perhaps.
        self.dispatch(key, &mut buffered);
        let connection = self.table.slots.get(key);
        if connection.is_some_and(|connection| connection.buffered.is_empty()) {
            self.table.schedule(key); // More may have arrived meanwhile.
        }
    }

    /// Handles input. A panic on the way is a bug of ours: it costs this connection, and the
    /// process only if it may have damaged what others rely on.
    fn dispatch(&mut self, key: ConnectionKey, input: &mut [u8]) {
        let caught = catch_unwind(AssertUnwindSafe(|| self.on_bytes(key, input)));
        if caught.is_err() {
            self.on_panic(key);
        }
    }

    fn on_panic(&mut self, key: ConnectionKey) {
        self.table.counters.panics += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.check_invariants())) {
            error!("a bug has damaged shared state; the server ends");
            resume_unwind(panic);
        }
        match self.table.slots.get(key).map(|connection| &connection.protocol) {
            Some(Protocol::Http(_)) => self.reject(key, None, api::error::internal()),
            Some(Protocol::Ws(ws)) => {
                self.advance(key, ws.recipient.attachment);
                self.table.close(key, Close::INTERNAL);
            }
            Some(Protocol::Stream(_)) => self.table.close(key, Close::INTERNAL),
            Some(Protocol::Closing(_)) | None => self.table.end(key, Departure::Closed),
        }
    }

    /// Passes input to the protocol that the connection speaks now.
    pub(super) fn on_bytes(&mut self, key: ConnectionKey, input: &mut [u8]) {
        match self.table.slots.get(key).map(|connection| &connection.protocol) {
            Some(Protocol::Http(_)) => self.on_http_bytes(key, input),
            Some(Protocol::Ws(_)) => self.on_ws_bytes(key, input),
            // It may have sent a request behind this one, for the case of a refusal.
            Some(Protocol::Stream(stream)) if stream.opening.is_some() => self.buffer(key, input),
            Some(Protocol::Stream(_)) => {} // No response will follow this one.
            Some(Protocol::Closing(_)) | None => {} // Discarded, RFC 9112 §9.6.
        }
    }

    /// The peer has ended its direction.
    fn on_end(&mut self, key: ConnectionKey) {
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        connection.is_read_to_end = true;
        match &connection.protocol {
            Protocol::Http(http) if http.rest.is_some() => {
                if let Some(rest) = connection.response_rest() {
                    rest.keep_alive = false; // It ends after the response.
                }
            }
            // The peer may have ended one direction only, and still read its responses.
            Protocol::Http(_) => self.table.finish(key, Departure::Closed),
            // RFC 6455 §7.1.5: an end without a close frame is abnormal, as if the network failed.
            // The peer of a stream has nothing to end one direction for.
            Protocol::Ws(_) | Protocol::Stream(_) => self.table.end(key, Departure::Broken),
            Protocol::Closing(_) if connection.link.is_flushed() => {
                self.table.end(key, Departure::Closed);
            }
            Protocol::Closing(_) => {}
        }
    }

    /// Keeps input for a later turn; nothing more is read meanwhile.
    pub(super) fn buffer(&mut self, key: ConnectionKey, input: &[u8]) {
        if let Some(connection) = self.table.slots.get_mut(key) {
            connection.buffered = Buffered::of(input);
        }
    }

    /// Before this connection is sent a reply: the room's earlier events must precede that reply.
    pub(super) fn advance(&mut self, key: ConnectionKey, attachment: Option<AttachmentKey>) {
        if let Some(room) = attachment.and_then(|attachment| self.chat.room_of(attachment)) {
            self.table.advance(room, key);
        }
    }

    /// For tests: panics at the word that `plant_fault` was given.
    pub(super) fn trip(&self, word: &str) {
        #[cfg(debug_assertions)]
        assert!(self.fault.as_deref() != Some(word), "a planted fault");
        let _ = word;
    }
}
