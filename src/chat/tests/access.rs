//! Access: which sessions may join, read and post in which rooms.

use std::net::IpAddr;

use super::*;
use crate::chat::guesses::GUESSERS_MAX;

const PASSWORD: &str = "open sesame";

/// The relations of a session to a room that [`scene`] can make.
const SESSIONS: [&str; 7] =
    ["stranger", "member", "left", "owner", "owner that left", "other room's member", "ended"];

/// Makes a room of the given kind, and a session with the given relation to it.
fn scene(kind: &str, session: &str) -> (Story, SessionKey, Option<RoomKey>) {
    let mut story = Story::new();
    let owner = story.person("owner");
    let options = match kind {
        "private" => RoomOptions { private: true, ..RoomOptions::default() },
        "password" | "locked password" => {
            RoomOptions { password: Some(PASSWORD.into()), ..RoomOptions::default() }
        }
        _ => RoomOptions::default(),
    };
    let room = story.room_with(owner, options);
    let asking = if session.starts_with("owner") { owner } else { story.person("ana") };
    match session {
        "member" | "left" => story.join(asking, room).unwrap(),
        "other room's member" => {
            _ = story.room_with(
                asking,
                RoomOptions { password: Some(PASSWORD.into()), ..RoomOptions::default() },
            )
        }
        "ended" => story.end(asking),
        _ => {}
    }
    if session.ends_with("left") {
        story.leave(asking, room);
    }
    if kind.starts_with("locked") {
        let changes = RoomChanges { locked: Some(true), ..RoomChanges::default() };
        story.change(owner, room, changes).unwrap();
    }
    if kind == "over" {
        story.delete(owner, room).unwrap();
    }
    (story, asking, if kind == "no such" { None } else { Some(room) })
}

// contract §13.6 §13.7
#[test]
fn the_gate_follows_this_table() {
    use Refusal::{
        BadPassword as Bad, NotAMember as Not, RoomLocked as Locked, RoomNotFound as No,
    };
    let join = |password| Access::Join { password };
    // Each row has one result for each of `SESSIONS`.
    let open = [Ok(()); 7];
    let members = |refusal| {
        SESSIONS.map(|session| match session {
            "member" | "owner" => Ok(()),
            _ => Err(refusal),
        })
    };
    // The owner passes the lock, but not the password.
    let locked = |owner| {
        SESSIONS.map(|session| match session {
            "member" | "owner" => Ok(()),
            "owner that left" => owner,
            _ => Err(Locked),
        })
    };
    let table = [
        ("locked", join(None), locked(Ok(()))),
        ("locked", Access::Read, locked(Ok(()))),
        ("locked", Access::Post, members(Not)),
        ("locked password", join(None), locked(Err(Bad))),
        ("locked password", join(Some("wrong")), locked(Err(Bad))),
        ("locked password", join(Some(PASSWORD)), locked(Ok(()))),
        ("locked password", Access::Read, locked(Err(Not))),
        ("locked password", Access::Post, members(Not)),
        ("public", join(None), open),
        ("public", join(Some("any")), open),
        ("public", Access::Read, open),
        ("public", Access::Post, members(Not)),
        ("private", join(None), open),
        ("private", join(Some("any")), open),
        ("private", Access::Read, open),
        ("private", Access::Post, members(Not)),
        ("password", join(None), members(Bad)),
        ("password", join(Some("")), members(Bad)),
        ("password", join(Some("wrong")), members(Bad)),
        ("password", join(Some(PASSWORD)), open),
        ("password", Access::Read, members(Not)),
        ("password", Access::Post, members(Not)),
    ];
    for (kind, access, answers) in table {
        for (session, answer) in SESSIONS.into_iter().zip(answers) {
            let (mut story, asking, room) = scene(kind, session);
            let gate = story.chat.gate(story.now, asking, room, access, None);
            assert_eq!(gate, answer.map(|()| room.unwrap()), "{kind}, {session}");
            story.step();
        }
    }
    // A wrong id and a room that has ended give every session the same answer.
    for kind in ["no such", "over"] {
        for session in SESSIONS {
            for access in [join(None), join(Some(PASSWORD)), Access::Read, Access::Post] {
                let (mut story, asking, room) = scene(kind, session);
                assert_eq!(story.chat.gate(story.now, asking, room, access, None), Err(No));
                assert_eq!(
                    story.chat.delete_room(story.now, asking, room, &mut story.sink),
                    Err(No)
                );
            }
        }
    }
}

