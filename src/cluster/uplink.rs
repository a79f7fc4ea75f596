//! The connection to the store, without I/O.
//!
//! Owns the states of the connection, the greeting, the calls that have no reply yet, and the
//! deadlines. Must not know what a call is for: its token comes back with the reply. The invariant:
//! replies answer calls in the order of sending, and each call that was accepted gets exactly one
//! [`UplinkEvent::Reply`] or [`UplinkEvent::Failed`], or is handed back by [`Uplink::settle`].
//!
//! ```text
//!            poll_connect        on_connected           all said hello           resume
//!    Down ───────────────→ Connecting ──────→ Greeting ───────────────→ CatchingUp ─────→ Up
//!      ↑                       │                  │                          │            │
//!      └───────────────────────┴── on_lost, a deadline, FENCED, LOADING, … ──┴────────────┘
//! ```
//!
//! Each connection is an incarnation of the node. The store refuses what an earlier incarnation sent
//! ([`StoreErrorKind::Fenced`]), so once all partitions have answered the greeting, what was sent
//! before either has been executed or never will be. Then the truth is read (*catching up*), and what
//! still needs an answer is sent again (*resume*), in its old order.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use log::{error, info, warn};

use super::library::{FUNCTIONS, Function, Library, SCHEMA};
use super::resp::{
    BadReply, Reply, ReplyReader, StoreError, StoreErrorKind, StoreEvent, digits, pack, pack_head,
    pack_part,
};
use crate::clock::{Entropy, Mono};
use crate::counters::StoreCounters;

/// Most calls without a reply. At 30 µs each, the store answers them within an eighth of a second.
pub const CALLS_MAX: usize = 4096;

/// Most bytes of the arguments of calls without a reply.
pub const CALL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A call that ends something ([`Function::ends_something`]) may exceed both bounds by this factor.
const RESERVE: usize = 2;

/// A call that has had no reply for so long is slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// The shortest and the longest pause between two attempts to connect, before jitter halves some.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// An attempt without a pause is made no sooner after the one before.
const AT_ONCE_INTERVAL: Duration = Duration::from_secs(1);

/// The oldest version of Redis that has functions and sharded channels.
const VERSION_MIN: u64 = 7;

/// What does not change from connection to connection.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// What the names of all keys and channels begin with.
    pub prefix: String,
    /// At least 1.
    pub partitions: u16,
    /// How long the store may take to connect, to greet, or to reply.
    pub timeout: Duration,
    /// How long the store keeps a silent server's people.
    pub lease: Duration,
    /// The longest time for which an empty room is kept.
    pub ttl_max: Duration,
    /// The secret that the store keeps if it has none yet; empty if a file has it.
    pub secret_draft: String,
}

/// How to log in at the store.
#[derive(Clone, Copy, Default)]
pub struct Login<'a> {
    /// The user; `None`: `default`.
    pub user: Option<&'a str>,
    /// The password; `None`: no login.
    pub password: Option<&'a str>,
    /// The number of the database.
    pub database: u32,
}

/// A call of a function.
#[derive(Clone, Copy)]
pub struct StoreCall<'a> {
    /// Less than [`UplinkConfig::partitions`].
    pub partition: u16,
    /// The function.
    pub function: Function,
    /// Its arguments, without the node and its incarnation.
    pub args: &'a [&'a [u8]],
    /// Whether the call waits for another connection however long that takes. If not, it fails once
    /// it is older than the timeout while there is none.
    pub is_lasting: bool,
}

/// The store cannot be asked now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unavailable;

/// What has come of the store's bytes, or of time.
#[derive(Debug)]
pub enum UplinkEvent<T> {
    /// The store knows this connection. Catching up begins; [`Uplink::resume`] ends it.
    Connected {
        /// The node is a new one: the store knows nothing of its connections.
        is_fresh: bool,
        /// The secret that the first partition keeps; may be empty.
        secret: Vec<u8>,
        /// The store's time, in microseconds since the Unix epoch.
        store_micros: u64,
    },
    /// The reply to the call or command with this token. Never [`Reply::Error`].
    Reply(T, Reply),
    /// There will be no reply.
    Failed(T, CallFailure),
    /// A push, of the form that [`StorePush::decode`](super::record::StorePush::decode) reads.
    Push {
        /// Where it comes from.
        partition: u16,
        /// Its text.
        text: Vec<u8>,
    },
    /// The connection that was [`UplinkEvent::Connected`] is lost.
    Lost,
    /// The store refused a call, because it has given up this node or this connection. Another
    /// connection follows.
    Fenced,
    /// The store cannot be used, and was not used before: the server should end.
    Fatal(StartProblem),
}

/// Why a call has no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallFailure {
    /// The store is full. Nothing was done.
    Full,
    /// The connection is lost. Nothing was done, or the call is one that is never sent again.
    Away,
    /// The connection is lost, and the call may have been executed.
    Unknown,
    /// The store refused the call for a reason that only a bug can have.
    Internal,
}

/// Why the store cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartProblem {
    /// Its version.
    TooOld(String),
    /// What the store says.
    NoRights(String),
    /// What the store says.
    OtherSchema(String),
    /// What the store says.
    Refused(String),
}

impl fmt::Display for StartProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartProblem::TooOld(version) => {
                write!(f, "the store is too old ({version}); Redis 7 or Valkey is needed")
            }
            StartProblem::NoRights(text) => {
                write!(f, "the store's user lacks a right, or its password is wrong: {text}")
            }
            StartProblem::OtherSchema(text) => write!(
                f,
                "the store holds the records of another version ({text}, this one has {SCHEMA}); \
                 stop all its servers, empty it, and start again"
            ),
            StartProblem::Refused(text) => write!(f, "the store refuses to serve: {text}"),
        }
    }
}

