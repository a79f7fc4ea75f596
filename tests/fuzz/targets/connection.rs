//! A whole connection, from bytes to bytes: over the core as it is, with lines in memory. Whatever
//! three peers send, what they are sent makes sense, a bystander is not troubled, and when all
//! have gone nothing is left.
//!
//! An input's first byte chooses the network. Then come bytes that the first peer sends, but for
//! those that no UTF-8 text has: [`ACTS`] lists them.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use disposable_chat::config::Config;
use disposable_chat::http::{Codec, Fed, HttpLimits, Method};
use disposable_chat_fuzz::pipe::{RELIABLE, StreamState, Network};
use disposable_chat_fuzz::wire::{self, BINARY, CLOSE, PONG, TEXT};
use disposable_chat_fuzz::world::{LOOPBACK, World};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// What a byte stands for that isn't sent as it is.
const ACTS: std::ops::RangeInclusive<u8> = 0xF4..=0xFF;
/// The loop has a turn.
const TURN: u8 = 0xF4;
/// The next of three lines; the second comes from an address that limits apply to.
const NEXT_LINE: u8 = 0xF5;
const SECOND: u8 = 0xF6;
const MINUTE: u8 = 0xF7;
/// The peer ends its direction, both, or breaks the line.
const END: u8 = 0xF8;
const GONE: u8 = 0xF9;
const RESET: u8 = 0xFA;
/// From here to [`PRIVATE`]: ids, which depend on a seed and have no place in a corpus. Sessions of
/// ana and bob, then two of ana's rooms, the second private and with the password `sesame`.
const ANA: u8 = 0xFC;
const PRIVATE: u8 = 0xFF;

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fuzz_target!(|data: &[u8]| {
    let Some((&first, script)) = data.split_first() else { return };
    let network = match first & 3 {
        0 | 1 => RELIABLE,
        2 => Network { fault_percent: 0, buffer_bytes: 700 },
        _ => Network { fault_percent: 30, buffer_bytes: 4000 },
    };
    let heard = run(script, network, usize::MAX);
    let is_plain = |act: &u8| !ACTS.contains(act) || *act == TURN || *act >= ANA;
    // Pages of history are cut where a tick ends.
    let is_paged = [&b"history"[..], b"after"].iter().any(|word| contains(script, word));
    if first & 3 == 0 && script.iter().all(is_plain) && !is_paged {
        let length = 1 + usize::from(first >> 2) % 16;
        assert_eq!(run(script, network, length), heard, "in pieces of {length}");
    }
});

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}

/// Plays the script; with a turn at least so often. What the first peer and the bystander have
/// heard.
fn run(script: &[u8], network: Network, bytes_per_turn: usize) -> [Heard; 2] {
    let config = Config { history_messages_max: 20, ..Config::default() };
    let mut world = World::new(&config, network);
    let ids = furnish(&mut world, script.contains(&PRIVATE));
    let eve = world.connect(LOOPBACK);
    world.send(eve, &wire::upgrade(&ids[2], &ids[4], ""));
    world.settle();
    let first = world.connect(LOOPBACK);
    let (mut lines, mut line, mut sent) = (vec![first], first, vec![Vec::new(); 3]);
    let mut untold = 0;
    for &act in script {
        let own = line - first;
        match act {
            TURN => drop(world.turn()),
            NEXT_LINE if lines.len() < 3 => {
                lines.push(world.connect(if lines.len() == 1 { STRANGER } else { LOOPBACK }));
                line = first + lines.len() - 1;
            }
            NEXT_LINE => line = first + (own + 1) % 3,
            SECOND => {
                world.pass(Duration::from_secs(1));
                show_life(&mut world, eve);
            }
            MINUTE => {
                for _ in 0..6 {
                    world.pass(Duration::from_secs(10));
                    show_life(&mut world, eve);
                }
            }
            END | GONE => world.finish(line, act == GONE),
            RESET => world.reset(line),
            ANA..=PRIVATE => {
                let id = ids[usize::from(act - ANA)].as_bytes();
                world.send(line, id);
                sent[own].extend_from_slice(id);
            }
            _ => {
                world.send(line, &[act]);
                sent[own].push(act);
            }
        }
        untold += 1;
        if untold == bytes_per_turn {
            world.turn();
            untold = 0;
        }
    }
    world.settle();
    let heard = lines.iter().zip(&sent).map(|(line, sent)| {
        let line = &world.lines[*line];
        listen(&line.heard, sent, line.seen == StreamState::Reset)
    });
    let first_heard = heard.collect::<Vec<_>>().swap_remove(0);
    let eve_heard = bystander(&world, eve, &ids);
    world.end();
    [first_heard, eve_heard]
}

