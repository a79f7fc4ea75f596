//! The keys of the store and its commands on them.
//!
//! Owns the values and their ends. Must not know functions or connections. The invariant: no key holds
//! an empty collection but a stream.
//!
//! Each command has the forms that the library and its tests use, and no others: another one is a panic.
//! Where a store promises no order, lists begin at a random place; reading alone changes nothing, so a
//! test may look at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::resp::Reply;

type Text = Vec<u8>;
type Hash = BTreeMap<Text, Text>;
type Set = BTreeSet<Text>;
type Place = (u64, u64);

/// Scores are whole numbers that a double holds exactly.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Sorted {
    scores: BTreeMap<Text, i64>,
    order: BTreeSet<(i64, Text)>,
}

impl Sorted {
    /// Whether the member is new.
    fn put(&mut self, member: &[u8], score: i64) -> bool {
        let before = self.scores.insert(member.to_vec(), score);
        if let Some(before) = before {
            self.order.remove(&(before, member.to_vec()));
        }
        self.order.insert((score, member.to_vec()));
        before.is_none()
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let Some(score) = self.scores.remove(member) else { return false };
        self.order.remove(&(score, member.to_vec()))
    }

    fn between(&self, range: (Bound<i64>, Bound<i64>)) -> Vec<(i64, Text)> {
        let first = match range.0 {
            Bound::Included(score) => (score, Text::new()),
            Bound::Excluded(score) => (score + 1, Text::new()),
            Bound::Unbounded => (i64::MIN, Text::new()),
        };
        let is_in = |score: i64| match range.1 {
            Bound::Included(last) => score <= last,
            Bound::Excluded(last) => score < last,
            Bound::Unbounded => true,
        };
        self.order.range(first..).take_while(|(score, _)| is_in(*score)).cloned().collect()
    }
}

/// Entries with one field.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Stream {
    entries: BTreeMap<Place, (Text, Text)>,
    last: Place,
    added: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Value {
    Text(Text),
    Hash(Hash),
    Set(Set),
    Sorted(Sorted),
    Stream(Stream),
}

/// A type of values.
trait Kind: Default {
    fn of(value: &Value) -> Option<&Self>;
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    fn into_value(self) -> Value;
}

macro_rules! kinds {
    ($($variant:ident $kind:ty),*) => {$(
        impl Kind for $kind {
            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(it) = value { Some(it) } else { None }
            }
            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(it) = value { Some(it) } else { None }
            }
            fn into_value(self) -> Value {
                Value::$variant(self)
            }
        }
    )*};
}
kinds!(Text Text, Hash Hash, Set Set, Sorted Sorted, Stream Stream);

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
const NO_KEY: &str = "ERR no such key";
const OLD_ID: &str =
    "ERR The ID specified in XADD is equal or smaller than the target stream top item";
const NO_FLOAT: &str = "ERR min or max is not a float";
const BAD_EXPIRE: &str = "ERR invalid expire time in 'set' command";
const NO_INTEGER: &str = "ERR hash value is not an integer";

/// Commands that change something or tell somebody.
const WRITES: &[&str] = &[
    "HSET",
    "HSETNX",
    "HDEL",
    "HINCRBY",
    "ZADD",
    "ZREM",
    "ZREMRANGEBYSCORE",
    "ZREMRANGEBYRANK",
    "SADD",
    "SREM",
    "SET",
    "UNLINK",
    "DEL",
    "PEXPIRE",
    "RENAME",
    "XADD",
    "XDEL",
    "SPUBLISH",
    "FLUSHALL",
];

pub fn is_write(name: &str) -> bool {
    WRITES.contains(&name)
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    value: Value,
    /// In milliseconds, as PEXPIRE.
    ends: Option<u64>,
}

/// All keys.
#[derive(Clone)]
pub struct Data {
    entries: BTreeMap<Text, Entry>,
    micros: u64,
    seed: u64,
    /// How many commands have changed something.
    changes: u64,
    /// What was published: channel and text. The caller that runs commands takes it.
    pub published: Vec<(Text, Text)>,
}

impl Data {
    pub fn new(seed: u64) -> Data {
        let entries = BTreeMap::new();
        Data { entries, micros: 0, seed, changes: 0, published: Vec::new() }
    }

