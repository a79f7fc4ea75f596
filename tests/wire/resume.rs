//! History and resume on the WebSocket: neither gaps nor duplicates, whatever connection breaks at whatever time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::client::{CLOSE, Ws, chat, chat_with, close_payload, history_of, upgrade};
use crate::server::Server;

const UNKNOWN_ID: &str = "01890000-0000-7000-8000-000000000000";

fn id(message: &Value) -> &str {
    message["id"].as_str().expect("an id")
}

/// Sends chats one after the other and returns the events that their sender receives.
#[track_caller]
fn say(socket: &mut Ws, texts: impl IntoIterator<Item = String>) -> Vec<Value> {
    let sent = texts.into_iter().map(|text| {
        socket.chat(&text);
        let event = socket.event();
        assert_eq!((&event["type"], &event["message"]), (&json!("chat"), &json!(text)));
        event
    });
    sent.collect()
}

/// Sends a chat and reads until it comes back, skipping other events.
fn say_among_others(socket: &mut Ws, text: &str) {
    socket.chat(text);
    while socket.event()["message"] != text {}
}

fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

/// A room with ana present and `count` chats from her. Returns all messages, her join first.
fn room_with_chats(server: &Server, count: usize) -> (String, Ws, Vec<Value>) {
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut socket = server.socket(&room, &ana);
    socket.session = ana;
    let mut sent = vec![socket.expect_join("ana")];
    socket.user_id = sent[0]["user_id"].as_str().expect("a user_id").to_owned();
    sent.extend(say(&mut socket, numbers(0..count)));
    (room, socket, sent)
}

/// A WebSocket with a small receive buffer, so that the server soon cannot write to it.
fn narrow_socket(server: &Server, room: &str, session: &str, query: &str) -> Ws {
    let http = server.http_narrow();
    http.upgrade(&upgrade(&format!("/ws/{room}?session_id={session}&{query}")))
}

// Contents and order.

// contract §8.1 §8.2 §8.3
#[test]
fn history_comes_first_and_then_the_own_join() {
    let server = Server::start(&[]);
    let (room, mut ana, sent) = room_with_chats(&server, 5);
    let bob = server.session("bob");
    let mut bob = server.socket_with(&room, &bob, "history=10");
    let frame = bob.history_frame();
    assert_eq!(frame["room_id"], json!(room));
    assert_eq!(frame["messages"], json!(sent), "the messages as they were delivered");
    assert_eq!((&frame["more"], &frame["complete"]), (&json!(false), &json!(true)));
    let joined = bob.expect_join("bob");
    assert_eq!(frame["you"], joined["user_id"]);
    let users = json!([
        {"user_id": ana.user_id, "user": "ana"},
        {"user_id": joined["user_id"], "user": "bob"},
    ]);
    assert_eq!(
        frame["users"], users,
        "all users present in order of arrival, the newcomer included"
    );
    assert!(id(&joined) > id(&sent[5]));
    assert_eq!(ana.expect_join("bob"), joined);
    say(&mut ana, ["and on".to_owned()]);
    bob.expect_chat("ana", "and on");
    bob.expect_nothing();
}

