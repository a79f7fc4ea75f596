//! The server does not run for a while, and finds that deadlines have passed and input has arrived.
//!
//! Owns these situations. Must not know how the server finds out what has arrived. The invariant: in
//! each of them more is to be read than one tick reads, so that a server that judges first is caught.

use std::time::Duration;

use disposable_chat::config::{Config, Rate};

use crate::pipe::{Network, RELIABLE};
use crate::scenarios::room_with_guests;
use crate::wire;
use crate::world::{Check, LOOPBACK, Protocol, World};

/// Longer than every timeout of `config`, one after the other.
const PAUSE: Duration = Duration::from_secs(600);

/// More than one tick reads.
const MANY: usize = 150;

fn config() -> Config {
    Config {
        message_rate: Rate { per_second: 0, burst: 1 },
        session_rate: Rate { per_second: 0, burst: 1 },
        session_ttl: Duration::from_secs(60),
        ..Config::default()
    }
}

/// A room that its host watches, with few checks, because some have many connections.
fn crowded_room(count: usize) -> (World, Vec<usize>) {
    let (mut world, guests) = room_with_guests(&config(), RELIABLE, count);
    world.ticks_per_check = 64;
    (world, guests)
}

/// Connections whose next request has reached the server and was not read.
fn queue_requests(world: &mut World, count: usize) {
    let peers: Vec<_> = (0..count).map(|_| world.connect(Protocol::Unchecked, LOOPBACK)).collect();
    for peer in peers {
        world.send(peer, &wire::request("GET", "/ping", None, ""));
        world.deliver(peer, usize::MAX);
    }
}

/// Regression: a quarter of the connections were dropped although their pongs had arrived.
// contract §6.12 §6.18
#[test]
fn a_pong_that_has_arrived_counts_however_late_it_is_read() {
    let (mut world, guests) = crowded_room(MANY);
    world.stall(guests[0]);
    world.advance_clocks(Duration::from_millis(20_050));
    let pinged = |world: &World| {
        let guests = guests[1..].iter().filter_map(|guest| world.peers[*guest].ws());
        guests.filter(|ws| ws.pings_received > 0).count()
    };
    while pinged(&world) < MANY - 1 {
        world.tick(true);
        world.receive_all(usize::MAX);
    }
    world.deliver_all(usize::MAX);
    world.advance_clocks(PAUSE);
    world.tick(false); // The poll reports only some of the edges at a time.
    world.settle();
    assert!(guests[1..].iter().all(|guest| world.peers[*guest].is_healthy()));
    assert!(world.peers[guests[0]].is_dropped(), "it has sent nothing");
    world.close_all();
}

