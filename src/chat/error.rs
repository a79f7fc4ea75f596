//! Why the domain refuses a request, closes a connection or rejects a name.
//!
//! Owns the reasons, and the sentences for people. Must not know the contract's codes and statuses:
//! `api` maps each reason to them. The invariant: to a caller without access to a room, a sentence
//! reveals no more about it than [`RoomInfo`](super::RoomInfo) does.

use std::fmt;
use std::time::Duration;

use super::limits::{
    MESSAGE_CHARS_MAX, NAME_CHARS_MAX, NAME_CHARS_MIN, NONCE_BYTES_MAX, SESSION_ROOMS_MAX,
};

/// Why the domain refuses a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is no session with the id of the request.
    NoSession,
    /// The room does not exist, or no longer exists.
    RoomNotFound,
    /// The session is a member of [`SESSION_ROOMS_MAX`] rooms.
    TooManyRooms,
    /// The address has its share of sessions, and none of them gives way.
    AddressSessions,
    /// The address has its share of rooms, and none of them gives way.
    AddressRooms,
    /// The rate limit is exceeded; the request may be repeated after this time.
    RateLimited(Duration),
    /// The server has reached its limit of sessions or rooms, or memory is short.
    ServerFull,
    /// The room has a password, and the request has a wrong one or none.
    BadPassword,
    /// The room is locked, and the session is neither a member nor the owner.
    RoomLocked,
    /// The session is not a member of the room.
    NotAMember,
    /// The session does not own the room.
    NotTheOwner,
    /// The session or its address is banned from the room.
    Banned,
    /// The session neither wrote the message nor owns the room.
    NotTheAuthor,
    /// No chat message with this id is kept.
    MessageNotFound,
    /// No person with this user id is present in the room, or has joined it.
    UserNotFound,
    /// The session asks to remove itself from a room.
    RemovesItself,
    /// Another session that is present in the room has the name.
    NameTaken,
    /// The nonce is empty or longer than [`NONCE_BYTES_MAX`].
    BadNonce,
    /// The message is empty after trimming.
    EmptyMessage,
    /// The message has more than [`MESSAGE_CHARS_MAX`] characters after trimming.
    TooLong,
    /// All chats of the room are envelopes, and the message is none.
    NotEncrypted,
    /// The store of the cluster cannot be reached; the request may be repeated after this time.
    Unavailable(Duration),
}

/// Why the domain closes a connection, or does not admit it (contract §7.1 and on).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The session left the room by REST.
    LeftRoom,
    /// The session is unknown, or has ended.
    InvalidSession,
    /// The room does not exist.
    RoomNotFound,
    /// Another session that is present in the room has the name.
    NameTaken,
    /// The room has a password, and the session has not joined.
    NotAMember,
    /// The room is locked, and the session is neither a member nor the owner.
    RoomLocked,
    /// The room's owner has deleted it.
    RoomDeleted,
    /// The room's ttl is over.
    RoomExpired,
    /// The session or its address is banned from the room.
    Banned,
    /// The owner or the operator has removed the session's member.
    Removed,
    /// While the connection was catching up, the history dropped a message that it had not
    /// received.
    TooSlow,
    /// The session or the address has reached its limit of connections.
    TooManyConnections,
    /// The session has reached its limit of rooms.
    TooManyRooms,
    /// The rate of the session's announced joins is exceeded.
    RateLimited,
    /// The peer did not respond to a probe. The connection is dropped without a close frame.
    Silent,
    /// The store of the cluster could not be reached for too long, or has lost what the connection has
    /// received.
    Unavailable,
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// With a close frame from either side. If it was the member's last, the member leaves at once.
    Closed,
    /// Without a close frame. If it was the member's last, the member may return within the grace.
    Broken,
    /// The owner or the operator has removed the member.
    Removed,
}

/// Why a text is not a valid name or title.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadName {
    /// It is too short or too long after trimming.
    Length,
    /// It contains a control character or a bidirectional control.
    Character,
    /// It has no character that shows something.
    Invisible,
}

impl CloseReason {
    /// Whether the room has ended, and with it what is queued of its events.
    pub fn is_end(self) -> bool {
        matches!(self, CloseReason::RoomDeleted | CloseReason::RoomExpired)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoSession => f.write_str("The session does not exist or has expired."),
            Refusal::RoomNotFound => f.write_str("There is no such room."),
            Refusal::TooManyRooms => {
                write!(f, "A session can be in at most {SESSION_ROOMS_MAX} rooms.")
            }
            Refusal::AddressSessions => {
                f.write_str("There are too many sessions from this address.")
            }
            Refusal::AddressRooms => f.write_str("There are too many rooms from this address."),
            Refusal::RateLimited(_) => f.write_str("Too many requests; please wait a moment."),
            Refusal::ServerFull => f.write_str("The server is full; please try again later."),
            Refusal::BadPassword => f.write_str("The room's password is missing or wrong."),
            Refusal::RoomLocked => f.write_str("The room is locked; only its members may enter."),
            Refusal::NotAMember => f.write_str("Please join the room first."),
            Refusal::Banned => f.write_str("You are banned from this room."),
            Refusal::NotTheAuthor => {
                f.write_str("Only its author or the room's owner can delete a message.")
            }
            Refusal::MessageNotFound => f.write_str("There is no such chat message."),
            Refusal::NotTheOwner => f.write_str("Only the room's owner can do that."),
            Refusal::UserNotFound => f.write_str("There is no such person in the room."),
            Refusal::RemovesItself => {
                f.write_str("A session cannot remove itself; it can leave the room.")
            }
            Refusal::NameTaken => f.write_str("Another person in the room has this name."),
            Refusal::BadNonce => write!(f, "A nonce must have 1 to {NONCE_BYTES_MAX} bytes."),
            Refusal::EmptyMessage => f.write_str("The message is empty."),
            Refusal::NotEncrypted => {
                f.write_str("The room is encrypted, and the message is no envelope.")
            }
            Refusal::Unavailable(_) => {
                f.write_str("The servers' common store is away; please try again in a moment.")
            }
            Refusal::TooLong => {
                write!(f, "A message has at most {MESSAGE_CHARS_MAX} characters.")
            }
        }
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::Length => write!(
                f,
                "A username has {NAME_CHARS_MIN} to {NAME_CHARS_MAX} characters after trimming."
            ),
            BadName::Invisible => f.write_str("A username has at least one visible character."),
            BadName::Character => f.write_str(
                "A username must not contain control characters or bidirectional controls.",
            ),
        }
    }
}
