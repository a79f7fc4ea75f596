//! A [`Sink`] that records what each connection receives.
//!
//! The events that a room publishes form its log. The events that a connection receives, in pages
//! or live, are recorded as indices in that log and as readable lines: `joined ana`, `· chat ana:
//! hello` in a page, `again: chat ana: hello [n1]` for a known nonce, `closed NameTaken`. The
//! invariant: as on a network, a connection receives a live event only when the event's batch is
//! sealed, or when the connection is sent the batch so far.

use std::collections::{BTreeMap, HashMap};

use super::*;

/// Bytes that a [`Recorder`] adds to a line, for the frame.
pub const HEADER_BYTES: usize = 1;

/// Longer lines are cut to this length.
const SHOWN_CHARS_MAX: usize = 60;

/// An event that a room has published.
pub struct LogEntry {
    pub line: String,
    /// The line in the history since the text was deleted.
    pub deleted: Option<String>,
    pub user_id: UserId,
    /// `None` for a typing event.
    pub id: Option<MessageId>,
    pub wall: Option<Wall>,
    pub nonce: Option<String>,
}

/// The record of one connection.
pub struct Received {
    pub room: RoomKey,
    /// The received events, in order, and other calls for the connection.
    pub lines: Vec<String>,
    /// The indices in the room's log of the received events.
    pub places: Vec<usize>,
    /// The indices of the messages that were repeated because of a known nonce.
    pub again: Vec<usize>,
    /// The log's length at the admission.
    pub admitted: Option<usize>,
    pub is_catching_up: bool,
    /// The log's length when catching up began. Pages end there.
    pub until: Option<usize>,
    /// The log's length when catching up ended.
    pub caught_up: Option<usize>,
    /// [`LastPage::complete`]; `None` before the last page.
    pub complete: Option<bool>,
    /// The number of received pages.
    pub pages: usize,
    /// The domain's reason for closing the connection, and the log's length at that time.
    pub closed: Option<(CloseReason, usize)>,
    /// The connection ended without the domain closing it.
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
    /// Bytes of its frames.
    bytes: usize,
    /// The indices of the events in the room's log.
    places: Vec<usize>,
    /// For each event, the number of recipients when it was published.
    recipients: Vec<usize>,
    /// The connections that do not need all of its events, and how many they do not need.
    ahead: HashMap<ConnKey, usize>,
}

/// The recording sink of a [`Story`].
#[derive(Default)]
pub struct Recorder {
    /// The open batches.
    pub batches: HashMap<RoomKey, Batch>,
    pub logs: HashMap<RoomKey, Vec<LogEntry>>,
    pub received: HashMap<ConnKey, Received>,
    pub last_id: Option<MessageId>,
    /// Each message's index in the log of its room.
    pub places: BTreeMap<MessageId, usize>,
    /// How many users lists and searches had.
    pub listed: usize,
    /// Records nothing, for tests with thousands of rooms.
    pub discards: bool,
}

impl Recorder {
    pub fn received_by(&mut self, conn: ConnKey) -> &mut Received {
        self.received.get_mut(&conn).expect("the connection belongs to this story")
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
            "a connection is admitted once, while it is open"
        );
        received.admitted = Some(len);
    }

    /// Whether the connection needs nothing of what is in the batch of its room now.
    fn is_ahead(&self, conn: ConnKey) -> bool {
        let Some(batch) = self.batches.get(&self.received[&conn].room) else { return true };
        batch.ahead.get(&conn) == Some(&batch.places.len())
    }

    /// Delivers what a connection still needs of a batch.
    fn deliver(&mut self, room: RoomKey, batch: &Batch, conn: ConnKey) {
        let log = &self.logs[&room];
        let received = self.received.get_mut(&conn).expect("the connection belongs to this story");
        assert!(
            received.is_open() && received.room == room,
            "{conn:?} has ended or is in another room"
        );
        if !received.is_catching_up {
            let places = &batch.places[batch.ahead.get(&conn).copied().unwrap_or(0)..];
            received.places.extend(places);
            received.lines.extend(places.iter().map(|place| log[*place].line.clone()));
        }
    }

    fn note_deletion(&mut self, room: RoomKey, target: MessageId) {
        if let Some(entry) = self.logs.get_mut(&room).map(|log| &mut log[self.places[&target]]) {
            assert!(entry.deleted.is_none(), "a deletion is told once");
            let (name, _) = entry.line.split_once(':').expect("a chat");
            let nonce = entry.nonce.as_ref().map_or(String::new(), |nonce| format!(" [{nonce}]"));
            entry.deleted = Some(format!("deleted {name}{nonce}"));
        }
    }

    /// A message of the history: its index in the log, and its line.
    pub fn read_message(&self, room: RoomKey, message: &Message<'_>) -> (usize, &str) {
        let place = self.places[&message.id];
        let entry = &self.log(room)[place];
        let line = shown(line_of(message));
        let expected = entry.deleted.as_ref().unwrap_or(&entry.line);
        assert_eq!(line, *expected, "the history has the message as it was published");
        assert_eq!((Some(message.wall), message.user_id), (entry.wall, entry.user_id));
        (place, expected)
    }
}

