//! Moderation: deleting the texts of messages.

use super::*;

#[test]
fn the_author_deletes_a_text_and_everyone_is_told_once() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    story.send_with(a, "a secret", "n");
    let id = story.last_id(room);
    story.send(b, "what?");
    story.sink.received_by(b.conn).lines.clear();
    assert_eq!(story.delete_message(ana, room, id), Ok(()));
    story.assert_received(b, &["deletion by ana"]);
    let history = ["deleted chat ana [n]", "chat bob: what?", "deletion by ana"];
    assert_eq!(story.history(room, 3), history);
    assert_eq!(story.delete_message(ana, room, id), Ok(()), "again");
    story.assert_received(b, &[]);
    assert_eq!(story.history(room, 3), history);
}

#[test]
fn only_the_author_and_the_owner_delete_and_neither_need_be_a_member() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let (bob, cyd) = (story.person("bob"), story.person("cyd"));
    let (b, c) = (story.enter(bob, room), story.enter(cyd, room));
    story.send(b, "one");
    let one = story.last_id(room);
    story.send(b, "two");
    let two = story.last_id(room);
    story.send(c, "three");
    assert_eq!(story.delete_message(cyd, room, one), Err(Refusal::NotTheAuthor));
    story.leave(bob, room);
    story.leave(ana, room);
    assert_eq!(story.delete_message(bob, room, one), Ok(()));
    assert_eq!(story.delete_message(cyd, room, one), Err(Refusal::NotTheAuthor), "deleted");
    assert_eq!(story.delete_message(ana, room, two), Ok(()));
    let history = ["deleted chat bob", "deleted chat bob", "chat cyd: three"];
    assert_eq!(story.history(room, 7)[..3], history);
    assert_eq!(story.history(room, 2), ["deletion by bob", "deletion by ana"]);
}

#[test]
fn what_is_no_chat_or_not_kept_cannot_be_deleted() {
    let mut story = Story::with(|config| config.history_messages_max = 2);
    let (ana, room, a) = story.begin("ana");
    let joined = story.last_id(room);
    let missing = Err(Refusal::MessageNotFound);
    assert_eq!(story.delete_message(ana, room, joined), missing);
    story.send(a, "one");
    let one = story.last_id(room);
    assert_eq!(story.delete_message(ana, room, one), Ok(()));
    assert_eq!(story.history(room, 9), ["deleted chat ana", "deletion by ana"]);
    let deletion = story.last_id(room);
    assert_eq!(story.delete_message(ana, room, deletion), missing);
    story.send(a, "two");
    assert_eq!(story.delete_message(ana, room, one), missing);
    let elsewhere = story.room(ana);
    assert_eq!(story.delete_message(ana, elsewhere, deletion), missing);
}

#[test]
fn a_deletion_counts_against_the_message_rate() {
    let mut story = Story::with(|config| config.message_pace = Pace::new(1, SECOND, 2));
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.send(a, "one");
    let id = story.last_id(room);
    assert_eq!(story.delete_message(bob, room, id), Err(Refusal::NotTheAuthor));
    assert_eq!(story.delete_message(ana, room, id), Ok(()));
    assert_eq!(story.delete_message(ana, room, id), Err(Refusal::RateLimited(SECOND)));
}

#[test]
fn the_nonce_of_a_deleted_message_stays_known() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.send_with(a, "hello", "n");
    let id = story.last_id(room);
    story.delete_message(ana, room, id).unwrap();
    story.assert_received(a, &["chat ana: hello [n]", "deletion by ana"]);
    story.send_with(a, "hello", "n");
    story.assert_received(a, &["again: deleted chat ana [n]"]);
    let again = story.post(ana, room, "hello", Some("n"));
    assert_eq!(again, Ok(("deleted chat ana [n]".to_owned(), false)));
    assert_eq!(story.history(room, 2), ["deleted chat ana [n]", "deletion by ana"]);
}

