//! The operator's list of all rooms, encoded in parts.
//!
//! Owns the content of that list. Must not know the connection that reads it. The invariant: a part is
//! bounded in bytes and in the number of places that it visits, however many rooms there are. A room
//! that begins or ends while the list is read may be in it or not.

use serde::Serialize;

use super::json::{self, Displayed, Timestamp};
#[cfg(feature = "cluster")]
use crate::chat::OwnedRoom;
use crate::chat::{Chat, RoomId, RoomInfo};

/// Bytes of rooms in one part, apart from the last room.
const PART_BYTES: usize = 32 * 1024;

/// Places of rooms that one part visits.
const PART_PLACES: usize = 4096;

/// The part of the list that has not been encoded yet.
#[derive(Clone, Default, Debug)]
pub struct RoomList {
    /// The rooms of a cluster, if this is their list: what is known of each, its messages and its bytes.
    #[cfg(feature = "cluster")]
    fetched: Option<Vec<(OwnedRoom, usize, usize)>>,
    next: usize,
    has_begun: bool,
    has_rooms: bool,
}

impl RoomList {
    /// A list of rooms that were fetched.
    #[cfg(feature = "cluster")]
    pub fn of(rooms: Vec<(OwnedRoom, usize, usize)>) -> RoomList {
        RoomList { fetched: Some(rooms), ..RoomList::default() }
    }

    /// The list ends before this place.
    fn end(&self, chat: &Chat) -> usize {
        #[cfg(feature = "cluster")]
        if let Some(rooms) = &self.fetched {
            return rooms.len();
        }
        chat.room_index_end()
    }

    /// The room at a place.
    fn usage<'a>(&'a self, chat: &'a Chat, place: usize) -> Option<(RoomInfo<'a>, usize, usize)> {
        #[cfg(feature = "cluster")]
        if let Some(rooms) = &self.fetched {
            let (room, messages, bytes) = rooms.get(place)?;
            return Some((room.info(), *messages, *bytes));
        }
        chat.room_usage(place)
    }

    /// Appends the next part of the content, which is not empty. Returns whether it is the last.
    pub fn append(&mut self, chat: &Chat, out: &mut Vec<u8>) -> bool {
        #[derive(Serialize)]
        struct RoomUsage<'a> {
            room_id: Displayed<RoomId>,
            title: Option<&'a str>,
            private: bool,
            users: usize,
            messages: usize,
            bytes: usize,
            created_at: Timestamp,
        }
        let start = out.len();
        if !std::mem::replace(&mut self.has_begun, true) {
            out.extend_from_slice(b"{\"rooms\":[");
        }
        let end = self.end(chat);
        let last = self.next.saturating_add(PART_PLACES).min(end);
        while self.next < last && out.len() - start < PART_BYTES {
            let place = self.next;
            self.next += 1;
            if self.usage(chat, place).is_none() {
                continue;
            }
            if std::mem::replace(&mut self.has_rooms, true) {
                out.push(b',');
            }
            let Some((room, messages, bytes)) = self.usage(chat, place) else { continue };
            let usage = RoomUsage {
                room_id: Displayed(room.id),
                title: room.title,
                private: room.is_private,
                users: room.user_count,
                messages,
                bytes,
                created_at: Timestamp(room.created),
            };
            json::write(out, &usage);
        }
        if self.next < end {
            // A part of places without rooms: white space, because a chunk must not be empty.
            if out.len() == start {
                out.push(b' ');
            }
            return false;
        }
        out.extend_from_slice(b"]}");
        true
    }
}
