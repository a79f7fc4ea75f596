//! Metrics: on a listener of their own, in Prometheus' text format, with the right numbers.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::client::{BINARY, FIN, Http, chat, delete, frame, get, patch, post, request, upgrade};
use crate::server::{Server, run, wait_until};

/// One time series.
#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether any label has this value, ignoring case.
    fn has_value(&self, value: &str) -> bool {
        self.labels.iter().any(|(_, other)| other.eq_ignore_ascii_case(value))
    }
}

#[derive(Clone, Debug)]
struct Family {
    name: String,
    kind: String,
    samples: Vec<Sample>,
}

impl Family {
    fn sum(&self) -> f64 {
        self.samples.iter().map(|sample| sample.value).sum()
    }
}

/// Whether the format allows this as a name.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

/// Parses `name="value",…}`. Returns the labels and the rest after the brace.
fn parse_labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return (labels, after);
        }
        let (name, quoted) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name:?}");
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in quoted.char_indices() {
            match (escaped, c) {
                (false, '\\') => escaped = true,
                (false, '"') => {
                    end = Some(at + 1);
                    break;
                }
                (true, 'n') => (escaped, value) = (false, value + "\n"),
                (_, c) => {
                    assert!(!escaped || matches!(c, '\\' | '"'), "\\{c}");
                    escaped = false;
                    value.push(c);
                }
            }
        }
        labels.push((name.to_owned(), value));
        rest = &quoted[end.expect("a closing quote")..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn parse_sample(line: &str) -> Sample {
    let at = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, rest) = line.split_at(at);
    assert!(is_name(name), "{line}");
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest),
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().unwrap_or_else(|| panic!("no value: {line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    Sample { name: name.to_owned(), labels, value }
}

/// Parses the text format, version 0.0.4. Every family must have a type.
fn parse(text: &str) -> Vec<Family> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut families: Vec<Family> = Vec::new();
    let mut seen = HashSet::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(comment) = line.strip_prefix("# TYPE ") {
            let (name, kind) = comment.split_once(' ').expect("a name and a type");
            assert!(is_name(name), "{line}");
            let kinds = ["counter", "gauge", "histogram", "summary", "untyped"];
            assert!(kinds.contains(&kind), "{line}");
            assert!(families.iter().all(|family| family.name != name), "{name} has two types");
            let (name, kind) = (name.to_owned(), kind.to_owned());
            families.push(Family { name, kind, samples: Vec::new() });
        } else if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(
                help.split_once(' ').is_some_and(|(name, text)| is_name(name) && !text.is_empty())
            );
        } else if !line.starts_with('#') {
            let sample = parse_sample(line);
            let key = format!("{} {:?}", sample.name, sample.labels);
            assert!(seen.insert(key), "repeated: {line}");
            let family = families.last_mut().expect("a type before the first sample");
            let suffix = sample.name.strip_prefix(&family.name);
            let parts = ["_bucket", "_sum", "_count"];
            let fits = suffix.is_some_and(|suffix| match family.kind.as_str() {
                "histogram" => parts.contains(&suffix),
                _ => suffix.is_empty(),
            });
            assert!(fits, "{line} within {}", family.name);
            assert!(family.kind != "counter" || sample.value >= 0.0, "{line}");
            family.samples.push(sample);
        }
    }
    families
}

fn scrape(server: &Server) -> Vec<Family> {
    parse(&server.metrics())
}

/// The families of this kind whose name contains `word`. There must be at least one.
#[track_caller]
fn named<'a>(families: &'a [Family], kind: &str, word: &str) -> Vec<&'a Family> {
    let found = families.iter().filter(|one| one.kind == kind && one.name.contains(word));
    let found: Vec<&Family> = found.collect();
    let names: Vec<&String> = families.iter().map(|family| &family.name).collect();
    assert!(!found.is_empty(), "no {kind} named {word} in {names:?}");
    found
}

/// Asserts that a gauge with `word` in its name has this value, whatever its labels.
#[track_caller]
fn gauge_is(families: &[Family], word: &str, value: f64) {
    let found = named(families, "gauge", word);
    let mut samples = found.iter().flat_map(|family| &family.samples);
    assert!(samples.any(|sample| sample.value == value), "no {word} is {value}: {found:?}");
}

