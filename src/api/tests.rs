//! Requests and their answers, with a real domain and without sockets.

mod metrics;
mod rooms;

use std::net::IpAddr;
use std::time::Duration;

use super::error::{Code, whole_seconds};
use super::routes::{Endpoint, ROUTES};
use super::socket::BadEvent;
use super::*;
use crate::chat::{
    AttachmentKey, BadName, ChatConfig, CloseReason, ConnKey, Event, GuessPaces, JoinRequest,
    MessageCopies, MessageId, Pace, Page, Published, Refusal, RoomId, RoomKey, SessionId, Start,
    UserId,
};
use crate::clock::{Mono, Now, SeededEntropy, Stamps, Wall};
use crate::http::{Codec, Fed, HttpLimits, Reject};
use crate::ledger::Ledger;
use crate::slots::Slots;

/// Encodes each event into a batch of its own, and records events, history pages and closes.
#[derive(Default)]
struct RecordingSink {
    events: Vec<String>,
    pages: Vec<String>,
    closes: Vec<CloseReason>,
}

impl Sink for RecordingSink {
    fn publish(&mut self, _: RoomKey, event: &Event<'_>, _: usize) -> Published {
        let mut out = Vec::new();
        json::event(&mut out, event, &mut Stamps::default());
        let event_bytes = out.len();
        self.events.push(String::from_utf8(out).unwrap());
        Published { event_bytes, is_batch_full: false }
    }
    fn seal(&mut self, _: RoomKey, _: &[ConnKey]) {}
    fn advance(&mut self, _: RoomKey, _: ConnKey) {}
    fn skip(&mut self, _: RoomKey, _: ConnKey) {}
    fn push(&mut self, _: ConnKey, _: &Event<'_>) {}
    fn push_missed(&mut self, _: ConnKey, _: &MessageCopies) {}
    fn push_page(&mut self, _: ConnKey, page: &Page<'_>) {
        let mut out = Vec::new();
        json::page(&mut out, page, &mut Stamps::default());
        self.pages.push(String::from_utf8(out).unwrap());
    }
    fn welcome(&mut self, _: ConnKey, _: RoomId, _: UserId) {}
    fn on_listed(&mut self, _: usize) {}
    fn begin_catch_up(&mut self, _: ConnKey) {}
    fn end_catch_up(&mut self, _: ConnKey) {}
    fn ping(&mut self, _: ConnKey) {}
    fn is_alive(&mut self, _: ConnKey) -> bool {
        false
    }
    #[cfg(feature = "cluster")]
    fn is_open(&mut self, _: ConnKey) -> bool {
        true
    }
    fn admit(&mut self, _: ConnKey) {}
    fn end_room(&mut self, _: RoomKey) {}
    fn free_room(&mut self, _: RoomKey) {}
    fn close(&mut self, _: ConnKey, close: CloseReason) {
        self.closes.push(close);
    }
}

/// The end of the description of a room that has no rules and was opened at the start of a test.
const NO_RULES: &str = r#""locked":false,"slow_mode":0,"encrypted":false,"created_at":"2025-08-19T13:45:00.123456Z","expires_at":null"#;

const UNKNOWN: &str = "0b8f2f53-3d0c-4b8e-9a53-0d1e6a2b7c44";

struct World {
    api: Api,
    chat: Chat,
    sink: RecordingSink,
    now: Now,
    address: Option<Address>,
}

impl World {
    fn new() -> World {
        World::with(Config::default())
    }

    fn with(config: Config) -> World {
        let second = Duration::from_secs(1);
        let settings = ChatConfig {
            session_ttl: second * 86400,
            room_ttl: second * 120,
            new_room_ttl: second * 600,
            leave_grace: second * 3,
            probe_timeout: second * 3,
            history_messages_max: 1000,
            message_pace: Pace::UNLIMITED,
            join_pace: Pace::UNLIMITED,
            session_pace: Pace::new(2, second, 2),
            room_pace: Pace::new(2, second, 2),
            guess_paces: GuessPaces {
                address: Pace::new(6, second * 60, 5),
                room: Pace::new(60, second * 60, 60),
            },
            address_connections_max: None,
            address_sessions_max: None,
            sessions_max: 10,
            rooms_max: 10,
        };
        World {
            api: Api::new(&config, &Ledger::new()),
            chat: Chat::new(settings, Box::new(SeededEntropy::new(7)), &Ledger::new()),
            sink: RecordingSink::default(),
            now: Now { mono: Mono::ZERO, wall: Wall::from_micros(1_755_611_100_123_456) },
            address: None,
        }
    }

