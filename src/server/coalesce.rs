//! Room batches: consecutive events of a room become one shared buffer.
//!
//! Owns the buffers that events are encoded into. Must not know the recipients, except those that
//! are ahead. The invariant: a batch holds whole frames only, and a connection that is ahead is at
//! the end of one.
//!
//! A batch that only background connections have written to may stay open for some ticks, as the
//! schedule decides: the more frames leave in one piece, the less each of them costs. A connection
//! that is sent something of its own meanwhile is sent the batch's frames so far before it, and one
//! that enters needs none of them. Both are *ahead*: when the batch is sealed, they are sent the
//! rest. Sealing early instead would cost a visit to every recipient.

use crate::chat::{BATCH_BYTES_FULL, ConnKey, Published, RoomKey};
use crate::ledger::{Account, Ledger, Tally};
use crate::net::{Piece, PieceStock};
use crate::ws;

/// The largest capacity of a buffer: a full batch, and the message that filled it.
const BATCH_BYTES_MAX: usize = 2 * BATCH_BYTES_FULL;

/// The capacity that a buffer begins with: a message of a few lines.
const BUFFER_BYTES: usize = 1024;

/// Total capacity of the buffers that are kept for reuse, in bytes: enough for 256 small batches,
/// or for four full ones.
const SPARE_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;

/// Up to this length, the memory of `places` is not given back while there are rooms.
const PLACES_MIN: usize = 1024;

/// Reads as "no batch" in [`Batches::places`].
const NONE: u32 = u32::MAX;

struct Batch {
    room: RoomKey,
    /// Whole frames up to `complete`; after that, what a panicking encoder left behind.
    buffer: Vec<u8>,
    complete: usize,
    /// An interactive connection or a timer has written to it, so it is sealed in this tick.
    is_urgent: bool,
    ahead: Ahead,
}

/// The connections that do not need all of a batch, each with the bytes that it does not need. In
/// the order of their keys.
type Ahead = Vec<(ConnKey, u32)>;

/// A sealed batch.
pub(super) struct Sealed {
    frames: Piece,
    /// False: only background connections have written to it.
    pub is_urgent: bool,
    ahead: Ahead,
}

impl Sealed {
    /// The frames that a connection still needs; empty: it has them all.
    #[inline]
    pub fn frames_for(&self, to: ConnKey) -> Piece {
        // The common case, for every recipient of every batch.
        if self.ahead.is_empty() { self.frames.clone() } else { self.rest_for(to) }
    }

    #[inline(never)]
    fn rest_for(&self, to: ConnKey) -> Piece {
        let place = self.ahead.binary_search_by_key(&to, |(key, _)| *key);
        match place.ok().and_then(|place| self.ahead.get(place)) {
            Some((_, start)) => Piece::private(self.frames.bytes()[*start as usize..].to_vec()),
            None => self.frames.clone(),
        }
    }
}

/// The open batches, at most one for each room.
pub(super) struct Batches {
    open: Vec<Batch>,
    /// For each room's index: the index of its batch in `open`, or [`NONE`].
    places: Vec<u32>,
    /// Rooms whose batches have become urgent. Some may have been sealed since.
    urgent: Vec<RoomKey>,
    /// Buffers for the next batches.
    spare: Vec<Vec<u8>>,
    /// The capacity of all of them.
    spare_bytes: usize,
    /// The memory of sealed batches.
    stock: PieceStock,
    is_full: bool,
    /// Whether a background connection has its turn.
    pub is_background: bool,
    ledger: Ledger,
    /// What the ledger counts for the lists and for the open and spare buffers.
    tally: Tally,
}

impl Batches {
    pub fn new(ledger: &Ledger) -> Batches {
        let tally = ledger.tally(Account::Rooms);
        Batches {
            open: Vec::new(),
            places: Vec::new(),
            urgent: Vec::new(),
            spare: Vec::new(),
            spare_bytes: 0,
            stock: PieceStock::default(),
            is_full: false,
            is_background: false,
            ledger: ledger.clone(),
            tally,
        }
    }

    /// Encodes one frame into the room's batch, which begins here if there is none.
    pub fn append(&mut self, room: RoomKey, write: impl FnOnce(&mut Vec<u8>)) -> Published {
        let place = self.place(room).unwrap_or_else(|| self.open(room));
        let batch = &mut self.open[place];
        batch.buffer.truncate(batch.complete);
        if !self.is_background && !std::mem::replace(&mut batch.is_urgent, true) {
            self.urgent.push(room);
        }
        let event = ws::encode_text(&mut batch.buffer, write);
        batch.complete = batch.buffer.len();
        let is_batch_full = batch.complete >= BATCH_BYTES_FULL;
        self.is_full |= is_batch_full;
        Published { event_bytes: batch.complete - event, is_batch_full }
    }

