//! Thousands of random commands, checked against a plain model.
//!
//! The model does not know how the domain works. It has each room's log of published events and
//! checks that
//!
//! 1. the log is consistent: members join before they post from a socket, leave once, and no two
//!    present members have the same name;
//! 2. each connection has received an unbroken part of the log, from its start to the present or to
//!    its end;
//! 3. the domain and the log agree on the present members, each of which has a connection or lost
//!    the last one less than the grace ago;
//! 4. the history is the end of the log;
//! 5. a message that is sent twice is posted once, as long as the history has it;
//! 6. a room has the right owner, and a room with a password admits only members;
//! 7. a restart preserves the records;
//! 8. an address holds at most its share, and the right session or room gives way;
//! 9. a deleted text is in the history of nobody, and a banned person enters no more.
//!
//! At the end all sessions and rooms end, and no memory is held.

mod presences;
mod readers;
mod shares;

use std::collections::{HashMap, HashSet};

use super::access::address;
use super::recorder::LogEntry;
use super::*;
use presences::Presence;
use readers::{Reader, kept};
use shares::{Held, SHARE};

const NAMES: [&str; 5] = ["ana", "ANA", "Ana", "bob", "zoe"];
const HISTORY: usize = 24;
const PEOPLE: u64 = 6;
const ROOMS: u64 = 3;
const PASSWORD: &str = "open sesame";

struct Model {
    random: SeededEntropy,
    story: Story,
    sessions: Vec<SessionKey>,
    rooms: Vec<RoomKey>,
    /// The open connections, in the order in which they asked to enter.
    readers: Vec<Reader>,
    /// Ended connections. Some commands use them, which must have no effect.
    ended: Vec<Tab>,
    presences: HashMap<RoomKey, Presence>,
    owners: HashMap<RoomKey, Option<SessionKey>>,
    locked: HashSet<RoomKey>,
    /// When each ban ends.
    banned: HashMap<(RoomKey, UserId), Mono>,
    /// Members that have posted from outside in this tick.
    outside: HashSet<UserId>,
    /// The last message that each session has received in each room.
    bookmarks: HashMap<(SessionKey, RoomKey), Option<MessageId>>,
    nonces: u64,
    arrivals: usize,
    broken: HashMap<(RoomKey, UserId), Now>,
    /// The length of each room's log when the tick began.
    sealed: HashMap<RoomKey, usize>,
    sent: usize,
    /// The revision of the public listing, and the listing.
    listing: (u64, Vec<(RoomId, usize)>),
    seen: HashSet<&'static str>,
    held_sessions: Held<SessionKey>,
    held_rooms: Held<RoomKey>,
    commands: usize,
}

