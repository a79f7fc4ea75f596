//! A store that is away, comes back, or answers what nobody knows.

use super::*;
use crate::chat::Departure;
use crate::cluster::args::Args;
use crate::cluster::library::Function;
use crate::cluster::state::{Deferred, Token};

impl Node {
    /// The connection is lost, and two seconds later there is another one.
    fn reconnects(&mut self) {
        self.loses_the_store();
        self.connect(1);
    }

    fn loses_the_store(&mut self) {
        let (cluster, mut lent) = self.lent();
        cluster.on_lost(&mut lent, &"reset");
        self.waits(2000);
    }

    /// What was sent after the greeting, but for the questions what the store counts for this node.
    fn sent_behind_the_greeting(&mut self) -> Vec<String> {
        let mut sent = self.sent();
        let greeting = sent.iter().rposition(|call| call.starts_with("hello ")).unwrap();
        let mut sent = sent.split_off(greeting + 1);
        sent.retain(|call| !call.starts_with("SMEMBERS "));
        sent
    }

    fn posts(&mut self, (conn, attachment): (ConnKey, AttachmentKey), text: &str) -> String {
        let (cluster, mut lent) = self.lent();
        assert_eq!(cluster.post(&mut lent, conn, attachment, text, None), Ok(()));
        let sent = self.sent();
        assert_eq!(sent.len(), 1);
        // The body, as the last part of its form tells.
        let call = &sent[0];
        call.split(' ').find(|part| part.starts_with('C')).unwrap().to_owned()
    }
}

#[test]
fn the_lease_is_renewed_every_second() {
    let mut node = Node::new();
    for second in 0..20 {
        node.waits(if second == 0 { 0 } else { 1000 });
        assert_eq!(node.sent(), ["INFO memory", "beat 10000000"], "second {second}");
        node.hears("$0\r\n\r\n");
        node.hears(&reply!("OK", "1000000", "0", "3", "4", "0", "0"));
        let next = node.cluster.next_deadline().unwrap();
        assert!(next <= node.now.mono.after(Duration::from_secs(1)), "it would sleep for longer");
    }
}

/// Regression: a health check that was under way when the store was lost got 503.
// contract §17.2
#[test]
fn a_health_check_has_the_counts_of_the_last_beat_if_the_store_does_not_answer() {
    let mut node = Node::new();
    node.waits(0);
    assert_eq!(node.sent(), ["INFO memory", "beat 10000000"]);
    node.hears("$0\r\n\r\n");
    node.hears(&reply!("OK", "1000000", "0", "3", "4", "0", "0"));
    let asks = |node: &mut Node| {
        assert_eq!(node.asks(Command::Count), Ok(()));
        assert_eq!(node.called(), "count");
        assert_eq!(node.outcome(), "");
    };
    asks(&mut node);
    node.hears("-OOM x\r\n");
    assert_eq!(node.outcome(), "3 sessions, 4 rooms");
    asks(&mut node);
    let (cluster, mut lent) = node.lent();
    cluster.on_lost(&mut lent, &"reset");
    node.waits(0);
    assert_eq!(node.outcome(), "3 sessions, 4 rooms");
    assert_eq!(node.asks(Command::Count), Ok(()));
    assert_eq!(node.outcome(), "3 sessions, 4 rooms");
}

/// Regression: a request that waited for the next listing was not answered at all, or with a listing that lacked the
/// part that had failed.
#[test]
fn a_listing_of_which_a_part_has_failed_is_refused() {
    let mut node = Node::with_partitions(2);
    let (one, other) = (reply!("OK", "7", [ROOM, FACTS]), reply!("OK", "7", ["9876543210", FACTS]));
    for (replies, outcome) in [
        (["-OOM x\r\n", &one], "Unavailable(1s)"),
        ([&one, "-OOM x\r\n"], "Unavailable(1s)"),
        ([&other, &one], "2 public rooms"),
        ([&other, &one], "2 public rooms"),
        ([&other, &one], "2 public rooms"),
    ] {
        assert_eq!(node.asks(Command::ListRooms), Ok(()));
        assert_eq!(node.called(), "listing listing");
        node.hears(replies[0]);
        assert_eq!(node.outcome(), "");
        node.hears(replies[1]);
        assert_eq!(node.outcome(), outcome);
    }
    assert_eq!(node.asks(Command::ListRooms), Ok(()));
    assert_eq!(node.called(), "", "five at once, and then four a second");
    let (cluster, mut lent) = node.lent();
    cluster.on_lost(&mut lent, &"reset");
    node.waits(250);
    assert!(node.cluster.next_deadline() <= Some(node.now.mono));
    node.waits(0);
    assert_eq!(node.outcome(), "Unavailable(1s)");
}

