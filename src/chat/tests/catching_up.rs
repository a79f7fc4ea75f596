//! Catching up: history on entry, resuming, and the change to live events without a gap.

use super::*;

/// A message of almost 16 KB. A page has room for three.
fn long(n: usize) -> String {
    format!("{n} {}", "🦀".repeat(3990))
}

/// Ana has sent `count` long messages. Bob has entered, with all of them as history, and has
/// received the first page.
fn catching_up(count: usize) -> (Story, [SessionKey; 2], RoomKey, Tab, Tab) {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    (0..count).for_each(|n| story.send(a, &long(n)));
    let bob = story.person("bob");
    let b = story.enter_from(bob, room, Start::Last(1000));
    assert!(story.is_catching_up(b));
    story.sink.received_by(a.conn).lines.clear();
    (story, [ana, bob], room, a, b)
}

impl Story {
    /// Asserts that the connection has received every message of the log from `from` on, once and
    /// in order.
    #[track_caller]
    fn assert_received_all_since(&mut self, tab: Tab, from: usize) {
        let room = self.sink.received_by(tab.conn).room;
        let log = self.sink.log(room).iter().enumerate().skip(from);
        let messages: Vec<_> =
            log.filter(|(_, entry)| entry.id.is_some()).map(|(n, _)| n).collect();
        assert_eq!(self.sink.received_by(tab.conn).places, messages);
    }
}

// contract §8.1 §8.3
#[test]
fn a_connection_receives_the_history_first_and_then_its_own_join() {
    let all = ["· joined ana", "· chat ana: one", "· chat ana: two"];
    for (count, kept) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (1000, 3), (usize::MAX, 3)] {
        let mut story = Story::new();
        let (_, room, a) = story.begin("ana");
        story.send(a, "one");
        story.send(a, "two");
        let bob = story.person("bob");
        let b = story.enter_from(bob, room, Start::Last(count));
        let mut lines = all[all.len() - kept..].to_vec();
        lines.extend(["complete: ana, bob*", "joined bob"]);
        story.assert_received(b, &lines);
        story.send(a, "hello");
        story.assert_received(b, &["chat ana: hello"]);
    }
}

#[test]
fn a_connection_that_resumes_receives_the_messages_after_the_given_one() {
    let mut story = Story::with(|config| config.history_messages_max = 3);
    let (ana, room, a) = story.begin("ana");
    let evicted = story.last_id(room);
    for text in ["one", "two", "three"] {
        story.send(a, text);
    }
    let id = |story: &Story, n: usize| story.sink.log(room)[n].id;
    let elsewhere = story.room(ana);
    story.enter(ana, elsewhere);
    let foreign = story.last_id(elsewhere);
    let [one, two, three] = [1, 2, 3].map(|n| id(&story, n));
    let all = ["· chat ana: one", "· chat ana: two", "· chat ana: three"];
    for (after, kept, last) in [
        (one, &all[1..], "complete: ana*"),
        (two, &all[2..], "complete: ana*"),
        (three, &[], "complete: ana*"),
        (Some(evicted), &all, "incomplete: ana*"),
        (Some(foreign), &all, "incomplete: ana*"),
        (None, &all, "incomplete: ana*"),
    ] {
        let tab = story.enter_from(ana, room, Start::After(after));
        story.assert_received(tab, &[kept, &[last]].concat());
        let rest = (kept.iter().map(|line| line[3..].into()).collect(), last.starts_with('c'));
        assert_eq!(story.history_after(room, after), rest, "REST gives the same");
        story.close(tab);
    }
}

#[test]
fn the_history_of_an_empty_room_is_empty_and_complete() {
    let mut story = Story::new();
    let ana = story.person("ana");
    for start in [Start::Last(0), Start::Last(10)] {
        let room = story.room(ana);
        let tab = story.enter_from(ana, room, start);
        story.assert_received(tab, &["complete: ana*", "joined ana"]);
    }
    let room = story.room(ana);
    let tab = story.enter_from(ana, room, Start::After(None));
    story.assert_received(tab, &["incomplete: ana*", "joined ana"]);
}

