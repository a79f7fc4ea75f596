//! Requests on the listeners for operators, and announcements.
//!
//! Owns the way of such a request to its answer, and how an announcement reaches every member's
//! connection. Must not know what the operator's routes do. The invariant: an announcement is spread
//! over as many ticks as it takes, so that a tick's work does not grow with the connections.

use super::connection::{Connection, ConnectionKey, Purpose, ResponseContent};
use super::core::Core;
use super::schedule::{self, FanOut};
use super::table::Table;
use crate::api;
use crate::api::admin::{self, AdminStep};
use crate::api::error::{Code, Error};
use crate::api::metrics::{self, Metrics};
use crate::api::{RoomList, json, routes};
#[cfg(feature = "cluster")]
use crate::chat::Command;
use crate::http::{Request, Response, Version};
use crate::ledger::Account;
use crate::net::{Piece, Stream};
use crate::ws;

impl<S: Stream> Core<S> {
    pub(super) fn on_operator_request(
        &mut self,
        key: ConnectionKey,
        request: Request,
        purpose: Purpose,
    ) {
        let asked = request;
        let request = &asked;
        let is_for_metrics =
            purpose == Purpose::Metrics || routes::is_path(request.path(), "/metrics");
        let step = match is_for_metrics {
            true => self.metrics(request).map(AdminStep::Respond),
            false if self.is_shutting_down => Err(api::error::shutting_down()),
            false => admin::ask(request),
        };
        match step {
            Ok(AdminStep::Respond(response)) => self.respond(key, request, response),
            #[cfg(feature = "cluster")]
            Ok(AdminStep::Run(command)) if self.cluster.is_some() => {
                match self.operate_cluster(key, command) {
                    Ok(()) => self.park(key, asked),
                    Err(refusal) => self.answer_operator(key, request, Err(refusal.into())),
                }
            }
            Ok(AdminStep::Run(command)) => {
                let outcome = self.chat.run(self.table.now, command, &mut self.table);
                let answer = admin::tell(request, outcome);
                self.answer_operator(key, request, answer);
            }
            Ok(AdminStep::Announce(..)) if self.table.announcements.is_full() => {
                let error = Error::new(Code::RateLimited, "Other announcements are on their way.");
                self.answer_operator(key, request, Err(error));
            }
            Ok(AdminStep::Announce(response, text)) => {
                self.announce(&text);
                #[cfg(feature = "cluster")]
                self.announce_to_cluster(&text);
                self.respond(key, request, response);
            }
            #[cfg(feature = "cluster")]
            Ok(AdminStep::ListRooms(_)) if self.cluster.is_some() => {
                match self.operate_cluster(key, Command::ListAllRooms) {
                    Ok(()) => self.park(key, asked),
                    Err(refusal) => self.answer_operator(key, request, Err(refusal.into())),
                }
            }
            Ok(AdminStep::ListRooms(response)) => {
                self.list_rooms(key, request, response, RoomList::default());
            }
            Err(error) => self.answer_operator(key, request, Err(error)),
        }
    }

    /// Sends the answer to the operator.
    pub(super) fn answer_operator(
        &mut self,
        key: ConnectionKey,
        request: &Request,
        answer: Result<Response, Error>,
    ) {
        let response = answer.unwrap_or_else(|error| {
            self.table.counters.on_refused(error.code.index());
            error.response()
        });
        self.respond(key, request, response);
    }

    /// Begins to send a list of rooms.
    pub(super) fn list_rooms(
        &mut self,
        key: ConnectionKey,
        request: &Request,
        response: Response,
        list: RoomList,
    ) {
        let is_chunked = request.version() > Version::Http10;
        let content = ResponseContent::Rooms { list, is_chunked };
        self.begin_response(key, request, response, content);
        self.continue_response(key);
    }

    /// Begins to send an announcement to every connection of a member.
    pub(super) fn announce(&mut self, text: &str) {
        self.table.announce(&json::announcement(text, self.table.now.wall));
    }

    fn metrics(&self, request: &Request) -> Result<Response, Error> {
        let memory = Account::ALL.map(|account| (account.as_str(), self.ledger.bytes(account)));
        let metrics = Metrics {
            started: self.started,
            counters: &self.table.counters,
            chat: &self.chat,
            timers: self.timer_count(),
            memory: &memory,
            memory_max: Some(self.ledger.ceiling()),
            resident: self.resident_bytes,
            #[cfg(feature = "cluster")]
            store: self.cluster.as_deref().map(crate::cluster::Cluster::counters),
        };
        metrics::answer(request, &metrics)
    }
}

impl<S: Stream> Table<S> {
    /// Begins to send an event to every connection of a member.
    fn announce(&mut self, event: &[u8]) {
        let mut frame = Vec::new();
        ws::encode_text(&mut frame, |out| out.extend_from_slice(event));
        let tally = self.ledger.tally(Account::Frames);
        self.announcements.push(Piece::for_many(frame.into_boxed_slice(), tally));
    }

    /// Queues the oldest announcement for the next connections.
    pub fn announce_some(&mut self) {
        if self.announcements.is_empty() {
            return;
        }
        let mut recipients_left = schedule::ENDS_MAX;
        for _ in 0..schedule::ANNOUNCED_PLACES_MAX {
            if recipients_left == 0 {
                break;
            }
            let next = self.announcements.next(self.slots.end());
            let Some((frame, index)) = next else { break };
            let Some(key) = self.slots.key_at(index) else { continue };
            let connection = self.slots.get_mut(key).and_then(Connection::recipient);
            if connection.is_some_and(|recipient| recipient.attachment.is_some()) {
                recipients_left -= 1;
                self.on_steps(1);
                self.push_announcement(key, frame, FanOut::Large);
            }
        }
        self.transcoder.clear();
    }
}
