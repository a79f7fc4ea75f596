//! A node whose store is played by the test: which functions it calls, and what follows the replies.
//!
//! A [`Node`] is a connected node together with the event loop's part. The store's side is written by
//! hand, so that it can answer in ways in which the functions never do.

mod commands;
mod faults;
mod mirrors;

use std::time::Duration;

use super::library::{self, Library};
use super::*;
use crate::chat::{
    AttachmentKey, Chat, ChatConfig, CloseReason, Command, ConnKey, ConnTag, Event, GuessPaces,
    MessageCopies, Outcome, Page, Published, Refusal, RoomId, RoomKey, SessionCommand, SessionId,
    Sink, Start, UserId,
};
use crate::clock::{Mono, Now, SeededEntropy, Wall};
use crate::ledger::Ledger;
use crate::rate::Pace;
use crate::slots::Slots;

const SETTINGS: ChatConfig = ChatConfig {
    session_ttl: Duration::from_secs(3600),
    room_ttl: Duration::from_secs(120),
    new_room_ttl: Duration::from_secs(600),
    leave_grace: Duration::from_secs(3),
    probe_timeout: Duration::from_secs(3),
    history_messages_max: 1000,
    message_pace: Pace::UNLIMITED,
    join_pace: Pace::UNLIMITED,
    session_pace: Pace::UNLIMITED,
    room_pace: Pace::UNLIMITED,
    guess_paces: GuessPaces { address: Pace::UNLIMITED, room: Pace::UNLIMITED },
    address_connections_max: None,
    address_sessions_max: None,
    sessions_max: 100,
    rooms_max: 100,
};

const ROOM: &str = "0123456789";
const FACTS: &str = "- 0 - 1755611000000000 - 1 a title";
const SECRET: &str = "the secret of the cluster";

/// What connections receive.
#[derive(Default)]
struct Ears {
    heard: Vec<String>,
    closed: Vec<CloseReason>,
}

impl Sink for Ears {
    fn publish(&mut self, _: RoomKey, event: &Event<'_>, _: usize) -> Published {
        self.heard.push(match event {
            Event::Message(message) => format!("{:?} {:?}", message.user, message.kind),
            event => format!("{event:?}"),
        });
        Published { event_bytes: 100, is_batch_full: false }
    }

    fn close(&mut self, _: ConnKey, reason: CloseReason) {
        self.closed.push(reason);
    }

    fn is_open(&mut self, _: ConnKey) -> bool {
        true
    }

    fn is_alive(&mut self, _: ConnKey) -> bool {
        false
    }

