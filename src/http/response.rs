//! The encoding of a response: status, fields and content become bytes.
//!
//! Owns the status line and the fields that frame a message. Must not know what the content means
//! or when it is sent. The invariant: no field can end its own line. A value that a peer influenced
//! therefore cannot start a second response (response splitting).

use std::borrow::Cow;

use bytes::Bytes;

use super::grammar::{eq_ignore_case, graphic_run, is_token, push_decimal};
use super::request::Version;

/// The interim response to send for [`Fed::Continue`](super::Fed::Continue) (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Content up to this size is appended to the head. Each piece of a response takes an entry in the
/// outbox and in `writev`, which costs more than the copy.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// Typical size of the status line, `Date`, `Content-Length` and `Connection`, rounded up.
const HEAD_BYTES_TYPICAL: usize = 160;

/// Fields of a typical response: type, caching, `Vary` and one more.
const FIELDS_TYPICAL: usize = 4;

/// Name and value of a response's field.
pub type ResponseField = (&'static str, Cow<'static, str>);

/// One response before it is encoded.
#[derive(Debug)]
pub struct Response {
    /// Status code (RFC 9110 §15).
    pub status: u16,
    /// All fields except `Date` and `Content-Length`, which [`Response::encode`] writes. If
    /// there is a `Connection` field (a 426 has one), `encode` adds its own options to that field.
    pub fields: Vec<ResponseField>,
    /// Content made for this response alone. It precedes `body`.
    pub text: Vec<u8>,
    /// The content, in pieces so that large ones need not be copied.
    pub body: Vec<Bytes>,
    /// Bytes of content that the caller sends later, after `body`.
    pub rest_bytes: usize,
    /// The caller sends all of the content later, and it has no length: it ends with its last chunk,
    /// or in HTTP/1.0 with the connection (RFC 9112 §6.3).
    pub is_stream: bool,
}

/// The parts of a response that depend on the connection and not on the resource.
#[derive(Clone, Copy, Debug)]
pub struct Framing<'a> {
    /// The text of the `Date` field (RFC 9110 §6.6.1).
    pub date: &'a str,
    /// Whether the request is HEAD: the response has the same fields and no content.
    pub is_head: bool,
    /// The peer's version. A connection persists with HTTP/1.0 only after the option `keep-alive`,
    /// and with HTTP/1.1 unless the option is `close`.
    pub version: Version,
    /// Whether the connection persists after this response.
    pub keep_alive: bool,
}

impl Response {
    /// A response without content.
    pub fn new(status: u16) -> Response {
        Response {
            status,
            fields: Vec::with_capacity(FIELDS_TYPICAL),
            text: Vec::new(),
            body: Vec::new(),
            rest_bytes: 0,
            is_stream: false,
        }
    }

