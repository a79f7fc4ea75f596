//! Routes of moderation.
//!
//! Owns `/rooms/{room_id}/users/{user_id}` and `/rooms/{room_id}/bans`. Must not decide which session
//! may remove or ban: the domain does. The invariant: no answer has an address.

use super::call::Call;
use super::error::Error;
use super::json::{self, Confirmation, Displayed, Timestamp};
use super::query;
use crate::chat::{BanInfo, SessionCommand, UserId};
use crate::http::Response;

/// `DELETE /rooms/{room_id}/users/{user_id}`.
pub fn remove<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    let ban = query::ban(call.request)?;
    let (room, user_id) = (call.room(), UserId::parse(&call.second_segment));
    Ok(SessionCommand::RemoveUser { room, user_id, ban })
}

/// The answer to a removal. `address`: whether the address is banned, if the request asked for it.
pub fn removed(room_id: &str, address: Option<bool>) -> Response {
    let message = format!("Removed from room {room_id}");
    json::response(200, &Confirmation { message: &message, address, ..Confirmation::default() })
}

/// `GET /rooms/{room_id}/bans`.
pub fn bans<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    Ok(SessionCommand::ListBans { room: call.room() })
}

/// The answer to [`bans`].
pub fn banned(bans: &[BanInfo<'_>]) -> Response {
    let mut out = b"{\"bans\":[".to_vec();
    for (n, ban) in bans.iter().enumerate() {
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
    json::response_of_text(200, out)
}

/// `DELETE /rooms/{room_id}/bans/{user_id}`. The answer is the same if there is no such ban.
pub fn lift_ban<'a>(call: &Call<'a>) -> Result<SessionCommand<'a>, Error> {
    let user_id = UserId::parse(&call.second_segment);
    Ok(SessionCommand::LiftBan { room: call.room(), user_id })
}

/// The answer to [`lift_ban`].
pub fn ban_lifted() -> Response {
    json::confirmation("Ban lifted")
}
