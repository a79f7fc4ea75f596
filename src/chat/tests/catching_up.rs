//! What was said before one came: history, resume, and what follows without a gap.

use super::*;

/// Of these some four fill a page.
fn long(n: usize) -> String {
    format!("{n} {}", "🦀".repeat(3990))
}

/// Ana has said `count` long things; bob comes from the beginning and has read the first page.
fn behind(count: usize) -> (Story, [SessionKey; 2], RoomKey, Tab, Tab) {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    (0..count).for_each(|n| story.say(a, &long(n)));
    let bob = story.person("bob");
    let b = story.enter_from(bob, room, Start::Last(1000));
    assert!(story.is_behind(b));
    story.sink.ear(a.conn).lines.clear();
    (story, [ana, bob], room, a, b)
}

impl Story {
    /// The connection has received every message from the log's `from` on, once and in order.
    #[track_caller]
    fn heard_all_since(&mut self, tab: Tab, from: usize) {
        let room = self.sink.ear(tab.conn).room;
        let log = self.sink.log(room).iter().enumerate().skip(from);
        let messages: Vec<_> = log.filter(|(_, said)| said.id.is_some()).map(|(n, _)| n).collect();
        assert_eq!(self.sink.ear(tab.conn).heard, messages);
    }
}

// contract §8.1 §8.3
#[test]
fn history_comes_before_all_else_and_the_own_join_after_it() {
    let all = ["· joined ana", "· chat ana: one", "· chat ana: two"];
    for (count, kept) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (1000, 3), (usize::MAX, 3)] {
        let mut story = Story::new();
        let (_, room, a) = story.begin("ana");
        story.say(a, "one");
        story.say(a, "two");
        let bob = story.person("bob");
        let b = story.enter_from(bob, room, Start::Last(count));
        let mut lines = all[all.len() - kept..].to_vec();
        lines.extend(["complete: ana, bob*", "joined bob"]);
        story.saw(b, &lines);
        story.say(a, "hello");
        story.saw(b, &["chat ana: hello"]);
    }
}

#[test]
fn after_a_message_comes_what_came_after_it() {
    let mut story = Story::with(|settings| settings.history_messages_max = 3);
    let (ana, room, a) = story.begin("ana");
    let evicted = story.last_id(room);
    for text in ["one", "two", "three"] {
        story.say(a, text);
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
        story.saw(tab, &[kept, &[last]].concat());
        let rest = (kept.iter().map(|line| line[3..].into()).collect(), last.starts_with('c'));
        assert_eq!(story.history_after(room, after), rest, "REST has the same");
        story.close(tab);
    }
}

#[test]
fn an_empty_room_has_an_empty_history_and_it_is_complete() {
    let mut story = Story::new();
    let ana = story.person("ana");
    for start in [Start::Last(0), Start::Last(10)] {
        let room = story.room(ana);
        let tab = story.enter_from(ana, room, start);
        story.saw(tab, &["complete: ana*", "joined ana"]);
    }
    let room = story.room(ana);
    let tab = story.enter_from(ana, room, Start::After(None));
    story.saw(tab, &["incomplete: ana*", "joined ana"]);
}

// contract §8.1 §8.7
#[test]
fn a_long_history_comes_in_pages_of_which_only_the_last_is_not_followed_by_more() {
    let (mut story, _, _, _, b) = behind(100);
    let reads = story.catch_up(b);
    story.heard_all_since(b, 0);
    let ear = story.sink.ear(b.conn);
    // The recorder bounds each page; here, that none is wastefully small.
    assert_eq!((ear.pages, ear.complete), (101_usize.div_ceil(3), Some(true)));
    let more: Vec<_> = ear.lines.iter().filter(|line| *line == "more").collect();
    assert_eq!(more.len(), ear.pages - 1);
    assert_eq!(ear.lines[ear.lines.len() - 2..], ["complete: ana, bob*", "joined bob"]);
    assert!(reads <= ear.pages, "what follows comes with the last page");
}