    /// This response with one more field.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Response {
        self.fields.push((name, value.into()));
        self
    }

    /// Bytes of content, without `rest_bytes`.
    pub fn content_bytes(&self) -> usize {
        // Saturating: a wrong length fails at the peer, an overflow would panic here.
        self.body.iter().fold(self.text.len(), |sum, piece| sum.saturating_add(piece.len()))
    }

    /// The head of a response whose content the caller sends by itself.
    pub fn head(&self, framing: Framing<'_>) -> Vec<u8> {
        self.encode_head(framing, 0, 0)
    }

    /// Encodes the response and passes its pieces to `push` in order: one piece if the content is
    /// small, else the head and then the pieces of the content.
    pub fn encode(self, framing: Framing<'_>, mut push: impl FnMut(Bytes)) {
        let body_bytes = self.content_bytes();
        let content_bytes = body_bytes.saturating_add(self.rest_bytes);
        let is_sent = !framing.is_head && may_have_content(self.status);
        let is_copied = is_sent && body_bytes <= COPIED_BYTES_MAX;
        // Capacity for copied content is reserved at once, so that the response takes one
        // allocation. Other content gets no capacity, because the outbox keeps a piece together
        // with its unused capacity.
        let extra = if is_copied { body_bytes } else { 0 };
        let mut head = self.encode_head(framing, content_bytes, extra);
        if is_copied {
            head.extend_from_slice(&self.text);
            self.body.iter().for_each(|piece| head.extend_from_slice(piece));
        }
        push(Bytes::from(head));
        if is_sent && !is_copied {
            let mut pieces = self.body;
            pieces.insert(0, Bytes::from(self.text.into_boxed_slice()));
            pieces.into_iter().filter(|piece| !piece.is_empty()).for_each(push);
        }
    }

    /// The head, with capacity for `extra` bytes more.
    fn encode_head(&self, framing: Framing<'_>, content_bytes: usize, extra: usize) -> Vec<u8> {
        let field_bytes: usize = self.fields.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
        let mut head = Vec::with_capacity(HEAD_BYTES_TYPICAL + field_bytes + extra);
        // RFC 9112 §4: the version is the server's own. The space before the phrase is required
        // even if the phrase is empty.
        push_all(&mut head, &["HTTP/1.1 "]);
        push_decimal(&mut head, u64::from(self.status));
        push_all(&mut head, &[" ", reason(self.status), "\r\nDate: ", framing.date, "\r\n"]);
        // RFC 9110 §8.6: 1xx and 204 must not have a length. A 304 may have the length of the
        // content that it omits, which no client needs.
        if self.is_stream {
            if framing.version > Version::Http10 {
                push_all(&mut head, &["Transfer-Encoding: chunked\r\n"]);
            }
        } else if may_have_content(self.status) {
            push_all(&mut head, &["Content-Length: "]);
            push_decimal(&mut head, content_bytes as u64);
            push_all(&mut head, &["\r\n"]);
        }
        let mut connection = String::new();
        for field in &self.fields {
            let (name, value) = field;
            if eq_ignore_case(name.as_bytes(), b"Connection") {
                push_option(&mut connection, value);
            } else {
                debug_assert!(!is_framing(name), "{name} is written by `encode`");
                push_field(&mut head, field);
            }
        }
        // RFC 9112 §9.3: an option is only needed where it differs from the version's default.
        match (framing.keep_alive, framing.version) {
            (false, _) => push_option(&mut connection, "close"),
            (true, Version::Http10) => push_option(&mut connection, "keep-alive"),
            (true, Version::Http11) => {}
        }
        if !connection.is_empty() {
            push_field(&mut head, &("Connection", connection.into()));
        }
        push_all(&mut head, &["\r\n"]);
        head
    }
}

/// RFC 9112 §6.3: 1xx, 204 and 304 end with their head, whatever fields they have.
fn may_have_content(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

/// Fields that [`Response::encode`] writes, or that would frame the message in another way.
fn is_framing(name: &str) -> bool {
    ["content-length", "transfer-encoding", "date"]
        .iter()
        .any(|framing| eq_ignore_case(name.as_bytes(), framing.as_bytes()))
}

fn push_option(connection: &mut String, option: &str) {
    if !connection.is_empty() {
        connection.push_str(", ");
    }
    connection.push_str(option);
}

/// Appends a field line, or nothing if the value is not valid in one. The name is the server's own,
/// and so is a value that is borrowed: no peer has influenced it.
fn push_field(head: &mut Vec<u8>, (name, value): &ResponseField) {
    let is_valid = matches!(value, Cow::Borrowed(_)) || is_value(value);
    debug_assert!(is_valid && is_token(name), "no field line: {name:?}: {value:?}");
    // A release build omits such a field, because a peer may have influenced the value.
    if is_valid {
        push_all(head, &[name, ": ", value, "\r\n"]);
    }
}

fn push_all(head: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| head.extend_from_slice(part.as_bytes()));
}

