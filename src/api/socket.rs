//! The contract of the socket: client events in, refusals and closes out.
//!
//! Owns the forms of client events, and the `refused` event for a frame that is not acceptable.
//! Must not know the connection. The invariant: any text becomes an event, or a refusal that only
//! its sender gets. No text ends a connection (contract §6.13).

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use super::error::{Code, Detail, Error};
use super::json::{self, Displayed};
use super::object::{self, FieldValue};
use crate::chat::{self, RoomId};
use crate::ws::close::Close;

/// An event from a client (contract §6.1, §6.4, §8.9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientEvent<'a> {
    /// `{"type":"chat","message":"…","nonce":"…"}`. Lengths are not checked yet, and the message is
    /// not trimmed.
    Chat { message: Cow<'a, str>, nonce: Option<Cow<'a, str>> },
    /// `{"type":"typing"}`.
    Typing,
    /// `{"type":"ping"}`. The answer is [`PONG`].
    Ping,
}

/// Why a text frame is not an event. The sender gets [`refused`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadEvent {
    /// Not JSON, not an object, or a string with a lone surrogate.
    Json,
    /// The type is missing, not a string, or unknown.
    Type,
    /// The message of a chat is missing or not a string.
    Message,
    /// The nonce of a chat is not a string.
    Nonce,
}

/// A text frame that is not an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RejectedEvent<'a> {
    pub reason: BadEvent,
    /// The frame's nonce, by which the sender identifies the frame. It may be invalid.
    pub nonce: Option<Cow<'a, str>>,
}

impl From<BadEvent> for Error {
    fn from(bad: BadEvent) -> Error {
        let (code, detail) = match bad {
            BadEvent::Json => (Code::BadJson, "The frame is not a JSON object."),
            BadEvent::Type => (Code::BadType, "The event's type is missing or unknown."),
            BadEvent::Message => (Code::BadMessage, "The message is missing or not a string."),
            BadEvent::Nonce => (Code::BadNonce, "The nonce is not a string."),
        };
        Error::new(code, detail)
    }
}

/// The answer to [`ClientEvent::Ping`].
pub const PONG: &str = r#"{"type":"pong"}"#;

/// Parses one text frame. Message and nonce borrow from `text` unless they have escapes.
pub fn parse(text: &str) -> Result<ClientEvent<'_>, RejectedEvent<'_>> {
    match plain_chat(text) {
        Some(event) => Ok(event),
        None => parse_any(text),
    }
}

/// A chat as `JSON.stringify` writes it, without spaces, with its fields in this order, and without
/// escapes. A shortcut: [`parse_any`] parses these frames, too, to the same event.
fn plain_chat(text: &str) -> Option<ClientEvent<'_>> {
    let rest = text.strip_prefix(r#"{"type":"chat","message":""#)?;
    let (message, mut rest) = rest.split_at(json::plain_bytes(rest.as_bytes()));
    let mut nonce = None;
    if let Some(second) = rest.strip_prefix(r#"","nonce":""#) {
        let (text, end) = second.split_at(json::plain_bytes(second.as_bytes()));
        (nonce, rest) = (Some(text.into()), end);
    }
    (rest == "\"}").then(|| ClientEvent::Chat { message: message.into(), nonce })
}

fn parse_any(text: &str) -> Result<ClientEvent<'_>, RejectedEvent<'_>> {
    let fields = object::fields(text, ["type", "message", "nonce"]);
    let [kind, message, nonce] =
        fields.map_err(|_| RejectedEvent { reason: BadEvent::Json, nonce: None })?;
    match kind.and_then(FieldValue::text).as_deref() {
        Some("chat") => {
            let (message, nonce) = chat_fields(message, nonce)?;
            Ok(ClientEvent::Chat { message, nonce })
        }
        Some("typing") => Ok(ClientEvent::Typing),
        Some("ping") => Ok(ClientEvent::Ping),
        _ => Err(RejectedEvent { reason: BadEvent::Type, nonce: nonce.and_then(FieldValue::text) }),
    }
}

