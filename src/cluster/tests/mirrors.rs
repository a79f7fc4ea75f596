//! Mirrored rooms: what pushes and parts of the history lead to.

use super::*;

/// A message of somebody else, as a push.
fn said(after: &str, at: &str, tail: u64, text: &str) -> String {
    let zoe = UserId::from_bits(0xAA);
    push(&format!("M {ROOM} {after} {at} {}", record('C', tail, zoe, text)))
}

fn chats(node: &mut Node) -> Vec<String> {
    let heard = std::mem::take(&mut node.ears.heard);
    heard.into_iter().filter_map(|event| Some(event.split_once("Chat(\"")?.1.to_owned())).collect()
}

#[test]
fn pushed_messages_are_heard_once_and_in_order() {
    let mut node = Node::new();
    node.has_entered();
    node.hears(&said("5-0", "6-0", 2, "one"));
    node.hears(&said("5-0", "6-0", 2, "one"));
    node.hears(&said("6-0", "7-0", 3, "two"));
    assert_eq!(chats(&mut node), ["one\")", "two\")"]);
    assert_eq!(node.called(), "");
}

#[test]
fn a_message_without_the_one_before_it_shows_a_gap() {
    let mut node = Node::new();
    node.has_entered();
    node.hears(&said("6-0", "7-0", 3, "two"));
    assert_eq!(node.sent(), [format!("resync {ROOM} 5-0")]);
    assert_eq!((chats(&mut node).len(), node.cluster.counters().gaps), (0, 1));
    // What is pushed before the answer is part of it.
    node.hears(&said("7-0", "8-0", 4, "three"));
    let (zoe, mine) = (UserId::from_bits(0xAA), node.user_id().to_string());
    let missed = |at, text| record('C', at, zoe, text);
    let (one, two, three) = (missed(2, "one"), missed(3, "two"), missed(4, "three"));
    let missed = reply!("OK", ["6-0", one, "7-0", two, "8-0", three], "", FACTS, [mine]);
    node.hears(&missed);
    assert_eq!(chats(&mut node), ["one\")", "two\")", "three\")"]);
    node.hears(&said("8-0", "9-0", 5, "four"));
    assert_eq!((chats(&mut node), node.called()), (vec!["four\")".to_owned()], String::new()));
}

#[test]
fn pushes_wait_for_the_history_before_them() {
    let mut node = Node::new();
    node.enters();
    node.hears(&reply!("OK", "Ana", "", "0", "1"));
    node.sent();
    let none = "*0\r\n";
    let snapshot = format!("*3\r\n{}{none}{none}", bulk(FACTS));
    let items = [bulk("IN"), bulk("5-0"), none.to_owned(), bulk(""), snapshot, bulk("")];
    node.hears(&format!("*6\r\n{}", items.concat()));
    assert_eq!(node.sent(), [format!("history {ROOM} 0-0 128")]);
    // It is pushed while the history is on its way, and is the history's last message.
    node.hears(&said("5-0", "6-0", 2, "two"));
    assert_eq!((node.outcome(), chats(&mut node).len()), (String::new(), 0));
    assert_eq!(node.called(), "", "it shows no gap");
    let zoe = UserId::from_bits(0xAA);
    let said = |tail, text| record('C', tail, zoe, text);
    node.hears(&reply!("OK", ["5-0", (said(1, "one")), "6-0", (said(2, "two"))], ""));
    assert_eq!(node.outcome(), "entered");
    assert_eq!(chats(&mut node), ["two\")"], "the connection entered before it");
}

#[test]
fn a_person_that_the_store_has_expelled_is_closed_here() {
    let reasons = [
        ("left", CloseReason::LeftRoom),
        ("removed", CloseReason::Removed),
        ("evicted", CloseReason::Silent),
        ("ended", CloseReason::InvalidSession),
    ];
    for (why, reason) in reasons {
        let mut node = Node::new();
        node.has_entered();
        node.hears(&push(&format!("K {ROOM} {} {why}", UserId::from_bits(1))));
        assert_eq!(node.ears.closed, []);
        node.hears(&push(&format!("K {ROOM} {} {why}", node.user_id())));
        assert_eq!(node.ears.closed, [reason], "{why}");
    }
}

