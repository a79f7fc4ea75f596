//! Who is asking: the session's id in a request.
//!
//! Owns the places where a request may carry it. Must never show it to anyone. The invariant: of
//! several credentials the first that is present counts, and if that one is no good, nobody
//! looks for a better one.

use super::error::{Code, Error};
use crate::chat::SessionId;
use crate::http::{Request, eq_ignore_case};

/// What `Authorization` holds.
enum Authorization {
    /// Nothing that concerns us: no field, another scheme, no token.
    Missing,
    /// A token that is no session's id, or more than one field.
    Malformed,
    Session(SessionId),
}

/// The id of the session that asks, be it living or not.
pub fn bearer(request: &Request) -> Result<SessionId, Error> {
    match authorization(request) {
        Authorization::Session(id) => Ok(id),
        Authorization::Malformed => Err(invalid_session()),
        Authorization::Missing => {
            let error = Error::new(Code::MissingSession, "This needs a session's bearer token.");
            Err(error.with("WWW-Authenticate", "Bearer"))
        }
    }
}

/// RFC 6750 §3.1.
pub fn invalid_session() -> Error {
    let error = Error::new(Code::InvalidSession, "There is no such session, or it has expired.");
    error.with("WWW-Authenticate", "Bearer error=\"invalid_token\"")
}

/// The id that an upgrade carries: the header counts first, then the subprotocol, then the query.
pub fn upgrade_session_id(request: &Request) -> Option<SessionId> {
    match authorization(request) {
        Authorization::Session(id) => Some(id),
        Authorization::Malformed => None,
        Authorization::Missing => {
            match offered_subprotocols(request).find_map(|token| token.strip_prefix("bearer.")) {
                Some(token) => SessionId::parse(token),
                None => {
                    let value = request.query_value("session_id").ok().flatten();
                    value.and_then(|token| SessionId::parse(&token))
                }
            }
        }
    }
}

/// The subprotocols that an upgrade offers (RFC 6455 §4.1), one of which may be a credential.
pub fn offered_subprotocols(request: &Request) -> impl Iterator<Item = &str> {
    let lists = request.fields("Sec-WebSocket-Protocol");
    let tokens = lists.flat_map(|list| list.split(|byte| *byte == b','));
    tokens.filter_map(|token| std::str::from_utf8(token.trim_ascii()).ok())
}

fn authorization(request: &Request) -> Authorization {
    let mut values = request.fields("Authorization");
    let Some(value) = values.next() else { return Authorization::Missing };
    if values.next().is_some() {
        return Authorization::Malformed; // Which of them counts is anybody's guess.
    }
    // RFC 9110 §11.4: the scheme is compared without case, one or more spaces follow.
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    let token = token.trim_ascii();
    if !eq_ignore_case(scheme, b"Bearer") || token.is_empty() {
        return Authorization::Missing;
    }
    let id = std::str::from_utf8(token).ok().and_then(SessionId::parse);
    id.map_or(Authorization::Malformed, Authorization::Session)
}
