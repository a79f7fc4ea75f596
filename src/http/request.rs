//! One complete request, and how to ask it things.
//!
//! Owns the head's bytes, an index into them, and the decoded content. Must never know how they
//! arrived or what a route is. The invariant: every span lies within `head`, and path, query and
//! host are ASCII; `head::parse` is the only place that makes one.

use std::borrow::Cow;
use std::fmt;

use super::coding;
use super::grammar::eq_ignore_case;

/// Request methods (RFC 9110 §9) as far as anything here tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    Head,
    Post,
    Delete,
    Options,
    /// Any other token.
    Other,
}

impl Method {
    /// RFC 9110 §9.1: methods are case-sensitive, so `get` is another one.
    pub(super) fn of(token: &str) -> Method {
        match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }
}

/// The peer's protocol version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    Http10,
    Http11,
}

/// One complete request.
#[derive(Debug)]
pub struct Request {
    /// Request line and fields as they came.
    pub(super) head: Vec<u8>,
    /// The field lines, in order.
    pub(super) fields: Box<[FieldSpan]>,
    pub(super) path: Span,
    pub(super) query: Span,
    pub(super) host: Span,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    /// What has arrived of the content; all of it once the codec hands the request out.
    pub(super) body: Vec<u8>,
}

impl Request {
    pub fn method(&self) -> Method {
        self.method
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The target's path, still percent-encoded, beginning with `/` (or `*`, for OPTIONS only).
    /// An absolute-form target's scheme and authority are gone.
    pub fn path(&self) -> &str {
        match self.text(self.path) {
            // RFC 9110 §4.2.3: `http://a` and `http://a/` are the same.
            "" => "/",
            path => path,
        }
    }

    /// The query without its `?`, still percent-encoded; empty when there is none.
    pub fn query(&self) -> &str {
        self.text(self.query)
    }

    /// The decoded value of a query parameter, `None` if there is none of that name.
    ///
    /// Parameters are read as browsers write forms: `&` between them, `+` for a space. Of several
    /// with one name the last counts; one without `=` is empty.
    pub fn query_value(&self, name: &str) -> Result<Option<Cow<'_, str>>, BadEscape> {
        for parameter in self.query().rsplit('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            // A name that cannot be decoded is nobody's.
            if form_decode(key).is_some_and(|key| key == name) {
                return form_decode(value).map(Some).ok_or(BadEscape);
            }
        }
        Ok(None)
    }

    /// The authority the request is for: of an absolute-form target, else of `Host`; empty if
    /// `Host` is, and in HTTP/1.0 without one.
    pub fn host(&self) -> &str {
        self.text(self.host)
    }

    /// The values of all field lines of that name (compared without case), in order, without
    /// surrounding white space.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        (self.fields.iter())
            .filter(|field| eq_ignore_case(self.slice(field.name), name.as_bytes()))
            .map(|field| self.slice(field.value))
    }

    /// The value of the only field line of that name; `None` if there is none or more than one.
    pub fn field<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        let mut values = self.fields(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// Whether a comma-separated list field (RFC 9110 §5.6.1) contains `token`, compared without
    /// case.
    ///
    /// Members with parameters or quotes are no tokens, and not looked into.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.fields(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|member| eq_ignore_case(member.trim_ascii(), token.as_bytes()))
    }

    /// Whether content is better sent compressed by gzip than as it is (RFC 9110 §12.5.3).
    pub fn prefers_gzip(&self) -> bool {
        coding::gzip_is_preferred(self.fields("Accept-Encoding"))
    }

    /// The decoded content.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the connection may carry another request after this one (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Bytes of heap held.
    pub(super) fn bytes(&self) -> usize {
        self.head.capacity() + size_of_val::<[FieldSpan]>(&self.fields) + self.body.capacity()
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.slice(span)).unwrap_or_default()
    }

    fn slice(&self, span: Span) -> &[u8] {
        self.head.get(usize::from(span.start)..usize::from(span.end)).unwrap_or_default()
    }
}