/// The connection to the store. `T` is what comes back with a reply.
pub struct Uplink<T> {
    config: UplinkConfig,
    library: Library,
    /// For each function: its packed name and the number of keys.
    heads: Vec<Vec<u8>>,
    /// For each partition: its packed key.
    keys: Vec<Vec<u8>>,
    state: UplinkState,
    node: Option<Node>,
    /// Packed: the node and its incarnation.
    identity: Vec<u8>,
    incarnation: [u8; 8],
    /// What the first partition has answered to the greeting: the secret, and its time.
    welcome: (Vec<u8>, u64),
    /// Random, for the next pause.
    jitter: u8,
    /// Pauses since the last time in state Up.
    pauses: u32,
    /// When the last attempt without a pause was allowed.
    at_once: Option<Mono>,
    /// Whether the store may not be unfit any more, because it has been used.
    was_used: bool,
    /// What was logged last about the connection, so that each thing is logged once.
    logged: String,
    reader: ReplyReader,
    output: Vec<u8>,
    /// What was sent on this connection and has no reply, in the order of sending.
    sent: VecDeque<SentCall<T>>,
    /// Calls of earlier connections that have no reply, in their order. Empty in state Up.
    unsent: VecDeque<WaitingCall<T>>,
    /// Of the calls in `sent` and `unsent` that are sent again: their number, and their bytes.
    calls: (usize, usize),
    /// Of the others in `sent`.
    once: (usize, usize),
    is_slow: bool,
    counters: StoreCounters,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum UplinkState {
    Down { until: Mono },
    Connecting { deadline: Mono },
    Greeting { deadline: Mono },
    CatchingUp,
    Up,
}

/// What the store calls this server.
struct Node {
    name: String,
    /// No connection of this node has been welcomed.
    is_fresh: bool,
}

struct SentCall<T> {
    at: Mono,
    what: SentKind<T>,
}

enum SentKind<T> {
    Greeting(GreetingStep),
    /// Sent again on the next connection.
    Call(WaitingCall<T>),
    /// The same; the store has refused it without executing it.
    Refused(WaitingCall<T>),
    /// Not sent again.
    Once {
        token: T,
        bytes: usize,
    },
}

/// A call without a reply.
struct WaitingCall<T> {
    token: T,
    function: Function,
    partition: u16,
    /// Packed, without the head.
    args: Vec<u8>,
    args_count: usize,
    is_lasting: bool,
    /// When it was sent first.
    since: Mono,
    may_have_run: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum GreetingStep {
    Hello,
    Select,
    Role,
    Version,
    Load,
    Subscribe,
    Register(u16),
}

/// What becomes of a connection after an event.
enum Verdict {
    Fine,
    /// Another attempt follows after a pause.
    Down(String),
    /// Another attempt follows at once.
    Again(String),
    /// The store is unfit.
    Problem(StartProblem),
}

impl<T> Uplink<T> {
    /// A connection that does not exist yet. `library`: what the store is to execute.
    pub fn new(config: UplinkConfig, library: Library) -> Uplink<T> {
        let head = |(_, name): &(Function, &str)| {
            let mut head = Vec::new();
            pack_part(&mut head, format!("{}_{name}", library.name()).as_bytes());
            pack_part(&mut head, b"1");
            head
        };
        let heads = FUNCTIONS.iter().map(head).collect();
        let key = |partition| {
            let mut key = Vec::new();
            pack_part(&mut key, format!("{}:{{{partition}}}:nodes", config.prefix).as_bytes());
            key
        };
        Uplink {
            heads,
            keys: (0..config.partitions).map(key).collect(),
            config,
            library,
            state: UplinkState::Down { until: Mono::ZERO },
            node: None,
            identity: Vec::new(),
            incarnation: [0; 8],
            welcome: (Vec::new(), 0),
            jitter: 0,
            pauses: 0,
            at_once: None,
            was_used: false,
            logged: String::new(),
            reader: ReplyReader::default(),
            output: Vec::new(),
            sent: VecDeque::new(),
            unsent: VecDeque::new(),
            calls: (0, 0),
            once: (0, 0),
            is_slow: false,
            counters: StoreCounters::default(),
        }
    }

    /// What the names of a partition's keys begin with: `dc:{0}:`.
    pub fn key_prefix(&self, partition: u16) -> String {
        format!("{}:{{{partition}}}:", self.config.prefix)
    }

    /// Whether calls are accepted.
    pub fn is_up(&self) -> bool {
        self.state == UplinkState::Up
    }

    /// Whether the store has welcomed this connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, UplinkState::CatchingUp | UplinkState::Up)
    }

    /// Whether there should be no stream: what there is of one must be closed.
    pub fn is_down(&self) -> bool {
        matches!(self.state, UplinkState::Down { .. })
    }

    /// Whether the oldest call has had no reply for a second.
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Numbers for the metrics.
    pub fn counters(&self) -> StoreCounters {
        let in_flight = (self.calls.0 + self.once.0) as u64;
        StoreCounters { is_up: self.is_up(), in_flight, ..self.counters }
    }

    /// Bytes that are kept.
    pub fn heap_bytes(&self) -> usize {
        self.calls.1 + self.once.1 + self.reader.buffered_bytes() + self.output.len()
    }

    /// Whether a stream should be opened now. If so, [`Uplink::on_connected`] or [`Uplink::on_lost`]
    /// must follow.
    pub fn poll_connect(&mut self, now: Mono, entropy: &mut dyn Entropy) -> bool {
        match self.state {
            UplinkState::Down { until } if until <= now => {}
            _ => return false,
        }
        self.state = UplinkState::Connecting { deadline: now.after(self.config.timeout) };
        self.incarnation = entropy.bytes();
        [self.jitter] = entropy.bytes();
        if self.node.is_none() {
            let name = u64::from_be_bytes(entropy.bytes());
            self.node = Some(Node { name: format!("{name:016x}"), is_fresh: true });
        }
        true
    }

    /// The stream is open. Greets the store.
    pub fn on_connected(&mut self, now: Mono, login: Login<'_>) {
        let Some(node) = &self.node else { return };
        self.state = UplinkState::Greeting { deadline: now.after(self.config.timeout) };
        let incarnation = format!("{:016x}", u64::from_be_bytes(self.incarnation));
        self.identity.clear();
        pack_part(&mut self.identity, node.name.as_bytes());
        pack_part(&mut self.identity, incarnation.as_bytes());
        let fresh = if node.is_fresh { "1" } else { "" };
        let out = &mut self.output;
        let name = format!("dc-{}", node.name);
        let mut greet = |step, parts: &[&str]| {
            let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
            pack(out, &parts);
            self.sent.push_back(SentCall { at: now, what: SentKind::Greeting(step) });
        };
        match login.password {
            Some(password) => {
                let user = login.user.unwrap_or("default");
                let hello = ["HELLO", "3", "AUTH", user, password, "SETNAME", &name];
                greet(GreetingStep::Hello, &hello);
            }
            None => greet(GreetingStep::Hello, &["HELLO", "3", "SETNAME", &name]),
        }
        if login.database > 0 {
            greet(GreetingStep::Select, &["SELECT", &login.database.to_string()]);
        }
        greet(GreetingStep::Role, &["ROLE"]);
        greet(GreetingStep::Version, &["INFO", "server"]);
        greet(GreetingStep::Load, &["FUNCTION", "LOAD", self.library.source()]);
        for partition in 0..self.config.partitions {
            let channel = format!("{}:{{{partition}}}:to:{}", self.config.prefix, node.name);
            greet(GreetingStep::Subscribe, &["SSUBSCRIBE", &channel]);
        }
        let micros = |time: Duration| time.as_micros().to_string();
        let (lease, ttl_max) = (micros(self.config.lease), micros(self.config.ttl_max));
        let args = [&lease, SCHEMA, fresh, &self.config.secret_draft, &ttl_max];
        let (mut packed, count) = (Vec::new(), args.len());
        args.iter().for_each(|arg| pack_part(&mut packed, arg.as_bytes()));
        for partition in 0..self.config.partitions {
            self.put_call(Function::Hello, partition, count, &packed);
            let what = SentKind::Greeting(GreetingStep::Register(partition));
            self.sent.push_back(SentCall { at: now, what });
        }
    }

    /// The stream has ended, or could not be opened.
    pub fn on_lost(&mut self, now: Mono, why: &dyn fmt::Display, events: &mut Vec<UplinkEvent<T>>) {
        self.apply(now, Verdict::Down(why.to_string()), events);
    }

    /// The store has sent these bytes.
    pub fn on_bytes(&mut self, now: Mono, input: &[u8], events: &mut Vec<UplinkEvent<T>>) {
        let mut reader = std::mem::take(&mut self.reader);
        reader.feed(input);
        let drained = reader.drain(|event| {
            if !self.is_down() {
                let verdict = self.on_event(now, event, events);
                self.apply(now, verdict, events);
            }
        });
        if let Err(BadReply) = drained {
            self.apply(now, Verdict::Down("what it sends is not RESP3".to_owned()), events);
        }
        if !self.is_down() {
            self.reader = reader;
        }
    }

