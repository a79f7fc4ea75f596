//! A seed's story: people who come, talk, misbehave and go, over a network that does likewise.

use std::time::Duration;

use serde_json::json;

use disposable_chat::config::{Config, Rate};

use crate::model::FROM_OUTSIDE;
use crate::pipe::{CALM, Dice, Seen, Weather};
use crate::wire::{self, BINARY, CLOSE, TEXT};
use crate::world::{Ask, Owed, Start, Talk, World};

/// Runs a seed to its end and returns the hash of all that peers were sent.
pub fn run(seed: u64) -> u64 {
    let mut world = world(seed);
    let dice = &mut world.dice;
    let (rooms, people, steps) = (1 + dice.below(3), 2 + dice.below(6), 60 + dice.below(200));
    for room in 0..rooms {
        let host = world.person(&format!("host {room}"));
        let watched = world.dice.percent(75);
        world.room(host, watched);
    }
    let hosts = world.people.len();
    for number in 0..people {
        newcomer(&mut world, number);
    }
    for _ in 0..steps {
        for _ in 0..1 + world.dice.below(4) {
            act(&mut world, hosts);
        }
        for client in 0..world.clients.len() {
            if world.dice.percent(60) {
                let count = 1 + world.dice.below(400);
                world.deliver(client, count);
            }
        }
        world.turn(false);
        for client in 0..world.clients.len() {
            if world.clients[client].reading && world.dice.percent(60) {
                let count = 1 + world.dice.below(2000);
                world.listen(client, count);
            }
        }
    }
    finale(&mut world);
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
    let buffer_bytes = *dice.pick(&[150, 1000, 20_000, CALM.buffer_bytes]);
    let weather = Weather { faults: *dice.pick(&[0, 5, 30]), buffer_bytes };
    World::new(seed, &config, weather)
}

fn newcomer(world: &mut World, number: usize) {
    let rival = world.people.last().filter(|_| number > 0).map(|other| other.name.to_uppercase());
    match rival.filter(|_| world.dice.percent(15)) {
        Some(name) if world.people.iter().all(|person| person.name != name) => world.person(&name),
        _ => {
            let name = format!("someone {}", world.people.len());
            world.person(&name)
        }
    };
}

/// One thing that somebody does.
fn act(world: &mut World, hosts: usize) {
    world.catch_up();
    let roll = world.dice.below(100);
    if roll < 10 {
        return come(world, hosts);
    }
    if roll < 18 {
        return request(world, hosts);
    }
    if roll < 21 {
        return noise(world);
    }
    if roll < 33 {
        return clock(world, hosts);
    }
    let count = world.clients.len();
    let client = world.dice.below(count);
    if !world.clients[client].reading && world.dice.percent(30) {
        world.clients[client].reading = true; // Back, if it is not too late.
        return;
    }
    if !world.clients[client].is_well() {
        return;
    }
    match &world.clients[client].talk {
        Talk::Ws(ws) => {
            let host = ws.person < hosts;
            say(world, client, host);
        }
        Talk::Http(_) if world.dice.percent(10) => leave_line(world, client),
        Talk::Http(_) | Talk::Noise => {}
    }
}

fn come(world: &mut World, hosts: usize) {
    let person = hosts + world.dice.below(world.people.len() - hosts);
    let open = world.clients.iter().filter(|client| {
        let ws = client.ws().filter(|ws| ws.person == person);
        ws.is_some() && client.line == Seen::Open
    });
    if world.people[person].session.is_some() && open.count() < 5 {
        let room = world.dice.below(world.rooms.len());
        let start = start(world, room);
        world.enter_at(person, room, start);
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
            Start::After(room.log.keys().nth(place).expect("it is that long").clone())
        }
        _ => Start::After("nothing".to_owned()),
    }
}

