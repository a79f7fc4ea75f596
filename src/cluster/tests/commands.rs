//! The functions that each command calls, in their order: the table of `rest`.

use super::*;
use crate::chat::{MessageId, MessagePlace, Name, RoomChanges, RoomOptions};
use crate::cluster::identity::ClusterIdentity;
use crate::cluster::record::SessionHash;

/// Runs a command. Each step: the functions that are called then, and what the store says.
#[track_caller]
fn check_in(node: &mut Node, command: Command<'_>, script: &[(&str, String)], outcome: &str) {
    if let Err(refusal) = node.asks(command) {
        assert_eq!((script.len(), format!("{refusal:?}")), (0, outcome.to_owned()));
        return;
    }
    for (step, (functions, reply)) in script.iter().enumerate() {
        assert_eq!(node.called(), *functions, "step {step}");
        node.hears(reply);
    }
    assert_eq!((node.outcome().as_str(), node.called().as_str()), (outcome, ""));
}

#[track_caller]
fn check(command: Command<'_>, script: &[(&str, String)], outcome: &str) {
    check_in(&mut Node::new(), command, script, outcome);
}

fn touched() -> (&'static str, String) {
    ("touch", reply!("OK", "Ana", ""))
}

fn reserved() -> (&'static str, String) {
    ("reserve", reply!("OK", "Ana", "5", "1"))
}

/// The answer to `look`, of a room without messages.
fn looked() -> (&'static str, String) {
    let snapshot = format!("*3\r\n{}*2\r\n{}{}*0\r\n", bulk(FACTS), bulk(USER), bulk("Zoe"));
    let items = [bulk("OK"), bulk(FACTS), bulk("0-0"), snapshot];
    ("look", format!("*4\r\n{}", items.concat()))
}

const USER: &str = "00000000000000aa";

fn user() -> Option<UserId> {
    UserId::parse(USER)
}

#[test]
fn commands_of_no_session() {
    check(Command::Count, &[("count", reply!("OK", "3", "2"))], "3 sessions, 2 rooms");
    let listed = ("listing", reply!("OK", "7", [ROOM, FACTS]));
    check(Command::ListRooms, &[listed], "1 public rooms");
    check(Command::ListRooms, &[("listing", "-OOM x\r\n".to_owned())], "Unavailable(1s)");
    let show = || Command::ShowRoom { room: Some(room()) };
    check(show(), &[("look", reply!("OK", FACTS))], "room Some(\"a title\")");
    check(show(), &[("look", reply!("NOROOM"))], "RoomNotFound");
    check(show(), &[("look", reply!("OK", "no facts"))], "Unavailable(1s)");
    check(Command::ShowRoom { room: None }, &[], "RoomNotFound");
    let delete = Command::DeleteAnyRoom { room: Some(room()) };
    check(delete, &[("delete_room", reply!("OK"))], "room deleted");
    let remove = |user_id| Command::RemoveAnyUser { room: Some(room()), user_id, ban: None };
    check(remove(user()), &[("remove", reply!("OK", "", [""], ""))], "removed None");
    // The room is asked first, whether or not a person can have the id.
    check(remove(None), &[("remove", reply!("NOROOM"))], "RoomNotFound");
    check(remove(None), &[("remove", reply!("NOUSER"))], "UserNotFound");
}

#[test]
fn one_call_shows_a_room_to_all_who_ask_before_it_leaves() {
    let mut node = Node::new();
    let show = || Command::ShowRoom { room: Some(room()) };
    assert_eq!((node.asks(show()), node.asks(show())), (Ok(()), Ok(())));
    assert_eq!(node.called(), "look");
    assert_eq!(node.asks(show()), Ok(()));
    assert_eq!(node.called(), "look");
    node.hears(&reply!("OK", FACTS));
    assert_eq!(node.outcome(), "room Some(\"a title\"), room Some(\"a title\")");
    node.hears(&reply!("NOROOM"));
    assert_eq!(node.outcome(), "RoomNotFound");
}

