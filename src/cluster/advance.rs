//! From step to step.
//!
//! Owns how a plan begins, goes on and ends. Must not know what a step does. The invariant: a plan is
//! taken out while it takes a step, so a step cannot find it.

use super::plan::{Awaited, Plan, PlanKey, Progress, Returning};
use super::refusal::refusal_of;
use super::state::{Cluster, Lent, NodeAnswer};
use super::uplink::CallFailure;
use crate::chat::{CloseReason, Refusal};

impl Cluster {
    /// Adds a plan that waits for its first reply, which `issue` asks for.
    pub(super) fn begin(
        &mut self,
        lent: &mut Lent<'_>,
        issue: impl FnOnce(&mut Cluster, &mut Lent<'_>, PlanKey) -> Result<Plan, Refusal>,
    ) -> Result<PlanKey, Refusal> {
        let key = self.plans.reserve();
        match issue(self, lent, key) {
            Ok(plan) => {
                self.plans.put(key, Box::new(plan));
                Ok(key)
            }
            Err(refusal) => {
                self.plans.remove(key);
                Err(refusal)
            }
        }
    }

    /// The next step of a plan.
    pub(super) fn advance(&mut self, lent: &mut Lent<'_>, key: PlanKey, awaited: Awaited<'_>) {
        let Some(plan) = self.plans.take(key) else { return };
        let progress = match *plan {
            Plan::Request(request) => self.on_request(lent, key, request, awaited),
            Plan::Entering(entering) => self.on_entering(lent, key, entering, awaited),
            Plan::Nowhere(conn) => self.on_nowhere(conn, awaited),
            Plan::Ending(ending) => self.on_ending(lent, key, ending, awaited),
            Plan::Returning(returning) => self.on_returning(lent, key, returning, awaited),
        };
        match progress {
            Progress::Waits(plan) => _ = self.plans.put(key, plan),
            Progress::Done => _ = self.plans.remove(key),
        }
    }

    /// A call of a plan has failed, so the plan ends.
    pub(super) fn abandon(&mut self, lent: &mut Lent<'_>, key: PlanKey, why: CallFailure) {
        let Some(plan) = self.plans.remove(key) else { return };
        let refusal = refusal_of(why);
        match *plan {
            Plan::Request(request) => self.end_request(request, refusal),
            Plan::Entering(entering) if why == CallFailure::Unknown => {
                self.give_up_entry(lent, entering);
            }
            Plan::Entering(entering) => self.turn_away(lent, entering, CloseReason::Unavailable),
            Plan::Nowhere(to) => {
                self.answers.push(NodeAnswer::TurnedAway { to, reason: CloseReason::Unavailable });
            }
            Plan::Returning(Returning { room, user_id, .. }) => match why {
                CallFailure::Away | CallFailure::Unknown => self.returning.insert((room, user_id)),
                _ => self.close_person(lent, room, user_id, CloseReason::Unavailable),
            },
            // The session is due in the store: another attempt follows.
            Plan::Ending(ending) => {
                let outcome = |to| NodeAnswer::Outcome { to, outcome: Err(refusal) };
                self.answers.extend(ending.to.map(outcome));
            }
        }
    }
}
