//! Presence: entering, names and probes, stays at several nodes, the grace, leaving.

use super::{
    ANA, BO, CY, Entry, FALSE_ANA, Ground, HIDDEN, HOUR, Node, Person, Post, ROOM, Scene, TAIL,
    briefs, each,
};
use crate::resp::Value;

fn scene(store: &dyn Ground) -> Scene {
    let mut scene = Scene::on(store);
    scene.a.open_room(ROOM, ANA);
    scene
}

fn status(node: &mut Node, entry: &Entry) -> String {
    node.enter(ROOM, entry).at(0).text()
}

fn later(who: Person) -> Entry {
    Entry { mode: "later", ..Entry::of(who) }
}

/// The people of a snapshot.
fn people(snapshot: &Value) -> String {
    let names = snapshot.at(1).list().chunks(2).map(|pair| pair[1].text());
    names.collect::<Vec<_>>().join(" ")
}

fn alive(node: &mut Node, who: Person) {
    node.run(&format!("alive {ROOM} {}", who.uid));
}

/// Ends the time of the open probe.
fn end_probe(scene: &mut Scene) {
    let probe = scene.field(&format!("b:{ROOM}"), "ana");
    let words: Vec<&str> = probe.splitn(3, ' ').collect();
    let ended = format!("{} {} {}", words[0], scene.now() - 1, words[2]);
    scene.admin.must(&["HSET", &format!("{}b:{ROOM}", super::P), "ana", &ended]);
}

/// The numbers that belong together: present people, in `o`, `f`, `p`, `y`; stays; and each stay.
fn counts(scene: &mut Scene) -> String {
    let mut size = |words: &str| scene.stored(&format!("{words}:{ROOM}")).to_string();
    let sizes = [size("ZCARD ^o"), size("HLEN ^f"), size("HLEN ^p"), size("HLEN ^y")].join(" ");
    let stays = scene.field(&format!("r:{ROOM}"), "s");
    let mut here = |node: &str| scene.stored(&format!("SCARD ^y:{ROOM}:{node}")).to_string();
    format!("{sizes}, {stays} = {} {} {}", here("node1"), here("node2"), here("node3"))
}

#[test]
fn a_person_arrives_with_its_first_socket_and_departs_after_its_last() {
    each(|store| {
        let mut scene = scene(store);
        let reply = scene.a.admit(ROOM, ANA);
        assert_eq!(briefs(reply.at(2)), ["J ana"]);
        assert_eq!((reply.at(1).text(), reply.at(3).text()), ("0-0".into(), "".into()));
        assert_eq!((people(reply.at(4)), reply.at(5).text()), ("".into(), "".into()));
        let reply = scene.b.admit(ROOM, BO);
        assert_eq!(people(reply.at(4)), "ana", "as it was before");
        let last = reply.at(2).at(0);
        assert_eq!(reply.at(1), last.at(0), "and so is the last id");
        assert_eq!((scene.a.heard(), scene.b.heard()), (vec!["J bo".into()], vec![]));
        // Ana's second tab, at another node: nothing is announced.
        let reply = scene.b.enter(ROOM, &Entry { have: "1", ..Entry::of(ANA) });
        assert_eq!((briefs(reply.at(2)), reply.at(4).text()), (vec![], "".into()));
        scene.b.admit(ROOM, ANA);
        assert_eq!(counts(&mut scene), "2 2 2 2, 3 = 1 2 0");
        assert_eq!(scene.a.exit(ROOM, ANA, "closed").to_string(), "[OK '']");
        assert_eq!(scene.a.exit(ROOM, ANA, "closed").to_string(), "[OK '']", "sent twice");
        assert_eq!(counts(&mut scene), "2 2 2 2, 2 = 0 2 0");
        scene.a.heard();
        let left = scene.b.exit(ROOM, ANA, "closed");
        assert_eq!(briefs(&Value::List(vec![left.at(1).clone()])), ["L ana"]);
        assert_eq!(scene.a.heard(), ["L ana"]);
        assert_eq!(counts(&mut scene), "1 1 1 1, 1 = 0 1 0");
        scene.b.exit(ROOM, BO, "closed");
        assert_eq!(counts(&mut scene), "0 0 0 0, 0 = 0 0 0");
        assert_ne!(scene.field(&format!("r:{ROOM}"), "e"), "-");
        assert_eq!(scene.history(ROOM), ["J ana", "J bo", "L ana", "L bo"]);
        assert_eq!(scene.field(&format!("r:{ROOM}"), "n"), "node1 node2 ", "the mirrors stay");
        let last = |who: Person| format!("exit {ROOM} {} closed 0 {HOUR} 1000 {TAIL} 1", who.uid);
        scene.a.run(&last(ANA));
        assert_eq!(scene.field(&format!("r:{ROOM}"), "n"), "node2 ");
        // Somebody has entered while that was on its way.
        scene.b.admit(ROOM, BO);
        scene.b.run(&last(ANA));
        assert_eq!(scene.field(&format!("r:{ROOM}"), "n"), "node2 ");
        scene.b.run(&last(BO));
        assert_eq!(scene.field(&format!("r:{ROOM}"), "n"), "''");
    });
}