/// The connection is sent the first page before the deletion, and the rest after it.
#[test]
fn a_connection_that_catches_up_is_sent_what_is_left_of_a_deleted_message() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let mut ids = Vec::new();
    for _ in 0..8 {
        story.send(a, &"🦀".repeat(4000));
        ids.push(story.last_id(room));
    }
    let bob = story.person("bob");
    let b = story.enter_from(bob, room, Start::Last(8));
    assert_eq!(story.sink.received_by(b.conn).lines.len(), 4, "three messages, and more to come");
    for id in [ids[0], ids[6], ids[7]] {
        story.delete_message(ana, room, id).unwrap();
    }
    story.catch_up(b);
    let lines = story.sink.received_by(b.conn).lines.clone();
    let deleted = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((deleted("· deleted chat ana"), deleted("deletion by ana")), (2, 3), "{lines:?}");
}

#[test]
fn a_deleted_text_is_gone_from_the_records_and_its_deletion_survives_a_restart() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    story.send_with(a, "a secret", "n");
    let id = story.last_id(room);
    story.send(a, "kept");
    let text_kept = |story: &Story| {
        let (history, store) =
            (story.chat.feeds.history(room).unwrap(), &story.chat.feeds.archive().store);
        let mut record = Vec::new();
        store.read(history.queue(), history.place_of(store, id).unwrap(), &mut record);
        record.windows(8).any(|window| window == b"a secret")
    };
    assert!(text_kept(&story));
    story.delete_message(ana, room, id).unwrap();
    assert!(!text_kept(&story));
    let (session_id, room_id) = (story.session_id(ana), story.chat.room_id(room).unwrap());
    story.restart(story.now.wall);
    let ana = story.chat.session(session_id).unwrap();
    assert_eq!(story.chat.room(room_id), Some(room), "its slot is the same");
    let history = ["deleted chat ana [n]", "chat ana: kept", "deletion by ana"];
    assert_eq!(story.history(room, 3), history);
    let again = story.post(ana, room, "a secret", Some("n"));
    assert_eq!(again, Ok(("deleted chat ana [n]".to_owned(), false)));
}

/// Deleted and kept messages of several people, while memory is short, so that records are moved.
#[test]
fn deleted_messages_are_dropped_and_moved_like_others() {
    let mut story = Story::with(|config| config.history_messages_max = 20);
    let (ana, room, a) = story.begin("ana");
    for n in 0..100 {
        story.send_with(a, &"x".repeat(1 + n * 7), &n.to_string());
        if n % 3 == 0 {
            let id = story.last_id(room);
            story.delete_message(ana, room, id).unwrap();
        }
    }
    assert_eq!(story.history(room, 100).len(), 20);
    story.delete(ana, room).unwrap();
}

// Removal and bans.

const BAN: BanRequest = BanRequest { duration: MINUTE, address: false };

fn address(last: u8) -> Option<Address> {
    Some(Address::of([192, 0, 2, last].into()))
}

impl Story {
    /// The owner removes a person. Returns whether the address is banned.
    fn remove(
        &mut self,
        by: SessionKey,
        room: RoomKey,
        user_id: Option<UserId>,
        ban: Option<BanRequest>,
    ) -> Result<bool, Refusal> {
        let (by, room) = (Some(by), Some(room));
        let removed = self.chat.remove_user(self.now, by, room, user_id, ban, &mut self.sink);
        self.step();
        removed
    }

    fn enter_refused(&mut self, session: SessionKey, room: RoomKey) -> Option<CloseReason> {
        self.try_enter(session, room).err()
    }

    /// The answer to joining by REST, from [`Story::from`].
    fn gate(&mut self, session: SessionKey, room: RoomKey, access: Access<'_>) -> Option<Refusal> {
        self.chat.gate(self.now, session, Some(room), access, self.from).err()
    }