    /// What is to be sent; `None`: nothing.
    pub fn output(&mut self) -> Option<Vec<u8>> {
        (!self.output.is_empty()).then(|| std::mem::take(&mut self.output))
    }

    /// Calls a function. It is sent again on the next connection, if this one breaks before the
    /// reply.
    pub fn call(&mut self, now: Mono, call: StoreCall<'_>, token: T) -> Result<(), Unavailable> {
        let factor = if call.function.ends_something() { RESERVE } else { 1 };
        if !self.is_up() || !has_capacity(self.calls, factor) {
            return Err(Unavailable);
        }
        let waiting = WaitingCall {
            token,
            function: call.function,
            partition: call.partition,
            args: pack_args(call.args),
            args_count: call.args.len(),
            is_lasting: call.is_lasting,
            since: now,
            may_have_run: false,
        };
        add(&mut self.calls, waiting.args.len());
        self.send(now, waiting);
        Ok(())
    }

    /// Calls a function, also while catching up. It is not sent again.
    pub fn call_catching_up(
        &mut self,
        now: Mono,
        call: StoreCall<'_>,
        token: T,
    ) -> Result<(), Unavailable> {
        self.check_once()?;
        let args = pack_args(call.args);
        self.put_call(call.function, call.partition, call.args.len(), &args);
        self.sent_once(now, token, args.len());
        Ok(())
    }

    /// Sends a command of the store's own, also while catching up. It is not sent again.
    pub fn command(&mut self, now: Mono, parts: &[&[u8]], token: T) -> Result<(), Unavailable> {
        self.check_once()?;
        pack(&mut self.output, parts);
        self.sent_once(now, token, parts.iter().map(|part| part.len()).sum());
        Ok(())
    }

    /// Hands back the calls of earlier connections that `is_settled` tells: they are answered, or
    /// need not be sent again. Its second argument: whether the call may have been executed.
    pub fn settle(&mut self, mut is_settled: impl FnMut(&T, bool) -> bool) -> Vec<T> {
        let (mut settled, mut kept) = (Vec::new(), VecDeque::new());
        for waiting in self.unsent.drain(..) {
            if is_settled(&waiting.token, waiting.may_have_run) {
                subtract(&mut self.calls, waiting.args.len());
                settled.push(waiting.token);
            } else {
                kept.push_back(waiting);
            }
        }
        self.unsent = kept;
        settled
    }

    /// Catching up is over: sends the calls of earlier connections again, in their order.
    pub fn resume(&mut self, now: Mono) {
        if self.state != UplinkState::CatchingUp {
            return;
        }
        self.state = UplinkState::Up;
        self.pauses = 0;
        for waiting in std::mem::take(&mut self.unsent) {
            self.send(now, waiting);
        }
    }

    /// Acts on the deadlines that have passed.
    pub fn sweep(&mut self, now: Mono, events: &mut Vec<UplinkEvent<T>>) {
        let verdict = match self.state {
            UplinkState::Connecting { deadline } if deadline <= now => {
                Verdict::Down("it does not accept the connection".to_owned())
            }
            UplinkState::Greeting { deadline } if deadline <= now => {
                Verdict::Down("it does not answer the greeting".to_owned())
            }
            UplinkState::CatchingUp | UplinkState::Up => self.judge_age(now),
            _ => Verdict::Fine,
        };
        self.apply(now, verdict, events);
        self.expire(now, events);
    }

    /// When [`Uplink::sweep`] or [`Uplink::poll_connect`] has something to do.
    pub fn next_deadline(&self) -> Option<Mono> {
        let connection = match self.state {
            UplinkState::Down { until } => Some(until),
            UplinkState::Connecting { deadline } | UplinkState::Greeting { deadline } => {
                Some(deadline)
            }
            UplinkState::CatchingUp | UplinkState::Up => self.sent.front().map(|oldest| {
                let limit = if self.is_slow { self.config.timeout } else { self.slow_after() };
                oldest.at.after(limit)
            }),
        };
        connection.into_iter().chain(self.first_expiry()).min()
    }

    fn slow_after(&self) -> Duration {
        SLOW_AFTER.min(self.config.timeout)
    }

    /// How long the oldest call has waited.
    fn judge_age(&mut self, now: Mono) -> Verdict {
        let Some(oldest) = self.sent.front() else { return Verdict::Fine };
        let age = now.since(oldest.at);
        if age >= self.config.timeout {
            return Verdict::Down(format!("no reply for {} s", age.as_secs()));
        }
        if age >= self.slow_after() && !std::mem::replace(&mut self.is_slow, true) {
            self.counters.slow += 1;
            warn!("the store is slow: a call has had no reply for {} ms", age.as_millis());
        }
        Verdict::Fine
    }

    /// When the first call of an earlier connection has waited too long.
    fn first_expiry(&self) -> Option<Mono> {
        let mut waiting = self.unsent.iter().filter(|waiting| !waiting.is_lasting);
        // They are in the order in which they were sent first.
        waiting.next().map(|waiting| waiting.since.after(self.config.timeout))
    }

    /// Fails the calls of earlier connections that have waited too long.
    fn expire(&mut self, now: Mono, events: &mut Vec<UplinkEvent<T>>) {
        if self.first_expiry().is_none_or(|expiry| expiry > now) {
            return;
        }
        for waiting in std::mem::take(&mut self.unsent) {
            if waiting.is_lasting || waiting.since.after(self.config.timeout) > now {
                self.unsent.push_back(waiting);
                continue;
            }
            subtract(&mut self.calls, waiting.args.len());
            let failure =
                if waiting.may_have_run { CallFailure::Unknown } else { CallFailure::Away };
            events.push(UplinkEvent::Failed(waiting.token, failure));
        }
    }

    fn check_once(&self) -> Result<(), Unavailable> {
        if self.is_connected() && has_capacity(self.once, 1) { Ok(()) } else { Err(Unavailable) }
    }

    fn sent_once(&mut self, at: Mono, token: T, bytes: usize) {
        add(&mut self.once, bytes);
        self.sent.push_back(SentCall { at, what: SentKind::Once { token, bytes } });
    }

    fn send(&mut self, at: Mono, waiting: WaitingCall<T>) {
        let WaitingCall { function, partition, args_count, .. } = waiting;
        self.put_call(function, partition, args_count, &waiting.args);
        self.sent.push_back(SentCall { at, what: SentKind::Call(waiting) });
    }

    /// Queues a call. Its arguments are packed.
    fn put_call(&mut self, function: Function, partition: u16, count: usize, args: &[u8]) {
        // FCALL, name, number of keys, key, node, incarnation.
        pack_head(&mut self.output, 6 + count);
        pack_part(&mut self.output, b"FCALL");
        let head = self.heads.get(function as usize).map(Vec::as_slice);
        let key = self.keys.get(usize::from(partition)).map(Vec::as_slice);
        debug_assert!(head.is_some() && key.is_some());
        for part in [head.unwrap_or_default(), key.unwrap_or_default(), &self.identity, args] {
            self.output.extend_from_slice(part);
        }
    }