    pub fn set_time(&mut self, micros: u64) {
        self.micros = micros;
        let now = micros / 1000;
        self.entries.retain(|_, entry| entry.ends.is_none_or(|ends| ends >= now));
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn keys(&self) -> Vec<String> {
        self.entries.keys().map(|key| shown(key)).collect()
    }

    /// About as many as a store needs, without what it needs for keys and structure.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|(key, entry)| key.len() + size(&entry.value)).sum()
    }

    /// All keys with their values, each as a line.
    pub fn dump(&self) -> BTreeMap<String, String> {
        let line = |(key, entry): (&Text, &Entry)| {
            let value = match &entry.value {
                Value::Text(text) => shown(text),
                Value::Hash(hash) => pairs(hash.iter()),
                Value::Set(set) => set.iter().map(|one| shown(one)).collect::<Vec<_>>().join(" "),
                Value::Sorted(sorted) => {
                    let part = |(score, member): &(i64, Text)| format!("{score}={}", shown(member));
                    sorted.order.iter().map(part).collect::<Vec<_>>().join(" ")
                }
                Value::Stream(Stream { entries, last: (ms, q), added }) => {
                    let part = |((ms, q), (_, d)): (&Place, &(Text, Text))| {
                        format!("{ms}-{q}={}", shown(d))
                    };
                    let parts: Vec<String> = entries.iter().map(part).collect();
                    format!("last {ms}-{q} added {added} {}", parts.join(" "))
                }
            };
            let ends = entry.ends.map_or("-".to_owned(), |ends| ends.to_string());
            (shown(key), format!("{ends} {value}"))
        };
        self.entries.iter().map(line).collect()
    }

    /// A number below `sides`, the same until something changes.
    fn roll(&self, sides: usize) -> usize {
        // SplitMix64.
        let mut z = self.seed.wrapping_add(self.changes.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as usize % sides.max(1)
    }

    /// A list whose order the store does not promise.
    fn unordered<T>(&self, list: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut list: Vec<T> = list.into_iter().collect();
        let first = self.roll(list.len());
        list.rotate_left(first);
        list
    }

    fn find<T: Kind>(&self, key: &[u8]) -> Result<Option<&T>, &'static str> {
        let Some(entry) = self.entries.get(key) else { return Ok(None) };
        T::of(&entry.value).map(Some).ok_or(WRONG_TYPE)
    }