#[test]
fn a_connection_is_closed_that_was_entering_when_its_person_was_expelled() {
    let mut node = Node::new();
    node.enters();
    node.hears(&reply!("OK", "Ana", "", "0", "1"));
    node.sent();
    node.hears(&push(&format!("K {ROOM} {} removed", node.user_id())));
    let none = "*0\r\n";
    let snapshot = format!("*3\r\n{}{none}{none}", bulk(FACTS));
    let items = [bulk("IN"), bulk("0-0"), none.to_owned(), bulk(""), snapshot, bulk("")];
    node.hears(&format!("*6\r\n{}", items.concat()));
    assert_eq!(node.outcome(), "turned away: Removed");
    // The store let it in before it removed the person, or after: it learns in any case.
    assert_eq!(node.called(), "exit detach");
}

#[test]
fn the_end_of_a_session_or_a_room_closes_its_connections() {
    let mut node = Node::new();
    node.has_entered();
    let hash = node.cluster.identity().unwrap().session(session());
    node.hears(&push(&format!("E {hash}")));
    assert_eq!(node.ears.closed, [CloseReason::InvalidSession]);
    let mut node = Node::new();
    node.has_entered();
    node.hears(&push(&format!("D {ROOM} deleted")));
    node.chat.end_members(node.now, 10, &mut node.ears);
    assert_eq!(node.ears.closed, [CloseReason::RoomDeleted]);
}

/// Regression: a change of the room was told at once while the messages before it were still being loaded,
/// so a new owner was told before its arrival.
#[test]
fn a_new_owner_is_told_after_its_arrival() {
    let zoe = UserId::from_bits(0xAA);
    let facts = format!("R {ROOM} - 0 {zoe} 1755611000000000 - 2 a title");
    let zoe_joined = record('J', 4, zoe, "").replace("03Ana", "03Zoe");
    let heard = |node: &mut Node| {
        let heard = std::mem::take(&mut node.ears.heard).into_iter();
        let kinds = ["UserJoined", "RoomChanged"].into_iter();
        let kind = |event: String| kinds.clone().find(|kind| event.contains(kind));
        heard.filter_map(kind).collect::<Vec<_>>()
    };
    // At a node that is asking for what it has missed.
    let mut node = Node::new();
    node.has_entered();
    heard(&mut node);
    node.hears(&said("6-0", "7-0", 3, "two"));
    node.hears(&push(&format!("M {ROOM} 7-0 8-0 {zoe_joined}")));
    node.hears(&push(&facts));
    assert_eq!(heard(&mut node), [""; 0]);
    let missed = |at| record('C', at, zoe, "x");
    let mine = node.user_id().to_string();
    let list = reply!(@ ["6-0", (missed(2)), "7-0", (missed(3)), "8-0", (zoe_joined)]);
    let now = facts.split_once(&format!("{ROOM} ")).unwrap().1;
    let parts = [bulk("OK"), list, bulk(""), bulk(now), reply!(mine)];
    node.hears(&format!("*5\r\n{}", parts.concat()));
    assert_eq!(heard(&mut node), ["UserJoined", "RoomChanged"]);
    // At the node of the heir, which is let in while the history is loaded: here, before the last part.
    let (mut node, joined) =
        node_that_loads(|mine| format!("- 0 {mine} 1755611000000000 - 1 a title"));
    assert_eq!(heard(&mut node), [""; 0]);
    node.hears(&reply!("OK", ["6-0", joined], ""));
    assert_eq!(node.outcome(), "entered");
    assert_eq!(heard(&mut node), ["UserJoined", "RoomChanged"]);
}

