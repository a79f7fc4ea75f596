//! What one room, session or address can make the server do at once, while others chat: two hundred posts to thousands
//! of recipients, as many upgrades, the end of the room, the end of all its connections; and one session that comes and
//! goes. Filling the room is no part of the measurement.

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::client::{
    CLOSE, FIN, Http, Request, Stream, Ws, close_payload, delete, frame, get, post,
};
use crate::proxied::{address, ask_all, enter, from};
use crate::trial::{Attack, connections, is_reporting, scale, under_attack};

/// Requests that arrive at once.
pub const AT_ONCE: usize = 200;

/// The server's limit on sockets of a session in a room.
const SESSION_SOCKETS: usize = 20;

/// A room of thousands, most of whom only read.
pub struct LargeRoom {
    pub id: String,
    pub owner: String,
    /// The sessions, each with many connections.
    sessions: Vec<String>,
    /// Reads all events and checks them.
    pub watcher: Ws,
    pub readers: Readers,
}

/// Connections whose events are only counted as read.
pub struct Readers(Vec<TcpStream>);

impl LargeRoom {
    fn fill(attack: &Attack, people: usize) -> LargeRoom {
        let owner = attack.session(0);
        let id = attack.room(&owner);
        let watcher = attack.socket(&id, &owner, 0);
        let mut room =
            LargeRoom { id, owner, sessions: Vec::new(), watcher, readers: Readers(Vec::new()) };
        while room.readers.0.len() < people {
            let number = 1 + room.sessions.len();
            let session = attack.session(number);
            for _ in 0..SESSION_SOCKETS.min(people - room.readers.0.len()) {
                let ws = attack.socket(&room.id, &session, number);
                let Stream::Tcp(stream) = ws.into_stream() else { panic!("only TCP here") };
                stream.set_nonblocking(true).expect("a socket can be non-blocking");
                room.readers.0.push(stream);
            }
            room.sessions.push(session);
            room.readers.read();
            while room.watcher.readable_within(Duration::from_millis(1)) {
                room.watcher.event();
            }
        }
        room
    }
}

impl Readers {
    /// Reads on all connections until `act` has returned and, with `until_end`, all have ended.
    pub fn while_reading<T>(&mut self, until_end: bool, act: impl FnOnce() -> T) -> T {
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) || until_end && !self.0.is_empty() {
                    self.read();
                }
            });
            // Also if it panics, or the scope would wait for the reading thread without end.
            let result = catch_unwind(AssertUnwindSafe(act));
            is_done.store(true, Ordering::SeqCst);
            result.unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Waits a moment for input, and discards it. Drops the connections that have ended.
    fn read(&mut self) {
        let moment = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        let fds =
            self.0.iter().map(|stream| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN));
        let mut fds: Vec<PollFd> = fds.collect();
        poll(&mut fds, Some(&moment)).expect("a poll");
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (mut ready, mut buffer) = (ready.into_iter(), [0; 64 * 1024]);
        self.0.retain_mut(|stream| {
            let is_ready = ready.next().unwrap_or_default();
            !is_ready || !matches!(stream.read(&mut buffer), Ok(0))
        });
    }
}

/// Sends each request on a connection of its own, all at once.
pub fn send_at_once(attack: &Attack, requests: &[Request]) -> Vec<Http> {
    let mut all: Vec<Http> = requests.iter().map(|_| attack.server.http()).collect();
    for (http, request) in all.iter_mut().zip(requests) {
        http.send_request(request);
    }
    all
}

/// Fills a room without measuring, then measures `act`.
pub fn in_a_large_room(what: &str, flags: &[&str], act: impl Fn(&Attack, &mut LargeRoom) + Sync) {
    under_attack(what, flags, |attack| {
        let people = connections(if is_reporting() { 9000 } else { scale(2000, 60) });
        let mut room = attack.unmeasured(|| LargeRoom::fill(attack, people));
        act(attack, &mut room);
    });
}