/// The message and the nonce of a chat, from the fields of a frame or of a REST body.
pub fn chat_fields<'a>(
    message: Option<FieldValue<'a>>,
    nonce: Option<FieldValue<'a>>,
) -> Result<(Cow<'a, str>, Option<Cow<'a, str>>), RejectedEvent<'a>> {
    let nonce = object::optional(nonce);
    let is_bad_nonce = nonce.as_ref().is_some_and(|nonce| !matches!(nonce, FieldValue::Text(_)));
    let nonce = nonce.and_then(FieldValue::text);
    match message.and_then(FieldValue::text) {
        None => Err(RejectedEvent { reason: BadEvent::Message, nonce }),
        Some(_) if is_bad_nonce => Err(RejectedEvent { reason: BadEvent::Nonce, nonce }),
        Some(message) => Ok((message, nonce)),
    }
}

/// Appends the `refused` event for a [`RejectedEvent`] or a [`chat::Refusal`] (contract §6.13,
/// §6.15). An invalid nonce is omitted.
pub fn refused(out: &mut Vec<u8>, error: impl Into<Error>, room_id: RoomId, nonce: Option<&str>) {
    #[derive(Serialize)]
    struct Refused<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        code: &'static str,
        detail: Displayed<Detail>,
        room_id: Displayed<RoomId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        nonce: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<f64>,
    }
    let error = error.into();
    let refused = Refused {
        kind: "refused",
        code: error.code.as_str(),
        detail: Displayed(error.detail),
        room_id: Displayed(room_id),
        nonce: nonce.filter(|nonce| chat::is_nonce(nonce)),
        retry_after: error.retry_after.map(seconds),
    };
    json::write(out, &refused);
}

/// A wait in seconds with three decimals, rounded up so that it is long enough.
fn seconds(wait: Duration) -> f64 {
    wait.as_micros().div_ceil(1000) as f64 / 1000.0
}

