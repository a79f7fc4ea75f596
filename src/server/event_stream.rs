//! Event streams: connections of members that are sent events as the content of a response.
//!
//! Owns the encoding of events in a stream, and the response until it begins. Must not know what is in
//! an event, except for the id at its start: the events come as the frames that WebSockets are sent.
//! The invariant: each event is whole, in HTTP/1.1 a chunk, so that events that wait may be dropped. No
//! chunk but the last is empty, because an empty one would end the response (RFC 9112 §7.1).
//!
//! A batch is encoded for all streams of a room once in each form, and only if one of its recipients
//! is a stream.

use crate::api::EventFormat;
use crate::api::events::END;
use crate::http::{push_chunk, push_decimal};
use crate::ledger::{Account, Ledger};
use crate::net::Piece;
use crate::ws;
use crate::ws::close::Close;

/// How events are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Form {
    pub format: EventFormat,
    /// False in HTTP/1.0, where the content ends with the connection.
    pub is_chunked: bool,
}

/// How many forms there are.
const FORMS: usize = 4;

/// The chunk that ends a response, without trailer fields.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Form {
    fn index(self) -> usize {
        usize::from(self.is_chunked) + 2 * usize::from(self.format == EventFormat::Lines)
    }

    /// The events of WebSocket frames.
    pub fn encode(self, frames: &[u8]) -> Box<[u8]> {
        let mut out = Vec::with_capacity(frames.len() + frames.len() / 4);
        let mut event = Vec::new();
        for json in ws::payloads(frames) {
            event.clear();
            self.write_event(&mut event, json, id_of(json));
            self.push(&mut out, &event);
        }
        out.into_boxed_slice()
    }

    /// What is sent after a time of silence, so that proxies do not close the connection.
    pub fn ping(self) -> Box<[u8]> {
        let mut out = Vec::new();
        self.push(
            &mut out,
            match self.format {
                EventFormat::EventStream => b":\n\n",
                EventFormat::Lines => b"{\"type\":\"ping\"}\n",
            },
        );
        out.into_boxed_slice()
    }

    /// The last event, and the end of the response.
    pub fn close(self, close: Close) -> Vec<u8> {
        let mut json = b"{\"type\":\"close\",\"code\":".to_vec();
        push_decimal(&mut json, u64::from(close.code));
        json.extend_from_slice(b",\"reason\":\"");
        json.extend_from_slice(close.reason.as_bytes());
        json.extend_from_slice(b"\"}");
        let (mut event, mut out) = (Vec::new(), Vec::new());
        let id = close.is_final().then_some(END.as_bytes());
        self.write_event(&mut event, &json, id);
        self.push(&mut out, &event);
        if self.is_chunked {
            out.extend_from_slice(LAST_CHUNK);
        }
        out
    }

    /// The end of the event of which the byte before `at` is a part, or `at` if an event ends there.
    pub fn event_end(self, events: &[u8], at: usize) -> Option<usize> {
        if self.is_chunked {
            let mut end = 0;
            while end < at {
                let rest = events.get(end..)?;
                let digits = rest.iter().position(|byte| *byte == b'\r')?;
                let length = std::str::from_utf8(&rest[..digits]).ok()?;
                let length = usize::from_str_radix(length, 16).ok()?;
                end += digits + b"\r\n".len() + length + b"\r\n".len();
            }
            return Some(end);
        }
        let terminator: &[u8] = match self.format {
            EventFormat::EventStream => b"\n\n",
            EventFormat::Lines => b"\n",
        };
        let start = at.saturating_sub(terminator.len());
        let mut windows = events.get(start..)?.windows(terminator.len());
        let found = windows.position(|window| window == terminator)?;
        Some(if at == 0 { 0 } else { start + found + terminator.len() })
    }

    fn write_event(self, out: &mut Vec<u8>, json: &[u8], id: Option<&[u8]>) {
        let is_lines = self.format == EventFormat::Lines;
        out.extend_from_slice(if is_lines { b"" } else { b"data: " });
        out.extend_from_slice(json); // Without line ends, which JSON escapes.
        out.push(b'\n');
        if is_lines {
            return;
        }
        if let Some(id) = id {
            out.extend_from_slice(b"id: ");
            out.extend_from_slice(id);
            out.push(b'\n');
        }
        out.push(b'\n');
    }

    fn push(self, out: &mut Vec<u8>, event: &[u8]) {
        match self.is_chunked {
            true => push_chunk(out, event),
            false => out.extend_from_slice(event),
        }
    }
}

