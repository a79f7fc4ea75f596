//! Nodes: incarnations, leases, the death of a node, a store that was away, and one that is full.

use super::{ANA, BO, CY, DAY, Entry, HIDDEN, HOUR, Node, P, ROOM, SOURCE, Scene, each};
use crate::resp::Value;
use crate::stores::{Engine, Store};

/// Everything that a node may call, with arguments that do little.
fn calls() -> Vec<(&'static str, String)> {
    let (ana, sh, tail) = (ANA.uid, ANA.sh, super::TAIL);
    let calls = [
        ("beat", "10000000".into()),
        ("reap", format!("10000000 0 {HOUR} 1000 seed 1 {DAY}")),
        ("shed", "0".into()),
        ("announce", "hi".into()),
        ("count", String::new()),
        ("open_session", format!("{} cy {DAY} 100 '' '' '' 0 1 {HOUR}", CY.sh)),
        ("touch", format!("{sh} {DAY} ''")),
        ("reserve", format!("{sh} {ROOM} {DAY} 200")),
        ("own", format!("{sh} {ROOM}")),
        ("disown", format!("{sh} {ROOM}")),
        ("forget", format!("{sh} {HIDDEN} 1")),
        ("attach", format!("{sh} {ROOM} {DAY} 20 200 0 20")),
        ("detach", format!("{sh} {DAY}")),
        ("declare", format!("{sh} 0 {DAY}")),
        ("charge_join", format!("{sh} 0")),
        ("end_session", CY.sh.into()),
        ("gone", CY.sh.into()),
        (
            "open_room",
            format!("{ROOM} {ana} ana ana '' '' '' '' 0 '' {HOUR} 9 '' '' '' 0 1 {HOUR}"),
        ),
        ("guess", format!("{ROOM} {ana} '' 0 1 0 1")),
        ("join", format!("{ROOM} {ana} ana ana '' '' '' - 0 0")),
        ("look", format!("{ROOM} {ana} read '' 1")),
        ("unwatch", ROOM.into()),
        ("enter", format!("{ROOM} {ana} ana ana '' '' '' 0 first 3000000 {tail} {tail} 1000")),
        ("exit", format!("{ROOM} {ana} closed {HOUR} {HOUR} 1000 {tail} ''")),
        ("leave", format!("{ROOM} {} 1000 {tail} {HOUR}", BO.uid)),
        ("quit", format!("{ROOM} {} 1000 {tail} {HOUR}", BO.uid)),
        ("post", format!("{ROOM} {ana} 0 1 1000 '' C '' {HOUR} {HOUR} {tail}")),
        ("typing", format!("{ROOM} {ana} '' ana")),
        ("alive", format!("{ROOM} {ana}")),
        ("unask", format!("{ROOM} ana")),
        ("delete_message", format!("{ROOM} {ana} 1-1 {tail} {tail} ana 1000 0 1 x")),
        ("change", format!("{ROOM} {ana} 0 1 '' '' '' '' '' '' '' '' ''")),
        ("remove", format!("{ROOM} {ana} {} '' '' 1000 {tail} 0 1 {HOUR}", BO.uid)),
        ("bans", format!("{ROOM} {ana}")),
        ("lift", format!("{ROOM} {ana} {}", BO.uid)),
        ("history", format!("{ROOM} 0-0 9")),
        ("resync", format!("{ROOM} 1-1")),
        ("listing", "x".into()),
        ("usage", "'' 9".into()),
        ("members", format!("{ROOM} {ana}")),
        ("delete_room", format!("{HIDDEN} {ana}")),
        ("bye", String::new()),
    ];
    calls.into()
}

/// The names of those among [`calls`] whose reply begins like this.
fn answered(node: &mut Node, reply: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (name, arguments) in calls() {
        let words = if arguments.is_empty() { name.into() } else { format!("{name} {arguments}") };
        let said = node.says(&words);
        if said.starts_with(reply) {
            found.push(name);
        }
    }
    found
}

