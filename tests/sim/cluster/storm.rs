//! Faults of the store, of nodes and of the network between them, while people chat.
//!
//! Owns the people, the faults, and what must hold at each quiet point. Must not know how a node
//! recovers. The invariants: all readers receive one order, without a gap that they were not told of;
//! each message that was acknowledged is there once, unless the store has lost it and its readers were
//! told; all nodes give the same bytes; the store has exactly the people with open connections; and what
//! it counts is what it has.
//!
//! Each person has one connection at a time, through the balancer, and begins another one, after the
//! last message that it has received, when that breaks. What was not echoed is sent again with its
//! nonce.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use disposable_chat::config::{Config, Rate};
use serde_json::Value;

use super::nodes::PREFIX;
use crate::pipe::{Dice, Network, RELIABLE, StreamState};
use crate::store::{Role, SelfPush, StoreSnapshot};
use crate::wire::Format;
use crate::world::{Check, LOOPBACK, Reply, Start, World};
use crate::{Seeds, run};

const WRITERS: usize = 3;
const READERS: usize = 3;

/// How the readers connect, in turn.
const FORMATS: [Option<Format>; 3] = [None, Some(Format::EventStream), Some(Format::Lines)];

/// A person tries another connection if this one has said nothing for so long.
const IMPATIENCE: Duration = Duration::from_secs(8);

/// Ticks of the loop before the people act again.
const TICKS_MAX: usize = 12;

/// What has happened in a run.
#[derive(PartialEq, Eq, Debug, Default, Clone)]
pub struct Facts {
    pub hash: u64,
    pub messages: usize,
    pub reconnects: usize,
    /// Resumes for which a gap was reported.
    pub incomplete: usize,
    /// Messages that were sent again.
    pub resent: usize,
    /// Messages that the store has lost after they were read.
    pub lost: usize,
    /// By kind of fault.
    pub faults: [usize; FAULTS],
}

/// How many kinds of faults there are.
const FAULTS: usize = 10;

struct Person {
    user: usize,
    format: Option<Format>,
    /// The present connection.
    peer: usize,
    peers: Vec<usize>,
    /// Ids received over earlier connections.
    seen: Vec<String>,
    /// The last message that it has received, if that is lost.
    resumes_after: Option<String>,
    sent: usize,
    to_send: usize,
    /// Text and nonce of what was sent over earlier connections and not echoed.
    unconfirmed: Vec<(String, String)>,
    /// Since when nothing has come.
    silent_since: Duration,
    received: usize,
    /// When it may connect again.
    pause: usize,
}

struct Storm {
    world: World,
    dice: Dice,
    people: Vec<Person>,
    room: usize,
    clock: Duration,
    /// The store as it was, for a loss.
    before: Option<StoreSnapshot>,
    /// When what is broken is mended.
    mend_at: Option<Duration>,
    /// Ids that the store has lost, each with the number of connections until then.
    lost: BTreeMap<String, usize>,
    /// Connections whose peers have received something that is lost, and how much they have received:
    /// nothing may follow.
    deceived: Vec<(usize, usize)>,
    facts: Facts,
}

