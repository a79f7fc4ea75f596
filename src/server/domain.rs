//! What decides: the domain of this server, or the store of a cluster.
//!
//! Owns that choice, for each thing that connections ask, and the way of the store's answers to their
//! connections. Must not know a rule of the chat. The invariant: without a cluster, each function is
//! the one call on [`Chat`](crate::chat::Chat) that it was.

use super::connection::ConnectionKey;
#[cfg(feature = "cluster")]
use super::connection::{Connection, ConnectionKey as Conn, Protocol};
#[cfg(feature = "cluster")]
use super::held_replies::{HeldReplies, HeldReply};
#[cfg(feature = "cluster")]
use std::fmt;

use super::core::Core;
#[cfg(feature = "cluster")]
use crate::api::admin::{self, AdminStep};
#[cfg(feature = "cluster")]
use crate::api::{self, Asked, Caller, RoomList};
use crate::chat::{AttachmentKey, Refusal};
#[cfg(feature = "cluster")]
use crate::chat::{CloseReason, Command, Departure};
#[cfg(feature = "cluster")]
use crate::cluster::{Cluster, EntryRequest, Lent, Login, NodeAnswer, Settled, StartProblem};
#[cfg(feature = "cluster")]
use crate::http::Request;
use crate::net::Stream;
#[cfg(feature = "cluster")]
use crate::ws::close::Close;

impl<S: Stream> Core<S> {
    /// Posts a message from a connection to its room.
    #[inline(always)]
    pub(super) fn post(
        &mut self,
        key: ConnectionKey,
        attachment: AttachmentKey,
        text: &str,
        nonce: Option<&str>,
    ) -> Result<(), Refusal> {
        #[cfg(feature = "cluster")]
        if self.cluster.is_some() {
            return self.post_to_cluster(key, attachment, text, nonce);
        }
        let _ = key;
        self.chat.post(self.table.now, attachment, text, nonce, &mut self.table)
    }

    /// The person of a connection is typing.
    pub(super) fn typing(&mut self, attachment: AttachmentKey) {
        #[cfg(feature = "cluster")]
        if let Some((cluster, mut lent)) = self.cluster() {
            return cluster.typing(&mut lent, attachment);
        }
        self.chat.typing(self.table.now, attachment, &mut self.table);
    }
}

/// Whether so much of the connection is under way that nothing more must be read from it. It is
/// scheduled again when the store has answered some.
#[cfg(feature = "cluster")]
pub(super) fn must_wait(cluster: Option<&Cluster>, held: &HeldReplies, key: Conn) -> bool {
    cluster.is_some_and(|cluster| cluster.is_busy_with(key) || held.is_full(key))
}

#[cfg(feature = "cluster")]
impl<S: Stream> Core<S> {
    /// Makes this server a node of a cluster. It has no sessions and rooms yet.
    pub fn join_cluster(&mut self, cluster: Cluster) {
        self.cluster = Some(Box::new(cluster));
    }

    /// The server is ending.
    pub(super) fn leave_cluster(&mut self) {
        let now = self.table.now.mono;
        if let Some((cluster, mut lent)) = self.cluster() {
            cluster.on_exits(&mut lent); // What has ended before is told as it was.
            cluster.leave(now);
        }
    }

    /// The cluster, and what it is lent.
    fn cluster(&mut self) -> Option<(&mut Cluster, Lent<'_>)> {
        let cluster = self.cluster.as_deref_mut()?;
        let lent = Lent { now: self.table.now, chat: &mut self.chat, sink: &mut self.table };
        Some((cluster, lent))
    }

    /// Whether the store of the cluster can be reached; `None`: this server is in no cluster.
    pub(super) fn is_store_up(&self) -> Option<bool> {
        self.cluster.as_ref().map(|cluster| cluster.is_available())
    }

    /// Whether a connection to the store should be made now.
    pub fn poll_store_connect(&mut self) -> bool {
        let now = self.table.now.mono;
        self.cluster.as_deref_mut().is_some_and(|cluster| cluster.poll_connect(now))
    }

    /// Whether there must be no connection to the store.
    pub fn is_store_down(&self) -> bool {
        self.cluster.as_deref().is_none_or(Cluster::is_store_down)
    }

