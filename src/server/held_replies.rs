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
use super::core::Core;
use crate::chat::AttachmentKey;
use crate::net::Stream;
use crate::ws::close::Close;

/// What waits.
enum HeldReply {
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

    fn push(&mut self, key: ConnectionKey, after: u64, held: HeldReply) {
        self.0.entry(key).or_default().push_back((after, held));
    }

    /// The next one of a connection of whose messages so many have been answered.
    fn pop(&mut self, key: ConnectionKey, answered: u64) -> Option<HeldReply> {
        let queue = self.0.get_mut(&key)?;
        let is_due = queue.front().is_some_and(|(after, _)| *after <= answered);
        let held = if is_due { queue.pop_front() } else { None };
        if queue.is_empty() {
            self.0.remove(&key);
        }
        held.map(|(_, held)| held)
    }
}

impl<S: Stream> Core<S> {
    /// Keeps a reply if messages of the connection are on their way; else returns it.
    pub(super) fn hold_reply(
        &mut self,
        key: ConnectionKey,
        attachment: AttachmentKey,
        frame: Vec<u8>,
    ) -> Option<Vec<u8>> {
        match self.cluster.as_deref().and_then(|cluster| cluster.last_under_way(key)) {
            Some(after) => {
                self.held.push(key, after, HeldReply::Frame(attachment, frame));
                None
            }
            None => Some(frame),
        }
    }

    /// The same for a close.
    pub(super) fn hold_close(&mut self, key: ConnectionKey, close: Close) -> bool {
        let after = self.cluster.as_deref().and_then(|cluster| cluster.last_under_way(key));
        if let Some(after) = after {
            self.held.push(key, after, HeldReply::Close(close));
        }
        after.is_some()
    }

    /// So many of the connection's messages have been answered: what waits behind them is sent.
    pub(super) fn release_replies(&mut self, key: ConnectionKey, answered: u64) {
        while let Some(held) = self.held.pop(key, answered) {
            match held {
                HeldReply::Frame(attachment, frame) => self.push_reply(key, attachment, frame),
                HeldReply::Close(close) => {
                    let attachment =
                        self.table.slots.get_mut(key).and_then(|one| {
                            one.recipient().and_then(|recipient| recipient.attachment)
                        });
                    self.advance(key, attachment);
                    self.table.close(key, close);
                }
            }
        }
        self.table.schedule(key); // It may have been too busy to be read.
    }
}
