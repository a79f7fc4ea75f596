//! Routes of rooms.
//!
//! Owns `/rooms` and what lies below it, but for messages. Must never decide who may go where:
//! that is the domain's gate. The invariant: whoever has left a room, or finds none, is told so
//! without having changed anything.

use std::borrow::Cow;

use serde::Serialize;

use super::error::Error;
use super::json::{self, Person, Shown, Time};
use super::object::{self, Value};
use super::query;
use super::routes::{Call, Outcome};
use crate::chat::{
    Access, PASSWORD_BYTES_MAX, Refusal, RoomId, RoomInfo, RoomOptions, SessionKey, Title,
};
use crate::http::Request;

/// A sentence for people, and which room it is about.
#[derive(Serialize)]
pub struct Done<'a> {
    pub message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Rooms<I: Iterator<Item: Serialize> + Clone> {
    #[serde(serialize_with = "json::sequence")]
    rooms: I,
}

/// `POST /rooms`.
pub fn open(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    #[derive(Serialize)]
    struct Opened {
        room_id: Shown<RoomId>,
    }
    let [title, private, password] = fields(call.request, ["title", "private", "password"])?;
    let password = self::password(password)?;
    let wishes = RoomOptions {
        title: title.map(self::title).transpose()?,
        private: match private {
            None => false,
            Some(Value::Bool(private)) => private,
            Some(_) => return Err(Error::bad_body("Private is neither true nor false.")),
        },
        password: password.as_deref(),
    };
    let id = call.chat.open_room(call.caller.now, session, wishes, call.caller.address)?;
    // Relative to the request's own path (RFC 3986 §5.2.3), so that it holds behind any prefix
    // that a proxy takes off.
    let directory = if call.request.path().ends_with('/') { "" } else { "rooms/" };
    let response = json::response(201, &Opened { room_id: Shown(id) });
    Ok(response.with("Location", format!("{directory}{id}")))
}

/// `GET /rooms`.
pub fn joined(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    Ok(json::response(200, &Rooms { rooms: call.chat.rooms_of(session).map(Shown) }))
}

/// `GET /rooms/all`.
pub fn all(call: &mut Call<'_>) -> Outcome {
    #[derive(Serialize)]
    struct Row<'a> {
        room_id: Shown<RoomId>,
        title: Option<&'a str>,
        user_count: usize,
        created_at: Time,
    }
    impl<'a> Row<'a> {
        fn of(room: RoomInfo<'a>) -> Row<'a> {
            Row {
                room_id: Shown(room.id),
                title: room.title,
                user_count: room.user_count,
                created_at: Time(room.created),
            }
        }
    }
    let detail = query::detail(call.request)?;
    let chat = &*call.chat;
    let listing = call.listings.of(chat.listing_revision(), detail, || {
        let rooms = chat.public_rooms();
        if detail {
            json::bytes(&Rooms { rooms: rooms.map(Row::of) })
        } else {
            json::bytes(&Rooms { rooms: rooms.map(|room| Shown(room.id)) })
        }
    });
    Ok(json::response_of(200, vec![listing]))
}

/// `GET /rooms/{room_id}`.
pub fn show(call: &mut Call<'_>) -> Outcome {
    #[derive(Serialize)]
    struct Room<'a> {
        room_id: Shown<RoomId>,
        exists: bool,
        user_count: usize,
        title: Option<&'a str>,
        private: bool,
        password: bool,
    }
    let info = call.room().and_then(|room| call.chat.room_info(room));
    let info = info.ok_or(Refusal::RoomNotFound)?;
    let room = Room {
        room_id: Shown(info.id),
        exists: true,
        user_count: info.user_count,
        title: info.title,
        private: info.is_private,
        password: info.has_password,
    };
    Ok(json::response(200, &room))
}

/// `DELETE /rooms/{room_id}`.
pub fn delete(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let room = call.room();
    call.chat.delete_room(call.caller.now, session, room, call.sink)?;
    let message = format!("Room {} deleted", call.segment);
    Ok(json::response(200, &Done { message: &message, room_id: None }))
}

/// `POST /rooms/{room_id}/join`.
pub fn join(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let [password] = fields(call.request, ["password"])?;
    let password = self::password(password)?;
    let access = Access::Join { password: password.as_deref(), from: call.caller.address };
    let room = call.pass(session, access)?;
    call.chat.join(session, room)?;
    let message = format!("Joined room {}", call.segment);
    Ok(json::response(200, &Done { message: &message, room_id: Some(&call.segment) }))
}

/// `DELETE /rooms/{room_id}/leave`: no different if it had not joined, or there is no such room.
pub fn leave(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    if let Some(room) = call.room() {
        call.chat.leave(call.caller.now, session, room, call.sink);
    }
    let message = format!("Left room {}", call.segment);
    Ok(json::response(200, &Done { message: &message, room_id: None }))
}

/// `GET /rooms/{room_id}/users`.
pub fn users(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    #[derive(Serialize)]
    struct Users<'a> {
        users: Vec<Person<'a>>,
    }
    let room = call.pass(session, Access::Read)?;
    Ok(json::response(200, &Users { users: json::people(call.chat.users(room)) }))
}

/// The fields of a body that may be missing, as may each of them.
fn fields<'a, const N: usize>(
    request: &'a Request,
    names: [&str; N],
) -> Result<[Option<Value<'a>>; N], Error> {
    if request.body().is_empty() {
        return Ok([const { None }; N]);
    }
    let fields = object::body_fields(request.body(), names);
    let fields = fields.map_err(|_| Error::bad_body(object::NEITHER_EMPTY_NOR_AN_OBJECT))?;
    Ok(fields.map(object::optional))
}

fn title(value: Value<'_>) -> Result<Title, Error> {
    let title = value.text().and_then(|text| Title::parse(&text).ok());
    title.ok_or_else(|| {
        Error::bad_body("The title is not a text of 1 to 80 characters without controls.")
    })
}

fn password(value: Option<Value<'_>>) -> Result<Option<Cow<'_, str>>, Error> {
    let Some(value) = value else { return Ok(None) };
    let fits = |text: &Cow<'_, str>| (1..=PASSWORD_BYTES_MAX).contains(&text.len());
    let password = value.text().filter(fits);
    match password {
        Some(password) => Ok(Some(password)),
        None => Err(Error::bad_body("The password is not a text of 1 to 128 bytes.")),
    }
}
