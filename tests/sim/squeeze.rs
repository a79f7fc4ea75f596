//! Memory is short: under a low ceiling, attackers make the server keep as much as they can, while
//! a few members talk in a room of their own and must not be affected.
//!
//! Owns the attackers and their requests. Must not know how the server decides what to give up. The
//! invariant: no more bytes than the ceiling are in use, burdens have no more than their share, and
//! no member is closed.

use std::time::Duration;

use disposable_chat::config::{Config, Rate};
use disposable_chat::ledger::Account;

use crate::pipe::{Dice, Network, RELIABLE};
use crate::wire::{self, TEXT};
use crate::world::{Check, LOOPBACK, Protocol, World};

/// Members of the room that must not be affected, besides its host.
const MEMBERS: usize = 3;

/// Sessions of the attackers.
const ATTACKERS: usize = 12;

/// Connections that the attackers open before the memory is short, and use later.
const IDLE: usize = 60;

const ROUNDS: usize = 40;

/// What has happened in a run.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Facts {
    pub hash: u64,
    pub ceiling: usize,
    /// The most bytes in use between two ticks, with what is resident beyond the count.
    pub peak: usize,
    /// The largest sum of all burdens between two ticks.
    pub burdens_peak: usize,
    pub forgotten: u64,
    pub shed: u64,
}

struct Squeeze {
    world: World,
    /// Connections of the members.
    members: Vec<usize>,
    /// The users that attack, and their rooms.
    attackers: std::ops::Range<usize>,
    rooms: Vec<usize>,
    /// Connections of the attackers that have sent nothing yet.
    idle: Vec<usize>,
    facts: Facts,
}

/// Runs a seed to its end.
pub fn run(seed: u64) -> Facts {
    let mut dice = Dice::new(seed ^ 0x59EE);
    let ceiling = *dice.pick(&[1 << 20, 2 << 20, 5 << 20]);
    let config = Config {
        message_rate: Rate { per_second: 0, burst: 1 },
        memory_bytes_max: ceiling,
        outbox_bytes_max: *dice.pick(&[64 * 1024, 256 * 1024]),
        ..Config::default()
    };
    let fault_percent = *dice.pick(&[0, 10]);
    let mut world = World::new(seed, &config, Network { fault_percent, ..RELIABLE });
    world.ticks_per_check = 100;
    let host = world.add_user("host");
    let room = world.open_room(host, true);
    let mut members = vec![world.peers.len() - 1];
    for user in world.add_users(MEMBERS) {
        members.push(world.enter(user, room));
    }
    let attackers = world.add_users(ATTACKERS);
    let users: Vec<_> = attackers.clone().collect();
    world.open_rooms(&users);
    let rooms = (1..world.rooms.len()).collect();
    let facts = Facts { ceiling, ..Facts::default() };
    let idle = (0..IDLE).map(|_| world.connect(Protocol::Unchecked, LOOPBACK)).collect();
    let mut squeeze = Squeeze { world, members, attackers, rooms, idle, facts };
    for round in 0..ROUNDS {
        squeeze.world.network.buffer_bytes = *squeeze.world.dice.pick(&[2000, 64 * 1024]);
        for _ in 0..1 + squeeze.world.dice.below(8) {
            squeeze.attack();
        }
        squeeze.talk(round);
    }
    squeeze.relax()
}

