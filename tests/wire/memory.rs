//! The ceiling on memory: what the server counts is what the kernel says it has, and near the ceiling things give
//! way in the promised order.
#![cfg(target_os = "linux")]

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::client::{
    FIN, Http, PING, Request, Stream, TEXT, Ws, frame, frame_header, get, post, upgrade,
};
use crate::server::{Server, wait_until};

/// Nothing that is to be measured may end by itself, nor be refused.
pub const PATIENT: [&str; 24] = [
    "--header-timeout",
    "1h",
    "--body-timeout",
    "1h",
    "--idle-timeout",
    "1h",
    "--ping-interval",
    "1h",
    "--room-ttl",
    "1h",
    "--new-room-ttl",
    "1h",
    "--message-rate",
    "0",
    "--room-rate",
    "0",
    "--session-rate",
    "0",
    "--address-connections",
    "0",
    "--trusted-proxy",
    "127.0.0.0/8",
    "--log",
    "warn",
];

fn start(more: &[&'static str]) -> Server {
    Server::start_with_metrics(&[&PATIENT[..], more].concat())
}

/// One number of the metrics.
pub fn metric(server: &Server, name: &str) -> u64 {
    let text = Http::connect(&server.addresses[1]).ask(&get("/metrics")).expect(200).text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

pub fn counted(server: &Server) -> u64 {
    metric(server, "chat_memory_bytes")
}

/// Under `SLOW_TESTS=1` all that the issue asks for, else a fiftieth.
fn scale(full: usize) -> usize {
    if std::env::var_os("SLOW_TESTS").is_some() { full } else { full / 50 }
}

/// This process holds the other end of every connection.
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a limit");
}

/// Fills a fresh server, and holds what it then counts against what it has.
fn measure<T>(what: &str, fill: impl FnOnce(&Server) -> T) {
    raise_descriptor_limit();
    let server = start(&["--max-memory", "1G", "--max-sessions", "200000", "--outbox", "8M"]);
    // What every server has once it has done its first work.
    let (_room, _ana, bob) = server.room_of_two();
    bob.close();
    let (counted_empty, empty) = (counted(&server), server.resident_kib() * 1024);
    let kept = fill(&server);
    let (counted, resident) =
        (counted(&server) - counted_empty, server.resident_kib() * 1024 - empty);
    drop(kept);
    let ratio = resident as f64 / counted as f64;
    println!(
        "{what:44} counted {:7.2} MiB, resident {:7.2} MiB, {ratio:.2}",
        counted as f64 / 1_048_576.0,
        resident as f64 / 1_048_576.0,
    );
    assert!(counted > 50_000, "{what}: nothing was filled");
    // The megabyte is what making the longest answers takes for a moment.
    assert!(resident <= counted + counted / 4 + 1024 * 1024, "{what}: {resident} for {counted}");
}

fn connections(server: &Server, count: usize) -> Vec<Http> {
    let all: Vec<_> = (0..count).map(|_| server.http()).collect();
    wait_until("all are accepted", || {
        metric(server, "chat_connections{protocol=\"http\"}") > count as u64
    });
    all
}

/// Many requests over one connection; the answers' statuses.
pub fn pipeline(
    server: &Server,
    count: usize,
    request: impl Fn(usize) -> Request,
) -> Vec<crate::client::Answer> {
    let mut http = server.http();
    let mut answers = Vec::new();
    for first in (0..count).step_by(50) {
        let requests: Vec<_> = (first..count.min(first + 50)).map(&request).collect();
        answers.extend(http.pipeline(&requests));
    }
    answers
}

pub fn sessions(server: &Server, count: usize) -> Vec<String> {
    let open = |n: usize| post("/sessions").json(&json!({"username": format!("Somebody {n}")}));
    let answers = pipeline(server, count, open).into_iter().map(|answer| answer.expect(201));
    answers.map(|answer| answer.json()["session_id"].as_str().unwrap().to_owned()).collect()
}

pub fn rooms(server: &Server, session: &str, count: usize) -> Vec<String> {
    let answers = pipeline(server, count, |_| post("/rooms").session(session)).into_iter();
    let ids =
        answers.map(|answer| answer.expect(201).json()["room_id"].as_str().unwrap().to_owned());
    ids.collect()
}

/// Sockets in rooms of ten.
fn sockets(server: &Server, count: usize) -> Vec<Ws> {
    let owner = server.session("owner");
    let people = sessions(server, count.min(1000));
    let rooms = rooms(server, &owner, count.div_ceil(10).min(150));
    let enter = |n: usize| {
        let session = &people[n % people.len()];
        server.socket(&rooms[(n / 10) % rooms.len()], session)
    };
    (0..count).map(enter).collect()
}

#[test]
fn idle_connections_are_counted() {
    measure("connections that say nothing", |server| connections(server, scale(10_000)));
    measure("connections kept alive after an answer", |server| {
        let mut all = connections(server, scale(10_000));
        all.iter_mut().for_each(|http| _ = http.ask(&get("/ping")));
        all
    });
    measure("sockets", |server| sockets(server, scale(10_000)));
}

#[test]
fn sessions_rooms_and_members_are_counted() {
    measure("sessions", |server| sessions(server, scale(100_000)));
    measure("sessions, each from an address of its own", |server| {
        let create = |n: usize| {
            let address = format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
            post("/sessions").json(&json!({"username": "Ana"})).field("X-Forwarded-For", &address)
        };
        pipeline(server, scale(100_000), create)
            .into_iter()
            .for_each(|answer| _ = answer.expect(201));
    });
    measure("rooms", |server| {
        let people = sessions(server, scale(50_000).div_ceil(200));
        people.iter().for_each(|person| _ = rooms(server, person, 200));
    });
    measure("rooms with a title and a password", |server| {
        let people = sessions(server, scale(20_000).div_ceil(200));
        let body = json!({"title": "x".repeat(80), "password": "sesame"});
        for person in &people {
            let open = |_| post("/rooms").session(person).json(&body);
            pipeline(server, 200, open).into_iter().for_each(|answer| _ = answer.expect(201));
        }
    });
    measure("memberships", |server| {
        let owner = server.session("owner");
        let rooms = rooms(server, &owner, 200);
        for person in sessions(server, scale(1000)) {
            let join = |n: usize| post(&format!("/rooms/{}/join", rooms[n])).session(&person);
            pipeline(server, 200, join).into_iter().for_each(|answer| _ = answer.expect(200));
        }
    });
}

#[test]
fn histories_are_counted() {
    let fill = |server: &Server, count: usize, body: &dyn Fn(usize) -> serde_json::Value| {
        let owner = server.session("owner");
        for room in rooms(server, &owner, count) {
            let say =
                |n: usize| post(&format!("/rooms/{room}/messages")).session(&owner).json(&body(n));
            pipeline(server, 1000, say).into_iter().for_each(|answer| _ = answer.expect(201));
        }
    };
    measure("histories of small messages", |server| {
        fill(server, scale(200), &|n| json!({"message": format!("{n}")}));
    });
    measure("the same with nonces", |server| {
        fill(server, scale(200), &|n| json!({"message": "a", "nonce": format!("{n:064}")}));
    });
    measure("histories of large messages", |server| {
        fill(server, scale(100), &|n| json!({"message": format!("{n:04000}")}));
    });
    measure("histories of messages of all sizes", |server| {
        fill(server, scale(100), &|n| json!({"message": format!("{n:0$}", 1 + n * 7919 % 4000)}));
    });
}

/// Fills the outbox of somebody who does not read, by pings.
fn stall(server: &Server, ws: &mut Ws, payload: usize) {
    let pings = frame(FIN | PING, vec![b'x'; payload]).repeat(200);
    let before = counted(server);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while counted(server) < before + 150_000 {
        assert!(std::time::Instant::now() < deadline, "nothing is queued");
        ws.send(&pings);
    }
}

#[test]
fn what_slow_readers_leave_queued_is_counted() {
    for payload in [0, 125] {
        measure(&format!("outboxes full of pongs of {payload} bytes"), |server| {
            let room = server.room(&server.session("owner"));
            let people = sessions(server, scale(100).min(15));
            let enter = |session: &String| {
                let http = Http::over(Stream::connect_narrow(server.address()), server.address());
                let target = format!("/ws/{room}?session_id={}", session);
                http.upgrade(&upgrade(&target))
            };
            let mut stalled: Vec<_> = people.iter().map(enter).collect();
            stalled.iter_mut().for_each(|ws| stall(server, ws, payload));
            stalled
        });
    }
    measure("answers nobody takes", |server| {
        let owner = server.session("owner");
        let people: Vec<_> = sessions(server, 5);
        people.iter().for_each(|person| _ = rooms(server, person, 200));
        let ask = |_| {
            let mut http = Http::over(Stream::connect_narrow(server.address()), server.address());
            for _ in 0..20 {
                http.send_request(&get("/rooms/all?detail=true").session(&owner));
            }
            http
        };
        let all: Vec<_> = (0..scale(1000).max(50)).map(ask).collect();
        server.ask(get("/ping")).expect(200);
        all
    });
}

#[test]
fn what_is_half_sent_is_counted() {
    let count = scale(2000);
    let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 61440\r\n\r\n";
    measure("bodies of 60 KiB but for the last byte", |server| {
        let mut all = connections(server, count);
        for http in &mut all {
            http.send([head.as_bytes(), &[b' '; 61_439]].concat());
        }
        wait_until("all has arrived", || {
            metric(server, "chat_bytes_received_total") > 61_439 * count as u64
        });
        all
    });
    measure("heads of 15 KiB but for the last byte", |server| {
        let mut all = connections(server, count);
        let field = format!("X-Field: {}\r\n", "x".repeat(150));
        let head = format!("GET /ping HTTP/1.1\r\nHost: a\r\n{}", field.repeat(92));
        all.iter_mut().for_each(|http| http.send(&head));
        wait_until("all has arrived", || {
            metric(server, "chat_bytes_received_total") > (head.len() * count) as u64
        });
        all
    });
    measure("messages of 60 KiB but for the last byte", |server| {
        let mut all = sockets(server, count);
        let message = [frame_header(FIN | TEXT, 61_440), vec![b'x'; 61_439]].concat();
        all.iter_mut().for_each(|ws| ws.send(&message));
        wait_until("all has arrived", || {
            metric(server, "chat_bytes_received_total") > 61_439 * count as u64
        });
        all
    });
    measure("messages in fragments but for the last byte", |server| {
        let mut all = sockets(server, count);
        let first = frame(TEXT, [b'x'; 31_000]);
        let second = [frame_header(FIN, 30_000), vec![b'x'; 29_999]].concat();
        let message = [first, second].concat();
        all.iter_mut().for_each(|ws| ws.send(&message));
        wait_until("all has arrived", || {
            metric(server, "chat_bytes_received_total") > 60_000 * count as u64
        });
        all
    });
}

/// A server that is soon full.
fn small() -> Server {
    start(&["--max-memory", "1M", "--outbox", "8M", "--linger-timeout", "1m"])
}

/// Bodies of which one byte is missing, until so many hundredths of the ceiling are counted: bytes
/// that nobody can forget.
fn fill_to(server: &Server, bodies: &mut Vec<Http>, hundredths: u64) {
    let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 8192\r\n\r\n";
    let body = [head.as_bytes(), &[b' '; 8191]].concat();
    let enough = metric(server, "chat_memory_max_bytes") / 100 * hundredths;
    while counted(server) <= enough {
        let mut http = server.http();
        let received = || metric(server, "chat_bytes_received_total");
        let before = received();
        http.send(&body);
        // Not until more is counted: for it some messages may be forgotten, or a page of slots.
        wait_until("it has come", || received() >= before + body.len() as u64);
        bodies.push(http);
    }
}

// contract §12.22
#[test]
fn the_idlest_rooms_histories_give_way_and_nobody_is_refused() {
    let server = small();
    let ana = server.session("ana");
    let rooms: Vec<_> = (0..4).map(|_| server.room(&ana)).collect();
    for room in &rooms {
        (0..70).for_each(|n| _ = server.say(room, &ana, &format!("{n:04000}")));
    }
    assert!(metric(&server, "chat_messages_forgotten_total") > 50);
    assert!(counted(&server) <= metric(&server, "chat_memory_max_bytes") / 100 * 81);
    let kept: Vec<_> = rooms.iter().map(|room| server.messages(room, &ana).len()).collect();
    assert_eq!(kept[2..], [70, 70], "who spoke last keeps all: {kept:?}");
    assert!(kept[0] == 0 && kept[1] < 70, "{kept:?}");
    server.session("bob");
    server.room(&ana);
}

// contract §1.4 §7.9 §12.22
#[test]
fn near_the_ceiling_nothing_new_is_taken_in_and_everything_again_below_it() {
    let server = small();
    let (room, ana, mut bob) = server.room_of_two();
    let carl = server.session("carl");
    let other = server.room(&ana.session);
    let mut known = server.http();
    let mut more = server.http();
    [&mut known, &mut more].into_iter().for_each(|http| _ = http.ask(&get("/ping")).expect(200));
    let mut bodies = Vec::new();
    fill_to(&server, &mut bodies, 85);
    let open = post("/sessions").json(&json!({"username": "dora"}));
    let answer = known.ask(&open).refused(503, "server_full");
    assert_eq!(answer.field("Retry-After"), Some("10"));
    known.ask(&post("/rooms").session(&carl)).refused(503, "server_full");
    known.ask(&post(&format!("/rooms/{room}/join")).session(&carl)).expect(200);
    fill_to(&server, &mut bodies, 90);
    known.ask(&post(&format!("/rooms/{other}/join")).session(&carl)).refused(503, "server_full");
    server.ask(get("/ping")).refused(503, "server_full");
    let target = format!("/ws/{room}?session_id={carl}");
    known.ask(&upgrade(&target)).refused(503, "server_full");
    known.ask(&get("/ping")).expect(200);
    bob.chat("who is in talks on");
    bob.expect_chat("bob", "who is in talks on");
    drop(bodies);
    wait_until("there is room again", || known.ask(&open).status == 201);
    server.ask(get("/ping")).expect(200);
    more.upgrade(&upgrade(&target)).expect_join("carl");
}

// contract §5.6
#[test]
fn near_the_ceiling_the_key_and_the_origin_are_asked_about_first() {
    let full = ["--max-memory", "1M", "--outbox", "8M", "--linger-timeout", "1m"];
    let server = start(&[&full[..], &["--cors-origin", "https://page.example"]].concat());
    let ana = server.session("ana");
    let target = format!("/ws/{}?session_id={ana}", server.room(&ana));
    let mut known = server.http();
    known.ask(&get("/ping")).expect(200);
    let mut bodies = Vec::new();
    fill_to(&server, &mut bodies, 90);
    let foreign = upgrade(&target).field("Origin", "https://other.example");
    let keyless = foreign.clone().without("Sec-WebSocket-Key");
    known.ask(&keyless.without("Upgrade")).refused(426, "upgrade_required");
    known.ask(&foreign.clone().without("Sec-WebSocket-Key")).refused(400, "bad_request");
    known.ask(&foreign).refused(403, "bad_origin");
    known.ask(&upgrade(&target)).refused(503, "server_full");
}

// contract §7.9 §12.22
#[test]
fn past_all_that_whoever_has_the_server_keep_most_is_closed() {
    let server = small();
    let (room, ana, mut bob) = server.room_of_two();
    let http = Http::over(Stream::connect_narrow(server.address()), server.address());
    let mut slow = http.upgrade(&upgrade(&format!("/ws/{room}?session_id={}", ana.session)));
    stall(&server, &mut slow, 125);
    let mut bodies: Vec<_> = (0..16).map(|_| server.http()).collect();
    let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 61440\r\n\r\n";
    for http in &mut bodies {
        http.send(head);
        http.send(vec![b' '; 61_439]);
    }
    // Its outbox was the largest.
    wait_until("somebody is closed", || metric(&server, "chat_shed_total") > 0);
    // The kernel that has met a full window looks again ever more seldom: on a busy machine it may
    // wait as long as all this took.
    slow.stream().set_read_timeout(Duration::from_secs(60));
    let (code, reason) = slow.closed();
    assert_eq!((code, &reason[..]), (1013, "server full"));
    assert!(metric(&server, "chat_shed_total") >= 1);
    bob.chat("who reads stays");
    bob.expect_chat("bob", "who reads stays");
    assert!(counted(&server) <= metric(&server, "chat_memory_max_bytes"));
}

/// What is counted when nobody is there but who asks, and nothing of anybody else. Who asks is new each time:
/// with the last connection goes what a crowd has stretched a little.
fn total_without_others(server: &Server) -> Option<u64> {
    let text = Http::connect(&server.addresses[1]).ask(&get("/metrics")).expect(200).text();
    let number = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("a number").parse::<u64>().expect("a number")
    };
    let others = number("chat_rooms")
        + number("chat_sessions")
        + number("chat_connections{protocol=\"http\"}");
    (others == 1).then_some(number("chat_memory_bytes"))
}

/// The same of an empty server, once whoever asked before has gone without a trace.
pub fn total_of_none(server: &Server) -> u64 {
    let mut last = [None; 3];
    wait_until("nobody else is there", || {
        last = [last[1], last[2], total_without_others(server)];
        last[0].is_some() && last.iter().all(|total| *total == last[0])
    });
    last[0].expect("a total")
}

/// Everything is over, and the count is exactly what it was.
pub fn wait_for_total(server: &Server, before: u64) {
    wait_until("all is over, and the count is what it was", || {
        total_without_others(server) == Some(before)
    });
}

#[test]
fn after_a_crowd_has_come_and_gone_the_count_is_what_it_was() {
    let short = ["--room-ttl", "2s", "--new-room-ttl", "2s", "--session-ttl", "2s"];
    let server = start(&short);
    let before = total_of_none(&server);
    for _ in 0..scale(100).min(3) {
        let people = sessions(&server, scale(20_000));
        people.iter().step_by(100).for_each(|person| _ = rooms(&server, person, 100));
        let crowd = sockets(&server, scale(5000));
        crowd.into_iter().for_each(Ws::close);
        wait_for_total(&server, before);
    }
}
