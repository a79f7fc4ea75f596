//! A request's command as a sequence of calls.
//!
//! Owns which functions a command calls, in which order, and what follows each reply. Must not know how
//! a request looked. The invariant: the session is asked first (contract §1.11), and a second step that
//! never comes leaves nothing that shows: the index of a session's rooms is filtered when it is read.
//!
//! | command | functions: `→` waits for the reply, `⇢` does not |
//! |---|---|
//! | `Count` | `count` of each partition |
//! | `ListRooms` | `listing` of each partition, one for all requests meanwhile (see `rooms`) |
//! | `ShowRoom` | `look`, one for all requests before it leaves |
//! | `ListAllRooms` | `usage`, part after part, of one partition after the other |
//! | `DeleteAnyRoom`, `RemoveAnyUser` | `delete_room`, `remove` |
//! | `OpenSession` | `open_session` ⇢ end of the session that gives way |
//! | `EndSession` | see `ending` |
//! | `Touch` | `touch` |
//! | `ShowSession`, `ListJoined` | `touch` → `members` of each partition ⇢ `forget` |
//! | `OpenRoom` | `reserve` ⇢ `own` → `open_room` |
//! | `Join` | `reserve` → (with a password: `guess` →) `join` |
//! | `Leave` | `touch` → `leave` ⇢ `forget` |
//! | `ReadMessages`, `ListPeople` | `touch` → `look` → (the room's mirror) |
//! | `Post` | `touch` → (not mirrored: `look` → the room's mirror →) `post` |
//! | `ChangeRoom` | `touch` → `change` (→ again, with the lock that a new password is compared with) |
//! | all others | `touch` → the function of the command's name |
//!
//! If `reserve` finds no place, `members` and `forget` follow, and `reserve` again. Each `→` may end the
//! command with the refusal that the reply stands for (see `refusal`).

mod joining;
mod reaching;
mod rooms;
mod sessions;

use super::args::Args;
use super::library::Function;
use super::plan::{Awaited, Plan, PlanKey, Progress, RequestPlan, RequestStep, RoomAct};
use super::record::SessionHash;
use super::refusal::{accept, away};
use super::resp::{Reply, count};
use super::settled::Settled;
use super::state::{Cluster, Lent, NodeAnswer, Token};
use crate::chat::{Command, ConnKey, Outcome, OwnedRoom, Refusal, RoomId, UserId};
use crate::clock::Mono;

/// How often a command is begun again because something has changed meanwhile. An attempt takes two
/// steps or three.
const ATTEMPTS_MAX: u8 = 4;

/// How a step of a command ends: the command goes on, has its outcome, or is refused.
type Stepped = Result<After, Refusal>;

enum After {
    /// Something is waited for; then this step is taken.
    Step(Wait, RequestStep),
    Settled(Settled),
}

enum Wait {
    /// For the replies to these calls, one after the other.
    Replies(Vec<FunctionCall>),
    /// For the mirror of the room.
    Room(RoomId),
    /// For the listing of public rooms.
    Listing,
}

struct FunctionCall {
    partition: u16,
    function: Function,
    args: Args,
}

/// The command has led to this.
fn done(outcome: Outcome<'static>) -> Stepped {
    Ok(After::Settled(Settled::Whole(outcome)))
}

impl Cluster {
    /// Carries out a command. The outcome comes as an [`NodeAnswer`].
    pub fn run(
        &mut self,
        lent: &mut Lent<'_>,
        to: ConnKey,
        command: Command<'_>,
    ) -> Result<(), Refusal> {
        if let Command::EndSession(id) = command {
            let session = self.identity()?.session(id);
            return self.begin_ending(lent, session, Some(to));
        }
        if let Command::ShowRoom { room: Some(room) } = &command {
            // One call answers all requests that come before it leaves.
            let shown = self.shown.get(room).copied();
            if let Some((key, mut plan)) = shown.and_then(|key| Some((key, self.plans.take(key)?)))
            {
                if let Plan::Request(request) = &mut *plan {
                    request.to.push(to);
                }
                self.plans.put(key, plan);
                return Ok(());
            }
        }
        let (wait, step) = match self.first_step(command)? {
            After::Step(wait, step) => (wait, step),
            After::Settled(settled) => {
                self.answers.push(NodeAnswer::Outcome { to, outcome: Ok(settled) });
                return Ok(());
            }
        };
        let shown = if let RequestStep::Showing { room } = &step { Some(*room) } else { None };
        let is_counting = step.is_counting();
        let begun = self.begin(lent, |cluster, lent, key| {
            let now = lent.now.mono;
            match wait {
                Wait::Replies(calls) if step.is_first() => {
                    calls.into_iter().try_for_each(|call| {
                        let FunctionCall { partition, function, args } = call;
                        cluster.call_first(now, partition, function, args, key)
                    })?;
                }
                wait => cluster.wait(now, key, wait)?,
            }
            Ok(Plan::Request(RequestPlan { to: vec![to], step, attempts: 0 }))
        });
        match begun {
            Ok(key) => self.shown.extend(shown.map(|room| (room, key))),
            Err(refusal) if is_counting => self.refuse(vec![to], is_counting, refusal),
            Err(refusal) => return Err(refusal),
        }
        Ok(())
    }