/// Regression: the last history frame had all the users, however many, so that it exceeded 64 KiB.
// contract §8.1 §8.2 §8.15
#[test]
fn the_users_of_a_full_room_take_several_frames() {
    const USERS: usize = 600;
    // Ana answers no ping, and on a busy machine all of them take longer to come than she may be silent.
    let server = Server::start(&["--session-rate", "0", "--ping-interval", "10m"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut expected = vec![json!({"user_id": "", "user": "ana"})];
    let mut ana = server.enter_as(&room, "ana", &ana);
    expected[0]["user_id"] = json!(ana.user_id);
    let all: Vec<_> = (0..USERS)
        .map(|number| {
            let name = format!("{}{number}", "\"".repeat(47 - number.to_string().len()) + "🦀");
            let socket = server.socket_with(&room, &server.session(&name), "welcome=true");
            let joined = ana.event();
            assert_eq!(joined["user"], json!(name));
            expected.push(json!({"user_id": joined["user_id"], "user": name}));
            socket
        })
        .collect();
    let mut tab = server.socket_with(&room, &ana.session, "history=0");
    let history = tab.history();
    assert!(history.frames > 1);
    assert_eq!(history.users, json!(expected));
    ana.chat("and on");
    tab.expect_chat("ana", "and on");
    drop(all);
}

// contract §8.16
#[test]
fn a_socket_without_history_can_ask_for_a_welcome() {
    let server = Server::start(&[]);
    let (room, ana, _) = room_with_chats(&server, 2);
    let bob = server.session("bob");
    let mut socket = server.socket_with(&room, &bob, "welcome=true");
    let welcome = socket.event();
    let you = welcome["you"].clone();
    assert_eq!(welcome, json!({"type": "welcome", "room_id": room, "you": you}));
    assert_eq!(socket.expect_join("bob")["user_id"], you);
    socket.expect_nothing();
    for other in ["welcome=false", "welcome=1", "welcome", "welcome=%zz"] {
        server.socket_with(&room, &ana.session, other).expect_nothing();
    }
    let mut tab = server.socket_with(&room, &bob, "history=0&welcome=true");
    assert_eq!(tab.history().you, you);
    tab.expect_nothing();
}

#[test]
fn without_history_or_after_there_is_no_history_frame() {
    let server = Server::start(&[]);
    let (room, _ana, _) = room_with_chats(&server, 5);
    server.enter(&room, "bob").expect_nothing();
}

// contract §6.6
#[test]
fn typing_is_not_part_of_the_history() {
    let server = Server::start(&[]);
    let (room, mut ana, mut sent) = room_with_chats(&server, 2);
    ana.typing();
    ana.expect_event(&json!({"type": "typing"}));
    sent.extend(say(&mut ana, ["done".to_owned()]));
    let mut bob = server.socket_with(&room, &server.session("bob"), "history=1000");
    assert_eq!(bob.history().messages, sent);
}

// contract §1.9 §8.1
#[test]
fn history_n_returns_the_last_n_messages_and_clamps_n() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (room, _ana, _) = room_with_chats(&server, 9);
    let bob = server.enter(&room, "bob");
    let kept = server.messages(&room, &bob.session);
    assert_eq!(kept.len(), 11);
    let cases = [
        ("0", 0),
        ("1", 1),
        ("3", 3),
        ("10", 10),
        ("1000", 11),
        ("1001", 11),
        ("99999999999999999999999", 11),
        ("-1", 0),
        ("-99999999999999999999999", 0),
        ("%33", 3),
    ];
    for (asked, count) in cases {
        let mut tab = server.socket_with(&room, &bob.session, &format!("history={asked}"));
        let history = tab.history();
        assert_eq!(history.messages, kept[11 - count..], "history={asked}");
        assert!(history.complete, "history={asked}");
        assert_eq!(history.you, bob.user_id);
        tab.expect_nothing();
    }
}

// contract §1.9
#[test]
fn a_history_that_is_no_number_counts_as_0() {
    let server = Server::start(&[]);
    let (room, mut ana, _) = room_with_chats(&server, 2);
    for (number, word) in ["abc", "", "1.5", "5x", "%00", "1e3"].into_iter().enumerate() {
        let name = format!("guest {number}");
        let session = server.session(&name);
        let mut socket = server.socket_with(&room, &session, &format!("history={word}"));
        ana.expect_join(&name);
        assert_eq!(socket.history().messages, [Value::Null; 0], "history={word}");
        socket.expect_join(&name);
        socket.expect_nothing();
        socket.close();
        ana.expect_left(&name);
    }
}

// contract §1.9 §8.1 §8.4
#[test]
fn history_returns_at_most_a_thousand_messages() {
    let server = Server::start(&["--message-rate", "0", "--history", "2000"]);
    let (room, ana, sent) = room_with_chats(&server, 1100);
    for asked in ["1000", "1500"] {
        let mut tab = server.socket_with(&room, &ana.session, &format!("history={asked}"));
        let history = tab.history();
        assert!(history.messages == sent[101..], "history={asked}");
        assert!(history.complete && history.frames > 1, "{} frames", history.frames);
    }
    // `after` has no such limit.
    let mut tab = server.socket_with(&room, &ana.session, &format!("after={}", id(&sent[0])));
    let history = tab.history();
    assert!(history.messages == sent[1..] && history.complete);
}

// contract §8.1 §8.2
#[test]
fn the_history_of_an_empty_room_is_one_frame() {
    let server = Server::start(&[]);
    let ana = server.session("ana");
    for query in ["history=0", "history=50"] {
        let room = server.room(&ana);
        let mut socket = server.socket_with(&room, &ana, query);
        let history = socket.history();
        assert_eq!((history.messages.len(), history.frames, history.complete), (0, 1, true));
        assert_eq!(history.users, json!([{"user_id": history.you, "user": "ana"}]));
        assert_eq!(socket.expect_join("ana")["user_id"], json!(history.you));
    }
}

#[test]
fn a_second_socket_gets_its_history_and_is_not_announced() {
    let server = Server::start(&[]);
    let (room, mut ana, sent) = room_with_chats(&server, 3);
    let mut tab = server.socket_with(&room, &ana.session, "history=50");
    let history = tab.history();
    assert_eq!((&history.messages, &history.you), (&sent, &ana.user_id));
    assert_eq!(history.users, json!([{"user_id": ana.user_id, "user": "ana"}]));
    tab.expect_nothing();
    ana.expect_nothing();
}

// contract §8.1
#[test]
fn history_frames_stay_below_64_kib_whatever_they_contain() {
    let server = Server::start(&["--message-rate", "0"]);
    let (room, mut ana, mut sent) = room_with_chats(&server, 0);
    // The longest messages in JSON: six bytes for each control character.
    for number in 0..40 {
        let one = ["\u{0}", "\u{1f642}", "\"", "x"][number / 10];
        let nonce = format!("{number:\u{1}>64}");
        ana.send(chat_with(&nonce, &format!("x{}x", one.repeat(3998))));
        sent.push(ana.expect_event(&json!({"type": "chat", "nonce": nonce})));
    }
    let mut tab = server.socket_with(&room, &ana.session, "history=1000");
    let history = tab.history(); // Asserts the limit.
    assert!(history.messages == sent && history.frames > 5, "{} frames", history.frames);
}

// After.

// contract §8.4
#[test]
fn after_returns_every_message_that_follows() {
    let server = Server::start(&[]);
    let (room, mut ana, sent) = room_with_chats(&server, 10);
    for at in 0..sent.len() {
        let query = format!("after={}", id(&sent[at]));
        let mut tab = server.socket_with(&room, &ana.session, &query);
        let history = tab.history();
        assert_eq!(history.messages, sent[at + 1..], "after message {at}");
        assert!(history.complete, "after message {at}");
        tab.expect_nothing();
        tab.close();
    }
    ana.expect_nothing();
}

// contract §8.5
#[test]
fn after_takes_precedence_over_history() {
    let server = Server::start(&[]);
    let (room, ana, sent) = room_with_chats(&server, 10);
    let after = id(&sent[4]);
    let queries = [
        format!("after={after}&history=1"),
        format!("history=1&after={after}"),
        format!("history=1000&after={after}"),
        format!("history=abc&after={after}"),
    ];
    for query in queries {
        let mut tab = server.socket_with(&room, &ana.session, &query);
        let history = tab.history();
        assert!(history.messages == sent[5..] && history.complete, "{query}: {history:?}");
    }
    // Even if its value is no id.
    let mut tab = server.socket_with(&room, &ana.session, "after=nonsense&history=1");
    let history = tab.history();
    assert!(history.messages == sent && !history.complete, "{history:?}");
}

// contract §1.10 §8.6
#[test]
fn an_unknown_after_returns_all_messages_and_is_incomplete() {
    let server = Server::start(&[]);
    let (room, ana, sent) = room_with_chats(&server, 5);
    let (_, _other, elsewhere) = room_with_chats(&server, 1);
    let mut close_by = id(&sent[3]).to_owned();
    let last = if close_by.ends_with('0') { "1" } else { "0" };
    close_by.replace_range(35.., last);
    let future = "ffffffff-ffff-7fff-bfff-ffffffffffff";
    let bad = [
        "nonsense",
        "",
        "0",
        UNKNOWN_ID,
        future,
        "00000000-0000-0000-0000-000000000000",
        &close_by,
        id(&elsewhere[1]),
        ana.user_id.as_str(),
        "%F0%9F%99%82",
        "%ff",
        &"x".repeat(1000),
    ];
    for after in bad {
        let mut tab = server.socket_with(&room, &ana.session, &format!("after={after}"));
        let history = tab.history();
        assert_eq!(history.messages, sent, "after={after}");
        assert!(!history.complete, "after={after}");
        tab.expect_nothing();
    }
}

// contract §8.4 §8.6
#[test]
fn only_a_gap_longer_than_the_history_is_incomplete() {
    let server = Server::start(&["--history", "50", "--message-rate", "0", "--leave-grace", "1h"]);
    let (room, mut ana, mut sent) = room_with_chats(&server, 3);
    let bob = server.session("bob");
    let mut socket = server.socket_with(&room, &bob, "history=1000");
    let mut seen = socket.history().messages;
    seen.push(socket.expect_join("bob"));
    sent.push(ana.expect_join("bob"));
    assert_eq!(seen, sent);
    for (round, gap) in [0, 1, 30, 49, 51, 0, 120, 49, 200, 7].into_iter().enumerate() {
        socket.reset();
        let last = sent.len() - 1;
        sent.extend(say(&mut ana, (0..gap).map(|number| format!("{round}/{number}"))));
        socket = server.socket_with(&room, &bob, &format!("after={}", id(&sent[last])));
        let history = socket.history();
        assert_eq!(history.complete, gap < 50, "a gap of {gap}");
        let missing = &sent[last + 1..];
        let expected = if gap < 50 { missing } else { &missing[gap - 50..] };
        assert!(history.messages == expected, "a gap of {gap}");
        socket.expect_nothing();
    }
}

// contract §6.11 §8.4
#[test]
fn a_socket_that_resumes_in_time_misses_nothing_and_is_not_announced() {
    let server = Server::start(&["--leave-grace", "1h"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let (session, user_id) = (bob.session.clone(), bob.user_id.clone());
    let last = say(&mut ana, ["before".to_owned()]);
    assert_eq!(bob.event(), last[0]);
    bob.reset();
    let missed = say(&mut ana, numbers(0..5));
    let mut back = server.socket_with(&room, &session, &format!("after={}", id(&last[0])));
    let history = back.history();
    assert_eq!((&history.messages, history.complete), (&missed, true));
    assert_eq!(history.you, user_id);
    let users = json!([
        {"user_id": ana.user_id, "user": "ana"},
        {"user_id": user_id, "user": "bob"},
    ]);
    assert_eq!(history.users, users, "each user once, still in order of arrival");
    back.expect_nothing();
    ana.expect_nothing();
}

#[test]
fn a_user_that_left_receives_its_own_leave_on_resuming() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let session = bob.session.clone();
    let last = say(&mut ana, ["before".to_owned()]);
    assert_eq!(bob.event(), last[0]);
    bob.close();
    let left = ana.expect_left("bob");
    let mut back = server.socket_with(&room, &session, &format!("after={}", id(&last[0])));
    assert_eq!(back.history().messages, [left]);
    let joined = back.expect_join("bob");
    assert_eq!(ana.expect_join("bob"), joined);
}

#[test]
fn an_empty_resume_is_complete() {
    let server = Server::start(&[]);
    let (room, mut ana, sent) = room_with_chats(&server, 3);
    for _ in 0..3 {
        let query = format!("after={}", id(&sent[3]));
        let mut tab = server.socket_with(&room, &ana.session, &query);
        let history = tab.history();
        assert_eq!((history.messages.len(), history.frames, history.complete), (0, 1, true));
        tab.close();
    }
    ana.expect_nothing();
}

/// Bob chats all the time while eve connects, and disconnects in various ways.
// contract §8.3 §8.4
#[test]
fn resuming_misses_and_repeats_nothing_while_others_chat() {
    let flags = ["--message-rate", "0", "--history", "5000", "--outbox", "64M"];
    let server = Server::start(&[&flags[..], &["--leave-grace", "1h"]].concat());
    let (room, mut ana, mut bob) = server.room_of_two();
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_over);
    let talking = thread::spawn(move || {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            bob.send(
                numbers(number..number + 10).flat_map(|text| chat(&text)).collect::<Vec<u8>>(),
            );
            number += 10;
            let last = json!((number - 1).to_string());
            while bob.event()["message"] != last {}
        }
        bob.chat("end");
        bob
    });
    let eve = server.session("eve");
    let mut seen: Vec<Value> = Vec::new();
    for round in 0..40 {
        let query = match seen.last() {
            None => "history=1000".to_owned(),
            Some(last) => format!("after={}", id(last)),
        };
        let mut socket = server.socket_with(&room, &eve, &query);
        let history = socket.history();
        assert!(history.complete);
        if seen.is_empty() {
            let own = json!(history.you);
            let mut all = history.messages.iter();
            assert!(
                all.all(|message| message["user_id"] != own),
                "the own join comes after the history"
            );
        }
        seen.extend(history.messages);
        for _ in 0..round * 7 % 40 {
            seen.push(socket.event());
        }
        match round % 3 {
            0 => socket.reset(),
            1 => drop(socket),
            _ => socket.close(),
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let _bob = talking.join().expect("bob");
    let last = seen.last().expect("messages");
    let mut socket = server.socket_with(&room, &eve, &format!("after={}", id(last)));
    seen.extend(socket.history().messages);
    while seen.last().is_none_or(|last| last["message"] != "end") {
        seen.push(socket.event());
    }
    let mut all = vec![ana.event()];
    while all.last().is_none_or(|last| last["message"] != "end") {
        all.push(ana.event());
    }
    // Ana has read her own join and bob's already.
    seen.retain(|message| id(message) >= id(&all[0]));
    assert!(seen.len() > 100);
    assert!(all.ends_with(&seen), "eve sees an unbroken tail of what ana sees");
}

// Catching up: the server keeps a position in the history instead of copies of the messages.

// contract §8.3 §8.7
#[test]
fn a_slow_reader_gets_a_thousand_of_the_longest_messages_while_others_chat() {
    let server = Server::start(&["--message-rate", "0", "--history", "5000"]);
    let (room, mut ana, _) = room_with_chats(&server, 0);
    let longest = "\u{1f642}".repeat(3990);
    let mut sent = say(&mut ana, (0..1000).map(|number| format!("{number:010}{longest}")));
    assert!(sent.iter().all(|m| m["message"].as_str().is_some_and(|t| t.chars().count() == 4000)));
    let slow = server.session("slow");
    let mut slow = narrow_socket(&server, &room, &slow, "history=1000");
    let (mut seen, mut frames, mut more): (Vec<Value>, _, _) = (Vec::new(), 0, true);
    while more {
        // One chat, then one history frame, in turn.
        ana.chat(&format!("meanwhile {frames}"));
        loop {
            sent.push(ana.event());
            if sent.last().is_some_and(|event| event["type"] == "chat") {
                break;
            }
        }
        let mut frame = slow.history_frame();
        seen.append(frame["messages"].as_array_mut().expect("messages"));
        more = frame["more"] == true;
        frames += 1;
        assert!(more || frame["complete"] == true);
    }
    assert!(frames >= 250, "{frames} frames");
    ana.chat("end");
    while sent.last().is_none_or(|last| last["message"] != "end") {
        sent.push(ana.event());
    }
    while seen.last().is_none_or(|last| last["message"] != "end") {
        seen.push(slow.event());
    }
    assert_eq!(sent.iter().filter(|message| message["type"] == "user_joined").count(), 1);
    assert!(seen == sent, "{} of {}", seen.len(), sent.len());
    slow.expect_nothing();
}

// contract §7.8 §8.8
#[test]
fn a_reader_that_falls_behind_the_history_is_closed_with_1013_and_may_resume() {
    let flags = ["--message-rate", "0", "--history", "250", "--linger-timeout", "1m"];
    let server = Server::start(&flags);
    let (room, mut ana, _) = room_with_chats(&server, 0);
    let longest = "\u{1f642}".repeat(3990);
    let sent = say(&mut ana, (0..250).map(|number| format!("{number:010}{longest}")));
    let session = server.session("slow");
    let mut slow = narrow_socket(&server, &room, &session, "history=1000");
    // Four megabytes are due to a reader that does not read. These chats push them out of the history.
    for number in 0..300 {
        say_among_others(&mut ana, &number.to_string());
    }
    let mut seen: Vec<Value> = Vec::new();
    loop {
        let frame = slow.frame();
        if frame.opcode == CLOSE {
            assert_eq!(frame.payload, close_payload(1013, "too slow"));
            break;
        }
        let mut frame = history_of(&frame);
        assert_eq!(frame["more"], true, "the history never ends");
        seen.append(frame["messages"].as_array_mut().expect("messages"));
    }
    assert!(seen.len() < 250, "all messages were sent before they could be dropped");
    assert!(sent.starts_with(&seen), "the messages received are an unbroken beginning");
    drop(slow);
    let after = seen.last().map_or(UNKNOWN_ID, id);
    let mut back = server.socket_with(&room, &session, &format!("after={after}"));
    let history = back.history();
    assert_eq!((history.messages.len(), history.complete), (250, false));
    let texts = |message: &Value| message["message"].as_str().map(str::to_owned);
    let chats = history.messages.iter().filter(|message| message["type"] == "chat");
    let chats: Vec<String> = chats.filter_map(texts).collect();
    let all: Vec<String> = numbers(0..300).collect();
    assert!(all.ends_with(&chats));
}

// contract §8.7
#[test]
fn sockets_that_never_read_their_history_do_not_delay_others() {
    let server = Server::start(&["--message-rate", "0"]);
    let (room, mut ana, _) = room_with_chats(&server, 0);
    let longest = "\u{1f642}".repeat(4000);
    say(&mut ana, std::iter::repeat_n(longest, 100));
    let unread: Vec<Ws> = (0..20)
        .map(|number| server.session(&format!("unread {number}")))
        .map(|session| narrow_socket(&server, &room, &session, "history=1000"))
        .collect();
    for number in 0..50 {
        say_among_others(&mut ana, &number.to_string());
    }
    drop(unread);
}

// History during a probe.

#[test]
fn a_newcomer_that_waited_for_a_name_gets_the_messages_sent_meanwhile() {
    let server = Server::start(&["--probe-timeout", "1s", "--leave-grace", "1h"]);
    for query in ["after", "history"] {
        let (room, mut ana, mut bob) = server.room_of_two();
        let before = say(&mut bob, ["before".to_owned()]);
        ana.expect_chat("bob", "before");
        let session = server.session("ana");
        let query = match query {
            "after" => format!("after={}", id(&before[0])),
            _ => "history=2".to_owned(),
        };
        let mut newcomer = server.socket_with(&room, &session, &query);
        ana.expect_ping();
        let mut missed = say(&mut bob, ["meanwhile".to_owned()]);
        missed.push(bob.expect_left("ana"));
        let joined = bob.expect_join("ana");
        let history = newcomer.history();
        assert_eq!((&history.messages, history.complete), (&missed, true), "{query}");
        assert_eq!(json!(history.you), joined["user_id"]);
        let users = json!([
            {"user_id": bob.user_id, "user": "bob"},
            {"user_id": history.you, "user": "ana"},
        ]);
        assert_eq!(history.users, users);
        assert_eq!(newcomer.event(), joined);
        newcomer.expect_nothing();
    }
}

#[test]
fn a_newcomer_that_is_refused_a_name_gets_no_history() {
    let server = Server::start(&["--probe-timeout", "8s"]);
    let (room, mut ana, _bob) = server.room_of_two();
    let newcomer = server.socket_with(&room, &server.session("ana"), "history=1000");
    let payload = ana.expect_ping();
    ana.pong(payload);
    newcomer.expect_close(4409, "name taken");
}

// Exactly-once delivery: `after` for reading, nonces for writing.

// contract §8.10
#[test]
fn a_chat_sent_over_a_breaking_connection_is_delivered_exactly_once() {
    let server = Server::start(&["--message-rate", "0", "--leave-grace", "1h"]);
    let (room, mut ana, bob) = server.room_of_two();
    let session = bob.session.clone();
    let mut last = server.messages(&room, &session).pop().expect("a join");
    bob.reset();
    let mut received = Vec::new();
    for round in 0..30 {
        let nonce = format!("round {round}");
        let mut once = server.socket(&room, &session);
        once.send(chat_with(&nonce, &round.to_string()));
        // Whether the chat arrives is undetermined.
        match round % 3 {
            0 => once.reset(),
            1 => drop(once),
            _ => once.stream().finish(),
        }
        let mut again = server.socket_with(&room, &session, &format!("after={}", id(&last)));
        again.send(chat_with(&nonce, &round.to_string()));
        let history = again.history();
        assert!(history.complete && history.messages.len() <= 1, "{history:?}");
        let own = again.expect_event(&json!({"type": "chat", "nonce": nonce}));
        assert!(history.messages.iter().all(|message| *message == own), "{history:?}");
        received.push(ana.event());
        assert_eq!(received.last(), Some(&own));
        last = own;
        again.reset();
    }
    let texts =
        received.iter().map(|message| message["message"].as_str().expect("text").to_owned());
    assert!(texts.eq(numbers(0..30)));
    ana.expect_nothing();
}
