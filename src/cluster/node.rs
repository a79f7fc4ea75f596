//! The connection to the store, as the event loop drives it.
//!
//! Owns the way of each reply and push to what it is for. Must not know what it leads to. The
//! invariant: replies and pushes are handled in the order in which they came.

use std::fmt;
use std::time::Duration;

use log::error;

use super::args::Args;
use super::library::Function;
use super::plan::Awaited;
use super::record::StorePush;
use super::refusal::refusal_of;
use super::resp::Reply;
use super::state::{Beats, Cluster, Lent, Token};
use super::status::Status;
use super::uplink::{CallFailure, Login, UplinkEvent};
use crate::clock::Mono;
use crate::counters::StoreCounters;

/// By how much a push may come sooner after the one before than it was sent.
const TYPING_SLACK: Duration = Duration::from_millis(250);

impl Cluster {
    // ---- The connection to the store

    /// Whether a connection to the store should be made now.
    pub fn poll_connect(&mut self, now: Mono) -> bool {
        self.uplink.poll_connect(now, &mut *self.entropy)
    }

    /// Numbers for the metrics.
    pub fn counters(&self) -> StoreCounters {
        let Beats { gaps, resyncs, resyncs_failed, .. } = self.beats;
        StoreCounters { gaps, resyncs, resyncs_failed, ..self.uplink.counters() }
    }

    /// Whether there must be no connection to the store: one that there is must be closed.
    pub fn is_store_down(&self) -> bool {
        self.uplink.is_down()
    }

    /// Whether the store has welcomed the connection.
    pub fn is_store_connected(&self) -> bool {
        self.uplink.is_connected()
    }

    /// The connection to the store is established.
    pub fn on_connected(&mut self, now: Mono, login: Login<'_>) {
        self.uplink.on_connected(now, login);
    }

    /// The connection to the store is lost, or cannot be established.
    pub fn on_lost(&mut self, lent: &mut Lent<'_>, why: &dyn fmt::Display) {
        let mut events = Vec::new();
        self.uplink.on_lost(lent.now.mono, why, &mut events);
        self.take(lent, events);
    }

    /// Bytes of the store. [`Cluster::handle_next`] handles what they say.
    pub fn on_bytes(&mut self, now: Mono, bytes: &[u8]) {
        let mut events = Vec::new();
        self.uplink.on_bytes(now, bytes, &mut events);
        self.incoming.extend(events);
    }

    /// Handles the next reply or push of the store. False: there was none. What [`Cluster::take_answers`]
    /// then returns must reach the connections before the next call: a call sends the messages of rooms
    /// to connections itself, and an earlier refusal precedes them.
    pub fn handle_next(&mut self, lent: &mut Lent<'_>) -> bool {
        let event = self.incoming.pop_front();
        let is_any = event.is_some();
        self.take(lent, event);
        is_any
    }

    /// The server is ending: its people have as long to come back, at another node, as after a broken
    /// connection.
    pub fn leave(&mut self, now: Mono) {
        self.is_leaving = true;
        for partition in 0..self.partitions {
            let _ = self.call(now, partition, Function::Bye, Args::new(), Token::Nothing);
        }
    }

    /// Tells the other nodes an announcement.
    pub fn announce(&mut self, lent: &mut Lent<'_>, text: &str) {
        let args = Args::new().text(text);
        let _ = self.call(lent.now.mono, 0, Function::Announce, args, Token::Nothing);
    }

    /// Announcements of other nodes since the last call.
    pub fn take_announcements(&mut self) -> Vec<String> {
        std::mem::take(&mut self.announcements)
    }

    /// Bytes for the store. Calls that have left answer no later request.
    pub fn output(&mut self) -> Option<Vec<u8>> {
        self.shown.clear();
        self.uplink.output()
    }

    pub(super) fn take(
        &mut self,
        lent: &mut Lent<'_>,
        events: impl IntoIterator<Item = UplinkEvent<Token>>,
    ) {
        for event in events {
            match event {
                UplinkEvent::Reply(token, reply) => self.on_reply(lent, token, &reply),
                UplinkEvent::Failed(token, why) => self.on_failed(lent, token, why),
                UplinkEvent::Push { text, .. } => {
                    if let Ok(push) = StorePush::decode(&text) {
                        self.on_push(lent, push);
                    }
                }
                UplinkEvent::Connected { is_fresh, secret, .. } => {
                    self.on_store_reached(lent, is_fresh, &secret);
                }
                UplinkEvent::Lost => self.lost = self.lost.or(Some(lent.now.mono)),
                UplinkEvent::Fatal(problem) => self.problem = Some(problem),
            }
        }
    }

