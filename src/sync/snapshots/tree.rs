//! A chunk's BLAKE3 tree, down to its groups.
//!
//! BLAKE3 hashes a tree over pieces of 1 KiB. Cut at 16 KiB, each group is a subtree with a chaining value of its own, and
//! those merge to the hash of the chunk. So 32 bytes a group prove each group alone, and who has checked the values against the hash
//! needs nothing but a group's bytes and its place to know whether they are right. (Bao and iroh do the same with more of the tree.)

use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::chain::{SNAPSHOT_GROUP, SnapshotHash};

/// How many groups so many bytes have.
pub fn groups(length: usize) -> usize {
    length.div_ceil(SNAPSHOT_GROUP)
}

/// The values of a chunk's groups. A chunk of a single group has no tree above it: its value is its hash.
pub fn values(chunk: &[u8]) -> Vec<SnapshotHash> {
    if chunk.len() <= SNAPSHOT_GROUP {
        return vec![blake3::hash(chunk).into()];
    }
    values_from(0, chunk)
}

/// The values of groups in the midst of a chunk of several, the first of which has this place in it.
pub fn values_from(first: usize, bytes: &[u8]) -> Vec<SnapshotHash> {
    let groups = (first..).zip(bytes.chunks(SNAPSHOT_GROUP));
    let value = |(place, group): (usize, &[u8])| {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset((place * SNAPSHOT_GROUP) as u64);
        hasher.update(group).finalize_non_root()
    };
    groups.map(value).collect()
}

/// The hash of the chunk whose groups have these values. `None` without any.
pub fn root(values: &[SnapshotHash]) -> Option<SnapshotHash> {
    let (left, right) = match values {
        [] => return None,
        [alone] => return Some(*alone),
        several => halves(several),
    };
    let root = merge_subtrees_root(&merged(left), &merged(right), Mode::Hash);
    Some(root.into())
}

fn merged(values: &[SnapshotHash]) -> SnapshotHash {
    match values {
        [] => SnapshotHash::default(),
        [value] => *value,
        several => {
            let (left, right) = halves(several);
            merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
        }
    }
}

/// Of two or more: the left half is the largest power of two that leaves something.
fn halves(values: &[SnapshotHash]) -> (&[SnapshotHash], &[SnapshotHash]) {
    values.split_at(values.len().div_ceil(2).next_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|place| (place % 251) as u8).collect()
    }

    #[test]
    fn values_merge_to_the_hash_whatever_the_length() {
        let group = SNAPSHOT_GROUP;
        let lengths = (0..20).flat_map(|count| {
            [1, 1023, 1024, 1025, group - 1, group].map(|rest| count * group + rest)
        });
        for length in lengths {
            let chunk = bytes(length);
            let values = values(&chunk);
            assert_eq!(values.len(), groups(length));
            let right = *blake3::hash(&chunk).as_bytes();
            assert_eq!(root(&values), Some(right), "{length}");
        }
        assert_eq!(root(&[]), None);
    }

    #[test]
    fn a_group_alone_has_the_value_that_it_has_among_all() {
        let chunk = bytes(5 * SNAPSHOT_GROUP + 77);
        let all = values(&chunk);
        for first in 0..all.len() {
            let rest = values_from(first, &chunk[first * SNAPSHOT_GROUP..]);
            assert_eq!(rest, all[first..]);
        }
        let mut wrong = chunk.clone();
        wrong[3 * SNAPSHOT_GROUP] ^= 1;
        let differ = values(&wrong);
        let places: Vec<_> = (0..6)
            .filter(|&place| differ[place] != all[place])
            .collect();
        assert_eq!(places, [3]);
    }
}
