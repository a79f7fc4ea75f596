//! Private rooms, rooms with a password, and who guesses at it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Answer, Http, Request, Ws, delete, get, post};
use crate::server::{Server, command, wait_until};

fn join(room: &str, session: &str) -> Request {
    post(&format!("/rooms/{room}/join")).session(session)
}

fn guess(room: &str, session: &str, password: &str) -> Request {
    join(room, session).json(&json!({"password": password}))
}

fn leave(room: &str, session: &str) -> Request {
    delete(&format!("/rooms/{room}/leave")).session(session)
}

fn found(server: &Server, room: &str) -> Value {
    server.ask(get(&format!("/rooms/{room}"))).expect(200).json()
}

#[track_caller]
fn is_a_private_id(room: &str) {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    assert!(room.len() == 32 && room.bytes().all(hex), "{room}");
}

/// It is in no list; its members know it.
#[track_caller]
fn is_hidden(server: &Server, room: &str, member: &str) {
    for target in ["/rooms/all", "/rooms/all?detail=true", "/health"] {
        let text = server.ask(get(target).session(member)).expect(200).text();
        assert!(!text.contains(room), "{target}: {text}");
    }
    let rooms = server.ask(get("/rooms").session(member)).expect(200).json();
    assert!(rooms["rooms"].as_array().expect("rooms").contains(&json!(room)));
    let me = server.ask(get("/sessions/me").session(member)).expect(200).json();
    assert_eq!(me["joined_rooms"], rooms["rooms"]);
}

// Private rooms.

// contract §1.13 §10.1 §10.3 §10.4
#[test]
fn whoever_has_the_link_has_a_private_room() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let answer = server.ask(post("/rooms").session(&ana).json(&json!({"private": true})));
    let answer = answer.expect(201);
    let room = answer.json()["room_id"].as_str().expect("an id").to_owned();
    is_a_private_id(&room);
    assert!(answer.field("Location").is_some_and(|location| location.ends_with(&room)));
    is_hidden(&server, &room, &ana);
    let shown = found(&server, &room);
    let expected = json!({"room_id": room, "exists": true, "user_count": 0, "title": null,
        "private": true, "password": false});
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(shown.get(name), Some(value), "{name} of {shown}");
    }
    let mut inside = server.enter_as(&room, "ana", &ana);
    let mut guest = server.enter_as(&room, "bob", &bob);
    inside.expect_join("bob");
    guest.chat("found you");
    inside.expect_chat("bob", "found you");
    let stranger = server.session("eve");
    assert_eq!(server.messages(&room, &stranger).len(), 3);
    assert_eq!(found(&server, &room)["user_count"], 2);
    is_hidden(&server, &room, &bob);
}

// contract §1.7 §10.1 §10.4
#[test]
fn private_is_a_boolean_and_goes_with_a_title() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    for bad in [json!("true"), json!(1), json!([]), json!({})] {
        let request = post("/rooms").session(&ana).json(&json!({"private": bad}));
        server.ask(request).refused(422, "bad_body");
    }
    let room = server.room_with(&ana, &json!({"private": true, "title": "Attic"}));
    let shown = found(&server, &room);
    assert_eq!((&shown["title"], &shown["private"]), (&json!("Attic"), &json!(true)));
    let public = server.room_with(&ana, &json!({"private": false}));
    assert_eq!((public.len(), &found(&server, &public)["private"]), (10, &json!(false)));
    let listed = server.ask(get("/rooms/all")).expect(200).json();
    assert_eq!(listed["rooms"], json!([public]));
}

/// The same bytes, but for `Date`.
#[track_caller]
fn alike(one: &Answer, other: &Answer, what: &str) {
    let plain = |answer: &Answer| {
        let mut answer = answer.clone();
        answer.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
        answer
    };
    assert_eq!(plain(one), plain(other), "{what}");
}

