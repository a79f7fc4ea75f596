//! The WebSocket: opening handshake, events in both directions, presence, names, the leave grace period, pings.

use serde_json::{Value, json};

use crate::client::{
    CLOSE, FIN, KEY, PING, PONG, Request, Ws, chat, close_payload, delete, frame, get, post,
    request, text, typing, upgrade,
};
use crate::server::{Server, wait_until};

const NO_SESSION: &str = "00000000-0000-4000-8000-000000000000";

// The opening handshake.

// contract §5.1
#[test]
fn connecting_joins_the_room() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    let socket = server.enter_as(&room, "bob", &bob);
    let rooms = server.ask(get("/rooms").session(&bob)).expect(200).json();
    assert_eq!(rooms["rooms"], json!([room]));
    assert_eq!(socket.protocol, None);
}

// contract §5.4
#[test]
fn a_request_that_is_no_upgrade_is_426() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let target = format!("/ws/{room}?session_id={ana}");
    let not_upgrades = [
        get(&target),
        get("/ws/nosuchroom"),
        upgrade(&target).without("Upgrade"),
        upgrade(&target).without("Connection"),
        upgrade(&target).without("Upgrade").field("Upgrade", "h2c"),
        upgrade(&target).without("Connection").field("Connection", "keep-alive"),
        upgrade(&target).without("Upgrade").field("Sec-WebSocket-Key", "x"),
    ];
    for request in not_upgrades {
        let answer = server.ask(request).refused(426, "upgrade_required");
        assert!(answer.lists("Upgrade", "websocket"), "{answer:?}");
        assert!(answer.lists("Connection", "Upgrade"), "{answer:?}");
    }
    server.http().ask(&request("HEAD", &target)).expect(426);
}

// contract §5.5
#[test]
fn another_websocket_version_is_426_and_names_13() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let target = format!("/ws/{room}?session_id={ana}");
    for version in ["8", "12", "14", "130", "x"] {
        let other = upgrade(&target).without("Sec-WebSocket-Version");
        let other = other.field("Sec-WebSocket-Version", version);
        // The version is checked before the key.
        let keyless = other.clone().without("Sec-WebSocket-Key");
        for request in [other, keyless] {
            let answer = server.ask(request).refused(426, "upgrade_required");
            assert_eq!(answer.field("Sec-WebSocket-Version"), Some("13"));
            assert!(answer.lists("Upgrade", "websocket"), "{answer:?}");
            assert!(answer.lists("Connection", "Upgrade"), "{answer:?}");
        }
    }
}

// contract §5.6
#[test]
fn a_bad_key_is_a_bad_request() {
    let server = Server::start(&["--cors-origin", "https://page.example"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let keyless = upgrade(&format!("/ws/{room}?session_id={ana}")).without("Sec-WebSocket-Key");
    let with = |key: &str| keyless.clone().field("Sec-WebSocket-Key", key);
    let bad_keys = [
        keyless.clone(),
        with(""),
        with("not base64 at all!!!!!!!"),
        with("dGhlIHNhbXBsZSBub25j"),              // 15 bytes
        with("dGhlIHNhbXBsZSBub25jZWU="),          // 17 bytes
        with("dGhlIHNhbXBsZSBub25jZQ"),            // no padding
        with(KEY).field("Sec-WebSocket-Key", KEY), // twice
    ];
    for request in bad_keys {
        // The key is checked before the origin.
        let request = request.field("Origin", "https://other.example");
        server.ask(request).refused(400, "bad_request");
    }
}

#[test]
fn handshake_fields_are_lists_and_ignore_case() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let request = get(&format!("/ws/{room}?session_id={ana}"))
        .field("connection", "keep-alive, uPGRADE")
        .field("UPGRADE", "WebSocket")
        .field("sec-websocket-version", "13")
        .field("Sec-Websocket-Key", KEY);
    server.upgrade(request).expect_join("ana");
}

// contract §5.8
#[test]
fn no_extension_is_ever_negotiated() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let offer = "permessage-deflate; client_max_window_bits";
    let request = upgrade(&format!("/ws/{room}?session_id={ana}"));
    // The client asserts at every upgrade that the server selects no extension.
    server.upgrade(request.field("Sec-WebSocket-Extensions", offer)).expect_join("ana");
}

// Credentials.

