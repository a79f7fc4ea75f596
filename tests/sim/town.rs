//! A town: everything that anybody does has come to rest before the next does something, so that
//! a plain model can foretell each answer, each close, and what everybody hears.
//!
//! All limits are small enough to be met. People come from several addresses, some of which are
//! one; time passes up to a deadline, and over it; whoever was somebody or somewhere tries again
//! when they or it are gone.

mod model;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use disposable_chat::config::{Config, Rate};

use crate::model::Room;
use crate::pipe::{CALM, Dice, Weather};
use crate::wire::{self, CLOSE, Response};
use crate::world::{Ask, Http, Owed, Person, Start, Talk, World};
use model::{Expected, Model, OK, Share, Socket};

/// Where people come from, and whose share that is.
const ADDRESSES: [(&str, Share); 7] = [
    ("127.0.0.1", None),
    ("192.0.2.1", Some(1)),
    ("::ffff:192.0.2.1", Some(1)),
    ("192.0.2.2", Some(2)),
    ("2001:db8::1", Some(3)),
    ("2001:db8::ffff:1", Some(3)),
    ("2001:db8:0:1::1", Some(4)),
];

const NAMES: [&str; 4] = ["ana", "Ana", "BOB", "bob"];

const PASSWORD: &str = "open sesame";

struct Town {
    world: World,
    model: Model,
    /// The last message that somebody saw in a room, and its place in the log.
    last_seen: BTreeMap<(usize, usize), (String, usize)>,
    texts: usize,
    facts: Facts,
}

/// What every few towns are told, or they were no towns: see `Facts::told`.
pub const TOLD: [Expected; 19] = [
    (0, ""), // Said by socket.
    (101, ""),
    (200, ""),
    (201, ""),
    (401, "invalid_session"),
    (403, "bad_password"),
    (403, "not_a_member"),
    (403, "not_the_owner"),
    (404, "room_not_found"),
    (409, "name_taken"),
    (429, "rate_limited"),
    (503, "server_full"),
    (1000, ""),
    (4401, ""),
    (4403, ""),
    (4404, ""),
    (4409, ""),
    (4410, ""),
    (4429, ""),
];

/// What a run was like.
#[derive(PartialEq, Eq, Debug, Default, Clone)]
pub struct Facts {
    pub hash: u64,
    /// How often each status or close was foretold and given.
    pub told: BTreeMap<Expected, usize>,
    /// Timers that were passed over by not a microsecond.
    pub deadlines: usize,
}

/// Runs a seed to its end.
pub fn run(seed: u64) -> Facts {
    let mut dice = Dice::new(seed ^ 0x7033);
    let rate = |per_second, burst| Rate { per_second, burst };
    let config = Config {
        session_ttl: Duration::from_secs(*dice.pick(&[20, 100])),
        room_ttl: Duration::from_secs(*dice.pick(&[5, 30])),
        new_room_ttl: Duration::from_secs(*dice.pick(&[3, 40])),
        leave_grace: Duration::from_secs(*dice.pick(&[0, 3, 7])),
        history_messages_max: *dice.pick(&[0, 1, 5, 20, 1000]),
        message_rate: *dice.pick(&[rate(0, 1), rate(1, 1), rate(2, 3)]),
        session_rate: *dice.pick(&[rate(0, 1), rate(1, 2), rate(3, 4)]),
        room_rate: *dice.pick(&[rate(0, 1), rate(1, 1), rate(2, 3)]),
        address_connections_max: *dice.pick(&[None, Some(1), Some(3)]),
        connections_max: *dice.pick(&[None, Some(6), Some(12)]),
        sessions_max: *dice.pick(&[3, 8, 1000]),
        rooms_max: *dice.pick(&[1, 4, 1000]),
        ..Config::default()
    };
    let buffer_bytes = *dice.pick(&[200, 1000, CALM.buffer_bytes]);
    let weather = Weather { faults: *dice.pick(&[0, 10, 30]), buffer_bytes };
    let world = World::new(seed, &config, weather);
    let model = Model::new(world.now.mono, &config);
    let (last_seen, facts) = (BTreeMap::new(), Facts::default());
    let mut town = Town { world, model, last_seen, texts: 0, facts };
    for _ in 0..120 {
        town.act();
        town.check();
    }
    town.world.end();
    town.facts.hash = town.world.hash;
    town.facts
}

