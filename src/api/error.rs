//! Errors on the wire: the codes that clients rely on, and the mapping of errors to them.
//!
//! Owns the list of codes that REST and the socket share. Must not know how an error is sent: a
//! response leaves here without framing and without CORS fields. The invariant: each mapping to a
//! code is one exhaustive match, so a new refusal of the domain or of `http` does not compile until
//! it has a code.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::json::{self, Displayed};
use crate::chat::{BadName, Refusal};
use crate::counters::CODES_MAX;
use crate::http::{Reject, Response, ResponseField};

/// Defines an enum of codes from one table: variant, HTTP status, name on the wire.
macro_rules! codes {
    ($(#[$doc:meta])* pub enum $enum:ident { $($code:ident = $status:literal $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $enum {
            $($code,)*
        }

        impl $enum {
            /// All codes, each at its own index.
            pub const ALL: &[$enum] = &[$($enum::$code,)*];

            /// The HTTP status of a response with this code. Codes that only the socket uses have
            /// the status that REST would use.
            pub fn status(self) -> u16 {
                match self {
                    $($enum::$code => $status,)*
                }
            }

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($enum::$code => $name,)*
                }
            }
        }
    };
}

codes! {
    /// The kind of an error, for programs (contract §1.5).
    pub enum Code {
        BadRequest = 400 "bad_request",
        BadUsername = 400 "bad_username",
        MissingSession = 401 "missing_session",
        InvalidSession = 401 "invalid_session",
        BadOrigin = 403 "bad_origin",
        BadPassword = 403 "bad_password",
        NotAMember = 403 "not_a_member",
        NotTheOwner = 403 "not_the_owner",
        RoomLocked = 403 "room_locked",
        NotTheAuthor = 403 "not_the_author",
        Banned = 403 "banned",
        NotFound = 404 "not_found",
        RoomNotFound = 404 "room_not_found",
        MessageNotFound = 404 "message_not_found",
        UserNotFound = 404 "user_not_found",
        MethodNotAllowed = 405 "method_not_allowed",
        NotAcceptable = 406 "not_acceptable",
        Timeout = 408 "timeout",
        NameTaken = 409 "name_taken",
        BodyTooLarge = 413 "body_too_large",
        TargetTooLong = 414 "target_too_long",
        BadBody = 422 "bad_body",
        BadQuery = 422 "bad_query",
        BadJson = 422 "bad_json",
        BadType = 422 "bad_type",
        BadMessage = 422 "bad_message",
        BadNonce = 422 "bad_nonce",
        EmptyMessage = 422 "empty_message",
        TooLong = 422 "too_long",
        NotEncrypted = 422 "not_encrypted",
        UpgradeRequired = 426 "upgrade_required",
        RateLimited = 429 "rate_limited",
        TooManyRooms = 429 "too_many_rooms",
        TooManySessions = 429 "too_many_sessions",
        HeadersTooLarge = 431 "headers_too_large",
        InternalError = 500 "internal_error",
        UnsupportedTransferCoding = 501 "unsupported_transfer_coding",
        ServerFull = 503 "server_full",
        ShuttingDown = 503 "shutting_down",
        Unavailable = 503 "unavailable",
    }
}

impl Code {
    /// The index in [`Code::ALL`], and in the counters of refusals.
    pub fn index(self) -> usize {
        self as usize
    }
}

const _: () = assert!(Code::ALL.len() <= CODES_MAX, "each code has a counter");

/// The description of an error, for people. `Copy`, so that refusing a flood allocates no strings.
#[derive(Clone, Copy, Debug)]
pub enum Detail {
    Sentence(&'static str),
    Reject(Reject),
    Name(BadName),
    Refusal(Refusal),
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Detail::Sentence(sentence) => f.write_str(sentence),
            Detail::Reject(reject) => reject.fmt(f),
            Detail::Name(bad) => bad.fmt(f),
            Detail::Refusal(refusal) => refusal.fmt(f),
        }
    }
}

