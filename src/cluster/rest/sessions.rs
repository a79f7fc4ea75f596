//! Sessions: how they begin, what each command of theirs begins with, and which rooms they have.
//!
//! Owns the calls to the partition of a session, and what comes of its replies. Must not know a rule of
//! a room. The invariant: a room in the index of a session is told to nobody before the room itself has
//! confirmed it.

use std::collections::VecDeque;

use super::{After, Cluster, FunctionCall, Stepped, ask, done};
use crate::chat::{
    Address, GIVES_WAY_AFTER, Name, Outcome, Refusal, RoomId, SESSION_ROOMS_MAX, SessionCommand,
    SessionId,
};
use crate::clock::Mono;
use crate::cluster::args::Args;
use crate::cluster::identity::AddressHashes;
use crate::cluster::library::Function;
use crate::cluster::plan::{
    Filter, FilterPurpose, Joining, KnownSession, ReachPurpose, RequestStep, Reservation,
    ReservedFor, RoomAct,
};
use crate::cluster::record::SessionHash;
use crate::cluster::refusal::{accept_creation, away};
use crate::cluster::resp::Reply;
use crate::cluster::settled::Settled;
use crate::cluster::state::{Lent, Token};
use crate::cluster::status::Status;

impl Cluster {
    pub(super) fn open_session(&mut self, name: Name, from: Option<Address>) -> Stepped {
        if self.beats.is_store_full {
            return Err(Refusal::ServerFull);
        }
        let identity = self.identity.as_ref().ok_or_else(away)?;
        let id = identity.new_session(from, &mut *self.entropy);
        let (session, AddressHashes { address, network }) =
            (identity.session(id), identity.address(from));
        let config = &self.config;
        let partition = identity.partition_of_session(session);
        let most = self.beats.room_for(partition, config.sessions_max, |(sessions, _)| *sessions);
        let args = Args::new()
            .session(session)
            .text(name.as_str())
            .time(config.session_ttl)
            .number(most as u64)
            .text(address)
            .text(network)
            .share(config.address_sessions_max)
            .pace(config.session_pace)
            .time(GIVES_WAY_AFTER);
        let step = RequestStep::OpeningSession { id, name, from };
        self.ask_session(session, Function::OpenSession, args, step)
    }

    pub(super) fn on_session_opened(
        &mut self,
        lent: &mut Lent<'_>,
        id: SessionId,
        name: Name,
        from: Option<Address>,
        reply: &Reply,
    ) -> Stepped {
        if Status::of(reply) == Status::Exists {
            return self.open_session(name, from);
        }
        accept_creation(reply, Refusal::AddressSessions)?;
        if let Ok(victim) = SessionHash::parse(reply.bytes(1)) {
            self.end_session(lent, victim);
        }
        done(Outcome::SessionOpened { id, name })
    }

    /// Asks the session whether it exists, together with what else it has to do first.
    pub(super) fn of_session(
        &mut self,
        id: SessionId,
        command: SessionCommand<'static>,
    ) -> Stepped {
        let identity = self.identity.as_ref().ok_or_else(away)?;
        match command {
            SessionCommand::OpenRoom { options, from } => {
                let room = identity.new_room(options.is_private(), from, &mut *self.entropy);
                let purpose = ReservedFor::Open { options, from };
                self.reserve(id, Reservation { room, purpose })
            }
            SessionCommand::Join { room: Some(room), password, from } => self
                .reserve(id, Reservation { room, purpose: ReservedFor::Join { password, from } }),
            command => {
                let session = identity.session(id);
                let args = Args::new().session(session).time(self.config.session_ttl);
                let args = match &command {
                    SessionCommand::ShowSession | SessionCommand::ListJoined => args.text("rooms"),
                    SessionCommand::Leave { room: Some(room) } => args.room(*room),
                    _ => args.text(""),
                };
                let step = RequestStep::Touching { id, command };
                self.ask_session(session, Function::Touch, args, step)
            }
        }
    }