    /// Ends the room's batch, if one is open.
    pub fn seal(&mut self, room: RoomKey) -> Option<Sealed> {
        let place = self.place(room)?;
        let mut batch = self.open.swap_remove(place);
        self.places[room.index()] = NONE;
        if let Some(moved) = self.open.get(place) {
            self.places[moved.room.index()] = place as u32;
        }
        batch.buffer.truncate(batch.complete);
        // A copy: the buffer is for the next batch.
        let ledger = &self.ledger;
        let frames = self.stock.piece(&batch.buffer, || ledger.tally(Account::Frames));
        wipe(&mut batch.buffer);
        if self.spare_bytes + batch.buffer.capacity() <= SPARE_BYTES_MAX {
            self.spare_bytes += batch.buffer.capacity();
            self.spare.push(batch.buffer);
        }
        Some(Sealed { frames, is_urgent: batch.is_urgent, ahead: batch.ahead })
    }

    /// The connection needs nothing of what is in the room's batch now. Returns the frames that
    /// it has not been sent.
    pub fn advance(&mut self, room: RoomKey, key: ConnKey) -> &[u8] {
        let Some(place) = self.place(room) else { return &[] };
        let Batch { buffer, complete, ahead, .. } = &mut self.open[place];
        let (before, now) = match ahead.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(place) => (std::mem::replace(&mut ahead[place].1, *complete as u32), *complete),
            Err(place) => {
                ahead.insert(place, (key, *complete as u32));
                (0, *complete)
            }
        };
        &buffer[before as usize..now]
    }

    /// Takes the rooms whose batches have become urgent. Some may have been sealed since.
    /// [`Batches::end_urgent`] gives back those that are not sealed.
    pub fn begin_urgent(&mut self) -> Vec<RoomKey> {
        std::mem::take(&mut self.urgent)
    }

    /// The rooms whose batches stay open. None has become urgent meanwhile.
    pub fn end_urgent(&mut self, held: Vec<RoomKey>) {
        debug_assert!(self.urgent.is_empty());
        self.urgent = held;
    }

    /// Whether a batch is open that an interactive connection or a timer has written to.
    pub fn has_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// How many batches are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The room of an open batch.
    pub fn open_at(&self, place: usize) -> Option<RoomKey> {
        self.open.get(place).map(|batch| batch.room)
    }

    /// Whether the room has an open batch.
    pub fn is_open(&self, room: RoomKey) -> bool {
        self.place(room).is_some()
    }

    /// Whether a batch has become full in this tick: it has to leave before more is read.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// The tick is over. `rooms`: how many rooms there are.
    pub fn on_tick_over(&mut self, rooms: usize) {
        self.is_full = false;
        if rooms == 0 {
            (self.places, self.urgent) = (Vec::new(), Vec::new());
            (self.open, self.spare) = (Vec::new(), Vec::new());
            self.spare_bytes = 0;
            self.stock.clear();
        } else if self.open.is_empty()
            && self.places.len() > PLACES_MIN
            && self.places.len() / 4 > rooms
        {
            (self.places, self.open) = (Vec::new(), Vec::new()); // The rooms that are left grow them again.
        }
        let open: usize = self.open.iter().map(|batch| batch.buffer.capacity()).sum();
        let lists = self.places.capacity() * size_of::<u32>()
            + self.urgent.capacity() * size_of::<RoomKey>()
            + self.open.capacity() * size_of::<Batch>()
            + self.spare.capacity() * size_of::<Vec<u8>>()
            + self.stock.bytes();
        let ahead: usize = self.open.iter().map(|batch| batch.ahead.capacity()).sum();
        let lists = lists + ahead * size_of::<(ConnKey, u32)>();
        self.tally.set(self.spare_bytes + open + lists);
    }

    /// What was sealed has been written, as far as peers take it.
    pub fn on_flushed(&mut self) {
        self.stock.collect();
    }

    fn place(&self, room: RoomKey) -> Option<usize> {
        let place = *self.places.get(room.index())?;
        let batch = self.open.get(place as usize).filter(|batch| batch.room == room);
        batch.map(|_| place as usize)
    }

    fn open(&mut self, room: RoomKey) -> usize {
        let place = self.open.len();
        let spare = self.spare.pop();
        self.spare_bytes -= spare.as_ref().map_or(0, Vec::capacity);
        let buffer = spare.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        self.open.push(Batch { room, buffer, complete: 0, is_urgent: false, ahead: Ahead::new() });
        if self.places.len() <= room.index() {
            self.places.resize(room.index() + 1, NONE);
        }
        self.places[room.index()] = place as u32;
        place
    }
}