// contract §8.1 §8.7
#[test]
fn a_long_history_comes_in_pages_and_only_the_last_page_is_marked_as_the_last() {
    let (mut story, _, _, _, b) = catching_up(100);
    let reads = story.catch_up(b);
    story.assert_received_all_since(b, 0);
    let received = story.sink.received_by(b.conn);
    // The recorder checks that no page is too large. This test checks that no page is too small.
    assert_eq!((received.pages, received.complete), (101_usize.div_ceil(3), Some(true)));
    let more: Vec<_> = received.lines.iter().filter(|line| *line == "more").collect();
    assert_eq!(more.len(), received.pages - 1);
    assert_eq!(received.lines[received.lines.len() - 2..], ["complete: ana, bob*", "joined bob"]);
    assert!(reads <= received.pages, "the frames after the pages come with the last page");
}

#[test]
fn the_longest_messages_come_page_by_page() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    (0..200).for_each(|n| story.send_with(a, &"🦀".repeat(4000), &format!("{n:064}")));
    let bob = story.person("bob");
    let b = story.enter_from(bob, room, Start::Last(200));
    story.catch_up(b);
    let received = story.sink.received_by(b.conn);
    assert_eq!((received.places.len(), received.complete), (201, Some(true)));
}

// contract §8.2
#[test]
fn the_last_page_lists_each_present_member_once_by_arrival() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    story.enter(ana, room);
    let [bob, cyd, dan] = ["bob", "cyd", "dan"].map(|name| story.person(name));
    story.join(dan, room).unwrap(); // Dan is a member, but not present.
    let c = story.enter(cyd, room);
    let b = story.enter(bob, room);
    story.close(first);
    story.break_connection(c);
    let looking = story.enter_from(bob, room, Start::Last(0));
    story.assert_received(looking, &["complete: ana, cyd, bob*"]);
    story.wait(4 * SECOND);
    story.enter(cyd, room);
    let looking = story.enter_from(ana, room, Start::Last(0));
    story.assert_received(looking, &["complete: ana*, bob, cyd"]);
    let users: Vec<_> =
        story.chat.users(room).into_iter().map(|(_, name)| name.to_owned()).collect();
    assert_eq!(users, ["ana", "bob", "cyd"]);
    story.assert_received(b, &["joined bob", "left cyd", "joined cyd"]);
}

// contract §8.3 §8.7
#[test]
fn new_messages_follow_the_pages_once_and_in_order() {
    let (mut story, _, room, a, b) = catching_up(10);
    let cyd = story.person("cyd");
    let c = story.enter(cyd, room);
    story.tick(|story| {
        story.send(a, "meanwhile");
        story.send(b, "my own");
        story.send(c, "bye");
    });
    story.close(c);
    let meanwhile =
        ["joined cyd", "chat ana: meanwhile", "chat bob: my own", "chat cyd: bye", "left cyd"];
    story.assert_received(a, &meanwhile);
    assert_eq!(story.sink.received_by(b.conn).places, [0, 1, 2, 3], "only one page has been sent");
    story.catch_up(b);
    story.assert_received_all_since(b, 0);
    let lines = &story.sink.received_by(b.conn).lines;
    let follow = [&["complete: ana, bob*", "joined bob"], &meanwhile[..]].concat();
    assert_eq!(lines[lines.len() - follow.len()..], follow);
    story.sink.received_by(b.conn).lines.clear();
    story.send(a, "live");
    story.assert_received(b, &["chat ana: live"]);
}

#[test]
fn messages_in_the_tick_of_the_last_page_are_received_once() {
    let (mut story, _, room, a, b) = catching_up(5);
    story.tick(|story| {
        story.send(a, "before it");
        story.catch_up(b);
        story.send(a, "after it");
        story.typing(a);
    });
    let all = 0..story.sink.log(room).len();
    assert!(
        story.sink.received_by(b.conn).places.iter().copied().eq(all),
        "the typing event is live, so it is received"
    );
}

#[test]
fn a_page_contains_earlier_messages_of_its_own_tick() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.tick(|story| {
        story.send(a, "a moment ago");
        let b = story.enter_from(bob, room, Start::Last(1));
        story.send(a, "a moment later");
        b
    });
    let lines = ["· chat ana: a moment ago", "complete: ana, bob*", "joined bob"];
    story.assert_received(b, &[&lines[..], &["chat ana: a moment later"]].concat());
    story.assert_received(a, &["chat ana: a moment ago", "joined bob", "chat ana: a moment later"]);
}

