//! The part of RFC 6455 that the generator and the yardstick need.
//!
//! Owns the bytes of frames and handshakes. Must not know sockets. It shares no code with the
//! server, so that the server is not compared with itself. It takes shortcuts that are unsafe with
//! untrusted peers: one key for all handshakes, one mask for all frames, no fragments.

pub const TEXT: u8 = 0x1;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// The key of every handshake, and its proof: the example in RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Any mask costs the server the same.
const MASK: [u8; 4] = [0x5A, 0xC3, 0x96, 0x0F];

/// The header of a frame.
pub struct Header {
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    /// The range of the payload.
    pub start: usize,
    pub end: usize,
}

/// The header at the start of these bytes, or `None` if it is incomplete.
pub fn header(bytes: &[u8]) -> Option<Header> {
    let [first, second] = *bytes.first_chunk()?;
    let (length, mut start) = match second & 0x7F {
        126 => (u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?).into(), 4),
        127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
        short => (short.into(), 2),
    };
    let mut mask = None;
    if second & 0x80 != 0 {
        mask = Some(*bytes.get(start..)?.first_chunk()?);
        start += 4;
    }
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    Some(Header { opcode: first & 0x0F, mask, start, end })
}

/// Appends the header of an unmasked frame, as a server sends it.
pub fn push_header(out: &mut Vec<u8>, opcode: u8, length: usize) {
    push_head(out, opcode, length, 0);
}

/// Appends a masked frame, as a client sends it.
pub fn push_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_head(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

fn push_head(out: &mut Vec<u8>, opcode: u8, length: usize, masked: u8) {
    out.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => out.push(masked | short),
        (_, Ok(middle)) => {
            out.push(masked | 126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// The handshake of a client.
pub fn upgrade(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// The response of a server to it.
pub fn switching() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
}

/// Whether the response to a handshake accepts it.
pub fn has_switched(head: &[u8]) -> bool {
    let proof = ACCEPT.as_bytes();
    head.starts_with(b"HTTP/1.1 101 ") && head.windows(proof.len()).any(|some| some == proof)
}

/// The length of an HTTP head, or `None` if it is incomplete.
pub fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|some| some == b"\r\n\r\n").map(|at| at + 4)
}