#[test]
fn a_thousand_of_the_longest_messages_come_page_by_page() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    (0..1000).for_each(|n| story.say_as(a, &"🦀".repeat(4000), &format!("{n:064}")));
    let bob = story.person("bob");
    let b = story.enter_from(bob, room, Start::Last(1000));
    story.catch_up(b);
    let ear = story.sink.ear(b.conn);
    assert_eq!((ear.heard.len(), ear.complete), (1001, Some(true)));
}

// contract §8.2
#[test]
fn who_is_present_is_told_in_the_order_of_arrival_tabs_and_graces_counted_once() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    story.enter(ana, room);
    let [bob, cyd, dan] = ["bob", "cyd", "dan"].map(|name| story.person(name));
    story.join(dan, room).unwrap(); // A member, and not present.
    let c = story.enter(cyd, room);
    let b = story.enter(bob, room);
    story.close(first);
    story.break_line(c);
    let looking = story.enter_from(bob, room, Start::Last(0));
    story.saw(looking, &["complete: ana, cyd, bob*"]);
    story.wait(4 * SECOND);
    story.enter(cyd, room);
    let looking = story.enter_from(ana, room, Start::Last(0));
    story.saw(looking, &["complete: ana*, bob, cyd"]);
    let users: Vec<_> = story.chat.users(room).map(|(_, name)| name.to_owned()).collect();
    assert_eq!(users, ["ana", "bob", "cyd"]);
    story.saw(b, &["joined bob", "left cyd", "joined cyd"]);
}

// contract §8.3 §8.7
#[test]
fn nothing_live_is_queued_while_catching_up_and_all_of_it_follows_once() {
    let (mut story, _, room, a, b) = behind(10);
    let cyd = story.person("cyd");
    let c = story.enter(cyd, room);
    story.tick(|story| {
        story.say(a, "meanwhile");
        story.say(b, "my own");
        story.say(c, "bye");
    });
    story.close(c);
    let meanwhile =
        ["joined cyd", "chat ana: meanwhile", "chat bob: my own", "chat cyd: bye", "left cyd"];
    story.saw(a, &meanwhile);
    assert_eq!(story.sink.ear(b.conn).heard, [0, 1, 2, 3], "one page so far");
    story.catch_up(b);
    story.heard_all_since(b, 0);
    let lines = &story.sink.ear(b.conn).lines;
    let follow = [&["complete: ana, bob*", "joined bob"], &meanwhile[..]].concat();
    assert_eq!(lines[lines.len() - follow.len()..], follow);
    story.sink.ear(b.conn).lines.clear();
    story.say(a, "live");
    story.saw(b, &["chat ana: live"]);
}

#[test]
fn what_is_said_in_the_tick_of_the_last_page_is_neither_lost_nor_told_twice() {
    let (mut story, _, room, a, b) = behind(5);
    story.tick(|story| {
        story.say(a, "before it");
        story.catch_up(b);
        story.say(a, "after it");
        story.typing(a);
    });
    let all = 0..story.sink.log(room).len();
    assert!(story.sink.ear(b.conn).heard.iter().copied().eq(all), "the typing, too: it is live");
}

#[test]
fn a_page_made_within_a_tick_has_what_the_tick_has_said() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.tick(|story| {
        story.say(a, "a moment ago");
        let b = story.enter_from(bob, room, Start::Last(1));
        story.say(a, "a moment later");
        b
    });
    let lines = ["· chat ana: a moment ago", "complete: ana, bob*", "joined bob"];
    story.saw(b, &[&lines[..], &["chat ana: a moment later"]].concat());
    story.saw(a, &["chat ana: a moment ago", "joined bob", "chat ana: a moment later"]);
}

#[test]
fn typing_is_missed_while_catching_up() {
    let (mut story, _, room, a, b) = behind(5);
    story.typing(a);
    story.typing(b);
    story.saw(a, &["typing ana", "typing bob"]);
    story.catch_up(b);
    story.heard_all_since(b, 0);
    let missed = story.sink.log(room).iter().filter(|said| said.id.is_none()).count();
    assert_eq!(missed, 2);
    story.wait(SECOND);
    story.sink.ear(b.conn).lines.clear();
    story.typing(a);
    story.saw(b, &["typing ana"]);
}

