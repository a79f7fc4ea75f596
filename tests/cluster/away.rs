//! What clients see of a store that is away, and of several servers as one.

use serde_json::json;

use crate::client::{delete, get, post, upgrade};
use crate::nodes::Nodes;
use crate::server::wait_until;
use crate::stores::Store;

/// A message that one server has answered is read from another, and its nonce is known there.
// contract §17.1
#[test]
fn a_session_a_room_and_its_messages_are_the_same_at_each_server() {
    for partitions in ["1", "4"] {
        Store::each(|store| {
            same_at_each_server(&Nodes::start(2, store, &["--cluster-partitions", partitions]));
        });
    }
}

fn same_at_each_server(nodes: &Nodes) {
    let (one, other) = (nodes.node(0), nodes.node(1));
    let ana = one.session("ana");
    let room = other.room(&ana);
    let mut bob = other.enter(&room, "bob");
    let mut here = one.enter_as(&room, "ana", &ana);
    bob.expect_event(&json!({"type": "user_joined", "user": "ana"}));
    here.text(r#"{"type":"chat","message":"hello","nonce":"n1"}"#);
    let heard = bob.expect_chat("ana", "hello");
    assert_eq!(heard, here.expect_chat("ana", "hello"));
    let target = format!("/rooms/{room}/messages");
    let again = json!({"message": "hello", "nonce": "n1"});
    let answer = other.ask(post(&target).session(&ana).json(&again)).expect(200).json();
    assert_eq!(answer, heard);
    let listed = other.ask(get(&target).session(&ana)).expect(200).json();
    assert_eq!(listed["messages"].as_array().and_then(|all| all.last()), Some(&heard));
    one.ask(delete(&format!("/rooms/{room}")).session(&ana)).expect(200);
    bob.expect_close(4410, "room deleted");
    here.expect_close(4410, "room deleted");
}

// contract §17.2 §17.3 §7.18
#[test]
fn a_store_that_is_away_refuses_and_then_closes_and_is_used_again() {
    Store::each(|store| {
        let mut own = Store::start(store.engine(), &[]);
        let flags = ["--cluster-patience", "2s", "--cluster-timeout", "1s"];
        let nodes = Nodes::start(1, &own, &flags);
        let node = nodes.node(0);
        let health = || node.ask(get("/health")).expect(200).json()["store"].clone();
        assert_eq!(health(), "up");
        let ana = node.session("ana");
        let room = node.room(&ana);
        let mut socket = node.enter_as(&room, "ana", &ana);
        own.end();
        wait_until("the store is away", || health() == "down");
        let answer = node.ask(post("/sessions").json(&json!({"username": "bob"})));
        assert_eq!(answer.refused(503, "unavailable").field("Retry-After"), Some("1"));
        let target = format!("/ws/{room}?session_id={ana}");
        node.http().ask(&upgrade(&target)).refused(503, "unavailable");
        socket.chat("is anybody there?");
        let refused = socket.event();
        assert_eq!(
            (&refused["type"], &refused["code"]),
            (&json!("refused"), &json!("unavailable"))
        );
        assert!(refused["retry_after"].as_f64().is_some_and(|wait| wait > 0.0));
        socket.expect_close(1013, "unavailable");
        own.restart();
        wait_until("the store is used again", || health() == "up");
        // It came back empty.
        node.ask(get("/sessions/me").session(&ana)).refused(401, "invalid_session");
    });
}
