//! The state that survives a restart: the domain as a sequence of records.
//!
//! Owns the records and their order. Must not know where they are stored. The invariant: a record
//! refers only to earlier records, by their index among the records of their kind, and a record
//! that contradicts an earlier one is refused.
//!
//! A member that was present is present again, as if its connection had broken at the restart. The
//! state of rate limits and the wrong guesses of passwords are not recorded.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use super::address::{Address, AddressMap};
use super::bans::{Ban, HashedAddress};
use super::event::{Message, MessageKind};
use super::id::{MessageId, RoomId, SessionId, UserId};
use super::kept::{MessageCopies, record_bytes};
use super::keys::{AddressKey, MemberKey, RoomKey, RoomTag, SessionKey};
use super::limits::SLOW_MODE_MAX;
use super::name::{Name, Title};
use super::password::{Lock, LockRecord};
use super::posting::{Draft, is_nonce};
use super::roster::Arrival;
use super::sort::sort_by_key;
use super::state::{Chat, Pending, Room, Rules};
use super::store::Place;
use super::timer::ChatTimer;
use crate::clock::{Now, Wall};
use crate::ledger::Pressure;
use crate::slots::Key;
use crate::timers::TimerKey;

/// One record.
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))] // Tests print and damage records.
pub enum Record<'a> {
    /// The first record, and the only one of its kind.
    Chat {
        /// The millisecond and the counter of the newest message id. New ids are greater.
        newest: (u64, u16),
        /// The key of the hash that makes user ids.
        user_id_secret: [u8; 16],
        /// The number of rooms ever opened.
        rooms_opened: u64,
        /// How often a member has become present, in any room.
        arrivals: u64,
        /// Bytes of all messages as they are kept, bytes of memory that they took, and of what all
        /// histories share. 0: unknown.
        history_bytes: [u64; 3],
        /// When the records were made, in microseconds since 1970. 0: unknown.
        wall: u64,
    },
    /// Ordered by remaining time, the shortest first.
    Session {
        /// In hyphenated form.
        id: Cow<'a, str>,
        /// As the client sent it, trimmed.
        name: Cow<'a, str>,
        /// Microseconds until its timer expires; `None`: it has a connection and thus no timer.
        remaining: Option<u64>,
        /// The address that opened it; `None`: exempt from limits per address.
        creator: Option<IpAddr>,
    },
    /// Rooms that have had a connection come before the others. Within each of the two groups,
    /// rooms are ordered by remaining time, the shortest first.
    Room {
        /// Hex digits.
        id: Cow<'a, str>,
        /// As the client sent it, trimmed.
        title: Option<Cow<'a, str>>,
        /// Microseconds since 1970.
        created: u64,
        /// The hashed password, if the room has one.
        lock: Option<LockRecord>,
        /// The index of a session; `None`: the room has no owner.
        owner: Option<u32>,
        /// The number of rooms that were opened earlier.
        number: u64,
        /// The room has had no connection yet.
        is_new: bool,
        /// Microseconds until its timer expires; `None`: it has a connection and thus no timer.
        remaining: Option<u64>,
        /// The newest message that is no longer kept.
        dropped: Option<Cow<'a, str>>,
        /// The address that opened it; `None`: exempt from limits per address.
        creator: Option<IpAddr>,
        /// The room's rules, apart from its password.
        rules: RulesRecord,
    },
    /// Ordered by session, and for each session by joining.
    Member {
        /// The index of a session.
        session: u32,
        /// The index of a room.
        room: u32,
        /// The number of earlier arrivals in all rooms; `None`: the member is not present.
        arrival: Option<u64>,
        /// The hash of the address of its last join or connection, if it had one.
        address: Option<[u8; 7]>,
    },
    /// Ordered by room, and for each room the oldest first.
    Ban {
        /// The index of a room.
        room: u32,
        /// The person's user id.
        user_id: u64,
        /// The person's name when it was banned.
        user: Cow<'a, str>,
        /// When the ban ends.
        until: EndRecord,
        /// The hash of the person's address, if that is banned too.
        address: Option<[u8; 7]>,
    },
    /// Ordered by room, the one that has been silent longest first, and for each room by id.
    Message {
        /// The index of a room.
        room: u32,
        /// In hyphenated form.
        id: Cow<'a, str>,
        /// What it reports.
        kind: RecordedKind,
        /// The member's name at that time.
        user: Cow<'a, str>,
        /// The member's user id.
        user_id: u64,
        /// Microseconds since 1970.
        wall: u64,
        /// The text of a chat message, or the id of the message that was deleted; otherwise empty.
        text: Cow<'a, str>,
        /// The sender's own identifier for the message, if it gave one.
        nonce: Option<Cow<'a, str>>,
        /// The address in whose share the message counts; `None`: exempt.
        from: Option<IpAddr>,
    },
}

