//! The owner's tools: changes, removal and bans.

use super::{ANA, BO, CY, Entry, FALSE_ANA, Ground, HOUR, Node, Person, ROOM, Scene, briefs, each};

/// A room of ana's with ana at the first node and bo at the second.
fn scene(store: &dyn Ground) -> Scene {
    let mut scene = Scene::on(store);
    scene.a.open_room(ROOM, ANA);
    scene.a.admit(ROOM, ANA);
    scene.b.enter(ROOM, &Entry { addr: "0123456789abcd", ..Entry::of(BO) });
    scene.a.heard();
    scene.b.heard();
    scene
}

/// Facts without times.
fn shown(facts: &str) -> String {
    let words: Vec<&str> = facts.splitn(7, ' ').collect();
    format!("{} {} {} {}", words[0], words[1], words[2], words[6])
}

fn change(node: &mut Node, changes: &str) -> String {
    let reply = node.run(&format!("change {ROOM} {} 0 1 {changes}", ANA.uid));
    match reply.at(2).text().as_str() {
        "-" => reply.to_string(),
        facts => format!("{} {}", reply.at(1), shown(facts)),
    }
}

#[test]
fn a_change_is_told_once_and_one_that_changes_nothing_is_not() {
    each(|store| {
        let mut scene = scene(store);
        let owner = ANA.uid;
        let all = "1 a~title 1 10 set '' '' salt~hash ''";
        assert_eq!(change(&mut scene.a, all), format!("1 plk 10 {owner} a title"));
        let told = scene.b.heard();
        assert_eq!(told.len(), 1);
        let facts = told[0].strip_prefix(&format!("R {ROOM} ")).unwrap();
        assert_eq!(shown(facts), format!("plk 10 {owner} a title"));
        assert_eq!(scene.a.heard(), [""; 0]);
        let same = "1 a~title 1 10 set salt~hash 1 other ''";
        assert_eq!(change(&mut scene.a, same), format!("'' plk 10 {owner} a title"));
        let nothing = "'' '' '' '' '' '' '' '' ''";
        assert_eq!(change(&mut scene.a, nothing), format!("'' plk 10 {owner} a title"));
        assert_eq!(
            change(&mut scene.a, &format!("'' '' '' '' '' '' '' '' {owner}")),
            format!("'' plk 10 {owner} a title")
        );
        assert_eq!(scene.b.heard(), [""; 0]);
        let back = "1 '' 0 0 none '' '' '' ''";
        assert_eq!(change(&mut scene.a, back), format!("1 p 0 {owner} "));
        assert_eq!(scene.b.heard().len(), 1);
    });
}

#[test]
fn a_change_is_refused_in_the_order_of_the_contract() {
    each(|store| {
        let mut scene = scene(store);
        let run = |scene: &mut Scene, who: Person, interval: &str, changes: &str| {
            scene.b.says(&format!("change {ROOM} {} {interval} 1 {changes}", who.uid))
        };
        let all = |heir: &str| format!("'' '' '' '' set '' '' new~lock {heir}");
        assert_eq!(scene.a.says("change 0000000000 x 0 1 '' '' '' '' '' '' '' '' ''"), "[NOROOM]");
        assert_eq!(run(&mut scene, BO, "0", &all("-")), "[NOTOWNER]");
        assert_eq!(run(&mut scene, ANA, HOUR, &all("-")), "[NOUSER]");
        scene.c.join(ROOM, CY);
        assert_eq!(run(&mut scene, ANA, HOUR, &all(CY.uid)), "[NOUSER]", "not present");
        change(&mut scene.a, "'' '' '' '' set '' '' old~lock ''");
        assert_eq!(run(&mut scene, ANA, HOUR, &all(BO.uid)), "[LOCK old lock]", "not charged");
        assert!(
            run(&mut scene, ANA, HOUR, &all(BO.uid).replace("'' '' new", "old~lock '' new"))
                .starts_with("[OK 1 ")
        );
        assert_eq!(scene.field(&format!("r:{ROOM}"), "l"), "new lock");
        assert_eq!(
            run(&mut scene, ANA, "0", "'' '' '' '' '' '' '' '' ''"),
            "[NOTOWNER]",
            "it is bo's now"
        );
        // Each command of the owner is charged, also one that changes nothing.
        assert!(run(&mut scene, BO, HOUR, "'' '' '' '' '' '' '' '' ''").starts_with("[OK '' "));
        assert!(run(&mut scene, BO, HOUR, "'' '' '' '' '' '' '' '' ''").starts_with("[RATE "));
        let wait = format!("remove {ROOM} {} {} '' '' 1000 x {HOUR} 1 {HOUR}", BO.uid, CY.uid);
        assert!(scene.b.says(&wait).starts_with("[RATE "));
    });
}

