//! What the store's replies mean for a client.
//!
//! Owns the mapping of statuses and failures to refusals. Must not know a function. The invariant: a
//! status that is not known is never taken for success.

use std::time::Duration;

use super::resp::Reply;
use super::uplink::CallFailure;
use crate::chat::Refusal;

/// What a client is told to wait while the store is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The answer while the store is away, or if it does not answer as it should.
pub(super) fn away() -> Refusal {
    Refusal::Unavailable(RETRY_AFTER)
}

/// The refusal that a status stands for; `Ok`: none.
pub(super) fn accept(reply: &Reply) -> Result<(), Refusal> {
    Err(match reply.status() {
        "OK" | "IN" => return Ok(()),
        "NOSESSION" => Refusal::NoSession,
        "NOROOM" => Refusal::RoomNotFound,
        "NOMEMBER" | "GONE" => Refusal::NotAMember,
        "BANNED" => Refusal::Banned,
        "LOCKED" => Refusal::RoomLocked,
        "OVER" => Refusal::TooManyRooms,
        "TAKEN" => Refusal::NameTaken,
        "RATE" => Refusal::RateLimited(Duration::from_micros(reply.number(1))),
        "FULL" => Refusal::ServerFull,
        "NOTOWNER" => Refusal::NotTheOwner,
        "NOUSER" => Refusal::UserNotFound,
        "NOMESSAGE" => Refusal::MessageNotFound,
        "NOTAUTHOR" => Refusal::NotTheAuthor,
        _ => away(),
    })
}

/// The same for something that counts in the share of an address.
pub(super) fn accept_creation(reply: &Reply, over_share: Refusal) -> Result<(), Refusal> {
    if reply.status() == "SHARE" { Err(over_share) } else { accept(reply) }
}

/// What a client is told of a failed call.
pub(super) fn refusal_of(why: CallFailure) -> Refusal {
    match why {
        CallFailure::Full => Refusal::ServerFull,
        _ => away(),
    }
}
