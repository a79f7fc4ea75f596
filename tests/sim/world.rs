//! The server's core, its peers, and the clocks, which the tests set.
//!
//! Owns the loop of the simulation: bytes are delivered, the core runs a tick, peers read. Must not
//! know why a test does what it does. The invariant: after [`World::settle`] nothing moves any
//! more, so every peer that must be served has received all that it must receive.

mod checks;
mod peer;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::time::Duration;

use disposable_chat::clock::{Mono, Now, SeededEntropy, Wall};
use disposable_chat::config::Config;
use disposable_chat::ledger::{Account, Ledger};
use disposable_chat::server::{Core, Purpose};
use serde_json::Value;

#[cfg(feature = "cluster")]
use crate::cluster::nodes::Cluster;
use crate::model::Room;
use crate::pipe::{self, Dice, Network, ServerEnd, StreamState};
use crate::wire::{self, CLOSE, Format, PING, Response, TEXT};
pub use peer::{Check, HttpPeer, Pages, Peer, Protocol, Reply, Start, User, WsPeer};

pub const LOOPBACK: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

pub struct World {
    /// The server or, in a cluster, its first node.
    pub core: Core<ServerEnd>,
    /// The store, and the other nodes.
    #[cfg(feature = "cluster")]
    pub cluster: Option<Cluster>,
    pub now: Now,
    pub dice: Dice,
    /// Decides what the network does, if that must not change what the peers do.
    pub network_dice: Option<Dice>,
    /// What each peer has read, if it is kept.
    pub transcript: Option<Vec<Vec<u8>>>,
    pub network: Network,
    pub peers: Vec<Peer>,
    /// Peers that are not finished.
    active: Vec<usize>,
    pub users: Vec<User>,
    pub rooms: Vec<Room>,
    pub is_shut_down: bool,
    pub has_message_rate: bool,
    pub ledger: Ledger,
    ledger_at_start: usize,
    /// Of all bytes that all peers have read, in order.
    pub hash: u64,
    time_since_settled: Duration,
    /// Bytes of events and messages sent by peers, with an estimate of what the server adds.
    bytes_since_settled: usize,
    pub panics_expected: u64,
    /// Bytes that all peers have read.
    pub bytes_read: u64,
    ticks: u64,
    /// The most steps that the core has counted in a tick, in debug builds.
    #[cfg(debug_assertions)]
    pub steps_max: usize,
    /// Ticks between two checks of all invariants. A check visits all state, so that worlds with
    /// long histories or many sessions use a larger number.
    pub ticks_per_check: u64,
    /// Messages of a room that the server keeps.
    history_messages_max: usize,
    /// Peers that have connected and wait to be accepted, the first in front.
    backlog: VecDeque<usize>,
    accept_paused_until: Option<Mono>,
}

/// What there is, in a server or a cluster.
#[derive(PartialEq, Eq, Debug)]
pub struct Counts {
    pub sessions: usize,
    pub rooms: usize,
    pub members: usize,
    pub connections: usize,
}

/// After this many bytes all peers read before more are sent, so that the server has no reason to
/// close a peer that reads as too slow.
const UNSETTLED_BYTES_MAX: usize = 16 * 1024;

/// The longest time before all peers are served, so that no timeout closes a peer that has not
/// caused it.
const UNSETTLED_TIME_MAX: Duration = Duration::from_millis(1500);

/// As in `Server`: the pause after accepting has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

impl World {
    pub fn new(seed: u64, config: &Config, network: Network) -> World {
        let ledger = Ledger::with_ceiling(config.memory_bytes_max);
        let connections_max = config.connections_max.unwrap_or(10_000);
        let entropy = Box::new(SeededEntropy::new(seed ^ 0xC4A7));
        let mut core = Core::new(config, connections_max, entropy, &ledger);
        let now = Now { wall: Wall::from_micros(1_755_611_100_000_000), ..Now::default() };
        core.begin(now);
        core.tick();
        World {
            core,
            #[cfg(feature = "cluster")]
            cluster: None,
            now,
            dice: Dice::new(seed),
            network_dice: None,
            transcript: None,
            network,
            peers: Vec::new(),
            active: Vec::new(),
            users: Vec::new(),
            rooms: Vec::new(),
            is_shut_down: false,
            has_message_rate: config.message_rate.per_second > 0,
            ledger_at_start: ledger.total(),
            ledger,
            hash: 0xCBF2_9CE4_8422_2325,
            time_since_settled: Duration::ZERO,
            bytes_since_settled: 0,
            panics_expected: 0,
            bytes_read: 0,
            ticks: 0,
            #[cfg(debug_assertions)]
            steps_max: 0,
            ticks_per_check: 4,
            history_messages_max: config.history_messages_max,
            backlog: VecDeque::new(),
            accept_paused_until: None,
        }
    }

