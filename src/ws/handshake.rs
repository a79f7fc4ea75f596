//! The opening handshake (RFC 6455 §4.2): which requests become WebSockets, and the 101.
//!
//! Owns the handshake's fields. Must never know sessions, rooms or origins: those are judged
//! between [`check`] and [`accept`]. The invariant: nothing of the request returns in the
//! response but a derived key and a token, so no peer can write fields of its own into it.

use tungstenite::handshake::derive_accept_key;

use crate::http::{Method, Request, ResponseField, Version};

/// Why a request is no WebSocket upgrade that can be accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAccepted {
    /// Not an upgrade to `websocket`, or not GET over HTTP/1.1: 426 with `Upgrade: websocket`.
    NotAnUpgrade,
    /// `Sec-WebSocket-Version` is missing, repeated or not 13: 426 with the one that is.
    OtherVersion,
    /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes of base64: 400.
    BadKey,
}

/// Checks the opening handshake field by field (RFC 6455 §4.2.1) and derives `Sec-WebSocket-Accept`.
pub fn check(request: &Request) -> Result<String, NotAccepted> {
    // RFC 6455 §4.2.1: items 1 to 4. The HTTP codec has seen to `Host`; `Origin`, subprotocols
    // and extensions are optional.
    let upgrade = request.method() == Method::Get
        && request.version() >= Version::Http11
        && request.lists("Upgrade", "websocket")
        && request.lists("Connection", "Upgrade");
    let versions = request.fields("Sec-WebSocket-Version");
    judge(upgrade, versions, request.fields("Sec-WebSocket-Key"))
}

