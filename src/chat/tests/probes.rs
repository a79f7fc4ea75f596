//! A name that is wanted while somebody bears it: nobody is locked out by their own dead line.

use super::*;

/// Zoe looks on, ana holds her name, a namesake wants it.
struct Contest {
    story: Story,
    zoe: Tab,
    ana: SessionKey,
    holder: Tab,
    namesake: SessionKey,
    room: RoomKey,
}

impl Contest {
    fn new() -> Contest {
        let mut story = Story::new();
        let (_, room, zoe) = story.begin("zoe");
        let (ana, namesake) = (story.person("ana"), story.person("ANA"));
        let holder = story.enter(ana, room);
        story.all_saw(&[zoe, holder], &["joined ana"]);
        Contest { story, zoe, ana, holder, namesake, room }
    }

    /// The namesake's connection, and the ping that its coming causes.
    fn knock(&mut self) -> Tab {
        let new = self.story.wait_at(self.namesake, self.room);
        self.story.saw(self.holder, &["ping"]);
        self.story.all_saw(&[self.zoe, new], &[]);
        new
    }

    /// The holder was gone and the newcomer is in: told in that order.
    #[track_caller]
    fn newcomer_is_in(&mut self, new: Tab) {
        self.story.saw(self.zoe, &["left ana", "joined ANA"]);
        // Reads from then on; its own join comes with the tick's other frames.
        self.story.saw(new, &["admitted", "joined ANA"]);
        assert_eq!(self.story.user_count(self.room), 2);
        self.story.say(new, "hello");
        self.story.all_saw(&[self.zoe, new], &["chat ANA: hello"]);
    }

    fn nothing_more_happens(&mut self) {
        self.story.wait(MINUTE);
        self.story.saw(self.zoe, &[]);
        let unused = self.story.chat.sessions.iter().filter(|(_, s)| s.attachments.is_empty());
        assert_eq!(self.story.chat.timer_count(), unused.count(), "no timer but theirs");
    }
}

#[test]
fn a_holder_that_shows_life_keeps_its_name() {
    let mut c = Contest::new();
    let stranger = c.story.person("Ana");
    let first = c.knock();
    let second = c.story.wait_at(stranger, c.room);
    let third = c.story.wait_at(c.namesake, c.room);
    c.story.saw(c.holder, &[]); // One question is enough.
    c.story.sign_of_life(c.zoe); // Hers says nothing about ana.
    c.story.sign_of_life(first);
    c.story.wait(2 * SECOND);
    c.story.all_saw(&[first, second, third], &[]);
    c.story.sign_of_life(c.holder);
    c.story.all_saw(&[first, second, third], &["closed NameTaken"]);
    c.nothing_more_happens();
    assert_eq!(c.story.user_count(c.room), 2);
}

#[test]
fn any_tab_of_the_holder_may_answer() {
    let mut c = Contest::new();
    let tab = c.story.enter(c.ana, c.room);
    let new = c.knock();
    c.story.saw(tab, &["ping"]);
    c.story.wait(2 * SECOND);
    c.story.sign_of_life(tab);
    c.story.saw(new, &["closed NameTaken"]);
    c.story.say(c.holder, "both still here");
    c.story.all_saw(&[c.holder, tab], &["chat ana: both still here"]);
}

// contract §3.5
#[test]
fn a_silent_holder_is_dropped_and_the_newcomer_let_in() {
    let mut c = Contest::new();
    let tab = c.story.enter(c.ana, c.room);
    let elsewhere = c.story.room(c.ana);
    let other_room = c.story.enter(c.ana, elsewhere);
    let new = c.knock();
    let due = c.story.chat.next_deadline().unwrap();
    let deadline = c.story.now.mono.after(SETTINGS.probe_timeout);
    assert!((deadline..deadline.after(GRAIN)).contains(&due));
    c.story.wait(SETTINGS.probe_timeout - Duration::from_micros(1));
    c.story.saw(c.holder, &[]);
    c.story.wait(GRAIN);
    c.story.saw(c.holder, &["closed Silent"]);
    c.story.saw(tab, &["ping", "closed Silent"]);
    c.newcomer_is_in(new);
    c.story.saw(other_room, &["joined ana"]); // Another room, another matter.
    c.story.close(c.holder); // What the loop reports of it later changes nothing.
    c.story.break_line(tab);
    c.story.wait(MINUTE);
    c.story.saw(c.zoe, &[]);
}

