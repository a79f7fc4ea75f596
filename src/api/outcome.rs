//! The answers to requests, from the outcomes of their commands.
//!
//! Owns the match of outcomes to the routes that have their forms. Must not know whether the domain
//! has carried out the command at once or in an earlier tick. The invariant: each outcome has one
//! form, in one exhaustive match.

use super::call::{Answer, Call, Step};
use super::error::{self, Error};
use super::listings::Listings;
use super::routes::Route;
use super::{events, health, messages, moderation, rooms, sessions};
use crate::chat::Outcome;
use crate::http::Response;

/// The answer to the request of `call`, which `route` has read.
pub fn answer(
    route: &Route,
    call: &Call<'_>,
    listings: &mut Listings,
    outcome: Outcome<'_>,
) -> Result<Answer, Error> {
    Ok(Answer::Response(match outcome {
        Outcome::Counts { sessions, rooms } => health::counts(call.caller, sessions, rooms),
        Outcome::Listing(chat) => rooms::listing(call, listings, chat)?,
        Outcome::Room(info) => rooms::shown(&info),
        Outcome::SessionOpened { id, name } => sessions::opened(id, &name),
        Outcome::SessionEnded => sessions::ended(),
        Outcome::Session => {
            return Err(match route.ask(call) {
                Ok(Step::Refuse(_, error)) => error,
                _ => error::internal(),
            });
        }
        Outcome::SessionShown { id, name, rooms } => sessions::shown(id, name, &rooms),
        Outcome::Rooms(rooms) => rooms::list(&rooms),
        Outcome::RoomOpened { room, user_id } => rooms::opened(call, room, user_id),
        Outcome::RoomDeleted => rooms::deleted(call),
        Outcome::Joined { user_id } => rooms::has_joined(call, user_id),
        Outcome::Left => rooms::has_left(call),
        Outcome::Messages { chat, reading } => return messages::listed(call, chat, reading),
        Outcome::Posted { room, message, is_new } => {
            return Ok(messages::posted(room, &message, is_new));
        }
        Outcome::MessageDeleted => messages::deleted(),
        Outcome::People(people) => rooms::present(&people),
        Outcome::Typed => Response::new(204),
        Outcome::Removed { address } => moderation::removed(&call.room_text(), address),
        Outcome::Bans(bans) => moderation::banned(&bans),
        Outcome::BanLifted => moderation::ban_lifted(),
        Outcome::Access { session, room } => return events::granted(call, session, room),
    }))
}