impl Squeeze {
    /// An attacker sends something that the server has to keep.
    fn attack(&mut self) {
        let world = &mut self.world;
        let user = self.attackers.start + world.dice.below(ATTACKERS);
        let session = world.users[user].session.clone();
        let session = session.as_deref();
        let id = world.rooms[*world.dice.pick(&self.rooms)].id.clone();
        let long = "x".repeat(3900);
        let idle = if world.dice.percent(60) { self.idle.pop() } else { None };
        let peer = idle.unwrap_or_else(|| world.connect(Protocol::Unchecked, LOOPBACK));
        let post = format!(r#"{{"message":"{long}"}}"#);
        let bytes = match world.dice.below(8) {
            // Sessions, rooms and histories.
            0 => wire::request("POST", "/sessions", None, r#"{"username":"many"}"#).repeat(200),
            1 => wire::request("POST", "/rooms", session, "").repeat(20),
            2 => wire::request("POST", &format!("/rooms/{id}/messages"), session, &post).repeat(30),
            // Responses that are not read.
            3 => {
                let path = format!("/rooms/{id}/messages?limit=1000");
                world.stall(peer);
                wire::request("GET", &path, session, "").repeat(3)
            }
            // A request and a frame that are not complete.
            4 => {
                let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n";
                format!("{head}{:40000}", "").into_bytes()
            }
            5 => {
                let mut bytes = wire::upgrade(&id, session.unwrap_or_default(), "");
                bytes.extend(&world.frame(TEXT, &[b' '; 60_000])[..50_000]);
                bytes
            }
            // Messages that their sender does not read.
            6 => {
                world.stall(peer);
                let mut bytes = wire::upgrade(&id, session.unwrap_or_default(), "");
                let chat = format!(r#"{{"type":"chat","message":"{long}"}}"#);
                for _ in 0..20 {
                    bytes.extend(world.frame(TEXT, chat.as_bytes()));
                }
                bytes
            }
            _ => Vec::new(),
        };
        world.send(peer, &bytes);
        if world.dice.percent(30) {
            let other = world.dice.below(world.peers.len());
            if !self.members.contains(&other) {
                world.reset(other);
            }
        }
    }

    /// The members talk and receive each other's messages, while the memory stays below the
    /// ceiling.
    fn talk(&mut self, round: usize) {
        for member in &self.members {
            self.world.chat(*member, &format!("round {round}"));
        }
        // What the allocator has lost, beyond the tenth that does not count.
        let losses = *self.world.dice.pick(&[0, 0, 1, 2]) * self.facts.ceiling / 20;
        for _ in 0..20 {
            let anonymous =
                (3 << 20) + self.facts.ceiling / 10 + self.world.ledger.total() + losses;
            self.world.core.on_resident(2 * anonymous, anonymous, None);
            self.world.deliver_all(20_000);
            self.world.tick(true);
            self.note_peaks();
            self.world.receive_all(20_000);
        }
        if round % 5 == 0 {
            self.world.settle(); // Compares what the members have received.
            self.note_peaks();
        }
        for member in &self.members {
            assert!(self.world.peers[*member].is_healthy(), "member {member} is affected");
        }
        let time = self.world.dice.below(3000) as u64;
        self.world.pass_time(Duration::from_millis(time));
    }

    fn note_peaks(&mut self) {
        let (facts, ledger) = (&mut self.facts, &self.world.ledger);
        facts.peak = facts.peak.max(ledger.used());
        let burdens = ledger.bytes(Account::Burdens) + ledger.bytes(Account::Frames);
        facts.burdens_peak = facts.burdens_peak.max(burdens);
    }

    /// The attackers disconnect. Then there is capacity again, and nothing of them is left.
    fn relax(mut self) -> Facts {
        for peer in 0..self.world.peers.len() {
            if !self.members.contains(&peer) {
                self.world.reset(peer);
            }
        }
        self.world.settle();
        for _ in 0..5 {
            self.world.pass_time(Config::default().new_room_ttl);
            self.world.settle();
        }
        let counters = self.world.core.counters();
        self.facts.forgotten = counters.forgotten;
        self.facts.shed = counters.shed;
        let host = self.world.users[0].session.clone();
        let path = format!("/rooms/{}/messages?limit=1000", self.world.rooms[0].id);
        self.world.get(&path, host.as_deref(), Check::Messages(0));
        assert!(self.facts.peak <= self.facts.ceiling, "{:?}", self.facts);
        let share = self.facts.ceiling / 4;
        assert!(self.facts.burdens_peak <= share, "{:?}", self.facts);
        self.world.close_all();
        self.facts.hash = self.world.hash;
        self.facts
    }
}
