//! Everyone is one of many: whoever floods the server has its turn, and nobody waits for it longer than for a turn.
//!
//! Under `SLOW_TESTS=1` only, since a flood slows the tests beside it. What is asserted is that nobody loses anything;
//! the latencies are printed.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Stream, Ws, chat, typing};
use crate::server::Server;

/// How many flood, and how often somebody says something beside them.
const FLOODERS: usize = 64;
const SAYS: usize = 100;

/// Round trips of a chat between two, in order of length.
fn round_trips(ana: &mut Ws, bob: &mut Ws) -> Vec<Duration> {
    let mut all: Vec<_> = (0..SAYS)
        .map(|n| {
            let text = format!("{n}");
            let start = Instant::now();
            ana.chat(&text);
            bob.expect_chat("ana", &text);
            let took = start.elapsed();
            ana.expect_chat("ana", &text);
            thread::sleep(Duration::from_millis(10)); // A quick talk, not a flood.
            took
        })
        .collect();
    all.sort();
    all
}

/// Keeps every stream's buffers full of `bytes` until `over`.
fn flood(mut streams: Vec<Stream>, bytes: &[u8], over: &AtomicBool) {
    let Some(Stream::Tcp(_)) = streams.first() else { panic!("TCP only") };
    let mut places = vec![0; streams.len()];
    let mut waste = vec![0; 1 << 16];
    for stream in &streams {
        if let Stream::Tcp(stream) = stream {
            stream.set_nonblocking(true).unwrap();
        }
    }
    while !over.load(Relaxed) {
        let mut idle = true;
        for (stream, place) in streams.iter_mut().zip(&mut places) {
            let Stream::Tcp(stream) = stream else { continue };
            while std::io::Read::read(stream, &mut waste).is_ok_and(|count| count > 0) {}
            if let Ok(count) = stream.write(&bytes[*place..]) {
                *place = (*place + count) % bytes.len();
                idle = false;
            }
        }
        if idle {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Whether to flood at all.
fn may_flood() -> bool {
    let may = std::env::var_os("SLOW_TESTS").is_some();
    if !may {
        eprintln!("skipped: set SLOW_TESTS=1 for floods");
    }
    may
}

fn beside(what: &str, server: &Server, streams: Vec<Stream>, bytes: Vec<u8>) {
    let (_room, mut ana, mut bob) = server.room_of_two();
    let calm = round_trips(&mut ana, &mut bob);
    let over = Arc::new(AtomicBool::new(false));
    let flooding = thread::spawn({
        let over = over.clone();
        move || flood(streams, &bytes, &over)
    });
    thread::sleep(Duration::from_millis(200));
    let flooded = round_trips(&mut ana, &mut bob);
    over.store(true, Relaxed);
    flooding.join().unwrap();
    let at = |all: &[Duration], hundredths: usize| all[all.len() * hundredths / 100];
    println!(
        "{what:40} p50 {:?} -> {:?}, p99 {:?} -> {:?}",
        at(&calm, 50),
        at(&flooded, 50),
        at(&calm, 99),
        at(&flooded, 99),
    );
}

/// Members of one room, each with a session of its own.
fn crowd(server: &Server, count: usize) -> Vec<Stream> {
    let owner = server.session("owner");
    let room = server.room(&owner);
    let enter = |n: usize| server.socket(&room, &server.session(&format!("Flood {n}")));
    (0..count).map(|n| enter(n).into_stream()).collect()
}

#[test]
fn who_types_without_end_slows_nobody() {
    if !may_flood() {
        return;
    }
    let server = Server::start(&["--message-rate", "0"]);
    let streams = crowd(&server, FLOODERS);
    beside("typing", &server, streams, typing().repeat(1000));
}

#[test]
fn who_is_refused_without_end_slows_nobody() {
    if !may_flood() {
        return;
    }
    let server = Server::start(&["--message-rate", "0"]);
    let streams = crowd(&server, FLOODERS);
    beside("events that are none", &server, streams, crate::client::text("{}").repeat(1000));
}

#[test]
fn who_says_something_without_end_slows_nobody() {
    if !may_flood() {
        return;
    }
    let server = Server::start(&["--message-rate", "0"]);
    let streams = crowd(&server, FLOODERS);
    beside("chats in a room of 64", &server, streams, chat("hello").repeat(1000));
}

#[test]
fn who_lists_without_end_slows_nobody() {
    if !may_flood() {
        return;
    }
    let server = Server::start(&["--message-rate", "0"]);
    let owner = server.session("owner");
    (0..200).for_each(|_| _ = server.room(&owner));
    let streams = (0..FLOODERS).map(|_| server.http().into_stream()).collect();
    let ask = b"GET /rooms/all?detail=true HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    beside("listings", &server, streams, ask);
}

#[test]
fn one_room_of_five_hundred_slows_no_other() {
    if !may_flood() {
        return;
    }
    let server = Server::start(&["--message-rate", "0"]);
    let streams = crowd(&server, 500);
    beside("chats in a room of 500", &server, streams, chat(&"x".repeat(100)).repeat(100));
}
