//! The model and the stores, compared: the same calls have the same replies, are told to the same nodes in
//! the same order, and leave the same keys.
//!
//! Owns random stories out of all functions. Must not know what is right: that is for the other tests. The
//! invariant: a story does not depend on anything that a store may choose.
//!
//! Stores have clocks of their own. So here the functions' clock is a key, which the story sets: the one
//! place where they ask for the time reads it. All times in replies, pushes and keys are equal then. Only
//! the keys' lives are counted by the store's clock; they may be shorter by as long as the story has taken.
//! They are a minute or more. Where a store picks at random (which person of a dead node leaves first, which
//! of two rooms that are silent equally long loses its messages), the story leaves nothing to be picked.

use std::collections::BTreeMap;
use std::time::Instant;

use super::grounds::Model;
use super::town::Dice;
use super::{
    ANA, BO, CY, Content, DAY, FALSE_ANA, Ground, HIDDEN, HOUR, P, Person, ROOM, SOURCE, Scene,
    TAIL, TAIL_LEFT, body,
};
use crate::resp::{Client, Value};
use crate::store::{Role, SelfPush};
use crate::stores::{Engine, Store};

const STEPS: usize = 600;
const SEEDS: u64 = 8;
/// After so many steps, all keys are compared.
const ROUND: usize = 20;

/// The calls of a story. One of `[a|b]` is chosen; `$` is replaced: see [`Story::fill`]. Those that keep a
/// story going are half of its steps.
const USUAL: &[&str] = &[
    "open_session $sh $name $day 100 '' '' 9 0 9 $hour",
    "open_room $room $uid $name $name '' a~title [''|salt~hash] [''|p] 0 '' $day 9 '' '' 9 0 9 $hour",
    "attach $sh $room $day 20 200 0 2",
    "join $room $uid $name $name '' '' [''|salt~hash] - 0 0",
    "enter $room $uid $name $name '' [''|1] '' 0 first 3000000 $tail $left 1000",
    "enter $room $uid $name $name '' [''|1] '' 0 later 3000000 $tail $left 1000",
    "exit $room $uid broken $hour $hour 1000 $left [''|1]",
    "post $room $uid [0|$hour] 3 1000 [''|n1|n2|n3] $body [''|$name] $hour $day $left",
    "delete_message $room $uid $id $tail $left $name 1000 0 3 a-uuid",
    "post $room $uid $hour 2 1000 [''|n1|n2|n3] $body [''|$name] $hour $day $left",
    "touch $sh $day $room",
];
const ALL: &[&str] = &[
    "hello 10000000 terms [''|1] secret 3600000000",
    "beat 10000000",
    "reap 10000000 [0|60000000] $hour [5|1000] seed [1|3] $day",
    "shed 3",
    "announce good~day",
    "count",
    "open_session $sh $name $day [100|3] ['' ''|a1 ''|a1 n1] [2|9] $hour 9 [1000000|$hour]",
    "touch $sh $day [''|rooms|$room]",
    "reserve $sh $room $day [1|200]",
    "own $sh $room",
    "disown $sh $room",
    "forget $sh $room [1|$version]",
    "attach $sh $room $day [2|20] [1|200] [0|$hour] 2",
    "detach $sh $day",
    "declare $sh [0|1|2] $day",
    "charge_join $sh [0|$hour]",
    "end_session $sh",
    "gone $sh",
    "open_room $room $uid $name $name [''|addr] [''|a~title] ['' ''|salt~hash p|'' e] [0|10] [''|$day] \
     $day [1|9] ['' ''|a1 ''|a1 n1] [1|9] [0|$hour] 9 [1000000|$hour]",
    "guess $room $uid [''|addr] [0|$hour] 2 [0|$hour] 3",
    "join $room $uid $name $name [''|addr] [''|1] [''|salt~hash] [-|''|addr] $hour $hour",
    "look $room $uid [show|read] [''|addr] [''|1]",
    "unwatch $room",
    "enter $room $uid $name $name [''|addr|-] [''|1] [''|1] [0|5] [first|later] 3000000 $tail $left 5",
    "exit $room $uid [closed|broken] [0|$hour] $hour [5|1000] $left [''|1]",
    "leave $room $uid 1000 $left $hour",
    "quit $room $uid 1000 $left $hour",
    "post $room $uid [0|$hour] 3 [5|1000] [''|n1|n2|n3] $body [''|$name] $hour $day $left",
    "typing $room $uid [''|$name] $name",
    "alive $room $uid",
    "unask $room $name",
    "delete_message $room $uid $id $tail $left $name [5|1000] [0|$hour] 3 a-uuid",
    "change $room [$owner|$owner|$uid] [0|$hour] 3 [1 new|1 ''|'' ''] [''|0|1] [''|0|10] [''|none|set] [''|salt~hash] \
     [''|1] salt~new [''|$other|-]",
    "delete_room $room $uid",
    "remove $room [''|$owner|$uid] $other [''|600000000|$hour] [''|1] [5|1000] $left [0|$hour] 3 $hour",
    "bans $room [$owner|$uid]",
    "lift $room [$owner|$uid] $other",
    "history $room [0-0|$id] [2|128]",
    "resync $room [0-0|$id]",
    "listing [x|$rev]",
    "usage '' [1|9]",
    "members $room $uid $hidden $other",
];

