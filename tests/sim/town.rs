//! One action at a time: the world settles before the next action begins, so a plain model can
//! predict each response, each close and each message.
//!
//! Owns the choice of actions and the comparison with `model`. Must not know how the server reaches
//! its answers. All limits are so low that they are met. Users come from several addresses, some of
//! which share their limits. Time passes exactly to a deadline, and beyond it. Sessions and rooms
//! that have ended are used again. The invariant: every action is given to the model, too, so that
//! both are in the same state before the next one.

mod model;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use disposable_chat::config::{Config, Rate};
use disposable_chat::server::Purpose;

use crate::model::Room;
use crate::pipe::{Dice, Network, RELIABLE};
use crate::wire::{self, CLOSE, Format, Response};
use crate::world::{Check, Counts, HttpPeer, LOOPBACK, Protocol, Reply, Start, User, World};
use model::{Changes, Expected, LIMITED, Model, OK, Quota, Shown, Socket};

/// Addresses of users, and the quota that each counts against.
const ADDRESSES: [(&str, Quota); 7] = [
    ("127.0.0.1", None),
    ("192.0.2.1", Some(1)),
    ("::ffff:192.0.2.1", Some(1)),
    ("192.0.2.2", Some(2)),
    ("2001:db8::1", Some(3)),
    ("2001:db8::ffff:1", Some(3)),
    ("2001:db8:0:1::1", Some(4)),
];

const NAMES: [&str; 4] = ["ana", "Ana", "BO\u{200b}B", "bob"];

const TITLE: &str = "a room";

const PASSWORD: &str = "open sesame";

struct Town {
    scope: Scope,
    world: World,
    model: Model,
    /// By user and room: the last message received, and its place in the log.
    last_seen: BTreeMap<(usize, usize), (String, usize)>,
    texts: usize,
    facts: Facts,
}

/// What must occur in a run of several seeds. See `Facts::outcomes`.
pub const OUTCOMES: [Expected; 32] = [
    (0, ""), // A chat over WebSocket, which has no status.
    (101, ""),
    (200, ""),
    (201, ""),
    (401, ""), // An event stream that cannot begin, as with the others without a code.
    (401, "invalid_session"),
    (403, ""),
    (403, "bad_password"),
    (403, "banned"),
    (403, "not_a_member"),
    (403, "not_the_author"),
    (403, "not_the_owner"),
    (403, "room_locked"),
    (404, ""),
    (404, "message_not_found"),
    (404, "room_not_found"),
    (404, "user_not_found"),
    (409, ""),
    (409, "name_taken"),
    (422, "bad_query"),
    (429, "rate_limited"),
    (429, "too_many_rooms"),
    (429, "too_many_sessions"),
    (503, "server_full"),
    (1000, ""),
    (4401, ""),
    (4403, ""),
    (4404, ""),
    (4409, ""),
    (4410, ""),
    (4411, ""),
    (4429, ""),
];

/// What has happened in a run.
#[derive(PartialEq, Eq, Debug, Default, Clone)]
pub struct Facts {
    pub hash: u64,
    /// How often each status or close was predicted and received.
    pub outcomes: BTreeMap<Expected, usize>,
    /// How often time has passed exactly to a deadline.
    pub deadlines: usize,
    /// How many sockets were in a room when its ttl was over.
    pub expired: usize,
    /// By peer: what it has received, if that is compared.
    pub events: Vec<Vec<String>>,
}

/// What the town runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// One server.
    Server,
    /// One server, or a cluster of so many nodes, whose outcomes are compared.
    #[cfg(feature = "cluster")]
    Compared { nodes: usize },
}

impl Scope {
    fn is_compared(self) -> bool {
        self != Scope::Server
    }

    /// Whether a cluster's limits apply.
    fn is_clustered(self) -> bool {
        match self {
            Scope::Server => false,
            #[cfg(feature = "cluster")]
            Scope::Compared { nodes } => nodes > 0,
        }
    }
}

/// Runs a seed to its end, on one server.
pub fn run(seed: u64) -> Facts {
    run_on(seed, Scope::Server)
}

