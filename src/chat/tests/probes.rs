//! Probes: a member is pinged when another session wants its name. So a user who returns with a new
//! session gets the name back even if the old connection is dead but has not ended.

use super::*;

/// Ana holds her name, and another session with the same name, the namesake, wants to enter. Zoe's
/// connection only receives.
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
        story.assert_all_received(&[zoe, holder], &["joined ana"]);
        Contest { story, zoe, ana, holder, namesake, room }
    }

    /// Asks to enter with a connection of the namesake, which waits. The holder is pinged.
    fn try_enter(&mut self) -> Tab {
        let new = self.story.enter_waiting(self.namesake, self.room);
        self.story.assert_received(self.holder, &["ping"]);
        self.story.assert_all_received(&[self.zoe, new], &[]);
        new
    }

    /// Asserts that the holder has left and that the newcomer has joined after that.
    #[track_caller]
    fn assert_newcomer_is_in(&mut self, new: Tab) {
        self.story.assert_received(self.zoe, &["left ana", "joined ANA"]);
        // The admission comes at once, the newcomer's own join with the batch at the end of the
        // tick.
        self.story.assert_received(new, &["admitted", "joined ANA"]);
        assert_eq!(self.story.user_count(self.room), 2);
        self.story.send(new, "hello");
        self.story.assert_all_received(&[self.zoe, new], &["chat ANA: hello"]);
    }

    fn assert_nothing_more_happens(&mut self) {
        self.story.wait(MINUTE);
        self.story.assert_received(self.zoe, &[]);
        let unused = self.story.chat.sessions.iter().filter(|(_, s)| s.attachments.is_empty());
        assert_eq!(
            self.story.chat.timer_count(),
            unused.count(),
            "only timers of unused sessions are armed"
        );
    }
}

#[test]
fn a_holder_that_responds_keeps_its_name() {
    let mut c = Contest::new();
    let stranger = c.story.person("Ana");
    let first = c.try_enter();
    let second = c.story.enter_waiting(stranger, c.room);
    let third = c.story.enter_waiting(c.namesake, c.room);
    c.story.assert_received(c.holder, &[]); // The holder is pinged only once.
    c.story.sign_of_life(c.zoe); // Zoe's input does not answer ana's probe.
    c.story.sign_of_life(first);
    c.story.wait(2 * SECOND);
    c.story.assert_all_received(&[first, second, third], &[]);
    c.story.sign_of_life(c.holder);
    c.story.assert_all_received(&[first, second, third], &["closed NameTaken"]);
    c.assert_nothing_more_happens();
    assert_eq!(c.story.user_count(c.room), 2);
}

#[test]
fn each_tab_of_the_holder_can_answer_the_probe() {
    let mut c = Contest::new();
    let tab = c.story.enter(c.ana, c.room);
    let new = c.try_enter();
    c.story.assert_received(tab, &["ping"]);
    c.story.wait(2 * SECOND);
    c.story.sign_of_life(tab);
    c.story.assert_received(new, &["closed NameTaken"]);
    c.story.send(c.holder, "both still here");
    c.story.assert_all_received(&[c.holder, tab], &["chat ana: both still here"]);
}

// contract §3.5
#[test]
fn a_silent_holder_is_closed_and_the_newcomer_admitted() {
    let mut c = Contest::new();
    let tab = c.story.enter(c.ana, c.room);
    let elsewhere = c.story.room(c.ana);
    let other_room = c.story.enter(c.ana, elsewhere);
    let new = c.try_enter();
    let due = c.story.chat.next_deadline().unwrap();
    let deadline = c.story.now.mono.after(SETTINGS.probe_timeout);
    assert!((deadline..deadline.after(GRAIN)).contains(&due));
    c.story.wait(SETTINGS.probe_timeout - Duration::from_micros(1));
    c.story.assert_received(c.holder, &[]);
    c.story.wait(GRAIN);
    c.story.assert_received(c.holder, &["closed Silent"]);
    c.story.assert_received(tab, &["ping", "closed Silent"]);
    c.assert_newcomer_is_in(new);
    c.story.assert_received(other_room, &["joined ana"]); // The probe concerns one room.
    c.story.close(c.holder); // A report of the end changes nothing.
    c.story.break_connection(tab);
    c.story.wait(MINUTE);
    c.story.assert_received(c.zoe, &[]);
}