    fn reserve(&mut self, id: SessionId, reservation: Reservation) -> Stepped {
        let session = self.identity()?.session(id);
        let args = Args::new()
            .session(session)
            .room(reservation.room)
            .time(self.config.session_ttl)
            .number(SESSION_ROOMS_MAX as u64);
        let step = RequestStep::Reserving { id, reservation };
        self.ask_session(session, Function::Reserve, args, step)
    }

    fn known(&self, id: SessionId, reply: &Reply) -> Result<Box<KnownSession>, Refusal> {
        match Status::of(reply) {
            Status::NoSession => return Err(Refusal::NoSession),
            Status::Fault => return Err(away()),
            _ => {}
        }
        let name = Name::parse(reply.text(1)).map_err(|_| away())?;
        Ok(Box::new(KnownSession { id, hash: self.identity()?.session(id), name }))
    }

    pub(super) fn on_reserved(
        &mut self,
        lent: &mut Lent<'_>,
        id: SessionId,
        reservation: Reservation,
        reply: &Reply,
    ) -> Stepped {
        let person = self.known(id, reply)?;
        match Status::of(reply) {
            // The index may have rooms that are over.
            Status::Over => {
                let rooms = rooms_in(reply.list(2));
                self.filter(lent, person, FilterPurpose::MakePlace(reservation), rooms)
            }
            _ => self.use_reservation(lent, person, reservation, false),
        }
    }

    /// `is_over`: the session has no place for another room.
    fn use_reservation(
        &mut self,
        lent: &mut Lent<'_>,
        person: Box<KnownSession>,
        reservation: Reservation,
        is_over: bool,
    ) -> Stepped {
        let Reservation { room, purpose } = reservation;
        match purpose {
            // A room that does not exist, or refuses the session, is told before the limit.
            ReservedFor::Join { password, from } => {
                let joining = Joining { person, room, password, from, is_over };
                match joining.password {
                    Some(_) => self.guess(joining),
                    None => self.join(joining, None),
                }
            }
            ReservedFor::Open { .. } if is_over => Err(Refusal::TooManyRooms),
            ReservedFor::Open { options, from } => {
                self.open_room(lent, person, room, options, from)
            }
        }
    }

    /// The session exists: carries out its command.
    pub(super) fn on_touched(
        &mut self,
        lent: &mut Lent<'_>,
        id: SessionId,
        command: SessionCommand<'static>,
        reply: &Reply,
    ) -> Stepped {
        let person = self.known(id, reply)?;
        let found = |room: Option<RoomId>| room.ok_or(Refusal::RoomNotFound);
        match command {
            SessionCommand::Touch => done(Outcome::Session),
            SessionCommand::ShowSession => {
                self.filter(lent, person, FilterPurpose::Show, rooms_in(reply.list(2)))
            }
            SessionCommand::ListJoined => {
                self.filter(lent, person, FilterPurpose::List, rooms_in(reply.list(2)))
            }
            SessionCommand::OpenRoom { .. } => Err(away()), // It reserves.
            SessionCommand::Join { .. } => Err(Refusal::RoomNotFound), // With a room, it reserves.
            SessionCommand::Leave { room: None } => done(Outcome::Left),
            SessionCommand::Leave { room: Some(room) } => {
                self.leave_room(person, room, reply.number(2))
            }
            SessionCommand::ReadMessages { room, after, limit, from } => {
                let purpose = ReachPurpose::ReadMessages { after, limit, from };
                self.reach(lent, person, found(room)?, purpose)
            }
            SessionCommand::ListPeople { room, from } => {
                self.reach(lent, person, found(room)?, ReachPurpose::ListPeople { from })
            }
            SessionCommand::Post { room, text, nonce } => {
                self.reach_to_post(lent, person, room, text, nonce)
            }
            SessionCommand::ChangeRoom { room, changes } => {
                self.change_room(person, found(room)?, changes, None)
            }
            SessionCommand::DeleteRoom { room } => {
                self.act_as(&person, found(room)?, Function::DeleteRoom, RoomAct::Delete)
            }
            SessionCommand::DeleteMessage { room, message, .. } => {
                self.delete_message(&person, found(room)?, message)
            }
            SessionCommand::Type { room } => self.type_in(person, found(room)?),
            SessionCommand::RemoveUser { room, user_id, ban } => {
                self.remove(found(room)?, Some(&person), user_id, ban)
            }
            SessionCommand::ListBans { room } => {
                self.act_as(&person, found(room)?, Function::Bans, RoomAct::ListBans)
            }
            SessionCommand::LiftBan { room, user_id } => {
                self.lift_ban(&person, found(room)?, user_id)
            }
            SessionCommand::Watch { room, from } => self.watch(&person, found(room)?, from),
        }
    }

