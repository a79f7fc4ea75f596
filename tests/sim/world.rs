//! The server's core, its peers, and the time, which is ours.

mod hearing;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::model::Room;
use crate::pipe::{self, Dice, End, Peer, Seen, Weather};
use crate::wire::{self, CLOSE, PING, Response, TEXT};
use disposable_chat::clock::{Mono, Now, SeededEntropy, Wall};
use disposable_chat::config::Config;
use disposable_chat::ledger::Ledger;
use disposable_chat::server::{ConnectionKey, Core, Purpose};

pub const LOOPBACK: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// Somebody, and the session they have if any.
pub struct Person {
    pub name: String,
    pub session: Option<String>,
    /// Somebody else's name is the same.
    pub shares_name: bool,
}

/// What a socket's frame has to be answered with, in the order of the frames.
#[derive(PartialEq, Eq, Debug)]
pub enum Owed {
    /// The chat itself; or a refusal, where rates apply.
    Echo(String),
    /// The same, of one that its sender knows by a nonce and may send again.
    Once {
        text: String,
        nonce: String,
    },
    Refused(&'static str),
    Pong,
}

/// Where somebody wants to begin to listen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// With what comes.
    Live,
    /// With so many of the last messages.
    Last(usize),
    /// After this message.
    After(String),
}

impl Start {
    fn query(&self) -> String {
        match self {
            Start::Live => String::new(),
            Start::Last(count) => format!("&history={count}"),
            Start::After(id) => format!("&after={id}"),
        }
    }

    /// The message to go on from, if it is one.
    pub fn floor(&self) -> Option<&str> {
        match self {
            Start::After(id) if id.len() == 36 => Some(id),
            _ => None,
        }
    }
}

/// What a reader was told in pages.
#[derive(Default)]
pub struct Pages {
    pub count: usize,
    /// Messages in them: the first of all it has seen.
    pub messages: usize,
    /// What the last page says of whether something was lost.
    pub complete: Option<bool>,
    /// Names of those present, as the last page has them.
    pub users: Vec<String>,
}

/// What a request is asked for.
pub enum Ask {
    /// Whoever asks looks at the answer.
    Any,
    /// One of these statuses.
    Status(&'static [u16]),
    /// This status, without content.
    Head(u16),
    /// A session for this person.
    Session(usize),
    /// A room.
    Room,
    /// This is said without a socket, or was said before by its nonce.
    Posted { person: usize, room: usize, text: String },
    /// The last thousand messages of a room, which the log ends with.
    Messages(usize),
    /// That many people are present.
    UserCount(usize),
    /// The person's sockets in this room, or all, close with this code; these at least.
    End { person: usize, room: Option<usize>, code: u16, open: Vec<usize> },
}

#[derive(Default)]
pub struct Http {
    pub asks: VecDeque<Ask>,
    pub answers: Vec<Response>,
    /// Time has passed that may have ended it.
    pub excused: bool,
}

pub struct Ws {
    pub person: usize,
    pub room: usize,
    pub upgraded: bool,
    /// The room's last message when it asked to come in, as far as anybody knew.
    after: Option<String>,
    /// The person has never had another socket here.
    alone: bool,
    pub start: Start,
    pub pages: Pages,
    /// Ids, in the order of arrival, but for what it was told again.
    pub seen: Vec<String>,
    /// Nonces it has sent, once for each time: so often it may be told again.
    pub sent: Vec<String>,
    pub owed: VecDeque<Owed>,
    pings: VecDeque<Vec<u8>>,
    /// A close that is due: confirmation of its own, or for what it has done.
    pub due: Option<u16>,
    /// Closes that others may have brought upon it.
    pub possible: BTreeSet<u16>,
    must_close: bool,
    pub closed: Option<(u16, String)>,
    /// Pings that it has got.
    pub asked: usize,
    chats: usize,
}

#[allow(clippy::large_enum_variant, reason = "a test has few of them")]
pub enum Talk {
    Http(Http),
    Ws(Ws),
    /// Says anything, believes anything.
    Noise,
}

pub struct Client {
    peer: Peer,
    /// The server's end, as long as nobody has accepted it.
    backlog: Option<(End, Option<IpAddr>, Purpose)>,
    key: Option<ConnectionKey<End>>,
    unsent: VecDeque<u8>,
    inbox: Vec<u8>,
    /// Ends its direction (`true`: both) once all is sent.
    fin: Option<bool>,
    fin_sent: bool,
    pub reading: bool,
    /// It has done nothing that it could be dropped for.
    pub honest: bool,
    pub line: Seen,
    pub talk: Talk,
}

impl Client {
    pub fn ws(&self) -> Option<&Ws> {
        if let Talk::Ws(ws) = &self.talk { Some(ws) } else { None }
    }

