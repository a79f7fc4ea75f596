//! Limits and rates, and that ended sessions and rooms hold no memory.

use std::net::IpAddr;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

#[test]
fn a_session_may_be_a_member_of_two_hundred_rooms() {
    let mut story = Story::new();
    let (bob, room, _) = story.begin("bob");
    let ana = story.person("ana");
    let mut rooms = Vec::new();
    for _ in 0..SESSION_ROOMS_MAX {
        rooms.push(story.room(ana));
    }
    assert_eq!(story.join(ana, room), Err(Refusal::TooManyRooms));
    assert_eq!(story.try_room(ana, None), Err(Refusal::TooManyRooms));
    assert_eq!(story.try_enter(ana, room).err(), Some(CloseReason::TooManyRooms));
    assert_eq!(story.join(ana, rooms[7]), Ok(()), "ana is a member already");
    story.enter(ana, rooms[7]);
    story.leave(ana, rooms[8]);
    story.join(ana, room).unwrap();
    assert_eq!(story.chat.rooms_of(ana).len(), SESSION_ROOMS_MAX);
    story.end(bob);
}

#[test]
fn a_room_that_ends_no_longer_counts_against_the_limit() {
    let mut story = Story::new();
    let ana = story.person("ana");
    for _ in 0..SESSION_ROOMS_MAX {
        story.room(ana);
    }
    story.wait(11 * MINUTE);
    story.room(ana);
}

#[test]
fn a_session_may_have_twenty_connections_including_waiting_ones() {
    let mut story = Story::new();
    let (_, room, holder) = story.begin("ana");
    let namesake = story.person("ana");
    let elsewhere = story.room(namesake);
    let mut tabs: Vec<_> = (0..10).map(|_| story.enter(namesake, elsewhere)).collect();
    tabs.extend((0..10).map(|_| story.enter_waiting(namesake, room)).collect::<Vec<_>>());
    for room in [room, elsewhere] {
        assert_eq!(story.try_enter(namesake, room).err(), Some(CloseReason::TooManyConnections));
    }
    story.assert_received(holder, &["ping"]);
    story.close(tabs[0]);
    story.enter(namesake, elsewhere);
    assert!(story.try_enter(namesake, elsewhere).is_err());
    story.sign_of_life(holder);
    for _ in 0..10 {
        story.enter(namesake, elsewhere);
    }
    assert!(story.try_enter(namesake, elsewhere).is_err());
}

#[test]
fn joining_a_room_that_has_ended_is_refused() {
    // `join` returned `Ok` and added no member.
    let mut story = Story::new();
    let ana = story.person("ana");
    let room = story.room(ana);
    story.wait(11 * MINUTE);
    assert_eq!(story.join(ana, room), Err(Refusal::RoomNotFound));
}

#[test]
fn sessions_and_rooms_over_the_servers_limits_are_refused() {
    let mut story = Story::with(|config| {
        config.sessions_max = 2;
        config.rooms_max = 2;
    });
    let (first, _) = (story.person("ana"), story.person("ana"));
    assert_eq!(story.try_person("ana", None), Err(Refusal::ServerFull));
    story.room(first);
    story.room(first);
    assert_eq!(story.try_room(first, None), Err(Refusal::ServerFull));
    story.end(first);
    let next = story.person("ana");
    assert_eq!(story.try_room(next, None), Err(Refusal::ServerFull));
    story.wait(11 * MINUTE);
    story.room(next);
}

#[test]
fn an_address_opens_sessions_and_rooms_at_a_limited_rate() {
    let mut story = Story::with(|config| {
        config.session_pace = Pace::new(2, SECOND, 60);
        config.room_pace = Pace::new(2, SECOND, 60);
    });
    let [here, there] = [HERE, THERE].map(|ip| Some(Address::of(ip)));
    let refusal = Refusal::RateLimited(Duration::from_millis(500));
    let opener = story.person("ana");
    for _ in 0..60 {
        story.try_person("ana", here).unwrap();
        story.try_room(opener, here).unwrap();
    }
    assert_eq!(story.try_person("ana", here), Err(refusal));
    assert_eq!(story.try_room(opener, here), Err(refusal));
    assert!(story.try_person("ana", there).is_ok());
    assert!(story.try_person("ana", None).is_ok(), "exempt");
    assert!(story.try_room(opener, there).is_ok());
    story.wait(Duration::from_millis(500));
    assert!(story.try_person("ana", here).is_ok());
    assert!(story.try_person("ana", here).is_err());
}

#[test]
fn an_address_has_a_limit_of_connections() {
    let mut story = Story::with(|config| config.address_connections_max = Some(2));
    let [here, there] = [HERE, THERE].map(Address::of);
    assert_eq!(story.chat.on_arrival(here), Quota::Within);
    assert_eq!(story.chat.on_arrival(here), Quota::Within);
    assert_eq!(story.chat.on_arrival(here), Quota::Over);
    assert_eq!(story.chat.on_arrival(there), Quota::Within);
    story.chat.on_departure(story.now, here, true);
    assert_eq!(story.chat.on_arrival(here), Quota::Over);
    // The place is free, whatever is still being refused.
    story.chat.on_departure(story.now, here, false);
    assert_eq!(story.chat.on_arrival(here), Quota::Within);
    assert_eq!(story.chat.on_arrival(here), Quota::Over);
    for (address, is_over) in
        [(here, false), (here, true), (here, false), (here, true), (there, false)]
    {
        story.chat.on_departure(story.now, address, is_over);
        story.step();
    }
    story.assert_empty();
}

