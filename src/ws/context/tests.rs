//! Frames split at every byte, violations, closes, and the behaviour of tungstenite that the context
//! relies on.

use std::cell::RefCell;
use std::io::Cursor;

use super::super::partial::{CONTROL_BYTES_MAX, HEAD_BYTES_MAX};
use super::*;
use crate::clock::SeededEntropy;

const LIMITS: WsLimits = WsLimits { frame_bytes_max: 300, message_bytes_max: 500 };

const FIN: u8 = 0x80;
const CONTINUE: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = FIN | 8;
const PING: u8 = FIN | 9;
const PONG: u8 = FIN | 10;

/// The header of a client's frame that declares `payload` bytes, in the shortest form.
fn head(first: u8, payload: u64) -> Vec<u8> {
    let mut head = vec![first];
    match payload {
        0..=125 => head.push(0x80 | payload as u8),
        126..=0xFFFF => {
            head.push(0x80 | 126);
            head.extend((payload as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend(payload.to_be_bytes());
        }
    }
    head.extend(MASK);
    head
}

/// The mask of RFC 6455 §5.7.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A client's frame.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = head(first, payload.len() as u64);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn close_frame(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    frame(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

/// A frame of the server with a payload of at most 125 bytes.
fn answer(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    [&[first, payload.as_ref().len() as u8], payload.as_ref()].concat()
}

fn close_answer(close: Close) -> Vec<u8> {
    answer(CLOSE, [&close.code.to_be_bytes(), close.reason.as_bytes()].concat())
}

fn describe(incoming: Incoming) -> String {
    match incoming {
        Incoming::Text(text) => format!("text {}", text.as_str()),
        Incoming::Binary(payload) => format!("binary {}", payload.escape_ascii()),
        Incoming::Fragment => "fragment".to_owned(),
        Incoming::Ping => "ping".to_owned(),
        Incoming::Pong(payload) => format!("pong {}", payload.escape_ascii()),
        Incoming::Closed(_) => "closed".to_owned(),
    }
}

thread_local! {
    /// Shared by all contexts of a test, as in the server.
    static READER: RefCell<FrameReader> = RefCell::new(FrameReader::new(LIMITS));
}

/// Feeds all of `input`, and closes after a violation, as the server does.
fn feed(context: &mut Context, input: &[u8], out: &mut Vec<u8>) -> Vec<String> {
    feed_some_way(context, input, out, false)
}

/// `is_short`: whole text frames are taken by the shortcut.
fn feed_some_way(
    context: &mut Context,
    input: &[u8],
    out: &mut Vec<u8>,
    is_short: bool,
) -> Vec<String> {
    let (mut seen, mut input) = (Vec::new(), input.to_vec());
    let mut input = &mut input[..];
    loop {
        let read = READER.with_borrow_mut(|reader| {
            if is_short {
                if let Some(text) = context.take_text(&mut input, reader)? {
                    return Ok(Some(Incoming::Text(text.into())));
                }
            }
            let mut rest = &*input;
            let read = context.feed(&mut rest, out, reader);
            let taken = input.len() - rest.len();
            input = &mut std::mem::take(&mut input)[taken..];
            read
        });
        match read {
            Ok(Some(Incoming::Fragment)) => {}
            Ok(Some(incoming)) => seen.push(describe(incoming)),
            Ok(None) => break,
            Err(violation) => {
                seen.push(format!("{violation:?}"));
                context.close(violation.close(), out);
                assert!(!context.can_write());
            }
        }
        let kept = HEAD_BYTES_MAX + LIMITS.frame_bytes_max + LIMITS.message_bytes_max;
        assert!(context.bytes() <= UNDER_WAY_BYTES + kept + 32);
    }
    assert!(input.is_empty(), "left over: {input:?}");
    seen
}

/// Calls `begin` and feeds `input`. Wherever the input is split, the results must be `expected`,
/// and the bytes sent must be `answers`.
#[track_caller]
fn check_after(
    begin: fn(&mut Context, &mut Vec<u8>),
    input: &[u8],
    expected: &[&str],
    answers: &[u8],
) {
    let check = |pieces: &mut dyn Iterator<Item = &[u8]>, is_short, cut: &str| {
        let (mut context, mut out) = (Context::new(), Vec::new());
        begin(&mut context, &mut out);
        let feed = |piece| feed_some_way(&mut context, piece, &mut out, is_short);
        let seen: Vec<_> = pieces.flat_map(feed).collect();
        assert_eq!(seen, expected, "{cut}");
        assert_eq!(out.escape_ascii().to_string(), answers.escape_ascii().to_string(), "{cut}");
    };
    for is_short in [false, true] {
        for at in 0..=input.len() {
            let (front, back) = input.split_at(at);
            let cut = format!("cut at {at}, with the shortcut: {is_short}");
            check(&mut [front, back].into_iter(), is_short, &cut);
        }
        check(&mut input.chunks(1), is_short, "byte by byte");
    }
}

#[track_caller]
fn check(input: &[u8], expected: &[&str], answers: &[u8]) {
    check_after(|_, _| {}, input, expected, answers);
}

/// The last frame of `input` is a violation. It must be reported, and later frames discarded.
#[track_caller]
fn check_violation(input: &[u8], before: &[&str], violation: Violation) {
    let name = format!("{violation:?}");
    let expected = [before, &[name.as_str()]].concat();
    let late = [frame(FIN | TEXT, "late"), frame(PING, "late"), frame(CLOSE, "")].concat();
    check(&[input, &late].concat(), &expected, &close_answer(violation.close()));
}

#[test]
fn the_masked_hello_of_the_rfc_is_read() {
    check(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &["text Hello"], b"");
}

#[test]
fn the_shortcut_takes_one_form_of_frame_and_leaves_the_others_as_they_are() {
    let texts = [
        String::new(),
        "a".to_owned(),
        "Grüße, 世界 🦀".to_owned(),
        "x".repeat(125),
        "y".repeat(126),
        "z".repeat(LIMITS.frame_bytes_max),
    ];
    let long_form = |text: &str| [&[FIN | TEXT, 0xFE], &frame(0, text)[1..]].concat();
    let mut unmasked = frame(FIN | TEXT, "a");
    unmasked[1] &= !0x80;
    let others = [
        frame(TEXT, "a"),
        frame(FIN | CONTINUE, "a"),
        frame(FIN | BINARY, "a"),
        frame(FIN | 0x40 | TEXT, "a"),
        frame(FIN | 3, "a"),
        frame(PING, "a"),
        close_frame(1000, ""),
        unmasked,
        long_form("a"),
        frame(FIN | TEXT, "x".repeat(LIMITS.frame_bytes_max + 1)),
        [head(FIN | TEXT, 65_536), vec![0; 65_536]].concat(),
    ];
    let reader = FrameReader::new(LIMITS);
    let take = |context: &mut Context, bytes: &[u8]| {
        let mut input = bytes.to_vec();
        let mut rest = &mut input[..];
        let taken = context.take_text(&mut rest, &reader).unwrap().map(str::to_owned);
        let left = rest.to_vec();
        assert!(taken.is_some() || left == bytes, "it is left as it is");
        (taken, left)
    };
    for text in texts {
        let bytes = [&frame(FIN | TEXT, &text), &b"rest"[..]].concat();
        let (taken, left) = take(&mut Context::new(), &bytes);
        assert_eq!((taken.as_deref(), &left[..]), (Some(&text[..]), &b"rest"[..]));
        for length in 0..bytes.len() - 4 {
            assert_eq!(take(&mut Context::new(), &bytes[..length]).0, None, "{length} bytes");
        }
    }
    for other in others {
        assert_eq!(take(&mut Context::new(), &other).0, None, "{:?}", &other[..2]);
    }
    let (mut under_way, mut closing) = (Context::new(), Context::new());
    feed(&mut under_way, &frame(TEXT, "a"), &mut Vec::new());
    closing.close(Close::LEFT_ROOM, &mut Vec::new());
    for mut context in [under_way, closing] {
        assert_eq!(take(&mut context, &frame(FIN | TEXT, "a")).0, None);
    }
}

#[test]
fn text_and_binary_are_delivered_alike() {
    let input = [
        frame(FIN | TEXT, "Grüße, 世界 🦀"),
        frame(FIN | BINARY, [0, 255]),
        frame(FIN | TEXT, ""),
        frame(FIN | BINARY, ""),
    ];
    let expected = ["text Grüße, 世界 🦀", "binary \\x00\\xff", "text ", "binary "];
    check(&input.concat(), &expected, b"");
}

#[test]
fn all_frames_of_one_input_are_read() {
    let texts: Vec<_> = (0..100).map(|n| format!("text {n}")).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let input: Vec<_> = (0..100).flat_map(|n| frame(FIN | TEXT, n.to_string())).collect();
    check(&input, &texts, b"");
}

#[test]
fn fragments_are_joined_across_control_frames() {
    let input = [
        frame(TEXT, "one "),
        frame(PING, "a"),
        frame(CONTINUE, ""),
        frame(PONG, "b"),
        frame(CONTINUE, "two "),
        frame(FIN | CONTINUE, "three"),
        frame(BINARY, "x"),
        frame(FIN | CONTINUE, ""),
    ];
    let expected = ["ping", "pong b", "text one two three", "binary x"];
    check(&input.concat(), &expected, &answer(PONG, "a"));
}

#[test]
fn the_first_fragment_may_be_empty() {
    let input = [frame(TEXT, ""), frame(CONTINUE, ""), frame(FIN | CONTINUE, "late")].concat();
    check(&input, &["text late"], b"");
}

#[test]
fn each_fragment_but_the_last_is_reported_until_our_close() {
    let (mut context, mut out) = (Context::new(), Vec::new());
    let bytes = [frame(TEXT, "a"), frame(CONTINUE, ""), frame(FIN | CONTINUE, "b")].concat();
    let mut input = &bytes[..];
    for expected in [Incoming::Fragment, Incoming::Fragment, Incoming::Text("ab".into())] {
        assert_eq!(
            context.feed(&mut input, &mut out, &mut FrameReader::new(LIMITS)),
            Ok(Some(expected))
        );
    }
    context.close(Close::INTERNAL, &mut out);
    input = &bytes;
    assert_eq!(context.feed(&mut input, &mut out, &mut FrameReader::new(LIMITS)), Ok(None));
}

#[test]
fn a_code_point_may_be_split_between_fragments() {
    let crab = "🦀".as_bytes();
    let input =
        [frame(TEXT, &crab[..1]), frame(CONTINUE, &crab[1..3]), frame(FIN | CONTINUE, &crab[3..])];
    check(&input.concat(), &["text 🦀"], b"");
}

#[test]
fn every_ping_is_answered_in_order() {
    let longest = "p".repeat(CONTROL_BYTES_MAX);
    let input = [frame(PING, "a"), frame(PING, ""), frame(PING, &longest)].concat();
    let answers = [answer(PONG, "a"), answer(PONG, ""), answer(PONG, &longest)].concat();
    check(&input, &["ping", "ping", "ping"], &answers);
}

#[test]
fn a_pong_follows_earlier_output() {
    let (mut context, mut out) = (Context::new(), Vec::new());
    super::super::encode_text(&mut out, |out| out.extend_from_slice(b"first"));
    assert_eq!(feed(&mut context, &frame(PING, "a"), &mut out), ["ping"]);
    context.ping(&mut out);
    assert_eq!(out, b"\x81\x05first\x8a\x01a\x89\x00");
}

#[test]
fn the_peers_close_is_answered_with_its_own_code() {
    check(&frame(CLOSE, ""), &["closed"], &answer(CLOSE, ""));
    let registered = (1000..=1003).chain(1007..=1014).chain([3000, 3003, 3008]);
    for code in registered.chain([3001, 3500, 3999, 4000, 4999]) {
        let answers = answer(CLOSE, [&u16::to_be_bytes(code), &b"bye"[..]].concat());
        check(&close_frame(code, "bye"), &["closed"], &answers);
    }
    let longest = "r".repeat(123);
    let answers = answer(CLOSE, [&1000_u16.to_be_bytes(), longest.as_bytes()].concat());
    check(&close_frame(1000, &longest), &["closed"], &answers);
}

/// Regression: tungstenite answered such a close with 1002 and a reason of its own, and so it did a
/// close with 1014, which is registered.
#[test]
fn a_close_with_a_code_that_is_not_sent_is_a_violation() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        check_violation(&close_frame(code, "bye"), &[], Violation::Protocol);
        // After our close, whatever the peer's close says ends the connection.
        let begin = |context: &mut Context, out: &mut Vec<u8>| context.close(Close::LEFT_ROOM, out);
        let answers = close_answer(Close::LEFT_ROOM);
        check_after(begin, &close_frame(code, "bye"), &["closed"], &answers);
    }
}

