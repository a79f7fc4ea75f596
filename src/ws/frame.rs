//! Encoding of the frames we send.
//!
//! Owns the header of a data frame. Must never know who a frame is for: a server's frames are
//! unmasked (RFC 6455 §5.1) and no extension is negotiated, so one encoding serves everybody,
//! and encoded frames go round the [`super::Context`], straight into an outbox. The invariant:
//! the declared length is the payload's, whatever its size; a wrong one would have every
//! receiver take chat text for headers.

/// The longest header of an unmasked frame whose payload is under 64 KiB.
pub const HEADER_BYTES_MAX: usize = 4;

/// Appends one unmasked, final text frame (RFC 6455 §5.2) whose payload `write` appends, and
/// returns the payload's start in `out`.
///
/// `write` may only append. A payload of 126 bytes to 64 KiB is written where it stays; a shorter
/// one moves two bytes to the front, a longer one (the list of a great crowd) six to the back.
pub fn encode_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES_MAX]);
    write(out);
    debug_assert!(out.len() >= start + HEADER_BYTES_MAX, "`write` took bytes away");
    let (header, header_len) = header(out.len() - start - HEADER_BYTES_MAX);
    out.splice(start..start + HEADER_BYTES_MAX, header.into_iter().take(header_len));
    start + header_len
}

/// The header's bytes, and how many of them count.
fn header(payload_len: usize) -> ([u8; 10], usize) {
    const FINAL_TEXT: u8 = 0x81;
    let mut header = [FINAL_TEXT, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // RFC 6455 §5.2: seven bits if they suffice; 126 announces two bytes, 127 eight. The
    // shortest form that fits is a MUST.
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

    /// Both encoders must agree, behind bytes that are already there.
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
    fn frames_follow_each_other_in_one_buffer() {
        let mut out = Vec::new();
        let first = encode_text(&mut out, |out| out.extend_from_slice(b"Hello"));
        let second = encode_text(&mut out, |out| out.extend_from_slice(b"you"));
        // RFC 6455 §5.7 shows the first.
        assert_eq!(out, b"\x81\x05Hello\x81\x03you");
        assert_eq!((first, second), (2, 9));
    }
}
