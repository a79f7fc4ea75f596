//! The owner's rules: changes, lock, slow mode, hand-over and the end of a room's time.

use super::*;

impl Story {
    pub fn change(
        &mut self,
        session: SessionKey,
        room: RoomKey,
        changes: RoomChanges<'_>,
    ) -> Result<(), Refusal> {
        let now = self.now;
        let changed = self.chat.change_room(now, session, Some(room), changes, &mut self.sink);
        self.step();
        changed.map(|key| assert_eq!(key, room))
    }

    /// Asserts that a change is accepted.
    fn rule(&mut self, session: SessionKey, room: RoomKey, changes: RoomChanges<'_>) {
        assert_eq!(self.change(session, room, changes), Ok(()));
    }

    fn info(&self, room: RoomKey) -> RoomInfo<'_> {
        self.chat.room_info(room).unwrap()
    }

    fn owner(&self, room: RoomKey) -> Option<UserId> {
        self.chat.owner(room)
    }

    fn hand_over(&mut self, from: SessionKey, to: SessionKey, room: RoomKey) {
        let heir = self.user_id(to, room);
        self.rule(from, room, RoomChanges { owner: Some(heir), ..none() });
        assert_eq!(self.owner(room), heir);
    }
}

fn none() -> RoomChanges<'static> {
    RoomChanges::default()
}

fn title(text: &str) -> RoomChanges<'static> {
    RoomChanges { title: Some(Some(Title::parse(text).unwrap())), ..none() }
}

fn password(password: Option<&str>) -> RoomChanges<'_> {
    RoomChanges { password: Some(password.map(Into::into)), ..none() }
}

fn lock(locked: bool) -> RoomChanges<'static> {
    RoomChanges { locked: Some(locked), ..none() }
}

fn slow(seconds: u16) -> RoomChanges<'static> {
    RoomChanges { slow_mode: Some(seconds), ..none() }
}

fn limited(seconds: u64) -> Result<(), Refusal> {
    Err(Refusal::RateLimited(Duration::from_secs(seconds)))
}

// contract §13.2 §13.3 §13.4
#[test]
fn everyone_is_told_of_each_change_once_and_of_no_other_command() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.assert_received(a, &["joined bob"]);
    story.assert_received(b, &["joined bob"]);
    let both = RoomChanges { locked: Some(true), slow_mode: Some(9), ..title("tea") };
    let nothing = RoomChanges { locked: Some(true), slow_mode: Some(9), ..title(" tea ") };
    for (changes, line) in [
        (none(), None),
        (lock(false), None),
        (slow(0), None),
        (password(None), None),
        (RoomChanges { title: Some(None), ..none() }, None),
        (both, Some("changed locked slow 9: tea")),
        (nothing, None),
        (RoomChanges { title: Some(None), ..lock(false) }, Some("changed slow 9")),
        (slow(0), Some("changed")),
        (password(Some("x")), Some("changed password unlisted")),
        (password(Some("x")), None),
        (password(Some("y")), Some("changed password unlisted")),
        (password(None), Some("changed unlisted")),
        (password(None), None),
    ] {
        story.rule(ana, room, changes);
        story.assert_all_received(&[a, b], line.as_slice());
    }
    let own = story.user_id(ana, room);
    story.rule(ana, room, RoomChanges { owner: Some(own), ..none() });
    story.hand_over(ana, bob, room);
    story.assert_all_received(&[a, b], &["changed unlisted"]);
    assert_eq!(story.history(room, 10), ["joined ana", "joined bob"], "it is no history");
}

/// A session that ends may have owned thousands of rooms.
#[test]
fn nothing_is_published_in_a_room_without_connections() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let rooms = [story.room(ana), story.room(ana)];
    story.tick(|story| {
        story.rule(ana, rooms[0], title("tea"));
        story.end(ana);
        assert!(story.sink.batches.is_empty());
    });
    assert_eq!(rooms.map(|room| story.owner(room)), [None; 2]);
}

