//! Coming in: by name, by tab, by REST.

use super::*;

#[test]
fn second_tab_does_not_announce_again() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let second = story.enter(ana, room);
    assert_eq!(story.user_count(room), 1, "two tabs, one person");
    story.say(second, "hello");
    story.all_saw(&[first, second], &["chat ana: hello"]);
    story.close(first);
    story.saw(second, &[]);
    assert_eq!(story.user_count(room), 1);
    story.close(second);
    assert_eq!(story.user_count(room), 0);
    assert_eq!(story.history(room, 1000), ["joined ana", "chat ana: hello", "left ana"]);
}

#[test]
fn tabs_may_go_in_any_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let mut story = Story::new();
        let (ana, room, first) = story.begin("ana");
        let tabs = [first, story.enter(ana, room), story.enter(ana, room)];
        story.close(tabs[order[0]]);
        story.close(tabs[order[1]]);
        story.say(tabs[order[2]], "still here");
        story.saw(tabs[order[2]], &["chat ana: still here"]);
        story.close(tabs[order[2]]);
        assert_eq!(story.history(room, 1), ["left ana"]);
    }
}

#[test]
fn joining_by_rest_announces_nothing() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    let bob = story.person("bob");
    story.join(bob, room).unwrap();
    story.join(bob, room).unwrap();
    assert_eq!(story.user_count(room), 1);
    story.leave(bob, room);
    story.saw(tab, &[]);
}

#[test]
fn who_joined_by_rest_is_announced_with_the_first_connection() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    let bob = story.person("bob");
    story.join(bob, room).unwrap();
    let b = story.enter(bob, room);
    story.all_saw(&[tab, b], &["joined bob"]);
}

// contract §2.2 §2.5
#[test]
fn rooms_are_listed_in_the_order_of_joining_while_they_live() {
    let mut story = Story::new();
    let (ana, bob) = (story.person("ana"), story.person("bob"));
    let rooms: Vec<_> = (0..4).map(|_| story.room(ana)).collect();
    let ids: Vec<_> = story.chat.rooms_of(ana).collect();
    assert_eq!(ids.len(), 4);
    for n in [2, 0, 3] {
        story.enter(bob, rooms[n]);
        story.join(bob, rooms[n]).unwrap();
    }
    assert_eq!(story.chat.rooms_of(bob).collect::<Vec<_>>(), [ids[2], ids[0], ids[3]]);
    story.leave(bob, rooms[0]);
    story.leave(bob, rooms[1]); // Had not joined.
    assert_eq!(story.chat.rooms_of(bob).collect::<Vec<_>>(), [ids[2], ids[3]]);
    story.enter(bob, rooms[0]);
    story.wait(11 * MINUTE);
    assert!(!story.lives(rooms[1]));
    assert_eq!(story.chat.rooms_of(ana).collect::<Vec<_>>(), [ids[0], ids[2], ids[3]]);
    assert_eq!(story.chat.rooms_of(bob).collect::<Vec<_>>(), [ids[2], ids[3], ids[0]]);
}

// contract §5.7
#[test]
fn the_questions_at_the_door_come_in_the_contracts_order() {
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
        let conn = story.conns.insert(()).cast();
        let knock = JoinRequest { conn, session, room, share_exceeded: over, start: Start::Live };
        let entered = story.chat.enter(story.now, knock, &mut story.sink);
        assert_eq!(entered.err(), Some(close));
        story.step();
    }
}

// contract §3.4
#[test]
fn a_name_is_one_person_per_room_whatever_its_case() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("Àna");
    let namesake = story.person("àNA");
    let waiting = story.wait_at(namesake, room);
    assert_eq!(story.user_count(room), 1);
    story.sign_of_life(a);
    story.saw(waiting, &["closed NameTaken"]);
    let another = story.person("Ana");
    story.enter(another, room);
    let elsewhere = story.room(namesake);
    story.enter(namesake, elsewhere);
}

#[test]
fn a_name_is_free_again_when_its_bearer_has_left() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let namesake = story.person("ANA");
    story.close(a);
    let tab = story.enter(namesake, room);
    story.saw(tab, &["joined ANA"]);
    assert_eq!(story.history(room, 9), ["joined ana", "left ana", "joined ANA"]);
}

// contract §3.3
#[test]
fn a_session_never_ends_another_of_the_same_name() {
    let mut story = Story::new();
    let (ana, ..) = story.begin("ana");
    story.person("ana");
    assert!(story.session_lives(ana) && story.chat.session_count() == 2);
}

#[test]
fn a_member_who_is_not_present_keeps_no_name() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let room = story.room(ana); // Has joined it, by opening it.
    let namesake = story.person("ana");
    story.enter(namesake, room);
    let waiting = story.wait_at(ana, room);
    story.saw(waiting, &[]);
}

// contract §2.6
#[test]
fn public_rooms_are_listed_newest_first_and_not_without_end() {
    let mut story = Story::new();
    let mut ids = Vec::new();
    for n in 0..ROOMS_LISTED_MAX + 5 {
        if n % SESSION_ROOMS_MAX == 0 {
            story.person("ana");
        }
        let sessions = story.chat.sessions.iter().map(|(key, _)| key);
        let opener = sessions.max_by_key(|session| session.index()).unwrap();
        ids.push(story.chat.open_room(story.now, opener, RoomOptions::default(), None).unwrap());
    }
    story.step();
    ids.reverse();
    assert!(
        story.chat.public_rooms().map(|room| room.id).eq(ids[..ROOMS_LISTED_MAX].iter().copied())
    );
    let newest = story.chat.room(ids[0]).unwrap();
    story.chat.remove_room(newest, &mut story.sink);
    assert!(
        story.chat.public_rooms().map(|room| room.id).eq(ids[1..=ROOMS_LISTED_MAX].iter().copied())
    );
}
