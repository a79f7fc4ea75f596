//! Routes of sessions.
//!
//! Owns `/sessions` and `/sessions/me`. Must not know how a request is routed. The invariant: a
//! session's id appears only in the response that opens the session, and in responses to requests
//! that carry it.

use serde::Serialize;

use super::call::Call;
use super::error::Error;
use super::json::{self, Displayed};
use super::object::FieldValue;
use crate::chat::{Command, Name, RoomId, SessionCommand, SessionId};
use crate::http::Response;

/// `POST /sessions`.
pub fn open<'a>(call: &Call<'a>) -> Result<Command<'a>, Error> {
    let [username] = call.fields(["username"])?;
    let username = username.and_then(FieldValue::text);
    let username = username.ok_or_else(|| Error::bad_body("The username is not a string."))?;
    let name = Name::parse(&username)?;
    Ok(Command::OpenSession { name, from: call.caller.address })
}

/// The answer to [`open`].
pub fn opened(id: SessionId, name: &Name) -> Response {
    #[derive(Serialize)]
    struct OpenedSession<'a> {
        session_id: Displayed<SessionId>,
        username: &'a str,
    }
    json::response(201, &OpenedSession { session_id: Displayed(id), username: name.as_str() })
}

/// `GET /sessions/me`.
pub fn show<'a>(_: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    Ok(SessionCommand::ShowSession)
}

/// The answer to [`show`].
pub fn shown(id: SessionId, name: &str, rooms: &[RoomId]) -> Response {
    let mut out = b"{\"session_id\":".to_vec();
    json::write(&mut out, &Displayed(id));
    out.extend_from_slice(b",\"username\":");
    json::write(&mut out, &name);
    out.extend_from_slice(b",\"joined_rooms\":");
    json::rooms(&mut out, rooms);
    out.push(b'}');
    json::response_of_text(200, out)
}

/// `DELETE /sessions/me`. A session that has ended or never existed gets the same answer (contract
/// §2.3).
pub fn end(id: SessionId) -> Command<'static> {
    Command::EndSession(id)
}

/// The answer to [`end`].
pub fn ended() -> Response {
    json::confirmation("Session ended")
}
