//! Attacks on three servers with one store, while people at all three chat.
//!
//! Attackers come through a balancer, each from an address of its own, and in another test they ask the
//! servers themselves, with the field by which a balancer passes an address on: that is a harder attack,
//! because the balancer of the tests is the bottleneck of the first. Innocents lose no message, all receive
//! the same order, and none is refused. Time is never asserted, because a busy machine has none; a report
//! prints how long messages took, and `cargo bench` (`--cluster --only attacks`) measures it:
//!
//! ```sh
//! ATTACK_REPORT=1 SLOW_TESTS=1 cargo test --release --features cluster --test cluster -- attacks --nocapture
//! ```

use std::env;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::balancer::Balancer;
use crate::client::{Answer, Http, Request, Ws, chat_with, delete, get, patch, post, text};
use crate::nodes::Nodes;
use crate::proxied::{self, address, from};
use crate::server::front::{self, await_store};
use crate::server::{Address, Entrance, Server, is_slow, raise_descriptor_limit, wait_until};
use crate::stores::Store;

const NODES: usize = 3;

/// Hostile addresses, each with a connection of its own.
const ADDRESSES: usize = 100;

/// Requests that a hostile connection sends at a time.
const BATCH: usize = 20;

const FLAGS: &[&str] = &[
    "--trusted-proxy",
    "127.0.0.1",
    "--message-rate",
    "0",
    "--session-rate",
    "0",
    "--room-rate",
    "0",
    // On a busy machine an attacker's turn to send its first request may come late.
    "--header-timeout",
    "1h",
    "--idle-timeout",
    "1h",
    "--log",
    "warn",
];

/// How attackers and innocents reach the servers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the balancer, which names the address that they come from.
    Balanced,
    /// Each its own server, with the field that a balancer would add.
    Direct,
}

impl Way {
    fn entrance(self, nodes: &Nodes, number: usize) -> &Entrance {
        match self {
            Way::Balanced => nodes,
            Way::Direct => nodes.node(number % NODES),
        }
    }

    /// An attacker's connection.
    fn attacker(self, nodes: &Nodes, number: usize) -> Http {
        match self {
            Way::Balanced => nodes.http_from(source(number)),
            Way::Direct => self.entrance(nodes, number).http(),
        }
    }

    fn of_attacker(self, request: Request, number: usize) -> Request {
        match self {
            Way::Balanced => request,
            Way::Direct => from(request, &address(number)),
        }
    }
}

/// An attacker's address at the balancer. Only 127.0.0.1 is trusted to name another one.
fn source(number: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, 1 + number as u8).into()
}

/// A room with one person at each server, who chat in turn. Behind the balancer, whose turns their requests
/// take, two of them may be at one server.
struct Innocents {
    room: String,
    people: Vec<Ws>,
    rounds: usize,
}

impl Innocents {
    fn enter(nodes: &Nodes, way: Way) -> Innocents {
        let name = |number: usize| format!("innocent {number}");
        let from = |number: usize| format!("192.0.2.{}", 1 + number);
        let first = way.entrance(nodes, 0);
        let owner = proxied::session(first, &name(0), &from(0));
        let room = proxied::room(first, &owner, &from(0));
        let mut people: Vec<Ws> = Vec::new();
        for number in 0..NODES {
            let node = way.entrance(nodes, number);
            let session = match number {
                0 => owner.clone(),
                _ => proxied::session(node, &name(number), &from(number)),
            };
            let mut ws = proxied::socket(node, &room, &session, &from(number));
            ws.expect_join(&name(number));
            people.iter_mut().for_each(|one| _ = one.expect_join(&name(number)));
            people.push(ws);
        }
        Innocents { room, people, rounds: 0 }
    }

