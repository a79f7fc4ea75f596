//! What the owner of a room can make the server do: change the room, remove and ban, delete messages. And rooms whose
//! members read by event streams or write envelopes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Events, Http, Request, Ws, chat_with, delete, get, patch, post, upgrade};
use crate::large_rooms::{AT_ONCE, in_a_large_room, send_at_once};
use crate::proxied::{address, ask_all, from, open_session};
use crate::trial::{Attack, connections, scale, under_attack};

/// Flags for commands that count against the rate of messages.
const WITHOUT_RATE: &[&str] = &["--message-rate", "0"];

/// The bans that a room keeps.
const BANS_MAX: usize = 256;

fn change(room: &str, owner: &str, changes: &Value) -> Request {
    from(patch(&format!("/rooms/{room}")).session(owner).json(changes), &address(0))
}

/// The answer of the owner's request about a room.
fn shown(attack: &Attack, room: &str, owner: &str, what: &str) -> Value {
    let request = get(&format!("/rooms/{room}/{what}")).session(owner);
    attack.server.ask(from(request, &address(0))).expect(200).json()
}

/// The ids of the chats that `count` posts of `session` have made.
fn post_chats(attack: &Attack, room: &str, session: &str, count: usize) -> Vec<String> {
    let say = |number: usize| {
        let post = post(&format!("/rooms/{room}/messages")).session(session);
        from(post.json(&json!({"message": format!("chat {number}")})), &address(0))
    };
    let posts: Vec<Request> = (0..count).map(say).collect();
    let answers = ask_all(attack.server, &posts).into_iter();
    answers.map(|answer| answer.expect(201).string("id")).collect()
}

#[test]
fn an_owner_that_locks_and_unlocks_in_a_loop_disturbs_no_member() {
    under_attack("locked and unlocked in a loop", &[], |attack| {
        let owner = attack.session(0);
        let room = attack.room(&owner);
        let mut member = attack.socket(&room, &owner, 0);
        member.expect_join("attacker 0");
        let changes = [true, false].map(|locked| change(&room, &owner, &json!({"locked": locked})));
        let changes: Vec<Request> = changes.iter().cycle().take(50).cloned().collect();
        let (mut changed, mut refused) = (0, 0);
        while refused == 0 || attack.goes_on() {
            for answer in attack.server.http().pipeline(&changes) {
                match answer.status {
                    200 => changed += 1,
                    _ => {
                        answer.refused(429, "rate_limited");
                        refused += 1;
                    }
                }
            }
            while member.readable_within(Duration::from_millis(1)) {
                member.expect_change();
            }
        }
        // The burst of the rate, at least.
        assert!(changed >= 200, "{changed} changes");
    });
}

#[test]
fn changes_of_a_room_of_thousands_reach_all_of_them_and_disturb_no_member() {
    in_a_large_room("large room: 200 changes at once", &[], |attack, room| {
        room.readers.while_reading(false, || {
            let change =
                |number: usize| change(&room.id, &room.owner, &json!({"slow_mode": 1 + number}));
            let requests: Vec<Request> = (0..AT_ONCE).map(change).collect();
            for http in &mut send_at_once(attack, &requests) {
                http.answer().expect(200);
            }
            let last = shown(attack, &room.id, &room.owner, "");
            while room.watcher.event()["room"]["slow_mode"] != last["slow_mode"] {}
        });
    });
}

#[test]
fn ten_thousand_bans_leave_the_newest_and_disturb_no_member() {
    under_attack("10,000 bans", WITHOUT_RATE, |attack| {
        let owner = attack.session(0);
        let room = attack.room(&owner);
        let mut member = attack.socket(&room, &owner, 0);
        member.expect_join("attacker 0");
        let mut banned: Vec<Value> = Vec::new();
        let count = scale(10_000, 300);
        for first in (0..count).step_by(50) {
            let numbers = first..first + 50;
            let open = |number| open_session(&format!("guest {number}"), &address(number));
            let opened = ask_all(attack.server, &numbers.clone().map(open).collect::<Vec<_>>());
            let guests: Vec<String> =
                opened.into_iter().map(|answer| answer.expect(201).string("session_id")).collect();
            let join = |(number, guest): (usize, &String)| {
                from(post(&format!("/rooms/{room}/join")).session(guest), &address(number))
            };
            let joins: Vec<Request> = numbers.zip(&guests).map(join).collect();
            let joined = ask_all(attack.server, &joins).into_iter();
            let ids = joined.map(|answer| answer.expect(200).string("user_id"));
            let ids: Vec<String> = ids.collect();
            let ban = |id: &String| {
                let target = format!("/rooms/{room}/users/{id}?ban=3600&address=true");
                from(delete(&target).session(&owner), &address(0))
            };
            let bans: Vec<Request> = ids.iter().map(ban).collect();
            for answer in ask_all(attack.server, &bans) {
                answer.expect(200);
            }
            banned.extend(ids.into_iter().map(Value::from));
            let end = |guest: &String| delete("/sessions/me").session(guest);
            let ends: Vec<Request> = guests.iter().map(end).collect();
            for answer in ask_all(attack.server, &ends) {
                answer.expect(200);
            }
        }
        let bans = shown(attack, &room, &owner, "bans");
        let kept = bans["bans"].as_array().expect("a list").iter().map(|ban| &ban["user_id"]);
        assert!(kept.eq(&banned[count - BANS_MAX..]), "the newest bans are kept, in order");
    });
}

