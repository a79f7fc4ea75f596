//! What is said: posts, their order, nonces, rates, slow mode, deletion, and how much is kept.

use super::{
    ANA, BO, CY, Entry, FALSE_ANA, Ground, HOUR, Node, Post, ROOM, Scene, TAIL, body, brief, each,
};
use super::{briefs, order};

/// A room with ana at the first node and bo at the second, who have been announced.
fn scene(store: &dyn Ground) -> Scene {
    let mut scene = Scene::on(store);
    scene.a.open_room(ROOM, ANA);
    scene.a.admit(ROOM, ANA);
    scene.b.admit(ROOM, BO);
    scene.a.heard();
    scene.b.heard();
    scene
}

fn status(node: &mut Node, post: &Post) -> String {
    node.post(ROOM, post).at(0).text()
}

#[test]
fn a_post_is_told_to_its_sender_by_the_reply_and_to_the_other_nodes_by_a_push() {
    each(|store| {
        let mut scene = scene(store);
        let reply = scene.a.post(ROOM, &Post::of(ANA, "hello  world"));
        let (prev, id, stamp) = (reply.at(1).text(), reply.at(2).text(), reply.at(3).text());
        assert_eq!((reply.at(0).text(), reply.at(4).text()), ("OK".into(), String::new()));
        assert_eq!(stamp.len(), 16);
        let d = stamp.clone() + &body("C", ANA, "", "hello  world");
        assert_eq!(scene.b.client.pushes(), [format!("M {ROOM} {prev} {id} {d}")]);
        assert_eq!((scene.a.heard(), scene.c.heard()), (vec![], vec![]));
        let last = scene.stored(&format!("XREVRANGE ^x:{ROOM} + - COUNT 1"));
        assert_eq!(last.to_string(), format!("[[{id} [d {d}]]]"));
        assert_eq!(scene.history(ROOM), ["J ana", "J bo", "C ana hello  world"]);
        assert_eq!(id.split_once('-').unwrap().0, &stamp[..13], "the id has the time");
    });
}

#[test]
fn ids_grow_whatever_the_clock_does_and_a_full_counter_borrows_a_millisecond() {
    each(|store| {
        let mut scene = scene(store);
        let ahead = scene.now() / 1000 + 3_600_000; // The clock went back by an hour.
        scene.stored(&format!("HSET ^r:{ROOM} u {ahead} q 4094"));
        let reply = scene.a.post(ROOM, &Post::of(ANA, "one"));
        assert_eq!(reply.at(1).text(), format!("{ahead}-4094"));
        assert_eq!(reply.at(2).text(), format!("{ahead}-4095"));
        assert!(reply.at(3).number() < ahead * 1000, "the time shown is the clock's");
        assert_eq!(scene.a.say(ROOM, ANA, "two"), format!("{}-0", ahead + 1));
        assert_eq!(scene.a.say(ROOM, ANA, "three"), format!("{}-1", ahead + 1));
    });
}

#[test]
fn a_room_refuses_posts_in_the_order_of_the_contract() {
    each(|store| {
        let mut scene = scene(store);
        let rest = |who, text| Post { by_rest: true, ..Post::of(who, text) };
        assert_eq!(scene.a.post("0000000000", &rest(ANA, "x")).to_string(), "[NOROOM]");
        assert_eq!(status(&mut scene.a, &Post::of(CY, "x")), "GONE");
        assert_eq!(status(&mut scene.a, &rest(CY, "x")), "NOMEMBER");
        scene.a.join(ROOM, FALSE_ANA);
        // The name is looked at before the rate: none was charged.
        let tight = |who| Post { interval: HOUR, ..rest(who, "x") };
        assert_eq!(status(&mut scene.a, &tight(FALSE_ANA)), "TAKEN");
        scene.a.join(ROOM, CY);
        assert_eq!(status(&mut scene.a, &tight(CY)), "OK");
        let wait = scene.a.post(ROOM, &tight(CY));
        assert_eq!(wait.at(0).text(), "RATE");
        assert!((3_500_000_000..=3_600_000_000).contains(&wait.at(1).number()), "{wait}");
        assert_eq!(scene.history(ROOM).last().unwrap(), "C cy x");
        // A room that is over is none, although nobody has reaped it.
        scene.stored(&format!("HSET ^r:{ROOM} z 1"));
        assert_eq!(status(&mut scene.a, &Post::of(ANA, "x")), "NOROOM");
        scene.stored(&format!("HDEL ^r:{ROOM} z"));
        scene.stored(&format!("HSET ^r:{ROOM} e 1"));
        assert_eq!(status(&mut scene.a, &Post::of(ANA, "x")), "NOROOM");
    });
}

