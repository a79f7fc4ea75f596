//! Many peers that connect, talk, break the protocol and disconnect at the same time, over a
//! network with faults.
//!
//! Owns the choice of actions. Must not know what the server does with them: `world::checks`
//! compares what each peer receives. The invariant: an action of one peer may close that peer, and
//! must not affect the checks of another.

use std::time::Duration;

use serde_json::json;

use disposable_chat::config::{Config, Rate};

use crate::model::REST_PREFIX;
use crate::pipe::{Dice, Network, RELIABLE, StreamState};
use crate::wire::{self, BINARY, CLOSE, TEXT};
use crate::world::{Check, Protocol, Reply, Start, World};

/// Runs a seed to its end. Returns the hash of all bytes that the peers have received.
pub fn run(seed: u64) -> u64 {
    let mut world = world(seed);
    let dice = &mut world.dice;
    let (rooms, users, steps) = (1 + dice.below(3), 2 + dice.below(6), 60 + dice.below(200));
    for room in 0..rooms {
        let host = world.add_user(&format!("host {room}"));
        let watched = world.dice.percent(75);
        world.open_room(host, watched);
    }
    let hosts = world.users.len();
    for number in 0..users {
        add_user(&mut world, number);
    }
    for _ in 0..steps {
        for _ in 0..1 + world.dice.below(4) {
            act(&mut world, hosts);
        }
        for peer in world.active_peers() {
            if world.dice.percent(60) {
                let count = 1 + world.dice.below(400);
                world.deliver(peer, count);
            }
        }
        world.tick(false);
        for peer in world.active_peers() {
            if world.peers[peer].reading && world.dice.percent(60) {
                let count = 1 + world.dice.below(2000);
                world.receive(peer, count);
            }
        }
    }
    end(&mut world);
    world.hash
}

fn world(seed: u64) -> World {
    let mut dice = Dice::new(!seed);
    let mut config = Config::default();
    if dice.percent(50) {
        config.message_rate = Rate { per_second: 0, burst: 1 };
    }
    if dice.percent(50) {
        config.outbox_bytes_max = 64 * 1024;
    }
    if dice.percent(30) {
        config.leave_grace = Duration::ZERO;
    }
    let buffer_bytes = *dice.pick(&[150, 1000, 20_000, RELIABLE.buffer_bytes]);
    let network = Network { fault_percent: *dice.pick(&[0, 5, 30]), buffer_bytes };
    let mut world = World::new(seed, &config, network);
    // In some worlds requests are decided later, as if by another process.
    #[cfg(debug_assertions)]
    if dice.percent(30) {
        world.core.delay_outcomes(1 + dice.below(4) as u64);
    }
    world
}

/// Adds a user, in some cases with the name of the last one in capitals.
fn add_user(world: &mut World, number: usize) {
    let namesake = world.users.last().filter(|_| number > 0).map(|other| other.name.to_uppercase());
    match namesake.filter(|_| world.dice.percent(15)) {
        Some(name) if world.users.iter().all(|user| user.name != name) => world.add_user(&name),
        _ => {
            let name = format!("user {}", world.users.len());
            world.add_user(&name)
        }
    };
}

/// One action of one peer, or a step of the clock.
fn act(world: &mut World, hosts: usize) {
    world.settle_if_behind();
    let roll = world.dice.below(100);
    if roll < 10 {
        return enter(world, hosts);
    }
    if roll < 18 {
        return request(world, hosts);
    }
    if roll < 21 {
        return send_garbage(world);
    }
    if roll < 33 {
        return pass_time(world, hosts);
    }
    let count = world.peers.len();
    let peer = world.dice.below(count);
    if !world.peers[peer].reading && world.dice.percent(30) {
        world.peers[peer].reading = true; // It goes on reading, unless the server has closed it.
        return;
    }
    if !world.peers[peer].is_healthy() {
        return;
    }
    match &world.peers[peer].protocol {
        Protocol::Ws(ws) => {
            let host = ws.user < hosts;
            send_frames(world, peer, host);
        }
        Protocol::Http(_) if world.dice.percent(10) => disconnect(world, peer),
        Protocol::Http(_) | Protocol::Unchecked => {}
    }
}

