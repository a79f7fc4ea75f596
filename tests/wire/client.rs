//! A small blocking client for HTTP/1.1 and WebSocket. It shares no code with the server, so that both cannot
//! make the same mistake.
//!
//! It sends only what a test tells it to send: a ping, for example, is answered only if the test answers it. It
//! checks on every response what the contract promises of all responses. Every read has a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};

use crate::server::{Address, DEADLINE};

/// The example key of RFC 6455 §1.3; `ACCEPT` is the required answer.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

// The first byte of a frame: FIN and an opcode (RFC 6455 §5.2).
pub const FIN: u8 = 0x80;
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// A stream of bytes in both directions.
pub trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A connected stream of either family.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A protocol over TCP, and the TCP stream below it.
    #[allow(dead_code, reason = "only `tests/tls` speaks TLS")]
    Over(Box<dyn Duplex>, TcpStream),
}

impl Stream {
    pub fn connect(address: &Address) -> Stream {
        Stream::try_connect(address).expect("connect")
    }

    /// Connects although there may be no server.
    pub fn try_connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, DEADLINE)?;
                Ok(Stream::from_tcp(stream))
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
                stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
                Ok(Stream::Unix(stream))
            }
        }
    }

    /// With a small receive buffer, so that the peer soon blocks if nothing is read.
    pub fn connect_narrow(address: &Address) -> Stream {
        let Address::Tcp(address) = address else { panic!("only TCP has a receive window") };
        let socket =
            Socket::new(Domain::for_address(*address), Type::STREAM, None).expect("socket");
        socket.set_recv_buffer_size(32 * 1024).expect("a buffer size");
        socket.connect(&(*address).into()).expect("connect");
        Stream::from_tcp(socket.into())
    }

    /// From an address of this machine.
    #[allow(dead_code, reason = "only `tests/cluster` has several addresses")]
    pub fn connect_from(source: IpAddr, address: &Address) -> Stream {
        let Address::Tcp(address) = address else { panic!("only TCP has addresses") };
        let socket =
            Socket::new(Domain::for_address(*address), Type::STREAM, None).expect("socket");
        socket.bind(&SocketAddr::new(source, 0).into()).expect("an address of this machine");
        socket.connect(&(*address).into()).expect("connect");
        Stream::from_tcp(socket.into())
    }

    fn from_tcp(stream: TcpStream) -> Stream {
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        Stream::Tcp(stream)
    }

    pub fn set_read_timeout(&self, timeout: Duration) {
        match self {
            Stream::Tcp(stream) | Stream::Over(_, stream) => {
                stream.set_read_timeout(Some(timeout)).expect("a timeout");
            }
            Stream::Unix(stream) => stream.set_read_timeout(Some(timeout)).expect("a timeout"),
        }
    }

    /// Shuts down the write half: the peer reads an end of stream.
    pub fn finish(&self) {
        // This fails if the peer has closed already.
        let _ = match self {
            Stream::Tcp(stream) | Stream::Over(_, stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Closes with a reset (RST) instead of an end of stream (FIN).
    pub fn reset(self) {
        if let Stream::Tcp(stream) | Stream::Over(_, stream) = &self {
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("linger");
        }
    }

    /// The local port.
    pub fn port(&self) -> u16 {
        match self {
            Stream::Tcp(stream) | Stream::Over(_, stream) => {
                stream.local_addr().expect("an address").port()
            }
            Stream::Unix(_) => panic!("a Unix socket has no port"),
        }
    }
}

/// Receives, again if that was interrupted. The kernel does not restart a receive with a timeout when the
/// process has been stopped and continues, also without a handler of signals (signal(7)).
pub fn uninterrupted<T>(mut receive: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match receive() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) | Stream::Over(_, stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Over(stream, _) => stream.read(buffer),
        })
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Over(stream, _) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Over(stream, _) => stream.flush(),
            Stream::Tcp(_) | Stream::Unix(_) => Ok(()),
        }
    }
}

