//! Resident memory over time: what the kernel says we have stays bounded at the ceiling and beyond it, however long
//! that goes on, and crowds that have gone leave nothing behind that the next does not use again.
#![cfg(target_os = "linux")]

use serde_json::json;

use crate::client::{FIN, Http, PING, Stream, Ws, delete, frame, post, upgrade};
use crate::memory::{
    PATIENT, counted, metric, pipeline, raise_descriptor_limit, rooms, sessions, total_of_none,
    wait_for_total,
};
use crate::server::{Server, wait_until};

fn is_slow() -> bool {
    std::env::var_os("SLOW_TESTS").is_some()
}

/// What a server under siege may have.
struct Siege {
    server: Server,
    /// Its ceiling.
    ceiling: u64,
    /// Ceiling, a quarter of it, and what an empty server has.
    resident_max: u64,
    owner: String,
    rooms: Vec<String>,
    /// One kept alive: near the ceiling nobody new comes in.
    http: Http,
}

/// Rooms of the siege, all of one person who talks.
const ROOMS: usize = 40;

impl Siege {
    fn new(max_memory: &'static str) -> Siege {
        let flags = ["--max-memory", max_memory, "--outbox", "8M", "--linger-timeout", "1m"];
        let server = Server::start_with_metrics(&[&PATIENT[..], &flags].concat());
        let (_room, _ana, bob) = server.room_of_two();
        bob.close();
        let ceiling = metric(&server, "chat_memory_max_bytes");
        let resident_max = ceiling + ceiling / 4 + server.resident_kib() * 1024;
        let owner = server.session("owner");
        let rooms = rooms(&server, &owner, ROOMS);
        let http = server.http();
        Siege { server, ceiling, resident_max, owner, rooms, http }
    }

    /// It never had more, not even for a moment.
    fn check(&self, when: &str) {
        let (now, most) = (self.server.resident_kib(), self.server.resident_kib_max());
        let counted = counted(&self.server);
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        println!(
            "{when:34} counted {:6.2} of {} MiB, resident {:6.2}, at most {:6.2} of {:6.2} MiB",
            mib(counted),
            self.ceiling >> 20,
            mib(now * 1024),
            mib(most * 1024),
            mib(self.resident_max),
        );
        assert!(counted <= self.ceiling, "{when}: {counted} are counted");
        assert!(most * 1024 <= self.resident_max, "{when}: {most} KiB were resident");
    }

    /// Messages of all sizes, so many bytes of them, fifty at a time into one room after the other.
    fn talk(&mut self, bytes: u64) {
        let mut said = 0;
        for turn in 0.. {
            if said >= bytes {
                return;
            }
            let target = format!("/rooms/{}/messages", self.rooms[turn % ROOMS]);
            let texts = (0..50).map(|n| "x".repeat(1 + (turn * 50 + n) * 7919 % 4000));
            let say = |text: String| {
                said += text.len() as u64;
                post(&target).session(&self.owner).json(&json!({"message": text}))
            };
            let posts: Vec<_> = texts.map(say).collect();
            self.http.pipeline(&posts).into_iter().for_each(|answer| _ = answer.expect(201));
        }
    }

    /// One reader in each of some rooms, who reads nothing of what it has the server send.
    fn slow_readers(&mut self, count: usize, pings: usize) -> Vec<Ws> {
        let address = self.server.address();
        let enter = |room: &String| {
            let http = Http::over(Stream::connect_narrow(address), address);
            let mut ws = http.upgrade(&upgrade(&format!("/ws/{room}?session_id={}", self.owner)));
            let _ = ws.try_send(frame(FIN | PING, []).repeat(pings)); // Who is shed meanwhile may be.
            ws
        };
        self.rooms[..count].iter().map(enter).collect()
    }

    /// Sessions, until there may be no more.
    fn crowd(&mut self) -> Vec<String> {
        let open = post("/sessions").json(&json!({"username": "Somebody"}));
        let mut people = Vec::new();
        loop {
            let answers = self.http.pipeline(&vec![open.clone(); 50]);
            // None of them: after the first refusals there may still be histories to forget.
            let is_full = answers.iter().all(|answer| answer.status != 201);
            for answer in answers {
                match answer.status {
                    201 => people.push(answer.json()["session_id"].as_str().unwrap().to_owned()),
                    _ => _ = answer.refused(503, "server_full"),
                }
            }
            if is_full {
                return people;
            }
        }
    }

