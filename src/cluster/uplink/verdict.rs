//! What becomes of the connection.
//!
//! Owns the verdicts on a connection, and the sentences for a store that cannot be used. Must not know
//! the state of the connection. The invariant: each text is one line that names no argument of a call,
//! because all of them are logged.

use std::fmt;

#[cfg(doc)]
use super::config::UplinkConfig;

/// What becomes of a connection after an event.
pub(super) enum Verdict {
    Fine,
    /// Another attempt follows after a pause.
    Down(String),
    /// Another attempt follows at once.
    Again(String),
    /// The store is unfit.
    Problem(StartProblem),
}

/// Why the store cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartProblem {
    /// Its version.
    TooOld(String),
    /// What the store says.
    NoRights(String),
    /// What its servers have in common ([`UplinkConfig::terms`]), and what this one would bring.
    OtherTerms { theirs: String, ours: String },
    /// What the store says.
    Refused(String),
}

impl fmt::Display for StartProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartProblem::TooOld(version) => {
                write!(f, "the store is too old ({version}); Redis 7 or Valkey is needed")
            }
            StartProblem::NoRights(text) => {
                write!(f, "the store's user lacks a right, or its password is wrong: {text}")
            }
            StartProblem::OtherTerms { theirs, ours } => {
                let [theirs, ours] = [theirs, ours].map(|terms| terms.split('/'));
                let (mut terms, change) = (theirs.zip(ours), "stop all its servers, and empty it");
                let differ = |(theirs, ours): &(&str, &str)| theirs != ours;
                match (terms.next().filter(differ), terms.next().filter(differ)) {
                    (Some((theirs, ours)), _) => write!(
                        f,
                        "the store holds the records of another version ({theirs}, this one has \
                         {ours}); to use it, {change}"
                    ),
                    (None, Some((theirs, ours))) => write!(
                        f,
                        "the store's servers have --cluster-partitions {theirs}, and this one has \
                         {ours}; to change that, {change}"
                    ),
                    (None, None) => write!(
                        f,
                        "--cluster-secret is not that of the store's other servers; to change it, \
                         {change}"
                    ),
                }
            }
            StartProblem::Refused(text) => write!(f, "the store refuses to serve: {text}"),
        }
    }
}
