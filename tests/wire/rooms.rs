//! Rooms by REST: creating, finding, joining, leaving, reading, expiry.

use serde_json::{Value, json};

use crate::client::{Request, delete, get, post};
use crate::server::{Server, wait_until};

fn join(room: &str, session: &str) -> Request {
    post(&format!("/rooms/{room}/join")).session(session)
}

fn leave(room: &str, session: &str) -> Request {
    delete(&format!("/rooms/{room}/leave")).session(session)
}

fn rooms_of(server: &Server, session: &str) -> Value {
    server.ask(get("/rooms").session(session)).expect(200).json()["rooms"].clone()
}

fn all_rooms(server: &Server) -> Value {
    server.ask(get("/rooms/all")).expect(200).json()["rooms"].clone()
}

/// Ids that no room has. Most of them do not have the form of a room id.
const NO_ROOMS: [&str; 9] = [
    "0000000000",
    "000000000",
    "00000000000",
    "00000000000000000000000000000000",
    "A1B2C3D4E5",
    "g000000000",
    "x",
    "%20",
    "caf%C3%A9",
];

/// Creates 200 rooms, the limit for a session.
fn fill_with_rooms(server: &Server, session: &str) -> Vec<String> {
    let requests = vec![post("/rooms").session(session); 200];
    let answers = server.http().pipeline(&requests);
    answers.into_iter().map(|answer| answer.expect(201).string("room_id")).collect()
}

// Creating and finding.

// contract §2.4 §2.5 §2.7
#[test]
fn a_room_is_created_and_its_creator_has_joined_it() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.ask(post("/rooms").session(&ana)).expect(201).string("room_id");
    assert_eq!(rooms_of(&server, &ana), json!([room]));
    let found = server.ask(get(&format!("/rooms/{room}"))).expect(200).json();
    assert_eq!((&found["room_id"], &found["exists"]), (&json!(room), &json!(true)));
    assert!(found["user_count"].is_u64(), "{found}");
}

// contract §2.4
#[test]
fn the_location_of_a_new_room_is_a_relative_reference_that_works() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    for target in ["/rooms", "/rooms/"] {
        let answer = server.ask(post(target).session(&ana)).expect(201);
        let location = answer.field("Location").expect("a Location");
        assert!(!location.contains("//") && !location.contains(':'), "{location}");
        // RFC 3986 §5.2.3: a relative path replaces all after the last slash of the request's path.
        let (folder, _) = target.rsplit_once('/').expect("a slash");
        let path = match location.strip_prefix('/') {
            Some(_) => location.to_owned(),
            None => format!("{folder}/{location}"),
        };
        let found = server.ask(get(&path)).expect(200).json();
        assert_eq!(found["room_id"], json!(answer.string("room_id")), "{location}");
    }
}

// contract §2.6
#[test]
fn all_rooms_come_newest_first_and_need_no_session() {
    let server = Server::start(&[]);
    assert_eq!(all_rooms(&server), json!([]));
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let rooms = [server.room(&ana), server.room(&bob), server.room(&ana)];
    assert_eq!(all_rooms(&server), json!([rooms[2], rooms[1], rooms[0]]));
}

// contract §2.6
#[test]
fn at_most_a_thousand_rooms_are_listed() {
    let server = Server::start(&[]);
    let mut rooms: Vec<String> = Vec::new();
    for number in 0..5 {
        rooms.extend(fill_with_rooms(&server, &server.session(&format!("ana {number}"))));
    }
    rooms.push(server.room(&server.session("bob")));
    let newest: Vec<&String> = rooms.iter().rev().take(1000).collect();
    assert_eq!(all_rooms(&server), json!(newest));
}

// contract §1.13 §2.7 §2.8 §2.10
#[test]
fn an_unknown_room_id_is_404() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    server.room(&ana);
    for id in NO_ROOMS {
        server.ask(get(&format!("/rooms/{id}"))).refused(404, "room_not_found");
        server.ask(join(id, &ana)).refused(404, "room_not_found");
        let messages = get(&format!("/rooms/{id}/messages")).session(&ana);
        server.ask(messages).refused(404, "room_not_found");
    }
}

