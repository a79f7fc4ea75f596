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