impl Town {
    fn act(&mut self) {
        match self.world.dice.below(100) {
            0..12 => self.open_session(),
            12..20 => self.open_room(),
            20..26 => self.join(),
            26..30 => self.leave(),
            30..33 => self.delete_room(),
            33..35 => self.end_session(),
            35..43 => self.post(),
            43..55 => self.look(),
            55..70 => self.enter(),
            70..82 => self.say(),
            82..90 => self.hang_up(),
            _ => self.pass(),
        }
    }

    // ---- Who, where and from where

    fn address(&mut self) -> (Option<IpAddr>, Share) {
        let (address, share) = *self.world.dice.pick(&ADDRESSES);
        (Some(address.parse().expect("an address")), share)
    }

    /// Anybody who ever was, more often one who still is.
    fn person(&mut self) -> Option<usize> {
        let living: Vec<usize> = self.model.sessions.keys().copied().collect();
        if living.is_empty() || self.world.dice.percent(8) {
            let all = self.world.people.len();
            return (all > 0).then(|| self.world.dice.below(all));
        }
        Some(*self.world.dice.pick(&living))
    }

    /// The same of rooms.
    fn room(&mut self) -> Option<usize> {
        let living: Vec<usize> = self.model.rooms.keys().copied().collect();
        if living.is_empty() || self.world.dice.percent(8) {
            let all = self.world.rooms.len();
            return (all > 0).then(|| self.world.dice.below(all));
        }
        Some(*self.world.dice.pick(&living))
    }

    fn both(&mut self) -> Option<(usize, usize)> {
        Some((self.person()?, self.room()?))
    }

    fn session(&self, person: usize) -> Option<String> {
        self.world.people[person].session.clone()
    }

    fn path(&self, room: usize, rest: &str) -> String {
        format!("/rooms/{}{rest}", self.world.rooms[room].id)
    }

    // ---- Requests

    /// One request on a connection of its own. `None`: the connection was one too many, and was
    /// told so; otherwise the request has come where the model is to be asked.
    fn ask(&mut self, request: &[u8], from: Option<IpAddr>, share: Share) -> (Response, bool) {
        let excess = self.model.on_arrival(share);
        let client = self.world.connect(Talk::Http(Http::default()), from);
        self.world.ask(client, request, Ask::Any);
        self.world.settle();
        self.world.finish(client, true);
        self.world.settle();
        let response = self.world.clients[client].http().answers.pop().expect("an answer");
        if let Some(excess) = excess {
            self.expect(excess, &response);
        }
        (response, excess.is_none())
    }

    /// The answer is the one that was foretold. Returns its content.
    fn expect(&mut self, expected: Expected, response: &Response) -> Value {
        let json: Value = serde_json::from_slice(&response.body).expect("an answer is JSON");
        let code = json["code"].as_str().unwrap_or_default();
        assert_eq!((response.status, code), expected, "{response:?}");
        if matches!(response.status, 429 | 503) {
            assert!(response.head.contains("\r\nRetry-After: "), "{}", response.head);
        }
        *self.facts.told.entry(expected).or_default() += 1;
        json
    }

    fn open_session(&mut self) {
        let (from, share) = self.address();
        let name = *self.world.dice.pick(&NAMES);
        let body = json!({"username": name}).to_string();
        let request = wire::request("POST", "/sessions", None, &body);
        let (response, true) = self.ask(&request, from, share) else { return };
        let person = self.world.people.len();
        let expected = self.model.open_session(person, name, share);
        let json = self.expect(expected, &response);
        if let Some(session) = json["session_id"].as_str().map(str::to_owned) {
            let (name, session) = (name.to_owned(), Some(session));
            self.world.people.push(Person { name, session, shares_name: false });
        }
    }

    fn end_session(&mut self) {
        let Some(person) = self.person() else { return };
        // Somebody whose room has others in it, often; and then whoever inherits it ends it.
        let crowds = self.model.rooms.iter().filter(|(_, room)| room.present.len() > 1);
        let crowds: Vec<_> = crowds.filter_map(|(room, it)| Some((it.owner?, *room))).collect();
        if crowds.is_empty() || self.world.dice.percent(40) {
            return self.end(person);
        }
        let (owner, room) = *self.world.dice.pick(&crowds);
        self.end(owner);
        if let Some(heir) = self.owner(room) {
            self.delete(heir, room);
        }
    }