#[test]
fn a_removed_person_is_told_off_at_all_nodes_and_is_no_member() {
    each(|store| {
        let mut scene = scene(store);
        scene.c.admit(ROOM, BO);
        scene.c.heard();
        assert_eq!(scene.a.remove("0000000000", "", BO, "").to_string(), "[NOROOM]");
        assert_eq!(scene.b.remove(ROOM, BO.uid, ANA, "").to_string(), "[NOTOWNER]");
        assert_eq!(scene.a.remove(ROOM, ANA.uid, CY, "").to_string(), "[NOUSER]");
        let reply = scene.a.remove(ROOM, ANA.uid, BO, "");
        assert_eq!(
            (reply.at(1).text(), briefs(reply.at(2)), reply.at(3).text()),
            ("".into(), vec!["R bo".into()], "".into())
        );
        let told = vec![format!("K {ROOM} {} removed", BO.uid), "R bo".into()];
        assert_eq!((scene.b.heard(), scene.c.heard()), (told.clone(), told));
        assert_eq!(scene.a.says(&format!("members {ROOM} {}", BO.uid)), "[OK ['']]");
        assert_eq!(scene.a.says(&format!("bans {ROOM} {}", ANA.uid)), "[OK []]");
        // One that is not present goes without a word; one in its grace with one.
        scene.b.join(ROOM, BO);
        assert_eq!(scene.a.remove(ROOM, ANA.uid, BO, "").at(2).list(), []);
        scene.b.admit(ROOM, BO);
        scene.b.exit(ROOM, BO, "broken");
        assert_eq!(briefs(scene.a.remove(ROOM, ANA.uid, BO, "").at(2)), ["R bo"]);
    });
}

#[test]
fn the_operator_may_remove_the_owner_and_the_room_passes_on() {
    each(|store| {
        let mut scene = scene(store);
        let reply = scene.c.remove(ROOM, "", ANA, "600000000");
        assert_eq!(shown(&reply.at(3).text()), format!("- 0 {} ", BO.uid));
        assert!(scene.b.heard()[2].starts_with(&format!("R {ROOM} - 0 {}", BO.uid)));
        assert_eq!(scene.c.says(&format!("bans {ROOM} {}", ANA.uid)), "[NOTOWNER]");
        assert_eq!(scene.c.remove(ROOM, "", BO, "").at(3).text().split(' ').nth(2), Some("-"));
    });
}

