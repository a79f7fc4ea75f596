//! The opening handshake (RFC 6455 §4.2): which requests become WebSockets, and the 101 response.
//!
//! Owns the fields of the handshake. Must not know sessions, rooms or origins: the caller checks
//! those between [`check`] and [`accept`]. The invariant: no bytes of the request are copied into
//! the response, so a peer cannot inject fields. Only a hash of its key is sent.

use tungstenite::handshake::derive_accept_key;

use crate::http::{Method, Request, Response, Version};

/// Why a request is not an acceptable WebSocket upgrade.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAccepted {
    /// Not an upgrade to `websocket`, or not GET over HTTP/1.1: 426 with `Upgrade: websocket`.
    NotAnUpgrade,
    /// `Sec-WebSocket-Version` is missing, repeated or not 13: 426 with `Sec-WebSocket-Version: 13`.
    OtherVersion,
    /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes of base64: 400.
    BadKey,
}

/// Checks the opening handshake field by field (RFC 6455 §4.2.1) and derives `Sec-WebSocket-Accept`.
pub fn check(request: &Request) -> Result<String, NotAccepted> {
    // RFC 6455 §4.2.1, items 1 to 4. The HTTP codec has checked `Host`. `Origin`, subprotocols and
    // extensions are optional.
    let is_upgrade = request.method() == Method::Get
        && request.version() >= Version::Http11
        && request.lists("Upgrade", "websocket")
        && request.lists("Connection", "Upgrade");
    if !is_upgrade {
        return Err(NotAccepted::NotAnUpgrade);
    }
    // RFC 6455 §4.2.1, item 6: only version 13. §4.4: a client that offers several versions reads
    // the version of the refusal and tries again with it.
    if request.field("Sec-WebSocket-Version") != Some(b"13") {
        return Err(NotAccepted::OtherVersion);
    }
    match request.field("Sec-WebSocket-Key") {
        Some(key) if is_key(key) => Ok(derive_accept_key(key)),
        _ => Err(NotAccepted::BadKey),
    }
}

/// The 101 response (RFC 6455 §4.2.2). `accept` is the result of [`check`]. `subprotocol` must be
/// one that the peer offered. The response names no extension, so none is negotiated.
pub fn accept(accept: String, subprotocol: Option<&'static str>) -> Response {
    let response = Response::new(101)
        .with("Upgrade", "websocket")
        .with("Connection", "Upgrade")
        .with("Sec-WebSocket-Accept", accept);
    match subprotocol {
        Some(subprotocol) => response.with("Sec-WebSocket-Protocol", subprotocol),
        None => response,
    }
}

