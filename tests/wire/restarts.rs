//! Restarts with `--state`: a server writes its state when it ends, and the next one continues with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::{CLOSE, Ws, delete, get, post};
use crate::server::{Server, command, run};

/// A directory that only one test uses, with the state file and the server's socket.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("chat-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a directory");
        Folder(folder)
    }

    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// The names of all files in the folder, sorted.
    pub fn files(&self) -> Vec<String> {
        let all = fs::read_dir(&self.0).expect("a directory");
        let name =
            |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let mut all: Vec<_> = all.filter_map(name).collect();
        all.sort_unstable();
        all
    }

    /// The metrics have a listener of their own.
    pub fn start_with_metrics(&self, flags: &[&str]) -> Server {
        let state = self.state().display().to_string();
        Server::start_with_metrics(&[&["--state", &state][..], flags].concat())
    }

    pub fn start(&self, flags: &[&str]) -> Server {
        let (state, socket) = (self.state(), self.0.join("socket"));
        let mut command = command(&[], &[]);
        command.arg("--state").arg(state).arg("--listen").arg(format!("unix:{}", socket.display()));
        // The clients of these tests do not close when the server shuts down.
        command.args(["--linger-timeout", "50ms"]).args(flags);
        Server::spawn(command, 1)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Shuts a server down with SIGTERM.
pub fn stop(mut server: Server) {
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

fn resume(server: &Server, room: &str, session: &str, after: &str) -> Ws {
    server.socket_with(room, session, &format!("&after={after}"))
}

// contract §12.10
#[test]
fn a_restart_keeps_sessions_rooms_members_and_histories() {
    let folder = Folder::new("as-they-were");
    let server = folder.start(&[]);
    let (ana, bob) = (server.session("Ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"title": "tea & \u{1f370}"}));
    let private = server.room_with(&ana, &json!({"password": "sesame"}));
    let mut first = server.socket(&room, &ana);
    first.expect_join("Ana");
    let mut second = server.socket(&room, &bob);
    second.expect_join("bob");
    first.expect_join("bob");
    first.chat("\"quoted\" \u{1f642}\\ and \u{7f}");
    let chat = second.expect_chat("Ana", "\"quoted\" \u{1f642}\\ and \u{7f}");
    let last = chat["id"].as_str().unwrap();
    let before = (server.messages(&room, &bob), server.ask(get(&format!("/rooms/{room}"))).text());
    stop(server);
    assert_eq!(folder.files(), ["state"]);
    assert_eq!(fs::metadata(folder.state()).unwrap().permissions().mode() & 0o777, 0o600);

    let server = folder.start(&[]);
    assert_eq!(folder.files(), ["socket"], "the state is removed once it is read");
    let after = (server.messages(&room, &bob), server.ask(get(&format!("/rooms/{room}"))).text());
    assert_eq!(before, after, "the same bytes");
    let mut second = resume(&server, &room, &bob, last);
    let history = second.history();
    assert_eq!((history.frames, history.complete), (1, true));
    assert_eq!(history.users.as_array().unwrap().len(), 2, "both users are still present");
    let mut first = resume(&server, &room, &ana, last);
    assert!(first.history().complete);
    second.chat("and on");
    let more = first.expect_chat("bob", "and on");
    assert_eq!(more["user_id"], before.0.iter().find(|m| m["user"] == "bob").unwrap()["user_id"]);
    assert!(more["id"].as_str().unwrap() > last);
    second.expect_chat("bob", "and on");
    let join = |password: &str| {
        let join = post(&format!("/rooms/{private}/join")).session(&bob);
        server.ask(join.json(&json!({"password": password})))
    };
    join("guess").refused(403, "bad_password");
    join("sesame").expect(200);
    server.ask(delete(&format!("/rooms/{private}")).session(&bob)).refused(403, "not_the_owner");
    server.ask(delete(&format!("/rooms/{private}")).session(&ana)).expect(200);
}

#[test]
fn a_user_that_does_not_return_after_a_restart_has_left() {
    let folder = Folder::new("left");
    let server = folder.start(&["--leave-grace", "100ms"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    let first = server.socket(&room, &ana);
    let mut second = server.socket(&room, &bob);
    let last = second.event()["id"].as_str().unwrap().to_owned();
    drop(first);
    stop(server);
    let server = folder.start(&["--leave-grace", "100ms"]);
    let mut second = resume(&server, &room, &bob, &last);
    // On a busy machine bob may return after his own grace period, so that ana's leave is in the history.
    let messages = second.history().messages;
    let mut texts: Vec<Value> = messages.iter().map(|one| one["message"].clone()).collect();
    while !texts.contains(&json!("ana has left")) {
        texts.push(second.event()["message"].clone());
    }
}

// contract §12.10
#[test]
fn the_state_is_written_before_sockets_are_closed() {
    let folder = Folder::new("told");
    let server = folder.start(&["--linger-timeout", "1h"]);
    let (_, mut ana, _bob) = server.room_of_two();
    server.terminate();
    assert_eq!(ana.frame().opcode, CLOSE);
    assert!(folder.files().contains(&"state".to_owned()), "{:?}", folder.files());
}

// contract §12.10
#[test]
fn without_state_a_restart_keeps_nothing_and_writes_no_file() {
    let folder = Folder::new("without");
    let socket = format!("unix:{}", folder.0.join("socket").display());
    let start = || {
        let mut command = command(&["--listen", &socket], &[]);
        command.current_dir(&folder.0);
        Server::spawn(command, 1)
    };
    let server = start();
    let ana = server.session("ana");
    stop(server);
    assert_eq!(folder.files(), [""; 0]);
    start().ask(get("/sessions/me").session(&ana)).refused(401, "invalid_session");
}

/// Starts a server with a state that `change` has modified. Returns the server's warning, and the files in the
/// folder after the start.
fn tampered(name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> (String, Vec<String>) {
    let folder = Folder::new(name);
    let server = folder.start(&[]);
    let ana = server.session("ana");
    server.room(&ana);
    stop(server);
    let state = fs::read(folder.state()).unwrap();
    fs::write(folder.state(), change(state)).unwrap();
    let server = folder.start(&[]);
    server.ask(get("/sessions/me").session(&ana)).refused(401, "invalid_session");
    let warning = server.stderr().into_iter().find(|line| line.starts_with("warn"));
    server.session("bob");
    let files = folder.files();
    stop(server);
    (warning.expect("a warning"), files)
}

// contract §12.10
#[test]
fn a_damaged_state_is_refused_and_kept_under_another_name() {
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let flipped = |mut bytes: Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let longer = |bytes: Vec<u8>| [&bytes[..], b"{}\n"].concat();
    let newer = |mut bytes: Vec<u8>| {
        let version = b"disposable-chat state ".len();
        assert_eq!(bytes[version], b'2');
        bytes[version] = b'3';
        bytes
    };
    let expected = ["socket", "state.refused"];
    for (name, warning, (logged, files)) in [
        ("cut", "damaged", tampered("cut", cut)),
        ("flipped", "damaged", tampered("flipped", flipped)),
        ("longer", "damaged", tampered("longer", longer)),
        ("newer", "another version", tampered("newer", newer)),
    ] {
        assert!(logged.contains(warning), "{name}: {logged}");
        assert_eq!(files, expected, "{name}");
    }
}

/// A server of the first edition has written the file: two users, a room with six messages whose older ones were
/// dropped, and one with a password and a message.
// contract §12.10
#[test]
fn a_state_of_the_first_edition_is_read() {
    let folder = Folder::new("first-edition");
    fs::write(folder.state(), include_bytes!("state-version-1")).unwrap();
    let server = folder.start(&["--leave-grace", "1h"]);
    assert_eq!(folder.files(), ["socket"]);
    let (ana, bob) =
        ("a2e06815-acfa-4d9a-b2ad-d18362c9e397", "3acc2863-d0ff-44a2-b7cb-898034d96c5b");
    let (room, private) = ("76bdffee04", "d05e16f3f8eabee916b6bd734055195d");
    let messages = server.messages(room, bob);
    let texts: Vec<_> = messages.iter().map(|one| one["message"].as_str().unwrap()).collect();
    let expected = [0, 1, 2].map(|n| format!("message {n} \"quoted\" \u{1f642}"));
    assert_eq!(texts[..3], expected);
    assert_eq!(texts[3..], ["answer 0", "answer 1", "answer 2"]);
    let first = json!({
        "id": "01a22632-0e98-7000-b840-2f9eab55bb94", "type": "chat", "user": "Ana",
        "user_id": "36fdb5dfdef99ccf", "message": expected[0],
        "timestamp": "2026-11-29T07:25:44.472846Z", "room_id": room, "nonce": "n0",
    });
    assert_eq!(messages[0], first);
    let info = server.ask(get(&format!("/rooms/{room}"))).expect(200).json();
    assert_eq!((&info["title"], &info["user_count"]), (&json!("tea & \u{1f370}"), &json!(1)));
    // The nonce is known, and a reader that resumes learns of the messages that were dropped.
    let again = post(&format!("/rooms/{room}/messages")).session(ana);
    let again = server.ask(again.json(&json!({"message": expected[1], "nonce": "n1"})));
    assert_eq!(again.expect(200).json()["id"], messages[1]["id"]);
    let missed = resume(&server, room, ana, messages[4]["id"].as_str().unwrap()).history();
    assert_eq!((missed.messages.len(), missed.complete), (1, true));
    let missed = resume(&server, room, ana, "01a22632-0d6c-7000-bfaf-035b3cb44b83").history();
    assert_eq!((missed.messages.len(), missed.complete), (6, false));
    server.join_with(private, bob, "sesame");
    assert_eq!(server.messages(private, bob)[0]["message"], "secret");
}

// contract §12.10
#[test]
fn a_file_that_is_no_state_is_kept_under_another_name() {
    let folder = Folder::new("foreign");
    for foreign in ["", "my diary", "disposable-chat statement\n"] {
        fs::write(folder.state(), foreign).unwrap();
        let server = folder.start(&[]);
        let warning = server.stderr().into_iter().find(|line| line.starts_with("warn"));
        assert!(warning.is_some_and(|warning| warning.contains("not a state file of this server")));
        assert_eq!(folder.files(), ["socket", "state.refused"]);
        assert_eq!(fs::read(folder.0.join("state.refused")).unwrap(), foreign.as_bytes());
        let ana = server.session("ana");
        stop(server);
        assert_eq!(folder.files(), ["state", "state.refused"]);
        let server = folder.start(&[]);
        server.ask(get("/sessions/me").session(&ana)).expect(200);
        drop(server);
        assert_eq!(fs::read(folder.0.join("state.refused")).unwrap(), foreign.as_bytes());
        fs::remove_file(folder.0.join("socket")).unwrap();
    }
}

// contract §12.10
#[test]
fn a_path_that_cannot_be_written_is_one_line_and_exit_code_1() {
    let folder = Folder::new("unwritable");
    let path = |name: &str| folder.0.join(name).display().to_string();
    fs::create_dir(path("directory")).unwrap();
    fs::create_dir(path("taken.new")).unwrap();
    fs::write(path("file"), "").unwrap();
    let made = Command::new("mkfifo").arg(path("pipe")).status();
    assert!(made.is_ok_and(|made| made.success()), "mkfifo");
    // A file of other origin that cannot be kept under another name.
    fs::write(path("diary"), "dear diary").unwrap();
    fs::create_dir(path("diary.refused")).unwrap();
    fs::write(path("diary.refused/page"), "").unwrap();
    let before = folder.files();
    for name in ["nowhere/state", "file/state", "directory", "pipe", "taken", "diary"] {
        let listen = format!("unix:{}", path("socket"));
        let ended = run(&["--listen", &listen, "--state", &path(name)], &[]);
        assert_eq!(ended.code, Some(1), "{name}: {ended:?}");
        let line = ended.stderr.strip_suffix('\n').expect("a line");
        let begin = format!("cannot write --state {}: ", path(name));
        assert!(line.contains(&begin) && !line.contains('\n'), "{name}: {line}");
        let _ = fs::remove_file(path("socket"));
        assert_eq!(folder.files(), before, "{name}");
    }
    assert_eq!(fs::read(path("diary")).unwrap(), b"dear diary");
}

// contract §12.10
#[test]
fn a_new_file_that_was_left_behind_is_removed_at_the_start() {
    let folder = Folder::new("stale");
    fs::write(folder.0.join("state.new"), "half of all messages").unwrap();
    let _server = folder.start(&[]);
    assert_eq!(folder.files(), ["socket"]);
}

// contract §12.10
#[test]
fn a_state_that_cannot_be_written_at_the_end_is_logged_and_leaves_no_file() {
    let folder = Folder::new("lost");
    let server = folder.start(&["--linger-timeout", "1h"]);
    let (_, mut ana, bob) = server.room_of_two();
    fs::create_dir(folder.state()).unwrap();
    server.terminate();
    assert_eq!(ana.frame().opcode, CLOSE);
    assert_eq!(folder.files(), ["state"], "no state.new");
    drop((ana, bob));
    let lines = server.stderr_to_the_end();
    assert!(lines.iter().any(|line| line.contains("nothing is kept")), "{lines:?}");
    assert!(folder.state().is_dir());
}

/// The files in a file system that only the server sees.
#[cfg(target_os = "linux")]
fn files_of(server: &Server, folder: &Folder) -> Vec<String> {
    let inside = format!("/proc/{}/root{}", server.pid(), folder.0.display());
    let folder = std::mem::ManuallyDrop::new(Folder(inside.into()));
    folder.files()
}

/// Its size is known before the first history is given up.
// contract §12.10
#[test]
#[cfg(target_os = "linux")]
fn a_state_larger_than_its_file_system_is_not_begun() {
    let folder = Folder::new("full");
    let mount = "mount -t tmpfs -o size=64k tmpfs";
    let start = |then: &str| {
        let script = format!("{mount} {} && exec {then}", folder.0.display());
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script]);
        command
    };
    if !start("true").status().is_ok_and(|made| made.success()) {
        assert!(std::env::var("REQUIRE_ALL").as_deref() != Ok("1"), "no mount namespaces");
        return println!("skipped: no mount namespaces");
    }
    for messages in [1, 100] {
        let server = command(&["--message-rate", "0"], &[]);
        let mut command = start("\"$0\" \"$@\"");
        command.arg(server.get_program()).args(server.get_args());
        command.args(["--listen", "127.0.0.1:0", "--linger-timeout", "1h"]);
        let server = Server::spawn(
            {
                command.arg("--state").arg(folder.state());
                command
            },
            1,
        );
        let (room, mut ana, bob) = server.room_of_two();
        let session = server.session("eve");
        server.join(&room, &session);
        for _ in 0..messages {
            server.say(&room, &session, &"x".repeat(1000));
            ana.event();
        }
        server.terminate();
        assert_eq!(ana.frame().opcode, CLOSE);
        let (files, is_small) = (files_of(&server, &folder), messages == 1);
        drop((ana, bob));
        let log = server.stderr_to_the_end().join("\n");
        assert_eq!(files, if is_small { vec!["state"] } else { vec![] }, "{log}");
        assert_eq!(log.contains("nothing is kept"), !is_small, "{log}");
    }
}

/// Posts messages of 4,000 bytes until histories are this part of the server's ceiling. Returns the room and the
/// session.
#[cfg(target_os = "linux")]
fn fill(server: &Server, percent: u64) -> (String, String) {
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut http = server.http();
    let text = "x".repeat(3990);
    let mut number = 0;
    while server.metric("chat_memory_bytes") * 100
        < server.metric("chat_memory_max_bytes") * percent
    {
        let mut batch = Vec::new();
        for _ in 0..100 {
            number += 1;
            let message = json!({"message": format!("{number} {text}")});
            batch.push(post(&format!("/rooms/{room}/messages")).session(&ana).json(&message));
        }
        assert!(http.pipeline(&batch).iter().all(|answer| answer.status == 201));
    }
    (room, ana)
}

/// The ids of all messages of a room, read in pages that are small compared with a small ceiling.
#[cfg(target_os = "linux")]
fn ids(server: &Server, room: &str, session: &str) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let after = ids.last().map_or("unknown", String::as_str);
        let page = get(&format!("/rooms/{room}/messages?limit=10&after={after}")).session(session);
        let page = server.ask(page).expect(200).json();
        let messages = page["messages"].as_array().expect("messages");
        if messages.is_empty() {
            return ids;
        }
        ids.extend(messages.iter().map(|one| one["id"].as_str().expect("an id").to_owned()));
    }
}

/// Regression: at 77 % of the ceiling, the file and the histories together took 150 %, and the process was killed.
// contract §12.10
#[test]
#[cfg(target_os = "linux")]
fn a_state_in_memory_takes_the_place_of_the_histories() {
    let folder = Folder::new("full-memory");
    let flags = ["--max-memory", "16M", "--message-rate", "0", "--history", "100000"];
    let server = folder.start_with_metrics(&flags);
    fill(&server, 75);
    let (before, pid) = (server.resident_kib(), server.pid());
    server.terminate();
    let mut most = 0;
    while !folder.state().exists() {
        let file = fs::metadata(folder.0.join("state.new")).map_or(0, |file| file.len() / 1024);
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        most = most.max(file + 4 * pages);
    }
    assert!(most < before + 2048, "{most} KiB, before {before}");
    assert!(fs::metadata(folder.state()).unwrap().len() > 10 << 20);
}

/// Regression: after a restart, histories took half as much memory again, and a third was forgotten.
// contract §12.10
#[test]
#[cfg(target_os = "linux")]
fn a_restart_with_less_memory_keeps_the_newest_messages() {
    let folder = Folder::new("less-memory");
    let flags = ["--message-rate", "0", "--history", "100000", "--new-room-ttl", "1h"];
    let start =
        |memory: &str| folder.start_with_metrics(&[&flags[..], &["--max-memory", memory]].concat());
    let server = start("4M");
    let (room, ana) = fill(&server, 75);
    let (all, bytes) = (ids(&server, &room, &ana), server.metric("chat_memory_bytes"));
    stop(server);
    let server = start("4M");
    assert_eq!(ids(&server, &room, &ana), all);
    let restored = server.metric("chat_memory_bytes");
    assert!(restored <= bytes, "{restored} bytes, before {bytes}");
    stop(server);
    let server = start("2M");
    let kept = ids(&server, &room, &ana);
    assert!((300..450).contains(&kept.len()), "{} messages", kept.len());
    assert_eq!(kept, all[all.len() - kept.len()..]);
    let restored = server.metric("chat_memory_bytes");
    assert!(restored <= 2 << 20, "{restored}");
    assert_eq!(
        server.metric("chat_messages_forgotten_total"),
        0,
        "none had to be dropped afterwards"
    );
}
