//! Several whole servers over one model store.
//!
//! Owns the nodes besides `World::core`, their connections to the store, and the store's clock. Must
//! not know why a test does what it does. The invariant: a node meets the same order of calls as in
//! `Server::tick`: what the store has sent is handled first, and what the tick has for the store is
//! written last. Between two ticks the network carries any part of what is on its way, in any order of
//! the nodes.

use std::collections::VecDeque;
use std::time::Duration;

use disposable_chat::clock::{Now, SeededEntropy, Wall};
use disposable_chat::cluster::Login;
use disposable_chat::config::Config;
use disposable_chat::ledger::{Account, Ledger};
use disposable_chat::server::{Core, cluster_node};

use crate::pipe::{Dice, Network, ServerEnd, front};
use crate::store::{ConnectionId, ModelStore};
use crate::world::{Check, Counts, World};

/// As in `StoreStream`: the most that a node reads from the store in one tick, and in one call.
const TICK_BYTES_MAX: usize = 256 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// The longest time that passes at once. Nodes renew their leases each second.
const STEP: Duration = Duration::from_millis(500);

/// The store's clock when the simulation begins. The nodes' are others.
const STORE_EPOCH: u64 = 1_755_611_170_000_000;

/// What the names of the store's keys begin with.
pub const PREFIX: &str = "dc:{0}:";

/// What a cluster's servers have in common, and all but the first.
pub struct Cluster {
    pub store: ModelStore,
    /// The first is `World::core`.
    pub nodes: Vec<Node>,
    config: Config,
    seed: u64,
    /// What decides when which bytes arrive.
    dice: Dice,
    /// Chance in percent that bytes to and from the store are delayed or come in parts.
    pub fault_percent: usize,
    /// The store does nothing, and its kernel goes on.
    pub is_paused: bool,
    /// Nobody listens.
    pub is_away: bool,
    /// Connections that their nodes have given up, with what the store has not read yet.
    abandoned: Vec<StoreLink>,
    /// Starts of nodes so far, each of which has entropy of its own.
    starts: u64,
    connections: usize,
    /// How far the store's clock is ahead of the simulation's.
    pub store_ahead: Duration,
}

/// A server of a cluster.
pub struct Node {
    /// `None`: it is `World::core`.
    core: Option<Core<ServerEnd>>,
    pub ledger: Ledger,
    ledger_at_start: usize,
    link: Option<StoreLink>,
    /// Bytes until the connection to the store breaks.
    pub cut_after: Option<usize>,
    /// What the store sends is lost. The connection stays.
    pub misses_output: bool,
    /// How far its wall clock is ahead of the simulation's.
    ahead: Duration,
    /// It does not run, and time goes on.
    pub is_frozen: bool,
}

/// A connection to the store, with what is on its way.
struct StoreLink {
    id: ConnectionId,
    /// The node has been told of it.
    is_open: bool,
    is_broken: bool,
    to_store: VecDeque<u8>,
    from_store: VecDeque<u8>,
}

impl Node {
    fn new(config: &Config, start: u64, seed: u64) -> Node {
        let ledger = Ledger::with_ceiling(config.memory_bytes_max);
        let connections_max = config.connections_max.unwrap_or(10_000);
        let entropy = Box::new(SeededEntropy::new(seed ^ start << 32 ^ 0x0DE5));
        let mut core = Core::new(config, connections_max, entropy, &ledger);
        join(&mut core, config, start, seed);
        let ahead = Duration::from_millis(start * 700_001);
        Node { core: Some(core), ledger_at_start: ledger.total(), ledger, ahead, ..Node::first() }
    }

    fn first() -> Node {
        Node {
            core: None,
            ledger: Ledger::default(),
            ledger_at_start: 0,
            link: None,
            cut_after: None,
            misses_output: false,
            ahead: Duration::ZERO,
            is_frozen: false,
        }
    }

    /// Counts bytes on their way to or from the store. Returns how many of them arrive before the
    /// connection breaks.
    fn pass(&mut self, bytes: usize) -> usize {
        let Some(left) = &mut self.cut_after else { return bytes };
        let passing = bytes.min(*left);
        *left -= passing;
        if passing < bytes {
            self.cut_after = None;
            self.cut();
        }
        passing
    }

    /// The connection to the store breaks, which the node notices when it next reads.
    pub fn cut(&mut self) {
        if let Some(link) = &mut self.link {
            link.is_broken = true;
        }
    }
}

