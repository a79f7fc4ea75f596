//! Crowds: rooms of more than a thousand connections, and what they cause at once.
//!
//! Owns the bounds on what one tick does for them, in the steps that the core counts in debug
//! builds. Must not measure time. The invariant: a bound is below what the whole crowd takes at
//! once, unless a batch has to visit all of it.
#![cfg(debug_assertions)]

use std::time::Duration;

use disposable_chat::config::{Config, Rate};
use disposable_chat::server::Purpose;

use crate::pipe::{Network, RELIABLE};
use crate::wire::{self, CLOSE};
use crate::world::{Check, HttpPeer, LOOPBACK, Protocol, World};

/// Sessions, each with as many connections as it may have. Some of those that count are checked.
const SESSIONS: usize = 28;
const CONNECTIONS: usize = 20 * SESSIONS;

/// What a tick may do beside visits to all members.
const STEPS_MAX: usize = 650;

struct Crowd {
    world: World,
    /// Peers that only read, in the order of their sessions.
    peers: Vec<usize>,
    /// Peers whose every byte is checked.
    guests: Vec<usize>,
    host: usize,
}

impl Crowd {
    /// A host's room with a crowd in it. Outboxes and the buffers of the kernel are small.
    fn new(guests: usize) -> Crowd {
        Crowd::with_options(guests, "")
    }

    /// `body`: the request for the room.
    fn with_options(guests: usize, body: &str) -> Crowd {
        let rate = Rate { per_second: 0, burst: 1 };
        let config = Config {
            message_rate: rate,
            session_rate: rate,
            outbox_bytes_max: 64 * 1024,
            ping_interval: Duration::from_secs(3600),
            ..Config::default()
        };
        let mut world = World::new(1, &config, Network { buffer_bytes: 20_000, ..RELIABLE });
        world.ticks_per_check = 64;
        let host = world.add_user("host");
        let room = world.open_room_with(host, body);
        let mut peers = Vec::new();
        for user in world.add_users(SESSIONS) {
            for _ in 0..20 {
                peers.push(enter(&mut world, user, room, ""));
            }
            world.settle();
        }
        let guests = world.add_users(guests).map(|user| world.enter(user, room)).collect();
        world.settle();
        world.steps_max = 0;
        Crowd { world, peers, guests, host }
    }

    /// Lets everything happen, and returns the most steps of a tick.
    fn settle(&mut self) -> usize {
        self.world.settle();
        std::mem::take(&mut self.world.steps_max)
    }
}

/// Connects a peer that only reads.
fn enter(world: &mut World, user: usize, room: usize, query: &str) -> usize {
    let session = world.users[user].session.clone().unwrap() + query;
    let upgrade = wire::upgrade(&world.rooms[room].id, &session, "");
    let peer = world.connect(Protocol::Unchecked, LOOPBACK);
    world.send(peer, &upgrade);
    peer
}

