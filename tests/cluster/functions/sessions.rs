//! Sessions: their shares, their time, the rooms that they have joined, and their sockets at all nodes.

use super::{ANA, BO, CY, DAY, HIDDEN, HOUR, Node, Person, ROOM, Scene, each};

/// What an address may have in the tests of shares.
const GIVE_WAY: &str = "600000000";

/// Opens a session of an address: `a64 a48 share interval burst`, as in [`Node::run`].
fn open(node: &mut Node, sh: &str, limits: &str) -> String {
    node.says(&format!("open_session {sh} ana {DAY} 100 {limits} {GIVE_WAY}"))
}

fn attach(node: &mut Node, who: Person, room: &str) -> String {
    let reply = node.run(&format!("attach {} {room} {DAY} 3 2 0 20", who.sh));
    format!("{} {} {}", reply.at(0), reply.at(1), reply.at(2))
}

fn sockets(scene: &mut Scene, who: Person) -> String {
    let session = format!("s:{}", who.sh);
    let fields = ["c", "c:node1", "c:node2"].map(|field| scene.field(&session, field));
    fields.join(" ")
}

#[test]
fn a_session_is_refused_for_the_maximum_then_the_share_then_the_rate() {
    each(|store| {
        let mut scene = Scene::on(store);
        let full = format!("open_session e1 ana {DAY} 0 a1 '' 0 {HOUR} 1 {GIVE_WAY}");
        assert_eq!(scene.a.says(&full), "[FULL]");
        assert_eq!(open(&mut scene.a, "e1", &format!("a1 '' 2 {HOUR} 2")), "[OK '']");
        assert_eq!(open(&mut scene.a, "e1", "a1 '' 2 1 1"), "[OK '']", "sent twice");
        assert_eq!(open(&mut scene.b, "e2", &format!("a1 '' 2 {HOUR} 2")), "[OK '']");
        assert_eq!(open(&mut scene.b, "e3", &format!("a1 '' 2 {HOUR} 2")), "[SHARE]");
        let wait = open(&mut scene.b, "e3", &format!("a1 '' 3 {HOUR} 2"));
        assert!(wait.starts_with("[RATE 35") || wait.starts_with("[RATE 36"), "{wait}");
        assert_eq!(scene.a.says("count"), "[OK 2 0]");
        // Other addresses, exempt peers and an unlimited share are not concerned.
        assert_eq!(open(&mut scene.a, "e4", &format!("a2 '' 2 {HOUR} 2")), "[OK '']");
        for sh in ["e5", "e6", "e7"] {
            assert_eq!(open(&mut scene.a, sh, &format!("'' '' 2 {HOUR} 2")), "[OK '']");
            assert_eq!(open(&mut scene.a, &sh.replace('e', "f"), "a3 '' '' 0 1"), "[OK '']");
        }
        assert_eq!(scene.stored("ZCARD ^as:a3").number(), 3, "they count all the same");
    });
}

#[test]
fn the_session_unused_longest_gives_way_if_it_has_had_no_socket_for_long_enough() {
    each(|store| {
        let mut scene = Scene::on(store);
        for sh in ["e1", "e2", "e3"] {
            assert_eq!(open(&mut scene.a, sh, "a1 n1 3 0 1"), "[OK '']");
        }
        let long_ago = scene.now() - 601_000_000;
        scene.stored(&format!("HSET ^s:e1 i {long_ago}"));
        scene.stored(&format!("HSET ^s:e2 i {long_ago}"));
        // A use puts it at the end of the line, and does not count as a socket.
        scene.a.run(&format!("touch e1 {DAY} ''"));
        assert_eq!(open(&mut scene.b, "e4", "a1 n1 3 0 1"), "[OK e2]");
        assert_eq!(scene.b.says(&format!("touch e2 {DAY} ''")), "[NOSESSION]");
        let due = scene.a.reap("16");
        assert_eq!(due.at(2).to_string(), "[e2]", "if the caller does not come to it");
        // What has a socket gives way to nobody.
        scene.b.run(&format!("attach e1 {ROOM} {DAY} 20 200 0 20"));
        assert_eq!(open(&mut scene.b, "e5", "a1 n1 3 0 1"), "[SHARE]");
        scene.b.run(&format!("detach e1 {DAY}"));
        assert_eq!(open(&mut scene.b, "e5", "a1 n1 3 0 1"), "[SHARE]", "its time begins anew");
        // A refusal by the rate costs nobody its session.
        scene.stored(&format!("HSET ^s:e3 i {long_ago}"));
        scene.stored("SET ^cs:a1 9000000000000000");
        assert!(open(&mut scene.b, "e5", "a1 n1 3 1000 1").starts_with("[RATE "));
        assert_eq!(scene.field("s:e3", "x"), "-");
        // A session that went with its time to live holds no share.
        scene.stored("DEL ^s:e3");
        assert_eq!(open(&mut scene.b, "e5", "a1 n1 3 0 1"), "[OK '']");
        assert_eq!(scene.stored("ZCARD ^as:a1").number(), 3);
        assert_eq!(scene.stored("ZCARD ^as:n1").number(), 3);
    });
}

