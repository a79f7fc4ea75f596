//! Routes of the room without a socket: its event stream, and typing.
//!
//! Owns the choice of a stream's format, where a stream begins, and the answer to one that cannot
//! begin. Must not know how events are encoded in a stream, or when it begins. The invariant: a
//! stream that is refused is answered like any other request, also if the refusal comes late.

use super::call::{Answer, Call, EventFormat, EventsRequest, Step, check_ignored_body};
use super::credential;
use super::error::{self, Code, Error};
use super::query;
use crate::chat::{Command, MessageId, Refusal, RoomId, SessionCommand, SessionId, Start};
use crate::http::{Method, Request, Response};
use crate::ws::close::Close;

/// The field with the id of the last event that an `EventSource` has seen.
const LAST_EVENT_ID: &str = "Last-Event-ID";

/// The id of a stream's last event, if the client is not to come back (contract §14.9).
pub const END: &str = "end";

/// `GET /rooms/{room_id}/events`.
pub fn begin<'a>(call: &Call<'a>) -> Result<Step<'a>, Error> {
    let request = call.request;
    format(request)?;
    if last_id(request) == Some(END.as_bytes()) {
        return Ok(Step::Respond(Response::new(204)));
    }
    let id = credential::bearer_or_query(request, query::entry(request).session_id)?;
    if let Err(error) = check_ignored_body(request) {
        return Ok(Step::Refuse(id, error));
    }
    let watch = SessionCommand::Watch { room: call.room(), from: call.caller.address };
    Ok(Step::Run(Command::Of(id, watch)))
}

/// The answer to a request that [`begin`] has read, if the session has access to the room.
pub fn granted(call: &Call<'_>, session: SessionId, room: RoomId) -> Result<Answer, Error> {
    let request = call.request;
    let format = format(request)?;
    if request.method() == Method::Head {
        return Ok(Answer::Response(head(format)));
    }
    let start = match (last_id(request), query::entry(request).start) {
        (Some(id), _) => Start::After(std::str::from_utf8(id).ok().and_then(MessageId::parse)),
        (None, Start::Live) => Start::Welcome,
        (None, start) => start,
    };
    Ok(Answer::Events(EventsRequest { session, room, start, format }))
}

/// The id of the last event that the client has seen, if the request has one.
fn last_id(request: &Request) -> Option<&[u8]> {
    request.fields(LAST_EVENT_ID).next().filter(|id| !id.is_empty())
}

/// `POST /rooms/{room_id}/typing`.
pub fn typing<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    Ok(SessionCommand::Type { room: call.room() })
}

/// The format that the request prefers; 406 if it accepts neither (contract §14.3).
fn format(request: &Request) -> Result<EventFormat, Error> {
    match request.media_weights(["text/event-stream", "application/x-ndjson"]) {
        [0, 0] => Err(Error::new(
            Code::NotAcceptable,
            "The events come as text/event-stream or application/x-ndjson.",
        )),
        [stream, lines] if stream > lines => Ok(EventFormat::EventStream),
        _ => Ok(EventFormat::Lines),
    }
}

/// The response that the stream is the content of.
pub fn head(format: EventFormat) -> Response {
    let content_type = match format {
        EventFormat::EventStream => "text/event-stream",
        EventFormat::Lines => "application/x-ndjson",
    };
    let response = Response::new(200)
        .with("Content-Type", content_type)
        .with("Cache-Control", "no-store")
        .with("X-Accel-Buffering", "no") // nginx would collect events in a buffer.
        .with("Vary", "Accept");
    Response { is_stream: true, ..response }
}

/// The answer to a stream that cannot begin, for a reason that would close a socket.
pub fn refusal(close: Close) -> Error {
    match close.code {
        4401 => error::invalid_session(),
        4404 | 4410 => Refusal::RoomNotFound.into(),
        4409 => Refusal::NameTaken.into(),
        4429 if close == Close::TOO_MANY_ROOMS => Refusal::TooManyRooms.into(),
        4429 if close == Close::TOO_MANY_CONNECTIONS => error::too_many_streams(),
        4429 => error::too_many_joins(),
        4403 if close == Close::BANNED => Refusal::Banned.into(),
        4403 if close == Close::ROOM_LOCKED => Refusal::RoomLocked.into(),
        // The session has left the room, or was removed from it, while the request waited.
        1000 | 4403 | 4411 => Refusal::NotAMember.into(),
        1001 => error::shutting_down(),
        1013 if close == Close::UNAVAILABLE => error::unavailable(),
        1013 => error::server_full(),
        _ => error::internal(),
    }
}
