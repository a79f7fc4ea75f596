//! Routes of messages.
//!
//! Owns `/rooms/{room_id}/messages`. Must not know what a message contains: the response has the
//! same bytes that were sent to the room. The invariant: a message that is refused gets the same
//! code as on a socket.

use bytes::Bytes;

use super::call::{Call, Outcome};
use super::{json, query, socket};
use crate::chat::{Access, Draft, HistoryEntry, SessionKey};
use crate::http::Response;

/// `GET /rooms/{room_id}/messages`.
pub fn list(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let limit = query::limit(call.request)?;
    let after = query::after(call.request);
    let room = call.authorize(session, Access::Read)?;
    Ok(match after {
        None => listed(call.chat.history(room, limit, call.sink), "]}"),
        Some(id) => {
            let (messages, complete) = call.chat.history_after(room, id, call.sink);
            let end = if complete { "],\"complete\":true}" } else { "],\"complete\":false}" };
            listed(messages.take(limit), end)
        }
    })
}

/// `POST /rooms/{room_id}/messages`.
pub fn post(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let [message, nonce] = call.fields(["message", "nonce"])?;
    let (message, nonce) =
        socket::chat_fields(message, nonce).map_err(|rejected| rejected.reason)?;
    let draft = Draft::new(&message, nonce.as_deref())?;
    let room = call.authorize(session, Access::Post)?;
    let now = call.caller.now;
    let (payload, is_new) = call.chat.post_from_outside(now, session, room, draft, call.sink)?;
    Ok(json::response_of(if is_new { 201 } else { 200 }, vec![payload]))
}

/// The response `{"messages":[…` + `end`.
fn listed<'a>(messages: impl Iterator<Item = &'a HistoryEntry>, end: &'static str) -> Response {
    let mut pieces = vec![Bytes::from_static(b"{\"messages\":[")];
    for (n, message) in messages.enumerate() {
        if n > 0 {
            pieces.push(Bytes::from_static(b","));
        }
        pieces.push(message.frame.payload());
    }
    pieces.push(Bytes::from_static(end.as_bytes()));
    json::response_of(200, pieces)
}
