//! Rooms: opening, shares, passwords, joining, reading, lists, and the end.

use super::{ANA, BO, CY, Entry, HIDDEN, HOUR, Node, P, Person, ROOM, Scene, each};

const GIVE_WAY: &str = "600000000";

/// Opens a room of an address: `max a64 a48 share interval burst`, as in [`Node::run`].
fn open(node: &mut Node, room: &str, limits: &str) -> String {
    let person = format!("{} ana ana ''", ANA.uid);
    node.says(&format!("open_room {room} {person} '' '' '' 0 '' {HOUR} {limits} {GIVE_WAY}"))
}

/// `guess` with these rates: interval, burst, and those of the room.
fn guess(node: &mut Node, who: Person, addr: &str, rates: &str) -> String {
    node.says(&format!("guess {HIDDEN} {} {addr} {rates}", who.uid))
}

/// `join` of a room with a password: over, lock_seen, refund.
fn join(node: &mut Node, who: Person, addr: &str, rest: &str) -> String {
    let Person { uid, name, .. } = who;
    node.says(&format!("join {HIDDEN} {uid} {name} {name} {addr} {rest} 3600000000 60000000"))
}

#[test]
fn a_room_is_refused_for_the_maximum_then_the_share_then_the_rate() {
    each(|store| {
        let mut scene = Scene::on(store);
        assert_eq!(open(&mut scene.a, ROOM, "0 a1 '' 0 0 1"), "[FULL]");
        assert_eq!(open(&mut scene.a, "0000000001", &format!("9 a1 n1 2 {HOUR} 2")), "[OK '']");
        let again = open(&mut scene.a, "0000000001", "9 a1 n1 2 0 1");
        assert_eq!(again, format!("[EXISTS {}]", ANA.uid), "sent twice, or drawn twice");
        assert_eq!(open(&mut scene.b, "0000000002", &format!("9 a1 n1 2 {HOUR} 2")), "[OK '']");
        assert_eq!(open(&mut scene.b, "0000000003", &format!("2 a1 n1 2 {HOUR} 2")), "[FULL]");
        assert_eq!(open(&mut scene.b, "0000000003", &format!("9 a1 n1 2 {HOUR} 2")), "[SHARE]");
        let wait = open(&mut scene.b, "0000000003", &format!("9 a1 n1 3 {HOUR} 2"));
        assert!(wait.starts_with("[RATE 35") || wait.starts_with("[RATE 36"), "{wait}");
        assert_eq!(open(&mut scene.b, "0000000003", &format!("9 '' '' 2 {HOUR} 2")), "[OK '']");
        assert_eq!(scene.a.says("count"), "[OK 0 3]");
    });
}

#[test]
fn the_room_that_has_been_empty_longest_gives_way() {
    each(|store| {
        let mut scene = Scene::on(store);
        open(&mut scene.a, "0000000001", "9 a1 n1 2 0 1");
        open(&mut scene.a, "0000000002", "9 a1 n1 2 0 1");
        let long_ago = scene.now() - 601_000_000;
        scene.stored(&format!("ZADD ^ar:a1 {long_ago} 0000000001"));
        // A socket saves it, and its end begins the time anew.
        scene.a.admit("0000000001", ANA);
        assert_eq!(open(&mut scene.b, ROOM, "9 a1 n1 2 0 1"), "[SHARE]");
        scene.a.exit("0000000001", ANA, "closed");
        assert_eq!(open(&mut scene.b, ROOM, "9 a1 n1 2 0 1"), "[SHARE]");
        scene.stored(&format!("ZADD ^ar:a1 {long_ago} 0000000001"));
        scene.c.run(&format!("look 0000000001 {} read '' 1", ANA.uid));
        assert_eq!(open(&mut scene.b, ROOM, "9 a1 n1 2 0 1"), "[OK 0000000001]");
        assert_eq!(scene.c.heard(), ["D 0000000001 gone"]);
        assert_eq!((scene.a.heard(), scene.b.heard()), (vec!["D 0000000001 gone".into()], vec![]));
        assert_eq!(scene.a.says("count"), "[OK 0 2]");
        for share in ["ar:a1", "ar:n1"] {
            assert_eq!(scene.stored(&format!("ZCARD ^{share}")).number(), 2);
        }
        // A room that went with its time to live holds no share.
        scene.stored("DEL ^r:0000000002");
        assert_eq!(open(&mut scene.b, "0000000003", "9 a1 n1 2 0 1"), "[OK '']");
    });
}