#[test]
fn what_is_due_in_the_store_is_reaped_in_time() {
    let mut node = Node::new();
    node.waits(0);
    node.hears("$0\r\n\r\n");
    node.hears(&reply!("OK", "1000000", "1500000", "3", "4", "0", "0"));
    node.sent();
    node.waits(500);
    assert_eq!(node.called(), "", "the store's clock has gone on since");
    node.waits(2);
    assert_eq!(node.called(), "reap");
    let session = "00112233445566778899aabbccddeeff";
    node.hears(&reply!("OK", "1", [session]));
    assert_eq!(node.called(), "end_session reap", "there is more");
}

#[test]
fn a_post_that_was_executed_is_not_sent_again() {
    let mut node = Node::new();
    let tab = node.has_entered();
    let body = node.posts(tab, "hi");
    let lost = node.posts(tab, "ho");
    node.reconnects();
    let sent = node.sent_behind_the_greeting();
    assert_eq!(sent.len(), 2);
    assert!(sent[0].starts_with("declare ") && sent[0].contains(" 1 "), "{}", sent[0]);
    assert_eq!(sent[1], format!("resync {ROOM} 5-0"));
    node.hears(&reply!("OK"));
    let (mine, missed) = (node.user_id().to_string(), format!("1755611100123456{body}"));
    node.hears(&reply!("OK", ["6-0", missed], "", FACTS, [mine]));
    assert_eq!(node.outcome(), "1 answered");
    let sent = node.sent();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].starts_with("post ") && sent[0].contains(&lost), "{}", sent[0]);
    node.hears(&reply!("OK", "6-0", "7-0", "1755611100123457", ""));
    assert_eq!(node.outcome(), "2 answered");
    let chats = node.ears.heard.iter().filter(|event| event.contains("Chat("));
    assert_eq!(chats.count(), 2);
}

#[test]
fn a_person_that_the_store_has_forgotten_enters_again() {
    let mut node = Node::new();
    node.has_entered();
    node.reconnects();
    node.sent();
    let facts = FACTS;
    node.hears(&reply!("OK"));
    node.hears(&format!("*5\r\n{}*0\r\n{}{}*0\r\n", bulk("OK"), bulk(""), bulk(facts),));
    assert_eq!(node.called(), "members");
    node.hears(&reply!("OK", ["1"]));
    assert_eq!(node.called(), "enter");
    assert_eq!(node.ears.closed, []);
}

#[test]
fn connections_that_ended_meanwhile_are_declared_and_leave() {
    let mut node = Node::new();
    let (_, attachment) = node.has_entered();
    let (cluster, mut lent) = node.lent();
    cluster.on_lost(&mut lent, &"reset");
    node.chat.exit(node.now, attachment, Departure::Closed, &mut node.ears);
    let (cluster, mut lent) = node.lent();
    cluster.on_exits(&mut lent);
    assert_eq!(node.called(), "");
    node.waits(2000);
    node.connect(1);
    let sent = node.sent_behind_the_greeting();
    assert!(sent[0].starts_with("declare ") && sent[0].contains(" 0 "), "{sent:?}");
    node.hears(&reply!("OK"));
    let mine = node.user_id().to_string();
    node.hears(&format!("*5\r\n{}*0\r\n{}{}{}", bulk("OK"), bulk(""), bulk(FACTS), reply!(mine)));
    let called = node.called();
    assert!(called.split(' ').all(|call| call == "exit") && !called.is_empty(), "{called}");
}

