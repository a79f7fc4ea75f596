//! The share of an address: how many living sessions and rooms it holds, and what gives way.

use std::net::IpAddr;

use super::*;

fn from(text: &str) -> Option<Address> {
    Some(Address::of(text.parse::<IpAddr>().unwrap()))
}

const HERE: &str = "192.0.2.1";
const THERE: &str = "192.0.2.2";
const SESSIONS: Refusal = Refusal::AddressSessions;
const ROOMS: Refusal = Refusal::AddressRooms;

/// A story in which an address holds at most `max` sessions and as many rooms. They live so long
/// that none ends by itself.
fn story(max: usize) -> Story {
    Story::with(|config| {
        config.address_sessions_max = Some(max);
        config.session_ttl = 1000 * HOUR;
        config.room_ttl = 1000 * HOUR;
        config.new_room_ttl = 1000 * HOUR;
    })
}

impl Story {
    /// Three sessions of one address, opened one second after the other.
    fn three_people(&mut self) -> [SessionKey; 3] {
        [(); 3].map(|()| {
            self.wait(SECOND);
            self.try_person("ana", from(HERE)).unwrap()
        })
    }

    fn three_rooms(&mut self, by: SessionKey) -> [RoomKey; 3] {
        [(); 3].map(|()| {
            self.wait(SECOND);
            self.try_room(by, from(HERE)).unwrap()
        })
    }

    /// Opens a session from [`HERE`], and returns the place of the one that gave way.
    fn gave_way(&mut self, people: &[SessionKey]) -> Option<usize> {
        let before: Vec<_> = people.iter().map(|one| self.session_exists(*one)).collect();
        self.try_person("new", from(HERE)).unwrap();
        people.iter().zip(before).position(|(one, was)| was && !self.session_exists(*one))
    }
}

// contract §3.13
#[test]
fn an_address_holds_exactly_its_share_of_sessions_and_of_rooms() {
    let mut story = story(3);
    let opener = story.person("exempt");
    let people = story.three_people();
    let rooms = story.three_rooms(opener);
    assert_eq!(story.try_person("ana", from(HERE)), Err(SESSIONS));
    assert_eq!(story.try_room(opener, from(HERE)), Err(ROOMS));
    assert!(story.try_person("ana", from(THERE)).is_ok(), "another address has its own share");
    assert!(story.try_room(opener, from(THERE)).is_ok());
    for _ in 0..5 {
        story.person("ana"); // Exempt from limits per address.
        story.room(opener);
    }
    story.end(people[1]);
    assert_eq!(story.try_room(opener, from(HERE)), Err(ROOMS), "the shares are separate");
    story.try_person("ana", from(HERE)).unwrap();
    assert_eq!(story.try_person("ana", from(HERE)), Err(SESSIONS));
    story.delete(opener, rooms[2]).unwrap();
    story.try_room(opener, from(HERE)).unwrap();
    assert_eq!(story.try_room(opener, from(HERE)), Err(ROOMS));
}

// contract §3.13
#[test]
fn what_has_expired_no_longer_counts_against_the_share() {
    let mut story = Story::with(|config| config.address_sessions_max = Some(2));
    for _ in 0..3 {
        let ana = story.try_person("ana", from(HERE)).unwrap();
        story.try_room(ana, from(HERE)).unwrap();
        story.try_person("bob", from(HERE)).unwrap();
        story.try_room(ana, from(HERE)).unwrap();
        assert_eq!(story.try_person("cyd", from(HERE)), Err(SESSIONS));
        assert_eq!(story.try_room(ana, from(HERE)), Err(ROOMS));
        story.wait(25 * HOUR);
        story.assert_empty();
    }
}

// contract §12.25
#[test]
fn without_a_limit_an_address_holds_any_number_of_sessions_and_rooms() {
    let mut story = Story::with(|config| config.address_sessions_max = None);
    let ana = story.person("ana");
    for _ in 0..SESSION_ROOMS_MAX {
        story.try_room(ana, from("2001:db8::1")).unwrap();
        story.try_person("ana", from("2001:db8::1")).unwrap();
    }
}

