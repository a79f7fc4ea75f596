//! The domain's tests, with a recording sink and a clock that the test moves.
//!
//! A [`Story`] is a chat together with the event loop's part. Each command is a tick of its own, or
//! one of several in [`Story::tick`]. At the end of a tick the open batches are sealed; after each
//! command the invariants are checked. A [`Recorder`] records what each connection receives. The
//! invariant: the state and the time change only in commands.

mod access;
mod catching_up;
mod deleting;
mod departures;
mod entering;
mod joins;
mod lifetimes;
mod limits;
mod memory;
mod messages;
#[cfg(feature = "cluster")]
mod mirror;
mod moderation;
mod nonces;
mod outside;
mod probes;
mod random;
mod recorder;
mod restarts;
mod ruling;
mod shares;

use std::time::Duration;

use super::quota::REFUSED_CONNECTIONS_MAX;
use super::*;
use crate::clock::{Mono, Now, SeededEntropy, Wall};
use crate::ledger::{Account, Ledger, Tally};
use crate::slots::Slots;
use crate::timers::GRAIN;
use recorder::{Received, Recorder};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The defaults of contract §12.11 and on.
const SETTINGS: ChatConfig = ChatConfig {
    session_ttl: Duration::from_secs(24 * 3600),
    room_ttl: Duration::from_secs(120),
    new_room_ttl: Duration::from_secs(600),
    leave_grace: Duration::from_secs(3),
    probe_timeout: Duration::from_secs(3),
    history_messages_max: 1000,
    message_pace: Pace::UNLIMITED,
    join_pace: Pace::UNLIMITED,
    session_pace: Pace::UNLIMITED,
    room_pace: Pace::UNLIMITED,
    guess_paces: GuessPaces { address: Pace::new(6, MINUTE, 5), room: Pace::new(60, MINUTE, 60) },
    address_connections_max: Some(200),
    address_sessions_max: Some(2000),
    sessions_max: 100_000,
    rooms_max: 100_000,
};

/// A connection that has entered a room, or waits to enter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tab {
    conn: ConnKey,
    attachment: AttachmentKey,
}

/// A chat together with the event loop's part.
struct Story {
    now: Now,
    chat: Chat,
    sink: Recorder,
    ledger: Ledger,
    conns: Slots<(), ConnTag>,
    /// The address of those that join or enter.
    from: Option<Address>,
    /// True within [`Story::tick`]: batches stay open after a command.
    ticking: bool,
}