#[test]
fn a_rooms_facts_say_what_its_creator_wanted() {
    each(|store| {
        let mut scene = Scene::on(store);
        let facts = |scene: &mut Scene, room: &str, options: &str| {
            scene.a.open_room_with(room, ANA, options);
            let reply = scene.b.run(&format!("look {room} '' show '' ''"));
            assert_eq!(reply.at(2).text(), "0-0");
            let facts = reply.at(1).text();
            let created = scene.field(&format!("r:{room}"), "c");
            let end = scene.field(&format!("r:{room}"), "z");
            facts.replace(&created, "CREATED").replace(&format!(" {end} "), " END ")
        };
        let uid = ANA.uid;
        assert_eq!(facts(&mut scene, ROOM, "'' '' '' 0 ''"), format!("- 0 {uid} CREATED END 0 "));
        assert_eq!(
            facts(&mut scene, HIDDEN, "a~title salt~hash pe 10 60000000"),
            format!("ple 10 {uid} CREATED END 0 a title")
        );
        let life = scene.field(&format!("r:{HIDDEN}"), "z").parse::<i64>().unwrap()
            - scene.field(&format!("r:{HIDDEN}"), "c").parse::<i64>().unwrap();
        assert_eq!(life, 60_000_000);
        assert_eq!(scene.a.says("look 0000000000 '' show '' ''"), "[NOROOM]");
        // The creator is a member, and every key dies by itself one day.
        let members =
            format!("members {ROOM} {uid} {HIDDEN} {} {HIDDEN} {uid} 0000000000 {uid}", BO.uid);
        assert_eq!(scene.c.says(&members), "[OK [1 '' 1 '']]");
        for key in scene.keys() {
            let fixed = ["due", "rooms", "ix", "ir"].contains(&key.as_str());
            let life = scene.stored(&format!("PTTL ^{key}")).number();
            assert_eq!(life < 0, fixed, "{key}");
        }
    });
}

#[test]
fn guessing_costs_a_token_of_the_address_and_of_the_room_until_the_password_was_right() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_room_with(HIDDEN, ANA, "'' salt~hash p 0 ''");
        let rates = "3600000000 2 60000000 3";
        assert_eq!(scene.a.says("guess 0000000000 x '' 1 1 1 1"), "[NOROOM]");
        assert_eq!(guess(&mut scene.a, ANA, "''", rates), "[IN]", "members are not asked");
        assert_eq!(guess(&mut scene.a, BO, "''", rates), "[LOCK salt hash]");
        assert_eq!(guess(&mut scene.b, CY, "''", rates), "[LOCK salt hash]");
        let wait = guess(&mut scene.a, BO, "''", rates);
        assert!(wait.starts_with("[RATE 35"), "all exempt peers are one address: {wait}");
        assert_eq!(guess(&mut scene.a, BO, "addr1", rates), "[LOCK salt hash]");
        let wait = guess(&mut scene.a, BO, "addr2", rates);
        assert!(wait.starts_with("[RATE 59") || wait.starts_with("[RATE 60"), "the room's: {wait}");
        // A right guess was none.
        assert_eq!(join(&mut scene.a, BO, "addr1", "'' salt~hash addr1"), "[OK]");
        assert_eq!(guess(&mut scene.a, CY, "addr1", rates), "[LOCK salt hash]");
        assert!(guess(&mut scene.a, CY, "addr1", rates).starts_with("[RATE "));
        assert_eq!(guess(&mut scene.a, CY, "addr3", "0 1 0 1"), "[LOCK salt hash]", "unlimited");
        // Given back, also if the room has another password by now.
        assert_eq!(join(&mut scene.a, CY, "addr1", "'' salt~other addr1"), "[AGAIN]");
        assert_eq!(guess(&mut scene.a, CY, "addr1", rates), "[LOCK salt hash]");
        // Without a password nothing is guessed, and nothing remembered.
        scene.a.change(HIDDEN, ANA, "'' '' '' '' none '' '' '' ''");
        assert_eq!(guess(&mut scene.a, CY, "addr1", rates), "[IN]");
        assert_eq!(scene.stored(&format!("EXISTS ^gu:{HIDDEN} ^gr:{HIDDEN}")).number(), 0);
    });
}