#[test]
fn a_holder_in_its_grace_gives_way_to_a_post() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.join(ROOM, FALSE_ANA);
        scene.a.exit(ROOM, ANA, "broken");
        let post = Post { by_rest: true, ..Post::of(FALSE_ANA, "mine") };
        let reply = scene.b.post(ROOM, &post);
        assert_eq!(brief(&reply.at(4).at(2).text()), "L ana");
        assert_eq!(reply.at(4).at(1), reply.at(1), "the departure comes before");
        assert_eq!(scene.a.heard(), ["L ana", "C ana mine"]);
        assert_eq!(scene.stored(&format!("ZCARD ^o:{ROOM}")).number(), 1);
        assert_eq!(scene.stored(&format!("HEXISTS ^f:{ROOM} ana")).number(), 0);
    });
}

#[test]
fn the_meter_of_a_person_goes_on_when_it_leaves_and_returns() {
    each(|store| {
        let mut scene = scene(store);
        let tight = || Post { interval: HOUR, burst: "2", ..Post::of(ANA, "x") };
        assert_eq!(status(&mut scene.a, &tight()), "OK");
        scene.a.exit(ROOM, ANA, "closed");
        assert_eq!(scene.stored(&format!("ZCARD ^g:{ROOM}")).number(), 1);
        assert_eq!(status(&mut scene.a, &Post { by_rest: true, ..tight() }), "OK");
        scene.b.admit(ROOM, ANA);
        assert_eq!(scene.stored(&format!("ZCARD ^g:{ROOM}")).number(), 0);
        assert_eq!(status(&mut scene.b, &tight()), "RATE");
        // A meter of the time before the clock went back does not lock anybody out.
        scene.stored(&format!("HSET ^p:{ROOM} {} 8000000000000000", ANA.uid));
        let wait = scene.b.post(ROOM, &Post { interval: "1000000", burst: "2", ..tight() });
        assert!((1..=1_000_000).contains(&wait.at(1).number()), "{wait}");
        // What no longer counts is not kept.
        scene.stored(&format!("HSET ^p:{ROOM} {} 0", ANA.uid));
        scene.b.exit(ROOM, ANA, "closed");
        assert_eq!(scene.stored(&format!("EXISTS ^g:{ROOM}")).number(), 0);
    });
}

#[test]
fn a_nonce_is_answered_with_its_message_within_the_kept_history() {
    each(|store| {
        let mut scene = scene(store);
        let post = |who, nonce, text| Post { nonce, keep: "4", ..Post::of(who, text) };
        let first = scene.a.post(ROOM, &post(ANA, "n1", "one"));
        scene.b.heard();
        let again = scene.a.post(ROOM, &post(ANA, "n1", "other"));
        let d = first.at(3).text() + &body("C", ANA, "n1", "one");
        assert_eq!(again.to_string(), format!("[DUP {} {d}]", first.at(2)));
        assert_eq!(scene.b.heard(), [""; 0], "nobody is told");
        // Nonces of different people are different.
        assert_eq!(status(&mut scene.b, &post(BO, "n1", "bo's")), "OK");
        // Two generations: n1 is in the older one now, and its message is kept.
        assert_eq!(status(&mut scene.a, &post(ANA, "n2", "two")), "OK");
        assert_eq!(status(&mut scene.a, &post(ANA, "n3", "three")), "OK");
        assert_eq!(scene.stored(&format!("HLEN ^K:{ROOM}")).number(), 4);
        assert_eq!(scene.stored(&format!("EXISTS ^k:{ROOM}")).number(), 0);
        assert_eq!(scene.history(ROOM).len(), 4);
        assert_eq!(status(&mut scene.a, &post(ANA, "n1", "one")), "DUP");
        assert_eq!(status(&mut scene.a, &post(ANA, "n4", "four")), "OK");
        assert_eq!(status(&mut scene.a, &post(ANA, "n1", "one")), "OK", "no longer kept");
        assert_eq!(status(&mut scene.a, &post(ANA, "n4", "four")), "DUP");
        // An arrival leaves one message more, for nodes that load the history, but not for clients.
        scene.c.enter(ROOM, &Entry { keep: "4", ..Entry::of(CY) });
        assert_eq!(scene.history(ROOM).len(), 5);
        assert_eq!(status(&mut scene.a, &post(ANA, "n3", "three")), "DUP");
        let second = scene.stored(&format!("XRANGE ^x:{ROOM} - + COUNT 1")).at(0).at(0).text();
        let delete =
            format!("delete_message {ROOM} {} {second} {TAIL} {TAIL} ana 4 0 1 u", ANA.uid);
        assert_eq!(scene.a.says(&delete), "[NOMESSAGE]");
        assert_eq!(status(&mut scene.a, &post(ANA, "n2", "two")), "OK", "no longer kept");
        let size: i64 =
            ["k", "K"].map(|k| scene.stored(&format!("HLEN ^{k}:{ROOM}")).number()).iter().sum();
        assert!(size <= 8);
    });
}