    /// Chats for so many rounds. Returns how long each person waited for each message.
    fn chat(&mut self, rounds: usize) -> Vec<Duration> {
        let mut latencies = Vec::new();
        for _ in 0..rounds {
            let sender = self.rounds % NODES;
            let said = format!("round {}", self.rounds);
            self.rounds += 1;
            let begun = Instant::now();
            self.people[sender].chat(&said);
            let mut heard = Vec::new();
            for person in &mut self.people {
                heard.push(person.expect_chat(&format!("innocent {sender}"), &said)["id"].clone());
                latencies.push(begun.elapsed());
            }
            assert!(heard.iter().all(|id| *id == heard[0]), "one message with one id");
            thread::sleep(Duration::from_millis(10).saturating_sub(begun.elapsed()));
        }
        latencies
    }
}

fn report(what: &str, mut latencies: Vec<Duration>, answers: usize, refused: usize) {
    if env::var_os("ATTACK_REPORT").is_none() {
        return;
    }
    latencies.sort_unstable();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: p50 {:?}, p99 {:?}, max {:?}; {answers} answers, {refused} of them 503",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Asserts that an answer is one of these, or says that the store is busy. Returns whether it does.
#[track_caller]
fn is_refused(answer: Answer, expected: &[u16]) -> bool {
    if expected.contains(&answer.status) {
        return false;
    }
    let answer = answer.refused(503, "unavailable");
    assert_eq!(answer.field("Retry-After"), Some("1"));
    true
}

struct Flood<'a> {
    what: &'a str,
    /// The request of this number, of this attacker.
    request: &'a (dyn Fn(usize, usize) -> Request + Sync),
    expected: &'a [u16],
}

impl Flood<'_> {
    /// Floods all servers from all addresses while the innocents chat.
    fn run(&self, nodes: &Nodes, way: Way, innocents: &mut Innocents, rounds: usize) {
        let (is_over, answers, refused) =
            (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        let latencies = thread::scope(|scope| {
            const THREADS: usize = 4;
            for thread in 0..THREADS {
                let (is_over, answers, refused) = (&is_over, &answers, &refused);
                scope.spawn(move || {
                    let numbers = (0..ADDRESSES).filter(|number| number % THREADS == thread);
                    let mut peers: Vec<(usize, Http)> =
                        numbers.map(|one| (one, way.attacker(nodes, one))).collect();
                    let mut count = 0;
                    while !is_over.load(Ordering::SeqCst) {
                        for (number, http) in &mut peers {
                            let request =
                                |at| way.of_attacker((self.request)(count + at, *number), *number);
                            let batch: Vec<Request> = (0..BATCH).map(request).collect();
                            for answer in http.pipeline(&batch) {
                                let is_refused = is_refused(answer, self.expected);
                                answers.fetch_add(1, Ordering::SeqCst);
                                refused.fetch_add(usize::from(is_refused), Ordering::SeqCst);
                            }
                        }
                        count += BATCH;
                    }
                });
            }
            wait_until("the flood has begun", || answers.load(Ordering::SeqCst) > 0);
            let latencies = innocents.chat(rounds);
            is_over.store(true, Ordering::SeqCst);
            latencies
        });
        let (answers, refused) = (answers.into_inner(), refused.into_inner());
        report(self.what, latencies, answers, refused);
        assert!(answers > refused, "{}: some are served", self.what);
    }
}

// contract §17.2
#[test]
fn floods_at_three_servers_disturb_no_chat() {
    disturb_no_chat(Way::Direct, if is_slow() { 500 } else { 40 });
}

// contract §17.2
#[test]
fn floods_through_a_balancer_disturb_no_chat() {
    disturb_no_chat(Way::Balanced, 40);
}