    fn find_mut<T: Kind>(&mut self, key: &[u8]) -> Result<Option<&mut T>, &'static str> {
        let Some(entry) = self.entries.get_mut(key) else { return Ok(None) };
        T::of_mut(&mut entry.value).map(Some).ok_or(WRONG_TYPE)
    }

    /// The value, a new one if there is none.
    fn make<T: Kind>(&mut self, key: &[u8]) -> Result<&mut T, &'static str> {
        let new = || Entry { value: T::default().into_value(), ends: None };
        let entry = self.entries.entry(key.to_vec()).or_insert_with(new);
        T::of_mut(&mut entry.value).ok_or(WRONG_TYPE)
    }

    /// Runs a command.
    pub fn run(&mut self, command: &[&[u8]]) -> Reply {
        let (name, args) = command.split_first().expect("a command has a name");
        let name = str(name).to_ascii_uppercase();
        let reply = match name.as_bytes()[0] {
            b'H' => self.run_hash(&name, args),
            b'Z' => self.run_sorted(&name, args),
            b'X' => self.run_stream(&name, args),
            b'S' if name != "SET" && name != "SPUBLISH" => self.run_set(&name, args),
            _ => self.run_key(&name, args),
        };
        if is_write(&name) {
            self.changes += 1;
            if let Some(key) = args.first() {
                self.drop_empty(key);
            }
        }
        reply.unwrap_or_else(|error| Reply::Error(error.into()))
    }

    fn drop_empty(&mut self, key: &[u8]) {
        let is_empty = match self.entries.get(key).map(|entry| &entry.value) {
            Some(Value::Hash(hash)) => hash.is_empty(),
            Some(Value::Set(set)) => set.is_empty(),
            Some(Value::Sorted(sorted)) => sorted.scores.is_empty(),
            _ => false,
        };
        if is_empty {
            self.entries.remove(key);
        }
    }

    fn run_key(&mut self, name: &str, args: &[&[u8]]) -> Result<Reply, &'static str> {
        let now = self.micros / 1000;
        let reply = match (name, args) {
            ("GET", [key]) => self.find::<Text>(key)?.map_or(Reply::Nil, Reply::text),
            ("SET", [key, value, options @ ..]) => {
                let (is_new_only, life) = match options {
                    [] => (false, None),
                    [b"PX", life] => (false, Some(*life)),
                    [b"NX", b"PX", life] => (true, Some(*life)),
                    _ => refuse(name, args),
                };
                let life = life.map(number);
                if life.is_some_and(|life| life <= 0) {
                    return Err(BAD_EXPIRE);
                }
                if is_new_only && self.entries.contains_key(*key) {
                    return Ok(Reply::Nil);
                }
                let ends = life.map(|life| now + life as u64);
                self.entries
                    .insert(key.to_vec(), Entry { value: Value::Text(value.to_vec()), ends });
                Reply::ok()
            }
            ("EXISTS", keys) => {
                let found = keys.iter().filter(|key| self.entries.contains_key(**key));
                Reply::Number(found.count() as i64)
            }
            ("UNLINK" | "DEL", keys) => {
                let removed = keys.iter().filter(|key| self.entries.remove(**key).is_some());
                Reply::Number(removed.count() as i64)
            }
            ("PEXPIRE", [key, life]) => {
                let life = number(life);
                let Some(entry) = self.entries.get_mut(*key) else { return Ok(Reply::Number(0)) };
                entry.ends = Some(now.saturating_add_signed(life));
                if life <= 0 {
                    self.entries.remove(*key);
                }
                Reply::Number(1)
            }
            ("PTTL", [key]) => Reply::Number(match self.entries.get(*key) {
                None => -2,
                Some(Entry { ends: None, .. }) => -1,
                Some(Entry { ends: Some(ends), .. }) => (ends - now) as i64,
            }),
            ("RENAME", [key, other]) => {
                let entry = self.entries.remove(*key).ok_or(NO_KEY)?;
                self.entries.insert(other.to_vec(), entry);
                Reply::ok()
            }
            ("MEMORY", [b"USAGE", key]) => match self.entries.get(*key) {
                None => Reply::Nil,
                Some(entry) => Reply::Number(size(&entry.value) as i64),
            },
            ("TIME", []) => {
                let (seconds, micros) = (self.micros / 1_000_000, self.micros % 1_000_000);
                Reply::List(Reply::texts([seconds.to_string(), micros.to_string()]))
            }
            // Nobody asks how many have heard it.
            ("SPUBLISH", [channel, text]) => {
                self.published.push((channel.to_vec(), text.to_vec()));
                Reply::Number(0)
            }
            ("TYPE", [key]) => Reply::text(match self.entries.get(*key).map(|it| &it.value) {
                None => "none",
                Some(Value::Text(_)) => "string",
                Some(Value::Hash(_)) => "hash",
                Some(Value::Set(_)) => "set",
                Some(Value::Sorted(_)) => "zset",
                Some(Value::Stream(_)) => "stream",
            }),
            ("KEYS", [b"*"]) => Reply::List(Reply::texts(self.entries.keys())),
            ("FLUSHALL", []) => {
                self.clear();
                Reply::ok()
            }
            _ => refuse(name, args),
        };
        Ok(reply)
    }

    fn run_hash(&mut self, name: &str, args: &[&[u8]]) -> Result<Reply, &'static str> {
        let Some((key, rest)) = args.split_first() else { refuse(name, args) };
        let none = Hash::new();
        let hash = self.find::<Hash>(key)?.unwrap_or(&none);
        let value = |field: &&[u8]| hash.get(*field).map_or(Reply::Nil, Reply::text);
        let reply = match (name, rest) {
            ("HGET", [field]) => value(field),
            ("HMGET", [_, ..]) => Reply::List(rest.iter().map(value).collect()),
            ("HEXISTS", [field]) => Reply::Number(hash.contains_key(*field).into()),
            ("HLEN", []) => Reply::Number(hash.len() as i64),
            ("HKEYS", []) => Reply::List(Reply::texts(self.unordered(hash.keys()))),
            ("HVALS", []) => Reply::List(Reply::texts(self.unordered(hash.values()))),
            ("HGETALL", []) => {
                let all = self.unordered(hash).into_iter();
                Reply::Map(
                    all.map(|(field, value)| (Reply::text(field), Reply::text(value))).collect(),
                )
            }
            ("HSET", [_, _, ..]) => {
                let hash = self.make::<Hash>(key)?;
                let put = |pair: &[&[u8]]| {
                    let [field, value] = pair else { refuse(name, args) };
                    hash.insert(field.to_vec(), value.to_vec()).is_none()
                };
                Reply::Number(rest.chunks(2).map(put).filter(|is_new| *is_new).count() as i64)
            }
            ("HSETNX", [field, value]) => {
                let is_new = !hash.contains_key(*field);
                if is_new {
                    self.make::<Hash>(key)?.insert(field.to_vec(), value.to_vec());
                }
                Reply::Number(is_new.into())
            }
            ("HINCRBY", [field, by]) => {
                let before = hash.get(*field).map_or(Some(0), |text| str(text).parse().ok());
                let after = before.ok_or(NO_INTEGER)? + number(by);
                self.make::<Hash>(key)?.insert(field.to_vec(), after.to_string().into());
                Reply::Number(after)
            }
            ("HDEL", [_, ..]) => {
                let Some(hash) = self.find_mut::<Hash>(key)? else { return Ok(Reply::Number(0)) };
                let removed = rest.iter().filter(|field| hash.remove(**field).is_some());
                Reply::Number(removed.count() as i64)
            }
            _ => refuse(name, args),
        };
        Ok(reply)
    }

    fn run_set(&mut self, name: &str, args: &[&[u8]]) -> Result<Reply, &'static str> {
        let Some((key, rest)) = args.split_first() else { refuse(name, args) };
        let none = Set::new();
        let set = self.find::<Set>(key)?.unwrap_or(&none);
        let reply = match (name, rest) {
            ("SCARD", []) => Reply::Number(set.len() as i64),
            ("SISMEMBER", [member]) => Reply::Number(set.contains(*member).into()),
            ("SMEMBERS", []) => Reply::Set(Reply::texts(self.unordered(set))),
            ("SRANDMEMBER", []) => self.unordered(set).first().map_or(Reply::Nil, Reply::text),
            ("SRANDMEMBER", [count]) => {
                let some = self.unordered(set).into_iter().take(number(count) as usize);
                Reply::List(Reply::texts(some))
            }
            ("SADD", [_, ..]) => {
                let set = self.make::<Set>(key)?;
                let added = rest.iter().filter(|member| set.insert(member.to_vec()));
                Reply::Number(added.count() as i64)
            }
            ("SREM", [_, ..]) => {
                let Some(set) = self.find_mut::<Set>(key)? else { return Ok(Reply::Number(0)) };
                let removed = rest.iter().filter(|member| set.remove(**member));
                Reply::Number(removed.count() as i64)
            }
            _ => refuse(name, args),
        };
        Ok(reply)
    }

    fn run_sorted(&mut self, name: &str, args: &[&[u8]]) -> Result<Reply, &'static str> {
        let Some((key, rest)) = args.split_first() else { refuse(name, args) };
        let none = Sorted::default();
        let sorted = self.find::<Sorted>(key)?.unwrap_or(&none);
        let ranked = |first: &[u8], last: &[u8]| {
            let place = |text| {
                let place = number(text);
                if place < 0 { place + sorted.order.len() as i64 } else { place }
            };
            let (first, last) = (place(first).max(0), place(last));
            let count = (last - first + 1).max(0) as usize;
            sorted.order.iter().skip(first as usize).take(count).cloned().collect::<Vec<_>>()
        };
        let reply = match (name, rest) {
            ("ZCARD", []) => Reply::Number(sorted.order.len() as i64),
            ("ZSCORE", [member]) => {
                sorted.scores.get(*member).map_or(Reply::Nil, |score| Reply::Score(*score))
            }
            ("ZRANGE", [first, last]) => members(ranked(first, last)),
            ("ZRANGE", [first, last, b"WITHSCORES"]) => with_scores(ranked(first, last)),
            ("ZREVRANGE", [b"0", last]) => {
                let some = sorted.order.iter().rev().take(number(last) as usize + 1);
                members(some.cloned().collect())
            }
            ("ZRANGEBYSCORE", [min, max, options @ ..]) => {
                let found = sorted.between((bound(min)?, bound(max)?));
                let limited = |count: &[u8]| {
                    found.iter().take(number(count) as usize).cloned().collect::<Vec<_>>()
                };
                match options {
                    [] => members(found),
                    [b"LIMIT", b"0", count] => members(limited(count)),
                    [b"WITHSCORES", b"LIMIT", b"0", count] => with_scores(limited(count)),
                    _ => refuse(name, args),
                }
            }
            ("ZRANDMEMBER", [count]) => {
                let some = self.unordered(&sorted.order).into_iter().take(number(count) as usize);
                members(some.cloned().collect())
            }
            ("ZADD", [b"XX", b"CH", score, member]) => {
                let is_there = sorted.scores.get(*member).is_some_and(|now| *now != number(score));
                if is_there {
                    self.make::<Sorted>(key)?.put(member, number(score));
                }
                Reply::Number(is_there.into())
            }
            ("ZADD", [_, _, ..]) => {
                let sorted = self.make::<Sorted>(key)?;
                let put = |pair: &[&[u8]]| {
                    let [score, member] = pair else { refuse(name, args) };
                    sorted.put(member, number(score))
                };
                Reply::Number(rest.chunks(2).map(put).filter(|is_new| *is_new).count() as i64)
            }
            ("ZREM", [_, ..]) => self.zrem(key, rest)?,
            ("ZREMRANGEBYSCORE", [min, max]) => {
                let found = sorted.between((bound(min)?, bound(max)?));
                self.zrem(key, &found.iter().map(|(_, it)| it.as_slice()).collect::<Vec<_>>())?
            }
            ("ZREMRANGEBYRANK", [first, last]) => {
                let found = ranked(first, last);
                self.zrem(key, &found.iter().map(|(_, it)| it.as_slice()).collect::<Vec<_>>())?
            }
            _ => refuse(name, args),
        };
        Ok(reply)
    }

    fn zrem(&mut self, key: &[u8], members: &[&[u8]]) -> Result<Reply, &'static str> {
        let Some(sorted) = self.find_mut::<Sorted>(key)? else { return Ok(Reply::Number(0)) };
        let removed = members.iter().filter(|member| sorted.remove(member));
        Ok(Reply::Number(removed.count() as i64))
    }

    fn run_stream(&mut self, name: &str, args: &[&[u8]]) -> Result<Reply, &'static str> {
        if let ("XINFO", [b"STREAM", key]) = (name, args) {
            let stream = self.find::<Stream>(key)?.ok_or(NO_KEY)?;
            let length = stream.entries.len() as i64;
            let facts = [("length", length), ("entries-added", stream.added)];
            let pair = |(name, number)| (Reply::text(name), Reply::Number(number));
            let mut facts: Vec<_> = facts.into_iter().map(pair).collect();
            let (ms, q) = stream.last;
            facts.push((Reply::text("last-generated-id"), Reply::text(format!("{ms}-{q}"))));
            return Ok(Reply::Map(facts));
        }
        let Some((key, rest)) = args.split_first() else { refuse(name, args) };
        let none = Stream::default();
        let stream = self.find::<Stream>(key)?.unwrap_or(&none);
        let reply = match (name, rest) {
            ("XLEN", []) => Reply::Number(stream.entries.len() as i64),
            ("XADD", [b"MAXLEN", keep, id, field, value]) => {
                self.xadd(key, id, field, value)?;
                let stream = self.make::<Stream>(key)?;
                while stream.entries.len() > number(keep) as usize {
                    stream.entries.pop_first();
                }
                Reply::text(id)
            }
            ("XADD", [id, field, value]) => {
                self.xadd(key, id, field, value)?;
                Reply::text(id)
            }
            ("XDEL", [id]) => {
                let Some(stream) = self.find_mut::<Stream>(key)? else {
                    return Ok(Reply::Number(0));
                };
                Reply::Number(stream.entries.remove(&place(id)).is_some().into())
            }
            ("XRANGE", [first, last, options @ ..]) => {
                entries(stream.between(first, last).take(counted(name, options)))
            }
            ("XREVRANGE", [last, first, options @ ..]) => {
                entries(stream.between(first, last).rev().take(counted(name, options)))
            }
            _ => refuse(name, args),
        };
        Ok(reply)
    }

    fn xadd(&mut self, key: &[u8], id: &[u8], field: &[u8], d: &[u8]) -> Result<(), &'static str> {
        if self.find::<Stream>(key)?.is_some_and(|stream| stream.last >= place(id)) {
            return Err(OLD_ID);
        }
        let stream = self.make::<Stream>(key)?;
        stream.last = place(id);
        stream.added += 1;
        stream.entries.insert(place(id), (field.to_vec(), d.to_vec()));
        Ok(())
    }
}