    /// Large messages to those who don't read, until somebody is closed for it.
    fn overflow(&mut self, readers: usize) {
        let before = metric(&self.server, "chat_shed_total");
        let message = json!({"message": "\u{1F984}".repeat(4000)});
        for turn in 0.. {
            assert!(turn < 20_000, "nobody is shed");
            let target = format!("/rooms/{}/messages", self.rooms[turn % readers]);
            self.http.ask(&post(&target).session(&self.owner).json(&message)).expect(201);
            if turn % 20 == 0 && metric(&self.server, "chat_shed_total") > before {
                return;
            }
        }
    }

    fn disperse(&mut self, people: &[String]) {
        for some in people.chunks(50) {
            let ends: Vec<_> = some.iter().map(|one| delete("/sessions/me").session(one)).collect();
            self.http.pipeline(&ends).into_iter().for_each(|answer| _ = answer.expect(200));
        }
        let open = post("/sessions").json(&json!({"username": "late"}));
        let mut late = None;
        wait_until("there is room again", || {
            late = Some(self.http.ask(&open)).filter(|answer| answer.status == 201);
            late.is_some()
        });
        let late = late.expect("a session").json()["session_id"].as_str().unwrap().to_owned();
        self.http.ask(&delete("/sessions/me").session(&late)).expect(200);
    }
}

/// Everything gives way in its order, and is there again, three times over.
fn besiege(max_memory: &'static str, readers: usize) {
    let mut siege = Siege::new(max_memory);
    let mut forgotten = 0;
    for round in 1..=3 {
        siege.talk(siege.ceiling * 10 / 3);
        let before = std::mem::replace(
            &mut forgotten,
            metric(&siege.server, "chat_messages_forgotten_total"),
        );
        assert!(forgotten > before + 1000);
        siege.check(&format!("{max_memory}, round {round}, forgetting"));
        let slow = siege.slow_readers(readers, 10_000);
        siege.check(&format!("{max_memory}, round {round}, pongs not read"));
        let people = siege.crowd();
        assert!(people.len() > 500, "{} more sessions", people.len());
        siege.check(&format!("{max_memory}, round {round}, nothing new"));
        siege.overflow(readers);
        siege.talk(siege.ceiling / 4);
        siege.check(&format!("{max_memory}, round {round}, readers shed"));
        drop(slow);
        siege.disperse(&people);
        siege.check(&format!("{max_memory}, round {round}, over"));
    }
}

#[test]
fn at_the_ceiling_and_beyond_resident_memory_stays_below_it_and_a_quarter() {
    if is_slow() {
        besiege("16M", 20);
        besiege("32M", 20);
    } else {
        besiege("4M", 3);
    }
}

/// So many sessions, rooms with sockets of a quarter of them, and messages; then all of it goes.
fn wave(server: &Server, count: usize) {
    let people = sessions(server, count);
    let owners = &people[..count.div_ceil(1000)];
    let mut rooms_of = Vec::new();
    for owner in owners {
        rooms_of.push((owner, rooms(server, owner, 100)));
    }
    let all: Vec<_> = rooms_of.iter().flat_map(|(_, rooms)| rooms).collect();
    let enter = |n: usize| server.socket(all[n % all.len()], &people[n]);
    let sockets: Vec<_> = (0..count / 4).map(enter).collect();
    for (owner, rooms) in &rooms_of {
        for room in rooms {
            let target = format!("/rooms/{room}/messages");
            let say = |n: usize| {
                let body =
                    json!({"message": "x".repeat(1 + n * 7919 % 500), "nonce": n.to_string()});
                post(&target).session(owner).json(&body)
            };
            pipeline(server, 50, say).into_iter().for_each(|answer| _ = answer.expect(201));
        }
    }
    sockets.into_iter().for_each(Ws::close);
    for (owner, rooms) in &rooms_of {
        let end = |n: usize| delete(&format!("/rooms/{}", rooms[n])).session(owner);
        pipeline(server, rooms.len(), end).into_iter().for_each(|answer| _ = answer.expect(200));
    }
    let end = |n: usize| delete("/sessions/me").session(&people[n]);
    pipeline(server, count, end).into_iter().for_each(|answer| _ = answer.expect(200));
}

#[test]
fn a_second_and_a_third_crowd_leave_no_more_behind_than_the_first() {
    raise_descriptor_limit();
    let server = Server::start_with_metrics(&[&PATIENT[..], &["--max-memory", "1G"]].concat());
    let (before, mut left) = (total_of_none(&server), Vec::new());
    for _ in 0..3 {
        wave(&server, if is_slow() { 20_000 } else { 400 });
        wait_for_total(&server, before);
        left.push(server.resident_kib());
    }
    println!("resident after each of three crowds: {left:?} KiB");
    let most = left[0] + left[0] / 20;
    assert!(left.iter().all(|kib| *kib <= most), "{left:?}");
}
