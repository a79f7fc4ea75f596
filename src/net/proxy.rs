//! The PROXY protocol, versions 1 and 2 (haproxy.org, `doc/proxy-protocol.txt`): a header that a TCP
//! balancer puts before a connection's own bytes, with the address of the client.
//!
//! Owns its parsing and the bound on its length. Must not know which peers are trusted. The
//! invariant: the reported length is exactly that of the header, so that the caller keeps the bytes
//! after it.

use std::net::IpAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};

/// Maximum length of a header. The addresses take at most 232 bytes; the rest is for optional
/// fields.
pub const HEADER_BYTES_MAX: usize = 2 * 1024;

/// The part of a PROXY header that the server uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxiedClient {
    /// Length of the header.
    pub bytes: usize,
    /// The client's address. `None`: the balancer does not know it, or the connection is its own
    /// health check.
    pub source: Option<IpAddr>,
}

/// The bytes are not a header, or the header is longer than [`HEADER_BYTES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// Parses the header at the start of `bytes`; `None` if it is incomplete.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxiedClient>, Malformed> {
    let bytes = bytes.get(..HEADER_BYTES_MAX).unwrap_or(bytes);
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(bytes, config) {
        Ok((header, length)) => {
            let source = header.proxied_address().map(|address| address.source.ip());
            Ok(Some(ProxiedClient { bytes: length, source }))
        }
        Err(Error::BufferTooShort) if bytes.len() < HEADER_BYTES_MAX => Ok(None),
        Err(_) => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// A header of version 2.
    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, addresses].concat()
    }

    /// Checks that bytes after the header are not consumed, and that each prefix is incomplete.
    #[track_caller]
    fn check(header: &[u8], source: Option<&str>) {
        let source = source.map(|text| text.parse().unwrap());
        let expected = ProxiedClient { bytes: header.len(), source };
        for rest in [&b""[..], b"GET /ping HTTP/1.1\r\n", header] {
            assert_eq!(parse(&[header, rest].concat()), Ok(Some(expected)));
        }
        for cut in 0..header.len() {
            assert_eq!(parse(&header[..cut]), Ok(None), "the first {cut} bytes");
        }
    }

    #[test]
    fn headers_of_version_1_are_parsed() {
        check(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", Some("192.0.2.7"));
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 4124 443\r\n", Some("2001:db8::7"));
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None);
    }

    #[test]
    fn headers_of_version_2_are_parsed() {
        let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xDC, 4, 1, 0xBB];
        check(&v2(1, 0x11, &v4), Some("192.0.2.7"));
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0xD, 0xB8]);
        v6[15] = 7;
        check(&v2(1, 0x21, &v6), Some("2001:db8::7"));
        let with_more = [&v4[..], &[4, 0, 3, b'a', b'b', b'c']].concat();
        check(&v2(1, 0x11, &with_more), Some("192.0.2.7"));
        check(&v2(0, 0, b""), None);
        check(&v2(0, 0x11, &v4), None);
        check(&v2(1, 0x31, &[0; 216]), None);
    }

    #[test]
    fn other_bytes_are_refused() {
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
        let malformed: [&[u8]; 8] = [
            b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaa",
            b"PROXY TCP4 192.0.2.7 198.51.100.256 56324 443\r\n",
            b"PROXY TCP5 192.0.2.7 198.51.100.1 56324 443\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 65536\r\n",
            b"PROXY TCP4 2001:db8::7 198.51.100.1 56324 443\r\n",
            endless.as_bytes(),
            &v2(2, 0x11, &[0; 12]),
        ];
        for bytes in malformed {
            assert_eq!(parse(bytes), Err(Malformed), "{:?}", bytes.escape_ascii().to_string());
        }
        let longest = v2(1, 0x11, &[0; HEADER_BYTES_MAX - 16]);
        assert!(matches!(parse(&longest), Ok(Some(_))));
        let too_long = v2(1, 0x11, &[0; HEADER_BYTES_MAX - 15]);
        assert_eq!(parse(&too_long[..HEADER_BYTES_MAX - 1]), Ok(None));
        assert_eq!(parse(&too_long), Err(Malformed));
    }
}
