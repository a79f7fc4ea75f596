//! Nonces, and messages by REST: reading those after a given message, and posting.

use serde_json::{Value, json};

use crate::client::{Answer, Request, Ws, chat, chat_with, delete, get, post, request};
use crate::server::{Server, wait_until};

const NO_SESSION: &str = "00000000-0000-4000-8000-000000000000";

fn id(message: &Value) -> &str {
    message["id"].as_str().expect("an id")
}

/// Sends a chat with a new nonce and returns the event that its sender receives.
#[track_caller]
fn say_with(socket: &mut Ws, nonce: &str, message: &str) -> Value {
    socket.send(chat_with(nonce, message));
    socket.expect_event(&json!({"type": "chat", "message": message, "nonce": nonce}))
}

fn posting(room: &str, session: &str) -> Request {
    post(&format!("/rooms/{room}/messages")).session(session)
}

fn posting_with(room: &str, session: &str, nonce: &str, message: &str) -> Request {
    posting(room, session).json(&json!({"message": message, "nonce": nonce}))
}

// Nonces on the socket.

// contract §8.9
#[test]
fn a_nonce_is_part_of_the_message_in_events_and_history() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let sent = say_with(&mut ana, "any string", "Hello world!");
    assert_eq!(bob.event(), sent);
    assert_eq!(server.messages(&room, &bob.session).last(), Some(&sent));
    let mut tab = server.socket_with(&room, &bob.session, "history=1");
    assert_eq!(tab.history().messages, [sent]);
    ana.chat("without");
    let without = bob.expect_chat("ana", "without");
    assert_eq!(without.get("nonce"), None, "{without}");
}

// contract §8.10
#[test]
fn a_repeated_nonce_returns_the_original_message_to_its_sender_alone() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    let sent = say_with(&mut ana, "n", "once");
    assert_eq!((tab.event(), bob.event()), (sent.clone(), sent.clone()));
    for other in ["once", "something else", "  once "] {
        ana.send(chat_with("n", other));
        assert_eq!(ana.event(), sent, "the same message, with its id and its time");
    }
    // The answer goes to the socket that repeats the nonce, which may be another one of the session.
    tab.send(chat_with("n", "once"));
    assert_eq!(tab.event(), sent);
    for socket in [&mut ana, &mut tab, &mut bob] {
        socket.expect_nothing();
    }
    let kept = server.messages(&room, &ana.session);
    assert_eq!(kept.iter().filter(|message| message["type"] == "chat").count(), 1);
}

// contract §8.10
#[test]
fn a_nonce_counts_per_session_and_room() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let first = say_with(&mut ana, "n", "from ana");
    assert_eq!(bob.event(), first);
    let second = say_with(&mut bob, "n", "from bob");
    assert_eq!(ana.event(), second);
    assert_ne!(first["id"], second["id"]);
    let attic = server.room(&ana.session);
    let mut upstairs = server.enter_as(&attic, "ana", &ana.session);
    let third = say_with(&mut upstairs, "n", "upstairs");
    assert_ne!(first["id"], third["id"]);
    // Each nonce still returns its own message.
    for (socket, sent) in [(&mut ana, &first), (&mut bob, &second), (&mut upstairs, &third)] {
        socket.send(chat_with("n", "again"));
        assert_eq!(&socket.event(), sent);
    }
    // Nonces are compared as bytes.
    for other in ["N", "n ", "n\u{0}"] {
        say_with(&mut upstairs, other, "another");
    }
    assert_eq!(server.messages(&room, &ana.session).len(), 4);
}

