//! Rooms that are decided elsewhere.

mod differential;
mod tape;

use std::collections::HashMap;

use super::*;
use tape::{Tape, message_bytes};

const ANA: UserId = UserId::from_bits(0xA);
const BOB: UserId = UserId::from_bits(0xB);
const ZOE: UserId = UserId::from_bits(0xC);

/// A mirror, and the event loop's part.
struct Glass {
    now: Now,
    chat: Chat,
    sink: Tape,
    ledger: Ledger,
    conns: Slots<(), ConnTag>,
    /// The counter of the next message's id.
    next: u16,
}

fn id(counter: u16) -> MessageId {
    MessageId::at(MessagePlace { millis: 1_755_611_100_123, counter }, [7; 8])
}

fn room_id() -> RoomId {
    RoomId::parse("0123456789").unwrap()
}

fn session(n: u64) -> SessionId {
    SessionId::parse(&format!("00000000-0000-4000-8000-{n:012}")).unwrap()
}

fn name(user_id: UserId) -> &'static str {
    match user_id {
        ANA => "Ana",
        BOB => "bob",
        _ => "zoe",
    }
}

/// A room without rules, owned by Ana.
fn facts() -> RoomFacts<'static> {
    let room = RoomInfo {
        id: room_id(),
        title: Some("a room"),
        is_private: false,
        has_password: false,
        is_locked: false,
        slow_mode: 0,
        is_encrypted: false,
        user_count: 0,
        created: Wall::from_micros(1_755_611_000_000_000),
        expires: None,
    };
    RoomFacts { room, owner: Some(ANA) }
}

impl Glass {
    fn new() -> Glass {
        Glass::with(SETTINGS, Ledger::new())
    }

    fn with(config: ChatConfig, ledger: Ledger) -> Glass {
        let chat = Chat::mirror(config, Box::new(SeededEntropy::new(1)), &ledger, message_bytes);
        let now = Now {
            mono: Mono::from_micros(5_000_000),
            wall: Wall::from_micros(1_755_611_100_123_456),
        };
        Glass { now, chat, sink: Tape::default(), ledger, conns: Slots::default(), next: 0 }
    }

    /// A mirror with one room, in which these people are present.
    fn of(people: &[UserId]) -> (Glass, RoomKey) {
        let mut glass = Glass::new();
        let room = glass.adopt(&facts(), people);
        (glass, room)
    }

    fn adopt(&mut self, facts: &RoomFacts<'_>, people: &[UserId]) -> RoomKey {
        let room = self.chat.adopt(facts, people.iter().map(|id| (*id, name(*id).into())));
        self.chat.check_invariants();
        room
    }

