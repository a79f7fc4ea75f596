//! A request's command as a sequence of calls.
//!
//! Owns the order of the calls for each command, and what each reply means. Must not know how a request
//! looked. The invariant: the session is asked first (contract §1.11), and a second step that never
//! comes leaves nothing that shows: the index of a session's rooms is filtered when it is read.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use super::args::Args;
use super::identity::{AddressHashes, draw_tail, new_tail};
use super::library::Function;
use super::plan::{
    Awaited, Filter, FilterPurpose, Joining, KnownSession, Plan, PlanKey, Progress, RequestPlan,
    RequestStep, SessionEnding,
};
use super::record::{self, MessageBody, SessionHash};
use super::refusal::{accept, accept_creation, away};
use super::resp::{Reply, count};
use super::settled::{Settled, SettledBan};
use super::state::{Cluster, Lent, NodeAnswer, Token};
use crate::chat::{
    Address, Appended, BanRequest, CloseReason, Command, ConnKey, Draft, GIVES_WAY_AFTER, Message,
    MessageCopies, MessageKind, Name, OwnedRoom, Refusal, RoomChanges, RoomId, RoomOptions,
    SESSION_ROOMS_MAX, SessionCommand, SessionId, Title, UserId,
};
use crate::clock::Wall;

/// How often a command is begun again because something has changed meanwhile.
const ATTEMPTS_MAX: u8 = 4;

/// Rooms of one part of the operator's list.
const USAGE_ROOMS: u64 = 256;

type Stepped = Result<After, Refusal>;

/// How a step of a request ends.
enum After {
    Step(RequestStep),
    Settled(Settled),
}

impl Cluster {
    /// Carries out a command. The outcome comes as an [`NodeAnswer`].
    pub fn run(
        &mut self,
        lent: &mut Lent<'_>,
        to: ConnKey,
        command: Command<'_>,
    ) -> Result<(), Refusal> {
        if let (Command::Count, false) = (&command, self.is_available()) {
            // The counts of the last beat: a health check must not fail with the store.
            let add = |sum: (usize, usize), one: &(usize, usize)| (sum.0 + one.0, sum.1 + one.1);
            let (sessions, rooms) = self.beats.counts.iter().fold((0, 0), add);
            let outcome = Ok(Settled::Counts { sessions, rooms });
            self.answers.push(NodeAnswer::Outcome { to, outcome });
            return Ok(());
        }
        if let Command::ShowRoom { room: Some(room) } = &command {
            // One call answers all who ask before it leaves.
            let shown = self.shown.get(room).copied();
            let plan = shown.and_then(|key| self.plans.get_mut(key)?.as_deref_mut());
            if let Some(Plan::Request(request)) = plan {
                request.to.push(to);
                return Ok(());
            }
        }
        self.begin(lent, |cluster, lent, key| {
            let step = cluster.first_step(lent, key, to, command)?;
            Ok(match step {
                First::Step(step) => Plan::Request(RequestPlan { to: vec![to], step, attempts: 0 }),
                First::Ending(ending) => Plan::Ending(ending),
            })
        })?;
        Ok(())
    }

    fn first_step(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        to: ConnKey,
        command: Command<'_>,
    ) -> Result<First, Refusal> {
        let now = lent.now.mono;
        Ok(First::Step(match command {
            Command::Count => {
                let left = self.identity()?.partitions();
                for partition in 0..left {
                    self.call(now, partition, Function::Count, Args::new(), Token::Plan(key))?;
                }
                RequestStep::Counting { left, sessions: 0, rooms: 0 }
            }
            Command::ListRooms => {
                self.want_listing(lent, key)?;
                RequestStep::Listing
            }
            Command::ShowRoom { room } => {
                let room = room.ok_or(Refusal::RoomNotFound)?;
                let args = Args::new().text(room.to_string()).text("").text("show");
                let args = args.text("").flag(false);
                self.call_room(now, room, Function::Look, args, Token::Plan(key))?;
                self.shown.insert(room, key);
                RequestStep::Showing { room }
            }
            Command::ListAllRooms => self.list_all(lent, key, 0, "", Vec::new())?,
            Command::DeleteAnyRoom { room } => {
                let room = room.ok_or(Refusal::RoomNotFound)?;
                let args = Args::new().text(room.to_string()).text("");
                self.call_room(now, room, Function::DeleteRoom, args, Token::Plan(key))?;
                RequestStep::Operating { room, target: None, bans_address: false }
            }
            Command::RemoveAnyUser { room, user_id, ban } => {
                let room = room.ok_or(Refusal::RoomNotFound)?;
                let args = self.removal(room, "", user_id, ban);
                self.call_room(now, room, Function::Remove, args, Token::Plan(key))?;
                let target = Some(user_id.ok_or(Refusal::UserNotFound)?);
                let bans_address = ban.is_some_and(|ban| ban.address);
                RequestStep::Operating { room, target, bans_address }
            }
            Command::OpenSession { .. } if self.beats.is_store_full => {
                return Err(Refusal::ServerFull);
            }
            Command::OpenSession { name, from } => self.ask_for_session(lent, key, name, from)?,
            Command::EndSession(id) => {
                let session = self.identity()?.session(id);
                return Ok(First::Ending(self.first_end(lent, key, session, Some(to))?));
            }
            Command::Of(id, command) => self.identify(lent, key, id, command.into_owned())?,
        }))
    }

