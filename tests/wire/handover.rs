//! The whole sequence from SIGTERM to the successor, again and again, under load.
//!
//! Two ways to hand over: the listening socket outlives the servers, as with systemd; or the successor waits for
//! the port. `SLOW_TESTS=1` repeats each two hundred times; `--nocapture` prints how long it took.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{CLOSE, Http, Stream, TEXT, Ws, chat_with, get, post, uninterrupted, upgrade};
use crate::restarts::{Folder, stop};
use crate::server::{Address, Server, command, is_slow, wait_until};
use crate::systemd;

const CLIENTS: usize = 12;
const ROOMS: usize = 4;
const POSTERS: usize = 2;

/// A client that chats through restarts the way the chat page does: it sends a message again, with the same
/// nonce, until it receives the message itself, and resumes after the last message that it has received.
struct ResumingClient<'t> {
    name: String,
    session: String,
    room: String,
    /// Ids of messages, joins and leaves with their type, user and text; in order, without repeats of its own.
    received: Vec<(String, String)>,
    /// How many messages it has sent. Their texts and nonces are the numbers from 1.
    sent: usize,
    /// How many of them it has received.
    arrived: &'t AtomicUsize,
    trial: &'t Trial,
}

/// What all clients share.
struct Trial {
    address: Address,
    is_over: AtomicBool,
    /// There is no server any more.
    has_failed: AtomicBool,
    /// Connects that were refused.
    refused: AtomicUsize,
}

/// Ends the clients if the test panics.
struct Guard<'t>(&'t Trial);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.has_failed.store(thread::panicking(), SeqCst);
    }
}

/// A connection, unless it is refused.
fn connect(trial: &Trial) -> Option<Http> {
    assert!(!trial.has_failed.load(SeqCst), "the test has failed");
    match Stream::try_connect(&trial.address) {
        Ok(stream) => Some(Http::over(stream, &trial.address)),
        Err(_) => {
            trial.refused.fetch_add(1, SeqCst);
            thread::sleep(Duration::from_millis(1));
            None
        }
    }
}

