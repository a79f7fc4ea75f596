//! The table of routes, and the lookup of a request's route.
//!
//! Owns which paths and methods exist, and the checks that come before a route's own work. Must not
//! know what that work is. The invariant: [`ROUTES`] has every path of the API with all its methods
//! but HEAD and OPTIONS, so the documents can be checked against this table.

use std::borrow::Cow;

use BodyUse::{Ignored, Read};
use Endpoint::{Bearer, Events, Plain, Public, Session, Socket, Static};
use Method::{Delete, Get, Patch, Post};

use super::call::{Call, Step, check_ignored_body};
use super::error::{Code, Error};
use super::upgrade::UpgradeRequest;
use super::{credential, events, files, health, messages, moderation, rooms, sessions};
use crate::chat::{Command, RoomId, SessionCommand, SessionId};
use crate::http::{Method, Request, Response, percent_decode};
use crate::web::{self, File};

/// One method of one path of the contract.
pub struct Route {
    /// A name in braces, such as `{room_id}`, matches any single segment that is not empty.
    pub path: &'static str,
    /// `GET` also serves `HEAD`.
    pub method: Method,
    pub endpoint: Endpoint,
    pub body: BodyUse,
}

/// The credentials that a route needs, and the function that reads its requests, or the file that
/// answers them.
#[derive(Clone, Copy)]
pub enum Endpoint {
    /// No credentials, and nothing of the domain.
    Plain(fn(&Call<'_>) -> Result<Response, Error>),
    /// No credentials.
    Public(for<'a> fn(&Call<'a>) -> Result<Command<'a>, Error>),
    /// The id of a session that exists.
    Session(for<'a> fn(&Call<'a>) -> Result<SessionCommand<'a>, Error>),
    /// A well-formed id of a session, which may have ended.
    Bearer(fn(SessionId) -> Command<'static>),
    /// No credentials at this point: the connection becomes a WebSocket, and a close reports any
    /// refusal of the domain (contract §5.7).
    Socket,
    /// The id of a session that exists, in the query if there is no `Authorization`: the response is an
    /// event stream.
    Events,
    /// No credentials.
    Static(&'static File),
}

/// What a route does with the request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyUse {
    /// The body must be empty or a JSON object, and is ignored (contract §1.8).
    Ignored,
    Read,
}

const fn route(method: Method, path: &'static str, endpoint: Endpoint, body: BodyUse) -> Route {
    Route { path, method, endpoint, body }
}

/// All routes. A fixed path that matches the pattern of another route must precede that route, and
/// the methods of one path follow one another.
pub const ROUTES: &[Route] = &[
    route(Post, "/sessions", Public(sessions::open), Read),
    route(Get, "/sessions/me", Session(sessions::show), Ignored),
    route(Delete, "/sessions/me", Bearer(sessions::end), Ignored),
    route(Post, "/rooms", Session(rooms::open), Read),
    route(Get, "/rooms", Session(rooms::joined), Ignored),
    route(Get, "/rooms/all", Public(rooms::all), Ignored),
    route(Get, "/rooms/{room_id}", Public(rooms::show), Ignored),
    route(Patch, "/rooms/{room_id}", Session(rooms::change), Read),
    route(Delete, "/rooms/{room_id}", Session(rooms::delete), Ignored),
    route(Post, "/rooms/{room_id}/join", Session(rooms::join), Read),
    route(Delete, "/rooms/{room_id}/leave", Session(rooms::leave), Ignored),
    route(Get, "/rooms/{room_id}/messages", Session(messages::list), Ignored),
    route(Post, "/rooms/{room_id}/messages", Session(messages::post), Read),
    route(Delete, "/rooms/{room_id}/messages/{message_id}", Session(messages::delete), Ignored),
    route(Get, "/rooms/{room_id}/users", Session(rooms::users), Ignored),
    route(Get, "/rooms/{room_id}/events", Events, Ignored),
    route(Post, "/rooms/{room_id}/typing", Session(events::typing), Ignored),
    route(Delete, "/rooms/{room_id}/users/{user_id}", Session(moderation::remove), Ignored),
    route(Get, "/rooms/{room_id}/bans", Session(moderation::bans), Ignored),
    route(Delete, "/rooms/{room_id}/bans/{user_id}", Session(moderation::lift_ban), Ignored),
    route(Get, "/ws/{room_id}", Socket, Ignored),
    route(Get, "/health", Public(health::health), Ignored),
    route(Get, "/ping", Plain(health::ping), Ignored),
    route(Get, "/", Static(&web::PAGE), Ignored),
    route(Get, "/page/{file}", Plain(files::page_part), Ignored),
    route(Get, "/client.js", Static(&web::CLIENT), Ignored),
    route(Get, "/sw.js", Static(&web::WORKER), Ignored),
    route(Get, "/client.d.ts", Static(&web::CLIENT_TYPES), Ignored),
    route(Get, "/openapi.json", Static(&web::OPENAPI), Ignored),
    route(Get, "/asyncapi.json", Static(&web::ASYNCAPI), Ignored),
    route(Get, "/docs", Static(&web::DOCS), Ignored),
    route(Get, "/docs.js", Static(&web::DOCS_SCRIPT), Ignored),
    route(Get, "/docs.css", Static(&web::DOCS_STYLE), Ignored),
    route(Get, "/docs/{file}", Plain(files::docs_file), Ignored),
];

/// The path of [`ROUTES`] that a request's path matches.
pub struct PathMatch<'a> {
    path: &'static str,
    /// [`ROUTES`] from the first method of that path on.
    routes: &'static [Route],
    /// The decoded segments that the braces matched, in their order; empty if there are fewer.
    pub segments: [Cow<'a, str>; PARAMETERS_MAX],
}

/// Finds the routes of a path. Segments are decoded after splitting, so that `%2F` does not
/// separate segments. Empty segments are ignored (contract §1.6, §1.26).
pub fn match_path(path: &str) -> Option<PathMatch<'_>> {
    let (mut segments, count) = decoded(path)?;
    let segments = &mut segments[..count];
    let first = segments.first().and_then(|segment| segment.as_bytes().first().copied());
    for (n, route) in ROUTES.iter().enumerate() {
        // No path begins with braces, so most are told by the first character.
        if route.path.as_bytes().get(1).copied() != first {
            continue;
        }
        if let Some(parameters) = matches(route.path, segments) {
            let segments = parameters.map(|parameter| {
                segments.get_mut(parameter).map(std::mem::take).unwrap_or_default()
            });
            return Some(PathMatch { path: route.path, routes: &ROUTES[n..], segments });
        }
    }
    None
}

impl PathMatch<'_> {
    /// The route for `method`, or 405 (contract §4.1).
    pub fn route(&self, method: Method) -> Result<&'static Route, Error> {
        let method = if method == Method::Head { Get } else { method };
        self.rows().find(|route| route.method == method).ok_or_else(|| {
            let error =
                Error::new(Code::MethodNotAllowed, "This path does not support this method.");
            error.with("Allow", self.allow())
        })
    }

