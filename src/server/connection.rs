//! A connection: a link and the protocol spoken over it.
//!
//! Owns what one connection needs between ticks. Must not know what is in a message. The
//! invariant: a connection has at most one timer, and it is of the kind that its state calls for.

use std::net::IpAddr;
use std::time::Duration;

use super::event_stream::{Form, Transcoder};
use super::outgoing::FlushMarks;
use super::settings::ConnectionConfig;
use crate::api::{MessageList, RoomList};
use crate::chat::{Address, AttachmentKey, ConnKey, ConnTag, RoomKey};
use crate::clock::Mono;
use crate::counters::Counters;
use crate::http;
use crate::ledger::{Account, Ledger, Tally, allocation};
use crate::net::{Link, Piece, Stream};
use crate::rate::Meter;
use crate::slots::{Linked, Links};
use crate::timers::Waiting;
use crate::ws;

/// The key of a connection. The domain uses the same key.
pub type ConnectionKey = ConnKey;

/// An accepted stream with its state.
pub struct Connection<S> {
    pub(super) link: Link<S>,
    pub(super) protocol: Protocol,
    /// The address whose quota of connections it counts against.
    pub(super) quota_address: Option<Address>,
    /// Set if the connection is over a limit: then its first request is refused.
    pub(super) over_limit: Option<OverLimit>,
    /// What it waits for, until its deadline.
    pub(super) timeout: Option<TimeoutKind>,
    /// That deadline has passed, and has been armed once more: what has arrived is read before the
    /// connection is closed. Cleared by every other change of the timer.
    pub(super) is_overdue: bool,
    /// Meaningless without `timeout`.
    deadline: Mono,
    /// Its neighbours among the connections with the same timeout.
    links: Links<ConnTag>,
    /// Input that has arrived and cannot be handled yet. At most one scratch buffer, because
    /// nothing more is read meanwhile.
    pub(super) buffered: Buffered,
    /// What its turns have cost.
    pub(super) allowance: Meter,
    /// Queued in the schedule.
    pub(super) is_queued: bool,
    pub(super) marks: FlushMarks,
    /// The room whose messages may be in the outbox: that of the WebSocket or stream, or of the last response
    /// with messages.
    pub(super) carries: Option<RoomKey>,
    /// Entered in [`super::leftovers::Leftovers`] under that room.
    pub(super) is_left_over: bool,
    /// On the list of connections to be freed.
    pub(super) is_closed: bool,
    /// The last readable edge came with the end of the peer's direction (EPOLLRDHUP): input is
    /// read until that end, since no further edge comes.
    pub(super) has_hung_up: bool,
    /// All that the peer sends was read: to the end of its direction, or to its close frame.
    pub(super) is_read_to_end: bool,
    pub(super) counted: Held,
}

/// What a connection holds, in bytes. Each number stops at 4 GiB, which no connection reaches.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Held {
    /// Heap that an idle connection has, too. On the ledger's account of connections.
    pub idle: u32,
    /// Heap for input under way and for output, without the shared pieces. On the ledger's account
    /// of burdens.
    pub burden: u32,
    /// Bytes in the outbox, shared ones included. For the counters.
    pub queued: u32,
}

// The ledger's account of an idle connection rests on these sizes. Debug builds of mio add checks.
#[cfg(all(target_pointer_width = "64", not(debug_assertions)))]
const _: () = assert!(
    size_of::<Connection<crate::net::Socket>>()
        <= 152
            + if cfg!(feature = "tls") { 8 } else { 0 }
            + if cfg!(feature = "cluster") { 8 } else { 0 }
        && size_of::<Ws>() == 32 + if cfg!(feature = "cluster") { 8 } else { 0 }
);