#[test]
fn a_rate_is_asked_before_a_nonce_and_a_nonce_before_slow_mode() {
    each(|store| {
        let mut scene = scene(store);
        scene.a.change(ROOM, ANA, "'' '' '' 10 '' '' '' '' ''");
        let post = |nonce| Post { nonce, ..Post::of(BO, "x") };
        assert_eq!(status(&mut scene.b, &post("n1")), "OK");
        assert_eq!(status(&mut scene.b, &post("n1")), "DUP");
        let wait = scene.b.post(ROOM, &post("n2"));
        assert_eq!(wait.at(0).text(), "RATE");
        assert!((9_000_000..=10_000_000).contains(&wait.at(1).number()), "{wait}");
        let tight = || Post { interval: HOUR, ..post("n1") };
        assert_eq!(status(&mut scene.b, &tight()), "DUP");
        assert_eq!(status(&mut scene.b, &tight()), "RATE", "a known nonce is charged too");
        // The owner may chat at any time.
        assert_eq!(status(&mut scene.a, &Post::of(ANA, "y")), "OK");
        assert_eq!(status(&mut scene.a, &Post::of(ANA, "y")), "OK");
        // A refusal does not count: ten seconds after the chat, not after the refused one.
        let last = scene.now() - 10_000_001;
        scene.stored(&format!("ZADD ^w:{ROOM} {last} {}", BO.uid));
        assert_eq!(status(&mut scene.b, &post("n3")), "OK");
        // Another slow mode counts from the last chat; 0 forgets all.
        let last = scene.now() - 5_000_000;
        scene.stored(&format!("ZADD ^w:{ROOM} {last} {}", BO.uid));
        scene.a.change(ROOM, ANA, "'' '' '' 20 '' '' '' '' ''");
        let wait = scene.b.post(ROOM, &post("n4"));
        assert!((14_000_000..=15_000_000).contains(&wait.at(1).number()), "{wait}");
        scene.a.change(ROOM, ANA, "'' '' '' 0 '' '' '' '' ''");
        assert_eq!(scene.stored(&format!("EXISTS ^w:{ROOM}")).number(), 0);
        assert_eq!(status(&mut scene.b, &post("n5")), "OK");
    });
}

#[test]
fn a_post_from_outside_starts_the_rooms_running_time_anew() {
    each(|store| {
        let mut scene = Scene::on(store);
        scene.a.open_room(ROOM, ANA);
        let ends = |scene: &mut Scene| {
            let end = scene.field(&format!("r:{ROOM}"), "e").parse::<i64>().unwrap();
            let due = scene.stored(&format!("ZSCORE ^due e:{ROOM}")).number();
            assert_eq!(end, due);
            (end - scene.now()) / 100_000_000
        };
        let post = |nonce| Post { nonce, by_rest: true, ..Post::of(ANA, "x") };
        scene.stored(&format!("HSET ^r:{ROOM} e {}", 9_000_000_000_000_000_i64));
        assert_eq!(status(&mut scene.a, &post("n1")), "OK");
        assert_eq!(ends(&mut scene), 71, "the time of a new room");
        scene.a.admit(ROOM, ANA);
        assert_eq!(scene.field(&format!("r:{ROOM}"), "e"), "-");
        assert_eq!(status(&mut scene.a, &post("n2")), "OK");
        assert_eq!(scene.field(&format!("r:{ROOM}"), "e"), "-", "none runs");
        scene.a.exit(ROOM, ANA, "closed");
        let soon = scene.now() + 1_000_000_000;
        scene.stored(&format!("HSET ^r:{ROOM} e {soon}"));
        assert_eq!(status(&mut scene.a, &post("n2")), "DUP");
        assert_eq!(ends(&mut scene), 35, "the time of an empty room; a known nonce counts too");
        // A room with a ttl ends no later for it.
        scene.stored(&format!("HSET ^r:{ROOM} z {soon}"));
        assert_eq!(status(&mut scene.a, &post("n3")), "OK");
        assert_eq!(scene.stored(&format!("ZSCORE ^due e:{ROOM}")).number(), soon);
    });
}

