//! A [`Sink`] that records what each connection receives.
//!
//! What a room publishes becomes its log. What a connection receives, in pages or live, is recorded
//! as places in that log and as readable lines: `joined ana`, `· chat ana: hello` in a page,
//! `again: chat ana: hello [n1]` for a known nonce, `closed NameTaken`. The invariant: a line is
//! received when its batch is sealed, by the connections it is sealed for, as over a network.

use std::collections::HashMap;
use std::rc::Rc;

use super::*;

/// The header of a [`Recorder`]'s frames.
pub const HEADER: &str = "|";

/// Longer lines are recorded up to this length.
const SHOWN_CHARS_MAX: usize = 60;

/// An event that a room has published.
pub struct LogEntry {
    pub line: String,
    pub user_id: UserId,
    /// Messages have one.
    pub id: Option<MessageId>,
    pub wall: Option<Wall>,
    pub nonce: Option<String>,
}

/// What one connection has received.
pub struct Received {
    pub room: RoomKey,
    /// Events in the order of their arrival, and what else happened to the connection.
    pub lines: Vec<String>,
    /// The places in the room's log of all events received.
    pub places: Vec<usize>,
    /// The same for messages repeated because of a known nonce.
    pub again: Vec<usize>,
    /// The log's length when it was admitted.
    pub admitted: Option<usize>,
    /// Whether it is catching up.
    pub is_catching_up: bool,
    /// The log's length when it began to catch up. Pages end there.
    pub until: Option<usize>,
    /// The log's length when it had caught up.
    pub caught_up: Option<usize>,
    /// After the last page: whether it said that nothing is missing.
    pub complete: Option<bool>,
    /// Pages received.
    pub pages: usize,
    /// The reason why the domain closed it, and the log's length then.
    pub closed: Option<(CloseReason, usize)>,
    /// It ended by itself.
    pub ended: bool,
}

impl Received {
    pub fn new(room: RoomKey) -> Received {
        Received {
            room,
            lines: Vec::new(),
            places: Vec::new(),
            again: Vec::new(),
            admitted: None,
            is_catching_up: false,
            until: None,
            caught_up: None,
            complete: None,
            pages: 0,
            closed: None,
            ended: false,
        }
    }

    pub fn is_open(&self) -> bool {
        self.closed.is_none() && !self.ended
    }
}

#[derive(Default)]
pub struct Batch {
    bytes: Rc<OnceCell<Bytes>>,
    text: String,
    /// Places in the room's log.
    places: Vec<usize>,
    /// How many recipients each event was published to.
    recipients: Vec<usize>,
}

/// The sink of a [`Story`].
#[derive(Default)]
pub struct Recorder {
    /// The open batches.
    pub batches: HashMap<RoomKey, Batch>,
    pub logs: HashMap<RoomKey, Vec<LogEntry>>,
    pub received: HashMap<ConnKey, Received>,
    pub last_id: Option<MessageId>,
    /// Records nothing, for tests with thousands of rooms.
    pub discards: bool,
}

impl Recorder {
    pub fn received_by(&mut self, conn: ConnKey) -> &mut Received {
        self.received.get_mut(&conn).expect("a connection of this story")
    }

    pub fn open_rooms(&self) -> Vec<RoomKey> {
        self.batches.keys().copied().collect()
    }

    pub fn log(&self, room: RoomKey) -> &[LogEntry] {
        self.logs.get(&room).map_or(&[], |log| log)
    }

    pub fn note_admission(&mut self, conn: ConnKey) {
        let len = self.log(self.received[&conn].room).len();
        let received = self.received_by(conn);
        assert!(
            received.is_open() && received.admitted.is_none(),
            "admitted once, while it is open"
        );
        received.admitted = Some(len);
    }