// contract §13.2
#[test]
fn a_refused_change_changes_nothing_and_the_owner_is_asked_for_before_the_heir_and_the_rate() {
    let mut story = Story::with(|config| config.message_pace = Pace::new(1, SECOND, 2));
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.join(bob, room).unwrap();
    let absent = story.user_id(bob, room);
    let both = |owner| RoomChanges { owner: Some(owner), ..title("tea") };
    assert_eq!(story.change(bob, room, both(absent)), Err(Refusal::NotTheOwner));
    for nobody in [absent, None, Some(UserId::from_bits(1))] {
        assert_eq!(story.change(ana, room, both(nobody)), Err(Refusal::UserNotFound));
    }
    // Refusals are free; a change counts, even if it changes nothing.
    story.rule(ana, room, none());
    story.send(a, "hello");
    assert_eq!(story.change(ana, room, title("tea")), limited(1));
    assert_eq!(story.change(ana, room, both(absent)), Err(Refusal::UserNotFound));
    assert_eq!(story.change(bob, room, title("tea")), Err(Refusal::NotTheOwner));
    assert_eq!(story.info(room).title, None);
    story.assert_received(a, &["chat ana: hello"]);
    story.wait(SECOND);
    story.rule(ana, room, title("tea"));
    assert_eq!(story.info(room).title, Some("tea"));
    story.delete(ana, room).unwrap();
    assert_eq!(story.change(ana, room, title("x")), Err(Refusal::RoomNotFound));
}

// contract §13.5
#[test]
fn a_password_takes_a_room_off_the_list_for_good() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let id = story.info(room).id;
    let listed = |story: &Story| story.chat.public_rooms().map(|info| info.id).collect::<Vec<_>>();
    assert_eq!(listed(&story), [id]);
    let revision = story.chat.listing_revision();
    story.rule(ana, room, password(Some("x")));
    assert_ne!(story.chat.listing_revision(), revision);
    assert_eq!((listed(&story), story.info(room).is_private), (vec![], true));
    let bob = story.person("bob");
    assert_eq!(story.try_enter(bob, room).err(), Some(CloseReason::NotAMember));
    story.rule(ana, room, password(None));
    assert_eq!((listed(&story), story.info(room).is_private), (vec![], true));
    assert_eq!(story.info(room).id, id, "its id stays what it was");
    story.enter(bob, room);
    story.delete(ana, room).unwrap();
}

// contract §13.2
#[test]
fn the_list_shows_another_title_at_once() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let revision = story.chat.listing_revision();
    story.rule(ana, room, title("tea"));
    assert_ne!(story.chat.listing_revision(), revision);
}

// contract §10.7 §13.2
#[test]
fn another_password_opens_and_the_old_one_does_not_while_guesses_stay_counted() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let room = story
        .room_with(ana, RoomOptions { password: Some("old".into()), ..RoomOptions::default() });
    let bob = story.person("bob");
    let ask = |story: &mut Story, password| {
        let access = Access::Join { password: Some(password) };
        let gate = story.chat.gate(story.now, bob, Some(room), access, None);
        story.step();
        gate.map(|_| ())
    };
    for _ in 0..4 {
        assert_eq!(ask(&mut story, "new"), Err(Refusal::BadPassword));
    }
    story.rule(ana, room, password(Some("new")));
    assert_eq!(ask(&mut story, "new"), Ok(()));
    assert_eq!(ask(&mut story, "old"), Err(Refusal::BadPassword));
    assert!(matches!(ask(&mut story, "new"), Err(Refusal::RateLimited(_))), "that was the fifth");
    story.rule(ana, room, password(None));
    assert_eq!(ask(&mut story, "old"), Ok(()), "no password: any is right");
    story.rule(ana, room, password(Some("x")));
    assert_eq!(ask(&mut story, "y"), Err(Refusal::BadPassword), "its guesses begin anew");
}

