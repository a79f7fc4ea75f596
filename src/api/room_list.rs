//! The operator's list of all rooms, encoded in parts.
//!
//! Owns the content of that list. Must not know the connection that reads it. The invariant: a part is
//! bounded in bytes and in the number of places that it visits, however many rooms there are. A room
//! that begins or ends while the list is read may be in it or not.

use serde::Serialize;

use super::json::{self, Displayed, Timestamp};
use crate::chat::{Chat, RoomId};

/// Bytes of rooms in one part, apart from the last room.
const PART_BYTES: usize = 32 * 1024;

/// Places of rooms that one part visits.
const PART_PLACES: usize = 4096;

/// The part of the list that has not been encoded yet.
#[derive(Clone, Copy, Default, Debug)]
pub struct RoomList {
    next: usize,
    has_begun: bool,
    has_rooms: bool,
}

impl RoomList {
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
        let end = chat.room_index_end();
        let last = self.next.saturating_add(PART_PLACES).min(end);
        while self.next < last && out.len() - start < PART_BYTES {
            let usage = chat.room_usage(self.next);
            self.next += 1;
            let Some((room, messages, bytes)) = usage else { continue };
            if std::mem::replace(&mut self.has_rooms, true) {
                out.push(b',');
            }
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
