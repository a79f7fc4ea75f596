//! JSON from peers, over WebSocket and by REST, compared with `serde_json::Value`: the server
//! accepts or refuses each JSON text as the contract demands, and refuses every other text.
//!
//! Owns the expectations. Must not use the parsers of `api` in them.
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
            check_refusal(rejected.reason, rejected.nonce);
        }
        (Ok(_), Err(error)) => assert!(is_beyond, "accepted, although {error}"),
        (Err(rejected), Err(_)) => assert!(is_beyond || rejected.reason == BadEvent::Json),
    }
    // A request's body may begin with a byte order mark (contract §1.27), and be empty.
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value = serde_json::from_str::<Value>(body);
    let is_beyond = value.as_ref().is_err_and(is_beyond_it);
    let object = value.as_ref().ok().and_then(Value::as_object);
    if !is_beyond && !body.is_empty() && !object.is_some_and(may_show_nothing) {
        check_rest(text, object);
    }
});

/// JSON that `serde_json::Value` cannot represent, although a parser that skips it may accept it.
fn is_beyond_it(error: &serde_json::Error) -> bool {
    let why = error.to_string();
    ["recursion limit", "number out of range", "surrogate", "unexpected end of hex escape"]
        .iter()
        .any(|known| why.contains(known))
}

/// Whether a name, a title or a message may have no visible character (contract §3.16, §3.17). Which
/// characters are visible is no question of JSON.
fn may_show_nothing(object: &Map<String, Value>) -> bool {
    let texts = ["username", "title", "message"].map(|name| object.get(name)?.as_str());
    texts.iter().flatten().any(|text| !text.chars().any(|c| c.is_ascii_graphic()))
}

/// The event that a JSON text is, by contract §6.1 to §6.4 and §6.14.
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

/// The refusal is JSON, and has the nonce of the event if that is valid.
fn check_refusal(why: BadEvent, nonce: Option<Cow<'_, str>>) {
    let mut out = Vec::new();
    let room_id = RoomId::parse("a1b2c3d4e5").expect("a valid id");
    refused(&mut out, why, room_id, nonce.as_deref());
    let refusal: Value = serde_json::from_slice(&out).expect("a response is JSON");
    let good = nonce.filter(|nonce| (1..=64).contains(&nonce.len()));
    assert_eq!(refusal.get("nonce").and_then(Value::as_str), good.as_deref());
}

/// The same text as the body of each request that has one.
fn check_rest(text: &str, object: Option<&Map<String, Value>>) {
    let mut world = World::new(&Config::default(), RELIABLE);
    let peer = world.connect(LOOPBACK);
    let opened =
        world.request(peer, &wire::request("POST", "/sessions", None, r#"{"username":"ana"}"#));
    let session = field(&opened.body, "session_id");
    let session = Some(session.as_str());
    let room =
        field(&world.request(peer, &wire::request("POST", "/rooms", session, "")).body, "room_id");

    let string = |name: &str| object.and_then(|object| object.get(name)).and_then(Value::as_str);
    let response = world.request(peer, &wire::request("POST", "/sessions", None, text));
    let name = string("username").map(str::trim);
    let status = match name.map(|name| is_label(name, 2, 50)) {
        Some(true) => 201,
        Some(false) => 400,
        None => 422,
    };
    assert_eq!(response.status, status, "POST /sessions");
    if status == 201 {
        assert_eq!(Some(field(&response.body, "username").as_str()), name);
    }

    let path = format!("/rooms/{room}/messages");
    let response = world.request(peer, &wire::request("POST", &path, session, text));
    let message = string("message").map(str::trim);
    let nonce = object.and_then(|object| object.get("nonce")).filter(|nonce| !nonce.is_null());
    let is_nonce =
        |nonce: &Value| nonce.as_str().is_some_and(|nonce| (1..=64).contains(&nonce.len()));
    let is_message = message.is_some_and(|text| (1..=4000).contains(&text.chars().count()));
    let status = if is_message && nonce.is_none_or(is_nonce) { 201 } else { 422 };
    assert_eq!(response.status, status, "POST messages");
    if status == 201 {
        assert_eq!(Some(field(&response.body, "message").as_str()), message);
        let again = world.request(peer, &wire::request("POST", &path, session, text));
        assert_eq!(again.status, if nonce.is_some() { 200 } else { 201 });
        assert_eq!(again.body == response.body, nonce.is_some(), "a nonce posts one message");
    }

    let response = world.request(peer, &wire::request("POST", "/rooms", session, text));
    let given = |name: &str| object.and_then(|object| object.get(name)).filter(|it| !it.is_null());
    let fits = object.is_some()
        && given("title").is_none_or(|it| it.as_str().is_some_and(|it| is_label(it.trim(), 1, 80)))
        && given("password").is_none_or(|it| it.as_str().is_some_and(is_password))
        && ["private", "encrypted"].iter().all(|name| given(name).is_none_or(Value::is_boolean))
        && given("ttl").is_none_or(|it| it.as_u64().is_some_and(|it| (60..=604_800).contains(&it)))
        && given("slow_mode").is_none_or(|it| it.as_u64().is_some_and(|it| it <= 3600));
    assert_eq!(response.status, if fits { 201 } else { 422 }, "POST /rooms");
    if fits {
        let show = format!("/rooms/{}", field(&response.body, "room_id"));
        let shown = world.request(peer, &wire::request("GET", &show, None, "")).body;
        let room: Value = serde_json::from_slice(&shown).expect("a response is JSON");
        assert_eq!(room["title"].as_str(), string("title").map(str::trim));
        assert_eq!(room["password"], given("password").is_some());
    }
    world.close_all();
}

fn is_password(text: &str) -> bool {
    (1..=128).contains(&text.len())
}

/// Contract §3.2 and §10.2: the number of characters is within bounds, and none of them is a
/// control character or changes the direction of the text around it.
fn is_label(text: &str, min: usize, max: usize) -> bool {
    let is_bidi = |c: char| {
        let ranges = ['\u{61C}'..='\u{61C}', '\u{200E}'..='\u{200F}', '\u{202A}'..='\u{202E}'];
        ranges.iter().any(|range| range.contains(&c)) || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    (min..=max).contains(&text.chars().count())
        && !text.chars().any(|c| c.is_control() || is_bidi(c))
}

fn field(body: &[u8], name: &str) -> String {
    let body: Value = serde_json::from_slice(body).expect("a response is JSON");
    body[name].as_str().expect("a field of that name").to_owned()
}