/// The part of a room's rules that survives a restart, apart from its password.
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct RulesRecord {
    /// Only members and the owner have access.
    pub is_locked: bool,
    /// The room has had a password since it was opened.
    pub is_unlisted: bool,
    /// Only clients can read the chats.
    pub is_encrypted: bool,
    /// In seconds.
    pub slow_mode: u16,
    /// When the room ends.
    pub expiry: Option<EndRecord>,
}

/// [`MessageKind`] without the text.
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordedKind {
    /// See [`MessageKind::Chat`].
    Chat,
    /// See [`MessageKind::UserJoined`].
    UserJoined,
    /// See [`MessageKind::UserLeft`].
    UserLeft,
    /// See [`MessageKind::UserRemoved`].
    UserRemoved,
    /// See [`MessageKind::ChatDeleted`].
    ChatDeleted,
    /// See [`MessageKind::MessageDeleted`].
    MessageDeleted,
}

/// A record that has an invalid value or contradicts an earlier record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidRecord;

impl Chat {
    /// Passes all records, in their order, to `keep`.
    pub fn keep<E>(
        &self,
        now: Now,
        mut keep: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let rooms = self.keep_without_messages(now, &mut keep)?;
        let store = &self.feeds.archive().store;
        for key in self.feeds.rooms_with_history() {
            let Some(history) = self.feeds.history(key) else { continue };
            let mut place = history.after(store, None);
            while let Some(at) = place {
                self.keep_message(&rooms, key, at, &mut keep)?;
                place = history.next(store, at);
            }
        }
        Ok(())
    }

    /// Like [`Chat::keep`], but drops each message as soon as `keep` has taken it, and gives its
    /// memory back to the system, so that `keep` can use as much.
    pub fn give_up<E>(
        &mut self,
        now: Now,
        mut keep: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let rooms = self.keep_without_messages(now, &mut keep)?;
        for key in self.feeds.rooms_with_history() {
            while let Some(first) = self.feeds.first_message(key) {
                self.keep_message(&rooms, key, first, &mut keep)?;
                self.feeds.drop_first_message(key);
                while self.feeds.is_sparse() {
                    self.feeds.compact();
                }
            }
        }
        Ok(())
    }

    /// Drops the oldest messages, those of the room that has been silent longest first, until they
    /// had so many bytes.
    pub fn drop_oldest(&mut self, bytes: u64) {
        let mut left = bytes;
        for key in self.feeds.rooms_with_history() {
            while let Some(first) = self.feeds.first_message(key).filter(|_| left > 0) {
                let archive = self.feeds.archive();
                let history = self.feeds.history(key);
                let length = history.map_or(0, |history| history.record_bytes(archive, first));
                left = left.saturating_sub(length as u64);
                self.feeds.drop_first_message(key);
            }
        }
    }