#[test]
fn the_code_of_the_peers_close_is_reported() {
    let closed = |frame: &[u8]| {
        let (mut context, mut input) = (Context::new(), frame);
        READER.with_borrow_mut(|reader| context.feed(&mut input, &mut Vec::new(), reader))
    };
    assert_eq!(closed(&close_frame(1001, "")), Ok(Some(Incoming::Closed(Some(1001)))));
    assert_eq!(closed(&close_frame(3001, "back soon")), Ok(Some(Incoming::Closed(Some(3001)))));
    assert_eq!(closed(&frame(CLOSE, "")), Ok(Some(Incoming::Closed(None))));
}

#[test]
fn a_malformed_close_is_a_violation() {
    check_violation(&frame(CLOSE, [3]), &[], Violation::Protocol);
    check_violation(&close_frame(1000, b"\xce\xba\xff"), &[], Violation::NotUtf8);
    check_violation(&close_frame(1000, "r".repeat(124)), &[], Violation::Protocol);
}

#[test]
fn input_after_the_peers_close_is_discarded() {
    let input = [
        frame(FIN | TEXT, "before"),
        close_frame(1000, ""),
        frame(FIN | TEXT, "after"),
        frame(PING, ""),
        vec![0xFF; 20],
    ];
    let answers = answer(CLOSE, 1000_u16.to_be_bytes());
    check(&input.concat(), &["text before", "closed"], &answers);
}

