//! A list of messages as the content of a response, encoded in parts.
//!
//! Owns the content between its begin and its end, and its length. Must not know the connection that
//! reads it. The invariant: the parts together have as many bytes as the response's `Content-Length`
//! says, which is known before the first is sent; if a message of the list is dropped meanwhile, the
//! response cannot be completed. If the text of one is deleted meanwhile, its event has another
//! length; spaces before the end of the content make up for the difference.

use super::json;
use crate::chat::{Chat, Reading, RoomKey};
use crate::clock::Stamps;

/// The content before the first message.
const BEGIN: &[u8] = b"{\"messages\":[";

/// Bytes of messages in one part. One message can be longer.
const PART_BYTES: usize = 60 * 1024;

/// Bytes of the field that an event has in addition when its text is deleted.
const DELETION_BYTES: usize = r#","deleted":true"#.len();

/// The part of a list of messages that has not been encoded yet. A list can be as long as a history,
/// so it is encoded while the client reads it.
#[derive(Clone, Copy, Debug)]
pub struct MessageList {
    reading: Reading,
    is_first: bool,
    /// The content after the last message.
    end: &'static str,
    /// Bytes of content, spaces included.
    left: usize,
}

impl MessageList {
    /// Begins the list of what `reading` gives, which ends with `end`. Returns the first part of the
    /// content, and the rest if it is not all.
    pub fn begin(
        chat: &Chat,
        reading: Reading,
        end: &'static str,
    ) -> (Vec<u8>, Option<MessageList>) {
        let extent = chat.extent(&reading, DELETION_BYTES);
        let commas = extent.messages.saturating_sub(1);
        // Nothing can be deleted before the first part is encoded.
        let spaces = if extent.event_bytes > PART_BYTES { extent.growth } else { 0 };
        let left = extent.event_bytes + commas + spaces + end.len();
        let mut list = MessageList { reading, is_first: true, end, left };
        let mut body = BEGIN.to_vec();
        let is_done = list.append(chat, &mut body);
        debug_assert!(is_done.is_some(), "the history has all of it at this moment");
        (body, Some(list).filter(|_| is_done == Some(false)))
    }

    /// Bytes of content that are left.
    pub fn left_bytes(&self) -> usize {
        self.left
    }

    /// The room of the messages.
    pub fn room(&self) -> RoomKey {
        self.reading.room()
    }

    /// Appends the next part of the content, of about 60 KiB, and returns whether it is the last.
    /// `None`: a message that belongs to the content is no longer kept, so the response cannot be
    /// completed.
    pub fn append(&mut self, chat: &Chat, out: &mut Vec<u8>) -> Option<bool> {
        let start = out.len();
        if !self.reading.is_done() {
            let messages = chat.read_on(&mut self.reading, PART_BYTES)?;
            if !messages.is_empty() && !std::mem::take(&mut self.is_first) {
                out.push(b',');
            }
            json::messages(out, &messages, &mut Stamps::default());
        }
        let mut left = self.left.checked_sub(out.len() - start)?;
        if self.reading.is_done() {
            let spaces = left.checked_sub(self.end.len())?;
            let now = spaces.min(PART_BYTES.saturating_sub(out.len() - start));
            out.resize(out.len() + now, b' ');
            left -= now;
            if now == spaces {
                out.extend_from_slice(self.end.as_bytes());
                left = 0;
            }
        }
        self.left = left;
        Some(left == 0)
    }
}
