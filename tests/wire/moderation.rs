//! Moderation: deleted messages, removal and bans.

use serde_json::{Value, json};

use crate::client::{Answer, Request, Ws, chat_with, delete, get, post, upgrade};
use crate::server::{Server, wait_until};

fn id(message: &Value) -> &str {
    message["id"].as_str().expect("an id")
}

fn deletion(room: &str, message: &str, session: &str) -> Request {
    delete(&format!("/rooms/{room}/messages/{message}")).session(session)
}

/// The entry of a message whose text has been deleted.
fn deleted(message: &Value) -> Value {
    let mut entry = message.clone();
    (entry["message"], entry["deleted"]) = (json!(""), json!(true));
    entry
}

#[track_caller]
fn expect_deletion(socket: &mut Ws, of: &Value, by: &str) -> Value {
    socket.expect_event(&json!({
        "type": "message_deleted",
        "target": of["id"],
        "user": by,
        "message": format!("{by} has deleted a message"),
        "room_id": of["room_id"],
    }))
}

// contract §2.4 §2.8
#[test]
fn whoever_opens_or_joins_a_room_learns_the_own_user_id() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let opened = server.ask(post("/rooms").session(&ana)).expect(201);
    let room = opened.string("room_id");
    let join = post(&format!("/rooms/{room}/join"));
    let (again, joined) =
        [&ana, &bob].map(|session| server.ask(join.clone().session(session)).expect(200)).into();
    assert_eq!(opened.string("user_id"), again.string("user_id"));
    for (session, answer) in [(&ana, opened), (&bob, joined)] {
        assert_eq!(server.say(&room, session, "hello")["user_id"], answer.json()["user_id"]);
    }
}

// contract §1.5 §13.13 §13.14 §13.15
#[test]
fn the_author_or_the_owner_deletes_a_message_and_everyone_is_told() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let cyd = server.session("cyd");
    server.join(&room, &cyd);
    let [one, two] = ["one", "two"].map(|text| {
        bob.send(chat_with(text, text));
        let sent = bob.event();
        assert_eq!(ana.event(), sent);
        sent
    });
    server.ask(deletion(&room, id(&one), &cyd)).refused(403, "not_the_author");
    let mut deletions = Vec::new();
    for (message, session, by) in
        [(&one, bob.session.clone(), "bob"), (&two, ana.session.clone(), "ana")]
    {
        for _ in 0..2 {
            let answer = server.ask(deletion(&room, id(message), &session)).expect(200).json();
            assert_eq!(answer, json!({"message": "Message deleted"}));
        }
        let told = expect_deletion(&mut ana, message, by);
        assert_eq!(bob.event(), told);
        deletions.push(told);
    }
    server.ask(deletion(&room, id(&one), &cyd)).refused(403, "not_the_author");
    let history = server.messages(&room, &cyd);
    assert_eq!(
        history[2..],
        [deleted(&one), deleted(&two), deletions[0].clone(), deletions[1].clone()]
    );

    let missing = ["00000000-0000-7000-8000-000000000000", "x", id(&history[0]), id(&deletions[0])];
    for message in missing {
        server.ask(deletion(&room, message, &ana.session)).refused(404, "message_not_found");
    }
    let nowhere = deletion("0000000000", id(&one), &ana.session);
    server.ask(nowhere).refused(404, "room_not_found");

    // A client that resumes learns of what was deleted.
    let mut resumed = server.socket_with(&room, &cyd, &format!("after={}", id(&two)));
    assert_eq!(resumed.history().messages, deletions);
    ana.chat("next");
    ana.expect_join("cyd");
    ana.expect_chat("ana", "next");
}

// contract §13.17
#[test]
fn the_nonce_of_a_deleted_message_stays_known() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    ana.send(chat_with("n", "a secret"));
    let sent = ana.event();
    assert_eq!(bob.event(), sent);
    server.ask(deletion(&room, id(&sent), &ana.session)).expect(200);
    expect_deletion(&mut ana, &sent, "ana");
    expect_deletion(&mut bob, &sent, "ana");
    ana.send(chat_with("n", "a secret"));
    assert_eq!(ana.event(), deleted(&sent));
    let again = post(&format!("/rooms/{room}/messages"));
    let again = again.session(&ana.session).json(&json!({"message": "a secret", "nonce": "n"}));
    assert_eq!(server.ask(again).expect(200).json(), deleted(&sent));
    bob.chat("next");
    bob.expect_chat("bob", "next");
    ana.expect_chat("bob", "next");
}

