//! The peers of the server, as the tests see them, and what each has to receive.
//!
//! Owns the state of one peer. Must not know the server's core: `world` moves the bytes. The
//! invariant: a peer counts as `must_be_served` only while it has given the server no reason to
//! close it, so that the checks do not demand more than the contract promises.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Shutdown};

use disposable_chat::server::{ConnectionKey, Purpose};
use serde_json::Value;

use crate::pipe::{PeerEnd, ServerEnd, StreamState};
use crate::wire::{Format, Response};

/// A user, and the session if there is one.
pub struct User {
    pub name: String,
    pub session: Option<String>,
    /// Another user has the same name, but for case.
    pub has_namesake: bool,
}

/// The reply that a WebSocket peer must receive to one of its frames.
#[derive(PartialEq, Eq, Debug)]
pub enum Reply {
    /// The chat itself; or a refusal, if there is a message rate.
    Echo(String),
    /// The same for a chat with a nonce, which its author may send again.
    EchoOf { text: String, nonce: String },
    /// A refusal with this code.
    Refused(&'static str),
    /// The answer to an event of type `ping`.
    Pong,
}

/// The first message that a WebSocket peer asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// The next message.
    Live,
    /// The last messages of the history, up to this number.
    Last(usize),
    /// The message after this one. May be a text that is no id.
    After(String),
}

impl Start {
    /// The parameters of the upgrade request.
    pub fn query(&self) -> String {
        match self {
            Start::Live => String::new(),
            Start::Last(count) => format!("&history={count}"),
            Start::After(id) => format!("&after={id}"),
        }
    }

    /// The message after which the peer resumes, if it names one.
    pub fn resume_point(&self) -> Option<&str> {
        match self {
            Start::After(id) if id.len() == 36 => Some(id),
            _ => None,
        }
    }
}

/// The pages of history that a peer has received.
#[derive(Default)]
pub struct Pages {
    pub count: usize,
    /// Messages in the pages. They are the first that the peer has received.
    pub messages: usize,
    /// The field `complete` of the last page; `None` as long as more pages follow.
    pub complete: Option<bool>,
    /// Names of the users present, from the last page.
    pub users: Vec<String>,
}

/// How the response to a request is checked.
pub enum Check {
    /// The caller checks it.
    ByCaller,
    /// It has one of these statuses.
    Status(&'static [u16]),
    /// It has this status, and no content because the request is a HEAD.
    Head(u16),
    /// It opens a session for this user.
    Session(usize),
    /// It opens a room.
    Room,
    /// It is the message that the user has posted, or an earlier one with the same nonce.
    Posted { user: usize, room: usize, text: String },
    /// It has the newest messages of the room, up to a thousand.
    Messages(usize),
    /// It counts this number of users as present.
    UserCount(usize),
    /// It closes the user's WebSockets in the room, or in all rooms, with this code: those in
    /// `at_least`, and others if they were admitted before it.
    Closes { user: usize, room: Option<usize>, code: u16, at_least: Vec<usize> },
}

/// The state of a peer that speaks HTTP.
#[derive(Default)]
pub struct HttpPeer {
    /// One for each request without a response.
    pub checks: VecDeque<Check>,
    pub responses: Vec<Response>,
    /// The server may have closed the connection instead of responding, because of a timeout or a
    /// shutdown.
    pub may_be_closed: bool,
}

/// The state of a peer that speaks WebSocket, or reads an event stream.
pub struct WsPeer {
    /// An event stream, in this format.
    pub stream: Option<Format>,
    pub user: usize,
    pub room: usize,
    pub upgraded: bool,
    /// The room's newest known message at the time of the upgrade request.
    pub newest_at_request: Option<String>,
    /// The user has never had another WebSocket in the room.
    pub is_only_one: bool,
    pub start: Start,
    pub pages: Pages,
    /// Ids of the messages received, in order, without those that answer a repeated nonce.
    pub seen: Vec<String>,
    /// The nonce of each chat sent. For each of them the server may send an old message again.
    pub nonces_sent: Vec<String>,
    /// In the order of the frames sent.
    pub replies_due: VecDeque<Reply>,
    /// Payloads of the ping frames (RFC 6455 §5.5.2) that the server has not answered.
    pub pings: VecDeque<Vec<u8>>,
    /// The code of the close that must answer what this peer has sent.
    pub close_due: Option<u16>,
    /// Codes of closes that requests of others may cause.
    pub closes_possible: BTreeSet<u16>,
    /// One of these closes must come.
    pub must_close: bool,
    /// The close frame received.
    pub closed: Option<(u16, String)>,
    /// The room in the last page or the last `room_changed`; null before that.
    pub room_shown: Value,
    /// How many `room_changed` the peer has received.
    pub changes: usize,
    /// The user id in the last page.
    pub you: Option<String>,
    pub pings_received: usize,
    pub chats_sent: usize,
}

impl WsPeer {
    /// Whether the history has arrived, so that new messages may follow.
    pub fn is_live(&self) -> bool {
        self.start == Start::Live || self.pages.complete.is_some()
    }

