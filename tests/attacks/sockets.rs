//! Attacks by those who have a socket.

use std::io::Read;
use std::thread;
use std::time::Duration;

use crate::client::{
    CLOSE, CONTINUATION, FIN, Http, PING, Stream, TEXT, Ws, chat, frame, frame_header, text,
};
use crate::http::nasty_documents;
use crate::strangers::{address, enter};
use crate::trial::{Attack, connections, scale, under_attack};

/// Sends the same bytes for as long as the attack goes on, on some sockets at once, taking what is answered.
fn flood(attack: &Attack, bytes: &[u8]) {
    let sockets = attack.sockets(4);
    thread::scope(|scope| {
        for ws in sockets {
            scope.spawn(|| flood_one(attack, ws, bytes));
        }
    });
}

fn flood_one(attack: &Attack, ws: Ws, bytes: &[u8]) {
    let Stream::Tcp(mut writer) = ws.into_stream() else { panic!("only TCP here") };
    let mut reader = writer.try_clone().expect("another handle");
    let drain = thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        while reader.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    while attack.goes_on() && std::io::Write::write_all(&mut writer, bytes).is_ok() {}
    let _ = writer.shutdown(std::net::Shutdown::Both);
    drain.join().expect("it reads to the end");
}

#[test]
fn ping_floods() {
    under_attack("ping floods", &[], |attack| {
        flood(attack, &frame(FIN | PING, [b'x'; 125]).repeat(100));
    });
}

#[test]
fn one_byte_frames() {
    under_attack("one-byte frames", &[], |attack| flood(attack, &text("x").repeat(500)));
}

/// What is refused costs the refused least of all.
#[test]
fn chat_floods() {
    under_attack("chat floods", &[], |attack| flood(attack, &chat("buy!").repeat(100)));
}

/// A message in fragments of nothing never grows too long, and never ends.
#[test]
fn fragments_without_end() {
    under_attack("fragments without end", &[], |attack| {
        let mut first = attack.sockets(1).remove(0);
        first.send(frame(TEXT, "{"));
        flood_one(attack, first, &frame(CONTINUATION, "").repeat(500));
        let mut all = attack.sockets(scale(500, 10));
        for ws in &mut all {
            ws.send(frame(TEXT, "{"));
            ws.send(frame(CONTINUATION, " ").repeat(scale(2000, 100)));
        }
        attack.while_they_chat(scale(100, 2));
        // One that does grow too long.
        let mut last = attack.sockets(1).remove(0);
        last.send(frame(TEXT, [b' '; 60_000]));
        let _ = last.try_send(frame(CONTINUATION, [b' '; 6000]));
        assert_eq!(last.until_end().map(|(code, _)| code), Some(1009));
    });
}

/// Frames of 64 KiB that are announced and hardly come, and longer ones that are refused on the header.
#[test]
fn declared_frames() {
    under_attack("declared frames, unsent", &[], |attack| {
        for length in [65_537, 1 << 20, 1 << 32, u64::MAX >> 1] {
            for mut ws in attack.sockets(scale(100, 5)) {
                // The header ends with the mask; nothing follows.
                ws.send([&frame_header(FIN | TEXT, length)[..], &[0; 4]].concat());
                let told = ws.until_end().map(|(code, _)| code);
                assert_eq!(told, Some(1009), "{length}");
            }
        }
        let mut all = attack.sockets(connections(scale(2000, 40)));
        for ws in &mut all {
            let _ = ws.try_send([&frame_header(FIN | TEXT, 65_536)[..], &[0; 20]].concat());
        }
        attack.while_they_chat(scale(120, 2));
    });
}

#[test]
fn nasty_events() {
    under_attack("deep and huge events", &[], |attack| {
        let mut ws = attack.sockets(1).remove(0);
        ws.event();
        let documents = nasty_documents();
        for _ in 0..scale(50, 2) {
            for (document, is_json) in &documents {
                ws.text(document);
                ws.expect_refused(if *is_json { "bad_type" } else { "bad_json" });
            }
        }
    });
}

/// A thousand people come to the members' own rooms, and go again in every way there is.
#[test]
fn a_thousand_come_and_go() {
    under_attack("a thousand come and go", &[], |attack| {
        let wave = 25;
        for first in (0..scale(1000, 50)).step_by(wave) {
            let came = (first..first + wave).map(|number| {
                let room = &attack.crowd.ids[number % attack.crowd.ids.len()];
                attack.socket(room, &attack.session(number), number)
            });
            for (number, mut ws) in came.collect::<Vec<_>>().into_iter().enumerate() {
                match number % 3 {
                    0 => ws.reset(),
                    1 => ws.send(frame(FIN | CLOSE, "")),
                    _ => {}
                }
            }
        }
    });
}

/// Readers who never read, in the members' own rooms, while others there say as much as they may.
#[test]
fn slow_readers() {
    under_attack("slow readers", &["--outbox", "64K"], |attack| {
        let narrow = |number: usize| {
            let session = attack.session(number);
            let room = &attack.crowd.ids[number % attack.crowd.ids.len()];
            let stream = Stream::connect_narrow(attack.server.address());
            let http = Http::over(stream, attack.server.address());
            http.upgrade(&enter(room, &session, &address(number)))
        };
        let slow: Vec<Ws> = (0..scale(100, 10)).map(narrow).collect();
        let speakers = [attack.session(1000), attack.session(1001)];
        let enter = |(room, session): (&String, &String)| attack.socket(room, session, 1000);
        let mut loud: Vec<Ws> = attack.crowd.ids.iter().zip(&speakers).map(enter).collect();
        let long = chat(&"\u{1f642}".repeat(4000));
        attack.until("all readers were too slow", |attack| {
            for ws in &mut loud {
                ws.send(&long);
                // They hear each other and the members.
                ws.stream().set_read_timeout(Duration::from_secs(10));
                while ws.event()["message"].as_str().is_none_or(|text| text.len() < 16_000) {}
            }
            attack.grown("chat_too_slow_total") == slow.len() as u64
        });
        // All at once: the kernel that has met a full window looks again ever more seldom, as long
        // after the last time as it has waited already.
        thread::scope(|scope| {
            for mut ws in slow {
                scope.spawn(move || {
                    ws.stream().set_read_timeout(Duration::from_secs(60));
                    assert_eq!(ws.until_end(), Some((1013, "too slow".to_owned())));
                });
            }
        });
    });
}
