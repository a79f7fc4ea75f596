//! The functions of the store, called as servers call them.
//!
//! Owns the scene: three nodes on a store, each with a connection that hears the pushes to it. Must not
//! use the server's code. The invariant: every test runs on a model of the store, which is always there,
//! and on each store that is installed, as a user with the documented rights and no more.

mod alike;
mod endings;
mod grounds;
mod nodes;
mod owners;
mod planted;
mod posting;
mod presence;
mod rooms;
mod sessions;
mod town;

use grounds::{Ground, each};
use sha1::{Digest, Sha1};

use crate::resp::{Client, Value};

const SOURCE: &str = include_str!("../../../src/cluster/functions.lua");
/// The prefix of all keys, with one of several partitions.
const P: &str = "dc:{0}:";
const ROOM: &str = "a1b2c3d4e5";
const HIDDEN: &str = "00112233445566778899aabbccddeeff";
/// Far more than a test takes, so that nothing ends by itself.
const HOUR: &str = "3600000000";
const DAY: &str = "86400000000";
/// The end of a UUID.
const TAIL: &str = "8123456789abcdef";
const TAIL_LEFT: &str = "9123456789abcdef";

/// A person in all rooms, and its session.
#[derive(Clone, Copy)]
struct Person {
    uid: &'static str,
    name: &'static str,
    sh: &'static str,
}

const ANA: Person =
    Person { uid: "aaaaaaaaaaaaaaaa", name: "ana", sh: "000000000000000000000000000000aa" };
const BO: Person =
    Person { uid: "bbbbbbbbbbbbbbbb", name: "bo", sh: "000000000000000000000000000000bb" };
const CY: Person =
    Person { uid: "cccccccccccccccc", name: "cy", sh: "000000000000000000000000000000cc" };
/// Has the name of another.
const FALSE_ANA: Person =
    Person { uid: "ffffffffffffffff", name: "ana", sh: "000000000000000000000000000000ff" };

/// A node with its connection. Another one that it may have given up is not its concern.
struct Node {
    client: Client,
    name: &'static str,
    incarnation: String,
    library: String,
}

/// How somebody enters. `Default`: a first socket, nothing over a limit.
struct Entry {
    who: Person,
    addr: &'static str,
    have: &'static str,
    over: &'static str,
    join_wait: &'static str,
    mode: &'static str,
    keep: &'static str,
}

impl Entry {
    const fn of(who: Person) -> Entry {
        Entry { who, addr: "", have: "", over: "", join_wait: "0", mode: "first", keep: "1000" }
    }
}

/// How somebody posts. By default by a socket, without a rate.
struct Post {
    who: Person,
    text: &'static str,
    nonce: &'static str,
    interval: &'static str,
    burst: &'static str,
    keep: &'static str,
    by_rest: bool,
}

impl Post {
    const fn of(who: Person, text: &'static str) -> Post {
        let (nonce, interval, burst) = ("", "0", "1");
        Post { who, text, nonce, interval, burst, keep: "1000", by_rest: false }
    }
}

impl Node {
    /// Calls a function.
    fn call(&mut self, function: &str, arguments: &[&str]) -> Value {
        let (name, keys) = (format!("{}_{function}", self.library), format!("{P}nodes"));
        let mut command = vec!["FCALL", &name, "1", &keys, self.name, &self.incarnation];
        command.extend(arguments);
        let reply = self.client.call(&command);
        if let Value::Error(error) = &reply {
            assert!(!error.starts_with("ERR"), "{function} {arguments:?}: {error}");
        }
        reply
    }

