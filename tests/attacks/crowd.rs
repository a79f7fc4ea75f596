//! The innocent: members of two rooms who chat all the time, and check all that they are told.
//!
//! A room's five members are served by one thread. In each round one of them speaks, in every other round two at
//! once, and all wait until they have heard it. The time that takes is what a report shows; a round that begins
//! late because the one before took long counts from when it was due.

use std::borrow::Cow;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;

use crate::client::{CLOSE, FIN, PING, PONG, TEXT, Ws, chat, close_payload, frame, get};
use crate::server::{Server, wait_until};
use crate::strangers;

/// Rooms, and members of each.
pub const ROOMS: usize = 2;
pub const MEMBERS: usize = 5;

/// From the beginning of one round to that of the next.
const PACE: Duration = Duration::from_millis(20);

/// A crowd that is further behind does not try to catch up, or its own rates would stop it.
const BEHIND_MAX: Duration = Duration::from_secs(2);

/// An event, as far as a member looks at it: reading is a part of what a report shows.
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

/// What the crowd's threads and the trial share.
#[derive(Default)]
struct Control {
    is_attacked: AtomicBool,
    is_over: AtomicBool,
    rounds: [AtomicUsize; ROOMS],
}

/// Two rooms that chat until they are told to stop.
pub struct Crowd {
    control: Arc<Control>,
    rooms: Vec<JoinHandle<Room>>,
    /// Their ids, for attackers who want to be among the innocent.
    pub ids: Vec<String>,
}

struct Member {
    ws: Ws,
    session: String,
    /// The ids of all events since everybody had come.
    log: Vec<String>,
    /// By a close frame, with code and reason.
    closed: Option<Vec<u8>>,
}

struct Room {
    id: String,
    number: usize,
    members: Vec<Member>,
    /// How long each member waited for each message: while all was calm, and under attack.
    waits: [Vec<Duration>; 2],
}

/// How long a message took, in the order of `[calm, attacked]`.
pub type Waits = [Vec<Duration>; 2];

impl Crowd {
    /// Everybody has come in; nobody speaks yet.
    pub fn gather(server: &Server) -> Crowd {
        let control = Arc::new(Control::default());
        let rooms: Vec<Room> = (0..ROOMS).map(|number| Room::open(server, number)).collect();
        let ids = rooms.iter().map(|room| room.id.clone()).collect();
        let start = |room: Room| {
            let control = Arc::clone(&control);
            thread::spawn(move || room.chat(&control))
        };
        let rooms = rooms.into_iter().map(start).collect();
        Crowd { control, rooms, ids }
    }

    /// Returns when each room has been through that many more rounds.
    pub fn while_it_chats(&self, rounds: usize) {
        let done = || self.control.rounds.iter().map(|done| done.load(Ordering::SeqCst));
        let ends: Vec<usize> = done().map(|done| done + rounds).collect();
        wait_until("the members have chatted on", || {
            assert!(!self.rooms.iter().any(JoinHandle::is_finished), "a room has stopped chatting");
            done().zip(&ends).all(|(done, end)| done >= *end)
        });
    }

    /// From the next round on, what it takes counts as under attack, or no more.
    pub fn set_attacked(&self, is_attacked: bool) {
        self.control.is_attacked.store(is_attacked, Ordering::SeqCst);
    }

    /// They stop, and nothing was lost: everybody has heard the same, in the same order, nothing twice, which is
    /// what the history says; and everybody is still there.
    pub fn finish(self, server: &Server) -> (Waits, Vec<Ws>) {
        self.control.is_over.store(true, Ordering::SeqCst);
        let (mut waits, mut sockets) = (Waits::default(), Vec::new());
        for room in self.rooms {
            let mut room = room.join().expect("a room that chatted to the end");
            room.part();
            room.check_history(server);
            for (all, own) in waits.iter_mut().zip(&mut room.waits) {
                all.append(own);
            }
            sockets.extend(room.members.into_iter().map(|member| member.ws));
        }
        (waits, sockets)
    }

    /// The server says goodbye while they chat: each is told so, after the same events in the same order.
    pub fn expect_shutdown(self) -> Waits {
        let mut waits = Waits::default();
        for room in self.rooms {
            let mut room = room.join().expect("a room that chatted to the end");
            room.read_goodbyes();
            for (all, own) in waits.iter_mut().zip(&mut room.waits) {
                all.append(own);
            }
        }
        waits
    }
}