impl Story {
    fn new() -> Story {
        Story::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut ChatConfig)) -> Story {
        let mut config = SETTINGS;
        change(&mut config);
        let ledger = Ledger::new();
        let chat = Chat::new(config, Box::new(SeededEntropy::new(1)), &ledger);
        let now =
            Now { mono: Mono::from_micros(5), wall: Wall::from_micros(1_755_611_100_123_456) };
        let sink = Recorder::default();
        Story { now, chat, sink, ledger, conns: Slots::default(), from: None, ticking: false }
    }

    /// Opens a session and a room, and enters it. Returns the session, the room and the connection.
    fn begin(&mut self, name: &str) -> (SessionKey, RoomKey, Tab) {
        let session = self.person(name);
        let room = self.room(session);
        let tab = self.enter(session, room);
        self.assert_received(tab, &[&format!("joined {name}")]);
        (session, room, tab)
    }

    /// Runs several commands in one tick.
    fn tick<T>(&mut self, commands: impl FnOnce(&mut Story) -> T) -> T {
        self.ticking = true;
        let value = commands(self);
        self.ticking = false;
        self.step();
        value
    }

    /// Ends the tick, unless it has more commands, and checks the invariants.
    fn step(&mut self) {
        self.chat.end_members(self.now, usize::MAX, &mut self.sink);
        if !self.ticking {
            for room in self.sink.open_rooms() {
                self.chat.seal(room, &mut self.sink);
            }
            assert!(self.sink.batches.is_empty(), "no batch is open for a room that has ended");
        }
        self.chat.check_invariants();
    }

    /// Advances the time by `timeout`. Stops at every deadline and sweeps, as the event loop does.
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
        self.chat.sweep(self.now, usize::MAX, &mut self.sink);
        self.step();
    }

    fn person(&mut self, name: &str) -> SessionKey {
        self.try_person(name, None).unwrap()
    }

    /// Asks for a session from an address.
    fn try_person(&mut self, name: &str, from: Option<Address>) -> Result<SessionKey, Refusal> {
        let name = Name::parse(name).unwrap();
        let opened = self.chat.open_session(self.now, name, from, &mut self.sink);
        self.step();
        opened.map(|id| self.chat.session(id).unwrap())
    }

    fn person_from(&mut self, name: &str, ip: [u8; 4]) -> SessionKey {
        let name = Name::parse(name).unwrap();
        let from = Some(Address::of(ip.into()));
        let id = self.chat.open_session(self.now, name, from, &mut self.sink).unwrap();
        self.step();
        self.chat.session(id).unwrap()
    }

    fn room(&mut self, by: SessionKey) -> RoomKey {
        self.room_with(by, RoomOptions::default())
    }

    fn room_with(&mut self, by: SessionKey, options: RoomOptions<'_>) -> RoomKey {
        self.try_room_with(by, options, None).unwrap()
    }

    /// Asks for a room from an address.
    fn try_room(&mut self, by: SessionKey, from: Option<Address>) -> Result<RoomKey, Refusal> {
        self.try_room_with(by, RoomOptions::default(), from)
    }

    fn try_room_with(
        &mut self,
        by: SessionKey,
        options: RoomOptions<'_>,
        from: Option<Address>,
    ) -> Result<RoomKey, Refusal> {
        let opened = self.chat.open_room(self.now, by, options, from, &mut self.sink);
        self.step();
        opened.map(|id| self.chat.room(id).unwrap())
    }

    fn new_conn(&mut self, room: RoomKey) -> ConnKey {
        let conn = self.conns.insert(());
        self.sink.received.insert(conn, Received::new(room));
        conn
    }

    /// Asks to enter with a new connection.
    fn try_enter(
        &mut self,
        session: SessionKey,
        room: RoomKey,
    ) -> Result<(Tab, Admission), CloseReason> {
        self.try_enter_from(session, room, Start::Live)
    }

    fn try_enter_from(
        &mut self,
        session: SessionKey,
        room: RoomKey,
        start: Start,
    ) -> Result<(Tab, Admission), CloseReason> {
        let conn = self.new_conn(room);
        let (session, room) = (Some(session), Some(room));
        let request =
            JoinRequest { conn, session, room, share_exceeded: false, from: self.from, start };
        let entered = self.chat.enter(self.now, request, &mut self.sink);
        if let Ok((_, Admission::Admitted)) = entered {
            self.sink.note_admission(conn);
        }
        self.step();
        entered.map(|(attachment, admission)| (Tab { conn, attachment }, admission))
    }

    /// Enters with a new connection. It must be admitted at once.
    fn enter(&mut self, session: SessionKey, room: RoomKey) -> Tab {
        self.enter_from(session, room, Start::Live)
    }

    /// The same from `start`. A connection that catches up is sent its first page.
    fn enter_from(&mut self, session: SessionKey, room: RoomKey, start: Start) -> Tab {
        let (tab, admission) = self.try_enter_from(session, room, start).unwrap();
        assert_eq!(admission, Admission::Admitted);
        tab
    }

    /// The connection's output has been written, so that it is sent the next page or frames.
    fn catch_up_once(&mut self, tab: Tab) {
        self.chat.catch_up(self.now, tab.attachment, &mut self.sink);
        self.step();
    }

    fn is_catching_up(&mut self, tab: Tab) -> bool {
        let received = self.sink.received_by(tab.conn);
        received.is_catching_up && received.is_open()
    }

    /// Calls [`Story::catch_up_once`] until the connection has caught up or is closed. Returns the
    /// number of calls.
    fn catch_up(&mut self, tab: Tab) -> usize {
        let mut reads = 0;
        while self.is_catching_up(tab) {
            self.catch_up_once(tab);
            reads += 1;
            assert!(reads < 10_000, "the connection never catches up");
        }
        reads
    }

    /// Asks to enter with a new connection, which has to wait for its name.
    fn enter_waiting(&mut self, session: SessionKey, room: RoomKey) -> Tab {
        self.enter_waiting_from(session, room, Start::Live)
    }

    fn enter_waiting_from(&mut self, session: SessionKey, room: RoomKey, start: Start) -> Tab {
        let (tab, admission) = self.try_enter_from(session, room, start).unwrap();
        assert_eq!(admission, Admission::Waiting);
        tab
    }

    fn try_send(&mut self, tab: Tab, text: &str) -> Result<(), Refusal> {
        self.try_send_with(tab, text, None)
    }

    fn try_send_with(&mut self, tab: Tab, text: &str, nonce: Option<&str>) -> Result<(), Refusal> {
        let posted = self.chat.post(self.now, tab.attachment, text, nonce, &mut self.sink);
        self.step();
        posted
    }

    /// Sends a message with a nonce.
    fn send_with(&mut self, tab: Tab, text: &str, nonce: &str) {
        self.try_send_with(tab, text, Some(nonce)).unwrap();
    }

    /// Posts by REST. Returns the message's line and whether the message is new.
    fn post(
        &mut self,
        session: SessionKey,
        room: RoomKey,
        text: &str,
        nonce: Option<&str>,
    ) -> Result<(String, bool), Refusal> {
        let draft = Draft::new(text, nonce)?;
        let key = self.chat.gate(self.now, session, Some(room), Access::Post, None)?;
        let posted = self.chat.post_from_outside(self.now, session, key, draft, &mut self.sink);
        let posted = posted.map(|(copy, is_new)| {
            let message = copy.iter().next().expect("the message");
            (self.sink.read_message(room, &message).1.to_owned(), is_new)
        });
        self.step();
        posted
    }

    fn send(&mut self, tab: Tab, text: &str) {
        self.try_send(tab, text).unwrap();
    }

    fn typing(&mut self, tab: Tab) {
        self.chat.typing(self.now, tab.attachment, &mut self.sink);
        self.step();
    }

    /// The peer closes the connection.
    fn close(&mut self, tab: Tab) {
        self.exit(tab, Departure::Closed);
    }

    /// The connection breaks.
    fn break_connection(&mut self, tab: Tab) {
        self.exit(tab, Departure::Broken);
    }

    fn exit(&mut self, tab: Tab, departure: Departure) {
        self.sink.received_by(tab.conn).ended = true;
        self.chat.exit(self.now, tab.attachment, departure, &mut self.sink);
        self.step();
    }

    /// The peer sends something.
    fn sign_of_life(&mut self, tab: Tab) {
        self.chat.on_sign_of_life(self.now, tab.attachment, &mut self.sink);
        self.step();
    }

    fn join(&mut self, session: SessionKey, room: RoomKey) -> Result<(), Refusal> {
        let joined = self.chat.join(session, room, self.from);
        self.step();
        joined
    }

    fn delete(&mut self, session: SessionKey, room: RoomKey) -> Result<(), Refusal> {
        let deleted = self.chat.delete_room(self.now, session, Some(room), &mut self.sink);
        self.step();
        deleted
    }

    fn delete_message(
        &mut self,
        session: SessionKey,
        room: RoomKey,
        id: MessageId,
    ) -> Result<(), Refusal> {
        let (room, id) = (Some(room), Some(id));
        let bytes = recorder::event_bytes;
        let deleted = self.chat.delete_message(self.now, session, room, id, bytes, &mut self.sink);
        self.step();
        deleted
    }

    fn leave(&mut self, session: SessionKey, room: RoomKey) {
        self.chat.leave(self.now, session, room, &mut self.sink);
        self.step();
    }

    fn end(&mut self, session: SessionKey) {
        self.chat.end_session(self.now, session, &mut self.sink);
        self.step();
    }

    /// Asserts the lines that the connection has received since the last such assertion.
    #[track_caller]
    fn assert_received(&mut self, tab: Tab, lines: &[&str]) {
        let received = self.sink.received_by(tab.conn);
        let news = received.lines.split_off(0);
        assert_eq!(news, lines);
    }

    /// The same for several connections.
    #[track_caller]
    fn assert_all_received(&mut self, tabs: &[Tab], lines: &[&str]) {
        for tab in tabs {
            self.assert_received(*tab, lines);
        }
    }

    fn history(&mut self, room: RoomKey, count: usize) -> Vec<String> {
        let reading = self.chat.history(room, count);
        self.read(room, reading)
    }

    /// The messages after `id`, and whether none is missing.
    fn history_after(&mut self, room: RoomKey, id: Option<MessageId>) -> (Vec<String>, bool) {
        let reading = self.chat.history_after(room, id, usize::MAX);
        (self.read(room, reading), reading.is_complete())
    }

    /// Reads to the end, in small steps.
    fn read(&self, room: RoomKey, mut reading: Reading) -> Vec<String> {
        let mut lines = Vec::new();
        while !reading.is_done() {
            let messages = self.chat.read_on(&mut reading, 100).expect("no message is dropped");
            let line = |message| self.sink.read_message(room, &message).1.to_owned();
            lines.extend(messages.iter().map(line));
        }
        lines
    }

    /// The id of the room's last message.
    fn last_id(&self, room: RoomKey) -> MessageId {
        self.sink.log(room).iter().rev().find_map(|entry| entry.id).unwrap()
    }

    fn user_count(&self, room: RoomKey) -> usize {
        self.chat.room_info(room).map_or(0, |room| room.user_count)
    }

    /// Whether the room exists.
    fn exists(&self, room: RoomKey) -> bool {
        self.chat.room_id(room).is_some()
    }

    fn session_exists(&self, session: SessionKey) -> bool {
        self.chat.name(session).is_some()
    }

    fn session_id(&self, session: SessionKey) -> SessionId {
        self.chat.sessions.get(session).unwrap().id
    }

    /// The session's user id in a room that it has joined.
    fn user_id(&self, session: SessionKey, room: RoomKey) -> Option<UserId> {
        let member = self.chat.sessions.get(session)?.member_in(room)?;
        self.chat.members.get(member).map(|member| member.user_id)
    }

    /// Asserts that the domain has no entry and no timer, and holds no memory.
    #[track_caller]
    fn assert_empty(&self) {
        let chat = &self.chat;
        let counts = [chat.session_count(), chat.room_count(), chat.member_count()];
        assert_eq!((counts, chat.feeds.attachments.len(), chat.timer_count()), ([0; 3], 0, 0));
        assert_eq!((chat.next_deadline(), self.ledger.total()), (None, 0));
    }
}
