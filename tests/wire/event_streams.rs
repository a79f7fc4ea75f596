//! Event streams: a room without a WebSocket, as `text/event-stream` and as lines of JSON.

use serde_json::{Value, json};

use crate::client::{Events, Http, Request, Ws, delete, get, patch, post, request};
use crate::server::{Server, wait_until};

const SSE: &str = "text/event-stream";
const NDJSON: &str = "application/x-ndjson";

fn asked(room: &str, session: &str) -> Request {
    get(&format!("/rooms/{room}/events")).session(session)
}

fn open(server: &Server, request: &Request) -> Events {
    let mut http = server.http();
    http.send_request(request);
    Events::begin(http)
}

/// The event stream of a session, as `EventSource` asks for it. The welcome was read.
fn stream(server: &Server, room: &str, session: &str) -> Events {
    let mut events = open(server, &asked(room, session).field("Accept", SSE));
    assert_eq!(events.event().0["type"], "welcome");
    events
}

/// A room of ana, who has a socket in it.
fn room_of_ana(server: &Server) -> (String, Ws) {
    let session = server.session("ana");
    let room = server.room(&session);
    let ana = server.enter_as(&room, "ana", &session);
    (room, ana)
}

#[track_caller]
fn expect_left_bob(ana: &mut Ws) {
    ana.expect_left("bob");
}

// contract §14.1 §14.2 §14.4 §14.6
#[test]
fn a_stream_joins_the_room_and_has_the_events_of_a_socket() {
    let server = Server::start(&[]);
    let (room, mut ana) = room_of_ana(&server);
    let bob = server.session("bob");
    let mut events = open(&server, &asked(&room, &bob).field("Accept", SSE));
    assert_eq!(events.head.field("Content-Type"), Some(SSE));
    assert_eq!(events.head.field("Cache-Control"), Some("no-store"));
    assert_eq!(events.head.field("X-Accel-Buffering"), Some("no"));
    assert_eq!(events.head.field("Content-Length"), None);
    let (welcome, id) = events.event();
    assert_eq!(welcome, json!({"type": "welcome", "room_id": room, "you": welcome["you"]}));
    assert_eq!(id, None);
    let joined = ana.expect_join("bob");
    assert_eq!(joined["user_id"], welcome["you"]);
    let id = |event: &Value| Some(event["id"].as_str().expect("an id").to_owned());
    assert_eq!(events.event(), (joined.clone(), id(&joined)));
    for text in ["Hello world!", "{\"id\":\"x\"}", "two\nlines\u{2028}!", "🦀 \\ \""] {
        ana.chat(text);
        let said = ana.expect_chat("ana", text);
        assert_eq!(events.event(), (said.clone(), id(&said)));
    }
    ana.typing();
    let typing = ana.event();
    assert_eq!(events.event(), (typing, None));
    let change = patch(&format!("/rooms/{room}")).session(&ana.session);
    server.ask(change.json(&json!({"title": "Tea"}))).expect(200);
    let changed = ana.event();
    assert_eq!(changed["room"]["title"], "Tea");
    assert_eq!(events.event(), (changed, None));
    assert_eq!(server.user_count(&room), Some(2));
    let rooms = server.ask(get("/rooms").session(&bob)).expect(200).json();
    assert_eq!(rooms["rooms"], json!([room]));
}