    pub fn ws_mut(&mut self) -> Option<&mut Ws> {
        if let Talk::Ws(ws) = &mut self.talk { Some(ws) } else { None }
    }

    pub fn http(&mut self) -> &mut Http {
        if let Talk::Http(http) = &mut self.talk { http } else { panic!("speaks no HTTP") }
    }

    /// Nobody has a reason to end it, nor it itself.
    pub fn is_well(&self) -> bool {
        let closing = self.ws().is_some_and(|ws| ws.due.is_some() || ws.closed.is_some());
        self.honest && self.reading && self.fin.is_none() && self.line == Seen::Open && !closing
    }

    pub fn is_dropped(&self) -> bool {
        self.peer.pipe().is_dropped()
    }

    /// Both ends know that it has ended, and have nothing left to say.
    fn is_over(&self) -> bool {
        self.line != Seen::Open && self.unsent.is_empty() && self.is_dropped()
    }

    pub fn is_accepted(&self) -> bool {
        self.backlog.is_none()
    }
}

pub struct World {
    pub core: Core<End>,
    pub now: Now,
    pub dice: Dice,
    pub weather: Weather,
    pub clients: Vec<Client>,
    /// Clients that anything can still come of.
    live: Vec<usize>,
    pub people: Vec<Person>,
    pub rooms: Vec<Room>,
    pub is_shut_down: bool,
    /// Rates apply to chats.
    limited: bool,
    pub ledger: Ledger,
    ledger_at_start: usize,
    /// Of all bytes that all peers were sent, in order.
    pub hash: u64,
    /// Time that has passed since everybody was served.
    loose: Duration,
    /// Bytes said since then.
    said: usize,
    pub panics_expected: u64,
    /// Bytes that all peers have read.
    pub heard: u64,
    turns: u64,
    /// How often all invariants are looked at: long histories make that dear.
    pub turns_per_check: u64,
    /// Messages that the server keeps of a room.
    kept_max: usize,
    /// Clients in the listener's queue, in the order of their coming.
    backlog: VecDeque<usize>,
    /// Accepting has failed, and rests until then.
    accept_pause: Option<Mono>,
    /// What the system's wall clock says, whatever the server has made of it.
    system: Wall,
}

/// More bytes are not said before everybody has read: a reader that reads is never too slow.
const SAID_MAX: usize = 16 * 1024;

/// How long accepting rests when it has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Longer is nobody kept waiting who hasn't deserved it.
const LOOSE_MAX: Duration = Duration::from_millis(1500);

impl World {
    pub fn new(seed: u64, config: &Config, weather: Weather) -> World {
        let ledger = Ledger::with_ceiling(config.memory_bytes_max);
        let connections_max = config.connections_max.unwrap_or(10_000);
        let entropy = Box::new(SeededEntropy::new(seed ^ 0xC4A7));
        let mut core = Core::new(config, connections_max, entropy, &ledger);
        let now = Now { wall: Wall::from_micros(1_755_611_100_000_000), ..Now::default() };
        core.begin(now);
        core.tick();
        let system = now.wall;
        World {
            core,
            now,
            dice: Dice::new(seed),
            weather,
            clients: Vec::new(),
            live: Vec::new(),
            people: Vec::new(),
            rooms: Vec::new(),
            is_shut_down: false,
            limited: config.message_rate.per_second > 0,
            ledger_at_start: ledger.total(),
            ledger,
            hash: 0xCBF2_9CE4_8422_2325,
            loose: Duration::ZERO,
            said: 0,
            panics_expected: 0,
            heard: 0,
            turns: 0,
            turns_per_check: 1,
            kept_max: config.history_messages_max,
            backlog: VecDeque::new(),
            accept_pause: None,
            system,
        }
    }

