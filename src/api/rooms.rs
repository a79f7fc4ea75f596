//! Routes of rooms.
//!
//! Owns `/rooms` and the paths below it, except messages. Must not decide which session may do
//! what: the domain does, in [`Chat::gate`](crate::chat::Chat::gate). The invariant: a refused
//! request changes no room and no membership.

use std::borrow::Cow;

use serde::Serialize;

use super::call::{Call, Outcome};
use super::error::Error;
use super::json::{self, Confirmation, Displayed, Person, RoomForm, Timestamp};
use super::object::FieldValue;
use super::query;
use crate::chat::{
    Access, PASSWORD_BYTES_MAX, Refusal, RoomId, RoomInfo, RoomOptions, SessionKey, Title, UserId,
};

#[derive(Serialize)]
struct Rooms<I: Iterator<Item: Serialize> + Clone> {
    #[serde(serialize_with = "json::sequence")]
    rooms: I,
}

/// `POST /rooms`.
pub fn open(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    #[derive(Serialize)]
    struct OpenedRoom {
        room_id: Displayed<RoomId>,
        user_id: Option<Displayed<UserId>>,
    }
    let [title, private, password] = call.optional_fields(["title", "private", "password"])?;
    let password = self::password(password)?;
    let options = RoomOptions {
        title: title.map(self::title).transpose()?,
        private: match private {
            None => false,
            Some(FieldValue::Bool(private)) => private,
            Some(_) => {
                return Err(Error::bad_body("The value of private is neither true nor false."));
            }
        },
        password: password.as_deref(),
    };
    let (now, from) = (call.caller.now, call.caller.address);
    let id = call.chat.open_room(now, session, options, from, call.sink)?;
    // Relative to the request's path (RFC 3986 §5.2.3), so that it is correct behind a proxy that
    // removes a path prefix.
    let directory = if call.request.path().ends_with('/') { "" } else { "rooms/" };
    let user_id = call.chat.room(id).and_then(|room| call.chat.user_id(session, room));
    let opened = OpenedRoom { room_id: Displayed(id), user_id: user_id.map(Displayed) };
    let response = json::response(201, &opened);
    Ok(response.with("Location", format!("{directory}{id}")))
}

/// `GET /rooms`.
pub fn joined(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    Ok(json::response(200, &Rooms { rooms: call.chat.rooms_of(session).map(Displayed) }))
}

/// `GET /rooms/all`.
pub fn all(call: &mut Call<'_>) -> Outcome {
    #[derive(Serialize)]
    struct ListedRoom<'a> {
        room_id: Displayed<RoomId>,
        title: Option<&'a str>,
        user_count: usize,
        created_at: Timestamp,
    }
    impl<'a> ListedRoom<'a> {
        fn of(room: RoomInfo<'a>) -> ListedRoom<'a> {
            ListedRoom {
                room_id: Displayed(room.id),
                title: room.title,
                user_count: room.user_count,
                created_at: Timestamp(room.created),
            }
        }
    }
    let detail = query::detail(call.request)?;
    let chat = &*call.chat;
    let listing = call.listings.get_or_render(chat.listing_revision(), detail, || {
        let rooms = chat.public_rooms();
        if detail {
            json::bytes(&Rooms { rooms: rooms.map(ListedRoom::of) })
        } else {
            json::bytes(&Rooms { rooms: rooms.map(|room| Displayed(room.id)) })
        }
    });
    Ok(json::response_of(200, vec![listing]))
}

/// `GET /rooms/{room_id}`.
pub fn show(call: &mut Call<'_>) -> Outcome {
    let info = call.room().and_then(|room| call.chat.room_info(room));
    let mut out = Vec::new();
    json::room(&mut out, &info.ok_or(Refusal::RoomNotFound)?, RoomForm::Outside);
    Ok(json::response_of_text(200, out))
}

/// `DELETE /rooms/{room_id}`.
pub fn delete(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let room = call.room();
    call.chat.delete_room(call.caller.now, session, room, call.sink)?;
    let message = format!("Room {} deleted", call.room_text());
    Ok(json::response(200, &Confirmation { message: &message, room_id: None }))
}

/// `POST /rooms/{room_id}/join`.
pub fn join(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    #[derive(Serialize)]
    struct JoinedRoom<'a> {
        message: &'a str,
        room_id: &'a str,
        user_id: Option<Displayed<UserId>>,
    }
    let [password] = call.optional_fields(["password"])?;
    let password = self::password(password)?;
    let access = Access::Join { password: password.as_deref(), from: call.caller.address };
    let room = call.authorize(session, access)?;
    call.chat.join(session, room)?;
    let room_id = call.room_text();
    let message = format!("Joined room {room_id}");
    let user_id = call.chat.user_id(session, room).map(Displayed);
    Ok(json::response(200, &JoinedRoom { message: &message, room_id: &room_id, user_id }))
}

/// `DELETE /rooms/{room_id}/leave`. The answer is the same if the session had not joined or the room
/// does not exist (contract §2.9).
pub fn leave(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    if let Some(room) = call.room() {
        call.chat.leave(call.caller.now, session, room, call.sink);
    }
    let message = format!("Left room {}", call.room_text());
    Ok(json::response(200, &Confirmation { message: &message, room_id: None }))
}

/// `GET /rooms/{room_id}/users`.
pub fn users(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    #[derive(Serialize)]
    struct Users<'a> {
        users: Vec<Person<'a>>,
    }
    let room = call.authorize(session, Access::Read)?;
    let users = json::people(call.chat.users(room));
    call.sink.on_listed(users.len());
    Ok(json::response(200, &Users { users }))
}

fn title(value: FieldValue<'_>) -> Result<Title, Error> {
    let title = value.text().and_then(|text| Title::parse(&text).ok());
    title.ok_or_else(|| {
        Error::bad_body(
            "The title is not a string of 1 to 80 characters, one of them visible and none a control.",
        )
    })
}

fn password(value: Option<FieldValue<'_>>) -> Result<Option<Cow<'_, str>>, Error> {
    let Some(value) = value else { return Ok(None) };
    let fits = |text: &Cow<'_, str>| (1..=PASSWORD_BYTES_MAX).contains(&text.len());
    let password = value.text().filter(fits);
    match password {
        Some(password) => Ok(Some(password)),
        None => Err(Error::bad_body("The password is not a string of 1 to 128 bytes.")),
    }
}