#[test]
fn a_room_that_says_more_than_is_read_is_followed_in_portions() {
    let (mut story, _, _, a, b) = behind(5);
    for round in 0..20 {
        (0..6).for_each(|n| story.say(a, &long(n)));
        story.read_on(b);
        assert!(story.is_behind(b), "in round {round}");
    }
    story.catch_up(b);
    story.heard_all_since(b, 0);
}

// contract §8.8
#[test]
fn who_needs_what_is_not_kept_any_more_is_too_slow() {
    let mut story = Story::with(|settings| settings.history_messages_max = 10);
    let (_, room, a) = story.begin("ana");
    (0..10).for_each(|n| story.say(a, &long(n)));
    let bob = story.person("bob");
    let b = story.enter_from(bob, room, Start::Last(10));
    let sent = story.sink.ear(b.conn).heard.len();
    assert_eq!(sent, 3);
    // One is dropped already, for bob's own join; these push out two more, which he has.
    (0..2).for_each(|n| story.say(a, &n.to_string()));
    story.read_on(b);
    assert_eq!(story.sink.ear(b.conn).heard.len(), sent + 3, "what is dropped was read");
    (0..3).for_each(|n| story.say(a, &n.to_string()));
    assert!(story.is_behind(b), "still has all it needs");
    story.say(a, "one too many");
    story.sink.ear(a.conn).lines.clear();
    story.sink.ear(b.conn).lines.clear();
    story.read_on(b);
    story.saw(b, &["closed TooSlow"]);
    story.saw(a, &["left bob"]);
    story.close(b);
    story.saw(a, &[]);
}

#[test]
fn who_follows_too_slowly_after_the_last_page_is_too_slow_as_well() {
    let mut story = Story::with(|settings| settings.history_messages_max = 10);
    let (_, room, a) = story.begin("ana");
    (0..4).for_each(|n| story.say(a, &long(n)));
    let bob = story.person("bob");
    let b = story.enter_from(bob, room, Start::Last(10));
    (0..6).for_each(|n| story.say(a, &long(n)));
    story.read_on(b);
    assert_eq!(story.sink.ear(b.conn).complete, Some(true));
    assert!(story.is_behind(b));
    (0..10).for_each(|n| story.say(a, &n.to_string()));
    story.read_on(b);
    assert_eq!(story.sink.ear(b.conn).lines.last().unwrap(), "closed TooSlow");
}

#[test]
fn a_connection_that_waited_for_its_name_catches_up_when_it_is_let_in() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let namesake = story.person("Ana");
    let new = story.wait_from(namesake, room, Start::Last(2));
    story.read_on(new);
    story.saw(new, &[]);
    story.say(a, "hello?");
    story.wait(4 * SECOND);
    let lines = ["admitted", "· chat ana: hello?", "· left ana", "complete: Ana*", "joined Ana"];
    story.saw(new, &lines);
}

#[test]
fn a_connection_that_waited_for_its_name_misses_nothing_since() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let (namesake, last) = (story.person("Ana"), story.last_id(room));
    let new = story.wait_from(namesake, room, Start::After(Some(last)));
    story.say(a, "hello?");
    story.close(a);
    let lines = ["admitted", "· chat ana: hello?", "· left ana", "complete: Ana*", "joined Ana"];
    story.saw(new, &lines);
}

#[test]
fn whatever_ends_a_connection_ends_it_while_it_catches_up() {
    for ending in ["session", "leave", "delete", "closed", "broken"] {
        let (mut story, [ana, bob], room, a, b) = behind(10);
        story.sink.ear(b.conn).lines.clear();
        story.say(a, "hello");
        match ending {
            "session" => story.end(bob),
            "leave" => story.leave(bob, room),
            "delete" => story.delete(ana, room).unwrap(),
            "closed" => story.close(b),
            _ => story.break_line(b),
        }
        let (lines, left): (&[_], _) = match ending {
            "session" => (&["closed InvalidSession"], "left bob"),
            "leave" => (&["closed LeftRoom"], "left bob"),
            "delete" => (&["closed RoomDeleted"], "closed RoomDeleted"),
            _ => (&[], "left bob"),
        };
        story.saw(b, lines);
        story.wait(4 * SECOND);
        story.saw(a, &["chat ana: hello", left]);
        story.read_on(b); // Too late, and harmless.
        story.saw(b, &[]);
    }
}

