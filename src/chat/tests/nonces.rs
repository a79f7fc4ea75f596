//! What is sent twice and said once.

use super::*;

#[test]
fn a_nonce_is_part_of_the_message_as_everyone_and_the_history_get_it() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.say_as(a, "hello", "n1");
    story.saw(a, &["joined bob", "chat ana: hello [n1]"]);
    story.saw(b, &["joined bob", "chat ana: hello [n1]"]);
    assert_eq!(story.history(room, 1), ["chat ana: hello [n1]"]);
    let late = story.enter_from(bob, room, Start::Last(1));
    story.saw(late, &["· chat ana: hello [n1]", "complete: ana, bob*"]);
}

#[test]
fn a_known_nonce_is_told_again_to_the_sending_connection_alone() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.say_as(first, "hello", "n");
    story.all_saw(&[first, second, b], &["joined bob", "chat ana: hello [n]"]);
    let said = story.last_id(room);
    for tab in [first, second, second] {
        story.say_as(tab, "something else", "n");
        story.saw(tab, &["again: chat ana: hello [n]"]);
        story.all_saw(&[first, second, b], &[]);
    }
    assert_eq!(story.last_id(room), said);
}

#[test]
fn a_nonce_sent_twice_in_one_tick_is_said_in_its_place_and_then_told_again() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    story.tick(|story| {
        story.say(first, "before");
        story.say_as(first, "hello", "n");
        story.say_as(second, "hello", "n");
        story.say(first, "after");
    });
    let said = ["chat ana: before", "chat ana: hello [n]", "chat ana: after"];
    story.saw(first, &said);
    story.saw(second, &[said[0], said[1], "again: chat ana: hello [n]", said[2]]);
    assert_eq!(story.history(room, 3), said);
}

#[test]
fn a_nonce_is_its_persons_and_its_rooms() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let (bob, namesake) = (story.person("bob"), story.person("ana"));
    let b = story.enter(bob, room);
    let elsewhere = story.room(ana);
    let there = story.enter(ana, elsewhere);
    for (tab, text) in [(a, "one"), (b, "two"), (there, "three")] {
        story.say_as(tab, text, "n");
    }
    story.saw(a, &["joined bob", "chat ana: one [n]", "chat bob: two [n]"]);
    story.saw(there, &["joined ana", "chat ana: three [n]"]);
    story.close(a);
    let other = story.enter(namesake, room);
    story.say_as(other, "I am another", "n");
    story.saw(other, &["joined ana", "chat ana: I am another [n]"]);
}

#[test]
fn a_nonce_is_known_across_connections_and_across_leaving_and_joining_again() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.say_as(a, "hello", "n");
    story.break_line(a);
    let a = story.enter(ana, room);
    story.say_as(a, "hello", "n");
    story.saw(a, &["again: chat ana: hello [n]"]);
    story.leave(ana, room);
    let a = story.enter(ana, room);
    story.say_as(a, "hello", "n");
    story.saw(a, &["joined ana", "again: chat ana: hello [n]"]);
}

#[test]
fn a_nonce_is_forgotten_with_its_message() {
    let mut story = Story::with(|settings| settings.history_messages_max = 3);
    let (_, room, a) = story.begin("ana");
    story.say_as(a, "hello", "n");
    story.say(a, "one");
    story.say(a, "two");
    story.say_as(a, "hello", "n");
    let last = story.last_id(room);
    story.say(a, "three"); // Now it is dropped.
    story.say_as(a, "hello", "n");
    assert_ne!(story.last_id(room), last);
    let lines = ["chat ana: hello [n]", "chat ana: one", "chat ana: two"];
    let again = ["again: chat ana: hello [n]", "chat ana: three", "chat ana: hello [n]"];
    story.saw(a, &[lines, again].concat());
    for text in ["one", "two", "three"] {
        story.say(a, text);
    }
    // That no byte of a nonce outlives its message is an invariant, checked after each step.
    assert_eq!(story.history(room, 3), ["chat ana: one", "chat ana: two", "chat ana: three"]);
}

#[test]
fn where_no_history_is_kept_no_nonce_is_known() {
    let mut story = Story::with(|settings| settings.history_messages_max = 0);
    let (_, _, a) = story.begin("ana");
    story.say_as(a, "hello", "n");
    story.say_as(a, "hello", "n");
    story.saw(a, &["chat ana: hello [n]"; 2]);
}

#[test]
fn who_catches_up_is_not_told_again_what_is_still_to_come() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.say_as(a, "first", "n1");
    (0..10).for_each(|_| story.say(a, &"🦀".repeat(4000)));
    story.say_as(a, "last", "n2");
    story.break_line(a);
    let back = story.enter_from(ana, room, Start::Last(1000));
    assert!(story.is_behind(back));
    story.sink.ear(back.conn).lines.clear();
    story.say_as(back, "last", "n2");
    story.say_as(back, "new", "n3");
    story.say_as(back, "new", "n3");
    story.saw(back, &[]);
    story.say_as(back, "first", "n1");
    story.saw(back, &["again: chat ana: first [n1]"]);
    story.catch_up(back);
    assert_eq!(story.sink.ear(back.conn).heard, (0..14).collect::<Vec<_>>());
    assert_eq!(story.sink.ear(back.conn).again, [1]);
    story.say_as(back, "new", "n3");
    assert_eq!(story.sink.ear(back.conn).again, [1, 13]);
}

#[test]
fn who_resumes_behind_its_message_is_told_it_again() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.say_as(a, "hello", "n");
    let last = story.last_id(room);
    story.break_line(a);
    let back = story.enter_from(ana, room, Start::After(Some(last)));
    story.say_as(back, "hello", "n");
    story.saw(back, &["complete: ana*", "again: chat ana: hello [n]"]);
}

#[test]
fn sending_again_counts_against_the_rate_and_an_ill_formed_nonce_does_not() {
    let mut story = Story::with(|settings| settings.message_pace = Pace::new(1, SECOND, 2));
    let (_, _, a) = story.begin("ana");
    for bad in ["", &"x".repeat(65)] {
        assert_eq!(story.try_say_as(a, "hello", Some(bad)), Err(Refusal::BadNonce));
    }
    story.say_as(a, "hello", "n");
    story.say_as(a, "hello", "n");
    let refusal = Err(Refusal::RateLimited(SECOND));
    assert_eq!(story.try_say_as(a, "hello", Some("n")), refusal);
    story.wait(SECOND);
    story.say_as(a, "hello", "n");
}

#[test]
fn over_a_line_that_keeps_breaking_each_message_is_said_once() {
    let mut story = Story::new();
    let (ana, room, mut tab) = story.begin("ana");
    let mut last = story.last_id(room);
    for n in 0..50 {
        for _ in 0..3 {
            story.say_as(tab, &n.to_string(), &n.to_string());
            story.break_line(tab);
            tab = story.enter_from(ana, room, Start::After(Some(last)));
        }
        let lines = [format!("· chat ana: {n} [{n}]"), "complete: ana*".into()];
        story.saw(tab, &lines.each_ref().map(String::as_str));
        last = story.last_id(room);
    }
    assert_eq!(story.history(room, 1000).len(), 51);
}