    fn first_step(&mut self, command: Command<'_>) -> Stepped {
        let found = |room: Option<RoomId>| room.ok_or(Refusal::RoomNotFound);
        match command {
            Command::Count => self.count(),
            Command::ListRooms => Ok(After::Step(Wait::Listing, RequestStep::Listing)),
            Command::ShowRoom { room } => {
                let room = found(room)?;
                let args = Args::new().room(room).text("").text("show");
                let args = args.text("").flag(false);
                self.ask_room(room, Function::Look, args, RequestStep::Showing { room })
            }
            Command::ListAllRooms => self.list_all(0, "", Vec::new()),
            Command::DeleteAnyRoom { room } => {
                let room = found(room)?;
                let args = Args::new().room(room).text("");
                self.act(room, Function::DeleteRoom, args, RoomAct::Delete)
            }
            Command::RemoveAnyUser { room, user_id, ban } => {
                self.remove(found(room)?, None, user_id, ban)
            }
            Command::OpenSession { name, from } => self.open_session(name, from),
            Command::EndSession(_) => Err(away()), // See `run`.
            Command::Of(id, command) => self.of_session(id, command.into_owned()),
        }
    }

    /// What is waited for has come.
    fn on_step(&mut self, lent: &mut Lent<'_>, step: RequestStep, awaited: Awaited<'_>) -> Stepped {
        match (step, awaited) {
            (step, Awaited::Reply(reply)) => self.on_step_reply(lent, step, reply),
            (RequestStep::Reaching { person, room, purpose }, Awaited::Room) => {
                self.on_reached(lent, &person, room, purpose)
            }
            (RequestStep::Listing, Awaited::Room) => Ok(After::Settled(Settled::Listing)),
            (RequestStep::Acting { room, .. }, Awaited::Posted(message)) => {
                let room = lent.chat.room(room).ok_or(Refusal::RoomNotFound)?;
                done(Outcome::Posted { room, message, is_new: true })
            }
            (_, Awaited::NoRoom(_)) => Err(Refusal::RoomNotFound),
            (_, Awaited::Room | Awaited::Posted(_) | Awaited::Time) => Err(away()),
        }
    }

    fn on_step_reply(&mut self, lent: &mut Lent<'_>, step: RequestStep, reply: &Reply) -> Stepped {
        match step {
            RequestStep::Counting { left, sessions, rooms } => {
                let (sessions, rooms) = (sessions + count(reply, 1), rooms + count(reply, 2));
                match left {
                    0 | 1 => done(Outcome::Counts { sessions, rooms }),
                    _ => more(RequestStep::Counting { left: left - 1, sessions, rooms }),
                }
            }
            RequestStep::Listing => Err(away()), // It waits for no reply.
            RequestStep::Showing { room } => {
                accept(reply)?;
                shown(room, reply.bytes(1))
            }
            RequestStep::ListingAll { partition, rooms } => self.on_usage(partition, rooms, reply),
            RequestStep::OpeningSession { id, name, from } => {
                self.on_session_opened(lent, id, name, from, reply)
            }
            RequestStep::Touching { id, command } => self.on_touched(lent, id, command, reply),
            RequestStep::Reserving { id, reservation } => {
                self.on_reserved(lent, id, reservation, reply)
            }
            RequestStep::Filtering { person, purpose, mut filter } => {
                filter.on_answer(self.identity()?, reply.list(1));
                match filter.asked.is_empty() {
                    true => self.on_filtered(lent, person, purpose, filter),
                    false => more(RequestStep::Filtering { person, purpose, filter }),
                }
            }
            RequestStep::Reaching { person, room, purpose } => {
                self.on_looked(lent, person, room, purpose, reply)
            }
            RequestStep::Acting { room, act } => self.on_acted(lent, room, act, reply),
            RequestStep::Guessing(joining) => self.on_guessed(joining, reply),
            RequestStep::Joining(joining) => self.on_joined(joining, reply),
            RequestStep::Opening { person, room, options, from } => {
                self.on_opened(lent, &person, room, options, from, reply)
            }
            RequestStep::Changing { person, room, changes } => {
                self.on_changed(lent, person, room, changes, reply)
            }
        }
    }

