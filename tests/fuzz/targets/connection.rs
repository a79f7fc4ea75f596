//! The server's core with three peers that send any bytes. What they receive is valid HTTP and
//! WebSocket, a bystander in the room is not affected, and nothing is left in the end.
//!
//! Owns the meaning of an input, and the checks of what each peer receives. Must not know the core
//! beyond its public methods. The first byte of an input selects the network. The first peer sends
//! each byte after it, except for those in [`ACTIONS`], which occur in no UTF-8 text.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::time::Duration;

use disposable_chat::config::Config;
use disposable_chat::http::{Codec, Fed, Method};
use disposable_chat_fuzz::LIMITS;
use disposable_chat_fuzz::pipe::{Network, RELIABLE, StreamState};
use disposable_chat_fuzz::wire::{self, BINARY, CLOSE, PONG, TEXT};
use disposable_chat_fuzz::world::{LOOPBACK, World};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Bytes that are not sent. Each of them stands for an action.
const ACTIONS: std::ops::RangeInclusive<u8> = 0xF4..=0xFF;
/// One tick of the loop.
const TICK: u8 = 0xF4;
/// Selects the next of three peers. The second one has an address that limits apply to.
const NEXT_PEER: u8 = 0xF5;
/// A second or a minute passes.
const SECOND: u8 = 0xF6;
const MINUTE: u8 = 0xF7;
/// The peer shuts down its direction, closes both directions, or resets the connection.
const HALF_CLOSE: u8 = 0xF8;
const CLOSE_BOTH: u8 = 0xF9;
const RESET: u8 = 0xFA;
/// From here to [`PRIVATE`]: the peer sends an id, which depends on the seed and so cannot stand in
/// a corpus. They are the sessions of ana and bob, and two rooms of ana's; the second room is
/// private and has the password `sesame`.
const ANA: u8 = 0xFC;
const PRIVATE: u8 = 0xFF;

const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fuzz_target!(|data: &[u8]| {
    let Some((&first, script)) = data.split_first() else { return };
    let network = match first & 3 {
        0 | 1 => RELIABLE,
        2 => Network { fault_percent: 0, buffer_bytes: 700 },
        _ => Network { fault_percent: 30, buffer_bytes: 4000 },
    };
    let received = run(script, network, usize::MAX);
    let is_plain = |action: &u8| !ACTIONS.contains(action) || *action == TICK || *action >= ANA;
    // Pages of history end where a tick ends, so they depend on the pieces.
    let is_paged = [&b"history"[..], b"after"].iter().any(|word| contains(script, word));
    if first & 3 == 0 && script.iter().all(is_plain) && !is_paged {
        let length = 1 + usize::from(first >> 2) % 16;
        assert_eq!(
            run(script, network, length),
            received,
            "the result depends on the pieces, of {length} bytes"
        );
    }
});

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}

/// Plays the script, with a tick after at most `bytes_per_tick` bytes. Returns what the first peer
/// and the bystander have received.
fn run(script: &[u8], network: Network, bytes_per_tick: usize) -> [Received; 2] {
    let config = Config { history_messages_max: 20, ..Config::default() };
    let mut world = World::new(&config, network);
    let ids = open_rooms(&mut world, script.contains(&PRIVATE));
    let eve = world.connect(LOOPBACK);
    world.send(eve, &wire::upgrade(&ids[2], &ids[4], ""));
    world.settle();
    let first = world.connect(LOOPBACK);
    let (mut peers, mut peer, mut sent) = (vec![first], first, vec![Vec::new(); 3]);
    let mut since_tick = 0;
    for &action in script {
        let own = peer - first;
        match action {
            TICK => drop(world.tick()),
            NEXT_PEER if peers.len() < 3 => {
                peers.push(world.connect(if peers.len() == 1 { REMOTE } else { LOOPBACK }));
                peer = first + peers.len() - 1;
            }
            NEXT_PEER => peer = first + (own + 1) % 3,
            SECOND => {
                world.pass_time(Duration::from_secs(1));
                send_pong(&mut world, eve);
            }
            MINUTE => {
                for _ in 0..6 {
                    world.pass_time(Duration::from_secs(10));
                    send_pong(&mut world, eve);
                }
            }
            HALF_CLOSE => world.shut_down(peer, Shutdown::Write),
            CLOSE_BOTH => world.shut_down(peer, Shutdown::Both),
            RESET => world.reset(peer),
            ANA..=PRIVATE => {
                let id = ids[usize::from(action - ANA)].as_bytes();
                world.send(peer, id);
                sent[own].extend_from_slice(id);
            }
            _ => {
                world.send(peer, &[action]);
                sent[own].push(action);
            }
        }
        since_tick += 1;
        if since_tick == bytes_per_tick {
            world.tick();
            since_tick = 0;
        }
    }
    world.settle();
    let received = peers.iter().zip(&sent).map(|(peer, sent)| {
        let peer = &world.peers[*peer];
        parse(&peer.received, sent, peer.stream == StreamState::Reset)
    });
    let first_received = received.collect::<Vec<_>>().swap_remove(0);
    let eve_received = bystander(&world, eve, &ids);
    world.close_all();
    [first_received, eve_received]
}