    /// Calls a function: its name and arguments, separated by spaces. `''` is empty, `~` a space.
    fn run(&mut self, words: &str) -> Value {
        let words = arguments(words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.call(words[0], &words[1..])
    }

    /// [`Node::run`], and the whole reply as text.
    fn says(&mut self, words: &str) -> String {
        self.run(words).to_string()
    }

    fn hello(&mut self, fresh: &str) -> Value {
        self.call("hello", &["10000000", "terms", fresh, "secret", HOUR])
    }

    fn beat(&mut self) -> Value {
        self.call("beat", &["10000000"])
    }

    /// With a grace of an hour.
    fn reap(&mut self, most: &str) -> Value {
        self.reap_with(HOUR, most)
    }

    fn reap_with(&mut self, grace: &str, most: &str) -> Value {
        self.call("reap", &["10000000", grace, HOUR, "1000", "seed", most, DAY])
    }

    fn open_session(&mut self, who: Person) -> Value {
        let arguments = [who.sh, who.name, DAY, "100", "", "", "", "0", "1", HOUR];
        self.call("open_session", &arguments)
    }

    /// Opens a public room of this person.
    fn open_room(&mut self, room: &str, who: Person) -> Value {
        self.open_room_with(room, who, "'' '' '' 0 ''")
    }

    /// options: title, lock, flags, slow mode and life, as in [`Node::run`].
    fn open_room_with(
        &mut self,
        room: &str,
        Person { uid, name, .. }: Person,
        options: &str,
    ) -> Value {
        let person = format!("{room} {uid} {name} {name} ''");
        self.run(&format!("open_room {person} {options} {HOUR} 100 '' '' '' 0 1 {HOUR}"))
    }

    fn join(&mut self, room: &str, who: Person) -> Value {
        self.call("join", &[room, who.uid, who.name, who.name, "", "", "", "-", "0", "0"])
    }

    fn enter(&mut self, room: &str, entry: &Entry) -> Value {
        let Entry { who, addr, have, over, join_wait, mode, keep } = *entry;
        let person = [room, who.uid, who.name, who.name, addr];
        let rest = [have, over, join_wait, mode, "3000000", TAIL, TAIL_LEFT, keep];
        self.call("enter", &[&person[..], &rest].concat())
    }

    /// Enters, which must succeed.
    fn admit(&mut self, room: &str, who: Person) -> Value {
        let reply = self.enter(room, &Entry::of(who));
        assert_eq!(reply.at(0).text(), "IN", "{reply}");
        reply
    }

    /// The last socket of a person at this node ends.
    fn exit(&mut self, room: &str, who: Person, how: &str) -> Value {
        self.call("exit", &[room, who.uid, how, HOUR, HOUR, "1000", TAIL_LEFT, ""])
    }

    fn leave(&mut self, room: &str, who: Person) -> Value {
        self.call("leave", &[room, who.uid, "1000", TAIL_LEFT, HOUR])
    }

    fn quit(&mut self, room: &str, who: Person) -> Value {
        self.call("quit", &[room, who.uid, "1000", TAIL_LEFT, HOUR])
    }

    fn post(&mut self, room: &str, post: &Post) -> Value {
        let Post { who, text, nonce, interval, burst, keep, by_rest } = *post;
        let body = body("C", who, nonce, text);
        let folded = if by_rest { who.name } else { "" };
        let arguments = [room, who.uid, interval, burst, keep, nonce, &body, folded];
        let times = [HOUR, "7200000000", TAIL_LEFT];
        self.call("post", &[&arguments[..], &times].concat())
    }

    /// Posts by a socket, which must succeed. The id.
    fn say(&mut self, room: &str, who: Person, text: &'static str) -> String {
        let reply = self.post(room, &Post::of(who, text));
        assert_eq!(reply.at(0).text(), "OK", "{reply}");
        reply.at(2).text()
    }

    fn delete_message(&mut self, room: &str, who: Person, id: &str) -> Value {
        let target = [room, who.uid, id, TAIL, TAIL_LEFT, who.name];
        let rest = ["1000", "0", "1", "0198c0de-0000-7000-8123-456789abcdef"];
        self.call("delete_message", &[&target[..], &rest].concat())
    }

    /// Changes of a room by its owner, as in [`Node::run`]: title_given to owner.
    fn change(&mut self, room: &str, who: Person, changes: &str) -> String {
        self.says(&format!("change {room} {} 0 1 {changes}", who.uid))
    }

    fn remove(&mut self, room: &str, by: &str, target: Person, ban: &str) -> Value {
        let rest = ["1000", TAIL_LEFT, "0", "1", HOUR];
        let first = [room, by, target.uid, ban, if ban.is_empty() { "" } else { "1" }];
        self.call("remove", &[&first[..], &rest].concat())
    }

    /// What this node was told since: messages in the form of [`brief`], others as they are.
    fn heard(&mut self) -> Vec<String> {
        let pushes = self.client.pushes();
        let brief_push = |push: String| match push.strip_prefix("M ") {
            Some(message) => brief(message.splitn(4, ' ').nth(3).expect("four parts")),
            None => push,
        };
        pushes.into_iter().map(brief_push).collect()
    }
}

/// Three nodes of a cluster, and a connection that may do everything.
struct Scene {
    admin: Client,
    a: Node,
    b: Node,
    c: Node,
}

impl Scene {
    fn on(store: &dyn Ground) -> Scene {
        Scene::with(store, &planted::source())
    }

    /// With this source of the functions.
    fn with(store: &dyn Ground, source: &str) -> Scene {
        let digest = Sha1::digest(source);
        let library: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let library = format!("dc_{library}");
        let mut loader = store.client();
        let loaded = loader.call(&["FUNCTION", "LOAD", &source.replace("@LIB@", &library)]);
        assert!(loaded == Value::Text(library.clone()) || loaded.text().contains("already exists"));
        let node = |name: &'static str| {
            let mut client = store.client();
            client.subscribe(&format!("{P}to:{name}"));
            let (incarnation, library) = ("1".into(), library.clone());
            let mut node = Node { client, name, incarnation, library };
            assert_eq!(node.hello("1").at(0).text(), "KEPT");
            node
        };
        Scene { admin: store.admin(), a: node("node1"), b: node("node2"), c: node("node3") }
    }

