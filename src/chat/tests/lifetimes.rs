//! How long sessions and rooms live.

use super::*;

// contract §3.10
#[test]
fn an_unused_session_ends_after_its_time() {
    let mut story = Story::new();
    let ana = story.person("ana");
    story.wait(24 * HOUR - SECOND);
    assert!(story.session_lives(ana));
    story.wait(2 * SECOND);
    assert!(!story.session_lives(ana));
    story.assert_empty();
}

#[test]
fn so_many_end_in_one_sweep_and_the_rest_in_the_next() {
    let mut story = Story::new();
    (0..5).for_each(|_| _ = story.person("ana"));
    story.now = story.now.after(25 * HOUR);
    for left in [3, 1, 0] {
        story.chat.sweep(story.now, 2, &mut story.sink);
        assert_eq!(story.chat.session_count(), left);
    }
}

// contract §3.10
#[test]
fn a_use_begins_a_sessions_life_anew() {
    let mut story = Story::new();
    let ana = story.person("ana");
    for _ in 0..10 {
        story.wait(23 * HOUR);
        story.chat.touch(story.now, ana);
    }
    story.wait(24 * HOUR - SECOND);
    assert!(story.session_lives(ana));
    story.wait(2 * SECOND);
    assert!(!story.session_lives(ana));
    story.chat.touch(story.now, ana); // Too late, and harmless.
    story.assert_empty();
}

// contract §3.10
#[test]
fn a_session_with_an_open_connection_never_expires() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    story.wait(100 * HOUR);
    story.close(first);
    story.wait(100 * HOUR);
    story.chat.touch(story.now, ana);
    story.break_line(second);
    story.wait(24 * HOUR - SECOND);
    assert!(story.session_lives(ana), "its life begins anew when the last connection ends");
    story.wait(2 * SECOND);
    assert!(!story.session_lives(ana));
    story.assert_empty();
}

#[test]
fn a_waiting_connection_is_an_open_one() {
    let mut story = Story::with(|settings| settings.probe_timeout = 50 * HOUR);
    let (_, room, _) = story.begin("ana");
    let namesake = story.person("ana");
    let new = story.wait_at(namesake, room);
    story.wait(49 * HOUR);
    assert!(story.session_lives(namesake));
    story.close(new);
    story.wait(24 * HOUR + SECOND);
    assert!(!story.session_lives(namesake));
}

#[test]
fn an_expired_session_leaves_its_rooms() {
    let mut story = Story::with(|settings| settings.session_ttl = SECOND);
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_line(b);
    story.wait(SECOND + GRAIN);
    story.saw(a, &["joined bob", "left bob"]);
    assert!(!story.session_lives(bob));
    story.wait(MINUTE);
    story.saw(a, &[]);
}

// contract §3.11
#[test]
fn a_room_that_nobody_enters_lives_for_ten_minutes() {
    let mut story = Story::new();
    let (ana, bob) = (story.person("ana"), story.person("bob"));
    let room = story.room(ana);
    story.wait(9 * MINUTE);
    story.join(bob, room).unwrap(); // Joining by REST is not coming.
    story.chat.touch(story.now, bob);
    story.wait(MINUTE - SECOND);
    assert!(story.lives(room));
    story.wait(2 * SECOND);
    assert!(!story.lives(room));
    assert_eq!(story.chat.rooms_of(bob).count() + story.chat.rooms_of(ana).count(), 0);
    assert_eq!(story.chat.public_rooms().count(), 0);
}

// contract §3.11
#[test]
fn a_room_lives_for_two_minutes_after_its_last_connection() {
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
    story.break_line(third);
    story.wait(2 * MINUTE - SECOND);
    assert!(story.lives(room), "counted from the end of the connection, not of the grace");
    story.wait(2 * SECOND);
    assert!(!story.lives(room));
    assert_eq!(story.knock(ana, room).err(), Some(CloseReason::RoomNotFound));
}

#[test]
fn a_new_room_that_somebody_has_left_lives_for_two_minutes() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    story.close(tab);
    story.wait(2 * MINUTE + SECOND);
    assert!(!story.lives(room), "the ten minutes are for rooms without a past");
}

#[test]
fn a_room_may_end_during_a_grace() {
    let mut story = Story::with(|settings| settings.room_ttl = SECOND);
    let (ana, room, tab) = story.begin("ana");
    story.break_line(tab);
    story.wait(2 * SECOND);
    assert!(!story.lives(room));
    assert_eq!((story.chat.timer_count(), story.chat.members.len()), (1, 0), "hers alone");
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
    assert!(story.lives(room));
}

#[test]
fn what_is_overdue_happens_in_the_order_of_the_deadlines() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_line(b);
    story.wait(SECOND);
    story.break_line(a);
    // A machine that slept: everything is due at once.
    story.now = story.now.after(48 * HOUR);
    story.sweep();
    let last: Vec<_> = story.sink.log(room).iter().map(|said| said.line.as_str()).collect();
    assert_eq!(last, ["joined ana", "joined bob", "left bob", "left ana"]);
    assert!(!story.lives(room) && !story.session_lives(ana));
    story.assert_empty();
}

#[test]
fn a_room_that_fills_and_empties_owns_one_timer() {
    let mut story = Story::new();
    let (ana, room, mut tab) = story.begin("ana");
    for _ in 0..1000 {
        story.break_line(tab);
        tab = story.enter(ana, room);
    }
    assert_eq!(story.chat.timer_count(), 0);
    story.close(tab);
    assert_eq!(story.chat.timer_count(), 2, "the session's and the room's");
}
