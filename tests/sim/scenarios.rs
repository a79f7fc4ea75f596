//! Stories worth a name, and the bugs that were found, each as it went wrong.

use std::net::IpAddr;
use std::time::Duration;

use disposable_chat::config::{Config, Rate};
use disposable_chat::ledger::Account;
use disposable_chat::server::Purpose;

use crate::pipe::{CALM, Weather};
use crate::wire::{self, CLOSE, TEXT};
use crate::world::{Ask, Http, LOOPBACK, Start, Talk, World};

fn unlimited() -> Config {
    Config { message_rate: Rate { per_second: 0, burst: 1 }, ..Config::default() }
}

/// A room watched by its host (client 1), and `count` others in it, told by client.
fn party(config: &Config, weather: Weather, count: usize) -> (World, Vec<usize>) {
    let mut world = World::new(1, config, weather);
    let host = world.person("host");
    let room = world.room(host, true);
    let people = world.crowd(count);
    let guests = people.map(|person| world.enter(person, room)).collect();
    world.settle();
    (world, guests)
}

fn heard(world: &World, client: usize) -> usize {
    world.clients[client].ws().map_or(0, |ws| ws.seen.len())
}

fn closed(world: &World, client: usize) -> Option<(u16, &str)> {
    let ws = world.clients[client].ws()?;
    ws.closed.as_ref().map(|(code, reason)| (*code, &reason[..]))
}

#[test]
fn ten_posters_say_two_hundred_each_at_once_and_all_twenty_hear_them() {
    let (mut world, guests) = party(&unlimited(), CALM, 19);
    for message in 0..200 {
        for poster in &guests[..10] {
            world.chat(*poster, &format!("message {message}"));
        }
    }
    world.settle(); // Compares what all of them saw.
    assert!(guests.iter().all(|guest| heard(&world, *guest) > 2000));
    let host = world.people[0].session.clone();
    let path = format!("/rooms/{}/messages?limit=1000", world.rooms[0].id);
    let response = world.get(&path, host.as_deref(), Ask::Messages(0));
    let text = String::from_utf8(response.body).unwrap();
    let last = world.rooms[0].log.values().rev().take(1000);
    assert!(last.into_iter().all(|message| text.contains(&message.text)));
    assert_eq!(text.matches("\"id\":").count(), 1000);
    world.end();
}

