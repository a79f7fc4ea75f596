//! The connection to the store, without I/O.
//!
//! Owns the states of the connection, its deadlines, and what each reply and each loss leads to. Must
//! not know what a call is for: its token comes back with the reply. The invariant: replies answer
//! calls in the order of sending, and each call that was accepted gets exactly one
//! [`UplinkEvent::Reply`] or [`UplinkEvent::Failed`], or is handed back by [`Uplink::settle`].
//!
//! | file | what it owns |
//! |---|---|
//! | `greeting` | what each new connection asks first, and what the answers say of the store |
//! | `calls` | the calls without a reply: their order, from connection to connection, and bounds |
//! | `format` | a call and a channel in bytes |
//! | `attempts` | the pauses between attempts to connect |
//! | `verdict` | what becomes of a connection; why a store cannot be used |
//! | `config` | settings and login |
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

mod attempts;
mod calls;
mod config;
mod format;
mod greeting;
mod verdict;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use log::{error, info, warn};

use self::attempts::ConnectAttempts;
use self::calls::{AnsweredCall, CallQueue, RefusedCall, WaitingCall};
pub use self::calls::{CALL_BYTES_MAX, CALLS_MAX};
pub use self::config::{Login, UplinkConfig};
use self::format::CallFormat;
use self::greeting::{Greeting, GreetingStep};
pub use self::verdict::StartProblem;
use self::verdict::Verdict;
use super::args::Args;
use super::library::{Function, Library};
use super::resp::{BadReply, Reply, ReplyReader, StoreError, StoreErrorKind, StoreEvent, pack};
use super::status::Status;
use crate::clock::{Entropy, Mono};
use crate::counters::StoreCounters;

/// A call that has had no reply for so long is slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// A call of a function.
pub struct StoreCall {
    /// Less than [`UplinkConfig::partitions`].
    pub partition: u16,
    /// The function.
    pub function: Function,
    /// Its arguments, without the node and its incarnation.
    pub args: Args,
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

/// The connection to the store. `T` is what comes back with a reply.
pub struct Uplink<T> {
    config: UplinkConfig,
    library: Library,
    format: CallFormat,
    state: UplinkState,
    node: Option<Node>,
    incarnation: [u8; 8],
    /// What the first partition has answered to the greeting: the secret, and its time.
    welcome: (Vec<u8>, u64),
    attempts: ConnectAttempts,
    /// Whether the store may not be unfit any more, because it has been used.
    was_used: bool,
    /// What was logged last about the connection, so that each thing is logged once.
    logged: String,
    /// The last error of a call that was logged, for the same reason.
    refusal: String,
    reader: ReplyReader,
    output: Vec<u8>,
    calls: CallQueue<T>,
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

impl<T> Uplink<T> {
    /// A connection that does not exist yet. `library`: what the store is to execute.
    pub fn new(config: UplinkConfig, library: Library) -> Uplink<T> {
        Uplink {
            format: CallFormat::new(&config.prefix, config.partitions, &library),
            config,
            library,
            state: UplinkState::Down { until: Mono::ZERO },
            node: None,
            incarnation: [0; 8],
            welcome: (Vec::new(), 0),
            attempts: ConnectAttempts::default(),
            was_used: false,
            logged: String::new(),
            refusal: String::new(),
            reader: ReplyReader::default(),
            output: Vec::new(),
            calls: CallQueue::new(),
            is_slow: false,
            counters: StoreCounters::default(),
        }
    }

    /// What the names of a partition's keys begin with: `dc:{0}:`.
    pub fn key_prefix(&self, partition: u16) -> String {
        self.format.key_prefix(partition)
    }

    /// A key of this node: what it is interested in (`at`), or the sessions with sockets at it (`sat`).
    pub fn node_key(&self, partition: u16, kind: &str) -> String {
        let node = self.node.as_ref().map_or("", |node| &node.name);
        format!("{}{kind}:{node}", self.key_prefix(partition))
    }

    /// Whether calls are accepted.
    pub fn is_up(&self) -> bool {
        self.state == UplinkState::Up
    }

    /// Whether [`Uplink::call`] accepts a call of this function.
    pub fn has_capacity_for(&self, function: Function) -> bool {
        self.is_up() && self.calls.has_capacity(function)
    }

