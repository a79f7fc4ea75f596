//! Attacks that open sessions and rooms, and guess passwords, as fast as they can.

use serde_json::json;

use crate::client::{Request, post};
use crate::proxied::{self, address, from, open_session};
use crate::trial::{scale, under_attack, under_attack_with_rates};

/// One address opens as many sessions as its rate allows; many addresses open all that the server allows.
#[test]
fn session_floods_are_refused_and_disturb_no_member() {
    let max = scale(20_000, 600).to_string();
    under_attack_with_rates("session floods", &["--max-sessions", &max], |attack| {
        let first = attack.fresh_address(0);
        let one = vec![open_session("attacker", &first); scale(2000, 200)];
        let answers = proxied::ask_all(attack.server, &one);
        let (opened, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 201);
        // A burst of sixty and two a second, for at most a minute.
        assert!((60..=180).contains(&opened.len()), "{} of {}", opened.len(), one.len());
        opened.iter().for_each(|answer| attack.remember_session(&answer.string("session_id")));
        refused.into_iter().for_each(|answer| _ = answer.refused(429, "rate_limited"));
        let open = |number: usize| open_session("attacker", &attack.fresh_address(1 + number / 50));
        let many: Vec<Request> = (0..scale(22_000, 700)).map(open).collect();
        let mut is_full = false;
        for answer in proxied::ask_all(attack.server, &many) {
            match answer.status {
                201 => attack.remember_session(&answer.string("session_id")),
                _ => {
                    answer.refused(503, "server_full");
                    is_full = true;
                }
            }
        }
        assert!(is_full);
    });
}

#[test]
fn room_floods_are_refused_and_disturb_no_member() {
    let max = scale(20_000, 250).to_string();
    under_attack("room floods", &["--max-rooms", &max], |attack| {
        let open =
            |session: &str, number: usize| from(post("/rooms").session(session), &address(number));
        let (mut is_full, mut tried) = (false, 0);
        for number in 0..scale(500, 6) {
            let session = attack.session(number);
            let all = vec![open(&session, number); 50];
            tried += all.len();
            for answer in proxied::ask_all(attack.server, &all) {
                match answer.status {
                    201 => attack.remember_room(&answer.string("room_id"), &session),
                    _ => {
                        answer.refused(503, "server_full");
                        is_full = true;
                    }
                }
            }
        }
        assert!(is_full, "{tried} rooms, none refused");
    });
}

/// Each address has five guesses, and the room has no limit here. Every guess that is checked costs the server a hash.
#[test]
fn wrong_passwords_are_refused_and_disturb_no_member() {
    under_attack("wrong passwords", &["--guess-rate", "1", "--room-guess-rate", "0"], |attack| {
        let owner = attack.session(0);
        let open = post("/rooms").session(&owner).json(&json!({"password": "sesame"}));
        let room = attack.server.ask(from(open, &address(0))).expect(201).string("room_id");
        attack.remember_room(&room, &owner);
        let guess = |number: usize, count: usize| {
            let join = post(&format!("/rooms/{room}/join")).session(&attack.session(number));
            vec![from(join.json(&json!({"password": "guess"})), &address(number)); count]
        };
        let flood = guess(1, scale(5000, 200));
        for (number, answer) in proxied::ask_all(attack.server, &flood).into_iter().enumerate() {
            match number {
                0..5 => answer.refused(403, "bad_password"),
                _ => answer.refused(429, "rate_limited"),
            };
        }
        // Each further address has guesses of its own.
        for number in 2..scale(256, 20) {
            for answer in proxied::ask_all(attack.server, &guess(number, 5)) {
                answer.refused(403, "bad_password");
            }
        }
    });
}