/// Whether a piece is the head of a stream, and no other response.
pub(super) fn is_head(piece: &[u8]) -> bool {
    const FIELD: &[u8] = b"X-Accel-Buffering: no\r\n";
    piece.ends_with(b"\r\n\r\n") && piece.windows(FIELD.len()).any(|line| line == FIELD)
}

/// The id after which a client resumes that has seen this event: that of a message, or of the last
/// message in a history frame.
fn id_of(event: &[u8]) -> Option<&[u8]> {
    // In no other place of an event: a quotation mark in a string is escaped.
    const MESSAGE: &[u8] = b"{\"id\":\"";
    const ID_BYTES: usize = 36;
    let start = match event.starts_with(b"{\"type\":\"history\"") {
        true => event.windows(MESSAGE.len()).rposition(|window| window == MESSAGE)?,
        false if event.starts_with(MESSAGE) => 0,
        false => return None,
    };
    event.get(start + MESSAGE.len()..)?.get(..ID_BYTES)
}

/// The forms of the batch that is being queued.
#[derive(Default)]
pub(super) struct Transcoder {
    batch: Option<Piece>,
    made: [Option<Piece>; FORMS],
}

impl Transcoder {
    /// The events of a piece for WebSockets. If the piece is for many connections, so is the result.
    pub fn piece(&mut self, frames: Piece, form: Form, ledger: &Ledger) -> Piece {
        if !frames.is_for_many() {
            return Piece::private(form.encode(frames.bytes()));
        }
        if !self.batch.as_ref().is_some_and(|batch| batch.is_same(&frames)) {
            *self = Transcoder { batch: Some(frames.clone()), ..Transcoder::default() };
        }
        let make = || Piece::for_many(form.encode(frames.bytes()), ledger.tally(Account::Frames));
        self.made[form.index()].get_or_insert_with(make).clone()
    }