    /// A command, as [`Node::run`] takes words; `^` is the prefix of a key.
    fn stored(&mut self, words: &str) -> Value {
        let words = arguments(&words.replace('^', P));
        self.admin.must(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A field of a hash.
    fn field(&mut self, key: &str, field: &str) -> String {
        self.stored(&format!("HGET ^{key} {field}")).to_string()
    }

    /// The store's clock.
    fn now(&mut self) -> i64 {
        let time = self.admin.must(&["TIME"]);
        time.at(0).number() * 1_000_000 + time.at(1).number()
    }

    /// Lets everything be due that is, whenever it would be.
    fn make_due(&mut self, what: &str) {
        assert_eq!(self.stored(&format!("ZADD ^due XX CH 1 {what}")).number(), 1, "{what}");
    }

    /// The kept messages in the form of [`brief`], tombstones in their places.
    fn history(&mut self, room: &str) -> Vec<String> {
        let stream = self.stored(&format!("XRANGE ^x:{room} - +"));
        let graves = self.stored(&format!("ZRANGE ^d:{room} 0 -1"));
        let entry = |value: &Value| (value.at(0).text(), value.at(1).at(1).text());
        let mut all: Vec<(String, String)> = stream.list().iter().map(entry).collect();
        for grave in graves.list() {
            let text = grave.text();
            let (id, d) = text.split_once(' ').expect("id and d");
            all.push((id.into(), d.into()));
        }
        all.sort_by_key(|(id, _)| order(id));
        all.iter().map(|(_, d)| brief(d)).collect()
    }

    /// All keys but those that always remain.
    fn keys(&mut self) -> Vec<String> {
        let keys = self.admin.must(&["KEYS", "*"]);
        let fixed = ["cfg", "lease", "nodes"].map(|key| format!("{P}{key}"));
        let keys = keys.list().iter().map(Value::text).filter(|key| !fixed.contains(key));
        let mut keys: Vec<String> =
            keys.map(|key| key.strip_prefix(P).expect("the prefix").into()).collect();
        keys.sort();
        keys
    }

    /// All keys with what is in them. Where a store promises no order, they are sorted.
    fn contents(&mut self) -> Vec<Content> {
        let mut keys: Vec<String> =
            self.admin.must(&["KEYS", "*"]).list().iter().map(Value::text).collect();
        keys.sort();
        keys.into_iter().map(|key| self.content(key)).collect()
    }

    fn content(&mut self, key: String) -> Content {
        let kind = self.admin.must(&["TYPE", &key]).text();
        let value = match kind.as_str() {
            "string" => self.admin.must(&["GET", &key]).to_string(),
            "set" => sorted(self.admin.must(&["SMEMBERS", &key]).list(), 1),
            "hash" => sorted(self.admin.must(&["HGETALL", &key]).list(), 2),
            "zset" => self.admin.must(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]).to_string(),
            "stream" => {
                let info = self.admin.must(&["XINFO", "STREAM", &key]);
                let fact = |name| {
                    let mut pairs = info.list().chunks(2);
                    let pair = pairs.find(|pair| pair[0].text() == name).expect("a fact");
                    pair[1].to_string()
                };
                let facts = [fact("entries-added"), fact("last-generated-id")].join(" ");
                format!("{facts} {}", self.admin.must(&["XRANGE", &key, "-", "+"]))
            }
            other => panic!("{key} is a {other}"),
        };
        let life = self.admin.must(&["PTTL", &key]).number();
        Content { value: format!("{key} {kind} {value}"), life }
    }
}

/// A key, its type and its value, as text.
#[derive(PartialEq, Debug)]
struct Content {
    value: String,
    /// In milliseconds; -1: without end.
    life: i64,
}

/// Groups of so many values, in order.
fn sorted(values: &[Value], size: usize) -> String {
    let group = |group: &[Value]| Value::List(group.to_vec()).to_string();
    let mut groups: Vec<String> = values.chunks(size).map(group).collect();
    groups.sort();
    groups.join(" ")
}

/// Words as [`Node::run`] takes them.
fn arguments(words: &str) -> Vec<String> {
    let word = |word: &str| if word == "''" { String::new() } else { word.replace('~', " ") };
    words.split(' ').map(word).collect()
}

/// The place of an id in the order.
fn order(id: &str) -> (u64, u64) {
    let (ms, q) = id.split_once('-').expect("ms-q");
    (ms.parse().expect("a number"), q.parse().expect("a number"))
}

/// A message without its stamp.
fn body(kind: &str, who: Person, nonce: &str, text: &str) -> String {
    let (uid, name) = (who.uid, who.name);
    format!("{kind}{TAIL}{uid}{:02x}{name}{:02x}{nonce}{text}", name.len(), nonce.len())
}

/// A message as `kind name text`, with the nonce behind the name if there is one.
fn brief(d: &str) -> String {
    let length = |at: usize| usize::from_str_radix(&d[at..at + 2], 16).expect("two hex digits");
    let name = 51 + length(49);
    let text = name + 2 + length(name);
    let nonce = &d[name + 2..text];
    let parts = [&d[16..17], &d[51..name], nonce, &d[text..]];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The messages of a list of entries.
fn briefs(entries: &Value) -> Vec<String> {
    entries.list().iter().map(|entry| brief(&entry.at(2).text())).collect()
}