    /// The next message of a room.
    fn message<'a>(&mut self, user_id: UserId, kind: MessageKind<'a>) -> Message<'a> {
        self.next += 1;
        let (id, user, wall) = (id(self.next), name(user_id).into(), self.now.wall);
        Message { id, kind, user, user_id, wall, room_id: room_id(), nonce: None }
    }

    fn apply(&mut self, room: RoomKey, user_id: UserId, kind: MessageKind<'_>) -> MessageId {
        let message = self.message(user_id, kind);
        assert!(self.chat.apply(room, &message, &mut self.sink));
        self.chat.check_invariants();
        message.id
    }

    fn say(&mut self, room: RoomKey, user_id: UserId, text: &str) -> MessageId {
        self.apply(room, user_id, MessageKind::Chat(text))
    }

    fn admit(&mut self, room: RoomKey, user_id: UserId, start: Start) -> Tab {
        self.admit_as(room, user_id, session(user_id.0), start, false)
    }

    fn admit_as(
        &mut self,
        room: RoomKey,
        user_id: UserId,
        session: SessionId,
        start: Start,
        inherits: bool,
    ) -> Tab {
        let conn = self.conns.insert(());
        let user = name(user_id).into();
        let admission = MirrorAdmission { conn, user_id, user, session, start, inherits };
        let admitted = self.chat.admit_mirrored(self.now, room, admission, &mut self.sink);
        self.chat.check_invariants();
        Tab { conn, attachment: admitted.expect("the room is mirrored") }
    }

    fn exit(&mut self, tab: Tab, departure: Departure) -> MirrorExit {
        self.chat.exit(self.now, tab.attachment, departure, &mut self.sink);
        self.chat.check_invariants();
        let [exit] = self.chat.take_exits()[..] else { panic!("one connection has ended") };
        exit
    }

    fn change(&mut self, room: RoomKey, change: impl FnOnce(&mut RoomFacts<'_>)) {
        let mut facts = facts();
        change(&mut facts);
        self.chat.change_mirrored(room, &facts, &mut self.sink);
        self.chat.check_invariants();
    }

    /// What the connection has received since the last call, at the end of a tick.
    fn news(&mut self, room: RoomKey, tab: Tab) -> Vec<String> {
        self.chat.seal(room, &mut self.sink);
        self.sink.news(tab.conn)
    }

    /// Asserts that each line that the connection has received contains the text in its place.
    #[track_caller]
    fn assert_received(&mut self, room: RoomKey, tab: Tab, texts: &[&str]) {
        let news = self.news(room, tab);
        assert_eq!(news.len(), texts.len(), "{news:#?}");
        for (line, text) in news.iter().zip(texts) {
            assert!(line.contains(text), "{line} has no {text}");
        }
    }

    fn users(&self, room: RoomKey) -> Vec<&str> {
        self.chat.users(room).into_iter().map(|(_, name)| name).collect()
    }

    fn texts(&self, room: RoomKey) -> Vec<String> {
        let mut reading = self.chat.history(room, usize::MAX);
        let copies = self.chat.read_on(&mut reading, usize::MAX).unwrap();
        let text = |message: Message<'_>| match message.kind {
            MessageKind::Chat(text) => text.to_owned(),
            kind => format!("{kind:?}").split('(').next().unwrap().to_owned(),
        };
        copies.iter().map(text).collect()
    }

    fn end(&mut self, room: RoomKey, reason: CloseReason) {
        self.chat.end_mirrored(self.now, room, reason, &mut self.sink);
        self.chat.check_invariants();
        self.chat.end_members(self.now, usize::MAX, &mut self.sink);
        self.chat.check_invariants();
    }

    #[track_caller]
    fn assert_empty(&mut self) {
        self.chat.take_exits();
        let chat = &self.chat;
        let counts = [chat.session_count(), chat.room_count(), chat.member_count()];
        assert_eq!((counts, chat.feeds.attachments.len(), chat.timer_count()), ([0; 3], 0, 0));
        assert_eq!((chat.next_deadline(), self.ledger.total()), (None, 0));
    }
}

#[test]
fn a_room_is_adopted_once_with_its_people_in_order() {
    let (mut glass, room) = Glass::of(&[ZOE, ANA, ZOE]);
    assert!(glass.chat.is_mirror());
    assert_eq!(glass.users(room), ["zoe", "Ana"]);
    assert_eq!(glass.adopt(&facts(), &[BOB]), room, "it stays as it is");
    let info = glass.chat.room_info(room).unwrap();
    assert_eq!((info.title, info.user_count, info.expires), (Some("a room"), 2, None));
    assert_eq!((glass.chat.owner(room), glass.chat.room(room_id())), (Some(ANA), Some(room)));
    assert_eq!(glass.chat.mirrored_rooms().collect::<Vec<_>>(), [(room, room_id())]);
    assert_eq!(glass.chat.people_here(room).count(), 0);
    assert_eq!(glass.chat.newest(room), MessagePlace::default());
    assert!(glass.sink.facts.is_empty(), "nobody is told");
    assert_eq!((glass.chat.timer_count(), glass.chat.public_rooms().count()), (0, 0));
    assert!(glass.chat.drop_mirrored(glass.now, room, &mut glass.sink));
    assert_eq!(glass.chat.room(room_id()), None);
    let again = glass.adopt(&facts(), &[BOB]);
    assert!(again != room && glass.users(again) == ["bob"]);
    glass.end(again, CloseReason::RoomDeleted);
    glass.assert_empty();
}

#[test]
fn loaded_messages_are_kept_and_told_to_nobody() {
    let (mut glass, room) = Glass::of(&[ANA]);
    let kinds = [
        MessageKind::UserJoined,
        MessageKind::Chat("secret"),
        MessageKind::ChatDeleted,
        MessageKind::UserLeft,
        MessageKind::UserRemoved,
    ];
    for kind in kinds {
        let message = glass.message(BOB, kind);
        assert!(glass.chat.load(room, &message));
        assert!(!glass.chat.load(room, &message), "it is not newer than itself");
        assert_eq!(glass.chat.newest(room), message.id.place());
    }
    glass.chat.check_invariants();
    assert_eq!(
        glass.texts(room),
        ["UserJoined", "secret", "ChatDeleted", "UserLeft", "UserRemoved"]
    );
    assert!(glass.sink.facts.is_empty());
    assert_eq!(glass.users(room), ["Ana"]);
    // The text was deleted after its page had been read.
    let target = id(2);
    let message = glass.message(BOB, MessageKind::MessageDeleted(target));
    assert!(glass.chat.load(room, &message));
    assert_eq!(glass.texts(room)[1], "ChatDeleted");
    glass.chat.check_invariants();
}

