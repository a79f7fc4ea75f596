//! Shares: which address has sent how much of the histories.
//!
//! Owns these sums, and the order in which addresses and rooms lose messages when memory is short.
//! Must not know the messages, or decide when memory is short. The invariant: the sums equal the
//! kept messages exactly; otherwise an address could lose more than it holds.
//!
//! A share is what one address has in one room. (A member of an address that has a share there
//! already may begin a second one.) Messages are dropped from the address that holds most, and of
//! its rooms from the one that has been silent longest. So an address, or many, cannot displace the
//! messages of addresses that hold less, however many rooms it uses.

use std::collections::{BTreeSet, HashMap};

use super::address::{Address, AddressMap};
use super::heap::{map_bytes, shrink, tree_bytes};
use super::keys::{RoomKey, ShareKey, ShareTag};
use crate::slots::{Key, Slots};

/// All shares, and their holders.
#[derive(Default)]
pub(super) struct Shares {
    shares: Slots<HistoryShare, ShareTag>,
    holders: Slots<Holder, HolderTag>,
    by_address: AddressMap,
    /// The holders, ordered by [`by_bytes`]: the one with most is last.
    by_bytes: BTreeSet<u128>,
    /// The shares, ordered by [`by_silence`].
    by_silence: BTreeSet<u128>,
}

type HolderKey = Key<HolderTag>;
enum HolderTag {}

/// What one address has in the history of one room.
struct HistoryShare {
    room: RoomKey,
    holder: HolderKey,
    /// The `MessageId::order` of the newest message of the room, or of an earlier one. It is brought up to date when the share
    /// is about to lose messages: otherwise each message would change an entry for every address
    /// that has written in the room.
    silent_since: u64,
    records: u32,
    bytes: usize,
}

/// An address with shares. All exempt peers together are one holder.
struct Holder {
    address: Option<Address>,
    shares: u32,
    bytes: usize,
    /// `bytes` as in [`Shares::by_bytes`]. It may be less than `bytes`, or more, by [`LISTED_PARTS`]:
    /// otherwise each message would change that set.
    listed: usize,
}

/// The part of a holder's bytes, and the bytes, by which its place among the holders may be wrong.
const LISTED_PARTS: usize = 64;
const LISTED_BYTES: usize = 1024;

/// Orders holders by their bytes. The lowest 32 bits are the holder's index. (Sets of one type take
/// half the code of two.)
fn by_bytes(bytes: usize, holder: HolderKey) -> u128 {
    (bytes as u128) << 32 | holder.index() as u128
}

/// Orders shares by holder, then by [`HistoryShare::silent_since`]. The lowest 32 bits are the share's
/// index.
fn by_silence(holder: u32, silent_since: u64, share: usize) -> u128 {
    u128::from(holder) << 96 | u128::from(silent_since) << 32 | share as u128
}

impl Shares {
    /// The share in which a message from `address` counts: `known`, if it still exists, or a new
    /// one. `order`: the message's `MessageId::order`.
    pub fn open(
        &mut self,
        known: Option<ShareKey>,
        room: RoomKey,
        address: Option<Address>,
        order: u64,
    ) -> ShareKey {
        if let Some(known) = known.filter(|known| self.shares.get(*known).is_some()) {
            return known;
        }
        let known = self.by_address.get(&address);
        let holder = match known.and_then(|place| self.holders.key_at(*place as usize)) {
            Some(holder) => holder,
            None => {
                let holder =
                    self.holders.insert(Holder { address, shares: 0, bytes: 0, listed: 0 });
                self.by_address.insert(address, holder.index() as u32);
                self.by_bytes.insert(by_bytes(0, holder));
                holder
            }
        };
        if let Some(holder) = self.holders.get_mut(holder) {
            holder.shares += 1;
        }
        let share = HistoryShare { room, holder, silent_since: order, records: 0, bytes: 0 };
        let key = self.shares.insert(share);
        self.by_silence.insert(by_silence(holder.index() as u32, order, key.index()));
        key
    }

    /// The share, if it is one of this address in this room.
    pub fn find(&self, key: ShareKey, room: RoomKey, address: Option<Address>) -> Option<ShareKey> {
        let share = self.shares.get(key).filter(|share| share.room == room)?;
        let holder = self.holders.get(share.holder)?;
        (holder.address == address).then_some(key)
    }

    /// Counts a message of so many bytes.
    pub fn add(&mut self, key: ShareKey, bytes: usize) {
        let Some(share) = self.shares.get_mut(key) else { return };
        share.records += 1;
        share.bytes += bytes;
        let holder = share.holder;
        self.change_holder(holder, |total| total + bytes);
    }

