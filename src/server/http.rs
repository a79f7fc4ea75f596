//! HTTP: one connection's requests on their way into the domain, its responses on their way out.
//!
//! Owns what a connection does between requests, and the upgrade. Must not know a socket, or what a
//! route does. The invariant: a connection that speaks HTTP always has a timer: `Linger` if it is
//! over a limit, `Head` before its first request and while a head is incomplete, `Body` while a
//! body is incomplete, otherwise `Idle`, which waits for the next request or for the peer to read
//! its responses.

use bytes::Bytes;

use super::admission;
use super::connection::{
    Connection, ConnectionKey, EventStream, Opening, OverLimit, Protocol, Recipient,
    ResponseContent, ResponseRest, TimeoutKind, Ws,
};
use super::core::Core;
use super::event_stream::Form;
use super::schedule::ANSWERED_BYTES_MAX;
use super::table::{Ended, Table};
use crate::api::error::Error;
use crate::api::{self, Answer, Caller, ClientAddress, EventsRequest, UpgradeRequest};
use crate::chat::{
    Admission, CloseReason, Departure, JoinRequest, Quota, RoomId, SessionId, Start,
};
use crate::clock::Mono;
#[cfg(feature = "cluster")]
use crate::cluster::EntryRequest;
use crate::http::{self, Fed, Framing, Method, Phase, Request, Response, Version};
use crate::ledger::Pressure;
use crate::net::{Piece, Stream};
use crate::ws::Context;
use crate::ws::handshake::{self, NotAccepted};

impl<S: Stream> Core<S> {
    // ---- Input

    pub(super) fn on_http_bytes(&mut self, key: ConnectionKey, input: &[u8]) {
        let Some(mut input) = self.strip_proxy_header(key, input) else { return };
        loop {
            let Some(connection) = self.table.slots.get_mut(key) else { return };
            let Protocol::Http(http) = &mut connection.protocol else {
                return self.on_bytes(key, &mut input.to_vec()); // Upgraded or closing: no more requests.
            };
            if http.is_parked
                || http.rest.is_some()
                || connection.link.outbox().queued() > ANSWERED_BYTES_MAX
                || self.table.work.bytes_out > ANSWERED_BYTES_MAX
            {
                return self.buffer(key, input); // Continued when the responses have left.
            }
            let fed = http.codec.feed(&mut input);
            let phase = http.codec.phase();
            let over_limit = connection.over_limit.filter(|_| phase == Phase::Body);
            match (fed, over_limit) {
                (Err(reject), _) => return self.reject(key, None, reject.into()),
                (Ok(Fed::Request(request)), None) if self.must_hold(&request) => {
                    return self.hold(key, request, input);
                }
                (Ok(Fed::Request(request)), _) => {
                    self.on_request(key, request);
                    if input.is_empty() {
                        return; // As nearly always: no request is pipelined, and no frame sent early.
                    }
                }
                // The head is complete; the refusal does not depend on the body.
                (Ok(_), Some(over_limit)) => {
                    return self.reject(key, None, admission::refusal(over_limit));
                }
                (Ok(Fed::Continue), None) => {
                    self.table.push(key, Piece::shared(Bytes::from_static(http::CONTINUE)));
                }
                (Ok(Fed::Partial), None) => return self.await_rest(key, phase),
            }
        }
    }

    /// Whether earlier output of the room that the request names has to be written first, as for an
    /// event of a member. The room is known only from the whole request, so that it is held.
    fn must_hold(&self, request: &Request) -> bool {
        let may_wait = self.table.outgoing.has_backlog() && !self.table.batches.is_background;
        let room = || self.chat.room(api::routes::room_of(request.path())?);
        may_wait && room().is_some_and(|room| self.is_behind(room))
    }

    /// Keeps a request, and the input after it, for a turn in the background.
    fn hold(&mut self, key: ConnectionKey, request: Request, input: &[u8]) {
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        let Protocol::Http(http) = &mut connection.protocol else { return };
        http.codec.put_back(request);
        self.table.set_timer(key, Some(TimeoutKind::Idle));
        self.buffer(key, input);
        self.table.schedule_in_background(key);
    }

