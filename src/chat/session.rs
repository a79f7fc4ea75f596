//! Sessions: the identities behind secret ids.
//!
//! Owns each session's data and the index by id. Must not show an id to anyone but its bearer. The
//! invariant: a session has a timer exactly while it has no connection, so that a connection keeps
//! it alive and an unused session ends by itself.

use std::collections::HashMap;
use std::rc::Rc;

use smallvec::SmallVec;

use super::heap::{list_bytes, map_bytes, shrink, vec_bytes};
use super::id::SessionId;
use super::keys::{AttachmentKey, MemberKey, RoomKey, SessionKey, SessionTag};
use super::limits::{SESSION_CONNECTIONS_MAX, SESSION_ROOMS_MAX};
use super::name::Name;
use crate::ledger::{Account, Ledger, Tally};
use crate::rate::Meter;
use crate::slots::Slots;
use crate::timers::TimerKey;

/// Bytes of an id on the heap, with the two counts of its `Rc`.
const ID_BYTES: usize = size_of::<SessionId>() + 2 * size_of::<usize>();

/// An identity: a name, and the rooms and connections that go with it.
pub(super) struct Session {
    id: Rc<SessionId>,
    pub name: Name,
    /// In the order of joining; at most [`SESSION_ROOMS_MAX`].
    pub rooms: SmallVec<[(RoomKey, MemberKey); 1]>,
    /// At most [`SESSION_CONNECTIONS_MAX`], including those that wait to be admitted.
    pub attachments: SmallVec<[AttachmentKey; 2]>,
    /// Rooms that the session may delete, in arbitrary order; each room knows its place. Not bounded
    /// by [`SESSION_ROOMS_MAX`]: an owner that leaves a room still owns it.
    pub owned: Vec<RoomKey>,
    /// Armed while there is no attachment.
    pub timer: Option<TimerKey>,
    /// Counts chat messages.
    pub messages: Meter,
    /// Bytes of heap reported so far.
    counted: usize,
}

// See the account in `ledger`.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Session>() == 136);

/// All sessions.
pub(super) struct Sessions {
    slots: Slots<Session, SessionTag>,
    /// The ids are behind an `Rc`, shared with [`Session`], because a map keeps the bytes of keys
    /// that were removed from it; freed memory is zeroed.
    by_id: HashMap<Rc<SessionId>, SessionKey>,
    /// What each session holds on the heap.
    heap_tally: Tally,
}

impl Session {
    /// The session's membership in a room.
    pub fn member_in(&self, room: RoomKey) -> Option<MemberKey> {
        self.rooms.iter().find(|(joined, _)| *joined == room).map(|(_, member)| *member)
    }

    pub fn id(&self) -> SessionId {
        *self.id
    }

    fn heap_bytes(&self) -> usize {
        ID_BYTES
            + self.name.bytes()
            + list_bytes(&self.rooms)
            + list_bytes(&self.attachments)
            + vec_bytes::<RoomKey>(self.owned.capacity())
    }
}

impl Sessions {
    pub fn new(ledger: &Ledger) -> Sessions {
        Sessions {
            slots: Slots::default(),
            by_id: HashMap::new(),
            heap_tally: ledger.tally(Account::Sessions),
        }
    }

    /// Adds a session without connections. Its timer must be armed next.
    pub fn insert(&mut self, id: SessionId, name: Name) -> SessionKey {
        let id = Rc::new(id);
        let key = self.slots.insert(Session {
            id: id.clone(),
            name,
            rooms: SmallVec::new(),
            attachments: SmallVec::new(),
            owned: Vec::new(),
            timer: None,
            messages: Meter::default(),
            counted: 0,
        });
        self.by_id.insert(id, key);
        self.recount(key);
        key
    }

    pub fn remove(&mut self, key: SessionKey) -> Option<Session> {
        let session = self.slots.remove(key);
        if let Some(session) = &session {
            self.by_id.remove(&session.id);
            self.heap_tally.change(session.counted, 0);
        }
        shrink(&mut self.by_id);
        session
    }

    pub fn find(&self, id: SessionId) -> Option<SessionKey> {
        self.by_id.get(&id).copied()
    }

    pub fn get(&self, key: SessionKey) -> Option<&Session> {
        self.slots.get(key)
    }

    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.slots.get_mut(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (SessionKey, &Session)> {
        self.slots.iter()
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Reports a session's heap after a change.
    pub fn recount(&mut self, key: SessionKey) {
        if let Some(session) = self.slots.get_mut(key) {
            let bytes = session.heap_bytes();
            self.heap_tally.change(session.counted, bytes);
            session.counted = bytes;
        }
    }

    /// Bytes that the collections hold, without what each session holds on the heap.
    pub fn slots_bytes(&self) -> usize {
        self.slots.bytes() + map_bytes::<Rc<SessionId>, SessionKey>(self.by_id.capacity())
    }

    /// Panics if the sessions contradict each other or the ledger.
    pub fn check(&self) {
        agree!(self.slots.len(), self.by_id.len());
        let mut heap = 0;
        for (key, session) in self.slots.iter() {
            agree!(self.by_id.get(&session.id), Some(&key));
            agree!(
                session.timer.is_none(),
                !session.attachments.is_empty(),
                "a session without connections has a timer"
            );
            assert!(session.rooms.len() <= SESSION_ROOMS_MAX);
            assert!(session.attachments.len() <= SESSION_CONNECTIONS_MAX);
            agree!(session.counted, session.heap_bytes());
            heap += session.counted;
        }
        agree!(heap, self.heap_tally.bytes(), "the ledger has every session's heap");
    }
}
