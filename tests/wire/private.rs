//! Private rooms, rooms with a password, and limits on guessing passwords.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Answer, Http, Request, Ws, delete, get, post};
use crate::server::{Server, command, is_slow, socket_path, wait_until};

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

/// Asserts that no public list shows the room, and that its member's lists do.
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
fn a_private_room_is_open_to_any_session_that_knows_its_id() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let answer = server.ask(post("/rooms").session(&ana).json(&json!({"private": true})));
    let answer = answer.expect(201);
    let room = answer.string("room_id");
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
    let outsider = server.session("eve");
    assert_eq!(server.messages(&room, &outsider).len(), 3);
    assert_eq!(found(&server, &room)["user_count"], 2);
    is_hidden(&server, &room, &bob);
}

// contract §1.7 §10.1 §10.4
#[test]
fn private_is_a_boolean_and_may_be_combined_with_a_title() {
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

/// Asserts that two responses are equal except for `Date`.
#[track_caller]
fn assert_alike(one: &Answer, other: &Answer, what: &str) {
    let plain = |answer: &Answer| {
        let mut answer = answer.clone();
        answer.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
        answer
    };
    assert_eq!(plain(one), plain(other), "{what}");
}

// contract §1.13
#[test]
fn a_similar_id_is_answered_exactly_like_one_that_never_existed() {
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
    wrong.extend([hidden[..31].to_owned(), format!("{locked}0")]);
    wrong.extend(["00000000000000000000000000000000".to_owned(), "nonsense".to_owned()]);
    let requests = |room: &str| {
        let at = |path: &str| format!("/rooms/{room}{path}");
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
    let nowhere: Vec<Answer> = requests("0000000000").iter().map(|one| http.ask(one)).collect();
    for id in &wrong {
        for (request, expected) in requests(id).iter().zip(&nowhere) {
            assert_alike(&http.ask(request), expected, &format!("{request:?}"));
        }
        for query in ["", "history=10", "after=x"] {
            let socket = server.socket_with(id, &eve, query);
            socket.expect_close(4404, "room not found");
        }
    }
    // A request to a wrong id does not count as a guess at a password.
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
    let outsider = server.session("carl");
    for password in bad {
        let body = json!({"password": password});
        server.ask(post("/rooms").session(&ana).json(&body)).refused(422, "bad_body");
        server.ask(join(&room, &outsider).json(&body)).refused(422, "bad_body");
        // The body is checked before the room.
        server.ask(join("0000000000", &outsider).json(&body)).refused(422, "bad_body");
    }
    let surrogate = r#"{"password":"\ud800"}"#;
    server.ask(post("/rooms").session(&ana).body(surrogate)).refused(422, "bad_body");
    server.ask(join(&room, &outsider).body(surrogate)).refused(422, "bad_body");
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
    // A password is ignored if the room needs none.
    for body in [json!({}), json!({"private": true})] {
        server.ask(guess(&server.room_with(&ana, &body), &bob, "any")).expect(200);
    }
}

// contract §7.11 §10.5
#[test]
fn without_joining_a_room_with_a_password_cannot_be_entered_read_or_posted_to() {
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
    let at = |path: &str| format!("/rooms/{room}/{path}");
    let requests = [
        get(&at("messages")),
        get(&at(&format!("messages?{after}"))),
        get(&at("users")),
        post(&at("messages")).json(&json!({"message": "x"})),
    ];
    for request in &requests {
        let answer = server.ask(request.clone().session(&eve)).refused(403, "not_a_member");
        assert!(!answer.text().contains("secret"));
    }
    // Membership is checked before the name: a non-member with the name of a user present causes no probe.
    let other = server.session("ana");
    server.socket(&room, &other).expect_close(4403, "not a member");
    inside.expect_nothing();
    server.join_with(&room, &eve, "x");
    for request in requests {
        assert!(server.ask(request.session(&eve)).status < 300);
    }
    inside.expect_chat("eve", "x");
    server.enter_as(&room, "eve", &eve);
}

// contract §10.9
#[test]
fn members_need_no_password_again() {
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
    // A password from a member does not count as a guess.
    for _ in 0..10 {
        server.ask(guess(&room, &bob, "wrong")).expect(200);
    }
    let eve = server.session("eve");
    server.ask(guess(&room, &eve, "x")).expect(200);
}

// contract §10.5
#[test]
fn a_member_that_leaves_needs_the_password_again() {
    let server = Server::start(&[]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "x"}));
    // This applies to the owner as well.
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

/// Asserts that a burst of five guesses is checked and that further ones, right or wrong, are not.
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
        assert!((1..=10).contains(&wait), "six a minute is one in ten seconds: {wait}");
    }
}