#[test]
fn a_message_is_applied_if_it_is_newer_than_all_others() {
    let (mut glass, room) = Glass::of(&[]);
    let ana = glass.admit(room, ANA, Start::Live);
    let first = glass.apply(room, ANA, MessageKind::UserJoined);
    let old = glass.message(ANA, MessageKind::Chat("old"));
    glass.say(room, ANA, "new");
    assert!(!glass.chat.apply(room, &old, &mut glass.sink));
    assert!(!glass.chat.load(room, &old));
    glass.assert_received(room, ana, &["UserJoined", "new"]);
    assert_eq!(glass.texts(room), ["UserJoined", "new"]);
    let (texts, other) = (glass.chat.history_after(room, Some(first), 9), id(999));
    assert!(texts.is_complete() && !glass.chat.history_after(room, Some(other), 9).is_complete());
    glass.chat.fall_silent();
    let late = glass.message(ANA, MessageKind::Chat("late"));
    assert!(!glass.chat.apply(room, &late, &mut glass.sink), "the server ends");
    glass.end(room, CloseReason::RoomDeleted);
    assert!(!glass.chat.apply(room, &late, &mut glass.sink), "the room has ended");
}

#[test]
fn a_deleted_text_is_in_the_history_no_more() {
    let (mut glass, room) = Glass::of(&[ANA]);
    let target = glass.say(room, ANA, "a secret");
    let joined = glass.apply(room, BOB, MessageKind::UserJoined);
    glass.apply(room, BOB, MessageKind::MessageDeleted(target));
    glass.apply(room, BOB, MessageKind::MessageDeleted(target));
    glass.apply(room, BOB, MessageKind::MessageDeleted(joined));
    glass.apply(room, BOB, MessageKind::MessageDeleted(id(999)));
    let expected = ["ChatDeleted", "UserJoined"].into_iter().chain(["MessageDeleted"; 4]);
    assert_eq!(glass.texts(room), expected.collect::<Vec<_>>());
}

#[test]
fn only_messages_change_who_is_present() {
    let (mut glass, room) = Glass::of(&[ANA]);
    glass.apply(room, BOB, MessageKind::UserJoined);
    glass.apply(room, ZOE, MessageKind::UserJoined);
    glass.apply(room, BOB, MessageKind::UserJoined);
    assert_eq!(glass.users(room), ["Ana", "bob", "zoe"]);
    glass.apply(room, ANA, MessageKind::UserLeft);
    glass.apply(room, ZOE, MessageKind::UserRemoved);
    glass.apply(room, ZOE, MessageKind::UserLeft);
    glass.say(room, ZOE, "from outside");
    assert_eq!(glass.users(room), ["bob"]);
    assert_eq!(glass.chat.session_count(), 1);
    let bob = glass.admit(room, BOB, Start::Live);
    let exit = glass.exit(bob, Departure::Broken);
    assert!(exit.is_last_of_person && exit.is_last_of_room && !exit.is_decided);
    assert_eq!((exit.room, exit.user_id, exit.session), (room_id(), BOB, session(BOB.0)));
    assert_eq!(glass.users(room), ["bob"], "the store tells when it leaves");
}

/// The store takes a server for dead that is not: all of its people leave, and it lets them in again.
#[test]
fn a_person_that_left_elsewhere_keeps_its_connections() {
    let (mut glass, room) = Glass::of(&[BOB]);
    let ana = glass.admit(room, ANA, Start::Live);
    glass.apply(room, ANA, MessageKind::UserJoined);
    glass.apply(room, ANA, MessageKind::UserLeft);
    assert_eq!(glass.users(room), ["bob"]);
    assert!(!glass.chat.person_of(ana.attachment).unwrap().is_present);
    glass.say(room, BOB, "hello");
    let here: Vec<_> = glass.chat.people_here(room).map(|one| (one.user_id, one.session)).collect();
    assert_eq!(here, [(ANA, session(ANA.0))]);
    glass.apply(room, ANA, MessageKind::UserJoined);
    assert_eq!(glass.users(room), ["bob", "Ana"]);
    glass.assert_received(room, ana, &["UserJoined", "UserLeft", "hello", "UserJoined"]);
    glass.apply(room, ANA, MessageKind::UserLeft);
    let exit = glass.exit(ana, Departure::Closed);
    assert!(exit.is_last_of_person);
    assert_eq!(glass.chat.session_count(), 1, "only bob is left");
}

