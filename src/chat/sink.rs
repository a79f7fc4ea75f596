//! The way out of the domain: what it asks of the connections.
//!
//! Owns the trait that the event loop implements. Must not know bytes, sockets or JSON. The
//! invariant: what is queued for one connection arrives in the order of the calls.

use super::error::CloseReason;
use super::event::{Event, Frame, Page};
use super::keys::{ConnKey, RoomKey};

/// Where the domain's events go.
///
/// A trait because tests record at this seam. An implementation must not call the domain: a push
/// that overflows an outbox only marks the connection, and the domain is told of its end later.
pub trait Sink {
    /// Encodes `event` once, appends it to the room's batch and returns its place there.
    /// `recipients`: the number of connections that it goes to.
    fn publish(&mut self, room: RoomKey, event: &Event<'_>, recipients: usize) -> Frame;
    /// Ends the room's batch, if one is open, and queues it for those of `to` that are not
    /// catching up.
    fn seal(&mut self, room: RoomKey, to: &[ConnKey]);
    /// Queues a frame for one connection, even if it is catching up.
    fn push(&mut self, to: ConnKey, frame: &Frame);
    /// Queues a frame for a connection that is catching up and has missed it.
    fn push_missed(&mut self, to: ConnKey, frame: &Frame);
    /// Queues a page of history for a connection that is catching up.
    fn push_page(&mut self, to: ConnKey, page: &Page<'_>);
    /// From now on [`Sink::seal`] skips this connection. [`super::Chat::catch_up`] is due whenever
    /// most of what it was sent has been written.
    fn begin_catch_up(&mut self, to: ConnKey);
    /// The connection has caught up: [`Sink::seal`] no longer skips it.
    fn end_catch_up(&mut self, to: ConnKey);
    /// Sends a ping.
    fn ping(&mut self, to: ConnKey);
    /// The connection that waited is in the room: its input may be handled from now on.
    fn admit(&mut self, to: ConnKey);
    /// Closes the connection. It no longer belongs to the domain, which must not be told of its
    /// end.
    fn close(&mut self, to: ConnKey, reason: CloseReason);
}