#[test]
fn after_our_close_only_the_peers_close_is_reported() {
    let begin = |context: &mut Context, out: &mut Vec<u8>| {
        assert!(context.can_write());
        context.close(Close::SHUTTING_DOWN, out);
        assert!(!context.can_write());
        context.close(Close::INTERNAL, out);
        context.ping(out);
    };
    let input = [
        frame(TEXT, "too "),
        frame(PING, "x"),
        frame(FIN | CONTINUE, "late"),
        frame(PONG, ""),
        close_frame(1001, ""),
        frame(FIN | TEXT, "after"),
    ];
    check_after(begin, &input.concat(), &["closed"], &close_answer(Close::SHUTTING_DOWN));
    // A violation ends the wait for the peer's close, and no second close is sent.
    let input = [frame(FIN | TEXT, "late"), frame(FIN | 3, ""), close_frame(1001, "")].concat();
    check_after(begin, &input, &["Protocol"], &close_answer(Close::SHUTTING_DOWN));
}

#[test]
fn nothing_is_sent_after_the_peers_close() {
    let (mut context, mut out) = (Context::new(), Vec::new());
    feed(&mut context, &frame(CLOSE, ""), &mut out);
    out.clear();
    context.ping(&mut out);
    context.close(Close::INTERNAL, &mut out);
    assert!(out.is_empty() && !context.can_write());
}

