//! The model of the shares: who has created what, and since when it has had no connection.
//!
//! It has no lists: what gives way is found by looking at everything.

use std::hash::Hash;
use std::net::IpAddr;

use super::*;

/// An address may hold so many sessions, and so many rooms, in the seeds in which it has a bound.
pub const SHARE: usize = 2;

const ADDRESSES: [Option<IpAddr>; 4] = {
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    [None, Some(HERE), Some(HERE), Some(THERE)]
};

/// The living sessions, or the living rooms.
pub struct Held<K>(HashMap<K, Holding>);

struct Holding {
    from: Option<Address>,
    /// The command in which a session was last used, or a room last had a connection.
    used: usize,
    /// When it lost its last connection or was created; `None`: it has a connection.
    alone: Option<Now>,
}

/// What must become of a request for one more.
#[derive(Debug)]
pub enum Prediction<K> {
    Opened,
    /// One of these gives way: all of them were last used in the same command.
    GivesWay(HashSet<K>),
    Refused,
}

impl<K: Copy + Eq + Hash> Held<K> {
    pub fn new() -> Held<K> {
        Held(HashMap::new())
    }

    pub fn predict(&self, share: Option<usize>, from: Option<Address>, now: Now) -> Prediction<K> {
        let own = || self.0.iter().filter(|(_, one)| from.is_some() && one.from == from);
        if share.is_none_or(|share| own().count() < share) {
            return Prediction::Opened;
        }
        let idle = || own().filter(|(_, one)| one.alone.is_some());
        let Some(used) = idle().map(|(_, one)| one.used).min() else { return Prediction::Refused };
        let long =
            |since: Option<Now>| since.is_some_and(|at| at.after(10 * MINUTE).mono <= now.mono);
        let first = idle().filter(|(_, one)| one.used == used && long(one.alone));
        let first: HashSet<K> = first.map(|(key, _)| *key).collect();
        if first.is_empty() { Prediction::Refused } else { Prediction::GivesWay(first) }
    }

    pub fn insert(&mut self, key: K, from: Option<Address>, used: usize, now: Now) {
        self.0.insert(key, Holding { from, used, alone: Some(now) });
    }

    /// A use by REST.
    pub fn touch(&mut self, key: K, used: usize) {
        if let Some(one) = self.0.get_mut(&key) {
            one.used = used;
        }
    }

    /// A command has ended. `connected`: what has a connection now.
    pub fn update(&mut self, connected: &HashSet<K>, used: usize, now: Now) {
        for (key, one) in &mut self.0 {
            match (connected.contains(key), one.alone) {
                (true, _) => one.alone = None,
                (false, None) => (one.alone, one.used) = (Some(now), used),
                (false, Some(_)) => {}
            }
        }
    }

    pub fn retain(&mut self, lives: impl Fn(K) -> bool) {
        self.0.retain(|key, _| lives(*key));
    }
}

impl Model {
    pub fn has_shares(&self) -> bool {
        self.story.chat.config.address_sessions_max.is_some()
    }

    fn pick_address(&mut self) -> Option<Address> {
        ADDRESSES[self.roll(ADDRESSES.len() as u64) as usize].map(Address::of)
    }

    /// Asks for a session, and compares the result with the prediction. Does not ask if that would
    /// make too many sessions for the model.
    pub fn open_session(&mut self, name: &str) {
        let from = self.pick_address();
        let share = self.story.chat.config.address_sessions_max;
        let prediction = self.held_sessions.predict(share, from, self.story.now);
        if matches!(prediction, Prediction::Opened) && self.sessions.len() as u64 >= PEOPLE {
            return;
        }
        let opened = self.story.try_person(name, from);
        let story = &self.story;
        let ended = self.sessions.iter().copied().filter(|one| !story.session_exists(*one));
        let ended: Vec<_> = ended.collect();
        self.check_share(prediction, &ended, opened.err(), Refusal::AddressSessions);
        if let Ok(session) = opened {
            self.sessions.push(session);
            self.held_sessions.insert(session, from, self.commands, self.story.now);
        }
        if !ended.is_empty() {
            self.seen.insert("a session gave way");
            self.read_owners();
        }
    }

    /// The same for a room.
    pub fn try_open(&mut self, by: SessionKey, options: RoomOptions<'_>) -> Option<RoomKey> {
        let from = self.pick_address();
        let share = self.story.chat.config.address_sessions_max;
        let prediction = self.held_rooms.predict(share, from, self.story.now);
        if matches!(prediction, Prediction::Opened) && self.rooms.len() as u64 >= ROOMS {
            return None;
        }
        let opened = self.story.try_room_with(by, options, from);
        let ended = self.rooms.iter().copied().filter(|one| !self.story.exists(*one));
        let ended: Vec<_> = ended.collect();
        self.check_share(prediction, &ended, opened.err(), Refusal::AddressRooms);
        if !ended.is_empty() {
            self.seen.insert("a room gave way");
        }
        let room = opened.ok()?;
        self.held_rooms.insert(room, from, self.commands, self.story.now);
        Some(room)
    }

    fn check_share<K: Copy + Eq + Hash + std::fmt::Debug>(
        &mut self,
        prediction: Prediction<K>,
        ended: &[K],
        refusal: Option<Refusal>,
        expected: Refusal,
    ) {
        match (&prediction, refusal, ended) {
            (Prediction::Opened, None, []) => {}
            (Prediction::GivesWay(first), None, [ended]) if first.contains(ended) => {}
            (Prediction::Refused, Some(refusal), []) if refusal == expected => {
                self.seen.insert("share used up");
            }
            _ => panic!("{prediction:?} was predicted: {refusal:?}, {ended:?}"),
        }
    }

    /// Reads after each command what has ended and what has a connection.
    pub fn read_shares(&mut self) {
        let story = &self.story;
        self.held_sessions.retain(|session| story.session_exists(session));
        self.held_rooms.retain(|room| story.exists(room));
        let sessions = self.readers.iter().map(|reader| reader.session).collect();
        let placed = self.readers.iter().filter(|reader| reader.next.is_some());
        let rooms = placed.map(|reader| reader.room).collect();
        self.held_sessions.update(&sessions, self.commands, self.story.now);
        self.held_rooms.update(&rooms, self.commands, self.story.now);
        self.commands += 1;
    }
}
