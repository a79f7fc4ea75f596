//! A random town on one server, and a mirror that is told what happens there.
//!
//! Some connections are on this server, and so in both; the others are elsewhere, and so only in the
//! town. A room is adopted, in the middle of its life, when the first connection here asks to enter,
//! and dropped some time after the last has gone. Each connection here must receive from the mirror
//! what it receives from the town, byte for byte: live, in pages, and at its end.

use std::collections::HashSet;

use super::tape::{Fact, OwnedFacts, Tape, message_bytes};
use super::*;

const NAMES: [&str; 7] =
    ["ana", "ANA", "Ana", "bob", "zoe", "\u{c4}rzte", "a rather long name indeed"];
const HISTORY: usize = 24;
const PEOPLE: u64 = 8;
const ROOMS: u64 = 4;

/// An open connection, or one that waits.
#[derive(Clone, Copy)]
struct Line {
    conn: ConnKey,
    room: RoomKey,
    start: Start,
    /// In the town.
    attachment: AttachmentKey,
    is_here: bool,
    /// In the mirror, once it is admitted there.
    mirrored: Option<AttachmentKey>,
    person: (SessionId, UserId),
}

struct Town {
    random: SeededEntropy,
    now: Now,
    chat: Chat,
    mirror: Chat,
    left: Tape,
    right: Tape,
    ledgers: [Ledger; 2],
    conns: Slots<(), ConnTag>,
    sessions: Vec<SessionKey>,
    rooms: Vec<RoomKey>,
    ids: HashMap<RoomKey, RoomId>,
    lines: Vec<Line>,
    /// The names of all people.
    names: HashMap<UserId, Name>,
    /// The connections of each person here, by the mirror's exits.
    here: HashMap<(RoomId, UserId), usize>,
    /// The rooms whose histories are not loaded yet: the newest message when the room was adopted, and
    /// the newest that has been loaded.
    loading: HashMap<RoomKey, (Option<MessageId>, Option<MessageId>)>,
    bookmarks: Vec<MessageId>,
    nonces: u64,
    seen: HashSet<&'static str>,
}

#[test]
fn a_mirror_sends_each_connection_what_one_server_would() {
    let (seeds, ticks) =
        if std::env::var_os("SLOW_TESTS").is_some() { (60, 1500) } else { (6, 300) };
    let mut seen = HashSet::new();
    for seed in 0..seeds {
        println!("seed {seed}"); // Shown only if the test fails.
        let mut town = Town::new(seed);
        for _ in 0..ticks {
            town.tick();
        }
        town.end();
        seen.extend(town.seen);
    }
    for rare in [
        "adopted with messages",
        "adopted with people",
        "adopted again",
        "changed while loading",
        "deleted while loading",
        "dropped",
        "inherited here",
        "closed TooSlow",
        "closed LeftRoom",
        "closed Removed",
        "closed Silent",
        "closed NameTaken",
        "closed InvalidSession",
        "closed RoomDeleted",
        "closed RoomExpired",
        "a known nonce",
        "typing here",
        "a message forgotten",
        "caught up later",
        "changed without listeners",
        "several here",
    ] {
        assert!(seen.contains(rare), "never happened: {rare}");
    }
}

