//! The names by which the store knows sessions, people and addresses.
//!
//! Owns the secret of the cluster, and what is derived from it. Must not know a key of the store. The
//! invariant: neither a session's id nor an address can be found out from what leaves here, and all
//! nodes derive the same, so that a person is the same at each of them.

use sha1::{Digest, Sha1};

use super::library::SCHEMA;
use super::record::{self, SessionHash};
use crate::chat::{
    Address, HashedAddress, LockRecord, RoomId, SessionId, UserId, keyed_hash, read_hex, write_hex,
};
use crate::clock::Entropy;

/// An address as the store knows it: the address that limits apply to, and the /48 network that it is
/// in (contract §3.14). Empty: an exempt peer, or an address of IPv4, which has no such network.
#[derive(Clone, Default)]
pub(super) struct AddressHashes {
    pub address: String,
    pub network: String,
}

/// What all servers of a store have in common ([`UplinkConfig::terms`](super::UplinkConfig::terms)).
/// `secret`: that of a file; `None`: the store keeps it.
pub fn terms(partitions: u16, secret: Option<&[u8]>) -> String {
    let of_file = |secret| {
        let digest = Sha1::new().chain_update(b"terms").chain_update(secret).finalize();
        hex(&digest[..8])
    };
    format!("{SCHEMA}/{partitions}/{}", secret.map_or("store".to_owned(), of_file))
}

/// What is derived from the cluster's secret.
pub(super) struct ClusterIdentity {
    secret: Vec<u8>,
    key: [u8; 16],
    partitions: u16,
}

impl ClusterIdentity {
    pub fn new(secret: &[u8], partitions: u16) -> ClusterIdentity {
        let mut key = [0; 16];
        let digest = Sha1::new().chain_update(b"key").chain_update(secret).finalize();
        key.copy_from_slice(&digest[..16]);
        ClusterIdentity { secret: secret.to_vec(), key, partitions: partitions.max(1) }
    }

    /// A digest, so that the contents of the store do not suffice to act as the session.
    pub fn session(&self, id: SessionId) -> SessionHash {
        let digest = Sha1::new().chain_update(&self.secret).chain_update(id.as_bytes()).finalize();
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        SessionHash(hash)
    }

    /// The user id of a session in a room.
    pub fn user_id(&self, session: SessionHash, room: RoomId) -> UserId {
        UserId::from_bits(keyed_hash(&self.key, [&session.0, room.as_bytes()]))
    }

    /// An address in one room, as bans and guesses know it; empty: an exempt peer.
    pub fn address_in(&self, from: Option<Address>, room: RoomId) -> String {
        let hash = HashedAddress::of(from, room, &self.key).known();
        hash.map_or_else(String::new, |hash| hex(&hash.0))
    }

    /// The lock of a room with this password. The cluster's secret is part of it, so that
    /// passwords cannot be tried with the contents of the store alone.
    pub fn lock(&self, password: &str, entropy: &mut dyn Entropy) -> String {
        let LockRecord { salt, hash } = LockRecord::with_secret(password, &self.secret, entropy);
        format!("{} {}", hex(&salt), hex(&hash))
    }

    /// Whether a password opens a lock.
    pub fn opens(&self, lock: &str, password: &str) -> bool {
        let Some((salt, hash)) = lock.split_once(' ') else { return false };
        match (unhex(salt), unhex(hash)) {
            (Some(salt), Some(hash)) => {
                LockRecord { salt, hash }.opens_with_secret(password, &self.secret)
            }
            _ => false,
        }
    }

    /// An address as shares and rates of creation know it.
    pub fn address(&self, from: Option<Address>) -> AddressHashes {
        let hash = |kind: &[u8], address| {
            let rank = Address::rank(Some(address)).to_le_bytes();
            hex(&keyed_hash(&self.key, [kind, &rank]).to_be_bytes())
        };
        // A network has the rank of the first address in it.
        let network = from.and_then(Address::network);
        AddressHashes {
            address: from.map_or_else(String::new, |from| hash(b"address", from)),
            network: network.map_or_else(String::new, |network| hash(b"network", network)),
        }
    }

    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// The partition in which a session lies.
    pub fn partition_of_session(&self, session: SessionHash) -> u16 {
        self.partition(&session.0)
    }

    /// The partition in which a room lies.
    pub fn partition_of_room(&self, room: RoomId) -> u16 {
        self.partition(room.as_bytes())
    }

    /// The partition in which the sessions and rooms lie that an address creates; `None`: any.
    fn partition_of_address(&self, from: Option<Address>) -> Option<u16> {
        let address = from?;
        let unit = address.network().unwrap_or(address);
        Some(self.partition(&Address::rank(Some(unit)).to_le_bytes()))
    }

    fn partition(&self, bytes: &[u8]) -> u16 {
        // The same at all nodes and in all versions.
        (keyed_hash(&[0; 16], [bytes, &[]]) % u64::from(self.partitions)) as u16
    }

    /// A new session of an address, in the partition of that address. On average it takes as many
    /// attempts as there are partitions.
    pub fn new_session(&self, from: Option<Address>, entropy: &mut dyn Entropy) -> SessionId {
        let wanted = self.partition_of_address(from);
        loop {
            let id = SessionId::new(entropy);
            let partition = self.partition_of_session(self.session(id));
            if wanted.is_none_or(|wanted| wanted == partition) {
                return id;
            }
        }
    }

