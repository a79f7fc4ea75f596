//! What each new connection asks of the store before anything else.
//!
//! Owns the commands of the greeting, in their order, and what each answer says of the store. Must not
//! know the state of the connection, or what follows from a verdict. The invariant: a store that will
//! never serve (too old, without rights, with other records) is told apart from one that does not
//! serve now (loading, a replica), because only the first ends the server.

use super::config::{Login, UplinkConfig};
use super::format::CallFormat;
use super::verdict::{StartProblem, Verdict};
use crate::cluster::args::Args;
use crate::cluster::library::{Function, Library};
use crate::cluster::resp::{Reply, StoreError, StoreErrorKind, digits, pack_head, pack_part};

/// The oldest version of Redis that has functions and sharded channels.
const VERSION_MIN: u64 = 7;

/// A command of the greeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GreetingStep {
    /// RESP3, the login, and a name for the store's operator.
    Hello,
    /// The database.
    Select,
    /// Whether this is the primary.
    Role,
    /// Whether the store is new enough.
    Version,
    /// The functions.
    Load,
    /// The node's channel in a partition. A push answers it.
    Subscribe,
    /// The node's incarnation in this partition.
    Register(u16),
}

/// A node that greets the store.
pub(super) struct Greeting<'a> {
    pub config: &'a UplinkConfig,
    pub format: &'a CallFormat,
    pub library: &'a Library,
    pub login: Login<'a>,
    pub node: &'a str,
    /// The store does not know the node yet.
    pub is_fresh: bool,
}

impl Greeting<'_> {
    /// Appends all commands. Returns the steps, in their order. Nothing is waited for in between: if
    /// one fails, the connection ends.
    pub fn pack(&self, out: &mut Vec<u8>) -> Vec<GreetingStep> {
        let Greeting { config, format, login, node, .. } = *self;
        let mut steps = Vec::new();
        let mut greet = |step, parts: &[&str]| {
            pack_texts(out, parts);
            steps.push(step);
        };
        let name = format!("dc-{node}");
        match login.password {
            Some(password) => {
                let user = login.user.unwrap_or("default");
                let hello = ["HELLO", "3", "AUTH", user, password, "SETNAME", &name];
                greet(GreetingStep::Hello, &hello);
            }
            None => greet(GreetingStep::Hello, &["HELLO", "3", "SETNAME", &name]),
        }
        if login.database > 0 {
            greet(GreetingStep::Select, &["SELECT", &login.database.to_string()]);
        }
        greet(GreetingStep::Role, &["ROLE"]);
        greet(GreetingStep::Version, &["INFO", "server"]);
        greet(GreetingStep::Load, &["FUNCTION", "LOAD", self.library.source()]);
        for partition in 0..config.partitions {
            greet(GreetingStep::Subscribe, &["SSUBSCRIBE", &format.channel(partition, node)]);
        }
        let args = Args::new()
            .time(config.lease)
            .text(&config.terms)
            .flag(self.is_fresh)
            .text(&config.secret_draft)
            .time(config.ttl_max);
        for partition in 0..config.partitions {
            format.pack(out, Function::Hello, partition, &args);
            steps.push(GreetingStep::Register(partition));
        }
        steps
    }
}

impl GreetingStep {
    /// What an answer says of the store. `ours`: [`UplinkConfig::terms`].
    pub fn judge(self, reply: &Reply, ours: &str) -> Verdict {
        match (self, reply) {
            (_, Reply::Error(error)) => self.judge_refusal(error, ours),
            (GreetingStep::Role, _) if reply.text(0) != "master" => {
                Verdict::Down("it is a replica".to_owned())
            }
            (GreetingStep::Version, _) => {
                let version = version(reply.as_bytes());
                let major = version.split('.').next().map(str::as_bytes);
                if major.and_then(digits).is_none_or(|major| major < VERSION_MIN) {
                    return Verdict::Problem(StartProblem::TooOld(version.to_owned()));
                }
                Verdict::Fine
            }
            // A push answers it.
            (GreetingStep::Subscribe, _) => Verdict::Down("it does not subscribe".to_owned()),
            _ => Verdict::Fine,
        }
    }

    fn judge_refusal(self, error: &StoreError, ours: &str) -> Verdict {
        let text = || error.text.clone();
        match (self, error.kind) {
            (_, StoreErrorKind::NotNow) => Verdict::Down(text()),
            // If the library is not there, the store says so to the first call.
            (
                GreetingStep::Load,
                StoreErrorKind::LibraryExists
                | StoreErrorKind::NoRights
                | StoreErrorKind::OutOfMemory,
            ) => Verdict::Fine,
            (GreetingStep::Hello | GreetingStep::Load, StoreErrorKind::Unknown) => {
                Verdict::Problem(StartProblem::TooOld(text()))
            }
            (GreetingStep::Register(_), StoreErrorKind::NoFunction) => {
                let text = "the functions are not there, and it may not load them";
                Verdict::Problem(StartProblem::NoRights(text.to_owned()))
            }
            (_, StoreErrorKind::Terms) => {
                let theirs = error.text.split(' ').nth(1).unwrap_or_default().to_owned();
                Verdict::Problem(StartProblem::OtherTerms { theirs, ours: ours.to_owned() })
            }
            (_, StoreErrorKind::NoRights) => Verdict::Problem(StartProblem::NoRights(text())),
            _ => Verdict::Problem(StartProblem::Refused(text())),
        }
    }
}

#[inline(never)] // It would be inlined seven times.
fn pack_texts(out: &mut Vec<u8>, parts: &[&str]) {
    pack_head(out, parts.len());
    parts.iter().for_each(|part| pack_part(out, part.as_bytes()));
}

/// The version in the reply to `INFO server`; `unknown` if it has none.
fn version(info: &[u8]) -> &str {
    let lines = std::str::from_utf8(info).unwrap_or_default().lines();
    let mut versions = lines.filter_map(|line| line.strip_prefix("redis_version:"));
    versions.next().unwrap_or("unknown")
}
