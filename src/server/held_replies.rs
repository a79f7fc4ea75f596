//! Replies that wait for a connection's earlier messages.
//!
//! Owns what a node itself has to say to a connection whose messages are on their way to the store: that an
//! event was refused, a pong, or a close. Must not know what became of the messages. The invariant: a
//! connection receives its own messages and the replies to it in the order in which it sent what they
//! answer, as from a single server.
//!
//! It is bounded by the connection's messages under way, beyond which nothing is read from it, and by
//! what one turn may read.

use std::collections::{HashMap, VecDeque};

use super::connection::ConnectionKey;
use crate::chat::AttachmentKey;
use crate::ws::close::Close;

/// What waits.
pub(super) enum HeldReply {
    Frame(AttachmentKey, Vec<u8>),
    /// Nothing is read any more.
    Close(Close),
}

/// All that waits, each with the number of the connection's messages that it comes after.
#[derive(Default)]
pub(super) struct HeldReplies(HashMap<ConnectionKey, VecDeque<(u64, HeldReply)>>);

impl HeldReplies {
    /// Whether the connection will be closed.
    pub fn is_closing(&self, key: ConnectionKey) -> bool {
        let held = self.0.get(&key).and_then(VecDeque::back);
        held.is_some_and(|(_, held)| matches!(held, HeldReply::Close(_)))
    }

    /// `after`: the number of the message that it comes after.
    pub fn push(&mut self, key: ConnectionKey, after: u64, held: HeldReply) {
        self.0.entry(key).or_default().push_back((after, held));
    }

    /// The next one of a connection of whose messages so many have been answered.
    pub fn pop(&mut self, key: ConnectionKey, answered: u64) -> Option<HeldReply> {
        let queue = self.0.get_mut(&key)?;
        let is_due = queue.front().is_some_and(|(after, _)| *after <= answered);
        let held = if is_due { queue.pop_front() } else { None };
        if queue.is_empty() {
            self.0.remove(&key);
        }
        held.map(|(_, held)| held)
    }
}
