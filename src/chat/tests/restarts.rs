//! Restarts: the domain is recorded and rebuilt.

use super::*;

/// All records of a domain, each as a line of JSON.
fn recorded(chat: &Chat, now: Now) -> Vec<String> {
    let mut lines = Vec::new();
    let keep = |record: Record<'_>| {
        lines.push(serde_json::to_string(&record).unwrap());
        Ok::<(), ()>(())
    };
    chat.keep(now, keep).unwrap();
    lines
}

/// Rebuilds a domain from such lines.
fn restored(
    config: ChatConfig,
    lines: &[String],
    now: Now,
) -> Result<(Chat, Ledger), InvalidRecord> {
    let ledger = Ledger::new();
    let mut chat = Chat::new(config, Box::new(SeededEntropy::new(2)), &ledger);
    let mut restoring = Restoring::new(&mut chat, now);
    for line in lines {
        let record = serde_json::from_str(line).map_err(|_| InvalidRecord)?;
        restoring.take(record, |_| 100)?;
    }
    restoring.finish();
    chat.check_invariants();
    Ok((chat, ledger))
}

/// Splits a record into the remaining time, which may change in a restart, and the rest.
fn without_remaining(line: &str) -> (serde_json::Value, Option<u64>) {
    let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
    let record = line.as_object_mut().unwrap().values_mut().next().unwrap();
    let remaining = record.as_object_mut().unwrap().remove("remaining");
    (line, remaining.and_then(|remaining| remaining.as_u64()))
}

/// Checks that the domain, rebuilt from its records in a new process, gives the same records.
pub fn check(story: &Story) {
    let lines = recorded(&story.chat, story.now);
    let later = Now { mono: Mono::ZERO, wall: Wall::default() };
    let (chat, ledger) = restored(story.chat.config, &lines, later).unwrap();
    let again = recorded(&chat, later);
    assert_eq!(lines.len(), again.len());
    for (line, again) in lines.iter().zip(&again) {
        let ((line, before), (again, after)) = (without_remaining(line), without_remaining(again));
        assert_eq!(line, again);
        let grain = GRAIN.as_micros() as u64;
        if let (Some(before), Some(after)) = (before, after) {
            assert!(before.abs_diff(after) <= grain, "{before} remained, and now {after}");
        }
    }
    drop(chat);
    assert_eq!(ledger.total(), 0);
}

impl Story {
    /// Replaces the domain by one rebuilt from its records. The new process has another clock.
    pub(super) fn restart(&mut self, wall: Wall) {
        self.step();
        let lines = recorded(&self.chat, self.now);
        self.now = Now { mono: Mono::from_micros(77), wall };
        let (chat, ledger) = restored(self.chat.config, &lines, self.now).unwrap();
        (self.chat, self.ledger) = (chat, ledger);
    }
}

const LATER: Wall = Wall::from_micros(1_755_611_200_000_000);

#[test]
fn members_are_present_after_a_restart_and_reconnect_unannounced() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let bob = story.person("Bob");
    let second = story.enter(bob, room);
    story.assert_all_received(&[first, second], &["joined Bob"]);
    story.send_with(second, "hello", "n1");
    story.assert_all_received(&[first, second], &["chat Bob: hello [n1]"]);
    let (ana_id, bob_id) = (story.session_id(ana), story.session_id(bob));
    let (room_id, user_id) = (story.chat.room_id(room).unwrap(), story.user_id(bob, room));
    let last = story.last_id(room);
    story.restart(LATER);
    let (ana, bob) = (story.chat.session(ana_id).unwrap(), story.chat.session(bob_id).unwrap());
    let room = story.chat.room(room_id).unwrap();
    assert_eq!((story.user_count(room), story.history(room, 9).len()), (2, 3));
    assert_eq!(story.user_id(bob, room), user_id, "a restart does not change the user id");
    assert_eq!(story.history_after(room, Some(last)), (vec![], true));
    let second = story.enter(bob, room);
    story.assert_received(second, &[]);
    let posted = Draft::new("hello", Some("n1")).unwrap();
    let posted = story.chat.post_from_outside(story.now, bob, room, posted, &mut story.sink);
    assert!(posted.is_ok_and(|(_, is_new)| !is_new), "the nonce is still known");
    let listed: Vec<_> = story.chat.public_rooms().map(|room| (room.id, room.user_count)).collect();
    assert_eq!(listed, [(room_id, 2)]);
    // Ana does not return within the grace.
    story.wait(4 * SECOND);
    assert_eq!(story.user_count(room), 1);
    assert!(story.delete(bob, room).is_err(), "ana still owns it");
    assert!(story.delete(ana, room).is_ok());
}