// contract §3.14
#[test]
fn a_session_gives_way_after_ten_minutes_without_a_connection() {
    let mut story = story(1);
    let room = {
        let host = story.person("host");
        story.room(host)
    };
    let first = story.try_person("ana", from(HERE)).unwrap();
    story.wait(10 * MINUTE - SECOND);
    assert_eq!(story.try_person("ana", from(HERE)), Err(SESSIONS));
    story.wait(SECOND);
    let second = story.try_person("ana", from(HERE)).unwrap();
    assert!(!story.session_exists(first));
    // A connection keeps it, and so does the time after its end.
    let tab = story.enter(second, room);
    story.wait(HOUR);
    assert_eq!(story.try_person("ana", from(HERE)), Err(SESSIONS));
    story.break_connection(tab);
    story.wait(10 * MINUTE - SECOND);
    assert_eq!(story.try_person("ana", from(HERE)), Err(SESSIONS));
    // A use by REST restarts the ttl, but only connections keep a session when the share is full.
    story.chat.touch(story.now, second);
    story.wait(SECOND);
    story.try_person("ana", from(HERE)).unwrap();
    assert!(!story.session_exists(second));
}

// contract §3.14
#[test]
fn the_session_unused_longest_gives_way() {
    let mut story = story(3);
    let host = story.person("host");
    let room = story.room(host);
    let [a, b, c] = story.three_people();
    story.wait(SECOND);
    story.chat.touch(story.now, a);
    let tab = story.enter(b, room);
    story.wait(10 * MINUTE);
    let next = |story: &mut Story| story.gave_way(&[a, b, c]);
    assert_eq!(next(&mut story), Some(2), "a was used later, and b has a connection");
    assert_eq!(next(&mut story), Some(0));
    story.close(tab);
    assert_eq!(story.try_person("new", from(HERE)), Err(SESSIONS), "the others are too new");
    story.wait(10 * MINUTE);
    assert_eq!(next(&mut story), None, "the two new ones were created before b's connection ended");
    assert_eq!(next(&mut story), None);
    assert_eq!(next(&mut story), Some(1));
}

// contract §3.14
#[test]
fn a_waiting_connection_keeps_its_session_from_giving_way() {
    let mut story = story(1);
    story.chat = Chat::new(
        ChatConfig { probe_timeout: HOUR, ..story.chat.config },
        Box::new(SeededEntropy::new(1)),
        &story.ledger,
    );
    let (_, room, _) = story.begin("ana");
    let namesake = story.try_person("ana", from(HERE)).unwrap();
    story.enter_waiting(namesake, room);
    story.wait(20 * MINUTE);
    assert_eq!(story.try_person("bob", from(HERE)), Err(SESSIONS));
}

// contract §3.14
#[test]
fn a_session_that_gives_way_ends_like_one_whose_ttl_has_run_out() {
    let mut story = Story::with(|config| {
        config.address_sessions_max = Some(1);
        config.leave_grace = HOUR;
    });
    let (_, _, host_tab) = story.begin("host");
    let host_room = story.chat.room_of(host_tab.attachment).unwrap();
    let ana = story.try_person("ana", from(HERE)).unwrap();
    let owned = story.room(ana);
    let bob = story.person("bob");
    story.enter(bob, owned);
    let tab = story.enter(ana, host_room);
    story.break_connection(tab);
    story.wait(10 * MINUTE);
    story.assert_received(host_tab, &["joined ana"]);
    story.try_person("new", from(HERE)).unwrap();
    story.assert_received(host_tab, &["left ana"]);
    assert!(!story.session_exists(ana));
    story.delete(bob, owned).unwrap(); // It has passed to bob.
}