impl Town {
    fn new(seed: u64) -> Town {
        let mut config = SETTINGS;
        config.history_messages_max = HISTORY;
        let ledgers = [Ledger::new(), Ledger::with_ceiling(10_000_000)];
        let now =
            Now { mono: Mono::from_micros(5), wall: Wall::from_micros(1_755_611_100_123_456) };
        let entropy = || Box::new(SeededEntropy::new(seed + 1));
        Town {
            random: SeededEntropy::new(seed),
            now,
            chat: Chat::new(config, entropy(), &ledgers[0]),
            mirror: Chat::mirror(config, entropy(), &ledgers[1], message_bytes),
            left: Tape::default(),
            right: Tape::default(),
            ledgers,
            conns: Slots::default(),
            sessions: Vec::new(),
            rooms: Vec::new(),
            ids: HashMap::new(),
            lines: Vec::new(),
            names: HashMap::new(),
            here: HashMap::new(),
            loading: HashMap::new(),
            bookmarks: Vec::new(),
            nonces: 0,
            seen: HashSet::new(),
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.random.next_u64() % sides
    }

    fn pick<T: Copy>(&mut self, from: fn(&Town) -> &[T]) -> Option<T> {
        let len = from(self).len() as u64;
        let place = self.roll(len.max(1)) as usize;
        from(self).get(place).copied()
    }

    fn tick(&mut self) {
        for _ in 0..=self.roll(5) {
            self.command();
            self.replay();
            self.mirror.check_invariants();
        }
        let steps = self.roll(4) as usize;
        self.chat.end_members(self.now, steps, &mut self.left);
        self.mirror.end_members(self.now, steps, &mut self.right);
        self.mirror.check_invariants();
        self.chat.end_members(self.now, usize::MAX, &mut self.left);
        self.mirror.end_members(self.now, usize::MAX, &mut self.right);
        self.replay();
        for room in self.left.open_rooms() {
            self.chat.seal(room, &mut self.left);
        }
        for room in self.right.open_rooms() {
            self.mirror.seal(room, &mut self.right);
        }
        self.check();
        self.compare();
        if self.roll(20) == 0 {
            self.drop_rooms();
        }
    }

    fn command(&mut self) {
        let session = self.pick(|town| &town.sessions);
        let room = self.pick(|town| &town.rooms);
        let line = self.pick(|town| &town.lines);
        let now = self.now;
        if let (Some(room), 0) = (self.loading.keys().min().copied(), self.roll(6)) {
            if let Some(owner) = self.owner(room) {
                return self.delete_message(owner, room);
            }
        }
        match (self.roll(100), session, room, line) {
            (0..6, ..) => self.open_session(),
            (6..9, Some(session), ..) => self.open_room(session),
            (9, Some(session), ..) => self.chat.end_session(now, session, &mut self.left),
            (10..12, Some(session), Some(room), _) => {
                self.chat.leave(now, session, room, &mut self.left);
            }
            (12..34, Some(session), Some(room), _) => self.enter(session, room),
            (34..39, _, _, Some(line)) => self.exit(line, Departure::Closed),
            (39..45, _, _, Some(line)) => self.exit(line, Departure::Broken),
            (45..59, _, _, Some(line)) => self.post(line, false),
            (59..64, _, _, Some(line)) => self.post(line, true),
            (64..66, _, _, Some(line)) => (0..40).for_each(|_| self.post(line, false)),
            (66..69, _, _, Some(line)) => {
                self.chat.typing(now, line.attachment, &mut self.left);
            }
            (69..72, _, _, Some(line)) => {
                self.chat.on_sign_of_life(now, line.attachment, &mut self.left);
            }
            (72..79, _, _, Some(line)) => self.catch_up(line),
            (79..84, Some(session), Some(room), _) => {
                let draft = Draft::new("from outside", None).unwrap();
                let _ = self.chat.post_from_outside(now, session, room, draft, &mut self.left);
            }
            (84, Some(session), Some(room), _) => {
                let _ = self.chat.typing_from_outside(now, session, room, &mut self.left);
            }
            (85..88, Some(session), Some(room), _) => self.delete_message(session, room),
            (88..91, _, Some(room), _) => self.change(room),
            (91, _, Some(room), _) => self.remove(room),
            (92, _, Some(room), _) if self.roll(3) == 0 => {
                let _ = self.chat.delete_any_room(now, Some(room), &mut self.left);
            }
            (93, ..) => self.forget(),
            (94, _, Some(room), _) => {
                let count = self.roll(9) as usize;
                self.load(room, count);
            }
            (95.., ..) => {
                let millis = self.roll(2000) * [1, 1, 1, 1, 1, 1, 1, 100][self.roll(8) as usize];
                self.now = self.now.after(Duration::from_millis(millis));
                self.chat.sweep(self.now, usize::MAX, &mut self.left);
                self.mirror.sweep(self.now, usize::MAX, &mut self.right);
            }
            _ => {}
        }
    }

    fn open_session(&mut self) {
        if self.sessions.len() as u64 >= PEOPLE {
            return;
        }
        let name = Name::parse(NAMES[self.roll(NAMES.len() as u64) as usize]).unwrap();
        let id = self.chat.open_session(self.now, name, None, &mut self.left).unwrap();
        self.sessions.push(self.chat.session(id).unwrap());
    }

    fn open_room(&mut self, session: SessionKey) {
        if self.rooms.len() as u64 >= ROOMS {
            return;
        }
        let title = (self.roll(2) == 0).then(|| Title::parse("a \"title\"").unwrap());
        let options = RoomOptions {
            title,
            private: self.roll(3) == 0,
            ttl: (self.roll(3) == 0).then_some(5 * MINUTE),
            slow_mode: if self.roll(5) == 0 { 1 } else { 0 },
            encrypted: self.roll(6) == 0,
            ..RoomOptions::default()
        };
        let id = self.chat.open_room(self.now, session, options, None, &mut self.left).unwrap();
        let room = self.chat.room(id).unwrap();
        self.rooms.push(room);
        self.ids.insert(room, id);
    }

    fn start(&mut self) -> Start {
        match self.roll(6) {
            0 => Start::Live,
            1 => Start::Welcome,
            2 => Start::Last(self.random.next_u64() as usize % (HISTORY + 3)),
            3 => Start::After(None),
            _ => Start::After(self.pick(|town| &town.bookmarks)),
        }
    }

    fn enter(&mut self, session: SessionKey, room: RoomKey) {
        let mut is_here = self.roll(3) > 0;
        if is_here && self.mirrored(room).is_none() && self.roll(2) == 0 {
            return self.adopt(room);
        }
        if self.loading.contains_key(&room) {
            is_here &= self.roll(3) == 0;
        }
        if is_here {
            self.adopt(room);
            self.load(room, usize::MAX);
        }
        let (start, conn) = (self.start(), self.conns.insert(()));
        let user_id = self.chat.user_id(session, room).unwrap();
        self.names.insert(user_id, self.chat.name(session).unwrap().clone());
        let id = self.chat.sessions.get(session).unwrap().id;
        let (session_key, room_key) = (Some(session), Some(room));
        let request = JoinRequest {
            conn,
            session: session_key,
            room: room_key,
            share_exceeded: false,
            from: None,
            start,
        };
        // Facts about the connection may come at once, so the line is added first.
        let Ok((attachment, _)) = self.chat.enter(self.now, request, &mut self.left) else {
            return;
        };
        let person = (id, user_id);
        let mirrored = None;
        self.lines.push(Line { conn, room, start, attachment, is_here, mirrored, person });
    }

    /// The mirror's room.
    fn mirrored(&self, room: RoomKey) -> Option<RoomKey> {
        self.mirror.room(*self.ids.get(&room)?)
    }

    /// The same, unless messages are ignored because they will come with the history.
    fn loaded(&self, room: RoomKey) -> Option<RoomKey> {
        self.mirrored(room).filter(|_| !self.loading.contains_key(&room))
    }

    fn facts(&self, room: RoomKey) -> OwnedFacts {
        OwnedFacts::of(self.chat.room_info(room).unwrap(), self.chat.owner(room))
    }

    fn adopt(&mut self, room: RoomKey) {
        if self.mirrored(room).is_some() {
            self.seen.insert("adopted again");
            return;
        }
        let facts = self.facts(room);
        let people = self.chat.users(room).into_iter().map(|(id, name)| (id, name.into()));
        self.mirror.adopt(&facts.facts(), people);
        let newest = self.chat.feeds.history(room).and_then(|history| history.newest());
        self.loading.insert(room, (newest, None));
        if !self.chat.users(room).is_empty() {
            self.seen.insert("adopted with people");
        }
        self.mirror.check_invariants();
    }

    /// Loads the next messages of a room: those that it had when it was adopted change nothing, and later
    /// ones are applied.
    fn load(&mut self, room: RoomKey, mut count: usize) {
        let Some((base, cursor)) = self.loading.get(&room).copied() else { return };
        let Some(key) = self.mirrored(room) else { return };
        let (history, store) =
            (self.chat.feeds.history(room).unwrap(), &self.chat.feeds.archive().store);
        if history.dropped() > base.max(cursor) {
            // Presences may have been lost: begin anew.
            assert!(self.mirror.drop_mirrored(self.now, key, &mut self.right));
            self.loading.remove(&room);
            self.adopt(room);
            return self.load(room, count);
        }
        let mut copies = MessageCopies::of(self.ids[&room]);
        let mut place = history.after(store, cursor);
        while let Some(at) = place.filter(|_| count > 0) {
            history.copy(store, at, &mut copies);
            place = history.next(store, at);
            count -= 1;
        }
        let mut last = cursor;
        for message in copies.iter() {
            match Some(message.id) <= base {
                true => assert!(self.mirror.load(key, &message)),
                false => assert!(self.mirror.apply(key, &message, &mut self.right)),
            }
            let is_new = Some(message.id) > base;
            let deleted = match message.kind {
                MessageKind::MessageDeleted(target) => Some(target),
                _ => None,
            };
            if is_new && deleted.is_some() && deleted <= base {
                self.seen.insert("deleted while loading");
            }
            if is_new {
                self.seen.insert("changed while loading");
            }
            last = Some(message.id);
            self.seen.insert("adopted with messages");
        }
        match place {
            Some(_) => _ = self.loading.insert(room, (base, last)),
            None => _ = self.loading.remove(&room),
        }
        self.mirror.check_invariants();
        if place.is_none() {
            let len = self.mirror.feeds.history(key).unwrap().len();
            while self.chat.feeds.history(room).unwrap().len() > len {
                self.chat.feeds.drop_first_message(room); // Memory was short here.
            }
        }
    }

    /// Forgets some of the rooms in which nobody is present on this server.
    fn drop_rooms(&mut self) {
        for room in self.rooms.clone() {
            let is_used = self.lines.iter().any(|line| line.is_here && line.room == room);
            let Some(key) = self.mirrored(room).filter(|_| !is_used) else { continue };
            assert!(self.mirror.drop_mirrored(self.now, key, &mut self.right));
            assert_eq!(self.mirrored(room), None);
            self.loading.remove(&room);
            self.mirror.check_invariants();
            self.seen.insert("dropped");
        }
    }

    fn exit(&mut self, line: Line, departure: Departure) {
        self.lines.retain(|other| other.conn != line.conn);
        // The sinks are told nothing of a connection that has ended by itself.
        self.chat.exit(self.now, line.attachment, departure, &mut self.left);
        if let Some(mirrored) = line.mirrored {
            self.mirror.exit(self.now, mirrored, departure, &mut self.right);
            let exit = self.mirror.take_exits().pop().expect("the connection has ended");
            let has_ended = self.mirror.room(exit.room).is_none();
            assert_eq!((exit.departure, exit.is_decided), (departure, has_ended));
            self.on_exit(exit);
        }
        // What the last batch would have been is unknown.
        self.left.news(line.conn);
        self.right.news(line.conn);
    }

    fn on_exit(&mut self, exit: MirrorExit) {
        let count = self.here.get_mut(&(exit.room, exit.user_id)).expect("a connection");
        *count -= 1;
        assert_eq!(*count == 0, exit.is_last_of_person);
        let is_last = exit.is_last_of_room;
        if self.mirror.room(exit.room).is_some() {
            let others =
                self.here.iter().filter(|((room, _), count)| *room == exit.room && **count > 0);
            assert!(!is_last || others.count() == 0);
        }
    }

    fn catch_up(&mut self, line: Line) {
        let was_catching_up = self.left.is_catching_up(line.conn);
        self.chat.catch_up(self.now, line.attachment, &mut self.left);
        if let Some(mirrored) = line.mirrored {
            self.mirror.catch_up(self.now, mirrored, &mut self.right);
            if was_catching_up && !self.left.is_catching_up(line.conn) {
                self.seen.insert("caught up later");
            }
        }
    }

    fn post(&mut self, line: Line, with_nonce: bool) {
        let nonce = self.nonces.saturating_sub(self.random.next_u64() % 3) / 2;
        self.nonces += u64::from(with_nonce);
        let nonce = with_nonce.then(|| format!("n{nonce}"));
        let envelope = format!("e1.{}", "A".repeat(123));
        let text = match self.roll(8) {
            0 => "x".repeat(4001),
            1..4 => "🦀".repeat(3900),
            4 => envelope,
            _ => format!("text {}", self.nonces),
        };
        let facts = self.left.facts.len();
        let posted =
            self.chat.post(self.now, line.attachment, &text, nonce.as_deref(), &mut self.left);
        let Some(mirrored) = line.mirrored else { return };
        match self.mirror.draft_for(mirrored, &text, nonce.as_deref()) {
            Err(refusal) => return assert_eq!(posted, Err(refusal)),
            Ok(draft) => {
                if let Some((person, draft)) = draft {
                    assert_eq!((person.session, person.user_id), line.person);
                    assert_eq!((draft.text(), draft.nonce()), (text.trim(), nonce.as_deref()));
                    assert_eq!(person.name, &self.names[&person.user_id]);
                }
            }
        }
        if let (Ok(()), Some(nonce), true) = (posted, nonce, self.left.facts.len() == facts) {
            let (Some(history), store) =
                (self.chat.feeds.history(line.room), &self.chat.feeds.archive().store)
            else {
                return;
            };
            let Some(place) = history.find(store, line.person.1, &nonce) else { return };
            let mut copy = MessageCopies::of(self.ids[&line.room]);
            history.copy(store, place, &mut copy);
            for message in copy.iter() {
                self.mirror.repeat_mirrored(mirrored, &message, &mut self.right);
            }
            self.seen.insert("a known nonce");
        }
    }

    fn delete_message(&mut self, session: SessionKey, room: RoomKey) {
        let mut reading = self.chat.history(room, 6);
        let Some(copies) = self.chat.read_on(&mut reading, usize::MAX) else { return };
        let chats = copies.iter().filter(|message| matches!(message.kind, MessageKind::Chat(_)));
        let ids: Vec<_> = chats.map(|message| message.id).collect();
        let Some(id) = ids.first().copied() else { return };
        let (now, room, id) = (self.now, Some(room), Some(id));
        let _ = self.chat.delete_message(now, session, room, id, message_bytes, &mut self.left);
    }

    fn owner(&self, room: RoomKey) -> Option<SessionKey> {
        self.chat.feeds.room(room)?.owner.map(|(owner, _)| owner)
    }

    fn change(&mut self, room: RoomKey) {
        let Some(owner) = self.owner(room) else { return };
        let heir = self.pick(|town| &town.sessions);
        let heir = heir.and_then(|heir| self.chat.user_id(heir, room));
        let title = Title::parse(["one", "another", "a \\ third"][self.roll(3) as usize]).unwrap();
        let mut changes = RoomChanges::default();
        match self.roll(6) {
            0 => changes.title = Some(Some(title)),
            1 => changes.title = Some(None),
            2 => changes.locked = Some(self.roll(3) == 0),
            3 => changes.slow_mode = Some(self.roll(3) as u16),
            4 => changes.password = Some((self.roll(4) == 0).then(|| "secret".into())),
            _ => changes.owner = Some(heir),
        }
        let (now, room) = (self.now, Some(room));
        let _ = self.chat.change_room(now, owner, room, changes, &mut self.left);
    }

    fn remove(&mut self, room: RoomKey) {
        let Some(other) = self.pick(|town| &town.sessions) else { return };
        let user_id = self.chat.user_id(other, room);
        let (now, room) = (self.now, Some(room));
        let _ = self.chat.remove_user(now, None, room, user_id, None, &mut self.left);
    }

    /// Memory is short in the mirror, and the town forgets the same messages.
    fn forget(&mut self) {
        let mut rest = self.ledgers[1].tally(Account::Connections);
        rest.set(10_000_000 / 100 * 81 - self.ledgers[1].total());
        if self.mirror.forget() > 0 {
            self.seen.insert("a message forgotten");
        }
        drop(rest);
        for room in self.rooms.clone() {
            let Some(key) = self.loaded(room) else { continue };
            let len = self.mirror.feeds.history(key).unwrap().len();
            while self.chat.feeds.history(room).unwrap().len() > len {
                self.chat.feeds.drop_first_message(room);
            }
        }
        self.mirror.compact();
    }

    /// Tells the mirror what has happened in the town.
    fn replay(&mut self) {
        let facts = std::mem::take(&mut self.left.facts);
        for (place, fact) in facts.iter().enumerate() {
            self.take_exits();
            match fact {
                Fact::Message(room, copy) => {
                    let message = copy.iter().next().expect("one message");
                    if self.roll(4) == 0 {
                        self.bookmarks.push(message.id);
                    }
                    if let Some(room) = self.loaded(*room) {
                        assert!(self.mirror.apply(room, &message, &mut self.right));
                        assert_eq!(self.mirror.newest(room), message.id.place());
                        assert!(!self.mirror.apply(room, &message, &mut self.right));
                    }
                }
                Fact::Typing(room, user_id, name) => {
                    let Some(room) = self.loaded(*room) else { continue };
                    let (now, name, sink) = (self.now, name.as_str(), &mut self.right);
                    assert!(self.mirror.typing_mirrored(
                        now,
                        room,
                        (*user_id, name.into()),
                        Duration::ZERO,
                        sink
                    ));
                    assert!(!self.mirror.typing_mirrored(
                        now,
                        room,
                        (*user_id, name.into()),
                        Duration::ZERO,
                        sink
                    ));
                    self.seen.insert("typing here");
                }
                Fact::Changed(room, facts) => {
                    if let Some(room) = self.mirrored(*room) {
                        self.mirror.change_mirrored(room, &facts.facts(), &mut self.right);
                    }
                }
                Fact::Placed(conn) => self.admit(*conn, &facts[place + 1..]),
                Fact::Closed(conn, reason) => self.close(*conn, *reason),
                Fact::Ended(room) => {
                    let reason = self.chat.end_reason(*room);
                    self.loading.remove(room);
                    if let Some(room) = self.mirrored(*room) {
                        self.mirror.end_mirrored(self.now, room, reason, &mut self.right);
                    }
                }
            }
        }
        self.take_exits();
        let (chat, right) = (&self.chat, &self.right);
        self.lines.retain(|line| {
            chat.feeds.attachments.get(line.attachment).is_some()
                || !right.is_closed(line.conn) && line.mirrored.is_some()
        });
        self.sessions.retain(|session| chat.name(*session).is_some());
        self.rooms
            .retain(|room| chat.room_info(*room).is_some_and(|info| chat.room(info.id).is_some()));
        self.sync();
    }

    fn take_exits(&mut self) {
        for exit in self.mirror.take_exits() {
            self.on_exit(exit);
        }
    }

    fn admit(&mut self, conn: ConnKey, later: &[Fact]) {
        let place = self.lines.iter().position(|line| line.conn == conn && line.is_here);
        let Some(place) = place else { return };
        let Line { room, start, person: (session, user_id), .. } = self.lines[place];
        let Some(key) = self.mirrored(room) else { return };
        let inherits = match later {
            [Fact::Message(..), Fact::Changed(_, facts), ..] => {
                self.mirror.owner(key).is_none() && facts.owner == Some(user_id)
            }
            _ => false,
        };
        if inherits {
            self.seen.insert("inherited here");
        }
        let name = self.names[&user_id].clone();
        let user = name.shown();
        let admission = MirrorAdmission { conn, user_id, user, session, start, inherits };
        let admitted = self.mirror.admit_mirrored(self.now, key, admission, &mut self.right);
        let attachment = admitted.expect("the room is mirrored");
        self.lines[place].mirrored = Some(attachment);
        let count = self.here.entry((self.ids[&room], user_id)).or_default();
        *count += 1;
        if *count > 1 {
            self.seen.insert("several here");
        }
        let own = self.mirror.person_of(attachment).unwrap();
        assert_eq!((own.session, own.user_id, own.is_present), (session, user_id, true));
    }

    fn close(&mut self, conn: ConnKey, reason: CloseReason) {
        let Some(line) = self.lines.iter().find(|line| line.conn == conn && line.is_here).copied()
        else {
            return;
        };
        let seen = format!("closed {reason:?}");
        self.seen.insert(seen.leak());
        if line.mirrored.is_none() {
            return self.right.close(conn, reason); // It has only waited.
        }
        if reason == CloseReason::TooSlow || reason.is_end() {
            return; // The mirror closes it.
        }
        if let Some(room) = self.mirrored(line.room) {
            let user_id = line.person.1;
            match reason {
                CloseReason::InvalidSession => {
                    self.mirror.close_session(self.now, line.person.0, &mut self.right)
                }
                _ => self.mirror.close_person(self.now, room, user_id, reason, &mut self.right),
            };
        }
    }

    /// A change that nobody listens to is not published.
    fn sync(&mut self) {
        for room in self.rooms.clone() {
            let Some(key) = self.loaded(room) else { continue };
            let facts = self.facts(room);
            let mirrored =
                OwnedFacts::of(self.mirror.room_info(key).unwrap(), self.mirror.owner(key));
            if mirrored != facts {
                assert_eq!(self.chat.connection_count(room), 0, "{mirrored:?} {facts:?}");
                self.mirror.change_mirrored(key, &facts.facts(), &mut self.right);
                self.seen.insert("changed without listeners");
            }
        }
        self.right.facts.clear();
    }

    fn check(&mut self) {
        self.chat.check_invariants();
        self.mirror.check_invariants();
        for room in &self.rooms {
            let Some(key) = self.loaded(*room) else { continue };
            assert_eq!(self.facts(*room), {
                let info = self.mirror.room_info(key).unwrap();
                OwnedFacts::of(info, self.mirror.owner(key))
            });
            let users = |chat: &Chat, room| {
                let users = chat.users(room).into_iter().map(|(id, name)| (id, name.to_owned()));
                users.collect::<Vec<_>>()
            };
            assert_eq!(users(&self.chat, *room), users(&self.mirror, key));
            let read = |chat: &Chat, room| {
                let mut reading = chat.history(room, usize::MAX);
                let copies = chat.read_on(&mut reading, usize::MAX).unwrap();
                assert!(reading.is_done());
                copies
            };
            let [left, right] = [read(&self.chat, *room), read(&self.mirror, key)];
            let parts = |message: Message<'_>| {
                (message.id, message.user_id, message.wall, message.nonce.map(str::to_owned))
            };
            assert!(left.iter().map(parts).eq(right.iter().map(parts)));
            assert!(left.iter().map(|one| one.user).eq(right.iter().map(|one| one.user)));
            assert!(left.iter().map(|one| one.kind).eq(right.iter().map(|one| one.kind)));
            let bytes = |chat: &Chat, room| chat.extent(&chat.history(room, usize::MAX), 10);
            assert_eq!(
                format!("{:?}", bytes(&self.chat, *room)),
                format!("{:?}", bytes(&self.mirror, key))
            );
            let here = self.mirror.people_here(key).count();
            let lines = self.lines.iter().filter(|line| line.room == *room);
            let people: HashSet<_> =
                lines.filter(|line| line.mirrored.is_some()).map(|line| line.person.1).collect();
            assert_eq!(here, people.len());
        }
        let count: usize = self.mirror.sessions_here().iter().map(|(_, count)| count).sum();
        assert_eq!(count, self.mirror.feeds.attachments.len());
    }