#[test]
fn a_violation_is_answered_by_close_alone_and_once() {
    let (mut context, mut out) = (Context::new(), Vec::new());
    let input = frame(FIN | 3, "");
    assert_eq!(
        context.feed(&mut &input[..], &mut out, &mut FrameReader::new(LIMITS)),
        Err(Violation::Protocol)
    );
    context.ping(&mut out);
    assert!(out.is_empty() && !context.can_write());
    assert_eq!(context.feed(&mut &input[..], &mut out, &mut FrameReader::new(LIMITS)), Ok(None));
    context.close(Close::PROTOCOL, &mut out);
    context.close(Close::PROTOCOL, &mut out);
    assert_eq!(out, close_answer(Close::PROTOCOL));
}

#[test]
fn reserved_bits_and_opcodes_are_violations() {
    for bit in [0x40, 0x20, 0x10] {
        check_violation(&frame(FIN | bit | TEXT, "x"), &[], Violation::Protocol);
        check_violation(&frame(PING | bit, ""), &[], Violation::Protocol);
    }
    for opcode in (3..8).chain(11..16) {
        let input = [frame(FIN | TEXT, "x"), frame(FIN | opcode, "")].concat();
        check_violation(&input, &["text x"], Violation::Protocol);
    }
}

#[test]
fn an_unmasked_frame_is_a_violation() {
    check_violation(b"\x81\x05Hello", &[], Violation::Protocol);
    check_violation(b"\x89\x00", &[], Violation::Protocol);
}