#[test]
fn a_node_that_has_a_mirror_gets_no_snapshot_unless_the_store_knows_nothing_of_it() {
    each(|store| {
        let mut scene = scene(store);
        let have = |who| Entry { have: "1", ..Entry::of(who) };
        let reply = scene.b.enter(ROOM, &have(BO));
        assert_eq!(reply.at(4).list().len(), 2, "the node was forgotten");
        let reply = scene.b.enter(ROOM, &have(CY));
        assert_eq!(reply.at(4).text(), "");
        assert_eq!(briefs(reply.at(2)), ["J cy"]);
    });
}

#[test]
fn entering_is_refused_in_the_order_of_the_contract() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        scene.a.join(ROOM, CY);
        scene.a.remove(ROOM, ANA.uid, CY, "600000000");
        scene.a.change(ROOM, ANA, "'' '' 1 '' set '' '' salt~hash ''");
        let bad = |who| Entry { over: "sockets", join_wait: "5", ..Entry::of(who) };
        assert_eq!(scene.b.enter("0000000000", &bad(CY)).to_string(), "[NOROOM]");
        assert_eq!(status(&mut scene.b, &bad(CY)), "BANNED");
        assert_eq!(status(&mut scene.b, &bad(FALSE_ANA)), "LOCKED");
        scene.a.change(ROOM, ANA, "'' '' 0 '' '' '' '' '' ''");
        assert_eq!(status(&mut scene.b, &bad(FALSE_ANA)), "NOMEMBER");
        scene.a.change(ROOM, ANA, "'' '' '' '' none '' '' '' ''");
        assert_eq!(status(&mut scene.b, &bad(FALSE_ANA)), "OVER");
        let name = |mode| Entry { mode, join_wait: "5", ..Entry::of(FALSE_ANA) };
        assert_eq!(status(&mut scene.b, &name("later")), "TAKEN");
        assert_eq!(status(&mut scene.b, &name("first")), "PROBE");
        assert_eq!(
            scene.b.enter(ROOM, &Entry { join_wait: "5", ..Entry::of(BO) }).to_string(),
            "[RATE 5]"
        );
        assert_eq!(scene.stored(&format!("HEXISTS ^m:{ROOM} {}", BO.uid)).number(), 0);
        assert_eq!(scene.field(&format!("r:{ROOM}"), "n"), "node1 ", "refusals are no interest");
        // Who is present is not announced again, so its joins cost nothing.
        assert_eq!(status(&mut scene.b, &Entry { join_wait: "5", ..Entry::of(ANA) }), "IN");
    });
}

