//! The domain's tests: stories told to a recording sink, under a clock moved by hand.
//!
//! A [`Story`] is a chat with everything around it that a loop would be: each of its commands is
//! one tick (or a part of one, in [`Story::tick`]), at whose end the open batches are sealed and
//! the invariants checked. A [`Recorder`] keeps what each connection would have received, as
//! lines that read well: `joined ana`, `chat ana: hello`, `closed NameTaken`. The invariant: a
//! line is received when its batch is sealed, by whom it is sealed for, as on a real wire.

mod departures;
mod entering;
mod lifetimes;
mod limits;
mod probes;
mod random;
mod talking;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::clock::{SeededEntropy, Wall};
use crate::timers::GRAIN;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The contract's defaults.
const SETTINGS: Settings = Settings {
    session_ttl: Duration::from_secs(24 * 3600),
    room_ttl: Duration::from_secs(120),
    new_room_ttl: Duration::from_secs(600),
    leave_grace: Duration::from_secs(3),
    probe_timeout: Duration::from_secs(3),
    history_messages_max: 1000,
    message_pace: Pace::UNLIMITED,
    session_pace: Pace::UNLIMITED,
    room_pace: Pace::UNLIMITED,
    address_connections_max: Some(200),
    sessions_max: 100_000,
    rooms_max: 100_000,
};

/// A connection and its place in a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tab {
    conn: ConnKey,
    attachment: AttachmentKey,
}

/// A chat, and what a loop would be around it.
struct Story {
    now: Now,
    chat: Chat,
    sink: Recorder,
    ledger: Ledger,
    conns: Slots<()>,
    /// Several commands are one tick: batches stay open.
    ticking: bool,
}

