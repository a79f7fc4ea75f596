//! The bytes of a peer: requests and frames for the server, and parsers for what it sends.
//!
//! Owns the peer's side of HTTP/1.1 and of RFC 6455, as far as the tests need them. Must not use
//! the server's own codecs: a mistake in them would be invisible if both sides shared it.

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8A;

/// A masked frame (RFC 6455 §5.2).
pub fn frame(first: u8, payload: &[u8], mask: u32) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask.to_be_bytes());
    // Four bytes at a time: in a debug build, single bytes took a seventh of the time of `squeeze`.
    let mut words = payload.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_be_bytes(word.try_into().expect("four bytes")) ^ mask;
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend(words.remainder().iter().zip(mask.to_be_bytes()).map(|(byte, mask)| byte ^ mask));
    out
}

/// Takes one whole frame from the front of `inbox`: its first byte and its payload.
pub fn take_frame(inbox: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&first, &second) = (inbox.first()?, inbox.get(1)?);
    let (head, len) = match second {
        0..=125 => (2, usize::from(second)),
        126 => (4, usize::from(u16::from_be_bytes(inbox.get(2..4)?.try_into().unwrap()))),
        127 => (10, u64::from_be_bytes(inbox.get(2..10)?.try_into().unwrap()) as usize),
        _ => panic!("a frame of the server is masked: {first:#x} {second:#x}"),
    };
    assert!(
        matches!(first, TEXT | CLOSE | PING | PONG),
        "the server sends no frame that begins with {first:#x}: {:?}",
        String::from_utf8_lossy(&inbox[..inbox.len().min(200)])
    );
    let payload = inbox.get(head..head + len)?.to_vec();
    inbox.drain(..head + len);
    Some((first, payload))
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Takes one whole response from the front of `inbox`. A response to a HEAD has no content.
pub fn take_response(inbox: &mut Vec<u8>, to_head: bool) -> Option<Response> {
    let end = inbox.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(inbox[..end].to_vec()).expect("a head is text");
    assert!(head.starts_with("HTTP/1.1 "), "not a response: {head:?}");
    let status = head[9..12].parse().expect("a status is three digits");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.filter(|_| !to_head);
    let length = length.map_or(0, |length| length.parse().expect("a length is a number"));
    let body = inbox.get(end..end + length)?.to_vec();
    inbox.drain(..end + length);
    Some(Response { status, head, body })
}

/// How a stream writes its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `text/event-stream`.
    EventStream,
    /// A line of JSON for each.
    Lines,
}

/// A request for an event stream. `query` follows the path; `last_id` is a `Last-Event-ID`.
pub fn events(room: &str, session: &str, query: &str, last_id: &str, format: Format) -> Vec<u8> {
    let accept = match format {
        Format::EventStream => "Accept: text/event-stream\r\n",
        Format::Lines => "",
    };
    let last_id = match last_id {
        "" => String::new(),
        id => format!("Last-Event-ID: {id}\r\n"),
    };
    format!(
        "GET /rooms/{room}/events?session_id={session}{query} HTTP/1.1\r\nHost: sim\r\n\
         {accept}{last_id}\r\n"
    )
    .into_bytes()
}

/// Takes the head of a stream from the front of `inbox`, if that is what is there.
pub fn take_stream_head(inbox: &mut Vec<u8>) -> Option<String> {
    let end = inbox.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(inbox[..end].to_vec()).expect("a head is text");
    if !head.contains("\r\nTransfer-Encoding: chunked\r\n") {
        return None;
    }
    inbox.drain(..end);
    Some(head)
}

/// Takes one whole chunk from the front of `inbox`. The last is empty.
pub fn take_chunk(inbox: &mut Vec<u8>) -> Option<Vec<u8>> {
    let line = inbox.windows(2).position(|two| two == b"\r\n")?;
    let size = std::str::from_utf8(&inbox[..line]).expect("a size");
    let size = usize::from_str_radix(size, 16).expect("a size");
    let chunk = inbox.get(line + 2..line + 2 + size + 2)?;
    assert_eq!(&chunk[size..], b"\r\n", "the end of a chunk");
    let chunk = chunk[..size].to_vec();
    inbox.drain(..line + 2 + size + 2);
    Some(chunk)
}

/// The events of a chunk, each with its id. A chunk has whole events only.
pub fn events_in(chunk: &[u8], format: Format) -> Vec<(String, Option<String>)> {
    let text = String::from_utf8(chunk.to_vec()).expect("UTF-8");
    if format == Format::Lines {
        let lines = text.strip_suffix('\n').expect("a line has an end");
        return lines.split('\n').map(|line| (line.to_owned(), None)).collect();
    }
    let blocks = text.strip_suffix("\n\n").expect("an event ends with an empty line").split("\n\n");
    let event = |block: &str| {
        let (data, id) = match block.split_once("\nid: ") {
            Some((data, id)) => (data, Some(id.to_owned())),
            None => (block, None),
        };
        let data = data.strip_prefix("data: ").expect("one field with data");
        assert!(!data.contains('\n'), "more lines: {block}");
        (data.to_owned(), id)
    };
    let event = |block: &str| match block {
        ":" => (r#"{"type":"ping"}"#.to_owned(), None), // A comment.
        block => event(block),
    };
    blocks.map(event).collect()
}

/// A request, with a bearer token if there is a session, and a length if there is a body.
pub fn request(method: &str, path: &str, session: Option<&str>, body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: sim\r\n");
    if let Some(session) = session {
        text += &format!("Authorization: Bearer {session}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    (text + "\r\n" + body).into_bytes()
}

/// The objects of the first array in a JSON text, as the bytes that were sent, and the text behind
/// the array. Parsing and serialising them again would hide differences.
pub fn items(json: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut at = json.iter().position(|byte| *byte == b'[').expect("there is an array") + 1;
    let mut items = Vec::new();
    loop {
        match json[at] {
            b']' => return (items, &json[at + 1..]),
            b',' | b' ' => at += 1, // Spaces stand for texts that have been deleted meanwhile.
            _ => {
                let len = object_len(&json[at..]);
                items.push(&json[at..at + len]);
                at += len;
            }
        }
    }
}

fn object_len(json: &[u8]) -> usize {
    let (mut depth, mut quoted, mut at) = (0, false, 0);
    loop {
        match json[at] {
            b'\\' => at += 1, // Skips the escaped character, too.
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
}

/// An opening handshake (RFC 6455 §4.1). `session` may have more of the query behind it, and
/// `fields` are complete lines.
pub fn upgrade(room: &str, session: &str, fields: &str) -> Vec<u8> {
    format!(
        "GET /ws/{room}?session_id={session} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
    .into_bytes()
}