#[test]
fn a_connection_that_ends_while_its_session_is_declared_is_declared_again() {
    let mut node = Node::new();
    let (_, attachment) = node.has_entered();
    node.reconnects();
    let sent = node.sent_behind_the_greeting();
    assert!(sent[0].starts_with("declare ") && sent[0].contains(" 1 "), "{sent:?}");
    node.chat.exit(node.now, attachment, Departure::Closed, &mut node.ears);
    let (cluster, mut lent) = node.lent();
    cluster.on_exits(&mut lent);
    assert_eq!(node.called(), "");
    let mine = node.user_id().to_string();
    let missed = [bulk("OK"), "*0\r\n".to_owned(), bulk(""), bulk(FACTS), reply!(mine)];
    node.hears(&format!("{}*5\r\n{}", reply!("OK"), missed.concat()));
    let sent = node.sent();
    assert!(sent.len() == 1 && sent[0].starts_with("declare "), "{sent:?}");
    assert!(sent[0].contains(" 0 "), "{sent:?}");
}

#[test]
fn catching_up_asks_for_a_few_at_a_time_and_for_all() {
    const SESSIONS: u128 = 5000;
    let mut node = Node::new();
    node.has_entered();
    node.cluster.undeclared.extend(0..SESSIONS);
    node.reconnects();
    let mut asked = node.sent_behind_the_greeting();
    assert_eq!(asked.len(), 32);
    for answered in 1..=SESSIONS as usize + 1 {
        assert!(asked[answered - 1].starts_with("declare "));
        node.hears(&reply!("OK"));
        asked.extend(node.sent());
        assert_eq!(asked.len(), (answered + 32).min(SESSIONS as usize + 2));
    }
    assert_eq!(asked.pop(), Some(format!("resync {ROOM} 5-0")));
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), SESSIONS as usize + 1);
    let mine = node.user_id().to_string();
    node.hears(&format!("*5\r\n{}*0\r\n{}{}{}", bulk("OK"), bulk(""), bulk(FACTS), reply!(mine)));
    assert!(node.cluster.uplink.is_up());
}

#[test]
fn catching_up_ends_whatever_the_store_refuses() {
    let mut node = Node::new();
    node.has_entered();
    node.loses_the_store();
    node.greet(1);
    node.hears(&"-ERR no\r\n".repeat(4));
    for _ in ["the people of the room", "that it is not mirrored any more"] {
        assert!(!node.cluster.uplink.is_up());
        node.hears("-ERR no\r\n");
    }
    assert_eq!(node.ears.closed, [CloseReason::Unavailable]);
    assert!(node.cluster.uplink.is_up());
}

/// Regression: a person whose departure found the queue full was present for as long as the connection
/// to the store lasted.
#[test]
fn a_departure_that_finds_the_queue_full_is_told_later() {
    let mut node = Node::new();
    let (_, attachment) = node.has_entered();
    while node.cluster.uplink.has_capacity_for(Function::Exit) {
        let call = node.cluster.call(node.now.mono, 0, Function::Exit, Args::new(), Token::Nothing);
        assert_eq!(call, Ok(()));
    }
    node.sent();
    node.chat.exit(node.now, attachment, Departure::Closed, &mut node.ears);
    let (cluster, mut lent) = node.lent();
    cluster.on_exits(&mut lent);
    cluster.call_deferred(&mut lent);
    assert_eq!(node.called(), "");
    node.hears(&[reply!("OK"), reply!("OK")].concat());
    let (cluster, mut lent) = node.lent();
    cluster.call_deferred(&mut lent);
    assert_eq!(node.called(), "exit detach");
}

