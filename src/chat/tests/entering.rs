//! Entering: first and further connections, names, and joining by REST.

use super::*;

#[test]
fn a_second_tab_is_not_announced() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    assert_eq!(story.user_count(room), 1, "two tabs belong to one member");
    story.send(second, "hello");
    story.assert_all_received(&[first, second], &["chat ana: hello"]);
    story.close(first);
    story.assert_received(second, &[]);
    assert_eq!(story.user_count(room), 1);
    story.close(second);
    assert_eq!(story.user_count(room), 0);
    assert_eq!(story.history(room, 1000), ["joined ana", "chat ana: hello", "left ana"]);
}

#[test]
fn tabs_may_close_in_any_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let mut story = Story::new();
        let (ana, room, first) = story.begin("ana");
        let tabs = [first, story.enter(ana, room), story.enter(ana, room)];
        story.close(tabs[order[0]]);
        story.close(tabs[order[1]]);
        story.send(tabs[order[2]], "still here");
        story.assert_received(tabs[order[2]], &["chat ana: still here"]);
        story.close(tabs[order[2]]);
        assert_eq!(story.history(room, 1), ["left ana"]);
    }
}

#[test]
fn joining_by_rest_is_not_announced() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    let bob = story.person("bob");
    story.join(bob, room).unwrap();
    story.join(bob, room).unwrap();
    assert_eq!(story.user_count(room), 1);
    story.leave(bob, room);
    story.assert_received(tab, &[]);
}

#[test]
fn a_member_that_joined_by_rest_is_announced_with_its_first_connection() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    let bob = story.person("bob");
    story.join(bob, room).unwrap();
    let b = story.enter(bob, room);
    story.assert_all_received(&[tab, b], &["joined bob"]);
}

// contract §2.2 §2.5
#[test]
fn the_rooms_of_a_session_are_listed_in_the_order_of_joining() {
    let mut story = Story::new();
    let (ana, bob) = (story.person("ana"), story.person("bob"));
    let rooms: Vec<_> = (0..4).map(|_| story.room(ana)).collect();
    let ids = story.chat.rooms_of(ana);
    assert_eq!(ids.len(), 4);
    for n in [2, 0, 3] {
        story.enter(bob, rooms[n]);
        story.join(bob, rooms[n]).unwrap();
    }
    assert_eq!(story.chat.rooms_of(bob), [ids[2], ids[0], ids[3]]);
    story.leave(bob, rooms[0]);
    story.leave(bob, rooms[1]); // Bob is not a member of this room.
    assert_eq!(story.chat.rooms_of(bob), [ids[2], ids[3]]);
    story.enter(bob, rooms[0]);
    story.wait(11 * MINUTE);
    assert!(!story.exists(rooms[1]));
    assert_eq!(story.chat.rooms_of(ana), [ids[0], ids[2], ids[3]]);
    assert_eq!(story.chat.rooms_of(bob), [ids[2], ids[3], ids[0]]);
}

// contract §5.7
#[test]
fn the_checks_at_entry_follow_the_order_of_the_contract() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let gone = story.person("gone");
    story.end(gone);
    let dead = {
        let room = story.room(ana);
        story.wait(11 * MINUTE);
        room
    };
    let full = story.person("full");
    for _ in 0..SESSION_ROOMS_MAX {
        story.room(full);
    }
    let namesake = story.person("Ana");
    let live = (Some(namesake), Some(room));
    for ((session, room), over, close) in [
        ((None, None), true, CloseReason::InvalidSession),
        ((Some(gone), Some(room)), true, CloseReason::InvalidSession),
        ((live.0, None), true, CloseReason::RoomNotFound),
        ((live.0, Some(dead)), true, CloseReason::RoomNotFound),
        (live, true, CloseReason::TooManyConnections),
        ((Some(full), live.1), true, CloseReason::TooManyConnections),
        ((Some(full), live.1), false, CloseReason::TooManyRooms),
    ] {
        let conn = story.conns.insert(());
        let request = JoinRequest {
            conn,
            session,
            room,
            share_exceeded: over,
            from: None,
            start: Start::Live,
        };
        let entered = story.chat.enter(story.now, request, &mut story.sink);
        assert_eq!(entered.err(), Some(close));
        story.step();
    }
}