fn disturb_no_chat(way: Way, rounds: usize) {
    Store::each(|store| {
        let nodes = Nodes::start(NODES, store, FLAGS);
        let mut innocents = Innocents::enter(&nodes, way);
        report("nobody attacks", innocents.chat(rounds), 0, 0);
        let sessions: Vec<String> = (0..ADDRESSES)
            .map(|number| proxied::session(nodes.node(number % NODES), "mallory", &address(number)))
            .collect();
        let rooms: Vec<String> = (0..4)
            .map(|number| proxied::room(nodes.node(0), &sessions[number], &address(number)))
            .collect();
        let page = innocents.room.clone();
        for session in &sessions {
            let join = post(&format!("/rooms/{page}/join")).session(session);
            nodes.node(0).ask(join).expect(200);
        }
        let show = |count: usize, number: usize| match count % 2 {
            0 => get(&format!("/rooms/{}", rooms[number % rooms.len()])),
            _ => get(&format!("/rooms/{:010x}", count * ADDRESSES + number)),
        };
        let wrong = |count: usize, number: usize| {
            let number = count * ADDRESSES + number;
            get("/sessions/me").session(&format!("{number:08x}-0000-4000-8000-000000000000"))
        };
        let join = |count: usize, number: usize| {
            let room = &rooms[count / 2 % rooms.len()];
            let target = format!("/rooms/{room}");
            let request = match count % 2 {
                0 => post(&format!("{target}/join")),
                _ => delete(&format!("{target}/leave")),
            };
            request.session(&sessions[number])
        };
        let read = |_: usize, number: usize| {
            get(&format!("/rooms/{page}/messages?limit=100")).session(&sessions[number])
        };
        for flood in [
            Flood { what: "GET /rooms/{id}", request: &show, expected: &[200, 404] },
            Flood { what: "wrong sessions", request: &wrong, expected: &[401] },
            Flood { what: "joins", request: &join, expected: &[200] },
            Flood { what: "messages pages", request: &read, expected: &[200] },
        ] {
            flood.run(&nodes, way, &mut innocents, rounds);
        }
    });
}

/// A store that is stopped until the guard is dropped.
struct Stopped(Pid);

