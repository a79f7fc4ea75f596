//! The log of a room, against which the messages of all its readers are compared.
//!
//! Owns every message that any peer has received, in the order of the ids. Must not know how the
//! server stores or sends messages. The invariant: an id stands for the same bytes everywhere, apart from a text that is deleted, and
//! each reader has received one part of the log without a gap.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use serde_json::Value;

/// A message, with the fields that the checks need.
pub struct Message {
    pub kind: String,
    pub user: String,
    pub user_id: String,
    pub text: String,
    pub nonce: Option<String>,
    /// The bytes that every reader receives.
    pub json: Vec<u8>,
    /// The bytes that readers received before the text was deleted.
    pub original: Option<Vec<u8>>,
}

impl Message {
    /// The message has been read again, after its text was deleted.
    fn delete(&mut self, json: &[u8]) {
        let parse = |json: &[u8]| serde_json::from_slice::<Value>(json).expect("JSON");
        let (mut expected, now) = (parse(&self.json), parse(json));
        (expected["message"], expected["deleted"]) = ("".into(), true.into());
        let is_deleted = self.original.is_none() && self.kind == "chat";
        assert!(is_deleted && now == expected, "one message arrived in two versions: {now}");
        self.original = Some(std::mem::replace(&mut self.json, json.to_vec()));
        self.text.clear();
    }
}

/// Texts that are posted by REST begin with this, so that their author need not be present.
pub const REST_PREFIX: &str = "by REST ";

/// A room, as the peers have seen it.
pub struct Room {
    pub id: String,
    /// By message id. Ids increase in the order of the messages.
    pub log: BTreeMap<String, Message>,
    /// How many messages of the room the server keeps.
    pub history_messages_max: usize,
    /// A peer that misses nothing is connected from the beginning to the end, so the log is
    /// complete and the room stays open.
    pub watched: bool,
}

impl Room {
    pub fn new(id: String, history_messages_max: usize) -> Room {
        Room { id, log: BTreeMap::new(), history_messages_max, watched: false }
    }

    /// Records a message that a peer has received, and returns its id. Panics if another peer has
    /// received the same message in other bytes.
    pub fn record(&mut self, json: &[u8]) -> String {
        if let Some(known) = id_of(json).filter(|id| self.log.contains_key(*id)) {
            let message = self.log.get_mut(known).expect("it is there");
            if message.json != json && message.original.as_deref() != Some(json) {
                message.delete(json);
            }
            return known.to_owned();
        }
        let value: Value = serde_json::from_slice(json).expect("a message is JSON");
        let field = |name: &str| {
            let field = value[name].as_str();
            field.unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
        };
        assert_eq!(field("room_id"), self.id, "the message belongs to another room");
        let id = field("id");
        let message = Message {
            kind: field("type"),
            user: field("user"),
            user_id: field("user_id"),
            text: field("message"),
            nonce: value["nonce"].as_str().map(str::to_owned),
            json: json.to_vec(),
            original: None,
        };
        if let Some(target) = value["target"].as_str().and_then(|id| self.log.get_mut(id)) {
            target.text.clear();
        }
        assert_eq!(id_of(json), Some(&id[..]), "a message begins with its id");
        self.log.insert(id.clone(), message);
        id
    }

    /// The names of the users that the log shows as present after its last message. Panics if a
    /// user joins or leaves twice, or posts without being present.
    pub fn names_present(&self) -> Vec<String> {
        let mut present: Vec<(&str, &str)> = Vec::new();
        for (id, message) in &self.log {
            let user = (message.user_id.as_str(), message.user.as_str());
            let place = present.iter().position(|other| *other == user);
            match (message.kind.as_str(), place) {
                ("user_joined", None) => present.push(user),
                ("user_left", Some(place)) => drop(present.remove(place)),
                ("chat", Some(_)) | ("message_deleted", _) => {}
                ("chat", None) if message.text.starts_with(REST_PREFIX) => {}
                (kind, _) => panic!("{id}: {kind} of {user:?}, present: {present:?}"),
            }
        }
        let mut names: Vec<_> = present.iter().map(|(_, name)| name.to_string()).collect();
        names.sort();
        names
    }

    /// Checks that `received` is a part of the log without a gap, and that it reaches the end of
    /// the log if the reader `is_connected`.
    pub fn check_reader(&self, reader: &str, received: &[String], is_connected: bool) {
        let Some(first) = received.first() else { return };
        let log = self.log.range(first.clone()..).map(|(id, _)| id);
        for (place, expected) in log.enumerate() {
            match received.get(place) {
                Some(id) => assert_eq!(id, expected, "{reader}: gap or repetition at {place}"),
                None if is_connected => panic!("{reader} lacks {:?}", self.log[expected].text),
                None => break,
            }
        }
    }

    /// The ids of the messages after this one.
    pub fn after(&self, id: &str) -> impl Iterator<Item = &String> {
        self.log.range::<str, _>((Bound::Excluded(id), Bound::Unbounded)).map(|(id, _)| id)
    }

    /// Whether the server still had `after` in its history when `until` was the newest message.
    pub fn was_kept(&self, after: &str, until: &str) -> bool {
        let bounds = (Bound::Included(after), Bound::Included(until));
        after <= until && self.log.range::<str, _>(bounds).count() <= self.history_messages_max
    }

    /// Checks that no message was posted twice while the server had its nonce in its history.
    /// Returns how many were posted again after that.
    pub fn check_nonces(&self) -> usize {
        let mut last = HashMap::new();
        let mut repeated = 0;
        for (place, message) in self.log.values().enumerate() {
            let Some(nonce) = &message.nonce else { continue };
            if let Some(before) = last.insert((&message.user_id, nonce), place) {
                let distance = place - before;
                assert!(distance > self.history_messages_max, "{:?} is there twice", message.text);
                repeated += 1;
            }
        }
        repeated
    }
}

/// The id of a message, which is its first field.
pub fn id_of(json: &[u8]) -> Option<&str> {
    let id = json.strip_prefix(b"{\"id\":\"")?.split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(id).ok()
}
