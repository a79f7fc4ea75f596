//! Rooms deleted by their owner, and how ownership passes on.

use std::io::ErrorKind;

use serde_json::json;

use crate::client::{CLOSE, Request, Ws, chat, close_payload, delete, get, post};
use crate::server::Server;

const NO_ROOM: &str = "0000000000";

fn deletion(room: &str, session: &str) -> Request {
    delete(&format!("/rooms/{room}")).session(session)
}

/// Asserts that the room no longer exists for any request and appears in no list.
#[track_caller]
fn is_gone(server: &Server, room: &str, session: &str) {
    let requests = [
        get(&format!("/rooms/{room}")),
        post(&format!("/rooms/{room}/join")),
        get(&format!("/rooms/{room}/messages")),
        post(&format!("/rooms/{room}/messages")).json(&json!({"message": "anybody?"})),
        get(&format!("/rooms/{room}/users")),
        delete(&format!("/rooms/{room}")),
    ];
    for request in requests {
        server.ask(request.session(session)).refused(404, "room_not_found");
    }
    server.socket(room, session).expect_close(4404, "room not found");
    let rooms = server.ask(get("/rooms").session(session)).expect(200).json();
    assert!(!rooms["rooms"].as_array().expect("rooms").contains(&json!(room)));
    let me = server.ask(get("/sessions/me").session(session)).expect(200).json();
    assert!(!me["joined_rooms"].as_array().expect("rooms").contains(&json!(room)));
    for target in ["/rooms/all", "/rooms/all?detail=true"] {
        assert!(!server.ask(get(target)).expect(200).text().contains(room));
    }
}

// contract §7.14 §10.10
#[test]
fn deleting_a_room_closes_every_socket_in_it() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    tab.expect_nothing();
    let member = server.session("carl");
    server.join(&room, &member);
    let broken = server.enter(&room, "dora");
    ana.expect_join("dora");
    bob.expect_join("dora");
    tab.expect_join("dora");
    broken.reset();
    let attic = server.room(&bob.session);
    let mut upstairs = server.enter_as(&attic, "bob", &bob.session);
    ana.chat("goodbye");
    for socket in [&mut ana, &mut tab, &mut bob] {
        socket.expect_chat("ana", "goodbye");
    }
    let answer = server.ask(deletion(&room, &ana.session)).expect(200).json();
    assert_eq!(answer["message"], format!("Room {room} deleted"));
    // The first event is the close frame, without a `user_left` before it.
    let sessions = [ana.session.clone(), bob.session.clone(), member];
    for socket in [ana, tab, bob] {
        socket.expect_close(4410, "room deleted");
    }
    for session in &sessions {
        is_gone(&server, &room, session);
    }
    upstairs.expect_nothing();
    assert_eq!(server.health()["rooms"], 1);
}

// contract §1.6 §10.10
#[test]
fn rooms_of_every_kind_can_be_deleted_with_a_trailing_slash() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let bodies =
        [json!({}), json!({"title": "x"}), json!({"private": true}), json!({"password": "x"})];
    for body in bodies {
        let room = server.room_with(&ana, &body);
        let inside = server.enter_as(&room, "ana", &ana);
        let request = delete(&format!("/rooms/{room}/")).session(&ana);
        server.ask(request.json(&json!({"unknown": 1}))).expect(200);
        inside.expect_close(4410, "room deleted");
        is_gone(&server, &room, &ana);
    }
    assert_eq!(server.health()["rooms"], 0);
}

// contract §10.11
#[test]
fn only_the_owner_can_delete_a_room() {
    let server = Server::start(&[]);
    let (ana, bob, carl) = (server.session("ana"), server.session("bob"), server.session("carl"));
    let outsider = server.session("eve");
    for body in [json!({}), json!({"private": true}), json!({"password": "x"})] {
        let room = server.room_with(&ana, &body);
        server.join_with(&room, &bob, "x");
        let mut inside = server.enter_as(&room, "bob", &bob);
        server.join_with(&room, &carl, "x");
        server.ask(delete(&format!("/rooms/{room}/leave")).session(&carl)).expect(200);
        for session in [&bob, &carl, &outsider] {
            server.ask(deletion(&room, session)).refused(403, "not_the_owner");
        }
        inside.expect_nothing();
        server.ask(deletion(&room, &ana)).expect(200);
        inside.expect_close(4410, "room deleted");
    }
}

