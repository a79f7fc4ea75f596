//! Deleting rooms, and the ownership of rooms.

use super::*;

#[test]
fn deleting_a_room_closes_its_connections_without_announcing_departures() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let [bob, cyd, dan, namesake, stranger] =
        ["bob", "cyd", "dan", "ANA", "Bob"].map(|name| story.person(name));
    let b = [story.enter(bob, room), story.enter(bob, room)];
    let c = story.enter(cyd, room);
    story.break_connection(c); // Its member is in its grace.
    story.join(dan, room).unwrap(); // Dan is a member, but not present.
    let waiting = [story.enter_waiting(namesake, room), story.enter_waiting(stranger, room)];
    let gone = story.enter_waiting(namesake, room);
    story.close(gone);
    (0..5).for_each(|_| story.send(a, &"🦀".repeat(4000)));
    let behind = story.enter_from(dan, room, Start::Last(9));
    assert!(story.is_catching_up(behind));
    let elsewhere = story.room(bob);
    let other = story.enter(bob, elsewhere);
    let last = story.last_id(room);
    for tab in [a, b[0], b[1], behind, other] {
        story.sink.received_by(tab.conn).lines.clear();
    }
    let id = story.chat.room_id(room).unwrap();
    story.delete(ana, room).unwrap();
    story.assert_all_received(&[a, b[0], b[1], behind], &["closed RoomDeleted"]);
    story.assert_all_received(&waiting, &["closed RoomDeleted"]);
    story.assert_all_received(&[gone, other], &[]);
    assert_eq!((story.chat.room(id), story.exists(room)), (None, false));
    assert_eq!(story.sink.log(room).iter().filter_map(|entry| entry.id).max(), Some(last));
    let rooms: Vec<_> = [ana, bob, cyd, dan, namesake, stranger]
        .map(|session| story.chat.rooms_of(session).len())
        .to_vec();
    assert_eq!(rooms, [0, 1, 0, 0, 0, 0]);
    assert_eq!(story.chat.timer_count(), 5, "one for each session without a connection");
    // If the event loop reports the ends later, nothing changes.
    for tab in [a, b[0], b[1], behind, waiting[0], waiting[1], c] {
        story.close(tab);
    }
    story.wait(MINUTE);
    assert_eq!(story.delete(ana, room), Err(Refusal::RoomNotFound), "the room has ended");
    story.send(other, "still here");
    story.assert_received(other, &["chat bob: still here"]);
    for session in [ana, bob, cyd, dan, namesake, stranger] {
        story.end(session);
    }
    story.wait(11 * MINUTE);
    story.assert_empty();
}

#[test]
fn messages_of_the_same_tick_are_dropped_with_the_room() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.tick(|story| {
        story.send(b, "wait");
        story.send(a, "bye");
        story.delete(ana, room).unwrap();
    });
    story.assert_all_received(&[a, b], &["joined bob", "closed RoomDeleted"]);
}

#[test]
fn a_room_without_connections_can_be_deleted() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let new = story.room(ana);
    story.delete(ana, new).unwrap();
    let left = story.room(ana);
    let tab = story.enter(ana, left);
    story.close(tab);
    story.delete(ana, left).unwrap();
    let broken = story.room(ana);
    let tab = story.enter(ana, broken);
    story.break_connection(tab);
    story.delete(ana, broken).unwrap();
    assert_eq!(story.chat.timer_count(), 1, "the session's");
    story.end(ana);
    story.assert_empty();
}

#[test]
fn a_session_that_left_its_room_still_owns_it() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.leave(ana, room);
    story.wait(HOUR);
    assert_eq!(story.delete(bob, room), Err(Refusal::NotTheOwner));
    story.assert_received(b, &["joined bob", "left ana"]);
    story.delete(ana, room).unwrap();
    story.assert_received(b, &["closed RoomDeleted"]);
}

#[test]
fn each_time_its_owner_ends_a_room_passes_to_the_member_present_longest() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let people = ["early", "comes back", "second", "third"].map(|name| story.person(name));
    let [early, returner, second, third] = people;
    story.join(third, room).unwrap(); // The oldest membership, but not present yet.
    let tab = story.enter(returner, room);
    let e = story.enter(early, room);
    story.enter(second, room);
    story.close(tab);
    story.enter(returner, room); // Present again, but for a shorter time than the others.
    story.break_connection(e); // A member in its grace is still present.
    story.enter(third, room);
    let mut owners = [ana, early, second, returner, third].into_iter().peekable();
    while let Some(owner) = owners.next() {
        for other in people.into_iter().filter(|other| *other != owner) {
            assert!(story.delete(other, room).is_err());
        }
        match owners.peek() {
            Some(_) => story.end(owner),
            None => story.delete(owner, room).unwrap(),
        }
    }
    assert!(!story.exists(room));
}

#[test]
fn a_connection_admitted_by_the_owners_end_gets_the_room() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let namesake = story.person("ana");
    story.enter_waiting(namesake, room);
    story.end(ana);
    story.delete(namesake, room).unwrap();
}

// contract §10.16
#[test]
fn a_room_without_present_members_belongs_to_the_next_who_comes() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.join(bob, room).unwrap();
    story.close(a);
    story.end(ana);
    assert_eq!(story.delete(bob, room), Err(Refusal::NotTheOwner));
    let tab = story.enter(bob, room);
    story.close(tab);
    story.delete(bob, room).unwrap();
    story.end(bob);
    story.wait(3 * MINUTE);
    story.assert_empty();
}

#[test]
fn a_room_passes_on_when_its_owners_session_expires() {
    let mut story = Story::with(|config| config.session_ttl = MINUTE);
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.enter(bob, room);
    story.close(a);
    assert_eq!(story.delete(bob, room), Err(Refusal::NotTheOwner));
    story.wait(2 * MINUTE);
    story.delete(bob, room).unwrap();
}

#[test]
fn the_cost_of_ending_a_room_does_not_grow_with_the_rooms_of_its_owner() {
    // The end of a room searched the list of all rooms of its owner. In a debug build the end of
    // 100,000 rooms took 100 seconds; now it takes 250 ms.
    let mut story = Story::new();
    let ana = story.person("ana");
    let (now, chat, sink) = (story.now, &mut story.chat, &mut story.sink);
    for _ in 0..20_000 {
        let id = chat.open_room(now, ana, RoomOptions::default(), None, sink).unwrap();
        let room = chat.room(id).unwrap();
        chat.leave(now, ana, room, sink);
    }
    story.wait(11 * MINUTE);
    assert_eq!(story.chat.room_count(), 0);
    story.end(ana);
    story.assert_empty();
}

#[test]
fn rooms_of_one_owner_may_end_in_any_order() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let mut rooms: Vec<_> = (0..20).map(|_| story.room(ana)).collect();
    for n in [19, 0, 7, 7, 15, 3, 0, 12, 5, 1] {
        story.delete(ana, rooms.swap_remove(n)).unwrap();
    }
    story.wait(11 * MINUTE);
    story.end(ana);
    story.assert_empty();
}