#[test]
fn a_control_frame_is_short_and_not_fragmented() {
    check_violation(&frame(PING & !FIN, "x"), &[], Violation::Protocol);
    check_violation(&frame(PONG & !FIN, ""), &[], Violation::Protocol);
    check_violation(&frame(CLOSE & !FIN, ""), &[], Violation::Protocol);
    check_violation(&head(PING, 126), &[], Violation::Protocol);
    check_violation(&head(PONG, u64::MAX), &[], Violation::Protocol);
}

#[test]
fn fragments_of_two_messages_are_not_mixed() {
    check_violation(&frame(FIN | CONTINUE, "x"), &[], Violation::Protocol);
    check_violation(&frame(CONTINUE, "x"), &[], Violation::Protocol);
    let again = [frame(TEXT, "a"), frame(FIN | TEXT, "b")].concat();
    check_violation(&again, &[], Violation::Protocol);
    let again = [frame(BINARY, "a"), frame(TEXT, "b")].concat();
    check_violation(&again, &[], Violation::Protocol);
    let third = [frame(TEXT, "a"), frame(FIN | CONTINUE, "b"), frame(FIN | CONTINUE, "c")];
    check_violation(&third.concat(), &["text ab"], Violation::Protocol);
}

#[test]
fn text_that_is_not_utf8_is_a_violation_however_it_is_fragmented() {
    // An overlong form, a surrogate, a code point beyond U+10FFFF, a truncated code point, and a
    // lone continuation byte.
    for text in [&b"\xc0\xaf"[..], b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f", b"\x80"] {
        check_violation(&frame(FIN | TEXT, text), &[], Violation::NotUtf8);
        let (front, back) = text.split_at(1);
        let halves = [frame(TEXT, front), frame(FIN | CONTINUE, back)].concat();
        // Fails at the first or at the second fragment.
        check_violation(&halves, &[], Violation::NotUtf8);
    }
    // Fails at the fragment that cannot become valid, before the message is complete.
    let invalid = [frame(TEXT, "ok"), frame(CONTINUE, [0xFF])].concat();
    check_violation(&invalid, &[], Violation::NotUtf8);
    check(&frame(FIN | BINARY, [0xFF]), &["binary \\xff"], b"");
}

#[test]
fn a_frame_or_message_at_its_limit_is_accepted_and_one_byte_more_is_not() {
    let WsLimits { frame_bytes_max, message_bytes_max } = LIMITS;
    let (full, rest) = ("a".repeat(frame_bytes_max), message_bytes_max - frame_bytes_max);
    check(&frame(FIN | TEXT, &full), &[&format!("text {full}")], b"");
    let too_big = head(FIN | TEXT, frame_bytes_max as u64 + 1);
    check_violation(&too_big, &[], Violation::TooBig);

    let front = frame(BINARY, &full);
    let whole = [&front[..], &frame(FIN | CONTINUE, "b".repeat(rest))].concat();
    check(&whole, &[&format!("binary {full}{}", "b".repeat(rest))], b"");
    // Refused as soon as the header is complete.
    let too_big = [&front[..], &head(CONTINUE, rest as u64 + 1)].concat();
    check_violation(&too_big, &[], Violation::TooBig);
}