#[test]
fn every_function_is_listed_here() {
    let registered = SOURCE.lines().filter_map(|line| line.strip_prefix("register('"));
    let registered: Vec<&str> = registered.map(|line| line.split('\'').next().unwrap()).collect();
    let mut listed: Vec<&str> = calls().iter().map(|(name, _)| *name).collect();
    listed.push("hello");
    let mut sorted = registered.clone();
    sorted.sort_unstable();
    listed.sort_unstable();
    assert_eq!(sorted, listed);
}

#[test]
fn a_node_is_known_by_its_name_and_its_incarnation() {
    each(|store| {
        let mut scene = Scene::on(store);
        let all: Vec<&str> = calls().iter().map(|(name, _)| *name).collect();
        // A connection that was given up: its successor has said hello.
        scene.a.incarnation = "2".into();
        assert_eq!(scene.a.hello("").at(0).text(), "KEPT");
        scene.a.incarnation = "1".into();
        assert_eq!(answered(&mut scene.a, "!FENCED"), all);
        scene.a.incarnation = "2".into();
        assert_eq!(scene.a.beat().at(0).text(), "OK");
        // A node that nobody knows, or that was buried.
        scene.stored("HDEL ^nodes node2");
        assert_eq!(answered(&mut scene.b, "!FENCED"), all);
        assert_eq!(scene.keys(), [""; 0], "nothing of it was executed");
        assert_eq!(scene.b.hello("").to_string(), "[NEW]");
        assert_eq!(scene.b.hello("1").at(0).text(), "KEPT");
    });
}

#[test]
fn hello_tells_terms_and_secret_and_sets_them_once() {
    each(|store| {
        let mut scene = Scene::on(store);
        let kept = scene.a.run("hello 10000000 terms '' another 1");
        assert_eq!((kept.at(0).text(), kept.at(1).text()), ("KEPT".into(), "secret".into()));
        assert!((kept.at(2).number() - scene.now()).abs() < 60_000_000);
        assert_eq!(scene.a.says("hello 10000000 other '' another 1"), "!TERMS terms");
        // Keys live for as long as the longest time that any node wants.
        assert_eq!(scene.field("cfg", "hold"), "97200000", "26 h and an hour");
        scene.a.run("hello 10000000 terms '' '' 7200000000");
        assert_eq!(scene.field("cfg", "hold"), "100800000");
        // The lease of a node that is known has run out.
        scene.stored("ZADD ^lease 1 node1");
        assert_eq!(scene.a.hello("").to_string(), "[NEW]");
        scene.stored("DEL ^cfg");
        assert_eq!(scene.a.says("hello 10000000 other 1 '' 1").split(' ').nth(1), Some("''"));
    });
}

#[test]
fn a_beat_renews_the_lease_and_says_when_there_is_something_to_do() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.stored("ZADD ^lease 9000000000000001 node2 9000000000000002 node3");
        let beat = scene.a.beat();
        let now = beat.at(1).number();
        assert_eq!(beat.at(2).number(), now + 10_000_000, "its own lease is the first to end");
        assert_eq!(scene.stored("ZSCORE ^lease node1").number(), now + 10_000_000);
        let rest: Vec<String> = beat.list()[3..].iter().map(Value::text).collect();
        assert_eq!(rest, ["0", "0", "0", "0"]);
        scene.a.open_session(ANA);
        scene.a.open_room(ROOM, ANA);
        scene.a.admit(ROOM, ANA);
        scene.stored(&format!("ZADD ^due 5 s:{}", ANA.sh));
        scene.a.run(&format!("attach {} {ROOM} {DAY} 20 200 0 20", ANA.sh));
        for key in ["at:node1", "sat:node1"] {
            assert!(scene.stored(&format!("PTTL ^{key}")).number() > 0);
            scene.stored(&format!("PEXPIRE ^{key} 1000"));
        }
        let beat = scene.a.beat();
        assert_eq!(beat.at(2).number(), 5);
        let rest: Vec<String> = beat.list()[3..].iter().map(Value::text).collect();
        assert_eq!(rest, ["1", "1", "2", "0"]);
        for key in ["at:node1", "sat:node1"] {
            assert!(scene.stored(&format!("PTTL ^{key}")).number() > 97_200_000, "{key}");
        }
    });
}