#[test]
fn typing_events_are_not_sent_while_catching_up() {
    let (mut story, _, room, a, b) = catching_up(5);
    story.typing(a);
    story.typing(b);
    story.assert_received(a, &["typing ana", "typing bob"]);
    story.catch_up(b);
    story.assert_received_all_since(b, 0);
    let missed = story.sink.log(room).iter().filter(|entry| entry.id.is_none()).count();
    assert_eq!(missed, 2);
    story.wait(SECOND);
    story.sink.received_by(b.conn).lines.clear();
    story.typing(a);
    story.assert_received(b, &["typing ana"]);
}

#[test]
fn a_reader_slower_than_its_room_keeps_receiving() {
    let (mut story, _, _, a, b) = catching_up(5);
    for round in 0..20 {
        (0..6).for_each(|n| story.send(a, &long(n)));
        story.catch_up_once(b);
        assert!(story.is_catching_up(b), "in round {round}");
    }
    story.catch_up(b);
    story.assert_received_all_since(b, 0);
}

// contract §8.8
#[test]
fn a_reader_whose_next_message_was_dropped_is_closed_as_too_slow() {
    let mut story = Story::with(|config| config.history_messages_max = 10);
    let (_, room, a) = story.begin("ana");
    (0..10).for_each(|n| story.send(a, &long(n)));
    let bob = story.person("bob");
    let b = story.enter_from(bob, room, Start::Last(10));
    let sent = story.sink.received_by(b.conn).places.len();
    assert_eq!(sent, 3);
    // The history has dropped one message, for bob's own join. It drops two more; bob has all
    // three.
    (0..2).for_each(|n| story.send(a, &n.to_string()));
    story.catch_up_once(b);
    assert_eq!(
        story.sink.received_by(b.conn).places.len(),
        sent + 3,
        "bob has received all dropped messages"
    );
    (0..3).for_each(|n| story.send(a, &n.to_string()));
    assert!(story.is_catching_up(b), "no message is dropped that bob has not received");
    story.send(a, "one more");
    story.sink.received_by(a.conn).lines.clear();
    story.sink.received_by(b.conn).lines.clear();
    story.catch_up_once(b);
    story.assert_received(b, &["closed TooSlow"]);
    story.assert_received(a, &["left bob"]);
    story.close(b);
    story.assert_received(a, &[]);
}

#[test]
fn a_reader_may_be_too_slow_after_the_last_page_too() {
    let mut story = Story::with(|config| config.history_messages_max = 10);
    let (_, room, a) = story.begin("ana");
    (0..4).for_each(|n| story.send(a, &long(n)));
    let bob = story.person("bob");
    let b = story.enter_from(bob, room, Start::Last(10));
    (0..6).for_each(|n| story.send(a, &long(n)));
    story.catch_up_once(b);
    assert_eq!(story.sink.received_by(b.conn).complete, Some(true));
    assert!(story.is_catching_up(b));
    (0..10).for_each(|n| story.send(a, &n.to_string()));
    story.catch_up_once(b);
    assert_eq!(story.sink.received_by(b.conn).lines.last().unwrap(), "closed TooSlow");
}

#[test]
fn a_connection_that_waited_for_its_name_catches_up_when_it_is_admitted() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let namesake = story.person("Ana");
    let new = story.enter_waiting_from(namesake, room, Start::Last(2));
    story.catch_up_once(new);
    story.assert_received(new, &[]);
    story.send(a, "hello?");
    story.wait(4 * SECOND);
    let lines = ["admitted", "· chat ana: hello?", "· left ana", "complete: Ana*", "joined Ana"];
    story.assert_received(new, &lines);
}

#[test]
fn a_connection_that_waited_for_its_name_misses_no_message() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let (namesake, last) = (story.person("Ana"), story.last_id(room));
    let new = story.enter_waiting_from(namesake, room, Start::After(Some(last)));
    story.send(a, "hello?");
    story.close(a);
    let lines = ["admitted", "· chat ana: hello?", "· left ana", "complete: Ana*", "joined Ana"];
    story.assert_received(new, &lines);
}