#[test]
fn huge_lengths_are_refused_with_the_header() {
    for declared in [65_536, u64::from(u32::MAX) + 1, 1 << 63, u64::MAX] {
        check_violation(&head(FIN | TEXT, declared), &[], Violation::TooBig);
        let continued = [frame(TEXT, "x"), head(FIN | CONTINUE, declared)].concat();
        check_violation(&continued, &[], Violation::TooBig);
    }
}

/// What a message under way takes besides its bytes.
const UNDER_WAY_BYTES: usize = allocation(size_of::<UnderWay>());

#[test]
fn arrived_bytes_count_until_delivery_and_declared_ones_do_not() {
    let (mut context, mut out) = (Context::new(), Vec::new());
    let mut step = |input: &[u8], undelivered: usize| {
        feed(&mut context, input, &mut out);
        let expected = if undelivered == 0 { 0 } else { UNDER_WAY_BYTES + allocation(undelivered) };
        assert_eq!(context.bytes(), expected, "after {input:?}");
        assert_eq!(context.is_under_way(), undelivered > 0, "after {input:?}");
    };
    let (text, more, ping) =
        (frame(TEXT, "0123456789"), frame(FIN | CONTINUE, "abcde"), frame(PING, "xyz"));
    step(&[], 0);
    step(&text[..5], 14); // The longest header.
    step(&text[5..6], 14);
    step(&text[6..15], 15);
    step(&text[15..], 64);
    step(&ping[..8], 64);
    step(&ping[8..], 64);
    step(&more[..10], 64);
    step(&more[10..], 0);
    step(&text, 64);
    step(&frame(FIN | 3, ""), 0);
    step(&text, 0);
}

/// Regression: the header of a frame of 64 KiB and one byte of it counted as 64 KiB, so that a few
/// thousand such connections made the server drop every history and refuse newcomers.
#[test]
fn a_frame_counts_by_its_arrived_bytes_however_many_its_header_declares() {
    let reader = &mut FrameReader::new(WsLimits { frame_bytes_max: 1 << 16, ..LIMITS_64K });
    let mut context = Context::new();
    let whole = frame(FIN | TEXT, [b'a'; 60_000]);
    for (at, byte) in whole.iter().enumerate() {
        let fed = context.feed(&mut &[*byte][..], &mut Vec::new(), reader);
        assert_eq!(fed.unwrap().is_some(), at + 1 == whole.len());
        // The capacity grows by a quarter.
        let most = allocation(at + 1 + ((at + 1) / 4).max(64)) + UNDER_WAY_BYTES;
        assert!(context.bytes() <= most, "{} at {at}", context.bytes());
    }
    assert_eq!(context.bytes(), 0);
}

const LIMITS_64K: WsLimits = WsLimits { frame_bytes_max: 1 << 16, message_bytes_max: 1 << 16 };

/// Regression: fragments of 1,000 bytes counted by their bytes, while tungstenite had twice as many
/// in a buffer that doubles, and a second buffer as large as the largest fragment.
#[test]
fn fragments_count_with_the_capacity_that_they_take() {
    let reader = &mut FrameReader::new(LIMITS_64K);
    let mut context = Context::new();
    for n in 1..=65 {
        let fragment = frame(if n == 1 { TEXT } else { CONTINUE }, [b'a'; 1000]);
        assert_eq!(
            context.feed(&mut &fragment[..], &mut Vec::new(), reader),
            Ok(Some(Incoming::Fragment))
        );
        let partial = &context.under_way.as_ref().unwrap().partial;
        let counted = context.bytes() - UNDER_WAY_BYTES;
        assert_eq!((partial.fragments().len(), counted), (n * 1000, partial.bytes()));
        assert!(counted <= allocation((n * 1250).clamp(1000, 1 << 16)), "{counted} after {n}");
    }
    let ping = frame(PING, "in between");
    assert_eq!(context.feed(&mut &ping[..], &mut Vec::new(), reader), Ok(Some(Incoming::Ping)));
    let last = frame(FIN | CONTINUE, "b");
    let whole = context.feed(&mut &last[..], &mut Vec::new(), reader);
    assert_eq!(whole, Ok(Some(Incoming::Text(("a".repeat(65_000) + "b").into()))));
    assert_eq!(context.bytes(), 0);
}