#[test]
fn a_deleted_text_is_gone_and_its_tombstone_is_history() {
    each(|store| {
        let mut scene = scene(store);
        let post = Post { nonce: "n1", ..Post::of(BO, "a secret") };
        let id = scene.b.post(ROOM, &post).at(2).text();
        let joined = scene.stored(&format!("XRANGE ^x:{ROOM} - + COUNT 1")).at(0).at(0).text();
        assert_eq!(scene.b.delete_message("0000000000", BO, &id).to_string(), "[NOROOM]");
        assert_eq!(scene.b.delete_message(ROOM, BO, "1-1").to_string(), "[NOMESSAGE]");
        assert_eq!(scene.a.delete_message(ROOM, ANA, &joined).to_string(), "[NOMESSAGE]");
        let other =
            format!("delete_message {ROOM} {} {id} 8000000000000000 {TAIL} bo 1000 0 1 u", BO.uid);
        assert_eq!(scene.b.says(&other), "[NOMESSAGE]", "another message would have this id");
        assert_eq!(scene.c.delete_message(ROOM, CY, &id).to_string(), "[NOTAUTHOR]");
        scene.b.heard();
        let reply = scene.a.delete_message(ROOM, ANA, &id);
        assert_eq!(brief(&reply.at(1).at(2).text()), "X ana 0198c0de-0000-7000-8123-456789abcdef");
        assert_eq!(scene.b.heard(), ["X ana 0198c0de-0000-7000-8123-456789abcdef"]);
        assert_eq!(scene.b.delete_message(ROOM, BO, &id).to_string(), "[OK '']", "once more");
        assert_eq!(scene.b.heard(), [""; 0]);
        let history = scene.history(ROOM);
        assert_eq!(history[2..], ["D bo n1", "X ana 0198c0de-0000-7000-8123-456789abcdef"]);
        let contents = scene.contents();
        assert!(contents.iter().all(|key| !key.value.contains("a secret")), "{contents:?}");
        let dup = scene.b.post(ROOM, &post);
        assert_eq!((dup.at(0).text(), dup.at(1).text()), ("DUP".into(), id));
        assert_eq!(brief(&dup.at(2).text()), "D bo n1");
    });
}

/// Regression: a node that began to mirror a room had the tombstones of the moment at which it was told
/// of it, and never learned of a message that was deleted before it read that part of the history.
#[test]
fn a_node_that_loads_the_history_gets_deleted_messages_in_their_places() {
    each(|store| {
        let mut scene = scene(store);
        let page = |scene: &mut Scene, after: &str| {
            let page = scene.c.run(&format!("history {ROOM} {after} 3"));
            let kinds = page.at(1).list().chunks(2).map(|pair| brief(&pair[1].text())[..1].into());
            (kinds.collect::<Vec<String>>().concat(), page.at(2).text())
        };
        let ids = ["1", "2", "3", "4"].map(|text| scene.a.say(ROOM, ANA, text));
        let look = scene.c.run(&format!("look {ROOM} {} read '' 1", ANA.uid));
        assert_eq!((look.at(2).text(), look.at(3).list().len()), (ids[3].clone(), 2));
        assert_eq!(page(&mut scene, "0-0"), ("JJC".into(), "1".into()));
        scene.a.delete_message(ROOM, ANA, &ids[1]);
        scene.a.delete_message(ROOM, ANA, &ids[3]);
        assert_eq!(page(&mut scene, &ids[0]), ("DCDXX".into(), "1".into()));
        assert_eq!(page(&mut scene, &ids[2]), ("DXX".into(), "".into()));
        assert_eq!(scene.c.says("history 0000000000 0-0 3"), "[OK [] '']");
    });
}

