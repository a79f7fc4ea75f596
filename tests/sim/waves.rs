//! Crowds that come and go, and days that pass: nothing is left of them but the hash of what they
//! were told.
//!
//! Rooms and sessions of one wave are still there when the next comes, so slots are used again in
//! every order. What the ledger counts are capacities: where it is back at what it was, whatever
//! has emptied has given its memory back.

use std::time::Duration;

use disposable_chat::config::{Config, Rate};

use crate::pipe::{CALM, Seen, Weather};
use crate::wire::{self, CLOSE};
use crate::world::{Ask, Start, World};

fn config() -> Config {
    Config {
        message_rate: Rate { per_second: 0, burst: 1 },
        session_ttl: Duration::from_secs(60),
        room_ttl: Duration::from_secs(5),
        new_room_ttl: Duration::from_secs(8),
        sessions_max: 1_000_000,
        rooms_max: 1_000_000,
        memory_bytes_max: 1 << 40,
        ..Config::default()
    }
}

/// Sessions come in crowds of `crowd` and less, until there were `sessions`. Returns the hash.
pub fn come_and_go(seed: u64, sessions: usize, crowd: usize) -> u64 {
    let mut world = World::new(seed, &config(), CALM);
    world.turns_per_check = 50;
    let mut come = 0;
    while come < sessions {
        let faults = *world.dice.pick(&[0, 0, 10]);
        world.weather = Weather { faults, buffer_bytes: 16 * 1024 };
        let count = (1 + world.dice.below(crowd)).min(sessions - come);
        come += count;
        wave(&mut world, count);
        let time = world.dice.below(20_000) as u64;
        world.pass(Duration::from_millis(time));
        world.core.check_invariants();
    }
    world.end();
    world.hash
}

/// A crowd comes; some open rooms, some go into them and say something; all go, each their way.
fn wave(world: &mut World, count: usize) {
    let people = world.crowd(count);
    let rooms = 1 + count / 10;
    let openers: Vec<_> = people.clone().take(rooms).collect();
    world.open_rooms(&openers);
    for person in people.clone().filter(|person| person % 3 == 0) {
        let room = world.dice.below(rooms);
        let start = world.dice.pick(&[Start::Live, Start::Last(10)]).clone();
        let client = world.enter_at(person, room, start);
        world.chat(client, "here I am");
    }
    world.settle();
    let browser = world.connect_http();
    for client in 0..world.clients.len() {
        if world.clients[client].ws().is_none() || !world.clients[client].is_well() {
            continue;
        }
        match world.dice.below(5) {
            0 => world.reset(client),
            1 => {
                let close = world.frame(CLOSE, &1000u16.to_be_bytes());
                world.send_last(client, &close, 1000);
            }
            2 => {
                let person = world.clients[client].ws().expect("a socket").person;
                end_session(world, browser, person, client);
            }
            n => world.finish(client, n == 3),
        }
    }
    world.settle();
    for person in people.filter(|person| person % 3 == 1) {
        let session = world.people[person].session.take();
        let request = wire::request("DELETE", "/sessions/me", session.as_deref(), "");
        world.ask(browser, &request, Ask::Status(&[200]));
    }
    world.settle();
    world.finish(browser, true);
    world.settle();
    world.forget_clients();
}

fn end_session(world: &mut World, browser: usize, person: usize, client: usize) {
    let session = world.people[person].session.take();
    let request = wire::request("DELETE", "/sessions/me", session.as_deref(), "");
    world.expect_end(person, None, 4401);
    let ask = Ask::End { person, room: None, code: 4401, open: vec![client] };
    world.ask(browser, &request, ask);
}

/// So many sessions, each of which opens a room, are there at one time, time and again. Returns
/// what the ledger counted when all were there.
pub fn at_once(seed: u64, count: usize, waves: usize) -> Vec<usize> {
    let mut world = World::new(seed, &config(), CALM);
    world.turns_per_check = 1000;
    let start = world.ledger.total();
    let mut peaks = Vec::new();
    for _ in 0..waves {
        let people: Vec<_> = world.crowd(count).collect();
        world.open_rooms(&people);
        world.core.check_invariants();
        assert_eq!(world.core.chat().session_count(), count);
        assert_eq!(world.core.chat().room_count(), count);
        peaks.push(world.ledger.total());
        world.forget_clients();
        while world.core.next_deadline().is_some() {
            world.pass_to_deadline();
            world.settle();
        }
        assert_eq!(world.ledger.total(), start, "what it was");
    }
    world.end();
    peaks
}

/// A day in a room: its host listens all the time, others come, talk and go. Returns how often
/// the host was asked for a sign of life.
pub fn day(seed: u64, hours: u64) -> usize {
    let day = Duration::from_secs(60 * 60 * hours);
    let config = Config { message_rate: Rate { per_second: 0, burst: 1 }, ..Config::default() };
    let mut world = World::new(seed, &config, CALM);
    world.turns_per_check = 100;
    let host = world.person("host");
    world.room(host, true);
    let host = world.clients.len() - 1;
    let first = world.now.mono;
    let mut guests = Vec::new();
    while world.now.mono.since(first) < day {
        if guests.len() < 5 && world.dice.percent(2) {
            let person = world.crowd(1).start;
            guests.push(world.enter(person, 0));
        }
        for place in (0..guests.len()).rev() {
            match world.dice.below(200) {
                0..2 => world.chat(guests[place], "still here"),
                2 => world.reset(guests.swap_remove(place)),
                3 => world.finish(guests.swap_remove(place), true),
                _ => {}
            }
        }
        let time = world.dice.below(40_000) as u64;
        match world.dice.percent(50) {
            true => world.pass(Duration::from_millis(time)),
            false => drop(world.pass_to_deadline()),
        }
    }
    world.settle();
    for client in std::iter::once(host).chain(guests) {
        assert!(world.clients[client].is_well(), "client {client} was forgotten");
        assert_eq!(world.clients[client].line, Seen::Open);
    }
    let asked = world.clients[host].ws().expect("a socket").asked;
    world.end();
    asked
}