/// A request whose bytes had arrived in time was answered with 408, or its connection closed.
// contract §4.7 §4.8 §4.9 §6.18
#[test]
fn a_request_that_has_arrived_counts_however_late_it_is_read() {
    let (mut world, _) = crowded_room(0);
    let request = wire::request("GET", "/ping", None, "");
    let with_body = wire::request("POST", "/sessions", None, r#"{"username":"late"}"#);
    let mut peers = Vec::new();
    for number in 0..MANY {
        let peer = world.connect_http();
        // In the order of the deadlines: of the next request, of a head, and of a body.
        let (request, begun, check) = match number % 3 {
            0 => (&request, request.len(), Check::Status(&[200])),
            1 => (&request, 5, Check::Status(&[200])),
            _ => (&with_body, with_body.len() - 3, Check::Status(&[201])),
        };
        if number % 3 == 0 {
            world.request(peer, request, Check::Status(&[200]));
        } else {
            world.send(peer, &request[..begun]);
        }
        peers.push((peer, &request[begun % request.len()..], check));
    }
    world.settle();
    for (peer, rest, check) in peers {
        world.request(peer, rest, check);
        world.deliver(peer, usize::MAX);
    }
    world.advance_clocks(PAUSE);
    world.settle(); // Fails if a peer does not receive its response.
    world.close_all();
}

/// A reader of a response that had made progress was cut.
// contract §4.9 §6.18
#[test]
fn progress_in_reading_a_response_counts_however_late_it_is_seen() {
    let network = Network { buffer_bytes: 64 * 1024, ..RELIABLE };
    let config = Config { room_ttl: 2 * PAUSE, ..config() };
    let mut world = World::new(1, &config, network);
    let host = world.add_user("host");
    let room = world.open_room(host, false);
    let author = world.enter(host, room);
    world.settle();
    for _ in 0..200 {
        world.chat(author, &"long ".repeat(400));
        world.settle_if_behind();
    }
    world.settle();
    let readers: Vec<_> = (0..3).map(|_| world.connect_http()).collect();
    let path = format!("/rooms/{}/messages?limit=1000", world.rooms[room].id);
    let request = wire::request("GET", &path, world.users[host].session.as_deref(), "");
    for reader in &readers {
        world.peers[*reader].reading = false;
        world.request(*reader, &request, Check::Messages(room));
        world.deliver(*reader, usize::MAX);
    }
    (0..10).for_each(|_| world.tick(true));
    world.settle_and_close(author);
    for reader in &readers {
        world.receive(*reader, usize::MAX);
    }
    // Longer than the idle timeout, and than the slowest reader of it all may take.
    world.advance_clocks(PAUSE);
    (0..3).for_each(|_| world.tick(false));
    readers.iter().for_each(|reader| world.peers[*reader].reading = true);
    world.settle();
    for reader in readers {
        assert_eq!(world.peers[reader].http().responses.len(), 1);
    }
    world.close_all();
}

/// The holder of a name has answered the probe, and was dropped for its namesake.
// contract §3.5 §6.18
#[test]
fn an_answer_to_a_probe_counts_however_late_it_is_read() {
    let (mut world, guests) = crowded_room(MANY);
    let (one, other) = (world.add_user("namesake"), world.add_user("NAMESAKE"));
    let holder = world.enter(one, 0);
    world.settle();
    let waiting = world.enter(other, 0);
    world.deliver(waiting, usize::MAX);
    world.tick(true);
    world.receive(holder, usize::MAX);
    for guest in guests {
        let ping = world.ping_frame(guest);
        world.send(guest, &ping);
    }
    world.deliver_all(usize::MAX);
    world.advance_clocks(PAUSE);
    world.settle();
    assert!(world.peers[holder].is_healthy());
    let closed = world.peers[waiting].ws().and_then(|ws| ws.closed.as_ref());
    assert_eq!(closed.map(|(code, _)| *code), Some(4409));
    world.close_all();
}

/// A user that was back, a session that was used and a room that was entered had ended.
// contract §3.10 §3.11 §6.11 §6.18
#[test]
fn a_return_within_its_time_counts_however_late_it_is_read() {
    let (mut world, guests) = crowded_room(2);
    let quiet = world.open_room(1, false);
    let visit = world.enter(1, quiet);
    world.settle();
    world.reset(guests[1]);
    world.half_close(guests[0]);
    world.half_close(visit);
    world.settle();
    let (before, page) = (world.rooms[0].log.len(), world.connect_http());
    queue_requests(&mut world, MANY);
    // The first guest is back in the empty room and in the other. The second has no connection any
    // more, and asks for its session.
    let back = [world.enter(1, 0), world.enter(1, quiet)];
    let request = wire::request("GET", "/sessions/me", world.users[2].session.as_deref(), "");
    world.request(page, &request, Check::Status(&[200]));
    world.deliver_all(usize::MAX);
    world.advance_clocks(PAUSE);
    world.tick(false);
    world.settle();
    assert!(back.iter().all(|peer| world.peers[*peer].is_healthy()));
    assert_eq!(world.rooms[0].log.len(), before + 1, "only the second guest has left");
    assert_eq!(world.rooms[0].names_present(), ["guest 1", "host"]);
    world.close_all();
}

/// Peers that send without a pause cannot keep the domain's timers from firing.
#[test]
fn what_arrives_after_a_pause_delays_timers_for_a_bounded_number_of_ticks() {
    let (mut world, guests) = crowded_room(1);
    world.half_close(guests[0]);
    world.settle();
    let peer = world.connect(Protocol::Unchecked, LOOPBACK);
    let requests = wire::request("GET", "/ping", None, "");
    world.advance_clocks(PAUSE);
    let mut ticks = 0;
    while world.core.chat().session_count() == 2 {
        world.send(peer, &requests);
        world.deliver_all(usize::MAX);
        world.tick(true);
        world.receive_all(usize::MAX);
        ticks += 1;
        assert!(ticks < 1100);
    }
    assert!(ticks > 1000, "{ticks} ticks");
    world.settle();
    world.close_all();
}