// contract §5.1 §5.2
#[test]
fn the_session_may_come_in_the_query_the_header_or_a_subprotocol() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let bare = upgrade(&format!("/ws/{room}"));
    let mut first = server.upgrade(upgrade(&format!("/ws/{room}?x=1&session_id={ana}&y")));
    first.expect_join("ana");
    for scheme in ["Bearer", "bearer"] {
        let value = format!("{scheme} {ana}");
        server.upgrade(bare.clone().field("Authorization", &value)).expect_nothing();
    }
    let bearer = format!("bearer.{ana}");
    let offers = [
        bare.clone().field("Sec-WebSocket-Protocol", &format!("chat, {bearer}")),
        bare.clone().field("Sec-WebSocket-Protocol", &format!("{bearer},chat")),
        bare.clone()
            .field("Sec-WebSocket-Protocol", "chat")
            .field("Sec-WebSocket-Protocol", &bearer),
    ];
    for request in offers {
        let mut socket = server.upgrade(request);
        assert_eq!(socket.protocol.as_deref(), Some("chat"), "the session is not echoed");
        socket.expect_nothing();
    }
}

// contract §5.3
#[test]
fn of_several_credentials_the_header_counts_first_then_the_subprotocol() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut first = server.enter_as(&room, "ana", &ana);
    let ask = |header: Option<&str>, subprotocol: Option<&str>, query: Option<&str>| -> Ws {
        let query = query.map(|id| format!("?session_id={id}")).unwrap_or_default();
        let mut request = upgrade(&format!("/ws/{room}{query}"));
        if let Some(id) = header {
            request = request.session(id);
        }
        if let Some(id) = subprotocol {
            request = request.field("Sec-WebSocket-Protocol", &format!("chat, bearer.{id}"));
        }
        server.upgrade(request)
    };
    let (good, bad) = (Some(ana.as_str()), Some(NO_SESSION));
    ask(good, bad, bad).expect_nothing();
    ask(None, good, bad).expect_nothing();
    ask(good, None, bad).expect_nothing();
    for socket in [ask(bad, good, good), ask(None, bad, good), ask(bad, None, good)] {
        socket.expect_close(4401, "invalid or expired session");
    }
    first.expect_nothing();
}

// contract §5.7 §7.10
#[test]
fn a_wrong_session_is_closed_with_4401_after_the_upgrade() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let ended = server.session("bob");
    server.ask(delete("/sessions/me").session(&ended)).expect(200);
    let none = upgrade(&format!("/ws/{room}"));
    let mut requests = vec![none.clone(), none.clone().field("Sec-WebSocket-Protocol", "chat")];
    for bad in [NO_SESSION, "nonsense", "", ended.as_str()] {
        requests.push(upgrade(&format!("/ws/{room}?session_id={bad}")));
        requests.push(none.clone().session(bad));
    }
    // The session is checked before the room.
    requests.push(upgrade("/ws/0000000000"));
    requests.push(upgrade(&format!("/ws/nonsense?session_id={NO_SESSION}")));
    for request in requests {
        server.upgrade(request).expect_close(4401, "invalid or expired session");
    }
}

// contract §1.13 §5.7 §7.12
#[test]
fn a_wrong_room_is_closed_with_4404_after_the_upgrade() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    for room in ["0000000000", "nonsense", "A1B2C3D4E5", "00000000000000000000000000000000"] {
        server.socket(room, &ana).expect_close(4404, "room not found");
    }
}

// contract §3.9 §5.7 §7.15
#[test]
fn a_session_has_at_most_twenty_sockets() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let (lobby, attic) = (server.room(&ana), server.room(&bob));
    let mut holder = server.enter(&attic, "ana");
    let mut sockets = vec![server.enter_as(&lobby, "ana", &ana)];
    while sockets.len() < 20 {
        let mut socket = server.socket(&lobby, &ana);
        socket.expect_nothing();
        sockets.push(socket);
    }
    server.socket(&lobby, &ana).expect_close(4429, "too many connections");
    // The room is checked before the limit, and the limit before the name.
    server.socket("0000000000", &ana).expect_close(4404, "room not found");
    server.socket(&attic, &ana).expect_close(4429, "too many connections");
    holder.expect_nothing();
    // Each session has a limit of its own, and a closed socket no longer counts.
    server.enter_as(&lobby, "bob", &bob);
    sockets.pop().expect("twenty").close();
    server.socket(&lobby, &ana).expect_nothing();
}