// contract §3.14
#[test]
fn a_room_gives_way_after_it_has_been_empty_for_ten_minutes() {
    let mut story = story(1);
    let ana = story.person("ana");
    let first = story.try_room(ana, from(HERE)).unwrap();
    story.wait(10 * MINUTE - SECOND);
    assert_eq!(story.try_room(ana, from(HERE)), Err(ROOMS));
    // A post by REST restarts the ttl. The room is as empty as before.
    story.post(ana, first, "outside", None).unwrap();
    story.wait(SECOND);
    let second = story.try_room(ana, from(HERE)).unwrap();
    assert!(!story.exists(first) && story.exists(second));
    assert_eq!(story.chat.rooms_of(ana).len(), 1);
    let tab = story.enter(ana, second);
    story.wait(HOUR);
    assert_eq!(story.try_room(ana, from(HERE)), Err(ROOMS));
    story.break_connection(tab);
    story.wait(10 * MINUTE - SECOND);
    assert_eq!(story.try_room(ana, from(HERE)), Err(ROOMS));
    story.wait(SECOND);
    story.try_room(ana, from(HERE)).unwrap();
    assert!(!story.exists(second));
}

// contract §3.14
#[test]
fn the_room_empty_longest_gives_way() {
    let mut story = story(3);
    let ana = story.person("ana");
    let [a, b, c] = story.three_rooms(ana);
    let tabs = [a, b].map(|room| story.enter(ana, room));
    story.wait(SECOND);
    story.close(tabs[1]);
    story.close(tabs[0]);
    story.wait(10 * MINUTE);
    for expected in [c, b, a] {
        assert!(story.exists(expected));
        story.try_room(ana, from(HERE)).unwrap();
        assert!(!story.exists(expected));
    }
    assert_eq!(story.try_room(ana, from(HERE)), Err(ROOMS));
}

// contract §3.13
#[test]
fn a_room_counts_to_the_address_that_created_it_after_a_hand_over() {
    let mut story = story(1);
    let ana = story.try_person("ana", from(HERE)).unwrap();
    let bob = story.try_person("bob", from(THERE)).unwrap();
    let room = story.try_room(ana, from(HERE)).unwrap();
    let tab = story.enter(bob, room);
    story.end(ana); // The room passes to bob.
    let other = story.try_person("ana", from(HERE)).unwrap();
    assert_eq!(story.try_room(other, from(HERE)), Err(ROOMS));
    let bobs = story.try_room(bob, from(THERE)).unwrap();
    assert_eq!(story.try_room(bob, from(THERE)), Err(ROOMS));
    story.close(tab);
    story.wait(10 * MINUTE);
    story.try_room(other, from(HERE)).unwrap();
    assert!(!story.exists(room) && story.exists(bobs));
}

// contract §3.13
#[test]
fn a_network_of_ipv6_has_eight_shares() {
    let mut story = story(2);
    let ana = story.person("ana");
    let subnet = |n: usize| from(&format!("2001:db8:1:{n:x}::1"));
    for n in 0..8 {
        for _ in 0..2 {
            story.try_person("ana", subnet(n)).unwrap();
            story.try_room(ana, subnet(n)).unwrap();
        }
        assert_eq!(story.try_person("ana", subnet(n)), Err(SESSIONS), "a /64 has one share");
    }
    assert_eq!(story.try_person("ana", subnet(8)), Err(SESSIONS));
    assert_eq!(story.try_room(ana, subnet(8)), Err(ROOMS));
    assert!(story.try_person("ana", from("2001:db8:2::1")).is_ok(), "another /48");
    assert!(story.try_room(ana, from("2001:db8:2::1")).is_ok());
    // Only what the /64 itself has created gives way.
    story.wait(10 * MINUTE);
    assert_eq!(story.try_person("ana", subnet(8)), Err(SESSIONS));
    assert_eq!(story.try_room(ana, subnet(8)), Err(ROOMS));
    story.try_person("ana", subnet(7)).unwrap();
    story.try_room(ana, subnet(7)).unwrap();
}