#[test]
fn entries_and_tombstones_together_are_what_is_kept_and_the_oldest_go_first() {
    each(|store| {
        let mut scene = scene(store);
        let say = |scene: &mut Scene, text| {
            let reply = scene.a.post(ROOM, &Post { keep: "5", nonce: text, ..Post::of(ANA, text) });
            reply.at(2).text()
        };
        let one = say(&mut scene, "1");
        let two = say(&mut scene, "2");
        say(&mut scene, "3");
        assert_eq!(scene.history(ROOM), ["J ana", "J bo", "C ana 1 1", "C ana 2 2", "C ana 3 3"]);
        scene.a.delete_message(ROOM, ANA, &two);
        scene.a.delete_message(ROOM, ANA, &one);
        assert_eq!(scene.field(&format!("r:{ROOM}"), "y"), "2");
        let x = "X ana 0198c0de-0000-7000-8123-456789abcdef";
        say(&mut scene, "4");
        assert_eq!(scene.history(ROOM), ["D ana 2", "C ana 3 3", x, x, "C ana 4 4"]);
        assert_eq!(scene.field(&format!("r:{ROOM}"), "y"), "1");
        say(&mut scene, "5");
        assert_eq!(scene.history(ROOM), ["C ana 3 3", x, x, "C ana 4 4", "C ana 5 5"]);
        assert_eq!(scene.field(&format!("r:{ROOM}"), "y"), "0");
        assert_eq!(scene.stored(&format!("EXISTS ^d:{ROOM}")).number(), 0);
        say(&mut scene, "6");
        assert_eq!(scene.history(ROOM), [x, x, "C ana 4 4", "C ana 5 5", "C ana 6 6"]);
        // The nonces of what is gone are free again.
        assert_eq!(status(&mut scene.a, &Post { nonce: "1", ..Post::of(ANA, "1") }), "OK");
    });
}

#[test]
fn deleting_is_charged_to_the_message_rate_after_all_other_refusals() {
    each(|store| {
        let mut scene = scene(store);
        let id = scene.b.say(ROOM, BO, "x");
        let mut delete = |who: super::Person, interval: &str| {
            let target = format!("{ROOM} {} {id} {TAIL} {TAIL}", who.uid);
            scene.c.says(&format!("delete_message {target} {} 1000 {interval} 1 u", who.name))
        };
        assert_eq!(delete(CY, HOUR), "[NOTAUTHOR]");
        assert!(delete(BO, HOUR).starts_with("[OK ["));
        assert!(delete(BO, HOUR).starts_with("[RATE "), "also what was deleted before");
        assert_eq!(delete(BO, "0"), "[OK '']");
    });
}

#[test]
fn typing_is_told_to_the_other_nodes_and_stored_nowhere() {
    each(|store| {
        let mut scene = scene(store);
        let before = scene.keys();
        let typing = |node: &mut Node, who: super::Person, folded: &str| {
            node.says(&format!("typing {ROOM} {} {folded} {}", who.uid, who.name))
        };
        assert_eq!(typing(&mut scene.a, ANA, "''"), "[OK]");
        assert_eq!(scene.b.heard(), [format!("T {ROOM} {} ana", ANA.uid)]);
        assert_eq!(scene.a.heard(), [""; 0]);
        assert_eq!(typing(&mut scene.a, CY, "''"), "[NOMEMBER]");
        assert_eq!(typing(&mut scene.a, CY, "cy"), "[NOMEMBER]");
        scene.a.join(ROOM, FALSE_ANA);
        scene.a.exit(ROOM, ANA, "broken");
        assert_eq!(typing(&mut scene.a, FALSE_ANA, "ana"), "[TAKEN]", "in its grace too");
        assert_eq!(scene.a.says("typing 0000000000 x x x"), "[NOROOM]");
        let mut after = scene.keys();
        after.retain(|key| key != "y:a1b2c3d4e5:node1");
        assert!(after.iter().all(|key| before.contains(key)), "{after:?}");
    });
}