// contract §1.11 §10.7 §10.8 §12.17
#[test]
fn wrong_passwords_are_limited_in_each_room() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let (one, other) = (
        server.room_with(&ana, &json!({"password": "right"})),
        server.room_with(&ana, &json!({"password": "right"})),
    );
    let (bob, carl) = (server.session("bob"), server.session("carl"));
    runs_out_of_guesses(|password| server.ask(guess(&one, &bob, password)));
    // The limit belongs to the address, not to the session.
    is_out_of_guesses(|password| server.ask(guess(&one, &carl, password)));
    // A join without a password is no guess, and members may join again.
    server.ask(join(&one, &bob)).refused(403, "bad_password");
    server.ask(join(&one, &ana)).expect(200);
    server.ask(guess(&one, &ana, "wrong")).expect(200);
    server.enter_as(&one, "ana", &ana);
    // Other errors are reported before the rate.
    server.ask(guess(&one, &bob, "")).refused(422, "bad_body");
    server.ask(guess("0000000000", &bob, "right")).refused(404, "room_not_found");
    // The limit applies to each room by itself.
    runs_out_of_guesses(|password| server.ask(guess(&other, &bob, password)));
}

// contract §10.7
#[test]
fn wrong_passwords_are_limited_for_each_address() {
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
    // The proxy itself counts as a further address.
    runs_out_of_guesses(|password| server.ask(guess(&room, &bob, password)));
    is_out_of_guesses(from("203.0.113.8"));
    from("203.0.113.9")("right").expect(200);
}

/// At the default rate, one more guess would be checked every second, so the test could not be exact.
// contract §1.11 §10.7 §10.8 §12.17
#[test]
fn wrong_passwords_are_limited_in_each_room_for_all_addresses_together() {
    let flags = ["--trusted-proxy", "127.0.0.0/8", "--room-guess-rate", "1"];
    let server = Server::start(&flags);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let rooms = [(); 2].map(|()| server.room_with(&ana, &json!({"password": "right"})));
    let from = |number: usize, room: &str, password: &str| {
        forwarded(guess(room, &bob, password), &format!("203.0.113.{number}"))
    };
    let wrong: Vec<Request> = (0..70).map(|number| from(number, &rooms[0], "wrong")).collect();
    for (number, answer) in server.http().pipeline(&wrong).into_iter().enumerate() {
        match number {
            0..60 => answer.refused(403, "bad_password"),
            _ => answer.refused(429, "rate_limited"),
        };
    }
    let late = server.ask(from(100, &rooms[0], "right")).refused(429, "rate_limited");
    let wait: u32 = late.field("Retry-After").and_then(|s| s.parse().ok()).expect("a number");
    assert!((1..=60).contains(&wait), "one a minute: {wait}");
    // Members are not asked, and each room has a limit of its own.
    server.ask(guess(&rooms[0], &ana, "wrong")).expect(200);
    server.ask(from(0, &rooms[1], "wrong")).refused(403, "bad_password");
    server.ask(from(0, &rooms[1], "right")).expect(200);
}

// contract §12.17
#[test]
fn room_guess_rate_0_means_no_limit() {
    let server = Server::start(&["--guess-rate", "0", "--room-guess-rate", "0"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "right"}));
    let wrong = vec![guess(&room, &bob, "wrong"); 100];
    assert!(server.http().pipeline(&wrong).iter().all(|answer| answer.status == 403));
    server.join_with(&room, &bob, "right");
}

// contract §10.7
#[test]
fn loopback_and_unix_peers_share_one_limit_on_guesses() {
    let path = socket_path("guesses");
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
    // The peer is no trusted proxy, so `X-Forwarded-For` is ignored.
    server.ask(forwarded(guess(&room, &bob, "right"), "203.0.113.7")).refused(429, "rate_limited");
    drop(server);
    let _ = std::fs::remove_file(path);
}