#[test]
fn what_is_remembered_of_guessers_ends_by_itself_and_is_bounded() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_room_with(HIDDEN, ANA, "'' salt~hash p 0 ''");
        assert_eq!(guess(&mut scene.a, BO, "addr1", "10000000 5 1000000 60"), "[LOCK salt hash]");
        let life = scene.stored(&format!("PTTL ^gu:{HIDDEN}")).number();
        assert!((40_000..=50_001).contains(&life), "{life}");
        let life = scene.stored(&format!("PTTL ^gr:{HIDDEN}")).number();
        assert!((500..=1_001).contains(&life), "{life}");
        let now = scene.now();
        let many: String = (0..5000).map(|n| format!(" {} x{n}", now + 60_000_000 + n)).collect();
        scene.stored(&format!("ZADD ^gu:{HIDDEN}{many}"));
        scene.stored(&format!("ZADD ^gu:{HIDDEN} 1 idle"));
        guess(&mut scene.a, BO, "addr2", "10000000 5 0 1");
        assert_eq!(scene.stored(&format!("ZSCORE ^gu:{HIDDEN} idle")).to_string(), "-");
        assert_eq!(scene.stored(&format!("ZCARD ^gu:{HIDDEN}")).number(), 4096);
    });
}

#[test]
fn joining_is_refused_in_the_order_of_the_contract() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_room_with(HIDDEN, ANA, "'' salt~hash p 0 ''");
        join(&mut scene.a, CY, "''", "'' salt~hash -");
        scene.a.remove(HIDDEN, ANA.uid, CY, "600000000");
        scene.a.change(HIDDEN, ANA, "'' '' 1 '' '' '' '' '' ''");
        assert_eq!(scene.a.says("join 0000000000 x x x '' 1 '' - 0 0"), "[NOROOM]");
        assert_eq!(join(&mut scene.a, CY, "''", "rooms other -"), "[BANNED]");
        assert_eq!(guess(&mut scene.a, CY, "''", "1 1 1 1"), "[BANNED]");
        assert_eq!(join(&mut scene.a, BO, "''", "rooms other -"), "[LOCKED]");
        assert_eq!(guess(&mut scene.a, BO, "''", "1 1 1 1"), "[LOCKED]");
        assert_eq!(scene.stored(&format!("EXISTS ^gu:{HIDDEN}")).number(), 0, "no guess");
        scene.a.change(HIDDEN, ANA, "'' '' 0 '' '' '' '' '' ''");
        assert_eq!(join(&mut scene.a, BO, "''", "rooms '' -"), "[AGAIN]");
        assert_eq!(join(&mut scene.a, BO, "''", "rooms salt~hash -"), "[OVER]");
        assert_eq!(join(&mut scene.a, BO, "addr1", "'' salt~hash -"), "[OK]");
        // A member is asked for nothing. Only its address changes.
        assert_eq!(join(&mut scene.a, BO, "addr2", "rooms '' -"), "[OK]");
        let member = scene.stored(&format!("HGET ^m:{HIDDEN} {}", BO.uid)).text();
        assert_eq!(member, "addr2\0bo\0bo");
        // The owner, who has left, minds neither bans nor the lock, but the password.
        scene.a.leave(HIDDEN, ANA);
        scene.a.change(HIDDEN, ANA, "'' '' 1 '' '' '' '' '' ''");
        assert_eq!(join(&mut scene.a, ANA, "''", "'' '' -"), "[AGAIN]");
        assert_eq!(guess(&mut scene.a, ANA, "''", "0 1 0 1"), "[LOCK salt hash]");
        assert_eq!(join(&mut scene.a, ANA, "''", "'' salt~hash -"), "[OK]");
    });
}

