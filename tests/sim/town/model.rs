//! What a chat server does, as lists that are searched from front to back.
//!
//! Owns the sessions, rooms, members and connections, their deadlines and all limits. Must not know
//! how the server keeps them. The invariant: each method takes one command of a user, changes the
//! lists as the contract demands, and returns what the server must respond.

use std::collections::BTreeMap;
use std::time::Duration;

use disposable_chat::clock::Mono;
use disposable_chat::config::{Config, Rate};

/// A status with the `code` of its content, or a close code with an empty text.
pub type Expected = (u16, &'static str);

const UNAUTHORIZED: Expected = (401, "invalid_session");
const NOT_FOUND: Expected = (404, "room_not_found");
const BANNED: Expected = (403, "banned");
const LOCKED: Expected = (403, "room_locked");
pub const LIMITED: Expected = (429, "rate_limited");
const TOO_MANY_SESSIONS: Expected = (429, "too_many_sessions");
const TOO_MANY_ROOMS: Expected = (429, "too_many_rooms");
const FULL: Expected = (503, "server_full");
pub const OK: Expected = (200, "");
const CREATED: Expected = (201, "");

/// The quota that an address counts against, with all addresses of the same network. `None`: the
/// address has no limits.
pub type Quota = Option<u8>;

/// Its key is the index of its user in `World::users`.
pub struct Session {
    pub name: String,
    /// Indices in `World::rooms`, in the order of joining.
    pub rooms: Vec<usize>,
    /// Indices in `World::peers`, in the order of admission.
    pub sockets: Vec<usize>,
    timer: Option<Timer>,
    /// When the next message would be due at an even rate. In a cluster, by room.
    meters: BTreeMap<usize, Mono>,
    joins: Mono,
    creator: Quota,
    /// When the last socket left or, if there was none, when the session was opened.
    alone_since: Mono,
}

/// What an owner changes. `None`: it stays as it is.
#[derive(Default)]
pub struct Changes {
    pub title: Option<Option<&'static str>>,
    pub locked: Option<bool>,
    pub slow_mode: Option<u64>,
    pub password: Option<Option<&'static str>>,
    /// The inner `None`: nobody has the user id.
    pub owner: Option<Option<usize>>,
}

/// What everyone in a room may know about it, apart from its owner.
#[derive(Clone, Copy, PartialEq)]
pub struct Shown {
    pub title: Option<&'static str>,
    pub private: bool,
    pub password: Option<&'static str>,
    pub locked: bool,
    pub slow_mode: u64,
}

/// Its key is its index in `World::rooms`.
pub struct Room {
    pub shown: Shown,
    /// How often everyone in the room has been told of a change.
    pub changes: usize,
    /// Users that have no access until a time, with the address that has none either.
    bans: Vec<(usize, Mono, Quota)>,
    /// The address of each member's last join or connection.
    addresses: BTreeMap<usize, Quota>,
    /// The last chat of each user that has chatted in slow mode.
    chats: BTreeMap<usize, Mono>,
    /// When its ttl is over.
    pub expiry: Option<Timer>,
    pub owner: Option<usize>,
    pub members: Vec<usize>,
    /// The users present, in the order of joining, each with the end of its leave grace if its
    /// connection has broken.
    pub present: Vec<(usize, Option<Timer>)>,
    /// Indices in `World::peers`.
    pub sockets: Vec<usize>,
    /// All messages ever posted: the text, and the user and nonce of a chat.
    pub log: Vec<(String, Option<(usize, String)>)>,
    timer: Option<Timer>,
    guesses: BTreeMap<Quota, Mono>,
    /// The meter of wrong guesses from all addresses together.
    all_guesses: Mono,
    creator: Quota,
    /// When the last socket left or, if there was none, when the room was opened; and a number that
    /// orders rooms with the same time.
    empty_since: (Mono, u64),
}

#[derive(Clone, Copy)]
pub struct Socket {
    pub user: usize,
    pub room: usize,
    pub quota: Quota,
    /// An event stream, whose peer answers no pings.
    pub is_stream: bool,
    /// The place in the log of the first message that it receives.
    pub from: usize,
    /// `Room::changes` when it entered.
    pub changes: usize,
}

/// A deadline. Timers with the same deadline fire in the order of their classes, and those of one
/// class in the order in which they were armed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    pub deadline: Mono,
    class: u8,
    number: u64,
}