/// Runs a seed to its end. What the peers do depends on the seed only.
pub fn run_on(seed: u64, scope: Scope) -> Facts {
    let mut dice = Dice::new(seed ^ 0x7033);
    let rate = |per_second, burst| Rate { per_second, burst };
    let mut config = Config {
        session_ttl: Duration::from_secs(*dice.pick(&[20, 100])),
        room_ttl: Duration::from_secs(*dice.pick(&[5, 30])),
        new_room_ttl: Duration::from_secs(*dice.pick(&[3, 40])),
        leave_grace: Duration::from_secs(*dice.pick(&[0, 3, 7])),
        history_messages_max: *dice.pick(&[0, 1, 5, 20, 1000]),
        message_rate: *dice.pick(&[rate(0, 1), rate(1, 1), rate(2, 3)]),
        session_rate: *dice.pick(&[rate(0, 1), rate(1, 2), rate(3, 4)]),
        room_rate: *dice.pick(&[rate(0, 1), rate(1, 1), rate(2, 3)]),
        address_connections_max: *dice.pick(&[None, Some(1), Some(3)]),
        address_sessions_max: *dice.pick(&[None, Some(1), Some(3)]),
        connections_max: *dice.pick(&[None, Some(6), Some(12)]),
        sessions_max: *dice.pick(&[3, 8, 1000]),
        rooms_max: *dice.pick(&[1, 4, 1000]),
        ..Config::default()
    };
    let buffer_bytes = *dice.pick(&[200, 1000, RELIABLE.buffer_bytes]);
    let network = Network { fault_percent: *dice.pick(&[0, 10, 30]), buffer_bytes };
    if scope.is_compared() {
        // Limits of each server by itself.
        (config.address_connections_max, config.connections_max) = (None, None);
        // A cluster counts a person's messages by room.
        if seed % 2 == 0 {
            config.message_rate = rate(0, 1);
        }
    }
    let mut world = match scope {
        Scope::Server => World::new(seed, &config, network),
        #[cfg(feature = "cluster")]
        Scope::Compared { nodes } => {
            crate::cluster::differential::world(seed, &config, network, nodes)
        }
    };
    world.has_message_rate = false; // The model predicts what is refused.
    let model = Model::new(world.now.mono, &config, scope.is_clustered());
    let (last_seen, facts) = (BTreeMap::new(), Facts::default());
    let mut town = Town { scope, world, model, last_seen, texts: 0, facts };
    for _ in 0..120 {
        town.act();
        town.check();
    }
    #[cfg(feature = "cluster")]
    if scope.is_compared() {
        town.facts.events = crate::cluster::differential::events(&town.world);
    }
    town.world.close_all();
    town.facts.hash = town.world.hash;
    town.facts
}

impl Town {
    fn act(&mut self) {
        match self.world.dice.below(112) {
            0..12 => self.open_session(),
            12..20 => self.open_room(),
            20..26 => self.join(),
            26..30 => self.leave(),
            30..33 => self.delete_room(),
            33..35 => self.end_session(),
            35..43 => self.change_room(),
            43..48 => self.post(),
            48..57 => self.read(),
            57..71 => self.enter(),
            71..81 => self.chat(),
            81..84 => self.chat_in_slow_mode(),
            84..89 => self.disconnect(),
            89 => self.operate(),
            90 => self.wait_for_expiry(),
            91..100 => self.pass_time(),
            100..105 => self.remove_user(),
            105 => self.lift_ban(),
            _ => self.delete_message(),
        }
    }

    // ---- Users, rooms and addresses

    fn address(&mut self) -> (Option<IpAddr>, Quota) {
        let (address, quota) = *self.world.dice.pick(&ADDRESSES);
        (Some(address.parse().expect("an address")), quota)
    }

    /// A user, in most cases one whose session has not ended.
    fn pick_user(&mut self) -> Option<usize> {
        let living: Vec<usize> = self.model.sessions.keys().copied().collect();
        if living.is_empty() || self.world.dice.percent(8) {
            let all = self.world.users.len();
            return (all > 0).then(|| self.world.dice.below(all));
        }
        Some(*self.world.dice.pick(&living))
    }

    /// The same for rooms.
    fn pick_room(&mut self) -> Option<usize> {
        let living: Vec<usize> = self.model.rooms.keys().copied().collect();
        if living.is_empty() || self.world.dice.percent(8) {
            let all = self.world.rooms.len();
            return (all > 0).then(|| self.world.dice.below(all));
        }
        Some(*self.world.dice.pick(&living))
    }

    fn pick_user_and_room(&mut self) -> Option<(usize, usize)> {
        Some((self.pick_user()?, self.pick_room()?))
    }

    fn session(&self, user: usize) -> Option<String> {
        self.world.users[user].session.clone()
    }

    fn path(&self, room: usize, rest: &str) -> String {
        format!("/rooms/{}{rest}", self.world.rooms[room].id)
    }

    // ---- Requests

    /// Sends one request on a connection of its own, and returns the response. `None` if the
    /// connection is over a limit: then the request does not reach the model.
    fn request(&mut self, request: &[u8], from: Option<IpAddr>, quota: Quota) -> Option<Response> {
        let over_limit = self.model.over_limit(quota);
        let peer = self.world.connect(Protocol::Http(HttpPeer::default()), from);
        self.world.request(peer, request, Check::ByCaller);
        self.world.settle_and_close(peer);
        let response = self.world.peers[peer].http().responses.pop().expect("a response");
        match over_limit {
            Some(expected) => {
                self.expect(expected, &response);
                None
            }
            None => Some(response),
        }
    }

