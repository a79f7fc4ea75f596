//! The values that a route receives and returns.
//!
//! Owns [`Call`], and what several routes share: reading a body and naming a room. Must not know which
//! routes exist. The invariant: a route only reads the request. What it asks of the domain leaves as
//! a [`Command`], so that the outcome may come in a later tick.

use std::borrow::Cow;
use std::time::Duration;

use super::error::Error;
use super::message_list::MessageList;
use super::object::{self, FieldValue};
use super::upgrade::UpgradeRequest;
use crate::chat::{Address, Command, RoomId, RoomKey, SessionId, Start};
use crate::clock::Now;
use crate::http::{Request, Response};

/// The time and the peer of a request, from the event loop.
#[derive(Clone, Copy)]
pub struct Caller {
    pub now: Now,
    /// Time since the process began to serve.
    pub uptime: Duration,
    /// Open connections, HTTP and WebSocket together.
    pub connections: u64,
    /// The address that creations and password guesses count against; `None` for an exempt peer
    /// (contract §12.19).
    pub address: Option<Address>,
    /// Whether the store of the cluster can be reached; `None`: this server is in no cluster.
    #[cfg(feature = "cluster")]
    pub is_store_up: Option<bool>,
}

/// The answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// A response, complete except for its framing.
    Response(Response),
    /// A response with messages of a room. If there is a rest, its content follows when the client
    /// has mostly read the response.
    Messages(Response, RoomKey, Option<MessageList>),
    /// An error. The caller counts it by its code and answers with
    /// [`Api::refusal`](super::Api::refusal).
    Refused(Error),
    /// A request for an event stream. The caller asks the domain.
    Events(EventsRequest),
    /// A request for a socket. The caller checks the handshake and the origin, then asks the domain.
    Socket(UpgradeRequest),
}

/// The encoding of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventFormat {
    /// `text/event-stream`, for `EventSource`
    /// (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
    EventStream,
    /// `application/x-ndjson`: each event is a line of JSON.
    Lines,
}

/// A request for an event stream that may begin, as far as the request itself goes.
#[derive(Clone, Copy, Debug)]
pub struct EventsRequest {
    pub session: SessionId,
    pub room: RoomId,
    pub start: Start,
    pub format: EventFormat,
}

/// What a route makes of a request.
pub enum Step<'a> {
    /// The answer needs nothing of the domain.
    Respond(Response),
    /// The answer is made of the outcome.
    Run(Command<'a>),
    /// The request will be refused, unless its session does not exist, which is told first (contract
    /// §1.11).
    Refuse(SessionId, Error),
    /// The connection becomes a WebSocket.
    Upgrade(UpgradeRequest),
}

/// The `detail` if an optional body is not an object.
const NEITHER_EMPTY_NOR_AN_OBJECT: &str = "The body is neither empty nor a JSON object.";

/// The request, and what a route may know besides.
pub struct Call<'a> {
    pub request: &'a Request,
    pub caller: &'a Caller,
    /// The longest ttl of a room.
    pub room_life_max: Duration,
    /// The decoded path segment that the route's `{…}` matched; empty if the route has none.
    pub segment: Cow<'a, str>,
    /// The one that the route's second `{…}` matched; empty if the route has at most one.
    pub second_segment: Cow<'a, str>,
}

impl<'a> Call<'a> {
    /// The values of the fields `names` in the body, which must be a JSON object; else 422.
    pub fn fields<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[Option<FieldValue<'a>>; N], Error> {
        let mut values = [const { None }; N];
        match object::body_fields(self.request.body(), &names, &mut values) {
            Ok(true) => Ok(values),
            _ => Err(Error::bad_body("The body is not a JSON object.")),
        }
    }

    /// Like [`Call::fields`], for a body that may be empty and then has no field.
    pub fn optional_fields<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[Option<FieldValue<'a>>; N], Error> {
        let mut values = [const { None }; N];
        match object::body_fields(self.request.body(), &names, &mut values) {
            Ok(_) => Ok(values),
            Err(_) => Err(Error::bad_body(NEITHER_EMPTY_NOR_AN_OBJECT)),
        }
    }

    /// The id of the room that the path names. `None` if it is malformed; like an unknown id it names
    /// no room (contract §1.13).
    pub fn room(&self) -> Option<RoomId> {
        RoomId::parse(&self.segment)
    }

    /// The room's id in the path as an answer shows it: in lower case (contract §1.28). A segment of
    /// another form, which names no room, stays as it is.
    pub fn room_text(&self) -> String {
        match self.room() {
            Some(id) => id.to_string(),
            None => self.segment.clone().into_owned(),
        }
    }
}

/// Checks a body that the route ignores: empty or a JSON object, else 422 (contract §1.8).
pub fn check_ignored_body(request: &Request) -> Result<(), Error> {
    match object::body_fields(request.body(), &[], &mut []) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::bad_body(NEITHER_EMPTY_NOR_AN_OBJECT)),
    }
}
