//! Sessions: user names, request bodies, the end of a session, expiry.

use serde_json::json;

use crate::client::{Answer, Request, delete, get, post};
use crate::server::{Server, wait_until};

fn create(name: &str) -> Request {
    post("/sessions").json(&json!({"username": name}))
}

fn message(text: &str) -> serde_json::Value {
    json!({"message": text})
}

fn joined_rooms(server: &Server, session: &str) -> serde_json::Value {
    server.ask(get("/sessions/me").session(session)).expect(200).json()["joined_rooms"].clone()
}

// Creating a session.

// contract §2.1 §2.2
#[test]
fn a_session_is_created_and_found_again() {
    let server = Server::start(&[]);
    let created = server.ask(create("ana")).expect(201).json();
    assert_eq!(created["username"], "ana");
    let id = created["session_id"].as_str().expect("an id");
    let me = server.ask(get("/sessions/me").session(id)).expect(200).json();
    assert_eq!(me["session_id"], id);
    assert_eq!(me["username"], "ana");
    assert_eq!(me["joined_rooms"], json!([]));
}

// contract §3.1
#[test]
fn names_are_trimmed_of_unicode_white_space() {
    let server = Server::start(&[]);
    let white =
        " \t\n\r\u{b}\u{c}\u{85}\u{a0}\u{1680}\u{2003}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";
    for name in ["ana", "ana maria", "\u{1f642}\u{1f642}", "a\u{a0}b"] {
        let answer = server.ask(create(&format!("{white}{name}{white}"))).expect(201);
        assert_eq!(answer.json()["username"], name);
    }
}

// contract §3.1
#[test]
fn names_have_two_to_fifty_characters() {
    let server = Server::start(&[]);
    for one in ["x", "é", "\u{1f642}", "中"] {
        for count in [2, 3, 49, 50] {
            let name = one.repeat(count);
            assert_eq!(server.ask(create(&name)).expect(201).json()["username"], name);
        }
        for count in [0, 1, 51, 52, 500] {
            server.ask(create(&one.repeat(count))).refused(400, "bad_username");
        }
        let padded = format!("   {}\u{3000}", one.repeat(50));
        server.ask(create(&padded)).expect(201);
        server.ask(create(&format!("   {one}\u{3000}"))).refused(400, "bad_username");
    }
    server.ask(create(" \t \u{2003} ")).refused(400, "bad_username");
}

// contract §3.1
#[test]
fn names_are_counted_in_scalar_values_not_in_graphemes() {
    let server = Server::start(&[]);
    let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}"; // One grapheme, five scalar values.
    server.ask(create(&family.repeat(10))).expect(201);
    server.ask(create(&family.repeat(11))).refused(400, "bad_username");
}

// contract §3.2
#[test]
fn names_have_no_control_characters() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let cc = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
    let bidi = ['\u{61c}', '\u{200e}', '\u{200f}']
        .into_iter()
        .chain('\u{202a}'..='\u{202e}')
        .chain('\u{2066}'..='\u{2069}');
    for bad in cc.chain(bidi) {
        http.ask(&create(&format!("an{bad}na"))).refused(400, "bad_username");
    }
    for mark in ['\u{200e}', '\u{202e}', '\0', '\u{1b}'] {
        http.ask(&create(&format!("{mark}ana"))).refused(400, "bad_username");
        http.ask(&create(&format!("ana{mark}"))).refused(400, "bad_username");
    }
    for good in ['\u{200d}', '\u{2010}', '\u{2027}', '\u{206a}', '\u{2065}', '\u{61b}', '\u{a0}'] {
        http.ask(&create(&format!("an{good}na"))).expect(201);
    }
}

// contract §1.7
#[test]
fn bodies_that_are_not_the_right_json_are_422() {
    let server = Server::start(&[]);
    let bad: [&[u8]; 22] = [
        b"nope",
        b"",
        b" ",
        b"{",
        br#"{"username":"#,
        br#"{"username":"ana""#,
        br#"{"username":"ana"} x"#,
        br#"{"username":"ana",}"#,
        br#"{'username':'ana'}"#,
        b"username=ana",
        b"[]",
        br#"["ana"]"#,
        b"null",
        br#""ana""#,
        b"{}",
        br#"{"name":"ana"}"#,
        br#"{"username":null}"#,
        br#"{"username":12}"#,
        br#"{"username":["ana"]}"#,
        br#"{"username":"an\ud800na"}"#,
        br#"{"username":"an\udc00na"}"#,
        b"{\"username\":\"an\xffna\"}",
    ];
    for body in bad {
        server.ask(post("/sessions").body(body)).refused(422, "bad_body");
    }
}

#[test]
fn surrogate_pairs_are_one_character() {
    let server = Server::start(&[]);
    let body = r#"{"username":"\ud83d\ude42\u00e9"}"#;
    let answer = server.ask(post("/sessions").body(body)).expect(201);
    assert_eq!(answer.json()["username"], "\u{1f642}é");
}

// contract §1.7
#[test]
fn the_content_type_of_a_body_does_not_matter() {
    let server = Server::start(&[]);
    let body = r#"{"username":"ana"}"#;
    server.ask(post("/sessions").body(body)).expect(201);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; x", "?"] {
        server.ask(post("/sessions").field("Content-Type", kind).body(body)).expect(201);
    }
}

