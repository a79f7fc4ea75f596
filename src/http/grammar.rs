//! The parts of HTTP's grammar that more than one place reads.
//!
//! Owns tokens, list members, authorities and percent-encoding (RFC 9110 §5.6, RFC 3986). Must not
//! know which field or target a text is from. The invariant: these functions judge a whole text and
//! repair nothing.

use std::net::Ipv6Addr;

/// Whether two names are equal without regard to the case of ASCII letters, as names of fields,
/// schemes, codings and hosts are compared (RFC 9110 §5.1).
#[inline(never)] // Inlined at all of its call sites it would make the binary larger.
pub fn eq_ignore_case(one: &[u8], other: &[u8]) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2, RFC 3986 §3.2.2), with a host. IPvFuture, which has
/// never been used, is taken for malformed.
pub(super) fn is_authority(text: &str) -> bool {
    let (is_host, port) = if let Some(literal) = text.strip_prefix('[') {
        let Some((address, port)) = literal.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        (is_reg_name(name), port)
    };
    // RFC 3986 §3.2.3: the digits may be missing after the colon.
    let is_port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.is_empty() || digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    is_host && is_port
}

/// A name or an IPv4 address: unreserved characters, sub-delimiters and percent-escapes.
fn is_reg_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let is_allowed = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte),
        };
        if !is_allowed {
            return false;
        }
    }
    !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
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
}