#[test]
fn a_network_holds_eight_shares_and_only_the_asking_address_gives_way() {
    each(|store| {
        let mut scene = Scene::on(store);
        for number in 0..8 {
            let limits = format!("a{number} n1 1 0 1");
            assert_eq!(open(&mut scene.a, &format!("e{number}"), &limits), "[OK '']");
        }
        let long_ago = scene.now() - 601_000_000;
        scene.stored(&format!("HSET ^s:e3 i {long_ago}"));
        assert_eq!(open(&mut scene.a, "e8", "a8 n1 1 0 1"), "[SHARE]");
        assert_eq!(open(&mut scene.a, "e8", "a3 n1 1 0 1"), "[OK e3]");
        assert_eq!(open(&mut scene.a, "e9", "a9 n2 1 0 1"), "[OK '']");
    });
}

#[test]
fn a_session_ends_after_its_time_and_each_use_begins_it_anew() {
    each(|store| {
        let mut scene = Scene::on(store);
        let touch = |scene: &mut Scene| scene.b.says(&format!("touch {} {DAY} ''", ANA.sh));
        assert_eq!(touch(&mut scene), "[NOSESSION]");
        scene.a.open_session(ANA);
        let session = format!("s:{}", ANA.sh);
        let end = scene.field(&session, "e");
        assert_eq!(touch(&mut scene), "[OK ana '']");
        assert_eq!(scene.field(&session, "e"), end, "most uses write nothing");
        let soon = scene.now() + 1_000_000_000;
        scene.stored(&format!("HSET ^{session} e {soon}"));
        scene.stored(&format!("PEXPIRE ^{session} 100000"));
        assert_eq!(touch(&mut scene), "[OK ana '']");
        let ends = scene.field(&session, "e").parse::<i64>().unwrap() - scene.now();
        assert!((86_400_000_000..=87_750_000_000).contains(&ends), "1 to 65/64 of a day: {ends}");
        let life = scene.stored(&format!("PTTL ^{session}")).number();
        assert!(life > ends / 1000, "{life}");
        // Its entry in `due` is the old one. It is put where it belongs when it comes.
        scene.make_due(&format!("s:{}", ANA.sh));
        assert_eq!(scene.a.reap("16").to_string(), "[OK '' []]");
        let due = scene.stored(&format!("ZSCORE ^due s:{}", ANA.sh)).text();
        assert_eq!(due, scene.field(&session, "e"));
        // Over is over, before anybody reaps.
        scene.stored(&format!("HSET ^{session} e 1"));
        for words in [format!("touch {} {DAY} ''", ANA.sh), format!("declare {} 1 {DAY}", ANA.sh)] {
            assert_eq!(scene.a.says(&words), "[NOSESSION]");
        }
        let others = [
            format!("reserve {} {ROOM} {DAY} 200", ANA.sh),
            format!("attach {} {ROOM} {DAY} 20 200 0 20", ANA.sh),
        ];
        for words in others {
            assert_eq!(scene.a.says(&words), "[NOSESSION]");
        }
        scene.make_due(&format!("s:{}", ANA.sh));
        assert_eq!(scene.a.reap("16").to_string(), format!("[OK '' [{}]]", ANA.sh));
        // The node that was to end it may have died: another node is asked.
        scene.make_due(&format!("s:{}", ANA.sh));
        assert_eq!(scene.b.reap("16").to_string(), format!("[OK '' [{}]]", ANA.sh));
        scene.b.run(&format!("end_session {}", ANA.sh));
        scene.b.run(&format!("gone {}", ANA.sh));
        assert_eq!(scene.keys(), [""; 0]);
        assert_eq!(scene.a.says("count"), "[OK 0 0]");
    });
}