#[test]
fn every_way_to_end_a_connection_works_while_it_catches_up() {
    for ending in ["session", "leave", "delete", "closed", "broken"] {
        let (mut story, [ana, bob], room, a, b) = catching_up(10);
        story.sink.received_by(b.conn).lines.clear();
        story.send(a, "hello");
        match ending {
            "session" => story.end(bob),
            "leave" => story.leave(bob, room),
            "delete" => story.delete(ana, room).unwrap(),
            "closed" => story.close(b),
            _ => story.break_connection(b),
        }
        let (lines, left): (&[_], _) = match ending {
            "session" => (&["closed InvalidSession"], "left bob"),
            "leave" => (&["closed LeftRoom"], "left bob"),
            "delete" => (&["closed RoomDeleted"], "closed RoomDeleted"),
            _ => (&[], "left bob"),
        };
        story.assert_received(b, lines);
        story.wait(4 * SECOND);
        story.assert_received(a, &["chat ana: hello", left]);
        story.catch_up_once(b); // Has no effect on an ended connection.
        story.assert_received(b, &[]);
    }
}

#[test]
fn a_member_is_back_as_soon_as_its_connection_starts_to_catch_up() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    let last = story.last_id(room);
    story.break_connection(b);
    (0..10).for_each(|n| story.send(a, &long(n)));
    story.wait(2 * SECOND);
    let back = story.enter_from(bob, room, Start::After(Some(last)));
    story.wait(MINUTE); // The peer reads slowly: it catches up for longer than the grace.
    assert!(story.is_catching_up(back));
    assert_eq!(story.user_count(room), 2);
    story.catch_up(back);
    story.send(a, "done");
    story.assert_received_all_since(back, 2);
    assert!(!story.sink.log(room).iter().any(|entry| entry.line.starts_with("left")));
    let joins = story.sink.log(room).iter().filter(|entry| entry.line == "joined bob").count();
    assert_eq!(joins, 1);
}

#[test]
fn of_two_tabs_one_may_be_live_and_the_other_catching_up() {
    let (mut story, [_, bob], room, _, behind) = catching_up(10);
    let live = story.enter(bob, room);
    story.send(live, "from the live one");
    story.send(behind, "from the other");
    story.assert_received(live, &["chat bob: from the live one", "chat bob: from the other"]);
    story.close(live);
    assert_eq!(story.user_count(room), 2);
    story.catch_up(behind);
    story.assert_received_all_since(behind, 0);
    story.close(behind);
    assert_eq!(story.history(room, 1), ["left bob"]);
}

#[test]
fn without_a_kept_history_no_page_has_messages() {
    for start in [Start::Last(0), Start::Last(9), Start::After(None)] {
        let mut story = Story::with(|config| config.history_messages_max = 0);
        let (_, room, a) = story.begin("ana");
        story.send(a, "gone");
        let bob = story.person("bob");
        let b = story.enter_from(bob, room, start);
        let complete = if start == Start::After(None) { "incomplete" } else { "complete" };
        story.assert_received(b, &[&format!("{complete}: ana, bob*"), "joined bob"]);
        story.send(a, "hello");
        story.assert_received(b, &["chat ana: hello"]);
        let last = story.last_id(room);
        let back = story.enter_from(bob, room, Start::After(Some(last)));
        story.assert_received(back, &["incomplete: ana, bob*"]);
    }
}

// contract §8.4
#[test]
fn resuming_after_any_message_gives_all_later_messages() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    (0..50).for_each(|n| story.send(a, &if n % 7 == 0 { long(n) } else { n.to_string() }));
    for n in 0..=50 {
        let id = story.sink.log(room)[n].id;
        let tab = story.enter_from(ana, room, Start::After(id));
        story.catch_up(tab);
        story.assert_received_all_since(tab, n + 1);
        assert_eq!(story.sink.received_by(tab.conn).complete, Some(true));
        story.close(tab);
    }
}

// contract §8.1
#[test]
fn many_long_names_do_not_enlarge_the_last_page() {
    // Pages grew over 64 KiB: a user was estimated at 100 bytes, and can take 240.
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    for n in 0..200 {
        let person = story.person(&format!("{n:03}{}", "🦀".repeat(47)));
        story.enter(person, room);
    }
    for bytes in (8_000..60_000).step_by(4_000) {
        (0..bytes / 4_000).for_each(|_| story.send(a, &"x".repeat(3_990)));
        let tab = story.enter_from(ana, room, Start::Last(bytes / 4_000));
        story.catch_up(tab);
        let received = story.sink.received_by(tab.conn);
        assert_eq!((received.places.len(), received.complete), (bytes / 4_000, Some(true)));
        story.close(tab);
    }
}
