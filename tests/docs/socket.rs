//! The document of the WebSocket: the events from the server, the events from clients, and the table of close codes.

use std::collections::BTreeSet;

use disposable_chat::ws::close::Close;
use serde_json::{Value, json};

use crate::client::{Events, Http, Ws, delete, get, patch, post, upgrade};
use crate::document::{Document, errors_in};
use crate::server::{Server, command};

/// Every close code and reason of the server.
const CLOSES: &[Close] = &[
    Close::LEFT_ROOM,
    Close::SHUTTING_DOWN,
    Close::PROTOCOL,
    Close::BINARY,
    Close::NOT_UTF8,
    Close::MESSAGE_TIMEOUT,
    Close::TOO_BIG,
    Close::INTERNAL,
    Close::TOO_SLOW,
    Close::SERVER_FULL,
    Close::UNAVAILABLE,
    Close::INVALID_SESSION,
    Close::NOT_A_MEMBER,
    Close::BANNED,
    Close::REMOVED,
    Close::ROOM_NOT_FOUND,
    Close::NAME_TAKEN,
    Close::ROOM_DELETED,
    Close::TOO_MANY_CONNECTIONS,
    Close::TOO_MANY_ROOMS,
    Close::ROOM_LOCKED,
    Close::ROOM_EXPIRED,
    Close::RATE_LIMITED,
];

#[test]
fn the_table_of_closes_lists_exactly_the_servers_closes() {
    let document = Document::asyncapi();
    let rows = document.0["channels"]["room"]["x-closes"].as_array().expect("rows");
    let documented = rows.iter().flat_map(|row| {
        let reasons = row[1].as_str().expect("reasons").split(", ");
        reasons.map(|reason| (row[0].as_u64().expect("a code"), reason))
    });
    let documented: BTreeSet<_> = documented.collect();
    let known: BTreeSet<_> = CLOSES.iter().map(|close| (close.code.into(), close.reason)).collect();
    assert_eq!(documented, known);
}

/// Some codes have reasons that say what was wrong, which the contract does not list.
#[test]
fn the_contract_lists_the_servers_closes() {
    let contract = include_str!("../../src/guide/contract.md");
    let words: Vec<_> = contract.split_whitespace().collect();
    let contract = words.join(" ");
    let (_, section) = contract.split_once(" ## 7 ").expect("section 7");
    let (section, _) = section.split_once(" ## 8 ").expect("its end");
    for Close { code, reason } in CLOSES {
        let is_listed = match code {
            1003 | 1007 | 1009 => section.contains(&format!("{code}, with a reason: ")),
            // One code may have several reasons.
            _ => section.match_indices(&format!("** {code} ")).any(|(place, _)| {
                let clause = section[place..].split("<a id=").next().unwrap_or_default();
                clause.contains(&format!("`{reason}`"))
            }),
        };
        assert!(is_listed, "{code} {reason}");
    }
}

/// The messages of an operation.
fn messages<'a>(document: &'a Document, operation: &'a str) -> Vec<&'a Value> {
    let messages = document.0["operations"][operation]["messages"].as_array().expect("messages");
    messages.iter().map(|message| document.resolve(message)).collect()
}

/// The possible values of `type` in a payload of this message.
fn types(document: &Document, message: &Value) -> Vec<String> {
    let kind = &document.resolve(&message["payload"])["properties"]["type"];
    let listed = kind["enum"].as_array().cloned().unwrap_or_else(|| vec![kind["const"].clone()]);
    listed.iter().map(|one| one.as_str().expect("a type").to_owned()).collect()
}

/// Reads the next event, asserts that it is documented, and adds its type to `seen`.
#[track_caller]
fn next(ws: &mut Ws, document: &Document, seen: &mut BTreeSet<String>) -> Value {
    let event = ws.event();
    let kind = event["type"].as_str().expect("a type").to_owned();
    let all = messages(document, "events");
    let message = all.into_iter().find(|message| types(document, message).contains(&kind));
    let message = message.unwrap_or_else(|| panic!("not documented: {event}"));
    let mismatch = document.mismatch(&message["payload"], &event);
    assert!(mismatch.is_none(), "{event}: {}", mismatch.unwrap_or_default());
    let properties = &document.resolve(&message["payload"])["properties"];
    for field in event.as_object().expect("an object").keys() {
        assert!(properties[field].is_object(), "{field} of {event} is not documented");
    }
    seen.insert(kind);
    event
}