fn join(core: &mut Core<ServerEnd>, config: &Config, start: u64, seed: u64) {
    let entropy = SeededEntropy::new(seed ^ start << 32 ^ 0xC105);
    core.join_cluster(cluster_node(config, None, Box::new(entropy)));
}

impl World {
    /// So many nodes on one store, all of which have reached it.
    pub fn in_cluster(seed: u64, config: &Config, network: Network, count: usize) -> World {
        let config =
            Config { cluster: Some("redis://127.0.0.1".parse().expect("a URL")), ..config.clone() };
        let mut world = World::new(seed, &config, network);
        join(&mut world.core, &config, 0, seed);
        let mut nodes = vec![Node { ledger: world.ledger.clone(), ..Node::first() }];
        nodes.extend((1..count as u64).map(|start| Node::new(&config, start, seed)));
        nodes[0].ledger_at_start = world.ledger.total();
        world.cluster = Some(Cluster {
            store: ModelStore::new(seed),
            nodes,
            config,
            seed,
            dice: Dice::new(seed ^ 0x57043),
            fault_percent: network.fault_percent,
            is_paused: false,
            is_away: false,
            abandoned: Vec::new(),
            starts: count as u64,
            connections: 0,
            store_ahead: Duration::ZERO,
        });
        world.run();
        assert!(world.are_nodes_up(), "each node reaches the store");
        world
    }

    pub fn cluster(&mut self) -> &mut Cluster {
        self.cluster.as_mut().expect("a cluster")
    }

    pub fn node(&mut self, node: usize) -> &mut Core<ServerEnd> {
        let nodes = self.cluster.as_mut().map(|cluster| &mut cluster.nodes);
        let core = nodes.and_then(|nodes| nodes[node].core.as_mut());
        core.unwrap_or(&mut self.core)
    }

    /// The balancer: each connection goes to the next node.
    pub(crate) fn next_node(&mut self) -> usize {
        let Some(cluster) = &mut self.cluster else { return 0 };
        cluster.connections += 1;
        cluster.connections % cluster.nodes.len()
    }

    /// Whether no node misses the store.
    pub fn are_nodes_up(&mut self) -> bool {
        let count = self.cluster().nodes.len();
        (0..count).all(|node| self.cluster().nodes[node].is_frozen || self.is_node_up(node))
    }

    fn is_node_up(&mut self, node: usize) -> bool {
        self.node(node).is_store_connected()
    }

