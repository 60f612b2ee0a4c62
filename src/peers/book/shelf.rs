//! Sets from which one is taken at random, however many there are: plain ones, and shelves of sets.

use std::{collections::BTreeMap, fmt::Debug};

use super::random::Random;

/// A set whose members lie side by side, each knowing its place.
#[derive(Debug)]
pub(super) struct RandomSet<T> {
    members: Vec<T>,
    places: BTreeMap<T, usize>,
}

impl<T: Copy + Ord> RandomSet<T> {
    pub(super) fn new() -> Self {
        Self {
            members: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    pub(super) fn members(&self) -> &[T] {
        &self.members
    }

    pub(super) fn insert(&mut self, member: T) {
        if !self.places.contains_key(&member) {
            self.places.insert(member, self.members.len());
            self.members.push(member);
        }
    }

    /// The last one takes its place.
    pub(super) fn remove(&mut self, member: &T) {
        let Some(place) = self.places.remove(member) else {
            return;
        };
        self.members.swap_remove(place);
        if let Some(moved) = self.members.get(place) {
            self.places.insert(*moved, place);
        }
    }
}

/// Sets by a label: a label is drawn first, each as likely as the others, and then one of its set. None is empty.
#[derive(Debug)]
pub(super) struct Shelf<K, T> {
    labels: RandomSet<K>,
    sets: BTreeMap<K, RandomSet<T>>,
}

impl<K: Copy + Ord + Debug, T: Copy + Ord + Debug> Shelf<K, T> {
    pub(super) fn new() -> Self {
        Self {
            labels: RandomSet::new(),
            sets: BTreeMap::new(),
        }
    }

    pub(super) fn insert(&mut self, label: K, member: T) {
        self.labels.insert(label);
        let set = self.sets.entry(label).or_insert_with(RandomSet::new);
        set.insert(member);
    }

    pub(super) fn remove(&mut self, label: K, member: &T) {
        let Some(set) = self.sets.get_mut(&label) else {
            return;
        };
        set.remove(member);
        if set.members.is_empty() {
            self.sets.remove(&label);
            self.labels.remove(&label);
        }
    }

    pub(super) fn labels(&self) -> &[K] {
        self.labels.members()
    }

    /// One of a random label's.
    pub(super) fn draw(&self, random: &mut Random) -> Option<T> {
        let label = *random.one_of(self.labels())?;
        self.draw_of(label, random)
    }

    /// One of a random label's for which `free` holds; as many more labels are looked at as it does not hold for.
    pub(super) fn draw_free(&self, free: impl Fn(&K) -> bool, random: &mut Random) -> Option<T> {
        let start = random.below(self.labels().len())?;
        let (before, from) = self.labels().split_at_checked(start)?;
        let label = from.iter().chain(before).find(|label| free(label))?;
        self.draw_of(*label, random)
    }

    /// One of this label's.
    pub(super) fn draw_of(&self, label: K, random: &mut Random) -> Option<T> {
        random.one_of(self.sets.get(&label)?.members()).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    proptest! {
        #[test]
        fn a_shelf_holds_what_was_put_there(
            steps in proptest::collection::vec((0u8..4, 0u8..6, any::<bool>()), 1..100),
        ) {
            let (mut shelf, mut all) = (Shelf::new(), BTreeSet::new());
            let mut random = Random::new([7; 16]);
            for (label, member, comes) in steps {
                if comes {
                    shelf.insert(label, member);
                    all.insert((label, member));
                } else {
                    shelf.remove(label, &member);
                    all.remove(&(label, member));
                }
                let labels: BTreeSet<_> = all.iter().map(|(label, _)| *label).collect();
                prop_assert_eq!(shelf.labels().iter().copied().collect::<BTreeSet<_>>(), labels);
                let held = shelf.sets.iter().flat_map(|(label, set)| {
                    set.members().iter().map(|member| (*label, *member))
                });
                prop_assert_eq!(held.collect::<BTreeSet<_>>(), all.clone());
                let drawn = shelf.draw(&mut random);
                prop_assert_eq!(drawn.is_some(), !all.is_empty());
                let of_two = shelf.draw_free(|label| *label == 2, &mut random);
                let right = all.iter().any(|(label, _)| *label == 2);
                prop_assert_eq!(of_two.is_some(), right);
                prop_assert!(of_two.is_none_or(|drawn| all.contains(&(2, drawn))));
            }
        }
    }
}
