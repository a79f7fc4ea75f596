//! Catching up: what a connection has missed, in pages.
//!
//! Owns the cursor of one connection in its room's history. Must not copy messages: until a
//! connection has caught up, the room's new messages stay in the history instead of in its outbox.
//! The invariant: the pages and the frames after them are an unbroken run of the room's messages.

use super::event::{LastPage, Page};
use super::history::History;
use super::id::{MessageId, RoomId};
use super::keys::ConnKey;
use super::sink::Sink;

/// Bytes of messages in one page. A page stays under 64 KiB with everything else in it, unless it
/// lists more than about 700 people.
const PAGE_BYTES_MAX: usize = 60 * 1024;

/// Bytes of a person in the last page, besides the name.
const USER_BYTES: usize = 48;

/// Where a connection begins to receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// With the next event.
    Live,
    /// With this many of the last messages.
    Last(usize),
    /// With the messages after this one. `None`: after a message whose id is not valid.
    After(Option<MessageId>),
}

/// The progress of a connection that is catching up.
pub(super) struct CatchUp {
    /// All messages up to this one have been sent, or are not wanted.
    cursor: Option<MessageId>,
    /// The newest message when the connection entered. Messages up to this one are sent in pages,
    /// later ones as events.
    until: Option<MessageId>,
    /// Whether the message that it continues from was kept.
    complete: bool,
    /// The last page has been sent.
    pages_done: bool,
}

impl CatchUp {
    /// `None` if the connection begins live.
    pub fn begin(start: Start, history: &History) -> Option<CatchUp> {
        let known = |id: &MessageId| history.get(*id).is_some();
        let (cursor, complete) = match start {
            Start::Live => return None,
            Start::Last(count) => (history.before_last(count), true),
            Start::After(id) => match id.filter(known) {
                Some(id) => (Some(id), true),
                None => (history.dropped, false),
            },
        };
        Some(CatchUp { cursor, until: history.newest(), complete, pages_done: false })
    }

    /// Whether a message that was still to be sent has been dropped.
    pub fn is_cut_off(&self, history: &History) -> bool {
        history.has_dropped_after(self.cursor)
    }

    /// Whether a message is still to be sent.
    pub fn is_due(&self, id: MessageId) -> bool {
        Some(id) > self.cursor
    }

    /// Queues the next page, or after the last page the next events. Returns whether the connection
    /// has caught up.
    pub fn send_next<'a>(
        &mut self,
        to: ConnKey,
        room_id: RoomId,
        last: &dyn Fn(bool) -> LastPage<'a>,
        history: &History,
        sink: &mut dyn Sink,
    ) -> bool {
        if !self.pages_done {
            self.send_page(to, room_id, last, history, sink);
            if !self.pages_done {
                return false;
            }
        }
        let mut bytes = 0;
        let mut missed = history.after(self.cursor);
        while let Some(entry) = missed.next().filter(|_| bytes < PAGE_BYTES_MAX) {
            sink.push_missed(to, &entry.frame);
            bytes += entry.frame.len_bytes();
            self.cursor = Some(entry.id);
        }
        history.newest() <= self.cursor
    }

    fn send_page<'a>(
        &mut self,
        to: ConnKey,
        room_id: RoomId,
        last: &dyn Fn(bool) -> LastPage<'a>,
        history: &History,
        sink: &mut dyn Sink,
    ) {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let wanted = history.after(self.cursor);
        let mut wanted = wanted.take_while(|entry| Some(entry.id) <= self.until).peekable();
        while let Some(entry) = wanted.next_if(|entry| {
            messages.is_empty() || bytes + entry.frame.len_bytes() <= PAGE_BYTES_MAX
        }) {
            bytes += entry.frame.len_bytes();
            messages.push(entry.frame.payload());
            self.cursor = Some(entry.id);
        }
        let mut last_page = None;
        if wanted.next().is_none() {
            let page = last(self.complete);
            // JSON may escape a character of a name into two.
            let user_bytes = |(_, name): &(_, &str)| USER_BYTES + 2 * name.len();
            let users_bytes = page.users.iter().map(user_bytes).sum::<usize>();
            // Many people get a page of their own, without messages.
            let fits = messages.is_empty() || bytes + users_bytes <= PAGE_BYTES_MAX;
            last_page = fits.then_some(page);
        }
        self.pages_done = last_page.is_some();
        sink.push_page(to, &Page { room_id, messages: &messages, last: last_page });
    }

    /// Panics if the progress contradicts the history.
    pub fn check(&self, history: &History) {
        let newest = history.newest();
        assert!(self.until <= newest);
        if self.pages_done {
            assert!(
                self.until <= self.cursor && self.cursor < newest,
                "otherwise it has caught up"
            );
        } else {
            assert!(self.cursor <= self.until, "pages end at `until`");
        }
    }
}
