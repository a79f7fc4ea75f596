//! Attacks over WebSockets.

use std::io::Read;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::client::{
    CLOSE, CONTINUATION, FIN, PING, Stream, TEXT, Ws, chat, frame, frame_header, post, text,
};
use crate::http::hostile_documents;
use crate::proxied::{address, ask_all, enter, from};
use crate::trial::{Attack, connections, scale, under_attack};

/// Sends the same bytes on four sockets at once for as long as the attack lasts, and discards what comes back.
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
fn ping_floods_disturb_no_member() {
    under_attack("ping floods", &[], |attack| {
        flood(attack, &frame(FIN | PING, [b'x'; 125]).repeat(100));
    });
}

#[test]
fn one_byte_frames_disturb_no_member() {
    under_attack("one-byte frames", &[], |attack| flood(attack, &text("x").repeat(500)));
}

/// Nearly all chats are over the rate. A refusal costs the attacker less than the server.
#[test]
fn chat_floods_disturb_no_member() {
    under_attack("chat floods", &[], |attack| flood(attack, &chat("buy!").repeat(100)));
}

/// A message of empty fragments never exceeds the limit on its length and never ends.
#[test]
fn endless_fragments_disturb_no_member() {
    under_attack("fragments without end", &[], |attack| {
        let mut first = attack.sockets(1).remove(0);
        first.send(frame(TEXT, "{"));
        flood_one(attack, first, &frame(CONTINUATION, "").repeat(500));
        let mut all = attack.sockets(scale(500, 10));
        for ws in &mut all {
            ws.send(frame(TEXT, "{"));
            ws.send(frame(CONTINUATION, " ").repeat(scale(2000, 100)));
        }
        attack.while_members_chat(scale(100, 2));
        // A message that exceeds the limit.
        let mut last = attack.sockets(1).remove(0);
        last.send(frame(TEXT, [b' '; 60_000]));
        let _ = last.try_send(frame(CONTINUATION, [b' '; 6000]));
        assert_eq!(last.until_end().map(|(code, _)| code), Some(1009));
    });
}

/// Headers that declare 64 KiB, of which twenty bytes come; and headers that declare more and are refused.
#[test]
fn declared_frames_take_no_memory_and_disturb_no_member() {
    under_attack("declared frames, unsent", &[], |attack| {
        for length in [65_537, 1 << 20, 1 << 32, u64::MAX >> 1] {
            for mut ws in attack.sockets(scale(100, 5)) {
                // The header ends with the mask; nothing follows.
                ws.send([&frame_header(FIN | TEXT, length)[..], &[0; 4]].concat());
                let code = ws.until_end().map(|(code, _)| code);
                assert_eq!(code, Some(1009), "{length}");
            }
        }
        let mut all = attack.sockets(connections(scale(2000, 40)));
        for ws in &mut all {
            let _ = ws.try_send([&frame_header(FIN | TEXT, 65_536)[..], &[0; 20]].concat());
        }
        attack.while_members_chat(scale(120, 2));
    });
}

#[test]
fn deep_and_huge_events_disturb_no_member() {
    under_attack("deep and huge events", &[], |attack| {
        let mut ws = attack.sockets(1).remove(0);
        ws.event();
        let documents = hostile_documents();
        for _ in 0..scale(50, 2) {
            for (document, is_json) in &documents {
                ws.text(document);
                ws.expect_refused(if *is_json { "bad_type" } else { "bad_json" });
            }
        }
    });
}

/// The users enter the members' rooms and leave in three ways.
#[test]
fn a_thousand_users_that_come_and_go_disturb_no_member() {
    under_attack("a thousand come and go", &[], |attack| {
        let wave = 25;
        for first in (0..scale(1000, 50)).step_by(wave) {
            let came = (first..first + wave).map(|number| {
                let room = &attack.bystanders.ids[number % attack.bystanders.ids.len()];
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

/// Sockets in the members' rooms that never read, while others there send as much as they may.
#[test]
fn slow_readers_are_closed_and_disturb_no_member() {
    under_attack("slow readers", &["--outbox", "64K"], |attack| {
        let narrow = |number: usize| {
            let session = attack.session(number);
            let room = &attack.bystanders.ids[number % attack.bystanders.ids.len()];
            attack.server.http_narrow().upgrade(&enter(room, &session, &address(number)))
        };
        let slow: Vec<Ws> = (0..scale(100, 10)).map(narrow).collect();
        let speakers = [attack.session(1000), attack.session(1001)];
        let enter = |(room, session): (&String, &String)| attack.socket(room, session, 1000);
        let mut loud: Vec<Ws> = attack.bystanders.ids.iter().zip(&speakers).map(enter).collect();
        let long = chat(&"\u{1f642}".repeat(4000));
        attack.until("all slow readers are closed", |attack| {
            for ws in &mut loud {
                ws.send(&long);
                // Events of each other and of the members come first.
                ws.stream().set_read_timeout(Duration::from_secs(10));
                while ws.event()["message"].as_str().is_none_or(|text| text.len() < 16_000) {}
            }
            attack.grown("chat_too_slow_total") == slow.len() as u64
        });
        // In parallel, since each may take long: the server's kernel probes a full receive window at intervals that
        // double each time.
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

/// All of them become slow readers in one tick. The part of a frame that each is still sent must not be a copy of the
/// whole batch: two thousand of those were twice the ceiling.
#[test]
fn thousands_of_sockets_that_are_never_read_disturb_no_member() {
    under_attack("2,000 unread sockets", &["--message-rate", "0"], |attack| {
        let owner = attack.session(0);
        let room = attack.room(&owner);
        let mut unread: Vec<Ws> = Vec::new();
        for number in 1..=connections(scale(2000, 400)).div_ceil(20) {
            let session = attack.session(number);
            let request = enter(&room, &session, &address(number));
            unread.extend((0..20).map(|_| attack.server.http_narrow().upgrade(&request)));
        }
        let say = post(&format!("/rooms/{room}/messages")).session(&owner);
        let text = "x".repeat(3500);
        let posts = vec![from(say.json(&json!({"message": text})), &address(0)); 20];
        attack.until("all sockets are closed", |attack| {
            for answer in ask_all(attack.server, &posts) {
                answer.expect(201);
            }
            attack.grown("chat_too_slow_total") == unread.len() as u64
        });
        // There is always memory for the rest of so short a frame, and none for so many whole batches.
        thread::scope(|scope| {
            for mut ws in unread {
                scope.spawn(move || {
                    ws.stream().set_read_timeout(Duration::from_secs(60));
                    assert_eq!(ws.until_end(), Some((1013, "too slow".to_owned())));
                });
            }
        });
    });
}