impl ResumingClient<'_> {
    /// Chats until `is_over` and until the last message that it has sent has come back.
    fn chat(mut self) -> Self {
        loop {
            let after =
                self.received.last().map_or(String::new(), |(id, _)| format!("&after={id}"));
            let target = format!("/ws/{}?session_id={}{after}", self.room, self.session);
            let Some(http) = connect(self.trial) else { continue };
            // A server that is shutting down refuses the upgrade, or does not accept it any more.
            let Some(mut ws) = http.try_upgrade(&upgrade(&target)) else { continue };
            let is_caught_up = after.is_empty() || self.catch_up(&mut ws).is_some();
            if is_caught_up && self.send_all(&mut ws).is_some() {
                return self;
            }
        }
    }

    /// The next event, or `None` if the server has closed.
    fn next(ws: &mut Ws) -> Option<Value> {
        loop {
            let frame = ws.try_frame().ok()??;
            match frame.opcode {
                TEXT => return Some(serde_json::from_slice(&frame.payload).expect("an event")),
                CLOSE => {
                    // 1013: this thread had no turn for so long that others filled its queue.
                    let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
                    assert!([1001, 1013].contains(&code), "closed with {code}");
                    return None;
                }
                _ => {}
            }
        }
    }

    fn catch_up(&mut self, ws: &mut Ws) -> Option<()> {
        loop {
            let page = Self::next(ws)?;
            let messages = page["messages"].as_array().expect("a page");
            messages.iter().for_each(|event| self.receive(event));
            if page["more"] == false {
                assert_eq!(page["complete"], true, "a gap");
                return Some(());
            }
        }
    }

    fn send_all(&mut self, ws: &mut Ws) -> Option<()> {
        // Repeats a message that has arrived already: its nonce must still be known after the restart.
        let arrived = self.arrived.load(SeqCst);
        if arrived > 0 {
            let text = arrived.to_string();
            ws.try_send(chat_with(&text, &text)).ok()?;
        }
        loop {
            // One message at a time: while it has not come back, it may or may not have arrived.
            if self.has_received_last() {
                if self.trial.is_over.load(SeqCst) {
                    return Some(());
                }
                self.sent += 1;
                thread::sleep(Duration::from_millis(2)); // Or the state grows without a bound.
            }
            let text = self.sent.to_string();
            ws.try_send(chat_with(&text, &text)).ok()?;
            while !self.has_received_last() {
                let event = Self::next(ws)?;
                self.receive(&event);
            }
        }
    }

    fn has_received_last(&self) -> bool {
        self.arrived.load(SeqCst) == self.sent
    }

    fn receive(&mut self, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        if !["chat", "user_joined", "user_left"].contains(&&*text("type")) {
            return;
        }
        let line = format!("{} {} {}", text("type"), text("user"), text("message"));
        if let Some(number) = line.strip_prefix(&format!("chat {} ", self.name)) {
            let number: usize = number.parse().expect("a number");
            if number <= self.arrived.load(SeqCst) {
                // A repeated nonce brings the same message back to its sender alone.
                let same = self.received.iter().rev().find(|(_, earlier)| *earlier == line);
                assert_eq!(same.expect("it was received").0, text("id"), "delivered twice");
                return;
            }
            self.arrived.store(number, SeqCst);
        }
        self.received.push((text("id"), line));
    }

    fn count(&self, begin: &str) -> usize {
        self.received.iter().filter(|(_, line)| line.starts_with(begin)).count()
    }

    /// Nothing was lost, repeated or reordered.
    fn check(&self) {
        let ResumingClient { name, sent, received, .. } = self;
        let are_sorted = received.iter().is_sorted_by(|(one, _), (other, _)| one < other);
        assert!(are_sorted, "{name}: ids strictly increase");
        let own = format!("chat {name} ");
        let numbers = received.iter().filter_map(|(_, line)| line.strip_prefix(&own)?.parse().ok());
        let numbers: Vec<usize> = numbers.collect();
        let expected: Vec<_> = (1..=*sent).collect();
        assert_eq!(numbers, expected, "{name}: its own, once each, in order");
        assert_eq!(self.count("user_left "), 0, "{name}: no user has left");
        assert!(self.count("user_joined ") <= CLIENTS / ROOMS, "{name}: each user joins once");
    }
}

/// Posts by REST, each message again with its nonce until it is acknowledged, and reads the list of messages in
/// between. Returns the ids of the messages.
fn post_all(trial: &Trial, room: &str, session: &str) -> Vec<String> {
    let mut ids = Vec::new();
    while !trial.is_over.load(SeqCst) {
        let target = format!("/rooms/{room}/messages");
        let (nonce, text) = (ids.len().to_string(), "x".repeat(1000));
        let message = json!({"message": text, "nonce": nonce});
        let ask = |request, method| {
            let mut http = connect(trial)?;
            http.try_send(request).ok()?;
            http.try_answer_to(method).ok()?
        };
        let post = post(&target).session(session).json(&message).bytes("a");
        match ask(post, "POST") {
            Some(answer) if answer.status < 300 => ids.push(answer.string("id")),
            Some(answer) => drop(answer.refused(503, "shutting_down")),
            None => {}
        }
        let list = get(&format!("{target}?limit=1000")).session(session).bytes("a");
        ask(list, "GET"); // Panics if the answer is cut.
    }
    ids
}

/// The ids of all messages that were posted by REST.
fn posted(server: &Server, room: &str, session: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut last = "unknown".to_owned();
    loop {
        let page = get(&format!("/rooms/{room}/messages?limit=1000&after={last}"));
        let page = server.ask(page.session(session)).expect(200).json();
        for message in page["messages"].as_array().expect("messages") {
            last = message["id"].as_str().expect("an id").to_owned();
            if message["user"].as_str().is_some_and(|user| user.starts_with("poster")) {
                ids.push(last.clone());
            }
        }
        if page["messages"].as_array().is_some_and(Vec::is_empty) {
            return ids;
        }
    }
}