#[test]
fn mutated_frames_never_panic_and_stay_within_the_limits() {
    let sound = [
        frame(FIN | TEXT, "hello"),
        frame(TEXT, "a".repeat(130)),
        frame(PING, "ping"),
        frame(FIN | CONTINUE, "b".repeat(200)),
        frame(FIN | BINARY, [7; 126]),
        close_frame(1000, "bye"),
    ]
    .concat();
    let mut entropy = SeededEntropy::new(6455);
    let mut below = |end: usize| (entropy.next_u64() % end as u64) as usize;
    let mut outcomes = std::collections::BTreeMap::new();
    for _ in 0..5000 {
        let mut input = sound.clone();
        for _ in 0..below(4) {
            let at = below(input.len());
            match below(3) {
                0 => input[at] ^= 1 << below(8),
                1 => input[at] = below(256) as u8,
                _ => drop(input.drain(at..(at + below(9)).min(input.len()))),
            }
        }
        let (mut context, mut out) = (Context::new(), Vec::new());
        let mut rest = &input[..];
        let mut seen = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + below(80)).min(rest.len()));
            rest = after;
            seen.extend(feed(&mut context, piece, &mut out));
        }
        let last = seen.last().map(String::as_str).unwrap_or_default();
        let ended = last.split(' ').next().map(str::to_owned);
        *outcomes.entry(ended).or_insert(0) += 1;
        let is_violation = ["Protocol", "NotUtf8", "TooBig"].contains(&last);
        let (delivered, is_refused) = second_opinion(&input);
        // tungstenite tells a close with a bad code only by the reason of its answer.
        let is_bad_close = is_violation && delivered.last().is_some_and(|last| last == "closed");
        let messages = delivered.len() - usize::from(is_bad_close);
        assert_eq!(seen[..seen.len() - usize::from(is_violation)], delivered[..messages]);
        // The converse does not hold: some frames are refused by their headers alone.
        assert!(!is_refused || is_violation, "tungstenite refuses {input:?}");
    }
    // The mutations lead to each kind of result.
    for end in ["closed", "Protocol", "NotUtf8", "TooBig"] {
        assert!(outcomes.contains_key(&Some(end.to_owned())), "{outcomes:?}");
    }
}

/// What tungstenite delivers when it reads all of the stream and joins the fragments itself, and
/// whether it refuses the stream.
fn second_opinion(input: &[u8]) -> (Vec<String>, bool) {
    let (mut inner, mut out) = (new_context(LIMITS, READ_BUFFER_BYTES), Vec::new());
    let mut stream = FrameStream { frame: input, out: &mut out };
    let mut delivered = Vec::new();
    loop {
        delivered.push(describe(match inner.read(&mut stream) {
            Ok(Message::Text(text)) => Incoming::Text(text),
            Ok(Message::Binary(payload)) => Incoming::Binary(payload),
            Ok(Message::Ping(_)) => Incoming::Ping,
            Ok(Message::Pong(payload)) => Incoming::Pong(payload),
            Ok(Message::Close(_)) => Incoming::Closed(None),
            Ok(Message::Frame(_)) => unreachable!("tungstenite reads no raw frames"),
            Err(Error::Io(_) | Error::ConnectionClosed) => return (delivered, false),
            Err(_) => return (delivered, true),
        }));
        if delivered.last().is_some_and(|last| last == "closed") {
            return (delivered, false);
        }
    }
}

