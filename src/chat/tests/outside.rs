//! Posting without a connection in the room.

use super::*;

#[test]
fn a_member_without_a_connection_posts_without_becoming_present() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.join(bob, room).unwrap();
    let posted = story.post(bob, room, " hello ", Some("n"));
    assert_eq!(posted, Ok(("chat bob: hello [n]".into(), true)));
    story.assert_received(a, &["chat bob: hello [n]"]);
    assert_eq!(story.user_count(room), 1);
    assert_eq!(story.chat.users(room).len(), 1);
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
    let posted = story.chat.post_from_outside(now, bob, room, draft, &mut story.sink);
    assert_eq!(
        posted.err(),
        Some(Refusal::NotAMember),
        "the post is refused even if the caller skips the gate"
    );
    story.join(bob, room).unwrap();
    story.leave(bob, room);
    assert_eq!(story.post(bob, room, "hello", None), Err(Refusal::NotAMember));
    story.assert_received(a, &[]);
    story.delete(ana, room).unwrap();
    assert_eq!(story.post(ana, room, "hello", None), Err(Refusal::RoomNotFound));
}

#[test]
fn a_known_nonce_is_answered_with_its_message_and_not_published() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.send_with(a, "by socket", "n1");
    assert_eq!(
        story.post(ana, room, "x", Some("n1")),
        Ok(("chat ana: by socket [n1]".into(), false))
    );
    assert!(story.post(ana, room, "by REST", Some("n2")).unwrap().1);
    assert_eq!(
        story.post(ana, room, "x", Some("n2")),
        Ok(("chat ana: by REST [n2]".into(), false))
    );
    story.send_with(a, "x", "n2");
    let posted = ["chat ana: by socket [n1]", "chat ana: by REST [n2]"];
    story.assert_received(a, &[posted[0], posted[1], "again: chat ana: by REST [n2]"]);
}

#[test]
fn a_post_from_outside_keeps_its_position_among_the_messages_of_its_tick() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.tick(|story| {
        story.send(a, "one");
        story.post(ana, room, "two", None).unwrap();
        story.send(a, "three");
    });
    story.assert_received(a, &["chat ana: one", "chat ana: two", "chat ana: three"]);
}

#[test]
fn a_post_under_the_name_of_a_connected_member_is_refused() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let namesake = story.person("ANA");
    story.join(namesake, room).unwrap();
    assert_eq!(story.post(namesake, room, "hello", None), Err(Refusal::NameTaken));
    story.assert_received(a, &[]); // A post starts no probe, so there is no ping.
    story.post(ana, room, "me", None).unwrap();
    story.close(a);
    story.post(namesake, room, "hello", None).unwrap();
    assert_eq!(story.history(room, 2), ["left ana", "chat ANA: hello"]);
}

#[test]
fn a_holder_in_its_grace_gives_way_to_a_post() {
    let mut story = Story::new();
    let (_, room, zoe) = story.begin("zoe");
    let (ana, namesake) = (story.person("ana"), story.person("ANA"));
    story.join(namesake, room).unwrap();
    let a = story.enter(ana, room);
    story.break_connection(a);
    story.post(ana, room, "I am still here", None).unwrap();
    story.assert_received(zoe, &["joined ana", "chat ana: I am still here"]);
    story.post(namesake, room, "hello", None).unwrap();
    story.assert_received(zoe, &["left ana", "chat ANA: hello"]);
    story.wait(MINUTE);
    story.enter(ana, room);
    story.assert_received(zoe, &["joined ana"]);
}

#[test]
fn a_post_that_is_refused_or_repeated_takes_no_name() {
    // A holder in its grace lost its presence to a post that was then refused, or was a repetition.
    let mut story = Story::with(|config| config.message_pace = Pace::new(1, HOUR, 2));
    let (_, room, zoe) = story.begin("zoe");
    let (ana, namesake) = (story.person("ana"), story.person("ANA"));
    story.join(namesake, room).unwrap();
    story.post(namesake, room, "hello", Some("n")).unwrap();
    let a = story.enter(ana, room);
    story.break_connection(a);
    assert!(!story.post(namesake, room, "hello", Some("n")).unwrap().1);
    let refusal = Err(Refusal::RateLimited(HOUR));
    assert_eq!(story.post(namesake, room, "hello?", None), refusal);
    let back = story.enter(ana, room);
    story.assert_received(zoe, &["chat ANA: hello [n]", "joined ana"]);
    story.assert_received(back, &[]);
}

#[test]
fn a_post_restarts_the_ttl_of_its_room() {
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
    assert!(story.exists(room));
    story.wait(2 * SECOND);
    assert!(!story.exists(room), "the ttl is two minutes, not ten");
}

#[test]
fn a_refused_post_does_not_restart_the_ttl_of_its_room() {
    let mut story = Story::with(|config| config.message_pace = Pace::new(1, HOUR, 1));
    let ana = story.person("ana");
    let room = story.room(ana);
    story.post(ana, room, "hello", None).unwrap();
    story.wait(9 * MINUTE);
    assert!(story.post(ana, room, "hello", None).is_err());
    story.wait(MINUTE + SECOND);
    assert!(!story.exists(room));
}

#[test]
fn posts_and_sockets_share_the_message_rate() {
    let mut story = Story::with(|config| config.message_pace = Pace::new(10, SECOND, 4));
    let (ana, room, a) = story.begin("ana");
    for _ in 0..2 {
        story.send(a, "by socket");
        story.post(ana, room, "by REST", None).unwrap();
    }
    let wait = Refusal::RateLimited(Duration::from_millis(100));
    assert_eq!(story.try_send(a, "by socket"), Err(wait));
    assert_eq!(story.post(ana, room, "by REST", None), Err(wait));
}