    // ---- Peers and what they send

    /// A peer connects, and is accepted unless accepting is paused or the server is full. Returns
    /// its index in `peers`.
    pub fn connect(&mut self, protocol: Protocol, from: Option<IpAddr>) -> usize {
        self.connect_to(Purpose::Chat, protocol, from)
    }

    pub fn connect_to(
        &mut self,
        purpose: Purpose,
        protocol: Protocol,
        from: Option<IpAddr>,
    ) -> usize {
        let (end, server_end) = pipe::pair(self.network_dice().next(), self.network);
        let node = self.next_node();
        self.peers.push(Peer {
            node,
            end,
            backlog: Some((server_end, from, purpose)),
            key: None,
            unsent: VecDeque::new(),
            inbox: Vec::new(),
            shutdown: None,
            is_shut_down: false,
            reading: true,
            must_be_served: !matches!(protocol, Protocol::Unchecked),
            stream: StreamState::Open,
            protocol,
        });
        let peer = self.peers.len() - 1;
        self.backlog.push_back(peer);
        self.active.push(peer);
        self.accept();
        peer
    }

    pub fn network_dice(&mut self) -> &mut Dice {
        self.network_dice.as_mut().unwrap_or(&mut self.dice)
    }

    /// Accepts peers that wait, as `Server` does.
    fn accept(&mut self) {
        if self.accept_paused_until.is_some_and(|resume| resume <= self.now.mono) {
            self.accept_paused_until = None;
        }
        while self.accept_paused_until.is_none() {
            let mut waiting = self.backlog.iter().enumerate();
            let first = waiting.find(|(_, peer)| self.is_running(self.peers[**peer].node));
            let Some((place, peer)) = first.map(|(place, peer)| (place, *peer)) else { break };
            let node = self.peers[peer].node;
            let Some((_, _, purpose)) = self.peers[peer].backlog else { break };
            if !self.node(node).make_way(purpose) {
                break;
            }
            self.backlog.remove(place);
            let waiting = self.peers[peer].backlog.take();
            let (end, from, purpose) = waiting.expect("it is not accepted yet");
            self.peers[peer].key = self.node(node).accept(end, from, purpose);
        }
    }

    /// Accepting fails because descriptors or memory are exhausted, and is paused.
    pub fn pause_accepting(&mut self) {
        self.accept_paused_until = Some(self.now.mono.after(ACCEPT_PAUSE));
        self.core.on_accept_pause();
    }

    /// The server's poll reports an error for a stream. The peer does not notice it.
    pub fn fail_poll(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        peer.must_be_served = false;
        if let (node, Some(key)) = (peer.node, peer.key) {
            self.node(node).on_poll_error(key);
        }
    }

    pub fn connect_http(&mut self) -> usize {
        self.connect(Protocol::Http(HttpPeer::default()), LOOPBACK)
    }

    pub fn send(&mut self, peer: usize, bytes: &[u8]) {
        self.peers[peer].unsent.extend(bytes);
    }

    /// Sends a request whose response is to be checked.
    pub fn request(&mut self, peer: usize, request: &[u8], check: Check) {
        self.peers[peer].http().checks.push_back(check);
        self.send(peer, request);
    }

    /// Connects a user to a room by WebSocket.
    pub fn enter(&mut self, user: usize, room: usize) -> usize {
        self.enter_from(user, room, LOOPBACK)
    }

    pub fn enter_from(&mut self, user: usize, room: usize, from: Option<IpAddr>) -> usize {
        self.enter_with(user, room, Start::Live, from)
    }

    pub fn enter_at(&mut self, user: usize, room: usize, start: Start) -> usize {
        self.enter_with(user, room, start, LOOPBACK)
    }

    pub fn enter_with(
        &mut self,
        user: usize,
        room: usize,
        start: Start,
        from: Option<IpAddr>,
    ) -> usize {
        self.enter_as(user, room, start, from, None)
    }