#[test]
fn a_return_within_the_grace_is_not_announced_at_any_node() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        scene.b.admit(ROOM, BO);
        scene.b.heard();
        assert_eq!(scene.a.exit(ROOM, ANA, "broken").to_string(), "[OK '']");
        assert_eq!(counts(&mut scene), "2 2 2 2, 1 = 0 1 0");
        let grace = format!("g:{ROOM}:{}", ANA.uid);
        assert!(scene.stored(&format!("ZSCORE ^due {grace}")).number() > scene.now());
        let reply = scene.c.admit(ROOM, ANA);
        assert_eq!((briefs(reply.at(2)), people(reply.at(4))), (vec![], "ana bo".into()));
        assert_eq!(scene.stored(&format!("ZSCORE ^due {grace}")).to_string(), "-");
        assert_eq!(scene.b.heard(), [""; 0]);
        // Not in time: the node that reaps announces it to all, itself included.
        scene.c.exit(ROOM, ANA, "broken");
        scene.make_due(&grace);
        scene.b.reap("16");
        assert_eq!(
            (scene.a.heard(), scene.b.heard()),
            (vec!["J bo".into(), "L ana".into()], vec!["L ana".into()])
        );
        assert_eq!(counts(&mut scene), "1 1 1 1, 1 = 0 1 0");
        // Without a grace it has left at once.
        scene.b.run(&format!("exit {ROOM} {} broken 0 {HOUR} 1000 8123456789abcdef ''", BO.uid));
        assert_eq!(counts(&mut scene), "0 0 0 0, 0 = 0 0 0");
    });
}

#[test]
fn a_holder_in_its_grace_gives_way_without_a_probe() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        scene.a.exit(ROOM, ANA, "broken");
        let refused = Entry { join_wait: "5", ..Entry::of(FALSE_ANA) };
        assert_eq!(status(&mut scene.b, &refused), "RATE");
        assert_eq!(scene.history(ROOM), ["J ana"], "the rate is asked first");
        let reply = scene.b.admit(ROOM, FALSE_ANA);
        assert_eq!(briefs(reply.at(2)), ["L ana", "J ana"]);
        assert_eq!(reply.at(2).at(1).at(0), reply.at(2).at(0).at(1), "one after the other");
        assert_eq!((people(reply.at(4)), reply.at(5).text()), ("ana".into(), "".into()));
        assert_eq!(scene.a.heard(), ["L ana", "J ana"]);
        let due = scene.stored(&format!("ZSCORE ^due g:{ROOM}:{}", ANA.uid));
        assert_eq!(due.to_string(), "-");
        assert_eq!(counts(&mut scene), "1 1 1 1, 1 = 0 1 0");
    });
}

#[test]
fn a_holder_that_answers_keeps_its_name() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        scene.b.admit(ROOM, ANA);
        let reply = scene.c.enter(ROOM, &Entry::of(FALSE_ANA));
        assert_eq!((reply.at(1).text(), reply.at(2).text()), ("3000000".into(), ANA.uid.into()));
        let asked = format!("Q {ROOM} {}", ANA.uid);
        assert_eq!((scene.a.heard(), scene.b.heard()), (vec![asked.clone()], vec![asked.clone()]));
        // One probe, however many wait. The caller is asked too if the holder is there.
        let reply = scene.b.enter(ROOM, &Entry::of(FALSE_ANA));
        assert!((1..=3_000_000).contains(&reply.at(1).number()), "{reply}");
        assert_eq!(scene.b.heard(), [""; 0]);
        assert_eq!(status(&mut scene.b, &later(FALSE_ANA)), "PROBE", "too early");
        assert!(scene.stored(&format!("PTTL ^b:{ROOM}")).number() > 3000);
        alive(&mut scene.a, ANA);
        alive(&mut scene.b, ANA);
        let answered = format!("A {ROOM} {}", ANA.uid);
        assert_eq!((scene.b.heard(), scene.c.heard()), (vec![answered.clone()], vec![answered]));
        assert_eq!(status(&mut scene.b, &later(FALSE_ANA)), "TAKEN");
        assert_eq!(status(&mut scene.c, &later(FALSE_ANA)), "TAKEN");
        assert_eq!(scene.stored(&format!("EXISTS ^b:{ROOM}")).number(), 0);
        // A newcomer begins another probe. Another tab of the holder is a sign of life.
        assert_eq!(status(&mut scene.a, &Entry::of(FALSE_ANA)), "PROBE");
        assert_eq!(scene.a.heard(), [asked]);
        scene.c.admit(ROOM, ANA);
        assert_eq!(scene.a.heard(), [format!("A {ROOM} {}", ANA.uid)]);
        assert_eq!(status(&mut scene.a, &later(FALSE_ANA)), "TAKEN");
        assert_eq!(scene.stored(&format!("HEXISTS ^m:{ROOM} {}", FALSE_ANA.uid)).number(), 0);
    });
}

