//! Requests for a socket.
//!
//! Owns what such a request says beyond the handshake. Must never judge whether there is such a
//! room or session: that is the domain's, and told by a close. The invariant: whatever the
//! request says, it comes out as an entry, because a browser can't read a failed handshake.

use super::{credential, query};
use crate::chat::{RoomId, SessionId, Start};
use crate::http::Request;

/// A request for a socket: into which room, who asks, and where they want to begin to listen
/// (contract §5.1, §8.1, §8.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpgradeRequest {
    /// `None`: the path's id isn't shaped like one, so there is no such room.
    pub room: Option<RoomId>,
    /// `None`: no credentials, or they aren't shaped like any.
    pub session: Option<SessionId>,
    /// To be selected: `chat`, if the peer offers it. Never the one that carries the secret.
    pub subprotocol: Option<&'static str>,
    /// Where to begin to listen.
    pub start: Start,
}

impl UpgradeRequest {
    /// What `request` says, whose path names `room`.
    pub fn of(request: &Request, room: &str) -> UpgradeRequest {
        let is_offered = credential::offered_subprotocols(request).any(|token| token == "chat");
        UpgradeRequest {
            room: RoomId::parse(room),
            session: credential::upgrade_session_id(request),
            subprotocol: is_offered.then_some("chat"),
            start: query::start(request),
        }
    }
}
