//! Calls and channels in the form in which the store knows them.
//!
//! Owns the names of keys, channels and functions, and the packing of a call. Must not know what a call
//! is for, or when it is sent. The invariant: each call names the node and its incarnation, so that the
//! store can refuse what an earlier connection sent.

use crate::cluster::args::Args;
use crate::cluster::library::{FUNCTIONS, Function, Library};
use crate::cluster::resp::{digits, pack_head, pack_part};

/// The form of a node's calls. What is the same in many of them is kept packed.
pub(super) struct CallFormat {
    prefix: String,
    partitions: u16,
    /// For each function: its name and the number of keys.
    heads: Vec<Vec<u8>>,
    /// For each partition: its key.
    keys: Vec<Vec<u8>>,
    /// The node and its incarnation.
    caller: Vec<u8>,
}

impl CallFormat {
    /// Calls of no node yet.
    pub fn new(prefix: &str, partitions: u16, library: &Library) -> CallFormat {
        let head = |(_, name): &(Function, &str)| {
            let mut head = Vec::new();
            pack_part(&mut head, format!("{}_{name}", library.name()).as_bytes());
            pack_part(&mut head, b"1");
            head
        };
        let key = |partition| {
            let mut key = Vec::new();
            pack_part(&mut key, format!("{prefix}:{{{partition}}}:nodes").as_bytes());
            key
        };
        CallFormat {
            prefix: prefix.to_owned(),
            partitions,
            heads: FUNCTIONS.iter().map(head).collect(),
            keys: (0..partitions).map(key).collect(),
            caller: Vec::new(),
        }
    }

    /// From now on, calls are those of this node's new connection.
    pub fn set_caller(&mut self, node: &str, incarnation: &str) {
        self.caller.clear();
        pack_part(&mut self.caller, node.as_bytes());
        pack_part(&mut self.caller, incarnation.as_bytes());
    }

    /// What the names of a partition's keys begin with: `dc:{0}:`.
    pub fn key_prefix(&self, partition: u16) -> String {
        format!("{}:{{{partition}}}:", self.prefix)
    }

    /// The channel on which a node hears of what happens in a partition.
    pub fn channel(&self, partition: u16, node: &str) -> String {
        format!("{}to:{node}", self.key_prefix(partition))
    }

    /// The partition of one of this node's channels.
    pub fn partition_of(&self, channel: &[u8]) -> Option<u16> {
        let rest = channel.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b":{")?;
        let end = rest.iter().position(|byte| *byte == b'}')?;
        let number = digits(&rest[..end])?;
        u16::try_from(number).ok().filter(|partition| *partition < self.partitions)
    }

    /// Appends a call.
    pub fn pack(&self, out: &mut Vec<u8>, function: Function, partition: u16, args: &Args) {
        // FCALL, name, number of keys, key, node, incarnation.
        pack_head(out, 6 + args.count());
        pack_part(out, b"FCALL");
        let head = self.heads.get(function as usize).map(Vec::as_slice);
        let key = self.keys.get(usize::from(partition)).map(Vec::as_slice);
        debug_assert!(head.is_some() && key.is_some());
        for part in [head.unwrap_or_default(), key.unwrap_or_default(), &self.caller, args.packed()]
        {
            out.extend_from_slice(part);
        }
    }
}