    /// Asks the session whether it exists, together with what else it has to do first.
    fn identify(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        id: SessionId,
        command: SessionCommand<'static>,
    ) -> Result<RequestStep, Refusal> {
        let identity = self.identity.as_ref().ok_or_else(away)?;
        let session = identity.session(id);
        let room = match &command {
            SessionCommand::Join { room, .. } => *room,
            SessionCommand::OpenRoom { options, from } => {
                Some(identity.new_room(options.is_private(), *from, &mut *self.entropy))
            }
            _ => None,
        };
        let args = Args::new().text(session.to_string());
        let ttl = self.config.session_ttl;
        let (function, args) = match (room, &command) {
            (Some(room), _) => {
                let args = args.text(room.to_string()).time(ttl).number(SESSION_ROOMS_MAX as u64);
                (Function::Reserve, args)
            }
            (None, SessionCommand::ShowSession | SessionCommand::ListJoined) => {
                (Function::Touch, args.time(ttl).text("rooms"))
            }
            (None, SessionCommand::Leave { room: Some(room) }) => {
                (Function::Touch, args.time(ttl).text(room.to_string()))
            }
            (None, _) => (Function::Touch, args.time(ttl).text("")),
        };
        self.call_session(lent.now.mono, session, function, args, Token::Plan(key))?;
        Ok(RequestStep::Identifying { id, room, command })
    }

    fn ask_for_session(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        name: Name,
        from: Option<Address>,
    ) -> Result<RequestStep, Refusal> {
        let identity = self.identity.as_ref().ok_or_else(away)?;
        let id = identity.new_session(from, &mut *self.entropy);
        let (session, AddressHashes { address, network }) =
            (identity.session(id), identity.address(from));
        let config = &self.config;
        let args = Args::new()
            .text(session.to_string())
            .text(name.as_str())
            .time(config.session_ttl)
            .number(config.sessions_max as u64)
            .text(address)
            .text(network)
            .share(config.address_sessions_max)
            .pace(config.session_pace)
            .time(GIVES_WAY_AFTER);
        self.call_session(lent.now.mono, session, Function::OpenSession, args, Token::Plan(key))?;
        Ok(RequestStep::OpeningSession { id, name, from })
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
        if let RequestStep::Showing { room } = &step {
            self.shown.remove(room);
        }
        attempts += u8::from(!step.is_part());
        let stepped = match attempts > 2 * ATTEMPTS_MAX {
            true => Err(away()),
            false => self.on_step(lent, key, step, awaited),
        };
        match stepped {
            Ok(After::Step(step)) => {
                return Progress::waits(Plan::Request(RequestPlan { to, step, attempts }));
            }
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
            Err(refusal) => {
                let request = RequestPlan { to, step: RequestStep::Listing, attempts };
                self.answer_all(request, refusal);
            }
        }
        Progress::Done
    }

    /// Refuses all requests of a plan.
    pub(super) fn answer_all(&mut self, request: RequestPlan, refusal: Refusal) {
        if let RequestStep::Showing { room } = &request.step {
            self.shown.remove(room);
        }
        let outcome = |to| NodeAnswer::Outcome { to, outcome: Err(refusal) };
        self.answers.extend(request.to.into_iter().map(outcome));
    }

    fn on_step(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        step: RequestStep,
        awaited: Awaited<'_>,
    ) -> Stepped {
        match (step, awaited) {
            (RequestStep::Reaching { person, room, command }, Awaited::Room) => {
                self.on_reached(lent, key, person, room, command)
            }
            (RequestStep::Listing, Awaited::Room) => Ok(After::Settled(Settled::Listing)),
            (step, Awaited::Reply(reply)) => self.on_step_reply(lent, key, step, reply),
            (RequestStep::Acting { room, .. }, Awaited::Posted(message)) => {
                let room = lent.chat.room(room).ok_or(Refusal::RoomNotFound)?;
                Ok(After::Settled(Settled::Posted { room, message, is_new: true }))
            }
            (_, Awaited::NoRoom(_)) => Err(Refusal::RoomNotFound),
            (_, Awaited::Room | Awaited::Posted(_) | Awaited::Time) => Err(away()),
        }
    }

