//! Nonces: a message that is sent twice is posted once.

use super::*;

#[test]
fn live_events_and_the_history_contain_the_nonce_of_a_message() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.send_with(a, "hello", "n1");
    story.assert_received(a, &["joined bob", "chat ana: hello [n1]"]);
    story.assert_received(b, &["joined bob", "chat ana: hello [n1]"]);
    assert_eq!(story.history(room, 1), ["chat ana: hello [n1]"]);
    let late = story.enter_from(bob, room, Start::Last(1));
    story.assert_received(late, &["· chat ana: hello [n1]", "complete: ana, bob*"]);
}

#[test]
fn a_known_nonce_repeats_its_message_to_the_sending_connection_only() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.send_with(first, "hello", "n");
    story.assert_all_received(&[first, second, b], &["joined bob", "chat ana: hello [n]"]);
    let expected = story.last_id(room);
    for tab in [first, second, second] {
        story.send_with(tab, "something else", "n");
        story.assert_received(tab, &["again: chat ana: hello [n]"]);
        story.assert_all_received(&[first, second, b], &[]);
    }
    assert_eq!(story.last_id(room), expected);
}

#[test]
fn a_nonce_sent_twice_in_one_tick_posts_once_and_repeats_once() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    story.tick(|story| {
        story.send(first, "before");
        story.send_with(first, "hello", "n");
        story.send_with(second, "hello", "n");
        story.send(first, "after");
    });
    let expected = ["chat ana: before", "chat ana: hello [n]", "chat ana: after"];
    story.assert_received(first, &expected);
    story.assert_received(
        second,
        &[expected[0], expected[1], "again: chat ana: hello [n]", expected[2]],
    );
    assert_eq!(story.history(room, 3), expected);
}

#[test]
fn the_same_nonce_of_another_sender_or_in_another_room_is_new() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let (bob, namesake) = (story.person("bob"), story.person("ana"));
    let b = story.enter(bob, room);
    let elsewhere = story.room(ana);
    let there = story.enter(ana, elsewhere);
    for (tab, text) in [(a, "one"), (b, "two"), (there, "three")] {
        story.send_with(tab, text, "n");
    }
    story.assert_received(a, &["joined bob", "chat ana: one [n]", "chat bob: two [n]"]);
    story.assert_received(there, &["joined ana", "chat ana: three [n]"]);
    story.close(a);
    let other = story.enter(namesake, room);
    story.send_with(other, "I am another", "n");
    story.assert_received(other, &["joined ana", "chat ana: I am another [n]"]);
}

#[test]
fn a_nonce_stays_known_across_connections_and_memberships() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.send_with(a, "hello", "n");
    story.break_connection(a);
    let a = story.enter(ana, room);
    story.send_with(a, "hello", "n");
    story.assert_received(a, &["again: chat ana: hello [n]"]);
    story.leave(ana, room);
    let a = story.enter(ana, room);
    story.send_with(a, "hello", "n");
    story.assert_received(a, &["joined ana", "again: chat ana: hello [n]"]);
}

#[test]
fn a_nonce_is_forgotten_with_its_message() {
    let mut story = Story::with(|config| config.history_messages_max = 3);
    let (_, room, a) = story.begin("ana");
    story.send_with(a, "hello", "n");
    story.send(a, "one");
    story.send(a, "two");
    story.send_with(a, "hello", "n");
    let last = story.last_id(room);
    story.send(a, "three"); // Drops the first message.
    story.send_with(a, "hello", "n");
    assert_ne!(story.last_id(room), last);
    let lines = ["chat ana: hello [n]", "chat ana: one", "chat ana: two"];
    let again = ["again: chat ana: hello [n]", "chat ana: three", "chat ana: hello [n]"];
    story.assert_received(a, &[lines, again].concat());
    for text in ["one", "two", "three"] {
        story.send(a, text);
    }
    // `step` checks the invariants, one of which is that no nonce outlives its message.
    assert_eq!(story.history(room, 3), ["chat ana: one", "chat ana: two", "chat ana: three"]);
}

#[test]
fn without_a_kept_history_no_nonce_is_known() {
    let mut story = Story::with(|config| config.history_messages_max = 0);
    let (_, _, a) = story.begin("ana");
    story.send_with(a, "hello", "n");
    story.send_with(a, "hello", "n");
    story.assert_received(a, &["chat ana: hello [n]"; 2]);
}

#[test]
fn a_message_that_catching_up_has_yet_to_send_is_not_repeated() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.send_with(a, "first", "n1");
    (0..10).for_each(|_| story.send(a, &"🦀".repeat(4000)));
    story.send_with(a, "last", "n2");
    story.break_connection(a);
    let back = story.enter_from(ana, room, Start::Last(1000));
    assert!(story.is_catching_up(back));
    story.sink.received_by(back.conn).lines.clear();
    story.send_with(back, "last", "n2");
    story.send_with(back, "new", "n3");
    story.send_with(back, "new", "n3");
    story.assert_received(back, &[]);
    story.send_with(back, "first", "n1");
    story.assert_received(back, &["again: chat ana: first [n1]"]);
    story.catch_up(back);
    assert_eq!(story.sink.received_by(back.conn).places, (0..14).collect::<Vec<_>>());
    assert_eq!(story.sink.received_by(back.conn).again, [1]);
    story.send_with(back, "new", "n3");
    assert_eq!(story.sink.received_by(back.conn).again, [1, 13]);
}

#[test]
fn a_message_older_than_the_resumed_position_is_repeated() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.send_with(a, "hello", "n");
    let last = story.last_id(room);
    story.break_connection(a);
    let back = story.enter_from(ana, room, Start::After(Some(last)));
    story.send_with(back, "hello", "n");
    story.assert_received(back, &["complete: ana*", "again: chat ana: hello [n]"]);
}

#[test]
fn a_repeated_message_counts_against_the_rate_and_an_invalid_nonce_does_not() {
    let mut story = Story::with(|config| config.message_pace = Pace::new(1, SECOND, 2));
    let (_, _, a) = story.begin("ana");
    for bad in ["", &"x".repeat(65)] {
        assert_eq!(story.try_send_with(a, "hello", Some(bad)), Err(Refusal::BadNonce));
    }
    story.send_with(a, "hello", "n");
    story.send_with(a, "hello", "n");
    let refusal = Err(Refusal::RateLimited(SECOND));
    assert_eq!(story.try_send_with(a, "hello", Some("n")), refusal);
    story.wait(SECOND);
    story.send_with(a, "hello", "n");
}

#[test]
fn resending_over_breaking_connections_posts_each_message_once() {
    let mut story = Story::new();
    let (ana, room, mut tab) = story.begin("ana");
    let mut last = story.last_id(room);
    for n in 0..50 {
        for _ in 0..3 {
            story.send_with(tab, &n.to_string(), &n.to_string());
            story.break_connection(tab);
            tab = story.enter_from(ana, room, Start::After(Some(last)));
        }
        let lines = [format!("· chat ana: {n} [{n}]"), "complete: ana*".into()];
        story.assert_received(tab, &lines.each_ref().map(String::as_str));
        last = story.last_id(room);
    }
    assert_eq!(story.history(room, 1000).len(), 51);
}