/// The 101 response (RFC 6455 §4.2.2), ready to send. A `subprotocol` that is no token is left out.
pub fn accept(
    accept: &str,
    subprotocol: Option<&str>,
    date: &str,
    extra_fields: &[ResponseField],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    let mut field = |name: &str, value: &str| {
        debug_assert!(!value.contains(['\r', '\n', '\0']), "{name}: {value:?}");
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    };
    field("Upgrade", "websocket");
    field("Connection", "Upgrade");
    field("Sec-WebSocket-Accept", accept);
    // RFC 6455 §4.2.2: at most one of the subprotocols the peer offered. Extensions are
    // negotiated by naming them, so none is named.
    if let Some(subprotocol) = subprotocol.filter(|name| is_token(name)) {
        field("Sec-WebSocket-Protocol", subprotocol);
    }
    field("Date", date);
    for (name, value) in extra_fields {
        field(name, value);
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// [`check`] over plain values: whether it is an upgrade at all, and the values of two fields.
fn judge<'a>(
    upgrade: bool,
    versions: impl IntoIterator<Item = &'a [u8]>,
    keys: impl IntoIterator<Item = &'a [u8]>,
) -> Result<String, NotAccepted> {
    if !upgrade {
        return Err(NotAccepted::NotAnUpgrade);
    }
    // RFC 6455 §4.2.1, item 6: 13 and nothing else. §4.4: one who lists several versions tries
    // again with ours when told of it.
    if only(versions) != Some(b"13") {
        return Err(NotAccepted::OtherVersion);
    }
    match only(keys) {
        Some(key) if is_key(key) => Ok(derive_accept_key(key)),
        _ => Err(NotAccepted::BadKey),
    }
}

/// The one value of a field that may not be repeated (RFC 6455 §11.3).
fn only<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let mut values = values.into_iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// RFC 6455 §4.2.1, item 5: base64 that decodes to 16 bytes: 22 characters and two of padding.
///
/// The last character's four spare bits may be set, as RFC 4648 §3.5 allows: the example key in
/// RFC 6455 §4.1 has one set (erratum 3150), and there are clients that send that very key.
fn is_key(key: &[u8]) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.strip_suffix(b"==").is_some_and(|digits| digits.iter().all(base64))
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(tchar)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    /// RFC 6455 §1.3: the example's key and the answer to it.
    const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    #[track_caller]
    fn check_fields(versions: &[&[u8]], keys: &[&[u8]], expected: Result<&str, NotAccepted>) {
        let judged = judge(true, versions.iter().copied(), keys.iter().copied());
        assert_eq!(judged.as_deref().map_err(|why| *why), expected);
    }

    #[test]
    fn the_rfcs_example_is_accepted() {
        check_fields(&[b"13"], &[KEY], Ok(ACCEPT));
    }

    #[test]
    fn what_is_wrong_first_is_said_first() {
        assert_eq!(judge(false, [], []), Err(NotAccepted::NotAnUpgrade));
        check_fields(&[b"8"], &[b"bad"], Err(NotAccepted::OtherVersion));
        check_fields(&[b"13"], &[b"bad"], Err(NotAccepted::BadKey));
    }

    #[test]
    fn only_thirteen_is_thirteen() {
        for version in ["", "8", "013", "13.0", "+13", "13, 8", "13,13", "13 13"] {
            check_fields(&[version.as_bytes()], &[KEY], Err(NotAccepted::OtherVersion));
        }
        check_fields(&[], &[KEY], Err(NotAccepted::OtherVersion));
        check_fields(&[b"13", b"13"], &[KEY], Err(NotAccepted::OtherVersion));
    }

    #[test]
    fn a_key_is_one_value_of_sixteen_bytes() {
        for key in [
            "",
            "==",
            "dGhlIHNhbXBsZSBub25jZQ",   // no padding
            "dGhlIHNhbXBsZSBub25jZQ=",  // half of it
            "dGhlIHNhbXBsZSBub25j",     // 15 bytes
            "dGhlIHNhbXBsZSBub25jZTE=", // 17 bytes
            "dGhlIHNhbXBsZSBub25jZTEy", // 18 bytes
            "dGhlIHNhbXBsZSBub25jZQ==\n",
            "dGhlIHNhbXBsZSBub25j=Q==",
            "dGhlIHNhbXBsZSBub25j-_==", // another alphabet
            "dGhlIHNhbXBsZSBub25\u{e9}Q==",
            "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            check_fields(&[b"13"], &[key.as_bytes()], Err(NotAccepted::BadKey));
        }
        check_fields(&[b"13"], &[], Err(NotAccepted::BadKey));
        check_fields(&[b"13"], &[KEY, KEY], Err(NotAccepted::BadKey));
    }

    #[test]
    fn the_rfcs_own_key_with_spare_bits_set_is_accepted() {
        assert!(is_key(b"AQIDBAUGBwgJCgsMDQ4PEC=="));
        assert!(is_key(b"AQIDBAUGBwgJCgsMDQ4PEA=="));
    }

    #[test]
    fn the_response_has_these_fields_in_this_order() {
        let cors = [("Access-Control-Allow-Origin", Cow::from("https://example.org"))];
        let response = accept(ACCEPT, Some("chat"), "Tue, 19 Aug 2025 13:45:00 GMT", &cors);
        let expected = "HTTP/1.1 101 Switching Protocols\r\n\
            Upgrade: websocket\r\n\
            Connection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
            Sec-WebSocket-Protocol: chat\r\n\
            Date: Tue, 19 Aug 2025 13:45:00 GMT\r\n\
            Access-Control-Allow-Origin: https://example.org\r\n\r\n";
        assert_eq!(String::from_utf8(response).unwrap(), expected);
    }

    #[test]
    fn a_subprotocol_writes_no_fields_of_its_own() {
        for subprotocol in [None, Some(""), Some("chat\r\nSet-Cookie: a=b"), Some("a, b")] {
            let response = String::from_utf8(accept(ACCEPT, subprotocol, "now", &[])).unwrap();
            assert_eq!(response.lines().count(), 6, "{response}");
            assert!(!response.contains("Protocol:"), "{response}");
        }
    }
}