    fn on_step_reply(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        step: RequestStep,
        reply: &Reply,
    ) -> Stepped {
        match step {
            RequestStep::Counting { left, sessions, rooms } => {
                let (sessions, rooms) = (sessions + count(reply, 1), rooms + count(reply, 2));
                Ok(match left {
                    0 | 1 => After::Settled(Settled::Counts { sessions, rooms }),
                    _ => After::Step(RequestStep::Counting { left: left - 1, sessions, rooms }),
                })
            }
            RequestStep::Listing => Err(away()),
            RequestStep::Operating { room, target, bans_address } => {
                accept(reply)?;
                let Some(target) = target else {
                    self.on_room_over(lent, room, CloseReason::RoomDeleted);
                    return Ok(After::Settled(Settled::RoomDeleted));
                };
                let has_address = self.on_removed(lent, room, target, reply);
                let address = bans_address.then_some(has_address);
                Ok(After::Settled(Settled::Removed { address }))
            }
            RequestStep::ListingAll { partition, mut rooms } => {
                accept(reply)?;
                rooms.extend(reply.list(2).chunks_exact(4).filter_map(|one| {
                    let room = RoomId::parse(one[0].as_str())?;
                    let facts = record::facts(room, one[1].as_bytes()).ok()?;
                    let number = |reply: &Reply| usize::try_from(reply.as_number()?).ok();
                    Some((OwnedRoom::of(facts.room), number(&one[2])?, number(&one[3])?))
                }));
                let next = reply.text(1);
                let partition = partition + u16::from(next.is_empty());
                match partition < self.partitions {
                    true => Ok(After::Step(self.list_all(lent, key, partition, next, rooms)?)),
                    false => Ok(After::Settled(Settled::Usage(rooms))),
                }
            }
            RequestStep::Showing { room } => {
                accept(reply)?;
                facts_in(room, reply.bytes(1))
            }
            RequestStep::OpeningSession { id, name, from } => {
                if reply.status() == "EXISTS" {
                    return Ok(After::Step(self.ask_for_session(lent, key, name, from)?));
                }
                accept_creation(reply, Refusal::AddressSessions)?;
                if let Ok(victim) = SessionHash::parse(reply.bytes(1)) {
                    self.end_session(lent, victim);
                }
                Ok(After::Settled(Settled::SessionOpened { id, name }))
            }
            RequestStep::Identifying { id, room, command } => {
                self.on_identified(lent, key, id, room, command, reply)
            }
            RequestStep::Filtering { person, purpose, mut filter } => {
                filter.on_answer(self.identity()?, reply.list(1));
                match filter.asked.is_empty() {
                    true => self.on_filtered(lent, key, person, purpose, filter),
                    false => Ok(After::Step(RequestStep::Filtering { person, purpose, filter })),
                }
            }
            RequestStep::Reaching { person, room, command } => {
                if let (Err(_), SessionCommand::Post { text, nonce, .. }) =
                    (accept(reply), &command)
                {
                    // A bad message is refused before an unknown room.
                    Draft::new(text, nonce.as_deref())?;
                }
                accept(reply)?;
                match self.is_mirrored(lent, room, reply) {
                    Some(true) => self.on_reached(lent, key, person, room, command),
                    Some(false) => {
                        self.await_room(room, key);
                        Ok(After::Step(RequestStep::Reaching { person, room, command }))
                    }
                    // The mirror was dropped meanwhile.
                    None => self.reach(lent, key, person, room, command),
                }
            }
            RequestStep::Acting { person, room, command, version } => {
                self.on_acted(lent, person, room, command, version, reply)
            }
            RequestStep::Guessing(joining) => {
                let lock = match reply.status() {
                    "IN" => None,
                    "LOCK" => Some(reply.text(1)),
                    _ => return Err(accept(reply).err().unwrap_or_else(away)),
                };
                if let (Some(lock), Some(password)) = (lock, &joining.password) {
                    if !self.identity()?.opens(lock, password) {
                        return Err(Refusal::BadPassword);
                    }
                }
                self.join(lent, key, joining, lock)
            }
            RequestStep::Joining(joining) => match (reply.status(), &joining.password) {
                ("AGAIN", None) => Err(Refusal::BadPassword),
                ("AGAIN", Some(_)) => self.guess(lent, key, joining),
                _ => {
                    accept(reply)?;
                    let user_id = self.user_id(&joining.person, joining.room)?;
                    Ok(After::Settled(Settled::Joined { user_id }))
                }
            },
            RequestStep::Opening { person, room, options, from } => {
                if reply.status() == "EXISTS" {
                    let command = SessionCommand::OpenRoom { options, from };
                    return Ok(After::Step(self.identify(lent, key, person.id, command)?));
                }
                accept_creation(reply, Refusal::AddressRooms)?;
                let user_id = self.user_id(&person, room)?;
                let ttl = self.config.new_room_ttl;
                let ttl = options.ttl.map_or(ttl, |life| life.min(ttl));
                self.reap_within(lent.now.mono, self.identity()?.partition_of_room(room), ttl);
                if let Some(victim) = RoomId::parse(reply.text(1)) {
                    self.on_room_over(lent, victim, CloseReason::RoomDeleted);
                }
                Ok(After::Settled(Settled::RoomOpened { room, user_id }))
            }
            RequestStep::Changing { person, room, changes } => {
                if reply.status() == "LOCK" {
                    let lock = reply.text(1);
                    return self.change_room(lent, key, person, room, changes, Some(lock));
                }
                accept(reply)?;
                if reply.bytes(1) == b"1" {
                    self.on_facts(lent, room, reply.bytes(2));
                }
                facts_in(room, reply.bytes(2))
            }
        }
    }