// contract §1.13
#[test]
fn a_wrong_id_and_no_room_answer_alike() {
    let server = Server::start(&[]);
    let (ana, eve) = (server.session("ana"), server.session("eve"));
    let hidden = server.room_with(&ana, &json!({"private": true}));
    let locked = server.room_with(&ana, &json!({"password": "x"}));
    let gone = server.room_with(&ana, &json!({"password": "x"}));
    server.ask(delete(&format!("/rooms/{gone}")).session(&ana)).expect(200);
    let close_to = |id: &str| {
        let last = if id.ends_with('0') { "1" } else { "0" };
        format!("{}{last}", &id[..id.len() - 1])
    };
    let mut wrong = vec![close_to(&hidden), close_to(&locked), gone];
    wrong.extend([hidden[..10].to_owned(), locked[..10].to_owned(), hidden[22..].to_owned()]);
    wrong.extend([hidden[..31].to_owned(), format!("{locked}0"), hidden.to_uppercase()]);
    wrong.extend(["00000000000000000000000000000000".to_owned(), "nonsense".to_owned()]);
    // Nobody knows of an id without letters.
    wrong.retain(|id| *id != hidden);
    let doors = |room: &str| {
        let at = |door: &str| format!("/rooms/{room}{door}");
        [
            get(&at("")),
            get(&at("")).session(&eve),
            join(room, &eve),
            guess(room, &eve, "x"),
            get(&at("/messages")).session(&eve),
            get(&at("/messages?after=x&limit=5")).session(&eve),
            post(&at("/messages")).session(&eve).json(&json!({"message": "x"})),
            get(&at("/users")).session(&eve),
            delete(&at("")).session(&eve),
            get(&at("/users")),
            join(room, "nonsense"),
            join(room, &eve).body("nope"),
            get(&at("/messages?limit=0")).session(&eve),
        ]
    };
    let mut http = server.http();
    let nowhere: Vec<Answer> = doors("0000000000").iter().map(|door| http.ask(door)).collect();
    for id in &wrong {
        for (door, expected) in doors(id).iter().zip(&nowhere) {
            alike(&http.ask(door), expected, &format!("{door:?}"));
        }
        for query in ["", "history=10", "after=x"] {
            let socket = server.socket_with(id, &eve, query);
            socket.expect_close(4404, "room not found");
        }
    }
    // No number of wrong ids is a guess at a password.
    for _ in 0..20 {
        http.ask(&guess(&wrong[1], &eve, "x")).refused(404, "room_not_found");
    }
    http.ask(&guess(&locked, &eve, "x")).expect(200);
}

// Passwords.

// contract §10.3 §10.5
#[test]
fn a_password_makes_a_room_private() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let body = json!({"password": "open sesame", "title": "Cave"});
    let room = server.room_with(&ana, &body);
    is_a_private_id(&room);
    is_hidden(&server, &room, &ana);
    let shown = found(&server, &room);
    assert_eq!((&shown["private"], &shown["password"]), (&json!(true), &json!(true)));
    assert_eq!((&shown["title"], &shown["user_count"]), (&json!("Cave"), &json!(0)));
    assert!(!shown.to_string().contains("sesame"));
}

// contract §1.7 §10.5
#[test]
fn a_password_has_1_to_128_bytes() {
    let server = Server::start(&[]);
    let (ana, eve) = (server.session("ana"), server.session("eve"));
    let good = ["x", &"x".repeat(128), &"é".repeat(64), &"\u{1f642}".repeat(32), " ", "\u{0}\n\""];
    for password in good {
        let room = server.room_with(&ana, &json!({"password": password}));
        server.join_with(&room, &eve, password);
    }
    let bad = [
        json!(""),
        json!("x".repeat(129)),
        json!("é".repeat(65)),
        json!("\u{1f642}".repeat(33)),
        json!(1),
        json!(true),
        json!(["x"]),
        json!({"x": 1}),
    ];
    let room = server.room_with(&ana, &json!({"password": "x"}));
    let stranger = server.session("carl");
    for password in bad {
        let body = json!({"password": password});
        server.ask(post("/rooms").session(&ana).json(&body)).refused(422, "bad_body");
        server.ask(join(&room, &stranger).json(&body)).refused(422, "bad_body");
        // The body is asked about before the room.
        server.ask(join("0000000000", &stranger).json(&body)).refused(422, "bad_body");
    }
    let surrogate = r#"{"password":"\ud800"}"#;
    server.ask(post("/rooms").session(&ana).body(surrogate)).refused(422, "bad_body");
    server.ask(join(&room, &stranger).body(surrogate)).refused(422, "bad_body");
}

// contract §10.5
#[test]
fn joining_needs_the_password() {
    let server = Server::start(&["--guess-rate", "0"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "Öffne dich"}));
    let longer = "Öffne dich".to_owned() + "\u{0}";
    for wrong in ["x", "öffne dich", "Öffne dic", "O\u{308}ffne dich", &longer, &"x".repeat(128)]
    {
        server.ask(guess(&room, &bob, wrong)).refused(403, "bad_password");
    }
    for none in [join(&room, &bob), join(&room, &bob).body(""), join(&room, &bob).body("{}")] {
        server.ask(none).refused(403, "bad_password");
    }
    assert_eq!(server.ask(get("/rooms").session(&bob)).expect(200).json()["rooms"], json!([]));
    let answer = server.ask(guess(&room, &bob, "Öffne dich")).expect(200).json();
    assert_eq!(answer["message"], format!("Joined room {room}"));
    assert_eq!(answer["room_id"], json!(room));
    let mut inside = server.enter_as(&room, "bob", &bob);
    inside.chat("in");
    inside.expect_chat("bob", "in");
    // Where none is needed, none is asked for.
    for body in [json!({}), json!({"private": true})] {
        server.ask(guess(&server.room_with(&ana, &body), &bob, "any")).expect(200);
    }
}

