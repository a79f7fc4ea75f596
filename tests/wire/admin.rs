//! The operator's listener: its routes, its guards, and announcements to everyone.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::client::{Answer, Events, Http, Request, delete, get, post, request, upgrade};
use crate::server::{Address, Server, command, run, socket_path, wait_until};

/// A server with a metrics listener and an admin listener, whose addresses come second and third.
fn start(flags: &[&str]) -> Server {
    let mut all = vec!["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
    all.extend(["--admin-listen", "127.0.0.1:0"]);
    all.extend(flags);
    Server::spawn(command(&all, &[]), 3)
}

fn admin(server: &Server) -> Http {
    Http::connect(&server.addresses[2])
}

fn announcement(message: &str) -> Request {
    let body = json!({"message": message}).to_string();
    post("/announcements").field("Content-Type", "application/json").body(body)
}

fn rooms(server: &Server) -> Vec<Value> {
    let answer = admin(server).ask(&get("/rooms")).expect(200);
    answer.json()["rooms"].as_array().expect("rooms").clone()
}

// contract §16.1 §12.7
#[test]
fn the_listener_is_a_unix_socket_of_mode_0600_or_a_loopback_address() {
    let path = socket_path("admin");
    let listen = format!("unix:{}", path.display());
    let open = socket_path("open");
    let chat = format!("unix:{}", open.display());
    let server = Server::spawn(command(&["--admin-listen", &listen, "--listen", &chat], &[]), 2);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_ne!(mode(&open), 0o600, "the mask is for this listener alone");
    let mut http = Http::connect(&Address::Unix(path));
    http.ask(&get("/rooms")).expect(200);
    for bad in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "proxy:127.0.0.1:0", "proxy:unix:/x"] {
        let ended = run(&["--admin-listen", bad], &[]);
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended:?}");
    }
    drop(server);
}

// contract §16.5 §12.24
#[test]
fn the_list_has_every_room_and_no_texts() {
    let server = start(&[]);
    assert_eq!(rooms(&server), [0; 0].map(Value::from));
    let (room, mut ana, _bob) = server.room_of_two();
    ana.chat("marzipan");
    ana.expect_chat("ana", "marzipan");
    let owner = server.session("carl");
    let secret = server.room_with(&owner, &json!({"title": "Tea", "password": "gooseberry"}));
    let answer = admin(&server).ask(&get("/rooms")).expect(200);
    let text = answer.text();
    assert!(!text.contains("marzipan") && !text.contains("gooseberry"), "{text}");
    let listed = rooms(&server);
    assert_eq!(listed.len(), 2);
    let of = |id: &str| listed.iter().find(|one| one["room_id"] == id).unwrap().clone();
    let first = of(&room);
    assert_eq!(
        (&first["title"], &first["private"], &first["users"], &first["messages"]),
        (&Value::Null, &json!(false), &json!(2), &json!(3))
    );
    assert!(first["bytes"].as_u64().unwrap() > 200, "{first}");
    assert!(first["created_at"].as_str().unwrap().ends_with('Z'), "{first}");
    let second = of(&secret);
    assert_eq!((&second["title"], &second["private"]), (&json!("Tea"), &json!(true)));
    assert_eq!((&second["users"], &second["messages"]), (&json!(0), &json!(0)));
    let mut http = admin(&server);
    http.ask(&request("HEAD", "/rooms")).expect(200);
    http.ask(&get("//rooms/")).expect(200);
}