// contract §14.2 §14.3
#[test]
fn the_accept_field_chooses_the_format() {
    let server = Server::start(&[]);
    let (room, ana) = room_of_ana(&server);
    for (accept, format) in [
        ("text/event-stream", SSE),
        ("text/*", SSE),
        ("text/event-stream, application/x-ndjson;q=0.9", SSE),
        ("*/*;q=0.1, TEXT/event-stream", SSE),
        ("application/x-ndjson", NDJSON),
        ("application/*", NDJSON),
        ("*/*", NDJSON),
        ("", NDJSON),
        ("text/html, */*;q=0.8", NDJSON),
        ("text/event-stream, application/x-ndjson", NDJSON),
        ("text/*;q=0.5, application/x-ndjson;q=0.6", NDJSON),
        ("text/event-stream;q=0, */*", NDJSON),
    ] {
        let events = open(&server, &asked(&room, &ana.session).field("Accept", accept));
        assert_eq!(events.head.field("Content-Type"), Some(format), "{accept}");
    }
    let mut events = open(&server, &asked(&room, &ana.session));
    assert_eq!(events.head.field("Content-Type"), Some(NDJSON));
    assert_eq!(events.json()["type"], "welcome");
    let said = server.say(&room, &ana.session, "hi");
    assert_eq!(events.json(), said);
    for accept in ["text/html", "application/json", "image/*", "*/*;q=0"] {
        // Before the session is looked at, and on no other route.
        server
            .ask(get(&format!("/rooms/{room}/events")).field("Accept", accept))
            .refused(406, "not_acceptable");
        server.ask(get("/ping").field("Accept", accept)).expect(200);
    }
}

// contract §14.4
#[test]
fn to_http_1_0_a_stream_is_not_chunked_and_ends_with_the_connection() {
    let server = Server::start(&[]);
    let (room, mut ana) = room_of_ana(&server);
    let mut http = server.http();
    http.send(format!(
        "GET /rooms/{room}/events?session_id={} HTTP/1.0\r\nAccept: {SSE}\r\n\r\n",
        server.session("bob")
    ));
    let mut events = Events::begin(http);
    assert_eq!(events.head.field("Transfer-Encoding"), None);
    assert_eq!(events.head.field("Connection"), Some("close"));
    assert_eq!(events.event().0["type"], "welcome");
    ana.expect_join("bob");
    assert_eq!(events.event().0["type"], "user_joined");
    let owner = ana.session.clone();
    server.ask(delete(&format!("/rooms/{room}")).session(&owner)).expect(200);
    events.expect_close(4410, "room deleted");
}

// contract §14.5
#[test]
fn after_a_time_of_silence_a_stream_is_pinged() {
    let server = Server::start(&["--ping-interval", "100ms"]);
    let (room, ana) = room_of_ana(&server);
    let mut events = stream(&server, &room, &ana.session);
    let mut lines = open(&server, &asked(&room, &ana.session));
    assert_eq!(lines.json()["type"], "welcome");
    for _ in 0..2 {
        assert_eq!([events.line(), events.line()], [Some(":".to_owned()), Some(String::new())]);
        assert_eq!(lines.json(), json!({"type": "ping"}));
    }
}

// contract §14.6
#[test]
fn a_stream_resumes_after_its_last_event() {
    let server = Server::start(&["--leave-grace", "1h", "--history", "5"]);
    let (room, mut ana) = room_of_ana(&server);
    let bob = server.session("bob");
    let mut events = stream(&server, &room, &bob);
    let (_, last) = events.event();
    let last = last.expect("an id");
    drop(events);
    let mut sent = Vec::new();
    ana.expect_join("bob");
    for text in ["a", "b"] {
        ana.chat(text);
        sent.push(ana.expect_chat("ana", text));
    }
    let newest = sent[1]["id"].as_str().map(str::to_owned);
    // The field wins over both parameters.
    let target = format!(
        "/rooms/{room}/events?history=1&after={}&session_id={bob}",
        newest.clone().expect("an id")
    );
    let resume = get(&target).field("Accept", SSE).field("Last-Event-ID", &last);
    let (history, id) = open(&server, &resume).event();
    assert_eq!((&history["messages"], &history["complete"]), (&json!(sent), &json!(true)));
    assert_eq!(id, newest);
    // An empty history has no id: the client keeps the one that it has.
    let resume = get(&target).field("Accept", SSE);
    let (history, id) = open(&server, &resume).event();
    assert_eq!((&history["messages"], id), (&json!([]), None));
    for odd in ["nonsense", "01890a5d-ac96-774b-bcce-b302099a8057"] {
        let resume = get(&target).field("Accept", SSE).field("Last-Event-ID", odd);
        let (history, id) = open(&server, &resume).event();
        assert_eq!((&history["complete"], &id), (&json!(false), &newest), "{odd}");
    }
    // As on a socket, a count out of range is clamped.
    for (count, messages) in [("0", 0), ("1", 1), ("-1", 0), ("99999", 4), ("x", 0)] {
        let target = format!("/rooms/{room}/events?history={count}&session_id={bob}");
        let history = open(&server, &get(&target)).json();
        assert_eq!(history["messages"].as_array().map(Vec::len), Some(messages), "{count}");
    }
}

