//! Bystanders: the members of two rooms, who chat all the time and check every event that they receive.
//!
//! One thread runs the five members of a room. In each round one of them sends a chat, or two of them in every other
//! round, and all members wait until they have received it. A report shows how long that takes. A round that is late
//! because the one before took long counts from the time at which it was due.

use std::borrow::Cow;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;

use crate::client::{CLOSE, FIN, PING, PONG, TEXT, Ws, chat, close_payload, frame, get};
use crate::proxied;
use crate::server::{Server, wait_until};

/// Rooms, and members in each.
pub const ROOMS: usize = 2;
pub const MEMBERS: usize = 5;

/// From the start of one round to the start of the next.
const PACE: Duration = Duration::from_millis(20);

/// If a room is later than this, it does not catch up: its own chats would exceed their rate.
const BEHIND_MAX: Duration = Duration::from_secs(2);

/// The fields of an event that a member checks. Borrowed, since a report includes the time for parsing.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Event<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// Shared by the threads of the rooms and the trial.
#[derive(Default)]
struct Control {
    is_under_attack: AtomicBool,
    is_unmeasured: AtomicBool,
    is_over: AtomicBool,
    rounds: [AtomicUsize; ROOMS],
}

/// Two rooms that chat until `finish` or `expect_shutdown`.
pub struct Bystanders {
    control: Arc<Control>,
    rooms: Vec<JoinHandle<Room>>,
    /// The ids of their rooms, which attackers may enter.
    pub ids: Vec<String>,
}

struct Member {
    ws: Ws,
    session: String,
    /// The ids of all events since all members have entered.
    log: Vec<String>,
    /// The payload of the server's close frame.
    closed: Option<Vec<u8>>,
}

struct Room {
    id: String,
    number: usize,
    members: Vec<Member>,
    /// How long each member waited for each message.
    latencies: [Vec<Duration>; 2],
}

/// How long messages took: before the attack, and under attack.
pub type Latencies = [Vec<Duration>; 2];

impl Bystanders {
    /// Opens the rooms; when all members have entered, they start to chat.
    pub fn start(server: &Server) -> Bystanders {
        let control = Arc::new(Control::default());
        let rooms: Vec<Room> = (0..ROOMS).map(|number| Room::open(server, number)).collect();
        let ids = rooms.iter().map(|room| room.id.clone()).collect();
        let start = |room: Room| {
            let control = Arc::clone(&control);
            thread::spawn(move || room.chat(&control))
        };
        let rooms = rooms.into_iter().map(start).collect();
        Bystanders { control, rooms, ids }
    }

    /// Returns when each room has chatted for `rounds` more rounds.
    pub fn while_they_chat(&self, rounds: usize) {
        let done = || self.control.rounds.iter().map(|done| done.load(Ordering::SeqCst));
        let ends: Vec<usize> = done().map(|done| done + rounds).collect();
        wait_until("the members have chatted for some rounds", || {
            assert!(!self.rooms.iter().any(JoinHandle::is_finished), "a room has stopped chatting");
            done().zip(&ends).all(|(done, end)| done >= *end)
        });
    }

    /// Sets whether latencies count as under attack, from the next round on.
    pub fn set_under_attack(&self, is_under_attack: bool) {
        self.control.is_under_attack.store(is_under_attack, Ordering::SeqCst);
    }

    /// Sets whether latencies count not at all, from the next round on.
    pub fn set_unmeasured(&self, is_unmeasured: bool) {
        self.control.is_unmeasured.store(is_unmeasured, Ordering::SeqCst);
    }

    /// Ends the chat. Asserts that all members of a room are connected and have received the same events in the same
    /// order without repeats, which are those of the history.
    pub fn finish(self, server: &Server) -> (Latencies, Vec<Ws>) {
        self.control.is_over.store(true, Ordering::SeqCst);
        let (mut latencies, mut sockets) = (Latencies::default(), Vec::new());
        for room in self.rooms {
            let mut room = room.join().expect("a room");
            room.send_last_chat();
            room.check_history(server);
            for (all, own) in latencies.iter_mut().zip(&mut room.latencies) {
                all.append(own);
            }
            sockets.extend(room.members.into_iter().map(|member| member.ws));
        }
        (latencies, sockets)
    }

    /// Asserts that the server closes all members with 1001, after the same events in the same order.
    pub fn expect_shutdown(self) -> Latencies {
        let mut latencies = Latencies::default();
        for room in self.rooms {
            let mut room = room.join().expect("a room");
            room.expect_closed();
            for (all, own) in latencies.iter_mut().zip(&mut room.latencies) {
                all.append(own);
            }
        }
        latencies
    }
}

impl Room {
    fn open(server: &Server, number: usize) -> Room {
        let address = |member: usize| format!("192.0.2.{}", 1 + number * MEMBERS + member);
        let owner = proxied::session(server, &format!("member {number}.0"), &address(0));
        let id = proxied::room(server, &owner, &address(0));
        let mut members: Vec<Member> = Vec::new();
        for member in 0..MEMBERS {
            let name = format!("member {number}.{member}");
            let session = match member {
                0 => owner.clone(),
                _ => proxied::session(server, &name, &address(member)),
            };
            let mut ws = proxied::socket(server, &id, &session, &address(member));
            ws.expect_join(&name);
            for member in &mut members {
                member.ws.expect_join(&name);
            }
            members.push(Member { ws, session, log: Vec::new(), closed: None });
        }
        Room { id, number, members, latencies: Latencies::default() }
    }