/// A stream and the bytes read from it but not parsed yet.
struct Wire {
    stream: Stream,
    received: Vec<u8>,
}

impl Wire {
    fn readable_within(&mut self, timeout: Duration) -> bool {
        self.stream.set_read_timeout(timeout);
        let more = self.more();
        self.stream.set_read_timeout(DEADLINE);
        !matches!(more, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Reads once. False at the end of the stream.
    fn more(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        self.received.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }

    /// Chunked content (RFC 9112 §7.1) without extensions and trailers. `None`: it is cut.
    fn chunks(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        loop {
            let line = loop {
                match self.received.windows(2).position(|two| two == b"\r\n") {
                    Some(at) => break at,
                    None if !self.more()? => return Ok(None),
                    None => {}
                }
            };
            let size = std::str::from_utf8(&self.received[..line]).expect("a size");
            let size = usize::from_str_radix(size, 16).expect("a size");
            if !self.at_least(line + size + 4)? {
                return Ok(None);
            }
            let chunk: Vec<u8> = self.received.drain(..line + size + 4).collect();
            assert!(chunk.ends_with(b"\r\n"), "a chunk ends with its line");
            content.extend_from_slice(&chunk[line + 2..line + 2 + size]);
            if size == 0 {
                return Ok(Some(content));
            }
        }
    }

    /// Reads until `count` bytes are there. False if the stream ends before that.
    fn at_least(&mut self, count: usize) -> io::Result<bool> {
        while self.received.len() < count {
            if !self.more()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Asserts that the stream ends here, with FIN and without further bytes.
    fn expect_end(&mut self) {
        loop {
            let rest = String::from_utf8_lossy(&self.received);
            assert!(rest.is_empty(), "unexpected bytes: {rest:?}");
            match self.more() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => panic!("expected FIN: {error}"),
            }
        }
    }
}

// HTTP.

/// A request, as a builder.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

pub fn request(method: &str, target: &str) -> Request {
    Request { method: method.to_owned(), target: target.to_owned(), fields: Vec::new(), body: None }
}

pub fn get(target: &str) -> Request {
    request("GET", target)
}

pub fn post(target: &str) -> Request {
    request("POST", target)
}

pub fn patch(target: &str) -> Request {
    request("PATCH", target)
}

pub fn delete(target: &str) -> Request {
    request("DELETE", target)
}

/// A WebSocket upgrade with the fields that browsers send.
pub fn upgrade(target: &str) -> Request {
    get(target)
        .field("Connection", "Upgrade")
        .field("Upgrade", "websocket")
        .field("Sec-WebSocket-Version", "13")
        .field("Sec-WebSocket-Key", KEY)
}

impl Request {
    pub fn field(mut self, name: &str, value: &str) -> Request {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes the fields named `name`.
    pub fn without(mut self, name: &str) -> Request {
        self.fields.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// `Authorization: Bearer …`.
    pub fn session(self, id: &str) -> Request {
        self.field("Authorization", &format!("Bearer {id}"))
    }

    /// Adds a body with a `Content-Length` and no `Content-Type`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    pub fn json(self, body: &Value) -> Request {
        self.field("Content-Type", "application/json").body(body.to_string())
    }

    /// The bytes to send. A field `Host` takes the place of `host`.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// A complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub version: String,
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// Parses a head, with or without its final empty line. The body is empty.
    pub fn from_head(head: &[u8]) -> Answer {
        let head = std::str::from_utf8(head).expect("a head in ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let mut start = lines.next().expect("a status line").splitn(3, ' ');
        let version = start.next().expect("a version").to_owned();
        let status = start.next().and_then(|s| s.parse().ok()).expect("a status");
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a field");
            (name.to_owned(), value.trim().to_owned())
        });
        Answer { version, status, fields: fields.collect(), body: Vec::new() }
    }

    /// The value of the field named `name`, which must not be repeated.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is repeated: {self:?}");
        value
    }

    /// Whether a field that is a comma-separated list contains `item`, ignoring case.
    pub fn lists(&self, name: &str, item: &str) -> bool {
        let mut values = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        values.any(|(_, value)| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(item)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.field("Content-Type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// A string in the JSON object of the body.
    #[track_caller]
    pub fn string(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {self:?}")).to_owned()
    }

    /// Asserts the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{} {:?}", self.text(), self.fields);
        self
    }

    /// Asserts that the response is an error with this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Answer {
        let answer = self.expect(status);
        assert_eq!(answer.json()["code"], code, "{}", answer.text());
        answer
    }

    /// Asserts what the contract promises of every response, and of every error.
    fn check_conventions(&self, with_body: bool) {
        assert!(self.field("Date").is_some_and(|date| date.ends_with(" GMT")), "{self:?}");
        if self.status < 400 {
            return;
        }
        assert_eq!(self.field("Content-Type"), Some("application/json"), "{self:?}");
        if with_body {
            let body = self.json();
            let (detail, code) = (body["detail"].as_str(), body["code"].as_str());
            assert!(detail.is_some_and(|text| !text.is_empty()), "{self:?}");
            let snake = |code: &str| code.bytes().all(|b| b == b'_' || b.is_ascii_lowercase());
            assert!(code.is_some_and(|code| !code.is_empty() && snake(code)), "{self:?}");
        }
        match self.status {
            401 => assert!(self.field("WWW-Authenticate").is_some(), "{self:?}"),
            405 => assert!(self.field("Allow").is_some(), "{self:?}"),
            429 | 503 => {
                let seconds = self.field("Retry-After").map(str::parse::<u32>);
                assert!(matches!(seconds, Some(Ok(_))), "{self:?}");
            }
            _ => {}
        }
    }
}

/// A persistent HTTP connection.
pub struct Http {
    wire: Wire,
    host: String,
}

impl Http {
    pub fn connect(address: &Address) -> Http {
        Http::over(Stream::connect(address), address)
    }

    pub fn over(stream: Stream, address: &Address) -> Http {
        Http { wire: Wire { stream, received: Vec::new() }, host: address.host() }
    }

    pub fn stream(&self) -> &Stream {
        &self.wire.stream
    }

    pub fn into_stream(self) -> Stream {
        self.wire.stream
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.stream.write_all(bytes.as_ref()).expect("send");
    }

    /// Sends although the peer may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.stream.write_all(bytes.as_ref())
    }

    pub fn send_request(&mut self, request: &Request) {
        let bytes = request.bytes(&self.host);
        self.send(bytes);
    }

    /// Sends one request and reads its response.
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Answer {
        self.send_request(request);
        self.answer_to(&request.method)
    }

    /// Sends all requests in one write, then reads all responses.
    pub fn pipeline(&mut self, requests: &[Request]) -> Vec<Answer> {
        let bytes: Vec<u8> = requests.iter().flat_map(|one| one.bytes(&self.host)).collect();
        self.send(bytes);
        requests.iter().map(|one| self.answer_to(&one.method)).collect()
    }

    /// Reads the response to any method but HEAD.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// Reads the response to `method`. A response to HEAD has no body, whatever its `Content-Length`.
    #[track_caller]
    pub fn answer_to(&mut self, method: &str) -> Answer {
        let answer = self.try_answer_to(method).expect("read a response");
        answer.expect("a response, but the stream ended")
    }

    /// Reads a response, or `None` if the stream ends with FIN before its first byte.
    #[track_caller]
    pub fn try_answer_to(&mut self, method: &str) -> io::Result<Option<Answer>> {
        let answer = self.answer_or_cut(method);
        let is_cut = matches!(&answer, Err(error) if error.kind() == ErrorKind::UnexpectedEof);
        assert!(!is_cut, "the stream ends within a response");
        answer
    }

    /// Sends all requests in one write, then reads all responses. `None`: the server ends the stream before that.
    #[allow(dead_code, reason = "only `tests/wire/ceiling.rs` calls it")]
    pub fn try_pipeline(&mut self, requests: &[Request]) -> Option<Vec<Answer>> {
        let bytes: Vec<u8> = requests.iter().flat_map(|one| one.bytes(&self.host)).collect();
        self.try_send(bytes).ok()?;
        requests.iter().map(|one| self.answer_or_cut(&one.method).ok()?).collect()
    }

    /// Like `try_answer_to`. `UnexpectedEof`: the stream ends within a response.
    fn answer_or_cut(&mut self, method: &str) -> io::Result<Option<Answer>> {
        let cut = || io::Error::from(ErrorKind::UnexpectedEof);
        let head_len = loop {
            let found = self.wire.received.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            if !self.wire.more()? {
                return if self.wire.received.is_empty() { Ok(None) } else { Err(cut()) };
            }
        };
        let head: Vec<u8> = self.wire.received.drain(..head_len).collect();
        let mut answer = Answer::from_head(&head);
        let status = answer.status;
        let bodiless = method == "HEAD" || status < 200 || status == 204;
        if answer.lists("Transfer-Encoding", "chunked") && !bodiless {
            answer.body = self.wire.chunks()?.ok_or_else(cut)?;
        } else if !bodiless {
            let length = answer.field("Content-Length").and_then(|length| length.parse().ok());
            let length: usize = length.unwrap_or_else(|| panic!("no length: {answer:?}"));
            if !self.wire.at_least(length)? {
                return Err(cut());
            }
            answer.body = self.wire.received.drain(..length).collect();
        }
        if status >= 200 {
            answer.check_conventions(!bodiless);
        }
        Ok(Some(answer))
    }

    /// Asserts that the server ends the connection here, with FIN and without further bytes.
    #[track_caller]
    pub fn expect_end(&mut self) {
        self.wire.expect_end();
    }

    /// Waits up to `timeout` for input. True if there are bytes to read or the stream has ended.
    pub fn readable_within(&mut self, timeout: Duration) -> bool {
        self.wire.readable_within(timeout)
    }

    /// Upgrades, and checks all that RFC 6455 §4.1 requires a client to check.
    #[track_caller]
    pub fn upgrade(mut self, request: &Request) -> Ws {
        self.send_request(request);
        self.upgraded()
    }

    /// Like `upgrade`, for a server that may be shutting down: `None` if it refuses or closes.
    pub fn try_upgrade(mut self, request: &Request) -> Option<Ws> {
        self.try_send(request.bytes(&self.host)).ok()?;
        let answer = self.try_answer_to("GET").ok()??;
        (answer.status == 101).then(|| self.into_ws(&answer))
    }

    /// Reads the response to an upgrade that has been sent already.
    #[track_caller]
    pub fn upgraded(mut self) -> Ws {
        let answer = self.answer().expect(101);
        self.into_ws(&answer)
    }

    #[track_caller]
    fn into_ws(self, answer: &Answer) -> Ws {
        assert_eq!(answer.version, "HTTP/1.1");
        assert!(answer.lists("Connection", "Upgrade"), "{answer:?}");
        assert!(answer.lists("Upgrade", "websocket"), "{answer:?}");
        assert_eq!(answer.field("Sec-WebSocket-Accept"), Some(ACCEPT));
        assert_eq!(answer.field("Sec-WebSocket-Extensions"), None, "extensions are not supported");
        let protocol = answer.field("Sec-WebSocket-Protocol").map(str::to_owned);
        let (session, user_id) = (String::new(), String::new());
        Ws { wire: self.wire, protocol, session, user_id, has_closed: false }
    }
}

// Event streams.

/// The response to a request for an event stream, as it arrives.
#[allow(dead_code, reason = "only `tests/wire` reads streams")]
pub struct Events {
    wire: Wire,
    pub head: Answer,
    content: Vec<u8>,
    is_chunked: bool,
    has_ended: bool,
}

#[allow(dead_code, reason = "only `tests/wire` reads streams")]
impl Events {
    /// Reads the head, whose status must be 200.
    #[track_caller]
    pub fn begin(mut http: Http) -> Events {
        let head_len = loop {
            let found = http.wire.received.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            assert!(http.wire.more().expect("read"), "a response, but the stream ended");
        };
        let head: Vec<u8> = http.wire.received.drain(..head_len).collect();
        let head = Answer::from_head(&head).expect(200);
        head.check_conventions(false);
        let is_chunked = head.lists("Transfer-Encoding", "chunked");
        Events { wire: http.wire, head, content: Vec::new(), is_chunked, has_ended: false }
    }

    /// Adds what comes next to `content`: a chunk, or some bytes. False at the end of the response.
    fn more(&mut self) -> bool {
        if self.has_ended {
            return false;
        }
        if !self.is_chunked {
            self.has_ended = self.wire.received.is_empty() && !self.wire.more().expect("read");
            self.content.append(&mut self.wire.received);
            return !self.has_ended;
        }
        let line = loop {
            match self.wire.received.windows(2).position(|two| two == b"\r\n") {
                Some(at) => break at,
                None => assert!(self.wire.more().expect("read"), "the response is cut"),
            }
        };
        let size = String::from_utf8(self.wire.received[..line].to_vec()).expect("a size");
        assert!(!size.starts_with('0') || size == "0", "{size}");
        let size = usize::from_str_radix(&size, 16).expect("a size");
        let end = line + 2 + size;
        assert!(self.wire.at_least(end + 2).expect("read"), "the response is cut");
        self.content.extend_from_slice(&self.wire.received[line + 2..end]);
        assert_eq!(&self.wire.received[end..end + 2], b"\r\n");
        self.wire.received.drain(..end + 2);
        self.has_ended = size == 0;
        size > 0
    }

    /// The next line, without its end; `None` at the end of the response.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.content.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.content.drain(..=at).collect();
                return Some(String::from_utf8(line[..at].to_vec()).expect("UTF-8"));
            }
            if !self.more() {
                assert!(self.content.is_empty(), "the last line has no end");
                return None;
            }
        }
    }

    /// The next event of a `text/event-stream`, with its id. Comments are skipped.
    #[track_caller]
    pub fn event(&mut self) -> (Value, Option<String>) {
        let mut line = self.line().expect("an event, but the response ended");
        while line == ":" || line.is_empty() {
            line = self.line().expect("an event, but the response ended");
        }
        let data = line.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {line}"));
        let data = serde_json::from_str(data).expect("JSON");
        let mut id = None;
        let mut line = self.line().expect("a line");
        if let Some(text) = line.strip_prefix("id: ") {
            id = Some(text.to_owned());
            line = self.line().expect("a line");
        }
        assert_eq!(line, "", "an event ends with an empty line");
        (data, id)
    }

    /// The next event of an NDJSON stream.
    #[track_caller]
    pub fn json(&mut self) -> Value {
        let line = self.line().expect("a line, but the response ended");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Asserts that the next event closes the stream, which then ends with the connection. Returns its
    /// id.
    #[track_caller]
    pub fn expect_close(mut self, code: u16, reason: &str) -> Option<String> {
        let (event, id) = self.event();
        assert_eq!(event, json!({"type": "close", "code": code, "reason": reason}));
        assert_eq!(self.line(), None);
        self.wire.expect_end();
        id
    }

    pub fn into_stream(self) -> Stream {
        self.wire.stream
    }
}

