//! What a server of chats is, in plain words: lists, looked through from front to back.
//!
//! Owns who is where, who owns what, when what ends, and who is one too many. Must never know how
//! the server does any of that. Each command says what it must be answered with and does what
//! must have come of it.

use std::collections::BTreeMap;
use std::time::Duration;

use disposable_chat::clock::Mono;
use disposable_chat::config::{Config, Rate};

/// A status or a close code, and the code beside it, if any.
pub type Expected = (u16, &'static str);

const UNAUTHORIZED: Expected = (401, "invalid_session");
const NOT_FOUND: Expected = (404, "room_not_found");
const LIMITED: Expected = (429, "rate_limited");
const FULL: Expected = (503, "server_full");
pub const OK: Expected = (200, "");
const CREATED: Expected = (201, "");

/// Whose share something counts against; `None`: nobody's.
pub type Share = Option<u8>;

/// A session is called by the number of its person, a room by its place among all that ever were.
pub struct Session {
    pub name: String,
    /// In the order of joining.
    pub rooms: Vec<usize>,
    /// Clients, in the order of coming.
    pub sockets: Vec<usize>,
    timer: Option<Timer>,
    meter: Mono,
}

pub struct Room {
    pub password: Option<&'static str>,
    pub private: bool,
    pub owner: Option<usize>,
    pub members: Vec<usize>,
    /// Who is present, in the order of coming, and until when if their line is broken.
    pub present: Vec<(usize, Option<Timer>)>,
    /// Clients.
    pub sockets: Vec<usize>,
    /// All that was ever said, and by whose nonce.
    pub log: Vec<(String, Option<(usize, String)>)>,
    timer: Option<Timer>,
    guesses: BTreeMap<Share, Mono>,
}

#[derive(Clone, Copy)]
pub struct Socket {
    pub person: usize,
    pub room: usize,
    pub share: Share,
    /// Where in the log it began to hear.
    pub from: usize,
}

/// When; which comes first of several; and in which order they were armed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    deadline: Mono,
    class: u8,
    number: u64,
}

enum Due {
    Session(usize),
    Room(usize),
    Grace(usize, usize),
}

pub struct Model {
    pub now: Mono,
    config: Config,
    pub sessions: BTreeMap<usize, Session>,
    pub rooms: BTreeMap<usize, Room>,
    /// By client.
    pub sockets: BTreeMap<usize, Socket>,
    session_meters: BTreeMap<Share, Mono>,
    room_meters: BTreeMap<Share, Mono>,
    timers: u64,
}

impl Model {
    pub fn new(now: Mono, config: &Config) -> Model {
        Model {
            now,
            config: config.clone(),
            sessions: BTreeMap::new(),
            rooms: BTreeMap::new(),
            sockets: BTreeMap::new(),
            session_meters: BTreeMap::new(),
            room_meters: BTreeMap::new(),
            timers: 0,
        }
    }

    // ---- Time

    /// All that is due by now, the most overdue first.
    pub fn sweep(&mut self) {
        while let Some((_, due)) = self.next_due().filter(|(timer, _)| timer.deadline <= self.now) {
            match due {
                Due::Session(person) => self.remove_session(person),
                Due::Room(room) => self.remove_room(room),
                Due::Grace(room, person) => self.depart(room, person),
            }
        }
    }

