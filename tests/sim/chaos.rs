//! Connections that break again and again, while nothing is lost or repeated.
//!
//! Twenty readers and five writers are in one room. Two thirds of the readers read event streams. Each of their connections breaks by a reset, by
//! an end of the stream, or by a silence until the server gives it up; bytes in flight are lost, or
//! arrive late. Each participant then resumes after the last message that it has received, and a
//! writer sends again, with the same nonces, what the server has not echoed.
//!
//! Owns the participants and their comparison at the end. Must not know how the server resumes. The
//! invariant: what a participant has received over all its connections is the log of the room,
//! unless the server has reported a gap.

use std::time::Duration;

use disposable_chat::config::{Config, Rate};

use crate::model::Room;
use crate::pipe::{Dice, Network, RELIABLE, StreamState};
use crate::wire::Format;
use crate::world::{LOOPBACK, Reply, Start, World};

const READERS: usize = 20;

/// How the readers connect, in turn.
const FORMATS: [Option<Format>; 3] = [None, Some(Format::EventStream), Some(Format::Lines)];

const WRITERS: usize = 5;

/// Many more than any run needs.
const ROUNDS_MAX: usize = 5000;

/// Broken connections of one participant that the server has not noticed yet. A session may have
/// 20.
const SILENT_MAX: usize = 6;

/// Bytes read in a step by a reader that the server must not close. It answers a ping in time,
/// however much is queued before the ping, and reads why it is closed.
const BRISK_BYTES: usize = 6000;

/// Ticks of the loop before the peers act again.
const TICKS_MAX: usize = 16;

/// What has happened in a run. The test requires enough of it.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Facts {
    pub hash: u64,
    pub breaks: usize,
    /// Resumes for which the server has reported a gap.
    pub incomplete: usize,
    /// Connections that the server has closed as too slow.
    pub too_slow: usize,
    /// Connections that have received more than one page of history.
    pub paged: usize,
    /// Messages sent again over another connection.
    pub resent: usize,
    /// Messages that are in the log twice, because the server had forgotten their nonces.
    pub repeated: usize,
}

/// A user whose connections break.
struct Participant {
    user: usize,
    /// It reads event streams in this format; `None`: WebSockets.
    format: Option<Format>,
    /// The present connection.
    peer: usize,
    /// All connections so far.
    peers: Vec<usize>,
    /// Broken connections that the server may not have noticed.
    silent: Vec<usize>,
    /// Bytes read in a step.
    pace: usize,
    /// Counts of received messages at which the connection is to break, the next one last.
    breaks_at: Vec<usize>,
    /// Ids received over earlier connections.
    seen: Vec<String>,
    /// Messages sent so far, and in total.
    sent: usize,
    to_send: usize,
    /// Text and nonce of messages sent over earlier connections and not echoed.
    unconfirmed: Vec<(String, String)>,
    /// Messages that may be sent before their echoes arrive.
    window: usize,
}

struct Chaos {
    world: World,
    /// The host's connection, which never breaks.
    host: usize,
    messages: usize,
    facts: Facts,
}

/// Runs a seed in which each connection breaks `breaks` times while `messages` are sent. The server
/// keeps `history_messages_max` of them.
pub fn run(seed: u64, breaks: usize, messages: usize, history_messages_max: usize) -> Facts {
    let mut dice = Dice::new(seed ^ 0xC4A0);
    let config = Config {
        message_rate: Rate { per_second: 0, burst: 1 },
        history_messages_max,
        outbox_bytes_max: *dice.pick(&[64 * 1024, Config::default().outbox_bytes_max]),
        ping_interval: Duration::from_secs(5),
        ping_timeout: Duration::from_secs(30), // A ping waits behind all queued output.
        linger_timeout: Duration::from_secs(60), // A slow reader, too, reads why it is closed.
        leave_grace: *dice.pick(&[Duration::ZERO, Duration::from_secs(3)]),
        ..Config::default()
    };
    let fault_percent = *dice.pick(&[0, 5, 30]);
    let mut world = World::new(seed, &config, RELIABLE);
    world.ticks_per_check = 50;
    let host = world.add_user("host");
    let room = world.open_room(host, true);
    let host = world.peers.len() - 1;
    let users = world.add_users(READERS + WRITERS);
    let mut chaos = Chaos { world, host, messages, facts: Facts::default() };
    let participants = users.enumerate().map(|(number, user)| {
        let start = dice.pick(&[Start::Live, Start::Last(0), Start::Last(1000)]).clone();
        let format = if number < WRITERS { None } else { FORMATS[number % FORMATS.len()] };
        let peer = chaos.world.enter_as(user, room, start, LOOPBACK, format);
        let mut breaks_at: Vec<_> = (0..breaks).map(|_| dice.below(messages)).collect();
        breaks_at.sort_unstable_by(|one, other| other.cmp(one));
        Participant {
            user,
            format,
            peer,
            peers: vec![peer],
            silent: Vec::new(),
            pace: BRISK_BYTES,
            breaks_at,
            seen: Vec::new(),
            sent: 0,
            to_send: if number < WRITERS { messages / WRITERS } else { 0 },
            unconfirmed: Vec::new(),
            window: 1 + dice.below(20),
        }
    });
    let mut participants: Vec<_> = participants.collect();
    chaos.world.settle();
    for round in 0.. {
        assert!(round < ROUNDS_MAX, "the run does not end");
        for _ in 0..20 {
            chaos.step(&mut participants, fault_percent);
        }
        if participants.iter().all(|participant| chaos.is_done(participant)) {
            for participant in &participants {
                // From now on it reads until nothing is left, so the server must not close it.
                chaos.world.peers[participant.peer].must_be_served = true;
            }
            chaos.world.settle();
            if participants.iter().all(|it| chaos.world.peers[it.peer].is_healthy()) {
                break;
            }
        }
    }
    chaos.judge(participants)
}

