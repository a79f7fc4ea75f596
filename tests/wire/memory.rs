//! The ceiling on memory (`--max-memory`): the memory that the server counts is close to its resident memory, and
//! near the ceiling things give way in the documented order.
#![cfg(target_os = "linux")]

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{FIN, Http, PING, Request, TEXT, Ws, frame, frame_header, get, post, upgrade};
use crate::server::{
    DEADLINE, Server, alone_if_slow, is_slow, metric_in, raise_descriptor_limit, wait_until,
};

/// With these flags, nothing that a test measures times out or is refused.
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

/// The memory that the server counts, in bytes.
pub fn counted(server: &Server) -> u64 {
    server.metric("chat_memory_bytes")
}

/// The full number under `SLOW_TESTS=1`, otherwise a fiftieth.
fn scale(full: usize) -> usize {
    if is_slow() { full } else { full / 50 }
}

/// Fills a new server, and compares the growth of counted memory with that of resident memory.
fn measure<T>(what: &str, fill: impl FnOnce(&Server) -> T) {
    raise_descriptor_limit();
    let server = start(&["--max-memory", "1G", "--max-sessions", "200000", "--outbox", "8M"]);
    // The first requests allocate what every server needs.
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
    assert!(counted > 50_000, "{what}: only {counted} bytes counted");
    // The megabyte is for the buffers of the longest responses.
    assert!(
        resident <= counted + counted / 4 + 1024 * 1024,
        "{what}: {resident}, counted {counted}"
    );
}

fn connections(server: &Server, count: usize) -> Vec<Http> {
    let all: Vec<_> = (0..count).map(|_| server.http()).collect();
    wait_until("all connections are accepted", || {
        server.metric("chat_connections{protocol=\"http\"}") > count as u64
    });
    all
}

/// Sends `count` requests over one connection, fifty at a time, and returns the responses.
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
    let open = |n: usize| post("/sessions").json(&json!({"username": format!("user {n}")}));
    let answers = pipeline(server, count, open).into_iter().map(|answer| answer.expect(201));
    answers.map(|answer| answer.string("session_id")).collect()
}

pub fn rooms(server: &Server, session: &str, count: usize) -> Vec<String> {
    let answers = pipeline(server, count, |_| post("/rooms").session(session)).into_iter();
    let ids = answers.map(|answer| answer.expect(201).string("room_id"));
    ids.collect()
}

/// Sockets in rooms of ten users.
fn sockets(server: &Server, count: usize) -> Vec<Ws> {
    let owner = server.session("owner");
    let users = sessions(server, count.min(1000));
    let rooms = rooms(server, &owner, count.div_ceil(10).min(150));
    let enter = |n: usize| {
        let session = &users[n % users.len()];
        server.socket(&rooms[(n / 10) % rooms.len()], session)
    };
    (0..count).map(enter).collect()
}