/// A node at which a person has been let in while the history is loaded, all but its last part, and the
/// record of the arrival, which that part has. `facts`: those of the room after the arrival.
fn node_that_loads(facts: impl Fn(UserId) -> String) -> (Node, String) {
    let mut node = Node::new();
    node.enters();
    node.hears(&reply!("OK", "Ana", "", "0", "1"));
    let (mine, none) = (node.user_id(), "*0\r\n");
    let snapshot = format!("*3\r\n{}{none}{none}", bulk(FACTS));
    let joined = record('J', 4, mine, "");
    let events = reply!(@ [["5-0", "6-0", (joined.clone())]]);
    let items = [bulk("IN"), bulk("5-0"), events, bulk(&facts(mine)), snapshot, bulk("")];
    node.hears(&format!("*6\r\n{}", items.concat()));
    node.hears(&reply!("OK", ["5-0", (record('C', 1, mine, "x"))], "1"));
    (node, joined)
}

#[test]
fn changes_wait_for_the_history_up_to_a_bound() {
    for (changes, told) in [(64, 64), (65, 64), (200, 64)] {
        let (mut node, joined) = node_that_loads(|_| String::new());
        for number in 1..=changes {
            let facts = format!("- 0 - 1755611000000000 - 1 title {number}");
            node.hears(&push(&format!("R {ROOM} {facts}")));
        }
        node.hears(&reply!("OK", ["6-0", joined], ""));
        let heard = node.ears.heard.iter().filter(|event| event.contains("RoomChanged"));
        let heard: Vec<_> = heard.collect();
        assert_eq!(heard.len(), told);
        assert!(heard[told - 1].contains(&format!("title {changes}\"")), "{heard:?}");
    }
}

/// Regression: each probe of a name was kept until its end, although those before it were over.
#[test]
fn a_person_is_probed_once_however_often_the_name_is_wanted() {
    let mut node = Node::new();
    node.has_entered();
    for _ in 0..1000 {
        node.hears(&push(&format!("Q {ROOM} {}", node.user_id())));
    }
    assert_eq!(node.cluster.probes.len(), 1);
    node.hears(&push(&format!("Q {ROOM} {}", UserId::from_bits(0xAA))));
    assert_eq!(node.cluster.probes.len(), 1, "nobody here has that name");
    // The person is asked at the end of the last probe.
    node.waits(1000);
    node.hears(&push(&format!("Q {ROOM} {}", node.user_id())));
    node.waits(2624);
    assert_eq!(node.cluster.probes.len(), 1);
    node.waits(1);
    assert_eq!(node.cluster.probes.len(), 0);
}

/// One entry for each connection that wants a name, at most, and none when the last of them has gone.
#[test]
fn seekers_of_a_name_are_counted_until_the_last_has_gone() {
    const CONNECTIONS: usize = 200;
    let mut node = Node::new();
    let before = node.cluster.heap_bytes();
    let mut conns = Vec::new();
    for number in 0..CONNECTIONS {
        conns.push(node.enters());
        // Two of them want each name.
        node.hears(&reply!("OK", (format!("Ana {}", number / 2)), "", "0", "1"));
        node.hears(&reply!("PROBE", "3000000", (UserId::from_bits(0xAA).to_string())));
        assert_eq!(node.cluster.seekers.len(), number / 2 + 1);
    }
    node.sent();
    for (number, conn) in conns.into_iter().enumerate() {
        let (cluster, mut lent) = node.lent();
        cluster.on_gone(&mut lent, conn);
        let called = if number % 2 == 0 { "detach" } else { "detach unask" };
        assert_eq!(node.called(), called, "{number}");
        node.hears(&reply!("OK").repeat(1 + number % 2));
    }
    assert_eq!(node.cluster.seekers.len(), 0);
    assert!(node.cluster.conns.values().all(|conn| conn.waits.is_none()));
    node.cluster.take_answers();
    assert!(node.cluster.heap_bytes() < before + 64 * 1024, "nothing is kept");
}