/// RFC 9110 §5.5: no control characters. CR, LF and NUL are the dangerous ones.
fn is_value(value: &str) -> bool {
    let rest = &value.as_bytes()[graphic_run(value.as_bytes(), b' ')..];
    rest.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

/// The phrase of RFC 9110 §15 for the statuses of contract §1.5. Clients ignore it (RFC 9112 §4).
fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Tue, 19 Aug 2025 13:45:00 GMT";
    const KEPT: Framing<'static> =
        Framing { date: DATE, is_head: false, version: Version::Http11, keep_alive: true };

    fn pieces(response: Response, framing: Framing<'_>) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        response.encode(framing, |piece| pieces.push(piece));
        pieces
    }

    /// `expected` omits the HTTP version and the `Date` line, which every response has.
    #[track_caller]
    fn check(response: Response, framing: Framing<'_>, expected: &str) {
        let pieces = pieces(response, framing);
        assert_eq!(pieces.len(), 1);
        let (status, rest) = expected.split_once("\r\n").unwrap();
        let expected = format!("HTTP/1.1 {status}\r\nDate: {DATE}\r\n{rest}");
        assert_eq!(String::from_utf8_lossy(&pieces[0]), expected);
    }

    fn content(text: &'static str) -> Response {
        let mut response = Response::new(200).with("Content-Type", "text/plain");
        response.text = text.as_bytes().to_vec();
        response
    }

    #[test]
    fn a_small_response_is_one_piece() {
        check(
            content("hello"),
            KEPT,
            "200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
        );
        check(Response::new(299), KEPT, "299 \r\nContent-Length: 0\r\n\r\n");
    }

    /// Regression: an answer to HEAD had capacity for the content that it omits. A peer that
    /// pipelined HEADs for a long listing and read nothing claimed 15 KB per 300 bytes queued.
    #[test]
    fn omitted_content_takes_no_capacity() {
        for (is_head, status) in [(true, 200), (false, 204), (false, 200)] {
            let mut response = Response::new(status);
            response.body = vec![vec![b'x'; COPIED_BYTES_MAX].into()];
            let [piece] = <[Bytes; 1]>::try_from(pieces(response, Framing { is_head, ..KEPT }))
                .expect("one piece");
            let len = piece.len();
            let capacity = piece.try_into_mut().expect("the only owner").capacity();
            assert!(capacity <= len + HEAD_BYTES_TYPICAL, "{capacity} for {len}");
        }
    }

    #[test]
    fn head_gets_the_same_fields_and_no_content() {
        check(
            content("hello"),
            Framing { is_head: true, ..KEPT },
            "200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\n",
        );
    }

    #[test]
    fn a_response_that_cannot_have_content_has_no_length() {
        check(Response::new(204), KEPT, "204 No Content\r\n\r\n");
        check(Response::new(304), KEPT, "304 Not Modified\r\n\r\n");
        let mut response = Response::new(204);
        response.body.push(Bytes::from("ignored"));
        check(response, KEPT, "204 No Content\r\n\r\n");
    }

    #[test]
    fn connection_has_the_option_that_is_not_the_default_of_the_version() {
        let http10 = Framing { version: Version::Http10, ..KEPT };
        for (framing, connection) in [
            (KEPT, ""),
            (Framing { keep_alive: false, ..KEPT }, "Connection: close\r\n"),
            (http10, "Connection: keep-alive\r\n"),
            (Framing { keep_alive: false, ..http10 }, "Connection: close\r\n"),
        ] {
            let expected = format!("404 Not Found\r\nContent-Length: 0\r\n{connection}\r\n");
            check(Response::new(404), framing, &expected);
        }
    }

    #[test]
    fn connection_options_share_one_line() {
        for (framing, connection) in [
            (KEPT, "Upgrade"),
            (Framing { keep_alive: false, ..KEPT }, "Upgrade, close"),
            (Framing { version: Version::Http10, ..KEPT }, "Upgrade, keep-alive"),
        ] {
            let response =
                Response::new(426).with("Connection", "Upgrade").with("Upgrade", "websocket");
            let expected = format!(
                "426 Upgrade Required\r\nContent-Length: 0\r\nUpgrade: websocket\r\n\
                 Connection: {connection}\r\n\r\n"
            );
            check(response, framing, &expected);
        }
    }

    #[test]
    fn large_content_is_not_copied() {
        let piece = Bytes::from(vec![b'x'; COPIED_BYTES_MAX]);
        let mut response = Response::new(200);
        response.body = vec![piece.clone()];
        assert_eq!(pieces(response, KEPT).len(), 1, "copied up to the limit");

        let mut response = Response::new(200);
        response.body = vec![piece.clone(), Bytes::new(), Bytes::from("y")];
        response.text = b"z".to_vec();
        let pieces = pieces(response, KEPT);
        assert!(pieces[0].ends_with(b"Content-Length: 16386\r\n\r\n"));
        assert_eq!(pieces[2].as_ptr(), piece.as_ptr());
        assert_eq!(pieces[1..], [Bytes::from("z"), piece, Bytes::from("y")]);
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        for value in ["a\r\nSet-Cookie: b", "a\n", "\r", "\0", "\u{7f}"] {
            assert!(!is_value(value), "{value:?}");
        }
        for value in ["", "a b\tc", "café", "Bearer error=\"invalid_token\""] {
            assert!(is_value(value), "{value:?}");
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "no field line"))]
    fn a_field_that_would_split_the_response_is_omitted() {
        let value = "a\r\n\r\nHTTP/1.1 200 OK".to_owned();
        let response = Response::new(200).with("X-Echo", value);
        check(response, KEPT, "200 OK\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn every_code_of_the_contract_has_a_phrase() {
        for status in [
            200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 414, 422, 426, 429, 431,
            500, 501, 503,
        ] {
            assert_ne!(reason(status), "", "{status}");
        }
    }
}