    /// In two steps, as if the outcome came later. The tests over sockets take both at once.
    fn ask(&mut self, request: &Request) -> Answer {
        let uptime = Duration::from_millis(1500);
        let caller = Caller {
            now: self.now,
            uptime,
            connections: 3,
            address: self.address,
            #[cfg(feature = "cluster")]
            is_store_up: None,
        };
        match self.api.ask(request, &caller) {
            Asked::Answer(answer) => answer,
            Asked::Command(command) => {
                let outcome = self.chat.run(self.now, command, &mut self.sink);
                self.api.tell(request, &caller, outcome)
            }
        }
    }

    fn send(&mut self, request: &Request) -> Response {
        match self.ask(request) {
            Answer::Response(response) | Answer::Messages(response, ..) => response,
            Answer::Refused(error) => self.api.refusal(Some(request), error),
            Answer::Socket(upgrade) => panic!("a socket: {upgrade:?}"),
            Answer::Events(events) => panic!("a stream: {events:?}"),
        }
    }

    /// `line` is method and target. An empty `token` sends no `Authorization`.
    fn rest(&mut self, line: &str, token: &str, body: &str) -> (u16, String) {
        let field = if token.is_empty() { String::new() } else { authorization(token) };
        let response = self.send(&request(line, &field, body));
        (response.status, text(&response))
    }

