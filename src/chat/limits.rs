//! The contract's fixed limits, which no flag changes.
//!
//! Owns the numbers. Must not know where they are applied. The invariant: a check and its error
//! sentence agree. Most sentences use the constant; those of `api::rooms` repeat the number.

/// Fewest characters (Unicode scalar values) of a name after trimming (contract §3.1).
pub const NAME_CHARS_MIN: usize = 2;
/// Most characters of a name after trimming.
pub const NAME_CHARS_MAX: usize = 50;

/// Fewest characters of a room's title after trimming (contract §10.2).
pub const TITLE_CHARS_MIN: usize = 1;
/// Most characters of a room's title after trimming.
pub const TITLE_CHARS_MAX: usize = 80;

/// Most bytes of a room's password; the minimum is 1 (contract §10.5).
pub const PASSWORD_BYTES_MAX: usize = 128;

/// Longest slow mode, in seconds (contract §13.8).
pub const SLOW_MODE_MAX: u64 = 3600;
/// Shortest ttl of a room, in seconds (contract §10.14). `--room-life-max` is the longest.
pub const TTL_MIN: u64 = 60;

/// Most characters of a chat message after trimming (contract §6.2).
pub const MESSAGE_CHARS_MAX: usize = 4000;
/// Most bytes of a nonce; the minimum is 1 (contract §8.9).
pub const NONCE_BYTES_MAX: usize = 64;

/// Most rooms that one session may be a member of (contract §3.8).
pub const SESSION_ROOMS_MAX: usize = 200;
/// Most connections of one session, in all its rooms together (contract §3.9).
pub const SESSION_CONNECTIONS_MAX: usize = 20;

/// Most rooms in a listing (contract §2.6).
pub const ROOMS_LISTED_MAX: usize = 1000;