// contract §13.6
#[test]
fn members_come_and_go_in_a_locked_room_until_they_leave_it() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.rule(ana, room, lock(true));
    story.close(b);
    let b = story.enter(bob, room);
    story.send(b, "back");
    story.leave(bob, room);
    assert_eq!(story.try_enter(bob, room).err(), Some(CloseReason::RoomLocked));
    story.leave(ana, room);
    story.assert_received(
        a,
        &[
            "joined bob",
            "changed locked",
            "left bob",
            "joined bob",
            "chat bob: back",
            "left bob",
            "closed LeftRoom",
        ],
    );
    story.enter(ana, room);
    story.rule(ana, room, lock(false));
    story.enter(bob, room);
}

// contract §13.7
#[test]
fn a_locked_room_counts_no_guess() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let room =
        story.room_with(ana, RoomOptions { password: Some("x".into()), ..RoomOptions::default() });
    story.rule(ana, room, lock(true));
    let bob = story.person("bob");
    for _ in 0..100 {
        let access = Access::Join { password: Some("wrong") };
        assert_eq!(
            story.chat.gate(story.now, bob, Some(room), access, None),
            Err(Refusal::RoomLocked)
        );
    }
    story.rule(ana, room, lock(false));
    let access = Access::Join { password: Some("x") };
    assert!(story.chat.gate(story.now, bob, Some(room), access, None).is_ok());
}

/// The gate was passed when the connection began to wait for its name.
// contract §13.6
#[test]
fn a_newcomer_that_waits_for_its_name_while_the_room_is_closed_to_it_is_not_let_in() {
    for (changes, reason) in [
        (lock(true), "closed RoomLocked"),
        (password(Some("x")), "closed NotAMember"),
        (RoomChanges { password: Some(Some("x".into())), ..lock(true) }, "closed RoomLocked"),
    ] {
        let mut story = Story::new();
        let (ana, room, _) = story.begin("ana");
        let (bob, namesake) = (story.person("bob"), story.person("BOB"));
        let b = story.enter(bob, room);
        let waiting = story.enter_waiting(namesake, room);
        story.rule(ana, room, changes);
        story.close(b);
        story.assert_received(waiting, &[reason]);
        assert_eq!(story.user_count(room), 1);
    }
}

// contract §13.8
#[test]
fn in_slow_mode_each_member_but_the_owner_waits_between_two_chats() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let (bob, cy) = (story.person("bob"), story.person("cy"));
    let (b, c) = (story.enter(bob, room), story.enter(cy, room));
    story.send(b, "before");
    story.rule(ana, room, slow(10));
    story.send_with(b, "one", "n1");
    story.wait(4 * SECOND);
    story.send(c, "each by itself");
    assert_eq!(story.try_send(b, "two"), limited(6));
    assert_eq!(story.post(bob, room, "two", None), limited(6).map(|()| unreachable!()));
    story.send_with(b, "one", "n1"); // A known nonce is answered.
    story.typing(b);
    (0..20).for_each(|_| story.send(a, "the owner may"));
    story.wait(6 * SECOND);
    story.send(b, "a refusal does not count");
    assert_eq!(story.try_send(b, "three"), limited(10));
    assert_eq!(story.try_send(c, "two"), limited(4));
}

// contract §13.8
#[test]
fn leaving_does_not_shorten_the_wait_and_neither_does_another_tab() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    story.rule(ana, room, slow(3600));
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.send(b, "one");
    let other = story.enter(bob, room);
    assert_eq!(story.try_send(other, "two"), limited(3600));
    story.leave(bob, room);
    let b = story.enter(bob, room);
    assert_eq!(story.try_send(b, "two"), limited(3600));
    let elsewhere = story.room(ana);
    let b = story.enter(bob, elsewhere);
    story.send(b, "another room has no slow mode");
}