/// What finds the queue full is kept once, whatever asks for it again, and made once.
#[test]
fn what_is_deferred_is_bounded_by_the_connections_and_rooms_that_are_here() {
    let mut node = Node::new();
    node.has_entered();
    let hash = node.cluster.identity().unwrap().session(session());
    // Calls that end something may be twice as many as others.
    let bound = 2 * CALLS_MAX;
    for number in 0..bound - 1 {
        let call = node.cluster.call(node.now.mono, 0, Function::Exit, Args::new(), Token::Nothing);
        assert_eq!(call, Ok(()), "{number}");
    }
    node.sent();
    node.cluster.detach(node.now.mono, hash);
    assert_eq!((node.called().as_str(), node.cluster.deferred.detaches.len()), ("detach", 0));
    let user_id = node.user_id();
    for count in 1..=5 {
        node.cluster.detach(node.now.mono, hash);
        node.cluster.resync(node.now.mono, room());
        node.cluster.call_exit(node.now.mono, room(), user_id, false);
        let Deferred { detaches, rooms } = &node.cluster.deferred;
        let people = node.cluster.leaving.len();
        assert_eq!((detaches.len(), rooms.len(), people), (count, 1, 1), "one for each connection");
    }
    let deferred = |node: &mut Node| {
        let (cluster, mut lent) = node.lent();
        cluster.call_deferred(&mut lent);
        node.called()
    };
    assert_eq!(deferred(&mut node), "", "there is no capacity yet");
    node.hears(&reply!("OK").repeat(bound));
    // Nothing is told of the person, who is still here.
    assert_eq!(deferred(&mut node), "detach detach detach detach detach resync");
    assert_eq!(deferred(&mut node), "");
    assert_eq!(node.cluster.leaving.len(), 0);
}

/// Regression: each attempt to catch up that failed added the same people once more.
#[test]
fn attempts_to_catch_up_find_each_person_once() {
    let mut node = Node::new();
    node.has_entered();
    for attempt in 0..5 {
        node.reconnects();
        // There is more to ask for, so that catching up is not over.
        node.cluster.undeclared.insert(attempt);
        // From the second attempt on, the one that was declared last is declared first.
        node.hears(&reply!("OK").repeat(1 + usize::from(attempt > 0)));
        let other = reply!((UserId::from_bits(0xAA).to_string()));
        let missed = [bulk("OK"), "*0\r\n".to_owned(), bulk(""), bulk(FACTS), other];
        node.hears(&format!("*5\r\n{}", missed.concat()));
        assert!(!node.cluster.uplink.is_up());
        let found = (node.cluster.leaving.len(), node.cluster.returning.len());
        assert_eq!(found, (1, 1), "attempt {attempt}");
        assert!(node.cluster.to_catch_up.is_empty(), "the room has been answered");
    }
}

#[test]
fn first_calls_wait_for_their_turn_up_to_a_bound() {
    let mut node = Node::new();
    let shows = |node: &mut Node, number: usize| {
        node.asks(Command::ShowRoom { room: RoomId::parse(&format!("{number:010x}")) })
    };
    for number in 0..128 + 4096 {
        assert_eq!(shows(&mut node, number), Ok(()), "{number}");
    }
    assert!(shows(&mut node, 5000).is_err());
    assert_eq!(node.sent().len(), 128);
    node.hears(&reply!("NOROOM"));
    assert_eq!(node.sent().len(), 1);
    assert_eq!(shows(&mut node, 5000), Ok(()));
    assert!(shows(&mut node, 5001).is_err());
    // All are answered that the store is away, those under way and those that wait.
    node.cluster.take_answers();
    node.waits(5000);
    assert_eq!(node.cluster.take_answers().len(), 128 + 4096);
}

#[test]
fn a_room_that_the_store_has_lost_in_part_is_closed() {
    for (answer, reason) in [
        ("BEHIND", CloseReason::Unavailable),
        ("GAP", CloseReason::Unavailable),
        ("NOROOM", CloseReason::RoomNotFound),
        ("FINE", CloseReason::Unavailable),
    ] {
        let mut node = Node::new();
        node.has_entered();
        node.reconnects();
        node.hears(&reply!("OK"));
        node.hears(&reply!(answer));
        assert_eq!(node.ears.closed, [reason], "{answer}");
    }
}