/// What a connection speaks.
pub(super) enum Protocol {
    /// Requests and responses.
    Http(Box<Http>),
    /// Frames, after an upgrade.
    Ws(Ws),
    /// The events of a room, as the content of a response.
    Stream(Box<EventStream>),
    /// Nothing more: what is queued is written, what arrives is discarded (RFC 9112 §9.6). With the
    /// response deadline (see [`Http::response_deadline`]).
    Closing(Mono),
}

/// What the connections of a listener are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// REST and WebSockets, as the contract describes them.
    Chat,
    /// The same behind a balancer that begins each connection with a PROXY header.
    Proxied,
    /// The metrics and nothing else.
    Metrics,
    /// What only the operator may do, and the metrics.
    Admin,
}

impl Purpose {
    /// The flag that names such a listener's address, without the dashes.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Purpose::Chat | Purpose::Proxied => "listen",
            Purpose::Metrics => "metrics-listen",
            Purpose::Admin => "admin-listen",
        }
    }

    /// Whether the listener is for the operator. Its connections are accepted even when the server is
    /// full, because that is when an operator needs them, and they have no quota.
    pub(super) fn is_for_operators(self) -> bool {
        matches!(self, Purpose::Metrics | Purpose::Admin)
    }
}

impl Protocol {
    /// Whether a piece holds control frames, or the ping of an event stream: no message of a room.
    pub fn is_control(&self, piece: &[u8]) -> bool {
        match self {
            Protocol::Ws(_) => ws::is_control(piece),
            Protocol::Stream(stream) => *piece == *stream.form.ping(),
            Protocol::Http(_) | Protocol::Closing(_) => false,
        }
    }

    /// The end of the frame or event of which the byte before `at` is a part, or `at` if one ends there.
    /// `None`: the piece holds no frames or events.
    pub fn unit_end(&self, piece: &[u8], at: usize) -> Option<usize> {
        match self {
            _ if piece.starts_with(b"HTTP/") => None,
            Protocol::Ws(_) => ws::frame_end(piece, at),
            Protocol::Stream(stream) => stream.form.event_end(piece, at),
            Protocol::Http(_) | Protocol::Closing(_) => None,
        }
    }
}

/// A connection that speaks HTTP.
pub(super) struct Http {
    pub codec: http::Codec,
    pub purpose: Purpose,
    /// The client's address: the peer's, or the one that a trusted balancer has named in a PROXY
    /// header. `None`: a Unix-domain peer.
    pub peer: Option<IpAddr>,
    /// The latest time at which the peer must have read the queued responses, even if it makes
    /// progress all the while.
    pub response_deadline: Mono,
    /// The part of the PROXY header that has arrived; `None`: no header is due, or it was read.
    pub proxy_header: Option<Vec<u8>>,
    /// The rest of the response that it is sent; `None`: all of it is queued.
    pub rest: Option<Box<ResponseRest>>,
    /// The codec has taken back a request whose outcome comes later. Nothing is read meanwhile.
    pub is_parked: bool,
}

/// Content that is encoded while the peer reads it.
pub(super) enum ResponseContent {
    /// Its length is known.
    Messages(MessageList),
    /// Its length is not known. In HTTP/1.1 each part is a chunk (RFC 9112 §7.1).
    Rooms { list: RoomList, is_chunked: bool },
}

/// The rest of a response.
pub(super) struct ResponseRest {
    pub content: ResponseContent,
    /// Whether the connection persists after the response.
    pub keep_alive: bool,
    /// On the list of connections that are due a page.
    pub is_page_due: bool,
}

impl ResponseRest {
    /// Bytes of messages that are left.
    pub fn left_bytes(&self) -> usize {
        match &self.content {
            ResponseContent::Messages(list) => list.left_bytes(),
            ResponseContent::Rooms { .. } => 0,
        }
    }
}

/// A connection that speaks WebSocket.
pub(super) struct Ws {
    pub context: ws::Context,
    pub recipient: Recipient,
    /// The response to the upgrade, withheld until the store has answered: from then on the
    /// connection is in its room, or waits for a name. Boxed, because few connections have one.
    #[cfg(feature = "cluster")]
    pub opening: Option<Box<Piece>>,
}

