//! Output: from a piece that is queued for a connection to the system call that writes it.
//!
//! Owns the way into and out of an outbox, and what happens when it is full. Must not decide what
//! is sent or build pages of history: the domain builds a page when the previous one has mostly
//! been written. The invariant: a connection that is catching up and whose previous page has mostly
//! been written is on the page-due list. Off that list it would wait for ever.

use std::time::Duration;

use super::connection::{ConnectionKey, Protocol, TimeoutKind, Ws};
use super::outgoing::is_page_due;
use super::schedule::{self, FanOut};
use super::table::Table;
use crate::chat::{Departure, RoomKey};
use crate::net::{Flushed, Piece, Stream};
use crate::ws::close::Close;

/// The rest of a partly written frame or event for which there is always memory. An idle connection
/// takes about as much with its socket.
const REST_BYTES: usize = 4096;

impl<S: Stream> Table<S> {
    // ---- Into the outbox

    /// Marks the connection to be flushed in this tick.
    pub fn mark_dirty(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.slots.get_mut(key) {
            self.outgoing.mark_dirty(key, &mut connection.marks);
        }
    }

    /// Marks the connection for a deferred flush, in this tick or a later one.
    fn mark_deferred(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.slots.get_mut(key) {
            self.outgoing.mark_deferred(key, &mut connection.marks);
        }
    }

