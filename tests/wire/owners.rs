//! The owner's rules: PATCH, `room_changed`, the lock, slow mode, hand-over and the state file.

use serde_json::{Value, json};

use crate::client::{Answer, get, patch, post};
use crate::restarts::Folder;
use crate::server::Server;

fn change(server: &Server, room: &str, session: &str, changes: &Value) -> Answer {
    server.ask(patch(&format!("/rooms/{room}")).session(session).json(changes))
}

// contract §13.1 §13.2 §13.3 §13.4
#[test]
fn everyone_in_the_room_is_told_of_a_change_in_order_with_the_messages() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    ana.chat("before");
    let ana_id = ana.expect_chat("ana", "before")["user_id"].clone();
    let changes = json!({"title": " Tea ", "locked": true, "slow_mode": 10, "password": "pst"});
    let shown = change(&server, &room, &ana.session, &changes).expect(200).json();
    assert_eq!(shown, server.ask(get(&format!("/rooms/{room}"))).expect(200).json());
    let created = shown["created_at"].clone();
    let outside = json!({
        "room_id": room, "exists": true, "user_count": 2, "title": "Tea", "private": true,
        "password": true, "locked": true, "slow_mode": 10, "encrypted": false,
        "created_at": created, "expires_at": null,
    });
    assert_eq!(shown, outside);
    for same in [json!({}), changes, json!({"locked": null, "slow_mode": null, "owner": null})] {
        change(&server, &room, &ana.session, &same).expect(200);
    }
    server.ask(patch(&format!("/rooms/{room}")).session(&ana.session)).expect(200);
    ana.chat("after");
    bob.expect_chat("ana", "before");
    for socket in [&mut ana, &mut bob] {
        let event = socket.expect_event(&json!({"type": "room_changed", "room_id": room}));
        let inside = json!({
            "room_id": room, "title": "Tea", "private": true, "password": true, "locked": true,
            "slow_mode": 10, "encrypted": false, "owner": ana_id,
            "created_at": created, "expires_at": null,
        });
        assert_eq!(event["room"], inside);
        assert_eq!(event.as_object().map(|fields| fields.len()), Some(3));
        socket.expect_chat("ana", "after");
    }
    let messages = server.messages(&room, &bob.session);
    assert!(messages.iter().all(|message| message["type"] != "room_changed"));
    let changes = json!({"title": null, "password": null, "locked": false, "slow_mode": 0});
    let shown = change(&server, &room, &ana.session, &changes).expect(200).json();
    let now = (&shown["title"], &shown["password"], &shown["private"]);
    assert_eq!(now, (&Value::Null, &json!(false), &json!(true)));
    assert_eq!(server.ask(get("/rooms/all")).expect(200).json()["rooms"], json!([]));
}

// contract §13.6 §13.7 §7.11
#[test]
fn a_locked_room_admits_members_and_its_owner_only() {
    let server = Server::start(&[]);
    let (room, ana, bob) = server.room_of_two();
    let cy = server.session("cy");
    change(&server, &room, &ana.session, &json!({"locked": true, "password": "pst"})).expect(200);
    let at = |rest: &str| format!("/rooms/{room}{rest}");
    for _ in 0..20 {
        let join = post(&at("/join")).session(&cy).json(&json!({"password": "wrong"}));
        server.ask(join).refused(403, "room_locked");
    }
    server.ask(get(&at("/messages")).session(&cy)).refused(403, "room_locked");
    server.ask(get(&at("/users")).session(&cy)).refused(403, "room_locked");
    server.ask(get(&at("/events")).session(&cy)).refused(403, "room_locked");
    let say = post(&at("/messages")).session(&cy).json(&json!({"message": "hello"}));
    server.ask(say).refused(403, "not_a_member");
    server.ask(post(&at("/typing")).session(&cy)).refused(403, "not_a_member");
    server.socket(&room, &cy).expect_close(4403, "room locked");
    server.ask(get(&at("/messages")).session(&bob.session)).expect(200);
    let session = bob.session.clone();
    drop(bob);
    server.socket(&room, &session).chat("a member comes back");
    change(&server, &room, &ana.session, &json!({"locked": false})).expect(200);
    server.socket(&room, &cy).expect_close(4403, "not a member");
    server.join_with(&room, &cy, "pst");
    server.enter_as(&room, "cy", &cy);
}

// contract §13.8
#[test]
fn slow_mode_says_how_long_to_wait() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room_with(&ana, &json!({"slow_mode": 3600}));
    let mut first = server.enter_as(&room, "ana", &ana);
    let mut bob = server.enter(&room, "bob");
    first.expect_join("bob");
    for text in ["the", "owner", "may"] {
        first.chat(text);
        bob.expect_chat("ana", text);
    }
    bob.text(r#"{"type":"chat","message":"one","nonce":"n"}"#);
    let one = bob.expect_chat("bob", "one");
    bob.text(r#"{"type":"chat","message":"one","nonce":"n"}"#);
    assert_eq!(bob.expect_chat("bob", "one"), one, "a known nonce");
    bob.text(r#"{"type":"chat","message":"two","nonce":"m"}"#);
    let refused = bob.expect_refused("rate_limited");
    assert_eq!(refused["nonce"], "m");
    assert!((3500.0..=3600.0).contains(&refused["retry_after"].as_f64().unwrap()), "{refused}");
    let say = post(&format!("/rooms/{room}/messages")).session(&bob.session);
    let answer = server.ask(say.json(&json!({"message": "three"}))).refused(429, "rate_limited");
    let seconds: u64 = answer.field("Retry-After").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&seconds));
}

