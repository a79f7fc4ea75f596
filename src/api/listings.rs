//! The listing of public rooms, as long as it is true.
//!
//! Owns the bytes of the last one of each kind. Must never decide what is in it. The invariant:
//! what is handed out is what would be made anew at that moment; and after a tick in which it was
//! not true any more, nothing of it is kept.
//!
//! A thousand who ask at once get one listing, which is made and lies in memory once: else it
//! were the cheapest question with the dearest answer.

use bytes::Bytes;

use crate::ledger::{Account, Ledger};

/// The listings that were made last.
pub struct Listings {
    ledger: Ledger,
    revision: u64,
    /// Without details, and with them.
    made: [Option<Bytes>; 2],
}

impl Listings {
    /// None made yet.
    pub fn new(ledger: &Ledger) -> Listings {
        Listings { ledger: ledger.clone(), revision: 0, made: [None, None] }
    }

    /// The listing of [`Chat::listing_revision`](crate::chat::Chat::listing_revision), made by
    /// `make` if it isn't there.
    pub fn get_or_make(
        &mut self,
        revision: u64,
        detail: bool,
        make: impl FnOnce() -> Vec<u8>,
    ) -> Bytes {
        self.retain(revision);
        let [plain, detailed] = &mut self.made;
        let place = if detail { detailed } else { plain };
        let ledger = &self.ledger;
        place.get_or_insert_with(|| ledger.charge(Account::Rooms, make().into(), 0)).clone()
    }

    /// Forgets what isn't true any more.
    pub fn retain(&mut self, revision: u64) {
        if self.revision != revision {
            self.revision = revision;
            self.clear();
        }
    }

    /// Keeps none.
    pub fn clear(&mut self) {
        self.made = [None, None];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_made_once_and_counted_until_it_is_false_and_sent() {
        let ledger = Ledger::new();
        let mut listings = Listings::new(&ledger);
        let first = listings.get_or_make(1, true, || vec![b'a'; 1000]);
        let counted = ledger.total();
        assert!(counted >= 1000);
        let again = listings.get_or_make(1, true, || unreachable!("it is there"));
        assert_eq!((first.as_ptr(), ledger.total()), (again.as_ptr(), counted));
        assert_eq!(listings.get_or_make(1, false, || vec![b'b']), "b", "another kind");
        assert_eq!(listings.get_or_make(2, true, || vec![b'c']), "c", "another time");
        listings.retain(3);
        assert_eq!(ledger.total(), counted, "it is still on its way to somebody");
        drop((first, again));
        assert_eq!(ledger.total(), 0);
    }
}
