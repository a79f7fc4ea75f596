//! Single situations in which people are at different nodes, and faults of servers that were found.
//!
//! Owns one test for each. Must not know how nodes and the store talk. The invariant: what a person
//! meets does not depend on the node that it is connected to.

use std::time::Duration;

use disposable_chat::config::Config;

use super::differential;
use crate::pipe::RELIABLE;
use crate::wire::CLOSE;
use crate::world::{Start, World};

fn config() -> Config {
    let (session_ttl, room_ttl) = (Duration::from_secs(60), Duration::from_secs(30));
    Config { session_ttl, room_ttl, leave_grace: Duration::from_secs(2), ..Config::default() }
}

#[test]
fn two_people_at_two_nodes_chat_resume_and_leave() {
    let mut world = World::in_cluster(1, &config(), RELIABLE, 2);
    let (host, guest) = (world.add_user("host"), world.add_user("guest"));
    world.cluster().send_to(0);
    let room = world.open_room(host, false);
    world.rooms[room].watched = true;
    world.cluster().send_to(0);
    let host = world.enter(host, room);
    world.cluster().send_to(1);
    let first = world.enter(guest, room);
    world.settle();
    for peer in [host, first, host] {
        world.chat(peer, "hello");
        world.settle();
    }
    world.reset(first);
    world.settle();
    world.chat(host, "still here?");
    world.settle();
    let last = world.peers[first].ws().and_then(|ws| ws.seen.last().cloned());
    world.cluster().send_to(0);
    let second = world.enter_at(guest, room, Start::After(last.expect("it has seen messages")));
    world.settle();
    let ws = world.peers[second].ws().expect("a WebSocket");
    assert_eq!((ws.seen.len(), ws.pages.complete), (1, Some(true)), "nobody left or joined");
    let close = world.frame(CLOSE, &1000u16.to_be_bytes());
    world.send_and_expect_close(second, &close, 1000);
    world.settle();
    assert_eq!(world.rooms[room].names_present(), ["host"]);
    world.rooms[room].watched = false;
    world.close_all();
}

/// Each node's clock is another one, and messages have the store's time.
#[test]
fn a_person_whose_node_dies_leaves_when_its_lease_is_over() {
    let mut world = World::in_cluster(2, &config(), RELIABLE, 2);
    let (host, guest) = (world.add_user("host"), world.add_user("guest"));
    world.cluster().send_to(0);
    let room = world.open_room(host, false);
    for (node, user) in [(0, host), (1, guest)] {
        world.cluster().send_to(node);
        world.enter(user, room);
    }
    world.settle();
    assert_eq!(world.rooms[room].names_present(), ["guest", "host"]);
    world.kill_node(1);
    world.pass_time(Duration::from_millis(8900));
    assert_eq!(world.rooms[room].names_present(), ["guest", "host"], "the lease goes on");
    world.pass_time(Duration::from_millis(2500));
    world.settle();
    assert_eq!(world.rooms[room].names_present(), ["host"]);
    world.close_all();
}

/// Stores break the connection of a node that they can't tell something; should one not, the node
/// notices it with the next message.
#[test]
fn a_node_that_misses_a_push_asks_for_what_it_lacks() {
    let mut world = World::in_cluster(3, &config(), RELIABLE, 2);
    let (host, guest) = (world.add_user("host"), world.add_user("guest"));
    world.cluster().send_to(0);
    let room = world.open_room(host, false);
    let peers = [(0, host), (1, guest)].map(|(node, user)| {
        world.cluster().send_to(node);
        world.enter(user, room)
    });
    world.settle();
    world.cluster().nodes[1].misses_output = true;
    world.chat(peers[0], "a message that is not told");
    world.run();
    world.cluster().nodes[1].misses_output = false;
    world.chat(peers[0], "the next one");
    world.settle();
    world.close_all();
}

/// Regression: a refusal waited for the messages that were sent after the refused one, and a message
/// that the store had accepted or knew preceded the refusal of an earlier one.
#[test]
fn a_connection_receives_answers_in_the_order_of_its_messages() {
    let run = |nodes| {
        let mut world = differential::world(4, &config(), RELIABLE, nodes);
        let (host, guest) = (world.add_user("host"), world.add_user("guest"));
        let room = world.open_room_with(host, r#"{"slow_mode": 60}"#);
        let peer = world.enter(guest, room);
        world.settle();
        let nonces = ["one", "two", "one", "three"];
        for (nonce, is_refused) in nonces.into_iter().zip([false, true, false, true]) {
            let json = format!(r#"{{"type":"chat","message":"hello","nonce":"{nonce}"}}"#);
            match is_refused {
                true => world.send_invalid(peer, &json, "rate_limited"),
                false => world.chat_with_nonce(peer, "hello".to_owned(), nonce.to_owned()),
            }
        }
        world.settle();
        let events = differential::events(&world).pop().expect("a peer");
        world.close_all();
        events
    };
    let told = run(1);
    let nonces = told.iter().filter_map(|event| event.split_once(r#""nonce":""#));
    let nonces: Vec<_> = nonces.filter_map(|(_, rest)| rest.split('"').next()).collect();
    assert_eq!(nonces, ["one", "two", "one", "three"]);
    assert_eq!(told, run(0), "as from a single server");
}
