//! JSON on its way in, by socket and by REST, against serde_json's own idea of any JSON: what it
//! can read is taken or refused as the contract says, and what it can't is refused.
#![no_main]

use std::borrow::Cow;

use disposable_chat::api::socket::{BadEvent, ClientEvent, parse, refused};
use disposable_chat::chat::RoomId;
use disposable_chat::config::Config;
use disposable_chat_fuzz::pipe::RELIABLE;
use disposable_chat_fuzz::wire;
use disposable_chat_fuzz::world::{LOOPBACK, World};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|text: &str| {
    let value = serde_json::from_str::<Value>(text);
    let is_beyond = value.as_ref().is_err_and(is_beyond_it);
    match (parse(text), &value) {
        (Ok(event), Ok(value)) => assert_eq!(expected(value), Ok(event)),
        (Err(rejected), Ok(value)) => {
            assert_eq!(expected(value), Err(rejected.reason));
            shown(rejected.reason, rejected.nonce);
        }
        (Ok(_), Err(error)) => assert!(is_beyond, "taken, though {error}"),
        (Err(rejected), Err(_)) => assert!(is_beyond || rejected.reason == BadEvent::Json),
    }
    if !is_beyond && !text.is_empty() {
        rest(text, value.as_ref().ok().and_then(Value::as_object));
    }
});

/// JSON that serde_json's `Value` will not hold, but a reader that skips it need not mind.
fn is_beyond_it(error: &serde_json::Error) -> bool {
    let why = error.to_string();
    ["recursion limit", "number out of range", "surrogate", "unexpected end of hex escape"]
        .iter()
        .any(|known| why.contains(known))
}

/// Events of a client, as contract §6.1 to §6.4 and §6.14 have them.
fn expected(value: &Value) -> Result<ClientEvent<'_>, BadEvent> {
    let event = value.as_object().ok_or(BadEvent::Json)?;
    match event.get("type").and_then(Value::as_str) {
        Some("typing") => Ok(ClientEvent::Typing),
        Some("ping") => Ok(ClientEvent::Ping),
        Some("chat") => {
            let message = event.get("message").and_then(Value::as_str);
            let message = Cow::from(message.ok_or(BadEvent::Message)?);
            match event.get("nonce") {
                None | Some(Value::Null) => Ok(ClientEvent::Chat { message, nonce: None }),
                Some(Value::String(nonce)) => {
                    Ok(ClientEvent::Chat { message, nonce: Some(nonce.as_str().into()) })
                }
                Some(_) => Err(BadEvent::Nonce),
            }
        }
        _ => Err(BadEvent::Type),
    }
}

/// Its sender is told so in JSON, with its nonce if that is a good one.
fn shown(why: BadEvent, nonce: Option<Cow<'_, str>>) {
    let mut out = Vec::new();
    let room_id = RoomId::parse("a1b2c3d4e5").expect("the form of an id");
    refused(&mut out, why, room_id, nonce.as_deref());
    let told: Value = serde_json::from_slice(&out).expect("we send JSON");
    let good = nonce.filter(|nonce| (1..=64).contains(&nonce.len()));
    assert_eq!(told.get("nonce").and_then(Value::as_str), good.as_deref());
}

/// The same text as the body of what takes one.
fn rest(text: &str, object: Option<&Map<String, Value>>) {
    let mut world = World::new(&Config::default(), RELIABLE);
    let line = world.connect(LOOPBACK);
    let opened =
        world.ask(line, &wire::request("POST", "/sessions", None, r#"{"username":"ana"}"#));
    let session = field(&opened.body, "session_id");
    let session = Some(session.as_str());
    let room =
        field(&world.ask(line, &wire::request("POST", "/rooms", session, "")).body, "room_id");

    let string = |name: &str| object.and_then(|object| object.get(name)).and_then(Value::as_str);
    let answer = world.ask(line, &wire::request("POST", "/sessions", None, text));
    let name = string("username").map(str::trim);
    let status = match name.map(|name| is_label(name, 2, 50)) {
        Some(true) => 201,
        Some(false) => 400,
        None => 422,
    };
    assert_eq!(answer.status, status, "POST /sessions");
    if status == 201 {
        assert_eq!(Some(field(&answer.body, "username").as_str()), name);
    }

    let path = format!("/rooms/{room}/messages");
    let answer = world.ask(line, &wire::request("POST", &path, session, text));
    let said = string("message").map(str::trim);
    let nonce = object.and_then(|object| object.get("nonce")).filter(|nonce| !nonce.is_null());
    let is_nonce =
        |nonce: &Value| nonce.as_str().is_some_and(|nonce| (1..=64).contains(&nonce.len()));
    let is_said = said.is_some_and(|said| (1..=4000).contains(&said.chars().count()));
    let status = if is_said && nonce.is_none_or(is_nonce) { 201 } else { 422 };
    assert_eq!(answer.status, status, "POST messages");
    if status == 201 {
        assert_eq!(Some(field(&answer.body, "message").as_str()), said);
        let again = world.ask(line, &wire::request("POST", &path, session, text));
        assert_eq!(again.status, if nonce.is_some() { 200 } else { 201 });
        assert_eq!(again.body == answer.body, nonce.is_some(), "once is once");
    }

    let answer = world.ask(line, &wire::request("POST", "/rooms", session, text));
    let given = |name: &str| object.and_then(|object| object.get(name)).filter(|it| !it.is_null());
    let fits = object.is_some()
        && given("title").is_none_or(|it| it.as_str().is_some_and(|it| is_label(it.trim(), 1, 80)))
        && given("password").is_none_or(|it| it.as_str().is_some_and(is_password))
        && given("private").is_none_or(Value::is_boolean);
    assert_eq!(answer.status, if fits { 201 } else { 422 }, "POST /rooms");
    if fits {
        let show = format!("/rooms/{}", field(&answer.body, "room_id"));
        let shown = world.ask(line, &wire::request("GET", &show, None, "")).body;
        let room: Value = serde_json::from_slice(&shown).expect("we send JSON");
        assert_eq!(room["title"].as_str(), string("title").map(str::trim));
        assert_eq!(room["password"], given("password").is_some());
    }
    world.end();
}

fn is_password(text: &str) -> bool {
    (1..=128).contains(&text.len())
}

/// A name or a title: so many characters, no controls, nothing that turns the text around it.
fn is_label(text: &str, min: usize, max: usize) -> bool {
    let is_bidi = |c: char| {
        let turns = ['\u{61C}'..='\u{61C}', '\u{200E}'..='\u{200F}', '\u{202A}'..='\u{202E}'];
        turns.iter().any(|range| range.contains(&c)) || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    (min..=max).contains(&text.chars().count())
        && !text.chars().any(|c| c.is_control() || is_bidi(c))
}

fn field(body: &[u8], name: &str) -> String {
    let body: Value = serde_json::from_slice(body).expect("we send JSON");
    body[name].as_str().expect("it has the field").to_owned()
}