#[test]
fn idle_connections_are_counted() {
    let _alone = alone_if_slow();
    measure("connections that have sent nothing", |server| connections(server, scale(10_000)));
    measure("connections that wait for the next request", |server| {
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
        let users = sessions(server, scale(50_000).div_ceil(200));
        users.iter().for_each(|user| _ = rooms(server, user, 200));
    });
    measure("rooms with a title and a password", |server| {
        let users = sessions(server, scale(20_000).div_ceil(200));
        let body = json!({"title": "x".repeat(80), "password": "sesame"});
        for user in &users {
            let open = |_| post("/rooms").session(user).json(&body);
            pipeline(server, 200, open).into_iter().for_each(|answer| _ = answer.expect(201));
        }
    });
    measure("memberships", |server| {
        let owner = server.session("owner");
        let rooms = rooms(server, &owner, 200);
        for user in sessions(server, scale(1000)) {
            let join = |n: usize| post(&format!("/rooms/{}/join", rooms[n])).session(&user);
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

/// Fills the outbox of a socket that does not read, by pings.
fn stall(server: &Server, ws: &mut Ws, payload: usize) {
    let ping = frame(FIN | PING, vec![b'x'; payload]);
    let pings = ping.repeat(25_000 / ping.len());
    let before = counted(server);
    let deadline = Instant::now() + DEADLINE;
    // A server with a low ceiling may have closed it meanwhile, if it read much at once.
    while counted(server) < before + 150_000 && server.metric("chat_shed_total") == 0 {
        assert!(Instant::now() < deadline, "the outbox does not grow");
        ws.send(&pings);
    }
}

#[test]
fn outboxes_of_slow_readers_are_counted() {
    for payload in [0, 125] {
        measure(&format!("outboxes full of pongs of {payload} bytes"), |server| {
            let room = server.room(&server.session("owner"));
            let users = sessions(server, scale(100).min(15));
            let enter = |session: &String| {
                let http = server.http_narrow();
                let target = format!("/ws/{room}?session_id={}", session);
                http.upgrade(&upgrade(&target))
            };
            let mut stalled: Vec<_> = users.iter().map(enter).collect();
            stalled.iter_mut().for_each(|ws| stall(server, ws, payload));
            stalled
        });
    }
    measure("responses that are not read", |server| {
        let owner = server.session("owner");
        let users: Vec<_> = sessions(server, 5);
        users.iter().for_each(|user| _ = rooms(server, user, 200));
        let ask = |_| {
            let mut http = server.http_narrow();
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
fn unfinished_input_is_counted() {
    let count = scale(2000);
    let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 61440\r\n\r\n";
    measure("bodies of 60 KiB but for the last byte", |server| {
        let mut all = connections(server, count);
        for http in &mut all {
            http.send([head.as_bytes(), &[b' '; 61_439]].concat());
        }
        wait_until("all has arrived", || {
            server.metric("chat_bytes_received_total") > 61_439 * count as u64
        });
        all
    });
    measure("heads of 15 KiB but for the last byte", |server| {
        let mut all = connections(server, count);
        let field = format!("X-Field: {}\r\n", "x".repeat(150));
        let head = format!("GET /ping HTTP/1.1\r\nHost: a\r\n{}", field.repeat(92));
        all.iter_mut().for_each(|http| http.send(&head));
        wait_until("all has arrived", || {
            server.metric("chat_bytes_received_total") > (head.len() * count) as u64
        });
        all
    });
    measure("messages of 60 KiB but for the last byte", |server| {
        let mut all = sockets(server, count);
        let message = [frame_header(FIN | TEXT, 61_440), vec![b'x'; 61_439]].concat();
        all.iter_mut().for_each(|ws| ws.send(&message));
        wait_until("all has arrived", || {
            server.metric("chat_bytes_received_total") > 61_439 * count as u64
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
            server.metric("chat_bytes_received_total") > 60_000 * count as u64
        });
        all
    });
}

/// A server with a low ceiling.
fn small() -> Server {
    start(&["--max-memory", "1M", "--outbox", "8M", "--linger-timeout", "1m"])
}

/// Opens idle connections, until `hundredths` of the ceiling are counted. The server cannot free these bytes: there is
/// nothing that an idle connection has not read or not finished.
fn fill_to(server: &Server, connections: &mut Vec<Http>, hundredths: u64) {
    let enough = server.metric("chat_memory_max_bytes") / 100 * hundredths;
    while counted(server) <= enough {
        let accepted = || server.metric("chat_connections_accepted_total");
        let before = accepted();
        connections.extend((0..10).map(|_| server.http()));
        wait_until("the connections are accepted", || accepted() >= before + 10);
    }
}

// contract §12.22
#[test]
fn the_histories_of_the_idlest_rooms_give_way_first() {
    let server = small();
    let ana = server.session("ana");
    let rooms: Vec<_> = (0..5).map(|_| server.room(&ana)).collect();
    for room in &rooms {
        (0..60).for_each(|n| _ = server.say(room, &ana, &format!("{n:04000}")));
    }
    assert!(server.metric("chat_messages_forgotten_total") > 60);
    assert!(counted(&server) <= server.metric("chat_memory_max_bytes") / 100 * 81);
    let kept: Vec<_> = rooms.iter().map(|room| server.messages(room, &ana).len()).collect();
    assert_eq!(kept[2..], [60, 60, 60], "the latest rooms keep all messages: {kept:?}");
    assert!(kept[0] == 0 && kept[1] < 60, "{kept:?}");
    server.session("bob");
    server.room(&ana);
}

// contract §1.4 §7.9 §12.22
#[test]
fn near_the_ceiling_new_sessions_rooms_and_connections_are_refused_until_memory_is_free() {
    let _alone = alone_if_slow();
    let server = small();
    let (room, ana, mut bob) = server.room_of_two();
    let carl = server.session("carl");
    let other = server.room(&ana.session);
    let mut known = server.http();
    let mut more = server.http();
    [&mut known, &mut more].into_iter().for_each(|http| _ = http.ask(&get("/ping")).expect(200));
    let mut idle = Vec::new();
    fill_to(&server, &mut idle, 85);
    let open = post("/sessions").json(&json!({"username": "dora"}));
    let answer = known.ask(&open).refused(503, "server_full");
    assert_eq!(answer.field("Retry-After"), Some("10"));
    known.ask(&post("/rooms").session(&carl)).refused(503, "server_full");
    known.ask(&post(&format!("/rooms/{room}/join")).session(&carl)).expect(200);
    fill_to(&server, &mut idle, 90);
    known.ask(&post(&format!("/rooms/{other}/join")).session(&carl)).refused(503, "server_full");
    server.ask(get("/ping")).refused(503, "server_full");
    let target = format!("/ws/{room}?session_id={carl}");
    known.ask(&upgrade(&target)).refused(503, "server_full");
    known.ask(&get("/ping")).expect(200);
    bob.chat("still here");
    bob.expect_chat("bob", "still here");
    drop(idle);
    wait_until("a session is accepted again", || known.ask(&open).status == 201);
    server.ask(get("/ping")).expect(200);
    more.upgrade(&upgrade(&target)).expect_join("carl");
}

// contract §5.6
#[test]
fn near_the_ceiling_the_key_and_the_origin_are_checked_first() {
    let _alone = alone_if_slow();
    let full = ["--max-memory", "1M", "--outbox", "8M", "--linger-timeout", "1m"];
    let server = start(&[&full[..], &["--cors-origin", "https://page.example"]].concat());
    let ana = server.session("ana");
    let target = format!("/ws/{}?session_id={ana}", server.room(&ana));
    let mut known = server.http();
    known.ask(&get("/ping")).expect(200);
    let mut unfinished: Vec<_> = (0..4).map(|_| server.http()).collect();
    let mut idle = Vec::new();
    fill_to(&server, &mut idle, 90);
    // The connection that reads the count takes a part of it. From here on, connections are refused.
    for http in &mut unfinished {
        http.send(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(7000)));
    }
    let enough = server.metric("chat_memory_max_bytes") / 100 * 92;
    wait_until("enough is counted", || counted(&server) > enough);
    let foreign = upgrade(&target).field("Origin", "https://other.example");
    let keyless = foreign.clone().without("Sec-WebSocket-Key");
    known.ask(&keyless.without("Upgrade")).refused(426, "upgrade_required");
    known.ask(&foreign.clone().without("Sec-WebSocket-Key")).refused(400, "bad_request");
    known.ask(&foreign).refused(403, "bad_origin");
    known.ask(&upgrade(&target)).refused(503, "server_full");
}

// contract §7.9 §12.22
#[test]
fn beyond_a_quarter_of_the_ceiling_the_largest_outbox_is_closed_and_no_message_is_forgotten() {
    let server = small();
    let (room, ana, mut bob) = server.room_of_two();
    let http = server.http_narrow();
    let mut slow = http.upgrade(&upgrade(&format!("/ws/{room}?session_id={}", ana.session)));
    stall(&server, &mut slow, 125);
    let mut bodies: Vec<_> = (0..16).map(|_| server.http()).collect();
    let head = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 61440\r\n\r\n";
    for http in &mut bodies {
        http.send(head);
        http.send(vec![b' '; 61_439]);
    }
    wait_until("a socket is closed", || server.metric("chat_shed_total") > 0);
    // The server's kernel probes a full receive window at growing intervals. On a busy machine the last interval may
    // be as long as the test so far.
    slow.stream().set_read_timeout(Duration::from_secs(60));
    let (code, reason) = slow.closed();
    assert_eq!((code, &reason[..]), (1013, "server full"));
    assert!(server.metric("chat_shed_total") >= 1);
    assert_eq!(server.metric("chat_messages_forgotten_total"), 0);
    bob.chat("still here");
    bob.expect_chat("bob", "still here");
    assert!(counted(&server) <= server.metric("chat_memory_max_bytes"));
}

/// The counted memory if no connection, session or room is left but the connection that asks. It is a new one each
/// time, since capacity that grew with many connections is given back when the last one ends.
fn total_without_others(server: &Server) -> Option<u64> {
    let text = server.metrics();
    let number = |name| metric_in(&text, name);
    let others = number("chat_rooms")
        + number("chat_sessions")
        + number("chat_connections{protocol=\"http\"}");
    (others == 1).then_some(number("chat_memory_bytes"))
}

/// The counted memory of an empty server, once three readings in a row agree.
pub fn total_of_none(server: &Server) -> u64 {
    let mut last = [None; 3];
    wait_until("the server is empty", || {
        last = [last[1], last[2], total_without_others(server)];
        last[0].is_some() && last.iter().all(|total| *total == last[0])
    });
    last[0].expect("a total")
}

/// Waits until the server is empty and its counted memory is exactly `before`.
pub fn wait_for_total(server: &Server, before: u64) {
    let deadline = Instant::now() + 6 * DEADLINE;
    while total_without_others(server) != Some(before) {
        assert!(Instant::now() < deadline, "{} bytes counted, {before} before", counted(server));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn when_everything_has_expired_counted_memory_is_exactly_as_before() {
    let _alone = alone_if_slow();
    // Long enough for a session to be used again before it expires.
    let ttl = if is_slow() { "20s" } else { "3s" };
    let server = start(&["--room-ttl", ttl, "--new-room-ttl", ttl, "--session-ttl", ttl]);
    let before = total_of_none(&server);
    for _ in 0..if is_slow() { 3 } else { 1 } {
        let users = sessions(&server, scale(20_000));
        users.iter().step_by(100).for_each(|user| _ = rooms(&server, user, 100));
        sockets(&server, scale(5000)).into_iter().for_each(Ws::close);
        wait_for_total(&server, before);
    }
}
