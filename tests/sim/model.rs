//! What everybody must have seen: a room is a log, and a reader has a piece of it.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

/// A message as everyone gets it.
pub struct Message {
    pub kind: String,
    pub user: String,
    pub user_id: String,
    pub text: String,
    /// The very bytes.
    pub json: Vec<u8>,
}

/// A room, as all that anybody saw of it. Message ids are the order.
pub struct Room {
    pub id: String,
    pub log: BTreeMap<String, Message>,
    /// The ids of messages by their very bytes.
    pub known: HashMap<Vec<u8>, String>,
    /// Somebody was in it from the beginning to the end and missed nothing.
    pub watched: bool,
}

impl Room {
    pub fn new(id: String) -> Room {
        Room { id, log: BTreeMap::new(), known: HashMap::new(), watched: false }
    }

    /// Somebody was told this message; it must be the same for all. Returns its id.
    pub fn note(&mut self, json: &[u8]) -> String {
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
            json: json.to_vec(),
        };
        let first = self.log.entry(id.clone()).or_insert(message);
        assert_eq!(first.json, json, "one message, told in two ways");
        self.known.insert(json.to_vec(), id.clone());
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
}