    fn session(&mut self, name: &str) -> String {
        let (status, body) =
            self.rest("POST /sessions", "", &format!(r#"{{"username":"{name}"}}"#));
        assert_eq!(status, 201, "{body}");
        body[15..51].to_owned()
    }

    fn room(&mut self, token: &str) -> String {
        self.room_with(token, "")
    }

    fn room_with(&mut self, token: &str, options: &str) -> String {
        let (status, body) = self.rest("POST /rooms", token, options);
        assert_eq!(status, 201, "{body}");
        body.split('"').nth(3).unwrap().to_owned()
    }

    fn enter(&mut self, token: &str, room: &str, start: Start) -> AttachmentKey {
        let conn = Slots::default().insert(());
        let session = self.chat.session(SessionId::parse(token).unwrap());
        let room = self.chat.room(RoomId::parse(room).unwrap());
        let join =
            JoinRequest { conn, session, room, share_exceeded: false, from: self.address, start };
        self.chat.enter(self.now, join, &mut self.sink).unwrap().0
    }
}

fn authorization(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn request(line: &str, fields: &str, body: impl AsRef<[u8]>) -> Request {
    request_to("chat.example", line, fields, body)
}

fn request_to(host: &str, line: &str, fields: &str, body: impl AsRef<[u8]>) -> Request {
    let body = body.as_ref();
    let limits = HttpLimits {
        head_bytes_max: 16384,
        fields_max: 100,
        target_bytes_max: 8192,
        body_bytes_max: 65536,
    };
    let head = format!(
        "{line} HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let bytes = [head.as_bytes(), body].concat();
    match Codec::new(limits).feed(&mut &bytes[..]) {
        Ok(Fed::Request(request)) => request,
        other => panic!("{head}: {other:?}"),
    }
}

fn text(response: &Response) -> String {
    String::from_utf8([&response.text[..], &response.body.concat()].concat()).unwrap()
}

fn field<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.fields.iter().find(|(other, _)| *other == name).map(|(_, value)| &**value)
}

/// The status, and the code at the end of an error's body.
fn code((status, body): (u16, String)) -> (u16, String) {
    let code = body.rsplit("\"code\":\"").next().unwrap_or_default();
    (status, code.trim_end_matches("\"}").to_owned())
}

// contract §1.17 §2.1 §2.2 §2.3 §2.4 §2.5 §2.6 §2.7 §2.8 §2.9 §2.11
#[test]
fn a_session_and_its_rooms_from_start_to_end() {
    let mut w = World::new();
    let (status, body) =
        w.rest("POST /sessions/", "", r#"{"x":[1],"username":" \u0061na\"s\u00e9 "}"#);
    let token = body[15..51].to_owned();
    assert!(SessionId::parse(&token).is_some());
    let ok = |body: String| (200, body);
    assert_eq!(
        (status, body),
        (201, format!(r#"{{"session_id":"{token}","username":"ana\"sé"}}"#))
    );

    let created = w.send(&request("POST /rooms", &authorization(&token), "{}"));
    let room = text(&created)[12..22].to_owned();
    let user_id = text(&created)[35..51].to_owned();
    let opened = format!(r#"{{"room_id":"{room}","user_id":"{user_id}"}}"#);
    assert_eq!((created.status, text(&created)), (201, opened));
    assert_eq!(field(&created, "Location"), Some(&*format!("rooms/{room}")));
    let other = w.send(&request("POST /rooms/?a=/b", &authorization(&token), ""));
    let newest = text(&other)[12..22].to_owned();
    assert_eq!(field(&other, "Location"), Some(&*newest));

    let both = format!(r#"["{room}","{newest}"]"#);
    let me = format!(r#"{{"session_id":"{token}","username":"ana\"sé","joined_rooms":{both}}}"#);
    assert_eq!(w.rest("GET /sessions/me", &token, ""), ok(me));
    assert_eq!(w.rest("GET /rooms/", &token, ""), ok(format!(r#"{{"rooms":{both}}}"#)));
    let all = format!(r#"{{"rooms":["{newest}","{room}"]}}"#);
    assert_eq!(w.rest("GET /rooms/all", "", ""), ok(all));
    let shown = format!(
        r#"{{"room_id":"{room}","exists":true,"user_count":0,"title":null,"private":false,"password":false,{NO_RULES}}}"#
    );
    assert_eq!(w.rest(&format!("GET /rooms/{room}"), "", ""), ok(shown));

    let bob = w.session("bob");
    let joined = format!(r#"{{"message":"Joined room {room}","room_id":"{room}","user_id":""#);
    let (status, answer) = w.rest(&format!("POST /rooms/{room}/join"), &bob, "");
    assert!(status == 200 && answer.starts_with(&joined), "{answer}");
    assert!(!answer.contains(&user_id), "each session has its own");
    for room in [&*room, &*room, "0000000000", "what%22"] {
        let left = format!(r#"{{"message":"Left room {}"}}"#, room.replace("%22", "\\\""));
        assert_eq!(w.rest(&format!("DELETE /rooms/{room}/leave"), &bob, ""), ok(left));
    }
    let health = format!(
        r#"{{"status":"ok","version":"{}","uptime":1.5,"sessions":2,"rooms":2,"connections":3}}"#,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(w.rest("GET /health", "", ""), ok(health));
    assert_eq!(w.rest("HEAD /ping/", "", ""), ok(r#"{"status":"ok"}"#.to_owned()));
    for token in [&*bob, &*bob, UNKNOWN] {
        let ended = r#"{"message":"Session ended"}"#.to_owned();
        assert_eq!(w.rest("DELETE /sessions/me", token, "{}"), ok(ended));
    }
    w.chat.check_invariants();
}

// contract §2.10 §6.5
#[test]
fn a_history_has_the_bytes_that_were_sent() {
    let mut w = World::new();
    let token = w.session("ana");
    let room = w.room(&token);
    let attachment = w.enter(&token, &room, Start::Live);
    w.chat.post(w.now, attachment, "a \"b\"\n🦀", None, &mut w.sink).unwrap();
    w.chat.typing(w.now, attachment, &mut w.sink);

    let path = format!("GET /rooms/{room}/messages");
    let (status, body) = w.rest(&path, &token, "");
    let rows: Vec<_> = body.split(r#"{"id":""#).collect();
    assert_eq!((status, rows.len(), rows[0]), (200, 3, r#"{"messages":["#));
    let user_id = rows[1].split(r#""user_id":""#).nth(1).unwrap()[..16].to_owned();
    let row = |kind, text, end| {
        format!(
            r#"","type":"{kind}","user":"ana","user_id":"{user_id}","message":"{text}","timestamp":"2025-08-19T13:45:00.123456Z","room_id":"{room}"}}{end}"#
        )
    };
    assert_eq!(rows[1][36..], row("user_joined", "ana has joined", ","));
    assert_eq!(rows[2][36..], row("chat", r#"a \"b\"\n🦀"#, "]}"));
    let (_, last) = w.rest(&format!("{path}?limit=1"), &token, "");
    assert_eq!(last, format!(r#"{{"messages":[{{"id":"{}"#, rows[2]));

    assert_eq!(w.rest(&format!("DELETE /rooms/{room}/leave"), &token, "").0, 200);
    assert_eq!(w.sink.closes, [CloseReason::LeftRoom]);
    let (_, last) = w.rest(&format!("{path}?limit=1"), &token, "");
    assert!(last.ends_with(&row("user_left", "ana has left", "]}")), "{last}");
    let typing =
        format!(r#"{{"type":"typing","user":"ana","user_id":"{user_id}","room_id":"{room}"}}"#);
    assert!(w.sink.events.contains(&typing));
}

// contract §1.9 §2.10
#[test]
fn a_limit_is_a_whole_number_within_range() {
    let mut w = World::new();
    let token = w.session("ana");
    let room = w.room(&token);
    let path = format!("GET /rooms/{room}/messages");
    for good in ["", "?limit=1", "?limit=1000", "?limit=0050", "?limit=x&limit=5", "?Limit=x", "?a"]
    {
        assert_eq!(w.rest(&format!("{path}{good}"), &token, "").1, r#"{"messages":[]}"#, "{good}");
    }
    for bad in
        ["0", "1001", "-1", "%2B5", "+5", "5.0", "", "x", "%zz", "99999999999999999999", "5&limit="]
    {
        let answer = w.rest(&format!("{path}?limit={bad}"), &token, "");
        assert_eq!(code(answer), (422, "bad_query".into()), "{bad}");
    }
    let answer = w.rest("GET /rooms/0000000000/messages?limit=0", &token, "");
    assert_eq!(code(answer), (422, "bad_query".into()), "checked before the room");
}

// contract §1.11
#[test]
fn checks_come_in_the_order_of_the_contract() {
    let mut w = World::new();
    let token = w.session("ana");
    let mut check = |line: &str, token: &str, body: &str, status: u16, expected: &str| {
        assert_eq!(code(w.rest(line, token, body)), (status, expected.to_owned()), "{line}");
    };
    check("PUT /nowhere", "", "x", 404, "not_found");
    check("GET //rooms", "", "x", 401, "missing_session");
    check("PUT /rooms", "", "x", 405, "method_not_allowed");
    check("DELETE /rooms/all", &token, "", 405, "method_not_allowed");
    check("POST /ws/x", "", "", 405, "method_not_allowed");
    check("POST /rooms/x/join", "", "x", 401, "missing_session");
    check("POST /rooms/x/join", UNKNOWN, "x", 401, "invalid_session");
    check("POST /rooms/x/join", &token, "x", 422, "bad_body");
    check("POST /rooms/x/join", &token, "", 404, "room_not_found");
    check("GET /rooms/x", "", "x", 422, "bad_body");
    check("GET /rooms/A1B2C3D4E5", "", "", 404, "room_not_found");
    check("GET /rooms/0000000000/messages", &token, "{}", 404, "room_not_found");
    check("POST /rooms", "", "x", 401, "missing_session");
    check("POST /rooms", &token, "x", 422, "bad_body");
    check("GET /rooms/x/users", "", "", 401, "missing_session");
    check("GET /rooms/x/users", &token, "[]", 422, "bad_body");
    check("GET /rooms/x/users", &token, "", 404, "room_not_found");
    check("POST /rooms/x/messages", "", "x", 401, "missing_session");
    check("POST /rooms/x/messages", &token, "", 422, "bad_body");
    check("POST /rooms/x/messages", &token, "{}", 422, "bad_message");
    check("POST /rooms/x/messages", &token, r#"{"message":" "}"#, 422, "empty_message");
    check("POST /rooms/x/messages", &token, r#"{"message":"a"}"#, 404, "room_not_found");
    check("DELETE /rooms/x", "", "x", 401, "missing_session");
    check("DELETE /rooms/x", &token, "x", 422, "bad_body");
    check("DELETE /rooms/x", &token, "", 404, "room_not_found");
    check("DELETE /rooms/x/users", &token, "", 405, "method_not_allowed");
}

// contract §1.8
#[test]
fn an_ignored_body_is_empty_or_an_object_on_every_route() {
    let mut w = World::new();
    let token = w.session("ana");
    let room = w.room(&token);
    for route in ROUTES.iter().filter(|route| route.body == routes::BodyUse::Ignored) {
        let line = format!("{:?} {}", route.method, route.path.replace("{room_id}", &room));
        let line = line.replace("Get", "GET").replace("Post", "POST").replace("Delete", "DELETE");
        for body in ["x", "[]", "null", "{", "{}x", "\"\"", " ", "{\"a\":\"\u{1}\"}"] {
            let answer = w.rest(&line, &token, body);
            assert_eq!(code(answer), (422, "bad_body".into()), "{line} {body}");
        }
        let invalid = request(&line, &authorization(&token), b"{\"a\":\"\xff\"}");
        assert_eq!(w.send(&invalid).status, 422, "{line}");
        if !matches!(route.endpoint, Endpoint::Bearer(_)) {
            let fields = authorization(&token);
            let answer = w.ask(&request(&line, &fields, r#"{"a":[{}],"a":1}"#));
            let (Answer::Response(response) | Answer::Messages(response, ..)) = answer else {
                continue;
            };
            assert!(response.status < 300, "{line}: {}", text(&response));
        }
    }
}

// contract §4.3
#[test]
fn head_is_answered_like_get_on_every_route() {
    let mut w = World::new();
    let token = w.session("ana");
    let room = w.room(&token);
    for route in ROUTES.iter().filter(|route| route.method == Method::Get) {
        for (room, token) in [(&*room, &*token), ("0000000000", &token), (&room, "")] {
            let target = route.path.replace("{room_id}", room);
            let field = if token.is_empty() { String::new() } else { authorization(token) };
            let [get, head] = ["GET", "HEAD"].map(|method| {
                match w.ask(&request(&format!("{method} {target}"), &field, "")) {
                    Answer::Response(response) | Answer::Messages(response, ..) => response,
                    Answer::Refused(error) => error.response(),
                    Answer::Socket(_) => Response::new(426),
                    Answer::Events(events) => {
                        let response = super::events::head(events.format);
                        let request = request(&format!("{method} {target}"), &field, "");
                        w.api.with_cors_fields(Some(&request), response)
                    }
                }
            });
            assert_eq!(text(&head), text(&get), "{target} {token}");
            assert_eq!((head.status, head.fields), (get.status, get.fields), "{target} {token}");
        }
    }
}

// contract §1.7 §3.1 §3.2
#[test]
fn a_username_must_be_a_string_before_it_is_checked_as_a_name() {
    let mut w = World::new();
    let mut check = |body: &str, status: u16, expected: &str| {
        assert_eq!(code(w.rest("POST /sessions", "", body)), (status, expected.into()), "{body}");
    };
    let bad = ["", "{}", "x", "null", r#"["ana"]"#, r#"{"username":null}"#, r#"{"username":12}"#];
    for body in bad.into_iter().chain([r#"{"username":"\ud800na"}"#, r#"{"username":["ana"]}"#]) {
        check(body, 422, "bad_body");
    }
    for name in ["", "a", "  a  ", r"an\u0000a", r"an\u202ea", &"x".repeat(51)] {
        check(&format!(r#"{{"username":"{name}"}}"#), 400, "bad_username");
    }
}

// contract §1.18 §1.19 §1.20
#[test]
fn missing_and_invalid_credentials_have_their_own_codes() {
    let mut w = World::new();
    let token = w.session("ana");
    let mut check = |fields: &str, expected: Option<&str>| {
        let response = w.send(&request("GET /rooms", fields, ""));
        assert_eq!(field(&response, "WWW-Authenticate"), expected, "{fields}");
        assert_eq!(response.status, if expected.is_some() { 401 } else { 200 }, "{fields}");
        let code = code((401, text(&response))).1;
        match expected {
            Some("Bearer") => assert_eq!(code, "missing_session"),
            Some(_) => assert_eq!(code, "invalid_session"),
            None => {}
        }
    };
    for missing in ["", "Authorization:\r\n", "Authorization: Bearer\r\n"] {
        check(missing, Some("Bearer"));
    }
    check("Authorization: Bearer  \r\n", Some("Bearer"));
    check(&format!("Authorization: Basic {token}\r\n"), Some("Bearer"));
    check(&format!("Authorization: {token}\r\n"), Some("Bearer"));
    let invalid = Some("Bearer error=\"invalid_token\"");
    for wrong in [UNKNOWN, "x", "é", &token[..35], &format!("{token} x"), &format!("\"{token}\"")]
    {
        check(&authorization(wrong), invalid);
    }
    check(&authorization(&token).repeat(2), invalid);
    check(&authorization(&token), None);
    check(&format!("authorization: bEARER   {token}\r\n"), None);
    let (status, _) = w.rest("DELETE /sessions/me", "x", "");
    assert_eq!(status, 401, "malformed, so it never was a session");
    assert_eq!(w.rest("DELETE /sessions/me", "", "").0, 401);
}

// contract §3.10
#[test]
fn every_use_of_a_session_restarts_its_lifetime() {
    let mut w = World::new();
    let token = w.session("ana");
    for _ in 0..3 {
        w.now = w.now.after(Duration::from_secs(86000));
        w.chat.sweep(w.now, usize::MAX, &mut w.sink);
        assert_eq!(
            w.rest("POST /rooms/x/join", &token, "{").0,
            422,
            "a refused request counts, too"
        );
    }
    w.now = w.now.after(Duration::from_secs(86401));
    w.chat.sweep(w.now, usize::MAX, &mut w.sink);
    assert_eq!(code(w.rest("GET /rooms", &token, "")), (401, "invalid_session".into()));
}

// contract §5.2 §5.3
#[test]
fn the_first_credential_present_counts_on_a_socket() {
    let mut w = World::new();
    let [a, b, c] = ["1", "2", "3"].map(|n| UNKNOWN.replace("0b8f2f53", &n.repeat(8)));
    let mut check = |query: &str, fields: &str, session: Option<&str>, subprotocol| {
        let line = format!("GET /ws/a1b2c3d4e5/{query}");
        let Answer::Socket(upgrade) = w.ask(&request(&line, fields, "")) else { panic!("{line}") };
        assert_eq!(upgrade.room, RoomId::parse("a1b2c3d4e5"));
        assert_eq!(upgrade.session.map(|id| id.to_string()).as_deref(), session, "{line} {fields}");
        assert_eq!(upgrade.subprotocol, subprotocol, "{fields}");
    };
    let query = format!("?session_id={a}");
    let offer = format!("Sec-WebSocket-Protocol: chat, bearer.{b}\r\n");
    let header = authorization(&c);
    check("", "", None, None);
    check(&query, "", Some(&a), None);
    check(&query, &offer, Some(&b), Some("chat"));
    check(&query, &format!("{offer}{header}"), Some(&c), Some("chat"));
    check(&query, "Authorization: Basic Zm9v\r\n", Some(&a), None);
    check(&query, &authorization("x"), None, None);
    check(&query, &header.repeat(2), None, None);
    check(&query, "Sec-WebSocket-Protocol: bearer.x\r\n", None, None);
    check(
        &query,
        "Sec-WebSocket-Protocol: soap\r\nSec-WebSocket-Protocol: chat\r\n",
        Some(&a),
        Some("chat"),
    );
    check("?session_id=%zz", "", None, None);
    check(&format!("?session_id=x&session_id={}", a.replace('-', "%2d")), "", Some(&a), None);

    for line in ["GET /ws/all", "HEAD /ws/A1B2C3D4EG"] {
        let Answer::Socket(upgrade) = w.ask(&request(line, "", "")) else { panic!("{line}") };
        assert_eq!(upgrade.room, None, "{line}");
    }
}

// contract §1.22 §1.23 §1.25
#[test]
fn answers_to_other_origins_have_no_cors_fields() {
    let origins = vec!["https://a.example".into(), "http://chat.example".into()];
    let mut w = World::with(Config { cors_origins: origins, ..Config::default() });
    let acao = "Access-Control-Allow-Origin";
    let preflight = "Access-Control-Request-Method: DELETE\r\n";
    let origins = [
        ("https://a.example", true),
        ("https://chat.example", true),
        ("https://x.example", false),
        ("", false),
    ];
    for (origin, allowed) in origins {
        let fields =
            if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
        for line in ["GET /ping", "GET /nowhere", "PUT /ping", "GET /rooms", "OPTIONS /rooms"] {
            let response = w.send(&request(line, &fields, ""));
            assert_eq!(field(&response, acao), allowed.then_some(origin), "{line} {origin}");
            assert_eq!(field(&response, "Vary"), Some("Origin"));
            let credentials = field(&response, "Access-Control-Allow-Credentials");
            assert_eq!(credentials, allowed.then_some("true"));
            assert!(field(&response, "Access-Control-Allow-Methods").is_none());
        }
        for line in ["OPTIONS /rooms/x/join", "OPTIONS //nowhere", "OPTIONS *"] {
            let response = w.send(&request(line, &format!("{fields}{preflight}"), ""));
            assert_eq!((response.status, response.content_bytes()), (204, 0));
            assert_eq!(field(&response, acao), allowed.then_some(origin), "{line} {origin}");
            let methods = field(&response, "Access-Control-Allow-Methods");
            let named = allowed || origin.is_empty();
            assert_eq!(methods, named.then_some("GET, POST, PATCH, DELETE"));
            let headers = field(&response, "Access-Control-Allow-Headers");
            assert_eq!(headers, named.then_some("Authorization, Content-Type, Last-Event-ID"));
        }
        let upgrade = request("GET /ws/a1b2c3d4e5", &fields, "");
        assert_eq!(w.api.allows_origin(&upgrade), allowed || origin.is_empty());
    }
    let two =
        request("GET /ping", "Origin: https://a.example\r\nOrigin: https://b.example\r\n", "");
    assert!(!w.api.allows_origin(&two));
    assert_eq!(w.send(&request("OPTIONS /rooms/", "", "")).fields[0].1, "POST, GET, HEAD, OPTIONS");
    assert_eq!(w.send(&request("OPTIONS *", "", "")).status, 204);
    assert_eq!(w.send(&request("OPTIONS /nowhere", "", "")).status, 404);

    let unparsed = |api: &Api| api.with_cors_fields(None, Response::new(101)).fields;
    assert_eq!(unparsed(&w.api), [("Vary", "Origin".into())]);
    let exposed =
        ("Access-Control-Expose-Headers", "Location, Retry-After, WWW-Authenticate".into());
    let any = [(acao, "*".into()), exposed, ("Vary", "Origin".into())];
    assert_eq!(unparsed(&World::new().api), any);
}

#[test]
fn creations_count_against_the_address_and_refusals_have_retry_after() {
    let mut w = World::new();
    w.address = Some(Address::of(IpAddr::from([192, 0, 2, 1])));
    let token = w.session("ana");
    w.session("bob");
    let response = w.send(&request("POST /sessions", "", r#"{"username":"eve"}"#));
    assert_eq!((response.status, field(&response, "Retry-After")), (429, Some("1")));
    w.address = None;
    for _ in 0..10 {
        w.room(&token);
    }
    let response = w.send(&request("POST /rooms", &authorization(&token), ""));
    assert_eq!((response.status, field(&response, "Retry-After")), (503, Some("10")));
}

#[test]
fn every_error_has_a_status_a_code_and_a_sentence() {
    let second = Duration::from_secs(1);
    let rejects = [
        (Reject::BadRequest("The request is malformed."), 400, "bad_request"),
        (Reject::HeadersTooLarge, 431, "headers_too_large"),
        (Reject::TargetTooLong, 414, "target_too_long"),
        (Reject::BodyTooLarge, 413, "body_too_large"),
        (Reject::UnknownCoding, 501, "unsupported_transfer_coding"),
    ];
    let refusals = [
        (Refusal::RoomNotFound, 404, "room_not_found"),
        (Refusal::TooManyRooms, 429, "too_many_rooms"),
        (Refusal::AddressRooms, 429, "too_many_rooms"),
        (Refusal::AddressSessions, 429, "too_many_sessions"),
        (Refusal::RateLimited(second / 4), 429, "rate_limited"),
        (Refusal::ServerFull, 503, "server_full"),
        (Refusal::BadPassword, 403, "bad_password"),
        (Refusal::NotAMember, 403, "not_a_member"),
        (Refusal::NotTheOwner, 403, "not_the_owner"),
        (Refusal::NameTaken, 409, "name_taken"),
        (Refusal::BadNonce, 422, "bad_nonce"),
        (Refusal::EmptyMessage, 422, "empty_message"),
        (Refusal::TooLong, 422, "too_long"),
    ];
    let events = [
        (BadEvent::Json, 422, "bad_json"),
        (BadEvent::Type, 422, "bad_type"),
        (BadEvent::Message, 422, "bad_message"),
        (BadEvent::Nonce, 422, "bad_nonce"),
    ];
    let names = [BadName::Length, BadName::Character].map(|bad| (bad, 400, "bad_username"));
    let mut all = vec![
        (error::timeout(), 408, "timeout"),
        (error::not_an_upgrade(), 426, "upgrade_required"),
        (error::other_version(), 426, "upgrade_required"),
        (error::bad_key(), 400, "bad_request"),
        (error::bad_origin(), 403, "bad_origin"),
        (error::server_full(), 503, "server_full"),
        (error::shutting_down(), 503, "shutting_down"),
        (error::too_many_connections(), 429, "rate_limited"),
        (error::internal(), 500, "internal_error"),
    ];
    all.extend(rejects.map(|(reject, status, code)| (reject.into(), status, code)));
    all.extend(refusals.map(|(refusal, status, code)| (refusal.into(), status, code)));
    all.extend(events.map(|(bad, status, code)| (bad.into(), status, code)));
    all.extend(names.map(|(bad, status, code)| (bad.into(), status, code)));
    for (error, status, expected) in all {
        assert_eq!(Code::ALL[error.code.index()], error.code);
        let response = error.response();
        let body = text(&response);
        assert_eq!(code((response.status, body.clone())), (status, expected.to_owned()));
        assert!(body.starts_with("{\"detail\":\"") && body.contains(".\",\"code\":\""), "{body}");
        assert_eq!(field(&response, "Content-Type"), Some("application/json"));
        let waits = field(&response, "Retry-After").map(|seconds| seconds.parse::<u64>().unwrap());
        assert_eq!(waits.is_some(), matches!(status, 429 | 503), "{body}");
        assert!(waits.is_none_or(|seconds| seconds >= 1), "{body}");
        if status == 426 {
            assert_eq!(field(&response, "Upgrade"), Some("websocket"));
            assert_eq!(field(&response, "Connection"), Some("Upgrade"));
        }
    }
    let other_version = error::other_version().response();
    assert_eq!(field(&other_version, "Sec-WebSocket-Version"), Some("13"));
    for (n, code) in Code::ALL.iter().enumerate() {
        assert_eq!(code.index(), n, "{}", code.as_str());
        let same = |other: &&Code| other.as_str() == code.as_str();
        assert_eq!(Code::ALL.iter().filter(same).count(), 1, "{}", code.as_str());
    }
    let waits =
        [0, 1, 1000, 1001, 60_000].map(|millis| whole_seconds(Duration::from_millis(millis)));
    assert_eq!(waits, [1, 1, 1, 2, 60]);
}