    fn seal(&mut self, _: RoomKey, _: &[ConnKey]) {}
    fn advance(&mut self, _: RoomKey, _: ConnKey) {}
    fn skip(&mut self, _: RoomKey, _: ConnKey) {}
    fn push(&mut self, _: ConnKey, _: &Event<'_>) {}
    fn push_missed(&mut self, _: ConnKey, _: &MessageCopies) {}
    fn push_page(&mut self, _: ConnKey, _: &Page<'_>) {}
    fn welcome(&mut self, _: ConnKey, _: RoomId, _: UserId) {}
    fn on_listed(&mut self, _: usize) {}
    fn begin_catch_up(&mut self, _: ConnKey) {}
    fn end_catch_up(&mut self, _: ConnKey) {}
    fn ping(&mut self, _: ConnKey) {}
    fn admit(&mut self, _: ConnKey) {}
    fn end_room(&mut self, _: RoomKey) {}
    fn free_room(&mut self, _: RoomKey) {}
}

/// A node, and the event loop's part.
struct Node {
    now: Now,
    cluster: Cluster,
    chat: Chat,
    ears: Ears,
    conns: Slots<(), ConnTag>,
}

/// What the store says, in RESP3: a text, or a list in brackets.
macro_rules! reply {
    (@ [$($item:tt),*]) => { reply!($($item),*) };
    (@ $text:expr) => { bulk($text.as_ref()) };
    ($($item:tt),*) => {{
        let items: Vec<String> = vec![$(reply!(@ $item)),*];
        format!("*{}\r\n{}", items.len(), items.concat())
    }};
}
use reply;

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// A push on the node's channel.
fn push(text: &str) -> String {
    format!(">3\r\n$8\r\nsmessage\r\n{}{}", bulk("dc:{0}:to:node"), bulk(text))
}

/// The record of a message of `user`.
fn record(kind: char, tail: u64, user: UserId, text: &str) -> String {
    format!("1755611100123456{kind}{tail:016x}{user}03Ana00{text}")
}

fn room() -> RoomId {
    RoomId::parse(ROOM).unwrap()
}

fn session() -> SessionId {
    SessionId::parse("00000000-0000-4000-8000-000000000001").unwrap()
}

impl Node {
    /// A node that the store has just welcomed.
    fn new() -> Node {
        Node::with_partitions(1)
    }

    fn with_partitions(partitions: u16) -> Node {
        let uplink = UplinkConfig {
            prefix: "dc".to_owned(),
            partitions,
            timeout: Duration::from_secs(5),
            lease: Duration::from_secs(10),
            ttl_max: Duration::from_secs(600),
            terms: "1/1/store".to_owned(),
            secret_draft: String::new(),
        };
        let (lease, patience) = (Duration::from_secs(10), Duration::from_secs(30));
        let settings = ClusterSettings { chat: SETTINGS, lease, patience, secret: None };
        let entropy = Box::new(SeededEntropy::new(1));
        let ledger = Ledger::new();
        let mut node = Node {
            now: Now { mono: Mono::ZERO, wall: Wall::from_micros(1_755_611_100_123_456) },
            cluster: Cluster::new(settings, uplink, Library::of(&library::source()), entropy),
            chat: Chat::mirror(SETTINGS, Box::new(SeededEntropy::new(2)), &ledger, |_| 100),
            ears: Ears::default(),
            conns: Slots::default(),
        };
        node.connect(partitions);
        node.sent();
        node
    }

    /// The connection is established, and the store welcomes it. It counts nothing for the node.
    fn connect(&mut self, partitions: u16) {
        self.greet(partitions);
        for _ in 0..2 * partitions {
            self.hears("*0\r\n");
        }
    }

    /// The same without what the store counts.
    fn greet(&mut self, partitions: u16) {
        assert!(self.cluster.poll_connect(self.now.mono));
        self.cluster.on_connected(self.now.mono, Login::default());
        self.hears("%1\r\n+server\r\n+redis\r\n*1\r\n$6\r\nmaster\r\n");
        self.hears(&format!("{}-ERR Library already exists\r\n", bulk("redis_version:7.0.15")));
        for _ in 0..partitions {
            self.hears(&format!(">1\r\n{}", bulk("ssubscribe")));
        }
        for _ in 0..partitions {
            self.hears(&reply!("KEPT", SECRET, "1755611100123456"));
        }
        assert!(self.cluster.is_store_connected());
    }

    fn lent(&mut self) -> (&mut Cluster, Lent<'_>) {
        let lent = Lent { now: self.now, chat: &mut self.chat, sink: &mut self.ears };
        (&mut self.cluster, lent)
    }

    /// The store says this.
    fn hears(&mut self, text: &str) {
        let now = self.now.mono;
        let (cluster, mut lent) = self.lent();
        cluster.on_bytes(now, text.as_bytes());
        while cluster.handle_next(&mut lent) {}
        self.chat.check_invariants();
    }

    /// So much time passes.
    fn waits(&mut self, millis: u64) {
        self.now.mono = self.now.mono.after(Duration::from_millis(millis));
        let (cluster, mut lent) = self.lent();
        cluster.sweep(&mut lent);
    }

    fn asks(&mut self, command: Command<'_>) -> Result<(), Refusal> {
        let to = self.conns.insert(());
        let (cluster, mut lent) = self.lent();
        cluster.run(&mut lent, to, command)
    }

    /// A connection of the session asks to enter the room.
    fn enters(&mut self) -> ConnKey {
        let (conn, start) = (self.conns.insert(()), Start::Last(50));
        let request = EntryRequest {
            conn,
            session: Some(session()),
            room: Some(room()),
            share_exceeded: false,
            from: None,
            start,
        };
        let (cluster, mut lent) = self.lent();
        assert_eq!(cluster.enter(&mut lent, request), Ok(()));
        conn
    }

    /// A connection of the session is in the room, which is empty otherwise.
    fn has_entered(&mut self) -> (ConnKey, AttachmentKey) {
        let conn = self.enters();
        self.hears(&reply!("OK", "Ana", "", "0", "1"));
        let joined = reply!(@ ["0-0", "5-0", (record('J', 1, self.user_id(), ""))]);
        let people: [String; 0] = [];
        let snapshot = format!("*3\r\n{}*{}\r\n*0\r\n", bulk(FACTS), people.len());
        let items = [bulk("IN"), bulk("0-0"), format!("*1\r\n{joined}"), bulk(""), snapshot];
        self.hears(&format!("*6\r\n{}{}", items.concat(), bulk("")));
        let answers = self.cluster.take_answers();
        let [NodeAnswer::Entered { attachment, .. }] = answers[..] else {
            panic!("it has not entered")
        };
        self.sent();
        (conn, attachment)
    }

    fn user_id(&self) -> UserId {
        let identity = self.cluster.identity().unwrap();
        identity.user_id(identity.session(session()), room())
    }

    /// What was sent: for a function its name and its arguments without the node, else the command.
    fn sent(&mut self) -> Vec<String> {
        let output = self.cluster.output().unwrap_or_default();
        let text = String::from_utf8(output).unwrap();
        let mut rest = text.as_str();
        let mut sent = Vec::new();
        while let Some(command) = rest.strip_prefix('*') {
            let (count, mut behind) = command.split_once("\r\n").unwrap();
            let mut parts = Vec::new();
            for _ in 0..count.parse().unwrap() {
                let (length, part) = behind[1..].split_once("\r\n").unwrap();
                let (part, next) = part.split_at(length.parse().unwrap());
                behind = &next[2..];
                parts.push(if part.is_empty() { "''" } else { part });
            }
            rest = behind;
            sent.push(match parts[..] {
                // The name of the library, one key, and the node.
                ["FCALL", name, "1", _, _, _, ref args @ ..] => {
                    [&[&name["dc_01234567_".len()..]], args].concat().join(" ")
                }
                _ => parts.join(" "),
            });
        }
        assert_eq!(rest, "");
        sent
    }

    /// The same without arguments.
    fn called(&mut self) -> String {
        let sent = self.sent();
        let names = sent.iter().map(|call| call.split(' ').next().unwrap_or_default());
        names.collect::<Vec<_>>().join(" ")
    }

    /// What has become of the request.
    fn outcome(&mut self) -> String {
        let answers = self.cluster.take_answers();
        let shown = answers.into_iter().map(|answer| match answer {
            NodeAnswer::Outcome { outcome: Err(refusal), .. } => format!("{refusal:?}"),
            NodeAnswer::Outcome { outcome: Ok(mut settled), .. } => {
                match settled.outcome(&self.chat) {
                    Ok(outcome) => shown(&outcome),
                    Err(refusal) => format!("late {refusal:?}"),
                }
            }
            NodeAnswer::Entered { .. } => "entered".to_owned(),
            NodeAnswer::TurnedAway { reason, .. } => format!("turned away: {reason:?}"),
            NodeAnswer::Waits { .. } => "waits".to_owned(),
            NodeAnswer::Answered { count, .. } => format!("{count} answered"),
            NodeAnswer::Refused { why, nonce, .. } => format!("refused: {why:?} {nonce:?}"),
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

fn shown(outcome: &Outcome<'_>) -> String {
    match outcome {
        Outcome::Counts { sessions, rooms } => format!("{sessions} sessions, {rooms} rooms"),
        Outcome::Listing(chat) => format!("{} public rooms", chat.public_rooms().count()),
        Outcome::Room(room) => format!("room {:?}", room.title),
        Outcome::SessionOpened { name, .. } => format!("session of {}", name.as_str()),
        Outcome::SessionEnded => "session ended".to_owned(),
        Outcome::Session => "session".to_owned(),
        Outcome::SessionShown { name, rooms, .. } => format!("{name} in {} rooms", rooms.len()),
        Outcome::Rooms(rooms) => format!("{} rooms", rooms.len()),
        Outcome::RoomOpened { .. } => "room opened".to_owned(),
        Outcome::RoomDeleted => "room deleted".to_owned(),
        Outcome::Joined { .. } => "joined".to_owned(),
        Outcome::Left => "left".to_owned(),
        Outcome::Messages { .. } => "messages".to_owned(),
        Outcome::Posted { is_new, .. } => format!("posted, new: {is_new}"),
        Outcome::MessageDeleted => "message deleted".to_owned(),
        Outcome::People(people) => format!("{} people", people.len()),
        Outcome::Typed => "typed".to_owned(),
        Outcome::Removed { address } => format!("removed {address:?}"),
        Outcome::Bans(bans) => format!("{} bans", bans.len()),
        Outcome::BanLifted => "ban lifted".to_owned(),
        Outcome::Access { .. } => "access".to_owned(),
    }
}

fn of(command: SessionCommand<'_>) -> Command<'_> {
    Command::Of(session(), command)
}
