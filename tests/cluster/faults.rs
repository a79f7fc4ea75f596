//! Servers that die, hang or lose their store, with people in their rooms.
//!
//! Each story ends with the same question: is everything that was answered there once, in one order, and
//! is nobody present who is not?

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::{Ws, get, post};
use crate::nodes::Nodes;
use crate::server::{Server, wait_until};
use crate::stores::Store;

/// A lease that is short enough for a test, and longer than a busy machine is silent.
const FLAGS: &[&str] = &["--cluster-lease", "4s", "--cluster-timeout", "2s", "--leave-grace", "1s"];

fn users(node: &Server, room: &str, session: &str) -> Vec<String> {
    let target = format!("/rooms/{room}/users");
    let users = node.ask(get(&target).session(session)).expect(200).json();
    let users = users["users"].as_array().expect("users").iter();
    users.map(|user| user["user"].as_str().expect("a name").to_owned()).collect()
}

fn chats(node: &Server, room: &str, session: &str) -> Vec<Value> {
    let target = format!("/rooms/{room}/messages?limit=1000");
    let all = node.ask(get(&target).session(session)).expect(200).json();
    let all = all["messages"].as_array().expect("messages").iter();
    all.filter(|message| message["type"] == "chat").cloned().collect()
}

fn event_of(socket: &mut Ws, kind: &str, user: &str) {
    socket.expect_event(&json!({"type": kind, "user": user}));
}

fn serves(node: &Server) {
    wait_until("the store is in use", || node.ask(get("/health")).json()["store"] == "up");
}

// contract §17.1
#[test]
fn the_people_of_a_server_that_was_killed_leave_or_come_back() {
    Store::each(|store| {
        let mut nodes = Nodes::start(2, store, FLAGS);
        let bob = nodes.node(1).session("bob");
        let room = nodes.node(1).room(&bob);
        let mut here = nodes.node(1).enter_as(&room, "bob", &bob);
        let (ana, cyd) = (nodes.node(0).session("ana"), nodes.node(0).session("cyd"));
        let mut there = nodes.node(0).enter_as(&room, "ana", &ana);
        event_of(&mut here, "user_joined", "ana");
        let _other = nodes.node(0).enter_as(&room, "cyd", &cyd);
        event_of(&mut here, "user_joined", "cyd");
        event_of(&mut there, "user_joined", "cyd");
        there.chat("before");
        let last = here.expect_chat("ana", "before");
        nodes.kill(0);
        // Ana comes back in time, by the other server; nobody is told.
        let after = format!("after={}", last["id"].as_str().expect("an id"));
        let mut back = nodes.node(1).socket_with(&room, &ana, &after);
        let history = back.history();
        assert!(history.complete && history.messages.is_empty());
        back.chat("after");
        here.expect_chat("ana", "after");
        event_of(&mut here, "user_left", "cyd");
        assert_eq!(users(nodes.node(1), &room, &bob), ["bob", "ana"]);
    });
}

#[test]
fn a_server_that_hung_for_too_long_brings_its_people_back() {
    Store::each(|store| {
        let nodes = Nodes::start(2, store, FLAGS);
        let bob = nodes.node(1).session("bob");
        let room = nodes.node(1).room(&bob);
        let mut here = nodes.node(1).enter_as(&room, "bob", &bob);
        let ana = nodes.node(0).session("ana");
        let mut there = nodes.node(0).enter_as(&room, "ana", &ana);
        event_of(&mut here, "user_joined", "ana");
        nodes.stop(0);
        event_of(&mut here, "user_left", "ana");
        here.chat("where is she?");
        here.expect_chat("bob", "where is she?");
        nodes.resume(0);
        event_of(&mut here, "user_joined", "ana");
        there.chat("here");
        here.expect_chat("ana", "here");
        // The socket that was there all the time has seen the same.
        event_of(&mut there, "user_left", "ana");
        there.expect_chat("bob", "where is she?");
        event_of(&mut there, "user_joined", "ana");
        there.expect_chat("ana", "here");
        assert_eq!(users(nodes.node(0), &room, &bob), ["bob", "ana"]);
    });
}

#[test]
fn connections_to_the_store_may_be_cut_at_any_time() {
    Store::each(|store| {
        let nodes = Nodes::start(2, store, &[FLAGS, &["--message-rate", "0"]].concat());
        let bob = nodes.node(1).session("bob");
        let room = nodes.node(1).room(&bob);
        let mut here = nodes.node(1).enter_as(&room, "bob", &bob);
        let ana = nodes.node(0).session("ana");
        let mut there = nodes.node(0).enter_as(&room, "ana", &ana);
        event_of(&mut here, "user_joined", "ana");
        let mut admin = store.admin();
        let (mut sent, mut refused) = (0, 0);
        for round in 0..20 {
            for number in 0..10 {
                there.chat(&format!("{round} {number}"));
                sent += 1;
            }
            admin.must(&["CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes"]);
            serves(nodes.node(0));
            serves(nodes.node(1));
        }
        there.chat("end");
        let mut echoed = Vec::new();
        loop {
            let event = there.event();
            match event["type"].as_str() {
                Some("refused") => refused += 1,
                _ => echoed.push(event),
            }
            if echoed.last().is_some_and(|event| event["message"] == "end") {
                break;
            }
        }
        assert_eq!(echoed.len() + refused, sent + 1, "each chat is echoed or refused, once");
        let mut heard = vec![here.event()];
        while heard.last().is_none_or(|event| event["message"] != "end") {
            heard.push(here.event());
        }
        assert_eq!(heard, echoed);
        assert_eq!(chats(nodes.node(1), &room, &bob), echoed);
        assert_eq!(users(nodes.node(0), &room, &bob), ["bob", "ana"]);
    });
}

