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

mod people;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::catch_up::Start;
use super::config::ChatConfig;
use super::error::CloseReason;
use super::event::{BATCH_BYTES_FULL, Event, Message, MessageKind, OwnedRoom, RoomInfo};
use super::feed::Attachment;
use super::heap::{map_bytes, shrink, tree_bytes, vec_bytes};
use super::id::{MessageId, MessagePlace, RoomId, SessionId, UserId, keyed_hash};
use super::kept::MessageCopies;
use super::keys::{ConnKey, MemberKey, RoomKey};
use super::limits::ROOMS_LISTED_MAX;
use super::name::{Name, Title, UserName};
use super::password::Lock;
use super::posting::pace_typing;
use super::sink::Sink;
use super::state::{Chat, Mirror, MirrorExit, Room, Rules};
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

/// A room at one moment, without its messages.
#[derive(Clone, Debug)]
pub struct RoomSnapshot<'a> {
    /// The room itself.
    pub facts: RoomFacts<'a>,
    /// Who is present, in order of arrival.
    pub people: Vec<(UserId, UserName<'a>)>,
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
