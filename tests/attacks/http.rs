//! Attacks by those who speak HTTP, or less.

use serde_json::json;

use crate::client::{Http, Request, Stream, get, post, upgrade};
use crate::strangers::{self, address, from};
use crate::trial::{Attack, connections, scale, under_attack};

const TIMEOUTS: &str = "chat_refused_total{code=\"timeout\"}";

/// Sends a byte on each connection now and then, until the server has had enough of all of them.
fn trickle(attack: &Attack, mut all: Vec<Http>) {
    let count = all.len() as u64;
    attack.until("all have been timed out", |attack| {
        for http in &mut all {
            // Whom the server has answered already, it may not want to hear.
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
fn slow_headers() {
    under_attack("slow headers", &["--header-timeout", "1s"], |attack| {
        let all = connect(attack, scale(1000, 50), "GET /ping HTTP/1.1\r\nHost: a\r\nX-Slow: ");
        trickle(attack, all);
    });
}

#[test]
fn slow_bodies() {
    under_attack("slow bodies", &["--body-timeout", "1s"], |attack| {
        // Together not so much that the ceiling would end them before.
        let opening = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n";
        trickle(attack, connect(attack, scale(1000, 50), opening));
    });
}

#[test]
fn idle_connections() {
    under_attack("idle connections", &[], |attack| {
        let count = connections(scale(5000, 200));
        let mut all: Vec<Http> = (0..count).map(|_| attack.server.http()).collect();
        for http in all.iter_mut().step_by(2) {
            http.ask(&get("/ping")).expect(200);
        }
        attack.while_they_chat(scale(120, 2));
        assert!(attack.metric("chat_connections{protocol=\"http\"}") > count as u64);
    });
}

/// Half of them never end their request, the others neither read nor answer the close that they are sent.
#[test]
fn half_open_handshakes() {
    under_attack("half-open handshakes", &[], |attack| {
        let count = connections(scale(2000, 100));
        let nobody = "0f0e0d0c-0b0a-4908-8706-050403020100";
        let request = |number| {
            let request = strangers::enter("0123456789", nobody, &address(number));
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
        attack.while_they_chat(scale(120, 2));
        drop(all);
    });
}

/// Lines that break at any point of a conversation.
#[test]
fn connect_and_reset() {
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

/// The largest bodies there may be, each of which declares itself and then hardly comes.
#[test]
fn declared_bodies() {
    under_attack("declared bodies, unsent", &[], |attack| {
        let opening = "POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n{";
        // Together they declare more than the ceiling.
        let all = connect(attack, connections(scale(2000, 600)), opening);
        attack.while_they_chat(scale(120, 2));
        drop(all);
        // One more is refused before anything of it has come.
        let mut http = attack.server.http();
        http.send("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n");
        http.answer().refused(413, "body_too_large");
        http.expect_end();
    });
}

/// Documents that nest, repeat and escape as much as fits. True: in the end they are JSON.
pub fn nasty_documents() -> Vec<(String, bool)> {
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
fn deep_and_huge_json() {
    under_attack("deep and huge JSON", &[], |attack| {
        let documents = nasty_documents();
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

/// The longest answer there is, asked for again and again, and never read.
#[test]
fn giant_listings() {
    under_attack("giant listings, unread", &[], |attack| {
        let title = "\u{1f642}".repeat(80);
        for number in 0..scale(5, 1) {
            let session = attack.session(number);
            let open = from(
                post("/rooms").session(&session).json(&json!({"title": title})),
                &address(number),
            );
            let count = scale(200, 100);
            for answer in strangers::ask_all(attack.server, &vec![open; count]) {
                if answer.status != 429 {
                    attack.remember_room(&strangers::room_of(&answer.expect(201)), &session);
                }
            }
        }
        let listing = get("/rooms/all?detail=true").bytes("a").repeat(50);
        let ask = |_| {
            let stream = Stream::connect_narrow(attack.server.address());
            let mut http = Http::over(stream, attack.server.address());
            http.send(&listing);
            http
        };
        let all: Vec<Http> = (0..scale(200, 20)).map(ask).collect();
        attack.while_they_chat(scale(120, 2));
        drop(all);
    });
}