/// One field line: eight bytes instead of the four words of two slices.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSpan {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// A part of the head.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// Where `part`, a slice of `head`, lies in it; an empty one may come from elsewhere.
    pub(super) fn of(head: &[u8], part: &[u8]) -> Span {
        if part.is_empty() {
            return Span::default();
        }
        let start = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        let offset = |at| u16::try_from(at).expect("a head is at most HEAD_BYTES_CEILING long");
        Span { start: offset(start), end: offset(start.saturating_add(part.len())) }
    }
}

/// A query parameter is there, but its escapes are malformed or not UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadEscape;

impl fmt::Display for BadEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("A query parameter's percent-encoding is malformed.")
    }
}

impl std::error::Error for BadEscape {}

/// Undoes percent-encoding (RFC 3986 §2.1). `None` for a malformed escape or a result that is
/// not UTF-8.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            _ => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// Undoes a form's encoding: [`percent_decode`], and `+` is a space.
fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return percent_decode(text);
    }
    // Before the escapes, or `%2B` would become a space too.
    let spaced = text.replace('+', " ");
    percent_decode(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Codec, Fed, HttpLimits};

    fn request(head: &str) -> Request {
        let limits = HttpLimits {
            head_bytes_max: 1024,
            fields_max: 20,
            target_bytes_max: 256,
            body_bytes_max: 0,
        };
        let mut input = head.as_bytes();
        match Codec::new(limits).feed(&mut input) {
            Ok(Fed::Request(request)) => request,
            other => panic!("{head:?} is not a request: {other:?}"),
        }
    }

    fn get(target: &str) -> Request {
        request(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
    }

    #[test]
    fn escapes_are_two_hex_digits_and_make_utf8() {
        for (text, decoded) in [
            ("", Some("")),
            ("plain+text", Some("plain+text")),
            ("%41%6a%6A", Some("Ajj")),
            ("caf%C3%A9", Some("café")),
            ("%00%0d%0A", Some("\0\r\n")),
            ("%25%32%35", Some("%25")),
            ("%", None),
            ("%4", None),
            ("%4g", None),
            ("%+1", None),
            ("%é1", None),
            ("%c3%28", None),
            ("%ff", None),
        ] {
            assert_eq!(percent_decode(text).as_deref(), decoded, "{text:?}");
        }
        assert!(matches!(percent_decode("plain"), Some(Cow::Borrowed("plain"))));
    }

    #[test]
    fn the_last_parameter_of_a_name_counts() {
        let request = get("/?a=1&b=x+y%2B&a=2&empty&&%63=3&bad=%zz&%zz=1&a%3Db=c=d");
        let value = |name| request.query_value(name);
        assert_eq!(value("a").unwrap().unwrap(), "2");
        assert_eq!(value("b").unwrap().unwrap(), "x y+");
        assert_eq!(value("c").unwrap().unwrap(), "3");
        assert_eq!(value("empty").unwrap().unwrap(), "");
        assert_eq!(value("a=b").unwrap().unwrap(), "c=d");
        assert_eq!(value("bad"), Err(BadEscape));
        assert_eq!(value("absent"), Ok(None));
        assert_eq!(value(""), Ok(None));
        assert_eq!(get("/").query_value(""), Ok(None));
        assert_eq!(get("/?a=%zz&a=1").query_value("a").unwrap().unwrap(), "1");
    }

    #[test]
    fn fields_are_found_without_case_and_in_order() {
        let request = request(
            "GET / HTTP/1.1\r\nHost: a\r\nx-one:  1\t \r\nX-Two: a\r\nX-TWO:\r\nx-two: é\r\n\r\n",
        );
        assert_eq!(request.field("X-One"), Some(&b"1"[..]));
        assert_eq!(request.field("x-two"), None, "three are not one");
        assert_eq!(request.field("x-three"), None);
        let values: Vec<_> = request.fields("X-two").collect();
        assert_eq!(values, [&b"a"[..], b"", "é".as_bytes()]);
    }

    #[test]
    fn lists_are_members_between_commas_on_any_line() {
        let request = request(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: , keep-alive ,\tUpgrade\r\n\
             Connection: x\r\n\r\n",
        );
        for token in ["keep-alive", "upgrade", "X"] {
            assert!(request.lists("connection", token), "{token}");
        }
        for token in ["keep", "keep-alive , upgrade", "close"] {
            assert!(!request.lists("connection", token), "{token}");
        }
    }
}