fn say(world: &mut World, client: usize, host: bool) {
    match world.dice.below(if host { 70 } else { 100 }) {
        0..40 => {
            let mut piece = Vec::new();
            for _ in 0..1 + world.dice.below(4) {
                let text = text(&mut world.dice);
                let fragments = world.dice.percent(15);
                piece.extend(world.chat_frames(client, &text, fragments));
            }
            world.send(client, &piece);
        }
        40..50 => world.send_frame(client, TEXT, br#"{"type":"typing"}"#),
        50..55 => {
            let ping = world.ping_frame(client);
            world.send(client, &ping);
        }
        55..60 => {
            let ws = world.clients[client].ws_mut().expect("a socket");
            ws.owed.push_back(Owed::Pong);
            world.send_frame(client, TEXT, br#"{"type":"ping"}"#);
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
            world.send_refusable(client, json, code);
        }
        70..78 => {
            let chat = text(&mut world.dice);
            world.chat(client, &chat); // In one piece with what follows, often.
            let close = world.frame(CLOSE, &1000u16.to_be_bytes());
            world.send_last(client, &close, 1000);
        }
        78..84 => violate(world, client),
        84..90 => leave_line(world, client),
        90..95 => world.stall(client),
        _ => {
            let nonsense: Vec<u8> = (0..30).map(|_| world.dice.next() as u8).collect();
            world.clients[client].honest = false;
            world.send(client, &nonsense);
        }
    }
}

fn text(dice: &mut Dice) -> String {
    let pieces = ["word ", "🦀", "\"quoted\"", "\n", "\u{7}", "é", "\\"];
    let count = if dice.percent(5) { dice.below(300) } else { dice.below(6) };
    (0..count).map(|_| *dice.pick(&pieces)).collect()
}

fn violate(world: &mut World, client: usize) {
    if world.dice.percent(50) {
        world.chat(client, "before the fall");
    }
    let (bytes, code) = match world.dice.below(6) {
        0 => (vec![TEXT, 2, b'h', b'i'], 1002),
        1 => (world.frame(BINARY, b"bits"), 1003),
        2 => (world.frame(TEXT, b"\xC3\x28"), 1007),
        3 => (world.frame(TEXT, &[b' '; 70_000])[..14].to_vec(), 1009),
        4 => (world.frame(0x83, b"reserved"), 1002),
        _ => (world.frame(0x09, b"half a ping"), 1002),
    };
    world.send_last(client, &bytes, code);
}

fn leave_line(world: &mut World, client: usize) {
    match world.dice.below(3) {
        0 => world.reset(client),
        n => world.finish(client, n == 1),
    }
}

/// A request or a few, on a connection that is there or a new one.
fn request(world: &mut World, hosts: usize) {
    let ready = (0..world.clients.len()).find(|client| {
        let client = &world.clients[*client];
        client.is_well() && matches!(&client.talk, Talk::Http(http) if !http.excused)
    });
    let client = match ready.filter(|_| world.dice.percent(70)) {
        Some(client) => client,
        None => world.connect_http(),
    };
    for _ in 0..1 + world.dice.below(4) {
        let person = hosts + world.dice.below(world.people.len() - hosts);
        let room = world.dice.below(world.rooms.len());
        let id = world.rooms[room].id.clone();
        let found: &[u16] = if world.rooms[room].watched { &[200, 401] } else { &[200, 401, 404] };
        let session = world.people[person].session.clone();
        let session = session.as_deref();
        let roll = world.dice.below(100);
        if session.is_none() && roll < 60 {
            continue;
        }
        let (request, ask) = match roll {
            0..25 => {
                let path = format!("/rooms/{id}/messages?limit=1000");
                (wire::request("GET", &path, session, ""), Ask::Messages(room))
            }
            25..32 => {
                let text = format!("{FROM_OUTSIDE}. {}", text(&mut world.dice));
                let nonce = world.dice.percent(50).then(|| format!("n{}", world.dice.below(5)));
                let body = json!({"message": text, "nonce": nonce.as_deref().unwrap_or("once")});
                let path = format!("/rooms/{id}/messages");
                let ask = Ask::Posted { person, room, text: text.trim().to_owned() };
                (wire::request("POST", &path, session, &body.to_string()), ask)
            }
            32..40 => {
                let path = format!("/rooms/{id}/join");
                (wire::request("POST", &path, session, ""), Ask::Status(found))
            }
            40..48 => {
                let open = admitted(world, person, Some(room));
                let path = format!("/rooms/{id}/leave");
                let ask = Ask::End { person, room: Some(room), code: 1000, open };
                (wire::request("DELETE", &path, session, ""), ask)
            }
            48..51 => {
                let open = admitted(world, person, None);
                let request = wire::request("DELETE", "/sessions/me", session, "");
                world.people[person].session = None;
                (request, Ask::End { person, room: None, code: 4401, open })
            }
            51..60 => (wire::request("GET", "/sessions/me", session, ""), Ask::Status(&[200, 401])),
            60..70 => (wire::request("GET", "/nowhere", None, ""), Ask::Status(&[404])),
            70..80 => (wire::request("HEAD", "/ping", None, ""), Ask::Head(200)),
            80..90 => {
                let body = "x".repeat(world.dice.below(3000));
                (wire::request("POST", "/sessions", None, &body), Ask::Status(&[422]))
            }
            90..92 => (wire::request("GET", "/rooms/all", None, ""), Ask::Status(&[200])),
            92..93 => {
                (wire::request("GET", "/rooms/all?detail=true", None, ""), Ask::Status(&[200]))
            }
            93..95 => {
                let path = format!("/rooms/{id}/users");
                (wire::request("GET", &path, session, ""), Ask::Status(found))
            }
            95..98 => (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_vec(), Ask::Status(&[400])),
            _ => {
                let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n";
                (head.as_bytes().to_vec(), Ask::Status(&[413]))
            }
        };
        if let Ask::End { person, room, code, .. } = &ask {
            world.expect_end(*person, *room, *code);
        }
        let last = matches!(&ask, Ask::Status([400 | 413]));
        world.ask(client, &request, ask);
        if last {
            world.clients[client].http().excused = true; // Not to be used again.
            break;
        }
    }
}

fn admitted(world: &World, person: usize, room: Option<usize>) -> Vec<usize> {
    let clients = world.clients.iter().enumerate();
    let admitted = clients.filter(|(_, client)| {
        client.ws().is_some_and(|ws| {
            ws.person == person && room.is_none_or(|room| room == ws.room) && !ws.seen.is_empty()
        })
    });
    admitted.map(|(index, _)| index).collect()
}

/// Somebody who speaks no protocol, or stops in the middle of it.
fn noise(world: &mut World) {
    let client = world.connect(Talk::Noise, crate::world::LOOPBACK);
    let mut bytes = wire::request("POST", "/sessions", None, r#"{"username":"nobody"}"#);
    match world.dice.below(4) {
        0 => bytes = (0..50).map(|_| world.dice.next() as u8).collect(),
        1 => bytes.truncate(world.dice.below(bytes.len())),
        2 => {
            let place = world.dice.below(bytes.len());
            bytes[place] = world.dice.next() as u8;
        }
        _ => {}
    }
    world.send(client, &bytes);
    match world.dice.below(8) {
        0..3 => world.finish(client, false),
        3..6 => world.finish(client, true),
        6 => world.lose(client),
        _ => {}
    }
}

fn clock(world: &mut World, hosts: usize) {
    match world.dice.below(20) {
        0..10 => {
            let time = Duration::from_millis(world.dice.below(500) as u64);
            world.pass(time);
        }
        10..16 => drop(world.pass_to_deadline()),
        16 => world.pause_accepting(),
        17..19 => {
            let hours = 1 + world.dice.below(30) as u64;
            let forward = world.dice.percent(50);
            world.set_clock(Duration::from_secs(60 * 60 * hours), forward);
        }
        _ => {
            const DAY: Duration = Duration::from_secs(24 * 60 * 60 + 1);
            world.pass(DAY);
            for _ in 0..2 {
                newcomer(world, 0);
            }
        }
    }
    if world.people[hosts..].iter().all(|person| person.session.is_none()) {
        newcomer(world, 0);
    }
}

/// Who isn't well is cut off; then what everybody believes must be the same.
fn finale(world: &mut World) {
    world.settle();
    for client in 0..world.clients.len() {
        if !world.clients[client].is_well() {
            world.reset(client);
            world.clients[client].reading = true;
        }
    }
    world.settle();
    world.pass(Duration::from_millis(3100)); // The grace of those.
    world.settle();
    for room in 0..world.rooms.len() {
        if world.rooms[room].watched {
            check_presence(world, room);
        }
    }
    if world.dice.percent(50) {
        world.shut_down();
        world.settle();
        for (index, client) in world.clients.iter().enumerate() {
            if let Some(ws) = client.ws().filter(|_| client.honest && client.reading) {
                assert!(ws.closed.is_some(), "client {index} was not told of the end");
            }
        }
    }
    world.end();
}

fn check_presence(world: &mut World, room: usize) {
    let mut open: Vec<_> = world.clients.iter().filter(|client| client.is_well()).collect();
    open.retain(|client| client.ws().is_some_and(|ws| ws.room == room && ws.upgraded));
    let names = open.iter().filter_map(|client| client.ws());
    let mut names: Vec<_> = names.map(|ws| world.people[ws.person].name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(world.rooms[room].present(), names, "who is present");
    let path = format!("/rooms/{}", world.rooms[room].id);
    world.get(&path, None, Ask::UserCount(names.len()));
    let host = world.people[room].session.clone();
    let response =
        world.get(&(path + "/messages?limit=1000"), host.as_deref(), Ask::Messages(room));
    let log: Vec<_> = world.rooms[room].log.values().map(|message| &message.json[..]).collect();
    let tail = log[log.len().saturating_sub(1000)..].join(&b","[..]);
    let body = [&b"{\"messages\":["[..], &tail, b"]}"].concat();
    assert_eq!(response.body, body, "the history is what was seen");
}