#[test]
fn what_was_said_before_the_admission_is_not_for_the_newcomer() {
    let mut c = Contest::new();
    let new = c.knock();
    c.story.say(c.zoe, "hello?");
    c.story.wait(SETTINGS.probe_timeout - SECOND);
    c.story.saw(c.holder, &["chat zoe: hello?"]);
    c.story.tick(|story| {
        story.say(c.zoe, "anybody?");
        story.now = story.now.after(2 * SECOND);
        story.sweep();
    });
    c.story.saw(c.holder, &["chat zoe: anybody?", "closed Silent"]);
    c.story.saw(c.zoe, &["chat zoe: hello?", "chat zoe: anybody?", "left ana", "joined ANA"]);
    c.story.saw(new, &["admitted", "joined ANA"]);
}

#[test]
fn of_two_strangers_the_first_gets_the_name() {
    let mut c = Contest::new();
    let stranger = c.story.person("Ana");
    let new = c.knock();
    let late = c.story.wait_at(stranger, c.room);
    let tab = c.story.wait_at(c.namesake, c.room);
    c.story.wait(4 * SECOND);
    c.story.saw(c.holder, &["closed Silent"]);
    c.story.saw(late, &["closed NameTaken"]);
    c.story.saw(tab, &["admitted"]); // Another tab of the one that was let in.
    c.newcomer_is_in(new);
    c.story.saw(tab, &["chat ANA: hello"]);
    c.nothing_more_happens();
}

#[test]
fn a_waiting_connection_is_not_heard_nor_counted() {
    let mut c = Contest::new();
    let new = c.knock();
    c.story.say(new, "let me in");
    c.story.typing(new);
    assert_eq!(c.story.user_count(c.room), 2);
    assert_eq!(c.story.user_id(c.namesake, c.room), None, "no member yet");
    c.story.all_saw(&[c.zoe, c.holder, new], &[]);
}

#[test]
fn a_holder_that_leaves_by_itself_makes_room_at_once() {
    let mut c = Contest::new();
    let new = c.knock();
    c.story.close(c.holder);
    c.newcomer_is_in(new);
    c.nothing_more_happens();
}

#[test]
fn a_holder_whose_line_breaks_makes_room_at_once() {
    let mut c = Contest::new();
    let tab = c.story.enter(c.ana, c.room);
    let new = c.knock();
    c.story.break_line(c.holder);
    c.story.saw(c.zoe, &[]); // The other tab may still answer.
    c.story.break_line(tab);
    c.newcomer_is_in(new);
    c.nothing_more_happens();
}

#[test]
fn a_holder_that_leaves_by_rest_makes_room_at_once() {
    let mut c = Contest::new();
    let tab = c.story.enter(c.ana, c.room);
    let new = c.knock();
    c.story.leave(c.ana, c.room);
    c.story.saw(c.holder, &["closed LeftRoom"]);
    c.story.saw(tab, &["ping", "closed LeftRoom"]);
    c.newcomer_is_in(new);
    c.nothing_more_happens();
}

#[test]
fn a_holder_whose_session_ends_makes_room_at_once() {
    let mut c = Contest::new();
    let new = c.knock();
    c.story.end(c.ana);
    c.story.saw(c.holder, &["closed InvalidSession"]);
    c.newcomer_is_in(new);
    c.nothing_more_happens();
}

#[test]
fn a_holder_that_opens_another_tab_lives() {
    let mut c = Contest::new();
    let new = c.knock();
    let tab = c.story.enter(c.ana, c.room);
    c.story.saw(new, &["closed NameTaken"]);
    c.nothing_more_happens();
    c.story.say(tab, "me");
    c.story.all_saw(&[c.holder, tab], &["chat ana: me"]);
}

#[test]
fn a_newcomer_that_gives_up_ends_the_question() {
    for departure in [Departure::Closed, Departure::Broken] {
        let mut c = Contest::new();
        let first = c.knock();
        let second = c.story.wait_at(c.namesake, c.room);
        c.story.exit(first, departure);
        c.story.exit(second, departure);
        c.nothing_more_happens();
        c.story.say(c.holder, "still here");
        c.story.saw(c.holder, &["chat ana: still here"]);
        c.story.saw(first, &[]);
    }
}

