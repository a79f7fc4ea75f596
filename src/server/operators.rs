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
use crate::api::admin::{self, AdminAnswer, AdminCall};
use crate::api::error::{Code, Error};
use crate::api::metrics::{self, Metrics};
use crate::api::routes;
use crate::http::{Request, Response, Version};
use crate::ledger::Account;
use crate::net::{Piece, Stream};
use crate::ws;

impl<S: Stream> Core<S> {
    pub(super) fn on_operator_request(
        &mut self,
        key: ConnectionKey,
        request: &Request,
        purpose: Purpose,
    ) {
        let is_for_metrics =
            purpose == Purpose::Metrics || routes::is_path(request.path(), "/metrics");
        let answer = match is_for_metrics {
            true => self.metrics(request).map(AdminAnswer::Response),
            false => self.operate(request),
        };
        match answer {
            Ok(AdminAnswer::Response(response)) => self.respond(key, request, response),
            Ok(AdminAnswer::Announced(..)) if self.table.announcements.is_full() => {
                let error = Error::new(Code::RateLimited, "Other announcements are on their way.");
                self.table.counters.on_refused(error.code.index());
                self.respond(key, request, error.response());
            }
            Ok(AdminAnswer::Announced(response, event)) => {
                self.table.announce(&event);
                self.respond(key, request, response);
            }
            Ok(AdminAnswer::Rooms(response, list)) => {
                let is_chunked = request.version() > Version::Http10;
                let content = ResponseContent::Rooms { list, is_chunked };
                self.begin_response(key, request, response, content);
                self.continue_response(key);
            }
            Err(error) => {
                self.table.counters.on_refused(error.code.index());
                self.respond(key, request, error.response());
            }
        }
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
        };
        metrics::answer(request, &metrics)
    }

    fn operate(&mut self, request: &Request) -> Result<AdminAnswer, Error> {
        if self.is_shutting_down {
            return Err(api::error::shutting_down());
        }
        let (chat, now) = (&mut self.chat, self.table.now);
        admin::answer(&mut AdminCall { chat, request, now, sink: &mut self.table })
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
