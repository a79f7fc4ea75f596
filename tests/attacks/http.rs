//! Attacks over HTTP, or over bare TCP.

use serde_json::json;

use crate::client::{Http, Request, get, post, upgrade};
use crate::proxied::{self, address, from};
use crate::trial::{Attack, connections, scale, under_attack};

const TIMEOUTS: &str = "chat_refused_total{code=\"timeout\"}";

/// Sends a byte on each connection now and then, until all of them have timed out.
fn trickle(attack: &Attack, mut all: Vec<Http>) {
    let count = all.len() as u64;
    attack.until("all connections have timed out", |attack| {
        for http in &mut all {
            // The server may have closed the connection already.
            let _ = http.try_send("x");
        }
        attack.grown(TIMEOUTS) == count
    });
    for mut http in all {
        http.answer().refused(408, "timeout");
        http.expect_end();
    }
}

fn connect(attack: &Attack, count: usize, opening: &str) -> Vec<Http> {
    let connect = |_| {
        let mut http = attack.server.http();
        http.send(opening);
        http
    };
    (0..count).map(connect).collect()
}

#[test]
fn slow_headers_time_out_and_disturb_no_member() {
    under_attack("slow headers", &["--header-timeout", "1s"], |attack| {
        let all = connect(attack, scale(1000, 50), "GET /ping HTTP/1.1\r\nHost: a\r\nX-Slow: ");
        trickle(attack, all);
    });
}

#[test]
fn slow_bodies_time_out_and_disturb_no_member() {
    under_attack("slow bodies", &["--body-timeout", "1s"], |attack| {
        // Together they stay below the ceiling on memory, which would end them earlier.
        let opening = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n";
        trickle(attack, connect(attack, scale(1000, 50), opening));
    });
}

#[test]
fn idle_connections_disturb_no_member() {
    under_attack("idle connections", &[], |attack| {
        let count = connections(scale(5000, 200));
        let mut all: Vec<Http> = (0..count).map(|_| attack.server.http()).collect();
        for http in all.iter_mut().step_by(2) {
            http.ask(&get("/ping")).expect(200);
        }
        attack.while_members_chat(scale(120, 2));
        assert!(attack.metric("chat_connections{protocol=\"http\"}") > count as u64);
    });
}

/// Half of them never finish their request; the others neither read nor answer the server's close frame.
#[test]
fn half_open_handshakes_disturb_no_member() {
    under_attack("half-open handshakes", &[], |attack| {
        let count = connections(scale(2000, 100));
        let unknown = "0f0e0d0c-0b0a-4908-8706-050403020100";
        let request = |number| {
            let request = proxied::enter("0123456789", unknown, &address(number));
            request.bytes("a")
        };
        let open = |number| {
            let mut bytes = request(number);
            bytes.truncate(bytes.len() - 2 * (number % 2));
            let mut http = attack.server.http();
            http.send(bytes);
            http
        };
        let all: Vec<Http> = (0..count).map(open).collect();
        attack.until("half of them have been upgraded", |attack| {
            attack.grown("chat_closed_total{code=\"4401\"}") == count as u64 / 2
        });
        attack.while_members_chat(scale(120, 2));
        drop(all);
    });
}

/// Connections are reset after various parts of a request.
#[test]
fn resets_disturb_no_member() {
    under_attack("connect and reset", &[], |attack| {
        let openings = [
            Vec::new(),
            b"GET /rooms/al".to_vec(),
            get("/rooms/all").bytes("a"),
            b"POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{".to_vec(),
            upgrade("/ws/0123456789").bytes("a"),
        ];
        for number in 0..scale(20_000, 500) {
            let mut http = attack.server.http();
            let _ = http.try_send(&openings[number % openings.len()]);
            http.into_stream().reset();
        }
    });
}

/// Each declares the largest body allowed and sends one byte of it.
#[test]
fn declared_bodies_take_no_memory_and_disturb_no_member() {
    under_attack("declared bodies, unsent", &[], |attack| {
        let opening = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n{";
        // Together they declare more than the ceiling.
        let all = connect(attack, connections(scale(2000, 600)), opening);
        attack.while_members_chat(scale(120, 2));
        drop(all);
        // A larger body is refused on its head.
        let mut http = attack.server.http();
        http.send("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n");
        http.answer().refused(413, "body_too_large");
        http.expect_end();
    });
}

/// Documents that nest, repeat and escape as much as fits, and whether they are JSON.
pub fn hostile_documents() -> Vec<(String, bool)> {
    const SIZE: usize = 60_000;
    let deep = |count| format!("{}1{}", "[".repeat(count), "]".repeat(count));
    vec![
        ("[".repeat(SIZE), false),
        (deep(SIZE / 2), false),
        ("{\"a\":".repeat(SIZE / 5), false),
        (format!("{{\"username\":{}", "[".repeat(SIZE)), false),
        (format!("{{\"x\":{}}}", deep(SIZE / 2)), true),
        (format!("{{\"username\":\"{}", "\\u0041".repeat(SIZE / 6)), false),
        (format!("{{\"username\":{}}}", "9".repeat(SIZE)), true),
        (format!("{{\"username\":1e{}}}", "9".repeat(SIZE)), true),
        (format!("{{{}", "\"a\":1,".repeat(SIZE / 6)), false),
        (format!("{{{}\"a\":1}}", "\"a\":1,".repeat(SIZE / 6 - 1)), true),
        ("\"".repeat(SIZE), false),
        ("\u{1f642}".repeat(SIZE / 4), false),
        (" ".repeat(SIZE), false),
    ]
}

#[test]
fn deep_and_huge_json_disturbs_no_member() {
    under_attack("deep and huge JSON", &[], |attack| {
        let documents = hostile_documents();
        let request =
            |(text, _): &(String, bool)| from(post("/sessions").body(text.as_str()), &address(1));
        let requests: Vec<Request> = documents.iter().map(request).collect();
        let mut http = attack.server.http();
        for _ in 0..scale(50, 2) {
            for answer in requests.iter().map(|request| http.ask(request)) {
                answer.refused(422, "bad_body");
            }
        }
    });
}

/// The longest response there is, requested again and again, and never read.
#[test]
fn unread_listings_disturb_no_member() {
    under_attack("giant listings, unread", &[], |attack| {
        let title = "\u{1f642}".repeat(80);
        for number in 0..scale(5, 1) {
            let session = attack.session(number);
            let open = from(
                post("/rooms").session(&session).json(&json!({"title": title})),
                &address(number),
            );
            let count = scale(200, 100);
            for answer in proxied::ask_all(attack.server, &vec![open; count]) {
                if answer.status != 429 {
                    attack.remember_room(&answer.expect(201).string("room_id"), &session);
                }
            }
        }
        let listing = get("/rooms/all?detail=true").bytes("a").repeat(50);
        let ask = |_| {
            let mut http = attack.server.http_narrow();
            http.send(&listing);
            http
        };
        let all: Vec<Http> = (0..scale(200, 20)).map(ask).collect();
        attack.while_members_chat(scale(120, 2));
        drop(all);
    });
}
