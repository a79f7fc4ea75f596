//! Provokes every status and code of every operation. A list names those that no request can provoke, with the reason.

use std::collections::BTreeSet;

use disposable_chat::api::error::Code;
use disposable_chat::api::routes::ROUTES;
use disposable_chat::http::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Events, Request, delete, get, patch, post, request};
use crate::document::{Checker, Document, codes, method_of, operations};
use crate::server::Server;

/// Files that only the pages request, and the socket, which the other document describes: they are routes but not
/// operations.
const PARTS: &[&str] =
    &["/sw.js", "/page/{file}", "/docs.js", "/docs.css", "/docs/{file}", "/ws/{room_id}"];

/// Errors that no request can provoke by itself.
const UNPROVOKED_ERRORS: &[(u16, &str, &str)] = &[
    (500, "internal_error", "a bug in the server"),
    (503, "shutting_down", "only while the process ends; tests/wire/shutdown.rs has it"),
    (503, "unavailable", "only in a cluster; tests/cluster/away.rs has it"),
];

/// No rate limits.
const UNLIMITED: &[&str] = &["--session-rate", "0", "--room-rate", "0", "--message-rate", "0"];

/// An address to which rates apply; loopback itself is exempt.
const FORWARDED: (&str, &str) = ("X-Forwarded-For", "203.0.113.7");

/// The paths that each test below covers. Together they are all paths.
const SESSIONS: &[&str] = &["/sessions", "/sessions/me"];
const ROOMS: &[&str] = &[
    "/rooms",
    "/rooms/all",
    "/rooms/{room_id}",
    "/rooms/{room_id}/join",
    "/rooms/{room_id}/leave",
    "/rooms/{room_id}/users",
];
const MESSAGES: &[&str] = &["/rooms/{room_id}/messages", "/rooms/{room_id}/messages/{message_id}"];
const STREAMS: &[&str] = &["/rooms/{room_id}/events", "/rooms/{room_id}/typing"];
const MODERATION: &[&str] = &[
    "/rooms/{room_id}/users/{user_id}",
    "/rooms/{room_id}/bans",
    "/rooms/{room_id}/bans/{user_id}",
];
const OTHERS: &[&str] = &[
    "/health",
    "/ping",
    "/",
    "/client.js",
    "/client.d.ts",
    "/openapi.json",
    "/asyncapi.json",
    "/docs",
];

fn routes() -> BTreeSet<(String, &'static str)> {
    let method = |method| match method {
        Method::Get => "get",
        Method::Post => "post",
        Method::Patch => "patch",
        Method::Delete => "delete",
        other => panic!("{other:?} is no method of a route"),
    };
    ROUTES.iter().map(|route| (route.path.to_owned(), method(route.method))).collect()
}

fn documented() -> BTreeSet<(String, String)> {
    let document = Document::openapi();
    let paths = document.0["paths"].as_object().expect("paths");
    let all = paths.iter().flat_map(|(path, item)| {
        operations(item).map(move |(method, _)| (path.clone(), method.clone()))
    });
    all.collect()
}

#[test]
fn every_route_is_documented() {
    let documented = documented();
    for (path, method) in routes() {
        let part = PARTS.contains(&path.as_str());
        let is_documented = documented.contains(&(path.clone(), method.to_owned()));
        assert!(is_documented != part, "{method} {path}");
    }
}