#[test]
fn a_silent_holder_is_evicted_and_the_first_to_ask_has_its_name() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        scene.b.admit(ROOM, ANA);
        assert_eq!(status(&mut scene.c, &Entry::of(FALSE_ANA)), "PROBE");
        let other = Person { uid: "eeeeeeeeeeeeeeee", ..FALSE_ANA };
        assert_eq!(status(&mut scene.a, &Entry::of(other)), "PROBE");
        end_probe(&mut scene);
        assert_eq!(status(&mut scene.a, &Entry::of(CY)), "IN", "other names are not concerned");
        let late = scene.b.enter(ROOM, &Entry::of(BO));
        assert_eq!(late.at(0).text(), "IN");
        for node in [&mut scene.a, &mut scene.b, &mut scene.c] {
            node.heard();
        }
        // A third session does not begin another probe, and waits a moment.
        let third = Person { uid: "dddddddddddddddd", ..FALSE_ANA };
        let wait = scene.b.enter(ROOM, &Entry::of(third));
        assert_eq!((wait.at(0).text(), wait.at(1).text()), ("PROBE".into(), "100000".into()));
        let reply = scene.c.enter(ROOM, &later(FALSE_ANA));
        assert_eq!(
            (reply.at(0).text(), briefs(reply.at(2))),
            ("IN".into(), vec!["L ana".into(), "J ana".into()])
        );
        assert_eq!(reply.at(5).text(), ANA.uid);
        let evicted = format!("K {ROOM} {} evicted", ANA.uid);
        let free = format!("F {ROOM} ana");
        let told = [evicted, "L ana".into(), free, "J ana".into()];
        assert_eq!((scene.a.heard(), scene.b.heard()), (told.to_vec(), told.to_vec()));
        assert_eq!(scene.c.heard(), [format!("F {ROOM} ana")], "others may wait at the caller");
        assert_eq!(counts(&mut scene), "3 3 3 3, 3 = 1 1 1");
        assert_eq!(status(&mut scene.a, &later(other)), "TAKEN");
        // What the evicted holder's nodes still send changes nothing.
        assert_eq!(scene.a.exit(ROOM, ANA, "closed").to_string(), "[OK '']");
        assert_eq!(scene.a.post(ROOM, &Post::of(ANA, "x")).to_string(), "[GONE]");
        assert_eq!(counts(&mut scene), "3 3 3 3, 3 = 1 1 1");
        assert_eq!(
            scene.stored(&format!("HEXISTS ^m:{ROOM} {}", ANA.uid)).number(),
            1,
            "still a member"
        );
    });
}

