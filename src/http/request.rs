//! One request: its head, its content, and access to both for routes.
//!
//! Owns the bytes of the head, an index into them, and the decoded content. Must not know how these
//! bytes arrived or what a route is. The invariant: every span lies within `head`, and path, query
//! and host are ASCII. Only `head::parse` creates spans.

use std::borrow::Cow;

use super::coding;
use super::grammar::{eq_ignore_case, list_members, percent_decode};

/// The request methods that the server distinguishes (RFC 9110 §9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    Head,
    Post,
    Patch,
    Delete,
    Options,
    /// Any other token.
    Other,
}

impl Method {
    /// RFC 9110 §9.1: methods are case-sensitive, so `get` is not `GET`.
    pub(super) fn of(token: &str) -> Method {
        match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PATCH" => Method::Patch,
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
    /// Request line and fields, as received.
    pub(super) head: Vec<u8>,
    /// The field lines, in order.
    pub(super) fields: Box<[FieldSpan]>,
    pub(super) path: Span,
    pub(super) query: Span,
    pub(super) host: Span,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    /// The content that has arrived; complete once the codec hands out the request.
    pub(super) body: Vec<u8>,
}

impl Request {
    pub fn method(&self) -> Method {
        self.method
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The path of the target, percent-encoded. It begins with `/`, or is `*` (OPTIONS only). The
    /// scheme and authority of an absolute-form target are not part of it.
    pub fn path(&self) -> &str {
        match self.text(self.path) {
            // RFC 9110 §4.2.3: `http://a` and `http://a/` are equivalent.
            "" => "/",
            path => path,
        }
    }

    /// The query without its `?`, percent-encoded; empty if there is none.
    pub fn query(&self) -> &str {
        self.text(self.query)
    }

    /// The values of the query parameters `names`, found in one pass; `None` if no parameter has the
    /// name.
    ///
    /// Parameters have the form that browsers send: `&` between them, `+` for a space. If a name is
    /// repeated, the last parameter counts. A parameter without `=` has an empty value.
    pub fn query_values<const N: usize>(&self, names: [&str; N]) -> [Option<QueryValue<'_>>; N] {
        let mut values = [None; N];
        find_parameters(self.slice(self.query), &names, &mut values);
        values
    }

    /// The decoded value of a single query parameter. A route that knows several asks for them
    /// together: [`Request::query_values`].
    pub fn query_value(&self, name: &str) -> Result<Option<Cow<'_, str>>, BadEscape> {
        let [value] = self.query_values([name]);
        value.map(QueryValue::decode).transpose()
    }

    /// The host and port that the request is for: those of an absolute-form target, else those of
    /// `Host`. Empty if `Host` is empty, or missing in HTTP/1.0.
    pub fn host(&self) -> &str {
        self.text(self.host)
    }

    /// The values of all field lines with this name in order, without surrounding white space.
    /// Names are case-insensitive.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        (self.fields.iter())
            // The length first: it differs for nearly all pairs of names.
            .filter(|field| field.name.len() == name.len())
            .filter(|field| eq_ignore_case(self.slice(field.name), name.as_bytes()))
            .map(|field| self.slice(field.value))
    }

    /// The value of the only field line with this name; `None` if there is none or more than one.
    pub fn field<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        let mut values = self.fields(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// Whether a list field (RFC 9110 §5.6.1) has the member `token`, compared case-insensitively.
    /// A member with parameters or quotes is not a token and never matches.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.fields(name)
            .flat_map(list_members)
            .any(|member| eq_ignore_case(member, token.as_bytes()))
    }

    /// Whether the peer prefers content in gzip to uncoded content (RFC 9110 §12.5.3).
    pub fn prefers_gzip(&self) -> bool {
        coding::gzip_is_preferred(self.fields("Accept-Encoding"))
    }

    /// The peer's weights for these media types, in thousandths; 0 is "not acceptable" (RFC 9110
    /// §12.5.1).
    pub fn media_weights<const N: usize>(&self, types: [&str; N]) -> [u16; N] {
        coding::media_weights(self.fields("Accept"), types)
    }

    /// The decoded content.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the connection persists after this request (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Bytes of heap in use.
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

/// One field line, in 8 bytes. Two slices would take 32.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSpan {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// A range of bytes in the head.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    fn len(self) -> usize {
        usize::from(self.end - self.start)
    }

    /// The range of `part` in `head`. `part` must be a slice of `head`, unless it is empty.
    pub(super) fn of(head: &[u8], part: &[u8]) -> Span {
        if part.is_empty() {
            return Span::default();
        }
        let start = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        let offset = |at| u16::try_from(at).expect("a head is at most HEAD_BYTES_CEILING long");
        Span { start: offset(start), end: offset(start.saturating_add(part.len())) }
    }
}

/// A query parameter has a malformed escape, or does not decode to UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadEscape;

