//! Replies that wait for a connection's earlier messages.
//!
//! Owns what a node itself has to say to a connection whose messages are on their way to the store: that an
//! event was refused, a pong, or a close. Must not know what became of the messages. The invariant: a
//! connection receives its own messages and the replies to it in the order in which it sent what they
//! answer, as from a single server.
//!
//! Nothing is read from a connection for which [`HELD_MAX`] replies wait.

use std::collections::{HashMap, VecDeque};

use super::connection::ConnectionKey;
use crate::chat::AttachmentKey;
use crate::ledger::allocation;
use crate::ws::close::Close;

/// Replies that wait for one connection. Each is the answer to an event that the peer has sent, so that
/// without a bound a peer could make them as fast as it can write, while the store does not answer.
const HELD_MAX: usize = 64;

/// What waits.
pub(super) enum HeldReply {
    Frame(AttachmentKey, Vec<u8>),
    /// Nothing is read any more.
    Close(Close),
}

/// All that waits, each with the number of the connection's messages that it comes after.
#[derive(Default)]
pub(super) struct HeldReplies {
    queues: HashMap<ConnectionKey, VecDeque<(u64, HeldReply)>>,
    /// Bytes of the frames.
    bytes: usize,
}

impl HeldReply {
    fn bytes(&self) -> usize {
        let frame = match self {
            HeldReply::Frame(_, frame) => allocation(frame.capacity()),
            HeldReply::Close(_) => 0,
        };
        frame + size_of::<(u64, HeldReply)>()
    }
}

impl HeldReplies {
    /// Bytes of heap held, approximately.
    pub fn heap_bytes(&self) -> usize {
        let queue = size_of::<(ConnectionKey, VecDeque<(u64, HeldReply)>)>();
        self.queues.capacity() * queue + self.bytes
    }

    /// Whether the connection will be closed.
    pub fn is_closing(&self, key: ConnectionKey) -> bool {
        let held = self.queues.get(&key).and_then(VecDeque::back);
        held.is_some_and(|(_, held)| matches!(held, HeldReply::Close(_)))
    }

    /// Whether so many replies wait for the connection that nothing more must be read from it.
    pub fn is_full(&self, key: ConnectionKey) -> bool {
        self.queues.get(&key).is_some_and(|queue| queue.len() >= HELD_MAX)
    }

    /// `after`: the number of the message that it comes after.
    pub fn push(&mut self, key: ConnectionKey, after: u64, held: HeldReply) {
        self.bytes += held.bytes();
        self.queues.entry(key).or_default().push_back((after, held));
    }

    /// The next one of a connection of whose messages so many have been answered.
    pub fn pop(&mut self, key: ConnectionKey, answered: u64) -> Option<HeldReply> {
        let queue = self.queues.get_mut(&key)?;
        let is_due = queue.front().is_some_and(|(after, _)| *after <= answered);
        let held = if is_due { queue.pop_front() } else { None };
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        let (_, held) = held?;
        self.bytes -= held.bytes();
        Some(held)
    }
}
