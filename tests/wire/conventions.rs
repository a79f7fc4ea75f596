//! Conventions that hold for every request: errors, ids, authentication, CORS, and the order of checks.

use serde_json::{Value, json};

use crate::client::{
    Answer, Request, TEXT, chat, delete, get, patch, post, request, text, upgrade,
};
use crate::server::{Server, wait_until};

const NO_SESSION: &str = "00000000-0000-4000-8000-000000000000";
const NO_ROOM: &str = "0000000000";
const NO_USER: &str = "0000000000000000";

/// Every path, with a method that it does not allow and all methods that it allows.
fn paths(room: &str) -> Vec<(String, &'static str, &'static [&'static str])> {
    vec![
        ("/sessions".into(), "GET", &["POST"]),
        ("/sessions/me".into(), "POST", &["GET", "HEAD", "DELETE"]),
        ("/rooms".into(), "DELETE", &["GET", "HEAD", "POST"]),
        ("/rooms/all".into(), "POST", &["GET", "HEAD"]),
        (format!("/rooms/{room}"), "POST", &["GET", "HEAD", "PATCH", "DELETE"]),
        (format!("/rooms/{room}/join"), "GET", &["POST"]),
        (format!("/rooms/{room}/leave"), "POST", &["DELETE"]),
        (format!("/rooms/{room}/messages"), "DELETE", &["GET", "HEAD", "POST"]),
        (format!("/rooms/{room}/messages/x"), "GET", &["DELETE"]),
        (format!("/rooms/{room}/users"), "POST", &["GET", "HEAD"]),
        (format!("/rooms/{room}/users/x"), "GET", &["DELETE"]),
        (format!("/rooms/{room}/bans"), "DELETE", &["GET", "HEAD"]),
        (format!("/rooms/{room}/bans/x"), "GET", &["DELETE"]),
        (format!("/rooms/{room}/events"), "POST", &["GET", "HEAD"]),
        (format!("/rooms/{room}/typing"), "GET", &["POST"]),
        ("/health".into(), "POST", &["GET", "HEAD"]),
        ("/ping".into(), "DELETE", &["GET", "HEAD"]),
        (format!("/ws/{room}"), "POST", &["GET"]),
    ]
}

/// Every request that needs a session.
fn authenticated(room: &str) -> Vec<Request> {
    vec![
        get("/sessions/me"),
        delete("/sessions/me"),
        post("/rooms"),
        get("/rooms"),
        post(&format!("/rooms/{room}/join")),
        delete(&format!("/rooms/{room}/leave")),
        get(&format!("/rooms/{room}/messages")),
        post(&format!("/rooms/{room}/messages")),
        delete(&format!("/rooms/{room}/messages/x")),
        get(&format!("/rooms/{room}/users")),
        delete(&format!("/rooms/{room}/users/x")),
        get(&format!("/rooms/{room}/bans")),
        delete(&format!("/rooms/{room}/bans/x")),
        get(&format!("/rooms/{room}/events")),
        post(&format!("/rooms/{room}/typing")),
        patch(&format!("/rooms/{room}")),
        delete(&format!("/rooms/{room}")),
    ]
}

// Errors. The client checks on every response that errors are `{"detail","code"}` in JSON.

// contract §1.3 §4.2
#[test]
fn unknown_paths_are_not_found() {
    let server = Server::start(&[]);
    let paths = ["/nope", "/sessions/you", "/rooms/all/all", "/room", "/ws", "/health/x"];
    for target in paths {
        server.ask(get(target)).refused(404, "not_found");
        server.ask(post(target)).refused(404, "not_found");
    }
    server.ask(request("PURGE", "/nope")).refused(404, "not_found");
}

// contract §1.3 §4.3
#[test]
fn an_error_to_head_has_the_fields_but_no_body() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let missing = http.ask(&request("HEAD", "/nope")).expect(404);
    assert_eq!(missing.field("Content-Type"), Some("application/json"));
    http.ask(&request("HEAD", "/rooms")).expect(401);
    http.ask(&get("/health")).expect(200);
}