/// The behaviour of tungstenite that the context relies on, observed with 0.29 and 0.30.
mod tungstenite_itself {
    use super::*;
    use tungstenite::error::{CapacityError, ProtocolError};

    fn read(
        inner: &mut WebSocketContext,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Message, Error> {
        inner.read(&mut FrameStream { frame: payload, out })
    }

    fn blocked(outcome: Result<Message, Error>) -> bool {
        matches!(outcome, Err(Error::Io(why)) if why.kind() == ErrorKind::WouldBlock)
    }

    #[test]
    fn a_pong_is_queued_until_the_next_call() {
        let (mut inner, mut out) = (new_context(LIMITS, READ_BUFFER_BYTES), Vec::new());
        let ping = read(&mut inner, &frame(PING, "a"), &mut out);
        assert!(matches!(ping, Ok(Message::Ping(_))) && out.is_empty());
        assert!(blocked(read(&mut inner, &[], &mut out)));
        assert_eq!(out, answer(PONG, "a"));
    }

    #[test]
    fn the_answer_to_a_close_is_queued_and_then_the_context_is_closed() {
        let (mut inner, mut out) = (new_context(LIMITS, READ_BUFFER_BYTES), Vec::new());
        let close = read(&mut inner, &frame(CLOSE, ""), &mut out);
        assert!(matches!(close, Ok(Message::Close(None))) && out.is_empty());
        let flushed = inner.flush(&mut FrameStream::write_to(&mut out));
        assert!(matches!(flushed, Err(Error::ConnectionClosed)));
        assert_eq!(out, answer(CLOSE, ""));
        assert!(matches!(read(&mut inner, &[], &mut out), Err(Error::AlreadyClosed)));
    }

    #[test]
    fn after_an_error_nothing_has_been_sent_and_a_close_works_once() {
        type Bad<'a> = (&'a [u8], fn(&Error) -> bool);
        let bad: [Bad; 3] = [
            (b"\x81\x00", |e| matches!(e, Error::Protocol(_))),
            (&frame(FIN | TEXT, [0xFF]), |e| matches!(e, Error::Utf8(_))),
            (&head(FIN | TEXT, 301), |e| {
                matches!(e, Error::Capacity(CapacityError::MessageTooLong { .. }))
            }),
        ];
        for (input, expected) in bad {
            let (mut inner, mut out) = (new_context(LIMITS, READ_BUFFER_BYTES), Vec::new());
            assert!(expected(&read(&mut inner, input, &mut out).unwrap_err()));
            assert!(out.is_empty());
            for _ in 0..2 {
                inner.close(&mut FrameStream::write_to(&mut out), None).unwrap();
                assert_eq!(out, answer(CLOSE, ""));
            }
        }
    }

    #[test]
    fn after_our_close_late_data_is_delivered_and_pings_are_not_answered() {
        let (mut inner, mut out) = (new_context(LIMITS, READ_BUFFER_BYTES), Vec::new());
        inner.close(&mut FrameStream::write_to(&mut out), None).unwrap();
        out.clear();
        let late = read(&mut inner, &frame(FIN | TEXT, "late"), &mut out);
        assert!(matches!(late, Ok(Message::Text(text)) if text == "late"));
        assert!(matches!(read(&mut inner, &frame(PING, ""), &mut out), Ok(Message::Ping(_))));
        let close = read(&mut inner, &frame(CLOSE, ""), &mut out);
        assert!(matches!(close, Ok(Message::Close(None))));
        assert!(matches!(read(&mut inner, &[], &mut out), Err(Error::ConnectionClosed)));
        assert!(out.is_empty());
    }

    #[test]
    fn the_end_of_the_stream_is_a_broken_close() {
        let broken =
            new_context(LIMITS, READ_BUFFER_BYTES).read(&mut Cursor::new(Vec::new())).unwrap_err();
        let expected = ProtocolError::ResetWithoutClosingHandshake;
        assert!(matches!(broken, Error::Protocol(why) if why == expected));
    }
}