type StreamEntry<'a> = (&'a Place, &'a (Text, Text));

impl Stream {
    fn between(
        &self,
        first: &[u8],
        last: &[u8],
    ) -> impl DoubleEndedIterator<Item = StreamEntry<'_>> {
        let first = match first {
            b"-" => Bound::Unbounded,
            [b'(', id @ ..] => Bound::Excluded(place(id)),
            id => Bound::Included(place(id)),
        };
        let last = if last == b"+" { (u64::MAX, u64::MAX) } else { place(last) };
        // A range that ends before it begins is empty here; a map would panic.
        let is_empty = match first {
            Bound::Unbounded => false,
            Bound::Excluded(first) => first >= last,
            Bound::Included(first) => first > last,
        };
        let range = (!is_empty).then(|| self.entries.range((first, Bound::Included(last))));
        range.into_iter().flatten()
    }
}

fn refuse(name: &str, args: &[&[u8]]) -> ! {
    let args: Vec<String> = args.iter().map(|arg| shown(arg)).collect();
    panic!("the model store has no such form of {name}: {args:?}")
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace('\0', "\\0")
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a Text, &'a Text)>) -> String {
    let pair = |(name, value): (&Text, &Text)| format!("{}={}", shown(name), shown(value));
    pairs.map(pair).collect::<Vec<_>>().join(" ")
}