    fn ban_names(&self, owner: SessionKey, room: RoomKey) -> Vec<String> {
        let bans = self.chat.bans(self.now, owner, Some(room)).unwrap();
        bans.iter()
            .map(|ban| format!("{}{}", ban.user, if ban.has_address { " @" } else { "" }))
            .collect()
    }
}

#[test]
fn a_removal_closes_every_connection_and_is_announced_once() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    let tabs = [story.enter(bob, room), story.enter(bob, room)];
    let elsewhere = story.room(bob);
    let other = story.enter(bob, elsewhere);
    story.assert_received(a, &["joined bob"]);
    let user_id = story.user_id(bob, room);
    assert_eq!(story.remove(ana, room, user_id, None), Ok(false));
    story.assert_received(a, &["removed bob"]);
    story.assert_received(tabs[0], &["joined bob", "closed Removed"]);
    story.assert_received(tabs[1], &["closed Removed"]);
    story.assert_received(other, &["joined bob"]);
    assert_eq!(story.chat.rooms_of(bob).len(), 1);
    assert_eq!(story.remove(ana, room, user_id, None), Err(Refusal::UserNotFound));
    story.wait(MINUTE);
    story.assert_received(a, &[]);
    // Without a ban the person may come back.
    story.enter(bob, room);
    story.assert_received(a, &["joined bob"]);
}

#[test]
fn members_that_are_not_present_are_removed_silently_and_those_in_their_grace_are_announced() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let (bob, cyd) = (story.person("bob"), story.person("cyd"));
    story.join(bob, room).unwrap();
    let c = story.enter(cyd, room);
    story.break_connection(c);
    story.assert_received(a, &["joined cyd"]);
    let (bob_id, cyd_id) = (story.user_id(bob, room), story.user_id(cyd, room));
    assert_eq!(story.remove(ana, room, bob_id, None), Ok(false));
    story.assert_received(a, &[]);
    assert_eq!(story.remove(ana, room, cyd_id, None), Ok(false));
    story.assert_received(a, &["removed cyd"]);
    assert_eq!((story.chat.rooms_of(bob).len(), story.chat.rooms_of(cyd).len()), (0, 0));
}

#[test]
fn a_removal_frees_the_name_for_a_connection_that_waits() {
    let mut story = Story::new();
    let (ana, room, a) = story.begin("ana");
    let (bob, namesake) = (story.person("bob"), story.person("BOB"));
    story.enter(bob, room);
    let waiting = story.enter_waiting(namesake, room);
    story.sink.received_by(a.conn).lines.clear();
    let user_id = story.user_id(bob, room);
    assert_eq!(story.remove(ana, room, user_id, None), Ok(false));
    story.assert_received(a, &["removed bob", "joined BOB"]);
    story.assert_received(waiting, &["admitted", "joined BOB"]);
}

#[test]
fn only_the_owner_removes_bans_and_sees_bans() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let bob = story.person("bob");
    story.enter(bob, room);
    let ana_id = story.user_id(ana, room);
    let refusal = Refusal::NotTheOwner;
    assert_eq!(story.remove(bob, room, ana_id, Some(BAN)), Err(refusal));
    assert_eq!(story.chat.bans(story.now, bob, Some(room)).err(), Some(refusal));
    assert_eq!(story.chat.lift_ban(story.now, bob, Some(room), ana_id), Err(refusal));
    assert_eq!(story.chat.lift_ban(story.now, ana, None, ana_id), Err(Refusal::RoomNotFound));
    assert_eq!(story.remove(ana, room, None, None), Err(Refusal::UserNotFound));
}

/// Regression: an owner could have a large room searched at any rate, because a user id that nobody has
/// is refused before the rate is charged.
#[test]
fn a_search_for_a_person_is_charged_even_if_it_finds_nobody() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    for _ in 0..9 {
        let guest = story.person("guest");
        story.join(guest, room).unwrap();
    }
    let (nobody, before) = (Some(UserId::from_bits(1)), story.sink.listed);
    assert_eq!(story.remove(ana, room, nobody, None), Err(Refusal::UserNotFound));
    assert_eq!(story.sink.listed - before, 10);
}

