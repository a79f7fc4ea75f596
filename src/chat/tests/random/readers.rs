//! The model of one connection: the events that it must have received.
//!
//! A live connection receives every event of the room's log from its admission on. A connection
//! that catches up receives the messages from its start on, without typing events, and every event
//! once it has caught up.

use super::*;

/// A connection that is in a room or waits to enter, until the model has checked its end.
pub struct Reader {
    pub tab: Tab,
    pub session: SessionKey,
    pub room: RoomKey,
    pub start: Start,
    /// The index in the log of the next event that the connection must receive; `None` while it
    /// waits.
    pub next: Option<usize>,
    /// The number of received events that have been checked.
    read: usize,
    /// The expected [`LastPage::complete`].
    complete: bool,
}

impl Reader {
    pub fn new(tab: Tab, session: SessionKey, room: RoomKey, start: Start) -> Reader {
        Reader { tab, session, room, start, next: None, read: 0, complete: true }
    }
}

/// The indices in `log` of the messages that the history keeps.
pub fn kept(log: &[LogEntry]) -> impl Iterator<Item = usize> {
    let newest = (0..log.len()).rev().filter(|place| log[*place].id.is_some());
    let mut kept: Vec<_> = newest.take(HISTORY).collect();
    kept.reverse();
    kept.into_iter()
}

impl Model {
    /// A connection is now in the room. It must receive the log from `from` on, or from an earlier
    /// index if it catches up.
    pub fn begin(&mut self, place: usize, from: usize) {
        let Reader { room, tab, start, .. } = self.readers[place];
        let log = self.story.sink.log(room);
        let kept: Vec<_> = kept(&log[..from]).collect();
        let (next, complete) = match start {
            Start::Live | Start::Welcome => (Some(from), true),
            Start::Last(count) => (kept[kept.len().saturating_sub(count)..].first().copied(), true),
            Start::After(id) => {
                match kept.iter().position(|place| log[*place].id == id && id.is_some()) {
                    Some(place) => (kept[place + 1..].first().copied(), true),
                    None => (kept.first().copied(), false),
                }
            }
        };
        let reader = &mut self.readers[place];
        (reader.next, reader.complete) = (Some(next.unwrap_or(from)), complete);
        let received = self.story.sink.received_by(tab.conn);
        assert_eq!(received.until.is_some(), start != Start::Live);
        if let (Start::After(Some(_)), false) = (start, complete) {
            self.seen.insert("resumed with a gap");
        }
    }

    /// Asserts that the connection has received an unbroken part of the room's log. Unless it is
    /// still catching up, the end of that part must lie within `ends`.
    pub fn check_received(&mut self, reader: &mut Reader, ends: std::ops::Range<usize>) {
        let received = &self.story.sink.received[&reader.tab.conn];
        let Some(next) = &mut reader.next else {
            return assert!(received.places.is_empty(), "the connection never entered");
        };
        let log = self.story.sink.log(reader.room);
        let skip_typing = |next: &mut usize| {
            let caught_up =
                if received.is_catching_up { log.len() } else { received.caught_up.unwrap_or(0) };
            while *next < caught_up && log[*next].id.is_none() {
                *next += 1;
            }
        };
        for place in &received.places[reader.read..] {
            skip_typing(next);
            assert_eq!(place, next, "events are missing, repeated or in the wrong order");
            *next += 1;
        }
        reader.read = received.places.len();
        skip_typing(next);
        if received.is_catching_up {
            match received.closed {
                None if received.ended => _ = self.seen.insert("ended while catching up"),
                None | Some((CloseReason::TooSlow, _)) => {}
                Some(_) => _ = self.seen.insert("closed while catching up"),
            }
        } else {
            // What a room has published in the tick of its end is dropped.
            let is_deleted = matches!(received.closed, Some((CloseReason::RoomDeleted, _)));
            let is_cut = is_deleted && *next < ends.end;
            assert!(
                is_cut || ends.contains(next) || reader.read == 0 && *next >= ends.start,
                "the connection has received too little or too much"
            );
        }
        if let Some(complete) = received.complete {
            assert_eq!(complete, reader.complete);
        }
        if let Some((CloseReason::TooSlow, _)) = received.closed {
            assert!(
                received.is_catching_up && kept(log).next().is_none_or(|oldest| oldest > *next),
                "closed although no message was lost"
            );
            self.seen.insert("too slow");
        }
    }

