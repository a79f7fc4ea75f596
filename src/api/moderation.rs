//! Routes of moderation.
//!
//! Owns `/rooms/{room_id}/users/{user_id}` and `/rooms/{room_id}/bans`. Must not decide which session
//! may remove or ban: the domain does. The invariant: no answer has an address.

use serde::Serialize;

use super::call::{Call, Outcome};
use super::error::Error;
use super::json::{self, Confirmation, Displayed, Timestamp};
use super::query;
use crate::chat::{BanInfo, SessionKey, UserId};

/// `DELETE /rooms/{room_id}/users/{user_id}`.
pub fn remove(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let ban = query::ban(call.request)?;
    let (room, user_id) = (call.room(), UserId::parse(&call.second_segment));
    if user_id.is_some() && room.and_then(|room| call.chat.user_id(session, room)) == user_id {
        return Err(Error::bad_query("A session cannot remove itself; it can leave the room."));
    }
    let (now, by) = (call.caller.now, Some(session));
    let has_address = call.chat.remove_user(now, by, room, user_id, ban, call.sink)?;
    let asked = ban.is_some_and(|ban| ban.address);
    Ok(removed(&call.room_text(), asked.then_some(has_address)))
}

/// The answer to a removal. `address`: whether the address is banned, if the request asked for it.
pub fn removed(room_id: &str, address: Option<bool>) -> crate::http::Response {
    #[derive(Serialize)]
    struct Removed {
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<bool>,
    }
    json::response(200, &Removed { message: format!("Removed from room {room_id}"), address })
}

/// `GET /rooms/{room_id}/bans`.
pub fn bans(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    #[derive(Serialize)]
    struct Bans<'a> {
        bans: Vec<ListedBan<'a>>,
    }
    #[derive(Serialize)]
    struct ListedBan<'a> {
        user_id: Displayed<UserId>,
        user: &'a str,
        until: Timestamp,
        address: bool,
    }
    let bans = call.chat.bans(call.caller.now, session, call.room())?;
    let bans = bans.map(|BanInfo { user_id, user, until, has_address }| ListedBan {
        user_id: Displayed(user_id),
        user,
        until: Timestamp(until),
        address: has_address,
    });
    Ok(json::response(200, &Bans { bans: bans.collect() }))
}

/// `DELETE /rooms/{room_id}/bans/{user_id}`. The answer is the same if there is no such ban.
pub fn lift_ban(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let user_id = UserId::parse(&call.second_segment);
    call.chat.lift_ban(session, call.room(), user_id)?;
    Ok(json::response(200, &Confirmation { message: "Ban lifted", room_id: None }))
}