// contract §2.7 §6.9
#[test]
fn user_count_counts_the_users_present() {
    let server = Server::start(&[]);
    let (room, ana, mut bob) = server.room_of_two();
    assert_eq!(server.user_count(&room), Some(2));
    let mut tab = server.socket(&room, &ana.session);
    tab.expect_nothing();
    assert_eq!(server.user_count(&room), Some(2), "two sockets of a session are one user");
    ana.close();
    tab.expect_nothing();
    assert_eq!(server.user_count(&room), Some(2));
    tab.close();
    bob.expect_left("ana");
    assert_eq!(server.user_count(&room), Some(1));
}

// Joining and leaving.

// contract §2.8
#[test]
fn joining_confirms_the_room_and_may_be_repeated() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    for _ in 0..2 {
        let answer = server.ask(join(&room, &bob)).expect(200).json();
        assert_eq!(answer["message"], format!("Joined room {room}"));
        assert_eq!(answer["room_id"], json!(room));
        assert_eq!(rooms_of(&server, &bob), json!([room]));
    }
}

// contract §2.9
#[test]
fn leaving_succeeds_even_without_membership() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    for session in [&ana, &ana, &bob] {
        let answer = server.ask(leave(&room, session)).expect(200).json();
        assert_eq!(answer["message"], format!("Left room {room}"));
    }
    assert_eq!(rooms_of(&server, &ana), json!([]));
    let nowhere = server.ask(leave("0000000000", &ana)).expect(200).json();
    assert_eq!(nowhere["message"], "Left room 0000000000");
    for id in NO_ROOMS {
        server.ask(leave(id, &ana)).expect(200);
    }
}

// contract §2.9 §6.10 §7.1
#[test]
fn leaving_closes_the_sockets_in_that_room_only() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (room, ana, mut bob) = server.room_of_two();
    let mut tab = server.socket(&room, &ana.session);
    tab.expect_nothing();
    let attic = server.room(&ana.session);
    let mut upstairs = server.enter_as(&attic, "ana", &ana.session);
    server.ask(leave(&room, &ana.session)).expect(200);
    ana.expect_close(1000, "left room");
    tab.expect_close(1000, "left room");
    bob.expect_left("ana");
    bob.expect_nothing();
    upstairs.expect_nothing();
    assert_eq!(rooms_of(&server, &upstairs.session), json!([attic]));
    server.enter_as(&room, "ana", &upstairs.session);
    bob.expect_join("ana");
}

// Reading.

// contract §6.6 §6.7
#[test]
fn messages_are_the_events_that_the_sockets_received() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut ana = server.socket(&room, &ana);
    let mut seen = vec![ana.expect_join("ana")];
    let bob = server.enter(&room, "bob");
    seen.push(ana.expect_join("bob"));
    ana.typing();
    ana.expect_event(&json!({"type": "typing"}));
    ana.chat("Hello \"world\" \u{1f642}\n\u{0}\\");
    seen.push(ana.event());
    let reader = bob.session.clone();
    bob.close();
    seen.push(ana.expect_left("bob"));
    assert_eq!(server.messages(&room, &reader), seen, "the same objects, without typing");
    let outsider = server.session("eve");
    assert_eq!(server.messages(&room, &outsider), seen, "reading needs no membership");
}