    /// Queues a piece regardless of the outbox's limit: a part of a response, or a close frame.
    /// These are shared or small.
    pub fn push(&mut self, key: ConnectionKey, piece: Piece) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        connection.link.put(piece);
        self.mark_dirty(key);
    }

    /// Queues frames for one WebSocket, or their events for one event stream, unless it is paused or has
    /// closed. If they exceed its outbox's limit, the connection is closed as a slow reader.
    ///
    /// There is no need to ask the context whether it has closed: frames that are queued before our
    /// close frame still precede it, and after it the protocol is `Closing`.
    pub fn push_frames(&mut self, key: ConnectionKey, frames: Piece) {
        let is_recipient = self.queue_or_close(key, frames, false, None);
        self.counters.deliveries += u64::from(is_recipient);
    }

    /// Queues a room's batch, unless the connection is catching up: then it reads the same messages
    /// from the history later. `defer`: the flush may wait for a later tick, as output of a room of
    /// this size.
    pub fn push_batch(&mut self, key: ConnectionKey, frames: Piece, defer: Option<FanOut>) {
        let is_recipient = self.queue_or_close(key, frames, true, defer);
        self.counters.deliveries += u64::from(is_recipient);
    }

    /// Queues an announcement, which is no event of a room, so that it goes to connections that are
    /// catching up, too. The flush may wait for a later tick.
    pub fn push_announcement(&mut self, key: ConnectionKey, frame: Piece, fan_out: FanOut) {
        let is_recipient = self.queue_or_close(key, frame, false, Some(fan_out));
        self.counters.deliveries += u64::from(is_recipient);
    }

    /// Queues history for a connection that is catching up. The outbox's limit does not bound it,
    /// because the next page is built only when this one has mostly been written.
    pub fn push_history(&mut self, key: ConnectionKey, frames: Piece) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let frames = connection.transcode(frames, &mut self.transcoder, &self.ledger, &self.config);
        let Some(recipient) = connection.recipient() else { return };
        debug_assert!(recipient.is_catching_up, "history goes to connections that are catching up");
        self.outgoing.on_paged(frames.len());
        self.work.bytes_out += frames.len();
        connection.link.put(frames);
        let queued = connection.link.outbox().queued();
        if let Some(recipient) = connection.recipient() {
            recipient.paged_bytes = u32::try_from(queued).unwrap_or(u32::MAX);
        }
        self.mark_dirty(key);
    }

    /// Sends something to an event stream after a time of silence.
    pub fn ping_stream(&mut self, key: ConnectionKey, ack_timeout: Duration) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let Protocol::Stream(stream) = &connection.protocol else { return };
        if stream.recipient.is_paused {
            return;
        }
        let ping = Piece::private(stream.form.ping());
        connection.link.stream_mut().set_ack_timeout(ack_timeout);
        self.push(key, ping); // The flush asks whether the outbox is overfull.
    }

    /// Queues control frames that a context has written.
    pub fn push_control(&mut self, key: ConnectionKey, control: &[u8]) {
        if !control.is_empty() {
            self.queue_or_close(key, Piece::private(control.to_vec()), false, None);
        }
    }

    /// Queues frames for a WebSocket, or their events for an event stream, and marks the connection
    /// for a flush, unless it is paused or has closed, or is catching up and `is_live_only`; then
    /// returns false.
    ///
    /// If the frames exceed the outbox's limit even after the outbox was flushed, the connection is
    /// closed as a slow reader. Whether deferred frames exceed it is asked when they are flushed: that
    /// they wait is no fault of the peer, and a flush for each recipient of a large room would take
    /// longer than a tick may.
    ///
    /// One function for all of it, with one look-up of the connection, because it runs for every
    /// recipient of every batch.
    fn queue_or_close(
        &mut self,
        key: ConnectionKey,
        frames: Piece,
        is_live_only: bool,
        defer: Option<FanOut>,
    ) -> bool {
        let Some(connection) = self.slots.get_mut(key) else { return false };
        let Protocol::Ws(Ws { recipient, .. }) = &connection.protocol else {
            return self.queue_events(key, frames, is_live_only, defer);
        };
        if recipient.is_paused || is_live_only && recipient.is_catching_up {
            return false;
        }
        let is_deferred = defer.is_some();
        let bytes_max = match is_deferred {
            false => self.config.outbox_bytes_max + recipient.paged_bytes as usize,
            true => usize::MAX,
        };
        let (before, bytes) = (connection.link.outbox().queued(), frames.len());
        let is_queued = connection.link.push(frames, bytes_max);
        let offered = if is_queued { before + bytes } else { before };
        let written = offered.saturating_sub(connection.link.outbox().queued());
        self.counters.bytes_out += written as u64;
        #[cfg(debug_assertions)]
        {
            self.steps += usize::from(written > 0);
        }
        if !is_queued {
            self.close_slow(key);
            return true;
        }
        // Otherwise it is flushed in this tick, and reported then.
        if before > 0 || is_deferred {
            connection.recount(&mut self.held, &mut self.counters);
        }
        match defer {
            Some(fan_out) => {
                connection.marks.is_huge = fan_out == FanOut::Huge;
                self.outgoing.mark_deferred(key, &mut connection.marks);
            }
            None => self.outgoing.mark_dirty(key, &mut connection.marks),
        }
        true
    }

    /// The same for an event stream. Whether it exceeds its outbox's limit is asked when it is flushed.
    #[inline(never)]
    fn queue_events(
        &mut self,
        key: ConnectionKey,
        frames: Piece,
        is_live_only: bool,
        defer: Option<FanOut>,
    ) -> bool {
        let Some(connection) = self.slots.get_mut(key) else { return false };
        let Protocol::Stream(stream) = &connection.protocol else { return false };
        if stream.recipient.is_paused || is_live_only && stream.recipient.is_catching_up {
            return false;
        }
        let piece = connection.transcode(frames, &mut self.transcoder, &self.ledger, &self.config);
        connection.link.put(piece);
        connection.recount(&mut self.held, &mut self.counters);
        match defer {
            Some(fan_out) => {
                connection.marks.is_huge = fan_out == FanOut::Huge;
                self.outgoing.mark_deferred(key, &mut connection.marks);
            }
            None => self.outgoing.mark_dirty(key, &mut connection.marks),
        }
        self.start_pinging(key); // It is pinged after a time without output.
        true
    }

    /// Closes a connection whose peer reads too slowly. Frames and events of which nothing was written
    /// are dropped.
    fn close_slow(&mut self, key: ConnectionKey) {
        self.counters.too_slow += 1;
        self.drop_unwritten(key, Close::TOO_SLOW);
    }

    /// Drops the frames or events of which nothing was written, and closes the connection. The peer can
    /// parse the close, because a partly written frame or event is sent to its end. If that is long and
    /// there is no memory for it, the connection ends without a close: thousands may be closed in one tick.
    pub fn drop_unwritten(&mut self, key: ConnectionKey, close: Close) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        if let Some((first, written)) = connection.link.outbox().first() {
            let end = match written {
                0 => 0,
                _ => connection.protocol.unit_end(first, written).unwrap_or(first.len()),
            };
            if end - written > REST_BYTES.max(self.ledger.burdens_left()) {
                return self.end(key, Departure::Closed);
            }
            connection.link.truncate(end);
        }
        self.close(key, close);
        self.recount(key);
    }

    /// Whether a WebSocket or an event stream has more queued than its outbox may hold.
    fn is_overfull(&self, key: ConnectionKey) -> bool {
        self.slots.get(key).is_some_and(|connection| {
            let recipient = match &connection.protocol {
                Protocol::Ws(ws) => &ws.recipient,
                Protocol::Stream(stream) => &stream.recipient,
                Protocol::Http(_) | Protocol::Closing(_) => return false,
            };
            let bytes_max = self.config.outbox_bytes_max + recipient.paged_bytes as usize;
            connection.link.outbox().load() > bytes_max
        })
    }

    // ---- Out of the outbox

    /// The kernel takes bytes again.
    pub fn on_writable(&mut self, key: ConnectionKey) {
        if self.slots.get(key).is_some_and(|connection| !connection.link.is_flushed()) {
            self.mark_deferred(key);
        }
    }

    /// Writes what this tick has queued, usually with one system call for each connection, and as
    /// much of the deferred output as the budget allows.
    pub fn flush(&mut self) {
        let dirty = self.outgoing.begin_dirty();
        for key in &dirty {
            self.flush_one(*key, false);
        }
        self.outgoing.end_dirty(dirty);
        self.outgoing.begin_deferred();
        while let Some(key) = self.outgoing.next_deferred() {
            let written = self.flush_one(key, true);
            self.outgoing.on_deferred_written(written);
        }
        self.batches.on_flushed();
    }

    /// Flushes a connection from one of the two lists. Returns how many bytes were written.
    fn flush_one(&mut self, key: ConnectionKey, is_deferred: bool) -> usize {
        self.on_steps(1);
        let Some(connection) = self.slots.get_mut(key) else { return 0 };
        match is_deferred {
            true => connection.marks.is_deferred = false,
            false => connection.marks.is_dirty = false,
        }
        // A flush in between can have written what was deferred.
        if connection.is_closed || is_deferred && connection.link.is_flushed() {
            return 0;
        }
        // Its close, which drops what is queued, follows.
        if self.leftovers.has_ended(connection.carries) && connection.recipient().is_some() {
            return 0;
        }
        let queued = connection.link.outbox().queued();
        let flushed = connection.link.flush(schedule::FLUSH_BYTES_MAX);
        let written = queued - connection.link.outbox().queued();
        self.counters.bytes_out += written as u64;
        match (&flushed, &connection.protocol) {
            // The common case, which runs for every recipient: nothing else is to be done.
            (Ok(Flushed::Done), Protocol::Ws(ws))
                if !ws.recipient.is_catching_up
                    && ws.recipient.paged_bytes == 0
                    && !connection.is_left_over =>
            {
                // What was queued in this tick was not reported, so there is nothing to take back.
                // Only the layer of TLS may have changed.
                if connection.counted.queued > 0 || cfg!(feature = "tls") {
                    connection.recount(&mut self.held, &mut self.counters);
                }
                return written;
            }
            _ => {}
        }
        match flushed {
            Ok(Flushed::Done) => {
                if connection.is_overdue {
                    self.on_partly_flushed(key, written); // Progress that the server saw late.
                }
                self.on_flushed(key);
            }
            Ok(Flushed::Blocked) if self.is_overfull(key) => self.close_slow(key),
            Ok(Flushed::Blocked) => self.on_partly_flushed(key, written),
            Ok(Flushed::Paused) => {
                self.on_partly_flushed(key, written);
                self.mark_deferred(key); // A later tick goes on.
            }
            Err(_) => self.on_broken(key),
        }
        self.note_page_due(key);
        self.note_leftover(key);
        self.recount(key);
        written
    }

    /// Restarts the idle timeout if the peer makes progress, up to the response deadline.
    fn on_partly_flushed(&mut self, key: ConnectionKey, written: usize) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let is_overdue =
            connection.response_deadline().is_none_or(|deadline| *deadline <= self.now.mono);
        if written > 0 && !is_overdue && self.timeout(key) == Some(TimeoutKind::Idle) {
            self.set_timer(key, Some(TimeoutKind::Idle));
        }
    }

    fn on_flushed(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        match &connection.protocol {
            Protocol::Closing(_) => {
                // RFC 9112 §9.6: shut down the write half first and go on reading for a while. A
                // close with unread input sends a reset, which can destroy what the peer has not
                // read yet. Without unread input, closing shuts down both halves.
                if connection.is_read_to_end || connection.link.shutdown_write().is_err() {
                    self.end(key, Departure::Broken);
                } else if self.timeout(key) != Some(TimeoutKind::Linger) {
                    self.set_timer(key, Some(TimeoutKind::Linger));
                }
            }
            Protocol::Http(http) if http.rest.is_none() && connection.has_input() => {
                self.schedule(key);
            }
            Protocol::Http(_) | Protocol::Ws(_) | Protocol::Stream(_) => {}
        }
    }

    // ---- History

    /// A connection that is due its next page, or the next part of its response.
    pub fn next_page_due(&mut self) -> Option<ConnectionKey> {
        let key = self.outgoing.next_page_due()?;
        match self.slots.get_mut(key).map(|connection| &mut connection.protocol) {
            Some(Protocol::Ws(ws)) => ws.recipient.is_page_due = false,
            Some(Protocol::Stream(stream)) => stream.recipient.is_page_due = false,
            Some(Protocol::Http(http)) => {
                if let Some(rest) = &mut http.rest {
                    rest.is_page_due = false;
                }
            }
            Some(Protocol::Closing(_)) | None => {}
        }
        Some(key)
    }

    /// After a flush: the connection is due a page if it is catching up, or is sent a response in
    /// parts, and the previous page or part has mostly been written.
    fn note_page_due(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let queued = connection.link.outbox().queued();
        if let Some(recipient) = connection.recipient() {
            let queued_max = u32::try_from(queued).unwrap_or(u32::MAX);
            recipient.paged_bytes = recipient.paged_bytes.min(queued_max);
            let is_due = recipient.is_catching_up && is_page_due(queued);
            if is_due && !std::mem::replace(&mut recipient.is_page_due, true) {
                self.outgoing.push_page_due(key);
            }
        } else if let Some(rest) = connection.response_rest() {
            if is_page_due(queued) && !std::mem::replace(&mut rest.is_page_due, true) {
                self.outgoing.push_page_due(key);
            }
        }
    }

    // ---- Messages for connections outside their room

    /// After a flush: keeps the connection on the list while it is outside the rooms whose messages
    /// it has queued.
    pub fn note_leftover(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let Some(room) = connection.carries else { return };
        let is_flushed =
            connection.response_rest().is_none() && connection.link.outbox().is_empty();
        if matches!(connection.protocol, Protocol::Ws(_) | Protocol::Stream(_)) {
            // It may have been sent messages of another room before the upgrade.
            if is_flushed && std::mem::take(&mut connection.is_left_over) {
                self.leftovers.remove(Some(room), key);
            }
            return;
        }
        if is_flushed {
            return self.forget_leftover(key);
        }
        if self.leftovers.has_ended(Some(room)) {
            self.forget_leftover(key);
            return self.end(key, Departure::Closed);
        }
        connection.is_left_over = true;
        self.leftovers.insert(room, key);
    }

    /// The connection is freed, or has no messages queued.
    pub fn forget_leftover(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let room = connection.carries.take();
        if std::mem::take(&mut connection.is_left_over) {
            self.leftovers.remove(room, key);
        }
    }

    /// From now on, messages of this room are queued for the connection.
    pub fn carry(&mut self, key: ConnectionKey, room: RoomKey) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let earlier = connection.carries.replace(room);
        let is_empty = connection.link.outbox().is_empty();
        if let Some(earlier) = earlier.filter(|earlier| *earlier != room && !is_empty) {
            connection.is_left_over = true;
            self.leftovers.insert_earlier(earlier, key);
            self.leftovers.insert(room, key);
        }
    }

    /// A room has ended: ends the connections outside it that have messages of it queued.
    pub fn end_leftovers(&mut self, room: RoomKey) {
        self.leftovers.on_ended(room);
        while let Some(index) = self.leftovers.any_of(room) {
            let Some(key) = self.slots.key_at(index) else { break };
            self.forget_leftover(key);
            self.end(key, Departure::Closed);
        }
    }
}
