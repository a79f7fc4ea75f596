//! Limits for the whole server, and for each address behind a trusted proxy.

use std::net::{IpAddr, UdpSocket};

use serde_json::json;

use crate::client::{Answer, CLOSE, Http, Request, Ws, delete, get, post, upgrade};
use crate::server::{Address, Server, command, wait_until};

fn create(name: &str) -> Request {
    post("/sessions").json(&json!({"username": name}))
}

// The whole server.

// contract §12.21
#[test]
fn a_full_server_answers_503_until_connections_end() {
    let server = Server::start(&["--max-connections", "4", "--leave-grace", "0s"]);
    let mut first = server.http();
    first.ask(&get("/health")).expect(200);
    let session = first.ask(&create("ana")).expect(201).json()["session_id"].clone();
    let session = session.as_str().expect("an id");
    let room = first.ask(&post("/rooms").session(session)).expect(201).json()["room_id"].clone();
    let target = format!("/ws/{}?session_id={session}", room.as_str().expect("an id"));
    let mut socket = server.upgrade(upgrade(&target));
    socket.expect_join("ana");
    let mut others = [server.http(), server.http()];
    for http in &mut others {
        http.ask(&get("/ping")).expect(200);
    }
    for request in [get("/ping"), upgrade(&target)] {
        let mut over_limit = server.http();
        let _ = over_limit.try_send(request.bytes("a"));
        over_limit.answer().refused(503, "server_full");
        over_limit.expect_end();
    }
    first.ask(&get("/health")).expect(200);
    socket.expect_nothing();
    drop(others);
    wait_until("the server has capacity again", || {
        let mut http = server.http();
        let _ = http.try_send(get("/ping").bytes("a"));
        http.answer().status == 200
    });
}

// Regression: thirty silent connections over the limit kept the next from its refusal for seconds.
// contract §12.21 §12.34
#[test]
fn a_silent_connection_over_the_limit_gives_way_to_the_next() {
    for max in ["3", "130"] {
        let flags = ["--max-connections", max, "--linger-timeout", "1h", "--header-timeout", "1h"];
        let server = Server::start(&flags);
        let mut within: Vec<Http> = (0..max.parse().unwrap()).map(|_| server.http()).collect();
        for http in &mut within {
            http.ask(&get("/ping")).expect(200);
        }
        let silent: Vec<Http> = (0..70).map(|_| server.http()).collect();
        // A connection that has read its refusal and stays open gives way, too.
        let mut refused = Vec::new();
        for _ in 0..70 {
            let mut http = server.http();
            let _ = http.try_send(get("/ping").bytes("a"));
            http.answer().refused(503, "server_full");
            refused.push(http);
        }
        // The place of a connection within the limit is free at once, whatever is being refused.
        drop(within.pop());
        wait_until("a newcomer is served", || {
            let mut http = server.http();
            let _ = http.try_send(get("/ping").bytes("a"));
            http.answer().status == 200
        });
        within[0].ask(&get("/ping")).expect(200);
        drop((silent, refused));
    }
}

// contract §12.21
#[test]
fn max_sessions_limits_sessions() {
    let server = Server::start(&["--max-sessions", "2"]);
    let ana = server.session("ana");
    server.session("bob");
    server.ask(create("eve")).refused(503, "server_full");
    server.ask(create("x")).refused(400, "bad_username");
    server.ask(get("/sessions/me").session(&ana)).expect(200);
    server.ask(delete("/sessions/me").session(&ana)).expect(200);
    server.session("eve");
}

/// Regression: a connection over the limit that sent nothing kept its place, of which there are few, for as long
/// as `--header-timeout`. So further connections got no refusal.
#[test]
fn a_silent_connection_over_the_limit_is_dropped_after_linger_timeout() {
    let flags = ["--max-connections", "4", "--linger-timeout", "200ms", "--header-timeout", "1h"];
    let server = Server::start(&flags);
    let _open: Vec<Http> = (0..4).map(|_| server.http()).collect();
    let _silent: Vec<Http> = (0..3).map(|_| server.http()).collect();
    server.ask(get("/health")).refused(503, "server_full");
}