// contract §4.1
#[test]
fn a_wrong_method_on_a_known_path_is_405_and_lists_the_allowed_methods() {
    let server = Server::start(&[]);
    let room = server.room(&server.session("ana"));
    for (path, wrong, right) in paths(&room) {
        for method in [wrong, "PUT", "PURGE"] {
            let answer = server.ask(request(method, &path)).refused(405, "method_not_allowed");
            for method in right {
                assert!(answer.lists("Allow", method), "{path} allows {method}: {answer:?}");
            }
            assert!(!answer.lists("Allow", wrong), "{path} does not allow {wrong}: {answer:?}");
        }
        server.ask(request("CONNECT", &path)).refused(400, "bad_request");
    }
}

// contract §4.1
#[test]
fn methods_are_case_sensitive() {
    let server = Server::start(&[]);
    server.ask(request("get", "/health")).refused(405, "method_not_allowed");
}

// Trailing slashes.

// contract §1.6
#[test]
fn a_trailing_slash_is_ignored() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    server.ask(post("/sessions/").json(&json!({"username": "bob"}))).expect(201);
    server.ask(post("/rooms/").session(&server.session("bob"))).expect(201);
    server.ask(post(&format!("/rooms/{room}/join/")).session(&ana)).expect(200);
    let same = [
        "/sessions/me",
        "/rooms",
        "/rooms/all",
        &format!("/rooms/{room}"),
        &format!("/rooms/{room}/messages"),
        &format!("/rooms/{room}/users"),
        "/ping",
    ];
    for path in same {
        let plain = server.ask(get(path).session(&ana)).expect(200);
        let slash = server.ask(get(&format!("{path}/")).session(&ana)).expect(200);
        assert_eq!(plain.body, slash.body, "{path}");
    }
    server.ask(get("/health/")).expect(200);
    server.ask(get(&format!("/rooms/{room}/messages/?limit=0")).session(&ana)).expect(422);
    server.ask(get(&format!("/ws/{room}/"))).refused(426, "upgrade_required");
    server.upgrade(upgrade(&format!("/ws/{room}/?session_id={ana}"))).expect_join("ana");
    server.ask(delete(&format!("/rooms/{room}/leave/")).session(&ana)).expect(200);
    server.ask(delete("/sessions/me/").session(&ana)).expect(200);
    server.ask(get("/sessions/me/").session(&ana)).refused(401, "invalid_session");
    server.ask(get("/nope/")).refused(404, "not_found");
    server.ask(request("PUT", "/rooms/")).refused(405, "method_not_allowed");
}

// Ids and times.

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_uuid(text: &str, version: char) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12]
        && is_hex(&groups.concat())
        && groups[2].starts_with(version)
        && groups[3].starts_with(['8', '9', 'a', 'b'])
}

fn is_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000000Z"
}

fn string<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

// contract §1.12 §1.13 §1.14 §1.15 §1.16
#[test]
fn ids_and_times_have_their_documented_shapes() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    assert!(is_uuid(&ana.session, '4'), "a session id is a UUID v4");
    assert!(room.len() == 10 && is_hex(&room), "{room}");
    for text in ["one", "two", "three"] {
        ana.chat(text);
    }
    bob.chat("four");
    let messages = loop {
        let messages = server.messages(&room, &ana.session);
        if messages.len() == 6 {
            break messages;
        }
        ana.event();
    };
    for pair in messages.windows(2) {
        assert!(string(&pair[0], "id") < string(&pair[1], "id"), "ids strictly increase");
        assert!(string(&pair[0], "timestamp") <= string(&pair[1], "timestamp"));
    }
    for message in &messages {
        assert!(is_uuid(string(message, "id"), '7'), "{message}");
        assert!(is_time(string(message, "timestamp")), "{message}");
        let user_id = string(message, "user_id");
        assert!(user_id.len() == 16 && is_hex(user_id), "{message}");
    }
}

// contract §1.15
#[test]
fn a_user_id_is_one_per_session_and_room() {
    let server = Server::start(&[]);
    let (first, second) = (server.session("ana"), server.session("bob"));
    let (lobby, attic) = (server.room(&first), server.room(&first));
    let in_lobby = server.enter_as(&lobby, "ana", &first);
    let in_attic = server.enter_as(&attic, "ana", &first);
    assert_ne!(in_lobby.user_id, in_attic.user_id, "a user has another id in each room");
    let mut other = server.enter_as(&lobby, "bob", &second);
    assert_ne!(other.user_id, in_lobby.user_id);
    in_lobby.close();
    let gone = other.expect_left("ana");
    let back = server.enter_as(&lobby, "ana", &first);
    assert_eq!(gone["user_id"], json!(back.user_id), "a user who returns keeps the id");
}