/// Fills the second node with people in two rooms and sessions, and lets its lease run out.
fn kill_node(scene: &mut Scene) {
    scene.a.open_room(ROOM, ANA);
    scene.a.open_room(HIDDEN, ANA);
    scene.a.admit(ROOM, ANA);
    for (who, rooms) in [(ANA, &[HIDDEN][..]), (BO, &[ROOM, HIDDEN]), (CY, &[ROOM])] {
        scene.b.open_session(who);
        for room in rooms {
            scene.b.run(&format!("attach {} {room} {DAY} 20 200 0 20", who.sh));
            scene.b.admit(room, who);
        }
    }
    scene.a.run(&format!("attach {} {ROOM} {DAY} 20 200 0 20", ANA.sh));
    scene.a.beat();
    scene.stored("ZADD ^lease 5 node2");
    scene.a.heard();
}

#[test]
fn a_dead_nodes_people_leave_in_parts_and_its_sockets_are_subtracted() {
    each(|store| {
        let mut scene = Scene::on(store);
        kill_node(&mut scene);
        let mut calls = 0;
        while scene.a.reap("2").at(1).text() == "1" {
            calls += 1;
            assert!(calls < 20);
        }
        assert!(calls >= 4, "{calls}");
        let mut told = scene.a.heard();
        told.sort();
        assert_eq!(told, ["L bo", "L cy"]);
        assert_eq!(scene.history(HIDDEN)[2..].len(), 2);
        assert_eq!(scene.field(&format!("r:{ROOM}"), "n"), "node1 ");
        assert_eq!(scene.field(&format!("r:{HIDDEN}"), "n"), "''");
        assert_ne!(scene.field(&format!("r:{HIDDEN}"), "e"), "-", "it is empty");
        assert_eq!(scene.stored("EXISTS ^at:node2 ^sat:node2").number(), 0);
        assert_eq!(scene.stored("ZSCORE ^lease node2").to_string(), "-");
        assert_eq!(scene.field(&format!("s:{}", BO.sh), "c"), "0");
        assert_ne!(scene.field(&format!("s:{}", BO.sh), "e"), "-");
        assert_eq!(scene.field(&format!("s:{}", ANA.sh), "c"), "1", "that at the other node");
        assert_eq!(scene.field(&format!("s:{}", ANA.sh), "e"), "-");
        // The zombie wakes up.
        assert_eq!(scene.b.post(ROOM, &super::Post::of(BO, "x")).to_string(), "!FENCED");
        assert_eq!(scene.b.exit(ROOM, BO, "closed").to_string(), "!FENCED");
        assert_eq!(scene.b.hello("").to_string(), "[NEW]");
    });
}

#[test]
fn a_dead_nodes_people_have_what_is_left_of_their_grace() {
    each(|store| {
        let mut scene = Scene::on(store);
        kill_node(&mut scene);
        // Silent since 20 s: the lease was 10 s.
        let ended = scene.now() - 10_000_000;
        scene.stored(&format!("ZADD ^lease {ended} node2"));
        while scene.a.reap_with("60000000", "1").at(1).text() == "1" {}
        let due = scene.stored(&format!("ZSCORE ^due g:{ROOM}:{}", BO.uid)).number() - scene.now();
        assert!((38_000_000..=40_000_000).contains(&due), "{due}");
        let due =
            scene.stored(&format!("ZSCORE ^due g:{HIDDEN}:{}", BO.uid)).number() - scene.now();
        assert!((38_000_000..=40_000_000).contains(&due), "in each part: {due}");
        assert_eq!(scene.a.heard(), [""; 0]);
        assert_eq!(scene.c.admit(ROOM, BO).at(2).list(), [], "back in time");
    });
}