#[test]
fn a_session_with_a_socket_has_no_end_and_its_keys_are_renewed() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_session(ANA);
        attach(&mut scene.a, ANA, ROOM);
        let session = format!("s:{}", ANA.sh);
        assert_eq!(scene.field(&session, "e"), "-");
        scene.stored(&format!("PEXPIRE ^{session} 100000"));
        scene.make_due(&format!("s:{}", ANA.sh));
        assert_eq!(scene.b.reap("16").to_string(), "[OK '' []]");
        assert!(scene.stored(&format!("PTTL ^{session}")).number() > 86_400_000);
        let due = scene.stored(&format!("ZSCORE ^due s:{}", ANA.sh)).number() - scene.now();
        assert!((86_000_000_000..=86_400_000_000).contains(&due), "{due}");
        scene.a.run(&format!("detach {} {DAY}", ANA.sh));
        assert_ne!(scene.field(&session, "e"), "-");
        assert_eq!(scene.stored("EXISTS ^sat:node1").number(), 0);
    });
}

#[test]
fn rooms_are_listed_in_the_order_of_joining_and_a_late_forget_hides_no_later_join() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_session(ANA);
        let reserve =
            |node: &mut Node, room: &str| node.run(&format!("reserve {} {room} {DAY} 2", ANA.sh));
        let first = reserve(&mut scene.a, HIDDEN);
        assert_eq!((first.at(1).text(), first.at(3).text()), ("ana".into(), "1".into()));
        let second = reserve(&mut scene.b, ROOM);
        let rooms = |scene: &mut Scene| {
            let reply = scene.a.run(&format!("touch {} {DAY} rooms", ANA.sh));
            reply.at(2).to_string()
        };
        let (one, two) = (first.at(2).text(), second.at(2).text());
        assert_eq!(rooms(&mut scene), format!("[{HIDDEN} {one} {ROOM} {two}]"));
        let version = |scene: &mut Scene, room: &str| {
            scene.b.run(&format!("touch {} {DAY} {room}", ANA.sh)).at(2).text()
        };
        assert_eq!(version(&mut scene, ROOM), two);
        assert_eq!(version(&mut scene, "0000000000"), "");
        // A third is one too many: the caller learns what may be dead.
        let over = reserve(&mut scene.a, "0000000000");
        assert_eq!(over.to_string(), format!("[OVER ana [{HIDDEN} {one} {ROOM} {two}]]"));
        // Joining once more keeps the place, with a new version.
        let again = reserve(&mut scene.a, HIDDEN);
        assert_eq!(again.at(3).text(), "");
        assert_eq!(scene.b.says(&format!("forget {} {HIDDEN} {one}", ANA.sh)), "[OK]");
        let newer = again.at(2).text();
        assert_eq!(rooms(&mut scene), format!("[{HIDDEN} {newer} {ROOM} {two}]"));
        scene.b.run(&format!("forget {} {HIDDEN} {newer} {ROOM} 1", ANA.sh));
        assert_eq!(rooms(&mut scene), format!("[{ROOM} {two}]"));
        assert_eq!(reserve(&mut scene.a, "0000000000").at(0).text(), "OK");
        assert!(scene.stored(&format!("PTTL ^sr:{}", ANA.sh)).number() > 86_400_000);
    });
}

#[test]
fn sockets_are_counted_over_all_nodes_and_one_too_many_counts_nothing() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_session(ANA);
        assert_eq!(attach(&mut scene.a, ANA, ROOM), "OK ana ''");
        assert_eq!(attach(&mut scene.b, ANA, ROOM), "OK ana ''");
        assert_eq!(attach(&mut scene.b, ANA, HIDDEN), "OK ana ''");
        assert_eq!(attach(&mut scene.a, ANA, ROOM), "OK ana sockets");
        assert_eq!(sockets(&mut scene, ANA), "3 1 2");
        scene.a.run(&format!("detach {} {DAY}", ANA.sh));
        scene.a.run(&format!("detach {} {DAY}", ANA.sh)); // One too often.
        assert_eq!(sockets(&mut scene, ANA), "2 - 2");
        let reply = scene.a.run(&format!("attach {} 0000000000 {DAY} 3 2 0 20", ANA.sh));
        assert_eq!((reply.at(2).text(), reply.at(5).list().len()), ("rooms".into(), 4));
        assert_eq!(sockets(&mut scene, ANA), "2 - 2");
        assert_eq!(attach(&mut scene.a, ANA, ROOM), "OK ana ''", "it has joined that room");
        assert_eq!(scene.stored("SMEMBERS ^sat:node1").to_string(), format!("[{}]", ANA.sh));
        assert_eq!(attach(&mut scene.a, BO, ROOM), "NOSESSION - -");
    });
}

