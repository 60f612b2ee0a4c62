//! The last so many names, first in, first out.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
};

use crate::keyed::Keyed;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Remembered<T> {
    known: HashSet<T, Keyed>,
    order: VecDeque<T>,
    most: usize,
}

impl<T: Hash + Eq + Clone> Remembered<T> {
    /// At most so many, at least one.
    pub(crate) fn new(most: usize, keyed: Keyed) -> Self {
        Self {
            known: HashSet::with_hasher(keyed),
            order: VecDeque::new(),
            most: most.max(1),
        }
    }

    /// How many are remembered; both halves hold the same.
    pub(crate) fn len(&self) -> usize {
        debug_assert_eq!(self.known.len(), self.order.len());
        self.order.len()
    }

    pub(crate) fn contains(&self, name: &T) -> bool {
        self.known.contains(name)
    }

    /// False where it is remembered already.
    pub(crate) fn insert(&mut self, name: T) -> bool {
        if !self.known.insert(name.clone()) {
            return false;
        }
        self.order.push_back(name);
        if self.order.len() > self.most {
            self.forget_eldest();
        }
        true
    }

    /// Forgets the one whose turn it is.
    pub(crate) fn forget_eldest(&mut self) {
        if let Some(eldest) = self.order.pop_front() {
            self.known.remove(&eldest);
        }
    }

    /// Forgets one before its turn. Takes as long as there are many.
    pub(crate) fn remove(&mut self, name: &T) {
        if self.known.remove(name) {
            self.order.retain(|known| known != name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_last_ones_are_known_and_no_others(names in proptest::collection::vec(0u8..8, 0..40), most in 1usize..6) {
            let mut remembered = Remembered::<u8>::new(most, Keyed::new(&[1; 16]));
            let mut order = Vec::new();
            for name in names {
                let is_new = !order[order.len().saturating_sub(most)..].contains(&name);
                prop_assert_eq!(remembered.insert(name), is_new);
                if is_new {
                    order.push(name);
                }
                for name in 0..8 {
                    prop_assert_eq!(remembered.contains(&name), order[order.len().saturating_sub(most)..].contains(&name));
                }
            }
        }
    }
}
