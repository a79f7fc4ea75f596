//! The routes of the operator, and the guards of the listeners for operators.
//!
//! Owns what a listener for the operator answers, and which requests it refuses because a page could
//! have sent them. Must not know a session: any client that reaches the listener may do all of this. The
//! invariant: no answer has fields of CORS, and no request of a browser reaches a route, whatever name
//! the page has made resolve to this machine.

use std::borrow::Cow;

use super::call::check_ignored_body;
use super::cors::is_local_host;
use super::error::{self, Code, Error};
use super::json;
use super::moderation;
use super::object::{self, FieldValue};
use super::query;
use super::routes::{self, PARAMETERS_MAX};
use crate::chat::{Command, Draft, Outcome, Refusal, RoomId, UserId};
use crate::http::{Method, Request, Response, eq_ignore_case};

/// What a request of the operator asks for.
pub enum AdminStep<'a> {
    /// A response, complete except for its framing.
    Respond(Response),
    /// A response without content, and the list of all rooms that becomes its content.
    ListRooms(Response),
    /// [`tell`] makes the answer of the outcome.
    Run(Command<'a>),
    /// A response, and a text for every connection of a member.
    Announce(Response, Cow<'a, str>),
}

type Segments<'a> = [Cow<'a, str>; PARAMETERS_MAX];
type AdminRoute = for<'a> fn(&'a Request, Segments<'_>) -> Result<AdminStep<'a>, Error>;

/// The routes, apart from the metrics. `GET` also serves `HEAD`.
const ROUTES: &[(Method, &str, AdminRoute)] = &[
    (Method::Get, "/rooms", rooms),
    (Method::Delete, "/rooms/{room_id}", delete_room),
    (Method::Delete, "/rooms/{room_id}/users/{user_id}", remove_user),
    (Method::Post, "/announcements", announce),
];

/// Reads a request on the operator's listener.
pub fn ask(request: &Request) -> Result<AdminStep<'_>, Error> {
    check_sender(request)?;
    let asked = match request.method() {
        Method::Head => Method::Get,
        method => method,
    };
    let mut allow = None;
    for (method, path, read) in ROUTES {
        let Some(segments) = routes::match_pattern(request.path(), path) else { continue };
        if asked == *method {
            check_content_type(request)?;
            return read(request, segments);
        }
        allow = Some(match method {
            Method::Get => "GET, HEAD",
            Method::Post => "POST",
            _ => "DELETE",
        });
    }
    let Some(allow) = allow else { return Err(error::no_such_path()) };
    let error = Error::new(Code::MethodNotAllowed, "This path does not support this method.");
    Err(error.with("Allow", allow))
}

/// The answer to a request whose command has had this outcome.
pub fn tell(request: &Request, outcome: Result<Outcome<'_>, Refusal>) -> Result<Response, Error> {
    let id = routes::room_of(request.path()).map(|id| id.to_string()).unwrap_or_default();
    Ok(match outcome? {
        Outcome::RoomDeleted => confirm(&format!("Room {id} deleted")),
        Outcome::Removed { address } => moderation::removed(&id, address),
        _ => return Err(error::internal()),
    })
}

/// `GET /rooms`.
fn rooms<'a>(request: &'a Request, _: Segments<'_>) -> Result<AdminStep<'a>, Error> {
    check_ignored_body(request)?;
    let response = Response { is_stream: true, ..json::response_of(200, Vec::new()) };
    Ok(match request.method() {
        Method::Head => AdminStep::Respond(response),
        _ => AdminStep::ListRooms(response),
    })
}

/// `DELETE /rooms/{room_id}`.
fn delete_room<'a>(request: &'a Request, [id, _]: Segments<'_>) -> Result<AdminStep<'a>, Error> {
    check_ignored_body(request)?;
    Ok(AdminStep::Run(Command::DeleteAnyRoom { room: RoomId::parse(&id) }))
}

/// `DELETE /rooms/{room_id}/users/{user_id}`.
fn remove_user<'a>(request: &'a Request, [id, user]: Segments<'_>) -> Result<AdminStep<'a>, Error> {
    check_ignored_body(request)?;
    let ban = query::ban(request)?;
    let (room, user_id) = (RoomId::parse(&id), UserId::parse(&user));
    Ok(AdminStep::Run(Command::RemoveAnyUser { room, user_id, ban }))
}

/// `POST /announcements`.
fn announce<'a>(request: &'a Request, _: Segments<'_>) -> Result<AdminStep<'a>, Error> {
    let mut message = None;
    let values = std::slice::from_mut(&mut message);
    if object::body_fields(request.body(), &["message"], values) != Ok(true) {
        return Err(Error::bad_body("The body is not a JSON object."));
    }
    let message = message.and_then(FieldValue::text).ok_or_else(|| {
        Error::new(Code::BadMessage, "The field `message` is missing or not a string.")
    })?;
    let text = Draft::new(&message, None)?.text().to_owned();
    Ok(AdminStep::Announce(confirm("Announced"), text.into()))
}

fn confirm(message: &str) -> Response {
    json::confirmation(message)
}

/// 403 for a request that a page may have caused (contract §16.3). A browser sends `Origin` or
/// `Sec-Fetch-Site` with what a page requests, and a page that has made its own name resolve to this
/// machine (DNS rebinding) is recognized by that name in `Host`.
pub fn check_sender(request: &Request) -> Result<(), Error> {
    let is_local = |host: &[u8]| std::str::from_utf8(host).is_ok_and(is_local_host);
    let is_direct = request.fields("Sec-Fetch-Site").all(|site| eq_ignore_case(site, b"none"));
    // An absolute-form target names the host, too, and then `Host` does not count (RFC 9112 §3.2.2).
    let target = Some(request.host().as_bytes()).filter(|host| !host.is_empty());
    let mut hosts = request.fields("Host").chain(target);
    if request.fields("Origin").next().is_some() || !is_direct || !hosts.all(is_local) {
        return Err(Error::new(
            Code::BadOrigin,
            "This listener does not answer browsers, nor requests to a host name.",
        ));
    }
    Ok(())
}

/// 422 for a body of another type, which a page could send to another site without asking (contract
/// §16.4).
pub fn check_content_type(request: &Request) -> Result<(), Error> {
    let is_json = request.field("Content-Type").is_some_and(|value| {
        let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
        eq_ignore_case(kind.trim_ascii(), b"application/json")
    });
    if request.body().is_empty() || is_json {
        return Ok(());
    }
    Err(Error::bad_body("The body must have the Content-Type application/json."))
}