    /// The value of `Allow` (RFC 9110 §10.2.1): the methods that the path supports.
    pub fn allow(&self) -> String {
        let mut allow = String::new();
        for route in self.rows() {
            allow.push_str(match route.method {
                Method::Get => "GET, HEAD, ",
                Method::Post => "POST, ",
                Method::Patch => "PATCH, ",
                Method::Delete => "DELETE, ",
                // No route has these methods.
                Method::Head | Method::Options | Method::Other => "",
            });
        }
        allow + "OPTIONS"
    }

    fn rows(&self) -> impl Iterator<Item = &'static Route> {
        self.routes.iter().take_while(|route| route.path == self.path)
    }
}

impl Route {
    /// Reads a request: checks the form of its credentials and its body, in the order of contract
    /// §1.11.
    pub fn ask<'a>(&self, call: &Call<'a>) -> Result<Step<'a>, Error> {
        let request = call.request;
        Ok(match self.endpoint {
            Plain(answer) => {
                self.check_body(request)?;
                Step::Respond(answer(call)?)
            }
            Public(ask) => {
                self.check_body(request)?;
                Step::Run(ask(call)?)
            }
            Session(ask) => {
                let id = credential::bearer(request)?;
                match self.check_body(request).and_then(|()| ask(call)) {
                    Ok(command) => Step::Run(Command::Of(id, command)),
                    Err(error) => Step::Refuse(id, error),
                }
            }
            Bearer(ask) => {
                let id = credential::bearer(request)?;
                self.check_body(request)?;
                Step::Run(ask(id))
            }
            Static(file) => {
                self.check_body(request)?;
                Step::Respond(files::response(request, file))
            }
            Events => events::begin(call)?,
            Socket => {
                self.check_body(request)?;
                Step::Upgrade(UpgradeRequest::of(request, &call.segment))
            }
        })
    }

    fn check_body(&self, request: &Request) -> Result<(), Error> {
        if self.body == Read { Ok(()) } else { check_ignored_body(request) }
    }
}

