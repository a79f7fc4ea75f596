//! Departures: by closed and broken connections, by REST and with the end of a session; the grace.

use super::*;

#[test]
fn a_member_whose_connection_closes_leaves_at_once() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.close(b);
    story.assert_received(a, &["joined bob", "left bob"]);
    story.assert_received(b, &["joined bob"]);
    assert_eq!(story.user_count(room), 1);
}

#[test]
fn a_member_that_reconnects_within_the_grace_is_not_announced() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_connection(b);
    assert_eq!(story.user_count(room), 2, "bob is still present");
    story.wait(SETTINGS.leave_grace - Duration::from_micros(1));
    let back = story.enter(bob, room);
    story.wait(MINUTE);
    story.assert_received(a, &["joined bob"]);
    story.assert_received(back, &[]);
    assert_eq!(story.user_count(room), 2);
}

// contract §6.11
#[test]
fn a_member_that_does_not_reconnect_leaves_at_the_end_of_the_grace() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.assert_received(a, &["joined bob"]);
    story.break_connection(b);
    let deadline = story.now.mono.after(SETTINGS.leave_grace);
    let due = story.chat.next_deadline().unwrap();
    assert!(
        (deadline..deadline.after(GRAIN)).contains(&due),
        "a timer is never early, and at most one grain late"
    );
    story.wait(due.since(story.now.mono) - Duration::from_micros(1));
    story.assert_received(a, &[]);
    story.wait(Duration::from_micros(1));
    story.assert_received(a, &["left bob"]);
    assert_eq!(story.user_count(room), 1);
    let back = story.enter(bob, room);
    story.assert_all_received(&[a, back], &["joined bob"]);
}

#[test]
fn each_broken_connection_starts_a_new_grace() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    for _ in 0..10 {
        let b = story.enter(bob, room);
        story.break_connection(b);
        story.wait(2 * SECOND);
    }
    story.assert_received(a, &["joined bob"]);
    story.wait(SECOND + GRAIN);
    story.assert_received(a, &["left bob"]);
}

#[test]
fn without_a_grace_a_member_whose_connection_breaks_leaves_at_once() {
    let mut story = Story::with(|config| config.leave_grace = Duration::ZERO);
    let (_, room, a) = story.begin("ana");
    story.break_connection(a);
    assert_eq!(story.history(room, 1), ["left ana"]);
}

#[test]
fn a_broken_connection_beside_a_live_one_starts_no_grace() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    story.break_connection(first);
    story.wait(MINUTE);
    assert_eq!(story.user_count(room), 1);
    story.close(second);
    assert_eq!(story.history(room, 9), ["joined ana", "left ana"]);
}

#[test]
fn the_last_connection_decides_whether_there_is_a_grace() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    story.close(first);
    story.break_connection(second);
    assert_eq!(story.user_count(room), 1);
    story.wait(4 * SECOND);
    assert_eq!(story.history(room, 9), ["joined ana", "left ana"]);
}

#[test]
fn a_member_that_reconnects_and_closes_leaves_once() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    story.break_connection(first);
    let second = story.enter(ana, room);
    story.close(second);
    story.wait(MINUTE);
    assert_eq!(story.history(room, 9), ["joined ana", "left ana"]);
}

#[test]
fn leaving_closes_the_sessions_connections_in_that_room_only() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    let elsewhere = story.room(ana);
    let other = story.enter(ana, elsewhere);
    story.leave(ana, room);
    story.assert_all_received(&[first, second], &["joined bob", "closed LeftRoom"]);
    story.assert_received(b, &["joined bob", "left ana"]);
    story.send(other, "still here");
    story.assert_received(other, &["joined ana", "chat ana: still here"]);
    assert_eq!(story.user_id(ana, room), None);
    // If the event loop reports the ends later, nothing changes.
    story.close(first);
    story.break_connection(second);
    story.wait(4 * SECOND);
    story.assert_received(b, &[]);
    assert_eq!((story.user_count(room), story.user_count(elsewhere)), (1, 1));
}

#[test]
fn leaving_a_room_that_was_not_joined_does_nothing() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.leave(bob, room);
    let b = story.enter(bob, room);
    story.leave(bob, room);
    story.leave(bob, room);
    story.assert_received(a, &["joined bob", "left bob"]);
    story.assert_received(b, &["joined bob", "closed LeftRoom"]);
}

#[test]
fn leaving_during_the_grace_is_announced_at_once_and_once() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_connection(b);
    story.leave(bob, room);
    story.assert_received(a, &["joined bob", "left bob"]);
    story.wait(MINUTE);
    story.assert_received(a, &[]);
}

#[test]
fn the_end_of_a_session_closes_its_connections_and_leaves_its_rooms() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    let second = story.enter(ana, room);
    let elsewhere = story.room(ana);
    let third = story.enter(ana, elsewhere);
    let silent = story.room(ana);
    story.tick(|story| {
        story.send(b, "bye");
        story.end(ana);
    });
    story.assert_received(first, &["joined bob", "chat bob: bye", "closed InvalidSession"]);
    story.assert_received(second, &["chat bob: bye", "closed InvalidSession"]);
    story.assert_received(third, &["joined ana", "closed InvalidSession"]);
    story.assert_received(b, &["joined bob", "chat bob: bye", "left ana", "changed"]);
    assert_eq!(story.history(elsewhere, 9), ["joined ana", "left ana"]);
    assert_eq!(story.history(silent, 9), [""; 0], "a room without connections gets no message");
    assert!(!story.session_exists(ana));
    story.end(ana);
    assert_eq!(story.try_enter(ana, room).err(), Some(CloseReason::InvalidSession));
}

#[test]
fn the_end_of_a_session_ends_its_grace() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_connection(b);
    story.end(bob);
    story.assert_received(a, &["joined bob", "left bob"]);
    story.wait(MINUTE);
    story.assert_received(a, &[]);
}

#[test]
fn a_holder_in_its_grace_gives_way_at_once() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let (bob, namesake) = (story.person("bob"), story.person("Bob"));
    let b = story.enter(bob, room);
    story.assert_received(a, &["joined bob"]);
    story.break_connection(b);
    let new = story.enter(namesake, room);
    story.assert_received(a, &["left bob", "joined Bob"]);
    story.assert_received(new, &["joined Bob"]);
    let back = story.enter_waiting(bob, room);
    story.assert_received(new, &["ping"]);
    story.sign_of_life(new);
    story.assert_received(back, &["closed NameTaken"]);
    story.wait(MINUTE);
    story.assert_received(a, &[]);
}

#[test]
fn departures_of_one_tick_are_announced_in_the_order_of_their_closes() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let names: Vec<_> = (0..10).map(|n| format!("bob{n}")).collect();
    let tabs: Vec<_> = names
        .iter()
        .map(|name| {
            let session = story.person(name);
            story.enter(session, room)
        })
        .collect();
    let joins: Vec<_> = names.iter().map(|name| format!("joined {name}")).collect();
    story.assert_received(a, &joins.iter().map(String::as_str).collect::<Vec<_>>());
    let order = [3, 9, 0, 1, 8, 2, 4, 7, 6, 5];
    story.tick(|story| order.iter().for_each(|n| story.close(tabs[*n])));
    let left: Vec<_> = order.iter().map(|n| format!("left {}", names[*n])).collect();
    story.assert_received(a, &left.iter().map(String::as_str).collect::<Vec<_>>());
    for (n, tab) in tabs.into_iter().enumerate() {
        let seen: Vec<_> = joins[n..].iter().map(String::as_str).collect();
        story.assert_received(tab, &seen);
    }
}