/// The value of a query parameter, as it was sent.
#[derive(Clone, Copy, Debug)]
pub struct QueryValue<'a>(&'a [u8]);

impl<'a> QueryValue<'a> {
    /// The decoded value.
    pub fn decode(self) -> Result<Cow<'a, str>, BadEscape> {
        std::str::from_utf8(self.0).ok().and_then(form_decode).ok_or(BadEscape)
    }
}

/// Finds the last value of each of `names`, none of which is empty.
///
/// The names in the query are compared escape by escape and not decoded first: a query of 8 KiB can
/// have 4,000 of them, and a copy of each took a hundred times as long as the rest of a request. An
/// encoded name is never shorter than the name, so that most of such a crowd is told by its length.
fn find_parameters<'a>(query: &'a [u8], names: &[&str], values: &mut [Option<QueryValue<'a>>]) {
    let shortest = names.iter().map(|name| name.len()).min().unwrap_or_default();
    let until = |bytes: &'a [u8], is_end: fn(&u8) -> bool| {
        bytes.split_at(bytes.iter().position(is_end).unwrap_or(bytes.len()))
    };
    let mut rest = query;
    loop {
        let (key, mut after) = until(rest, |byte| matches!(byte, b'=' | b'&'));
        let mut value = &[][..];
        if let Some((b'=', behind)) = after.split_first() {
            (value, after) = until(behind, |byte| *byte == b'&');
        }
        if key.len() >= shortest {
            if let Some(name) = names.iter().position(|name| decodes_to(key, name)) {
                values[name] = Some(QueryValue(value));
            }
        }
        let Some((_, next)) = after.split_first() else { return };
        rest = next;
    }
}

/// Whether `key` is a form's encoding of `name`. Looks at no more of `key` than it has in common
/// with `name`. A name with a malformed escape equals none.
fn decodes_to(key: &[u8], name: &str) -> bool {
    let mut rest = key;
    for expected in name.as_bytes() {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => ((high << 4 | low) as u8, after),
                _ => return false,
            },
            [b'%', ..] | [] => return false,
            [b'+', after @ ..] => (b' ', after),
            [byte, after @ ..] => (*byte, after),
        };
        if byte != *expected {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

/// Decodes a value as browsers encode forms: percent-encoding, and `+` for a space.
fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return percent_decode(text);
    }
    // Replaced before escapes are decoded, because `%2B` is a plus sign.
    let spaced = text.replace('+', " ");
    percent_decode(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
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
    fn the_last_of_repeated_parameters_counts() {
        let request = get("/?a=1&b=x+y%2B&a=2&empty&&%63=3&bad=%zz&%zz=1&a%3Db=c=d");
        let value = |name| request.query_value(name);
        assert_eq!(value("a").unwrap().unwrap(), "2");
        assert_eq!(value("b").unwrap().unwrap(), "x y+");
        assert_eq!(value("c").unwrap().unwrap(), "3");
        assert_eq!(value("empty").unwrap().unwrap(), "");
        assert_eq!(value("a=b").unwrap().unwrap(), "c=d");
        assert_eq!(value("bad"), Err(BadEscape));
        assert_eq!(value("absent"), Ok(None));
        assert_eq!(get("/").query_value("a"), Ok(None));
        assert_eq!(get("/?a=%zz&a=1").query_value("a").unwrap().unwrap(), "1");
    }

    #[test]
    fn names_are_compared_decoded() {
        let request =
            get("/?%61%62=1&a%+b=2&%a+b=3&a+b=4&a%2=5&a%2Bb=6&=7&==8&abc&ab%00=9&%=a&&a=b=&");
        let names = ["ab", "a b", "a%2", "a+b", "abc", "ab\0", "%", "a", "b"];
        let decoded = |value: QueryValue<'_>| value.decode().unwrap().into_owned();
        let values = request.query_values(names).map(|value| value.map(decoded));
        let expected = ["1", "4", "-", "6", "", "9", "-", "b=", "-"];
        assert_eq!(values, expected.map(|value| Some(value.to_owned()).filter(|one| one != "-")));
        for last in ["/?x&limit", "/?limit=", "/?limit&x", "/?limit=&", "/?&limit"] {
            assert_eq!(get(last).query_value("limit"), Ok(Some("".into())), "{last}");
        }
    }

    #[test]
    fn fields_are_found_in_order_and_without_case() {
        let request = request(
            "GET / HTTP/1.1\r\nHost: a\r\nx-one:  1\t \r\nX-Two: a\r\nX-TWO:\r\nx-two: é\r\n\r\n",
        );
        assert_eq!(request.field("X-One"), Some(&b"1"[..]));
        assert_eq!(request.field("x-two"), None, "there are three");
        assert_eq!(request.field("x-three"), None);
        let values: Vec<_> = request.fields("X-two").collect();
        assert_eq!(values, [&b"a"[..], b"", "é".as_bytes()]);
    }

    #[test]
    fn list_members_are_separated_by_commas_and_lines() {
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