    fn on_identified(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        id: SessionId,
        room: Option<RoomId>,
        command: SessionCommand<'static>,
        reply: &Reply,
    ) -> Stepped {
        let hash = self.identity()?.session(id);
        let is_over = match reply.status() {
            "NOSESSION" => return Err(Refusal::NoSession),
            status => status == "OVER",
        };
        let name = Name::parse(reply.text(1)).map_err(|_| away())?;
        let person = KnownSession { id, hash, name };
        match (is_over, room) {
            // The index may have rooms that are over.
            (true, _) => {
                let rooms = rooms_in(reply.list(2));
                self.filter(lent, key, person, FilterPurpose::MakePlace(command), rooms)
            }
            (false, Some(room)) => self.join_or_open(lent, key, person, room, command, false),
            (false, None) => self.act(lent, key, person, command, reply),
        }
    }

    fn join_or_open(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        person: KnownSession,
        room: RoomId,
        command: SessionCommand<'static>,
        is_over: bool,
    ) -> Stepped {
        match command {
            SessionCommand::Join { password, from, .. } => {
                let joining = Joining { person, room, password, from, is_over };
                match joining.password {
                    Some(_) => self.guess(lent, key, joining),
                    None => self.join(lent, key, joining, None),
                }
            }
            SessionCommand::OpenRoom { .. } if is_over => Err(Refusal::TooManyRooms),
            SessionCommand::OpenRoom { .. } if self.beats.is_store_full => Err(Refusal::ServerFull),
            SessionCommand::OpenRoom { options, from } => {
                self.open_room(lent, key, person, room, options, from)
            }
            _ => Err(away()),
        }
    }

    /// The session exists: carries out its command.
    fn act(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        person: KnownSession,
        command: SessionCommand<'static>,
        reply: &Reply,
    ) -> Stepped {
        let found = |room: Option<RoomId>| room.ok_or(Refusal::RoomNotFound);
        match command {
            SessionCommand::Touch => Ok(After::Settled(Settled::Session)),
            SessionCommand::ShowSession => {
                let rooms = rooms_in(reply.list(2));
                self.filter(lent, key, person, FilterPurpose::Show, rooms)
            }
            SessionCommand::ListJoined => {
                let rooms = rooms_in(reply.list(2));
                self.filter(lent, key, person, FilterPurpose::List, rooms)
            }
            SessionCommand::OpenRoom { .. } => Err(away()),
            SessionCommand::Join { .. } => Err(Refusal::RoomNotFound),
            SessionCommand::ChangeRoom { room, changes } => {
                self.change_room(lent, key, person, found(room)?, changes, None)
            }
            SessionCommand::Leave { room: None } => Ok(After::Settled(Settled::Left)),
            SessionCommand::Post { room: None, text, nonce } => {
                // A bad message is refused before an unknown room.
                Draft::new(&text, nonce.as_deref())?;
                Err(Refusal::RoomNotFound)
            }
            SessionCommand::ReadMessages { room, .. }
            | SessionCommand::ListPeople { room, .. }
            | SessionCommand::Post { room, .. } => {
                self.reach(lent, key, person, found(room)?, command)
            }
            SessionCommand::Leave { room }
            | SessionCommand::DeleteRoom { room }
            | SessionCommand::DeleteMessage { room, .. }
            | SessionCommand::Type { room }
            | SessionCommand::RemoveUser { room, .. }
            | SessionCommand::ListBans { room }
            | SessionCommand::LiftBan { room, .. }
            | SessionCommand::Watch { room, .. } => {
                let room = found(room)?;
                let version = reply.number(2);
                self.ask_room(lent, key, &person, room, &command)?;
                Ok(After::Step(RequestStep::Acting { person, room, command, version }))
            }
        }
    }

    fn open_room(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        person: KnownSession,
        room: RoomId,
        options: RoomOptions<'static>,
        from: Option<Address>,
    ) -> Stepped {
        let user_id = self.user_id(&person, room)?;
        let identity = self.identity.as_ref().ok_or_else(away)?;
        let AddressHashes { address, network } = identity.address(from);
        let config = &self.config;
        let entropy = &mut *self.entropy;
        let lock = options.password.as_deref().map(|word| identity.lock(word, entropy));
        let flags = [(options.is_private(), "p"), (options.encrypted, "e")];
        let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect();
        let args = Args::new()
            .text(room.to_string())
            .text(user_id.to_string())
            .text(person.name.as_str())
            .text(person.name.folded())
            .text(identity.address_in(from, room))
            .text(options.title.as_ref().map_or("", Title::as_str))
            .text(lock.unwrap_or_default())
            .text(flags)
            .number(options.slow_mode.into())
            .text(options.ttl.map_or_else(String::new, |ttl| ttl.as_micros().to_string()))
            .time(config.new_room_ttl)
            .number(config.rooms_max as u64)
            .text(address)
            .text(network)
            .share(config.address_sessions_max)
            .pace(config.room_pace)
            .time(GIVES_WAY_AFTER);
        // An index of the rooms that pass on when the session ends. The room itself decides.
        let owned = Args::new().text(person.hash.to_string()).text(room.to_string());
        let now = lent.now.mono;
        self.call_session(now, person.hash, Function::Own, owned, Token::Nothing)?;
        self.call_room(now, room, Function::OpenRoom, args, Token::Plan(key))?;
        Ok(After::Step(RequestStep::Opening { person, room, options, from }))
    }

