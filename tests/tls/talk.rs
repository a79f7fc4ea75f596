//! REST and sockets over TLS, beside those without, and a lot of them.

use std::thread;

use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::client::{Http, Stream, get, post, upgrade};
use crate::peer::{World, believer};

#[test]
fn rest_and_sockets_go_over_tls_beside_those_that_do_not() {
    let world = World::start(&[]);
    let session = world.ask(post("/sessions").json(&json!({"username": "ana"}))).expect(201);
    let session = session.json()["session_id"].as_str().expect("an id").to_owned();
    let room = world.ask(post("/rooms").session(&session)).expect(201);
    let room = room.json()["room_id"].as_str().expect("an id").to_owned();
    let mut ana = world.http().upgrade(&upgrade(&format!("/ws/{room}?session_id={session}")));
    ana.expect_join("ana");
    let mut bob = world.server.enter(&room, "bob");
    ana.expect_join("bob");
    let mut eve = world.enter(&room, "eve");
    ana.expect_join("eve");
    bob.expect_join("eve");
    for (from, message) in [(0, "in secret"), (1, "in the open"), (2, "🦀")] {
        let mut three = [(&mut ana, "ana"), (&mut bob, "bob"), (&mut eve, "eve")];
        let name = three[from].1;
        three[from].0.chat(message);
        for (socket, _) in &mut three {
            socket.expect_chat(name, message);
        }
    }
    ana.close();
    bob.expect_left("ana");
    eve.expect_left("ana");
}

#[test]
fn a_connection_is_kept_alive_and_takes_a_pipeline() {
    let world = World::start(&[]);
    let mut http = world.http();
    for _ in 0..3 {
        http.ask(&get("/ping")).expect(200);
    }
    let answers = http.pipeline(&vec![get("/docs.js"); 40]);
    assert_eq!(answers.len(), 40);
    assert!(answers.iter().all(|answer| *answer.body == *answers[0].body && answer.status == 200));
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let world = World::start(&[]);
    for version in [&TLS12, &TLS13] {
        let config = believer(&world.authority, &[version], &[b"http/1.1"]);
        world.over(world.peer(&config)).ask(&get("/ping")).expect(200);
    }
}

/// Everybody talks and listens at once, in messages longer than a read, a turn and a record are.
#[test]
fn a_flood_in_both_directions_arrives_whole_and_in_order() {
    const COUNT: usize = 400;
    let world = World::start(&["--message-rate", "0", "--outbox", "64M", "--max-memory", "1G"]);
    let session = world.server.session("owner");
    let room = world.server.room(&session);
    let names = ["ana", "bob", "eve"];
    let mut sockets: Vec<_> = names.iter().map(|name| world.enter(&room, name)).collect();
    let (first, rest) = sockets.split_at_mut(1);
    first[0].expect_join("bob");
    first[0].expect_join("eve");
    rest[0].expect_join("eve");
    let text = |number: usize| format!("{number}:{}", "x".repeat(1 + number * 97 % 3900));
    let threads: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| {
            thread::spawn(move || {
                let mut heard = [0; 3];
                let mut hear = |socket: &mut crate::client::Ws| {
                    let event = socket.event();
                    let from = names.iter().position(|name| event["user"] == *name);
                    let from = from.expect("one of us");
                    assert_eq!(event["message"], text(heard[from]), "from {}", names[from]);
                    heard[from] += 1;
                };
                for number in 0..COUNT {
                    socket.chat(&text(number));
                    hear(&mut socket); // One for three: two thirds pile up.
                }
                for _ in COUNT..3 * COUNT {
                    hear(&mut socket);
                }
                socket.expect_nothing();
                socket
            })
        })
        .collect();
    let _sockets: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
}

/// What the kernel does not take at once waits, encrypted, for the writable edge; so does what rustls holds when
/// nothing is queued any more.
#[test]
fn who_reads_late_misses_nothing() {
    let world = World::start(&["--message-rate", "0", "--outbox", "64M"]);
    let session = world.server.session("owner");
    let room = world.server.room(&session);
    let narrow = Stream::connect_narrow(world.address());
    let Stream::Tcp(narrow) = narrow else { panic!("TCP") };
    let peer = rustls::StreamOwned::new(crate::peer::session(&world.believer), narrow);
    let session = world.server.session("late");
    let request = upgrade(&format!("/ws/{room}?session_id={session}"));
    let mut late = world.over(peer).upgrade(&request);
    late.expect_join("late");
    let mut ana = world.server.enter(&room, "ana");
    let text = |number: usize| format!("{number}:{}", "y".repeat(3900));
    for number in 0..300 {
        ana.chat(&text(number));
        ana.expect_chat("ana", &text(number));
    }
    late.expect_join("ana");
    for number in 0..300 {
        late.expect_chat("ana", &text(number));
    }
    late.expect_nothing();
}

#[test]
fn what_tls_takes_is_on_the_ledger() {
    let world = World::start(&["--metrics-listen", "tls:127.0.0.1:0"]);
    let metrics = &world.server.addresses[2];
    let counted = |http: &mut Http| {
        let text = http.ask(&get("/metrics")).text();
        let line = text.lines().find(|line| {
            line.contains(r#"chat_memory_account_bytes{"#) && line.contains(r#""connections""#)
        });
        let line = line.unwrap_or_else(|| panic!("{text}"));
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")
    };
    let peer = rustls::StreamOwned::new(
        crate::peer::session(&world.believer),
        match Stream::connect(metrics) {
            Stream::Tcp(stream) => stream,
            _ => panic!("TCP"),
        },
    );
    let mut asker = world.over(peer);
    let before = counted(&mut asker);
    let idle: Vec<_> = (0..10)
        .map(|_| {
            let mut http = world.http();
            http.ask(&get("/ping"));
            http
        })
        .collect();
    let each = (counted(&mut asker) - before) / idle.len() as f64;
    assert!((5_000.0..20_000.0).contains(&each), "{each} bytes");
}