#[test]
fn nobody_leaves_because_the_store_hung() {
    Store::each(|store| {
        let flags = [FLAGS, &["--cluster-patience", "60s"]].concat();
        let nodes = Nodes::start(2, store, &flags);
        let bob = nodes.node(1).session("bob");
        let room = nodes.node(1).room(&bob);
        let mut here = nodes.node(1).enter_as(&room, "bob", &bob);
        let ana = nodes.node(0).session("ana");
        let mut there = nodes.node(0).enter_as(&room, "ana", &ana);
        event_of(&mut here, "user_joined", "ana");
        let pid = Pid::from_raw(store.pid() as i32).expect("a process");
        kill_process(pid, Signal::STOP).expect("the store stops");
        wait_until("both have noticed", || {
            [0, 1].iter().all(|n| nodes.node(*n).ask(get("/health")).json()["store"] == "down")
        });
        // Longer than a lease.
        std::thread::sleep(std::time::Duration::from_secs(5));
        kill_process(pid, Signal::CONT).expect("the store goes on");
        serves(nodes.node(0));
        serves(nodes.node(1));
        there.chat("still here");
        here.expect_chat("ana", "still here");
        there.expect_chat("ana", "still here");
        assert_eq!(users(nodes.node(0), &room, &bob), ["bob", "ana"]);
    });
}

/// The append-only file brings back everything, and a restart without it ends all sessions.
#[test]
fn a_store_comes_back_with_its_file_or_empty() {
    Store::each(|store| {
        let mut own =
            Store::start(store.engine(), &["--appendonly", "yes", "--appendfsync", "always"]);
        let flags = [FLAGS, &["--cluster-patience", "60s"]].concat();
        let nodes = Nodes::start(2, &own, &flags);
        let ana = nodes.node(0).session("ana");
        let room = nodes.node(0).room(&ana);
        let mut there = nodes.node(0).enter_as(&room, "ana", &ana);
        let mut here = nodes.node(1).enter(&room, "bob");
        event_of(&mut there, "user_joined", "bob");
        let target = format!("/rooms/{room}/messages");
        let body = json!({"message": "kept", "nonce": "n"});
        let said = nodes.node(1).ask(post(&target).session(&ana).json(&body)).expect(201).json();
        assert_eq!(here.event(), said);
        assert_eq!(there.event(), said);
        own.restart();
        serves(nodes.node(0));
        serves(nodes.node(1));
        let again = nodes.node(0).ask(post(&target).session(&ana).json(&body)).expect(200).json();
        assert_eq!(again, said);
        there.chat("and on");
        here.expect_chat("ana", "and on");
        there.expect_chat("ana", "and on");
        own.forget();
        own.restart();
        there.expect_close(4401, "invalid or expired session");
        here.expect_close(4401, "invalid or expired session");
        serves(nodes.node(0));
        nodes.node(0).ask(get(&target).session(&ana)).refused(401, "invalid_session");
    });
}

/// The oldest messages of the idlest rooms go before the store is full, and nothing new begins.
#[test]
fn a_store_that_fills_gives_up_old_messages_and_refuses_what_is_new() {
    Store::each(|store| {
        let own = Store::start(
            store.engine(),
            &["--maxmemory", "12mb", "--maxmemory-policy", "noeviction"],
        );
        let nodes = Nodes::start(1, &own, &["--message-rate", "0"]);
        let node = nodes.node(0);
        let ana = node.session("ana");
        let room = node.room(&ana);
        let target = format!("/rooms/{room}/messages");
        let text = "\u{1f600}".repeat(4000);
        let (mut http, mut posted) = (node.http(), 0);
        let said = post(&target).session(&ana).json(&json!({"message": text}));
        loop {
            let answer = http.ask(&said);
            if answer.status != 201 {
                answer.refused(503, "server_full");
                break;
            }
            posted += 1;
            assert!(posted < 5000, "the store does not fill");
        }
        let open = || node.ask(post("/sessions").json(&json!({"username": "bob"})));
        wait_until("nothing new may begin", || open().status == 503);
        assert_eq!(open().refused(503, "server_full").field("Retry-After"), Some("10"));
        wait_until("old messages have gone", || open().status == 201);
        http.ask(&said).expect(201);
    });
}