    fn guess(&mut self, lent: &mut Lent<'_>, key: PlanKey, joining: Joining) -> Stepped {
        let Joining { person, room, from, .. } = &joining;
        let user_id = self.user_id(person, *room)?;
        let paces = self.config.guess_paces;
        let args = Args::new()
            .text(room.to_string())
            .text(user_id.to_string())
            .text(self.identity()?.address_in(*from, *room))
            .pace(paces.address)
            .pace(paces.room);
        self.call_room(lent.now.mono, *room, Function::Guess, args, Token::Plan(key))?;
        Ok(After::Step(RequestStep::Guessing(joining)))
    }

    /// `lock`: the lock that the password has opened, as the room has it.
    fn join(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        joining: Joining,
        lock: Option<&str>,
    ) -> Stepped {
        let Joining { person, room, from, is_over, .. } = &joining;
        let user_id = self.user_id(person, *room)?;
        let address = self.identity()?.address_in(*from, *room);
        let args = Args::new()
            .text(room.to_string())
            .text(user_id.to_string())
            .text(person.name.as_str())
            .text(person.name.folded())
            .text(&address)
            .flag(*is_over)
            .text(lock.unwrap_or_default())
            .text(if lock.is_some() { &address } else { "-" })
            .time(self.config.guess_paces.address.interval())
            .time(self.config.guess_paces.room.interval());
        self.call_room(lent.now.mono, *room, Function::Join, args, Token::Plan(key))?;
        Ok(After::Step(RequestStep::Joining(joining)))
    }

    /// `lock`: the room's lock, with which a new password is to be compared; `None`: not known yet.
    fn change_room(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        person: KnownSession,
        room: RoomId,
        changes: RoomChanges<'static>,
        lock: Option<&str>,
    ) -> Stepped {
        let user_id = self.user_id(&person, room)?;
        let (mut password, mut is_same, mut new_lock) = ("", false, String::new());
        match &changes.password {
            None => {}
            Some(None) => password = "none",
            Some(Some(word)) => {
                password = "set";
                let identity = self.identity.as_ref().ok_or_else(away)?;
                is_same = lock.is_some_and(|lock| identity.opens(lock, word));
                new_lock = identity.lock(word, &mut *self.entropy);
            }
        }
        let title = changes.title.as_ref();
        let args = Args::new()
            .text(room.to_string())
            .text(user_id.to_string())
            .pace(self.config.message_pace)
            .flag(title.is_some())
            .text(title.and_then(Option::as_ref).map_or("", Title::as_str))
            .text(changes.locked.map_or("", |locked| if locked { "1" } else { "0" }))
            .text(changes.slow_mode.map_or_else(String::new, |seconds| seconds.to_string()))
            .text(password)
            .text(lock.unwrap_or("?"))
            .flag(is_same)
            .text(new_lock)
            .text(match changes.owner {
                None => String::new(),
                Some(None) => "-".to_owned(),
                Some(Some(owner)) => owner.to_string(),
            });
        self.call_room(lent.now.mono, room, Function::Change, args, Token::Plan(key))?;
        Ok(After::Step(RequestStep::Changing { person, room, changes }))
    }

    /// Asks the room for access, and for a mirror of it if there is none.
    fn reach(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        person: KnownSession,
        room: RoomId,
        command: SessionCommand<'static>,
    ) -> Stepped {
        let (access, from) = match &command {
            SessionCommand::ReadMessages { from, .. } | SessionCommand::ListPeople { from, .. } => {
                ("read", *from)
            }
            // The function itself asks whether the session is a member.
            _ => ("show", None),
        };
        let is_mirrored = self.use_room(lent.now.mono, room);
        if is_mirrored == Some(true) && access == "show" {
            return self.on_reached(lent, key, person, room, command);
        }
        let args = Args::new()
            .text(room.to_string())
            .text(self.user_id(&person, room)?.to_string())
            .text(access)
            .text(self.identity()?.address_in(from, room))
            .flag(is_mirrored.is_none());
        self.call_room(lent.now.mono, room, Function::Look, args, Token::Plan(key))?;
        Ok(After::Step(RequestStep::Reaching { person, room, command }))
    }

