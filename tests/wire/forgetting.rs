//! Forgetting: after a room and its sessions have ended, neither texts nor names nor ids remain in the
//! memory of the process. The tests search all writable memory but the stack, through `/proc/PID/mem`.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde_json::json;

use crate::client::{
    CONTINUATION, FIN, Http, PING, TEXT, chat, chat_with, delete, frame, get, post, text, upgrade,
};
use crate::server::{Server, wait_until};

/// Byte strings that must not be found, each with a name.
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    fn add(&mut self, what: &str, bytes: impl Into<Vec<u8>>) {
        self.0.push((what.to_owned(), bytes.into()));
    }

    /// A text that occurs nowhere else.
    fn word(&mut self, what: &str) -> String {
        let word = format!("Zx9q{what}Kv7w");
        self.add(what, word.as_str());
        word
    }

    /// A session's id, as text and as the server keeps it.
    fn session(&mut self, whose: &str, id: &str) {
        let digits: String = id.chars().filter(char::is_ascii_hexdigit).collect();
        let raw = u128::from_str_radix(&digits, 16).expect("a UUID").to_be_bytes();
        self.add(&format!("{whose}'s id"), id);
        self.add(&format!("{whose}'s raw id"), raw);
    }

    /// The names of those secrets that are in the memory of the process, each once. The process is stopped
    /// during the search: otherwise the heap could shrink, and reading a region would fail at its end.
    fn found_in(&self, server: &Server) -> io::Result<Vec<&str>> {
        // A response arrives before the tick that sent it has freed what it used. When another request is
        // answered, that tick is over.
        server.ask(get("/health")).expect(200);
        server.while_stopped(|| self.look(server))
    }

    fn look(&self, server: &Server) -> io::Result<Vec<&str>> {
        let mut firsts = [false; 256];
        let longest = self.0.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
        self.0.iter().for_each(|(_, bytes)| firsts[usize::from(bytes[0])] = true);
        let mut found = Vec::new();
        for region in regions(server)? {
            // Pieces overlap, so that no secret is cut in two.
            for piece in pieces(server, region, longest)? {
                for at in (0..piece.len()).filter(|at| firsts[usize::from(piece[*at])]) {
                    let here = self.0.iter().filter(|(_, bytes)| piece[at..].starts_with(bytes));
                    found.extend(here.map(|(what, _)| what.as_str()));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// The writable address ranges, without the stack.
fn regions(server: &Server) -> io::Result<Vec<(u64, u64)>> {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.pid()))?;
    let writable = maps.lines().filter(|http| !http.ends_with("[stack]"));
    let writable = writable.filter(|http| http.split(' ').nth(1).is_some_and(|m| m.contains("rw")));
    let range = |http: &str| {
        let (start, end) = http.split(' ').next()?.split_once('-')?;
        Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    };
    Ok(writable.filter_map(range).collect())
}

fn pieces(server: &Server, region: (u64, u64), overlap: usize) -> io::Result<Vec<Vec<u8>>> {
    const PIECE_BYTES: usize = 1 << 20;
    let memory = File::open(format!("/proc/{}/mem", server.pid()))?;
    let (mut at, end) = region;
    let mut pieces = Vec::new();
    while at < end {
        let mut piece = vec![0; PIECE_BYTES.min((end - at) as usize)];
        memory.read_exact_at(&mut piece, at)?;
        at += piece.len() as u64;
        if at < end {
            at -= overlap as u64;
        }
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Whether this machine allows reading the memory of the process. If not, the test reports that it is skipped.
fn may_read(server: &Server) -> bool {
    let Err(error) = Secrets(vec![("anything".to_owned(), vec![0])]).found_in(server) else {
        return true;
    };
    assert!(std::env::var("REQUIRE_ALL").as_deref() != Ok("1"), "/proc/PID/mem: {error}");
    eprintln!("skipped: /proc/PID/mem can't be read: {error}");
    false
}

#[test]
fn nothing_of_a_room_stays_in_memory_when_it_has_ended() {
    let server = Server::start(&["--message-rate", "0", "--leave-grace", "0"]);
    if !may_read(&server) {
        return;
    }
    // One session stays, with a room and a persistent connection, so that memory is not freed only because the last
    // session, room or connection has ended.
    let keeper = server.session("keeper");
    let elsewhere = server.room(&keeper);
    let mut staying = server.enter_as(&elsewhere, "keeper", &keeper);
    let mut http = server.http();

    let mut secrets = Secrets(Vec::new());
    let (ana_name, bob_name) = (secrets.word("ananame"), secrets.word("bobname"));
    let (ana, bob) = (server.session(&ana_name), server.session(&bob_name));
    secrets.session("ana", &ana);
    secrets.session("bob", &bob);
    // A name that is kept without an allocation.
    secrets.add("short name", "zx9qshortkv7w");
    let shorty = server.session("zx9qshortkv7w");
    secrets.session("shorty", &shorty);
    let title = secrets.word("title");
    let password = secrets.word("password");
    let room = server.room_with(&ana, &json!({"title": title, "password": password}));
    let guess = json!({"password": secrets.word("guess")});
    let join = post(&format!("/rooms/{room}/join"));
    http.ask(&join.session(&bob).json(&guess)).refused(403, "bad_password");
    server.join_with(&room, &bob, &password);

    send_everywhere(&server, &mut http, &room, [&ana, &bob], &mut secrets);
    let slow = server.http_narrow();
    let target = format!("/ws/{room}?session_id={bob}&history=1000");
    let mut slow = slow.upgrade(&upgrade(&target));
    http.ask(&get(&format!("/rooms/{room}/messages")).session(&bob)).expect(200);
    assert!(slow.try_frame().is_ok(), "the first frame, and no more is read");

    let kept = secrets.found_in(&server).expect("readable memory");
    for what in
        ["ananame", "ana's raw id", "short name", "title", "socket", "nonce", "rest", "page"]
    {
        assert!(kept.contains(&what), "{what} is in memory while the room exists: {kept:?}");
    }

    http.ask(&delete(&format!("/rooms/{room}")).session(&ana)).expect(200);
    http.ask(&delete("/sessions/me").session(&ana)).expect(200);
    http.ask(&delete("/sessions/me").session(&bob)).expect(200);
    http.ask(&delete("/sessions/me").session(&shorty)).expect(200);
    drop(slow);
    wait_until("all others have ended", || http.ask(&get("/health")).json()["connections"] == 2);
    let left = secrets.found_in(&server).expect("readable memory");
    assert!(left.is_empty(), "still in memory: {left:?}");
    staying.chat("still here");
    staying.expect_chat("keeper", "still here");
}

/// Also when a reader has received it so slowly that it was still queued when it was deleted.
// contract §13.16
#[test]
fn a_deleted_text_is_neither_in_memory_nor_in_the_state_file() {
    let state = std::env::temp_dir().join(format!("forgetting-{}", std::process::id()));
    let state = state.to_str().expect("UTF-8");
    let mut server = Server::start(&["--message-rate", "0", "--outbox", "64M", "--state", state]);
    if !may_read(&server) {
        return;
    }
    let mut secrets = Secrets(Vec::new());
    let (room, mut ana, mut bob) = server.room_of_two();
    let target = format!("/ws/{room}?session_id={}", bob.session);
    let mut slow = server.http_narrow().upgrade(&upgrade(&target));
    let mut ids = Vec::new();
    // More than the kernel buffers, so that the last texts are queued.
    for n in 0..1500 {
        let text = match n {
            1499 => secrets.word("socket"),
            _ => "x".repeat(4000),
        };
        ana.chat(&text);
        let sent = ana.expect_chat("ana", &text);
        assert_eq!(bob.event(), sent);
        ids.push(sent["id"].as_str().expect("an id").to_owned());
    }
    let nonce = secrets.word("nonce");
    let rest = json!({"message": secrets.word("rest"), "nonce": nonce});
    let rest = post(&format!("/rooms/{room}/messages")).session(&bob.session).json(&rest);
    ids.push(server.ask(rest).expect(201).string("id"));
    let rest = [ana.event(), bob.event()].map(|event| event["message"].clone());
    assert_eq!(rest[0], rest[1]);
    let deleted = &ids[1499..];
    for (id, session) in deleted.iter().zip([ana.session.clone(), bob.session.clone()]) {
        let deletion = delete(&format!("/rooms/{room}/messages/{id}"));
        server.ask(deletion.session(&session)).expect(200);
        assert_eq!([ana.event(), bob.event()].map(|told| told["target"] == *id), [true; 2]);
    }
    let queued = secrets.found_in(&server).expect("readable memory");
    assert_eq!(queued, ["nonce", "rest", "socket"], "they are queued for the slow reader");
    for id in &ids {
        assert_eq!(slow.event()["id"], **id, "what is queued is delivered");
    }
    assert_eq!(
        [slow.event(), slow.event()].map(|told| told["type"] == "message_deleted"),
        [true; 2]
    );
    let left = secrets.found_in(&server).expect("readable memory");
    assert_eq!(left, ["nonce"], "it stays known");
    server.terminate();
    assert!(server.wait().success());
    let file = std::fs::read(state).expect("a state file");
    std::fs::remove_file(state).expect("it is there");
    let is_there = |secret: &[u8]| file.windows(secret.len()).any(|window| window == secret);
    let found = secrets.0.iter().filter(|(_, secret)| is_there(secret));
    assert!(found.map(|(what, _)| what).eq(["nonce"]));
}

// contract §10.6
#[test]
fn a_password_is_kept_only_as_a_hash() {
    let server = Server::start(&[]);
    if !may_read(&server) {
        return;
    }
    let mut secrets = Secrets(Vec::new());
    let (title, password) = (secrets.word("title"), secrets.word("password"));
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"title": title, "password": password}));
    server.join_with(&room, &bob, &password);
    let found = secrets.found_in(&server).expect("readable memory");
    assert_eq!(found, ["title"]);
}

/// Sends secrets in every part of every kind of request and event, accepted or refused.
fn send_everywhere(
    server: &Server,
    http: &mut Http,
    room: &str,
    [ana, bob]: [&str; 2],
    secrets: &mut Secrets,
) {
    let target = format!("/ws/{room}?session_id={ana}&{}=1", secrets.word("query"));
    let mut socket = server.upgrade(upgrade(&target));
    socket.event();
    socket.chat(&secrets.word("socket"));
    socket.event();
    socket.send(chat_with(&secrets.word("nonce"), &secrets.word("once")));
    socket.event();
    let escaped = secrets.word("escaped");
    socket.send(text(format!(r#"{{"type":"chat","message":"\u00e9\n{escaped}"}}"#)));
    socket.event();
    let whole = chat_text(&secrets.word("fragments"));
    let (left, right) = whole.split_at(whole.len() / 2);
    socket.send(frame(TEXT, left));
    socket.send(frame(FIN | CONTINUATION, right));
    socket.event();
    let ping = secrets.word("ping");
    socket.send(frame(FIN | PING, &ping));
    assert_eq!(socket.frame().payload, ping.as_bytes());
    for page in 0..80 {
        socket.chat(&format!("{page} {} {}", secrets.word("page"), "x".repeat(3900)));
        socket.event();
    }

    socket.chat(&(secrets.word("long") + &"x".repeat(4000)));
    socket.expect_refused("too_long");
    socket.text(secrets.word("nojson"));
    socket.expect_refused("bad_json");
    socket.text(format!(r#"{{"type":"{}","nonce":"x"}}"#, secrets.word("notype")));
    socket.expect_refused("bad_type");
    socket.send(chat_with(&secrets.word("badnonce").repeat(6), "x"));
    socket.expect_refused("bad_nonce");

    let say = |message: &str| {
        let body = json!({"message": message, "nonce": message});
        post(&format!("/rooms/{room}/messages")).session(bob).json(&body)
    };
    http.ask(&say(&secrets.word("rest"))).expect(201);
    http.ask(&say(&(secrets.word("restlong") + &"x".repeat(4000)))).refused(422, "bad_nonce");
    http.ask(&post("/sessions").body(secrets.word("body"))).refused(422, "bad_body");
    http.ask(&post("/nowhere").body(secrets.word("lost"))).refused(404, "not_found");
    http.ask(&get(&format!("/rooms/all?x={}", secrets.word("restquery")))).expect(200);
    http.ask(&get("/ping").field("X-Odd", &secrets.word("field"))).expect(200);
    let coded = post("/sessions").field("Transfer-Encoding", "chunked").bytes(&server.host());
    http.send(coded);
    let word = secrets.word("chunk");
    http.send(format!("{:x}\r\n{word}\r\n0\r\nT: {}\r\n\r\n", word.len(), secrets.word("trailer")));
    http.answer().refused(422, "bad_body");

    // A connection that breaks within a frame, and one that breaks within a body.
    let mut torn = server.socket(room, bob);
    torn.event();
    let begun = chat(&secrets.word("torn"));
    torn.send(&begun[..begun.len() - 2]);
    let mut half = server.http();
    let half_body = post("/sessions").field("Content-Length", "1000").bytes(&server.host());
    half.send([half_body, secrets.word("half").into_bytes()].concat());
}

fn chat_text(message: &str) -> String {
    json!({"type": "chat", "message": message}).to_string()
}

/// A core dump would write to disk what the server keeps in memory only.
#[test]
fn core_dumps_are_off() {
    let server = Server::start(&[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("limits");
    let core = limits.lines().find(|http| http.starts_with("Max core file size")).expect("it");
    let values: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    // One byte, see `process::machine::forbid_core_dumps`; zero where the limit was zero already.
    assert!(values == ["1", "1"] || values == ["0", "0"], "{core}");
}
