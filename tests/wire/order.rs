//! Order: all members of a room receive the same events in the same order, which is the order of the history.

use std::thread;

use serde_json::{Value, json};

use crate::client::{Ws, chat};
use crate::server::Server;

/// Reads up to the message "end". Returns all events in order.
fn read_to_the_end(socket: &mut Ws) -> Vec<Value> {
    let mut events = vec![socket.event()];
    while events.last().is_none_or(|event| event["message"] != "end") {
        events.push(socket.event());
    }
    events
}

// contract §1.14 §6.6 §6.7
#[test]
fn twenty_members_see_the_same_two_thousand_messages_in_the_same_order() {
    const MEMBERS: usize = 20;
    const WRITERS: usize = 10;
    const EACH: usize = 200;
    // With the default outbox: half a megabyte at once makes no reader too slow.
    let server = Server::start(&["--message-rate", "0"]);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let names: Vec<String> = (0..MEMBERS).map(|number| format!("member {number}")).collect();
    let mut members: Vec<Ws> = names.iter().map(|name| server.enter(&room, name)).collect();
    for (number, member) in members.iter_mut().enumerate() {
        for name in &names[number + 1..] {
            member.expect_join(name);
        }
    }
    // Each writer sends its two hundred messages in one write.
    let readers: Vec<_> = members
        .into_iter()
        .enumerate()
        .map(|(number, mut member)| {
            thread::spawn(move || {
                if number < WRITERS {
                    let text = |message: usize| format!("{number}/{message}");
                    let bytes: Vec<u8> = (0..EACH).flat_map(|m| chat(&text(m))).collect();
                    member.send(bytes);
                }
                let seen: Vec<Value> = (0..WRITERS * EACH).map(|_| member.event()).collect();
                (seen, member)
            })
        })
        .collect();
    let seen: Vec<(Vec<Value>, Ws)> =
        readers.into_iter().map(|reader| reader.join().expect("a reader")).collect();
    let (order, _) = &seen[0];
    for (number, (events, _)) in seen.iter().enumerate() {
        assert!(events == order, "member {number} sees another order than member 0");
    }
    // The messages of each writer are in the order in which it sent them.
    for (writer, name) in names.iter().enumerate().take(WRITERS) {
        let name = json!(name);
        let own = order.iter().filter(|event| event["user"] == name);
        let texts: Vec<&str> = own.filter_map(|event| event["message"].as_str()).collect();
        let written: Vec<String> = (0..EACH).map(|m| format!("{writer}/{m}")).collect();
        assert!(texts == written, "writer {writer}");
    }
    assert!(order.windows(2).all(|pair| pair[0]["id"].as_str() < pair[1]["id"].as_str()));
    let history = server.messages(&room, &ana);
    assert!(history == order[WRITERS * EACH - 1000..], "the history is the last thousand of it");
}

#[test]
fn a_newcomer_receives_every_event_after_its_own_join() {
    let server = Server::start(&["--message-rate", "0", "--outbox", "16M"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    // Bob sends chats, twenty in a write, until three users have entered, and a hundred more.
    let writer = thread::spawn(move || {
        let (mut number, mut joins, mut after) = (0, 0, 0);
        while after < 5 {
            let texts = (number..number + 20).map(|one: usize| one.to_string());
            bob.send(texts.flat_map(|text| chat(&text)).collect::<Vec<u8>>());
            number += 20;
            let last = (number - 1).to_string();
            loop {
                let event = bob.event();
                joins += usize::from(event["type"] == "user_joined");
                if event["message"] == last.as_str() {
                    break;
                }
            }
            after += usize::from(joins == 3);
        }
        bob.chat("end");
        bob
    });
    let sessions = ["carl", "dora", "emil"].map(|name| server.session(name));
    let late: Vec<_> = sessions
        .iter()
        .map(|session| {
            let mut socket = server.socket(&room, session);
            thread::spawn(move || (read_to_the_end(&mut socket), socket))
        })
        .collect();
    let all = read_to_the_end(&mut ana);
    for (reader, name) in late.into_iter().zip(["carl", "dora", "emil"]) {
        let (tail, _socket) = reader.join().expect("a reader");
        assert_eq!((&tail[0]["type"], &tail[0]["user"]), (&json!("user_joined"), &json!(name)));
        assert!(all.ends_with(&tail), "from its own join on, {name} receives what ana receives");
    }
    drop(writer.join().expect("the writer"));
}
