//! Moderation: deleted messages.

use serde_json::{Value, json};

use crate::client::{Answer, Request, Ws, chat_with, delete, get, post, upgrade};
use crate::server::Server;

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
