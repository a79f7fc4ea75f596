//! The domain: sessions, rooms, presence and history.
//!
//! Owns the rules of the chat. Must not encode JSON, use HTTP or a socket, or read a clock: commands
//! are calls that take [`Now`](crate::clock::Now), answers are return values, and everything for a
//! room's connections goes out through a [`Sink`]. The invariant: all connections in a room receive
//! the same messages in the same order, and the history has that order too.
//! [`Chat::check_invariants`] checks the other invariants.
//!
//! The domain has two halves. The deciding half keeps the rules:
//!
//! | file | what it owns |
//! |---|---|
//! | [`lifecycle`] | the beginning and end of sessions and rooms |
//! | [`membership`] | access to rooms; joining and leaving |
//! | [`presence`] | connections entering and leaving; names; probes |
//! | [`posting`] | messages and typing events, and the order of all messages |
//! | [`moderation`] | removing and banning people, deleting messages |
//! | [`ruling`] | what the owner decides: title, lock, password, slow mode, the end of the room |
//! | [`quota`] | limits per address |
//! | [`command`] | requests and their outcomes, as values |
//! | [`lookup`] | queries |
//! | [`records`] | the state that survives a restart |
//! | [`mirror`] | rooms that are decided elsewhere, applied as facts (feature `cluster`) |
//!
//! The delivering half does not know these rules. It stores messages and passes them on:
//!
//! | file | what it owns |
//! |---|---|
//! | [`feed`] | the connections of each room, and its history |
//! | [`history`] | one room's queue of messages, and their nonces |
//! | [`kept`] | the form in which a message is kept |
//! | [`store`] | the memory of all histories: queues of records in blocks of one size |
//! | [`shares`] | which address has sent how much of the histories |
//! | [`catch_up`] | one connection's cursor in the history, on entry and when it resumes |
//! | [`sink`] | the interface to the connections |
//!
//! With the feature `cluster`, `mirror` has the facts that are told about rooms decided elsewhere.
//!
//! The deciding half works on `state`: [`Chat`] and the entries in it. Both halves use `event` (the
//! events for clients), `error` (the reasons for refusing and closing) and `timer` (the timers).
//! The other files (`keys`, `roster`, `bans`, `session_index`, `sort`, `id`, `name`, `visible`, `envelope`, `password`, `guesses`, `address`, `limits`, `config`, `heap`)
//! contain shared types, constants and functions.
//!
//! [`lifecycle`]: ../../src/disposable_chat/chat/lifecycle.rs.html
//! [`membership`]: ../../src/disposable_chat/chat/membership.rs.html
//! [`presence`]: ../../src/disposable_chat/chat/presence.rs.html
//! [`posting`]: ../../src/disposable_chat/chat/posting.rs.html
//! [`moderation`]: ../../src/disposable_chat/chat/moderation.rs.html
//! [`ruling`]: ../../src/disposable_chat/chat/ruling.rs.html
//! [`quota`]: ../../src/disposable_chat/chat/quota.rs.html
//! [`command`]: ../../src/disposable_chat/chat/command.rs.html
//! [`lookup`]: ../../src/disposable_chat/chat/lookup.rs.html
//! [`records`]: ../../src/disposable_chat/chat/records.rs.html
//! [`mirror`]: ../../src/disposable_chat/chat/mirror.rs.html
//! [`feed`]: ../../src/disposable_chat/chat/feed.rs.html
//! [`history`]: ../../src/disposable_chat/chat/history.rs.html
//! [`kept`]: ../../src/disposable_chat/chat/kept.rs.html
//! [`store`]: ../../src/disposable_chat/chat/store.rs.html
//! [`shares`]: ../../src/disposable_chat/chat/shares.rs.html
//! [`catch_up`]: ../../src/disposable_chat/chat/catch_up.rs.html
//! [`sink`]: ../../src/disposable_chat/chat/sink.rs.html

mod address;
mod bans;
mod catch_up;
mod command;
mod config;
mod envelope;
mod error;
mod event;
mod feed;
mod guesses;
mod heap;
mod history;
mod id;
mod kept;
mod keys;
mod lifecycle;
mod limits;
mod lookup;
mod membership;
#[cfg(feature = "cluster")]
mod mirror;
mod moderation;
mod name;
mod password;
mod posting;
mod presence;
mod quota;
mod records;
mod roster;
mod ruling;
mod session_index;
mod shares;
mod sink;
mod sort;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod timer;
mod visible;

pub use crate::rate::Pace;
pub use address::{Address, Quota};
#[cfg(feature = "cluster")]
pub(crate) use bans::HashedAddress;
pub use catch_up::Start;
pub use command::{Command, Outcome, SessionCommand};
pub use config::{ChatConfig, GuessPaces};
pub use error::{BadName, CloseReason, Departure, Refusal};
#[cfg(feature = "cluster")]
pub use event::OwnedRoom;
pub use event::{BATCH_BYTES_FULL, Event, Message, MessageKind, RoomInfo};
#[cfg(feature = "cluster")]
pub use id::MessagePlace;
pub use id::{MessageId, RoomId, SessionId, UserId};
#[cfg(feature = "cluster")]
pub(crate) use id::{keyed_hash, read_hex, write_hex};
pub use kept::MessageCopies;
pub use keys::{AttachmentKey, ConnKey, ConnTag, RoomKey, SessionKey};
pub use lifecycle::RoomOptions;
pub use limits::{
    MESSAGE_CHARS_MAX, NAME_CHARS_MAX, NAME_CHARS_MIN, NONCE_BYTES_MAX, PASSWORD_BYTES_MAX,
    ROOMS_LISTED_MAX, SESSION_CONNECTIONS_MAX, SESSION_ROOMS_MAX, SLOW_MODE_MAX, TITLE_CHARS_MAX,
    TITLE_CHARS_MIN, TTL_MIN,
};
pub use lookup::{Extent, Reading};
pub use membership::Access;
#[cfg(feature = "cluster")]
pub use mirror::{Appended, MirrorAdmission, PersonHere, RoomFacts, RoomSnapshot};
pub use moderation::{BanInfo, BanRequest};
pub use name::{Name, Title, UserName};
pub use password::LockRecord;
pub use posting::{Draft, is_nonce};
pub use presence::{Admission, JoinRequest};
#[cfg(feature = "cluster")]
pub(crate) use quota::GIVES_WAY_AFTER;
pub use records::{InvalidRecord, Record, RecordedKind, Restoring, RulesRecord};
pub use ruling::RoomChanges;
pub use sink::{LastPage, Page, Published, Sink};
pub use state::Chat;
#[cfg(feature = "cluster")]
pub use state::MirrorExit;