    /// Removes the first reply due that `matches`, and returns whether there is one. Replies come
    /// in the order of the frames, with one exception: while a peer is catching up, its chats
    /// arrive in their places in the history, after replies that only this peer receives.
    pub fn take_reply(&mut self, matches: impl Fn(&Reply) -> bool) -> bool {
        let in_order = self.start == Start::Live && self.nonces_sent.is_empty();
        let places = if in_order { 1 } else { self.replies_due.len() };
        match self.replies_due.iter().take(places).position(matches) {
            Some(place) => self.replies_due.remove(place).is_some(),
            None => false,
        }
    }
}

/// What a peer sends, and how much of what it receives is checked.
#[allow(clippy::large_enum_variant, reason = "a test has few of them")]
pub enum Protocol {
    Http(HttpPeer),
    Ws(WsPeer),
    /// Any bytes. Nothing that the peer receives is checked.
    Unchecked,
}

/// A peer, with both ends of its stream as long as the server has not accepted it.
pub struct Peer {
    /// The node of the cluster that it is connected to; 0 if there is one server.
    pub node: usize,
    pub end: PeerEnd,
    /// What the server will accept.
    pub backlog: Option<(ServerEnd, Option<IpAddr>, Purpose)>,
    /// The key of the accepted connection, unless the server has dropped it at once.
    pub key: Option<ConnectionKey>,
    /// Bytes sent that have not reached the server.
    pub unsent: VecDeque<u8>,
    /// Bytes received that are not a whole response or frame yet.
    pub inbox: Vec<u8>,
    /// What the peer shuts down once all of `unsent` has reached the server.
    pub shutdown: Option<Shutdown>,
    pub is_shut_down: bool,
    /// The peer reads what it is sent.
    pub reading: bool,
    /// The peer has given the server no reason to close the connection.
    pub must_be_served: bool,
    pub stream: StreamState,
    pub protocol: Protocol,
}

impl Peer {
    pub fn ws(&self) -> Option<&WsPeer> {
        if let Protocol::Ws(ws) = &self.protocol { Some(ws) } else { None }
    }

    pub fn ws_mut(&mut self) -> Option<&mut WsPeer> {
        if let Protocol::Ws(ws) = &mut self.protocol { Some(ws) } else { None }
    }

    pub fn http(&mut self) -> &mut HttpPeer {
        if let Protocol::Http(http) = &mut self.protocol { http } else { panic!("not HTTP") }
    }

    /// Neither the server nor the peer has a reason to end the connection.
    pub fn is_healthy(&self) -> bool {
        let closing = self.ws().is_some_and(|ws| ws.close_due.is_some() || ws.closed.is_some());
        let is_open = self.shutdown.is_none() && self.stream == StreamState::Open;
        self.must_be_served && self.reading && is_open && !closing
    }

    /// The server has closed its end.
    pub fn is_dropped(&self) -> bool {
        self.end.pipe().is_dropped()
    }

    /// Both ends have closed, and nothing is in flight.
    pub fn is_finished(&self) -> bool {
        self.stream != StreamState::Open && self.unsent.is_empty() && self.is_dropped()
    }

    pub fn is_accepted(&self) -> bool {
        self.backlog.is_none()
    }
}