    /// The batch is queued for all its recipients.
    pub fn clear(&mut self) {
        if self.batch.is_some() {
            *self = Transcoder::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: Form = Form { format: EventFormat::EventStream, is_chunked: false };
    const LINES: Form = Form { format: EventFormat::Lines, is_chunked: false };
    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn frames(events: &[&str]) -> Vec<u8> {
        let mut frames = Vec::new();
        for event in events {
            ws::encode_text(&mut frames, |out| out.extend_from_slice(event.as_bytes()));
        }
        frames
    }

    fn encoded(form: Form, events: &[&str]) -> String {
        String::from_utf8(form.encode(&frames(events)).into()).unwrap()
    }

    // contract §14.2 §14.4
    #[test]
    fn messages_and_histories_have_ids_and_other_events_have_none() {
        let long = "x".repeat(70_000);
        let message = format!(r#"{{"id":"{ID}","type":"chat","message":"{long}"}}"#);
        let typing = r#"{"type":"typing","user":"{\"id\":\"x"}"#;
        let history = |messages: &str| {
            format!(
                r#"{{"type":"history","messages":[{messages}],"users":[{{"user":"{{","x":"id"}}]}}"#
            )
        };
        let (empty, full) =
            (history(""), history(&[&message.replace(ID, "other"), ",", &message].concat()));
        assert_eq!(
            encoded(EVENTS, &[&message, typing, &empty, &full]),
            format!(
                "data: {message}\nid: {ID}\n\ndata: {typing}\n\ndata: {empty}\n\n\
                 data: {full}\nid: {ID}\n\n"
            )
        );
        assert_eq!(encoded(LINES, &[&message, typing]), format!("{message}\n{typing}\n"));
    }

    #[test]
    fn an_event_is_one_chunk_and_no_event_is_none() {
        let chunked = Form { is_chunked: true, ..LINES };
        assert_eq!(encoded(chunked, &["{}", "[]"]), "3\r\n{}\n\r\n3\r\n[]\n\r\n");
        let long = "y".repeat(0xABC);
        assert!(encoded(chunked, &["{}", &long]).starts_with("3\r\n{}\n\r\nabd\r\nyyy"));
        assert_eq!(encoded(chunked, &[]), "");
        assert_eq!(encoded(EVENTS, &[]), "");
        assert_eq!(&*chunked.ping(), b"10\r\n{\"type\":\"ping\"}\n\r\n");
        assert_eq!(&*Form { is_chunked: true, ..EVENTS }.ping(), b"3\r\n:\n\n\r\n");
    }

    #[test]
    fn the_end_of_an_event_is_found_from_each_of_its_bytes() {
        let message = format!(r#"{{"id":"{ID}","message":"x"}}"#);
        let events = [r#"{"type":"typing"}"#, &message, "{}"];
        for is_chunked in [false, true] {
            for form in [EVENTS, LINES].map(|form| Form { is_chunked, ..form }) {
                let mut ends = vec![0];
                for count in 1..=events.len() {
                    ends.push(form.encode(&frames(&events[..count])).len());
                }
                let all = form.encode(&frames(&events));
                for at in 0..=all.len() {
                    let expected = ends.iter().find(|end| **end >= at).copied();
                    assert_eq!(form.event_end(&all, at), expected, "{form:?}, {at}");
                }
            }
        }
    }

    // contract §14.8 §14.9
    #[test]
    fn the_last_event_tells_whether_to_come_back() {
        let text = |form: Form, close| String::from_utf8(form.close(close)).unwrap();
        assert_eq!(
            text(Form { is_chunked: true, ..EVENTS }, Close::ROOM_DELETED),
            "44\r\ndata: {\"type\":\"close\",\"code\":4410,\"reason\":\"room deleted\"}\nid: end\n\n\r\n\
             0\r\n\r\n"
        );
        assert_eq!(
            text(EVENTS, Close::SHUTTING_DOWN),
            "data: {\"type\":\"close\",\"code\":1001,\"reason\":\"server shutting down\"}\n\n"
        );
        assert_eq!(
            text(LINES, Close::LEFT_ROOM),
            "{\"type\":\"close\",\"code\":1000,\"reason\":\"left room\"}\n"
        );
    }

    #[test]
    fn a_batch_is_encoded_once_in_each_form() {
        let ledger = Ledger::new();
        let bytes = frames(&["{}"]).into_boxed_slice();
        let batch = Piece::for_many(bytes, ledger.tally(Account::Frames));
        let mut transcoder = Transcoder::default();
        let mut piece = |form| transcoder.piece(batch.clone(), form, &ledger);
        let (one, same, other) = (piece(EVENTS), piece(EVENTS), piece(LINES));
        assert!(one.is_same(&same) && !one.is_same(&other));
        assert_eq!((one.bytes(), other.bytes()), (&b"data: {}\n\n"[..], &b"{}\n"[..]));
        let private = Piece::private(frames(&["{}"]));
        let private = transcoder.piece(private, EVENTS, &ledger);
        assert!(!private.is_for_many());
        assert!(transcoder.piece(batch.clone(), LINES, &ledger).is_same(&other));
        transcoder.clear();
        drop((one, same, other, private, batch));
        assert_eq!(ledger.total(), 0);
    }
}
