//! Memory pressure: what is dropped or refused, and in which order.

use super::*;

const CEILING: usize = 1_000_000;

/// A story with a memory ceiling, and a tally with which the test fills memory.
fn limited_story() -> (Story, Tally) {
    let mut story = Story::new();
    story.ledger = Ledger::with_ceiling(CEILING);
    story.chat = Chat::new(SETTINGS, Box::new(SeededEntropy::new(1)), &story.ledger);
    let rest = story.ledger.tally(Account::Connections);
    (story, rest)
}

/// Sets the tally so that the total is the given percentage of the ceiling.
fn fill(story: &Story, rest: &mut Tally, percent: usize) {
    let others = story.ledger.total() - rest.bytes();
    rest.set(CEILING / 100 * percent - others);
}

#[test]
fn the_room_silent_longest_loses_its_oldest_messages() {
    let (mut story, mut rest) = limited_story();
    let ana = story.person("ana");
    let rooms = [(); 3].map(|()| story.room(ana));
    let tabs = rooms.map(|room| story.enter(ana, room));
    for n in 0..300 {
        tabs.iter().for_each(|tab| story.send_with(*tab, "hello", &format!("{n:064}")));
    }
    // The first room has a new message, so the second has been silent longest.
    story.wait(SECOND);
    story.send(tabs[0], "still here");
    let before = rooms.map(|room| story.history(room, 1000).len());
    fill(&story, &mut rest, 80);
    assert_eq!(story.chat.forget(), 0, "memory is not short");
    fill(&story, &mut rest, 81);
    let forgotten = story.chat.forget();
    story.step();
    assert!((16..300).contains(&forgotten), "{forgotten}");
    assert!(
        story.ledger.total() <= CEILING / 100 * 78,
        "forgetting ends at a lower bound than it begins"
    );
    let after = rooms.map(|room| story.history(room, 1000).len());
    assert_eq!(after, [before[0], before[1] - forgotten, before[2]]);
    assert_eq!(story.chat.forget(), 0);
    // Dropping all histories is not enough. They are dropped, and nothing else.
    rest.set(CEILING);
    assert_eq!(story.chat.forget(), after.iter().sum::<usize>());
    story.step();
    assert_eq!(story.chat.forget(), 0, "all histories are empty");
    story.send(tabs[1], "and on");
    assert_eq!(story.history(rooms[1], 1000).len(), 1);
}

/// Drops messages of about 3 % of the ceiling, so many times. Returns how many messages.
fn forget(story: &mut Story, rest: &mut Tally, times: usize) -> usize {
    let forgotten = (0..times).map(|_| {
        fill(story, rest, 81);
        let forgotten = story.chat.forget();
        story.step();
        forgotten
    });
    forgotten.sum()
}

/// Regression: 60 sessions of one address filled rooms of their own, and 20 quiet rooms of other
/// people lost their histories.
// contract §12.22
#[test]
fn an_address_that_holds_more_cannot_displace_the_messages_of_others() {
    let (mut story, mut rest) = limited_story();
    let mut quiet = Vec::new();
    for n in 0..20 {
        let ana = story.person_from("ana", [192, 0, 2, n]);
        let room = story.room(ana);
        let tab = story.enter(ana, room);
        (0..5).for_each(|n| story.send(tab, &format!("word {n}")));
        quiet.push(room);
    }
    story.wait(HOUR / 60);
    let mut noisy = Vec::new();
    for n in 0..60 {
        let eve = story.person_from(&format!("eve {n}"), [203, 0, 113, 1]);
        let room = story.room(eve);
        let tab = story.enter(eve, room);
        (0..20).for_each(|_| story.send(tab, &"x".repeat(300)));
        noisy.push(room);
    }
    let kept = |story: &mut Story, rooms: &[RoomKey]| {
        rooms.iter().map(|room| story.history(*room, 1000).len()).sum::<usize>()
    };
    let before = kept(&mut story, &noisy);
    let forgotten = forget(&mut story, &mut rest, 10);
    assert_eq!(kept(&mut story, &quiet), 20 * 6, "a join and five messages each");
    assert_eq!(kept(&mut story, &noisy), before - forgotten);
}

/// Many addresses that write into a public room of others displace each other there, and no address
/// that holds less.
// contract §12.22
#[test]
fn messages_between_those_of_others_are_dropped_alone() {
    let (mut story, mut rest) = limited_story();
    let ana = story.person_from("ana", [192, 0, 2, 1]);
    let room = story.room(ana);
    let tab = story.enter(ana, room);
    let eves: Vec<_> = (0..10)
        .map(|n| {
            let eve = story.person_from(&format!("eve {n}"), [203, 0, 113, n]);
            story.enter(eve, room)
        })
        .collect();
    for n in 0..60 {
        story.send_with(tab, &format!("word {n}"), &format!("n{n}"));
        eves.iter().for_each(|eve| story.send_with(*eve, &"x".repeat(200), &format!("n{n}")));
    }
    let of = |story: &mut Story, name: &str| {
        let lines = story.history(room, 1000);
        lines.into_iter().filter(|line| line.contains(name)).collect::<Vec<_>>()
    };
    let before = of(&mut story, "ana");
    assert_eq!(before.len(), 61);
    forget(&mut story, &mut rest, 3);
    assert_eq!(of(&mut story, "ana"), before);
    for (n, eve) in eves.iter().enumerate() {
        let left = of(&mut story, &format!("eve {n}"));
        assert!((1..61).contains(&left.len()), "each of them loses some: {}", left.len());
        // The nonces of messages that are kept are known, the others are not.
        let len = story.history(room, 1000).len();
        story.send_with(*eve, "again", "n59");
        assert_eq!(story.history(room, 1000).len(), len);
        story.send_with(*eve, "again", "n0");
        assert_eq!(story.history(room, 1000).len(), len + 1);
    }
}

