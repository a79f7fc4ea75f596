//! A model of the store in memory: what Redis and Valkey do for the servers of a cluster, as far as they
//! can tell, and no more.
//!
//! Owns connections, the store's own commands, and its faults. Must not know servers, nor what functions
//! decide: it runs their source. The invariant: the same seed, times and bytes give the same bytes.
//!
//! `data` has the keys and the commands on them, `scripts` runs the functions, `resp` is the protocol.
//! Times, bytes and faults come from outside: nothing here waits, and a command is executed when its last
//! byte is received. What the model does not know is a panic that names it.

// Each test target uses a part.
#![allow(dead_code)]

mod data;
pub mod resp;
mod scripts;

use std::collections::{BTreeMap, BTreeSet};

use data::Data;
use resp::{Reply, take_command};
use scripts::Scripts;

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// A connection to a model store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnectionId(u64);

/// Where a connection's own pushes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SelfPush {
    /// Redis 7.0.
    BeforeReply,
    /// Redis 7.2 and Valkey.
    AfterReply,
}

/// What a store is, and whom it serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Primary,
    /// It reads its data, and knows none of it yet.
    Loading,
    Replica,
    /// A replica that does not know its primary's state.
    Stale,
    /// A primary that has lost the replicas it needs.
    Alone,
}

impl Role {
    /// Why it does not run a command.
    fn refusal(self, is_write: bool) -> Option<&'static str> {
        match self {
            Role::Primary => None,
            Role::Loading => Some("LOADING Redis is loading the dataset in memory"),
            Role::Replica | Role::Stale if is_write => {
                Some("READONLY You can't write against a read only replica.")
            }
            Role::Stale => Some(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            ),
            Role::Alone if is_write => Some("NOREPLICAS Not enough good replicas to write."),
            Role::Replica | Role::Alone => None,
        }
    }
}

#[derive(Default)]
struct Connection {
    input: Vec<u8>,
    output: Vec<u8>,
    channels: BTreeSet<Vec<u8>>,
}

/// All keys and values of a store at one time.
#[derive(Clone)]
pub struct StoreSnapshot(Data);

/// A store in memory.
pub struct ModelStore {
    data: Data,
    scripts: Scripts,
    connections: BTreeMap<ConnectionId, Connection>,
    connected: u64,
    micros: u64,
    self_push: SelfPush,
    role: Role,
    max_memory: Option<usize>,
    /// Commands that the user may not call.
    forbidden: BTreeSet<String>,
}

impl ModelStore {
    /// An empty store without functions. `seed` decides where it promises no order.
    pub fn new(seed: u64) -> ModelStore {
        ModelStore {
            data: Data::new(seed),
            scripts: Scripts::default(),
            connections: BTreeMap::new(),
            connected: 0,
            micros: 0,
            self_push: SelfPush::AfterReply,
            role: Role::Primary,
            max_memory: None,
            forbidden: BTreeSet::new(),
        }
    }

    // Time and connections.

    /// The store's wall clock, in microseconds since the Unix epoch. It may go back.
    pub fn set_time(&mut self, micros: u64) {
        self.micros = micros;
        self.data.set_time(micros);
    }

    pub fn connect(&mut self) -> ConnectionId {
        self.connected += 1;
        let connection = ConnectionId(self.connected);
        self.connections.insert(connection, Connection::default());
        connection
    }