// contract §7.11 §10.5
#[test]
fn without_having_joined_all_other_doors_are_closed() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room_with(&ana, &json!({"password": "x"}));
    let mut inside = server.enter_as(&room, "ana", &ana);
    inside.chat("secret");
    let said = inside.expect_chat("ana", "secret");
    let eve = server.session("eve");
    let after = format!("after={}", said["id"].as_str().expect("an id"));
    for query in ["", "history=1000", &after, "password=x"] {
        server.socket_with(&room, &eve, query).expect_close(4403, "not a member");
    }
    let at = |door: &str| format!("/rooms/{room}/{door}");
    let doors = [
        get(&at("messages")),
        get(&at(&format!("messages?{after}"))),
        get(&at("users")),
        post(&at("messages")).json(&json!({"message": "x"})),
    ];
    for door in &doors {
        let answer = server.ask(door.clone().session(&eve)).refused(403, "not_a_member");
        assert!(!answer.text().contains("secret"));
    }
    // An open room's door may be slammed; this one's name is not even asked about.
    let other = server.session("ana");
    server.socket(&room, &other).expect_close(4403, "not a member");
    inside.expect_nothing();
    server.join_with(&room, &eve, "x");
    for door in doors {
        assert!(server.ask(door.session(&eve)).status < 300);
    }
    inside.expect_chat("eve", "x");
    server.enter_as(&room, "eve", &eve);
}

// contract §10.9
#[test]
fn members_are_never_asked_again() {
    let server = Server::start(&["--leave-grace", "100ms"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "x"}));
    let mut inside = server.enter_as(&room, "ana", &ana);
    server.join_with(&room, &bob, "x");
    let reopens = |inside: &mut Ws| {
        server.ask(join(&room, &bob)).expect(200);
        server.ask(get(&format!("/rooms/{room}/messages")).session(&bob)).expect(200);
        let socket = server.enter_as(&room, "bob", &bob);
        inside.expect_join("bob");
        socket
    };
    reopens(&mut inside).close();
    inside.expect_left("bob");
    reopens(&mut inside).reset();
    inside.expect_left("bob");
    // Whatever a member says is no guess, wrong or not.
    for _ in 0..10 {
        server.ask(guess(&room, &bob, "wrong")).expect(200);
    }
    let eve = server.session("eve");
    server.ask(guess(&room, &eve, "x")).expect(200);
}

// contract §10.5
#[test]
fn who_leaves_is_a_stranger_again() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "x"}));
    // The owner no less than a member.
    for (name, session) in [("bob", &bob), ("ana", &ana)] {
        server.join_with(&room, session, "x");
        let inside = server.enter_as(&room, name, session);
        server.ask(leave(&room, session)).expect(200);
        inside.expect_close(1000, "left room");
        server.socket(&room, session).expect_close(4403, "not a member");
        let messages = get(&format!("/rooms/{room}/messages")).session(session);
        server.ask(messages.clone()).refused(403, "not_a_member");
        server.ask(join(&room, session)).refused(403, "bad_password");
        server.join_with(&room, session, "x");
        server.ask(messages).expect(200);
    }
}

// contract §1.12 §10.6
#[test]
fn a_password_is_never_logged_or_shown() {
    for level in ["info", "debug"] {
        let mut server = Server::start(&["--log", level]);
        let (ana, bob) = (server.session("ana"), server.session("bob"));
        let room = server.room_with(&ana, &json!({"password": "mellon", "title": "Moria"}));
        let refused = server.ask(guess(&room, &bob, "friend")).refused(403, "bad_password");
        assert!(!refused.text().contains("mellon") && !refused.text().contains("friend"));
        let joined = server.ask(guess(&room, &bob, "mellon")).expect(200);
        let inside = server.enter_as(&room, "bob", &bob);
        let list = server.ask(get("/sessions/me").session(&bob)).expect(200);
        for answer in [joined, list, server.ask(get(&format!("/rooms/{room}")))] {
            assert!(!answer.text().contains("mellon"), "{answer:?}");
        }
        drop(inside);
        server.terminate();
        assert!(server.wait().success());
        let log = server.stderr_to_the_end().join("\n");
        for secret in ["mellon", "friend", "Moria", &ana, &bob] {
            assert!(!log.contains(secret), "{secret} in the log:\n{log}");
        }
    }
}