    /// Checks that the response is the predicted one, and returns its content.
    fn expect(&mut self, expected: Expected, response: &Response) -> Value {
        let json: Value = serde_json::from_slice(&response.body).expect("content is JSON");
        let code = json["code"].as_str().unwrap_or_default();
        assert_eq!((response.status, code), expected, "{response:?}");
        if matches!(response.status, 429 | 503) {
            assert!(response.head.contains("\r\nRetry-After: "), "{}", response.head);
        }
        *self.facts.outcomes.entry(expected).or_default() += 1;
        json
    }

    fn open_session(&mut self) {
        let (from, quota) = self.address();
        let name = *self.world.dice.pick(&NAMES);
        let body = json!({"username": name}).to_string();
        let request = wire::request("POST", "/sessions", None, &body);
        let Some(response) = self.request(&request, from, quota) else { return };
        let user = self.world.users.len();
        let expected = self.model.open_session(user, name, quota);
        let json = self.expect(expected, &response);
        if let Some(session) = json["session_id"].as_str().map(str::to_owned) {
            let (name, session) = (name.to_owned(), Some(session));
            self.world.users.push(User { name, session, has_namesake: false });
        }
    }

    fn end_session(&mut self) {
        let Some(user) = self.pick_user() else { return };
        // Often the owner of a room with others in it; then the user that inherits the room deletes
        // it.
        let shared = self.model.rooms.iter().filter(|(_, room)| room.present.len() > 1);
        let shared: Vec<_> = shared.filter_map(|(room, it)| Some((it.owner?, *room))).collect();
        if shared.is_empty() || self.world.dice.percent(40) {
            return self.delete_session(user);
        }
        let (owner, room) = *self.world.dice.pick(&shared);
        self.delete_session(owner);
        if let Some(heir) = self.owner(room) {
            self.delete_room_as(heir, room);
        }
    }

    fn delete_session(&mut self, user: usize) {
        let (from, quota) = self.address();
        let sockets = self.sockets_of(user, None);
        let request = wire::request("DELETE", "/sessions/me", self.session(user).as_deref(), "");
        self.allow_close(&sockets, 4401);
        let Some(response) = self.request(&request, from, quota) else {
            return self.forbid_close(&sockets);
        };
        self.model.remove_session(user);
        self.expect(OK, &response);
        self.expect_closed(&sockets, 4401);
    }

    fn open_room(&mut self) {
        let Some(user) = self.pick_user() else { return };
        let (from, quota) = self.address();
        let dice = &mut self.world.dice;
        let private = dice.percent(20);
        let password = dice.percent(30).then_some(PASSWORD);
        let (ttl, slow_mode) = (*dice.pick(&[None, Some(60), Some(65)]), *dice.pick(&[0, 0, 0, 4]));
        let title = Some(TITLE);
        let shown = Shown { title, private, password, locked: false, slow_mode };
        let body = json!({
            "private": private, "password": password, "title": TITLE, "ttl": ttl,
            "slow_mode": slow_mode,
        });
        let body = body.to_string();
        let request = wire::request("POST", "/rooms", self.session(user).as_deref(), &body);
        let Some(response) = self.request(&request, from, quota) else { return };
        let room = self.world.rooms.len();
        let expected = self.model.open_room(room, user, shown, ttl, quota);
        let json = self.expect(expected, &response);
        if let Some(id) = json["room_id"].as_str() {
            assert_eq!(id.len(), if private || password.is_some() { 32 } else { 10 });
            self.world.rooms.push(Room::new(id.to_owned(), usize::MAX));
        }
    }

    fn join(&mut self) {
        let Some((user, room)) = self.pick_user_and_room() else { return };
        let (from, quota) = self.address();
        let password = *self.world.dice.pick(&[None, Some(PASSWORD), Some("guess"), Some("guess")]);
        let body = password.map_or(String::new(), |it| json!({"password": it}).to_string());
        let session = self.session(user);
        let path = self.path(room, "/join");
        let request = wire::request("POST", &path, session.as_deref(), &body);
        for _ in 0..if password == Some("guess") { 4 } else { 1 } {
            let Some(response) = self.request(&request, from, quota) else { return };
            let expected = self.model.join(room, user, password, quota);
            self.expect(expected, &response);
        }
    }

    fn leave(&mut self) {
        let Some((user, room)) = self.pick_user_and_room() else { return };
        let (from, quota) = self.address();
        let sockets = self.sockets_of(user, Some(room));
        let path = self.path(room, "/leave");
        let request = wire::request("DELETE", &path, self.session(user).as_deref(), "");
        self.allow_close(&sockets, 1000);
        let Some(response) = self.request(&request, from, quota) else {
            return self.forbid_close(&sockets);
        };
        let expected = self.model.leave(room, user);
        self.expect(expected, &response);
        self.expect_closed(&sockets, 1000);
    }

    fn delete_room(&mut self) {
        let Some((user, room)) = self.pick_user_and_room() else { return };
        let user = self.owner(room).filter(|_| self.world.dice.percent(50)).unwrap_or(user);
        self.delete_room_as(user, room);
    }