// contract §1.11
#[test]
fn a_deletion_is_checked_in_the_documented_order() {
    let server = Server::start(&[]);
    let (ana, eve) = (server.session("ana"), server.session("eve"));
    let room = server.room(&ana);
    let target = format!("/rooms/{room}");
    server.ask(delete(&target).body("nope")).refused(401, "missing_session");
    server.ask(delete(&target).session("nonsense").body("nope")).refused(401, "invalid_session");
    server.ask(deletion(&room, &eve).body("nope")).refused(422, "bad_body");
    server.ask(deletion(NO_ROOM, &eve).body("[]")).refused(422, "bad_body");
    server.ask(deletion(NO_ROOM, &eve)).refused(404, "room_not_found");
    server.ask(deletion("nonsense", &ana)).refused(404, "room_not_found");
    server.ask(deletion(&room, &eve)).refused(403, "not_the_owner");
    server.ask(deletion(&room, &ana)).expect(200);
    server.ask(deletion(&room, &ana)).refused(404, "room_not_found");
}

// contract §10.11 §10.12
#[test]
fn an_owner_that_left_still_owns_the_room() {
    let server = Server::start(&[]);
    let (room, ana, mut bob) = server.room_of_two();
    let session = ana.session.clone();
    server.ask(delete(&format!("/rooms/{room}/leave")).session(&session)).expect(200);
    bob.expect_left("ana");
    server.ask(deletion(&room, &bob.session)).refused(403, "not_the_owner");
    server.ask(deletion(&room, &session)).expect(200);
    bob.expect_close(4410, "room deleted");
}

// contract §7.14 §10.10
#[test]
fn deleting_a_room_closes_sockets_that_wait_for_a_name_or_a_history() {
    let server = Server::start(&["--probe-timeout", "1h", "--message-rate", "0"]);
    let session = server.session("ana");
    let room = server.room(&session);
    let mut ana = server.enter_as(&room, "ana", &session);
    for _ in 0..300 {
        ana.chat(&"\u{1f642}".repeat(4000));
        while ana.event()["type"] != "chat" {}
    }
    let waiting = server.socket_with(&room, &server.session("ana"), "history=1000");
    ana.expect_ping();
    let mut reading = server.socket_with(&room, &server.session("carl"), "history=1000");
    reading.history_frame();
    server.ask(deletion(&room, &ana.session)).expect(200);
    waiting.expect_close(4410, "room deleted");
    // It is told so, unless the kernel has taken a part of a page.
    loop {
        match reading.try_frame() {
            Ok(Some(frame)) if frame.opcode == CLOSE => {
                assert_eq!(frame.payload, close_payload(4410, "room deleted"));
                break;
            }
            Ok(frame) => _ = frame.expect("the stream ends in a frame or with a close"),
            Err(error) => {
                let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
                break assert!(kinds.contains(&error.kind()), "{error}");
            }
        }
    }
}

#[test]
fn a_chat_just_before_the_deletion_is_delivered() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    ana.send(chat("last words"));
    ana.expect_chat("ana", "last words");
    server.ask(deletion(&room, &ana.session)).expect(200);
    bob.expect_chat("ana", "last words");
    bob.expect_close(4410, "room deleted");
}

#[test]
fn a_deleted_room_no_longer_counts_against_the_limits() {
    let server = Server::start(&["--max-rooms", "1"]);
    let ana = server.session("ana");
    for _ in 0..3 {
        let room = server.room(&ana);
        server.ask(post("/rooms").session(&ana)).refused(503, "server_full");
        server.ask(deletion(&room, &ana)).expect(200);
    }
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    server.join(&room, &bob);
    for _ in 0..199 {
        server.room(&bob);
    }
    server.ask(post("/rooms").session(&bob)).refused(429, "too_many_rooms");
    server.ask(deletion(&room, &ana)).expect(200);
    server.room(&bob);
}

// How ownership passes on.

fn end(server: &Server, owner: Ws) {
    server.ask(delete("/sessions/me").session(&owner.session)).expect(200);
    owner.expect_close(4401, "invalid or expired session");
}