// contract §6.14
#[test]
fn the_server_sends_exactly_the_documented_events() {
    let document = &Document::asyncapi();
    let flags = ["--listen", "127.0.0.1:0", "--message-rate", "1", "--message-burst", "3"];
    let flags = [&flags[..], &["--admin-listen", "127.0.0.1:0"]].concat();
    let server = Server::spawn(command(&flags, &[]), 2);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    let mut ws =
        server.http().upgrade(&upgrade(&format!("/ws/{room}?history=10&session_id={ana}")));
    let seen = &mut BTreeSet::new();
    let first = next(&mut ws, document, seen);
    assert_eq!((&first["type"], &first["complete"]), (&json!("history"), &json!(true)));
    next(&mut ws, document, seen);
    let mut other = server.socket_with(&room, &bob, "welcome=true");
    assert_eq!(next(&mut other, document, seen)["type"], "welcome");
    next(&mut ws, document, seen);
    other.close();
    next(&mut ws, document, seen);

    let change = patch(&format!("/rooms/{room}")).session(&ana).json(&json!({"locked": true}));
    server.ask(change).expect(200);
    assert_eq!(next(&mut ws, document, seen)["room"]["locked"], true);

    // The server accepts the document's example of each client event.
    for message in messages(document, "send") {
        let example = &message["examples"][0]["payload"];
        assert_eq!(document.mismatch(&message["payload"], example), None);
        ws.text(example.to_string());
        let kinds = types(document, message);
        let expected = match &kinds[..] {
            [kind] if kind == "ping" => "pong",
            [kind] => kind,
            more => panic!("{more:?}"),
        };
        let answer = next(&mut ws, document, seen);
        assert_eq!(answer["type"], expected);
        assert_eq!(answer["nonce"], example["nonce"]);
    }

    let sent = server.say(&room, &bob, "hello");
    assert_eq!(next(&mut ws, document, seen)["id"], sent["id"]);
    let deletion = format!("/rooms/{room}/messages/{}", sent["id"].as_str().expect("an id"));
    server.ask(delete(&deletion).session(&bob)).expect(200);
    assert_eq!(next(&mut ws, document, seen)["target"], sent["id"]);

    let refused = messages(document, "events").into_iter().find(|one| one["name"] == "refused");
    let refused = document.resolve(&refused.expect("an event")["payload"]);
    let codes = &refused["properties"]["code"]["enum"];
    let codes: Vec<_> = codes.as_array().expect("codes").iter().collect();
    let long = json!({"type": "chat", "message": "x".repeat(4001)}).to_string();
    let mut got = Vec::new();
    for text in [
        "[]",
        r#"{"type":"dance"}"#,
        r#"{"type":"chat","message":5}"#,
        r#"{"type":"chat","message":"a","nonce":5}"#,
        r#"{"type":"chat","message":" "}"#,
        &long,
    ] {
        ws.text(text);
        got.push(next(&mut ws, document, seen)["code"].clone());
    }
    let encrypted = server.room_with(&bob, &json!({"encrypted": true}));
    let mut envelopes = server.enter_as(&encrypted, "bob", &bob);
    envelopes.text(r#"{"type":"chat","message":"a","nonce":"1"}"#);
    got.push(next(&mut envelopes, document, seen)["code"].clone());
    loop {
        ws.chat("again");
        let answer = next(&mut ws, document, seen);
        if answer["type"] == "refused" {
            assert!(answer["retry_after"].is_number(), "{answer}");
            got.push(answer["code"].clone());
            break;
        }
    }
    got.push(json!("unavailable")); // Only in a cluster; tests/cluster/away.rs has it.
    assert_eq!(got.iter().collect::<Vec<_>>(), codes);

    let announce = post("/announcements").json(&json!({"message": "The server restarts at ten."}));
    Http::connect(&server.addresses[1]).ask(&announce).expect(200);
    assert_eq!(next(&mut ws, document, seen)["type"], "announcement");

    seen.insert("users".to_owned()); // Only in a room full of people: `tests/wire/resume.rs`.
    let all = messages(document, "events").into_iter();
    let documented: BTreeSet<_> = all.flat_map(|message| types(document, message)).collect();
    assert_eq!(*seen, documented);
}

/// `users` comes only in a crowded room, and an announcement from the operator.
// contract §14.2 §14.5 §14.8
#[test]
fn a_stream_sends_exactly_the_documented_events() {
    let document = Document::openapi();
    let server = Server::start(&["--ping-interval", "100ms"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    let follow = |session: &str, query: &str| {
        let mut http = server.http();
        http.send_request(&get(&format!("/rooms/{room}/events{query}")).session(session));
        Events::begin(http)
    };
    let seen = &mut BTreeSet::new();
    let mut next = |stream: &mut Events| -> String {
        let event = stream.json();
        let schema = json!({"$ref": "#/components/schemas/Event"});
        let mismatch = document.mismatch(&schema, &event);
        assert!(mismatch.is_none(), "{event}: {}", mismatch.unwrap_or_default());
        let kind = event["type"].as_str().expect("a type").to_owned();
        seen.insert(kind.clone());
        kind
    };
    let mut stream = follow(&ana, "?history=10");
    let mut other = follow(&bob, "");
    assert_eq!(next(&mut other), "welcome");
    let at = |path: &str| format!("/rooms/{room}/{path}");
    let sent = server.say(&room, &bob, "hello");
    let id = sent["id"].as_str().expect("an id");
    for (request, status) in [
        (delete(&at(&format!("messages/{id}"))).session(&bob), 200),
        (post(&at("typing")).session(&bob), 204),
        (patch(&format!("/rooms/{room}")).session(&ana).json(&json!({"locked": true})), 200),
        (delete(&at("leave")).session(&bob), 200),
    ] {
        server.ask(request).expect(status);
    }
    while next(&mut stream) != "ping" {}
    server.ask(delete(&format!("/rooms/{room}")).session(&ana)).expect(200);
    while next(&mut stream) != "close" {}

    seen.extend(["users", "announcement"].map(str::to_owned));
    let union = &document.0["components"]["schemas"]["Event"]["discriminator"]["mapping"];
    let documented: BTreeSet<_> = union.as_object().expect("types").keys().cloned().collect();
    assert_eq!(*seen, documented);
}

/// The handshake's errors, each provoked, are exactly those that the channel's description names.
#[test]
fn the_errors_of_the_handshake_are_documented() {
    let document = Document::asyncapi();
    let description = document.0["channels"]["room"]["description"].as_str().expect("text");
    let paragraph = description.split("\n\n").find(|text| text.starts_with("The handshake fails"));
    let documented = errors_in(paragraph.expect("a paragraph"));

    let server = Server::start(&["--cors-origin", "https://chat.example"]);
    let ana = server.session("ana");
    let target = format!("/ws/{}?session_id={ana}", server.room(&ana));
    let without_key =
        |key: &str| upgrade(&target).without("Sec-WebSocket-Key").field("Sec-WebSocket-Key", key);
    let old = upgrade(&target).without("Sec-WebSocket-Version").field("Sec-WebSocket-Version", "8");
    let mut seen = BTreeSet::from([(503, "server_full".to_owned())]);
    for (request, status, code) in [
        (get(&target), 426, "upgrade_required"),
        (old, 426, "upgrade_required"),
        (without_key("x"), 400, "bad_request"),
        (upgrade(&target).field("Origin", "https://evil.example"), 403, "bad_origin"),
    ] {
        server.ask(request).refused(status, code);
        seen.insert((status, code.to_owned()));
    }
    assert_eq!(documented, seen);
}

/// A client needs only one set of types. `discriminator` differs, because AsyncAPI has another form of it.
#[test]
fn schemas_of_the_same_name_are_the_same_in_both_documents() {
    let (rest, events) = (Document::openapi(), Document::asyncapi());
    let mut compared = 0;
    for (name, schema) in rest.0["components"]["schemas"].as_object().expect("schemas") {
        let other = &events.0["components"]["schemas"][name];
        if other.is_object() {
            let comparable = |schema: &Value| {
                let mut fields = schema.as_object().expect("an object").clone();
                fields.retain(|name, _| !["discriminator", "examples"].contains(&&**name));
                fields
            };
            assert_eq!(comparable(schema), comparable(other), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 5, "{compared}");
    let path = events.0["channels"]["room"]["address"].as_str().expect("an address");
    assert!(rest.0["paths"][path].is_object(), "{path}");
}
