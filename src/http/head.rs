//! Judges a complete head: what it asks for, of whom, and how its content is framed.
//!
//! Owns everything that a request line and fields mean to the protocol itself, on top of
//! `httparse`'s grammar. Must never know what a path means or where the bytes came from. The
//! invariant: whatever two recipients could frame differently is refused here, not repaired.

use std::mem::MaybeUninit;

use httparse::Status;

use super::grammar::{eq_ignore_case, is_authority};
use super::limits::FIELDS_CEILING;
use super::reject::Reject;
use super::request::{FieldSpan, Method, Request, Span, Version};

/// Parses the head that `section` found complete. The request's content is still missing.
pub(super) fn parse(section: Vec<u8>) -> Result<Request, Reject> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(&section, &mut slots) {
        Ok(Status::Complete(end)) if end == section.len() => {}
        // Two readings of where a head ends are what this room is there to prevent.
        Ok(_) => return Err(Reject::BadRequest("The head does not end where it should.")),
        Err(error) => return Err(malformed(error)),
    }
    // RFC 9112 §2.3, §2.6: only HTTP/1.0 and 1.1 exist here; httparse knows no other either,
    // and the version is case-sensitive.
    let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let method = Method::of(parsed.method.unwrap_or_default());
    let target = split_target(method, parsed.method, parsed.path.unwrap_or_default())?;
    // RFC 9112 §3.2.2: an absolute target's authority overrides `Host`, which must be there and
    // in order all the same.
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

    // RFC 9112 §9.3: `close` ends it, HTTP/1.1 persists unasked, HTTP/1.0 only when asked.
    let persists = version == Version::Http11 || request.lists("connection", "keep-alive");
    request.keep_alive = persists && !request.lists("connection", "close");
    Ok(request)
}

/// Whether the peer waits for `100 Continue` before it sends the content.
///
/// RFC 9110 §10.1.1: must be ignored in HTTP/1.0. Another expectation may be answered 417 or
/// ignored; the contract has no such code.
pub(super) fn expects_continue(request: &Request) -> bool {
    request.version == Version::Http11 && request.lists("expect", "100-continue")
}

/// Refuses trailers that are not well-formed fields.
pub(super) fn check_trailers(section: &[u8]) -> Result<(), Reject> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_CEILING];
    match httparse::parse_headers(section, &mut slots) {
        Ok(Status::Complete((end, _))) if end == section.len() => Ok(()),
        Ok(_) => Err(Reject::BadRequest("The trailers do not end where they should.")),
        Err(error) => Err(malformed(error)),
    }
}

/// What httparse complains about in a section whose lines are in order.
fn malformed(error: httparse::Error) -> Reject {
    Reject::BadRequest(match error {
        httparse::Error::Token => "The method is not a token.",
        // The request line's end is looked for right after the version.
        httparse::Error::Version | httparse::Error::NewLine => {
            "The version is neither HTTP/1.1 nor HTTP/1.0."
        }
        // RFC 9112 §5.1: white space before the colon must be answered 400.
        httparse::Error::HeaderName => "A field name is not a token with a colon right after it.",
        httparse::Error::HeaderValue => "A field value contains a forbidden character.",
        httparse::Error::Status => "The request line is malformed.",
        httparse::Error::TooManyHeaders => return Reject::HeadersTooLarge,
    })
}

struct Target<'a> {
    /// Of an absolute-form target.
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

/// Takes apart the forms of RFC 9112 §3.2. All but authority-form, which is CONNECT's, and only
/// a proxy knows what to do with that.
fn split_target<'a>(
    method: Method,
    name: Option<&str>,
    target: &'a str,
) -> Result<Target<'a>, Reject> {
    if name == Some("CONNECT") {
        return Err(Reject::BadRequest("This server is no proxy: it does not know CONNECT."));
    }
    // RFC 9112 §3.2.4: asterisk-form is for OPTIONS alone.
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

/// Takes apart `http://authority/path?query` (RFC 9112 §3.2.2). The scheme says nothing: a proxy
/// in front may have spoken TLS.
fn split_absolute(target: &str) -> Result<(&str, &str), Reject> {
    let (_, rest) = target
        .split_once("://")
        .filter(|(scheme, _)| {
            eq_ignore_case(scheme.as_bytes(), b"http")
                || eq_ignore_case(scheme.as_bytes(), b"https")
        })
        .ok_or(Reject::BadRequest("The request target is neither a path nor an http URI."))?;
    let (authority, path_and_query) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    // RFC 9110 §4.2.1: an http URI without a host is invalid. §4.2.4: so is one with userinfo.
    if !is_authority(authority) {
        return Err(Reject::BadRequest("The request target's authority is not a host and port."));
    }
    Ok((authority, path_and_query))
}

/// The value of `Host`, empty if HTTP/1.0 has none.
///
/// RFC 9112 §3.2: none in HTTP/1.1, more than one, or a malformed one must be answered 400. An
/// empty one is well formed: it is how a client says that its URI has no authority.
fn check_host<'a>(fields: &[httparse::Header<'a>], version: Version) -> Result<&'a str, Reject> {
    let mut hosts = fields.iter().filter(|field| eq_ignore_case(field.name.as_bytes(), b"host"));
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