// WebSocket.

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// A masked frame. Its `first` byte holds FIN, the reserved bits and the opcode.
pub fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let payload = payload.as_ref();
    let mut bytes = frame_header(first, payload.len() as u64);
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The header of a masked frame, without the mask itself.
pub fn frame_header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes
}

/// A text message in one frame.
pub fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | TEXT, payload)
}

/// A `chat` event in one frame.
pub fn chat(message: &str) -> Vec<u8> {
    text(json!({"type": "chat", "message": message}).to_string())
}

/// A `chat` event with a nonce, in one frame.
pub fn chat_with(nonce: &str, message: &str) -> Vec<u8> {
    text(json!({"type": "chat", "message": message, "nonce": nonce}).to_string())
}

/// A `typing` event in one frame.
pub fn typing() -> Vec<u8> {
    text(r#"{"type":"typing"}"#)
}

/// The payload of a close frame.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// The contents of all history frames of one socket.
#[derive(Clone, Debug)]
pub struct History {
    pub messages: Vec<Value>,
    pub frames: usize,
    pub complete: bool,
    pub you: String,
    pub users: Value,
}

/// A WebSocket connection to a room.
pub struct Ws {
    wire: Wire,
    /// The subprotocol that the server selected.
    pub protocol: Option<String>,
    /// The id of its session, or empty if the test has not set it.
    pub session: String,
    /// Its user id in the room, or empty if the test has not set it.
    pub user_id: String,
    /// It has sent a close frame, so it does not answer one (RFC 6455 §5.5.1).
    has_closed: bool,
}

impl Ws {
    pub fn stream(&self) -> &Stream {
        &self.wire.stream
    }

    pub fn into_stream(self) -> Stream {
        self.wire.stream
    }

    /// Whether bytes have been read but not parsed yet.
    #[allow(dead_code, reason = "only `tests/attacks` polls its sockets")]
    pub fn has_more(&self) -> bool {
        !self.wire.received.is_empty()
    }

    /// Waits up to `timeout` for input. True if there are bytes to read or the stream has ended.
    #[allow(dead_code, reason = "only `tests/wire` waits for input")]
    pub fn readable_within(&mut self, timeout: Duration) -> bool {
        self.wire.readable_within(timeout)
    }

    /// Closes with a reset (RST).
    pub fn reset(self) {
        self.wire.stream.reset();
    }

    /// Reads what has arrived and discards it.
    #[allow(dead_code, reason = "only `tests/wire/ceiling.rs` calls it")]
    pub fn skim(&mut self) {
        let Stream::Tcp(stream) = &mut self.wire.stream else { panic!("only over TCP") };
        self.wire.received.clear();
        stream.set_nonblocking(true).expect("a mode");
        let mut buffer = [0; 64 * 1024];
        while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {}
        stream.set_nonblocking(false).expect("a mode");
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.has_closed |= bytes.as_ref().first() == Some(&(FIN | CLOSE));
        self.wire.stream.write_all(bytes.as_ref()).expect("send");
    }

    /// Sends although the peer may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.stream.write_all(bytes.as_ref())
    }

    #[track_caller]
    pub fn text(&mut self, payload: impl AsRef<[u8]>) {
        self.send(text(payload));
    }

    #[track_caller]
    pub fn chat(&mut self, message: &str) {
        self.send(chat(message));
    }

    #[track_caller]
    pub fn typing(&mut self) {
        self.send(typing());
    }

    #[track_caller]
    pub fn pong(&mut self, payload: impl AsRef<[u8]>) {
        self.send(frame(FIN | PONG, payload));
    }

    /// Performs the close handshake and waits until the server ends the stream.
    #[track_caller]
    pub fn close(mut self) {
        self.send(frame(FIN | CLOSE, close_payload(1000, "")));
        self.until_end();
    }

    /// Reads the next frame, or `None` at the end of the stream.
    pub fn try_frame(&mut self) -> io::Result<Option<Frame>> {
        let cut = || io::Error::new(ErrorKind::UnexpectedEof, "the stream ends within a frame");
        if !self.wire.at_least(2)? {
            return if self.wire.received.is_empty() { Ok(None) } else { Err(cut()) };
        }
        let (first, second) = (self.wire.received[0], self.wire.received[1]);
        assert_eq!(first & 0xF0, FIN, "FIN, and no reserved bits");
        assert_eq!(second & 0x80, 0, "server frames are not masked");
        let extended = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if !self.wire.at_least(2 + extended)? {
            return Err(cut());
        }
        let bytes = &self.wire.received[2..2 + extended];
        let long = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let length = if extended == 0 { usize::from(second) } else { long };
        let header = 2 + extended;
        if !self.wire.at_least(header + length)? {
            return Err(cut());
        }
        let payload = self.wire.received[header..header + length].to_vec();
        self.wire.received.drain(..header + length);
        Ok(Some(Frame { opcode: first & 0xF, payload }))
    }

    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        self.try_frame().expect("read a frame").expect("a frame, but the stream ended")
    }

    /// Reads the next frame, skipping pings and pongs.
    #[track_caller]
    fn data_frame(&mut self) -> Frame {
        loop {
            let frame = self.frame();
            if !matches!(frame.opcode, PING | PONG) {
                return frame;
            }
        }
    }

    /// Reads the next event, skipping pings without answering them.
    #[track_caller]
    pub fn event(&mut self) -> Value {
        event_of(self.data_frame())
    }

    /// Reads the next event and answers all pings before it.
    #[track_caller]
    pub fn event_with_pongs(&mut self) -> Value {
        loop {
            let frame = self.frame();
            match frame.opcode {
                PING => self.pong(frame.payload),
                PONG => {}
                _ => return event_of(frame),
            }
        }
    }

    /// Reads the next event and asserts that it has at least the fields of `pattern`, with these values.
    #[track_caller]
    pub fn expect_event(&mut self, pattern: &Value) -> Value {
        let event = self.event();
        for (name, value) in pattern.as_object().expect("a pattern is an object") {
            assert_eq!(&event[name], value, "{name} of {event}, expected {pattern}");
        }
        event
    }

    #[track_caller]
    pub fn expect_chat(&mut self, user: &str, message: &str) -> Value {
        self.expect_event(&json!({"type": "chat", "user": user, "message": message}))
    }

    #[track_caller]
    pub fn expect_join(&mut self, user: &str) -> Value {
        self.expect_event(&json!({"type": "user_joined", "user": user}))
    }

    #[track_caller]
    pub fn expect_left(&mut self, user: &str) -> Value {
        self.expect_event(&json!({"type": "user_left", "user": user}))
    }

    /// Returns the room as it is after the change.
    #[track_caller]
    pub fn expect_change(&mut self) -> Value {
        self.expect_event(&json!({"type": "room_changed"}))["room"].clone()
    }

    #[track_caller]
    pub fn expect_refused(&mut self, code: &str) -> Value {
        let event = self.expect_event(&json!({"type": "refused", "code": code}));
        assert!(event["detail"].as_str().is_some_and(|text| !text.is_empty()), "{event}");
        assert!(event["room_id"].is_string(), "{event}");
        event
    }

    /// Reads the next frame, skipping pings and pongs, and asserts that it is a history frame as the contract
    /// defines it.
    #[track_caller]
    pub fn history_frame(&mut self) -> Value {
        history_of(&self.data_frame())
    }

    /// Reads all history frames, including the last one.
    #[track_caller]
    pub fn history(&mut self) -> History {
        let (mut messages, mut frames) = (Vec::new(), 0);
        loop {
            let mut frame = self.history_frame();
            frames += 1;
            messages.append(frame["messages"].as_array_mut().expect("messages"));
            if frame["more"] == false {
                let complete = frame["complete"].as_bool().expect("complete");
                let you = frame["you"].as_str().expect("you").to_owned();
                let mut users = frame["users"].clone();
                let mut has_more = frame.get("users_more").is_some();
                while has_more {
                    let frame = self.data_frame();
                    assert!(frame.payload.len() < 64 * 1024, "{} bytes", frame.payload.len());
                    let mut frame = event_of(frame);
                    assert_eq!(frame["type"], "users", "{frame}");
                    frames += 1;
                    let more = frame["users"].as_array_mut().expect("users");
                    assert!(!more.is_empty());
                    users.as_array_mut().expect("users").append(more);
                    has_more = frame["more"].as_bool().expect("more");
                }
                return History { messages, frames, complete, you, users };
            }
        }
    }

    /// Asserts that the server has handled all that was sent and has sent no event in the meantime.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        self.text(r#"{"type":"ping"}"#);
        self.expect_event(&json!({"type": "pong"}));
    }

    /// Asserts that the next frame is a ping, and returns its payload.
    #[track_caller]
    pub fn expect_ping(&mut self) -> Vec<u8> {
        let frame = self.frame();
        assert_eq!(frame.opcode, PING, "{frame:?}");
        frame.payload
    }

    /// Asserts that the next frame, skipping pings and pongs, is this close frame, and that the stream then ends.
    #[track_caller]
    pub fn expect_close(mut self, code: u16, reason: &str) {
        let (actual_code, actual_reason) = self.closed();
        assert_eq!((actual_code, actual_reason.as_str()), (code, reason));
    }

    /// Asserts that the next frame, skipping pings and pongs, is a close frame with this code and some reason.
    #[track_caller]
    pub fn expect_close_code(mut self, code: u16) {
        let (actual, reason) = self.closed();
        assert_eq!(actual, code, "{reason}");
        assert!(!reason.is_empty(), "a reason");
    }

    /// Reads the next frame, skipping pings and pongs, which must be a close frame. Answers it if it
    /// is not an answer itself, asserts that the stream ends, and returns code and reason.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        let frame = self.data_frame();
        assert_eq!(frame.opcode, CLOSE, "{:?}", String::from_utf8_lossy(&frame.payload));
        let closed = parse_close(&frame.payload);
        if !self.has_closed {
            let _ = self.try_send(self::frame(FIN | CLOSE, &frame.payload));
        }
        self.wire.expect_end();
        closed
    }

    /// Reads until the stream ends, by FIN or by reset. Returns code and reason of the close frame if there was one.
    #[track_caller]
    pub fn until_end(&mut self) -> Option<(u16, String)> {
        let mut closed = None;
        loop {
            match self.try_frame() {
                Ok(Some(frame)) if frame.opcode == CLOSE => {
                    closed = Some(parse_close(&frame.payload));
                }
                Ok(Some(_)) => {}
                Ok(None) => return closed,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return closed,
                Err(error) => panic!("the stream does not end: {error}"),
            }
        }
    }
}

