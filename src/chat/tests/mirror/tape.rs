//! A [`Sink`] that writes down, byte for byte, what each connection receives, and what has happened
//! in all rooms, as facts that a mirror can be told.

use std::collections::HashSet;

use super::*;

/// What a chat has told, in its order.
pub enum Fact {
    /// One message.
    Message(RoomKey, MessageCopies),
    Typing(RoomKey, UserId, String),
    Changed(RoomKey, OwnedFacts),
    /// The connection is in its room.
    Placed(ConnKey),
    Closed(ConnKey, CloseReason),
    Ended(RoomKey),
}

/// [`RoomFacts`] that borrow nothing.
#[derive(Clone, Debug)]
pub struct OwnedFacts {
    room: OwnedRoom,
    pub owner: Option<UserId>,
}

impl OwnedFacts {
    pub fn of(room: RoomInfo<'_>, owner: Option<UserId>) -> OwnedFacts {
        OwnedFacts { room: OwnedRoom::of(room), owner }
    }

    pub fn facts(&self) -> RoomFacts<'_> {
        RoomFacts { room: self.room.info(), owner: self.owner }
    }
}

impl PartialEq for OwnedFacts {
    fn eq(&self, other: &OwnedFacts) -> bool {
        (self.room.info(), self.owner) == (other.room.info(), other.owner)
    }
}

#[derive(Default)]
struct TapeBatch {
    frames: Vec<String>,
    bytes: usize,
    ahead: HashMap<ConnKey, usize>,
}

#[derive(Default)]
pub struct Tape {
    pub facts: Vec<Fact>,
    /// What each connection has received.
    pub received: HashMap<ConnKey, Vec<String>>,
    /// The number of pings of each connection.
    pub pings: HashMap<ConnKey, usize>,
    /// The connections that count as alive without sending anything.
    pub alive: HashSet<ConnKey>,
    placed: HashSet<ConnKey>,
    closed: HashSet<ConnKey>,
    catching_up: HashSet<ConnKey>,
    batches: HashMap<RoomKey, TapeBatch>,
}

/// The length of a message's event, as [`Tape`] encodes it.
pub fn message_bytes(message: &Message<'_>) -> usize {
    format!("{:?}", Event::Message(*message)).len()
}

impl Tape {
    pub fn open_rooms(&self) -> Vec<RoomKey> {
        self.batches.keys().copied().collect()
    }

    pub fn is_closed(&self, conn: ConnKey) -> bool {
        self.closed.contains(&conn)
    }

    pub fn is_catching_up(&self, conn: ConnKey) -> bool {
        self.catching_up.contains(&conn)
    }

    /// What a connection has received since the last call.
    pub fn news(&mut self, conn: ConnKey) -> Vec<String> {
        self.received.get_mut(&conn).map(std::mem::take).unwrap_or_default()
    }

    fn write(&mut self, to: ConnKey, line: String) {
        assert!(!self.closed.contains(&to), "{to:?} is closed: {line}");
        self.received.entry(to).or_default().push(line);
    }

    fn deliver(&mut self, batch: &TapeBatch, to: ConnKey) {
        if !self.catching_up.contains(&to) {
            for frame in &batch.frames[batch.ahead.get(&to).copied().unwrap_or(0)..] {
                self.write(to, frame.clone());
            }
        }
    }
}

impl Sink for Tape {
    fn publish(&mut self, room: RoomKey, event: &Event<'_>, _: usize) -> Published {
        self.facts.push(match event {
            Event::Message(message) => {
                let mut copy = MessageCopies::of(message.room_id);
                copy.push_new(message);
                Fact::Message(room, copy)
            }
            Event::Typing { user, user_id, .. } => Fact::Typing(room, *user_id, (*user).to_owned()),
            Event::RoomChanged { room: info, owner } => {
                Fact::Changed(room, OwnedFacts::of(*info, *owner))
            }
        });
        let batch = self.batches.entry(room).or_default();
        let frame = format!("{event:?}");
        let event_bytes = frame.len();
        batch.bytes += event_bytes;
        batch.frames.push(frame);
        Published { event_bytes, is_batch_full: batch.bytes >= BATCH_BYTES_FULL }
    }

    fn seal(&mut self, room: RoomKey, to: &[ConnKey]) {
        let Some(batch) = self.batches.remove(&room) else { return };
        to.iter().for_each(|to| self.deliver(&batch, *to));
    }

    fn advance(&mut self, room: RoomKey, to: ConnKey) {
        if let Some(batch) = self.batches.remove(&room) {
            self.deliver(&batch, to);
            self.batches.insert(room, batch);
            self.skip(room, to);
        }
    }

    fn skip(&mut self, room: RoomKey, to: ConnKey) {
        if self.placed.insert(to) {
            self.facts.push(Fact::Placed(to));
        }
        if let Some(batch) = self.batches.get_mut(&room) {
            batch.ahead.insert(to, batch.frames.len());
        }
    }

    fn push(&mut self, to: ConnKey, event: &Event<'_>) {
        self.write(to, format!("push {event:?}"));
    }

    fn push_missed(&mut self, to: ConnKey, messages: &MessageCopies) {
        for message in messages.iter() {
            self.write(to, format!("{:?}", Event::Message(message)));
        }
    }

    fn push_page(&mut self, to: ConnKey, page: &Page<'_>) {
        let mut line = format!("page of {}:", page.room_id);
        page.messages.iter().for_each(|message| line += &format!("\n    {message:?}"));
        if let Some(last) = &page.last {
            let LastPage { complete, you, is_owner, room, owner, users } = last;
            line += &format!("\n    {complete} {you} {is_owner} {room:?} {owner:?} {users:?}");
        }
        self.write(to, line);
    }

    fn welcome(&mut self, to: ConnKey, room_id: RoomId, you: UserId) {
        self.write(to, format!("welcome {room_id} {you}"));
    }

    fn on_listed(&mut self, _: usize) {}

    fn begin_catch_up(&mut self, to: ConnKey) {
        assert!(self.catching_up.insert(to));
    }

    fn end_catch_up(&mut self, to: ConnKey) {
        assert!(self.catching_up.remove(&to));
    }

    fn ping(&mut self, to: ConnKey) {
        *self.pings.entry(to).or_default() += 1;
    }

    fn is_alive(&mut self, conn: ConnKey) -> bool {
        self.alive.contains(&conn)
    }

    fn is_open(&mut self, conn: ConnKey) -> bool {
        !self.closed.contains(&conn)
    }

    /// On one server only connections that had to wait for a name are told, and in a cluster all.
    fn admit(&mut self, _: ConnKey) {}

    fn close(&mut self, to: ConnKey, reason: CloseReason) {
        self.write(to, format!("closed {reason:?}"));
        self.closed.insert(to);
        self.facts.push(Fact::Closed(to, reason));
    }

    fn end_room(&mut self, room: RoomKey) {
        self.batches.remove(&room);
        self.facts.push(Fact::Ended(room));
    }

    fn free_room(&mut self, room: RoomKey) {
        assert!(!self.batches.contains_key(&room));
    }
}
