//! Errors on the wire: every code that clients are promised, and what leads to which.
//!
//! Owns the list of codes, which REST and socket share. Must never know who is told: a response
//! leaves here without the fields of CORS. The invariant: each mapping is one exhaustive match,
//! so what the domain or `http` learns to refuse does not compile until it has a code.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::json::{self, Displayed};
use crate::chat::{BadName, Refusal};
use crate::counters::CODES_MAX;
use crate::http::{Reject, Response, ResponseField};

/// What went wrong, for programs (contract §1.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    BadRequest,
    BadUsername,
    MissingSession,
    InvalidSession,
    BadOrigin,
    BadPassword,
    NotAMember,
    NotTheOwner,
    NotFound,
    RoomNotFound,
    MethodNotAllowed,
    Timeout,
    NameTaken,
    BodyTooLarge,
    TargetTooLong,
    BadBody,
    BadQuery,
    /// On the socket only, like the next; the status is what REST would say.
    BadJson,
    BadType,
    BadMessage,
    BadNonce,
    EmptyMessage,
    TooLong,
    UpgradeRequired,
    RateLimited,
    TooManyRooms,
    HeadersTooLarge,
    InternalError,
    ServerFull,
    ShuttingDown,
}

impl Code {
    /// All of them, each at its own index.
    pub const ALL: [Code; 30] = [
        Code::BadRequest,
        Code::BadUsername,
        Code::MissingSession,
        Code::InvalidSession,
        Code::BadOrigin,
        Code::BadPassword,
        Code::NotAMember,
        Code::NotTheOwner,
        Code::NotFound,
        Code::RoomNotFound,
        Code::MethodNotAllowed,
        Code::Timeout,
        Code::NameTaken,
        Code::BodyTooLarge,
        Code::TargetTooLong,
        Code::BadBody,
        Code::BadQuery,
        Code::BadJson,
        Code::BadType,
        Code::BadMessage,
        Code::BadNonce,
        Code::EmptyMessage,
        Code::TooLong,
        Code::UpgradeRequired,
        Code::RateLimited,
        Code::TooManyRooms,
        Code::HeadersTooLarge,
        Code::InternalError,
        Code::ServerFull,
        Code::ShuttingDown,
    ];

    /// Its place in [`Code::ALL`], and in the count of refusals.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        self.row().0
    }

    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u16, &'static str) {
        match self {
            Code::BadRequest => (400, "bad_request"),
            Code::BadUsername => (400, "bad_username"),
            Code::MissingSession => (401, "missing_session"),
            Code::InvalidSession => (401, "invalid_session"),
            Code::BadOrigin => (403, "bad_origin"),
            Code::BadPassword => (403, "bad_password"),
            Code::NotAMember => (403, "not_a_member"),
            Code::NotTheOwner => (403, "not_the_owner"),
            Code::NotFound => (404, "not_found"),
            Code::RoomNotFound => (404, "room_not_found"),
            Code::MethodNotAllowed => (405, "method_not_allowed"),
            Code::Timeout => (408, "timeout"),
            Code::NameTaken => (409, "name_taken"),
            Code::BodyTooLarge => (413, "body_too_large"),
            Code::TargetTooLong => (414, "target_too_long"),
            Code::BadBody => (422, "bad_body"),
            Code::BadQuery => (422, "bad_query"),
            Code::BadJson => (422, "bad_json"),
            Code::BadType => (422, "bad_type"),
            Code::BadMessage => (422, "bad_message"),
            Code::BadNonce => (422, "bad_nonce"),
            Code::EmptyMessage => (422, "empty_message"),
            Code::TooLong => (422, "too_long"),
            Code::UpgradeRequired => (426, "upgrade_required"),
            Code::RateLimited => (429, "rate_limited"),
            Code::TooManyRooms => (429, "too_many_rooms"),
            Code::HeadersTooLarge => (431, "headers_too_large"),
            Code::InternalError => (500, "internal_error"),
            Code::ServerFull => (503, "server_full"),
            Code::ShuttingDown => (503, "shutting_down"),
        }
    }
}

const _: () = assert!(Code::ALL.len() <= CODES_MAX, "there is a count for each");

/// What went wrong, for people. `Copy`, so that refusing a flood builds no strings.
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

