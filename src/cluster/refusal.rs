//! What the store's replies mean for a client.
//!
//! Owns the mapping of statuses and failures to refusals and closes. Must not know a function. The
//! invariant: each status is named in each mapping, and one that is not expected is never taken for
//! success.

use std::time::Duration;

use super::resp::Reply;
use super::status::Status;
use super::uplink::CallFailure;
use crate::chat::{CloseReason, Refusal};

/// What a client is told to wait while the store is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The answer while the store is away, or if it does not answer as it should.
pub(super) fn away() -> Refusal {
    Refusal::Unavailable(RETRY_AFTER)
}

/// The refusal that a reply stands for; `Ok`: none.
pub(super) fn accept(reply: &Reply) -> Result<(), Refusal> {
    Err(match Status::of(reply) {
        Status::Ok | Status::In => return Ok(()),
        Status::NoSession => Refusal::NoSession,
        Status::NoRoom => Refusal::RoomNotFound,
        Status::NoMember | Status::Gone => Refusal::NotAMember,
        Status::Banned => Refusal::Banned,
        Status::Locked => Refusal::RoomLocked,
        Status::Over => Refusal::TooManyRooms,
        Status::Taken => Refusal::NameTaken,
        Status::Rate => Refusal::RateLimited(Duration::from_micros(reply.number(1))),
        Status::Full => Refusal::ServerFull,
        Status::NotOwner => Refusal::NotTheOwner,
        Status::NoUser => Refusal::UserNotFound,
        Status::NoMessage => Refusal::MessageNotFound,
        Status::NotAuthor => Refusal::NotTheAuthor,
        // Each of these has a step of its own after the function that gives it.
        Status::Kept | Status::New | Status::Same | Status::Dup | Status::Exists => away(),
        Status::Lock | Status::Again | Status::Probe | Status::Share => away(),
        Status::Behind | Status::Gap | Status::Fault => away(),
    })
}

/// The same for something that counts in the share of an address.
pub(super) fn accept_creation(reply: &Reply, over_share: Refusal) -> Result<(), Refusal> {
    match Status::of(reply) {
        Status::Share => Err(over_share),
        _ => accept(reply),
    }
}

/// Why a connection is not let into a room.
pub(super) fn refused_entry(status: Status) -> CloseReason {
    match status {
        Status::NoSession => CloseReason::InvalidSession,
        Status::NoRoom => CloseReason::RoomNotFound,
        Status::NoMember | Status::Gone => CloseReason::NotAMember,
        Status::Banned => CloseReason::Banned,
        Status::Locked => CloseReason::RoomLocked,
        Status::Over => CloseReason::TooManyConnections,
        Status::Taken | Status::Probe => CloseReason::NameTaken,
        Status::Rate => CloseReason::RateLimited,
        Status::Ok | Status::In | Status::Kept | Status::New | Status::Same | Status::Dup => {
            CloseReason::Unavailable
        }
        Status::Exists | Status::Lock | Status::Again | Status::Full | Status::Share => {
            CloseReason::Unavailable
        }
        Status::NotOwner | Status::NoUser | Status::NoMessage | Status::NotAuthor => {
            CloseReason::Unavailable
        }
        Status::Behind | Status::Gap | Status::Fault => CloseReason::Unavailable,
    }
}

/// What a client is told of a failed call.
pub(super) fn refusal_of(why: CallFailure) -> Refusal {
    match why {
        CallFailure::Full => Refusal::ServerFull,
        CallFailure::Away | CallFailure::Unknown | CallFailure::Internal => away(),
    }
}