    /// Passes all records before those of messages to `keep`. Returns the indices of the rooms.
    fn keep_without_messages<E>(
        &self,
        now: Now,
        keep: &mut impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<Indices<RoomTag>, E> {
        keep(Record::Chat {
            newest: self.message_ids.newest(),
            user_id_secret: self.user_id_secret,
            rooms_opened: self.rooms_opened,
            arrivals: self.arrivals,
            history_bytes: self.feeds.history_bytes(),
            wall: now.wall.micros(),
        })?;
        let remaining = |timer: Option<TimerKey>| {
            let (timer, deadline) = self.timers.get(timer?)?;
            Some((timer, deadline.since(now.mono).as_micros() as u64))
        };
        let creator =
            |key: Option<AddressKey>| self.addresses.get(key?).map(|usage| usage.address.ip());
        let of_session = |key| remaining(self.sessions.get(key).and_then(|one| one.timer));
        let sessions = Indices::of(self.sessions.iter().map(|(key, _)| key).collect(), of_session);
        for &key in &sessions.order {
            let Some(session) = self.sessions.get(key) else { continue };
            keep(Record::Session {
                id: session.id.to_string().into(),
                name: session.name.as_str().into(),
                remaining: of_session(key).map(|(_, micros)| micros),
                creator: creator(session.creator),
            })?;
        }
        let of_room = |key| remaining(self.feeds.room(key).and_then(|one| one.timer));
        let rooms = Indices::of(self.feeds.rooms().map(|(key, _)| key).collect(), of_room);
        for &key in &rooms.order {
            let Some(room) = self.feeds.room(key) else { continue };
            let dropped = self.feeds.history(key).and_then(|history| history.dropped());
            let remaining = of_room(key);
            keep(Record::Room {
                id: room.id.to_string().into(),
                title: room.title().map(Cow::Borrowed),
                created: room.created.micros(),
                lock: room.password().map(|lock| lock.record),
                owner: room.owner.and_then(|(owner, _)| sessions.index(owner)),
                number: room.number,
                is_new: matches!(remaining, Some((ChatTimer::RoomNew(_), _))),
                remaining: remaining.map(|(_, micros)| micros),
                dropped: dropped.map(|id| id.to_string().into()),
                creator: creator(room.creator),
                rules: room.rules.as_deref().map_or_else(RulesRecord::default, |rules| {
                    RulesRecord {
                        is_locked: rules.is_locked,
                        is_unlisted: rules.is_unlisted,
                        is_encrypted: rules.is_encrypted,
                        slow_mode: rules.slow_mode,
                        expiry: rules.expiry.map(|end| recorded_end(end, now)),
                    }
                }),
            })?;
        }
        for &key in &sessions.order {
            let Some(session) = self.sessions.get(key) else { continue };
            for (room, member) in &session.rooms {
                let indices = (sessions.index(key), rooms.index(*room), self.members.get(*member));
                let (Some(session), Some(room), Some(member)) = indices else { continue };
                let arrival = member.arrival.map(Arrival::earlier);
                let address = member.address.known().map(|address| address.0);
                keep(Record::Member { session, room, arrival, address })?;
            }
        }
        for (index, key) in (0..).zip(&rooms.order) {
            let rules = self.feeds.room(*key).and_then(|room| room.rules.as_deref());
            for ban in rules.into_iter().flat_map(|rules| rules.bans.iter(now.mono)) {
                keep(Record::Ban {
                    room: index,
                    user_id: ban.user_id.0,
                    user: ban.user.as_str().into(),
                    until: recorded_end(ban.until, now),
                    address: ban.address.map(|address| address.0),
                })?;
            }
        }
        Ok(rooms)
    }

    /// Passes the record of one message to `keep`.
    fn keep_message<E>(
        &self,
        rooms: &Indices<RoomTag>,
        key: RoomKey,
        at: Place,
        keep: &mut impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let parts = (self.feeds.history(key), rooms.index(key), self.feeds.room(key));
        let (Some(history), Some(index), Some(room)) = parts else { return Ok(()) };
        let archive = self.feeds.archive();
        let mut copy = MessageCopies::of(room.id);
        history.copy(&archive.store, at, &mut copy);
        let from = history.address(archive, at);
        copy.iter().try_for_each(|message| keep(recorded(index, &message, from)))
    }
}

/// The record of a message in the room with this index.
fn recorded<'m>(room: u32, message: &Message<'m>, from: Option<Address>) -> Record<'m> {
    let (kind, text) = match message.kind {
        MessageKind::Chat(text) => (RecordedKind::Chat, text.into()),
        MessageKind::UserJoined => (RecordedKind::UserJoined, Cow::default()),
        MessageKind::UserLeft => (RecordedKind::UserLeft, Cow::default()),
        MessageKind::UserRemoved => (RecordedKind::UserRemoved, Cow::default()),
        MessageKind::ChatDeleted => (RecordedKind::ChatDeleted, Cow::default()),
        MessageKind::MessageDeleted(id) => (RecordedKind::MessageDeleted, id.to_string().into()),
    };
    Record::Message {
        room,
        id: message.id.to_string().into(),
        kind,
        user: message.user.as_str().into(),
        user_id: message.user_id.0,
        wall: message.wall.micros(),
        text,
        nonce: message.nonce.map(Cow::Borrowed),
        from: from.map(Address::ip),
    }
}

/// An end as clients see it, in microseconds since 1970, and the microseconds until then. They differ if
/// the clock was set. Unlike other times, this one also passes while the server is stopped.
pub type EndRecord = (u64, u64);

fn recorded_end(end: Now, now: Now) -> EndRecord {
    (end.wall.micros(), end.mono.since(now.mono).as_micros() as u64)
}