#[test]
fn removals_from_a_room_of_thousands_are_told_to_all_and_disturb_no_member() {
    in_a_large_room("large room: 50 removed at once", WITHOUT_RATE, |attack, room| {
        room.readers.while_reading(false, || {
            let users = shown(attack, &room.id, &room.owner, "users");
            let ids = users["users"].as_array().expect("a list")[1..].iter();
            let ids: Vec<&str> = ids.map(|user| user["user_id"].as_str().expect("an id")).collect();
            let ids = &ids[..ids.len().min(50)];
            let remove = |id: &&str| {
                let target = format!("/rooms/{}/users/{id}", room.id);
                from(delete(&target).session(&room.owner), &address(0))
            };
            let requests: Vec<Request> = ids.iter().map(remove).collect();
            for http in &mut send_at_once(attack, &requests) {
                http.answer().expect(200);
            }
            let mut left = 0;
            while left < ids.len() {
                let event = room.watcher.event();
                if event["type"] == "user_left" {
                    assert_eq!(event["removed"], true);
                    left += 1;
                }
            }
        });
    });
}

/// Each reader gets each chat once, with its text or deleted, and the deletions of those that it got with their text.
#[test]
fn deleting_every_message_while_readers_catch_up_loses_nothing_and_disturbs_no_member() {
    under_attack("deleted while 500 catch up", WITHOUT_RATE, |attack| {
        let (owner, count) = (attack.session(0), scale(450, 90));
        let room = attack.room(&owner);
        let chats = post_chats(attack, &room, &owner, count);
        let sessions: Vec<String> =
            (1..=scale(25, 2)).map(|number| attack.session(number)).collect();
        let mut readers: Vec<Ws> = Vec::new();
        for (number, session) in sessions.iter().enumerate() {
            for _ in 0..20 {
                let target = format!("/ws/{room}?history=1000&session_id={session}");
                let request = from(upgrade(&target), &address(1 + number));
                readers.push(attack.server.upgrade(request));
            }
        }
        let wipe = |id: &String| {
            let target = format!("/rooms/{room}/messages/{id}");
            from(delete(&target).session(&owner), &address(0))
        };
        let deletions: Vec<Request> = chats.iter().map(wipe).collect();
        for answer in ask_all(attack.server, &deletions) {
            answer.expect(200);
        }
        for reader in &mut readers {
            let history = reader.history();
            let deleted = |message: &&Value| message["deleted"] == true;
            let said = history.messages.iter().filter(|message| message["type"] == "chat");
            assert!(said.clone().map(|chat| &chat["id"]).eq(&chats), "each chat once");
            assert!(said.clone().filter(deleted).all(|chat| chat["message"] == ""));
            let told = |message: &Value| message["type"] == "message_deleted";
            let mut targets: Vec<Value> =
                history.messages.iter().filter(|one| told(one)).cloned().collect();
            while targets.last().is_none_or(|last| last["target"] != chats[count - 1].as_str()) {
                targets.extend(Some(reader.event()).filter(told));
            }
            assert!(targets.iter().map(|one| &one["target"]).eq(&chats), "each deletion once");
        }
        let kept = shown(attack, &room, &owner, "messages?limit=1000");
        let kept = kept["messages"].as_array().expect("a list").iter();
        let kept = kept.filter(|message| message["type"] == "chat");
        assert!(kept.clone().all(|chat| chat["message"] == "" && chat["deleted"] == true));
    });
}

