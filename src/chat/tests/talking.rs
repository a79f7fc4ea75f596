//! What is said, who is told, and what is kept.

use super::*;

#[test]
fn everyone_sees_the_same_in_the_order_of_the_history() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.tick(|story| {
        story.say(a, "one");
        story.say(b, "two");
        story.say(a, "three");
    });
    story.say(b, "four");
    let said =
        ["joined bob", "chat ana: one", "chat bob: two", "chat ana: three", "chat bob: four"];
    story.all_saw(&[a, b], &said);
    assert_eq!(story.history(room, 1000)[0], "joined ana");
    assert_eq!(story.history(room, 1000)[1..], said);
}

#[test]
fn a_connection_gets_its_own_join() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let room = story.room(ana);
    let tab = story.enter(ana, room);
    story.saw(tab, &["joined ana"]);
}

#[test]
fn nobody_gets_what_was_said_before_they_came() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.tick(|story| {
        story.say(a, "before, in the same tick");
        let b = story.enter(bob, room);
        story.say(a, "after");
        b
    });
    story.saw(a, &["chat ana: before, in the same tick", "joined bob", "chat ana: after"]);
    story.saw(b, &["joined bob", "chat ana: after"]);
}

#[test]
fn a_second_tab_does_not_get_what_was_said_before_it_came_either() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.tick(|story| {
        story.say(first, "before");
        let second = story.enter(ana, room);
        story.say(second, "after");
        second
    });
    story.saw(first, &["chat ana: before", "chat ana: after"]);
    story.saw(second, &["chat ana: after"]);
}

#[test]
fn what_was_said_before_a_close_comes_before_it() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.saw(a, &["joined bob"]);
    story.tick(|story| {
        story.say(b, "bye, ana");
        story.leave(ana, room);
        story.say(b, "she is gone");
    });
    story.saw(a, &["chat bob: bye, ana", "closed LeftRoom"]);
    story.saw(b, &["joined bob", "chat bob: bye, ana", "left ana", "chat bob: she is gone"]);
}

#[test]
fn what_is_said_in_one_room_stays_there() {
    let mut story = Story::new();
    let (ana, _, here) = story.begin("ana");
    let elsewhere = story.room(ana);
    let there = story.enter(ana, elsewhere);
    story.say(here, "here");
    story.typing(there);
    story.saw(here, &["chat ana: here"]);
    story.saw(there, &["joined ana", "typing ana"]);
}

#[test]
fn messages_are_trimmed_and_measured_in_scalar_values() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    story.say(tab, " \u{3000}\n hello \u{2003}world\t\u{85}");
    story.saw(tab, &["chat ana: hello \u{2003}world"]);
    for (text, refusal) in [
        ("", Some(Refusal::EmptyMessage)),
        (" \n\t\u{2003}\u{85} ", Some(Refusal::EmptyMessage)),
        (&"🦀".repeat(4000), None),
        (&format!(" {} ", "x".repeat(4000)), None),
        (&"🦀".repeat(4001), Some(Refusal::TooLong)),
        (&"x".repeat(60_000), Some(Refusal::TooLong)),
        ("\u{200B}\0\u{1b}", None), // Any Unicode text, however odd.
    ] {
        assert_eq!(story.try_say(tab, text).err(), refusal, "{} bytes", text.len());
    }
    assert_eq!(story.history(room, 1000).len(), 1 + 4, "a refused message is no message");
}

#[test]
fn typing_is_passed_on_once_a_second_per_person_and_room() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    let second = story.enter(ana, room);
    let elsewhere = story.room(ana);
    let other_room = story.enter(ana, elsewhere);
    story.all_saw(&[first, b], &["joined bob"]);
    for tab in [first, second, first, b, b] {
        story.typing(tab);
    }
    story.wait(SECOND - Duration::from_micros(1));
    story.typing(second);
    story.all_saw(&[first, second, b], &["typing ana", "typing bob"]);
    story.typing(other_room);
    story.saw(other_room, &["joined ana", "typing ana"]);
    story.wait(Duration::from_micros(1));
    story.typing(second);
    story.all_saw(&[first, second, b], &["typing ana"]);
    assert!(story.history(room, 1000).iter().all(|line| !line.starts_with("typing")));
}

#[test]
fn typing_counts_against_no_rate() {
    let mut story = Story::with(|settings| settings.message_pace = Pace::new(1, SECOND, 1));
    let (_, _, tab) = story.begin("ana");
    for _ in 0..1000 {
        story.typing(tab);
    }
    story.say(tab, "hello");
    story.saw(tab, &["typing ana", "chat ana: hello"]);
}