    fn on_event(
        &mut self,
        now: Mono,
        event: StoreEvent,
        events: &mut Vec<UplinkEvent<T>>,
    ) -> Verdict {
        match event {
            StoreEvent::Reply(reply) => self.on_reply(now, reply, events),
            StoreEvent::Message { channel, text } => {
                // What is told before all partitions have welcomed this connection is found again by
                // catching up.
                let is_greeting = matches!(self.state, UplinkState::Greeting { .. });
                if let Some(partition) = self.partition_of(&channel).filter(|_| !is_greeting) {
                    events.push(UplinkEvent::Push { partition, text });
                }
                Verdict::Fine
            }
            StoreEvent::Subscribed => {
                let is_subscribe = |sent: &SentCall<T>| {
                    matches!(sent.what, SentKind::Greeting(GreetingStep::Subscribe))
                };
                if self.sent.front().is_some_and(is_subscribe) {
                    self.sent.pop_front();
                }
                Verdict::Fine
            }
            StoreEvent::OtherPush => Verdict::Fine,
        }
    }

    /// The partition of one of this node's channels.
    fn partition_of(&self, channel: &[u8]) -> Option<u16> {
        let rest = channel.strip_prefix(self.config.prefix.as_bytes())?.strip_prefix(b":{")?;
        let end = rest.iter().position(|byte| *byte == b'}')?;
        let number = digits(&rest[..end])?;
        u16::try_from(number).ok().filter(|partition| *partition < self.config.partitions)
    }

    fn on_reply(&mut self, now: Mono, reply: Reply, events: &mut Vec<UplinkEvent<T>>) -> Verdict {
        let Some(SentCall { at, what }) = self.sent.pop_front() else {
            return Verdict::Down("it answers what it was not asked".to_owned());
        };
        let (token, error) = match (what, reply) {
            (SentKind::Greeting(step), reply) => {
                return self.on_greeting(step, &reply, events);
            }
            (SentKind::Call(waiting) | SentKind::Refused(waiting), Reply::Error(error)) => {
                if error.means_nothing_was_done() {
                    // It waits for the next connection, and what came behind it, too.
                    let partition = waiting.partition;
                    self.sent.push_front(SentCall { at, what: SentKind::Refused(waiting) });
                    if error.kind == StoreErrorKind::Fenced {
                        self.refuse_all(partition);
                    }
                    return self.on_refused(error, events);
                }
                subtract(&mut self.calls, waiting.args.len());
                (waiting.token, error)
            }
            (SentKind::Once { token, bytes }, Reply::Error(error)) => {
                subtract(&mut self.once, bytes);
                if error.means_nothing_was_done() {
                    events.push(UplinkEvent::Failed(token, CallFailure::Away));
                    return self.on_refused(error, events);
                }
                (token, error)
            }
            (SentKind::Call(waiting) | SentKind::Refused(waiting), reply) => {
                subtract(&mut self.calls, waiting.args.len());
                self.on_answered(now, at);
                events.push(UplinkEvent::Reply(waiting.token, reply));
                return Verdict::Fine;
            }
            (SentKind::Once { token, bytes }, reply) => {
                subtract(&mut self.once, bytes);
                self.on_answered(now, at);
                events.push(UplinkEvent::Reply(token, reply));
                return Verdict::Fine;
            }
        };
        self.on_answered(now, at);
        let failure = match error.kind {
            StoreErrorKind::OutOfMemory => CallFailure::Full,
            _ => {
                error!("the store refuses a call: {}", error.text);
                CallFailure::Internal
            }
        };
        events.push(UplinkEvent::Failed(token, failure));
        Verdict::Fine
    }

    fn on_answered(&mut self, now: Mono, at: Mono) {
        self.counters.latency.observe(now.since(at));
        let is_slow = |oldest: &SentCall<T>| now.since(oldest.at) >= self.slow_after();
        if self.is_slow && !self.sent.front().is_some_and(is_slow) {
            self.is_slow = false;
        }
    }

    /// The store does not execute any call of this connection to this partition any more.
    fn refuse_all(&mut self, partition: u16) {
        for sent in std::mem::take(&mut self.sent) {
            let what = match sent.what {
                SentKind::Call(call) if call.partition == partition => SentKind::Refused(call),
                what => what,
            };
            self.sent.push_back(SentCall { what, ..sent });
        }
    }

    /// A call was refused without being executed, for a reason that concerns the connection.
    fn on_refused(&mut self, error: StoreError, events: &mut Vec<UplinkEvent<T>>) -> Verdict {
        match error.kind {
            StoreErrorKind::Fenced => {
                self.counters.fenced += 1;
                events.push(UplinkEvent::Fenced);
                Verdict::Again("it has given up this node or connection".to_owned())
            }
            // The greeting loads the functions.
            StoreErrorKind::NoFunction => Verdict::Again("it has lost the functions".to_owned()),
            _ => Verdict::Down(error.text),
        }
    }

    fn on_greeting(
        &mut self,
        step: GreetingStep,
        reply: &Reply,
        events: &mut Vec<UplinkEvent<T>>,
    ) -> Verdict {
        if let Reply::Error(error) = reply {
            return self.on_greeting_refused(step, error);
        }
        match step {
            GreetingStep::Role if reply.text(0) != "master" => {
                return Verdict::Down("it is a replica".to_owned());
            }
            GreetingStep::Version => {
                let version = version(reply.as_bytes());
                let major = version.split('.').next().map(str::as_bytes);
                if major.and_then(digits).is_none_or(|major| major < VERSION_MIN) {
                    return Verdict::Problem(StartProblem::TooOld(version.to_owned()));
                }
            }
            GreetingStep::Register(partition) => {
                return self.on_registered(partition, reply, events);
            }
            // A push answers it.
            GreetingStep::Subscribe => return Verdict::Down("it does not subscribe".to_owned()),
            _ => {}
        }
        Verdict::Fine
    }

    fn on_greeting_refused(&mut self, step: GreetingStep, error: &StoreError) -> Verdict {
        let text = || error.text.clone();
        match (step, error.kind) {
            (_, StoreErrorKind::NotNow) => Verdict::Down(text()),
            // If the library is not there, the store says so to the first call.
            (
                GreetingStep::Load,
                StoreErrorKind::LibraryExists
                | StoreErrorKind::NoRights
                | StoreErrorKind::OutOfMemory,
            ) => Verdict::Fine,
            (GreetingStep::Hello | GreetingStep::Load, StoreErrorKind::Unknown) => {
                Verdict::Problem(StartProblem::TooOld(text()))
            }
            (GreetingStep::Register(_), StoreErrorKind::NoFunction) => {
                let text = "the functions are not there, and it may not load them";
                Verdict::Problem(StartProblem::NoRights(text.to_owned()))
            }
            (_, StoreErrorKind::Schema) => Verdict::Problem(StartProblem::OtherSchema(text())),
            (_, StoreErrorKind::NoRights) => Verdict::Problem(StartProblem::NoRights(text())),
            _ => Verdict::Problem(StartProblem::Refused(text())),
        }
    }