/// A timer and the microseconds until it expires; `None`: no timer is armed.
type Remaining = Option<(ChatTimer, u64)>;

/// Sessions or rooms in the order of their records. Small, because it is made when memory may be
/// used up.
struct Indices<K> {
    order: Vec<Key<K>>,
    /// For each slot, the index in `order`.
    by_slot: Vec<u32>,
}

impl<K> Indices<K> {
    /// Sorts by class of timer, then by deadline: timers of a class must be armed in the order of
    /// their deadlines.
    fn of(mut order: Vec<Key<K>>, remaining: impl Fn(Key<K>) -> Remaining) -> Indices<K> {
        sort_by_key(&mut order, |key| match remaining(key) {
            Some((ChatTimer::RoomNew(_), micros)) => (true, micros, key.index()),
            Some((_, micros)) => (false, micros, key.index()),
            None => (false, u64::MAX, key.index()),
        });
        let slots = order.iter().map(|key| key.index() + 1).max().unwrap_or_default();
        let mut by_slot = vec![u32::MAX; slots];
        for (index, key) in order.iter().enumerate() {
            by_slot[key.index()] = index as u32;
        }
        Indices { order, by_slot }
    }

    fn index(&self, key: Key<K>) -> Option<u32> {
        let index = *self.by_slot.get(key.index())?;
        (*self.order.get(index as usize)? == key).then_some(index)
    }
}

/// Rebuilds a domain from records, which must come in the order in which [`Chat::keep`] passes
/// them.
pub struct Restoring<'c> {
    chat: &'c mut Chat,
    now: Now,
    sessions: Vec<SessionKey>,
    rooms: Vec<RoomKey>,
    /// See [`Record::Chat`].
    history_bytes: [u64; 3],
    /// The time since the records were made.
    away: Duration,
    /// Bytes of the next messages that are not kept, because there is less memory for histories than
    /// they took. `None` before the first message.
    surplus_bytes: Option<u64>,
    /// The room of the last message, and the shares of the addresses that have sent messages there.
    shares: (Option<RoomKey>, AddressMap),
}