#[test]
fn random_bytes_hurt_nobody_but_their_sender() {
    let (mut world, guests) = party(&unlimited(), Weather { faults: 5, ..CALM }, 3);
    let session = world.people[1].session.clone().unwrap();
    let upgrade = wire::upgrade(&world.rooms[0].id, &session, "");
    let request = wire::request("POST", "/sessions", None, r#"{"username":"nobody"}"#);
    for round in 0..300 {
        let client = world.connect(Talk::Noise, LOOPBACK);
        let mut bytes: Vec<u8> = (0..200).map(|_| world.dice.next() as u8).collect();
        match round % 4 {
            0 => {}
            1 => bytes.splice(0..0, upgrade.iter().copied()).for_each(drop),
            2 => {
                // Frames with good headers and anything inside.
                let first = *world.dice.pick(&[0x81, 0x01, 0x80, 0x88, 0x89, 0x8A, 0x82]);
                let payload = world.dice.below(126);
                bytes = wire::frame(first, &bytes[..payload], 7);
                bytes.splice(0..0, upgrade.iter().copied()).for_each(drop);
            }
            _ => {
                bytes = request.repeat(2);
                for _ in 0..3 {
                    let place = world.dice.below(bytes.len());
                    bytes[place] = world.dice.next() as u8;
                }
            }
        }
        world.send(client, &bytes);
        world.chat(guests[round % 3], "meanwhile");
        world.settle();
        if world.dice.percent(80) {
            world.reset(client);
        }
    }
    assert!(guests.iter().all(|guest| world.clients[*guest].is_well()));
    world.end();
}

#[test]
fn a_reader_that_stops_is_closed_with_1013_and_nobody_else_notices() {
    let mut config = unlimited();
    config.outbox_bytes_max = 64 * 1024;
    let (mut world, guests) = party(&config, Weather { buffer_bytes: 20_000, ..CALM }, 4);
    world.stall(guests[0]);
    for _ in 0..60 {
        world.chat(guests[1], &"long ".repeat(400));
        world.settle();
    }
    assert_eq!(world.core.counters().too_slow, 1);
    let queued = world.core.counters().outbox_bytes;
    assert!(queued < 2 * 2500, "{queued} bytes queued: the rest of a message, and the close");
    assert!(guests[1..].iter().all(|guest| world.clients[*guest].is_well()));
    world.clients[guests[0]].reading = true;
    world.settle();
    assert_eq!(closed(&world, guests[0]), Some((1013, "too slow")));
    world.end();
}

#[test]
fn an_address_over_its_share_is_told_so_and_far_over_it_dropped() {
    let mut config = unlimited();
    config.address_connections_max = Some(3);
    let mut world = World::new(1, &config, CALM);
    let people: Vec<usize> = (0..4).map(|n| world.person(&format!("person {n}"))).collect();
    let room = world.room(people[0], true);
    let from: Option<IpAddr> = "192.0.2.7".parse().ok();
    let within: Vec<_> =
        people[1..].iter().map(|person| world.enter_from(*person, room, from)).collect();
    world.settle();

    let socket = world.enter_from(people[1], room, from);
    world.clients[socket].ws_mut().unwrap().possible.insert(4429);
    let browser = world.connect(Talk::Http(Http::default()), from);
    world.ask(browser, &wire::request("HEAD", "/ping", None, ""), Ask::Head(429));
    let poster = world.connect(Talk::Http(Http::default()), from);
    let head = b"POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n";
    world.ask(poster, head, Ask::Status(&[429])); // Its body is not waited for.
    // Once such a request was served: it asks for an upgrade, but not where there is one.
    let clever = world.connect(Talk::Http(Http::default()), from);
    let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let request = format!("GET /rooms/all HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    world.ask(clever, request.as_bytes(), Ask::Status(&[429]));
    world.settle();
    assert_eq!(closed(&world, socket), Some((4429, "too many connections")));
    for client in [browser, poster, clever] {
        let answers = &world.clients[client].http().answers;
        assert!(answers[0].head.contains("\r\nRetry-After: 10\r\n"), "{answers:?}");
        assert!(answers[0].head.contains("\r\nConnection: close\r\n"), "{answers:?}");
        assert!(world.clients[client].is_dropped());
    }

    let told: Vec<_> = (0..16).map(|_| world.connect(Talk::Noise, from)).collect();
    let dropped = world.connect(Talk::Noise, from);
    assert!(world.clients[dropped].is_dropped());
    for client in told {
        assert!(!world.clients[client].is_dropped());
        world.reset(client);
    }
    world.finish(within[0], true);
    world.settle();
    let again = world.enter_from(people[1], room, from);
    world.settle();
    assert!(world.clients[again].is_well());
    world.end();
}

#[test]
fn a_session_holds_two_hundred_rooms_and_twenty_sockets() {
    let mut world = World::new(1, &unlimited(), CALM);
    let (ana, bob) = (world.person("ana"), world.person("bob"));
    world.open_rooms(&[ana; 200]);
    world.open_rooms(&[bob]);
    let session = world.people[ana].session.clone();
    let client = world.connect_http();
    let ask = |world: &mut World, method: &str, path: &str, statuses| {
        let request = wire::request(method, path, session.as_deref(), "");
        world.ask(client, &request, Ask::Status(statuses));
        world.settle();
    };
    let other = format!("/rooms/{}", world.rooms[200].id);
    ask(&mut world, "POST", "/rooms", &[429]);
    ask(&mut world, "POST", &format!("{other}/join"), &[429]);
    let refused = world.enter(ana, 200);
    world.clients[refused].ws_mut().unwrap().possible.insert(4429);
    world.settle();
    assert_eq!(closed(&world, refused), Some((4429, "too many rooms")));
    let first = format!("/rooms/{}/leave", world.rooms[0].id);
    ask(&mut world, "DELETE", &first, &[200]);
    ask(&mut world, "POST", &format!("{other}/join"), &[200]);

    let sockets: Vec<_> = (0..20).map(|place| world.enter(ana, 100 + 5 * place)).collect();
    world.settle();
    assert!(sockets.iter().all(|socket| world.clients[*socket].is_well()));
    let refused = world.enter(ana, 1);
    world.clients[refused].ws_mut().unwrap().possible.insert(4429);
    world.settle();
    assert_eq!(closed(&world, refused), Some((4429, "too many connections")));
    world.reset(sockets[7]);
    world.settle();
    let last = world.enter(ana, 1);
    world.settle();
    assert!(world.clients[last].is_well());
    world.end();
}

#[test]
fn a_full_server_says_503_and_has_room_again_later() {
    let mut config = unlimited();
    config.connections_max = Some(3);
    let (mut world, guests) = party(&config, CALM, 1);
    let last = world.connect(Talk::Noise, LOOPBACK);
    let full = world.get("/ping", None, Ask::Status(&[503]));
    assert!(String::from_utf8(full.body).unwrap().contains("server_full"));
    let upgrade = wire::upgrade(&world.rooms[0].id, "", "");
    let client = world.connect_http();
    world.ask(client, &upgrade, Ask::Status(&[503]));
    world.settle();
    world.reset(last);
    world.settle();
    world.get("/ping", None, Ask::Status(&[200]));
    assert!(world.clients[guests[0]].is_well());
    world.end();
}

#[test]
fn who_talks_is_not_pinged_and_who_is_silent_is() {
    let (mut world, guests) = party(&unlimited(), CALM, 2);
    let asked = |world: &World, guest: usize| world.clients[guest].ws().unwrap().asked;
    for _ in 0..4 {
        world.pass(Duration::from_secs(15));
        world.chat(guests[0], "still here");
        world.settle();
    }
    assert_eq!((asked(&world, guests[0]), asked(&world, guests[1])), (0, 2));
    world.end();
}

#[test]
fn a_dead_line_is_dropped_after_the_pong_timeout_and_has_left_after_the_grace() {
    let (mut world, guests) = party(&unlimited(), CALM, 1);
    world.stall(guests[0]);
    world.pass(Duration::from_millis(20_050));
    world.pass(Duration::from_millis(19_950));
    assert!(!world.clients[guests[0]].is_dropped());
    world.pass(Duration::from_millis(100));
    assert!(world.clients[guests[0]].is_dropped());
    world.settle();
    assert_eq!(world.rooms[0].present(), ["guest 1", "host"]);
    world.pass(Duration::from_millis(3050));
    world.settle();
    assert_eq!(world.rooms[0].present(), ["host"]);
    world.end();
}

#[test]
fn who_closes_has_left_at_once_and_whose_line_breaks_may_come_back() {
    let (mut world, guests) = party(&unlimited(), CALM, 3);
    let close = world.frame(CLOSE, &1000u16.to_be_bytes());
    world.send_last(guests[0], &close, 1000);
    world.finish(guests[1], false);
    world.reset(guests[2]);
    world.settle();
    assert_eq!(world.rooms[0].present(), ["guest 2", "guest 3", "host"]);
    world.enter(2, 0);
    world.settle();
    let said = world.rooms[0].log.len();
    world.pass(Duration::from_millis(3050));
    world.settle();
    assert_eq!(world.rooms[0].present(), ["guest 2", "host"]);
    assert_eq!(world.rooms[0].log.len(), said + 1);
    world.end();
}

#[test]
fn who_leaves_by_rest_has_heard_all_that_was_said_before() {
    for _ in 0..10 {
        let (mut world, guests) = party(&unlimited(), CALM, 4);
        let browser = world.connect_http();
        world.settle();
        for guest in &guests {
            world.chat(*guest, "");
        }
        let path = format!("/rooms/{}/leave", world.rooms[0].id);
        let session = world.people[1].session.clone();
        let request = wire::request("DELETE", &path, session.as_deref(), "");
        world.expect_end(1, Some(0), 1000);
        let ask = Ask::End { person: 1, room: Some(0), code: 1000, open: vec![guests[0]] };
        world.ask(browser, &request, ask);
        world.settle();
        assert_eq!(closed(&world, guests[0]), Some((1000, "left room")));
        let last = world.clients[guests[0]].ws().unwrap().seen.last().unwrap().clone();
        let next = world.rooms[0].log.range(last..).nth(1).unwrap().1;
        assert_eq!(next.text, "guest 1 has left");
        world.end();
    }
}

#[test]
fn what_a_newcomer_says_while_it_waits_for_a_name_is_heard_when_it_is_let_in() {
    let (mut world, _) = party(&unlimited(), CALM, 0);
    let (dead, rival) = (world.person("rival"), world.person("RIVAL"));
    let holder = world.enter(dead, 0);
    world.settle();
    world.stall(holder);
    let newcomer = world.enter(rival, 0);
    for text in ["in one piece with the upgrade", "and later", "and again"] {
        world.chat(newcomer, text);
        world.deliver(newcomer, usize::MAX);
        world.turn(true);
    }
    world.settle();
    assert_eq!(heard(&world, newcomer), 0);
    world.pass(Duration::from_millis(3050));
    world.settle(); // Asks whether all was answered.
    assert_eq!(heard(&world, newcomer), 4);
    assert!(world.clients[holder].is_dropped());
    world.end();
}

// ---- Bugs

/// The close made the context unwritable before the batch was sealed for its sake, so whoever
/// said something and closed in one piece never got it back.
#[test]
fn what_was_said_before_a_close_comes_back_before_it() {
    for (last, code) in
        [(wire::frame(CLOSE, &[3, 232], 7), 1000), (wire::frame(0x83, b"", 7), 1002)]
    {
        let (mut world, guests) = party(&unlimited(), CALM, 1);
        world.chat(guests[0], "goodbye");
        world.send_last(guests[0], &last, code);
        world.settle(); // Asks whether all was answered before the close.
        assert_eq!(heard(&world, guests[0]), 2);
        world.end();
    }
}

/// The write failed in the phase flush, nobody else was connected, and reap threw the list of
/// ends away: the room and the session lived for ever.
#[test]
fn the_last_connections_end_in_a_flush_is_told_the_domain() {
    let (mut world, guests) = party(&unlimited(), CALM, 0);
    assert!(guests.is_empty());
    let host = world.clients.iter().position(|client| client.ws().is_some()).unwrap();
    world.advance(Duration::from_secs(21)); // A ping is due,
    world.reset(host); // and the reset comes after the poll.
    world.core.begin(world.now);
    world.core.tick();
    assert_eq!(world.core.connection_count(), 0);
    world.end();
}

/// Of a tick's ready connections those after the panicking one were on no list any more, which
/// looked like damage: the process ended.
#[cfg(debug_assertions)]
#[test]
fn a_panic_costs_one_connection_while_others_are_ready() {
    for fated in 0..5 {
        let (mut world, guests) = party(&unlimited(), CALM, 5);
        world.core.plant_fault("a planted fault".to_owned());
        world.panics_expected = 1;
        for (place, guest) in guests.iter().enumerate() {
            if place == fated {
                let json = br#"{"type":"chat","message":"a planted fault"}"#;
                world.send_frame(*guest, TEXT, json);
                world.clients[*guest].ws_mut().unwrap().due = Some(1011);
            } else {
                world.chat(*guest, "in the same tick");
            }
        }
        world.settle();
        for (place, guest) in guests.iter().enumerate() {
            let expected = (place == fated).then_some((1011, "internal error"));
            assert_eq!(closed(&world, *guest), expected);
        }
        world.end();
    }
}

/// What arrives while a connection waits for a name is left unread. When it was refused, nobody
/// went back to it: the peer's end was not seen, and the slot stayed until the linger timer.
#[test]
fn a_refused_newcomer_that_has_hung_up_is_gone_at_once() {
    let (mut world, _) = party(&unlimited(), CALM, 0);
    let rival = world.person("HOST");
    let newcomer = world.enter(rival, 0);
    world.deliver(newcomer, usize::MAX);
    world.turn(true); // It waits, and the holder is asked.
    world.chat(newcomer, "anybody here?");
    world.finish(newcomer, false);
    world.deliver(newcomer, usize::MAX);
    world.deliver(newcomer, usize::MAX);
    world.turn(true);
    world.settle(); // The holder answers.
    assert_eq!(closed(&world, newcomer), Some((4409, "name taken")));
    assert!(world.clients[newcomer].is_dropped());
    world.end();
}

/// A batch could outgrow a whole outbox, and then everybody who was in the room was too slow.
#[test]
fn a_crowd_that_leaves_at_once_costs_nobody_their_place() {
    let mut config = unlimited();
    config.outbox_bytes_max = 64 * 1024;
    config.leave_grace = Duration::ZERO;
    let (mut world, guests) = party(&config, CALM, 320);
    for guest in &guests[1..] {
        world.reset(*guest);
    }
    world.settle();
    assert_eq!(world.core.counters().too_slow, 0);
    assert!(world.clients[guests[0]].is_well());
    world.end();
}

/// The same by many who speak at once.
#[test]
fn many_who_speak_at_once_are_no_reason_to_close_anybody() {
    let mut config = unlimited();
    config.outbox_bytes_max = 64 * 1024;
    let (mut world, guests) = party(&config, CALM, 4);
    for guest in &guests {
        for _ in 0..600 {
            world.chat(*guest, "");
        }
    }
    world.settle();
    assert!(guests.iter().all(|guest| world.clients[*guest].is_well()));
    world.end();
}

/// An answer that ends a connection had content even for HEAD, and no fields of CORS.
#[test]
fn a_last_answer_is_an_answer_like_any_other() {
    let mut world = World::new(1, &unlimited(), CALM);
    for (request, status) in [
        ("HEAD /ping HTTP/1.1\r\nHost: a\r\nOrigin: http://a.example\r\n\r\n", 503),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ] {
        let client = world.connect_http();
        if status == 503 {
            world.settle();
            world.deliver(client, 0);
            world.send(client, &request.as_bytes()[..5]); // Under way when the end comes.
            world.settle();
            world.shut_down();
            world.ask(client, &request.as_bytes()[5..], Ask::Head(503));
        } else {
            world.ask(client, request.as_bytes(), Ask::Status(&[400]));
        }
        world.settle();
        let answer = &world.clients[client].http().answers[0];
        assert_eq!(answer.status, status);
        assert!(answer.head.contains("\r\nVary: Origin\r\n"), "{answer:?}");
    }
    world.end();
}

/// What leaves while an outbox makes room for more was not counted.
#[test]
fn every_byte_that_leaves_is_counted() {
    let mut config = unlimited();
    config.outbox_bytes_max = 64 * 1024;
    let (mut world, guests) = party(&config, CALM, 8);
    for guest in &guests {
        for _ in 0..400 {
            world.chat(*guest, "");
        }
    }
    world.settle();
    assert_eq!(world.core.counters().bytes_out, world.heard);
    world.end();
}

/// The content that an answer to HEAD leaves out was not counted, only its head: 64 peers that
/// pipelined HEADs of a long listing kept everybody else waiting for two seconds.
#[test]
fn answers_to_head_end_a_turn_like_those_to_get() {
    let (mut world, guests) = party(&unlimited(), CALM, 1);
    for _ in 0..10 {
        world.chat(guests[0], &"long ".repeat(700));
        world.settle();
    }
    let session = world.people[0].session.clone();
    let path = format!("/rooms/{}/messages?limit=1000", world.rooms[0].id);
    for method in ["GET", "HEAD"] {
        let client = world.connect(Talk::Noise, LOOPBACK);
        let requests = wire::request(method, &path, session.as_deref(), "").repeat(50);
        world.send(client, &requests);
        world.deliver(client, requests.len());
        let before = world.core.counters().requests;
        world.turn(true);
        // A turn among the modest, and one among the greedy.
        assert!(world.core.counters().requests - before <= 2, "{method}");
        world.settle();
        assert_eq!(world.core.counters().requests - before, 50, "{method}: all in the end");
        world.finish(client, true);
        world.settle();
    }
    world.end();
}

/// A turn handled 16 KiB of frames whatever they led to: 2730 empty texts to half a megabyte of
/// refusals. Twenty peers that sent nothing else kept everybody else waiting for 50 ms.
#[test]
fn answers_to_frames_end_a_turn_too() {
    let (mut world, guests) = party(&unlimited(), CALM, 1);
    let frames: Vec<u8> = (0..1000).flat_map(|_| world.frame(TEXT, b"")).collect();
    world.clients[guests[0]].honest = false; // Or each refusal would have to be foretold.
    world.send(guests[0], &frames);
    world.deliver(guests[0], frames.len());
    let before = world.core.counters().received;
    world.turn(true);
    let handled = world.core.counters().received - before;
    assert!((50..200).contains(&handled), "{handled} frames in one turn");
    world.settle();
    assert_eq!(world.core.counters().received - before, 1000, "all in the end");
    world.end();
}

/// A crowd that came back at once had the first page made for each of them in one tick.
#[test]
fn a_crowd_that_comes_back_at_once_is_sent_its_history_in_turns() {
    const CROWD: usize = 100;
    let config = Config { address_connections_max: None, ..unlimited() };
    let (mut world, guests) = party(&config, CALM, 1);
    for _ in 0..20 {
        world.chat(guests[0], &"🦀".repeat(3900));
    }
    world.settle();
    let crowd = world.crowd(CROWD);
    world.weather = Weather { faults: 0, buffer_bytes: 700 };
    let back: Vec<_> = crowd.map(|person| world.enter_at(person, 0, Start::Last(1000))).collect();
    for client in &back {
        world.deliver(*client, usize::MAX);
    }
    let mut queued = 0;
    for _ in 0..5 {
        world.turn(true);
        let now = world.core.counters().outbox_bytes;
        assert!(now <= queued + 3 * 1024 * 1024, "{now} bytes after {queued}");
        queued = now;
    }
    world.settle();
    assert!(back.iter().all(|client| world.clients[*client].is_well()));
    world.end();
}

/// A reader as fast as the pipe has a long answer in pieces, a turn each, and others between.
#[test]
fn a_long_answer_leaves_in_several_turns() {
    const TURN: u64 = 128 * 1024;
    let (mut world, guests) = party(&unlimited(), CALM, 1);
    for _ in 0..100 {
        world.chat(guests[0], &"long ".repeat(700));
        world.settle();
    }
    let session = world.people[0].session.clone();
    let path = format!("/rooms/{}/messages?limit=1000", world.rooms[0].id);
    let client = world.connect(Talk::Noise, LOOPBACK);
    let request = wire::request("GET", &path, session.as_deref(), "");
    world.send(client, &request);
    world.deliver(client, request.len());
    for _ in 0..2 {
        let before = world.core.counters().bytes_out;
        world.turn(true);
        let sent = world.core.counters().bytes_out - before;
        assert!(0 < sent && sent <= TURN, "{sent} bytes in one tick");
    }
    world.settle();
    world.end();
}

/// However many send at once, timers and flushing have their turn after 64 KiB.
#[test]
fn what_a_crowd_sends_at_once_is_read_in_several_ticks() {
    const EACH: usize = 2 * 1024;
    /// What the modest, and what the greedy may cost.
    const TICK: u64 = (32 + 8) * 1024;
    let mut world = World::new(1, &unlimited(), CALM);
    let body =
        format!("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n{:EACH$}", "");
    for _ in 0..100 {
        let client = world.connect(Talk::Noise, LOOPBACK);
        world.send(client, &body.as_bytes()[..EACH]);
        world.deliver(client, EACH);
    }
    let mut before = 0;
    world.turn(true);
    assert_eq!(world.core.counters().bytes_in, TICK);
    while world.core.counters().bytes_in > before {
        before = world.core.counters().bytes_in;
        world.turn(true);
        assert!(world.core.counters().bytes_in - before <= TICK);
    }
    assert_eq!(before, 100 * EACH as u64, "and all in the end");
    world.end();
}

#[test]
fn what_has_come_of_a_request_is_in_the_ledger() {
    let mut world = World::new(1, &unlimited(), CALM);
    let client = world.connect(Talk::Noise, LOOPBACK);
    let connections = |world: &World| world.ledger.bytes(Account::Connections);
    world.settle();
    let idle = connections(&world);
    let head = format!("POST /sessions HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "x".repeat(10_000));
    world.send(client, head.as_bytes());
    world.settle();
    assert!(connections(&world) >= idle + head.len());
    world.send(client, b"Content-Length: 60000\r\n\r\n");
    world.send(client, &[b' '; 40_000]);
    world.settle();
    assert!(connections(&world) >= idle + head.len() + 40_000);
    world.end();
}

/// Whatever a balancer has said when its line breaks or its time is up, nothing is left of it; and
/// once it has said all, who it has named counts until the end.
#[test]
fn a_balancers_header_may_break_off_anywhere() {
    let balancer = Some(IpAddr::from([10, 0, 0, 1]));
    let trusted_proxies = vec!["10.0.0.0/8".parse().expect("a range")];
    let config = Config { trusted_proxies, address_connections_max: Some(2), ..unlimited() };
    let mut world = World::new(1, &config, CALM);
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
    let connect = |world: &mut World, said: &[u8]| {
        let client = world.connect_to(Purpose::Proxied, Talk::Noise, balancer);
        for byte in said {
            world.send(client, &[*byte]);
            world.settle();
        }
        client
    };
    let before = world.ledger.total();
    for cut in 0..=header.len() {
        let ends: [fn(&mut World, usize); 3] =
            [World::reset, |world, client| world.finish(client, false), |_, _| ()];
        for end in ends {
            let client = connect(&mut world, &header[..cut]);
            end(&mut world, client);
            world.settle();
            world.advance(Duration::from_secs(11)); // The header timeout is ten.
            world.settle();
            assert_eq!(world.core.connection_count(), 0, "cut at {cut}");
            assert_eq!(world.ledger.total(), before, "cut at {cut}");
        }
    }
    let refused = |world: &World| world.core.counters().refused.iter().sum::<u64>();
    let ping = b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n";
    let named: Vec<_> =
        (0..3).map(|_| connect(&mut world, &[&header[..], ping].concat())).collect();
    assert_eq!(refused(&world), 1, "the third is one too many");
    world.finish(named[0], false);
    world.finish(named[2], false);
    world.settle();
    connect(&mut world, &[&header[..], ping].concat());
    assert_eq!(refused(&world), 1, "there is room again");
    world.end();
}

/// With 64 connections that always had more to say, whoever said one thing waited for 64 turns.
#[test]
fn who_always_has_more_to_say_waits_for_who_has_not() {
    let (mut world, guests) = party(&unlimited(), CALM, 1);
    let flood: Vec<_> = (0..64).map(|_| world.connect(Talk::Noise, LOOPBACK)).collect();
    let requests = wire::request("GET", "/ping", None, "").repeat(3000);
    flood.iter().for_each(|client| world.send(*client, &requests));
    for round in 0..60 {
        flood.iter().for_each(|client| _ = world.deliver(*client, usize::MAX));
        let before = heard(&world, guests[0]);
        // What is modest of them is over by then.
        let says = usize::from(round >= 20);
        if says > 0 {
            world.chat(guests[0], "not much");
            world.deliver(guests[0], usize::MAX);
        }
        world.turn(true);
        flood.iter().for_each(|client| _ = world.listen(*client, usize::MAX));
        world.listen(guests[0], usize::MAX);
        assert_eq!(heard(&world, guests[0]) - before, says, "round {round}");
    }
    assert!(world.core.has_work(), "they have more to say");
}

/// Whoever took a byte of an answer a minute kept all of it in memory for days.
#[test]
fn an_answer_may_take_a_time_that_goes_with_its_size() {
    let narrow = Weather { buffer_bytes: 16 * 1024, ..CALM };
    let (mut world, guests) = party(&unlimited(), narrow, 1);
    for _ in 0..100 {
        world.chat(guests[0], &"x".repeat(3900));
        world.settle();
    }
    let session = world.people[0].session.clone();
    let path = format!("/rooms/{}/messages?limit=1000", world.rooms[0].id);
    let lazy = world.connect(Talk::Noise, LOOPBACK);
    world.send(lazy, &wire::request("GET", &path, session.as_deref(), ""));
    world.deliver(lazy, usize::MAX);
    world.turn(true);
    // 400 KiB at 4 KiB a second, and the idle timeout.
    let mut seconds = 0;
    while !world.clients[lazy].is_dropped() {
        seconds += 20;
        assert!(seconds < 240, "it may go on for ever");
        world.advance(Duration::from_secs(20));
        world.listen(lazy, 16 * 1024);
        world.turn(true);
    }
    assert!(seconds > 90, "cut off after {seconds} s");
}

/// With two hundred who had just come and each wanted the longest listing, whoever said something
/// waited until all had been written.
#[test]
fn who_talks_waits_for_one_of_those_who_ask() {
    let (mut world, guests) = party(&unlimited(), CALM, 1);
    let session = world.people[0].session.clone();
    let opening = wire::request("POST", "/rooms", session.as_deref(), r#"{"title":"A room"}"#);
    let opener = world.connect(Talk::Noise, LOOPBACK);
    for _ in 0..190 {
        world.send(opener, &opening);
        world.settle();
    }
    let crowd: Vec<_> = (0..200).map(|_| world.connect(Talk::Noise, LOOPBACK)).collect();
    let listing = wire::request("GET", "/rooms/all?detail=true", None, "");
    for client in &crowd {
        world.send(*client, &listing.repeat(3));
        world.deliver(*client, usize::MAX);
    }
    for round in 0..20 {
        let before = heard(&world, guests[0]);
        world.chat(guests[0], "not much");
        world.deliver(guests[0], usize::MAX);
        world.turn(true);
        world.listen(guests[0], usize::MAX);
        assert_eq!(heard(&world, guests[0]) - before, 1, "round {round}");
    }
    assert!(world.core.has_work(), "they are not done");
    world.settle();
    world.end();
}

#[test]
fn thirty_two_are_a_crowd_and_thirty_one_are_not() {
    // What is said to a crowd waits until another crowd has heard what it was told.
    let told_at_once = |count: usize| {
        let (mut world, guests) = party(&unlimited(), CALM, count - 1);
        let is_socket = |client: &usize| world.clients[*client].ws().is_some();
        let all: Vec<_> = (0..world.clients.len()).filter(is_socket).collect();
        let host = world.person("another host");
        let room = world.room(host, true);
        let people = world.crowd(64);
        let crowd: Vec<_> = people.map(|person| world.enter(person, room)).collect();
        world.settle();
        let before: Vec<_> = all.iter().map(|client| heard(&world, *client)).collect();
        for speaker in [crowd[0], guests[0]] {
            world.chat(speaker, "hello");
            world.deliver(speaker, usize::MAX);
            world.turn(true);
        }
        let mut told = 0;
        for (client, before) in all.iter().zip(&before) {
            world.listen(*client, usize::MAX);
            told += heard(&world, *client) - before;
        }
        assert_eq!(all.len(), count);
        world.settle();
        world.end();
        told
    };
    assert_eq!([30, 31, 32, 33].map(told_at_once), [30, 31, 0, 0]);
}

/// All that were accepted at once timed out at once, in one tick: a thousand answers took several
/// milliseconds in which nobody else had a turn.
#[test]
fn those_who_time_out_together_are_told_in_several_ticks() {
    const EACH_TICK: u64 = 16;
    let mut world = World::new(1, &unlimited(), CALM);
    for _ in 0..50 {
        let client = world.connect(Talk::Noise, LOOPBACK);
        world.send(client, b"GET /ping HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    }
    world.settle();
    world.advance(Duration::from_secs(11)); // The header timeout is ten.
    let refused = |world: &World| world.core.counters().refused.iter().sum::<u64>();
    for tick in 1..=3 {
        world.turn(true);
        assert_eq!(refused(&world), tick * EACH_TICK);
        assert!(world.core.has_work(), "after tick {tick}");
    }
    world.turn(true);
    assert_eq!(refused(&world), 50);
    world.settle();
    world.end();
}

/// Beside a flood that never ends, what was said at length gathered for as long as the ticks took.
#[test]
fn what_gathers_leaves_after_ten_milliseconds() {
    let (mut world, guests) = party(&unlimited(), CALM, 1);
    let flood: Vec<_> = (0..64).map(|_| world.connect(Talk::Noise, LOOPBACK)).collect();
    let requests = wire::request("GET", "/ping", None, "").repeat(3000);
    flood.iter().for_each(|client| world.send(*client, &requests));
    let turn = |world: &mut World| {
        flood.iter().for_each(|client| _ = world.deliver(*client, usize::MAX));
        world.turn(true);
        flood.iter().for_each(|client| _ = world.listen(*client, usize::MAX));
        world.listen(guests[0], usize::MAX);
    };
    (0..20).for_each(|_| turn(&mut world)); // What is modest of them is over by then.
    let (received, before) = (world.core.counters().received, heard(&world, guests[0]));
    world.chat(guests[0], &"long ".repeat(400)); // More than a turn takes.
    world.deliver(guests[0], usize::MAX);
    while world.core.counters().received == received {
        turn(&mut world);
    }
    world.advance(Duration::from_millis(9));
    turn(&mut world);
    assert_eq!(heard(&world, guests[0]), before, "it gathers");
    world.advance(Duration::from_millis(1));
    turn(&mut world);
    assert_eq!(heard(&world, guests[0]), before + 1);

    // Where the clock stands still, or so it looks, after so much work: a mebibyte, and a tick is
    // 8 KiB or more, since a turn that has begun is ended.
    let (received, before) = (world.core.counters().received, heard(&world, guests[0]));
    world.chat(guests[0], &"long ".repeat(400));
    world.deliver(guests[0], usize::MAX);
    while world.core.counters().received == received {
        turn(&mut world);
    }
    let mut turns = 0;
    while heard(&world, guests[0]) == before {
        turn(&mut world);
        turns += 1;
    }
    assert!((16..=128).contains(&turns), "{turns} turns");
}