    /// Arms the timer of a request's phase. Further bytes of the same phase do not extend its
    /// deadline.
    fn await_rest(&mut self, key: ConnectionKey, phase: Phase) {
        let timeout = match phase {
            Phase::Idle => return, // Armed at accept or with the last response.
            Phase::Head => TimeoutKind::Head,
            Phase::Body => TimeoutKind::Body,
        };
        // A connection over a limit has only the time that it was given when it was accepted.
        let over_limit = self.table.slots.get(key).and_then(|connection| connection.over_limit);
        if over_limit.is_none() && self.table.timeout(key) != Some(timeout) {
            self.table.set_timer(key, Some(timeout));
        }
    }

    /// The deadline of a phase has passed, or the server is shutting down.
    pub(super) fn on_request_timeout(&mut self, key: ConnectionKey) {
        let Some(connection) = self.table.slots.get(key) else { return };
        match &connection.protocol {
            Protocol::Http(http) if http.codec.phase() != Phase::Idle => {
                let error = match self.is_shutting_down {
                    true => api::error::shutting_down(),
                    false => api::error::timeout(),
                };
                self.reject(key, None, error);
            }
            _ => self.table.end(key, Departure::Closed), // No request has begun.
        }
    }

    fn on_request(&mut self, key: ConnectionKey, request: Request) {
        if cfg!(debug_assertions) {
            self.trip(request.path().split('/').nth(1).unwrap_or_default());
        }
        self.table.counters.requests += 1;
        self.table.work.requests += 1;
        self.has_read_secrets |= request.fields("Authorization").next().is_some()
            || !(request.query().is_empty() && request.body().is_empty());
        let Some(connection) = self.table.slots.get(key) else { return };
        let Protocol::Http(http) = &connection.protocol else { return };
        let events = request;
        let request = &events;
        if http.purpose.is_for_operators() {
            let purpose = http.purpose;
            return self.on_operator_request(key, events, purpose);
        }
        let client = self.api.client(request, http.peer);
        // An upgrade over the address's quota succeeds and is refused by a close, because a
        // browser cannot read a failed handshake.
        let over_limit = connection.over_limit;
        let is_closed_later =
            over_limit == Some(OverLimit::Address) && handshake::check(request).is_ok();
        if let Some(over_limit) = over_limit.filter(|_| !is_closed_later) {
            return self.reject(key, Some(request), admission::refusal(over_limit));
        }
        if self.is_shutting_down {
            return self.reject(key, Some(request), api::error::shutting_down());
        }
        #[cfg(debug_assertions)]
        if over_limit.is_none() && self.is_delaying() {
            self.delay.push(key);
            return self.park(key, events);
        }
        let caller = self.caller(client);
        #[cfg(feature = "cluster")]
        let answer = match self.ask_cluster(key, request, &caller) {
            Some(Some(answer)) => answer,
            Some(None) => return self.park(key, events),
            None => self.api.answer(&mut self.chat, request, &caller, &mut self.table),
        };
        #[cfg(not(feature = "cluster"))]
        let answer = self.api.answer(&mut self.chat, request, &caller, &mut self.table);
        match (answer, over_limit) {
            (Answer::Socket(upgrade), _) => self.upgrade(key, request, &upgrade, client),
            // A valid handshake on a path without a WebSocket. It is still over the limit, so it is
            // refused.
            (_, Some(over_limit)) => {
                self.reject(key, Some(request), admission::refusal(over_limit));
            }
            (answer, None) => self.on_answer(key, events, answer, client),
        }
    }

    /// What the API may know of the peer of a request.
    pub(super) fn caller(&self, client: ClientAddress) -> Caller {
        Caller {
            now: self.table.now,
            uptime: self.uptime(),
            connections: self.table.counters.connections,
            address: client.address,
            #[cfg(feature = "cluster")]
            is_store_up: self.is_store_up(),
        }
    }

