//! The contract, between HTTP and the domain: what clients may ask, and what they are told.
//!
//! Owns routes, JSON, codes and CORS. Must never know a socket, or when an answer is sent: a
//! request comes in as a value, and an answer leaves as one. The invariant: every answer is in
//! the contract's form, so whoever calls [`Api::answer`] has nothing to add but framing.
//!
//! | file | what it owns |
//! |---|---|
//! | `routes` | the table of paths and methods, and what each asks for first |
//! | `credential`, `query`, `upgrade` | who is asking, for how much, and for which socket |
//! | `sessions`, `rooms`, `messages`, `health`, `files` | the routes' work |
//! | `listings` | the listing of rooms, while it is true |
//! | `metrics` | what a listener for metrics answers |
//! | `socket` | client events in; refusals and closes out |
//! | `json`, `object` | JSON out, JSON in |
//! | `error` | every code, and what leads to which |
//! | `cors` | pages of other origins |
//! | `forwarded` | whose share a request counts against |

mod call;
mod cors;
mod credential;
pub mod error;
mod files;
pub mod forwarded;
mod health;
pub mod json;
mod listings;
mod messages;
pub mod metrics;
mod object;
mod query;
mod rooms;
pub mod routes;
mod sessions;
pub mod socket;
#[cfg(test)]
mod tests;
mod upgrade;

use std::net::IpAddr;

pub use call::{Answer, Caller};
pub use forwarded::ClientAddress;
pub use upgrade::UpgradeRequest;

use crate::chat::{Address, Chat, Sink};
use crate::config::{Cidr, Config};
use crate::http::{Method, Request, Response, ResponseField};
use crate::ledger::Ledger;
use call::Call;
use cors::Cors;
use error::{Code, Error};
use listings::Listings;

/// What of the contract is set by flags, and what can be answered twice.
pub struct Api {
    cors: Cors,
    trusted_proxies: Vec<Cidr>,
    listings: Listings,
}

impl Api {
    /// As `config` says.
    pub fn new(config: &Config, ledger: &Ledger) -> Api {
        Api {
            cors: Cors::new(config.cors_origins.clone()),
            trusted_proxies: config.trusted_proxies.clone(),
            listings: Listings::new(ledger),
        }
    }

    /// Answers one request.
    pub fn answer(
        &mut self,
        chat: &mut Chat,
        request: &Request,
        caller: &Caller,
        sink: &mut dyn Sink,
    ) -> Answer {
        match self.answer_or_error(chat, request, caller, sink) {
            Ok(Answer::Response(response)) => {
                Answer::Response(self.with_cors_fields(Some(request), response))
            }
            Ok(answer) => answer,
            Err(error) => Answer::Refused(error),
        }
    }

    /// How `error` is answered. `request` is `None` if it could not be read.
    pub fn refusal(&self, request: Option<&Request>, error: Error) -> Response {
        self.with_cors_fields(request, error.response())
    }

    /// Gives an answer the fields of CORS. What it varies by stands on one line: of several, nginx
    /// before 1.23 reads the last.
    fn with_cors_fields(&self, request: Option<&Request>, mut response: Response) -> Response {
        for (name, value) in self.cors(request) {
            match response.fields.iter_mut().find(|(own, _)| *own == name) {
                Some((_, list)) => list.to_mut().extend([", ", &*value]),
                None => response.fields.push((name, value)),
            }
        }
        response
    }

    /// The fields of CORS alone, for a 101.
    pub fn cors(&self, request: Option<&Request>) -> Vec<ResponseField> {
        self.cors.fields(request)
    }

    /// Whether the page that wants a socket may have it; else [`error::bad_origin`].
    pub fn allows_origin(&self, request: &Request) -> bool {
        self.cors.allows(request)
    }

    /// Whose share a request from `peer` (`None`: a Unix socket) counts against.
    pub fn client(&self, request: &Request, peer: Option<IpAddr>) -> ClientAddress {
        forwarded::client(request, peer, &self.trusted_proxies)
    }

    /// Whether `peer` (`None`: a Unix socket) is believed when it says whom it brings.
    pub fn is_proxy(&self, peer: Option<IpAddr>) -> bool {
        forwarded::is_proxy(peer, &self.trusted_proxies)
    }

    /// Whose share a connection from `peer` counts against from accept on. `None`: nobody's yet;
    /// if it upgrades, [`Api::client`]'s.
    pub fn client_at_accept(&self, peer: Option<IpAddr>) -> Option<Address> {
        forwarded::address_at_accept(peer, &self.trusted_proxies)
    }

    fn answer_or_error(
        &mut self,
        chat: &mut Chat,
        request: &Request,
        caller: &Caller,
        sink: &mut dyn Sink,
    ) -> Result<Answer, Error> {
        if let Some(preflight) = self.cors.preflight(request) {
            return Ok(Answer::Response(preflight));
        }
        let options = |allow: String| Answer::Response(Response::new(204).with("Allow", allow));
        if request.path() == "*" {
            // RFC 9110 §9.3.7: about the server, not about anything on it.
            return Ok(options("GET, HEAD, POST, DELETE, OPTIONS".to_owned()));
        }
        let found = routes::match_path(request.path())
            .ok_or_else(|| Error::new(Code::NotFound, "There is nothing at this path."))?;
        if request.method() == Method::Options {
            return Ok(options(found.allow()));
        }
        let route = found.route(request.method())?;
        let listings = &mut self.listings;
        route.answer(&mut Call { chat, listings, request, caller, sink, segment: found.segment })
    }

    /// A tick is over: nothing is kept of what isn't true any more, or can be made from nothing.
    pub fn on_tick_end(&mut self, chat: &Chat) {
        match chat.room_count() {
            0 => self.listings.clear(),
            _ => self.listings.retain(chat.listing_revision()),
        }
    }
}
