//! The chunked body, compared with a plain decoder of RFC 9112 §7.1 that has all bytes at once.
//!
//! Owns that decoder. Must not use the server's grammar in it. The invariant: both find the same
//! content, which ends at the same byte, or both find none, however the bytes are cut into pieces.
#![no_main]

use disposable_chat::http::{Codec, Fed};
use disposable_chat_fuzz::{Cut, LIMITS};
use libfuzzer_sys::fuzz_target;

/// Bytes of chunk extensions in one body; the same bound as in `http::body`.
const EXTENSION_BYTES_MAX: usize = 4096;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fuzz_target!(|data: &[u8]| {
    let Some(cut) = Cut::of(data) else { return };
    assert_eq!(cut.in_any_pieces(run), decode(cut.bytes));

    // The reverse: a body that is encoded from the pieces is decoded to the same bytes.
    let mut encoded = Vec::new();
    for piece in cut.pieces() {
        encoded.extend(format!("{:x}\r\n", piece.len()).bytes());
        encoded.extend_from_slice(piece);
        encoded.extend(b"\r\n");
    }
    encoded.extend(b"0\r\n\r\n");
    if cut.bytes.len() <= LIMITS.body_bytes_max {
        assert_eq!(run(&[&encoded]), Some((cut.bytes.to_vec(), encoded.len())));
    }
});

/// The content that the server's codec finds, and the number of bytes up to its end.
fn run(pieces: &[&[u8]]) -> Option<(Vec<u8>, usize)> {
    let mut codec = Codec::new(LIMITS);
    let mut used = 0;
    let _ = codec.feed(&mut &HEAD[..]);
    for mut piece in pieces.iter().copied() {
        let before = piece.len();
        let fed = codec.feed(&mut piece);
        used += before - piece.len();
        match fed {
            Ok(Fed::Request(request)) => return Some((request.body().to_vec(), used)),
            Ok(_) => {}
            Err(_) => return None,
        }
        let buffered = codec.request().map_or(0, |request| request.body().len());
        assert!(buffered <= used && buffered <= LIMITS.body_bytes_max);
        assert!(codec.bytes() <= HEAD.len() + 2 * used + 2048, "{} bytes buffered", codec.bytes());
    }
    None
}

/// Takes a line from the front. Returns it without its CRLF.
fn line<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let (line, rest) = bytes.split_at(end);
    *bytes = &rest[2..];
    Some(line)
}

fn decode(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut content, mut rest, mut extensions) = (Vec::new(), bytes, 0);
    loop {
        let size_line = line(&mut rest)?;
        let digits = size_line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = size_line.split_at(digits);
        if !(1..=16).contains(&digits) || !is_extension(extension) {
            return None;
        }
        extensions += extension.len();
        let size = std::str::from_utf8(size).expect("digits");
        let size = usize::try_from(u64::from_str_radix(size, 16).expect("digits")).ok()?;
        if extensions > EXTENSION_BYTES_MAX || size > LIMITS.body_bytes_max - content.len() {
            return None;
        }
        if size == 0 {
            break;
        }
        content.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    let trailers = rest;
    let mut fields = 0;
    loop {
        match line(&mut rest)? {
            b"" => break,
            field if is_field(field) => fields += 1,
            _ => return None,
        }
    }
    let fits = trailers.len() - rest.len() <= LIMITS.head_bytes_max && fields <= LIMITS.fields_max;
    fits.then_some((content, bytes.len() - rest.len()))
}

/// RFC 9112 §7.1.1, as the server reads it: nothing; or a semicolon, with white space before it and
/// any text after it.
fn is_extension(bytes: &[u8]) -> bool {
    let space = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match bytes[space..].split_first() {
        None => space == 0,
        Some((first, rest)) => *first == b';' && rest.iter().all(|byte| is_text(*byte)),
    }
}

/// RFC 9110 §5.1 and §5.5: a token, a colon, and text.
fn is_field(field: &[u8]) -> bool {
    let Some(colon) = field.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = field.split_at(colon);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token) && value.iter().all(|byte| is_text(*byte))
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}