/// The room that a request's path names.
pub fn room_of(path: &str) -> Option<RoomId> {
    let [first, _] = match_path(path)?.segments;
    RoomId::parse(&first)
}

/// Whether `path` is `expected`, which has no parameter.
pub fn is_path(path: &str, expected: &str) -> bool {
    decoded(path).is_some_and(|(segments, count)| matches(expected, &segments[..count]).is_some())
}

/// The decoded segments that the braces of `pattern` match, if `path` matches it.
pub fn match_pattern<'a>(path: &'a str, pattern: &str) -> Option<[Cow<'a, str>; PARAMETERS_MAX]> {
    let (mut segments, count) = decoded(path)?;
    let parameters = matches(pattern, &segments[..count])?;
    Some(parameters.map(|parameter| {
        segments[..count].get_mut(parameter).map(std::mem::take).unwrap_or_default()
    }))
}

/// Upper bound on the segments of a route.
const SEGMENTS_MAX: usize = 4;

/// Upper bound on the segments in braces of a route.
pub const PARAMETERS_MAX: usize = 2;

/// The decoded segments of a path, and how many there are: at least one, which is empty for the
/// root. `None`: more than any route has.
fn decoded(path: &str) -> Option<([Cow<'_, str>; SEGMENTS_MAX], usize)> {
    let mut segments = [const { Cow::Borrowed("") }; SEGMENTS_MAX];
    let mut count = 0;
    for segment in split(path) {
        *segments.get_mut(count)? = decode(segment);
        count += 1;
    }
    Some((segments, count.max(1)))
}

/// The segments of a path that are not empty. The root has none.
///
/// Slashes are skipped byte by byte: a path can have 8,000 of them, and `str::split` searches anew
/// for each.
fn split(mut path: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let start = path.bytes().position(|byte| byte != b'/')?;
        let rest = &path[start..];
        let (segment, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        path = after;
        Some(segment)
    })
}

/// Decodes a segment. A segment with a malformed escape stays as it is, so it equals no fixed
/// segment and no id.
fn decode(segment: &str) -> Cow<'_, str> {
    percent_decode(segment).unwrap_or(Cow::Borrowed(segment))
}