    // ---- Peers and what they say

    /// A peer connects, and is accepted at once if anybody is.
    pub fn connect(&mut self, talk: Talk, from: Option<IpAddr>) -> usize {
        self.connect_to(Purpose::Chat, talk, from)
    }

    pub fn connect_to(&mut self, purpose: Purpose, talk: Talk, from: Option<IpAddr>) -> usize {
        let (peer, end) = pipe::pair(self.dice.next(), self.weather);
        self.clients.push(Client {
            peer,
            backlog: Some((end, from, purpose)),
            key: None,
            unsent: VecDeque::new(),
            inbox: Vec::new(),
            fin: None,
            fin_sent: false,
            reading: true,
            honest: !matches!(talk, Talk::Noise),
            line: Seen::Open,
            talk,
        });
        let client = self.clients.len() - 1;
        self.backlog.push_back(client);
        self.live.push(client);
        self.accept();
        client
    }

    /// Takes in who waits in the queue, as `Server` does.
    fn accept(&mut self) {
        if self.accept_pause.is_some_and(|resume| resume <= self.now.mono) {
            self.accept_pause = None;
        }
        while self.accept_pause.is_none() && self.core.has_capacity(Purpose::Chat) {
            let Some(client) = self.backlog.pop_front() else { break };
            let client = &mut self.clients[client];
            let (end, from, purpose) =
                client.backlog.take().expect("who waits has not been accepted");
            client.key = self.core.accept(end, from, purpose);
        }
    }

    /// Accepting fails, for want of descriptors or memory, and rests.
    pub fn pause_accepting(&mut self) {
        self.accept_pause = Some(self.now.mono.after(ACCEPT_PAUSE));
        self.core.on_accept_pause();
    }

    /// A stream can't be polled; its peer is none the wiser.
    pub fn lose(&mut self, client: usize) {
        let client = &mut self.clients[client];
        client.honest = false;
        if let Some(key) = client.key {
            self.core.on_poll_error(key);
        }
    }

