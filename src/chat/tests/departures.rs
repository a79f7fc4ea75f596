//! Going: closed, broken, by REST, with the session; and coming back in time.

use super::*;

#[test]
fn a_closed_connection_has_left_at_once() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.close(b);
    story.saw(a, &["joined bob", "left bob"]);
    story.saw(b, &["joined bob"]);
    assert_eq!(story.user_count(room), 1);
}

#[test]
fn a_broken_line_that_comes_back_in_time_is_not_announced() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_line(b);
    assert_eq!(story.user_count(room), 2, "still counts as present");
    story.wait(SETTINGS.leave_grace - Duration::from_micros(1));
    let back = story.enter(bob, room);
    story.wait(MINUTE);
    story.saw(a, &["joined bob"]);
    story.saw(back, &[]);
    assert_eq!(story.user_count(room), 2);
}

// contract §6.11
#[test]
fn a_broken_line_that_stays_away_has_left_at_the_deadline() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.saw(a, &["joined bob"]);
    story.break_line(b);
    let deadline = story.now.mono.after(SETTINGS.leave_grace);
    let due = story.chat.next_deadline().unwrap();
    assert!((deadline..deadline.after(GRAIN)).contains(&due), "never early, and a grain late");
    story.wait(due.since(story.now.mono) - Duration::from_micros(1));
    story.saw(a, &[]);
    story.wait(Duration::from_micros(1));
    story.saw(a, &["left bob"]);
    assert_eq!(story.user_count(room), 1);
    let back = story.enter(bob, room);
    story.all_saw(&[a, back], &["joined bob"]);
}

#[test]
fn each_break_has_its_own_grace() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    for _ in 0..10 {
        let b = story.enter(bob, room);
        story.break_line(b);
        story.wait(2 * SECOND);
    }
    story.saw(a, &["joined bob"]);
    story.wait(SECOND + GRAIN);
    story.saw(a, &["left bob"]);
}

#[test]
fn without_a_grace_a_broken_line_has_left_at_once() {
    let mut story = Story::with(|settings| settings.leave_grace = Duration::ZERO);
    let (_, room, a) = story.begin("ana");
    story.break_line(a);
    assert_eq!(story.history(room, 1), ["left ana"]);
}

#[test]
fn a_broken_line_beside_a_good_one_starts_no_grace() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    story.break_line(first);
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
    story.break_line(second);
    assert_eq!(story.user_count(room), 1);
    story.wait(4 * SECOND);
    assert_eq!(story.history(room, 9), ["joined ana", "left ana"]);
}

#[test]
fn a_connection_that_came_back_and_closes_has_left_once() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    story.break_line(first);
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
    story.all_saw(&[first, second], &["joined bob", "closed LeftRoom"]);
    story.saw(b, &["joined bob", "left ana"]);
    story.say(other, "still here");
    story.saw(other, &["joined ana", "chat ana: still here"]);
    assert_eq!(story.user_id(ana, room), None);
    // The loop reports the ends of what the domain has closed, and nothing comes of it.
    story.close(first);
    story.break_line(second);
    story.wait(4 * SECOND);
    story.saw(b, &[]);
    assert_eq!((story.user_count(room), story.user_count(elsewhere)), (1, 1));
}

#[test]
fn leaving_what_one_had_not_joined_does_nothing() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.leave(bob, room);
    let b = story.enter(bob, room);
    story.leave(bob, room);
    story.leave(bob, room);
    story.saw(a, &["joined bob", "left bob"]);
    story.saw(b, &["joined bob", "closed LeftRoom"]);
}

#[test]
fn leaving_during_the_grace_is_announced_at_once_and_once() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_line(b);
    story.leave(bob, room);
    story.saw(a, &["joined bob", "left bob"]);
    story.wait(MINUTE);
    story.saw(a, &[]);
}

#[test]
fn the_end_of_a_session_closes_all_and_leaves_everywhere() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    let second = story.enter(ana, room);
    let elsewhere = story.room(ana);
    let third = story.enter(ana, elsewhere);
    let silent = story.room(ana);
    story.tick(|story| {
        story.say(b, "bye");
        story.end(ana);
    });
    story.saw(first, &["joined bob", "chat bob: bye", "closed InvalidSession"]);
    story.saw(second, &["chat bob: bye", "closed InvalidSession"]);
    story.saw(third, &["joined ana", "closed InvalidSession"]);
    story.saw(b, &["joined bob", "chat bob: bye", "left ana"]);
    assert_eq!(story.history(elsewhere, 9), ["joined ana", "left ana"]);
    assert_eq!(story.history(silent, 9), [""; 0], "nobody left a room that nobody was in");
    assert!(!story.session_lives(ana));
    story.end(ana);
    assert_eq!(story.knock(ana, room).err(), Some(CloseReason::InvalidSession));
}

#[test]
fn the_end_of_a_session_ends_its_grace() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_line(b);
    story.end(bob);
    story.saw(a, &["joined bob", "left bob"]);
    story.wait(MINUTE);
    story.saw(a, &[]);
}

#[test]
fn a_holder_in_its_grace_gives_way_at_once() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let (bob, namesake) = (story.person("bob"), story.person("Bob"));
    let b = story.enter(bob, room);
    story.saw(a, &["joined bob"]);
    story.break_line(b);
    let new = story.enter(namesake, room);
    story.saw(a, &["left bob", "joined Bob"]);
    story.saw(new, &["joined Bob"]);
    let back = story.wait_at(bob, room);
    story.saw(new, &["ping"]);
    story.sign_of_life(new);
    story.saw(back, &["closed NameTaken"]);
    story.wait(MINUTE);
    story.saw(a, &[]);
}

#[test]
fn a_crowd_that_goes_in_one_tick_is_told_of_in_one_order() {
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
    story.saw(a, &joins.iter().map(String::as_str).collect::<Vec<_>>());
    let order = [3, 9, 0, 1, 8, 2, 4, 7, 6, 5];
    story.tick(|story| order.iter().for_each(|n| story.close(tabs[*n])));
    let left: Vec<_> = order.iter().map(|n| format!("left {}", names[*n])).collect();
    story.saw(a, &left.iter().map(String::as_str).collect::<Vec<_>>());
    for (n, tab) in tabs.into_iter().enumerate() {
        let seen: Vec<_> = joins[n..].iter().map(String::as_str).collect();
        story.saw(tab, &seen);
    }
}