#[test]
fn a_session_begins_and_ends() {
    let open = || Command::OpenSession { name: Name::parse("Ana").unwrap(), from: None };
    let opened = ("open_session", reply!("OK", ""));
    check(open(), std::slice::from_ref(&opened), "session of Ana");
    // An id that was drawn twice.
    check(open(), &[("open_session", reply!("EXISTS")), opened], "session of Ana");
    check(open(), &[("open_session", reply!("SHARE"))], "AddressSessions");
    check(open(), &[("open_session", reply!("FULL"))], "ServerFull");
    check(open(), &[("open_session", reply!("RATE", "5"))], "RateLimited(5µs)");
    let victim = "00112233445566778899aabbccddeeff";
    let mut node = Node::new();
    assert_eq!(node.asks(open()), Ok(()));
    node.sent();
    node.hears(&reply!("OK", victim));
    assert_eq!(node.sent(), [format!("end_session {victim}")]);

    let end = || Command::EndSession(session());
    let rooms = ("end_session", reply!("OK", [ROOM, "9876543210"]));
    let quit = ("quit quit", format!("{}{}", reply!("OK"), reply!("OK")));
    check(end(), &[rooms, quit, ("gone", String::new())], "session ended");
    let none = ("end_session", "*2\r\n$2\r\nOK\r\n*0\r\n".to_owned());
    check(end(), &[none, ("gone", String::new())], "session ended");
}

/// Regression: each partition had the whole maximum.
// contract §12.21
#[test]
fn the_partitions_have_one_maximum_together() {
    let mut node = Node::with_partitions(4);
    node.waits(0);
    node.hears("$0\r\n\r\n");
    let (sessions, rooms) = ([3, 4, 5, 6], [20, 30, 90, 0]);
    for (sessions, rooms) in std::iter::zip(sessions, rooms) {
        let (sessions, rooms) = (sessions.to_string(), rooms.to_string());
        node.hears(&reply!("OK", "1000000", "0", sessions, rooms, "0", "0"));
    }
    node.sent();
    let identity = ClusterIdentity::new(SECRET.as_bytes(), 4);
    let name = Name::parse("Ana").unwrap();
    for _ in 0..20 {
        assert_eq!(node.asks(Command::OpenSession { name: name.clone(), from: None }), Ok(()));
        let call = node.sent().remove(0);
        let parts: Vec<&str> = call.split(' ').collect();
        let session = SessionHash::parse(parts[1].as_bytes()).unwrap();
        let here = sessions[usize::from(identity.partition_of_session(session))];
        assert_eq!((parts[0], parts[4]), ("open_session", &*(100 - (18 - here)).to_string()));
        node.hears(&reply!("OK", ""));

        let options = RoomOptions::default();
        assert_eq!(node.asks(of(SessionCommand::OpenRoom { options, from: None })), Ok(()));
        node.sent();
        node.hears(&reserved().1);
        let call = node.sent().remove(1);
        let parts: Vec<&str> = call.split(' ').collect();
        let here = rooms[usize::from(identity.partition_of_room(RoomId::parse(parts[1]).unwrap()))];
        let most = 100_usize.saturating_sub(140 - here).to_string();
        assert_eq!((parts[0], parts[12]), ("open_room", &*most));
        node.hears(&reply!("OK"));
        node.hears(&reply!("FULL"));
    }
}