// Guesses.

fn forwarded(request: Request, address: &str) -> Request {
    request.field("X-Forwarded-For", address)
}

/// The five of a burst are looked at, and no more, not even the right one.
#[track_caller]
fn runs_out_of_guesses(ask: impl Fn(&str) -> Answer) {
    for number in 0..5 {
        ask(&format!("wrong {number}")).refused(403, "bad_password");
    }
    is_out_of_guesses(ask);
}

#[track_caller]
fn is_out_of_guesses(ask: impl Fn(&str) -> Answer) {
    for password in ["wrong again", "right"] {
        let late = ask(password).refused(429, "rate_limited");
        let wait: u32 = late.field("Retry-After").and_then(|s| s.parse().ok()).expect("a number");
        assert!((1..=10).contains(&wait), "six a minute, one in ten seconds: {wait}");
    }
}

// contract §1.11 §10.7 §10.8 §12.17
#[test]
fn wrong_guesses_have_a_rate_in_each_room() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let (one, other) = (
        server.room_with(&ana, &json!({"password": "right"})),
        server.room_with(&ana, &json!({"password": "right"})),
    );
    let (bob, carl) = (server.session("bob"), server.session("carl"));
    runs_out_of_guesses(|password| server.ask(guess(&one, &bob, password)));
    // Another session is no other address.
    is_out_of_guesses(|password| server.ask(guess(&one, &carl, password)));
    // Who says nothing guesses nothing, and who is in stays in.
    server.ask(join(&one, &bob)).refused(403, "bad_password");
    server.ask(join(&one, &ana)).expect(200);
    server.ask(guess(&one, &ana, "wrong")).expect(200);
    server.enter_as(&one, "ana", &ana);
    // What is wrong anyway is told first.
    server.ask(guess(&one, &bob, "")).refused(422, "bad_body");
    server.ask(guess("0000000000", &bob, "right")).refused(404, "room_not_found");
    // Another room is another matter.
    runs_out_of_guesses(|password| server.ask(guess(&other, &bob, password)));
}

// contract §10.7
#[test]
fn wrong_guesses_have_a_rate_for_each_address() {
    let server = Server::start(&["--trusted-proxy", "127.0.0.0/8"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "right"}));
    let from = |address: &'static str| {
        let (server, room, bob) = (&server, &room, &bob);
        move |password: &str| server.ask(forwarded(guess(room, bob, password), address))
    };
    runs_out_of_guesses(from("203.0.113.7"));
    runs_out_of_guesses(from("203.0.113.8"));
    is_out_of_guesses(from("198.51.100.1, 203.0.113.7"));
    // The proxy itself is one address more.
    runs_out_of_guesses(|password| server.ask(guess(&room, &bob, password)));
    is_out_of_guesses(from("203.0.113.8"));
    from("203.0.113.9")("right").expect(200);
}

// contract §10.7
#[test]
fn all_exempt_peers_guess_as_one_address() {
    let folder = std::env::temp_dir().join(format!("chat-guess-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("socket");
    let unix = format!("unix:{}", path.display());
    let flags = ["--listen", "127.0.0.1:0", "--listen", &unix];
    let server = Server::spawn(command(&flags, &[]), 2);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "right"}));
    let over = |listener: usize| {
        let (server, room, bob) = (&server, &room, &bob);
        move |password: &str| {
            Http::connect(&server.addresses[listener]).ask(&guess(room, bob, password))
        }
    };
    for (number, listener) in [0, 1, 1, 0, 1].into_iter().enumerate() {
        over(listener)(&format!("wrong {number}")).refused(403, "bad_password");
    }
    is_out_of_guesses(over(0));
    is_out_of_guesses(over(1));
    // Nobody is trusted here, so whatever a peer forwards changes nothing.
    server.ask(forwarded(guess(&room, &bob, "right"), "203.0.113.7")).refused(429, "rate_limited");
    drop(server);
    let _ = std::fs::remove_dir_all(folder);
}

// contract §10.9
#[test]
fn only_wrong_passwords_are_counted() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room_with(&ana, &json!({"password": "right"}));
    for number in 0..10 {
        let session = server.session(&format!("guest {number}"));
        server.ask(join(&room, &session)).refused(403, "bad_password");
        server.join_with(&room, &session, "right");
        server.socket(&room, &server.session("stranger")).expect_close(4403, "not a member");
    }
    let eve = server.session("eve");
    runs_out_of_guesses(|password| server.ask(guess(&room, &eve, password)));
}