#[test]
fn a_socket_passes_the_same_gate() {
    for session in SESSIONS {
        for kind in ["public", "private", "password", "locked", "locked password", "over"] {
            let (mut story, asking, room) = scene(kind, session);
            let close = match (kind, session) {
                (_, "ended") => Some(CloseReason::InvalidSession),
                (_, "member" | "owner") if kind != "over" => None,
                ("locked password", "owner that left") => Some(CloseReason::NotAMember),
                ("locked", "owner that left") => None,
                ("locked" | "locked password", _) => Some(CloseReason::RoomLocked),
                ("over", _) => Some(CloseReason::RoomNotFound),
                ("password", _) => Some(CloseReason::NotAMember),
                _ => None,
            };
            assert_eq!(story.try_enter(asking, room.unwrap()).err(), close, "{kind}, {session}");
        }
    }
}

#[test]
fn only_the_owner_may_delete_a_room_of_any_kind() {
    for session in SESSIONS {
        for kind in ["public", "private", "password"] {
            let (mut story, asking, room) = scene(kind, session);
            let refusal =
                if session.starts_with("owner") { None } else { Some(Refusal::NotTheOwner) };
            assert_eq!(story.delete(asking, room.unwrap()).err(), refusal, "{kind}, {session}");
        }
    }
}

#[test]
fn a_member_needs_the_password_again_only_after_leaving() {
    let (mut story, ana, room) = scene("password", "stranger");
    let room = room.unwrap();
    story.try_join(ana, room, Some(PASSWORD), None).unwrap();
    for password in [None, Some("wrong")] {
        for _ in 0..100 {
            story.try_join(ana, room, password, None).unwrap(); // A right password is not a guess.
        }
    }
    let tab = story.enter(ana, room);
    story.break_connection(tab);
    story.wait(MINUTE);
    story.enter(ana, room);
    story.leave(ana, room);
    assert_eq!(story.try_enter(ana, room).err(), Some(CloseReason::NotAMember));
    assert_eq!(story.try_join(ana, room, None, None), Err(Refusal::BadPassword));
    story.try_join(ana, room, Some(PASSWORD), None).unwrap();
    story.enter(ana, room);
}

impl Story {
    /// Passes the gate and joins, as the REST route does.
    fn try_join(
        &mut self,
        session: SessionKey,
        room: RoomKey,
        password: Option<&str>,
        from: Option<Address>,
    ) -> Result<(), Refusal> {
        let gate = self.chat.gate(self.now, session, Some(room), Access::Join { password }, from);
        self.step();
        self.join(session, gate?)
    }
}