    /// A partition has answered the greeting.
    fn on_registered(
        &mut self,
        partition: u16,
        reply: &Reply,
        events: &mut Vec<UplinkEvent<T>>,
    ) -> Verdict {
        if reply.status() != "KEPT" {
            // The lease has run out. Another node begins, because the store still cleans up after
            // this one.
            self.node = None;
            self.counters.leases_lost += 1;
            return Verdict::Again("it has given up this node".to_owned());
        }
        if partition == 0 {
            self.welcome = (reply.bytes(1).to_vec(), reply.number(2));
        }
        if partition + 1 < self.config.partitions {
            return Verdict::Fine;
        }
        let (secret, store_micros) = std::mem::take(&mut self.welcome);
        let is_fresh = match &mut self.node {
            Some(node) => std::mem::replace(&mut node.is_fresh, false),
            None => true,
        };
        events.push(UplinkEvent::Connected { is_fresh, secret, store_micros });
        self.state = UplinkState::CatchingUp;
        self.was_used = true;
        self.counters.connected += 1;
        self.logged.clear();
        info!("the store is connected");
        Verdict::Fine
    }

    /// Gives the connection up, if the verdict says so.
    fn apply(&mut self, now: Mono, verdict: Verdict, events: &mut Vec<UplinkEvent<T>>) {
        if self.is_down() {
            return;
        }
        let mut is_fatal = false;
        let (why, wants_pause) = match verdict {
            Verdict::Fine => return,
            Verdict::Down(why) => (why, true),
            Verdict::Again(why) => {
                let is_soon = self.at_once.is_some_and(|at| now.since(at) < AT_ONCE_INTERVAL);
                (why, is_soon)
            }
            Verdict::Problem(problem) if self.was_used => (problem.to_string(), true),
            Verdict::Problem(problem) => {
                is_fatal = true;
                let why = problem.to_string();
                events.push(UplinkEvent::Fatal(problem));
                (why, true)
            }
        };
        // The server ends with a line of its own.
        if why != self.logged && !is_fatal {
            warn!("the store is away: {why}; trying again");
            self.logged = why;
        }
        if self.is_connected() {
            events.push(UplinkEvent::Lost);
        }
        let until = if wants_pause { now.after(self.pause()) } else { now };
        if !wants_pause {
            self.at_once = Some(now);
        }
        self.state = UplinkState::Down { until };
        self.reader.clear();
        self.output.clear();
        self.is_slow = false;
        let mut waiting = VecDeque::new();
        for sent in self.sent.drain(..) {
            match sent.what {
                SentKind::Greeting(_) => {}
                SentKind::Call(call) => {
                    waiting.push_back(WaitingCall { may_have_run: true, ..call })
                }
                SentKind::Refused(call) => waiting.push_back(call),
                SentKind::Once { token, bytes } => {
                    subtract(&mut self.once, bytes);
                    events.push(UplinkEvent::Failed(token, CallFailure::Away));
                }
            }
        }
        // One of both is empty, unless the connection broke while it was catching up.
        waiting.append(&mut self.unsent);
        self.unsent = waiting;
    }

    /// The pause before the next attempt: twice as long each time, and between half and all of that.
    fn pause(&mut self) -> Duration {
        let doubled = PAUSE_MIN.saturating_mul(1 << self.pauses.min(10)).min(PAUSE_MAX);
        self.pauses = self.pauses.saturating_add(1);
        doubled / 2 + doubled * u32::from(self.jitter) / 510
    }
}

impl StoreError {
    /// Whether the call was not executed, for a reason that another connection may not have.
    fn means_nothing_was_done(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Fenced | StoreErrorKind::NoFunction | StoreErrorKind::NotNow
        )
    }
}

fn has_capacity((count, bytes): (usize, usize), factor: usize) -> bool {
    count < CALLS_MAX * factor && bytes < CALL_BYTES_MAX * factor
}

fn add(total: &mut (usize, usize), bytes: usize) {
    *total = (total.0 + 1, total.1 + bytes);
}

fn subtract(total: &mut (usize, usize), bytes: usize) {
    debug_assert!(total.0 > 0 && total.1 >= bytes);
    *total = (total.0.saturating_sub(1), total.1.saturating_sub(bytes));
}

fn pack_args(args: &[&[u8]]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(args.iter().map(|arg| arg.len() + 8).sum());
    args.iter().for_each(|arg| pack_part(&mut packed, arg));
    packed
}