// contract §12.17
#[test]
fn one_may_guess_again_later() {
    let server = Server::start(&["--guess-rate", "60"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "right"}));
    let burst: Vec<Request> = (0..10).map(|n| guess(&room, &bob, &n.to_string())).collect();
    let answers = server.http().pipeline(&burst);
    assert!(answers[..5].iter().all(|answer| answer.status == 403));
    assert!(answers.iter().any(|answer| answer.status == 429));
    wait_until("the right one is looked at", || {
        let answer = server.ask(guess(&room, &bob, "right"));
        assert!(matches!(answer.status, 200 | 429), "{answer:?}");
        answer.status == 200
    });
}

// contract §12.17
#[test]
fn a_guess_rate_of_nought_is_none() {
    let server = Server::start(&["--guess-rate", "0"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "right"}));
    let wrong = vec![guess(&room, &bob, "wrong"); 50];
    assert!(server.http().pipeline(&wrong).iter().all(|answer| answer.status == 403));
    server.join_with(&room, &bob, "right");
}

// Ten thousand guesses.

/// Ana says something, and both hear it: how long that took, again and again.
fn talk(ana: &mut Ws, bob: &mut Ws, first: usize, mut on: impl FnMut(usize) -> bool) -> Latencies {
    let mut times = Vec::new();
    while on(times.len()) {
        let text = (first + times.len()).to_string();
        let start = Instant::now();
        ana.chat(&text);
        bob.expect_chat("ana", &text);
        times.push(start.elapsed());
        ana.expect_chat("ana", &text);
    }
    times.sort();
    Latencies(times)
}

struct Latencies(Vec<Duration>);

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |part: usize| self.0[(self.0.len() - 1) * part / 100];
        let (count, half, most, all) = (self.0.len(), at(50), at(99), at(100));
        write!(f, "{count} chats: half within {half:?}, 99 % within {most:?}, all within {all:?}")
    }
}

/// Ten thousand wrong passwords from one address; how long the answers took.
fn ten_thousand_guesses(server: &Server, room: &str, session: &str) -> (Vec<Answer>, Duration) {
    let mut http = server.http();
    let start = Instant::now();
    let mut answers = Vec::with_capacity(10_000);
    for number in 0..100 {
        let batch = (0..100).map(|at| guess(room, session, &format!("wrong {number}/{at}")));
        answers.extend(http.pipeline(&batch.collect::<Vec<_>>()));
    }
    (answers, start.elapsed())
}

/// Under `SLOW_TESTS=1` it prints the figures, and lets each guess be looked at as well.
#[test]
fn ten_thousand_wrong_passwords_disturb_no_chat() {
    let slow = std::env::var_os("SLOW_TESTS").is_some();
    let rates: &[&str] = if slow { &["6", "0"] } else { &["6"] };
    for rate in rates {
        let server = Server::start(&["--message-rate", "0", "--guess-rate", rate]);
        let (owner, eve) = (server.session("owner"), server.session("eve"));
        let room = server.room_with(&owner, &json!({"password": "right"}));
        let (elsewhere, mut ana, mut bob) = server.room_of_two();
        let before = talk(&mut ana, &mut bob, 0, |said| said < 500);
        let over = AtomicBool::new(false);
        let (during, (answers, took)) = thread::scope(|scope| {
            let talking =
                scope.spawn(|| talk(&mut ana, &mut bob, 500, |_| !over.load(Ordering::Relaxed)));
            let guessed = ten_thousand_guesses(&server, &room, &eve);
            over.store(true, Ordering::Relaxed);
            (talking.join().expect("the chat goes on"), guessed)
        });
        let looked_at = answers.iter().filter(|answer| answer.status == 403).count();
        let refused = answers.iter().filter(|answer| answer.status == 429).count();
        assert_eq!(looked_at + refused, 10_000);
        if *rate == "6" {
            let most = 6 + took.as_secs() as usize / 10;
            assert!((5..=most).contains(&looked_at), "{looked_at} were looked at");
            let right = server.ask(guess(&room, &eve, "right"));
            assert!(right.status == 429 || took.as_secs() > 5, "{right:?}");
        }
        assert!(during.0.len() > 10, "{during}");
        assert!(during.0[during.0.len() - 1] < Duration::from_secs(2), "{during}");
        assert_eq!(server.user_count(&elsewhere), Some(2));
        if slow {
            eprintln!("guess rate {rate}: ten thousand guesses in {took:?}");
            eprintln!("  before: {before}");
            eprintln!("  during: {during}");
        }
    }
}
