//! Rooms that are decided elsewhere: the facts that a cluster's store tells about them, applied.
//!
//! Owns the form of these facts, and the methods with which they are applied to a [`Chat`] that is a
//! mirror. Must not know the store, nor how it writes facts: `cluster` decodes. The invariant: a fact
//! is applied as it arrives; no rule of the chat is checked again, and only a fact changes who is
//! present in a room, what was said there, and the room's settings.
//!
//! A mirror has the rooms in which connections of this server are, or that somebody has read lately. A
//! person who is present in such a room is a session of its own with one membership, whose id is known
//! only while the person has connections here. The mirror has no timers, and no shares, names or
//! passwords are kept for deciding; what delivers is the same code: feeds, histories, catching up,
//! queries, the end of a room and forgetting.
//!
//! | the store tells | the mirror's method |
//! |---|---|
//! | a snapshot, and the room's messages, oldest first | [`Chat::adopt`], [`Chat::load`] |
//! | a message | [`Chat::apply`] |
//! | a person types | [`Chat::typing_mirrored`] |
//! | the room has changed | [`Chat::change_mirrored`] |
//! | a connection may enter | [`Chat::admit_mirrored`] |
//! | a person's connections have to end | [`Chat::close_person`] |
//! | the room has ended | [`Chat::end_mirrored`] |
//! | a person's name is wanted | [`Chat::ping_person`], [`Chat::take_alive`] |
//!
//! What the mirror tells the store: connections that have ended, by [`Chat::take_exits`].

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::catch_up::Start;
use super::config::ChatConfig;
use super::error::{CloseReason, Departure, Refusal};
use super::event::{BATCH_BYTES_FULL, Event, Message, MessageKind, OwnedRoom, RoomInfo};
use super::feed::{Attachment, AttachmentState};
use super::heap::{map_bytes, shrink, tree_bytes, vec_bytes};
use super::id::{MessageId, MessagePlace, RoomId, SessionId, UserId, keyed_hash};
use super::kept::MessageCopies;
use super::keys::{AttachmentKey, ConnKey, MemberKey, RoomKey, SessionKey};
use super::limits::ROOMS_LISTED_MAX;
use super::name::{Name, Title, UserName};
use super::password::Lock;
use super::posting::{Draft, pace_typing};
use super::roster::Arrival;
use super::sink::Sink;
use super::state::{Chat, Member, Mirror, MirrorExit, Room, Rules, Session};
use crate::clock::{Entropy, Mono, Now};
use crate::ledger::Ledger;

/// A room as its members see it.
#[derive(Clone, Copy, Debug)]
pub struct RoomFacts<'a> {
    /// What every client with the room's id may learn.
    pub room: RoomInfo<'a>,
    /// Its owner.
    pub owner: Option<UserId>,
}

/// A message that has been appended to a room, with the place of the message before it. A mirror
/// whose newest message has another place has missed something.
#[derive(Clone, Copy, Debug)]
pub struct Appended<'a> {
    /// The place of the room's previous message; the default if this is the first.
    pub after: MessagePlace,
    /// The message.
    pub message: Message<'a>,
}

/// A room at one moment, without the messages that still have their text.
#[derive(Clone, Debug)]
pub struct RoomSnapshot<'a> {
    /// The room itself.
    pub facts: RoomFacts<'a>,
    /// Who is present, in order of arrival.
    pub people: Vec<(UserId, UserName<'a>)>,
    /// The messages that have been deleted ([`ChatDeleted`](super::MessageKind::ChatDeleted)), in
    /// their order.
    pub tombstones: Vec<Message<'a>>,
}

/// A connection that has been let into a room elsewhere.
#[derive(Clone, Copy)]
pub struct MirrorAdmission<'a> {
    /// The connection.
    pub conn: ConnKey,
    /// The person.
    pub user_id: UserId,
    /// Its name.
    pub user: UserName<'a>,
    /// Its session.
    pub session: SessionId,
    /// Where the connection begins to receive.
    pub start: Start,
    /// The room had no owner, and now the person owns it. [`Chat::announce_mirrored`] tells that, once
    /// the person's arrival has been told.
    pub inherits: bool,
}

/// A person with connections here, in one room.
#[derive(Clone, Copy, Debug)]
pub struct PersonHere<'a> {
    /// The room.
    pub room: RoomId,
    /// The person.
    pub user_id: UserId,
    /// Its name.
    pub name: &'a Name,
    /// Its session.
    pub session: SessionId,
    /// Whether it is present. It is not if the store has told that it left, although it has connections
    /// here: it will be told to come back, or that they have to end.
    pub is_present: bool,
}