#[test]
fn an_evicted_holder_may_have_been_the_only_person() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        assert_eq!(status(&mut scene.b, &Entry::of(FALSE_ANA)), "PROBE");
        end_probe(&mut scene);
        assert_eq!(status(&mut scene.b, &later(FALSE_ANA)), "IN");
        assert_eq!(counts(&mut scene), "1 1 1 1, 1 = 0 1 0");
        assert_eq!(scene.field(&format!("r:{ROOM}"), "e"), "-", "the room was never empty");
        assert_eq!(scene.stored(&format!("ZSCORE ^due e:{ROOM}")).to_string(), "-");
        for key in ["o", "f", "p", "y", "m", "x"] {
            assert!(scene.stored(&format!("PTTL ^{key}:{ROOM}")).number() > 0, "{key}");
        }
    });
}

#[test]
fn a_wanted_holder_has_no_grace_and_its_name_goes_to_the_first() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        let other = Person { uid: "eeeeeeeeeeeeeeee", ..FALSE_ANA };
        assert_eq!(status(&mut scene.b, &Entry::of(FALSE_ANA)), "PROBE");
        assert_eq!(status(&mut scene.c, &Entry::of(other)), "PROBE");
        let left = scene.a.exit(ROOM, ANA, "broken");
        assert_eq!(left.at(1).list().len(), 3, "it has left at once");
        let free = vec![format!("F {ROOM} ana")];
        assert_eq!((scene.b.heard(), scene.c.heard()), (free.clone(), free));
        assert_eq!(status(&mut scene.c, &later(other)), "IN");
        assert_eq!(status(&mut scene.b, &later(FALSE_ANA)), "TAKEN");
        assert_eq!(scene.stored(&format!("EXISTS ^b:{ROOM}")).number(), 0);
    });
}

#[test]
fn a_probe_that_nobody_came_back_to_is_forgotten() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        let set = |scene: &mut Scene, ends: i64| {
            let probe = format!("{} {} node2 ", ANA.uid, scene.now() + ends);
            scene.admin.must(&["HSET", &format!("{}b:{ROOM}", super::P), "ana", &probe]);
        };
        // The end is long over, or the clock went back.
        for ends in [-1_000_001, 60_000_000] {
            set(&mut scene, ends);
            let reply = scene.c.enter(ROOM, &Entry::of(FALSE_ANA));
            assert_eq!(
                (reply.at(0).text(), reply.at(1).text()),
                ("PROBE".into(), "3000000".into())
            );
            assert_eq!(scene.a.heard().len(), 1, "it is asked again");
        }
        set(&mut scene, -1_000_001);
        assert_eq!(scene.a.exit(ROOM, ANA, "broken").to_string(), "[OK '']", "a grace as ever");
    });
}

/// Regression: a newcomer that went away while it waited left the probe open, so that the holder lost
/// its grace, and the next newcomer did not have the holder asked again.
#[test]
fn a_probe_ends_when_nobody_waits_for_the_name_at_any_node() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        let other = Person { uid: "eeeeeeeeeeeeeeee", ..FALSE_ANA };
        let unask = format!("unask {ROOM} ana");
        let asked = format!("Q {ROOM} {}", ANA.uid);
        assert_eq!(status(&mut scene.b, &Entry::of(FALSE_ANA)), "PROBE");
        assert_eq!(status(&mut scene.c, &Entry::of(other)), "PROBE");
        assert_eq!(scene.a.heard(), std::slice::from_ref(&asked));
        assert_eq!(scene.a.run(&unask).to_string(), "[OK]", "nobody waits there");
        scene.b.run(&unask);
        scene.b.run(&unask);
        assert!(scene.field(&format!("b:{ROOM}"), "ana").ends_with(" node3 "));
        scene.c.run(&unask);
        assert_eq!(scene.stored(&format!("EXISTS ^b:{ROOM}")).number(), 0);
        assert_eq!(scene.c.run(&unask).to_string(), "[OK]");
        assert_eq!(status(&mut scene.b, &Entry::of(FALSE_ANA)), "PROBE");
        assert_eq!(scene.a.heard(), [asked], "a newcomer begins another one");
        scene.b.run(&unask);
        assert_eq!(scene.a.exit(ROOM, ANA, "broken").to_string(), "[OK '']", "a grace as ever");
    });
}