/// Parses a history frame and asserts its shape: only the last frame has more fields than messages, and message
/// ids increase.
#[track_caller]
pub fn history_of(frame: &Frame) -> Value {
    assert_eq!(frame.opcode, TEXT, "{:?}", String::from_utf8_lossy(&frame.payload));
    let event: Value = serde_json::from_slice(&frame.payload).expect("an event in JSON");
    assert_eq!(event["type"], "history", "{event}");
    let size = frame.payload.len();
    assert!(size < 64 * 1024, "a history frame of {size} bytes");
    assert!(event["room_id"].is_string(), "{event}");
    let messages = event["messages"].as_array().expect("messages");
    assert!(messages.iter().all(|message| message["id"].is_string()), "{event}");
    assert!(messages.windows(2).all(|pair| pair[0]["id"].as_str() < pair[1]["id"].as_str()));
    let more = event["more"].as_bool().expect("more");
    assert_eq!(event["complete"].is_boolean(), !more, "{event}");
    assert_eq!(event["you"].is_string(), !more, "{event}");
    assert_eq!(event["owner"].is_boolean(), !more, "{event}");
    assert_eq!(event["users"].is_array(), !more, "{event}");
    if more {
        assert!(["complete", "you", "owner", "users"].iter().all(|name| event.get(name).is_none()));
        assert!(!messages.is_empty(), "an empty page is the last");
    }
    event
}

pub fn event_of(frame: Frame) -> Value {
    match frame.opcode {
        TEXT => serde_json::from_slice(&frame.payload).expect("an event in JSON"),
        CLOSE => panic!("an event, but closed with {:?}", parse_close(&frame.payload)),
        other => panic!("an event, but opcode {other}"),
    }
}

fn parse_close(payload: &[u8]) -> (u16, String) {
    match payload {
        [high, low, reason @ ..] => {
            assert!(reason.len() <= 123);
            let reason = String::from_utf8(reason.to_vec()).expect("a reason in UTF-8");
            (u16::from_be_bytes([*high, *low]), reason)
        }
        _ => (1005, String::new()),
    }
}
