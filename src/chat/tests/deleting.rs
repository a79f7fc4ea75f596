//! Rooms that end when their owner says so, and who that is.

use super::*;

#[test]
fn a_deleted_room_closes_everybody_and_tells_nobody_of_the_others() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let [bob, cyd, dan, namesake, stranger] =
        ["bob", "cyd", "dan", "ANA", "Bob"].map(|name| story.person(name));
    let b = [story.enter(bob, room), story.enter(bob, room)];
    let c = story.enter(cyd, room);
    story.break_line(c); // In its grace.
    story.join(dan, room).unwrap(); // Not present.
    let waiting = [story.wait_at(namesake, room), story.wait_at(stranger, room)];
    let gone = story.wait_at(namesake, room);
    story.close(gone);
    (0..5).for_each(|_| story.say(a, &"🦀".repeat(4000)));
    let behind = story.enter_from(dan, room, Start::Last(9));
    assert!(story.is_behind(behind));
    let elsewhere = story.room(bob);
    let other = story.enter(bob, elsewhere);
    let last = story.last_id(room);
    for tab in [a, b[0], b[1], behind, other] {
        story.sink.ear(tab.conn).lines.clear();
    }
    let id = story.chat.room_id(room).unwrap();
    story.delete(ana, room).unwrap();
    story.all_saw(&[a, b[0], b[1], behind], &["closed RoomDeleted"]);
    story.all_saw(&waiting, &["closed RoomDeleted"]);
    story.all_saw(&[gone, other], &[]);
    assert_eq!((story.chat.room(id), story.lives(room)), (None, false));
    assert_eq!(story.sink.log(room).iter().filter_map(|said| said.id).max(), Some(last));
    let rooms: Vec<_> = [ana, bob, cyd, dan, namesake, stranger]
        .map(|session| story.chat.rooms_of(session).count())
        .to_vec();
    assert_eq!(rooms, [0, 1, 0, 0, 0, 0]);
    assert_eq!(story.chat.timer_count(), 5, "of the sessions without a connection, no other");
    // What the loop reports of the closed ones later changes nothing.
    for tab in [a, b[0], b[1], behind, waiting[0], waiting[1], c] {
        story.close(tab);
    }
    story.wait(MINUTE);
    assert_eq!(story.delete(ana, room), Err(Refusal::RoomNotFound), "it is over");
    story.say(other, "still here");
    story.saw(other, &["chat bob: still here"]);
    for session in [ana, bob, cyd, dan, namesake, stranger] {
        story.end(session);
    }
    story.wait(11 * MINUTE);
    story.assert_empty();
}

#[test]
fn what_was_said_in_the_same_tick_still_comes_before_the_close() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.tick(|story| {
        story.say(b, "wait");
        story.say(a, "bye");
        story.delete(ana, room).unwrap();
    });
    story
        .all_saw(&[a, b], &["joined bob", "chat bob: wait", "chat ana: bye", "closed RoomDeleted"]);
}

#[test]
fn a_room_may_be_deleted_before_anyone_came_and_after_all_have_gone() {
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
    story.break_line(tab);
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
    story.saw(b, &["joined bob", "left ana"]);
    story.delete(ana, room).unwrap();
    story.saw(b, &["closed RoomDeleted"]);
}

#[test]
fn a_room_passes_to_whoever_has_been_present_longest_again_and_again() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let people = ["early", "comes back", "second", "third"].map(|name| story.person(name));
    let [early, returner, second, third] = people;
    story.join(third, room).unwrap(); // Its membership is the oldest; it is not present yet.
    let tab = story.enter(returner, room);
    let e = story.enter(early, room);
    story.enter(second, room);
    story.close(tab);
    story.enter(returner, room); // Present again, but not for long.
    story.break_line(e); // In its grace: still present.
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
    assert!(!story.lives(room));
}

#[test]
fn the_newcomer_that_takes_a_dead_owners_name_may_inherit() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let namesake = story.person("ana");
    story.wait_at(namesake, room);
    story.end(ana);
    story.delete(namesake, room).unwrap();
}

#[test]
fn a_room_that_nobody_was_there_to_inherit_is_nobodys() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.join(bob, room).unwrap();
    story.close(a);
    story.end(ana);
    story.enter(bob, room);
    story.wait(HOUR);
    assert_eq!(story.delete(bob, room), Err(Refusal::NotTheOwner));
    story.end(bob);
    story.wait(3 * MINUTE);
    story.assert_empty();
}

#[test]
fn an_expired_owner_bequeaths_as_well() {
    let mut story = Story::with(|settings| settings.session_ttl = MINUTE);
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.enter(bob, room);
    story.close(a);
    assert_eq!(story.delete(bob, room), Err(Refusal::NotTheOwner));
    story.wait(2 * MINUTE);
    story.delete(bob, room).unwrap();
}

#[test]
fn one_session_may_own_many_rooms_and_their_end_costs_no_more_each() {
    // Each room that ended was looked for among all that its owner had. In a debug build the end
    // of 100,000 took 100 seconds; it takes a quarter of one.
    let mut story = Story::new();
    let ana = story.person("ana");
    let (now, chat, sink) = (story.now, &mut story.chat, &mut story.sink);
    for _ in 0..20_000 {
        let id = chat.open_room(now, ana, RoomOptions::default(), None).unwrap();
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