    /// The next step of a request.
    pub(super) fn on_request(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        request: RequestPlan,
        awaited: Awaited<'_>,
    ) -> Progress {
        let RequestPlan { to, step, mut attempts } = request;
        let is_counting = step.is_counting();
        if let RequestStep::Showing { room } = &step {
            self.shown.remove(room);
        }
        attempts += u8::from(!step.is_part());
        let stepped = match attempts > 2 * ATTEMPTS_MAX {
            true => Err(away()),
            false => self.on_step(lent, step, awaited),
        };
        match stepped {
            Ok(After::Step(wait, step)) => match self.wait(lent.now.mono, key, wait) {
                Ok(()) => {
                    return Progress::waits(Plan::Request(RequestPlan { to, step, attempts }));
                }
                Err(refusal) => self.refuse(to, is_counting, refusal),
            },
            Ok(After::Settled(Settled::Room(facts))) => {
                for to in to {
                    let outcome = Ok(Settled::Room(facts.clone()));
                    self.answers.push(NodeAnswer::Outcome { to, outcome });
                }
            }
            Ok(After::Settled(settled)) => {
                let to = to.into_iter().next();
                self.answers.extend(to.map(|to| NodeAnswer::Outcome { to, outcome: Ok(settled) }));
            }
            Err(refusal) => self.refuse(to, is_counting, refusal),
        }
        Progress::Done
    }

    /// A request's plan ends without its next step.
    pub(super) fn end_request(&mut self, request: RequestPlan, refusal: Refusal) {
        if let RequestStep::Showing { room } = &request.step {
            self.shown.remove(room);
        }
        self.refuse(request.to, request.step.is_counting(), refusal);
    }

    /// Ends requests that cannot go on. A health check does not fail with the store (contract §17.2).
    fn refuse(&mut self, to: Vec<ConnKey>, is_counting: bool, refusal: Refusal) {
        for to in to {
            let outcome = match is_counting {
                true => Ok(Settled::Whole(self.last_counts())),
                false => Err(refusal),
            };
            self.answers.push(NodeAnswer::Outcome { to, outcome });
        }
    }

    // ---- What is waited for

    fn wait(&mut self, now: Mono, key: PlanKey, wait: Wait) -> Result<(), Refusal> {
        match wait {
            Wait::Replies(calls) => calls.into_iter().try_for_each(|call| {
                self.call(now, call.partition, call.function, call.args, Token::Plan(key))
            }),
            Wait::Room(room) => {
                self.await_room(room, key);
                Ok(())
            }
            Wait::Listing => self.want_listing(now, key),
        }
    }

    fn ask_session(
        &self,
        session: SessionHash,
        function: Function,
        args: Args,
        step: RequestStep,
    ) -> Stepped {
        let partition = self.identity()?.partition_of_session(session);
        ask(vec![FunctionCall { partition, function, args }], step)
    }

    fn ask_room(&self, room: RoomId, function: Function, args: Args, step: RequestStep) -> Stepped {
        let partition = self.identity()?.partition_of_room(room);
        ask(vec![FunctionCall { partition, function, args }], step)
    }

    fn user_id(&self, session: SessionHash, room: RoomId) -> Result<UserId, Refusal> {
        Ok(self.identity()?.user_id(session, room))
    }

    fn count(&self) -> Stepped {
        if !self.is_available() {
            return done(self.last_counts());
        }
        let left = self.identity()?.partitions();
        let call =
            |partition| FunctionCall { partition, function: Function::Count, args: Args::new() };
        let step = RequestStep::Counting { left, sessions: 0, rooms: 0 };
        ask((0..left).map(call).collect(), step)
    }

    /// The counts of the last beat.
    fn last_counts(&self) -> Outcome<'static> {
        let add = |sum: (usize, usize), one: &(usize, usize)| (sum.0 + one.0, sum.1 + one.1);
        let (sessions, rooms) = self.beats.counts.iter().fold((0, 0), add);
        Outcome::Counts { sessions, rooms }
    }
}

fn ask(calls: Vec<FunctionCall>, step: RequestStep) -> Stepped {
    Ok(After::Step(Wait::Replies(calls), step))
}

/// Another reply to the calls of the same step is still to come.
fn more(step: RequestStep) -> Stepped {
    ask(Vec::new(), step)
}

/// What a room is like.
fn shown(room: RoomId, facts: &[u8]) -> Stepped {
    let facts = super::record::facts(room, facts).map_err(|_| away())?;
    Ok(After::Settled(Settled::Room(OwnedRoom::of(facts.room))))
}
