//! The HTTP codec: what it makes of bytes does not depend on how they were cut up, nor on what
//! came before a request, and it holds no more than its limits.
#![no_main]

use disposable_chat::http::{Codec, Fed, HttpLimits, Phase, Reject, Request};
use disposable_chat_fuzz::Cut;
use libfuzzer_sys::fuzz_target;

const USUAL: HttpLimits = HttpLimits {
    head_bytes_max: 16 << 10,
    fields_max: 100,
    target_bytes_max: 8 << 10,
    body_bytes_max: 64 << 10,
};
const SMALL: HttpLimits =
    HttpLimits { head_bytes_max: 256, fields_max: 6, target_bytes_max: 64, body_bytes_max: 32 };

/// What came of all the input.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    /// Each request with everything in it.
    requests: Vec<String>,
    end: Result<Phase, Reject>,
}

fuzz_target!(|data: &[u8]| {
    let Some(cut) = Cut::of(data) else { return };
    let limits = if cut.small { SMALL } else { USUAL };
    let whole = run(limits, &[cut.bytes]);
    assert_eq!(run(limits, &cut.pieces()), whole);
    assert_eq!(run(limits, &cut.bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    each_alone(limits, cut.bytes, &whole.requests);
});

/// Feeds the pieces one by one. `Continue` is left out: it alone may depend on them.
fn run(limits: HttpLimits, pieces: &[&[u8]]) -> Outcome {
    let mut codec = Codec::new(limits);
    let mut requests = Vec::new();
    // Head and trailers, the fields' index, the content.
    let max = 2 * limits.head_bytes_max + limits.fields_max * 8 + limits.body_bytes_max;
    for mut piece in pieces.iter().copied() {
        loop {
            let before = piece.len();
            match codec.feed(&mut piece) {
                Ok(Fed::Request(request)) => {
                    assert_eq!((codec.phase(), codec.bytes()), (Phase::Idle, 0));
                    assert!(codec.request().is_none(), "a request is handed out once");
                    assert!(piece.len() < before, "a request came from nothing");
                    look(&request, limits);
                    requests.push(format!("{request:?}"));
                }
                Ok(Fed::Partial | Fed::Continue) => {
                    assert!(piece.is_empty(), "input was left over");
                    break;
                }
                Err(reject) => {
                    assert!(piece.is_empty(), "input was left over");
                    assert!(codec.bytes() == 0 || codec.request().is_some());
                    let mut more = &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..];
                    assert_eq!(codec.feed(&mut more).unwrap_err(), reject, "it is for good");
                    return Outcome { requests, end: Err(reject) };
                }
            }
        }
        assert!(codec.bytes() <= max, "{} bytes held", codec.bytes());
        assert!(codec.phase() != Phase::Idle || codec.bytes() == 0);
        assert_eq!(codec.phase() == Phase::Body, codec.request().is_some());
    }
    Outcome { requests, end: Ok(codec.phase()) }
}

/// What holds for every request that is handed out.
fn look(request: &Request, limits: HttpLimits) {
    let lengths: Vec<_> = request.fields("Content-Length").collect();
    let coded = request.fields("Transfer-Encoding").count();
    assert!(lengths.len() + coded <= 1, "two framings, and one of them is a smuggler's");
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
    // Whatever it asks, an answer comes: no escape and no list is too odd to be looked at.
    let _ = request.query_value("session_id");
    let _ = request.lists("Connection", "close");
}

/// A request is what it is, wherever in the stream it stands: its own bytes say the same.
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
        assert!(run(limits, &[short]).requests.is_empty(), "it was complete before its end");
    }
}