// contract §1.12
#[test]
fn no_response_or_event_shows_a_session_id() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    ana.chat("hi");
    ana.typing();
    let mut seen = vec![bob.event().to_string(), bob.event().to_string()];
    seen.push(json!(server.messages(&room, &bob.session)).to_string());
    seen.push(server.ask(get("/rooms/all")).text());
    seen.push(server.ask(get(&format!("/rooms/{room}"))).text());
    seen.push(server.health().to_string());
    assert!(seen.iter().all(|text| !text.contains(&ana.session)), "{seen:?}");
}

// Authentication.

// contract §1.19
#[test]
fn a_request_without_credentials_is_401_with_the_scheme() {
    let server = Server::start(&[]);
    let room = server.room(&server.session("ana"));
    let challenge = |answer: Answer| {
        let answer = answer.refused(401, "missing_session");
        assert_eq!(answer.field("WWW-Authenticate"), Some("Bearer"));
    };
    for request in authenticated(&room) {
        challenge(server.ask(request.clone()));
        for value in ["", "Bearer", "Bearer ", "Basic YW5hOnNlY3JldA==", "Digest x=y"] {
            challenge(server.ask(request.clone().field("Authorization", value)));
        }
    }
}

// contract §1.20
#[test]
fn a_bad_session_is_401_with_invalid_token() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    server.ask(delete("/sessions/me").session(&ana)).expect(200);
    let long = "x".repeat(1000);
    for bad in [ana.as_str(), NO_SESSION, "nonsense", "1234", &long, "a b c"] {
        for request in authenticated(&room) {
            // Ending a session that does not exist succeeds.
            let is_end = request.bytes("").starts_with(b"DELETE /sessions/me");
            if is_end && (bad == ana || bad == NO_SESSION) {
                continue;
            }
            let answer = server.ask(request.session(bad)).refused(401, "invalid_session");
            let challenge = answer.field("WWW-Authenticate");
            assert_eq!(challenge, Some("Bearer error=\"invalid_token\""));
        }
    }
}

// contract §1.18
#[test]
fn the_scheme_is_compared_without_case() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let value = format!("{scheme} {ana}");
        server.ask(get("/sessions/me").field("Authorization", &value)).expect(200);
    }
}

// CORS.

const PAGE: &str = "https://page.example";
const OTHER_PAGE: &str = "https://other.example";

fn echoes(answer: &Answer, origin: &str) {
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some(origin), "{answer:?}");
    assert_eq!(answer.field("Access-Control-Allow-Credentials"), Some("true"), "{answer:?}");
    assert!(answer.lists("Vary", "Origin"), "{answer:?}");
}

fn has_no_cors_fields(answer: &Answer) {
    let mut names = answer.fields.iter().map(|(name, _)| name.to_ascii_lowercase());
    assert!(!names.any(|name| name.starts_with("access-control-")), "{answer:?}");
}

fn preflight(target: &str, origin: &str, method: &str) -> Request {
    request("OPTIONS", target)
        .field("Origin", origin)
        .field("Access-Control-Request-Method", method)
        .field("Access-Control-Request-Headers", "authorization,content-type")
}