#[test]
fn who_gives_up_makes_room_for_the_next_in_line() {
    let mut c = Contest::new();
    let stranger = c.story.person("Ana");
    let first = c.story.wait_at(stranger, c.room);
    let new = c.story.wait_at(c.namesake, c.room);
    c.story.close(first);
    c.story.wait(4 * SECOND);
    c.newcomer_is_in(new);
}

#[test]
fn a_newcomer_whose_session_ends_or_leaves_is_closed_and_the_holder_stays() {
    for (ending, close) in [(true, "closed InvalidSession"), (false, "closed LeftRoom")] {
        let mut c = Contest::new();
        let new = c.knock();
        if ending {
            c.story.end(c.namesake);
        } else {
            c.story.leave(c.namesake, c.room);
        }
        c.story.saw(new, &[close]);
        c.nothing_more_happens();
        assert_eq!(c.story.user_count(c.room), 2);
    }
}

#[test]
fn the_next_newcomer_asks_anew() {
    let mut c = Contest::new();
    let first = c.knock();
    c.story.wait(2 * SECOND);
    c.story.close(first);
    let second = c.knock();
    c.story.wait(2 * SECOND);
    c.story.all_saw(&[second, c.holder], &[]); // The first question's time is not the second's.
    c.story.sign_of_life(c.holder);
    c.story.saw(second, &["closed NameTaken"]);
    let third = c.knock();
    c.story.wait(4 * SECOND);
    c.newcomer_is_in(third);
}

#[test]
fn a_newcomer_that_has_joined_two_hundred_rooms_meanwhile_is_over_its_share() {
    let mut c = Contest::new();
    let stranger = c.story.person("Ana");
    for _ in 1..SESSION_ROOMS_MAX {
        c.story.room(stranger);
    }
    let over = c.story.wait_at(stranger, c.room);
    let new = c.story.wait_at(c.namesake, c.room);
    c.story.room(stranger);
    c.story.wait(4 * SECOND);
    c.story.saw(over, &["closed TooManyRooms"]);
    c.newcomer_is_in(new); // And does not take the name with it.
}

#[test]
fn two_hundred_rooms_with_this_among_them_are_within_the_share() {
    let mut c = Contest::new();
    for _ in 1..SESSION_ROOMS_MAX {
        c.story.room(c.namesake);
    }
    let new = c.knock();
    c.story.join(c.namesake, c.room).unwrap();
    c.story.wait(4 * SECOND);
    c.newcomer_is_in(new);
}

#[test]
fn a_room_whose_only_holder_is_replaced_lives_on() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let namesake = story.person("ana");
    let new = story.wait_at(namesake, room);
    story.wait(4 * SECOND);
    story.saw(a, &["ping", "closed Silent"]);
    story.saw(new, &["admitted", "joined ana"]);
    story.wait(HOUR);
    assert!(story.lives(room));
}

#[test]
fn a_room_whose_newcomer_is_refused_dies_in_its_time() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let namesake = story.person("ana");
    for _ in 1..SESSION_ROOMS_MAX {
        story.room(namesake);
    }
    let new = story.wait_at(namesake, room);
    story.room(namesake);
    story.close(a);
    story.saw(new, &["closed TooManyRooms"]);
    story.wait(SETTINGS.room_ttl - SECOND);
    assert!(story.lives(room));
    story.wait(2 * SECOND);
    assert!(!story.lives(room));
}

#[test]
fn a_thousand_newcomers_are_told_together() {
    let mut c = Contest::new();
    let new: Vec<_> = (0..50)
        .flat_map(|_| {
            let session = c.story.person("aNa");
            (0..SESSION_CONNECTIONS_MAX).map(move |_| session)
        })
        .collect();
    let ticking = std::mem::replace(&mut c.story.ticking, true);
    let tabs: Vec<_> = new.iter().map(|session| c.story.wait_at(*session, c.room)).collect();
    c.story.ticking = ticking;
    c.story.wait(4 * SECOND);
    for (n, tab) in tabs.into_iter().enumerate() {
        let first = n < SESSION_CONNECTIONS_MAX;
        let last = c.story.sink.ear(tab.conn).lines.drain(..).next().unwrap();
        assert_eq!(last, if first { "admitted" } else { "closed NameTaken" });
    }
    assert_eq!(c.story.user_count(c.room), 2);
}
