//! From bytes to the domain, and back to the one connection they came from.
//!
//! Owns the way of one connection's input through its protocol. Must never know a socket. The
//! invariant: whatever a peer sends, and whatever bug of ours it finds, ends at worst this one
//! connection; [`Core::dispatch`] is the one place that catches panics.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bytes::Bytes;
use log::{debug, error};

use super::connection::{Connection, ConnectionKey, Excess, Protocol, Purpose, TimeoutKind, Ws};
use super::connections::Connections;
use super::core::{Core, wipe};
use crate::api::error::Error;
use crate::api::metrics::Metrics;
use crate::api::{self, Answer, Caller, Client, UpgradeRequest};
use crate::chat::{Admission, AttachmentKey, Departure, Draft, JoinRequest, Quota};
use crate::http::{self, Fed, Framing, Method, Phase, Request, Response, Version};
use crate::ledger::{Account, Pressure};
use crate::net::{Piece, Stream, proxy};
use crate::ws::close::Close;
use crate::ws::handshake::{self, NotAccepted};
use crate::ws::{self, Context, Incoming};

/// Answers queued for one connection beyond which its next request has to wait: one answer is
/// under way at a time, but a few small ones may leave together. The content that answers to
/// HEAD leave out counts in its turn: it was made all the same.
const PIPELINED_BYTES_MAX: usize = 16 * 1024;

impl<S: Stream> Core<S> {
    /// Handles what a connection has sent. A panic on the way is a bug of ours: it costs this
    /// connection, and the process only if the others' data may be damaged.
    pub(super) fn dispatch(&mut self, key: ConnectionKey<S>, input: &[u8]) {
        let caught = catch_unwind(AssertUnwindSafe(|| self.on_bytes(key, input)));
        if caught.is_err() {
            self.on_panic(key);
        }
        self.connections.recount(key);
    }

