//! Requests that open a socket.
//!
//! Owns the parts of such a request that are not the handshake. Must not check whether the room or
//! the session exists: the domain does, and its refusal closes the new socket. The invariant: a
//! malformed id or credential is not an error here, because a browser cannot read why a handshake
//! failed (contract §5.7).

use super::query::Entry;
use super::{credential, query};
use crate::chat::{RoomId, SessionId, Start};
use crate::http::Request;

/// A request to open a socket in a room (contract §5.1, §8.1, §8.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpgradeRequest {
    /// `None` if the id in the path is malformed. Like an unknown id, it names no room.
    pub room: Option<RoomId>,
    /// `None` if the credentials are missing or malformed.
    pub session: Option<SessionId>,
    /// The subprotocol to select: `chat` if the peer offers it. The subprotocol that carries the
    /// session's id is never selected, because the response would repeat the secret.
    pub subprotocol: Option<&'static str>,
    /// The peer offers a session's id as a subprotocol, and not `chat` beside it: the answer is
    /// [`error::no_subprotocol`](super::error::no_subprotocol) (contract §5.9).
    pub lacks_subprotocol: bool,
    /// How much history precedes live events.
    pub start: Start,
}

impl UpgradeRequest {
    /// Reads `request`, in whose path the room's id is `room`.
    pub fn of(request: &Request, room: &str) -> UpgradeRequest {
        let offered = credential::offered_subprotocols(request);
        let Entry { session_id, start } = query::entry(request);
        UpgradeRequest {
            room: RoomId::parse(room),
            session: credential::upgrade_session_id(request, offered, session_id),
            subprotocol: offered.has_chat.then_some("chat"),
            lacks_subprotocol: offered.bearer.is_some() && !offered.has_chat,
            start,
        }
    }
}
