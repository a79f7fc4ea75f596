//! Misbehaving peers: they do not disturb members, and nothing of them is left behind.

use serde_json::{Value, json};

use crate::client::{CLOSE, FIN, Http, Stream, TEXT, Ws, chat, delete, frame, get, post, upgrade};
use crate::server::{Server, wait_until};

/// Misbehaves once in every way. Returns the connections that are to stay open.
fn misbehave(server: &Server, room: &str) -> Vec<Stream> {
    let mut open = Vec::new();
    let guest = |name: &str| -> (String, Ws) {
        let session = server.session(name);
        let socket = server.enter_as(room, name, &session);
        (session, socket)
    };
    // Connections that send nothing and stay, end, or are reset.
    open.push(Stream::connect(server.address()));
    drop(Stream::connect(server.address()));
    Stream::connect(server.address()).reset();
    // A reset within the handshake, and right after it.
    let session = server.session("hasty");
    let handshake = upgrade(&format!("/ws/{room}?session_id={session}")).bytes("a");
    for cut in [1, 20, handshake.len() - 2, handshake.len()] {
        let mut http = server.http();
        http.send(&handshake[..cut]);
        http.into_stream().reset();
    }
    // An end of stream within a frame's header, within its payload, and within a message.
    let whole = chat("never finished");
    for cut in [1, 5, whole.len() - 1] {
        let (_, mut socket) = guest(&format!("cut at {cut}"));
        socket.send(&whole[..cut]);
        socket.stream().finish();
    }
    let (_, mut fragment) = guest("fragment");
    fragment.send(frame(TEXT, "the first of two"));
    fragment.stream().finish();
    // A reset within a frame that is sent byte by byte.
    let (_, mut drip) = guest("drip");
    for byte in &whole[..whole.len() - 1] {
        drip.send([*byte]);
    }
    drip.reset();
    // A socket that neither reads nor closes.
    let session = server.session("deaf");
    let mut http = server.http();
    http.send(upgrade(&format!("/ws/{room}?session_id={session}")).bytes("a"));
    open.push(http.into_stream());
    // Unfinished heads and bodies, and responses that are not read.
    let mut http = server.http();
    http.send("GET /health HT");
    open.push(http.into_stream());
    let mut http = server.http();
    http.send("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{");
    http.stream().finish();
    open.push(http.into_stream());
    let mut http = server.http();
    http.send("POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{");
    http.into_stream().reset();
    let mut http = server.http();
    for _ in 0..50 {
        http.send_request(&get("/rooms/all"));
    }
    http.into_stream().reset();
    // A violation whose close frame is not read; a close frame followed by a reset.
    let (_, mut rude) = guest("rude");
    rude.send([0xFF; 50]);
    open.push(rude.into_stream());
    let (_, mut abrupt) = guest("abrupt");
    abrupt.send(frame(FIN | CLOSE, ""));
    abrupt.reset();
    // An open socket of an ended session.
    let (session, ended) = guest("ended");
    let request = delete("/sessions/me").session(&session);
    server.ask(request).expect(200);
    open.push(ended.into_stream());
    open
}

/// Reads up to this chat from ana. All events before it must be joins and leaves of other users.
fn read_up_to(socket: &mut Ws, message: &str) {
    loop {
        let event = socket.event();
        if event["type"] == "chat" {
            assert_eq!((&event["user"], &event["message"]), (&json!("ana"), &json!(message)));
            return;
        }
        let kind = event["type"].as_str().expect("a type");
        assert!(matches!(kind, "user_joined" | "user_left"), "{event}");
        assert!(event["user"] != "ana" && event["user"] != "bob", "{event}");
    }
}

fn counts(http: &mut Http) -> (Value, Value, Value) {
    let health = http.ask(&get("/health")).expect(200).json();
    (health["sessions"].clone(), health["rooms"].clone(), health["connections"].clone())
}

#[test]
fn misbehaving_peers_disturb_no_member_and_leave_nothing_behind() {
    let server = Server::start(&[
        "--message-rate",
        "0",
        "--session-ttl",
        "1500ms",
        "--room-ttl",
        "300ms",
        "--leave-grace",
        "100ms",
        "--header-timeout",
        "500ms",
        "--body-timeout",
        "500ms",
        "--linger-timeout",
        "300ms",
        "--ping-interval",
        "1h",
        "--idle-timeout",
        "1h",
    ]);
    let mut asking = server.http();
    let before = counts(&mut asking);
    assert_eq!((&before.0, &before.1), (&json!(0), &json!(0)));
    #[cfg(target_os = "linux")]
    let descriptors = server.descriptors();

    let (room, mut ana, mut bob) = server.room_of_two();
    let mut open = Vec::new();
    for round in 0..3 {
        open.extend(misbehave(&server, &room));
        let message = format!("round {round}");
        ana.chat(&message);
        read_up_to(&mut ana, &message);
        read_up_to(&mut bob, &message);
    }
    // The connections that are still open do not disturb the members either.
    for number in 0..50 {
        ana.chat(&number.to_string());
        read_up_to(&mut ana, &number.to_string());
        read_up_to(&mut bob, &number.to_string());
    }
    drop(open);
    wait_until("only ana and bob are present", || server.user_count(&room) == Some(2));
    ana.close();
    loop {
        let event = bob.event();
        if event["type"] == "user_left" && event["user"] == "ana" {
            break;
        }
    }
    bob.close();
    wait_until("the counts are as before", || counts(&mut asking) == before);
    #[cfg(target_os = "linux")]
    wait_until("the descriptors are as before", || server.descriptors() == descriptors);
}

#[test]
fn a_frame_sent_byte_by_byte_does_not_delay_others() {
    let server = Server::start(&[]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut dripping = server.enter(&room, "drip");
    ana.expect_join("drip");
    bob.expect_join("drip");
    let drops = chat("slowly");
    for (number, byte) in drops.iter().enumerate() {
        dripping.send([*byte]);
        if number % 10 == 0 {
            bob.expect_nothing();
        }
    }
    ana.expect_chat("drip", "slowly");
    bob.expect_chat("drip", "slowly");
}

#[test]
fn a_hundred_joins_and_leaves_are_announced_in_pairs() {
    let server = Server::start(&["--leave-grace", "0s", "--message-rate", "0"]);
    let (room, mut ana, mut bob) = server.room_of_two();
    let mut guests: Vec<Ws> = Vec::new();
    for number in 0..100 {
        guests.push(server.enter(&room, &format!("guest {number}")));
    }
    for (number, socket) in guests.into_iter().enumerate() {
        match number % 3 {
            0 => socket.reset(),
            1 => socket.stream().finish(),
            _ => socket.close(),
        }
    }
    wait_until("all guests have left", || server.user_count(&room) == Some(2));
    ana.chat("peace");
    let mut inside: Vec<String> = Vec::new();
    loop {
        let event = bob.event();
        let user = event["user"].as_str().expect("a name").to_owned();
        match event["type"].as_str() {
            Some("user_joined") => {
                assert!(!inside.contains(&user), "{user} joined twice");
                inside.push(user);
            }
            Some("user_left") => {
                let count = inside.len();
                inside.retain(|one| *one != user);
                assert_eq!(inside.len() + 1, count, "{user} left without having joined");
            }
            _ => break assert_eq!(event["message"], "peace"),
        }
    }
    assert!(inside.is_empty(), "{inside:?} never left");
    server.ask(post("/rooms").session(&ana.session)).expect(201);
}