// contract §12.21
#[test]
fn max_rooms_limits_rooms() {
    let server = Server::start(&["--max-rooms", "1"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut inside = server.enter_as(&room, "ana", &ana);
    server.ask(post("/rooms").session(&ana)).refused(503, "server_full");
    server.ask(post("/rooms").session(&ana).body("nope")).refused(422, "bad_body");
    inside.expect_nothing();
}

#[test]
fn an_expired_room_no_longer_counts() {
    let server = Server::start(&["--max-rooms", "1", "--new-room-ttl", "300ms"]);
    let ana = server.session("ana");
    server.room(&ana);
    let ask = || server.ask(post("/rooms").session(&ana)).status;
    wait_until("the room has expired", || ask() == 201);
}

// Rates of creation, by forwarded address. A burst is sixty. The tests send five more, because a token or two may
// be added while they run.

const PROXIED: [&str; 2] = ["--trusted-proxy", "127.0.0.0/8"];

fn proxied(more: &[&'static str]) -> Server {
    Server::start(&[&PROXIED[..], more].concat())
}

fn forwarded(request: Request, address: &str) -> Request {
    request.field("X-Forwarded-For", address)
}

/// Asserts that sixty requests succeed and that at least one of five further ones is refused.
#[track_caller]
fn expect_rate_limit(answers: Vec<Answer>) {
    assert_eq!(answers.len(), 65);
    assert!(answers[..60].iter().all(|answer| answer.status == 201), "one of the burst is refused");
    let late = answers[60..].iter().find(|answer| answer.status != 201);
    let late = late.expect("one of the rest is refused").clone().refused(429, "rate_limited");
    let seconds: u32 = late.field("Retry-After").and_then(|s| s.parse().ok()).expect("a number");
    assert!((1..=2).contains(&seconds), "one token a second: {seconds}");
}

// contract §1.4 §12.16 §12.20
#[test]
fn session_rate_limits_each_address() {
    let server = proxied(&["--session-rate", "1"]);
    let mut http = server.http();
    let requests = vec![forwarded(create("ana"), "203.0.113.7"); 65];
    expect_rate_limit(http.pipeline(&requests));
    // Other errors are reported before the rate. Another address and the proxy itself have rates of their own.
    http.ask(&forwarded(create("x"), "203.0.113.7")).refused(400, "bad_username");
    http.ask(&forwarded(post("/sessions").body("nope"), "203.0.113.7")).refused(422, "bad_body");
    http.ask(&forwarded(create("ana"), "203.0.113.8")).expect(201);
    http.ask(&create("ana")).expect(201);
}

// contract §12.16
#[test]
fn room_rate_limits_each_address() {
    let server = proxied(&["--room-rate", "1"]);
    let mut http = server.http();
    let ana = server.session("ana");
    let requests = vec![forwarded(post("/rooms").session(&ana), "203.0.113.7"); 65];
    expect_rate_limit(http.pipeline(&requests));
    http.ask(&forwarded(post("/rooms").session(&ana), "203.0.113.8")).expect(201);
}

// contract §12.16
#[test]
fn a_rate_of_0_means_no_limit() {
    let server = proxied(&["--session-rate", "0", "--room-rate", "0"]);
    let mut http = server.http();
    let ana = server.session("ana");
    let mut requests = vec![forwarded(create("bob"), "203.0.113.7"); 100];
    requests.extend(vec![forwarded(post("/rooms").session(&ana), "203.0.113.7"); 100]);
    assert!(http.pipeline(&requests).iter().all(|answer| answer.status == 201));
}

// contract §12.19
#[test]
fn loopback_itself_is_not_limited() {
    for server in [proxied(&["--session-rate", "1"]), Server::start(&["--session-rate", "1"])] {
        let answers = server.http().pipeline(&vec![create("ana"); 100]);
        assert!(answers.iter().all(|answer| answer.status == 201));
    }
}

// contract §12.20
#[test]
fn x_forwarded_for_from_an_untrusted_peer_is_ignored() {
    let server = Server::start(&["--session-rate", "1", "--trusted-proxy", "10.0.0.0/8"]);
    let requests = vec![forwarded(create("ana"), "203.0.113.7"); 100];
    let answers = server.http().pipeline(&requests);
    assert!(answers.iter().all(|answer| answer.status == 201), "loopback is exempt");
}

// contract §12.20
#[test]
fn the_last_forwarded_address_that_is_no_trusted_proxy_counts() {
    let server = proxied(&["--session-rate", "1", "--trusted-proxy", "10.0.0.1"]);
    let mut http = server.http();
    // Addresses before it may be forged and are ignored.
    let chains = (0..65).map(|number| match number % 3 {
        0 => forwarded(create("ana"), &format!("198.51.100.{number}, 203.0.113.9")),
        1 => forwarded(create("ana"), &format!("nonsense,203.0.113.9,10.0.0.1, 127.0.0.{number}")),
        _ => forwarded(forwarded(create("ana"), &format!("192.0.2.{number}")), "203.0.113.9"),
    });
    let chains: Vec<Request> = chains.collect();
    expect_rate_limit(http.pipeline(&chains));
    http.ask(&forwarded(create("ana"), "203.0.113.9, 203.0.113.10")).expect(201);
}

// The share of each address.

// contract §3.13 §3.15 §12.25
#[test]
fn address_sessions_limits_the_living_sessions_and_rooms_of_each_address() {
    let server = proxied(&["--address-sessions", "2", "--session-rate", "1", "--room-rate", "1"]);
    let mut http = server.http();
    let ana = server.session("ana");
    let from = |request: Request, address: &str| forwarded(request, address);
    let room = || post("/rooms").session(&ana);
    let mut sessions = Vec::new();
    let mut rooms = Vec::new();
    for _ in 0..2 {
        let opened = http.ask(&from(create("bob"), "203.0.113.7")).expect(201);
        sessions.push(opened.string("session_id"));
        let opened = http.ask(&from(room(), "203.0.113.7")).expect(201);
        rooms.push(opened.string("room_id"));
    }
    // More than the burst of sixty: a refusal charges no rate.
    for _ in 0..100 {
        let refused = http.ask(&from(create("bob"), "203.0.113.7"));
        assert!(refused.field("Retry-After").is_some());
        refused.refused(429, "too_many_sessions");
        http.ask(&from(room(), "203.0.113.7")).refused(429, "too_many_rooms");
    }
    http.ask(&from(create("bob"), "203.0.113.8")).expect(201);
    http.ask(&from(room(), "203.0.113.8")).expect(201);
    for _ in 0..5 {
        http.ask(&create("bob")).expect(201); // Loopback itself is exempt.
        http.ask(&room()).expect(201);
    }
    http.ask(&delete("/sessions/me").session(&sessions[0])).expect(200);
    http.ask(&delete(&format!("/rooms/{}", rooms[0])).session(&ana)).expect(200);
    http.ask(&from(create("bob"), "203.0.113.7")).expect(201);
    http.ask(&from(room(), "203.0.113.7")).expect(201);
    http.ask(&from(create("bob"), "203.0.113.7")).refused(429, "too_many_sessions");
    http.ask(&from(room(), "203.0.113.7")).refused(429, "too_many_rooms");
}

// contract §3.13
#[test]
fn an_ipv6_network_of_48_bits_has_eight_shares_and_one_of_64_bits_has_one() {
    let server = proxied(&["--address-sessions", "1"]);
    let mut http = server.http();
    let from = |n: usize| forwarded(create("ana"), &format!("2001:db8:0:{n:x}::1"));
    for n in 0..8 {
        http.ask(&from(n)).expect(201);
        let other = forwarded(create("ana"), &format!("2001:db8:0:{n:x}::2"));
        http.ask(&other).refused(429, "too_many_sessions");
    }
    http.ask(&from(8)).refused(429, "too_many_sessions");
    http.ask(&forwarded(create("ana"), "2001:db8:1::1")).expect(201);
}

// Connections for each address.

fn socket_from(server: &Server, room: &str, session: &str, address: &str) -> Ws {
    let request = upgrade(&format!("/ws/{room}?session_id={session}"));
    server.upgrade(forwarded(request, address))
}

// contract §6.17 §7.15 §12.15
#[test]
fn a_session_that_comes_and_goes_too_often_is_closed_with_4429() {
    let server = Server::start(&["--message-rate", "1", "--leave-grace", "0s"]);
    let room = server.room(&server.session("bob"));
    let ana = server.session("ana");
    let mut joins = 0;
    loop {
        let mut socket = server.socket(&room, &ana);
        if socket.frame().opcode == CLOSE {
            break;
        }
        socket.close();
        joins += 1;
    }
    server.socket(&room, &ana).expect_close(4429, "rate limited");
    assert!(joins >= 20, "{joins} joins");
    // Its posts have a rate of their own.
    let request = post(&format!("/rooms/{room}/messages")).session(&ana);
    server.ask(request.json(&json!({"message": "hello"}))).expect(201);
}

// contract §7.15 §12.18 §12.19
#[test]
fn behind_a_proxy_address_connections_limits_the_sockets_of_each_address() {
    let server = proxied(&["--address-connections", "2"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut first = socket_from(&server, &room, &ana, "203.0.113.7");
    first.expect_join("ana");
    let mut second = socket_from(&server, &room, &ana, "203.0.113.7");
    second.expect_nothing();
    let third = socket_from(&server, &room, &ana, "203.0.113.7");
    third.expect_close(4429, "too many connections");
    // Other connections do not count, each address has a limit of its own, and the proxy itself has none.
    let mut plain: Vec<Http> = (0..5).map(|_| server.http()).collect();
    for http in &mut plain {
        http.ask(&forwarded(get("/health"), "203.0.113.7")).expect(200);
    }
    socket_from(&server, &room, &ana, "203.0.113.8").expect_nothing();
    for _ in 0..3 {
        server.socket(&room, &ana).expect_nothing();
    }
    second.close();
    wait_until("the address may connect again", || {
        let mut socket = socket_from(&server, &room, &ana, "203.0.113.7");
        socket.text(r#"{"type":"ping"}"#);
        let frame = socket.frame();
        frame.payload == br#"{"type":"pong"}"#
    });
    first.expect_nothing();
}

// contract §5.7
#[test]
fn session_and_room_are_checked_before_address_connections() {
    let server = proxied(&["--address-connections", "1"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut first = socket_from(&server, &room, &ana, "203.0.113.7");
    first.expect_join("ana");
    let wrong_session = socket_from(&server, &room, "nonsense", "203.0.113.7");
    wrong_session.expect_close(4401, "invalid or expired session");
    let wrong_room = socket_from(&server, "0000000000", &ana, "203.0.113.7");
    wrong_room.expect_close(4404, "room not found");
}

// contract §12.18
#[test]
fn an_ipv6_address_counts_by_its_64_bit_network() {
    let server = proxied(&["--address-connections", "2"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut first = socket_from(&server, &room, &ana, "2001:db8:1:2::1");
    first.expect_join("ana");
    let mut second = socket_from(&server, &room, &ana, "2001:db8:1:2:ffff::2");
    second.expect_nothing();
    let third = socket_from(&server, &room, &ana, "2001:db8:1:2:3:4:5:6");
    third.expect_close(4429, "too many connections");
    socket_from(&server, &room, &ana, "2001:db8:1:3::1").expect_nothing();
}

/// An address of this machine that is not loopback, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?; // Sends nothing: only asks for the route.
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

// contract §12.18
#[test]
fn address_connections_limits_the_connections_of_a_direct_peer() {
    let Some(address) = own_address() else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let listen = format!("{address}:0");
    let flags = ["--listen", &listen, "--listen", "127.0.0.1:0", "--address-connections", "2"];
    let flags = [&flags[..], &["--cors-origin", "https://page.example"]].concat();
    let server = Server::spawn(command(&flags, &[]), 2);
    let direct: &Address = &server.addresses[0];
    let local = &server.addresses[1];
    let ana = Http::connect(local).ask(&create("ana")).expect(201).json();
    let ana = ana["session_id"].as_str().expect("an id");
    let room = Http::connect(local).ask(&post("/rooms").session(ana)).expect(201).json();
    let target = format!("/ws/{}?session_id={ana}", room["room_id"].as_str().expect("an id"));
    let mut first = Http::connect(direct);
    first.ask(&get("/ping")).expect(200);
    let mut second = Http::connect(direct).upgrade(&upgrade(&target));
    second.expect_join("ana");
    let mut third = Http::connect(direct);
    third.ask(&get("/ping")).refused(429, "rate_limited");
    third.expect_end();
    drop(third);
    let fourth = Http::connect(direct).upgrade(&upgrade(&target));
    fourth.expect_close(4429, "too many connections");
    // A connection over the limit is closed after any refusal.
    let mut fifth = Http::connect(direct);
    let foreign = upgrade(&target).field("Origin", "https://other.example");
    fifth.ask(&foreign).refused(403, "bad_origin");
    fifth.expect_end();
    drop(fifth);
    first.ask(&get("/ping")).expect(200);
    second.expect_nothing();
    for _ in 0..4 {
        Http::connect(local).ask(&get("/ping")).expect(200);
    }
    drop(first);
    wait_until("the address may connect again", || {
        Http::connect(direct).ask(&get("/ping")).status == 200
    });
}

// contract §12.34
#[test]
fn a_silent_connection_over_the_limit_of_an_address_gives_way_to_the_next() {
    let Some(address) = own_address() else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let listen = format!("{address}:0");
    let flags = ["--listen", &listen, "--address-connections", "2", "--linger-timeout", "1h"];
    let server = Server::spawn(command(&flags, &[]), 1);
    let mut within = [server.http(), server.http()];
    for http in &mut within {
        http.ask(&get("/ping")).expect(200);
    }
    let silent: Vec<Http> = (0..40).map(|_| server.http()).collect();
    // A connection that has read its refusal and stays open gives way, too.
    let mut refused = Vec::new();
    for _ in 0..40 {
        let mut http = server.http();
        http.ask(&get("/ping")).refused(429, "rate_limited");
        refused.push(http);
    }
    let [first, _second] = within;
    drop(first);
    wait_until("the address may connect again", || server.http().ask(&get("/ping")).status == 200);
    drop((silent, refused));
}

// The descriptor limit. One test sleeps, to measure that the server does not spin meanwhile.

#[cfg(target_os = "linux")]
#[test]
fn running_out_of_descriptors_pauses_accepting_and_nothing_else() {
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    let flags = ["--max-connections", "1000", "--message-rate", "0"];
    let server = Server::start_with_metrics_and_descriptor_limit(40, &flags);
    let (_, mut ana, mut bob) = server.room_of_two();
    let begun = Instant::now();
    let mut waiting: Vec<Http> = (0..80).map(|_| server.http()).collect();
    wait_until("the number of descriptors stays the same", || {
        let before = server.descriptors();
        sleep(Duration::from_millis(20));
        before > 20 && server.descriptors() == before
    });
    let before = server.cpu_ticks();
    sleep(Duration::from_millis(500));
    let ticks = server.cpu_ticks() - before;
    assert!(ticks <= 15, "the server spins: {ticks} ticks of CPU time in half a second");
    // Open connections are served.
    for number in 0..10 {
        ana.chat(&number.to_string());
        bob.expect_chat("ana", &number.to_string());
    }
    // When some connections close, those that wait in the backlog are accepted and served.
    waiting.drain(..70);
    for http in &mut waiting {
        http.ask(&get("/ping")).expect(200);
    }
    wait_until("accepting has resumed", || {
        let mut http = server.http();
        let _ = http.try_send(get("/ping").bytes("a"));
        matches!(http.try_answer_to("GET"), Ok(Some(answer)) if answer.status == 200)
    });
    ana.chat("and on");
    bob.expect_chat("ana", "and on");
    // A pause is half a second. On a busy machine a server that spins takes little time, but pauses often.
    let pauses = server.metric("chat_accept_pauses_total");
    let most = 2 + 2 * begun.elapsed().as_secs();
    assert!((1..=most).contains(&pauses), "{pauses} pauses, and at most {most} have time to pass");
}

// contract §12.21
#[cfg(target_os = "linux")]
#[test]
fn by_default_the_descriptor_limit_limits_connections() {
    let server = Server::start_with_descriptor_limit(128, &[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let (mut served, mut refused) = (Vec::new(), 0);
    for _ in 0..150 {
        let mut http = server.http();
        let _ = http.try_send(get("/ping").bytes("a"));
        match http.answer().status {
            200 => served.push(http),
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(served.len() >= 32, "{} of 150", served.len());
    assert!(refused >= 150 - 128, "{refused} of 150");
    ana.chat("still here");
    bob.expect_chat("ana", "still here");
}

#[test]
fn thirty_pasted_lines_are_within_the_default_burst() {
    let server = Server::start(&[]);
    let (_room, mut ana, mut bob) = server.room_of_two();
    let line = |n: usize| format!("{n}{}", " a line of code or two".repeat(10));
    let pasted: Vec<u8> = (0..30).flat_map(|n| crate::client::chat(&line(n))).collect();
    ana.send(pasted);
    for n in 0..30 {
        bob.expect_chat("ana", &line(n));
        ana.expect_chat("ana", &line(n));
    }
    bob.expect_nothing();
}