    fn chat(mut self, control: &Control) -> Room {
        let mut due = Instant::now();
        let mut round = 0;
        while !control.is_over.load(Ordering::SeqCst) {
            let now = Instant::now();
            self.read_until(due);
            let began = due.max(Instant::now().checked_sub(BEHIND_MAX).unwrap_or(due));
            let began = if now < due { Instant::now() } else { began };
            due = began.max(due) + PACE;
            let attacked = usize::from(control.is_under_attack.load(Ordering::SeqCst));
            let is_measured = !control.is_unmeasured.load(Ordering::SeqCst);
            let sent = self.send_chats(round);
            for member in &mut self.members {
                if member.expect_chats(&sent).is_none() {
                    return self;
                }
                if is_measured {
                    self.latencies[attacked].push(began.elapsed());
                }
            }
            round += 1;
            control.rounds[self.number].store(round, Ordering::SeqCst);
        }
        self
    }

    /// Reads events of attackers in the room until the next round is due, so that a round does not start with a backlog
    /// to read.
    fn read_until(&mut self, until: Instant) {
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let left = Timespec::try_from(left).expect("a short time");
            let streams = self.members.iter().map(|member| member.ws.stream().as_fd());
            let mut fds: Vec<PollFd> =
                streams.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            poll(&mut fds, Some(&left)).expect("a poll");
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            for (member, _) in self.members.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
                loop {
                    let Some(received) = member.read() else { return };
                    assert_eq!(received, None, "a member's chat between two rounds");
                    if !member.ws.has_more() {
                        break;
                    }
                }
            }
        }
    }

    /// Sends one chat, or two at once, and returns their texts.
    fn send_chats(&mut self, round: usize) -> Vec<String> {
        let mut sent = Vec::new();
        for turn in 0..=round % 2 {
            let sender = (round + turn) % MEMBERS;
            let text = format!("{} {round} {turn}", self.number);
            // If the server has closed the socket, the next read reports that.
            let _ = self.members[sender].ws.try_send(chat(&text));
            sent.push(text);
        }
        sent
    }

    /// Asserts that all members receive a last chat and have received the same events.
    fn send_last_chat(&mut self) {
        let last = vec![format!("{} goodbye", self.number)];
        self.members[0].ws.chat(&last[0]);
        for member in &mut self.members {
            let closed = member.expect_chats(&last).is_none();
            assert!(!closed, "a member was closed: {:?}", member.closed);
        }
        self.check_logs();
    }

    fn expect_closed(&mut self) {
        for member in &mut self.members {
            while let Some(payload) = member.next() {
                member.log.extend(event(&payload).id.map(Cow::into_owned));
            }
            assert_eq!(member.closed, Some(close_payload(1001, "server shutting down")));
        }
        self.check_logs();
    }

    fn check_logs(&self) {
        let log = &self.members[0].log;
        assert!(log.is_sorted_by(|one, other| one < other), "ids increase");
        for member in &self.members[1..] {
            assert_eq!(&member.log, log, "members received different events");
        }
    }

    fn check_history(&self, server: &Server) {
        let Member { session, log, .. } = &self.members[0];
        let messages = server.messages(&self.id, session);
        let ids: Vec<&str> = messages.iter().filter_map(|message| message["id"].as_str()).collect();
        // The joins at the beginning are in the history and not in the log.
        let common = ids.len().min(log.len());
        assert!(common > 0, "a history");
        assert_eq!(
            ids[ids.len() - common..],
            log[log.len() - common..],
            "the history differs from the events received"
        );
    }
}

impl Member {
    /// Reads as many chats from members as `sent` has, and asserts that they are those. `None` if the server has
    /// closed the socket.
    fn expect_chats(&mut self, sent: &[String]) -> Option<()> {
        let mut received = Vec::new();
        while received.len() < sent.len() {
            received.extend(self.read()?);
        }
        received.sort_unstable();
        assert_eq!(received, sent, "the chats of this round");
        Some(())
    }

    /// Reads an event: the text of a member's chat, or `Some(None)` for any other event. `None` if the server has
    /// closed the socket.
    fn read(&mut self) -> Option<Option<String>> {
        let payload = self.next()?;
        let event = event(&payload);
        self.log.extend(event.id.map(Cow::into_owned));
        match &*event.r#type {
            "chat" if event.user.starts_with("member ") => Some(Some(event.message.into_owned())),
            // Attackers may enter, leave and chat, and the operator announces something.
            "chat" | "user_joined" | "user_left" | "typing" | "announcement" => Some(None),
            other => panic!("an event {other}"),
        }
    }

    /// The JSON of the next event, or `None` once the server has closed the socket. Answers pings.
    fn next(&mut self) -> Option<Vec<u8>> {
        while self.closed.is_none() {
            let frame_read = self.ws.try_frame().expect("a frame");
            let read = frame_read.expect("a close frame before the end");
            match read.opcode {
                PING => self.ws.pong(read.payload),
                PONG => {}
                CLOSE => {
                    let _ = self.ws.try_send(frame(FIN | CLOSE, &read.payload));
                    self.closed = Some(read.payload);
                }
                opcode => {
                    assert_eq!(opcode, TEXT);
                    return Some(read.payload);
                }
            }
        }
        None
    }
}

fn event(payload: &[u8]) -> Event<'_> {
    serde_json::from_slice(payload).expect("an event")
}

/// Whether a new connection gets a response from `/health`.
pub fn is_healthy(server: &Server) -> bool {
    server.ask(get("/health")).status == 200
}
