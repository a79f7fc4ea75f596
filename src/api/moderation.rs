//! Routes of moderation.
//!
//! Owns `/rooms/{room_id}/users/{user_id}` and `/rooms/{room_id}/bans`. Must not decide which session
//! may remove or ban: the domain does. The invariant: no answer has an address.

use super::call::{Call, Outcome};
use super::error::Error;
use super::json::{self, Confirmation, Displayed, Timestamp};
use super::query;
use crate::chat::{SessionKey, UserId};
use crate::http::Response;

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
pub fn removed(room_id: &str, address: Option<bool>) -> Response {
    let message = format!("Removed from room {room_id}");
    json::response(200, &Confirmation { message: &message, address, ..Confirmation::default() })
}

/// `GET /rooms/{room_id}/bans`.
pub fn bans(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let bans = call.chat.bans(call.caller.now, session, call.room())?;
    let mut out = b"{\"bans\":[".to_vec();
    for (n, ban) in bans.enumerate() {
        out.extend_from_slice(if n > 0 { b",{\"user_id\":" } else { b"{\"user_id\":" });
        json::write(&mut out, &Displayed(ban.user_id));
        out.extend_from_slice(b",\"user\":");
        json::write(&mut out, &ban.user);
        out.extend_from_slice(b",\"until\":");
        json::write(&mut out, &Timestamp(ban.until));
        out.extend_from_slice(b",\"address\":");
        json::write(&mut out, &ban.has_address);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(json::response_of_text(200, out))
}

/// `DELETE /rooms/{room_id}/bans/{user_id}`. The answer is the same if there is no such ban.
pub fn lift_ban(call: &mut Call<'_>, session: SessionKey) -> Outcome {
    let user_id = UserId::parse(&call.second_segment);
    call.chat.lift_ban(call.caller.now, session, call.room(), user_id)?;
    Ok(json::confirmation("Ban lifted"))
}