// contract §1.21 §1.24 §12.24
#[test]
fn any_origin_is_echoed_on_every_response() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let answers = [
        (200, get("/health")),
        (200, get("/sessions/me").session(&ana)),
        (201, post("/rooms").session(&ana)),
        (400, post("/sessions").body(r#"{"username":"x"}"#)),
        (401, get("/sessions/me")),
        (404, get("/nope")),
        (404, get("/rooms/0000000000")),
        (405, request("PUT", "/rooms")),
        (422, post("/sessions").body("nope")),
        (426, get(&format!("/ws/{room}"))),
    ];
    for (status, request) in answers {
        for origin in [PAGE, "http://localhost:3000", "null"] {
            let answer = server.ask(request.clone().field("Origin", origin)).expect(status);
            echoes(&answer, origin);
            for name in ["Location", "Retry-After", "WWW-Authenticate"] {
                assert!(answer.lists("Access-Control-Expose-Headers", name), "{answer:?}");
            }
        }
    }
}

/// Sends a request from `PAGE` that ends its connection: `line`, the fields `Host` and `Origin`, and `rest`.
fn ending(server: &Server, line: &str, rest: &str) -> Answer {
    let mut http = server.http();
    http.send(format!("{line} HTTP/1.1\r\nHost: a\r\nOrigin: {PAGE}\r\n{rest}"));
    let answer = http.answer();
    http.expect_end();
    answer
}

// contract §1.24
#[test]
fn the_origin_is_echoed_on_responses_that_end_the_connection() {
    let server = Server::start(&["--body-timeout", "200ms", "--cors-origin", PAGE]);
    let post = |server, rest| ending(server, "POST /sessions", rest);
    echoes(&post(&server, "Content-Length: 5, 5\r\n\r\n").refused(400, "bad_request"), PAGE);
    echoes(&post(&server, "Content-Length: 65537\r\n\r\n").refused(413, "body_too_large"), PAGE);
    echoes(&post(&server, "Content-Length: 5\r\n\r\n").refused(408, "timeout"), PAGE);
    let small = Server::start(&["--max-connections", "1", "--cors-origin", PAGE]);
    let mut first = small.http();
    first.ask(&get("/ping")).expect(200);
    let full = post(&small, "Content-Length: 0\r\n\r\n").refused(503, "server_full");
    echoes(&full, PAGE);
    assert!(full.lists("Access-Control-Expose-Headers", "Retry-After"), "{full:?}");
}

/// The server does not know the origin of a request whose head it cannot read to the end.
// contract §1.31
#[test]
fn an_unreadable_head_is_refused_to_any_origin_unless_origins_are_restricted() {
    let open = Server::start(&["--header-timeout", "200ms"]);
    let narrow = Server::start(&["--header-timeout", "200ms", "--cors-origin", PAGE]);
    let long = format!("GET /{}", "x".repeat(8192));
    let wide = format!("X: {}\r\n\r\n", "x".repeat(16 * 1024));
    let unread = [
        (400, "GET /ping", "a line\n"),
        (408, "GET /ping", ""),
        (414, &*long, ""),
        (431, "GET /ping", &*wide),
    ];
    for (status, line, rest) in unread {
        let answer = ending(&open, line, rest).expect(status);
        assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"), "{answer:?}");
        assert_eq!(answer.field("Access-Control-Allow-Credentials"), None, "{answer:?}");
        assert!(answer.lists("Access-Control-Expose-Headers", "Retry-After"), "{answer:?}");
        has_no_cors_fields(&ending(&narrow, line, rest).expect(status));
    }
}

// contract §1.25
#[test]
fn preflights_need_no_session_on_any_path() {
    let server = Server::start(&[]);
    let targets =
        ["/sessions", "/sessions/me", "/rooms", "/rooms/", "/rooms/x/join", "/ws/x", "/no/such"];
    for target in targets {
        for method in ["GET", "POST", "PATCH", "DELETE"] {
            let answer = server.ask(preflight(target, PAGE, method));
            assert!(matches!(answer.status, 200 | 204), "{target}: {answer:?}");
            echoes(&answer, PAGE);
            for method in ["GET", "POST", "PATCH", "DELETE"] {
                assert!(answer.lists("Access-Control-Allow-Methods", method), "{answer:?}");
            }
            for name in ["Authorization", "Content-Type"] {
                assert!(answer.lists("Access-Control-Allow-Headers", name), "{answer:?}");
            }
        }
    }
}

// contract §1.22 §12.24
#[test]
fn with_cors_origin_rest_answers_other_origins_without_cors_fields() {
    let server = Server::start(&["--cors-origin", PAGE, "--cors-origin", "https://b.example"]);
    for origin in [PAGE, "https://b.example"] {
        echoes(&server.ask(get("/health").field("Origin", origin)).expect(200), origin);
        echoes(&server.ask(get("/nope").field("Origin", origin)).expect(404), origin);
        echoes(&server.ask(preflight("/rooms", origin, "POST")), origin);
    }
    for origin in [OTHER_PAGE, "http://page.example", "https://page.example:444", "null"] {
        let answer = server.ask(get("/health").field("Origin", origin));
        has_no_cors_fields(&answer.expect(200));
        has_no_cors_fields(&server.ask(get("/nope").field("Origin", origin)).expect(404));
        has_no_cors_fields(&server.ask(preflight("/rooms", origin, "POST")));
    }
}

// contract §1.22 §12.24
#[test]
fn with_cors_origin_sockets_of_other_origins_are_403() {
    let server = Server::start(&["--cors-origin", PAGE]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let target = format!("/ws/{room}?session_id={ana}");
    let bad = server.ask(upgrade(&target).field("Origin", OTHER_PAGE));
    bad.refused(403, "bad_origin");
    server.upgrade(upgrade(&target).field("Origin", PAGE)).expect_join("ana");
}

// contract §1.21
#[test]
fn without_cors_origin_sockets_of_any_origin_are_accepted() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let target = format!("/ws/{room}?session_id={ana}");
    server.upgrade(upgrade(&target).field("Origin", OTHER_PAGE)).expect_join("ana");
}

// The order of checks.

// contract §1.11
#[test]
fn framing_comes_before_the_path() {
    let server = Server::start(&[]);
    let mut http = server.http();
    http.send("GET /nope HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
    http.answer().refused(400, "bad_request");
    let mut http = server.http();
    http.send("POST /nope HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n");
    http.answer().refused(413, "body_too_large");
}

// contract §1.11
#[test]
fn the_path_comes_before_the_method() {
    let server = Server::start(&[]);
    server.ask(request("PUT", "/nope")).refused(404, "not_found");
}

// contract §1.11
#[test]
fn the_method_comes_before_authentication() {
    let server = Server::start(&[]);
    let room = server.room(&server.session("ana"));
    for (path, wrong, _) in paths(&room) {
        let answer = server.ask(request(wrong, &path).session("nonsense").body("nope"));
        answer.refused(405, "method_not_allowed");
    }
}

// contract §1.11
#[test]
fn the_format_comes_after_the_method_and_before_authentication() {
    let server = Server::start(&[]);
    let room = server.room(&server.session("ana"));
    let events = format!("/rooms/{room}/events");
    let picky = |method: &str, target: &str| {
        request(method, target).field("Accept", "image/png").session("nonsense").body("nope")
    };
    server.ask(picky("GET", &format!("{events}/x"))).refused(404, "not_found");
    server.ask(picky("POST", &events)).refused(405, "method_not_allowed");
    server.ask(picky("GET", &events)).refused(406, "not_acceptable");
    server.ask(get(&events).session("nonsense")).refused(401, "invalid_session");
}

// contract §1.11
#[test]
fn authentication_comes_before_body_and_query() {
    let server = Server::start(&[]);
    let room = server.room(&server.session("ana"));
    server.ask(post("/rooms").body("nope")).refused(401, "missing_session");
    server.ask(post("/rooms").session(NO_SESSION).body("nope")).refused(401, "invalid_session");
    let messages = get(&format!("/rooms/{room}/messages?limit=0"));
    server.ask(messages).refused(401, "missing_session");
}

// contract §1.11
#[test]
fn body_and_query_come_before_the_room() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let join = post(&format!("/rooms/{NO_ROOM}/join")).session(&ana);
    server.ask(join.clone().body("nope")).refused(422, "bad_body");
    server.ask(join).refused(404, "room_not_found");
    let leave = delete(&format!("/rooms/{NO_ROOM}/leave")).session(&ana);
    server.ask(leave.body("[]")).refused(422, "bad_body");
    let messages = |query: &str| get(&format!("/rooms/{NO_ROOM}/messages{query}")).session(&ana);
    server.ask(messages("?limit=0")).refused(422, "bad_query");
    server.ask(messages("")).refused(404, "room_not_found");
    server.ask(messages("?limit=5")).refused(404, "room_not_found");
}

// contract §1.11 §4.2
#[test]
fn an_unknown_path_is_not_found_whatever_the_body() {
    let server = Server::start(&[]);
    server.ask(post("/nope").body("nope")).refused(404, "not_found");
}

// Queries.

// contract §1.9 §2.10
#[test]
fn parameters_out_of_range_or_of_the_wrong_type_are_422() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let messages =
        |limit: &str| get(&format!("/rooms/{room}/messages?limit={limit}")).session(&ana);
    for limit in ["0", "1001", "-1", "abc", "", "1.5", "99999999999999999999999", "5x", "%00"] {
        server.ask(messages(limit)).refused(422, "bad_query");
    }
    for limit in ["1", "50", "1000", "%35"] {
        server.ask(messages(limit)).expect(200);
    }
}

