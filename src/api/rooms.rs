//! Routes of rooms.
//!
//! Owns `/rooms` and the paths below it, except messages. Must not decide which session may do
//! what: the domain does, in [`Chat::gate`](crate::chat::Chat::gate). The invariant: a refused
//! request changes no room and no membership.

use std::time::Duration;

use serde::Serialize;

use super::call::{Call, Outcome};
use super::error::Error;
use super::json::{self, Confirmation, Displayed, Person, RoomForm, Timestamp};
use super::object::FieldValue;
use super::query;
use crate::chat::{
    Access, PASSWORD_BYTES_MAX, Refusal, RoomChanges, RoomId, RoomInfo, RoomKey, RoomOptions,
    SLOW_MODE_MAX, SessionKey, TTL_MIN, Title, UserId,
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
    let fields =
        call.optional_fields(["title", "private", "password", "ttl", "slow_mode", "encrypted"])?;
    let [title, private, password, ttl, slow_mode, encrypted] = &fields;
    let options = RoomOptions {
        title: self::title(title)?.flatten(),
        private: flag(private, "The value of private is neither true nor false.")?.unwrap_or(false),
        password: self::password(password)?.flatten(),
        ttl: self::ttl(ttl, call.room_life_max)?,
        slow_mode: self::slow_mode(slow_mode)?.unwrap_or(0),
        encrypted: flag(encrypted, "The value of encrypted is neither true nor false.")?
            .unwrap_or(false),
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
    shown(call, call.room())
}

#[inline(never)]
fn shown(call: &Call<'_>, room: Option<RoomKey>) -> Outcome {
    let info = room.and_then(|room| call.chat.room_info(room));
    let mut out = Vec::new();
    json::room(&mut out, &info.ok_or(Refusal::RoomNotFound)?, RoomForm::Outside);
    Ok(json::response_of_text(200, out))
}

/// `PATCH /rooms/{room_id}`. For the title and the password, `null` means none; for the other fields
/// it counts as absent.
pub fn change(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let fields = call.nullable_fields(["title", "password", "locked", "slow_mode", "owner"])?;
    let [title, password, locked, slow_mode, owner] = &fields;
    let changes = RoomChanges {
        title: self::title(title)?,
        locked: flag(locked, "The value of locked is neither true nor false.")?,
        slow_mode: self::slow_mode(slow_mode)?,
        password: self::password(password)?,
        owner: match owner {
            None | Some(FieldValue::Null) => None,
            Some(FieldValue::Text(owner)) => Some(UserId::parse(owner)),
            Some(_) => return Err(Error::bad_body("The owner is not a string.")),
        },
    };
    let room = call.room();
    let room = call.chat.change_room(call.caller.now, session, room, changes, call.sink)?;
    shown(call, Some(room))
}

/// `DELETE /rooms/{room_id}`.
pub fn delete(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let room = call.room();
    call.chat.delete_room(call.caller.now, session, room, call.sink)?;
    let message = format!("Room {} deleted", call.room_text());
    Ok(json::confirmation(&message))
}

/// `POST /rooms/{room_id}/join`.
pub fn join(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let [password] = &call.optional_fields(["password"])?;
    let access = Access::Join { password: self::password(password)?.flatten() };
    let room = call.authorize(session, access)?;
    call.chat.join(session, room, call.caller.address)?;
    let room_id = call.room_text();
    let message = format!("Joined room {room_id}");
    let confirmation = Confirmation {
        message: &message,
        room_id: Some(&room_id),
        user_id: call.chat.user_id(session, room).map(Displayed),
        address: None,
    };
    Ok(json::response(200, &confirmation))
}

/// `DELETE /rooms/{room_id}/leave`. The answer is the same if the session had not joined or the room
/// does not exist (contract §2.9).
pub fn leave(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    if let Some(room) = call.room() {
        call.chat.leave(call.caller.now, session, room, call.sink);
    }
    let message = format!("Left room {}", call.room_text());
    Ok(json::confirmation(&message))
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

// The fields are borrowed, so that a route drops all of them in one place: by value they made the
// routes 2 KB larger.

/// The inner `None`: the value is null.
#[inline(never)]
fn title(value: &Option<FieldValue<'_>>) -> Result<Option<Option<Title>>, Error> {
    let title = match value {
        None => return Ok(None),
        Some(FieldValue::Null) => return Ok(Some(None)),
        Some(FieldValue::Text(text)) => Title::parse(text).ok(),
        Some(_) => None,
    };
    match title {
        Some(title) => Ok(Some(Some(title))),
        None => Err(Error::bad_body(
            "The title is not a string of 1 to 80 characters, one of them visible and none a control.",
        )),
    }
}

/// The inner `None`: the value is null.
#[inline(never)]
fn password<'a>(value: &'a Option<FieldValue<'_>>) -> Result<Option<Option<&'a str>>, Error> {
    match value {
        None => Ok(None),
        Some(FieldValue::Null) => Ok(Some(None)),
        Some(FieldValue::Text(text)) if (1..=PASSWORD_BYTES_MAX).contains(&text.len()) => {
            Ok(Some(Some(text)))
        }
        Some(_) => Err(Error::bad_body("The password is not a string of 1 to 128 bytes.")),
    }
}

/// The value of a field that is true or false. `detail`: the error if it is something else.
#[inline(never)]
fn flag(value: &Option<FieldValue<'_>>, detail: &'static str) -> Result<Option<bool>, Error> {
    match value {
        None | Some(FieldValue::Null) => Ok(None),
        Some(FieldValue::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(Error::bad_body(detail)),
    }
}

#[inline(never)]
fn slow_mode(value: &Option<FieldValue<'_>>) -> Result<Option<u16>, Error> {
    match value {
        None | Some(FieldValue::Null) => Ok(None),
        Some(FieldValue::Number(seconds @ 0..=SLOW_MODE_MAX)) => Ok(Some(*seconds as u16)),
        Some(_) => {
            Err(Error::bad_body("The value of slow_mode is not a whole number from 0 to 3600."))
        }
    }
}

#[inline(never)]
fn ttl(value: &Option<FieldValue<'_>>, longest: Duration) -> Result<Option<Duration>, Error> {
    match value {
        None | Some(FieldValue::Null) => Ok(None),
        Some(FieldValue::Number(seconds)) if (TTL_MIN..=longest.as_secs()).contains(seconds) => {
            Ok(Some(Duration::from_secs(*seconds)))
        }
        Some(_) => Err(Error::bad_body(
            "The ttl is not a whole number of seconds from 60 to the server's limit.",
        )),
    }
}
