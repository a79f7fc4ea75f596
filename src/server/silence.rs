//! What an expired timer means: the phase *sweep*.
//!
//! Owns the judgement that a peer is silent. Must not know what the peer should have sent. The
//! invariant: a sign of life that has reached the machine counts, however late the server reads it.
//! So a connection whose deadline has passed has one more turn, and is judged by what that turn
//! reads; and after a gap between ticks the domain's timers wait until all that has arrived was
//! read ([`super::listening`]).

use super::connection::{ConnectionKey, Protocol, TimeoutKind};
use super::core::Core;
use super::schedule;
use super::table::Table;
use crate::chat::Departure;
use crate::net::Stream;
use crate::timers::Waiting;

impl<S: Stream> Core<S> {
    /// *sweep*: some of the due timers fire.
    #[inline(never)]
    pub(super) fn sweep(&mut self) {
        let is_all_read = self.listening.is_over(self.table.schedule.is_empty());
        for _ in 0..schedule::TIMERS_MAX {
            let Some((timeout, key)) = self.table.pop_due() else { break };
            let is_overdue = self.table.slots.get(key).is_some_and(|one| one.is_overdue);
            if timeout == TimeoutKind::Ping && self.table.is_stream(key) {
                self.table.set_timer(key, Some(TimeoutKind::Ping));
                self.table.ping_stream(key, self.config.ping_timeout);
            } else if timeout == TimeoutKind::Ping {
                // The timer first: an outbox without capacity for a ping ends in a close.
                self.table.set_timer(key, Some(TimeoutKind::Pong));
                self.table.ping(key);
            } else {
                self.table.begin_last_turn(key, timeout);
                // It has sent other things for another timeout, without a pause.
                if is_overdue {
                    self.on_silent(key);
                }
            }
        }
        if is_all_read {
            self.chat.sweep(self.table.now, schedule::TIMERS_MAX, &mut self.table);
        }
        #[cfg(feature = "cluster")]
        self.sweep_cluster();
    }

    /// The deadline of what a connection waits for has passed, and all that had arrived was read.
    pub(super) fn on_silent(&mut self, key: ConnectionKey) {
        match self.table.timeout(key) {
            Some(TimeoutKind::Head | TimeoutKind::Body) => self.on_request_timeout(key),
            Some(TimeoutKind::Message) => self.on_message_timeout(key),
            Some(TimeoutKind::Pong) => self.table.end(key, Departure::Broken),
            Some(TimeoutKind::Idle | TimeoutKind::Linger) => {
                self.table.end(key, Departure::Closed);
            }
            Some(TimeoutKind::Ping) | None => {}
        }
    }
}

impl<S: Stream> Table<S> {
    fn is_stream(&self, key: ConnectionKey) -> bool {
        self.slots.get(key).is_some_and(|one| matches!(one.protocol, Protocol::Stream(_)))
    }

    /// Restarts a timeout, which has passed, and gives the connection one more turn and one more
    /// flush. If neither finds a sign of life, the connection is silent.
    pub(super) fn begin_last_turn(&mut self, key: ConnectionKey, timeout: TimeoutKind) {
        let Some(connection) = self.slots.get_mut(key) else { return };
        let late = self.now.mono.since(connection.deadline());
        if let Some(deadline) = connection.response_deadline() {
            *deadline = deadline.after(late); // Time in which the server did not write.
        }
        self.set_timer(key, Some(timeout));
        if let Some(connection) = self.slots.get_mut(key) {
            connection.is_overdue = true;
        }
        self.mark_dirty(key);
        self.schedule(key);
    }
}