    /// Whether the store has welcomed the connection.
    pub fn is_store_connected(&self) -> bool {
        self.cluster.as_deref().is_some_and(Cluster::is_store_connected)
    }

    /// Bytes for the store.
    pub fn store_output(&mut self) -> Option<Vec<u8>> {
        self.cluster.as_deref_mut()?.output()
    }

    /// Why the server should end: the store was reached and cannot be used.
    pub fn store_problem(&self) -> Option<&StartProblem> {
        self.cluster.as_deref()?.problem()
    }

    /// The store has sent bytes.
    pub fn on_store_bytes(&mut self, bytes: &[u8]) {
        let now = self.table.now.mono;
        if let Some(cluster) = self.cluster.as_deref_mut() {
            cluster.on_bytes(now, bytes);
        }
        // After each reply: a message that the store has accepted is sent to its connection at once, and a
        // refusal of an earlier one has to precede it.
        while self.cluster().is_some_and(|(cluster, mut lent)| cluster.handle_next(&mut lent)) {
            self.deliver_answers();
        }
    }

    /// The connection to the store is established.
    pub fn on_store_connected(&mut self, login: Login<'_>) {
        let now = self.table.now.mono;
        if let Some(cluster) = self.cluster.as_deref_mut() {
            cluster.on_connected(now, login);
        }
    }

    /// The connection to the store is lost, or cannot be established.
    pub fn on_store_lost(&mut self, why: &dyn fmt::Display) {
        if let Some((cluster, mut lent)) = self.cluster() {
            cluster.on_lost(&mut lent, why);
        }
        self.deliver_answers();
    }

    /// Asks the store for what a request asks. `None`: this server is no node. The inner `None`: the
    /// answer comes later.
    pub(super) fn ask_cluster(
        &mut self,
        key: ConnectionKey,
        request: &Request,
        caller: &Caller,
    ) -> Option<Option<api::Answer>> {
        let cluster = self.cluster.as_deref_mut()?;
        let mut lent = Lent { now: self.table.now, chat: &mut self.chat, sink: &mut self.table };
        let command = match self.api.ask(request, caller) {
            Asked::Answer(answer) => return Some(Some(answer)),
            Asked::Command(command) => command,
        };
        match cluster.run(&mut lent, key, command) {
            Ok(()) => Some(None),
            Err(refusal) => Some(Some(self.api.tell(request, caller, Err(refusal)))),
        }
    }

    /// Asks the store for what the operator asks.
    pub(super) fn operate_cluster(
        &mut self,
        key: Conn,
        command: Command<'_>,
    ) -> Result<(), Refusal> {
        match self.cluster() {
            Some((cluster, mut lent)) => cluster.run(&mut lent, key, command),
            None => Ok(()),
        }
    }

    /// Tells the other nodes an announcement.
    pub(super) fn announce_to_cluster(&mut self, text: &str) {
        if let Some((cluster, mut lent)) = self.cluster() {
            cluster.announce(&mut lent, text);
        }
    }

    /// Asks the store to let a connection into its room. Nothing is read from it before the answer.
    pub(super) fn enter_cluster(&mut self, request: EntryRequest) -> Result<(), CloseReason> {
        let conn = request.conn;
        if let Some((cluster, mut lent)) = self.cluster() {
            cluster.enter(&mut lent, request)?;
        }
        if let Some(recipient) = self.table.slots.get_mut(conn).and_then(Connection::recipient) {
            recipient.is_paused = true;
        }
        Ok(())
    }

    fn post_to_cluster(
        &mut self,
        key: ConnectionKey,
        attachment: AttachmentKey,
        text: &str,
        nonce: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some((cluster, mut lent)) = self.cluster() else { return Ok(()) };
        cluster.post(&mut lent, key, attachment, text, nonce)?;
        Ok(())
    }

    /// Part of *sweep*: what is due in the cluster.
    pub(super) fn sweep_cluster(&mut self) {
        if let Some((cluster, mut lent)) = self.cluster() {
            cluster.sweep(&mut lent);
        }
        self.deliver_answers(); // Before what connections send in this tick is answered.
    }

    /// Part of *settle*: the store is told which connections have ended, and its answers reach theirs.
    pub(super) fn settle_cluster(&mut self) {
        let gone = std::mem::take(&mut self.table.gone);
        let Some((cluster, mut lent)) = self.cluster() else { return };
        cluster.on_exits(&mut lent);
        for conn in gone {
            cluster.on_gone(&mut lent, conn);
        }
        cluster.call_deferred(&mut lent);
        self.deliver_answers();
    }