#[test]
fn reading_needs_what_entering_needs_and_watching_is_an_interest() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_room_with(HIDDEN, ANA, "'' salt~hash p 0 ''");
        let look = |node: &mut Node, who: Person, access: &str, watch: &str| {
            node.run(&format!("look {HIDDEN} {} {access} '' {watch}", who.uid))
        };
        assert_eq!(look(&mut scene.b, BO, "read", "''").to_string(), "[NOMEMBER]");
        scene.a.change(HIDDEN, ANA, "'' '' 1 '' '' '' '' '' ''");
        assert_eq!(look(&mut scene.b, BO, "read", "1").to_string(), "[LOCKED]");
        assert_eq!(look(&mut scene.b, BO, "show", "''").at(0).text(), "OK");
        scene.a.join(HIDDEN, ANA);
        assert_eq!(scene.field(&format!("r:{HIDDEN}"), "n"), "''");
        let shot = look(&mut scene.b, ANA, "read", "1");
        assert_eq!(shot.at(3).at(0), shot.at(1));
        assert_eq!(shot.at(3).at(1).list(), []);
        look(&mut scene.b, ANA, "read", "1");
        assert_eq!(scene.field(&format!("r:{HIDDEN}"), "n"), "node2 ");
        assert_eq!(scene.stored("SMEMBERS ^at:node2").to_string(), format!("[{HIDDEN}]"));
        assert!(scene.stored("PTTL ^at:node2").number() > 100_000_000);
        scene.a.admit(HIDDEN, ANA);
        scene.c.admit(HIDDEN, ANA);
        assert_eq!(scene.b.heard(), ["J ana"]);
        assert_eq!(scene.field(&format!("r:{HIDDEN}"), "n"), "node2 node1 node3 ");
        scene.b.run(&format!("unwatch {HIDDEN}"));
        scene.a.run(&format!("unwatch {HIDDEN}")); // It has somebody there.
        assert_eq!(scene.field(&format!("r:{HIDDEN}"), "n"), "node1 node3 ");
        assert_eq!(scene.stored("EXISTS ^at:node2").number(), 0);
        scene.a.say(HIDDEN, ANA, "x");
        assert_eq!(scene.b.heard(), [""; 0]);
        assert_eq!(scene.b.says("unwatch 0000000000"), "[OK]");
        assert_eq!(scene.stored("EXISTS ^r:0000000000").number(), 0);
    });
}