const PEOPLE: [Person; 4] = [ANA, BO, CY, FALSE_ANA];

/// A scene whose functions have a clock that the story sets.
fn scene(ground: &dyn Ground) -> Scene {
    let time = "redis.call('TIME')";
    assert_eq!(SOURCE.matches(time).count(), 1, "the functions ask for the time in one place");
    let clock = format!("redis.call('HMGET', '{P}clock', 'seconds', 'micros')");
    let mut admin = ground.admin();
    set_clock(&mut admin, START);
    Scene::with(ground, &SOURCE.replace(time, &clock))
}

/// What TIME replies.
fn clock_millis(reply: &Value) -> i64 {
    reply.at(0).number() * 1000 + reply.at(1).number() / 1000
}

/// 1 January 2026, in microseconds.
const START: u64 = 1_767_225_600_000_000;

fn set_clock(admin: &mut Client, micros: u64) {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let command = ["HSET", &format!("{P}clock"), "seconds", &seconds.to_string(), "micros"];
    admin.must(&[&command[..], &[&micros.to_string()]].concat());
}

/// The same story in several scenes, of which the first is that of the model.
struct Story {
    dice: Dice,
    scenes: Vec<Scene>,
    began: Instant,
    /// The model's clock then, in milliseconds.
    model_began: i64,
    micros: u64,
    /// How often each status was replied.
    statuses: BTreeMap<String, usize>,
}

impl Story {
    fn new(seed: u64, grounds: &[&dyn Ground]) -> Story {
        let model_began = clock_millis(&grounds[0].admin().must(&["TIME"]));
        let scenes = grounds.iter().map(|ground| scene(*ground)).collect();
        let (dice, began) = (Dice::new(seed), Instant::now());
        Story { dice, scenes, began, model_began, micros: START, statuses: Default::default() }
    }