// contract §13.8
#[test]
fn another_slow_mode_counts_from_the_last_chat_of_those_who_wait() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let (bob, cy) = (story.person("bob"), story.person("cy"));
    let (b, c) = (story.enter(bob, room), story.enter(cy, room));
    story.rule(ana, room, slow(10));
    story.send(b, "one");
    story.wait(6 * SECOND);
    story.send(c, "one");
    story.rule(ana, room, slow(100));
    assert_eq!((story.try_send(b, "two"), story.try_send(c, "two")), (limited(94), limited(100)));
    story.rule(ana, room, slow(5));
    story.send(b, "two");
    assert_eq!(story.try_send(c, "two"), limited(5));
    story.wait(5 * SECOND);
    story.rule(ana, room, slow(100));
    story.send(b, "three");
    story.rule(ana, room, slow(0));
    story.send(b, "four");
    story.rule(ana, room, slow(100));
    story.send(b, "five");
    assert_eq!(story.try_send(b, "six"), limited(100));
}

#[test]
fn chats_that_count_no_more_are_forgotten() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    story.rule(ana, room, slow(10));
    let most = |story: &Story| {
        let room = story.chat.feeds.room(room).unwrap();
        room.rules.as_ref().unwrap().chats.len()
    };
    for round in 0..50 {
        for n in 0..10 {
            let bob = story.person("bob");
            let b = story.enter(bob, room);
            story.send(b, "hello");
            story.end(bob);
            assert!(most(&story) <= 41, "{} in round {round}.{n}", most(&story));
        }
        story.wait(5 * SECOND);
    }
    story.rule(ana, room, slow(0));
    assert_eq!(most(&story), 0);
}

// contract §13.9
#[test]
fn the_new_owner_rules_and_the_old_one_is_a_member() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.enter(bob, room);
    let others = [story.room(ana), story.room(ana)];
    story.hand_over(ana, bob, room);
    assert_eq!(story.change(ana, room, lock(true)), Err(Refusal::NotTheOwner));
    assert_eq!(story.delete(ana, room), Err(Refusal::NotTheOwner));
    story.rule(bob, room, slow(60));
    story.send(a, "one");
    assert_eq!(story.try_send(a, "two"), limited(60));
    story.rule(ana, others[0], lock(true));
    story.rule(ana, others[1], lock(true));
    story.delete(bob, room).unwrap();
    story.end(ana);
    assert_eq!(others.map(|room| story.owner(room)), [None; 2]);
}

// contract §13.9
#[test]
fn a_person_in_its_grace_is_present_and_may_be_handed_the_room() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.break_connection(b);
    story.hand_over(ana, bob, room);
    story.wait(MINUTE);
    assert_eq!(story.owner(room), story.user_id(bob, room), "it owns the room in absence, too");
}

// contract §10.12 §13.3
#[test]
fn ownership_passes_to_who_is_present_longest_and_everyone_is_told() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let (bob, cy) = (story.person("bob"), story.person("cy"));
    let (b, c) = (story.enter(bob, room), story.enter(cy, room));
    story.end(ana);
    assert_eq!(story.owner(room), story.user_id(bob, room));
    story.assert_received(b, &["joined bob", "joined cy", "left ana", "changed"]);
    story.end(bob);
    assert_eq!(story.owner(room), story.user_id(cy, room));
    story.assert_received(c, &["joined cy", "left ana", "changed", "left bob", "changed"]);
}

// contract §10.16 §13.3
#[test]
fn a_room_without_an_owner_belongs_to_the_next_member_who_comes() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let (bob, cy) = (story.person("bob"), story.person("cy"));
    story.join(bob, room).unwrap();
    story.join(cy, room).unwrap();
    story.end(ana);
    assert_eq!(story.owner(room), None, "joined is not present");
    story.post(bob, room, "neither is a post", None).unwrap();
    assert_eq!(story.owner(room), None);
    let c = story.enter_from(cy, room, Start::Last(0));
    assert_eq!(story.owner(room), story.user_id(cy, room));
    story.assert_received(c, &["complete: cy*", "joined cy", "changed"]);
    let b = story.enter(bob, room);
    story.assert_received(b, &["joined bob"]);
    story.assert_received(c, &["joined bob"]);
    assert_eq!(story.owner(room), story.user_id(cy, room));
    story.rule(cy, room, lock(true));
}