impl Mirror {
    fn new(event_bytes: fn(&Message<'_>) -> usize) -> Mirror {
        Mirror {
            event_bytes,
            people: BTreeSet::new(),
            here: BTreeSet::new(),
            owners: HashMap::new(),
            endings: Vec::new(),
            probed: Vec::new(),
            alive: Vec::new(),
            exits: Vec::new(),
            listing: Vec::new(),
            listing_revision: 0,
            typing_due: [0; 256],
        }
    }

    /// Bytes of heap held.
    pub(super) fn heap_bytes(&self) -> usize {
        tree_bytes::<u128, ()>(self.people.len())
            + tree_bytes::<u128, ()>(self.here.len())
            + map_bytes::<RoomKey, UserId>(self.owners.capacity())
            + vec_bytes::<(RoomKey, CloseReason)>(self.endings.capacity())
            + vec_bytes::<MemberKey>(self.probed.capacity())
            + vec_bytes::<(RoomId, UserId)>(self.alive.capacity())
            + vec_bytes::<MirrorExit>(self.exits.capacity())
            + vec_bytes::<OwnedRoom>(self.listing.capacity())
            + self.listing.iter().map(OwnedRoom::heap_bytes).sum::<usize>()
    }

    fn set_owner(&mut self, room: RoomKey, owner: Option<UserId>) {
        match owner {
            Some(owner) => _ = self.owners.insert(room, owner),
            None => _ = self.owners.remove(&room),
        }
        shrink(&mut self.owners);
    }

    fn end_probe(&mut self, key: MemberKey) {
        self.probed.retain(|other| *other != key);
        if self.probed.is_empty() {
            self.probed = Vec::new();
        }
    }
}

/// An entry of [`Mirror::people`] or [`Mirror::here`]: a hash, and the index of a slot.
fn indexed(hash: u64, index: usize) -> u128 {
    u128::from(hash) << 32 | index as u128
}

/// The indices of all entries with this hash.
fn indices(set: &BTreeSet<u128>, hash: u64) -> impl Iterator<Item = usize> {
    let all = indexed(hash, 0)..=indexed(hash, u32::MAX as usize);
    set.range(all).map(|entry| *entry as u32 as usize)
}

impl Chat {
    /// A chat that decides nothing. `event_bytes` gives the length of a message's event.
    pub fn mirror(
        config: ChatConfig,
        entropy: Box<dyn Entropy>,
        ledger: &Ledger,
        event_bytes: fn(&Message<'_>) -> usize,
    ) -> Chat {
        let mut chat = Chat::new(config, entropy, ledger);
        chat.mirror = Some(Box::new(Mirror::new(event_bytes)));
        chat
    }

    // ---- Rooms

    /// Adds a room, with the people that are present in order of arrival, and without messages. A room
    /// that is mirrored already stays as it is.
    pub fn adopt<'a>(
        &mut self,
        facts: &RoomFacts<'_>,
        people: impl IntoIterator<Item = (UserId, UserName<'a>)>,
    ) -> RoomKey {
        let id = facts.room.id;
        if let Some(key) = self.room(id) {
            return key;
        }
        let number = self.rooms_opened;
        self.rooms_opened += 1;
        let key = self.feeds.insert_room(Room::new(id, number, facts.room.created));
        self.room_ids.insert(id, key);
        self.set_facts(key, facts);
        for (user_id, user) in people {
            self.arrive(key, user_id, user);
        }
        self.recount();
        key
    }

    /// The rooms that are mirrored and have not ended.
    pub fn mirrored_rooms(&self) -> impl Iterator<Item = (RoomKey, RoomId)> {
        let rooms = self.feeds.rooms().filter(|(_, room)| !room.is_closing);
        rooms.map(|(key, room)| (key, room.id))
    }

    /// The place of a room's newest message, kept or not; the default: it has had none.
    pub fn newest(&self, room: RoomKey) -> MessagePlace {
        let newest = self.feeds.history(room).and_then(|history| history.newest());
        newest.map_or_else(MessagePlace::default, MessageId::place)
    }

    /// The room has changed, or its owner: tells everyone in it. It may look as before, with another
    /// password.
    pub fn change_mirrored(&mut self, room: RoomKey, facts: &RoomFacts<'_>, sink: &mut dyn Sink) {
        if self.is_open(room) {
            self.set_facts(room, facts);
            self.announce_room(room, sink);
            self.recount();
        }
    }

    /// What the room is like, after changes may have been missed: tells everyone in it if there were any
    /// that show.
    pub fn refresh_mirrored(&mut self, room: RoomKey, facts: &RoomFacts<'_>, sink: &mut dyn Sink) {
        let Some(before) = self.room_info(room).filter(|_| self.is_open(room)) else { return };
        // The number of people present follows from the facts about who came and left.
        let told = |info: RoomInfo<'_>| OwnedRoom::of(RoomInfo { user_count: 0, ..info });
        let (before, owner) = (told(before), self.owner(room));
        self.set_facts(room, facts);
        if self.room_info(room).map(told) != Some(before) || self.owner(room) != owner {
            self.announce_room(room, sink);
        }
        self.recount();
    }

    /// Tells everyone in a room what it is like now, because a person inherited it.
    pub fn announce_mirrored(&mut self, room: RoomKey, sink: &mut dyn Sink) {
        self.announce_room(room, sink);
    }

    fn set_facts(&mut self, key: RoomKey, facts: &RoomFacts<'_>) {
        let Some(room) = self.feeds.room_mut(key) else { return };
        let RoomInfo { title, has_password, is_locked, slow_mode, is_encrypted, .. } = facts.room;
        room.title = title.and_then(|title| Title::restored(title).ok());
        let is_unlisted = facts.room.is_private && !room.id.is_private();
        let is_ruled = has_password || is_locked || is_unlisted || is_encrypted || slow_mode > 0;
        // The store measures the time until then.
        let expiry = facts.room.expires.map(|wall| Now { mono: Mono::ZERO, wall });
        let rules = Rules {
            password: has_password.then(Lock::elsewhere),
            is_locked,
            is_unlisted,
            is_encrypted,
            slow_mode,
            expiry,
            ..Rules::default()
        };
        room.rules = (is_ruled || expiry.is_some()).then(|| Box::new(rules));
        room.recount(&mut self.room_heap_tally);
        if let Some(mirror) = &mut self.mirror {
            mirror.set_owner(key, facts.owner);
        }
    }

    /// Ends a room: [`Chat::end_members`] closes its connections for this reason. If it is the end of the
    /// room, or the room is not found, that was decided elsewhere. For any other reason only this mirror
    /// of the room ends, and the ends of its connections count as broken.
    pub fn end_mirrored(
        &mut self,
        now: Now,
        room: RoomKey,
        reason: CloseReason,
        sink: &mut dyn Sink,
    ) {
        if !self.is_open(room) {
            return;
        }
        if let Some(mirror) = &mut self.mirror {
            mirror.set_owner(room, None);
            mirror.endings.push((room, reason));
        }
        self.end_room(now, room, sink);
    }

    /// Why a mirrored room has ended.
    pub(super) fn mirrored_end(&self, room: RoomKey) -> Option<CloseReason> {
        let mut endings = self.mirror.as_ref()?.endings.iter();
        endings.find(|(ended, _)| *ended == room).map(|(_, reason)| *reason)
    }

    /// Nothing is left of a room that has ended.
    pub(super) fn forget_mirrored_end(&mut self, room: RoomKey) {
        let Some(mirror) = &mut self.mirror else { return };
        mirror.endings.retain(|(ended, _)| *ended != room);
        if mirror.endings.is_empty() {
            mirror.endings = Vec::new();
        }
    }

    /// Forgets a room. False: it has connections, so nothing is done.
    pub fn drop_mirrored(&mut self, now: Now, room: RoomKey, sink: &mut dyn Sink) -> bool {
        let has_connections = self.connection_count(room) > 0;
        if !has_connections {
            self.end_mirrored(now, room, CloseReason::RoomDeleted, sink);
        }
        !has_connections
    }

    /// Whether a room is mirrored and has not ended.
    fn is_open(&self, room: RoomKey) -> bool {
        self.feeds.room(room).is_some_and(|room| !room.is_closing)
    }

    /// Sets what [`Chat::public_rooms`] and [`Chat::listing_revision`] return: the newest public rooms of
    /// all servers, newest first. At most [`ROOMS_LISTED_MAX`] of them are kept.
    pub fn list_mirrored<'a>(
        &mut self,
        revision: u64,
        rooms: impl IntoIterator<Item = RoomInfo<'a>>,
    ) {
        let rooms = rooms.into_iter().take(ROOMS_LISTED_MAX).map(OwnedRoom::of);
        if let Some(mirror) = &mut self.mirror {
            (mirror.listing, mirror.listing_revision) = (rooms.collect(), revision);
        }
        self.recount();
    }

