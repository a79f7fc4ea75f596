//! Catching up: a connection is sent the messages that it has missed, in pages.
//!
//! Owns the cursor of one connection in its room's history. Must not queue messages ahead: until
//! the connection has caught up, the room's new messages wait in the history and do not fill its
//! outbox. The invariant: the pages and the frames after them contain each of the room's messages
//! once, in order and without a gap.

use super::history::History;
use super::id::{MessageId, RoomId};
use super::kept::MessageCopies;
use super::keys::ConnKey;
use super::sink::{LastPage, Page, Sink};
use super::store::{Place, Store};

/// Bytes of messages in one page. The whole page stays under 64 KiB.
const PAGE_BYTES_MAX: usize = 60 * 1024;

/// Bytes of JSON for one user in the last page, without the name.
const USER_BYTES: usize = 48;

/// The position among its room's messages at which a connection begins to receive.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Start {
    /// At the next event.
    #[default]
    Live,
    /// Likewise, after [`Sink::welcome`].
    Welcome,
    /// This many messages before the end of the history.
    Last(usize),
    /// After this message. `None`: the client gave a malformed id, which counts as unknown.
    After(Option<MessageId>),
}

/// The progress of a connection that is catching up.
pub(super) struct CatchUp {
    /// Messages up to this one have been sent, or precede the [`Start`].
    cursor: Option<MessageId>,
    /// The newest message when the connection entered. Messages up to this one are sent in pages,
    /// later ones as single frames.
    until: Option<MessageId>,
    /// The value of [`History::gaps`] up to which no message after the cursor is missing.
    gaps: u32,
    /// False if the client asked to resume after a message that was not in the history, or after
    /// which another was dropped.
    complete: bool,
    /// The last page has been sent.
    pages_done: bool,
    /// How often the room had changed when the last page was sent. Later changes are not in the
    /// history, and live events skip the connection.
    pub changes: u16,
}

impl CatchUp {
    /// Places the cursor. `None` if the connection begins live.
    pub fn begin(start: Start, history: &History, store: &Store) -> Option<CatchUp> {
        let (cursor, complete) = match start {
            Start::Live | Start::Welcome => return None,
            Start::Last(count) => (history.before_last(store, count), true),
            Start::After(id) => match id.filter(|id| history.has(store, *id)) {
                Some(id) => (Some(id), history.is_complete_after(id)),
                None => (history.floor(), false),
            },
        };
        let (until, gaps) = (history.newest(), history.gaps());
        Some(CatchUp { cursor, until, gaps, complete, pages_done: false, changes: 0 })
    }

    /// Whether the history has dropped a message that has not been sent.
    pub fn is_cut_off(&mut self, history: &History) -> bool {
        let has_gap = self.gaps != history.gaps() && history.dropped() > self.cursor;
        self.gaps = history.gaps();
        has_gap || history.floor() > self.cursor
    }

    /// Whether the message has not been sent yet.
    pub fn is_due(&self, id: MessageId) -> bool {
        Some(id) > self.cursor
    }

    /// Queues the next page and, once the last page is queued, about a page's size of the later
    /// frames. Returns whether the connection has caught up.
    pub fn send_next<'a>(
        &mut self,
        to: ConnKey,
        (room_id, changes): (RoomId, u16),
        last: &dyn Fn(bool) -> LastPage<'a>,
        history: &History,
        store: &Store,
        sink: &mut dyn Sink,
    ) -> bool {
        if !self.pages_done {
            self.send_page(to, room_id, last, history, store, sink);
            if !self.pages_done {
                return false;
            }
            self.changes = changes;
        }
        let (mut messages, mut bytes) = (MessageCopies::of(room_id), 0);
        let mut missed = history.after(store, self.cursor);
        while let Some(place) = missed.filter(|_| bytes < PAGE_BYTES_MAX) {
            history.copy(store, place, &mut messages);
            bytes += history.event_bytes(store, place);
            self.cursor = Some(history.id(store, place));
            missed = history.next(store, place);
        }
        if !messages.is_empty() {
            sink.push_missed(to, &messages);
        }
        missed.is_none()
    }

    fn send_page<'a>(
        &mut self,
        to: ConnKey,
        room_id: RoomId,
        last: &dyn Fn(bool) -> LastPage<'a>,
        history: &History,
        store: &Store,
        sink: &mut dyn Sink,
    ) {
        let (mut messages, mut bytes) = (MessageCopies::of(room_id), 0);
        let in_pages = |place: &Place| Some(history.id(store, *place)) <= self.until;
        let mut wanted = history.after(store, self.cursor).filter(in_pages);
        while let Some(place) = wanted {
            let event_bytes = history.event_bytes(store, place);
            if !messages.is_empty() && bytes + event_bytes > PAGE_BYTES_MAX {
                break;
            }
            bytes += event_bytes;
            history.copy(store, place, &mut messages);
            self.cursor = Some(history.id(store, place));
            wanted = history.next(store, place).filter(in_pages);
        }
        let mut last_page = None;
        if wanted.is_none() {
            let page = last(self.complete);
            // JSON escapes a quotation mark or a backslash in a name: two bytes instead of one.
            let user_bytes = |(_, name): &(_, &str)| USER_BYTES + 2 * name.len();
            let users_bytes = page.users.iter().map(user_bytes).sum::<usize>();
            // Users that do not fit beside the messages get a page of their own, which the sink continues
            // in further frames.
            let fits = messages.is_empty() || bytes + users_bytes <= PAGE_BYTES_MAX;
            last_page = fits.then_some(page);
        }
        self.pages_done = last_page.is_some();
        if self.pages_done {
            self.cursor = self.cursor.max(self.until); // The newest may have been dropped.
        }
        sink.push_page(to, &Page { room_id, messages: &messages, last: last_page });
    }

    /// Panics if the cursor contradicts the history.
    pub fn check(&self, history: &History) {
        let newest = history.newest();
        holds!(self.until <= newest);
        if self.pages_done {
            holds!(
                self.until <= self.cursor && self.cursor < newest,
                "a connection that has caught up keeps no cursor"
            );
        } else {
            holds!(self.cursor <= self.until, "pages end at `until`");
        }
    }
}