#[test]
fn a_room_without_an_owner_goes_to_the_next_who_comes() {
    each(|store| {
        let mut scene = scene(store);
        scene.c.run(&format!("look {ROOM} '' show '' 1"));
        scene.a.quit(ROOM, ANA);
        assert_eq!(scene.field(&format!("r:{ROOM}"), "o"), "-");
        let about = |facts: &str| facts.split(' ').nth(2).unwrap().to_owned();
        let told = scene.c.heard();
        assert!(told[0].starts_with(&format!("K {ROOM} {} ended", ANA.uid)), "{told:?}");
        assert!(told[1].starts_with(&format!("R {ROOM} - 0 - ")), "{told:?}");
        let reply = scene.b.admit(ROOM, BO);
        assert_eq!(about(&reply.at(4).at(0).text()), "-", "the snapshot is of before");
        assert_eq!(about(&reply.at(3).text()), BO.uid);
        let told = scene.c.heard();
        assert_eq!((told[0].as_str(), about(&told[1][13..])), ("J bo", BO.uid.into()));
        assert_eq!(scene.a.admit(ROOM, CY).at(3).text(), "", "only the first");
    });
}

#[test]
fn leaving_ends_membership_and_sockets_at_all_nodes() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, BO);
        scene.b.admit(ROOM, BO);
        scene.c.admit(ROOM, CY);
        for node in [&mut scene.a, &mut scene.b, &mut scene.c] {
            node.heard();
        }
        let reply = scene.a.leave(ROOM, BO);
        assert_eq!(briefs(&Value::List(vec![reply.at(1).clone()])), ["L bo"]);
        let told = vec![format!("K {ROOM} {} left", BO.uid), "L bo".into()];
        assert_eq!(
            (scene.a.heard(), scene.b.heard(), scene.c.heard()),
            (vec![], told.clone(), told)
        );
        assert_eq!(counts(&mut scene), "1 1 1 1, 1 = 0 0 1");
        assert_eq!(scene.a.says(&format!("members {ROOM} {}", BO.uid)), "[OK ['']]");
        assert_eq!(scene.a.leave(ROOM, BO).to_string(), "[OK '']", "sent twice");
        assert_eq!(scene.a.leave("0000000000", BO).to_string(), "[OK '']");
        // In its grace, and as the last one.
        scene.c.exit(ROOM, CY, "broken");
        assert_eq!(scene.b.leave(ROOM, CY).at(1).list().len(), 3);
        assert_eq!(counts(&mut scene), "0 0 0 0, 0 = 0 0 0");
        assert_eq!(scene.stored(&format!("ZSCORE ^due g:{ROOM}:{}", CY.uid)).to_string(), "-");
        assert_ne!(scene.field(&format!("r:{ROOM}"), "e"), "-");
        // A member that is not present leaves without a word.
        scene.a.join(ROOM, CY);
        assert_eq!(scene.a.leave(ROOM, CY).to_string(), "[OK '']");
        // With its last socket by leaving, the room has an end again.
        scene.a.admit(ROOM, ANA);
        let reply = scene.a.leave(ROOM, ANA);
        assert_eq!(reply.at(2).text(), "1", "ana goes on owning the room");
        assert_ne!(scene.stored(&format!("ZSCORE ^due e:{ROOM}")).to_string(), "-");
    });
}