#[test]
fn random_commands_keep_all_invariants() {
    let (seeds, ticks) =
        if std::env::var_os("SLOW_TESTS").is_some() { (20, 1000) } else { (6, 400) };
    let mut seen = HashSet::new();
    for seed in 0..seeds {
        let mut model = Model::new(seed);
        println!("seed {seed}"); // Shown only if the test fails.
        for _ in 0..ticks {
            model.tick();
        }
        model.end();
        seen.extend(model.seen);
    }
    for rare in [
        "waited",
        "admitted late",
        "name taken",
        "came back",
        "silent",
        "room ended",
        "caught up later",
        "resumed with a gap",
        "too slow",
        "ended while catching up",
        "closed while catching up",
        "repeated",
        "nonce still to come",
        "nonce forgotten",
        "posted from outside",
        "departed for a post",
        "guessed too often",
        "deleted",
        "passed on",
        "without an owner",
        "inherited",
        "share used up",
        "a session gave way",
        "a room gave way",
        "a text deleted",
        "a member removed",
        "banned",
    ] {
        assert!(seen.contains(rare), "never happened: {rare}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut model = Model::new(seed);
        (0..200).for_each(|_| model.tick());
        model.story.sink.last_id
    };
    assert_eq!(run(5), run(5));
}

impl Model {
    fn new(seed: u64) -> Model {
        let story = Story::with(|config| {
            config.history_messages_max = HISTORY;
            config.message_pace = Pace::new(10, SECOND, 40);
            config.guess_paces.address = Pace::new(1, MINUTE, 1);
            config.guess_paces.room = Pace::new(3, MINUTE, 3);
            if seed % 2 == 0 {
                config.address_sessions_max = Some(SHARE);
                // Otherwise an empty room would end before it could give way.
                (config.room_ttl, config.new_room_ttl) = (HOUR, HOUR);
            }
        });
        Model {
            random: SeededEntropy::new(seed),
            story,
            sessions: Vec::new(),
            rooms: Vec::new(),
            readers: Vec::new(),
            ended: Vec::new(),
            presences: HashMap::new(),
            owners: HashMap::new(),
            locked: HashSet::new(),
            banned: HashMap::new(),
            outside: HashSet::new(),
            bookmarks: HashMap::new(),
            nonces: 0,
            arrivals: 0,
            broken: HashMap::new(),
            sealed: HashMap::new(),
            sent: 0,
            listing: Default::default(),
            seen: HashSet::new(),
            held_sessions: Held::new(),
            held_rooms: Held::new(),
            commands: 0,
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.random.next_u64() % sides
    }

    fn pick<T: Copy>(&mut self, from: fn(&Model) -> &[T]) -> Option<T> {
        let len = from(self).len() as u64;
        let place = self.roll(len.max(1)) as usize;
        from(self).get(place).copied()
    }

    /// Runs one to five commands in one tick, with checks after each command and after the tick.
    fn tick(&mut self) {
        self.sealed = self.lengths();
        self.outside.clear();
        self.story.ticking = true;
        for _ in 0..=self.roll(5) {
            self.command();
            self.story.step();
            self.after_command();
        }
        self.story.ticking = false;
        self.story.step();
        self.after_tick();
    }

    fn lengths(&self) -> HashMap<RoomKey, usize> {
        self.story.sink.logs.iter().map(|(room, log)| (*room, log.len())).collect()
    }

    fn command(&mut self) {
        let session = self.pick(|model| &model.sessions);
        let room = self.pick(|model| &model.rooms);
        let place = self.roll(self.readers.len().max(1) as u64) as usize;
        let tab = self.readers.get(place).map(|reader| reader.tab);
        match (self.roll(125), session, room, tab) {
            (0..8, ..) => {
                let name = NAMES[self.roll(NAMES.len() as u64) as usize];
                self.open_session(name);
            }
            (8..12, Some(session), ..) => self.open(session),
            (12, Some(session), ..) => self.end_session(session),
            (13..16, Some(session), Some(room), _) => self.story.leave(session, room),
            (16..20, Some(session), Some(room), _) => self.join(session, room),
            (20..45, Some(session), Some(room), _) => self.enter(session, room),
            (45..53, _, _, Some(tab)) => self.exit(place, tab, Departure::Closed),
            (53..65, _, _, Some(tab)) => self.exit(place, tab, Departure::Broken),
            (65..79, _, _, Some(tab)) => {
                self.sent += 1;
                let filler = if self.sent % 2 == 0 { "🦀".repeat(3990) } else { String::new() };
                let _ = self.story.try_send(tab, &format!("{} {filler}", self.sent));
            }
            (79, _, _, Some(tab)) => {
                (0..HISTORY).for_each(|_| _ = self.story.try_send(tab, "flood"))
            }
            (80..88, _, _, Some(_)) => self.send_with(place),
            (88..91, _, _, Some(tab)) => self.story.typing(tab),
            (91..95, _, _, Some(tab)) => self.story.sign_of_life(tab),
            (95..104, _, _, Some(tab)) => self.catch_up_once(tab),
            (104..107, _, _, Some(tab)) => _ = self.story.catch_up(tab),
            (107..111, Some(session), Some(room), _) => self.post(session, room),
            (111, Some(session), Some(room), _) => self.delete(session, room),
            (112, Some(session), ..) => {
                self.story.chat.touch(self.story.now, session);
                self.held_sessions.touch(session, self.commands);
            }
            (113, ..) => {
                if let Some(tab) = self.pick(|model| &model.ended) {
                    let len = self.story.sink.last_id;
                    self.story.send(tab, "ended");
                    self.story.typing(tab);
                    self.story.catch_up_once(tab);
                    self.story.break_connection(tab);
                    assert_eq!(self.story.sink.last_id, len);
                }
            }
            (120..123, Some(session), Some(room), _) => self.delete_message(session, room),
            (123.., Some(session), Some(room), _) => self.remove(session, room),
            (114.., ..) => {
                let (millis, weight) = (self.roll(2000), self.roll(1000));
                // With shares there must be time for something to give way.
                let is_long = if self.has_shares() { 900 } else { 980 };
                let times = match weight {
                    0..900 => 1,
                    _ if weight < is_long => 100, // Rooms without connections end.
                    900..998 => 700,              // So do new rooms.
                    _ => 100_000,                 // So do sessions.
                };
                self.story.now = self.story.now.after(Duration::from_millis(millis * times));
                self.story.sweep();
                self.read_owners();
            }
            _ => {}
        }
    }

    fn open(&mut self, session: SessionKey) {
        let locked = self.roll(3) == 0;
        let password = if locked { Some(PASSWORD) } else { None };
        let options = RoomOptions {
            private: self.roll(3) == 0,
            password: password.map(Into::into),
            ..RoomOptions::default()
        };
        let Some(room) = self.try_open(session, options) else { return };
        self.rooms.push(room);
        self.owners.insert(room, Some(session));
        if locked {
            self.locked.insert(room);
        }
    }

    fn join(&mut self, session: SessionKey, room: RoomKey) {
        let roll = self.roll(9) as usize;
        let password = [None, Some("wrong"), Some(PASSWORD)][roll % 3];
        let from = [None, address(1), address(2)][roll / 3];
        let access = Access::Join { password };
        let gate = self.story.chat.gate(self.story.now, session, Some(room), access, from);
        let is_free = !self.locked.contains(&room) || self.story.user_id(session, room).is_some();
        let is_banned = self.is_banned(session, room);
        match gate {
            Err(Refusal::Banned) => assert!(is_banned),
            _ if is_banned => panic!("a banned person has passed the gate: {gate:?}"),
            Ok(_) => assert!(is_free || password == Some(PASSWORD)),
            Err(Refusal::BadPassword) => assert!(!is_free && password != Some(PASSWORD)),
            Err(refusal) => {
                assert!(
                    !is_free && password.is_some() && matches!(refusal, Refusal::RateLimited(_))
                );
                self.seen.insert("guessed too often");
            }
        }
        if let Ok(room) = gate {
            self.story.join(session, room).unwrap();
        }
    }

    fn enter(&mut self, session: SessionKey, room: RoomKey) {
        let start = self.start(session, room);
        let locked_out = self.locked.contains(&room) && self.story.user_id(session, room).is_none();
        let is_banned = self.is_banned(session, room);
        match self.story.try_enter_from(session, room, start) {
            Ok((tab, admission)) => {
                assert!(!locked_out && !is_banned);
                if admission == Admission::Waiting {
                    self.seen.insert("waited");
                }
                self.readers.push(Reader::new(tab, session, room, start));
            }
            Err(CloseReason::Banned) => {
                assert!(is_banned);
                self.seen.insert("banned");
            }
            Err(CloseReason::NotAMember) => assert!(locked_out && !is_banned),
            Err(close) => assert_eq!(close, CloseReason::TooManyConnections),
        }
    }

    fn exit(&mut self, place: usize, tab: Tab, departure: Departure) {
        let mut reader = self.readers.remove(place);
        let (session, room) = (reader.session, reader.room);
        let user_id = self.story.user_id(session, room);
        if let (Departure::Broken, Some(user_id)) = (departure, user_id) {
            self.broken.insert((room, user_id), self.story.now);
        }
        let len = self.story.sink.log(room).len();
        self.story.exit(tab, departure);
        // The connection may have received any number of the events of this tick.
        let sealed = self.sealed.get(&room).copied().unwrap_or(0);
        self.check_received(&mut reader, sealed..len + 1);
        self.bookmark(&reader);
        self.ended.push(tab);
    }

    fn post(&mut self, session: SessionKey, room: RoomKey) {
        let Some(user_id) = self.story.user_id(session, room) else {
            let refusal = Err(Refusal::NotAMember);
            return assert_eq!(self.story.post(session, room, "outside", None), refusal);
        };
        let name = self.story.chat.name(session).unwrap().folded().to_string();
        let other =
            |(id, (other, _)): (&UserId, &(String, usize))| *id != user_id && *other == name;
        let taken =
            self.presences.get(&room).is_some_and(|presence| presence.present.iter().any(other));
        self.outside.insert(user_id);
        match self.story.post(session, room, "outside", None) {
            Ok((_, is_new)) => {
                assert!(is_new);
                self.seen.insert(if taken { "departed for a post" } else { "posted from outside" });
            }
            Err(Refusal::NameTaken) => assert!(taken),
            Err(refusal) => assert!(matches!(refusal, Refusal::RateLimited(_))),
        }
    }

    fn delete(&mut self, session: SessionKey, room: RoomKey) {
        let len = self.story.sink.log(room).len();
        let deleted = self.story.delete(session, room);
        assert_eq!(deleted.is_ok(), self.owners[&room] == Some(session));
        assert_eq!(self.story.sink.log(room).len(), len, "departures are not announced");
        if deleted.is_ok() {
            self.seen.insert("deleted");
        }
    }

    fn is_banned(&self, session: SessionKey, room: RoomKey) -> bool {
        let user_id = self.story.chat.user_id(session, room).unwrap();
        self.banned.get(&(room, user_id)).is_some_and(|until| *until > self.story.now.mono)
    }

    fn delete_message(&mut self, session: SessionKey, room: RoomKey) {
        let place = self.roll(2 * HISTORY as u64) as usize;
        let log = self.story.sink.log(room);
        let Some(place) = log.len().checked_sub(place + 1) else { return };
        let LogEntry { id: Some(id), ref line, user_id, .. } = log[place] else { return };
        let is_chat = line.starts_with("chat") && kept(log).any(|kept| kept == place);
        let is_deleted = log[place].deleted.is_some();
        let own = self.story.chat.user_id(session, room);
        let may_delete = self.owners[&room] == Some(session) || own == Some(user_id);
        let len = log.len();
        match self.story.delete_message(session, room, id) {
            Err(Refusal::MessageNotFound) => assert!(!is_chat),
            Err(Refusal::NotTheAuthor) => assert!(is_chat && !may_delete),
            Err(refusal) => assert!(matches!(refusal, Refusal::RateLimited(_)), "{refusal:?}"),
            Ok(()) => {
                assert!(is_chat && may_delete);
                let log = self.story.sink.log(room);
                assert_eq!(log.len(), len + usize::from(!is_deleted));
                assert!(log[place].deleted.is_some());
                self.outside.extend(own);
                self.seen.insert("a text deleted");
            }
        }
    }

    fn remove(&mut self, session: SessionKey, room: RoomKey) {
        let Some(other) = self.pick(|model| &model.sessions).filter(|other| *other != session)
        else {
            return;
        };
        let session = self.owners[&room].filter(|_| self.roll(2) == 0).unwrap_or(session);
        let user_id = self.story.user_id(other, room);
        let duration = Duration::from_secs(self.roll(100));
        let ban = (self.roll(2) == 0).then_some(BanRequest { duration, address: true });
        let is_owner = self.owners[&room] == Some(session) && session != other;
        if self.owners[&room] == Some(session) && session == other {
            return; // `api` refuses that.
        }
        let by = Some(session);
        let (now, story) = (self.story.now, &mut self.story);
        match story.chat.remove_user(now, by, Some(room), user_id, ban, &mut story.sink) {
            Err(Refusal::NotTheOwner) => assert!(!is_owner),
            Err(Refusal::UserNotFound) => assert!(is_owner && user_id.is_none()),
            Err(refusal) => assert!(matches!(refusal, Refusal::RateLimited(_)), "{refusal:?}"),
            Ok(has_address) => {
                assert!(is_owner && !has_address);
                if let (Some(BanRequest { duration, .. }), Some(user_id)) = (ban, user_id) {
                    self.banned.insert((room, user_id), now.mono.after(duration));
                }
                assert!(self.story.user_id(other, room).is_none());
                self.seen.insert("a member removed");
            }
        }
    }

    /// Ends a session. In the model, each of its rooms passes to the member present longest.
    fn end_session(&mut self, session: SessionKey) {
        self.story.end(session);
        self.read_logs();
        for (room, owner) in &mut self.owners {
            if *owner == Some(session) {
                let present = self.presences.get(room).map(|presence| &presence.present);
                let next = present
                    .and_then(|present| present.iter().min_by_key(|(_, (_, before))| *before));
                let is_next = |other: &SessionKey| {
                    self.story.user_id(*other, *room).as_ref() == next.map(|(user_id, _)| user_id)
                };
                *owner = next.and_then(|_| self.sessions.iter().copied().find(is_next));
                self.seen.insert(if owner.is_some() { "passed on" } else { "without an owner" });
            }
        }
    }

    /// Copies the owners from the domain, for when many sessions may have ended at once.
    fn read_owners(&mut self) {
        for (room, owner) in &mut self.owners {
            let mut sessions = self.story.chat.sessions.iter();
            let owning = sessions.find(|(_, session)| session.owned().contains(room));
            *owner = owning.map(|(session, _)| session);
        }
    }

    fn after_command(&mut self) {
        let before: HashMap<_, HashSet<_>> = self
            .presences
            .iter()
            .map(|(room, presence)| (*room, presence.present.keys().copied().collect()))
            .collect();
        self.read_logs();
        for place in 0..self.readers.len() {
            let Reader { tab, session, room, next: None, .. } = self.readers[place] else {
                continue;
            };
            let received = self.story.sink.received_by(tab.conn);
            let (Some(at), late) =
                (received.admitted, received.lines.iter().any(|l| l == "admitted"))
            else {
                continue;
            };
            let until = received.until;
            if late {
                self.seen.insert("admitted late");
            }
            // If the session has ended already, its user id is known only from the log. A room that
            // the connection has inherited is announced after its join.
            let log = self.story.sink.log(room);
            let earlier = log[..at].iter().rposition(|entry| entry.line.starts_with("joined"));
            let join = if late { at } else { earlier.unwrap_or(0) };
            let user_id = log.get(join).map(|entry| entry.user_id);
            let user_id = self.story.user_id(session, room).or(user_id).unwrap();
            let was_here = before.get(&room).is_some_and(|present| present.contains(&user_id));
            let other_tab = |reader: &Reader| {
                (reader.session, reader.room) == (session, room) && reader.next.is_some()
            };
            let first = !was_here && !self.readers.iter().any(other_tab);
            if was_here && self.broken.remove(&(room, user_id)).is_some() {
                self.seen.insert("came back");
            }
            // A connection that has waited is admitted before its own join is published.
            let from = if first && !late { join } else { at };
            if first {
                let join = &self.story.sink.log(room)[from];
                assert!(join.line.starts_with("joined") && join.user_id == user_id);
            }
            assert!(
                until.is_none_or(|until| until == from),
                "pages end before the connection's own join"
            );
            self.begin(place, from);
        }
        for place in (0..self.readers.len()).rev() {
            let Some((close, at)) =
                self.story.sink.received_by(self.readers[place].tab.conn).closed
            else {
                continue;
            };
            let mut reader = self.readers.remove(place);
            self.check_received(&mut reader, at..at + 1);
            self.bookmark(&reader);
            self.ended.push(reader.tab);
            match close {
                CloseReason::NameTaken => self.seen.insert("name taken"),
                CloseReason::Silent => self.seen.insert("silent"),
                _ => false,
            };
        }
        let story = &self.story;
        self.sessions.retain(|session| story.session_exists(*session));
        if self.rooms.iter().any(|room| !story.exists(*room)) {
            self.seen.insert("room ended");
        }
        self.rooms.retain(|room| story.exists(*room));
        self.owners.retain(|room, _| story.exists(*room));
        self.locked.retain(|room| story.exists(*room));
        self.presences.retain(|room, _| story.exists(*room));
        self.broken.retain(|(room, _), _| story.exists(*room));
        let chat = &self.story.chat;
        self.story.sink.logs.retain(|room, _| chat.room_id(*room).is_some());
        let listed = chat.public_rooms().map(|room| (room.id, room.user_count)).collect();
        let listing = (chat.listing_revision(), listed);
        if listing.0 == self.listing.0 {
            assert_eq!(listing.1, self.listing.1, "the listing has changed without a new revision");
        }
        self.listing = listing;
        self.check_presence();
        self.read_shares();
    }

    fn after_tick(&mut self) {
        for mut reader in std::mem::take(&mut self.readers) {
            let len = self.story.sink.log(reader.room).len();
            self.check_received(&mut reader, len..len + 1);
            self.readers.push(reader);
        }
        for room in self.rooms.clone() {
            let log = self.story.sink.log(room);
            let line = |entry: &LogEntry| entry.deleted.clone().unwrap_or(entry.line.clone());
            let kept: Vec<_> = kept(log).map(|place| line(&log[place])).collect();
            assert_eq!(self.story.history(room, 1000), kept);
        }
        if self.sent % 128 == 0 {
            restarts::check(&self.story); // Only seldom, because it is slow.
        }
    }

    fn end(&mut self) {
        while let Some(session) = self.sessions.first().copied() {
            self.end_session(session);
            self.after_command();
        }
        assert!(self.readers.is_empty());
        self.story.wait(2 * HOUR);
        self.after_command();
        self.story.assert_empty();
    }
}
