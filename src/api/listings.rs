//! The rendered listings of public rooms, cached while they are current.
//!
//! Owns the bytes of the last listing of each kind. Must not decide what a listing contains. The
//! invariant: a listing is served only if it equals what would be rendered now. An outdated listing
//! is freed by the end of the tick in which it became outdated.
//!
//! A listing is cheap to request and expensive to render. With the cache, a thousand simultaneous
//! requests cost one rendering and one copy in memory. It counts with the frames, because slow
//! readers of outdated listings are what makes many of them.

use bytes::Bytes;

use crate::ledger::{Account, Ledger};

/// A cache of the listings of one revision.
pub struct Listings {
    ledger: Ledger,
    /// The revision of `rendered`.
    revision: u64,
    /// The listing without details, and the listing with them.
    rendered: [Option<Bytes>; 2],
}

impl Listings {
    /// An empty cache.
    pub fn new(ledger: &Ledger) -> Listings {
        Listings { ledger: ledger.clone(), revision: 0, rendered: [None, None] }
    }

    /// The listing, from the cache or else from `render`. `revision` is the current
    /// [`Chat::listing_revision`](crate::chat::Chat::listing_revision).
    pub fn get_or_render(
        &mut self,
        revision: u64,
        detail: bool,
        render: impl FnOnce() -> Vec<u8>,
    ) -> Bytes {
        self.retain(revision);
        let [plain, detailed] = &mut self.rendered;
        let cached = if detail { detailed } else { plain };
        let ledger = &self.ledger;
        cached.get_or_insert_with(|| ledger.charge(Account::Frames, render().into(), 0)).clone()
    }

    /// Clears the cache unless it has this revision.
    pub fn retain(&mut self, revision: u64) {
        if self.revision != revision {
            self.revision = revision;
            self.clear();
        }
    }

    /// Clears the cache.
    pub fn clear(&mut self) {
        self.rendered = [None, None];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_rendered_once_and_counted_until_it_is_outdated_and_sent() {
        let ledger = Ledger::new();
        let mut listings = Listings::new(&ledger);
        let first = listings.get_or_render(1, true, || vec![b'a'; 1000]);
        let counted = ledger.total();
        assert!(counted >= 1000);
        let again = listings.get_or_render(1, true, || unreachable!("it is cached"));
        assert_eq!((first.as_ptr(), ledger.total()), (again.as_ptr(), counted));
        assert_eq!(listings.get_or_render(1, false, || vec![b'b']), "b", "the other kind");
        assert_eq!(listings.get_or_render(2, true, || vec![b'c']), "c", "another revision");
        listings.retain(3);
        assert_eq!(ledger.total(), counted, "an answer still has the bytes");
        drop((first, again));
        assert_eq!(ledger.total(), 0);
    }
}
