//! A connection: a link and the protocol spoken over it.
//!
//! Owns what one connection needs between ticks. Must never know what is in a message. The
//! invariant: it has at most one timer, the one of what it is waiting for.

use std::net::IpAddr;
use std::time::Duration;

use super::settings::ConnectionConfig;
use crate::chat::{Address, AttachmentKey};
use crate::clock::Mono;
use crate::counters::Counters;
use crate::http;
use crate::ledger::{Tally, allocation};
use crate::net::{Link, Stream};
use crate::slots::Key;
use crate::timers::{Timer, TimerKey};
use crate::ws;

/// A handle on a connection.
pub type ConnectionKey<S> = Key<Connection<S>>;

/// An accepted stream with all that belongs to it.
pub struct Connection<S> {
    pub(super) link: Link<S>,
    pub(super) protocol: Protocol,
    /// Where it comes from; a Unix-domain peer has no address.
    pub(super) peer: Option<IpAddr>,
    /// Whose share of connections it counts against.
    pub(super) share: Option<Address>,
    /// It is one too many: its first request is refused.
    pub(super) excess: Option<Excess>,
    pub(super) timer: Option<(TimeoutKind, TimerKey)>,
    /// Input that arrived and cannot be handled yet; no more is read meanwhile. At most one
    /// scratch.
    pub(super) held: Vec<u8>,
    /// On one of the two lists of those to be read from.
    pub(super) ready: bool,
    /// On the list of those to be flushed.
    pub(super) dirty: bool,
    /// On the list of those to be flushed when there is time.
    pub(super) bulky: bool,
    /// Until when the answers queued for it may take, as long as some of them leaves meanwhile.
    pub(super) answer_due: Mono,
    /// When what it has cost so far would be due at an even pace.
    pub(super) spent: Mono,
    /// On the list of those to be freed.
    pub(super) over: bool,
    /// The last readable edge came with the peer's end: read until it.
    pub(super) hangup: bool,
    /// The peer has ended its direction, and that was read.
    pub(super) read_over: bool,
    /// Bytes of heap reported for it so far.
    pub(super) counted: usize,
    /// Bytes in its outbox reported so far, shared ones included.
    pub(super) counted_outbox: usize,
}

// See the account in `ledger`. Without mio's own checks, which are in debug builds only.
#[cfg(all(target_pointer_width = "64", not(debug_assertions)))]
const _: () = assert!(
    size_of::<Connection<crate::net::Socket>>() == 216 + if cfg!(feature = "tls") { 8 } else { 0 }
        && size_of::<Ws>() == 56
);

/// What a connection speaks.
pub(super) enum Protocol {
    /// Requests and responses.
    Http(Box<Http>),
    /// Frames, after an upgrade.
    Ws(Box<Ws>),
    /// Nothing more: what is queued leaves, what arrives is thrown away (RFC 9112 §9.6).
    Closing,
}

/// What a listener, and what is accepted from it, is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The contract.
    Chat,
    /// The contract, for clients of a balancer: it says who they are before they say anything.
    Proxied,
    /// The metrics and nothing else. Taken in even when the server is full: that is when somebody
    /// looks.
    Metrics,
}

/// A connection that speaks HTTP.
pub(super) struct Http {
    pub codec: http::Codec,
    pub purpose: Purpose,
    /// What has come of the PROXY header, until that is whole; `None`: none is due.
    pub introduction: Option<Vec<u8>>,
}

/// A connection that speaks WebSocket.
pub(super) struct Ws {
    pub context: ws::Context,
    /// Its place in a room, until either side ends it.
    pub attachment: Option<AttachmentKey>,
    /// Waiting for a name: not to be read before the domain admits it.
    pub waiting: bool,
    /// Sent pages of history, each when the last has mostly left. What its room says meanwhile
    /// waits in the history.
    pub catching_up: bool,
    /// On the list of those to be sent their next page.
    pub hungry: bool,
    /// What such pages have left in the outbox, which must not make it look slow.
    pub paged: usize,
}

impl Ws {
    /// Right after the upgrade.
    pub fn new(context: ws::Context) -> Ws {
        Ws {
            context,
            attachment: None,
            waiting: false,
            catching_up: false,
            hungry: false,
            paged: 0,
        }
    }
}

/// Why a connection is one too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Excess {
    /// Its address has its share already.
    Quota,
    /// The server has as many as it may.
    Full,
}

/// What a connection waits for, with a deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TimeoutKind {
    /// The first byte, or the rest of a request's head.
    Head,
    /// The rest of a request's body.
    Body,
    /// The next request, or the peer to read the last response.
    Idle,
    /// Anything from a WebSocket peer; a ping follows.
    Ping,
    /// Anything from the peer after a ping.
    Pong,
    /// The peer's end of input, after ours.
    Linger,
}

/// A connection's timer.
pub(super) struct ConnectionTimer<S> {
    pub kind: TimeoutKind,
    pub key: ConnectionKey<S>,
}

impl<S> Timer for ConnectionTimer<S> {
    type Config = ConnectionConfig;
    const CLASSES: usize = 6;
    fn class(self, config: &ConnectionConfig) -> (usize, Duration) {
        let timeout = match self.kind {
            TimeoutKind::Head => config.header_timeout,
            TimeoutKind::Body => config.body_timeout,
            TimeoutKind::Idle => config.idle_timeout,
            TimeoutKind::Ping => config.ping_interval,
            TimeoutKind::Pong => config.ping_timeout,
            TimeoutKind::Linger => config.linger_timeout,
        };
        (self.kind as usize, timeout)
    }
}

// By hand, because the derives would ask the same of `S`.
impl<S> Clone for ConnectionTimer<S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for ConnectionTimer<S> {}

impl<S: Stream> Connection<S> {
    pub(super) fn ws(&mut self) -> Option<&mut Ws> {
        match &mut self.protocol {
            Protocol::Ws(ws) => Some(ws),
            _ => None,
        }
    }

    /// Reports what it holds.
    pub(super) fn recount(&mut self, heap: &mut Tally, counters: &mut Counters) {
        let (bytes, queued) = (self.heap_bytes(), self.link.outbox().queued());
        heap.change(self.counted, bytes);
        counters.on_outbox_change(self.counted_outbox, queued);
        (self.counted, self.counted_outbox) = (bytes, queued);
    }

    /// Bytes of heap held, without the shared ones in its outbox.
    pub(super) fn heap_bytes(&self) -> usize {
        let protocol = match &self.protocol {
            Protocol::Http(_) => allocation(size_of::<Http>()),
            Protocol::Ws(_) => allocation(size_of::<Ws>()),
            Protocol::Closing => 0,
        };
        self.link.outbox().bytes() + self.link.stream().heap_bytes() + self.input_bytes() + protocol
    }

    /// What it has sent, or said that it would, and what could not be handled yet.
    pub(super) fn input_bytes(&self) -> usize {
        let under_way = match &self.protocol {
            Protocol::Http(http) => {
                let introduction = http.introduction.as_ref().map_or(0, Vec::capacity);
                http.codec.bytes() + http.codec.promised() + introduction
            }
            Protocol::Ws(ws) => ws.context.bytes(),
            Protocol::Closing => 0,
        };
        allocation(self.held.capacity()) + under_way
    }

    /// What it has us keep beyond what every connection does: what it does not take, the pieces
    /// that it shares with others included, and what it does not finish.
    pub(super) fn burden(&self) -> usize {
        let outbox = self.link.outbox();
        outbox.queued().max(outbox.bytes()) + self.input_bytes()
    }
}