    fn end(&mut self, person: usize) {
        let (from, share) = self.address();
        let sockets = self.sockets_of(person, None);
        let request = wire::request("DELETE", "/sessions/me", self.session(person).as_deref(), "");
        self.foresee(&sockets, 4401);
        let (response, true) = self.ask(&request, from, share) else { return self.calm(&sockets) };
        self.model.remove_session(person);
        self.expect(OK, &response);
        self.expect_closed(&sockets, 4401);
    }

    fn open_room(&mut self) {
        let Some(person) = self.person() else { return };
        let (from, share) = self.address();
        let private = self.world.dice.percent(20);
        let password = self.world.dice.percent(30).then_some(PASSWORD);
        let body = json!({"private": private, "password": password, "title": "a room"}).to_string();
        let request = wire::request("POST", "/rooms", self.session(person).as_deref(), &body);
        let (response, true) = self.ask(&request, from, share) else { return };
        let room = self.world.rooms.len();
        let expected = self.model.open_room(room, person, private, password, share);
        let json = self.expect(expected, &response);
        if let Some(id) = json["room_id"].as_str() {
            assert_eq!(id.len(), if private || password.is_some() { 32 } else { 10 });
            self.world.rooms.push(Room::new(id.to_owned(), usize::MAX));
        }
    }

    fn join(&mut self) {
        let Some((person, room)) = self.both() else { return };
        let (from, share) = self.address();
        let password = *self.world.dice.pick(&[None, Some(PASSWORD), Some("guess"), Some("guess")]);
        let body = password.map_or(String::new(), |it| json!({"password": it}).to_string());
        let session = self.session(person);
        let path = self.path(room, "/join");
        let request = wire::request("POST", &path, session.as_deref(), &body);
        for _ in 0..if password == Some("guess") { 4 } else { 1 } {
            let (response, true) = self.ask(&request, from, share) else { return };
            let expected = self.model.join(room, person, password, share);
            self.expect(expected, &response);
        }
    }

    fn leave(&mut self) {
        let Some((person, room)) = self.both() else { return };
        let (from, share) = self.address();
        let sockets = self.sockets_of(person, Some(room));
        let path = self.path(room, "/leave");
        let request = wire::request("DELETE", &path, self.session(person).as_deref(), "");
        self.foresee(&sockets, 1000);
        let (response, true) = self.ask(&request, from, share) else { return self.calm(&sockets) };
        let expected = self.model.leave(room, person);
        self.expect(expected, &response);
        self.expect_closed(&sockets, 1000);
    }

    fn delete_room(&mut self) {
        let Some((person, room)) = self.both() else { return };
        let person = self.owner(room).filter(|_| self.world.dice.percent(50)).unwrap_or(person);
        self.delete(person, room);
    }

    fn owner(&self, room: usize) -> Option<usize> {
        self.model.rooms.get(&room)?.owner
    }

    fn delete(&mut self, person: usize, room: usize) {
        let (from, share) = self.address();
        let sockets = self.model.rooms.get(&room).map(|room| room.sockets.clone());
        let sockets = sockets.unwrap_or_default();
        let path = self.path(room, "");
        let request = wire::request("DELETE", &path, self.session(person).as_deref(), "");
        self.foresee(&sockets, 4410);
        let (response, true) = self.ask(&request, from, share) else { return self.calm(&sockets) };
        let expected = self.model.delete_room(room, person);
        self.expect(expected, &response);
        match expected {
            OK => self.expect_closed(&sockets, 4410),
            _ => self.calm(&sockets),
        }
    }

    fn post(&mut self) {
        // Into an empty room by one of its members, often: that prolongs its life.
        let empty = self.model.rooms.iter().filter(|(_, room)| room.sockets.is_empty());
        let empty = empty.filter_map(|(room, it)| Some((*it.members.first()?, *room)));
        let empty: Vec<_> = empty.collect();
        let anywhere = empty.is_empty() || self.world.dice.percent(60);
        let both = if anywhere { self.both() } else { Some(*self.world.dice.pick(&empty)) };
        let Some((person, room)) = both else { return };
        let (from, share) = self.address();
        let (text, nonce) = self.words();
        let body = json!({"message": text, "nonce": nonce}).to_string();
        let path = self.path(room, "/messages");
        let request = wire::request("POST", &path, self.session(person).as_deref(), &body);
        let (response, true) = self.ask(&request, from, share) else { return };
        let expected = self.model.post(room, person, &text, &nonce);
        self.expect(expected, &response);
        if expected.0 < 300 {
            let id = self.world.rooms[room].note(&response.body);
            let message = &self.world.rooms[room].log[&id];
            assert_eq!(message.nonce.as_ref(), Some(&nonce));
            assert!(expected == OK || message.text == text, "told something else");
        }
    }

