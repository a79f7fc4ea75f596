//! Thousands of random commands, with a plain model beside them.
//!
//! The model knows nothing of how the domain works. It has each room's log as it was published,
//! and holds that (1) the log makes sense by itself: people come before they speak, leave once,
//! and no two of one name are there together; (2) each connection has received one unbroken
//! stretch of it, from where it wanted to begin up to its end; (3) who counts as present is who
//! the log says, and has a connection or lost it a moment ago; (4) the history is the log's end;
//! (5) what is sent twice is said once, as long as it is kept; (6) a room has the owner it should
//! have, and only members get past its lock; (7) a restart loses nothing of all that. After the last
//! command everything ends, and nothing is left.

mod presences;
mod readers;

use std::collections::{HashMap, HashSet};

use super::recorder::Said;
use super::*;
use presences::Presence;
use readers::{Live, kept};

const NAMES: [&str; 5] = ["ana", "ANA", "Ana", "bob", "zoe"];
const HISTORY: usize = 24;
const PEOPLE: u64 = 6;
const ROOMS: u64 = 3;
const PASSWORD: &str = "open sesame";

struct Model {
    dice: SeededEntropy,
    story: Story,
    sessions: Vec<SessionKey>,
    rooms: Vec<RoomKey>,
    /// In the order of coming.
    live: Vec<Live>,
    /// Gone, and tried again now and then: nothing must come of it.
    gone: Vec<Tab>,
    presences: HashMap<RoomKey, Presence>,
    owners: HashMap<RoomKey, Option<SessionKey>>,
    locked: HashSet<RoomKey>,
    /// Who has posted without a connection in this tick.
    outside: HashSet<UserId>,
    /// The last message that somebody has seen.
    bookmarks: HashMap<(SessionKey, RoomKey), Option<MessageId>>,
    nonces: u64,
    arrivals: usize,
    broken: HashMap<(RoomKey, UserId), Now>,
    /// Each room's log was this long when the tick began.
    sealed: HashMap<RoomKey, usize>,
    said: usize,
    /// What the listing was, and its revision.
    listing: (u64, Vec<(RoomId, usize)>),
    seen: HashSet<&'static str>,
}