#[test]
fn a_ban_keeps_the_person_out_and_others_from_its_address_that_have_not_joined() {
    each(|store| {
        let mut scene = scene(store);
        let addr = "0123456789abcd";
        scene.c.enter(ROOM, &Entry { addr, ..Entry::of(CY) });
        let reply = scene.a.remove(ROOM, ANA.uid, BO, "600000000");
        assert_eq!(reply.at(1).text(), "1");
        let list = scene.a.run(&format!("bans {ROOM} {}", ANA.uid));
        let until = list.at(1).at(1).number() - scene.now();
        assert!((590_000_000..=600_000_000).contains(&until), "{until}");
        let rest = [0, 2, 3].map(|place| list.at(1).at(place).text());
        assert_eq!(rest, [BO.uid, "bo", "1"]);
        let enter = |node: &mut Node, who, addr| {
            node.enter(ROOM, &Entry { addr, ..Entry::of(who) }).at(0).text()
        };
        assert_eq!(enter(&mut scene.b, BO, "999"), "BANNED");
        let newcomer = Person { uid: "dddddddddddddddd", name: "di", sh: "d" };
        assert_eq!(enter(&mut scene.b, newcomer, addr), "BANNED");
        assert_eq!(enter(&mut scene.b, CY, addr), "IN", "it has joined before");
        assert_eq!(enter(&mut scene.b, newcomer, ""), "IN");
        let look = format!("look {ROOM} {} read {addr} ''", FALSE_ANA.uid);
        assert_eq!(scene.b.says(&look), "[BANNED]");
        // The owner is not, and a ban ends by its time.
        let old = format!("{} {addr} bo", scene.now() - 1);
        scene.admin.must(&["HSET", &format!("{}n:{ROOM}", super::P), BO.uid, &old]);
        assert_eq!(enter(&mut scene.b, BO, addr), "IN");
        assert_eq!(scene.a.says(&format!("bans {ROOM} {}", ANA.uid)), "[OK []]");
        // Exempt peers have no address, and the answer says so.
        scene.b.join(ROOM, FALSE_ANA);
        let reply = scene.a.remove(ROOM, ANA.uid, FALSE_ANA, "600000000");
        assert_eq!(reply.at(1).text(), "");
        assert_eq!(scene.a.run(&format!("bans {ROOM} {}", ANA.uid)).at(1).at(3).text(), "");
        assert_eq!(scene.b.says(&format!("lift {ROOM} {} x", BO.uid)), "[NOTOWNER]");
        assert_eq!(scene.a.says(&format!("lift {ROOM} {} {}", ANA.uid, FALSE_ANA.uid)), "[OK]");
        assert_eq!(scene.a.says(&format!("lift {ROOM} {} {}", ANA.uid, FALSE_ANA.uid)), "[OK]");
        assert_eq!(scene.b.join(ROOM, FALSE_ANA).to_string(), "[OK]");
    });
}

#[test]
fn a_room_has_at_most_256_bans_and_the_oldest_go_first() {
    each(|store| {
        let mut scene = scene(store);
        let now = scene.now();
        let (mut bans, mut order) = (String::new(), String::new());
        for number in 0..256 {
            bans.push_str(&format!(" {number:016x} {}+-+x", now + 600_000_000));
            order.push_str(&format!(" {} {number:016x}", now - 1000 + number));
        }
        let prefix = super::P;
        let words: Vec<String> =
            bans.split(' ').skip(1).map(|word| word.replace('+', " ")).collect();
        let mut command = vec!["HSET".to_owned(), format!("{prefix}n:{ROOM}")];
        command.extend(words);
        scene.admin.must(&command.iter().map(String::as_str).collect::<Vec<_>>());
        scene.stored(&format!("ZADD ^nz:{ROOM}{order}"));
        // The first is over, so it is forgotten, and nobody gives way.
        let first = format!("{:016x}", 0);
        scene.admin.must(&["HSET", &format!("{prefix}n:{ROOM}"), &first, "1 - x"]);
        scene.a.remove(ROOM, ANA.uid, BO, "600000000");
        let list = |scene: &mut Scene| {
            let bans = scene.a.run(&format!("bans {ROOM} {}", ANA.uid));
            bans.at(1).list().chunks(4).map(|ban| ban[0].text()).collect::<Vec<_>>()
        };
        let bans = list(&mut scene);
        assert_eq!((bans.len(), bans[0].clone()), (256, format!("{:016x}", 1)));
        assert_eq!(bans.last().unwrap(), BO.uid);
        // Another: the oldest goes. The same person once more: it is the newest.
        scene.b.join(ROOM, CY);
        scene.a.remove(ROOM, ANA.uid, CY, "600000000");
        assert_eq!(list(&mut scene)[0], format!("{:016x}", 2));
        assert_eq!(scene.stored(&format!("HLEN ^n:{ROOM}")).number(), 256);
        scene.a.run(&format!("lift {ROOM} {} {}", ANA.uid, BO.uid));
        scene.b.join(ROOM, BO);
        scene.a.remove(ROOM, ANA.uid, BO, "600000000");
        let bans = list(&mut scene);
        assert_eq!(bans[254..], [CY.uid, BO.uid]);
        assert_eq!(bans[0], format!("{:016x}", 2));
    });
}