#[test]
fn public_rooms_are_listed_newest_first_and_the_list_is_as_it_was_while_its_revision_is() {
    each(|store| {
        let mut scene = Scene::on(store);
        let listing = |scene: &mut Scene, rev: &str| {
            let reply = scene.b.run(&format!("listing {rev}"));
            let rooms = reply.at(2).list().chunks(2).map(|pair| {
                let words: Vec<_> = pair[1].text().split(' ').map(String::from).collect();
                format!("{} {}", pair[0], words[5])
            });
            (reply.at(0).text(), rooms.collect::<Vec<_>>(), reply.at(1).text())
        };
        assert_eq!(scene.a.says("listing x"), "[OK 0 []]");
        scene.a.open_room("0000000001", ANA);
        scene.a.open_room("0000000002", ANA);
        scene.a.open_room_with(HIDDEN, ANA, "'' '' p 0 ''");
        let (_, rooms, rev) = listing(&mut scene, "x");
        assert_eq!(rooms, ["0000000002 0", "0000000001 0"]);
        assert_eq!(listing(&mut scene, &rev), ("SAME".into(), vec![], rev.clone()));
        scene.a.admit(HIDDEN, ANA);
        scene.a.join("0000000001", BO);
        assert_eq!(listing(&mut scene, &rev).0, "SAME", "it shows neither");
        scene.a.admit("0000000001", ANA);
        let (status, rooms, rev) = listing(&mut scene, &rev);
        assert_eq!(
            (status, rooms),
            ("OK".into(), vec!["0000000002 0".into(), "0000000001 1".into()])
        );
        scene.a.exit("0000000001", ANA, "closed");
        let (_, rooms, rev) = listing(&mut scene, &rev);
        assert_eq!(rooms, ["0000000002 0", "0000000001 0"]);
        scene.a.change("0000000002", ANA, "'' '' '' '' set '' '' salt~hash ''");
        let (_, rooms, rev) = listing(&mut scene, &rev);
        assert_eq!(rooms, ["0000000001 0"]);
        scene.a.change("0000000002", ANA, "'' '' '' '' none '' '' '' ''");
        assert_eq!(listing(&mut scene, &rev).0, "SAME", "off the list for good");
        scene.a.run(&format!("delete_room 0000000001 {}", ANA.uid));
        assert_eq!(listing(&mut scene, &rev).1, [""; 0]);
    });
}

#[test]
fn the_operator_sees_all_rooms_in_pages() {
    each(|store| {
        let mut scene = Scene::on(store);
        let rooms = ["0000000001", "0000000002", HIDDEN];
        for room in rooms {
            scene.a.open_room_with(room, ANA, "'' '' p 0 ''");
        }
        scene.a.admit(rooms[1], ANA);
        let id = scene.a.say(rooms[1], ANA, "x");
        scene.a.delete_message(rooms[1], ANA, &id);
        let page = scene.b.run("usage '' 2");
        assert_eq!(page.at(2).list().len(), 8);
        assert_eq!(page.at(2).at(0).text(), rooms[0]);
        assert_eq!((page.at(2).at(2).text(), page.at(2).at(3).text()), ("0".into(), "0".into()));
        assert_eq!(
            (page.at(2).at(4).text(), page.at(2).at(6).text()),
            (rooms[1].into(), "3".into())
        );
        assert!(page.at(2).at(7).number() > 100, "bytes");
        let last = scene.b.run(&format!("usage {} 2", page.at(1)));
        assert_eq!((last.at(1).text(), last.at(2).at(0).text()), ("".into(), rooms[2].into()));
        assert_eq!(scene.b.says("usage 9000000000000000 2"), "[OK '' []]");
    });
}

#[test]
fn a_room_is_deleted_by_its_owner_or_the_operator_with_all_its_keys() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_room_with(ROOM, ANA, "a~title '' '' 10 60000000");
        scene.a.admit(ROOM, ANA);
        scene.b.admit(ROOM, BO);
        scene.c.enter(ROOM, &Entry { addr: "addr", ..Entry::of(CY) });
        let id = scene.b.say(ROOM, BO, "x");
        scene.b.delete_message(ROOM, BO, &id);
        scene.b.post(ROOM, &super::Post { nonce: "n", ..super::Post::of(ANA, "y") });
        scene.a.remove(ROOM, ANA.uid, CY, "600000000");
        scene.c.heard();
        scene.b.heard();
        assert_eq!(scene.a.says("delete_room 0000000000 ''"), "[NOROOM]");
        assert_eq!(scene.b.says(&format!("delete_room {ROOM} {}", BO.uid)), "[NOTOWNER]");
        assert_eq!(scene.a.says(&format!("delete_room {ROOM} {}", ANA.uid)), "[OK]");
        let told = format!("D {ROOM} deleted");
        assert_eq!((scene.b.heard(), scene.c.heard()), (vec![told.clone()], vec![told]));
        assert!(!scene.a.heard().iter().any(|push| push.starts_with('D')));
        assert_eq!(scene.keys(), [""; 0]);
        // What is still on its way finds no room, and makes none.
        scene.b.exit(ROOM, BO, "closed");
        scene.b.leave(ROOM, BO);
        scene.b.quit(ROOM, BO);
        scene.b.run(&format!("alive {ROOM} {}", BO.uid));
        assert_eq!(scene.keys(), [""; 0]);
        scene.a.open_room(ROOM, ANA);
        assert_eq!(scene.c.says(&format!("delete_room {ROOM} ''")), "[OK]");
    });
}

