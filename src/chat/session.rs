//! Sessions: the identities behind secret ids.
//!
//! Owns their opening, use and end. Must never show an id to anyone but its bearer. The
//! invariant: a session has a timer exactly while it has no connection, so an open socket keeps
//! it alive and a forgotten one ends by itself.

use std::rc::Rc;

use smallvec::SmallVec;

use super::RoomId;
use super::event::SessionId;
use super::limits::{Address, Meter};
use super::presence::AttachmentKey;
use super::room::{MemberKey, RoomKey};
use super::timer::ChatTimer;
use super::{Chat, CloseReason, Name, Refusal, Sink, list_bytes, shrink, vec_bytes};
use crate::clock::Now;
use crate::slots::Key;
use crate::timers::{TimerKey, Timers};

/// Rooms one session may have joined (contract §3.8).
pub const SESSION_ROOMS_MAX: usize = 200;
/// Connections one session may have, in all its rooms together (contract §3.9).
pub const SESSION_CONNECTIONS_MAX: usize = 20;

/// What an id takes on the heap, with the counts of those who share it.
const ID_BYTES: usize = size_of::<SessionId>() + 2 * size_of::<usize>();

/// A handle on a session.
pub type SessionKey = Key<Session>;

/// An identity: a name and what it takes part in.
pub struct Session {
    id: Rc<SessionId>,
    pub(super) name: Name,
    /// In the order of joining; at most [`SESSION_ROOMS_MAX`].
    pub(super) rooms: SmallVec<[(RoomKey, MemberKey); 1]>,
    /// At most [`SESSION_CONNECTIONS_MAX`], the waiting ones included.
    pub(super) attachments: SmallVec<[AttachmentKey; 2]>,
    /// Rooms that it may end, in no order that means anything; each room knows its place. Not
    /// bounded by [`SESSION_ROOMS_MAX`]: who leaves a room still owns it.
    pub(super) owned: Vec<RoomKey>,
    /// Armed while there is no attachment.
    pub(super) timer: Option<TimerKey>,
    /// Counts chats.
    pub(super) messages: Meter,
    /// Bytes of heap reported for it so far.
    pub(super) counted: usize,
}

// See the account in `ledger`.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Session>() == 136);

impl Session {
    pub(super) fn member_in(&self, room: RoomKey) -> Option<MemberKey> {
        self.rooms.iter().find(|(joined, _)| *joined == room).map(|(_, member)| *member)
    }

    fn heap_bytes(&self) -> usize {
        ID_BYTES
            + self.name.bytes()
            + list_bytes(&self.rooms)
            + list_bytes(&self.attachments)
            + vec_bytes::<RoomKey>(self.owned.capacity())
    }
}

impl Chat {
    /// Opens a session. `from`: whose share of openings it counts against, if anyone's.
    pub fn open_session(
        &mut self,
        now: Now,
        name: Name,
        from: Option<Address>,
    ) -> Result<SessionId, Refusal> {
        // First of all, lest something new be remembered of an address.
        if self.sessions.len() >= self.settings.sessions_max || self.is_full() {
            return Err(Refusal::ServerFull);
        }
        if let Some(address) = from {
            let meter = &mut self.addresses.entry(address).sessions;
            let paced = self.settings.session_pace.take(meter, now.mono);
            self.remember(now, address);
            paced.map_err(Refusal::RateLimited)?;
        }
        let id = SessionId::new(&mut *self.entropy);
        self.insert_session(id, name, |timers, key| {
            timers.arm(ChatTimer::SessionUnused(key), now.mono)
        });
        self.recount();
        Ok(id)
    }

    pub(super) fn insert_session(
        &mut self,
        id: SessionId,
        name: Name,
        arm: impl FnOnce(&mut Timers<ChatTimer>, SessionKey) -> TimerKey,
    ) -> SessionKey {
        let kept = Rc::new(id);
        let key = self.sessions.insert_with(|key| Session {
            id: kept.clone(),
            name,
            rooms: SmallVec::new(),
            attachments: SmallVec::new(),
            owned: Vec::new(),
            timer: Some(arm(&mut self.timers, key)),
            messages: Meter::default(),
            counted: 0,
        });
        self.session_keys.insert(kept, key);
        self.recount_session(key);
        key
    }