/// Runs a seed.
pub fn run_seed(seed: u64) -> Facts {
    let mut dice = Dice::new(seed ^ 0x5707);
    let config = Config {
        message_rate: Rate { per_second: 0, burst: 1 },
        history_messages_max: *dice.pick(&[8, 60, 1000]),
        leave_grace: *dice.pick(&[Duration::ZERO, Duration::from_secs(3)]),
        session_ttl: Duration::from_secs(120),
        room_ttl: Duration::from_secs(60),
        ..Config::default()
    };
    let nodes = 1 + dice.below(3);
    let fault_percent = *dice.pick(&[0, 20, 50]);
    let mut world = World::in_cluster(seed, &config, RELIABLE, nodes);
    world.network = Network { fault_percent: fault_percent / 2, ..RELIABLE };
    world.cluster().fault_percent = fault_percent;
    let self_push = *dice.pick(&[SelfPush::BeforeReply, SelfPush::AfterReply]);
    world.cluster().store.set_self_push(self_push);
    let users = world.add_users(WRITERS + READERS);
    let room = world.open_room(users.start, false);
    let mut storm = Storm {
        world,
        dice,
        people: Vec::new(),
        room,
        clock: Duration::ZERO,
        before: None,
        mend_at: None,
        lost: BTreeMap::new(),
        deceived: Vec::new(),
        facts: Facts::default(),
    };
    for (number, user) in users.enumerate() {
        let format = if number < WRITERS { None } else { FORMATS[number % FORMATS.len()] };
        let peer = storm.world.enter_as(user, room, Start::Last(1000), LOOPBACK, format);
        storm.world.peers[peer].must_be_served = false;
        storm.people.push(Person {
            user,
            format,
            peer,
            peers: vec![peer],
            seen: Vec::new(),
            resumes_after: None,
            sent: 0,
            to_send: if number < WRITERS { 30 } else { 0 },
            unconfirmed: Vec::new(),
            silent_since: Duration::ZERO,
            received: 0,
            pause: 0,
        });
    }
    for _ in 0..3 {
        storm.rage();
        storm.calm_down();
        storm.judge();
        for person in &mut storm.people {
            person.to_send += if person.to_send > 0 { 20 } else { 0 };
        }
    }
    storm.facts.messages = storm.world.rooms[room].log.len();
    storm.world.close_all();
    storm.facts.hash = storm.world.hash;
    storm.facts
}

impl Storm {
    // ---- What people do

    fn rage(&mut self) {
        for person in &self.people {
            self.world.peers[person.peer].must_be_served = false;
        }
        for _ in 0..120 {
            if self.mend_at.is_none() && self.dice.percent(12) {
                self.break_something();
            }
            if self.mend_at.is_some_and(|at| at <= self.clock) {
                self.mend();
            }
            let most = *self.dice.pick(&[50, 300, 1000]);
            self.step(most);
        }
    }

    fn step(&mut self, most_millis: usize) {
        for person in 0..self.people.len() {
            self.act(person);
        }
        let percent = if self.world.network.fault_percent > 0 { 70 } else { 100 };
        for peer in self.world.active_peers() {
            if self.dice.percent(percent) {
                let count = 1 + self.dice.below(20_000);
                self.world.deliver(peer, count);
            }
        }
        let time = Duration::from_micros(self.dice.below(1000 * most_millis) as u64);
        self.world.advance_clocks(time);
        self.clock += time;
        for _ in 0..TICKS_MAX {
            self.world.tick(false);
        }
        for peer in self.world.active_peers() {
            if self.dice.percent(percent) {
                self.world.receive(peer, usize::MAX);
            }
        }
    }

    fn act(&mut self, number: usize) {
        let peer = self.people[number].peer;
        let ws = self.world.peers[peer].ws().expect("a WebSocket");
        let received = ws.seen.len() + ws.pings_received + ws.pages.count;
        let is_broken = self.world.peers[peer].stream != StreamState::Open || ws.closed.is_some();
        let person = &mut self.people[number];
        if received != person.received {
            (person.received, person.silent_since) = (received, self.clock);
        }
        let waits = !ws.replies_due.is_empty() || !ws.is_live() || !ws.upgraded;
        let is_silent = waits && self.clock - person.silent_since > IMPATIENCE;
        if is_broken || is_silent || self.dice.below(400) == 0 {
            if person.pause == 0 {
                person.pause = 1 + self.dice.below(12);
            }
            person.pause -= 1;
            if person.pause == 0 || !is_broken {
                person.pause = 0;
                self.reconnect(number, is_broken);
            }
        } else if self.dice.percent(25) {
            self.post(number);
        }
    }

