//! Random stories of people at three nodes, checked after each step.
//!
//! Owns the seeded choice of steps, a mirror of the messages at each node, and the invariants. The mirrors
//! are told as nodes are: by the replies to their own calls, and by pushes.

use std::collections::BTreeSet;

use super::{
    ANA, BO, CY, Entry, FALSE_ANA, HOUR, Node, P, Person, Post, ROOM, Scene, TAIL_LEFT, each,
};
use crate::resp::Value;

const PEOPLE: [Person; 4] = [ANA, BO, CY, FALSE_ANA];
const STEPS: usize = 300;

/// Numbers of a linear congruential generator (Knuth's MMIX).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

struct Town {
    scene: Scene,
    dice: Dice,
    /// The newest message of each node's mirror; `None`: no mirror.
    newest: [Option<String>; 3],
    /// How many messages the mirrors were told.
    told: usize,
}

impl Town {
    fn node(&mut self, at: usize) -> &mut Node {
        [&mut self.scene.a, &mut self.scene.b, &mut self.scene.c][at]
    }

    /// The next message of a mirror. It must follow the one before.
    fn said(&mut self, at: usize, prev: &str, id: &str) {
        if let Some(newest) = &mut self.newest[at] {
            assert_eq!(newest.as_str(), prev, "node {at} has missed nothing");
            *newest = id.to_owned();
            self.told += 1;
        }
    }

    /// An entry in a reply; '' is none.
    fn on_entry(&mut self, at: usize, entry: &Value) {
        if let [prev, id, _] = entry.list() {
            self.said(at, &prev.text(), &id.text());
        }
    }

    /// What all nodes have been told by pushes.
    fn listen(&mut self) {
        for at in 0..3 {
            for push in self.node(at).client.pushes() {
                let words: Vec<&str> = push.splitn(5, ' ').collect();
                match words[..] {
                    ["M", room, prev, id, _] if room == ROOM => self.said(at, prev, id),
                    ["D", room, _] if room == ROOM => self.newest[at] = None,
                    _ => {}
                }
            }
        }
    }

    fn enter(&mut self, at: usize, who: Person, mode: &'static str) {
        let have = if self.newest[at].is_some() { "1" } else { "" };
        let reply = self.node(at).enter(ROOM, &Entry { have, mode, ..Entry::of(who) });
        if reply.at(0).text() == "IN" {
            if !reply.at(4).list().is_empty() {
                assert!(have.is_empty(), "a node with a mirror is interested");
                self.newest[at] = Some(reply.at(1).text());
            }
            for entry in reply.at(2).list() {
                self.on_entry(at, entry);
            }
        }
    }

    fn step(&mut self) {
        let (at, who) = (self.dice.roll(3), PEOPLE[self.dice.roll(4)]);
        let by_rest = self.dice.roll(2) == 0;
        match self.dice.roll(14) {
            0..=2 => self.enter(at, who, "first"),
            3 => self.enter(at, who, "later"),
            step @ 4..=6 => {
                let how = if step == 4 { "closed" } else { "broken" };
                let reply = self.node(at).exit(ROOM, who, how);
                self.on_entry(at, reply.at(1));
            }
            7 => {
                let reply = self.node(at).leave(ROOM, who);
                self.on_entry(at, reply.at(1));
            }
            8 | 9 => {
                let reply =
                    self.node(at).post(ROOM, &Post { by_rest, keep: "30", ..Post::of(who, "x") });
                if reply.at(0).text() == "OK" {
                    self.on_entry(at, reply.at(4));
                    self.said(at, &reply.at(1).text(), &reply.at(2).text());
                }
            }
            10 => {
                let last = self.scene.stored(&format!("XREVRANGE ^x:{ROOM} + - COUNT 3"));
                let id = last.at(2).at(0).text();
                if id != "-" {
                    let reply = self.node(at).delete_message(ROOM, who, &id);
                    self.on_entry(at, reply.at(1));
                }
            }
            11 => {
                let reply = self.node(at).remove(ROOM, "", who, "");
                for entry in reply.at(2).list() {
                    self.on_entry(at, entry);
                }
            }
            12 => {
                let due = self.scene.stored("ZRANGE ^due 0 -1");
                for what in due.list().iter().filter(|what| what.text().starts_with('g')) {
                    self.scene.make_due(&what.text());
                }
                while self.node(at).reap("2").at(1).text() == "1" {}
            }
            _ if self.dice.roll(2) == 0 => {
                self.node(at).quit(ROOM, who);
            }
            _ => self.kill(at),
        }
        self.listen();
    }