/// Whether the segments are those of a path of [`ROUTES`]. Returns the indices of those that braces
/// match, and the number of segments in place of an index that the path does not have.
///
/// The segments are taken off the front of `pattern`, which is not split: most patterns differ in
/// their first segment, and are left after one comparison.
fn matches(pattern: &str, segments: &[Cow<'_, str>]) -> Option<[usize; PARAMETERS_MAX]> {
    let (mut rest, mut parameters, mut found) = (pattern, [segments.len(); PARAMETERS_MAX], 0);
    for (index, segment) in segments.iter().enumerate() {
        rest = rest.strip_prefix('/')?;
        if rest.starts_with('{') && !segment.is_empty() {
            *parameters.get_mut(found)? = index;
            found += 1;
            rest = &rest[rest.find('/').unwrap_or(rest.len())..];
        } else {
            // A slash inside a segment was escaped, so it separates nothing.
            rest = rest.strip_prefix(&**segment).filter(|_| !segment.contains('/'))?;
        }
    }
    rest.is_empty().then_some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<(&str, &str)>) {
        let found = match_path(path);
        let found = found.as_ref().map(|found| (found.path, &*found.segments[0]));
        assert_eq!(found, expected, "{path}");
    }

    // contract §1.6 §1.26
    #[test]
    fn empty_segments_make_no_difference() {
        for path in
            ["/rooms", "/rooms/", "/%72ooms", "/r%6Foms/", "//rooms", "/rooms//", "///rooms///"]
        {
            check(path, Some(("/rooms", "")));
        }
        let root = "/".repeat(8000);
        for path in ["/", "", "//", &root] {
            check(path, Some(("/", "")));
        }
        for path in ["/rooms/a/join", "//rooms/a//join/", "/rooms///a/join//", "rooms/a/join"] {
            check(path, Some(("/rooms/{room_id}/join", "a")));
        }
        check("/rooms//join", Some(("/rooms/{room_id}", "join")));
        check(&format!("{root}/rooms{root}/all{root}"), Some(("/rooms/all", "")));
        assert!(is_path("//health", "/health") && is_path("//", "/") && !is_path("//", "/health"));
        for path in ["/Rooms", "/rooms%2F", "/%2Frooms", "/x", "//x", "/rooms/./all", "/rooms/.."] {
            assert_ne!(match_path(path).map(|found| found.path), Some("/rooms"), "{path}");
        }
        for path in ["/room", "/roomsall", "/rooms%2Fall", "/rooms/a%2Fjoin/b", "/docs%2Fa"] {
            check(path, None);
        }
        check("/rooms/{room_id}", Some(("/rooms/{room_id}", "{room_id}")));
        check("/rooms/a/dance", None);
        check(&"/a".repeat(4000), None);
    }

    #[test]
    fn segments_are_decoded_one_by_one() {
        check("/rooms/%61%2Fjoin", Some(("/rooms/{room_id}", "a/join")));
        check("/rooms/%zz", Some(("/rooms/{room_id}", "%zz")));
        check("/rooms/%ff/join", Some(("/rooms/{room_id}/join", "%ff")));
        check("/rooms/all", Some(("/rooms/all", "")));
        check("/rooms/%61ll", Some(("/rooms/all", "")));
        check("/rooms/all/join", Some(("/rooms/{room_id}/join", "all")));
        check("/ws/a1b2c3d4e5", Some(("/ws/{room_id}", "a1b2c3d4e5")));
    }

    #[test]
    fn a_pattern_may_have_two_parameters() {
        let check = |pattern, path, expected: Option<[&str; PARAMETERS_MAX]>| {
            let (segments, count) = decoded(path).unwrap();
            let found = matches(pattern, &segments[..count]);
            let found = found.map(|found| {
                found.map(|index| segments[..count].get(index).map_or("", |segment| segment))
            });
            assert_eq!(found, expected, "{path}");
        };
        let pattern = "/rooms/{room_id}/users/{user_id}";
        check(pattern, "/rooms/a/users/%62%2F", Some(["a", "b/"]));
        check(pattern, "/rooms/a/users/b/", Some(["a", "b"]));
        check(pattern, "/rooms//users/b", None);
        check(pattern, "//rooms/a//users/b//", Some(["a", "b"]));
        check(pattern, "/rooms/a/users", None);
        check(pattern, "/rooms/a/bans/b", None);
        check("/rooms/{room_id}/users", "/rooms/a/users", Some(["a", ""]));
        check("/{a}/{b}/{c}", "/a/b/c", None);
    }

    #[test]
    fn every_route_is_reachable_and_unique() {
        for (n, route) in ROUTES.iter().enumerate() {
            assert!(
                matches!(route.method, Get | Post | Patch | Delete),
                "{}: not a method of a row",
                route.path
            );
            assert!(split(route.path).count() <= SEGMENTS_MAX, "{}", route.path);
            assert!(route.path.matches('{').count() <= PARAMETERS_MAX, "{}", route.path);
            assert!(!route.path.starts_with("/{"), "{}", route.path);
            assert_eq!(
                match_path(route.path).map(|found| found.path),
                Some(route.path),
                "unreachable"
            );
            let same = |other: &&Route| other.path == route.path && other.method == route.method;
            assert!(!ROUTES.iter().skip(n + 1).any(|other| same(&other)), "{} twice", route.path);
            let found = match_path(route.path).unwrap();
            assert!(found.rows().any(|row| same(&row)), "{} is not beside its path", route.path);
        }
    }

    // contract §4.1
    #[test]
    fn a_wrong_method_gets_405_with_allow() {
        let allow = |path| match_path(path).unwrap().allow();
        assert_eq!(allow("/sessions"), "POST, OPTIONS");
        assert_eq!(allow("/sessions/me"), "GET, HEAD, DELETE, OPTIONS");
        assert_eq!(allow("/rooms"), "POST, GET, HEAD, OPTIONS");
        assert_eq!(allow("/rooms/all"), "GET, HEAD, OPTIONS");
        let found = match_path("/rooms/all").unwrap();
        assert!(found.route(Method::Head).is_ok());
        assert_eq!(found.route(Delete).err().unwrap().code, Code::MethodNotAllowed);
        assert_eq!(found.route(Method::Other).err().unwrap().code, Code::MethodNotAllowed);
    }
}