// contract §14.6 §8.1
#[test]
fn a_long_history_comes_in_pages_and_live_events_follow_without_a_gap() {
    let server = Server::start(&["--message-rate", "0"]);
    let (room, mut ana) = room_of_ana(&server);
    let long = "é".repeat(3000);
    for number in 0..40 {
        ana.chat(&format!("{number} {long}"));
        ana.event();
    }
    let target = format!("/rooms/{room}/events?history=1000&session_id={}", server.session("bob"));
    let mut events = open(&server, &get(&target).field("Accept", SSE));
    let mut seen = Vec::new();
    loop {
        let (page, id) = events.event();
        seen.append(&mut page["messages"].as_array().expect("messages").clone());
        assert_eq!(id.as_deref(), seen.last().and_then(|last| last["id"].as_str()));
        if page["more"] == false {
            break;
        }
    }
    ana.chat("live");
    while seen.last().is_some_and(|last| last["message"] != "live") {
        seen.push(events.event().0);
    }
    assert_eq!(seen, server.messages(&room, &ana.session));
}

// contract §1.11 §14.1 §14.7
#[test]
fn a_stream_that_cannot_begin_is_an_ordinary_error() {
    let server = Server::start(&["--leave-grace", "0s"]);
    let (room, mut ana) = room_of_ana(&server);
    let mut http = server.http();
    let mut refused =
        |request: &Request, status, code| drop(http.ask(request).refused(status, code));
    let target = format!("/rooms/{room}/events");
    refused(&get(&target), 401, "missing_session");
    refused(&get(&target).session("nonsense"), 401, "invalid_session");
    refused(&get(&format!("{target}?session_id=nonsense")), 401, "invalid_session");
    refused(&get(&format!("{target}?session_id=")), 401, "missing_session");
    // The field counts before the query.
    refused(
        &get(&format!("{target}?session_id={}", ana.session)).session("x"),
        401,
        "invalid_session",
    );
    refused(&asked(&room, &ana.session).body("x"), 422, "bad_body");
    refused(&asked("0000000000", &ana.session), 404, "room_not_found");
    refused(&post(&target).session(&ana.session), 405, "method_not_allowed");
    let private = server.room_with(&ana.session, &json!({"password": "p"}));
    let bob = server.session("bob");
    refused(&asked(&private, &bob), 403, "not_a_member");
    let _all: Vec<_> = (1..20).map(|_| server.socket(&room, &ana.session)).collect();
    refused(&asked(&room, &ana.session), 429, "rate_limited");
    refused(&asked(&private, &ana.session), 429, "rate_limited");
    ana.expect_nothing();
    assert_eq!(server.user_count(&room), Some(1), "none of these has joined");
}

// contract §4.3 §14.7
#[test]
fn head_joins_nothing() {
    let server = Server::start(&[]);
    let (room, mut ana) = room_of_ana(&server);
    let bob = server.session("bob");
    let head = request("HEAD", &format!("/rooms/{room}/events")).session(&bob);
    let mut http = server.http();
    for _ in 0..2 {
        let answer = http.ask(&head).expect(200);
        assert_eq!(answer.field("Content-Type"), Some(NDJSON));
        assert_eq!(answer.field("Content-Length"), None);
    }
    assert_eq!(http.ask(&head.clone().without("Authorization")).status, 401);
    ana.expect_nothing();
    let rooms = server.ask(get("/rooms").session(&bob)).expect(200).json();
    assert_eq!(rooms["rooms"], json!([]));
}

