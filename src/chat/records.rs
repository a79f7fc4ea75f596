//! What a restart is not to lose: the domain taken apart into records, and put together from them.
//!
//! Owns the records, and their order. Must never know where they lie. The invariant: a record names
//! only what came before it, by its place among its kind, so that whoever reads them needs no more
//! than what is there already; and nothing that contradicts itself is taken.
//!
//! Who was present is present again, as if the line had broken at that moment. What is remembered of
//! addresses (rates, wrong guesses) is not kept.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use super::Chat;
use super::event::{Frame, MessageId, RoomId, SessionId, UserId};
use super::history::{HistoryEntry, Nonce};
use super::name::{Name, Title};
use super::password::{Lock, LockRecord};
use super::room::{MemberKey, RoomKey};
use super::session::SessionKey;
use super::timer::ChatTimer;
use crate::clock::{Now, Wall};
use crate::slots::Key;

/// One thing to keep.
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))] // To be shown, and tampered with.
pub enum Record<'a> {
    /// First, and once.
    Chat {
        /// The millisecond of the newest message's id, and its place within it: new ids follow it.
        newest: (u64, u16),
        /// What user ids are made with.
        user_id_secret: [u8; 16],
        /// How many rooms were ever opened.
        rooms_opened: u64,
        /// How often somebody ever came into a room.
        arrivals: u64,
    },
    /// Those that end soonest first.
    Session {
        /// Hyphenated.
        id: Cow<'a, str>,
        /// As its bearer wrote it.
        name: Cow<'a, str>,
        /// Microseconds until it ends if nobody uses it; `None`: it is being used.
        left: Option<u64>,
    },
    /// Those that end soonest first.
    Room {
        /// Hex digits.
        id: Cow<'a, str>,
        /// As its author wrote it.
        title: Option<Cow<'a, str>>,
        /// Microseconds since 1970.
        created: u64,
        /// Its password's hash.
        lock: Option<LockRecord>,
        /// A session's place.
        owner: Option<u32>,
        /// How many rooms were opened before it.
        number: u64,
        /// Nobody has come into it yet.
        is_new: bool,
        /// Microseconds until it ends if nobody comes; `None`: somebody is there.
        left: Option<u64>,
        /// The last message that is not kept any more.
        dropped: Option<Cow<'a, str>>,
    },
    /// By session, in the order of joining.
    Member {
        /// Its place.
        session: u32,
        /// Its place.
        room: u32,
        /// How many had come before, wherever; `None`: not present.
        arrival: Option<u64>,
    },
    /// By room, those that have been silent longest first; oldest first.
    Message {
        /// Its place.
        room: u32,
        /// Hyphenated.
        id: Cow<'a, str>,
        /// The event, as it was sent.
        event: Cow<'a, str>,
        /// Whose, and by what its sender knows it.
        nonce: Option<(u64, Cow<'a, str>)>,
    },
}

/// A record that contradicts what came before it, or itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidRecord;

