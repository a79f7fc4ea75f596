//! CORS: which origins' pages may read answers and open sockets.
//!
//! Owns the fields of CORS (<https://fetch.spec.whatwg.org/#http-cors-protocol>). Must not know
//! what an answer contains. The invariant: every answer has `Vary: Origin`, even the answer to a
//! request without an origin. Otherwise a cache could give one origin the answer for another.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};

use log::warn;

use crate::http::{Method, Request, Response, ResponseField, eq_ignore_case};

/// The allowed origins (contract §1.21 to §1.25, §1.36, §1.37).
pub struct Cors {
    /// In lower case. Empty: any origin is allowed.
    origins: Vec<String>,
    /// Whether a page of the server's own host was refused, so that the log names the flag once.
    is_hinted: Cell<bool>,
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
        Cors { origins, is_hinted: Cell::new(false) }
    }

    /// Whether the page that sent the request may open a socket. Browsers do not restrict sockets
    /// by origin, so the server must (RFC 6455 §10.2).
    pub fn allows(&self, request: &Request) -> bool {
        !matches!(self.origin(request), Origin::Foreign)
    }

    /// Adds the fields of CORS to the answer to `request`, including a 101. `request` is `None` if
    /// its head could not be parsed.
    pub fn add_fields(&self, request: Option<&Request>, fields: &mut Vec<ResponseField>) {
        let allowed = match request.map(|request| self.origin(request)) {
            Some(Origin::Allowed(origin)) => {
                fields.push(("Access-Control-Allow-Credentials", "true".into()));
                Some(origin.to_owned().into())
            }
            // The origin is unknown, but all origins are allowed, so any page may read the error.
            None if self.origins.is_empty() => Some("*".into()),
            Some(Origin::Absent | Origin::Foreign) | None => None,
        };
        if let Some(allowed) = allowed {
            const EXPOSED: &str = "Location, Retry-After, WWW-Authenticate";
            fields.push(("Access-Control-Allow-Origin", allowed));
            fields.push(("Access-Control-Expose-Headers", EXPOSED.into()));
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
            .with("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
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
        let Some(origin) = origin.filter(|origin| is_serialized(origin)) else {
            return Origin::Foreign;
        };
        if self.is_listed(origin) {
            return Origin::Allowed(origin);
        }
        let Some(host) = own_host(origin, host) else { return Origin::Foreign };
        if self.is_safe(host) {
            return Origin::Allowed(origin);
        }
        if !self.is_hinted.replace(true) {
            warn!(
                "a page of the server's own host was refused; if {host} is its name, \
                 add --cors-origin {origin}"
            );
        }
        Origin::Foreign
    }

    fn is_listed(&self, origin: &str) -> bool {
        self.origins.is_empty()
            || self.origins.iter().any(|one| eq_ignore_case(origin.as_bytes(), one.as_bytes()))
    }

    /// Whether a `Host` with this host says that the page is the server's own. The owner of any other
    /// name can have it resolve to the server's address (DNS rebinding), and then its pages send that
    /// name.
    fn is_safe(&self, host: &str) -> bool {
        let has_host = |one: &String| {
            let authority = split_scheme(one).map(|(_, authority)| authority);
            authority.is_some_and(|one| is_same(split_port(one).0, host))
        };
        is_local_name(host) || self.origins.iter().any(has_host)
    }
}

/// Whether `origin` is one serialized origin (RFC 6454 §6.2), as browsers send it, and not a list
/// of origins.
fn is_serialized(origin: &str) -> bool {
    !origin.is_empty() && origin.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// The scheme and the authority of an origin.
fn split_scheme(origin: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = origin.split_once(':')?;
    Some((scheme, rest.strip_prefix("//")?))
}

/// The host of `origin`, if it is the host of the request, too (contract §1.23, §1.36). The schemes are
/// not compared, because a proxy may have terminated TLS. Nor are the ports if `host` has none, because
/// a proxy may pass on `Host` without it.
fn own_host<'a>(origin: &'a str, host: &str) -> Option<&'a str> {
    let (scheme, authority) = split_scheme(origin)?;
    let default = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return None,
    };
    let (own, own_port) = split_port(authority);
    let (host, port) = split_port(host);
    let is_port = port.is_none_or(|port| port == own_port.unwrap_or(default));
    (is_port && !host.is_empty() && is_same(own, host)).then_some(own)
}

/// Whether a `Host`, with or without a port, is an IP literal or `localhost`.
pub fn is_local_host(host: &str) -> bool {
    is_local_name(split_port(host).0)
}

/// Splits a host from its port. A port may be empty, which is as good as none (RFC 3986 §6.2.3).
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port).filter(|p| !p.is_empty())),
        _ => (authority, None),
    }
}

fn is_same(host: &str, other: &str) -> bool {
    eq_ignore_case(host.as_bytes(), other.as_bytes())
}

/// Whether `host` is an IP literal or `localhost`, which no DNS server resolves.
fn is_local_name(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(literal) => literal.parse::<Ipv6Addr>().is_ok(),
        None => is_same(host, "localhost") || host.parse::<Ipv4Addr>().is_ok(),
    }
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

    // contract §1.23 §1.36 §1.37
    #[test]
    fn the_servers_own_origin_is_allowed_where_its_host_cannot_be_forged() {
        let one = &["https://b.example"][..];
        check(one, "https://b.example", "b.example", true);
        check(one, "https://b.example", "B.example:443", true);
        check(one, "http://b.example", "b.example:80", true);
        check(one, "http://b.example:8000", "b.example:8000", true);
        check(one, "http://b.example", "b.example:443", false);
        check(one, "http://b.example", "b.example:8000", false);
        for host in ["127.0.0.1", "[::1]", "LOCALHOST", "192.0.2.7", "b.example"] {
            check(one, &format!("http://{host}:8000"), &format!("{host}:8000"), true);
            check(one, &format!("http://{host}:8000"), host, true);
            check(one, &format!("https://{host}:8443"), &format!("{host}:"), true);
            check(one, &format!("http://{host}:8000"), &format!("{host}:8001"), false);
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.example", "b.example.c"] {
            check(one, &format!("http://{host}:8000"), &format!("{host}:8000"), false);
            check(one, &format!("http://{host}"), host, false);
        }
        check(one, "moz-extension://b.example", "b.example", false);
        check(one, "http://", "", false);
        check(one, "https://", ":443", false);
    }

    // contract §1.38
    #[test]
    fn the_refusal_of_an_own_host_is_hinted_at_once() {
        let cors = Cors::new(vec!["https://b.example".to_owned()]);
        cors.classify(Some("https://c.example"), "d.example");
        assert!(!cors.is_hinted.get(), "it is another host");
        cors.classify(Some("https://c.example"), "c.example");
        assert!(cors.is_hinted.get());
    }
}