    /// Somebody looks at something.
    fn look(&mut self) {
        let Some((person, room)) = self.both() else { return };
        let (from, share) = self.address();
        let session = self.session(person);
        let what = self.world.dice.below(6);
        let limit = 1 + self.world.dice.below(30);
        let path = match what {
            0 => "/rooms/all".to_owned(),
            1 => "/sessions/me".to_owned(),
            2 => self.path(room, ""),
            3 => self.path(room, "/users"),
            _ => self.path(room, &format!("/messages?limit={limit}")),
        };
        let request = wire::request("GET", &path, session.as_deref(), "");
        let (response, true) = self.ask(&request, from, share) else { return };
        let expected = match what {
            0 => OK,
            1 => self.model.touch(person),
            2 if self.model.rooms.contains_key(&room) => OK,
            2 => (404, "room_not_found"),
            _ => self.model.read(room, person),
        };
        let json = self.expect(expected, &response);
        if expected != OK {
            return;
        }
        let id = |room: &usize| json!(self.world.rooms[*room].id);
        match what {
            0 => {
                let public = self.model.rooms.iter().filter(|(_, room)| !room.private);
                let ids: Vec<_> = public.rev().map(|(room, _)| id(room)).collect();
                assert_eq!(json["rooms"], Value::from(ids));
            }
            1 => {
                let ids: Vec<_> = self.model.sessions[&person].rooms.iter().map(id).collect();
                assert_eq!(json["joined_rooms"], Value::from(ids));
            }
            2 => assert_eq!(json["user_count"], self.model.rooms[&room].present.len()),
            3 => {
                let names = json["users"].as_array().expect("users").iter();
                let names: Vec<_> = names.map(|user| user["user"].as_str().unwrap()).collect();
                assert_eq!(names, self.present(room));
            }
            _ => {
                let said = json["messages"].as_array().expect("messages").iter();
                let said: Vec<_> = said.map(|one| one["message"].as_str().unwrap()).collect();
                let kept = self.model.kept(room);
                let kept = kept[kept.len().saturating_sub(limit)..].iter();
                assert_eq!(said, kept.map(|(text, _)| text).collect::<Vec<_>>());
            }
        }
    }

    fn present(&self, room: usize) -> Vec<&str> {
        let present = self.model.rooms[&room].present.iter();
        present.map(|(person, _)| &self.model.sessions[person].name[..]).collect()
    }

    // ---- Sockets

    fn sockets_of(&self, person: usize, room: Option<usize>) -> Vec<usize> {
        let sockets = self.model.sockets.iter().filter(|(_, socket)| {
            socket.person == person && room.is_none_or(|room| room == socket.room)
        });
        sockets.map(|(client, _)| *client).collect()
    }

    fn foresee(&mut self, sockets: &[usize], code: u16) {
        for socket in sockets {
            self.world.clients[*socket].ws_mut().expect("a socket").possible.insert(code);
        }
    }

    /// It has not come to what was foreseen.
    fn calm(&mut self, sockets: &[usize]) {
        for socket in sockets {
            self.world.clients[*socket].ws_mut().expect("a socket").possible.clear();
        }
    }

    fn expect_closed(&mut self, sockets: &[usize], code: u16) {
        for socket in sockets {
            let closed = self.world.clients[*socket].ws().and_then(|ws| ws.closed.as_ref());
            assert_eq!(closed.map(|(code, _)| *code), Some(code), "client {socket}");
            *self.facts.told.entry((code, "")).or_default() += 1;
        }
    }

    fn enter(&mut self) {
        let Some((person, room)) = self.both() else { return };
        let (from, share) = self.address();
        let (start, back, last) = self.start(person, room);
        let over = match self.model.on_arrival(share) {
            Some((503, _)) => {
                let session = self.session(person).unwrap_or_default();
                let request = wire::upgrade(&self.world.rooms[room].id, &session, "");
                return drop(self.ask(&request, from, share));
            }
            over => over.is_some(),
        };
        let client = self.world.enter_with(person, room, start, from);
        let socket = Socket { person, room, share, from: 0 };
        let refused = self.model.enter(client, socket, back, last, over);
        let ws = self.world.clients[client].ws_mut().expect("a socket");
        ws.possible = refused.into_iter().collect();
        self.world.settle();
        match refused {
            Some(code) => self.expect_closed(&[client], code),
            None => *self.facts.told.entry((101, "")).or_default() += 1,
        }
    }

