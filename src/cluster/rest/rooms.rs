//! Rooms: opening and changing them, the commands that one function carries out, and the operator's
//! list.
//!
//! Owns the calls to the partition of a room, and what comes of its replies. Must not know who owns a
//! room or who is a member: the functions decide. The invariant: what a function has changed is in the
//! mirror before the outcome is told, because the store tells it to all nodes but this one.

use std::time::Duration;

use super::{After, Cluster, FunctionCall, Stepped, ask, done, shown};
use crate::chat::{
    Address, BanRequest, CloseReason, GIVES_WAY_AFTER, MessageId, Outcome, OwnedRoom, Refusal,
    RoomChanges, RoomId, RoomOptions, SessionCommand, Title, UserId,
};
use crate::clock::Mono;
use crate::cluster::args::Args;
use crate::cluster::identity::{AddressHashes, new_tail};
use crate::cluster::library::Function;
use crate::cluster::plan::{KnownSession, RequestStep, RoomAct};
use crate::cluster::record::{self, SessionHash};
use crate::cluster::refusal::{accept, accept_creation, away};
use crate::cluster::resp::Reply;
use crate::cluster::settled::Settled;
use crate::cluster::state::{Lent, Token};
use crate::cluster::status::Status;

/// Rooms of one part of the operator's list.
const USAGE_ROOMS: u64 = 256;

impl Cluster {
    // ---- Opening and changing

    pub(super) fn open_room(
        &mut self,
        lent: &mut Lent<'_>,
        person: Box<KnownSession>,
        room: RoomId,
        options: RoomOptions<'static>,
        from: Option<Address>,
    ) -> Stepped {
        if self.beats.is_store_full {
            return Err(Refusal::ServerFull);
        }
        let user_id = self.user_id(person.hash, room)?;
        let identity = self.identity.as_ref().ok_or_else(away)?;
        let AddressHashes { address, network } = identity.address(from);
        let config = &self.config;
        let partition = identity.partition_of_room(room);
        let most = self.beats.room_for(partition, config.rooms_max, |(_, rooms)| *rooms);
        let entropy = &mut *self.entropy;
        let lock = options.password.as_deref().map(|word| identity.lock(word, entropy));
        let flags = match (options.is_private(), options.encrypted) {
            (true, true) => "pe",
            (true, false) => "p",
            (false, true) => "e",
            (false, false) => "",
        };
        let args = Args::new()
            .room(room)
            .user(user_id)
            .text(person.name.as_str())
            .text(person.name.folded())
            .text(identity.address_in(from, room))
            .text(options.title.as_ref().map_or("", Title::as_str))
            .text(lock.unwrap_or_default())
            .text(flags)
            .number(options.slow_mode.into())
            .time_if(options.ttl)
            .time(config.new_room_ttl)
            .number(most as u64)
            .text(address)
            .text(network)
            .share(config.address_sessions_max)
            .pace(config.room_pace)
            .time(GIVES_WAY_AFTER);
        self.own(lent.now.mono, person.hash, room)?;
        let step = RequestStep::Opening { person, room, options, from };
        self.ask_room(room, Function::OpenRoom, args, step)
    }

    /// Puts a room into the index of those that pass on when the session ends. The room itself decides.
    fn own(&mut self, now: Mono, session: SessionHash, room: RoomId) -> Result<(), Refusal> {
        let args = Args::new().session(session).room(room);
        self.call_session(now, session, Function::Own, args, Token::Nothing)
    }

    pub(super) fn on_opened(
        &mut self,
        lent: &mut Lent<'_>,
        person: &KnownSession,
        room: RoomId,
        options: RoomOptions<'static>,
        from: Option<Address>,
        reply: &Reply,
    ) -> Stepped {
        if Status::of(reply) == Status::Exists {
            return self.of_session(person.id, SessionCommand::OpenRoom { options, from });
        }
        accept_creation(reply, Refusal::AddressRooms)?;
        let user_id = self.user_id(person.hash, room)?;
        let ttl = self.config.new_room_ttl;
        let ttl = options.ttl.map_or(ttl, |life| life.min(ttl));
        self.reap_within(lent.now.mono, self.identity()?.partition_of_room(room), ttl);
        if let Some(victim) = RoomId::parse(reply.text(1)) {
            self.on_room_over(lent, victim, CloseReason::RoomDeleted);
        }
        done(Outcome::RoomOpened { room, user_id: Some(user_id) })
    }

