//! What becomes of the connection.
//!
//! Owns the verdicts on a connection, and the sentences for a store that cannot be used. Must not know
//! the state of the connection. The invariant: each text is one line that names no argument of a call,
//! because all of them are logged.

use std::fmt;

use crate::cluster::library::SCHEMA;

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
    /// What the store says.
    OtherSchema(String),
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
            StartProblem::OtherSchema(text) => write!(
                f,
                "the store holds the records of another version ({text}, this one has {SCHEMA}); \
                 stop all its servers, empty it, and start again"
            ),
            StartProblem::Refused(text) => write!(f, "the store refuses to serve: {text}"),
        }
    }
}