#[test]
fn the_newcomer_does_not_receive_messages_from_before_its_admission() {
    let mut c = Contest::new();
    let new = c.try_enter();
    c.story.send(c.zoe, "hello?");
    c.story.wait(SETTINGS.probe_timeout - SECOND);
    c.story.assert_received(c.holder, &["chat zoe: hello?"]);
    c.story.tick(|story| {
        story.send(c.zoe, "anybody?");
        story.now = story.now.after(2 * SECOND);
        story.sweep();
    });
    c.story.assert_received(c.holder, &["chat zoe: anybody?", "closed Silent"]);
    c.story.assert_received(
        c.zoe,
        &["chat zoe: hello?", "chat zoe: anybody?", "left ana", "joined ANA"],
    );
    c.story.assert_received(new, &["admitted", "joined ANA"]);
}

#[test]
fn the_first_of_two_waiting_sessions_gets_the_name() {
    let mut c = Contest::new();
    let stranger = c.story.person("Ana");
    let new = c.try_enter();
    let late = c.story.enter_waiting(stranger, c.room);
    let tab = c.story.enter_waiting(c.namesake, c.room);
    c.story.wait(4 * SECOND);
    c.story.assert_received(c.holder, &["closed Silent"]);
    c.story.assert_received(late, &["closed NameTaken"]);
    c.story.assert_received(tab, &["admitted"]); // A second tab of the admitted session.
    c.assert_newcomer_is_in(new);
    c.story.assert_received(tab, &["chat ANA: hello"]);
    c.assert_nothing_more_happens();
}

#[test]
fn a_waiting_connection_neither_sends_nor_counts_as_present() {
    let mut c = Contest::new();
    let new = c.try_enter();
    c.story.send(new, "let me in");
    c.story.typing(new);
    assert_eq!(c.story.user_count(c.room), 2);
    assert_eq!(c.story.user_id(c.namesake, c.room), None, "the namesake is not a member yet");
    c.story.assert_all_received(&[c.zoe, c.holder, new], &[]);
}

#[test]
fn a_holder_that_closes_frees_its_name_at_once() {
    let mut c = Contest::new();
    let new = c.try_enter();
    c.story.close(c.holder);
    c.assert_newcomer_is_in(new);
    c.assert_nothing_more_happens();
}

#[test]
fn a_holder_whose_connections_break_frees_its_name_at_once() {
    let mut c = Contest::new();
    let tab = c.story.enter(c.ana, c.room);
    let new = c.try_enter();
    c.story.break_connection(c.holder);
    c.story.assert_received(c.zoe, &[]); // The other tab can still respond.
    c.story.break_connection(tab);
    c.assert_newcomer_is_in(new);
    c.assert_nothing_more_happens();
}

#[test]
fn a_holder_that_leaves_by_rest_frees_its_name_at_once() {
    let mut c = Contest::new();
    let tab = c.story.enter(c.ana, c.room);
    let new = c.try_enter();
    c.story.leave(c.ana, c.room);
    c.story.assert_received(c.holder, &["closed LeftRoom"]);
    c.story.assert_received(tab, &["ping", "closed LeftRoom"]);
    c.assert_newcomer_is_in(new);
    c.assert_nothing_more_happens();
}

#[test]
fn a_holder_whose_session_ends_frees_its_name_at_once() {
    let mut c = Contest::new();
    let new = c.try_enter();
    c.story.end(c.ana);
    c.story.assert_received(c.holder, &["closed InvalidSession"]);
    c.assert_newcomer_is_in(new);
    c.assert_nothing_more_happens();
}

#[test]
fn a_new_tab_of_the_holder_answers_the_probe() {
    let mut c = Contest::new();
    let new = c.try_enter();
    let tab = c.story.enter(c.ana, c.room);
    c.story.assert_received(new, &["closed NameTaken"]);
    c.assert_nothing_more_happens();
    c.story.send(tab, "me");
    c.story.assert_all_received(&[c.holder, tab], &["chat ana: me"]);
}

#[test]
fn the_end_of_all_newcomers_ends_the_probe() {
    for departure in [Departure::Closed, Departure::Broken] {
        let mut c = Contest::new();
        let first = c.try_enter();
        let second = c.story.enter_waiting(c.namesake, c.room);
        c.story.exit(first, departure);
        c.story.exit(second, departure);
        c.assert_nothing_more_happens();
        c.story.send(c.holder, "still here");
        c.story.assert_received(c.holder, &["chat ana: still here"]);
        c.story.assert_received(first, &[]);
    }
}

