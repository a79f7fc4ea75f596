//! First calls, which wait for their turn at the store.
//!
//! Owns the order of the calls by which requests and connections begin, and how many of them the store
//! has at a time. Must not know what a call is for. The invariant: what is given out counts as under way
//! until [`Backlog::on_settled`].
//!
//! A first call is one that anybody may cause without having proved anything: that a session exists, or
//! even that there is one. The store answers calls one after the other, so whatever a node sends stands
//! in the way of everything behind it, on all nodes. All other calls leave at once, so messages in a
//! room do not wait behind requests that anybody can send. [`FIRST_CALLS_MAX`] of 12 µs each, from three nodes,
//! are 5 ms; a round trip takes a tenth of one, so the bound costs no throughput.

use std::collections::VecDeque;

use super::args::Args;
use super::library::Function;
use super::plan::PlanKey;
use crate::clock::Mono;

/// First calls without a reply.
const FIRST_CALLS_MAX: usize = 128;

/// First calls that wait. Beyond, requests are answered with 503 at once.
const BACKLOG_MAX: usize = 4096;

/// The first calls of a node.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: VecDeque<FirstCall>,
    /// Bytes of the arguments of those that wait.
    bytes: usize,
    /// Calls without a reply.
    under_way: usize,
}

/// The first call of a plan.
pub(super) struct FirstCall {
    pub plan: PlanKey,
    pub partition: u16,
    pub function: Function,
    pub args: Args,
    pub since: Mono,
}

impl Backlog {
    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<FirstCall>() + self.bytes
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= BACKLOG_MAX
    }

    pub fn push(&mut self, call: FirstCall) {
        self.bytes += call.args.heap_bytes();
        self.waiting.push_back(call);
    }

    /// The function of the call whose turn it is. `None`: none waits, or enough are under way.
    pub fn next(&self) -> Option<Function> {
        let next = self.waiting.front().filter(|_| self.under_way < FIRST_CALLS_MAX)?;
        Some(next.function)
    }

    /// Gives out the call whose turn it is.
    pub fn pop(&mut self) -> Option<FirstCall> {
        self.next()?;
        self.under_way += 1;
        self.take()
    }

    /// A call that was given out has been answered, or was not made.
    pub fn on_settled(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// When the call waits that has waited longest.
    pub fn oldest(&self) -> Option<Mono> {
        self.waiting.front().map(|oldest| oldest.since)
    }

    /// Takes out the call that has waited longest.
    pub fn take(&mut self) -> Option<FirstCall> {
        let call = self.waiting.pop_front()?;
        self.bytes -= call.args.heap_bytes();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;

    #[test]
    fn calls_wait_in_order_while_enough_are_under_way() {
        let (mut plans, mut backlog) = (Slots::default(), Backlog::default());
        let mut keys = Vec::new();
        for number in 0..BACKLOG_MAX {
            assert!(!backlog.is_full());
            let (plan, since) = (plans.insert(()), Mono::from_micros(number as u64));
            keys.push(plan);
            let args = Args::new().number(number as u64);
            let function = Function::Look;
            backlog.push(FirstCall { plan, partition: 0, function, args, since });
        }
        assert!(backlog.is_full() && backlog.heap_bytes() > BACKLOG_MAX * 32);
        let mut given = Vec::new();
        while let Some(call) = backlog.pop() {
            given.push(call.plan);
        }
        assert_eq!(given, keys[..FIRST_CALLS_MAX]);
        assert!(!backlog.is_full() && backlog.next().is_none());
        backlog.on_settled();
        assert_eq!(backlog.pop().map(|call| call.plan), Some(keys[FIRST_CALLS_MAX]));
        assert!(backlog.pop().is_none());
        // Those that have waited too long are taken whatever is under way.
        let oldest = FIRST_CALLS_MAX + 1;
        assert_eq!(backlog.oldest(), Some(Mono::from_micros(oldest as u64)));
        assert_eq!(backlog.take().map(|call| call.plan), Some(keys[oldest]));
        while backlog.take().is_some() {}
        assert_eq!(backlog.heap_bytes(), 0);
    }
}