    /// The session has access, and the mirror is as new as the last reply.
    fn on_reached(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        person: KnownSession,
        room: RoomId,
        command: SessionCommand<'static>,
    ) -> Stepped {
        let mirrored = lent.chat.room(room).ok_or(Refusal::RoomNotFound)?;
        match command {
            SessionCommand::ReadMessages { after, limit, .. } => {
                Ok(After::Settled(Settled::Messages { room: mirrored, after, limit }))
            }
            SessionCommand::ListPeople { .. } => {
                Ok(After::Settled(Settled::People { room: mirrored }))
            }
            SessionCommand::Post { text, nonce, .. } => {
                let draft = lent.chat.draft(mirrored, &text, nonce.as_deref())?;
                let config = &self.config;
                let user_id = self.identity()?.user_id(person.hash, room);
                let mut body = Vec::new();
                let (user, tail) = (person.name.shown(), draw_tail(&mut *self.entropy));
                let kind = MessageKind::Chat(draft.text());
                MessageBody { kind, tail, user_id, user, nonce: draft.nonce() }.encode(&mut body);
                let args = Args::new()
                    .text(room.to_string())
                    .text(user_id.to_string())
                    .pace(config.message_pace)
                    .number(config.history_messages_max as u64)
                    .text(nonce.as_deref().unwrap_or_default())
                    .text(&body)
                    .text(person.name.folded())
                    .time(config.room_ttl)
                    .time(config.new_room_ttl)
                    .text(new_tail(&mut *self.entropy));
                self.call_room(lent.now.mono, room, Function::Post, args, Token::Plan(key))?;
                let text = Cow::Owned(String::from_utf8(body).unwrap_or_default());
                let command = SessionCommand::Post { room: Some(room), text, nonce: None };
                Ok(After::Step(RequestStep::Acting { person, room, command, version: 0 }))
            }
            _ => Err(away()),
        }
    }

    /// The arguments of `remove`. `by`: the owner; empty: the operator.
    fn removal(
        &mut self,
        room: RoomId,
        by: &str,
        target: Option<UserId>,
        ban: Option<BanRequest>,
    ) -> Args {
        let ban_time = ban.map_or_else(String::new, |ban| ban.duration.as_micros().to_string());
        Args::new()
            .text(room.to_string())
            .text(by)
            .text(target.map_or_else(String::new, |target| target.to_string()))
            .text(ban_time)
            .flag(ban.is_some_and(|ban| ban.address))
            .number(self.config.history_messages_max as u64)
            .text(new_tail(&mut *self.entropy))
            .pace(self.config.message_pace)
            .time(self.config.room_ttl)
    }

    /// Asks for the next rooms of a partition.
    fn list_all(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        partition: u16,
        after: &str,
        rooms: Vec<(OwnedRoom, usize, usize)>,
    ) -> Result<RequestStep, Refusal> {
        let args = Args::new().text(after).number(USAGE_ROOMS);
        self.call(lent.now.mono, partition, Function::Usage, args, Token::Plan(key))?;
        Ok(RequestStep::ListingAll { partition, rooms })
    }

    /// Calls the function of a command that takes one.
    fn ask_room(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        person: &KnownSession,
        room: RoomId,
        command: &SessionCommand<'static>,
    ) -> Result<(), Refusal> {
        let user_id = self.user_id(person, room)?;
        let (keep, pace) = (self.config.history_messages_max as u64, self.config.message_pace);
        let tail = new_tail(&mut *self.entropy);
        let args = Args::new().text(room.to_string()).text(user_id.to_string());
        let (function, args) = match command {
            SessionCommand::Leave { .. } => {
                (Function::Leave, args.number(keep).text(tail).time(self.config.room_ttl))
            }
            SessionCommand::DeleteRoom { .. } => (Function::DeleteRoom, args),
            SessionCommand::DeleteMessage { message, .. } => {
                let message = message.ok_or(Refusal::MessageNotFound);
                let args = match message {
                    Ok(id) => {
                        args.text(id.place().to_string()).text(record::tail_digits(id.tail()))
                    }
                    // The room is asked first whether it exists.
                    Err(_) => args.text("0-0").text(""),
                };
                let args = args.text(tail).text(person.name.as_str()).number(keep).pace(pace);
                let target = message.map_or_else(|_| String::new(), |id| id.to_string());
                (Function::DeleteMessage, args.text(target))
            }
            SessionCommand::Type { .. } => {
                let args = args.text(person.name.folded()).text(person.name.as_str());
                (Function::Typing, args)
            }
            SessionCommand::RemoveUser { user_id: target, ban, .. } => {
                if *target == Some(user_id) {
                    return Err(Refusal::RemovesItself);
                }
                let args = self.removal(room, &user_id.to_string(), *target, *ban);
                (Function::Remove, args)
            }
            SessionCommand::ListBans { .. } => (Function::Bans, args),
            SessionCommand::LiftBan { user_id: target, .. } => {
                let target = target.map_or_else(String::new, |target| target.to_string());
                (Function::Lift, args.text(target))
            }
            SessionCommand::Watch { from, .. } => {
                let address = self.identity()?.address_in(*from, room);
                (Function::Look, args.text("read").text(address).flag(false))
            }
            _ => return Err(away()),
        };
        self.call_room(lent.now.mono, room, function, args, Token::Plan(key))
    }