/// The largest growth of any counter with `word` in its name.
#[track_caller]
fn growth(before: &[Family], after: &[Family], word: &str) -> f64 {
    let grown = named(after, "counter", word).into_iter().map(|family| {
        let old = before.iter().find(|one| one.name == family.name).map_or(0.0, Family::sum);
        assert!(family.sum() >= old, "{} has decreased", family.name);
        family.sum() - old
    });
    grown.fold(0.0, f64::max)
}

/// The sum of the counters with `word` in their name that have a label of this value.
#[track_caller]
fn count_of(families: &[Family], word: &str, value: &str) -> f64 {
    let found = named(families, "counter", word);
    let samples = found.iter().flat_map(|family| &family.samples);
    samples.filter(|sample| sample.has_value(value)).map(|sample| sample.value).sum()
}

// The listener.

// contract §11.5 §12.24
#[test]
fn metrics_are_on_their_own_listener_only() {
    let server = Server::start_with_metrics(&[]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    server.ask(get("/metrics")).refused(404, "not_found");
    server.ask(get("/metrics/")).refused(404, "not_found");
    server.ask(get("/metrics").session(&ana)).refused(404, "not_found");
    let mut metrics = Http::connect(&server.addresses[1]);
    let others = [
        get("/"),
        get("/health"),
        get("/ping"),
        get("/docs"),
        get("/rooms/all"),
        get(&format!("/rooms/{room}")),
        get("/rooms").session(&ana),
        post("/rooms").session(&ana),
        post("/sessions").json(&json!({"username": "bob"})),
        upgrade(&format!("/ws/{room}?session_id={ana}")),
        get("/metric"),
        get("/metrics/x"),
    ];
    for other in others {
        metrics.ask(&other).refused(404, "not_found");
        metrics = Http::connect(&server.addresses[1]);
    }
    for target in ["/metrics", "/metrics/", "/metrics?x=y"] {
        let answer = metrics.ask(&get(target)).expect(200);
        let kind = answer.field("Content-Type").expect("a type").to_owned();
        assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
        assert!(!parse(&answer.text()).is_empty());
        let head = metrics.ask(&request("HEAD", target)).expect(200);
        assert_eq!(head.field("Content-Type"), Some(kind.as_str()));
    }
    let answer = metrics.ask(&post("/metrics")).refused(405, "method_not_allowed");
    assert!(answer.lists("Allow", "GET"));
}

// contract §11.5 §12.24
#[test]
fn without_metrics_listen_there_are_no_metrics() {
    let server = Server::start(&[]);
    assert_eq!(server.addresses.len(), 1);
    server.ask(get("/metrics")).refused(404, "not_found");
}

// contract §12.1 §12.7
#[test]
fn metrics_listen_has_a_variable_and_takes_an_address() {
    let env = [("CHAT_METRICS_LISTEN", "127.0.0.1:0"), ("CHAT_LISTEN", "127.0.0.1:0")];
    let server = Server::spawn(crate::server::command(&["--log", "off"], &env), 2);
    let statuses =
        [0, 1].map(|at| Http::connect(&server.addresses[at]).ask(&get("/metrics")).status);
    assert!(statuses == [200, 404] || statuses == [404, 200], "{statuses:?}");
    for bad in ["nowhere.example:80", "127.0.0.1", "127.0.0.1:99999", ""] {
        let ended = run(&["--metrics-listen", bad], &[]);
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended:?}");
    }
}

#[test]
fn a_full_server_still_serves_its_metrics() {
    let server = Server::start_with_metrics(&["--max-connections", "1"]);
    let mut held = Vec::new();
    wait_until("the only connection is open", || {
        held.clear();
        let mut http = server.http();
        let _ = http.try_send(get("/ping").bytes("a"));
        let taken = http.answer().status == 200;
        held.push(http);
        taken
    });
    server.ask(get("/ping")).refused(503, "server_full");
    Http::connect(&server.addresses[1]).ask(&get("/metrics")).expect(200);
}

// The numbers.

