//! Routes of rooms.
//!
//! Owns `/rooms` and all below it. Must never know how a request is routed, or what a message
//! says: histories are handed out in the bytes they were sent in. The invariant: whoever has
//! left a room, or finds none, is told so without having changed anything.

use serde::Serialize;

use super::error::{Code, Error};
use super::json::{self, Shown};
use super::routes::{Call, Outcome};
use crate::chat::{RoomId, SessionKey};
use crate::http::Request;

/// A sentence for people, and which room it is about.
#[derive(Serialize)]
pub struct Done<'a> {
    pub message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<Shown<RoomId>>,
}

#[derive(Serialize)]
struct Rooms {
    rooms: Vec<Shown<RoomId>>,
}

/// Rooms' ids, ready to be written.
pub fn ids(rooms: impl Iterator<Item = RoomId>) -> Vec<Shown<RoomId>> {
    rooms.map(Shown).collect()
}

/// `POST /rooms`.
pub fn open(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    #[derive(Serialize)]
    struct Opened {
        room_id: Shown<RoomId>,
    }
    let id = call.chat.open_room(call.caller.now, session, call.caller.address)?;
    // Relative to the request's own path (RFC 3986 §5.2.3), so that it holds behind any prefix
    // that a proxy takes off.
    let directory = if call.request.path().ends_with('/') { "" } else { "rooms/" };
    let response = json::response(201, &Opened { room_id: Shown(id) });
    Ok(response.with("Location", format!("{directory}{id}")))
}

/// `GET /rooms`.
pub fn joined(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    Ok(json::response(200, &Rooms { rooms: ids(call.chat.rooms_of(session)) }))
}

/// `GET /rooms/all`.
pub fn all(call: &mut Call<'_>) -> Outcome {
    Ok(json::response(200, &Rooms { rooms: ids(call.chat.public_rooms()) }))
}

/// `GET /rooms/{room_id}`.
pub fn show(call: &mut Call<'_>) -> Outcome {
    #[derive(Serialize)]
    struct Room {
        room_id: Shown<RoomId>,
        exists: bool,
        user_count: usize,
    }
    let (id, room) = call.room()?;
    let user_count = call.chat.user_count(room);
    Ok(json::response(200, &Room { room_id: Shown(id), exists: true, user_count }))
}

/// `POST /rooms/{room_id}/join`.
pub fn join(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let (id, room) = call.room()?;
    call.chat.join(session, room)?;
    let message = format!("Joined room {id}");
    Ok(json::response(200, &Done { message: &message, room_id: Some(Shown(id)) }))
}

/// `DELETE /rooms/{room_id}/leave`: no different if it had not joined, or there is no such room.
pub fn leave(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    if let Ok((_, room)) = call.room() {
        call.chat.leave(call.caller.now, session, room, call.sink);
    }
    let message = format!("Left room {}", call.segment);
    Ok(json::response(200, &Done { message: &message, room_id: None }))
}

/// `GET /rooms/{room_id}/messages`.
pub fn messages(call: &mut Call<'_>, _: SessionKey) -> Outcome {
    let limit = limit(call.request)?;
    let (_, room) = call.room()?;
    let history = call.chat.history(room, limit, call.sink);
    let payloads = history.map(|entry| entry.frame.payload());
    Ok(json::response_of_items("{\"messages\":[", payloads))
}

/// How many messages are asked for.
fn limit(request: &Request) -> Result<usize, Error> {
    const DEFAULT: usize = 50;
    const MAX: usize = 1000;
    let bad = || Error::new(Code::BadQuery, "The limit is not a whole number from 1 to 1000.");
    let Some(text) = request.query_value("limit").map_err(|_| bad())? else { return Ok(DEFAULT) };
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad()); // `parse` would take a sign.
    }
    text.parse().ok().filter(|limit| (1..=MAX).contains(limit)).ok_or_else(bad)
}
