//! Where a peer stands in the book: a bucket and a place in it, which a secret key chooses.
//!
//! As in Bitcoin Core's addrman, after Heilman et al.: for a peer there is one place in each table, so that whoever floods the book fights for
//! few places only. In the table of new peers the bucket comes from who told (its group reaches [`PER_SOURCE`] buckets) and from the peer's own
//! group; in that of tried peers from the peer's group alone, which reaches [`PER_GROUP`].

use std::{collections::BTreeMap, hash::Hasher as _};

use libp2p::PeerId;
use siphasher::sip::SipHasher24;

use super::NetworkGroup;

/// Buckets of the two tables, and peers in each: 5,000 in all.
pub(super) const NEW: (u64, u64) = (125, 32);
pub(super) const TRIED: (u64, u64) = (50, 20);
/// Buckets of the new table for those of whom one group of tellers told.
const PER_SOURCE: u64 = 8;
/// Buckets of the tried table for the peers of one group.
const PER_GROUP: u64 = 2;

/// A place in one of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) is_tried: bool,
    pub(super) bucket: u64,
    slot: u64,
}

/// Who stands where.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) key: [u8; 16],
    taken: BTreeMap<Place, PeerId>,
    tried: usize,
}

impl Places {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            taken: BTreeMap::new(),
            tried: 0,
        }
    }

    /// How many peers stand in the table of new ones, and of tried ones.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.taken.len() - self.tried, self.tried)
    }

    pub(super) fn at(&self, place: Place) -> Option<PeerId> {
        self.taken.get(&place).copied()
    }

    pub(super) fn take(&mut self, place: Place, peer: PeerId) {
        let before = self.taken.insert(place, peer);
        self.tried += usize::from(place.is_tried && before.is_none());
    }

    pub(super) fn leave(&mut self, place: Place) {
        let left = self.taken.remove(&place);
        self.tried -= usize::from(place.is_tried && left.is_some());
    }

    /// A new peer's.
    pub(super) fn new_place(
        &self,
        peer: &PeerId,
        group: NetworkGroup,
        source: NetworkGroup,
    ) -> Place {
        let (group, source) = (group.bytes(), source.bytes());
        let within = self.hash(b"n", &[&source, &group]) % PER_SOURCE;
        let (buckets, size) = NEW;
        let bucket = self.hash(b"N", &[&source, &within.to_le_bytes()]) % buckets;
        self.place(false, bucket, size, peer)
    }

    /// A tried peer's.
    pub(super) fn tried_place(&self, peer: &PeerId, group: NetworkGroup) -> Place {
        let group = group.bytes();
        let within = self.hash(b"t", &[&group, &peer.to_bytes()]) % PER_GROUP;
        let (buckets, size) = TRIED;
        let bucket = self.hash(b"T", &[&group, &within.to_le_bytes()]) % buckets;
        self.place(true, bucket, size, peer)
    }

    fn place(&self, is_tried: bool, bucket: u64, size: u64, peer: &PeerId) -> Place {
        let label = if is_tried { b"p" } else { b"P" };
        let slot = self.hash(label, &[&bucket.to_le_bytes(), &peer.to_bytes()]) % size;
        Place {
            is_tried,
            bucket,
            slot,
        }
    }

    fn hash(&self, label: &[u8; 1], parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(label);
        parts.iter().for_each(|part| hasher.write(part));
        hasher.finish()
    }
}