    /// Connects a user to a room by WebSocket, or with a `format` by an event stream.
    pub fn enter_as(
        &mut self,
        user: usize,
        room: usize,
        start: Start,
        from: Option<IpAddr>,
        format: Option<Format>,
    ) -> usize {
        let session = self.users[user].session.clone().unwrap_or_default();
        let id = &self.rooms[room].id;
        let request = match (format, &start) {
            (None, _) => wire::upgrade(id, &(session + &start.query()), ""),
            (Some(format), Start::After(last)) => wire::events(id, &session, "", last, format),
            (Some(format), _) => wire::events(id, &session, &start.query(), "", format),
        };
        let mut closes_possible = BTreeSet::new();
        if self.users[user].has_namesake {
            closes_possible.insert(4409);
        }
        if !self.rooms[room].watched {
            closes_possible.insert(4404); // The room may have been deleted.
        }
        let checks = self.peers.iter().filter_map(|peer| match &peer.protocol {
            Protocol::Http(http) => Some(http.checks.iter()),
            _ => None,
        });
        closes_possible.extend(checks.flatten().filter_map(|check| match check {
            Check::Closes { user: closed, room: from, code, .. }
                if *closed == user && from.is_none_or(|from| from == room) =>
            {
                Some(*code) // The request is in flight, and may arrive after this one.
            }
            _ => None,
        }));
        // The network decides which of several WebSockets is admitted first.
        let sockets = self.sockets_of(user, Some(room));
        for other in &sockets {
            self.peers[*other].ws_mut().expect("a WebSocket").is_only_one = false;
        }
        let peer = self.connect(
            Protocol::Ws(WsPeer {
                stream: format,
                user,
                room,
                upgraded: false,
                newest_at_request: self.rooms[room].log.keys().next_back().cloned(),
                is_only_one: sockets.is_empty(),
                start,
                pages: Pages::default(),
                seen: Vec::new(),
                nonces_sent: Vec::new(),
                replies_due: VecDeque::new(),
                pings: VecDeque::new(),
                close_due: None,
                closes_possible,
                must_close: false,
                closed: None,
                room_shown: Value::Null,
                changes: 0,
                you: None,
                pings_received: 0,
                chats_sent: 0,
            }),
            from,
        );
        self.send(peer, &request);
        peer
    }

    fn sockets_of(&self, user: usize, room: Option<usize>) -> Vec<usize> {
        let is_theirs = |ws: &WsPeer| ws.user == user && room.is_none_or(|room| room == ws.room);
        let sockets = self.peers.iter().enumerate();
        let sockets = sockets.filter(|(_, peer)| peer.ws().is_some_and(is_theirs));
        sockets.map(|(index, _)| index).collect()
    }

    /// A frame with a random mask.
    pub fn frame(&mut self, first: u8, payload: &[u8]) -> Vec<u8> {
        wire::frame(first, payload, self.network_dice().next() as u32)
    }

    pub fn send_frame(&mut self, peer: usize, first: u8, payload: &[u8]) {
        let frame = self.frame(first, payload);
        self.send(peer, &frame);
    }

    /// Sends a chat whose text is unique, with `more` at its end.
    pub fn chat(&mut self, peer: usize, more: &str) {
        let frames = self.chat_frames(peer, more, false);
        self.send(peer, &frames);
    }

    /// The frames of such a chat: one, or two fragments with a ping between them.
    pub fn chat_frames(&mut self, peer: usize, more: &str, fragments: bool) -> Vec<u8> {
        let ws = self.peers[peer].ws_mut().expect("a WebSocket");
        ws.chats_sent += 1;
        let text = format!("c{peer}n{} {more}", ws.chats_sent).trim().to_owned();
        ws.replies_due.push_back(Reply::Echo(text.clone()));
        let json = serde_json::json!({"type": "chat", "message": text}).to_string();
        self.bytes_since_settled += json.len() + 300;
        if !fragments {
            return self.frame(TEXT, json.as_bytes());
        }
        let (left, right) = json.as_bytes().split_at(self.dice.below(json.len()));
        let mut frames = self.frame(1, left);
        frames.extend(self.ping_frame(peer));
        frames.extend(self.frame(0x80, right));
        frames
    }

