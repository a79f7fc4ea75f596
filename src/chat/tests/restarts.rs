//! What a restart does not lose: kept, and put together again.

use super::*;

/// All that is to keep, a line a record, as it is written down.
fn kept(chat: &Chat, now: Now) -> Vec<String> {
    let mut lines = Vec::new();
    let keep = |record: Record<'_>| {
        lines.push(serde_json::to_string(&record).unwrap());
        Ok::<(), ()>(())
    };
    chat.keep(now, keep).unwrap();
    lines
}

/// A domain of another process.
fn restored(
    settings: ChatConfig,
    lines: &[String],
    now: Now,
) -> Result<(Chat, Ledger), InvalidRecord> {
    let ledger = Ledger::new();
    let mut chat = Chat::new(settings, Box::new(SeededEntropy::new(2)), &ledger);
    let mut restoring = Restoring::new(&mut chat, now);
    for line in lines {
        let record = serde_json::from_str(line).map_err(|_| InvalidRecord)?;
        restoring.take(record, |event| {
            let bytes = Bytes::from([&b"header"[..], event.as_bytes()].concat());
            let end = bytes.len() as u32;
            Frame::new(Rc::new(OnceCell::from(bytes)), 0, 6, end)
        })?;
    }
    restoring.finish();
    chat.check_invariants();
    Ok((chat, ledger))
}

/// What a line says, and how long there is left; without which the other is the same after a restart.
fn without_left(line: &str) -> (serde_json::Value, Option<u64>) {
    let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
    let record = line.as_object_mut().unwrap().values_mut().next().unwrap();
    let left = record.as_object_mut().unwrap().remove("remaining");
    (line, left.and_then(|left| left.as_u64()))
}

/// Whatever state a story is in: it is the same in another process, but that nobody is connected.
pub fn check(story: &Story) {
    let lines = kept(&story.chat, story.now);
    let later = Now { mono: Mono::ZERO, wall: Wall::default() };
    let (chat, ledger) = restored(story.chat.config, &lines, later).unwrap();
    let again = kept(&chat, later);
    assert_eq!(lines.len(), again.len());
    for (line, again) in lines.iter().zip(&again) {
        let ((line, left), (again, left_again)) = (without_left(line), without_left(again));
        assert_eq!(line, again);
        let grain = GRAIN.as_micros() as u64;
        if let (Some(left), Some(left_again)) = (left, left_again) {
            assert!(left.abs_diff(left_again) <= grain, "{left} was left, now {left_again}");
        }
    }
    drop(chat);
    assert_eq!(ledger.total(), 0);
}

impl Story {
    /// The process ends and another one takes over, whose clock may show another time.
    fn restart(&mut self, wall: Wall) {
        self.step();
        let lines = kept(&self.chat, self.now);
        self.now = Now { mono: Mono::from_micros(77), wall };
        let (chat, ledger) = restored(self.chat.config, &lines, self.now).unwrap();
        (self.chat, self.ledger) = (chat, ledger);
    }
}

const LATER: Wall = Wall::from_micros(1_755_611_200_000_000);

#[test]
fn whoever_was_there_is_there_and_comes_back_unnoticed() {
    let mut story = Story::new();
    let (ana, room, first) = story.begin("ana");
    let bob = story.person("Bob");
    let second = story.enter(bob, room);
    story.all_saw(&[first, second], &["joined Bob"]);
    story.say_as(second, "hello", "n1");
    story.all_saw(&[first, second], &["chat Bob: hello [n1]"]);
    let (ana_id, bob_id) = (story.session_id(ana), story.session_id(bob));
    let (room_id, user_id) = (story.chat.room_id(room).unwrap(), story.user_id(bob, room));
    let last = story.last_id(room);
    story.restart(LATER);
    let (ana, bob) = (story.chat.session(ana_id).unwrap(), story.chat.session(bob_id).unwrap());
    let room = story.chat.room(room_id).unwrap();
    assert_eq!(
        (story.user_count(room), story.chat.history(room, 9, &mut story.sink).count()),
        (2, 3)
    );
    assert_eq!(story.user_id(bob, room), user_id, "the same person");
    let (missed, is_complete) = story.chat.history_after(room, Some(last), &mut story.sink);
    assert_eq!((missed.count(), is_complete), (0, true));
    let second = story.enter(bob, room);
    story.saw(second, &[]);
    let said = Draft::new("hello", Some("n1")).unwrap();
    let said = story.chat.post_from_outside(story.now, bob, room, said, &mut story.sink);
    assert!(said.is_ok_and(|(_, is_new)| !is_new), "what is said twice is said once");
    let listed: Vec<_> = story.chat.public_rooms().map(|room| (room.id, room.user_count)).collect();
    assert_eq!(listed, [(room_id, 2)]);
    // Ana does not come back in time.
    story.wait(4 * SECOND);
    assert_eq!(story.user_count(room), 1);
    assert!(story.delete(bob, room).is_err(), "it is still ana's");
    assert!(story.delete(ana, room).is_ok());
}

#[test]
fn ids_go_on_whatever_the_clock_says() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    story.say(tab, "before");
    let (before, room_id) = (story.last_id(room), story.chat.room_id(room).unwrap());
    let ana = story.chat.sessions.iter().next().map(|(_, session)| session.id()).unwrap();
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
fn what_had_a_minute_left_has_a_minute_left() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let (ana, room) = (story.session_id(ana), {
        let room = story.room(ana);
        story.chat.room_id(room).unwrap()
    });
    story.wait(9 * MINUTE); // Of ten, for a room that nobody has come into.
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
fn what_contradicts_itself_is_not_taken() {
    let mut story = Story::new();
    let (_, room, tab) = story.begin("ana");
    let bob = story.person("bob");
    story.enter(bob, room);
    story.say_as(tab, "one", "n");
    story.say(tab, "two");
    let lines = kept(&story.chat, story.now);
    let taken = |lines: &[String]| restored(SETTINGS, lines, story.now).map(drop);
    assert_eq!(taken(&lines), Ok(()));
    // Each record but the first, told twice, and each but the last of its kind, left out.
    for place in 1..lines.len() {
        let twice = [&lines[..place], &lines[place..=place], &lines[place..]].concat();
        assert_eq!(taken(&twice), Err(InvalidRecord), "twice: {}", lines[place]);
    }
    for (place, kind) in [(1, "Session"), (3, "Room")] {
        assert!(lines[place].contains(kind), "{}", lines[place]);
        let without = [&lines[..place], &lines[place + 1..]].concat();
        assert_eq!(taken(&without), Err(InvalidRecord), "without {}", lines[place]);
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
        assert_eq!(taken(&changed), Err(InvalidRecord), "{what}");
    }
}