/// Opens sessions and ana's rooms. Returns the ids of ana, bob, the room, the private room, and
/// eve.
fn open_rooms(world: &mut World, has_private: bool) -> [String; 5] {
    let peer = world.connect(LOOPBACK);
    let [ana, bob, eve] = ["ana", "bob", "eve"].map(|name| {
        let body = format!(r#"{{"username":"{name}"}}"#);
        let request = wire::request("POST", "/sessions", None, &body);
        field(&world.request(peer, &request).body, "session_id")
    });
    let mut room = |body| {
        let request = wire::request("POST", "/rooms", Some(&ana), body);
        field(&world.request(peer, &request).body, "room_id")
    };
    // Hashing a password takes longer than everything else, so only scripts that use it do so.
    let private = r#"{"title":"Ours","password":"sesame"}"#;
    let ids = [room(""), if has_private { room(private) } else { String::new() }];
    world.shut_down(peer, Shutdown::Both);
    world.settle();
    let [room, private] = ids;
    [ana, bob, room, private, eve]
}

fn field(body: &[u8], name: &str) -> String {
    let body: Value = serde_json::from_slice(body).expect("a response is JSON");
    body[name].as_str().expect("a field of that name").to_owned()
}

/// What a peer has received, without the two things that depend on how its own bytes are cut into
/// pieces: interim responses, and the places of control frames between texts.
#[derive(PartialEq, Eq, Debug, Default)]
struct Received {
    responses: Vec<(u16, Vec<u8>)>,
    texts: Vec<String>,
    controls: Vec<(u8, Vec<u8>)>,
}

/// Parses what a peer has received: responses to its requests, and frames after an upgrade.
fn parse(received: &[u8], sent: &[u8], is_reset: bool) -> Received {
    let mut inbox = received.to_vec();
    let mut methods = methods(sent).into_iter();
    let mut parsed = Received::default();
    let mut upgraded = false;
    while !upgraded {
        let head = inbox.starts_with(b"HTTP/1.1 1") || methods.as_slice().first() == Some(&true);
        let Some(response) = wire::take_response(&mut inbox, head) else { break };
        if response.status == 100 {
            continue;
        }
        let _ = methods.next();
        upgraded = response.status == 101;
        if response.status >= 400 && !head {
            let body: Value = serde_json::from_slice(&response.body).expect("errors are JSON");
            assert!(body["detail"].is_string() && body["code"].is_string());
        }
        parsed.responses.push((response.status, response.body));
    }
    while let (true, Some((first, payload))) = (upgraded, wire::take_frame(&mut inbox)) {
        assert!(first != BINARY);
        match first {
            TEXT => parsed.texts.push(String::from_utf8(payload).expect("texts are UTF-8")),
            _ => parsed.controls.push((first, payload)),
        }
    }
    assert!(is_reset || inbox.is_empty() || parsed.responses.is_empty(), "half a response");
    for text in &parsed.texts {
        let event: Value = serde_json::from_str(text).expect("texts are JSON");
        assert!(event["type"].is_string());
    }
    let closes = parsed.controls.iter().position(|(first, _)| *first == CLOSE);
    assert!(closes.is_none_or(|at| at + 1 == parsed.controls.len()), "a frame after a close");
    parsed
}

/// Whether each of the requests is a HEAD. The last one may be incomplete and refused.
fn methods(mut sent: &[u8]) -> Vec<bool> {
    let mut codec = Codec::new(LIMITS);
    let mut methods = Vec::new();
    loop {
        match codec.feed(&mut sent) {
            Ok(Fed::Request(request)) => methods.push(request.method() == Method::Head),
            Ok(Fed::Continue) => {}
            Ok(Fed::Partial) | Err(_) => {
                methods.extend(codec.request().map(|request| request.method() == Method::Head));
                return methods;
            }
        }
    }
}

/// The bystander only reads. It is connected until the room is deleted, and receives each message
/// once and in order.
fn bystander(world: &World, eve: usize, ids: &[String; 5]) -> Received {
    let parsed = parse(&world.peers[eve].received, &wire::upgrade(&ids[2], &ids[4], ""), false);
    assert_eq!(parsed.responses.first().map(|(status, _)| *status), Some(101));
    let closes: Vec<_> = parsed.controls.iter().filter(|(first, _)| *first == CLOSE).collect();
    match closes.as_slice() {
        [] => assert_eq!(world.peers[eve].stream, StreamState::Open),
        [(_, reason)] => assert!(reason.starts_with(&4410u16.to_be_bytes()), "{reason:?}"),
        _ => panic!("two closes"),
    }
    let mut last = String::new();
    for text in &parsed.texts {
        let event: Value = serde_json::from_str(text).expect("texts are JSON");
        if let Some(id) = event["id"].as_str() {
            assert!(id > last.as_str(), "{id} after {last}");
            last = id.to_owned();
        }
        assert_eq!(event["room_id"].as_str(), Some(ids[2].as_str()), "an event of another room");
    }
    parsed
}

/// The bystander sends a pong, so that the server does not drop it as dead.
fn send_pong(world: &mut World, eve: usize) {
    if world.peers[eve].stream == StreamState::Open {
        world.send(eve, &wire::frame(PONG, b"", 0));
        world.settle();
    }
}
