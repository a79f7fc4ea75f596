//! The contract: routes, JSON, errors and CORS, between HTTP and the domain.
//!
//! Owns everything that clients may request, and the form of every answer. Must not know a socket,
//! or when an answer is sent: a request comes in as a value, and an answer goes out as one. The
//! invariant: every response is complete as the contract describes it, so the caller adds only
//! framing.
//!
//! | file | what it owns |
//! |---|---|
//! | `routes` | the table of paths and methods, and the checks before a route runs |
//! | `call` | the values that a route receives and returns |
//! | `sessions`, `rooms`, `messages`, `moderation`, `health`, `files` | the routes: each reads a request into a command, and puts the outcome into the form of the contract |
//! | `outcome` | which outcome has which form |
//! | `events` | event streams: when one may begin, and in which format |
//! | `credential`, `query`, `upgrade` | the session's id, the query, and upgrade requests |
//! | `listings` | the cached listings of rooms |
//! | `message_list` | a list of messages, encoded while the client reads it |
//! | `metrics` | the answers of a listener for metrics |
//! | `admin`, `room_list` | the operator's routes, and its list of all rooms |
//! | `socket` | client events in, refusals and closes out |
//! | `json`, `object` | JSON output, JSON input |
//! | `error` | every error code, and the mapping of errors to codes |
//! | `cors` | requests from pages of other origins |
//! | `forwarded` | the client address behind proxies |

pub mod admin;
mod call;
mod cors;
mod credential;
pub mod error;
pub mod events;
mod files;
pub mod forwarded;
mod health;
pub mod json;
mod listings;
mod message_list;
mod messages;
pub mod metrics;
mod moderation;
mod object;
mod outcome;
mod query;
mod room_list;
mod rooms;
pub mod routes;
mod sessions;
pub mod socket;
#[cfg(test)]
mod tests;
mod upgrade;

use std::net::IpAddr;
use std::time::Duration;

pub use call::{Answer, Caller, EventFormat, EventsRequest};
pub use forwarded::ClientAddress;
pub use message_list::MessageList;
pub use object::texts;
pub use room_list::RoomList;
pub use upgrade::UpgradeRequest;

use crate::chat::{Address, Chat, Command, Outcome, Refusal, SessionCommand, Sink};
use crate::config::{Cidr, Config};
use crate::http::{Method, Request, Response};
use crate::ledger::Ledger;
use call::{Call, Step};
use cors::Cors;
use error::Error;
use forwarded::UntrustedProxies;
use listings::Listings;
use routes::Route;

/// What a request asks of the domain, or its answer if it asks nothing.
pub enum Asked<'a> {
    Answer(Answer),
    Command(Command<'a>),
}

/// A request that a route has read.
enum Read<'a> {
    Answer(Answer),
    Command(&'static Route, Call<'a>, Command<'a>),
}

/// The configurable parts of the contract, and its cached answers.
pub struct Api {
    cors: Cors,
    trusted_proxies: Vec<Cidr>,
    untrusted_proxies: UntrustedProxies,
    listings: Listings,
    room_life_max: Duration,
}

impl Api {
    /// Takes the allowed origins, the trusted proxies and the longest ttl from `config`.
    pub fn new(config: &Config, ledger: &Ledger) -> Api {
        Api {
            cors: Cors::new(config.cors_origins.clone()),
            trusted_proxies: config.trusted_proxies.clone(),
            untrusted_proxies: UntrustedProxies::default(),
            listings: Listings::new(ledger),
            room_life_max: config.room_life_max,
        }
    }

    /// Answers a request at once.
    pub fn answer(
        &mut self,
        chat: &mut Chat,
        request: &Request,
        caller: &Caller,
        sink: &mut dyn Sink,
    ) -> Answer {
        let answer = self.read(request, caller).and_then(|read| match read {
            Read::Answer(answer) => Ok(answer),
            Read::Command(route, call, command) => {
                let outcome = chat.run(caller.now, command, sink)?;
                outcome::answer(route, &call, &mut self.listings, outcome)
            }
        });
        self.complete(request, answer)
    }

    /// Reads a request that will be answered by [`Api::tell`].
    pub fn ask<'a>(&self, request: &'a Request, caller: &'a Caller) -> Asked<'a> {
        match self.read(request, caller) {
            Ok(Read::Command(_, _, command)) => Asked::Command(command),
            Ok(Read::Answer(answer)) => Asked::Answer(self.complete(request, Ok(answer))),
            Err(error) => Asked::Answer(Answer::Refused(error)),
        }
    }

