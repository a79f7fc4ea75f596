//! What a restart does not lose (`--state`): a process ends, another one begins, and nobody has to notice.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use serde_json::{Value, json};

use crate::client::{CLOSE, Http, Stream, TEXT, Ws, chat_with, delete, get, post, upgrade};
use crate::server::{Address, Server, command, wait_until};
#[cfg(target_os = "linux")]
use crate::systemd;

/// A directory of a test's own, with the state and a socket to listen on.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let place = std::env::temp_dir().join(format!("chat-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).expect("a directory");
        Place(place)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// The names of all files in it.
    fn files(&self) -> Vec<String> {
        let all = fs::read_dir(&self.0).expect("a directory");
        let name =
            |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let mut all: Vec<_> = all.filter_map(name).collect();
        all.sort_unstable();
        all
    }

    fn start(&self, flags: &[&str]) -> Server {
        let (state, socket) = (self.state(), self.0.join("socket"));
        let mut command = command(&[], &[]);
        command.arg("--state").arg(state).arg("--listen").arg(format!("unix:{}", socket.display()));
        // Nobody answers when it says goodbye.
        command.args(["--linger-timeout", "50ms"]).args(flags);
        Server::spawn(command, 1)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ends it as an operator does.
fn stop(mut server: Server) {
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

fn resume(server: &Server, room: &str, session: &str, after: &str) -> Ws {
    server.socket_with(room, session, &format!("&after={after}"))
}

// contract §12.10
#[test]
fn sessions_rooms_members_and_histories_are_as_they_were() {
    let place = Place::new("as-they-were");
    let server = place.start(&[]);
    let (ana, bob) = (server.session("Ana"), server.session("bob"));
    let room = server.room_with(&ana, &json!({"title": "tea & \u{1f370}"}));
    let private = server.room_with(&ana, &json!({"password": "sesame"}));
    let mut first = server.socket(&room, &ana);
    first.expect_join("Ana");
    let mut second = server.socket(&room, &bob);
    second.expect_join("bob");
    first.expect_join("bob");
    first.chat("\"quoted\" \u{1f642}\\ and \u{7f}");
    let said = second.expect_chat("Ana", "\"quoted\" \u{1f642}\\ and \u{7f}");
    let last = said["id"].as_str().unwrap();
    let before = (server.messages(&room, &bob), server.ask(get(&format!("/rooms/{room}"))).text());
    stop(server);
    assert_eq!(place.files(), ["state"]);
    assert_eq!(fs::metadata(place.state()).unwrap().permissions().mode() & 0o777, 0o600);

    let server = place.start(&[]);
    assert_eq!(place.files(), ["socket"], "read, and removed");
    let after = (server.messages(&room, &bob), server.ask(get(&format!("/rooms/{room}"))).text());
    assert_eq!(before, after, "to the byte");
    let mut second = resume(&server, &room, &bob, last);
    let history = second.history();
    assert_eq!((history.frames, history.complete), (1, true));
    assert_eq!(history.users.as_array().unwrap().len(), 2, "nobody has left");
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
fn who_does_not_come_back_has_left() {
    let place = Place::new("left");
    let server = place.start(&["--leave-grace", "100ms"]);
    let (ana, bob) = (server.session("ana"), server.session("bob"));
    let room = server.room(&ana);
    let first = server.socket(&room, &ana);
    let mut second = server.socket(&room, &bob);
    let last = second.event()["id"].as_str().unwrap().to_owned();
    drop(first);
    stop(server);
    let server = place.start(&["--leave-grace", "100ms"]);
    let mut second = resume(&server, &room, &bob, &last);
    second.history();
    let mut events = vec![second.event()["message"].clone()];
    if events[0] == "bob has left" {
        // He was slow himself.
        events = vec![second.event()["message"].clone(), second.event()["message"].clone()];
    }
    assert!(events.contains(&json!("ana has left")), "{events:?}");
}

// contract §12.10
#[test]
fn the_state_is_written_before_any_socket_is_told() {
    let place = Place::new("told");
    let server = place.start(&["--linger-timeout", "1h"]);
    let (_, mut ana, _bob) = server.room_of_two();
    server.terminate();
    assert_eq!(ana.frame().opcode, CLOSE);
    assert!(place.files().contains(&"state".to_owned()), "{:?}", place.files());
}

/// Without the flag no restart keeps anything, and nothing is written anywhere.
// contract §12.10
#[test]
fn without_the_flag_all_is_forgotten() {
    let place = Place::new("without");
    let socket = format!("unix:{}", place.0.join("socket").display());
    let start = || {
        let mut command = command(&["--listen", &socket], &[]);
        command.current_dir(&place.0);
        Server::spawn(command, 1)
    };
    let server = start();
    let ana = server.session("ana");
    stop(server);
    assert_eq!(place.files(), [""; 0]);
    start().ask(get("/sessions/me").session(&ana)).refused(401, "invalid_session");
}

/// Starts on a state that was changed before, and says how that was taken: the warning, and what files there
/// were then.
fn tampered(name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> (String, Vec<String>) {
    let place = Place::new(name);
    let server = place.start(&[]);
    let ana = server.session("ana");
    server.room(&ana);
    stop(server);
    let state = fs::read(place.state()).unwrap();
    fs::write(place.state(), change(state)).unwrap();
    let server = place.start(&[]);
    server.ask(get("/sessions/me").session(&ana)).refused(401, "invalid_session");
    let warning = server.stderr().into_iter().find(|line| line.starts_with("warn"));
    server.session("bob");
    let files = place.files();
    stop(server);
    (warning.expect("a warning"), files)
}

// contract §12.10
#[test]
fn what_is_not_as_it_was_written_is_refused() {
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let flipped = |mut bytes: Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let longer = |bytes: Vec<u8>| [&bytes[..], b"{}\n"].concat();
    let newer = |mut bytes: Vec<u8>| {
        let version = b"disposable-chat state ".len();
        assert_eq!(bytes[version], b'1');
        bytes[version] = b'2';
        bytes
    };
    let ours = ["socket", "state.refused"];
    for (name, warning, (said, files)) in [
        ("cut", "it is damaged", tampered("cut", cut)),
        ("flipped", "it is damaged", tampered("flipped", flipped)),
        ("longer", "it is damaged", tampered("longer", longer)),
        ("newer", "another version", tampered("newer", newer)),
    ] {
        assert!(said.contains(warning), "{name}: {said}");
        assert_eq!(files, ours, "{name}");
    }
}

// contract §12.10
#[test]
fn what_is_somebody_elses_is_left_alone() {
    let place = Place::new("foreign");
    for foreign in ["", "my diary", "disposable-chat statement\n"] {
        fs::write(place.state(), foreign).unwrap();
        let server = place.start(&[]);
        let warning = server.stderr().into_iter().find(|line| line.starts_with("warn"));
        assert!(warning.is_some_and(|warning| warning.contains("no state of this server")));
        server.session("ana");
        stop(server);
        assert_eq!(fs::read(place.state()).unwrap(), foreign.as_bytes());
    }
    // Nor is a folder moved out of the way.
    fs::remove_file(place.state()).unwrap();
    fs::create_dir(place.state()).unwrap();
    stop(place.start(&[]));
    assert!(place.state().is_dir());
    assert_eq!(place.files(), ["state"]);
}

#[test]
fn a_place_that_cannot_be_written_to_is_said_and_no_more() {
    let place = Place::new("unwritable");
    let flags = ["--state", "/proc/nowhere/state"];
    let server = place.start(&flags);
    server.session("ana");
    server.terminate();
    let lines = server.stderr_to_the_end();
    assert!(lines.iter().any(|line| line.contains("nothing is kept")), "{lines:?}");
}

/// One who talks through restarts as the page does: resends with the nonce what was not heard back, resumes
/// after what was heard last, and writes down all that is new.
struct Talker {
    name: String,
    session: String,
    room: String,
    /// Ids, and what was told.
    heard: Vec<(String, String)>,
    said: usize,
}

impl Talker {
    /// Until it is over, and all that was said has been heard back.
    fn talk(mut self, address: &Address, is_over: &AtomicBool) -> Talker {
        loop {
            let after = self.heard.last().map_or(String::new(), |(id, _)| format!("&after={id}"));
            let target = format!("/ws/{}?session_id={}{after}", self.room, self.session);
            // Somebody always listens, so nobody is refused; but it may be a server that is about to leave.
            let http = Http::over(Stream::connect(address), address);
            let Some(mut ws) = http.try_upgrade(&upgrade(&target)) else { continue };
            let is_caught_up = after.is_empty() || self.catch_up(&mut ws).is_some();
            if is_caught_up && self.converse(&mut ws, is_over).is_some() {
                return self;
            }
        }
    }

    /// `None`: the server has gone.
    fn next(ws: &mut Ws) -> Option<Value> {
        loop {
            let frame = ws.try_frame().ok()??;
            match frame.opcode {
                TEXT => return Some(serde_json::from_slice(&frame.payload).expect("an event")),
                CLOSE => return None,
                _ => {}
            }
        }
    }

    fn catch_up(&mut self, ws: &mut Ws) -> Option<()> {
        loop {
            let page = Self::next(ws)?;
            page["messages"].as_array().expect("a page").iter().for_each(|said| self.hear(said));
            if page["more"] == false {
                assert_eq!(page["complete"], true, "a gap");
                return Some(());
            }
        }
    }

    fn converse(&mut self, ws: &mut Ws, is_over: &AtomicBool) -> Option<()> {
        // What has arrived, and been kept, is no news, as the nonce tells: as if its echo had been lost.
        let arrived = self.said - usize::from(self.said > 0 && !self.has_heard_itself());
        if arrived > 0 {
            let said = arrived.to_string();
            ws.try_send(chat_with(&said, &said)).ok()?;
        }
        loop {
            // One at a time: what was not heard back may or may not have arrived.
            if self.said == 0 || self.has_heard_itself() {
                if is_over.load(SeqCst) {
                    return Some(());
                }
                self.said += 1;
            }
            let said = self.said.to_string();
            ws.try_send(chat_with(&said, &said)).ok()?;
            while !self.has_heard_itself() {
                let event = Self::next(ws)?;
                self.hear(&event);
            }
        }
    }

    fn has_heard_itself(&self) -> bool {
        let own = format!("chat {} {}", self.name, self.said);
        self.heard.iter().rev().any(|(_, line)| *line == own)
    }

    fn hear(&mut self, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        if ["chat", "user_joined", "user_left"].contains(&&*text("type")) {
            let heard =
                (text("id"), format!("{} {} {}", text("type"), text("user"), text("message")));
            // Who says again what is kept is told again, alone.
            let is_own = heard.1.starts_with(&format!("chat {} ", self.name));
            if !is_own || !self.heard.contains(&heard) {
                self.heard.push(heard);
            }
        }
    }

    fn count(&self, begin: &str) -> usize {
        self.heard.iter().filter(|(_, line)| line.starts_with(begin)).count()
    }
}

/// Fifty people in five rooms talk while the server is restarted ten times, on a socket that somebody keeps open:
/// nobody is refused, each hears all of it, once, in one order, and nobody is said to have come or gone.
// contract §7.2 §8.4 §12.10
#[test]
#[cfg(target_os = "linux")]
fn ten_restarts_while_fifty_talk() {
    let (restarts, people) =
        if std::env::var_os("SLOW_TESTS").is_some() { (10, 50) } else { (3, 10) };
    let place = Place::new("ten-restarts");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = &Address::Tcp(listener.local_addr().expect("an address"));
    let state = place.state().display().to_string();
    let flags =
        ["--state", &state, "--leave-grace", "30s", "--message-rate", "0", "--history", "100000"];
    let start = || {
        let listener = listener.try_clone().expect("another handle");
        systemd::start(systemd::activated(listener.into(), None, &flags, &[]), 1)
    };
    let server = start();
    let sessions: Vec<_> = (0..people).map(|n| server.session(&format!("person {n}"))).collect();
    let rooms: Vec<_> = (0..5).map(|n| server.room(&sessions[n])).collect();
    let talker = |n: usize| Talker {
        name: format!("person {n}"),
        session: sessions[n].clone(),
        room: rooms[n % 5].clone(),
        heard: Vec::new(),
        said: 0,
    };
    let is_over = &AtomicBool::new(false);
    let talkers: Vec<Talker> = thread::scope(|scope| {
        let mut server = server;
        let talk = |talker: Talker| scope.spawn(move || talker.talk(address, is_over));
        let talking: Vec<_> = (0..people).map(talker).map(talk).collect();
        for restart in 1..=restarts {
            wait_until("they have talked on", || {
                server.messages(&rooms[0], &sessions[0]).len() > 20 * restart
            });
            stop(server);
            server = start();
        }
        is_over.store(true, SeqCst);
        talking.into_iter().map(|talking| talking.join().expect("it talks to the end")).collect()
    });
    for talker in &talkers {
        let Talker { name, said, .. } = talker;
        let ids: Vec<_> = talker.heard.iter().map(|(id, _)| id).collect();
        assert!(ids.is_sorted_by(|one, other| one < other), "{name}: in order, nothing twice");
        let own = format!("chat {name} ");
        let numbers =
            talker.heard.iter().filter_map(|(_, line)| line.strip_prefix(&own)?.parse().ok());
        let numbers: Vec<usize> = numbers.collect();
        assert_eq!(numbers, (1..=*said).collect::<Vec<_>>(), "{name}: each once, in order");
        assert_eq!(talker.count("user_left "), 0, "{name}: nobody has left");
        assert!(talker.count("user_joined ") <= people / 5, "{name}: each has come once");
    }
    for room in &rooms {
        let same: Vec<_> = talkers.iter().filter(|talker| talker.room == *room).collect();
        // They came at different times, and have read to different ends.
        let first = same.iter().map(|talker| &talker.heard[0].0).max().unwrap();
        let last =
            same.iter().filter_map(|talker| talker.heard.last()).map(|(id, _)| id).min().unwrap();
        let common = |talker: &Talker| {
            let between = talker.heard.iter().filter(|(id, _)| id >= first && id <= last);
            between.cloned().collect::<Vec<_>>()
        };
        assert!(common(same[0]).len() > 5 * restarts);
        for talker in &same[1..] {
            assert_eq!(common(talker), common(same[0]), "all have heard the same");
        }
    }
}
