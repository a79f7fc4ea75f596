//! The HTTP codec: its result does not depend on how the bytes are cut into pieces, nor on the
//! bytes before a request, and it buffers no more than its limits allow.
//!
//! Owns these properties. Must not know the grammar, for which the unit tests have examples.
#![no_main]

use disposable_chat::http::{Codec, Fed, HttpLimits, Phase, Reject, Request};
use disposable_chat_fuzz::{Cut, LIMITS};
use libfuzzer_sys::fuzz_target;

const SMALL: HttpLimits =
    HttpLimits { head_bytes_max: 256, fields_max: 6, target_bytes_max: 64, body_bytes_max: 32 };

/// The result of a whole input.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    /// Each request, in its debug form, which shows every field.
    requests: Vec<String>,
    end: Result<Phase, Reject>,
}

fuzz_target!(|data: &[u8]| {
    let Some(cut) = Cut::of(data) else { return };
    let limits = if cut.small { SMALL } else { LIMITS };
    let whole = cut.in_any_pieces(|pieces| run(limits, pieces));
    each_alone(limits, cut.bytes, &whole.requests);
});

/// Feeds the pieces one by one. The result has no `Continue`, which may depend on the pieces.
fn run(limits: HttpLimits, pieces: &[&[u8]]) -> Outcome {
    let mut codec = Codec::new(limits);
    let mut requests = Vec::new();
    // The head and the trailers, the index of the fields, and the content.
    let max = 2 * limits.head_bytes_max + limits.fields_max * 8 + limits.body_bytes_max;
    for mut piece in pieces.iter().copied() {
        loop {
            let before = piece.len();
            match codec.feed(&mut piece) {
                Ok(Fed::Request(request)) => {
                    assert_eq!((codec.phase(), codec.bytes()), (Phase::Idle, 0));
                    assert!(codec.request().is_none(), "a request is returned twice");
                    assert!(piece.len() < before, "a request has no bytes");
                    look(&request, limits);
                    requests.push(format!("{request:?}"));
                }
                Ok(Fed::Partial | Fed::Continue) => {
                    assert!(piece.is_empty(), "input is left unread");
                    break;
                }
                Err(reject) => {
                    assert!(piece.is_empty(), "input is left unread");
                    assert!(codec.bytes() == 0 || codec.request().is_some());
                    let mut more = &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..];
                    assert_eq!(
                        codec.feed(&mut more).unwrap_err(),
                        reject,
                        "the codec parses on after a reject"
                    );
                    return Outcome { requests, end: Err(reject) };
                }
            }
        }
        assert!(codec.bytes() <= max, "{} bytes buffered", codec.bytes());
        assert!(codec.phase() != Phase::Idle || codec.bytes() == 0);
        assert_eq!(codec.phase() == Phase::Body, codec.request().is_some());
    }
    Outcome { requests, end: Ok(codec.phase()) }
}

/// Properties of every request.
fn look(request: &Request, limits: HttpLimits) {
    let lengths: Vec<_> = request.fields("Content-Length").collect();
    let coded = request.fields("Transfer-Encoding").count();
    assert!(lengths.len() + coded <= 1, "a request with two framings allows request smuggling");
    match lengths.first() {
        Some(length) => {
            let length = std::str::from_utf8(length).expect("digits").parse::<usize>();
            assert_eq!(length, Ok(request.body().len()));
        }
        None if coded == 0 => assert!(request.body().is_empty()),
        None => {}
    }
    assert!(request.body().len() <= limits.body_bytes_max);
    let target = request.path().len() + request.query().len();
    assert!(target <= limits.target_bytes_max.max(1));
    assert!(request.path().starts_with('/') || request.path() == "*");
    assert!([request.path(), request.query(), request.host()].iter().all(|text| text.is_ascii()));
    // With any escapes and lists in the request, these must not panic.
    let _ = request.query_value("session_id");
    let _ = request.lists("Connection", "close");
}

/// The bytes of each request, without those before it, give the same request.
fn each_alone(limits: HttpLimits, mut bytes: &[u8], requests: &[String]) {
    let mut codec = Codec::new(limits);
    for request in requests {
        let start = bytes;
        while !matches!(codec.feed(&mut bytes), Ok(Fed::Request(_))) {}
        let (own, _) = start.split_at(start.len() - bytes.len());
        let alone = run(limits, &[own]);
        assert_eq!(alone.requests, [request.as_str()]);
        assert_eq!(alone.end, Ok(Phase::Idle));
        let (short, _) = own.split_at(own.len() - 1);
        assert!(
            run(limits, &[short]).requests.is_empty(),
            "the request is complete before its last byte"
        );
    }
}