/// A connection of a member, which is sent the events of a room: a WebSocket or an event stream.
#[derive(Default)]
pub(super) struct Recipient {
    /// Its attachment to a room, until either side ends it.
    pub attachment: Option<AttachmentKey>,
    /// Not read from until the domain admits it: another connection has its name and is being
    /// probed.
    pub is_paused: bool,
    /// Being sent pages of history, each when the previous one has mostly been written. Live events
    /// of its room are not queued meanwhile: it reads them from the history, too.
    pub is_catching_up: bool,
    /// On the list of connections that are due a page.
    pub is_page_due: bool,
    /// An upper bound on the bytes in the outbox that the last page and everything before it take.
    /// They do not count against the outbox's limit, or a long history would make its reader look
    /// slow.
    pub paged_bytes: u32,
}

impl Ws {
    /// Right after the upgrade.
    pub fn new(context: ws::Context) -> Ws {
        Ws {
            context,
            recipient: Recipient::default(),
            #[cfg(feature = "cluster")]
            opening: None,
        }
    }
}

/// A connection that is sent an event stream.
pub(super) struct EventStream {
    pub recipient: Recipient,
    pub form: Form,
    /// Until the first event, or admission: the response, which may still become a refusal.
    pub opening: Option<Box<Opening>>,
}

/// A response that has not begun.
pub(super) struct Opening {
    /// The connection's state between requests. Its codec has the request.
    pub http: Box<Http>,
    /// The head of the stream.
    pub head: Box<[u8]>,
    /// Whether the connection counted against the quota of an address before the request. A connection
    /// of a proxy counts only while it is sent a stream.
    pub was_counted: bool,
    /// It is to be refused, whatever the domain decides in this tick.
    pub is_refused: bool,
}

impl EventStream {
    /// Before the first event: begins the response.
    pub fn begin<S: Stream>(&mut self, link: &mut Link<S>, ack_timeout: Duration) {
        if let Some(opening) = self.opening.take() {
            link.stream_mut().set_ack_timeout(ack_timeout);
            link.put(Piece::private(opening.head));
        }
    }
}

/// Which limit a connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OverLimit {
    /// The quota of its address.
    Address,
    /// The server's capacity.
    Server,
}

/// What a connection waits for while its timer is armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TimeoutKind {
    /// The rest of a request's head, or the first byte.
    Head,
    /// The rest of a request's body.
    Body,
    /// The next request, or progress of the peer in reading its responses.
    Idle,
    /// Input from a WebSocket peer; if there is none, the peer is pinged. For an event stream: output.
    Ping,
    /// A pong or any other input, after a ping.
    Pong,
    /// The rest of a WebSocket message, or of a control frame. Neither more bytes of it nor control
    /// frames between its fragments extend the deadline. The peer is not pinged meanwhile: either
    /// the message is complete in time, or the connection ends.
    Message,
    /// The end of the peer's direction, after ours. It also bounds the life of a connection that is
    /// over a limit (`Table::set_over_limit`).
    Linger,
}

impl TimeoutKind {
    /// The class of its deadlines, with their timeout.
    pub fn class(self, config: &ConnectionConfig) -> (usize, Duration) {
        let timeout = match self {
            TimeoutKind::Head => config.header_timeout,
            TimeoutKind::Body => config.body_timeout,
            TimeoutKind::Idle => config.idle_timeout,
            TimeoutKind::Ping => config.ping_interval,
            TimeoutKind::Pong => config.ping_timeout,
            TimeoutKind::Message => config.body_timeout,
            TimeoutKind::Linger => config.linger_timeout,
        };
        (self as usize, timeout)
    }
}