#[test]
fn rooms_end_when_they_are_empty_or_their_ttl_is_over() {
    each(|store| {
        let mut scene = Scene::on(store);
        let end = |scene: &mut Scene, field: &str| {
            scene.stored(&format!("HSET ^r:{ROOM} {field} 1"));
            scene.make_due(&format!("e:{ROOM}"));
            assert_eq!(scene.b.reap("16").to_string(), "[OK '' []]");
            scene.keys()
        };
        scene.a.open_room(ROOM, ANA);
        scene.a.run(&format!("look {ROOM} '' show '' 1"));
        assert_eq!(end(&mut scene, "e"), [""; 0]);
        assert_eq!(scene.a.heard(), [format!("D {ROOM} gone")]);
        scene.a.open_room_with(ROOM, ANA, "'' '' '' 0 60000000");
        scene.b.admit(ROOM, ANA);
        assert_eq!(end(&mut scene, "z"), [""; 0]);
        assert_eq!(scene.b.heard(), [format!("D {ROOM} expired")], "the caller too");
        // Moved meanwhile: it is put where it belongs.
        scene.a.open_room_with(ROOM, ANA, "'' '' '' 0 60000000");
        scene.make_due(&format!("e:{ROOM}"));
        scene.b.reap("16");
        let due = scene.stored(&format!("ZSCORE ^due e:{ROOM}")).text();
        assert_eq!(due, scene.field(&format!("r:{ROOM}"), "z"));
        scene.b.admit(ROOM, ANA);
        assert_eq!(scene.stored(&format!("ZSCORE ^due e:{ROOM}")).text(), due, "the ttl stays");
        assert_eq!(scene.a.says(&format!("delete_room {ROOM} ''")), "[OK]");
        // A stay without a ttl has no end.
        scene.a.open_room(ROOM, ANA);
        scene.b.admit(ROOM, ANA);
        assert_eq!(scene.stored(&format!("ZSCORE ^due e:{ROOM}")).to_string(), "-");
    });
}

#[test]
fn a_rooms_keys_are_renewed_while_it_lives_and_indices_are_tidied_when_it_does_not() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_room(ROOM, ANA);
        scene.a.admit(ROOM, ANA);
        scene.a.say(ROOM, ANA, "x");
        for key in scene.keys() {
            if key.contains(ROOM) {
                scene.stored(&format!("PEXPIRE ^{key} 5000"));
            }
        }
        scene.make_due(&format!("k:{ROOM}"));
        scene.b.reap("16");
        let keys = scene.keys();
        assert!(keys.len() >= 10, "{keys:?}");
        for key in keys.iter().filter(|key| key.contains(ROOM)) {
            assert!(scene.stored(&format!("PTTL ^{key}")).number() > 90_000_000, "{key}");
        }
        let due = scene.stored(&format!("ZSCORE ^due k:{ROOM}")).number() - scene.now();
        assert!((40_000_000_000..=43_200_000_000).contains(&due), "{due}");
        // All nodes were away until the room's keys had gone.
        for key in keys.iter().filter(|key| key.contains(ROOM)) {
            scene.admin.must(&["DEL", &format!("{P}{key}")]);
        }
        scene.stored("DEL ^at:node1");
        scene.make_due(&format!("k:{ROOM}"));
        scene.b.reap("16");
        assert_eq!(scene.keys(), [""; 0]);
        assert_eq!(scene.a.says("count"), "[OK 0 0]");
    });
}
