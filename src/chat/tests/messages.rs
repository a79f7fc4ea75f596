//! Messages: their order, their recipients and their history.

use super::*;

#[test]
fn all_connections_receive_the_same_messages_in_the_order_of_the_history() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.tick(|story| {
        story.send(a, "one");
        story.send(b, "two");
        story.send(a, "three");
    });
    story.send(b, "four");
    let expected =
        ["joined bob", "chat ana: one", "chat bob: two", "chat ana: three", "chat bob: four"];
    story.assert_all_received(&[a, b], &expected);
    assert_eq!(story.history(room, 1000)[0], "joined ana");
    assert_eq!(story.history(room, 1000)[1..], expected);
}

#[test]
fn a_connection_receives_its_own_join() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let room = story.room(ana);
    let tab = story.enter(ana, room);
    story.assert_received(tab, &["joined ana"]);
}

#[test]
fn a_new_connection_does_not_receive_earlier_messages() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.tick(|story| {
        story.send(a, "before, in the same tick");
        let b = story.enter(bob, room);
        story.send(a, "after");
        b
    });
    story.assert_received(
        a,
        &["chat ana: before, in the same tick", "joined bob", "chat ana: after"],
    );
    story.assert_received(b, &["joined bob", "chat ana: after"]);
}

#[test]
fn a_second_tab_does_not_receive_earlier_messages() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.tick(|story| {
        story.send(first, "before");
        let second = story.enter(ana, room);
        story.send(second, "after");
        second
    });
    story.assert_received(first, &["chat ana: before", "chat ana: after"]);
    story.assert_received(second, &["chat ana: after"]);
}

#[test]
fn messages_sent_before_a_close_arrive_before_it() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.assert_received(a, &["joined bob"]);
    story.tick(|story| {
        story.send(b, "bye, ana");
        story.leave(ana, room);
        story.send(b, "she is gone");
    });
    story.assert_received(a, &["chat bob: bye, ana", "closed LeftRoom"]);
    story.assert_received(
        b,
        &["joined bob", "chat bob: bye, ana", "left ana", "chat bob: she is gone"],
    );
}

#[test]
fn events_stay_in_their_room() {
    let mut story = Story::new();
    let (ana, _, here) = story.begin("ana");
    let elsewhere = story.room(ana);
    let there = story.enter(ana, elsewhere);
    story.send(here, "here");
    story.typing(there);
    story.assert_received(here, &["chat ana: here"]);
    story.assert_received(there, &["joined ana", "typing ana"]);
}

#[test]
fn messages_are_trimmed_and_measured_in_scalar_values() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    story.send(tab, " \u{3000}\n hello \u{2003}world\t\u{85}");
    story.assert_received(tab, &["chat ana: hello \u{2003}world"]);
    for (text, refusal) in [
        ("", Some(Refusal::EmptyMessage)),
        (" \n\t\u{2003}\u{85} ", Some(Refusal::EmptyMessage)),
        (&"🦀".repeat(4000), None),
        (&format!(" {} ", "x".repeat(4000)), None),
        (&"🦀".repeat(4001), Some(Refusal::TooLong)),
        (&"x".repeat(60_000), Some(Refusal::TooLong)),
        ("\u{200B}\0\u{1b}", None), // All other Unicode text is valid.
    ] {
        assert_eq!(story.try_send(tab, text).err(), refusal, "{} bytes", text.len());
    }
    assert_eq!(story.history(room, 1000).len(), 1 + 4, "a refused message is not kept");
}

#[test]
fn typing_is_published_at_most_once_a_second_per_member() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    let second = story.enter(ana, room);
    let elsewhere = story.room(ana);
    let other_room = story.enter(ana, elsewhere);
    story.assert_all_received(&[first, b], &["joined bob"]);
    for tab in [first, second, first, b, b] {
        story.typing(tab);
    }
    story.wait(SECOND - Duration::from_micros(1));
    story.typing(second);
    story.assert_all_received(&[first, second, b], &["typing ana", "typing bob"]);
    story.typing(other_room);
    story.assert_received(other_room, &["joined ana", "typing ana"]);
    story.wait(Duration::from_micros(1));
    story.typing(second);
    story.assert_all_received(&[first, second, b], &["typing ana"]);
    assert!(story.history(room, 1000).iter().all(|line| !line.starts_with("typing")));
}

#[test]
fn typing_counts_against_no_rate() {
    let mut story = Story::with(|config| config.message_pace = Pace::new(1, SECOND, 1));
    let (_, _, tab) = story.begin("ana");
    for _ in 0..1000 {
        story.typing(tab);
    }
    story.send(tab, "hello");
    story.assert_received(tab, &["typing ana", "chat ana: hello"]);
}