#[test]
fn messages_connections_refusals_and_closes_are_counted() {
    let server = Server::start_with_metrics(&["--message-burst", "20"]);
    let before = scrape(&server);
    let (room, mut ana, mut bob) = server.room_of_two();
    for number in 0..5 {
        ana.chat(&number.to_string());
        ana.expect_chat("ana", &number.to_string());
        bob.expect_chat("ana", &number.to_string());
    }
    let present = scrape(&server);
    gauge_is(&present, "sessions", 2.0);
    gauge_is(&present, "rooms", 1.0);
    gauge_is(&present, "members", 2.0);
    // Connections by protocol: the two WebSockets in the room.
    let connections = named(&present, "gauge", "connections");
    let mut samples = connections.iter().flat_map(|family| &family.samples);
    let socket = |sample: &Sample| {
        let mut values = sample.labels.iter().map(|(_, value)| value.to_ascii_lowercase());
        values.any(|value| value == "ws" || value.contains("websocket"))
    };
    assert!(samples.any(|sample| socket(sample) && sample.value == 2.0), "{connections:?}");
    let messages = growth(&before, &present, "messages");
    assert!((5.0..=10.0).contains(&messages), "{messages} messages");
    let deliveries = growth(&before, &present, "deliver");
    assert!(deliveries >= 10.0, "{deliveries} deliveries");
    assert!(growth(&before, &present, "bytes") >= 500.0);
    // The current value and the maximum.
    let outbox = named(&present, "gauge", "outbox");
    assert!(outbox.iter().map(|family| family.samples.len()).sum::<usize>() >= 2, "{outbox:?}");
    assert!(outbox.iter().any(|family| family.sum() > 0.0), "{outbox:?}");
    let memory = named(&present, "gauge", "memory");
    assert!(memory.iter().any(|family| family.sum() > 0.0), "{memory:?}");
    let timers = named(&present, "gauge", "timers");
    assert!(timers.iter().any(|family| family.sum() >= 2.0), "{timers:?}");
    // Refusals by reason, closes by code.
    ana.text(r#"{"type":"chat","message":" "}"#);
    ana.expect_refused("empty_message");
    ana.text("nope");
    ana.expect_refused("bad_json");
    ana.send((0..30).flat_map(|_| chat("flood")).collect::<Vec<u8>>());
    while ana.event()["type"] != "refused" {}
    let outsider = server.session("eve");
    server.socket("0000000000", &outsider).expect_close(4404, "room not found");
    bob.send(frame(FIN | BINARY, "x"));
    while bob.frame().opcode != crate::client::CLOSE {}
    drop(bob);
    let mut refused = Vec::new();
    wait_until("both closes are counted", || {
        refused = scrape(&server);
        count_of(&refused, "clos", "1003") == 1.0 && count_of(&refused, "clos", "4404") == 1.0
    });
    assert_eq!(count_of(&refused, "refused", "empty_message"), 1.0);
    assert_eq!(count_of(&refused, "refused", "bad_json"), 1.0);
    assert!(count_of(&refused, "refused", "rate_limited") >= 1.0);
    assert_eq!(count_of(&refused, "refused", "too_long"), 0.0);
    // When the room ends, the gauges fall.
    server.ask(delete(&format!("/rooms/{room}")).session(&ana.session)).expect(200);
    wait_until("the gauges fall", || {
        let gone = scrape(&server);
        let is = |word: &str, value: f64| {
            let families = named(&gone, "gauge", word);
            families.iter().any(|family| family.sum() == value)
        };
        is("rooms", 0.0) && is("members", 0.0) && is("sessions", 3.0)
    });
}

/// All codes but `internal_error`, `shutting_down` and `unavailable`.
// contract §1.3 §1.5
#[test]
fn every_refusal_is_counted_by_its_code() {
    let server = Server::start_with_metrics(&[
        "--cors-origin",
        "https://a.example",
        "--body-timeout",
        "1s",
        "--max-rooms",
        "203",
        "--trusted-proxy",
        "127.0.0.1",
        "--address-sessions",
        "1",
    ]);
    let [ana, namesake, carl] = ["ana", "Ana", "carl"].map(|name| server.session(name));
    let room = server.room(&ana);
    let locked = server.room_with(&ana, &json!({"password": "sesame", "encrypted": true}));
    let mut inside = server.enter_as(&room, "ana", &ana);
    server.join(&room, &namesake);
    let eve = server.session("eve");
    let joined = server.ask(post(&format!("/rooms/{room}/join")).session(&eve)).expect(200);
    let ban = format!("/rooms/{room}/users/{}?ban=600", joined.string("user_id"));
    server.ask(delete(&ban).session(&ana)).expect(200);
    let change = |changes: &Value| patch(&format!("/rooms/{room}")).session(&ana).json(changes);
    server.ask(change(&json!({"locked": true}))).expect(200);
    inside.expect_change();
    inside.chat("hello");
    let hello = inside.expect_chat("ana", "hello");
    let erase = |id: &str| delete(&format!("/rooms/{room}/messages/{id}"));
    let hello = erase(hello["id"].as_str().unwrap());
    let mut opener = server.http();
    let rooms: Vec<_> = (0..200).map(|_| post("/rooms").session(&carl)).collect();
    opener.pipeline(&rooms).into_iter().for_each(|answer| _ = answer.expect(201));

    let dan = json!({"username": "dan"});
    let dan = post("/sessions").json(&dan).field("X-Forwarded-For", "203.0.113.7");
    server.ask(dan.clone()).expect(201);
    let messages = format!("/rooms/{room}/messages");
    let say = |text: &str| post(&messages).json(&json!({"message": text}));
    let socket = format!("/ws/{room}?session_id={ana}");
    let mut guesses = vec![("bad_password", 403); 5];
    guesses.push(("rate_limited", 429));
    let guess = post(&format!("/rooms/{locked}/join")).session(&carl);
    let guess = guess.json(&json!({"password": "x"}));
    let guesses = guesses.into_iter().map(|(code, status)| (code, status, guess.clone()));
    let requests = [
        ("bad_request", 400, get("/ping").field("Host", "two words")),
        ("bad_username", 400, post("/sessions").json(&json!({"username": "x"}))),
        ("missing_session", 401, get("/rooms")),
        ("invalid_session", 401, get("/rooms").session("nobody")),
        ("bad_origin", 403, upgrade(&socket).field("Origin", "https://b.example")),
        ("not_a_member", 403, say("hello").session(&carl)),
        ("not_the_owner", 403, delete(&format!("/rooms/{room}")).session(&carl)),
        ("banned", 403, get(&messages).session(&eve)),
        ("room_locked", 403, get(&messages).session(&carl)),
        ("not_found", 404, get("/nowhere")),
        ("not_the_author", 403, hello.session(&carl)),
        ("message_not_found", 404, erase("nothing").session(&ana)),
        ("user_not_found", 404, change(&json!({"owner": "nobody"}))),
        ("room_not_found", 404, get("/rooms/0000000000")),
        ("method_not_allowed", 405, delete("/rooms")),
        ("not_acceptable", 406, get(&format!("/rooms/{room}/events")).field("Accept", "text/html")),
        ("timeout", 408, post("/sessions").field("Content-Length", "10")),
        ("name_taken", 409, say("hello").session(&namesake)),
        ("body_too_large", 413, post("/sessions").field("Content-Length", "65537")),
        ("target_too_long", 414, get(&format!("/{}", "x".repeat(8192)))),
        ("bad_body", 422, post("/sessions").json(&json!({}))),
        ("bad_query", 422, get(&format!("{messages}?limit=0")).session(&ana)),
        (
            "not_encrypted",
            422,
            post(&format!("/rooms/{locked}/messages"))
                .session(&ana)
                .json(&json!({"message": "x", "nonce": "n"})),
        ),
        ("upgrade_required", 426, get(&socket)),
        ("too_many_rooms", 429, post("/rooms").session(&carl)),
        ("too_many_sessions", 429, dan),
        (
            "unsupported_transfer_coding",
            501,
            post("/sessions").field("Transfer-Encoding", "gzip, chunked"),
        ),
        ("headers_too_large", 431, get("/ping").field("X", &"x".repeat(16 * 1024))),
    ];
    let mut expected = Vec::new();
    for (code, status, request) in requests.into_iter().chain(guesses) {
        server.ask(request).refused(status, code);
        expected.push(code);
    }
    server.room(&ana);
    server.ask(post("/rooms").session(&ana)).refused(503, "server_full");
    expected.push("server_full");
    let long = format!(r#"{{"type":"chat","message":"{}"}}"#, "x".repeat(4001));
    let events = [
        ("bad_json", "nope"),
        ("bad_type", r#"{"type":"shout"}"#),
        ("bad_message", r#"{"type":"chat"}"#),
        ("bad_nonce", r#"{"type":"chat","message":"hello","nonce":1}"#),
        ("empty_message", r#"{"type":"chat","message":" "}"#),
        ("too_long", &long),
    ];
    for (code, event) in events {
        inside.text(event);
        inside.expect_refused(code);
        expected.push(code);
    }

    let families = scrape(&server);
    let family = families.iter().find(|family| family.name == "chat_refused_total");
    let samples = &family.expect("refusals").samples;
    for sample in samples {
        let code = sample.label("code").expect("a code");
        let count = expected.iter().filter(|other| **other == code).count();
        assert_eq!(sample.value, count as f64, "{code}");
        let never = ["internal_error", "shutting_down", "unavailable"];
        assert_eq!(count == 0, never.contains(&code), "{code}");
    }
    assert_eq!(samples.len(), 40, "the number of codes");
}

#[test]
fn ticks_are_a_histogram() {
    let server = Server::start_with_metrics(&[]);
    let count = || {
        let families = scrape(&server);
        let ticks = named(&families, "histogram", "tick");
        let family = ticks[0];
        let buckets = family.samples.iter().filter(|sample| sample.name.ends_with("_bucket"));
        let buckets: Vec<(f64, f64)> = buckets
            .map(|sample| {
                let bound = sample.label("le").expect("le").parse().expect("a bound");
                (bound, sample.value)
            })
            .collect();
        assert!(buckets.len() > 2, "{family:?}");
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        let of = |suffix: &str| {
            let sample = family.samples.iter().find(|sample| sample.name.ends_with(suffix));
            sample.unwrap_or_else(|| panic!("no {suffix}: {family:?}")).value
        };
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, of("_count"))));
        // The unit is the second: the ticks of an idle server are short.
        assert!(of("_sum") >= 0.0 && of("_sum") < 10.0, "{family:?}");
        of("_count")
    };
    let before = count();
    assert!(before > 0.0);
    server.ask(get("/health")).expect(200);
    assert!(count() > before);
}

#[test]
fn metrics_contain_no_names_texts_or_ids() {
    let server = Server::start_with_metrics(&[]);
    let session = server.session("Zaphod");
    let body = json!({"password": "marzipan", "title": "Milliways"});
    let hidden = server.room_with(&session, &body);
    let public = server.room_with(&session, &json!({"title": "Milliways"}));
    let mut inside = server.enter_as(&hidden, "Zaphod", &session);
    inside.chat("gooseberry");
    let said = inside.expect_chat("Zaphod", "gooseberry");
    let text = server.metrics();
    let id = said["id"].as_str().expect("an id");
    let known = [&session, &hidden, &public, &inside.user_id, "Zaphod", "marzipan"];
    for word in known.into_iter().chain(["Milliways", "gooseberry", id]) {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

/// A test of the parser of these tests: if it parsed nothing, no other test here would mean anything.
#[test]
fn the_parser_reads_the_format() {
    let text = "# HELP a_total What a is.\n# TYPE a_total counter\n\
        a_total{x=\"1\",y=\"q\\\"\\\\\\n\"} 1.5e3\na_total 2 1395066363000\n\
        # TYPE h histogram\nh_bucket{le=\"0.1\",} 0\nh_bucket{le=\"+Inf\"} 1\nh_sum 3\nh_count 1\n";
    let families = parse(text);
    assert_eq!(families.len(), 2);
    assert_eq!((families[0].sum(), families[0].samples[0].label("y")), (1502.0, Some("q\"\\\n")));
    assert_eq!(count_of(&families, "a_", "1"), 1500.0);
    assert_eq!(families[1].samples.len(), 4);
    assert_eq!(families[1].samples[1].label("le").map(str::parse), Some(Ok(f64::INFINITY)));
}