// contract §3.15
#[test]
fn a_refusal_for_the_share_is_charged_to_no_rate_and_one_for_the_rate_ends_nothing() {
    let mut story = Story::with(|config| {
        config.address_sessions_max = Some(2);
        config.session_pace = Pace::new(1, HOUR, 3);
        config.room_pace = Pace::new(1, HOUR, 3);
        config.new_room_ttl = HOUR;
    });
    let ana = story.person("ana");
    for _ in 0..2 {
        story.try_person("ana", from(HERE)).unwrap();
        story.try_room(ana, from(HERE)).unwrap();
    }
    for _ in 0..5 {
        assert_eq!(story.try_person("ana", from(HERE)), Err(SESSIONS));
        assert_eq!(story.try_room(ana, from(HERE)), Err(ROOMS));
    }
    story.wait(10 * MINUTE);
    story.try_person("ana", from(HERE)).unwrap();
    story.try_room(ana, from(HERE)).unwrap();
    let before = (story.chat.session_count(), story.chat.room_count());
    let refused = story.try_person("ana", from(HERE));
    assert!(matches!(refused, Err(Refusal::RateLimited(_))), "{refused:?}");
    let refused = story.try_room(ana, from(HERE));
    assert!(matches!(refused, Err(Refusal::RateLimited(_))), "{refused:?}");
    assert_eq!((story.chat.session_count(), story.chat.room_count()), before);
}

// contract §3.15
#[test]
fn a_full_server_is_checked_before_the_share() {
    let mut story = Story::with(|config| {
        config.address_sessions_max = Some(1);
        config.sessions_max = 2;
        config.rooms_max = 1;
        config.new_room_ttl = HOUR;
    });
    let ana = story.person("ana");
    let first = story.try_person("ana", from(HERE)).unwrap();
    let room = story.try_room(ana, from(HERE)).unwrap();
    story.wait(11 * MINUTE);
    assert_eq!(story.try_person("ana", from(HERE)), Err(Refusal::ServerFull));
    assert_eq!(story.try_room(ana, from(HERE)), Err(Refusal::ServerFull));
    assert!(story.session_exists(first) && story.exists(room), "nothing has given way");
}

#[test]
fn the_entry_of_an_address_lives_as_long_as_its_sessions_and_rooms() {
    let mut story = story(5);
    let ana = story.person("ana");
    for text in [HERE, "2001:db8::1"] {
        let session = story.try_person("bob", from(text)).unwrap();
        let room = story.try_room(ana, from(text)).unwrap();
        story.wait(HOUR);
        // A network of IPv6 has an entry of its own.
        let count = if text == HERE { 1 } else { 2 };
        assert_eq!(story.chat.addresses.iter().count(), count);
        story.end(session);
        story.wait(HOUR);
        assert_eq!(story.chat.addresses.iter().count(), count);
        story.delete(ana, room).unwrap();
        assert_eq!((story.chat.addresses.iter().count(), story.chat.addresses.bytes()), (0, 0));
    }
    story.end(ana);
    story.assert_empty();
}

#[test]
fn a_share_of_one_that_gives_way_keeps_the_entry_of_its_address() {
    // Between the end of the old session and the start of the new one the address held nothing.
    let mut story = story(1);
    let ana = story.person("ana");
    for _ in 0..3 {
        story.try_person("bob", from(HERE)).unwrap();
        story.try_room(ana, from(HERE)).unwrap();
        story.wait(10 * MINUTE);
    }
    assert_eq!((story.chat.session_count(), story.chat.room_count()), (2, 1));
}

// contract §3.13
#[test]
fn shares_survive_a_restart() {
    let mut story = story(2);
    let ana = story.person("ana");
    for text in [HERE, "2001:db8:1::1"] {
        story.try_person("bob", from(text)).unwrap();
        story.try_room(ana, from(text)).unwrap();
    }
    let ana = story.session_id(ana);
    story.restart(Wall::from_micros(1_755_611_200_000_000));
    let ana = story.chat.session(ana).unwrap();
    for text in [HERE, "2001:db8:1::1"] {
        story.try_person("cyd", from(text)).unwrap();
        story.try_room(ana, from(text)).unwrap();
        assert_eq!(story.try_person("cyd", from(text)), Err(SESSIONS));
        assert_eq!(story.try_room(ana, from(text)), Err(ROOMS));
    }
    story.wait(10 * MINUTE); // Without a connection since the restart.
    for text in [HERE, "2001:db8:1::1"] {
        story.try_person("dan", from(text)).unwrap();
        story.try_room(ana, from(text)).unwrap();
    }
}