/// The close frame for the domain's reason. `None` for a silent connection, which is dropped without
/// one (contract §6.12).
pub fn close(reason: chat::CloseReason) -> Option<Close> {
    use chat::CloseReason;
    Some(match reason {
        CloseReason::LeftRoom => Close::LEFT_ROOM,
        CloseReason::InvalidSession => Close::INVALID_SESSION,
        CloseReason::RoomNotFound => Close::ROOM_NOT_FOUND,
        CloseReason::NameTaken => Close::NAME_TAKEN,
        CloseReason::NotAMember => Close::NOT_A_MEMBER,
        CloseReason::RoomLocked => Close::ROOM_LOCKED,
        CloseReason::RoomDeleted => Close::ROOM_DELETED,
        CloseReason::RoomExpired => Close::ROOM_EXPIRED,
        CloseReason::Banned => Close::BANNED,
        CloseReason::Removed => Close::REMOVED,
        CloseReason::TooSlow => Close::TOO_SLOW,
        CloseReason::TooManyConnections => Close::TOO_MANY_CONNECTIONS,
        CloseReason::TooManyRooms => Close::TOO_MANY_ROOMS,
        CloseReason::RateLimited => Close::RATE_LIMITED,
        CloseReason::Unavailable => Close::UNAVAILABLE,
        CloseReason::Silent => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<ClientEvent<'_>, BadEvent>) {
        assert_eq!(parse(text).map_err(|rejected| rejected.reason), expected, "{text}");
    }

    fn chat(text: &str) -> Result<ClientEvent<'_>, BadEvent> {
        Ok(ClientEvent::Chat { message: text.into(), nonce: None })
    }

    fn with_nonce<'a>(text: &'a str, nonce: &'a str) -> Result<ClientEvent<'a>, BadEvent> {
        Ok(ClientEvent::Chat { message: text.into(), nonce: Some(nonce.into()) })
    }

    #[test]
    fn events_are_parsed() {
        check(r#"{"type":"chat","message":"Hello world!"}"#, chat("Hello world!"));
        check(r#" {"message" : "a", "nonces":1, "type":"chat"} "#, chat("a"));
        check(r#"{"type":"ch\u0061t","message":"\ud83e\udd80\n"}"#, chat("🦀\n"));
        check(r#"{"type":"typing","message":5}"#, Ok(ClientEvent::Typing));
        check(r#"{"type":"ping","x":[[{"y":{}}]]}"#, Ok(ClientEvent::Ping));
        check(r#"{"type":"chat","message":""}"#, chat(""));
        check(r#"{"type":"ping","type":"chat","message":1,"message":"last"}"#, chat("last"));
    }

    // contract §6.14
    #[test]
    fn a_frame_that_is_not_an_event_gets_a_reason() {
        for text in [
            "",
            "hi",
            "{",
            "[]",
            "null",
            "\"chat\"",
            "5",
            "{} {}",
            "{'type':'chat'}",
            "[\"chat\"]",
            r#"{"type":"chat","message":"\ud800"}"#,
            r#"{"type":"chat","message":"\udc00x"}"#,
            r#"{"type":"\ud800"}"#,
            "{\"type\":\"a\nb\"}",
            r#"{"type":"typing",}"#,
        ] {
            check(text, Err(BadEvent::Json));
        }
        for text in [
            "{}",
            r#"{"type":null}"#,
            r#"{"type":1.5}"#,
            r#"{"type":["chat"]}"#,
            r#"{"type":"CHAT","message":"a"}"#,
            r#"{"type":"dance"}"#,
            r#"{"message":"a"}"#,
        ] {
            check(text, Err(BadEvent::Type));
        }
        for value in ["null", "true", "-1", "18446744073709551616", "{\"a\":1}", "[[[]]]"] {
            let text = format!(r#"{{"type":"chat","message":{value}}}"#);
            check(&text, Err(BadEvent::Message));
        }
        check(r#"{"type":"chat"}"#, Err(BadEvent::Message));
    }

    #[test]
    fn the_shortcut_for_plain_chats_parses_them_like_any_other_frame() {
        let texts = [
            "",
            "a",
            "1234567",
            "12345678",
            "Grüße, 世界 🦀, \u{7f}",
            "a\u{1f}",
            "\"",
            "\\",
            "\\n",
        ];
        for message in texts {
            for nonce in texts {
                let plain = |text: &str| !text.contains(['"', '\\', '\u{1f}']);
                let one = format!(r#"{{"type":"chat","message":"{message}"}}"#);
                let both = format!(r#"{{"type":"chat","message":"{message}","nonce":"{nonce}"}}"#);
                assert_eq!(plain_chat(&one).is_some(), plain(message), "{one}");
                let is_plain = plain(message) && plain(nonce);
                assert_eq!(plain_chat(&both).is_some(), is_plain, "{both}");
            }
        }
        // Every piece follows every other: fields are repeated, cut off and out of order.
        let pieces = [
            "",
            r#"{"type":"chat","#,
            r#""message":"a","#,
            r#""message":"b"}"#,
            r#""nonce":"c","#,
            r#""nonce":"d"}"#,
            r#""type":"ping","#,
            r#""x":1}"#,
            " ",
            "}",
            "\"",
            "\\",
            "\n",
        ];
        for number in 0..pieces.len().pow(4) {
            let piece = |n: u32| pieces[number / pieces.len().pow(n) % pieces.len()];
            let text = [3, 2, 1, 0].map(piece).concat();
            assert_eq!(parse(&text), parse_any(&text), "{text}");
        }
    }

    #[test]
    fn a_nonce_is_a_string_or_absent() {
        check(r#"{"type":"chat","message":"a","nonce":"x"}"#, with_nonce("a", "x"));
        check(r#"{"type":"chat","message":"a","nonce":"\u00e9"}"#, with_nonce("a", "é"));
        check(r#"{"type":"chat","message":"a","nonce":""}"#, with_nonce("a", ""));
        check(r#"{"type":"chat","message":"a","nonce":null}"#, chat("a"));
        check(r#"{"type":"typing","nonce":1}"#, Ok(ClientEvent::Typing));
        for value in ["1", "false", "[\"x\"]", "{}"] {
            let text = format!(r#"{{"type":"chat","message":"a","nonce":{value}}}"#);
            check(&text, Err(BadEvent::Nonce));
            let text = format!(r#"{{"type":"chat","message":1,"nonce":{value}}}"#);
            check(&text, Err(BadEvent::Message));
        }
    }

    #[test]
    fn a_rejected_event_keeps_its_nonce() {
        let nonce = |text| parse(text).unwrap_err().nonce.map(Cow::into_owned);
        assert_eq!(nonce(r#"{"type":"dance","nonce":"x"}"#).as_deref(), Some("x"));
        assert_eq!(nonce(r#"{"nonce":"x","type":"chat"}"#).as_deref(), Some("x"));
        assert_eq!(nonce(r#"{"type":"chat","message":"a","nonce":1}"#), None);
        assert_eq!(nonce(r#"{"type":"chat","nonce":"x""#), None);
    }

    #[test]
    fn a_text_without_escapes_is_borrowed() {
        let borrowed = |text| match parse(text) {
            Ok(ClientEvent::Chat { message, nonce }) => {
                [Some(message), nonce].map(|text| matches!(text, Some(Cow::Borrowed(_))))
            }
            _ => panic!("{text}"),
        };
        let plain = r#"{"type":"chat","message":"no escapes: é🦀","nonce":"é"}"#;
        assert_eq!(borrowed(plain), [true, true]);
        let escaped = r#"{"type":"chat","message":"one\nescape","nonce":"\t"}"#;
        assert_eq!(borrowed(escaped), [false, false]);
    }

    #[test]
    fn deep_nesting_uses_no_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        check(&format!(r#"{{"x":{deep},"type":"ping"}}"#), Ok(ClientEvent::Ping));
        check(&format!(r#"{{"type":"chat","message":{deep}}}"#), Err(BadEvent::Message));
        check(&deep, Err(BadEvent::Json));
        check(&r#"{"type":"#.repeat(100_000), Err(BadEvent::Json));
    }

    // contract §6.13 §6.15
    #[test]
    fn a_refusal_has_a_code_a_detail_a_room_and_a_wait() {
        let room_id = RoomId::parse("a1b2c3d4e5").unwrap();
        let text = |error: Error, nonce| {
            let mut out = Vec::new();
            refused(&mut out, error, room_id, nonce);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(BadEvent::Type.into(), None),
            r#"{"type":"refused","code":"bad_type","detail":"The event's type is missing or unknown.","room_id":"a1b2c3d4e5"}"#
        );
        let wait = Duration::from_micros(99_001);
        assert_eq!(
            text(chat::Refusal::RateLimited(wait).into(), Some("\"n\"")),
            r#"{"type":"refused","code":"rate_limited","detail":"Too many requests; please wait a moment.","room_id":"a1b2c3d4e5","nonce":"\"n\"","retry_after":0.1}"#
        );
        for bad in ["", &"x".repeat(65)] {
            let text = text(chat::Refusal::BadNonce.into(), Some(bad));
            assert!(!text.contains("\"nonce\""), "{text}");
        }
    }

    #[test]
    fn every_reason_of_the_domain_has_its_close_code() {
        use chat::CloseReason::*;
        let all = [
            (LeftRoom, 1000),
            (TooSlow, 1013),
            (InvalidSession, 4401),
            (NotAMember, 4403),
            (RoomNotFound, 4404),
            (NameTaken, 4409),
            (RoomLocked, 4403),
            (RoomDeleted, 4410),
            (RoomExpired, 4410),
            (TooManyConnections, 4429),
            (TooManyRooms, 4429),
            (RateLimited, 4429),
        ];
        for (closed, code) in all {
            assert_eq!(close(closed).map(|close| close.code), Some(code));
        }
        assert_eq!(close(Silent), None);
    }
}