/// RFC 6455 §4.2.1, item 5: base64 of 16 bytes, which is 22 characters and two of padding.
///
/// The four unused bits of the last character may be set, as RFC 4648 §3.5 permits: the example key
/// of RFC 6455 §4.1 has one of them set (erratum 3150), and some clients send that key.
fn is_key(key: &[u8]) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.strip_suffix(b"==").is_some_and(|digits| digits.iter().all(base64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Codec, Fed, HttpLimits};

    /// RFC 6455 §1.3: the example's key and the answer to it.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    /// Checks an upgrade with these versions and keys, each in a field line of its own.
    #[track_caller]
    fn check_fields(versions: &[&str], keys: &[&str], expected: Result<&str, NotAccepted>) {
        check_head("GET / HTTP/1.1", "Upgrade: websocket", versions, keys, expected);
    }

    #[track_caller]
    fn check_head(
        request_line: &str,
        upgrade: &str,
        versions: &[&str],
        keys: &[&str],
        expected: Result<&str, NotAccepted>,
    ) {
        let mut head = format!(
            "{request_line}\r\nHost: a\r\nConnection: keep-alive, upgrade\r\n{upgrade}\r\n"
        );
        for version in versions {
            head += &format!("Sec-WebSocket-Version: {version}\r\n");
        }
        for key in keys {
            head += &format!("Sec-WebSocket-Key: {key}\r\n");
        }
        let limits = HttpLimits {
            head_bytes_max: 1024,
            fields_max: 10,
            target_bytes_max: 64,
            body_bytes_max: 0,
        };
        match Codec::new(limits).feed(&mut (head + "\r\n").as_bytes()) {
            Ok(Fed::Request(request)) => {
                assert_eq!(check(&request).as_deref().map_err(|why| *why), expected)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        check_fields(&["13"], &[KEY], Ok(ACCEPT));
    }

    #[test]
    fn only_get_over_http_1_1_with_both_fields_is_an_upgrade() {
        for (request_line, upgrade) in [
            ("POST / HTTP/1.1", "Upgrade: websocket"),
            ("GET / HTTP/1.0", "Upgrade: websocket"),
            ("GET / HTTP/1.1", "Upgrade: h2c"),
            ("GET / HTTP/1.1", "X: websocket"),
        ] {
            check_head(request_line, upgrade, &["13"], &[KEY], Err(NotAccepted::NotAnUpgrade));
        }
    }

    #[test]
    fn the_first_error_is_reported() {
        check_head("HEAD / HTTP/1.1", "X: y", &["8"], &["bad"], Err(NotAccepted::NotAnUpgrade));
        check_fields(&["8"], &["bad"], Err(NotAccepted::OtherVersion));
        check_fields(&["13"], &["bad"], Err(NotAccepted::BadKey));
    }

    #[test]
    fn the_version_is_exactly_13() {
        for version in ["", "8", "013", "13.0", "+13", "13, 8", "13,13", "13 13"] {
            check_fields(&[version], &[KEY], Err(NotAccepted::OtherVersion));
        }
        check_fields(&[], &[KEY], Err(NotAccepted::OtherVersion));
        check_fields(&["13", "13"], &[KEY], Err(NotAccepted::OtherVersion));
    }

    #[test]
    fn a_key_is_one_value_of_sixteen_bytes() {
        for key in [
            "",
            "==",
            "dGhlIHNhbXBsZSBub25jZQ",   // no padding
            "dGhlIHNhbXBsZSBub25jZQ=",  // half of the padding
            "dGhlIHNhbXBsZSBub25j",     // 15 bytes
            "dGhlIHNhbXBsZSBub25jZTE=", // 17 bytes
            "dGhlIHNhbXBsZSBub25jZTEy", // 18 bytes
            "dGhlIHNhbXBsZSBub25j=Q==",
            "dGhlIHNhbXBsZSBub25j-_==", // base64url
            "dGhlIHNhbXBsZSBub25\u{e9}Q==",
            "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            check_fields(&["13"], &[key], Err(NotAccepted::BadKey));
        }
        assert!(!is_key(b"dGhlIHNhbXBsZSBub25jZQ==\n"));
        check_fields(&["13"], &[], Err(NotAccepted::BadKey));
        check_fields(&["13"], &[KEY, KEY], Err(NotAccepted::BadKey));
    }

    #[test]
    fn the_example_key_with_unused_bits_set_is_accepted() {
        assert!(is_key(b"AQIDBAUGBwgJCgsMDQ4PEC=="));
        assert!(is_key(b"AQIDBAUGBwgJCgsMDQ4PEA=="));
    }

    #[test]
    fn the_response_names_the_selected_subprotocol_if_there_is_one() {
        let fields = |subprotocol| {
            let response = accept(ACCEPT.to_owned(), subprotocol);
            assert_eq!(response.status, 101);
            let lines = response.fields.iter().map(|(name, value)| format!("{name}: {value}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        let plain =
            format!("Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: {ACCEPT}");
        assert_eq!(fields(None), plain);
        assert_eq!(fields(Some("chat")), plain + "\nSec-WebSocket-Protocol: chat");
    }
}
