//! Many users that come and go over days, and must leave nothing in the server.
//!
//! Owns the waves of users. Must not know where the server keeps its state. Sessions and rooms of
//! one wave still exist when the next one comes, so slots are reused in every order. The invariant:
//! the ledger counts capacities, so when its total is back at its first value, every structure that
//! has become empty has also given back its memory.

use std::time::Duration;

use disposable_chat::config::{Config, Rate};

use crate::pipe::{Network, RELIABLE, StreamState};
use crate::wire::{self, CLOSE};
use crate::world::{Check, Start, World};

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

/// Waves of up to `wave_max` sessions come and go, `sessions` in total. Returns the hash of all
/// bytes that the peers have received.
pub fn come_and_go(seed: u64, sessions: usize, wave_max: usize) -> u64 {
    let mut world = World::new(seed, &config(), RELIABLE);
    world.ticks_per_check = 50;
    let mut opened = 0;
    while opened < sessions {
        let fault_percent = *world.dice.pick(&[0, 0, 10]);
        world.network = Network { fault_percent, buffer_bytes: 16 * 1024 };
        let count = (1 + world.dice.below(wave_max)).min(sessions - opened);
        opened += count;
        wave(&mut world, count);
        let time = world.dice.below(20_000) as u64;
        world.pass_time(Duration::from_millis(time));
        world.core.check_invariants();
    }
    world.close_all();
    world.hash
}

/// Some users open rooms, some enter them and post; then all of them go in one of several ways.
fn wave(world: &mut World, count: usize) {
    let users = world.add_users(count);
    let rooms = 1 + count / 10;
    let openers: Vec<_> = users.clone().take(rooms).collect();
    world.open_rooms(&openers);
    for user in users.clone().filter(|user| user % 3 == 0) {
        let room = world.dice.below(rooms);
        let start = world.dice.pick(&[Start::Live, Start::Last(10)]).clone();
        let peer = world.enter_at(user, room, start);
        world.chat(peer, "here I am");
    }
    world.settle();
    let rest = world.connect_http();
    for peer in 0..world.peers.len() {
        if world.peers[peer].ws().is_none() || !world.peers[peer].is_healthy() {
            continue;
        }
        match world.dice.below(5) {
            0 => world.reset(peer),
            1 => {
                let close = world.frame(CLOSE, &1000u16.to_be_bytes());
                world.send_and_expect_close(peer, &close, 1000);
            }
            2 => {
                let user = world.peers[peer].ws().expect("a WebSocket").user;
                end_session(world, rest, user, peer);
            }
            3 => world.close(peer),
            _ => world.half_close(peer),
        }
    }
    world.settle();
    for user in users.filter(|user| user % 3 == 1) {
        let session = world.users[user].session.take();
        let request = wire::request("DELETE", "/sessions/me", session.as_deref(), "");
        world.request(rest, &request, Check::Status(&[200]));
    }
    world.settle();
    world.close(rest);
    world.settle();
    world.forget_peers();
}

fn end_session(world: &mut World, rest: usize, user: usize, peer: usize) {
    let session = world.users[user].session.take();
    let request = wire::request("DELETE", "/sessions/me", session.as_deref(), "");
    world.allow_close(user, None, 4401);
    let check = Check::Closes { user, room: None, code: 4401, at_least: vec![peer] };
    world.request(rest, &request, check);
}

/// Several times, `count` sessions with a room each exist at once and then expire. Returns the
/// totals of the ledger with all of them.
pub fn at_once(seed: u64, count: usize, waves: usize) -> Vec<usize> {
    let mut world = World::new(seed, &config(), RELIABLE);
    world.ticks_per_check = 1000;
    let start = world.ledger.total();
    let mut peaks = Vec::new();
    for _ in 0..waves {
        let users: Vec<_> = world.add_users(count).collect();
        world.open_rooms(&users);
        world.core.check_invariants();
        assert_eq!(world.core.chat().session_count(), count);
        assert_eq!(world.core.chat().room_count(), count);
        peaks.push(world.ledger.total());
        world.forget_peers();
        while world.core.next_deadline().is_some() {
            world.pass_time_to_deadline();
            world.settle();
        }
        assert_eq!(world.ledger.total(), start, "all memory is given back");
    }
    world.close_all();
    peaks
}

/// Hours in a room: its host is connected all the time, others come, post and go. Returns how many
/// pings the host has received.
pub fn day(seed: u64, hours: u64) -> usize {
    let day = Duration::from_secs(60 * 60 * hours);
    let config = Config { message_rate: Rate { per_second: 0, burst: 1 }, ..Config::default() };
    let mut world = World::new(seed, &config, RELIABLE);
    world.ticks_per_check = 100;
    let host = world.add_user("host");
    world.open_room(host, true);
    let host = world.peers.len() - 1;
    let first = world.now.mono;
    let mut guests = Vec::new();
    while world.now.mono.since(first) < day {
        if guests.len() < 5 && world.dice.percent(2) {
            let user = world.add_users(1).start;
            guests.push(world.enter(user, 0));
        }
        for place in (0..guests.len()).rev() {
            match world.dice.below(200) {
                0..2 => world.chat(guests[place], "still here"),
                2 => world.reset(guests.swap_remove(place)),
                3 => world.close(guests.swap_remove(place)),
                _ => {}
            }
        }
        let time = world.dice.below(40_000) as u64;
        match world.dice.percent(50) {
            true => world.pass_time(Duration::from_millis(time)),
            false => drop(world.pass_time_to_deadline()),
        }
    }
    world.settle();
    for peer in std::iter::once(host).chain(guests) {
        assert!(world.peers[peer].is_healthy(), "peer {peer} must not be closed");
        assert_eq!(world.peers[peer].stream, StreamState::Open);
    }
    let pings = world.peers[host].ws().expect("a WebSocket").pings_received;
    world.close_all();
    pings
}