impl Chat {
    /// Passes on all that there is to keep. All batches must be sealed.
    pub fn keep<E>(
        &self,
        now: Now,
        mut keep: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (millis, counter) = self.message_ids.newest();
        keep(Record::Chat {
            newest: (millis, counter),
            user_id_secret: self.user_id_secret,
            rooms_opened: self.rooms_opened,
            arrivals: self.arrivals,
        })?;
        let left = |timer| {
            let (timer, deadline) = self.timers.get(timer?)?;
            Some((timer, deadline.since(now.mono).as_micros() as u64))
        };
        let sessions = self.sessions.iter().map(|(key, one)| (left(one.timer), key)).collect();
        let sessions = Places::of(sessions);
        for &(left, key) in &sessions.order {
            let Some(session) = self.sessions.get(key) else { continue };
            keep(Record::Session {
                id: self.session_id(key).map(|id| id.to_string()).unwrap_or_default().into(),
                name: session.name.as_str().into(),
                left: left.map(|(_, micros)| micros),
            })?;
        }
        let rooms =
            Places::of(self.rooms.iter().map(|(key, one)| (left(one.timer), key)).collect());
        for &(left, key) in &rooms.order {
            let Some(room) = self.rooms.get(key) else { continue };
            keep(Record::Room {
                id: room.id.to_string().into(),
                title: room.title().map(Cow::Borrowed),
                created: room.created().micros(),
                lock: room.lock.as_ref().map(|lock| lock.record()),
                owner: room.owner().and_then(|owner| sessions.place(owner)),
                number: room.number(),
                is_new: matches!(left, Some((ChatTimer::RoomNew(_), _))),
                left: left.map(|(_, micros)| micros),
                dropped: room.history.dropped().map(|id| id.to_string().into()),
            })?;
        }
        for &(_, key) in &sessions.order {
            let Some(session) = self.sessions.get(key) else { continue };
            for (room, member) in &session.rooms {
                let places = (sessions.place(key), rooms.place(*room), self.members.get(*member));
                let (Some(session), Some(room), Some(member)) = places else { continue };
                keep(Record::Member { session, room, arrival: member.arrival })?;
            }
        }
        for key in self.silent.iter(&self.rooms) {
            let (Some(room), Some(place)) = (self.rooms.get(key), rooms.place(key)) else {
                continue;
            };
            for entry in room.history.after(None) {
                let event = entry.frame.payload();
                let nonce = entry.nonce.as_deref();
                keep(Record::Message {
                    room: place,
                    id: entry.id.to_string().into(),
                    event: String::from_utf8_lossy(&event),
                    nonce: nonce.map(|nonce| (nonce.user_id.0, Cow::Borrowed(&*nonce.text))),
                })?;
            }
        }
        Ok(())
    }
}

/// What a timer waits for, and its microseconds until then; `None`: none is armed.
type Left = Option<(ChatTimer, u64)>;

/// Sessions or rooms in the order in which they are kept.
struct Places<T> {
    order: Vec<(Left, Key<T>)>,
    /// By index.
    places: Vec<u32>,
}

impl<T> Places<T> {
    /// Of each kind those that end soonest come first: so their timers can be armed in this order.
    fn of(mut order: Vec<(Left, Key<T>)>) -> Places<T> {
        order.sort_by_key(|(left, _)| match left {
            Some((ChatTimer::RoomNew(_), micros)) => (true, *micros),
            Some((_, micros)) => (false, *micros),
            None => (false, u64::MAX),
        });
        let most = order.iter().map(|(_, key)| key.index() + 1).max().unwrap_or_default();
        let mut places = vec![u32::MAX; most];
        for (place, (_, key)) in order.iter().enumerate() {
            places[key.index()] = place as u32;
        }
        Places { order, places }
    }

    fn place(&self, key: Key<T>) -> Option<u32> {
        let place = *self.places.get(key.index())?;
        let (_, found) = self.order.get(place as usize)?;
        (*found == key).then_some(place)
    }
}

/// Puts an empty domain together from records, in their order.
pub struct Restoring<'c> {
    chat: &'c mut Chat,
    now: Now,
    sessions: Vec<SessionKey>,
    rooms: Vec<RoomKey>,
}