/// The line of a message.
fn line_of(message: &Message<'_>) -> String {
    let user = message.user.as_str();
    let mut line = match message.kind {
        MessageKind::Chat(text) => format!("chat {user}: {text}"),
        MessageKind::UserJoined => format!("joined {user}"),
        MessageKind::UserLeft => format!("left {user}"),
        MessageKind::UserRemoved => format!("removed {user}"),
        MessageKind::ChatDeleted => format!("deleted chat {user}"),
        MessageKind::MessageDeleted(_) => format!("deletion by {user}"),
    };
    if let Some(nonce) = message.nonce {
        line += &format!(" [{nonce}]");
    }
    line
}

/// Bytes of a message's event, as [`Recorder`] would encode it.
pub fn event_bytes(message: &Message<'_>) -> usize {
    HEADER_BYTES + line_of(message).len()
}

/// The line of a changed room: what it has, without its owner.
fn line_of_change(event: &Event<'_>) -> String {
    let Event::RoomChanged { room, owner } = event else { panic!("{event:?}") };
    let mut line = "changed".to_owned();
    for (word, is_shown) in [
        ("locked", room.is_locked),
        ("password", room.has_password),
        ("unlisted", room.is_private),
        ("ownerless", owner.is_none()),
    ] {
        line += &if is_shown { format!(" {word}") } else { String::new() };
    }
    match room.slow_mode {
        0 => {}
        seconds => line += &format!(" slow {seconds}"),
    }
    room.title.map_or(line.clone(), |title| format!("{line}: {title}"))
}