    /// The store's answers reach the connections that they are for.
    fn deliver_answers(&mut self) {
        let Some((cluster, _)) = self.cluster() else { return };
        let announcements = cluster.take_announcements();
        let answers = cluster.take_answers();
        for text in announcements {
            if !self.table.announcements.is_full() {
                self.announce(&text);
            }
        }
        for answer in answers {
            match answer {
                NodeAnswer::Outcome { to, outcome } => self.on_outcome(to, outcome),
                NodeAnswer::Entered { to, attachment } => self.on_entered(to, attachment),
                NodeAnswer::TurnedAway { to, reason } => self.on_turned_away(to, reason),
                NodeAnswer::Waits { to } => self.table.open(to),
                NodeAnswer::Answered { to, count } => self.release_replies(to, count),
                NodeAnswer::Refused { to, attachment, why, nonce } => {
                    // What was sent later is answered later, so this waits for nothing that is under way.
                    let frame = self.refused_frame(attachment, why, nonce.as_deref());
                    frame.into_iter().for_each(|frame| self.push_reply(to, attachment, frame));
                }
            }
        }
    }

    fn on_outcome(&mut self, key: Conn, outcome: Result<Settled, Refusal>) {
        self.table.work = Default::default();
        let connection = self.table.slots.get(key).map(|connection| &connection.protocol);
        if matches!(connection, Some(Protocol::Http(http)) if http.purpose.is_for_operators()) {
            return self.on_operator_outcome(key, outcome);
        }
        self.unpark(key, |core, request, caller| match outcome {
            Ok(mut settled) => {
                let outcome = settled.outcome(&core.chat);
                core.api.tell(request, caller, outcome)
            }
            Err(refusal) => core.api.tell(request, caller, Err(refusal)),
        });
        if self.table.end_turn(key) {
            self.on_silent(key);
        }
    }

    fn on_operator_outcome(&mut self, key: Conn, outcome: Result<Settled, Refusal>) {
        let Some((request, ..)) = self.take_parked(key) else { return };
        match outcome {
            Ok(Settled::Usage(rooms)) => {
                let Ok(AdminStep::ListRooms(response)) = admin::ask(&request) else { return };
                self.list_rooms(key, &request, response, RoomList::of(rooms));
            }
            Ok(mut settled) => {
                let answer = admin::tell(&request, settled.outcome(&self.chat));
                self.answer_operator(key, &request, answer);
            }
            Err(refusal) => self.answer_operator(key, &request, Err(refusal.into())),
        }
        self.table.schedule(key); // What it has sent meanwhile.
    }

    fn on_entered(&mut self, key: Conn, attachment: AttachmentKey) {
        let now = self.table.now;
        let recipient = self.table.slots.get_mut(key).and_then(Connection::recipient);
        let Some(recipient) = recipient.filter(|one| one.attachment.is_none()) else {
            // It has ended meanwhile.
            return self.chat.exit(now, attachment, Departure::Broken, &mut self.table);
        };
        recipient.attachment = Some(attachment);
        recipient.is_paused = false;
        if let Some(room) = self.chat.room_of(attachment) {
            self.table.carry(key, room);
        }
        self.table.start_pinging(key);
        self.table.schedule(key); // The readable edge of what arrived meanwhile has passed.
    }

    fn on_turned_away(&mut self, key: Conn, reason: CloseReason) {
        let recipient = self.table.slots.get_mut(key).and_then(Connection::recipient);
        if recipient.is_none_or(|recipient| recipient.attachment.is_some()) {
            return; // It has ended meanwhile.
        }
        match api::socket::close(reason) {
            Some(close) => self.table.close(key, close),
            None => self.table.end(key, Departure::Broken),
        }
    }

    // ---- Replies behind messages that are under way

    /// Reports to the ledger what is kept for the store, and for those that wait for it.
    /// `unsent`: bytes that the stream to the store has not taken yet.
    pub fn recount_store(&mut self, unsent: usize) {
        if let Some(cluster) = &self.cluster {
            self.store_tally.set(cluster.heap_bytes() + self.held.heap_bytes() + unsent);
        }
    }

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