#[test]
fn a_session_is_asked_first() {
    let gone = || ("touch", reply!("NOSESSION"));
    let (none, some) = (None, Some(room()));
    for room in [none, some] {
        check(of(SessionCommand::Touch), &[gone()], "NoSession");
        check(of(SessionCommand::Leave { room }), &[gone()], "NoSession");
        check(of(SessionCommand::DeleteRoom { room }), &[gone()], "NoSession");
        check(of(SessionCommand::Type { room }), &[gone()], "NoSession");
        check(of(SessionCommand::ListPeople { room, from: None }), &[gone()], "NoSession");
    }
    check(of(SessionCommand::Touch), &[touched()], "session");
    check(of(SessionCommand::DeleteRoom { room: None }), &[touched()], "RoomNotFound");
    check(of(SessionCommand::Leave { room: None }), &[touched()], "left");
    let join = |room| of(SessionCommand::Join { room, password: None, from: None });
    check(join(none), &[touched()], "RoomNotFound");
    check(join(some), &[("reserve", reply!("NOSESSION"))], "NoSession");
    // A bad message is refused before an unknown room, and after a session that is none.
    let post = |text: &'static str| {
        of(SessionCommand::Post { room: None, text: text.into(), nonce: None })
    };
    check(post(""), &[gone()], "NoSession");
    check(post(""), &[touched()], "EmptyMessage");
    check(post("hi"), &[touched()], "RoomNotFound");
}

#[test]
fn the_rooms_of_a_session_are_those_that_confirm_it() {
    let rooms = ("touch", reply!("OK", "Ana", [ROOM, "5", "9876543210", "6"]));
    let one = ("members", reply!("OK", ["", "1"]));
    let mut node = Node::new();
    assert_eq!(node.asks(of(SessionCommand::ShowSession)), Ok(()));
    node.sent();
    node.hears(&rooms.1);
    node.sent();
    node.hears(&one.1);
    assert_eq!(node.outcome(), "Ana in 1 rooms");
    let hash = node.cluster.identity().unwrap().session(session());
    assert_eq!(node.sent(), [format!("forget {hash} {ROOM} 5")], "with the version seen");
    let both = ("members", reply!("OK", ["1", "1"]));
    check(of(SessionCommand::ListJoined), &[rooms, both], "2 rooms");
    let none = ("touch", "*3\r\n$2\r\nOK\r\n$3\r\nAna\r\n*0\r\n".to_owned());
    check(of(SessionCommand::ListJoined), &[none], "0 rooms");
}

#[test]
fn a_room_is_opened() {
    let open = || of(SessionCommand::OpenRoom { options: RoomOptions::default(), from: None });
    let owned = |reply: String| ("own open_room", format!("{}{reply}", reply!("OK")));
    check(open(), &[reserved(), owned(reply!("OK", ""))], "room opened");
    let again = [reserved(), owned(reply!("EXISTS", USER)), reserved(), owned(reply!("OK", ""))];
    check(open(), &again, "room opened");
    check(open(), &[reserved(), owned(reply!("SHARE"))], "AddressRooms");
    check(open(), &[reserved(), owned(reply!("FULL"))], "ServerFull");
    let over = || ("reserve", reply!("OVER", "Ana", [ROOM, "5"]));
    let all = ("members", reply!("OK", ["1"]));
    check(open(), &[over(), all], "TooManyRooms");
    let none = ("members", reply!("OK", [""]));
    let forgotten = ("forget reserve", format!("{}{}", reply!("OK"), reserved().1));
    check(open(), &[over(), none, forgotten, owned(reply!("OK", ""))], "room opened");
}

#[test]
fn a_room_is_joined_and_left() {
    let join = || of(SessionCommand::Join { room: Some(room()), password: None, from: None });
    check(join(), &[reserved(), ("join", reply!("OK"))], "joined");
    check(join(), &[reserved(), ("join", reply!("AGAIN"))], "BadPassword");
    check(join(), &[reserved(), ("join", reply!("BANNED"))], "Banned");
    check(join(), &[reserved(), ("join", reply!("LOCKED"))], "RoomLocked");
    // A room that does not exist is told before the limit of rooms.
    let over = || ("reserve", reply!("OVER", "Ana", [ROOM, "5"]));
    let all = || ("members", reply!("OK", ["1"]));
    check(join(), &[over(), all(), ("join", reply!("NOROOM"))], "RoomNotFound");
    check(join(), &[over(), all(), ("join", reply!("OVER"))], "TooManyRooms");

    let leave = of(SessionCommand::Leave { room: Some(room()) });
    let touched = ("touch", reply!("OK", "Ana", "77"));
    check(leave, &[touched, ("leave", reply!("OK", "")), ("forget", String::new())], "left");
    // Regression: the room of an owner that had inherited it, and left, kept this owner when the session ended.
    let leave = of(SessionCommand::Leave { room: Some(room()) });
    let touched = ("touch", reply!("OK", "Ana", "5"));
    check(
        leave,
        &[touched, ("leave", reply!("OK", "", "1")), ("own forget", String::new())],
        "left",
    );
}