    /// A connection has ended. Notes the last message that it has received, for resuming.
    pub fn bookmark(&mut self, reader: &Reader) {
        let log = self.story.sink.log(reader.room);
        let places = self.story.sink.received[&reader.tab.conn].places.iter().rev();
        if let Some(last) = places.copied().find(|place| log[*place].id.is_some()) {
            self.bookmarks.insert((reader.session, reader.room), log[last].id);
        }
    }

    /// Chooses where a new connection of the session begins.
    pub fn start(&mut self, session: SessionKey, room: RoomKey) -> Start {
        let bookmark = self.bookmarks.get(&(session, room)).copied();
        match (self.roll(10), bookmark) {
            (0..6, Some(id)) => Start::After(id),
            (6, _) => Start::After(None),
            (7, _) => {
                let place = self.roll(self.story.sink.log(room).len().max(1) as u64) as usize;
                Start::After(self.story.sink.log(room).get(place).and_then(|len| len.id))
            }
            (8, _) => Start::Last(self.roll(HISTORY as u64 + 10) as usize),
            _ => Start::Live,
        }
    }

    /// The connection's output has been written, so that it is sent more if it catches up.
    pub fn catch_up_once(&mut self, tab: Tab) {
        let state = |model: &mut Model| {
            let received = model.story.sink.received_by(tab.conn);
            (
                received.pages,
                received.places.len(),
                received.is_catching_up,
                received.closed.is_some(),
            )
        };
        let before = state(self);
        self.story.catch_up_once(tab);
        assert_eq!(
            state(self) != before,
            before.2,
            "only a connection that catches up makes progress"
        );
        if before.2 && !self.story.is_catching_up(tab) {
            self.seen.insert("caught up later");
        }
    }

    /// Sends a message with a nonce, which is new or has been used before.
    pub fn send_with(&mut self, place: usize) {
        let Reader { tab, session, room, next, .. } = self.readers[place];
        let Some(user_id) = self.story.user_id(session, room) else { return };
        let fresh = self.roll(3) == 0;
        self.nonces += u64::from(fresh);
        let nonce = (self.nonces - self.roll(self.nonces.min(20) + 1)).to_string();
        let log = self.story.sink.log(room);
        let is_that = |len: &LogEntry| len.user_id == user_id && len.nonce.as_ref() == Some(&nonce);
        let known = kept(log).find(|place| is_that(&log[*place]));
        let was_sent = log.iter().any(is_that);
        let (len, again) = (log.len(), self.story.sink.received[&tab.conn].again.len());
        let result = self.story.try_send_with(tab, "with a nonce", Some(&nonce));
        let Some(mut next) = next.filter(|_| result.is_ok()) else { return };
        let log = self.story.sink.log(room);
        let received = &self.story.sink.received[&tab.conn];
        let Some(known) = known else {
            assert!(log.len() == len + 1 && is_that(&log[len]) && received.again.len() == again);
            if was_sent {
                self.seen.insert("nonce forgotten");
            }
            return;
        };
        assert_eq!(log.len(), len, "a message with a known nonce was posted again");
        // The connection may have received events in this tick that the model has not checked yet.
        next = received.places.last().map_or(next, |last| next.max(last + 1));
        if received.is_catching_up && known >= next {
            assert_eq!(received.again.len(), again, "catching up has yet to send the message");
            self.seen.insert("nonce still to come");
        } else {
            assert_eq!((received.again.len(), received.again.last()), (again + 1, Some(&known)));
            self.seen.insert("repeated");
        }
    }
}
