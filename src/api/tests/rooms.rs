//! Requests about rooms and messages, and their answers.

use super::*;
use crate::chat::MESSAGE_CHARS_MAX;

fn refused(w: &mut World, line: &str, token: &str, body: &str, status: u16, expected: &str) {
    let answer = code(w.rest(line, token, body));
    assert_eq!(answer, (status, expected.to_owned()), "{line} {body}");
}

#[test]
fn a_room_has_the_options_of_its_request_and_null_counts_as_absent() {
    let mut w = World::new();
    let token = w.session("ana");
    let mut check = |options: &str, digits: usize, shown: &str| {
        let room = w.room_with(&token, options);
        assert_eq!(room.len(), digits, "{options}");
        let (_, body) = w.rest(&format!("GET /rooms/{room}"), "", "");
        let expected =
            format!(r#"{{"room_id":"{room}","exists":true,"user_count":0,{shown},{NO_RULES}}}"#);
        assert_eq!(body, expected, "{options}");
    };
    let plain = r#""title":null,"private":false,"password":false"#;
    let nulls = r#"{"title":null,"private":null,"password":null,"ttl":null,"slow_mode":null,"encrypted":null}"#;
    for options in ["", "{}", nulls, r#"{"x":1}"#] {
        check(options, 10, plain);
    }
    let titled = r#""title":"Book \"club\"","private":false,"password":false"#;
    check(r#"{"title":" Book \"club\"\n","private":false}"#, 10, titled);
    check(r#"{"private":true}"#, 32, r#""title":null,"private":true,"password":false"#);
    let locked = r#""title":null,"private":true,"password":true"#;
    check(r#"{"private":false,"password":"x"}"#, 32, locked);
    check(&format!(r#"{{"password":"{}"}}"#, "é".repeat(64)), 32, locked);
}

#[test]
fn an_option_of_another_type_length_or_form_is_a_bad_body() {
    let mut w = World::new();
    let token = w.session("ana");
    let long = ["x".repeat(81), "é".repeat(65)].map(|text| format!("\"{text}\""));
    let titles = ["1", "true", "[\"x\"]", "{}", "\"\"", "\" \"", r#""a\u0000""#, &long[0]];
    let privates = ["1", "\"true\"", "[]", "{}", "\"\""];
    let passwords = ["1", "false", "[]", "{}", "\"\"", r#""\ud800""#, &long[1]];
    let fields = [("title", &titles[..]), ("private", &privates), ("password", &passwords)];
    for (name, values) in fields {
        for value in values {
            let body = format!(r#"{{"{name}":{value}}}"#);
            refused(&mut w, "POST /rooms", &token, &body, 422, "bad_body");
            if name == "password" {
                refused(&mut w, "POST /rooms/x/join", &token, &body, 422, "bad_body");
            }
        }
    }
    assert_eq!(w.chat.room_count(), 0);
}

/// The list is so long that it is sent in parts. Deleted events of short texts are longer than before.
// contract §13.14
#[test]
fn a_list_of_messages_has_its_length_when_texts_are_deleted_meanwhile() {
    let texts = ["x".repeat(4000), "é".repeat(9), "\"\n".repeat(40), "a".to_owned()];
    for deleted in [0, 1, 2, 3, 4, 50, 400] {
        let mut w = World::new();
        let token = w.session("ana");
        let room = w.room(&token);
        let attachment = w.enter(&token, &room, Start::Live);
        let mut ids = Vec::new();
        for text in (0..100).flat_map(|_| &texts) {
            w.chat.post(w.now, attachment, text, None, &mut w.sink).unwrap();
            ids.push(w.sink.events.last().unwrap()[7..43].to_owned());
        }
        let list =
            request(&format!("GET /rooms/{room}/messages?limit=1000"), &authorization(&token), "");
        let Answer::Messages(response, _, Some(mut rest)) = w.ask(&list) else { panic!("no rest") };
        for id in ids.iter().rev().take(deleted) {
            let (status, _) = w.rest(&format!("DELETE /rooms/{room}/messages/{id}"), &token, "");
            assert_eq!(status, 200);
        }
        let mut body = text(&response).into_bytes();
        let length = body.len() + response.rest_bytes;
        while !rest.append(&w.chat, &mut body).expect("no message is dropped") {}
        assert_eq!(body.len(), length, "{deleted} deleted");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let messages = body["messages"].as_array().unwrap();
        let is_deleted = |message: &&serde_json::Value| message["deleted"] == true;
        let first = messages.iter().position(|message| message["deleted"] == true);
        let found = messages.iter().filter(is_deleted).count();
        assert!(messages.len() == 401 && found <= deleted && found >= deleted.min(50), "{found}");
        assert_eq!(first.unwrap_or(401) + found, 401, "the last ones");
    }
}

// contract §9.2
#[test]
fn a_listing_with_details_has_the_title_the_users_and_the_time() {
    let mut w = World::new();
    let token = w.session("ana");
    let titled = w.room_with(&token, r#"{"title":"é"}"#);
    w.room_with(&token, r#"{"private":true,"title":"hidden"}"#);
    w.now = w.now.after(Duration::from_secs(1));
    let plain = w.room(&token);
    w.enter(&token, &titled, Start::Live);
    let row = |room: &str, title: &str, count: u8, second: u8| {
        format!(
            r#"{{"room_id":"{room}","title":{title},"user_count":{count},"created_at":"2025-08-19T13:45:0{second}.123456Z"}}"#
        )
    };
    let rows = [row(&plain, "null", 0, 1), row(&titled, "\"é\"", 1, 0)].join(",");
    let (status, body) = w.rest("GET /rooms/all?detail=true", "", "");
    assert_eq!((status, body), (200, format!(r#"{{"rooms":[{rows}]}}"#)));
    let ids = format!(r#"{{"rooms":["{plain}","{titled}"]}}"#);
    for query in ["", "?detail=false", "?detail=true&detail=false", "?d=1"] {
        assert_eq!(w.rest(&format!("GET /rooms/all{query}"), "", "").1, ids);
    }
    for value in ["", "1", "True", "null", "%zz", "true "] {
        let line = format!("GET /rooms/all?detail={}", value.replace(' ', "+"));
        refused(&mut w, &line, "", "", 422, "bad_query");
    }
}

// contract §10.7 §10.8 §10.9
#[test]
fn wrong_guesses_are_limited_and_members_need_no_password() {
    let mut w = World::new();
    let (ana, eve) = (w.session("ana"), w.session("eve"));
    let room = w.room_with(&ana, r#"{"password":"sesame"}"#);
    let join = format!("POST /rooms/{room}/join");
    for _ in 0..10 {
        for body in ["", "{}", r#"{"password":null}"#] {
            refused(&mut w, &join, &eve, body, 403, "bad_password"); // Not a guess.
        }
    }
    for _ in 0..5 {
        refused(&mut w, &join, &eve, r#"{"password":"wrong"}"#, 403, "bad_password");
    }
    for word in ["wrong", "sesame"] {
        let body = format!(r#"{{"password":"{word}"}}"#);
        let response = w.send(&request(&join, &authorization(&eve), &body));
        assert_eq!((response.status, field(&response, "Retry-After")), (429, Some("10")));
    }
    assert_eq!(w.rest(&join, &ana, r#"{"password":"wrong"}"#).0, 200, "a member");
    w.address = Some(Address::of(IpAddr::from([192, 0, 2, 1])));
    assert_eq!(w.rest(&join, &eve, r#"{"password":"sesam\u0065"}"#).0, 200);
}

// contract §1.13
#[test]
fn an_ended_room_and_a_malformed_id_are_answered_like_an_unknown_room() {
    let mut w = World::new();
    let (ana, eve) = (w.session("ana"), w.session("eve"));
    let room = w.room_with(&ana, r#"{"password":"sesame"}"#);
    let ended = w.room_with(&ana, r#"{"private":true}"#);
    assert_eq!(w.rest(&format!("DELETE /rooms/{ended}"), &ana, "").0, 200);
    let requests = [
        ("GET", "", ""),
        ("DELETE", "", ""),
        ("POST", "/join", r#"{"password":"sesame"}"#),
        ("GET", "/messages", ""),
        ("POST", "/messages", r#"{"message":"a"}"#),
        ("GET", "/users", ""),
    ];
    for (method, path, body) in requests {
        let mut ask = |id: &str| {
            let line = format!("{method} /rooms/{id}{path}");
            let mut response = w.send(&request(&line, &authorization(&eve), body));
            response.fields.sort();
            (response.status, text(&response), response.fields)
        };
        let wrong = ask("0123456789");
        assert_eq!(wrong.0, 404);
        for id in [&*ended, &"0".repeat(32), "x", "%00", &format!("l{}", &room[1..]), &room[..10]] {
            assert_eq!(ask(id), wrong, "{method} {id}{path}");
        }
    }
}

// contract §8.1 §8.2 §9.1 §13.1
#[test]
fn history_frames_have_the_messages_as_sent_and_the_last_frame_has_the_users() {
    let mut w = World::new();
    let (ana, bob) = (w.session("ana"), w.session("b\\\"b"));
    let room = w.room(&ana);
    w.enter(&ana, &room, Start::Live);
    w.enter(&bob, &room, Start::Last(1));
    let (_, users) = w.rest(&format!("GET /rooms/{room}/users"), &ana, "");
    let ids: Vec<_> = users.split(r#""user_id":""#).skip(1).map(|user| &user[..16]).collect();
    let people = format!(
        r#""users":[{{"user_id":"{}","user":"ana"}},{{"user_id":"{}","user":"b\"b"}}]}}"#,
        ids[0], ids[1]
    );
    assert_eq!(users, format!("{{{people}"));
    let head = format!(r#"{{"type":"history","room_id":"{room}","messages":["#);
    let rules = NO_RULES.replace("\"created", &format!("\"owner\":\"{}\",\"created", ids[0]));
    let about = format!(
        r#""room":{{"room_id":"{room}","title":null,"private":false,"password":false,{rules}}}"#
    );
    let last = format!(
        r#"],"more":false,"complete":true,"you":"{}","owner":false,{about},{people}"#,
        ids[1]
    );
    assert_eq!(w.sink.pages, [format!("{head}{}{last}", w.sink.events[0])]);

    for letter in ["a", "b", "c"] {
        let body = format!(r#"{{"message":"{}"}}"#, letter.repeat(MESSAGE_CHARS_MAX));
        for _ in 0..5 {
            assert_eq!(w.rest(&format!("POST /rooms/{room}/messages"), &ana, &body).0, 201);
        }
    }
    w.sink.pages.clear();
    let attachment = w.enter(&bob, &room, Start::After(None));
    w.chat.catch_up(w.now, attachment, &mut w.sink);
    let [first, second] = &w.sink.pages[..] else { panic!("{} pages", w.sink.pages.len()) };
    let two = first.strip_suffix(r#"],"more":true}"#).unwrap().strip_prefix(&head).unwrap();
    let rest = second.strip_suffix(&last.replace("true", "false")).unwrap();
    let both = [two, rest.strip_prefix(&head).unwrap()].join(",");
    assert_eq!(both, w.sink.events.join(","));
    assert!(w.sink.pages.iter().all(|page| page.len() < 64 * 1024));
}

// contract §1.10 §8.11 §8.12
#[test]
fn after_continues_from_a_message_and_reports_a_gap() {
    let mut w = World::new();
    let token = w.session("ana");
    let room = w.room(&token);
    let path = format!("/rooms/{room}/messages");
    let rows: Vec<_> = (0..4)
        .map(|n| w.rest(&format!("POST {path}"), &token, &format!(r#"{{"message":"{n}"}}"#)).1)
        .collect();
    let id = |n: usize| &rows[n][7..43];
    assert!(MessageId::parse(id(0)).is_some());
    let mut check = |query: &str, rows: &[String], end: &str| {
        let expected = format!(r#"{{"messages":[{}]{end}}}"#, rows.join(","));
        assert_eq!(w.rest(&format!("GET {path}{query}"), &token, "").1, expected, "{query}");
    };
    let (complete, incomplete) = (r#","complete":true"#, r#","complete":false"#);
    check("", &rows, "");
    check(&format!("?after={}", id(0)), &rows[1..], complete);
    check(&format!("?after={}&limit=2", id(0)), &rows[1..3], complete);
    check(&format!("?limit=1&after={}", id(3)), &[], complete);
    for lost in ["", "x", "%zz", "0198c2a0-0000-7000-8000-000000000000"] {
        check(&format!("?after={lost}"), &rows, incomplete);
        check(&format!("?after={lost}&limit=1"), &rows[..1], incomplete);
    }
    refused(&mut w, &format!("GET {path}?after={}&limit=0", id(0)), &token, "", 422, "bad_query");
}

// contract §8.13 §8.14
#[test]
fn a_post_is_answered_with_the_message_as_everyone_gets_it() {
    let mut w = World::new();
    let (token, other) = (w.session("ana"), w.session("bob"));
    let room = w.room(&token);
    let post = format!("POST /rooms/{room}/messages");
    let posted = w.rest(&post, &token, r#"{"message":" hi ","nonce":"n\"1"}"#);
    assert_eq!(posted, (201, w.sink.events[0].clone()));
    assert!(posted.1.ends_with(&format!(r#""room_id":"{room}","nonce":"n\"1"}}"#)), "{}", posted.1);
    let again = w.rest(&post, &token, r#"{"message":"ho","nonce":"n\"1"}"#);
    assert_eq!(again, (200, posted.1));
    let without = w.rest(&post, &token, r#"{"message":"ho","nonce":null}"#);
    assert_eq!((without.0, without.1.contains("nonce")), (201, false));
    refused(&mut w, &post, &other, r#"{"message":"a"}"#, 403, "not_a_member");
    w.rest(&format!("POST /rooms/{room}/join"), &other, "");
    let bob = w.session("ANA");
    w.enter(&bob, &room, Start::Live);
    refused(&mut w, &post, &token, r#"{"message":"a"}"#, 409, "name_taken");
    for (body, expected) in [
        (r#"{"message":1,"nonce":1}"#, "bad_message"),
        (r#"{"message":"","nonce":1}"#, "bad_nonce"),
        (r#"{"message":"","nonce":""}"#, "bad_nonce"),
        (r#"{"message":"\n"}"#, "empty_message"),
        (r#"{"message":"\ud800"}"#, "bad_body"),
    ] {
        refused(&mut w, &post, &other, body, 422, expected);
    }
    let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(MESSAGE_CHARS_MAX + 1));
    refused(&mut w, &post, &other, &long, 422, "too_long");
    w.chat.check_invariants();
}

// contract §10.10 §10.11
#[test]
fn only_the_owner_deletes_a_room() {
    let mut w = World::new();
    let (ana, bob) = (w.session("ana"), w.session("bob"));
    let room = w.room(&ana);
    w.enter(&bob, &room, Start::Live);
    let delete = format!("DELETE /rooms/{room}");
    refused(&mut w, &delete, &bob, "", 403, "not_the_owner");
    let deleted = format!(r#"{{"message":"Room {room} deleted"}}"#);
    assert_eq!(w.rest(&delete, &ana, "{}"), (200, deleted));
    w.chat.end_members(w.now, usize::MAX, &mut w.sink);
    assert_eq!(w.sink.closes, [CloseReason::RoomDeleted]);
    refused(&mut w, &delete, &ana, "", 404, "room_not_found");
    w.chat.check_invariants();
}

// contract §1.9 §1.10 §8.5
#[test]
fn the_query_of_a_socket_selects_its_history() {
    let mut w = World::new();
    let id = "0198c2a0-0000-7000-8000-000000000000";
    let mut check = |query: &str, start: Start| {
        let line = format!("GET /ws/a1b2c3d4e5{query}");
        let Answer::Socket(upgrade) = w.ask(&request(&line, "", "")) else { panic!("{line}") };
        assert_eq!(upgrade.start, start, "{query}");
    };
    check("", Start::Live);
    check("?session_id=x", Start::Live);
    check("?history=0", Start::Last(0));
    check("?history=%37", Start::Last(7));
    check("?history=1001", Start::Last(1000));
    for odd in ["", "=", "=-1", "=abc", "=%zz", "=1.5"] {
        check(&format!("?history{odd}"), Start::Last(0));
    }
    check(&format!("?after={id}"), Start::After(MessageId::parse(id)));
    check(&format!("?after={id}&history=5"), Start::After(MessageId::parse(id)));
    for odd in ["", "=", "=x", "=%zz"] {
        check(&format!("?history=5&after{odd}"), Start::After(None));
    }
}