    fn reconnect(&mut self, number: usize, is_broken: bool) {
        self.facts.reconnects += 1;
        let old = self.people[number].peer;
        match self.dice.below(2) {
            0 if !is_broken => self.world.reset(old),
            _ => self.world.close(old),
        }
        self.world.peers[old].reading = false;
        let ws = self.world.peers[old].ws().expect("a WebSocket");
        let person = &mut self.people[number];
        person.seen.extend(ws.seen.iter().cloned());
        // They stay due: what is on its way to the old connection may still be read.
        for reply in &ws.replies_due {
            if let Reply::EchoOf { text, nonce } = reply {
                person.unconfirmed.push((text.clone(), nonce.clone()));
            }
        }
        let last = person.resumes_after.take().or_else(|| person.seen.last().cloned());
        let start = match last {
            Some(id) => Start::After(id),
            None => Start::Last(1000),
        };
        person.peer = self.world.enter_as(person.user, self.room, start, LOOPBACK, person.format);
        person.peers.push(person.peer);
        (person.received, person.silent_since) = (0, self.clock);
        self.world.peers[person.peer].must_be_served = false;
    }

    fn post(&mut self, number: usize) {
        let person = &mut self.people[number];
        let ws = self.world.peers[person.peer].ws().expect("a WebSocket");
        if ws.replies_due.len() >= 10 || person.format.is_some() {
            return;
        }
        if let Some((text, nonce)) = person.unconfirmed.pop() {
            self.facts.resent += 1;
            return self.world.chat_with_nonce(person.peer, text, nonce);
        }
        if person.sent == person.to_send {
            return;
        }
        if self.dice.percent(30) {
            return self.world.chat(person.peer, ""); // Once, or never.
        }
        let text = format!("w{}m{} {}", person.user, person.sent, "é".repeat(self.dice.below(200)));
        let (text, nonce) = (text.trim().to_owned(), person.sent.to_string());
        person.sent += 1;
        self.world.chat_with_nonce(person.peer, text, nonce);
    }

    // ---- Faults

    fn break_something(&mut self) {
        let nodes = self.world.cluster().nodes.len();
        let node = self.dice.below(nodes);
        let kind = self.dice.below(FAULTS);
        let seconds =
            |dice: &mut Dice, most: usize| Duration::from_millis(dice.below(1000 * most) as u64);
        let mut lasts = Duration::ZERO;
        match kind {
            0 => {
                let bytes = self.dice.below(3000);
                self.world.cluster().nodes[node].cut_after = Some(bytes);
            }
            1 => (0..nodes).for_each(|node| self.world.cluster().nodes[node].cut()),
            2 => {
                self.world.cluster().is_paused = true;
                lasts = seconds(&mut self.dice, 20);
            }
            3 => {
                self.world.stop_store();
                lasts = seconds(&mut self.dice, 12);
            }
            4 => self.world.cluster().store.forget_functions(),
            5 => {
                self.world
                    .cluster()
                    .store
                    .set_role(*self.dice.pick(&[Role::Loading, Role::Replica]));
                lasts = seconds(&mut self.dice, 8);
            }
            6 => {
                self.world.cluster().store.set_max_memory(Some(0));
                lasts = seconds(&mut self.dice, 8);
            }
            7 => self.world.kill_node(node),
            8 => {
                self.world.cluster().nodes[node].is_frozen = true;
                lasts = seconds(&mut self.dice, 25);
            }
            _ => match self.before.take() {
                None => self.before = Some(self.world.cluster().store.snapshot()),
                Some(before) => {
                    self.lose(&before);
                    lasts = seconds(&mut self.dice, 5);
                }
            },
        }
        self.facts.faults[kind] += 1;
        self.mend_at = Some(self.clock + lasts);
    }

    fn mend(&mut self) {
        self.mend_at = None;
        let cluster = self.world.cluster();
        (cluster.is_paused, cluster.is_away) = (false, false);
        cluster.store.set_role(Role::Primary);
        cluster.store.set_max_memory(None);
        cluster.nodes.iter_mut().for_each(|node| node.is_frozen = false);
    }

