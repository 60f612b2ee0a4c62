//! Sorting, with one copy of its code for all that is sorted.
//!
//! std's sorts are made anew for each type and each order, at 4 kB of what a page loads. Here the places are sorted instead, by a comparison that is called through a
//! pointer, and then all move to theirs. It is for lists of which few are sorted or which are short: std's is up to twice as fast.

use std::cmp::Ordering;

/// Sorts what has an order of its own; equal ones stay in theirs.
pub(crate) fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// Sorts by keys; what has equal ones stays in its order.
pub(crate) fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    sort_by(items, |one, other| key(one).cmp(&key(other)));
}

/// Sorts by an order; what is equal by it stays in its own.
pub(crate) fn sort_by<T>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering) {
    if items.len() > 1 {
        let places = sorted(items.len(), &|one, other| order(&items[one], &items[other]));
        arrange(items, places);
    }
}

/// Which of so many comes first, which second, and so on.
fn sorted(count: usize, order: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by(|one, other| order(*one, *other));
    places
}

/// Moves to each place what belongs there: `from[place]` is where that is.
fn arrange<T>(items: &mut [T], mut from: Vec<usize>) {
    for start in 0..from.len() {
        // A circle, at whose end is what stood at its beginning.
        let mut place = start;
        loop {
            let next = std::mem::replace(&mut from[place], place);
            if next == start {
                break;
            }
            items.swap(place, next);
            place = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    proptest! {
        #[test]
        fn it_sorts_as_std_does(items: Vec<(u8, u64)>) {
            let (mut all, mut by_key) = (items.clone(), items.clone());
            sort(&mut all);
            sort_by_key(&mut by_key, |(key, _)| *key);
            let (mut expected, mut expected_by_key) = (items.clone(), items);
            expected.sort();
            expected_by_key.sort_by_key(|(key, _)| *key);
            prop_assert_eq!((all, by_key), (expected, expected_by_key));
        }
    }
}