    /// When something is next due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.next_due().map(|(timer, _)| timer.deadline)
    }

    fn next_due(&self) -> Option<(Timer, Due)> {
        let sessions = self.sessions.iter().filter_map(|(person, session)| {
            session.timer.map(|timer| (timer, Due::Session(*person)))
        });
        let rooms = self.rooms.iter();
        let rooms =
            rooms.filter_map(|(room, entry)| entry.timer.map(|timer| (timer, Due::Room(*room))));
        let graces = self.rooms.iter().flat_map(|(room, entry)| {
            let present = entry.present.iter();
            present.filter_map(|(person, grace)| {
                grace.map(|timer| (timer, Due::Grace(*room, *person)))
            })
        });
        sessions.chain(rooms).chain(graces).min_by_key(|(timer, _)| *timer)
    }

    fn arm(&mut self, class: u8, timeout: Duration) -> Option<Timer> {
        const GRAIN: u64 = 50_000;
        self.timers += 1;
        let due = self.now.after(timeout).micros().div_ceil(GRAIN) * GRAIN;
        Some(Timer { deadline: Mono::from_micros(due), class, number: self.timers })
    }

    /// Counts one occurrence, if so many a second, or a burst, allow it.
    fn take(meter: &mut Mono, rate: Rate, period: Duration, now: Mono) -> bool {
        if rate.per_second == 0 {
            return true;
        }
        let interval = (period / rate.per_second).as_micros() as u64;
        let due = (*meter).max(now).micros();
        if due > now.micros() + interval * u64::from(rate.burst - 1) {
            return false;
        }
        *meter = Mono::from_micros(due + interval);
        true
    }

    // ---- Connections

    /// What another connection of this share is told, if it is one too many.
    pub fn on_arrival(&self, share: Share) -> Option<Expected> {
        if self.sockets.len() >= self.config.connections_max.unwrap_or(usize::MAX) {
            return Some(FULL);
        }
        let of_share = self.sockets.values().filter(|socket| socket.share == share).count();
        let max = self.config.address_connections_max.unwrap_or(usize::MAX);
        (share.is_some() && of_share >= max).then_some(LIMITED)
    }

    // ---- Sessions

    pub fn open_session(&mut self, person: usize, name: &str, share: Share) -> Expected {
        if self.sessions.len() >= self.config.sessions_max {
            return FULL;
        }
        let meter = self.session_meters.entry(share).or_default();
        let (rate, second) = (self.config.session_rate, Duration::from_secs(1));
        if share.is_some() && !Self::take(meter, rate, second, self.now) {
            return LIMITED;
        }
        let timer = self.arm(0, self.config.session_ttl);
        let session = Session {
            name: name.to_owned(),
            rooms: Vec::new(),
            sockets: Vec::new(),
            timer,
            meter: Mono::ZERO,
        };
        self.sessions.insert(person, session);
        CREATED
    }

    /// The session is used, if it lives.
    pub fn touch(&mut self, person: usize) -> Expected {
        let timer = self.arm(0, self.config.session_ttl);
        let Some(session) = self.sessions.get_mut(&person) else { return UNAUTHORIZED };
        if session.timer.is_some() {
            session.timer = timer;
        }
        OK
    }

    pub fn remove_session(&mut self, person: usize) {
        let Some(session) = self.sessions.get(&person) else { return };
        for client in session.sockets.clone() {
            self.close(client, true);
        }
        while let Some(room) = self.sessions[&person].rooms.first().copied() {
            self.remove_member(room, person);
        }
        for room in self.rooms.values_mut().filter(|room| room.owner == Some(person)) {
            room.owner = room.present.first().map(|(heir, _)| *heir);
        }
        self.sessions.remove(&person);
    }

    // ---- Rooms

    pub fn open_room(
        &mut self,
        number: usize,
        person: usize,
        private: bool,
        password: Option<&'static str>,
        share: Share,
    ) -> Expected {
        if self.touch(person) != OK {
            return UNAUTHORIZED;
        }
        if self.rooms.len() >= self.config.rooms_max {
            return FULL;
        }
        let meter = self.room_meters.entry(share).or_default();
        let (rate, second) = (self.config.room_rate, Duration::from_secs(1));
        if share.is_some() && !Self::take(meter, rate, second, self.now) {
            return LIMITED;
        }
        let timer = self.arm(2, self.config.new_room_ttl);
        let room = Room {
            password,
            private: private || password.is_some(),
            owner: Some(person),
            members: Vec::new(),
            present: Vec::new(),
            sockets: Vec::new(),
            log: Vec::new(),
            timer,
            guesses: BTreeMap::new(),
        };
        self.rooms.insert(number, room);
        self.insert_member(number, person);
        CREATED
    }

    fn insert_member(&mut self, room: usize, person: usize) {
        let entry = self.rooms.get_mut(&room).expect("a room");
        if !entry.members.contains(&person) {
            entry.members.push(person);
            self.sessions.get_mut(&person).expect("a session").rooms.push(room);
        }
    }

    pub fn join(
        &mut self,
        room: usize,
        person: usize,
        password: Option<&str>,
        share: Share,
    ) -> Expected {
        if self.touch(person) != OK {
            return UNAUTHORIZED;
        }
        let Some(entry) = self.rooms.get_mut(&room) else { return NOT_FOUND };
        if let (Some(right), false) = (entry.password, entry.members.contains(&person)) {
            let Some(password) = password else { return (403, "bad_password") };
            let rate = Rate { per_second: self.config.guess_rate, burst: 5 };
            let mut meter = entry.guesses.get(&share).copied().unwrap_or_default();
            if !Self::take(&mut meter, rate, Duration::from_secs(60), self.now) {
                return LIMITED;
            }
            if password != right {
                entry.guesses.insert(share, meter);
                return (403, "bad_password");
            }
        }
        self.insert_member(room, person);
        OK
    }

    /// Whether somebody may look into a room.
    pub fn read(&mut self, room: usize, person: usize) -> Expected {
        if self.touch(person) != OK {
            return UNAUTHORIZED;
        }
        self.gate(room, person).unwrap_or(OK)
    }

    fn gate(&self, room: usize, person: usize) -> Option<Expected> {
        match self.rooms.get(&room) {
            None => Some(NOT_FOUND),
            Some(room) if room.password.is_some() && !room.members.contains(&person) => {
                Some((403, "not_a_member"))
            }
            Some(_) => None,
        }
    }

    pub fn leave(&mut self, room: usize, person: usize) -> Expected {
        if self.touch(person) != OK {
            return UNAUTHORIZED;
        }
        for client in self.sessions[&person].sockets.clone() {
            if self.sockets[&client].room == room {
                self.close(client, true);
            }
        }
        self.remove_member(room, person);
        OK
    }

    pub fn delete_room(&mut self, room: usize, person: usize) -> Expected {
        if self.touch(person) != OK {
            return UNAUTHORIZED;
        }
        let Some(entry) = self.rooms.get_mut(&room) else { return NOT_FOUND };
        if entry.owner != Some(person) {
            return (403, "not_the_owner");
        }
        entry.present.clear(); // Nobody is told of anybody's leaving.
        for client in entry.sockets.clone() {
            self.close(client, true);
        }
        self.remove_room(room);
        OK
    }

    fn remove_member(&mut self, room: usize, person: usize) {
        self.depart(room, person);
        if let Some(room) = self.rooms.get_mut(&room) {
            room.members.retain(|member| *member != person);
        }
        self.sessions.get_mut(&person).expect("a session").rooms.retain(|other| *other != room);
    }

    fn remove_room(&mut self, room: usize) {
        self.rooms.remove(&room);
        for session in self.sessions.values_mut() {
            session.rooms.retain(|other| *other != room);
        }
    }

    // ---- Sockets

    /// What a connection that wants in is closed with; or it is in.
    pub fn enter(
        &mut self,
        client: usize,
        socket: Socket,
        back: Option<usize>,
        last: usize,
        over: bool,
    ) -> Option<u16> {
        let Socket { person, room, .. } = socket;
        let Some(session) = self.sessions.get(&person) else { return Some(4401) };
        match self.gate(room, person) {
            Some((404, _)) => return Some(4404),
            Some(_) => return Some(4403),
            None if over || session.sockets.len() >= 20 => return Some(4429),
            None => {}
        }
        if let Some(holder) = self.holder(room, person) {
            if self.is_connected(room, holder) {
                self.touch(person); // It was open while it waited; the holder answers at once.
                return Some(4409);
            }
            self.depart(room, holder);
        }
        self.insert_member(room, person);
        let session = self.sessions.get_mut(&person).expect("a session");
        session.timer = None;
        session.sockets.push(client);
        let name = session.name.clone();
        let entry = self.rooms.get_mut(&room).expect("a room");
        entry.timer = None;
        entry.sockets.push(client);
        let kept = entry.log.len().saturating_sub(self.config.history_messages_max);
        // Who comes back to what is not kept any more gets all that is.
        let from = back.map_or(entry.log.len() - last.min(entry.log.len()), |back| back + 1);
        self.sockets.insert(client, Socket { from: from.max(kept), ..socket });
        match entry.present.iter_mut().find(|(other, _)| *other == person) {
            Some((_, grace)) => *grace = None,
            None => {
                entry.present.push((person, None));
                entry.log.push((format!("{name} has joined"), None));
            }
        }
        None
    }

    /// Somebody else present who bears the same name.
    fn holder(&self, room: usize, person: usize) -> Option<usize> {
        let name = |person: &usize| self.sessions[person].name.to_lowercase();
        let present = self.rooms[&room].present.iter().map(|(other, _)| *other);
        present.into_iter().find(|other| *other != person && name(other) == name(&person))
    }

    fn is_connected(&self, room: usize, person: usize) -> bool {
        let sockets = self.sessions[&person].sockets.iter();
        sockets.into_iter().any(|client| self.sockets[client].room == room)
    }

    /// A socket has ended; `closed`: by a close, so that nobody waits for it to come back.
    pub fn close(&mut self, client: usize, closed: bool) {
        let Some(Socket { person, room, .. }) = self.sockets.remove(&client) else { return };
        let unused = self.arm(0, self.config.session_ttl);
        let session = self.sessions.get_mut(&person).expect("a session");
        session.sockets.retain(|other| *other != client);
        if session.sockets.is_empty() {
            session.timer = unused;
        }
        let empty = self.arm(1, self.config.room_ttl);
        let entry = self.rooms.get_mut(&room).expect("a room");
        entry.sockets.retain(|other| *other != client);
        if entry.sockets.is_empty() {
            entry.timer = empty;
        }
        if self.is_connected(room, person) {
            return;
        }
        if closed || self.config.leave_grace.is_zero() {
            return self.depart(room, person);
        }
        let grace = self.arm(3, self.config.leave_grace);
        let present = &mut self.rooms.get_mut(&room).expect("a room").present;
        if let Some((_, until)) = present.iter_mut().find(|(other, _)| *other == person) {
            *until = grace;
        }
    }

    /// Who is present no longer is.
    fn depart(&mut self, room: usize, person: usize) {
        let Some(entry) = self.rooms.get_mut(&room) else { return };
        let Some(place) = entry.present.iter().position(|(other, _)| *other == person) else {
            return;
        };
        entry.present.remove(place);
        entry.log.push((format!("{} has left", self.sessions[&person].name), None));
    }

    // ---- What is said

    /// From a socket. What its sender is told: this text, or the one that they have said before.
    pub fn say(&mut self, client: usize, text: &str, nonce: &str) -> Result<String, Expected> {
        let Socket { person, room, .. } = self.sockets[&client];
        let by = Some((person, nonce.to_owned()));
        let before = self.kept(room).iter().find(|(_, known)| *known == by);
        let before = before.map(|(text, _)| text.clone());
        match self.speak(room, person, text, nonce) {
            OK | CREATED => Ok(before.unwrap_or_else(|| text.to_owned())),
            refused => Err(refused),
        }
    }

    /// By REST.
    pub fn post(&mut self, room: usize, person: usize, text: &str, nonce: &str) -> Expected {
        if self.touch(person) != OK {
            return UNAUTHORIZED;
        }
        match self.rooms.get(&room) {
            None => return NOT_FOUND,
            Some(room) if !room.members.contains(&person) => return (403, "not_a_member"),
            Some(_) => {}
        }
        let present = self.rooms[&room].present.iter().any(|(other, _)| *other == person);
        let holder = self.holder(room, person).filter(|_| !present);
        if holder.is_some_and(|holder| self.is_connected(room, holder)) {
            return (409, "name_taken");
        }
        let said = self.speak(room, person, text, nonce);
        if said == LIMITED {
            return said;
        }
        if let Some(timer) = self.rooms[&room].timer {
            let ttl =
                if timer.class == 2 { self.config.new_room_ttl } else { self.config.room_ttl };
            let timer = self.arm(timer.class, ttl);
            self.rooms.get_mut(&room).expect("a room").timer = timer;
        }
        said
    }

    fn speak(&mut self, room: usize, person: usize, text: &str, nonce: &str) -> Expected {
        let meter = &mut self.sessions.get_mut(&person).expect("a session").meter;
        if !Self::take(meter, self.config.message_rate, Duration::from_secs(1), self.now) {
            return LIMITED;
        }
        let by = (person, nonce.to_owned());
        if self.kept(room).iter().any(|(_, known)| known.as_ref() == Some(&by)) {
            return OK;
        }
        let present = self.rooms[&room].present.iter().any(|(other, _)| *other == person);
        if let Some(holder) = self.holder(room, person).filter(|_| !present) {
            self.depart(room, holder);
        }
        self.rooms.get_mut(&room).expect("a room").log.push((text.to_owned(), Some(by)));
        CREATED
    }

    /// What is kept of what was said in a room.
    pub fn kept(&self, room: usize) -> &[(String, Option<(usize, String)>)] {
        let log = &self.rooms[&room].log;
        &log[log.len().saturating_sub(self.config.history_messages_max)..]
    }
}