    pub fn ping_frame(&mut self, peer: usize) -> Vec<u8> {
        let payload = self.dice.next().to_be_bytes()[..self.dice.below(9)].to_vec();
        let ws = self.peers[peer].ws_mut().expect("a WebSocket");
        ws.pings.push_back(payload.clone());
        self.frame(PING, &payload)
    }

    /// Sends a chat with a nonce, which may be sent again over this connection or another.
    pub fn chat_with_nonce(&mut self, peer: usize, text: String, nonce: String) {
        let json = serde_json::json!({"type": "chat", "message": text, "nonce": nonce});
        let json = json.to_string();
        self.bytes_since_settled += json.len() + 300;
        let ws = self.peers[peer].ws_mut().expect("a WebSocket");
        ws.nonces_sent.push(nonce.clone());
        ws.replies_due.push_back(Reply::EchoOf { text, nonce });
        self.send_frame(peer, TEXT, json.as_bytes());
    }

    /// Sends an event that the server must refuse with this code.
    pub fn send_invalid(&mut self, peer: usize, json: &str, code: &'static str) {
        let ws = self.peers[peer].ws_mut().expect("a WebSocket");
        ws.replies_due.push_back(Reply::Refused(code));
        self.send_frame(peer, TEXT, json.as_bytes());
        self.bytes_since_settled += 300;
    }

    /// Sends a close frame, or a violation of the protocol, that the server must answer with a
    /// close of this code.
    pub fn send_and_expect_close(&mut self, peer: usize, bytes: &[u8], code: u16) {
        self.send(peer, bytes);
        self.peers[peer].ws_mut().expect("a WebSocket").close_due = Some(code);
    }

    /// Shuts down the peer's direction after its last byte. The peer goes on reading.
    pub fn half_close(&mut self, peer: usize) {
        self.shut_down_stream(peer, Shutdown::Write);
    }

    /// Closes the connection after the peer's last byte.
    pub fn close(&mut self, peer: usize) {
        self.shut_down_stream(peer, Shutdown::Both);
    }

    fn shut_down_stream(&mut self, peer: usize, directions: Shutdown) {
        let peer = &mut self.peers[peer];
        peer.must_be_served = false;
        peer.shutdown = Some(directions);
    }

    pub fn reset(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        peer.must_be_served = false;
        peer.unsent.clear();
        peer.end.pipe().reset();
    }

    /// The peer stops reading, so the server may close it from now on.
    pub fn stall(&mut self, peer: usize) {
        self.peers[peer].reading = false;
        self.peers[peer].must_be_served = false;
    }

    /// A request is about to close the user's WebSockets, among them those that connect before it
    /// arrives.
    pub fn allow_close(&mut self, user: usize, room: Option<usize>, code: u16) {
        for socket in self.sockets_of(user, room) {
            if let Some(ws) = self.peers[socket].ws_mut() {
                ws.closes_possible.insert(code);
            }
        }
    }

    /// Forgets the sessions that may have expired: all without a healthy WebSocket.
    fn forget_sessions(&mut self) {
        for user in 0..self.users.len() {
            let sockets = self.sockets_of(user, None);
            if !sockets.iter().any(|socket| self.peers[*socket].is_healthy()) {
                self.users[user].session = None;
            }
        }
    }

    // ---- Requests on a connection of their own

    /// Opens a session. Returns the user.
    pub fn add_user(&mut self, name: &str) -> usize {
        let has_namesake =
            self.users.iter().any(|other| other.name.to_lowercase() == name.to_lowercase());
        for other in &mut self.users {
            other.has_namesake |= other.name.to_lowercase() == name.to_lowercase();
        }
        self.users.push(User { name: name.to_owned(), session: None, has_namesake });
        let user = self.users.len() - 1;
        self.open_sessions(user..user + 1);
        user
    }

    /// Opens as many sessions, with names of their own.
    pub fn add_users(&mut self, count: usize) -> std::ops::Range<usize> {
        let first = self.users.len();
        for user in first..first + count {
            let name = format!("guest {user}");
            self.users.push(User { name, session: None, has_namesake: false });
        }
        self.open_sessions(first..first + count);
        first..first + count
    }

    fn open_sessions(&mut self, users: std::ops::Range<usize>) {
        let peer = self.connect_http();
        for user in users {
            let body = serde_json::json!({"username": self.users[user].name}).to_string();
            let request = wire::request("POST", "/sessions", None, &body);
            self.request(peer, &request, Check::Session(user));
        }
        self.settle_and_close(peer);
    }