fn str(text: &[u8]) -> &str {
    std::str::from_utf8(text).expect("ASCII")
}

/// A score, a count or a duration. Scores are doubles; a whole one is exact in an integer.
fn number(text: &[u8]) -> i64 {
    let number: f64 = str(text).parse().unwrap_or_else(|_| panic!("a number: {}", shown(text)));
    assert_eq!(number.fract(), 0.0, "a whole number: {}", shown(text));
    number as i64
}

fn bound(text: &[u8]) -> Result<Bound<i64>, &'static str> {
    if text == b"-inf" || text == b"+inf" {
        return Ok(Bound::Unbounded);
    }
    let score = text.strip_prefix(b"(").unwrap_or(text);
    // A server may be asked for anything; a library's own scores are numbers.
    str(score).parse::<f64>().map_err(|_| NO_FLOAT)?;
    let score = number(score);
    Ok(if text[0] == b'(' { Bound::Excluded(score) } else { Bound::Included(score) })
}

fn place(id: &[u8]) -> Place {
    let (ms, q) = str(id).split_once('-').unwrap_or_else(|| panic!("ms-q: {}", shown(id)));
    (ms.parse().expect("milliseconds"), q.parse().expect("a counter"))
}

fn counted(name: &str, options: &[&[u8]]) -> usize {
    match options {
        [] => usize::MAX,
        [b"COUNT", count] => number(count) as usize,
        _ => refuse(name, options),
    }
}

fn members(found: Vec<(i64, Text)>) -> Reply {
    Reply::List(found.into_iter().map(|(_, member)| Reply::Text(member)).collect())
}

/// As functions see it. Outside, RESP3 has pairs, which nobody asks for.
fn with_scores(found: Vec<(i64, Text)>) -> Reply {
    let pair = |(score, member)| [Reply::Text(member), Reply::Score(score)];
    Reply::List(found.into_iter().flat_map(pair).collect())
}

fn entries<'a>(found: impl Iterator<Item = StreamEntry<'a>>) -> Reply {
    let entry = |((ms, q), (field, value)): StreamEntry<'_>| {
        let fields = Reply::List(Reply::texts([field, value]));
        Reply::List(vec![Reply::text(format!("{ms}-{q}")), fields])
    };
    Reply::List(found.map(entry).collect())
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Hash(hash) => hash.iter().map(|(name, value)| name.len() + value.len()).sum(),
        Value::Set(set) => set.iter().map(Vec::len).sum(),
        Value::Sorted(sorted) => sorted.scores.keys().map(|member| member.len() + 8).sum(),
        Value::Stream(stream) => stream.entries.values().map(|(_, value)| value.len() + 16).sum(),
    }
}