// contract §3.4 §3.5 §14.7
#[test]
fn a_taken_name_is_refused_after_the_probe_and_the_connection_goes_on() {
    let server = Server::start(&["--probe-timeout", "1h"]);
    let (room, mut ana) = room_of_ana(&server);
    let other = server.session("Ana");
    let mut http = server.http();
    // The second request is answered once the first is.
    http.send([asked(&room, &other).bytes("x"), get("/ping").bytes("x")].concat());
    ana.expect_ping();
    ana.pong("");
    http.answer().refused(409, "name_taken");
    http.answer().expect(200);
    ana.expect_nothing();
}

// contract §3.5 §14.7
#[test]
fn a_stream_that_waits_for_a_name_begins_when_it_is_free() {
    let server = Server::start(&["--probe-timeout", "1h"]);
    let (room, ana) = room_of_ana(&server);
    let mut http = server.http();
    http.send_request(&asked(&room, &server.session("ANA")));
    let mut ana = ana;
    ana.expect_ping();
    ana.close();
    let mut events = Events::begin(http);
    let kinds: Vec<_> = (0..2).map(|_| events.json()["type"].clone()).collect();
    assert_eq!(kinds, ["welcome", "user_joined"]);
}

// contract §3.5 §14.7 §14.12
#[test]
fn a_name_that_a_stream_holds_stays_its_own() {
    let server = Server::start(&["--probe-timeout", "200ms"]);
    let session = server.session("ana");
    let room = server.room(&session);
    let mut events = stream(&server, &room, &session);
    assert_eq!(events.event().0["type"], "user_joined");
    let other = server.session("ana");
    server.socket(&room, &other).expect_close(4409, "name taken");
    server.ask(asked(&room, &other)).refused(409, "name_taken");
    let said = server.say(&room, &session, "still here");
    assert_eq!(events.event().0, said);
}

/// A request for a stream that waits for the name of ana, which is in the room, and its session.
fn waiting(server: &Server, room: &str, ana: &mut Ws) -> (Http, String) {
    let session = server.session("ana");
    let mut http = server.http();
    http.send_request(&asked(room, &session));
    ana.expect_ping();
    (http, session)
}

// contract §14.7
#[test]
fn a_stream_that_waits_is_refused_when_its_session_ends_or_its_room_does() {
    let server = Server::start(&["--probe-timeout", "1h"]);
    let (room, mut ana) = room_of_ana(&server);
    let (mut one, session) = waiting(&server, &room, &mut ana);
    server.ask(delete("/sessions/me").session(&session)).expect(200);
    one.answer().refused(401, "invalid_session");
    let (room, mut ana) = room_of_ana(&server);
    let (mut two, _) = waiting(&server, &room, &mut ana);
    server.ask(delete(&format!("/rooms/{room}")).session(&ana.session)).expect(200);
    two.answer().refused(404, "room_not_found");
}

// contract §14.7
#[test]
fn a_stream_that_waits_is_refused_when_the_server_ends() {
    let server = Server::start(&["--probe-timeout", "1h"]);
    let (room, mut ana) = room_of_ana(&server);
    let (mut stream, _) = waiting(&server, &room, &mut ana);
    server.terminate();
    stream.answer().refused(503, "shutting_down");
    stream.expect_end();
}