    fn choose<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.dice.roll(choices.len())]
    }

    /// What the model holds.
    fn stored(&mut self, words: &str) -> Value {
        self.scenes[0].stored(words)
    }

    /// A call out of its template.
    fn fill(&mut self, template: &str) -> String {
        let mut call = String::new();
        let mut rest = template;
        while let Some((before, choices)) = rest.split_once('[') {
            let (choices, after) = choices.split_once(']').expect("it ends");
            call += before;
            call += self.choose(&choices.split('|').collect::<Vec<_>>());
            rest = after;
        }
        call += rest;
        let room = if self.dice.roll(4) == 0 { HIDDEN } else { ROOM };
        let (who, other) = (PEOPLE[self.dice.roll(4)], PEOPLE[self.dice.roll(4)]);
        let version = self.stored(&format!("HGET ^sr:{} {room}", who.sh)).text();
        let version = version.split(' ').nth(1).unwrap_or("1");
        let rev = self.stored("HGET ^cfg rev").text();
        let owner = self.stored(&format!("HGET ^r:{room} o")).text();
        // One of those that are kept, or have been.
        let entries = self.stored(&format!("XRANGE ^x:{room} - +"));
        let graves = self.stored(&format!("ZRANGE ^d:{room} 0 -1"));
        let first = |grave: &Value| grave.text().split(' ').next().expect("an id").to_owned();
        let mut ids: Vec<String> = entries.list().iter().map(|entry| entry.at(0).text()).collect();
        ids.extend(graves.list().iter().map(first));
        ids.push("1-1".into());
        let id = ids.swap_remove(self.dice.roll(ids.len()));
        let values = [
            ("$hour", HOUR),
            ("$day", DAY),
            ("$tail", TAIL),
            ("$left", TAIL_LEFT),
            ("$hidden", HIDDEN),
            ("$room", room),
            ("$uid", who.uid),
            ("$other", other.uid),
            ("$owner", &owner),
            ("$name", who.name),
            ("$sh", who.sh),
            ("$version", version),
            ("$rev", &rev),
            ("$id", &id),
            ("$body", &body("C", who, "", "x")),
        ];
        values.iter().fold(call, |call, (name, value)| call.replace(name, value))
    }

    /// The same call everywhere.
    fn call(&mut self, at: usize, words: &str) {
        let mut replies = Vec::new();
        for scene in &mut self.scenes {
            let reply = [&mut scene.a, &mut scene.b, &mut scene.c][at].run(words);
            replies.push(comparable(words, &reply));
            let nodes = [&mut scene.a, &mut scene.b, &mut scene.c];
            replies.extend(
                nodes
                    .into_iter()
                    .flat_map(|node| [vec![node.name.to_owned()], node.client.pushes()].concat()),
            );
            replies.push("END".into());
        }
        let outcomes: Vec<&[String]> = replies.split(|one| one == "END").collect();
        for outcome in &outcomes[1..self.scenes.len()] {
            assert_eq!(*outcome, outcomes[0], "{words}");
        }
        let status = outcomes[0][0].trim_start_matches('[');
        let status = status.split([' ', ']']).next().expect("a word");
        let function = words.split(' ').next().expect("a word");
        *self.statuses.entry(format!("{function} {status}")).or_default() += 1;
    }

    fn everywhere(&mut self, words: &str) {
        for scene in &mut self.scenes {
            scene.stored(words);
        }
    }

    fn advance(&mut self) {
        self.micros += 1000 + self.dice.roll(3000) as u64;
        match self.dice.roll(40) {
            0..=2 => self.micros += 17 * 60_000_000,
            3 => self.micros -= 5_000_000,
            4..=8 => self.micros += 4_000_000,
            _ => {}
        }
        for scene in &mut self.scenes {
            set_clock(&mut scene.admin, self.micros);
        }
    }

    fn step(&mut self) {
        self.advance();
        let at = self.dice.roll(3);
        let calls = [USUAL, ALL][self.dice.roll(2)];
        if self.dice.roll(100) == 0 {
            return self.kill(at);
        }
        let template = calls[self.dice.roll(calls.len())];
        let words = self.fill(template);
        let silent = [ROOM, HIDDEN].map(|room| self.stored(&format!("HGET ^r:{room} u")));
        if words.starts_with("shed") && silent[0] == silent[1] {
            return;
        }
        self.call(at, &words);
        // It ends by the store's clock within a second.
        self.everywhere("DEL ^shed");
    }

    /// A node dies with at most one person and one session.
    fn kill(&mut self, at: usize) {
        let name = ["node1", "node2", "node3"][at];
        let (room, who) = ([ROOM, HIDDEN][self.dice.roll(2)], self.dice.roll(4));
        for of in [ROOM, HIDDEN] {
            for (number, person) in PEOPLE.iter().enumerate() {
                if (of, number) != (room, who) {
                    let rest = format!("closed 0 {HOUR} 1000 {TAIL_LEFT} 1");
                    self.call(at, &format!("exit {of} {} {rest}", person.uid));
                }
            }
            if of != room {
                self.call(at, &format!("unwatch {of}"));
            }
        }
        for (number, person) in PEOPLE.iter().enumerate() {
            if number != who {
                self.call(at, &format!("declare {} 0 {DAY}", person.sh));
            }
        }
        // A session that has ended is left where it is.
        if self.stored(&format!("SCARD ^sat:{name}")).number() > 1 {
            return;
        }
        let other = (at + 1) % 3;
        self.call(other, "beat 10000000");
        self.everywhere(&format!("ZADD ^lease 5 {name}"));
        for grace in ["0", "60000000", "60000000", "60000000"] {
            self.call(other, &format!("reap 10000000 {grace} {HOUR} 1000 seed 2 {DAY}"));
        }
        self.call(at, &format!("hello 10000000 terms '' secret {HOUR}"));
        self.call(at, &format!("hello 10000000 terms 1 secret {HOUR}"));
    }

    /// All keys are the same, but for the time that has passed.
    fn compare(&mut self) {
        let mut all: Vec<Vec<Content>> = self.scenes.iter_mut().map(Scene::contents).collect();
        // The model's clock goes on with each command, that of a store by itself.
        let model_passed = clock_millis(&self.stored("TIME")) - self.model_began;
        let passed = model_passed.max(self.began.elapsed().as_millis() as i64) + 1;
        for other in all.split_off(1) {
            for (one, other) in all[0].iter().zip(&other) {
                assert_eq!(one.value, other.value);
                let is_as_long = (one.life - other.life).abs() <= passed;
                assert!(is_as_long && (one.life < 0) == (other.life < 0), "{one:?} {other:?}");
            }
            assert_eq!(all[0].len(), other.len(), "{:?} {other:?}", all[0]);
        }
    }

    fn tell(&mut self) {
        for step in 0..STEPS {
            self.step();
            if step % ROUND == 0 {
                self.compare();
            }
        }
        self.compare();
    }
}

