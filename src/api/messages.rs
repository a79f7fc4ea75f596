//! Routes of messages.
//!
//! Owns `/rooms/{room_id}/messages`. Must not know how a message is kept. The invariant: a message
//! that is refused gets the same code as on a socket.

use bytes::Bytes;

use super::call::{Call, Outcome};
use super::message_list::MessageList;
use super::query::Selection;
use super::{json, query, socket};
use crate::chat::{Access, Draft, MessageCopies, MessageId, SessionKey};
use crate::clock::Stamps;
use crate::http::Method;

/// `GET /rooms/{room_id}/messages`.
pub fn list(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let Selection { limit, after } = query::selection(call.request)?;
    let room = call.authorize(session, Access::Read)?;
    let (reading, end) = match after {
        None => (call.chat.history(room, limit), "]}"),
        Some(id) => {
            let reading = call.chat.history_after(room, id, limit);
            let is_complete = reading.is_complete();
            (reading, if is_complete { "],\"complete\":true}" } else { "],\"complete\":false}" })
        }
    };
    let (body, rest) = MessageList::begin(call.chat, reading, end);
    let mut response = json::response_of(200, vec![body.into()]);
    response.rest_bytes = rest.map_or(0, |rest| rest.left_bytes());
    let is_head = call.request.method() == Method::Head;
    call.messages_of = Some((room, rest.filter(|_| !is_head)));
    Ok(response)
}

/// `POST /rooms/{room_id}/messages`.
pub fn post(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let [message, nonce] = call.fields(["message", "nonce"])?;
    let (message, nonce) =
        socket::chat_fields(message, nonce).map_err(|rejected| rejected.reason)?;
    let nonce = nonce.as_deref();
    let draft = match call.room() {
        Some(room) => call.chat.draft(room, &message, nonce)?,
        None => Draft::new(&message, nonce)?, // A bad message is refused before an unknown room.
    };
    let room = call.authorize(session, Access::Post)?;
    let now = call.caller.now;
    let (message, is_new) = call.chat.post_from_outside(now, session, room, draft, call.sink)?;
    call.messages_of = Some((room, None));
    Ok(json::response_of(if is_new { 201 } else { 200 }, vec![encoded(&message)]))
}

/// `DELETE /rooms/{room_id}/messages/{message_id}`.
pub fn delete(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let (now, room) = (call.caller.now, call.room());
    let message = MessageId::parse(&call.second_segment);
    call.chat.delete_message(now, session, room, message, json::event_bytes, call.sink)?;
    Ok(json::confirmation("Message deleted"))
}

fn encoded(messages: &MessageCopies) -> Bytes {
    let mut out = Vec::new();
    json::messages(&mut out, messages, &mut Stamps::default());
    out.into()
}
