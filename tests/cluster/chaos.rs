//! Writers with nonces and readers that resume, through a balancer, while servers and their store are
//! killed, stopped, cut off and started again.
//!
//! What the clients do is what the contract tells them to do: a post is repeated with its nonce until it
//! is answered, and a reader comes back with the last id that it has seen. Then every message that
//! was answered is read once, in one order, by every reader.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::post;
use crate::nodes::Nodes;
use crate::server::{Address, is_slow, wait_until};
use crate::stores::Store;

/// A client may be without a server for so long in a row.
const PATIENCE: Duration = Duration::from_secs(40);

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    Some(stream)
}

/// Posts a message, as often as it takes, and returns its id.
fn say(address: SocketAddr, room: &str, session: &str, text: &str) -> String {
    let begun = Instant::now();
    let body = format!(r#"{{"message":"{text}","nonce":"{text}"}}"#);
    let request = format!(
        "POST /rooms/{room}/messages HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\
         Authorization: Bearer {session}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    loop {
        let mut answer = String::new();
        if let Some(mut stream) = connect(address) {
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read_to_string(&mut answer);
        }
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if head.starts_with("HTTP/1.1 20") {
            if let Ok(message) = serde_json::from_str::<Value>(body) {
                return message["id"].as_str().expect("an id").to_owned();
            }
        }
        let is_refused = head.is_empty() || head.starts_with("HTTP/1.1 50");
        assert!(is_refused, "{text}: {answer}");
        assert!(begun.elapsed() < PATIENCE, "{text}: {answer:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a reader has been sent.
#[derive(Default)]
struct Seen {
    chats: Vec<(String, String)>,
    last: Option<String>,
    resumed: usize,
    has_lost: bool,
}

impl Seen {
    fn on_message(&mut self, message: &Value) {
        let id = message["id"].as_str().expect("an id").to_owned();
        assert!(self.last.as_ref() < Some(&id), "{id} after {:?}", self.last);
        if message["type"] == "chat" {
            let text = message["message"].as_str().expect("a text").to_owned();
            self.chats.push((id.clone(), text));
        }
        self.last = Some(id);
    }

    fn is_done(&self) -> bool {
        self.chats.last().is_some_and(|(_, text)| text == "end")
    }
}

/// Reads the room's events, and comes back with the last id whenever the stream breaks.
fn listen(address: SocketAddr, room: &str, session: &str) -> Seen {
    let mut seen = Seen::default();
    let mut alive = Instant::now();
    while !seen.is_done() {
        assert!(alive.elapsed() < PATIENCE, "no server for a minute");
        let resume = seen.last.as_ref().map(|id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!(
            "GET /rooms/{room}/events?history=1000 HTTP/1.0\r\nHost: chat\r\n\
             Authorization: Bearer {session}\r\n{}\r\n",
            resume.unwrap_or_default()
        );
        let Some(mut stream) = connect(address) else { continue };
        let _ = stream.write_all(request.as_bytes());
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let status = lines.next().unwrap_or_default();
        if !status.contains(" 200 ") {
            let is_refused =
                status.is_empty() || status.contains(" 50") || status.contains(" 409 ");
            assert!(is_refused, "{status}");
            thread::sleep(Duration::from_millis(50));
            continue;
        }
        seen.resumed += 1;
        for line in lines.skip_while(|line| !line.is_empty()).skip(1) {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { break };
            if event["type"] != "ping" {
                alive = Instant::now();
            }
            assert!(alive.elapsed() < PATIENCE, "nothing for a minute after {:?}", seen.last);
            if event["type"] == "history" {
                let messages = event["messages"].as_array().expect("messages");
                messages.iter().for_each(|message| seen.on_message(message));
                seen.has_lost |= event["complete"] == false;
            } else if event["id"].is_string() {
                seen.on_message(&event);
            }
            if seen.is_done() {
                break;
            }
        }
    }
    seen
}

/// What goes wrong, one after the other.
fn break_things(nodes: &mut Nodes, store: &mut Store) {
    let pause = |seconds: u64| thread::sleep(Duration::from_secs(seconds));
    let pid = |store: &Store| Pid::from_raw(store.pid() as i32).expect("a process");
    nodes.kill(0);
    pause(1);
    nodes.restart(0);
    pause(1);
    nodes.stop(1);
    pause(6); // Longer than the lease.
    nodes.resume(1);
    pause(1);
    for _ in 0..10 {
        store.admin().must(&["CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes"]);
        thread::sleep(Duration::from_millis(150));
    }
    kill_process(pid(store), Signal::STOP).expect("the store stops");
    pause(4);
    kill_process(pid(store), Signal::CONT).expect("the store goes on");
    pause(2);
    store.restart();
    pause(2);
    nodes.terminate(2);
    nodes.restart(2);
    store.admin().must(&["FUNCTION", "FLUSH"]);
    pause(1);
    nodes.kill(1);
    nodes.kill(2);
    pause(1);
    nodes.restart(1);
    nodes.restart(2);
    pause(1);
}

#[test]
fn every_message_that_was_answered_is_read_once_by_every_reader() {
    if !is_slow() {
        return eprintln!("skipped: it takes half a minute, SLOW_TESTS=1 runs it");
    }
    Store::each(|store| {
        let options = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut own = Store::start(store.engine(), &options);
        let flags = [
            "--cluster-lease",
            "4s",
            "--cluster-timeout",
            "2s",
            "--message-rate",
            "0",
            "--room-ttl",
            "10m",
            "--history",
            "100000",
        ];
        let mut nodes = Nodes::start(3, &own, &flags);
        let Address::Tcp(address) = nodes.address().clone() else { panic!("not an address") };
        let owner = nodes.session("owner");
        let room = nodes.room(&owner);
        let readers: Vec<_> = (0..4).map(|n| nodes.session(&format!("reader {n}"))).collect();
        let writers: Vec<_> = (0..6)
            .map(|n| {
                let session = nodes.session(&format!("writer {n}"));
                nodes.ask(post(&format!("/rooms/{room}/join")).session(&session)).expect(200);
                session
            })
            .collect();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let (room, is_over) = (&room, &is_over);
        let (answered, seen) = thread::scope(|scope| {
            let listening: Vec<_> = readers
                .iter()
                .map(|session| scope.spawn(move || listen(address, room, session)))
                .collect();
            let writing: Vec<_> = writers
                .iter()
                .enumerate()
                .map(|(writer, session)| {
                    scope.spawn(move || {
                        let mut answered = Vec::new();
                        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                            let text = format!("{writer}-{}", answered.len());
                            let id = say(address, room, session, &text);
                            answered.push((id, text));
                            thread::sleep(Duration::from_millis(5));
                        }
                        answered
                    })
                })
                .collect();
            break_things(&mut nodes, &mut own);
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            let answered = writing.into_iter().flat_map(|one| one.join().expect("a writer"));
            let mut answered: Vec<_> = answered.collect();
            answered.push((say(address, room, &writers[0], "end"), "end".to_owned()));
            let seen = listening.into_iter().map(|one| one.join().expect("a reader"));
            (answered, seen.collect::<Vec<_>>())
        });
        let mut expected = answered;
        expected.sort();
        assert!(expected.len() > 100, "{} messages", expected.len());
        for reader in &seen {
            assert!(!reader.has_lost, "the store has lost nothing");
            assert!(reader.resumed > 1, "nothing has happened to this reader");
            assert_eq!(reader.chats, expected);
        }
        // Nobody is present who is not, once all have gone.
        let users = format!("/rooms/{room}/users");
        wait_until("the readers have left", || {
            let users = nodes.ask(crate::client::get(&users).session(&owner)).json();
            users["users"].as_array().is_some_and(Vec::is_empty)
        });
    });
}