    /// Whether a node's process runs.
    pub(crate) fn is_running(&self, node: usize) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| !cluster.nodes[node].is_frozen)
    }

    // ---- Faults

    /// The process of a node ends at once, and another one begins.
    pub fn kill_node(&mut self, number: usize) {
        for peer in self.peers.iter_mut().filter(|it| it.node == number && it.is_accepted()) {
            (peer.key, peer.must_be_served) = (None, false);
        }
        let cluster = self.cluster();
        let mut node = Node::new(&cluster.config, cluster.starts, cluster.seed);
        cluster.starts += 1;
        let first = if number == 0 { node.core.take() } else { None };
        let old = std::mem::replace(&mut cluster.nodes[number], node);
        cluster.abandoned.extend(old.link);
        if let Some(core) = first {
            self.core = core;
        }
    }

    /// The process of the store ends, and nobody listens there.
    pub fn stop_store(&mut self) {
        let cluster = self.cluster();
        cluster.is_away = true;
        cluster.store.disconnect_all();
        cluster.abandoned.clear();
        for link in cluster.nodes.iter_mut().filter_map(|node| node.link.as_mut()) {
            link.is_broken = true;
            link.to_store.clear();
        }
    }

    // ---- A tick

    /// The tick of each node begins with what the store has sent.
    pub(crate) fn begin_nodes(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else { return };
        cluster.set_time(now);
        cluster.carry();
        for node in &mut cluster.nodes {
            if node.is_frozen {
                continue;
            }
            let core = match &mut node.core {
                Some(core) => {
                    core.begin(Now { wall: now.wall.after(node.ahead), ..now });
                    core
                }
                None => &mut self.core,
            };
            read(core, &mut node.link, &mut cluster.dice, cluster.fault_percent);
            cluster.abandoned.extend(node.link.take_if(|_| core.is_store_down()));
        }
    }

    /// Each node has its tick, and what it has for the store begins its way.
    pub(crate) fn tick_nodes(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        for node in &mut cluster.nodes {
            if node.is_frozen {
                continue;
            }
            let core = match &mut node.core {
                Some(core) => {
                    core.tick();
                    core.check_invariants();
                    core.check_ledger();
                    assert_eq!(core.counters().panics, 0, "panics caught by the core");
                    core
                }
                None => &mut self.core,
            };
            assert_eq!(core.store_problem(), None);
            cluster.abandoned.extend(node.link.take_if(|_| core.is_store_down()));
            if core.poll_store_connect() {
                if cluster.is_away {
                    core.on_store_lost(&"nobody listens");
                } else {
                    let id = cluster.store.connect();
                    let (to_store, from_store) = (VecDeque::new(), VecDeque::new());
                    let (is_open, is_broken) = (false, false);
                    let link = StoreLink { id, is_open, is_broken, to_store, from_store };
                    cluster.abandoned.extend(node.link.replace(link));
                }
            }
            let Some(link) = node.link.as_mut().filter(|link| link.is_open) else { continue };
            if let Some(output) = core.store_output() {
                link.to_store.extend(output);
            }
        }
    }

    /// Whether anything moves without time passing.
    pub(crate) fn nodes_have_work(&self) -> bool {
        let Some(cluster) = &self.cluster else { return false };
        cluster.nodes.iter().filter(|node| !node.is_frozen).any(|node| {
            let is_carried = |link: &StoreLink| {
                !cluster.is_paused && !link.to_store.is_empty()
                    || link.is_broken
                    || !link.from_store.is_empty()
                    || !link.is_open
            };
            node.core.as_ref().unwrap_or(&self.core).has_work()
                || node.link.as_ref().is_some_and(is_carried)
        })
    }

    // ---- Time

    /// Lets time pass in steps in which the nodes do what is due. Returns what is left.
    pub(crate) fn pass_most_of(&mut self, time: Duration) -> Duration {
        let mut left = time;
        while self.cluster.is_some() {
            let step = STEP.min(self.time_to_deadline()).max(Duration::from_micros(1));
            if step >= left {
                break;
            }
            self.advance_clocks(step);
            self.run();
            left -= step;
        }
        left
    }

    fn time_to_deadline(&mut self) -> Duration {
        let now = self.now.mono;
        let count = self.cluster().nodes.len();
        let running: Vec<_> =
            (0..count).filter(|it| !self.cluster().nodes[*it].is_frozen).collect();
        let deadlines = running.into_iter().filter_map(|node| self.node(node).next_deadline());
        deadlines.min().map_or(Duration::MAX, |deadline| deadline.since(now))
    }

    /// What there is.
    pub fn counts(&mut self) -> Counts {
        if self.cluster.is_none() {
            return self.counts_of_server();
        }
        let nodes = self.cluster().nodes.len();
        let connections = (0..nodes).map(|node| self.node(node).connection_count()).sum();
        let cluster = self.cluster();
        let members = cluster.keys("m:");
        let members = members.iter().map(|key| cluster.number(&["HLEN", key])).sum();
        let cfg = format!("{PREFIX}cfg");
        let sessions = cluster.number(&["HGET", &cfg, "sessions"]);
        let rooms = cluster.number(&["ZCARD", &format!("{PREFIX}rooms")]);
        assert_eq!(sessions, cluster.keys("s:").len(), "sessions are counted");
        assert_eq!(rooms, cluster.keys("r:").len(), "rooms are counted");
        Counts { sessions, rooms, members, connections }
    }

    // ---- The end

    /// After all peers have closed: time passes until the store has only the keys that it has for ever.
    pub(crate) fn end_cluster(&mut self) {
        for _ in 0..100 {
            self.pass_time(Duration::from_secs(5));
            if self.cluster().keys_left().is_empty() {
                break;
            }
        }
        assert_eq!(self.cluster().keys_left(), [""; 0], "keys are left in the store");
        // Mirrors that nobody uses are given up, and the listing is empty.
        self.pass_time(Duration::from_secs(60));
        for number in 0..self.cluster().nodes.len() {
            self.cluster().send_to(number);
            self.get("/rooms/all", None, Check::Status(&[200]));
        }
        for number in 0..self.cluster().nodes.len() {
            let core = self.node(number);
            assert_eq!(core.connection_count(), 0, "connections of node {number}");
            assert_eq!(core.chat().room_count(), 0, "mirrored rooms of node {number}");
            assert_eq!(core.chat().session_count(), 0, "people of node {number}");
            assert_eq!(core.counters().websockets, 0, "the gauge of WebSockets");
            let node = &self.cluster().nodes[number];
            let accounts = Account::ALL.map(|account| (account, node.ledger.bytes(account)));
            let total = node.ledger.total();
            assert_eq!(total, node.ledger_at_start, "the ledger of node {number}: {accounts:?}");
        }
    }
}