/// The version in the reply to `INFO server`; `unknown` if it has none.
fn version(info: &[u8]) -> &str {
    let lines = std::str::from_utf8(info).unwrap_or_default().lines();
    let mut versions = lines.filter_map(|line| line.strip_prefix("redis_version:"));
    versions.next().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SeededEntropy;

    /// One step of a script.
    enum Step<'a> {
        /// The time is so many milliseconds after the start; deadlines are acted on.
        At(u64),
        /// A stream is opened.
        Open,
        /// A stream is not due to be opened.
        NotDue,
        /// The server sends these commands, one in each line.
        Sends(&'a str),
        /// The store sends this. Runs split at every byte.
        Says(&'a str),
        /// The stream breaks.
        Breaks,
        /// `touch` is called with this text as its argument and as the token.
        Call(&'a str),
        /// The same, and it waits without end.
        Lasting(&'a str),
        /// `resync` is called with this text, also while catching up.
        CatchUp(&'a str),
        /// A call is refused.
        Refused,
        /// Catching up is over.
        Resume,
        /// These calls are handed back: token, and whether it may have been executed.
        Settle(&'a str, &'a str),
        /// These events come.
        Happens(&'a str),
    }
    use Step::*;

    const LIBRARY: &str = "#!lua name=@LIB@";

    fn uplink(partitions: u16) -> Uplink<String> {
        let config = UplinkConfig {
            prefix: "dc".to_owned(),
            partitions,
            timeout: Duration::from_secs(5),
            lease: Duration::from_secs(10),
            ttl_max: Duration::from_secs(600),
            secret_draft: "draft".to_owned(),
        };
        Uplink::new(config, Library::of(LIBRARY))
    }

    /// The commands, with names that do not depend on the library's hash and on chance.
    fn shown_commands(output: &[u8], node: Option<&Node>, incarnation: [u8; 8]) -> String {
        let text = String::from_utf8(output.to_vec()).unwrap();
        let mut lines = text.split("\r\n");
        let mut shown = Vec::new();
        while let Some(count) = lines.next().and_then(|line| line.strip_prefix('*')) {
            let parts = (0..count.parse().unwrap()).map(|_| {
                let length = lines.next().and_then(|line| line.strip_prefix('$')).unwrap();
                let part = lines.next().unwrap();
                assert_eq!(length.parse(), Ok(part.len()));
                if part.is_empty() { "''" } else { part }
            });
            shown.push(parts.collect::<Vec<_>>().join(" "));
        }
        let library = Library::of(LIBRARY);
        let incarnation = format!("{:016x}", u64::from_be_bytes(incarnation));
        let node = node.map_or("no node", |node| &node.name);
        let shown = shown.join("\n").replace(library.name(), "lib");
        shown.replace(node, "NODE").replace(&incarnation, "INC")
    }

    fn shown_event(event: &UplinkEvent<String>) -> String {
        match event {
            UplinkEvent::Connected { is_fresh, secret, store_micros } => {
                let secret = String::from_utf8_lossy(secret);
                let kind = if *is_fresh { "fresh" } else { "known" };
                format!("connected {kind} {secret} {store_micros}")
            }
            UplinkEvent::Reply(token, reply) => format!("{token} = {}", reply.status()),
            UplinkEvent::Failed(token, why) => format!("{token} failed: {why:?}"),
            UplinkEvent::Push { partition, text } => {
                format!("push {partition} {}", String::from_utf8_lossy(text))
            }
            UplinkEvent::Lost => "lost".to_owned(),
            UplinkEvent::Fenced => "fenced".to_owned(),
            UplinkEvent::Fatal(problem) => format!("fatal: {problem}"),
        }
    }

    /// Runs a script with the store's `split`th byte beginning a new read.
    fn run(partitions: u16, script: &[Step<'_>], split: usize) {
        let (mut uplink, mut entropy) = (uplink(partitions), SeededEntropy::new(1));
        let (mut now, mut events, mut said) = (Mono::ZERO, Vec::new(), 0);
        let call = |partition, function, text: &str| (partition, function, text.to_owned());
        for (place, step) in script.iter().enumerate() {
            let place = format!("step {place}, split at {split}");
            let happened = |events: &mut Vec<UplinkEvent<String>>| {
                events.drain(..).map(|event| shown_event(&event)).collect::<Vec<_>>().join("\n")
            };
            match step {
                At(_) | Open | Says(_) | Breaks => assert_eq!(happened(&mut events), "", "{place}"),
                _ => {}
            }
            match step {
                At(millis) => {
                    let due = uplink.next_deadline();
                    now = Mono::from_micros(millis * 1000);
                    uplink.sweep(now, &mut events);
                    let is_due = due.is_some_and(|due| due <= now);
                    assert!(events.is_empty() || is_due, "{place}: it would have slept");
                }
                Open => {
                    assert!(uplink.next_deadline().is_some_and(|due| due <= now), "{place}");
                    assert!(uplink.poll_connect(now, &mut entropy), "{place}");
                    assert!(!uplink.poll_connect(now, &mut entropy), "{place}");
                    uplink.on_connected(now, Login { database: 0, ..Login::default() });
                }
                NotDue => assert!(!uplink.poll_connect(now, &mut entropy), "{place}"),
                Sends(expected) => {
                    let output = uplink.output().unwrap_or_default();
                    let node = uplink.node.as_ref();
                    let sent = shown_commands(&output, node, uplink.incarnation);
                    assert_eq!(sent, *expected, "{place}");
                }
                Says(text) => {
                    let bytes = text.replace(['\n', ';'], "\r\n").into_bytes();
                    let at = split.saturating_sub(said).min(bytes.len());
                    let (one, other) = bytes.split_at(at);
                    said += bytes.len();
                    for part in [one, other] {
                        uplink.on_bytes(now, part, &mut events);
                    }
                }
                Breaks => uplink.on_lost(now, &"reset", &mut events),
                Call(text) | Lasting(text) | CatchUp(text) => {
                    let (partition, function, token) = match step {
                        CatchUp(_) => call(0, Function::Resync, text),
                        _ => call(partitions - 1, Function::Touch, text),
                    };
                    let args = [text.as_bytes()];
                    let is_lasting = matches!(step, Lasting(_));
                    let call = StoreCall { partition, function, args: &args, is_lasting };
                    let called = match step {
                        CatchUp(_) => uplink.call_catching_up(now, call, token),
                        _ => uplink.call(now, call, token),
                    };
                    assert_eq!(called, Ok(()), "{place}");
                }
                Refused => {
                    let function = Function::Touch;
                    let call = StoreCall { partition: 0, function, args: &[], is_lasting: true };
                    let refused = uplink.call(now, call, "refused".to_owned());
                    assert_eq!(refused, Err(Unavailable), "{place}");
                }
                Resume => uplink.resume(now),
                Settle(which, expected) => {
                    let mut asked = Vec::new();
                    let settled = uplink.settle(|token, may_have_run| {
                        asked.push(format!("{token} {may_have_run}"));
                        which.contains(token.as_str())
                    });
                    assert_eq!(
                        (asked.join(", "), settled.join(",").as_str()),
                        ((*expected).to_owned(), *which)
                    );
                }
                Happens(expected) => assert_eq!(happened(&mut events), *expected, "{place}"),
            }
        }
        let (sent, unsent) = (uplink.sent.len(), uplink.unsent.len());
        assert_eq!(uplink.calls.0 + uplink.once.0, sent + unsent - greeting(&uplink));
    }

    fn greeting(uplink: &Uplink<String>) -> usize {
        let is_greeting = |sent: &&SentCall<String>| matches!(sent.what, SentKind::Greeting(_));
        uplink.sent.iter().filter(is_greeting).count()
    }

    /// `;` and line breaks in what the store says are CR LF.
    #[track_caller]
    fn check_with(partitions: u16, script: &[Step<'_>]) {
        let bytes = |step: &Step<'_>| match step {
            Says(text) => text.len() + text.matches([';', '\n']).count(),
            _ => 0,
        };
        for split in 0..=script.iter().map(bytes).sum() {
            run(partitions, script, split);
        }
    }

    #[track_caller]
    fn check(script: &[Step<'_>]) {
        check_with(1, script);
    }

    const GREETING: &str = "HELLO 3 SETNAME dc-NODE\nROLE\nINFO server\nFUNCTION LOAD #!lua name=lib\n\
        SSUBSCRIBE dc:{0}:to:NODE\n\
        FCALL lib_hello 1 dc:{0}:nodes NODE INC 10000000 1 1 draft 600000000";
    const GREETING_AGAIN: &str = "HELLO 3 SETNAME dc-NODE\nROLE\nINFO server\nFUNCTION LOAD #!lua name=lib\n\
        SSUBSCRIBE dc:{0}:to:NODE\n\
        FCALL lib_hello 1 dc:{0}:nodes NODE INC 10000000 1 '' draft 600000000";
    const HELLO: &str = "%1;+server;+redis;";
    const ROLE: &str = "*3;$6;master;:0;*0;";
    const INFO: &str = "=36;txt:# Server;redis_version:7.0.15;;";
    const LOADED: &str = "+dc_01234567;";
    const EXISTS: &str = "-ERR Library 'dc_01234567' already exists;";
    const SUBSCRIBED: &str = ">3;$10;ssubscribe;$3;abc;:1;";
    const KEPT: &str = "*3;$4;KEPT;$6;secret;$2;55;";

    const WELCOME: [Step<'_>; 6] =
        [Says(HELLO), Says(ROLE), Says(INFO), Says(EXISTS), Says(SUBSCRIBED), Says(KEPT)];

    /// A script that begins with a first connection in state Up.
    fn after_start<'a>(script: Vec<Step<'a>>) -> Vec<Step<'a>> {
        let mut whole = vec![Open, Sends(GREETING)];
        whole.extend(WELCOME);
        whole.extend([Happens("connected fresh secret 55"), Resume]);
        whole.extend(script);
        whole
    }

    /// The connection comes back.
    fn again<'a>() -> Vec<Step<'a>> {
        let mut whole = vec![Open, Sends(GREETING_AGAIN)];
        whole.extend(WELCOME);
        whole.push(Happens("connected known secret 55"));
        whole
    }

    fn joined<'a>(parts: impl IntoIterator<Item = Vec<Step<'a>>>) -> Vec<Step<'a>> {
        parts.into_iter().flatten().collect()
    }

    #[test]
    fn the_store_is_greeted_before_anything_is_asked() {
        check(&[
            Refused,
            Open,
            Refused,
            Sends(GREETING),
            Says(HELLO),
            Says(ROLE),
            Says(INFO),
            Says(LOADED),
            Says(SUBSCRIBED),
            Refused,
            Says(">3;$8;smessage;$11;dc:{0}:to:n;$1;Z;"),
            Says(KEPT),
            Happens("connected fresh secret 55"),
            Refused,
            CatchUp("a"),
            Sends("FCALL lib_resync 1 dc:{0}:nodes NODE INC a"),
            Says("*1;$2;OK;"),
            Happens("a = OK"),
            Resume,
            Call("b"),
            Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC b"),
        ]);
    }

    #[test]
    fn each_partition_is_greeted() {
        let greeting = GREETING
            .lines()
            .chain(["SSUBSCRIBE dc:{1}:to:NODE"])
            .chain(["FCALL lib_hello 1 dc:{1}:nodes NODE INC 10000000 1 1 draft 600000000"]);
        let mut greeting: Vec<_> = greeting.collect();
        greeting.swap(5, 6);
        check_with(
            2,
            &[
                Open,
                Sends(&greeting.join("\n")),
                Says(HELLO),
                Says(ROLE),
                Says(INFO),
                Says(EXISTS),
                Says(SUBSCRIBED),
                Says(SUBSCRIBED),
                Says(KEPT),
                Says("*3;$4;KEPT;$5;other;$2;56;"),
                Happens("connected fresh secret 55"),
                Resume,
                Call("a"),
                Sends("FCALL lib_touch 1 dc:{1}:nodes NODE INC a"),
                Says(">3;$8;smessage;$11;dc:{1}:to:n;$3;E x;*1;$2;OK;"),
                Happens("push 1 E x\na = OK"),
                Says(">3;$8;smessage;$11;dc:{2}:to:n;$3;E x;>3;$8;smessage;$1;x;$1;x;"),
                Happens(""),
            ],
        );
    }

    #[test]
    fn a_login_and_a_database_are_part_of_the_greeting() {
        let (mut uplink, mut entropy) = (uplink(1), SeededEntropy::new(1));
        assert!(uplink.poll_connect(Mono::ZERO, &mut entropy));
        let login = Login { user: Some("chat"), password: Some("p w"), database: 3 };
        uplink.on_connected(Mono::ZERO, login);
        let output = uplink.output().unwrap();
        let shown = shown_commands(&output, uplink.node.as_ref(), uplink.incarnation);
        let begin = "HELLO 3 AUTH chat p w SETNAME dc-NODE\nSELECT 3\nROLE\n";
        assert!(shown.starts_with(begin), "{shown}");
    }

    #[test]
    fn replies_answer_calls_in_their_order() {
        check(&after_start(vec![
            Call("a"),
            CatchUp("b"),
            Call("c"),
            Sends(
                "FCALL lib_touch 1 dc:{0}:nodes NODE INC a\n\
                 FCALL lib_resync 1 dc:{0}:nodes NODE INC b\n\
                 FCALL lib_touch 1 dc:{0}:nodes NODE INC c",
            ),
            Says("*1;$1;1;>3;$8;smessage;$11;dc:{0}:to:n;$3;E x;*1;$1;2;"),
            Happens("a = 1\npush 0 E x\nb = 2"),
            Says("-OOM command not allowed;"),
            Happens("c failed: Full"),
            Call("d"),
            Says("-WRONGTYPE Operation;"),
            Happens("d failed: Internal"),
        ]));
    }

    #[test]
    fn what_has_no_reply_is_sent_again_in_its_order() {
        check(&joined([
            after_start(vec![
                Call("a"),
                Call("b"),
                CatchUp("x"),
                Call("c"),
                Says("*1;$2;OK;"),
                Happens("a = OK"),
                Breaks,
                Happens("lost\nx failed: Away"),
                Refused,
                NotDue,
                At(50),
            ]),
            again(),
            vec![
                CatchUp("y"),
                Sends("FCALL lib_resync 1 dc:{0}:nodes NODE INC y"),
                Settle("b", "b true, c true"),
                Says("*1;$2;OK;"),
                Happens("y = OK"),
                Resume,
                Call("d"),
                Sends(
                    "FCALL lib_touch 1 dc:{0}:nodes NODE INC c\n\
                     FCALL lib_touch 1 dc:{0}:nodes NODE INC d",
                ),
                Says("*1;$1;1;*1;$1;2;"),
                Happens("c = 1\nd = 2"),
            ],
        ]));
    }

    #[test]
    fn a_connection_that_breaks_while_it_catches_up_keeps_what_waits() {
        check(&joined([
            after_start(vec![Call("a"), Breaks, Happens("lost"), At(50)]),
            again(),
            vec![CatchUp("x"), Breaks, Happens("lost\nx failed: Away"), At(150)],
            again(),
            vec![Resume, Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC a")],
        ]));
    }

    #[test]
    fn calls_that_were_fenced_were_not_executed() {
        check(&joined([
            after_start(vec![
                Call("a"),
                Call("b"),
                Says("-FENCED;"),
                Happens("fenced\nlost"),
                // What else comes on this connection answers nothing.
                Says("-FENCED;"),
            ]),
            again(),
            vec![
                Settle("", "a false, b false"),
                Resume,
                Sends(
                    "FCALL lib_touch 1 dc:{0}:nodes NODE INC a\n\
                     FCALL lib_touch 1 dc:{0}:nodes NODE INC b",
                ),
                // A second time within a second, there is a pause.
                Says("-FENCED;"),
                Happens("fenced\nlost"),
                NotDue,
            ],
        ]));
    }

    #[test]
    fn a_node_that_the_store_has_given_up_begins_as_another() {
        check(&joined([
            after_start(vec![
                Call("a"),
                Breaks,
                Happens("lost"),
                At(50),
                Open,
                Sends(GREETING_AGAIN),
            ]),
            vec![
                Says(HELLO),
                Says(ROLE),
                Says(INFO),
                Says(EXISTS),
                Says(SUBSCRIBED),
                Says("*1;$3;NEW;"),
                Open,
                Sends(GREETING),
            ],
            WELCOME.into_iter().collect(),
            vec![
                Happens("connected fresh secret 55"),
                Settle("", "a true"),
                Resume,
                Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC a"),
            ],
        ]));
    }

    #[test]
    fn lost_functions_are_loaded_again() {
        check(&joined([
            after_start(vec![Call("a"), Says("-ERR Function not found;"), Happens("lost")]),
            again(),
            vec![Settle("", "a false"), Resume, Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC a")],
        ]));
    }

    #[test]
    fn a_store_that_takes_no_calls_now_is_tried_again_after_a_pause() {
        for refusal in
            ["-READONLY x;", "-LOADING x;", "-NOREPLICAS x;", "-MASTERDOWN x;", "-BUSY x;"]
        {
            check(&joined([
                after_start(vec![Call("a"), Says(refusal), Happens("lost"), NotDue, At(50)]),
                again(),
                vec![Resume, Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC a")],
            ]));
        }
    }

    #[test]
    fn a_call_waits_for_a_connection_no_longer_than_the_timeout() {
        check(&joined([
            after_start(vec![
                At(1000),
                Call("a"),
                Lasting("b"),
                Says("-LOADING x;"),
                Happens("lost"),
                At(5999),
                Happens(""),
                At(6000),
                // Loading: it was not executed. The other was, perhaps.
                Happens("a failed: Away"),
            ]),
            again(),
            vec![Settle("", "b true"), Resume, Sends("FCALL lib_touch 1 dc:{0}:nodes NODE INC b")],
        ]));
        check(&after_start(vec![
            Call("a"),
            At(2000),
            Breaks,
            Happens("lost"),
            At(4999),
            Happens(""),
            At(5000),
            Happens("a failed: Unknown"),
        ]));
    }

    #[test]
    fn a_store_that_does_not_reply_is_slow_and_then_given_up() {
        let script = after_start(vec![
            At(100),
            Call("a"),
            At(600),
            Call("b"),
            At(1100),
            Happens(""),
            At(5099),
            Happens(""),
            At(5100),
            Happens("lost\na failed: Unknown"),
            At(5600),
            Happens("b failed: Unknown"),
        ]);
        check(&script);
        let (mut uplink, mut events) = (uplink(1), Vec::new());
        uplink.state = UplinkState::Up;
        let call =
            StoreCall { partition: 0, function: Function::Touch, args: &[], is_lasting: false };
        for token in ["a", "b"] {
            assert_eq!(uplink.call(Mono::ZERO, call, token.to_owned()), Ok(()));
        }
        let at = |millis: u64| Mono::from_micros(millis * 1000);
        assert_eq!(uplink.next_deadline(), Some(at(1000)));
        uplink.sweep(at(1000), &mut events);
        assert_eq!((uplink.is_slow(), uplink.next_deadline()), (true, Some(at(5000))));
        uplink.on_bytes(at(2000), b"+OK\r\n", &mut events);
        assert!(uplink.is_slow(), "the second call has waited as long");
        uplink.on_bytes(at(2000), b"+OK\r\n", &mut events);
        assert!(!uplink.is_slow());
        let counters = uplink.counters();
        assert_eq!((counters.slow, counters.in_flight), (1, 0));
        assert_eq!(counters.latency.sum_micros, 4_000_000);
    }

    #[test]
    fn a_store_that_does_not_greet_in_time_is_given_up() {
        check(&[Open, At(4999), At(5000), NotDue, At(5050), Open]);
        check(&[Open, Says(HELLO), At(5000), NotDue, At(5050), Open]);
        let (mut uplink, mut entropy) = (uplink(1), SeededEntropy::new(1));
        assert!(uplink.poll_connect(Mono::ZERO, &mut entropy));
        uplink.sweep(Mono::from_micros(5_000_000), &mut Vec::new());
        assert!(uplink.is_down(), "the stream was never open");
    }

    #[test]
    fn an_unfit_store_is_fatal_at_the_start() {
        let fatal = |script: &[Step<'_>], text: &str| {
            let mut whole = vec![Open];
            whole.extend(script.iter().map(|step| match step {
                Says(text) => Says(text),
                _ => unreachable!(),
            }));
            let shown = format!("fatal: {text}");
            whole.extend([Happens(&shown), NotDue]);
            check(&whole);
        };
        let rights = "the store's user lacks a right, or its password is wrong: ";
        fatal(
            &[Says("-ERR unknown command 'HELLO';")],
            "the store is too old (ERR unknown command 'HELLO'); Redis 7 or Valkey is needed",
        );
        let old = "=35;txt:# Server;redis_version:6.2.7;;";
        fatal(
            &[Says(HELLO), Says(ROLE), Says(old)],
            "the store is too old (6.2.7); Redis 7 or Valkey is needed",
        );
        fatal(&[Says("-WRONGPASS bad;")], &format!("{rights}WRONGPASS bad"));
        fatal(&[Says("-NOAUTH bad;")], &format!("{rights}NOAUTH bad"));
        fatal(&[Says(HELLO), Says("-NOPERM role;")], &format!("{rights}NOPERM role"));
        let upto = [Says(HELLO), Says(ROLE), Says(INFO)];
        let begun = |rest: &[&'static str]| {
            let steps = upto.iter().map(|step| if let Says(text) = step { *text } else { "" });
            steps.chain(rest.iter().copied()).map(Says).collect::<Vec<_>>()
        };
        fatal(&begun(&[EXISTS, "-NOPERM channel;"]), &format!("{rights}NOPERM channel"));
        fatal(
            &begun(&["-NOPERM load;", SUBSCRIBED, "-ERR Function not found;"]),
            &format!("{rights}the functions are not there, and it may not load them"),
        );
        fatal(
            &begun(&[EXISTS, SUBSCRIBED, "-SCHEMA 7;"]),
            "the store holds the records of another version (SCHEMA 7, this one has 1); stop all \
             its servers, empty it, and start again",
        );
        fatal(
            &begun(&["-ERR Error compiling function;"]),
            "the store refuses to serve: ERR Error compiling function",
        );
    }

    #[test]
    fn a_store_that_is_not_ready_is_tried_again_at_the_start() {
        check(&[
            Open,
            Says(HELLO),
            Says("*3;$5;slave;$1;a;:1;"),
            Happens(""),
            NotDue,
            At(50),
            Open,
        ]);
        check(&[Open, Says("-LOADING x;"), Happens(""), At(50), Open]);
        check(&[Open, Breaks, Happens(""), At(50), Open, Breaks, At(99), NotDue, At(150), Open]);
        check(&[Open, Says("HTTP/1.1 400 Bad Request;"), Happens(""), At(50), Open]);
        check(&[
            Open,
            Says(HELLO),
            Says(ROLE),
            Says(INFO),
            Says("-NOPERM x;"),
            Says(SUBSCRIBED),
            Says(KEPT),
            Happens("connected fresh secret 55"),
        ]);
    }

    /// A store that was fit is upgraded, or its user changed.
    #[test]
    fn an_unfit_store_is_tried_again_later() {
        check(&joined([
            after_start(vec![
                Breaks,
                Happens("lost"),
                At(50),
                Open,
                Says("-WRONGPASS bad;"),
                Happens(""),
            ]),
            vec![NotDue, At(150), Open],
        ]));
    }

    #[test]
    fn pauses_double_up_to_a_maximum() {
        let mut uplink = uplink(1);
        let mut pauses = |jitter, count: usize| {
            (uplink.jitter, uplink.pauses) = (jitter, 0);
            (0..count).map(|_| uplink.pause().as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(0, 8), [25, 50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(pauses(255, 8), [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(pauses(255, 100).last(), Some(&2000));
    }

    #[test]
    fn calls_without_a_reply_are_bounded() {
        let call = |function, args| StoreCall { partition: 0, function, args, is_lasting: false };
        let (mut uplink, mut events) = (uplink(1), Vec::new());
        uplink.state = UplinkState::Up;
        let (now, token) = (Mono::ZERO, String::new);
        let touch = call(Function::Touch, &[]);
        for _ in 0..CALLS_MAX {
            assert_eq!(uplink.call(now, touch, token()), Ok(()));
        }
        assert_eq!(uplink.call(now, touch, token()), Err(Unavailable));
        assert_eq!(uplink.call_catching_up(now, touch, token()), Ok(()));
        assert_eq!(uplink.call(now, call(Function::Exit, &[]), token()), Ok(()));
        uplink.on_bytes(now, &b"+OK\r\n".repeat(CALLS_MAX + 2), &mut events);
        assert_eq!((events.len(), uplink.counters().in_flight), (CALLS_MAX + 2, 0));
        let large = vec![b'x'; 1 << 20];
        let args: [&[u8]; 1] = [&large];
        let accepted =
            (0..10).filter(|_| uplink.call(now, call(Function::Post, &args), token()).is_ok());
        assert_eq!(accepted.count(), 4);
        assert!(uplink.heap_bytes() >= 8 << 20, "{}", uplink.heap_bytes());
    }
}
