//! The domain's interface to the connections.
//!
//! Owns the trait that the event loop implements. Must not know bytes, sockets or JSON. The
//! invariant: frames and pages for one connection arrive in the order in which they were queued.

use super::error::CloseReason;
use super::event::{Event, RoomInfo};
use super::id::{RoomId, UserId};
use super::kept::MessageCopies;
use super::keys::{ConnKey, RoomKey};

/// A page of history, for one connection that is catching up.
pub struct Page<'a> {
    /// The room.
    pub room_id: RoomId,
    /// The messages, oldest first.
    pub messages: &'a MessageCopies,
    /// Only in the last page.
    pub last: Option<LastPage<'a>>,
}

/// The fields that only the last page has: the room at the time when the page is built.
pub struct LastPage<'a> {
    /// False if the client asked to resume after a message that was not in the history, so that
    /// messages may be missing.
    pub complete: bool,
    /// The receiving session, as others in the room see it.
    pub you: UserId,
    /// Whether the receiving session owns the room.
    pub is_owner: bool,
    /// The room.
    pub room: RoomInfo<'a>,
    /// The room's owner.
    pub owner: Option<UserId>,
    /// The members that are present, by arrival.
    pub users: Vec<(UserId, &'a str)>,
}

/// The outcome of [`Sink::publish`].
#[derive(Clone, Copy)]
pub struct Published {
    /// Bytes of the encoded event, without the frame's header.
    pub event_bytes: usize,
    /// The batch has reached [`BATCH_BYTES_FULL`](super::BATCH_BYTES_FULL) and must be sealed.
    pub is_batch_full: bool,
}

/// Receives the domain's events, and acts on connections for it.
///
/// It is a trait so that tests can record the calls. An implementation must not call the domain: if
/// a push overflows an outbox, it only marks the connection, and the event loop reports the end
/// later with [`super::Chat::exit`].
pub trait Sink {
    /// Encodes `event` once, as a frame, and appends it to the room's batch. `recipients`: the number
    /// of connections in the room.
    fn publish(&mut self, room: RoomKey, event: &Event<'_>, recipients: usize) -> Published;
    /// Ends the room's batch, if one is open, and queues it for those of `to` that are not
    /// catching up, to each without the part that it does not need.
    fn seal(&mut self, room: RoomKey, to: &[ConnKey]);
    /// Queues what is in the room's batch now for one connection, which is about to be sent
    /// something of its own. Does nothing if the connection is catching up.
    fn advance(&mut self, room: RoomKey, to: ConnKey);
    /// What is in the room's batch now is not for this connection: it has just entered, or has been
    /// sent the same messages from the history.
    fn skip(&mut self, room: RoomKey, to: ConnKey);
    /// Queues an event for one connection: a message of the history, even if the connection is
    /// catching up, or what it has missed of its room.
    fn push(&mut self, to: ConnKey, event: &Event<'_>);
    /// Queues messages of the history, each as a frame, for a connection that is catching up.
    fn push_missed(&mut self, to: ConnKey, messages: &MessageCopies);
    /// Queues a page of history for a connection that is catching up.
    fn push_page(&mut self, to: ConnKey, page: &Page<'_>);
    /// Queues the event that tells a connection its room and its user id. It is the first that the
    /// connection is sent.
    fn welcome(&mut self, to: ConnKey, room_id: RoomId, you: UserId);
    /// The list of all users of a room is made, of so many.
    fn on_listed(&mut self, users: usize);
    /// From now on [`Sink::seal`] skips this connection. The event loop calls
    /// [`super::Chat::catch_up`] whenever most of the connection's output has been written.
    fn begin_catch_up(&mut self, to: ConnKey);
    /// The connection has caught up: [`Sink::seal`] no longer skips it.
    fn end_catch_up(&mut self, to: ConnKey);
    /// Sends a ping.
    fn ping(&mut self, to: ConnKey);
    /// At the end of a probe: whether a connection counts as alive although its peer has sent nothing.
    /// False for a peer that answers pings.
    fn is_alive(&mut self, to: ConnKey) -> bool;
    /// Whether a connection that waits for a decision made elsewhere has not ended meanwhile.
    #[cfg(feature = "cluster")]
    fn is_open(&mut self, conn: ConnKey) -> bool;
    /// A connection that waited is now in the room. Its input may be handled from now on.
    fn admit(&mut self, to: ConnKey);
    /// Closes the connection. The domain removes the attachment itself, so the event loop must not
    /// report the end with [`super::Chat::exit`]. If the reason is the end of the room
    /// ([`CloseReason::is_end`]), events that were queued earlier are dropped.
    fn close(&mut self, to: ConnKey, reason: CloseReason);
    /// The room has ended: what is queued of its messages must not be sent, and its batch is dropped.
    /// Its connections follow with [`Sink::close`], in this tick or later ones.
    fn end_room(&mut self, room: RoomKey);
    /// All connections of a room that has ended are closed. Another room may get its index.
    fn free_room(&mut self, room: RoomKey);
}