    /// Sends the answer to a request, or begins what it asked for.
    pub(super) fn on_answer(
        &mut self,
        key: ConnectionKey,
        request: Request,
        answer: Answer,
        client: ClientAddress,
    ) {
        match answer {
            Answer::Socket(upgrade) => self.upgrade(key, &request, &upgrade, client),
            Answer::Response(response) => self.respond(key, &request, response),
            Answer::Messages(response, room, rest) => {
                self.table.carry(key, room);
                match rest {
                    Some(rest) => {
                        let rest = ResponseContent::Messages(rest);
                        self.begin_response(key, &request, response, rest);
                    }
                    None => self.respond(key, &request, response),
                }
            }
            Answer::Events(asked) => self.begin_events(key, request, asked, client),
            Answer::Refused(error) => {
                let response = self.refusal(Some(&request), error);
                self.respond(key, &request, response);
            }
        }
    }

    // ---- Responses

    /// Counts a refusal and makes its response.
    fn refusal(&mut self, request: Option<&Request>, error: Error) -> Response {
        self.table.counters.on_refused(error.code.index());
        self.api.refusal(request, error)
    }

    pub(super) fn respond(&mut self, key: ConnectionKey, request: &Request, response: Response) {
        self.table.work.bytes_out += response.content_bytes();
        let framing = framing(&self.date.1, Some(request), request.keep_alive());
        queue(&mut self.table, key, response, framing);
        if request.keep_alive() {
            self.table.set_timer(key, Some(TimeoutKind::Idle));
        } else {
            self.table.finish(key, Departure::Closed);
        }
    }

    /// Sends the first part of a response. Its rest follows as the peer reads.
    pub(super) fn begin_response(
        &mut self,
        key: ConnectionKey,
        request: &Request,
        response: Response,
        content: ResponseContent,
    ) {
        self.table.work.bytes_out += response.content_bytes();
        // Content without a length ends with the connection in HTTP/1.0.
        let is_endless = response.is_stream && request.version() == Version::Http10;
        let keep_alive = request.keep_alive() && !is_endless;
        let framing = framing(&self.date.1, Some(request), keep_alive);
        queue(&mut self.table, key, response, framing);
        if let ResponseContent::Messages(list) = &content {
            self.table.extend_response_deadline(key, list.left_bytes());
        }
        self.table.set_timer(key, Some(TimeoutKind::Idle));
        if let Some(Protocol::Http(http)) =
            self.table.slots.get_mut(key).map(|connection| &mut connection.protocol)
        {
            let rest = ResponseRest { content, keep_alive, is_page_due: false };
            http.rest = Some(Box::new(rest));
        }
    }

    /// Sends an error and ends the connection: no further request is read from it. `request`: the
    /// request, if it is complete; otherwise the head that the codec may have is used.
    pub(super) fn reject(&mut self, key: ConnectionKey, request: Option<&Request>, error: Error) {
        self.table.counters.on_refused(error.code.index());
        let protocol = self.table.slots.get(key).map(|connection| &connection.protocol);
        let head = match protocol {
            Some(Protocol::Http(http)) => http.codec.request(),
            _ => None,
        };
        let request = request.or(head);
        // An answer to operators has no fields of CORS.
        let response = match protocol {
            Some(Protocol::Http(http)) if http.purpose.is_for_operators() => error.response(),
            _ => self.api.refusal(request, error),
        };
        let framing = framing(&self.date.1, request, false);
        queue(&mut self.table, key, response, framing);
        self.table.finish(key, Departure::Closed);
    }

    // ---- The upgrade