/// An error that becomes a response or a `refused` event.
#[derive(Debug)]
pub struct Error {
    pub code: Code,
    pub detail: Detail,
    /// How long to wait before the next attempt; `None`: waiting does not help, or the time is not
    /// known.
    pub retry_after: Option<Duration>,
    /// Fields of the response in addition to those of every error.
    fields: Vec<ResponseField>,
}

/// The wait if the time of success is not known, for example because a session must end first.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(10);

impl Error {
    /// `detail` is one English sentence.
    pub fn new(code: Code, detail: &'static str) -> Error {
        Error::of(code, Detail::Sentence(detail))
    }

    fn of(code: Code, detail: Detail) -> Error {
        Error { code, detail, retry_after: None, fields: Vec::new() }
    }

    /// This error with one more field in its response.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Error {
        self.fields.push((name, value.into()));
        self
    }

    /// 422 for a body that the route cannot use.
    pub fn bad_body(detail: &'static str) -> Error {
        Error::new(Code::BadBody, detail)
    }

    /// 422 for a query parameter that is out of range or of the wrong type.
    pub fn bad_query(detail: &'static str) -> Error {
        Error::new(Code::BadQuery, detail)
    }

    /// The response, without CORS fields. 429 and 503 carry `Retry-After` (contract §1.4).
    pub fn response(self) -> Response {
        #[derive(Serialize)]
        struct ErrorBody {
            detail: Displayed<Detail>,
            code: &'static str,
        }
        let status = self.code.status();
        let body = ErrorBody { detail: Displayed(self.detail), code: self.code.as_str() };
        let mut response = json::response(status, &body);
        response.fields.extend(self.fields);
        if matches!(status, 429 | 503) {
            let seconds = whole_seconds(self.retry_after.unwrap_or(RETRY_AFTER_DEFAULT));
            return response.with("Retry-After", seconds.to_string());
        }
        response
    }
}

/// RFC 9110 §10.2.3: `Retry-After` is in whole seconds. Rounded up, and at least 1.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    let fraction = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(fraction).max(1)
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let (code, wait) = match refusal {
            Refusal::NoSession => return invalid_session(),
            Refusal::RoomNotFound => (Code::RoomNotFound, None),
            Refusal::TooManyRooms => (Code::TooManyRooms, Some(RETRY_AFTER_DEFAULT)),
            Refusal::AddressSessions => (Code::TooManySessions, Some(RETRY_AFTER_DEFAULT)),
            Refusal::AddressRooms => (Code::TooManyRooms, Some(RETRY_AFTER_DEFAULT)),
            Refusal::RateLimited(wait) => (Code::RateLimited, Some(wait)),
            Refusal::ServerFull => (Code::ServerFull, Some(RETRY_AFTER_DEFAULT)),
            Refusal::BadPassword => (Code::BadPassword, None),
            Refusal::RoomLocked => (Code::RoomLocked, None),
            Refusal::NotAMember => (Code::NotAMember, None),
            Refusal::NotTheOwner => (Code::NotTheOwner, None),
            Refusal::Banned => (Code::Banned, None),
            Refusal::NotTheAuthor => (Code::NotTheAuthor, None),
            Refusal::MessageNotFound => (Code::MessageNotFound, None),
            Refusal::UserNotFound => (Code::UserNotFound, None),
            Refusal::RemovesItself => (Code::BadQuery, None),
            Refusal::NameTaken => (Code::NameTaken, None),
            Refusal::BadNonce => (Code::BadNonce, None),
            Refusal::EmptyMessage => (Code::EmptyMessage, None),
            Refusal::NotEncrypted => (Code::NotEncrypted, None),
            Refusal::Unavailable(wait) => (Code::Unavailable, Some(wait)),
            Refusal::TooLong => (Code::TooLong, None),
        };
        Error { retry_after: wait, ..Error::of(code, Detail::Refusal(refusal)) }
    }
}