/// A reply without what a store may choose: the order of sets, and how many bytes it needs.
fn comparable(words: &str, reply: &Value) -> String {
    let mut parts = reply.list().to_vec();
    let in_order = |part: &mut Value| {
        let mut list = part.list().to_vec();
        list.sort_by_key(Value::to_string);
        *part = Value::List(list);
    };
    match words.split(' ').next() {
        Some("end_session") => parts.get_mut(1).map(in_order),
        Some("resync") => parts.get_mut(4).map(in_order),
        Some("usage") => parts.get_mut(2).map(|rooms| {
            let mut list = rooms.list().to_vec();
            list.iter_mut().skip(3).step_by(4).for_each(|bytes| *bytes = Value::Nil);
            *rooms = Value::List(list);
        }),
        _ => return reply.to_string(),
    };
    if parts.is_empty() { reply.to_string() } else { Value::List(parts).to_string() }
}

/// What the stories are about, besides refusals.
const TOLD: &[&str] = &[
    "attach OK",
    "bans OK",
    "change OK",
    "declare OK",
    "delete_message OK",
    "delete_room OK",
    "enter IN",
    "enter PROBE",
    "enter TAKEN",
    "enter LOCKED",
    "enter NOMEMBER",
    "enter BANNED",
    "guess LOCK",
    "hello KEPT",
    "hello NEW",
    "history OK",
    "join OK",
    "join AGAIN",
    "lift OK",
    "look OK",
    "open_room OK",
    "open_room EXISTS",
    "open_session OK",
    "post DUP",
    "post OK",
    "post RATE",
    "post TAKEN",
    "remove OK",
    "reserve OK",
    "resync GAP",
    "resync OK",
    "touch OK",
    "typing OK",
];

#[test]
fn the_model_and_the_stores_do_the_same() {
    for engine in Engine::installed() {
        let mut statuses = BTreeMap::<String, usize>::new();
        for seed in 0..SEEDS {
            let (model, store) = (Model::new(seed), Store::start(engine, &[]));
            let mut story = Story::new(seed, &[&model, &store]);
            story.tell();
            for (status, count) in story.statuses {
                *statuses.entry(status).or_default() += count;
            }
        }
        let missing: Vec<_> = TOLD.iter().filter(|told| !statuses.contains_key(**told)).collect();
        assert!(missing.is_empty(), "{missing:?} {statuses:?}");
    }
}

#[test]
fn the_same_story_is_the_same_to_the_byte() {
    let told = || {
        let model = Model::new(7);
        Story::new(7, &[&model]).tell();
        model.outcome()
    };
    let (bytes, keys) = told();
    assert!(bytes.len() > 100_000, "{}", bytes.len());
    assert!((bytes, keys) == told());
}

/// What a function replies and what it is not allowed to do, in a library of its own.
const ODDITIES: &str = "#!lua name=odd
local function odd(name, flags, callback)
  redis.register_function({ function_name = 'odd_' .. name, flags = flags, callback = callback })