impl Stopped {
    fn stop(store: &Store) -> Stopped {
        let pid = Pid::from_raw(store.pid() as i32).expect("a process");
        kill_process(pid, Signal::STOP).expect("it runs");
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

fn bytes_for_store(node: &Server) -> u64 {
    node.metric(r#"chat_memory_account_bytes{account="store"}"#)
}

/// First calls that one server takes: those that the store has, and those that wait for their turn.
const FIRST_CALLS: usize = 128 + 4096;

/// Regression: a peer whose message was under way could have replies kept without a bound, and requests
/// were passed on as fast as they came.
// contract §17.2
#[test]
fn what_waits_for_a_silent_store_is_bounded_and_counted() {
    const PINGS: usize = 5000;
    raise_descriptor_limit();
    Store::each(|store| {
        let url = store.url();
        let mut flags = vec!["--cluster", &url, "--log", "warn"];
        flags.extend(["--cluster-timeout", "50s", "--cluster-lease", "60s"]);
        flags.extend(["--trusted-proxy", "127.0.0.1"]);
        let node = Server::start_with_metrics(&flags);
        await_store(&node);
        let balancer = Balancer::start(vec![front::address(&node)]);
        let balanced = Entrance { addresses: vec![Address::Tcp(balancer.address())] };
        let ana = node.session("ana");
        let room = node.room(&ana);
        let bo = node.session("bo");
        let mut ana = node.enter_as(&room, "ana", &ana);
        let stopped = Stopped::stop(store);
        let before = bytes_for_store(&node);
        // Each ping is answered behind the message, which is on its way to the store.
        ana.chat("hello");
        ana.send(text(r#"{"type":"ping"}"#).repeat(PINGS));
        let mut last = 0;
        wait_until("it reads no more", || {
            thread::sleep(Duration::from_millis(100));
            let held = bytes_for_store(&node);
            std::mem::replace(&mut last, held) == held
        });
        let held = bytes_for_store(&node) - before;
        assert!((1..100 * 1024).contains(&held), "{held} bytes for one connection");
        let mut asking: Vec<Http> = Vec::new();
        for number in 0..FIRST_CALLS + 1 {
            let mut http = node.http();
            http.send_request(&get(&format!("/rooms/{number:010x}")));
            asking.push(http);
        }
        wait_until("the queue is full", || {
            node.metric(r#"chat_refused_total{code="unavailable"}"#) == 1
        });
        // Whatever comes through the balancer, from whichever address, is refused at once.
        let flood = |number: usize| match number % 4 {
            0 => get(&format!("/rooms/{room}")),
            1 => get("/sessions/me").session(&format!("{number:08x}-0000-4000-8000-000000000000")),
            2 => post(&format!("/rooms/{room}/join")).session(&bo),
            _ => get(&format!("/rooms/{room}/messages")).session(&bo),
        };
        let mut attackers: Vec<Http> = Vec::new();
        for number in 0..ADDRESSES {
            let mut http = balanced.http_from(source(number));
            assert!(is_refused(http.ask(&flood(number)), &[]));
            attackers.push(http);
        }
        balanced.socket(&room, &bo).expect_close(1013, "unavailable");
        let held = bytes_for_store(&node) - before;
        assert!((1 << 20..8 << 20).contains(&held), "{held} bytes");
        drop(stopped);
        let answers = asking.iter_mut().map(Http::answer);
        let refused = answers.filter(|answer| is_refused(answer.clone(), &[404])).count();
        assert_eq!(refused, 1, "what waits is answered");
        for (number, mut http) in attackers.into_iter().enumerate() {
            let expected = [200, 401, 200, 200][number % 4];
            http.ask(&flood(number)).expect(expected);
        }
        ana.expect_chat("ana", "hello");
        for _ in 0..PINGS {
            ana.expect_event(&json!({"type": "pong"}));
        }
        wait_until("nothing is kept any more", || bytes_for_store(&node) < before + 64 * 1024);
    });
}

/// What an attacker hopes will end an argument, a field of a record, or a command.
const HOSTILE: &[&str] = &[
    "\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
    "\0",
    "a\0b\0c",
    " ",
    "a b  c",
    ":{1}:",
    "dc:{0}:r:",
    "$-1",
    "-ERR",
    "\u{2028}\u{FEFF}\u{202E}",
    "\u{10FFFF}\u{1F600}",
    "FF",
    "00C0",
    "%s%d%f",
    "return redis.call('FLUSHALL')",
    "]]..redis.call('FLUSHALL')..[[",
];

/// Whether a key is of a form that the functions write.
fn is_known(key: &str) -> bool {
    let Some(key) = key.strip_prefix("dc:{0}:") else { return false };
    let parts: Vec<&str> = key.split(':').collect();
    let is_hex = |text: &str, digits: &[usize]| {
        digits.contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_room = |text: &str| is_hex(text, &[10, 32]);
    const ROOM: &[&str] =
        &["r", "m", "o", "f", "p", "y", "x", "d", "k", "K", "n", "nz", "w", "g", "b", "gu", "gr"];
    match parts[..] {
        ["nodes" | "lease" | "cfg" | "due" | "rooms" | "ix" | "ir"] => true,
        ["at" | "sat" | "as" | "ar" | "cs" | "cr", name] => is_hex(name, &[16]),
        ["s" | "sr" | "so", session] => is_hex(session, &[32]),
        ["y", room, node] => is_room(room) && is_hex(node, &[16]),
        [kind, room] => ROOM.contains(&kind) && is_room(room),
        _ => false,
    }
}

/// What clients send reaches the store as arguments of functions and as nothing else.
// contract §17.1
#[test]
fn hostile_bytes_stay_what_they_are_and_name_no_key() {
    Store::each(|store| {
        let flags = ["--session-rate", "0", "--room-rate", "0", "--message-rate", "0"];
        let flags = [&flags[..], &["--guess-rate", "0", "--room-guess-rate", "0"]].concat();
        let nodes = Nodes::start(2, store, &flags);
        let (one, other) = (nodes.node(0), nodes.node(1));
        let ana = one.session("ana");
        let room = one.room(&ana);
        let mut here = one.enter_as(&room, "ana", &ana);
        let mut there = other.enter(&room, "bob");
        here.expect_join("bob");
        let mut names = 0;
        for (number, hostile) in HOSTILE.iter().enumerate() {
            // As a text and as a nonce, by a socket and by REST.
            let text = format!("{number}{hostile}.");
            here.send(chat_with(hostile, &text));
            let event = here.event();
            if event["type"] == "chat" {
                assert_eq!((&event["message"], &event["nonce"]), (&json!(text), &json!(hostile)));
                assert_eq!(there.event(), event);
            }
            let body = json!({"message": text, "nonce": format!("{number}-{hostile}")});
            let target = format!("/rooms/{room}/messages");
            let answer = other.ask(post(&target).session(&ana).json(&body));
            if answer.status == 201 {
                assert_eq!(answer.json()["message"], json!(text));
                assert_eq!((here.event(), there.event()), (answer.json(), answer.json()));
            }
            // As a name, a title and a password.
            let name = format!("n{number}{hostile}n");
            let answer = one.ask(post("/sessions").json(&json!({"username": name})));
            if answer.status == 201 {
                names += 1;
                let session = answer.string("session_id");
                let shown = other.ask(get("/sessions/me").session(&session)).expect(200).json();
                assert_eq!(shown["username"], json!(name));
                let mut socket = other.socket(&room, &session);
                socket.expect_join(&name);
                here.expect_join(&name);
                there.expect_join(&name);
                drop(socket);
                one.ask(delete("/sessions/me").session(&session)).expect(200);
                here.expect_left(&name);
                there.expect_left(&name);
            }
            let body = json!({"title": format!("t{hostile}t"), "password": hostile});
            let answer = one.ask(post("/rooms").session(&ana).json(&body));
            if answer.status == 201 {
                let room = answer.string("room_id");
                let title = &other.ask(get(&format!("/rooms/{room}"))).expect(200).json()["title"];
                assert_eq!(title, &json!(format!("t{hostile}t")));
                let bob = other.session("bob");
                let join = |password: &str| {
                    let join = post(&format!("/rooms/{room}/join")).session(&bob);
                    other.ask(join.json(&json!({"password": password})))
                };
                join("x").refused(403, "bad_password");
                join(hostile).expect(200);
            }
            let change = json!({"title": format!("{hostile}{number}")});
            let target = format!("/rooms/{room}");
            let changed = other.ask(patch(&target).session(&ana).json(&change));
            if changed.status == 200 {
                here.expect_change();
                there.expect_change();
                let shown = one.ask(get(&target)).expect(200).json();
                let title = change["title"].as_str().expect("a text").trim();
                assert_eq!(shown["title"], json!(title));
            }
            // As an id: of a room, a session, a message, a person.
            let escaped: String = hostile.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let long = format!("/rooms/{escaped}");
            for target in [&long, &format!("{long}/messages"), &format!("{long}/users")] {
                one.ask(get(target).session(&ana)).refused(404, "room_not_found");
            }
            let user = format!("/rooms/{room}/users/{escaped}");
            let message = format!("/rooms/{room}/messages/{escaped}");
            for request in [delete(&user), delete(&message)] {
                assert_eq!(one.ask(request.session(&ana)).status, 404);
            }
            let after = format!("/rooms/{room}/messages?after={escaped}");
            let read = one.ask(get(&after).session(&ana)).expect(200).json();
            assert_eq!(read["complete"], json!(false));
            one.ask(get("/sessions/me").session(&escaped)).refused(401, "invalid_session");
        }
        assert!(names > 5, "{names} names are allowed");
        let read = |node: &Server| -> Vec<Value> { node.messages(&room, &ana) };
        assert_eq!(read(one), read(other));
        let mut admin = store.admin();
        let keys = admin.must(&["KEYS", "*"]);
        assert!(keys.list().len() > 10);
        let unknown: Vec<String> =
            keys.list().iter().map(|key| key.text()).filter(|key| !is_known(key)).collect();
        assert_eq!(unknown, [""; 0]);
        let calls = admin.must(&["INFO", "commandstats"]).text();
        assert!(!calls.contains("cmdstat_flushall") && calls.contains("cmdstat_fcall"));
    });
}