// contract §13.24
#[test]
fn the_end_of_a_ban_is_the_same_in_every_list() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let (bob, ana_id) = (story.person("bob"), story.session_id(ana));
    story.join(bob, room).unwrap();
    let user_id = story.user_id(bob, room);
    story.remove(ana, room, user_id, Some(BAN)).unwrap();
    let until = |story: &Story, ana| {
        let room = story.chat.feeds.rooms().next().map(|(key, _)| key);
        story.chat.bans(story.now, ana, room).unwrap()[0].until
    };
    let before = until(&story, ana);
    // The two clocks are read one after the other, and the system's may be set.
    story.now.wall = story.now.wall.after(Duration::from_micros(1));
    assert_eq!(until(&story, ana), before);
    story.restart(story.now.wall.after(Duration::from_micros(1)));
    let ana = story.chat.session(ana_id).unwrap();
    assert_eq!(until(&story, ana), before);
}

// contract §13.20 §13.24 §13.25
#[test]
fn a_banned_person_has_no_access_until_the_ban_ends_or_is_lifted() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let bob = story.person("bob");
    for is_lifted in [false, true] {
        story.enter(bob, room);
        let user_id = story.user_id(bob, room);
        assert_eq!(story.remove(ana, room, user_id, Some(BAN)), Ok(false));
        assert_eq!(story.ban_names(ana, room), ["bob"]);
        assert_eq!(story.enter_refused(bob, room), Some(CloseReason::Banned));
        for access in [Access::Read, Access::Join { password: None }] {
            assert_eq!(story.gate(bob, room, access), Some(Refusal::Banned));
        }
        assert_eq!(story.gate(bob, room, Access::Post), Some(Refusal::NotAMember));
        if is_lifted {
            story.chat.lift_ban(story.now, ana, Some(room), user_id).unwrap();
        } else {
            story.wait(MINUTE - Duration::from_micros(1));
            assert_eq!(story.enter_refused(bob, room), Some(CloseReason::Banned));
            story.wait(Duration::from_micros(1));
        }
        assert_eq!(story.ban_names(ana, room), [""; 0]);
        assert_eq!(story.gate(bob, room, Access::Read), None);
    }
}

#[test]
fn a_ban_is_told_before_the_lock_and_the_password() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let options = RoomOptions { password: Some("sesame".into()), ..RoomOptions::default() };
    let room = story.room_with(ana, options);
    let bob = story.person("bob");
    let join = Access::Join { password: Some("sesame") };
    assert_eq!(story.gate(bob, room, join), None);
    story.join(bob, room).unwrap();
    let user_id = story.user_id(bob, room);
    story.remove(ana, room, user_id, Some(BAN)).unwrap();
    for access in [join, Access::Join { password: Some("wrong") }, Access::Read] {
        assert_eq!(story.gate(bob, room, access), Some(Refusal::Banned));
    }
    assert_eq!(story.chat.guesses.len(), 0, "a banned person's password is not looked at");
}

