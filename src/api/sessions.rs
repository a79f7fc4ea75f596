//! Routes of sessions.
//!
//! Owns `/sessions` and `/sessions/me`. Must not know how a request is routed. The invariant: a
//! session's id appears only in the response that opens the session, and in responses to requests
//! that carry it.

use serde::Serialize;

use super::call::{Call, Outcome};
use super::credential;
use super::error::Error;
use super::json::{self, Displayed};
use super::object::FieldValue;
use crate::chat::{Name, SessionId, SessionKey};

/// `POST /sessions`.
pub fn open(call: &mut Call<'_>) -> Outcome {
    #[derive(Serialize)]
    struct OpenedSession<'a> {
        session_id: Displayed<SessionId>,
        username: &'a str,
    }
    let [username] = call.fields(["username"])?;
    let username = username.and_then(FieldValue::text);
    let username = username.ok_or_else(|| Error::bad_body("The username is not a string."))?;
    let name = Name::parse(&username)?;
    let (now, from) = (call.caller.now, call.caller.address);
    let id = call.chat.open_session(now, name.clone(), from, call.sink)?;
    Ok(json::response(201, &OpenedSession { session_id: Displayed(id), username: name.as_str() }))
}

/// `GET /sessions/me`.
pub fn show(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    #[derive(Serialize)]
    struct Me<'a, I: Iterator<Item: Serialize> + Clone> {
        session_id: Displayed<SessionId>,
        username: &'a str,
        #[serde(serialize_with = "json::sequence")]
        joined_rooms: I,
    }
    let me = Me {
        session_id: Displayed(credential::bearer(call.request)?),
        username: call.chat.name(session).map_or("", Name::as_str),
        joined_rooms: call.chat.rooms_of(session).map(Displayed),
    };
    Ok(json::response(200, &me))
}

/// `DELETE /sessions/me`. A session that has ended or never existed gets the same answer (contract
/// §2.3).
pub fn end(call: &mut Call<'_>, id: SessionId) -> Outcome {
    if let Some(session) = call.chat.session(id) {
        call.chat.end_session(call.caller.now, session, call.sink);
    }
    Ok(json::confirmation("Session ended"))
}