#[test]
fn ids_increase_across_restarts_whatever_the_clock() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    story.send(tab, "before");
    let (before, room_id) = (story.last_id(room), story.chat.room_id(room).unwrap());
    let ana = story.chat.sessions.iter().next().map(|(_, session)| session.id).unwrap();
    for wall in [Wall::default(), LATER, Wall::from_micros(1)] {
        story.restart(wall);
        let room = story.chat.room(room_id).unwrap();
        let ana = story.chat.session(ana).unwrap();
        story.chat.gate(story.now, ana, Some(room), Access::Post).unwrap();
        let id = story.chat.message_ids.next(wall, &mut SeededEntropy::new(9));
        assert!(id > before);
    }
}

#[test]
fn timers_keep_their_remaining_time_across_restarts() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let (ana, room) = (story.session_id(ana), {
        let room = story.room(ana);
        story.chat.room_id(room).unwrap()
    });
    story.wait(9 * MINUTE); // A new room ends after ten minutes.
    story.restart(LATER);
    story.wait(MINUTE - SECOND);
    assert!(story.chat.room(room).is_some());
    story.wait(2 * SECOND);
    assert!(story.chat.room(room).is_none());
    story.wait(23 * HOUR);
    story.restart(LATER);
    assert!(story.chat.session(ana).is_some());
    story.wait(50 * MINUTE);
    assert!(story.chat.session(ana).is_none());
    story.assert_empty();
}

#[test]
fn contradicting_records_are_refused() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    let bob = story.person("bob");
    story.enter(bob, room);
    story.send_with(tab, "one", "n");
    story.send(tab, "two");
    let lines = recorded(&story.chat, story.now);
    let take = |lines: &[String]| restored(SETTINGS, lines, story.now).map(drop);
    assert_eq!(take(&lines), Ok(()));
    // First each record but the first is repeated. Then a session and a room are left out.
    for place in 1..lines.len() {
        let twice = [&lines[..place], &lines[place..=place], &lines[place..]].concat();
        assert_eq!(take(&twice), Err(InvalidRecord), "twice: {}", lines[place]);
    }
    for (place, kind) in [(1, "Session"), (3, "Room")] {
        assert!(lines[place].contains(kind), "{}", lines[place]);
        let without = [&lines[..place], &lines[place + 1..]].concat();
        assert_eq!(take(&without), Err(InvalidRecord), "without {}", lines[place]);
    }
    for (what, instead) in [
        ("\"room\":0", "\"room\":1"),
        ("\"session\":0", "\"session\":7"),
        ("\"owner\":", "\"owner\":9"),
        ("\"name\":\"ana\"", "\"name\":\"\""),
        ("\"arrivals\":2", "\"arrivals\":1"),
        ("\"newest\":[1", "\"newest\":[0"),
        ("\"rooms_opened\":1", "\"rooms_opened\":0"),
    ] {
        assert!(lines.iter().any(|line| line.contains(what)), "{what}");
        let changed: Vec<_> = lines.iter().map(|line| line.replace(what, instead)).collect();
        assert_eq!(take(&changed), Err(InvalidRecord), "{what}");
    }
}