    /// What [`Chat::list_mirrored`] was told last.
    pub(super) fn listed_elsewhere(&self) -> impl Iterator<Item = RoomInfo<'_>> + Clone {
        self.mirror.iter().flat_map(|mirror| &mirror.listing).map(OwnedRoom::info)
    }

    // ---- Messages

    /// Keeps a message that is older than the snapshot that the room was adopted with: it is delivered to
    /// nobody, and changes nobody's presence. False: the room has a newer one, or is not mirrored.
    pub fn load(&mut self, room: RoomKey, message: &Message<'_>) -> bool {
        if !self.is_next(room, message) {
            return false;
        }
        // The text may have been deleted after it was loaded.
        self.wipe_target(room, message);
        let event_bytes = self.mirror.as_ref().map_or(0, |mirror| (mirror.event_bytes)(message));
        self.feeds.keep(room, message, event_bytes, None, None);
        true
    }

    /// A message has been appended to a room: tells it to everyone in the room and keeps it. False: it
    /// is not newer than all others, or the room is not mirrored, or the server ends.
    ///
    /// A person that leaves but has connections here keeps them, and the events of its room.
    pub fn apply(&mut self, room: RoomKey, message: &Message<'_>, sink: &mut dyn Sink) -> bool {
        if self.is_silent || !self.is_next(room, message) {
            return false;
        }
        match message.kind {
            MessageKind::UserJoined => self.arrive(room, message.user_id, message.user),
            MessageKind::UserLeft | MessageKind::UserRemoved => {
                self.part(room, message.user_id);
            }
            MessageKind::MessageDeleted(_) => self.wipe_target(room, message),
            MessageKind::Chat(_) | MessageKind::ChatDeleted => {}
        }
        self.feeds.deliver(room, message, None, None, sink);
        true
    }

