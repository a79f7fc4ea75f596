//! The domain's output, on its way to connections.
//!
//! Owns the translation from the domain's handles and close reasons. Must not call back into the
//! domain: a connection that ends here is reported to it in *settle*. The invariant: what is pushed
//! to one connection arrives in the order of the pushes.

use super::connection::{Connection, ConnectionKey, Protocol};
use super::event_stream;
use super::schedule::{FanOut, LISTED_BYTES};
use super::table::Table;
use crate::api;
use crate::chat::{
    CloseReason, ConnKey, Departure, Event, MessageCopies, Page, Published, RoomId, RoomKey, Sink,
    UserId,
};
use crate::net::{Cut, Piece, Stream};
use crate::ws;

impl<S: Stream> Table<S> {
    /// Sends a connection what the batch of its room has for it so far, before it is sent something
    /// of its own.
    pub fn advance(&mut self, room: RoomKey, key: ConnectionKey) {
        let frames = self.batches.advance(room, key);
        if !frames.is_empty() {
            let frames = Piece::private(frames.to_vec());
            self.work.bytes_out += frames.len();
            self.push_batch(key, frames, None);
        }
    }

    /// Drops the frames that are queued. False: one is written in part, or an earlier response is
    /// queued before them.
    fn drop_frames(&mut self, key: ConnectionKey) -> bool {
        let Some(connection) = self.slots.get_mut(key) else { return true };
        let is_stream = matches!(connection.protocol, Protocol::Stream(_));
        let protocol = &connection.protocol;
        connection.link.cut(|first, written| match first {
            [b'H', ..] if first.starts_with(b"HTTP/1.1 101 ") => Cut::AfterFirst,
            [b'H', ..] if is_stream && event_stream::is_head(first) => Cut::AfterFirst,
            [b'H', ..] => Cut::Nothing,
            _ if protocol.is_control(first) => Cut::AfterFirst,
            _ if protocol.unit_end(first, written) == Some(written) => Cut::All,
            _ => Cut::Nothing,
        })
    }
}

impl<S: Stream> Sink for Table<S> {
    fn publish(&mut self, room: RoomKey, event: &Event<'_>, recipients: usize) -> Published {
        let stamps = &mut self.stamps;
        let published = self.batches.append(room, |out| api::json::event(out, event, stamps));
        self.work.on_published(published.event_bytes, recipients);
        published
    }

    fn seal(&mut self, room: RoomKey, to: &[ConnKey]) {
        if let Some(sealed) = self.batches.seal(room) {
            self.work.recipients += to.len();
            self.on_steps(to.len());
            let fan_out = FanOut::of(to.len());
            let may_defer = !sealed.is_urgent || fan_out > FanOut::Small;
            let defer = may_defer.then_some(fan_out);
            for key in to {
                self.push_batch(*key, sealed.frames_for(*key), defer);
            }
            self.transcoder.clear();
        }
    }

    fn advance(&mut self, room: RoomKey, to: ConnKey) {
        Table::advance(self, room, to);
    }

    fn skip(&mut self, room: RoomKey, to: ConnKey) {
        self.batches.advance(room, to);
    }

    fn push(&mut self, to: ConnKey, event: &Event<'_>) {
        let mut frame = Vec::new();
        ws::encode_text(&mut frame, |out| api::json::event(out, event, &mut self.stamps));
        self.push_frames(to, Piece::private(frame.into_boxed_slice()));
    }

    fn push_missed(&mut self, to: ConnKey, messages: &MessageCopies) {
        let mut frames = Vec::new();
        for event in messages.iter().map(Event::Message) {
            ws::encode_text(&mut frames, |out| api::json::event(out, &event, &mut self.stamps));
        }
        self.push_history(to, Piece::private(frames.into_boxed_slice()));
    }

    fn push_page(&mut self, to: ConnKey, page: &Page<'_>) {
        let (mut frames, mut listed) = (Vec::new(), 0);
        ws::encode_text(&mut frames, |out| listed = api::json::page(out, page, &mut self.stamps));
        let users = page.last.as_ref().map_or(&[][..], |last| &last.users);
        // In one piece with the page, so that no event comes between.
        let mut left = &users[listed..];
        while !left.is_empty() {
            ws::encode_text(&mut frames, |out| listed = api::json::users(out, page.room_id, left));
            left = &left[listed..];
        }
        self.on_listed(users.len());
        self.push_history(to, Piece::private(frames.into_boxed_slice()));
    }

    fn welcome(&mut self, to: ConnKey, room_id: RoomId, you: UserId) {
        let mut frame = Vec::new();
        ws::encode_text(&mut frame, |out| api::json::welcome(out, room_id, you));
        self.push_frames(to, Piece::private(frame.into_boxed_slice()));
    }

    fn on_listed(&mut self, users: usize) {
        self.on_steps(users);
        let bytes = users * LISTED_BYTES;
        self.work.bytes_out += bytes;
        self.outgoing.on_paged(bytes);
    }

    fn begin_catch_up(&mut self, to: ConnKey) {
        if let Some(recipient) = self.slots.get_mut(to).and_then(Connection::recipient) {
            recipient.is_catching_up = true;
        }
    }

    fn end_catch_up(&mut self, to: ConnKey) {
        if let Some(recipient) = self.slots.get_mut(to).and_then(Connection::recipient) {
            recipient.is_catching_up = false;
        }
    }

    fn ping(&mut self, to: ConnKey) {
        match self.slots.get(to).map(|connection| &connection.protocol) {
            // If the peer does not acknowledge it, the stream fails before the probe is over.
            Some(Protocol::Stream(_)) => self.ping_stream(to, self.config.probe_timeout / 4 * 3),
            _ => Table::ping(self, to),
        }
    }

    fn is_alive(&mut self, to: ConnKey) -> bool {
        let Some(connection) = self.slots.get_mut(to) else { return false };
        let is_stream = matches!(connection.protocol, Protocol::Stream(_));
        if is_stream {
            connection.link.stream_mut().set_ack_timeout(self.config.ping_timeout);
        }
        is_stream
    }

    #[cfg(feature = "cluster")]
    fn is_open(&mut self, conn: ConnKey) -> bool {
        self.slots.get_mut(conn).and_then(Connection::recipient).is_some()
    }

    fn admit(&mut self, to: ConnKey) {
        #[cfg(feature = "cluster")]
        self.open(to);
        let Some(connection) = self.slots.get_mut(to) else { return };
        if let Protocol::Stream(stream) = &connection.protocol {
            if stream.opening.as_ref().is_some_and(|opening| opening.is_refused) {
                return;
            }
        }
        if let Some(recipient) = connection.recipient() {
            recipient.is_paused = false;
        }
        self.start_pinging(to);
        self.schedule(to); // The readable edge of what arrived meanwhile has passed.
    }

    fn end_room(&mut self, room: RoomKey) {
        self.batches.seal(room); // The domain has dropped the messages.
        self.end_leftovers(room);
    }

    fn free_room(&mut self, room: RoomKey) {
        self.leftovers.on_freed(room);
    }

    fn close(&mut self, to: ConnKey, reason: CloseReason) {
        if let Some(recipient) = self.slots.get_mut(to).and_then(Connection::recipient) {
            recipient.attachment = None; // The domain has removed it already.
        }
        if reason.is_end() {
            if !self.drop_frames(to) {
                return self.end(to, Departure::Closed);
            }
            self.forget_leftover(to);
        }
        match api::socket::close(reason) {
            Some(close) => Table::close(self, to, close),
            None => self.end(to, Departure::Broken),
        }
    }
}