    /// Where somebody wants to begin: how they say it, after which place, with how many.
    fn start(&mut self, person: usize, room: usize) -> (Start, Option<usize>, usize) {
        match self.world.dice.below(4) {
            0 | 1 => match self.last_seen.get(&(person, room)) {
                Some((id, place)) => (Start::After(id.clone()), Some(*place), 0),
                None => (Start::Live, None, 0),
            },
            2 => {
                let last = self.world.dice.below(8);
                (Start::Last(last), None, last)
            }
            _ => (Start::Live, None, 0),
        }
    }

    /// A text that nobody has said, and a nonce that somebody may have used.
    fn words(&mut self) -> (String, String) {
        self.texts += 1;
        (format!("text {}", self.texts), format!("nonce {}", self.world.dice.below(6)))
    }

    fn open_socket(&mut self) -> Option<usize> {
        let sockets: Vec<usize> = self.model.sockets.keys().copied().collect();
        (!sockets.is_empty()).then(|| *self.world.dice.pick(&sockets))
    }

    fn say(&mut self) {
        let Some(client) = self.open_socket() else { return };
        for _ in 0..1 + self.world.dice.below(4) {
            let (text, nonce) = self.words();
            let told = self.model.say(client, &text, &nonce);
            self.world.say(client, text, nonce);
            let ws = self.world.clients[client].ws_mut().expect("a socket");
            if let (Ok(told), Some(Owed::Once { text, .. })) = (&told, ws.owed.back_mut()) {
                text.clone_from(told);
            }
            *self.facts.told.entry(told.err().unwrap_or((0, ""))).or_default() += 1;
        }
        self.world.settle();
    }

    fn hang_up(&mut self) {
        let Some(client) = self.open_socket() else { return };
        self.remember(client);
        let closed = self.world.dice.percent(40);
        match self.world.dice.below(3) {
            _ if closed => {
                let close = self.world.frame(CLOSE, &1000u16.to_be_bytes());
                self.world.send_last(client, &close, 1000);
            }
            0 => self.world.reset(client),
            n => self.world.finish(client, n == 1),
        }
        self.world.settle();
        self.model.close(client, closed);
    }

    /// Where somebody goes on when they are back.
    fn remember(&mut self, client: usize) {
        let Socket { person, room, from, .. } = self.model.sockets[&client];
        let seen = &self.world.clients[client].ws().expect("a socket").seen;
        if let Some(last) = seen.last() {
            self.last_seen.insert((person, room), (last.clone(), from + seen.len() - 1));
        }
    }

    // ---- Time

    fn pass(&mut self) {
        let deadline = self.model.next_deadline().map(|due| due.since(self.world.now.mono));
        let time = match (self.world.dice.below(4), deadline) {
            (0, Some(time)) => time.saturating_sub(Duration::from_micros(1)),
            (1, Some(time)) => {
                self.facts.deadlines += 1;
                time
            }
            (2, _) => Duration::from_millis(self.world.dice.below(1000) as u64),
            _ => Duration::from_millis(self.world.dice.below(12_000) as u64),
        };
        if self.world.dice.percent(20) {
            let forward = self.world.dice.percent(50);
            self.world.set_clock(Duration::from_secs(3600), forward);
        }
        self.world.pass(time);
        self.model.now = self.world.now.mono;
        self.model.sweep();
        self.world.settle();
    }

    // ---- What must be so

    fn check(&self) {
        let (world, model) = (&self.world, &self.model);
        assert_eq!(world.core.chat().session_count(), model.sessions.len(), "sessions");
        assert_eq!(world.core.chat().room_count(), model.rooms.len(), "rooms");
        let members: usize = model.rooms.values().map(|room| room.members.len()).sum();
        assert_eq!(world.core.chat().member_count(), members, "members");
        assert_eq!(world.core.connection_count(), model.sockets.len(), "connections");
        for (client, socket) in &model.sockets {
            let client_of = &world.clients[*client];
            assert!(client_of.is_well(), "client {client} has lost its line");
            let log = &world.rooms[socket.room].log;
            let seen = client_of.ws().expect("a socket").seen.iter();
            let seen: Vec<_> = seen.map(|id| &log[id].text).collect();
            let owed = model.rooms[&socket.room].log[socket.from..].iter();
            assert_eq!(seen, owed.map(|(text, _)| text).collect::<Vec<_>>(), "client {client}");
        }
    }
}
