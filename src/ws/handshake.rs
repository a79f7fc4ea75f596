//! (to be written)

use crate::http::Request;

/// Why a request is no WebSocket upgrade that can be accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAccepted {
    /// Not an upgrade to `websocket`, or not GET over HTTP/1.1: 426 with `Upgrade: websocket`.
    NotAnUpgrade,
    /// 426 with `Sec-WebSocket-Version: 13`.
    OtherVersion,
    /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes of base64: 400.
    BadKey,
}

/// Checks the opening handshake field by field (RFC 6455 §4.2.1) and derives `Sec-WebSocket-Accept`.
pub fn check(request: &Request) -> Result<String, NotAccepted> {
    let _ = request;
    todo!()
}

/// The subprotocols the peer offers, in its order.
pub fn offered(request: &Request) -> impl Iterator<Item = &str> {
    let _ = request;
    std::iter::empty()
}

/// The 101 response (RFC 6455 §4.2.2), ready to send.
pub fn accept(
    accept: &str,
    subprotocol: Option<&str>,
    date: &str,
    extra_fields: &[(&'static str, std::borrow::Cow<'static, str>)],
) -> Vec<u8> {
    let _ = (accept, subprotocol, date, extra_fields);
    todo!()
}