    /// Whether [`Uplink::command`] and [`Uplink::call_once`] accept a call.
    pub fn has_capacity_once(&self) -> bool {
        self.is_connected() && self.calls.has_capacity_once()
    }

    /// How long a call may wait for a connection or a reply.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
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
        let in_flight = self.calls.count() as u64;
        StoreCounters { is_up: self.is_up(), in_flight, ..self.counters }
    }

    /// Bytes that are kept.
    pub fn heap_bytes(&self) -> usize {
        self.calls.heap_bytes() + self.reader.buffered_bytes() + self.output.capacity()
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
        let [jitter] = entropy.bytes();
        self.attempts.on_attempt(jitter);
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
        self.format.set_caller(&node.name, &incarnation);
        let greeting = Greeting {
            config: &self.config,
            format: &self.format,
            library: &self.library,
            login,
            node: &node.name,
            is_fresh: node.is_fresh,
        };
        for step in greeting.pack(&mut self.output) {
            self.calls.push_greeting(now, step);
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
    pub fn call(&mut self, now: Mono, call: StoreCall, token: T) -> Result<(), Unavailable> {
        if !self.has_capacity_for(call.function) {
            return Err(Unavailable);
        }
        let call = WaitingCall {
            token,
            function: call.function,
            partition: call.partition,
            args: call.args,
            is_lasting: call.is_lasting,
            since: now,
            may_have_run: false,
        };
        put(&self.format, &mut self.output, &call);
        self.calls.push(now, call);
        Ok(())
    }

    /// Calls a function, also while catching up. It is not sent again.
    pub fn call_once(&mut self, now: Mono, call: StoreCall, token: T) -> Result<(), Unavailable> {
        self.check_once()?;
        self.format.pack(&mut self.output, call.function, call.partition, &call.args);
        self.calls.push_once(now, token, call.args.packed().len());
        Ok(())
    }

    /// Sends a command of the store's own, also while catching up. It is not sent again.
    pub fn command(&mut self, now: Mono, parts: &[&[u8]], token: T) -> Result<(), Unavailable> {
        self.check_once()?;
        pack(&mut self.output, parts);
        self.calls.push_once(now, token, parts.iter().map(|part| part.len()).sum());
        Ok(())
    }

    /// Hands back the calls of earlier connections that `is_settled` tells: they are answered, or
    /// need not be sent again. Its second argument: whether the call may have been executed.
    pub fn settle(&mut self, is_settled: &mut dyn FnMut(&T, bool) -> bool) -> Vec<T> {
        self.calls.settle(is_settled)
    }

    /// Catching up is over: sends the calls of earlier connections again, in their order.
    pub fn resume(&mut self, now: Mono) {
        if self.state != UplinkState::CatchingUp {
            return;
        }
        self.state = UplinkState::Up;
        self.attempts.on_success();
        self.calls.resend(now, |call| put(&self.format, &mut self.output, call));
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
            UplinkState::CatchingUp | UplinkState::Up => self.calls.oldest().map(|sent| {
                let limit = if self.is_slow { self.config.timeout } else { self.slow_after() };
                sent.after(limit)
            }),
        };
        let expiry = self.calls.first_expiry(self.config.timeout);
        connection.into_iter().chain(expiry).min()
    }

    fn slow_after(&self) -> Duration {
        SLOW_AFTER.min(self.config.timeout)
    }

    /// How long the oldest call has waited.
    fn judge_age(&mut self, now: Mono) -> Verdict {
        let Some(sent) = self.calls.oldest() else { return Verdict::Fine };
        let age = now.since(sent);
        if age >= self.config.timeout {
            return Verdict::Down(format!("no reply for {} s", age.as_secs()));
        }
        if age >= self.slow_after() && !std::mem::replace(&mut self.is_slow, true) {
            self.counters.slow += 1;
            warn!("the store is slow: a call has had no reply for {} ms", age.as_millis());
        }
        Verdict::Fine
    }

    /// Fails the calls of earlier connections that have waited too long.
    fn expire(&mut self, now: Mono, events: &mut Vec<UplinkEvent<T>>) {
        for (token, may_have_run) in self.calls.expire(now, self.config.timeout) {
            let failure = if may_have_run { CallFailure::Unknown } else { CallFailure::Away };
            events.push(UplinkEvent::Failed(token, failure));
        }
    }

    fn check_once(&self) -> Result<(), Unavailable> {
        let is_accepted = self.has_capacity_once();
        is_accepted.then_some(()).ok_or(Unavailable)
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
                if let Some(partition) = self.format.partition_of(&channel).filter(|_| !is_greeting)
                {
                    events.push(UplinkEvent::Push { partition, text });
                }
                Verdict::Fine
            }
            StoreEvent::Subscribed => {
                self.calls.on_subscribed();
                Verdict::Fine
            }
            StoreEvent::OtherPush => Verdict::Fine,
        }
    }