enum Due {
    Session(usize),
    Room(usize),
    Expiry(usize),
    Grace(usize, usize),
}

impl Room {
    /// Whether a ban refuses a user, who has this address, access as anything but a member.
    fn is_banned(&self, user: usize, quota: Quota, now: Mono) -> bool {
        let applies = |(banned, until, address): &(usize, Mono, Quota)| {
            *until > now && (*banned == user || address.is_some() && *address == quota)
        };
        let is_inside = self.members.contains(&user) || self.owner == Some(user);
        !is_inside && self.bans.iter().any(applies)
    }
}

pub struct Model {
    pub now: Mono,
    is_clustered: bool,
    config: Config,
    pub sessions: BTreeMap<usize, Session>,
    pub rooms: BTreeMap<usize, Room>,
    /// By index in `World::peers`.
    pub sockets: BTreeMap<usize, Socket>,
    session_meters: BTreeMap<Quota, Mono>,
    room_meters: BTreeMap<Quota, Mono>,
    timers: u64,
}

impl Model {
    pub fn new(now: Mono, config: &Config, is_clustered: bool) -> Model {
        Model {
            now,
            is_clustered,
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

    /// Fires all timers that are due, the earliest deadline first.
    pub fn sweep(&mut self) {
        while let Some((_, due)) = self.next_due().filter(|(timer, _)| timer.deadline <= self.now) {
            match due {
                Due::Session(user) => self.remove_session(user),
                Due::Room(room) => self.remove_room(room),
                Due::Expiry(room) => self.end_room(room),
                Due::Grace(room, user) => self.depart(room, user),
            }
        }
    }

    /// The next deadline.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.next_due().map(|(timer, _)| timer.deadline)
    }

    /// All deadlines, each with the time by which a cluster may exceed it.
    pub fn deadlines(&self) -> impl Iterator<Item = (Mono, Duration)> {
        let sessions = self.sessions.values().filter_map(|session| session.timer);
        let more = self.config.session_ttl / 64;
        let rooms = self.rooms.values().flat_map(|room| [room.timer, room.expiry]).flatten();
        let graces = self.rooms.values().flat_map(|room| &room.present);
        let graces = graces.filter_map(|(_, grace)| *grace);
        let sessions = sessions.map(move |timer| (timer.deadline, more));
        sessions.chain(rooms.chain(graces).map(|timer| (timer.deadline, Duration::ZERO)))
    }

    fn next_due(&self) -> Option<(Timer, Due)> {
        let sessions = self
            .sessions
            .iter()
            .filter_map(|(user, session)| session.timer.map(|timer| (timer, Due::Session(*user))));
        let rooms = self.rooms.iter();
        let rooms =
            rooms.filter_map(|(room, entry)| entry.timer.map(|timer| (timer, Due::Room(*room))));
        let expiries = self.rooms.iter();
        let expiries =
            expiries.filter_map(|(room, entry)| entry.expiry.map(|due| (due, Due::Expiry(*room))));
        let graces = self.rooms.iter().flat_map(|(room, entry)| {
            let present = entry.present.iter();
            present.filter_map(|(user, grace)| grace.map(|timer| (timer, Due::Grace(*room, *user))))
        });
        sessions.chain(rooms).chain(expiries).chain(graces).min_by_key(|(timer, _)| *timer)
    }

    fn arm(&mut self, class: u8, timeout: Duration) -> Option<Timer> {
        const GRAIN: u64 = 50_000; // Deadlines are rounded up to 50 ms.
        self.timers += 1;
        let due = self.now.after(timeout).micros().div_ceil(GRAIN) * GRAIN;
        Some(Timer { deadline: Mono::from_micros(due), class, number: self.timers })
    }

    /// Counts one occurrence if the rate, with its burst, allows it (a GCRA).
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

    /// The response to another connection of this quota, if it is over a limit.
    pub fn over_limit(&self, quota: Quota) -> Option<Expected> {
        if self.sockets.len() >= self.config.connections_max.unwrap_or(usize::MAX) {
            return Some(FULL);
        }
        let of_quota = self.sockets.values().filter(|socket| socket.quota == quota).count();
        let max = self.config.address_connections_max.unwrap_or(usize::MAX);
        (quota.is_some() && of_quota >= max).then_some(LIMITED)
    }

    fn share(&self) -> usize {
        self.config.address_sessions_max.unwrap_or(usize::MAX)
    }

    /// Whether something that has been without a socket since then may give way.
    fn is_long_ago(&self, since: Mono) -> bool {
        since.after(Duration::from_secs(600)) <= self.now
    }

    // ---- Sessions

    pub fn open_session(&mut self, user: usize, name: &str, quota: Quota) -> Expected {
        if self.sessions.len() >= self.config.sessions_max {
            return FULL;
        }
        let of_quota = || self.sessions.iter().filter(|(_, session)| session.creator == quota);
        let mut gives_way = None;
        if quota.is_some() && of_quota().count() >= self.share() {
            // A timer is armed anew at each use.
            let unused = of_quota().filter_map(|(user, session)| Some((session.timer?, user)));
            match unused.min_by_key(|(timer, _)| timer.number) {
                Some((_, user)) if self.is_long_ago(self.sessions[user].alone_since) => {
                    gives_way = Some(*user);
                }
                _ => return TOO_MANY_SESSIONS,
            }
        }
        let meter = self.session_meters.entry(quota).or_default();
        let (rate, second) = (self.config.session_rate, Duration::from_secs(1));
        if quota.is_some() && !Self::take(meter, rate, second, self.now) {
            return LIMITED;
        }
        if let Some(user) = gives_way {
            self.remove_session(user);
        }
        let timer = self.arm(0, self.config.session_ttl);
        let session = Session {
            name: name.to_owned(),
            rooms: Vec::new(),
            sockets: Vec::new(),
            timer,
            meters: BTreeMap::new(),
            joins: Mono::ZERO,
            creator: quota,
            alone_since: self.now,
        };
        self.sessions.insert(user, session);
        CREATED
    }

    /// The session is used, so that it expires later.
    pub fn touch(&mut self, user: usize) -> Expected {
        let timer = self.arm(0, self.config.session_ttl);
        let Some(session) = self.sessions.get_mut(&user) else { return UNAUTHORIZED };
        if session.timer.is_some() {
            session.timer = timer;
        }
        OK
    }

    pub fn remove_session(&mut self, user: usize) {
        let Some(session) = self.sessions.get(&user) else { return };
        for peer in session.sockets.clone() {
            self.close(peer, true);
        }
        while let Some(room) = self.sessions[&user].rooms.first().copied() {
            self.remove_member(room, user);
        }
        for room in self.rooms.values_mut().filter(|room| room.owner == Some(user)) {
            room.owner = room.present.first().map(|(heir, _)| *heir);
            room.changes += 1;
        }
        self.sessions.remove(&user);
    }

    // ---- Rooms

    pub fn open_room(
        &mut self,
        number: usize,
        user: usize,
        shown: Shown,
        ttl: Option<u64>,
        quota: Quota,
    ) -> Expected {
        if self.touch(user) != OK {
            return UNAUTHORIZED;
        }
        if self.rooms.len() >= self.config.rooms_max {
            return FULL;
        }
        let of_quota = || self.rooms.iter().filter(|(_, room)| room.creator == quota);
        let mut gives_way = None;
        if quota.is_some() && of_quota().count() >= self.share() {
            // A post by REST lets a room live on without a socket.
            let empty = of_quota().filter(|(_, room)| room.sockets.is_empty());
            let first = empty.min_by_key(|(_, room)| room.empty_since);
            match first.filter(|(_, room)| self.is_long_ago(room.empty_since.0)) {
                Some((room, _)) => gives_way = Some(*room),
                None => return TOO_MANY_ROOMS,
            }
        }
        let meter = self.room_meters.entry(quota).or_default();
        let (rate, second) = (self.config.room_rate, Duration::from_secs(1));
        if quota.is_some() && !Self::take(meter, rate, second, self.now) {
            return LIMITED;
        }
        if let Some(room) = gives_way {
            self.remove_room(room);
        }
        let timer = self.arm(2, self.config.new_room_ttl);
        let room = Room {
            shown: Shown { private: shown.private || shown.password.is_some(), ..shown },
            changes: 0,
            bans: Vec::new(),
            addresses: BTreeMap::from([(user, quota)]),
            chats: BTreeMap::new(),
            expiry: ttl.map(|seconds| Timer {
                deadline: self.now.after(Duration::from_secs(seconds)),
                class: u8::MAX,
                number: self.timers,
            }),
            owner: Some(user),
            members: Vec::new(),
            present: Vec::new(),
            sockets: Vec::new(),
            log: Vec::new(),
            timer,
            guesses: BTreeMap::new(),
            all_guesses: Mono::default(),
            creator: quota,
            empty_since: (self.now, self.timers),
        };
        self.rooms.insert(number, room);
        self.insert_member(number, user);
        CREATED
    }

    fn insert_member(&mut self, room: usize, user: usize) {
        let entry = self.rooms.get_mut(&room).expect("a room");
        if !entry.members.contains(&user) {
            entry.members.push(user);
            self.sessions.get_mut(&user).expect("a session").rooms.push(room);
        }
    }

    pub fn join(
        &mut self,
        room: usize,
        user: usize,
        password: Option<&str>,
        quota: Quota,
    ) -> Expected {
        if self.touch(user) != OK {
            return UNAUTHORIZED;
        }
        let Some(entry) = self.rooms.get_mut(&room) else { return NOT_FOUND };
        let is_member = entry.members.contains(&user);
        if entry.is_banned(user, quota, self.now) {
            return BANNED;
        }
        if entry.shown.locked && !is_member && entry.owner != Some(user) {
            return LOCKED;
        }
        if let (Some(right), false) = (entry.shown.password, is_member) {
            let Some(password) = password else { return (403, "bad_password") };
            let rate = Rate { per_second: self.config.guess_rate, burst: 5 };
            let room_rate = Rate { per_second: self.config.room_guess_rate, burst: 60 };
            let mut meter = entry.guesses.get(&quota).copied().unwrap_or_default();
            let mut all = entry.all_guesses;
            let minute = Duration::from_secs(60);
            if !Self::take(&mut meter, rate, minute, self.now)
                || !Self::take(&mut all, room_rate, minute, self.now)
            {
                return LIMITED;
            }
            if password != right {
                entry.guesses.insert(quota, meter);
                entry.all_guesses = all;
                return (403, "bad_password");
            }
        }
        self.insert_member(room, user);
        self.set_address(room, user, quota);
        OK
    }

    fn set_address(&mut self, room: usize, user: usize, quota: Quota) {
        self.rooms.get_mut(&room).expect("a room").addresses.insert(user, quota);
    }

    /// Whether a user may read a room.
    pub fn read(&mut self, room: usize, user: usize, quota: Quota) -> Expected {
        if self.touch(user) != OK {
            return UNAUTHORIZED;
        }
        self.entry_refusal(room, user, quota).unwrap_or(OK)
    }

    fn entry_refusal(&self, room: usize, user: usize, quota: Quota) -> Option<Expected> {
        match self.rooms.get(&room) {
            None => Some(NOT_FOUND),
            Some(room) if room.members.contains(&user) => None,
            Some(room) if room.is_banned(user, quota, self.now) => Some(BANNED),
            Some(room) if room.shown.locked && room.owner != Some(user) => Some(LOCKED),
            Some(room) => room.shown.password.map(|_| (403, "not_a_member")),
        }
    }

    pub fn leave(&mut self, room: usize, user: usize) -> Expected {
        if self.touch(user) != OK {
            return UNAUTHORIZED;
        }
        for peer in self.sessions[&user].sockets.clone() {
            if self.sockets[&peer].room == room {
                self.close(peer, true);
            }
        }
        self.remove_member(room, user);
        OK
    }

    pub fn delete_room(&mut self, room: usize, user: usize) -> Expected {
        if self.touch(user) != OK {
            return UNAUTHORIZED;
        }
        let Some(entry) = self.rooms.get_mut(&room) else { return NOT_FOUND };
        if entry.owner != Some(user) {
            return (403, "not_the_owner");
        }
        self.end_room(room);
        OK
    }

    /// The operator deletes a room.
    pub fn operate(&mut self, room: usize) -> Expected {
        if !self.rooms.contains_key(&room) {
            return NOT_FOUND;
        }
        self.end_room(room);
        OK
    }

    /// Ends a room that may have sockets.
    fn end_room(&mut self, room: usize) {
        let Some(entry) = self.rooms.get_mut(&room) else { return };
        entry.present.clear(); // The end of a room is not announced user by user.
        for peer in entry.sockets.clone() {
            self.close(peer, true);
        }
        self.remove_room(room);
    }

    /// The owner changes a room.
    pub fn change_room(&mut self, room: usize, user: usize, changes: &Changes) -> Expected {
        if self.touch(user) != OK {
            return UNAUTHORIZED;
        }
        let Some(entry) = self.rooms.get_mut(&room) else { return NOT_FOUND };
        if entry.owner != Some(user) {
            return (403, "not_the_owner");
        }
        let is_present = |heir: usize| entry.present.iter().any(|(present, _)| *present == heir);
        if changes.owner.is_some_and(|heir| !heir.is_some_and(is_present)) {
            return (404, "user_not_found");
        }
        let place = if self.is_clustered { room } else { 0 };
        let meters = &mut self.sessions.get_mut(&user).expect("a session").meters;
        let meter = meters.entry(place).or_default();
        if !Self::take(meter, self.config.message_rate, Duration::from_secs(1), self.now) {
            return LIMITED;
        }
        let before = (entry.shown, entry.owner);
        let shown = &mut entry.shown;
        shown.title = changes.title.unwrap_or(shown.title);
        shown.locked = changes.locked.unwrap_or(shown.locked);
        if let Some(slow_mode) = changes.slow_mode.filter(|seconds| *seconds != shown.slow_mode) {
            let pause = Duration::from_secs(shown.slow_mode);
            entry.chats.retain(|_, last| slow_mode > 0 && last.after(pause) > self.now);
            shown.slow_mode = slow_mode;
        }
        if let Some(password) = changes.password {
            if password.is_none() {
                entry.guesses.clear();
                entry.all_guesses = Mono::default();
            }
            shown.private |= password.is_some();
            shown.password = password;
        }
        entry.owner = changes.owner.unwrap_or(entry.owner);
        entry.changes += usize::from((entry.shown, entry.owner) != before);
        OK
    }

    /// The owner removes a user, and may ban it for so many seconds, with its address or without.
    pub fn remove_user(
        &mut self,
        room: usize,
        by: usize,
        user: usize,
        ban: Option<(u64, bool)>,
    ) -> Expected {
        if self.touch(by) != OK {
            return UNAUTHORIZED;
        }
        let Some(entry) = self.rooms.get_mut(&room) else { return NOT_FOUND };
        match () {
            () if user == by => return (422, "bad_query"),
            () if entry.owner != Some(by) => return (403, "not_the_owner"),
            () if !entry.members.contains(&user) => return (404, "user_not_found"),
            () => {}
        }
        let place = if self.is_clustered { room } else { 0 };
        let meters = &mut self.sessions.get_mut(&by).expect("a session").meters;
        let meter = meters.entry(place).or_default();
        if !Self::take(meter, self.config.message_rate, Duration::from_secs(1), self.now) {
            return LIMITED;
        }
        if let Some((seconds, with_address)) = ban {
            let until = self.now.after(Duration::from_secs(seconds));
            let address = entry.addresses.get(&user).copied().flatten().filter(|_| with_address);
            entry.bans.retain(|(banned, ..)| *banned != user);
            entry.bans.push((user, until, address));
        }
        for peer in self.sessions[&user].sockets.clone() {
            if self.sockets[&peer].room == room {
                self.close(peer, true);
            }
        }
        self.remove_member(room, user);
        OK
    }

    /// The owner lifts the ban of a user.
    pub fn lift_ban(&mut self, room: usize, by: usize, user: usize) -> Expected {
        if self.touch(by) != OK {
            return UNAUTHORIZED;
        }
        let Some(entry) = self.rooms.get_mut(&room) else { return NOT_FOUND };
        if entry.owner != Some(by) {
            return (403, "not_the_owner");
        }
        entry.bans.retain(|(banned, ..)| *banned != user);
        OK
    }

    /// A user deletes the message at a place of the log.
    pub fn delete_message(&mut self, room: usize, place: usize, user: usize) -> Expected {
        if self.touch(user) != OK {
            return UNAUTHORIZED;
        }
        let Some(entry) = self.rooms.get_mut(&room) else { return NOT_FOUND };
        let kept = entry.log.len().saturating_sub(self.config.history_messages_max);
        let (text, by) = &mut entry.log[place];
        match by {
            Some(_) if place < kept => return (404, "message_not_found"),
            None => return (404, "message_not_found"),
            Some((author, _)) if *author != user && entry.owner != Some(user) => {
                return (403, "not_the_author");
            }
            Some(_) => {}
        }
        let session = self.sessions.get_mut(&user).expect("a session");
        let rate = self.config.message_rate;
        let place = if self.is_clustered { room } else { 0 };
        let meter = session.meters.entry(place).or_default();
        if !Self::take(meter, rate, Duration::from_secs(1), self.now) {
            return LIMITED;
        }
        if !std::mem::take(text).is_empty() {
            entry.log.push((format!("{} has deleted a message", session.name), None));
        }
        OK
    }

    fn remove_member(&mut self, room: usize, user: usize) {
        self.depart(room, user);
        if let Some(room) = self.rooms.get_mut(&room) {
            room.members.retain(|member| *member != user);
        }
        self.sessions.get_mut(&user).expect("a session").rooms.retain(|other| *other != room);
    }

    fn remove_room(&mut self, room: usize) {
        self.rooms.remove(&room);
        for session in self.sessions.values_mut() {
            session.rooms.retain(|other| *other != room);
        }
    }

    // ---- Sockets

    /// Admits a connection, or returns the code with which it is closed.
    pub fn enter(
        &mut self,
        peer: usize,
        socket: Socket,
        resume_after: Option<usize>,
        last: usize,
        is_over_limit: bool,
    ) -> Option<u16> {
        let Socket { user, room, .. } = socket;
        let Some(session) = self.sessions.get(&user) else { return Some(4401) };
        match self.entry_refusal(room, user, socket.quota) {
            Some((404, _)) => return Some(4404),
            Some(_) => return Some(4403),
            None if is_over_limit || session.sockets.len() >= 20 => return Some(4429),
            None => {}
        }
        if let Some(holder) = self.holder(room, user) {
            if self.is_connected(room, holder) {
                // While it waited for the holder of the name, its session counted as used.
                self.touch(user);
                return Some(4409);
            }
        }
        if !self.rooms[&room].present.iter().any(|(present, _)| *present == user) {
            let Rate { per_second, burst } = self.config.message_rate;
            let rate = Rate { per_second, burst: 20.max(burst / 2) };
            let joins = &mut self.sessions.get_mut(&user).expect("a session").joins;
            if !Self::take(joins, rate, Duration::from_secs(2), self.now) {
                return Some(4429);
            }
        }
        if let Some(holder) = self.holder(room, user) {
            self.depart(room, holder);
        }
        self.insert_member(room, user);
        self.set_address(room, user, socket.quota);
        let session = self.sessions.get_mut(&user).expect("a session");
        session.timer = None;
        session.sockets.push(peer);
        let name = session.name.clone();
        let entry = self.rooms.get_mut(&room).expect("a room");
        entry.timer = None;
        entry.sockets.push(peer);
        let kept = entry.log.len().saturating_sub(self.config.history_messages_max);
        // A resume from before the history starts at the first message kept.
        let from =
            resume_after.map_or(entry.log.len() - last.min(entry.log.len()), |place| place + 1);
        let changes = entry.changes;
        self.sockets.insert(peer, Socket { from: from.max(kept), changes, ..socket });
        match entry.present.iter_mut().find(|(other, _)| *other == user) {
            Some((_, grace)) => *grace = None,
            None => {
                entry.present.push((user, None));
                if entry.owner.is_none() {
                    entry.owner = Some(user);
                    entry.changes += 1;
                }
                entry.log.push((format!("{name} has joined"), None));
            }
        }
        None
    }

    /// Another user with the same name that is present.
    fn holder(&self, room: usize, user: usize) -> Option<usize> {
        let name = |user: &usize| self.sessions[user].name.replace('\u{200b}', "").to_lowercase();
        let present = self.rooms[&room].present.iter().map(|(other, _)| *other);
        present.into_iter().find(|other| *other != user && name(other) == name(&user))
    }

    /// Whether another user has the name in the room, and only event streams there.
    pub fn is_held_by_streams(&self, room: usize, user: usize) -> bool {
        if !self.rooms.contains_key(&room) || !self.sessions.contains_key(&user) {
            return false;
        }
        let Some(holder) = self.holder(room, user) else { return false };
        let sockets = self.sockets.values().filter(|one| (one.room, one.user) == (room, holder));
        let (mut any, mut all) = (false, true);
        sockets.for_each(|one| (any, all) = (true, all && one.is_stream));
        any && all
    }

    fn is_connected(&self, room: usize, user: usize) -> bool {
        let sockets = self.sessions[&user].sockets.iter();
        sockets.into_iter().any(|peer| self.sockets[peer].room == room)
    }

    /// A connection has ended. After a close frame (`closed`) there is no leave grace.
    pub fn close(&mut self, peer: usize, closed: bool) {
        let Some(Socket { user, room, .. }) = self.sockets.remove(&peer) else { return };
        let unused = self.arm(0, self.config.session_ttl);
        let session = self.sessions.get_mut(&user).expect("a session");
        session.sockets.retain(|other| *other != peer);
        if session.sockets.is_empty() {
            session.timer = unused;
            session.alone_since = self.now;
        }
        let empty = self.arm(1, self.config.room_ttl);
        let entry = self.rooms.get_mut(&room).expect("a room");
        entry.sockets.retain(|other| *other != peer);
        if entry.sockets.is_empty() {
            entry.timer = empty;
            entry.empty_since = (self.now, self.timers);
        }
        if self.is_connected(room, user) {
            return;
        }
        if closed || self.config.leave_grace.is_zero() {
            return self.depart(room, user);
        }
        let grace = self.arm(3, self.config.leave_grace);
        let present = &mut self.rooms.get_mut(&room).expect("a room").present;
        if let Some((_, until)) = present.iter_mut().find(|(other, _)| *other == user) {
            *until = grace;
        }
    }

    /// The user is not present any more.
    fn depart(&mut self, room: usize, user: usize) {
        let Some(entry) = self.rooms.get_mut(&room) else { return };
        let Some(place) = entry.present.iter().position(|(other, _)| *other == user) else {
            return;
        };
        entry.present.remove(place);
        entry.log.push((format!("{} has left", self.sessions[&user].name), None));
    }

    // ---- Messages

    /// A chat over WebSocket. Returns the text that is echoed: this one, or that of an earlier
    /// message with the same nonce.
    pub fn chat(&mut self, peer: usize, text: &str, nonce: &str) -> Result<String, Expected> {
        let Socket { user, room, .. } = self.sockets[&peer];
        let by = Some((user, nonce.to_owned()));
        let before = self.kept(room).iter().find(|(_, known)| *known == by);
        let before = before.map(|(text, _)| text.clone());
        match self.publish(room, user, text, nonce) {
            OK | CREATED => Ok(before.unwrap_or_else(|| text.to_owned())),
            refused => Err(refused),
        }
    }

    /// A message by REST.
    pub fn post(&mut self, room: usize, user: usize, text: &str, nonce: &str) -> Expected {
        if self.touch(user) != OK {
            return UNAUTHORIZED;
        }
        match self.rooms.get(&room) {
            None => return NOT_FOUND,
            Some(room) if !room.members.contains(&user) => return (403, "not_a_member"),
            Some(_) => {}
        }
        let present = self.rooms[&room].present.iter().any(|(other, _)| *other == user);
        let holder = self.holder(room, user).filter(|_| !present);
        if holder.is_some_and(|holder| self.is_connected(room, holder)) {
            return (409, "name_taken");
        }
        let outcome = self.publish(room, user, text, nonce);
        if outcome == LIMITED {
            return outcome;
        }
        if let Some(timer) = self.rooms[&room].timer {
            let ttl =
                if timer.class == 2 { self.config.new_room_ttl } else { self.config.room_ttl };
            let timer = self.arm(timer.class, ttl);
            self.rooms.get_mut(&room).expect("a room").timer = timer;
        }
        outcome
    }

    fn publish(&mut self, room: usize, user: usize, text: &str, nonce: &str) -> Expected {
        let place = if self.is_clustered { room } else { 0 };
        let meters = &mut self.sessions.get_mut(&user).expect("a session").meters;
        let meter = meters.entry(place).or_default();
        if !Self::take(meter, self.config.message_rate, Duration::from_secs(1), self.now) {
            return LIMITED;
        }
        let by = (user, nonce.to_owned());
        if self.kept(room).iter().any(|(_, known)| known.as_ref() == Some(&by)) {
            return OK;
        }
        let entry = self.rooms.get_mut(&room).expect("a room");
        if entry.shown.slow_mode > 0 && entry.owner != Some(user) {
            let pause = Duration::from_secs(entry.shown.slow_mode);
            if entry.chats.get(&user).is_some_and(|last| last.after(pause) > self.now) {
                return LIMITED;
            }
            entry.chats.insert(user, self.now);
        }
        let present = entry.present.iter().any(|(other, _)| *other == user);
        if let Some(holder) = self.holder(room, user).filter(|_| !present) {
            self.depart(room, holder);
        }
        self.rooms.get_mut(&room).expect("a room").log.push((text.to_owned(), Some(by)));
        CREATED
    }

    /// The messages of a room that the server keeps.
    pub fn kept(&self, room: usize) -> &[(String, Option<(usize, String)>)] {
        let log = &self.rooms[&room].log;
        &log[log.len().saturating_sub(self.config.history_messages_max)..]
    }
}