impl Room {
    fn open(server: &Server, number: usize) -> Room {
        let address = |member: usize| format!("192.0.2.{}", 1 + number * MEMBERS + member);
        let owner = strangers::session(server, &format!("member {number}.0"), &address(0));
        let id = strangers::room(server, &owner, &address(0));
        let mut members: Vec<Member> = Vec::new();
        for member in 0..MEMBERS {
            let name = format!("member {number}.{member}");
            let session = match member {
                0 => owner.clone(),
                _ => strangers::session(server, &name, &address(member)),
            };
            let mut ws = strangers::socket(server, &id, &session, &address(member));
            ws.expect_join(&name);
            for member in &mut members {
                member.ws.expect_join(&name);
            }
            members.push(Member { ws, session, log: Vec::new(), closed: None });
        }
        Room { id, number, members, waits: Waits::default() }
    }

    fn chat(mut self, control: &Control) -> Room {
        let mut due = Instant::now();
        let mut round = 0;
        while !control.is_over.load(Ordering::SeqCst) {
            let now = Instant::now();
            self.listen(due);
            let began = due.max(Instant::now().checked_sub(BEHIND_MAX).unwrap_or(due));
            let began = if now < due { Instant::now() } else { began };
            due = began.max(due) + PACE;
            let attacked = usize::from(control.is_attacked.load(Ordering::SeqCst));
            let said = self.speak(round);
            for member in &mut self.members {
                if member.hear(&said).is_none() {
                    return self;
                }
                self.waits[attacked].push(began.elapsed());
            }
            round += 1;
            control.rounds[self.number].store(round, Ordering::SeqCst);
        }
        self
    }

    /// Until then everybody reads what strangers do in the room, as it comes: what is measured is the server, and
    /// not how long a client reads that has not looked for a while.
    fn listen(&mut self, until: Instant) {
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let left = Timespec::try_from(left).expect("less than an age");
            let streams = self.members.iter().map(|member| member.ws.stream().as_fd());
            let mut fds: Vec<PollFd> =
                streams.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            poll(&mut fds, Some(&left)).expect("a poll");
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            for (member, _) in self.members.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
                loop {
                    let Some(heard) = member.read() else { return };
                    assert_eq!(heard, None, "said between two rounds");
                    if !member.ws.has_more() {
                        break;
                    }
                }
            }
        }
    }

    /// Says one thing, or two at once; what is said.
    fn speak(&mut self, round: usize) -> Vec<String> {
        let mut said = Vec::new();
        for turn in 0..=round % 2 {
            let speaker = (round + turn) % MEMBERS;
            let text = format!("{} {round} {turn}", self.number);
            // Whom the server has said goodbye to, the next read tells.
            let _ = self.members[speaker].ws.try_send(chat(&text));
            said.push(text);
        }
        said
    }

    /// After a last word that all must hear, all have heard the same.
    fn part(&mut self) {
        let last = vec![format!("{} goodbye", self.number)];
        self.members[0].ws.chat(&last[0]);
        for member in &mut self.members {
            let closed = member.hear(&last).is_none();
            assert!(!closed, "a member was closed: {:?}", member.closed);
        }
        self.check_logs();
    }

    fn read_goodbyes(&mut self) {
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
            assert_eq!(&member.log, log, "all have heard the same, in the same order");
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
            "the history is what was heard"
        );
    }
}

impl Member {
    /// Reads until as many things have been said by the room's own as in `said`; they are those, each once.
    /// `None` if the server has closed instead.
    fn hear(&mut self, said: &[String]) -> Option<()> {
        let mut heard = Vec::new();
        while heard.len() < said.len() {
            heard.extend(self.read()?);
        }
        heard.sort_unstable();
        assert_eq!(heard, said, "what was said in this round");
        Some(())
    }

    /// Reads an event: what one of the room's own has said, or nothing of theirs. `None` if the server has closed.
    fn read(&mut self) -> Option<Option<String>> {
        let payload = self.next()?;
        let event = event(&payload);
        self.log.extend(event.id.map(Cow::into_owned));
        match &*event.r#type {
            "chat" if event.user.starts_with("member ") => Some(Some(event.message.into_owned())),
            // Attackers may come, go, and talk.
            "chat" | "user_joined" | "user_left" | "typing" => Some(None),
            other => panic!("a member is told {other}"),
        }
    }

    /// The next event's JSON; `None` once the server has closed. Pings are answered.
    fn next(&mut self) -> Option<Vec<u8>> {
        while self.closed.is_none() {
            let frame_read = self.ws.try_frame().expect("a member reads");
            let read = frame_read.expect("a member is told before the end");
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

/// What `/health` says, asked as anybody may.
pub fn is_healthy(server: &Server) -> bool {
    server.ask(get("/health")).status == 200
}