// Events.

// contract §6.1 §6.5 §6.8
#[test]
fn a_join_a_chat_and_a_leave_look_as_documented() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    let mut ana = server.socket(&room, &ana);
    let check = |event: &Value, kind: &str, user: &str, message: &str| {
        let expected = json!({"type": kind, "user": user, "message": message, "room_id": room});
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(&event[name], value, "{event}");
        }
        for name in ["id", "user_id", "timestamp"] {
            assert!(event[name].is_string(), "{name} of {event}");
        }
    };
    let joined = ana.event();
    check(&joined, "user_joined", "ana", "ana has joined");
    let mut bob = server.socket(&room, &bob);
    check(&bob.event(), "user_joined", "bob", "bob has joined");
    check(&ana.event(), "user_joined", "bob", "bob has joined");
    ana.text(r#"{"type":"chat","message":"Hello world!"}"#);
    let (own, others) = (ana.event(), bob.event());
    check(&own, "chat", "ana", "Hello world!");
    assert_eq!(own, others, "the sender receives the same event as the others");
    assert_eq!(own["user_id"], joined["user_id"]);
    ana.close();
    let left = bob.event();
    check(&left, "user_left", "ana", "ana has left");
    assert_eq!(left["user_id"], joined["user_id"]);
}

// contract §6.1 §6.5
#[test]
fn typing_looks_as_documented_and_reaches_the_sender_too() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let typing = json!({"type": "typing", "user": "ana", "user_id": ana.user_id, "room_id": room});
    ana.typing();
    ana.expect_event(&typing);
    bob.expect_event(&typing);
}