#[test]
fn the_message_rate_covers_all_rooms_and_tabs_of_a_session() {
    let mut story = Story::with(|config| config.message_pace = Pace::new(10, SECOND, 40));
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    let elsewhere = story.room(ana);
    let third = story.enter(ana, elsewhere);
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    for n in 0..40 {
        story.send([first, second, third][n % 3], "hello");
    }
    let refusal = Err(Refusal::RateLimited(Duration::from_millis(100)));
    for tab in [first, second, third] {
        assert_eq!(story.try_send(tab, "hello"), refusal);
    }
    story.send(b, "others may");
    story.wait(Duration::from_millis(40));
    let refusal = Err(Refusal::RateLimited(Duration::from_millis(60)));
    assert_eq!(story.try_send(first, "hello"), refusal, "the refusal has the remaining time");
    story.leave(ana, room);
    let back = story.enter(ana, room);
    assert_eq!(
        story.try_send(back, "hello"),
        refusal,
        "leaving and joining again does not reset the rate"
    );
    story.wait(Duration::from_millis(60));
    story.send(back, "hello");
    assert!(story.try_send(back, "hello").is_err());
}

#[test]
fn an_invalid_message_does_not_count_against_the_rate() {
    let mut story = Story::with(|config| config.message_pace = Pace::new(1, SECOND, 1));
    let (_, _, tab) = story.begin("ana");
    for _ in 0..100 {
        assert_eq!(story.try_send(tab, " "), Err(Refusal::EmptyMessage));
        assert_eq!(story.try_send(tab, &"x".repeat(4001)), Err(Refusal::TooLong));
    }
    story.send(tab, "hello");
}

#[test]
fn the_history_keeps_the_last_messages_oldest_first() {
    let mut story = Story::with(|config| config.history_messages_max = 3);
    let (_, room, tab) = story.begin("ana");
    for text in ["one", "two", "three", "four"] {
        story.send(tab, text);
        story.typing(tab);
    }
    let kept = ["chat ana: two", "chat ana: three", "chat ana: four"];
    assert_eq!(story.history(room, 1000), kept);
    assert_eq!(story.history(room, 2), kept[1..]);
    assert_eq!(story.history(room, 0), [""; 0]);
}

#[test]
fn without_a_kept_history_messages_are_still_delivered() {
    let mut story = Story::with(|config| config.history_messages_max = 0);
    let (_, room, tab) = story.begin("ana");
    story.send(tab, "hello");
    story.assert_received(tab, &["chat ana: hello"]);
    assert_eq!(story.history(room, 1000), [""; 0]);
}

#[test]
fn a_history_read_within_a_tick_contains_the_earlier_messages_of_the_tick() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    story.tick(|story| {
        story.send(tab, "one");
        assert_eq!(story.history(room, 1000), ["joined ana", "chat ana: one"]);
        story.send(tab, "two");
    });
    story.assert_received(tab, &["chat ana: one", "chat ana: two"]);
    assert_eq!(story.history(room, 2), ["chat ana: one", "chat ana: two"]);
}

#[test]
fn messages_have_the_time_of_their_tick_and_increasing_ids() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    let walls: Vec<_> = (0..3)
        .map(|_| {
            story.send(tab, "hello"); // The recorder checks that ids increase.
            story.send(tab, "hello");
            story.wait(SECOND);
            Some(story.now.wall)
        })
        .collect();
    let expected: Vec<_> = story.sink.log(room)[1..].iter().map(|entry| entry.wall).collect();
    assert_eq!((expected[2], expected[3], expected[4]), (walls[0], walls[0], walls[1]));
}

#[test]
fn an_ended_connection_changes_nothing() {
    let mut story = Story::new();
    let (ana, room, gone) = story.begin("ana");
    let tab = story.enter(ana, room);
    story.close(gone);
    story.send(gone, "hello");
    story.typing(gone);
    story.sign_of_life(gone);
    story.close(gone);
    story.break_connection(gone);
    story.assert_received(tab, &[]);
    assert_eq!(story.chat.room_of(gone.attachment), None);
    assert_eq!(story.chat.room_of(tab.attachment), Some(room));
}

#[test]
fn a_user_id_belongs_to_one_session_and_room() {
    let mut story = Story::new();
    let (ana, room, tab) = story.begin("ana");
    let id = story.user_id(ana, room);
    assert!(id.is_some_and(|id| id.to_string().len() == 16));
    story.send(tab, "hello");
    story.leave(ana, room);
    assert_eq!(story.user_id(ana, room), None);
    story.enter(ana, room);
    let elsewhere = story.room(ana);
    let namesake = story.person("ana");
    story.join(namesake, room).unwrap();
    assert_ne!(story.user_id(ana, elsewhere), id);
    assert_ne!(story.user_id(namesake, room), id);
    assert!(
        story.sink.log(room).iter().all(|entry| Some(entry.user_id) == id),
        "all messages have ana's id"
    );
    assert_eq!(story.sink.log(room).len(), 4);
}