#[test]
fn exits_say_what_they_mean_for_the_person_and_the_room() {
    let (mut glass, room) = Glass::of(&[]);
    let ana = [(); 3].map(|()| glass.admit(room, ANA, Start::Live));
    let bob = glass.admit(room, BOB, Start::Live);
    for joined in [ANA, BOB] {
        glass.apply(room, joined, MessageKind::UserJoined);
    }
    let exit = glass.exit(ana[0], Departure::Broken);
    assert!(!exit.is_last_of_person && !exit.is_last_of_room && !exit.is_decided);
    assert_eq!(exit.departure, Departure::Broken);
    // The event loop reports an end once, but the mirror does not rely on it.
    glass.chat.exit(glass.now, ana[0].attachment, Departure::Broken, &mut glass.sink);
    assert_eq!(glass.chat.take_exits(), []);
    let reason = CloseReason::Removed;
    assert_eq!(glass.chat.close_person(glass.now, room, ANA, reason, &mut glass.sink), 2);
    glass.chat.check_invariants();
    let exits = glass.chat.take_exits();
    let of = |exit: &MirrorExit| (exit.is_last_of_person, exit.is_last_of_room, exit.is_decided);
    assert_eq!(
        exits.iter().map(of).collect::<Vec<_>>(),
        [(false, false, true), (true, false, true)]
    );
    assert!(exits.iter().all(|exit| exit.departure == Departure::Removed));
    assert_eq!(glass.chat.close_person(glass.now, room, ANA, reason, &mut glass.sink), 0);
    glass.apply(room, ANA, MessageKind::UserRemoved);
    glass.assert_received(room, ana[1], &["UserJoined", "UserJoined", "closed Removed"]);
    glass.assert_received(room, bob, &["UserJoined", "UserJoined", "UserRemoved"]);
    assert!(!glass.chat.drop_mirrored(glass.now, room, &mut glass.sink), "bob is connected");
    glass.end(room, CloseReason::RoomExpired);
    assert_eq!(glass.chat.take_exits().iter().map(of).collect::<Vec<_>>(), [(true, true, true)]);
    glass.assert_received(room, bob, &["closed RoomExpired"]);
    glass.assert_empty();
}

/// The store has lost messages that connections here have received.
#[test]
fn a_mirror_that_ends_alone_tells_its_exits() {
    let (mut glass, room) = Glass::of(&[]);
    let tabs = [ANA, BOB, BOB, ZOE].map(|user_id| glass.admit(room, user_id, Start::Live));
    let reason = CloseReason::TooManyConnections; // Any that is not the room's end.
    glass.chat.end_mirrored(glass.now, room, reason, &mut glass.sink);
    glass.chat.check_invariants();
    // Bob is back in a new mirror of the room before his earlier connections are closed.
    let again = glass.adopt(&facts(), &[ANA, BOB, ZOE]);
    let back = glass.admit(again, BOB, Start::Live);
    glass.chat.end_members(glass.now, usize::MAX, &mut glass.sink);
    glass.chat.check_invariants();
    for tab in tabs {
        assert_eq!(glass.sink.news(tab.conn), ["closed TooManyConnections"]);
    }
    let mut exits = glass.chat.take_exits();
    exits.sort_by_key(|exit| exit.user_id.to_string());
    let of = |exit: &MirrorExit| (exit.is_last_of_person, exit.is_last_of_room);
    let expected = [(true, false), (false, false), (false, false), (true, false)];
    assert_eq!(exits.iter().map(of).collect::<Vec<_>>(), expected);
    assert!(exits.iter().all(|exit| !exit.is_decided && exit.departure == Departure::Broken));
    assert!(glass.exit(back, Departure::Closed).is_last_of_room);
    glass.end(again, CloseReason::RoomNotFound);
    glass.assert_empty();
}

#[test]
fn a_connection_that_is_too_slow_ends_as_if_it_had_closed() {
    let config = ChatConfig { history_messages_max: 10, ..SETTINGS };
    let mut glass = Glass::with(config, Ledger::new());
    let room = glass.adopt(&facts(), &[BOB]);
    (0..10).for_each(|_| _ = glass.say(room, BOB, &"x".repeat(9000)));
    let ana = glass.admit(room, ANA, Start::Last(10));
    assert!(glass.sink.is_catching_up(ana.conn));
    (0..10).for_each(|_| _ = glass.say(room, BOB, "more"));
    glass.chat.catch_up(glass.now, ana.attachment, &mut glass.sink);
    let [exit] = glass.chat.take_exits()[..] else { panic!() };
    assert!(exit.is_last_of_person && exit.is_last_of_room && !exit.is_decided);
    assert_eq!(exit.departure, Departure::Closed);
    glass.assert_received(room, ana, &["page of", "closed TooSlow"]);
}