#[test]
fn posts_by_rest_to_a_crowd_wait_for_its_output_and_overflow_no_outbox() {
    let mut crowd = Crowd::new(3);
    let world = &mut crowd.world;
    let path = format!("/rooms/{}/messages", world.rooms[0].id);
    for number in 0..120 {
        let session = world.users[1 + number % SESSIONS].session.clone();
        let body = format!(r#"{{"message":"{number} {}"}}"#, "long ".repeat(150));
        let peer = world.connect_http();
        let request = wire::request("POST", &path, session.as_deref(), &body);
        world.request(peer, &request, Check::Status(&[201]));
    }
    let steps = crowd.settle();
    assert!(steps <= 2 * CONNECTIONS + STEPS_MAX, "{steps} steps in a tick");
    let seen = crowd.world.peers[crowd.guests[0]].ws().unwrap().seen.len();
    assert!(seen >= 120, "{seen} messages have arrived");
    assert_eq!(crowd.world.core.counters().too_slow, 0);
}

#[test]
fn newcomers_to_a_crowd_do_not_seal_its_batch_one_by_one() {
    let mut crowd = Crowd::new(3);
    let world = &mut crowd.world;
    for user in world.add_users(100) {
        enter(world, user, 0, "&history=20");
    }
    world.steps_max = 0;
    let steps = crowd.settle();
    assert!(steps <= 2 * CONNECTIONS + STEPS_MAX, "{steps} steps in a tick");
}

#[test]
fn many_of_a_crowd_that_closes_or_breaks_at_once_leaves_over_several_ticks() {
    for closes in [true, false] {
        let mut crowd = Crowd::new(0);
        let Crowd { world, peers, .. } = &mut crowd;
        for peer in &peers[..200] {
            match closes {
                true => world.send_frame(*peer, CLOSE, &1000u16.to_be_bytes()),
                false => world.reset(*peer),
            }
        }
        let steps = crowd.settle();
        assert!(steps <= 2 * CONNECTIONS + STEPS_MAX, "{steps} steps in a tick");
        crowd.world.pass_time(Duration::from_secs(4));
        let steps = crowd.settle();
        assert!(steps <= 2 * CONNECTIONS + STEPS_MAX, "{steps} steps in a tick");
        let path = format!("/rooms/{}", crowd.world.rooms[0].id);
        let room = crowd.world.get(&path, None, Check::Status(&[200]));
        let present = format!("\"user_count\":{}", SESSIONS - 10);
        assert!(String::from_utf8(room.body).unwrap().contains(&present));
    }
}

#[test]
fn a_crowd_is_told_of_the_end_of_its_room_over_several_ticks_and_of_nothing_else() {
    let mut crowd = Crowd::new(3);
    let world = &mut crowd.world;
    let id = world.rooms[0].id.clone();
    // It is published in the tick in which the room is deleted.
    world.chat(crowd.guests[0], &"long ".repeat(600));
    for guest in &crowd.guests {
        let ws = world.peers[*guest].ws_mut().unwrap();
        ws.closes_possible.insert(4410);
        ws.replies_due.clear();
    }
    let session = world.users[crowd.host].session.clone();
    let owner = world.connect_http();
    let delete = wire::request("DELETE", &format!("/rooms/{id}"), session.as_deref(), "");
    world.request(owner, &delete, Check::Status(&[200]));
    let room = wire::request("GET", &format!("/rooms/{id}"), None, "");
    world.request(owner, &room, Check::Status(&[404]));
    world.steps_max = 0;
    while world.core.chat().room_count() > 0 {
        world.deliver_all(usize::MAX);
        world.tick(true);
        world.receive_all(usize::MAX);
    }
    let before = (world.bytes_read, world.core.connection_count());
    assert!(world.core.chat().member_count() > 0, "it takes more than one tick");
    let steps = crowd.settle();
    assert!(steps <= STEPS_MAX, "{steps} steps in a tick");
    let world = &mut crowd.world;
    // A close frame with its reason, for each.
    let bytes = world.bytes_read - before.0;
    assert!(bytes < 20 * CONNECTIONS as u64, "{bytes} bytes after the end of the room");
    for guest in &crowd.guests {
        assert_eq!(world.peers[*guest].ws().unwrap().closed.as_ref().unwrap().0, 4410);
    }
    assert_eq!(world.core.chat().member_count(), 0);
    assert_eq!(world.core.counters().closed.iter().sum::<u64>(), CONNECTIONS as u64 + 3);
    world.close_all();
}

// contract §13.3
#[test]
fn changes_of_a_room_reach_its_crowd_like_messages() {
    const COUNT: usize = 120;
    let mut crowd = Crowd::new(3);
    let world = &mut crowd.world;
    let path = format!("/rooms/{}", world.rooms[0].id);
    let session = world.users[crowd.host].session.clone();
    for number in 0..COUNT {
        let body = format!(r#"{{"locked":{}}}"#, number % 2 == 0);
        let peer = world.connect_http();
        let request = wire::request("PATCH", &path, session.as_deref(), &body);
        world.request(peer, &request, Check::Status(&[200]));
    }
    let before = world.bytes_read;
    let steps = crowd.settle();
    assert!(steps <= 2 * CONNECTIONS + STEPS_MAX, "{steps} steps in a tick");
    for guest in &crowd.guests {
        let ws = crowd.world.peers[*guest].ws().unwrap();
        assert_eq!((ws.changes, &ws.room_shown["locked"]), (COUNT, &false.into()));
    }
    assert_eq!(crowd.world.core.counters().too_slow, 0);
    let bytes = crowd.world.bytes_read - before;
    assert!(bytes > (COUNT * CONNECTIONS * 250) as u64, "{bytes} bytes");
    crowd.world.close_all();
}

// contract §10.15
#[test]
fn a_crowd_is_told_over_several_ticks_that_its_room_has_expired() {
    let mut crowd = Crowd::with_options(3, r#"{"ttl":60}"#);
    let world = &mut crowd.world;
    for guest in &crowd.guests {
        world.peers[*guest].ws_mut().unwrap().closes_possible.insert(4410);
    }
    world.advance_clocks(Duration::from_micros(59_999_999));
    world.tick(true);
    assert_eq!(world.core.chat().room_count(), 1);
    world.advance_clocks(Duration::from_micros(1));
    world.steps_max = 0;
    while world.core.chat().room_count() > 0 {
        world.tick(true);
    }
    assert!(world.core.chat().member_count() > 0, "it takes more than one tick");
    let steps = crowd.settle();
    assert!(steps <= STEPS_MAX, "{steps} steps in a tick");
    let world = &mut crowd.world;
    for guest in &crowd.guests {
        let closed = world.peers[*guest].ws().unwrap().closed.clone();
        assert_eq!(closed, Some((4410, "room expired".to_owned())));
    }
    assert_eq!(world.core.chat().member_count(), 0);
    assert_eq!(world.core.counters().closed.iter().sum::<u64>(), CONNECTIONS as u64 + 3);
    world.close_all();
}

#[test]
fn a_room_that_expires_with_many_members_gives_them_up_over_several_ticks() {
    let mut world = World::new(1, &Config::default(), RELIABLE);
    world.ticks_per_check = 64;
    let host = world.add_user("host");
    world.open_rooms(&[host]);
    let path = format!("/rooms/{}/join", world.rooms[0].id);
    let peer = world.connect_http();
    for user in world.add_users(300) {
        let request = wire::request("POST", &path, world.users[user].session.as_deref(), "");
        world.request(peer, &request, Check::Status(&[200]));
    }
    world.settle_and_close(peer);
    assert_eq!(world.core.chat().member_count(), 301);
    world.steps_max = 0;
    world.advance_clocks(Duration::from_secs(601));
    while world.core.chat().room_count() > 0 {
        world.tick(true);
    }
    assert!(world.core.chat().member_count() > 0);
    world.settle();
    assert_eq!(world.core.chat().member_count(), 0);
    let steps = world.steps_max;
    assert!(steps < 200, "{steps} steps in a tick");
    world.close_all();
}

#[test]
fn lists_of_many_users_are_made_over_several_ticks() {
    const USERS: usize = 300;
    let mut world = World::new(1, &Config::default(), RELIABLE);
    world.ticks_per_check = 64;
    let host = world.add_user("host");
    let room = world.open_room(host, false);
    for user in world.add_users(USERS) {
        enter(&mut world, user, room, "");
    }
    world.settle();
    world.steps_max = 0;
    let path = format!("/rooms/{}/users", world.rooms[0].id);
    for user in 1..=40 {
        let peer = world.connect_http();
        let request = wire::request("GET", &path, world.users[user].session.as_deref(), "");
        world.request(peer, &request, Check::Status(&[200]));
    }
    world.settle();
    let steps = world.steps_max;
    assert!(steps < 5 * USERS, "{steps} steps in a tick");
    world.close_all();
}

#[test]
fn a_crowd_is_told_of_the_end_of_the_server_over_several_ticks() {
    let mut crowd = Crowd::new(3);
    let before = crowd.world.bytes_read;
    crowd.world.shut_down();
    // Members that are closed later are not told that others have left, nor sent this message.
    crowd.world.send_frame(crowd.peers[7], 0x81, br#"{"type":"chat","message":"too late"}"#);
    let steps = crowd.settle();
    assert!(steps <= STEPS_MAX, "{steps} steps in a tick");
    let bytes = crowd.world.bytes_read - before;
    assert!(bytes < 30 * CONNECTIONS as u64, "{bytes} bytes after the end");
    assert_eq!(crowd.world.core.counters().closed.iter().sum::<u64>(), CONNECTIONS as u64 + 3);
    crowd.world.close_all();
}

#[test]
fn announcements_reach_a_crowd_over_several_ticks_and_everyone() {
    const COUNT: usize = 16;
    let mut crowd = Crowd::new(0);
    let world = &mut crowd.world;
    let admin = world.connect_to(Purpose::Admin, Protocol::Http(HttpPeer::default()), LOOPBACK);
    let body = format!(r#"{{"message":"{}"}}"#, "x".repeat(100));
    let request = format!(
        "POST /announcements HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..COUNT {
        world.request(admin, request.as_bytes(), Check::Status(&[200]));
    }
    // No more are on their way at a time.
    world.request(admin, request.as_bytes(), Check::Status(&[429]));
    let before = world.bytes_read;
    let steps = crowd.settle();
    assert!(steps <= CONNECTIONS / 2, "{steps} steps in a tick");
    let frame = r#"{"type":"announcement","message":"","timestamp":"2025-08-19T13:45:00.123456Z"}"#;
    let least = (COUNT * (frame.len() + 100 + 4) * CONNECTIONS) as u64;
    let bytes = crowd.world.bytes_read - before;
    assert!((least..least + 20_000).contains(&bytes), "{bytes} bytes instead of {least}");
    crowd.world.close_all();
}

#[test]
fn the_list_of_many_rooms_is_made_over_several_ticks() {
    const ROOMS: usize = 1000;
    let rate = Rate { per_second: 0, burst: 1 };
    let config = Config { room_rate: rate, session_rate: rate, ..Config::default() };
    let mut world = World::new(1, &config, RELIABLE);
    world.ticks_per_check = 64;
    let hosts: Vec<usize> =
        (0..ROOMS / 100).map(|n| world.add_user(&format!("host {n}"))).collect();
    for _ in 0..100 {
        world.open_rooms(&hosts);
    }
    world.settle();
    let admin = world.connect_to(Purpose::Admin, Protocol::Unchecked, LOOPBACK);
    world.send(admin, b"GET /rooms HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let before = world.bytes_read;
    world.deliver_all(usize::MAX);
    world.tick(true);
    world.receive_all(usize::MAX);
    let first = world.bytes_read - before;
    assert!((1000..70_000).contains(&first), "{first} bytes in the first tick");
    world.settle();
    let all = world.bytes_read - before;
    assert!(all > 2 * first && all > 100 * ROOMS as u64, "{all} bytes");
    world.close_all();
}
