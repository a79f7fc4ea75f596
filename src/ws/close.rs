//! Close codes, reasons, and the violations that lead to some of them.
//!
//! Owns the table of closes in the contract, and the close for each violation. Must not know how a
//! close frame is encoded: [`super::Context::close`] is the only function that sends one. The
//! invariant: each code is one that an endpoint may send (RFC 6455 §7.4), and each reason fits a
//! control frame.

/// The content of a close frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// Status code (RFC 6455 §7.4).
    pub code: u16,
    /// At most [`REASON_BYTES_MAX`] bytes.
    pub reason: &'static str,
}

/// RFC 6455 §5.5: a control frame has at most 125 bytes of payload, of which the code takes two.
pub const REASON_BYTES_MAX: usize = 123;

impl Close {
    /// The session left the room by REST (contract §7.1).
    pub const LEFT_ROOM: Close = close(1000, "left room");
    /// The process received a signal to end (contract §7.2).
    pub const SHUTTING_DOWN: Close = close(1001, "server shutting down");
    /// [`Violation::Protocol`] (contract §7.3).
    pub const PROTOCOL: Close = close(1002, "protocol error");
    /// A binary message, where the contract has only text (contract §7.4).
    pub const BINARY: Close = close(1003, "binary frame");
    /// [`Violation::NotUtf8`] (contract §7.5).
    pub const NOT_UTF8: Close = close(1007, "not UTF-8");
    /// A message was begun and not finished in time (contract §7.16).
    pub const MESSAGE_TIMEOUT: Close = close(1008, "message timeout");
    /// [`Violation::TooBig`] (contract §7.6).
    pub const TOO_BIG: Close = close(1009, "frame or message too big");
    /// A bug of the server (contract §7.7).
    pub const INTERNAL: Close = close(1011, "internal error");
    /// The reader's outbox overflowed (contract §7.8).
    pub const TOO_SLOW: Close = close(1013, "too slow");
    /// The memory ceiling is reached (contract §7.9).
    pub const SERVER_FULL: Close = close(1013, "server full");
    /// The store of the cluster was away for too long (contract §7.18).
    pub const UNAVAILABLE: Close = close(1013, "unavailable");
    /// The session does not exist or has ended (contract §7.10).
    pub const INVALID_SESSION: Close = close(4401, "invalid or expired session");
    /// The room has a password and the session has not joined (contract §7.11).
    pub const NOT_A_MEMBER: Close = close(4403, "not a member");
    /// The room is locked and the session has not joined (contract §7.11).
    pub const ROOM_LOCKED: Close = close(4403, "room locked");
    /// The session or its address is banned from the room (contract §7.11).
    pub const BANNED: Close = close(4403, "banned");
    /// The owner has removed this person from the room (contract §7.17).
    pub const REMOVED: Close = close(4411, "removed");
    /// The room does not exist (contract §7.12).
    pub const ROOM_NOT_FOUND: Close = close(4404, "room not found");
    /// Another person present in the room has the session's name (contract §7.13).
    pub const NAME_TAKEN: Close = close(4409, "name taken");
    /// The owner deleted the room (contract §7.14).
    pub const ROOM_DELETED: Close = close(4410, "room deleted");
    /// The room's ttl is over (contract §10.15).
    pub const ROOM_EXPIRED: Close = close(4410, "room expired");
    /// The limit on connections per session or per address is reached (contract §7.15).
    pub const TOO_MANY_CONNECTIONS: Close = close(4429, "too many connections");
    /// The limit on rooms per session is reached (contract §7.15).
    pub const TOO_MANY_ROOMS: Close = close(4429, "too many rooms");
    /// The rate of announced joins is exceeded (contract §7.15).
    pub const RATE_LIMITED: Close = close(4429, "rate limited");
}

impl Close {
    /// Whether a client is not to come back by itself.
    pub fn is_final(self) -> bool {
        !matches!(self.code, 1001 | 1011 | 1013 | 4403 | 4409 | 4429)
    }
}

/// Whether a peer that closes with this code may be back soon, so that its close counts as a broken
/// connection (contract §6.19).
pub fn will_return(code: u16) -> bool {
    /// RFC 6455 §7.4.1: what browsers send when a page is reloaded or left.
    const GOING_AWAY: u16 = 1001;
    /// From the range for frameworks (RFC 6455 §7.4.2), for clients that reconnect on purpose.
    const BACK_SOON: u16 = 3001;
    matches!(code, GOING_AWAY | BACK_SOON)
}

/// How the peer violated RFC 6455 or a limit. Its later input is discarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// A malformed frame, or a frame that is not allowed at this point.
    Protocol,
    /// Text, or the reason of a close, is not UTF-8.
    NotUtf8,
    /// A frame or message over [`super::WsLimits`].
    TooBig,
}

impl Violation {
    /// The close to send for this violation.
    pub fn close(self) -> Close {
        match self {
            Violation::Protocol => Close::PROTOCOL,
            Violation::NotUtf8 => Close::NOT_UTF8,
            Violation::TooBig => Close::TOO_BIG,
        }
    }
}

/// Whether a peer may send this code: the registry of close codes has it as one for endpoints
/// (<https://www.iana.org/assignments/websocket>), or it is in the ranges for libraries and for
/// private use. RFC 6455 §7.4.1: 1005, 1006 and 1015 are never sent, and 1004 has no meaning.
pub(super) fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Checks the length of a reason at compile time.
const fn close(code: u16, reason: &'static str) -> Close {
    assert!(reason.len() <= REASON_BYTES_MAX);
    Close { code, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [Close; 19] = [
        Close::LEFT_ROOM,
        Close::SHUTTING_DOWN,
        Close::PROTOCOL,
        Close::BINARY,
        Close::NOT_UTF8,
        Close::MESSAGE_TIMEOUT,
        Close::TOO_BIG,
        Close::INTERNAL,
        Close::TOO_SLOW,
        Close::SERVER_FULL,
        Close::UNAVAILABLE,
        Close::INVALID_SESSION,
        Close::NOT_A_MEMBER,
        Close::ROOM_NOT_FOUND,
        Close::NAME_TAKEN,
        Close::ROOM_DELETED,
        Close::TOO_MANY_CONNECTIONS,
        Close::TOO_MANY_ROOMS,
        Close::RATE_LIMITED,
    ];

    #[test]
    fn every_reason_fits_a_close_frame_and_every_code_may_be_sent() {
        for (n, close) in TABLE.iter().enumerate() {
            assert!((1..=REASON_BYTES_MAX).contains(&close.reason.len()), "{close:?}");
            assert!(is_sendable(close.code), "{close:?}");
            assert!(!TABLE.iter().skip(n + 1).any(|other| other == close), "{close:?} twice");
        }
    }

    #[test]
    fn every_violation_has_its_own_code() {
        let violations = [Violation::Protocol, Violation::NotUtf8, Violation::TooBig];
        assert_eq!(violations.map(|violation| violation.close().code), [1002, 1007, 1009]);
    }
}