// Bodies.

// contract §1.8
#[test]
fn an_empty_body_counts_as_no_body() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let typed = |request: Request| request.field("Content-Type", "application/json").body("");
    server.ask(typed(post("/rooms").session(&ana))).expect(201);
    server.ask(typed(get("/health"))).expect(200);
    server.ask(typed(post("/sessions"))).refused(422, "bad_body");
    server.ask(post("/sessions")).refused(422, "bad_body");
}

// contract §1.8
#[test]
fn a_body_where_none_is_needed_must_be_an_object_or_empty() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let requests = [
        (200, post(&format!("/rooms/{room}/join"))),
        (200, get("/sessions/me")),
        (200, get("/rooms")),
        (200, get("/rooms/all")),
        (200, get(&format!("/rooms/{room}"))),
        (200, get(&format!("/rooms/{room}/messages"))),
        (200, get(&format!("/rooms/{room}/users"))),
        (404, delete(&format!("/rooms/{room}/users/{NO_USER}"))),
        (200, get(&format!("/rooms/{room}/bans"))),
        (200, delete(&format!("/rooms/{room}/bans/{NO_USER}"))),
        (404, delete(&format!("/rooms/{room}/messages/{NO_SESSION}"))),
        (204, post(&format!("/rooms/{room}/typing"))),
        (200, get("/health")),
        (200, get("/ping")),
        (201, post("/rooms")),
        (200, delete(&format!("/rooms/{room}/leave"))),
        (200, delete(&format!("/rooms/{room}"))),
        (200, delete("/sessions/me")),
    ];
    for (status, request) in requests {
        let request = request.session(&ana);
        for bad in ["[]", "null", "1", "\"x\"", "nope", "{", "{} {}"] {
            server.ask(request.clone().body(bad)).refused(422, "bad_body");
        }
        let object = r#" {"unknown": [1, {"deep": null}]} "#;
        server.ask(request.body(object)).expect(status);
    }
}