/// Clients chat, post and read while `restart` is called again and again with the running server. Returns how many
/// connects were refused.
fn chat_through(
    restarts: usize,
    server: Server,
    mut restart: impl FnMut(Server) -> (Server, Duration),
) -> usize {
    let trial = &Trial {
        address: server.address().clone(),
        is_over: AtomicBool::new(false),
        has_failed: AtomicBool::new(false),
        refused: AtomicUsize::new(0),
    };
    let sessions: Vec<_> = (0..CLIENTS).map(|n| server.session(&format!("user {n}"))).collect();
    let rooms: Vec<_> = (0..ROOMS).map(|n| server.room(&sessions[n])).collect();
    let posters: Vec<_> = (0..POSTERS).map(|n| server.session(&format!("poster {n}"))).collect();
    posters.iter().zip(&rooms).for_each(|(session, room)| server.join(room, session));
    let arrived: Vec<_> = (0..CLIENTS).map(|_| AtomicUsize::new(0)).collect();
    let client = |n: usize| ResumingClient {
        name: format!("user {n}"),
        session: sessions[n].clone(),
        room: rooms[n % ROOMS].clone(),
        received: Vec::new(),
        sent: 0,
        arrived: &arrived[n],
        trial,
    };
    let mut times = Vec::new();
    let (clients, acknowledged, server) = thread::scope(|scope| {
        let _guard = Guard(trial);
        let mut server = server;
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        let clients = clients.into_iter();
        let chatting: Vec<_> = clients.map(|one| scope.spawn(move || one.chat())).collect();
        let post = |n: usize| {
            let (room, session) = (&rooms[n], &posters[n]);
            scope.spawn(move || post_all(trial, room, session))
        };
        let posting: Vec<_> = (0..POSTERS).map(post).collect();
        for _ in 0..restarts {
            let before: Vec<_> = arrived.iter().map(|one| one.load(SeqCst)).collect();
            wait_until("each client has chatted", || {
                let mut now = arrived.iter().zip(&before);
                now.all(|(now, before)| now.load(SeqCst) > before + 2)
            });
            let (successor, time) = restart(server);
            server = successor;
            times.push(time);
        }
        trial.is_over.store(true, SeqCst);
        let clients: Vec<ResumingClient> =
            chatting.into_iter().map(|one| one.join().expect("a client")).collect();
        let posted: Vec<_> = posting.into_iter().map(|one| one.join().expect("a poster")).collect();
        (clients, posted, server)
    });
    clients.iter().for_each(ResumingClient::check);
    for room in &rooms {
        let same: Vec<_> = clients.iter().filter(|client| client.room == *room).collect();
        // They entered at different times and stopped at different messages.
        let first = same.iter().map(|client| &client.received[0].0).max().unwrap();
        let last = same.iter().filter_map(|client| client.received.last()).map(|(id, _)| id).min();
        let last = last.unwrap();
        let common = |client: &ResumingClient| {
            let between = client.received.iter().filter(|(id, _)| id >= first && id <= last);
            between.cloned().collect::<Vec<_>>()
        };
        assert!(common(same[0]).len() > 2 * restarts);
        for client in &same[1..] {
            assert_eq!(common(client), common(same[0]), "all clients receive the same");
        }
    }
    for ((session, room), ids) in posters.iter().zip(&rooms).zip(&acknowledged) {
        assert_eq!(posted(&server, room, session), *ids, "each post once, in order");
    }
    times.sort_unstable();
    let sent: usize = clients.iter().map(|client| client.sent).sum();
    let posts: usize = acknowledged.iter().map(Vec::len).sum();
    let refused = trial.refused.load(SeqCst);
    println!(
        "{restarts} restarts: {sent} chats and {posts} posts, none lost, none twice; {refused} connects refused; from \
         SIGTERM to the successor {:?} to {:?}, median {:?}",
        times[0],
        times[times.len() - 1],
        times[times.len() / 2],
    );
    stop(server);
    refused
}

fn restarts() -> usize {
    if is_slow() { 200 } else { 3 }
}

const FLAGS: [&str; 6] = ["--leave-grace", "30s", "--message-rate", "0", "--history", "100000"];