    // ---- The rooms of a session

    /// Asks the rooms of a session whether it is still a member.
    fn filter(
        &mut self,
        lent: &mut Lent<'_>,
        person: Box<KnownSession>,
        purpose: FilterPurpose,
        rooms: Vec<(RoomId, u64)>,
    ) -> Stepped {
        let identity = self.identity()?;
        let mut filter = Filter { rooms, alive: Vec::new(), asked: VecDeque::new() };
        let mut calls = Vec::new();
        for partition in 0..identity.partitions() {
            let mut args = Args::new();
            for room in filter.rooms_in(identity, partition) {
                let user_id = identity.user_id(person.hash, room);
                args = args.room(room).user(user_id);
            }
            if args.count() > 0 {
                filter.asked.push_back(partition);
                calls.push(FunctionCall { partition, function: Function::Members, args });
            }
        }
        if calls.is_empty() {
            return self.on_filtered(lent, person, purpose, filter);
        }
        ask(calls, RequestStep::Filtering { person, purpose, filter })
    }

    pub(super) fn on_filtered(
        &mut self,
        lent: &mut Lent<'_>,
        person: Box<KnownSession>,
        purpose: FilterPurpose,
        filter: Filter,
    ) -> Stepped {
        let Filter { rooms, alive, .. } = filter;
        let (living, dead): (Vec<_>, Vec<_>) =
            rooms.into_iter().partition(|(room, _)| alive.contains(room));
        if !dead.is_empty() {
            self.forget(lent.now.mono, person.hash, &dead)?;
        }
        let rooms = living.into_iter().map(|(room, _)| room).collect();
        match purpose {
            FilterPurpose::Show => {
                let KnownSession { id, name, .. } = *person;
                Ok(After::Settled(Settled::SessionShown { id, name, rooms }))
            }
            FilterPurpose::List => done(Outcome::Rooms(rooms)),
            FilterPurpose::MakePlace(reservation) if dead.is_empty() => {
                self.use_reservation(lent, person, reservation, true)
            }
            FilterPurpose::MakePlace(reservation) => self.reserve(person.id, reservation),
        }
    }

    /// Takes rooms out of the index of a session, unless it has joined again since.
    pub(super) fn forget(
        &mut self,
        now: Mono,
        session: SessionHash,
        rooms: &[(RoomId, u64)],
    ) -> Result<(), Refusal> {
        let mut args = Args::new().session(session);
        for (room, version) in rooms {
            args = args.room(*room).number(*version);
        }
        self.call_session(now, session, Function::Forget, args, Token::Nothing)
    }
}

/// Pairs of a room and the version of its entry.
fn rooms_in(list: &[Reply]) -> Vec<(RoomId, u64)> {
    let pairs = list.chunks_exact(2);
    pairs
        .filter_map(|pair| Some((RoomId::parse(pair[0].as_str())?, pair[1].as_number()?)))
        .collect()
}
