//! Saying something without a connection in the room.

use super::*;

#[test]
fn a_member_without_a_connection_is_heard_and_is_not_present() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.join(bob, room).unwrap();
    let said = story.post(bob, room, " hello ", Some("n"));
    assert_eq!(said, Ok(("chat bob: hello [n]".into(), true)));
    story.saw(a, &["chat bob: hello [n]"]);
    assert_eq!(story.user_count(room), 1);
    assert_eq!(story.chat.users(room).count(), 1);
    assert_eq!(story.history(room, 1), ["chat bob: hello [n]"]);
}

#[test]
fn only_a_member_may_post_from_outside() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    assert_eq!(story.post(bob, room, "hello", None), Err(Refusal::NotAMember));
    let now = story.now;
    let draft = Draft::new("hello", None).unwrap();
    let said = story.chat.post_from_outside(now, bob, room, draft, &mut story.sink);
    assert_eq!(said.err(), Some(Refusal::NotAMember), "though the gate was not asked");
    story.join(bob, room).unwrap();
    story.leave(bob, room);
    assert_eq!(story.post(bob, room, "hello", None), Err(Refusal::NotAMember));
    story.saw(a, &[]);
    story.delete(ana, room).unwrap();
    assert_eq!(story.post(ana, room, "hello", None), Err(Refusal::RoomNotFound));
}

#[test]
fn a_known_nonce_is_answered_with_the_message_and_told_nobody() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.say_as(a, "by socket", "n1");
    assert_eq!(
        story.post(ana, room, "x", Some("n1")),
        Ok(("chat ana: by socket [n1]".into(), false))
    );
    assert!(story.post(ana, room, "by REST", Some("n2")).unwrap().1);
    assert_eq!(
        story.post(ana, room, "x", Some("n2")),
        Ok(("chat ana: by REST [n2]".into(), false))
    );
    story.say_as(a, "x", "n2");
    let said = ["chat ana: by socket [n1]", "chat ana: by REST [n2]"];
    story.saw(a, &[said[0], said[1], "again: chat ana: by REST [n2]"]);
}

#[test]
fn who_posts_from_outside_within_a_tick_is_heard_in_its_place() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.tick(|story| {
        story.say(a, "one");
        story.post(ana, room, "two", None).unwrap();
        story.say(a, "three");
    });
    story.saw(a, &["chat ana: one", "chat ana: two", "chat ana: three"]);
}

#[test]
fn nobody_posts_under_the_name_of_somebody_present() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let namesake = story.person("ANA");
    story.join(namesake, room).unwrap();
    assert_eq!(story.post(namesake, room, "hello", None), Err(Refusal::NameTaken));
    story.saw(a, &[]); // And nobody is asked for a sign of life.
    story.post(ana, room, "me", None).unwrap();
    story.close(a);
    story.post(namesake, room, "hello", None).unwrap();
    assert_eq!(story.history(room, 2), ["left ana", "chat ANA: hello"]);
}

#[test]
fn a_name_whose_holder_is_in_its_grace_gives_way_to_a_post() {
    let mut story = Story::new();
    let (_, room, zoe) = story.begin("zoe");
    let (ana, namesake) = (story.person("ana"), story.person("ANA"));
    story.join(namesake, room).unwrap();
    let a = story.enter(ana, room);
    story.break_line(a);
    story.post(ana, room, "I am still here", None).unwrap();
    story.saw(zoe, &["joined ana", "chat ana: I am still here"]);
    story.post(namesake, room, "hello", None).unwrap();
    story.saw(zoe, &["left ana", "chat ANA: hello"]);
    story.wait(MINUTE);
    story.enter(ana, room);
    story.saw(zoe, &["joined ana"]);
}

#[test]
fn a_post_that_says_nothing_new_takes_no_name() {
    // A holder in its grace had to go for a post that was then refused, or known already.
    let mut story = Story::with(|settings| settings.message_pace = Pace::new(1, HOUR, 2));
    let (_, room, zoe) = story.begin("zoe");
    let (ana, namesake) = (story.person("ana"), story.person("ANA"));
    story.join(namesake, room).unwrap();
    story.post(namesake, room, "hello", Some("n")).unwrap();
    let a = story.enter(ana, room);
    story.break_line(a);
    assert!(!story.post(namesake, room, "hello", Some("n")).unwrap().1);
    let refusal = Err(Refusal::RateLimited(HOUR));
    assert_eq!(story.post(namesake, room, "hello?", None), refusal);
    let back = story.enter(ana, room);
    story.saw(zoe, &["chat ANA: hello [n]", "joined ana"]);
    story.saw(back, &[]);
}

#[test]
fn a_post_starts_a_rooms_time_anew_whichever_is_running() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let room = story.room(ana);
    for _ in 0..3 {
        story.wait(9 * MINUTE);
        story.post(ana, room, "for nobody yet", None).unwrap();
    }
    story.wait(10 * MINUTE - SECOND);
    let tab = story.enter(ana, room);
    story.post(ana, room, "beside a connection", None).unwrap();
    story.wait(HOUR);
    story.close(tab);
    for _ in 0..3 {
        story.wait(2 * MINUTE - SECOND);
        story.post(ana, room, "for nobody any more", None).unwrap();
    }
    story.wait(2 * MINUTE - SECOND);
    assert!(story.lives(room));
    story.wait(2 * SECOND);
    assert!(!story.lives(room), "the two minutes, not the ten");
}

#[test]
fn a_refused_post_starts_nothing_anew() {
    let mut story = Story::with(|settings| settings.message_pace = Pace::new(1, HOUR, 1));
    let ana = story.person("ana");
    let room = story.room(ana);
    story.post(ana, room, "hello", None).unwrap();
    story.wait(9 * MINUTE);
    assert!(story.post(ana, room, "hello", None).is_err());
    story.wait(MINUTE + SECOND);
    assert!(!story.lives(room));
}

#[test]
fn the_message_rate_is_shared_with_the_sockets() {
    let mut story = Story::with(|settings| settings.message_pace = Pace::new(10, SECOND, 4));
    let (ana, room, a) = story.begin("ana");
    for _ in 0..2 {
        story.say(a, "by socket");
        story.post(ana, room, "by REST", None).unwrap();
    }
    let wait = Refusal::RateLimited(Duration::from_millis(100));
    assert_eq!(story.try_say(a, "by socket"), Err(wait));
    assert_eq!(story.post(ana, room, "by REST", None), Err(wait));
}