#[test]
fn wrong_guesses_are_limited_per_room_and_address() {
    let (mut story, ana, room) = scene("password", "other room's member");
    let room = room.unwrap();
    let elsewhere = story.chat.sessions.get(ana).unwrap().owned()[0];
    let bob = story.person("bob");
    let here = Some(Address::of(IpAddr::from([192, 0, 2, 1])));
    let there = Some(Address::of(IpAddr::from([192, 0, 2, 2])));
    for n in 0..5 {
        let asking = [ana, bob][n % 2]; // The limit is per address, not per session.
        assert_eq!(story.try_join(asking, room, Some("wrong"), here), Err(Refusal::BadPassword));
    }
    let wait = Refusal::RateLimited(Duration::from_secs(10));
    for password in ["wrong", PASSWORD] {
        assert_eq!(story.try_join(bob, room, Some(password), here), Err(wait));
    }
    assert_eq!(
        story.try_join(bob, room, None, here),
        Err(Refusal::BadPassword),
        "a missing password is not a guess"
    );
    assert_eq!(story.try_join(bob, elsewhere, Some("wrong"), here), Err(Refusal::BadPassword));
    assert_eq!(story.try_join(bob, room, Some("wrong"), there), Err(Refusal::BadPassword));
    for _ in 0..5 {
        assert_eq!(story.try_join(bob, room, Some("wrong"), None), Err(Refusal::BadPassword));
    }
    assert_eq!(
        story.try_join(bob, room, Some(PASSWORD), None),
        Err(wait),
        "all exempt peers share one meter"
    );
    story.wait(10 * SECOND);
    story.try_join(bob, room, Some(PASSWORD), here).unwrap();
    story.try_join(ana, room, Some(PASSWORD), here).unwrap(); // The right password is not a guess.
}

pub fn address(number: usize) -> Option<Address> {
    Some(Address::of(IpAddr::from((number as u32).to_be_bytes())))
}

#[test]
fn wrong_guesses_are_limited_per_room_from_all_addresses_together() {
    let (mut story, ana, room) = scene("password", "other room's member");
    let (room, bob) = (room.unwrap(), story.person("bob"));
    let elsewhere = story.chat.sessions.get(ana).unwrap().owned()[0];
    for n in 0..60 {
        let guessed = story.try_join(bob, room, Some("wrong"), address(n));
        assert_eq!(guessed, Err(Refusal::BadPassword));
    }
    let wait = Err(Refusal::RateLimited(SECOND));
    for n in 60..200 {
        assert_eq!(story.try_join(bob, room, Some("wrong"), address(n)), wait);
        assert_eq!(story.try_join(bob, room, Some(PASSWORD), None), wait);
    }
    assert_eq!(story.chat.guesses.len(), 60, "only charged guesses are remembered");
    let guessed = story.try_join(bob, elsewhere, Some("wrong"), address(0));
    assert_eq!(guessed, Err(Refusal::BadPassword), "another room has its own limit");
    story.wait(SECOND);
    story.try_join(bob, room, Some(PASSWORD), address(0)).unwrap();
    story.try_join(bob, room, Some("wrong"), address(0)).unwrap(); // A member is not asked.
}

#[test]
fn wrong_guesses_are_forgotten_by_time() {
    let (mut story, ana, room) = scene("password", "stranger");
    let before = (story.chat.timer_count(), story.ledger.total());
    for n in 0..60 {
        assert!(story.try_join(ana, room.unwrap(), Some("wrong"), address(n)).is_err());
        story.wait(SECOND / 10);
    }
    assert!(story.chat.guesses.len() == 60 && story.ledger.total() > before.1);
    assert_eq!(story.chat.timer_count(), before.0 + 1, "one timer for all of them");
    story.wait(45 * SECOND + GRAIN); // Those of the first second: a full meter is idle after 50.
    assert_eq!(story.chat.guesses.len(), 49);
    story.wait(5 * SECOND);
    assert_eq!(story.chat.guesses.len(), 0);
    assert_eq!((story.chat.timer_count(), story.ledger.total()), before);
    assert!(story.try_join(ana, room.unwrap(), Some("wrong"), address(0)).is_err());
    story.wait(11 * MINUTE); // The room has ended.
    story.wait(24 * HOUR);
    story.assert_empty();
}