// contract §3.3
#[test]
fn a_second_session_of_the_same_name_does_not_end_the_first() {
    let server = Server::start(&[]);
    let (first, second) = (server.session("ana"), server.session("ana"));
    assert_ne!(first, second);
    for id in [first, second] {
        server.ask(get("/sessions/me").session(&id)).expect(200);
    }
}

// Joined rooms.

// contract §2.2 §2.5
#[test]
fn joined_rooms_come_in_the_order_of_joining() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let (one, two, three) = (server.room(&ana), server.room(&ana), server.room(&bob));
    server.enter_as(&three, "ana", &ana).close();
    server.ask(post(&format!("/rooms/{one}/join")).session(&ana)).expect(200);
    assert_eq!(joined_rooms(&server, &ana), json!([one, two, three]));
    server.ask(delete(&format!("/rooms/{one}/leave")).session(&ana)).expect(200);
    assert_eq!(joined_rooms(&server, &ana), json!([two, three]));
    server.ask(post(&format!("/rooms/{one}/join")).session(&ana)).expect(200);
    assert_eq!(joined_rooms(&server, &ana), json!([two, three, one]));
    let rooms = server.ask(get("/rooms").session(&ana)).expect(200).json();
    assert_eq!(rooms["rooms"], json!([two, three, one]), "the same list");
}

// contract §2.2 §3.11
#[test]
fn joined_rooms_do_not_list_expired_rooms() {
    let server = Server::start(&["--new-room-ttl", "200ms", "--room-ttl", "1h"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    wait_until("the room is gone", || joined_rooms(&server, &ana) == json!([]));
    server.ask(get(&format!("/rooms/{room}"))).refused(404, "room_not_found");
}

// Ending a session.

// contract §2.3
#[test]
fn an_ended_session_is_invalid_and_ending_it_again_succeeds() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let ended = |answer: Answer| assert_eq!(answer.expect(200).json(), message("Session ended"));
    ended(server.ask(delete("/sessions/me").session(&ana)));
    server.ask(get("/sessions/me").session(&ana)).refused(401, "invalid_session");
    server.ask(post("/rooms").session(&ana)).refused(401, "invalid_session");
    assert_eq!(server.health()["sessions"], 0);
    // Ending it again succeeds, as does ending a session that never existed.
    ended(server.ask(delete("/sessions/me").session(&ana)));
    ended(server.ask(delete("/sessions/me").session("00000000-0000-4000-8000-000000000000")));
    server.ask(delete("/sessions/me")).refused(401, "missing_session");
    server.ask(delete("/sessions/me").session("nonsense")).refused(401, "invalid_session");
}

// contract §2.3 §6.10 §7.10
#[test]
fn ending_a_session_closes_its_sockets_everywhere() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (lobby, mut ana, mut bob) = server.room_of_two();
    let attic = server.room(&bob.session);
    let tab = server.socket(&lobby, &ana.session);
    let upstairs = server.enter_as(&attic, "ana", &ana.session);
    ana.expect_nothing();
    server.ask(delete("/sessions/me").session(&ana.session)).expect(200);
    for socket in [ana, tab, upstairs] {
        socket.expect_close(4401, "invalid or expired session");
    }
    bob.expect_left("ana");
    bob.expect_change();
    bob.expect_nothing();
    assert_eq!(server.user_count(&lobby), Some(1));
}

// Expiry.

// contract §3.10 §12.11
#[test]
fn an_unused_session_expires() {
    let server = Server::start(&["--session-ttl", "200ms"]);
    let ana = server.session("ana");
    wait_until("the session is gone", || server.health()["sessions"] == 0);
    server.ask(get("/sessions/me").session(&ana)).refused(401, "invalid_session");
}

// contract §3.10
#[test]
fn a_session_expires_only_after_its_last_socket_has_closed() {
    let server = Server::start(&["--session-ttl", "1s"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let socket = server.enter_as(&room, "ana", &ana);
    server.session("bob");
    wait_until("bob's session is gone", || server.health()["sessions"] == 1);
    server.ask(get("/sessions/me").session(&ana)).expect(200);
    socket.close();
    wait_until("ana's session is gone", || server.health()["sessions"] == 0);
    server.ask(get("/sessions/me").session(&ana)).refused(401, "invalid_session");
}

/// Regression: in a cluster each refused socket made the session live longer.
// contract §3.10
#[test]
fn a_refused_socket_is_no_use_of_its_session() {
    let server = Server::start(&["--session-ttl", "1s"]);
    let owner = server.session("owner");
    let room = server.room_with(&owner, &json!({"password": "x"}));
    let _inside = server.enter_as(&room, "owner", &owner);
    let ana = server.session("ana");
    wait_until("ana's session is gone", || {
        for target in [room.as_str(), "0000000000", "none"] {
            server.socket(target, &ana).closed();
        }
        server.health()["sessions"] == 1
    });
}

// contract §3.10
#[test]
fn using_a_session_by_rest_keeps_it_alive() {
    let server = Server::start(&["--session-ttl", "2s"]);
    let mut http = server.http();
    let ana = server.session("ana");
    server.session("bob");
    wait_until("bob's session is gone", || {
        http.ask(&get("/rooms").session(&ana)).expect(200);
        server.health()["sessions"] == 1
    });
    http.ask(&get("/rooms").session(&ana)).expect(200);
}