impl Story {
    fn new() -> Story {
        Story::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Story {
        let mut settings = SETTINGS;
        change(&mut settings);
        let ledger = Ledger::new();
        let chat = Chat::new(settings, Box::new(SeededEntropy::new(1)), &ledger);
        let now =
            Now { mono: Mono::from_micros(5), wall: Wall::from_micros(1_755_611_100_123_456) };
        let sink = Recorder::default();
        Story { now, chat, sink, ledger, conns: Slots::new(), ticking: false }
    }

    /// A session, a room it has opened, and its first connection there, having seen its own join.
    fn begin(&mut self, name: &str) -> (SessionKey, RoomKey, Tab) {
        let session = self.person(name);
        let room = self.room(session);
        let tab = self.enter(session, room);
        self.saw(tab, &[&format!("joined {name}")]);
        (session, room, tab)
    }

    /// Several commands in one tick.
    fn tick<T>(&mut self, commands: impl FnOnce(&mut Story) -> T) -> T {
        self.ticking = true;
        let value = commands(self);
        self.ticking = false;
        self.step();
        value
    }

    /// What follows every command.
    fn step(&mut self) {
        if !self.ticking {
            for room in self.sink.open_rooms() {
                self.chat.seal(room, &mut self.sink);
            }
            assert!(self.sink.batches.is_empty(), "a batch is open for a room that is gone");
        }
        self.chat.check_invariants();
    }

    /// Lets time pass as a loop would: it wakes at every deadline on the way.
    fn wait(&mut self, timeout: Duration) {
        let end = self.now.after(timeout);
        while let Some(deadline) = self.chat.next_deadline().filter(|due| *due <= end.mono) {
            self.now = self.now.after(deadline.since(self.now.mono));
            self.sweep();
            assert!(self.chat.next_deadline() > Some(deadline) || self.chat.timer_count() == 0);
        }
        self.now = end;
        self.sweep();
    }

    fn sweep(&mut self) {
        self.chat.sweep(self.now, &mut self.sink);
        self.step();
    }

    fn person(&mut self, name: &str) -> SessionKey {
        let name = Name::parse(name).unwrap();
        let id = self.chat.open_session(self.now, name, None).unwrap();
        self.step();
        self.chat.session(id).unwrap()
    }

    fn room(&mut self, by: SessionKey) -> RoomKey {
        let id = self.chat.open_room(self.now, by, None).unwrap();
        self.step();
        self.chat.room(id).unwrap()
    }

    fn new_conn(&mut self, room: RoomKey) -> ConnKey {
        let conn = self.conns.insert(()).cast();
        self.sink.ears.insert(conn, Ear::new(room));
        conn
    }

    /// A connection wants in, whatever the answer.
    fn knock(&mut self, session: SessionKey, room: RoomKey) -> Result<(Tab, Admission), Close> {
        let conn = self.new_conn(room);
        let (now, sink) = (self.now, &mut self.sink);
        let entered = self.chat.enter(now, conn, Some(session), Some(room), false, sink);
        if let Ok((_, Admission::Admitted)) = entered {
            self.sink.note_admission(conn);
        }
        self.step();
        entered.map(|(attachment, admission)| (Tab { conn, attachment }, admission))
    }

    /// A connection comes in.
    fn enter(&mut self, session: SessionKey, room: RoomKey) -> Tab {
        let (tab, admission) = self.knock(session, room).unwrap();
        assert_eq!(admission, Admission::Admitted);
        tab
    }

    /// A connection is kept waiting.
    fn wait_at(&mut self, session: SessionKey, room: RoomKey) -> Tab {
        let (tab, admission) = self.knock(session, room).unwrap();
        assert_eq!(admission, Admission::Waiting);
        tab
    }

    fn try_say(&mut self, tab: Tab, text: &str) -> Result<(), Refusal> {
        let said = self.chat.post(self.now, tab.attachment, text, &mut self.sink);
        self.step();
        said
    }

    fn say(&mut self, tab: Tab, text: &str) {
        self.try_say(tab, text).unwrap();
    }

    fn typing(&mut self, tab: Tab) {
        self.chat.typing(self.now, tab.attachment, &mut self.sink);
        self.step();
    }

    /// The peer closes.
    fn close(&mut self, tab: Tab) {
        self.exit(tab, Departure::Closed);
    }

    /// The line breaks.
    fn break_line(&mut self, tab: Tab) {
        self.exit(tab, Departure::Broken);
    }

    fn exit(&mut self, tab: Tab, departure: Departure) {
        self.sink.ear(tab.conn).gone = true;
        self.chat.exit(self.now, tab.attachment, departure, &mut self.sink);
        self.step();
    }

    /// Something arrives from the peer.
    fn sign_of_life(&mut self, tab: Tab) {
        self.chat.on_sign_of_life(self.now, tab.attachment, &mut self.sink);
        self.step();
    }

    fn join(&mut self, session: SessionKey, room: RoomKey) -> Result<(), Refusal> {
        let joined = self.chat.join(session, room);
        self.step();
        joined
    }

    fn leave(&mut self, session: SessionKey, room: RoomKey) {
        self.chat.leave(self.now, session, room, &mut self.sink);
        self.step();
    }

    fn end(&mut self, session: SessionKey) {
        self.chat.end_session(self.now, session, &mut self.sink);
        self.step();
    }

    /// What the connection has received since it was last asked.
    #[track_caller]
    fn saw(&mut self, tab: Tab, lines: &[&str]) {
        let ear = self.sink.ear(tab.conn);
        let news = ear.lines.split_off(0);
        assert_eq!(news, lines);
    }

    /// The same for several connections that have received the same.
    #[track_caller]
    fn all_saw(&mut self, tabs: &[Tab], lines: &[&str]) {
        for tab in tabs {
            self.saw(*tab, lines);
        }
    }

    fn history(&mut self, room: RoomKey, count: usize) -> Vec<String> {
        let entries = self.chat.history(room, count, &mut self.sink);
        let read = |entry: &Entry| {
            let payload = String::from_utf8(entry.frame.payload().to_vec()).unwrap();
            assert_eq!(entry.frame.bytes(), format!("{HEADER}{payload}"));
            payload
        };
        entries.map(read).collect()
    }

    fn user_count(&self, room: RoomKey) -> usize {
        self.chat.user_count(room)
    }

    /// Lives, by its key: nobody but tests keeps one across ticks.
    fn lives(&self, room: RoomKey) -> bool {
        self.chat.rooms.get(room).is_some()
    }

    fn session_lives(&self, session: SessionKey) -> bool {
        self.chat.name(session).is_some()
    }

    /// Who a session is in a room that it has joined.
    fn user_id(&self, session: SessionKey, room: RoomKey) -> Option<UserId> {
        let member = self.chat.sessions.get(session)?.member_in(room)?;
        self.chat.members.get(member).map(|member| member.user_id)
    }

    /// Nothing is left: no entry, no timer, not a byte.
    #[track_caller]
    fn assert_empty(&self) {
        let chat = &self.chat;
        let slots = [chat.sessions.len(), chat.rooms.len(), chat.members.len()];
        assert_eq!((slots, chat.attachments.len(), chat.timer_count()), ([0; 3], 0, 0));
        assert_eq!((chat.next_deadline(), self.ledger.total()), (None, 0));
    }
}

/// What a [`Recorder`]'s frames begin with.
const HEADER: &str = "|";

/// Something that a room was told.
struct Said {
    line: String,
    user_id: UserId,
    /// Has an id and is history.
    id: Option<MessageId>,
    wall: Option<Wall>,
}

/// What a connection has received.
struct Ear {
    room: RoomKey,
    /// In order, and what became of it.
    lines: Vec<String>,
    /// Places in the room's log, for all it has received.
    heard: Vec<usize>,
    /// The log's length when it came in.
    admitted: Option<usize>,
    /// Why the domain has closed it, and the log's length then.
    closed: Option<(Close, usize)>,
    /// Has ended by itself.
    gone: bool,
}

impl Ear {
    fn new(room: RoomKey) -> Ear {
        let (lines, heard) = (Vec::new(), Vec::new());
        Ear { room, lines, heard, admitted: None, closed: None, gone: false }
    }

