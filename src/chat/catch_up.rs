//! Catching up: connections that are first sent what was said before they came.
//!
//! Owns the cursor of each of them. Must never keep a copy of what it sends: until a connection
//! has caught up, the room's new messages wait for it in the history, not in its outbox. The
//! invariant: what one connection is sent, pages and what follows them taken together, is an
//! unbroken run of the room's messages.

use bytes::Bytes;

use super::event::{Frame, MessageId, RoomId, UserId};
use super::presence::AttachmentKey;
use super::{Chat, CloseReason, Sink};
use crate::clock::Now;

/// Messages in one page, in bytes. With what stands around them it stays under 64 KiB, but for the
/// page that tells of a crowd: some seven hundred people are more than that by themselves.
const PAGE_BYTES_MAX: usize = 60 * 1024;

/// What one person takes in the last page besides the name.
const USER_BYTES: usize = 48;

/// Where a connection begins to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// With what comes.
    Live,
    /// With so many of the last messages.
    Last(usize),
    /// With what came after this message; `None`: after one that makes no sense.
    After(Option<MessageId>),
}

/// A page of history.
pub struct Page<'a> {
    /// Whose history.
    pub room_id: RoomId,
    /// The messages' payloads, oldest first.
    pub messages: &'a [Bytes],
    /// What only the last page tells.
    pub last: Option<LastPage<'a>>,
}

/// What the last page tells: the room as it is where the history ends.
pub struct LastPage<'a> {
    /// Whether nothing is missing between what was asked for and what was sent.
    pub complete: bool,
    /// Who the reader is.
    pub you: UserId,
    /// Whether the room is the reader's to delete.
    pub owner: bool,
    /// Who is present, in the order of arrival.
    pub users: &'a [(UserId, &'a str)],
}

/// Where a connection is that catches up.
pub(super) struct CatchUp {
    /// All messages up to this one have been sent, or are not wanted.
    cursor: Option<MessageId>,
    /// The newest message when the connection came in. Up to here it is sent pages, beyond it
    /// what it would have been told.
    until: Option<MessageId>,
    /// Whether the message that it wanted to go on from was kept.
    complete: bool,
    /// The last page has been sent.
    pages_over: bool,
}

impl Chat {
    /// Sends a connection the next of what it has missed. Due whenever what it was sent before
    /// has mostly left.
    pub fn catch_up(&mut self, now: Now, key: AttachmentKey, sink: &mut dyn Sink) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let Some(mut state) = attachment.catch_up.take() else { return };
        let (conn, room_key) = (attachment.conn, attachment.room);
        self.seal(room_key, sink); // What is read below must lie still.
        let Some(room) = self.rooms.get(room_key) else { return };
        if room.history.has_dropped_after(state.cursor) {
            return self.close(now, key, CloseReason::TooSlow, sink);
        }
        if !state.pages_over {
            self.send_page(key, &mut state, sink);
        }
        let pages_over = state.pages_over;
        let mut bytes = 0;
        let mut missed = room.history.after(state.cursor);
        while let Some(entry) = missed.next().filter(|_| pages_over && bytes < PAGE_BYTES_MAX) {
            sink.push_missed(conn, &entry.frame);
            bytes += entry.frame.len();
            state.cursor = Some(entry.id);
        }
        if pages_over && room.history.newest() <= state.cursor {
            return sink.release(conn);
        }
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.catch_up = Some(state);
        }
    }

    /// Has the connection, which has just been given its place, catch up from `start`.
    pub(super) fn begin_catch_up(&mut self, key: AttachmentKey, start: Start, sink: &mut dyn Sink) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let Some(room) = self.rooms.get(attachment.room) else { return };
        let history = &room.history;
        let known = |id: &MessageId| history.get(*id).is_some();
        let (cursor, complete) = match start {
            Start::Live => return,
            Start::Last(count) => (history.before_last(count), true),
            Start::After(id) => match id.filter(known) {
                Some(id) => (Some(id), true),
                None => (history.dropped(), false),
            },
        };
        let until = history.newest();
        let catch_up = CatchUp { cursor, until, complete, pages_over: false };
        attachment.catch_up = Some(Box::new(catch_up));
        sink.hold(attachment.conn);
    }

    /// Tells one connection again what its person has said before, unless it is still to come.
    pub(super) fn tell_again(
        &self,
        key: AttachmentKey,
        id: MessageId,
        frame: &Frame,
        sink: &mut dyn Sink,
    ) {
        let Some(attachment) = self.attachments.get(key) else { return };
        if attachment.catch_up.as_ref().is_some_and(|state| Some(id) > state.cursor) {
            return;
        }
        self.seal(attachment.room, sink);
        sink.push(attachment.conn, frame);
    }

    fn send_page(&self, key: AttachmentKey, state: &mut CatchUp, sink: &mut dyn Sink) {
        let Some(attachment) = self.attachments.get(key) else { return };
        let Some(room) = self.rooms.get(attachment.room) else { return };
        let you = self.member_of(key).and_then(|member| self.members.get(member));
        let Some((you, session)) = you.map(|member| (member.user_id, member.session)) else {
            return;
        };
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let wanted = room.history.after(state.cursor);
        let mut wanted = wanted.take_while(|entry| Some(entry.id) <= state.until).peekable();
        while let Some(entry) = wanted
            .next_if(|entry| messages.is_empty() || bytes + entry.frame.len() <= PAGE_BYTES_MAX)
        {
            bytes += entry.frame.len();
            messages.push(entry.frame.payload());
            state.cursor = Some(entry.id);
        }
        let mut users = Vec::new();
        let mut is_last = wanted.next().is_none();
        if is_last {
            users.extend(self.users(attachment.room));
            // Written down, a character of a name may take two.
            let crowd: usize = users.iter().map(|(_, name)| USER_BYTES + 2 * name.len()).sum();
            // A crowd gets a page of its own, so that messages and users need not share one.
            is_last = messages.is_empty() || bytes + crowd <= PAGE_BYTES_MAX;
        }
        let last = is_last.then_some(LastPage {
            complete: state.complete,
            you,
            owner: room.is_owned_by(session),
            users: &users,
        });
        sink.push_page(attachment.conn, &Page { room_id: room.id, messages: &messages, last });
        state.pages_over = is_last;
    }
}

pub(super) fn check(chat: &Chat) {
    for (key, attachment) in chat.attachments.iter() {
        let Some(state) = &attachment.catch_up else { continue };
        assert!(chat.member_of(key).is_some(), "nobody catches up who is not in");
        let newest = chat.rooms.get(attachment.room).and_then(|room| room.history.newest());
        assert!(state.until <= newest);
        if state.pages_over {
            assert!(state.until <= state.cursor && state.cursor < newest, "else it has caught up");
        } else {
            assert!(state.cursor <= state.until, "no page goes further");
        }
    }
}