    /// The store restarts with what it had a while ago.
    fn lose(&mut self, before: &StoreSnapshot) {
        self.world.stop_store();
        self.world.cluster().store.restore(before);
        // What the store has told before still reaches its readers.
        let is_frozen: Vec<_> = self.world.cluster().nodes.iter().map(|it| it.is_frozen).collect();
        self.world.cluster().nodes.iter_mut().for_each(|node| node.is_frozen = false);
        self.world.run();
        for (node, is_frozen) in self.world.cluster().nodes.iter_mut().zip(is_frozen) {
            node.is_frozen = is_frozen;
        }
        let room = self.world.rooms[self.room].id.clone();
        let last = self.world.cluster().last_id(&room);
        let lost = self.world.rooms[self.room].log.split_off(&last);
        let lost: BTreeSet<String> = lost.into_keys().collect();
        self.facts.lost += lost.len();
        for person in &mut self.people {
            for peer in &person.peers {
                let ws = self.world.peers[*peer].ws_mut().expect("a WebSocket");
                let Some(first) = ws.seen.iter().position(|id| lost.contains(id)) else { continue };
                if *peer == person.peer {
                    self.deceived.push((*peer, first));
                    person.resumes_after = ws.seen.last().cloned();
                }
                ws.seen.truncate(first);
            }
            person.seen.retain(|id| !lost.contains(id));
        }
        let count = self.world.peers.len();
        self.lost.extend(lost.into_iter().map(|id| (id, count)));
    }

    // ---- Quiet

    /// All faults end, and everybody finishes what it has begun.
    fn calm_down(&mut self) {
        self.mend();
        self.before = None;
        self.world.network.fault_percent = 0;
        for rounds in 0.. {
            assert!(rounds < 400, "the run does not calm down: {:?}", self.facts);
            for _ in 0..4 {
                self.step(200);
            }
            let up = self.world.are_nodes_up();
            if up && (0..self.people.len()).all(|number| self.is_done(number)) {
                break;
            }
        }
        // The grace of those who have come back elsewhere, leases, and what is due.
        self.world.pass_time(Duration::from_secs(16));
        self.clock += Duration::from_secs(16);
        for number in 0..self.people.len() {
            if !self.is_done(number) {
                return self.calm_down();
            }
            let peer = self.people[number].peer;
            self.world.peers[peer].must_be_served = true;
        }
        self.world.settle();
    }

    fn is_done(&self, number: usize) -> bool {
        let person = &self.people[number];
        let peer = &self.world.peers[person.peer];
        let ws = peer.ws().expect("a WebSocket");
        person.sent == person.to_send
            && person.unconfirmed.is_empty()
            && ws.replies_due.is_empty()
            && ws.is_live()
            && ws.closed.is_none()
            && peer.stream == StreamState::Open
    }

    fn judge(&mut self) {
        let room = &self.world.rooms[self.room];
        room.check_nonces();
        let once = room.log.values().filter(|it| it.kind == "chat" && it.nonce.is_none());
        let once: Vec<_> = once.map(|message| &message.text).collect();
        assert_eq!(
            once.len(),
            once.iter().collect::<BTreeSet<_>>().len(),
            "a message is there twice"
        );
        for (peer, count) in &self.deceived {
            let seen = &self.world.peers[*peer].ws().expect("a WebSocket").seen;
            assert_eq!(seen.len(), *count, "peer {peer} goes on after what is lost");
        }
        for person in &self.people {
            for peer in &person.peers[1..] {
                let ws = self.world.peers[*peer].ws().expect("a WebSocket");
                let (Some(after), Some(complete)) = (ws.start.resume_point(), ws.pages.complete)
                else {
                    continue;
                };
                self.facts.incomplete += usize::from(!complete);
                let is_lost = self.lost.get(after).is_some_and(|count| peer >= count);
                assert!(!complete || !is_lost, "peer {peer} is not told of a loss");
                if let (true, Some(first)) = (complete, ws.seen.first()) {
                    let next = room.after(after).next();
                    let is_lost = [after, first].iter().any(|id| self.lost.contains_key(&id[..]));
                    assert!(next == Some(first) || is_lost, "peer {peer}: a gap");
                }
            }
            if self.lost.is_empty() && room.history_messages_max >= 1000 {
                let prefix = format!("w{}m", person.user);
                let own =
                    room.log.values().filter_map(|message| message.text.strip_prefix(&prefix));
                let own = own.map(|text| text.split(' ').next().and_then(|it| it.parse().ok()));
                let mut own: Vec<usize> = own.map(|number| number.expect("a number")).collect();
                own.sort_unstable();
                let expected: Vec<_> = (0..person.sent).collect();
                assert_eq!(own, expected, "messages of user {}", person.user);
            }
        }
        self.compare_nodes();
        self.check_store();
    }