/// One error, on its way to a response or a `refused` event.
#[derive(Debug)]
pub struct Error {
    pub code: Code,
    pub detail: Detail,
    /// If waiting helps, how long.
    pub retry_after: Option<Duration>,
    /// What its response says in the head.
    fields: Vec<ResponseField>,
}

/// How long somebody should wait for what only others can change.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(10);

impl Error {
    /// `detail` is one English sentence.
    pub fn new(code: Code, detail: &'static str) -> Error {
        Error::of(code, Detail::Sentence(detail))
    }

    fn of(code: Code, detail: Detail) -> Error {
        Error { code, detail, retry_after: None, fields: Vec::new() }
    }

    /// With a field in the response's head.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Error {
        self.fields.push((name, value.into()));
        self
    }

    fn retry_after(mut self, wait: Duration) -> Error {
        self.retry_after = Some(wait);
        self
    }

    /// 422 for a body that is not what the route needs.
    pub fn bad_body(detail: &'static str) -> Error {
        Error::new(Code::BadBody, detail)
    }

    /// 422 for a parameter of the query that is out of range or of the wrong type.
    pub fn bad_query(detail: &'static str) -> Error {
        Error::new(Code::BadQuery, detail)
    }

    /// The response, not yet dressed for the peer's origin.
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

/// RFC 9110 §10.2.3: `Retry-After` counts in seconds. Rounded up, and never "at once".
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    let begun = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(begun).max(1)
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let (code, wait) = match refusal {
            Refusal::RoomNotFound => (Code::RoomNotFound, None),
            Refusal::TooManyRooms => (Code::TooManyRooms, Some(RETRY_AFTER_DEFAULT)),
            Refusal::RateLimited(wait) => (Code::RateLimited, Some(wait)),
            Refusal::ServerFull => (Code::ServerFull, Some(RETRY_AFTER_DEFAULT)),
            Refusal::BadPassword => (Code::BadPassword, None),
            Refusal::NotAMember => (Code::NotAMember, None),
            Refusal::NotTheOwner => (Code::NotTheOwner, None),
            Refusal::NameTaken => (Code::NameTaken, None),
            Refusal::BadNonce => (Code::BadNonce, None),
            Refusal::EmptyMessage => (Code::EmptyMessage, None),
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
        };
        Error::of(code, Detail::Reject(reject))
    }
}

/// The peer broke HTTP or a limit: 400, 413, 414 or 431, after which the connection ends.
pub fn reject(reject: Reject) -> Error {
    reject.into()
}

/// 408: head or body did not arrive in time.
pub fn timeout() -> Error {
    Error::new(Code::Timeout, "The request did not arrive in time.")
}

/// 426: the socket's path was asked for without an upgrade.
pub fn not_an_upgrade() -> Error {
    upgrade_required("This is a WebSocket; please ask for an upgrade.")
}

/// 426: an upgrade to a version of WebSocket that isn't ours.
pub fn other_version() -> Error {
    let error = upgrade_required("The WebSocket version spoken here is 13.");
    error.with("Sec-WebSocket-Version", "13")
}

/// RFC 9110 §15.5.22: a 426 names the protocol, and `Connection` names that field.
fn upgrade_required(detail: &'static str) -> Error {
    let error = Error::new(Code::UpgradeRequired, detail);
    error.with("Connection", "Upgrade").with("Upgrade", "websocket")
}

/// 400: an upgrade without a proper `Sec-WebSocket-Key`.
pub fn bad_key() -> Error {
    Error::new(Code::BadRequest, "The Sec-WebSocket-Key is not 16 bytes of base64.")
}

/// 403: an upgrade from a page of another origin.
pub fn bad_origin() -> Error {
    Error::new(Code::BadOrigin, "Pages of this origin may not connect here.")
}

/// 429: one connection more than its address may have.
pub fn too_many_connections() -> Error {
    let error = Error::new(Code::RateLimited, "There are too many connections from this address.");
    error.retry_after(RETRY_AFTER_DEFAULT)
}

/// 500: a bug of ours.
pub fn internal() -> Error {
    Error::new(Code::InternalError, "Something went wrong on the server.")
}

/// 503: no room for one more.
pub fn server_full() -> Error {
    Refusal::ServerFull.into()
}

/// 503: the process was told to end.
pub fn shutting_down() -> Error {
    let error = Error::new(Code::ShuttingDown, "The server is shutting down.");
    error.retry_after(Duration::from_secs(5))
}
