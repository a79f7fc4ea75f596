//! What the domain tells, on its way to connections.
//!
//! Owns the translation of the domain's handles and closes. Must never call back into the domain:
//! an end that is found out here is told it in the phase *settle*. The invariant: what is pushed
//! to one connection arrives in the order of the pushes.

use super::batch::Sealed;
use super::connection::{Connection, ConnectionKey};
use super::connections::{CROWD_MIN, Connections};
use crate::api;
use crate::chat::{CloseReason, ConnKey, Departure, Event, Frame, Page, RoomKey, Sink};
use crate::net::{Piece, Stream};
use crate::ws;

impl<S: Stream> Sink for Connections<S> {
    fn publish(&mut self, room: RoomKey, event: &Event<'_>) -> Frame {
        let stamps = &mut self.stamps;
        self.batches.append(room, |out| api::json::event(out, event, stamps))
    }

    fn seal(&mut self, room: RoomKey, to: &[ConnKey]) {
        if let Some(Sealed { frames, is_urgent }) = self.batches.seal(room) {
            let may_wait = !is_urgent || to.len() >= CROWD_MIN;
            for key in to {
                self.push_live(key.cast(), Piece::shared(frames.clone()), may_wait);
            }
        }
    }

    fn push(&mut self, to: ConnKey, frame: &Frame) {
        self.push_frames(to.cast(), Piece::shared(frame.bytes()), false);
    }

    fn push_missed(&mut self, to: ConnKey, frame: &Frame) {
        self.push_history(to.cast(), Piece::shared(frame.bytes()));
    }

    fn push_page(&mut self, to: ConnKey, page: &Page<'_>) {
        let mut frame = Vec::new();
        ws::encode_text_in_place(&mut frame, |out| api::json::page(out, page));
        self.push_history(to.cast(), Piece::private(frame.into_boxed_slice()));
    }

    fn hold(&mut self, to: ConnKey) {
        if let Some(ws) = self.slots.get_mut(to.cast()).and_then(Connection::ws) {
            ws.catching_up = true;
        }
    }

    fn release(&mut self, to: ConnKey) {
        if let Some(ws) = self.slots.get_mut(to.cast()).and_then(Connection::ws) {
            ws.catching_up = false;
        }
    }

    fn ping(&mut self, to: ConnKey) {
        Connections::ping(self, to.cast());
    }

    fn admit(&mut self, to: ConnKey) {
        let key: ConnectionKey<S> = to.cast();
        if let Some(ws) = self.slots.get_mut(key).and_then(Connection::ws) {
            ws.waiting = false;
        }
        self.start_pinging(key);
        self.make_ready(key); // What it sent meanwhile has had its readable edge.
    }

    fn close(&mut self, to: ConnKey, close: CloseReason) {
        let key: ConnectionKey<S> = to.cast();
        if let Some(ws) = self.slots.get_mut(key).and_then(Connection::ws) {
            ws.attachment = None; // The domain knows; it need not be told.
        }
        match api::socket::close(close) {
            Some(close) => Connections::close(self, key, close),
            None => self.end(key, Departure::Broken),
        }
    }
}