// contract §14.8 §14.9
#[test]
fn a_stream_ends_with_the_reason_and_tells_an_event_source_whether_to_come_back() {
    let mut server = Server::start(&["--leave-grace", "0s"]);
    let (room, mut ana) = room_of_ana(&server);
    let bob = server.session("bob");
    let mut events = stream(&server, &room, &bob);
    events.event();
    ana.expect_join("bob");
    server.ask(delete(&format!("/rooms/{room}/leave")).session(&bob)).expect(200);
    assert_eq!(events.expect_close(1000, "left room").as_deref(), Some("end"));
    expect_left_bob(&mut ana);
    let mut events = stream(&server, &room, &bob);
    events.event();
    server.ask(delete("/sessions/me").session(&bob)).expect(200);
    let id = events.expect_close(4401, "invalid or expired session");
    assert_eq!(id.as_deref(), Some("end"));
    // Whatever the session and the room are.
    for target in [format!("/rooms/{room}/events"), "/rooms/x/events?session_id=y".to_owned()] {
        let answer = server.ask(get(&target).field("Accept", SSE).field("Last-Event-ID", "end"));
        answer.expect(204);
    }
    let owner = ana.session.clone();
    let events = stream(&server, &room, &owner);
    server.ask(delete(&format!("/rooms/{room}")).session(&owner)).expect(200);
    assert_eq!(events.expect_close(4410, "room deleted").as_deref(), Some("end"));
    let (room, ana) = room_of_ana(&server);
    let events = stream(&server, &room, &ana.session);
    server.terminate();
    assert_eq!(events.expect_close(1001, "server shutting down"), None, "it is to come back");
    ana.expect_close(1001, "server shutting down");
    assert!(server.wait().success());
}

// contract §14.10 §6.3
#[test]
fn typing_by_rest_reaches_the_room() {
    let server = Server::start(&[]);
    let (room, mut ana) = room_of_ana(&server);
    let bob = server.session("bob");
    let typing = post(&format!("/rooms/{room}/typing"));
    server.ask(typing.clone()).refused(401, "missing_session");
    server.ask(typing.clone().session(&bob)).refused(403, "not_a_member");
    server.ask(post("/rooms/x/typing").session(&bob)).refused(404, "room_not_found");
    server.ask(typing.clone().session(&bob).body("x")).refused(422, "bad_body");
    server.join(&room, &bob);
    for _ in 0..2 {
        server.ask(typing.clone().session(&bob)).expect(204);
    }
    let event = ana.event();
    let expected =
        json!({"type": "typing", "user": "bob", "user_id": event["user_id"], "room_id": room});
    assert_eq!(event, expected);
    ana.expect_nothing(); // The second is surplus.
    let other = server.session("ANA");
    server.join(&room, &other);
    server.ask(typing.session(&other)).refused(409, "name_taken");
}

// contract §6.9 §6.11 §14.11
#[test]
fn a_stream_is_present_like_a_socket_and_its_end_is_a_broken_connection() {
    let server = Server::start(&["--leave-grace", "200ms"]);
    let (room, mut ana) = room_of_ana(&server);
    let bob = server.session("bob");
    let mut events = stream(&server, &room, &bob);
    let joined = ana.expect_join("bob");
    events.event();
    let mut tab = server.socket(&room, &bob);
    tab.expect_nothing();
    drop(events);
    tab.expect_nothing();
    let mut events = stream(&server, &room, &bob);
    tab.close();
    let said = server.say(&room, &bob, "by REST");
    ana.expect_chat("bob", "by REST");
    assert_eq!(events.event(), (said.clone(), said["id"].as_str().map(str::to_owned)));
    assert_eq!(said["user_id"], joined["user_id"]);
    // A half-close is the end, too: there is nothing that a client of a stream would send.
    events.into_stream().finish();
    ana.expect_left("bob");
    let events = stream(&server, &room, &bob);
    ana.expect_join("bob");
    events.into_stream().reset();
    ana.expect_left("bob");
}

// contract §7.8 §14.11
#[test]
fn a_stream_that_is_not_read_is_closed_as_a_slow_reader() {
    let server = Server::start_with_metrics(&["--message-rate", "0", "--outbox", "64K"]);
    let (room, mut ana) = room_of_ana(&server);
    let mut http = server.http_narrow();
    http.send_request(&asked(&room, &server.session("slow")).field("Accept", SSE));
    ana.expect_join("slow");
    let padding = "x".repeat(3900);
    let mut event = json!({});
    for number in 0..20_000 {
        ana.chat(&format!("{number} {padding}"));
        event = ana.event();
        if event["type"] == "user_left" {
            break;
        }
    }
    assert_eq!(event["user"], "slow", "it is never closed");
    assert_eq!(server.metric("chat_too_slow_total"), 1);
    // What was sent is whole up to the last event.
    let mut events = Events::begin(http);
    let mut last = json!({});
    while let Some(line) = events.line() {
        if let Some(data) = line.strip_prefix("data: ") {
            last = serde_json::from_str(data).expect("JSON");
        }
    }
    assert_eq!(last, json!({"type": "close", "code": 1013, "reason": "too slow"}));
}