    /// The session with that id, if it lives.
    pub fn session(&self, id: SessionId) -> Option<SessionKey> {
        self.session_keys.get(&id).copied()
    }

    /// The session is being used: its life begins anew.
    pub fn touch(&mut self, now: Now, session: SessionKey) {
        if let Some(timer) = self.sessions.get(session).and_then(|session| session.timer) {
            self.timers.rearm(timer, now.mono);
        }
    }

    /// The session's name.
    pub fn name(&self, session: SessionKey) -> Option<&Name> {
        self.sessions.get(session).map(|session| &session.name)
    }

    /// The session's living rooms, in the order of joining.
    pub fn rooms_of(&self, session: SessionKey) -> impl Iterator<Item = RoomId> + Clone {
        let rooms = self.sessions.get(session).map_or(&[][..], |session| &session.rooms);
        rooms.iter().filter_map(|(room, _)| Some(self.rooms.get(*room)?.id))
    }

    /// Ends a session: its connections are closed and it leaves all its rooms.
    pub fn end_session(&mut self, now: Now, session: SessionKey, sink: &mut dyn Sink) {
        if let Some(timer) = self.sessions.get(session).and_then(|session| session.timer) {
            self.timers.cancel(timer);
        }
        self.remove_session(now, session, sink);
    }

    /// What both ways to end a session come to; its timer has fired or was cancelled.
    pub(super) fn remove_session(&mut self, now: Now, key: SessionKey, sink: &mut dyn Sink) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.timer = None;
        let attachments = session.attachments.clone();
        for attachment in attachments {
            self.close(now, attachment, CloseReason::InvalidSession, sink);
        }
        while let Some(&(_, member)) = self.sessions.get(key).and_then(|s| s.rooms.first()) {
            self.remove_member(now, member, sink);
        }
        let owned = self.sessions.get_mut(key).map(|session| std::mem::take(&mut session.owned));
        for room in owned.unwrap_or_default() {
            self.inherit(room);
        }
        if let Some(session) = self.sessions.remove(key) {
            // Closing its last attachment has armed a timer again.
            session.timer.map(|timer| self.timers.cancel(timer));
            self.session_keys.remove(&session.id);
            self.session_heap_tally.change(session.counted, 0);
        }
        shrink(&mut self.session_keys);
        self.recount();
    }

    pub(super) fn session_id(&self, key: SessionKey) -> Option<SessionId> {
        self.sessions.get(key).map(|session| *session.id)
    }

    /// Reports a session's heap after a change.
    pub(super) fn recount_session(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            let bytes = session.heap_bytes();
            self.session_heap_tally.change(session.counted, bytes);
            session.counted = bytes;
        }
    }
}

pub(super) fn check(chat: &Chat) {
    agree!(chat.sessions.len(), chat.session_keys.len());
    let mut heap = 0;
    for (key, session) in chat.sessions.iter() {
        agree!(chat.session_keys.get(&session.id), Some(&key));
        agree!(session.timer.is_none(), !session.attachments.is_empty(), "a timer iff unused");
        assert!(session.rooms.len() <= SESSION_ROOMS_MAX);
        assert!(session.attachments.len() <= SESSION_CONNECTIONS_MAX);
        for (room, member) in &session.rooms {
            let member = chat.members.get(*member).expect("a session's members live");
            agree!((member.session, member.room), (key, *room));
        }
        for attachment in &session.attachments {
            let attachment = chat.attachments.get(*attachment).expect("attachments live");
            agree!(attachment.session, key);
        }
        agree!(session.counted, session.heap_bytes());
        heap += session.counted;
    }
    agree!(heap, chat.session_heap_tally.bytes(), "the ledger has every session's heap");
}