    fn is_next(&self, room: RoomKey, message: &Message<'_>) -> bool {
        let history = self.feeds.history(room).filter(|_| self.is_open(room));
        history.is_some_and(|history| history.newest() < Some(message.id))
    }

    /// Deletes the text that a message reports as deleted, if it is kept.
    fn wipe_target(&mut self, room: RoomKey, message: &Message<'_>) {
        let MessageKind::MessageDeleted(target) = message.kind else { return };
        let (Some(history), Some(mirror)) = (self.feeds.history(room), &self.mirror) else {
            return;
        };
        let (store, event_bytes) = (&self.feeds.archive().store, mirror.event_bytes);
        let Some(place) = history.place_of(store, target) else { return };
        let header = history.header(store, place);
        if header.is_chat() && !header.is_deleted() {
            self.wipe_text(room, message.room_id, place, event_bytes);
        }
    }

    /// The kept message of a room whose id has this random half.
    pub fn find_tail(&self, room: RoomKey, tail: [u8; 8]) -> Option<MessageCopies> {
        let mut reading = self.history(room, usize::MAX);
        while !reading.is_done() {
            let part = self.read_on(&mut reading, BATCH_BYTES_FULL)?;
            if let Some(message) = part.iter().find(|message| message.id.tail() == tail) {
                return Some(MessageCopies::of_message(&message));
            }
        }
        None
    }

