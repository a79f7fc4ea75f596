//! A [`Sink`] that remembers what each connection would have received.
//!
//! What a room is told becomes its log; what a connection receives, in pages or live, are places
//! in that log, and lines that read well: `joined ana`, `· chat ana: hello` in a page of history,
//! `again: chat ana: hello [n1]` for a known nonce, `closed NameTaken`. The invariant: a line is
//! received when its batch is sealed, by whom it is sealed for, as on a real wire.

use std::collections::HashMap;
use std::rc::Rc;

use super::*;

/// What a [`Recorder`]'s frames begin with.
pub const HEADER: &str = "|";

/// Texts longer than this are shown by their beginning.
const SHOWN_CHARS_MAX: usize = 60;

/// Something that a room was told.
pub struct Said {
    pub line: String,
    pub user_id: UserId,
    /// Has an id and is history.
    pub id: Option<MessageId>,
    pub wall: Option<Wall>,
    pub nonce: Option<String>,
}

/// What a connection has received.
pub struct Ear {
    pub room: RoomKey,
    /// In order, and what became of it.
    pub lines: Vec<String>,
    /// Places in the room's log, for all it has received.
    pub heard: Vec<usize>,
    /// The same for what it was told again, having sent a known nonce.
    pub again: Vec<usize>,
    /// The log's length when it came in.
    pub admitted: Option<usize>,
    /// Is catching up.
    pub held: bool,
    /// The log's length when it began to catch up: pages are what was said before.
    pub until: Option<usize>,
    /// The log's length when it had caught up.
    pub released: Option<usize>,
    /// The last page has come, and whether it was complete.
    pub complete: Option<bool>,
    /// Pages received.
    pub pages: usize,
    /// Why the domain has closed it, and the log's length then.
    pub closed: Option<(CloseReason, usize)>,
    /// Has ended by itself.
    pub gone: bool,
}

impl Ear {
    pub fn new(room: RoomKey) -> Ear {
        Ear {
            room,
            lines: Vec::new(),
            heard: Vec::new(),
            again: Vec::new(),
            admitted: None,
            held: false,
            until: None,
            released: None,
            complete: None,
            pages: 0,
            closed: None,
            gone: false,
        }
    }

    pub fn listens(&self) -> bool {
        self.closed.is_none() && !self.gone
    }
}

#[derive(Default)]
pub struct Batch {
    bytes: Rc<OnceCell<Bytes>>,
    text: String,
    /// Places in the room's log.
    said: Vec<usize>,
    /// How many recipients each event was published to.
    recipients: Vec<usize>,
}

/// The sink of a [`Story`].
#[derive(Default)]
pub struct Recorder {
    /// The open ones.
    pub batches: HashMap<RoomKey, Batch>,
    pub logs: HashMap<RoomKey, Vec<Said>>,
    pub ears: HashMap<ConnKey, Ear>,
    pub last_id: Option<MessageId>,
    /// A test of ten thousands of rooms looks at none of them.
    pub deaf: bool,
}

impl Recorder {
    pub fn ear(&mut self, conn: ConnKey) -> &mut Ear {
        self.ears.get_mut(&conn).expect("a connection of this story")
    }

    pub fn open_rooms(&self) -> Vec<RoomKey> {
        self.batches.keys().copied().collect()
    }

    pub fn log(&self, room: RoomKey) -> &[Said] {
        self.logs.get(&room).map_or(&[], |log| log)
    }

    pub fn note_admission(&mut self, conn: ConnKey) {
        let said = self.log(self.ears[&conn].room).len();
        let ear = self.ear(conn);
        assert!(ear.listens() && ear.admitted.is_none(), "admitted once, and while it lasts");
        ear.admitted = Some(said);
    }

    /// The place in the log that a payload stands for, and its line.
    pub fn read(&self, room: RoomKey, payload: &[u8]) -> (usize, &str) {
        let payload = std::str::from_utf8(payload).unwrap();
        let (place, text) = payload.split_once(' ').expect("a place, then the line");
        let place: usize = place.parse().unwrap();
        let line = &self.log(room)[place].line;
        assert!(text.starts_with(line.trim_end_matches('…')), "{text} is not {line}");
        (place, line)
    }

    pub fn read_entry(&self, room: RoomKey, entry: &HistoryEntry) -> String {
        let payload = entry.frame.payload();
        assert_eq!(entry.frame.bytes(), [HEADER.as_bytes(), &payload].concat());
        let (place, line) = self.read(room, &payload);
        assert_eq!(self.log(room)[place].id, Some(entry.id));
        line.to_owned()
    }
}

impl Sink for Recorder {
    fn publish(&mut self, room: RoomKey, event: &Event<'_>, recipients: usize) -> Frame {
        let mut said = match *event {
            Event::Typing { user, user_id, .. } => {
                let line = format!("typing {user}");
                Said { line, user_id, id: None, wall: None, nonce: None }
            }
            Event::Message(Message { id, kind, user, user_id, wall, nonce, .. }) => {
                let mut line = match kind {
                    MessageKind::Chat(text) => format!("chat {user}: {text}"),
                    MessageKind::UserJoined => format!("joined {user}"),
                    MessageKind::UserLeft => format!("left {user}"),
                };
                if let Some(nonce) = nonce {
                    line += &format!(" [{nonce}]");
                }
                assert!(self.last_id < Some(id), "ids strictly increase");
                self.last_id = Some(id);
                let nonce = nonce.map(str::to_owned);
                Said { line, user_id, id: Some(id), wall: Some(wall), nonce }
            }
        };
        let batch = self.batches.entry(room).or_default();
        batch.recipients.push(recipients);
        let start = batch.text.len();
        let place = self.logs.get(&room).map_or(0, Vec::len);
        batch.text.push_str(HEADER);
        batch.text.push_str(&format!("{place} {}", said.line));
        if !self.deaf {
            if let Some((end, _)) = said.line.char_indices().nth(SHOWN_CHARS_MAX) {
                said.line.truncate(end);
                said.line.push('…');
            }
            batch.said.push(place);
            self.logs.entry(room).or_default().push(said);
        }
        let [start, end] = [start, batch.text.len()].map(|at| at as u32);
        Frame::new(batch.bytes.clone(), start, start + HEADER.len() as u32, end)
    }

