//! Parsing WebSocket frames: a text message in one piece and in several.

use disposable_chat::ws::{Context, FrameReader, Incoming, WsLimits};
use divan::Bencher;
use divan::counter::BytesCount;

use crate::{repeat, wire};

const LIMITS: WsLimits = WsLimits { frame_bytes_max: 64 * 1024, message_bytes_max: 64 * 1024 };
const MASK: u32 = 0x1234_5678;

/// The first bytes of a fragmented text message: start, continuation, end (RFC 6455 §5.2).
const FRAGMENTS: [u8; 3] = [0x01, 0x00, 0x80];

#[divan::bench(args = [100, 4000, 60_000])]
fn whole(bencher: Bencher, bytes: usize) {
    let frame = wire::frame(wire::TEXT, &vec![b'x'; bytes], MASK);
    bench(bencher, &[&frame]);
}

/// Three fragments, which arrive together.
#[divan::bench]
fn fragmented(bencher: Bencher) {
    let fragments = FRAGMENTS.map(|first| wire::frame(first, &[b'x'; 33], MASK)).concat();
    bench(bencher, &[&fragments]);
}

#[divan::bench]
fn in_halves(bencher: Bencher) {
    let frame = wire::frame(wire::TEXT, &[b'x'; 100], MASK);
    let (first, second) = frame.split_at(frame.len() / 2);
    bench(bencher, &[first, second]);
}

#[divan::bench]
fn byte_by_byte(bencher: Bencher) {
    let frame = wire::frame(wire::TEXT, &[b'x'; 100], MASK);
    bench(bencher, &frame.chunks(1).collect::<Vec<_>>());
}

/// Ten messages that arrive together.
#[divan::bench]
fn ten_at_once(bencher: Bencher) {
    let frames = wire::frame(wire::TEXT, &[b'x'; 100], MASK).repeat(10);
    bench(bencher, &[&frames]);
}

/// Includes the pong.
#[divan::bench]
fn ping(bencher: Bencher) {
    bench(bencher, &[&wire::frame(wire::PING, b"", MASK)]);
}

fn bench(bencher: Bencher, pieces: &[&[u8]]) {
    let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    bencher.counter(BytesCount::new(bytes)).bench_local(feeding(pieces));
}

/// Feeds these pieces to a context, which is reused for all iterations.
fn feeding(pieces: &[&[u8]]) -> impl FnMut() -> usize {
    let mut context = Context::new();
    let (mut out, mut reader) = (Vec::new(), FrameReader::new(LIMITS));
    move || {
        out.clear();
        let mut delivered = 0;
        for mut piece in pieces.iter().copied() {
            loop {
                let fed = context.feed(&mut piece, &mut out, &mut reader).expect("good frames");
                let Some(incoming) = fed else { break };
                match incoming {
                    Incoming::Text(text) => delivered += text.len(),
                    Incoming::Ping => delivered += out.len(),
                    _ => {}
                }
            }
        }
        assert!(delivered > 0, "nothing was delivered");
        delivered
    }
}

/// Nearly every frame takes this shortcut.
pub fn count_text_frame(times: usize) {
    let frame = wire::frame(wire::TEXT, &[b'x'; 100], MASK);
    let (mut context, reader) = (Context::new(), FrameReader::new(LIMITS));
    let mut input = frame.clone();
    repeat(times, || {
        input.copy_from_slice(&frame);
        let text = context.take_text(&mut input.as_mut_slice(), &reader).expect("a good frame");
        text.expect("the shortcut").len()
    });
}