/// What the store has sent reaches its node.
fn read(
    core: &mut Core<ServerEnd>,
    link: &mut Option<StoreLink>,
    dice: &mut Dice,
    fault_percent: usize,
) {
    let Some(stream) = link else { return };
    if !stream.is_open {
        stream.is_open = true;
        core.on_store_connected(Login::default());
    }
    let mut budget = TICK_BYTES_MAX;
    while !stream.from_store.is_empty() && budget > 0 && !core.is_store_down() {
        let mut count = READ_BYTES.min(budget).min(stream.from_store.len());
        if dice.percent(fault_percent) {
            count = 1 + dice.below(count);
            budget = count; // The rest arrives later.
        }
        core.on_store_bytes(&front(&mut stream.from_store, count));
        budget -= count;
    }
    if stream.is_broken && stream.from_store.is_empty() && !core.is_store_down() {
        core.on_store_lost(&"the connection is cut");
    }
}

impl Cluster {
    /// The next connection goes to this node.
    pub fn send_to(&mut self, node: usize) {
        self.connections = node + self.nodes.len() - 1;
    }

    fn set_time(&mut self, now: Now) {
        let time = Wall::from_micros(STORE_EPOCH + now.mono.micros()).after(self.store_ahead);
        self.store.set_time(time.micros());
    }

    /// The network carries bytes in both directions.
    fn carry(&mut self) {
        if self.is_paused {
            return;
        }
        let count = self.nodes.len();
        let first = self.dice.below(count);
        for place in (first..count).chain(0..first) {
            let node = &mut self.nodes[place];
            let Some(mut count) = node.link.as_ref().map(|link| link.to_store.len()) else {
                continue;
            };
            if count > 0 && self.dice.percent(self.fault_percent) {
                count = self.dice.below(count + 1);
            }
            let count = node.pass(count);
            let Some(link) = node.link.as_mut() else { continue };
            let bytes = front(&mut link.to_store, count);
            if count > 0 {
                self.store.receive(link.id, &bytes);
            }
        }
        self.carry_abandoned();
        for node in &mut self.nodes {
            let Some(id) = node.link.as_ref().filter(|link| !link.is_broken).map(|link| link.id)
            else {
                continue;
            };
            let mut output = self.store.take_output(id);
            let count = node.pass(output.len());
            output.truncate(if node.misses_output { 0 } else { count });
            if let Some(link) = &mut node.link {
                link.from_store.extend(output);
            }
        }
    }

    /// What a node has sent on a connection that it has given up may be executed much later, or never.
    fn carry_abandoned(&mut self) {
        let mut place = 0;
        while place < self.abandoned.len() {
            let link = &mut self.abandoned[place];
            match self.dice.below(6) {
                0 => {
                    let count = self.dice.below(link.to_store.len() + 1);
                    let bytes = front(&mut link.to_store, count);
                    self.store.receive(link.id, &bytes);
                }
                1 => {
                    self.store.disconnect(link.id);
                    self.abandoned.swap_remove(place);
                    continue;
                }
                _ => {}
            }
            place += 1;
        }
    }

    // ---- Looking into the store

    /// What ids of a room's messages are compared with: those that are greater are newer than all
    /// messages of the room.
    pub fn last_id(&mut self, room: &str) -> String {
        let key = format!("{PREFIX}r:{room}");
        let (millis, counter) =
            (self.number(&["HGET", &key, "u"]), self.number(&["HGET", &key, "q"]));
        format!("{:08x}-{:04x}-7{counter:03x}~", millis >> 16, millis & 0xFFFF)
    }

    /// A number in the store; nothing is zero.
    pub fn number(&mut self, command: &[&str]) -> usize {
        self.store.run(command).to_string().parse().unwrap_or_default()
    }

    /// The keys of one kind.
    pub fn keys(&mut self, kind: &str) -> Vec<String> {
        let keys = self.store.keys().into_iter();
        keys.filter(|key| key.strip_prefix(PREFIX).is_some_and(|it| it.starts_with(kind))).collect()
    }

    /// All keys but those that a store with nodes always has.
    pub fn keys_left(&mut self) -> Vec<String> {
        let fixed = ["nodes", "lease", "cfg"].map(|name| format!("{PREFIX}{name}"));
        self.store.keys().into_iter().filter(|key| !fixed.contains(key)).collect()
    }
}
