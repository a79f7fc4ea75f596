//! The chunked body, against a plain decoder of RFC 9112 §7.1 that has the whole of it before
//! its eyes: the same content, ending at the same byte, or none.
#![no_main]

use disposable_chat::http::{Codec, Fed, HttpLimits};
use disposable_chat_fuzz::Cut;
use libfuzzer_sys::fuzz_target;

const LIMITS: HttpLimits = HttpLimits {
    head_bytes_max: 16 << 10,
    fields_max: 100,
    target_bytes_max: 8 << 10,
    body_bytes_max: 64 << 10,
};

/// Chunk extensions in one body, as `http::body` bounds them.
const EXTENSION_BYTES_MAX: usize = 4096;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fuzz_target!(|data: &[u8]| {
    let Some(cut) = Cut::of(data) else { return };
    let expected = decode(cut.bytes);
    assert_eq!(run(&[cut.bytes]), expected);
    assert_eq!(run(&cut.pieces()), expected, "in pieces");

    // The other way round: pieces that are encoded come back as they were.
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

/// The content and where it ended, if it did.
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
        let held = codec.request().map_or(0, |request| request.body().len());
        assert!(held <= used && held <= LIMITS.body_bytes_max);
        assert!(codec.bytes() <= HEAD.len() + 2 * used + 2048, "{} bytes held", codec.bytes());
    }
    None
}

/// Takes a line off the front, without its end.
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

/// Nothing, or white space, a semicolon, and anything but control characters.
fn is_extension(bytes: &[u8]) -> bool {
    let space = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match bytes[space..].split_first() {
        None => space == 0,
        Some((first, rest)) => *first == b';' && rest.iter().all(|byte| is_text(*byte)),
    }
}

/// RFC 9110 §5.1, §5.5: a token, a colon, text.
fn is_field(field: &[u8]) -> bool {
    let Some(colon) = field.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = field.split_at(colon);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token) && value.iter().all(|byte| is_text(*byte))
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}