/// As on a single server, where a refused socket never reaches its session.
// contract §3.10 §3.14
#[test]
fn a_refused_socket_is_no_use_of_its_session() {
    each(|store| {
        let mut scene = Scene::on(store);
        assert_eq!(open(&mut scene.a, ANA.sh, "a1 n1 3 0 1"), "[OK '']");
        let session = format!("s:{}", ANA.sh);
        let soon = scene.now() + 3_600_000_000;
        let begin = |scene: &mut Scene| {
            scene.stored(&format!("HSET ^{session} e {soon} i 1"));
            scene.stored(&format!("ZADD ^as:a1 2 {}", ANA.sh));
        };
        let shown = |scene: &mut Scene| {
            let score = scene.stored(&format!("ZSCORE ^as:a1 {}", ANA.sh)).text();
            let (ends, idle) = (scene.field(&session, "e"), scene.field(&session, "i"));
            format!("{} {} {}", ends == soon.to_string(), idle == "1", score == "2")
        };
        let refused = format!("detach {} {DAY} 1", ANA.sh);
        let closed = format!("detach {} {DAY}", ANA.sh);
        begin(&mut scene);
        assert_eq!(scene.a.run(&format!("touch {} {DAY} -", ANA.sh)).at(1).text(), "ana");
        assert_eq!(shown(&mut scene), "true true true", "only asked");
        // One after the other, and both at a time.
        attach(&mut scene.a, ANA, ROOM);
        assert_eq!(scene.field(&session, "e"), "-", "it may be let in");
        scene.a.run(&refused);
        attach(&mut scene.a, ANA, ROOM);
        attach(&mut scene.b, ANA, ROOM);
        scene.a.run(&refused);
        scene.b.run(&refused);
        assert_eq!(shown(&mut scene), "true true true");
        assert_eq!(scene.stored(&format!("ZSCORE ^due {session}")).text(), soon.to_string());
        // More than it may have.
        scene.a.run(&format!("attach {} {ROOM} {DAY} 0 200 0 20", ANA.sh));
        assert_eq!(shown(&mut scene), "true true true");
        // What is a use beside the refused one.
        for used in [&closed, &format!("touch {} {DAY} ''", ANA.sh)] {
            begin(&mut scene);
            attach(&mut scene.a, ANA, ROOM);
            attach(&mut scene.a, ANA, ROOM);
            scene.a.run(used);
            scene.a.run(&refused);
            if used != &closed {
                scene.a.run(&refused);
            }
            assert_eq!(shown(&mut scene), "false false false", "{used}");
            assert_eq!(scene.field(&session, "b"), "-");
        }
        // A session that ends while it is refused.
        attach(&mut scene.a, ANA, ROOM);
        scene.stored(&format!("HSET ^{session} b 5~1~2"));
        scene.a.run(&refused);
        assert_eq!(scene.a.says(&format!("touch {} {DAY} ''", ANA.sh)), "[NOSESSION]");
        assert_eq!(scene.a.reap("16").at(2).to_string(), format!("[{}]", ANA.sh));
    });
}

#[test]
fn a_node_declares_its_sockets_whatever_was_counted_before() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_session(ANA);
        attach(&mut scene.b, ANA, ROOM);
        let declare =
            |node: &mut Node, count: &str| node.says(&format!("declare {} {count} {DAY}", ANA.sh));
        assert_eq!(declare(&mut scene.a, "3"), "[OK]");
        assert_eq!(sockets(&mut scene, ANA), "4 3 1");
        let life = scene.stored("PTTL ^sat:node1").number();
        assert!(life > 0, "what a node has ends even if no server ever returns");
        assert_eq!(declare(&mut scene.a, "3"), "[OK]");
        assert_eq!(declare(&mut scene.a, "1"), "[OK]");
        assert_eq!(sockets(&mut scene, ANA), "2 1 1");
        assert_eq!(declare(&mut scene.a, "2"), "[OK]");
        assert_eq!(sockets(&mut scene, ANA), "3 2 1");
        assert_eq!(declare(&mut scene.a, "1"), "[OK]");
        assert_eq!(declare(&mut scene.b, "0"), "[OK]");
        assert_eq!(sockets(&mut scene, ANA), "1 1 -");
        assert_eq!(scene.field(&format!("s:{}", ANA.sh), "e"), "-");
        assert_eq!(declare(&mut scene.a, "0"), "[OK]");
        assert_eq!(sockets(&mut scene, ANA), "0 - -");
        assert_ne!(scene.field(&format!("s:{}", ANA.sh), "e"), "-");
        assert_eq!(scene.stored("EXISTS ^sat:node1 ^sat:node2").number(), 0);
        assert_eq!(declare(&mut scene.a, "1"), "[OK]");
        assert_eq!(scene.field(&format!("s:{}", ANA.sh), "e"), "-");
        assert_eq!(scene.a.says(&format!("declare {} 1 {DAY}", BO.sh)), "[NOSESSION]");
    });
}

