//! The end of a session: by its own command, because its time is over, or because it gives way.
//!
//! Owns the calls for that: `end_session` → `quit` in each of its rooms → `gone`. Must not know why the
//! session ends. The invariant: a session whose end was begun is due in the store until it is gone, so
//! if this node does not come to the end, another one does.

use super::args::Args;
use super::identity::new_tail;
use super::library::Function;
use super::plan::{Awaited, Plan, PlanKey, Progress, SessionEnding};
use super::record::SessionHash;
use super::settled::Settled;
use super::state::{Cluster, Lent, NodeAnswer, Token};
use crate::chat::{ConnKey, Outcome, Refusal, RoomId};

impl Cluster {
    /// Begins the end of a session. `to`: the connection of the request that asks for it.
    pub(super) fn begin_ending(
        &mut self,
        lent: &mut Lent<'_>,
        session: SessionHash,
        to: Option<ConnKey>,
    ) -> Result<(), Refusal> {
        let begun = self.begin(lent, |cluster, lent, key| {
            let args = Args::new().session(session);
            let (now, token) = (lent.now.mono, Token::Plan(key));
            cluster.call_session(now, session, Function::EndSession, args, token)?;
            Ok(Plan::Ending(SessionEnding { to, session, left: None }))
        });
        begun.map(|_| ())
    }

    /// Ends a session whose time is over. If the store is away, it stays due there.
    pub(super) fn end_session(&mut self, lent: &mut Lent<'_>, session: SessionHash) {
        let _ = self.begin_ending(lent, session, None);
    }

    pub(super) fn on_ending(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        mut ending: SessionEnding,
        awaited: Awaited<'_>,
    ) -> Progress {
        let Awaited::Reply(reply) = awaited else { return Progress::Done };
        let mut issued = Ok(());
        let left = match ending.left {
            Some(left) => left.saturating_sub(1),
            None => {
                self.close_session(lent, ending.session);
                let rooms = reply.list(1).iter();
                let rooms: Vec<_> = rooms.filter_map(|room| RoomId::parse(room.as_str())).collect();
                issued = self.quit(lent, key, ending.session, &rooms);
                rooms.len()
            }
        };
        ending.left = Some(left);
        if left > 0 && issued.is_ok() {
            return Progress::waits(Plan::Ending(ending));
        }
        if issued.is_ok() {
            let args = Args::new().session(ending.session);
            let (now, session) = (lent.now.mono, ending.session);
            issued = self.call_session(now, session, Function::Gone, args, Token::Nothing);
        }
        let outcome = issued.map(|()| Settled::Whole(Outcome::SessionEnded));
        self.answers.extend(ending.to.map(|to| NodeAnswer::Outcome { to, outcome }));
        Progress::Done
    }

    /// Takes the session out of its rooms, and passes on those that it owns.
    fn quit(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        session: SessionHash,
        rooms: &[RoomId],
    ) -> Result<(), Refusal> {
        rooms.iter().try_for_each(|room| {
            let user_id = self.identity()?.user_id(session, *room);
            let args = Args::new()
                .room(*room)
                .user(user_id)
                .number(self.config.history_messages_max as u64)
                .text(new_tail(&mut *self.entropy))
                .time(self.config.room_ttl);
            self.call_room(lent.now.mono, *room, Function::Quit, args, Token::Plan(key))
        })
    }
}
