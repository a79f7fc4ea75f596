//! Lifetimes: when unused sessions and empty rooms end.

use super::*;

// contract §3.10
#[test]
fn an_unused_session_ends_after_its_ttl() {
    let mut story = Story::new();
    let ana = story.person("ana");
    story.wait(24 * HOUR - SECOND);
    assert!(story.session_exists(ana));
    story.wait(2 * SECOND);
    assert!(!story.session_exists(ana));
    story.assert_empty();
}

#[test]
fn a_sweep_ends_at_most_the_given_number_of_sessions() {
    let mut story = Story::new();
    (0..5).for_each(|_| _ = story.person("ana"));
    story.now = story.now.after(25 * HOUR);
    for remaining in [3, 1, 0] {
        story.chat.sweep(story.now, 2, &mut story.sink);
        assert_eq!(story.chat.session_count(), remaining);
    }
}

// contract §3.10
#[test]
fn using_a_session_restarts_its_ttl() {
    let mut story = Story::new();
    let ana = story.person("ana");
    for _ in 0..10 {
        story.wait(23 * HOUR);
        story.chat.touch(story.now, ana);
    }
    story.wait(24 * HOUR - SECOND);
    assert!(story.session_exists(ana));
    story.wait(2 * SECOND);
    assert!(!story.session_exists(ana));
    story.chat.touch(story.now, ana); // Has no effect on an ended session.
    story.assert_empty();
}

// contract §3.10
#[test]
fn a_session_with_a_connection_never_expires() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    story.wait(100 * HOUR);
    story.close(first);
    story.wait(100 * HOUR);
    story.chat.touch(story.now, ana);
    story.break_connection(second);
    story.wait(24 * HOUR - SECOND);
    assert!(story.session_exists(ana), "the ttl restarts when the last connection ends");
    story.wait(2 * SECOND);
    assert!(!story.session_exists(ana));
    story.assert_empty();
}

#[test]
fn a_waiting_connection_keeps_its_session_alive() {
    let mut story = Story::with(|config| config.probe_timeout = 50 * HOUR);
    let (_, room, _) = story.begin("ana");
    let namesake = story.person("ana");
    let new = story.enter_waiting(namesake, room);
    story.wait(49 * HOUR);
    assert!(story.session_exists(namesake));
    story.close(new);
    story.wait(24 * HOUR + SECOND);
    assert!(!story.session_exists(namesake));
}

#[test]
fn an_expired_session_leaves_its_rooms() {
    let mut story = Story::with(|config| config.session_ttl = SECOND);
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_connection(b);
    story.wait(SECOND + GRAIN);
    story.assert_received(a, &["joined bob", "left bob"]);
    assert!(!story.session_exists(bob));
    story.wait(MINUTE);
    story.assert_received(a, &[]);
}

// contract §3.11
#[test]
fn a_room_that_no_connection_enters_ends_after_ten_minutes() {
    let mut story = Story::new();
    let (ana, bob) = (story.person("ana"), story.person("bob"));
    let room = story.room(ana);
    story.wait(9 * MINUTE);
    story.join(bob, room).unwrap(); // Joining by REST opens no connection.
    story.chat.touch(story.now, bob);
    story.wait(MINUTE - SECOND);
    assert!(story.exists(room));
    story.wait(2 * SECOND);
    assert!(!story.exists(room));
    assert_eq!(story.chat.rooms_of(bob).len() + story.chat.rooms_of(ana).len(), 0);
    assert_eq!(story.chat.public_rooms().count(), 0);
}

// contract §3.11
#[test]
fn a_room_ends_two_minutes_after_its_last_connection() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    story.wait(HOUR);
    story.close(first);
    story.wait(HOUR);
    story.close(second);
    story.wait(2 * MINUTE - SECOND);
    let third = story.enter(ana, room);
    story.wait(HOUR);
    assert_eq!(story.history(room, 9), ["joined ana", "left ana", "joined ana"]);
    story.break_connection(third);
    story.wait(2 * MINUTE - SECOND);
    assert!(story.exists(room), "the ttl starts at the end of the connection, not of the grace");
    story.wait(2 * SECOND);
    assert!(!story.exists(room));
    assert_eq!(story.try_enter(ana, room).err(), Some(CloseReason::RoomNotFound));
}

#[test]
fn a_new_room_that_has_had_a_connection_ends_after_two_minutes() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    story.close(tab);
    story.wait(2 * MINUTE + SECOND);
    assert!(!story.exists(room), "ten minutes apply only before the first connection");
}

#[test]
fn a_room_may_end_during_a_grace() {
    let mut story = Story::with(|config| config.room_ttl = SECOND);
    let (ana, room, tab) = story.begin("ana");
    story.break_connection(tab);
    story.wait(2 * SECOND);
    assert!(!story.exists(room));
    assert_eq!(
        (story.chat.timer_count(), story.chat.members.len()),
        (1, 0),
        "only the session's timer is armed"
    );
    story.end(ana);
    story.assert_empty();
}

#[test]
fn a_room_outlives_the_session_that_opened_it() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let bob = story.person("bob");
    story.enter(bob, room);
    story.end(ana);
    story.wait(HOUR);
    assert!(story.exists(room));
}

#[test]
fn overdue_timers_expire_in_the_order_of_their_deadlines() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_connection(b);
    story.wait(SECOND);
    story.break_connection(a);
    // All timers are due at once, as after a suspension of the machine.
    story.now = story.now.after(48 * HOUR);
    story.sweep();
    let last: Vec<_> = story.sink.log(room).iter().map(|entry| entry.line.as_str()).collect();
    assert_eq!(last, ["joined ana", "joined bob", "left bob", "left ana"]);
    assert!(!story.exists(room) && !story.session_exists(ana));
    story.assert_empty();
}

#[test]
fn entering_and_leaving_a_thousand_times_does_not_accumulate_timers() {
    let mut story = Story::new();
    let (ana, room, mut tab) = story.begin("ana");
    for _ in 0..1000 {
        story.break_connection(tab);
        tab = story.enter(ana, room);
    }
    assert_eq!(story.chat.timer_count(), 0);
    story.close(tab);
    assert_eq!(story.chat.timer_count(), 2, "one timer for the session and one for the room");
}