#[test]
fn a_mirror_learns_what_it_has_missed_or_that_it_cannot_go_on() {
    each(|store| {
        let mut scene = scene(store);
        let resync =
            |scene: &mut Scene, newest: &str| scene.b.run(&format!("resync {ROOM} {newest}"));
        assert_eq!(scene.b.says("resync 0000000000 0-0"), "[NOROOM]");
        let newest = scene.b.say(ROOM, BO, "1");
        let nothing = resync(&mut scene, &newest);
        assert_eq!(nothing.at(1).list(), []);
        assert_eq!(
            (nothing.at(2).text(), nothing.at(4).to_string()),
            ("".into(), format!("[{}]", BO.uid))
        );
        assert!(nothing.at(3).text().starts_with("- 0 aaaaaaaaaaaaaaaa "), "{nothing}");
        let two = scene.a.say(ROOM, ANA, "2");
        let three = scene.a.say(ROOM, ANA, "3");
        let missed = resync(&mut scene, &newest);
        let ids = [missed.at(1).at(0).text(), missed.at(1).at(2).text()];
        assert_eq!(ids, [two.clone(), three.clone()]);
        assert_eq!(brief(&missed.at(1).at(3).text()), "C ana 3");
        assert_eq!(resync(&mut scene, "0-0").at(1).list().len(), 10, "from the beginning");
        // A node that the room has forgotten is told of what follows.
        scene.b.heard();
        scene.stored(&format!("HSET ^r:{ROOM} n node1~"));
        scene.b.run("resync 0000000000 0-0");
        assert_eq!(resync(&mut scene, &three).at(1).list(), []);
        assert_eq!(scene.field(&format!("r:{ROOM}"), "n"), "node1 node2 ");
        // Deleted messages are there all the same.
        scene.a.delete_message(ROOM, ANA, &two);
        assert_eq!(resync(&mut scene, &two).at(1).list().len(), 4);
        // So are those that were said and deleted meanwhile, in their places, in each part.
        let lost = scene.a.say(ROOM, ANA, "lost");
        scene.a.delete_message(ROOM, ANA, &three);
        scene.a.delete_message(ROOM, ANA, &lost);
        let missed = resync(&mut scene, &newest);
        let missed: Vec<_> = (0..6).map(|n| brief(&missed.at(1).at(2 * n + 1).text())).collect();
        let kinds: String = missed.iter().filter_map(|one| one.chars().next()).collect();
        assert_eq!(kinds, "DDXDXX");
        let three = scene.a.say(ROOM, ANA, "3");
        // Newer than the store's: it has lost its end. The same in the middle: it has said something else.
        let (ms, q) = order(&three);
        assert_eq!(resync(&mut scene, &format!("{}-0", ms + 60_000)).to_string(), "[BEHIND]");
        scene.a.say(ROOM, ANA, "4");
        scene.stored(&format!("XDEL ^x:{ROOM} {three}"));
        assert_eq!(resync(&mut scene, &format!("{ms}-{q}")).to_string(), "[BEHIND]");
        assert_eq!(resync(&mut scene, "1-0").to_string(), "[GAP]");
        scene.a.post(ROOM, &Post { keep: "2", ..Post::of(ANA, "5") });
        assert_eq!(resync(&mut scene, "0-0").to_string(), "[GAP]", "its first messages are gone");
        assert_eq!(resync(&mut scene, &newest).to_string(), "[GAP]");
    });
}

#[test]
fn a_long_absence_is_made_up_for_in_bounded_parts() {
    each(|store| {
        let mut scene = scene(store);
        let first = scene.a.say(ROOM, ANA, "first");
        for _ in 0..600 {
            scene.a.say(ROOM, ANA, "x");
        }
        let (mut newest, mut missed, mut parts) = (first, 0, 0);
        loop {
            let reply = scene.b.run(&format!("resync {ROOM} {newest}"));
            let list = reply.at(1).list();
            assert!(list.len() <= 512, "{}", list.len());
            missed += list.len() / 2;
            parts += 1;
            newest = list[list.len() - 2].text();
            if reply.at(2).text().is_empty() {
                break;
            }
        }
        assert_eq!((missed, parts), (600, 3));
    });
}

#[test]
fn a_person_that_is_present_posts_by_rest_too_and_needs_no_free_name() {
    each(|store| {
        let mut scene = scene(store);
        let post = Post { by_rest: true, ..Post::of(ANA, "x") };
        assert_eq!(status(&mut scene.c, &post), "OK");
        assert_eq!(
            (scene.a.heard(), scene.b.heard()),
            (vec!["C ana x".into()], vec!["C ana x".into()])
        );
        let entries = scene.b.enter(ROOM, &Entry { have: "1", ..Entry::of(BO) });
        assert_eq!(briefs(entries.at(2)), [""; 0], "a second tab");
    });
}