/// Empties a buffer that is kept for the next use, and leaves nothing of its bytes in memory.
pub(super) fn wipe(buffer: &mut Vec<u8>) {
    buffer.fill(0);
    buffer.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;

    fn rooms(count: usize) -> Vec<RoomKey> {
        let mut slots = Slots::default();
        (0..count).map(|_| slots.insert(())).collect()
    }

    #[test]
    fn a_room_has_one_batch_until_it_is_sealed() {
        let ledger = Ledger::new();
        let mut batches = Batches::new(&ledger);
        let rooms = rooms(3);
        let say = |batches: &mut Batches, room: usize, text: &str| {
            batches.append(rooms[room], |out| out.extend_from_slice(text.as_bytes()))
        };
        for (room, text) in [(0, "a"), (1, "b"), (2, "c"), (0, "d")] {
            assert_eq!(say(&mut batches, room, text).event_bytes, 1);
        }
        let whole = batches.seal(rooms[0]).unwrap().frames;
        assert_eq!(whole.bytes(), b"\x81\x01a\x81\x01d");
        assert!(batches.seal(rooms[0]).is_none());
        say(&mut batches, 0, "e");
        for (room, frame) in [(2, b"\x81\x01c"), (1, b"\x81\x01b"), (0, b"\x81\x01e")] {
            assert_eq!(batches.seal(rooms[room]).unwrap().frames.bytes(), &frame[..]);
        }
        assert_eq!(batches.open_count(), 0);
        assert_eq!(batches.begin_urgent().len(), 4, "sealed or not");
        batches.on_tick_over(0);
        assert!(ledger.total() > 0);
        drop(whole);
        assert_eq!(ledger.total(), 0, "frames are counted as long as they live");
    }

    #[test]
    fn a_connection_that_is_ahead_is_sent_the_rest_of_a_batch() {
        let mut batches = Batches::new(&Ledger::new());
        let room = rooms(1)[0];
        let mut slots = Slots::default();
        let [late, early, new] = [(); 3].map(|()| slots.insert(()));
        assert_eq!(batches.advance(room, early), b"", "no batch is open");
        let say = |batches: &mut Batches, text: &[u8]| {
            batches.append(room, |out| out.extend_from_slice(text));
        };
        say(&mut batches, b"a");
        assert_eq!(batches.advance(room, early), b"\x81\x01a");
        say(&mut batches, b"b");
        batches.advance(room, new);
        assert_eq!(batches.advance(room, early), b"\x81\x01b");
        assert_eq!(batches.advance(room, early), b"");
        say(&mut batches, b"c");
        assert_eq!(batches.advance(room, early), b"\x81\x01c");
        let sealed = batches.seal(room).unwrap();
        let rest = [late, early, new].map(|key| sealed.frames_for(key));
        let rest = rest.each_ref().map(Piece::bytes);
        let all = b"\x81\x01a\x81\x01b\x81\x01c";
        assert_eq!(rest, [&all[..], b"", b"\x81\x01c"]);
    }

    #[test]
    fn a_batch_is_urgent_once_an_interactive_connection_has_written_to_it() {
        let mut batches = Batches::new(&Ledger::new());
        let rooms = rooms(2);
        for (is_background, room) in [(true, 0), (true, 1), (false, 1), (true, 1), (false, 1)] {
            batches.is_background = is_background;
            batches.append(rooms[room], |out| out.push(b'a'));
        }
        assert_eq!(batches.begin_urgent(), [rooms[1]]);
        let is_urgent = |batches: &mut Batches, room| batches.seal(room).unwrap().is_urgent;
        assert!(is_urgent(&mut batches, rooms[1]));
        batches.on_tick_over(2);
        assert!(!is_urgent(&mut batches, rooms[0]), "it has stayed open");
    }

    #[test]
    fn spare_buffers_are_kept_up_to_their_bound() {
        let mut batches = Batches::new(&Ledger::new());
        let rooms = rooms(SPARE_BYTES_MAX / BUFFER_BYTES + 1);
        for _ in 0..2 {
            rooms.iter().for_each(|room| _ = batches.append(*room, |out| out.push(b'a')));
            let kept = |room: &RoomKey| {
                batches.seal(*room).unwrap();
                batches.spare_bytes
            };
            let kept: Vec<usize> = rooms.iter().map(kept).collect();
            let [.., before, last, beyond] = kept[..] else { panic!("hundreds") };
            assert_eq!(
                [before, last, beyond],
                [SPARE_BYTES_MAX - BUFFER_BYTES, SPARE_BYTES_MAX, SPARE_BYTES_MAX]
            );
            assert_eq!(batches.spare.iter().map(Vec::capacity).sum::<usize>(), batches.spare_bytes);
        }
    }

    #[test]
    fn what_a_panicking_encoder_left_is_not_sent() {
        let mut batches = Batches::new(&Ledger::new());
        let room = rooms(1)[0];
        batches.append(room, |out| out.push(b'a'));
        let panicking = std::panic::AssertUnwindSafe(|| {
            batches.append(room, |out| {
                out.extend_from_slice(b"half");
                std::panic::resume_unwind(Box::new(()));
            });
        });
        assert!(std::panic::catch_unwind(panicking).is_err());
        batches.append(room, |out| out.push(b'b'));
        assert_eq!(batches.seal(room).unwrap().frames.bytes(), b"\x81\x01a\x81\x01b");
    }
}