#[test]
fn deletions_in_a_room_of_thousands_reach_all_of_them_and_disturb_no_member() {
    in_a_large_room("large room: 200 deleted at once", WITHOUT_RATE, |attack, room| {
        room.readers.while_reading(false, || {
            let chats = post_chats(attack, &room.id, &room.owner, AT_ONCE);
            let wipe = |id: &String| {
                let target = format!("/rooms/{}/messages/{id}", room.id);
                from(delete(&target).session(&room.owner), &address(0))
            };
            let requests: Vec<Request> = chats.iter().map(wipe).collect();
            for http in &mut send_at_once(attack, &requests) {
                http.answer().expect(200);
            }
            let mut told = 0;
            while told < chats.len() {
                told += usize::from(room.watcher.event()["type"] == "message_deleted");
            }
        });
    });
}

#[test]
fn announcements_to_thousands_reach_them_in_order_and_disturb_no_member() {
    /// As many as may be on their way. One more would be refused while the first has not arrived.
    const AT_ONCE_MAX: usize = 16;
    let flags = ["--admin-listen", "127.0.0.1:0"];
    in_a_large_room("large room: 16 announcements", &flags, |attack, room| {
        room.readers.while_reading(false, || {
            let announce = |number: usize| {
                let body = json!({"message": format!("announcement {number}")}).to_string();
                let request = post("/announcements").field("Content-Type", "application/json");
                let mut operator = Http::connect(&attack.server.addresses[2]);
                operator.ask(&request.body(body)).expect(200);
            };
            (0..AT_ONCE_MAX).for_each(announce);
            for number in 0..AT_ONCE_MAX {
                let mut event = room.watcher.event();
                while event["type"] != "announcement" {
                    event = room.watcher.event();
                }
                assert_eq!(event["message"], format!("announcement {number}"));
            }
        });
    });
}

/// Their outboxes fill, and each is closed as a slow reader.
#[test]
fn thousands_of_event_streams_that_are_never_read_disturb_no_member() {
    under_attack("2,000 unread event streams", WITHOUT_RATE, |attack| {
        let owner = attack.session(0);
        let room = attack.room(&owner);
        let count = connections(scale(2000, 60));
        let mut streams: Vec<Events> = Vec::new();
        for number in 1..=count.div_ceil(20) {
            let session = attack.session(number);
            for accept in ["text/event-stream", "application/x-ndjson"].repeat(10) {
                let request = get(&format!("/rooms/{room}/events")).session(&session);
                let mut http = attack.server.http_narrow();
                http.send_request(&from(request.field("Accept", accept), &address(number)));
                streams.push(Events::begin(http));
            }
        }
        let say = post(&format!("/rooms/{room}/messages")).session(&owner);
        let say = from(say.json(&json!({"message": "x".repeat(4000)})), &address(0));
        let posts = vec![say; 20];
        attack.until("all streams are closed", |attack| {
            for answer in ask_all(attack.server, &posts) {
                answer.expect(201);
            }
            shown(attack, &room, &owner, "users")["users"] == json!([])
        });
        drop(streams);
    });
}

/// The longest envelope, as often as the rate allows, and as often as it does not.
#[test]
fn the_longest_envelopes_at_full_rate_disturb_no_member() {
    under_attack("the longest envelopes", &[], |attack| {
        let envelope = longest_envelope();
        let mut sockets: Vec<Ws> = Vec::new();
        for number in 0..scale(20, 2) {
            let session = attack.session(number);
            let request = from(post("/rooms").session(&session), &address(number));
            let made = attack.server.ask(request.json(&json!({"encrypted": true}))).expect(201);
            let room = made.string("room_id");
            attack.remember_room(&room, &session);
            sockets.push(attack.socket(&room, &session, number));
        }
        let mut nonce = 0;
        let (mut echoed, mut refused) = (0, 0);
        while attack.goes_on() || refused == 0 {
            for ws in &mut sockets {
                nonce += 1;
                ws.send(chat_with(&nonce.to_string(), &envelope));
                loop {
                    let event = ws.event();
                    match event["type"].as_str() {
                        Some("chat") => echoed += 1,
                        Some("refused") => {
                            assert_eq!(event["code"], "rate_limited");
                            refused += 1;
                        }
                        _ => continue, // Its own join.
                    }
                    break;
                }
            }
        }
        assert!(echoed >= 200, "the burst of the rate, at least: {echoed}");
    });
}

/// An envelope of the largest size: 22,000 characters hold `e1.` and 16,497 bytes, of which 28 are no ciphertext and
/// the rest counts in whole blocks of 64.
fn longest_envelope() -> String {
    let bytes: usize = 28 + (16_497 - 28) / 64 * 64;
    let padding_bits_zero = "A".repeat((bytes * 8).div_ceil(6));
    format!("e1.{padding_bits_zero}")
}