#[test]
fn the_connections_of_a_session_are_found_in_all_rooms() {
    let (mut glass, room) = Glass::of(&[]);
    let mut other = facts();
    other.room.id = RoomId::parse("fedcba98765432100123456789abcdef").unwrap();
    let other = glass.adopt(&other, &[]);
    let tabs = [
        glass.admit_as(room, ANA, session(1), Start::Live, false),
        glass.admit_as(room, ANA, session(1), Start::Live, false),
        // Nobody has the same user id in two rooms, but the mirror does not rely on it.
        glass.admit_as(other, ANA, session(1), Start::Live, false),
    ];
    let bob = glass.admit_as(other, BOB, session(2), Start::Live, false);
    let mut found = glass.chat.connections_of(session(1));
    found.sort();
    assert_eq!(found, tabs.map(|tab| tab.attachment));
    assert_eq!(glass.chat.connections_of(session(3)), []);
    let mut here = glass.chat.sessions_here();
    here.sort_by_key(|(_, count)| *count);
    assert!(here == [(session(2), 1), (session(1), 3)]);
    assert_eq!(glass.chat.attachments_in(other, BOB), [bob.attachment]);
    assert_eq!(glass.chat.attachments_in(room, BOB), []);
    assert_eq!(glass.chat.attachments_in(room, ANA).len(), 2);
    assert_eq!(glass.chat.attachments_in(other, ANA), [tabs[2].attachment]);
    assert_eq!(glass.chat.close_session(glass.now, session(1), &mut glass.sink), 3);
    glass.chat.check_invariants();
    for tab in tabs {
        assert_eq!(glass.sink.news(tab.conn), ["closed InvalidSession"]);
    }
    assert!(glass.chat.take_exits().iter().all(|exit| exit.is_decided));
    assert_eq!(glass.chat.connections_of(session(1)), []);
    assert!(glass.chat.sessions_here() == [(session(2), 1)]);
}

#[test]
fn typing_is_told_once_a_second_for_each_person() {
    let (mut glass, room) = Glass::of(&[ANA]);
    let mut typing = |user_id: UserId, millis: u64| {
        let now = glass.now.after(Duration::from_millis(millis));
        let user = name(user_id).into();
        glass.chat.typing_mirrored(now, room, (user_id, user), Duration::ZERO, &mut glass.sink)
    };
    // Zoe and Bob are not present.
    for person in [ANA, BOB, ZOE] {
        assert!(typing(person, 0) && !typing(person, 0) && !typing(person, 999));
        assert!(typing(person, 1000) && !typing(person, 1001));
    }
    assert_eq!(glass.sink.facts.len(), 6);
    glass.end(room, CloseReason::RoomDeleted);
    let later = glass.now.after(HOUR);
    assert!(!glass.chat.typing_mirrored(
        later,
        room,
        (BOB, "bob".into()),
        Duration::ZERO,
        &mut glass.sink
    ));
    glass.assert_empty();
}

#[test]
fn a_draft_is_checked_by_the_rules_of_the_room() {
    let (mut glass, room) = Glass::of(&[]);
    let ana = glass.admit(room, ANA, Start::Live);
    {
        let (person, draft) =
            glass.chat.draft_for(ana.attachment, " hi ", Some("n")).unwrap().unwrap();
        assert_eq!((person.room, person.user_id, person.name.as_str()), (room_id(), ANA, "Ana"));
        assert_eq!((draft.text(), draft.nonce()), ("hi", Some("n")));
        assert!(person.is_present && person.session == session(ANA.0));
    }
    let refused = |glass: &Glass, text: &str, nonce: Option<&str>| {
        glass.chat.draft_for(ana.attachment, text, nonce).err()
    };
    assert_eq!(refused(&glass, " ", None), Some(Refusal::EmptyMessage));
    assert_eq!(refused(&glass, "a", Some("")), Some(Refusal::BadNonce));
    glass.change(room, |facts| facts.room.is_encrypted = true);
    assert!(glass.chat.is_encrypted(room));
    assert_eq!(refused(&glass, "plain", Some("n")), Some(Refusal::NotEncrypted));
    assert_eq!(refused(&glass, &format!("e1.{}", "A".repeat(123)), Some("n")), None);
    glass.chat.fall_silent();
    assert!(refused(&glass, &format!("e1.{}", "A".repeat(123)), Some("n")).is_some());
    glass.chat.end_mirrored(glass.now, room, CloseReason::RoomDeleted, &mut glass.sink);
    assert!(glass.chat.draft_for(ana.attachment, "plain", None).unwrap().is_none());
}