    /// `lock`: the room's lock, with which a new password is to be compared; `None`: not known yet.
    pub(super) fn change_room(
        &mut self,
        person: Box<KnownSession>,
        room: RoomId,
        changes: RoomChanges<'static>,
        lock: Option<&str>,
    ) -> Stepped {
        let user_id = self.user_id(person.hash, room)?;
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
            .room(room)
            .user(user_id)
            .pace(self.config.message_pace)
            .flag(title.is_some())
            .text(title.and_then(Option::as_ref).map_or("", Title::as_str))
            .text(changes.locked.map_or("", |locked| if locked { "1" } else { "0" }))
            .number_if(changes.slow_mode.map(u64::from))
            .text(password)
            .text(lock.unwrap_or("?"))
            .flag(is_same)
            .text(new_lock);
        let args = match changes.owner {
            Some(None) => args.text("-"),
            owner => args.user_if(owner.flatten()),
        };
        self.ask_room(room, Function::Change, args, RequestStep::Changing { person, room, changes })
    }

    pub(super) fn on_changed(
        &mut self,
        lent: &mut Lent<'_>,
        person: Box<KnownSession>,
        room: RoomId,
        changes: RoomChanges<'static>,
        reply: &Reply,
    ) -> Stepped {
        if Status::of(reply) == Status::Lock {
            return self.change_room(person, room, changes, Some(reply.text(1)));
        }
        accept(reply)?;
        if reply.bytes(1) == b"1" {
            self.on_facts(lent, room, reply.bytes(2));
        }
        shown(room, reply.bytes(2))
    }

    // ---- Commands that one function carries out

    pub(super) fn leave_room(
        &mut self,
        person: Box<KnownSession>,
        room: RoomId,
        version: u64,
    ) -> Stepped {
        let args = self
            .args_of(&person, room)?
            .number(self.config.history_messages_max as u64)
            .text(new_tail(&mut *self.entropy))
            .time(self.config.room_ttl);
        self.act(room, Function::Leave, args, RoomAct::Leave { person, version })
    }

    /// A function whose only arguments are the room and its caller.
    pub(super) fn act_as(
        &mut self,
        person: &KnownSession,
        room: RoomId,
        function: Function,
        act: RoomAct,
    ) -> Stepped {
        self.act(room, function, self.args_of(person, room)?, act)
    }

    /// `message`: `None`: an id that no message has. The room is asked nevertheless, because it is
    /// refused first.
    pub(super) fn delete_message(
        &mut self,
        person: &KnownSession,
        room: RoomId,
        message: Option<MessageId>,
    ) -> Stepped {
        let tail = message.map(|id| record::tail_digits(id.tail()));
        let id = message.map(|id| id.chars());
        let args = self
            .args_of(person, room)?
            .text(message.map(|id| id.place()).unwrap_or_default().to_string())
            .text(tail.as_ref().map_or(&[][..], |tail| tail))
            .text(new_tail(&mut *self.entropy))
            .text(person.name.as_str())
            .number(self.config.history_messages_max as u64)
            .pace(self.config.message_pace)
            .text(id.as_ref().map_or(&[][..], |id| id));
        self.act(room, Function::DeleteMessage, args, RoomAct::DeleteMessage)
    }

    pub(super) fn type_in(&mut self, person: Box<KnownSession>, room: RoomId) -> Stepped {
        let args = self.args_of(&person, room)?;
        let args = args.text(person.name.folded()).text(person.name.as_str());
        self.act(room, Function::Typing, args, RoomAct::Type { person })
    }

    /// `by`: the owner; `None`: the operator.
    pub(super) fn remove(
        &mut self,
        room: RoomId,
        by: Option<&KnownSession>,
        target: Option<UserId>,
        ban: Option<BanRequest>,
    ) -> Stepped {
        let by = by.map(|person| self.user_id(person.hash, room)).transpose()?;
        if by.is_some() && by == target {
            return Err(Refusal::RemovesItself);
        }
        let bans_address = ban.is_some_and(|ban| ban.address);
        let args = Args::new()
            .room(room)
            .user_if(by)
            .user_if(target)
            .time_if(ban.map(|ban| ban.duration))
            .flag(bans_address)
            .number(self.config.history_messages_max as u64)
            .text(new_tail(&mut *self.entropy))
            .pace(self.config.message_pace)
            .time(self.config.room_ttl);
        self.act(room, Function::Remove, args, RoomAct::Remove { target, bans_address })
    }

