//! What is left in the store in the end: nothing but its fixed keys.

#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

use super::{
    ANA, BO, CY, DAY, Entry, FALSE_ANA, Ground, HIDDEN, HOUR, Person, Post, ROOM, Scene, each,
};
#[cfg(target_os = "linux")]
use crate::stores::{Engine, Store};

/// Everything that leaves a key behind while it counts.
fn live(scene: &mut Scene) {
    for who in [ANA, BO, CY, FALSE_ANA] {
        let words =
            format!("open_session {} {} {DAY} 100 a1 n1 9 1000000 60 {HOUR}", who.sh, who.name);
        assert_eq!(scene.a.says(&words), "[OK '']");
        for room in [ROOM, HIDDEN] {
            scene.a.run(&format!("attach {} {room} {DAY} 20 200 0 20", who.sh));
        }
    }
    let Person { uid, name, .. } = ANA;
    for (room, lock, flags) in [(ROOM, "''", "''"), (HIDDEN, "salt~hash", "p")] {
        let person = format!("{room} {uid} {name} {name} ''");
        let rest = format!("a~title {lock} {flags} 10 60000000 {HOUR} 9 a1 n1 9 1000000 60 {HOUR}");
        assert_eq!(scene.a.says(&format!("open_room {person} {rest}")), "[OK '']");
        scene.a.run(&format!("own {} {room}", ANA.sh));
        scene.a.admit(room, ANA);
    }
    scene.b.enter(ROOM, &Entry { addr: "addr", ..Entry::of(BO) });
    scene.c.enter(ROOM, &Entry { addr: "addr", ..Entry::of(CY) });
    scene.a.remove(ROOM, ANA.uid, CY, "600000000");
    assert_eq!(scene.c.enter(ROOM, &Entry::of(FALSE_ANA)).at(0).text(), "PROBE");
    let post = Post { interval: HOUR, burst: "9", nonce: "n", ..Post::of(BO, "x") };
    scene.b.post(ROOM, &Post { who: ANA, nonce: "m", keep: "1", ..post });
    let id = scene.b.post(ROOM, &post).at(2).text();
    scene.b.delete_message(ROOM, BO, &id);
    scene.b.run(&format!("join {ROOM} {} di di '' '' '' - 0 0", "d".repeat(16)));
    let di = Person { uid: "dddddddddddddddd", name: "di", sh: "d" };
    assert_eq!(scene.b.post(ROOM, &Post { who: di, by_rest: true, ..post }).at(0).text(), "OK");
    scene.a.run(&format!("guess {HIDDEN} {} '' 10000000 5 1000000 60", BO.uid));
}

/// The kinds of keys.
fn kinds(scene: &mut Scene) -> Vec<String> {
    let keys = scene.keys();
    let mut kinds: Vec<String> =
        keys.iter().map(|key| key.split(':').next().unwrap().into()).collect();
    kinds.dedup();
    kinds
}

#[test]
fn the_story_has_every_kind_of_key_and_each_ends_by_itself_if_no_server_returns() {
    each(|store| {
        let mut scene = Scene::on(store);
        live(&mut scene);
        let all = [
            "K", "ar", "as", "at", "b", "cr", "cs", "d", "due", "f", "g", "gr", "gu", "ir", "ix",
            "k", "m", "n", "nz", "o", "p", "r", "rooms", "s", "sat", "so", "sr", "w", "x", "y",
        ];
        assert_eq!(kinds(&mut scene), all);
        for key in scene.keys() {
            let is_fixed = ["due", "ir", "ix", "rooms"].contains(&key.as_str());
            let life = scene.stored(&format!("PTTL ^{key}")).number();
            assert_eq!(life < 0, is_fixed, "{key}");
        }
    });
}

#[test]
fn when_all_sessions_have_ended_and_all_rooms_are_empty_nothing_is_left() {
    each(live_and_end);
}

/// A clustered store refuses keys of another slot than that of the key that a call names.
///
/// It needs a TCP port for its peers, though it has none. Linux has an address of its own for each process
/// of tests, so that no two want the same.
#[test]
#[cfg(target_os = "linux")]
fn all_keys_of_a_partition_are_in_one_slot() {
    for engine in Engine::installed() {
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let address = format!("127.{high}.{middle}.{low}");
        let store = Store::start(engine, &["--cluster-enabled", "yes", "--bind", &address]);
        let mut admin = store.admin();
        admin.must(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !admin.must(&["CLUSTER", "INFO"]).text().contains("cluster_state:ok") {
            assert!(Instant::now() < deadline, "the store serves its slots");
            std::thread::sleep(Duration::from_millis(10));
        }
        live_and_end(&store);
    }
}

fn live_and_end(store: &dyn Ground) {
    let mut scene = Scene::on(store);
    live(&mut scene);
    for who in [ANA, BO, CY, FALSE_ANA] {
        let rooms = scene.a.run(&format!("end_session {}", who.sh));
        for room in rooms.at(1).list() {
            scene.a.quit(&room.text(), who);
        }
        scene.a.run(&format!("gone {}", who.sh));
    }
    assert_eq!(scene.a.says("count"), "[OK 0 2]");
    for room in [ROOM, HIDDEN] {
        scene.stored(&format!("HSET ^r:{room} e 1"));
        scene.make_due(&format!("e:{room}"));
    }
    scene.b.reap("16");
    // The meters of creations end by themselves; here soon.
    assert_eq!(scene.keys(), ["cr:a1", "cs:a1"]);
    for key in ["cr:a1", "cs:a1"] {
        assert!((0..5000).contains(&scene.stored(&format!("PTTL ^{key}")).number()));
    }
}

#[test]
fn when_all_nodes_have_died_the_next_one_finds_it_all_and_ends_it() {
    each(|store| {
        let mut scene = Scene::on(store);
        live(&mut scene);
        let mut next = super::Node { name: "node4", client: store.client(), ..scene.a };
        next.hello("1");
        scene.a = next;
        scene.admin.must(&["ZADD", "dc:{0}:lease", "1", "node1", "2", "node2", "3", "node3"]);
        let reap = |scene: &mut Scene| {
            for _ in 0..50 {
                let reply = scene.a.call("reap", &["10000000", "0", "1", "1000", "seed", "3", "1"]);
                for sh in reply.at(2).list() {
                    let rooms = scene.a.call("end_session", &[&sh.text()]);
                    for room in rooms.at(1).list() {
                        let who =
                            [ANA, BO, CY, FALSE_ANA].into_iter().find(|one| one.sh == sh.text());
                        scene.a.quit(&room.text(), who.unwrap());
                    }
                    scene.a.call("gone", &[&sh.text()]);
                }
            }
        };
        reap(&mut scene);
        assert_eq!(scene.stored("ZRANGE ^lease 0 -1").to_string(), "[node4]");
        assert_eq!(scene.stored("HKEYS ^nodes").to_string(), "[node4]");
        // Nobody is present, and what is left has an end.
        assert_eq!(
            scene.stored(&format!("EXISTS ^o:{ROOM} ^y:{ROOM} ^at:node1 ^sat:node1")).number(),
            0
        );
        for who in [ANA, BO, CY, FALSE_ANA] {
            scene.make_due(&format!("s:{}", who.sh));
        }
        reap(&mut scene);
        let left = scene.keys();
        assert!(
            left.iter().all(|key| key.starts_with("cr:") || key.starts_with("cs:")),
            "{left:?}"
        );
    });
}