    /// A message of so many bytes, which counted in the share with this index, is no longer kept.
    pub fn subtract(&mut self, index: u32, bytes: usize) {
        let Some(key) = self.key_at(index) else { return };
        let Some(share) = self.shares.get_mut(key) else { return };
        share.records -= 1;
        share.bytes -= bytes;
        let (is_over, holder) = (share.records == 0, share.holder);
        self.change_holder(holder, |total| total - bytes);
        if is_over {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: ShareKey) {
        let Some(share) = self.shares.remove(key) else { return };
        let holder_index = share.holder.index() as u32;
        self.by_silence.remove(&by_silence(holder_index, share.silent_since, key.index()));
        let Some(holder) = self.holders.get_mut(share.holder) else { return };
        holder.shares -= 1;
        if holder.shares == 0 {
            self.by_bytes.remove(&by_bytes(holder.listed, share.holder));
            self.by_address.remove(&holder.address);
            shrink(&mut self.by_address);
            self.holders.remove(share.holder);
        }
    }

    fn change_holder(&mut self, key: HolderKey, change: impl FnOnce(usize) -> usize) {
        let Some(holder) = self.holders.get_mut(key) else { return };
        holder.bytes = change(holder.bytes);
        if holder.bytes.abs_diff(holder.listed) > holder.listed / LISTED_PARTS + LISTED_BYTES {
            self.list(key);
        }
    }

    /// Corrects a holder's place among the holders. False if it was right.
    fn list(&mut self, key: HolderKey) -> bool {
        let Some(holder) = self.holders.get_mut(key) else { return false };
        let before = std::mem::replace(&mut holder.listed, holder.bytes);
        if before == holder.bytes {
            return false;
        }
        self.by_bytes.remove(&by_bytes(before, key));
        self.by_bytes.insert(by_bytes(holder.bytes, key));
        true
    }

    /// The share that loses messages next, its room, and how many messages it has. `newest`: the
    /// `MessageId::order` of a room's newest message.
    pub fn next_victim(
        &mut self,
        newest: impl Fn(RoomKey) -> u64,
    ) -> Option<(ShareKey, RoomKey, usize)> {
        let mut holder = *self.by_bytes.last()? as u32;
        while self.holders.key_at(holder as usize).is_some_and(|key| self.list(key)) {
            holder = *self.by_bytes.last()? as u32;
        }
        loop {
            let entry = *self.by_silence.range(by_silence(holder, 0, 0)..).next()?;
            let (known, index) = ((entry >> 32) as u64, entry as u32 as usize);
            let key = self.shares.key_at(index)?;
            let share = self.shares.get_mut(key)?;
            let newest = newest(share.room);
            if newest <= known {
                return Some((key, share.room, share.records as usize));
            }
            share.silent_since = newest;
            self.by_silence.remove(&entry);
            self.by_silence.insert(by_silence(holder, newest, index));
        }
    }

    /// The address whose messages count in the share with this index.
    pub fn address(&self, index: u32) -> Option<Address> {
        let share = self.shares.get(self.shares.key_at(index as usize)?)?;
        self.holders.get(share.holder)?.address
    }

    /// Bytes of all messages.
    pub fn bytes(&self) -> usize {
        self.holders.iter().map(|(_, holder)| holder.bytes).sum()
    }

    /// Changes whenever [`Shares::heap_bytes`] may have changed.
    pub fn extent(&self) -> [usize; 3] {
        [self.shares.len(), self.holders.len(), self.by_address.capacity()]
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.shares.bytes()
            + self.holders.bytes()
            + map_bytes::<Option<Address>, u32>(self.by_address.capacity())
            + tree_bytes::<u128, ()>(self.by_bytes.len())
            + tree_bytes::<u128, ()>(self.by_silence.len())
    }

    /// The key of the share with this index.
    pub fn key_at(&self, index: u32) -> Option<ShareKey> {
        self.shares.key_at(index as usize)
    }

    /// Panics if the shares contradict each other, or the messages: `kept` gives for each share's
    /// index the number of messages and their bytes.
    pub fn check(&self, kept: &HashMap<u32, (u32, usize)>) {
        agree!(kept.len(), self.shares.len());
        let mut by_holder: HashMap<HolderKey, (u32, usize)> = HashMap::new();
        for (key, share) in self.shares.iter() {
            agree!(kept.get(&(key.index() as u32)), Some(&(share.records, share.bytes)));
            let holder = share.holder.index() as u32;
            let entry = by_silence(holder, share.silent_since, key.index());
            holds!(self.by_silence.contains(&entry));
            let (shares, bytes) = by_holder.entry(share.holder).or_default();
            *shares += 1;
            *bytes += share.bytes;
        }
        agree!(self.by_silence.len(), self.shares.len());
        agree!((by_holder.len(), self.by_address.len()), (self.holders.len(), self.holders.len()));
        agree!(self.by_bytes.len(), self.holders.len());
        for (key, holder) in self.holders.iter() {
            agree!(by_holder.get(&key), Some(&(holder.shares, holder.bytes)));
            agree!(self.by_address.get(&holder.address), Some(&(key.index() as u32)));
            holds!(self.by_bytes.contains(&by_bytes(holder.listed, key)));
        }
    }
}