    /// The function of a command has answered.
    fn on_acted(
        &mut self,
        lent: &mut Lent<'_>,
        person: KnownSession,
        room: RoomId,
        command: SessionCommand<'static>,
        version: u64,
        reply: &Reply,
    ) -> Stepped {
        Ok(After::Settled(match command {
            SessionCommand::Leave { .. } => {
                let user_id = self.user_id(&person, room)?;
                self.close_person(lent, room, user_id, CloseReason::LeftRoom);
                self.on_entry_at(lent, room, reply, 1);
                let args = Args::new()
                    .text(person.hash.to_string())
                    .text(room.to_string())
                    .number(version);
                let now = lent.now.mono;
                self.call_session(now, person.hash, Function::Forget, args, Token::Nothing)?;
                Settled::Left
            }
            SessionCommand::DeleteRoom { .. } => {
                accept(reply)?;
                self.on_room_over(lent, room, CloseReason::RoomDeleted);
                Settled::RoomDeleted
            }
            SessionCommand::DeleteMessage { .. } => {
                accept(reply)?;
                self.on_entry_at(lent, room, reply, 1);
                Settled::MessageDeleted
            }
            SessionCommand::Type { .. } => {
                accept(reply)?;
                let user_id = self.user_id(&person, room)?;
                self.on_typing(lent, room, user_id, person.name.shown(), Duration::ZERO);
                Settled::Typed
            }
            SessionCommand::RemoveUser { user_id, ban, .. } => {
                accept(reply)?;
                let target = user_id.ok_or(Refusal::UserNotFound)?;
                let has_address = self.on_removed(lent, room, target, reply);
                let asked = ban.is_some_and(|ban| ban.address);
                Settled::Removed { address: asked.then_some(has_address) }
            }
            SessionCommand::ListBans { .. } => {
                accept(reply)?;
                let bans = reply.list(1).chunks_exact(4).filter_map(|ban| {
                    Some(SettledBan {
                        user_id: UserId::parse(ban[0].as_str())?,
                        until: Wall::from_micros(ban[1].as_number()?),
                        user: ban[2].as_str().into(),
                        has_address: !ban[3].as_str().is_empty(),
                    })
                });
                Settled::Bans(bans.collect())
            }
            SessionCommand::LiftBan { .. } => {
                accept(reply)?;
                Settled::BanLifted
            }
            SessionCommand::Watch { .. } => {
                accept(reply)?;
                Settled::Access { session: person.id, room }
            }
            SessionCommand::Post { text: body, .. } => {
                return self.on_posted(lent, room, body.as_bytes(), reply);
            }
            _ => return Err(away()),
        }))
    }

    /// A person was removed. Whether its address is banned.
    fn on_removed(
        &mut self,
        lent: &mut Lent<'_>,
        room: RoomId,
        target: UserId,
        reply: &Reply,
    ) -> bool {
        self.close_person(lent, room, target, CloseReason::Removed);
        for entry in reply.list(2) {
            self.on_entry(lent, room, entry);
        }
        self.on_facts(lent, room, reply.bytes(3));
        reply.bytes(1) == b"1"
    }

    /// `body`: of the message, if it is a new one.
    fn on_posted(
        &mut self,
        lent: &mut Lent<'_>,
        room: RoomId,
        body: &[u8],
        reply: &Reply,
    ) -> Stepped {
        let key = lent.chat.room(room).ok_or(Refusal::RoomNotFound)?;
        let (is_new, id, record) = match reply.status() {
            "OK" => (true, reply.bytes(2), [reply.bytes(3), body].concat()),
            "DUP" => (false, reply.bytes(1), reply.bytes(2).to_vec()),
            _ => return Err(accept(reply).err().unwrap_or_else(away)),
        };
        let place = record::place(id).map_err(|_| away())?;
        let message = record::message(room, place, &record).map_err(|_| away())?;
        if is_new {
            self.on_own_message(lent, reply, message);
        }
        let message = MessageCopies::of_message(&message);
        Ok(After::Settled(Settled::Posted { room: key, message, is_new }))
    }

    /// A message of this node has been appended, and perhaps the departure of somebody before it.
    pub(super) fn on_own_message(
        &mut self,
        lent: &mut Lent<'_>,
        reply: &Reply,
        message: Message<'_>,
    ) {
        self.on_entry_at(lent, message.room_id, reply, 4);
        if let Ok(after) = record::place(reply.bytes(1)) {
            self.on_said(lent, Appended { after, message });
        }
    }

    // ---- The rooms of a session

    /// Asks the rooms of a session whether it is still a member.
    fn filter(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        person: KnownSession,
        purpose: FilterPurpose,
        rooms: Vec<(RoomId, u64)>,
    ) -> Stepped {
        let identity = self.identity.as_ref().ok_or_else(away)?;
        let mut filter = Filter { rooms, alive: Vec::new(), asked: VecDeque::new() };
        let mut calls = Vec::new();
        for partition in 0..identity.partitions() {
            let mut args = Args::new();
            for room in filter.rooms_in(identity, partition) {
                let user_id = identity.user_id(person.hash, room);
                args = args.text(room.to_string()).text(user_id.to_string());
            }
            if args.iter().len() > 0 {
                filter.asked.push_back(partition);
                calls.push((partition, args));
            }
        }
        if calls.is_empty() {
            return self.on_filtered(lent, key, person, purpose, filter);
        }
        for (partition, args) in calls {
            self.call(lent.now.mono, partition, Function::Members, args, Token::Plan(key))?;
        }
        Ok(After::Step(RequestStep::Filtering { person, purpose, filter }))
    }