#[test]
fn an_address_is_banned_for_sessions_that_have_not_joined() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let [bob, cyd, dan, eve] = ["bob", "cyd", "dan", "eve"].map(|name| story.person(name));
    // The address of the last join or connection counts.
    story.from = address(1);
    story.enter(bob, room);
    story.from = address(2);
    story.join(bob, room).unwrap();
    let c = story.enter(cyd, room);
    let user_id = story.user_id(bob, room);
    let ban = BanRequest { address: true, ..BAN };
    assert_eq!(story.remove(ana, room, user_id, Some(ban)), Ok(true));
    assert_eq!(story.ban_names(ana, room), ["bob @"]);
    assert_eq!(story.enter_refused(dan, room), Some(CloseReason::Banned));
    assert_eq!(story.gate(dan, room, Access::Join { password: None }), Some(Refusal::Banned));
    let elsewhere = story.room(ana);
    assert_eq!(story.gate(dan, elsewhere, Access::Read), None, "another room");
    story.send(c, "still a member");
    story.enter(cyd, room);
    story.leave(ana, room);
    story.enter(ana, room); // The owner comes from that address too.
    story.from = address(1);
    assert_eq!(story.enter_refused(bob, room), Some(CloseReason::Banned), "the person itself");
    assert_eq!(story.gate(dan, room, Access::Read), None);
    story.from = None;
    assert_eq!(story.gate(dan, room, Access::Read), None, "an exempt peer has no address");
    story.enter(eve, room);
    let user_id = story.user_id(eve, room);
    assert_eq!(story.remove(ana, room, user_id, Some(ban)), Ok(false), "nor can it be banned");
    assert_eq!(story.ban_names(ana, room), ["bob @", "eve"]);
}

#[test]
fn a_connection_that_waits_for_a_name_is_refused_if_its_address_is_banned_meanwhile() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let [bob, namesake] = ["bob", "BOB"].map(|name| story.person(name));
    story.from = address(1);
    story.enter(bob, room);
    let waiting = story.enter_waiting(namesake, room);
    let user_id = story.user_id(bob, room);
    let ban = BanRequest { address: true, ..BAN };
    assert_eq!(story.remove(ana, room, user_id, Some(ban)), Ok(true));
    story.assert_received(waiting, &["closed Banned"]);
    assert_eq!(story.chat.rooms_of(namesake).len(), 0);
}

#[test]
fn the_operator_removes_an_owner_and_the_room_passes_on() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let bob = story.person("bob");
    let b = story.enter(bob, room);
    let ana_id = story.user_id(ana, room);
    let removed =
        story.chat.remove_user(story.now, None, Some(room), ana_id, Some(BAN), &mut story.sink);
    story.step();
    assert_eq!(removed, Ok(false));
    assert!(story.chat.feeds.room(room).unwrap().is_owned_by(bob));
    assert_eq!(story.sink.received_by(b.conn).lines[1], "removed ana");
    assert_eq!(story.enter_refused(ana, room), Some(CloseReason::Banned));
    let ended = story.chat.remove_user(story.now, None, None, ana_id, None, &mut story.sink);
    assert_eq!(ended, Err(Refusal::RoomNotFound));
}

#[test]
fn removals_count_against_the_message_rate() {
    let mut story = Story::with(|config| config.message_pace = Pace::new(1, SECOND, 1));
    let (ana, room, a) = story.begin("ana");
    let bob = story.person("bob");
    story.enter(bob, room);
    let user_id = story.user_id(bob, room);
    story.send(a, "hello");
    let limited = Err(Refusal::RateLimited(SECOND));
    assert_eq!(story.remove(ana, room, user_id, Some(BAN)), limited);
    assert_eq!(story.ban_names(ana, room), [""; 0], "a refusal bans nobody");
    story.wait(SECOND);
    assert_eq!(story.remove(ana, room, user_id, Some(BAN)), Ok(false));
}

/// The memory of the bans is counted, which `check_invariants` compares, and given back with the room.
#[test]
fn bans_are_bounded_and_counted() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let before = story.ledger.total();
    for n in 0..300 {
        let name = format!("a name that is too long to be kept without an allocation {n}");
        let guest = story.person(&name[10..]);
        story.join(guest, room).unwrap();
        let user_id = story.user_id(guest, room);
        story.remove(ana, room, user_id, Some(BAN)).unwrap();
        story.end(guest);
    }
    let names = story.ban_names(ana, room);
    assert_eq!((names.len(), names[0].ends_with(" 44")), (256, true), "{}", names[0]);
    let grown = story.ledger.total() - before;
    assert!((20_000..60_000).contains(&grown), "{grown} bytes");
    story.end(ana);
    story.wait(HOUR);
    story.assert_empty();
}

