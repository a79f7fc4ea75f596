//! Grammar that several files share.
//!
//! Owns tokens, lists, authorities, numbers and percent-encoding (RFC 9110 §5.6, RFC 3986). Must
//! not know which field or target a text comes from. The invariant: each function accepts or refuses the
//! whole text, and repairs nothing.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Whether two names are equal when the case of ASCII letters is ignored. Names of fields, schemes,
/// codings and hosts are compared like this (RFC 9110 §5.1).
///
/// Most peers write names as the RFCs do, and so does this crate: then all bytes are equal, and
/// comparing them takes a twentieth of the time.
#[inline(never)] // Inlining it at every call site makes the binary larger.
pub fn eq_ignore_case(one: &[u8], other: &[u8]) -> bool {
    one == other || one.eq_ignore_ascii_case(other)
}

/// The number of bytes at the front of `bytes` that are ASCII from `first` to `~`, and not `#`.
/// `first` is a space or the exclamation mark after it.
///
/// Looks at eight bytes at once. Subtracting a bound from each byte sets the high bit of every byte
/// below the bound. A borrow can set it in the next byte too, but only above a byte that is below
/// the bound, so the lowest high bit is right. A byte equals another if their exclusive or is below
/// 1.
pub(super) fn graphic_run(bytes: &[u8], first: u8) -> usize {
    const EACH: u64 = u64::MAX / 0xFF;
    let below = |word: u64, bound: u8| word.wrapping_sub(EACH * u64::from(bound)) & !word;
    let equal = |word: u64, byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    let mut run = 0;
    loop {
        let rest = &bytes[run..];
        let word = rest.first_chunk().copied().unwrap_or_else(|| {
            let mut last = [0; 8]; // A run ends at 0.
            last[..rest.len()].copy_from_slice(rest);
            last
        });
        let word = u64::from_le_bytes(word);
        let ends = word | below(word, first) | equal(word, 0x7f) | equal(word, b'#');
        match ends & (EACH * 0x80) {
            0 => run += 8,
            ends => return run + ends.trailing_zeros() as usize / 8,
        }
    }
}

/// Appends a number in decimal digits (`1*DIGIT`).
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20]; // A `u64` has at most 20.
    let mut start = digits.len();
    while let Some(before) = start.checked_sub(1) {
        start = before;
        digits[start] += (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a chunk of content (RFC 9112 §7.1). An empty one ends the content.
pub fn push_chunk(out: &mut Vec<u8>, content: &[u8]) {
    let bytes = content.len();
    let digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[bytes >> (4 * digit) & 15]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n");
}

/// The members of one line of a list field (RFC 9110 §5.6.1), without surrounding white space.
/// Empty members are included. A comma inside quotes separates members, too: the server accepts no
/// quoted member that contains a comma.
pub fn list_members(line: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether `text` is a token (RFC 9110 §5.6.2).
pub fn is_token(text: &str) -> bool {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(tchar)
}

/// Whether `text` is a host with an optional port: `uri-host [ ":" port ]` (RFC 9110 §7.2,
/// RFC 3986 §3.2.2). An empty host is refused, and so is IPvFuture, which no client uses.
pub(super) fn is_authority(text: &str) -> bool {
    let (is_host, port) = if let Some(literal) = text.strip_prefix('[') {
        let Some((address, port)) = literal.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        (is_reg_name(name), port)
    };
    // RFC 3986 §3.2.3: the port after the colon may be empty.
    let is_port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.is_empty() || digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    is_host && is_port
}

/// A registered name or an IPv4 address: unreserved characters, sub-delimiters and escapes.
fn is_reg_name(name: &str) -> bool {
    let is_allowed = |byte| {
        let is_alphanumeric = matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9');
        is_alphanumeric || matches!(byte, b'!' | b'$'..=b'.' | b';' | b'=' | b'_' | b'~')
    };
    !name.is_empty() && name.bytes().all(is_allowed) && has_whole_escapes(name)
}

/// Whether two hexadecimal digits follow each `%` (RFC 3986 §2.1).
fn has_whole_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Decodes percent-encoding (RFC 3986 §2.1). `None` if an escape is malformed or the result is not
/// UTF-8.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let digit = |bytes: &mut std::str::Bytes<'_>| char::from(bytes.next()?).to_digit(16);
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => (digit(&mut bytes)? << 4 | digit(&mut bytes)?) as u8,
            _ => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_begins_with_its_length_in_hexadecimal() {
        for (bytes, head) in [(0, "0"), (1, "1"), (15, "f"), (16, "10"), (40_000, "9c40")] {
            let (mut out, content) = (Vec::new(), "x".repeat(bytes));
            push_chunk(&mut out, content.as_bytes());
            assert_eq!(out, format!("{head}\r\n{content}\r\n").as_bytes());
        }
    }

    #[test]
    fn an_authority_is_a_host_with_an_optional_port() {
        for good in [
            "a",
            "a:",
            "a:0",
            "a:65535",
            "a.b-c_d~e",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:8000",
            "[::ffff:1.2.3.4]",
            "xn--bcher-kva.example",
            "a%2Db",
            "a,b",
            "a:00080",
        ] {
            assert!(is_authority(good), "{good}");
        }
        for bad in [
            "",
            ":",
            ":80",
            "a:65536",
            "a:+80",
            "a:b",
            "a:80:80",
            "a b",
            "u@a",
            "a/",
            "a?",
            "a#",
            "a\\b",
            "a%2",
            "a%zz",
            "[::1",
            "::1",
            "[]",
            "[1.2.3.4]",
            "[::1]8000",
            "[::1%25eth0]",
            "[v1.a]",
            "ä",
            "a\"b",
            "<a>",
            "a|b",
        ] {
            assert!(!is_authority(bad), "{bad}");
        }
    }

    /// Tries every byte at every index of a word, and beside several kinds of bytes.
    #[test]
    fn a_run_ends_at_the_first_other_byte() {
        for odd in 0..=0xff {
            for length in [0, 1, 7, 8, 9, 16, 20] {
                for index in 0..=length {
                    for (filler, after) in [(b'a', b'a'), (b'!', 0), (b'~', 0x80), (b'"', b'#')] {
                        let mut text = vec![filler; index];
                        text.push(odd);
                        text.resize(length + 1, after);
                        for first in [b' ', b'!'] {
                            let is_in = |byte: &u8| (first..=b'~').contains(byte) && *byte != b'#';
                            let run = text.iter().take_while(|byte| is_in(byte)).count();
                            assert_eq!(graphic_run(&text, first), run, "{text:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_number_has_no_leading_zeros() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX / 10, u64::MAX] {
            let mut out = b"x".to_vec();
            push_decimal(&mut out, number);
            assert_eq!(out, format!("x{number}").into_bytes());
        }
    }

    #[test]
    fn an_escape_has_two_hex_digits_and_decodes_to_utf8() {
        for (text, decoded) in [
            ("", Some("")),
            ("plain+text", Some("plain+text")),
            ("%41%6a%6A", Some("Ajj")),
            ("caf%C3%A9", Some("café")),
            ("%00%0d%0A", Some("\0\r\n")),
            ("%25%32%35", Some("%25")),
            ("%", None),
            ("%4", None),
            ("%4g", None),
            ("%+1", None),
            ("%é1", None),
            ("%c3%28", None),
            ("%ff", None),
        ] {
            assert_eq!(percent_decode(text).as_deref(), decoded, "{text:?}");
        }
        assert!(matches!(percent_decode("plain"), Some(Cow::Borrowed("plain"))));
    }
}