#[test]
fn the_next_waiting_session_gets_the_name_if_the_first_has_ended() {
    let mut c = Contest::new();
    let stranger = c.story.person("Ana");
    let first = c.story.enter_waiting(stranger, c.room);
    let new = c.story.enter_waiting(c.namesake, c.room);
    c.story.close(first);
    c.story.wait(4 * SECOND);
    c.assert_newcomer_is_in(new);
}

#[test]
fn if_the_session_of_a_newcomer_ends_or_leaves_the_newcomer_is_closed_and_the_holder_stays() {
    for (ending, close) in [(true, "closed InvalidSession"), (false, "closed LeftRoom")] {
        let mut c = Contest::new();
        let new = c.try_enter();
        if ending {
            c.story.end(c.namesake);
        } else {
            c.story.leave(c.namesake, c.room);
        }
        c.story.assert_received(new, &[close]);
        c.assert_nothing_more_happens();
        assert_eq!(c.story.user_count(c.room), 2);
    }
}

#[test]
fn a_later_newcomer_starts_a_new_probe() {
    let mut c = Contest::new();
    let first = c.try_enter();
    c.story.wait(2 * SECOND);
    c.story.close(first);
    let second = c.try_enter();
    c.story.wait(2 * SECOND);
    c.story.assert_all_received(&[second, c.holder], &[]); // The second probe has its own timeout.
    c.story.sign_of_life(c.holder);
    c.story.assert_received(second, &["closed NameTaken"]);
    let third = c.try_enter();
    c.story.wait(4 * SECOND);
    c.assert_newcomer_is_in(third);
}

#[test]
fn a_newcomer_that_reaches_its_limit_of_rooms_while_waiting_is_refused() {
    let mut c = Contest::new();
    let stranger = c.story.person("Ana");
    for _ in 1..SESSION_ROOMS_MAX {
        c.story.room(stranger);
    }
    let over = c.story.enter_waiting(stranger, c.room);
    let new = c.story.enter_waiting(c.namesake, c.room);
    c.story.room(stranger);
    c.story.wait(4 * SECOND);
    c.story.assert_received(over, &["closed TooManyRooms"]);
    c.assert_newcomer_is_in(new); // The refused connection has not taken the name.
}

#[test]
fn a_newcomer_that_is_already_a_member_is_admitted_at_its_limit_of_rooms() {
    let mut c = Contest::new();
    for _ in 1..SESSION_ROOMS_MAX {
        c.story.room(c.namesake);
    }
    let new = c.try_enter();
    c.story.join(c.namesake, c.room).unwrap();
    c.story.wait(4 * SECOND);
    c.assert_newcomer_is_in(new);
}

#[test]
fn a_room_whose_only_member_is_replaced_does_not_end() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let namesake = story.person("ana");
    let new = story.enter_waiting(namesake, room);
    story.wait(4 * SECOND);
    story.assert_received(a, &["ping", "closed Silent"]);
    story.assert_received(new, &["admitted", "joined ana"]);
    story.wait(HOUR);
    assert!(story.exists(room));
}

#[test]
fn a_room_whose_newcomer_is_refused_ends_after_its_ttl() {
    let mut story = Story::new();
    let (_, room, a) = story.begin("ana");
    let namesake = story.person("ana");
    for _ in 1..SESSION_ROOMS_MAX {
        story.room(namesake);
    }
    let new = story.enter_waiting(namesake, room);
    story.room(namesake);
    story.close(a);
    story.assert_received(new, &["closed TooManyRooms"]);
    story.wait(SETTINGS.room_ttl - SECOND);
    assert!(story.exists(room));
    story.wait(2 * SECOND);
    assert!(!story.exists(room));
}

#[test]
fn a_thousand_waiting_connections_are_answered_together() {
    let mut c = Contest::new();
    let new: Vec<_> = (0..50)
        .flat_map(|_| {
            let session = c.story.person("aNa");
            (0..SESSION_CONNECTIONS_MAX).map(move |_| session)
        })
        .collect();
    let ticking = std::mem::replace(&mut c.story.ticking, true);
    let tabs: Vec<_> = new.iter().map(|session| c.story.enter_waiting(*session, c.room)).collect();
    c.story.ticking = ticking;
    c.story.wait(4 * SECOND);
    for (n, tab) in tabs.into_iter().enumerate() {
        let first = n < SESSION_CONNECTIONS_MAX;
        let last = c.story.sink.received_by(tab.conn).lines.drain(..).next().unwrap();
        assert_eq!(last, if first { "admitted" } else { "closed NameTaken" });
    }
    assert_eq!(c.story.user_count(c.room), 2);
}
