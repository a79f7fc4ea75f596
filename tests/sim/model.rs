//! What everybody must have seen: a room is a log, and a reader has a piece of it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use serde_json::Value;

/// A message as everyone gets it.
pub struct Message {
    pub kind: String,
    pub user: String,
    pub user_id: String,
    pub text: String,
    pub nonce: Option<String>,
    /// The very bytes.
    pub json: Vec<u8>,
}

/// What is said without a socket begins with this.
pub const FROM_OUTSIDE: &str = "by REST ";

/// A room, as all that anybody saw of it. Message ids are the order.
pub struct Room {
    pub id: String,
    pub log: BTreeMap<String, Message>,
    /// How many messages the server keeps of it.
    pub kept_max: usize,
    /// Somebody was in it from the beginning to the end and missed nothing.
    pub watched: bool,
}

impl Room {
    pub fn new(id: String, kept_max: usize) -> Room {
        Room { id, log: BTreeMap::new(), kept_max, watched: false }
    }

    /// Somebody was told this message; it must be the same for all. Returns its id.
    pub fn note(&mut self, json: &[u8]) -> String {
        if let Some(known) = id_of(json).filter(|id| self.log.contains_key(*id)) {
            assert_eq!(self.log[known].json, json, "one message, told in two ways");
            return known.to_owned();
        }
        let value: Value = serde_json::from_slice(json).expect("a message is JSON");
        let field = |name: &str| {
            let field = value[name].as_str();
            field.unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
        };
        assert_eq!(field("room_id"), self.id, "a message of another room");
        let id = field("id");
        let message = Message {
            kind: field("type"),
            user: field("user"),
            user_id: field("user_id"),
            text: field("message"),
            nonce: value["nonce"].as_str().map(str::to_owned),
            json: json.to_vec(),
        };
        assert_eq!(id_of(json), Some(&id[..]), "a message begins with its id");
        self.log.insert(id.clone(), message);
        id
    }

    /// Whom the log has in the room after its last message. Panics if somebody comes or goes
    /// twice, or speaks without being there.
    pub fn present(&self) -> Vec<String> {
        let mut present: Vec<(&str, &str)> = Vec::new();
        for (id, message) in &self.log {
            let who = (message.user_id.as_str(), message.user.as_str());
            let place = present.iter().position(|other| *other == who);
            match (message.kind.as_str(), place) {
                ("user_joined", None) => present.push(who),
                ("user_left", Some(place)) => drop(present.remove(place)),
                ("chat", Some(_)) => {}
                ("chat", None) if message.text.starts_with(FROM_OUTSIDE) => {}
                (kind, _) => panic!("{id}: {kind} of {who:?}, present: {present:?}"),
            }
        }
        let mut names: Vec<_> = present.iter().map(|(_, name)| name.to_string()).collect();
        names.sort();
        names
    }

    /// What a reader saw is a piece of the log without a gap. `open`: and goes on to its end.
    pub fn check_reader(&self, who: &str, seen: &[String], open: bool) {
        let Some(first) = seen.first() else { return };
        let log = self.log.range(first.clone()..).map(|(id, _)| id);
        for (place, expected) in log.enumerate() {
            match seen.get(place) {
                Some(id) => assert_eq!(id, expected, "{who}: a gap or a repetition, at {place}"),
                None if open => panic!("{who} is owed {:?}", self.log[expected].text),
                None => break,
            }
        }
    }

    /// The messages after this one.
    pub fn after(&self, id: &str) -> impl Iterator<Item = &String> {
        self.log.range::<str, _>((Bound::Excluded(id), Bound::Unbounded)).map(|(id, _)| id)
    }

    /// Whether `after` was kept when `until` was the newest message.
    pub fn was_kept(&self, after: &str, until: &str) -> bool {
        let bounds = (Bound::Included(after), Bound::Included(until));
        after <= until && self.log.range::<str, _>(bounds).count() <= self.kept_max
    }

    /// Nothing was said twice while its nonce was known. Returns how often that was over.
    pub fn check_nonces(&self) -> usize {
        let mut last = HashMap::new();
        let mut twice = 0;
        for (place, message) in self.log.values().enumerate() {
            let Some(nonce) = &message.nonce else { continue };
            if let Some(before) = last.insert((&message.user_id, nonce), place) {
                assert!(place - before > self.kept_max, "{:?} is there twice", message.text);
                twice += 1;
            }
        }
        twice
    }
}

/// The id of a message that begins with it.
fn id_of(json: &[u8]) -> Option<&str> {
    let id = json.strip_prefix(b"{\"id\":\"")?.split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(id).ok()
}