#[test]
fn a_password_is_compared_after_the_guess_is_counted() {
    let join = || {
        let password = Some("open sesame".into());
        of(SessionCommand::Join { room: Some(room()), password, from: None })
    };
    let identity = ClusterIdentity::new(SECRET.as_bytes(), 1);
    let entropy = &mut SeededEntropy::new(3);
    let (lock, other) = (identity.lock("open sesame", entropy), identity.lock("x", entropy));
    let guess = |lock: &str| ("guess", reply!("LOCK", lock));
    check(join(), &[reserved(), guess(&lock), ("join", reply!("OK"))], "joined");
    check(join(), &[reserved(), guess(&other)], "BadPassword");
    check(join(), &[reserved(), ("guess", reply!("RATE", "5"))], "RateLimited(5µs)");
    check(join(), &[reserved(), ("guess", reply!("IN")), ("join", reply!("OK"))], "joined");
    // The password was changed in between.
    let changed = [reserved(), guess(&lock), ("join", reply!("AGAIN")), guess(&other)];
    check(join(), &changed, "BadPassword");
    // The room learns which lock was opened, so that it can notice that.
    let mut node = Node::new();
    assert_eq!(node.asks(join()), Ok(()));
    for reply in [reserved().1, reply!("LOCK", (lock.as_str()))] {
        node.sent();
        node.hears(&reply);
    }
    assert!(node.sent()[0].contains(&lock), "join without its lock");
}

#[test]
fn a_room_is_read_from_its_mirror() {
    let people = || of(SessionCommand::ListPeople { room: Some(room()), from: None });
    check(people(), &[touched(), looked()], "1 people");
    check(people(), &[touched(), ("look", reply!("NOMEMBER"))], "NotAMember");
    let read = || {
        let (room, from) = (Some(room()), None);
        of(SessionCommand::ReadMessages { room, after: None, limit: 50, from })
    };
    check(read(), &[touched(), looked()], "messages");
    // The room is asked even if it is mirrored: its answer comes after all that was said before.
    let mut node = Node::new();
    check_in(&mut node, people(), &[touched(), looked()], "1 people");
    let again = [touched(), ("look", reply!("OK", FACTS, "0-0"))];
    check_in(&mut node, people(), &again, "1 people");
    let watch = of(SessionCommand::Watch { room: Some(room()), from: None });
    check(watch, &[touched(), ("look", reply!("OK", FACTS, "0-0"))], "access");
}

#[test]
fn a_message_is_posted() {
    let post = |text: &'static str| {
        of(SessionCommand::Post { room: Some(room()), text: text.into(), nonce: None })
    };
    let posted = || ("post", reply!("OK", "0-0", "5-0", "1755611100123456", ""));
    let mut node = Node::new();
    check_in(&mut node, post("hi"), &[touched(), looked(), posted()], "posted, new: true");
    // The room is mirrored now.
    let repeated = record('C', 9, node.user_id(), "hi");
    let known = ("post", reply!("DUP", "5-0", repeated));
    check_in(&mut node, post("hi"), &[touched(), known], "posted, new: false");
    check_in(&mut node, post("hi"), &[touched(), ("post", reply!("TAKEN"))], "NameTaken");
    check_in(&mut node, post(""), &[touched()], "EmptyMessage");
    check(post(""), &[touched(), ("look", reply!("NOROOM"))], "EmptyMessage");
    check(post("hi"), &[touched(), ("look", reply!("NOROOM"))], "RoomNotFound");
}