#[test]
fn bans_and_removals_survive_a_restart_whose_time_counts() {
    let mut story = Story::new();
    let (ana, room, _) = story.begin("ana");
    let [bob, cyd, dan] = ["bob", "cyd", "dan"].map(|name| story.person(name));
    story.from = address(1);
    story.enter(bob, room);
    story.enter(cyd, room);
    for (guest, duration) in [(bob, HOUR), (cyd, MINUTE)] {
        let user_id = story.user_id(guest, room);
        let ban = BanRequest { duration, address: true };
        story.remove(ana, room, user_id, Some(ban)).unwrap();
    }
    story.from = address(2);
    story.join(dan, room).unwrap();
    let history = story.history(room, 9);
    let ids = [ana, bob, cyd, dan].map(|session| story.session_id(session));
    story.restart(story.now.wall.after(MINUTE));
    let [ana, bob, cyd, dan] = ids.map(|id| story.chat.session(id).unwrap());
    assert_eq!(story.history(room, 9), history);
    assert_eq!(story.ban_names(ana, room), ["bob @"]);
    let until = story.chat.bans(story.now, ana, Some(room)).unwrap()[0].until;
    assert_eq!(until.micros(), story.now.wall.after(HOUR - MINUTE).micros());
    story.from = None;
    assert_eq!(story.enter_refused(bob, room), Some(CloseReason::Banned));
    assert_eq!(story.gate(cyd, room, Access::Read), None);
    story.from = address(1);
    assert_eq!(story.gate(cyd, room, Access::Read), Some(Refusal::Banned));
    // The address of the last join is known too.
    let user_id = story.user_id(dan, room);
    let ban = BanRequest { address: true, ..BAN };
    assert_eq!(story.remove(ana, room, user_id, Some(ban)), Ok(true));
}

// Encrypted rooms.

/// An envelope of zero bytes, which has the right form.
fn envelope(blocks: usize) -> String {
    format!("e1.{}", "A".repeat(((28 + 64 * blocks) * 8).div_ceil(6)))
}

// contract §15.1 §15.2 §15.3
#[test]
fn an_encrypted_room_takes_envelopes_with_nonces_alone() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let options = RoomOptions { encrypted: true, ..RoomOptions::default() };
    let room = story.room_with(ana, options);
    let plain = story.room(ana);
    let tab = story.enter(ana, room);
    assert!(story.chat.is_encrypted(room) && !story.chat.is_encrypted(plain));
    let (short, long) = (envelope(1), envelope(257));
    let refused = |text: &str, nonce| Draft::envelope(text, nonce).err();
    assert_eq!(refused("hello", None), Some(Refusal::BadNonce), "the nonce comes first");
    assert_eq!(refused(&short, Some("")), Some(Refusal::BadNonce));
    for text in ["", " ", "hello", &format!(" {short}"), &"x".repeat(4001), &envelope(258)] {
        assert_eq!(refused(text, Some("n")), Some(Refusal::NotEncrypted), "{text}");
    }
    for (text, nonce) in [(&short, "short"), (&long, "long")] {
        story.try_send_with(tab, text, Some(nonce)).unwrap();
    }
    // They survive a restart, though the longest have more than 4000 characters.
    let room_id = story.chat.room_id(room).unwrap();
    story.restart(story.now.wall);
    let room = story.chat.room(room_id).unwrap();
    assert!(story.chat.is_encrypted(room));
    let mut reading = story.chat.history(room, 9);
    let kept = story.chat.read_on(&mut reading, usize::MAX).unwrap();
    let texts: Vec<_> = kept.iter().map(|message| message.kind).collect();
    assert_eq!(texts[1..], [MessageKind::Chat(&short), MessageKind::Chat(&long)]);
}
