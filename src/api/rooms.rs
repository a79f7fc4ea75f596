//! Routes of rooms.
//!
//! Owns `/rooms` and the paths below it, except messages. Must not decide which session may do
//! what: the domain does, in [`Chat::gate`](crate::chat::Chat::gate). The invariant: a refused
//! request changes no room and no membership.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use super::call::Call;
use super::error::Error;
use super::json::{self, Confirmation, Displayed, RoomForm, Timestamp};
use super::listings::Listings;
use super::object::FieldValue;
use super::query;
use crate::chat::{
    Chat, Command, PASSWORD_BYTES_MAX, RoomChanges, RoomId, RoomInfo, RoomOptions, SLOW_MODE_MAX,
    SessionCommand, TTL_MIN, Title, UserId,
};
use crate::http::Response;

/// `POST /rooms`.
pub fn open<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    let mut fields =
        call.optional_fields(["title", "private", "password", "ttl", "slow_mode", "encrypted"])?;
    let [title, private, password, ttl, slow_mode, encrypted] = &mut fields;
    let options = RoomOptions {
        title: self::title(title)?.flatten(),
        private: flag(private, "The value of private is neither true nor false.")?.unwrap_or(false),
        password: self::password(password)?.flatten(),
        ttl: self::ttl(ttl, call.room_life_max)?,
        slow_mode: self::slow_mode(slow_mode)?.unwrap_or(0),
        encrypted: flag(encrypted, "The value of encrypted is neither true nor false.")?
            .unwrap_or(false),
    };
    Ok(SessionCommand::OpenRoom { options, from: call.caller.address })
}

/// The answer to [`open`].
pub fn opened(call: &Call<'_>, room: RoomId, user_id: Option<UserId>) -> Response {
    #[derive(Serialize)]
    struct OpenedRoom {
        room_id: Displayed<RoomId>,
        user_id: Option<Displayed<UserId>>,
    }
    // Relative to the request's path (RFC 3986 §5.2.3), so that it is correct behind a proxy that
    // removes a path prefix.
    let directory = if call.request.path().ends_with('/') { "" } else { "rooms/" };
    let opened = OpenedRoom { room_id: Displayed(room), user_id: user_id.map(Displayed) };
    json::response(201, &opened).with("Location", format!("{directory}{room}"))
}

/// `GET /rooms`.
pub fn joined<'a>(_: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    Ok(SessionCommand::ListJoined)
}

/// The answer to [`joined`].
pub fn list(rooms: &[RoomId]) -> Response {
    json::response_of_text(200, ids(rooms))
}

fn ids(rooms: &[RoomId]) -> Vec<u8> {
    let mut out = b"{\"rooms\":".to_vec();
    json::rooms(&mut out, rooms);
    out.push(b'}');
    out
}

/// `GET /rooms/all`.
pub fn all<'a>(call: &Call<'a>) -> Result<Command<'a>, Error> {
    query::detail(call.request)?;
    Ok(Command::ListRooms)
}

/// The answer to [`all`].
pub fn listing(call: &Call<'_>, listings: &mut Listings, chat: &Chat) -> Result<Response, Error> {
    #[derive(Serialize)]
    struct ListedRoom<'a> {
        room_id: Displayed<RoomId>,
        title: Option<&'a str>,
        user_count: usize,
        created_at: Timestamp,
    }
    #[derive(Serialize)]
    struct Rooms<I: Iterator<Item: Serialize> + Clone> {
        #[serde(serialize_with = "json::sequence")]
        rooms: I,
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
    let listing = listings.get_or_render(chat.listing_revision(), detail, || {
        let rooms = chat.public_rooms();
        if detail {
            json::bytes(&Rooms { rooms: rooms.map(ListedRoom::of) })
        } else {
            ids(&rooms.map(|room| room.id).collect::<Vec<_>>())
        }
    });
    Ok(json::response_of(200, vec![listing]))
}

/// `GET /rooms/{room_id}`.
pub fn show<'a>(call: &Call<'a>) -> Result<Command<'a>, Error> {
    Ok(Command::ShowRoom { room: call.room() })
}

/// The answer to [`show`] and [`change`].
pub fn shown(info: &RoomInfo<'_>) -> Response {
    let mut out = Vec::new();
    json::room(&mut out, info, RoomForm::Outside);
    json::response_of_text(200, out)
}

/// `PATCH /rooms/{room_id}`. For the title and the password, `null` means none; for the other fields
/// it counts as absent.
pub fn change<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    let mut fields = call.optional_fields(["title", "password", "locked", "slow_mode", "owner"])?;
    let [title, password, locked, slow_mode, owner] = &mut fields;
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
    Ok(SessionCommand::ChangeRoom { room: call.room(), changes })
}

/// `DELETE /rooms/{room_id}`.
pub fn delete<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    Ok(SessionCommand::DeleteRoom { room: call.room() })
}

/// The answer to [`delete`].
pub fn deleted(call: &Call<'_>) -> Response {
    json::confirmation(&format!("Room {} deleted", call.room_text()))
}

/// `POST /rooms/{room_id}/join`.
pub fn join<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    let [mut password] = call.optional_fields(["password"])?;
    let password = self::password(&mut password)?.flatten();
    Ok(SessionCommand::Join { room: call.room(), password, from: call.caller.address })
}

/// The answer to [`join`].
pub fn has_joined(call: &Call<'_>, user_id: Option<UserId>) -> Response {
    let room_id = call.room_text();
    let message = format!("Joined room {room_id}");
    let confirmation = Confirmation {
        message: &message,
        room_id: Some(&room_id),
        user_id: user_id.map(Displayed),
        address: None,
    };
    json::response(200, &confirmation)
}

/// `DELETE /rooms/{room_id}/leave`. The answer is the same if the session had not joined or the room
/// does not exist (contract §2.9).
pub fn leave<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    Ok(SessionCommand::Leave { room: call.room() })
}

/// The answer to [`leave`].
pub fn has_left(call: &Call<'_>) -> Response {
    json::confirmation(&format!("Left room {}", call.room_text()))
}

/// `GET /rooms/{room_id}/users`.
pub fn users<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    Ok(SessionCommand::ListPeople { room: call.room(), from: call.caller.address })
}

/// The answer to [`users`].
pub fn present(people: &[(UserId, &str)]) -> Response {
    let mut out = b"{\"users\":".to_vec();
    json::list(&mut out, usize::MAX, people);
    out.push(b'}');
    json::response_of_text(200, out)
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
fn password<'a>(value: &mut Option<FieldValue<'a>>) -> Result<Option<Option<Cow<'a, str>>>, Error> {
    match value {
        None => Ok(None),
        Some(FieldValue::Null) => Ok(Some(None)),
        Some(FieldValue::Text(text)) if (1..=PASSWORD_BYTES_MAX).contains(&text.len()) => {
            Ok(Some(Some(std::mem::take(text))))
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
