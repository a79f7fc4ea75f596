//! Messages that are begun and not finished: their deadline, and the memory that they take.

use std::time::{Duration, Instant};

use crate::client::{CONTINUATION, FIN, PING, TEXT, Ws, chat, frame};
use crate::server::{DEADLINE, Server};

/// Pings that fall due only after the test.
const SILENT: [&str; 4] = ["--ping-interval", "1h", "--leave-grace", "1h"];

// contract §6.16 §7.16 §12.12
#[test]
fn a_message_that_is_not_whole_in_time_is_1008() {
    let server = Server::start(&[&SILENT[..], &["--body-timeout", "100ms"]].concat());
    let whole = chat("never whole");
    let begun = [
        whole[..1].to_vec(),
        whole[..20].to_vec(),
        frame(TEXT, "{"),
        [frame(TEXT, "{"), frame(FIN | PING, "")].concat(),
        frame(FIN | PING, "half")[..7].to_vec(),
    ];
    for bytes in begun {
        let (_, mut ana, mut bob) = server.room_of_two();
        let start = Instant::now();
        ana.send(bytes);
        ana.expect_close(1008, "message timeout");
        assert!(start.elapsed() >= Duration::from_millis(100), "closed too early");
        bob.expect_left("ana");
        bob.chat("whole");
        bob.expect_chat("bob", "whole");
    }
}

// contract §6.16
#[test]
fn bytes_that_trickle_in_do_not_extend_the_deadline() {
    let server = Server::start(&[&SILENT[..], &["--body-timeout", "500ms"]].concat());
    let text = chat(&"x".repeat(4000));
    let fragments = [frame(TEXT, "{"), frame(CONTINUATION, " ").repeat(4000)].concat();
    for bytes in [&text, &fragments] {
        let (_, mut ana, _bob) = server.room_of_two();
        let start = Instant::now();
        let mut bytes = bytes.iter();
        while !is_readable(&mut ana) {
            ana.send([*bytes.next().expect("closed before the last byte")]);
            assert!(start.elapsed() < DEADLINE, "not closed");
        }
        assert!(start.elapsed() >= Duration::from_millis(500), "closed too early");
        ana.expect_close(1008, "message timeout");
    }
}

/// Waits for input for a while that is short compared with the deadline.
fn is_readable(ws: &mut Ws) -> bool {
    ws.readable_within(Duration::from_millis(20))
}

/// The sockets of the tests below. Each session may have twenty.
const SOCKETS: usize = 600;

/// Sends `bytes`, all of them unfinished, on each of many sockets, and compares the growth of counted memory with
/// that of resident memory.
#[cfg(target_os = "linux")]
fn grows_as_counted(what: &str, bytes: &[Vec<u8>], payload: usize) {
    use crate::memory::{PATIENT, counted};
    use crate::server::{alone_if_slow, raise_descriptor_limit, wait_until};

    let _alone = alone_if_slow();
    raise_descriptor_limit();
    let server = Server::start_with_metrics(&[&PATIENT[..], &["--max-memory", "1G"]].concat());
    let mut sockets: Vec<Ws> = Vec::new();
    for _ in 0..SOCKETS / 20 {
        let session = server.session("ana");
        let room = server.room(&session);
        sockets.extend((0..20).map(|_| server.socket(&room, &session)));
    }
    server.wait_until_idle();
    let (counted_before, before) = (counted(&server), server.resident_kib() * 1024);
    for bytes in bytes {
        for ws in &mut sockets {
            ws.send(bytes);
        }
    }
    let arrived = (SOCKETS * payload) as u64;
    wait_until("all input is read", || counted(&server) >= counted_before + arrived);
    server.wait_until_idle();
    let counted = counted(&server) - counted_before;
    let resident = server.resident_kib() * 1024 - before;
    println!("{what:40} arrived {arrived}, counted {counted}, resident {resident}");
    assert!(counted <= arrived * 5 / 4, "{what}: {counted} counted, {arrived} arrived");
    let difference = resident.abs_diff(counted);
    assert!(difference <= counted / 10, "{what}: {resident} resident, {counted} counted");
}

/// Regression: tungstenite had 30.8 MB in buffers of its own, while 20.3 MB were counted.
#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_many_small_fragments_is_counted() {
    let mut fragments = vec![frame(TEXT, [b'x'; 1000])];
    fragments.resize(34, frame(CONTINUATION, [b'x'; 1000]));
    grows_as_counted("34 fragments of 1,000 bytes", &fragments, 34_000);
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_one_large_frame_is_counted() {
    let whole = frame(FIN | TEXT, [b'x'; 65_536]);
    let pieces: Vec<_> = whole[..59_000].chunks(4000).map(<[u8]>::to_vec).collect();
    grows_as_counted("59,000 bytes of one frame", &pieces, 59_000);
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_a_frame_within_a_fragmented_message_is_counted() {
    let mut pieces = vec![frame(TEXT, [b'x'; 1000])];
    pieces.resize(20, frame(CONTINUATION, [b'x'; 1000]));
    pieces.push(frame(CONTINUATION, [b'x'; 40_000])[..30_000].to_vec());
    grows_as_counted("20 fragments and a part of one", &pieces, 50_000);
}