    fn on_reply(&mut self, lent: &mut Lent<'_>, token: Token, reply: &Reply) {
        if token.is_of_function() && Status::of(reply) == Status::Fault {
            self.on_fault();
        }
        match token {
            Token::Plan(key) => self.advance(lent, key, Awaited::Reply(reply)),
            Token::First(key) => {
                self.on_first_settled(lent.now.mono);
                self.advance(lent, key, Awaited::Reply(reply));
            }
            Token::Post(posting) => self.on_post_answer(lent, *posting, Ok(reply)),
            Token::Event(room) => self.on_entry_at(lent, room, reply, 1),
            Token::History(room) => self.on_history(lent, room, reply),
            Token::Resync(room) => self.on_resynced(lent, room, reply),
            Token::Listing(partition) => self.on_listing(lent, partition, Some(reply)),
            Token::Memory => self.on_memory(lent.now.mono, reply.as_bytes()),
            Token::Beat(partition) => self.on_beat(lent.now.mono, partition, reply),
            Token::Reap(partition) => self.on_reaped(lent, partition, reply),
            Token::Declared(session) => self.on_declared(lent, session, Some(reply)),
            Token::Missed(room) => self.on_missed(lent, room, Some(reply)),
            Token::Counted(what) => self.on_counted(lent, what, Some(reply)),
            Token::Detach(_) | Token::Nothing => {}
        }
    }

    /// Requests that wait for the reply are told that the store is away: see `refusal`.
    fn on_fault(&mut self) {
        if !std::mem::replace(&mut self.has_faulted, true) {
            error!("the store answers a function in a way that this version does not know");
        }
    }

    fn on_failed(&mut self, lent: &mut Lent<'_>, token: Token, why: CallFailure) {
        let is_lost = matches!(why, CallFailure::Away | CallFailure::Unknown);
        match token {
            Token::Plan(key) => self.abandon(lent, key, why),
            Token::First(key) => {
                self.on_first_settled(lent.now.mono);
                self.abandon(lent, key, why);
            }
            Token::Post(posting) => {
                self.on_post_answer(lent, *posting, Err(refusal_of(why)));
            }
            Token::Listing(partition) => self.on_listing(lent, partition, None),
            Token::History(room) | Token::Resync(room) if !is_lost => {
                self.on_out_of_date(lent, room);
            }
            // Rooms are resynchronized when the store is there again.
            Token::History(_) | Token::Resync(_) | Token::Event(_) => {}
            Token::Detach(session) => _ = self.undeclared.insert(session.bits()),
            Token::Declared(session) if !is_lost => self.on_declared(lent, session, None),
            Token::Missed(room) if !is_lost => self.on_missed(lent, room, None),
            Token::Counted(what) if !is_lost => self.on_counted(lent, what, None),
            // Without a connection, catching up begins again with the next one.
            Token::Declared(session) => _ = self.undeclared.insert(session.bits()),
            Token::Missed(_) | Token::Counted(_) => {}
            Token::Memory | Token::Beat(_) | Token::Reap(_) | Token::Nothing => {}
        }
    }

    fn on_push(&mut self, lent: &mut Lent<'_>, push: StorePush<'_>) {
        match push {
            StorePush::Message(appended) => self.on_said(lent, appended),
            StorePush::Facts(facts) => self.on_changed_to(lent, &facts),
            StorePush::Typing { room, user_id, user } => {
                self.on_typing(lent, room, user_id, user, TYPING_SLACK);
            }
            StorePush::Kicked { room, user_id, reason } => {
                self.close_person(lent, room, user_id, reason);
            }
            StorePush::RoomOver { room, reason } => self.on_room_over(lent, room, reason),
            StorePush::SessionEnded(session) => self.close_session(lent, session),
            StorePush::Probe { room, user_id } => self.on_probe(lent, room, user_id),
            StorePush::Alive { room, user_id } => self.on_holder_alive(lent, room, user_id),
            StorePush::NameFree { room, folded } => self.on_name_free(lent, room, folded),
            StorePush::Announcement(text) => self.announcements.push(text.to_owned()),
            StorePush::Unknown => {}
        }
    }
}
