//! Step 4 of 5: HTTP/1.1, with requests that arrive in pieces or many at once. See `step4_http.md`.
//!
//! Owns the framing of requests, and what is answered to them. Must not know a socket: `event_loop`
//! is the loop of step 3, and brings bytes. The invariant: responses are in the order of the
//! requests, and what follows a request that is refused is never parsed.

use std::collections::BTreeMap;
use std::time::Duration;

use disposable_chat::clock::{Now, Wall};
use disposable_chat::net::Piece;
use httparse::{EMPTY_HEADER, Error, Header, Status};

use event_loop::{Action, EventLoop, Protocol};

pub mod event_loop;

/// A connection is closed when it completes no request for this long. Bytes alone do not count.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of the request line and the fields together.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Field lines.
pub const FIELDS_MAX: usize = 32;

/// Bytes of content.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1);
    let address = argument.as_deref().unwrap_or("127.0.0.1:8001").parse()?;
    let mut server = EventLoop::bind(address, REQUEST_TIMEOUT, Http::default())?;
    println!("listening on {}", server.listener.address()?);
    match server.run()? {}
}

/// The connections, each with the input that is not answered yet: less than one request.
#[derive(Default)]
pub struct Http(BTreeMap<usize, Vec<u8>>);

impl Protocol for Http {
    fn on_bytes(&mut self, key: usize, bytes: &[u8], now: Now, out: &mut Vec<Action>) {
        let input = self.0.entry(key).or_default();
        input.extend_from_slice(bytes);
        let (mut responses, mut done, mut keep_alive) = (Vec::new(), 0, true);
        // All requests that are complete, because no edge announces those that have been read.
        while keep_alive {
            match parse(&input[done..]) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    done += request.bytes;
                    keep_alive = request.keep_alive;
                    let (status, content) = respond(&request);
                    encode(status, content, keep_alive, now.wall, &mut responses);
                }
                Err(status) => {
                    keep_alive = false;
                    encode(status, b"", keep_alive, now.wall, &mut responses);
                }
            }
        }
        input.drain(..done);
        if !responses.is_empty() {
            out.push(Action::Send(key, Piece::private(responses)));
            out.push(Action::Rearm(key));
        }
        if !keep_alive {
            out.push(Action::Finish(key));
        }
    }

    fn on_end(&mut self, key: usize, _: &mut Vec<Action>) {
        self.0.remove(&key);
    }
}

/// A complete request at the front of the input.
#[derive(PartialEq, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub body: &'a [u8],
    pub keep_alive: bool,
    /// The length of head and body.
    pub bytes: usize,
}

/// Parses the request at the front of `input`; `None` if it is not complete.
///
/// # Errors
///
/// The status of the refusal. It is the last response, because where the next request begins is unknown.
pub fn parse(input: &[u8]) -> Result<Option<Request<'_>>, &'static str> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let head_bytes = match head.parse(&input[..input.len().min(HEAD_BYTES_MAX)]) {
        Ok(Status::Complete(bytes)) => bytes,
        Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => {
            return Err("431 Request Header Fields Too Large");
        }
        Err(_) => return Err("400 Bad Request"),
    };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Err("400 Bad Request");
    };
    if version == 1 && values(head.headers, "Host").count() != 1 {
        return Err("400 Bad Request"); // RFC 9112 §3.2.
    }
    let body_bytes = body_bytes(head.headers)?;
    // Before it is here: a client that is told early need not send it.
    if body_bytes > BODY_BYTES_MAX {
        return Err("413 Content Too Large");
    }
    if !["GET", "POST"].contains(&method) {
        return Err("501 Not Implemented");
    }
    let bytes = head_bytes + body_bytes;
    let Some(body) = input.get(head_bytes..bytes) else { return Ok(None) };
    let mut options =
        values(head.headers, "Connection").flat_map(|value| value.split(|b| *b == b','));
    let is_last = options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
    let keep_alive = version == 1 && !is_last;
    Ok(Some(Request { method, target, body, keep_alive, bytes }))
}

/// The length of the content. If two programs on the way frame the same bytes differently, one request
/// can hide in the content of another (smuggling), so whatever is ambiguous is refused (RFC 9112 §6.3).
fn body_bytes(fields: &[Header<'_>]) -> Result<usize, &'static str> {
    if values(fields, "Transfer-Encoding").next().is_some() {
        return Err("501 Not Implemented");
    }
    let mut lengths = values(fields, "Content-Length");
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(0),
        // Digits only: Rust would also parse "+5". Too many digits are an enormous length.
        (Some(digits), None) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            Ok(std::str::from_utf8(digits)
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(usize::MAX))
        }
        _ => Err("400 Bad Request"),
    }
}

/// The values of all fields of this name. Names do not distinguish case.
fn values<'a>(fields: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let fields = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    fields.map(|field| field.value)
}

/// Status and content of the response.
fn respond<'a>(request: &Request<'a>) -> (&'static str, &'a [u8]) {
    match (request.method, request.target) {
        ("GET", "/") => ("200 OK", b"hello\n"),
        ("POST", "/echo") => ("200 OK", request.body),
        _ => ("404 Not Found", b"not found\n"),
    }
}

/// Appends a response. The length in its head tells the peer where the next one begins.
fn encode(status: &str, content: &[u8], keep_alive: bool, time: Wall, out: &mut Vec<u8>) {
    let connection = if keep_alive { "" } else { "Connection: close\r\n" };
    let (date, length) = (time.http_date(), content.len());
    let head = format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {length}\r\n{connection}\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(content);
}