// contract §8.10
#[test]
fn a_nonce_is_forgotten_with_its_message() {
    let server = Server::start(&["--history", "3"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut ana = server.enter_as(&room, "ana", &ana);
    let first = say_with(&mut ana, "n", "first");
    for number in 0..2 {
        say_with(&mut ana, &format!("other {number}"), "in between");
    }
    ana.send(chat_with("n", "still kept"));
    assert_eq!(ana.event(), first);
    say_with(&mut ana, "the third after it", "push it out");
    let second = say_with(&mut ana, "n", "second");
    assert!(id(&second) > id(&first));
    ana.send(chat_with("n", "again"));
    assert_eq!(ana.event(), second);
}

// contract §8.10
#[test]
fn a_nonce_is_still_known_after_a_reset_a_close_and_a_leave() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let sent = say_with(&mut bob, "n", "hi");
    assert_eq!(ana.event(), sent);
    let session = bob.session.clone();
    // In turn the socket is reset, the socket closes, and the session leaves and joins again.
    bob.reset();
    let mut bob = server.socket(&room, &session);
    bob.send(chat_with("n", "hi"));
    assert_eq!(bob.event(), sent);
    bob.close();
    ana.expect_left("bob");
    let mut bob = server.enter_as(&room, "bob", &session);
    ana.expect_join("bob");
    bob.send(chat_with("n", "hi"));
    assert_eq!(bob.event(), sent);
    server.ask(delete(&format!("/rooms/{room}/leave")).session(&session)).expect(200);
    bob.expect_close(1000, "left room");
    ana.expect_left("bob");
    let mut bob = server.enter_as(&room, "bob", &session);
    ana.expect_join("bob");
    bob.send(chat_with("n", "hi"));
    assert_eq!(bob.event(), sent);
    ana.expect_nothing();
}

// contract §6.14 §8.9
#[test]
fn a_nonce_has_1_to_64_bytes() {
    let server = Server::start(&[]);
    let (_, mut ana, mut bob) = server.room_of_two();
    let good = ["x", &"x".repeat(64), &"é".repeat(32), &"\u{1f642}".repeat(16), " ", "\u{0}\n\""];
    for nonce in good {
        let sent = say_with(&mut ana, nonce, "fine");
        assert_eq!(bob.event(), sent);
    }
    let bad = [
        json!(""),
        json!("x".repeat(65)),
        json!("é".repeat(33)),
        json!("\u{1f642}".repeat(17)),
        json!(1),
        json!(true),
        json!(["n"]),
        json!({"n": 1}),
    ];
    for nonce in bad {
        ana.text(json!({"type": "chat", "message": "fine", "nonce": nonce}).to_string());
        let refused = ana.expect_refused("bad_nonce");
        assert_eq!(refused.get("nonce"), None, "{refused}");
    }
    ana.text(r#"{"type":"chat","message":"x","nonce":"\ud800"}"#);
    ana.expect_refused("bad_json");
    bob.expect_nothing();
}

// contract §6.15
#[test]
fn a_refusal_contains_the_nonce_which_may_then_be_used() {
    let server = Server::start(&["--message-rate", "1", "--message-burst", "3"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let long = "x".repeat(4001);
    let refused = [
        ("empty_message", json!({"type": "chat", "message": "  ", "nonce": "n"})),
        ("too_long", json!({"type": "chat", "message": long, "nonce": "n"})),
        ("bad_message", json!({"type": "chat", "message": 1, "nonce": "n"})),
        ("bad_message", json!({"type": "chat", "nonce": "n"})),
        ("bad_type", json!({"type": "shout", "message": "x", "nonce": "n"})),
    ];
    for (code, event) in refused {
        ana.text(event.to_string());
        let event = ana.expect_refused(code);
        assert_eq!((&event["nonce"], &event["room_id"]), (&json!("n"), &json!(room)));
    }
    ana.chat(" ");
    let without = ana.expect_refused("empty_message");
    assert_eq!(without.get("nonce"), None, "{without}");
    let sent = say_with(&mut ana, "n", "now it is good");
    assert_eq!(bob.event(), sent);
    let flood: Vec<u8> = (0..8).flat_map(|number| chat_with(&number.to_string(), "x")).collect();
    ana.send(flood);
    let mut events = (0..8).map(|_| ana.event());
    let late = events.find(|event| event["type"] == "refused").expect("one of eight is refused");
    assert_eq!(late["code"], "rate_limited");
    assert!(late["retry_after"].is_number() && late["nonce"].is_string(), "{late}");
}

// Reading with `after`.

fn read_on(server: &Server, room: &str, session: &str, query: &str) -> (Vec<Value>, Value) {
    let target = format!("/rooms/{room}/messages?{query}");
    let answer = server.ask(get(&target).session(session)).expect(200).json();
    (answer["messages"].as_array().expect("messages").clone(), answer["complete"].clone())
}

// contract §8.11
#[test]
fn after_returns_the_messages_that_follow_up_to_limit() {
    let server = Server::start(&["--message-rate", "0"]);
    let (room, mut ana, bob) = server.room_of_two();
    for number in 0..70 {
        ana.chat(&number.to_string());
        ana.expect_chat("ana", &number.to_string());
    }
    let all = server.messages(&room, &bob.session);
    assert_eq!(all.len(), 72);
    let read = |query: String| read_on(&server, &room, &bob.session, &query);
    for at in [0, 1, 10, 21, 22, 70, 71] {
        let after = id(&all[at]);
        let upto = |count: usize| &all[at + 1..(at + 1 + count).min(72)];
        let (messages, complete) = read(format!("after={after}"));
        assert!(messages == upto(50) && complete == true, "fifty after {at}");
        let (messages, complete) = read(format!("after={after}&limit=3"));
        assert!(messages == upto(3) && complete == true, "three after {at}");
        let (messages, complete) = read(format!("limit=1000&after={after}"));
        assert!(messages == upto(1000) && complete == true, "all after {at}");
    }
    // Reading page by page returns every message.
    let mut pages = vec![all[0].clone()];
    loop {
        let after = id(pages.last().expect("a message"));
        let (messages, complete) = read(format!("after={after}&limit=7"));
        assert_eq!(complete, true, "whether or not the page is the last");
        let is_last = messages.len() < 7;
        pages.extend(messages);
        if is_last {
            break;
        }
    }
    assert!(pages == all);
}

// contract §1.10 §8.12
#[test]
fn after_an_unknown_message_returns_the_oldest_messages_and_is_incomplete() {
    let server = Server::start(&["--history", "10"]);
    let (room, mut ana, bob) = server.room_of_two();
    let first = server.messages(&room, &bob.session).remove(0);
    for number in 0..15 {
        ana.chat(&number.to_string());
        ana.expect_chat("ana", &number.to_string());
    }
    let kept = server.messages(&room, &bob.session);
    let future = "ffffffff-ffff-7fff-bfff-ffffffffffff";
    for after in [id(&first), future, NO_SESSION, "nonsense", "", "0", "%F0%9F%99%82"] {
        let query = format!("after={after}");
        let (messages, complete) = read_on(&server, &room, &bob.session, &query);
        assert!(messages == kept && complete == false, "{query}");
        let query = format!("after={after}&limit=4");
        let (messages, complete) = read_on(&server, &room, &bob.session, &query);
        assert!(messages == kept[..4] && complete == false, "{query}");
    }
    let (messages, complete) =
        read_on(&server, &room, &bob.session, &format!("after={}", id(&kept[0])));
    assert!(messages == kept[1..] && complete == true);
    // The limit is checked as it is without `after`.
    for limit in ["0", "1001", "x"] {
        let target = format!("/rooms/{room}/messages?after={}&limit={limit}", id(&kept[0]));
        server.ask(get(&target).session(&bob.session)).refused(422, "bad_query");
    }
}

// Posting by REST.

// contract §8.13
#[test]
fn a_post_returns_the_message_that_all_members_receive() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let carl = server.session("carl");
    server.join(&room, &carl);
    for target in [format!("/rooms/{room}/messages"), format!("/rooms/{room}/messages/")] {
        let request = post(&target).session(&carl).body(r#"{"message":" Hello \ud83d\ude42\n"}"#);
        let sent = server.ask(request).expect(201).json();
        assert_eq!((&sent["type"], &sent["user"]), (&json!("chat"), &json!("carl")));
        assert_eq!(sent["message"], "Hello \u{1f642}");
        assert_eq!(sent["room_id"], json!(room));
        assert_eq!(sent.get("nonce"), None);
        for field in ["id", "user_id", "timestamp"] {
            assert!(sent[field].is_string(), "{field} of {sent}");
        }
        assert_eq!((ana.event(), bob.event()), (sent.clone(), sent.clone()));
        assert_eq!(server.messages(&room, &carl).last(), Some(&sent));
    }
    // Posting does not make a user present.
    assert_eq!(server.user_count(&room), Some(2));
    // The poster's own sockets receive the message as well.
    let sent = server.say(&room, &ana.session, "from the shell");
    assert_eq!(sent["user_id"], json!(ana.user_id));
    assert_eq!((ana.event(), bob.event()), (sent.clone(), sent));
}

// contract §8.13
#[test]
fn a_post_with_a_known_nonce_is_200_and_is_not_delivered_again() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let ask = |nonce: &str, text: &str| -> Answer {
        server.ask(posting_with(&room, &ana.session, nonce, text))
    };
    let sent = ask("n", "hi").expect(201).json();
    assert_eq!(sent["nonce"], "n");
    for text in ["hi", "something else"] {
        assert_eq!(ask("n", text).expect(200).json(), sent);
    }
    ask("n", " ").refused(422, "empty_message");
    let other = server.ask(posting_with(&room, &bob.session, "n", "mine")).expect(201).json();
    assert_ne!(other["id"], sent["id"]);
    for socket in [&mut ana, &mut bob] {
        assert_eq!((socket.event(), socket.event()), (sent.clone(), other.clone()));
        socket.expect_nothing();
    }
}

// contract §8.10 §8.13
#[test]
fn rest_and_sockets_share_nonces() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let by_socket = say_with(&mut ana, "socket", "hi");
    assert_eq!(bob.event(), by_socket);
    let again = server.ask(posting_with(&room, &ana.session, "socket", "hi")).expect(200);
    assert_eq!(again.json(), by_socket);
    let by_rest = server.ask(posting_with(&room, &ana.session, "rest", "ho")).expect(201).json();
    assert_eq!((ana.event(), bob.event()), (by_rest.clone(), by_rest.clone()));
    ana.send(chat_with("rest", "ho"));
    assert_eq!(ana.event(), by_rest);
    bob.expect_nothing();
    ana.expect_nothing();
}

// contract §1.7
#[test]
fn a_post_that_is_no_json_object_is_a_bad_body() {
    let server = Server::start(&[]);
    let (room, mut ana, _bob) = server.room_of_two();
    let bad = ["", "nope", "[]", "null", "1", "\"x\"", "{", "{} {}", r#"{"message":"\ud800"}"#];
    for body in bad {
        server.ask(posting(&room, &ana.session).body(body)).refused(422, "bad_body");
    }
    server.ask(posting(&room, &ana.session)).refused(422, "bad_body");
    server.ask(posting(&room, &ana.session).body(b"{\"message\":\"\xff\"}")).expect(422);
    ana.expect_nothing();
}

// contract §8.14
#[test]
fn a_post_is_refused_for_the_same_reasons_as_a_chat() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let long = "\u{1f642}".repeat(4001);
    let refused = [
        ("bad_message", json!({})),
        ("bad_message", json!({"message": null})),
        ("bad_message", json!({"message": 1})),
        ("bad_message", json!({"message": ["x"], "nonce": "n"})),
        ("bad_message", json!({"text": "x"})),
        ("empty_message", json!({"message": ""})),
        ("empty_message", json!({"message": " \n\u{3000}", "nonce": "n"})),
        ("too_long", json!({"message": long})),
        ("bad_nonce", json!({"message": "x", "nonce": ""})),
        ("bad_nonce", json!({"message": "x", "nonce": "x".repeat(65)})),
        ("bad_nonce", json!({"message": "x", "nonce": "é".repeat(33)})),
        ("bad_nonce", json!({"message": "x", "nonce": 1})),
        ("bad_nonce", json!({"message": "x", "nonce": ["n"]})),
    ];
    for (code, body) in refused {
        server.ask(posting(&room, &ana.session).json(&body)).refused(422, code);
    }
    bob.expect_nothing();
    let longest = "\u{1f642}".repeat(4000);
    let nonce = "\u{1f642}".repeat(16);
    let sent = server.ask(posting_with(&room, &ana.session, &nonce, &longest)).expect(201).json();
    assert_eq!((&sent["message"], &sent["nonce"]), (&json!(longest), &json!(nonce)));
    assert_eq!(bob.event(), sent);
    let unknown = json!({"message": "x", "colour": "red", "type": "typing", "user": "bob"});
    server.ask(posting(&room, &ana.session).json(&unknown)).expect(201);
    assert_eq!((&bob.event()["user"], ana.event()), (&json!("ana"), sent));
}

// contract §8.14
#[test]
fn a_post_needs_a_session_that_has_joined() {
    let server = Server::start(&[]);
    let (room, ana, mut bob) = server.room_of_two();
    let outsider = server.session("eve");
    let body = json!({"message": "hi", "nonce": "n"});
    let ask = |session: &str| server.ask(posting(&room, session).json(&body));
    ask(&outsider).refused(403, "not_a_member");
    server.join(&room, &outsider);
    let sent = ask(&outsider).expect(201).json();
    server.ask(delete(&format!("/rooms/{room}/leave")).session(&outsider)).expect(200);
    ask(&outsider).refused(403, "not_a_member");
    let creator = server.session("carl");
    let own = server.room(&creator);
    server.ask(posting(&own, &creator).json(&body)).expect(201);
    // A session stays a member when its socket closes.
    let session = ana.session.clone();
    ana.close();
    server.say(&room, &session, "bye");
    assert_eq!(bob.event(), sent);
    bob.expect_left("ana");
    bob.expect_chat("ana", "bye");
    bob.expect_nothing();
}

// contract §1.11
#[test]
fn a_post_is_checked_in_the_documented_order() {
    let server = Server::start(&[]);
    let (ana, eve) = (server.session("ana"), server.session("eve"));
    let room = server.room(&ana);
    let good = json!({"message": "hi"});
    let bad = json!({"message": ""});
    let target = format!("/rooms/{room}/messages");
    server.ask(post(&target).json(&bad)).refused(401, "missing_session");
    server.ask(post(&target).session(NO_SESSION).json(&bad)).refused(401, "invalid_session");
    server.ask(posting("0000000000", &ana).body("nope")).refused(422, "bad_body");
    server.ask(posting("0000000000", &ana).json(&bad)).refused(422, "empty_message");
    for nowhere in ["0000000000", "00000000000000000000000000000000", "nonsense"] {
        server.ask(posting(nowhere, &ana).json(&good)).refused(404, "room_not_found");
    }
    server.ask(posting(&room, &eve).json(&bad)).refused(422, "empty_message");
    server.ask(posting(&room, &eve).json(&good)).refused(403, "not_a_member");
    server.ask(posting(&room, &ana).json(&good)).expect(201);
}

// Names.

// contract §3.4
#[test]
fn a_post_under_the_name_of_another_user_present_is_409() {
    let server = Server::start(&["--probe-timeout", "1h"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    for name in ["ana", "ANA"] {
        let other = server.session(name);
        server.join(&room, &other);
        let body = json!({"message": "I am ana"});
        server.ask(posting(&room, &other).json(&body)).refused(409, "name_taken");
    }
    let outsider = server.session("ana");
    let body = json!({"message": "I am ana"});
    server.ask(posting(&room, &outsider).json(&body)).refused(403, "not_a_member");
    ana.expect_nothing();
    bob.expect_nothing();
    // The holder may post, and membership alone holds no name.
    server.say(&room, &ana.session, "it is me");
    let (one, two) = (server.session("carl"), server.session("carl"));
    server.join(&room, &one);
    server.join(&room, &two);
    server.say(&room, &one, "from the first");
    server.say(&room, &two, "from the second");
}

// contract §3.6
#[test]
fn a_post_takes_the_name_of_a_holder_without_an_open_socket() {
    let server = Server::start(&["--probe-timeout", "1h", "--leave-grace", "1h"]);
    let (room, ana, mut bob) = server.room_of_two();
    let other = server.session("ana");
    server.join(&room, &other);
    let connections = || server.health()["connections"].as_u64();
    let (before, holder) = (connections(), ana.user_id.clone());
    ana.reset();
    wait_until("the reset is noticed", || connections() < before);
    let sent = server.say(&room, &other, "my name now");
    let left = bob.expect_left("ana");
    assert_eq!(left["user_id"], json!(holder));
    assert_eq!(bob.event(), sent);
    assert_ne!(sent["user_id"], json!(holder));
    assert_eq!(server.user_count(&room), Some(1));
}

// Rates.

#[track_caller]
fn is_rate_limited(answer: Answer) {
    let answer = answer.refused(429, "rate_limited");
    let seconds: u32 = answer.field("Retry-After").and_then(|s| s.parse().ok()).expect("a number");
    assert!((1..=2).contains(&seconds), "{answer:?}");
}

// contract §8.14 §12.15
#[test]
fn posts_and_chats_share_the_rate_of_their_session() {
    let server = Server::start(&["--message-rate", "1", "--message-burst", "4"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let attic = server.room(&ana.session);
    let post = |room: &str, session: &str| {
        server.ask(posting(room, session).json(&json!({"message": "by REST"})))
    };
    ana.send([chat("one"), chat("two")].concat());
    ana.expect_chat("ana", "one");
    ana.expect_chat("ana", "two");
    post(&room, &ana.session).expect(201);
    post(&attic, &ana.session).expect(201);
    // Other errors are reported before the rate.
    let bad = json!({"message": ""});
    server.ask(posting(&room, &ana.session).json(&bad)).refused(422, "empty_message");
    server.ask(posting("0000000000", &ana.session).json(&json!({"message": "x"}))).expect(404);
    let answers = [(); 3].map(|()| post(&room, &ana.session));
    // One of the three may succeed: if a second has passed, the bucket holds a token again.
    let late = answers.into_iter().find(|answer| answer.status != 201);
    is_rate_limited(late.expect("one of three is refused"));
    let flood: Vec<u8> = (0..8).flat_map(|number| chat(&number.to_string())).collect();
    ana.send(flood);
    let refused = (0..).map(|_| ana.event()).find(|event| event["type"] == "refused");
    assert_eq!(refused.expect("endless")["code"], "rate_limited");
    // Other sessions have a rate of their own.
    post(&room, &bob.session).expect(201);
    while bob.event()["user"] != "bob" {}
    wait_until("a post is accepted", || post(&room, &ana.session).status == 201);
}

// Expiry of rooms.

/// Posts to one room until the other expires; then that one expires as well.
fn expect_kept_by_posts(server: &Server, session: &str, kept: &str, silent: &str) {
    wait_until("the silent room is gone", || {
        server.say(kept, session, "still here");
        server.user_count(silent).is_none()
    });
    assert_eq!(server.user_count(kept), Some(0));
    wait_until("the other room is gone", || server.user_count(kept).is_none());
}

// contract §3.12
#[test]
fn a_post_restarts_new_room_ttl() {
    let flags = ["--new-room-ttl", "700ms", "--room-ttl", "1h", "--message-rate", "0"];
    let server = Server::start(&flags);
    let ana = server.session("ana");
    let (kept, silent) = (server.room(&ana), server.room(&ana));
    expect_kept_by_posts(&server, &ana, &kept, &silent);
}

// contract §3.12
#[test]
fn a_post_restarts_room_ttl() {
    let flags = ["--room-ttl", "700ms", "--new-room-ttl", "1h", "--message-rate", "0"];
    let server = Server::start(&flags);
    let ana = server.session("ana");
    let (kept, silent) = (server.room(&ana), server.room(&ana));
    for room in [&kept, &silent] {
        server.enter_as(room, "ana", &ana).close();
    }
    expect_kept_by_posts(&server, &ana, &kept, &silent);
}

// contract §3.12
#[test]
fn a_refused_post_does_not_keep_a_room() {
    let server = Server::start(&["--new-room-ttl", "500ms"]);
    let (ana, eve) = (server.session("ana"), server.session("eve"));
    let room = server.room(&ana);
    wait_until("the room is gone", || {
        server
            .ask(posting(&room, &ana).json(&json!({"message": ""})))
            .refused(422, "empty_message");
        let strange = posting(&room, &eve).json(&json!({"message": "x"}));
        server.ask(strange).status == 404
    });
}

/// Regression: a list of messages was encoded at once. Four requests for the longest held most of a
/// small server's memory for as long as their clients read slowly.
// contract §2.10 §8.11
#[test]
fn a_long_list_of_messages_arrives_whole_while_its_reader_is_slow() {
    let server = Server::start(&["--message-rate", "0"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let say = |n: usize| {
        let text = format!("{n} \u{1F984}\"\\").repeat(1 + n * 37 % 400);
        server.say(&room, &ana, &text)
    };
    let said: Vec<_> = (0..300).map(say).collect();
    let list = get(&format!("/rooms/{room}/messages?limit=1000")).session(&ana);
    let mut http = server.http_narrow();
    // The next response waits for the end of the list.
    for request in [&list, &get("/ping"), &list] {
        http.send_request(request);
    }
    let first = http.answer().expect(200);
    assert_eq!(http.answer().expect(200).json(), json!({"status": "ok"}));
    let again = http.answer().expect(200);
    assert_eq!(first.text(), again.text());
    assert!(first.text().len() > 500_000, "{} bytes", first.text().len());
    assert_eq!(first.json()["messages"].as_array().unwrap()[..], said[..]);
    let after = said[100]["id"].as_str().unwrap();
    let target = format!("/rooms/{room}/messages?limit=150&after={after}");
    let rest = server.ask(get(&target).session(&ana)).expect(200).json();
    assert_eq!(rest["messages"].as_array().unwrap()[..], said[101..251]);
    assert_eq!(rest["complete"], json!(true));
    let mut http = server.http();
    http.send_request(&request("HEAD", &target).session(&ana));
    let head = http.answer_to("HEAD").expect(200);
    assert_eq!(head.field("Content-Length"), Some(&*rest_bytes(&server, &target, &ana)));
    assert_eq!(http.ask(&get("/ping")).status, 200);
}

fn rest_bytes(server: &Server, target: &str, session: &str) -> String {
    server.ask(get(target).session(session)).expect(200).text().len().to_string()
}

/// A client that ends its own direction after the request still gets all of a long list.
#[test]
fn a_long_list_reaches_a_client_that_has_ended_its_direction() {
    let server = Server::start(&["--message-rate", "0"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    (0..60).for_each(|n| _ = server.say(&room, &ana, &format!("{n:04000}")));
    let mut http = server.http_narrow();
    http.send_request(&get(&format!("/rooms/{room}/messages?limit=1000")).session(&ana));
    http.stream().finish();
    assert_eq!(http.answer().expect(200).json()["messages"].as_array().unwrap().len(), 60);
    http.expect_end();
}