#[test]
fn random_commands_keep_every_promise() {
    let (seeds, ticks) =
        if std::env::var_os("SLOW_TESTS").is_some() { (50, 1000) } else { (5, 600) };
    let mut seen = HashSet::new();
    for seed in 0..seeds {
        let mut model = Model::new(seed);
        println!("seed {seed}"); // Shown when it fails.
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
        "room over",
        "caught up later",
        "resumed with a gap",
        "too slow",
        "gone while behind",
        "closed while behind",
        "told again",
        "nonce still to come",
        "nonce forgotten",
        "posted from outside",
        "gave way to a post",
        "guessed too often",
        "deleted",
        "inherited",
        "nobody's",
    ] {
        assert!(seen.contains(rare), "never {rare}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let run = |seed| {
        let mut model = Model::new(seed);
        (0..200).for_each(|_| model.tick());
        model.story.sink.last_id
    };
    assert_eq!(run(5), run(5));
}

impl Model {
    fn new(seed: u64) -> Model {
        let story = Story::with(|settings| {
            settings.history_messages_max = HISTORY;
            settings.message_pace = Pace::new(10, SECOND, 40);
            settings.guess_pace = Pace::new(1, MINUTE, 1);
        });
        Model {
            dice: SeededEntropy::new(seed),
            story,
            sessions: Vec::new(),
            rooms: Vec::new(),
            live: Vec::new(),
            gone: Vec::new(),
            presences: HashMap::new(),
            owners: HashMap::new(),
            locked: HashSet::new(),
            outside: HashSet::new(),
            bookmarks: HashMap::new(),
            nonces: 0,
            arrivals: 0,
            broken: HashMap::new(),
            sealed: HashMap::new(),
            said: 0,
            listing: Default::default(),
            seen: HashSet::new(),
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice.next_u64() % sides
    }

    fn pick<T: Copy>(&mut self, from: fn(&Model) -> &[T]) -> Option<T> {
        let len = from(self).len() as u64;
        let place = self.roll(len.max(1)) as usize;
        from(self).get(place).copied()
    }

    /// One to five commands, then everything is looked at.
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
        let place = self.roll(self.live.len().max(1) as u64) as usize;
        let tab = self.live.get(place).map(|live| live.tab);
        match (self.roll(120), session, room, tab) {
            (0..8, ..) if (self.sessions.len() as u64) < PEOPLE => {
                let name = NAMES[self.roll(NAMES.len() as u64) as usize];
                let session = self.story.person(name);
                self.sessions.push(session);
            }
            (8..12, Some(session), ..) if (self.rooms.len() as u64) < ROOMS => self.open(session),
            (12, Some(session), ..) => self.end_session(session),
            (13..16, Some(session), Some(room), _) => self.story.leave(session, room),
            (16..20, Some(session), Some(room), _) => self.join(session, room),
            (20..45, Some(session), Some(room), _) => self.enter(session, room),
            (45..53, _, _, Some(tab)) => self.exit(place, tab, Departure::Closed),
            (53..65, _, _, Some(tab)) => self.exit(place, tab, Departure::Broken),
            (65..79, _, _, Some(tab)) => {
                self.said += 1;
                let filler = if self.said % 2 == 0 { "🦀".repeat(3990) } else { String::new() };
                let _ = self.story.try_say(tab, &format!("{} {filler}", self.said));
            }
            (79, _, _, Some(tab)) => {
                (0..HISTORY).for_each(|_| _ = self.story.try_say(tab, "flood"))
            }
            (80..88, _, _, Some(_)) => self.say_as(place),
            (88..91, _, _, Some(tab)) => self.story.typing(tab),
            (91..95, _, _, Some(tab)) => self.story.sign_of_life(tab),
            (95..104, _, _, Some(tab)) => self.read_on(tab),
            (104..107, _, _, Some(tab)) => _ = self.story.catch_up(tab),
            (107..111, Some(session), Some(room), _) => self.post(session, room),
            (111, Some(session), Some(room), _) => self.delete(session, room),
            (112, Some(session), ..) => self.story.chat.touch(self.story.now, session),
            (113, ..) => {
                if let Some(tab) = self.pick(|model| &model.gone) {
                    let said = self.story.sink.last_id;
                    self.story.say(tab, "a ghost");
                    self.story.typing(tab);
                    self.story.read_on(tab);
                    self.story.break_line(tab);
                    assert_eq!(self.story.sink.last_id, said);
                }
            }
            (114.., ..) => {
                let (millis, weight) = (self.roll(2000), self.roll(1000));
                let times = match weight {
                    0..900 => 1,
                    900..980 => 100, // Rooms end.
                    980..998 => 700, // Rooms that nobody came to end.
                    _ => 100_000,    // Sessions end.
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
        let wishes = RoomOptions { title: None, private: self.roll(3) == 0, password };
        let room = self.story.room_with(session, wishes);
        self.rooms.push(room);
        self.owners.insert(room, Some(session));
        if locked {
            self.locked.insert(room);
        }
    }

    fn join(&mut self, session: SessionKey, room: RoomKey) {
        let password = [None, Some("wrong"), Some(PASSWORD)][self.roll(3) as usize];
        let access = Access::Join { password, from: None };
        let gate = self.story.chat.gate(self.story.now, session, Some(room), access);
        let is_free = !self.locked.contains(&room) || self.story.user_id(session, room).is_some();
        match gate {
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
        match self.story.knock_from(session, room, start) {
            Ok((tab, admission)) => {
                assert!(!locked_out);
                if admission == Admission::Waiting {
                    self.seen.insert("waited");
                }
                self.live.push(Live::new(tab, session, room, start));
            }
            Err(CloseReason::NotAMember) => assert!(locked_out),
            Err(close) => assert_eq!(close, CloseReason::TooManyConnections),
        }
    }

    fn exit(&mut self, place: usize, tab: Tab, departure: Departure) {
        let mut live = self.live.remove(place);
        let (session, room) = (live.session, live.room);
        let user_id = self.story.user_id(session, room);
        if let (Departure::Broken, Some(user_id)) = (departure, user_id) {
            self.broken.insert((room, user_id), self.story.now);
        }
        let said = self.story.sink.log(room).len();
        self.story.exit(tab, departure);
        // What was said earlier in this tick may or may not have reached it.
        let sealed = self.sealed.get(&room).copied().unwrap_or(0);
        self.check_heard(&mut live, sealed..said + 1);
        self.bookmark(&live);
        self.gone.push(tab);
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
            self.presences.get(&room).is_some_and(|presence| presence.here.iter().any(other));
        self.outside.insert(user_id);
        match self.story.post(session, room, "outside", None) {
            Ok((_, is_new)) => {
                assert!(is_new);
                self.seen.insert(if taken { "gave way to a post" } else { "posted from outside" });
            }
            Err(Refusal::NameTaken) => assert!(taken),
            Err(refusal) => assert!(matches!(refusal, Refusal::RateLimited(_))),
        }
    }

    fn delete(&mut self, session: SessionKey, room: RoomKey) {
        let said = self.story.sink.log(room).len();
        let deleted = self.story.delete(session, room);
        assert_eq!(deleted.is_ok(), self.owners[&room] == Some(session));
        assert_eq!(self.story.sink.log(room).len(), said, "nobody is told of anybody's leaving");
        if deleted.is_ok() {
            self.seen.insert("deleted");
        }
    }

    /// Its rooms pass to whoever has been present longest.
    fn end_session(&mut self, session: SessionKey) {
        self.story.end(session);
        self.read_logs();
        for (room, owner) in &mut self.owners {
            if *owner == Some(session) {
                let here = self.presences.get(room).map(|presence| &presence.here);
                let heir = here.and_then(|here| here.iter().min_by_key(|(_, (_, before))| *before));
                let is_heir = |other: &SessionKey| {
                    self.story.user_id(*other, *room).as_ref() == heir.map(|(user_id, _)| user_id)
                };
                *owner = heir.and_then(|_| self.sessions.iter().copied().find(is_heir));
                self.seen.insert(if owner.is_some() { "inherited" } else { "nobody's" });
            }
        }
    }

    /// When many things end at once, the model takes the owners as they are.
    fn read_owners(&mut self) {
        for (room, owner) in &mut self.owners {
            let mut sessions = self.story.chat.sessions.iter();
            let owning = sessions.find(|(_, session)| session.owned.contains(room));
            *owner = owning.map(|(session, _)| session);
        }
    }

    fn after_command(&mut self) {
        let before: HashMap<_, HashSet<_>> = self
            .presences
            .iter()
            .map(|(room, presence)| (*room, presence.here.keys().copied().collect()))
            .collect();
        self.read_logs();
        for place in 0..self.live.len() {
            let Live { tab, session, room, next: None, .. } = self.live[place] else { continue };
            let ear = self.story.sink.ear(tab.conn);
            let (Some(at), late) = (ear.admitted, ear.lines.iter().any(|l| l == "admitted")) else {
                continue;
            };
            let until = ear.until;
            if late {
                self.seen.insert("admitted late");
            }
            // The session may be over already; then its closing is all there is to look at.
            let join = if late { at } else { at.saturating_sub(1) };
            let user_id = self.story.sink.log(room).get(join).map(|said| said.user_id);
            let user_id = self.story.user_id(session, room).or(user_id).unwrap();
            let was_here = before.get(&room).is_some_and(|here| here.contains(&user_id));
            let other_tab =
                |live: &Live| (live.session, live.room) == (session, room) && live.next.is_some();
            let first = !was_here && !self.live.iter().any(other_tab);
            if was_here && self.broken.remove(&(room, user_id)).is_some() {
                self.seen.insert("came back");
            }
            // One let in late is told so first, and then its own join.
            let from = if first && !late { at - 1 } else { at };
            if first {
                let join = &self.story.sink.log(room)[from];
                assert!(join.line.starts_with("joined") && join.user_id == user_id);
            }
            assert!(until.is_none_or(|until| until == from), "pages end before the own join");
            self.begin(place, from);
        }
        for place in (0..self.live.len()).rev() {
            let Some((close, at)) = self.story.sink.ear(self.live[place].tab.conn).closed else {
                continue;
            };
            let mut live = self.live.remove(place);
            self.check_heard(&mut live, at..at + 1);
            self.bookmark(&live);
            self.gone.push(live.tab);
            match close {
                CloseReason::NameTaken => self.seen.insert("name taken"),
                CloseReason::Silent => self.seen.insert("silent"),
                _ => false,
            };
        }
        let story = &self.story;
        self.sessions.retain(|session| story.session_lives(*session));
        if self.rooms.iter().any(|room| !story.lives(*room)) {
            self.seen.insert("room over");
        }
        self.rooms.retain(|room| story.lives(*room));
        self.owners.retain(|room, _| story.lives(*room));
        self.locked.retain(|room| story.lives(*room));
        self.presences.retain(|room, _| story.lives(*room));
        self.broken.retain(|(room, _), _| story.lives(*room));
        let chat = &self.story.chat;
        self.story.sink.logs.retain(|room, _| chat.room_id(*room).is_some());
        let listed = chat.public_rooms().map(|room| (room.id, room.user_count)).collect();
        let listing = (chat.listing_revision(), listed);
        if listing.0 == self.listing.0 {
            assert_eq!(listing.1, self.listing.1, "another listing is another revision");
        }
        self.listing = listing;
        self.check_presence();
    }

    fn after_tick(&mut self) {
        for mut live in std::mem::take(&mut self.live) {
            let said = self.story.sink.log(live.room).len();
            self.check_heard(&mut live, said..said + 1);
            self.live.push(live);
        }
        for room in self.rooms.clone() {
            let log = self.story.sink.log(room);
            let kept: Vec<_> = kept(log).map(|place| log[place].line.clone()).collect();
            assert_eq!(self.story.history(room, 1000), kept);
        }
        if self.said % 128 == 0 {
            restarts::check(&self.story); // Takes long.
        }
    }

    fn end(&mut self) {
        while let Some(session) = self.sessions.first().copied() {
            self.end_session(session);
            self.after_command();
        }
        assert!(self.live.is_empty());
        self.story.wait(11 * MINUTE);
        self.after_command();
        self.story.assert_empty();
    }
}