impl From<BadName> for Error {
    fn from(bad: BadName) -> Error {
        Error::of(Code::BadUsername, Detail::Name(bad))
    }
}

impl From<Reject> for Error {
    fn from(reject: Reject) -> Error {
        let code = match reject {
            Reject::BadRequest(_) => Code::BadRequest,
            Reject::HeadersTooLarge => Code::HeadersTooLarge,
            Reject::TargetTooLong => Code::TargetTooLong,
            Reject::BodyTooLarge => Code::BodyTooLarge,
            Reject::UnknownCoding => Code::UnsupportedTransferCoding,
        };
        Error::of(code, Detail::Reject(reject))
    }
}

/// 404: no route has this path.
pub fn no_such_path() -> Error {
    Error::new(Code::NotFound, "There is nothing at this path.")
}

/// 401 for a token that names no session (RFC 6750 §3.1).
pub fn invalid_session() -> Error {
    let error = Error::new(Code::InvalidSession, "The session does not exist or has expired.");
    error.with("WWW-Authenticate", "Bearer error=\"invalid_token\"")
}

/// 408: the head or the body did not arrive in time.
pub fn timeout() -> Error {
    Error::new(Code::Timeout, "The request did not arrive in time.")
}

/// 426: a request for the path of a socket that is not an upgrade.
pub fn not_an_upgrade() -> Error {
    upgrade_required("This path is a WebSocket, so the request must be an upgrade.")
}

/// 426: an upgrade to another version of the WebSocket protocol.
pub fn other_version() -> Error {
    let error = upgrade_required("The only supported version of the WebSocket protocol is 13.");
    error.with("Sec-WebSocket-Version", "13")
}

/// RFC 9110 §15.5.22: a 426 names the protocol in `Upgrade`, which `Connection` must list.
fn upgrade_required(detail: &'static str) -> Error {
    let error = Error::new(Code::UpgradeRequired, detail);
    error.with("Connection", "Upgrade").with("Upgrade", "websocket")
}

/// 400: an upgrade without a valid `Sec-WebSocket-Key`.
pub fn bad_key() -> Error {
    Error::new(Code::BadRequest, "Sec-WebSocket-Key is not the base64 of 16 bytes.")
}

/// 400: an upgrade that offers a session's id as a subprotocol, and not the one that the server
/// selects. A browser ends a connection on which none of its subprotocols is selected.
pub fn no_subprotocol() -> Error {
    Error::new(Code::BadRequest, "The subprotocol \"chat\" is not offered beside \"bearer.…\".")
}

/// 403: an upgrade from a page of an origin that is not allowed.
pub fn bad_origin() -> Error {
    Error::new(Code::BadOrigin, "Pages of this origin may not open sockets on this server.")
}

/// 429: a connection over the limit per address.
pub fn too_many_connections() -> Error {
    Error::new(Code::RateLimited, "There are too many connections from this address.")
}

/// 429: a connection over the limit per session or per address.
pub fn too_many_streams() -> Error {
    Error::new(Code::RateLimited, "This session or its address has too many connections.")
}

/// 429: announced joins over their rate.
pub fn too_many_joins() -> Error {
    Error::new(Code::RateLimited, "This session comes and goes too often.")
}

/// 500: a bug of the server.
pub fn internal() -> Error {
    Error::new(Code::InternalError, "Something went wrong on the server.")
}

/// 503: a limit of the whole server is reached.
pub fn server_full() -> Error {
    Refusal::ServerFull.into()
}

/// 503: the store of the cluster is away.
pub fn unavailable() -> Error {
    Refusal::Unavailable(Duration::from_secs(1)).into()
}

/// 503: the process is ending.
pub fn shutting_down() -> Error {
    let error = Error::new(Code::ShuttingDown, "The server is shutting down.");
    Error { retry_after: Some(Duration::from_secs(5)), ..error }
}