impl Chaos {
    fn step(&mut self, participants: &mut [Participant], fault_percent: usize) {
        // A participant that has lost messages does not reach the count at which its next break is
        // due. Once all messages are sent, its connection breaks at random.
        let all_sent = participants.iter().all(|it| it.sent == it.to_send);
        for participant in participants.iter_mut() {
            let seen = participant.seen.len() + self.seen(participant).len();
            let peer = &self.world.peers[participant.peer];
            let is_broken =
                peer.stream != StreamState::Open || peer.ws().is_some_and(|ws| ws.closed.is_some());
            let is_late = all_sent && self.world.dice.percent(10);
            let is_due = participant.breaks_at.last().is_some_and(|at| *at <= seen || is_late);
            if is_broken || is_due {
                if !is_broken {
                    participant.breaks_at.pop();
                    self.facts.breaks += 1;
                    self.break_connection(participant);
                }
                self.resume(participant, fault_percent);
            }
            self.post(participant);
        }
        for participant in participants.iter() {
            for peer in participant.silent.iter().chain([&participant.peer]) {
                if self.world.dice.percent(70) {
                    let count = 1 + self.world.dice.below(20_000);
                    self.world.deliver(*peer, count);
                }
            }
        }
        let time = self.world.dice.below(100) as u64;
        self.world.advance_clocks(Duration::from_millis(time));
        // As long as the loop has work it does not wait, so no time passes between these ticks.
        for _ in 0..TICKS_MAX {
            self.world.tick(false);
            if !self.world.core.has_work() {
                break;
            }
        }
        self.world.receive(self.host, usize::MAX);
        self.world.deliver(self.host, usize::MAX);
        for participant in participants {
            if self.world.dice.percent(70) {
                let count = 1 + self.world.dice.below(2 * participant.pace);
                self.world.receive(participant.peer, count);
            }
        }
    }

    fn seen(&self, participant: &Participant) -> &[String] {
        &self.world.peers[participant.peer].ws().expect("a WebSocket").seen
    }

    fn break_connection(&mut self, participant: &mut Participant) {
        let peer = participant.peer;
        match self.world.dice.below(4) {
            0 => self.world.reset(peer),
            1 => self.world.close(peer),
            2 => self.world.half_close(peer),
            _ => self.world.stall(peer),
        }
        self.world.peers[peer].reading = false;
        participant.silent.push(peer);
        if participant.silent.len() > SILENT_MAX {
            let oldest = participant.silent.remove(0);
            self.world.reset(oldest);
        }
    }

