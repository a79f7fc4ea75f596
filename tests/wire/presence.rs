//! Presence: `/users` lists the users in a room in order of arrival.

use serde_json::{Value, json};

use crate::client::{Ws, delete, get, request};
use crate::server::{Server, wait_until};

fn users(server: &Server, room: &str, session: &str) -> Value {
    let target = format!("/rooms/{room}/users");
    server.ask(get(&target).session(session)).expect(200).json()["users"].clone()
}

fn names(users: &Value) -> Vec<&str> {
    let users = users.as_array().expect("users");
    users.iter().map(|user| user["user"].as_str().expect("a name")).collect()
}

// contract §9.1
#[test]
fn users_are_listed_in_order_of_arrival() {
    let server = Server::start(&[]);
    let (room, ana, bob) = server.room_of_two();
    let carl = server.enter(&room, "carl");
    let all = json!([
        {"user_id": ana.user_id, "user": "ana"},
        {"user_id": bob.user_id, "user": "bob"},
        {"user_id": carl.user_id, "user": "carl"},
    ]);
    // Reading an open room needs no membership.
    let outsider = server.session("eve");
    for session in [&ana.session, &carl.session, &outsider] {
        assert_eq!(users(&server, &room, session), all);
    }
    let slash = format!("/rooms/{room}/users/");
    assert_eq!(server.ask(get(&slash).session(&outsider)).expect(200).json()["users"], all);
    server.ask(request("HEAD", &slash).session(&outsider)).expect(200);
}

// contract §9.1
#[test]
fn a_user_that_left_and_returns_is_listed_last() {
    let server = Server::start(&[]);
    let (room, ana, mut bob) = server.room_of_two();
    let session = ana.session.clone();
    ana.close();
    bob.expect_left("ana");
    assert_eq!(names(&users(&server, &room, &session)), ["bob"]);
    let _ana = server.enter_as(&room, "ana", &session);
    assert_eq!(names(&users(&server, &room, &session)), ["bob", "ana"]);
}

// contract §6.9 §9.1
#[test]
fn a_user_with_two_sockets_is_listed_once_until_both_are_closed() {
    let server = Server::start(&[]);
    let (room, ana, mut bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    tab.expect_nothing();
    assert_eq!(names(&users(&server, &room, &bob.session)), ["ana", "bob"]);
    ana.close();
    tab.expect_nothing();
    assert_eq!(names(&users(&server, &room, &bob.session)), ["ana", "bob"]);
    tab.close();
    bob.expect_left("ana");
    assert_eq!(names(&users(&server, &room, &bob.session)), ["bob"]);
}

// contract §6.11 §9.1
#[test]
fn a_user_in_the_grace_period_is_listed() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (room, ana, bob) = server.room_of_two();
    let before = users(&server, &room, &bob.session);
    let connections = || server.health()["connections"].as_u64();
    let (open, session) = (connections(), ana.session.clone());
    ana.reset();
    wait_until("the reset is noticed", || connections() < open);
    assert_eq!(users(&server, &room, &bob.session), before);
    // A user that returns in time keeps the place in the order.
    let mut ana = server.socket(&room, &session);
    ana.expect_nothing();
    assert_eq!(users(&server, &room, &bob.session), before);
}

// contract §9.1
#[test]
fn members_without_a_socket_are_not_listed() {
    let server = Server::start(&["--leave-grace", "100ms"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    server.join(&room, &bob);
    assert_eq!(users(&server, &room, &bob), json!([]));
    server.say(&room, &bob, "only passing by");
    assert_eq!(users(&server, &room, &bob), json!([]));
    let mut inside = server.enter_as(&room, "ana", &ana);
    let guest = server.enter_as(&room, "bob", &bob);
    inside.expect_join("bob");
    assert_eq!(names(&users(&server, &room, &bob)), ["ana", "bob"]);
    guest.reset();
    inside.expect_left("bob");
    assert_eq!(names(&users(&server, &room, &bob)), ["ana"]);
    server.ask(delete(&format!("/rooms/{room}/leave")).session(&ana)).expect(200);
    inside.expect_close(1000, "left room");
    assert_eq!(users(&server, &room, &bob), json!([]));
}

// contract §8.2 §9.1
#[test]
fn history_users_and_user_count_agree() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut inside: Vec<Ws> = Vec::new();
    for number in 0..20 {
        let session = server.session(&format!("guest {}", number * 7 % 20));
        let mut socket = server.socket_with(&room, &session, "history=0");
        let history = socket.history();
        assert_eq!(history.users, users(&server, &room, &ana));
        let last = history.users.as_array().and_then(|all| all.last()).expect("a user");
        assert_eq!(last["user_id"], json!(history.you), "the newcomer is the last");
        inside.push(socket);
        assert_eq!(server.user_count(&room), Some(number + 1));
    }
    // Some users leave from the middle; the others keep their order.
    let mut order = users(&server, &room, &ana);
    for at in [17, 10, 3] {
        inside.remove(at).close();
        order.as_array_mut().expect("users").remove(at);
    }
    wait_until("they have left", || server.user_count(&room) == Some(17));
    assert_eq!(users(&server, &room, &ana), order);
}

// contract §1.11 §1.13
#[test]
fn users_needs_a_session_and_an_existing_room() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    for nowhere in ["0000000000", "00000000000000000000000000000000", "nonsense"] {
        let target = format!("/rooms/{nowhere}/users");
        server.ask(get(&target)).refused(401, "missing_session");
        server.ask(get(&target).session(&ana)).refused(404, "room_not_found");
    }
    let target = format!("/rooms/{room}/users");
    server.ask(get(&target)).refused(401, "missing_session");
    server.ask(get(&target).session("nonsense")).refused(401, "invalid_session");
}
