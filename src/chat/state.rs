//! Everything that the domain remembers.
//!
//! Owns [`Chat`] and its accounting. Must not know the rules: each file of the deciding half adds
//! its methods to [`Chat`]. The invariant: every collection is reported to the ledger whenever a
//! public method returns.

use super::address::Addresses;
use super::config::ChatConfig;
use super::feed::{Feed, Feeds};
use super::id::MessageIds;
use super::keys::{AttachmentKey, MemberKey, MemberTag, RoomKey};
use super::member::Member;
use super::room::{Room, RoomIndex};
use super::session::{Session, Sessions};
use super::sink::Sink;
use super::timer::ChatTimer;
use crate::clock::{Entropy, Mono, Now};
use crate::ledger::{Account, Ledger, Pressure, Tally};
use crate::slots::Slots;
use crate::timers::Timers;

/// All sessions and rooms, and everything that can happen to them.
pub struct Chat {
    pub(super) config: ChatConfig,
    pub(super) entropy: Box<dyn Entropy>,
    /// The key of the hash that makes user ids.
    pub(super) user_id_secret: [u8; 16],
    pub(super) message_ids: MessageIds,
    pub(super) sessions: Sessions,
    pub(super) feeds: Feeds<Room>,
    pub(super) room_index: RoomIndex,
    pub(super) members: Slots<Member, MemberTag>,
    /// How often a member has become present, in any room.
    pub(super) arrivals: u64,
    pub(super) addresses: Addresses,
    pub(super) timers: Timers<ChatTimer>,
    pub(super) ledger: Ledger,
    /// What each room holds on the heap, without its feed.
    pub(super) room_heap_tally: Tally,
    /// What the collections of sessions hold.
    session_slots_tally: Tally,
    /// What the collections of rooms hold.
    room_slots_tally: Tally,
}

// See the account in `ledger`.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Feed<Room>>() == 376);

impl Chat {
    /// No sessions, no rooms.
    pub fn new(config: ChatConfig, mut entropy: Box<dyn Entropy>, ledger: &Ledger) -> Chat {
        Chat {
            config,
            user_id_secret: entropy.bytes(),
            entropy,
            message_ids: MessageIds::default(),
            sessions: Sessions::new(ledger),
            feeds: Feeds::new(config.history_messages_max, ledger),
            room_index: RoomIndex::default(),
            members: Slots::default(),
            arrivals: 0,
            addresses: Addresses::default(),
            timers: Timers::new(config),
            ledger: ledger.clone(),
            room_heap_tally: ledger.tally(Account::Rooms),
            session_slots_tally: ledger.tally(Account::Sessions),
            room_slots_tally: ledger.tally(Account::Rooms),
        }
    }

    /// When [`Chat::sweep`] is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.next_deadline()
    }

    /// Acts on timers that have expired, at most `timers_max` of them.
    pub fn sweep(&mut self, now: Now, timers_max: usize, sink: &mut dyn Sink) {
        for _ in 0..timers_max {
            let Some(timer) = self.timers.pop_due(now.mono) else { break };
            match timer {
                ChatTimer::SessionUnused(session) => self.remove_session(now, session, sink),
                ChatTimer::RoomEmpty(room) | ChatTimer::RoomNew(room) => {
                    self.remove_room(room, sink)
                }
                ChatTimer::LeaveGrace(member) => self.on_grace_expired(now, member, sink),
                ChatTimer::Probe(member) => self.on_probe_expired(now, member, sink),
                ChatTimer::Address(address) => self.review_address(now, address),
            }
        }
        self.recount();
    }

    /// If memory is short, drops the oldest messages of the rooms that have been silent longest.
    /// Returns how many. Due at the end of a tick, when all batches are sealed.
    pub fn forget(&mut self) -> usize {
        self.feeds.forget(&self.ledger)
    }

    pub(super) fn member_of(&self, attachment: AttachmentKey) -> Option<MemberKey> {
        self.feeds.attachments.get(attachment)?.member()
    }

    /// Whether memory is so short that no sessions and rooms are opened.
    pub(super) fn is_full(&self) -> bool {
        self.ledger.is_at(Pressure::Creations)
    }

    /// Reports what the collections themselves hold; entries report their own heap as it changes.
    pub(super) fn recount(&mut self) {
        let (sessions, rooms) = self.slots_bytes();
        self.session_slots_tally.set(sessions);
        self.room_slots_tally.set(rooms);
    }

    /// Reports a room's heap after a change.
    pub(super) fn recount_room(&mut self, key: RoomKey) {
        if let Some(room) = self.feeds.room_mut(key) {
            room.recount(&mut self.room_heap_tally);
        }
    }

    /// What the collections of sessions and of rooms hold.
    fn slots_bytes(&self) -> (usize, usize) {
        let sessions = self.sessions.slots_bytes() + self.addresses.bytes() + self.timers.bytes();
        let rooms = self.feeds.slots_bytes() + self.members.bytes() + self.room_index.bytes();
        (sessions, rooms)
    }

    /// Panics if what the domain remembers contradicts itself. For tests, and after a caught panic.
    pub fn check_invariants(&self) {
        self.sessions.check();
        self.feeds.check();
        self.room_index.check(self.feeds.room_count());
        self.check_rooms();
        self.check_members();
        self.check_presence();
        let of_session = |session: &Session| usize::from(session.timer.is_some());
        let of_room = |room: &Room| usize::from(room.timer.is_some());
        let of_member = |member: &Member| {
            usize::from(member.grace.is_some()) + usize::from(member.probe.is_some())
        };
        let owned = self.sessions.iter().map(|(_, session)| of_session(session)).sum::<usize>()
            + self.feeds.rooms().map(|(_, room)| of_room(room)).sum::<usize>()
            + self.members.iter().map(|(_, member)| of_member(member)).sum::<usize>()
            + self.addresses.timed();
        agree!(owned, self.timers.len(), "every armed timer has its owner");
        let counted = (self.session_slots_tally.bytes(), self.room_slots_tally.bytes());
        agree!(counted, self.slots_bytes(), "the ledger has all collections");
    }
}