    pub(super) fn lift_ban(
        &mut self,
        person: &KnownSession,
        room: RoomId,
        target: Option<UserId>,
    ) -> Stepped {
        let args = self.args_of(person, room)?.user_if(target);
        self.act(room, Function::Lift, args, RoomAct::LiftBan)
    }

    pub(super) fn watch(
        &mut self,
        person: &KnownSession,
        room: RoomId,
        from: Option<Address>,
    ) -> Stepped {
        let address = self.identity()?.address_in(from, room);
        let args = self.args_of(person, room)?.text("read").text(address).flag(false);
        self.act(room, Function::Look, args, RoomAct::Watch { session: person.id })
    }

    /// Calls the function that carries out a command.
    pub(super) fn act(
        &self,
        room: RoomId,
        function: Function,
        args: Args,
        act: RoomAct,
    ) -> Stepped {
        self.ask_room(room, function, args, RequestStep::Acting { room, act })
    }

    /// What the arguments of most functions begin with.
    fn args_of(&self, person: &KnownSession, room: RoomId) -> Result<Args, Refusal> {
        let user_id = self.user_id(person.hash, room)?;
        Ok(Args::new().room(room).user(user_id))
    }

    /// The function of a command has answered.
    pub(super) fn on_acted(
        &mut self,
        lent: &mut Lent<'_>,
        room: RoomId,
        act: RoomAct,
        reply: &Reply,
    ) -> Stepped {
        // A message whose nonce is known has an outcome, too.
        if !matches!(act, RoomAct::Post { .. }) {
            accept(reply)?;
        }
        match act {
            RoomAct::Leave { person, version } => {
                let user_id = self.user_id(person.hash, room)?;
                self.close_person(lent, room, user_id, CloseReason::LeftRoom);
                self.on_entry_at(lent, room, reply, 1);
                if reply.bytes(2) == b"1" {
                    self.own(lent.now.mono, person.hash, room)?;
                }
                self.forget(lent.now.mono, person.hash, &[(room, version)])?;
                done(Outcome::Left)
            }
            RoomAct::Delete => {
                self.on_room_over(lent, room, CloseReason::RoomDeleted);
                done(Outcome::RoomDeleted)
            }
            RoomAct::DeleteMessage => {
                self.on_entry_at(lent, room, reply, 1);
                done(Outcome::MessageDeleted)
            }
            RoomAct::Type { person } => {
                let user_id = self.user_id(person.hash, room)?;
                self.on_typing(lent, room, user_id, person.name.shown(), Duration::ZERO);
                done(Outcome::Typed)
            }
            RoomAct::Remove { target, bans_address } => {
                let target = target.ok_or(Refusal::UserNotFound)?;
                self.close_person(lent, room, target, CloseReason::Removed);
                for entry in reply.list(2) {
                    self.on_entry(lent, room, entry);
                }
                self.on_facts(lent, room, reply.bytes(3));
                let has_address = reply.bytes(1) == b"1";
                done(Outcome::Removed { address: bans_address.then_some(has_address) })
            }
            RoomAct::ListBans => Ok(After::Settled(Settled::Bans(reply.list(1).to_vec()))),
            RoomAct::LiftBan => done(Outcome::BanLifted),
            RoomAct::Watch { session } => done(Outcome::Access { session, room }),
            RoomAct::Post { body } => self.on_posted(lent, room, &body, reply),
        }
    }

    // ---- The operator's list

    /// Asks for the rooms of a partition after this one.
    pub(super) fn list_all(
        &mut self,
        partition: u16,
        after: &str,
        rooms: Vec<(OwnedRoom, usize, usize)>,
    ) -> Stepped {
        self.identity()?;
        let args = Args::new().text(after).number(USAGE_ROOMS);
        let call = FunctionCall { partition, function: Function::Usage, args };
        ask(vec![call], RequestStep::ListingAll { partition, rooms })
    }

    pub(super) fn on_usage(
        &mut self,
        partition: u16,
        mut rooms: Vec<(OwnedRoom, usize, usize)>,
        reply: &Reply,
    ) -> Stepped {
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
            true => self.list_all(partition, next, rooms),
            false => Ok(After::Settled(Settled::Usage(rooms))),
        }
    }
}