/// Sessions of ana, bob and eve, and ana's two rooms: ana, bob, room, private room, eve.
fn furnish(world: &mut World, has_private: bool) -> [String; 5] {
    let line = world.connect(LOOPBACK);
    let [ana, bob, eve] = ["ana", "bob", "eve"].map(|name| {
        let body = format!(r#"{{"username":"{name}"}}"#);
        let request = wire::request("POST", "/sessions", None, &body);
        field(&world.ask(line, &request).body, "session_id")
    });
    let mut room = |body| {
        let request = wire::request("POST", "/rooms", Some(&ana), body);
        field(&world.ask(line, &request).body, "room_id")
    };
    // Hashing a password takes longer than all the rest: only where one is asked for.
    let private = r#"{"title":"Ours","password":"sesame"}"#;
    let ids = [room(""), if has_private { room(private) } else { String::new() }];
    world.finish(line, true);
    world.settle();
    let [room, private] = ids;
    [ana, bob, room, private, eve]
}

fn field(body: &[u8], name: &str) -> String {
    let body: Value = serde_json::from_slice(body).expect("we send JSON");
    body[name].as_str().expect("it has the field").to_owned()
}

/// What a peer was told, without what depends on how its own bytes were cut: interim answers, and
/// where among texts the control frames come.
#[derive(PartialEq, Eq, Debug, Default)]
struct Heard {
    responses: Vec<(u16, Vec<u8>)>,
    texts: Vec<String>,
    controls: Vec<(u8, Vec<u8>)>,
}

/// Takes apart what a peer was sent: responses to what it has asked, and frames after an upgrade.
fn listen(heard: &[u8], sent: &[u8], is_torn: bool) -> Heard {
    let mut inbox = heard.to_vec();
    let mut methods = methods(sent).into_iter();
    let mut told = Heard::default();
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
        told.responses.push((response.status, response.body));
    }
    while let (true, Some((first, payload))) = (upgraded, wire::take_frame(&mut inbox)) {
        assert!(first != BINARY);
        match first {
            TEXT => told.texts.push(String::from_utf8(payload).expect("texts are UTF-8")),
            _ => told.controls.push((first, payload)),
        }
    }
    assert!(is_torn || inbox.is_empty() || told.responses.is_empty(), "half an answer");
    for text in &told.texts {
        let event: Value = serde_json::from_str(text).expect("texts are JSON");
        assert!(event["type"].is_string());
    }
    let closes = told.controls.iter().position(|(first, _)| *first == CLOSE);
    assert!(closes.is_none_or(|at| at + 1 == told.controls.len()), "something after a close");
    told
}

/// Of each request, whether it is a HEAD; the last one may be incomplete, and refused.
fn methods(mut sent: &[u8]) -> Vec<bool> {
    let limits = HttpLimits {
        head_bytes_max: 16 << 10,
        fields_max: 100,
        target_bytes_max: 8 << 10,
        body_bytes_max: 64 << 10,
    };
    let mut codec = Codec::new(limits);
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

/// Whoever only listens is there until the room is deleted, and hears each message once, in order.
fn bystander(world: &World, eve: usize, ids: &[String; 5]) -> Heard {
    let told = listen(&world.lines[eve].heard, &wire::upgrade(&ids[2], &ids[4], ""), false);
    assert_eq!(told.responses.first().map(|(status, _)| *status), Some(101));
    let closes: Vec<_> = told.controls.iter().filter(|(first, _)| *first == CLOSE).collect();
    match closes.as_slice() {
        [] => assert_eq!(world.lines[eve].seen, StreamState::Open),
        [(_, why)] => assert!(why.starts_with(&4410u16.to_be_bytes()), "{why:?}"),
        _ => panic!("closed twice"),
    }
    let mut last = String::new();
    for text in &told.texts {
        let event: Value = serde_json::from_str(text).expect("texts are JSON");
        if let Some(id) = event["id"].as_str() {
            assert!(id > last.as_str(), "{id} after {last}");
            last = id.to_owned();
        }
        assert_eq!(event["room_id"].as_str(), Some(ids[2].as_str()), "told of another room");
    }
    told
}

/// Shows the server that the bystander is alive.
fn show_life(world: &mut World, eve: usize) {
    if world.lines[eve].seen == StreamState::Open {
        world.send(eve, &wire::frame(PONG, b"", 0));
        world.settle();
    }
}