    fn on_reply(&mut self, now: Mono, reply: Reply, events: &mut Vec<UplinkEvent<T>>) -> Verdict {
        let answered = match reply {
            Reply::Error(error) if error.means_nothing_was_done() => {
                return self.on_refused(error, events);
            }
            _ => self.calls.answer_oldest(),
        };
        let (sent, token) = match answered {
            None => return unasked(),
            Some(AnsweredCall::Greeting(step)) => return self.on_greeting(step, &reply, events),
            Some(AnsweredCall::Call { sent, token }) => (sent, token),
        };
        self.counters.latency.observe(now.since(sent));
        let is_slow = |sent: Mono| now.since(sent) >= self.slow_after();
        if self.is_slow && !self.calls.oldest().is_some_and(is_slow) {
            self.is_slow = false;
            info!("the store is slow no longer");
        }
        events.push(match reply {
            Reply::Error(StoreError { kind: StoreErrorKind::OutOfMemory, .. }) => {
                UplinkEvent::Failed(token, CallFailure::Full)
            }
            Reply::Error(error) => {
                if self.refusal != error.text {
                    error!("the store refuses calls: {}", error.text);
                    self.refusal = error.text;
                }
                UplinkEvent::Failed(token, CallFailure::Internal)
            }
            reply => UplinkEvent::Reply(token, reply),
        });
        Verdict::Fine
    }

    /// A call was refused without being executed, for a reason that concerns the connection.
    fn on_refused(&mut self, error: StoreError, events: &mut Vec<UplinkEvent<T>>) -> Verdict {
        match self.calls.refuse_oldest(error.kind == StoreErrorKind::Fenced) {
            None => return unasked(),
            Some(RefusedCall::Greeting(step)) => {
                return self.on_greeting(step, &Reply::Error(error), events);
            }
            Some(RefusedCall::Waits) => {}
            Some(RefusedCall::Once(token)) => {
                events.push(UplinkEvent::Failed(token, CallFailure::Away));
            }
        }
        match error.kind {
            StoreErrorKind::Fenced => {
                self.counters.fenced += 1;
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
        match (step.judge(reply, &self.config.terms), step) {
            (Verdict::Fine, GreetingStep::Register(partition)) => {
                self.on_registered(partition, reply, events)
            }
            (verdict, _) => verdict,
        }
    }

    /// A partition has answered the greeting.
    fn on_registered(
        &mut self,
        partition: u16,
        reply: &Reply,
        events: &mut Vec<UplinkEvent<T>>,
    ) -> Verdict {
        if Status::of(reply) != Status::Kept {
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
        self.refusal.clear();
        info!("the store is connected");
        Verdict::Fine
    }

    /// Gives the connection up, if the verdict says so.
    fn apply(&mut self, now: Mono, verdict: Verdict, events: &mut Vec<UplinkEvent<T>>) {
        if self.is_down() {
            return;
        }
        let mut is_fatal = false;
        let (why, until) = match verdict {
            Verdict::Fine => return,
            Verdict::Down(why) => (why, self.attempts.after_pause(now)),
            Verdict::Again(why) => (why, self.attempts.at_once(now)),
            Verdict::Problem(problem) => {
                let why = problem.to_string();
                is_fatal = !self.was_used;
                if is_fatal {
                    events.push(UplinkEvent::Fatal(problem));
                }
                (why, self.attempts.after_pause(now))
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
        self.state = UplinkState::Down { until };
        self.reader.clear();
        self.output.clear();
        self.is_slow = false;
        for token in self.calls.on_lost() {
            events.push(UplinkEvent::Failed(token, CallFailure::Away));
        }
    }
}

/// A reply has come without a call.
fn unasked() -> Verdict {
    Verdict::Down("it answers what it was not asked".to_owned())
}

fn put<T>(format: &CallFormat, out: &mut Vec<u8>, call: &WaitingCall<T>) {
    format.pack(out, call.function, call.partition, &call.args);
}
