//! A cluster without faults is one server: the same script gives each peer the same answers and events.
//!
//! Owns the comparison of two transcripts, and the exceptions. Must not know what the script does. The
//! invariant: what differs by chance (ids, times) stands for the place of its first appearance, so two
//! transcripts are the same text exactly if one server can be taken for the other.

use std::collections::HashMap;

use disposable_chat::config::Config;
use serde_json::Value;

use crate::pipe::{Dice, Network};
use crate::town::{self, Scope};
use crate::wire;
use crate::world::{Protocol, World};
use crate::{Seeds, run};

/// A server, or a cluster, whose peers do the same whatever the network does.
pub fn world(seed: u64, config: &Config, network: Network, nodes: usize) -> World {
    let mut world = match nodes {
        0 => World::new(seed, config, network),
        nodes => World::in_cluster(seed, config, network, nodes),
    };
    world.dice = Dice::new(seed);
    world.network_dice = Some(Dice::new(!seed));
    world.transcript = Some(Vec::new());
    world
}

/// By peer: the answers and events that it has received, without what differs by chance.
pub fn events(world: &World) -> Vec<Vec<String>> {
    let mut names = Names::default();
    let transcript = world.transcript.iter().flatten();
    transcript
        .enumerate()
        .map(|(index, bytes)| {
            let mut inbox = bytes.clone();
            let mut events = Vec::new();
            let stream = match &world.peers[index].protocol {
                Protocol::Ws(ws) => Some(ws.stream),
                _ => None,
            };
            if let Some(Some(format)) = stream {
                if let Some(head) = wire::take_stream_head(&mut inbox) {
                    events.push(head.lines().next().unwrap_or_default().to_owned());
                    while let Some(chunk) = wire::take_chunk(&mut inbox).filter(|it| !it.is_empty())
                    {
                        let told = wire::events_in(&chunk, format).into_iter();
                        events.extend(told.map(|(event, _)| names.replace(event.as_bytes())));
                    }
                }
            }
            while let Some(response) = if inbox.starts_with(b"HTTP/") {
                wire::take_response(&mut inbox, false)
            } else {
                None
            } {
                events.push(format!("{} {}", response.status, names.replace(&response.body)));
            }
            if stream == Some(None) {
                while let Some((first, payload)) = wire::take_frame(&mut inbox) {
                    match first {
                        wire::TEXT => events.push(names.replace(&payload)),
                        wire::CLOSE => events.push(format!("close {payload:?}")),
                        _ => {} // A ping comes when a connection has been silent.
                    }
                }
            }
            events.retain(|event| !event.contains(r#""type":"ping""#));
            events
        })
        .collect()
}

/// Ids, in the order in which they have appeared.
#[derive(Default)]
struct Names(HashMap<String, usize>);

impl Names {
    /// A JSON text with a number for each id, and without times.
    fn replace(&mut self, json: &[u8]) -> String {
        match serde_json::from_slice::<Value>(json) {
            Ok(mut value) => {
                self.visit(&mut value);
                value.to_string()
            }
            Err(_) => String::from_utf8_lossy(json).into_owned(),
        }
    }

    fn name(&mut self, word: &str) -> String {
        if !is_id(word) {
            return word.to_owned();
        }
        let next = self.0.len();
        format!("#{}", self.0.entry(word.to_owned()).or_insert(next))
    }

    fn visit(&mut self, value: &mut Value) {
        match value {
            Value::String(text) if is_time(text) => *text = "a time".to_owned(),
            Value::String(text) => {
                let words = text.split(' ').map(|word| self.name(word));
                *text = words.collect::<Vec<_>>().join(" ");
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.visit(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.visit(field)),
            _ => {}
        }
    }
}

/// Whether a text can be an id of a session, a room, a user or a message.
fn is_id(text: &str) -> bool {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_hex && matches!(text.len(), 10 | 16 | 32 | 36)
}

fn is_time(text: &str) -> bool {
    text.len() == 27 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
}

fn compare(test: &'static str, nodes: usize, seeds: Seeds) {
    run(test, seeds, |seed| {
        let facts = town::run_on(seed, Scope::Compared { nodes });
        if seed % 2 == 0 {
            let expected = town::run_on(seed, Scope::Compared { nodes: 0 }).events;
            assert_eq!(facts.events.len(), expected.len(), "peers");
            for (peer, (events, expected)) in facts.events.iter().zip(&expected).enumerate() {
                for (place, (event, expected)) in events.iter().zip(expected).enumerate() {
                    assert_eq!(event, expected, "peer {peer}, event {place}");
                }
                assert_eq!(events.len(), expected.len(), "peer {peer}: {events:?}");
            }
        }
        facts
    });
}

#[test]
fn one_node_answers_and_tells_what_a_server_does() {
    let test = "one_node_answers_and_tells_what_a_server_does";
    compare(test, 1, Seeds { quick: 2, slow: 200, pinned: &[] });
}

#[test]
fn two_nodes_answer_and_tell_what_a_server_does() {
    let test = "two_nodes_answer_and_tell_what_a_server_does";
    compare(test, 2, Seeds { quick: 4, slow: 500, pinned: &[6, 12, 16, 54, 142, 148] });
}

#[test]
fn three_nodes_answer_and_tell_what_a_server_does() {
    let test = "three_nodes_answer_and_tell_what_a_server_does";
    compare(test, 3, Seeds { quick: 4, slow: 500, pinned: &[28, 92, 134] });
}
