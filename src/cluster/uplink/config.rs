//! What the connection to the store has to know beforehand.
//!
//! Owns the settings of the connection, and the login. Must not know how either is sent. The invariant:
//! a password is lent for one greeting and never kept here.

use std::time::Duration;

/// What does not change from connection to connection.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// What the names of all keys and channels begin with.
    pub prefix: String,
    /// At least 1.
    pub partitions: u16,
    /// How long the store may take to connect, to greet, or to reply.
    pub timeout: Duration,
    /// How long the store keeps a silent server's people.
    pub lease: Duration,
    /// The longest time for which an empty room is kept.
    pub ttl_max: Duration,
    /// What all servers of a store have in common: the version of its records, the number of
    /// partitions, and where the secret is from, separated by `/`. Another server is refused.
    pub terms: String,
    /// The secret that the store keeps if it has none yet; empty if a file has it.
    pub secret_draft: String,
}

/// How to log in at the store.
#[derive(Clone, Copy, Default)]
pub struct Login<'a> {
    /// The user; `None`: `default`.
    pub user: Option<&'a str>,
    /// The password; `None`: no login.
    pub password: Option<&'a str>,
    /// The number of the database.
    pub database: u32,
}