    /// Opens a room. If it is `watched`, its host stays in it to the end.
    pub fn open_room(&mut self, user: usize, watched: bool) -> usize {
        self.open_rooms(&[user]);
        let room = self.rooms.len() - 1;
        if watched {
            self.rooms[room].watched = true;
            self.enter(user, room);
            self.settle();
        }
        room
    }

    /// A room with the options in this body.
    pub fn open_room_with(&mut self, user: usize, body: &str) -> usize {
        let peer = self.connect_http();
        let session = self.users[user].session.as_deref();
        let request = wire::request("POST", "/rooms", session, body);
        self.request(peer, &request, Check::Room);
        self.settle_and_close(peer);
        self.rooms.len() - 1
    }

    /// Each of these users opens a room.
    pub fn open_rooms(&mut self, users: &[usize]) {
        let peer = self.connect_http();
        for user in users {
            let request = wire::request("POST", "/rooms", self.users[*user].session.as_deref(), "");
            self.request(peer, &request, Check::Room);
        }
        self.settle_and_close(peer);
    }

    /// The response to a GET.
    pub fn get(&mut self, path: &str, session: Option<&str>, check: Check) -> Response {
        let peer = self.connect_http();
        self.request(peer, &wire::request("GET", path, session, ""), check);
        self.settle_and_close(peer);
        self.peers[peer].http().responses.pop().expect("a response")
    }

    /// Waits for all responses, and closes the connection.
    pub fn settle_and_close(&mut self, peer: usize) {
        self.settle();
        self.close(peer);
        self.settle();
    }

    /// Forgets all peers, users and rooms, so that a long test does not check them again and again.
    pub fn forget_peers(&mut self) {
        assert!(self.peers.iter().all(Peer::is_finished), "a peer is still connected");
        assert_eq!(self.core.connection_count(), 0, "connections");
        self.peers.clear();
        self.active.clear();
        self.users.clear();
        self.rooms.clear();
    }

    // ---- The loop

    /// One tick of the server's loop. Unless the poll reports `all` edges, it leaves out some of
    /// them until the next tick.
    pub fn tick(&mut self, all: bool) {
        if self.is_running(0) {
            self.core.begin(self.now);
        }
        #[cfg(feature = "cluster")]
        self.begin_nodes();
        self.accept();
        self.report_stale_edges();
        self.active.retain(|peer| !self.peers[*peer].is_finished());
        let count = self.active.len();
        let first = if count > 0 { self.network_dice().below(count) } else { 0 };
        for place in (first..count).chain(0..first) {
            let peer = &self.peers[self.active[place]];
            let (node, Some(key)) = (peer.node, peer.key) else { continue };
            if !self.is_running(node) || !all && self.network_dice().percent(30) {
                continue;
            }
            let edges = self.peers[self.active[place]].end.pipe().poll();
            let Some(edges) = edges else { continue };
            if edges.readable {
                self.node(node).on_readable(key, edges.hangup);
            }
            if edges.writable {
                self.node(node).on_writable(key);
            }
        }
        if self.is_running(0) {
            self.core.tick();
        }
        #[cfg(feature = "cluster")]
        self.tick_nodes();
        #[cfg(debug_assertions)]
        {
            self.steps_max = self.steps_max.max(self.core.steps());
        }
        self.ticks += 1;
        if self.ticks % self.ticks_per_check == 0 {
            self.core.check_invariants();
            self.core.check_ledger();
        }
        assert_eq!(self.core.counters().panics, self.panics_expected, "panics caught by the core");
    }

    /// Reports edges of a connection that is freed, whose slot another connection may have by now.
    fn report_stale_edges(&mut self) {
        let count = self.peers.len();
        if count == 0 || !self.network_dice().percent(20) {
            return;
        }
        let peer = self.network_dice().below(count);
        let peer = &self.peers[peer];
        if let (node, Some(key)) = (peer.node, peer.key.filter(|_| peer.is_dropped())) {
            let core = self.node(node);
            assert!(core.stream_mut(key).is_none(), "a stale key finds another connection");
            core.on_readable(key, true);
            core.on_writable(key);
        }
    }