#[test]
fn every_documented_operation_is_a_route() {
    let routes = routes();
    let mut missing = documented();
    missing.retain(|(path, method)| !routes.contains(&(path.clone(), method)));
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_documented_path_is_tested_below() {
    let mut tested: Vec<_> = [SESSIONS, ROOMS, MESSAGES, MODERATION, STREAMS, OTHERS].concat();
    tested.sort_unstable();
    let documented: BTreeSet<_> = documented().into_iter().map(|(path, _)| path).collect();
    assert_eq!(tested, Vec::from_iter(&documented));
}

#[test]
fn the_documents_have_the_version_of_the_crate() {
    for document in [Document::openapi(), Document::asyncapi()] {
        assert_eq!(document.0["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}

// contract §11.3 §11.4
#[test]
fn each_document_is_served_and_names_its_language() {
    let server = Server::start(&[]);
    for (path, language, version) in
        [("/openapi.json", "openapi", "3.1."), ("/asyncapi.json", "asyncapi", "3.")]
    {
        let document = server.ask(get(path)).expect(200).json();
        assert!(document[language].as_str().is_some_and(|named| named.starts_with(version)));
    }
}

// contract §1.2
#[test]
fn no_schema_forbids_fields_that_it_does_not_name() {
    fn check(value: &Value, found: &mut usize) {
        match value {
            Value::Object(fields) => {
                for closing in ["additionalProperties", "unevaluatedProperties"] {
                    assert_ne!(fields.get(closing), Some(&json!(false)), "{value}");
                }
                *found += usize::from(fields.contains_key("properties"));
                fields.values().for_each(|field| check(field, found));
            }
            Value::Array(all) => all.iter().for_each(|one| check(one, found)),
            _ => {}
        }
    }
    for document in [Document::openapi(), Document::asyncapi()] {
        let mut found = 0;
        check(&document.0, &mut found);
        assert!(found > 5, "{found} schemas");
    }
}

/// A well-formed session id that does not exist.
const NO_SESSION: &str = "00000000-0000-4000-8000-000000000000";
/// A well-formed room id that does not exist.
const NO_ROOM: &str = "0000000000";

/// Asserts 401 for a request without a session and with one that does not exist.
fn needs_a_session(checker: &mut Checker, server: &Server, path: &str, request: &Request) {
    checker.refused(server, path, request.clone(), 401, "missing_session");
    checker.refused(server, path, request.clone().session(NO_SESSION), 401, "invalid_session");
}

/// Repeats a request until the response is 429.
fn ask_until_429(checker: &mut Checker, server: &Server, path: &str, request: &Request) -> Answer {
    let mut http = server.http();
    for _ in 0..2000 {
        let answer = http.ask(request);
        checker.check(path, &method_of(request), &answer);
        if answer.status == 429 {
            return answer;
        }
    }
    panic!("{path} never answers 429");
}

#[test]
fn operations_on_sessions_answer_as_documented() {
    let server = Server::start(UNLIMITED);
    let checker = &mut Checker::new();
    let open = |body: &Value| post("/sessions").json(body);
    let answer = checker.ask(&server, "/sessions", open(&json!({"username": " ana "})), 201).json();
    assert_eq!(answer["username"], "ana");
    let id = answer["session_id"].as_str().expect("an id").to_owned();
    checker.refused(&server, "/sessions", open(&json!({"username": "a"})), 400, "bad_username");
    checker.refused(&server, "/sessions", open(&json!({"username": 5})), 422, "bad_body");
    checker.refused(&server, "/sessions", open(&json!([])), 422, "bad_body");

    let me = "/sessions/me";
    needs_a_session(checker, &server, me, &get(me));
    let room = server.room(&id);
    let answer = checker.ask(&server, me, get(me).session(&id), 200).json();
    assert_eq!(answer["joined_rooms"], json!([room]));
    checker.refused(&server, me, delete(me), 401, "missing_session");
    checker.refused(&server, me, delete(me).session("x"), 401, "invalid_session");
    checker.ask(&server, me, delete(me).session(&id), 200);
    checker.ask(&server, me, delete(me).session(&id), 200);

    let limited = Server::start(&["--trusted-proxy", "127.0.0.1", "--session-rate", "1"]);
    let open = post("/sessions").field(FORWARDED.0, FORWARDED.1).json(&json!({"username": "ana"}));
    ask_until_429(checker, &limited, "/sessions", &open);
    let limited = Server::start(&["--trusted-proxy", "127.0.0.1", "--address-sessions", "2"]);
    let answer = ask_until_429(checker, &limited, "/sessions", &open);
    assert_eq!(answer.json()["code"], "too_many_sessions");
    checker.expect_all_of(SESSIONS, &[]);
}

#[test]
fn operations_on_rooms_answer_as_documented() {
    let server = Server::start(UNLIMITED);
    let checker = &mut Checker::new();
    let (ana, bob) = (server.session("ana"), server.session("bob"));

    needs_a_session(checker, &server, "/rooms", &post("/rooms"));
    needs_a_session(checker, &server, "/rooms", &get("/rooms"));
    let open = |body: &Value| post("/rooms").session(&ana).json(body);
    let plain = checker.ask(&server, "/rooms", post("/rooms").session(&ana), 201).json();
    let plain = plain["room_id"].as_str().expect("an id").to_owned();
    let secret = open(&json!({"title": "Tea", "private": true, "password": "pst"}));
    let secret = checker.ask(&server, "/rooms", secret, 201).json();
    let secret = secret["room_id"].as_str().expect("an id").to_owned();
    for bad in [json!([]), json!({"title": 5}), json!({"title": ""}), json!({"password": ""})] {
        checker.refused(&server, "/rooms", open(&bad), 422, "bad_body");
    }
    let joined = checker.ask(&server, "/rooms", get("/rooms").session(&ana), 200).json();
    assert_eq!(joined["rooms"], json!([plain, secret]));

    let all = "/rooms/all";
    assert_eq!(checker.ask(&server, all, get(all), 200).json()["rooms"], json!([plain]));
    let detail = checker.ask(&server, all, get("/rooms/all?detail=true"), 200).json();
    assert_eq!(detail["rooms"][0]["room_id"], json!(plain));
    checker.refused(&server, all, get("/rooms/all?detail=perhaps"), 422, "bad_query");

    let one = "/rooms/{room_id}";
    let at = |path: &str, room: &str| path.replace("{room_id}", room);
    let shown = checker.ask(&server, one, get(&at(one, &secret)), 200).json();
    assert_eq!(shown["title"], "Tea");
    for nowhere in [NO_ROOM, "x"] {
        checker.refused(&server, one, get(&at(one, nowhere)), 404, "room_not_found");
    }

    let join = "/rooms/{room_id}/join";
    let joins = |room: &str, body: &str| post(&at(join, room)).session(&bob).body(body);
    needs_a_session(checker, &server, join, &post(&at(join, &plain)));
    checker.ask(&server, join, joins(&plain, ""), 200);
    checker.refused(&server, join, joins(NO_ROOM, ""), 404, "room_not_found");
    checker.refused(&server, join, joins(&plain, "[]"), 422, "bad_body");
    checker.refused(&server, join, joins(&secret, r#"{"password":5}"#), 422, "bad_body");
    checker.refused(&server, join, joins(&secret, ""), 403, "bad_password");
    checker.refused(&server, join, joins(&secret, r#"{"password":"x"}"#), 403, "bad_password");
    let wrong = joins(&secret, r#"{"password":"x"}"#);
    let limited = ask_until_429(checker, &server, join, &wrong);
    assert_eq!(limited.json()["code"], "rate_limited");

    let users = "/rooms/{room_id}/users";
    needs_a_session(checker, &server, users, &get(&at(users, &plain)));
    checker.refused(&server, users, get(&at(users, NO_ROOM)).session(&bob), 404, "room_not_found");
    checker.refused(&server, users, get(&at(users, &secret)).session(&bob), 403, "not_a_member");
    let _ana = server.enter_as(&plain, "ana", &ana);
    let present = checker.ask(&server, users, get(&at(users, &plain)).session(&bob), 200).json();
    assert_eq!(present["users"][0]["user"], "ana");

    let leave = "/rooms/{room_id}/leave";
    needs_a_session(checker, &server, leave, &delete(&at(leave, &plain)));
    checker.ask(&server, leave, delete(&at(leave, &plain)).session(&bob), 200);
    checker.ask(&server, leave, delete(&at(leave, NO_ROOM)).session(&bob), 200);

    let change =
        |room: &str, session: &str, body: &Value| patch(&at(one, room)).session(session).json(body);
    needs_a_session(checker, &server, one, &patch(&at(one, &plain)));
    let changed = change(&plain, &ana, &json!({"title": "Tea", "slow_mode": 10, "locked": true}));
    let changed = checker.ask(&server, one, changed, 200).json();
    assert_eq!(changed["slow_mode"], 10);
    let stranger = get(&at(users, &plain)).session(&server.session("cy"));
    checker.refused(&server, users, stranger, 403, "room_locked");
    checker.ask(&server, one, change(&plain, &ana, &json!({"locked": false})), 200);
    checker.refused(&server, one, change(&plain, &ana, &json!({"locked": 1})), 422, "bad_body");
    checker.refused(&server, one, change(&plain, &bob, &json!({})), 403, "not_the_owner");
    checker.refused(&server, one, change(NO_ROOM, &ana, &json!({})), 404, "room_not_found");
    let nobody = change(&plain, &ana, &json!({"owner": "0000000000000000"}));
    checker.refused(&server, one, nobody, 404, "user_not_found");
    let slow = Server::start(&["--message-rate", "1", "--message-burst", "1"]);
    let dora = slow.session("dora");
    ask_until_429(checker, &slow, one, &change(&slow.room(&dora), &dora, &json!({})));

    needs_a_session(checker, &server, one, &delete(&at(one, &plain)));
    checker.refused(&server, one, delete(&at(one, &plain)).session(&bob), 403, "not_the_owner");
    checker.refused(&server, one, delete(&at(one, NO_ROOM)).session(&bob), 404, "room_not_found");
    checker.ask(&server, one, delete(&at(one, &secret)).session(&ana), 200);

    let answer = ask_until_429(checker, &server, "/rooms", &post("/rooms").session(&bob));
    assert_eq!(answer.json()["code"], "too_many_rooms");
    checker.refused(&server, join, joins(&plain, ""), 429, "too_many_rooms");
    checker.expect_all_of(ROOMS, &[]);
}

#[test]
fn operations_on_messages_answer_as_documented() {
    let server = Server::start(&["--message-rate", "1", "--message-burst", "8"]);
    let checker = &mut Checker::new();
    let (ana, bob, other_ana) =
        (server.session("ana"), server.session("bob"), server.session("ANA"));
    let secret = post("/rooms").session(&ana).json(&json!({"password": "pst"}));
    let secret = server.ask(secret).expect(201).string("room_id");
    let plain = server.room(&ana);

    let path = "/rooms/{room_id}/messages";
    let at = |room: &str, query: &str| format!("/rooms/{room}/messages{query}");
    let read = |room: &str, query: &str, session: &str| get(&at(room, query)).session(session);
    let say =
        |room: &str, session: &str, body: &str| post(&at(room, "")).session(session).body(body);
    needs_a_session(checker, &server, path, &get(&at(&plain, "")));
    needs_a_session(checker, &server, path, &post(&at(&plain, "")).body(r#"{"message":"a"}"#));

    let first = say(&plain, &ana, r#"{"message":"Hello world!","nonce":"1"}"#);
    let sent = checker.ask(&server, path, first.clone(), 201).json();
    assert_eq!(checker.ask(&server, path, first, 200).json(), sent, "the nonce is known");
    let got = checker.ask(&server, path, read(&plain, "", &bob), 200).json();
    assert_eq!(got["messages"], json!([sent]));
    let after = format!("?limit=1&after={}", sent["id"].as_str().expect("an id"));
    let got = checker.ask(&server, path, read(&plain, &after, &bob), 200).json();
    assert_eq!((&got["messages"], &got["complete"]), (&json!([]), &json!(true)));
    let got = checker.ask(&server, path, read(&plain, "?after=x", &bob), 200).json();
    assert_eq!((&got["messages"], &got["complete"]), (&json!([sent]), &json!(false)));

    checker.refused(&server, path, read(&plain, "?limit=0", &bob), 422, "bad_query");
    checker.refused(&server, path, read(NO_ROOM, "", &bob), 404, "room_not_found");
    checker.refused(&server, path, read(&secret, "", &bob), 403, "not_a_member");
    let hello = r#"{"message":"Hello"}"#;
    checker.refused(&server, path, say(NO_ROOM, &bob, hello), 404, "room_not_found");
    checker.refused(&server, path, say(&plain, &bob, hello), 403, "not_a_member");
    let long = json!({"message": "x".repeat(4001)}).to_string();
    for (body, code) in [
        ("[]", "bad_body"),
        (r#"{"message":5}"#, "bad_message"),
        (r#"{"message":"a","nonce":""}"#, "bad_nonce"),
        (r#"{"message":" "}"#, "empty_message"),
        (&long, "too_long"),
    ] {
        checker.refused(&server, path, say(&plain, &ana, body), 422, code);
    }

    let one = "/rooms/{room_id}/messages/{message_id}";
    let of = |id: &Value| format!("/rooms/{plain}/messages/{}", id.as_str().expect("an id"));
    let deletion = |session: &str| delete(&of(&sent["id"])).session(session);
    needs_a_session(checker, &server, one, &delete(&of(&sent["id"])));
    checker.refused(&server, one, deletion(&bob), 403, "not_the_author");
    let missing = delete(&of(&json!("x"))).session(&ana);
    checker.refused(&server, one, missing, 404, "message_not_found");
    checker.ask(&server, one, deletion(&ana), 200);
    let got = checker.ask(&server, path, read(&plain, "", &bob), 200).json();
    assert_eq!(got["messages"][0]["deleted"], true);
    assert_eq!(got["messages"][1]["target"], sent["id"]);
    ask_until_429(checker, &server, one, &deletion(&ana));

    let _ana = server.enter_as(&plain, "ana", &ana);
    let join = post(&format!("/rooms/{plain}/join")).session(&other_ana);
    server.ask(join).expect(200);
    checker.refused(&server, path, say(&plain, &other_ana, hello), 409, "name_taken");
    ask_until_429(checker, &server, path, &say(&plain, &ana, hello));
    checker.expect_all_of(MESSAGES, &[]);
}

#[test]
fn operations_on_streams_answer_as_documented() {
    let server = Server::start(&[UNLIMITED, &["--probe-timeout", "100ms"]].concat());
    let checker = &mut Checker::new();
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let plain = server.room(&ana);
    let secret = server.room_with(&ana, &json!({"password": "p"}));
    let at = |path: &str, room: &str| path.replace("{room_id}", room);

    let events = "/rooms/{room_id}/events";
    needs_a_session(checker, &server, events, &get(&at(events, &plain)));
    checker.refused(
        &server,
        events,
        get(&at(events, NO_ROOM)).session(&bob),
        404,
        "room_not_found",
    );
    checker.refused(&server, events, get(&at(events, &secret)).session(&bob), 403, "not_a_member");
    let plain_events = get(&at(events, &plain));
    let html = plain_events.clone().field("Accept", "text/html");
    checker.refused(&server, events, html, 406, "not_acceptable");
    checker.ask(&server, events, plain_events.clone().field("Last-Event-ID", "end"), 204);
    let streams = ["application/x-ndjson", "text/event-stream"].map(|format| {
        let mut http = server.http();
        http.send_request(&plain_events.clone().session(&ana).field("Accept", format));
        let stream = Events::begin(http);
        checker.check(events, "GET", &stream.head);
        stream
    });
    let other = server.session("Ana");
    let probed = plain_events.clone().session(&other);
    let mut http = server.http();
    http.send_request(&probed);
    // The name is held by a stream, whose peer is alive.
    let answer = http.answer();
    checker.check(events, "GET", &answer);
    assert_eq!(answer.status, 409);
    let _all: Vec<_> = (0..19).map(|_| server.socket(&plain, &bob)).collect();
    let _last = server.socket(&plain, &bob);
    checker.refused(&server, events, plain_events.session(&bob), 429, "rate_limited");

    let typing = "/rooms/{room_id}/typing";
    needs_a_session(checker, &server, typing, &post(&at(typing, &plain)));
    checker.refused(
        &server,
        typing,
        post(&at(typing, NO_ROOM)).session(&bob),
        404,
        "room_not_found",
    );
    checker.refused(&server, typing, post(&at(typing, &secret)).session(&bob), 403, "not_a_member");
    checker.ask(&server, typing, post(&at(typing, &plain)).session(&bob), 204);
    server.join(&plain, &other);
    checker.refused(&server, typing, post(&at(typing, &plain)).session(&other), 409, "name_taken");
    drop(streams);
    checker.expect_all_of(STREAMS, &[]);
}

#[test]
fn operations_of_moderation_answer_as_documented() {
    let server = Server::start(&["--message-rate", "1", "--message-burst", "2"]);
    let checker = &mut Checker::new();
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    let join = post(&format!("/rooms/{room}/join")).session(&bob);
    let bob_id = server.ask(join).expect(200).string("user_id");

    let one = "/rooms/{room_id}/users/{user_id}";
    let at = |room: &str, query: &str| delete(&format!("/rooms/{room}/users/{bob_id}{query}"));
    needs_a_session(checker, &server, one, &at(&room, ""));
    let removal = |query: &str| at(&room, query).session(&ana);
    checker.refused(&server, one, removal("?ban=0"), 422, "bad_query");
    checker.refused(&server, one, at(&room, "").session(&bob), 422, "bad_query");
    let nobody = delete(&format!("/rooms/{room}/users/x"));
    checker.refused(&server, one, nobody.clone().session(&bob), 403, "not_the_owner");
    checker.refused(&server, one, nobody.session(&ana), 404, "user_not_found");
    checker.refused(&server, one, at(NO_ROOM, "").session(&ana), 404, "room_not_found");
    let removed = checker.ask(&server, one, removal("?ban=60&address=true"), 200).json();
    assert_eq!(removed["address"], false);

    let bans = "/rooms/{room_id}/bans";
    let list = |room: &str| get(&format!("/rooms/{room}/bans"));
    needs_a_session(checker, &server, bans, &list(&room));
    checker.refused(&server, bans, list(&room).session(&bob), 403, "not_the_owner");
    checker.refused(&server, bans, list(NO_ROOM).session(&bob), 404, "room_not_found");
    let listed = checker.ask(&server, bans, list(&room).session(&ana), 200).json();
    assert_eq!(listed["bans"][0]["user_id"], json!(bob_id));

    let ban = "/rooms/{room_id}/bans/{user_id}";
    let lift = |room: &str| delete(&format!("/rooms/{room}/bans/{bob_id}"));
    needs_a_session(checker, &server, ban, &lift(&room));
    checker.refused(&server, ban, lift(&room).session(&bob), 403, "not_the_owner");
    checker.refused(&server, ban, lift(NO_ROOM).session(&ana), 404, "room_not_found");
    checker.ask(&server, ban, lift(&room).session(&ana), 200);
    let mut limited = None;
    while limited.is_none() {
        server.ask(post(&format!("/rooms/{room}/join")).session(&bob)).expect(200);
        let answer = server.ask(removal(""));
        checker.check(one, "DELETE", &answer);
        limited = (answer.status == 429).then_some(answer);
    }
    checker.expect_all_of(MODERATION, &[]);
}

#[test]
fn other_operations_answer_as_documented() {
    let server = Server::start(&[]);
    let checker = &mut Checker::new();
    for path in OTHERS {
        checker.refused(&server, path, get(path).body("[]"), 422, "bad_body");
        let answer = checker.ask(&server, path, get(path), 200);
        let slash = server.ask(get(&format!("{}/", path.trim_end_matches('/'))));
        checker.check(path, "GET", &slash);
        if let Some(etag) = answer.field("ETag") {
            checker.ask(&server, path, get(path).field("If-None-Match", etag), 304);
        }
    }
    checker.expect_all_of(OTHERS, &[]);
}

/// The errors that any operation may answer, each provoked with some operation, are exactly the listed ones.
// contract §1.5
#[test]
fn errors_of_all_operations_are_listed_completely() {
    let checker = &mut Checker::new();
    let hasty = ["--body-timeout", "100ms", "--trusted-proxy", "127.0.0.1", "--session-rate", "1"];
    let server = Server::start(&[&hasty[..], &["--max-rooms", "1"]].concat());
    let (health, sessions) = ("/health", "/sessions");
    checker.refused(&server, health, get(health).body("[]"), 422, "bad_body");
    checker.refused(&server, health, get(health).field("Host", "a b"), 400, "bad_request");
    let far = format!("/health?{}", "x".repeat(9000));
    checker.refused(&server, health, get(&far), 414, "target_too_long");
    let wide = get(health).field("X-Wide", &"x".repeat(17 * 1024));
    checker.refused(&server, health, wide, 431, "headers_too_large");
    let heavy = post(sessions).field("Content-Length", "70000");
    checker.refused(&server, sessions, heavy, 413, "body_too_large");
    let coded = post(sessions).field("Transfer-Encoding", "gzip, chunked");
    checker.refused(&server, sessions, coded, 501, "unsupported_transfer_coding");
    let late = post(sessions).field("Content-Length", "5");
    checker.refused(&server, sessions, late, 408, "timeout");
    let open = post(sessions).field(FORWARDED.0, FORWARDED.1).json(&json!({"username": "ana"}));
    ask_until_429(checker, &server, sessions, &open);
    let ana = server.session("ana");
    server.room(&ana);
    checker.refused(&server, "/rooms", post("/rooms").session(&ana), 503, "server_full");

    let mut listed = checker.general_errors();
    for (status, code, why) in UNPROVOKED_ERRORS {
        assert!(listed.remove(&(*status, (*code).to_owned())), "{code} ({why}) is not listed");
    }
    assert_eq!(listed, checker.errors);
}

/// The description of a response names only codes of the contract, with their status.
// contract §1.5
#[test]
fn every_code_in_a_description_has_its_status() {
    let document = Document::openapi();
    let paths = document.0["paths"].as_object().expect("paths");
    let all = paths.values().flat_map(operations).map(|(_, operation)| &operation["responses"]);
    for responses in all {
        for (status, response) in responses.as_object().expect("responses") {
            let Ok(status) = status.parse::<u16>() else { continue };
            for code in codes(document.resolve(response)).filter(|_| status >= 400) {
                let known = Code::ALL.iter().find(|known| known.as_str() == code);
                let expected = known.map(|known| known.status());
                assert_eq!(expected, Some(status), "{code}");
            }
        }
    }
}

/// A code stands in backticks in one of the documents, or in the list of a `refused` event.
// contract §1.5
#[test]
fn every_code_is_documented() {
    let texts = [Document::openapi(), Document::asyncapi()].map(|document| document.0.to_string());
    for code in Code::ALL.iter().map(|code| code.as_str()) {
        let forms = [format!("`{code}`"), format!("\"{code}\"")];
        let is_named = |text: &String| forms.iter().any(|form| text.contains(form));
        assert!(texts.iter().any(is_named), "{code}");
    }
}

/// Errors outside of operations are in the introduction.
#[test]
fn the_introduction_describes_errors_of_other_methods_and_paths() {
    let document = Document::openapi();
    let text = document.0["info"]["description"].as_str().expect("a description").to_owned();
    let server = Server::start(&[]);
    for (request, status, code) in [
        (request("PUT", "/rooms"), 405, "method_not_allowed"),
        (get("/nowhere"), 404, "not_found"),
        (get("/docs/nowhere"), 404, "not_found"),
    ] {
        server.ask(request).refused(status, code);
        assert!(text.contains(&format!("{status} `{code}`")), "{status} {code}");
    }
}