end
odd('values', {}, function() return { 1.7, -1.7, true, false, 'x', '', {}, { ok = 'fine' }, nil, 'y' } end)
odd('error', {}, function() return { err = 'FENCED' } end)
odd('nil', {}, function() return nil end)
odd('number', {}, function() return 1e15 end)
odd('replies', {}, function(keys)
  local call, K = redis.call, keys[1]
  local n = { call('ZADD', K, '1767225600000000', 'a', 2, 'b'), call('ZSCORE', K, 'a'),
    call('ZSCORE', K, 'none'), call('ZRANGE', K, 0, -1, 'WITHSCORES'), call('HGETALL', K .. 'h'),
    call('ZRANGE', K, -1, -1), call('ZRANGE', K, 5, 6), call('ZRANGE', K, 1, 0), call('PTTL', K .. 'h'),
    call('ZRANGEBYSCORE', K, '(2', '+inf'), call('SRANDMEMBER', K .. 's', 3), call('EXISTS', K, K, K .. 'h'),
    call('SET', K .. 't', 'x', 'NX', 'PX', 100000), call('SET', K .. 't', 'x', 'NX', 'PX', 100000),
    call('UNLINK', K, K .. 't'), call('HSET', K, 'f', 1, 'g', '2'), call('HINCRBY', K, 'f', -3),
    call('HSETNX', K, 'f', 1), call('HMGET', K, 'f', 'none', 'g'), call('HDEL', K, 'f', 'g', 'none') }
  for at, value in ipairs(n) do if value == false then n[at] = 'false' end end
  return n
end)
odd('stream', {}, function(keys)
  local call, x = redis.call, keys[1]
  local n = { call('XADD', x, 'MAXLEN', 2, '5-1', 'd', 'one'), call('XADD', x, 'MAXLEN', 2, '5-2', 'd', 'two'),
    call('XADD', x, 'MAXLEN', '2', '6-0', 'd', 'three'), call('XRANGE', x, '-', '+'),
    call('XRANGE', x, '(5-2', '+', 'COUNT', 1), call('XRANGE', x, '7-0', '6-0'), call('XRANGE', x, '(6-0', '6-0'),
    call('XDEL', x, '6-0'), call('XDEL', x, '6-0'), call('XLEN', x), call('XADD', x, 'MAXLEN', 0, '7-0', 'd', 'x'),
    call('XLEN', x), call('EXISTS', x) }
  return n
end)
odd('again', {}, function(keys) return redis.call('XADD', keys[1], '7-0', 'd', 'x') end)
odd('no_stream', {}, function(keys) return redis.call('XINFO', 'STREAM', keys[1] .. 'none') end)
odd('type', {}, function(keys) return redis.call('HGET', keys[1], 'x') end)
odd('no_key', {}, function(keys) return redis.call('RENAME', keys[1] .. 'none', keys[1]) end)
odd('life', {}, function(keys) return redis.call('SET', keys[1] .. 'l', 'x', 'PX', 0) end)
odd('end', {}, function(keys) return { redis.call('PEXPIRE', keys[1], 0), redis.call('EXISTS', keys[1]) } end)
odd('bound', {}, function(keys) return redis.call('ZRANGEBYSCORE', keys[1], 'x', 1) end)
odd('write', { 'no-writes' }, function(keys) return redis.call('SET', keys[1], 'x') end)
odd('tell', { 'no-writes' }, function(keys) return redis.call('SPUBLISH', keys[1], 'x') end)
odd('index', {}, function() local x; return x.y end)
odd('global', {}, function() global = 1 end)
odd('missing', {}, function() return global end)
odd('sha', {}, function() return redis.sha1hex('abc') end)
odd('own', { 'allow-oom' }, function(keys)
  redis.call('SPUBLISH', keys[1], '1')
  redis.call('SPUBLISH', keys[1], '2')
  return 'told'
end)";

/// What is compared of a store's answers: all but where in a script an error was.
fn answer(client: &mut Client, command: &[&str]) -> String {
    let reply = client.call(command).to_string();
    let error = reply.split_once(" script: ").map_or(reply.as_str(), |(error, _)| error);
    let (before, place) = error.split_once("user_function:").unwrap_or((error, ""));
    let what = place.split_once(": ").map_or("", |(_, what)| what);
    format!("{before}{what}")
}

