//! Other forms of what a client sends, which make no difference: empty path segments, ids in capitals, a byte
//! order mark, `null`, a higher version of HTTP. And forms that are refused with a code of their own.

use serde_json::{Value, json};

use crate::client::{
    BINARY, CLOSE, FIN, close_payload, delete, frame, get, post, request, upgrade,
};
use crate::server::Server;

// contract §1.26
#[test]
fn empty_segments_of_a_path_make_no_difference() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    // As a proxy sends them whose own path ends in a slash.
    let same = [
        ("/sessions/me", "//sessions/me"),
        ("/rooms", "//rooms"),
        ("/rooms/all?detail=true", "/rooms//all//?detail=true"),
        (&format!("/rooms/{room}"), &format!("///rooms//{room}")),
        (&format!("/rooms/{room}/messages"), &format!("//rooms/{room}//messages///")),
        ("/", "//"),
        ("/docs", "//docs"),
        ("/openapi.json", "//openapi.json"),
        ("/ping", "////ping"),
    ];
    for (plain, other) in same {
        let plain = server.ask(get(plain).session(&ana)).expect(200);
        let answer = server.ask(get(other).session(&ana)).expect(200);
        assert_eq!((plain.body, plain.fields.len()), (answer.body, answer.fields.len()), "{other}");
    }
    server.upgrade(upgrade(&format!("//ws/{room}?session_id={ana}"))).expect_join("ana");
    server.upgrade(upgrade(&format!("/ws//{room}//?session_id={ana}"))).expect_nothing();
    let created = server.ask(post("//rooms//").session(&ana)).expect(201);
    assert_eq!(created.field("Location"), Some(created.string("room_id").as_str()));
    server.ask(request("PUT", "//rooms")).refused(405, "method_not_allowed");
    for nowhere in ["//nope", "/rooms%2Fall", "/%2Frooms", "//rooms/a/b//c"] {
        server.ask(get(nowhere)).refused(404, "not_found");
    }
}

// contract §1.28
#[test]
fn ids_are_accepted_in_capitals_and_answered_in_lower_case() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let loud = ana.to_uppercase();
    for options in [json!({}), json!({"private": true})] {
        let room = server.room_with(&ana, &options);
        let shouted = room.to_uppercase();
        let path = |rest: &str| format!("/rooms/{shouted}{rest}");
        let shown = server.ask(get(&path(""))).expect(200);
        assert_eq!(shown.string("room_id"), room);
        let joined = server.ask(post(&path("/join")).session(&loud)).expect(200);
        assert_eq!(joined.string("room_id"), room);
        assert_eq!(joined.string("message"), format!("Joined room {room}"));
        let first = server.say(&shouted, &loud, "one");
        assert_eq!(first["room_id"], room.as_str());
        server.say(&shouted, &loud, "two");
        let after = first["id"].as_str().expect("an id").to_uppercase();
        let rest = server.ask(get(&path(&format!("/messages?after={after}"))).session(&loud));
        let rest = rest.expect(200).json();
        assert_eq!(
            (&rest["complete"], &rest["messages"][0]["message"]),
            (&json!(true), &json!("two"))
        );
        let bearer = format!("chat, bearer.{loud}");
        let target = format!("/ws/{shouted}?after={after}");
        let mut socket = server.upgrade(upgrade(&target).field("Sec-WebSocket-Protocol", &bearer));
        let history = socket.history();
        assert_eq!((history.complete, history.messages.len()), (true, 1));
        socket.expect_join("ana");
        let users = server.ask(get(&path("/users")).session(&loud)).expect(200).json();
        let me = users["users"][0]["user_id"].as_str().expect("an id").to_uppercase();
        let change = request("PATCH", &path("")).session(&loud).json(&json!({"owner": me}));
        assert_eq!(server.ask(change).expect(200).string("room_id"), room);
        let own = delete(&path(&format!("/users/{me}"))).session(&loud);
        server.ask(own).refused(422, "bad_query");
        let lifted = delete(&path(&format!("/bans/{me}"))).session(&loud);
        server.ask(lifted).expect(200);
        let gone = delete(&path(&format!("/messages/{after}"))).session(&loud);
        server.ask(gone).expect(200);
        let told = socket.expect_event(&json!({"type": "message_deleted"}));
        assert_eq!(told["target"], first["id"]);
        let stranger = server.session("bob");
        server.join(&room, &stranger);
        let stays = server.enter_as(&room, "bob", &stranger);
        let users = server.ask(get(&path("/users")).session(&loud)).expect(200).json();
        let other = users["users"][1]["user_id"].as_str().expect("an id").to_uppercase();
        let removed = server.ask(delete(&path(&format!("/users/{other}"))).session(&loud));
        let removed = removed.expect(200).string("message");
        assert_eq!(removed, format!("Removed from room {room}"));
        stays.expect_close(4411, "removed");
        let left = server.ask(delete(&path("/leave")).session(&loud)).expect(200);
        assert_eq!(left.string("message"), format!("Left room {room}"));
        let deleted = server.ask(delete(&path("")).session(&loud)).expect(200);
        assert_eq!(deleted.string("message"), format!("Room {room} deleted"));
    }
    let me = server.ask(get("/sessions/me").session(&loud)).expect(200);
    assert_eq!(me.string("session_id"), ana);
    // A segment of another form is no id, and stays as it is.
    let left = server.ask(delete("/rooms/ABC/leave").session(&ana)).expect(200);
    assert_eq!(left.string("message"), "Left room ABC");
}