    fn on_panic(&mut self, key: ConnectionKey<S>) {
        self.connections.counters.panics += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.check_invariants())) {
            error!("a bug has damaged what is shared; ending");
            resume_unwind(panic);
        }
        match self.connections.slots.get(key).map(|connection| &connection.protocol) {
            Some(Protocol::Http(_)) => self.reject(key, None, api::error::internal()),
            Some(Protocol::Ws(ws)) => {
                self.seal(ws.attachment); // What was said before comes before the close.
                self.connections.close(key, Close::INTERNAL);
            }
            Some(Protocol::Closing) | None => self.connections.end(key, Departure::Closed),
        }
    }

    fn on_bytes(&mut self, key: ConnectionKey<S>, input: &[u8]) {
        match self.connections.slots.get(key).map(|connection| &connection.protocol) {
            Some(Protocol::Http(_)) => self.on_http_bytes(key, input),
            Some(Protocol::Ws(_)) => self.on_ws_bytes(key, input),
            Some(Protocol::Closing) | None => {} // Thrown away, RFC 9112 §9.6.
        }
    }

    /// The peer has ended its direction.
    pub(super) fn on_end(&mut self, key: ConnectionKey<S>) {
        let Some(connection) = self.connections.slots.get_mut(key) else { return };
        connection.read_over = true;
        match &connection.protocol {
            // Answers that are still queued belong to a peer that has only shut down one half.
            Protocol::Http(_) => self.connections.finish(key, Departure::Closed),
            // RFC 6455 §7.1.5: an end without a close frame is a broken line.
            Protocol::Ws(_) => self.connections.end(key, Departure::Broken),
            Protocol::Closing if connection.link.is_flushed() => {
                self.connections.end(key, Departure::Closed);
            }
            Protocol::Closing => {}
        }
    }

    // ---- HTTP

    fn on_http_bytes(&mut self, key: ConnectionKey<S>, input: &[u8]) {
        let Some(mut input) = self.introduced(key, input) else { return };
        loop {
            let Some(connection) = self.connections.slots.get_mut(key) else { return };
            let Protocol::Http(http) = &mut connection.protocol else {
                return self.on_bytes(key, input); // Upgraded or closing: not requests any more.
            };
            let is_answered = connection.link.outbox().queued() > PIPELINED_BYTES_MAX
                || self.made > PIPELINED_BYTES_MAX;
            if is_answered {
                connection.held = input.to_vec();
                return;
            }
            let fed = http.codec.feed(&mut input);
            let phase = http.codec.phase();
            let excess = connection.excess.filter(|_| phase == Phase::Body);
            match (fed, excess) {
                (Err(reject), _) => return self.reject(key, None, api::error::reject(reject)),
                (Ok(Fed::Request(request)), _) => self.on_request(key, &request),
                // The head is complete; its body need not be waited for.
                (Ok(_), Some(excess)) => return self.reject(key, None, turned_away(excess)),
                (Ok(Fed::Continue), None) => {
                    self.connections.push(key, Piece::shared(Bytes::from_static(http::CONTINUE)));
                }
                (Ok(Fed::Partial), None) => return self.await_rest(key, phase),
            }
        }
    }

    /// What of `input` the client itself says. `None`: its balancer has not said all that comes
    /// before, or has said something else.
    fn introduced<'a>(&mut self, key: ConnectionKey<S>, input: &'a [u8]) -> Option<&'a [u8]> {
        let connection = self.connections.slots.get_mut(key)?;
        let Protocol::Http(http) = &mut connection.protocol else { return Some(input) };
        let Some(before) = http.introduction.take() else { return Some(input) };
        let header = [&before, input].concat();
        match proxy::parse(&header) {
            Ok(Some(introduction)) => {
                self.believe(key, introduction.source)?;
                input.get(introduction.bytes - before.len()..)
            }
            Ok(None) => {
                http.introduction = Some(header);
                None
            }
            Err(proxy::Malformed) => {
                debug!("connection {key:?} begins with no PROXY header");
                self.connections.end(key, Departure::Closed);
                None
            }
        }
    }

    /// The connection comes from `source`, if whoever says so is trusted. `None`: that has too
    /// many already.
    fn believe(&mut self, key: ConnectionKey<S>, source: Option<IpAddr>) -> Option<()> {
        let connection = self.connections.slots.get(key)?;
        if source.is_none() || !self.api.is_proxy(connection.peer) {
            return Some(());
        }
        let Some((share, excess)) = self.count_in(source) else {
            self.connections.end(key, Departure::Closed);
            return None;
        };
        let connection = self.connections.slots.get_mut(key)?;
        (connection.peer, connection.share) = (source, share);
        if let Some(excess) = excess {
            self.connections.make_excess(key, excess);
        }
        Some(())
    }

    /// Each phase of a request has a deadline for the whole of it.
    fn await_rest(&mut self, key: ConnectionKey<S>, phase: Phase) {
        let kind = match phase {
            Phase::Idle => return, // Since accept or the last answer.
            Phase::Head => TimeoutKind::Head,
            Phase::Body => TimeoutKind::Body,
        };
        // One too many has no time but the one it was given at accept.
        let excess = self.connections.slots.get(key).and_then(|connection| connection.excess);
        if excess.is_none() && self.connections.waits_for(key) != Some(kind) {
            self.connections.set_timer(key, Some(kind));
        }
    }

    /// The deadline of a phase has come.
    pub(super) fn on_request_overdue(&mut self, key: ConnectionKey<S>) {
        let Some(connection) = self.connections.slots.get(key) else { return };
        match &connection.protocol {
            Protocol::Http(http) if http.codec.phase() != Phase::Idle => {
                self.reject(key, None, api::error::timeout());
            }
            _ => self.connections.end(key, Departure::Closed), // Never said a word.
        }
    }

    fn on_request(&mut self, key: ConnectionKey<S>, request: &Request) {
        self.trip(request.path().split('/').nth(1).unwrap_or_default());
        self.connections.counters.requests += 1;
        let Some(connection) = self.connections.slots.get(key) else { return };
        if matches!(&connection.protocol, Protocol::Http(http) if http.purpose == Purpose::Metrics)
        {
            return self.on_metrics_request(key, request);
        }
        let client = self.api.client(request, connection.peer);
        // An upgrade is told by a close, which a browser can read.
        let excess = connection.excess;
        let is_told_by_close = excess == Some(Excess::Quota) && handshake::check(request).is_ok();
        if let Some(excess) = excess.filter(|_| !is_told_by_close) {
            return self.reject(key, Some(request), turned_away(excess));
        }
        if self.shutting_down {
            return self.reject(key, Some(request), api::error::shutting_down());
        }
        let caller = Caller {
            now: self.connections.now,
            uptime: self.uptime(),
            connections: self.connections.counters.connections,
            address: client.address,
        };
        let answer = self.api.answer(&mut self.chat, request, &caller, &mut self.connections);
        match (answer, excess) {
            (Answer::Socket(entry), _) => self.upgrade(key, request, &entry, client),
            // It asks for an upgrade, but not where there is one.
            (_, Some(excess)) => self.reject(key, Some(request), turned_away(excess)),
            (Answer::Response(response), None) => self.respond(key, request, response),
            (Answer::Refused(error), None) => {
                let response = self.refusal(Some(request), error);
                self.respond(key, request, response);
            }
        }
    }

    fn on_metrics_request(&mut self, key: ConnectionKey<S>, request: &Request) {
        let memory = Account::ALL.map(|account| (account.as_str(), self.ledger.bytes(account)));
        let metrics = Metrics {
            started: self.started,
            counters: &self.connections.counters,
            chat: &self.chat,
            timers: self.timer_count(),
            memory: &memory,
            memory_max: Some(self.ledger.ceiling()),
        };
        let response = match api::metrics::answer(request, &metrics) {
            Ok(response) => response,
            Err(error) => self.refusal(Some(request), error),
        };
        self.respond(key, request, response);
    }

    /// Counts a refusal, and says how it is answered.
    fn refusal(&mut self, request: Option<&Request>, error: Error) -> Response {
        self.connections.counters.on_refused(error.code.index());
        self.api.refusal(request, error)
    }

    fn respond(&mut self, key: ConnectionKey<S>, request: &Request, response: Response) {
        let framing = Framing {
            date: &self.date.1,
            head: request.method() == Method::Head,
            version: request.version(),
            keep_alive: request.keep_alive(),
        };
        self.made += response.body.iter().map(Bytes::len).sum::<usize>();
        queue(&mut self.connections, key, response, framing);
        if request.keep_alive() {
            self.connections.set_timer(key, Some(TimeoutKind::Idle));
        } else {
            self.connections.finish(key, Departure::Closed);
        }
    }

    /// Answers what cannot be read on, or not waited for, and ends the connection. `request`: if
    /// it was complete; otherwise it may be known as far as its head.
    pub(super) fn reject(
        &mut self,
        key: ConnectionKey<S>,
        request: Option<&Request>,
        error: Error,
    ) {
        self.connections.counters.on_refused(error.code.index());
        let protocol = self.connections.slots.get(key).map(|connection| &connection.protocol);
        let request = request.or(match protocol {
            Some(Protocol::Http(http)) => http.codec.request(),
            _ => None,
        });
        let framing = Framing {
            date: &self.date.1,
            head: request.is_some_and(|request| request.method() == Method::Head),
            version: request.map_or(Version::Http11, Request::version),
            keep_alive: false,
        };
        let response = self.api.refusal(request, error);
        queue(&mut self.connections, key, response, framing);
        self.connections.finish(key, Departure::Closed);
    }

    // ---- The upgrade

    fn upgrade(
        &mut self,
        key: ConnectionKey<S>,
        request: &Request,
        entry: &UpgradeRequest,
        client: Client,
    ) {
        let Some(connection) = self.connections.slots.get(key) else { return };
        let checked = handshake::check(request).map_err(|not_accepted| match not_accepted {
            NotAccepted::NotAnUpgrade => api::error::not_an_upgrade(),
            NotAccepted::OtherVersion => api::error::other_version(),
            NotAccepted::BadKey => api::error::bad_key(),
        });
        let checked = checked.and_then(|accept| match self.api.allows_origin(request) {
            true => Ok(accept),
            false => Err(api::error::bad_origin()),
        });
        let checked = match self.ledger.is_at(Pressure::Connections) {
            true => checked.and(Err(api::error::server_full())),
            false => checked,
        };
        let accept = match checked {
            Ok(accept) => accept,
            Err(error) if connection.excess.is_some() => {
                return self.reject(key, Some(request), error);
            }
            Err(error) => {
                let response = self.refusal(Some(request), error);
                return self.respond(key, request, response);
            }
        };
        let fields = self.api.cors(Some(request));
        let head = handshake::accept(&accept, entry.subprotocol, &self.date.1, &fields);
        self.connections.push(key, Piece::private(head));
        self.connections.set_timer(key, None);
        let Some(connection) = self.connections.slots.get_mut(key) else { return };
        let context = Context::new(self.settings.ws);
        connection.protocol = Protocol::Ws(Box::new(Ws::new(context)));
        self.connections.counters.websockets += 1;
        self.enter(key, entry, client);
    }

    fn enter(&mut self, key: ConnectionKey<S>, entry: &UpgradeRequest, client: Client) {
        let Some(connection) = self.connections.slots.get_mut(key) else { return };
        let mut share_exceeded = connection.excess == Some(Excess::Quota);
        if let (true, Some(address)) = (client.forwarded, client.address) {
            share_exceeded |= self.chat.on_arrival(address) != Quota::Within;
            connection.share = Some(address);
        }
        let knock = JoinRequest {
            conn: key.cast(),
            session: entry.session.and_then(|id| self.chat.session(id)),
            room: entry.room.and_then(|id| self.chat.room(id)),
            share_exceeded,
            start: entry.start,
        };
        match self.chat.enter(self.connections.now, knock, &mut self.connections) {
            Ok((attachment, admission)) => {
                if let Some(ws) = self.connections.slots.get_mut(key).and_then(Connection::ws) {
                    ws.attachment = Some(attachment);
                    ws.waiting = admission == Admission::Waiting;
                }
                if admission == Admission::Admitted {
                    self.connections.start_pinging(key);
                }
            }
            Err(close) => match api::socket::close(close) {
                Some(close) => self.connections.close(key, close),
                None => self.connections.end(key, Departure::Broken),
            },
        }
    }

    // ---- WebSocket

    fn on_ws_bytes(&mut self, key: ConnectionKey<S>, mut input: &[u8]) {
        let Some(ws) = self.connections.slots.get_mut(key).and_then(Connection::ws) else { return };
        let attachment = ws.attachment;
        if ws.waiting {
            if let Some(connection) = self.connections.slots.get_mut(key) {
                connection.held = input.to_vec();
            }
            return;
        }
        self.connections.start_pinging(key); // The silence is over, and begins again.
        let mut control = std::mem::take(&mut self.control);
        // Until it is used up, or the connection is closed by what it has just said.
        while let Some(ws) = self.connections.slots.get_mut(key).and_then(Connection::ws) {
            if self.made > PIPELINED_BYTES_MAX {
                // Enough answered for one turn; the rest is for the next.
                self.hold(key, input);
                break;
            }
            let fed = ws.context.feed(&mut input, &mut control, &mut self.spare);
            match &fed {
                // Pongs are gathered: a flood of pings must not become a flood of pieces.
                Ok(Some(Incoming::Ping | Incoming::Fragment)) => continue,
                // What was said before comes before the close.
                Ok(Some(Incoming::Closed | Incoming::Binary(_))) | Err(_) => self.seal(attachment),
                Ok(_) => {}
            }
            self.connections.push_control(key, &control);
            wipe(&mut control);
            match fed {
                Ok(Some(Incoming::Text(text))) => self.on_text(key, attachment, &text),
                Ok(Some(Incoming::Fragment | Incoming::Ping | Incoming::Pong(_))) => {}
                Ok(Some(Incoming::Binary(_))) => self.connections.close(key, Close::BINARY),
                Ok(Some(Incoming::Closed)) => self.connections.finish(key, Departure::Closed),
                Err(violation) => self.connections.close(key, violation.close()),
                Ok(None) => break,
            }
        }
        wipe(&mut control);
        self.control = control;
        // A farewell is no sign of life: whoever wants the name gets it.
        let ws = self.connections.slots.get_mut(key).and_then(Connection::ws);
        if let Some(attachment) = ws.and_then(|ws| ws.attachment) {
            let (now, connections) = (self.connections.now, &mut self.connections);
            self.chat.on_sign_of_life(now, attachment, connections);
        }
    }

    fn hold(&mut self, key: ConnectionKey<S>, input: &[u8]) {
        if let Some(connection) = self.connections.slots.get_mut(key) {
            connection.held = input.to_vec();
        }
        self.connections.make_ready(key);
    }

    fn on_text(&mut self, key: ConnectionKey<S>, attachment: Option<AttachmentKey>, text: &str) {
        use api::socket::{ClientEvent, PONG, parse};
        self.connections.counters.received += 1;
        let Some(attachment) = attachment else { return };
        let (now, connections) = (self.connections.now, &mut self.connections);
        match parse(text) {
            Ok(ClientEvent::Chat { message, nonce }) => {
                self.trip(&message);
                let nonce = nonce.as_deref();
                let connections = &mut self.connections;
                let posted = Draft::new(&message, nonce)
                    .and_then(|draft| self.chat.post(now, attachment, draft, connections));
                if let Err(refusal) = posted {
                    self.refuse(key, attachment, refusal, nonce);
                }
            }
            Ok(ClientEvent::Typing) => self.chat.typing(now, attachment, connections),
            Ok(ClientEvent::Ping) => {
                self.tell(key, Some(attachment), |out| out.extend_from_slice(PONG.as_bytes()));
            }
            Err(unfit) => self.refuse(key, attachment, unfit.why, unfit.nonce.as_deref()),
        }
    }

    fn refuse(
        &mut self,
        key: ConnectionKey<S>,
        attachment: AttachmentKey,
        why: impl Into<Error>,
        nonce: Option<&str>,
    ) {
        let Some(room) = self.chat.room_of(attachment) else { return };
        let Some(room_id) = self.chat.room_id(room) else { return };
        let why = why.into();
        self.connections.counters.on_refused(why.code.index());
        self.tell(key, Some(attachment), |out| api::socket::refused(out, why, room_id, nonce));
    }

    /// Tells one connection alone, after all that its room was told before.
    fn tell(
        &mut self,
        key: ConnectionKey<S>,
        attachment: Option<AttachmentKey>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.seal(attachment);
        let mut frame = Vec::new();
        ws::encode_text_in_place(&mut frame, write);
        self.made += frame.len();
        self.connections.push_frames(key, Piece::private(frame.into_boxed_slice()), false);
    }

    fn seal(&mut self, attachment: Option<AttachmentKey>) {
        if let Some(room) = attachment.and_then(|attachment| self.chat.room_of(attachment)) {
            self.chat.seal(room, &mut self.connections);
        }
    }

    /// Where tests plant a panic.
    fn trip(&self, word: &str) {
        #[cfg(debug_assertions)]
        assert!(self.fault.as_deref() != Some(word), "a planted fault");
        let _ = word;
    }
}

/// Queues a response: its head, with what content is small, and then the content's own pieces.
/// Most of them lie in a history or in the program, where they are counted.
fn queue<S: Stream>(
    connections: &mut Connections<S>,
    key: ConnectionKey<S>,
    response: Response,
    framing: Framing<'_>,
) {
    let queued = |connections: &Connections<S>| {
        connections.slots.get(key).map_or(0, |connection| connection.link.outbox().queued())
    };
    let before = queued(connections);
    response.encode(framing, |bytes| {
        let is_ours = bytes.is_unique();
        connections.push(key, if is_ours { Piece::private(bytes) } else { Piece::shared(bytes) });
    });
    let bytes = queued(connections).saturating_sub(before);
    connections.give_time(key, bytes);
}

fn turned_away(excess: Excess) -> Error {
    match excess {
        Excess::Quota => api::error::too_many_connections(),
        Excess::Full => api::error::server_full(),
    }
}
