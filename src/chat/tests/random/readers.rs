//! What each connection must have received: the model of a reader.
//!
//! It walks along the room's log as its connection hears of it. One that came to listen hears all
//! from its admission on. One that catches up hears the messages from where it wanted to begin,
//! without the typing in between, and all once it has caught up.

use super::*;

/// A connection that has come and whose end the model has not yet looked at.
pub struct Live {
    pub tab: Tab,
    pub session: SessionKey,
    pub room: RoomKey,
    pub start: Start,
    /// Place in the log of what it must hear next; `None` while it waits.
    pub next: Option<usize>,
    /// How much of what it has heard was looked at.
    read: usize,
    /// What its last page must say.
    complete: bool,
}

impl Live {
    pub fn new(tab: Tab, session: SessionKey, room: RoomKey, start: Start) -> Live {
        Live { tab, session, room, start, next: None, read: 0, complete: true }
    }
}

/// The places of the messages that are kept when a room's log is this long.
pub fn kept(log: &[Said]) -> impl Iterator<Item = usize> {
    let newest = (0..log.len()).rev().filter(|place| log[*place].id.is_some());
    let mut kept: Vec<_> = newest.take(HISTORY).collect();
    kept.reverse();
    kept.into_iter()
}

impl Model {
    /// The connection is in, and has heard live what `from` and later says; earlier if it
    /// catches up.
    pub fn begin(&mut self, place: usize, from: usize) {
        let Live { room, tab, start, .. } = self.live[place];
        let log = self.story.sink.log(room);
        let kept: Vec<_> = kept(&log[..from]).collect();
        let (next, complete) = match start {
            Start::Live => (Some(from), true),
            Start::Last(count) => (kept[kept.len().saturating_sub(count)..].first().copied(), true),
            Start::After(id) => {
                match kept.iter().position(|place| log[*place].id == id && id.is_some()) {
                    Some(place) => (kept[place + 1..].first().copied(), true),
                    None => (kept.first().copied(), false),
                }
            }
        };
        let live = &mut self.live[place];
        (live.next, live.complete) = (Some(next.unwrap_or(from)), complete);
        let ear = self.story.sink.ear(tab.conn);
        assert_eq!(ear.until.is_some(), start != Start::Live);
        if let (Start::After(Some(_)), false) = (start, complete) {
            self.seen.insert("resumed with a gap");
        }
    }

    /// One unbroken run of the room's log, up to an end within `ends` unless it is still behind.
    pub fn check_heard(&mut self, live: &mut Live, ends: std::ops::Range<usize>) {
        let ear = &self.story.sink.ears[&live.tab.conn];
        let Some(next) = &mut live.next else { return assert!(ear.heard.is_empty(), "never in") };
        let log = self.story.sink.log(live.room);
        let skip_typing = |next: &mut usize| {
            let caught_up = if ear.held { log.len() } else { ear.released.unwrap_or(0) };
            while *next < caught_up && log[*next].id.is_none() {
                *next += 1;
            }
        };
        for heard in &ear.heard[live.read..] {
            skip_typing(next);
            assert_eq!(heard, next, "a gap, a duplicate or a disorder");
            *next += 1;
        }
        live.read = ear.heard.len();
        skip_typing(next);
        if ear.held {
            match ear.closed {
                None if ear.gone => _ = self.seen.insert("gone while behind"),
                None | Some((CloseReason::TooSlow, _)) => {}
                Some(_) => _ = self.seen.insert("closed while behind"),
            }
        } else {
            assert!(ends.contains(next) || live.read == 0 && *next >= ends.start, "not all of it");
        }
        if let Some(complete) = ear.complete {
            assert_eq!(complete, live.complete);
        }
        if let Some((CloseReason::TooSlow, _)) = ear.closed {
            assert!(ear.held && kept(log).next().is_none_or(|oldest| oldest > *next), "too early");
            self.seen.insert("too slow");
        }
    }

    /// Its connection is over: the person remembers what they have seen last.
    pub fn bookmark(&mut self, live: &Live) {
        let log = self.story.sink.log(live.room);
        let heard = self.story.sink.ears[&live.tab.conn].heard.iter().rev();
        if let Some(last) = heard.copied().find(|place| log[*place].id.is_some()) {
            self.bookmarks.insert((live.session, live.room), log[last].id);
        }
    }

    /// Where somebody wants to begin to listen.
    pub fn start(&mut self, session: SessionKey, room: RoomKey) -> Start {
        let bookmark = self.bookmarks.get(&(session, room)).copied();
        match (self.roll(10), bookmark) {
            (0..6, Some(id)) => Start::After(id),
            (6, _) => Start::After(None),
            (7, _) => {
                let place = self.roll(self.story.sink.log(room).len().max(1) as u64) as usize;
                Start::After(self.story.sink.log(room).get(place).and_then(|said| said.id))
            }
            (8, _) => Start::Last(self.roll(HISTORY as u64 + 10) as usize),
            _ => Start::Live,
        }
    }

    /// What was sent has left: whoever is behind is sent more, or has caught up.
    pub fn read_on(&mut self, tab: Tab) {
        let state = |model: &mut Model| {
            let ear = model.story.sink.ear(tab.conn);
            (ear.pages, ear.heard.len(), ear.held, ear.closed.is_some())
        };
        let before = state(self);
        self.story.read_on(tab);
        assert_eq!(state(self) != before, before.2, "who is behind gets on, and nobody else");
        if before.2 && !self.story.is_behind(tab) {
            self.seen.insert("caught up later");
        }
    }

    /// Says something, new or as before, with a nonce.
    pub fn say_as(&mut self, place: usize) {
        let Live { tab, session, room, next, .. } = self.live[place];
        let Some(user_id) = self.story.user_id(session, room) else { return };
        let fresh = self.roll(3) == 0;
        self.nonces += u64::from(fresh);
        let nonce = (self.nonces - self.roll(self.nonces.min(20) + 1)).to_string();
        let log = self.story.sink.log(room);
        let is_it = |said: &Said| said.user_id == user_id && said.nonce.as_ref() == Some(&nonce);
        let known = kept(log).find(|place| is_it(&log[*place]));
        let was_said = log.iter().any(is_it);
        let (said, again) = (log.len(), self.story.sink.ears[&tab.conn].again.len());
        let result = self.story.try_say_as(tab, "with a nonce", Some(&nonce));
        let Some(mut next) = next.filter(|_| result.is_ok()) else { return };
        let log = self.story.sink.log(room);
        let ear = &self.story.sink.ears[&tab.conn];
        let Some(known) = known else {
            assert!(log.len() == said + 1 && is_it(&log[said]) && ear.again.len() == again);
            if was_said {
                self.seen.insert("nonce forgotten");
            }
            return;
        };
        assert_eq!(log.len(), said, "said twice");
        // What it has heard in this tick has moved on.
        next = ear.heard.last().map_or(next, |last| next.max(last + 1));
        if ear.held && known >= next {
            assert_eq!(ear.again.len(), again, "it is still to come");
            self.seen.insert("nonce still to come");
        } else {
            assert_eq!((ear.again.len(), ear.again.last()), (again + 1, Some(&known)));
            self.seen.insert("told again");
        }
    }
}