// contract §10.12 §13.3
#[test]
fn when_the_owners_session_ends_the_user_present_longest_becomes_the_owner() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let bob_id = bob.user_id.clone();
    let mut carl = server.enter(&room, "carl");
    ana.expect_join("carl");
    bob.expect_join("carl");
    server.ask(deletion(&room, &bob.session)).refused(403, "not_the_owner");
    end(&server, ana);
    for socket in [&mut bob, &mut carl] {
        socket.expect_left("ana");
        let changed = socket.expect_change();
        assert_eq!(changed["owner"], bob_id);
    }
    server.ask(deletion(&room, &carl.session)).refused(403, "not_the_owner");
    server.ask(deletion(&room, &bob.session)).expect(200);
    bob.expect_close(4410, "room deleted");
    carl.expect_close(4410, "room deleted");
}

// contract §8.2 §10.12
#[test]
fn the_history_says_whether_its_reader_is_the_owner() {
    let server = Server::start(&[]);
    let (room, ana, mut bob) = server.room_of_two();
    let owns = |session: &str| {
        server.socket_with(&room, session, "history=0").history_frame()["owner"] == true
    };
    assert_eq!((owns(&ana.session), owns(&bob.session)), (true, false));
    end(&server, ana);
    bob.expect_left("ana");
    assert!(owns(&bob.session), "bob is the owner now");
}

// contract §10.12
#[test]
fn a_user_that_left_and_returned_counts_from_its_return() {
    let server = Server::start(&[]);
    let (room, mut ana, bob) = server.room_of_two();
    let mut carl = server.enter(&room, "carl");
    ana.expect_join("carl");
    let session = bob.session.clone();
    bob.close();
    carl.expect_left("bob");
    ana.expect_left("bob");
    let _bob = server.enter_as(&room, "bob", &session);
    carl.expect_join("bob");
    ana.expect_join("bob");
    end(&server, ana);
    server.ask(deletion(&room, &session)).refused(403, "not_the_owner");
    server.ask(deletion(&room, &carl.session)).expect(200);
}

// contract §10.12
#[test]
fn ownership_passes_on_repeatedly() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut carl = server.enter(&room, "carl");
    ana.expect_join("carl");
    bob.expect_join("carl");
    end(&server, ana);
    bob.expect_left("ana");
    bob.expect_change();
    end(&server, bob);
    carl.expect_left("ana");
    carl.expect_change();
    carl.expect_left("bob");
    carl.expect_change();
    server.ask(deletion(&room, &carl.session)).expect(200);
    carl.expect_close(4410, "room deleted");
}

// contract §10.12
#[test]
fn ownership_passes_only_to_users_present() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    server.join(&room, &bob);
    let mut carl = server.enter(&room, "carl");
    server.ask(delete("/sessions/me").session(&ana)).expect(200);
    server.ask(deletion(&room, &bob)).refused(403, "not_the_owner");
    carl.expect_change();
    carl.expect_nothing();
    server.ask(deletion(&room, &carl.session)).expect(200);
}

// contract §10.12
#[test]
fn ownership_passes_on_when_the_owners_session_expires() {
    let server = Server::start(&["--session-ttl", "1s"]);
    let (room, ana, mut bob) = server.room_of_two();
    server.ask(deletion(&room, &bob.session)).refused(403, "not_the_owner");
    // Her session ends a second after its last socket has closed.
    ana.close();
    bob.expect_left("ana");
    assert_eq!(bob.expect_change()["owner"], bob.user_id);
    server.ask(deletion(&room, &bob.session)).expect(200);
    bob.expect_close(4410, "room deleted");
}

// contract §10.16 §13.3
#[test]
fn a_room_without_an_owner_belongs_to_the_next_member_who_comes() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    server.join(&room, &bob);
    server.ask(delete("/sessions/me").session(&ana)).expect(200);
    server.ask(deletion(&room, &bob)).refused(403, "not_the_owner");
    let mut carl = server.enter(&room, "carl");
    assert_eq!(carl.expect_change()["owner"], carl.user_id);
    let mut second = server.socket_with(&room, &bob, "history=0");
    let frame = second.history_frame();
    assert_eq!((&frame["owner"], &frame["room"]["owner"]), (&json!(false), &json!(carl.user_id)));
    server.ask(deletion(&room, &carl.session)).expect(200);
}