#[test]
fn a_session_that_has_ended_quits_and_its_rooms_pass_to_who_is_there_longest() {
    each(|store| {
        let mut scene = scene(store);
        scene.b.admit(ROOM, CY);
        scene.b.admit(ROOM, BO);
        scene.a.admit(ROOM, ANA);
        scene.b.exit(ROOM, CY, "closed");
        scene.b.admit(ROOM, CY);
        scene.a.heard();
        scene.b.heard();
        assert_eq!(scene.a.quit(ROOM, ANA).to_string(), "[OK]");
        let told = scene.a.heard();
        assert_eq!(told[..2], [format!("K {ROOM} {} ended", ANA.uid), "L ana".into()]);
        assert!(told[2].starts_with(&format!("R {ROOM} - 0 {} ", BO.uid)), "{told:?}");
        assert_eq!(scene.b.heard(), told, "all nodes by push, the caller too");
        assert_eq!(scene.a.quit(ROOM, ANA).to_string(), "[OK]", "sent twice");
        assert_eq!(scene.b.heard(), [format!("K {ROOM} {} ended", ANA.uid)]);
        assert_eq!(scene.a.quit("0000000000", ANA).to_string(), "[OK]");
        assert_eq!(scene.a.quit(HIDDEN, ANA).to_string(), "[OK]");
        assert_eq!(scene.stored(&format!("EXISTS ^r:{HIDDEN} ^y:{HIDDEN}")).number(), 0);
    });
}

#[test]
fn an_address_is_that_of_the_last_join_or_connection() {
    each(|store| {
        let mut scene = scene(store);
        let addr = |scene: &mut Scene| {
            let member = scene.stored(&format!("HGET ^m:{ROOM} {}", BO.uid)).text();
            member.split('\0').next().unwrap().to_owned()
        };
        scene.a.enter(ROOM, &Entry { addr: "11111111111111", ..Entry::of(BO) });
        assert_eq!(addr(&mut scene), "11111111111111");
        scene.b.enter(ROOM, &Entry { addr: "22222222222222", ..Entry::of(BO) });
        assert_eq!(addr(&mut scene), "22222222222222");
        // A node that enters its people once more does not know it.
        scene.b.enter(ROOM, &Entry { addr: "-", ..Entry::of(BO) });
        assert_eq!(addr(&mut scene), "22222222222222");
        scene.b.enter(ROOM, &Entry { addr: "-", ..Entry::of(CY) });
        let cy = scene.stored(&format!("HGET ^m:{ROOM} {}", CY.uid)).text();
        assert_eq!(cy, "\0cy\0cy");
        scene.a.join(ROOM, BO);
        assert_eq!(addr(&mut scene), "");
    });
}

#[test]
fn a_large_room_is_a_snapshot_too() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        // 2,500 people arrive at once, as far as a snapshot can tell.
        let (mut order, mut members) = (String::new(), String::new());
        for number in 0..2500 {
            order.push_str(&format!(" {} {number:016x}", number + 10));
            members.push_str(&format!(" {number:016x} \0p{number}\0p{number}"));
        }
        scene.stored(&format!("ZADD ^o:{ROOM}{order}"));
        scene.stored(&format!("HSET ^m:{ROOM}{members}"));
        let reply = scene.b.admit(ROOM, BO);
        let names = people(reply.at(4));
        assert!(names.starts_with("ana p0 p1 p2 ") && names.ends_with(" p2499"));
        assert_eq!(names.split(' ').count(), 2501);
    });
}

#[test]
fn nodes_where_somebody_only_waits_for_a_name_hear_of_the_end_too() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.admit(ROOM, ANA);
        scene.a.join(ROOM, FALSE_ANA);
        assert_eq!(status(&mut scene.b, &Entry::of(FALSE_ANA)), "PROBE");
        scene.a.leave(ROOM, FALSE_ANA);
        assert_eq!(scene.b.heard(), [format!("K {ROOM} {} left", FALSE_ANA.uid)]);
        assert_eq!(scene.c.heard(), [""; 0]);
        scene.a.run(&format!("delete_room {ROOM} ''"));
        assert_eq!(scene.b.heard(), [format!("D {ROOM} deleted")]);
        assert_eq!(scene.keys(), [""; 0]);
    });
}