    fn on_filtered(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        person: KnownSession,
        purpose: FilterPurpose,
        filter: Filter,
    ) -> Stepped {
        let Filter { rooms, alive, .. } = filter;
        let (living, dead): (Vec<_>, Vec<_>) =
            rooms.into_iter().partition(|(room, _)| alive.contains(room));
        if !dead.is_empty() {
            let mut args = Args::new().text(person.hash.to_string());
            for (room, version) in &dead {
                args = args.text(room.to_string()).number(*version);
            }
            let now = lent.now.mono;
            self.call_session(now, person.hash, Function::Forget, args, Token::Nothing)?;
        }
        let rooms = living.into_iter().map(|(room, _)| room).collect();
        let KnownSession { id, name, .. } = person;
        Ok(match purpose {
            FilterPurpose::Show => After::Settled(Settled::SessionShown { id, name, rooms }),
            FilterPurpose::List => After::Settled(Settled::Rooms(rooms)),
            FilterPurpose::MakePlace(command) if !dead.is_empty() => {
                After::Step(self.identify(lent, key, id, command)?)
            }
            FilterPurpose::MakePlace(command) => {
                let SessionCommand::Join { room: Some(room), .. } = command else {
                    return Err(Refusal::TooManyRooms);
                };
                // A room that does not exist, or refuses the session, is told first.
                let person = KnownSession { id, name, ..person };
                return self.join_or_open(lent, key, person, room, command, true);
            }
        })
    }

    // ---- The end of a session

    fn first_end(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        session: SessionHash,
        to: Option<ConnKey>,
    ) -> Result<SessionEnding, Refusal> {
        let args = Args::new().text(session.to_string());
        self.call_session(lent.now.mono, session, Function::EndSession, args, Token::Plan(key))?;
        Ok(SessionEnding { to, session, left: None })
    }

    /// Ends a session whose time is over.
    pub(super) fn end_session(&mut self, lent: &mut Lent<'_>, session: SessionHash) {
        let begin = |cluster: &mut Cluster, lent: &mut Lent<'_>, key| {
            cluster.first_end(lent, key, session, None).map(Plan::Ending)
        };
        // If the store is away, the session stays due there.
        let _ = self.begin(lent, begin);
    }

    pub(super) fn on_ending(
        &mut self,
        lent: &mut Lent<'_>,
        key: PlanKey,
        mut ending: SessionEnding,
        awaited: Awaited<'_>,
    ) -> Progress {
        let Awaited::Reply(reply) = awaited else { return Progress::Done };
        let now = lent.now.mono;
        let mut issued = Ok(());
        let left = match ending.left {
            Some(left) => left.saturating_sub(1),
            None => {
                self.close_session(lent, ending.session);
                let rooms = reply.list(1).iter().filter_map(|room| RoomId::parse(room.as_str()));
                let rooms: Vec<_> = rooms.collect();
                for room in &rooms {
                    let Ok(identity) = self.identity() else { break };
                    let user_id = identity.user_id(ending.session, *room);
                    let tail = new_tail(&mut *self.entropy);
                    let args = Args::new().text(room.to_string()).text(user_id.to_string());
                    let keep = self.config.history_messages_max as u64;
                    let args = args.number(keep).text(tail).time(self.config.room_ttl);
                    issued = issued.and(self.call_room(
                        now,
                        *room,
                        Function::Quit,
                        args,
                        Token::Plan(key),
                    ));
                }
                rooms.len()
            }
        };
        ending.left = Some(left);
        if left > 0 && issued.is_ok() {
            return Progress::waits(Plan::Ending(ending));
        }
        if issued.is_ok() {
            let args = Args::new().text(ending.session.to_string());
            issued = self.call_session(now, ending.session, Function::Gone, args, Token::Nothing);
        }
        let outcome = issued.map(|()| Settled::SessionEnded);
        self.answers.extend(ending.to.map(|to| NodeAnswer::Outcome { to, outcome }));
        Progress::Done
    }

    fn user_id(&self, person: &KnownSession, room: RoomId) -> Result<UserId, Refusal> {
        Ok(self.identity()?.user_id(person.hash, room))
    }
}

/// The first step of a command.
enum First {
    Step(RequestStep),
    Ending(SessionEnding),
}

fn facts_in(room: RoomId, text: &[u8]) -> Stepped {
    let facts = record::facts(room, text).map_err(|_| away())?;
    Ok(After::Settled(Settled::Room(OwnedRoom::of(facts.room))))
}

/// Pairs of a room and the version of its entry.
fn rooms_in(list: &[Reply]) -> Vec<(RoomId, u64)> {
    let pairs = list.chunks_exact(2);
    pairs
        .filter_map(|pair| Some((RoomId::parse(pair[0].as_str())?, pair[1].as_number()?)))
        .collect()
}