#[test]
fn events_stay_in_their_room() {
    let server = Server::start(&[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let (_, mut other_ana, mut other_bob) = server.room_of_two();
    ana.chat("here");
    ana.expect_chat("ana", "here");
    other_bob.chat("there");
    other_ana.expect_chat("bob", "there");
    other_bob.expect_chat("bob", "there");
    bob.expect_chat("ana", "here");
    bob.expect_nothing();
}

// contract §6.4
#[test]
fn an_application_ping_is_answered_to_its_sender_alone() {
    let server = Server::start(&[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    ana.text(r#"{"type":"ping"}"#);
    assert_eq!(ana.event(), json!({"type": "pong"}));
    ana.chat("after");
    bob.expect_chat("ana", "after");
}

// contract §6.12
#[test]
fn a_protocol_ping_is_answered_with_its_payload() {
    let server = Server::start(&[]);
    let (_, mut ana, _bob) = server.room_of_two();
    for payload in ["", "hello", &"x".repeat(125)] {
        ana.send(frame(FIN | PING, payload));
        let pong = ana.frame();
        assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, payload.as_bytes()));
    }
    ana.send(frame(FIN | PONG, "nobody asked"));
    ana.expect_nothing();
}

// contract §6.2
#[test]
fn a_message_is_trimmed_and_may_contain_any_character() {
    let server = Server::start(&[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let texts = [
        ("  hi\n", "hi"),
        ("\u{3000}\u{a0}a  b\u{2003}\t\r", "a  b"),
        ("x", "x"),
        ("\u{0}\u{1b}[31m\u{7f}\u{9f}x", "\u{0}\u{1b}[31m\u{7f}\u{9f}x"),
        ("\u{202e}\u{200f}x", "\u{202e}\u{200f}x"),
        ("\"\\/\u{8}\u{2028}</script>", "\"\\/\u{8}\u{2028}</script>"),
        (
            "\u{1f468}\u{200d}\u{1f469} \u{10ffff} \u{fffd}",
            "\u{1f468}\u{200d}\u{1f469} \u{10ffff} \u{fffd}",
        ),
    ];
    for (sent, received) in texts {
        ana.chat(sent);
        bob.expect_chat("ana", received);
    }
    ana.text(r#"{"type":"chat","message":"\ud83d\ude42\u0041"}"#);
    bob.expect_chat("ana", "\u{1f642}A");
}

// contract §6.2 §6.14
#[test]
fn a_message_has_at_most_four_thousand_characters() {
    let server = Server::start(&[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    for one in ["x", "é", "\u{1f642}"] {
        let longest = one.repeat(4000);
        ana.chat(&format!("  {longest}\n"));
        ana.expect_chat("ana", &longest);
        bob.expect_chat("ana", &longest);
        ana.chat(&one.repeat(4001));
        ana.expect_refused("too_long");
    }
    bob.expect_nothing();
}

// Refused events.

// contract §6.13 §6.14
#[test]
fn an_invalid_event_is_refused_to_its_sender_alone() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let refused = [
        ("bad_json", "nope"),
        ("bad_json", ""),
        ("bad_json", "{"),
        ("bad_json", r#"{"type":"chat","message":"x"} x"#),
        ("bad_json", "[]"),
        ("bad_json", r#"[{"type":"chat","message":"x"}]"#),
        ("bad_json", "\"chat\""),
        ("bad_json", "1"),
        ("bad_json", "null"),
        ("bad_json", r#"{"type":"chat","message":"\ud800"}"#),
        ("bad_json", r#"{"type":"chat","message":"\udc00x"}"#),
        ("bad_type", "{}"),
        ("bad_type", r#"{"message":"x"}"#),
        ("bad_type", r#"{"type":"shout","message":"x"}"#),
        ("bad_type", r#"{"type":"Chat","message":"x"}"#),
        ("bad_type", r#"{"type":"","message":"x"}"#),
        ("bad_type", r#"{"type":"user_joined","message":"x"}"#),
        ("bad_type", r#"{"type":1,"message":"x"}"#),
        ("bad_type", r#"{"type":null,"message":"x"}"#),
        ("bad_type", r#"{"type":["chat"],"message":"x"}"#),
        ("bad_message", r#"{"type":"chat"}"#),
        ("bad_message", r#"{"type":"chat","message":null}"#),
        ("bad_message", r#"{"type":"chat","message":1}"#),
        ("bad_message", r#"{"type":"chat","message":["x"]}"#),
        ("bad_message", r#"{"type":"chat","message":{"text":"x"}}"#),
        ("bad_message", r#"{"type":"chat","text":"x"}"#),
        ("empty_message", r#"{"type":"chat","message":""}"#),
        ("empty_message", r#"{"type":"chat","message":" \n\t\u3000\u0085 "}"#),
    ];
    for (code, payload) in refused {
        ana.text(payload);
        let event = ana.expect_refused(code);
        assert_eq!(event["room_id"], json!(room), "{payload}");
    }
    ana.chat("and the socket stays open");
    bob.expect_chat("ana", "and the socket stays open");
}

// contract §1.17 §6.14 §6.15 §12.15
#[test]
fn chats_over_the_rate_are_refused_until_time_has_passed() {
    let server = Server::start(&["--message-rate", "1", "--message-burst", "3"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    tab.expect_nothing();
    ana.send(["1", "2", "3", "4", "5", "6", "7"].map(chat).concat());
    for text in ["1", "2", "3"] {
        ana.expect_chat("ana", text);
        tab.expect_chat("ana", text);
    }
    let refused = ana.expect_refused("rate_limited");
    assert_eq!(refused["room_id"], json!(room));
    let wait = refused["retry_after"].as_f64().expect("a number of seconds");
    assert!(wait > 0.0 && wait <= 2.0, "{refused}");
    // The rate belongs to the session, not to the socket; other sessions have their own.
    tab.chat("8");
    tab.expect_refused("rate_limited");
    for text in ["1", "2", "3"] {
        bob.expect_chat("ana", text);
    }
    bob.chat("hi");
    bob.expect_chat("bob", "hi");
    // After a while chats are accepted again.
    wait_until("a chat is accepted", || {
        tab.chat("again");
        loop {
            let event = tab.event();
            match (event["type"].as_str(), event["message"].as_str()) {
                (Some("chat"), Some("again")) => return true,
                (Some("refused"), _) => return false,
                _ => {}
            }
        }
    });
    bob.expect_chat("ana", "again");
}

// contract §12.15
#[test]
fn the_default_burst_is_forty() {
    let server = Server::start(&[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let flood: Vec<u8> = (0..100).flat_map(|number| chat(&number.to_string())).collect();
    ana.send(flood);
    for number in 0..40 {
        ana.expect_chat("ana", &number.to_string());
        bob.expect_chat("ana", &number.to_string());
    }
    let refused = (40..100).map(|_| ana.event()).filter(|event| event["type"] == "refused");
    assert!(refused.count() > 0);
}

// Typing.

// contract §6.3
#[test]
fn typing_is_passed_on_at_most_once_a_second_per_user() {
    let server = Server::start(&["--message-burst", "2"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    let burst = [typing(), typing(), typing(), chat("hello")].concat();
    ana.send(&burst);
    ana.expect_event(&json!({"type": "typing", "user": "ana"}));
    ana.expect_chat("ana", "hello");
    bob.expect_event(&json!({"type": "typing", "user": "ana"}));
    bob.expect_chat("ana", "hello");
    tab.expect_event(&json!({"type": "typing", "user": "ana"}));
    // Each user has an interval of their own.
    bob.typing();
    ana.expect_event(&json!({"type": "typing", "user": "bob"}));
    // Suppressed typing events do not count as chats: ana's second chat is still within her burst of two.
    let keys: Vec<u8> = std::iter::repeat_with(typing).take(200).flatten().collect();
    ana.send(keys);
    ana.chat("still here");
    while ana.event()["message"] != "still here" {}
    // After a second, typing is passed on again.
    wait_until("typing is passed on again", || {
        ana.typing();
        ana.text(r#"{"type":"ping"}"#);
        let event = ana.event();
        if event["type"] == "typing" {
            ana.expect_event(&json!({"type": "pong"}));
        }
        event["type"] == "typing"
    });
}

// contract §6.3
#[test]
fn two_sockets_of_a_session_type_as_one_user() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    ana.typing();
    tab.expect_event(&json!({"type": "typing"}));
    tab.send([typing(), chat("done")].concat());
    bob.expect_event(&json!({"type": "typing", "user": "ana"}));
    bob.expect_chat("ana", "done");
}

// Several sockets of one session.

// contract §6.9
#[test]
fn a_second_socket_of_a_session_is_not_announced() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    tab.chat("from the second");
    for socket in [&mut ana, &mut tab, &mut bob] {
        let event = socket.expect_chat("ana", "from the second");
        assert_eq!(event["user_id"], json!(ana_id(&event)));
    }
    assert_eq!(server.user_count(&room), Some(2));
    ana.close();
    tab.chat("still here");
    bob.expect_chat("ana", "still here");
    tab.close();
    bob.expect_left("ana");
    assert_eq!(server.user_count(&room), Some(1));
}

fn ana_id(event: &Value) -> &str {
    event["user_id"].as_str().expect("a user_id")
}

// Coming and going.

// contract §6.10
#[test]
fn a_closed_socket_leaves_at_once() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (_, ana, mut bob) = server.room_of_two();
    ana.close();
    bob.expect_left("ana");
}

/// Regression: a browser sends 1001 at each reload, so that everyone read of a leave and a join.
// contract §6.10 §6.11 §6.19
#[test]
fn a_close_with_1001_or_3001_is_a_broken_connection() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    for code in [1001, 3001] {
        ana.send(frame(FIN | CLOSE, close_payload(code, "back soon")));
        assert_eq!(ana.closed().0, code);
        let session = ana.session.clone();
        ana = server.socket(&room, &session);
        ana.session = session;
        ana.chat("did you miss me?");
        bob.expect_chat("ana", "did you miss me?");
        ana.expect_chat("ana", "did you miss me?");
    }
    ana.send(frame(FIN | CLOSE, close_payload(3000, "")));
    bob.expect_left("ana");
}

// contract §6.11
#[test]
fn a_reset_socket_that_returns_in_time_is_not_announced() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (room, ana, mut bob) = server.room_of_two();
    let (session, user_id) = (ana.session.clone(), ana.user_id.clone());
    ana.reset();
    assert_eq!(
        server.user_count(&room),
        Some(2),
        "a user counts as present during the grace period"
    );
    let mut back = server.socket(&room, &session);
    back.chat("did you miss me?");
    let event = back.expect_chat("ana", "did you miss me?");
    assert_eq!(event["user_id"], json!(user_id));
    bob.expect_chat("ana", "did you miss me?");
    // An end of stream without a close frame is treated like a reset.
    back.stream().finish();
    back.until_end();
    let mut again = server.socket(&room, &session);
    again.chat("and again?");
    bob.expect_chat("ana", "and again?");
}

// contract §6.11 §12.11
#[test]
fn a_reset_socket_that_does_not_return_has_left_after_leave_grace() {
    let server = Server::start(&["--leave-grace", "200ms"]);
    let (room, ana, mut bob) = server.room_of_two();
    ana.reset();
    bob.expect_left("ana");
    assert_eq!(server.user_count(&room), Some(1));
    let eve = server.enter(&room, "eve");
    bob.expect_join("eve");
    eve.stream().finish();
    bob.expect_left("eve");
}

// contract §6.9
#[test]
fn a_reset_socket_does_not_leave_while_another_of_its_session_is_open() {
    let server = Server::start(&["--leave-grace", "0s"]);
    let (room, ana, mut bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    tab.expect_nothing();
    let connections = || server.health()["connections"].as_u64();
    let before = connections();
    ana.reset();
    wait_until("the reset is noticed", || connections() < before);
    tab.chat("hi");
    bob.expect_chat("ana", "hi");
}

// Pings.

// contract §6.11 §6.12 §7.19 §12.13
#[test]
fn a_socket_that_answers_no_ping_is_dropped() {
    let flags = ["--ping-interval", "1s", "--ping-timeout", "4s", "--leave-grace", "100ms"];
    let server = Server::start(&flags);
    let (room, mut ana, mut bob) = server.room_of_two();
    // Ana reads but does not answer; bob answers.
    ana.expect_ping();
    let left = bob.event_with_pongs();
    assert_eq!((&left["type"], &left["user"]), (&json!("user_left"), &json!("ana")));
    assert_eq!(ana.until_end(), None, "no close frame");
    bob.chat("alone");
    let alone = bob.event_with_pongs();
    assert_eq!(alone["message"], "alone");
    let left = left["id"].as_str().expect("an id");
    let mut back = server.socket_with(&room, &ana.session, &format!("after={left}"));
    assert_eq!(back.history().messages, [alone]);
}

// contract §6.12
#[test]
fn a_socket_that_sends_events_is_not_dropped() {
    let flags = ["--ping-interval", "1s", "--ping-timeout", "1s", "--leave-grace", "0s"];
    let server = Server::start(&flags);
    let (room, mut ana, silent) = server.room_of_two();
    let mut left = false;
    wait_until("bob is dropped", || {
        ana.typing();
        ana.text(r#"{"type":"ping"}"#);
        loop {
            let event = ana.event();
            left |= event["type"] == "user_left";
            if event["type"] == "pong" {
                return left;
            }
        }
    });
    assert_eq!(server.user_count(&room), Some(1));
    drop(silent);
}

// Names.

// contract §3.4 §3.5 §7.13
#[test]
fn a_holder_that_answers_the_probe_keeps_the_name() {
    let server = Server::start(&["--probe-timeout", "8s"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let session = server.session("ana");
    let newcomer = server.socket(&room, &session);
    let payload = ana.expect_ping();
    ana.pong(payload);
    newcomer.expect_close(4409, "name taken");
    ana.expect_nothing();
    bob.expect_nothing();
    assert_eq!(server.user_count(&room), Some(2));
}

// contract §3.5
#[test]
fn any_event_from_the_holder_answers_the_probe() {
    let server = Server::start(&["--probe-timeout", "8s"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let newcomer = server.socket(&room, &server.session("ana"));
    ana.expect_ping();
    ana.chat("I am here");
    newcomer.expect_close(4409, "name taken");
    bob.expect_chat("ana", "I am here");
    bob.expect_nothing();
}

// contract §3.5
#[test]
fn one_socket_that_answers_the_probe_keeps_the_name_for_its_session() {
    let server = Server::start(&["--probe-timeout", "8s"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    tab.expect_nothing();
    let newcomer = server.socket(&room, &server.session("ana"));
    let payload = tab.expect_ping();
    tab.pong(payload);
    newcomer.expect_close(4409, "name taken");
    ana.expect_nothing();
    tab.expect_nothing();
    bob.expect_nothing();
}

// contract §3.5 §3.7 §12.13
#[test]
fn a_silent_holder_loses_the_name_and_the_newcomers_chats_are_delivered() {
    let server = Server::start(&["--probe-timeout", "300ms", "--leave-grace", "1h"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let session = server.session("ana");
    // The first chat comes with the upgrade, the second while the probe runs.
    let mut http = server.http();
    let mut bytes = upgrade(&format!("/ws/{room}?session_id={session}")).bytes(&server.host());
    bytes.extend(chat("first"));
    http.send(bytes);
    let mut newcomer = http.upgraded();
    newcomer.chat("second");
    let left = bob.expect_left("ana");
    assert_eq!(left["user_id"], json!(ana.user_id));
    let joined = bob.expect_join("ana");
    assert_ne!(joined["user_id"], left["user_id"]);
    newcomer.expect_join("ana");
    for text in ["first", "second"] {
        let chat = bob.expect_chat("ana", text);
        assert_eq!(chat["user_id"], joined["user_id"]);
        newcomer.expect_chat("ana", text);
    }
    ana.until_end();
    assert_eq!(server.user_count(&room), Some(2));
}

/// Regression: a close frame from the holder counted as an answer to the probe, so that the newcomer was refused
/// a name that had just become free.
#[test]
fn a_holder_that_closes_when_probed_frees_the_name() {
    let server = Server::start(&["--probe-timeout", "1h"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let session = server.session("ana");
    let mut newcomer = server.socket(&room, &session);
    ana.expect_ping();
    ana.close();
    bob.expect_left("ana");
    bob.expect_join("ana");
    newcomer.expect_join("ana");
}

// contract §3.6
#[test]
fn a_holder_without_an_open_socket_loses_the_name_at_once() {
    let server = Server::start(&["--probe-timeout", "1h", "--leave-grace", "1h"]);
    let (room, ana, mut bob) = server.room_of_two();
    let connections = || server.health()["connections"].as_u64();
    let before = connections();
    ana.reset();
    wait_until("the reset is noticed", || connections() < before);
    let mut newcomer = server.enter(&room, "ana");
    let left = bob.expect_left("ana");
    let joined = bob.expect_join("ana");
    assert_ne!(left["user_id"], joined["user_id"]);
    assert_eq!(joined["user_id"], json!(newcomer.user_id));
    newcomer.expect_nothing();
}

// contract §3.4
#[test]
fn names_are_compared_ignoring_case() {
    let server = Server::start(&["--probe-timeout", "8s"]);
    let pairs =
        [("ana", "ANA"), ("àna", "ÀNA"), ("ÀNA", "àna"), ("straße", "STRAßE"), ("Ωω", "ωΩ")];
    for (name, same) in pairs {
        let session = server.session(name);
        let room = server.room(&session);
        let mut holder = server.enter_as(&room, name, &session);
        let newcomer = server.socket(&room, &server.session(same));
        let payload = holder.expect_ping();
        holder.pong(payload);
        newcomer.expect_close(4409, "name taken");
        let other = server.enter(&room, &format!("{name}2"));
        holder.expect_join(&format!("{name}2"));
        drop(other);
    }
}

// contract §3.4
#[test]
fn a_name_is_taken_only_in_one_room_and_while_its_holder_is_present() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (room, ana, mut bob) = server.room_of_two();
    let other = server.session("ana");
    let attic = server.room(&other);
    let mut upstairs = server.enter_as(&attic, "ana", &other);
    upstairs.expect_nothing();
    ana.close();
    bob.expect_left("ana");
    server.enter_as(&room, "ana", &other);
    bob.expect_join("ana");
}

// contract §3.4
#[test]
fn a_name_is_held_by_presence_and_not_by_membership() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    server.enter(&room, "ana").expect_nothing();
    let other = server.session("ana");
    let join: Request = post(&format!("/rooms/{room}/join")).session(&other);
    server.ask(join).expect(200);
}

#[test]
fn a_second_socket_of_the_holder_causes_no_probe() {
    let server = Server::start(&["--probe-timeout", "1h"]);
    let (room, mut ana, _bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    tab.expect_nothing();
    ana.send(frame(FIN | PING, "mine"));
    // A ping from the server would come before this pong.
    assert_eq!(ana.frame().opcode, PONG);
}

#[test]
fn a_newcomer_that_disconnects_during_the_probe_is_not_announced() {
    let server = Server::start(&["--probe-timeout", "8s"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let newcomer = server.socket(&room, &server.session("ana"));
    let payload = ana.expect_ping();
    newcomer.reset();
    ana.pong(payload);
    ana.send(text(r#"{"type":"chat","message":"who was that?"}"#));
    bob.expect_chat("ana", "who was that?");
    ana.expect_chat("ana", "who was that?");
}