// contract §1.1
#[test]
fn unknown_request_fields_are_ignored() {
    let server = Server::start(&[]);
    let body = json!({"username": "ana", "colour": "red", "age": {"years": 3}});
    server.ask(post("/sessions").json(&body)).expect(201);
    let (_, mut ana, mut bob) = server.room_of_two();
    ana.text(r#"{"type":"chat","message":"hi","colour":"red"}"#);
    bob.expect_chat("ana", "hi");
    ana.text(r#"{"colour":"red","type":"typing"}"#);
    bob.expect_event(&json!({"type": "typing", "user": "ana"}));
}

// Health and ping.

// contract §1.1 §2.11
#[test]
fn health_counts_sessions_rooms_and_connections() {
    let server = Server::start(&[]);
    let empty = server.health();
    assert_eq!(empty["status"], "ok");
    assert!(empty["version"].is_string() && empty["uptime"].is_number(), "{empty}");
    assert_eq!((&empty["sessions"], &empty["rooms"]), (&json!(0), &json!(0)));
    let mut http = server.http();
    // The connection of the first request may still be counted for a moment.
    wait_until("only this connection is left", || {
        http.ask(&get("/health")).json()["connections"] == 1
    });
    let (_, ana, bob) = server.room_of_two();
    let full = http.ask(&get("/health")).json();
    assert_eq!((&full["sessions"], &full["rooms"]), (&json!(2), &json!(1)));
    assert!(full["connections"].as_u64() >= Some(3), "{full}");
    assert!(full["uptime"].as_f64() >= empty["uptime"].as_f64());
    drop((ana, bob));
}

// contract §2.12
#[test]
fn ping_answers_get_and_head() {
    let server = Server::start(&[]);
    server.ask(get("/ping")).expect(200);
    assert!(server.ask(request("HEAD", "/ping")).expect(200).body.is_empty());
}

/// A test of the test client: with wrong masking, no other test would mean anything.
#[test]
fn the_test_client_masks_as_rfc_6455_does() {
    // RFC 6455 §5.7, "a single-frame masked text message".
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(text("Hello"), hello);
    assert_eq!(chat("x")[0], 0x80 | TEXT);
}