#[test]
fn a_known_message_is_repeated_to_one_connection() {
    let (mut glass, room) = Glass::of(&[BOB]);
    (0..9).for_each(|_| _ = glass.say(room, BOB, &"x".repeat(9000)));
    let (ana, other) = (glass.admit(room, ANA, Start::Live), glass.admit(room, BOB, Start::Live));
    let slow = glass.admit(room, ANA, Start::Last(9));
    let said = glass.message(BOB, MessageKind::Chat("said"));
    assert!(glass.chat.apply(room, &said, &mut glass.sink));
    for tab in [ana, slow] {
        glass.chat.repeat_mirrored(tab.attachment, &said, &mut glass.sink);
    }
    glass.assert_received(room, ana, &["Message(Message", "push Message(Message"]);
    glass.assert_received(room, other, &["said"]);
    glass.assert_received(room, slow, &["page of"]); // It will come.
    // A message that is not kept here is sent as well.
    let forgotten = Message { id: id(0), ..said };
    glass.chat.repeat_mirrored(ana.attachment, &forgotten, &mut glass.sink);
    glass.assert_received(room, ana, &["push Message(Message"]);
    glass.exit(ana, Departure::Closed);
    glass.chat.repeat_mirrored(ana.attachment, &said, &mut glass.sink);
    assert_eq!(glass.news(room, ana), [""; 0]);
}

#[test]
fn a_person_that_is_pinged_is_alive_once_it_sends_something() {
    let (mut glass, room) = Glass::of(&[ZOE]);
    let (ana, second) = (glass.admit(room, ANA, Start::Live), glass.admit(room, ANA, Start::Live));
    let bob = glass.admit(room, BOB, Start::Live);
    assert!(!glass.chat.ping_person(room, ZOE, &mut glass.sink), "she is elsewhere");
    assert!(!glass.chat.is_probing());
    for _ in 0..2 {
        assert!(glass.chat.ping_person(room, ANA, &mut glass.sink));
        glass.chat.check_invariants();
    }
    assert!(glass.chat.is_probing());
    assert_eq!(
        [ana, second, bob].map(|tab| glass.sink.pings.get(&tab.conn).copied()),
        [Some(2), Some(2), None]
    );
    glass.chat.on_sign_of_life(glass.now, bob.attachment, &mut glass.sink);
    assert!(glass.chat.is_probing() && glass.chat.take_alive().is_empty());
    glass.chat.on_sign_of_life(glass.now, second.attachment, &mut glass.sink);
    assert!(!glass.chat.is_probing());
    assert_eq!(glass.chat.take_alive(), [(room_id(), ANA)]);
    assert_eq!(glass.chat.take_alive(), []);
    // A new connection is a sign of life, too.
    assert!(glass.chat.ping_person(room, ANA, &mut glass.sink));
    let third = glass.admit(room, ANA, Start::Live);
    assert_eq!(glass.chat.take_alive(), [(room_id(), ANA)]);
    // An event stream sends nothing.
    assert!(!glass.chat.is_person_alive(room, ANA, &mut glass.sink));
    glass.sink.alive.insert(second.conn);
    assert!(glass.chat.is_person_alive(room, ANA, &mut glass.sink));
    assert!(!glass.chat.is_person_alive(room, ZOE, &mut glass.sink));
    // A person without connections is probed no more.
    assert!(glass.chat.ping_person(room, ANA, &mut glass.sink));
    for tab in [ana, second, third] {
        assert!(glass.chat.is_probing());
        glass.exit(tab, Departure::Broken);
    }
    assert!(!glass.chat.is_probing() && glass.chat.take_alive().is_empty());
    glass.end(room, CloseReason::RoomDeleted);
    glass.assert_empty();
}