#[test]
fn the_meter_of_joins_belongs_to_the_session() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_session(ANA);
        let wait = |scene: &mut Scene| {
            let words = format!("attach {} {ROOM} {DAY} 20 2 1000000 2", ANA.sh);
            let reply = scene.b.run(&words);
            scene.b.run(&format!("detach {} {DAY}", ANA.sh));
            reply.at(3).number()
        };
        let charge = format!("charge_join {} 1000000", ANA.sh);
        assert_eq!(wait(&mut scene), 0);
        scene.a.run(&charge);
        assert_eq!(wait(&mut scene), 0, "a burst of two");
        scene.a.run(&charge);
        assert!((1..=1_000_000).contains(&wait(&mut scene)));
        scene.a.run(&format!("charge_join {} 0", ANA.sh));
        // The clock went back: the meter is no further ahead than it can be.
        let session = format!("s:{}", ANA.sh);
        scene.stored(&format!("HSET ^{session} j 8000000000000000"));
        assert!((1..=1_000_000).contains(&wait(&mut scene)));
        let ahead = scene.field(&session, "j").parse::<i64>().unwrap() - scene.now();
        assert!(ahead <= 2_000_000, "{ahead}");
        assert_eq!(scene.a.says(&format!("charge_join {} 1000000", CY.sh)), "[OK]");
        assert_eq!(scene.stored(&format!("EXISTS ^s:{}", CY.sh)).number(), 0);
    });
}

#[test]
fn the_end_of_a_session_reaches_its_nodes_and_names_all_its_rooms() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_session(ANA);
        attach(&mut scene.a, ANA, ROOM);
        attach(&mut scene.b, ANA, ROOM);
        scene.a.run(&format!("own {} {HIDDEN}", ANA.sh));
        scene.a.run(&format!("own {} {ROOM}", ANA.sh));
        scene.a.run(&format!("own {} 0000000000", ANA.sh));
        scene.a.run(&format!("disown {} 0000000000", ANA.sh));
        let reply = scene.a.run(&format!("end_session {}", ANA.sh));
        let mut rooms: Vec<String> = reply.at(1).list().iter().map(|room| room.text()).collect();
        rooms.sort();
        assert_eq!(rooms, [HIDDEN, ROOM]);
        assert_eq!(scene.b.heard(), [format!("E {}", ANA.sh)]);
        assert_eq!((scene.a.heard(), scene.c.heard()), (vec![], vec![]));
        assert_eq!(scene.b.says(&format!("touch {} {DAY} ''", ANA.sh)), "[NOSESSION]");
        assert_eq!(scene.b.says(&format!("detach {} {DAY}", ANA.sh)), "[OK]");
        let due = scene.stored(&format!("ZSCORE ^due s:{}", ANA.sh)).number() - scene.now();
        assert!((4_000_000..=5_000_000).contains(&due), "another node takes over: {due}");
        assert_eq!(scene.a.run(&format!("end_session {}", ANA.sh)).at(1).list().len(), 2, "again");
        assert_eq!(scene.a.says("count"), "[OK 1 0]");
        scene.a.run(&format!("gone {}", ANA.sh));
        scene.a.run(&format!("gone {}", ANA.sh));
        assert_eq!(scene.a.says("count"), "[OK 0 0]");
        assert_eq!(scene.keys(), [""; 0]);
        assert_eq!(scene.a.says(&format!("end_session {}", ANA.sh)), "[OK []]");
        scene.a.run(&format!("own {} {ROOM}", ANA.sh));
        assert_eq!(scene.keys(), [""; 0], "no index without a session");
    });
}

#[test]
fn a_session_that_went_with_its_time_to_live_is_counted_no_more() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_session(ANA);
        scene.stored(&format!("DEL ^s:{}", ANA.sh));
        scene.make_due(&format!("s:{}", ANA.sh));
        assert_eq!(scene.a.reap("16").to_string(), "[OK '' []]");
        assert_eq!(scene.a.says("count"), "[OK 0 0]");
        assert_eq!(scene.keys(), [""; 0]);
        // With a wrong interval nothing is lost: rates are charged by the caller's flags.
        assert_eq!(open(&mut scene.a, "e1", &format!("a1 '' 1 {HOUR} 1")), "[OK '']");
    });
}