#[test]
fn all_exempt_peers_together_count_as_one_address() {
    let (mut story, mut rest) = limited_story();
    let tab = |story: &mut Story, session| {
        let room = story.room(session);
        (room, story.enter(session, room))
    };
    let ana = story.person_from("ana", [192, 0, 2, 1]);
    let ana = tab(&mut story, ana);
    (0..40).for_each(|_| story.send(ana.1, &"x".repeat(3000)));
    let exempt = ["bob", "carl"].map(|name| {
        let session = story.person(name);
        let one = tab(&mut story, session);
        (0..35).for_each(|_| story.send(one.1, &"x".repeat(3000)));
        one
    });
    forget(&mut story, &mut rest, 1);
    assert_eq!(story.history(ana.0, 1000).len(), 41, "less than the other two together");
    let left = exempt.map(|(room, _)| story.history(room, 1000).len());
    assert!(left.iter().sum::<usize>() < 72, "{left:?}");
}

// contract §8.6 §8.8 §8.10 §8.11
#[test]
fn a_reader_learns_that_a_message_between_others_was_dropped() {
    let (mut story, mut rest) = limited_story();
    let ana = story.person_from("ana", [192, 0, 2, 1]);
    let room = story.room(ana);
    let tab = story.enter(ana, room);
    story.send(tab, "first");
    let first = story.last_id(room);
    let eve = story.person_from("eve", [203, 0, 113, 1]);
    let eve = story.enter(eve, room);
    (0..30).for_each(|_| story.send(eve, &"x".repeat(3000)));
    story.send(tab, "last");
    let last = story.last_id(room);
    assert!(story.history_after(room, Some(first)).1);
    let bob = story.person("bob");
    let during = story.enter_from(bob, room, Start::Last(1000));
    assert!(story.is_catching_up(during));
    let mut reading = story.chat.history(room, 1000);
    assert!(story.chat.read_on(&mut reading, 500).is_some());
    forget(&mut story, &mut rest, 2);
    assert!(story.chat.read_on(&mut reading, 500).is_none(), "it would have a gap");
    story.catch_up_once(during);
    assert_eq!(
        story.sink.received_by(during.conn).closed.map(|(why, _)| why),
        Some(CloseReason::TooSlow)
    );
    assert!(!story.history_after(room, Some(first)).1, "a message after it is missing");
    assert!(story.history_after(room, Some(last)).1);
    for (id, is_complete) in [(first, false), (last, true)] {
        let resumed = story.enter_from(bob, room, Start::After(Some(id)));
        while story.is_catching_up(resumed) {
            story.catch_up_once(resumed);
        }
        assert_eq!(story.sink.received_by(resumed.conn).complete, Some(is_complete));
    }
    // A reader that begins now gets what is kept.
    let after = story.enter_from(bob, room, Start::Last(1000));
    while story.is_catching_up(after) {
        story.catch_up_once(after);
    }
    assert_eq!(story.sink.received_by(after.conn).closed, None);
}

#[test]
fn a_nonce_is_forgotten_with_its_message() {
    let (mut story, mut rest) = limited_story();
    let (_, room, tab) = story.begin("ana");
    story.send_with(tab, "once", "n");
    rest.set(CEILING);
    assert_eq!(story.chat.forget(), 2, "the message and the join are dropped");
    story.send_with(tab, "once", "n");
    assert_eq!(story.history(room, 10).len(), 1, "the message is posted again");
}

#[test]
fn rooms_and_sessions_are_refused_before_memberships_are() {
    let (mut story, mut rest) = limited_story();
    let (ana, room, tab) = story.begin("ana");
    let bob = story.person("bob");
    let open = |story: &mut Story| {
        let session = story.try_person("carl", None).map(|_| ());
        let room = story.try_room(ana, None).map(|_| ());
        assert_eq!(session, room);
        session
    };
    fill(&story, &mut rest, 84);
    assert_eq!(open(&mut story), Ok(()));
    fill(&story, &mut rest, 86);
    assert_eq!(open(&mut story), Err(Refusal::ServerFull));
    assert_eq!(story.join(bob, room), Ok(()));
    story.leave(bob, room);
    fill(&story, &mut rest, 91);
    assert_eq!(story.join(bob, room), Err(Refusal::ServerFull));
    story.send(tab, "members still post");
    fill(&story, &mut rest, 88);
    assert_eq!(story.join(bob, room), Err(Refusal::ServerFull), "the stage ends at a lower bound");
    fill(&story, &mut rest, 83);
    assert_eq!((story.join(bob, room), open(&mut story)), (Ok(()), Err(Refusal::ServerFull)));
    fill(&story, &mut rest, 81);
    assert_eq!(open(&mut story), Ok(()));
}

#[test]
fn a_full_server_adds_no_entry_for_an_address() {
    let (mut story, mut rest) = limited_story();
    rest.set(CEILING);
    let timers = story.chat.timer_count();
    let here = Some(Address::of([192, 0, 2, 1].into()));
    assert_eq!(story.try_person("ana", here), Err(Refusal::ServerFull));
    assert_eq!(story.chat.timer_count(), timers);
}