#[test]
fn the_rules_of_a_room_are_told_as_they_are() {
    let (mut glass, room) = Glass::of(&[BOB]);
    let ana = glass.admit(room, BOB, Start::Live);
    let revision = glass.chat.listing_revision();
    glass.change(room, |facts| {
        facts.room.title = None;
        (facts.room.has_password, facts.room.is_private) = (true, true);
        (facts.room.is_locked, facts.room.slow_mode) = (true, 30);
        facts.room.expires = Some(Wall::from_micros(9));
        facts.owner = None;
    });
    let info = glass.chat.room_info(room).unwrap();
    assert!(info.has_password && info.is_private && info.is_locked && info.title.is_none());
    assert_eq!((info.slow_mode, info.expires), (30, Some(Wall::from_micros(9))));
    assert_eq!((glass.chat.owner(room), info.user_count), (None, 1));
    glass.assert_received(room, ana, &["owner: None"]);
    glass.change(room, |_| ());
    glass.assert_received(room, ana, &["owner: Some(UserId(10))"]);
    let info = glass.chat.room_info(room).unwrap();
    assert!(!info.has_password && !info.is_private && !info.is_locked && info.slow_mode == 0);
    assert_eq!(glass.chat.listing_revision(), revision, "the store has the listing");
    assert_eq!(glass.chat.next_deadline(), None, "the store measures the time");
    glass.chat.sweep(glass.now.after(HOUR), 9, &mut glass.sink);
    assert!(glass.chat.room_info(room).is_some());
}

#[test]
fn a_connection_that_was_catching_up_is_told_a_change_that_it_missed() {
    let (mut glass, room) = Glass::of(&[BOB]);
    (0..9).for_each(|_| _ = glass.say(room, BOB, &"x".repeat(9000)));
    let slow = glass.admit(room, ANA, Start::Last(9));
    (0..30).for_each(|_| _ = glass.say(room, BOB, &"x".repeat(9000)));
    // The last page, and the first of the later messages.
    glass.chat.catch_up(glass.now, slow.attachment, &mut glass.sink);
    assert!(glass.sink.received[&slow.conn].iter().any(|line| line.contains("true 0")));
    assert!(glass.sink.is_catching_up(slow.conn));
    glass.change(room, |facts| facts.room.is_locked = true);
    while glass.sink.is_catching_up(slow.conn) {
        glass.chat.catch_up(glass.now, slow.attachment, &mut glass.sink);
    }
    let last = glass.news(room, slow).pop().unwrap();
    assert!(last.starts_with("push RoomChanged") && last.contains("is_locked: true"), "{last}");
}

#[test]
fn an_owner_need_not_be_present() {
    let (mut glass, room) = Glass::of(&[BOB]);
    let bob = glass.admit(room, BOB, Start::Last(9));
    glass.assert_received(room, bob, &["true 000000000000000b false"]);
    let ana = glass.admit(room, ANA, Start::Last(9));
    glass.assert_received(room, ana, &["true 000000000000000a true"]);
    // Without an owner, the next to arrive is one.
    glass.change(room, |facts| facts.owner = None);
    glass.apply(room, ZOE, MessageKind::UserJoined);
    glass.apply(room, ZOE, MessageKind::UserLeft);
    let zoe = glass.admit_as(room, ZOE, session(9), Start::Last(0), true);
    assert_eq!(glass.chat.owner(room), Some(ZOE));
    glass.apply(room, ZOE, MessageKind::UserJoined);
    glass.change(room, |facts| facts.owner = Some(ZOE));
    let texts = ["true 000000000000000c true", "UserJoined", "RoomChanged"];
    glass.assert_received(room, zoe, &texts);
    let left = glass.exit(zoe, Departure::Closed);
    assert_eq!((left.user_id, glass.chat.owner(room)), (ZOE, Some(ZOE)));
}

#[test]
fn a_welcome_comes_first() {
    let (mut glass, room) = Glass::of(&[BOB]);
    let ana = glass.admit(room, ANA, Start::Welcome);
    glass.apply(room, ANA, MessageKind::UserJoined);
    glass.assert_received(room, ana, &["welcome 0123456789 000000000000000a", "UserJoined"]);
}

#[test]
fn nobody_is_admitted_to_a_room_that_is_not_mirrored() {
    let (mut glass, room) = Glass::of(&[BOB]);
    let conn = glass.conns.insert(());
    let (user, start) = ("bob".into(), Start::Live);
    let session = session(1);
    let admission = MirrorAdmission { conn, user_id: BOB, user, session, start, inherits: false };
    for _ in 0..255 {
        let admitted = glass.chat.admit_mirrored(glass.now, room, admission, &mut glass.sink);
        assert!(admitted.is_some());
    }
    assert!(glass.chat.admit_mirrored(glass.now, room, admission, &mut glass.sink).is_none());
    glass.chat.check_invariants();
    glass.chat.end_mirrored(glass.now, room, CloseReason::RoomDeleted, &mut glass.sink);
    assert!(glass.chat.admit_mirrored(glass.now, room, admission, &mut glass.sink).is_none());
}