#[test]
fn connections_are_closed_when_patience_is_over() {
    let mut node = Node::new();
    node.has_entered();
    let (cluster, mut lent) = node.lent();
    cluster.on_lost(&mut lent, &"reset");
    node.waits(29_999);
    assert_eq!(node.ears.closed, []);
    assert!(node.cluster.next_deadline().is_some_and(|at| at <= Mono::from_micros(30_000_000)));
    node.waits(1);
    assert_eq!(node.ears.closed, [CloseReason::Unavailable]);
}

#[test]
fn an_unknown_answer_is_logged_once_for_each_connection() {
    let mut node = Node::new();
    node.waits(0);
    node.hears("$0\r\n\r\n");
    assert!(!node.cluster.has_faulted, "`INFO` is no function");
    node.hears(&reply!("FINE"));
    assert!(node.cluster.has_faulted);
    node.reconnects();
    assert!(!node.cluster.has_faulted);
}

/// Regression: a store that had lost its newest data counted connections for sessions that had none here
/// any more, and had people in rooms that this node did not mirror any more, for as long as the node lived.
#[test]
fn what_a_store_counts_that_has_lost_its_newest_data_is_taken_back() {
    let mut node = Node::new();
    node.has_entered();
    node.loses_the_store();
    node.greet(1);
    let name = node.cluster.uplink.node_key(0, "at").split_off("dc:{0}:at:".len());
    let hash = node.cluster.identity().unwrap().session(session()).to_string();
    let (mine, other) = (node.user_id().to_string(), UserId::from_bits(0xAA).to_string());
    let (gone, left) = ("00112233445566778899aabbccddeeff", "9876543210");
    let sent = node.sent();
    let asked = ["sat", "at"].map(|kind| format!("SMEMBERS dc:{{0}}:{kind}:{name}"));
    assert_eq!(sent[sent.len() - 4..sent.len() - 2], asked);
    node.hears(&[reply!(hash, gone), reply!(ROOM, left)].concat());
    assert_eq!(node.sent(), [format!("SMEMBERS dc:{{0}}:y:{left}:{name}")]);
    let missed = [bulk("OK"), "*0\r\n".to_owned(), bulk(""), bulk(FACTS), reply!(mine)];
    node.hears(&format!("{}*5\r\n{}", reply!("OK"), missed.concat()));
    node.hears(&reply!(other));
    let sent = node.sent();
    assert!(sent[0].starts_with(&format!("exit {left} {other} broken ")), "{sent:?}");
    assert_eq!(sent[1..], [format!("unwatch {left}")]);
    node.hears(&[reply!("OK", ""), reply!("OK")].concat());
    let sent = node.sent();
    assert!(sent.len() == 1 && sent[0].starts_with(&format!("declare {gone} 0 ")), "{sent:?}");
    assert!(!node.cluster.uplink.is_up());
    node.hears(&reply!("OK"));
    assert!(node.cluster.uplink.is_up());
    assert_eq!((node.ears.closed.len(), node.called()), (0, String::new()));
}

/// Regression: people whom the store had again, because it had lost its newest data, stayed present if
/// the mirror of their room had to be given up.
#[test]
fn all_people_leave_a_room_whose_mirror_is_given_up() {
    let mut node = Node::new();
    node.has_entered();
    node.reconnects();
    node.sent();
    node.hears(&[reply!("OK"), reply!("BEHIND")].concat());
    assert_eq!(node.ears.closed, [CloseReason::Unavailable]);
    let name = node.cluster.uplink.node_key(0, "at").split_off("dc:{0}:at:".len());
    assert_eq!(node.sent(), [format!("SMEMBERS dc:{{0}}:y:{ROOM}:{name}")]);
    let people = [node.user_id(), UserId::from_bits(0xAA)].map(|user_id| user_id.to_string());
    let [one, other] = &people;
    node.hears(&reply!(one, other));
    let sent = node.sent();
    assert!(sent[0].starts_with(&format!("exit {ROOM} {one} ")), "{sent:?}");
    assert!(sent[1].starts_with(&format!("exit {ROOM} {other} ")), "{sent:?}");
    assert_eq!(sent[2..], [format!("unwatch {ROOM}")]);
}