#[test]
fn a_node_that_says_bye_leaves_its_people_the_whole_grace() {
    each(|store| {
        let mut scene = Scene::on(store);
        kill_node(&mut scene);
        scene.stored("ZADD ^lease 9000000000000000 node2");
        assert_eq!(scene.b.says("bye"), "[OK]");
        assert_eq!(scene.b.beat().to_string(), "!FENCED");
        while scene.a.reap_with("60000000", "2").at(1).text() == "1" {}
        let due = scene.stored(&format!("ZSCORE ^due g:{ROOM}:{}", BO.uid)).number() - scene.now();
        assert!((50_000_000..=60_000_000).contains(&due), "{due}");
        assert_eq!(scene.stored("EXISTS ^at:node2 ^sat:node2").number(), 0);
        assert_eq!(scene.stored("ZSCORE ^lease node2").to_string(), "-");
    });
}

#[test]
fn a_store_that_was_away_gives_every_known_node_a_new_lease() {
    each(|store| {
        let mut scene = Scene::on(store);
        kill_node(&mut scene);
        scene.stored("ZADD ^lease 7 buried"); // Its burial had begun: it is no longer known.
        for away in ["1", "9000000000000000"] {
            scene.stored("ZADD ^lease 5 node2");
            scene.stored(&format!("HSET ^cfg lr {away}")); // A pause, or a clock that was set back.
            scene.a.reap("16");
            assert_eq!(scene.a.heard(), [""; 0], "nobody has left");
            let lease = scene.stored("ZSCORE ^lease node2").number() - scene.now();
            assert!((9_000_000..=10_000_000).contains(&lease), "{lease}");
            assert_eq!(scene.stored("ZSCORE ^lease buried").number(), 7);
        }
        assert_eq!(scene.b.beat().at(0).text(), "OK");
        // The first to come back may be the one whose lease is over.
        scene.stored("ZADD ^lease 5 node2");
        scene.stored("HSET ^cfg lr 1");
        assert_eq!(scene.b.hello("").at(0).text(), "KEPT");
        // A node never buries itself.
        scene.a.beat();
        scene.stored("ZREM ^lease buried node2 node3");
        scene.stored("ZADD ^lease 5 node1");
        scene.a.reap("16");
        assert_eq!(scene.field("nodes", "node1"), "1");
    });
}

#[test]
fn what_is_due_is_done_in_bounded_steps() {
    each(|store| {
        let mut scene = Scene::on(store);
        for number in 0..5 {
            let room = format!("{number:010x}");
            scene.a.open_room(&room, ANA);
            scene.stored(&format!("HSET ^r:{room} e 1"));
            scene.make_due(&format!("e:{room}"));
        }
        assert_eq!(scene.a.reap("2").at(1).text(), "1");
        assert_eq!(scene.a.says("count"), "[OK 0 3]");
        assert_eq!(scene.a.reap("2").at(1).text(), "1");
        assert_eq!(scene.a.reap("2").at(1).text(), "");
        assert_eq!(scene.keys(), [""; 0]);
    });
}

#[test]
fn a_full_store_refuses_what_needs_memory_before_it_begins_and_does_the_rest() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_session(ANA);
        scene.a.open_room(ROOM, ANA);
        scene.a.admit(ROOM, ANA);
        scene.b.admit(ROOM, BO);
        scene.a.beat();
        let before = scene.history(ROOM);
        scene.admin.must(&["CONFIG", "SET", "maxmemory", "1"]);
        let refused = answered(&mut scene.a, "!OOM");
        let creating = ["open_session", "reserve", "attach", "open_room", "guess", "join", "enter"];
        assert_eq!(refused, [&creating[..], &["post", "change", "remove"]].concat());
        // The others were executed: both have left.
        let after = scene.history(ROOM);
        assert_eq!((after.len(), &after[..before.len()]), (before.len() + 2, &before[..]));
    });
}