/// Connecting always succeeds; every client receives every message once and in the same order, every post is
/// acknowledged once, and no client is reported as having left.
// contract §7.2 §8.4 §12.9 §12.10
#[test]
fn restarts_lose_repeat_and_reorder_no_message_and_refuse_no_connect() {
    let folder = Folder::new("handed-over");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let state = folder.state().display().to_string();
    let start = || {
        let listener = listener.try_clone().expect("another handle");
        let flags = [&["--state", &state][..], &FLAGS].concat();
        systemd::start(systemd::activated(listener.into(), None, &flags, &[]), 1)
    };
    let refused = chat_through(restarts(), start(), |server| {
        let began = Instant::now();
        stop(server);
        let server = start();
        (server, began.elapsed())
    });
    assert_eq!(refused, 0);
}

/// Runs the command again and again until it can listen.
fn wait_for_port(command: impl Fn() -> Command, is_over: &AtomicBool) -> Option<Server> {
    while !is_over.load(SeqCst) {
        let mut command = command();
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        match Server::try_watch(command.spawn().expect("the binary runs"), 1) {
            Ok(server) => return Some(server),
            Err(lines) => assert!(lines.concat().contains("in use"), "{lines:?}"),
        }
    }
    None
}

/// Regression: the port was free before the file was written. The successor came up without a session, and the
/// file was left for the one after it.
// contract §8.4 §12.10
#[test]
fn a_successor_that_waits_for_the_port_continues_with_the_state() {
    let folder = Folder::new("waiting");
    let state = folder.state().display().to_string();
    let on = |listen: &str| {
        command(&[&["--listen", listen, "--state", &state][..], &FLAGS].concat(), &[])
    };
    let server = Server::spawn(on("127.0.0.1:0"), 1);
    let Address::Tcp(address) = server.address() else { unreachable!("it is TCP") };
    let listen = address.to_string();
    chat_through(restarts(), server, |mut server| {
        let (is_over, is_ready) = (&AtomicBool::new(false), &AtomicUsize::new(0));
        thread::scope(|scope| {
            // Three wait; one of them gets the port.
            let wait = || {
                is_ready.fetch_add(1, SeqCst);
                let successor = wait_for_port(|| on(&listen), is_over);
                is_over.store(true, SeqCst);
                successor.map(|one| (one, Instant::now()))
            };
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(wait)).collect();
            wait_until("they wait", || is_ready.load(SeqCst) == 3);
            let began = Instant::now();
            server.terminate();
            let successors = waiting.into_iter().filter_map(|one| one.join().expect("it waits"));
            let mut successors: Vec<_> = successors.collect();
            assert_eq!(successors.len(), 1, "one has the port");
            let (successor, at) = successors.remove(0);
            assert_eq!(server.wait().code(), Some(0));
            assert!(!folder.state().exists(), "a stale file");
            (successor, at - began)
        })
    });
}

// contract §12.10
#[test]
fn the_port_is_free_only_when_the_state_is_complete() {
    let folder = Folder::new("port");
    let mut server = folder.start_with_metrics(&FLAGS[2..]);
    let Address::Tcp(address) = *server.address() else { unreachable!("it is TCP") };
    let ana = server.session("ana");
    let room = server.room(&ana);
    for _ in 0..200 {
        server.say(&room, &ana, &"x".repeat(3000));
    }
    let _open = server.socket(&room, &ana);
    server.terminate();
    let _port = loop {
        if let Ok(bound) = TcpListener::bind(address) {
            break bound;
        }
    };
    assert_eq!(folder.files(), ["state"]);
    // A successor continues while the old server waits for its last sockets to close.
    let successor = folder.start_with_metrics(&FLAGS[2..]);
    assert_eq!(successor.messages(&room, &ana).len(), 201);
    assert!(!server.has_ended());
    assert!(folder.files().is_empty());
}

