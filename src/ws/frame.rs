//! The encoding of text frames.
//!
//! Owns the header of a data frame. Must not know which connections receive a frame: a server's
//! frames are unmasked (RFC 6455 §5.1) and no extension is negotiated, so one encoding serves all
//! recipients. It goes to their outboxes without passing through a [`super::Context`]. The
//! invariant: the declared length is the length of the payload. With any other length, every
//! recipient would read chat text as headers.

/// Bytes reserved for the header before the payload is written: the header of a payload of 126 to
/// 65,535 bytes.
const HEADER_BYTES_RESERVED: usize = 4;

/// Appends one unmasked, final text frame (RFC 6455 §5.2) with the payload that `write` appends.
/// Returns the index of the payload in `out`.
///
/// `write` must only append. A payload of 126 to 65,535 bytes is written in place. A shorter one is
/// moved two bytes towards the start, a longer one six bytes towards the end.
pub fn encode_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES_RESERVED]);
    write(out);
    debug_assert!(out.len() >= start + HEADER_BYTES_RESERVED, "`write` removed bytes");
    let (reserved, end) = (start + HEADER_BYTES_RESERVED, out.len());
    let (header, header_len) = header(end - reserved);
    let payload = start + header_len;
    if payload != reserved {
        let moved_end = payload + (end - reserved);
        out.resize(end.max(moved_end), 0);
        out.copy_within(reserved..end, payload);
        out.truncate(moved_end);
    }
    out[start..payload].copy_from_slice(&header[..header_len]);
    payload
}

/// The payloads of frames that [`encode_text`] has made.
pub fn payloads(mut frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (head, payload) = extent(frames)?;
        let (frame, rest) = frames.split_at_checked(head + payload)?;
        frames = rest;
        frame.get(head..)
    })
}

/// The lengths of the header and of the payload of the frame at the front (RFC 6455 §5.2). `None`: its
/// header is not whole.
fn extent(frames: &[u8]) -> Option<(usize, usize)> {
    let length = |bytes: usize| {
        let bytes = frames.get(2..2 + bytes)?;
        Some(bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    };
    Some(match frames.get(1)? & 0x7F {
        127 => (10, length(8)?),
        126 => (4, length(2)?),
        short => (2, usize::from(short)),
    })
}

/// Whether a server's frames begin with a control frame (RFC 6455 §5.5). Text frames are never queued as
/// one piece with them.
pub fn is_control(frames: &[u8]) -> bool {
    const FINAL_CONTROL: u8 = 0x88;
    frames.first().is_some_and(|first| first & FINAL_CONTROL == FINAL_CONTROL)
}

/// The end of the frame of which the byte before `at` is a part, or `at` if a frame ends there (or the
/// first begins). `None` if these are no whole frames of a server.
pub fn frame_end(frames: &[u8], at: usize) -> Option<usize> {
    // Each of the server's frames is final; a response begins with a byte of ASCII.
    const FINAL: u8 = 0x80;
    if frames.first().is_none_or(|first| first & FINAL == 0) {
        return None;
    }
    let mut end = 0;
    while end < at {
        let (head, payload) = frames.get(end..).and_then(extent)?;
        end += head + payload;
    }
    Some(end)
}

/// The bytes of the header, and how many of them are used.
fn header(payload_len: usize) -> ([u8; 10], usize) {
    const FINAL_TEXT: u8 = 0x81;
    let mut header = [FINAL_TEXT, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // RFC 6455 §5.2: a length up to 125 is in the second byte, 126 means that two bytes follow, and
    // 127 that eight do. The shortest form must be used.
    match payload_len {
        0..=125 => {
            header[1] = payload_len as u8;
            (header, 2)
        }
        126..=0xFFFF => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            (header, 4)
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
            (header, 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes into a buffer that is not empty.
    fn check(payload_len: usize, header: &[u8]) {
        let payload: Vec<u8> = (0..payload_len).map(|n| b'a' + (n % 23) as u8).collect();
        let mut expected = b"before".to_vec();
        expected.extend_from_slice(header);
        expected.extend_from_slice(&payload);

        let mut out = b"before".to_vec();
        let start = encode_text(&mut out, |out| out.extend_from_slice(&payload));
        assert!(out == expected, "in place, {payload_len}: {:?}", &out[..out.len().min(20)]);
        assert!(out[start..] == payload, "{payload_len}");
    }

    #[test]
    fn lengths_take_the_shortest_form_at_every_boundary() {
        check(0, &[0x81, 0]);
        check(1, &[0x81, 1]);
        check(125, &[0x81, 125]);
        check(126, &[0x81, 126, 0, 126]);
        check(127, &[0x81, 126, 0, 127]);
        check(65_535, &[0x81, 126, 0xFF, 0xFF]);
        check(65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        check(70_000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }

    #[test]
    fn the_end_of_a_frame_is_found_from_each_of_its_bytes() {
        let mut frames = Vec::new();
        let mut ends = vec![0];
        for payload_len in [0, 5, 125, 126, 300, 65_535, 65_536] {
            encode_text(&mut frames, |out| out.resize(out.len() + payload_len, 0xFE));
            ends.push(frames.len());
        }
        for at in 0..=frames.len() {
            let expected = ends.iter().find(|end| **end >= at).copied();
            assert_eq!(frame_end(&frames, at), expected, "{at}");
        }
        assert_eq!(frame_end(b"HTTP/1.1 200 OK", 0), None);
        assert!(!is_control(&frames) && is_control(&[0x89, 0]) && is_control(&[0x8A, 1, b'x']));
        assert!(!is_control(b"HTTP/1.1 200 OK") && !is_control(b""));
    }

    #[test]
    fn payloads_are_read_back() {
        let mut frames = Vec::new();
        let all: Vec<_> = [0, 5, 125, 126, 65_535, 65_536].map(|length| vec![b'a'; length]).into();
        for payload in &all {
            encode_text(&mut frames, |out| out.extend_from_slice(payload));
        }
        assert!(payloads(&frames).eq(all.iter().map(Vec::as_slice)));
        assert_eq!(payloads(b"").count(), 0);
    }

    #[test]
    fn frames_follow_each_other_in_one_buffer() {
        let mut out = Vec::new();
        let first = encode_text(&mut out, |out| out.extend_from_slice(b"Hello"));
        let second = encode_text(&mut out, |out| out.extend_from_slice(b"you"));
        // The first is an example of RFC 6455 §5.7.
        assert_eq!(out, b"\x81\x05Hello\x81\x03you");
        assert_eq!((first, second), (2, 9));
    }
}