fn enter(world: &mut World, hosts: usize) {
    let user = hosts + world.dice.below(world.users.len() - hosts);
    let open = world.peers.iter().filter(|peer| {
        let ws = peer.ws().filter(|ws| ws.user == user);
        ws.is_some() && peer.stream == StreamState::Open
    });
    if world.users[user].session.is_some() && open.count() < 5 {
        let room = world.dice.below(world.rooms.len());
        let start = start(world, room);
        world.enter_at(user, room, start);
    }
}

fn start(world: &mut World, room: usize) -> Start {
    let room = &world.rooms[room];
    match world.dice.below(10) {
        0..6 => Start::Live,
        6 => Start::Last(world.dice.below(20)),
        7 => Start::Last(1000),
        8 if !room.log.is_empty() => {
            let place = world.dice.below(room.log.len());
            Start::After(room.log.keys().nth(place).expect("the log is that long").clone())
        }
        _ => Start::After("nothing".to_owned()),
    }
}

fn send_frames(world: &mut World, peer: usize, host: bool) {
    match world.dice.below(if host { 70 } else { 100 }) {
        0..40 => {
            let mut piece = Vec::new();
            for _ in 0..1 + world.dice.below(4) {
                let text = text(&mut world.dice);
                let fragments = world.dice.percent(15);
                piece.extend(world.chat_frames(peer, &text, fragments));
            }
            world.send(peer, &piece);
        }
        40..50 => world.send_frame(peer, TEXT, br#"{"type":"typing"}"#),
        50..55 => {
            let ping = world.ping_frame(peer);
            world.send(peer, &ping);
        }
        55..60 => {
            let ws = world.peers[peer].ws_mut().expect("a WebSocket");
            ws.replies_due.push_back(Reply::Pong);
            world.send_frame(peer, TEXT, br#"{"type":"ping"}"#);
        }
        60..70 => {
            let long = format!(r#"{{"type":"chat","message":"{}"}}"#, "x".repeat(4001));
            let (json, code) = *world.dice.pick(&[
                ("{", "bad_json"),
                ("[]", "bad_json"),
                (r#"{"type":"dance"}"#, "bad_type"),
                (r#"{"type":"chat","message":1}"#, "bad_message"),
                (r#"{"type":"chat","message":" "}"#, "empty_message"),
                (&long, "too_long"),
            ]);
            world.send_invalid(peer, json, code);
        }
        70..78 => {
            let chat = text(&mut world.dice);
            world.chat(peer, &chat); // Often delivered together with the close.
            let close = world.frame(CLOSE, &1000u16.to_be_bytes());
            world.send_and_expect_close(peer, &close, 1000);
        }
        78..84 => violate(world, peer),
        84..90 => disconnect(world, peer),
        90..95 => world.stall(peer),
        _ => {
            let nonsense: Vec<u8> = (0..30).map(|_| world.dice.next() as u8).collect();
            world.peers[peer].must_be_served = false;
            world.send(peer, &nonsense);
        }
    }
}

fn text(dice: &mut Dice) -> String {
    let pieces = ["word ", "🦀", "\"quoted\"", "\n", "\u{7}", "é", "\\"];
    let count = if dice.percent(5) { dice.below(300) } else { dice.below(6) };
    (0..count).map(|_| *dice.pick(&pieces)).collect()
}

fn violate(world: &mut World, peer: usize) {
    if world.dice.percent(50) {
        world.chat(peer, "before the violation");
    }
    let (bytes, code) = match world.dice.below(6) {
        0 => (vec![TEXT, 2, b'h', b'i'], 1002),
        1 => (world.frame(BINARY, b"bits"), 1003),
        2 => (world.frame(TEXT, b"\xC3\x28"), 1007),
        3 => (world.frame(TEXT, &[b' '; 70_000])[..14].to_vec(), 1009),
        4 => (world.frame(0x83, b"reserved"), 1002),
        _ => (world.frame(0x09, b"half a ping"), 1002),
    };
    world.send_and_expect_close(peer, &bytes, code);
}

fn disconnect(world: &mut World, peer: usize) {
    match world.dice.below(3) {
        0 => world.reset(peer),
        1 => world.close(peer),
        _ => world.half_close(peer),
    }
}

/// One to four requests, on a connection that exists or on a new one.
fn request(world: &mut World, hosts: usize) {
    let ready = (0..world.peers.len()).find(|peer| {
        let peer = &world.peers[*peer];
        peer.is_healthy() && matches!(&peer.protocol, Protocol::Http(http) if !http.may_be_closed)
    });
    let peer = match ready.filter(|_| world.dice.percent(70)) {
        Some(peer) => peer,
        None => world.connect_http(),
    };
    for _ in 0..1 + world.dice.below(4) {
        let user = hosts + world.dice.below(world.users.len() - hosts);
        let room = world.dice.below(world.rooms.len());
        let id = world.rooms[room].id.clone();
        let found: &[u16] = if world.rooms[room].watched { &[200, 401] } else { &[200, 401, 404] };
        let session = world.users[user].session.clone();
        let session = session.as_deref();
        let roll = world.dice.below(100);
        if session.is_none() && roll < 60 {
            continue;
        }
        let (request, check) = match roll {
            0..25 => {
                let path = format!("/rooms/{id}/messages?limit=1000");
                (wire::request("GET", &path, session, ""), Check::Messages(room))
            }
            25..32 => {
                let text = format!("{REST_PREFIX}. {}", text(&mut world.dice));
                let nonce = world.dice.percent(50).then(|| format!("n{}", world.dice.below(5)));
                let body = json!({"message": text, "nonce": nonce.as_deref().unwrap_or("once")});
                let path = format!("/rooms/{id}/messages");
                let check = Check::Posted { user, room, text: text.trim().to_owned() };
                (wire::request("POST", &path, session, &body.to_string()), check)
            }
            32..40 => {
                let path = format!("/rooms/{id}/join");
                (wire::request("POST", &path, session, ""), Check::Status(found))
            }
            40..48 => {
                let at_least = admitted(world, user, Some(room));
                let path = format!("/rooms/{id}/leave");
                let check = Check::Closes { user, room: Some(room), code: 1000, at_least };
                (wire::request("DELETE", &path, session, ""), check)
            }
            48..51 => {
                let at_least = admitted(world, user, None);
                let request = wire::request("DELETE", "/sessions/me", session, "");
                world.users[user].session = None;
                (request, Check::Closes { user, room: None, code: 4401, at_least })
            }
            51..60 => {
                (wire::request("GET", "/sessions/me", session, ""), Check::Status(&[200, 401]))
            }
            60..70 => (wire::request("GET", "/nowhere", None, ""), Check::Status(&[404])),
            70..80 => (wire::request("HEAD", "/ping", None, ""), Check::Head(200)),
            80..90 => {
                let body = "x".repeat(world.dice.below(3000));
                (wire::request("POST", "/sessions", None, &body), Check::Status(&[422]))
            }
            90..92 => (wire::request("GET", "/rooms/all", None, ""), Check::Status(&[200])),
            92..93 => {
                (wire::request("GET", "/rooms/all?detail=true", None, ""), Check::Status(&[200]))
            }
            93..95 => {
                let path = format!("/rooms/{id}/users");
                (wire::request("GET", &path, session, ""), Check::Status(found))
            }
            95..98 => (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_vec(), Check::Status(&[400])),
            _ => {
                let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n";
                (head.as_bytes().to_vec(), Check::Status(&[413]))
            }
        };
        if let Check::Closes { user, room, code, .. } = &check {
            world.allow_close(*user, *room, *code);
        }
        let last = matches!(&check, Check::Status([400 | 413]));
        world.request(peer, &request, check);
        if last {
            // The server closes the connection after this response.
            world.peers[peer].http().may_be_closed = true;
            break;
        }
    }
}

/// The user's WebSockets, in one room or in all, that have received something.
fn admitted(world: &World, user: usize, room: Option<usize>) -> Vec<usize> {
    let peers = world.peers.iter().enumerate();
    let admitted = peers.filter(|(_, peer)| {
        peer.ws().is_some_and(|ws| {
            ws.user == user && room.is_none_or(|room| room == ws.room) && !ws.seen.is_empty()
        })
    });
    admitted.map(|(index, _)| index).collect()
}

/// A peer sends bytes that are no request, or only a part of one.
fn send_garbage(world: &mut World) {
    let peer = world.connect(Protocol::Unchecked, crate::world::LOOPBACK);
    let mut bytes = wire::request("POST", "/sessions", None, r#"{"username":"guest"}"#);
    match world.dice.below(4) {
        0 => bytes = (0..50).map(|_| world.dice.next() as u8).collect(),
        1 => bytes.truncate(world.dice.below(bytes.len())),
        2 => {
            let place = world.dice.below(bytes.len());
            bytes[place] = world.dice.next() as u8;
        }
        _ => {}
    }
    world.send(peer, &bytes);
    match world.dice.below(8) {
        0..3 => world.half_close(peer),
        3..6 => world.close(peer),
        6 => world.fail_poll(peer),
        _ => {}
    }
}

fn pass_time(world: &mut World, hosts: usize) {
    match world.dice.below(20) {
        0..10 => {
            let time = Duration::from_millis(world.dice.below(500) as u64);
            world.pass_time(time);
        }
        10..16 => drop(world.pass_time_to_deadline()),
        16 => world.pause_accepting(),
        17..19 => {
            let hours = 1 + world.dice.below(30) as u64;
            let forward = world.dice.percent(50);
            world.set_system_clock(Duration::from_secs(60 * 60 * hours), forward);
        }
        _ => {
            const DAY: Duration = Duration::from_secs(24 * 60 * 60 + 1);
            world.pass_time(DAY);
            for _ in 0..2 {
                add_user(world, 0);
            }
        }
    }
    if world.users[hosts..].iter().all(|user| user.session.is_none()) {
        add_user(world, 0);
    }
}

/// Resets the peers that are not healthy. Then the others must agree on who is present and on the
/// history.
fn end(world: &mut World) {
    world.settle();
    for peer in 0..world.peers.len() {
        if !world.peers[peer].is_healthy() {
            world.reset(peer);
            world.peers[peer].reading = true;
        }
    }
    world.settle();
    world.pass_time(Duration::from_millis(3100)); // Longer than the leave grace.
    world.settle();
    for room in 0..world.rooms.len() {
        if world.rooms[room].watched {
            check_presence(world, room);
        }
    }
    if world.dice.percent(50) {
        world.shut_down();
        world.settle();
        for (index, peer) in world.peers.iter().enumerate() {
            if let Some(ws) = peer.ws().filter(|_| peer.must_be_served && peer.reading) {
                assert!(ws.closed.is_some(), "peer {index} is not closed at shutdown");
            }
        }
    }
    world.close_all();
}

fn check_presence(world: &mut World, room: usize) {
    let mut open: Vec<_> = world.peers.iter().filter(|peer| peer.is_healthy()).collect();
    open.retain(|peer| peer.ws().is_some_and(|ws| ws.room == room && ws.upgraded));
    let names = open.iter().filter_map(|peer| peer.ws());
    let mut names: Vec<_> = names.map(|ws| world.users[ws.user].name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(world.rooms[room].names_present(), names, "users present");
    let path = format!("/rooms/{}", world.rooms[room].id);
    world.get(&path, None, Check::UserCount(names.len()));
    let host = world.users[room].session.clone();
    let response =
        world.get(&(path + "/messages?limit=1000"), host.as_deref(), Check::Messages(room));
    let log: Vec<_> = world.rooms[room].log.values().map(|message| &message.json[..]).collect();
    let tail = log[log.len().saturating_sub(1000)..].join(&b","[..]);
    let body = [&b"{\"messages\":["[..], &tail, b"]}"].concat();
    assert_eq!(response.body, body, "the history is the log");
}