impl<'c> Restoring<'c> {
    /// `chat`: new, and of no use if a record turns out not to fit.
    pub fn new(chat: &'c mut Chat, now: Now) -> Restoring<'c> {
        Restoring { chat, now, sessions: Vec::new(), rooms: Vec::new() }
    }

    /// Takes the next record. `frame` encodes a message's event.
    pub fn take(
        &mut self,
        record: Record<'_>,
        frame: impl FnOnce(&str) -> Frame,
    ) -> Result<(), InvalidRecord> {
        let chat = &mut *self.chat;
        match record {
            Record::Chat { newest: (millis, counter), user_id_secret, rooms_opened, arrivals } => {
                chat.message_ids.continue_after(millis, counter);
                chat.user_id_secret = user_id_secret;
                (chat.rooms_opened, chat.arrivals) = (rooms_opened, arrivals);
            }
            Record::Session { id, name, left } => {
                let id = SessionId::parse(&id).ok_or(InvalidRecord)?;
                let name = Name::parse(&name).map_err(|_| InvalidRecord)?;
                if chat.session_keys.contains_key(&id) {
                    return Err(InvalidRecord);
                }
                let key = chat.insert_session(id, name, |timers, key| {
                    timers.arm_within(ChatTimer::SessionUnused(key), self.now.mono, within(left))
                });
                self.sessions.push(key);
            }
            Record::Room { .. } => self.take_room(record)?,
            Record::Member { session, room, arrival } => {
                let session = *self.sessions.get(session as usize).ok_or(InvalidRecord)?;
                let room = *self.rooms.get(room as usize).ok_or(InvalidRecord)?;
                if chat.sessions.get(session).is_none_or(|one| one.member_in(room).is_some()) {
                    return Err(InvalidRecord);
                }
                let member = chat.member(session, room).ok_or(InvalidRecord)?;
                if let Some(arrival) = arrival {
                    self.make_present(member, arrival)?;
                }
            }
            Record::Message { room, id, event, nonce } => {
                let key = *self.rooms.get(room as usize).ok_or(InvalidRecord)?;
                let room = chat.rooms.get_mut(key).ok_or(InvalidRecord)?;
                let id = MessageId::parse(&id).ok_or(InvalidRecord)?;
                let newest = room.history.newest();
                if newest.is_some_and(|newest| newest >= id) || !chat.message_ids.is_made(id) {
                    return Err(InvalidRecord);
                }
                let nonce = nonce.map(|(user_id, text)| {
                    Rc::new(Nonce { user_id: UserId(user_id), text: text.as_ref().into() })
                });
                let entry = HistoryEntry { id, frame: frame(&event), nonce };
                room.history.push(entry, chat.settings.history_messages_max);
                if !room.history.is_empty() {
                    chat.note_activity(key);
                }
                chat.recount_room(key);
            }
        }
        Ok(())
    }

    fn take_room(&mut self, record: Record<'_>) -> Result<(), InvalidRecord> {
        let Record::Room { id, title, created, lock, owner, number, is_new, left, dropped } =
            record
        else {
            return Err(InvalidRecord);
        };
        let chat = &mut *self.chat;
        let id = RoomId::parse(&id).ok_or(InvalidRecord)?;
        let title =
            title.map(|title| Title::parse(&title)).transpose().map_err(|_| InvalidRecord)?;
        let lock = lock.map(|lock| Box::new(Lock::restored(lock)));
        if chat.room_keys.contains_key(&id)
            || number >= chat.rooms_opened
            || chat.public_rooms.contains_key(&number)
        {
            return Err(InvalidRecord);
        }
        let created = Wall::from_micros(created);
        let timer = if is_new { ChatTimer::RoomNew } else { ChatTimer::RoomEmpty };
        let key = chat.insert_room(id, title, created, lock, number, |timers, key| {
            timers.arm_within(timer(key), self.now.mono, within(left))
        });
        if let Some(dropped) = dropped {
            let dropped = MessageId::parse(&dropped).ok_or(InvalidRecord)?;
            let room = chat.rooms.get_mut(key).ok_or(InvalidRecord)?;
            room.history.restore_dropped(dropped);
        }
        if let Some(owner) = owner {
            chat.give(key, *self.sessions.get(owner as usize).ok_or(InvalidRecord)?);
        }
        self.rooms.push(key);
        Ok(())
    }

    /// As it was, but that nobody is connected.
    fn make_present(&mut self, key: MemberKey, arrival: u64) -> Result<(), InvalidRecord> {
        let chat = &mut *self.chat;
        let member = chat.members.get_mut(key).ok_or(InvalidRecord)?;
        let session = chat.sessions.get(member.session).ok_or(InvalidRecord)?;
        let room = chat.rooms.get_mut(member.room).ok_or(InvalidRecord)?;
        let name = session.name.folded();
        if arrival >= chat.arrivals
            || room.present.contains_key(&arrival)
            || room.names.contains_key(name)
        {
            return Err(InvalidRecord);
        }
        member.arrival = Some(arrival);
        member.grace = Some(chat.timers.arm(ChatTimer::LeaveGrace(key), self.now.mono));
        room.present.insert(arrival, key);
        room.names.insert(name.clone(), key);
        let room = member.room;
        chat.recount_room(room);
        Ok(())
    }

    /// All have been taken.
    pub fn finish(self) {
        self.chat.listing_revision += 1;
        self.chat.recount();
    }
}

/// `None`: as long as its kind may take.
fn within(left: Option<u64>) -> Duration {
    left.map_or(Duration::MAX, Duration::from_micros)
}
