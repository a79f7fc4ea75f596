//! The meaning of a complete head: method, target, host and persistence.
//!
//! Owns what a request line and fields mean to HTTP itself, on top of the grammar that `httparse`
//! checks. Must not know what a path means or where the bytes came from. The invariant: a head that
//! two recipients could read differently is refused, not repaired.

use std::mem::MaybeUninit;

use httparse::Status;

use super::grammar::{eq_ignore_case, is_authority};
use super::limits::FIELDS_CEILING;
use super::reject::Reject;
use super::request::{FieldSpan, Method, Request, Span, Version};

/// Parses a complete head. The request's content is still empty.
pub(super) fn parse(mut section: Vec<u8>) -> Result<Request, Reject> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(&section, &mut slots) {
        Ok(Status::Complete(end)) if end == section.len() => {}
        // `section` and `httparse` disagree about where the head ends.
        Ok(_) => return Err(Reject::BadRequest("The end of the head is ambiguous.")),
        Err(httparse::Error::Version) if lower_version(&mut section) => return parse(section),
        Err(error) => return Err(malformed(error)),
    }
    // RFC 9112 §2.3: httparse accepts only 1.0 and 1.1, and compares the version case-sensitively.
    let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let method = Method::of(parsed.method.unwrap_or_default());
    let target = split_target(method, parsed.method, parsed.path.unwrap_or_default())?;
    // RFC 9112 §3.2.2: the authority of an absolute target overrides `Host`, which still must be
    // present and well formed.
    let host = check_host(parsed.headers, version)?;
    let host = target.authority.unwrap_or(host);
    let span = |part: &[u8]| Span::of(&section, part);
    let mut request = Request {
        fields: (parsed.headers.iter())
            .map(|field| FieldSpan { name: span(field.name.as_bytes()), value: span(field.value) })
            .collect(),
        path: span(target.path.as_bytes()),
        query: span(target.query.as_bytes()),
        host: span(host.as_bytes()),
        method,
        version,
        keep_alive: false,
        head: Vec::new(),
        body: Vec::new(),
    };
    request.head = section;

    // RFC 9112 §9.3: a connection persists by default in HTTP/1.1, on request in HTTP/1.0, and
    // never after `close`.
    let persists = version == Version::Http11 || request.lists("Connection", "keep-alive");
    request.keep_alive = persists && !request.lists("Connection", "close");
    Ok(request)
}

/// Makes 1.1 of a higher minor version, as which it is answered (RFC 9110 §2.5). Returns false if the
/// head has none.
fn lower_version(section: &mut [u8]) -> bool {
    let end = section.iter().position(|byte| *byte == b'\r').unwrap_or_default();
    match section.get_mut(..end) {
        Some([.., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'2'..=b'9']) => {
            *minor = b'1';
            true
        }
        _ => false,
    }
}

/// Whether the peer waits for `100 Continue` before it sends the content.
///
/// RFC 9110 §10.1.1: an HTTP/1.0 request must not get one. Any other expectation may be answered
/// with 417 or ignored; it is ignored, because the contract has no code for it.
pub(super) fn expects_continue(request: &Request) -> bool {
    request.version == Version::Http11 && request.lists("Expect", "100-continue")
}

/// Refuses trailers that are not well-formed fields.
pub(super) fn check_trailers(section: &[u8]) -> Result<(), Reject> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_CEILING];
    match httparse::parse_headers(section, &mut slots) {
        Ok(Status::Complete((end, _))) if end == section.len() => Ok(()),
        Ok(_) => Err(Reject::BadRequest("The end of the trailers is ambiguous.")),
        Err(error) => Err(malformed(error)),
    }
}

/// The refusal for an error of `httparse`. The file `section` has already made its own checks.
fn malformed(error: httparse::Error) -> Reject {
    Reject::BadRequest(match error {
        httparse::Error::Token => "The method is not a token.",
        // `NewLine`: bytes follow a version that httparse knows, where it expects the line end.
        httparse::Error::Version | httparse::Error::NewLine => {
            "The version is not one of HTTP/1.0 to HTTP/1.9."
        }
        // RFC 9112 §5.1: white space before the colon must be answered with 400.
        httparse::Error::HeaderName => "A field name is not a token with a colon right after it.",
        httparse::Error::HeaderValue => "A field value contains a forbidden character.",
        httparse::Error::Status => "The request line is malformed.",
        httparse::Error::TooManyHeaders => return Reject::HeadersTooLarge,
    })
}

struct Target<'a> {
    /// `Some` if the target is in absolute form.
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

/// Splits a target in any form of RFC 9112 §3.2 except authority-form. That form belongs to
/// `CONNECT`, which is a request to a proxy.
fn split_target<'a>(
    method: Method,
    name: Option<&str>,
    target: &'a str,
) -> Result<Target<'a>, Reject> {
    if name == Some("CONNECT") {
        return Err(Reject::BadRequest("CONNECT is for proxies, and this server is not one."));
    }
    // RFC 9112 §3.2.4: asterisk-form is for OPTIONS only.
    if target == "*" && method == Method::Options {
        return Ok(Target { authority: None, path: target, query: "" });
    }
    let (authority, path_and_query) = if target.starts_with('/') {
        (None, target)
    } else {
        let (authority, rest) = split_absolute(target)?;
        (Some(authority), rest)
    };
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    Ok(Target { authority, path, query })
}

/// Splits `http://authority/path?query` (RFC 9112 §3.2.2). `https` is accepted on any connection,
/// because a proxy may have terminated TLS.
fn split_absolute(target: &str) -> Result<(&str, &str), Reject> {
    let (_, rest) = target
        .split_once(':')
        .filter(|(scheme, _)| {
            ["http", "https"].iter().any(|one| eq_ignore_case(scheme.as_bytes(), one.as_bytes()))
        })
        .and_then(|(scheme, rest)| Some((scheme, rest.strip_prefix("//")?)))
        .ok_or(Reject::BadRequest("The request target is neither a path nor an http URI."))?;
    let (authority, path_and_query) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    // RFC 9110 §4.2.1, §4.2.4: an http URI without a host is invalid, and so is one with userinfo.
    if !is_authority(authority) {
        return Err(Reject::BadRequest("The request target's authority is not a host and port."));
    }
    Ok((authority, path_and_query))
}

/// The value of `Host`; empty if an HTTP/1.0 request has none.
///
/// RFC 9112 §3.2: a request must be answered with 400 if its `Host` is malformed, repeated or, in
/// HTTP/1.1, missing. An empty value is well formed: a client sends it when its URI has no
/// authority.
fn check_host<'a>(fields: &[httparse::Header<'a>], version: Version) -> Result<&'a str, Reject> {
    let mut hosts = fields.iter().filter(|field| {
        field.name.len() == b"Host".len() && eq_ignore_case(field.name.as_bytes(), b"Host")
    });
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(Reject::BadRequest("There is more than one Host field."));
    }
    match first {
        Some(field) => std::str::from_utf8(field.value)
            .ok()
            .filter(|host| host.is_empty() || is_authority(host))
            .ok_or(Reject::BadRequest("The Host field is not a host and port.")),
        None if version == Version::Http10 => Ok(""),
        None => Err(Reject::BadRequest("The Host field is missing.")),
    }
}