    /// Answers a request whose command has had this outcome.
    pub fn tell(
        &mut self,
        request: &Request,
        caller: &Caller,
        outcome: Result<Outcome<'_>, Refusal>,
    ) -> Answer {
        let answer =
            outcome.map_err(Error::from).and_then(|outcome| match self.read(request, caller)? {
                Read::Answer(_) => Err(error::internal()),
                Read::Command(route, call, _) => {
                    outcome::answer(route, &call, &mut self.listings, outcome)
                }
            });
        self.complete(request, answer)
    }

    /// Adds the fields of CORS to a response.
    fn complete(&self, request: &Request, answer: Result<Answer, Error>) -> Answer {
        let mut answer = answer.unwrap_or_else(Answer::Refused);
        if let Answer::Response(response) | Answer::Messages(response, ..) = &mut answer {
            self.cors.add_fields(Some(request), &mut response.fields);
        }
        answer
    }

    /// The response for `error`. `request` is `None` if its head could not be parsed.
    pub fn refusal(&self, request: Option<&Request>, error: Error) -> Response {
        self.with_cors_fields(request, error.response())
    }

    /// Adds the fields of CORS, which a 101 has, too.
    pub fn with_cors_fields(&self, request: Option<&Request>, mut response: Response) -> Response {
        self.cors.add_fields(request, &mut response.fields);
        response
    }

    /// Whether the page that sent the request may open a socket. If not, the answer is
    /// [`error::bad_origin`].
    pub fn allows_origin(&self, request: &Request) -> bool {
        self.cors.allows(request)
    }

    /// The address that a request from `peer` (`None`: a Unix socket) counts against.
    pub fn client(&mut self, request: &Request, peer: Option<IpAddr>) -> ClientAddress {
        forwarded::client(request, peer, &self.trusted_proxies, &mut self.untrusted_proxies)
    }

    /// `peer`, which is not trusted, has sent a PROXY header.
    pub fn on_proxy_header(&mut self, peer: IpAddr) {
        self.untrusted_proxies.on_forwarded(peer, "a PROXY header");
    }

    /// Whether `peer` is a trusted proxy. A Unix socket (`None`) always is.
    pub fn is_proxy(&self, peer: Option<IpAddr>) -> bool {
        forwarded::is_proxy(peer, &self.trusted_proxies)
    }

    /// The address that a connection from `peer` counts against once accepted. `None` if it does
    /// not count yet. In that case an upgrade counts against the address that [`Api::client`]
    /// returns.
    pub fn client_at_accept(&self, peer: Option<IpAddr>) -> Option<Address> {
        forwarded::address_at_accept(peer, &self.trusted_proxies)
    }

    /// Finds the route of a request, which reads it.
    fn read<'a>(&self, request: &'a Request, caller: &'a Caller) -> Result<Read<'a>, Error> {
        if let Some(preflight) = self.cors.preflight(request) {
            return Ok(Read::Answer(Answer::Response(preflight)));
        }
        let options =
            |allow: String| Read::Answer(Answer::Response(Response::new(204).with("Allow", allow)));
        let path = request.path();
        if path == "*" {
            // RFC 9110 §9.3.7: a request about the server as a whole.
            return Ok(options("GET, HEAD, POST, PATCH, DELETE, OPTIONS".to_owned()));
        }
        let found = routes::match_path(path).ok_or_else(error::no_such_path)?;
        if request.method() == Method::Options {
            return Ok(options(found.allow()));
        }
        let route = found.route(request.method())?;
        let [segment, second_segment] = found.segments;
        let room_life_max = self.room_life_max;
        let call = Call { request, caller, room_life_max, segment, second_segment };
        Ok(match route.ask(&call)? {
            Step::Respond(response) => Read::Answer(Answer::Response(response)),
            Step::Upgrade(upgrade) => Read::Answer(Answer::Socket(upgrade)),
            Step::Run(command) => Read::Command(route, call, command),
            Step::Refuse(id, _) => {
                Read::Command(route, call, Command::Of(id, SessionCommand::Touch))
            }
        })
    }

    /// Frees listings that are outdated, or that are empty because there are no rooms.
    pub fn on_tick_end(&mut self, chat: &Chat) {
        match chat.room_count() {
            0 => self.listings.clear(),
            _ => self.listings.retain(chat.listing_revision()),
        }
    }
}