/// A locked room has no owner, so only members can come.
// contract §13.6
#[test]
fn a_locked_room_without_an_owner_stays_locked() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let (bob, cy) = (story.person("bob"), story.person("cy"));
    story.join(bob, room).unwrap();
    story.rule(ana, room, lock(true));
    story.end(ana);
    assert_eq!(story.try_enter(cy, room).err(), Some(CloseReason::RoomLocked));
    story.enter(bob, room);
    story.rule(bob, room, lock(false));
    story.enter(cy, room);
}

/// Live events skip a connection that is catching up, and a change is not in the history.
// contract §13.3
#[test]
fn a_connection_that_is_catching_up_does_not_miss_a_change() {
    let long = |n: usize| format!("{n} {}", "🦀".repeat(3990));
    for changes_at in [0, 3, 40] {
        let mut story = Story::new();
        let (ana, room, a) = story.begin("ana");
        (0..5).for_each(|n| story.send(a, &long(n)));
        let bob = story.person("bob");
        let b = story.enter_from(bob, room, Start::Last(1000));
        // So many that frames follow the last page.
        (0..50).for_each(|n| story.send(a, &long(n)));
        let mut reads = 0;
        while story.is_catching_up(b) {
            if reads == changes_at {
                story.rule(ana, room, lock(true));
            }
            story.catch_up_once(b);
            reads += 1;
        }
        if reads <= changes_at {
            story.rule(ana, room, lock(true));
        }
        let received = story.sink.received_by(b.conn);
        let position = |what: &str| received.lines.iter().position(|line| line.ends_with(what));
        let page = position("complete: ana, bob*").unwrap();
        match changes_at {
            0 => assert_eq!(position("changed locked"), None, "the last page has it"),
            _ => assert!(position("changed locked") > Some(page), "{changes_at} of {reads}"),
        }
    }
}

// contract §10.14 §10.15
#[test]
fn a_room_ends_after_its_ttl_whoever_is_in_it() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let options = || RoomOptions { ttl: Some(HOUR), ..RoomOptions::default() };
    let room = story.room_with(ana, options());
    assert_eq!(story.info(room).expires, Some(story.now.wall.after(HOUR)));
    let a = story.enter(ana, room);
    story.send(a, "hello");
    story.wait(HOUR - SECOND);
    story.send(a, "still here");
    story.wait(SECOND);
    story.assert_received(
        a,
        &["joined ana", "chat ana: hello", "chat ana: still here", "closed RoomExpired"],
    );
    assert!(!story.exists(room));
    assert_eq!(story.try_enter(ana, room).err(), Some(CloseReason::RoomNotFound));
    story.end(ana);
    story.wait(HOUR);
    story.assert_empty();
}

// contract §10.14
#[test]
fn the_other_lifetimes_apply_to_a_room_with_a_ttl_as_well() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let options = RoomOptions { ttl: Some(HOUR), ..RoomOptions::default() };
    let room = story.room_with(ana, options);
    story.wait(story.chat.config.new_room_ttl + GRAIN);
    assert!(!story.exists(room));
    let options = RoomOptions { ttl: Some(HOUR), ..RoomOptions::default() };
    let room = story.room_with(ana, options);
    let a = story.enter(ana, room);
    story.delete(ana, room).unwrap();
    story.assert_received(a, &["joined ana", "closed RoomDeleted"]);
    story.wait(25 * HOUR);
    story.assert_empty();
}