    fn compare(&mut self) {
        let conns: Vec<_> = self.conns.iter().map(|(conn, ())| conn).collect();
        for conn in conns {
            let is_here = self.right.received.contains_key(&conn)
                || self.lines.iter().any(|line| line.conn == conn && line.mirrored.is_some());
            let left = self.left.news(conn);
            if is_here {
                assert_eq!(left, self.right.news(conn), "{conn:?}");
                assert_eq!(self.left.is_closed(conn), self.right.is_closed(conn));
                assert_eq!(self.left.is_catching_up(conn), self.right.is_catching_up(conn));
            }
        }
    }

    fn end(&mut self) {
        while let Some(line) = self.lines.first().copied() {
            self.exit(line, Departure::Closed);
            self.replay();
        }
        self.tick_end();
        for room in self.rooms.clone() {
            self.chat.delete_any_room(self.now, Some(room), &mut self.left).unwrap();
        }
        self.tick_end();
        let mirrored: Vec<_> = self.mirror.mirrored_rooms().collect();
        assert_eq!(mirrored, []);
        let mirror = &self.mirror;
        let counts = [mirror.session_count(), mirror.room_count(), mirror.member_count()];
        assert_eq!((counts, mirror.feeds.attachments.len(), mirror.timer_count()), ([0; 3], 0, 0));
        assert_eq!(self.ledgers[1].total(), 0);
    }

    fn tick_end(&mut self) {
        self.replay();
        self.chat.end_members(self.now, usize::MAX, &mut self.left);
        self.mirror.end_members(self.now, usize::MAX, &mut self.right);
        self.replay();
        for room in self.right.open_rooms() {
            self.mirror.seal(room, &mut self.right);
        }
        self.check();
    }
}
