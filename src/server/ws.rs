//! WebSocket: one connection's frames on their way into the domain, and the replies to it alone.
//!
//! Owns the order of a connection's replies relative to the events of its room. Must not know a
//! socket, or the rules of the chat. The invariant: what the room's batch has so far is queued
//! before a reply, so that the connection receives both in the order in which they happened. While a
//! message is under way, the connection's timer is `Message`, armed at the first byte.

use super::coalesce::wipe;
use super::connection::{Connection, ConnectionKey, TimeoutKind};
use super::core::Core;
#[cfg(feature = "cluster")]
use super::domain::must_wait;
use super::schedule::ANSWERED_BYTES_MAX;
use crate::api::error::Error;
use crate::api::socket::{self, ClientEvent, PONG};
use crate::chat::{AttachmentKey, Departure};
use crate::net::{Piece, Stream};
use crate::ws::close::{self, Close};
use crate::ws::{self, Incoming};

impl<S: Stream> Core<S> {
    pub(super) fn on_ws_bytes(&mut self, key: ConnectionKey, mut input: &mut [u8]) {
        let next_ping_min = self.table.next_ping_min();
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        let is_pinged = connection.is_pinged(next_ping_min);
        let carries = connection.carries;
        let Some(ws) = connection.ws() else { return };
        let attachment = ws.recipient.attachment;
        if ws.recipient.is_paused {
            return self.buffer(key, input);
        }
        if self.is_shutting_down || self.table.leftovers.has_ended(carries) {
            return; // Its close follows.
        }
        if !is_pinged && !ws.context.is_under_way() {
            self.table.start_pinging(key);
        }
        let mut control = std::mem::take(&mut self.control);
        // Until the input is used up, or has closed the connection.
        while let Some(connection) = self.table.slots.get_mut(key) {
            #[cfg(feature = "cluster")]
            if self.held.is_closing(key) {
                break;
            }
            #[cfg(feature = "cluster")]
            if must_wait(self.cluster.as_deref(), &self.held, key) {
                self.buffer(key, input);
                break;
            }
            let timeout = connection.timeout;
            let Some(ws) = connection.ws() else { break };
            if self.table.work.bytes_out > ANSWERED_BYTES_MAX {
                self.buffer(key, input);
                self.table.schedule(key);
                break;
            }
            let taken = ws.context.take_text(&mut input, &self.frames);
            if let Ok(Some(text)) = taken {
                if !control.is_empty() {
                    self.table.push_control(key, &control);
                    wipe(&mut control);
                }
                self.on_text(key, attachment, text);
                if input.is_empty() {
                    break;
                }
                continue;
            }
            let mut rest = &*input;
            let fed = match taken {
                Ok(_) => ws.context.feed(&mut rest, &mut control, &mut self.frames),
                Err(violation) => Err(violation),
            };
            let read = input.len() - rest.len();
            input = &mut std::mem::take(&mut input)[read..];
            let is_under_way = ws.context.is_under_way();
            if is_under_way != (timeout == Some(TimeoutKind::Message)) {
                let next = if is_under_way { TimeoutKind::Message } else { TimeoutKind::Ping };
                self.table.set_timer(key, Some(next));
            }
            match &fed {
                // Pongs are collected: a flood of pings must not become a flood of pieces.
                Ok(Some(Incoming::Ping | Incoming::Fragment)) => continue,
                Ok(Some(Incoming::Closed(_) | Incoming::Binary(_))) | Err(_) => {
                    self.advance(key, attachment);
                }
                Ok(_) => {}
            }
            self.table.push_control(key, &control);
            wipe(&mut control);
            match fed {
                Ok(Some(Incoming::Text(text))) => self.on_text(key, attachment, &text),
                Ok(Some(Incoming::Fragment | Incoming::Ping | Incoming::Pong(_))) => {}
                Ok(Some(Incoming::Binary(_))) => self.close_ws(key, Close::BINARY),
                Ok(Some(Incoming::Closed(code))) => {
                    // RFC 6455 §5.5.1, §7.1.1: the peer sends nothing after it, and waits for our
                    // end. Unless it has sent more, which must be read first, we end with the answer.
                    let connection = self.table.slots.get_mut(key);
                    if let Some(connection) = connection.filter(|_| input.is_empty()) {
                        connection.is_read_to_end = !self.has_more_input;
                    }
                    let is_left = !code.is_some_and(close::will_return);
                    let departure = if is_left { Departure::Closed } else { Departure::Broken };
                    self.table.finish(key, departure);
                }
                Err(violation) => self.close_ws(key, violation.close()),
                Ok(None) => break,
            }
        }
        wipe(&mut control);
        self.control = control;
        // Input answers a probe, unless it has just closed the connection. Then another connection
        // that waits for the name gets it.
        if !self.chat.is_probing() {
            return;
        }
        let ws = self.table.slots.get_mut(key).and_then(Connection::ws);
        if let Some(attachment) = ws.and_then(|ws| ws.recipient.attachment) {
            self.chat.on_sign_of_life(self.table.now, attachment, &mut self.table);
        }
    }