/// Starts to read a list of 2 MB, tells the server to end, and returns the bytes of the answer.
fn list_at_the_end(name: &str, memory: &str) -> Vec<u8> {
    let folder = Folder::new(name);
    let flags = [&FLAGS[2..], &["--max-memory", memory]].concat();
    let server = folder.start_with_metrics(&flags);
    let ana = server.session("ana");
    let room = server.room(&ana);
    let mut http = server.http();
    let say = post(&format!("/rooms/{room}/messages")).session(&ana);
    let say = say.json(&json!({"message": "x".repeat(4000)}));
    for answer in http.pipeline(&vec![say; 500]) {
        answer.expect(201);
    }
    let mut reader = server.http_narrow();
    reader.send_request(&get(&format!("/rooms/{room}/messages?limit=1000")).session(&ana));
    let Stream::Tcp(stream) = reader.stream() else { unreachable!("it is TCP") };
    uninterrupted(|| stream.peek(&mut [0])).expect("the answer begins");
    server.terminate();
    wait_until("the state is written", || folder.state().exists());
    let mut bytes = Vec::new();
    reader.into_stream().read_to_end(&mut bytes).expect("an end");
    bytes
}

/// Regression: a list that was being read when the server was told to end was cut.
// contract §12.9
#[test]
fn a_list_that_is_being_read_at_the_end_is_complete() {
    let bytes = list_at_the_end("list", "16M");
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let messages: Value = serde_json::from_slice(&bytes[head + 4..]).expect("a whole list");
    assert_eq!(messages["messages"].as_array().map(Vec::len), Some(500));
}

/// What is left of a list may take a fifth of the memory, together with all other output.
#[test]
fn a_list_that_exceeds_the_memory_for_output_at_the_end_is_cut() {
    let bytes = list_at_the_end("long-list", "6M");
    assert!(bytes.starts_with(b"HTTP/1.1 200 "));
    assert!(bytes.len() < 1 << 20, "{}", bytes.len());
}

/// A request that arrives after SIGTERM, or was not read before it, changes nothing and is told so.
// contract §12.9
#[test]
fn a_request_that_has_arrived_at_the_end_is_refused_with_503() {
    let server = Server::start(&[]);
    let mut waiting: Vec<_> = (0..20).map(|_| server.http()).collect();
    for http in &mut waiting {
        http.ask(&get("/ping")).expect(200);
    }
    server.while_stopped(|| {
        server.terminate();
        for http in &mut waiting {
            http.send_request(&post("/sessions").json(&json!({"username": "ana"})));
        }
    });
    for http in &mut waiting {
        let answer = http.answer();
        // It may read them before the signal.
        if answer.status != 201 {
            answer.refused(503, "shutting_down");
        }
        http.expect_end();
    }
}

/// Whenever the process is killed, the path has the file of before or the new one.
// contract §12.10
#[test]
fn a_kill_leaves_a_whole_file_or_none() {
    let folder = Folder::new("killed");
    let flags = &FLAGS[2..];
    let server = folder.start_with_metrics(flags);
    let (room, ana, _bob) = server.room_of_two();
    for _ in 0..100 {
        server.say(&room, &ana.session, &"x".repeat(3000));
    }
    let session = ana.session.clone();
    drop((ana, _bob));
    stop(server);
    let before = fs::read(folder.state()).expect("a state");
    for delay in 0..8 {
        let mut server = folder.start_with_metrics(flags);
        let _open = server.socket(&room, &session); // It waits for this one to close.
        server.say(&room, &session, "one more");
        fs::write(folder.state(), &before).expect("a file of before");
        server.terminate();
        // Until it has begun to write, or has written.
        let is_begun = || fs::read(folder.state()).is_ok_and(|now| now != before);
        wait_until("it writes", || folder.0.join("state.new").exists() || is_begun());
        thread::sleep(Duration::from_micros(200 * delay));
        server.signal(Signal::KILL);
        server.wait();
        let successor = folder.start_with_metrics(flags);
        assert!(!successor.stderr().concat().contains("refused"), "{:?}", successor.stderr());
        assert!(successor.messages(&room, &session).len() >= 101);
        drop(successor);
        fs::write(folder.state(), &before).expect("a file of before");
    }
}
