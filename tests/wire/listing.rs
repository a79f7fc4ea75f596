//! The lobby, that is `/rooms/all?detail=true`, and room titles.

use serde_json::{Value, json};

use crate::client::{get, post};
use crate::server::Server;

fn lobby(server: &Server) -> Value {
    server.ask(get("/rooms/all?detail=true")).expect(200).json()["rooms"].clone()
}

fn found(server: &Server, room: &str) -> Value {
    server.ask(get(&format!("/rooms/{room}"))).expect(200).json()
}

// Titles.

// contract §10.1 §10.2 §10.3
#[test]
fn a_room_may_have_a_title() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let titles = [
        ("Book club", "Book club"),
        ("  Book \u{3000} club\n", "Book \u{3000} club"),
        ("x", "x"),
        ("\"<b>\\", "\"<b>\\"),
        ("\u{1f468}\u{200d}\u{1f469}", "\u{1f468}\u{200d}\u{1f469}"),
    ];
    for (given, shown) in titles {
        let room = server.room_with(&ana, &json!({"title": given}));
        let found = found(&server, &room);
        assert_eq!(found["title"], json!(shown));
        assert_eq!((&found["private"], &found["password"]), (&json!(false), &json!(false)));
        assert_eq!((&found["exists"], &found["user_count"]), (&json!(true), &json!(0)));
        assert_eq!(room.len(), 10, "a room with a title is still public");
    }
    for one in ["x", "\u{1f642}"] {
        let longest = one.repeat(80);
        let room = server.room_with(&ana, &json!({"title": format!(" {longest} ")}));
        assert_eq!(found(&server, &room)["title"], json!(longest));
    }
}

// contract §10.3
#[test]
fn the_title_of_a_room_without_one_is_null() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    for room in [server.room(&ana), server.room_with(&ana, &json!({}))] {
        let found = found(&server, &room);
        assert_eq!(found.get("title"), Some(&Value::Null), "{found}");
        assert_eq!((&found["private"], &found["password"]), (&json!(false), &json!(false)));
    }
    assert_eq!(lobby(&server)[0].get("title"), Some(&Value::Null));
}

// contract §1.7 §10.2
#[test]
fn an_invalid_title_is_a_bad_body() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let bad = [
        json!(""),
        json!(" \n\u{3000}"),
        json!("x".repeat(81)),
        json!("\u{1f642}".repeat(81)),
        json!("a\nb"),
        json!("a\u{0}b"),
        json!("a\u{7f}b"),
        json!("a\u{85}b"),
        json!("a\u{202e}b"),
        json!("a\u{200f}b"),
        json!("a\u{2066}b"),
        json!("\u{61c}b"),
        json!(1),
        json!(true),
        json!(["x"]),
        json!({"text": "x"}),
    ];
    for title in bad {
        let request = post("/rooms").session(&ana).json(&json!({"title": title}));
        server.ask(request).refused(422, "bad_body");
    }
    server.ask(post("/rooms").session(&ana).body(r#"{"title":"\ud800"}"#)).refused(422, "bad_body");
    assert_eq!(lobby(&server), json!([]));
}

// The lobby.

// contract §9.2 §10.4
#[test]
fn the_lobby_describes_all_public_rooms_newest_first() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let club = server.room_with(&ana, &json!({"title": "Book club"}));
    let plain = server.room(&bob);
    server.room_with(&ana, &json!({"title": "Hidden", "private": true}));
    server.room_with(&ana, &json!({"title": "Locked", "password": "x"}));
    let last = server.room_with(&ana, &json!({"title": "Last", "private": false}));
    let _inside = server.enter_as(&club, "ana", &ana);
    let _guest = server.enter_as(&club, "bob", &bob);
    let rooms = lobby(&server);
    let expected =
        [(&last, json!("Last"), 0), (&plain, Value::Null, 0), (&club, json!("Book club"), 2)];
    assert_eq!(rooms.as_array().map(Vec::len), Some(expected.len()), "{rooms}");
    for (room, (id, title, user_count)) in rooms.as_array().expect("rooms").iter().zip(expected) {
        assert_eq!((&room["room_id"], &room["title"]), (&json!(id), &title));
        assert_eq!(room["user_count"], json!(user_count));
        let created: &str = room["created_at"].as_str().expect("a time");
        let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
        let shape: String = created.chars().map(digits).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
    }
    let times = |at: usize| rooms[at]["created_at"].as_str();
    assert!(times(0) >= times(1) && times(1) >= times(2), "{rooms}");
    let slash = server.ask(get("/rooms/all/?detail=true")).expect(200).json();
    assert_eq!(slash["rooms"], rooms);
    let session = server.ask(get("/rooms/all?x=y&detail=true").session(&ana)).expect(200).json();
    assert_eq!(session["rooms"], rooms);
}

// contract §2.6
#[test]
fn without_detail_rooms_all_lists_ids_only() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room_with(&ana, &json!({"title": "Book club"}));
    server.room_with(&ana, &json!({"private": true}));
    for target in ["/rooms/all", "/rooms/all?detail=false"] {
        assert_eq!(server.ask(get(target)).expect(200).json()["rooms"], json!([room]));
    }
}

// contract §1.9
#[test]
fn detail_is_a_boolean() {
    let server = Server::start(&[]);
    for value in ["maybe", "", "2", "null", "%00", "truefalse"] {
        let target = format!("/rooms/all?detail={value}");
        server.ask(get(&target)).refused(422, "bad_query");
    }
}

#[test]
fn an_empty_lobby_is_an_empty_list() {
    let server = Server::start(&[]);
    assert_eq!(lobby(&server), json!([]));
}

// contract §2.6
#[test]
fn the_lobby_has_at_most_a_thousand_rooms() {
    let server = Server::start(&[]);
    let titled = |session: &str, number: usize| {
        post("/rooms").session(session).json(&json!({"title": format!("room {number}")}))
    };
    let mut http = server.http();
    let mut number = 0;
    for name in 0..6 {
        let session = server.session(&format!("ana {name}"));
        let requests: Vec<_> = (0..180).map(|at| titled(&session, number + at)).collect();
        assert!(http.pipeline(&requests).iter().all(|answer| answer.status == 201));
        number += 180;
    }
    let rooms = lobby(&server);
    let titles = rooms.as_array().expect("rooms").iter().map(|room| room["title"].clone());
    assert!(titles.eq((80..1080).rev().map(|number| json!(format!("room {number}")))));
}