/// Cuts a long line.
fn shown(mut line: String) -> String {
    if let Some((end, _)) = line.char_indices().nth(SHOWN_CHARS_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

impl Sink for Recorder {
    fn publish(&mut self, room: RoomKey, event: &Event<'_>, recipients: usize) -> Published {
        let entry = match *event {
            Event::Typing { user, user_id, .. } => {
                let line = format!("typing {user}");
                LogEntry { line, deleted: None, user_id, id: None, wall: None, nonce: None }
            }
            Event::RoomChanged { .. } => {
                let (line, user_id) = (line_of_change(event), UserId::from_bits(0));
                LogEntry { line, user_id, id: None, wall: None, nonce: None, deleted: None }
            }
            Event::Message(message) => {
                let Message { id, user_id, wall, nonce, .. } = message;
                assert!(self.last_id < Some(id), "ids strictly increase");
                self.last_id = Some(id);
                if let MessageKind::MessageDeleted(target) = message.kind {
                    self.note_deletion(room, target);
                }
                LogEntry {
                    line: line_of(&message),
                    deleted: None,
                    user_id,
                    id: Some(id),
                    wall: Some(wall),
                    nonce: nonce.map(str::to_owned),
                }
            }
        };
        let batch = self.batches.entry(room).or_default();
        batch.recipients.push(recipients);
        let event_bytes = HEADER_BYTES + entry.line.len();
        batch.bytes += event_bytes;
        if !self.discards {
            let log = self.logs.entry(room).or_default();
            entry.id.map(|id| self.places.insert(id, log.len()));
            batch.places.push(log.len());
            log.push(LogEntry { line: shown(entry.line), ..entry });
        }
        Published { event_bytes, is_batch_full: batch.bytes >= BATCH_BYTES_FULL }
    }

    fn seal(&mut self, room: RoomKey, to: &[ConnKey]) {
        let Some(batch) = self.batches.remove(&room) else { return };
        if self.discards {
            return;
        }
        // Connections may have ended since an event was published. One that was added does not need
        // the event.
        for (place, recipients) in batch.recipients.iter().enumerate() {
            let needs = |conn: &&ConnKey| batch.ahead.get(conn).is_none_or(|ahead| *ahead <= place);
            assert!(*recipients >= to.iter().filter(needs).count());
        }
        to.iter().for_each(|conn| self.deliver(room, &batch, *conn));
    }

    fn advance(&mut self, room: RoomKey, to: ConnKey) {
        if let Some(batch) = self.batches.remove(&room) {
            if !self.discards {
                self.deliver(room, &batch, to);
            }
            self.batches.insert(room, batch);
            self.skip(room, to);
        }
    }

    fn skip(&mut self, room: RoomKey, to: ConnKey) {
        if let Some(batch) = self.batches.get_mut(&room) {
            batch.ahead.insert(to, batch.places.len());
        }
    }

    fn push(&mut self, to: ConnKey, event: &Event<'_>) {
        if self.discards {
            return;
        }
        let room = self.received[&to].room;
        let is_catching_up = self.received[&to].is_catching_up;
        assert!(is_catching_up || self.is_ahead(to), "earlier events must arrive first");
        let Event::Message(message) = event else {
            let line = format!("missed: {}", line_of_change(event));
            return self.received_by(to).lines.push(line);
        };
        let (place, line) = self.read_message(room, message);
        let line = line.to_owned();
        let received = self.received_by(to);
        assert!(received.is_open());
        received.again.push(place);
        received.lines.push(format!("again: {line}"));
    }

    fn push_missed(&mut self, to: ConnKey, messages: &MessageCopies) {
        if self.discards {
            return;
        }
        let room = self.received[&to].room;
        for message in messages.iter() {
            let (place, line) = self.read_message(room, &message);
            let line = line.to_owned();
            let received = self.received_by(to);
            assert!(
                received.is_open() && received.is_catching_up && received.complete.is_some(),
                "single frames follow the last page"
            );
            assert!(
                received.until.is_some_and(|until| place >= until),
                "an event in a page is not sent again"
            );
            assert!(received.places.last().is_none_or(|last| *last < place));
            received.places.push(place);
            received.lines.push(line);
        }
    }

    fn push_page(&mut self, to: ConnKey, page: &Page<'_>) {
        if self.discards {
            return;
        }
        let room = self.received[&to].room;
        let mut bytes = 200;
        let mut entries = Vec::new();
        for message in page.messages.iter() {
            let (place, line) = self.read_message(room, &message);
            entries.push((place, format!("· {line}")));
            bytes += HEADER_BYTES + line_of(&message).len();
        }
        let received = self.received_by(to);
        assert!(
            received.is_open() && received.is_catching_up && received.complete.is_none(),
            "pages are for a connection that is catching up, and end with the last"
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

    fn welcome(&mut self, to: ConnKey, _: RoomId, you: UserId) {
        if self.discards {
            return;
        }
        let received = self.received_by(to);
        assert!(received.is_open() && received.lines.is_empty(), "it is the first event");
        received.lines.push(format!("welcome {you}"));
    }

    fn on_listed(&mut self, users: usize) {
        self.listed += users;
    }

    fn begin_catch_up(&mut self, to: ConnKey) {
        if self.discards {
            return;
        }
        let room = self.received[&to].room;
        assert!(self.is_ahead(to), "the connection would receive half a batch");
        let until = self.log(room).len();
        let received = self.received_by(to);
        assert!(
            received.is_open() && received.until.is_none(),
            "catching up begins once, while the connection is open"
        );
        (received.is_catching_up, received.until) = (true, Some(until));
    }

    fn end_catch_up(&mut self, to: ConnKey) {
        if self.discards {
            return;
        }
        let room = self.received[&to].room;
        assert!(self.is_ahead(to), "the connection would receive a batch twice");
        let len = self.log(room).len();
        let received = self.received_by(to);
        assert!(
            received.is_open() && received.is_catching_up && received.complete.is_some(),
            "catching up ends once, after the last page"
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

    fn is_alive(&mut self, _: ConnKey) -> bool {
        false
    }

    #[cfg(feature = "cluster")]
    fn is_open(&mut self, conn: ConnKey) -> bool {
        self.received_by(conn).is_open()
    }

    fn admit(&mut self, to: ConnKey) {
        if self.discards {
            return;
        }
        self.note_admission(to);
        self.received_by(to).lines.push("admitted".into());
    }

    fn end_room(&mut self, room: RoomKey) {
        self.batches.remove(&room);
    }

    fn free_room(&mut self, _: RoomKey) {}

    fn close(&mut self, to: ConnKey, close: CloseReason) {
        if self.discards {
            return;
        }
        let len = self.log(self.received[&to].room).len();
        let received = self.received_by(to);
        assert!(received.is_open(), "a connection is closed once");
        received.lines.push(format!("closed {close:?}"));
        received.closed = Some((close, len));
    }
}