#[test]
fn a_large_room_ends_in_many_ticks() {
    let mut glass = Glass::new();
    let people = (0..1000).map(|n| (UserId::from_bits(n), format!("person {n}")));
    let people: Vec<_> = people.collect();
    let people = people.iter().map(|(id, name)| (*id, name.as_str().into()));
    let room = glass.chat.adopt(&facts(), people);
    glass.chat.check_invariants();
    assert_eq!(glass.chat.room_info(room).unwrap().user_count, 1000);
    let tabs: Vec<_> =
        (0..100).map(|n| glass.admit(room, UserId::from_bits(n), Start::Live)).collect();
    glass.chat.end_mirrored(glass.now, room, CloseReason::RoomDeleted, &mut glass.sink);
    // The room's id is free at once.
    let again = glass.adopt(&facts(), &[ANA]);
    let mut ticks = 0;
    while glass.chat.is_ending() {
        assert!(glass.chat.end_members(glass.now, 64, &mut glass.sink) <= 64);
        glass.chat.check_invariants();
        ticks += 1;
    }
    assert_eq!(ticks, 1100_usize.div_ceil(64));
    for tab in tabs {
        assert_eq!(glass.sink.news(tab.conn), ["closed RoomDeleted"]);
    }
    assert_eq!(glass.users(again), ["Ana"]);
    glass.end(again, CloseReason::RoomDeleted);
    glass.assert_empty();
}

#[test]
fn if_memory_is_short_a_mirror_forgets_the_oldest_messages() {
    let mut glass = Glass::with(SETTINGS, Ledger::with_ceiling(1_000_000));
    let room = glass.adopt(&facts(), &[ANA]);
    let ids: Vec<_> = (0..100).map(|_| glass.say(room, ANA, &"x".repeat(1000))).collect();
    let mut rest = glass.ledger.tally(Account::Connections);
    rest.set(810_000 - glass.ledger.total());
    let forgotten = glass.chat.forget();
    glass.chat.check_invariants();
    assert!((1..100).contains(&forgotten), "{forgotten}");
    assert_eq!(glass.texts(room).len(), 100 - forgotten);
    assert!(!glass.chat.history_after(room, Some(ids[0]), 9).is_complete());
    assert!(glass.chat.history_after(room, Some(ids[99]), 9).is_complete());
    assert_eq!(glass.chat.newest(room), ids[99].place());
    drop(rest);
    glass.end(room, CloseReason::RoomDeleted);
    while glass.chat.is_sparse() {
        glass.chat.compact();
    }
    glass.assert_empty();
}

#[test]
fn the_listing_is_the_one_of_all_servers() {
    let mut glass = Glass::new();
    let listed = |glass: &Glass| -> Vec<_> {
        let rooms = glass.chat.public_rooms();
        rooms.map(|room| (room.title.map(str::to_owned), room.user_count)).collect()
    };
    let first = RoomInfo { user_count: 3, ..facts().room };
    let rooms = [first, RoomInfo { title: None, ..first }];
    glass.chat.list_mirrored(77, rooms);
    glass.chat.check_invariants();
    assert_eq!(glass.chat.listing_revision(), 77);
    assert_eq!(listed(&glass), [(Some("a room".to_owned()), 3), (None, 3)]);
    let room = glass.adopt(&facts(), &[ANA]);
    assert_eq!(glass.chat.listing_revision(), 77, "a room that is mirrored is no news");
    glass.chat.list_mirrored(78, (0..2000).map(|_| first));
    glass.chat.check_invariants();
    assert_eq!(listed(&glass).len(), ROOMS_LISTED_MAX);
    glass.chat.list_mirrored(79, []);
    glass.end(room, CloseReason::RoomDeleted);
    glass.assert_empty();
}

/// What a server of another version took may be no name here.
#[test]
fn a_name_that_is_not_valid_is_empty() {
    let mut glass = Glass::new();
    let people = [(ANA, "x".into()), (BOB, "\u{7}".into()), (ZOE, "zoe".into())];
    let room = glass.chat.adopt(&facts(), people);
    assert_eq!(glass.users(room), ["", "", "zoe"]);
    glass.apply(room, ANA, MessageKind::UserLeft);
    assert_eq!(glass.users(room), ["", "zoe"]);
}