    /// All nodes give the same bytes.
    fn compare_nodes(&mut self) {
        let user = self.people[0].user;
        let session = self.world.users[user].session.clone();
        let id = self.world.rooms[self.room].id.clone();
        for path in ["messages?limit=1000", "users", ""] {
            let path = format!("/rooms/{id}/{path}");
            let nodes = self.world.cluster().nodes.len();
            let bodies = (0..nodes).map(|_| {
                let path = path.trim_end_matches('/');
                let response = self.world.get(path, session.as_deref(), Check::Status(&[200]));
                String::from_utf8(response.body).expect("UTF-8")
            });
            let bodies: Vec<_> = bodies.collect();
            assert!(bodies.iter().all(|body| *body == bodies[0]), "{path}: {bodies:#?}");
            if path.ends_with("/users") {
                let json: Value = serde_json::from_str(&bodies[0]).expect("JSON");
                let names = json["users"].as_array().expect("a list").iter();
                let names: BTreeSet<_> = names.map(|it| it["user"].as_str().unwrap()).collect();
                let people = self.people.iter().map(|it| &self.world.users[it.user].name[..]);
                assert_eq!(names, people.collect(), "people present");
            }
        }
    }

    /// The store has the people with open connections, counts what it has, and forgets what is not used.
    fn check_store(&mut self) {
        let counts = self.world.counts();
        let people = self.people.len();
        assert_eq!((counts.sessions, counts.rooms, counts.members), (people, 1, people));
        assert_eq!(counts.connections, people, "open connections");
        let room = self.world.rooms[self.room].id.clone();
        let cluster = self.world.cluster();
        assert_eq!(cluster.number(&["ZCARD", &format!("{PREFIX}o:{room}")]), people, "present");
        let sockets = cluster.keys("s:");
        let sockets: Vec<_> =
            sockets.iter().map(|key| cluster.number(&["HGET", key, "c"])).collect();
        assert!(sockets.iter().all(|count| *count == 1), "sockets of each session: {sockets:?}");
        let live = cluster.nodes.len();
        assert!(cluster.number(&["HLEN", &format!("{PREFIX}nodes")]) >= live);
        let fixed = ["nodes", "lease", "cfg", "due", "rooms", "ix", "ir", "at:", "sat:"];
        for key in cluster.keys("") {
            let is_fixed = fixed.iter().any(|name| key[PREFIX.len()..].starts_with(name));
            assert!(is_fixed || cluster.number(&["PTTL", &key]) > 0, "{key} has no end");
        }
    }
}

#[test]
fn nothing_is_lost_or_repeated_while_stores_and_nodes_fail() {
    let test = "nothing_is_lost_or_repeated_while_stores_and_nodes_fail";
    let (all, are_enough) = run(test, Seeds { quick: 4, slow: 1000, pinned: &[5] }, run_seed);
    let mut faults = [0; FAULTS];
    for facts in &all {
        faults.iter_mut().zip(facts.faults).for_each(|(sum, count)| *sum += count);
    }
    let sum = |of: fn(&Facts) -> usize| all.iter().map(of).sum::<usize>();
    let (reconnects, resent) = (sum(|it| it.reconnects), sum(|it| it.resent));
    let (incomplete, lost) = (sum(|it| it.incomplete), sum(|it| it.lost));
    eprintln!(
        "{faults:?}: {reconnects} reconnects, {resent} resent, {incomplete} gaps, {lost} lost"
    );
    assert!(!are_enough || faults.iter().all(|count| *count > 0) && resent > 0);
    assert!(all.len() < 6 || lost > 0, "the store has lost nothing");
}
