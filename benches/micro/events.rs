//! Parsing the JSON of client events, and encoding server events as JSON and as frames.

use std::hint::black_box;

use disposable_chat::api::json;
use disposable_chat::api::socket::{self, ClientEvent};
use disposable_chat::chat::{Event, Message, MessageId, MessageKind};
use disposable_chat::clock::{Stamps, Wall};
use disposable_chat::ws;
use divan::Bencher;
use divan::counter::BytesCount;

use crate::repeat;
use crate::server::Server;

#[divan::bench(args = [100, 4000])]
fn parse_chat(bencher: Bencher, chars: usize) {
    let text = "x".repeat(chars);
    bench_parse(bencher, &format!(r#"{{"type":"chat","message":"{text}"}}"#));
}

/// As the chat page sends it: with a nonce and non-ASCII text.
#[divan::bench]
fn parse_chat_with_nonce(bencher: Bencher) {
    let text = "Olá, tudo bem? 🦀 ".repeat(5);
    let nonce = "0c9f5c2e-7";
    bench_parse(bencher, &format!(r#"{{"type":"chat","message":"{text}","nonce":"{nonce}"}}"#));
}

/// A text with escapes must be copied.
#[divan::bench]
fn parse_chat_with_escapes(bencher: Bencher) {
    let text = r#"\"one\"\nanother\u00e9 "#.repeat(5);
    bench_parse(bencher, &format!(r#"{{"type":"chat","message":"{text}"}}"#));
}

#[divan::bench]
fn parse_typing(bencher: Bencher) {
    bench_parse(bencher, r#"{"type":"typing"}"#);
}

#[divan::bench]
fn parse_unknown_event(bencher: Bencher) {
    let text = format!(r#"{{"type":"dance","message":"{}"}}"#, "x".repeat(100));
    bencher
        .counter(BytesCount::of_str(&text))
        .bench_local(|| socket::parse(black_box(&text)).expect_err("no event"));
}

/// The JSON alone, of a message that is not the first in its tick.
#[divan::bench(args = [100, 4000])]
fn encode_json(bencher: Bencher, chars: usize) {
    bench_encode(bencher, &"x".repeat(chars), json::event);
}

/// Header and JSON, as they are appended to a room's batch.
#[divan::bench(args = [100, 4000])]
fn encode_frame(bencher: Bencher, chars: usize) {
    bench_encode(bencher, &"x".repeat(chars), frame);
}

#[divan::bench]
fn encode_frame_with_escapes(bencher: Bencher) {
    bench_encode(bencher, &"\"one\"\nanother ".repeat(7), frame);
}

/// The first message of a tick also formats the tick's time.
#[divan::bench]
fn encode_frame_first_of_a_tick(bencher: Bencher) {
    bench_encode(bencher, &"x".repeat(100), |out, event, stamps| {
        *stamps = Stamps::default();
        frame(out, event, stamps);
    });
}

fn frame(out: &mut Vec<u8>, event: &Event<'_>, stamps: &mut Stamps) {
    ws::encode_text(out, |out| json::event(out, event, stamps));
}

fn bench_parse(bencher: Bencher, text: &str) {
    bencher
        .counter(BytesCount::of_str(text))
        .bench_local(|| -> ClientEvent<'_> { socket::parse(black_box(text)).expect("an event") });
}

/// As [`parse_chat_with_nonce`].
pub fn count_parse(times: usize) {
    let text = format!(r#"{{"type":"chat","message":"{}","nonce":"0c9f5c2e-7"}}"#, "x".repeat(100));
    repeat(times, || socket::parse(black_box(&text)).is_ok());
}

pub fn count_encode(times: usize) {
    let (mut out, mut stamps) = (Vec::new(), Stamps::default());
    with_chat(&"x".repeat(100), |event| {
        repeat(times, || {
            out.clear();
            frame(&mut out, black_box(event), &mut stamps);
            out.len()
        });
    });
}

fn bench_encode(
    bencher: Bencher,
    text: &str,
    encode: impl Fn(&mut Vec<u8>, &Event<'_>, &mut Stamps),
) {
    let (mut out, mut stamps) = (Vec::new(), Stamps::default());
    with_chat(text, |event| {
        let mut once = || {
            out.clear();
            encode(&mut out, black_box(event), &mut stamps);
            out.len()
        };
        let bytes = once();
        assert!(bytes > text.len(), "the text is missing");
        bencher.counter(BytesCount::new(bytes)).bench_local(once);
    });
}

/// Calls `run` with a chat message of this text.
fn with_chat(text: &str, run: impl FnOnce(&Event<'_>)) {
    let mut server = Server::new();
    let (session, room_id, _) = server.room();
    server.enter(&room_id, &session, "");
    let (room, room_id) = server.room_key(&room_id);
    let (user_id, user) = server.chat().users(room).first().copied().expect("a member is present");
    let id = MessageId::parse("0198c1f2-8b00-7000-8000-000000000000").expect("an id");
    let (wall, kind) = (Wall::from_micros(1_755_611_100_123_456), MessageKind::Chat(text));
    let event = Event::Message(Message {
        id,
        kind,
        user: user.into(),
        user_id,
        wall,
        room_id,
        nonce: None,
    });
    run(&event);
}
