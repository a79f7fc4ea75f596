//! As much of RFC 6455 as both ends of a benchmark need, and no more.
//!
//! Owns the bytes of a frame and of a handshake. Must never know a socket. It is the benchmark's
//! own, so that the server is not measured against itself; and it takes shortcuts that nobody may
//! take who talks to strangers: one key for all handshakes, one mask for all frames, no fragments.

pub const TEXT: u8 = 0x1;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// The key that every handshake offers, and the proof that belongs to it: RFC 6455 §1.3's example.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Any will do: the server has to unmask all the same.
const MASK: [u8; 4] = [0x5A, 0xC3, 0x96, 0x0F];

/// What the front of some bytes says of the frame that begins there.
pub struct Header {
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    /// Where the payload begins, and where it ends.
    pub start: usize,
    pub end: usize,
}

/// None while the header isn't there in full.
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

/// Appends the header of an unmasked frame: a server's.
pub fn push_header(out: &mut Vec<u8>, opcode: u8, length: usize) {
    push_head(out, opcode, length, 0);
}

/// Appends a whole masked frame: a client's.
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

/// A client's handshake.
pub fn upgrade(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// A server's answer to it.
pub fn switching() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
}

/// Whether that is what an answer says.
pub fn has_switched(head: &[u8]) -> bool {
    let proof = ACCEPT.as_bytes();
    head.starts_with(b"HTTP/1.1 101 ") && head.windows(proof.len()).any(|some| some == proof)
}

/// Where a head ends and what follows begins.
pub fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|some| some == b"\r\n\r\n").map(|at| at + 4)
}