    /// Receives a part of what a connection sends, and executes the commands that are whole by now. If
    /// the connection has ended, they are lost.
    pub fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        if let Some(it) = self.connections.get_mut(&connection) {
            it.input.extend_from_slice(bytes);
        }
        while let Some(command) =
            self.connections.get_mut(&connection).and_then(|it| take_command(&mut it.input))
        {
            self.execute(connection, &command);
        }
    }

    /// What the connection is told since the last time: replies and pushes in RESP3.
    pub fn take_output(&mut self, connection: ConnectionId) -> Vec<u8> {
        let it = self.connections.get_mut(&connection);
        it.map(|it| std::mem::take(&mut it.output)).unwrap_or_default()
    }

    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    // Faults.

    /// All connections end, as when the process does. Data and functions are kept.
    pub fn disconnect_all(&mut self) {
        self.connections.clear();
    }

    pub fn set_self_push(&mut self, self_push: SelfPush) {
        self.self_push = self_push;
    }

    pub fn set_role(&mut self, role: Role) {
        self.role = role;
    }

    /// Full when its data needs more than that; `Some(0)` is full at once.
    pub fn set_max_memory(&mut self, bytes: Option<usize>) {
        self.max_memory = bytes;
    }

    /// The user loses the right to a command, or gets it back.
    pub fn set_right(&mut self, command: &str, is_allowed: bool) {
        let command = command.to_ascii_uppercase();
        if is_allowed {
            self.forbidden.remove(&command);
        } else {
            self.forbidden.insert(command);
        }
    }

    /// FUNCTION FLUSH, or a restart without a file.
    pub fn forget_functions(&mut self) {
        self.scripts.forget();
    }

    /// FLUSHALL, or a restart without a file.
    pub fn forget_data(&mut self) {
        self.data.clear();
    }

    pub fn snapshot(&self) -> StoreSnapshot {
        StoreSnapshot(self.data.clone())
    }

    /// Loses what has changed since: a power cut, or a replica that lagged. Connections stay.
    pub fn restore(&mut self, snapshot: &StoreSnapshot) {
        self.data = snapshot.0.clone();
        self.data.set_time(self.micros);
    }

    // Inspection: none of it changes what the store does later.

    pub fn keys(&self) -> Vec<String> {
        self.data.keys()
    }

    /// All keys with when they end (ms, or `-`) and their values as text, in order.
    pub fn dump(&self) -> BTreeMap<String, String> {
        self.data.dump()
    }

    /// Runs a command on the data, whatever the store's role and the connection that asks.
    pub fn run(&mut self, words: &[&str]) -> Reply {
        let command: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.data.run(&command)
    }

    // Commands.

    fn is_full(&self) -> bool {
        self.max_memory.is_some_and(|most| self.data.bytes() >= most)
    }

    fn execute(&mut self, connection: ConnectionId, command: &[Vec<u8>]) {
        let name = String::from_utf8_lossy(&command[0]).to_ascii_uppercase();
        let reply = if self.forbidden.contains(&name) {
            let name = name.to_ascii_lowercase();
            Reply::Error(format!("NOPERM this user has no permissions to run the '{name}' command"))
        } else {
            self.reply(connection, &name, &command[1..])
        };
        let (mut own, mut output) = (Vec::new(), Vec::new());
        reply.encode(&mut output);
        for (channel, text) in std::mem::take(&mut self.data.published) {
            let mut push = Vec::new();
            Reply::Push(Reply::texts([&b"smessage"[..], &channel, &text])).encode(&mut push);
            for (id, it) in &mut self.connections {
                if it.channels.contains(&channel) {
                    let out = if *id == connection { &mut own } else { &mut it.output };
                    out.extend_from_slice(&push);
                }
            }
        }
        let Some(it) = self.connections.get_mut(&connection) else { return };
        let parts = match self.self_push {
            SelfPush::BeforeReply => [own, output],
            SelfPush::AfterReply => [output, own],
        };
        it.output.extend(parts.into_iter().flatten());
    }

    fn reply(&mut self, connection: ConnectionId, name: &str, args: &[Vec<u8>]) -> Reply {
        let texts: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        match (name, &texts[..]) {
            ("HELLO", [b"3", ..]) => {
                let facts = [("server", "redis"), ("version", "7.0.15"), ("mode", "standalone")];
                let fact = |(name, value)| (Reply::text(name), Reply::text(value));
                return Reply::Map(facts.into_iter().map(fact).collect());
            }
            ("SELECT", [_]) => return Reply::ok(),
            ("ROLE", []) => return self.role(),
            ("INFO", [section]) => return Reply::text(self.info(section)),
            ("CONFIG", [b"SET", b"maxmemory", bytes]) => {
                let bytes = String::from_utf8_lossy(bytes).parse().expect("bytes");
                self.max_memory = (bytes > 0).then_some(bytes);
                return Reply::ok();
            }
            ("SSUBSCRIBE", [channel]) => {
                let it = self.connections.get_mut(&connection).expect("it asks");
                it.channels.insert(channel.to_vec());
                let count = it.channels.len() as i64;
                let mut push = Reply::texts([&b"ssubscribe"[..], channel]);
                push.push(Reply::Number(count));
                return Reply::Push(push);
            }
            ("FUNCTION", [b"LOAD", source]) => return self.load(source),
            ("FCALL" | "FCALL_RO", [function, keys, ..]) => {
                let function = String::from_utf8_lossy(function);
                let keys: usize = String::from_utf8_lossy(keys).parse().expect("a number of keys");
                let (keys, args) = args[2..].split_at(keys);
                return self.call(&function, name == "FCALL_RO", keys, args);
            }
            _ => {}
        }
        if let Some(refusal) = self.role.refusal(data::is_write(name)) {
            return Reply::Error(refusal.into());
        }
        match (name, &texts[..]) {
            ("PING", []) => Reply::Status("PONG".into()),
            _ => {
                let command: Vec<&[u8]> =
                    [name.as_bytes()].into_iter().chain(texts.iter().copied()).collect();
                self.data.run(&command)
            }
        }
    }

    fn role(&self) -> Reply {
        let role = match self.role {
            Role::Replica | Role::Stale => "slave",
            Role::Primary | Role::Loading | Role::Alone => "master",
        };
        Reply::List(vec![Reply::text(role), Reply::Number(0), Reply::List(vec![])])
    }

    fn info(&self, section: &[u8]) -> String {
        match section {
            b"server" => "# Server\r\nredis_version:7.0.15\r\n".into(),
            b"memory" => {
                let (used, most) = (self.data.bytes(), self.max_memory.unwrap_or_default());
                format!("# Memory\r\nused_memory:{used}\r\nmaxmemory:{most}\r\n")
            }
            _ => panic!("the model store has no INFO {}", String::from_utf8_lossy(section)),
        }
    }

    fn load(&mut self, source: &[u8]) -> Reply {
        if let Some(refusal) = self.role.refusal(true) {
            return Reply::Error(refusal.into());
        }
        if self.is_full() {
            return Reply::Error(OOM.into());
        }
        match self.scripts.load(&String::from_utf8_lossy(source)) {
            Ok(name) => Reply::text(name),
            Err(error) => Reply::Error(error),
        }
    }

    fn call(&mut self, name: &str, is_read: bool, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Reply {
        let refuse = |text: &str| Reply::Error(text.into());
        // A store that loads does not look for the function.
        if self.role == Role::Loading {
            return refuse(self.role.refusal(false).expect("it loads"));
        }
        let Some(function) = self.scripts.function(name) else {
            return refuse("ERR Function not found");
        };
        if is_read && !function.is_read {
            return refuse("ERR Can not execute a script with write flag using *_ro command.");
        }
        if let Some(refusal) = self.role.refusal(!function.is_read) {
            return refuse(refusal);
        }
        if !function.may_run_when_full && self.is_full() {
            return refuse(OOM);
        }
        self.scripts.call(name, &mut self.data, keys, args)
    }
}