    fn owner(&self, room: usize) -> Option<usize> {
        self.model.rooms.get(&room)?.owner
    }

    fn delete_room_as(&mut self, user: usize, room: usize) {
        let (from, quota) = self.address();
        let sockets = self.model.rooms.get(&room).map(|room| room.sockets.clone());
        let sockets = sockets.unwrap_or_default();
        let path = self.path(room, "");
        let request = wire::request("DELETE", &path, self.session(user).as_deref(), "");
        self.allow_close(&sockets, 4410);
        let Some(response) = self.request(&request, from, quota) else {
            return self.forbid_close(&sockets);
        };
        let expected = self.model.delete_room(room, user);
        self.expect(expected, &response);
        match expected {
            OK => self.expect_closed(&sockets, 4410),
            _ => self.forbid_close(&sockets),
        }
    }

    /// The operator deletes a room, whoever owns it. Its connections have no quota.
    fn operate(&mut self) {
        let Some(room) = self.pick_room() else { return };
        let sockets = self.model.rooms.get(&room).map(|room| room.sockets.clone());
        let sockets = sockets.unwrap_or_default();
        self.allow_close(&sockets, 4410);
        let path = self.path(room, "");
        let request = format!("DELETE {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let protocol = Protocol::Http(HttpPeer::default());
        let peer = self.world.connect_to(Purpose::Admin, protocol, LOOPBACK);
        self.world.request(peer, request.as_bytes(), Check::ByCaller);
        self.world.settle_and_close(peer);
        let response = self.world.peers[peer].http().responses.pop().expect("a response");
        let expected = self.model.operate(room);
        self.expect(expected, &response);
        match expected {
            OK => self.expect_closed(&sockets, 4410),
            _ => self.forbid_close(&sockets),
        }
    }

    fn change_room(&mut self) {
        let owned = self.model.rooms.iter().filter_map(|(room, it)| Some((it.owner?, *room)));
        let owned: Vec<_> = owned.collect();
        let anywhere = owned.is_empty() || self.world.dice.percent(20);
        let both =
            if anywhere { self.pick_user_and_room() } else { Some(*self.world.dice.pick(&owned)) };
        let Some((user, room)) = both else { return };
        let known = self.known_users(room);
        let mut changes = Changes::default();
        let mut body = json!({});
        for _ in 0..self.world.dice.below(4) {
            let dice = &mut self.world.dice;
            match dice.below(6) {
                0 => {
                    let title = *dice.pick(&[None, Some(TITLE), Some("another")]);
                    (changes.title, body["title"]) = (Some(title), json!(title));
                }
                1 | 2 => {
                    let locked = dice.percent(40);
                    (changes.locked, body["locked"]) = (Some(locked), json!(locked));
                }
                3 => {
                    let slow_mode = *dice.pick(&[0, 2, 9]);
                    (changes.slow_mode, body["slow_mode"]) = (Some(slow_mode), json!(slow_mode));
                }
                4 => {
                    let password = *dice.pick(&[None, Some(PASSWORD), Some("other")]);
                    (changes.password, body["password"]) = (Some(password), json!(password));
                }
                _ if known.is_empty() || dice.percent(10) => {
                    (changes.owner, body["owner"]) = (Some(None), json!("nobody"));
                }
                _ => {
                    let (heir, user_id) = dice.pick(&known);
                    (changes.owner, body["owner"]) = (Some(Some(*heir)), json!(user_id));
                }
            }
        }
        let (from, quota) = self.address();
        let (path, session) = (self.path(room, ""), self.session(user));
        let request = wire::request("PATCH", &path, session.as_deref(), &body.to_string());
        let Some(response) = self.request(&request, from, quota) else { return };
        let expected = self.model.change_room(room, user, &changes);
        let json = self.expect(expected, &response);
        if expected == OK {
            self.check_shown(&json, room);
        }
    }

    /// The users of a room of whom a peer has learnt the user id there, and who may have gone.
    fn known_users(&self, room: usize) -> Vec<(usize, String)> {
        let peers = self.world.peers.iter().filter_map(|peer| peer.ws());
        let known = peers.filter(|ws| ws.room == room);
        known.filter_map(|ws| Some((ws.user, ws.you.clone()?))).collect()
    }

    /// A room in which the user id of somebody is known, mostly with its owner, and that person.
    fn pick_target(&mut self) -> Option<(usize, usize, usize, String)> {
        let rooms = self.model.rooms.keys().map(|room| (*room, self.known_users(*room)));
        let rooms: Vec<_> = rooms.filter(|(_, known)| !known.is_empty()).collect();
        if rooms.is_empty() {
            return None;
        }
        let (room, known) = self.world.dice.pick(&rooms).clone();
        let (target, user_id) = self.world.dice.pick(&known).clone();
        let by = self.pick_user()?;
        let by = self.owner(room).filter(|_| self.world.dice.percent(80)).unwrap_or(by);
        Some((room, by, target, user_id))
    }

    fn remove_user(&mut self) {
        let Some((room, by, target, user_id)) = self.pick_target() else { return };
        let seconds = *self.world.dice.pick(&[1, 20, 600]);
        let with_address = self.world.dice.percent(50);
        let ban = self.world.dice.percent(60).then_some((seconds, with_address));
        let query = ban.map_or(String::new(), |_| format!("?ban={seconds}&address={with_address}"));
        let (from, quota) = self.address();
        let sockets = self.sockets_of(target, Some(room));
        let path = self.path(room, &format!("/users/{user_id}{query}"));
        let request = wire::request("DELETE", &path, self.session(by).as_deref(), "");
        self.allow_close(&sockets, 4411);
        let Some(response) = self.request(&request, from, quota) else {
            return self.forbid_close(&sockets);
        };
        let expected = self.model.remove_user(room, by, target, ban);
        self.expect(expected, &response);
        if expected != OK {
            return self.forbid_close(&sockets);
        }
        self.expect_closed(&sockets, 4411);
        if ban.is_some() {
            self.knock(target, room);
        }
    }

    /// A banned user and others ask for the users of a room, from several addresses.
    fn knock(&mut self, banned: usize, room: usize) {
        for _ in 0..6 {
            let user = if self.world.dice.percent(50) { Some(banned) } else { self.pick_user() };
            let Some(user) = user else { return };
            let (from, quota) = self.address();
            let path = self.path(room, "/users");
            let request = wire::request("GET", &path, self.session(user).as_deref(), "");
            let Some(response) = self.request(&request, from, quota) else { continue };
            let expected = self.model.read(room, user, quota);
            self.expect(expected, &response);
            if self.world.dice.percent(20) {
                self.pass(Duration::from_millis(500));
            }
        }
    }

    fn lift_ban(&mut self) {
        let Some((room, by, target, user_id)) = self.pick_target() else { return };
        let (from, quota) = self.address();
        let path = self.path(room, &format!("/bans/{user_id}"));
        let request = wire::request("DELETE", &path, self.session(by).as_deref(), "");
        let Some(response) = self.request(&request, from, quota) else { return };
        let expected = self.model.lift_ban(room, by, target);
        self.expect(expected, &response);
    }

    /// A user, mostly the author or the owner, deletes a message that a peer has received.
    fn delete_message(&mut self) {
        let Some(peer) = self.open_socket(false) else { return };
        let Socket { user, room, from: first, .. } = self.model.sockets[&peer];
        let seen = &self.world.peers[peer].ws().expect("a WebSocket").seen;
        let mut wanted: Vec<_> = seen.iter().cloned().enumerate().collect();
        if self.world.dice.percent(80) {
            wanted.retain(|(_, id)| self.world.rooms[room].log[id].kind == "chat");
        }
        if wanted.is_empty() {
            return;
        }
        let (place, id) = self.world.dice.pick(&wanted).clone();
        let owner = self.owner(room).unwrap_or(user);
        let Some(other) = self.pick_user() else { return };
        let by = *self.world.dice.pick(&[user, owner, other]);
        let (from, quota) = self.address();
        let path = self.path(room, &format!("/messages/{id}"));
        let request = wire::request("DELETE", &path, self.session(by).as_deref(), "");
        let Some(response) = self.request(&request, from, quota) else { return };
        let expected = self.model.delete_message(room, first + place, by);
        self.expect(expected, &response);
    }

    /// Checks what is shown of a room.
    fn check_shown(&self, json: &Value, room: usize) {
        let Shown { title, private, password, locked, slow_mode } = self.model.rooms[&room].shown;
        let shown = ["title", "private", "password", "locked", "slow_mode"].map(|name| &json[name]);
        let password = password.is_some();
        let expected =
            [json!(title), json!(private), json!(password), json!(locked), json!(slow_mode)];
        assert_eq!(shown, expected.each_ref());
        assert_eq!(json["expires_at"].is_null(), self.model.rooms[&room].expiry.is_none());
    }

    fn post(&mut self) {
        // Often a member posts into an empty room, which then expires later.
        let empty = self.model.rooms.iter().filter(|(_, room)| room.sockets.is_empty());
        let empty = empty.filter_map(|(room, it)| Some((*it.members.first()?, *room)));
        let empty: Vec<_> = empty.collect();
        let anywhere = empty.is_empty() || self.world.dice.percent(60);
        let both =
            if anywhere { self.pick_user_and_room() } else { Some(*self.world.dice.pick(&empty)) };
        let Some((user, room)) = both else { return };
        let (from, quota) = self.address();
        let (text, nonce) = self.text_and_nonce();
        let body = json!({"message": text, "nonce": nonce}).to_string();
        let path = self.path(room, "/messages");
        let request = wire::request("POST", &path, self.session(user).as_deref(), &body);
        let Some(response) = self.request(&request, from, quota) else { return };
        let expected = self.model.post(room, user, &text, &nonce);
        self.expect(expected, &response);
        if expected.0 < 300 {
            let id = self.world.rooms[room].record(&response.body);
            let message = &self.world.rooms[room].log[&id];
            assert_eq!(message.nonce.as_ref(), Some(&nonce));
            assert!(expected == OK || message.text == text, "another text is posted");
        }
    }

    /// A user reads something.
    fn read(&mut self) {
        let Some((user, room)) = self.pick_user_and_room() else { return };
        let (from, quota) = self.address();
        let session = self.session(user);
        let what = self.world.dice.below(6);
        let limit = 1 + self.world.dice.below(30);
        if what == 0 && self.scope.is_compared() {
            self.pass(Duration::from_millis(250)); // A node asks for the listing four times a second.
        }
        let path = match what {
            0 => "/rooms/all".to_owned(),
            1 => "/sessions/me".to_owned(),
            2 => self.path(room, ""),
            3 => self.path(room, "/users"),
            _ => self.path(room, &format!("/messages?limit={limit}")),
        };
        let request = wire::request("GET", &path, session.as_deref(), "");
        let Some(response) = self.request(&request, from, quota) else { return };
        let expected = match what {
            0 => OK,
            1 => self.model.touch(user),
            2 if self.model.rooms.contains_key(&room) => OK,
            2 => (404, "room_not_found"),
            _ => self.model.read(room, user, quota),
        };
        let json = self.expect(expected, &response);
        if expected != OK {
            return;
        }
        let id = |room: &usize| json!(self.world.rooms[*room].id);
        match what {
            0 => {
                let public = self.model.rooms.iter().filter(|(_, room)| !room.shown.private);
                let ids: Vec<_> = public.rev().map(|(room, _)| id(room)).collect();
                assert_eq!(json["rooms"], Value::from(ids));
            }
            1 => {
                let ids: Vec<_> = self.model.sessions[&user].rooms.iter().map(id).collect();
                assert_eq!(json["joined_rooms"], Value::from(ids));
            }
            2 => {
                assert_eq!(json["user_count"], self.model.rooms[&room].present.len());
                self.check_shown(&json, room);
            }
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
        present.map(|(user, _)| &self.model.sessions[user].name[..]).collect()
    }

    // ---- Sockets

    fn sockets_of(&self, user: usize, room: Option<usize>) -> Vec<usize> {
        let sockets = self.model.sockets.iter().filter(|(_, socket)| {
            socket.user == user && room.is_none_or(|room| room == socket.room)
        });
        sockets.map(|(peer, _)| *peer).collect()
    }

    fn allow_close(&mut self, sockets: &[usize], code: u16) {
        for socket in sockets {
            self.world.peers[*socket].ws_mut().expect("a WebSocket").closes_possible.insert(code);
        }
    }

    /// The request was refused, so it must not cause a close.
    fn forbid_close(&mut self, sockets: &[usize]) {
        for socket in sockets {
            self.world.peers[*socket].ws_mut().expect("a WebSocket").closes_possible.clear();
        }
    }

    fn expect_closed(&mut self, sockets: &[usize], code: u16) {
        for socket in sockets {
            let closed = self.world.peers[*socket].ws().and_then(|ws| ws.closed.as_ref());
            assert_eq!(closed.map(|(code, _)| *code), Some(code), "peer {socket}");
            *self.facts.outcomes.entry((code, "")).or_default() += 1;
        }
    }

    /// Enters by WebSocket, or by an event stream, which is refused by a status.
    fn enter(&mut self) {
        let Some((user, room)) = self.pick_user_and_room() else { return };
        let (from, quota) = self.address();
        let (start, resume_after, last) = self.start(user, room);
        if self.model.is_held_by_streams(room, user) {
            return; // It would wait for the end of the probe.
        }
        if self.world.dice.percent(30) {
            return self.enter_stream(user, room, from, quota, (start, resume_after, last));
        }
        let is_over_limit = match self.model.over_limit(quota) {
            Some((503, _)) => {
                let session = self.session(user).unwrap_or_default();
                let request = wire::upgrade(&self.world.rooms[room].id, &session, "");
                return drop(self.request(&request, from, quota));
            }
            over_limit => over_limit.is_some(),
        };
        let peer = self.world.enter_with(user, room, start, from);
        let socket = Socket { user, room, quota, from: 0, changes: 0, is_stream: false };
        let refused = self.model.enter(peer, socket, resume_after, last, is_over_limit);
        let ws = self.world.peers[peer].ws_mut().expect("a WebSocket");
        ws.closes_possible = refused.into_iter().collect();
        self.world.settle();
        match refused {
            Some(code) => self.expect_closed(&[peer], code),
            None => *self.facts.outcomes.entry((101, "")).or_default() += 1,
        }
        if self.scope.is_compared() && refused.is_some() {
            self.use_session(user);
        }
    }

    /// A socket that is refused counts as a use of its session in a cluster, but not in a server by
    /// itself. After this it makes no difference.
    fn use_session(&mut self, user: usize) {
        let request = wire::request("GET", "/sessions/me", self.session(user).as_deref(), "");
        let Some(response) = self.request(&request, LOOPBACK, None) else { return };
        let expected = self.model.touch(user);
        self.expect(expected, &response);
    }

    fn enter_stream(
        &mut self,
        user: usize,
        room: usize,
        from: Option<IpAddr>,
        quota: Quota,
        (start, resume_after, last): (Start, Option<usize>, usize),
    ) {
        let format = *self.world.dice.pick(&[Format::EventStream, Format::Lines]);
        if self.model.over_limit(quota).is_some() {
            let session = self.session(user).unwrap_or_default();
            let id = &self.world.rooms[room].id;
            return drop(self.request(&wire::events(id, &session, "", "", format), from, quota));
        }
        self.model.touch(user);
        let peer = self.world.enter_as(user, room, start, from, Some(format));
        let socket = Socket { user, room, quota, from: 0, changes: 0, is_stream: true };
        let refused = self.model.enter(peer, socket, resume_after, last, false);
        let refused = refused.map(|code| code - 4000);
        let ws = self.world.peers[peer].ws_mut().expect("a stream");
        ws.closes_possible = refused.into_iter().collect();
        self.world.settle();
        match refused {
            Some(status) => {
                let closed = self.world.peers[peer].ws().and_then(|ws| ws.closed.as_ref());
                assert_eq!(closed.map(|(status, _)| *status), Some(status), "peer {peer}");
                // Refusals for joining too often are too rare to be demanded.
                let outcome = if status == 429 { LIMITED } else { (status, "") };
                *self.facts.outcomes.entry(outcome).or_default() += 1;
                self.world.settle_and_close(peer); // The connection persists.
            }
            None => *self.facts.outcomes.entry(OK).or_default() += 1,
        }
    }

    /// Where a connection starts: the parameter, the place in the log to resume after, and the
    /// number of messages from the history.
    fn start(&mut self, user: usize, room: usize) -> (Start, Option<usize>, usize) {
        match self.world.dice.below(4) {
            0 | 1 => match self.last_seen.get(&(user, room)) {
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

    /// A new text, and a nonce that may have been used before.
    fn text_and_nonce(&mut self) -> (String, String) {
        self.texts += 1;
        (format!("text {}", self.texts), format!("nonce {}", self.world.dice.below(6)))
    }

    fn open_socket(&mut self, must_send: bool) -> Option<usize> {
        let sockets = self.model.sockets.iter().filter(|(_, one)| !must_send || !one.is_stream);
        let sockets: Vec<usize> = sockets.map(|(peer, _)| *peer).collect();
        (!sockets.is_empty()).then(|| *self.world.dice.pick(&sockets))
    }

    fn chat(&mut self) {
        let Some(peer) = self.open_socket(true) else { return };
        for _ in 0..1 + self.world.dice.below(4) {
            self.say(peer);
        }
        self.world.settle();
    }

    fn say(&mut self, peer: usize) {
        let (text, nonce) = self.text_and_nonce();
        let predicted = self.model.chat(peer, &text, &nonce);
        self.world.chat_with_nonce(peer, text, nonce);
        let ws = self.world.peers[peer].ws_mut().expect("a WebSocket");
        match (&predicted, ws.replies_due.back_mut()) {
            (Ok(echo), Some(Reply::EchoOf { text, .. })) => text.clone_from(echo),
            (Err((_, code)), Some(due)) => *due = Reply::Refused(code),
            _ => unreachable!("a chat has a reply"),
        }
        *self.facts.outcomes.entry(predicted.err().unwrap_or((0, ""))).or_default() += 1;
    }

    /// A member that is not the owner chats, chats too early, and chats when its time has come.
    fn chat_in_slow_mode(&mut self) {
        let sockets = self.model.sockets.iter().filter(|(_, socket)| {
            let room = &self.model.rooms[&socket.room];
            let can_chat = !socket.is_stream && room.owner != Some(socket.user);
            room.shown.slow_mode > 0 && can_chat
        });
        let sockets: Vec<_> = sockets
            .map(|(peer, socket)| (*peer, self.model.rooms[&socket.room].shown.slow_mode))
            .collect();
        if sockets.is_empty() {
            return;
        }
        let (peer, seconds) = *self.world.dice.pick(&sockets);
        let half = Duration::from_secs(seconds) / 2;
        for _ in 0..3 {
            if self.model.sockets.contains_key(&peer) {
                self.say(peer);
            }
            self.world.settle();
            self.check();
            self.pass(half);
        }
    }

    fn disconnect(&mut self) {
        let Some(peer) = self.open_socket(false) else { return };
        self.note_resume_point(peer);
        let closed = self.world.dice.percent(40) && !self.model.sockets[&peer].is_stream;
        match self.world.dice.below(3) {
            _ if closed => {
                let close = self.world.frame(CLOSE, &1000u16.to_be_bytes());
                self.world.send_and_expect_close(peer, &close, 1000);
            }
            0 => self.world.reset(peer),
            1 => self.world.close(peer),
            _ => self.world.half_close(peer),
        }
        self.world.settle();
        self.model.close(peer, closed);
    }

    /// Records where the user resumes when it connects again.
    fn note_resume_point(&mut self, peer: usize) {
        let Socket { user, room, from, .. } = self.model.sockets[&peer];
        let seen = &self.world.peers[peer].ws().expect("a WebSocket").seen;
        if let Some(last) = seen.last() {
            self.last_seen.insert((user, room), (last.clone(), from + seen.len() - 1));
        }
    }

    // ---- Time

    fn pass_time(&mut self) {
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
            self.world.set_system_clock(Duration::from_secs(3600), forward);
        }
        self.pass(time);
    }

    fn pass(&mut self, time: Duration) {
        let time = if self.scope.is_compared() { self.clear_of_deadlines(time) } else { time };
        let end = self.world.now.after(time).mono;
        let ending = self.model.rooms.values();
        let ending = ending.filter(|room| room.expiry.is_some_and(|due| due.deadline <= end));
        let sockets: Vec<usize> = ending.flat_map(|room| room.sockets.clone()).collect();
        self.allow_close(&sockets, 4410);
        self.world.pass_time(time);
        self.model.now = self.world.now.mono;
        self.model.sweep();
        self.world.settle();
        self.expect_closed(&sockets, 4410);
        self.facts.expired += sockets.len();
        for socket in sockets {
            let ws = self.world.peers[socket].ws().expect("a WebSocket");
            assert_eq!(ws.closed.as_ref().map(|(_, reason)| &reason[..]), Some("room expired"));
        }
    }

    /// A time after which it is certain what is over: this one, or a little more. A cluster ends a
    /// session up to a 64th of its time later, and what a node has armed that is not told at once
    /// within a beat.
    fn clear_of_deadlines(&self, time: Duration) -> Duration {
        const EARLIER: Duration = Duration::from_millis(50); // The model rounds up.
        const LATER: Duration = Duration::from_millis(1100);
        let mut end = self.world.now.after(time).mono;
        let mut deadlines: Vec<_> = self.model.deadlines().collect();
        deadlines.sort();
        for (deadline, more) in deadlines {
            let over = deadline.after(more).after(LATER);
            if end.after(EARLIER) > deadline && end < over {
                end = over;
            }
        }
        end.since(self.world.now.mono)
    }

    /// Time passes to the end of a room with sockets, in steps in which peers answer pings.
    fn wait_for_expiry(&mut self) {
        let rooms = self.model.rooms.values().filter(|room| !room.sockets.is_empty());
        let Some(due) = rooms.filter_map(|room| room.expiry).min() else { return };
        const STEP: Duration = Duration::from_secs(5);
        const LEAST: Duration = Duration::from_micros(1);
        loop {
            let left = due.deadline.since(self.world.now.mono);
            self.pass(if left > LEAST { STEP.min(left - LEAST) } else { left });
            self.check();
            if left <= LEAST {
                return;
            }
        }
    }

    // ---- Comparison

    fn check(&mut self) {
        let members: usize = self.model.rooms.values().map(|room| room.members.len()).sum();
        let counts = Counts {
            sessions: self.model.sessions.len(),
            rooms: self.model.rooms.len(),
            members,
            connections: self.model.sockets.len(),
        };
        assert_eq!(self.world.counts(), counts);
        let (world, model) = (&self.world, &self.model);
        for (peer, socket) in &model.sockets {
            let client_of = &world.peers[*peer];
            assert!(client_of.is_healthy(), "peer {peer} is not connected");
            let log = &world.rooms[socket.room].log;
            let seen = client_of.ws().expect("a WebSocket").seen.iter();
            let seen: Vec<_> = seen.map(|id| &log[id].text).collect();
            let owed = model.rooms[&socket.room].log[socket.from..].iter();
            assert_eq!(seen, owed.map(|(text, _)| text).collect::<Vec<_>>(), "peer {peer}");
            let ws = client_of.ws().expect("a WebSocket");
            let room = &model.rooms[&socket.room];
            if ws.start == Start::Live {
                assert_eq!(ws.changes, room.changes - socket.changes, "peer {peer}: changes");
            }
            if !ws.room_shown.is_null() {
                self.check_shown(&ws.room_shown, socket.room);
                let owner = ws.room_shown["owner"].as_str();
                assert_eq!(owner.is_none(), room.owner.is_none(), "peer {peer}");
                if let Some(you) = &ws.you {
                    let is_own = room.owner == Some(socket.user);
                    assert_eq!(owner == Some(you), is_own, "peer {peer}: the owner");
                }
            }
        }
    }
}