#[test]
fn a_room_is_changed_and_ruled() {
    let some = Some(room());
    let changes = || RoomChanges { password: Some(Some("word".into())), ..Default::default() };
    let change = || of(SessionCommand::ChangeRoom { room: some, changes: changes() });
    let changed = || ("change", reply!("OK", "1", FACTS));
    check(change(), &[touched(), changed()], "room Some(\"a title\")");
    let locked = ("change", reply!("LOCK", ""));
    check(change(), &[touched(), locked, changed()], "room Some(\"a title\")");
    check(change(), &[touched(), ("change", reply!("NOTOWNER"))], "NotTheOwner");

    let delete = of(SessionCommand::DeleteRoom { room: some });
    check(delete, &[touched(), ("delete_room", reply!("OK"))], "room deleted");
    let place = MessagePlace { millis: 5, counter: 0 };
    for message in [None, Some(MessageId::at(place, [0x80; 8]))] {
        let command =
            || of(SessionCommand::DeleteMessage { room: some, message, event_bytes: |_| 100 });
        let deleted = ("delete_message", reply!("OK", ""));
        check(command(), &[touched(), deleted], "message deleted");
        let missing = ("delete_message", reply!("NOMESSAGE"));
        check(command(), &[touched(), missing], "MessageNotFound");
    }
    let typing = of(SessionCommand::Type { room: some });
    check(typing, &[touched(), ("typing", reply!("OK"))], "typed");
    let remove = |user_id| of(SessionCommand::RemoveUser { room: some, user_id, ban: None });
    check(remove(user()), &[touched(), ("remove", reply!("OK", "1", [""], ""))], "removed None");
    let mut node = Node::new();
    let own = node.user_id();
    check_in(&mut node, remove(Some(own)), &[touched()], "RemovesItself");
    let bans = of(SessionCommand::ListBans { room: some });
    let listed = ("bans", reply!("OK", [USER, "9", "Zoe", "", "bad", "9", "Zoe", ""]));
    check(bans, &[touched(), listed], "1 bans");
    let lift = of(SessionCommand::LiftBan { room: some, user_id: user() });
    check(lift, &[touched(), ("lift", reply!("OK"))], "ban lifted");
}

#[test]
fn the_operator_lists_all_rooms_part_by_part() {
    let mut node = Node::new();
    assert_eq!(node.asks(Command::ListAllRooms), Ok(()));
    assert_eq!(node.sent(), ["usage '' 256"]);
    node.hears(&reply!("OK", ROOM, [ROOM, FACTS, "2", "300"]));
    assert_eq!(node.sent(), [format!("usage {ROOM} 256")]);
    node.hears(&reply!("OK", "", ["9876543210", FACTS, "0", "0", ROOM, "bad", "0", "0"]));
    let answers = node.cluster.take_answers();
    let [NodeAnswer::Outcome { outcome: Ok(Settled::Usage(rooms)), .. }] = &answers[..] else {
        panic!("no list")
    };
    assert_eq!(rooms.iter().map(|room| (room.1, room.2)).collect::<Vec<_>>(), [(2, 300), (0, 0)]);
}

#[test]
fn an_answer_that_no_version_gives_is_no_success() {
    for reply in [reply!("FINE"), reply!("KEPT"), "$2\r\nOK\r\n".to_owned(), ":1\r\n".to_owned()] {
        let script = [touched(), ("delete_room", reply.clone())];
        let delete = of(SessionCommand::DeleteRoom { room: Some(room()) });
        check(delete, &script, "Unavailable(1s)");
        check(of(SessionCommand::Touch), &[("touch", reply)], "Unavailable(1s)");
    }
}
