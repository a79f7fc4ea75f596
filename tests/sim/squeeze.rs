//! Memory is short: strangers have the server keep all they can, under a low ceiling, while a few
//! people talk in a room of theirs and must not notice.

use std::time::Duration;

use disposable_chat::config::{Config, Rate};

use crate::pipe::{CALM, Dice, Weather};
use crate::wire::{self, TEXT};
use crate::world::{Ask, LOOPBACK, Talk, World};

/// Members of the room that nobody is to disturb.
const INNOCENTS: usize = 3;

/// Sessions that the strangers have from the beginning.
const STRANGERS: usize = 12;

/// Strangers who only connect, at first.
const IDLE: usize = 60;

const ROUNDS: usize = 40;

/// What a run was like, in the end.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Facts {
    pub hash: u64,
    pub ceiling: usize,
    /// The most that was ever counted between two turns.
    pub most: usize,
    pub forgotten: u64,
    pub shed: u64,
}

struct Squeeze {
    world: World,
    innocents: Vec<usize>,
    /// The strangers' people and rooms.
    strangers: std::ops::Range<usize>,
    rooms: Vec<usize>,
    /// Strangers who have connected while they could, and said nothing yet.
    idle: Vec<usize>,
    facts: Facts,
}

pub fn run(seed: u64) -> Facts {
    let mut dice = Dice::new(seed ^ 0x59EE);
    let ceiling = *dice.pick(&[1 << 20, 2 << 20, 5 << 20]);
    let config = Config {
        message_rate: Rate { per_second: 0, burst: 1 },
        memory_bytes_max: ceiling,
        outbox_bytes_max: *dice.pick(&[64 * 1024, 256 * 1024]),
        ..Config::default()
    };
    let faults = *dice.pick(&[0, 10]);
    let mut world = World::new(seed, &config, Weather { faults, ..CALM });
    world.turns_per_check = 20;
    let host = world.person("host");
    let room = world.room(host, true);
    let mut innocents = vec![world.clients.len() - 1];
    for person in world.crowd(INNOCENTS) {
        innocents.push(world.enter(person, room));
    }
    let strangers = world.crowd(STRANGERS);
    let people: Vec<_> = strangers.clone().collect();
    world.open_rooms(&people);
    let rooms = (1..world.rooms.len()).collect();
    let facts = Facts { ceiling, ..Facts::default() };
    let idle = (0..IDLE).map(|_| world.connect(Talk::Noise, LOOPBACK)).collect();
    let mut squeeze = Squeeze { world, innocents, strangers, rooms, idle, facts };
    for round in 0..ROUNDS {
        squeeze.world.weather.buffer_bytes = *squeeze.world.dice.pick(&[2000, 64 * 1024]);
        for _ in 0..1 + squeeze.world.dice.below(8) {
            squeeze.strain();
        }
        squeeze.talk(round);
    }
    squeeze.relax()
}

impl Squeeze {
    /// A stranger does something that has to be kept.
    fn strain(&mut self) {
        let world = &mut self.world;
        let person = self.strangers.start + world.dice.below(STRANGERS);
        let session = world.people[person].session.clone();
        let session = session.as_deref();
        let id = world.rooms[*world.dice.pick(&self.rooms)].id.clone();
        let long = "x".repeat(3900);
        let idle = if world.dice.percent(60) { self.idle.pop() } else { None };
        let client = idle.unwrap_or_else(|| world.connect(Talk::Noise, LOOPBACK));
        let say = format!(r#"{{"message":"{long}"}}"#);
        let bytes = match world.dice.below(8) {
            0 => wire::request("POST", "/sessions", None, r#"{"username":"many"}"#).repeat(200),
            1 => wire::request("POST", "/rooms", session, "").repeat(20),
            2 => wire::request("POST", &format!("/rooms/{id}/messages"), session, &say).repeat(30),
            3 => {
                let path = format!("/rooms/{id}/messages?limit=1000");
                world.stall(client);
                wire::request("GET", &path, session, "").repeat(3)
            }
            4 => {
                let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n";
                format!("{head}{:40000}", "").into_bytes()
            }
            5 => {
                let mut bytes = wire::upgrade(&id, session.unwrap_or_default(), "");
                bytes.extend(&world.frame(TEXT, &[b' '; 60_000])[..50_000]);
                bytes
            }
            6 => {
                world.stall(client);
                let mut bytes = wire::upgrade(&id, session.unwrap_or_default(), "");
                let chat = format!(r#"{{"type":"chat","message":"{long}"}}"#);
                for _ in 0..20 {
                    bytes.extend(world.frame(TEXT, chat.as_bytes()));
                }
                bytes
            }
            _ => Vec::new(),
        };
        world.send(client, &bytes);
        if world.dice.percent(30) {
            let gone = world.dice.below(world.clients.len());
            if !self.innocents.contains(&gone) {
                world.reset(gone);
            }
        }
    }

    /// Those whom it does not concern talk, and hear each other; and no more is kept than may be.
    fn talk(&mut self, round: usize) {
        for innocent in &self.innocents {
            self.world.chat(*innocent, &format!("round {round}"));
        }
        for _ in 0..20 {
            for client in 0..self.world.clients.len() {
                self.world.deliver(client, 20_000);
            }
            self.world.turn(true);
            self.facts.most = self.facts.most.max(self.world.ledger.total());
            for client in 0..self.world.clients.len() {
                if self.world.clients[client].reading {
                    self.world.listen(client, 20_000);
                }
            }
        }
        if round % 5 == 0 {
            self.world.settle(); // Compares what they saw.
            self.facts.most = self.facts.most.max(self.world.ledger.total());
        }
        for innocent in &self.innocents {
            assert!(self.world.clients[*innocent].is_well(), "client {innocent} has to suffer");
        }
        let time = self.world.dice.below(3000) as u64;
        self.world.pass(Duration::from_millis(time));
    }

    /// The strangers are gone; then there is room for everybody again, and all is as it was.
    fn relax(mut self) -> Facts {
        for client in 0..self.world.clients.len() {
            if !self.innocents.contains(&client) {
                self.world.reset(client);
            }
        }
        self.world.settle();
        for _ in 0..5 {
            self.world.pass(Config::default().new_room_ttl);
            self.world.settle();
        }
        let counters = self.world.core.counters();
        self.facts.forgotten = counters.forgotten;
        self.facts.shed = counters.shed;
        let host = self.world.people[0].session.clone();
        let path = format!("/rooms/{}/messages?limit=1000", self.world.rooms[0].id);
        self.world.get(&path, host.as_deref(), Ask::Messages(0));
        assert!(self.facts.most <= self.facts.ceiling, "{:?}", self.facts);
        self.world.end();
        self.facts.hash = self.world.hash;
        self.facts
    }
}
