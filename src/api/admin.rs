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
use super::room_list::RoomList;
use super::routes::{self, PARAMETERS_MAX};
use crate::chat::{Chat, Draft, RoomId, RoomKey, Sink, UserId};
use crate::clock::Now;
use crate::http::{Method, Request, Response, eq_ignore_case};

/// The request, and all state that a route of the operator may use.
pub struct AdminCall<'a> {
    pub chat: &'a mut Chat,
    pub request: &'a Request,
    pub now: Now,
    pub sink: &'a mut dyn Sink,
}

/// The answer to the operator.
pub enum AdminAnswer {
    /// A response, complete except for its framing.
    Response(Response),
    /// A response without content, and the list that becomes its content.
    Rooms(Response, RoomList),
    /// A response, and an event for every connection of a member.
    Announced(Response, Vec<u8>),
}

type Segments<'a> = [Cow<'a, str>; PARAMETERS_MAX];
type AdminRoute = fn(&mut AdminCall<'_>, Segments<'_>) -> Result<AdminAnswer, Error>;

/// The routes, apart from the metrics. `GET` also serves `HEAD`.
const ROUTES: &[(Method, &str, AdminRoute)] = &[
    (Method::Get, "/rooms", rooms),
    (Method::Delete, "/rooms/{room_id}", delete_room),
    (Method::Delete, "/rooms/{room_id}/users/{user_id}", remove_user),
    (Method::Post, "/announcements", announce),
];

/// Answers a request on the operator's listener.
pub fn answer(call: &mut AdminCall<'_>) -> Result<AdminAnswer, Error> {
    check_sender(call.request)?;
    let asked = match call.request.method() {
        Method::Head => Method::Get,
        method => method,
    };
    let mut allow = None;
    for (method, path, serve) in ROUTES {
        let Some(segments) = routes::match_pattern(call.request.path(), path) else { continue };
        if asked == *method {
            check_content_type(call.request)?;
            return serve(call, segments);
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

/// `GET /rooms`.
fn rooms(call: &mut AdminCall<'_>, _: Segments<'_>) -> Result<AdminAnswer, Error> {
    check_ignored_body(call.request)?;
    let response = Response { is_stream: true, ..json::response_of(200, Vec::new()) };
    Ok(match call.request.method() {
        Method::Head => AdminAnswer::Response(response),
        _ => AdminAnswer::Rooms(response, RoomList::default()),
    })
}

/// `DELETE /rooms/{room_id}`.
fn delete_room(call: &mut AdminCall<'_>, [id, _]: Segments<'_>) -> Result<AdminAnswer, Error> {
    check_ignored_body(call.request)?;
    let (room, id) = named(call, &id);
    call.chat.delete_any_room(call.now, room, call.sink)?;
    Ok(AdminAnswer::Response(confirm(&format!("Room {id} deleted"))))
}

/// `DELETE /rooms/{room_id}/users/{user_id}`.
fn remove_user(call: &mut AdminCall<'_>, [id, user]: Segments<'_>) -> Result<AdminAnswer, Error> {
    check_ignored_body(call.request)?;
    let ban = query::ban(call.request)?;
    let ((room, id), user_id) = (named(call, &id), UserId::parse(&user));
    let has_address = call.chat.remove_user(call.now, None, room, user_id, ban, call.sink)?;
    let asked = ban.is_some_and(|ban| ban.address);
    Ok(AdminAnswer::Response(moderation::removed(&id, asked.then_some(has_address))))
}

/// `POST /announcements`.
fn announce(call: &mut AdminCall<'_>, _: Segments<'_>) -> Result<AdminAnswer, Error> {
    let fields = object::body_fields(call.request.body(), ["message"]);
    let fields = fields.ok().flatten();
    let [message] = fields.ok_or_else(|| Error::bad_body("The body is not a JSON object."))?;
    let message = message.and_then(FieldValue::text).ok_or_else(|| {
        Error::new(Code::BadMessage, "The field `message` is missing or not a string.")
    })?;
    let message = Draft::new(&message, None)?.text();
    let event = json::announcement(message, call.now.wall);
    Ok(AdminAnswer::Announced(confirm("Announced"), event))
}

fn confirm(message: &str) -> Response {
    json::confirmation(message)
}

/// The room that a path names, and its id as an answer shows it.
fn named(call: &AdminCall<'_>, segment: &str) -> (Option<RoomKey>, String) {
    let id = RoomId::parse(segment);
    let room = id.and_then(|id| call.chat.room(id));
    (room, id.map(|id| id.to_string()).unwrap_or_default())
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