#[test]
fn the_message_rate_is_the_sessions_in_all_its_rooms_and_tabs() {
    let mut story = Story::with(|settings| settings.message_pace = Pace::new(10, SECOND, 40));
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    let elsewhere = story.room(ana);
    let third = story.enter(ana, elsewhere);
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    for n in 0..40 {
        story.say([first, second, third][n % 3], "hello");
    }
    let refusal = Err(Refusal::RateLimited(Duration::from_millis(100)));
    for tab in [first, second, third] {
        assert_eq!(story.try_say(tab, "hello"), refusal);
    }
    story.say(b, "others may");
    story.wait(Duration::from_millis(40));
    let refusal = Err(Refusal::RateLimited(Duration::from_millis(60)));
    assert_eq!(story.try_say(first, "hello"), refusal, "what is left to wait");
    story.leave(ana, room);
    let back = story.enter(ana, room);
    assert_eq!(story.try_say(back, "hello"), refusal, "leaving and joining resets nothing");
    story.wait(Duration::from_millis(60));
    story.say(back, "hello");
    assert!(story.try_say(back, "hello").is_err());
}

#[test]
fn a_message_that_cannot_be_costs_no_rate() {
    let mut story = Story::with(|settings| settings.message_pace = Pace::new(1, SECOND, 1));
    let (_, _, tab) = story.begin("ana");
    for _ in 0..100 {
        assert_eq!(story.try_say(tab, " "), Err(Refusal::EmptyMessage));
        assert_eq!(story.try_say(tab, &"x".repeat(4001)), Err(Refusal::TooLong));
    }
    story.say(tab, "hello");
}

#[test]
fn the_history_keeps_the_last_messages_oldest_first() {
    let mut story = Story::with(|settings| settings.history_messages_max = 3);
    let (_, room, tab) = story.begin("ana");
    for text in ["one", "two", "three", "four"] {
        story.say(tab, text);
        story.typing(tab);
    }
    let kept = ["chat ana: two", "chat ana: three", "chat ana: four"];
    assert_eq!(story.history(room, 1000), kept);
    assert_eq!(story.history(room, 2), kept[1..]);
    assert_eq!(story.history(room, 0), [""; 0]);
}

#[test]
fn a_history_of_none_keeps_none_and_delivers_all() {
    let mut story = Story::with(|settings| settings.history_messages_max = 0);
    let (_, room, tab) = story.begin("ana");
    story.say(tab, "hello");
    story.saw(tab, &["chat ana: hello"]);
    assert_eq!(story.history(room, 1000), [""; 0]);
}

#[test]
fn a_history_read_within_a_tick_has_what_the_tick_has_said() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    story.tick(|story| {
        story.say(tab, "one");
        assert_eq!(story.history(room, 1000), ["joined ana", "chat ana: one"]);
        story.say(tab, "two");
    });
    story.saw(tab, &["chat ana: one", "chat ana: two"]);
    assert_eq!(story.history(room, 2), ["chat ana: one", "chat ana: two"]);
}

#[test]
fn messages_bear_the_ticks_time_and_rising_ids() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    let walls: Vec<_> = (0..3)
        .map(|_| {
            story.say(tab, "hello"); // The recorder checks that ids rise.
            story.say(tab, "hello");
            story.wait(SECOND);
            Some(story.now.wall)
        })
        .collect();
    let said: Vec<_> = story.sink.log(room)[1..].iter().map(|said| said.wall).collect();
    assert_eq!((said[2], said[3], said[4]), (walls[0], walls[0], walls[1]));
}

#[test]
fn a_connection_that_is_gone_says_nothing() {
    let mut story = Story::new();
    let (ana, room, gone) = story.begin("ana");
    let tab = story.enter(ana, room);
    story.close(gone);
    story.say(gone, "hello");
    story.typing(gone);
    story.sign_of_life(gone);
    story.close(gone);
    story.break_line(gone);
    story.saw(tab, &[]);
    assert_eq!(story.chat.room_of(gone.attachment), None);
    assert_eq!(story.chat.room_of(tab.attachment), Some(room));
}

#[test]
fn user_ids_are_one_per_session_and_room_however_often_it_comes() {
    let mut story = Story::new();
    let (ana, room, tab) = story.begin("ana");
    let id = story.user_id(ana, room);
    assert!(id.is_some_and(|id| id.to_string().len() == 16));
    story.say(tab, "hello");
    story.leave(ana, room);
    assert_eq!(story.user_id(ana, room), None);
    story.enter(ana, room);
    let elsewhere = story.room(ana);
    let namesake = story.person("ana");
    story.join(namesake, room).unwrap();
    assert_ne!(story.user_id(ana, elsewhere), id);
    assert_ne!(story.user_id(namesake, room), id);
    assert!(story.sink.log(room).iter().all(|said| Some(said.user_id) == id), "hers, all of them");
    assert_eq!(story.sink.log(room).len(), 4);
}