// contract §13.18
#[test]
fn deletions_count_against_the_message_rate() {
    let server = Server::start(&["--message-rate", "1", "--message-burst", "2"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let sent = server.say(&room, &ana, "hello");
    server.ask(deletion(&room, id(&sent), &ana)).expect(200);
    let limited = server.ask(deletion(&room, id(&sent), &ana)).refused(429, "rate_limited");
    assert_eq!(limited.field("Retry-After"), Some("1"));
}

/// Long messages, so that the history takes several pages, and more than the kernel buffers for a
/// reader that does not read.
fn long_messages(server: &Server, room: &str, session: &str, count: usize) -> Vec<Value> {
    let text = "x".repeat(4000);
    (0..count).map(|_| server.say(room, session, &text)).collect()
}

/// Regression for what a server must not do here: send the old text, or break off.
// contract §13.14
#[test]
fn readers_in_the_middle_of_a_history_get_what_is_left_of_deleted_messages() {
    let server = Server::start(&["--message-rate", "0"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let sent = long_messages(&server, &room, &ana, 700);
    let short = server.say(&room, &ana, "a");
    let list = get(&format!("/rooms/{room}/messages?limit=1000")).session(&ana);
    let mut reader = server.http_narrow();
    reader.send_request(&list);
    let target = format!("/ws/{room}?session_id={ana}&history=1000");
    let mut socket = server.http_narrow().upgrade(&upgrade(&target));
    let first = socket.history_frame();
    assert!(first["more"] == true && reader.readable_within(crate::server::DEADLINE));
    for message in sent.iter().rev().take(3).chain([&short]) {
        server.ask(deletion(&room, id(message), &ana)).expect(200);
    }
    let is_last = |messages: &[Value]| {
        assert_eq!(messages[..697], sent[..697]);
        let last: Vec<Value> = sent[697..].iter().chain([&short]).map(deleted).collect();
        assert_eq!(messages[697..701], last);
    };
    let answer: Answer = reader.answer();
    is_last(answer.expect(200).json()["messages"].as_array().expect("messages"));
    let mut messages = first["messages"].as_array().expect("messages").clone();
    messages.extend(socket.history().messages);
    is_last(&messages);
}

// Removal and bans.

fn removal(room: &str, user_id: &str, query: &str, owner: &str) -> Request {
    delete(&format!("/rooms/{room}/users/{user_id}{query}")).session(owner)
}

/// The user id of a session in a room, which it joins.
fn user_id(server: &Server, room: &str, session: &str) -> String {
    let join = post(&format!("/rooms/{room}/join")).session(session);
    server.ask(join).expect(200).string("user_id")
}

/// Asserts that a request or a socket of the session gets what a banned person gets.
#[track_caller]
fn expect_banned(server: &Server, room: &str, session: &str, from: Option<&str>) {
    let with = |request: Request| match from {
        Some(address) => request.field("X-Forwarded-For", address),
        None => request,
    };
    let join = post(&format!("/rooms/{room}/join")).session(session);
    let users = get(&format!("/rooms/{room}/users")).session(session);
    let messages = get(&format!("/rooms/{room}/messages")).session(session);
    let events = get(&format!("/rooms/{room}/events")).session(session);
    for request in [join, users, messages, events] {
        server.ask(with(request)).refused(403, "banned");
    }
    let say = post(&format!("/rooms/{room}/messages")).session(session);
    server.ask(with(say.json(&json!({"message": "hello"})))).refused(403, "not_a_member");
    let typing = post(&format!("/rooms/{room}/typing")).session(session);
    server.ask(with(typing)).refused(403, "not_a_member");
    let socket = upgrade(&format!("/ws/{room}?session_id={session}"));
    server.upgrade(with(socket)).expect_close(4403, "banned");
}

// contract §1.5 §7.17 §13.19
#[test]
fn the_owner_removes_a_person_whose_sockets_close_with_4411() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (room, mut ana, bob) = server.room_of_two();
    let tab = server.socket(&room, &bob.session);
    let (ana_id, bob_id) =
        (user_id(&server, &room, &ana.session), user_id(&server, &room, &bob.session));
    let no = removal(&room, &ana_id, "", &bob.session);
    server.ask(no).refused(403, "not_the_owner");
    server.ask(removal(&room, &ana_id, "", &ana.session)).refused(422, "bad_query");
    for nobody in ["0000000000000000", "x", "%2F"] {
        server.ask(removal(&room, nobody, "", &ana.session)).refused(404, "user_not_found");
    }
    server.ask(removal("0000000000", &bob_id, "", &ana.session)).refused(404, "room_not_found");
    let removed = removal(&room, &bob_id.to_uppercase(), "", &ana.session);
    let answer = server.ask(removed).expect(200).json();
    assert_eq!(answer, json!({"message": format!("Removed from room {room}")}));
    let bob_session = bob.session.clone();
    [bob, tab].into_iter().for_each(|socket| socket.expect_close(4411, "removed"));
    let left = ana.expect_event(&json!({
        "type": "user_left",
        "user": "bob",
        "user_id": bob_id,
        "message": "bob has left",
        "removed": true,
    }));
    assert_eq!(server.messages(&room, &ana.session).last(), Some(&left));
    let joined = server.ask(get("/rooms").session(&bob_session)).expect(200).json();
    assert_eq!(joined["rooms"], json!([]));
    server.ask(removal(&room, &bob_id, "", &ana.session)).refused(404, "user_not_found");
    // Without a ban the person may come back.
    server.enter_as(&room, "bob", &bob_session);
    ana.expect_join("bob");
}

// contract §7.11 §13.20 §13.21 §13.24 §13.25
#[test]
fn a_banned_person_can_neither_join_nor_read_until_the_ban_is_lifted() {
    let server = Server::start(&["--guess-rate", "1"]);
    let ana = server.session("ana");
    let room = server.room_with(&ana, &json!({"password": "sesame"}));
    let [bob, cyd] = ["bob", "cyd"].map(|name| {
        let session = server.session(name);
        server.join_with(&room, &session, "sesame");
        session
    });
    let (bob_id, cyd_id) = (user_id(&server, &room, &bob), user_id(&server, &room, &cyd));
    for bad in
        ["?ban=0", "?ban=2592001", "?ban=x", "?ban=-1", "?ban=", "?address=true", "?address=false"]
    {
        server.ask(removal(&room, &bob_id, bad, &ana)).refused(422, "bad_query");
    }
    server.ask(removal(&room, &bob_id, "?ban=9&address=5", &ana)).refused(422, "bad_query");
    for (user_id, query) in [(&bob_id, "?ban=2592000"), (&cyd_id, "?ban=600&address=false")] {
        server.ask(removal(&room, user_id, query, &ana)).expect(200);
        server.ask(removal(&room, user_id, query, &ana)).refused(404, "user_not_found");
    }
    for _ in 0..2 {
        expect_banned(&server, &room, &bob, None);
    }
    let wrong = post(&format!("/rooms/{room}/join")).session(&bob);
    for _ in 0..10 {
        let guess = wrong.clone().json(&json!({"password": "wrong"}));
        server.ask(guess).refused(403, "banned");
    }
    let bans = get(&format!("/rooms/{room}/bans"));
    server.ask(bans.clone().session(&bob)).refused(403, "not_the_owner");
    let listed = server.ask(bans.clone().session(&ana)).expect(200).json();
    let until = |n: usize| listed["bans"][n]["until"].as_str().expect("a time").to_owned();
    assert!(until(0) > until(1), "{listed}");
    let entry = |n: usize, id: &str, user: &str| json!({"user_id": id, "user": user, "until": until(n), "address": false});
    let expected = json!({"bans": [entry(0, &bob_id, "bob"), entry(1, &cyd_id, "cyd")]});
    assert_eq!(listed, expected);
    let lift = |session: &str| delete(&format!("/rooms/{room}/bans/{bob_id}")).session(session);
    server.ask(lift(&bob)).refused(403, "not_the_owner");
    for _ in 0..2 {
        let answer = server.ask(lift(&ana)).expect(200).json();
        assert_eq!(answer, json!({"message": "Ban lifted"}));
    }
    server.join_with(&room, &bob, "sesame");
    let listed = server.ask(bans.session(&ana)).expect(200).json();
    assert_eq!(listed["bans"].as_array().map(Vec::len), Some(1));
}

// contract §13.20 §13.24
#[test]
fn a_ban_ends_when_its_time_has_passed() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let bob = server.session("bob");
    let bob_id = user_id(&server, &room, &bob);
    server.ask(removal(&room, &bob_id, "?ban=1", &ana)).expect(200);
    let users = get(&format!("/rooms/{room}/users")).session(&bob);
    wait_until("the ban is over", || server.ask(users.clone()).status == 200);
    let bans = get(&format!("/rooms/{room}/bans")).session(&ana);
    assert_eq!(server.ask(bans).expect(200).json(), json!({"bans": []}));
}

// contract §13.22
#[test]
fn with_the_address_other_sessions_from_there_are_banned_too() {
    let server = Server::start(&["--trusted-proxy", "127.0.0.1"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let [bob, cyd, dan] = ["bob", "cyd", "dan"].map(|name| server.session(name));
    let join = |session: &str, from: &str| {
        let join = post(&format!("/rooms/{room}/join")).session(session);
        server.ask(join.field("X-Forwarded-For", from)).expect(200).string("user_id")
    };
    let (bob_id, _) = (join(&bob, "2001:db8::1"), join(&cyd, "2001:db8::2"));
    let banned = removal(&room, &bob_id, "?ban=600&address=true", &ana);
    let answer = server.ask(banned).expect(200).json();
    assert_eq!(answer, json!({"message": format!("Removed from room {room}"), "address": true}));
    expect_banned(&server, &room, &bob, None);
    expect_banned(&server, &room, &dan, Some("2001:db8::3"));
    let socket = upgrade(&format!("/ws/{room}?session_id={cyd}"));
    let mut member = server.upgrade(socket.field("X-Forwarded-For", "2001:db8::4"));
    member.expect_join("cyd");
    let from_elsewhere = get(&format!("/rooms/{room}/users")).session(&dan);
    server.ask(from_elsewhere.clone().field("X-Forwarded-For", "2001:db8:0:1::3")).expect(200);
    server.ask(from_elsewhere).expect(200);
    // A peer that is exempt from limits has no address.
    let dan_id = user_id(&server, &room, &dan);
    let answer = server.ask(removal(&room, &dan_id, "?ban=600&address=true", &ana)).expect(200);
    assert_eq!(answer.json()["address"], false);
    let bans = get(&format!("/rooms/{room}/bans")).session(&ana);
    let bans = server.ask(bans).expect(200);
    assert!(!bans.text().contains("2001"), "no address is shown");
    let flags: Vec<Value> = bans.json()["bans"]
        .as_array()
        .expect("bans")
        .iter()
        .map(|ban| ban["address"].clone())
        .collect();
    assert_eq!(flags, [true, false]);
}

// contract §13.19
#[test]
fn removals_count_against_the_message_rate() {
    let server = Server::start(&["--message-rate", "1", "--message-burst", "1"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let [bob, cyd] = ["bob", "cyd"].map(|name| user_id(&server, &room, &server.session(name)));
    server.ask(removal(&room, &bob, "", &ana)).expect(200);
    server.ask(removal(&room, &cyd, "", &ana)).refused(429, "rate_limited");
}

// contract §13.23
#[test]
fn bans_survive_a_restart_and_the_state_file_has_no_address() {
    let state = std::env::temp_dir().join(format!("moderation-{}", std::process::id()));
    let state = state.to_str().expect("UTF-8");
    let flags = ["--trusted-proxy", "127.0.0.1", "--state", state];
    let mut server = Server::start(&flags);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let [bob, dan] = ["bob", "dan"].map(|name| server.session(name));
    let join = post(&format!("/rooms/{room}/join")).session(&bob);
    let bob_id = server.ask(join.field("X-Forwarded-For", "203.0.113.77")).expect(200);
    let bob_id = bob_id.string("user_id");
    server.ask(removal(&room, &bob_id, "?ban=600&address=true", &ana)).expect(200);
    let bans = get(&format!("/rooms/{room}/bans")).session(&ana);
    let before = server.ask(bans.clone()).expect(200).json();
    server.terminate();
    assert!(server.wait().success());
    let file = std::fs::read(state).expect("a state file");
    assert!(!file.windows(4).any(|bytes| bytes == [203, 0, 113, 77]));
    let server = Server::start(&flags);
    expect_banned(&server, &room, &bob, None);
    expect_banned(&server, &room, &dan, Some("203.0.113.77"));
    let after = server.ask(bans).expect(200).json();
    assert_eq!(after["bans"][0]["user_id"], before["bans"][0]["user_id"]);
}

// Encrypted rooms.

/// The nonce and the envelope of each test vector of contract §15.5.
const VECTORS: [(&str, &str); 3] = [
    (
        "n1",
        "e1.AAAAAAAAAAAAAAAArok9aC4meVHpd1Zhcm613rgGYGHYIw9hHLPhngDi8IhpisJMGoBZOzuX3jSSXZIxUkygtHOxZBgAT409w0HDDJU0Wb-x7H8oNFajBBk85do",
    ),
    (
        "n2",
        "e1.AAECAwQFBgcICQoLbf7JsMumxKV1jPxHvC4L4wXltK2UoT0lIMC-eGYc_U-IwC7yX1JDBSgzb4E2PVGt3ZpLJxqs6HpG5M6qbWE4DzM6Qtm_H1RN1qIO8FUZ4SQ",
    ),
    (
        "ü",
        "e1.________________kylhsYYYkWXtmPTcmFLkeEBpZUSyiiB4am-eQ7bF5LYSzDlSIcfMUJvh9nGIudHpf-QREMjykps7_ETbQEU_5d8wSME5VmUjcL_2ycNyprp99F8eKLaTwt2EZpmI-YWDVWv84wWwq4x46z4YbWjz9gc5LBmMIU5KZo25KKGNRVObM0g07FIYQWWWggZPp3wr",
    ),
];

// contract §15.1 §15.2 §15.3 §15.4 §15.5
#[test]
fn an_encrypted_room_passes_on_envelopes_and_refuses_anything_else() {
    let server = Server::start(&["--message-rate", "0"]);
    let ana = server.session("ana");
    let opened = post("/rooms").session(&ana).json(&json!({"encrypted": true, "title": "Tea"}));
    let room = server.ask(opened).expect(201).string("room_id");
    let mut socket = server.enter_as(&room, "ana", &ana);
    let say = post(&format!("/rooms/{room}/messages")).session(&ana);
    for (nonce, envelope) in VECTORS {
        socket.send(chat_with(nonce, envelope));
        let expected = json!({"type": "chat", "message": envelope, "nonce": nonce});
        let sent = socket.expect_event(&expected);
        let again = say.clone().json(&json!({"message": envelope, "nonce": nonce}));
        assert_eq!(server.ask(again).expect(200).json(), sent);
    }
    let longest = format!("e1.{}", "A".repeat(21_968));
    let posted = say.clone().json(&json!({"message": longest, "nonce": "long"}));
    assert_eq!(server.ask(posted).expect(201).json(), socket.event());
    let envelope = VECTORS[0].1;
    for bad in ["hello", "", &format!(" {envelope}"), &format!("{envelope}="), &"x".repeat(5000)] {
        socket.send(chat_with("n", bad));
        assert_eq!(socket.expect_refused("not_encrypted")["nonce"], "n");
        let posted = say.clone().json(&json!({"message": bad, "nonce": "n"}));
        server.ask(posted).refused(422, "not_encrypted");
    }
    for message in [envelope, "hello"] {
        socket.chat(message);
        socket.expect_refused("bad_nonce");
        server.ask(say.clone().json(&json!({"message": message}))).refused(422, "bad_nonce");
    }
    // Elsewhere an envelope is a text like any other.
    let plain = server.room(&ana);
    assert_eq!(server.say(&plain, &ana, envelope)["message"], envelope);
}