    /// A new room of an address, in the partition of that address.
    pub fn new_room(
        &self,
        is_private: bool,
        from: Option<Address>,
        entropy: &mut dyn Entropy,
    ) -> RoomId {
        let wanted = self.partition_of_address(from);
        let make = if is_private { RoomId::new_private } else { RoomId::new_public };
        loop {
            let id = make(entropy);
            if wanted.is_none_or(|wanted| wanted == self.partition_of_room(id)) {
                return id;
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    let mut digits = vec![0; 2 * padded.len()];
    write_hex(&padded, &mut digits);
    digits.truncate(2 * bytes.len());
    String::from_utf8(digits).unwrap_or_default()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    read_hex(text, &mut bytes)?;
    Some(bytes)
}

/// The random half of a new message's id. It has the bits of the variant already (RFC 9562 §4.1), so that
/// the id of the message, which always has them, has the same half.
pub(super) fn draw_tail(entropy: &mut dyn Entropy) -> [u8; 8] {
    let mut tail: [u8; 8] = entropy.bytes();
    tail[0] = tail[0] & 0x3F | 0x80;
    tail
}

/// The same as digits.
#[inline(never)]
pub(super) fn new_tail(entropy: &mut dyn Entropy) -> [u8; 16] {
    record::tail_digits(draw_tail(entropy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{MessageId, MessagePlace};
    use crate::clock::SeededEntropy;

    fn address(ip: &str) -> Option<Address> {
        Some(Address::of(ip.parse().unwrap()))
    }

    #[test]
    fn terms_differ_with_the_partitions_and_the_secret_s_file() {
        let file = terms(4, Some(b"secret"));
        assert_eq!(terms(4, None), "1/4/store");
        assert_eq!(file, terms(4, Some(b"secret")));
        for other in [terms(4, None), terms(1, Some(b"secret")), terms(4, Some(b"secre"))] {
            assert_ne!(other, file);
        }
        let digest = file.strip_prefix("1/4/").expect("the same version and partitions");
        assert!(digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn nodes_with_one_secret_derive_the_same_and_others_do_not() {
        let entropy = &mut SeededEntropy::new(1);
        let (one, same) = (ClusterIdentity::new(b"secret", 1), ClusterIdentity::new(b"secret", 1));
        let other = ClusterIdentity::new(b"other", 1);
        let id = one.new_session(None, entropy);
        let (room, elsewhere) =
            (one.new_room(false, None, entropy), one.new_room(true, None, entropy));
        assert_eq!(one.session(id), same.session(id));
        assert_ne!(one.session(id), other.session(id));
        assert_eq!(SessionHash::parse(&one.session(id).chars()), Ok(one.session(id)));
        let hash = one.session(id);
        assert_eq!(one.user_id(hash, room), same.user_id(hash, room));
        assert_ne!(one.user_id(hash, room), one.user_id(hash, elsewhere));
        let ip = address("192.0.2.1");
        assert_eq!(one.address_in(ip, room), same.address_in(ip, room));
        assert_ne!(one.address_in(ip, room), one.address_in(ip, elsewhere));
        assert_ne!(one.address(ip).address, other.address(ip).address);
        assert_eq!(one.address_in(None, room), "");
        let digits = one.address_in(ip, room);
        assert!(digits.len() == 14 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_eq!(hex(&[0xA1, 2, 3, 4, 5, 6, 0xF7]), "a10203040506f7");
    }

    // contract §10.6
    #[test]
    fn a_lock_opens_with_its_password_and_the_cluster_s_secret() {
        let entropy = &mut SeededEntropy::new(1);
        let (one, other) = (ClusterIdentity::new(b"secret", 1), ClusterIdentity::new(b"other", 1));
        let lock = one.lock("open sesame", entropy);
        assert!(one.opens(&lock, "open sesame") && !one.opens(&lock, "open"));
        assert!(!other.opens(&lock, "open sesame"));
        assert_ne!(one.lock("open sesame", entropy), lock);
        for damaged in ["", " ", "x y", &lock[1..], &lock[..lock.len() - 1], &lock.replace(' ', "")]
        {
            assert!(!one.opens(damaged, "open sesame"), "{damaged}");
        }
    }

    // contract §3.14
    #[test]
    fn an_address_of_ipv6_has_a_network_and_its_creations_share_a_partition() {
        let entropy = &mut SeededEntropy::new(1);
        let identity = ClusterIdentity::new(b"secret", 7);
        let one = identity.address(address("2001:db8:0:1::1"));
        let other = identity.address(address("2001:db8:0:2::1"));
        assert!(one.address != other.address && one.network == other.network);
        assert_ne!(one.address, one.network);
        let first = identity.address(address("2001:db8::1"));
        assert!(first.network == one.network && first.address != first.network);
        assert_eq!(identity.address(address("192.0.2.1")).network, "");
        let mut partitions = Vec::new();
        for ip in ["2001:db8:0:1::1", "2001:db8:0:2::1"] {
            for _ in 0..20 {
                let id = identity.new_session(address(ip), entropy);
                partitions.push(identity.partition_of_session(identity.session(id)));
                let room = identity.new_room(true, address(ip), entropy);
                partitions.push(identity.partition_of_room(room));
            }
        }
        partitions.dedup();
        assert_eq!(partitions.len(), 1);
        let mut all: Vec<_> = (0..200)
            .map(|_| identity.partition_of_room(identity.new_room(false, None, entropy)))
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, Vec::from_iter(0..7), "an exempt peer's rooms lie in all partitions");
    }

    // A message is found again by this half of its id: to delete it, and after a lost connection.
    #[test]
    fn the_random_half_of_an_id_is_what_was_drawn() {
        let entropy = &mut SeededEntropy::new(1);
        for counter in 0..100 {
            let tail = draw_tail(entropy);
            let place = MessagePlace { millis: 1, counter };
            assert_eq!(MessageId::at(place, tail).tail(), tail);
        }
    }
}
