//! Those that share places which they have not earned yet, by where they come from: who of them gives way.
//!
//! Names are free before a peer has proved or said something, addresses are not. So the first of the most crowded address gives way: an
//! address can only ever crowd itself out, and who comes from another finds a place. (`handshakes.rs` says what of an address that is only claimed.) Who is the first of an address, the keys say: their
//! order is the order of going.
//!
//! Bounds: those of the owner. Each step costs a few look-ups, however many there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::AddressGroup;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Crowds<K> {
    groups: BTreeMap<AddressGroup, BTreeSet<K>>,
    /// The groups by their size, the most crowded last; of two that are as crowded, the one with the first key.
    by_size: BTreeSet<(usize, Reverse<K>, AddressGroup)>,
    len: usize,
}

impl<K: Copy + Ord> Crowds<K> {
    /// Nobody yet.
    pub(super) fn new() -> Self {
        Self {
            groups: BTreeMap::new(),
            by_size: BTreeSet::new(),
            len: 0,
        }
    }

    /// How many there are in all.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many there are from an address.
    pub(super) fn of(&self, group: AddressGroup) -> usize {
        self.groups.get(&group).map_or(0, BTreeSet::len)
    }

    /// Who goes first of an address.
    pub(super) fn first_of(&self, group: AddressGroup) -> Option<K> {
        self.groups.get(&group)?.first().copied()
    }

    /// Who goes first of the most crowded address, and how many there are from there.
    pub(super) fn first_of_most_crowded(&self) -> Option<(usize, K)> {
        let (size, Reverse(first), _) = self.by_size.last()?;
        Some((*size, *first))
    }

    pub(super) fn insert(&mut self, group: AddressGroup, key: K) {
        self.change(group, |keys| keys.insert(key));
    }

    pub(super) fn remove(&mut self, group: AddressGroup, key: &K) {
        self.change(group, |keys| keys.remove(key));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Changes a group, and its place among the others.
    fn change(&mut self, group: AddressGroup, change: impl FnOnce(&mut BTreeSet<K>) -> bool) {
        let place = |keys: &BTreeSet<K>| Some((keys.len(), Reverse(*keys.first()?), group));
        let mut keys = self.groups.remove(&group).unwrap_or_default();
        if let Some(before) = place(&keys) {
            self.by_size.remove(&before);
        }
        self.len -= keys.len();
        change(&mut keys);
        self.len += keys.len();
        if let Some(after) = place(&keys) {
            self.by_size.insert(after);
            self.groups.insert(group, keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    proptest! {
        /// Who gives way is the first of a group than which none is larger.
        #[test]
        fn the_first_of_the_most_crowded_gives_way(
            steps in proptest::collection::vec((0u8..4, 0u8..20, any::<bool>()), 1..100),
        ) {
            let (mut crowds, mut all) = (Crowds::new(), BTreeSet::new());
            for (host, key, comes) in steps {
                let group = AddressGroup::Ip4(Ipv4Addr::new(1, 2, 3, host));
                if comes {
                    crowds.insert(group, key);
                    all.insert((group, key));
                } else {
                    crowds.remove(group, &key);
                    all.remove(&(group, key));
                }
                let size = |group| all.iter().filter(|(other, _)| *other == group).count();
                let first = |group| all.iter().find(|(other, _)| *other == group).map(|(_, key)| *key);
                prop_assert_eq!((crowds.of(group), crowds.first_of(group)), (size(group), first(group)));
                prop_assert_eq!(crowds.len(), all.len());
                let most = all.iter().map(|(group, _)| size(*group)).max();
                let firsts = all.iter().filter(|(group, _)| Some(size(*group)) == most);
                let gives_way = firsts.filter_map(|(group, _)| first(*group)).min();
                prop_assert_eq!(crowds.first_of_most_crowded(), most.zip(gives_way));
                prop_assert_eq!(crowds.by_size.len(), crowds.groups.len());
            }
        }
    }
}
