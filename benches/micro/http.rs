//! Parsing request heads and bodies, with the codec of one persistent connection.

use std::hint::black_box;

use disposable_chat::api::routes;
use disposable_chat::http::{Codec, Fed, HttpLimits, Request};
use divan::Bencher;
use divan::counter::BytesCount;

use crate::repeat;

const LIMITS: HttpLimits = HttpLimits {
    head_bytes_max: 16 * 1024,
    fields_max: 100,
    target_bytes_max: 8 * 1024,
    body_bytes_max: 64 * 1024,
};

/// A browser's request.
const BROWSER: &str = "GET /rooms/a1b2c3d4e5/messages?limit=50 HTTP/1.1\r\n\
    Host: chat.example.org\r\n\
    Connection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: */*\r\n\
    Accept-Language: pt-BR,pt;q=0.8,en-US;q=0.5,en;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Authorization: Bearer 01234567-89ab-4cde-8f01-23456789abcd\r\n\
    Referer: https://chat.example.org/\r\n\
    Sec-Fetch-Dest: empty\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Sec-Fetch-Site: same-origin\r\n\r\n";

/// A load generator's request.
const SHORT: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[divan::bench]
fn head_short(bencher: Bencher) {
    bench(bencher, &[SHORT.as_bytes()]);
}

#[divan::bench]
fn head_browser(bencher: Bencher) {
    bench(bencher, &[BROWSER.as_bytes()]);
}

#[divan::bench]
fn head_byte_by_byte(bencher: Bencher) {
    bench(bencher, &BROWSER.as_bytes().chunks(1).collect::<Vec<_>>());
}

/// Head and body in one piece, as curl sends them.
#[divan::bench(args = [24, 4096, 65536])]
fn body_with_length(bencher: Bencher, bytes: usize) {
    bench(bencher, &[&post(bytes)]);
}

/// In pieces as large as a TCP segment on Ethernet.
#[divan::bench(args = [65536])]
fn body_in_pieces(bencher: Bencher, bytes: usize) {
    bench(bencher, &post(bytes).chunks(1448).collect::<Vec<_>>());
}

#[divan::bench(args = [24, 4096, 65536])]
fn body_chunked(bencher: Bencher, bytes: usize) {
    let mut text = b"POST /sessions HTTP/1.1\r\nHost: localhost\r\n\
        Transfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for chunk in vec![b'x'; bytes].chunks(1024) {
        text.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        text.extend(chunk);
        text.extend(b"\r\n");
    }
    text.extend(b"0\r\n\r\n");
    bench(bencher, &[&text]);
}

fn post(bytes: usize) -> Vec<u8> {
    let head =
        format!("POST /sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n\r\n");
    let mut text = head.into_bytes();
    text.resize(text.len() + bytes, b'x');
    text
}

fn bench(bencher: Bencher, pieces: &[&[u8]]) {
    let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    bencher.counter(BytesCount::new(bytes)).bench_local(feeding(pieces));
}

/// Parses a request that arrives in these pieces.
fn feeding(pieces: &[&[u8]]) -> impl FnMut() -> Request {
    let mut codec = Codec::new(LIMITS);
    move || {
        let mut request = None;
        for mut piece in pieces.iter().copied() {
            match codec.feed(&mut piece).expect("a good request") {
                Fed::Request(whole) => request = Some(whole),
                Fed::Partial | Fed::Continue => {}
            }
            assert!(piece.is_empty(), "one request and nothing else");
        }
        request.expect("a whole request")
    }
}

/// Matches the path that takes longest: 8,000 empty segments.
pub fn count_path(times: usize) {
    let path = format!("{}rooms", "/".repeat(8180));
    repeat(times, || {
        assert!(routes::match_path(black_box(&path)).is_some());
    });
}

/// Looks up the parameters of an upgrade in a query that takes long: 1,166 names, each of them as long
/// as one that is looked for, and half of them to be decoded.
pub fn count_query(times: usize) {
    let target = format!("/ws/a1b2c3d4e5?{}", "aft%65s&a+b+c&".repeat(583));
    let request = feeding(&[format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()])();
    repeat(times, || {
        let names = ["session_id", "after", "history"];
        assert!(black_box(&request).query_values(names).iter().all(Option::is_none));
    });
}

pub fn count_head(times: usize) {
    repeat(times, feeding(&[BROWSER.as_bytes()]));
}
