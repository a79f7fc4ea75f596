//! The session's id in a request.
//!
//! Owns the ways in which a request may carry the id. Must not pass the id on to other clients or
//! to the log (contract §1.12). The invariant: if a request has several credentials, the first one
//! decides. If it is malformed, the others are not tried.

use super::error::{Code, Error, invalid_session};
use crate::chat::SessionId;
use crate::http::{QueryValue, Request, eq_ignore_case, list_members};

/// The content of `Authorization`.
enum Authorization {
    /// No field, another scheme, or no token.
    Missing,
    /// A token that is not a session's id, or more than one field.
    Malformed,
    Session(SessionId),
}

/// The id that the request carries in `Authorization`. The session may have ended.
pub fn bearer(request: &Request) -> Result<SessionId, Error> {
    match authorization(request) {
        Authorization::Session(id) => Ok(id),
        Authorization::Malformed => Err(invalid_session()),
        Authorization::Missing => {
            let detail = "This request needs a session's id as its bearer token.";
            let error = Error::new(Code::MissingSession, detail);
            Err(error.with("WWW-Authenticate", "Bearer"))
        }
    }
}

/// The same, or else the id in the query, because an `EventSource` cannot set fields.
pub fn bearer_or_query(
    request: &Request,
    in_query: Option<QueryValue<'_>>,
) -> Result<SessionId, Error> {
    let token = match (authorization(request), in_query) {
        (Authorization::Missing, Some(value)) => value.decode(),
        _ => return bearer(request),
    };
    match token {
        Ok(token) if token.is_empty() => bearer(request),
        token => token.ok().and_then(|id| SessionId::parse(&id)).ok_or_else(invalid_session),
    }
}

/// The id that an upgrade carries: in `Authorization`, else in a subprotocol, else in the query
/// (contract §5.3), where it is `in_query`.
pub fn upgrade_session_id(
    request: &Request,
    offered: Subprotocols<'_>,
    in_query: Option<QueryValue<'_>>,
) -> Option<SessionId> {
    match authorization(request) {
        Authorization::Session(id) => Some(id),
        Authorization::Malformed => None,
        Authorization::Missing => match offered.bearer {
            Some(token) => SessionId::parse(std::str::from_utf8(token).ok()?),
            None => SessionId::parse(&in_query?.decode().ok()?),
        },
    }
}

/// What the subprotocols that an upgrade offers (RFC 6455 §4.1) mean to the server (contract §5.2).
#[derive(Clone, Copy, Default, Debug)]
pub struct Subprotocols<'a> {
    pub has_chat: bool,
    /// The rest of the first one that begins with `bearer.`.
    pub bearer: Option<&'a [u8]>,
}

/// Reads the subprotocols in one pass, because a request can offer thousands.
pub fn offered_subprotocols(request: &Request) -> Subprotocols<'_> {
    let mut offered = Subprotocols::default();
    for token in request.fields("Sec-WebSocket-Protocol").flat_map(list_members) {
        offered.has_chat |= token == b"chat";
        offered.bearer = offered.bearer.or_else(|| token.strip_prefix(b"bearer."));
    }
    offered
}

fn authorization(request: &Request) -> Authorization {
    let mut values = request.fields("Authorization");
    let Some(value) = values.next() else { return Authorization::Missing };
    if values.next().is_some() {
        return Authorization::Malformed; // RFC 9110 §5.3: the field must not be repeated.
    }
    // RFC 9110 §11.4: the scheme is case-insensitive. One or more spaces follow it.
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    let token = token.trim_ascii();
    if !eq_ignore_case(scheme, b"Bearer") || token.is_empty() {
        return Authorization::Missing;
    }
    let id = std::str::from_utf8(token).ok().and_then(SessionId::parse);
    id.map_or(Authorization::Malformed, Authorization::Session)
}
