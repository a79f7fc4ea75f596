//! The pace of announced joins: coming and going pushes no more out of a history than talking does.

use super::*;

/// On average one join in two seconds, and three at once.
fn paced() -> Story {
    Story::with(|config| config.join_pace = Pace::new(1, 2 * SECOND, 3))
}

// contract §6.17
#[test]
fn announced_joins_have_a_burst_and_then_a_pace() {
    let mut story = paced();
    let (_, room, zoe) = story.begin("zoe");
    let ana = story.person("ana");
    for _ in 0..3 {
        let tab = story.enter(ana, room);
        story.close(tab);
        story.assert_received(zoe, &["joined ana", "left ana"]);
    }
    let refused = |story: &mut Story, session| story.try_enter(session, room).err();
    assert_eq!(refused(&mut story, ana), Some(CloseReason::RateLimited));
    story.wait(2 * SECOND - Duration::from_millis(1));
    assert_eq!(refused(&mut story, ana), Some(CloseReason::RateLimited));
    story.assert_received(zoe, &[]);
    story.wait(Duration::from_millis(1));
    story.enter(ana, room);
    story.assert_received(zoe, &["joined ana"]);
    // The meter is the session's, for all its rooms.
    let other = story.room(ana);
    assert_eq!(story.try_enter(ana, other).err(), Some(CloseReason::RateLimited));
    let bob = story.person("bob");
    story.enter(bob, other);
}

// contract §6.17
#[test]
fn another_tab_and_a_return_within_the_grace_are_no_joins() {
    let mut story = paced();
    let (_, room, _) = story.begin("zoe");
    let ana = story.person("ana");
    let mut tab = story.enter(ana, room);
    for _ in 0..10 {
        let second = story.enter(ana, room);
        story.close(second);
        story.break_connection(tab);
        story.wait(2 * SECOND);
        tab = story.enter(ana, room);
    }
    let other = story.room(ana);
    for _ in 0..3 {
        let tab = story.enter(ana, other);
        story.close(tab);
    }
    assert_eq!(story.try_enter(ana, other).err(), Some(CloseReason::RateLimited));
    // A return after the grace is a join.
    story.break_connection(tab);
    story.wait(SETTINGS.leave_grace + SECOND / 10);
    story.enter(ana, room);
    assert_eq!(story.try_enter(ana, other).err(), Some(CloseReason::RateLimited));
}

// contract §6.17
#[test]
fn a_join_that_is_refused_changes_nothing() {
    let mut story = paced();
    let (zoe, room, tab) = story.begin("zoe");
    let namesake = story.person("Zoe");
    let elsewhere = story.room(namesake);
    for _ in 0..3 {
        let tab = story.enter(namesake, elsewhere);
        story.close(tab);
    }
    story.break_connection(tab);
    assert_eq!(story.try_enter(namesake, room).err(), Some(CloseReason::RateLimited));
    let joined = story.chat.rooms_of(namesake);
    assert_eq!(joined.len(), 1, "a refused session is no member");
    let tab = story.enter(zoe, room);
    story.assert_received(tab, &[]); // The holder in its grace has kept its name.
    assert_eq!(story.user_count(room), 1);
}

// contract §6.17
#[test]
fn a_join_is_charged_when_the_probe_is_over() {
    let mut story = paced();
    let (_, room, holder) = story.begin("ana");
    let namesake = story.person("ana");
    let elsewhere = story.room(namesake);
    // A name that is taken costs nothing.
    for _ in 0..10 {
        let waiting = story.enter_waiting(namesake, room);
        story.sign_of_life(holder);
        story.assert_received(waiting, &["closed NameTaken"]);
    }
    for _ in 0..2 {
        let tab = story.enter(namesake, elsewhere);
        story.close(tab);
    }
    let waiting = [(); 2].map(|()| story.enter_waiting(namesake, room));
    let tab = story.enter(namesake, elsewhere);
    story.close(tab);
    story.close(holder);
    for waiting in waiting {
        story.assert_received(waiting, &["closed RateLimited"]);
    }
    assert_eq!(story.user_count(room), 0);
    story.wait(2 * SECOND);
    story.enter(namesake, room);
    assert_eq!(story.user_count(room), 1);
}