    fn seal(&mut self, room: RoomKey, to: &[ConnKey]) {
        let Some(batch) = self.batches.remove(&room) else { return };
        batch.bytes.set(Bytes::from(batch.text)).expect("sealed once");
        // Connections may have ended since, but none was added without sealing first.
        assert!(batch.recipients.iter().all(|recipients| *recipients >= to.len()));
        if self.deaf {
            return;
        }
        for conn in to {
            let log = &self.logs[&room];
            let ear = self.ears.get_mut(conn).expect("a connection of this story");
            assert!(ear.listens() && ear.room == room, "nothing more is said to {conn:?}");
            if !ear.held {
                ear.heard.extend(&batch.said);
                ear.lines.extend(batch.said.iter().map(|said| log[*said].line.clone()));
            }
        }
    }

    fn push(&mut self, to: ConnKey, frame: &Frame) {
        if self.deaf {
            return;
        }
        let room = self.ears[&to].room;
        assert!(!self.batches.contains_key(&room), "what was said before comes before it");
        let (place, line) = self.read(room, &frame.payload());
        let line = line.to_owned();
        let ear = self.ear(to);
        assert!(ear.listens());
        ear.again.push(place);
        ear.lines.push(format!("again: {line}"));
    }

    fn push_missed(&mut self, to: ConnKey, frame: &Frame) {
        if self.deaf {
            return;
        }
        let room = self.ears[&to].room;
        assert!(!self.batches.contains_key(&room), "what is read must lie still");
        let (place, line) = self.read(room, &frame.payload());
        let line = line.to_owned();
        let ear = self.ear(to);
        assert!(ear.listens() && ear.held && ear.complete.is_some(), "after the last page");
        assert!(ear.until.is_some_and(|until| place >= until), "what no page had");
        assert!(ear.heard.last().is_none_or(|last| *last < place));
        ear.heard.push(place);
        ear.lines.push(line);
    }

    fn push_page(&mut self, to: ConnKey, page: &Page<'_>) {
        if self.deaf {
            return;
        }
        let room = self.ears[&to].room;
        assert!(!self.batches.contains_key(&room), "what is read must lie still");
        let mut bytes = 200;
        let mut news = Vec::new();
        for payload in page.messages {
            let (place, line) = self.read(room, payload);
            news.push((place, format!("· {line}")));
            bytes += payload.len() + 1;
        }
        let ear = self.ear(to);
        assert!(ear.listens() && ear.held && ear.complete.is_none(), "a page for who is held");
        let until = ear.until.unwrap();
        for (place, line) in news {
            assert!(place < until && ear.heard.last().is_none_or(|last| *last < place));
            ear.heard.push(place);
            ear.lines.push(line);
        }
        ear.pages += 1;
        match &page.last {
            None => ear.lines.push("more".into()),
            Some(LastPage { complete, you, users, .. }) => {
                ear.complete = Some(*complete);
                assert_eq!(users.iter().filter(|(user_id, _)| user_id == you).count(), 1);
                let star = |user_id| if user_id == you { "*" } else { "" };
                let names: Vec<_> =
                    users.iter().map(|(id, name)| format!("{name}{}", star(id))).collect();
                let complete = if *complete { "complete" } else { "incomplete" };
                ear.lines.push(format!("{complete}: {}", names.join(", ")));
                // {"user_id":"0123456789abcdef","user":"…"},
                let escaped = |name: &str| name.len() + name.matches(['"', '\\']).count();
                bytes += users.iter().map(|(_, name)| 40 + escaped(name)).sum::<usize>();
            }
        }
        assert!(bytes < 64 * 1024, "a page of {bytes} bytes");
    }

    fn begin_catch_up(&mut self, to: ConnKey) {
        if self.deaf {
            return;
        }
        let room = self.ears[&to].room;
        assert!(!self.batches.contains_key(&room), "a batch would be half for it");
        let until = self.log(room).len();
        let ear = self.ear(to);
        assert!(ear.listens() && ear.until.is_none(), "held once, and while it lasts");
        (ear.held, ear.until) = (true, Some(until));
    }

    fn end_catch_up(&mut self, to: ConnKey) {
        if self.deaf {
            return;
        }
        let room = self.ears[&to].room;
        assert!(!self.batches.contains_key(&room), "a batch would be told twice");
        let said = self.log(room).len();
        let ear = self.ear(to);
        assert!(ear.listens() && ear.held && ear.complete.is_some(), "released once, and after it");
        (ear.held, ear.released) = (false, Some(said));
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

    fn close(&mut self, to: ConnKey, close: CloseReason) {
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