    fn resume(&mut self, participant: &mut Participant, fault_percent: usize) {
        let seen = self.seen(participant).to_vec();
        participant.seen.extend(seen);
        let old = self.world.peers[participant.peer].ws_mut().expect("a WebSocket");
        if matches!(old.closed, Some((1013, _))) {
            self.facts.too_slow += 1;
        }
        for reply in old.replies_due.drain(..) {
            let Reply::EchoOf { text, nonce } = reply else {
                panic!("a participant sends messages with nonces only")
            };
            participant.unconfirmed.push((text, nonce));
        }
        let dice = &mut self.world.dice;
        let buffer_bytes = *dice.pick(&[700, 8000, 64 * 1024]);
        participant.pace = *dice.pick(&[500, 3000, BRISK_BYTES, 40_000]);
        participant.window = 1 + dice.below(20);
        self.world.network = Network { fault_percent, buffer_bytes };
        let after = participant.seen.last().map_or("nothing", String::as_str).to_owned();
        let (user, format, start) = (participant.user, participant.format, Start::After(after));
        participant.peer = self.world.enter_as(user, 0, start, LOOPBACK, format);
        participant.peers.push(participant.peer);
        let peer = &mut self.world.peers[participant.peer];
        // The server may close the others as too slow.
        peer.must_be_served = participant.pace.min(buffer_bytes) >= BRISK_BYTES;
        peer.ws_mut().expect("a WebSocket").closes_possible.insert(1013);
        for (text, nonce) in participant.unconfirmed.drain(..) {
            self.facts.resent += 1;
            self.world.chat_with_nonce(participant.peer, text, nonce);
        }
    }

    fn post(&mut self, participant: &mut Participant) {
        for _ in 0..self.world.dice.below(3) {
            let ws = self.world.peers[participant.peer].ws().expect("a WebSocket");
            let is_full = ws.replies_due.len() >= participant.window;
            if participant.sent == participant.to_send || is_full {
                return;
            }
            let dice = &mut self.world.dice;
            let (piece, count) = match dice.below(100) {
                0..80 => ("a", dice.below(100)),
                80..95 => ("\"é", dice.below(400)),
                _ => ("🦀", dice.below(3980)),
            };
            let (user, number) = (participant.user, participant.sent);
            let text = format!("w{user}m{number} {}", piece.repeat(count));
            participant.sent += 1;
            let (text, nonce) = (text.trim().to_owned(), number.to_string());
            self.world.chat_with_nonce(participant.peer, text, nonce);
        }
    }

    fn is_done(&self, participant: &Participant) -> bool {
        let peer = &self.world.peers[participant.peer];
        let ws = peer.ws().expect("a WebSocket");
        participant.breaks_at.is_empty()
            && participant.sent == participant.to_send
            && participant.unconfirmed.is_empty()
            && ws.replies_due.is_empty()
            && ws.closed.is_none()
            && peer.stream == StreamState::Open
    }

    fn judge(mut self, participants: Vec<Participant>) -> Facts {
        let room = &self.world.rooms[0];
        self.facts.repeated = room.check_nonces();
        for participant in &participants {
            check_resumes(&self.world, room, participant);
            let prefix = format!("w{}m", participant.user);
            let own = room.log.values().filter_map(|message| message.text.strip_prefix(&prefix));
            let own = own.map(|text| text.split(' ').next().and_then(|number| number.parse().ok()));
            let mut own: Vec<usize> = own.map(|number| number.expect("a number")).collect();
            if self.facts.repeated > 0 {
                own.sort_unstable();
                own.dedup();
            }
            let expected: Vec<_> = (0..participant.to_send).collect();
            assert_eq!(own, expected, "messages of user {}, in order", participant.user);
            let sockets = participant.peers.iter();
            for ws in sockets.filter_map(|peer| self.world.peers[*peer].ws()) {
                self.facts.incomplete += usize::from(ws.pages.complete == Some(false));
                self.facts.paged += usize::from(ws.pages.count > 1);
            }
            if room.history_messages_max > 2 * self.messages {
                let seen = [&participant.seen, self.seen(participant)].concat();
                let all: Vec<_> = room.log.range(seen[0].clone()..).map(|(id, _)| id).collect();
                let user = participant.user;
                assert!(seen.iter().eq(all), "user {user} must receive each message once");
                let is_chat = |id: &&String| room.log[*id].kind == "chat";
                assert_eq!(seen.iter().filter(is_chat).count(), self.messages);
            }
        }
        self.world.close_all();
        self.facts.hash = self.world.hash;
        self.facts
    }
}

/// Checks that each connection goes on where the one before ended, unless the server has reported a
/// gap.
fn check_resumes(world: &World, room: &Room, participant: &Participant) {
    for peer in &participant.peers[1..] {
        let ws = world.peers[*peer].ws().expect("a WebSocket");
        let (Some(after), Some(first)) = (ws.start.resume_point(), ws.seen.first()) else {
            continue;
        };
        let is_next = room.after(after).next() == Some(first);
        match ws.pages.complete {
            Some(complete) => assert!(is_next || !complete),
            // The connection broke before the last page. A gap must then be as old as the history.
            None if !is_next => {
                let kept = room.log.range(first.clone()..).count();
                assert!(kept >= room.history_messages_max, "peer {peer} has a gap");
            }
            None => {}
        }
    }
}