    /// A payload's place in the log, and its line.
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
        let mut entry = match *event {
            Event::Typing { user, user_id, .. } => {
                let line = format!("typing {user}");
                LogEntry { line, user_id, id: None, wall: None, nonce: None }
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
                LogEntry { line, user_id, id: Some(id), wall: Some(wall), nonce }
            }
        };
        let batch = self.batches.entry(room).or_default();
        batch.recipients.push(recipients);
        let start = batch.text.len();
        let place = self.logs.get(&room).map_or(0, Vec::len);
        batch.text.push_str(HEADER);
        batch.text.push_str(&format!("{place} {}", entry.line));
        if !self.discards {
            if let Some((end, _)) = entry.line.char_indices().nth(SHOWN_CHARS_MAX) {
                entry.line.truncate(end);
                entry.line.push('…');
            }
            batch.places.push(place);
            self.logs.entry(room).or_default().push(entry);
        }
        let [start, end] = [start, batch.text.len()].map(|at| at as u32);
        Frame::new(batch.bytes.clone(), start, start + HEADER.len() as u32, end)
    }

    fn seal(&mut self, room: RoomKey, to: &[ConnKey]) {
        let Some(batch) = self.batches.remove(&room) else { return };
        batch.bytes.set(Bytes::from(batch.text)).expect("sealed once");
        // Connections may have ended since, but none was added without sealing first.
        assert!(batch.recipients.iter().all(|recipients| *recipients >= to.len()));
        if self.discards {
            return;
        }
        for conn in to {
            let log = &self.logs[&room];
            let received = self.received.get_mut(conn).expect("a connection of this story");
            assert!(
                received.is_open() && received.room == room,
                "{conn:?} has ended or is in another room"
            );
            if !received.is_catching_up {
                received.places.extend(&batch.places);
                received.lines.extend(batch.places.iter().map(|place| log[*place].line.clone()));
            }
        }
    }

    fn push(&mut self, to: ConnKey, frame: &Frame) {
        if self.discards {
            return;
        }
        let room = self.received[&to].room;
        assert!(!self.batches.contains_key(&room), "earlier events must arrive first");
        let (place, line) = self.read(room, &frame.payload());
        let line = line.to_owned();
        let received = self.received_by(to);
        assert!(received.is_open());
        received.again.push(place);
        received.lines.push(format!("again: {line}"));
    }

    fn push_missed(&mut self, to: ConnKey, frame: &Frame) {
        if self.discards {
            return;
        }
        let room = self.received[&to].room;
        assert!(!self.batches.contains_key(&room), "the batch must be sealed");
        let (place, line) = self.read(room, &frame.payload());
        let line = line.to_owned();
        let received = self.received_by(to);
        assert!(
            received.is_open() && received.is_catching_up && received.complete.is_some(),
            "after the last page"
        );
        assert!(received.until.is_some_and(|until| place >= until), "an event that no page had");
        assert!(received.places.last().is_none_or(|last| *last < place));
        received.places.push(place);
        received.lines.push(line);
    }

    fn push_page(&mut self, to: ConnKey, page: &Page<'_>) {
        if self.discards {
            return;
        }
        let room = self.received[&to].room;
        assert!(!self.batches.contains_key(&room), "the batch must be sealed");
        let mut bytes = 200;
        let mut entries = Vec::new();
        for payload in page.messages {
            let (place, line) = self.read(room, payload);
            entries.push((place, format!("· {line}")));
            bytes += payload.len() + 1;
        }
        let received = self.received_by(to);
        assert!(
            received.is_open() && received.is_catching_up && received.complete.is_none(),
            "a page for a connection that catches up"
        );
        let until = received.until.unwrap();
        for (place, line) in entries {
            assert!(place < until && received.places.last().is_none_or(|last| *last < place));
            received.places.push(place);
            received.lines.push(line);
        }
        received.pages += 1;
        match &page.last {
            None => received.lines.push("more".into()),
            Some(LastPage { complete, you, users, .. }) => {
                received.complete = Some(*complete);
                assert_eq!(users.iter().filter(|(user_id, _)| user_id == you).count(), 1);
                let star = |user_id| if user_id == you { "*" } else { "" };
                let names: Vec<_> =
                    users.iter().map(|(id, name)| format!("{name}{}", star(id))).collect();
                let complete = if *complete { "complete" } else { "incomplete" };
                received.lines.push(format!("{complete}: {}", names.join(", ")));
                // {"user_id":"0123456789abcdef","user":"…"},
                let escaped = |name: &str| name.len() + name.matches(['"', '\\']).count();
                bytes += users.iter().map(|(_, name)| 40 + escaped(name)).sum::<usize>();
            }
        }
        assert!(bytes < 64 * 1024, "a page of {bytes} bytes");
    }

    fn begin_catch_up(&mut self, to: ConnKey) {
        if self.discards {
            return;
        }
        let room = self.received[&to].room;
        assert!(!self.batches.contains_key(&room), "the connection would receive half a batch");
        let until = self.log(room).len();
        let received = self.received_by(to);
        assert!(received.is_open() && received.until.is_none(), "begun once, while it is open");
        (received.is_catching_up, received.until) = (true, Some(until));
    }

    fn end_catch_up(&mut self, to: ConnKey) {
        if self.discards {
            return;
        }
        let room = self.received[&to].room;
        assert!(!self.batches.contains_key(&room), "the connection would receive a batch twice");
        let len = self.log(room).len();
        let received = self.received_by(to);
        assert!(
            received.is_open() && received.is_catching_up && received.complete.is_some(),
            "ended once, after the last page"
        );
        (received.is_catching_up, received.caught_up) = (false, Some(len));
    }

    fn ping(&mut self, to: ConnKey) {
        if self.discards {
            return;
        }
        let received = self.received_by(to);
        assert!(received.is_open());
        received.lines.push("ping".into());
    }

    fn admit(&mut self, to: ConnKey) {
        if self.discards {
            return;
        }
        self.note_admission(to);
        self.received_by(to).lines.push("admitted".into());
    }

    fn close(&mut self, to: ConnKey, close: CloseReason) {
        if self.discards {
            return;
        }
        let len = self.log(self.received[&to].room).len();
        let received = self.received_by(to);
        assert!(received.is_open(), "closed once");
        received.lines.push(format!("closed {close:?}"));
        received.closed = Some((close, len));
    }
}