#[test]
fn who_comes_back_in_time_and_catches_up_is_back_at_once() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    let last = story.last_id(room);
    story.break_line(b);
    (0..10).for_each(|n| story.say(a, &long(n)));
    story.wait(2 * SECOND);
    let back = story.enter_from(bob, room, Start::After(Some(last)));
    story.wait(MINUTE); // Reads slowly; the grace is long over.
    assert!(story.is_behind(back));
    assert_eq!(story.user_count(room), 2);
    story.catch_up(back);
    story.say(a, "done");
    story.heard_all_since(back, 2);
    assert!(!story.sink.log(room).iter().any(|said| said.line.starts_with("left")));
    let joins = story.sink.log(room).iter().filter(|said| said.line == "joined bob").count();
    assert_eq!(joins, 1);
}

#[test]
fn of_two_tabs_one_may_be_live_and_the_other_behind() {
    let (mut story, [_, bob], room, _, behind) = behind(10);
    let live = story.enter(bob, room);
    story.say(live, "from the live one");
    story.say(behind, "from the other");
    story.saw(live, &["chat bob: from the live one", "chat bob: from the other"]);
    story.close(live);
    assert_eq!(story.user_count(room), 2);
    story.catch_up(behind);
    story.heard_all_since(behind, 0);
    story.close(behind);
    assert_eq!(story.history(room, 1), ["left bob"]);
}

#[test]
fn where_no_history_is_kept_there_is_none_to_send() {
    for start in [Start::Last(0), Start::Last(9), Start::After(None)] {
        let mut story = Story::with(|settings| settings.history_messages_max = 0);
        let (_, room, a) = story.begin("ana");
        story.say(a, "gone");
        let bob = story.person("bob");
        let b = story.enter_from(bob, room, start);
        let complete = if start == Start::After(None) { "incomplete" } else { "complete" };
        story.saw(b, &[&format!("{complete}: ana, bob*"), "joined bob"]);
        story.say(a, "hello");
        story.saw(b, &["chat ana: hello"]);
        let last = story.last_id(room);
        let back = story.enter_from(bob, room, Start::After(Some(last)));
        story.saw(back, &["incomplete: ana, bob*"]);
    }
}

// contract §8.4
#[test]
fn a_resume_from_each_message_gives_the_rest_of_it() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    (0..50).for_each(|n| story.say(a, &if n % 7 == 0 { long(n) } else { n.to_string() }));
    for n in 0..=50 {
        let id = story.sink.log(room)[n].id;
        let tab = story.enter_from(ana, room, Start::After(id));
        story.catch_up(tab);
        story.heard_all_since(tab, n + 1);
        assert_eq!(story.sink.ear(tab.conn).complete, Some(true));
        story.close(tab);
    }
}

// contract §8.1
#[test]
fn a_crowd_with_long_names_does_not_stretch_the_last_page() {
    // People were counted as 100 bytes each, and may be 240: pages grew over 64 KiB.
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    for n in 0..200 {
        let person = story.person(&format!("{n:03}{}", "🦀".repeat(47)));
        story.enter(person, room);
    }
    for bytes in (8_000..60_000).step_by(4_000) {
        (0..bytes / 4_000).for_each(|_| story.say(a, &"x".repeat(3_990)));
        let tab = story.enter_from(ana, room, Start::Last(bytes / 4_000));
        story.catch_up(tab);
        let ear = story.sink.ear(tab.conn);
        assert_eq!((ear.heard.len(), ear.complete), (bytes / 4_000, Some(true)));
        story.close(tab);
    }
}
