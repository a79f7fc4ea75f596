//! Calls that wait until there is capacity for them.
//!
//! Owns making first calls in their turn, and repeating calls that found the queue full and that no
//! client would repeat. Must not know what they are for. The invariant: a client that waits for an
//! answer is told that the store is busy, and every other call is made as soon as there is capacity.
//! Without that, a person whose departure was not reported would stay present, and a room whose history
//! was not requested would never be loaded.

use super::args::Args;
use super::backlog::FirstCall;
use super::library::Function;
use super::plan::PlanKey;
use super::refusal::away;
use super::state::{Cluster, Lent, Token};
use super::uplink::CallFailure;
use crate::chat::Refusal;
use crate::clock::Mono;

impl Cluster {
    // ---- First calls

    /// The first call of a plan, which may wait for its turn.
    pub(super) fn call_first(
        &mut self,
        now: Mono,
        partition: u16,
        function: Function,
        args: Args,
        plan: PlanKey,
    ) -> Result<(), Refusal> {
        if !self.uplink.is_up() || self.backlog.is_full() {
            return Err(away());
        }
        self.backlog.push(FirstCall { plan, partition, function, args, since: now });
        self.call_waiting(now);
        Ok(())
    }

    /// A first call has been answered, or has failed.
    pub(super) fn on_first_settled(&mut self, now: Mono) {
        self.backlog.on_settled();
        self.call_waiting(now);
    }

    /// Makes the first calls whose turn has come.
    fn call_waiting(&mut self, now: Mono) {
        while self.backlog.next().is_some_and(|next| self.uplink.has_capacity_for(next)) {
            let Some(FirstCall { plan, partition, function, args, .. }) = self.backlog.pop() else {
                break;
            };
            let is_wanted = self.plans.contains(plan); // It may have ended meanwhile.
            let token = Token::First(plan);
            if !is_wanted || self.call(now, partition, function, args, token).is_err() {
                self.backlog.on_settled();
            }
        }
    }

    /// Fails the first calls that have waited too long.
    pub(super) fn expire_waiting(&mut self, lent: &mut Lent<'_>) {
        while self.backlog_expires().is_some_and(|expiry| expiry <= lent.now.mono) {
            let Some(call) = self.backlog.take() else { break };
            self.abandon(lent, call.plan, CallFailure::Away);
        }
    }

    /// When [`Cluster::expire_waiting`] is due.
    pub(super) fn backlog_expires(&self) -> Option<Mono> {
        Some(self.backlog.oldest()?.after(self.uplink.timeout()))
    }

    // ---- Calls that found the queue full

    /// Makes the calls for which there is capacity now.
    pub fn call_deferred(&mut self, lent: &mut Lent<'_>) {
        let now = lent.now.mono;
        self.call_waiting(now);
        while self.uplink.has_capacity_for(Function::Exit) {
            let Some((room, user_id)) = self.leaving.pop() else { break };
            self.end_stay(lent, room, user_id);
        }
        while self.uplink.has_capacity_for(Function::Detach) {
            let Some(session) = self.deferred.detaches.pop() else { break };
            self.detach(now, session);
        }
        while self.uplink.has_capacity_for(Function::Resync) && self.uplink.has_capacity_once() {
            let Some(room) = self.deferred.rooms.pop() else { break };
            match self.rooms.get(&room) {
                Some(one) if one.is_loading && one.newest < one.base => self.load_more(now, room),
                Some(one) if one.is_loading => self.resync(now, room),
                _ => {}
            }
        }
        while self.uplink.has_capacity_for(Function::Members) {
            let Some((room, user_id)) = self.returning.pop() else { break };
            self.enter_again(lent, room, user_id);
        }
    }
}