    fn listens(&self) -> bool {
        self.closed.is_none() && !self.gone
    }
}

#[derive(Default)]
struct Batch {
    bytes: Rc<OnceCell<Bytes>>,
    text: String,
    /// Places in the room's log.
    said: Vec<usize>,
}

/// A [`Sink`] that remembers.
#[derive(Default)]
struct Recorder {
    /// The open ones.
    batches: HashMap<RoomKey, Batch>,
    logs: HashMap<RoomKey, Vec<Said>>,
    ears: HashMap<ConnKey, Ear>,
    last_id: Option<MessageId>,
    /// A test of ten thousands of rooms looks at none of them.
    deaf: bool,
}

impl Recorder {
    fn ear(&mut self, conn: ConnKey) -> &mut Ear {
        self.ears.get_mut(&conn).expect("a connection of this story")
    }

    fn open_rooms(&self) -> Vec<RoomKey> {
        self.batches.keys().copied().collect()
    }

    fn log(&self, room: RoomKey) -> &[Said] {
        self.logs.get(&room).map_or(&[], |log| log)
    }

    fn note_admission(&mut self, conn: ConnKey) {
        let said = self.log(self.ears[&conn].room).len();
        let ear = self.ear(conn);
        assert!(ear.listens() && ear.admitted.is_none(), "admitted once, and while it lasts");
        ear.admitted = Some(said);
    }
}

impl Sink for Recorder {
    fn publish(&mut self, room: RoomKey, event: &Event<'_>) -> Frame {
        let (line, user_id, id, wall) = match *event {
            Event::Typing { user, user_id, .. } => (format!("typing {user}"), user_id, None, None),
            Event::Message(Message { id, kind, user, user_id, wall, .. }) => {
                let line = match kind {
                    Kind::Chat(text) => format!("chat {user}: {text}"),
                    Kind::UserJoined => format!("joined {user}"),
                    Kind::UserLeft => format!("left {user}"),
                };
                assert!(self.last_id < Some(id), "ids strictly increase");
                self.last_id = Some(id);
                (line, user_id, Some(id), Some(wall))
            }
        };
        let batch = self.batches.entry(room).or_default();
        let start = batch.text.len();
        batch.text.push_str(HEADER);
        batch.text.push_str(&line);
        if !self.deaf {
            let log = self.logs.entry(room).or_default();
            batch.said.push(log.len());
            log.push(Said { line, user_id, id, wall });
        }
        let [start, end] = [start, batch.text.len()].map(|at| at as u32);
        Frame::new(batch.bytes.clone(), start, start + HEADER.len() as u32, end)
    }

    fn seal(&mut self, room: RoomKey, to: &[ConnKey]) {
        let Some(batch) = self.batches.remove(&room) else { return };
        batch.bytes.set(Bytes::from(batch.text)).expect("sealed once");
        if self.deaf {
            return;
        }
        for conn in to {
            let log = &self.logs[&room];
            let ear = self.ears.get_mut(conn).expect("a connection of this story");
            assert!(ear.listens() && ear.room == room, "nothing more is said to {conn:?}");
            ear.heard.extend(&batch.said);
            ear.lines.extend(batch.said.iter().map(|said| log[*said].line.clone()));
        }
    }

    fn ping(&mut self, to: ConnKey) {
        if self.deaf {
            return;
        }
        let ear = self.ear(to);
        assert!(ear.listens());
        ear.lines.push("ping".into());
    }

    fn admit(&mut self, to: ConnKey) {
        if self.deaf {
            return;
        }
        self.note_admission(to);
        self.ear(to).lines.push("admitted".into());
    }

    fn close(&mut self, to: ConnKey, close: Close) {
        if self.deaf {
            return;
        }
        let said = self.log(self.ears[&to].room).len();
        let ear = self.ear(to);
        assert!(ear.listens(), "closed once");
        ear.lines.push(format!("closed {close:?}"));
        ear.closed = Some((close, said));
    }
}