#[test]
fn posts_to_thousands_at_once_reach_all_of_them_and_disturb_no_member() {
    in_a_large_room("large room: 200 posts at once", &[], |attack, room| {
        let LargeRoom { id, sessions, watcher, readers, .. } = room;
        readers.while_reading(false, || {
            let request = |number: usize| {
                let session = &sessions[number % sessions.len()];
                let post = post(&format!("/rooms/{id}/messages")).session(session);
                from(post.json(&json!({"message": format!("post {number}")})), &address(number))
            };
            let requests: Vec<Request> = (0..AT_ONCE).map(request).collect();
            let mut posted: Vec<String> = send_at_once(attack, &requests)
                .iter_mut()
                .map(|http| http.answer().expect(201).string("id"))
                .collect();
            posted.sort_unstable();
            let mut heard = Vec::new();
            while heard.len() < AT_ONCE {
                let event = watcher.event();
                if event["type"] == "chat" {
                    heard.push(event["id"].as_str().expect("an id").to_owned());
                }
            }
            assert_eq!(heard, posted, "a post is lost, doubled or out of order");
        });
    });
}

#[test]
fn upgrades_at_once_into_a_room_of_thousands_are_all_served_and_disturb_no_member() {
    in_a_large_room("large room: 200 upgrades at once", &[], |attack, room| {
        let first = 10_000;
        let open = |number| (number, attack.session(number));
        let came: Vec<_> = attack.unmeasured(|| (first..first + AT_ONCE).map(open).collect());
        let entered = room.readers.while_reading(false, || {
            let request =
                |(number, session): &(usize, String)| enter(&room.id, session, &address(*number));
            let requests: Vec<Request> = came.iter().map(request).collect();
            let all: Vec<Ws> =
                send_at_once(attack, &requests).into_iter().map(Http::upgraded).collect();
            attack.while_members_chat(scale(25, 2));
            all
        });
        drop(entered);
    });
}

#[test]
fn deleting_a_room_of_thousands_closes_all_of_them_and_disturbs_no_member() {
    in_a_large_room("large room: deleted", &[], |attack, room| {
        let delete = delete(&format!("/rooms/{}", room.id)).session(&room.owner);
        room.readers.while_reading(true, || attack.server.ask(delete).expect(200));
        attack.forget_room(&room.id);
        assert_eq!(room.watcher.until_end().map(|(code, _)| code), Some(4410));
    });
}

#[test]
fn thousands_of_close_frames_at_once_are_all_answered_and_disturb_no_member() {
    in_a_large_room("large room: all close at once", &[], |_, room| {
        let close = frame(FIN | CLOSE, close_payload(1000, ""));
        for stream in &mut room.readers.0 {
            std::io::Write::write_all(stream, &close).expect("the socket's buffer is empty");
        }
        room.readers.while_reading(true, || ());
    });
}

/// Each joining is an event in the history, which must not push out what was said.
#[test]
fn a_session_that_comes_and_goes_pushes_nothing_out_of_the_history_and_disturbs_no_member() {
    under_attack("comes and goes 500 times", &["--leave-grace", "0"], |attack| {
        let (owner, guest) = (attack.session(0), attack.session(1));
        let room = attack.room(&owner);
        let mut member = attack.socket(&room, &owner, 0);
        let say = |number: usize| {
            let post = post(&format!("/rooms/{room}/messages")).session(&owner);
            from(post.json(&json!({"message": format!("chat {number}")})), &address(0))
        };
        let said = ask_all(attack.server, &(0..40).map(say).collect::<Vec<_>>());
        let said: Vec<String> =
            said.into_iter().map(|answer| answer.expect(201).string("id")).collect();
        for _ in 0..scale(500, 60) {
            // Over its limit it is refused.
            let request = enter(&room, &guest, &address(1));
            if let Some(ws) = attack.server.http().try_upgrade(&request) {
                ws.reset();
            }
            while member.readable_within(Duration::from_millis(1)) {
                member.event();
            }
        }
        let history =
            from(get(&format!("/rooms/{room}/messages?limit=500")).session(&owner), &address(0));
        let history = attack.server.ask(history).expect(200).json();
        let kept = history["messages"].as_array().expect("messages");
        let is_kept = |id: &&String| kept.iter().any(|message| message["id"] == id.as_str());
        assert_eq!(
            said.iter().filter(is_kept).count(),
            said.len(),
            "chats are gone from the history"
        );
    });
}
