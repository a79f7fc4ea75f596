//! Thousands of random commands, with a plain model beside them.
//!
//! The model knows nothing of how the domain works. It has each room's log as it was published,
//! and holds that (1) the log makes sense by itself: people come before they speak, leave once,
//! and no two of one name are there together; (2) each connection has received one unbroken
//! stretch of it, from its own join or its admission up to its end; (3) who counts as present is
//! who the log says, and has a connection or lost it a moment ago; (4) the history is the log's
//! end. After the last command everything ends, and nothing is left.

use std::collections::{HashMap, HashSet};

use super::*;

const NAMES: [&str; 5] = ["ana", "ANA", "Ana", "bob", "zoe"];
const HISTORY: usize = 50;
const PEOPLE: u64 = 6;
const ROOMS: u64 = 3;

/// A connection that has come and whose end the model has not yet looked at.
#[derive(Clone, Copy)]
struct Live {
    tab: Tab,
    session: SessionKey,
    room: RoomKey,
    /// Place in the log of the first thing that is for it; `None` while it waits.
    from: Option<usize>,
}

#[derive(Default)]
struct Presence {
    /// How much of the log has been read.
    read: usize,
    here: HashMap<UserId, String>,
}

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
    broken: HashMap<(RoomKey, UserId), Now>,
    /// Each room's log was this long when the tick began.
    sealed: HashMap<RoomKey, usize>,
    said: usize,
    seen: HashSet<&'static str>,
}