#[test]
fn reads_write_nothing_and_may_be_called_as_reads() {
    each(|store| {
        let mut scene = Scene::on(store);
        let (mut reads, keys) = (Vec::new(), format!("{P}nodes"));
        for (name, arguments) in calls() {
            let function = format!("{}_{name}", scene.a.library);
            let mut command = vec!["FCALL_RO", &function, "1", &keys, "node1", "1"];
            command.extend(arguments.split(' ').filter(|word| !word.is_empty()));
            let reply = scene.a.client.call(&command).text();
            if !reply.contains("write flag") {
                reads.push(name);
            }
        }
        assert_eq!(reads, ["count", "bans", "history", "listing", "usage", "members"]);
    });
}

#[test]
fn an_announcement_reaches_all_other_nodes() {
    each(|store| {
        let mut scene = Scene::on(store);
        assert_eq!(scene.a.says("announce good~bye,~all"), "[OK]");
        let told = vec!["N good bye, all".to_owned()];
        assert_eq!(
            (scene.a.heard(), scene.b.heard(), scene.c.heard()),
            (vec![], told.clone(), told)
        );
    });
}

#[test]
fn shedding_takes_the_oldest_of_an_idle_room_at_most_once_a_second() {
    each(|store| {
        let mut scene = Scene::on(store);
        for room in [ROOM, HIDDEN] {
            scene.a.open_room(room, ANA);
            scene.a.admit(room, ANA);
            for _ in 0..5 {
                scene.a.say(room, ANA, "x");
            }
        }
        let early = scene.now() / 1000 - 60_000;
        scene.stored(&format!("HSET ^r:{HIDDEN} u {early}"));
        assert_eq!(scene.a.says("shed 4"), "[OK 4]");
        assert_eq!((scene.history(HIDDEN).len(), scene.history(ROOM).len()), (2, 6));
        assert_eq!(scene.b.says("shed 4"), "[OK 0]");
        scene.stored("DEL ^shed");
        assert_eq!(scene.b.says("shed 4"), "[OK 2]");
        scene.stored("DEL ^shed");
        assert_eq!(scene.b.says("shed 40"), "[OK 6]");
        scene.stored("DEL ^shed");
        assert_eq!(scene.b.says("shed 40"), "[OK 0]");
    });
}

#[test]
fn a_command_of_a_connection_that_was_given_up_is_refused_however_late_it_comes() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_room(ROOM, ANA);
        scene.a.admit(ROOM, ANA);
        let (library, incarnation) = (scene.a.library.clone(), "2".to_owned());
        let mut next = Node { client: store.client(), name: "node1", incarnation, library };
        assert_eq!(next.hello("").at(0).text(), "KEPT");
        let before = scene.history(ROOM);
        assert_eq!(scene.a.post(ROOM, &super::Post::of(ANA, "late")).to_string(), "!FENCED");
        assert_eq!(scene.a.exit(ROOM, ANA, "closed").to_string(), "!FENCED");
        assert_eq!(scene.history(ROOM), before);
        // Its successor goes on where it was: the stays are still there.
        assert_eq!(
            next.run(&format!("resync {ROOM} 0-0")).at(4).to_string(),
            format!("[{}]", ANA.uid)
        );
        assert_eq!(next.enter(ROOM, &Entry::of(ANA)).at(2).list(), []);
    });
}

#[test]
fn a_store_that_was_killed_goes_on_where_it_was_if_it_keeps_a_file() {
    for engine in Engine::installed() {
        let mut store = Store::start(engine, &["--appendonly", "yes", "--appendfsync", "always"]);
        let mut scene = Scene::on(&store);
        scene.a.open_room(ROOM, ANA);
        scene.a.admit(ROOM, ANA);
        let id = scene.a.say(ROOM, ANA, "hello");
        let (library, incarnation) = (scene.a.library.clone(), "2".to_owned());
        store.restart();
        let mut node = Node { client: store.client(), name: "node1", incarnation, library };
        assert_eq!(node.hello("").at(0).text(), "KEPT", "the functions are kept too");
        let reply = node.post(ROOM, &super::Post::of(ANA, "again"));
        assert_eq!(reply.at(1).text(), id);
        assert_eq!(node.run(&format!("resync {ROOM} {id}")).at(1).list().len(), 2);
    }
}