// contract §2.10
#[test]
fn messages_are_the_last_fifty_unless_limit_says_otherwise() {
    let server = Server::start(&["--message-rate", "0"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut ana = server.enter_as(&room, "ana", &ana);
    for number in 0..60 {
        ana.chat(&number.to_string());
        ana.expect_chat("ana", &number.to_string());
    }
    let texts = |query: &str| -> Vec<String> {
        let target = format!("/rooms/{room}/messages{query}");
        let answer = server.ask(get(&target).session(&ana.session)).expect(200).json();
        let messages = answer["messages"].as_array().expect("messages");
        messages.iter().map(|one| one["message"].as_str().expect("text").to_owned()).collect()
    };
    let last = |count: usize| -> Vec<String> { (60 - count..60).map(|n| n.to_string()).collect() };
    assert_eq!(texts(""), last(50));
    assert_eq!(texts("?limit=1"), last(1));
    assert_eq!(texts("?limit=7"), last(7));
    let all = texts("?limit=1000");
    assert_eq!((all.len(), all[0].as_str()), (61, "ana has joined"));
    assert_eq!(all[1..], last(60));
}

// contract §6.6 §12.14
#[test]
fn a_room_keeps_as_many_messages_as_the_flag_says() {
    let server = Server::start(&["--history", "5"]);
    let (room, mut ana, _bob) = server.room_of_two();
    let mut sent: Vec<Value> = Vec::new();
    for number in 0..8 {
        ana.chat(&number.to_string());
        sent.push(ana.expect_chat("ana", &number.to_string()));
    }
    assert_eq!(server.messages(&room, &ana.session), sent[3..]);
}

// The limit of rooms per session.

// contract §3.8 §7.15
#[test]
fn a_session_is_in_at_most_two_hundred_rooms() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let rooms = fill_with_rooms(&server, &ana);
    let other = server.room(&server.session("bob"));
    server.ask(post("/rooms").session(&ana)).refused(429, "too_many_rooms");
    server.ask(join(&other, &ana)).refused(429, "too_many_rooms");
    server.socket(&other, &ana).expect_close(4429, "too many rooms");
    // The body and the room are checked before the limit.
    server.ask(post("/rooms").session(&ana).body("nope")).refused(422, "bad_body");
    server.ask(join("0000000000", &ana)).refused(404, "room_not_found");
    // Entering a room that it has joined already needs no further place.
    server.ask(join(&rooms[0], &ana)).expect(200);
    server.enter_as(&rooms[1], "ana", &ana);
    assert_eq!(rooms_of(&server, &ana), json!(rooms));
    server.ask(leave(&rooms[0], &ana)).expect(200);
    server.enter_as(&other, "ana", &ana);
    server.ask(post("/rooms").session(&ana)).refused(429, "too_many_rooms");
}

// contract §1.11 §3.8 §5.7
#[test]
fn permission_is_checked_before_the_limit_of_rooms() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let guarded = server.room_with(&server.session("bob"), &json!({"password": "x"}));
    fill_with_rooms(&server, &ana);
    let guess = |word: &str| join(&guarded, &ana).json(&json!({"password": word}));
    server.ask(join(&guarded, &ana)).refused(403, "bad_password");
    server.ask(guess("y")).refused(403, "bad_password");
    server.ask(guess("x")).refused(429, "too_many_rooms");
    server.socket(&guarded, &ana).expect_close(4403, "not a member");
}

// Expiry.

// contract §3.11 §12.11
#[test]
fn a_room_that_was_never_entered_expires_after_new_room_ttl() {
    let server = Server::start(&["--new-room-ttl", "2s", "--room-ttl", "1h"]);
    let ana = server.session("ana");
    let visited = server.room(&ana);
    server.enter_as(&visited, "ana", &ana).close();
    let unvisited = server.room(&ana);
    wait_until("the room is gone", || server.user_count(&unvisited).is_none());
    assert!(server.user_count(&visited).is_some(), "--room-ttl applies once a room was entered");
    assert_eq!(all_rooms(&server), json!([visited]));
    assert_eq!(server.health()["rooms"], 1);
}

// contract §3.11 §7.12 §12.11
#[test]
fn a_room_expires_room_ttl_after_its_last_socket_has_closed() {
    let server = Server::start(&["--room-ttl", "200ms", "--new-room-ttl", "1h"]);
    let ana = server.session("ana");
    let (kept, left, fresh) = (server.room(&ana), server.room(&ana), server.room(&ana));
    let mut staying = server.enter_as(&kept, "ana", &ana);
    let tab = server.socket(&kept, &ana);
    tab.close();
    let mut visit = server.enter_as(&left, "ana", &ana);
    visit.chat("forget me");
    visit.expect_chat("ana", "forget me");
    visit.close();
    wait_until("the room is gone", || server.user_count(&left).is_none());
    let messages = get(&format!("/rooms/{left}/messages")).session(&ana);
    server.ask(messages).refused(404, "room_not_found");
    server.ask(join(&left, &ana)).refused(404, "room_not_found");
    server.socket(&left, &ana).expect_close(4404, "room not found");
    staying.expect_nothing();
    assert_eq!(rooms_of(&server, &ana), json!([kept, fresh]));
}

// contract §3.11
#[test]
fn entering_again_in_time_keeps_a_room() {
    let server = Server::start(&["--room-ttl", "1500ms"]);
    let ana = server.session("ana");
    let (saved, lost) = (server.room(&ana), server.room(&ana));
    server.enter_as(&saved, "ana", &ana).close();
    let mut back = server.enter_as(&saved, "ana", &ana);
    server.enter_as(&lost, "ana", &ana).close();
    wait_until("the other room is gone", || server.user_count(&lost).is_none());
    back.expect_nothing();
    assert_eq!(server.user_count(&saved), Some(1));
}