#[test]
fn random_commands_keep_every_promise() {
    for seed in 0..8 {
        let mut model = Model::new(seed);
        println!("seed {seed}"); // Shown when it fails.
        for _ in 0..1000 {
            model.tick();
        }
        model.end();
        for rare in ["waited", "admitted late", "name taken", "came back", "silent", "room over"] {
            assert!(model.seen.contains(rare), "seed {seed} has never {rare}");
        }
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
        });
        Model {
            dice: SeededEntropy::new(seed),
            story,
            sessions: Vec::new(),
            rooms: Vec::new(),
            live: Vec::new(),
            gone: Vec::new(),
            presences: HashMap::new(),
            broken: HashMap::new(),
            sealed: HashMap::new(),
            said: 0,
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
        match (self.roll(100), session, room, tab) {
            (0..8, ..) if (self.sessions.len() as u64) < PEOPLE => {
                let name = NAMES[self.roll(NAMES.len() as u64) as usize];
                let session = self.story.person(name);
                self.sessions.push(session);
            }
            (8..12, Some(session), ..) if (self.rooms.len() as u64) < ROOMS => {
                let room = self.story.room(session);
                self.rooms.push(room);
            }
            (12, Some(session), ..) => self.story.end(session),
            (13..16, Some(session), Some(room), _) => self.story.leave(session, room),
            (16..20, Some(session), Some(room), _) => _ = self.story.join(session, room),
            (20..45, Some(session), Some(room), _) => self.enter(session, room),
            (45..53, _, _, Some(tab)) => self.exit(place, tab, Departure::Closed),
            (53..65, _, _, Some(tab)) => self.exit(place, tab, Departure::Broken),
            (65..85, _, _, Some(tab)) => {
                self.said += 1;
                let text = format!("{} ", self.said);
                let _ = self.story.try_say(tab, &text);
            }
            (85..88, _, _, Some(tab)) => self.story.typing(tab),
            (88..92, _, _, Some(tab)) => self.story.sign_of_life(tab),
            (92, Some(session), ..) => self.story.chat.touch(self.story.now, session),
            (93, ..) => {
                if let Some(tab) = self.pick(|model| &model.gone) {
                    let said = self.story.sink.last_id;
                    self.story.say(tab, "a ghost");
                    self.story.typing(tab);
                    self.story.break_line(tab);
                    assert_eq!(self.story.sink.last_id, said);
                }
            }
            (94.., ..) => {
                let (millis, weight) = (self.roll(2000), self.roll(1000));
                let times = match weight {
                    0..900 => 1,
                    900..980 => 100, // Rooms end.
                    980..998 => 700, // Rooms that nobody came to end.
                    _ => 100_000,    // Sessions end.
                };
                self.story.now = self.story.now.after(Duration::from_millis(millis * times));
                self.story.sweep();
            }
            _ => {}
        }
    }

    fn enter(&mut self, session: SessionKey, room: RoomKey) {
        let Ok((tab, admission)) = self.story.knock(session, room) else { return };
        if admission == Admission::Waiting {
            self.seen.insert("waited");
        }
        self.live.push(Live { tab, session, room, from: None });
    }

    fn exit(&mut self, place: usize, tab: Tab, departure: Departure) {
        let Live { session, room, from, .. } = self.live.remove(place);
        let user_id = self.story.user_id(session, room);
        if let (Departure::Broken, Some(user_id)) = (departure, user_id) {
            self.broken.insert((room, user_id), self.story.now);
        }
        let said = self.story.sink.log(room).len();
        self.story.exit(tab, departure);
        // What was said earlier in this tick may or may not have reached it.
        self.check_heard(tab, from, self.sealed.get(&room).copied().unwrap_or(0)..said + 1);
        self.gone.push(tab);
    }

    /// One unbroken stretch, from its admission to an end within `ends`.
    fn check_heard(&mut self, tab: Tab, from: Option<usize>, ends: std::ops::Range<usize>) {
        let heard = &self.story.sink.ear(tab.conn).heard;
        let Some(from) = from else { return assert!(heard.is_empty(), "it was never in") };
        let end = from + heard.len();
        assert!(heard.iter().copied().eq(from..end), "a gap, a duplicate or a disorder");
        assert!(ends.contains(&end) || heard.is_empty() && from >= ends.start, "not all of it");
    }

    fn after_command(&mut self) {
        let before: HashMap<_, HashSet<_>> = self
            .presences
            .iter()
            .map(|(room, presence)| (*room, presence.here.keys().copied().collect()))
            .collect();
        self.read_logs();
        for place in 0..self.live.len() {
            let Live { tab, session, room, from: None } = self.live[place] else { continue };
            let ear = self.story.sink.ear(tab.conn);
            let (Some(at), late) = (ear.admitted, ear.lines.iter().any(|l| l == "admitted")) else {
                continue;
            };
            if late {
                self.seen.insert("admitted late");
            }
            // The session may be over already; then its closing is all there is to look at.
            let join = if late { at } else { at.saturating_sub(1) };
            let user_id = self.story.sink.log(room).get(join).map(|said| said.user_id);
            let user_id = self.story.user_id(session, room).or(user_id).unwrap();
            let was_here = before.get(&room).is_some_and(|here| here.contains(&user_id));
            let other_tab =
                |live: &Live| (live.session, live.room) == (session, room) && live.from.is_some();
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
            self.live[place].from = Some(from);
        }
        for place in (0..self.live.len()).rev() {
            let Live { tab, from, .. } = self.live[place];
            let Some((close, at)) = self.story.sink.ear(tab.conn).closed else { continue };
            self.check_heard(tab, from, at..at + 1);
            self.live.remove(place);
            self.gone.push(tab);
            match close {
                Close::NameTaken => self.seen.insert("name taken"),
                Close::Silent => self.seen.insert("silent"),
                _ => false,
            };
        }
        let story = &self.story;
        self.sessions.retain(|session| story.session_lives(*session));
        if self.rooms.iter().any(|room| !story.lives(*room)) {
            self.seen.insert("room over");
        }
        self.rooms.retain(|room| story.lives(*room));
        self.presences.retain(|room, _| story.lives(*room));
        self.broken.retain(|(room, _), _| story.lives(*room));
        let chat = &self.story.chat;
        self.story.sink.logs.retain(|room, _| chat.rooms.get(*room).is_some());
        self.check_presence();
    }

    /// Each log makes sense by itself.
    fn read_logs(&mut self) {
        for (room, log) in &self.story.sink.logs {
            let Presence { read, here } = self.presences.entry(*room).or_default();
            for said in &log[*read..] {
                match said.line.split_once(' ') {
                    Some(("joined", name)) => {
                        let folded = name.to_lowercase();
                        assert!(here.values().all(|other| *other != folded), "two {name}");
                        assert!(here.insert(said.user_id, folded).is_none(), "joined twice");
                    }
                    Some(("left", _)) => {
                        assert!(here.remove(&said.user_id).is_some(), "left twice")
                    }
                    _ => assert!(here.contains_key(&said.user_id), "spoke from outside"),
                }
            }
            *read = log.len();
        }
    }

    fn check_presence(&self) {
        for room in &self.rooms {
            let nobody = Presence::default();
            let presence = self.presences.get(room).unwrap_or(&nobody);
            assert_eq!(self.story.user_count(*room), presence.here.len());
            let with_tab: HashSet<_> = self
                .live
                .iter()
                .filter(|live| live.room == *room && live.from.is_some())
                .map(|live| self.story.user_id(live.session, *room).expect("a member"))
                .collect();
            assert!(with_tab.iter().all(|user_id| presence.here.contains_key(user_id)));
            for user_id in presence.here.keys().filter(|user_id| !with_tab.contains(user_id)) {
                let broken = self.broken.get(&(*room, *user_id)).expect("present without reason");
                let over = broken.after(SETTINGS.leave_grace + GRAIN);
                assert!(self.story.now.mono < over.mono, "present for too long");
            }
        }
    }

    fn after_tick(&mut self) {
        for place in 0..self.live.len() {
            let Live { tab, room, from, .. } = self.live[place];
            let said = self.story.sink.log(room).len();
            self.check_heard(tab, from, said..said + 1);
        }
        for room in self.rooms.clone() {
            let log = self.story.sink.log(room).iter().filter(|said| said.id.is_some());
            let mut kept: Vec<_> = log.rev().take(HISTORY).map(|said| said.line.clone()).collect();
            kept.reverse();
            assert_eq!(self.story.history(room, 1000), kept);
        }
    }

    fn end(&mut self) {
        while let Some(session) = self.sessions.first().copied() {
            self.story.end(session);
            self.after_command();
        }
        assert!(self.live.is_empty());
        self.story.wait(11 * MINUTE);
        self.after_command();
        self.story.assert_empty();
    }
}