impl<'c> Restoring<'c> {
    /// `chat` must be new. If a record is refused, the caller must discard `chat`.
    pub fn new(chat: &'c mut Chat, now: Now) -> Restoring<'c> {
        Restoring {
            chat,
            now,
            sessions: Vec::new(),
            rooms: Vec::new(),
            history_bytes: [0; 3],
            away: Duration::ZERO,
            surplus_bytes: None,
            shares: Default::default(),
        }
    }

    /// Takes the next record. `event_bytes` gives the length of a message's encoded event.
    #[inline(never)] // In one function with the reader, the parts take 2 KB more.
    pub fn take(
        &mut self,
        record: Record<'_>,
        event_bytes: impl FnOnce(&Message<'_>) -> usize,
    ) -> Result<(), InvalidRecord> {
        let chat = &mut *self.chat;
        match record {
            Record::Chat {
                newest: (millis, counter),
                user_id_secret,
                rooms_opened,
                arrivals,
                history_bytes,
                wall,
            } => {
                chat.message_ids.continue_after(millis, counter);
                chat.user_id_secret = user_id_secret;
                (chat.rooms_opened, chat.arrivals) = (rooms_opened, arrivals);
                self.history_bytes = history_bytes;
                let since = self.now.wall.micros().saturating_sub(wall);
                self.away = Duration::from_micros(since);
            }
            Record::Session { id, name, remaining, creator } => {
                let id = SessionId::parse(&id).ok_or(InvalidRecord)?;
                let name = Name::restored(&name).map_err(|_| InvalidRecord)?;
                if chat.session(id).is_some() {
                    return Err(InvalidRecord);
                }
                let creator = creator.map(|ip| chat.addresses.key(Address::of(ip)));
                let remaining = duration(remaining);
                let key = chat.insert_session(id, name, creator, self.now, remaining);
                self.sessions.push(key);
            }
            Record::Room { .. } => self.take_room(record)?,
            Record::Message { .. } => self.take_message(record, event_bytes)?,
            Record::Ban { .. } => self.take_ban(record)?,
            Record::Member { session, room, arrival, address } => {
                let session = *self.sessions.get(session as usize).ok_or(InvalidRecord)?;
                let room = *self.rooms.get(room as usize).ok_or(InvalidRecord)?;
                if chat.sessions.get(session).is_none_or(|one| one.member_in(room).is_some()) {
                    return Err(InvalidRecord);
                }
                let member = chat.member(session, room).ok_or(InvalidRecord)?;
                let address = address.map_or_else(HashedAddress::default, HashedAddress);
                chat.set_address(member, address);
                if let Some(arrival) = arrival {
                    self.make_present(member, arrival)?;
                }
            }
        }
        Ok(())
    }

    fn restored_end(&self, (wall, remaining): EndRecord) -> Now {
        let remaining = Duration::from_micros(remaining).saturating_sub(self.away);
        Now { mono: self.now.mono.after(remaining), wall: Wall::from_micros(wall) }
    }

    #[inline(never)]
    fn take_ban(&mut self, record: Record<'_>) -> Result<(), InvalidRecord> {
        let Record::Ban { room, user_id, user, until, address } = record else {
            return Err(InvalidRecord);
        };
        let now = self.now;
        let key = *self.rooms.get(room as usize).ok_or(InvalidRecord)?;
        let until = self.restored_end(until);
        let room = self.chat.feeds.room_mut(key).ok_or(InvalidRecord)?;
        let user = Name::restored(&user).map_err(|_| InvalidRecord)?;
        let address = address.map(HashedAddress);
        room.rules_mut().bans.add(Ban { user_id: UserId(user_id), user, until, address }, now.mono);
        self.chat.recount_room(key);
        Ok(())
    }

    #[inline(never)]
    fn take_message(
        &mut self,
        record: Record<'_>,
        event_bytes: impl FnOnce(&Message<'_>) -> usize,
    ) -> Result<(), InvalidRecord> {
        let Record::Message { room, id, kind, user, user_id, wall, text, nonce, from } = record
        else {
            return Err(InvalidRecord);
        };
        let chat = &mut *self.chat;
        let room = *self.rooms.get(room as usize).ok_or(InvalidRecord)?;
        let room_id = chat.feeds.room(room).ok_or(InvalidRecord)?.id;
        let is_encrypted = chat.is_encrypted(room);
        let history = chat.feeds.history(room).ok_or(InvalidRecord)?;
        let id = MessageId::parse(&id).ok_or(InvalidRecord)?;
        let is_out_of_order = history.newest_added() >= Some(id);
        if is_out_of_order || !chat.message_ids.may_have_issued(id) {
            return Err(InvalidRecord);
        }
        let user_id = UserId(user_id);
        let kind = match kind {
            RecordedKind::Chat => MessageKind::Chat(&text),
            RecordedKind::UserJoined => MessageKind::UserJoined,
            RecordedKind::UserLeft => MessageKind::UserLeft,
            RecordedKind::UserRemoved => MessageKind::UserRemoved,
            RecordedKind::ChatDeleted => MessageKind::ChatDeleted,
            RecordedKind::MessageDeleted => {
                MessageKind::MessageDeleted(MessageId::parse(&text).ok_or(InvalidRecord)?)
            }
        };
        let is_valid = Name::restored(&user).is_ok_and(|name| name.as_str() == user)
            && match kind {
                MessageKind::Chat(_) if is_encrypted => {
                    Draft::envelope(&text, nonce.as_deref()).is_ok()
                }
                MessageKind::Chat(_) => Draft::restored(&text, nonce.as_deref()).is_ok(),
                MessageKind::ChatDeleted => {
                    text.is_empty() && nonce.as_deref().is_none_or(is_nonce)
                }
                MessageKind::MessageDeleted(_) => nonce.is_none(),
                _ => text.is_empty() && nonce.is_none(),
            };
        let is_known =
            |nonce: &str| history.find(&chat.feeds.archive().store, user_id, nonce).is_some();
        if !is_valid || nonce.as_deref().is_some_and(is_known) {
            return Err(InvalidRecord);
        }
        let message = Message {
            id,
            kind,
            user: (&*user).into(),
            user_id,
            wall: Wall::from_micros(wall),
            room_id,
            nonce: nonce.as_deref(),
        };
        let surplus = match self.surplus_bytes {
            Some(bytes) => bytes,
            None => {
                chat.recount();
                let [messages, took, shared] = self.history_bytes;
                let left = chat.ledger.left(Pressure::Histories) as u64;
                let surplus = took.saturating_sub(left.saturating_sub(shared));
                let part = u128::from(surplus) * u128::from(messages) / u128::from(took.max(1));
                part.try_into().unwrap_or(u64::MAX)
            }
        };
        self.surplus_bytes = Some(surplus.saturating_sub(record_bytes(&message) as u64));
        if surplus > 0 {
            chat.feeds.skip(room, id);
            return Ok(());
        }
        if self.shares.0 != Some(room) {
            self.shares = (Some(room), AddressMap::new());
        }
        let from = from.map(Address::of);
        let known = self.shares.1.get(&from);
        let share = known.and_then(|index| chat.feeds.archive().shares.key_at(*index));
        if let Some(share) = chat.feeds.keep(room, &message, event_bytes(&message), share, from) {
            self.shares.1.insert(from, share.index() as u32);
        }
        // If the records are of another version, or their messages differ in size.
        chat.forget();
        Ok(())
    }

    #[inline(never)]
    fn take_room(&mut self, record: Record<'_>) -> Result<(), InvalidRecord> {
        let Record::Room {
            id,
            title,
            created,
            lock,
            owner,
            number,
            is_new,
            remaining,
            dropped,
            creator,
            rules,
        } = record
        else {
            return Err(InvalidRecord);
        };
        let expiry = rules.expiry.map(|end| self.restored_end(end));
        let chat = &mut *self.chat;
        let id = RoomId::parse(&id).ok_or(InvalidRecord)?;
        let title =
            title.map(|title| Title::restored(&title)).transpose().map_err(|_| InvalidRecord)?;
        if rules.slow_mode > SLOW_MODE_MAX as u16 {
            return Err(InvalidRecord);
        }
        let has_rules = lock.is_some() || rules != RulesRecord::default();
        let rules = has_rules.then(|| {
            Box::new(Rules {
                password: lock.map(Lock::restored),
                is_locked: rules.is_locked,
                is_unlisted: rules.is_unlisted,
                is_encrypted: rules.is_encrypted,
                slow_mode: rules.slow_mode,
                expiry,
                ..Rules::default()
            })
        });
        let same_number =
            Room::ordered_entry(number, 0)..=Room::ordered_entry(number, u32::MAX as usize);
        if chat.room_ids.contains_key(&id)
            || number >= chat.rooms_opened
            || chat.public_rooms.range(same_number).next().is_some()
        {
            return Err(InvalidRecord);
        }
        let creator = creator.map(|ip| chat.addresses.key(Address::of(ip)));
        let created = Wall::from_micros(created);
        let room = Room { title, rules, creator, ..Room::new(id, number, created) };
        let timer = if is_new { ChatTimer::RoomNew } else { ChatTimer::RoomEmpty };
        let key = chat.insert_room(room, timer, self.now, duration(remaining));
        if let Some(dropped) = dropped {
            let dropped = MessageId::parse(&dropped).ok_or(InvalidRecord)?;
            chat.feeds.restore_dropped(key, dropped);
        }
        if let Some(owner) = owner {
            chat.make_owner(key, *self.sessions.get(owner as usize).ok_or(InvalidRecord)?);
        }
        self.rooms.push(key);
        Ok(())
    }

    /// Makes a member present without a connection.
    fn make_present(&mut self, key: MemberKey, arrival: u64) -> Result<(), InvalidRecord> {
        let chat = &mut *self.chat;
        let member = chat.members.get(key).ok_or(InvalidRecord)?;
        let session = chat.sessions.get(member.session).ok_or(InvalidRecord)?;
        let room = chat.feeds.room(member.room).ok_or(InvalidRecord)?;
        let name = session.name.folded();
        let is_new = arrival < chat.arrivals;
        let arrival = Arrival::after(arrival);
        if !is_new || room.roster.has_arrival(arrival, |key| chat.present_facts(key)) {
            return Err(InvalidRecord);
        }
        // The first edition of the contract let in a name that differed in ignorable characters only.
        // One of the two can come back.
        if room.roster.holder(name, |key| chat.present_facts(key)).is_some() {
            return Ok(());
        }
        let member = chat.members.get_mut(key).ok_or(InvalidRecord)?;
        let grace = chat.timers.arm(ChatTimer::LeaveGrace(key), self.now.mono);
        member.pending = Some(Box::new(Pending::Grace(grace)));
        chat.register(key, arrival);
        Ok(())
    }

    /// The caller has passed the last record.
    pub fn finish(self) {
        self.chat.listing_revision += 1;
        self.chat.recount();
    }
}

/// `None` becomes the longest duration. Arming limits it to the duration of the timer's class.
fn duration(micros: Option<u64>) -> Duration {
    micros.map_or(Duration::MAX, Duration::from_micros)
}