    fn upgrade(
        &mut self,
        key: ConnectionKey,
        request: &Request,
        upgrade: &UpgradeRequest,
        client: ClientAddress,
    ) {
        let accept = match self.check_upgrade(request, upgrade) {
            Ok(accept) => accept,
            Err(error) => {
                let over_limit = self.table.slots.get(key).and_then(|one| one.over_limit);
                if over_limit.is_some() {
                    return self.reject(key, Some(request), error);
                }
                let response = self.refusal(Some(request), error);
                return self.respond(key, request, response);
            }
        };
        let response = handshake::accept(accept, upgrade.subprotocol);
        let response = self.api.with_cors_fields(Some(request), response);
        let framing = framing(&self.date.1, Some(request), true);
        #[cfg(feature = "cluster")]
        let opening =
            self.cluster.is_some().then(|| Box::new(Piece::private(response.head(framing))));
        #[cfg(feature = "cluster")]
        if opening.is_none() {
            queue(&mut self.table, key, response, framing);
        }
        #[cfg(not(feature = "cluster"))]
        queue(&mut self.table, key, response, framing);
        self.table.set_timer(key, None);
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        let ws = Ws::new(Context::new());
        #[cfg(feature = "cluster")]
        let ws = Ws { opening, ..ws };
        connection.protocol = Protocol::Ws(ws);
        self.table.counters.websockets += 1;
        if let Err(reason) = self.enter(key, upgrade.session, upgrade.room, upgrade.start, client) {
            match api::socket::close(reason) {
                Some(close) => self.table.close(key, close),
                None => self.table.end(key, Departure::Broken),
            }
        }
    }

    /// The value of `Sec-WebSocket-Accept`, or why the handshake fails, checked in the order of
    /// contract §5.6, §5.9.
    fn check_upgrade(&self, request: &Request, upgrade: &UpgradeRequest) -> Result<String, Error> {
        let accept = handshake::check(request).map_err(|not_accepted| match not_accepted {
            NotAccepted::NotAnUpgrade => api::error::not_an_upgrade(),
            NotAccepted::OtherVersion => api::error::other_version(),
            NotAccepted::BadKey => api::error::bad_key(),
        })?;
        if !self.api.allows_origin(request) {
            return Err(api::error::bad_origin());
        }
        if upgrade.lacks_subprotocol {
            return Err(api::error::no_subprotocol());
        }
        #[cfg(feature = "cluster")]
        if self.cluster.as_ref().is_some_and(|cluster| !cluster.is_available()) {
            return Err(api::error::unavailable());
        }
        match self.ledger.is_at(Pressure::Connections) {
            true => Err(api::error::server_full()),
            false => Ok(accept),
        }
    }

    /// Asks the domain to let a WebSocket or an event stream into its room.
    fn enter(
        &mut self,
        key: ConnectionKey,
        session: Option<SessionId>,
        room: Option<RoomId>,
        start: Start,
        client: ClientAddress,
    ) -> Result<(), CloseReason> {
        let Some(connection) = self.table.slots.get_mut(key) else { return Ok(()) };
        let mut share_exceeded = connection.over_limit == Some(OverLimit::Address);
        if let (true, Some(address)) = (client.is_forwarded, client.address) {
            match self.chat.on_arrival(address) {
                Quota::Within => connection.quota_address = Some(address),
                Quota::Over | Quota::FarOver => {
                    self.chat.on_departure(self.table.now, address, true);
                    share_exceeded = true;
                }
            }
        }
        let from = client.address;
        #[cfg(feature = "cluster")]
        if self.cluster.is_some() {
            let conn = key;
            return self.enter_cluster(EntryRequest {
                conn,
                session,
                room,
                share_exceeded,
                from,
                start,
            });
        }
        let session = session.and_then(|id| self.chat.session(id));
        let room = room.and_then(|id| self.chat.room(id));
        if let Some(room) = room {
            self.table.carry(key, room);
        }
        let request = JoinRequest { conn: key, session, room, share_exceeded, from, start };
        let (attachment, admission) = self.chat.enter(self.table.now, request, &mut self.table)?;
        let recipient = self.table.slots.get_mut(key).and_then(Connection::recipient);
        if let Some(recipient) = recipient {
            recipient.attachment = Some(attachment);
            recipient.is_paused = admission == Admission::Waiting;
        }
        if admission == Admission::Admitted {
            self.table.start_pinging(key);
        }
        Ok(())
    }