// contract §3.4
#[test]
fn names_that_differ_in_case_belong_to_one_member_per_room() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("Àna");
    let namesake = story.person("àNA");
    let waiting = story.enter_waiting(namesake, room);
    assert_eq!(story.user_count(room), 1);
    story.sign_of_life(a);
    story.assert_received(waiting, &["closed NameTaken"]);
    let another = story.person("Ana");
    story.enter(another, room);
    let elsewhere = story.room(namesake);
    story.enter(namesake, elsewhere);
}

#[test]
fn a_name_is_free_again_when_its_holder_has_left() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let namesake = story.person("ANA");
    story.close(a);
    let tab = story.enter(namesake, room);
    story.assert_received(tab, &["joined ANA"]);
    assert_eq!(story.history(room, 9), ["joined ana", "left ana", "joined ANA"]);
}

// contract §3.3
#[test]
fn opening_a_session_does_not_end_another_of_the_same_name() {
    let mut story = Story::new();
    let (ana, ..) = story.begin("ana");
    story.person("ana");
    assert!(story.session_exists(ana) && story.chat.session_count() == 2);
}

#[test]
fn a_member_that_is_not_present_holds_no_name() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let room = story.room(ana); // This makes ana a member.
    let namesake = story.person("ana");
    story.enter(namesake, room);
    let waiting = story.enter_waiting(ana, room);
    story.assert_received(waiting, &[]);
}

// contract §2.6
#[test]
fn public_rooms_are_listed_newest_first_up_to_a_maximum() {
    let mut story = Story::new();
    let mut ids = Vec::new();
    for n in 0..ROOMS_LISTED_MAX + 5 {
        if n % SESSION_ROOMS_MAX == 0 {
            story.person("ana");
        }
        let sessions = story.chat.sessions.iter().map(|(key, _)| key);
        let opener = sessions.max_by_key(|session| session.index()).unwrap();
        let room = story.room(opener);
        ids.push(story.chat.room_id(room).unwrap());
    }
    story.step();
    ids.reverse();
    assert!(
        story.chat.public_rooms().map(|room| room.id).eq(ids[..ROOMS_LISTED_MAX].iter().copied())
    );
    let newest = story.chat.room(ids[0]).unwrap();
    story.chat.end_room(story.now, newest, &mut story.sink);
    assert!(
        story.chat.public_rooms().map(|room| room.id).eq(ids[1..=ROOMS_LISTED_MAX].iter().copied())
    );
}

#[test]
fn a_large_room_keeps_the_names_and_the_order_of_a_small_one() {
    let mut story = Story::new();
    let (host, room, _) = story.begin("name 0");
    let mut people = vec![host];
    let mut tabs = Vec::new();
    for number in 1..40 {
        let person = story.person(&format!("Name {number}"));
        if number % 7 == 3 {
            story.join(person, room).unwrap(); // A member that is not present.
        } else {
            tabs.push((number, story.enter(person, room)));
        }
        people.push(person);
    }
    let users = |story: &Story| -> Vec<String> {
        story.chat.users(room).into_iter().map(|(_, name)| name.to_owned()).collect()
    };
    let expected: Vec<_> = (1..40).filter(|number| number % 7 != 3).collect();
    let names = |numbers: &[i32]| -> Vec<String> {
        let named = numbers.iter().map(|number| format!("Name {number}"));
        std::iter::once("name 0".to_owned()).chain(named).collect()
    };
    assert_eq!(users(&story), names(&expected));
    let namesake = story.person("NAME 30");
    story.enter_waiting(namesake, room);
    // Half of them come back, and are the last in the order.
    let (away, stay): (Vec<_>, Vec<_>) = tabs.into_iter().partition(|(number, _)| number % 2 == 1);
    for (_, tab) in &away {
        story.close(*tab);
    }
    let numbers: Vec<_> = stay.iter().map(|(number, _)| *number).collect();
    assert_eq!(users(&story), names(&numbers));
    for (number, _) in &away {
        story.enter(people[*number as usize], room);
    }
    let again: Vec<_> = numbers.iter().copied().chain(away.iter().map(|(n, _)| *n)).collect();
    assert_eq!(users(&story), names(&again));
    // Until the room is small again.
    for person in &people[5..40] {
        story.leave(*person, room);
    }
    assert_eq!(users(&story).last().map(String::as_str), Some("NAME 30"), "it was let in");
}
