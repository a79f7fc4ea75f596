//! Rooms, as the deciding half knows them.
//!
//! Owns each room's data and the indices by id and age. Must not know a room's connections and
//! history: `feed` keeps them. The invariant: a room that has ended is in no index and has no
//! member, owner or timer left.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::heap::{map_bytes, shrink, tree_bytes, vec_bytes};
use super::id::RoomId;
use super::keys::{MemberKey, RoomKey, SessionKey};
use super::name::Title;
use super::password::Lock;
use crate::clock::Wall;
use crate::ledger::{Tally, allocation};
use crate::timers::TimerKey;

/// A chat room: its identity, its members, and those of them that are present.
pub(super) struct Room {
    pub id: RoomId,
    pub title: Option<Title>,
    pub created: Wall,
    pub lock: Option<Box<Lock>>,
    /// The session that may delete the room, and the room's index in [`Session::owned`]. `None` once
    /// the owner has ended while no member was present.
    ///
    /// [`Session::owned`]: super::session::Session::owned
    pub owner: Option<(SessionKey, usize)>,
    /// The room is being deleted: it gets no further messages.
    pub is_closing: bool,
    /// How many rooms were opened before it.
    pub number: u64,
    /// In arbitrary order; each member knows its place.
    pub members: Vec<MemberKey>,
    /// The members that are present, by arrival.
    pub present: BTreeMap<u64, MemberKey>,
    /// The same members, by folded name. No two have the same name.
    pub names: HashMap<Rc<str>, MemberKey>,
    /// Armed while the room has no connection.
    pub timer: Option<TimerKey>,
    /// Bytes of heap reported so far.
    pub counted: usize,
}

/// The rooms that exist, by id and by age.
#[derive(Default)]
pub(super) struct RoomIndex {
    by_id: HashMap<RoomId, RoomKey>,
    /// By number, so that a listing has the newest last.
    public: BTreeMap<u64, RoomKey>,
    /// Changes whenever a public room or its number of present members may have changed.
    pub revision: u64,
    /// Rooms that were ever opened.
    pub opened: u64,
}

impl Room {
    /// A room without title, password, members, owner and timer.
    pub fn new(id: RoomId, number: u64, created: Wall) -> Room {
        Room {
            id,
            title: None,
            created,
            lock: None,
            owner: None,
            is_closing: false,
            number,
            members: Vec::new(),
            present: BTreeMap::new(),
            names: HashMap::new(),
            timer: None,
            counted: 0,
        }
    }

    pub fn title(&self) -> Option<&str> {
        self.title.as_ref().map(Title::as_str)
    }

    pub fn is_owned_by(&self, session: SessionKey) -> bool {
        self.owner.is_some_and(|(owner, _)| owner == session)
    }

    pub fn heap_bytes(&self) -> usize {
        vec_bytes::<MemberKey>(self.members.capacity())
            + tree_bytes::<u64, MemberKey>(self.present.len())
            + map_bytes::<Rc<str>, MemberKey>(self.names.capacity())
            + self.title.as_ref().map_or(0, |title| allocation(title.as_str().len()))
            + self.lock.as_ref().map_or(0, |lock| allocation(size_of::<Lock>()) + lock.bytes())
    }

    /// Reports the heap after a change.
    pub fn recount(&mut self, tally: &mut Tally) {
        let bytes = self.heap_bytes();
        tally.change(self.counted, bytes);
        self.counted = bytes;
    }
}

impl RoomIndex {
    pub fn insert(&mut self, room: &Room, key: RoomKey) {
        self.by_id.insert(room.id, key);
        if !room.id.is_private() {
            self.public.insert(room.number, key);
            self.revision += 1;
        }
    }

    pub fn remove(&mut self, room: &Room) {
        self.by_id.remove(&room.id);
        shrink(&mut self.by_id);
        self.public.remove(&room.number);
        self.revision += 1;
    }

    pub fn find(&self, id: RoomId) -> Option<RoomKey> {
        self.by_id.get(&id).copied()
    }

    /// The public rooms, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = RoomKey> + Clone {
        self.public.values().rev().copied()
    }

    /// Whether there is a public room with this number.
    pub fn has_number(&self, number: u64) -> bool {
        self.public.contains_key(&number)
    }

    pub fn bytes(&self) -> usize {
        map_bytes::<RoomId, RoomKey>(self.by_id.capacity())
            + tree_bytes::<u64, RoomKey>(self.public.len())
    }

    /// Panics if the indices disagree.
    pub fn check(&self, room_count: usize) {
        agree!(room_count, self.by_id.len());
        assert!(self.public.len() <= room_count);
    }
}