#[test]
fn an_address_far_over_its_limit_gets_no_more_refusals() {
    let mut story = Story::with(|config| config.address_connections_max = Some(2));
    let here = Address::of(HERE);
    let shares: Vec<_> =
        (0..2 + REFUSED_CONNECTIONS_MAX + 1).map(|_| story.chat.on_arrival(here)).collect();
    assert_eq!(shares[..2], [Quota::Within; 2]);
    assert_eq!(shares[2..2 + REFUSED_CONNECTIONS_MAX], [Quota::Over; REFUSED_CONNECTIONS_MAX]);
    assert_eq!(shares[2 + REFUSED_CONNECTIONS_MAX], Quota::FarOver);
    for share in shares {
        story.chat.on_departure(story.now, here, share != Quota::Within);
        story.step();
    }
    story.assert_empty();
}

// contract §12.18
#[test]
fn without_a_limit_an_address_may_have_any_number_of_connections() {
    let mut story = Story::with(|config| config.address_connections_max = None);
    let here = Address::of(HERE);
    assert!((0..1000).all(|_| story.chat.on_arrival(here) == Quota::Within));
}

#[test]
fn the_entries_of_idle_addresses_are_removed() {
    let mut story = Story::with(|config| config.session_pace = Pace::new(2, SECOND, 60));
    for n in 0..200 {
        let address = Address::of(IpAddr::from([192, 0, 2, n]));
        for _ in 0..=n % 7 {
            let session = story.try_person("ana", Some(address)).unwrap();
            story.end(session);
        }
        if n % 3 == 0 {
            story.chat.on_arrival(address);
            story.wait(Duration::from_millis(300));
            story.chat.on_departure(story.now, address, false);
            story.step();
        }
    }
    assert!(story.chat.timer_count() > 0 && story.ledger.total() > 0);
    story.wait(2 * MINUTE);
    story.assert_empty();
}

#[test]
fn an_address_with_a_connection_needs_no_timer() {
    let mut story = Story::with(|config| config.session_pace = Pace::new(2, SECOND, 60));
    let here = Address::of(HERE);
    story.chat.on_arrival(here);
    let session = story.try_person("ana", Some(here)).unwrap();
    story.end(session);
    assert_eq!(story.chat.timer_count(), 0);
    story.chat.on_departure(story.now, here, false);
    story.step();
    assert_eq!(story.chat.timer_count(), 1, "the timer for the review of the address");
    story.chat.on_arrival(here);
    story.wait(MINUTE);
    assert_eq!(story.chat.timer_count(), 0);
    story.chat.on_departure(story.now, here, false);
    story.assert_empty();
}

#[test]
fn thousands_of_sessions_and_rooms_leave_nothing_behind() {
    const COUNT: usize = 5000;
    let mut story = Story::new();
    story.sink.discards = true;
    let (now, chat, sink) = (story.now, &mut story.chat, &mut story.sink);
    let mut sessions = Vec::new();
    let mut conns = Slots::default();
    for n in 0..COUNT {
        let name = Name::parse(["ana", "ÀNA", "Bob"][n % 3]).unwrap();
        let id = chat.open_session(now, name, None, sink).unwrap();
        let session = chat.session(id).unwrap();
        let id = chat.open_room(now, session, RoomOptions::default(), None, sink).unwrap();
        let room = chat.room(id).unwrap();
        if n % 2 == 0 {
            let mut enter = |session| {
                let conn = conns.insert(());
                let (session, room, start) = (Some(session), Some(room), Start::Last(10));
                let request =
                    JoinRequest { conn, session, room, share_exceeded: false, from: None, start };
                chat.enter(now, request, sink).unwrap().0
            };
            let tab = enter(session);
            // One session has another name. The other has the same name and has to wait.
            sessions.iter().rev().step_by(2).take(2).for_each(|other| _ = enter(*other));
            chat.post(now, tab, "hello", Some("n"), sink).unwrap();
            if n % 4 == 0 {
                chat.exit(now, tab, Departure::Broken, sink);
            }
        }
        sessions.push(session);
    }
    chat.check_invariants();
    assert!(story.ledger.bytes(Account::Rooms) > COUNT * 100);
    assert!(story.ledger.bytes(Account::Sessions) > COUNT * 100);
    for (n, session) in sessions.into_iter().enumerate() {
        if n % 5 != 0 {
            chat.end_session(now, session, sink);
        }
    }
    chat.check_invariants();
    let mut now = now;
    for hours in 0..3 {
        let sessions = chat.sessions.iter();
        let attachments = sessions.flat_map(|(_, session)| session.attachments.clone());
        for key in attachments.collect::<Vec<_>>() {
            chat.exit(now, key, Departure::Closed, sink);
        }
        now = now.after((hours + 1) * 10 * HOUR);
        chat.sweep(now, usize::MAX, sink);
        chat.end_members(now, usize::MAX, sink);
        chat.check_invariants();
    }
    assert_eq!((chat.session_count(), chat.room_count()), (0, 0));
    story.assert_empty();
}