/// A peer whose window stays closed acknowledges nothing either. To lose its acknowledgements a test
/// would have to change the network of the machine.
// contract §14.12
#[test]
#[cfg(target_os = "linux")]
fn a_stream_whose_peer_acknowledges_nothing_is_broken() {
    let flags = ["--message-rate", "0", "--outbox", "1G", "--ping-timeout", "1s"];
    let server = Server::start_with_metrics(&[&flags[..], &["--leave-grace", "100ms"]].concat());
    let (room, mut ana) = room_of_ana(&server);
    let mut http = server.http_narrow();
    http.send_request(&asked(&room, &server.session("dead")).field("Accept", SSE));
    ana.expect_join("dead");
    let padding = "x".repeat(3900);
    // More than the kernel takes on both sides.
    for number in 0..300 {
        ana.chat(&format!("{number} {padding}"));
        assert_eq!(ana.event()["type"], "chat");
    }
    ana.expect_left("dead");
    assert_eq!(server.metric("chat_too_slow_total"), 0);
    drop(http);
}

// contract §10.10 §14.13
#[test]
fn what_is_queued_for_a_stream_goes_with_the_room() {
    let server =
        Server::start(&["--message-rate", "0", "--outbox", "1M", "--linger-timeout", "1m"]);
    let (room, mut ana) = room_of_ana(&server);
    let mut http = server.http_narrow();
    http.send_request(&asked(&room, &server.session("slow")).field("Accept", SSE));
    ana.expect_join("slow");
    let padding = "x".repeat(3900);
    for number in 0..150 {
        ana.chat(&format!("{number} {padding}"));
        ana.event();
    }
    let owner = ana.session.clone();
    server.ask(delete(&format!("/rooms/{room}")).session(&owner)).expect(200);
    ana.expect_close(4410, "room deleted");
    // The connection is in the middle of a chunk, so that it is cut, or the close is its last event.
    let mut stream = http.into_stream();
    let mut received = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut received);
    let text = String::from_utf8_lossy(&received);
    assert!(!text.contains("149 xxx"), "the last message was queued when the room ended");
}

// contract §12.18 §14.7
#[test]
fn a_forwarded_stream_counts_for_its_address_as_long_as_it_lasts() {
    let server = Server::start(&["--trusted-proxy", "127.0.0.1", "--address-connections", "1"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let from = |request: Request| request.field("X-Forwarded-For", "203.0.113.7");
    let mut one = server.http();
    one.send_request(&from(asked(&room, &ana)));
    let events = Events::begin(one);
    let mut two = server.http();
    for _ in 0..2 {
        two.ask(&from(asked(&room, &ana))).refused(429, "rate_limited");
    }
    drop(events);
    wait_until("the first has ended", || {
        two.ask(&from(request("HEAD", "/ping"))).expect(200);
        server.health()["connections"].as_u64() == Some(2)
    });
    two.send_request(&from(asked(&room, &ana)));
    Events::begin(two);
}

/// A connection of HTTP that is sent a stream answers no further request.
// contract §14.4
#[test]
fn what_a_client_sends_behind_its_request_is_ignored() {
    let server = Server::start(&[]);
    let (room, ana) = room_of_ana(&server);
    let mut http: Http = server.http();
    http.send([asked(&room, &ana.session).bytes("x"), get("/ping").bytes("x")].concat());
    let mut events = Events::begin(http);
    assert_eq!(events.json()["type"], "welcome");
    let said = server.say(&room, &ana.session, "hi");
    assert_eq!(events.json(), said);
}