    // ---- Event streams

    /// Asks the domain to let the connection into its room, and begins the response if it does. While
    /// the connection waits for a name, the response is withheld.
    fn begin_events(
        &mut self,
        key: ConnectionKey,
        request: Request,
        events: EventsRequest,
        client: ClientAddress,
    ) {
        if self.ledger.is_at(Pressure::Connections) {
            let response = self.refusal(Some(&request), api::error::server_full());
            return self.respond(key, &request, response);
        }
        let response = self.api.with_cors_fields(Some(&request), api::events::head(events.format));
        let head = response.head(framing(&self.date.1, Some(&request), false));
        self.table.set_timer(key, None);
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        let is_chunked = request.version() > Version::Http10;
        let was_counted = connection.quota_address.is_some();
        let ended = std::mem::replace(&mut connection.protocol, Protocol::Closing(Mono::ZERO));
        let Protocol::Http(mut http) = ended else { return };
        http.codec.put_back(request);
        connection.protocol = Protocol::Stream(Box::new(EventStream {
            recipient: Recipient::default(),
            form: Form { format: events.format, is_chunked },
            opening: Some(Box::new(Opening {
                http,
                head: head.into(),
                was_counted,
                is_refused: false,
            })),
        }));
        let (session, room) = (Some(events.session), Some(events.room));
        if let Err(reason) = self.enter(key, session, room, events.start, client) {
            match api::socket::close(reason) {
                Some(close) => self.refuse_events(key, api::events::refusal(close)),
                None => self.table.end(key, Departure::Broken),
            }
        }
    }

    /// Answers the event streams that could not begin.
    pub(super) fn answer_refused(&mut self) {
        while let Some((key, close)) = self.table.refused.pop() {
            self.refuse_events(key, api::events::refusal(close));
        }
        self.table.refused = Vec::new();
    }

    /// Answers a request for an event stream with an error. Then the connection is as it was before the
    /// request.
    fn refuse_events(&mut self, key: ConnectionKey, error: Error) {
        let Some(connection) = self.table.slots.get_mut(key) else { return };
        let Protocol::Stream(stream) = &mut connection.protocol else { return };
        let Some(opening) = stream.opening.take() else { return };
        if let Some(attachment) = stream.recipient.attachment {
            self.table.ended.push_back(Ended { attachment, departure: Departure::Closed });
        }
        #[cfg(feature = "cluster")]
        self.table.gone.push(key);
        let mut http = opening.http;
        let request = http.codec.feed(&mut &[][..]);
        connection.protocol = Protocol::Http(http);
        if let Some(address) = connection.quota_address.take_if(|_| !opening.was_counted) {
            self.chat.on_departure(self.table.now, address, false);
        }
        let Ok(Fed::Request(request)) = request else { return };
        if self.is_shutting_down {
            return self.reject(key, Some(&request), error);
        }
        let response = self.refusal(Some(&request), error);
        self.respond(key, &request, response);
        self.table.schedule(key); // What it has sent meanwhile.
    }
}

/// `request`: `None` if not even its head was read.
fn framing<'a>(date: &'a str, request: Option<&Request>, keep_alive: bool) -> Framing<'a> {
    Framing {
        date,
        is_head: request.is_some_and(|request| request.method() == Method::Head),
        version: request.map_or(Version::Http11, Request::version),
        keep_alive,
    }
}

/// Queues a response: its head together with small content, then larger content as pieces of its
/// own. Those are private, or share their bytes with a listing, where the ledger counts them, or
/// with the binary.
fn queue<S: Stream>(
    table: &mut Table<S>,
    key: ConnectionKey,
    response: Response,
    framing: Framing<'_>,
) {
    let mut queued_bytes = 0;
    response.encode(framing, |bytes| {
        queued_bytes += bytes.len();
        let is_ours = bytes.is_unique();
        table.push(key, if is_ours { Piece::private(bytes) } else { Piece::shared(bytes) });
    });
    table.extend_response_deadline(key, queued_bytes);
}