    /// Up to `count` bytes that a peer has sent reach the server. Returns whether anything did.
    pub fn deliver(&mut self, peer: usize, count: usize) -> bool {
        let peer = &mut self.peers[peer];
        let mut pipe = peer.end.pipe();
        if peer.is_shut_down {
            peer.unsent.clear(); // The stream has ended before these bytes.
        }
        let moved = pipe.deliver(&mut peer.unsent, count) > 0;
        match peer.shutdown {
            Some(directions) if peer.unsent.is_empty() && !peer.is_shut_down => {
                peer.is_shut_down = true;
                pipe.shut_down(directions);
                true
            }
            _ => moved,
        }
    }

    /// The same for every peer.
    pub fn deliver_all(&mut self, count: usize) -> bool {
        let mut moved = false;
        for place in 0..self.active.len() {
            moved |= self.deliver(self.active[place], count);
        }
        moved
    }

    /// A peer reads up to `count` bytes, checks them, and sends what the protocol demands. Returns
    /// whether there was anything to read.
    pub fn receive(&mut self, index: usize, count: usize) -> bool {
        let peer = &mut self.peers[index];
        if peer.stream != StreamState::Open {
            return false;
        }
        let (bytes, stream) = peer.end.pipe().read_as_peer(count);
        peer.stream = stream;
        self.bytes_read += bytes.len() as u64;
        peer.inbox.extend_from_slice(&bytes);
        self.hash(index, &bytes);
        if let Some(transcript) = &mut self.transcript {
            transcript.resize_with(transcript.len().max(index + 1), Vec::new);
            transcript[index].extend_from_slice(&bytes);
        }
        let peer = &mut self.peers[index];
        let mut protocol = std::mem::replace(&mut peer.protocol, Protocol::Unchecked);
        match &mut protocol {
            Protocol::Http(http) => self.on_http(index, http),
            Protocol::Ws(ws) if ws.stream.is_some() => self.on_stream(index, ws),
            Protocol::Ws(ws) => self.on_ws(index, ws),
            Protocol::Unchecked => self.peers[index].inbox.clear(),
        }
        let peer = &mut self.peers[index];
        peer.protocol = protocol;
        if peer.stream != StreamState::Open && peer.shutdown.is_none() {
            peer.unsent.clear();
            peer.shutdown = Some(Shutdown::Both);
        }
        !bytes.is_empty() || peer.stream != StreamState::Open
    }

    /// The same for every peer that reads.
    pub fn receive_all(&mut self, count: usize) -> bool {
        let mut moved = false;
        for place in 0..self.active.len() {
            let index = self.active[place];
            moved |= self.peers[index].reading && self.receive(index, count);
        }
        moved
    }

    fn hash(&mut self, index: usize, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        let whole =
            words.by_ref().map(|word| u64::from_be_bytes(word.try_into().expect("8 bytes")));
        let mut hash = self.hash;
        let mut add =
            |word: u64| hash = (hash ^ word).wrapping_mul(0x0100_0000_01B3).rotate_left(29);
        add(index as u64);
        whole.for_each(&mut add);
        words.remainder().iter().for_each(|byte| add(u64::from(*byte)));
        self.hash = hash;
    }

    /// The peers that are not finished.
    pub fn active_peers(&self) -> Vec<usize> {
        self.active.clone()
    }

    /// Runs the loop until nothing moves, while no time passes. Then each peer that must be served
    /// has been served.
    pub fn settle(&mut self) {
        self.run();
        (self.time_since_settled, self.bytes_since_settled) = (Duration::ZERO, 0);
        for index in 0..self.peers.len() {
            self.check_served(index);
        }
    }

    /// The same without a check.
    pub fn run(&mut self) {
        self.accept_paused_until = None;
        let mut ticks = 0;
        loop {
            let mut moved = self.deliver_all(usize::MAX);
            self.tick(true);
            moved |= self.receive_all(usize::MAX);
            #[cfg(feature = "cluster")]
            let moved = moved | self.nodes_have_work();
            let is_due = moved
                || self.is_running(0) && self.core.has_work()
                || self.active.iter().any(|index| {
                    let peer = &self.peers[*index];
                    let pipe = peer.end.pipe();
                    self.is_running(peer.node) && pipe.has_edge()
                        || !peer.unsent.is_empty() && pipe.has_capacity()
                });
            if !is_due {
                break;
            }
            ticks += 1;
            assert!(ticks < 100_000, "the loop spins");
        }
    }

    // ---- Time