// contract §10.9
#[test]
fn only_wrong_passwords_count_as_guesses() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    let room = server.room_with(&ana, &json!({"password": "right"}));
    for number in 0..10 {
        let session = server.session(&format!("guest {number}"));
        server.ask(join(&room, &session)).refused(403, "bad_password");
        server.join_with(&room, &session, "right");
        server.socket(&room, &server.session("outsider")).expect_close(4403, "not a member");
    }
    let eve = server.session("eve");
    runs_out_of_guesses(|password| server.ask(guess(&room, &eve, password)));
}

// contract §12.17
#[test]
fn guesses_are_checked_again_after_a_while() {
    let server = Server::start(&["--guess-rate", "60"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "right"}));
    let burst: Vec<Request> = (0..10).map(|n| guess(&room, &bob, &n.to_string())).collect();
    let answers = server.http().pipeline(&burst);
    assert!(answers[..5].iter().all(|answer| answer.status == 403));
    assert!(answers.iter().any(|answer| answer.status == 429));
    wait_until("the right password is checked", || {
        let answer = server.ask(guess(&room, &bob, "right"));
        assert!(matches!(answer.status, 200 | 429), "{answer:?}");
        answer.status == 200
    });
}

// contract §12.17
#[test]
fn guess_rate_0_means_no_limit() {
    let server = Server::start(&["--guess-rate", "0"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"password": "right"}));
    let wrong = vec![guess(&room, &bob, "wrong"); 50];
    assert!(server.http().pipeline(&wrong).iter().all(|answer| answer.status == 403));
    server.join_with(&room, &bob, "right");
}

// Many guesses.

/// Lets ana chat, and waits each time until both have received the chat, until `is_over`. Returns the number of chats.
fn chat_until(ana: &mut Ws, bob: &mut Ws, is_over: &AtomicBool) -> usize {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        let text = count.to_string();
        ana.chat(&text);
        bob.expect_chat("ana", &text);
        ana.expect_chat("ana", &text);
        count += 1;
    }
    count
}

/// Ten thousand wrong passwords from one address: the responses, and how long they took.
fn guess_ten_thousand_times(server: &Server, room: &str, session: &str) -> (Vec<Answer>, Duration) {
    let mut http = server.http();
    let start = Instant::now();
    let mut answers = Vec::with_capacity(10_000);
    for number in 0..100 {
        let batch = (0..100).map(|at| guess(room, session, &format!("wrong {number}/{at}")));
        answers.extend(http.pipeline(&batch.collect::<Vec<_>>()));
    }
    (answers, start.elapsed())
}

/// Under `SLOW_TESTS=1` also without a limit on guesses, so that every password is checked.
#[test]
fn ten_thousand_wrong_passwords_are_limited_and_stop_no_chat() {
    let rates: &[&str] = if is_slow() { &["6", "0"] } else { &["6"] };
    for rate in rates {
        let rates = ["--guess-rate", rate, "--room-guess-rate", rate];
        // Bob answers no ping, and on a busy machine the guesses take longer than he may be silent.
        let flags = ["--message-rate", "0", "--ping-interval", "10m"];
        let server = Server::start(&[&flags[..], &rates].concat());
        let (owner, eve) = (server.session("owner"), server.session("eve"));
        let room = server.room_with(&owner, &json!({"password": "right"}));
        let (elsewhere, mut ana, mut bob) = server.room_of_two();
        let is_over = AtomicBool::new(false);
        let (chats, (answers, took)) = thread::scope(|scope| {
            let chatting = scope.spawn(|| chat_until(&mut ana, &mut bob, &is_over));
            let guessed = guess_ten_thousand_times(&server, &room, &eve);
            is_over.store(true, Ordering::Relaxed);
            (chatting.join().expect("the chat goes on"), guessed)
        });
        let checked = answers.iter().filter(|answer| answer.status == 403).count();
        let refused = answers.iter().filter(|answer| answer.status == 429).count();
        assert_eq!(checked + refused, 10_000);
        match *rate {
            "6" => {
                let most = 6 + took.as_secs() as usize / 10;
                assert!((5..=most).contains(&checked), "{checked} were checked");
                let right = server.ask(guess(&room, &eve, "right"));
                assert!(right.status == 429 || took.as_secs() > 5, "{right:?}");
            }
            _ => assert_eq!(checked, 10_000),
        }
        // Usually thousands. How often each thread of this test runs is up to the machine.
        assert!(chats > 10, "{chats} chats");
        assert_eq!(server.user_count(&elsewhere), Some(2));
    }
}
