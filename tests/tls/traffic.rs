//! REST and WebSockets over TLS: beside plain connections, in large amounts, and with slow readers.

use std::thread;

use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::client::{Http, Stream, get, post, upgrade};
use crate::peer::{TlsServer, client_config};
use crate::server::metric_in;

#[test]
fn tls_and_plain_connections_share_rooms() {
    let tls_server = TlsServer::start(&[]);
    let session = tls_server.ask(post("/sessions").json(&json!({"username": "ana"}))).expect(201);
    let session = session.string("session_id");
    let room = tls_server.ask(post("/rooms").session(&session)).expect(201);
    let room = room.string("room_id");
    let mut ana = tls_server.http().upgrade(&upgrade(&format!("/ws/{room}?session_id={session}")));
    ana.expect_join("ana");
    let mut bob = tls_server.server.enter(&room, "bob");
    ana.expect_join("bob");
    let mut eve = tls_server.enter(&room, "eve");
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
fn a_connection_persists_and_may_be_pipelined() {
    let tls_server = TlsServer::start(&[]);
    let mut http = tls_server.http();
    for _ in 0..3 {
        http.ask(&get("/ping")).expect(200);
    }
    let answers = http.pipeline(&vec![get("/docs.js"); 40]);
    assert_eq!(answers.len(), 40);
    assert!(answers.iter().all(|answer| *answer.body == *answers[0].body && answer.status == 200));
}

#[test]
fn tls_1_2_and_1_3_are_supported() {
    let tls_server = TlsServer::start(&[]);
    for version in [&TLS12, &TLS13] {
        let config = client_config(&tls_server.authority, &[version], &[b"http/1.1"]);
        tls_server.over(tls_server.peer(&config)).ask(&get("/ping")).expect(200);
    }
}

/// All members send and receive at once. Messages are longer than a read, a turn and a TLS record.
#[test]
fn a_flood_in_both_directions_arrives_whole_and_in_order() {
    const COUNT: usize = 400;
    let tls_server =
        TlsServer::start(&["--message-rate", "0", "--outbox", "64M", "--max-memory", "1G"]);
    let session = tls_server.server.session("owner");
    let room = tls_server.server.room(&session);
    let names = ["ana", "bob", "eve"];
    let mut sockets: Vec<_> = names.iter().map(|name| tls_server.enter(&room, name)).collect();
    let (first, rest) = sockets.split_at_mut(1);
    first[0].expect_join("bob");
    first[0].expect_join("eve");
    rest[0].expect_join("eve");
    let text = |number: usize| format!("{number}:{}", "x".repeat(1 + number * 97 % 3900));
    let threads: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| {
            thread::spawn(move || {
                let mut received = [0; 3];
                let mut receive = |socket: &mut crate::client::Ws| {
                    let event = socket.event();
                    let from = names.iter().position(|name| event["user"] == *name);
                    let from = from.expect("a member");
                    assert_eq!(event["message"], text(received[from]), "from {}", names[from]);
                    received[from] += 1;
                };
                for number in 0..COUNT {
                    socket.chat(&text(number));
                    // One of three: the backlog grows.
                    receive(&mut socket);
                }
                for _ in COUNT..3 * COUNT {
                    receive(&mut socket);
                }
                socket.expect_nothing();
                socket
            })
        })
        .collect();
    let _sockets: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
}

/// Encrypted bytes that the kernel does not take at once are kept for the next writable edge, even if the outbox is
/// empty by then.
#[test]
fn a_late_reader_misses_nothing() {
    let tls_server = TlsServer::start(&["--message-rate", "0", "--outbox", "64M"]);
    let session = tls_server.server.session("owner");
    let room = tls_server.server.room(&session);
    let narrow = Stream::connect_narrow(tls_server.address());
    let Stream::Tcp(narrow) = narrow else { panic!("TCP") };
    let peer = rustls::StreamOwned::new(crate::peer::session(&tls_server.client_config), narrow);
    let session = tls_server.server.session("late");
    let request = upgrade(&format!("/ws/{room}?session_id={session}"));
    let mut late = tls_server.over(peer).upgrade(&request);
    late.expect_join("late");
    let mut ana = tls_server.server.enter(&room, "ana");
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
fn memory_for_tls_is_counted() {
    let tls_server = TlsServer::start(&["--metrics-listen", "tls:127.0.0.1:0"]);
    let metrics = &tls_server.server.addresses[2];
    let counted = |http: &mut Http| {
        let text = http.ask(&get("/metrics")).text();
        metric_in(&text, "chat_memory_account_bytes{account=\"connections\"}")
    };
    let peer = rustls::StreamOwned::new(
        crate::peer::session(&tls_server.client_config),
        match Stream::connect(metrics) {
            Stream::Tcp(stream) => stream,
            _ => panic!("TCP"),
        },
    );
    let mut asker = tls_server.over(peer);
    let before = counted(&mut asker);
    let idle: Vec<_> = (0..10)
        .map(|_| {
            let mut http = tls_server.http();
            http.ask(&get("/ping"));
            http
        })
        .collect();
    let each = (counted(&mut asker) - before) / idle.len() as u64;
    assert!((5_000..20_000).contains(&each), "{each} bytes for each connection");
}