/// What a client reads to the end of an HTTP/1.0 answer.
fn read_old(server: &Server, target: &str) -> String {
    let Address::Tcp(address) = server.addresses[2] else { panic!("a TCP address") };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

// contract §16.5
#[test]
fn a_long_list_is_sent_in_parts_that_make_one_document() {
    let server = start(&["--room-rate", "0"]);
    let mut made = Vec::new();
    for _ in 0..5 {
        let ana = server.session("ana");
        let mut http = server.http();
        let create = post("/rooms").session(&ana).json(&json!({"title": "x".repeat(80)}));
        let answers = http.pipeline(&vec![create; 200]);
        made.extend(answers.iter().map(|answer| answer.string("room_id")));
    }
    let ids = |rooms: &[Value]| {
        let mut ids: Vec<String> =
            rooms.iter().map(|room| room["room_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    made.sort();
    assert_eq!(ids(&rooms(&server)), made);
    // The connection persists after the last chunk.
    let mut http = admin(&server);
    let answers = http.pipeline(&[get("/rooms"), get("/rooms")]);
    for answer in &answers {
        assert_eq!(answer.json()["rooms"].as_array().unwrap().len(), 1000);
        assert_eq!(answer.field("Transfer-Encoding"), Some("chunked"));
    }
    let old = read_old(&server, "/rooms");
    let (head, body) = old.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("Transfer-Encoding") && !head.contains("Content-Length"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(ids(body["rooms"].as_array().unwrap()), made);
}

// contract §16.6
#[test]
fn the_operator_deletes_any_room() {
    let server = start(&[]);
    let (room, ana, bob) = server.room_of_two();
    let mut http = admin(&server);
    let answer = http.ask(&delete(&format!("/rooms/{room}"))).expect(200);
    assert_eq!(answer.json(), json!({"message": format!("Room {room} deleted")}));
    for socket in [ana, bob] {
        socket.expect_close(4410, "room deleted");
    }
    server.ask(get(&format!("/rooms/{room}"))).refused(404, "room_not_found");
    http.ask(&delete(&format!("/rooms/{room}"))).refused(404, "room_not_found");
    http.ask(&delete("/rooms/nonsense")).refused(404, "room_not_found");
    wait_until("the room is gone from the list", || rooms(&server).is_empty());
}

// contract §16.7
#[test]
fn the_operator_removes_and_bans_anyone_the_owner_too() {
    let server = start(&[]);
    let (room, ana, mut bob) = server.room_of_two();
    let (ana_session, ana_id) = (ana.session.clone(), ana.user_id.clone());
    let mut http = admin(&server);
    let path = |user: &str, query: &str| delete(&format!("/rooms/{room}/users/{user}{query}"));
    http.ask(&path(&ana_id, "?ban=0")).refused(422, "bad_query");
    http.ask(&path(&ana_id, "?address=true")).refused(422, "bad_query");
    let answer = http.ask(&path(&ana_id.to_uppercase(), "?ban=600&address=true")).expect(200);
    let expected = json!({"message": format!("Removed from room {room}"), "address": false});
    assert_eq!(answer.json(), expected);
    ana.expect_close(4411, "removed");
    let left = bob.event();
    assert_eq!((&left["type"], &left["removed"]), (&json!("user_left"), &json!(true)));
    let changed = bob.event();
    assert_eq!(
        (&changed["type"], &changed["room"]["owner"]),
        (&json!("room_changed"), &json!(bob.user_id))
    );
    let join = post(&format!("/rooms/{room}/join"));
    server.ask(join.session(&ana_session)).refused(403, "banned");
    http.ask(&path(&ana_id, "")).refused(404, "user_not_found");
    http.ask(&path("nobody", "")).refused(404, "user_not_found");
    http.ask(&delete(&format!("/rooms/0000000000/users/{ana_id}"))).refused(404, "room_not_found");
    let answer = http.ask(&path(&bob.user_id, "")).expect(200);
    assert_eq!(answer.json(), json!({"message": format!("Removed from room {room}")}));
    bob.expect_close(4411, "removed");
}

// contract §16.8
#[test]
fn an_announcement_reaches_every_connection_and_no_history() {
    let server = start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let (_, mut carl, _dora) = server.room_of_two();
    let mut http = admin(&server);
    let answer = http.ask(&announcement("  The server restarts at ten.\n")).expect(200);
    assert_eq!(answer.json(), json!({"message": "Announced"}));
    for socket in [&mut ana, &mut bob, &mut carl] {
        let event = socket.event();
        assert_eq!(event["type"], "announcement");
        assert_eq!(event["message"], "The server restarts at ten.");
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'), "{event}");
        assert_eq!(event.as_object().unwrap().len(), 3, "{event}");
    }
    // Several keep their order.
    let answers = http.pipeline(&[announcement("one"), announcement("two")]);
    assert!(answers.iter().all(|answer| answer.status == 200));
    for text in ["one", "two"] {
        assert_eq!(bob.event()["message"], text);
    }
    let messages = server.messages(&room, &ana.session);
    assert!(messages.iter().all(|message| message["type"] != "announcement"), "{messages:?}");
    http.ask(&announcement(" ")).refused(422, "empty_message");
    http.ask(&announcement(&"x".repeat(4001))).refused(422, "too_long");
    let wrong = announcement("").body(r#"{"message":5}"#);
    http.ask(&wrong).refused(422, "bad_message");
    http.ask(&announcement("").body("[]")).refused(422, "bad_body");
}

// contract §16.8
#[test]
fn an_announcement_reaches_hundreds_of_sockets_and_streams_in_order() {
    let server = start(&["--message-rate", "0", "--session-rate", "0"]);
    let owner = server.session("owner");
    let room = server.room(&owner);
    let mut sockets = Vec::new();
    for name in 0..15 {
        let session = server.session(&format!("guest {name}"));
        sockets.extend((0..20).map(|_| server.socket_with(&room, &session, "history=0")));
    }
    let streams = ["text/event-stream", "application/x-ndjson"].map(|format| {
        let target = format!("/rooms/{room}/events?history=0");
        let mut http = server.http();
        let request = get(&target).session(&owner).field("Accept", format);
        http.send(request.bytes(&server.host()));
        Events::begin(http)
    });
    let mut http = admin(&server);
    let texts: Vec<String> = (0..10).map(|n| format!("number {n}")).collect();
    let requests: Vec<Request> = texts.iter().map(|text| announcement(text)).collect();
    assert!(http.pipeline(&requests).iter().all(|answer| answer.status == 200));
    for socket in &mut sockets {
        for text in &texts {
            while socket.event()["message"] != text.as_str() {}
        }
    }
    let [mut events, mut lines] = streams;
    for text in &texts {
        while events.event().0["message"] != text.as_str() {}
        while lines.json()["message"] != text.as_str() {}
    }
}

fn has_no_cors_fields(answer: &Answer) {
    let mut names = answer.fields.iter().map(|(name, _)| name.to_ascii_lowercase());
    assert!(!names.any(|name| name.starts_with("access-control-")), "{answer:?}");
}

// contract §16.2 §16.3
#[test]
fn requests_of_browsers_are_refused_without_fields_of_cors() {
    let server = start(&[]);
    for (address, target) in [(1, "/metrics"), (2, "/rooms"), (2, "/metrics"), (2, "/nowhere")] {
        let mut http = Http::connect(&server.addresses[address]);
        let mut refused = |request: Request| {
            has_no_cors_fields(&http.ask(&request).refused(403, "bad_origin"));
        };
        let own = format!("http://{}", server.addresses[address].host());
        for origin in ["https://page.example", own.as_str(), "null", ""] {
            refused(get(target).field("Origin", origin));
        }
        for site in ["cross-site", "same-site", "same-origin", ""] {
            refused(get(target).field("Sec-Fetch-Site", site));
        }
        for host in ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.a", ""]
        {
            refused(get(target).field("Host", host));
        }
        refused(get(&format!("http://evil.example{target}")));
        let preflight = request("OPTIONS", target)
            .field("Origin", "https://page.example")
            .field("Access-Control-Request-Method", "DELETE");
        refused(preflight);
    }
    for (address, target) in [(1, "/metrics"), (2, "/rooms"), (2, "/metrics")] {
        let mut http = Http::connect(&server.addresses[address]);
        for host in ["127.0.0.1", "localhost:9", "LOCALHOST", "[::1]:80", "192.0.2.1:9100"] {
            has_no_cors_fields(&http.ask(&get(target).field("Host", host)).expect(200));
        }
        http.ask(&get(target).field("Sec-Fetch-Site", "none")).expect(200);
        has_no_cors_fields(&http.ask(&get("/nowhere")).refused(404, "not_found"));
        has_no_cors_fields(&http.ask(&request("PATCH", target)).refused(405, "method_not_allowed"));
        // A head that cannot be read.
        http.send("GET /\x01 HTTP/1.1\r\n\r\n");
        has_no_cors_fields(&http.answer().expect(400));
    }
    read_old(&server, "/metrics").strip_prefix("HTTP/1.1 200 ").expect("an answer without a host");
}

// contract §16.4
#[test]
fn a_body_needs_its_content_type() {
    let server = start(&[]);
    let body = r#"{"message":"x"}"#;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        let mut http = admin(&server);
        let announce = post("/announcements").field("Content-Type", kind).body(body);
        http.ask(&announce).refused(422, "bad_body");
    }
    let mut http = admin(&server);
    http.ask(&post("/announcements").body(body)).refused(422, "bad_body");
    for kind in ["application/json", "APPLICATION/JSON; charset=utf-8", "application/json ;a=b"] {
        http.ask(&post("/announcements").field("Content-Type", kind).body(body)).expect(200);
    }
    let metrics = get("/metrics").field("Content-Type", "text/plain").body("{}");
    Http::connect(&server.addresses[1]).ask(&metrics).refused(422, "bad_body");
}

// contract §16.9 §11.5
#[test]
fn the_listener_has_the_metrics_and_the_chat_has_neither() {
    let server = start(&[]);
    let text = admin(&server).ask(&get("/metrics")).expect(200).text();
    assert!(text.contains("\nchat_rooms 0\n"), "{text}");
    let mut http = server.http();
    http.ask(&get("/metrics")).refused(404, "not_found");
    http.ask(&announcement("x")).refused(404, "not_found");
    http.ask(&delete("/rooms/0000000000")).refused(401, "missing_session");
    // This listener has nothing of the chat.
    let mut http = admin(&server);
    http.ask(&post("/sessions").field("Content-Type", "application/json").body("{}"))
        .refused(404, "not_found");
    http.ask(&get("/")).refused(404, "not_found");
    http.ask(&upgrade("/ws/0000000000")).refused(404, "not_found");
}

#[test]
fn a_full_server_is_operated_all_the_same() {
    let server = start(&["--max-connections", "1"]);
    let mut only = server.http();
    only.ask(&get("/ping")).expect(200);
    let mut http = admin(&server);
    http.ask(&get("/rooms")).expect(200);
    http.ask(&announcement("full")).expect(200);
}