    pub fn connect_http(&mut self) -> usize {
        self.connect(Talk::Http(Http::default()), LOOPBACK)
    }

    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].unsent.extend(bytes);
    }

    pub fn ask(&mut self, client: usize, request: &[u8], ask: Ask) {
        self.clients[client].http().asks.push_back(ask);
        self.send(client, request);
    }

    /// A person asks for a socket in a room.
    pub fn enter(&mut self, person: usize, room: usize) -> usize {
        self.enter_from(person, room, LOOPBACK)
    }

    pub fn enter_from(&mut self, person: usize, room: usize, from: Option<IpAddr>) -> usize {
        self.enter_with(person, room, Start::Live, from)
    }

    /// A person asks for a socket in a room that begins somewhere.
    pub fn enter_at(&mut self, person: usize, room: usize, start: Start) -> usize {
        self.enter_with(person, room, start, LOOPBACK)
    }

    pub fn enter_with(
        &mut self,
        person: usize,
        room: usize,
        start: Start,
        from: Option<IpAddr>,
    ) -> usize {
        let session = self.people[person].session.clone().unwrap_or_default() + &start.query();
        let request = wire::upgrade(&self.rooms[room].id, &session, "");
        let mut possible = BTreeSet::new();
        if self.people[person].shares_name {
            possible.insert(4409);
        }
        if !self.rooms[room].watched {
            possible.insert(4404); // It may be over.
        }
        let asks = self.clients.iter().filter_map(|client| match &client.talk {
            Talk::Http(http) => Some(http.asks.iter()),
            _ => None,
        });
        possible.extend(asks.flatten().filter_map(|ask| match ask {
            Ask::End { person: who, room: from, code, .. }
                if *who == person && from.is_none_or(|from| from == room) =>
            {
                Some(*code) // Under way, and perhaps slower than this.
            }
            _ => None,
        }));
        // It, or they: which of several comes in first is the network's choice.
        let sockets = self.sockets_of(person, Some(room));
        for other in &sockets {
            self.clients[*other].ws_mut().expect("a socket").alone = false;
        }
        let client = self.connect(
            Talk::Ws(Ws {
                person,
                room,
                upgraded: false,
                after: self.rooms[room].log.keys().next_back().cloned(),
                alone: sockets.is_empty(),
                start,
                pages: Pages::default(),
                seen: Vec::new(),
                sent: Vec::new(),
                owed: VecDeque::new(),
                pings: VecDeque::new(),
                due: None,
                possible,
                must_close: false,
                closed: None,
                asked: 0,
                chats: 0,
            }),
            from,
        );
        self.send(client, &request);
        client
    }

    fn sockets_of(&self, person: usize, room: Option<usize>) -> Vec<usize> {
        let is_theirs = |ws: &Ws| ws.person == person && room.is_none_or(|room| room == ws.room);
        let sockets = self.clients.iter().enumerate();
        let sockets = sockets.filter(|(_, client)| client.ws().is_some_and(is_theirs));
        sockets.map(|(index, _)| index).collect()
    }

    pub fn frame(&mut self, first: u8, payload: &[u8]) -> Vec<u8> {
        wire::frame(first, payload, self.dice.next() as u32)
    }

    pub fn send_frame(&mut self, client: usize, first: u8, payload: &[u8]) {
        let frame = self.frame(first, payload);
        self.send(client, &frame);
    }

    /// Says something nobody else says, and `more`.
    pub fn chat(&mut self, client: usize, more: &str) {
        let frames = self.chat_frames(client, more, false);
        self.send(client, &frames);
    }

    /// The frames of a chat, in one piece or in fragments.
    pub fn chat_frames(&mut self, client: usize, more: &str, fragments: bool) -> Vec<u8> {
        let ws = self.clients[client].ws_mut().expect("a socket");
        ws.chats += 1;
        let text = format!("c{client}n{} {more}", ws.chats).trim().to_owned();
        ws.owed.push_back(Owed::Echo(text.clone()));
        let json = serde_json::json!({"type": "chat", "message": text}).to_string();
        self.said += json.len() + 300;
        if !fragments {
            return self.frame(TEXT, json.as_bytes());
        }
        let (left, right) = json.as_bytes().split_at(self.dice.below(json.len()));
        let mut frames = self.frame(1, left);
        frames.extend(self.ping_frame(client));
        frames.extend(self.frame(0x80, right));
        frames
    }

    pub fn ping_frame(&mut self, client: usize) -> Vec<u8> {
        let payload = self.dice.next().to_be_bytes()[..self.dice.below(9)].to_vec();
        let ws = self.clients[client].ws_mut().expect("a socket");
        ws.pings.push_back(payload.clone());
        self.frame(PING, &payload)
    }

    /// Says something that it may say again, on this socket or another.
    pub fn say(&mut self, client: usize, text: String, nonce: String) {
        let json = serde_json::json!({"type": "chat", "message": text, "nonce": nonce});
        let json = json.to_string();
        self.said += json.len() + 300;
        let ws = self.clients[client].ws_mut().expect("a socket");
        ws.sent.push(nonce.clone());
        ws.owed.push_back(Owed::Once { text, nonce });
        self.send_frame(client, TEXT, json.as_bytes());
    }

    /// Something that cannot be accepted, and what it is refused with.
    pub fn send_refusable(&mut self, client: usize, json: &str, code: &'static str) {
        self.clients[client].ws_mut().expect("a socket").owed.push_back(Owed::Refused(code));
        self.send_frame(client, TEXT, json.as_bytes());
        self.said += 300;
    }

    /// A close, or something that brings one upon the peer.
    pub fn send_last(&mut self, client: usize, bytes: &[u8], code: u16) {
        self.send(client, bytes);
        self.clients[client].ws_mut().expect("a socket").due = Some(code);
    }

    /// Ends its direction when all is sent, or both.
    pub fn finish(&mut self, client: usize, gone: bool) {
        let client = &mut self.clients[client];
        client.honest = false;
        client.fin = Some(gone);
    }

    pub fn reset(&mut self, client: usize) {
        let client = &mut self.clients[client];
        client.honest = false;
        client.unsent.clear();
        client.peer.pipe().reset();
    }

    /// Stops reading; whoever does may be dropped, from now on.
    pub fn stall(&mut self, client: usize) {
        self.clients[client].reading = false;
        self.clients[client].honest = false;
    }

    /// Somebody is about to close these; whoever comes in meanwhile may meet the same.
    pub fn expect_end(&mut self, person: usize, room: Option<usize>, code: u16) {
        for socket in self.sockets_of(person, room) {
            if let Some(ws) = self.clients[socket].ws_mut() {
                ws.possible.insert(code);
            }
        }
    }

    /// Sessions that nobody uses may have ended: only who has a socket for certain still has one.
    fn forget_sessions(&mut self) {
        for person in 0..self.people.len() {
            let sockets = self.sockets_of(person, None);
            if !sockets.iter().any(|socket| self.clients[*socket].is_well()) {
                self.people[person].session = None;
            }
        }
    }

    // ---- One session, one room, in passing

    pub fn person(&mut self, name: &str) -> usize {
        let shares_name =
            self.people.iter().any(|other| other.name.to_lowercase() == name.to_lowercase());
        for other in &mut self.people {
            other.shares_name |= other.name.to_lowercase() == name.to_lowercase();
        }
        self.people.push(Person { name: name.to_owned(), session: None, shares_name });
        let person = self.people.len() - 1;
        let client = self.connect_http();
        let body = serde_json::json!({"username": name}).to_string();
        let request = wire::request("POST", "/sessions", None, &body);
        self.ask(client, &request, Ask::Session(person));
        self.settle();
        self.finish(client, true);
        self.settle();
        person
    }

    /// So many at once.
    pub fn crowd(&mut self, count: usize) -> std::ops::Range<usize> {
        let first = self.people.len();
        let client = self.connect_http();
        for person in first..first + count {
            let name = format!("guest {person}");
            let body = serde_json::json!({"username": name}).to_string();
            self.people.push(Person { name, session: None, shares_name: false });
            let request = wire::request("POST", "/sessions", None, &body);
            self.ask(client, &request, Ask::Session(person));
        }
        self.settle();
        self.finish(client, true);
        self.settle();
        first..first + count
    }

    /// Opens a room; `watched`: its opener stays in it to the end.
    pub fn room(&mut self, person: usize, watched: bool) -> usize {
        let client = self.connect_http();
        let session = self.people[person].session.clone();
        let request = wire::request("POST", "/rooms", session.as_deref(), "");
        self.ask(client, &request, Ask::Room);
        self.settle();
        self.finish(client, true);
        self.settle();
        let room = self.rooms.len() - 1;
        if watched {
            self.rooms[room].watched = true;
            self.enter(person, room);
            self.settle();
        }
        room
    }

    /// Each of these opens a room.
    pub fn open_rooms(&mut self, people: &[usize]) {
        let client = self.connect_http();
        for person in people {
            let session = self.people[*person].session.clone();
            self.ask(client, &wire::request("POST", "/rooms", session.as_deref(), ""), Ask::Room);
        }
        self.settle();
        self.finish(client, true);
        self.settle();
    }

    /// Who has gone is not looked at any more, nor anybody's session or room.
    pub fn forget_clients(&mut self) {
        assert!(self.clients.iter().all(Client::is_over), "somebody is still there");
        assert_eq!(self.core.connection_count(), 0, "connections");
        self.clients.clear();
        self.live.clear();
        self.people.clear();
        self.rooms.clear();
    }

    /// One request on a connection of its own, and its answer.
    pub fn get(&mut self, path: &str, session: Option<&str>, ask: Ask) -> Response {
        let client = self.connect_http();
        self.ask(client, &wire::request("GET", path, session, ""), ask);
        self.settle();
        self.finish(client, true);
        self.settle();
        self.clients[client].http().answers.pop().expect("an answer")
    }

    // ---- The loop

    /// One turn. Unless `all`, the poll keeps some of what it knows for the next.
    pub fn turn(&mut self, all: bool) {
        self.core.begin(self.now);
        self.accept();
        self.report_stale();
        self.live.retain(|client| !self.clients[*client].is_over());
        let count = self.live.len();
        let first = if count > 0 { self.dice.below(count) } else { 0 };
        for place in (first..count).chain(0..first) {
            let client = &self.clients[self.live[place]];
            let Some(key) = client.key else { continue };
            if !all && self.dice.percent(30) {
                continue;
            }
            let Some(edges) = client.peer.pipe().poll() else { continue };
            if edges.readable {
                self.core.on_readable(key, edges.hangup);
            }
            if edges.writable {
                self.core.on_writable(key);
            }
        }
        self.core.tick();
        self.turns += 1;
        if self.turns % self.turns_per_check == 0 {
            self.core.check_invariants();
            self.core.check_ledger();
        }
        assert_eq!(self.core.counters().panics, self.panics_expected, "a panic was caught");
    }

    /// Events of a connection that is gone, whose slot may be somebody else's by now.
    fn report_stale(&mut self) {
        if self.clients.is_empty() || !self.dice.percent(20) {
            return;
        }
        let client = &self.clients[self.dice.below(self.clients.len())];
        if let Some(key) = client.key.filter(|_| client.is_dropped()) {
            assert!(self.core.stream_mut(key).is_none(), "a key leads to a stranger's stream");
            self.core.on_readable(key, true);
            self.core.on_writable(key);
        }
    }

    /// Up to `count` of the bytes a peer has sent reach the server.
    pub fn deliver(&mut self, client: usize, count: usize) -> bool {
        let client = &mut self.clients[client];
        let mut pipe = client.peer.pipe();
        if client.fin_sent {
            client.unsent.clear(); // Too late.
        }
        let moved = pipe.arrive(&mut client.unsent, count) > 0;
        if let (Some(gone), true, false) = (client.fin, client.unsent.is_empty(), client.fin_sent) {
            client.fin_sent = true;
            pipe.finish(gone);
            return true;
        }
        moved
    }

    /// A peer reads up to `count` bytes and acts on them.
    pub fn listen(&mut self, index: usize, count: usize) -> bool {
        let client = &mut self.clients[index];
        if client.line != Seen::Open {
            return false;
        }
        let (bytes, line) = client.peer.pipe().take(count);
        client.line = line;
        let heard = !bytes.is_empty();
        self.heard += bytes.len() as u64;
        let words = bytes.chunks(8).map(|word| {
            word.iter().fold(word.len() as u64, |all, byte| all << 8 ^ u64::from(*byte))
        });
        for word in std::iter::once(index as u64).chain(words) {
            self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01B3).rotate_left(29);
        }
        client.inbox.extend_from_slice(&bytes);
        let mut talk = std::mem::replace(&mut client.talk, Talk::Noise);
        match &mut talk {
            Talk::Http(http) => self.hear_http(index, http),
            Talk::Ws(ws) => self.hear_ws(index, ws),
            Talk::Noise => self.clients[index].inbox.clear(),
        }
        self.clients[index].talk = talk;
        let client = &mut self.clients[index];
        if client.line != Seen::Open && client.fin.is_none() {
            client.unsent.clear();
            client.fin = Some(true);
        }
        heard || client.line != Seen::Open
    }

    /// Turns the loop, delivers and reads until nothing moves, without time. Then nobody who can
    /// be served may be waiting.
    pub fn settle(&mut self) {
        self.accept_pause = None;
        let mut turns = 0;
        loop {
            let mut moved = false;
            for place in 0..self.live.len() {
                moved |= self.deliver(self.live[place], usize::MAX);
            }
            self.turn(true);
            for place in 0..self.live.len() {
                let index = self.live[place];
                moved |= self.clients[index].reading && self.listen(index, usize::MAX);
            }
            let due = self.live.iter().any(|index| {
                let client = &self.clients[*index];
                let pipe = client.peer.pipe();
                pipe.is_due() || !client.unsent.is_empty() && pipe.has_room()
            });
            if !(moved || due || self.core.has_work()) {
                break;
            }
            turns += 1;
            assert!(turns < 100_000, "the loop spins");
        }
        (self.loose, self.said) = (Duration::ZERO, 0);
        for index in 0..self.clients.len() {
            self.check_served(index);
        }
    }

    fn check_served(&self, index: usize) {
        let client = &self.clients[index];
        let dropped = client.is_dropped();
        let who = format!("client {index}");
        if !client.is_accepted() {
            return assert!(!self.core.has_capacity(Purpose::Chat), "{who} was not accepted");
        }
        let mut waits = false;
        match &client.talk {
            Talk::Ws(ws) => {
                let shares_name = self.people[ws.person].shares_name;
                waits = shares_name && ws.seen.is_empty() && ws.closed.is_none();
                let well = client.is_well();
                if well {
                    assert!(ws.upgraded, "{who}: the upgrade was not answered");
                    assert!(waits || !ws.alone || !ws.seen.is_empty(), "{who} was not let in");
                    let caught_up = ws.start == Start::Live || ws.pages.complete.is_some();
                    assert!(waits || caught_up, "{who} is still catching up");
                    assert!(!ws.must_close, "{who} was not closed");
                    if !waits {
                        assert!(ws.owed.is_empty(), "{who} is owed {:?}", ws.owed);
                        assert!(ws.pings.is_empty(), "{who} is owed pongs");
                    }
                }
                if client.honest && client.reading && ws.due.is_some() {
                    assert!(waits || ws.closed.is_some(), "{who} is owed a close");
                }
                let room = &self.rooms[ws.room];
                let waits = waits && ws.pages.complete.is_none();
                room.check_reader(&who, &ws.seen, well && !waits);
                check_start(room, ws, &who, well && !waits);
            }
            Talk::Http(http) if client.honest && client.reading && !http.excused => {
                assert!(http.asks.is_empty(), "{who}: {} answers are due", http.asks.len());
            }
            _ => {}
        }
        if client.reading && !waits && !dropped {
            assert_eq!(client.peer.pipe().unread(), 0, "{who}: input was left unread");
            assert!(!client.fin_sent, "{who}: the end of its direction was not seen");
        }
    }

    /// Lets time pass; before much of it does, everybody is served who wants to be.
    pub fn pass(&mut self, time: Duration) {
        if self.loose + time > LOOSE_MAX {
            self.settle();
            for client in &mut self.clients {
                if let Talk::Http(http) = &mut client.talk {
                    http.excused = true;
                }
            }
        }
        self.advance(time);
        self.loose += time;
        self.turn(false);
        if time > Duration::from_secs(60 * 60) {
            self.forget_sessions();
        }
    }

    /// Time passes, on both clocks. As the server has it, the wall clock stands still while the
    /// system's lies behind it.
    pub fn advance(&mut self, time: Duration) {
        self.system = self.system.after(time);
        self.now.mono = self.now.mono.after(time);
        self.now.wall = self.now.wall.max(self.system);
    }

    /// Somebody sets the system's wall clock.
    pub fn set_clock(&mut self, by: Duration, forward: bool) {
        self.system = if forward {
            self.system.after(by)
        } else {
            Wall::from_micros(self.system.micros().saturating_sub(by.as_micros() as u64))
        };
        self.advance(Duration::ZERO);
    }

    /// Lets time pass until the next timer is due. False if there is none.
    pub fn pass_to_deadline(&mut self) -> bool {
        let Some(deadline) = self.core.next_deadline() else { return false };
        self.pass(deadline.since(self.now.mono));
        true
    }

    /// Time for more to be said, or to be read first.
    pub fn catch_up(&mut self) {
        if self.said > SAID_MAX {
            self.settle();
        }
    }

    pub fn shut_down(&mut self) {
        self.core.begin(self.now);
        self.core.shut_down();
        self.is_shut_down = true;
        for client in &mut self.clients {
            match &mut client.talk {
                Talk::Ws(ws) => drop(ws.possible.insert(1001)),
                Talk::Http(http) => http.excused = true,
                Talk::Noise => {}
            }
        }
    }

    // ---- The end

    /// Everybody leaves, time passes, and nothing is left.
    pub fn end(&mut self) {
        for index in 0..self.clients.len() {
            if self.clients[index].line != Seen::Open {
                continue;
            }
            self.clients[index].reading = true;
            let open = self.clients[index].is_well();
            match self.dice.below(4) {
                0 => self.reset(index),
                1 if open && self.clients[index].ws().is_some() => {
                    let close = self.frame(CLOSE, &1000u16.to_be_bytes());
                    self.send_last(index, &close, 1000);
                }
                n => self.finish(index, n == 2),
            }
        }
        self.settle();
        let mut deadlines = 0;
        while self.pass_to_deadline() {
            self.settle();
            deadlines += 1;
            assert!(deadlines < 10_000, "something is armed for ever");
        }
        assert_eq!(self.core.connection_count(), 0, "connections");
        assert_eq!(self.core.chat().session_count(), 0, "sessions");
        assert_eq!(self.core.chat().room_count(), 0, "rooms");
        assert_eq!(self.core.timer_count(), 0, "timers");
        assert_eq!(self.core.counters().websockets, 0, "the gauge of WebSockets");
        assert_eq!(self.ledger.total(), self.ledger_at_start, "the ledger: {:?}", self.accounts());
    }

    fn accounts(&self) -> Vec<(disposable_chat::ledger::Account, usize)> {
        use disposable_chat::ledger::Account;
        Account::ALL.map(|account| (account, self.ledger.bytes(account))).into()
    }
}

/// A reader began where it wanted to, or was told that it could not.
fn check_start(room: &Room, ws: &Ws, who: &str, well: bool) {
    let Some(floor) = ws.start.floor() else { return };
    let first = ws.seen.first();
    if first.is_none() && well && ws.pages.complete != Some(false) {
        assert_eq!(room.after(floor).next(), None, "{who} lacks what came after {floor}");
    }
    let Some(complete) = ws.pages.complete.filter(|_| room.watched) else { return };
    let until = ws.pages.messages.checked_sub(1).map_or(floor, |last| &ws.seen[last]);
    assert_eq!(complete, room.was_kept(floor, until), "{who} was told the wrong thing");
    if complete {
        let next = room.after(floor).next();
        assert!(first.is_none() || first == next, "{who}: a gap that it was not told of");
    } else {
        let kept = room.kept_max.min(room.log.range(..=until.to_owned()).count());
        assert_eq!(ws.pages.messages, kept, "{who} did not get all that was kept");
    }
}