#[test]
fn guesses_are_forgotten_with_their_room_and_do_not_apply_to_the_next_one() {
    let (mut story, ana, room) = scene("password", "owner");
    let (first, bob) = (room.unwrap(), story.person("bob"));
    for _ in 0..5 {
        assert!(story.try_join(bob, first, Some("wrong"), address(1)).is_err());
    }
    assert_eq!(story.chat.guesses.len(), 1);
    story.delete(ana, first).unwrap();
    story.step();
    assert_eq!((story.chat.guesses.len(), story.chat.timer_count()), (0, 2), "the sessions'");
    let options = RoomOptions { password: Some(PASSWORD.into()), ..RoomOptions::default() };
    let next = story.room_with(ana, options);
    assert_eq!((next.index(), next == first), (first.index(), false), "the slot is reused");
    assert_eq!(story.try_join(bob, next, Some("wrong"), address(1)), Err(Refusal::BadPassword));
    story.wait(50 * SECOND);
    story.wait(SECOND);
    assert_eq!(story.chat.guesses.len(), 0);
}

/// One wrong password from each of many addresses in each of many rooms took more memory than the
/// ceiling, and nothing of it could be shed.
#[test]
fn guesses_from_many_addresses_in_many_rooms_take_little_memory_and_lock_out_nobody() {
    let mut story = Story::new();
    let owner = story.person("ana");
    let options = || RoomOptions { password: Some(PASSWORD.into()), ..RoomOptions::default() };
    let rooms: Vec<_> = (0..100).map(|_| story.room_with(owner, options())).collect();
    let bob = story.person("bob");
    story.step();
    let before = story.ledger.total();
    for n in 0..55 {
        for (place, room) in rooms.iter().enumerate() {
            let access = Access::Join { password: Some("wrong") };
            let gate =
                story.chat.gate(story.now, bob, Some(*room), access, address(100 * n + place));
            assert_eq!(gate, Err(Refusal::BadPassword));
        }
    }
    story.step();
    assert_eq!(story.chat.guesses.len(), GUESSERS_MAX, "the table is full");
    let taken = story.ledger.total() - before;
    assert!(taken < 600_000, "{taken} bytes");
    for (place, room) in rooms.iter().enumerate() {
        story.try_join(bob, *room, Some(PASSWORD), address(10_000 + place)).unwrap();
    }
}

// contract §10.4
#[test]
fn a_room_is_listed_only_if_it_is_public() {
    let mut story = Story::new();
    let ana = story.person("ana");
    let title = Some(Title::parse(" Tea & \u{1F375} ").unwrap());
    let options = [
        RoomOptions::default(),
        RoomOptions { private: true, title: title.clone(), ..RoomOptions::default() },
        RoomOptions { password: Some("x".into()), ..RoomOptions::default() },
        RoomOptions { private: true, password: Some("x".into()), ..RoomOptions::default() },
        RoomOptions { title, ..RoomOptions::default() },
    ];
    let rooms = options.map(|options| {
        let created = story.now.wall;
        let room = story.room_with(ana, options);
        story.wait(SECOND);
        (room, created)
    });
    story.enter(ana, rooms[4].0);
    let shown = |info: RoomInfo<'_>| {
        let digits = info.id.to_string().len();
        (info.title.map(str::to_owned), info.is_private, info.has_password, digits, info.user_count)
    };
    let tea = || Some("Tea & \u{1F375}".to_owned());
    let expected = [
        (None, false, false, 10, 0),
        (tea(), true, false, 32, 0),
        (None, true, true, 32, 0),
        (None, true, true, 32, 0),
        (tea(), false, false, 10, 1),
    ];
    for ((room, created), expected) in rooms.into_iter().zip(expected.clone()) {
        let info = story.chat.room_info(room).unwrap();
        assert_eq!((info.created, shown(info)), (created, expected));
        assert_eq!(story.chat.room(info.id), Some(room));
    }
    let listed: Vec<_> = story.chat.public_rooms().map(shown).collect();
    assert_eq!(listed, [expected[4].clone(), expected[0].clone()], "newest first");
    assert_eq!(story.chat.rooms_of(ana).len(), 5, "a private room is listed for its members");
    story.delete(ana, rooms[4].0).unwrap();
    assert_eq!(story.chat.public_rooms().count(), 1);
    assert!(story.chat.room_info(rooms[4].0).is_none());
}
