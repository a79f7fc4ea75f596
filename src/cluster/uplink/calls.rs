//! The calls that have no reply yet.
//!
//! Owns their order, on this connection and from connection to connection, and their bounds. Must not
//! know a byte of them but their number, or why the connection ended. The invariant: replies come in the
//! order of sending, so the oldest call in `sent` is the one that a reply answers; and a call is in
//! exactly one of the two queues until its token is given back.

use std::collections::VecDeque;
use std::time::Duration;

use super::greeting::GreetingStep;
use crate::clock::Mono;
use crate::cluster::args::Args;
use crate::cluster::library::Function;

/// Most calls without a reply. At 30 µs each, the store answers them within an eighth of a second.
pub const CALLS_MAX: usize = 4096;

/// Most bytes of the arguments of calls without a reply.
pub const CALL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Some calls ([`Function::may_use_reserve`]) may exceed both bounds by this factor.
const RESERVE: usize = 2;

/// A call without a reply.
pub(super) struct WaitingCall<T> {
    pub token: T,
    pub function: Function,
    pub partition: u16,
    pub args: Args,
    /// Whether it waits for another connection however long that takes.
    pub is_lasting: bool,
    /// When it was sent first.
    pub since: Mono,
    pub may_have_run: bool,
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

/// The call that a reply answers.
pub(super) enum AnsweredCall<T> {
    Greeting(GreetingStep),
    Call { sent: Mono, token: T },
}

/// A call that the store has refused without executing it.
pub(super) enum RefusedCall<T> {
    Greeting(GreetingStep),
    /// It waits for the next connection.
    Waits,
    /// It is not sent again.
    Once(T),
}

/// How many calls there are, and their bytes.
#[derive(Default)]
struct CallLoad {
    count: usize,
    bytes: usize,
}

impl CallLoad {
    fn has_capacity(&self, factor: usize) -> bool {
        self.count < CALLS_MAX * factor && self.bytes < CALL_BYTES_MAX * factor
    }

    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }

    fn subtract(&mut self, bytes: usize) {
        debug_assert!(self.count > 0 && self.bytes >= bytes);
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The calls without a reply, the greeting included.
pub(super) struct CallQueue<T> {
    /// What was sent on this connection and has no reply, in the order of sending.
    sent: VecDeque<SentCall<T>>,
    /// Calls of earlier connections that have no reply, in their order. Empty while calls are accepted.
    unsent: VecDeque<WaitingCall<T>>,
    /// Of the calls in both queues that are sent again.
    repeated: CallLoad,
    /// Of the others in `sent`.
    once: CallLoad,
}

impl<T> CallQueue<T> {
    pub fn new() -> CallQueue<T> {
        CallQueue {
            sent: VecDeque::new(),
            unsent: VecDeque::new(),
            repeated: CallLoad::default(),
            once: CallLoad::default(),
        }
    }

    /// Calls without a reply.
    pub fn count(&self) -> usize {
        self.repeated.count + self.once.count
    }

    /// Bytes of heap held, without what the tokens hold.
    pub fn heap_bytes(&self) -> usize {
        self.sent.capacity() * size_of::<SentCall<T>>()
            + self.unsent.capacity() * size_of::<WaitingCall<T>>()
            + self.repeated.bytes
    }

    /// Whether a call of this function is accepted.
    pub fn has_capacity(&self, function: Function) -> bool {
        self.repeated.has_capacity(if function.may_use_reserve() { RESERVE } else { 1 })
    }

    /// Whether a call that is not sent again is accepted.
    pub fn has_capacity_once(&self) -> bool {
        self.once.has_capacity(1)
    }

    /// When the oldest call on this connection was sent.
    pub fn oldest(&self) -> Option<Mono> {
        self.sent.front().map(|oldest| oldest.at)
    }

    // ---- On this connection

    /// A step of the greeting was sent.
    pub fn push_greeting(&mut self, at: Mono, step: GreetingStep) {
        self.sent.push_back(SentCall { at, what: SentKind::Greeting(step) });
    }

    /// A call was sent that is sent again if this connection breaks before the reply.
    pub fn push(&mut self, at: Mono, call: WaitingCall<T>) {
        self.repeated.add(call.args.heap_bytes());
        self.sent.push_back(SentCall { at, what: SentKind::Call(call) });
    }

    /// A call was sent that is not sent again.
    pub fn push_once(&mut self, at: Mono, token: T, bytes: usize) {
        self.once.add(bytes);
        self.sent.push_back(SentCall { at, what: SentKind::Once { token, bytes } });
    }

    /// The push has come that answers a subscription.
    pub fn on_subscribed(&mut self) {
        let subscription =
            |sent: &SentCall<T>| matches!(sent.what, SentKind::Greeting(GreetingStep::Subscribe));
        if self.sent.front().is_some_and(subscription) {
            self.sent.pop_front();
        }
    }

    /// A reply has come. `None`: nothing was asked.
    pub fn answer_oldest(&mut self) -> Option<AnsweredCall<T>> {
        let SentCall { at: sent, what } = self.sent.pop_front()?;
        let token = match what {
            SentKind::Greeting(step) => return Some(AnsweredCall::Greeting(step)),
            SentKind::Call(call) | SentKind::Refused(call) => {
                self.repeated.subtract(call.args.heap_bytes());
                call.token
            }
            SentKind::Once { token, bytes } => {
                self.once.subtract(bytes);
                token
            }
        };
        Some(AnsweredCall::Call { sent, token })
    }

    /// A refusal has come, and nothing was executed. `None`: nothing was asked. `is_fenced`: so it is
    /// with all calls of this connection to the partition that have no reply.
    pub fn refuse_oldest(&mut self, is_fenced: bool) -> Option<RefusedCall<T>> {
        let SentCall { at, what } = self.sent.pop_front()?;
        match what {
            SentKind::Greeting(step) => Some(RefusedCall::Greeting(step)),
            SentKind::Call(call) | SentKind::Refused(call) => {
                let partition = call.partition;
                // What came behind it waits, too.
                self.sent.push_front(SentCall { at, what: SentKind::Refused(call) });
                if is_fenced {
                    self.refuse_all(partition);
                }
                Some(RefusedCall::Waits)
            }
            SentKind::Once { token, bytes } => {
                self.once.subtract(bytes);
                Some(RefusedCall::Once(token))
            }
        }
    }

    fn refuse_all(&mut self, partition: u16) {
        for sent in std::mem::take(&mut self.sent) {
            let what = match sent.what {
                SentKind::Call(call) if call.partition == partition => SentKind::Refused(call),
                what => what,
            };
            self.sent.push_back(SentCall { what, ..sent });
        }
    }

    // ---- From connection to connection

    /// The connection is lost. Calls wait for the next one; returned are those that are not sent again.
    pub fn on_lost(&mut self) -> Vec<T> {
        let (mut waiting, mut failed) = (VecDeque::new(), Vec::new());
        for sent in self.sent.drain(..) {
            match sent.what {
                SentKind::Greeting(_) => {}
                SentKind::Call(call) => {
                    waiting.push_back(WaitingCall { may_have_run: true, ..call })
                }
                SentKind::Refused(call) => waiting.push_back(call),
                SentKind::Once { token, bytes } => {
                    self.once.subtract(bytes);
                    failed.push(token);
                }
            }
        }
        // One of both is empty, unless the connection broke while it was catching up.
        waiting.append(&mut self.unsent);
        self.unsent = waiting;
        failed
    }

    /// Takes out the calls of earlier connections that `is_settled` tells. Its second argument: whether
    /// the call may have been executed.
    pub fn settle(&mut self, is_settled: &mut dyn FnMut(&T, bool) -> bool) -> Vec<T> {
        let (mut settled, mut kept) = (Vec::new(), VecDeque::new());
        for waiting in self.unsent.drain(..) {
            if is_settled(&waiting.token, waiting.may_have_run) {
                self.repeated.subtract(waiting.args.heap_bytes());
                settled.push(waiting.token);
            } else {
                kept.push_back(waiting);
            }
        }
        self.unsent = kept;
        settled
    }

    /// Sends the calls of earlier connections again, in their order.
    pub fn resend(&mut self, at: Mono, mut send: impl FnMut(&WaitingCall<T>)) {
        for call in self.unsent.drain(..) {
            send(&call);
            self.sent.push_back(SentCall { at, what: SentKind::Call(call) });
        }
    }

    /// When the first call of an earlier connection has waited for longer than `timeout`.
    pub fn first_expiry(&self, timeout: Duration) -> Option<Mono> {
        let mut waiting = self.unsent.iter().filter(|waiting| !waiting.is_lasting);
        // They are in the order in which they were sent first.
        waiting.next().map(|waiting| waiting.since.after(timeout))
    }

    /// Takes out the calls of earlier connections that have waited for longer than `timeout`, and
    /// whether each may have been executed.
    pub fn expire(&mut self, now: Mono, timeout: Duration) -> Vec<(T, bool)> {
        let mut expired = Vec::new();
        if self.first_expiry(timeout).is_none_or(|expiry| expiry > now) {
            return expired;
        }
        for waiting in std::mem::take(&mut self.unsent) {
            if waiting.is_lasting || waiting.since.after(timeout) > now {
                self.unsent.push_back(waiting);
                continue;
            }
            self.repeated.subtract(waiting.args.heap_bytes());
            expired.push((waiting.token, waiting.may_have_run));
        }
        expired
    }

    /// Whether the load is that of the calls in the queues.
    #[cfg(test)]
    pub fn is_counted(&self) -> bool {
        let is_call = |sent: &&SentCall<T>| !matches!(sent.what, SentKind::Greeting(_));
        self.count() == self.sent.iter().filter(is_call).count() + self.unsent.len()
    }
}