// contract §1.27
#[test]
fn a_byte_order_mark_before_a_body_is_ignored() {
    let server = Server::start(&[]);
    let marked = |body: &str| format!("\u{feff}{body}");
    let ana = server.ask(post("/sessions").body(marked(r#"{"username":"ana"}"#))).expect(201);
    let ana = ana.string("session_id");
    let room = server.ask(post("/rooms").session(&ana).body(marked(r#"{"title":"t"}"#)));
    let room = room.expect(201).string("room_id");
    let talk = format!("/rooms/{room}/messages");
    server.ask(post(&talk).session(&ana).body(marked(r#"{"message":"hi"}"#))).expect(201);
    // Where no body is needed; and a mark alone is an empty body.
    for body in [marked(r#" {"x":1}"#), marked("")] {
        server.ask(get("/rooms").session(&ana).body(body.as_bytes())).expect(200);
        server.ask(post("/rooms").session(&ana).body(body.as_bytes())).expect(201);
    }
    server.ask(post("/sessions").body(marked(""))).refused(422, "bad_body");
    for bad in ["\u{feff}\u{feff}{}", "{\u{feff}}", " \u{feff}{}", "{}\u{feff}", "\u{fffe}{}"] {
        server.ask(get("/ping").body(bad)).refused(422, "bad_body");
    }
    server.ask(get("/ping").body(&b"\xef\xbb"[..])).refused(422, "bad_body");
    server.ask(get("/ping").body(&b"\xff\xfe{\0}\0"[..])).refused(422, "bad_body");
}

// contract §1.29 §1.30
#[test]
fn null_means_absent_for_an_optional_field_and_the_last_of_equal_keys_counts() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let body = r#"{"title":null,"private":null,"password":null,"ttl":null,"slow_mode":null,"encrypted":null}"#;
    let room = server.ask(post("/rooms").session(&ana).body(body)).expect(201).string("room_id");
    let shown = server.ask(get(&format!("/rooms/{room}"))).expect(200).json();
    let expected = [
        ("title", Value::Null),
        ("private", json!(false)),
        ("password", json!(false)),
        ("slow_mode", json!(0)),
        ("encrypted", json!(false)),
        ("expires_at", Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(shown[name], value, "{shown}");
    }
    let change = request("PATCH", &format!("/rooms/{room}")).session(&ana);
    let nothing = change.body(r#"{"locked":null,"slow_mode":null,"owner":null}"#);
    assert_eq!(server.ask(nothing).expect(200).json(), shown);
    let join = post(&format!("/rooms/{room}/join")).session(&ana).body(r#"{"password":null}"#);
    server.ask(join).expect(200);
    let talk = post(&format!("/rooms/{room}/messages")).session(&ana);
    let said = server.ask(talk.clone().body(r#"{"message":"a","nonce":null}"#)).expect(201).json();
    assert_eq!(said.get("nonce"), None);
    let mut socket = server.socket(&room, &ana);
    socket.expect_join("ana");
    socket.text(r#"{"type":"chat","message":"b","nonce":null}"#);
    assert_eq!(socket.expect_chat("ana", "b").get("nonce"), None);
    // A field that is needed is not absent.
    server.ask(post("/sessions").body(r#"{"username":null}"#)).refused(422, "bad_body");
    server.ask(talk.clone().body(r#"{"message":null}"#)).refused(422, "bad_message");

    let twice = r#"{"message":1,"nonce":"x","message":"last","nonce":"y"}"#;
    let said = server.ask(talk.clone().body(twice)).expect(201).json();
    assert_eq!((&said["message"], &said["nonce"]), (&json!("last"), &json!("y")));
    let absent = server.ask(talk.clone().body(r#"{"message":"c","nonce":"z","nonce":null}"#));
    assert_eq!(absent.expect(201).json().get("nonce"), None);
    server.ask(talk.body(r#"{"message":"a","message":1}"#)).refused(422, "bad_message");
}

// contract §1.1 §1.9 §1.30
#[test]
fn the_last_of_equal_parameters_counts_and_unknown_ones_are_ignored() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    (0..3).for_each(|n| _ = server.say(&room, &ana, &n.to_string()));
    let ask =
        |query: &str| server.ask(get(&format!("/rooms/{room}/messages?{query}")).session(&ana));
    for (query, count) in [
        ("limit=2", 2),
        ("limit=02", 2),
        ("limit=x&limit=1", 1),
        ("limit=1&limit=2", 2),
        ("before=x&LIMIT=1&y", 3),
    ] {
        let messages = ask(query).expect(200).json()["messages"].clone();
        assert_eq!(messages.as_array().map(Vec::len), Some(count), "{query}");
    }
    for bad in ["limit=1&limit=x", "limit=+1", "limit=%2B1", "limit=1.0", "limit=1e1", "limit"] {
        ask(bad).refused(422, "bad_query");
    }
    let list = |detail: &str| server.ask(get(&format!("/rooms/all?detail={detail}")));
    for bad in ["1", "TRUE", "yes", ""] {
        list(bad).refused(422, "bad_query");
    }
    assert!(list("x&detail=true").expect(200).json()["rooms"][0].is_object());
    assert!(list("true&detail=false").expect(200).json()["rooms"][0].is_string());
    let twice = format!("/ws/{room}?session_id=x&history=3&before=x&session_id={ana}&history=1");
    let mut socket = server.upgrade(upgrade(&twice));
    assert_eq!(socket.history().messages.len(), 1);
    socket.expect_join("ana");
}

// contract §4.10
#[test]
fn a_higher_minor_version_is_answered_as_1_1() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut http = server.http();
    for minor in 2..=9 {
        http.send(format!("GET /ping HTTP/1.{minor}\r\nHost: a\r\n\r\n"));
        let answer = http.answer().expect(200);
        assert_eq!((&*answer.version, answer.field("Connection")), ("HTTP/1.1", None));
    }
    let upgrade = upgrade(&format!("/ws/{room}?session_id={ana}")).bytes("a");
    http.send(String::from_utf8(upgrade).expect("ASCII").replace("HTTP/1.1", "HTTP/1.2"));
    http.upgraded().expect_join("ana");
    for version in ["HTTP/2.0", "HTTP/1.10", "HTTP/0.9", "http/1.2", "HTTP/1.x"] {
        let mut http = server.http();
        http.send(format!("GET /ping {version}\r\nHost: a\r\n\r\n"));
        http.answer().refused(400, "bad_request");
        http.expect_end();
    }
}

// contract §4.11
#[test]
fn an_unknown_transfer_coding_is_501_if_chunked_is_the_last() {
    let server = Server::start(&[]);
    let answer = |codings: &str| {
        let mut http = server.http();
        http.send(format!("POST /sessions HTTP/1.1\r\nHost: a\r\n{codings}\r\n\r\n0\r\n\r\n"));
        let answer = http.answer();
        http.expect_end();
        answer
    };
    for codings in [
        "Transfer-Encoding: gzip, chunked",
        "transfer-encoding: x;a=b , CHUNKED",
        "Transfer-Encoding: br\r\nTransfer-Encoding: chunked",
    ] {
        answer(codings).refused(501, "unsupported_transfer_coding");
    }
    for codings in [
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, gzip, chunked",
        "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5",
    ] {
        answer(codings).refused(400, "bad_request");
    }
}

// contract §5.9
#[test]
fn a_bearer_subprotocol_without_chat_is_refused_before_anything_happens() {
    let page = "https://page.example";
    let server = Server::start(&["--cors-origin", page]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut bob = server.enter(&room, "bob");
    let offer = |subprotocols: &str| {
        upgrade(&format!("/ws/{room}")).field("Sec-WebSocket-Protocol", subprotocols)
    };
    let bearer = format!("bearer.{ana}");
    for subprotocols in [
        &bearer,
        "bearer.",
        "bearer.x, bearer.y",
        &format!("x, {bearer}"),
        &format!("{bearer}, CHAT"),
    ] {
        server.ask(offer(subprotocols)).refused(400, "bad_request");
        // Whatever other credentials there are.
        server.ask(offer(subprotocols).session(&ana)).refused(400, "bad_request");
    }
    // The connection goes on, and nobody has come.
    let mut http = server.http();
    http.ask(&offer(&bearer)).refused(400, "bad_request");
    http.ask(&get("/ping")).expect(200);
    bob.expect_nothing();
    // The handshake and the origin come first, the room and the session after it.
    let old = offer(&bearer).without("Sec-WebSocket-Version").field("Sec-WebSocket-Version", "8");
    server.ask(old).refused(426, "upgrade_required");
    let foreign = offer(&bearer).field("Origin", "https://other.example");
    server.ask(foreign).refused(403, "bad_origin");
    let nowhere = upgrade("/ws/0000000000").field("Sec-WebSocket-Protocol", "bearer.x");
    server.ask(nowhere).refused(400, "bad_request");
    // Other subprotocols alone are as good as none.
    let other =
        upgrade(&format!("/ws/{room}?session_id={ana}")).field("Sec-WebSocket-Protocol", "x");
    let mut socket = server.upgrade(other);
    assert_eq!(socket.protocol, None);
    socket.expect_join("ana");
}

// contract §7.3
#[test]
fn a_close_is_answered_with_its_code_if_the_code_may_be_sent() {
    let server = Server::start(&["--leave-grace", "1h", "--message-rate", "0"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let closed = |bytes: Vec<u8>| {
        let mut socket = server.socket(&room, &ana);
        socket.expect_join("ana");
        socket.send(bytes);
        socket.closed()
    };
    let registered = [1000, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    for code in registered.into_iter().chain([3000, 3003, 3008, 3500, 4000, 4999]) {
        let (answered, reason) = closed(frame(FIN | CLOSE, close_payload(code, "bye")));
        assert_eq!((answered, &*reason), (code, "bye"));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let answered = closed(frame(FIN | CLOSE, close_payload(code, "bye")));
        assert_eq!(answered, (1002, "protocol error".to_owned()), "{code}");
    }
    // The same reason as for any other protocol error.
    let answered = closed(frame(FIN | 0x40 | BINARY, "x"));
    assert_eq!(answered, (1002, "protocol error".to_owned()));
}
