//! CORS: which origins' pages may read answers and open sockets.
//!
//! Owns the fields of CORS (<https://fetch.spec.whatwg.org/#http-cors-protocol>). Must not know
//! what an answer contains. The invariant: every answer has `Vary: Origin`, even the answer to a
//! request without an origin. Otherwise a cache could give one origin the answer for another.

use crate::http::{Method, Request, Response, ResponseField, eq_ignore_case};

/// The allowed origins (contract §1.21 to §1.25).
pub struct Cors {
    /// In lower case. Empty: any origin is allowed.
    origins: Vec<String>,
}

/// The origin of the page that sent a request.
enum Origin<'a> {
    /// There is no `Origin`: the client is not a browser, or the page has the server's own origin.
    Absent,
    Allowed(&'a str),
    Foreign,
}

impl Cors {
    /// `origins` are the allowed origins in lower case, in the form that browsers send. Empty: any
    /// origin.
    pub fn new(origins: Vec<String>) -> Cors {
        Cors { origins }
    }

    /// Whether the page that sent the request may open a socket. Browsers do not restrict sockets
    /// by origin, so the server must (RFC 6455 §10.2).
    pub fn allows(&self, request: &Request) -> bool {
        !matches!(self.origin(request), Origin::Foreign)
    }

    /// Adds the fields of CORS to the answer to `request`, including a 101. `request` is `None` if
    /// its head could not be parsed.
    pub fn add_fields(&self, request: Option<&Request>, fields: &mut Vec<ResponseField>) {
        const ALLOW: &str = "Access-Control-Allow-Origin";
        match request.map(|request| self.origin(request)) {
            Some(Origin::Allowed(origin)) => {
                const EXPOSED: &str = "Location, Retry-After, WWW-Authenticate";
                fields.push((ALLOW, origin.to_owned().into()));
                fields.push(("Access-Control-Allow-Credentials", "true".into()));
                fields.push(("Access-Control-Expose-Headers", EXPOSED.into()));
            }
            // The origin is unknown, but all origins are allowed, so any page may read the error.
            None if self.origins.is_empty() => fields.push((ALLOW, "*".into())),
            Some(Origin::Absent | Origin::Foreign) | None => {}
        }
        // `Vary` stays one line, because nginx before 1.23 reads only the last `Vary` line.
        match fields.iter_mut().find(|(name, _)| *name == "Vary") {
            Some((_, list)) => list.to_mut().push_str(", Origin"),
            None => fields.push(("Vary", "Origin".into())),
        }
    }

    /// The answer to a preflight, without [`Cors::add_fields`]. `None` if `request` is not a preflight.
    pub fn preflight(&self, request: &Request) -> Option<Response> {
        const REQUEST_METHOD: &str = "Access-Control-Request-Method";
        if request.method() != Method::Options || request.fields(REQUEST_METHOD).next().is_none() {
            return None;
        }
        let response = Response::new(204);
        if !self.allows(request) {
            return Some(response);
        }
        let response = response
            .with("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
            .with("Access-Control-Allow-Headers", "Authorization, Content-Type")
            .with("Access-Control-Max-Age", "86400");
        Some(response)
    }

    fn origin<'a>(&self, request: &'a Request) -> Origin<'a> {
        if request.fields("Origin").next().is_none() {
            return Origin::Absent;
        }
        let origin = request.field("Origin").and_then(|value| std::str::from_utf8(value).ok());
        self.classify(origin, request.host())
    }

    /// `origin` is `None` if the field is repeated or not UTF-8.
    fn classify<'a>(&self, origin: Option<&'a str>, host: &str) -> Origin<'a> {
        match origin {
            Some(origin) if !is_serialized(origin) => Origin::Foreign,
            Some(origin) if self.is_listed(origin) || is_own(origin, host) => {
                Origin::Allowed(origin)
            }
            _ => Origin::Foreign,
        }
    }

    fn is_listed(&self, origin: &str) -> bool {
        self.origins.is_empty()
            || self.origins.iter().any(|one| eq_ignore_case(origin.as_bytes(), one.as_bytes()))
    }
}

/// Whether `origin` is one serialized origin (RFC 6454 §6.2), as browsers send it, and not a list
/// of origins.
fn is_serialized(origin: &str) -> bool {
    !origin.is_empty() && origin.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// Whether `origin` is the server's own (contract §1.23). The schemes are not compared, because a
/// proxy may have terminated TLS. A port in `host` that is the default of the origin's scheme is
/// ignored.
fn is_own(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let host = host.strip_suffix(port).unwrap_or(host);
    !host.is_empty() && eq_ignore_case(authority.as_bytes(), host.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(origins: &[&str], origin: &str, host: &str, expected: bool) {
        let cors = Cors::new(origins.iter().map(|origin| (*origin).to_owned()).collect());
        let allowed = matches!(cors.classify(Some(origin), host), Origin::Allowed(_));
        assert_eq!(allowed, expected, "{origins:?} {origin} {host}");
    }

    // contract §1.21 §1.22
    #[test]
    fn any_origin_is_allowed_unless_origins_are_configured() {
        check(&[], "https://a.example", "b.example", true);
        check(&[], "null", "b.example", true);
        check(&[], "https://a.example, https://c.example", "b.example", false);
        check(&[], "", "b.example", false);
        let one = &["https://a.example"][..];
        check(one, "https://a.example", "b.example", true);
        check(one, "HTTPS://A.example", "b.example", true);
        for foreign in ["https://a.example:8443", "http://a.example", "https://x.a.example", "null"]
        {
            check(one, foreign, "b.example", false);
        }
    }

    // contract §1.23
    #[test]
    fn the_servers_own_origin_is_always_allowed() {
        let one = &["https://a.example"][..];
        check(one, "https://b.example", "b.example", true);
        check(one, "https://b.example", "B.example:443", true);
        check(one, "http://b.example", "b.example:80", true);
        check(one, "http://[::1]:8000", "[::1]:8000", true);
        check(one, "http://b.example", "b.example:443", false);
        check(one, "http://b.example:8000", "b.example", false);
        check(one, "http://b.example", "b.example:8000", false);
        check(one, "moz-extension://b.example", "b.example", false);
        check(one, "http://", "", false);
        check(one, "https://", ":443", false);
    }
}