#[test]
fn values_and_errors_are_those_of_the_stores() {
    let answers = |ground: &dyn Ground| {
        let mut client = ground.client();
        let load = ["FUNCTION", "LOAD", ODDITIES];
        let mut answers: Vec<String> = (0..2).map(|_| answer(&mut client, &load)).collect();
        for line in ODDITIES.lines().filter_map(|line| line.strip_prefix("odd('")) {
            let name = format!("odd_{}", line.split('\'').next().expect("a name"));
            answers.push(format!(
                "{name} {}",
                answer(&mut client, &["FCALL", &name, "1", "dc:{0}:key"])
            ));
        }
        for early in ["redis.call", "string", "math.huge", "tonumber('1')"] {
            let source = format!("#!lua name=early\nlocal x = {early}");
            answers.push(answer(&mut client, &["FUNCTION", "LOAD", &source]));
        }
        answers.push(answer(&mut client, &["FCALL", "none", "1", "dc:{0}:key"]));
        answers.push(answer(&mut client, &["FCALL_RO", "odd_values", "1", "dc:{0}:key"]));
        answers
    };
    let model = answers(&Model::new(1));
    for engine in Engine::installed() {
        // Valkey has other words for one of them.
        assert_eq!(answers(&Store::start(engine, &[])), model);
    }
}

#[test]
fn a_store_that_cannot_serve_says_so_in_the_same_words() {
    let answers = |ground: &dyn Ground, change: &dyn Fn(&mut Client, &str)| {
        let mut client = ground.admin();
        client.must(&["FUNCTION", "LOAD", ODDITIES]);
        let mut answers = Vec::new();
        for state in ["full", "roomy", "alone", "primary", "replica", "stale"] {
            change(&mut client, state);
            for name in ["odd_values", "odd_own", "odd_tell"] {
                let said = answer(&mut client, &["FCALL", name, "1", "dc:{0}:key"]);
                answers.push(format!("{state} {name} {said}"));
            }
            let role = client.call(&["ROLE"]).at(0).to_string();
            let load = answer(
                &mut client,
                &["FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('x', 1)"],
            );
            // A store that can load says what is wrong with it.
            let load = if load.starts_with("!ERR") { "!ERR" } else { &load };
            answers.push(format!("{state} {role} {load}"));
        }
        answers.push(answer(&mut client, &["XRANGE", "dc:{0}:x", "-", "+"]));
        answers.push(answer(&mut client, &["PING"]));
        answers
    };
    let model = Model::new(1);
    let expected = answers(&model, &|_, state| match state {
        "full" => model.store().set_max_memory(Some(0)),
        "roomy" => model.store().set_max_memory(None),
        "alone" => model.store().set_role(Role::Alone),
        "primary" => model.store().set_role(Role::Primary),
        "replica" => model.store().set_role(Role::Replica),
        _ => model.store().set_role(Role::Stale),
    });
    for engine in Engine::installed() {
        let store = Store::start(engine, &[]);
        let said = answers(&store, &|admin, state| {
            let command: &[&str] = match state {
                "full" => &["CONFIG", "SET", "maxmemory", "1"],
                "roomy" => &["CONFIG", "SET", "maxmemory", "0"],
                "alone" => &["CONFIG", "SET", "min-replicas-to-write", "1"],
                "primary" => &["CONFIG", "SET", "min-replicas-to-write", "0"],
                "replica" => &["REPLICAOF", "127.0.0.1", "1"],
                _ => &["CONFIG", "SET", "replica-serve-stale-data", "no"],
            };
            admin.must(command);
        });
        assert_eq!(said, expected);
    }
}

/// Whether a caller hears itself before it has the reply.
#[test]
fn a_callers_own_pushes_are_on_one_side_of_the_reply() {
    let hears_first = |ground: &dyn Ground| {
        let mut client = ground.client();
        client.must(&["FUNCTION", "LOAD", ODDITIES]);
        client.subscribe("dc:{0}:to:x");
        assert_eq!(client.must(&["FCALL", "odd_own", "1", "dc:{0}:to:x"]).text(), "told");
        let count = client.pushes_before_reply();
        assert_eq!(client.pushes(), ["1", "2"]);
        count == 2
    };
    let model = Model::new(1);
    model.store().set_self_push(SelfPush::BeforeReply);
    assert!(hears_first(&model));
    let model = Model::new(1);
    model.store().set_self_push(SelfPush::AfterReply);
    assert!(!hears_first(&model));
    for engine in Engine::installed() {
        let store = Store::start(engine, &[]);
        let info = store.admin().must(&["INFO", "server"]).text();
        let is_early = info.contains("redis_version:7.0.");
        assert_eq!(hears_first(&store), is_early, "{engine:?}");
    }
}