    /// A person types. Tells that at most once a second, and returns whether it was told. `slack`: by how
    /// much it may be early, because it comes from another server, which has kept the second.
    pub fn typing_mirrored(
        &mut self,
        now: Now,
        room: RoomKey,
        (user_id, user): (UserId, UserName<'_>),
        slack: Duration,
        sink: &mut dyn Sink,
    ) -> bool {
        let slack = slack.as_micros() as u32;
        if let Some(member) = self.person(room, user_id) {
            if let Some(member) = self.members.get_mut(member) {
                member.typing_due = member.typing_due.wrapping_sub(slack);
            }
            return self.is_open(room) && self.typing_as(now, member, sink);
        }
        let Some(room_id) = self.room_id(room).filter(|_| self.is_open(room)) else { return false };
        let due = self.mirror.as_mut().and_then(|mirror| {
            let len = mirror.typing_due.len() as u64;
            mirror.typing_due.get_mut((user_id.0 % len) as usize)
        });
        let is_paced = |due: &mut u32| {
            *due = due.wrapping_sub(slack);
            pace_typing(due, now)
        };
        if !due.is_some_and(is_paced) {
            return false;
        }
        let event = Event::Typing { user: user.as_str(), user_id, room_id };
        self.feeds.deliver_unkept(room, &event, sink);
        true
    }

    // ---- People

    /// The member of a person, present or only connected.
    fn person(&self, room: RoomKey, user_id: UserId) -> Option<MemberKey> {
        indices(&self.mirror.as_ref()?.people, user_id.0).find_map(|index| {
            let key = self.members.key_at(index)?;
            self.members.get(key).filter(|member| member.room == room)?;
            Some(key)
        })
    }

    fn add_person(
        &mut self,
        room: RoomKey,
        user_id: UserId,
        user: UserName<'_>,
    ) -> Option<MemberKey> {
        // The store has the names that a server of this version has taken.
        let name = Name::restored(user.as_str()).unwrap_or(Name::BLANK);
        let session = self.sessions.insert(Session::new(SessionId::BLANK, name));
        let key = self.insert_member(session, room, user_id)?;
        if let Some(mirror) = &mut self.mirror {
            mirror.people.insert(indexed(user_id.0, key.index()));
        }
        Some(key)
    }

    /// Makes a person present, if it is not.
    fn arrive(&mut self, room: RoomKey, user_id: UserId, user: UserName<'_>) {
        let known = self.person(room, user_id);
        if let Some(key) = known.or_else(|| self.add_person(room, user_id, user)) {
            let is_arrival = self.register(key, Arrival::after(self.arrivals));
            self.arrivals += u64::from(is_arrival);
            self.recount();
        }
    }

    /// Ends a person's presence.
    fn part(&mut self, room: RoomKey, user_id: UserId) {
        let Some(key) = self.person(room, user_id) else { return };
        if self.members.get(key).is_some_and(|member| member.arrival.is_some()) {
            self.unregister(key);
        }
        self.forget_absent(key);
        self.recount();
    }

    /// Removes a person that is neither present nor connected.
    fn forget_absent(&mut self, key: MemberKey) {
        let is_absent = |member: &Member| member.arrival.is_none() && member.connections == 0;
        if self.members.get(key).is_some_and(is_absent) {
            self.forget_member(key);
        }
    }

    /// Removes what a mirror has of a member that has been removed.
    pub(super) fn forget_person(&mut self, key: MemberKey, member: &Member) {
        let Some(mirror) = &mut self.mirror else { return };
        mirror.people.remove(&indexed(member.user_id.0, key.index()));
        mirror.end_probe(key);
        self.set_session_id(member.session, None);
        if let Some(session) = self.sessions.get_mut(member.session) {
            session.blank();
        }
        if let Some(session) = self.sessions.remove(member.session) {
            self.session_heap_tally.change(session.counted, 0);
        }
    }

    /// The persons with connections here in a room.
    pub fn people_here(&self, room: RoomKey) -> impl Iterator<Item = PersonHere<'_>> {
        let members = self.feeds.room(room).map_or(&[][..], |room| room.roster.members());
        let members = members.iter().filter_map(|key| self.members.get(*key));
        members.filter(|member| member.connections > 0).filter_map(|member| self.here(member))
    }