impl<S> Linked<ConnTag> for Connection<S> {
    fn links(&self) -> &Links<ConnTag> {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links<ConnTag> {
        &mut self.links
    }
}

impl<S> Waiting<ConnTag> for Connection<S> {
    fn deadline(&self) -> Mono {
        self.deadline
    }

    fn set_deadline(&mut self, deadline: Mono) {
        self.deadline = deadline;
    }
}

/// Input that has arrived and was not handled. Few connections have any, so it takes a word.
#[derive(Default)]
pub(super) struct Buffered(
    #[allow(clippy::box_collection, reason = "`None` takes one word instead of three")]
    Option<Box<Vec<u8>>>,
);

impl Buffered {
    /// A copy of this input.
    pub fn of(input: &[u8]) -> Buffered {
        Buffered((!input.is_empty()).then(|| Box::new(input.to_vec())))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Takes the input.
    pub fn take(&mut self) -> Vec<u8> {
        self.0.take().map(|input| *input).unwrap_or_default()
    }

    /// Bytes of heap in use.
    fn bytes(&self) -> usize {
        let bytes =
            |input: &Vec<u8>| allocation(size_of::<Vec<u8>>()) + allocation(input.capacity());
        self.0.as_deref().map_or(0, bytes)
    }
}

/// A number of bytes for [`Held`].
fn saturated(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The sums of what all connections hold.
pub(super) struct HeldTallies {
    idle: Tally,
    burden: Tally,
}

impl HeldTallies {
    pub fn new(ledger: &Ledger) -> HeldTallies {
        let [idle, burden] = [Account::Connections, Account::Burdens];
        HeldTallies { idle: ledger.tally(idle), burden: ledger.tally(burden) }
    }

    /// One connection holds `after` instead of `before`.
    pub fn change(&mut self, before: Held, after: Held, counters: &mut Counters) {
        self.idle.change(before.idle as usize, after.idle as usize);
        self.burden.change(before.burden as usize, after.burden as usize);
        counters.on_outbox_change(before.queued as usize, after.queued as usize);
    }

    /// The sums of [`Held::idle`] and [`Held::burden`].
    pub fn bytes(&self) -> (usize, usize) {
        (self.idle.bytes(), self.burden.bytes())
    }
}

impl<S: Stream> Connection<S> {
    /// Right after *accept*.
    pub(super) fn new(stream: S, http: Http, quota_address: Option<Address>) -> Connection<S> {
        Connection {
            link: Link::new(stream),
            protocol: Protocol::Http(Box::new(http)),
            quota_address,
            over_limit: None,
            timeout: None,
            is_overdue: false,
            deadline: Mono::ZERO,
            links: Links::default(),
            buffered: Buffered::default(),
            allowance: Meter::default(),
            is_queued: false,
            marks: FlushMarks::default(),
            carries: None,
            is_left_over: false,
            is_closed: false,
            has_hung_up: false,
            is_read_to_end: false,
            counted: Held::default(),
        }
    }

    /// Whether input was kept: a whole request, or bytes.
    pub(super) fn has_input(&self) -> bool {
        let has_request =
            matches!(&self.protocol, Protocol::Http(http) if http.codec.has_request());
        has_request || !self.buffered.is_empty()
    }

    /// Where the response deadline is kept; `None` for a WebSocket or an event stream.
    pub(super) fn response_deadline(&mut self) -> Option<&mut Mono> {
        match &mut self.protocol {
            Protocol::Http(http) => Some(&mut http.response_deadline),
            Protocol::Closing(deadline) => Some(deadline),
            Protocol::Ws(_) | Protocol::Stream(_) => None,
        }
    }

    pub(super) fn response_rest(&mut self) -> Option<&mut ResponseRest> {
        match &mut self.protocol {
            Protocol::Http(http) => http.rest.as_deref_mut(),
            _ => None,
        }
    }

    /// Whether it waits for a ping that is due at this time or later.
    pub(super) fn is_pinged(&self, from: Mono) -> bool {
        self.timeout == Some(TimeoutKind::Ping) && self.deadline >= from
    }

    pub(super) fn recipient(&mut self) -> Option<&mut Recipient> {
        match &mut self.protocol {
            Protocol::Ws(ws) => Some(&mut ws.recipient),
            Protocol::Stream(stream) => Some(&mut stream.recipient),
            Protocol::Http(_) | Protocol::Closing(_) => None,
        }
    }

    /// What the peer is sent for these frames: their events if it reads a stream, whose response begins
    /// with the first.
    pub(super) fn transcode(
        &mut self,
        frames: Piece,
        transcoder: &mut Transcoder,
        ledger: &Ledger,
        config: &ConnectionConfig,
    ) -> Piece {
        let Protocol::Stream(stream) = &mut self.protocol else { return frames };
        stream.begin(&mut self.link, config.ping_timeout);
        transcoder.piece(frames, stream.form, ledger)
    }

    pub(super) fn ws(&mut self) -> Option<&mut Ws> {
        match &mut self.protocol {
            Protocol::Ws(ws) => Some(ws),
            _ => None,
        }
    }

    /// Reports what it holds.
    pub(super) fn recount(&mut self, tallies: &mut HeldTallies, counters: &mut Counters) {
        let held = match self.is_idle_ws() {
            true => Held { idle: saturated(self.link.stream().heap_bytes()), ..Held::default() },
            false => self.held(),
        };
        if held != self.counted {
            tallies.change(self.counted, held, counters);
            self.counted = held;
        }
    }

    /// Whether it is a WebSocket with nothing queued, buffered or under way. Each recipient of each
    /// batch is, after its flush.
    fn is_idle_ws(&self) -> bool {
        self.link.outbox().is_empty()
            && self.buffered.is_empty()
            && matches!(&self.protocol, Protocol::Ws(ws) if !ws.context.is_under_way())
    }

    /// What it holds now. `counted` is what it held when that was last reported.
    pub(super) fn held(&self) -> Held {
        let outbox = self.link.outbox();
        Held {
            idle: saturated(self.idle_bytes()),
            burden: saturated(outbox.bytes() + self.input_bytes()),
            queued: saturated(outbox.queued()),
        }
    }

    /// Bytes of heap that are no burden.
    fn idle_bytes(&self) -> usize {
        let protocol = match &self.protocol {
            Protocol::Http(_) => allocation(size_of::<Http>()),
            Protocol::Stream(_) => allocation(size_of::<EventStream>()),
            Protocol::Ws(_) | Protocol::Closing(_) => 0,
        };
        self.link.stream().heap_bytes() + protocol
    }

    /// Bytes of heap that its input holds: the received part of an unfinished request or message,
    /// and `buffered`.
    fn input_bytes(&self) -> usize {
        let unfinished = match &self.protocol {
            Protocol::Http(http) => {
                let header = http.proxy_header.as_ref().map_or(0, Vec::capacity);
                let rest = http.rest.as_ref().map_or(0, |_| allocation(size_of::<ResponseRest>()));
                http.codec.bytes() + header + rest
            }
            Protocol::Ws(ws) => ws.context.bytes(),
            Protocol::Stream(stream) => stream.opening.as_ref().map_or(0, |opening| {
                let boxes = allocation(size_of::<Opening>()) + allocation(size_of::<Http>());
                boxes + allocation(opening.head.len()) + opening.http.codec.bytes()
            }),
            Protocol::Closing(_) => 0,
        };
        self.buffered.bytes() + unfinished
    }

    /// Bytes that the peer makes the server hold beyond what every connection does: output that
    /// it does not read, shared pieces included, and input that it does not finish.
    pub(super) fn burden_bytes(&self) -> usize {
        let outbox = self.link.outbox();
        outbox.queued().max(outbox.bytes()) + self.input_bytes()
    }
}
