//! Routes of messages.
//!
//! Owns `/rooms/{room_id}/messages`. Must not know how a message is kept. The invariant: a message
//! that is refused gets the same code as on a socket.

use bytes::Bytes;

use super::call::{Answer, Call};
use super::error::Error;
use super::message_list::MessageList;
use super::query::Selection;
use super::{json, query, socket};
use crate::chat::{Chat, MessageCopies, MessageId, Reading, RoomKey, SessionCommand};
use crate::clock::Stamps;
use crate::http::{Method, Response};

/// `GET /rooms/{room_id}/messages`.
pub fn list<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    let Selection { limit, after } = query::selection(call.request)?;
    let (room, from) = (call.room(), call.caller.address);
    Ok(SessionCommand::ReadMessages { room, after, limit, from })
}

/// The answer to [`list`].
pub fn listed(call: &Call<'_>, chat: &Chat, reading: Reading) -> Result<Answer, Error> {
    let Selection { after, .. } = query::selection(call.request)?;
    let end = match (after, reading.is_complete()) {
        (None, _) => "]}",
        (Some(_), true) => "],\"complete\":true}",
        (Some(_), false) => "],\"complete\":false}",
    };
    let (body, rest) = MessageList::begin(chat, reading, end);
    let mut response = json::response_of(200, vec![body.into()]);
    response.rest_bytes = rest.map_or(0, |rest| rest.left_bytes());
    let is_head = call.request.method() == Method::Head;
    Ok(Answer::Messages(response, reading.room(), rest.filter(|_| !is_head)))
}

/// `POST /rooms/{room_id}/messages`.
pub fn post<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    let [message, nonce] = call.fields(["message", "nonce"])?;
    let (text, nonce) = socket::chat_fields(message, nonce).map_err(|rejected| rejected.reason)?;
    Ok(SessionCommand::Post { room: call.room(), text, nonce })
}

/// The answer to [`post`].
pub fn posted(room: RoomKey, message: &MessageCopies, is_new: bool) -> Answer {
    let response = json::response_of(if is_new { 201 } else { 200 }, vec![encoded(message)]);
    Answer::Messages(response, room, None)
}

/// `DELETE /rooms/{room_id}/messages/{message_id}`.
pub fn delete<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    let (room, message) = (call.room(), MessageId::parse(&call.second_segment));
    Ok(SessionCommand::DeleteMessage { room, message, event_bytes: json::event_bytes })
}

/// The answer to [`delete`].
pub fn deleted() -> Response {
    json::confirmation("Message deleted")
}

fn encoded(messages: &MessageCopies) -> Bytes {
    let mut out = Vec::new();
    json::messages(&mut out, messages, &mut Stamps::default());
    out.into()
}