    /// A node dies, is buried, and comes back without a mirror.
    fn kill(&mut self, at: usize) {
        let (name, other) = (self.node(at).name, (at + 1) % 3);
        self.node(other).beat();
        self.scene.stored(&format!("ZADD ^lease 5 {name}"));
        let grace = if self.dice.roll(2) == 0 { HOUR } else { "0" };
        while self.node(other).reap_with(grace, "3").at(1).text() == "1" {}
        assert_eq!(self.node(at).beat().to_string(), "!FENCED");
        self.newest[at] = None;
        self.node(at).client.pushes();
        assert_eq!(self.node(at).hello("1").at(0).text(), "KEPT");
    }

    /// Everything that is stored twice agrees.
    fn check(&mut self) {
        let scene = &mut self.scene;
        let mut present = BTreeSet::new();
        for uid in scene.stored(&format!("ZRANGE ^o:{ROOM} 0 -1")).list() {
            present.insert(uid.text());
        }
        let keys = |value: Value| value.list().iter().map(Value::text).collect::<BTreeSet<_>>();
        for key in ["p", "y"] {
            assert_eq!(keys(scene.stored(&format!("HKEYS ^{key}:{ROOM}"))), present, "{key}");
        }
        assert_eq!(keys(scene.stored(&format!("HVALS ^f:{ROOM}"))), present, "names");
        let nodes = scene.field(&format!("r:{ROOM}"), "n");
        let (mut stays, mut of) = (0, std::collections::BTreeMap::new());
        for node in ["node1", "node2", "node3"] {
            let here = keys(scene.stored(&format!("SMEMBERS ^y:{ROOM}:{node}")));
            let is_interested = keys(scene.stored(&format!("SMEMBERS ^at:{node}"))).contains(ROOM);
            assert_eq!(nodes.contains(node), is_interested, "{node}");
            assert!(is_interested || here.is_empty(), "{node}");
            stays += here.len() as i64;
            for uid in here {
                *of.entry(uid).or_insert(0) += 1;
            }
        }
        let counted = scene.field(&format!("r:{ROOM}"), "s").parse().unwrap_or(0);
        assert_eq!(counted, stays);
        let is_empty = scene.field(&format!("r:{ROOM}"), "e") != "-";
        assert_eq!(is_empty, stays == 0);
        assert_eq!(scene.stored(&format!("ZSCORE ^due e:{ROOM}")) != Value::Nil, is_empty);
        for uid in &present {
            let count = of.get(uid).copied().unwrap_or(0);
            assert_eq!(scene.field(&format!("y:{ROOM}"), uid), count.to_string());
            let is_in_grace = scene.stored(&format!("ZSCORE ^due g:{ROOM}:{uid}")) != Value::Nil;
            assert_eq!(is_in_grace, count == 0, "{uid}");
            assert_eq!(scene.stored(&format!("HEXISTS ^m:{ROOM} {uid}")).number(), 1);
        }
        assert!(of.keys().all(|uid| present.contains(uid)));
        let listed = scene.field("ir", ROOM);
        assert_eq!(listed.split(' ').nth(5), Some(present.len().to_string().as_str()), "{listed}");
        let owner = scene.field(&format!("r:{ROOM}"), "o");
        assert_eq!(listed.split(' ').nth(2), Some(owner.as_str()));
        let graves = scene.stored(&format!("ZCARD ^d:{ROOM}")).text();
        assert!(graves == scene.field(&format!("r:{ROOM}"), "y") || graves == "0");
        let last = scene.stored(&format!("HMGET ^r:{ROOM} u q"));
        let last = format!("{}-{}", last.at(0), last.at(1));
        for newest in self.newest.iter().flatten() {
            assert_eq!(*newest, last, "all mirrors are as new as the room");
        }
    }
}

#[test]
fn whatever_people_do_the_store_agrees_with_itself_and_with_every_mirror() {
    each(|store| {
        for seed in 0..4 {
            let mut admin = store.admin();
            admin.must(&["FLUSHALL"]);
            let scene = Scene::on(store);
            let mut town = Town { scene, dice: Dice(seed), newest: [None, None, None], told: 0 };
            town.scene.a.open_room(ROOM, ANA);
            for _ in 0..STEPS {
                town.step();
                town.check();
            }
            assert!(town.told > STEPS / 2, "{}", town.told);
            // All have left, and the room ends: nothing is left.
            for who in PEOPLE {
                let words = format!("quit {ROOM} {} 1000 {TAIL_LEFT} {HOUR}", who.uid);
                assert_eq!(town.scene.a.says(&words), "[OK]");
            }
            town.scene.a.run(&format!("delete_room {ROOM} ''"));
            assert_eq!(town.scene.keys(), [""; 0], "{P}");
        }
    });
}