    /// The person that a connection belongs to.
    pub fn person_of(&self, attachment: AttachmentKey) -> Option<PersonHere<'_>> {
        self.here(self.members.get(self.member_of(attachment)?)?)
    }

    fn here(&self, member: &Member) -> Option<PersonHere<'_>> {
        let session = self.sessions.get(member.session)?;
        Some(PersonHere {
            room: self.room_id(member.room)?,
            user_id: member.user_id,
            name: &session.name,
            session: session.id,
            is_present: member.arrival.is_some(),
        })
    }

    // ---- Connections

    /// Puts a connection into a room that has let it in, and begins to send it what it is to receive.
    /// The person is present from now on; that it has arrived, if it has, is told by [`Chat::apply`],
    /// which has to follow. Earlier messages, such as the departure of an earlier holder of the name,
    /// have been applied. `None`: the room is not mirrored, or the person has too many connections.
    pub fn admit_mirrored(
        &mut self,
        now: Now,
        room: RoomKey,
        admission: MirrorAdmission<'_>,
        sink: &mut dyn Sink,
    ) -> Option<AttachmentKey> {
        let MirrorAdmission { conn, user_id, user, session, start, inherits } = admission;
        let room_id = self.room_id(room).filter(|_| self.is_open(room))?;
        let known = self.person(room, user_id).and_then(|key| self.members.get(key));
        if known.is_some_and(|member| member.connections == u8::MAX) {
            return None;
        }
        self.arrive(room, user_id, user);
        let member_key = self.person(room, user_id)?;
        let member = self.members.get_mut(member_key)?;
        member.connections += 1;
        let person = member.session;
        if let (Some(mirror), true) = (&mut self.mirror, inherits) {
            mirror.set_owner(room, Some(user_id));
        }
        self.set_session_id(person, Some(session));
        let state = AttachmentState::Waiting { holder: None, entrance: None };
        let key = self.feeds.attachments.insert(Attachment { conn, session: person, room, state });
        if let Some(session) = self.sessions.get_mut(person) {
            session.attachments.push(key);
        }
        self.recount_session(person);
        self.feeds.place(key, member_key, sink);
        self.note_sign_of_life(member_key);
        sink.admit(conn);
        if start == Start::Welcome {
            sink.welcome(conn, room_id, user_id);
        }
        self.feeds.begin_catch_up(key, start, sink);
        self.catch_up(now, key, sink);
        self.recount();
        Some(key)
    }

    /// Sets the id of a person's session; `None`: it has no connection here.
    fn set_session_id(&mut self, key: SessionKey, id: Option<SessionId>) {
        let hash = |id: SessionId| keyed_hash(&self.user_id_secret, [id.as_bytes(), &[]]);
        let (Some(session), Some(mirror)) = (self.sessions.get_mut(key), &mut self.mirror) else {
            return;
        };
        if session.id != SessionId::BLANK {
            mirror.here.remove(&indexed(hash(session.id), key.index()));
        }
        if let Some(id) = id {
            mirror.here.insert(indexed(hash(id), key.index()));
        }
        session.id = id.unwrap_or(SessionId::BLANK);
    }

    /// [`Chat::exit`] in a mirror. `attachment` has been detached.
    pub(super) fn exit_mirrored(
        &mut self,
        key: AttachmentKey,
        attachment: &Attachment,
        departure: Departure,
    ) {
        if let Some(session) = self.sessions.get_mut(attachment.session) {
            session.attachments.retain(|other| *other != key);
        }
        self.recount_session(attachment.session);
        let Some(member_key) = attachment.member() else { return };
        let Some(member) = self.members.get_mut(member_key) else { return };
        member.connections -= 1;
        let (is_last_here, user_id) = (member.connections == 0, member.user_id);
        let (session, room) = (self.sessions.get(attachment.session), attachment.room);
        let ended = self.mirrored_end(room);
        let is_decided =
            ended.is_some_and(|reason| reason.is_end() || reason == CloseReason::RoomNotFound);
        let exit = session.zip(self.room_id(room)).map(|(session, room_id)| {
            // The room may be mirrored again while an earlier mirror of it ends.
            let again = self.room(room_id).filter(|again| *again != room);
            let is_back = |again| !self.attachments_in(again, user_id).is_empty();
            let is_used = |again| self.connection_count(again) > 0;
            MirrorExit {
                room: room_id,
                user_id,
                session: session.id,
                departure: if ended.is_some() && !is_decided {
                    Departure::Broken
                } else {
                    departure
                },
                is_last_of_person: is_last_here && !again.is_some_and(is_back),
                is_last_of_room: self.connection_count(room) == 0 && !again.is_some_and(is_used),
                is_decided,
            }
        });
        if let Some(mirror) = &mut self.mirror {
            mirror.exits.extend(exit);
            if is_last_here {
                mirror.end_probe(member_key);
            }
        }
        if is_last_here {
            self.set_session_id(attachment.session, None);
            self.forget_absent(member_key);
        }
        self.recount();
    }

    /// The connections that have ended since the last call, in the order of their ends.
    pub fn take_exits(&mut self) -> Vec<MirrorExit> {
        let exits = self.mirror.as_mut().map(|mirror| std::mem::take(&mut mirror.exits));
        let exits = exits.unwrap_or_default();
        if !exits.is_empty() {
            self.recount();
        }
        exits
    }

    /// Closes the connections of a person in a room, because that was decided elsewhere, and returns how
    /// many there were.
    pub fn close_person(
        &mut self,
        now: Now,
        room: RoomKey,
        user_id: UserId,
        reason: CloseReason,
        sink: &mut dyn Sink,
    ) -> usize {
        let attachments = self.attachments_in(room, user_id);
        self.close_decided(now, attachments, reason, sink)
    }

    /// The same for all connections of a session, which has ended.
    pub fn close_session(&mut self, now: Now, session: SessionId, sink: &mut dyn Sink) -> usize {
        let attachments = self.connections_of(session);
        self.close_decided(now, attachments, CloseReason::InvalidSession, sink)
    }

    fn close_decided(
        &mut self,
        now: Now,
        attachments: Vec<AttachmentKey>,
        reason: CloseReason,
        sink: &mut dyn Sink,
    ) -> usize {
        let earlier = self.mirror.as_ref().map_or(0, |mirror| mirror.exits.len());
        let count = attachments.len();
        attachments.into_iter().for_each(|key| self.close(now, key, reason, sink));
        let exits = self.mirror.as_mut().map(|mirror| mirror.exits.iter_mut().skip(earlier));
        exits.into_iter().flatten().for_each(|exit| exit.is_decided = true);
        count
    }

    /// The connections of a person in a room.
    pub fn attachments_in(&self, room: RoomKey, user_id: UserId) -> Vec<AttachmentKey> {
        self.person(room, user_id).map_or_else(Vec::new, |key| self.attachments_of(key))
    }

    /// The connections of a session, in all rooms.
    pub fn connections_of(&self, session: SessionId) -> Vec<AttachmentKey> {
        let hash = keyed_hash(&self.user_id_secret, [session.as_bytes(), &[]]);
        let here = self.mirror.iter().flat_map(|mirror| indices(&mirror.here, hash));
        let here = here.filter_map(|index| self.sessions.get(self.sessions.key_at(index)?));
        let here = here.filter(|person| person.id == session);
        here.flat_map(|person| person.attachments.iter().copied()).collect()
    }

    /// The sessions with connections here, and how many each has.
    pub fn sessions_here(&self) -> Vec<(SessionId, usize)> {
        let mut counts: Vec<(SessionId, usize)> = Vec::new();
        let here = self.mirror.iter().flat_map(|mirror| mirror.here.iter());
        for index in here.map(|entry| *entry as u32 as usize) {
            let person = self.sessions.key_at(index).and_then(|key| self.sessions.get(key));
            let Some(person) = person else { continue };
            // The entries of one session are in a row, because it has one hash.
            match counts.last_mut().filter(|(id, _)| *id == person.id) {
                Some((_, count)) => *count += person.attachments.len(),
                None => counts.push((person.id, person.attachments.len())),
            }
        }
        counts
    }

    /// Checks a message of a connection by the rules of its room, and returns it with the person that
    /// sends it. `None`: the connection is in no room any more.
    pub fn draft_for<'a>(
        &self,
        attachment: AttachmentKey,
        text: &'a str,
        nonce: Option<&'a str>,
    ) -> Result<Option<(PersonHere<'_>, Draft<'a>)>, Refusal> {
        let (Some(person), Some(room)) = (self.person_of(attachment), self.room_of(attachment))
        else {
            return Ok(None);
        };
        let draft = self.draft(room, text, nonce)?;
        if self.is_silent { Err(Refusal::RoomNotFound) } else { Ok(Some((person, draft))) }
    }

    /// Sends a message whose nonce is known to one connection again, unless the connection is catching
    /// up and will be sent it anyway. The message need not be kept here.
    pub fn repeat_mirrored(
        &self,
        attachment: AttachmentKey,
        message: &Message<'_>,
        sink: &mut dyn Sink,
    ) {
        if self.member_of(attachment).is_some() {
            self.feeds.repeat_message(attachment, message, sink);
        }
    }

    // ---- Probes

    /// Another session wants a person's name: pings the person's connections. When one of them sends
    /// something, [`Chat::take_alive`] has the person. False: it has no connection here.
    pub fn ping_person(&mut self, room: RoomKey, user_id: UserId, sink: &mut dyn Sink) -> bool {
        let Some(key) = self.person(room, user_id).filter(|_| self.is_open(room)) else {
            return false;
        };
        let attachments = self.attachments_of(key);
        for attachment in &attachments {
            if let Some(attachment) = self.feeds.attachments.get(*attachment) {
                sink.ping(attachment.conn);
            }
        }
        if let Some(mirror) = self.mirror.as_mut().filter(|_| !attachments.is_empty()) {
            if !mirror.probed.contains(&key) {
                mirror.probed.push(key);
            }
        }
        self.recount();
        !attachments.is_empty()
    }

    /// Whether a connection of the person counts as alive although its peer sends nothing: see
    /// [`Sink::is_alive`]. To be asked shortly before the probe ends.
    pub fn is_person_alive(&self, room: RoomKey, user_id: UserId, sink: &mut dyn Sink) -> bool {
        let attachments = self.attachments_in(room, user_id);
        let mut connections = attachments.iter().filter_map(|key| self.feeds.attachments.get(*key));
        connections.any(|attachment| sink.is_alive(attachment.conn))
    }

    /// The persons that were pinged and have sent something since the last call.
    pub fn take_alive(&mut self) -> Vec<(RoomId, UserId)> {
        let alive = self.mirror.as_mut().map(|mirror| std::mem::take(&mut mirror.alive));
        let alive = alive.unwrap_or_default();
        if !alive.is_empty() {
            self.recount();
        }
        alive
    }

    pub(super) fn is_probed_elsewhere(&self) -> bool {
        self.mirror.as_ref().is_some_and(|mirror| !mirror.probed.is_empty())
    }

    pub(super) fn note_sign_of_life(&mut self, key: MemberKey) {
        let Some(mirror) = self.mirror.as_mut().filter(|mirror| mirror.probed.contains(&key))
        else {
            return;
        };
        mirror.end_probe(key);
        let person = self.members.get(key).map(|member| (member.room, member.user_id));
        let person = person.and_then(|(room, user_id)| Some((self.room_id(room)?, user_id)));
        if let Some(mirror) = &mut self.mirror {
            mirror.alive.extend(person);
        }
        self.recount();
    }

    /// What is different in a mirror: nothing has a timer, a creator or an owner's session; sessions are
    /// not found by their ids; a present person need have no connection here.
    pub(super) fn check_mirror(&self) {
        let Some(mirror) = &self.mirror else { return };
        agree!(self.session_index.len() + self.public_rooms.len() + self.expiries.len(), 0);
        agree!(self.sessions.len(), self.members.len(), "each person is one session");
        agree!(mirror.people.len(), self.members.len());
        let (mut connected, mut here) = (0, 0);
        for (key, session) in self.sessions.iter() {
            holds!(session.timer.is_none() && session.creator.is_none() && session.owned.is_none());
            agree!(session.rooms.len(), 1);
            let has_id = session.id != SessionId::BLANK;
            agree!(has_id, !session.attachments.is_empty());
            if has_id {
                let hash = keyed_hash(&self.user_id_secret, [session.id.as_bytes(), &[]]);
                holds!(mirror.here.contains(&indexed(hash, key.index())));
                here += 1;
            }
            connected += session.attachments.len();
        }
        agree!(here, mirror.here.len(), "a session's id is known while it has connections");
        agree!(connected, self.feeds.attachments.len(), "each attachment belongs to a person");
        for (key, member) in self.members.iter() {
            let is_closing = self.feeds.room(member.room).is_some_and(|room| room.is_closing);
            holds!(member.arrival.is_some() || member.connections > 0 || is_closing);
            holds!(member.pending.is_none());
            holds!(mirror.people.contains(&indexed(member.user_id.0, key.index())));
            let attachments = self.attachments_of(key);
            agree!(attachments.len(), usize::from(member.connections));
            for attachment in attachments {
                let attachment = self.feeds.attachments.get(attachment);
                agree!(attachment.and_then(Attachment::member), Some(key));
            }
        }
        for key in &mirror.probed {
            holds!(self.is_connected(*key), "only persons with connections are probed");
        }
        agree!(self.feeds.room_count(), self.room_ids.len() + self.ending.len());
        for (key, room) in self.feeds.rooms() {
            holds!(room.timer.is_none() && room.creator.is_none() && room.owner.is_none());
            agree!(room.is_closing, self.ending.contains(&key));
            let is_found = self.room_ids.get(&room.id) == Some(&key);
            agree!(is_found, !room.is_closing);
        }
        let is_open = |key: &RoomKey| self.is_open(*key);
        holds!(mirror.owners.keys().all(is_open), "an owner's room has not ended");
        let ending = mirror.endings.iter().map(|(room, _)| room);
        holds!(ending.eq(&self.ending), "every room that has ended has a reason");
    }
}