    /// Lets time pass. If much has passed since all peers were served, serves them first.
    pub fn pass_time(&mut self, time: Duration) {
        if self.time_since_settled + time > UNSETTLED_TIME_MAX {
            self.settle();
            for peer in &mut self.peers {
                if let Protocol::Http(http) = &mut peer.protocol {
                    http.may_be_closed = true;
                }
            }
        }
        #[cfg(feature = "cluster")]
        let time = self.pass_most_of(time);
        self.advance_clocks(time);
        self.time_since_settled += time;
        self.tick(false);
        if time > Duration::from_secs(60 * 60) {
            self.forget_sessions();
        }
    }

    /// Time passes on both clocks.
    pub fn advance_clocks(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// The wall clock of the system is set forward or back.
    pub fn set_system_clock(&mut self, by: Duration, forward: bool) {
        self.now.wall = if forward {
            self.now.wall.after(by)
        } else {
            Wall::from_micros(self.now.wall.micros().saturating_sub(by.as_micros() as u64))
        };
    }

    #[cfg(not(feature = "cluster"))]
    fn next_node(&mut self) -> usize {
        0
    }

    #[cfg(not(feature = "cluster"))]
    fn is_running(&self, _: usize) -> bool {
        true
    }

    #[cfg(not(feature = "cluster"))]
    fn node(&mut self, _: usize) -> &mut Core<ServerEnd> {
        &mut self.core
    }

    /// What the server has.
    #[cfg(not(feature = "cluster"))]
    pub fn counts(&mut self) -> Counts {
        self.counts_of_server()
    }

    pub fn counts_of_server(&self) -> Counts {
        Counts {
            sessions: self.core.chat().session_count(),
            rooms: self.core.chat().room_count(),
            members: self.core.chat().member_count(),
            connections: self.core.connection_count(),
        }
    }

    /// Lets time pass until the next timer is due. Returns false if there is none.
    pub fn pass_time_to_deadline(&mut self) -> bool {
        let Some(deadline) = self.core.next_deadline() else { return false };
        self.pass_time(deadline.since(self.now.mono));
        true
    }

    /// Lets the peers read if much has been sent.
    pub fn settle_if_behind(&mut self) {
        if self.bytes_since_settled > UNSETTLED_BYTES_MAX {
            self.settle();
        }
    }

    // ---- The end

    pub fn shut_down(&mut self) {
        self.core.begin(self.now);
        self.core.shut_down();
        self.is_shut_down = true;
        for peer in &mut self.peers {
            match &mut peer.protocol {
                Protocol::Ws(ws) => drop(ws.closes_possible.insert(1001)),
                Protocol::Http(http) => http.may_be_closed = true,
                Protocol::Unchecked => {}
            }
        }
    }

    /// Every peer closes in one of several ways and all timers expire. Then the server must have
    /// nothing left.
    pub fn close_all(&mut self) {
        for index in 0..self.peers.len() {
            if self.peers[index].stream != StreamState::Open {
                continue;
            }
            self.peers[index].reading = true;
            let is_ws = self.peers[index].ws().is_some_and(|ws| ws.stream.is_none());
            let is_open_ws = self.peers[index].is_healthy() && is_ws;
            match self.dice.below(4) {
                0 => self.reset(index),
                1 if is_open_ws => {
                    let close = self.frame(CLOSE, &1000u16.to_be_bytes());
                    self.send_and_expect_close(index, &close, 1000);
                }
                2 => self.close(index),
                _ => self.half_close(index),
            }
        }
        self.settle();
        #[cfg(feature = "cluster")]
        if self.cluster.is_some() {
            return self.end_cluster();
        }
        let mut deadlines = 0;
        while self.pass_time_to_deadline() {
            self.settle();
            deadlines += 1;
            assert!(deadlines < 10_000, "a timer is armed again and again");
        }
        assert_eq!(self.core.connection_count(), 0, "connections");
        assert_eq!(self.core.chat().session_count(), 0, "sessions");
        assert_eq!(self.core.chat().room_count(), 0, "rooms");
        assert_eq!(self.core.timer_count(), 0, "timers");
        assert_eq!(self.core.counters().websockets, 0, "the gauge of WebSockets");
        let accounts = Account::ALL.map(|account| (account, self.ledger.bytes(account)));
        assert_eq!(self.ledger.total(), self.ledger_at_start, "the ledger: {accounts:?}");
    }
}