// contract §1.5 §13.2 §13.9
#[test]
fn a_room_is_handed_over_to_a_person_who_is_present() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let refused = |session: &str, changes: &Value, status, code| {
        change(&server, &room, session, changes).refused(status, code);
    };
    let to_bob = json!({"owner": bob.user_id.to_uppercase()});
    refused(&bob.session, &to_bob, 403, "not_the_owner");
    for nobody in ["0000000000000000", "bob", ""] {
        refused(&ana.session, &json!({"owner": nobody}), 404, "user_not_found");
    }
    for bad in [
        json!({"owner": 5}),
        json!({"title": ""}),
        json!({"title": 5, "locked": true}),
        json!({"locked": "true"}),
        json!({"slow_mode": 3601}),
        json!({"slow_mode": -1}),
        json!({"slow_mode": 1.5}),
        json!({"slow_mode": "1"}),
        json!({"password": ""}),
        json!({"password": true}),
        json!([]),
    ] {
        refused(&ana.session, &bad, 422, "bad_body");
    }
    change(&server, &room, &ana.session, &to_bob).expect(200);
    for socket in [&mut ana, &mut bob] {
        let event = socket.expect_event(&json!({"type": "room_changed"}));
        assert_eq!(event["room"]["locked"], false, "a refused change changes nothing");
        assert!(event["room"]["owner"].is_string());
    }
    refused(&ana.session, &json!({"locked": true}), 403, "not_the_owner");
    change(&server, &room, &bob.session, &json!({"locked": true})).expect(200);
    let mut tab = server.socket_with(&room, &bob.session, "history=0");
    let frame = tab.history_frame();
    assert_eq!((&frame["owner"], &frame["room"]["owner"]), (&json!(true), &frame["you"]));
    assert_eq!(frame["room"]["locked"], true);
}

// contract §13.4
#[test]
fn changes_count_against_the_rate_of_messages() {
    let server = Server::start(&["--message-rate", "1", "--message-burst", "2"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    change(&server, &room, &ana, &json!({"locked": true})).expect(200);
    change(&server, &room, &ana, &json!({})).expect(200);
    let limited = change(&server, &room, &ana, &json!({"locked": false}));
    limited.refused(429, "rate_limited");
    assert_eq!(server.ask(get(&format!("/rooms/{room}"))).json()["locked"], true);
}

// contract §10.14 §12.11
#[test]
fn a_ttl_is_a_whole_number_of_seconds_up_to_the_servers_limit() {
    let server = Server::start(&["--room-life-max", "2h"]);
    let ana = server.session("ana");
    let open = |ttl: Value| server.ask(post("/rooms").session(&ana).json(&json!({"ttl": ttl})));
    for bad in [json!(59), json!(7201), json!(60.5), json!(-60), json!("60"), json!(true)] {
        open(bad).refused(422, "bad_body");
    }
    for (ttl, seconds) in [(json!(60), 60), (json!(7200), 7200), (json!(60.0), 60)] {
        let room = open(ttl).expect(201).string("room_id");
        let shown = server.ask(get(&format!("/rooms/{room}"))).expect(200).json();
        let at = |name: &str| shown[name].as_str().expect("a time").to_owned();
        let second = |time: &str| {
            let number = |part: std::ops::Range<usize>| time[part].parse::<u64>().unwrap();
            number(11..13) * 3600 + number(14..16) * 60 + number(17..19)
        };
        let (created, expires) = (at("created_at"), at("expires_at"));
        let lasts = second(&expires) + 24 * 3600 - second(&created);
        assert_eq!((lasts % (24 * 3600), &created[19..]), (seconds, &expires[19..]));
    }
    assert_eq!(open(Value::Null).expect(201).status, 201, "null counts as absent");
}

// contract §10.17 §12.10 §13.5 §13.8
#[test]
fn a_restart_keeps_the_rules() {
    let folder = Folder::new("rules");
    let server = folder.start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"ttl": 3600, "slow_mode": 60}));
    let secret = server.room_with(&ana, &json!({"encrypted": true}));
    server.join(&room, &bob);
    change(&server, &room, &ana, &json!({"password": "x"})).expect(200);
    change(&server, &room, &ana, &json!({"password": null, "locked": true})).expect(200);
    let shown =
        |server: &Server, room: &str| server.ask(get(&format!("/rooms/{room}"))).expect(200).json();
    let before = [shown(&server, &room), shown(&server, &secret)];
    let values = |one: &Value| {
        ["private", "password", "locked", "encrypted"].map(|name| one[name] == json!(true))
    };
    assert_eq!(values(&before[0]), [true, false, true, false]);
    assert_eq!(values(&before[1]), [true, false, false, true]);
    crate::restarts::stop(server);
    let server = folder.start(&[]);
    assert_eq!([shown(&server, &room), shown(&server, &secret)], before);
    assert_eq!(server.ask(get("/rooms/all")).expect(200).json()["rooms"], json!([]));
    let cy = server.session("cy");
    server.socket(&room, &cy).expect_close(4403, "room locked");
    let mut second = server.enter_as(&room, "bob", &bob);
    second.chat("one");
    second.expect_chat("bob", "one");
    second.chat("two");
    second.expect_refused("rate_limited");
    change(&server, &room, &ana, &json!({"slow_mode": 0})).expect(200);
}