    /// Closes a connection whose message or control frame was not complete in time.
    pub(super) fn on_message_timeout(&mut self, key: ConnectionKey) {
        let ws = self.table.slots.get_mut(key).and_then(Connection::ws);
        let attachment = ws.and_then(|ws| ws.recipient.attachment);
        self.advance(key, attachment);
        self.table.close(key, Close::MESSAGE_TIMEOUT);
    }

    fn on_text(&mut self, key: ConnectionKey, attachment: Option<AttachmentKey>, text: &str) {
        self.table.counters.received += 1;
        self.table.work.events += 1;
        let Some(attachment) = attachment else { return };
        match socket::parse(text) {
            Ok(ClientEvent::Chat { message, nonce }) => {
                self.trip(&message);
                let nonce = nonce.as_deref();
                let posted = self.post(key, attachment, &message, nonce);
                if let Err(refusal) = posted {
                    self.refuse(key, attachment, refusal, nonce);
                }
            }
            Ok(ClientEvent::Typing) => self.typing(attachment),
            Ok(ClientEvent::Ping) => {
                let mut pong = Vec::new();
                ws::encode_text(&mut pong, |out| out.extend_from_slice(PONG.as_bytes()));
                self.tell(key, attachment, pong);
            }
            Err(rejected) => {
                self.refuse(key, attachment, rejected.reason, rejected.nonce.as_deref())
            }
        }
    }

    /// Tells the connection that its event was refused.
    fn refuse(
        &mut self,
        key: ConnectionKey,
        attachment: AttachmentKey,
        why: impl Into<Error>,
        nonce: Option<&str>,
    ) {
        if let Some(frame) = self.refused_frame(attachment, why, nonce) {
            self.tell(key, attachment, frame);
        }
    }

    /// Counts a refusal, and returns the frame that tells it. `None`: the connection is in no room any
    /// more.
    pub(super) fn refused_frame(
        &mut self,
        attachment: AttachmentKey,
        why: impl Into<Error>,
        nonce: Option<&str>,
    ) -> Option<Vec<u8>> {
        let room_id = self.chat.room_id(self.chat.room_of(attachment)?)?;
        let why = why.into();
        self.table.counters.on_refused(why.code.index());
        let mut frame = Vec::new();
        ws::encode_text(&mut frame, |out| socket::refused(out, why, room_id, nonce));
        Some(frame)
    }

    /// Sends a reply to one connection, after the answers to what it has sent before, and after all
    /// earlier events of its room.
    fn tell(&mut self, key: ConnectionKey, attachment: AttachmentKey, frame: Vec<u8>) {
        #[cfg(feature = "cluster")]
        let Some(frame) = self.hold_reply(key, attachment, frame) else { return };
        self.push_reply(key, attachment, frame);
    }

    /// Closes a connection that has violated the protocol.
    fn close_ws(&mut self, key: ConnectionKey, close: Close) {
        #[cfg(feature = "cluster")]
        if self.hold_close(key, close) {
            return;
        }
        self.table.close(key, close);
    }

    /// Queues a reply, after all earlier events of the connection's room.
    pub(super) fn push_reply(
        &mut self,
        key: ConnectionKey,
        attachment: AttachmentKey,
        frame: Vec<u8>,
    ) {
        self.advance(key, Some(attachment));
        self.table.work.bytes_out += frame.len();
        self.table.push_frames(key, Piece::private(frame.into_boxed_slice()));
    }
}