// contract §10.14
#[test]
fn rooms_end_in_the_order_of_their_ttl_and_a_clock_that_is_set_does_not_matter() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let mut room = |minutes| {
        let ttl = Some(minutes * MINUTE);
        let room = story.room_with(ana, RoomOptions { ttl, ..RoomOptions::default() });
        (room, story.enter(ana, room))
    };
    let rooms = [room(3), room(1), room(2), room(2)];
    for (left, set_to) in [([true, false, true, true], 0), ([true, false, false, false], 1 << 60)] {
        story.now.wall = Wall::from_micros(set_to);
        story.wait(MINUTE);
        assert_eq!(rooms.map(|(room, _)| story.exists(room)), left);
    }
    story.wait(MINUTE);
    assert_eq!(story.chat.room_count(), 0);
}

#[test]
fn rooms_whose_time_is_over_end_a_few_at_a_time() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let ttl = Some(MINUTE);
    for _ in 0..10 {
        story.room_with(ana, RoomOptions { ttl, ..RoomOptions::default() });
    }
    story.now = story.now.after(MINUTE);
    for left in [6, 2, 0] {
        assert!(story.chat.next_deadline() <= Some(story.now.mono));
        story.chat.sweep(story.now, 4, &mut story.sink);
        story.step();
        assert_eq!(story.chat.room_count(), left);
    }
}

// contract §10.17
#[test]
fn an_encrypted_room_is_private() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let options = RoomOptions { encrypted: true, ..RoomOptions::default() };
    let room = story.room_with(ana, options);
    let info = story.info(room);
    assert!(info.is_encrypted && info.is_private && !info.has_password);
    assert_eq!(info.id.to_string().len(), 32);
}

// contract §10.14 §12.10
#[test]
fn the_time_of_a_restart_counts_in_a_ttl_and_the_rules_are_kept() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let rules = RoomOptions { ttl: Some(HOUR), slow_mode: 9, ..RoomOptions::default() };
    let room = story.room_with(ana, RoomOptions { encrypted: true, ..rules });
    let _tab = story.enter(ana, room);
    story.wait(10 * MINUTE);
    story.rule(ana, room, password(Some("x")));
    story.rule(ana, room, RoomChanges { password: Some(None), ..lock(true) });
    let before = story.info(room);
    let lines = restarts::recorded(&story.chat, story.now);
    // The wall clock of the next process, and how long the room lives on.
    let minutes = |minutes: u32| story.now.wall.after(minutes * MINUTE);
    let set_back = Wall::from_micros(story.now.wall.micros() - 1);
    for (wall, left) in [(minutes(0), 50), (minutes(20), 30), (set_back, 50), (minutes(90), 0)] {
        let config = ChatConfig { session_ttl: 48 * HOUR, room_ttl: 48 * HOUR, ..SETTINGS };
        let mono = Mono::from_micros(7);
        let (mut chat, _ledger) = restarts::restored(config, &lines, Now { mono, wall }).unwrap();
        let again = chat.room(before.id).unwrap();
        let after = chat.room_info(again).unwrap();
        let rules = |info: RoomInfo<'_>| {
            (info.is_locked, info.is_private, info.is_encrypted, info.slow_mode, info.expires)
        };
        assert_eq!((rules(after), after.has_password), (rules(before), false));
        assert!(chat.owner(again).is_some());
        let end = left * 60_000_000_u64;
        for (micros, is_over) in [(0, left == 0), (end.saturating_sub(1), left == 0), (end, true)] {
            let mono = Mono::from_micros(7 + micros);
            chat.sweep(Now { mono, wall }, usize::MAX, &mut Recorder::default());
            assert_eq!(chat.room(before.id).is_none(), is_over, "{left} minutes, {micros}");
        }
    }
}

#[test]
fn a_record_with_an_impossible_slow_mode_is_refused() {
    let mut story = Story::new();
    let ana = story.person("ana");
    story.room_with(ana, RoomOptions { slow_mode: 3600, ..RoomOptions::default() });
    let lines = restarts::recorded(&story.chat, story.now);
    assert!(restarts::restored(SETTINGS, &lines, story.now).is_ok());
    let lines: Vec<_> = lines.iter().map(|line| line.replace(":3600", ":3601")).collect();
    assert!(restarts::restored(SETTINGS, &lines, story.now).is_err());
}
